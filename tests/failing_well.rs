//! What a new user runs into: each failure ends with the right status, one line that says what is wrong,
//! one line that says what to do next, and nothing left behind.

#[macro_use]
mod support;
#[path = "support/http.rs"]
mod http;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use http::{Reply, Request, Server};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use support::{Env, Identity, Output, images, skip};

/// One line on standard error that says this, and one hint with this in it; notices of less ids aside.
#[track_caller]
fn says(output: Output, status: i32, error: &str, hint: &str) {
    let output = output.refuses(status, error);
    let err = output.err();
    let lines: Vec<&str> = err
        .lines()
        .filter(|line| !line.starts_with("rl: "))
        .collect();
    let hints: Vec<&&str> = lines
        .iter()
        .filter(|line| line.starts_with("hint: "))
        .collect();
    assert!(
        lines[0].starts_with("error: ") && lines[0].contains(error),
        "{err}"
    );
    assert_eq!(lines.len(), 1 + hints.len(), "{err}");
    assert!(!err.contains("os error"), "{err}");
    assert!(
        !lines[0].ends_with('.') && output.stdout.is_empty(),
        "{err}{}",
        output.out()
    );
    // Each ends in what to do next.
    assert!(
        hints.len() == 1 && hints[0].contains(hint),
        "no hint `{hint}`:\n{err}"
    );
}

identities! {
    fn few_descriptors_are_told_and_leave_nothing(t: [sub nosub]) {
        let mut short = 0;
        for limit in 5..40 {
            let script = format!("ulimit -n {limit}; exec $RL run --rm --network none {} true", images::busybox());
            let output = t.sh(&script).run();
            if output.err().contains("error: ") {
                short += 1;
                says(output, 125, "oo many open files", "ulimit -n 1024");
            } else {
                output.ok();
            }
        }
        assert!(short > 3, "{short}");
        let script = "ls -A $XDG_DATA_HOME/rl/tmp | grep -vx locks | wc -l";
        assert_eq!(t.sh(script).run().ok().out(), "0");
    }
}

identities! {
    fn a_limit_is_told_by_name(t: [sub nosub]) {
        for (limit, told, hint) in [
            ("nproc=1", "esource temporarily unavailable", "ulimit -u"),
            ("fsize=0", "ile too large", "ulimit -f unlimited"),
        ] {
            let script = format!("exec prlimit --{limit} $RL run --rm --network none {} true", images::busybox());
            says(t.sh(&script).run(), 125, told, hint);
        }
    }

    fn whoever_starts_it_may_have_its_pipes_not_block(t: [sub]) {
        let image = images::busybox();
        let full = "i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done";
        t.rl(["run", "--name", "c", "--network", "none", image, "sh", "-c", full]).run().ok();
        let start = "import os, sys; [os.set_blocking(fd, False) for fd in (0, 1, 2)]; os.execv(sys.argv[1], sys.argv[1:])";
        for words in ["logs c", "export c", "cp c:/bin -", "save $($RL images -q)"] {
            let plain = t.sh(&format!("$RL {words} | wc -c")).run().ok().out();
            let script = format!("python3 -c '{start}' $RL {words} | (sleep 0.5; wc -c)");
            assert_eq!(t.sh(&script).run().ok().out(), plain, "{words}");
            assert!(plain.parse::<usize>().unwrap() > 200_000, "{words}: {plain}");
        }
        // And one that is slow to give.
        let script = format!("(sleep 0.5; $RL export c) | python3 -c '{start}' $RL import - again");
        t.sh(&script).run().ok();
        t.rl(["rm", "c"]).run().ok();
    }

    fn whoever_starts_it_may_ignore_the_end_of_children(t: [sub nosub root]) {
        let script = format!("exec env --ignore-signal=CHLD $RL run --rm --network none {} sh -c 'exit 7'", images::busybox());
        assert_eq!(t.sh(&script).run().code(), 7);
    }
}

