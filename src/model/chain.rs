//! An error with its causes as one line.

use std::error::Error;

/// The error and what caused it, joined by `: `. A cause that the error's own text repeats at its end
/// is not said twice.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let line = error.to_string();
        let line = line.split(" (os error").next().unwrap_or_default();
        if !text.contains(line) {
            text.push_str(": ");
            text.push_str(line);
        }
        cause = error.source();
    }
    text
}
