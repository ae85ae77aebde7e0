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
        // Owners other than the one id do not exist inside.
        let output = t.rl(["run", "--rm", "--network", "none", &image, "chown", "app", "/root"]).run();
        output.exits(1).complains("Invalid argument");
    }

    fn a_program_with_file_capabilities(t: [sub root]) {
        let Some(host) = images::registry() else { return };
        let image = format!("{host}/debian:latest");
        let ping = |options: &[&str]| t.rl(["run", "--rm", "--network", "none"]).args(options).args([&image, "ping", "-c", "1", "-q", "127.0.0.1"]).run();
        ping(&[]).refuses(126, "exec: `ping`: EPERM").complains("hint: the file has capabilities that the container lacks").complains("--cap-add NET_RAW");
        assert!(ping(&["--cap-add", "NET_RAW"]).ok().out().contains("1 received"));
    }
}
