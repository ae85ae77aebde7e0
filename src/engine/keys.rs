//! The keys that detach a front end from a container.

use super::units;

/// What `--detach-keys` means: bytes to be typed one after the other. Docker's are Ctrl-P, Ctrl-Q.
///
/// # Errors
/// Something that is neither a character nor `ctrl-` and a letter or one of `@[\\]^_`.
pub(super) fn parse(text: Option<&str>) -> Result<Vec<u8>, units::Error> {
    let Some(text) = text else {
        return Ok(vec![16, 17]);
    };
    if text.is_empty() {
        return Ok(Vec::new());
    }
    text.split(',')
        .map(|key| {
            let byte = match key.strip_prefix("ctrl-") {
                Some(key) => single(key)
                    .map(|byte| byte.to_ascii_uppercase())
                    .filter(|byte| (b'@'..=b'_').contains(byte))
                    .map(|byte| byte & 0x1f),
                None => single(key),
            };
            byte.ok_or_else(|| units::Error {
                option: "--detach-keys",
                value: text.to_owned(),
                reason: "expected keys such as `ctrl-p,ctrl-q` or `~,.`".into(),
            })
        })
        .collect()
}

fn single(key: &str) -> Option<u8> {
    match key.as_bytes() {
        [byte] if byte.is_ascii_graphic() => Some(*byte),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        assert_eq!(parse(None).unwrap(), [16, 17]);
        assert_eq!(parse(Some("ctrl-p,ctrl-q")).unwrap(), [16, 17]);
        assert_eq!(parse(Some("ctrl-[,a")).unwrap(), [27, b'a']);
        assert_eq!(parse(Some("")).unwrap(), [0u8; 0]);
        for bad in ["ctrl-", "ctrl-1", "ab", ",", "a,"] {
            assert!(parse(Some(bad)).is_err(), "{bad}");
        }
    }
}
