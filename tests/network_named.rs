//! Networks with a name: who reaches whom, by which words, and what becomes of it when something dies.

#[macro_use]
mod support;
mod lan;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};

use lan::*;
use rustix::process::{Pid, Signal, kill_process};
use support::{Env, images, wait_for};

fn network(t: &Env, words: &[&str]) -> String {
    t.rl(["network"]).args(words).run().ok().out()
}

/// A container on a network that waits for its input to end.
fn member<'a>(t: &'a Env, network: &str, name: &str, options: &[&str]) -> Up<'a> {
    Up::start(
        t,
        &[&["--network", network, "--name", name], options].concat(),
    )
}

fn address(t: &Env, network: &str, container: &str) -> String {
    let format = format!("{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}");
    t.rl(["inspect", "-f", &format, container]).run().ok().out()
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

/// The process that carries the frames, of the only network in use.
fn switch(up: &Up<'_>) -> i32 {
    match up.named("rl-switch")[..] {
        [pid] => pid,
        ref all => panic!("{all:?}"),
    }
}

identities! {
    fn members_reach_each_other_by_address_name_and_alias(t: [sub nosub unshared root]) {
        let Some(host) = Host::new() else { return };
        let _asked = {
            host.resolver("nameserver 127.0.0.53\n");
            name_server("127.0.0.53:53")
        };
        network(t, &["create", "a"]);
        let web = member(t, "a", "Web", &["--network-alias", "www", "--network-alias", "store.example"]);
        let ip = address(t, "a", "Web");
        web.inside(|| echo("0.0.0.0:80"));
        let id = t.rl(["ps", "-q"]).run().ok().out();
        let script = format!("for name in {ip} web WWW store.example {id}; do echo to $name | nc -w 20 $name 80 || exit 1; done");
        let out = container(t, &["--network", "a"], &["sh", "-c", &script]).run().ok().out();
        assert_eq!(out, format!("to {ip}\nto web\nto WWW\nto store.example\nto {id}"));
        // A name that nobody has is the world's.
        let out = container(t, &["--network", "a"], &["nslookup", "-type=a", "other.test"]).run().ok().out();
        assert!(out.contains("198.51.100.7"), "{out}");
        let lookup = container(t, &["--network", "a"], &["nslookup", "-type=aaaa", "web"]).run().ok().out();
        assert!(!lookup.contains("198.51") && !lookup.contains("can't"), "{lookup}");
        web.end();
    }

    fn a_name_is_found_again_after_a_restart(t: [sub nosub]) {
        let Some(_host) = Host::new() else { return };
        t.keeps_containers();
        network(t, &["create", "a"]);
        let serve = ["sh", "-c", "echo $HOSTNAME > /tmp/index.html; httpd -f -p 80 -h /tmp"];
        t.rl(["run", "-d", "--name", "db", "--network", "a", "-p", "127.0.0.1:8080:80", "--hostname", "one", images::busybox()]).args(serve).run().ok();
        let fetch = "until wget -qO- http://db/; do :; done";
        let ask = || container(t, &["--network", "a"], &["timeout", "20", "sh", "-c", fetch]).run().ok().out();
        assert_eq!(ask(), "one");
        // Its port is free for itself at once.
        for verb in [&["restart", "-t", "0", "db"][..], &["kill", "db"], &["wait", "db"], &["start", "db"]] {
            t.rl(verb).run().ok();
        }
        assert_eq!(ask(), "one");
        t.rl(["stop", "-t", "0", "db"]).run().ok();
        assert_eq!(address(t, "a", "db"), "");
        let refused = t.rl(["network", "rm", "a"]).run();
        refused.refuses(1, "network `a` is in use by container `db`").complains("hint: rl rm --force db");
        t.rl(["rm", "db"]).run().ok();
        network(t, &["rm", "a"]);
    }

    fn its_address_is_shown(t: [sub]) {
        let Some(_host) = Host::new() else { return };
        network(t, &["create", "--subnet", "10.89.7.0/24", "a"]);
        let one = member(t, "a", "one", &["-p", "8003:90"]);
        let settings = |fields: &[&str]| {
            let fields: Vec<String> = fields.iter().map(|field| format!("{{{{.NetworkSettings.{field}}}}}")).collect();
            t.rl(["inspect", "-f", &fields.join(" "), "one"]).run().ok().out()
        };
        let top = settings(&["IPAddress", "IPPrefixLen", "Gateway", "MacAddress"]);
        assert_eq!(top, settings(&["Networks.a.IPAddress", "Networks.a.IPPrefixLen", "Networks.a.Gateway", "Networks.a.MacAddress"]));
        assert!(top.starts_with("10.89.7.") && top.contains(" 24 10.89.7.1 "), "{top}");
        // slirp4netns, by which it is published, has IPv4 alone.
        assert_eq!(t.rl(["ps", "--format", "{{.Ports}}"]).run().ok().out(), "0.0.0.0:8003->90/tcp");
        one.inside(|| echo("0.0.0.0:90"));
        echoes("127.0.0.1:8003");
        assert!(TcpStream::connect("[::1]:8003").is_err());
        one.end();
    }

    fn a_new_name_is_known_at_once(t: [sub nosub root]) {
        let Some(_host) = Host::new() else { return };
        t.keeps_containers();
        network(t, &["create", "--internal", "a"]);
        let options = ["--name", "db", "--network", "a", "--restart", "always"];
        t.rl(["run", "-d"]).args(options).args([images::busybox(), "sleep", "1000"]).run().ok();
        let ip = address(t, "a", "db");
        let two = member(t, "a", "two", &[]);
        let look = |name: &str| t.rl(["exec", "two", "nslookup", "-type=a", name]).run();
        assert!(look("db").ok().out().contains(&ip));
        t.rl(["rename", "db", "Store"]).run().ok();
        assert!(look("store").ok().out().contains(&ip));
        assert!(look("db").exits(1).out().contains("NXDOMAIN"));
        // By another switch as well, and after the command was started again.
        let before = switch(&two);
        kill(before);
        wait_for("another switch", || two.named("rl-switch").iter().any(|pid| *pid != before));
        wait_for("the new name", || look("store").status.success());
        let pid = || t.rl(["inspect", "-f", "{{.State.Pid}}", "Store"]).run().ok().out().parse::<i32>().unwrap();
        kill(pid());
        let restarts = || t.rl(["inspect", "-f", "{{.RestartCount}} {{.State.Status}}", "Store"]).run().ok().out();
        wait_for("the restart", || restarts() == "1 running");
        assert!(look("store").ok().out().contains(&ip));
        look("db").exits(1);
        let told = t.rl(["events", "--since", "1h", "--until", "0s", "--filter", "event=die", "--format", "{{.Actor.Attributes.name}}"]);
        assert_eq!(told.run().ok().out(), "Store");
        two.end();
        t.rl(["rm", "-f", "Store"]).run().ok();
    }

    fn a_closed_port_of_the_gateway_refuses(t: [sub nosub unshared root]) {
        let Some(_host) = Host::new() else { return };
        network(t, &["create", "a"]);
        network(t, &["create", "--internal", "b"]);
        for (name, gateway) in [("a", "10.89.0.1:4399"), ("b", "10.89.1.1:4399"), ("b", "10.89.1.1:53")] {
            let up = member(t, name, "up", &[]);
            let knock = || up.inside(|| TcpStream::connect_timeout(&gateway.parse().unwrap(), support::deadline()));
            assert_eq!(knock().unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused, "{gateway}");
            up.end();
        }
        // The same where there is a veth pair instead of a tap.
        run(&["mount -t tmpfs none /dev/net"]);
        let up = member(t, "a", "up", &[]);
        let knock = up.inside(|| TcpStream::connect_timeout(&"10.89.0.1:4399".parse().unwrap(), support::deadline()));
        assert_eq!(knock.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        up.end();
    }

    fn published_ports_lead_to_their_member(t: [sub nosub unshared root]) {
        let Some(host) = Host::new() else { return };
        network(t, &["create", "a"]);
        let one = member(t, "a", "one", &["-p", "127.0.0.1:8001:80", "-p", "8003:90-90/tcp", "-p", "127.0.0.1::80"]);
        let two = member(t, "a", "two", &["-p", "127.0.0.1:8002:80", "-p", "8004:91/udp"]);
        one.inside(|| ["0.0.0.0:80", "0.0.0.0:90"].iter().for_each(|door| echo(door)));
        ["127.0.0.1:8001", "127.0.0.1:8003", "192.0.2.2:8003"].into_iter().for_each(echoes);
        assert!(!ask("127.0.0.1:8002", b"x").is_ok_and(|answer| answer == b"x"), "nobody listens there");
        two.inside(|| {
            echo("0.0.0.0:80");
            echo_udp("0.0.0.0:91");
        });
        echoes("127.0.0.1:8002");
        host.neighbour(|| {
            echoes("192.0.2.2:8003");
            echoes_udp("192.0.2.2:8004");
            assert!(TcpStream::connect("192.0.2.2:8001").is_err());
        });
        one.end();
        assert!(TcpStream::connect("127.0.0.1:8001").is_err(), "closed when its container has ended");
        echoes("127.0.0.1:8002");
        two.end();
    }

    fn the_world_is_reached_unless_the_network_is_internal(t: [sub nosub unshared root]) {
        let Some(host) = Host::new() else { return };
        host.neighbour(|| {
            echo("0.0.0.0:7000");
            echo_udp("0.0.0.0:7001");
        });
        network(t, &["create", "out"]);
        network(t, &["create", "--internal", "in"]);
        let up = member(t, "out", "up", &[]);
        up.inside(|| {
            echoes("192.0.2.1:7000");
            echoes_udp("192.0.2.1:7001");
        });
        up.end();
        let one = member(t, "in", "one", &[]);
        let ip = address(t, "in", "one");
        one.inside(|| {
            echo("0.0.0.0:80");
            assert!(TcpStream::connect("192.0.2.1:7000").is_err());
            // Nor where a member has made itself a route.
            run(&["ip route add default via 10.89.1.1"]);
            assert!(TcpStream::connect_timeout(&"192.0.2.1:7000".parse().unwrap(), BRIEFLY).is_err());
        });
        assert!(one.named("slirp4netns").is_empty());
        let script = format!("echo through | nc {ip} 80; nslookup -type=a other.test");
        let output = container(t, &["--network", "in"], &["sh", "-c", &script]).run().exits(1);
        assert!(output.out().starts_with("through") && output.out().contains("NXDOMAIN"), "{}", output.out());
        let port = ["--network", "in", "-p", "127.0.0.1:8080:80"];
        container(t, &port, &["true"]).run().refuses(125, "network `in` is internal: no port can be published");
        one.end();
    }

    fn networks_do_not_reach_each_other(t: [sub nosub root]) {
        let Some(_host) = Host::new() else { return };
        ["a", "b"].iter().for_each(|name| drop(network(t, &["create", name])));
        let (one, two) = (member(t, "a", "one", &[]), member(t, "b", "two", &[]));
        let ip = address(t, "b", "two");
        two.inside(|| echo("0.0.0.0:80"));
        let door = format!("{ip}:80").parse().unwrap();
        one.inside(|| assert!(TcpStream::connect_timeout(&door, BRIEFLY).is_err()));
        // Not with an address of the other one either.
        one.inside(|| {
            run(&["ip addr add 10.89.1.77/24 dev eth0"]);
            assert!(TcpStream::connect_timeout(&door, BRIEFLY).is_err());
        });
        container(t, &["--network", "a"], &["nslookup", "-type=a", "two"]).run().exits(1);
        let knock = format!("echo through | nc -w 20 {ip} 80");
        assert_eq!(container(t, &["--network", "b"], &["sh", "-c", &knock]).run().ok().out(), "through");
        one.end();
        two.end();
    }

    fn hardware_addresses_of_ones_own(t: [sub nosub root]) {
        let Some(_host) = Host::new() else { return };
        network(t, &["create", "a"]);
        let asked = ["--mac-address", "02:12:34:56:78:9a", "-p", "8003:90"];
        let (one, two) = (member(t, "a", "one", &asked), member(t, "a", "two", &[]));
        let ip = address(t, "a", "one");
        one.inside(|| echo("0.0.0.0:90"));
        let reach = || {
            let script = "ip neigh flush dev eth0 >/dev/null; echo to one | nc -w 20 one 90; ip neigh show dev eth0";
            let out = t.rl(["exec", "two", "sh", "-c", script]).run().ok().out();
            assert!(out.starts_with("to one\n") && out.contains(&format!("{ip} lladdr 02:12:34:56:78:9a ")), "{out}");
            echoes("127.0.0.1:8003");
        };
        reach();
        // Another switch knows it as well.
        kill(switch(&two));
        wait_for("another", || two.named("rl-switch").len() == 1);
        wait_for("both members", || t.rl(["exec", "two", "sh", "-c", "echo x | nc -w 1 one 90"]).run().out() == "x");
        reach();
        let told = t.rl(["network", "inspect", "-f", "{{range .Containers}}{{.Name}} {{.MacAddress}};{{end}}", "a"]).run().ok().out();
        assert!(told.contains("one 02:12:34:56:78:9a;") && told.contains("two 02:42:0a:59:00:"), "{told}");
        let format = "{{.NetworkSettings.MacAddress}} {{.NetworkSettings.Networks.a.MacAddress}}";
        assert_eq!(t.rl(["inspect", "-f", format, "one"]).run().ok().out(), "02:12:34:56:78:9a 02:12:34:56:78:9a");
        for taken in ["02:12:34:56:78:9a", "52:55:f0:00:00:02"] {
            container(t, &["--network", "a", "--mac-address", taken], &["true"]).run().refuses(125, "the hardware address is taken");
        }
        // What is not said by its own address is not heard.
        let wrong = "ip link set eth0 address 02:12:34:56:78:9b";
        one.inside(|| run(&[wrong]));
        let silent = t.rl(["exec", "two", "sh", "-c", "echo x | nc -w 1 one 90"]).run();
        assert_eq!(silent.out(), "");
        one.end();
        two.end();
    }

    fn a_wrong_sender_is_not_heard(t: [sub nosub]) {
        let Some(_host) = Host::new() else { return };
        network(t, &["create", "a"]);
        let (one, two) = (member(t, "a", "one", &[]), member(t, "a", "two", &[]));
        let (from, to) = (address(t, "a", "one"), address(t, "a", "two"));
        let ear = two.inside(|| UdpSocket::bind("0.0.0.0:9").unwrap());
        ear.set_read_timeout(Some(support::deadline())).unwrap();
        let say = |from: &str, word: &[u8]| {
            one.inside(|| UdpSocket::bind((from, 0)).unwrap().send_to(word, (to.as_str(), 9)).unwrap());
        };
        let heard = || {
            let mut word = [0; 16];
            let length = ear.recv(&mut word).unwrap();
            String::from_utf8_lossy(&word[..length]).into_owned()
        };
        say(&from, b"first");
        assert_eq!(heard(), "first");
        one.inside(|| run(&["ip addr add 10.89.0.77/24 dev eth0"]));
        say("10.89.0.77", b"address");
        say(&from, b"second");
        assert_eq!(heard(), "second", "what another address has sent comes no more");
        let neighbours = format!("ip neigh replace {to} lladdr 02:42:0a:59:00:03 dev eth0");
        one.inside(|| run(&["ip link set eth0 address 02:42:0a:59:00:03", &neighbours]));
        say(&from, b"hardware");
        one.inside(|| run(&["ip link set eth0 address 02:42:0a:59:00:02"]));
        say(&from, b"third");
        assert_eq!(heard(), "third");
        one.end();
        two.end();
    }

    fn the_loopback_of_the_host_is_closed_to_members(t: [sub nosub unshared root]) {
        let Some(_host) = Host::new() else { return };
        let loopback = Loopback::listen();
        let doors = [
            "127.0.0.1", "127.0.1.1", "10.89.0.1", "10.89.0.2", "10.89.0.9", "240.0.0.2", "240.0.0.3", "240.0.0.1",
            "192.0.2.1", "192.0.2.2", "10.0.2.2", "0.0.0.0",
        ];
        network(t, &["create", "a"]);
        for options in [&[][..], &["--add-host", "gateway:host-gateway"], &["-p", "127.0.0.1:4400:4321"]] {
            let up = member(t, "a", "up", options);
            up.inside(|| Loopback::knock(&doors));
            assert_eq!(loopback.visitors(), [], "{options:?}");
            up.end();
        }
    }

    fn eight_at_once_on_a_fresh_network(t: [sub nosub root]) {
        let Some(_host) = Host::new() else { return };
        network(t, &["create", "a"]);
        let mut all: Vec<_> = (0..8)
            .map(|_| {
                let script = "ip -o -4 addr show eth0; echo ready; cat";
                container(t, &["--network", "a"], &["sh", "-c", script]).stdin_open().spawn()
            })
            .collect();
        all.iter_mut().for_each(|running| drop(running.expect("ready")));
        let processes = t.processes();
        let switches = processes.iter().filter(|p| p.name == "rl-switch" && p.state != 'Z');
        assert_eq!(switches.count(), 1, "{processes:?}");
        let shown = t.rl(["network", "inspect", "a", "-f", "{{len .Containers}}"]).run().ok().out();
        assert_eq!(shown, "8");
        let mut addresses: Vec<String> = all
            .into_iter()
            .map(|mut running| {
                running.close_stdin();
                let out = running.wait().ok().out();
                out.split_whitespace().find(|word| word.starts_with("10.89.0.")).unwrap_or_else(|| panic!("{out}")).to_owned()
            })
            .collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), 8, "{addresses:?}");
        t.quiet();
    }

    fn a_switch_that_is_killed_is_replaced(t: [sub nosub unshared root]) {
        let Some(_host) = Host::new() else { return };
        network(t, &["create", "a"]);
        let one = member(t, "a", "one", &["-p", "127.0.0.1:8080:80"]);
        let two = member(t, "a", "two", &[]);
        one.inside(|| echo("0.0.0.0:80"));
        let door = format!("{}:80", address(t, "a", "one"));
        // A conversation that is under way goes on.
        let mut stream = two.inside(|| TcpStream::connect(&door).unwrap());
        stream.set_read_timeout(Some(support::deadline())).unwrap();
        for victim in ["rl-switch", "slirp4netns"] {
            let (before, other) = (switch(&one), one.named("slirp4netns"));
            assert_eq!(other.len(), 1, "{:?}", t.processes());
            kill(if victim == "rl-switch" { before } else { other[0] });
            wait_for("another one", || one.named("rl-switch").iter().any(|pid| *pid != before));
            wait_for("its uplink", || one.named("slirp4netns").iter().any(|pid| *pid != other[0]));
            stream.write_all(b"still here").unwrap();
            let mut answer = [0; 10];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"still here", "{victim}");
            wait_for("the published port", || ask("127.0.0.1:8080", b"x").is_ok_and(|answer| answer == b"x"));
            let knock = container(t, &["--network", "a"], &["sh", "-c", "echo through | nc -w 20 one 80"]).run().ok().out();
            assert_eq!(knock, "through", "{victim}");
        }
        let said = two.end() + &one.end();
        assert!(!said.contains("ended"), "nobody need know: {said}");
        t.quiet();
    }

    fn what_keeps_a_switch_from_its_work_is_told(t: [sub]) {
        let Some(_host) = Host::new() else { return };
        if !support::can_trace() {
            return;
        }
        network(t, &["create", "a"]);
        let run = || container(t, &["--network", "a"], &["true"]);
        let output = run().traced(["inject=chroot:error=ENOSPC"]).run();
        output.refuses(125, "the network's switch does not start: chroot(`.`): ENOSPC");
        t.quiet();
        run().run().ok();
    }

    fn a_switch_carries_a_lot_and_has_no_other_system_call(t: [sub nosub root]) {
        const MUCH: usize = 16 << 20;
        let Some(_host) = Host::new() else { return };
        if !support::can_trace() {
            return;
        }
        network(t, &["create", "a"]);
        let one = member(t, "a", "one", &["-p", "127.0.0.1:8080:80"]);
        let two = member(t, "a", "two", &[]);
        one.inside(|| echo("0.0.0.0:80"));
        let door = format!("{}:80", address(t, "a", "one"));
        let first = switch(&one);
        wait_for("the published port", || ask("127.0.0.1:8080", b"x").is_ok_and(|answer| answer == b"x"));
        // Between members, and through the uplink and a published port, at the same time.
        let within = two.inside(|| TcpStream::connect(&door).unwrap());
        let through = TcpStream::connect("127.0.0.1:8080").unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| flood(&within, MUCH));
            scope.spawn(|| flood(&through, MUCH));
        });
        assert_eq!(switch(&one), first, "it is still the same");
        let root = std::fs::read_link(format!("/proc/{first}/root")).unwrap();
        assert!(root.ends_with("a") || root.parent().is_some_and(|dir| dir.ends_with("networks")), "{root:?}");
        let socket = two.inside(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        has_no_other_call(first, || drop(socket.send_to(b"x", &door)));
        wait_for("another one", || one.named("rl-switch").iter().any(|pid| *pid != first));
        two.end();
        one.end();
        t.quiet();
    }

    fn a_monitor_that_is_killed_leaves_nothing(t: [sub nosub root]) {
        let Some(_host) = Host::new() else { return };
        t.keeps_containers();
        network(t, &["create", "a"]);
        let one = member(t, "a", "one", &["-p", "127.0.0.1:8080:80"]);
        let front = one.running.pid();
        // What is neither the front end nor the switch.
        let monitors = || -> Vec<i32> {
            let others = [front, switch(&one)];
            one.named("rl").into_iter().filter(|pid| !others.contains(pid)).collect()
        };
        wait_for("the monitor to be alone", || monitors().len() == 1);
        let monitor = monitors()[0];
        let ip = address(t, "a", "one");
        let two = member(t, "a", "two", &[]);
        kill(monitor);
        one.running.wait().refuses(125, "the container's monitor was killed");
        wait_for("the port to be closed", || TcpListener::bind("127.0.0.1:8080").is_ok());
        let out = container(t, &["--network", "a"], &["sh", "-c", "ip -o -4 addr show eth0; nslookup -type=a one"]).run().exits(1).out();
        assert!(out.contains(&format!("{ip}/24")), "its address is free: {out}");
        two.end();
        t.quiet();
        assert_eq!(network(t, &["prune", "-f"]), "Deleted Networks:\na");
    }

    fn without_its_helper_or_device(t: [sub nosub root]) {
        let Some(host) = Host::new() else { return };
        host.neighbour(|| echo("0.0.0.0:7000"));
        network(t, &["create", "a"]);
        run(&["mount -t tmpfs none /dev/net"]);
        let (one, two) = (member(t, "a", "one", &["-p", "127.0.0.1:8080:80"]), member(t, "a", "two", &[]));
        one.inside(|| echo("0.0.0.0:80"));
        let door = format!("{}:80", address(t, "a", "one"));
        two.inside(|| {
            echoes(&door);
            echoes("192.0.2.1:7000");
        });
        echoes("127.0.0.1:8080");
        one.end();
        two.end();
        host.hide(&["slirp4netns"]);
        let output = container(t, &["--network", "a"], &["true"]).run();
        output.refuses(125, "`slirp4netns` is not installed").complains("hint: as root: apt-get install slirp4netns");
        network(t, &["create", "--internal", "in"]);
        container(t, &["--network", "in"], &["true"]).run().ok();
    }

    fn a_resolver_of_its_own(t: [sub]) {
        let Some(host) = Host::new() else { return };
        host.resolver("nameserver 127.0.0.53\nsearch lan\noptions edns0 trust-ad\n");
        let (theirs, ours) = (host.neighbour(|| name_server("192.0.2.1:53")), name_server("127.0.0.53:53"));
        network(t, &["create", "a"]);
        let look = ["sh", "-c", "cat /etc/resolv.conf; nslookup -type=a name.test"];
        let out = container(t, &["--network", "a"], &look).run().ok().out();
        assert!(out.starts_with("nameserver 10.89.0.1\nsearch lan\noptions edns0 ndots:0\n"), "{out}");
        assert_eq!((theirs.try_iter().count(), ours.try_iter().next().is_some()), (0, true));
        let out = container(t, &["--network", "a", "--dns", "192.0.2.1", "--dns-search", "test"], &look).run().ok().out();
        assert!(out.starts_with("nameserver 10.89.0.1\nsearch test\n") && out.contains("198.51.100.7"), "{out}");
        assert_eq!((theirs.try_iter().next().as_deref(), ours.try_iter().count()), (Some("name.test."), 0));
        container(t, &["--network", "a", "--dns", "2001:db8::1"], &["true"]).run().refuses(125, "`--dns 2001:db8::1`: a network with a name has IPv4 only");
    }

    fn the_words_of_networks(t: [sub nosub root]) {
        let Some(_host) = Host::new() else { return };
        t.keeps_containers();
        let options = ["create", "--subnet", "10.7.0.0/24", "--gateway", "10.7.0.254", "--label", "tier=db", "-l", "x", "wide"];
        assert_eq!(network(t, &options), "wide");
        assert_eq!(network(t, &["create", "--internal", "in"]), "in");
        assert_eq!(network(t, &["ls", "-q"]), "in\nwide");
        assert_eq!(network(t, &["ls", "--filter", "label=tier=db", "--format", "{{.Name}} {{.Driver}} {{.Label \"tier\"}}"]), "wide bridge db");
        assert_eq!(network(t, &["inspect", "wide", "in", "-f", "{{(index .IPAM.Config 0).Subnet}} {{(index .IPAM.Config 0).Gateway}} {{.Internal}}"]),
            "10.7.0.0/24 10.7.0.254 false\n10.89.0.0/24 10.89.0.1 true");
        let refused = |words: &[&str], text: &str, hint: &str| {
            t.rl(["network"]).args(words).run().refuses(125, text).complains(hint);
        };
        refused(&["create", "in"], "network `in` is there already", "hint: `rl network inspect in` shows it");
        assert_eq!(network(t, &["create", "--ignore", "in"]), "in");
        refused(&["create", "host"], "`host` is not a network name", "hint: rl network create backend");
        refused(&["create", "--subnet", "10.7.0.128/25", "x"], "has addresses in common with network `wide` (10.7.0.0/24)", "hint: leave `--subnet` out");
        refused(&["create", "--subnet", "fd00::/64", "x"], "`fd00::/64` is no IPv4 subnet", "hint: rl network create --subnet");
        refused(&["create", "--subnet", "10.8.0.0/24", "--gateway", "10.9.0.1", "x"], "`--gateway 10.9.0.1` is no address of 10.8.0.0/24", "hint: such as `--gateway 10.8.0.1`");
        refused(&["create", "--driver", "macvlan", "x"], "`--driver macvlan`", "hint: leave `--driver` out");
        t.rl(["network", "inspect", "none", "in"]).run().refuses(1, "no such network: `none`");
        refused(&["connect", "in", "x"], "`connect`: the verb of docker and podman is not there yet", "hint: `rl network --help`");
        let several = ["--network", "in", "--network", "wide"];
        container(t, &several, &["true"]).run().refuses(125, "cannot be used multiple times");
        let events = ["events", "--until", "0s", "--since", "1h", "--filter", "network=in", "--format", "{{.Type}} {{.Action}}"];
        assert_eq!(t.rl(events).run().ok().out(), "network create");

        let run = |options: &[&str], command: &[&str]| container(t, options, command).run();
        run(&["--network", "nosuch"], &["true"]).refuses(125, "no such network: `nosuch`").complains("hint: rl network create nosuch");
        run(&["--network", "wide", "--ip", "10.7.0.254"], &["true"]).refuses(125, "`--ip 10.7.0.254`: network `wide` has the addresses of 10.7.0.0/24 except 10.7.0.254");
        run(&["--ip", "10.7.0.9"], &["true"]).refuses(125, "`--ip` needs `--network` with the name of a network");
        run(&["--network", "none", "--network-alias", "x"], &["true"]).refuses(125, "`--network-alias` needs `--network`");
        run(&["--network", "wide", "--network-alias", "a b"], &["true"]).refuses(125, "`a b` is no name for a container on a network");
        run(&["--network", "wide,in"], &["true"]).refuses(125, "`--network wide,in` is not supported yet");
        let up = member(t, "wide", "up", &["--ip", "10.7.0.9", "--network-alias", "other"]);
        let format = "{{.HostConfig.NetworkMode}} {{with .NetworkSettings.Networks.wide}}{{.IPAddress}} {{.IPPrefixLen}} {{.Gateway}} {{.MacAddress}} {{.Aliases}}{{end}}";
        assert_eq!(t.rl(["inspect", "-f", format, "up"]).run().ok().out(), "wide 10.7.0.9 24 10.7.0.254 02:42:0a:07:00:09 [other]");
        run(&["--network", "wide", "--ip", "10.7.0.9"], &["true"]).refuses(125, "address 10.7.0.9 of network `wide` is in use");
        assert_eq!(t.rl(["ps", "--filter", "network=wide", "--format", "{{.Names}} {{.Networks}}"]).run().ok().out(), "up wide");
        assert_eq!(t.rl(["ps", "-q", "--filter", "network=in"]).run().ok().out(), "");
        assert_eq!(network(t, &["ls", "-q", "--filter", "dangling=true"]), "in");
        t.rl(["network", "rm", "wide"]).run().refuses(1, "network `wide` is in use by container `up`");
        // The container's own files say the same.
        let hosts = std::fs::read_to_string(format!("/proc/{}/root/etc/hosts", up.pid)).unwrap();
        assert!(hosts.contains("10.7.0.9\t"), "{hosts}");
        up.end();
        assert_eq!(network(t, &["prune", "--force"]), "Deleted Networks:\nin\nwide");
        assert_eq!(network(t, &["ls", "-q"]), "");
        t.rl(["network", "rm", "wide"]).run().refuses(1, "no such network: `wide`");
        network(t, &["rm", "--force", "wide"]);
    }
}
