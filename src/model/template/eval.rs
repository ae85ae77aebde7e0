//! From tree and value to text.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::{Node, Operand, Pipe, TemplateError, functions};
use crate::model::text::escape;

/// What `.` is at the outset.
pub(super) enum Root<'a> {
    Value {
        value: &'a Value,
        methods: &'a Map<String, Value>,
    },
    /// Every field is its title.
    Titles(&'a dyn Fn(&str) -> String),
}

/// A failure, as long as the template it is of is not known.
pub(super) enum Failure {
    Field(String),
    Call(String, String),
}

impl Failure {
    pub(super) fn of(self, template: &str) -> TemplateError {
        let template = template.to_owned();
        match self {
            Failure::Field(field) => TemplateError::NoField { template, field },
            Failure::Call(function, reason) => TemplateError::Call {
                template,
                function,
                reason,
            },
        }
    }
}

/// A value on its way.
#[derive(Clone, Debug)]
pub(super) enum Val<'a> {
    /// From outside: escaped when it becomes text.
    Data(Cow<'a, Value>),
    /// Of the template itself, or escaped already.
    Text(String),
}

impl Val<'_> {
    pub(super) fn json(value: Value) -> Val<'static> {
        Val::Data(Cow::Owned(value))
    }

    /// As Go prints it, safe for a terminal.
    pub(super) fn show(&self) -> String {
        match self {
            Val::Data(value) if value.is_null() => "<no value>".to_owned(),
            Val::Data(value) => escape(&go_text(value)),
            Val::Text(text) => text.clone(),
        }
    }

    pub(super) fn value(&self) -> Cow<'_, Value> {
        match self {
            Val::Data(value) => Cow::Borrowed(value),
            Val::Text(text) => Cow::Owned(json!(text)),
        }
    }

    /// Everything but the zero value of its type.
    pub(super) fn is_true(&self) -> bool {
        match &*self.value() {
            Value::Null => false,
            Value::Bool(b) => *b,
            Value::Number(n) => n.as_f64() != Some(0.0),
            Value::String(s) => !s.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(map) => !map.is_empty(),
        }
    }
}

/// `[a b]`, `map[k:v]` with sorted keys.
fn go_text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.into(),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(go_text).collect();
            format!("[{}]", items.join(" ")).into()
        }
        Value::Object(map) => {
            let pairs = sorted(map).into_iter();
            let pairs: Vec<String> = pairs.map(|(k, v)| format!("{k}:{}", go_text(v))).collect();
            format!("map[{}]", pairs.join(" ")).into()
        }
        other => other.to_string().into(),
    }
}

fn sorted(map: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut pairs: Vec<_> = map.iter().collect();
    pairs.sort_by_key(|(key, _)| *key);
    pairs
}

pub(super) fn run(nodes: &[Node], root: &Root<'_>) -> Result<String, Failure> {
    let dot = match root {
        Root::Value { value, .. } => Val::Data(Cow::Borrowed(*value)),
        Root::Titles(_) => Val::json(Value::Null),
    };
    let mut run = Run {
        root,
        variables: vec![(String::new(), dot.clone())],
        out: String::new(),
    };
    run.nodes(nodes, &dot)?;
    Ok(run.out)
}

struct Run<'a> {
    root: &'a Root<'a>,
    /// Innermost last; `$` is the first.
    variables: Vec<(String, Val<'a>)>,
    out: String,
}

impl<'a> Run<'a> {
    fn nodes(&mut self, nodes: &[Node], dot: &Val<'a>) -> Result<(), Failure> {
        let scope = self.variables.len();
        for node in nodes {
            self.node(node, dot)?;
        }
        self.variables.truncate(scope);
        Ok(())
    }

