//! What a verb means: the layer that knows images, networks, namespaces and containers at once.

pub mod containers;
pub mod dirs;
mod hint;
pub mod image_for;
pub mod images;
pub mod mounts;
pub mod names;
pub mod network;
pub mod pull;
pub mod resolve;
pub mod run;
pub mod run_args;
pub mod rungs;
pub mod units;
pub mod volumes;

use crate::model::chain;
use crate::{monitor, net, oci, runtime, security, state, store, userns};

/// What the engine tells a person while it works. Messages go to standard error.
pub trait Ui {
    /// A line that is worth saying once, such as what had to be done without.
    fn notice(&self, text: &str);
    /// A line for who asked to be told (`--verbose`).
    fn detail(&self, text: &str);
    /// Where a pull shows how far it is.
    fn progress(&self) -> Box<dyn pull::Progress>;
    /// Prints an error with its hint; returns the exit status.
    fn fail(&self, error: &Error) -> u8;
}

/// What every verb needs: where things are, who asks, whom to tell.
pub struct Context<'a> {
    /// Directories.
    pub dirs: dirs::Dirs,
    /// Who asks.
    pub caller: userns::Caller,
    /// Whom to tell.
    pub ui: &'a dyn Ui,
}

impl<'a> Context<'a> {
    /// Finds out.
    ///
    /// # Errors
    /// No directory to write to, or no /proc.
    pub fn find(ui: &'a dyn Ui) -> Result<Context<'a>, Error> {
        let path = std::env::var_os("PATH");
        Ok(Context {
            dirs: dirs::Dirs::find()?,
            caller: userns::Caller::current(path.as_deref())?,
            ui,
        })
    }
}

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Directories.
    #[error(transparent)]
    Dirs(#[from] dirs::Error),
    /// Options.
    #[error(transparent)]
    Resolve(#[from] resolve::Error),
    /// Small notations.
    #[error(transparent)]
    Units(#[from] units::Error),
    /// Id maps.
    #[error(transparent)]
    Userns(#[from] userns::Error),
    /// Network.
    #[error(transparent)]
    Net(#[from] net::Error),
    /// Image store.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// Image verbs.
    #[error(transparent)]
    Images(#[from] images::ImageError),
    /// Containers on disk.
    #[error(transparent)]
    State(#[from] state::Error),
    /// Seccomp profile.
    #[error(transparent)]
    Seccomp(#[from] security::seccomp::Error),
    /// OCI configuration.
    #[error(transparent)]
    Oci(#[from] oci::Error),
    /// Plan.
    #[error(transparent)]
    Plan(#[from] runtime::plan::PlanError),
    /// The monitor, or the start that it watched.
    #[error(transparent)]
    Monitor(#[from] monitor::Error),
    /// A word that is no image.
    #[error(transparent)]
    Source(#[from] crate::model::reference::SourceError),
    /// A platform.
    #[error(transparent)]
    Platform(#[from] crate::model::platform::PlatformError),
    /// `--pull`.
    #[error(transparent)]
    Policy(#[from] pull::PolicyError),
    /// A pull.
    #[error(transparent)]
    Pull(#[from] pull::PullError<store::StoreError>),
    /// No registry answers, and the image can be made from packages.
    #[error("{reason}")]
    NoRegistry {
        /// What came of the attempt.
        reason: Box<crate::registry::Error>,
        /// The name of the image.
        name: String,
    },
    /// The image was removed while it was being used.
    #[error("image `{0}` was removed by another command")]
    Vanished(String),
    /// A file of the container could not be written.
    #[error("write(`{path}`)")]
    Write {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A name that breaks Docker's rule.
    #[error("`{0}` is not a container name: letters, digits, `_`, `.` and `-`, not at the start")]
    Name(String),
    /// No image given.
    #[error("no image given")]
    NoImage,
    /// The directory for `--rootfs` is not one.
    #[error("root file system `{path}`")]
    Rootfs {
        /// The path.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A terminal was asked for and there is none.
    #[error("`--tty` needs standard input to be a terminal")]
    NoTerminal,
    /// The image is for another platform.
    #[error("image `{name}` is for {image}, this machine is {host}")]
    WrongPlatform {
        /// The image.
        name: String,
        /// Its platform.
        image: String,
        /// Ours.
        host: String,
    },
    /// The image that was found is not for the platform that is wanted.
    #[error("image `{name}` is for {image}, not for {wanted}")]
    OtherPlatform {
        /// The image.
        name: String,
        /// Its platform.
        image: String,
        /// The one asked for, or the machine's.
        wanted: String,
    },
    /// A child of ours has printed what was wrong; this is its exit status.
    #[error("exit status {0}")]
    Reported(u8),
}

impl Error {
    /// The error and its causes on one line.
    pub fn line(&self) -> String {
        chain(self)
    }

    /// What to do about it; there is always something.
    pub fn hint(&self) -> Option<String> {
        self.own_hint().or_else(|| hint::fallback(self))
    }

    fn own_hint(&self) -> Option<String> {
        match self {
            Error::Dirs(e) => e.hint(),
            Error::Resolve(e) => e.hint(),
            Error::Userns(e) => e.hint(),
            Error::Net(e) => e.hint(),
            Error::Store(e) | Error::Pull(pull::PullError::Store(e)) => e.hint(),
            Error::Pull(e) => e.hint(),
            Error::NoRegistry { name, .. } => Some(format!(
                "`rl bootstrap {name}` makes it from this machine's package mirror"
            )),
            Error::Images(e) => e.hint(),
            Error::State(e) => e.hint(),
            Error::Seccomp(e) => e.hint(),
            Error::Monitor(monitor::Error::Start(failure)) => failure.hint.clone(),
            Error::Write { path, source } if source.kind() == std::io::ErrorKind::StorageFull => {
                Some(format!("the disk of `{}` is full", path.display()))
            }
            Error::NoImage => Some("rl run ubuntu sh".into()),
            Error::NoTerminal => Some("leave `--tty` out, or run it from a terminal".into()),
            Error::OtherPlatform { image, .. } => {
                Some(format!("take it as it is with `--platform {image}`"))
            }
            Error::WrongPlatform { host, .. } => Some(format!(
                "ask for `--platform {host}`; running another platform's programs needs qemu-user \
                 with binfmt_misc: `apt-get install qemu-user-static`"
            )),
            _ => None,
        }
    }

    /// The exit status of `rl` for this error: 125 when rl itself failed, 126 and 127 as a shell's.
    pub fn status(&self) -> u8 {
        match self {
            Error::Reported(status) => *status,
            Error::Monitor(monitor::Error::Start(failure)) => failure.status,
            _ => 125,
        }
    }
}
