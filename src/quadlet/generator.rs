//! The generator (systemd.generator(7)): finds Quadlet files, makes services of them, writes these where systemd looks.
//!
//! One file that cannot be used is no reason to withhold the others: its errors are gathered and told, the rest is
//! written. systemd does not enable what a generator makes, so the links that `[Install]` asks for are made here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::names::{KINDS, Known, Made, Name, OTHER_KINDS};
use super::parse::Unit;
use super::service::{HEAD, unknown};
use super::{Error, Host, container, names, network, volume};

/// Name under which `rl` is a generator.
pub const NAME: &str = "rl-generator";

/// Whose services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those of the machine.
    System,
    /// Those of a user.
    User,
}

/// Where the files are looked for, the directory that counts first before the others (podman-systemd.unit(5), "unit
/// search path").
pub fn search_path(
    scope: Scope,
    uid: u32,
    config_home: Option<&Path>,
    runtime_dir: Option<&Path>,
) -> Vec<PathBuf> {
    let below = |dir: &Path| dir.join("containers/systemd");
    let system = |dir: &str| PathBuf::from(dir).join("containers/systemd");
    match scope {
        Scope::System => ["/run", "/etc", "/usr/share"].map(system).to_vec(),
        Scope::User => {
            let own = [runtime_dir, config_home].into_iter().flatten().map(below);
            let users = ["/etc", "/usr/share"].map(|dir| system(dir).join("users"));
            let shared = users
                .iter()
                .flat_map(|dir| [dir.join(uid.to_string()), dir.clone()]);
            own.chain(shared).collect()
        }
    }
}

/// A file as it was found, with the drop-ins that belong to it in the order in which they count.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its name.
    pub name: Name,
    /// Its path and text.
    pub file: (PathBuf, String),
    /// The same of each drop-in.
    pub drop_ins: Vec<(PathBuf, String)>,
}

/// Reads all files below directories, of which the first that has a name counts.
pub fn read(directories: &[PathBuf]) -> (Vec<Found>, Vec<Error>) {
    let mut errors = Vec::new();
    let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut drop_ins: Vec<PathBuf> = Vec::new();
    for directory in directories {
        // In the directory of all users, that of one is looked into for this one only, which has it in the list itself.
        let shared = directory.ends_with("users");
        walk(directory, shared, 0, &mut files, &mut drop_ins, &mut errors);
    }
    let mut found = Vec::new();
    for (file_name, path) in files {
        let Some(name) = Name::of(&file_name) else {
            continue;
        };
        if OTHER_KINDS.contains(&name.kind.as_str()) {
            errors.push(Error::NoKind {
                file: path,
                kind: name.kind.clone(),
            });
            continue;
        }
        let mut text = |path: PathBuf| match std::fs::read_to_string(&path) {
            Ok(text) => Some((path, text)),
            Err(source) => {
                errors.push(Error::File { path, source });
                None
            }
        };
        // A link to nothing masks the file (systemd.unit(5)).
        if std::fs::canonicalize(&path).is_ok_and(|path| path == Path::new("/dev/null")) {
            continue;
        }
        let Some(file) = text(path) else { continue };
        let own = drop_ins_of(&name, &drop_ins);
        let read: Vec<_> = own.into_iter().map(&mut text).collect();
        // With a part of it missing it would be another container.
        if let Some(drop_ins) = read.into_iter().collect() {
            found.push(Found {
                name,
                file,
                drop_ins,
            });
        }
    }
    (found, errors)
}

fn is_machines(directory: &Path) -> bool {
    search_path(Scope::System, 0, None, None).contains(&directory.to_owned())
}

/// How deep directories are searched.
const DEPTH: usize = 16;

fn walk(
    directory: &Path,
    shared: bool,
    depth: usize,
    files: &mut BTreeMap<String, PathBuf>,
    drop_ins: &mut Vec<PathBuf>,
    errors: &mut Vec<Error>,
) {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(source) if depth == 0 && source.kind() == std::io::ErrorKind::NotFound => return,
        Err(source) => {
            let path = directory.to_owned();
            errors.push(Error::File { path, source });
            return;
        }
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if path.is_dir() {
            let of_one_user = shared && depth == 0 && name.bytes().all(|b| b.is_ascii_digit());
            // The users' directories lie below those of the machine.
            let of_users = depth == 0 && name == "users" && is_machines(directory);
            if name.ends_with(".d") {
                drop_ins.push(path);
            } else if !of_one_user && !of_users && depth < DEPTH {
                walk(&path, shared, depth + 1, files, drop_ins, errors);
            }
            continue;
        }
        let kind = name.rsplit_once('.').map_or("", |(_, kind)| kind);
        if KINDS.contains(&kind) || OTHER_KINDS.contains(&kind) {
            files.entry(name.to_owned()).or_insert(path);
        }
    }
}

