//! `rl images`: one row for each name of each image, newest first.

use std::ops::Range;

use serde_json::{Value, json};

use super::{ImageError, Result, ago, now, parse_rfc3339};
use crate::engine::logs;
use crate::engine::only::{Label, truth};
use crate::model::time::in_lists;
use crate::model::{Digest, Reference};
use crate::store::{Image, Store};

/// A condition of `--filter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// A name or shell pattern (`*`, `?`) that the repository, or repository and tag, must match.
    Reference(String),
    /// Only images without, or only images with a name.
    Dangling(bool),
    /// A label, perhaps with a value.
    Label(Label),
    /// Made before this image.
    Before(String),
    /// Made after this image.
    Since(String),
    /// Made before this time, in seconds since the epoch.
    Until(i64),
}

impl std::str::FromStr for Filter {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || ImageError::Filter(text.to_owned());
        let (key, value) = text.split_once('=').ok_or_else(bad)?;
        Ok(match key {
            "reference" => Filter::Reference(value.to_owned()),
            "dangling" => Filter::Dangling(truth(value).ok_or_else(bad)?),
            "label" => Filter::Label(Label::parse(value)),
            "before" => Filter::Before(value.to_owned()),
            "since" => Filter::Since(value.to_owned()),
            "until" => {
                let time = logs::time("--filter until", value).map_err(|_| bad())?;
                Filter::Until(parse_rfc3339(&format!("{time}Z")).ok_or_else(bad)?)
            }
            _ => return Err(bad()),
        })
    }
}

/// A row of the list.
#[derive(Clone, Debug)]
pub struct Row {
    /// Repository in short form, `<none>` without a name.
    pub repository: String,
    /// Tag, or `<none>`.
    pub tag: String,
    /// Digest of the manifest.
    pub digest: Digest,
    /// Image id.
    pub id: Digest,
    /// Seconds since the epoch, if the image says when it was made.
    pub created: Option<i64>,
    /// Bytes, unpacked where that is known, else of the blobs.
    pub size: u64,
}

impl Row {
    /// How long ago it was made, in words; `N/A` if it does not say.
    pub fn age(&self) -> String {
        self.created
            .map_or_else(|| "N/A".to_owned(), |then| ago(then, now()))
    }

    /// The fields of `--format`, named as Docker names them. `whole` ids are not cut short.
    pub fn fields(&self, whole: bool) -> Value {
        let id = if whole {
            self.id.to_string()
        } else {
            self.id.short()
        };
        let created = self.created.map_or_else(|| "N/A".to_owned(), in_lists);
        json!({
            "Repository": self.repository,
            "Tag": self.tag,
            "Digest": self.digest.to_string(),
            "ID": id,
            "CreatedSince": self.age(),
            "CreatedAt": created,
            "Size": human_size(self.size),
            "Containers": "N/A",
            "SharedSize": "N/A",
            "UniqueSize": "N/A",
            "VirtualSize": human_size(self.size),
        })
    }
}

/// The rows that pass all filters. `only` is Docker's argument: a repository, or a repository with tag.
///
/// # Errors
/// The store cannot be read.
pub fn rows(store: &Store, only: Option<&str>, filters: &[Filter]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut bounds = Vec::new();
    for filter in filters {
        bounds.extend(bound(store, filter)?);
    }
    for image in store.images()? {
        let made = made(&image);
        if !filters.iter().all(|f| image_passes(&image, f))
            || !bounds.iter().all(|bound| bound.contains(&made))
        {
            continue;
        }
        let created = image.config.created().as_deref().and_then(parse_rfc3339);
        let size = store.unpacked_size(&image)?.unwrap_or(image.size);
        let row = |repository: String, tag: String| Row {
            repository,
            tag,
            digest: image.manifest,
            id: image.id,
            created,
            size,
        };
        let none = || "<none>".to_owned();
        if image.references.is_empty() {
            let named = only.is_some() || filters.iter().any(|f| matches!(f, Filter::Reference(_)));
            if !named {
                rows.push(row(none(), none()));
            }
        }
        for name in &image.references {
            let wanted = filters.iter().all(|f| match f {
                Filter::Reference(pattern) => name_matches(name, pattern),
                _ => true,
            });
            if wanted && only.is_none_or(|only| name_matches(name, only)) {
                let tag = name.tag().map_or_else(none, str::to_owned);
                rows.push(row(name.familiar_name(), tag));
            }
        }
    }
    rows.sort_by(|a, b| {
        b.created
            .cmp(&a.created)
            .then_with(|| a.repository.cmp(&b.repository))
    });
    Ok(rows)
}

