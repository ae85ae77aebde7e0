//! Package sources: what apt on this machine reads, and from it what a new tree shall read.
//!
//! The sources are those of this machine whose suite belongs to the wanted release (`bookworm`,
//! `bookworm-updates`, `bookworm-security`). Where it has none, they are derived from the address of a mirror
//! it has of the same distribution, else from the address beside one of another distribution, else they are
//! the distribution's own. Both notations of sources.list(5) are read; one is written, deb822.

use std::fmt::Write as _;
use std::path::Path;

use crate::model::distribution::{Distribution, Release};

/// One source: a stanza of a `.sources` file, or a line of a `.list` file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Addresses.
    pub uris: Vec<String>,
    /// Suites.
    pub suites: Vec<String>,
    /// Components.
    pub components: Vec<String>,
    /// The other fields as they are (`Signed-By`, `Trusted`, …), with the lines that continue them.
    pub fields: Vec<(String, String)>,
}

impl Entry {
    fn field(&self, name: &str) -> Option<&str> {
        let found = self
            .fields
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Whether it is the archive of a distribution, as opposed to somebody's own packages for it.
    fn is_archive(&self) -> bool {
        let main = self.components.iter().any(|c| c == "main");
        let key = self.field("Signed-By").unwrap_or_default();
        // A key of the distribution's own, or one in the trusted set, or a key written out.
        let key = key.is_empty() || key.contains("-archive-") || !key.trim_start().starts_with('/');
        main && key && !self.uris.iter().any(|uri| uri.contains("://ppa."))
    }

    /// Whose archive it is, going by the address.
    fn distribution(&self) -> Option<Distribution> {
        let uri = self.uris.first()?.to_ascii_lowercase();
        let path = uri.split_once("://").map_or("", |(_, rest)| rest);
        let last = path.trim_end_matches('/').rsplit('/').next()?;
        if last.starts_with("ubuntu") {
            Some(Distribution::Ubuntu)
        } else if last.starts_with("debian") || last == "debian-security" {
            Some(Distribution::Debian)
        } else {
            None
        }
    }
}

/// Reads the sources below `etc` (`/etc/apt`), as sources.list(5) says: disabled ones and those of
/// source packages are left out, and so is what cannot be read.
pub fn read(etc: &Path) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut take = |path: &Path| {
        let Ok(text) = std::fs::read_to_string(path) else {
            return;
        };
        match path.extension().and_then(|e| e.to_str()) {
            Some("list") => entries.extend(text.lines().filter_map(line)),
            Some("sources") => entries.extend(stanzas(&text)),
            _ => {}
        }
    };
    take(&etc.join("sources.list"));
    let dir = std::fs::read_dir(etc.join("sources.list.d"));
    let mut files: Vec<_> = dir
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .collect();
    files.sort();
    for file in files {
        take(&file);
    }
    entries.retain(|e| !e.uris.is_empty() && !e.uris.iter().any(|u| u.starts_with("cdrom:")));
    entries
}

/// `deb [option=value …] uri suite component…`
fn line(text: &str) -> Option<Entry> {
    let text = text.split('#').next()?.trim();
    let mut rest = text.strip_prefix("deb")?;
    if !rest.starts_with(char::is_whitespace) {
        return None;
    }
    rest = rest.trim_start();
    let mut entry = Entry::default();
    if let Some(inner) = rest.strip_prefix('[') {
        let (options, after) = inner.split_once(']')?;
        for option in options.split_whitespace() {
            let (name, value) = option.split_once('=')?;
            let name = match name.to_ascii_lowercase().as_str() {
                "arch" => "Architectures".to_owned(),
                "lang" => "Languages".to_owned(),
                "target" => "Targets".to_owned(),
                other => other.to_owned(),
            };
            entry.fields.push((name, value.replace(',', " ")));
        }
        rest = after;
    }
    let mut words = rest.split_whitespace().map(str::to_owned);
    entry.uris.push(words.next()?);
    entry.suites.push(words.next()?);
    entry.components = words.collect();
    Some(entry)
}

/// The stanzas of a deb822 file.
fn stanzas(text: &str) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.trim().is_empty() {
            found.extend(stanza(std::mem::take(&mut fields)));
        } else if line.starts_with('#') {
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                let _ = write!(value, "\n{line}");
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    found
}

fn stanza(fields: Vec<(String, String)>) -> Option<Entry> {
    let mut entry = Entry::default();
    let mut binary = false;
    for (name, value) in fields {
        let words = || value.split_whitespace().map(str::to_owned).collect();
        match name.to_ascii_lowercase().as_str() {
            "types" => binary = value.split_whitespace().any(|word| word == "deb"),
            "uris" => entry.uris = words(),
            "suites" => entry.suites = words(),
            "components" => entry.components = words(),
            "enabled"
                if ["no", "false", "without", "off", "disable", "0"].contains(&value.as_str()) =>
            {
                return None;
            }
            "enabled" => {}
            _ => entry.fields.push((name, value)),
        }
    }
    binary.then_some(entry)
}

