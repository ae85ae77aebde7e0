//! `.container` files: each key is an option of `rl run`.

use std::path::Path;

use super::names::{Known, Made};
use super::parse::{Entry, Unit};
use super::service::{self, Frame};
use super::{Error, Host, words};

const SECTION: &str = "Container";

/// How the value of a key becomes options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// The last value counts.
    Last,
    /// Each value is an option.
    Each,
    /// Each word of each value is an option.
    Words,
    /// An option without a value where it is true.
    Yes,
    /// `true` or `false`.
    Truth,
    /// A path where it begins with `.`; beside the file.
    Beside,
}
use Form::{Beside, Each, Last, Truth, Words, Yes};

/// Key, option of `rl run`, what stands before the value, form.
type Row = (&'static str, &'static str, &'static str, Form);

/// In the order in which the options are written (podman-systemd.unit(5), "Container units").
const OPTIONS: &[Row] = &[
    ("HostName", "--hostname", "", Last),
    ("User", "--user", "", Last),
    ("GroupAdd", "--group-add", "", Each),
    ("WorkingDir", "--workdir", "", Last),
    ("Entrypoint", "--entrypoint", "", Last),
    ("Environment", "--env", "", Words),
    ("EnvironmentFile", "--env-file", "", Beside),
    ("HttpProxy", "--http-proxy", "", Truth),
    ("Label", "--label", "", Words),
    ("Annotation", "--annotation", "", Words),
    ("Pull", "--pull", "", Last),
    ("Network", "--network", "", Last),
    ("NetworkAlias", "--network-alias", "", Each),
    ("IP", "--ip", "", Last),
    ("PublishPort", "--publish", "", Each),
    ("ExposeHostPort", "--expose", "", Each),
    ("DNS", "--dns", "", Each),
    ("DNSSearch", "--dns-search", "", Each),
    ("DNSOption", "--dns-option", "", Each),
    ("AddHost", "--add-host", "", Each),
    ("Volume", "--volume", "", Each),
    ("Mount", "--mount", "", Each),
    ("Tmpfs", "--tmpfs", "", Each),
    ("AddDevice", "--device", "", Each),
    ("ReadOnly", "--read-only", "", Yes),
    ("ReadOnlyTmpfs", "--read-only-tmpfs", "", Truth),
    ("UserNS", "--userns", "", Last),
    ("UIDMap", "--uidmap", "", Each),
    ("GIDMap", "--gidmap", "", Each),
    ("AddCapability", "--cap-add", "", Words),
    ("DropCapability", "--cap-drop", "", Words),
    (
        "NoNewPrivileges",
        "--security-opt",
        "no-new-privileges=",
        Truth,
    ),
    ("SeccompProfile", "--security-opt", "seccomp=", Last),
    ("Mask", "--security-opt", "mask=", Each),
    ("Unmask", "--security-opt", "unmask=", Each),
    ("Sysctl", "--sysctl", "", Words),
    ("Ulimit", "--ulimit", "", Each),
    ("ShmSize", "--shm-size", "", Last),
    ("RunInit", "--init", "", Yes),
    ("StopSignal", "--stop-signal", "", Last),
    ("StopTimeout", "--stop-timeout", "", Last),
    ("Timezone", "--tz", "", Last),
    ("LogDriver", "--log-driver", "", Last),
    ("LogOpt", "--log-opt", "", Each),
    ("HealthCmd", "--health-cmd", "", Last),
    ("HealthInterval", "--health-interval", "", Last),
    ("HealthTimeout", "--health-timeout", "", Last),
    ("HealthStartPeriod", "--health-start-period", "", Last),
    ("HealthRetries", "--health-retries", "", Last),
    ("HealthOnFailure", "--health-on-failure", "", Last),
];

/// Keys that become something else than one option.
const OTHERS: &[&str] = &[
    "CgroupsMode",
    "ContainerName",
    "Exec",
    "Group",
    "Image",
    "Memory",
    "PidsLimit",
    "PodmanArgs",
    "ReloadCmd",
    "ReloadSignal",
    "RlArgs",
    "Rootfs",
    "ServiceName",
];

/// Keys of podman's with the one value that says what is the case here anyway.
const ANYWAY: &[(&str, bool)] = &[
    ("EnvironmentHost", false),
    ("Notify", false),
    ("SecurityLabelDisable", true),
    ("SecurityLabelNested", false),
];

/// Keys of podman's for which there is nothing here.
const NOT_YET: &[&str] = &[
    "AppArmor",
    "AutoUpdate",
    "ContainersConfModule",
    "GlobalArgs",
    "HealthLogDestination",
    "HealthMaxLogCount",
    "HealthMaxLogSize",
    "HealthStartupCmd",
    "HealthStartupInterval",
    "HealthStartupRetries",
    "HealthStartupSuccess",
    "HealthStartupTimeout",
    "IP6",
    "ImageVolume",
    "Pod",
    "RemapGid",
    "RemapUid",
    "RemapUidSize",
    "RemapUsers",
    "Retry",
    "RetryDelay",
    "Secret",
    "SecurityLabelFileType",
    "SecurityLabelLevel",
    "SecurityLabelType",
    "StartWithPod",
    "SubGIDMap",
    "SubUIDMap",
    "VolatileTmp",
];

fn is_known(key: &str) -> bool {
    OPTIONS.iter().any(|(name, ..)| *name == key)
        || OTHERS.contains(&key)
        || ANYWAY.iter().any(|(name, _)| *name == key)
}

/// Keys of `[Container]`, in the order of the alphabet.
pub fn keys() -> Vec<&'static str> {
    let options = OPTIONS.iter().map(|(key, ..)| *key);
    let anyway = ANYWAY.iter().map(|(key, _)| *key);
    let mut all: Vec<_> = options
        .chain(OTHERS.iter().copied())
        .chain(anyway)
        .collect();
    all.sort_unstable();
    all
}

