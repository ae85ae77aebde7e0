//! `--filter` of the `prune` verbs: what they are limited to; and what filters of all verbs have in common.

use std::collections::BTreeMap;
use std::mem::{Discriminant, discriminant};

use super::{Error, logs};
use crate::model::time::parse_rfc3339;

/// A filter that there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a filter of `prune`: until, label or label!, then `=` and a value")]
pub struct OnlyError(String);

/// What fits all of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Only {
    /// Made before this, in seconds since the epoch.
    until: Option<i64>,
    /// Labels that are wanted, or not, perhaps with a value.
    labels: Vec<(bool, Label)>,
}

impl Only {
    /// From what was typed (docker container prune, "Filtering").
    ///
    /// # Errors
    /// [`Error::Only`], or a bad time.
    pub fn parse(words: &[String]) -> Result<Only, Error> {
        let mut only = Only::default();
        for word in words {
            let bad = || Error::Only(OnlyError(word.clone()));
            let (key, value) = word.split_once('=').ok_or_else(bad)?;
            match key {
                "until" => {
                    let at = parse_rfc3339(&format!("{}Z", logs::time("--filter until", value)?));
                    // The oldest of several.
                    only.until = only.until.into_iter().chain(at).min();
                }
                "label" | "label!" => {
                    only.labels.push((key == "label", Label::parse(value)));
                }
                _ => return Err(bad()),
            }
        }
        Ok(only)
    }

    /// Whether something that was made then, in seconds since the epoch, and has these labels is among it.
    pub fn fits(&self, made: i64, labels: &BTreeMap<String, String>) -> bool {
        let mut wanted = self.labels.iter();
        self.until.is_none_or(|until| made < until)
            && wanted.all(|(wanted, label)| label.is_among(labels) == *wanted)
    }
}

/// A label that a filter asks for, whatever its value is or with this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    name: String,
    value: Option<String>,
}

impl Label {
    /// `NAME` or `NAME=VALUE`.
    pub fn parse(text: &str) -> Label {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        let name = name.to_owned();
        Label { name, value }
    }

    /// Whether it is one of these.
    pub fn is_among(&self, labels: &BTreeMap<String, String>) -> bool {
        self.fits(|name| labels.get(name).map(String::as_str))
    }

    /// Whether it is there, by what looks up the value of a name.
    pub fn fits<'a>(&self, value: impl FnOnce(&str) -> Option<&'a str>) -> bool {
        let wanted = self.value.as_deref();
        value(&self.name).is_some_and(|found| wanted.is_none_or(|wanted| found == wanted))
    }
}

/// A regular expression that a name is to contain, as the `name` filters of docker take it.
#[derive(Clone, Debug)]
pub struct Pattern(regex_lite::Regex);

/// A text that is no regular expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no regular expression: {why}")]
pub struct PatternError {
    /// The text.
    text: String,
    /// What is wrong with it.
    why: String,
}

impl Pattern {
    /// From what was typed.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn parse(text: &str) -> Result<Pattern, PatternError> {
        let pattern = regex_lite::Regex::new(text).map(Pattern);
        pattern.map_err(|error| PatternError {
            text: text.to_owned(),
            why: error.to_string(),
        })
    }

    /// Whether something in `text` is like this.
    pub fn fits(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

/// Whether of several filters of one kind one fits, and of those that are `each` for itself all, as docker has it.
pub fn passes<F>(filters: &[F], each: impl Fn(&F) -> bool, fits: impl Fn(&F) -> bool) -> bool {
    let alike = |kind: Discriminant<F>| filters.iter().filter(move |f| discriminant(*f) == kind);
    filters.iter().all(|filter| match each(filter) {
        true => fits(filter),
        false => alike(discriminant(filter)).any(&fits),
    })
}

/// What a filter such as `dangling=true` says, in the words that Docker takes.
pub fn truth(word: &str) -> Option<bool> {
    match word {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_kind_and_all_of_others() {
        // Their values are whether they fit.
        #[derive(Debug)]
        enum F {
            Name(bool),
            Label(bool),
        }
        let value = |f: &F| match f {
            F::Name(value) | F::Label(value) => *value,
        };
        let each = |f: &F| matches!(f, F::Label(_));
        for (filters, fits) in [
            (&[][..], true),
            (&[F::Name(false), F::Name(true)], true),
            (&[F::Name(false)], false),
            (&[F::Label(true), F::Label(false)], false),
            (&[F::Name(true), F::Label(false)], false),
        ] {
            assert_eq!(passes(filters, each, value), fits, "{filters:?}");
        }
    }

    #[test]
    fn patterns() {
        let fits = |pattern: &str, text: &str| Pattern::parse(pattern).unwrap().fits(text);
        assert!(fits("b.d", "abcde") && fits("^(a|b)$", "b") && fits("", "a"));
        assert!(!fits("^b", "abc") && !fits("A", "a"));
        let error = Pattern::parse("a(b").unwrap_err().to_string();
        assert_eq!(
            error,
            "`a(b` is no regular expression: found open group without closing ')'"
        );
    }

    #[test]
    fn what_is_left_out() {
        let only = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
            Only::parse(&words)
        };
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        for (words, fits) in [
            (&[][..], true),
            (&["until=1001"], true),
            (&["until=1000"], false),
            (&["until=2000", "until=5"], false),
            (&["until=1h"], true),
            (&["label=a"], true),
            (&["label=a=1", "label!=b"], true),
            (&["label=a=2"], false),
            (&["label=a", "label=b"], false),
            (&["label!=a"], false),
            (&["label!=a=2"], true),
        ] {
            assert_eq!(only(words).unwrap().fits(1000, &labels), fits, "{words:?}");
        }
        for bad in ["until", "until=x", "name=x"] {
            assert!(only(&[bad]).is_err(), "{bad}");
        }
    }
}