/// The drop-ins of a file: by name, of several with one name the most special, of these the first that was found.
fn drop_ins_of(name: &Name, directories: &[PathBuf]) -> Vec<PathBuf> {
    let mut chosen: BTreeMap<std::ffi::OsString, PathBuf> = BTreeMap::new();
    for wanted in drop_in_directories(name) {
        let named = |dir: &&PathBuf| dir.file_name().is_some_and(|name| *name == *wanted);
        for directory in directories.iter().filter(named) {
            for path in listed(directory) {
                let is_conf = path.extension().is_some_and(|kind| kind == "conf");
                if let Some(name) = path.file_name().filter(|_| is_conf) {
                    chosen.entry(name.to_owned()).or_insert(path);
                }
            }
        }
    }
    chosen.into_values().collect()
}

/// The names of a file's drop-in directories, the most special first.
fn drop_in_directories(name: &Name) -> Vec<String> {
    let mut all = vec![format!("{}.d", name.file())];
    if let Some(template) = name.template() {
        all.push(format!("{}.d", template.file()));
    }
    let dashes = name.base.match_indices('-').rev();
    let shorter = dashes.map(|(at, _)| &name.base[..=at]);
    all.extend(
        shorter
            .filter(|base| *base != name.base)
            .map(|base| format!("{base}.{}.d", name.kind)),
    );
    all.push(format!("{}.d", name.kind));
    all
}

/// What is to be written.
#[derive(Debug, Default)]
pub struct Generated {
    /// Names and texts of services.
    pub units: Vec<(String, String)>,
    /// Links: path below the directory of units, and where it leads.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// What could not be used.
    pub errors: Vec<Error>,
}

/// Makes services of files.
pub fn generate(found: Vec<Found>, host: &Host<'_>) -> Generated {
    let mut out = Generated::default();
    let mut units: Vec<(Name, Unit, Made)> = Vec::new();
    let mut known = Known::default();
    let mut owners: BTreeMap<String, PathBuf> = BTreeMap::new();
    for file in found {
        let name = file.name.clone();
        let unit = match whole(&file) {
            Ok(unit) => unit,
            Err(error) => {
                out.errors.push(error);
                continue;
            }
        };
        match Made::of(&name, &unit) {
            Err(error) => out.errors.push(error),
            Ok(made) => match owners.get(&made.service) {
                Some(other) => out.errors.push(Error::Twice {
                    file: unit.path,
                    service: made.service,
                    other: other.clone(),
                }),
                None => {
                    owners.insert(made.service.clone(), unit.path.clone());
                    known.0.insert(name.file(), made.clone());
                    units.push((name, unit, made));
                }
            },
        }
    }
    for (name, unit, made) in &units {
        let text = match name.kind.as_str() {
            "volume" => volume::text(unit, made, &known, host),
            "network" => network::text(unit, made, &known, host),
            _ => container::text(unit, made, &known, host),
        };
        match text.and_then(|text| Ok((text, links(name, unit, made)?))) {
            Ok((text, links)) => {
                out.units.push((made.service.clone(), text));
                out.links.extend(links);
            }
            Err(error) => out.errors.push(error),
        }
    }
    out
}

fn whole(file: &Found) -> Result<Unit, Error> {
    let mut unit = Unit::parse(&file.file.0, &file.file.1)?;
    for (path, text) in &file.drop_ins {
        unit.merge(Unit::parse(path, text)?);
    }
    Ok(unit)
}