/// The options of `rl run` that keys become, each once; for a test that they are there.
pub fn options() -> Vec<&'static str> {
    let mut all: Vec<_> = OPTIONS.iter().map(|(_, option, ..)| *option).collect();
    all.extend(["--rm", "--replace", "--name", "--rootfs"]);
    all.sort_unstable();
    all.dedup();
    all
}

/// The text of the service.
///
/// # Errors
/// A key or a value.
pub fn text(unit: &Unit, made: &Made, known: &Known, host: &Host<'_>) -> Result<String, Error> {
    let Run {
        words,
        needs,
        limits,
    } = run(unit, made, known, host)?;
    let name = words::quote(&made.object);
    let mut start = service::rl(host, &[]);
    start.extend(words.iter().map(|word| words::quote(word)));
    let mut stop = service::rl(host, &["stop", "--ignore"]);
    stop.push(name.clone());
    let mut remove = service::rl(host, &["rm", "--force", "--ignore", "--volumes"]);
    remove.push(name.clone());
    let mut service = vec![
        ("Type", "notify".into()),
        ("TimeoutStartSec", "infinity".into()),
        ("KillMode", "mixed".into()),
        ("Delegate", "yes".into()),
        ("SyslogIdentifier", "%N".into()),
        ("SuccessExitStatus", success(unit)?),
    ];
    if let Some(entry) = unit.last(SECTION, "StopTimeout") {
        let seconds: i64 = entry
            .value
            .parse()
            .map_err(|_| entry.refuse("a number of seconds"))?;
        // systemd shall not lose patience first (DefaultTimeoutStopSec= is 90 s); the user's own value comes behind.
        match seconds {
            ..0 => service.push(("TimeoutStopSec", "infinity".into())),
            61.. => service.push(("TimeoutStopSec", seconds.saturating_add(30).to_string())),
            _ => {}
        }
    }
    service.extend(limits);
    service.push(("ExecStart", words::line(start)));
    service.extend(reload(unit, &name, host)?);
    service.push(("ExecStop", words::line(stop)));
    service.push(("ExecStopPost", format!("-{}", words::line(remove))));
    let frame = Frame {
        unit,
        needs,
        service,
    };
    frame.text(known, host)
}

