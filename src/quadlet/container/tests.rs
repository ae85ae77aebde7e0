use super::*;
use crate::quadlet::names::Name;

fn host<'a>() -> Host<'a> {
    Host {
        program: Path::new("/usr/bin/rl"),
        data_home: None,
        exists: &|path| path == Path::new("/dev/null"),
    }
}

/// What a file named `web.container` makes, beside a `data.volume`.
fn make(text: &str) -> Result<String, Error> {
    make_named("web.container", text)
}

fn make_named(file: &str, text: &str) -> Result<String, Error> {
    let name = Name::of(file).unwrap();
    let unit = Unit::parse(&Path::new("/q/50%").join(file), text)?;
    let made = Made::of(&name, &unit)?;
    let mut known = Known::default();
    for (file, service, object) in [
        ("data.volume", "data-volume.service", "systemd-data"),
        ("each@.volume", "each-volume@.service", "systemd-each_%i"),
        ("db.container", "db.service", "systemd-db"),
        ("back.network", "back-network.service", "systemd-back"),
    ] {
        let (service, object) = (service.to_owned(), object.to_owned());
        known.0.insert(file.to_owned(), Made { service, object });
    }
    super::text(&unit, &made, &known, &host())
}

fn value(text: &str, key: &str) -> Vec<String> {
    let unit = Unit::parse(Path::new("/x"), text).unwrap();
    let all = unit.sections.iter().flat_map(|s| &s.entries);
    all.filter(|e| e.key == key)
        .map(|e| e.value.clone())
        .collect()
}

/// The words of `ExecStart=` behind `rl run --rm --replace --name=…`.
fn words_of(container: &str) -> Vec<String> {
    let text = make(&format!("[Container]\n{container}\n")).unwrap_or_else(|e| panic!("{e}"));
    let line = value(&text, "ExecStart");
    let words = words::split(&line[0]).unwrap();
    assert_eq!(
        words[..6],
        [
            "/usr/bin/rl",
            "run",
            "--rm",
            "--replace",
            "--name=systemd-web",
            "--cgroups=split"
        ]
    );
    words[6..].to_vec()
}

fn refused(container: &str) -> String {
    let error = make(&format!("[Container]\nImage=i\n{container}\n")).unwrap_err();
    assert!(error.hint().is_some());
    error.to_string()
}

#[test]
fn a_network_of_another_file_is_required() {
    let text = "[Container]\nImage=i\nNetwork=back.network\nIP=10.89.0.9\nNetworkAlias=a\nNetworkAlias=b\n";
    let text = make(text).unwrap();
    for key in ["Requires", "After"] {
        assert_eq!(value(&text, key), ["back-network.service"], "{key}");
    }
    let options = "--network=systemd-back --network-alias=a --network-alias=b --ip=10.89.0.9 i";
    assert!(value(&text, "ExecStart")[0].ends_with(options), "{text}");
}

