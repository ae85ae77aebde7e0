//! Go's text templates, as far as people use them with `--format`: field paths, pipes, variables,
//! `if`, `range`, `with`, and the functions that Docker documents.
//!
//! A template is read into a tree once ([`parse`]) and then filled from one JSON value after the other
//! ([`eval`]). What comes from the value is escaped for a terminal, what the template itself says is
//! not. The rules are those of <https://pkg.go.dev/text/template>; an unknown field is an error.

mod eval;
mod functions;
mod parse;

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::text::push_escaped;

/// Why a template cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It cannot be read.
    #[error("template `{template}`: {reason}")]
    Syntax {
        /// As it was given.
        template: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The value has no such field.
    #[error("template `{template}`: there is no field `{field}`")]
    NoField {
        /// As it was given.
        template: String,
        /// The path up to the field, with its dots.
        field: String,
    },
    /// A function cannot work with what it was given.
    #[error("template `{template}`: `{function}`: {reason}")]
    Call {
        /// As it was given.
        template: String,
        /// The function.
        function: String,
        /// What is wrong.
        reason: String,
    },
}

/// A template that has been read.
#[derive(Clone, Debug)]
pub struct Template {
    source: String,
    nodes: Vec<Node>,
    /// `table …`: the caller prints a head line and aligns the columns, which tabs separate.
    pub table: bool,
}

impl Template {
    /// Reads a template. `json` alone is `{{json .}}`.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`].
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        let (table, body) = match text.strip_prefix("table") {
            Some(rest) if rest.starts_with([' ', '\t']) => (true, rest.trim_start()),
            _ if text == "json" => (false, "{{json .}}"),
            _ => (false, text),
        };
        let nodes = parse::parse(body).map_err(|reason| TemplateError::Syntax {
            template: text.to_owned(),
            reason,
        })?;
        Ok(Template {
            source: text.to_owned(),
            nodes,
            table,
        })
    }

    /// Fills the template. `methods` are the fields that want an argument, such as `.Label "key"`: each is
    /// an object that the argument indexes.
    ///
    /// # Errors
    /// A field that there is not, a function that cannot work with what it was given.
    pub fn fill(
        &self,
        value: &Value,
        methods: &Map<String, Value>,
    ) -> Result<String, TemplateError> {
        eval::run(&self.nodes, &eval::Root::Value { value, methods })
            .map_err(|failure| failure.of(&self.source))
    }

    /// The template as one that shows fields of the value as they are and does nothing else, if it is one: it is filled
    /// without making a value of all fields first.
    pub fn plain(&self) -> Option<Plain<'_>> {
        let pieces: Option<Vec<Piece<'_>>> = self.nodes.iter().map(Piece::of).collect();
        Some(Plain {
            source: &self.source,
            pieces: pieces?,
        })
    }

    /// The head line: the template with the title of each field in the place of its value.
    ///
    /// # Errors
    /// A function that cannot work with a title.
    pub fn head(&self, title: &dyn Fn(&str) -> String) -> Result<String, TemplateError> {
        eval::run(&self.nodes, &eval::Root::Titles(title))
            .map_err(|failure| failure.of(&self.source))
    }
}

/// A [template](Template::plain) that shows fields as they are.
#[derive(Clone, Debug)]
pub struct Plain<'a> {
    source: &'a str,
    pieces: Vec<Piece<'a>>,
}

#[derive(Clone, Copy, Debug)]
enum Piece<'a> {
    Text(&'a str),
    Field(&'a str),
}

impl Piece<'_> {
    fn of(node: &Node) -> Option<Piece<'_>> {
        match node {
            Node::Text(text) => Some(Piece::Text(text)),
            Node::Print(Pipe {
                set: None,
                commands,
            }) => match &commands[..] {
                [command] => match &command[..] {
                    [Operand::Field(path)] if path.len() == 1 => Some(Piece::Field(&path[0])),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        }
    }
}

impl Plain<'_> {
    /// Fills the template with what `field` has under each name.
    ///
    /// # Errors
    /// A field that there is not.
    pub fn fill<'v>(
        &self,
        field: impl Fn(&str) -> Option<Cow<'v, str>>,
    ) -> Result<String, TemplateError> {
        let mut out = String::with_capacity(128);
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Field(name) => {
                    let value = field(name).ok_or_else(|| TemplateError::NoField {
                        template: self.source.to_owned(),
                        field: (*name).to_owned(),
                    })?;
                    push_escaped(&mut out, &value);
                }
            }
        }
        Ok(out)
    }
}

/// A piece of a template.
#[derive(Clone, Debug)]
enum Node {
    Text(String),
    Print(Pipe),
    If {
        arms: Vec<(Pipe, Vec<Node>)>,
        otherwise: Vec<Node>,
    },
    With {
        over: Pipe,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Range {
        over: Pipe,
        /// Names of the index and the element, without `$`.
        names: (Option<String>, Option<String>),
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
}

/// Commands, each of which gets the result of the one before as its last argument.
#[derive(Clone, Debug)]
struct Pipe {
    /// The variable that the result is given to, and whether it is a new one.
    set: Option<(String, bool)>,
    commands: Vec<Vec<Operand>>,
}

#[derive(Clone, Debug)]
enum Operand {
    /// `.A.B`; without a name `.` itself.
    Field(Vec<String>),
    /// `$v.A`; the empty name is `$`, the whole value.
    Variable(String, Vec<String>),
    /// `(…).A`.
    Group(Pipe, Vec<String>),
    Function(String),
    Literal(Value),
}

#[cfg(test)]
mod tests;