/// The exit statuses that stopping leads to.
fn success(unit: &Unit) -> Result<String, Error> {
    let mut all = service::TERMINATED.to_string();
    if let Some(entry) = unit.last(SECTION, "StopSignal") {
        let number = signal(&entry.value).ok_or_else(|| entry.refuse("no such signal"))?;
        if 128 + number != service::TERMINATED {
            all.push_str(&format!(" {}", 128 + number));
        }
    }
    Ok(all)
}

/// The number of a signal: `TERM`, `SIGTERM` or `15`.
fn signal(word: &str) -> Option<i32> {
    if let Ok(number) = word.parse() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = word.to_ascii_uppercase();
    let name = format!("SIG{}", name.strip_prefix("SIG").unwrap_or(&name));
    let found: nix::sys::signal::Signal = name.parse().ok()?;
    Some(found as i32)
}

/// `ReloadCmd=` and `ReloadSignal=`.
fn reload(
    unit: &Unit,
    name: &str,
    host: &Host<'_>,
) -> Result<Option<(&'static str, String)>, Error> {
    let command = unit.last(SECTION, "ReloadCmd");
    let mut line = match (command, unit.last(SECTION, "ReloadSignal")) {
        (None, None) => return Ok(None),
        (Some(_), Some(entry)) => return Err(entry.refuse("`ReloadCmd=` is there already")),
        (None, Some(entry)) => {
            let signal = words::quote(&format!("--signal={}", entry.value));
            service::rl(host, &["kill", &signal])
        }
        (Some(_), None) => service::rl(host, &["exec"]),
    };
    line.push(name.to_owned());
    if let Some(entry) = command {
        line.extend(entry.words()?.iter().map(|word| words::quote(word)));
    }
    Ok(Some(("ExecReload", words::line(line))))
}