#[test]
fn keys_are_options() {
    for (keys, options) in [
        (
            "Exec=sh -c 'echo \"$HOME\" %n'",
            &["i", "sh", "-c", "echo \"$HOME\" %n"][..],
        ),
        (
            "Environment=A=1 \"B=x y\" C='\"'\nEnvironment=D=\\n",
            &["--env=A=1", "--env=B=x y", "--env=C=\"", "--env=D=\n", "i"],
        ),
        (
            "EnvironmentFile=/e\nEnvironmentFile=./a\nEnvironmentFile=b\nEnvironmentFile=%h/c",
            &[
                "--env-file=/e",
                "--env-file=/q/50%%/a",
                "--env-file=/q/50%%/b",
                "--env-file=%h/c",
                "i",
            ],
        ),
        (
            "Volume=/a:/b:ro\nVolume=./c:/d\nVolume=name:/e\nVolume=/own\nVolume=~/f:/g",
            &[
                "--volume=/a:/b:ro",
                "--volume=/q/50%%/c:/d",
                "--volume=name:/e",
                "--volume=/own",
                "--volume=~/f:/g",
                "i",
            ],
        ),
        (
            "Mount=type=bind,source=./a,target=/b\nMount=type=volume,src=data.volume,dst=/c",
            &[
                "--mount=type=bind,source=/q/50%%/a,target=/b",
                "--mount=type=volume,src=systemd-data,dst=/c",
                "i",
            ],
        ),
        (
            "User=1\nGroup=2\nGroupAdd=video",
            &["--user=1:2", "--group-add=video", "i"],
        ),
        (
            "AddCapability=NET_ADMIN SYS_PTRACE\nDropCapability=all",
            &[
                "--cap-add=NET_ADMIN",
                "--cap-add=SYS_PTRACE",
                "--cap-drop=all",
                "i",
            ],
        ),
        (
            "ReadOnly=yes\nReadOnlyTmpfs=no\nHttpProxy=on\nRunInit=false\nNoNewPrivileges=no\nSeccompProfile=unconfined\nMask=/a:/b",
            &[
                "--http-proxy=true",
                "--read-only",
                "--read-only-tmpfs=false",
                "--security-opt=no-new-privileges=false",
                "--security-opt=seccomp=unconfined",
                "--security-opt=mask=/a:/b",
                "i",
            ],
        ),
        (
            "AddDevice=-/dev/nothing\nAddDevice=-/dev/null:/dev/x:r\nAddDevice=/dev/fuse",
            &["--device=/dev/null:/dev/x:r", "--device=/dev/fuse", "i"],
        ),
        (
            "PublishPort=80:80\nPublishPort=81:81/udp\nExposeHostPort=90-91\nNetwork=pasta\nDNS=1.1.1.1\nAddHost=a:1.2.3.4",
            &[
                "--network=pasta",
                "--publish=80:80",
                "--publish=81:81/udp",
                "--expose=90-91",
                "--dns=1.1.1.1",
                "--add-host=a:1.2.3.4",
                "i",
            ],
        ),
        (
            "HealthCmd=test -e /x\nHealthRetries=2\nHealthOnFailure=kill\nLogDriver=journald\nLogOpt=a=b",
            &[
                "--log-driver=journald",
                "--log-opt=a=b",
                "--health-cmd=test -e /x",
                "--health-retries=2",
                "--health-on-failure=kill",
                "i",
            ],
        ),
        (
            "PodmanArgs=--tls-verify=false\nRlArgs=--verbose '--label=a b'\nSysctl=a=1 b=2",
            &[
                "--sysctl=a=1",
                "--sysctl=b=2",
                "--tls-verify=false",
                "--verbose",
                "--label=a b",
                "i",
            ],
        ),
        (
            "HostName=a\nHostName=b\nTmpfs=/a\nTmpfs=\nTmpfs=/b:size=1m\nPull=never",
            &["--hostname=b", "--pull=never", "--tmpfs=/b:size=1m", "i"],
        ),
        (
            "Image=\nRootfs=/r\nExec=-c x\nTimezone=local\nNotify=no\nX-Mine=1",
            &["--tz=local", "--rootfs=/r", "--", "-c", "x"],
        ),
    ] {
        assert_eq!(words_of(&format!("Image=i\n{keys}")), options, "{keys}");
    }
}

#[test]
fn the_service_follows_and_stops_the_container() {
    let text = make(
        "[Unit]\nDescription=Web\nAfter=db.container data.volume x.target\n[Container]\nImage=i\nContainerName=w\n\
         StopSignal=SIGINT\nStopTimeout=100\nVolume=data.volume:/d\nReloadCmd=kill -1 1\n[Service]\nRestart=always\n\
         [Install]\nWantedBy=default.target\n[X-Own]\na=b\n[Quadlet]\nDefaultDependencies=no\n",
    )
    .unwrap();
    for (key, values) in [
        ("SourcePath", &["/q/50%%/web.container"][..]),
        ("Requires", &["data-volume.service"]),
        (
            "After",
            &[
                "data-volume.service",
                "db.service data-volume.service x.target",
            ],
        ),
        ("Type", &["notify"]),
        ("KillMode", &["mixed"]),
        ("SuccessExitStatus", &["143 130"]),
        ("TimeoutStopSec", &["130"]),
        ("Restart", &["always"]),
        ("ExecStop", &["/usr/bin/rl stop --ignore w"]),
        (
            "ExecStopPost",
            &["-/usr/bin/rl rm --force --ignore --volumes w"],
        ),
        ("ExecReload", &["/usr/bin/rl exec w kill -1 1"]),
        ("WantedBy", &["default.target"]),
        ("a", &["b"]),
        ("DefaultDependencies", &[]),
    ] {
        assert_eq!(value(&text, key), values, "{key}\n{text}");
    }
    let start = value(&text, "ExecStart");
    assert!(start[0].contains(" --volume=systemd-data:/d "), "{start:?}");
}

#[test]
fn templates_carry_their_instance() {
    let text = "[Container]\nImage=i\nVolume=each@.volume:/d\nExec=%i\n";
    let text = make_named("web@.container", text).unwrap();
    assert_eq!(value(&text, "After"), ["each-volume@%i.service"]);
    let start = value(&text, "ExecStart");
    assert_eq!(
        start,
        [
            "/usr/bin/rl run --rm --replace --name=systemd-web_%i --cgroups=split --volume=systemd-each_%i:/d i %i"
        ]
    );
}

