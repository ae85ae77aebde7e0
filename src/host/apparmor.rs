//! AppArmor around this process: the profile that confines it, where such a profile decides about user namespaces.

use std::path::Path;

/// A profile that may refuse user namespaces to this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// How this process came under it.
    pub entered: Entered,
}

/// How a process came under its profile, which decides what lets it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// By the path of a file: a profile for that of this program comes before it.
    Path,
    /// Otherwise: whoever started the process chose it, or it does not let go of its programs.
    Name,
    /// By an outer container, from which the machine's policy cannot be seen.
    Container,
}

/// Where the kernel shows the policy; a container's sysfs comes without it.
const POLICY: &str = "/sys/kernel/security/apparmor";

impl Profile {
    /// That of this process; none where it is not confined, or where this kernel's AppArmor leaves user namespaces alone
    /// (before Linux 6.7). `own` is the name of the profile for this program's path, where there should be one.
    pub fn find(own: Option<&str>) -> Option<Profile> {
        let current = std::fs::read_to_string("/proc/self/attr/apparmor/current").ok()?;
        Profile::of(enforced(&current)?, own, Path::new(POLICY))
    }

    fn of(name: &str, own: Option<&str>, policy: &Path) -> Option<Profile> {
        let read = |file: &str| std::fs::read_to_string(policy.join(file)).unwrap_or_default();
        let entered = if !policy.join("features").exists() {
            Entered::Container
        } else if !read("features/namespaces/mask").contains("userns_create") {
            return None;
        } else {
            entered(name, own, &loaded(policy))
        };
        Some(Profile {
            name: name.to_owned(),
            entered,
        })
    }
}

/// The profile's name of a line `NAME (MODE)`, where what it forbids is refused.
fn enforced(current: &str) -> Option<&str> {
    let (name, mode) = current.trim_end_matches(['\n', '\0']).rsplit_once(" (")?;
    // Several, one on the other, may be of different modes.
    ["enforce)", "mixed)"].contains(&mode).then_some(name)
}

/// All profiles: their names, and what the kernel shows of the paths that each is for.
fn loaded(policy: &Path) -> Vec<(String, String)> {
    let read = |path: &Path, file: &str| {
        let text = std::fs::read_to_string(path.join(file)).ok()?;
        Some(text.trim_end().to_owned())
    };
    let all = std::fs::read_dir(policy.join("policy/profiles"));
    all.into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Some((read(&path, "name")?, read(&path, "attach")?))
        })
        .collect()
}

/// For the paths the kernel shows the name where a profile is for none but, at most, that; otherwise mostly `<unknown>`
/// (security/apparmor/apparmorfs.c).
fn entered(name: &str, own: Option<&str>, loaded: &[(String, String)]) -> Entered {
    // The program's own is there, and has not been taken.
    let kept = own.is_some_and(|own| own != name && loaded.iter().any(|(other, _)| other == own));
    let by_path = match loaded.iter().find(|(other, _)| other == name) {
        Some((_, paths)) => paths != name,
        // Otherwise it is a profile within a profile.
        None => !name.contains("//") || name.contains("//&"),
    };
    if by_path && !kept {
        Entered::Path
    } else {
        Entered::Name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_that_refuses_is_read() {
        for (line, name) in [
            ("docker-default (enforce)\n", Some("docker-default")),
            ("a (b)//&c d (mixed)\n", Some("a (b)//&c d")),
            ("everyone (complain)\n", None),
            ("rl (unconfined)\n", None),
            ("unconfined\n", None),
            ("", None),
        ] {
            assert_eq!(enforced(line), name, "{line}");
        }
    }

    #[test]
    fn how_it_was_entered_is_seen_by_its_paths() {
        let of = |name: &str, paths: &str| (name.to_owned(), paths.to_owned());
        for (name, paths, expected) in [
            ("everyone", "<unknown>", Entered::Path),
            ("everyone", "/**", Entered::Path),
            ("shell", "shell", Entered::Name),
            ("/usr/bin/sh", "/usr/bin/sh", Entered::Name),
        ] {
            let mut loaded = vec![of("other", "<unknown>"), of(name, paths)];
            assert_eq!(entered(name, None, &loaded), expected, "{name}");
            // The file is there, the kernel does not have it.
            assert_eq!(entered(name, Some("rl"), &loaded), expected, "{name}");
            loaded.push(of("rl", "<unknown>"));
            assert_eq!(entered(name, None, &loaded), expected, "{name}");
            let kept = entered(name, Some("rl"), &loaded);
            assert_eq!(kept, Entered::Name, "{name}");
        }
        let loaded = [of("rl", "<unknown>")];
        assert_eq!(entered("rl", Some("rl"), &loaded), Entered::Path);
        assert_eq!(entered("shell//hat", None, &[]), Entered::Name);
        assert_eq!(entered("a//&b", None, &[]), Entered::Path);
    }

    #[test]
    fn a_kernel_that_leaves_user_namespaces_alone_is_told_from_a_container() {
        let policy = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let file = policy.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        };
        let found = || Profile::of("p", None, policy.path()).map(|p| p.entered);
        assert_eq!(found(), Some(Entered::Container));
        file("features/namespaces/pivot_root", "no\n");
        assert_eq!(found(), None);
        file("features/namespaces/mask", "userns_create\n");
        file("policy/profiles/p.1/name", "p\n");
        file("policy/profiles/p.1/attach", "p\n");
        assert_eq!(found(), Some(Entered::Name));
        file("policy/profiles/p.1/attach", "<unknown>\n");
        assert_eq!(found(), Some(Entered::Path));
    }
}
