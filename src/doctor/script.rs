//! What is for root, as one script.

use super::{Finding, Verdict};

/// A shell script with every fix that root has to make. Each part can be run again.
pub fn admin_script(findings: &[Finding]) -> String {
    let mut out = String::from(
        "#!/bin/sh\n# What `rl doctor` would have root do on this machine. Read it, then run it as root.\nset -eu\n",
    );
    let mut done: Vec<&str> = Vec::new();
    for finding in findings {
        let Some(fix) = finding.fix.as_ref().filter(|fix| fix.root) else {
            continue;
        };
        if finding.verdict == Verdict::Note || done.contains(&&*fix.line) {
            continue;
        }
        done.push(&fix.line);
        out.push_str(&format!(
            "\n# {}: {}\n",
            finding.id,
            comment(&finding.evidence)
        ));
        if let Some(effect) = &finding.effect {
            out.push_str(&format!("# Without it: {}\n", comment(effect)));
        }
        if let Some(setting) = fix.line.strip_prefix("sysctl -w ") {
            out.push_str(&format!(
                "# Until the next boot; a file in /etc/sysctl.d with `{}` keeps it.\n",
                comment(setting)
            ));
        }
        out.push_str(&fix.line);
        out.push('\n');
        if fix.line.starts_with("modprobe ") {
            out.push_str(
                "# Until the next boot; a file in /etc/modules-load.d with the name keeps it.\n",
            );
        }
    }
    if done.is_empty() {
        out.push_str("\n# There is nothing to do.\necho 'rl doctor: there is nothing to do'\n");
    }
    out
}

/// Text that cannot leave its comment.
fn comment(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
