//! What lists have in common: a template for each row, and columns for tables.

use serde_json::{Map, Value};

use super::print;
use crate::engine::{Context, Error};
use crate::model::template::Template;
use crate::model::text::escape_json;

/// A line of a list.
pub struct Row {
    /// Its fields, named as Docker names them.
    pub fields: Value,
    /// The fields that want an argument: `.Label "key"`.
    pub methods: Map<String, Value>,
}

/// The template of `--format`; without one, and for the word `table`, the verb's own.
///
/// # Errors
/// A template that cannot be read.
pub fn template(format: Option<&str>, usual: &str) -> Result<Template, Error> {
    let text = format.filter(|&text| text != "table").unwrap_or(usual);
    Ok(Template::parse(text)?)
}

/// The list as text; a `table` template gets a head line, whose titles are `title` of the fields.
///
/// # Errors
/// A field that the rows do not have.
pub fn list(
    template: &Template,
    title: &dyn Fn(&str) -> String,
    rows: impl IntoIterator<Item = Row>,
) -> Result<String, Error> {
    page(template, title, lines(template, rows)?)
}

/// The lines of a list.
///
/// # Errors
/// As [`list`].
pub fn lines(
    template: &Template,
    rows: impl IntoIterator<Item = Row>,
) -> Result<Vec<String>, Error> {
    let fill = |row: Row| Ok(template.fill(&row.fields, &row.methods)?);
    rows.into_iter().map(fill).collect()
}

/// Lines as the text of a list.
///
/// # Errors
/// As [`list`].
pub fn page(
    template: &Template,
    title: &dyn Fn(&str) -> String,
    mut lines: Vec<String>,
) -> Result<String, Error> {
    Ok(if template.table {
        lines.insert(0, template.head(title)?);
        columns(&lines)
    } else {
        lines.iter().map(|line| format!("{line}\n")).collect()
    })
}

/// Prints objects that were looked up, with a template or as a list in JSON; what was not found is told. Returns the exit
/// status.
///
/// # Errors
/// A template that cannot be read or filled.
pub fn inspect(
    context: &Context<'_>,
    format: Option<&str>,
    objects: impl Iterator<Item = Result<Value, Error>>,
) -> Result<u8, Error> {
    let mut found = Vec::new();
    let mut status = 0;
    for object in objects {
        match object {
            Ok(object) => found.push(object),
            Err(error) => status = context.ui.fail(&error).min(1),
        }
    }
    let out = match format {
        Some(format) => {
            let template = template(Some(format), format)?;
            let mut out = String::new();
            for value in &found {
                out += &template.fill(value, &Map::new())?;
                out.push('\n');
            }
            out
        }
        None => {
            let text = serde_json::to_string_pretty(&Value::Array(found));
            format!("{}\n", escape_json(&text.unwrap_or_default()))
        }
    };
    Ok(print(out.as_bytes()).max(status))
}

/// Cells that tabs separate, as Docker aligns them: ten wide at least, three blanks apart, the last one
/// ragged.
pub fn columns(lines: &[String]) -> String {
    let cells = |line| str::split(line, '\t').map(|cell| (cell, cell.chars().count()));
    let rows: Vec<Vec<(&str, usize)>> = lines.iter().map(|line| cells(line).collect()).collect();
    let mut widths: Vec<usize> = Vec::new();
    for row in &rows {
        widths.resize(widths.len().max(row.len()), 7);
        for (width, (_, length)) in widths.iter_mut().zip(row) {
            *width = (*width).max(*length);
        }
    }
    let mut out = String::new();
    for row in &rows {
        for (i, ((cell, length), width)) in row.iter().zip(&widths).enumerate() {
            out += cell;
            if i + 1 < row.len() {
                out.extend(std::iter::repeat_n(' ', width + 3 - length));
            }
        }
        out.push('\n');
    }
    out
}
