//! The network of a container, on a machine of the test's own (`lan`).

#[macro_use]
mod support;
mod lan;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};

use lan::*;
use rustix::process::{Pid, Signal, kill_process};
use support::{Env, Identity, wait_for};

const HELPERS: [&str; 3] = ["pasta", "slirp4netns", "passt"];

identities! {
    fn none_has_the_loopback_device_only(t: [sub nosub unshared root]) {
        let Some(_host) = Host::new() else { return };
        let script = "ip -o link; cat /etc/resolv.conf; ip route; ip -6 route | grep -v '^ff'; nc -ll -p 7 -e cat & for ip in 127.0.0.1 ::1; do until echo up | nc $ip 7 2>/dev/null; do :; done; done";
        let out = container(t, &["--network", "none"], &["sh", "-c", script]).run().ok().out();
        assert!(out.starts_with("1: lo: <LOOPBACK,UP,LOWER_UP>"), "{out}");
        assert!(!out.contains("2: ") && !out.contains("default") && !out.contains("nameserver"), "{out}");
    }

    fn host_is_the_hosts(t: [sub nosub unshared root]) {
        let Some(_host) = Host::new() else { return };
        echo("127.0.0.1:7000");
        let script = "ip -o addr show eth0; cat /etc/resolv.conf; echo through | nc -w 10 127.0.0.1 7000";
        let out = container(t, &["--network", "host"], &["sh", "-c", script]).run().ok().out();
        for part in ["192.0.2.2/24", "2001:db8::2/64", "nameserver 192.0.2.53", "through"] {
            assert!(out.contains(part), "{part} in {out}");
        }
    }

    fn a_helper_gives_addresses_routes_and_loopback(t: [sub nosub unshared root]) {
        let Some(_host) = Host::new() else { return };
        for (helper, own) in HELPERS.into_iter().zip(["192.0.2.2/24", "10.0.2.100/24", "10.0.2.100/24"]) {
            let script = "ip -o addr; ip route; ip -6 route";
            let out = container(t, &["--network", helper], &["sh", "-c", script]).run().ok().out();
            for part in [own, "127.0.0.1/8", "default via ", "::1/128"] {
                assert!(out.contains(part), "{helper}: {part} in {out}");
            }
        }
    }

    fn the_world_is_reached(t: [sub nosub unshared root]) {
        let Some(host) = Host::new() else { return };
        host.neighbour(|| {
            echo("0.0.0.0:7000");
            echo_udp("0.0.0.0:7001");
        });
        for helper in HELPERS {
            let up = Up::start(t, &["--network", helper]);
            up.inside(|| {
                let sent = noise(1 << 20);
                let mut stream = TcpStream::connect("192.0.2.1:7000").unwrap();
                stream.set_read_timeout(Some(support::deadline())).unwrap();
                std::thread::scope(|scope| {
                    // No end is sent: pasta of 2023 stalls on what comes after ours.
                    let (mut writer, sent) = (stream.try_clone().unwrap(), &sent);
                    scope.spawn(move || writer.write_all(sent).unwrap());
                    let mut got = vec![0; sent.len()];
                    stream.read_exact(&mut got).unwrap();
                    assert!(got == *sent, "{helper}");
                });
                echoes_udp("192.0.2.1:7001");
            });
            up.end();
        }
    }

    fn both_directions_at_once(t: [sub nosub]) {
        let Some(host) = Host::new() else { return };
        // Whoever comes is sent as much as it sends, at the same time.
        const MUCH: usize = 8 << 20;
        host.neighbour(|| {
            let listener = TcpListener::bind("0.0.0.0:7000").unwrap();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    std::thread::spawn(move || flood(&stream.unwrap(), MUCH));
                }
            });
        });
        // The others stall at times by themselves.
        let up = Up::start(t, &["--network", "passt"]);
        up.inside(|| {
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| flood(&TcpStream::connect("192.0.2.1:7000").unwrap(), MUCH));
                }
            });
        });
        up.end();
    }

    fn the_loopback_of_the_host_is_closed(t: [sub nosub unshared root]) {
        let Some(_host) = Host::new() else { return };
        let loopback = Loopback::listen();
        let doors = [
            "127.0.0.1", "::1", "127.0.1.1", "192.0.2.1", "192.0.2.2", "10.0.2.2", "10.0.2.3", "10.0.2.100",
            "169.254.1.1", "fd00::100", "fe80::2", "2001:db8::1", "2001:db8::2", "fd00::2", "fd00::3", "::ffff:127.0.0.1",
        ];
        for options in [vec![], vec!["--add-host", "gateway:host-gateway"], vec!["-p", "127.0.0.1:4400:4321"]] {
            for helper in HELPERS {
                let up = Up::start(t, &[&["--network", helper], options.as_slice()].concat());
                up.inside(|| Loopback::knock(&doors));
                assert_eq!(loopback.visitors(), [], "{helper} {options:?}");
                up.end();
            }
        }
        let up = Up::start(t, &["--network", "none"]);
        up.inside(|| Loopback::knock(&doors));
        assert_eq!(loopback.visitors(), []);
        up.end();
        // The knock is loud enough to be heard where the door is open.
        let up = Up::start(t, &["--network", "host"]);
        up.inside(|| Loopback::knock(&["127.0.0.1", "::1"]));
        assert_eq!(loopback.visitors().len(), 4);
        up.end();
    }

    fn published_ports_are_reached(t: [sub nosub unshared root]) {
        let Some(host) = Host::new() else { return };
        for helper in HELPERS {
            let options = [
                "--network", helper, "-p", "127.0.0.1:8080:80", "-p", "8081:81", "-p", "127.0.0.1:9000-9002:100-102",
                "-p", "127.0.0.1:5300:5353/udp", "-p", "127.0.0.1::82", "-p", "8083:83/udp",
            ];
            let up = Up::start(t, &options);
            up.inside(|| {
                ["80", "81", "82", "100", "101", "102"].iter().for_each(|port| echo(&format!("[::]:{port}")));
                ["5353", "83"].iter().for_each(|port| echo_udp(&format!("0.0.0.0:{port}")));
            });
            let mut doors = vec!["127.0.0.1:8080", "127.0.0.1:8081", "192.0.2.2:8081", "127.0.0.1:9000", "127.0.0.1:9001", "127.0.0.1:9002"];
            if helper == "pasta" {
                doors.push("[::1]:8081");
            }
            doors.into_iter().for_each(echoes);
            // On the host itself, slirp4netns drops the answers (it takes them for calls to the host's loopback),
            // and so does pasta of 2023 where the number inside is the lower one.
            if helper == "pasta" {
                echoes_udp("127.0.0.1:5300");
            }
            host.neighbour(|| {
                echoes("192.0.2.2:8081");
                echoes_udp("192.0.2.2:8083");
                assert!(TcpStream::connect("192.0.2.2:8080").is_err());
            });
            // Only where it was asked for.
            for closed in ["192.0.2.2:8080", "192.0.2.2:9000", "127.0.0.1:9003", "127.0.0.1:80", "[::1]:8080"] {
                assert!(TcpStream::connect(closed).is_err(), "{helper}: {closed}");
            }
            // The port that was picked is shown.
            let table = t.rl(["ps"]).run().ok().out();
            let picked = table.split([' ', ',']).find_map(|word| word.strip_suffix("->82/tcp")).unwrap_or_else(|| panic!("{table}"));
            echoes(picked);
            up.end();
        }
    }

    fn ports_are_shown_as_they_are_bound(t: [sub root]) {
        let Some(_host) = Host::new() else { return };
        for (change, helpers) in [("true", &HELPERS[..]), ("ip -6 route del default", &["pasta"])] {
            run(&[change]);
            for helper in helpers {
                let up = Up::start(t, &["--network", helper, "--name", "box", "-p", "8081:81", "-p", "127.0.0.1:8082:82"]);
                up.inside(|| echo("[::]:81"));
                echoes("127.0.0.1:8081");
                let six = TcpStream::connect("[::1]:8081").is_ok();
                assert_eq!(six, *helper != "slirp4netns" && change == "true", "{helper}");
                let all = if six { &["0.0.0.0", "::"][..] } else { &["0.0.0.0"] };
                let shown = |ip: &&str| if ip.contains(':') { format!("[{ip}]") } else { (*ip).to_owned() };
                let line = |words: &[&str]| t.rl(words).run().ok().out();
                let bound: Vec<String> = all.iter().map(|ip| format!("{}:8081->81/tcp, ", shown(ip))).collect();
                assert_eq!(line(&["ps", "--format", "{{.Ports}}"]), format!("{}127.0.0.1:8082->82/tcp", bound.concat()), "{helper}");
                let doors: Vec<String> = all.iter().map(|ip| format!("{}:8081", shown(ip))).collect();
                assert_eq!(line(&["port", "box", "81"]), doors.join("\n"));
                let every = line(&["port", "--all"]);
                let id = line(&["ps", "-q"]);
                assert!(every.lines().all(|port| port.starts_with(&format!("{id}\t"))) && every.lines().count() == doors.len() + 1, "{every}");
                assert!(every.contains("\t82/tcp -> 127.0.0.1:8082"), "{every}");
                let hosts = line(&["inspect", "-f", "{{range index .NetworkSettings.Ports \"81/tcp\"}}{{.HostIp}} {{end}}", "box"]);
                assert_eq!(hosts.trim(), all.join(" "), "{helper}");
                let asked = line(&["inspect", "-f", "{{json .HostConfig.PortBindings}}", "box"]);
                assert!(asked.contains(r#""81/tcp":[{"HostIp":"","HostPort":"8081"}]"#), "{asked}");
                // What pasta gives is the machine's own.
                let own = line(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}/{{.NetworkSettings.IPPrefixLen}} {{.NetworkSettings.Gateway}}", "box"]);
                assert_eq!(own, if *helper == "pasta" { "/0" } else { "10.0.2.100/24 10.0.2.2" }, "{helper}");
                up.end();
            }
        }
    }

    fn a_hardware_address_of_ones_own(t: [sub nosub root]) {
        let Some(_host) = Host::new() else { return };
        let asked = ["--mac-address", "02-12-34-56-78-9A"];
        for helper in HELPERS {
            let up = Up::start(t, &[&["--network", helper, "--name", "box", "-p", "8081:81"], &asked[..]].concat());
            let seen = t.rl(["exec", "box", "sh", "-c", "cat /sys/class/net/*/address"]).run().ok().out();
            assert!(seen.lines().any(|line| line == "02:12:34:56:78:9a"), "{helper}: {seen}");
            up.inside(|| echo("[::]:81"));
            echoes("127.0.0.1:8081");
            let told = t.rl(["inspect", "-f", "{{.Config.MacAddress}} {{.NetworkSettings.MacAddress}}", "box"]).run().ok().out();
            assert_eq!(told, "02:12:34:56:78:9a 02:12:34:56:78:9a", "{helper}");
            up.end();
        }
        for mode in ["none", "host"] {
            container(t, &[&["--network", mode], &asked[..]].concat(), &["true"]).run()
                .refuses(125, &format!("no hardware address to be chosen with `--network {mode}`")).complains("hint: one goes with pasta");
        }
        for bad in ["02:12:34:56:78", "01:12:34:56:78:9a", "box"] {
            container(t, &["--network", "pasta", "--mac-address", bad], &["true"]).run().refuses(125, "--mac-address").complains("hint: such as");
        }
    }

    fn a_port_on_an_ipv6_address(t: [sub]) {
        let Some(_host) = Host::new() else { return };
        let up = Up::start(t, &["--network", "pasta", "-p", "[::1]:8080:80"]);
        up.inside(|| echo("[::]:80"));
        echoes("[::1]:8080");
        assert!(TcpStream::connect("127.0.0.1:8080").is_err());
        up.end();
        let slirp = ["--network", "slirp4netns", "-p", "[::1]:8080:80"];
        container(t, &slirp, &["true"]).run().refuses(125, "IPv6").complains("hint: use pasta");
    }

    fn a_server_inside_answers_the_host(t: [sub nosub root]) {
        let Some(_host) = Host::new() else { return };
        for helper in HELPERS {
            let server = "mkdir /www; echo from inside > /www/index.html; httpd -p 80 -h /www; echo ready; cat";
            let options = ["--network", helper, "-p", "127.0.0.1:8080:80"];
            let mut running = container(t, &options, &["sh", "-c", server]).stdin_open().spawn();
            running.expect("ready");
            let answer = || ask("127.0.0.1:8080", b"GET / HTTP/1.0\r\n\r\n").unwrap_or_default();
            wait_for("the page", || String::from_utf8_lossy(&answer()).ends_with("from inside\n"));
            running.wait().ok();
        }
    }

    fn ports_that_cannot_be_had_are_refused_before_the_start(t: [sub nosub]) {
        let Some(_host) = Host::new() else { return };
        let _taken = TcpListener::bind("127.0.0.1:8080").unwrap();
        let _udp = UdpSocket::bind("127.0.0.1:8081").unwrap();
        let refused = |ports: &[&str], text: &str| {
            for helper in HELPERS {
                let options: Vec<&str> = ports.iter().flat_map(|p| ["-p", p]).chain(["--network", helper]).collect();
                // Not even the image is looked for.
                let output = t.rl(["run", "--rm"]).args(&options).args(["oci:/no/such/image", "true"]).run();
                output.refuses(125, text);
            }
        };
        refused(&["127.0.0.1:8080:80"], "port 8080/tcp of the host is already in use on 127.0.0.1");
        refused(&["8080:80"], "port 8080/tcp of the host is already in use");
        refused(&["127.0.0.1:8079-8082:79-82"], "port 8080/tcp of the host is already in use");
        refused(&["127.0.0.1:8081:80/udp"], "port 8081/udp of the host is already in use");
        refused(&["127.0.0.1:9000:80", "127.0.0.1:9000:81"], "port 9000/tcp of the host is already in use");
        refused(&["127.0.0.1:80:80"], "port 80 of the host is reserved for root");
        refused(&["192.0.2.77:8000:80"], "`192.0.2.77` is not an address of this host");
        for mode in ["none", "host"] {
            let output = container(t, &["--network", mode, "-p", "127.0.0.1:8000:80"], &["true"]).run();
            output.refuses(125, &format!("ports cannot be published with `--network {mode}`"));
        }
        // A port of the same number of the other protocol is free.
        let up = Up::start(t, &["-p", "127.0.0.1:8080:80/udp", "-p", "127.0.0.1:8081:80/tcp"]);
        up.end();
    }

    fn root_may_publish_a_low_port(t: [root]) {
        let Some(_host) = Host::new() else { return };
        for helper in HELPERS {
            let up = Up::start(t, &["--network", helper, "-p", "127.0.0.1:80:8080"]);
            up.inside(|| echo("[::]:8080"));
            echoes("127.0.0.1:80");
            up.end();
        }
    }

    fn two_containers_at_once(t: [sub nosub]) {
        let Some(_host) = Host::new() else { return };
        for helper in HELPERS {
            let one = Up::start(t, &["--network", helper, "-p", "127.0.0.1:8001:80"]);
            let two = Up::start(t, &["--network", helper, "-p", "127.0.0.1:8002:80"]);
            one.inside(|| echo("[::]:80"));
            echoes("127.0.0.1:8001");
            assert!(!ask("127.0.0.1:8002", b"x").is_ok_and(|answer| answer == b"x"));
            two.inside(|| echo("[::]:80"));
            echoes("127.0.0.1:8002");
            one.end();
            echoes("127.0.0.1:8002");
            two.end();
        }
    }

    fn the_resolver_file(t: [sub nosub unshared root]) {
        let Some(host) = Host::new() else { return };
        let file = |options: &[&str]| container(t, options, &["cat", "/etc/resolv.conf"]).run().ok().out();
        host.resolver("# local\nnameserver 127.0.0.1\nnameserver 192.0.2.53\nsearch lan example.org\noptions edns0\n");
        for helper in HELPERS {
            assert_eq!(file(&["--network", helper]), "nameserver 192.0.2.53\nsearch lan example.org\noptions edns0");
            let given = ["--network", helper, "--dns", "192.0.2.9", "--dns", "2001:db8::9", "--dns-search", "test", "--dns-option", "ndots:3"];
            assert_eq!(file(&given), "nameserver 192.0.2.9\nnameserver 2001:db8::9\nsearch test\noptions ndots:3");
        }
        assert!(file(&["--network", "host"]).starts_with("nameserver 127.0.0.1\nnameserver 192.0.2.53"));
        assert!(!file(&["--network", "none"]).contains("nameserver"));
        assert!(file(&["--network", "none", "--dns", "192.0.2.9"]).starts_with("nameserver 192.0.2.9"));
        for (helper, door) in HELPERS.into_iter().zip(["169.254.1.1", "10.0.2.3", "169.254.1.1"]) {
            host.resolver("nameserver 127.0.0.53\nsearch lan\n");
            assert_eq!(file(&["--network", helper]), format!("nameserver {door}\nsearch lan"));
            host.resolver("");
            assert_eq!(file(&["--network", helper]), format!("nameserver {door}"));
        }
        container(t, &["--dns", "nonsense"], &["true"]).run().refuses(125, "`--dns nonsense`: not an address");
    }

    fn names_are_found_through_a_resolver_on_the_hosts_loopback(t: [sub nosub unshared root]) {
        let Some(host) = Host::new() else { return };
        let asked = name_server("127.0.0.53:53");
        host.resolver("nameserver 127.0.0.53\noptions edns0 trust-ad\n");
        for helper in HELPERS.into_iter().chain(["host"]) {
            let script = "nslookup -type=a name.test && nslookup -type=a other.test";
            let out = container(t, &["--network", helper], &["sh", "-c", script]).run().ok().out();
            assert!(out.contains("198.51.100.7"), "{helper}: {out}");
            let names: Vec<String> = asked.try_iter().collect();
            assert!(["name.test.", "other.test."].iter().all(|n| names.iter().any(|m| m == n)), "{helper}: {names:?}");
        }
        container(t, &["--network", "none"], &["nslookup", "-type=a", "name.test"]).run().exits(1);
        assert_eq!(asked.try_iter().count(), 0);
    }

    fn names_where_the_host_has_one_address_family(t: [sub nosub]) {
        let Some(host) = Host::new() else { return };
        let script = "nslookup -type=a name.test";
        let finds = |options: &[&str]| {
            let out = container(t, options, &["sh", "-c", script]).run().ok().out();
            assert!(out.contains("198.51.100.7"), "{options:?}: {out}");
        };
        let (_six, _four) = (name_server("[::1]:53"), name_server("127.0.0.53:53"));
        run(&["ip -4 route del default", "ip -4 addr flush dev eth0"]);
        host.resolver("nameserver ::1\n");
        for helper in HELPERS {
            finds(&["--network", helper]);
        }
        finds(&[]);
        // pasta has no IPv4 here, in which alone this one can be asked.
        host.resolver("nameserver 127.0.0.53\n");
        finds(&[]);
        run(&["ip addr add 192.0.2.2/24 dev eth0", "ip route add default via 192.0.2.1", "ip -6 route del default", "ip -6 addr flush dev eth0"]);
        finds(&[]);
        host.resolver("nameserver ::1\n");
        finds(&[]);
    }

    fn names_for_hosts(t: [sub nosub unshared root]) {
        let Some(_host) = Host::new() else { return };
        for helper in HELPERS.into_iter().chain(["none", "host"]) {
            let options = ["--network", helper, "--hostname", "box", "--add-host", "db:192.0.2.9", "--add-host", "v6;six=2001:db8::6"];
            let out = container(t, &options, &["cat", "/etc/hosts"]).run().ok().out();
            for line in ["127.0.0.1\tlocalhost", "192.0.2.9\tdb", "2001:db8::6\tv6 six", "\tbox"] {
                assert!(out.contains(line), "{helper}: {line} in {out}");
            }
        }
        container(t, &["--add-host", "db"], &["true"]).run().refuses(125, "`db` is no host entry");
        container(t, &["--network", "none", "--add-host", "gw:host-gateway"], &["true"]).run().refuses(125, "`gw:host-gateway`");
    }

    fn host_gateway_leads_to_the_host(t: [sub nosub root]) {
        let Some(_host) = Host::new() else { return };
        let listener = TcpListener::bind("192.0.2.2:7000").unwrap();
        std::thread::spawn(move || listener.incoming().for_each(|stream| stream.unwrap().write_all(b"the host\n").unwrap()));
        for helper in HELPERS {
            let up = Up::start(t, &["--network", helper, "--add-host", "gw:host-gateway"]);
            let hosts = fs::read_to_string(format!("/proc/{}/root/etc/hosts", up.pid)).unwrap();
            let address = hosts.lines().find_map(|line| line.strip_suffix("\tgw")).unwrap_or_else(|| panic!("{hosts}"));
            // pasta of 2023 does not pass the end of an answer on after that of the question.
            let answer = up.inside(|| {
                let mut stream = TcpStream::connect((address, 7000)).unwrap();
                stream.set_read_timeout(Some(support::deadline())).unwrap();
                let mut answer = [0; 9];
                stream.read_exact(&mut answer).map(|()| answer)
            });
            assert_eq!(&answer.unwrap(), b"the host\n", "{helper}");
            up.end();
        }
    }

    fn ipv6_where_the_host_has_it(t: [sub nosub]) {
        let Some(host) = Host::new() else { return };
        host.neighbour(|| echo("[2001:db8::1]:7000"));
        for helper in HELPERS {
            // The command finds it there, and does not have to wait for a router's advertisement.
            let out = container(t, &["--network", helper], &["sh", "-c", "ip -6 addr; ip -6 route"]).run().ok().out();
            assert!(out.contains("scope global") && out.contains("default via "), "{helper}: {out}");
            let up = Up::start(t, &["--network", helper]);
            up.inside(|| wait_for("the world by IPv6", || TcpStream::connect("[2001:db8::1]:7000").is_ok()));
            up.end();
        }
        run(&["ip -6 route del default", "ip addr del 2001:db8::2/64 dev eth0"]);
        for helper in HELPERS {
            let script = "sleep 2; ip -6 route";
            let out = container(t, &["--network", helper], &["sh", "-c", script]).run().ok().out();
            assert!(!out.contains("default via "), "{helper}: {out}");
        }
    }

    fn a_host_without_a_route(t: [sub nosub unshared root]) {
        let Some(_host) = Host::offline() else { return };
        let up = Up::start(t, &["-p", "127.0.0.1:8080:80"]);
        assert!(!up.named("slirp4netns").is_empty(), "{:?}", t.processes());
        up.inside(|| echo("[::]:80"));
        echoes("127.0.0.1:8080");
        up.end();
    }

    fn a_missing_helper(t: [sub nosub root]) {
        let Some(host) = Host::new() else { return };
        host.hide(&["pasta"]);
        container(t, &["--network", "pasta"], &["true"]).run().refuses(125, "`pasta` is not installed").complains("apt-get install passt");
        let up = Up::start(t, &[]);
        assert!(!up.named("slirp4netns").is_empty(), "the other one is taken");
        up.end();
        host.hide(&["slirp4netns"]);
        let output = container(t, &["--network", "slirp4netns"], &["true"]).run();
        output.refuses(125, "`slirp4netns` is not installed").complains("apt-get install slirp4netns");
        let output = container(t, &[], &["true"]).run();
        output.refuses(125, "neither `pasta` nor `slirp4netns` is installed").complains("--network none");
        container(t, &["--network", "none"], &["true"]).run().ok();
    }

    fn no_tun_device(t: [sub nosub unshared root]) {
        let Some(host) = Host::new() else { return };
        host.neighbour(|| {
            echo("0.0.0.0:7000");
            echo_udp("0.0.0.0:7001");
        });
        run(&["mount -t tmpfs none /dev/net"]);
        let up = Up::start(t, &["-p", "127.0.0.1:8080:80"]);
        assert_eq!(up.named("passt").len(), 1, "{:?}", t.processes());
        up.inside(|| {
            echo("[::]:80");
            echoes_udp("192.0.2.1:7001");
            assert!(TcpStream::connect("192.0.2.1:7000").is_ok());
        });
        echoes("127.0.0.1:8080");
        up.end();
        let output = container(t, &["--verbose"], &["true"]).run().ok();
        output.complains("network passt: /dev/net/tun: No such file or directory");
        container(t, &["--network", "pasta"], &["true"]).run().refuses(125, "open(`/dev/net/tun`, O_RDWR)").complains("as root: modprobe tun");
        host.hide(&["passt"]);
        container(t, &[], &["true"]).run().refuses(125, "open(`/dev/net/tun`, O_RDWR)").complains("apt-get install passt");
    }

    fn a_tun_device_for_root_only(t: [sub nosub]) {
        let Some(host) = Host::new() else { return };
        run(&["mount -t tmpfs none /dev/net", "mknod -m 600 /dev/net/tun c 10 200"]);
        let up = Up::start(t, &[]);
        assert_eq!(up.named("passt").len(), 1, "{:?}", t.processes());
        up.end();
        host.hide(&["passt"]);
        container(t, &[], &["true"]).run().refuses(125, "open(`/dev/net/tun`, O_RDWR)").complains("as root: chmod 0666 /dev/net/tun");
    }

    fn a_helper_that_dies_is_told(t: [sub nosub root]) {
        let Some(_host) = Host::new() else { return };
        for helper in HELPERS {
            let mut up = Up::start(t, &["--network", helper, "-p", "127.0.0.1:8080:80"]);
            let process = up.named(helper);
            assert_eq!(process.len(), 1, "{:?}", t.processes());
            kill_process(Pid::from_raw(process[0]).unwrap(), Signal::KILL).unwrap();
            wait_for("the monitor to reap it", || up.named(helper).is_empty());
            // The command goes on.
            up.running.write(b"still here\n");
            up.running.expect("still here");
            // To those as well who look later.
            let list = t.rl(["ps"]).run().ok().out();
            assert!(list.contains(" (network gone)"), "{list}");
            let err = up.end();
            let told = format!("rl: `{helper}` ended (killed by signal 9): the container has no network from here on\n");
            assert_eq!(err.matches(&told).count(), 1, "{err}");
        }
    }

    fn a_pump_that_dies_is_told(t: [sub nosub root]) {
        let Some(_host) = Host::new() else { return };
        let mut up = Up::start(t, &["--network", "passt"]);
        let pump = up.named("wire");
        assert_eq!(pump.len(), 1, "{:?}", t.processes());
        kill_process(Pid::from_raw(pump[0]).unwrap(), Signal::KILL).unwrap();
        wait_for("passt to end", || up.named("passt").is_empty() && up.named("wire").is_empty());
        up.running.write(b"still here\n");
        up.running.expect("still here");
        let err = up.end();
        assert_eq!(err.matches(": the container has no network from here on\n").count(), 1, "{err}");
    }

    fn a_pump_has_no_other_system_call(t: [sub root]) {
        let Some(_host) = Host::new() else { return };
        if !support::have("strace") {
            return;
        }
        let up = Up::start(t, &["--network", "passt"]);
        let pump = up.named("wire");
        assert_eq!(pump.len(), 1, "{:?}", t.processes());
        let socket = up.inside(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        has_no_other_call(pump[0], || drop(socket.send_to(b"x", "192.0.2.1:9")));
        let err = up.end();
        assert_eq!(err.matches(": the container has no network from here on\n").count(), 1, "{err}");
    }

    fn no_helper_outlives_its_container(t: [sub nosub root]) {
        let Some(_host) = Host::new() else { return };
        for helper in HELPERS {
            let up = Up::start(t, &["--network", helper, "-p", "127.0.0.1:8080:80"]);
            assert!(!up.end().contains("ended"), "a helper that follows its container is no news");
            t.quiet();
            assert!(TcpStream::connect("127.0.0.1:8080").is_err());

            // The monitor is the one of our program's processes that is not the front end.
            t.keeps_containers();
            let up = Up::start(t, &["--network", helper, "-p", "127.0.0.1:8080:80"]);
            let front = up.running.pid();
            let others = || up.named("rl").into_iter().filter(|pid| *pid != front).collect::<Vec<_>>();
            // Who started it for the front end may take a moment to end.
            wait_for("the monitor alone", || others().len() == 1);
            kill_process(Pid::from_raw(others()[0]).unwrap(), Signal::KILL).unwrap();
            up.running.wait().refuses(125, "the container's monitor was killed");
            t.quiet();
            assert!(TcpStream::connect("127.0.0.1:8080").is_err());
        }
    }
}

#[test]
fn what_is_no_network_mode() {
    let Some(t) = Env::new(Identity::Sub) else {
        return;
    };
    container(&t, &["--network", "past"], &["true"])
        .run()
        .refuses(125, "no such network: `past`")
        .complains("hint: rl network create past");
    container(&t, &["--network", "/ns"], &["true"])
        .run()
        .refuses(125, "`/ns` is neither a network mode");
    let output = container(&t, &["--network", "bridge"], &["true"]).run();
    output
        .refuses(125, "`--network bridge` is not supported yet")
        .complains("hint: leave `--network` out");
    container(&t, &["--network", "container:x"], &["true"])
        .run()
        .refuses(125, "not supported yet");
}
