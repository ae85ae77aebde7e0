//! Unit files as text: sections, keys, comments, lines that go on (systemd.syntax(7)).

use std::fmt;
use std::path::{Path, PathBuf};

use super::Error;
use super::words;

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0 for the file as a whole.
    pub line: usize,
}

impl Place {
    /// A file as a whole.
    pub fn whole(file: &Path) -> Place {
        let file = file.to_owned();
        Place { file, line: 0 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file.display()),
            line => write!(f, "{}:{line}", self.file.display()),
        }
    }
}

/// One assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What stands before the `=`.
    pub key: String,
    /// What stands behind it, on one line.
    pub value: String,
    /// Where it begins.
    pub place: Place,
}

impl Entry {
    /// An error about the value.
    pub fn refuse(&self, reason: impl Into<String>) -> Error {
        Error::Value {
            place: self.place.clone(),
            key: self.key.clone(),
            value: self.value.clone(),
            reason: reason.into(),
        }
    }

    /// The words of the value.
    ///
    /// # Errors
    /// A quote or an escape.
    pub fn words(&self) -> Result<Vec<String>, Error> {
        words::split(&self.value).map_err(|error| self.refuse(error.to_string()))
    }

    /// The value as a boolean (systemd.syntax(7)).
    ///
    /// # Errors
    /// It is none.
    pub fn truth(&self) -> Result<bool, Error> {
        match self.value.to_ascii_lowercase().as_str() {
            "1" | "yes" | "y" | "true" | "t" | "on" => Ok(true),
            "0" | "no" | "n" | "false" | "f" | "off" => Ok(false),
            _ => Err(self.refuse("expected `true` or `false`")),
        }
    }
}

/// A section with its assignments, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Without the brackets.
    pub name: String,
    /// Where it begins.
    pub place: Place,
    /// In the order of the file.
    pub entries: Vec<Entry>,
}

/// A file with what its drop-ins add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The file itself.
    pub path: PathBuf,
    /// In the order of their first appearance; a name appears once.
    pub sections: Vec<Section>,
}

impl Unit {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// A line that is neither section, assignment nor comment; an assignment before the first section.
    pub fn parse(path: &Path, text: &str) -> Result<Unit, Error> {
        let mut unit = Unit {
            path: path.to_owned(),
            sections: Vec::new(),
        };
        let mut current = None;
        for (line, text) in logical_lines(text) {
            let file = path.to_owned();
            let place = Place { file, line };
            if let Some(rest) = text.strip_prefix('[') {
                let name = rest.strip_suffix(']');
                let name = name.filter(|name| !name.is_empty() && !name.contains(['[', ']']));
                let Some(name) = name else {
                    let what = "a section is `[Name]`";
                    return Err(Error::Syntax { place, what });
                };
                current = Some(unit.enter(name, place));
                continue;
            }
            let Some((key, value)) = text.split_once('=') else {
                let what = "neither `[Section]` nor `Key=value`";
                return Err(Error::Syntax { place, what });
            };
            let Some(section) = current else {
                let what = "an assignment before the first `[Section]`";
                return Err(Error::Syntax { place, what });
            };
            let (key, value) = (key.trim(), value.trim());
            if key.is_empty() {
                let what = "nothing stands before the `=`";
                return Err(Error::Syntax { place, what });
            }
            unit.sections[section].entries.push(Entry {
                key: key.to_owned(),
                value: value.to_owned(),
                place,
            });
        }
        Ok(unit)
    }

    fn enter(&mut self, name: &str, place: Place) -> usize {
        let known = self.sections.iter().position(|s| s.name == name);
        known.unwrap_or_else(|| {
            self.sections.push(Section {
                name: name.to_owned(),
                place,
                entries: Vec::new(),
            });
            self.sections.len() - 1
        })
    }

    /// Adds what a drop-in says behind what is there.
    pub fn merge(&mut self, drop_in: Unit) {
        for section in drop_in.sections {
            let at = self.enter(&section.name, section.place);
            self.sections[at].entries.extend(section.entries);
        }
    }

