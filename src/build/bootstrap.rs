//! The decision: which release, from which sources, with which settings of apt. Nothing runs yet but
//! `apt-config dump`, which tells what apt of this machine is set to.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::sources::{self, Entry};
use crate::model::distribution::{Distribution, Release};
use crate::model::{Platform, Reference};

/// Package sets (mmdebstrap(1), "VARIANTS"), without those that make no usable tree.
pub const VARIANTS: &[&str] = &[
    "essential",
    "apt",
    "required",
    "minbase",
    "buildd",
    "important",
    "debootstrap",
    "standard",
];

/// What was asked for besides the name.
#[derive(Clone, Debug)]
pub struct Options {
    /// One of [`VARIANTS`].
    pub variant: String,
    /// Packages beyond the variant's, each a name, or `name=version`.
    pub include: Vec<String>,
    /// A mirror to use instead of this machine's.
    pub mirror: Option<String>,
}

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that is no release.
    #[error("`{0}` is no release of Debian or Ubuntu")]
    NoRelease(String),
    /// `--variant`.
    #[error("`--variant {0}`: no such package set")]
    Variant(String),
    /// `--include`.
    #[error("`--include {0}`: not the name of a package")]
    Include(String),
    /// `--mirror`.
    #[error("`--mirror {0}`: not an address such as `http://deb.debian.org/debian`")]
    BadMirror(String),
    /// mmdebstrap, or what it needs.
    #[error("`{program}` is not there, which makes root file systems from packages")]
    NoProgram {
        /// Which.
        program: &'static str,
    },
    /// The archive has no such suite.
    #[error("`{mirror}` has no suite `{suite}`")]
    NoSuite {
        /// The mirror's address.
        mirror: String,
        /// The suite.
        suite: String,
    },
    /// No answer.
    #[error("package mirror: {what}")]
    Mirror {
        /// apt's words.
        what: String,
    },
    /// Nothing vouches for the archive.
    #[error("the packages of {suite} are not signed by a key that is trusted here: {what}")]
    Unsigned {
        /// The suite.
        suite: String,
        /// Whose key is missing.
        distribution: Distribution,
        /// apt's words.
        what: String,
    },
    /// Too old or too new for this machine's clock.
    #[error("package lists are out of date by this machine's clock: {what}")]
    Expired {
        /// apt's words.
        what: String,
    },
    /// A package of `--include`.
    #[error("no package `{name}` in {suite}")]
    NoPackage {
        /// Its name.
        name: String,
        /// The suite.
        suite: String,
    },
    /// The disk is full.
    #[error("no space left in `{path}`")]
    Full {
        /// Where the tree is made.
        path: PathBuf,
    },
    /// Something else.
    #[error("mmdebstrap ended with status {status}: {what}")]
    Failed {
        /// Its exit status.
        status: u8,
        /// The lines that matter.
        what: String,
    },
    /// A signal ended the work.
    #[error("interrupted by signal {0}")]
    Interrupted(i32),
    /// A call of our own.
    #[error("{call}")]
    Call {
        /// The call.
        call: String,
        /// Why.
        source: std::io::Error,
    },
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Error::NoRelease(_) => {
                "a name such as `debian:bookworm`, `debian:12-slim` or `ubuntu:24.04`".into()
            }
            Error::Variant(_) => format!("one of {}", VARIANTS.join(", ")),
            Error::Include(_) => {
                "names with commas between them, as in `--include ca-certificates,curl`".into()
            }
            Error::BadMirror(_) => "give the address below which `dists/` lies".into(),
            Error::NoProgram { program } => install(program),
            Error::NoSuite { mirror, .. } => format!(
                "`{}/dists/` lists what it has; another mirror is given with `--mirror URL`",
                mirror.trim_end_matches('/')
            ),
            Error::Mirror { .. } => {
                "check the network, the mirror in /etc/apt/sources.list* and apt's proxy \
                 (`apt-config dump | grep -i proxy`); another mirror is given with `--mirror URL`"
                    .into()
            }
            Error::Unsigned { distribution, .. } => match distribution {
                Distribution::Debian => "sudo apt-get install debian-archive-keyring".into(),
                Distribution::Ubuntu => format!(
                    "sudo apt-get install ubuntu-archive-keyring (`ubuntu-keyring` on Ubuntu); where there is no such \
                     package, copy `{}` from an Ubuntu machine",
                    sources::keyring(*distribution)
                ),
            },
            Error::Expired { .. } => "check the clock (`date`); for an old or frozen mirror put \
                 `Acquire::Check-Valid-Until \"false\";` into a file in /etc/apt/apt.conf.d"
                .into(),
            Error::NoPackage { name, suite } => format!(
                "check the name: https://packages.debian.org/search?suite={suite}&keywords={name}"
            ),
            Error::Full { path } => {
                format!("df -h {}; `rl rmi` and `rl rm` free space", path.display())
            }
            Error::Failed { .. } => {
                "`rl bootstrap --verbose` shows everything mmdebstrap says".into()
            }
            Error::Interrupted(_) | Error::Call { .. } => return None,
        })
    }

    /// The exit status of `rl`.
    pub fn status(&self) -> u8 {
        match self {
            Error::Interrupted(signal) => 128u8.wrapping_add(*signal as u8),
            _ => 125,
        }
    }
}

