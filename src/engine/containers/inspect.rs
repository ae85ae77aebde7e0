//! `rl inspect` of a container, in Docker's shape: what is known of it, and nothing else.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::row::state;
use crate::cgroup::PIDS;
use crate::engine::limits::blkio_weight;
use crate::engine::ports::{each, unpublished};
use crate::model::spec::{
    CgroupMode, Confinement, ContainerSpec, FOREVER, Health, LogDriver, MountSource, NetworkMode,
    Resources, RestartPolicy, RootfsSource, SeccompChoice,
};
use crate::model::time::to_rfc3339;
use crate::monitor::log;
use crate::net::{self, Publish, anywhere};
use crate::security::caps::CapSet;
use crate::state::{Container, Networks, Status};

/// The fields, named as Docker names them. `networks` are those with a name.
pub fn inspect(container: &Container, networks: &Networks) -> Value {
    let spec = &container.spec;
    let file = |name: &str| container.dir().join(name).to_string_lossy().into_owned();
    let shown =
        |name: &str, unwanted: bool| Some(name).filter(|_| !unwanted).map_or(String::new(), file);
    let network = crate::engine::networks::of_container(networks, container);
    let log_path = match (spec.log.driver, log::files(container.dir()).last()) {
        (LogDriver::JsonFile, Some(number)) => log::path(container.dir(), *number)
            .to_string_lossy()
            .into_owned(),
        _ => String::new(),
    };
    let driver = match spec.rootfs {
        RootfsSource::Layers { .. } => "overlay",
        RootfsSource::Directory(_) => "directory",
        RootfsSource::Host => "host",
    };
    json!({
        "Id": spec.id,
        "Created": time(Some(spec.created)),
        "Path": spec.args.first(),
        "Args": spec.args.get(1..).unwrap_or_default(),
        "State": state_of(container),
        "Image": spec.image_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        "ResolvConfPath": file("resolv.conf"),
        "HostnamePath": shown("hostname", spec.no_hostname),
        "HostsPath": shown("hosts", spec.no_hosts),
        "LogPath": log_path,
        "Name": format!("/{}", spec.name),
        "PidFile": spec.pidfile.as_ref().map(|path| path.to_string_lossy()).unwrap_or_default(),
        "RestartCount": container.state.restarts,
        "HostConfig": host_config(spec),
        "Driver": driver,
        "Platform": "linux",
        "GraphDriver": {
            "Name": driver,
            "Data": { "UpperDir": file("upper"), "WorkDir": file("work") },
        },
        "Mounts": spec.mounts.iter().map(mount).collect::<Vec<_>>(),
        "Config": {
            "Hostname": spec.hostname,
            "User": spec.user,
            "MacAddress": spec.network.request.mac_told().unwrap_or_default(),
            "Umask": format!("{:04o}", spec.umask),
            "Tty": spec.tty,
            "OpenStdin": spec.open_stdin,
            "ExposedPorts": each(&spec.exposed).map(|port| (port, json!({}))).collect::<Map<_, _>>(),
            "Env": spec.env,
            "Cmd": spec.args,
            "Image": spec.image,
            "WorkingDir": spec.cwd,
            "Labels": spec.labels,
            "StopSignal": stop_signal(spec.stop_signal),
            "StopTimeout": match spec.stop_timeout {
                FOREVER => -1,
                seconds => i64::from(seconds),
            },
            "Timeout": spec.timeout,
            "HealthcheckOnFailureAction": spec.health.as_ref().map(|health| health.on_failure.word()),
            "Healthcheck": spec.health.as_ref().map(health_check),
        },
        "NetworkSettings": network_settings(container, network),
    })
}