    fn node(&mut self, node: &Node, dot: &Val<'a>) -> Result<(), Failure> {
        // A variable that a condition makes lives as long as its branches; one that is made by itself, as
        // long as what is around it.
        let scope = self.variables.len();
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Print(pipe) => {
                let value = self.pipe(pipe, dot)?;
                if pipe.set.is_none() {
                    self.out.push_str(&value.show());
                }
                return Ok(());
            }
            Node::If { arms, otherwise } => {
                let mut body = otherwise;
                for (condition, arm) in arms {
                    if self.pipe(condition, dot)?.is_true() {
                        body = arm;
                        break;
                    }
                }
                self.nodes(body, dot)?;
            }
            Node::With {
                over,
                body,
                otherwise,
            } => {
                let value = self.pipe(over, dot)?;
                if value.is_true() {
                    self.nodes(body, &value)?;
                } else {
                    self.nodes(otherwise, dot)?;
                }
            }
            Node::Range {
                over,
                names,
                body,
                otherwise,
            } => {
                let items = elements(&self.pipe(over, dot)?)?;
                if items.is_empty() {
                    self.nodes(otherwise, dot)?;
                }
                for (index, item) in items {
                    let inner = self.variables.len();
                    let named = [(&names.0, index), (&names.1, item.clone())];
                    for (name, value) in named {
                        self.variables
                            .extend(name.clone().map(|name| (name, value)));
                    }
                    self.nodes(body, &item)?;
                    self.variables.truncate(inner);
                }
            }
        }
        self.variables.truncate(scope);
        Ok(())
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Val<'a>) -> Result<Val<'a>, Failure> {
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(command, last, dot)?);
        }
        let value = last.unwrap_or(Val::json(Value::Null));
        if let Some((name, new)) = &pipe.set {
            let known = self.variables.iter_mut().rev().find(|(n, _)| n == name);
            match known {
                Some((_, old)) if !new => *old = value.clone(),
                None if !new => return Err(Failure::Field(format!("${name}"))),
                _ => self.variables.push((name.clone(), value.clone())),
            }
        }
        Ok(value)
    }

    fn command(
        &mut self,
        command: &[Operand],
        piped: Option<Val<'a>>,
        dot: &Val<'a>,
    ) -> Result<Val<'a>, Failure> {
        let (first, rest) = (&command[0], &command[1..]);
        let Operand::Function(name) = first else {
            if rest.is_empty() && piped.is_none() {
                return self.operand(first, dot);
            }
            let key = match (piped, rest) {
                (Some(key), []) => key,
                (None, [key]) => self.operand(key, dot)?,
                _ => {
                    return Err(Failure::Call(
                        ".".to_owned(),
                        "too many arguments".to_owned(),
                    ));
                }
            };
            return self.method(first, &key);
        };
        // These stop at the first argument that decides.
        if let "and" | "or" = &**name {
            let mut last = None;
            for operand in rest {
                let value = self.operand(operand, dot)?;
                if value.is_true() == (name == "or") {
                    return Ok(value);
                }
                last = Some(value);
            }
            return piped
                .or(last)
                .ok_or_else(|| Failure::Call(name.clone(), "an argument is missing".to_owned()));
        }
        let mut arguments = Vec::with_capacity(rest.len() + 1);
        for operand in rest {
            arguments.push(self.operand(operand, dot)?);
        }
        arguments.extend(piped);
        functions::call(name, &arguments).map_err(|reason| Failure::Call(name.clone(), reason))
    }

    fn operand(&mut self, operand: &Operand, dot: &Val<'a>) -> Result<Val<'a>, Failure> {
        match operand {
            Operand::Field(path) => match (self.root, path.last()) {
                (Root::Titles(title), Some(last)) => Ok(Val::Text(title(last))),
                _ => field(dot, path),
            },
            Operand::Variable(name, path) => {
                let known = self.variables.iter().rev().find(|(n, _)| n == name);
                match known {
                    Some((_, value)) => field(value, path),
                    None => Err(Failure::Field(format!("${name}"))),
                }
            }
            Operand::Group(pipe, path) => {
                let value = self.pipe(pipe, dot)?;
                field(&value, path)
            }
            Operand::Function(name) => {
                functions::call(name, &[]).map_err(|reason| Failure::Call(name.clone(), reason))
            }
            Operand::Literal(Value::String(text)) => Ok(Val::Text(text.clone())),
            Operand::Literal(value) => Ok(Val::json(value.clone())),
        }
    }

    /// A field that wants an argument.
    fn method(&self, operand: &Operand, key: &Val<'a>) -> Result<Val<'a>, Failure> {
        let key = key.value();
        let key = key.as_str().unwrap_or_default();
        let name = match operand {
            Operand::Field(path) => path.join("."),
            _ => String::new(),
        };
        match self.root {
            Root::Titles(_) => {
                let last = key.rsplit('.').next().unwrap_or_default();
                Ok(Val::Text(escape(&last.replace(['-', '_'], " "))))
            }
            Root::Value { methods, .. } => match methods.get(&name) {
                Some(values) => Ok(values
                    .get(key)
                    .map_or(Val::Text(String::new()), |v| Val::Data(Cow::Borrowed(v)))),
                None => Err(Failure::Call(
                    format!(".{name}"),
                    "takes no argument".to_owned(),
                )),
            },
        }
    }
}

fn field<'a>(value: &Val<'a>, path: &[String]) -> Result<Val<'a>, Failure> {
    let missing = |count: usize| Failure::Field(path[..=count].join("."));
    match value {
        _ if path.is_empty() => Ok(value.clone()),
        Val::Text(_) => Err(missing(0)),
        Val::Data(Cow::Borrowed(value)) => {
            let mut here: &'a Value = value;
            for (i, name) in path.iter().enumerate() {
                here = here.get(name).ok_or_else(|| missing(i))?;
            }
            Ok(Val::Data(Cow::Borrowed(here)))
        }
        Val::Data(Cow::Owned(value)) => {
            let mut here = value;
            for (i, name) in path.iter().enumerate() {
                here = here.get(name).ok_or_else(|| missing(i))?;
            }
            Ok(Val::json(here.clone()))
        }
    }
}

/// Index and element of each, maps by their sorted keys.
fn elements<'a>(value: &Val<'a>) -> Result<Vec<(Val<'a>, Val<'a>)>, Failure> {
    let owned = |value: &Value| Val::json(value.clone());
    match &*value.value() {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => {
            let items = items.iter().enumerate();
            Ok(items
                .map(|(i, v)| (Val::json(json!(i)), owned(v)))
                .collect())
        }
        Value::Object(map) => {
            let pairs = sorted(map).into_iter();
            Ok(pairs
                .map(|(k, v)| (Val::json(json!(k)), owned(v)))
                .collect())
        }
        _ => Err(Failure::Call(
            "range".to_owned(),
            "wants a list or a map".to_owned(),
        )),
    }
}
