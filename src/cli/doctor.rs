//! `rl doctor`.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use crate::doctor::{self, Facts, Finding, Verdict};
use crate::engine::Error;
use crate::engine::dirs::{self, Dirs};
use crate::host::{self, Fix, Obstacle};
use crate::model::text::escape;

/// Look at this machine: what containers can do here, what they cannot, and the line that mends it
///
/// Everything is tried, nothing is changed. The exit status is 0 when nothing is missing or degraded, 1
/// otherwise; what is only noted does not count.
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// Print the findings as JSON: a list of id, verdict, evidence, effect, fix, as_root
    #[arg(long)]
    json: bool,
    /// Print a shell script with all that root has to do
    #[arg(long, conflicts_with = "json")]
    admin_script: bool,
}

/// Text for standard output, and the exit status.
///
/// # Errors
/// No /proc.
pub fn doctor(args: &DoctorArgs) -> Result<(String, u8), Error> {
    let store = store();
    let data = store.as_deref().map_err(Obstacle::clone);
    let facts = Facts::gather(data, std::env::var_os("PATH").as_deref())?;
    let findings = doctor::examine(&facts);
    let bad = |f: &&Finding| matches!(f.verdict, Verdict::Degraded | Verdict::Missing);
    let status = u8::from(findings.iter().any(|f| bad(&f)));
    let text = if args.json {
        let mut text = serde_json::to_string_pretty(&findings).unwrap_or_default();
        text.push('\n');
        text
    } else if args.admin_script {
        doctor::admin_script(&findings)
    } else {
        let color = std::io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        let mut text: String = findings.iter().map(|f| row(f, color)).collect();
        text.push_str(&summary(&findings, &doctor::rungs(&facts)));
        text
    };
    Ok((text, status))
}

/// The store's directory, once its file system has answered.
fn store() -> Result<PathBuf, Obstacle> {
    let obstacle = |error: dirs::Error| Obstacle {
        why: error.to_string(),
        fix: error.hint().as_deref().map(Fix::parse),
    };
    let place = Dirs::place().map_err(obstacle)?;
    host::answers(&place).map_err(|refused| Obstacle {
        why: format!("{refused}: the file system does not answer"),
        fix: Some(Fix::own(host::ELSEWHERE)),
    })?;
    Dirs::find().map(|dirs| dirs.data).map_err(obstacle)
}

/// Where evidence begins, and how long a line may get.
const INDENT: usize = 28;
const WIDTH: usize = 80;

/// A finding: verdict, id, evidence; below them effect and fix. A fix stays on lines of its own, to be copied.
fn row(finding: &Finding, color: bool) -> String {
    let (on, off) = match finding.verdict {
        _ if !color => ("", ""),
        Verdict::Ok => ("\x1b[32m", "\x1b[m"),
        Verdict::Note => ("\x1b[36m", "\x1b[m"),
        Verdict::Degraded => ("\x1b[33m", "\x1b[m"),
        Verdict::Missing => ("\x1b[31m", "\x1b[m"),
    };
    let head = format!("{on}{:8}{off}  {:18}", finding.verdict.word(), finding.id);
    let mut out = wrapped(&head, &escape(&finding.evidence));
    let blank = " ".repeat(INDENT);
    if let Some(effect) = &finding.effect {
        out += &wrapped(&blank, &format!("so: {}", escape(effect)));
    }
    match &finding.fix {
        Some(fix) if fix.root => {
            out += &format!("{blank}fix, as root:\n");
            // The end of a here-document must begin its line.
            let indent = if fix.line.contains('\n') { "" } else { "  " };
            for line in fix.line.lines() {
                out += &format!("{indent}{}\n", escape(line));
            }
        }
        Some(fix) => out += &wrapped(&blank, &format!("fix: {}", escape(&fix.line))),
        None => {}
    }
    out
}

/// Words after a head of [`INDENT`] columns, broken at spaces.
fn wrapped(head: &str, text: &str) -> String {
    let (mut out, mut column) = (head.to_owned(), INDENT);
    for (number, word) in text.split(' ').enumerate() {
        let length = word.chars().count();
        if number > 0 && column + 1 + length > WIDTH {
            out += &format!("\n{}", " ".repeat(INDENT));
            column = INDENT;
        } else if number > 0 {
            out.push(' ');
            column += 1;
        }
        out += word;
        column += length;
    }
    out.push('\n');
    out
}

fn summary(findings: &[Finding], rungs: &[(&str, String)]) -> String {
    let mut out = String::from("\nrl run takes:\n");
    for (resource, rung) in rungs {
        out += &format!("  {resource:18}{}\n", escape(rung));
    }
    let count = |verdict| findings.iter().filter(|f| f.verdict == verdict).count();
    let (missing, degraded) = (count(Verdict::Missing), count(Verdict::Degraded));
    let root = findings
        .iter()
        .any(|f| f.verdict != Verdict::Note && f.fix.as_ref().is_some_and(|fix| fix.root));
    out += &match (missing, degraded) {
        (0, 0) => "Nothing is missing.\n".to_owned(),
        (0, d) => format!("{d} degraded.\n"),
        (m, 0) => format!("{m} missing.\n"),
        (m, d) => format!("{m} missing, {d} degraded.\n"),
    };
    if root {
        out += "What root has to do, as one script: rl doctor --admin-script\n";
    }
    out
}