/// `rl run --rm --network none OPTION… IMAGE COMMAND…` with the small image.
#[track_caller]
fn run(t: &Env, options: &[&str], command: &[&str]) -> Output {
    t.run_with(options, command).run()
}

/// A registry that answers with these documents: (path, media type, body).
fn serve(documents: Vec<(String, String, Vec<u8>)>) -> Server {
    let all: HashMap<String, (String, Vec<u8>)> = documents
        .into_iter()
        .map(|(path, kind, body)| (path, (kind, body)))
        .collect();
    Server::start(move |request: &Request| match all.get(&request.target) {
        _ if request.target == "/v2/" => Reply::new(200, "{}"),
        Some((kind, body)) => Reply::new(200, body.clone()).with("Content-Type", kind),
        None => Reply::new(
            404,
            r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
        ),
    })
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// `sha256:HEX` of these bytes.
fn digest(bytes: &[u8]) -> String {
    let hex: Vec<String> = Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    format!("sha256:{}", hex.concat())
}

/// A layer of one file with this content.
fn layer(content: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "file", content).unwrap();
    tar.into_inner().unwrap()
}

/// The documents of an image `app:latest` for a platform, and the descriptor of its manifest.
fn image(
    architecture: &str,
    layer: &[u8],
    promised: &[u8],
) -> (Vec<(String, String, Vec<u8>)>, Value) {
    let blob = |bytes: &[u8]| json!({"digest": digest(bytes), "size": bytes.len()});
    let with = |mut descriptor: Value, kind: &str| {
        descriptor["mediaType"] = kind.into();
        descriptor
    };
    let rootfs = json!({"type": "layers", "diff_ids": [digest(promised)]});
    let config = json!({"os": "linux", "architecture": architecture, "config": {"Cmd": ["/x"]}, "rootfs": rootfs}).to_string();
    let (config_kind, layer_kind) = (
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.oci.image.layer.v1.tar",
    );
    let descriptor = with(blob(promised), layer_kind);
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": with(blob(config.as_bytes()), config_kind), "layers": [descriptor]}).to_string();
    let mut of = with(blob(manifest.as_bytes()), MANIFEST);
    of["platform"] = json!({"os": "linux", "architecture": architecture});
    let path = |kind: &str, name: String| format!("/v2/app/{kind}/{name}");
    let mut documents = vec![
        (
            path("blobs", digest(config.as_bytes())),
            "application/octet-stream".into(),
            config.into_bytes(),
        ),
        (
            path("blobs", digest(promised)),
            "application/octet-stream".into(),
            layer.to_vec(),
        ),
    ];
    for name in ["latest".to_owned(), digest(manifest.as_bytes())] {
        documents.push((
            path("manifests", name),
            MANIFEST.into(),
            manifest.clone().into_bytes(),
        ));
    }
    (documents, of)
}

fn native() -> &'static str {
    if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    }
}

fn foreign() -> &'static str {
    if cfg!(target_arch = "aarch64") {
        "amd64"
    } else {
        "arm64"
    }
}

