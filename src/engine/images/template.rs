//! The part of Go's templates that people use with `--format`: `{{.Field}}`, `{{.A.B}}`, `{{json .A}}`,
//! `{{.}}`, `\t` and `\n`, a leading `table `, and the word `json`. Anything else is an error, not
//! text.

use serde_json::Value;

use super::{ImageError, Result};
use crate::model::text::escape;

/// A parsed `--format`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    /// `table …`: the caller prints a head line and aligns the columns.
    pub table: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field { path: Vec<String>, json: bool },
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// [`ImageError::Template`] for what is not supported.
    pub fn parse(text: &str) -> Result<Template> {
        let bad = |reason: &str| ImageError::Template {
            template: text.to_owned(),
            reason: reason.to_owned(),
        };
        if text == "json" {
            return Ok(Template {
                parts: vec![Part::Field {
                    path: vec![],
                    json: true,
                }],
                table: false,
            });
        }
        let (table, mut rest) = match text.strip_prefix("table") {
            Some(rest) if rest.starts_with([' ', '\t']) => (true, rest.trim_start()),
            _ => (false, text),
        };
        let mut parts = Vec::new();
        while let Some(open) = rest.find("{{") {
            push_text(&mut parts, &rest[..open]);
            let close = rest[open..]
                .find("}}")
                .ok_or_else(|| bad("`{{` without `}}`"))?
                + open;
            let inside = rest[open + 2..close].trim_matches(['-', ' ', '\t']);
            let (json, field) = match inside.strip_prefix("json ") {
                Some(field) => (true, field.trim()),
                None => (false, inside),
            };
            let path = field.strip_prefix('.').ok_or_else(|| {
                bad(&format!(
                    "`{inside}` is not supported, only fields such as `.ID` and `json .`"
                ))
            })?;
            if !path
                .chars()
                .all(|c| c.is_alphanumeric() || c == '.' || c == '_')
            {
                return Err(bad(&format!("`{field}` is not a field")));
            }
            let path = path
                .split('.')
                .filter(|p| !p.is_empty())
                .map(str::to_owned)
                .collect();
            parts.push(Part::Field { path, json });
            rest = &rest[close + 2..];
        }
        push_text(&mut parts, rest);
        Ok(Template { parts, table })
    }

    /// Fills the template from a JSON object.
    ///
    /// # Errors
    /// A field that the object does not have.
    pub fn fill(&self, value: &Value) -> Result<String> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Field { path, json } => {
                    let found = look_up(value, path)?;
                    match found {
                        Value::String(text) if !json => out.push_str(&escape(text)),
                        Value::Null if !json => out.push_str("<no value>"),
                        Value::Array(items) if !json => {
                            let items: Vec<String> = items
                                .iter()
                                .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
                                .collect();
                            out.push_str(&escape(&format!("[{}]", items.join(" "))));
                        }
                        other => out.push_str(&escape_json(&other.to_string())),
                    }
                }
            }
        }
        Ok(out)
    }

    /// The head line of a table: the fields' names in capitals, as the columns are separated.
    pub fn head(&self, title: impl Fn(&str) -> String) -> String {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.clone(),
                Part::Field { path, .. } => title(path.last().map_or("", String::as_str)),
            })
            .collect()
    }
}

/// JSON text in which what a terminal would obey stands as `\\uNNNN`: still the same JSON.
pub fn escape_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || escape(c.encode_utf8(&mut [0; 4])).starts_with(c) {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Text(text.replace("\\t", "\t").replace("\\n", "\n")));
    }
}

fn look_up<'a>(value: &'a Value, path: &[String]) -> Result<&'a Value> {
    let mut here = value;
    for name in path {
        here = here.get(name).ok_or_else(|| ImageError::Template {
            template: format!("{{{{.{}}}}}", path.join(".")),
            reason: format!("there is no field `{name}`"),
        })?;
    }
    Ok(here)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_filled_in() {
        let value = json!({"ID": "abc", "Config": {"Env": ["A=1", "B=2"]}, "Size": 3});
        let fill = |text: &str| Template::parse(text).unwrap().fill(&value).unwrap();
        assert_eq!(fill("{{.ID}}\\t{{ .Size }}!"), "abc\t3!");
        assert_eq!(fill("{{.Config.Env}}"), "[A=1 B=2]");
        assert_eq!(fill("{{json .Config.Env}}"), r#"["A=1","B=2"]"#);
        assert_eq!(fill("json"), value.to_string());
        assert_eq!(fill("{{json .}}"), value.to_string());
        assert!(Template::parse("table {{.ID}}").unwrap().table);
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        for text in [
            "{{.ID",
            "{{range .X}}{{end}}",
            "{{if .A}}",
            "{{.A | lower}}",
        ] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
        assert!(
            Template::parse("{{.Nope}}")
                .unwrap()
                .fill(&json!({}))
                .is_err()
        );
    }
}
