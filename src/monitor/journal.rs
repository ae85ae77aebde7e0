//! Lines for the system's journal, in its own protocol (systemd.io, "Native Journal Protocol").

use std::collections::BTreeMap;
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
    /// `name` and `id` are those of the container; the attributes become fields, as docker's do, but for `tag`, which
    /// is what the entries go by.
    pub fn new(name: &str, id: &str, attributes: &BTreeMap<String, String>) -> Journal {
        let short: String = id.chars().take(12).collect();
        let tag = attributes.get("tag").map_or(&*short, String::as_str);
        let mut fields = Vec::new();
        let own = [
            ("CONTAINER_NAME", name),
            ("CONTAINER_ID", &short),
            ("CONTAINER_ID_FULL", id),
            ("CONTAINER_TAG", tag),
            ("SYSLOG_IDENTIFIER", tag),
        ];
        for (name, value) in own {
            put(&mut fields, name, value.as_bytes());
        }
        for (attribute, value) in attributes {
            let field = field_name(attribute);
            let taken = own.iter().any(|(name, _)| *name == field) || attribute == "tag";
            // These two are of each entry.
            if !taken && !field.is_empty() && !["MESSAGE", "PRIORITY"].contains(&&*field) {
                put(&mut fields, &field, value.as_bytes());
            }
        }
        Journal {
            socket: UnixDatagram::unbound().ok(),
            fields,
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
                Some(text) => (text, false),
                None => (line, true),
            };
            if partial {
                put(&mut entry, "CONTAINER_PARTIAL_MESSAGE", b"true");
            }
            put(
                &mut entry,
                "PRIORITY",
                if stream == 1 { b"6" } else { b"3" },
            );
            put(&mut entry, "MESSAGE", text);
            socket.send_to(&entry, SOCKET)?;
        }
        Ok(())
    }
}

/// A field with its length, whatever is in it.
fn put(entry: &mut Vec<u8>, name: &str, value: &[u8]) {
    entry.extend(name.bytes());
    entry.push(b'\n');
    entry.extend((value.len() as u64).to_le_bytes());
    entry.extend_from_slice(value);
    entry.push(b'\n');
}

/// A field's name is of capital letters, digits and `_`, which it does not begin with (systemd.journal-fields(7)).
fn field_name(attribute: &str) -> String {
    let letter = |c: char| match c.is_ascii_alphanumeric() {
        true => c.to_ascii_uppercase(),
        false => '_',
    };
    let name: String = attribute.chars().map(letter).collect();
    name.trim_start_matches(|c: char| c == '_' || c.is_ascii_digit())
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_fields() {
        let attributes = [
            ("com.example/tier", "a\nb"),
            ("tag", "web"),
            ("message", "mine"),
        ];
        let attributes = attributes.map(|(k, v)| (k.to_owned(), v.to_owned()));
        let journal = Journal::new("box", &"0".repeat(64), &attributes.into());
        let has = |name: &str, value: &str| {
            let mut field = vec![b'\n'];
            put(&mut field, name, value.as_bytes());
            journal.fields.windows(field.len()).any(|w| w == field)
        };
        assert!(has("COM_EXAMPLE_TIER", "a\nb") && has("CONTAINER_TAG", "web"));
        assert!(has("SYSLOG_IDENTIFIER", "web") && has("CONTAINER_ID", &"0".repeat(12)));
        assert!(!has("TAG", "web") && !has("MESSAGE", "mine"));
        assert_eq!(field_name("_1a-b"), "A_B");
    }
}
