//! The arrows of the house: a module imports what stands below it, never a sibling, never what stands
//! above.
//!
//! Every file below `src/` is read as text. Comments and literals are blanked out first, then the paths
//! that start at the crate's root are collected (`crate::a::b`, `crate::{a, b::c}`, and chains of
//! `super::` long enough to reach the root), and each is held against the table of layers. The same
//! walk looks for `unsafe` outside `src/sys`, for printing outside the front end, and for files that
//! have grown too long.

use std::fs;
use std::path::{Path, PathBuf};

/// The layers from top to bottom. Modules in one line are siblings.
const LAYERS: &[&[&str]] = &[
    &["main"],
    &["cli", "oci_cli", "api", "kube"],
    &["engine", "build", "doctor", "quadlet"],
    &["monitor"],
    &["runtime"],
    &[
        "oci", "store", "registry", "net", "cgroup", "security", "userns", "state",
    ],
    &["host"],
    &["sys"],
    &["model"],
];

/// No file below `src/` may be longer, in lines.
const LONGEST: usize = 600;

const PRINTING: &[&str] = &["print", "println", "eprint", "eprintln", "dbg"];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|names| names.contains(&module))
}

/// Replaces comments and the insides of string and character literals by spaces; line breaks stay.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    let at_or = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut keep = |from: usize, to: usize, as_is: bool| {
        for &c in &chars[from..to.min(chars.len())] {
            out.push(if as_is || c == '\n' { c } else { ' ' });
        }
    };
    while at < chars.len() {
        let end = match (chars[at], at_or(at + 1)) {
            ('/', '/') => (at..chars.len())
                .find(|&i| chars[i] == '\n')
                .unwrap_or(chars.len()),
            ('/', '*') => {
                let (mut depth, mut i) = (1, at + 2);
                while i < chars.len() && depth > 0 {
                    match (chars[i], at_or(i + 1)) {
                        ('/', '*') => (depth, i) = (depth + 1, i + 2),
                        ('*', '/') => (depth, i) = (depth - 1, i + 2),
                        _ => i += 1,
                    }
                }
                i
            }
            ('r', '"' | '#')
                if at == 0
                    || !is_word(chars[at - 1])
                    || chars[at - 1] == 'b'
                    || chars[at - 1] == 'c' =>
            {
                let hashes = (at + 1..chars.len())
                    .take_while(|&i| chars[i] == '#')
                    .count();
                if at_or(at + 1 + hashes) == '"' {
                    let closes =
                        |i: usize| chars[i] == '"' && (1..=hashes).all(|h| at_or(i + h) == '#');
                    (at + 2 + hashes..chars.len())
                        .find(|&i| closes(i))
                        .map_or(chars.len(), |i| i + 1 + hashes)
                } else {
                    at
                }
            }
            ('"', _) => {
                let mut i = at + 1;
                while i < chars.len() && chars[i] != '"' {
                    i += if chars[i] == '\\' { 2 } else { 1 };
                }
                i + 1
            }
            // A character literal, as opposed to a lifetime.
            ('\'', '\\') => (at + 3..chars.len())
                .find(|&i| chars[i] == '\'')
                .map_or(chars.len(), |i| i + 1),
            ('\'', _) if at_or(at + 2) == '\'' => at + 3,
            _ => at,
        };
        if end == at {
            keep(at, at + 1, true);
            at += 1;
        } else {
            keep(at, end, false);
            at = end;
        }
    }
    out
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[derive(Debug, Clone, PartialEq)]
struct Token {
    text: String,
    line: usize,
}