/// The fields above `Networks` are those of its only network, as for podman. Where none has a name, what is known is known
/// of slirp4netns and passt, which give each container the same; with pasta it is an address of the machine.
fn network_settings(container: &Container, named: Option<(String, Value)>) -> Value {
    let spec = &container.spec;
    let none = json!({ "IPAddress": "", "IPPrefixLen": 0, "Gateway": "", "MacAddress": "" });
    let alive = container.state.is_alive();
    let mut out = match (&named, net::same_for_all(spec.network.mode)) {
        (Some((_, of)), _) => {
            let field = |name: &&str| ((*name).to_owned(), of[*name].clone());
            let names = ["IPAddress", "IPPrefixLen", "Gateway", "MacAddress"];
            Value::Object(names.iter().map(field).collect())
        }
        (None, Some((address, prefix, gateway))) if alive => json!({
            "IPAddress": address.to_string(),
            "IPPrefixLen": prefix,
            "Gateway": gateway.to_string(),
            "MacAddress": "",
        }),
        _ => none,
    };
    if named.is_none() && alive {
        out["MacAddress"] = json!(spec.network.request.mac_told().unwrap_or_default());
    }
    let bound = published(&spec.network.publish, spec.network.mode).into_iter();
    out["Ports"] = ports(bound.map(|(inside, ip, port)| (inside, ip.to_string(), port)));
    // As docker has those that are not published.
    for port in each(&unpublished(&spec.exposed, &spec.network.publish)) {
        out["Ports"][port] = Value::Null;
    }
    out["Networks"] = Value::Object(named.into_iter().collect());
    out
}

/// Docker's word for a point in time that has not come is the year 1.
fn time(seconds: Option<u64>) -> String {
    match seconds {
        Some(seconds) => to_rfc3339(i64::try_from(seconds).unwrap_or(i64::MAX)),
        None => "0001-01-01T00:00:00Z".into(),
    }
}

fn state_of(container: &Container) -> Value {
    let state = &container.state;
    let is = |status| state.status == status;
    let mut out = json!({
        "Status": self::state(state.status),
        "Running": is(Status::Running) || is(Status::Paused) || is(Status::Restarting),
        "Paused": is(Status::Paused),
        "Restarting": is(Status::Restarting),
        "Dead": false,
        "Pid": state.pid.unwrap_or(0),
        "ExitCode": state.ended.map_or(0, |ended| ended.status()),
        "OOMKilled": state.oom_killed,
        "CgroupPath": state.group,
        "Error": state.error.clone().unwrap_or_default(),
        "StartedAt": time(state.started),
        "FinishedAt": time(state.finished),
    });
    if let Some(health) = &state.health {
        let checks = health.checks.iter().map(|check| {
            json!({
                "Start": check.start,
                "End": check.end,
                "ExitCode": check.status,
                "Output": check.output,
            })
        });
        out["Health"] = json!({
            "Status": health.verdict.word(),
            "FailingStreak": health.failing,
            "Log": checks.collect::<Vec<_>>(),
        });
    }
    out
}

fn host_config(spec: &ContainerSpec) -> Value {
    let (policy, times) = match spec.restart {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::OnFailure(times) => ("on-failure", times),
        RestartPolicy::Always => ("always", 0),
        RestartPolicy::UnlessStopped => ("unless-stopped", 0),
    };
    let binds = spec.mounts.iter().filter_map(|mount| {
        let source = match &mount.source {
            MountSource::Bind { path, .. } => path.to_string_lossy().into_owned(),
            MountSource::Volume { name, .. } => name.clone(),
            _ => return None,
        };
        let mode = if mount.read_only { "ro" } else { "rw" };
        Some(format!("{source}:{}:{mode}", mount.target))
    });
    let mut log_options = spec.log.options.clone();
    log_options.insert("max-size".into(), spec.log.max_size.to_string());
    log_options.insert("max-file".into(), spec.log.max_files.to_string());
    let ip = |ip: Option<IpAddr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
    let bindings = self::bindings(&spec.network.publish).into_iter();
    let bindings = bindings.map(|(inside, address, port)| (inside, ip(address), port));
    let driver = match spec.log.driver {
        LogDriver::JsonFile => "json-file",
        LogDriver::Journald => "journald",
        LogDriver::None => "none",
        LogDriver::Passthrough => "passthrough",
    };
    let held = CapSet::from_bits(spec.capabilities);
    let ulimits = spec.ulimits.iter().map(|limit| {
        // Docker's word for no limit.
        let number = |value| i64::try_from(value).unwrap_or(-1);
        json!({ "Name": limit.name, "Soft": number(limit.soft), "Hard": number(limit.hard) })
    });
    let devices = spec.devices.iter().map(|device| {
        json!({
            "PathOnHost": device.host.to_string_lossy(),
            "PathInContainer": device.container,
            "CgroupPermissions": if device.read_only { "r" } else { "rwm" },
        })
    });
    let tmpfs = spec.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Tmpfs { options } => Some((mount.target.clone(), json!(options))),
        _ => None,
    });
    let mut out = json!({
        "Binds": binds.collect::<Vec<_>>(),
        "VolumesFrom": spec.volumes_from,
        "NetworkMode": super::row::network(spec.network.mode, &spec.network.request.mode),
        "PortBindings": ports(bindings),
        "PublishAllPorts": spec.network.request.publish_all,
        "RestartPolicy": { "Name": policy, "MaximumRetryCount": times },
        "AutoRemove": spec.remove,
        "LogConfig": { "Type": driver, "Config": log_options },
        "ReadonlyRootfs": spec.read_only,
        "ShmSize": spec.shm_size,
        "Sysctls": spec.sysctls,
        "Init": spec.init,
        "CapAdd": capabilities(held.without(CapSet::DEFAULT).union(CapSet::from_bits(spec.ambient))),
        "CapDrop": capabilities(CapSet::DEFAULT.without(held)),
        "Privileged": false,
        "SecurityOpt": security(&spec.confinement),
        "Ulimits": ulimits.collect::<Vec<_>>(),
        "Devices": devices.collect::<Vec<_>>(),
        "Tmpfs": tmpfs.collect::<Map<_, _>>(),
        "Dns": spec.network.request.dns,
        "DnsOptions": spec.network.request.dns_option,
        "DnsSearch": spec.network.request.dns_search,
        "ExtraHosts": spec.network.request.add_host,
        "PidMode": if spec.share.pid { "host" } else { "private" },
        "IpcMode": if spec.share.ipc { "host" } else { "private" },
        "UTSMode": if spec.share.uts { "host" } else { "private" },
        "GroupAdd": spec.groups,
        "Annotations": spec.annotations,
        "MaskedPaths": spec.confinement.masked,
        "ReadonlyPaths": spec.confinement.read_only,
    });
    if let (Value::Object(out), Value::Object(limits)) = (&mut out, limits(&spec.resources)) {
        out.extend(limits);
    }
    out
}

