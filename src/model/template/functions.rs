//! The functions of templates: Go's own, and those that Docker adds. Errors are reasons; the caller
//! knows the function.

use std::cmp::Ordering;

use serde_json::{Value, json};

use super::eval::Val;
use crate::model::text::escape_json;

type Result<T> = std::result::Result<T, String>;

const NAMES: &[&str] = &[
    "and", "eq", "ge", "gt", "index", "join", "json", "le", "len", "lower", "lt", "ne", "not",
    "or", "pad", "print", "printf", "println", "slice", "split", "title", "truncate", "upper",
];

/// So many blanks are put on a side of a value at most.
const MOST: usize = 1000;

pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Calls a function; `and` and `or` are not among them, as they do not take all their arguments.
pub(super) fn call<'a>(name: &str, arguments: &[Val<'a>]) -> Result<Val<'a>> {
    let truth = |b: bool| Ok(Val::json(json!(b)));
    match (name, arguments) {
        ("json", [value]) => Ok(Val::Text(escape_json(&value.value().to_string()))),
        ("len", [value]) => match &*value.value() {
            Value::String(text) => Ok(Val::json(json!(text.len()))),
            Value::Array(items) => Ok(Val::json(json!(items.len()))),
            Value::Object(map) => Ok(Val::json(json!(map.len()))),
            Value::Null => Ok(Val::json(json!(0))),
            _ => Err("wants a string, a list or a map".to_owned()),
        },
        ("index", [value, keys @ ..]) => keys.iter().try_fold(value.clone(), index),
        ("slice", [value, bounds @ ..]) if bounds.len() < 3 => slice(value, bounds),
        ("upper", [value]) => change(value, str::to_uppercase),
        ("lower", [value]) => change(value, str::to_lowercase),
        ("title", [value]) => change(value, title),
        ("truncate", [value, count]) => {
            let count = number(count)?;
            change(value, |text| text.chars().take(count).collect())
        }
        // Nothing stays nothing, as in Docker.
        ("pad", [value, before, after]) => {
            let blanks = |count: &Val<'_>| Ok::<_, String>(" ".repeat(number(count)?.min(MOST)));
            let (before, after) = (blanks(before)?, blanks(after)?);
            change(value, |text| match text {
                "" => String::new(),
                text => format!("{before}{text}{after}"),
            })
        }
        ("split", [value, by]) => {
            let (text, by) = (string(value)?, string(by)?);
            Ok(Val::json(text.split(by.as_str()).collect()))
        }
        ("join", [value, by]) => match &*value.value() {
            Value::Array(items) => {
                let items: Vec<String> =
                    items.iter().map(|v| Val::json(v.clone()).show()).collect();
                Ok(Val::Text(items.join(&by.show())))
            }
            Value::Null => Ok(Val::Text(String::new())),
            _ => Err("wants a list".to_owned()),
        },
        ("print", values) => Ok(Val::Text(values.iter().map(Val::show).collect())),
        ("println", values) => {
            let words: Vec<String> = values.iter().map(Val::show).collect();
            Ok(Val::Text(words.join(" ") + "\n"))
        }
        ("printf", [format, values @ ..]) => printf(&string(format)?, values).map(Val::Text),
        ("not", [value]) => truth(!value.is_true()),
        ("eq", [first, others @ ..]) if !others.is_empty() => {
            for other in others {
                if equal(first, other)? {
                    return truth(true);
                }
            }
            truth(false)
        }
        ("ne", [a, b]) => truth(!equal(a, b)?),
        ("lt", [a, b]) => truth(order(a, b)?.is_lt()),
        ("le", [a, b]) => truth(order(a, b)?.is_le()),
        ("gt", [a, b]) => truth(order(a, b)?.is_gt()),
        ("ge", [a, b]) => truth(order(a, b)?.is_ge()),
        (_, arguments) => Err(format!("does not take {} arguments", arguments.len())),
    }
}

fn string(value: &Val<'_>) -> Result<String> {
    let value = value.value();
    value
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| "wants a string".to_owned())
}

fn number(value: &Val<'_>) -> Result<usize> {
    let number = value.value().as_u64().and_then(|n| usize::try_from(n).ok());
    number.ok_or_else(|| "wants a number that is not negative".to_owned())
}

