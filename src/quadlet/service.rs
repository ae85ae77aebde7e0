//! The text of a service, and what all services have in common.
//!
//! `Type=notify`, with `rl run` in the foreground as the main process. The monitor of `rl run --detach` leaves its
//! parent, so systemd would have to be told its number through a file (`Type=forking`), and a restart would race for
//! it; the front end in the foreground ends when the container ends, with its exit status, passes signals on, and
//! writes what the container prints where the journal takes it. Monitor and container are in the service's cgroup
//! with it (`--cgroups=split`), so nothing can be left behind. The service counts as started when the command runs, which
//! the front end tells; to fetch an image may take as long as it takes (`TimeoutStartSec=infinity`).
//!
//! `KillMode=mixed`: at the stop first `rl stop` asks, as the container wants to be asked (stop signal and timeout);
//! SIGTERM then goes to the front end alone, which only matters while it still fetches an image; what is left gets
//! SIGKILL. `Delegate=yes`: the cgroups below are the container's. A program that SIGTERM ended makes `rl` exit with
//! 128+15, which is a failure to systemd unless it is told (`SuccessExitStatus=`).

use super::names::Known;
use super::parse::{Entry, Unit};
use super::{Error, Host, names, words};

/// How the first line of what is written here begins.
pub const HEAD: &str = "# Made by rl";

/// Types of a service that go together with a main process in the foreground which says when its command runs.
const TYPES: &[&str] = &["notify", "exec", "simple", "oneshot"];

/// Exit status for a command that SIGTERM ended.
pub const TERMINATED: i32 = 128 + 15;

/// `rl run` in the service's own control group (podman-systemd.unit(5), `CgroupsMode=`).
pub const SPLIT: &str = "--cgroups=split";

/// Options that go together with a group of the container's own only.
const OWN_GROUP: &[&str] = &[
    "--blkio-weight",
    "--cgroup",
    "--cpu",
    "--device-read-",
    "--device-write-",
    "--hugetlb",
    "--memory",
    "--pids-limit",
    "-c",
    "-m",
];

/// Whether there is such an option among words.
pub fn wants_own_group<'a>(words: impl IntoIterator<Item = &'a String>) -> bool {
    let is_one = |word: &String| OWN_GROUP.iter().any(|option| word.starts_with(option));
    words.into_iter().any(is_one)
}

/// A unit that is being written.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    /// Begins with the comment that tells our units from others'.
    pub fn new(from: &str) -> Text {
        // A line break would end the comment.
        let from = from.replace(['\n', '\r'], " ");
        Text(format!(
            "{HEAD} from {from}; what is changed here is lost.\n"
        ))
    }

    /// Begins a section.
    pub fn section(&mut self, name: &str) {
        self.0.push_str(&format!("\n[{name}]\n"));
    }

    /// One assignment.
    pub fn set(&mut self, key: &str, value: &str) {
        // A path may have line breaks, which would begin another assignment; systemd cannot name such a path at all.
        let value = value.replace(['\n', '\r'], " ");
        self.0.push_str(&format!("{key}={value}\n"));
    }

    /// An assignment as it was.
    pub fn copy(&mut self, entry: &Entry) {
        self.set(&entry.key, &entry.value);
    }

    /// What services of all kinds need to find the same containers as whoever generates them.
    pub fn environment(&mut self, host: &Host<'_>) {
        if let Some(path) = host.data_home {
            // `Environment=` expands no variables, so `$` stands for itself (systemd.exec(5)).
            let value = format!("XDG_DATA_HOME={}", path.display()).replace('%', "%%");
            self.set("Environment", &words::quote(&value));
        }
    }

    /// The whole.
    pub fn finish(self) -> String {
        self.0
    }
}

/// `rl` and a verb, as the beginning of a command line.
pub fn rl(host: &Host<'_>, verb: &[&str]) -> Vec<String> {
    let program = words::literal(&host.program.to_string_lossy());
    let verb = verb.iter().map(|word| (*word).to_owned());
    [program].into_iter().chain(verb).collect()
}

