//! From text to tree. Errors are reasons; the caller knows the template.

use std::iter::Peekable;
use std::vec::IntoIter;

use serde_json::{Value, json};

use super::{Node, Operand, Pipe, functions};

type Result<T> = std::result::Result<T, String>;

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Field(Vec<String>),
    Variable(String, Vec<String>),
    Word(String),
    Literal(Value),
    Open,
    /// `)`, perhaps with fields of the group's result.
    Close(Vec<String>),
    Bar,
    Comma,
    /// `:=` is true, `=` false.
    Assign(bool),
}

/// What the template consists of on its outermost level.
enum Piece {
    Text(String),
    Action(Vec<Token>),
}

type Pieces = Peekable<IntoIter<Piece>>;
type Tokens = Peekable<IntoIter<Token>>;

/// What ended a list of nodes.
enum End {
    Text,
    Closed,
    Else(Tokens),
}

pub(super) fn parse(text: &str) -> Result<Vec<Node>> {
    let mut pieces = split(text)?.into_iter().peekable();
    match list(&mut pieces)? {
        (nodes, End::Text) => Ok(nodes),
        (_, End::Closed) => Err("`end` without a beginning".to_owned()),
        (_, End::Else(_)) => Err("`else` without `if`".to_owned()),
    }
}

/// Text and actions, with the trim markers carried out.
fn split(text: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let (mut rest, mut trim) = (text, false);
    loop {
        let open = rest.find("{{");
        let mut plain = &rest[..open.unwrap_or(rest.len())];
        if trim {
            plain = plain.trim_start();
        }
        let after = open.map(|at| &rest[at + 2..]);
        let inside = after.map(|after| match after.strip_prefix('-') {
            Some(trimmed) if trimmed.starts_with(char::is_whitespace) => (true, trimmed),
            _ => (false, after),
        });
        if matches!(inside, Some((true, _))) {
            plain = plain.trim_end();
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain.replace("\\t", "\t").replace("\\n", "\n")));
        }
        let Some((_, inside)) = inside else {
            return Ok(pieces);
        };
        let tokens;
        (tokens, trim, rest) = action(inside)?;
        if !tokens.is_empty() {
            pieces.push(Piece::Action(tokens));
        }
    }
}

/// The tokens up to `}}`, whether the text after it is to be trimmed, and that text.
fn action(text: &str) -> Result<(Vec<Token>, bool, &str)> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    if let Some(comment) = rest.strip_prefix("/*") {
        let end = comment.find("*/").ok_or("a comment without its end")?;
        rest = comment[end + 2..].trim_start();
    }
    loop {
        if let Some(after) = rest.strip_prefix("}}") {
            return Ok((tokens, false, after));
        }
        if let Some(after) = rest.strip_prefix("-}}") {
            return Ok((tokens, true, after));
        }
        let first = rest.chars().next().ok_or("`{{` without `}}`")?;
        let (token, after) = token(first, rest)?;
        tokens.push(token);
        rest = after.trim_start();
    }
}

fn token(first: char, text: &str) -> Result<(Token, &str)> {
    let one = &text[first.len_utf8()..];
    Ok(match first {
        '(' => (Token::Open, one),
        ')' => {
            let (path, rest) = path(one);
            (Token::Close(path), rest)
        }
        '|' => (Token::Bar, one),
        ',' => (Token::Comma, one),
        '=' => (Token::Assign(false), one),
        ':' if one.starts_with('=') => (Token::Assign(true), &one[1..]),
        '"' | '`' => string(first, text)?,
        '.' => {
            let (path, rest) = path(text);
            let rest = if path.is_empty() { one } else { rest };
            (Token::Field(path), rest)
        }
        '$' => {
            let (name, rest) = word(one);
            let (path, rest) = path(rest);
            (Token::Variable(name.to_owned(), path), rest)
        }
        c if c.is_ascii_digit() || "+-".contains(c) => number(text)?,
        _ => match word(text) {
            ("", _) => return Err(format!("`{first}` is not expected")),
            ("true", rest) => (Token::Literal(json!(true)), rest),
            ("false", rest) => (Token::Literal(json!(false)), rest),
            ("nil", rest) => (Token::Literal(Value::Null), rest),
            (name, rest) => (Token::Word(name.to_owned()), rest),
        },
    })
}

fn word(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    text.split_at(end.unwrap_or(text.len()))
}

/// `.A.B`, as far as it goes.
fn path(mut text: &str) -> (Vec<String>, &str) {
    let mut names = Vec::new();
    while let Some(after) = text.strip_prefix('.') {
        let (name, rest) = word(after);
        if name.is_empty() {
            break;
        }
        names.push(name.to_owned());
        text = rest;
    }
    (names, text)
}

fn number(text: &str) -> Result<(Token, &str)> {
    let end = text[1..].find(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '_');
    let (digits, rest) = text.split_at(end.map_or(text.len(), |end| end + 1));
    let value = match digits.parse::<i64>() {
        Ok(number) => json!(number),
        Err(_) => match digits.parse::<f64>() {
            Ok(number) => json!(number),
            Err(_) => return Err(format!("`{digits}` is not a number")),
        },
    };
    Ok((Token::Literal(value), rest))
}

fn string(quote: char, text: &str) -> Result<(Token, &str)> {
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return Ok((Token::Literal(json!(out)), &text[at + 1..])),
            '\\' if quote == '"' => match chars.next() {
                Some((_, 'n')) => out.push('\n'),
                Some((_, 't')) => out.push('\t'),
                Some((_, c @ ('"' | '\\' | '\''))) => out.push(c),
                Some((_, c)) => return Err(format!("`\\{c}` in a string")),
                None => break,
            },
            c => out.push(c),
        }
    }
    Err("a string without its end".to_owned())
}