/// The sources that a tree of `release` gets: from `mirror`, where one is given, else from what this
/// machine has. `architecture` is dpkg's name of it.
pub fn choose(
    release: &Release,
    mirror: Option<&str>,
    host: &[Entry],
    architecture: &str,
) -> Vec<Entry> {
    if let Some(mirror) = mirror {
        return vec![made(release, mirror, std::slice::from_ref(&release.suite))];
    }
    let own: Vec<Entry> = host.iter().filter_map(|e| of_release(e, release)).collect();
    let whole = own.iter().any(|e| e.suites.contains(&release.suite));
    if whole {
        return own;
    }
    let mirrors: Vec<&Entry> = host.iter().filter(|e| e.is_archive()).collect();
    let security = |uri: &str| uri.contains("security");
    let find = |wanted: Distribution, secure: bool| {
        mirrors
            .iter()
            .filter(|e| e.distribution() == Some(wanted))
            .flat_map(|e| &e.uris)
            .find(|uri| security(uri) == secure)
            .cloned()
    };
    let main = find(release.distribution, false)
        .or_else(|| {
            let other = match release.distribution {
                Distribution::Debian => Distribution::Ubuntu,
                Distribution::Ubuntu => Distribution::Debian,
            };
            beside(&find(other, false)?, release.distribution)
        })
        .unwrap_or_else(|| public(release.distribution, architecture).to_owned());
    let suite = &release.suite;
    match release.distribution {
        Distribution::Debian
            if ["sid", "unstable", "experimental", "rc-buggy"].contains(&suite.as_str()) =>
        {
            vec![made(release, &main, std::slice::from_ref(suite))]
        }
        Distribution::Debian => {
            let secure = find(release.distribution, true).unwrap_or_else(|| {
                match main.trim_end_matches('/') {
                    main if main.ends_with("/debian") => format!("{main}-security"),
                    _ => "http://deb.debian.org/debian-security".to_owned(),
                }
            });
            vec![
                made(release, &main, &[suite.clone(), format!("{suite}-updates")]),
                made(release, &secure, &[format!("{suite}-security")]),
            ]
        }
        Distribution::Ubuntu => vec![made(
            release,
            &main,
            &[
                suite.clone(),
                format!("{suite}-updates"),
                format!("{suite}-security"),
            ],
        )],
    }
}

/// The part of an entry that belongs to a release: its suites of that name.
fn of_release(entry: &Entry, release: &Release) -> Option<Entry> {
    let other = entry
        .distribution()
        .is_some_and(|d| d != release.distribution);
    if other || !entry.is_archive() {
        return None;
    }
    let mut entry = entry.clone();
    entry.suites.retain(|suite| {
        let rest = suite.strip_prefix(release.suite.as_str());
        rest.is_some_and(|rest| {
            matches!(
                rest,
                "" | "-updates" | "-security" | "-backports" | "/updates"
            )
        })
    });
    (!entry.suites.is_empty()).then_some(entry)
}

/// The address of another distribution's archive beside this one, on a mirror that may have both.
fn beside(uri: &str, wanted: Distribution) -> Option<String> {
    let base = uri.trim_end_matches('/');
    let own = [
        "://deb.debian.org/",
        "://archive.ubuntu.com/",
        "://ports.ubuntu.com/",
    ];
    if own.iter().any(|host| base.contains(host)) {
        return None;
    }
    let (parent, last) = base.rsplit_once('/')?;
    ["debian", "ubuntu"]
        .contains(&last)
        .then(|| format!("{parent}/{}", wanted.name()))
}

fn public(distribution: Distribution, architecture: &str) -> &'static str {
    match distribution {
        Distribution::Debian => "http://deb.debian.org/debian",
        Distribution::Ubuntu if ["amd64", "i386"].contains(&architecture) => {
            "http://archive.ubuntu.com/ubuntu"
        }
        Distribution::Ubuntu => "http://ports.ubuntu.com/ubuntu-ports",
    }
}

fn made(release: &Release, uri: &str, suites: &[String]) -> Entry {
    let components: &[&str] = match release.distribution {
        Distribution::Debian => &["main"],
        Distribution::Ubuntu => &["main", "universe"],
    };
    let key = keyring(release.distribution);
    let key = Path::new(key)
        .exists()
        .then(|| ("Signed-By".to_owned(), key.to_owned()));
    Entry {
        uris: vec![uri.to_owned()],
        suites: suites.to_vec(),
        components: components.iter().map(|&c| c.to_owned()).collect(),
        fields: key.into_iter().collect(),
    }
}

