//! D-Bus messages, as far as these calls need them (D-Bus specification, "Message Protocol", "Type System").
//!
//! Values are aligned to their size, counted from the start of the message; the body starts at a multiple of eight, so it
//! can be written by itself.

/// The largest message that the specification allows.
const LIMIT: usize = 128 << 20;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Call,
    Return,
    Error,
    Signal,
}

/// A message that came.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub kind: Kind,
    pub member: Option<String>,
    pub error: Option<String>,
    pub reply_to: Option<u32>,
    body: Vec<u8>,
}

impl Message {
    /// Reads the body from its start.
    pub fn reader(&self) -> Reader<'_> {
        Reader {
            bytes: &self.body,
            at: 0,
        }
    }
}

/// A body that is being written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body {
    bytes: Vec<u8>,
    signature: &'static str,
}

impl Body {
    /// The types of what was written.
    pub fn signed(mut self, signature: &'static str) -> Body {
        self.signature = signature;
        self
    }

    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    /// `u`, `b`.
    pub fn number(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// `t`.
    pub fn long(&mut self, value: u64) {
        self.align(8);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// `s`, `o`.
    pub fn string(&mut self, text: &str) {
        self.number(text.len() as u32);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }

    /// `g`.
    fn signature(&mut self, text: &str) {
        self.bytes.push(text.len() as u8);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }

    /// `a…` of elements that are aligned to `alignment` bytes.
    pub fn array(&mut self, alignment: usize, elements: impl FnOnce(&mut Body)) {
        self.number(0);
        let length_at = self.bytes.len() - 4;
        // The padding before the first element does not count.
        self.align(alignment);
        let start = self.bytes.len();
        elements(self);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// `(sv)`: an element of a list of properties.
    pub fn property(&mut self, name: &str, signature: &str, value: impl FnOnce(&mut Body)) {
        self.align(8);
        self.string(name);
        self.variant(signature, value);
    }

    /// `(sa(sv))`: a unit of its own, with its properties.
    pub fn unit(&mut self, name: &str, properties: impl FnOnce(&mut Body)) {
        self.align(8);
        self.string(name);
        self.array(8, properties);
    }

    fn variant(&mut self, signature: &str, value: impl FnOnce(&mut Body)) {
        self.signature(signature);
        value(self);
    }
}

/// Header fields by their numbers.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

fn message(kind: u8, serial: u32, body: &Body, fields: impl FnOnce(&mut Fields<'_>)) -> Vec<u8> {
    let mut out = Body::default();
    out.bytes.extend_from_slice(&[b'l', kind, 0, 1]);
    out.number(body.bytes.len() as u32);
    out.number(serial);
    out.array(8, |out| {
        let mut all = Fields(out);
        fields(&mut all);
        if !body.signature.is_empty() {
            all.put(SIGNATURE, "g", |out| out.signature(body.signature));
        }
    });
    out.align(8);
    out.bytes.extend_from_slice(&body.bytes);
    out.bytes
}

struct Fields<'a>(&'a mut Body);

impl Fields<'_> {
    fn put(&mut self, field: u8, signature: &str, value: impl FnOnce(&mut Body)) {
        self.0.align(8);
        self.0.bytes.push(field);
        self.0.variant(signature, value);
    }

    fn text(&mut self, field: u8, signature: &str, text: &str) {
        self.put(field, signature, |out| out.string(text));
    }
}

/// A method call.
pub(crate) fn call(
    serial: u32,
    destination: &str,
    path: &str,
    interface: &str,
    member: &str,
    body: &Body,
) -> Vec<u8> {
    message(1, serial, body, |fields| {
        fields.text(PATH, "o", path);
        fields.text(INTERFACE, "s", interface);
        fields.text(MEMBER, "s", member);
        fields.text(DESTINATION, "s", destination);
    })
}

/// The first message of `bytes` and its length; inside `None` while it is not whole, outside where it is none.
#[allow(clippy::option_option)]
pub(crate) fn parse(bytes: &[u8]) -> Option<Option<(Message, usize)>> {
    let Some(start) = bytes.get(..16) else {
        return Some(None);
    };
    if start[0] != b'l' || start[3] != 1 {
        return None;
    }
    let number =
        |at: usize| u32::from_le_bytes([start[at], start[at + 1], start[at + 2], start[at + 3]]);
    let (body, fields) = (number(4) as usize, number(12) as usize);
    let head = 16usize.checked_add(fields)?.checked_next_multiple_of(8)?;
    let length = head.checked_add(body).filter(|n| *n <= LIMIT)?;
    let Some(whole) = bytes.get(..length) else {
        return Some(None);
    };
    let mut message = Message {
        kind: match start[1] {
            1 => Kind::Call,
            2 => Kind::Return,
            3 => Kind::Error,
            4 => Kind::Signal,
            _ => return None,
        },
        member: None,
        error: None,
        reply_to: None,
        body: whole[head..].to_vec(),
    };
    let mut reader = Reader {
        bytes: &whole[..16 + fields],
        at: 16,
    };
    while reader.at < reader.bytes.len() {
        reader.align(8)?;
        let field = reader.byte()?;
        let signature = reader.short_string()?;
        match &*signature {
            "s" | "o" => {
                let text = reader.string()?;
                match field {
                    MEMBER => message.member = Some(text),
                    ERROR_NAME => message.error = Some(text),
                    _ => {}
                }
            }
            "u" => {
                let value = reader.number()?;
                if field == REPLY_SERIAL {
                    message.reply_to = Some(value);
                }
            }
            "g" => drop(reader.short_string()?),
            _ => return None,
        }
    }
    Some(Some((message, length)))
}

/// Reads values one after the other.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) -> Option<()> {
        self.at = self.at.checked_next_multiple_of(to)?;
        (self.at <= self.bytes.len()).then_some(())
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// `u`.
    pub fn number(&mut self) -> Option<u32> {
        self.align(4)?;
        let bytes = self.bytes.get(self.at..self.at + 4)?;
        self.at += 4;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    fn text(&mut self, length: usize) -> Option<String> {
        let end = self.at.checked_add(length)?;
        let text = std::str::from_utf8(self.bytes.get(self.at..end)?).ok()?;
        // A zero byte ends it.
        self.at = end + 1;
        Some(text.to_owned())
    }

    /// `s`, `o`.
    pub fn string(&mut self) -> Option<String> {
        let length = self.number()? as usize;
        self.text(length)
    }

    /// `g`.
    fn short_string(&mut self) -> Option<String> {
        let length = self.byte()? as usize;
        self.text(length)
    }
}

/// What a manager sends, for tests.
#[cfg(test)]
pub(crate) fn signal(
    serial: u32,
    path: &str,
    interface: &str,
    member: &str,
    body: &Body,
) -> Vec<u8> {
    message(4, serial, body, |fields| {
        fields.text(PATH, "o", path);
        fields.text(INTERFACE, "s", interface);
        fields.text(MEMBER, "s", member);
    })
}

#[cfg(test)]
pub(crate) fn reply(serial: u32, to: u32, body: &Body) -> Vec<u8> {
    message(2, serial, body, |fields| {
        fields.put(REPLY_SERIAL, "u", |out| out.number(to));
    })
}

#[cfg(test)]
pub(crate) fn error(serial: u32, to: u32, name: &str, text: &str) -> Vec<u8> {
    let mut body = Body::default();
    body.string(text);
    message(3, serial, &body.signed("s"), |fields| {
        fields.text(ERROR_NAME, "s", name);
        fields.put(REPLY_SERIAL, "u", |out| out.number(to));
    })
}
