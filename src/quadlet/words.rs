//! Words as systemd reads and writes them: quotes and escapes of systemd.syntax(7) ("Quoting") and the command lines
//! of systemd.service(5).
//!
//! Specifiers (`%n`) and variables (`$NAME`) are none of the quoting: systemd expands them after it has taken the
//! words apart, in quotes as well. So a word of the user's passes with them ([`quote`]), and one that shall arrive
//! as it is has them doubled ([`literal`]).

/// Why a text cannot be taken apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A quote that nothing closes.
    #[error("the quote `{0}` is not closed")]
    Open(char),
    /// A backslash at the end.
    #[error("a backslash at the end escapes nothing")]
    Dangling,
    /// An escape that systemd does not know.
    #[error("`\\{0}` is no escape; a backslash is written `\\\\`")]
    Escape(String),
}

/// Takes a text apart at blanks, quotes and escapes undone.
///
/// # Errors
/// [`Error`].
pub fn split(text: &str) -> Result<Vec<String>, Error> {
    let mut words = Vec::new();
    // `Some` as soon as a word has begun, be it with an empty pair of quotes.
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match (c, quote) {
            ('\\', _) => word.get_or_insert_default().push(unescape(&mut rest)?),
            (_, Some(open)) if c == open => quote = None,
            (_, Some(_)) => word.get_or_insert_default().push(c),
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (' ' | '\t' | '\n' | '\r', None) => words.extend(word.take()),
            (_, None) => word.get_or_insert_default().push(c),
        }
    }
    match quote {
        Some(open) => Err(Error::Open(open)),
        None => {
            words.extend(word);
            Ok(words)
        }
    }
}

/// The character behind a backslash.
fn unescape(rest: &mut std::str::Chars<'_>) -> Result<char, Error> {
    let c = rest.next().ok_or(Error::Dangling)?;
    Ok(match c {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        's' => ' ',
        '\\' | '"' | '\'' => c,
        'x' => number(rest, c, 2, 16)?,
        'u' => number(rest, c, 4, 16)?,
        'U' => number(rest, c, 8, 16)?,
        '0'..='7' => {
            let mut digits = String::from(c);
            digits.extend(rest.by_ref().take(2));
            character(&digits, 8).ok_or(Error::Escape(digits))?
        }
        _ => return Err(Error::Escape(c.into())),
    })
}

fn number(
    rest: &mut std::str::Chars<'_>,
    letter: char,
    count: usize,
    radix: u32,
) -> Result<char, Error> {
    let digits: String = rest.by_ref().take(count).collect();
    let all = digits.chars().count() == count;
    character(&digits, radix)
        .filter(|_| all)
        .ok_or_else(|| Error::Escape(format!("{letter}{digits}")))
}

/// Single bytes above 0x7f are no characters, and NUL ends every argument.
fn character(digits: &str, radix: u32) -> Option<char> {
    let plain = digits.chars().all(|c| c.is_digit(radix));
    let code = u32::from_str_radix(digits, radix).ok().filter(|_| plain)?;
    let byte = radix == 8 || digits.len() == 2;
    char::from_u32(code).filter(|_| code != 0 && (!byte || code < 0x80))
}

/// A word as it stands in a command line of a unit. Specifiers and variables keep their meaning.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_@%+=:,./-$".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let mut out = String::from("\"");
    for c in word.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A text in which systemd finds neither specifiers nor variables.
pub fn plain(text: &str) -> String {
    text.replace('%', "%%").replace('$', "$$")
}

/// A word that arrives as it is.
pub fn literal(word: &str) -> String {
    quote(&plain(word))
}

/// A command line of words that are quoted already.
pub fn line<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> String {
    let words: Vec<String> = words.into_iter().map(|w| w.as_ref().to_owned()).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_systemd_splits_them() {
        let ok = |text: &str| split(text).unwrap();
        assert_eq!(ok("  a  b\tc "), ["a", "b", "c"]);
        assert_eq!(ok(r#""a b" 'c "d"' e\sf"#), ["a b", r#"c "d""#, "e f"]);
        assert_eq!(ok(r#"a"b c"d '' "" "#), ["ab cd", "", ""]);
        assert_eq!(ok(r"\x41\102\u00e4\U0001f600\n"), ["AB\u{e4}\u{1f600}\n"]);
        assert_eq!(ok("%n $HOME ${A}"), ["%n", "$HOME", "${A}"]);
        assert_eq!(ok(""), [""; 0]);
        assert_eq!(split("'a"), Err(Error::Open('\'')));
        assert_eq!(split("a\\"), Err(Error::Dangling));
        for bad in ["\\d", "\\x0", "\\xzz", "\\x00", "\\xff", "\\8", "\\u12"] {
            assert!(matches!(split(bad), Err(Error::Escape(_))), "{bad}");
        }
    }

    #[test]
    fn quoting_is_only_where_it_is_needed() {
        assert_eq!(quote("--env=A=%n"), "--env=A=%n");
        assert_eq!(quote(""), "\"\"");
        assert_eq!(quote(";"), "\";\"");
        assert_eq!(quote("a \"b\" \\ \n\x01"), r#""a \"b\" \\ \n\x01""#);
        assert_eq!(literal("50% of $HOME"), "\"50%% of $$HOME\"");
    }

    proptest::proptest! {
        #[test]
        fn what_is_quoted_comes_back(words: Vec<String>) {
            let words: Vec<String> = words.into_iter().map(|w| w.replace('\0', "")).collect();
            let text = line(words.iter().map(|w| quote(w)));
            proptest::prop_assert!(!text.contains('\n'));
            proptest::prop_assert_eq!(split(&text), Ok(words));
        }

        #[test]
        fn splitting_never_panics(text: String) {
            let _ = split(&text);
        }
    }
}