/// The keys of a distribution's archive, where its own package of them puts them.
pub fn keyring(distribution: Distribution) -> &'static str {
    match distribution {
        Distribution::Debian => "/usr/share/keyrings/debian-archive-keyring.gpg",
        Distribution::Ubuntu => "/usr/share/keyrings/ubuntu-archive-keyring.gpg",
    }
}

/// The entries as a deb822 file.
pub fn deb822(entries: &[Entry]) -> String {
    let mut out = String::new();
    for entry in entries {
        let _ = writeln!(
            out,
            "Types: deb\nURIs: {}\nSuites: {}",
            entry.uris.join(" "),
            entry.suites.join(" ")
        );
        if !entry.components.is_empty() {
            let _ = writeln!(out, "Components: {}", entry.components.join(" "));
        }
        for (name, value) in &entry.fields {
            let _ = writeln!(out, "{name}: {value}");
        }
        out.push('\n');
    }
    out
}

/// Keyrings of these entries that no package of the distribution brings along.
pub fn own_keyrings(entries: &[Entry]) -> Vec<String> {
    let mut paths: Vec<String> = Vec::new();
    for key in entries.iter().filter_map(|e| e.field("Signed-By")) {
        let files = key.split([' ', ',']).filter(|word| word.starts_with('/'));
        for path in files.filter(|p| !p.starts_with("/usr/share/keyrings/")) {
            if !paths.iter().any(|known| known == path) {
                paths.push(path.to_owned());
            }
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "# comment
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 AAAA

Types: deb
URIs: https://download.example/linux/debian
Suites: bookworm
Components: stable
Signed-By: /etc/apt/keyrings/x.gpg

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
";

    fn release(text: &str) -> Release {
        Release::of(&text.parse().unwrap()).unwrap()
    }

    fn told(entries: &[Entry]) -> Vec<String> {
        let tell = |e: &Entry| {
            format!(
                "{} {} {}",
                e.uris.join(","),
                e.suites.join(","),
                e.components.join(",")
            )
        };
        entries.iter().map(tell).collect()
    }

    #[test]
    fn the_machines_own_sources_of_the_release() {
        let host = stanzas(HOST);
        let chosen = choose(&release("debian:bookworm"), None, &host, "amd64");
        assert_eq!(
            told(&chosen),
            [
                "http://mirror.example/debian bookworm,bookworm-updates main,contrib",
                "http://mirror.example/debian-security bookworm-security main"
            ]
        );
        let text = deb822(&chosen);
        assert!(text.contains("Signed-By: \n -----BEGIN PGP"), "{text}");
        assert_eq!(stanzas(&text), chosen);
    }

    #[test]
    fn other_suites_and_distributions_from_the_same_mirror() {
        let host = stanzas(HOST);
        assert_eq!(
            told(&choose(&release("debian:13"), None, &host, "amd64")),
            [
                "http://mirror.example/debian trixie,trixie-updates main",
                "http://mirror.example/debian-security trixie-security main"
            ]
        );
        let sid = choose(&release("debian:sid"), None, &host, "amd64");
        assert_eq!(told(&sid), ["http://mirror.example/debian sid main"]);
        assert_eq!(
            told(&choose(&release("ubuntu:24.04"), None, &host, "amd64")),
            ["http://mirror.example/ubuntu noble,noble-updates,noble-security main,universe"]
        );
        let given = choose(&release("debian:13"), Some("http://m/x"), &host, "amd64");
        assert_eq!(told(&given), ["http://m/x trixie main"]);
    }

    #[test]
    fn without_sources() {
        assert_eq!(
            told(&choose(&release("debian:12"), None, &[], "amd64")),
            [
                "http://deb.debian.org/debian bookworm,bookworm-updates main",
                "http://deb.debian.org/debian-security bookworm-security main"
            ]
        );
        let ports = choose(&release("ubuntu:jammy"), None, &[], "arm64");
        assert!(told(&ports)[0].starts_with("http://ports.ubuntu.com/ubuntu-ports jammy,"));
        let official = line("deb http://deb.debian.org/debian bookworm main").unwrap();
        let ubuntu = choose(&release("ubuntu:jammy"), None, &[official], "amd64");
        assert!(told(&ubuntu)[0].starts_with("http://archive.ubuntu.com/ubuntu jammy,"));
    }

    #[test]
    fn lines() {
        let entry = line("deb [arch=amd64,i386 signed-by=/etc/apt/keyrings/m.gpg] http://m/debian bookworm main # x").unwrap();
        assert_eq!(
            told(std::slice::from_ref(&entry)),
            ["http://m/debian bookworm main"]
        );
        assert_eq!(entry.field("Architectures"), Some("amd64 i386"));
        assert_eq!(own_keyrings(&[entry]), ["/etc/apt/keyrings/m.gpg"]);
        for no in [
            "deb-src http://m/debian bookworm main",
            "# deb http://m x y",
            "",
            "debug x",
        ] {
            assert_eq!(line(no), None, "{no}");
        }
    }
}