    /// The assignments of a section; none where it is missing.
    pub fn section(&self, name: &str) -> &[Entry] {
        let found = self.sections.iter().find(|s| s.name == name);
        found.map_or(&[], |section| &section.entries)
    }

    /// All values of a key that counts each: an empty one takes back those before it.
    pub fn all(&self, section: &str, key: &str) -> Vec<&Entry> {
        let mut found = Vec::new();
        for entry in self.section(section).iter().filter(|e| e.key == key) {
            match entry.value.is_empty() {
                true => found.clear(),
                false => found.push(entry),
            }
        }
        found
    }

    /// The value of a key that counts once: the last one, none where that is empty.
    pub fn last(&self, section: &str, key: &str) -> Option<&Entry> {
        self.all(section, key).pop()
    }
}

/// Lines without comments and empty ones, each with the number of its first; a backslash at the end of one becomes a
/// blank and the next is read on, comments between them left out.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut all = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.starts_with(['#', ';']) {
            continue;
        }
        let (first, mut whole) = open.take().unwrap_or((number + 1, String::new()));
        let backslashes = line.bytes().rev().take_while(|&b| b == b'\\').count();
        // Two of them are one that is escaped.
        if backslashes % 2 == 1 {
            whole.push_str(&line[..line.len() - 1]);
            whole.push(' ');
            open = Some((first, whole));
            continue;
        }
        whole.push_str(line);
        let whole = whole.trim();
        if !whole.is_empty() {
            all.push((first, whole.to_owned()));
        }
    }
    if let Some((first, whole)) = open.filter(|(_, whole)| !whole.trim().is_empty()) {
        all.push((first, whole.trim().to_owned()));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Unit, String> {
        Unit::parse(Path::new("/q/web.container"), text).map_err(|e| e.to_string())
    }

    #[test]
    fn sections_comments_and_lines_that_go_on() {
        let unit = parse(
            "# one\n; two\n\n[A]\n k = v w \nlong=a \\\n# between\n  b\\\n\nend=x\\\\\n[B]\nk=\n[A]\nk=2\nlast=1 \\",
        )
        .unwrap();
        let names: Vec<_> = unit.sections.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["A", "B"]);
        let of_a = unit.section("A").iter();
        let of_a: Vec<_> = of_a
            .map(|e| (e.key.as_str(), e.value.as_str(), e.place.line))
            .collect();
        assert_eq!(
            of_a,
            [
                ("k", "v w", 5),
                ("long", "a  b", 6),
                ("end", "x\\\\", 10),
                ("k", "2", 14),
                ("last", "1", 15)
            ]
        );
    }

    #[test]
    fn an_empty_value_takes_back() {
        let mut unit = parse("[A]\nl=1\nl=2\ns=x\n").unwrap();
        let values = |unit: &Unit| -> Vec<String> {
            let all = unit.all("A", "l");
            all.into_iter().map(|e| e.value.clone()).collect()
        };
        assert_eq!(values(&unit), ["1", "2"]);
        let path = Path::new("/q/web.container.d/a.conf");
        unit.merge(Unit::parse(path, "[A]\nl=\nl=3\ns=\n[X-B]\nk=v\n").unwrap());
        assert_eq!(values(&unit), ["3"]);
        assert_eq!(unit.last("A", "s"), None);
        assert_eq!(
            unit.all("A", "l")[0].place.to_string(),
            format!("{}:3", path.display())
        );
        assert_eq!(unit.section("X-B").len(), 1);
    }

    #[test]
    fn what_is_no_unit_file_is_refused_with_its_line() {
        let refused = |text: &str, at: &str| {
            let error = parse(text).unwrap_err();
            assert!(
                error.starts_with(&format!("/q/web.container:{at}: ")),
                "{error}"
            );
        };
        refused("k=v", "1");
        refused("[A]\n\nword\n", "3");
        refused("[A", "1");
        refused("[]", "1");
        refused("[A]\n=v", "2");
    }
}
