//! What is for root, as one script.

use helper_process::packages;

use super::{Finding, Verdict};
use crate::host::Fix;

/// A shell script with every fix that root has to make. Each part can be run again, and one that fails keeps no other from
/// being done; the script ends with 1 then, and names it. What containers do without stands in it as well, as comments.
pub fn admin_script(findings: &[Finding]) -> String {
    let mut out = String::from(
        "#!/bin/sh\n# What `rl doctor` would have root do on this machine. Read it, then run it as root. Each part can be run \
         again.\nset -u\nfailed=\n",
    );
    let mut done: Vec<&str> = Vec::new();
    let (notes, needed): (Vec<_>, Vec<_>) = findings
        .iter()
        .filter_map(|finding| Some((finding, finding.fix.as_ref().filter(|fix| fix.root)?)))
        .partition(|(finding, _)| finding.verdict == Verdict::Note);
    for (finding, fix) in needed {
        if done.contains(&&*fix.line) {
            continue;
        }
        if packages::unattended(&fix.line).is_some()
            && !done.iter().any(|line| packages::unattended(line).is_some())
        {
            out += "\n# Packages are taken from lists of today. What asks for input must not read this script.\n";
            out += "export DEBIAN_FRONTEND=noninteractive\n";
            if let Some((Some(refresh), _)) = packages::unattended(&fix.line) {
                out += &format!("{refresh} </dev/null\n");
            }
        }
        done.push(&fix.line);
        out.push_str(&format!("\n{}", words(finding)));
        if let Some(setting) = fix.line.strip_prefix("sysctl -w ") {
            out.push_str(&format!(
                "# Until the next boot; a file in /etc/sysctl.d with `{}` keeps it.\n",
                comment(setting)
            ));
        }
        if fix.line.starts_with("modprobe ") {
            out.push_str(
                "# Until the next boot; a file in /etc/modules-load.d with the name keeps it.\n",
            );
        }
        let line = unattended(fix);
        out.push_str(&format!(
            "{{\n{line}\n}} || failed=\"$failed {}\"\n",
            finding.id
        ));
    }
    match done.is_empty() {
        true => out += "\n# There is nothing to do.\necho 'rl doctor: there is nothing to do'\n",
        false => {
            out += "\nif [ -n \"$failed\" ]; then\n    echo \"rl doctor: not mended:$failed\" >&2\n    exit 1\nfi\n";
        }
    }
    if !notes.is_empty() {
        out += "\n# Containers do without what follows. Take the `#` away from the line that is wanted.\n";
    }
    for (finding, fix) in notes {
        out.push_str(&format!("\n{}", words(finding)));
        for line in unattended(fix).lines() {
            out.push_str(&format!("#{line}\n"));
        }
    }
    out
}

/// The line for a script, in which nobody is asked.
fn unattended(fix: &Fix) -> String {
    match packages::unattended(&fix.line) {
        Some((_, line)) => format!("{line} </dev/null"),
        None => fix.line.clone(),
    }
}

/// What was seen and what comes of it, as comments.
fn words(finding: &Finding) -> String {
    let mut out = format!("# {}: {}\n", finding.id, comment(&finding.evidence));
    if let Some(effect) = &finding.effect {
        out.push_str(&format!("# Without it: {}\n", comment(effect)));
    }
    out
}

/// Text that cannot leave its comment.
fn comment(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
