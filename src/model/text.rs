//! Text from outside (names in archives, labels, registry answers) made safe for a terminal.

use std::fmt::Write as _;

/// The text with everything a terminal could obey written as an escape: control characters (C0, DEL,
/// C1) and the Unicode characters that reorder or hide text. A backslash stays a backslash, so what
/// is harmless reads as it is.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push_escaped(&mut out, text);
    out
}

/// Appends what [`escape`] makes of the text.
pub fn push_escaped(out: &mut String, text: &str) {
    // What most text is.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        out.push_str(text);
        return;
    }
    for c in text.chars() {
        push(out, c);
    }
}

/// The same for bytes that may not be UTF-8; what is not becomes `\xNN`.
pub fn escape_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push(&mut out, c);
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// JSON text in which what a terminal would obey stands as `\\uNNNN`: still the same JSON.
pub fn escape_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || escape(c.encode_utf8(&mut [0; 4])).starts_with(c) {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

fn push(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\t' => out.push_str("\\t"),
        '\r' => out.push_str("\\r"),
        c if c.is_control() && u32::from(c) < 0x100 => {
            let _ = write!(out, "\\x{:02x}", u32::from(c));
        }
        // Bidirectional controls, zero-width characters, line and paragraph separators, tags.
        '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{061c}'
        | '\u{feff}'
        | '\u{e0000}'..='\u{e007f}' => {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        }
        c => out.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal() {
        assert_eq!(
            escape("\x1b[31mred\x07\u{9b}31m"),
            "\\x1b[31mred\\x07\\x9b31m"
        );
        assert_eq!(escape("a\u{202e}b\u{200b}"), "a\\u{202e}b\\u{200b}");
        assert_eq!(escape_bytes(b"ok\xff\n"), "ok\\xff\\n");
    }

    #[test]
    fn harmless_text_stays() {
        assert_eq!(escape("naïve 日本 \\ 'x'"), "naïve 日本 \\ 'x'");
    }
}