/// The line that installs a program on this kind of machine.
pub(super) fn install(program: &str) -> String {
    format!("sudo {}", helper_process::packages::install(program))
}

/// Everything decided.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// mmdebstrap.
    pub(super) program: PathBuf,
    /// What to make.
    pub release: Release,
    /// It is the release of this machine.
    pub(super) own: bool,
    pub(super) options: Options,
    /// Where packages come from, here and later in the image.
    pub sources: Vec<Entry>,
    /// Settings of apt for the time of making.
    pub(super) apt_here: String,
    /// Settings of apt that the image keeps.
    pub(super) apt_there: String,
}

impl Recipe {
    /// Decides. `path` is the value of PATH; `etc` is `/etc/apt`.
    ///
    /// # Errors
    /// Words that mean nothing, or no mmdebstrap.
    pub fn new(
        reference: &Reference,
        options: &Options,
        path: Option<&OsStr>,
        etc: &Path,
    ) -> Result<Recipe, Error> {
        let release =
            Release::of(reference).ok_or_else(|| Error::NoRelease(reference.familiar()))?;
        check(options)?;
        let find = |program| find(program, path).ok_or(Error::NoProgram { program });
        let program = find("mmdebstrap")?;
        let dump = dump(&find("apt-config")?);
        // Debian calls by Go's names what rl runs on.
        let architecture = Platform::host().architecture;
        let host = sources::read(etc);
        let (apt_here, apt_there) = apt_settings(&dump);
        Ok(Recipe {
            program,
            sources: sources::choose(&release, options.mirror.as_deref(), &host, &architecture),
            own: code_name("/etc/os-release").as_ref() == Some(&release.suite),
            release,
            options: options.clone(),
            apt_here,
            apt_there,
        })
    }

    /// The step for the image's history.
    pub fn history(&self) -> String {
        let mut text = format!("mmdebstrap --variant={}", self.options.variant);
        if !self.options.include.is_empty() {
            text.push_str(&format!(" --include={}", self.options.include.join(",")));
        }
        let uris: Vec<String> = self
            .sources
            .iter()
            .flat_map(|e| &e.uris)
            .map(|u| without_password(u))
            .collect();
        format!("{text} {} {}", self.release.suite, uris.join(" "))
    }
}

/// An address without the user and password it may hold.
pub(super) fn without_password(uri: &str) -> String {
    match uri.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = authority.rsplit('@').next().unwrap_or(authority);
            format!("{scheme}://{host}/{path}")
        }
        None => uri.to_owned(),
    }
}

