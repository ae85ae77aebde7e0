//! A machine of the test's own: a network namespace with a loopback device, `eth0` with documentation addresses and
//! default routes, and its own `/etc/resolv.conf`. The test's thread lives there, and so does every program that it
//! starts; nothing listens or is sent outside of it. Into a container's namespace the test goes by setns(2).

// No program of tests uses all of it.
#![allow(dead_code)]

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};

use super::support::{self, Env, Program, Running, images, skip, wait_for};

/// For what must not arrive, and for a packet that is sent again.
pub const BRIEFLY: Duration = Duration::from_secs(1);

/// A machine of the test's own, for as long as the calling thread lives.
pub struct Host {
    pub resolver: tempfile::NamedTempFile,
    /// The network of another machine at the other end of the wire, which is the way to everywhere.
    pub neighbour: File,
}

impl Host {
    /// With a default route in both address families.
    #[track_caller]
    pub fn new() -> Option<Host> {
        let host = Host::offline()?;
        let there = format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            host.neighbour.as_raw_fd()
        );
        run(&[
            "ip link add eth0 type veth peer name wire",
            &format!("ip link set wire netns {there}"),
        ]);
        host.neighbour(|| {
            run(&[
                "ip link set lo up",
                "ip addr add 192.0.2.1/24 dev wire",
                "ip addr add 2001:db8::1/64 dev wire nodad",
                "ip link set wire up",
            ]);
        });
        run(&[
            "ip addr add 192.0.2.2/24 dev eth0",
            "ip addr add 2001:db8::2/64 dev eth0 nodad",
            "ip link set eth0 up",
            "ip route add default via 192.0.2.1",
            "ip route add default via 2001:db8::1",
        ]);
        Some(host)
    }

    /// With nothing but `lo`.
    #[track_caller]
    pub fn offline() -> Option<Host> {
        if !support::identity::is_root() {
            skip("a network namespace of the test's own needs root");
            return None;
        }
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        run(&["mount --make-rprivate /", "ip link set lo up"]);
        let resolver = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
        let path = resolver.path();
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let target = fs::canonicalize("/etc/resolv.conf").unwrap();
        run(&[&format!(
            "mount --bind {} {}",
            path.display(),
            target.display()
        )]);
        let new = || {
            unshare(CloneFlags::CLONE_NEWNET)
                .map(|()| File::open("/proc/thread-self/ns/net").unwrap())
        };
        let neighbour = std::thread::spawn(new).join().unwrap().unwrap();
        let host = Host {
            resolver,
            neighbour,
        };
        host.resolver("nameserver 192.0.2.53\n");
        Some(host)
    }

    /// Does something on the other machine.
    pub fn neighbour<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(&self.neighbour, work)
    }

    /// Gives the machine this `/etc/resolv.conf`.
    pub fn resolver(&self, text: &str) {
        fs::write(self.resolver.path(), text).unwrap();
    }

    /// Makes programs that are installed look as if they were not.
    pub fn hide(&self, programs: &[&str]) {
        let plain = self.resolver.path().display();
        for program in programs {
            for dir in ["/usr/bin", "/usr/sbin", "/usr/local/bin"] {
                let path = fs::canonicalize(format!("{dir}/{program}"));
                if let Ok(path) = path {
                    // Not executable, which is as good as not there.
                    run(&[&format!("mount --bind {plain} {}", path.display())]);
                }
            }
        }
    }
}

pub fn run(lines: &[&str]) {
    for line in lines {
        let output = Command::new("/bin/sh").args(["-c", line]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {said}");
    }
}

pub fn container<'a>(t: &'a Env, options: &[&str], command: &[&str]) -> Program<'a> {
    let program = t.rl(["run", "--rm"]).args(options);
    program.arg(images::busybox()).args(command)
}

/// A container that runs until it is dropped or killed.
pub struct Up<'a> {
    pub env: &'a Env,
    pub running: Running<'a>,
    /// Its first process, as seen from here.
    pub pid: i32,
}

