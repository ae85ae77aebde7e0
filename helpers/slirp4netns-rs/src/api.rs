//! The API socket of slirp4netns(1): one JSON request per connection, one JSON answer, then end of
//! file. The requests hold numbers and addresses only, so that they need no JSON library.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::{Error, Proto};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);

/// One port to publish.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) proto: Proto,
    pub(crate) address: Ipv4Addr,
    pub(crate) port: u16,
    pub(crate) target: u16,
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
        format!(
            r#"{{"execute":"add_hostfwd","arguments":{{"proto":"{proto}","host_addr":"{address}","host_port":{port},"guest_port":{target}}}}}"#
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
    }
}