/// The links that `systemctl enable` would make.
fn links(name: &Name, unit: &Unit, made: &Made) -> Result<Vec<(PathBuf, PathBuf)>, Error> {
    const INSTALL: &str = "Install";
    let mut all = Vec::new();
    for entry in unit.section(INSTALL) {
        let known = [
            "Alias",
            "WantedBy",
            "RequiredBy",
            "UpheldBy",
            "DefaultInstance",
        ];
        if !known.contains(&entry.key.as_str()) && !entry.key.starts_with("X-") {
            return Err(unknown(entry, INSTALL));
        }
    }
    let service = match unit.last(INSTALL, "DefaultInstance") {
        Some(entry) if name.is_template() => {
            let instance = format!("@{}.service", entry.value);
            let service = made.service.replace("@.service", &instance);
            if !names::is_unit_name(&service) {
                return Err(entry.refuse("that makes no name for a unit"));
            }
            service
        }
        // Nothing to enable: each instance has to be asked for.
        _ if name.is_template() => return Ok(all),
        _ => made.service.clone(),
    };
    let beside = Path::new("..").join(&made.service);
    for (key, suffix) in [
        ("WantedBy", "wants"),
        ("RequiredBy", "requires"),
        ("UpheldBy", "upholds"),
    ] {
        for entry in unit.all(INSTALL, key) {
            for target in entry.words()? {
                if !names::is_unit_name(&target) || !target.contains('.') {
                    return Err(entry.refuse(format!("`{target}` is no name of a unit")));
                }
                let link = Path::new(&format!("{target}.{suffix}")).join(&service);
                all.push((link, beside.clone()));
            }
        }
    }
    for entry in unit.all(INSTALL, "Alias") {
        for alias in entry.words()? {
            if !names::is_unit_name(&alias) || !alias.ends_with(".service") {
                return Err(entry.refuse(format!("`{alias}` is no name of a service")));
            }
            all.push((PathBuf::from(alias), PathBuf::from(&service)));
        }
    }
    Ok(all)
}

/// Writes services and links into a directory; services of an earlier time that are not made any more go away.
/// Returns what could not be written.
pub fn write(generated: &Generated, directory: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if let Err(source) = std::fs::create_dir_all(directory) {
        let path = directory.to_owned();
        return vec![Error::File { path, source }];
    }
    clear(directory);
    for (name, text) in &generated.units {
        let path = directory.join(name);
        // Where podman's generator reads the same files, the first to come has it.
        let mut new = std::fs::OpenOptions::new();
        let file = new.write(true).create_new(true).open(&path);
        match file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes())) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                errors.push(Error::Foreign(path));
            }
            Err(source) => errors.push(Error::File { path, source }),
        }
    }
    for (link, target) in &generated.links {
        let path = directory.join(link);
        let parent = path.parent().unwrap_or(directory);
        let made = std::fs::create_dir_all(parent)
            .and_then(|()| std::os::unix::fs::symlink(target, &path));
        match made {
            Ok(()) => {}
            Err(_) if std::fs::read_link(&path).is_ok_and(|old| old == *target) => {}
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                errors.push(Error::Foreign(path));
            }
            Err(source) => errors.push(Error::File { path, source }),
        }
    }
    errors
}

/// Takes away what was written at an earlier time: services, and links that lead to them.
fn clear(directory: &Path) {
    let ours: Vec<PathBuf> = listed(directory)
        .filter(|path| path.extension().is_some_and(|kind| kind == "service"))
        .filter(|path| path.is_file() && !path.is_symlink() && is_generated(path))
        .collect();
    let leads_to_ours = |link: &PathBuf| {
        let target = std::fs::read_link(link).unwrap_or_default();
        let ours = ours.iter().filter_map(|path| path.file_name());
        link.is_symlink()
            && ours
                .into_iter()
                .any(|name| target.file_name() == Some(name))
    };
    let kinds = ["wants", "requires", "upholds"];
    let linked = listed(directory).filter(|path| {
        let kind = path.extension().and_then(|kind| kind.to_str());
        kind.is_some_and(|kind| kinds.contains(&kind))
    });
    let links = linked
        .flat_map(|path| listed(&path))
        .chain(listed(directory));
    for path in links.filter(leads_to_ours) {
        let _ = std::fs::remove_file(path);
    }
    for path in &ours {
        let _ = std::fs::remove_file(path);
    }
}

fn listed(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

/// Whether a file was written from a Quadlet file: those of `rl enable` are not to be touched.
fn is_generated(path: &Path) -> bool {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let first = text.lines().next().unwrap_or_default();
    first.starts_with(&format!("{HEAD} from /"))
}

#[cfg(test)]
mod tests;