impl<'a> Up<'a> {
    #[track_caller]
    pub fn start(env: &'a Env, options: &[&str]) -> Self {
        let cats = || -> Vec<i32> {
            let all = env.processes();
            let cat = |p: &&support::leak::Process| p.command == "cat";
            all.iter().filter(cat).map(|p| p.pid).collect()
        };
        // Several containers of one test.
        let others = cats();
        let mut running = container(env, options, &["sh", "-c", "echo ready; cat"])
            .stdin_open()
            .spawn();
        running.expect("ready");
        let new = || cats().into_iter().find(|pid| !others.contains(pid));
        wait_for("the command", || new().is_some());
        let pid = new().unwrap();
        Up { env, running, pid }
    }

    /// Does something in the container's network.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(
            &File::open(format!("/proc/{}/ns/net", self.pid)).unwrap(),
            work,
        )
    }

    /// The processes of the test that run this program.
    pub fn named(&self, name: &str) -> Vec<i32> {
        // pasta is a name of passt, which replaces itself with its build for this processor, where it has one.
        let other = if name == "pasta" { "passt" } else { name };
        let all = self.env.processes();
        let is = |p: &&support::leak::Process| {
            (p.name.starts_with(name) || p.name.starts_with(other)) && p.state != 'Z'
        };
        all.iter().filter(is).map(|p| p.pid).collect()
    }

    /// Ends the command, which must have gone well.
    #[track_caller]
    pub fn end(mut self) -> String {
        self.running.close_stdin();
        self.running.wait().ok().err()
    }
}

pub fn inside<T: Send>(namespace: &File, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Bytes that no text conversion leaves alone.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Listens in the current thread's network; everything that comes goes back.
pub fn echo(address: &str) {
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            std::thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
}

/// The same for datagrams.
pub fn echo_udp(address: &str) {
    let socket = UdpSocket::bind(address).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok((n, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..n], from);
        }
    });
}

/// What comes back from an [`echo`] for these bytes.
pub fn ask(address: &str, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(support::deadline()))?;
    let mut answer = Vec::new();
    std::thread::scope(|scope| {
        let mut writer = stream.try_clone()?;
        scope.spawn(move || {
            writer
                .write_all(bytes)
                .and_then(|()| writer.shutdown(Shutdown::Write))
        });
        stream.read_to_end(&mut answer).map(|_| answer)
    })
}

#[track_caller]
pub fn echoes(address: &str) {
    let sent = noise(1 << 20);
    let got = ask(address, &sent).unwrap_or_else(|e| panic!("{address}: {e}"));
    assert!(got == sent, "{address}: {} bytes came back", got.len());
}

#[track_caller]
pub fn echoes_udp(address: &str) {
    let to: SocketAddr = address.parse().unwrap();
    let own = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(own).unwrap();
    socket.set_read_timeout(Some(BRIEFLY)).unwrap();
    let sent = noise(1200);
    let mut got = [0; 2000];
    // A datagram may be lost.
    wait_for(&format!("an answer from {address}"), || {
        socket.send_to(&sent, to).unwrap();
        socket.recv(&mut got).is_ok_and(|n| got[..n] == sent)
    });
}

/// Sockets on the host's loopback, and whether anything ever came.
pub struct Loopback {
    pub tcp: Vec<TcpListener>,
    pub udp: Vec<UdpSocket>,
}

impl Loopback {
    pub const PORT: u16 = 4321;

    pub fn listen() -> Self {
        let all = ["127.0.0.1:4321", "[::1]:4321"];
        let tcp = all.map(|a| TcpListener::bind(a).unwrap()).into();
        let udp = all.map(|a| UdpSocket::bind(a).unwrap()).into();
        let both = Loopback { tcp, udp };
        both.tcp
            .iter()
            .for_each(|s| s.set_nonblocking(true).unwrap());
        both.udp
            .iter()
            .for_each(|s| s.set_nonblocking(true).unwrap());
        both
    }

