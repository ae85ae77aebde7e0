//! Lines for the system's journal, in its own protocol (systemd.io, "Native Journal Protocol").

use std::os::unix::net::UnixDatagram;

const SOCKET: &str = "/run/systemd/journal/socket";

/// A connection to the journal, for one container.
#[derive(Debug)]
pub(super) struct Journal {
    socket: Option<UnixDatagram>,
    /// The fields that are the same in every entry.
    fields: Vec<u8>,
}

impl Journal {
    /// `name` and `id` are those of the container.
    pub fn new(name: &str, id: &str) -> Journal {
        let short: String = id.chars().take(12).collect();
        let fields = format!(
            "CONTAINER_NAME={name}\nCONTAINER_ID={short}\nCONTAINER_ID_FULL={id}\n\
             CONTAINER_TAG={short}\nSYSLOG_IDENTIFIER={short}\n"
        );
        Journal {
            socket: UnixDatagram::unbound().ok(),
            fields: fields.into_bytes(),
        }
    }

    /// One entry a line. `stream` is 1 for standard output, 2 for error.
    pub fn write(&self, stream: u8, bytes: &[u8]) -> std::io::Result<()> {
        let Some(socket) = &self.socket else {
            return Ok(());
        };
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            let mut entry = self.fields.clone();
            let (text, partial) = match line.strip_suffix(b"\n") {
                Some(text) => (text, ""),
                None => (line, "CONTAINER_PARTIAL_MESSAGE=true\n"),
            };
            entry.extend(partial.bytes());
            entry
                .extend(format!("PRIORITY={}\nMESSAGE\n", if stream == 1 { 6 } else { 3 }).bytes());
            entry.extend((text.len() as u64).to_le_bytes());
            entry.extend_from_slice(text);
            entry.push(b'\n');
            socket.send_to(&entry, SOCKET)?;
        }
        Ok(())
    }
}
