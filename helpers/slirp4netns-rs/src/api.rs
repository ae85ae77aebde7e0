//! The API socket of slirp4netns(1): one JSON request per connection, one JSON answer, then end of
//! file. The requests hold numbers and addresses only, so that they need no JSON library.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::{Error, Proto};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);

/// One port to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// TCP or UDP.
    pub proto: Proto,
    /// The host's address.
    pub address: Ipv4Addr,
    /// The host's port.
    pub port: u16,
    /// Whose port it leads to; the namespace's own address where there is only one.
    pub guest: Option<Ipv4Addr>,
    /// The port that it leads to.
    pub target: u16,
}

impl Request {
    fn json(&self) -> String {
        let proto = match self.proto {
            Proto::Tcp => "tcp",
            Proto::Udp => "udp",
        };
        let Request {
            address,
            port,
            target,
            ..
        } = self;
        let guest = self
            .guest
            .map(|guest| format!(r#""guest_addr":"{guest}","#));
        let guest = guest.unwrap_or_default();
        format!(
            r#"{{"execute":"add_hostfwd","arguments":{{"proto":"{proto}","host_addr":"{address}","host_port":{port},{guest}"guest_port":{target}}}}}"#
        )
    }
}

/// Publishes one port.
pub(crate) fn add_hostfwd(socket: &Path, request: &Request) -> Result<(), Error> {
    let answer = exchange(socket, &request.json()).map_err(|source| Error::Api {
        path: socket.to_owned(),
        source,
    })?;
    match refusal(&answer) {
        None => Ok(()),
        Some(reason) => Err(Error::Refused {
            address: request.address,
            port: request.port,
            reason,
        }),
    }
}

/// A request under way, for a caller that waits for several things at once.
#[derive(Debug)]
pub struct Call {
    stream: UnixStream,
    answer: Vec<u8>,
}

/// The longest answer that is looked at, in bytes.
const LONGEST: usize = 4096;

impl Call {
    /// Asks for a port to be published. The API socket is at `socket`.
    ///
    /// # Errors
    /// Those of connect(2) and write(2).
    pub fn publish(socket: &Path, request: &Request) -> io::Result<Call> {
        Call::begin(socket, &request.json())
    }

    /// Asks for the port that was published with this number to be withdrawn.
    ///
    /// # Errors
    /// As [`Call::publish`].
    pub fn withdraw(socket: &Path, id: u64) -> io::Result<Call> {
        let request = format!(r#"{{"execute":"remove_hostfwd","arguments":{{"id":{id}}}}}"#);
        Call::begin(socket, &request)
    }

    fn begin(socket: &Path, request: &str) -> io::Result<Call> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_nonblocking(true)?;
        // Shorter than any socket's queue.
        stream.write_all(request.as_bytes())?;
        stream.shutdown(Shutdown::Write)?;
        Ok(Call {
            stream,
            answer: Vec::new(),
        })
    }

    /// The answer, once all of it is there: the number of the published port (0 for another request), or why not.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn answer(&mut self) -> io::Result<Option<Result<u64, String>>> {
        let mut chunk = [0; 512];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(n) if n > 0 && self.answer.len() < LONGEST => {
                    self.answer.extend_from_slice(&chunk[..n]);
                }
                Ok(_) => break,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        let text = String::from_utf8_lossy(&self.answer);
        Ok(Some(match refusal(&text) {
            Some(reason) => Err(reason),
            None => Ok(id(&text).unwrap_or(0)),
        }))
    }
}

impl AsFd for Call {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// The number in `{"return":{"id":1}}`.
fn id(answer: &str) -> Option<u64> {
    let (_, rest) = answer.split_once("\"id\"")?;
    let digits = rest.trim_start_matches([':', ' ']);
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    digits[..end].parse().ok()
}

fn exchange(socket: &Path, request: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    stream.write_all(request.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// `{"return":…}` is consent; else the `desc` of `{"error":{"desc":"…"}}`, or the whole answer.
fn refusal(answer: &str) -> Option<String> {
    let answer = answer.trim();
    if answer.starts_with("{\"return\"") || answer.starts_with("{ \"return\"") {
        return None;
    }
    let desc = answer
        .split_once("\"desc\"")
        .and_then(|(_, rest)| rest.split('"').nth(1))
        .map(str::to_owned);
    Some(desc.unwrap_or_else(|| {
        if answer.is_empty() {
            "no answer".to_owned()
        } else {
            answer.to_owned()
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        assert_eq!(refusal(r#"{"return":{"id":1}}"#), None);
        let error = r#"{"error":{"desc":"bad request: add_hostfwd: slirp_add_hostfwd failed"}}"#;
        let reason = refusal(error).unwrap();
        assert_eq!(reason, "bad request: add_hostfwd: slirp_add_hostfwd failed");
        assert_eq!(refusal("").as_deref(), Some("no answer"));
        assert_eq!(id(r#"{"return":{"id":17}}"#), Some(17));
        assert_eq!(id(r#"{"return": {"id": 3}}"#), Some(3));
        assert_eq!(id(r#"{"return":{}}"#), None);
    }

    #[test]
    fn requests() {
        let mut request = Request {
            proto: Proto::Tcp,
            address: Ipv4Addr::LOCALHOST,
            port: 8080,
            guest: None,
            target: 80,
        };
        let start = r#"{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_addr":"127.0.0.1","host_port":8080,"#;
        assert_eq!(request.json(), format!(r#"{start}"guest_port":80}}}}"#));
        request.guest = Some(Ipv4Addr::new(10, 89, 0, 2));
        let end = r#""guest_addr":"10.89.0.2","guest_port":80}}"#;
        assert_eq!(request.json(), format!("{start}{end}"));
    }
}
