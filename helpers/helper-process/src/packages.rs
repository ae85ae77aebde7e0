//! The line that installs a package, in the words of this machine's package manager. Packages are called by their names in
//! Debian.

use std::path::Path;

/// A package manager.
#[derive(Debug)]
struct Manager {
    program: &'static str,
    /// Installs packages, and asks.
    install: &'static str,
    /// The same, and does not ask.
    unattended: &'static str,
    /// What fetches the lists of packages, where installing does not.
    refresh: Option<&'static str>,
    /// What newuidmap and newgidmap are in.
    uidmap: &'static str,
}

/// The first is taken where none of them is there.
const MANAGERS: &[Manager] = &[
    Manager {
        program: "apt-get",
        install: "apt-get install",
        unattended: "apt-get install -y",
        refresh: Some("apt-get update"),
        uidmap: "uidmap",
    },
    Manager {
        program: "dnf",
        install: "dnf install",
        unattended: "dnf install -y",
        refresh: None,
        uidmap: "shadow-utils",
    },
    Manager {
        program: "zypper",
        install: "zypper install",
        unattended: "zypper --non-interactive install",
        refresh: None,
        uidmap: "shadow",
    },
    Manager {
        program: "pacman",
        install: "pacman -S",
        unattended: "pacman -S --noconfirm",
        refresh: Some("pacman -Sy"),
        uidmap: "shadow",
    },
    Manager {
        program: "apk",
        install: "apk add",
        unattended: "apk add",
        refresh: Some("apk update"),
        uidmap: "shadow-uidmap",
    },
];

/// The line, for root, that installs `package`.
pub fn install(package: &str) -> String {
    let there = |manager: &&Manager| {
        let dirs = ["/usr/bin", "/usr/sbin", "/sbin", "/bin"];
        dirs.iter()
            .any(|dir| Path::new(dir).join(manager.program).exists())
    };
    let manager = MANAGERS.iter().find(there).unwrap_or(&MANAGERS[0]);
    install_with(manager, package)
}

fn install_with(manager: &Manager, package: &str) -> String {
    let package = match package {
        "uidmap" => manager.uidmap,
        other => other,
    };
    format!("{} {package}", manager.install)
}

/// Of a line of [`install`]: what has to be done before it, and the line for a script, in which nobody is asked.
pub fn unattended(line: &str) -> Option<(Option<&'static str>, String)> {
    MANAGERS.iter().find_map(|manager| {
        let packages = line.strip_prefix(manager.install)?.strip_prefix(' ')?;
        Some((
            manager.refresh,
            format!("{} {packages}", manager.unattended),
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_each_manager() {
        for manager in MANAGERS {
            let line = install_with(manager, "passt");
            assert!(line.starts_with(manager.program) && line.ends_with(" passt"));
            let (refresh, quiet) = unattended(&line).unwrap();
            assert_eq!(refresh, manager.refresh);
            assert_eq!(quiet, format!("{} passt", manager.unattended));
        }
        let of = |at: usize| install_with(&MANAGERS[at], "uidmap");
        assert_eq!(of(0), "apt-get install uidmap");
        assert_eq!(of(1), "dnf install shadow-utils");
        assert_eq!(of(4), "apk add shadow-uidmap");
        assert_eq!(unattended("chmod u+s /usr/bin/newuidmap"), None);
    }
}
