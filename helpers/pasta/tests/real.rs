//! The real pasta on a real network namespace: ready, published port, refusals, death.

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pasta::{Error, Forward, Options, Proto, Target, spawn};

const LIMIT: Duration = Duration::from_secs(20);

/// Passes the test over, unless the machine is one where everything must work.
fn skip(missing: &str) {
    assert!(
        std::env::var_os("RL_MUST_WORK").is_none(),
        "must not be skipped: {missing}"
    );
    eprintln!("skipped: {missing}");
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "no {what} within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A process in user and network namespaces of its own.
struct Namespace(Child);

impl Namespace {
    fn new() -> Self {
        let child = Command::new("unshare")
            .args(["--user", "--map-root-user", "--net", "sleep", "1000"])
            .spawn()
            .expect("unshare");
        let pid = child.id();
        let is_sleep =
            || std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c == "sleep\n");
        until("namespace", is_sleep);
        Namespace(child)
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn interfaces(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/net/dev", self.pid())).unwrap()
    }

    fn inside(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "-t",
            &self.pid().to_string(),
            "-U",
            "--preserve-credentials",
            "-n",
        ]);
        command.args(words);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program() -> Option<std::path::PathBuf> {
    let found = helper_process::find("pasta", std::env::var_os("PATH").as_deref());
    if found.is_none() {
        skip("pasta");
        return None;
    }
    if helper_process::TUN.open().is_err() {
        skip("/dev/net/tun");
        return None;
    }
    found
}

fn options() -> Options {
    let as_root = rustix::process::geteuid().is_root();
    Options {
        as_root,
        interface: Some("eth0".into()),
        ..Options::default()
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

#[test]
fn connects_publishes_and_shows_its_death() {
    let Some(program) = program() else { return };
    let namespace = Namespace::new();
    let port = free_port();
    let forward = Forward {
        proto: Proto::Tcp,
        address: Some("127.0.0.1".parse().unwrap()),
        host: port,
        target: 8080,
        count: 1,
    };
    let options = Options {
        forwards: vec![forward],
        ..options()
    };
    let command = options.command(&program, &Target::Pid(namespace.pid()));
    let starting = spawn(command).unwrap();
    assert!(helper_process::wait_readable(starting.poll_fd(), LIMIT).unwrap());
    let mut running = starting.finish().unwrap();
    assert!(
        namespace.interfaces().contains("eth0:"),
        "{}",
        namespace.interfaces()
    );
    assert!(!helper_process::wait_readable(running.pidfd(), Duration::ZERO).unwrap());

    let mut server = namespace
        .inside(&["busybox", "nc", "-l", "-p", "8080", "-e", "echo", "through"])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let mut answer = String::new();
    until("answer through the published port", || {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
            return false;
        };
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        answer.clear();
        stream.read_to_string(&mut answer).is_ok() && !answer.is_empty()
    });
    assert_eq!(answer, "through\n");
    let _ = server.kill();
    let _ = server.wait();

    Command::new("kill")
        .args(["-9", &running.pid().to_string()])
        .status()
        .unwrap();
    assert!(
        helper_process::wait_readable(running.pidfd(), LIMIT).unwrap(),
        "death is seen"
    );
    assert!(running.try_wait().unwrap().is_some());
}

#[test]
fn stop_ends_it() {
    let Some(program) = program() else { return };
    let namespace = Namespace::new();
    let command = options().command(&program, &Target::Pid(namespace.pid()));
    let running = spawn(command).unwrap().finish().unwrap();
    let pid = running.pid();
    running.stop().unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn the_host_loopback_is_out_of_reach() {
    let Some(program) = program() else { return };
    let namespace = Namespace::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let _running = spawn(options().command(&program, &Target::Pid(namespace.pid())))
        .unwrap()
        .finish()
        .unwrap();
    let route = namespace
        .inside(&["ip", "route", "show", "default"])
        .output()
        .unwrap();
    let route = String::from_utf8(route.stdout).unwrap();
    let gateway = route.split_whitespace().nth(2).unwrap_or("127.0.0.1");
    for address in ["127.0.0.1", gateway] {
        let probe = ["busybox", "nc", "-w", "2", address, &port];
        let status = namespace
            .inside(&probe)
            .stdin(Stdio::null())
            .output()
            .unwrap()
            .status;
        assert!(!status.success(), "{address}:{port} answers inside");
    }
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "nobody came through");
    // The probe itself works: from outside the same words get through.
    let probe = ["nc", "-w", "2", "127.0.0.1", &port];
    let mut outside = Command::new("busybox")
        .args(probe)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    until("connection from outside", || listener.accept().is_ok());
    let _ = outside.wait();
}

#[test]
fn a_taken_port_is_refused_before_it_is_ready() {
    let Some(program) = program() else { return };
    let namespace = Namespace::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let forward = Forward {
        proto: Proto::Tcp,
        address: Some("127.0.0.1".parse().unwrap()),
        host: taken.local_addr().unwrap().port(),
        target: 80,
        count: 1,
    };
    let options = Options {
        forwards: vec![forward],
        ..options()
    };
    let starting = spawn(options.command(&program, &Target::Pid(namespace.pid()))).unwrap();
    match starting.finish() {
        Err(Error::Died { stderr, .. }) => assert!(stderr.contains("ind"), "{stderr}"),
        other => panic!("{other:?}"),
    }
}
