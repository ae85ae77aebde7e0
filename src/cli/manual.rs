//! `rl man`: the manual pages, from the same definition as the help, with what the help has no room for.

mod examples;

use std::path::Path;

use clap::Command;
use clap_mangen::Man;

pub use examples::EXAMPLES;

const EXIT_STATUS: &str = "The exit status of \\fBrl run\\fR is that of the command inside; that of all other verbs is 0 when all
went well, and 1 when something of several was left undone.
.TP
.B 125
rl itself failed: an option, an image, a namespace.
.TP
.B 126
The command cannot be executed.
.TP
.B 127
The command was not found.
.TP
.BI 128+ n
Signal \\fIn\\fR ended the command, or rl.
";

const FILES: &str = ".TP
.I ~/.local/share/rl
Images, layers and containers, each with the socket of its monitor, so that it is found from every login;
for root \\fI/var/lib/rl\\fR, and \\fI/run/rl\\fR for the sockets. \\fIimages\\fR in it is an OCI image layout.
.TP
.I ~/.docker/config.json\\fR, \\fI/run/user/UID/containers/auth.json
Credentials for registries, as \\fBdocker login\\fR and \\fBpodman login\\fR save them.
.TP
.I /etc/subuid\\fR, \\fI/etc/subgid
Subordinate ids, which \\fBnewuidmap\\fR(1) and \\fBnewgidmap\\fR(1) grant.
.TP
.I /etc/apt
Package sources, settings and keys for \\fBrl bootstrap\\fR.
.TP
.I ~/.config/containers/systemd
Quadlet files (\\fBpodman\\-systemd.unit\\fR(5)), of which the generator makes services; further directories are
\\fI/etc/containers/systemd/users/UID\\fR and \\fI/etc/containers/systemd/users\\fR.
.TP
.I ~/.config/systemd/user/rl\\-NAME.service
What \\fBrl enable\\fR writes.
";

const ENVIRONMENT: &str = ".TP
.B XDG_DATA_HOME
Where \\fIrl\\fR with images and containers lies, instead of \\fI~/.local/share\\fR.
.TP
.B XDG_RUNTIME_DIR
Where the credentials of \\fBpodman login\\fR are looked for, and your systemd, before \\fI/run/user/UID\\fR.
.TP
.B REGISTRY_AUTH_FILE\\fR, \\fBDOCKER_CONFIG
The file, or the directory of \\fIconfig.json\\fR, with credentials for registries.
.TP
.B https_proxy\\fR, \\fBhttp_proxy\\fR, \\fBno_proxy
How registries, and the package mirrors of \\fBrl bootstrap\\fR, are reached.
.TP
.B SSL_CERT_FILE
Certificate authorities to trust instead of the system's.
.TP
.B RL_USERNS_WARM
For how many seconds after a start a user namespace is kept for the next one, 10 if it is not set; 0 for not at all.
.TP
.B NO_COLOR
No colours, when it is not empty.
.TP
.B PATH
Where \\fBnewuidmap\\fR, \\fBpasta\\fR, \\fBslirp4netns\\fR, \\fBfuse-overlayfs\\fR and \\fBmmdebstrap\\fR are looked for.
";

/// Writes `rl.1` and one page for each verb into a directory.
///
/// # Errors
/// A page that cannot be written.
pub fn write(command: &Command, directory: &Path) -> std::io::Result<()> {
    for (name, page) in pages(command) {
        std::fs::write(directory.join(format!("{name}.1")), page)?;
    }
    Ok(())
}

/// The pages: name and text.
fn pages(command: &Command) -> Vec<(String, Vec<u8>)> {
    let mut command = command.clone().disable_help_subcommand(true);
    command.build();
    let verbs: Vec<Command> = command
        .get_subcommands()
        .filter(|v| !v.is_hide_set())
        .cloned()
        .collect();
    let mut all = vec![("rl".to_owned(), page(&command, "rl", &verbs))];
    for verb in &verbs {
        let name = format!("rl-{}", verb.get_name());
        let named = verb.clone().display_name(name.clone());
        all.push((name, page(&named, verb.get_name(), &[])));
    }
    all
}

fn page(command: &Command, verb: &str, verbs: &[Command]) -> Vec<u8> {
    let mut out = Vec::new();
    let plain = command.clone().after_help("").after_long_help("");
    let man = Man::new(plain).manual("rl").section("1");
    // Nothing is written but to memory.
    let _ = man.render_title(&mut out);
    let _ = man.render_name_section(&mut out);
    let _ = man.render_synopsis_section(&mut out);
    let _ = man.render_description_section(&mut out);
    let _ = man.render_options_section(&mut out);
    if !verbs.is_empty() {
        section(&mut out, "VERBS");
        for verb in verbs {
            let about = verb
                .get_about()
                .map(ToString::to_string)
                .unwrap_or_default();
            out.extend(
                format!(
                    ".TP\n\\fBrl\\-{}\\fR(1)\n{}\n",
                    escape(verb.get_name()),
                    escape(&about)
                )
                .bytes(),
            );
        }
    }
    if verbs.is_empty() {
        subcommands(&mut out, command);
    }
    section(&mut out, "EXIT STATUS");
    out.extend(EXIT_STATUS.bytes());
    if let Some((_, examples)) = EXAMPLES.iter().find(|(name, _)| *name == verb) {
        section(&mut out, "EXAMPLES");
        for (line, about) in *examples {
            out.extend(format!(".TP\n\\fB{}\\fR\n{}\n", escape(line), escape(about)).bytes());
        }
    }
    section(&mut out, "FILES");
    out.extend(FILES.bytes());
    section(&mut out, "ENVIRONMENT");
    out.extend(ENVIRONMENT.bytes());
    section(&mut out, "SEE ALSO");
    let see = if verbs.is_empty() {
        "\\fBrl\\fR(1)"
    } else {
        "\\fBrl\\-run\\fR(1), \\fBuser_namespaces\\fR(7), \\fBsubuid\\fR(5)"
    };
    out.extend(format!("{see}\n").bytes());
    out
}

/// What stands behind a verb that has verbs of its own: what each is for, and its options.
fn subcommands(out: &mut Vec<u8>, command: &Command) {
    let shown = |sub: &&Command| !sub.is_hide_set() && sub.get_name() != "help";
    let all: Vec<&Command> = command.get_subcommands().filter(shown).collect();
    // Verbs by the dozen are those that have pages of their own.
    if all.len() > 12 {
        return;
    }
    for sub in all {
        let name = sub.get_bin_name().unwrap_or(sub.get_name());
        section(out, &name.to_uppercase());
        let about = sub.get_long_about().or(sub.get_about());
        for paragraph in about
            .map(ToString::to_string)
            .unwrap_or_default()
            .split("\n\n")
        {
            out.extend(format!("{}\n.PP\n", escape(paragraph)).bytes());
        }
        let man = Man::new(sub.clone());
        let mut own = Vec::new();
        let _ = man.render_synopsis_section(&mut own);
        own.extend(b".PP\n");
        let _ = man.render_options_section(&mut own);
        let own = String::from_utf8_lossy(&own).into_owned();
        let body = own.lines().filter(|line| !line.starts_with(".SH "));
        out.extend(body.flat_map(|line| format!("{line}\n").into_bytes()));
    }
}

fn section(out: &mut Vec<u8>, name: &str) {
    out.extend(format!(".SH \"{name}\"\n").bytes());
}

/// Text that troff shall not take for requests (groff(7)).
fn escape(text: &str) -> String {
    let text = text
        .replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('…', "\\[u2026]");
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}