/// Splits blanked source into words, `::` and single punctuation characters.
fn tokens(blanked: &str) -> Vec<Token> {
    let mut list: Vec<Token> = Vec::new();
    for (number, line) in blanked.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = if is_word(first) {
                rest.find(|c| !is_word(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            list.push(Token {
                text: rest[..length].to_owned(),
                line: number + 1,
            });
            rest = rest[length..].trim_start();
        }
    }
    list
}

/// The first names of the path or group that starts at `tokens[at]`.
fn heads(tokens: &[Token], at: usize) -> Vec<String> {
    if tokens.get(at).is_none_or(|t| t.text != "{") {
        return tokens.get(at).map(|t| t.text.clone()).into_iter().collect();
    }
    let (mut depth, mut expect, mut found) = (0, false, Vec::new());
    for token in &tokens[at..] {
        match token.text.as_str() {
            "{" => (depth, expect) = (depth + 1, depth == 0),
            "}" => depth -= 1,
            "," => expect = depth == 1,
            name if expect => {
                found.push(name.to_owned());
                expect = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    found
}

/// How deep below the crate's root the code of this file is, and its module there.
fn place(relative: &Path) -> (usize, String) {
    let mut parts: Vec<String> = relative
        .with_extension("")
        .components()
        .map(|c| c.as_os_str().to_string_lossy().into_owned())
        .collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    (parts.len(), parts[0].clone())
}

/// Everything in one source file that breaks a rule; `relative` is its path below `src/`.
fn violations(relative: &Path, text: &str) -> Vec<String> {
    let (depth, module) = place(relative);
    let mut found = Vec::new();
    let mut report = |line: usize, what: String| {
        found.push(format!("src/{}:{line}: {what}", relative.display()))
    };

    let lines = text.lines().count();
    if lines > LONGEST {
        report(lines, format!("{lines} lines; the limit is {LONGEST}"));
    }
    if module == "lib" {
        return found;
    }
    let Some(own) = layer(&module) else {
        report(
            1,
            format!(
                "the module `{module}` has no layer; give it one in tests/layers.rs and in src/lib.rs"
            ),
        );
        return found;
    };

    // `tests.rs` and what is below `tests/` are compiled for the unit tests only.
    let test_file = relative
        .with_extension("")
        .iter()
        .any(|part| part == "tests");
    let list = tokens(&blank(text));
    let is = |i: usize, what: &str| list.get(i).is_some_and(|t| t.text == what);
    // One entry for each open brace: Some(is a test module) for a module's, None for any other.
    let mut braces: Vec<Option<bool>> = Vec::new();
    for (at, token) in list.iter().enumerate() {
        let inline = braces.iter().flatten().count();
        let in_tests = test_file || braces.iter().flatten().any(|&tests| tests);
        match token.text.as_str() {
            "{" => {
                let is_module = at >= 2 && list[at - 2].text == "mod";
                let is_test = at >= 9
                    && (at - 9..at).any(|i| {
                        is(i, "cfg") && is(i + 1, "(") && is(i + 2, "test") && is(i + 3, ")")
                    });
                braces.push(is_module.then_some(is_test));
            }
            "}" => {
                braces.pop();
            }
            "unsafe" if module != "sys" => report(token.line, "`unsafe` outside src/sys".into()),
            "unsafe_code" if module != "sys" => report(
                token.line,
                "`unsafe_code` is allowed in src/sys only".into(),
            ),
            name if PRINTING.contains(&name)
                && is(at + 1, "!")
                && !in_tests
                && !["main", "cli"].contains(&&*module) =>
            {
                report(
                    token.line,
                    format!("`{name}!` outside src/main.rs and src/cli"),
                );
            }
            "crate" | "rl" if is(at + 1, "::") && (at == 0 || list[at - 1].text != "::") => {
                if token.text == "rl" && module != "main" {
                    continue;
                }
                for name in heads(&list, at + 2) {
                    if let Some(broken) = broken_arrow(own, &module, &name) {
                        report(token.line, broken);
                    }
                }
            }
            "super" if at == 0 || list[at - 1].text != "::" => {
                let ups = (0..)
                    .take_while(|i| is(at + 2 * i, "super") && is(at + 2 * i + 1, "::"))
                    .count();
                if ups < depth + inline {
                    continue;
                }
                for name in heads(&list, at + 2 * ups) {
                    if let Some(broken) = broken_arrow(own, &module, &name) {
                        report(token.line, broken);
                    }
                }
            }
            _ => {}
        }
    }
    found
}

fn broken_arrow(own: usize, module: &str, name: &str) -> Option<String> {
    let other = layer(name)?;
    if name == module || other > own {
        None
    } else if other == own {
        Some(format!("`{module}` imports its sibling `{name}`"))
    } else {
        Some(format!("`{module}` imports upward from `{name}`"))
    }
}

fn rust_files(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn the_source_keeps_its_layers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    files.sort();
    assert!(
        files.len() > 10,
        "found only {} files below {}",
        files.len(),
        root.display()
    );
    let broken: Vec<String> = files
        .iter()
        .flat_map(|file| {
            violations(
                file.strip_prefix(&root).unwrap(),
                &fs::read_to_string(file).unwrap(),
            )
        })
        .collect();
    assert!(
        broken.is_empty(),
        "{} rules broken:\n{}",
        broken.len(),
        broken.join("\n")
    );
}

#[test]
fn every_module_of_the_library_has_a_layer() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    for module in lib
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
    {
        assert!(layer(module).is_some(), "`{module}` has no layer");
    }
}

/// The reader itself, on source that breaks each rule and on source that only seems to.
#[test]
fn the_reader_finds_what_it_should() {
    let broken = |file: &str, text: &str| violations(Path::new(file), text);

    assert_eq!(
        broken(
            "store/mod.rs",
            "use crate::sys::fs;\nuse crate::model::{Digest, IdMap};\n"
        ),
        [""; 0]
    );
    assert_eq!(
        broken("store/mod.rs", "use crate::registry::Client;").len(),
        1
    );
    assert_eq!(
        broken("store/a.rs", "use crate::{sys::x, engine::{A, B}, net};").len(),
        2
    );
    assert_eq!(
        broken("sys/a.rs", "fn f() { crate::host::facts() }").len(),
        1
    );
    assert_eq!(broken("host.rs", "pub(crate) fn f() {}").len(), 0);
    assert_eq!(broken("host.rs", "use super::engine::x;").len(), 1);
    assert_eq!(
        broken("store/a.rs", "use super::engine;").len(),
        0,
        "`super` is `store` here"
    );
    assert_eq!(
        broken("store/a.rs", "use super::super::engine::x;").len(),
        1
    );
    assert_eq!(
        broken(
            "store/a.rs",
            "#[cfg(test)] mod tests { use super::super::engine; }"
        )
        .len(),
        0
    );
    assert_eq!(
        broken(
            "store/a.rs",
            "mod inner { use super::super::super::engine; }"
        )
        .len(),
        1
    );
    assert_eq!(broken("main.rs", "use rl::{cli, monitor};").len(), 0);
    assert_eq!(broken("novel/mod.rs", "").len(), 1);

    assert_eq!(broken("sys/a.rs", "unsafe { x() }").len(), 0);
    assert_eq!(
        broken(
            "net/a.rs",
            "// unsafe\nlet a = \"unsafe {\\\"\"; /* unsafe /* unsafe */ */ let c = '\"';"
        )
        .len(),
        0
    );
    assert_eq!(broken("net/a.rs", "let a = '\"'; unsafe { x() }").len(), 1);
    assert_eq!(
        broken("net/a.rs", "fn f<'a>(x: &'a str) { unsafe { x() } }").len(),
        1
    );
    assert_eq!(
        broken("net/a.rs", "let a = r#\"crate::engine \" unsafe\"#;").len(),
        0
    );
    assert_eq!(broken("net/a.rs", "#![allow(unsafe_code)]").len(), 1);

    assert_eq!(broken("net/a.rs", "println!(\"x\");").len(), 1);
    assert_eq!(
        broken(
            "net/a.rs",
            "#[cfg(test)]\nmod tests {\n fn f() { eprintln!(\"x\"); }\n}"
        )
        .len(),
        0
    );
    assert_eq!(broken("net/tests.rs", "println!(\"x\");").len(), 0);
    assert_eq!(broken("cli/a.rs", "println!(\"x\");").len(), 0);
    assert_eq!(broken("net/a.rs", &"\n".repeat(601)).len(), 1);
}
