//! From the name of a file to that of its service and of what the service makes, and back from one file to another.

use std::collections::BTreeMap;
use std::path::Path;

use super::Error;
use super::parse::{Entry, Unit};

/// Kinds of files that something is made of.
pub const KINDS: &[&str] = &["container", "volume", "network"];

/// Kinds that podman has as well.
pub const OTHER_KINDS: &[&str] = &["kube", "pod", "image", "build", "artifact"];

/// The section that a kind of file has for itself.
pub fn section(kind: &str) -> &'static str {
    match kind {
        "volume" => "Volume",
        "network" => "Network",
        _ => "Container",
    }
}

/// The name of a file, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// `web` of `web@1.container`.
    pub base: String,
    /// `1` of `web@1.container`; empty for a template (systemd.unit(5)).
    pub instance: Option<String>,
    /// `container`.
    pub kind: String,
}

impl Name {
    /// Takes the name of a file apart; `None` where it has no kind.
    pub fn of(file_name: &str) -> Option<Name> {
        let (stem, kind) = file_name.rsplit_once('.')?;
        let (base, instance) = match stem.split_once('@') {
            Some((base, instance)) => (base, Some(instance.to_owned())),
            None => (stem, None),
        };
        (!base.is_empty()).then(|| Name {
            base: base.to_owned(),
            instance,
            kind: kind.to_owned(),
        })
    }

    /// The file's name.
    pub fn file(&self) -> String {
        format!("{}.{}", self.stem(""), self.kind)
    }

    /// Whether instances are made of it.
    pub fn is_template(&self) -> bool {
        self.instance.as_deref() == Some("")
    }

    /// The template that it is an instance of.
    pub fn template(&self) -> Option<Name> {
        let instance = self.instance.as_ref().filter(|i| !i.is_empty())?;
        let _ = instance;
        Some(Name {
            instance: Some(String::new()),
            ..self.clone()
        })
    }

    fn stem(&self, behind: &str) -> String {
        match &self.instance {
            Some(instance) => format!("{}{behind}@{instance}", self.base),
            None => format!("{}{behind}", self.base),
        }
    }

    /// The service: `web.container` makes `web.service`, `data.volume` makes `data-volume.service`.
    fn service(&self, given: Option<&str>) -> String {
        let behind = match self.kind.as_str() {
            "container" => String::new(),
            kind => format!("-{kind}"),
        };
        let own = Name {
            base: given.unwrap_or(&self.base).to_owned(),
            ..self.clone()
        };
        let behind = if given.is_some() { "" } else { &behind };
        format!("{}.service", own.stem(behind))
    }

    /// The container, volume or network where the file names none. `@` is no letter of such a name; `%i` stands for the instance
    /// of a template's service.
    fn object(&self) -> String {
        match self.instance.as_deref() {
            None => format!("systemd-{}", self.base),
            Some("") => format!("systemd-{}_%i", self.base),
            Some(instance) => format!("systemd-{}_{instance}", self.base),
        }
    }
}

/// What a file makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The service.
    pub service: String,
    /// The container, volume or network.
    pub object: String,
}

impl Made {
    /// Finds the names.
    ///
    /// # Errors
    /// One that is none.
    pub fn of(name: &Name, unit: &Unit) -> Result<Made, Error> {
        let section = section(&name.kind);
        let given = unit.last(section, "ServiceName");
        let service = name.service(given.map(|entry| entry.value.as_str()));
        if !is_unit_name(&service) {
            return Err(match given {
                Some(entry) => entry.refuse("that makes no name for a unit"),
                None => Error::Name {
                    file: unit.path.clone(),
                    name: service,
                    what: "a unit",
                },
            });
        }
        let (key, what) = match name.kind.as_str() {
            "volume" => ("VolumeName", "a volume"),
            "network" => ("NetworkName", "a network"),
            _ => ("ContainerName", "a container"),
        };
        let given = unit.last(section, key);
        let object = given.map_or_else(|| name.object(), |entry| entry.value.clone());
        match given {
            _ if is_object_name(&object) => Ok(Made { service, object }),
            Some(entry) => Err(entry.refuse(format!("that is no name for {what}"))),
            None => Err(Error::Name {
                file: unit.path.clone(),
                name: object,
                what,
            }),
        }
    }
}

/// All files there are, by name.
#[derive(Clone, Debug, Default)]
pub struct Known(pub BTreeMap<String, Made>);

impl Known {
    /// What another file makes, as seen from a service: the instance of a template is the service's own.
    ///
    /// # Errors
    /// There is no such file.
    pub fn find(&self, file: &str, asked: &Entry) -> Result<Made, Error> {
        let found = self.0.get(file);
        let made =
            found.ok_or_else(|| asked.refuse(format!("there is no usable file `{file}`")))?;
        Ok(Made {
            service: made.service.replace("@.service", "@%i.service"),
            object: made.object.clone(),
        })
    }

    /// A list of units in which files are replaced by their services.
    ///
    /// # Errors
    /// There is no such file.
    pub fn translate(&self, entry: &Entry) -> Result<String, Error> {
        let words = entry.value.split_whitespace().map(|word| {
            let kind = Path::new(word).extension().and_then(|kind| kind.to_str());
            match kind {
                Some(kind) if KINDS.contains(&kind) => Ok(self.find(word, entry)?.service),
                Some(kind) if OTHER_KINDS.contains(&kind) => {
                    Err(entry.refuse(format!("`.{kind}` files are not there yet")))
                }
                _ => Ok(word.to_owned()),
            }
        });
        Ok(words.collect::<Result<Vec<_>, _>>()?.join(" "))
    }
}

/// systemd.unit(5): letters, digits and `:-_.\`, with one `@` at most, 255 bytes with the suffix.
pub fn is_unit_name(name: &str) -> bool {
    name.len() <= 255
        && !name.starts_with(['.', '@'])
        && name.matches('@').count() <= 1
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b))
}

/// Docker's rule for containers, volumes and networks, with specifiers (`%i`) among it.
fn is_object_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '%')
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-%".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_their_services() {
        let unit = Unit::parse(Path::new("/q/x"), "").unwrap();
        for (file, service, object) in [
            ("web.container", "web.service", "systemd-web"),
            ("web@.container", "web@.service", "systemd-web_%i"),
            ("web@1.container", "web@1.service", "systemd-web_1"),
            (
                "my.data.volume",
                "my.data-volume.service",
                "systemd-my.data",
            ),
            ("data@.volume", "data-volume@.service", "systemd-data_%i"),
            ("back.network", "back-network.service", "systemd-back"),
        ] {
            let name = Name::of(file).unwrap();
            assert_eq!(name.file(), file);
            let made = Made::of(&name, &unit).unwrap();
            assert_eq!(
                (made.service.as_str(), made.object.as_str()),
                (service, object)
            );
        }
        assert_eq!(Name::of("web"), None);
        assert_eq!(Name::of(".container"), None);
        let odd = Name::of("a b.container").unwrap();
        let error = Made::of(&odd, &unit).unwrap_err().to_string();
        assert_eq!(error, "/q/x: `a b.service` is no name for a unit");
    }
}
