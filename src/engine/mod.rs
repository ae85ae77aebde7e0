//! What a verb means: the layer that knows images, networks, namespaces and containers at once.

pub mod apply;
pub mod changes;
pub mod containers;
pub mod dirs;
mod environment;
pub mod events;
pub mod exec;
pub mod files;
pub mod healthcheck;
mod hint;
pub mod host;
pub mod image_for;
pub mod images;
mod keys;
mod life;
pub mod lifecycle;
pub mod limits;
pub mod logs;
pub mod mounts;
pub mod names;
pub mod network;
pub mod networks;
pub mod only;
pub mod output;
pub mod ports;
pub mod processes;
pub mod pull;
mod reach;
mod ready;
pub mod resolve;
pub mod rmi;
pub mod run;
pub mod run_args;
pub mod rungs;
mod start;
pub mod stats;
mod systemd;
mod told;
pub mod units;
pub mod unshare;
pub mod update;
pub mod usage;
pub mod views;
pub mod volume_options;
pub mod volumes;
mod volumes_from;
pub mod wait;

use std::cell::OnceCell;
use std::time::Duration;

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
    /// A line that was asked for, whatever `--quiet` says.
    fn show(&self, text: &str);
    /// A line of data, for standard output.
    fn data(&self, text: &str);
    /// Asks a question that is answered with yes or no; no where nobody can be asked.
    fn ask(&self, question: &str) -> bool;
    /// Prints an error with its hint; returns the exit status.
    fn fail(&self, error: &Error) -> u8;
}

/// How long a mapped user namespace is kept after a start.
fn warm() -> Result<Duration, Error> {
    let seconds = match std::env::var_os("RL_USERNS_WARM").filter(|text| !text.is_empty()) {
        None => 10,
        Some(text) => {
            let number = text.to_str().and_then(|text| text.parse::<u16>().ok());
            number.ok_or_else(|| Error::Warm(text.to_string_lossy().into_owned()))?
        }
    };
    Ok(Duration::from_secs(seconds.into()))
}

/// What every verb needs: where things are, who asks, whom to tell.
pub struct Context<'a> {
    /// Directories.
    pub dirs: dirs::Dirs,
    caller: OnceCell<userns::Caller>,
    /// Whom to tell.
    pub ui: &'a dyn Ui,
}

impl<'a> Context<'a> {
    /// Finds out.
    ///
    /// # Errors
    /// No directory to write to.
    pub fn find(ui: &'a dyn Ui) -> Result<Context<'a>, Error> {
        Ok(Context {
            dirs: dirs::Dirs::find()?,
            caller: OnceCell::new(),
            ui,
        })
    }
}

impl Context<'_> {
    /// Who asks, looked up the first time: most verbs need not know.
    ///
    /// # Errors
    /// No /proc.
    pub fn caller(&self) -> Result<&userns::Caller, Error> {
        if let Some(caller) = self.caller.get() {
            return Ok(caller);
        }
        let path = std::env::var_os("PATH");
        let caller = userns::Caller::current(path.as_deref())?;
        Ok(self.caller.get_or_init(|| caller))
    }

    /// The user namespace for a start, as `plan` says.
    ///
    /// # Errors
    /// Those of [`userns::begin`], and a value of `RL_USERNS_WARM` that is no number of seconds.
    pub(crate) fn begin(&self, plan: &userns::Plan) -> Result<userns::Begun, Error> {
        let keep = userns::Keep::new(plan, &self.dirs.data, warm()?);
        Ok(userns::begin(plan, keep)?)
    }

    /// Notes what was done to an image, a volume or a network, for `rl events`.
    pub fn event(&self, kind: &'static str, id: &str, name: &str, action: &str) {
        let subject = crate::state::events::Subject::named(kind, id, name);
        crate::state::events::record(&self.dirs.data, &subject, action, &[]);
    }

