//! The names in an archive: normalised, and sorted into plain ones and whiteouts
//! (image-spec, layer.md, "Whiteouts").

use super::Reason;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// aufs' own files; image writers of old left them in layers.
const META: &[u8] = b".wh..wh.";
/// Bytes of one component on every file system in use (`NAME_MAX`).
const NAME_MAX: usize = 255;

/// What a name asks for. Directories are given as components joined by `/`, empty for the root.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// The root itself.
    Root,
    /// `name` in `dir`.
    Plain { dir: Vec<u8>, name: Vec<u8> },
    /// `name` in `dir` is hidden.
    Whiteout { dir: Vec<u8>, name: Vec<u8> },
    /// What lies below in `dir` is hidden.
    Opaque { dir: Vec<u8> },
    /// Of no meaning.
    Skipped,
}

/// Takes a name apart. A leading `/`, empty components and `.` say nothing; `..` is refused, since
/// what it means would depend on whether links are followed. In an archive that is no layer (`literal`) every name is
/// plain.
pub(super) fn split(path: &[u8], literal: bool) -> Result<Name, Reason> {
    if path.contains(&0) {
        return Err(Reason::Nul);
    }
    let mut parts: Vec<&[u8]> = path
        .split(|&b| b == b'/')
        .filter(|p| !p.is_empty() && *p != b".")
        .collect();
    for part in &parts {
        if *part == b".." {
            return Err(Reason::DotDot);
        }
        if part.len() > NAME_MAX {
            return Err(Reason::Call(crate::sys::fs::CallError {
                call: "looking at the name".to_owned(),
                errno: rustix::io::Errno::NAMETOOLONG,
            }));
        }
    }
    let Some(last) = parts.pop() else {
        return Ok(Name::Root);
    };
    if literal {
        let (dir, name) = (parts.join(&b'/'), last.to_vec());
        return Ok(Name::Plain { dir, name });
    }
    if let Some(through) = parts.iter().find(|p| p.starts_with(WHITEOUT)) {
        return if through.starts_with(META) {
            Ok(Name::Skipped)
        } else {
            Err(Reason::ThroughWhiteout)
        };
    }
    let dir = parts.join(&b'/');
    if last == OPAQUE {
        return Ok(Name::Opaque { dir });
    }
    match last.strip_prefix(WHITEOUT) {
        Some(_) if last.starts_with(META) => Ok(Name::Skipped),
        Some(b"" | b"." | b"..") => Err(Reason::BadWhiteout),
        Some(hidden) => Ok(Name::Whiteout {
            dir,
            name: hidden.to_vec(),
        }),
        None => Ok(Name::Plain {
            dir,
            name: last.to_vec(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(dir: &str, name: &str) -> Name {
        Name::Plain {
            dir: dir.into(),
            name: name.into(),
        }
    }

    #[test]
    fn names_are_normalised() {
        for path in ["a/b", "/a/b", "./a/b/", "//a/.//b", "a/b/."] {
            assert_eq!(
                split(path.as_bytes(), false).unwrap(),
                plain("a", "b"),
                "{path}"
            );
        }
        for path in ["", "/", ".", "./", "././/"] {
            assert_eq!(split(path.as_bytes(), false).unwrap(), Name::Root, "{path}");
        }
    }

    #[test]
    fn whiteouts() {
        let hidden = Name::Whiteout {
            dir: b"a".to_vec(),
            name: b"x".to_vec(),
        };
        assert_eq!(split(b"a/.wh.x", false).unwrap(), hidden);
        assert_eq!(
            split(b".wh..wh..opq", false).unwrap(),
            Name::Opaque { dir: vec![] }
        );
        assert_eq!(split(b"a/.wh..wh.plnk/1.2", false).unwrap(), Name::Skipped);
        assert_eq!(split(b"a/.wh..wh.aufs", false).unwrap(), Name::Skipped);
        for bad in [
            &b".wh."[..],
            b".wh..",
            b".wh...",
            b".wh.a/b",
            b"..",
            b"a/../b",
            b"a\0b",
        ] {
            assert!(split(bad, false).is_err(), "{bad:?}");
        }
        assert!(split(&[b'n'; 256], false).is_err());
    }
}