/// Docker's `Healthcheck`: times are in nanoseconds.
fn health_check(health: &Health) -> Value {
    let nanoseconds = |milliseconds: u64| milliseconds.saturating_mul(1_000_000);
    let test = std::iter::once("CMD").chain(health.args.iter().map(String::as_str));
    json!({
        "Test": test.collect::<Vec<_>>(),
        "Interval": nanoseconds(health.interval),
        "Timeout": nanoseconds(health.timeout),
        "StartPeriod": nanoseconds(health.start_period),
        "StartInterval": nanoseconds(health.start_interval.unwrap_or(0)),
        "Retries": health.retries,
    })
}

fn capabilities(set: CapSet) -> Vec<String> {
    set.iter().map(|cap| cap.to_string()).collect()
}

/// What differs from what is customary, as `--security-opt` takes it.
fn security(confinement: &Confinement) -> Vec<String> {
    let seccomp = match &confinement.seccomp {
        SeccompChoice::Default => None,
        SeccompChoice::Unconfined => Some("seccomp=unconfined".to_owned()),
        SeccompChoice::File(path) => Some(format!("seccomp={}", path.display())),
    };
    let privileges = (!confinement.no_new_privs).then(|| "no-new-privileges=false".to_owned());
    privileges.into_iter().chain(seccomp).collect()
}

/// Docker's fields, where 0 and an empty text are for no limit; those of version 2 that it has no field for
/// (`CpuWeight`, of which `--cpu-shares` makes one) are called as the options are.
fn limits(resources: &Resources) -> Value {
    let most = |value: Option<i64>| value.unwrap_or(0).max(-1);
    let (quota, period) = resources.cpu.unwrap_or((0, 0));
    let disks = |key: &str| {
        let of = resources.io_max.iter().filter(|io| io.key == key);
        let all = of.map(|io| json!({ "Path": io.device, "Rate": io.value }));
        all.collect::<Vec<_>>()
    };
    let pages = resources.hugetlb.iter();
    let pages = pages.map(|(size, limit)| json!({ "PageSize": size, "Limit": limit }));
    json!({
        "Memory": most(resources.memory),
        "MemoryReservation": most(resources.memory_reservation),
        // As much again as swap, where nothing else was said.
        "MemorySwap": most(resources.memory_swap.or(resources.memory.map(|bytes| bytes.saturating_mul(2)))),
        // As podman has it, beside the two that it comes of.
        "NanoCpus": quota.max(0) as u64 * 1_000_000_000 / period.max(1),
        "CpuQuota": quota,
        "CpuPeriod": period,
        "CpuWeight": resources.cpu_weight.unwrap_or(0),
        "CpusetCpus": resources.cpuset_cpus.as_deref().unwrap_or_default(),
        "CpusetMems": resources.cpuset_mems.as_deref().unwrap_or_default(),
        "PidsLimit": resources.pids.unwrap_or(PIDS as i64),
        "BlkioWeight": resources.io_weight.map_or(0, blkio_weight),
        "BlkioDeviceReadBps": disks("rbps"),
        "BlkioDeviceWriteBps": disks("wbps"),
        "BlkioDeviceReadIOps": disks("riops"),
        "BlkioDeviceWriteIOps": disks("wiops"),
        "HugepageLimits": pages.collect::<Vec<_>>(),
        "OomScoreAdj": resources.oom_score_adj.unwrap_or(0),
        "CgroupConf": resources.conf,
        "CgroupParent": resources.parent.as_deref().unwrap_or_default(),
        "Cgroups": match resources.mode {
            CgroupMode::Enabled => "enabled",
            CgroupMode::Disabled => "disabled",
            CgroupMode::Split => "split",
        },
    })
}

