//! What a person does first in a real image, through each network helper and with one id only. (The
//! main job with the default network is in `run_debian.rs`.)
//!
//! Packages come from wherever the machine itself gets them (tests/support/fixtures).

#[macro_use]
mod support;

use support::images;

identities! {
    fn a_server_is_installed_and_answers(t: [sub]) {
        let Some(host) = images::registry() else { return };
        for helper in ["pasta", "slirp4netns"] {
            let script = "
                apt-get update -qq
                DEBIAN_FRONTEND=noninteractive apt-get install -y -qq redis-server >/dev/null 2>&1
                redis-server --daemonize yes >/dev/null
                for i in $(seq 100); do redis-cli ping >/dev/null 2>&1 && break; sleep 0.1; done
                redis-cli ping";
            let image = format!("{host}/debian:latest");
            let output = t.rl(["run", "--rm", "--network", helper, &image, "bash", "-ec", script]).run().ok();
            assert!(output.out().ends_with("PONG"), "{helper}: {}{}", output.out(), output.err());
        }
    }

    fn one_id_is_enough_for_a_shell(t: [nosub unshared]) {
        let Some(host) = images::registry() else { return };
        let image = format!("{host}/debian:latest");
        let script = "
            id -u; echo text >/root/file; cat /root/file; mkdir -p /srv/a/b; touch /srv/a/b/c; rm -r /srv/a
            python3 -c 'print(6 * 7)'; git init -q /tmp/r; cd /tmp/r; echo x >f; git add f
            git -c user.name=a -c user.email=a@b commit -qm m; git log --format=%s
            getent hosts localhost >/dev/null && echo names";
        let output = t.rl(["run", "--rm", &image, "bash", "-ec", script]).run().ok();
        assert_eq!(output.out(), "0\ntext\n42\nm\nnames", "{}", output.err());
        // Owners other than the one id do not exist inside, and giving them something is passed over.
        let script = "chown app /root; chgrp shadow /etc/shadow; mknod /tmp/null c 1 3; stat -c %U:%G /root; setpriv --reuid app --clear-groups id -u";
        let output = t.rl(["run", "--rm", "--network", "none", &image, "sh", "-ec", script]).run().ok();
        assert_eq!(output.out(), "root:root\n0");
        let output = t.rl(["run", "--rm", "--network", "none", &image, "chown", "app", "/no/such/file"]).run();
        output.exits(1).complains("No such file");
    }

    fn a_program_with_file_capabilities(t: [sub root]) {
        let Some(host) = images::registry() else { return };
        let image = format!("{host}/debian:latest");
        let ping = |options: &[&str]| t.rl(["run", "--rm", "--network", "none"]).args(options).args([&image, "ping", "-c", "1", "-q", "127.0.0.1"]).run();
        // Through an ICMP socket, which needs no capability; or a raw one.
        for options in [&[] as &[&str], &["--user", "1000:1000"], &["--cap-add", "NET_RAW"]] {
            assert!(ping(options).ok().out().contains("1 received"), "{options:?}");
        }
        // Where files may gain capabilities, the bounding set is what the container holds.
        ping(&["--security-opt", "no-new-privileges=false"]).refuses(126, "exec: `ping`: EPERM").complains("hint: the file has capabilities that the container lacks");
    }
}