/// The words behind `rl`, with specifiers and variables still in them.
struct Run {
    words: Vec<String>,
    /// Services that have to be there before.
    needs: Vec<String>,
    /// Limits of the service, in which the container is.
    limits: Vec<(&'static str, String)>,
}

fn run(unit: &Unit, made: &Made, known: &Known, host: &Host<'_>) -> Result<Run, Error> {
    service::check(unit, "container", &is_known, NOT_YET)?;
    for (key, value) in ANYWAY {
        if let Some(entry) = unit.last(SECTION, key)
            && entry.truth()? != *value
        {
            return Err(entry.refuse(format!("not there yet; `{value}` is the case")));
        }
    }
    let beside = Directory(unit.path.parent().unwrap_or(Path::new("/")));
    let mut run = Run {
        words: ["run", "--rm", "--replace"].map(str::to_owned).to_vec(),
        needs: Vec::new(),
        limits: Vec::new(),
    };
    run.words.push(format!("--name={}", made.object));
    group(unit, &mut run)?;
    if let Some(group) = unit.last(SECTION, "Group")
        && unit.last(SECTION, "User").is_none()
    {
        return Err(group.refuse("`Group=` needs `User=`"));
    }
    for (key, option, before, form) in OPTIONS {
        for entry in entries(unit, key, *form)? {
            for value in values(unit, entry, *form, (&beside, known, host), &mut run.needs)? {
                run.words.push(match form {
                    Yes => (*option).to_owned(),
                    _ => format!("{option}={before}{value}"),
                });
            }
        }
    }
    for key in ["PodmanArgs", "RlArgs"] {
        for entry in unit.all(SECTION, key) {
            run.words.extend(entry.words()?);
        }
    }
    positional(unit, &mut run.words)?;
    Ok(run)
}

/// The container's control group is below the service's, so that systemd's limits and accounts are its as well, and
/// with `rl` in that group, limits can be the service's only. An own group is for who asks for it.
fn group(unit: &Unit, run: &mut Run) -> Result<(), Error> {
    let mode = unit.last(SECTION, "CgroupsMode");
    let given = unit.all(SECTION, "PodmanArgs").into_iter();
    let given = given.chain(unit.all(SECTION, "RlArgs"));
    let words: Vec<Vec<String>> = given.map(Entry::words).collect::<Result<_, _>>()?;
    let own = service::wants_own_group(words.iter().flatten());
    let split = match mode {
        Some(entry) => entry.value == "split",
        None => !own,
    };
    match mode {
        Some(entry) => run.words.push(format!("--cgroups={}", entry.value)),
        None if split => run.words.push(service::SPLIT.to_owned()),
        None => {}
    }
    for (key, option, limit) in [
        ("Memory", "--memory", "MemoryMax"),
        ("PidsLimit", "--pids-limit", "TasksMax"),
    ] {
        let Some(entry) = unit.last(SECTION, key) else {
            continue;
        };
        match split {
            true => run.limits.push((limit, limit_of(entry)?)),
            false => run.words.push(format!("{option}={}", entry.value)),
        }
    }
    Ok(())
}

/// A number with a unit, as systemd writes it (systemd.resource-control(5)).
fn limit_of(entry: &Entry) -> Result<String, Error> {
    let value = entry.value.to_ascii_uppercase();
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &value[digits.len()..];
    let known = match entry.key.as_str() {
        "Memory" => ["", "B", "K", "M", "G", "T"].contains(&unit),
        _ => unit.is_empty(),
    };
    let number: i64 =
        digits.parse().ok().filter(|_| known).ok_or_else(|| {
            entry.refuse("a number, that of bytes with a unit such as `m` or `g`")
        })?;
    Ok(match number {
        ..=0 => "infinity".to_owned(),
        _ => format!("{number}{}", unit.trim_start_matches('B')),
    })
}

fn entries<'a>(unit: &'a Unit, key: &str, form: Form) -> Result<Vec<&'a Entry>, Error> {
    let all = unit.all(SECTION, key);
    // One is all that there can be: `--network` of podman can be said several times.
    if key == "Network" && all.len() > 1 {
        return Err(all[1].refuse("one network at a time"));
    }
    Ok(match form {
        Last | Yes | Truth => all.into_iter().next_back().into_iter().collect(),
        Each | Words | Beside => all,
    })
}

/// Where, who else, and what there is.
type Around<'a> = (&'a Directory<'a>, &'a Known, &'a Host<'a>);

/// The values of the options that an assignment becomes.
fn values(
    unit: &Unit,
    entry: &Entry,
    form: Form,
    (beside, known, host): Around<'_>,
    needs: &mut Vec<String>,
) -> Result<Vec<String>, Error> {
    let value = entry.value.as_str();
    Ok(match (entry.key.as_str(), form) {
        (_, Words) => entry.words()?,
        (_, Yes) => Vec::from_iter(entry.truth()?.then(String::new)),
        (_, Truth) => vec![entry.truth()?.to_string()],
        (_, Beside) => vec![beside.any(value)],
        ("User", _) => match unit.last(SECTION, "Group") {
            Some(group) => vec![format!("{value}:{}", group.value)],
            None => vec![value.to_owned()],
        },
        ("Network", _) => vec![network(entry, known, needs)?],
        ("Volume", _) => {
            let Some((source, rest)) = value.split_once(':') else {
                return Ok(vec![value.to_owned()]);
            };
            let source = source_of(entry, source, (beside, known), needs)?;
            vec![format!("{source}:{rest}")]
        }
        ("Mount", _) => vec![mount(entry, (beside, known), needs)?],
        ("AddDevice", _) => match value.strip_prefix('-') {
            Some(device) => {
                let path = device.split(':').next().unwrap_or(device);
                let there = (host.exists)(Path::new(path));
                Vec::from_iter(there.then(|| device.to_owned()))
            }
            None => vec![value.to_owned()],
        },
        _ => vec![value.to_owned()],
    })
}