identities! {
    fn an_image_that_is_not_there(t: [sub nosub unshared root]) {
        let server = serve(Vec::new());
        let name = format!("{}/team/app:1.0", server.address);
        let pull = |word: &str| t.rl(["run", "--rm", "--network", "none", word, "true"]).run();
        says(pull(&name), 125, &format!("image `{name}` was not found in registry `{}`", server.address), "check repository and tag");
        let zeros = format!("{}/app@sha256:{}", server.address, "0".repeat(64));
        says(pull(&zeros), 125, &format!("image `{zeros}` was not found"), "check repository");
        says(pull("127.0.0.1:1/app"), 125, "registry `127.0.0.1:1` cannot be reached", "check that `127.0.0.1:1` is up");
        says(pull("app@sha256:00"), 125, "`sha256:00` is not a digest", "");
        says(pull(""), 125, "image reference `` has no name", "");
        says(t.rl(["run", "--pull", "never", "app"]).run(), 125, "image `app:latest` is not in the store", "rl pull app");
        says(t.rl(["run"]).run(), 125, "no image given", "rl run ubuntu sh");
        says(pull("oci:/no/such"), 125, "/no/such/index.json`): No such file or directory", "");
        says(pull(&format!("{}x", images::busybox())), 125, "has no image named `latestx`", "");
        says(pull("/no/such"), 125, "root file system `/no/such`: No such file or directory", "");
        says(t.rl(["run", "--rootfs", "/etc/passwd", "true"]).run(), 125, "root file system `/etc/passwd`: Not a directory", "");
    }

    fn a_registry_that_sends_something_else(t: [sub nosub root]) {
        let layer = layer(&[7; 5000]);
        let mut other = layer.clone();
        other[1000] ^= 1;
        let (documents, _) = image(native(), &other, &layer);
        let server = serve(documents);
        let name = format!("{}/app", server.address);
        let pull = |word: &str| t.rl(["run", "--rm", "--network", "none", word, "true"]).run();
        says(pull(&name), 125, &format!("blob `{}` has wrong content: its digest is `{}`", digest(&layer), digest(&other)), "");
        // Nothing of it is kept.
        assert_eq!(t.rl(["images", "--quiet"]).run().ok().out(), "");
        // A manifest that is not the one that was asked for by digest.
        let wanted = digest(b"another");
        let server = serve(vec![(format!("/v2/app/manifests/{wanted}"), MANIFEST.into(), b"{}".to_vec())]);
        says(pull(&format!("{}/app@{wanted}", server.address)), 125, &format!("instead of `{wanted}`"), "");
        // A page of a proxy or a log-in page.
        let server = serve(vec![("/v2/app/manifests/latest".into(), "text/html".into(), b"<html>".to_vec())]);
        says(pull(&format!("{}/app", server.address)), 125, "is malformed", "a log-in page");
    }

    fn a_tree_from_a_server(t: [sub nosub root]) {
        t.keeps_containers();
        t.rl(["create", "--name", "box", "--network", "none", images::busybox()]).run().ok();
        t.rl(["export", "-o", "tree.tar", "box"]).run().ok();
        t.rl(["rm", "box"]).run().ok();
        let tar = fs::read(t.path("tree.tar")).unwrap();
        let half = tar.len() / 2;
        let server = Server::start(move |request: &Request| match request.target.as_str() {
            "/tree.tar?key=1" => match request.header("authorization") {
                // `me:it`.
                Some("Basic bWU6aXQ=") => Reply::new(200, tar.clone()),
                _ => Reply::new(401, ""),
            },
            "/moved" => Reply::new(302, "").with("Location", "/tree.tar?key=1"),
            "/cut" => Reply { cut_after: Some(half), ..Reply::new(200, tar.clone()) },
            "/page" => Reply::new(200, "<html>"),
            _ => Reply::new(404, ""),
        });
        let at = |path: &str| format!("http://me:it@{}{path}", server.address);
        let import = |words: &[&str]| t.rl(["import", "-c", "CMD [\"echo\", \"from there\"]"]).args(words).run();
        for path in ["/tree.tar?key=1", "/moved"] {
            let id = import(&[&at(path), "tree"]).ok().out();
            assert!(id.starts_with("sha256:"), "{id}");
            assert_eq!(t.rl(["run", "--rm", "--quiet", "--network", "none", "tree"]).run().ok().out(), "from there");
            // Neither the password nor the key is kept.
            let comment = t.rl(["inspect", "-f", "{{.Comment}}", "tree"]).run().ok().out();
            assert_eq!(comment, format!("Imported from http://{}{}", server.address, path.split('?').next().unwrap()));
        }
        let images = || t.rl(["images", "-a", "--format", "{{.ID}} {{.Repository}}"]).run().ok().out();
        let before = images();
        let shut = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).unwrap();
        says(import(&[&at("/cut"), "other"]), 125, &server.address.to_string(), "");
        says(import(&[&at("/nothing"), "other"]), 125, "404", "");
        says(import(&[&at("/page"), "other"]), 125, "tar", "");
        says(import(&[&format!("http://{shut}/x"), "other"]), 125, &shut.to_string(), "");
        says(import(&["http://", "other"]), 125, "no address", "");
        // Off this machine, without TLS as the address says, and through a proxy.
        let through = t.rl(["import", "http://files.example/x.tar"]).env("http_proxy", format!("http://{}", server.address)).run();
        assert_eq!(through.code(), 125, "{}", through.err());
        let asked = server.log().pop().unwrap();
        assert!(asked.target.contains("files.example"), "{asked:?}");
        assert_eq!(images(), before);

        // One that is interrupted leaves nothing that the next does not take away.
        let stalled = Server::raw(Default::default(), |mut stream| {
            use std::io::{Read as _, Write as _};
            let _ = http::read_request(&stream);
            let _ = stream.write_all(b"HTTP/1.1 200 X\r\nContent-Length: 9000000\r\n\r\n").and_then(|()| stream.write_all(&[0; 100_000]));
            // Until the other side goes.
            let _ = stream.read(&mut [0]);
        });
        let unfinished = || {
            let all = fs::read_dir(t.dir().join("data/rl/tmp")).into_iter().flatten().flatten();
            let works = all.filter(|entry| entry.file_name() != "locks");
            works.flat_map(|entry| fs::read_dir(entry.path()).into_iter().flatten().flatten()).count()
        };
        let running = t.rl(["import", &format!("http://{}/x", stalled.address), "other"]).spawn();
        support::wait_for("its beginning", || unfinished() > 0);
        running.signal(rustix::process::Signal::INT);
        running.wait();
        support::wait_for("its end", || t.processes().is_empty());
        assert_eq!(images(), before);
        import(&[&at("/tree.tar?key=1"), "tree"]).ok();
        assert_eq!(unfinished(), 0);
    }

    /// A pull that goes well says on a terminal how far it is, and elsewhere nothing but the id.
    fn progress_is_for_a_terminal(t: [sub nosub]) {
        let layer = layer(&[7; 5000]);
        let (documents, _) = image(native(), &layer, &layer);
        let server = serve(documents);
        let name = format!("{}/app", server.address);
        let shown = |quiet: &str| {
            // One that can move its cursor.
            let script = format!("TERM=xterm exec \"$RL\" pull {quiet} {name}");
            let mut terminal = t.sh(&script).terminal();
            terminal.wait();
            t.rl(["rmi", &name]).run().ok();
            terminal.shown()
        };
        let id = t.rl(["pull", &name]).run().ok();
        assert_eq!((id.err().as_str(), id.out().len()), ("", 64));
        t.rl(["rmi", &name]).run().ok();
        let told = format!("{}: pulled ", &digest(&layer)["sha256:".len()..][..12]);
        let all = shown("");
        assert!(all.contains(&told), "{all:?}");
        assert_eq!(shown("--quiet").trim_end(), id.out());
    }

    fn an_image_for_another_platform(t: [sub nosub]) {
        let layer = layer(b"x");
        let (mut documents, descriptor) = image(foreign(), &layer, &layer);
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor]}).to_string();
        documents.push(("/v2/app/manifests/index".into(), INDEX.into(), index.into_bytes()));
        let server = serve(documents);
        let (many, one) = (format!("{}/app:index", server.address), format!("{}/app:latest", server.address));
        let pull = |options: &[&str], word: &str| t.rl(["run", "--rm", "--network", "none"]).args(options).args([word, "true"]).run();
        let platform = format!("linux/{}", foreign());
        says(pull(&[], &many), 125, &format!("image `{many}` is not available for linux/{}, only for {platform}", native()), &format!("--platform {platform}"));
        says(pull(&[], &one), 125, &format!("image `{one}` is not available for linux/{}, only for {platform}", native()), &format!("--platform {platform}"));
        // The same from a layout on disk, where the option is no less true.
        says(run(t, &["--platform", &platform], &["true"]), 125, &format!("is for linux/{}, not for {platform}", native()), &format!("--platform linux/{}", native()));
        says(run(t, &["--platform", "frob"], &["true"]), 125, "not for linux/frob", "");
        // What such a program looks like to the kernel.
        let path = t.file("program", [b"\x7fELF\x02\x01\x01", [0; 9].as_slice(), b"\x02\x00\xff\xff\x01"].concat());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let volume = format!("{}:/program", path.display());
        says(run(t, &["-v", &volume], &["/program"]), 126, "exec: `/program`: ENOEXEC", "an image for another platform looks like this");
    }

    fn commands_that_cannot_run(t: [sub nosub unshared root]) {
        says(run(t, &[], &["nonsense"]), 127, "`nonsense`: command not found", "");
        says(run(t, &[], &["/no/such"]), 127, "`/no/such`: command not found", "");
        says(run(t, &[], &["/bin/sh/x"]), 127, "`/bin/sh/x`: command not found", "");
        says(run(t, &[], &["/etc/passwd"]), 126, "exec: `/etc/passwd`: EACCES (permission denied)", "chmod +x");
        says(run(t, &[], &["/etc"]), 126, "exec: `/etc`: EACCES (permission denied)", "directory");
        says(run(t, &["--entrypoint", "/no/entry"], &["x"]), 127, "`/no/entry`: command not found", "");
        says(run(t, &["--entrypoint", "[\"sh\""], &["x"]), 125, "`--entrypoint [\"sh\"`: not a JSON list of strings", "");
        says(run(t, &["-w", "/etc/passwd"], &["pwd"]), 125, "`/etc/passwd`): ENOTDIR", "");
        says(run(t, &["-w", "relative"], &["pwd"]), 125, "`--workdir relative`: the working directory is an absolute path", "");
        says(run(t, &["-u", "nobody-here"], &["id"]), 125, "no user `nobody-here` in the image's `/etc/passwd`", "");
        says(run(t, &["-u", "root:no-group"], &["id"]), 125, "no group `no-group` in the image's `/etc/group`", "");
        let group = if t.who.has_many_ids() { "no group `no-group`" } else { "`--group-add`" };
        says(run(t, &["--group-add", "no-group"], &["id"]), 125, group, "");
        says(run(t, &["-u", "99999999"], &["id"]), 125, "setresuid(99999999): EINVAL", "subordinate ids");
        let image = support::Image::busybox().config("Cmd", Value::Null).write_for(t, "no-command");
        says(t.rl(["run", "--rm", "--network", "none", &image]).run(), 125, "no command given, and the image names none", "such as `sh`");
    }

    fn volumes_that_cannot_be_had(t: [sub nosub]) {
        let secret = t.dir().join("secret");
        fs::create_dir(&secret).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o700)).unwrap();
        let closed = format!("{}:/x", secret.display());
        let missing = format!("{}:/x", t.path("missing").display());
        let mkdir = format!("mkdir -p {}", t.path("missing").display());
        if support::identity::is_root() {
            says(run(t, &["-v", &closed], &["ls", "/x"]), 125, &format!("volume source `{}`: Permission denied", secret.display()), "what you may read yourself");
            let through = format!("{}/below:/x", secret.display());
            says(run(t, &["-v", &through], &["ls", "/x"]), 125, "Permission denied", "ls -ld");
        }
        fs::remove_dir(&secret).unwrap();
        says(run(t, &["-v", &missing], &["true"]), 125, &format!("volume source `{}`: No such file or directory", t.path("missing").display()), &mkdir);
        let mount = format!("type=bind,src={},dst=/x", t.path("missing").display());
        says(run(t, &["--mount", &mount], &["true"]), 125, "No such file or directory", &mkdir);
        says(run(t, &["--device", "/dev/no-such"], &["true"]), 125, "device `/dev/no-such`: No such file or directory", "");
        for (options, text) in [
            (["-v", "data"], "`--volume data`: `data` is not an absolute path"),
            (["-v", "a/b:/x"], "`a/b` is neither a path"),
            (["-v", "/etc:x"], "`x` is not an absolute path"),
            (["-v", "/etc:/"], "`/` is not an absolute path below `/`"),
            (["-v", "/etc:/x:frob"], "option `frob` is not there yet"),
            (["-v", "a:b:c:d"], "expected `SOURCE:TARGET[:OPTIONS]`"),
            (["--mount", "nonsense"], "`--mount nonsense`: no `target=`"),
            (["--mount", "type=bind,dst=/x"], "no `source=`"),
            (["--mount", "type=image,src=x,dst=/x"], "type `image` is not there yet"),
            (["--tmpfs", "/x:frob"], "`frob` is not an option of tmpfs"),
            (["--tmpfs", "x"], "`x` is not an absolute path"),
        ] {
            says(run(t, &options, &["true"]), 125, text, "");
        }
        says(run(t, &["--tmpfs", "/x", "-v", "/etc:/x"], &["true"]), 125, "`/x` is mounted on twice", "");
    }

    fn values_that_mean_nothing(t: [sub]) {
        let long = "a".repeat(129);
        for (options, text) in [
            (["-p", "x"], "`x` is no port to publish"),
            (["-p", "80:99999"], "`80:99999` is no port to publish"),
            (["-p", "80:80/sctp"], "neither `tcp` nor `udp`"),
            (["-p", "1-3:1-2"], "the two ranges differ in length"),
            (["--env-file", "/no/such"], "`--env-file /no/such`: No such file or directory"),
            (["-e", "=x"], "`--env =x`: expected `NAME=VALUE`"),
            (["--label", "=x"], "`--label =x`: expected `NAME=VALUE`"),
            (["--ulimit", "nofile"], "`--ulimit nofile`: expected `NAME=SOFT[:HARD]`"),
            (["--ulimit", "nofile=5:4"], "the soft limit is above the hard limit"),
            (["--ulimit", "files=5"], "`--ulimit files=5`: no such limit"),
            (["--shm-size", "lots"], "expected a size such as `64m`"),
            (["--stop-signal", "NOPE"], "`--stop-signal NOPE`: no such signal"),
            (["--hostname", "a b"], "a host name has 1 to 64 characters"),
            (["--sysctl", "kernel.hostname=x"], "does not belong to a namespace of this container"),
            (["--userns", "frob"], "`frob` is no user namespace mode"),
            (["--userns", "host"], "`--userns host` is not possible"),
            (["--uidmap", "x"], "`x` is not an id range"),
            (["--pull", "sometimes"], "`sometimes`"),
            (["--name", "a b"], "`a b` is not a container name"),
            (["--name", &*long], "at most 128 letters"),
            (["-v", &*format!("{long}:/x")], "nor a volume name"),
            (["--pid", "container:x"], "expected `private` or `host`"),
            (["--security-opt", "seccomp=/etc/passwd"], "not a seccomp profile"),
            (["--tz", "../../etc"], "`--tz ../../etc`"),
        ] {
            says(run(t, &options, &["true"]), 125, text, "");
        }
        says(run(t, &["--cap-add", "FLY"], &["true"]), 125, "no such capability: `FLY`", "man 7 capabilities");
        says(run(t, &["--security-opt", "frob"], &["true"]), 125, "no such security option: `frob`", "seccomp=FILE");
        says(run(t, &["--ulimit", "nofile=1073741816:1073741816"], &["true"]), 125, "setrlimit(nofile, 1073741816, 1073741816): EPERM", "ulimit -H");
        says(run(t, &["-it"], &["true"]), 125, "`--tty` with `--interactive` needs standard input to be a terminal", "leave one of the two out");
    }

    fn options_that_are_not_there(t: [sub]) {
        for (word, long) in [("--gpus=all", "gpus"), ("--privileged", "privileged"), ("--cgroupns", "cgroupns"), ("--pod", "pod")] {
            let shown = word.split('=').next().unwrap();
            says(t.rl(["run", word, "x"]).run(), 125, &format!("`{shown}`: the option `--{long}` of docker and podman is not there yet"), "rl run --help");
        }
        for (word, near) in [("--nmae", "--name"), ("--volum", "--volume"), ("--read-onyl", "--read-only")] {
            says(t.rl(["run", word, "x"]).run(), 125, &format!("unknown option `{word}`"), &format!("did you mean `{near}`?"));
        }
        // Of several short options in one word, the first one that is not there is named.
        for word in ["-x", "-xit"] {
            says(t.rl(["run", word, "x"]).run(), 125, "unknown option `-x`", "rl run --help");
        }
        says(t.rl(["run", "--frobnicate", "x"]).run(), 125, "unknown option `--frobnicate`", "rl run --help");
        // What comes after the image is the command's.
        t.run(["echo", "--nmae", "-d"]).run().ok();
        for words in [vec!["frob"], vec!["runn", "x"], vec!["images", "--frob"], vec!["run", "--name"], vec!["run", "--rm", "--rm", "x"]] {
            says(t.rl(&words).run(), 125, "", "`rl ");
        }
    }

    /// The options of the podman that is installed are there, or refused by name.
    fn options_of_podman(t: [sub]) {
        if !support::have("podman") {
            return;
        }
        let help = t.program("podman").args(["run", "--help"]).run().ok().out();
        let words = help.lines().filter_map(|line| line.trim_start_matches(|c: char| c != '-').split(' ').find(|word| word.starts_with("--")));
        let mut tried = 0;
        for word in words.filter(|word| *word != "--help") {
            // A value where it takes one; no option is so wrong that it is not known.
            let output = t.rl(["run", &format!("{word}=x"), "/no/such"]).run();
            assert!(output.code() == 125 && !output.err().contains("unknown option"), "{output:?}");
            tried += 1;
        }
        assert!(tried > 100, "{tried}: {help}");
    }

    /// Docker's options of every verb are there, or refused by name.
    fn options_of_other_verbs(t: [sub]) {
        for line in [
            "create --privileged", "container run --gpus", "container create --cgroupns", "exec --privileged", "container exec --privileged",
            "logs --names", "rm --depend", "start --checkpoint=x", "update --cpu-rt-period=1",
            "pull -a", "image pull --all-tags", "rmi --no-prune", "image rm --no-prune", "save --platform=x",
            "network create --ip-range=x", "network create -o", "network inspect --verbose", "volume create --name x", "commit --squash",
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            says(t.rl(&words).run(), 125, "of docker and podman is not there yet", "nothing is left out in silence");
        }
        for line in ["rm --link", "rm -l", "container rm --link", "run --link a:b", "create --link=a"] {
            let words: Vec<&str> = line.split(' ').collect();
            says(t.rl(&words).run(), 125, "there are no links between containers", "`rl network create net`");
        }
        for line in ["volume update x", "system dial-stdio", "network connect"] {
            says(t.rl(line.split(' ')).run(), 125, "the verb of docker and podman is not there yet", "--help");
        }
        assert_eq!(run(t, &["-h", "box"], &["hostname"]).out(), "box");
    }

    fn a_name_that_is_taken(t: [sub nosub]) {
        t.keeps_containers();
        t.rl(["run", "--network", "none", "--name", "box", images::busybox(), "true"]).run().ok();
        says(run(t, &["--name", "box"], &["true"]), 125, "the name `box` is in use by container ", "rl rm box");
        t.rl(["rm", "box"]).run().ok();
        run(t, &["--name", "box"], &["true"]).ok();
        assert_eq!(t.rl(["ps", "-a", "-q"]).run().ok().out(), "");
    }

    fn without_a_place_to_write(t: [sub nosub]) {
        if !support::identity::is_root() {
            return skip("a directory that the user may not write needs root");
        }
        // Of root's, in which the user may not write.
        let there = |name: &str| t.rl(["run", "--rm", "--network", "none", images::busybox(), "true"]).env("XDG_DATA_HOME", name);
        let text = "`/usr/share/rl`: Permission denied";
        says(there("/usr/share").run(), 125, text, "set XDG_DATA_HOME to a directory");
        says(there("relative").env("HOME", "/usr/share").run(), 125, "`/usr/share/.local/share/rl`: Permission denied", "set XDG_DATA_HOME");
        // One that somebody else has made for us, in a directory that all may write.
        let theirs = t.path("theirs");
        fs::create_dir_all(theirs.join("rl")).unwrap();
        let whose = |uid: u32, mode: u32| {
            std::os::unix::fs::chown(theirs.join("rl"), Some(uid), None).unwrap();
            fs::set_permissions(theirs.join("rl"), fs::Permissions::from_mode(mode)).unwrap();
            there(theirs.to_str().unwrap()).run()
        };
        says(whose(1, 0o777), 125, "/theirs/rl` belongs to uid 1, who could change", "set XDG_DATA_HOME");
        says(whose(t.uid(), 0o777), 125, "/theirs/rl` can be written by every user", "set XDG_DATA_HOME");
        whose(t.uid(), 0o700).ok();
        // Without a runtime directory, all works.
        t.run(["true"]).env_remove("XDG_RUNTIME_DIR").run().ok();
    }
}