#[test]
fn limits_are_the_services_or_the_containers() {
    let make = |keys: &str| {
        let text = make(&format!("[Container]\nImage=i\n{keys}\n")).unwrap();
        let limits: Vec<_> = ["MemoryMax", "TasksMax"]
            .map(|key| value(&text, key).concat())
            .into();
        let start = value(&text, "ExecStart")[0]
            .split_once("web ")
            .unwrap()
            .1
            .to_owned();
        (start, limits.join(" "))
    };
    let limits = "Memory=20g\nPidsLimit=7\n";
    for (keys, start, service) in [
        ("", "--cgroups=split i", "20G 7"),
        (
            "CgroupsMode=enabled",
            "--cgroups=enabled --memory=20g --pids-limit=7 i",
            " ",
        ),
        (
            "RlArgs=--cpus 2",
            "--memory=20g --pids-limit=7 --cpus 2 i",
            " ",
        ),
        (
            "PidsLimit=-1\nMemory=512b",
            "--cgroups=split i",
            "512 infinity",
        ),
    ] {
        let found = make(&format!("{limits}{keys}"));
        assert_eq!(found, (start.to_owned(), service.to_owned()), "{keys}");
    }
    assert!(
        refused("Memory=lots")
            .ends_with(": `Memory=lots`: a number, that of bytes with a unit such as `m` or `g`")
    );
}

#[test]
fn nothing_is_passed_over() {
    for (text, message) in [
        (
            "Imagee=x",
            "/q/50%/web.container:3: unknown key `Imagee` in `[Container]`",
        ),
        (
            "\nSecret=x",
            "/q/50%/web.container:4: `Secret=` of podman is not there yet",
        ),
        (
            "GlobalArgs=--x",
            "/q/50%/web.container:3: `GlobalArgs=` of podman is not there yet",
        ),
        (
            "ReadOnly=maybe",
            "/q/50%/web.container:3: `ReadOnly=maybe`: expected `true` or `false`",
        ),
        (
            "Exec=a 'b",
            "/q/50%/web.container:3: `Exec=a 'b`: the quote `'` is not closed",
        ),
        (
            "Network=x.network:ip=1",
            "/q/50%/web.container:3: `Network=x.network:ip=1`: options behind `:` are not there yet; `IP=` and `NetworkAlias=` are",
        ),
        (
            "Network=no.network",
            "/q/50%/web.container:3: `Network=no.network`: there is no usable file `no.network`",
        ),
        (
            "Volume=no.volume:/x",
            "/q/50%/web.container:3: `Volume=no.volume:/x`: there is no usable file `no.volume`",
        ),
        (
            "Group=1",
            "/q/50%/web.container:3: `Group=1`: `Group=` needs `User=`",
        ),
        (
            "Notify=healthy",
            "/q/50%/web.container:3: `Notify=healthy`: expected `true` or `false`",
        ),
        (
            "StopSignal=WHAT",
            "/q/50%/web.container:3: `StopSignal=WHAT`: no such signal",
        ),
        (
            "ContainerName=a/b",
            "/q/50%/web.container:3: `ContainerName=a/b`: that is no name for a container",
        ),
        (
            "Rootfs=/x",
            "/q/50%/web.container:3: `Rootfs=/x`: `Image=` is there already",
        ),
        (
            "[Service]\nExecStart=x",
            "/q/50%/web.container:4: `ExecStart=x`: the command is what `Image=`, `Exec=` and the others say",
        ),
        (
            "[Service]\nType=forking",
            "/q/50%/web.container:4: `Type=forking`: `notify` (which it is without), `exec`, `simple` or `oneshot`",
        ),
        (
            "[Unit]\nAfter=x.pod",
            "/q/50%/web.container:4: `After=x.pod`: `.pod` files are not there yet",
        ),
        (
            "[Pod]\na=b",
            "/q/50%/web.container:3: no section `[Pod]` in a `.container` file",
        ),
    ] {
        assert_eq!(refused(text), message);
    }
    let error = make("[Container]\nExec=x\n").unwrap_err().to_string();
    assert_eq!(
        error,
        "/q/50%/web.container: `Image=` is missing in `[Container]`"
    );
}

proptest::proptest! {
    /// Whatever stands in `Exec=` and `Environment=` arrives as the words that it is.
    #[test]
    fn words_arrive(exec: Vec<String>, value: String) {
        let clean = |text: &String| text.replace('\0', "");
        let exec: Vec<String> = exec.iter().map(clean).collect();
        let value = format!("A={}", clean(&value));
        let line = words::line(exec.iter().map(|word| words::quote(word)));
        let found = words_of(&format!("Image=i\nExec={line}\nEnvironment={}", words::quote(&value)));
        proptest::prop_assert_eq!(&found[0], &format!("--env={value}"));
        proptest::prop_assert_eq!(&found[2..], &exec[..]);
    }
}