/// A network: another file's, or what it says.
fn network(entry: &Entry, known: &Known, needs: &mut Vec<String>) -> Result<String, Error> {
    let (name, behind) = match entry.value.split_once(':') {
        Some((name, behind)) => (name, Some(behind)),
        None => (entry.value.as_str(), None),
    };
    if name.ends_with(".network") {
        if behind.is_some() {
            return Err(
                entry.refuse("options behind `:` are not there yet; `IP=` and `NetworkAlias=` are")
            );
        }
        let made = known.find(name, entry)?;
        needs.push(made.service);
        return Ok(made.object);
    }
    if name.ends_with(".container") {
        return Err(entry.refuse("the network of another container is not there yet"));
    }
    Ok(entry.value.clone())
}

/// The source of a volume: another file's, a path beside the file, or what it says.
fn source_of(
    entry: &Entry,
    source: &str,
    (beside, known): (&Directory<'_>, &Known),
    needs: &mut Vec<String>,
) -> Result<String, Error> {
    if source.ends_with(".volume") && !source.contains('/') {
        let made = known.find(source, entry)?;
        needs.push(made.service);
        return Ok(made.object);
    }
    Ok(match source.starts_with('.') {
        true => beside.any(source),
        false => source.to_owned(),
    })
}

fn mount(
    entry: &Entry,
    around: (&Directory<'_>, &Known),
    needs: &mut Vec<String>,
) -> Result<String, Error> {
    let fields = entry
        .value
        .split(',')
        .map(|field| match field.split_once('=') {
            Some((key @ ("source" | "src"), source)) => {
                if source.ends_with(".image") {
                    return Err(entry.refuse("`.image` files are not there yet"));
                }
                let source = source_of(entry, source, around, needs)?;
                Ok(format!("{key}={source}"))
            }
            _ => Ok(field.to_owned()),
        });
    Ok(fields.collect::<Result<Vec<_>, _>>()?.join(","))
}

/// Image or root file system, and the command.
fn positional(unit: &Unit, words: &mut Vec<String>) -> Result<(), Error> {
    let image = unit.last(SECTION, "Image");
    let mut last = Vec::new();
    match (image, unit.last(SECTION, "Rootfs")) {
        (Some(_), Some(rootfs)) => return Err(rootfs.refuse("`Image=` is there already")),
        (Some(image), None) => {
            if image.value.ends_with(".image") || image.value.ends_with(".build") {
                return Err(image.refuse("`.image` and `.build` files are not there yet"));
            }
            last.push(image.value.clone());
        }
        (None, Some(rootfs)) => words.push(format!("--rootfs={}", rootfs.value)),
        (None, None) => {
            return Err(Error::Missing {
                file: unit.path.clone(),
                key: "Image",
                section: SECTION,
            });
        }
    }
    if let Some(exec) = unit.last(SECTION, "Exec") {
        last.extend(exec.words()?);
    }
    // A command may look like an option, which in this place it is not.
    if last.first().is_some_and(|word| word.starts_with('-')) {
        words.push("--".to_owned());
    }
    words.extend(last);
    Ok(())
}

/// The directory of the file, for paths that are relative to it.
struct Directory<'a>(&'a Path);

impl Directory<'_> {
    /// Absolute paths and those that begin with a specifier stay.
    fn any(&self, path: &str) -> String {
        if path.starts_with(['/', '%', '~']) {
            return path.to_owned();
        }
        let mut rest = path;
        while let Some(shorter) = rest.strip_prefix("./") {
            rest = shorter;
        }
        let directory = words::plain(&self.0.to_string_lossy());
        match rest {
            "" | "." => directory,
            _ => format!("{}/{rest}", directory.trim_end_matches('/')),
        }
    }
}

#[cfg(test)]
mod tests;
