//! An error with its causes as one line.

use std::error::Error;

/// The error and what caused it, joined by `: `. A cause that the error's own text repeats at its end
/// is not said twice.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let line = plain(&error.to_string());
        if !plain(&text).contains(&line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        cause = error.source();
    }
    plain(&text)
}

/// Without the numbers that the standard library puts behind the words of an error: ` (os error 2)`.
fn plain(text: &str) -> String {
    const MARK: &str = " (os error ";
    let mut parts = text.split(MARK);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(')') {
            Some((number, rest)) if number.bytes().all(|b| b.is_ascii_digit()) => {
                out.push_str(rest);
            }
            _ => {
                out.push_str(MARK);
                out.push_str(part);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn numbers_of_errors_are_left_out() {
        let text = "open(`x`): No such file (os error 2): gone (os error x), `a` (os error 13)";
        assert_eq!(
            plain(text),
            "open(`x`): No such file: gone (os error x), `a`"
        );
    }
}