/// When an image was made, in nanoseconds since the epoch; one that does not say is the oldest of all.
fn made(image: &Image) -> i128 {
    let text = image.config.created().as_deref().unwrap_or_default();
    let Some(seconds) = parse_rfc3339(text) else {
        return i128::MIN + 1;
    };
    let part = text.split_once('.').map_or("", |(_, part)| part);
    let digits = part.bytes().take_while(u8::is_ascii_digit);
    let part = digits.chain(std::iter::repeat(b'0')).take(9);
    part.fold(i128::from(seconds), |sum, digit| {
        sum * 10 + i128::from(digit - b'0')
    })
}

/// The times that a filter lets through, where it looks at that.
fn bound(store: &Store, filter: &Filter) -> Result<Option<Range<i128>>> {
    Ok(match filter {
        Filter::Before(name) => Some(i128::MIN..made(&super::find(store, name)?)),
        Filter::Since(name) => Some(made(&super::find(store, name)?) + 1..i128::MAX),
        Filter::Until(at) => Some(i128::MIN..i128::from(*at) * 1_000_000_000),
        _ => None,
    })
}

fn image_passes(image: &Image, filter: &Filter) -> bool {
    match filter {
        Filter::Reference(_) | Filter::Before(_) | Filter::Since(_) | Filter::Until(_) => true,
        Filter::Dangling(wanted) => image.references.is_empty() == *wanted,
        Filter::Label(label) => {
            let labels = image.config.labels_of_config();
            label.fits(|name| {
                labels
                    .and_then(|labels| labels.get(name))
                    .map(String::as_str)
            })
        }
    }
}

/// Whether a name matches a pattern, in its short or full form, with its tag or without.
fn name_matches(name: &Reference, pattern: &str) -> bool {
    let tag = name.tag().map(|t| format!(":{t}")).unwrap_or_default();
    [name.familiar_name(), name.name()]
        .iter()
        .any(|n| glob(pattern, n) || glob(pattern, &format!("{n}{tag}")))
}

/// A shell pattern without brackets; `*` and `?` stop at `/`, as in Go's path.Match.
fn glob(pattern: &str, text: &str) -> bool {
    let (p, t) = (pattern.as_bytes(), text.as_bytes());
    let (mut i, mut j) = (0, 0);
    // The last `*`, and how much of the text it has taken: on a mismatch it takes one byte more.
    let mut star: Option<(usize, usize)> = None;
    while j < t.len() {
        match p.get(i) {
            Some(b'*') => {
                star = Some((i, j));
                i += 1;
            }
            Some(&c) if c == t[j] || (c == b'?' && t[j] != b'/') => {
                i += 1;
                j += 1;
            }
            _ => match star {
                Some((at, taken)) if t[taken] != b'/' => {
                    star = Some((at, taken + 1));
                    i = at + 1;
                    j = taken + 1;
                }
                _ => return false,
            },
        }
    }
    p[i..].iter().all(|&c| c == b'*')
}

/// A size as Docker writes it: powers of 1,000, at most four significant digits… `77.9MB`.
pub fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    #[allow(clippy::cast_precision_loss)]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        _ if unit == 0 => 0,
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    let mut text = format!("{value:.digits$}");
    if text.contains('.') {
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    }
    format!("{text}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (4_261_550, "4.26MB"),
            (77_860_000, "77.9MB"),
            (999_600_000, "1GB"),
            (1_234_567_890, "1.23GB"),
        ] {
            assert_eq!(human_size(bytes), text);
        }
    }

    #[test]
    fn patterns() {
        let name: Reference = "debian:bookworm".parse().unwrap();
        for pattern in [
            "debian",
            "deb*",
            "debian:book*",
            "debian:*",
            "docker.io/library/debian",
            "*/*/deb?an",
        ] {
            assert!(name_matches(&name, pattern), "{pattern}");
        }
        for pattern in ["ubuntu", "deb", "debian:12", "*/debian:x", ""] {
            assert!(!name_matches(&name, pattern), "{pattern}");
        }
    }

    #[test]
    fn filters() {
        assert_eq!(
            "dangling=true".parse::<Filter>().unwrap(),
            Filter::Dangling(true)
        );
        assert!("dangling=maybe".parse::<Filter>().is_err());
        assert!("until=never".parse::<Filter>().is_err());
        assert!("size=1".parse::<Filter>().is_err());
    }
}
