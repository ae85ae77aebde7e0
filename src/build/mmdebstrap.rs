//! mmdebstrap at work. The order:
//!
//! 1. The caller stands inside a user namespace, single-threaded, and forks a child into a mount and a
//!    pid namespace of its own: what mmdebstrap mounts is gone with it, and nothing it starts outlives it.
//! 2. The child becomes root inside, takes the filter of [`Way::Ownerless`] where that is the way, leaves the terminal's session, and runs the program: sources on standard
//!    input, the tar on standard output.
//! 3. The caller reads the tar ([`Engine`] is a reader) while one thread listens to what the program says, and another
//!    one to signals: the first signal kills the child and all that is below it.
//! 4. The end of the tar counts only if the program ended well: else the reader fails, with [`Engine::failure`]
//!    as the reason.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread::JoinHandle;

use super::bootstrap::{Error, Options, Recipe, find, install, without_password};
use super::sources;
use crate::security::seccomp;
use crate::sys;
use crate::sys::process::{Child, Fork, Namespaces, exit_now, fork, ignore_signal, reset_signals};
use crate::sys::seccomp::SockFilter;
use crate::userns;

/// Ids that packages take for granted: everything up to `nogroup`.
const ENOUGH_IDS: u64 = 65_535;

/// What is written into the tree before packages are fetched: this machine's settings for the time
/// of making, and keys that no package brings along.
const SETUP: &str = r#"set -e
cp "$RL_BOOTSTRAP/here.conf" "$1/etc/apt/apt.conf.d/90here"
while read -r key; do mkdir -p "$1${key%/*}"; cp "$key" "$1$key"; done <"$RL_BOOTSTRAP/keys""#;