/// Another string; what came from outside still does.
fn change<'a>(value: &Val<'a>, with: impl Fn(&str) -> String) -> Result<Val<'a>> {
    Ok(match value {
        Val::Text(text) => Val::Text(with(text)),
        Val::Data(_) => Val::json(json!(with(&string(value)?))),
    })
}

fn title(text: &str) -> String {
    let mut start = true;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if start {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
        start = !c.is_alphanumeric() && c != '_' && c != '\'';
    }
    out
}

/// A key that a map does not have is empty, as in Go's maps of strings.
fn index<'a>(value: Val<'a>, key: &Val<'a>) -> Result<Val<'a>> {
    match &*value.value() {
        Value::Object(map) => Ok(map
            .get(&string(key)?)
            .map_or(Val::Text(String::new()), |v| Val::json(v.clone()))),
        Value::Array(items) => {
            let at = number(key)?;
            let item = items.get(at).cloned().map(Val::json);
            item.ok_or_else(|| format!("{at} is past the end of a list of {}", items.len()))
        }
        Value::Null => Ok(Val::Text(String::new())),
        _ => Err("wants a list or a map".to_owned()),
    }
}

fn slice<'a>(value: &Val<'a>, bounds: &[Val<'a>]) -> Result<Val<'a>> {
    let from = bounds.first().map_or(Ok(0), number)?;
    let to = bounds.get(1).map(number).transpose()?;
    let outside = || "out of range".to_owned();
    if let Value::Array(items) = &*value.value() {
        let part = items.get(from..to.unwrap_or(items.len()));
        return part.map(|p| Val::json(json!(p))).ok_or_else(outside);
    }
    let text = string(value)?;
    text.get(from..to.unwrap_or(text.len()))
        .ok_or_else(outside)?;
    change(value, |text| {
        text[from..to.unwrap_or(text.len())].to_owned()
    })
}

fn equal(a: &Val<'_>, b: &Val<'_>) -> Result<bool> {
    match (&*a.value(), &*b.value()) {
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Null, b) => Ok(b.is_null()),
        (a, Value::Null) => Ok(a.is_null()),
        _ => Ok(order(a, b)?.is_eq()),
    }
}

fn order(a: &Val<'_>, b: &Val<'_>) -> Result<Ordering> {
    let order = match (&*a.value(), &*b.value()) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a.as_f64().partial_cmp(&b.as_f64()),
        },
        _ => None,
    };
    order.ok_or_else(|| "cannot compare values of these types".to_owned())
}

/// `%[-][width][.precision]` with `s`, `d`, `v`, `q`, `t`; `%%`.
fn printf(format: &str, values: &[Val<'_>]) -> Result<String> {
    let mut out = String::new();
    let mut values = values.iter();
    let mut rest = format;
    while let Some((text, after)) = rest.split_once('%') {
        out += text;
        let left = after.starts_with('-');
        let after = after.trim_start_matches('-');
        let (width, after) = digits(after);
        let (precision, after) = match after.strip_prefix('.') {
            Some(after) => {
                let (digits, after) = digits(after);
                (Some(digits.unwrap_or(0)), after)
            }
            None => (None, after),
        };
        let verb = after.chars().next().ok_or("the format ends in `%`")?;
        rest = &after[verb.len_utf8()..];
        if verb == '%' {
            out.push('%');
            continue;
        }
        let value = values
            .next()
            .ok_or_else(|| format!("`%{verb}` has no value"))?;
        let mut text = match verb {
            's' | 'v' => value.show(),
            'd' if value.value().is_number() => value.show(),
            't' if value.value().is_boolean() => value.show(),
            'q' => escape_json(&json!(string(value)?).to_string()),
            'd' | 't' => return Err(format!("`%{verb}` does not fit `{}`", value.show())),
            _ => return Err(format!("`%{verb}` is not known")),
        };
        if let Some(precision) = precision {
            text = text.chars().take(precision).collect();
        }
        let width = width.unwrap_or(0);
        out += &if left {
            format!("{text:<width$}")
        } else {
            format!("{text:>width$}")
        };
    }
    if values.next().is_some() {
        return Err("there are more values than the format has places".to_owned());
    }
    Ok(out + rest)
}

fn digits(text: &str) -> (Option<usize>, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit());
    let (digits, rest) = text.split_at(end.unwrap_or(text.len()));
    // A width beyond any line is a mistake, not a wish for memory.
    (digits.parse().ok().map(|n: usize| n.min(4096)), rest)
}
