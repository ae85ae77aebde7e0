//! The real slirp4netns on a real network namespace, and on none: ready, published port, refusals, death.

#[path = "../../helper-process/tests/support/mod.rs"]
mod support;

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};

use slirp4netns_rs::{Call, Error, Forward, Options, Proto, Request, Target, bess, spawn};
use support::{LIMIT, Namespace, until};

fn program() -> Option<std::path::PathBuf> {
    support::program("slirp4netns", helper_process::TUN)
}

fn tcp(host: u16) -> Forward {
    let address = Some("127.0.0.1".parse().unwrap());
    Forward {
        proto: Proto::Tcp,
        address,
        host,
        target: 8080,
        count: 1,
    }
}

#[test]
fn connects_publishes_and_shows_its_death() {
    let Some(program) = program() else { return };
    let namespace = Namespace::new();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("api");
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let options = Options {
        ipv6: true,
        api_socket: Some(socket.clone()),
        forwards: vec![tcp(free)],
        ..Options::default()
    };
    let command = options.command(&program, &Target::Pid(namespace.pid()));
    let starting = spawn(command, &options).unwrap();
    assert!(helper_process::wait_readable(starting.poll_fd(), LIMIT).unwrap());
    let mut running = starting.finish().unwrap();
    assert!(namespace.interfaces().contains("tap0:"));

    let mut server = namespace
        .inside(&["busybox", "nc", "-l", "-p", "8080", "-e", "echo", "through"])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let mut answer = String::new();
    until("answer through the published port", || {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", free)) else {
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
    drop(running);
    assert!(!socket.exists(), "the socket is gone");
}

#[test]
fn a_taken_port_is_refused_and_nothing_is_left() {
    let Some(program) = program() else { return };
    let namespace = Namespace::new();
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let options = Options {
        api_socket: Some(dir.path().join("api")),
        forwards: vec![tcp(port)],
        ..Options::default()
    };
    let command = options.command(&program, &Target::Pid(namespace.pid()));
    match spawn(command, &options).unwrap().finish() {
        Err(Error::Refused { port: refused, .. }) => assert_eq!(refused, port),
        other => panic!("{other:?}"),
    }
    assert!(!dir.path().join("api").exists());
    until("end of the interface", || {
        !namespace.interfaces().contains("tap0:")
    });
}

#[test]
fn it_ends_with_its_owner() {
    let Some(program) = program() else { return };
    let namespace = Namespace::new();
    let options = Options::default();
    let command = options.command(&program, &Target::Pid(namespace.pid()));
    let running = spawn(command, &options).unwrap().finish().unwrap();
    let pid = running.pid();
    running.stop().unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    until("end of the interface", || {
        !namespace.interfaces().contains("tap0:")
    });
}

/// What comes on the socket for the frames: an Ethernet frame in each message.
fn frame(running: &bess::Running) -> Vec<u8> {
    let mut buffer = vec![0; 70_000];
    assert!(
        helper_process::wait_readable(running.frames(), LIMIT).unwrap(),
        "no frame"
    );
    let flags = rustix::net::RecvFlags::empty();
    let (length, _) = rustix::net::recv(running.frames(), &mut buffer[..], flags).unwrap();
    buffer.truncate(length);
    buffer
}

#[test]
fn a_wire_without_a_namespace() {
    let Some(program) = program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let options = bess::Options {
        network: [240, 0, 0, 0].into(),
        mtu: 65_520,
        sandbox: false,
        socket: dir.path().join("frames"),
        api_socket: dir.path().join("api"),
    };
    let running = bess::spawn(options.command(&program), &options)
        .unwrap()
        .finish()
        .unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let guest: std::net::Ipv4Addr = "10.89.0.5".parse().unwrap();
    let request = Request {
        proto: Proto::Tcp,
        address: "127.0.0.1".parse().unwrap(),
        port,
        guest: Some(guest),
        target: 80,
    };
    let ask = |mut call: Call| {
        let mut answer = None;
        until("answer", || {
            answer = call.answer().unwrap();
            answer.is_some()
        });
        answer.unwrap()
    };
    let publish = || ask(Call::publish(&options.api_socket, &request).unwrap());
    assert!(publish().unwrap_err().contains("hostfwd"));
    drop(taken);
    let id = publish().unwrap();

    // Who knocks is asked for by ARP: who has the guest's address?
    let _knock = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let question = frame(&running);
    assert_eq!(question[12..14], [8, 6]);
    assert_eq!(question[28..32], options.host().octets());
    assert_eq!(question[38..42], guest.octets());

    assert_eq!(ask(Call::withdraw(&options.api_socket, id).unwrap()), Ok(0));
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    let end = running.end_fd().try_clone_to_owned().unwrap();
    drop(running);
    assert!(helper_process::wait_readable(end.as_fd(), LIMIT).unwrap());
    assert!(!options.socket.exists() && !options.api_socket.exists());
}