/// Nodes up to the end of the template, an `end` or an `else`.
fn list(pieces: &mut Pieces) -> Result<(Vec<Node>, End)> {
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.next() {
        let tokens = match piece {
            Piece::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Piece::Action(tokens) => tokens,
        };
        let mut tokens = tokens.into_iter().peekable();
        let keyword = match tokens.peek() {
            Some(Token::Word(word)) => word.clone(),
            _ => String::new(),
        };
        if ["if", "with", "range", "end", "else"].contains(&&*keyword) {
            tokens.next();
        }
        nodes.push(match &*keyword {
            "end" => return Ok((nodes, End::Closed)),
            "else" => return Ok((nodes, End::Else(tokens))),
            "if" => branch(tokens, pieces)?,
            "with" => {
                let over = whole_pipe(tokens)?;
                let (body, otherwise) = bodies(pieces)?;
                Node::With {
                    over,
                    body,
                    otherwise,
                }
            }
            "range" => range(tokens, pieces)?,
            _ => Node::Print(whole_pipe(tokens)?),
        });
    }
    Ok((nodes, End::Text))
}

fn branch(tokens: Tokens, pieces: &mut Pieces) -> Result<Node> {
    let mut arms = Vec::new();
    let mut condition = whole_pipe(tokens)?;
    loop {
        let (body, end) = list(pieces)?;
        arms.push((condition, body));
        let mut rest = match end {
            End::Text => return Err("`if` without `end`".to_owned()),
            End::Closed => {
                let otherwise = Vec::new();
                return Ok(Node::If { arms, otherwise });
            }
            End::Else(rest) => rest,
        };
        match rest.next() {
            Some(Token::Word(word)) if word == "if" => condition = whole_pipe(rest)?,
            None => {
                let otherwise = last_body(pieces)?;
                return Ok(Node::If { arms, otherwise });
            }
            Some(_) => return Err("only `if` follows `else`".to_owned()),
        }
    }
}

fn range(mut tokens: Tokens, pieces: &mut Pieces) -> Result<Node> {
    let mut names = (None, None);
    let mut ahead = tokens.clone();
    if let (Some(Token::Variable(index, _)), Some(Token::Comma), Some(Token::Variable(item, _))) =
        (ahead.next(), ahead.next(), ahead.next())
    {
        if ahead.next() != Some(Token::Assign(true)) {
            return Err("`:=` is missing after the variables of `range`".to_owned());
        }
        names = (Some(index), Some(item));
        tokens = ahead;
    }
    let mut over = whole_pipe(tokens)?;
    // With one variable, it is the element.
    if let Some((name, _)) = over.set.take() {
        names.1 = Some(name);
    }
    let (body, otherwise) = bodies(pieces)?;
    Ok(Node::Range {
        over,
        names,
        body,
        otherwise,
    })
}

/// The body of `with` or `range`, and that after its `else`.
fn bodies(pieces: &mut Pieces) -> Result<(Vec<Node>, Vec<Node>)> {
    match list(pieces)? {
        (_, End::Text) => Err("`end` is missing".to_owned()),
        (body, End::Closed) => Ok((body, Vec::new())),
        (body, End::Else(mut rest)) => match rest.next() {
            None => Ok((body, last_body(pieces)?)),
            Some(_) => Err("nothing follows this `else`".to_owned()),
        },
    }
}

fn last_body(pieces: &mut Pieces) -> Result<Vec<Node>> {
    match list(pieces)? {
        (body, End::Closed) => Ok(body),
        _ => Err("`else` without `end`".to_owned()),
    }
}

fn whole_pipe(mut tokens: Tokens) -> Result<Pipe> {
    let pipe = pipe(&mut tokens)?;
    match tokens.next() {
        None => Ok(pipe),
        Some(_) => Err("something is left after a pipe".to_owned()),
    }
}

/// A pipe up to a `)` or the end.
fn pipe(tokens: &mut Tokens) -> Result<Pipe> {
    let mut set = None;
    let mut ahead = tokens.clone();
    if let (Some(Token::Variable(name, path)), Some(Token::Assign(new))) =
        (ahead.next(), ahead.next())
        && path.is_empty()
    {
        set = Some((name, new));
        *tokens = ahead;
    }
    let mut commands = vec![command(tokens)?];
    while tokens.next_if_eq(&Token::Bar).is_some() {
        let command = command(tokens)?;
        if !matches!(command[0], Operand::Function(_) | Operand::Field(_)) {
            return Err("only a function follows `|`".to_owned());
        }
        commands.push(command);
    }
    Ok(Pipe { set, commands })
}

fn command(tokens: &mut Tokens) -> Result<Vec<Operand>> {
    let mut operands = Vec::new();
    while let Some(token) = tokens.next_if(|t| !matches!(t, Token::Bar | Token::Close(_))) {
        operands.push(match token {
            Token::Field(path) => Operand::Field(path),
            Token::Variable(name, path) => Operand::Variable(name, path),
            Token::Literal(value) => Operand::Literal(value),
            Token::Word(name) if functions::exists(&name) => Operand::Function(name),
            Token::Word(name) => return Err(format!("there is no function `{name}`")),
            Token::Open => {
                let pipe = pipe(tokens)?;
                match tokens.next() {
                    Some(Token::Close(path)) => Operand::Group(pipe, path),
                    _ => return Err("`(` without `)`".to_owned()),
                }
            }
            Token::Comma | Token::Assign(_) | Token::Bar | Token::Close(_) => {
                return Err("a sign where a value is expected".to_owned());
            }
        });
    }
    if operands.is_empty() {
        return Err("a value is missing".to_owned());
    }
    Ok(operands)
}
