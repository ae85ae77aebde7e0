//! The distributions whose base images can be made from packages: their names as images and as suites.

use super::Reference;

/// A distribution with an archive that apt reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// Debian.
    Debian,
    /// Ubuntu.
    Ubuntu,
}

/// A release of a distribution, as an image's name asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Whose.
    pub distribution: Distribution,
    /// The code name, or a name such as `stable` that the archive knows as well.
    pub suite: String,
    /// Without documentation and translations (`debian:bookworm-slim`).
    pub slim: bool,
}

/// Version numbers that images are called by, and the suites they stand for (distro-info-data).
const NUMBERS: &[(Distribution, &str, &str)] = &[
    (Distribution::Debian, "latest", "stable"),
    (Distribution::Debian, "11", "bullseye"),
    (Distribution::Debian, "12", "bookworm"),
    (Distribution::Debian, "13", "trixie"),
    (Distribution::Debian, "14", "forky"),
    (Distribution::Ubuntu, "20.04", "focal"),
    (Distribution::Ubuntu, "22.04", "jammy"),
    (Distribution::Ubuntu, "24.04", "noble"),
    (Distribution::Ubuntu, "25.10", "questing"),
    (Distribution::Ubuntu, "26.04", "resolute"),
];

impl Distribution {
    /// The name: of the image, and the last part of the archive's address.
    pub fn name(self) -> &'static str {
        match self {
            Distribution::Debian => "debian",
            Distribution::Ubuntu => "ubuntu",
        }
    }

    /// The distribution whose image on Docker Hub has this name, whatever its tag.
    pub fn of(reference: &Reference) -> Option<Distribution> {
        if reference.registry() != "docker.io" || reference.digest().is_some() {
            return None;
        }
        match reference.repository() {
            "library/debian" => Some(Distribution::Debian),
            "library/ubuntu" => Some(Distribution::Ubuntu),
            _ => None,
        }
    }
}

impl Release {
    /// The release that a reference such as `debian:bookworm`, `debian:12-slim` or `ubuntu:24.04` names;
    /// `None` for other images, and for `ubuntu:latest`, which no archive knows a name for.
    pub fn of(reference: &Reference) -> Option<Release> {
        let distribution = Distribution::of(reference)?;
        let tag = reference.tag()?;
        let (word, slim) = match (distribution, tag.strip_suffix("-slim")) {
            (Distribution::Debian, Some(word)) => (word, true),
            _ => (tag, false),
        };
        let number = NUMBERS
            .iter()
            .find(|(d, number, _)| *d == distribution && *number == word);
        let suite = number.map_or(word, |(.., suite)| suite);
        // A code name, and nothing that would be an option or a path.
        let plain = suite.starts_with(|c: char| c.is_ascii_lowercase())
            && suite.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        (plain && suite != "latest").then(|| Release {
            distribution,
            suite: suite.to_owned(),
            slim,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let of = |text: &str| {
            let release = Release::of(&text.parse().unwrap())?;
            Some(format!(
                "{} {}{}",
                release.distribution.name(),
                release.suite,
                if release.slim { " slim" } else { "" }
            ))
        };
        for (text, want) in [
            ("debian", Some("debian stable")),
            ("debian:bookworm", Some("debian bookworm")),
            (
                "docker.io/library/debian:12-slim",
                Some("debian bookworm slim"),
            ),
            ("debian:sid", Some("debian sid")),
            ("ubuntu:24.04", Some("ubuntu noble")),
            ("ubuntu:jammy", Some("ubuntu jammy")),
            ("ubuntu", None),
            ("debian:99", None),
            ("debian:bookworm-20240101", None),
            ("quay.io/library/debian:bookworm", None),
            ("me/debian:bookworm", None),
            ("fedora", None),
        ] {
            assert_eq!(of(text).as_deref(), want, "{text}");
        }
    }
}