fn mount(mount: &crate::model::spec::VolumeMount) -> Value {
    let (kind, name, source) = match &mount.source {
        MountSource::Bind { path, .. } => ("bind", None, path.to_string_lossy()),
        MountSource::Volume { name, path, .. } => ("volume", Some(name), path.to_string_lossy()),
        MountSource::Overlay { path } => ("overlay", None, path.to_string_lossy()),
        MountSource::Tmpfs { .. } => ("tmpfs", None, "".into()),
    };
    let propagation = mount.options.iter().rev().find(|option| {
        let word = option.strip_prefix('r').unwrap_or(option);
        ["private", "slave", "shared", "unbindable"].contains(&word)
    });
    let propagation = propagation.map_or("rprivate", String::as_str);
    // A template that goes through all mounts names these of each; docker has them empty where there is none.
    json!({
        "Type": kind,
        "Name": name.map_or("", |name| name),
        "Driver": if name.is_some() { "local" } else { "" },
        "Source": source,
        "Destination": mount.target,
        "RW": !mount.read_only,
        "Mode": mount.options.join(","),
        "Propagation": propagation,
    })
}

/// Every published port: inside (`80/tcp`), address of the machine where one is named, port of the machine.
fn bindings(publish: &[String]) -> Vec<(String, Option<IpAddr>, u16)> {
    let mut out = Vec::new();
    for text in publish {
        let publish = text.parse::<Publish>().ok();
        let Some((publish, host)) = publish.and_then(|p| Some((p, p.host?))) else {
            continue;
        };
        for n in 0..publish.container.count {
            let inside = format!("{}/{}", publish.container.first + n, publish.proto);
            out.push((inside, publish.host_ip, host.first + n));
        }
    }
    out
}

/// The same; where no address is named, with each that is bound.
pub fn published(publish: &[String], mode: NetworkMode) -> Vec<(String, IpAddr, u16)> {
    let everywhere = anywhere(mode);
    let bindings = bindings(publish).into_iter();
    let bound = bindings.flat_map(|(inside, ip, port)| {
        let all = ip.map_or_else(|| everywhere.to_vec(), |ip| vec![ip]);
        let bound = all.into_iter().map(move |ip| (inside.clone(), ip, port));
        bound.collect::<Vec<_>>()
    });
    bound.collect()
}

/// Ports by what they are inside.
fn ports(all: impl IntoIterator<Item = (String, String, u16)>) -> Value {
    let mut out = serde_json::Map::new();
    for (inside, ip, port) in all {
        let place = json!({ "HostIp": ip, "HostPort": port.to_string() });
        if let Value::Array(list) = out.entry(inside).or_insert_with(|| json!([])) {
            list.push(place);
        }
    }
    Value::Object(out)
}

fn stop_signal(number: i32) -> String {
    let name = nix::sys::signal::Signal::try_from(number);
    name.map_or_else(|_| number.to_string(), |signal| signal.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_in_billionths() {
        let nano = |cpu| {
            let resources = Resources {
                cpu,
                ..Resources::default()
            };
            limits(&resources)["NanoCpus"].clone()
        };
        assert_eq!(nano(Some((150_000, 100_000))), 1_500_000_000_u64);
        assert_eq!(nano(Some((-1, 100_000))), 0);
        assert_eq!(nano(None), 0);
    }
}