/// What is taken out of the tree before it is packed: those settings, passwords in addresses, and what
/// mmdebstrap copies from this machine.
const CUSTOMIZE: &str = r#"set -e
rm -f "$1/etc/apt/apt.conf.d/90here" "$1/etc/resolv.conf" "$1/etc/hostname"
: >"$1/etc/resolv.conf"
for file in "$1/etc/apt/sources.list" "$1"/etc/apt/sources.list.d/*; do
    [ ! -f "$file" ] || sed -i -E 's#(://)[^/@ ]*@#\1#' "$file"
done"#;

/// Before and after [`SETUP`] and [`CUSTOMIZE`] without ids: devices, which mmdebstrap would have belong to the user 5.
const DEVICES: &str = r#"set -e
mkdir -p "$1/dev"
for device in null zero full random urandom tty; do
    : >"$1/dev/$device"
    mount --bind "/dev/$device" "$1/dev/$device"
done"#;
const NO_DEVICES: &str = r#"set -e
for device in null zero full random urandom tty; do
    umount "$1/dev/$device"
    rm "$1/dev/$device"
done"#;

/// What the `slim` images of Docker Hub leave out.
const SLIM: &[&str] = &[
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/groff/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/linda/*",
    "path-exclude=/usr/share/locale/*",
    "path-include=/usr/share/locale/locale.alias",
];

/// A tree being made; reads as a tar of it.
pub struct Engine {
    tar: File,
    child: Arc<Child>,
    /// Lines on standard error so far.
    log: Option<JoinHandle<Vec<String>>>,
    interrupted: Arc<AtomicI32>,
    recipe: Recipe,
    dir: PathBuf,
    failure: Option<Error>,
    ended: bool,
}

/// Starts it. The calling process is inside the user namespace of `plan`, has all capabilities there,
/// has a single thread, and has SIGINT, SIGTERM, SIGHUP and SIGQUIT blocked
/// ([`userns::run_inside_passing_signals`]). `dir` is an empty directory for the tree; `lines` is told what
/// the program says.
///
/// # Errors
/// A failing call.
pub fn start(
    recipe: &Recipe,
    dir: &Path,
    plan: &userns::Plan,
    way: Way,
    lines: impl Fn(&str) + Send + 'static,
) -> Result<Engine, Error> {
    let failed = |call: &str| {
        let call = call.to_owned();
        move |source: io::Error| Error::Call { call, source }
    };
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(failed(&format!("write(`{}`)", path.display())))
    };
    write("here.conf", &recipe.apt_here)?;
    write("there.conf", &recipe.apt_there)?;
    let keys: String = sources::own_keyrings(&recipe.sources)
        .iter()
        .map(|key| format!("{key}\n"))
        .collect();
    write("keys", &keys)?;
    write("sources", &sources::deb822(&recipe.sources))?;
    chown(dir, Some(0), Some(0)).map_err(failed(&format!("chown(`{}`, 0, 0)", dir.display())))?;
    let sources = File::open(dir.join("sources")).map_err(failed("open(sources)"))?;
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
    let errno = |call: &str| {
        let failed = failed(call);
        move |errno: rustix::io::Errno| failed(errno.into())
    };
    let (tar, tar_in) = pipe().map_err(errno("pipe2()"))?;
    let (log, log_in) = pipe().map_err(errno("pipe2()"))?;
    let command = command(recipe, dir, way);
    let filter = match way {
        Way::Ownerless => Some(seccomp::compile_one_id().map_err(|error| Error::Call {
            call: "compile a filter".into(),
            source: io::Error::other(error),
        })?),
        Way::Real | Way::Remembered => None,
    };
    let setgroups = plan.setgroups;
    let child = match fork(Namespaces::MOUNT | Namespaces::PID)
        .map_err(errno("clone3(CLONE_NEWNS | CLONE_NEWPID)"))?
    {
        Fork::Child => {
            drop((tar, log));
            exit_now(run(
                command,
                setgroups,
                filter.as_deref(),
                sources,
                tar_in,
                log_in,
            ))
        }
        Fork::Parent(child) => Arc::new(child),
    };
    drop((tar_in, log_in));
    // What is not complete ends the child as it goes.
    let mut engine = Engine {
        tar: tar.into(),
        child,
        log: None,
        interrupted: Arc::new(AtomicI32::new(0)),
        recipe: recipe.clone(),
        dir: dir.to_owned(),
        failure: None,
        ended: false,
    };
    watch_signals(&engine.child, &engine.interrupted).map_err(failed("spawn(thread)"))?;
    let listener = std::thread::Builder::new().spawn(move || listen(log, &lines));
    engine.log = Some(listener.map_err(failed("spawn(thread)"))?);
    Ok(engine)
}

/// How mmdebstrap changes owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Really: the ids are there.
    Real,
    /// By remembering them (fakeroot(1)), so that the tar has them right.
    Remembered,
    /// Not at all: giving files away succeeds and does nothing, as in a container with one id.
    Ownerless,
}

impl Way {
    /// The way for this map of ids, with what has to be said of it. `path` is the value of PATH.
    pub fn choose(
        recipe: &Recipe,
        plan: &userns::Plan,
        path: Option<&std::ffi::OsStr>,
    ) -> (Way, Option<String>) {
        let count = |map: &crate::model::IdMap| {
            let lengths = map.ranges().iter().map(|r| u64::from(r.length));
            lengths.sum::<u64>()
        };
        let ids = count(&plan.uid).min(count(&plan.gid));
        let there = ["fakechroot", "fakeroot"].map(|program| find(program, path).is_some());
        let way = Way::of(ids, recipe.own, there == [true; 2]);
        if way != Way::Ownerless {
            return (way, None);
        }
        let why = plan.notice.clone();
        let why = why.unwrap_or_else(|| format!("{ids} of {ENOUGH_IDS} ids are mapped"));
        let or = match recipe.own {
            true => format!("; or {}", install("fakechroot fakeroot")),
            false => String::new(),
        };
        let notice = format!("every file of the image belongs to root: {why}{or}");
        (way, Some(notice))
    }

    /// The way with so many ids, for the release of this machine or another, with or without fakechroot(1) and fakeroot(1).
    fn of(ids: u64, own: bool, fake: bool) -> Way {
        match () {
            () if ids >= ENOUGH_IDS => Way::Real,
            // fakechroot has programs of this machine run with libraries of the tree.
            () if own && fake => Way::Remembered,
            () => Way::Ownerless,
        }
    }

    /// As mmdebstrap(1) calls it, "MODES".
    fn mode(self) -> &'static str {
        match self {
            Way::Real | Way::Ownerless => "root",
            Way::Remembered => "fakechroot",
        }
    }
}

/// Packages beyond the variant's. Ubuntu's apt has the priority `important`, so that the required ones come without.
fn include(options: &Options) -> Vec<&str> {
    let few = ["minbase", "required"].contains(&options.variant.as_str());
    let asked = options.include.iter().map(String::as_str);
    few.then_some("apt").into_iter().chain(asked).collect()
}

fn command(recipe: &Recipe, dir: &Path, way: Way) -> Command {
    let options = &recipe.options;
    let mut command = Command::new(&recipe.program);
    command
        .arg(format!("--mode={}", way.mode()))
        .arg(format!("--variant={}", options.variant))
        .args(["--format=tar", "--skip=output/dev"])
        .arg(format!("--aptopt={}", dir.join("there.conf").display()))
        .arg(format!("--setup-hook={SETUP}"))
        .arg(format!("--customize-hook={CUSTOMIZE}"));
    if way == Way::Ownerless {
        command
            .arg("--skip=chroot/mount/dev")
            .arg(format!("--setup-hook={DEVICES}"))
            .arg(format!("--customize-hook={NO_DEVICES}"));
    }
    let include = include(options);
    if !include.is_empty() {
        command.arg(format!("--include={}", include.join(",")));
    }
    if recipe.release.slim {
        command.args(SLIM.iter().map(|rule| format!("--dpkgopt={rule}")));
    }
    command.args([recipe.release.suite.as_str(), "-", "-"]);
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .env("PATH", format!("{path}:/usr/sbin:/usr/bin:/sbin:/bin"))
        .env("LC_ALL", "C.UTF-8")
        .env("TMPDIR", dir)
        .env("RL_BOOTSTRAP", dir)
        // fakeroot tries chown(2) all the same, and takes no other refusal than EPERM; an id that is not
        // mapped answers EINVAL.
        .env("FAKEROOTDONTTRYCHOWN", "1")
        .current_dir("/");
    command
}

/// The child: PID 1 of its namespace, so that whatever the program leaves running ends with it.
fn run(
    mut command: Command,
    setgroups: bool,
    filter: Option<&[SockFilter]>,
    sources: File,
    tar: OwnedFd,
    log: OwnedFd,
) -> u8 {
    reset_signals();
    // A reader that has gone is an error to see, not a signal to die of.
    ignore_signal(libc::SIGPIPE);
    let mut errors = File::from(log);
    let prepared = become_root(setgroups).and_then(|()| Ok(crate::sys::mount::make_private()?));
    let prepared = prepared.and_then(|()| match filter {
        Some(filter) => Ok(sys::seccomp::install(
            filter,
            sys::seccomp::Flags::default(),
        )?),
        None => Ok(()),
    });
    let started = prepared.and_then(|()| {
        command
            .stdin(sources)
            .stdout(File::from(tar))
            .stderr(Stdio::from(errors.try_clone()?))
            .spawn()
    });
    // The command holds the pipes as well, and the end of the program is to be the end of the tar.
    drop(command);
    match started.and_then(|mut program| program.wait()) {
        Ok(status) => status.code().map_or(128, |code| code as u8),
        Err(error) => {
            let _ = writeln!(errors, "E: {error}");
            127
        }
    }
}

fn become_root(setgroups: bool) -> io::Result<()> {
    // Away from the terminal: Ctrl-C is our caller's to act on.
    let _ = rustix::process::setsid();
    let root = (nix::unistd::Uid::from_raw(0), nix::unistd::Gid::from_raw(0));
    if setgroups {
        nix::unistd::setgroups(&[])?;
    }
    nix::unistd::setresgid(root.1, root.1, root.1)?;
    nix::unistd::setresuid(root.0, root.0, root.0)?;
    // With root of the host among the mapped ids, its setuid programs (mount(8)) would leave root inside.
    rustix::thread::set_no_new_privs(true)?;
    // After the change of ids, which takes it away.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    Ok(())
}

/// Kills the child when one of the blocked signals comes.
fn watch_signals(child: &Arc<Child>, interrupted: &Arc<AtomicI32>) -> io::Result<()> {
    use nix::sys::signal::{SigSet, Signal};
    let signals: SigSet = [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ]
    .into_iter()
    .collect();
    let fd = nix::sys::signalfd::SignalFd::new(&signals)?;
    let (child, interrupted) = (Arc::clone(child), Arc::clone(interrupted));
    std::thread::Builder::new().spawn(move || {
        if let Ok(Some(info)) = fd.read_signal() {
            interrupted.store(info.ssi_signo as i32, Ordering::SeqCst);
            let _ = child.signal(libc::SIGKILL);
        }
    })?;
    Ok(())
}

fn listen(log: OwnedFd, lines: &dyn Fn(&str)) -> Vec<String> {
    let mut all = Vec::new();
    let mut reader = BufReader::new(File::from(log));
    let mut line = Vec::new();
    while let Ok(1..) = reader.read_until(b'\n', &mut line) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        lines(&text);
        all.push(text);
        line.clear();
    }
    all
}

impl Read for Engine {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ended {
            return Ok(0);
        }
        let n = self.tar.read(buffer)?;
        if n > 0 {
            return Ok(n);
        }
        self.ended = true;
        let ended = self.child.wait();
        let log = self
            .log
            .take()
            .and_then(|log| log.join().ok())
            .unwrap_or_default();
        let signal = self.interrupted.load(Ordering::SeqCst);
        let failure = match ended {
            _ if signal != 0 => Error::Interrupted(signal),
            Ok(ended) if ended.status() == 0 => return Ok(0),
            Ok(ended) => explain(&self.recipe, &self.dir, ended.status(), &log),
            Err(errno) => Error::Call {
                call: "waitid()".into(),
                source: errno.into(),
            },
        };
        let text = failure.to_string();
        self.failure = Some(failure);
        Err(io::Error::other(text))
    }
}

impl Engine {
    /// Why the reader failed, if the program was the reason.
    pub fn failure(&mut self) -> Option<Error> {
        self.failure.take()
    }
}

impl Drop for Engine {
    /// A tar that is read no further is not wanted.
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.child.signal(libc::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// apt's words for a mirror that does not answer.
const UNREACHABLE: &[&str] = &[
    "Could not connect",
    "Could not resolve",
    "Temporary failure resolving",
    "Unable to connect",
    "Connection timed out",
    "Connection failed",
    "Cannot initiate the connection",
    "Could not handshake",
    "Certificate verification failed",
];

/// What the program's words mean.
fn explain(recipe: &Recipe, dir: &Path, status: u8, log: &[String]) -> Error {
    let release = &recipe.release;
    let suite = release.suite.clone();
    // The sign that comes first counts, wherever its line stands: the later ones are often its echo.
    let find = |signs: &[&str]| {
        let with = |sign: &&str| log.iter().find(|line| line.contains(*sign));
        signs.iter().find_map(with).map(String::as_str)
    };
    if find(&["No space left on device"]).is_some() {
        return Error::Full {
            path: dir.to_owned(),
        };
    }
    let unsigned = |line: &str| Error::Unsigned {
        suite: suite.clone(),
        distribution: release.distribution,
        what: brief(line),
    };
    if let Some(line) = find(&["NO_PUBKEY", "EXPKEYSIG", "Invalid signature for key"]) {
        return unsigned(line);
    }
    if let Some(line) = find(&["is expired (invalid since", "is not valid yet"]) {
        return Error::Expired { what: brief(line) };
    }
    if let Some(line) = find(UNREACHABLE) {
        return Error::Mirror { what: brief(line) };
    }
    if let Some(line) = find(&["does not have a Release file"]) {
        let words = line.split(['\'', ' ']);
        let mirror = words.into_iter().find(|word| word.contains("://"));
        let mirror = without_password(mirror.unwrap_or_default());
        return Error::NoSuite { mirror, suite };
    }
    let named = find(&["Unable to locate package "])
        .and_then(|line| line.split("Unable to locate package ").nth(1))
        .or_else(|| find(&["has no installation candidate"])?.split('\'').nth(1));
    if let Some(name) = named {
        let name = name.trim().to_owned();
        return Error::NoPackage { name, suite };
    }
    if let Some(line) = find(&["Failed to fetch"]) {
        return Error::Mirror { what: brief(line) };
    }
    if let Some(line) = find(&["is not signed"]) {
        return unsigned(line);
    }
    let mut lines: Vec<String> = Vec::new();
    let telling = log
        .iter()
        .filter(|line| line.starts_with("E:") || line.contains("error"));
    for line in telling.map(|line| brief(line)) {
        if !lines.contains(&line) && line != "mmdebstrap failed to run" {
            lines.push(line);
        }
    }
    lines.truncate(4);
    if lines.is_empty() {
        lines.extend(log.last().map(|line| brief(line)));
    }
    Error::Failed {
        status,
        what: lines.join("; "),
    }
}

/// A line of the program without its mark, and without passwords.
fn brief(line: &str) -> String {
    let line = ["E: ", "W: ", "Err: "]
        .iter()
        .fold(line.trim(), |line, mark| line.trim_start_matches(mark));
    let words: Vec<String> = line.split_whitespace().map(without_password).collect();
    words.join(" ").trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apt_is_in_every_image_but_the_smallest() {
        let options = |variant: &str| Options {
            variant: variant.into(),
            include: vec!["curl".into()],
            mirror: None,
        };
        assert_eq!(include(&options("minbase")), ["apt", "curl"]);
        assert_eq!(include(&options("essential")), ["curl"]);
    }

    #[test]
    fn ways() {
        for own in [true, false] {
            assert_eq!(Way::of(65_536, own, false), Way::Real);
            assert_eq!(Way::of(1, own, false), Way::Ownerless);
        }
        assert_eq!(Way::of(1, true, true), Way::Remembered);
        assert_eq!(Way::of(1, false, true), Way::Ownerless);
    }
}
