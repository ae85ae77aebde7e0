//! The real pasta on a real network namespace: ready, published port, refusals, death.

#[path = "../../helper-process/tests/support/mod.rs"]
mod support;

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use pasta::{Error, Forward, Options, Proto, Target, spawn};
use support::{LIMIT, Namespace, until};

fn program() -> Option<std::path::PathBuf> {
    support::program("pasta", helper_process::TUN)
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
    assert!(!helper_process::wait_readable(running.end_fd(), Duration::ZERO).unwrap());

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
        helper_process::wait_readable(running.end_fd(), LIMIT).unwrap(),
        "death is seen"
    );
    assert!(running.try_wait().unwrap().is_some());
}

#[test]
fn stop_ends_it() {
    let Some(program) = program() else { return };
    let namespace = Namespace::new();
    let command = options().command(&program, &Target::Pid(namespace.pid()));
    let mut running = spawn(command).unwrap().finish().unwrap();
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
