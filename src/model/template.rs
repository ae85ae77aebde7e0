//! Go's text templates, as far as people use them with `--format`: field paths, pipes, variables,
//! `if`, `range`, `with`, and the functions that Docker documents.
//!
//! A template is read into a tree once ([`parse`]) and then filled from one JSON value after the other
//! ([`eval`]). What comes from the value is escaped for a terminal, what the template itself says is
//! not. The rules are those of <https://pkg.go.dev/text/template>; an unknown field is an error.

mod eval;
mod functions;
mod parse;

use serde_json::{Map, Value};

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

    /// The fields of the value that it shows, where it shows them as they are and does nothing else.
    pub fn plain_fields(&self) -> Option<Vec<&str>> {
        let field = |node| match node {
            &Node::Text(_) => Some(None),
            Node::Print(Pipe {
                set: None,
                commands,
            }) => match &**commands {
                [command] => match &**command {
                    [Operand::Field(path)] => Some(Some(&**path.first()?)),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        };
        let fields: Option<Vec<Option<&str>>> = self.nodes.iter().map(field).collect();
        Some(fields?.into_iter().flatten().collect())
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
