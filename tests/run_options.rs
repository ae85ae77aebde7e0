//! The options of `rl run`, each tried by what it does inside.

#[macro_use]
mod support;

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use support::images::Layer;
use support::{Identity, Image, images};

/// Runs a shell command in the small image with options before it; its output.
#[track_caller]
fn inside(t: &support::Env, options: &[&str], script: &str) -> String {
    t.run_with(options, ["sh", "-c", script]).run().ok().out()
}

/// A line of /proc/self/status, without its name.
#[track_caller]
fn status(t: &support::Env, options: &[&str], field: &str) -> String {
    let line = inside(t, options, &format!("grep '^{field}:' /proc/self/status"));
    line.split_once(':').map_or_else(
        || panic!("no {field}: {line}"),
        |(_, value)| value.trim().to_owned(),
    )
}

fn capabilities(t: &support::Env, options: &[&str]) -> u64 {
    u64::from_str_radix(&status(t, options, "CapEff"), 16).unwrap()
}

identities! {
    fn environment(t: [sub nosub root]) {
        assert_eq!(inside(t, &["-e", "A=b c", "--env=B="], "echo \"$A|$B|${B-unset}\""), "b c||");
        assert_eq!(inside(t, &["-eA=1", "-e=B=2", "-w/tmp"], "echo $A $B $PWD"), "1 2 /tmp");
        let file = t.file("env", "# a comment\nX=1\nY=two words\n\nPASSED\nABSENT\n");
        let output = t.run_with(&["--env-file", file.to_str().unwrap(), "-e", "ALSO", "-e", "GONE"], ["env"]).env("PASSED", "on").env("ALSO", "this").env("SECRET", "no").run().ok().out();
        for line in ["X=1", "Y=two words", "PASSED=on", "ALSO=this", "HOME=/root", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"] {
            assert!(output.lines().any(|l| l == line), "no {line} in:\n{output}");
        }
        for name in ["SECRET", "ABSENT", "GONE", "XDG_RUNTIME_DIR", "TMPDIR"] {
            assert!(!output.lines().any(|l| l.starts_with(&format!("{name}="))), "{name} is in:\n{output}");
        }
        t.run_with(&["--env-file", "no-such-file"], ["true"]).run().refuses(125, "no-such-file");
    }

    fn variables_that_are_left_out(t: [sub]) {
        let image = Image::busybox().config("Env", serde_json::json!(["A=image", "B=image", "PATH=/bin"])).write_for(t, "variables");
        let env = |options: &[&str]| {
            let run = t.rl(["run", "--rm", "--network", "none"]).args(options).args([&image, "/bin/env"]);
            let run = run.env("http_proxy", "http://proxy:1").env("NO_PROXY", "here").env("FTP_PROXY", "");
            run.run().ok().out().lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let names = |all: &[String]| all.iter().map(|v| v.split('=').next().unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&env(&[])), ["PATH", "HOSTNAME", "container", "A", "B", "HOME"]);
        assert_eq!(names(&env(&["--unsetenv", "A", "--unsetenv=HOME", "--unsetenv", "NONE"])), ["PATH", "HOSTNAME", "container", "B"]);
        // What is asked for is there.
        assert_eq!(env(&["--unsetenv", "A", "-e", "A=asked"]).last().unwrap(), "HOME=/root");
        assert!(env(&["--unsetenv", "A", "-e", "A=asked"]).contains(&"A=asked".to_owned()));
        assert_eq!(env(&["--unsetenv-all", "-e", "B=mine"]), ["B=mine"]);
        // Proxies are passed on to who asks, for they may tell a password.
        assert!(!env(&["--http-proxy=false"]).concat().contains("proxy"));
        let proxies: Vec<String> = env(&["--http-proxy"]).into_iter().filter(|v| v.to_lowercase().contains("proxy")).collect();
        assert_eq!(proxies, ["http_proxy=http://proxy:1", "FTP_PROXY=", "NO_PROXY=here"]);
        assert!(env(&["--http-proxy=true", "-e", "http_proxy=mine", "--unsetenv", "NO_PROXY"]).contains(&"http_proxy=mine".to_owned()));
    }

    fn permissions_of_new_files(t: [sub]) {
        t.keeps_containers();
        assert_eq!(inside(t, &[], "umask"), "0022");
        assert_eq!(inside(t, &["--umask", "077"], "umask; touch /f; stat -c %a /f"), "0077\n600");
        assert_eq!(inside(t, &["--umask=0", "--init"], "umask"), "0000");
        t.rl(["run", "-d", "--name", "box", "--umask", "0007", "--network", "none", images::busybox(), "sleep", "1000"]).run().ok();
        assert_eq!(t.rl(["exec", "box", "sh", "-c", "umask"]).run().ok().out(), "0007");
        assert_eq!(t.rl(["inspect", "-f", "{{.Config.Umask}}", "box"]).run().ok().out(), "0007");
        // What an older one has written says nothing of it.
        let dir = t.rl(["inspect", "-f", "{{.HostnamePath}}", "box"]).run().ok().out();
        t.rl(["stop", "-t", "0", "box"]).run().ok();
        let path = std::path::Path::new(&dir).with_file_name("spec.json");
        let mut spec: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        for field in ["umask", "no_home", "no_hosts", "no_hostname", "volumes_from"] {
            assert!(spec.as_object_mut().unwrap().remove(field).is_some(), "{field}");
        }
        fs::write(&path, spec.to_string()).unwrap();
        t.rl(["start", "box"]).run().ok();
        assert_eq!(t.rl(["exec", "box", "sh", "-c", "umask; echo $HOME"]).run().ok().out(), "0022\n/root");
        t.rl(["rm", "-f", "box"]).run().ok();
        for bad in ["", "8", "1000", "+7", "u=rwx"] {
            t.run_with(&[&format!("--umask={bad}")], ["true"]).run().refuses(125, "umask");
        }
    }

    fn files_of_etc_that_are_the_images_own(t: [sub nosub root]) {
        t.keeps_containers();
        let layer = Layer::new().file("etc/hosts", 0o644, "1.2.3.4 image\n").file("etc/hostname", 0o644, "image\n");
        let image = Image::busybox().layer(layer).write_for(t, "etc");
        let run = |options: &[&str], script: &str| t.rl(["run", "--network", "none"]).args(options).args([&image, "sh", "-c", script]).run();
        assert!(!run(&["--rm"], "cat /etc/hosts /etc/hostname").ok().out().contains("image"));
        let options = ["--name", "box", "--no-hosts", "--no-hostname", "--hostname", "own"];
        assert_eq!(run(&options, "cat /etc/hosts /etc/hostname; hostname; echo more >>/etc/hosts").ok().out(), "1.2.3.4 image\nimage\nown");
        assert_eq!(t.rl(["inspect", "-f", "{{.HostsPath}}{{.HostnamePath}}", "box"]).run().ok().out(), "");
        assert_eq!(t.rl(["start", "-a", "box"]).run().ok().out(), "1.2.3.4 image\nmore\nimage\nown");
        // It is a change as any other.
        assert!(t.rl(["diff", "box"]).run().ok().out().contains("C /etc/hosts"));
        t.rl(["rm", "box"]).run().ok();
        run(&["--rm", "--no-hosts", "--add-host", "a:1.2.3.4"], "true").refuses(125, "--no-hosts");
    }

    fn flags_with_a_word(t: [sub]) {
        let probe = "[ -t 0 ] && echo terminal; touch /x 2>/dev/null && echo writable; echo $$";
        assert_eq!(inside(t, &["--read-only=false", "-it=false", "--init=0"], probe), "writable\n1");
        assert_ne!(inside(t, &["--init=true", "--read-only=T"], probe), "1");
        assert_eq!(inside(t, &["--read-only=1"], probe), "1");
        assert_eq!(t.run(["echo", "--rm=false"]).run().ok().out(), "--rm=false");
        t.run_with(&["--init=maybe"], ["true"]).run().refuses(125, "maybe");
        t.run_with(&["--name=a", "--hostname=b=c=d", "--init=false", "--no-such=1"], ["true"]).run().refuses(125, "--no-such");
    }

    fn exposed_ports(t: [sub]) {
        t.keeps_containers();
        let image = Image::busybox().config("ExposedPorts", serde_json::json!({"80/tcp": {}, "53/udp": {}})).write_for(t, "image");
        let expose = ["--expose", "8000-8001", "--expose", "53/udp", "--expose=8000/tcp"];
        let create = |options: &[&str]| t.rl(["create", "--name", "box"]).args(options).arg(&image).run();
        let inspect = |format: &str| t.rl(["inspect", "-f", format, "box"]).run().ok().out();
        create(&[&expose[..], &["--network", "none"]].concat()).ok();
        let exposed = r#"{"53/udp":{},"80/tcp":{},"8000/tcp":{},"8001/tcp":{}}"#;
        assert_eq!(inspect("{{json .Config.ExposedPorts}} {{.HostConfig.PublishAllPorts}}"), format!("{exposed} false"));
        assert_eq!(inspect("{{json .NetworkSettings.Ports}}"), exposed.replace("{}", "null"));
        let listed = |filter: &str| t.rl(["ps", "-a", "--filter", filter, "--format", "{{.Ports}}"]).run().ok().out();
        assert_eq!(listed("expose=8001"), "80/tcp, 8000-8001/tcp, 53/udp");
        assert_eq!((listed("expose=8001/udp"), listed("publish=8001")), (String::new(), String::new()));
        // What it says of itself an image of it says as well.
        t.rl(["commit", "box", "more"]).run().ok();
        assert_eq!(t.rl(["inspect", "-f", "{{json .Config.ExposedPorts}}", "more"]).run().ok().out(), exposed);
        t.rl(["rm", "box"]).run().ok();
        // Each that is not published by name gets a port of the machine.
        create(&[&expose[..], &["-P", "-p", "127.0.0.1::80"]].concat()).ok();
        let ports = t.rl(["port", "box"]).run().ok().out();
        for inside in ["53/udp", "8000/tcp", "8001/tcp"] {
            assert!(ports.contains(&format!("{inside} -> 0.0.0.0:")) || ports.contains(&format!("{inside} -> [::]:")), "{ports}");
        }
        assert_eq!(ports.lines().filter(|line| line.starts_with("80/tcp -> ")).count(), 1, "{ports}");
        assert!(ports.contains("80/tcp -> 127.0.0.1:"), "{ports}");
        assert_eq!(inspect("{{json .Config.ExposedPorts}} {{.HostConfig.PublishAllPorts}}"), format!("{exposed} true"));
        t.rl(["rm", "box"]).run().ok();
        create(&["--expose", "http"]).refuses(125, "`--expose http`: expected ports such as `80`");
        create(&["-P", "--network", "none"]).refuses(125, "publish");
    }

    fn working_directory(t: [sub nosub root]) {
        assert_eq!(inside(t, &[], "pwd"), "/");
        assert_eq!(inside(t, &["-w", "/tmp"], "pwd"), "/tmp");
        assert_eq!(inside(t, &["--workdir=/new/dir"], "pwd"), "/new/dir");
        t.run_with(&["-w", "relative"], ["true"]).run().refuses(125, "relative");
    }

    fn user(t: [sub root]) {
        assert_eq!(inside(t, &["-u", "app"], "id -u; id -g; id -G; echo $HOME"), "1000\n1000\n1000 1001\n/home/app");
        assert_eq!(inside(t, &["-u", "1000"], "id -u; id -g"), "1000\n1000");
        assert_eq!(inside(t, &["-u", "app:extra"], "id -u; id -g"), "1000\n1001");
        assert_eq!(inside(t, &["-u", "4711:4712"], "id -u; id -g"), "4711\n4712");
        assert_eq!(inside(t, &["-u", "0:app"], "id -u; id -g"), "0\n1000");
        t.run_with(&["-u", "nobody-here"], ["true"]).run().refuses(125, "nobody-here");
        t.run_with(&["-u", "0:nogroup-here"], ["true"]).run().refuses(125, "nogroup-here");
        t.run_with(&["-u", "70000"], ["true"]).run().refuses(125, "70000");
    }

    fn a_user_other_than_root_has_no_capabilities(t: [sub root]) {
        assert_eq!(capabilities(t, &["-u", "app"]), 0);
        assert_ne!(capabilities(t, &[]), 0);
        t.run_with(&["-u", "app"], ["sh", "-c", "echo x >/etc/passwd"]).run().exits(1);
    }

    fn additional_groups(t: [sub root]) {
        assert_eq!(inside(t, &["--group-add", "extra", "--group-add", "4242"], "id -G"), "0 1001 4242");
        t.run_with(&["--group-add", "nogroup-here"], ["true"]).run().refuses(125, "nogroup-here");
    }

    fn groups_that_cannot_be_given(t: [nosub unshared]) {
        let hint = if t.who == Identity::NoSub { "hint: as root: usermod --add-subuids" } else { "hint: leave it out, or start it outside" };
        t.run_with(&["--group-add", "extra"], ["id"]).run().refuses(125, "--group-add").complains(hint);
    }

    fn volumes_from_the_host(t: [sub nosub unshared]) {
        let dir = t.directory("data");
        fs::write(dir.join("in"), "from outside\n").unwrap();
        t.own(&dir.join("in"));
        let volume = format!("{}:/mnt/data", dir.display());
        assert_eq!(inside(t, &["-v", &volume], "cat /mnt/data/in; echo from inside >/mnt/data/out"), "from outside");
        assert_eq!(fs::read_to_string(dir.join("out")).unwrap(), "from inside\n");
        assert_eq!(fs::metadata(dir.join("out")).unwrap().uid(), t.uid(), "root inside is the user outside");
        let readonly = format!("{volume}:ro");
        t.run_with(&["-v", &readonly], ["touch", "/mnt/data/x"]).run().exits(1).complains("Read-only");
        let file = format!("{}:/etc/motd:ro", dir.join("in").display());
        assert_eq!(inside(t, &["-v", &file], "cat /etc/motd"), "from outside");
        t.run_with(&["-v", "/no/such/dir:/x"], ["true"]).run().refuses(125, "/no/such/dir");
        t.run_with(&["-v", &format!("{}:relative", dir.display())], ["true"]).run().refuses(125, "relative");
    }

    fn relative_volumes(t: [sub]) {
        t.directory("here");
        inside(t, &["-v", "./here:/x"], "touch /x/made");
        assert!(t.path("here/made").exists());
    }

    fn named_volumes(t: [sub nosub root]) {
        inside(t, &["-v", "box:/data"], "echo kept >/data/file");
        assert_eq!(inside(t, &["-v", "box:/elsewhere"], "cat /elsewhere/file"), "kept");
        assert_eq!(inside(t, &["-v", "other:/data"], "ls /data"), "");
    }

    fn volumes_of_memory(t: [sub nosub root]) {
        t.rl(["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "--opt", "o=size=2m,mode=0750", "mem"]).run().ok();
        let line = inside(t, &["-v", "mem:/m"], "grep ' /m ' /proc/mounts; stat -c %a /m; touch /m/x; ls /m");
        assert!(line.contains("tmpfs") && line.contains("size=2048k") && line.ends_with("750\nx"), "{line}");
        assert_eq!(inside(t, &["--mount", "type=volume,src=mem,dst=/m,ro"], "ls /m; ! touch /m/x 2>&1"), "touch: /m/x: Read-only file system");
        let options = t.rl(["volume", "inspect", "-f", "{{json .Options}}", "mem"]).run().ok().out();
        assert_eq!(options, r#"{"device":"tmpfs","o":"size=2m,mode=0750","type":"tmpfs"}"#);
        // Owned by whom the option names, inside.
        if t.who.has_many_ids() {
            t.rl(["volume", "create", "-o", "type=tmpfs", "-o", "o=uid=1000,noexec", "app"]).run().ok();
            let line = inside(t, &["-v", "app:/m"], "stat -c %u /m; grep ' /m ' /proc/mounts");
            assert!(line.starts_with("1000\n") && line.contains("noexec"), "{line}");
        }
        // Each container has its own, and is told where that is to be noticed.
        t.rl(["run", "-d", "--name", "one", "--network", "none", "-v", "mem:/m"]).arg(images::busybox()).args(["sleep", "1000"]).run().ok();
        let second = t.run_with(&["-v", "mem:/m"], ["ls", "/m"]).run().ok();
        assert!(second.err().contains("volume `mem` is in memory") && second.err().contains("`one`"), "{}", second.err());
        t.rl(["volume", "rm", "mem"]).run().refuses(1, "in use");
        t.rl(["rm", "-f", "one"]).run().ok();
        t.rl(["volume", "rm", "mem"]).run().ok();
    }

    fn volumes_of_a_directory(t: [sub nosub root]) {
        let dir = t.directory("data");
        // Root of a container of root's is somebody else.
        fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let device = format!("device={}", dir.display());
        let create = |name: &str, o: &str| t.rl(["volume", "create", "-o", "type=none", "-o", &device, "-o", &format!("o={o}"), name]).run();
        create("here", "bind").ok();
        create("fixed", "bind,ro").ok();
        inside(t, &["-v", "here:/bin/d", "-v", "fixed:/f"], "echo made >/bin/d/file; test -e /f/file && ! touch /f/x 2>/dev/null");
        assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "made\n");
        assert_eq!(fs::metadata(&dir).unwrap().uid(), t.uid(), "nobody else's");
        let shown = |name: &str| t.rl(["volume", "inspect", "-f", "{{.Mountpoint}} {{.Options.o}}", name]).run().ok().out();
        assert_eq!(shown("here"), format!("{} bind", dir.display()));
        assert_eq!(shown("fixed"), format!("{} bind,ro", dir.display()));
        create("here", "bind").ok();
        create("here", "bind,ro").refuses(125, "is there already, with other options").complains("hint: `rl volume inspect here`");
        t.rl(["volume", "rm", "here", "fixed"]).run().ok();
        assert!(dir.join("file").exists(), "it is not rl's");
        // Nothing of the image is copied there, though it is empty.
        fs::remove_file(dir.join("file")).unwrap();
        create("here", "bind").ok();
        assert_eq!(inside(t, &["-v", "here:/etc"], "ls /etc | grep passwd || echo none"), "none");
        assert!(fs::read_dir(&dir).unwrap().all(|entry| entry.unwrap().file_name() != "passwd"));
        fs::rename(&dir, t.path("elsewhere")).unwrap();
        t.run_with(&["-v", "here:/x"], ["true"]).run().refuses(125, &dir.display().to_string()).complains("hint: mkdir -p");
        for (words, says) in [(&["type=nfs", "device=:/x"][..], "type=nfs"), (&["o=bind", "device=x"], "device=x"), (&["size=1m"], "`--opt size=1m`")] {
            let words = words.iter().flat_map(|word| ["-o", word]);
            t.rl(["volume", "create"]).args(words).arg("bad").run().refuses(125, says).complains("hint: ");
        }
        assert_eq!(t.rl(["volume", "ls", "-q"]).run().ok().out(), "here");
    }

    fn mounts_spelled_out(t: [sub root]) {
        let dir = t.directory("data");
        let bind = format!("type=bind,source={},target=/a,readonly", dir.display());
        t.run_with(&["--mount", &bind], ["touch", "/a/x"]).run().exits(1).complains("Read-only");
        assert_eq!(inside(t, &["--mount", "type=tmpfs,target=/b,tmpfs-size=1m"], "grep ' /b ' /proc/mounts | cut -d ' ' -f 3"), "tmpfs");
        inside(t, &["--mount", "type=volume,src=named,dst=/c"], "touch /c/x");
        assert_eq!(inside(t, &["-v", "named:/d"], "ls /d"), "x");
        t.run_with(&["--mount", "type=novel,target=/x"], ["true"]).run().refuses(125, "novel");
        t.run_with(&["--mount", "type=bind,source=/,novel=1,target=/x"], ["true"]).run().refuses(125, "novel");
    }

    fn tmpfs(t: [sub nosub root]) {
        let line = inside(t, &["--tmpfs", "/scratch:size=2m,mode=0700"], "grep ' /scratch ' /proc/mounts; stat -c %a /scratch");
        assert!(line.contains("size=2048k") && line.ends_with("700"), "{line}");
        assert!(line.contains("nosuid") && line.contains("nodev"), "{line}");
    }

    fn read_only(t: [sub nosub root]) {
        t.run_with(&["--read-only"], ["touch", "/x"]).run().exits(1).complains("Read-only");
        inside(t, &["--read-only", "--tmpfs", "/x"], "touch /x/y /dev/shm/z; echo >/dev/null");
    }

    fn read_only_without_exception(t: [sub nosub root]) {
        let probe = "for dir in / /tmp /run /var/tmp /dev /dev/shm; do touch $dir/f 2>/dev/null && echo $dir; done; echo x >/dev/null && echo null";
        assert_eq!(inside(t, &["--read-only", "--read-only-tmpfs"], probe), "/tmp\n/run\n/var/tmp\n/dev\n/dev/shm\nnull");
        assert_eq!(inside(t, &["--read-only", "--read-only-tmpfs=false"], probe), "null");
        assert_eq!(inside(t, &["--read-only", "--read-only-tmpfs=false", "--tmpfs", "/tmp", "--tmpfs", "/dev/shm"], probe), "/tmp\n/dev/shm\nnull");
        let mut terminal = t.run_with(&["-it", "--read-only", "--read-only-tmpfs=false"], ["sh", "-c", "tty; echo seen"]).terminal();
        terminal.expect("seen");
        assert!(terminal.wait().success());
    }

    fn host_names(t: [sub nosub root]) {
        assert_eq!(inside(t, &["--hostname", "box.example"], "hostname; cat /etc/hostname; grep -c box.example /etc/hosts"), "box.example\nbox.example\n1");
        let first = inside(t, &[], "hostname");
        assert_ne!(first, inside(t, &[], "hostname"));
        assert_ne!(first, fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim());
        assert_eq!(inside(t, &["--add-host", "there:192.0.2.7"], "grep there /etc/hosts | tr -s '\\t' ' '"), "192.0.2.7 there");
        t.run_with(&["--add-host", "there:nowhere"], ["true"]).run().refuses(125, "nowhere");
    }

    fn entry_points(t: [sub root]) {
        let image = Image::busybox().config("Entrypoint", serde_json::json!(["echo", "entry"])).config("Cmd", serde_json::json!(["command"])).write_for(t, "image");
        let run = |options: &[&str], args: &[&str]| t.rl(["run", "--rm", "--network", "none"]).args(options).arg(&image).args(args).run().ok().out();
        assert_eq!(run(&[], &[]), "entry command");
        assert_eq!(run(&[], &["other", "words"]), "entry other words");
        assert_eq!(run(&["--entrypoint", "printf"], &["%s", "x"]), "x");
        assert_eq!(run(&["--entrypoint", "[\"echo\",\"two words\"]"], &["x"]), "two words x");
        assert_eq!(run(&["--entrypoint", ""], &["echo", "plain"]), "plain");
        // A replaced entry point takes no arguments from the image.
        assert_eq!(run(&["--entrypoint", "echo"], &[]), "");
    }

    fn an_image_says_user_directory_and_environment(t: [sub root]) {
        let image = Image::busybox()
            .config("User", "app".into())
            .config("WorkingDir", "/home/app".into())
            .config("Env", serde_json::json!(["PATH=/bin", "FROM=image"]))
            .write_for(t, "image");
        let output = t.rl(["run", "--rm", "--network", "none", &image, "sh", "-c", "id -un; pwd; echo $FROM $PATH"]).run().ok();
        assert_eq!(output.out(), "app\n/home/app\nimage /bin");
    }

    fn ulimits(t: [sub nosub root]) {
        assert_eq!(inside(t, &["--ulimit", "nofile=100:200", "--ulimit", "core=0"], "ulimit -Sn; ulimit -Hn; ulimit -c"), "100\n200\n0");
        t.run_with(&["--ulimit", "novel=1"], ["true"]).run().refuses(125, "novel");
    }

    fn shared_memory_size(t: [sub nosub root]) {
        assert_eq!(inside(t, &["--shm-size", "3m"], "grep -o ' /dev/shm .*' /proc/mounts | grep -o 'size=[0-9]*k'"), "size=3072k");
        assert_eq!(inside(t, &[], "grep -o ' /dev/shm .*' /proc/mounts | grep -o 'size=[0-9]*k'"), "size=65536k");
    }

    fn kernel_parameters(t: [sub nosub root]) {
        assert_eq!(inside(t, &["--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.shmmni=17"], "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni"), "1\n17");
        t.run_with(&["--sysctl", "vm.swappiness=1"], ["true"]).run().refuses(125, "vm.swappiness");
    }

    fn devices(t: [sub nosub root]) {
        assert_eq!(inside(t, &["--device", "/dev/null:/dev/hole"], "echo x >/dev/hole; test -c /dev/hole && echo device"), "device");
        t.run_with(&["--device", "/dev/no-such"], ["true"]).run().refuses(125, "/dev/no-such");
    }

    fn init_is_pid_1(t: [sub nosub root]) {
        assert_eq!(inside(t, &["--init"], "test $$ != 1 && echo child"), "child");
        assert_eq!(inside(t, &[], "echo $$"), "1");
    }

    fn capability_sets(t: [sub root]) {
        let bit = |capability: u32| 1_u64 << capability;
        // CAP_CHOWN 0, CAP_NET_ADMIN 12, CAP_SYS_ADMIN 21 (linux/capability.h)
        let default = capabilities(t, &[]);
        assert_ne!(default & bit(0), 0);
        assert_eq!(default & (bit(12) | bit(21)), 0);
        assert_eq!(capabilities(t, &["--cap-add", "NET_ADMIN"]), default | bit(12));
        assert_eq!(capabilities(t, &["--cap-add=cap_net_admin", "--cap-drop=chown"]), (default | bit(12)) & !bit(0));
        assert_eq!(capabilities(t, &["--cap-drop", "ALL"]), 0);
        assert_eq!(capabilities(t, &["--cap-drop", "ALL", "--cap-add", "CHOWN"]), bit(0));
        t.run_with(&["--cap-add", "NOVEL"], ["true"]).run().refuses(125, "NOVEL");
    }

    fn security_options(t: [sub root]) {
        assert_eq!(status(t, &[], "Seccomp"), "2");
        assert_eq!(status(t, &["--security-opt", "seccomp=unconfined"], "Seccomp"), "0");
        assert_eq!(status(t, &[], "NoNewPrivs"), "1");
        let profile = t.file("profile.json", r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}"#);
        let option = format!("seccomp={}", profile.display());
        t.run_with(&["--security-opt", &option], ["mkdir", "/x"]).run().exits(1).complains("not supported");
        t.run_with(&["--security-opt", "seccomp=/no/such/profile"], ["true"]).run().refuses(125, "/no/such/profile");
        t.run_with(&["--security-opt", "novel=1"], ["true"]).run().refuses(125, "novel");
        assert_eq!(inside(t, &["--security-opt", "mask=/etc/passwd"], "cat /etc/passwd"), "");
    }

    fn user_namespaces(t: [sub]) {
        let (uid, gid) = (t.uid(), t.uid());
        let map = "tr -s ' ' </proc/self/uid_map";
        let given = fs::read_to_string("/etc/subuid").unwrap();
        let name = format!("{}:", support::identity::name_of(uid));
        let range = given.lines().find_map(|line| line.strip_prefix(&name)).unwrap();
        let (first, count) = range.split_once(':').unwrap();
        assert_eq!(inside(t, &[], map), format!(" 0 {uid} 1\n 1 {first} {count}"));
        assert_eq!(inside(t, &["--userns", "single"], map), format!(" 0 {uid} 1"));
        assert!(!inside(t, &["--userns", "nomap"], map).contains(&format!(" {uid} ")));
        assert_eq!(inside(t, &["--userns", "keep-id"], "id -u; id -g"), format!("{uid}\n{gid}"));
        assert_eq!(inside(t, &["--uidmap", "0:1:2000", "--gidmap", "0:1:2000"], map), format!(" 0 {first} 2000"));
        t.run_with(&["--userns", "novel"], ["true"]).run().refuses(125, "novel");
        t.run_with(&["--uidmap", "0:999999:10", "--gidmap", "0:1:10"], ["true"]).run().refuses(125, "");
    }

    fn namespaces_of_the_host(t: [sub]) {
        let namespace = |name: &str| fs::read_link(format!("/proc/self/ns/{name}")).unwrap().display().to_string();
        for name in ["pid", "ipc", "uts"] {
            let link = format!("readlink /proc/self/ns/{name}");
            assert_eq!(inside(t, &[&format!("--{name}=host")], &link), namespace(name));
            assert_ne!(inside(t, &[&format!("--{name}=private")], &link), namespace(name));
        }
        assert_eq!(t.rl(["run", "--rm", "--network=host", images::busybox(), "readlink", "/proc/self/ns/net"]).run().ok().out(), namespace("net"));
    }

    fn time_zone(t: [sub]) {
        if !std::path::Path::new("/usr/share/zoneinfo/Asia/Tokyo").exists() {
            return support::skip("the package `tzdata` is not installed");
        }
        assert_eq!(inside(t, &["--tz", "Asia/Tokyo"], "date +%z"), "+0900");
        t.run_with(&["--tz", "No/Where"], ["true"]).run().refuses(125, "No/Where");
    }

    fn names_are_unique(t: [sub root]) {
        let mut first = t.run_with(&["--name", "same"], ["sh", "-c", "echo ready; sleep 1000"]).spawn();
        first.expect("ready");
        t.run_with(&["--name", "same"], ["true"]).run().refuses(125, "`same`");
        first.signal(rustix::process::Signal::KILL);
        drop(first);
        t.quiet();
        t.run_with(&["--name", "same"], ["true"]).run().ok();
        t.run_with(&["--name", "bad/name"], ["true"]).run().refuses(125, "bad/name");
    }

    fn labels_and_annotations_are_taken(t: [sub]) {
        let options = ["-l", "a=b", "--label", "c", "--annotation", "d=e", "--stop-signal", "SIGINT"];
        let create = [&["create", "--name", "x", "--network", "none"], &options[..], &[support::images::busybox(), "true"]].concat();
        t.rl(create).run().ok();
        let format = "{{json .Config.Labels}} {{json .HostConfig.Annotations}} {{.Config.StopSignal}}";
        let shown = t.rl(["inspect", "-f", format, "x"]).run().ok().out();
        assert_eq!(shown, r#"{"a":"b","c":""} {"d":"e"} SIGINT"#);
        t.rl(["rm", "x"]).run().ok();
    }

    fn labels_of_files(t: [sub]) {
        let image = Image::busybox().config("Labels", serde_json::json!({"a": "image", "i": "image"})).write_for(t, "labelled");
        t.file("one", "# a comment\na=first\n\n  b=two words\nHOME\n");
        t.file("two", "c=second\nd=second=2\n");
        let options = ["--label", "c=option", "--label-file", "one", "--label-file", "two", "--name", "x", "--network", "none"];
        t.rl(["create"]).args(options).args([&image, "true"]).run().ok();
        let shown = t.rl(["inspect", "-f", "{{json .Config.Labels}}", "x"]).run().ok().out();
        assert_eq!(shown, r#"{"HOME":"","a":"first","b":"two words","c":"option","d":"second=2","i":"image"}"#);
        t.rl(["rm", "x"]).run().ok();
        t.run_with(&["--label-file", "three"], ["true"]).run().refuses(125, "--label-file three").complains("hint: a file you may read");
        t.file("bad", "=x\n");
        t.run_with(&["--label-file", "bad"], ["true"]).run().refuses(125, "--label-file =x");
    }

    fn a_directory_as_root_file_system(t: [sub nosub]) {
        let root = t.directory("rootfs");
        for dir in ["bin", "proc", "sys", "dev", "etc", "tmp"] {
            fs::create_dir(root.join(dir)).unwrap();
            t.own(&root.join(dir));
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        std::os::unix::fs::symlink("busybox", root.join("bin/sh")).unwrap();
        t.own(&root.join("bin/busybox"));
        let path = root.to_str().unwrap();
        assert_eq!(t.rl(["run", "--rm", "--network=none", "--rootfs", path, "/bin/sh", "-c", "echo $$"]).run().ok().out(), "1");
        t.rl(["run", "--rm", "--rootfs", "/no/such/dir", "true"]).run().refuses(125, "/no/such/dir");
    }

    fn choices_are_explained(t: [sub nosub]) {
        t.run_with(&["--verbose"], ["true"]).run().ok().complains("overlay");
    }
}