/// What a file makes of the sections that are systemd's: `[Unit]` with the files in it replaced by their services,
/// the rest as it is.
pub struct Frame<'a> {
    /// The file.
    pub unit: &'a Unit,
    /// Services that have to be there before.
    pub needs: Vec<String>,
    /// `[Service]`, what comes before the user's own.
    pub service: Vec<(&'static str, String)>,
}

/// Keys of `[Unit]` that name units.
const DEPENDENCIES: &[&str] = &[
    "Wants",
    "Requires",
    "Requisite",
    "BindsTo",
    "PartOf",
    "Upholds",
    "Conflicts",
    "Before",
    "After",
];

impl<'a> Frame<'a> {
    /// A service that runs a command once and stays active, so that others can require what it has made.
    pub fn made_once(unit: &'a Unit, line: Vec<String>) -> Frame<'a> {
        Frame {
            unit,
            needs: Vec::new(),
            service: vec![
                ("Type", "oneshot".into()),
                ("RemainAfterExit", "yes".into()),
                ("SyslogIdentifier", "%N".into()),
                ("ExecStart", words::line(line)),
            ],
        }
    }

    /// The text of the service.
    ///
    /// # Errors
    /// Something in the sections that does not go together with what is made here.
    pub fn text(&self, known: &Known, host: &Host<'_>) -> Result<String, Error> {
        let mut text = Text::new(&self.unit.path.display().to_string());
        text.section("Unit");
        let source = self.unit.path.to_string_lossy().replace('%', "%%");
        text.set("SourcePath", &source);
        for service in &self.needs {
            text.set("Requires", service);
            text.set("After", service);
        }
        for entry in self.unit.section("Unit") {
            match DEPENDENCIES.contains(&entry.key.as_str()) {
                true => text.set(&entry.key, &known.translate(entry)?),
                false => text.copy(entry),
            }
        }
        text.section("Service");
        text.environment(host);
        for (key, value) in &self.service {
            text.set(key, value);
        }
        for entry in self.unit.section("Service") {
            if entry.key == "ExecStart" {
                return Err(
                    entry.refuse("the command is what `Image=`, `Exec=` and the others say")
                );
            }
            if entry.key == "Type" && !TYPES.contains(&&*entry.value) {
                return Err(
                    entry.refuse("`notify` (which it is without), `exec`, `simple` or `oneshot`")
                );
            }
            text.copy(entry);
        }
        for section in &self.unit.sections {
            if section.name == "Install" || section.name.starts_with("X-") {
                text.section(&section.name);
                section.entries.iter().for_each(|entry| text.copy(entry));
            }
        }
        Ok(text.finish())
    }
}

/// Refuses sections that a file of this kind does not have, and keys of its own one that are not in `known`.
///
/// # Errors
/// The first of them.
pub fn check(
    unit: &Unit,
    kind: &str,
    known: &dyn Fn(&str) -> bool,
    not_yet: &[&str],
) -> Result<(), Error> {
    let own = names::section(kind);
    for section in &unit.sections {
        let name = section.name.as_str();
        let passes = ["Unit", "Service", "Install", "Quadlet"].contains(&name);
        if name != own && !passes && !name.starts_with("X-") {
            return Err(Error::Section {
                place: section.place.clone(),
                name: name.to_owned(),
                kind: kind.to_owned(),
            });
        }
    }
    // podman waits for the network by default, in a service of its own; here nothing does.
    for entry in unit.section("Quadlet") {
        if entry.key != "DefaultDependencies" {
            return Err(unknown(entry, "Quadlet"));
        }
        if entry.truth()? {
            return Err(entry.refuse("no service waits for the network here; say so in `[Unit]`"));
        }
    }
    for entry in unit.section(own) {
        // systemd.unit(5): these are other programs'.
        if known(&entry.key) || entry.key.starts_with("X-") {
            continue;
        }
        if not_yet.contains(&entry.key.as_str()) {
            return Err(Error::NotYet {
                place: entry.place.clone(),
                key: entry.key.clone(),
            });
        }
        return Err(unknown(entry, own));
    }
    Ok(())
}

/// A key that nobody has.
pub fn unknown(entry: &Entry, section: &'static str) -> Error {
    Error::UnknownKey {
        place: entry.place.clone(),
        key: entry.key.clone(),
        section,
    }
}