    /// Who has come since the last time.
    pub fn visitors(&self) -> Vec<SocketAddr> {
        let tcp = self.tcp.iter().filter_map(|s| Some(s.accept().ok()?.1));
        let udp = self
            .udp
            .iter()
            .filter_map(|s| Some(s.recv_from(&mut [0; 9]).ok()?.1));
        tcp.chain(udp).collect()
    }

    /// Knocks at this port of every address, TCP and UDP, from the current thread's network.
    pub fn knock(addresses: &[&str]) {
        std::thread::scope(|scope| {
            for address in addresses {
                let ip: IpAddr = address.parse().unwrap();
                let to = SocketAddr::new(ip, Self::PORT);
                // New threads are in the network of the one that makes them.
                scope.spawn(move || TcpStream::connect_timeout(&to, BRIEFLY).is_ok());
                scope.spawn(move || {
                    let any = if ip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                    UdpSocket::bind(any).and_then(|s| s.send_to(b"knock", to))
                });
            }
        });
    }
}

/// A name server on an address of the host: every name has the address 198.51.100.7. What it was asked
/// comes out of the channel.
pub fn name_server(address: &str) -> Receiver<String> {
    let socket = UdpSocket::bind(address).unwrap();
    let (asked, out) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((n, from)) = socket.recv_from(&mut buffer) {
            let (mut name, mut at) = (String::new(), 12);
            while at < n && buffer[at] != 0 {
                let label = &buffer[at + 1..at + 1 + usize::from(buffer[at])];
                name.push_str(&String::from_utf8_lossy(label));
                name.push('.');
                at += 1 + label.len();
            }
            let question = &buffer[12..at + 5];
            // RFC 1035, 4.1: an answer without error, one record for an A question and none else.
            let is_a = question[question.len() - 3] == 1;
            let mut answer = buffer[..2].to_vec();
            answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
            answer.extend(question);
            if is_a {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 51, 100, 7]);
            }
            let _ = socket.send_to(&answer, from);
            let _ = asked.send(name);
        }
    });
    out
}

/// Sends `much` bytes, a multiple of 64 KiB, to somebody who sends as many at the same time.
#[track_caller]
pub fn flood(stream: &TcpStream, much: usize) {
    stream.set_read_timeout(Some(support::deadline())).unwrap();
    stream.set_write_timeout(Some(support::deadline())).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, chunk) = (stream, [b'x'; 1 << 16]);
            (0..much / chunk.len()).for_each(|_| stream.write_all(&chunk).unwrap());
        });
        let (mut stream, mut got) = (stream, vec![0; 1 << 16]);
        (0..much / got.len()).for_each(|_| stream.read_exact(&mut got).unwrap());
        assert!(got.iter().all(|byte| *byte == b'x'));
    });
}

/// Sees that a process that carries frames has nothing but its work left: no capability, and no system call of another
/// kind. `wake` gives it work, at which strace(1) puts an unrelated call in the place of the one that it waits in.
#[track_caller]
pub fn has_no_other_call(pid: i32, mut wake: impl FnMut()) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for line in ["CapPrm:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line} in {status}");
    }
    let seen = tempfile::NamedTempFile::new().unwrap();
    let calls = "poll,ppoll,epoll_wait,epoll_pwait,epoll_pwait2,restart_syscall";
    let mut strace = Command::new("strace")
        .args(["-q", "-p", &pid.to_string(), "-o"])
        .arg(seen.path())
        .arg(format!("-etrace={calls}"))
        .arg(format!("-einject={calls}:retval=0:syscall=getppid"))
        .spawn()
        .unwrap();
    wait_for("the process to end", || {
        wake();
        strace.try_wait().unwrap().is_some()
    });
    let seen = fs::read_to_string(seen.path()).unwrap();
    assert!(seen.contains("+++ killed by SIGSYS"), "{seen}");
}
