//! A word to the manager of the service that a front end is: its container's command runs (sd_notify(3), `Type=notify`).

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says it, where somebody listens. Where he cannot be told, `notice` is: without a limit of time he waits for ever.
pub fn tell(notice: &dyn Fn(&str)) {
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET")
        && let Err(error) = send(&socket, b"READY=1")
    {
        let socket = socket.display();
        notice(&format!(
            "the service manager does not hear that the command runs: sendto(`{socket}`): {error}"
        ));
    }
}

/// A name with `@` at its start is an abstract one (unix(7)).
fn send(socket: &OsStr, message: &[u8]) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let channel = UnixDatagram::unbound()?;
    channel.send_to_addr(message, &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_heard_by_path_and_by_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("rl-test-{}", std::process::id());
        let abstractly = SocketAddr::from_abstract_name(&name).unwrap();
        for (socket, address) in [
            (
                path.as_os_str().to_owned(),
                SocketAddr::from_pathname(&path).unwrap(),
            ),
            (format!("@{name}").into(), abstractly),
        ] {
            let listener = UnixDatagram::bind_addr(&address).unwrap();
            send(&socket, b"READY=1").unwrap();
            let mut heard = [0; 16];
            let length = listener.recv(&mut heard).unwrap();
            assert_eq!(&heard[..length], b"READY=1");
        }
    }
}