    /// Notes that an image lost a name, or is gone.
    pub fn image_removed(&self, removed: &images::Removed) {
        match removed {
            images::Removed::Untagged(name) => {
                self.event("image", &name.familiar(), &name.familiar(), "untag");
            }
            images::Removed::Deleted(id) => {
                self.event("image", &id.to_string(), &id.hex(), "delete");
            }
        }
    }
}

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the environment says.
    #[error("`RL_USERNS_WARM` is `{0}`, and no number of seconds up to 65535")]
    Warm(String),
    /// Directories.
    #[error(transparent)]
    Dirs(#[from] dirs::Error),
    /// Options.
    #[error(transparent)]
    Resolve(#[from] resolve::Error),
    /// Small notations.
    #[error(transparent)]
    Units(#[from] units::Error),
    /// Control groups.
    #[error(transparent)]
    Cgroup(#[from] crate::cgroup::Error),
    /// Id maps.
    #[error(transparent)]
    Userns(#[from] userns::Error),
    /// Network.
    #[error(transparent)]
    Net(#[from] net::Error),
    /// Networks with a name.
    #[error(transparent)]
    Networks(#[from] networks::Error),
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
    /// `--filter` of containers.
    #[error(transparent)]
    Filter(#[from] containers::FilterError),
    /// The same of the `prune` verbs.
    #[error(transparent)]
    Only(only::OnlyError),
    /// The same of `rl volume ls`.
    #[error("`{0}` is not a filter: name, label, driver or dangling, then `=` and a value")]
    VolumeFilter(String),
    /// A name to look for that is no regular expression.
    #[error(transparent)]
    Pattern(#[from] only::PatternError),
    /// `--format`.
    #[error(transparent)]
    Template(#[from] crate::model::template::TemplateError),
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
    #[error(
        "`{0}` is not a container name: at most 128 letters, digits, `_`, `.` and `-`, a letter or digit first"
    )]
    Name(String),
    /// No such volume.
    #[error("no such volume: `{0}`")]
    NoVolume(String),
    /// Nothing of any kind has this name.
    #[error("no container, image, network or volume is called `{0}`")]
    Nothing(String),
    /// A name that breaks Docker's rule.
    #[error(
        "`{0}` is not a volume name: at most 128 letters, digits, `_`, `.` and `-`, a letter or digit first"
    )]
    VolumeName(String),
    /// `--opt` of a volume.
    #[error(transparent)]
    VolumeOptions(#[from] volume_options::Error),
    /// A container has it.
    #[error("volume `{name}` is in use by container `{container}`")]
    VolumeInUse {
        /// The volume.
        name: String,
        /// One of those that have it.
        container: String,
    },
    /// It does not run.
    #[error("container `{0}` is not running")]
    NotRunning(String),
    /// More than one container where only one can be attached to.
    #[error("one container at a time can be attached to")]
    OnlyOne,
    /// A port that is not published.
    #[error("container `{name}` publishes no port `{port}`")]
    NoPort {
        /// The container.
        name: String,
        /// The port.
        port: String,
    },
    /// ps(1) is missing, or did not do what it should.
    #[error("`ps`: {0}")]
    Ps(String),
    /// A column that `rl top` does not have.
    #[error(transparent)]
    Column(#[from] processes::Unknown),
    /// A log cannot be read or shown.
    #[error("`{path}`: {source}")]
    Log {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is paused.
    #[error("container `{0}` is paused")]
    Paused(String),
    /// It ended, and is not yet started again.
    #[error("container `{0}` is about to be started again")]
    Restarting(String),
    /// Something that a container in this state does not do.
    #[error("container `{name}` {why}")]
    Unfit {
        /// The container.
        name: String,
        /// Why not.
        why: &'static str,
    },
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
    /// A container's root cannot be mounted.
    #[error("the container's root file system cannot be mounted: {0}")]
    Files(crate::runtime::InitError),
    /// An archive that cannot be unpacked into a container.
    #[error(transparent)]
    Unpack(crate::store::unpack::UnpackError),
    /// A container's files cannot be packed.
    #[error(transparent)]
    Pack(#[from] crate::store::pack::PackError),
    /// `rl update` without an option.
    #[error("nothing to update")]
    NothingToUpdate,
    /// A process of a container keeps its own.
    #[error("`--oom-score-adj {0}`: not every process of the container can be given that")]
    OomScore(i32),
    /// A filter that `rl events` does not have.
    #[error(
        "`{0}` is not a filter: container, event, image, label, network, scope, type or volume, then `=` and a value"
    )]
    EventFilter(String),
    /// Copying from and to the same side.
    #[error(
        "`rl cp` copies between a container and this machine: one of the two is `CONTAINER:PATH`"
    )]
    CopySides,
    /// A device that would be replaced.
    #[error("`{0}` is a device: the target of `rl cp` is a directory or a file")]
    CopyDevice(String),
    /// An archive for a terminal.
    #[error("the archive is not for a terminal")]
    TerminalOutput,
    /// A system call on a container's files.
    #[error(transparent)]
    Call(#[from] crate::sys::fs::CallError),
    /// What a container changed cannot be told.
    #[error("container `{name}` has no list of changes: {why}")]
    NoDiff {
        /// The container.
        name: String,
        /// Why not.
        why: &'static str,
    },
    /// There is nothing that changes could be carried over to.
    #[error("container `{0}` has no view of a directory of this machine")]
    NothingToApply(String),
    /// Not everything could be carried over.
    #[error("{failed} of {total} changes were not carried over")]
    Applied {
        /// How many.
        failed: usize,
        /// Of how many.
        total: usize,
    },
    /// `--rmi` where no image is removed.
    #[error("`--rmi` {0}")]
    Rmi(&'static str),
    /// `--apply` with another image.
    #[error("`--apply` is for the image `host`: other images have no directory to write back to")]
    ApplyImage,
    /// `--apply` with nobody to ask.
    #[error("`--apply` asks before it writes, and there is no terminal to ask on")]
    ApplyUnasked,
    /// An option that does not go with the built-in image.
    #[error("`{option}` with the image `host`: {reason}")]
    HostOption {
        /// The option.
        option: String,
        /// Why not.
        reason: &'static str,
    },
    /// There is no current directory to start in.
    #[error("the current directory cannot be found")]
    CurrentDirectory(#[source] std::io::Error),
    /// Something that the container needs lies behind a directory which its root may not pass.
    #[error(
        "`{}` cannot be reached: `{}` is closed to root of the container, who is user {uid} of this machine, and not its root",
        path.display(),
        dir.display()
    )]
    Closed {
        /// What is needed.
        path: std::path::PathBuf,
        /// The directory.
        dir: std::path::PathBuf,
        /// Who root of the container is.
        uid: u32,
        /// What to do.
        hint: &'static str,
    },
    /// A terminal was asked for and there is none.
    #[error("`--tty` with `--interactive` needs standard input to be a terminal")]
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
    /// A command outside of any container could not be started.
    #[error("cannot execute `{}`", .program.display())]
    Execute {
        /// The command.
        program: std::ffi::OsString,
        /// Why.
        source: std::io::Error,
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
        hint::of_limits(self)
            .or_else(|| self.own_hint())
            .or_else(|| hint::fallback(self))
    }

    fn own_hint(&self) -> Option<String> {
        match self {
            Error::Dirs(e) => e.hint(),
            Error::Resolve(e) => e.hint(),
            Error::Cgroup(e) => e.hint(),
            Error::Userns(e) => e.hint(),
            Error::Net(e) => e.hint(),
            Error::Networks(e) => Some(e.hint()),
            Error::Store(e) | Error::Pull(pull::PullError::Store(e)) => e.hint(),
            Error::Pull(e) => e.hint(),
            Error::NoRegistry { name, .. } => Some(format!(
                "`rl bootstrap {name}` makes it from this machine's package mirror"
            )),
            Error::Images(e) => e.hint(),
            Error::State(e) => e.hint(),
            Error::Monitor(monitor::Error::Start(failure)) => failure.hint.clone(),
            Error::Monitor(monitor::Error::Cut) => Some(
                "`rl attach` attaches again; `rl logs -f` shows everything, at any speed".into(),
            ),
            Error::Write { path, source } if source.kind() == std::io::ErrorKind::StorageFull => {
                Some(format!("the disk of `{}` is full", path.display()))
            }
            Error::Write { path, source } if source.kind() == std::io::ErrorKind::AlreadyExists => {
                let path = path.display();
                Some(format!(
                    "`rm {path}` if nobody needs it, or name another file"
                ))
            }
            Error::NoImage => Some("rl run ubuntu sh".into()),
            Error::NoVolume(_) => Some("`rl volume ls` lists them".into()),
            Error::Nothing(_) => Some(
                "`rl ps -a`, `rl images`, `rl network ls` and `rl volume ls` list what there is"
                    .into(),
            ),
            Error::VolumeOptions(error) => Some(error.hint()),
            Error::VolumeName(_) => Some("rl volume create data".into()),
            Error::VolumeInUse { container, .. } => Some(format!("rl rm {container}")),
            Error::OomScore(_) => Some(monitor::OOM_SCORE.into()),
            Error::NothingToUpdate => Some("such as `rl update --memory 512m box`".into()),
            Error::EventFilter(_) => Some("such as `--filter event=die`".into()),
            Error::CopySides => {
                Some("such as `rl cp box:/etc/hosts .`, or `rl cp file box:/tmp/`".into())
            }
            Error::TerminalOutput => Some(
                "give it a file: `rl export -o box.tar box`, `rl cp box:/etc - >etc.tar`".into(),
            ),
            Error::Unpack(e) => e.hint(),
            Error::Files(_) => Some("start it, and its files are there: `rl start`".into()),
            Error::OnlyOne => Some("leave `--attach` and `--interactive` out, or name one".into()),
            Error::NoPort { name, .. } => Some(format!("`rl port {name}` lists those it does")),
            Error::Column(e) => Some(e.hint()),
            Error::Ps(_) => Some("ps is in the package `procps`".into()),
            Error::Unfit { name, .. } => Some(format!("`rl inspect {name}` shows what it is like")),
            Error::NotRunning(name) => Some(format!("rl start {name}")),
            Error::Paused(name) => Some(format!("rl unpause {name}")),
            Error::Restarting(name) => Some(format!(
                "`rl logs {name}` shows why it ended; try again when it runs"
            )),
            Error::HostOption { .. } => Some(
                "leave it out, or take another image; one of a registry that is called `host` is \
                 `docker.io/library/host`"
                    .into(),
            ),
            Error::NothingToApply(_) => Some(
                "`rl run host` has views of the home directory, `/tmp` and the current directory; \
                 `-v DIR:DIR:O` makes one"
                    .into(),
            ),
            Error::Rmi(_) => Some("leave it out, and remove the image later: `rl rmi`".into()),
            Error::ApplyImage => Some("`-v DIR:TARGET` lets any image write to a directory".into()),
            Error::ApplyUnasked => Some(
                "say `--apply=yes`, or keep the container (`--name x`, without `--rm`), look at \
                 `rl diff x` and then `rl apply x`"
                    .into(),
            ),
            Error::Closed { hint, .. } => Some((*hint).into()),
            Error::CurrentDirectory(_) => Some("go to another one: `cd`".into()),
            Error::Execute { .. } => Some("such as `rl unshare ls -ln`".into()),
            Error::NoTerminal => Some("leave one of the two out, or run it from a terminal".into()),
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
            Error::Execute { source, .. } if source.kind() == std::io::ErrorKind::NotFound => 127,
            Error::Execute { .. } => 126,
            Error::Monitor(monitor::Error::Start(failure)) => failure.status,
            _ => 125,
        }
    }
}