fn check(options: &Options) -> Result<(), Error> {
    if !VARIANTS.contains(&options.variant.as_str()) {
        return Err(Error::Variant(options.variant.clone()));
    }
    // What else apt takes for a package (patterns, files) would be split or looked up here.
    let name = |text: &&String| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-.:=~/_".contains(c))
    };
    if let Some(bad) = options.include.iter().find(|text| !name(text)) {
        return Err(Error::Include(bad.clone()));
    }
    match &options.mirror {
        Some(mirror) if !mirror.contains("://") || mirror.contains(char::is_whitespace) => {
            Err(Error::BadMirror(mirror.clone()))
        }
        _ => Ok(()),
    }
}

/// A program, by PATH and where administrators' programs are.
pub fn find(program: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    let path = path.unwrap_or_default();
    std::env::split_paths(path)
        .chain(["/usr/bin".into(), "/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(program))
        .find(|file| {
            rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file()
        })
}

/// The code name of a release by its os-release(5).
fn code_name(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(name.trim_matches('"').to_owned())
}

fn dump(apt_config: &Path) -> String {
    let output = Command::new(apt_config)
        .arg("dump")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    output
        .map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
        .unwrap_or_default()
}

/// Of the settings that apt has here (`apt-config dump`), those that say how packages are fetched: all of
/// them for the time of making, and for the image those that are true inside of a container as well. No
/// password, no address of this machine's own and no file of this machine goes into the image.
fn apt_settings(dump: &str) -> (String, String) {
    let (mut here, mut there) = (
        String::new(),
        String::from("Acquire::Languages \"none\";\n"),
    );
    let wanted = [
        "acquire::http::",
        "acquire::https::",
        "acquire::check-",
        "acquire::max-validtime",
        "acquire::min-validtime",
        "acquire::retries",
        "acquire::forceipv",
    ];
    let private = ["@", "://127.", "://localhost", "://[::1]", " \"/"];
    for line in dump.lines() {
        let low = line.to_ascii_lowercase();
        if !wanted.iter().any(|prefix| low.starts_with(prefix)) || low.ends_with(" \"\";") {
            continue;
        }
        here.push_str(&format!("{line}\n"));
        if !private.iter().any(|sign| low.contains(sign)) {
            there.push_str(&format!("{line}\n"));
        }
    }
    (here, there)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_apt() {
        let (here, there) = apt_settings(
            "APT::Architecture \"amd64\";\n\
             Acquire::http \"\";\n\
             Acquire::http::Proxy \"http://proxy.example:3128\";\n\
             Acquire::http::Proxy::m.example \"http://me:secret@proxy.example:1\";\n\
             Acquire::https::Proxy \"http://127.0.0.1:3142\";\n\
             Acquire::https::CAInfo \"/etc/ssl/own.pem\";\n\
             Acquire::Check-Valid-Until \"false\";\n\
             DPkg::Post-Invoke:: \"rm x\";\n",
        );
        assert_eq!(here.lines().count(), 5, "{here}");
        assert_eq!(
            there,
            "Acquire::Languages \"none\";\nAcquire::http::Proxy \"http://proxy.example:3128\";\n\
             Acquire::Check-Valid-Until \"false\";\n"
        );
    }

    #[test]
    fn words() {
        let options = |variant: &str, include: &str, mirror: Option<&str>| Options {
            variant: variant.into(),
            include: vec![include.into()],
            mirror: mirror.map(str::to_owned),
        };
        assert!(check(&options("minbase", "g++", Some("http://m/debian"))).is_ok());
        assert!(check(&options("apt", "libc6:i386=2.36-9+deb12u4", None)).is_ok());
        assert!(matches!(
            check(&options("tiny", "x", None)),
            Err(Error::Variant(_))
        ));
        for bad in ["", "-x", "?all", "/etc/passwd", "a b"] {
            assert!(
                matches!(check(&options("apt", bad, None)), Err(Error::Include(_))),
                "{bad}"
            );
        }
        assert!(matches!(
            check(&options("apt", "x", Some("m"))),
            Err(Error::BadMirror(_))
        ));
        assert_eq!(without_password("http://a:b@h/debian"), "http://h/debian");
        assert_eq!(without_password("http://h/debian"), "http://h/debian");
    }
}
