use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::net::{Publish, choose, reserve};
use crate::sys::tests::skip;

const LIMIT: Duration = Duration::from_secs(20);

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "no {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

struct Namespace(Child);

impl Namespace {
    fn new() -> Self {
        let child = Command::new("unshare")
            .args(["--user", "--map-root-user", "--net", "sleep", "1000"])
            .spawn()
            .unwrap();
        let comm = format!("/proc/{}/comm", child.id());
        until("namespace", || {
            std::fs::read_to_string(&comm).is_ok_and(|c| c == "sleep\n")
        });
        Namespace(child)
    }

    fn inside(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "-t",
            &self.0.id().to_string(),
            "-U",
            "--preserve-credentials",
            "-n",
        ]);
        command.args(words).stdin(Stdio::null());
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the helper of `mode` with a published port and a way to the host, and tries both.
fn carries(mode: Mode) {
    let choice = match choose(Some(mode), std::env::var_os("PATH").as_deref()) {
        Ok(choice) => choice,
        Err(error) => return skip(&error.to_string()),
    };
    let (own, Some(gateway)) = addresses(mode, true) else {
        return skip("a default route");
    };
    let namespace = Namespace::new();
    let dir = tempfile::tempdir().unwrap();
    let ports = reserve(&["127.0.0.1::8080".parse::<Publish>().unwrap()]).unwrap();
    let request = Request {
        pid: namespace.0.id(),
        ports: &ports,
        forward_dns: true,
        host_gateway: true,
        api_socket: dir.path().join("api"),
        // `unshare -r` under host root leaves the namespace to root.
        as_root: rustix::process::geteuid().is_root(),
        other_root: false,
        mac: None,
        member: None,
        apart: |_| {},
    };
    let mut prepared = false;
    let starting = start(&choice, &request, &mut |_| prepared = true)
        .unwrap()
        .unwrap();
    assert!(prepared);
    let mut running = starting.finish().unwrap();
    assert_eq!(running.ended().unwrap(), None);

    let listed = namespace.inside(&["ip", "addr"]).output().unwrap().stdout;
    let own = own.unwrap().to_string();
    assert!(String::from_utf8_lossy(&listed).contains(&own), "{own}");

    // In: through the published port.
    let mut server = namespace
        .inside(&["busybox", "nc", "-l", "-p", "8080", "-e", "echo", "through"])
        .spawn()
        .unwrap();
    let mut answer = String::new();
    until("answer through the published port", || {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", ports[0].host.first)) else {
            return false;
        };
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        answer.clear();
        stream.read_to_string(&mut answer).is_ok() && !answer.is_empty()
    });
    assert_eq!(answer, "through\n");
    let _ = server.kill();
    let _ = server.wait();

    // Out: to the host by its own address, and not by its loopback.
    let host = TcpListener::bind((gateway, 0)).unwrap();
    let port = host.local_addr().unwrap().port().to_string();
    let mut client = namespace
        .inside(&["busybox", "nc", &gateway.to_string(), &port])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    host.set_nonblocking(true).unwrap();
    let mut accepted = None;
    until("connection from inside", || {
        accepted = host.accept().ok();
        accepted.is_some()
    });
    accepted.unwrap().0.write_all(b"host\n").unwrap();
    let mut line = [0u8; 5];
    client.stdout.take().unwrap().read_exact(&mut line).unwrap();
    assert_eq!(&line, b"host\n");
    let _ = client.kill();
    let _ = client.wait();

    let end = running.end_fd().try_clone_to_owned().unwrap();
    running.stop().unwrap();
    assert!(helper_process::wait_readable(end.as_fd(), Duration::ZERO).unwrap());
    assert!(!request.api_socket.exists());
}

#[test]
fn pasta_carries() {
    carries(Mode::Pasta);
}

#[test]
fn slirp4netns_carries() {
    carries(Mode::Slirp4netns);
}

#[test]
fn nothing_to_start_and_nothing_to_publish() {
    let choice = choose(Some(Mode::None), None).unwrap();
    let ports = reserve(&["127.0.0.1::80".parse::<Publish>().unwrap()]).unwrap();
    let mut request = Request {
        pid: 1,
        ports: &[],
        forward_dns: false,
        host_gateway: false,
        api_socket: "/nowhere".into(),
        as_root: false,
        other_root: false,
        mac: None,
        member: None,
        apart: |_| {},
    };
    assert!(start(&choice, &request, &mut |_| {}).unwrap().is_none());
    request.ports = &ports;
    let error = start(&choice, &request, &mut |_| {}).unwrap_err();
    assert_eq!(
        error.to_string(),
        "ports cannot be published with `--network none`"
    );
}