#[test]
fn without_subordinate_ids_it_says_so_and_goes_on() {
    let Some(t) = Env::new(Identity::NoSub) else {
        return;
    };
    let output = run(&t, &[], &["id", "-u"]).ok();
    let err = output.err();
    assert_eq!(
        (output.out().as_str(), err.lines().count()),
        ("0", 1),
        "{err}"
    );
    assert!(
        err.contains(
            "has no subordinate ids in /etc/subuid and /etc/subgid: only one id is mapped"
        ),
        "{err}"
    );
    assert!(err.contains("usermod --add-subuids"), "{err}");
    // Once: the next time only who asks is told.
    assert_eq!(run(&t, &[], &["true"]).ok().err(), "");
    assert!(
        run(&t, &["--verbose"], &["true"])
            .ok()
            .err()
            .contains("only one id is mapped")
    );
    says(
        run(&t, &["--userns", "nomap"], &["true"]),
        125,
        "`--userns nomap` needs subordinate ids",
        "usermod --add-subuids",
    );
}

/// Without newuidmap a user with subordinate ids is as one without; what needs them says what is missing.
#[test]
fn without_newuidmap() {
    let Some(t) = Env::new(Identity::Sub) else {
        return;
    };
    if !support::identity::is_root() {
        return skip("hiding a program needs root");
    }
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    let sh = |line: &str| {
        assert!(
            Command::new("/bin/sh")
                .args(["-c", line])
                .status()
                .unwrap()
                .success(),
            "{line}"
        )
    };
    sh("mount --make-rprivate /");
    sh("mount --bind /dev/null \"$(readlink -f \"$(command -v newuidmap)\")\"");
    let output = run(&t, &[], &["id", "-u"]).ok();
    assert_eq!(output.out(), "0");
    let err = output.err();
    assert!(
        err.contains("`newuidmap`")
            && err.contains("only one id is mapped")
            && err.contains("apt-get install uidmap"),
        "{err}"
    );
    says(
        run(&t, &["--userns", "nomap"], &["true"]),
        125,
        "`--userns nomap` needs subordinate ids",
        "apt-get install uidmap",
    );
    says(
        run(&t, &["--uidmap", "0:1:10"], &["true"]),
        125,
        "`--uidmap` needs subordinate ids, and `newuidmap`",
        "apt-get install uidmap",
    );
}
