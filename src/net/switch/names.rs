//! Questions for names (RFC 1035), as far as it takes to answer those for the members of a network.
//!
//! The questions come from containers. One that is not exactly a question for one name of ordinary length, spelled in
//! one piece, is not understood; what is longer or stranger is somebody else's to answer.

use std::net::Ipv4Addr;

const HEADER: usize = 12;
/// The longest name, as it lies in a message.
const LONGEST_NAME: usize = 255;
/// As many fit into a message of 512 bytes, which everybody takes.
const MOST_ADDRESSES: usize = 12;
/// Types and class.
const A: u16 = 1;
const ANY: u16 = 255;
const INTERNET: u16 = 1;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The name, in small letters, labels divided by dots.
    pub name: String,
    kind: u16,
    /// Where it ends in the message.
    end: usize,
}

/// The question that a message asks; `None` where it is not understood.
pub fn parse(message: &[u8]) -> Option<Question> {
    let word = |place: usize| {
        let bytes = message.get(place..)?.first_chunk::<2>()?;
        Some(u16::from_be_bytes(*bytes))
    };
    // A question (QR 0) of the standard kind (OPCODE 0), and just one.
    if word(2)? & 0xf800 != 0 || word(4)? != 1 || word(6)? != 0 {
        return None;
    }
    let mut name = String::new();
    let mut place = HEADER;
    loop {
        let length = usize::from(*message.get(place)?);
        // Longer ones refer to another place (section 4.1.4), which no single question has need of.
        if length > 63 || place - HEADER + length + 1 > LONGEST_NAME {
            return None;
        }
        let label = message.get(place + 1..place + 1 + length)?;
        place += 1 + length;
        if length == 0 {
            break;
        }
        if !name.is_empty() {
            name.push('.');
        }
        for byte in label {
            if !byte.is_ascii_graphic() || *byte == b'.' {
                return None;
            }
            name.push(char::from(byte.to_ascii_lowercase()));
        }
    }
    let (kind, class) = (word(place)?, word(place + 2)?);
    (class == INTERNET).then_some(Question {
        name,
        kind,
        end: place + 4,
    })
}

/// The answer with these addresses: all there is to a name that has them, so that one of another kind (an IPv6 address)
/// gets none. It is true for the moment: the next start of a container may give it another address.
pub fn answer(message: &[u8], question: &Question, addresses: &[Ipv4Addr]) -> Vec<u8> {
    let wanted = match question.kind {
        A | ANY => addresses,
        _ => &[],
    };
    let mut out = reply(message, question, 0);
    for address in wanted.iter().take(MOST_ADDRESSES) {
        out[7] += 1;
        // The name is the one at the beginning; A, IN, 0 seconds, 4 bytes.
        out.extend([0xc0, HEADER as u8, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        out.extend(address.octets());
    }
    out
}

/// The answer that there is no such name.
pub fn no_such_name(message: &[u8], question: &Question) -> Vec<u8> {
    reply(message, question, 3)
}

/// Header and question of a reply, which has no records yet.
fn reply(message: &[u8], question: &Question, code: u8) -> Vec<u8> {
    let mut out = message[..question.end].to_vec();
    // It is a reply (QR), with authority (AA); whether recursion is desired (RD) is repeated.
    out[2] = 0x84 | out[2] & 1;
    // Recursion is available (RA).
    out[3] = 0x80 | code;
    out[6..HEADER].fill(0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::switch::frame::tests::garbage;

    fn ask(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.').filter(|label| !label.is_empty()) {
            message.push(label.len() as u8);
            message.extend(label.bytes());
        }
        message.push(0);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message
    }

    #[test]
    fn a_name_is_read_in_small_letters() {
        let message = ask("Web-1.Example", A);
        let question = parse(&message).unwrap();
        assert_eq!(question.name, "web-1.example");
        assert_eq!(question.end, message.len());
        assert_eq!(parse(&ask("", A)).unwrap().name, "");
    }

    #[test]
    fn addresses_are_answered_for_and_others_are_not() {
        let ips: Vec<Ipv4Addr> = (0..20).map(|n| Ipv4Addr::new(10, 89, 0, n)).collect();
        let message = ask("db", A);
        let question = parse(&message).unwrap();
        let reply = answer(&message, &question, &ips[..2]);
        assert_eq!(reply[..4], [0x12, 0x34, 0x85, 0x80]);
        assert_eq!(reply[4..12], [0, 1, 0, 2, 0, 0, 0, 0]);
        assert_eq!(reply[reply.len() - 4..], [10, 89, 0, 1]);
        assert_eq!(reply.len(), message.len() + 32);
        assert!(answer(&message, &question, &ips).len() <= 512);
        let aaaa = ask("db", 28);
        let question = parse(&aaaa).unwrap();
        let reply = answer(&aaaa, &question, &ips);
        assert_eq!(reply[2..8], [0x85, 0x80, 0, 1, 0, 0]);
        let reply = no_such_name(&aaaa, &question);
        assert_eq!(reply[3] & 15, 3);
    }

    #[test]
    fn what_is_no_question_is_not_understood() {
        let good = ask("db", A);
        for length in 0..good.len() {
            assert_eq!(parse(&good[..length]), None, "{length} bytes");
        }
        // A reply, another operation, two questions, an answer, a reference, a byte that is no letter, another class.
        for (place, value) in [
            (2, 0x80),
            (2, 8),
            (5, 2),
            (7, 1),
            (12, 0xc0),
            (13, 7),
            (19, 3),
        ] {
            let mut bad = good.clone();
            bad[place] = value;
            assert_eq!(parse(&bad), None, "{value} at {place}");
        }
        let long = vec!["x".repeat(63); 5].join(".");
        assert_eq!(parse(&ask(&long, A)), None);
    }

    #[test]
    fn garbage_is_borne() {
        let mut understood = 0;
        let good = ask("some.name.of.a.container", A);
        garbage(|bytes| {
            let mut message = good.clone();
            let start = bytes.first().map_or(0, |byte| usize::from(*byte)) % message.len();
            for (to, from) in message[start..].iter_mut().zip(bytes.iter().take(3)) {
                *to = *from;
            }
            message.truncate(message.len() - usize::from(bytes.len() % 7 == 0));
            for message in [&message[..], bytes] {
                if let Some(question) = parse(message) {
                    understood += 1;
                    let reply = answer(message, &question, &[Ipv4Addr::LOCALHOST]);
                    assert!(reply.len() <= message.len() + 16);
                    no_such_name(message, &question);
                }
            }
        });
        assert!(understood > 500, "{understood}");
    }
}
