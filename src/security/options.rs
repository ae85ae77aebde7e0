//! The words of `--security-opt` (docker-run(1), podman-run(1)).

use std::path::PathBuf;

use crate::model::spec::{Confinement, SeccompChoice};

use super::paths::{self, Paths};

/// Why a word was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such word.
    #[error("no such security option: `{0}`")]
    Unknown(String),
    /// The word lacks what comes after `=`.
    #[error("security option `{0}` needs a value")]
    NoValue(String),
    /// The word is known, the value is not.
    #[error("security option `{key}` has no value `{value}`")]
    Value {
        /// What comes before `=`.
        key: String,
        /// What comes after it.
        value: String,
    },
    /// Known elsewhere.
    #[error("security option `{0}` is not there yet")]
    NotYet(String),
    /// `mask=` or `unmask=`.
    #[error("security option `{key}`: {source}")]
    Path {
        /// Which of the two.
        key: String,
        /// What is wrong.
        source: paths::Error,
    },
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Unknown(_) => Some(
                "known are `seccomp=FILE|unconfined`, `no-new-privileges[=true|false]`, `mask=PATH[:PATH…]`, \
                 `unmask=ALL|PATH[:PATH…]`"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// The confinement that the words ask for, beginning with the default: no_new_privs, the default filter, the
/// default masks. Of contradicting words the last one counts.
///
/// `label=disable` and `apparmor=unconfined` ask for what is the case anyway, so they are accepted.
///
/// # Errors
/// [`Error`], with the word.
pub fn resolve<S: AsRef<str>>(words: &[S]) -> Result<Confinement, Error> {
    let mut no_new_privs = true;
    let mut seccomp = SeccompChoice::Default;
    let mut paths = Paths::default();
    for word in words {
        let word = word.as_ref();
        // Docker once had `:` there, and still takes it.
        let (key, value) = match word.find(['=', ':']) {
            Some(at) => (&word[..at], Some(&word[at + 1..])),
            None => (word, None),
        };
        if key == "no-new-privileges" {
            no_new_privs = match value {
                None | Some("true") => true,
                Some("false") => false,
                Some(other) => return Err(bad(key, other)),
            };
            continue;
        }
        let value = value.filter(|value| !value.is_empty());
        let needed = || value.ok_or_else(|| Error::NoValue(key.to_owned()));
        let at = |source| Error::Path {
            key: key.to_owned(),
            source,
        };
        match key {
            "seccomp" => {
                seccomp = match needed()? {
                    "unconfined" => SeccompChoice::Unconfined,
                    "builtin" => SeccompChoice::Default,
                    file => SeccompChoice::File(PathBuf::from(file)),
                }
            }
            "mask" => paths.mask(needed()?).map_err(at)?,
            "unmask" => paths.unmask(needed()?).map_err(at)?,
            "systempaths" if value == Some("unconfined") => paths.unmask("ALL").map_err(at)?,
            "systempaths" => return Err(bad(key, needed()?)),
            "label" if value == Some("disable") => {}
            "apparmor" if value == Some("unconfined") => {}
            "label" | "apparmor" | "proc-opts" | "credentialspec" | "writable-cgroups" => {
                return Err(Error::NotYet(word.to_owned()));
            }
            _ => return Err(Error::Unknown(word.to_owned())),
        }
    }
    Ok(Confinement {
        no_new_privs,
        seccomp,
        masked: paths.masked,
        read_only: paths.read_only,
    })
}

fn bad(key: &str, value: &str) -> Error {
    Error::Value {
        key: key.to_owned(),
        value: value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_said_is_everything_up() {
        let default = resolve::<&str>(&[]).unwrap();
        assert!(default.no_new_privs);
        assert_eq!(default.seccomp, SeccompChoice::Default);
        assert_eq!(default.masked, paths::MASKED);
        assert_eq!(default.read_only, paths::READ_ONLY);
    }

    #[test]
    fn words_lower_one_wall_each() {
        let seccomp = |word: &str| resolve(&[word]).unwrap().seccomp;
        assert_eq!(seccomp("seccomp=unconfined"), SeccompChoice::Unconfined);
        assert_eq!(seccomp("seccomp:unconfined"), SeccompChoice::Unconfined);
        assert_eq!(
            seccomp("seccomp=/a=b:c.json"),
            SeccompChoice::File("/a=b:c.json".into())
        );
        let privs = |word: &str| resolve(&[word]).unwrap().no_new_privs;
        assert!(privs("no-new-privileges"));
        assert!(privs("no-new-privileges:true"));
        assert!(!privs("no-new-privileges=false"));
        let open = resolve(&["unmask=ALL", "mask=/proc/cpuinfo"]).unwrap();
        assert_eq!(open.masked, ["/proc/cpuinfo"]);
        assert!(open.read_only.is_empty());
        assert!(
            resolve(&["systempaths=unconfined"])
                .unwrap()
                .masked
                .is_empty()
        );
    }

    #[test]
    fn the_last_word_counts() {
        let both = resolve(&["seccomp=unconfined", "seccomp=builtin"]).unwrap();
        assert_eq!(both.seccomp, SeccompChoice::Default);
    }

    #[test]
    fn what_is_not_there_says_so() {
        assert_eq!(
            resolve(&["apparmor=docker-default"]),
            Err(Error::NotYet("apparmor=docker-default".to_owned()))
        );
        assert!(matches!(resolve(&["label=type:t"]), Err(Error::NotYet(_))));
        assert!(resolve(&["label=disable", "apparmor=unconfined"]).is_ok());
        assert!(matches!(resolve(&["secomp=x"]), Err(Error::Unknown(_))));
        assert!(matches!(resolve(&["seccomp="]), Err(Error::NoValue(_))));
        assert!(matches!(resolve(&["mask"]), Err(Error::NoValue(_))));
        assert!(matches!(resolve(&["mask=proc"]), Err(Error::Path { .. })));
        assert!(matches!(
            resolve(&["no-new-privileges=maybe"]),
            Err(Error::Value { .. })
        ));
    }
}
