//! `rl man`: the manual pages, from the same definition as the help, with what the help has no room for.

use std::path::Path;

use clap::Command;
use clap_mangen::Man;

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
\\fI/var/lib/rl\\fR for root. \\fIimages\\fR in it is an OCI image layout.
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

/// Examples by verb: a command line and what it does. They are executed by `tests/words.rs`.
pub const EXAMPLES: &[(&str, &[(&str, &str)])] = &[
    (
        "rl",
        &[
            (
                "rl run debian sh",
                "A shell in a container: root inside, yourself outside.",
            ),
            ("rl images", "What is there."),
            ("rl ps -a", "Containers, those that have ended as well."),
        ],
    ),
    (
        "run",
        &[
            (
                "rl run --rm debian cat /etc/os-release",
                "One command; its container is gone afterwards.",
            ),
            (
                "rl run --rm -v \"$PWD\":/src -w /src debian ls",
                "With a directory of this machine.",
            ),
            (
                "rl run --rm --network none --read-only debian id",
                "Without a network, and with nothing to write to.",
            ),
            (
                "rl run -d --name cache --restart always debian sleep 1000",
                "In the background, and again whenever it ends.",
            ),
            (
                "rl run --rm host ./install.sh",
                "On this machine's own files, none of which changes.",
            ),
            (
                "rl run --rm host --apply ./install.sh",
                "The same; what would have changed is shown, and done if you say so.",
            ),
        ],
    ),
    (
        "pull",
        &[(
            "rl pull debian:bookworm",
            "Fetch an image, or what is new of it.",
        )],
    ),
    (
        "bootstrap",
        &[
            (
                "rl bootstrap debian:bookworm",
                "Debian 12 from this machine's package mirror; then `rl run debian:bookworm sh`.",
            ),
            (
                "rl bootstrap --include ca-certificates,curl debian:12-slim",
                "With two packages, and without documentation.",
            ),
        ],
    ),
    (
        "ps",
        &[
            ("rl ps -a", "All containers."),
            (
                "rl ps --filter status=exited --format '{{.Names}} {{.Status}}'",
                "Those that ended, and how.",
            ),
        ],
    ),
    (
        "doctor",
        &[
            (
                "rl doctor",
                "What this machine offers, and the line that mends what is missing.",
            ),
            (
                "rl doctor --admin-script",
                "All that root has to do, as one script to read and run.",
            ),
        ],
    ),
    (
        "diff",
        &[("rl diff web", "What it changed: added, changed, deleted.")],
    ),
    (
        "apply",
        &[(
            "rl apply try",
            "Do on this machine what a container of `host` did in its views, after asking.",
        )],
    ),
    (
        "create",
        &[(
            "rl create --name db debian sleep 1000",
            "A container that `rl start` starts.",
        )],
    ),
    (
        "start",
        &[("rl start db", "In the background; `-a` stays attached.")],
    ),
    (
        "exec",
        &[(
            "rl exec db cat /etc/os-release",
            "One more command in it; `-it db sh` is a shell.",
        )],
    ),
    (
        "cp",
        &[
            (
                "rl cp Makefile db:/tmp",
                "A file into it, running or not; `-a` keeps its owner.",
            ),
            ("rl cp db:/etc/os-release .", "One out of it."),
            (
                "rl cp db:/etc - | tar -t",
                "A directory, as a tar; from one, when `-` comes first.",
            ),
        ],
    ),
    (
        "export",
        &[(
            "rl export -o db.tar db",
            "All its files as a tar, which `rl import` reads.",
        )],
    ),
    (
        "commit",
        &[(
            "rl commit -m 'with a Makefile' db my/db",
            "An image of what it has become.",
        )],
    ),
    (
        "history",
        &[(
            "rl history my/db",
            "What the image was made by, step by step.",
        )],
    ),
    (
        "events",
        &[
            (
                "rl events --since 10m --until 1s",
                "What happened in the last ten minutes; without `--until` it goes on.",
            ),
            (
                "rl events --since 1h --until 1s --filter event=die --format '{{.Actor.Attributes.name}}'",
                "The names of those that ended.",
            ),
        ],
    ),
    (
        "logs",
        &[(
            "rl logs --tail 10 db",
            "The last ten lines that it printed; `-f` goes on.",
        )],
    ),
    (
        "top",
        &[(
            "rl top db",
            "Its processes, with their numbers on this machine.",
        )],
    ),
    (
        "attach",
        &[(
            "rl attach db",
            "See what it prints and type at it; Ctrl-P Ctrl-Q leaves.",
        )],
    ),
    (
        "pause",
        &[("rl pause db", "Stop it in the middle of what it does.")],
    ),
    ("unpause", &[("rl unpause db", "Let it go on.")]),
    (
        "update",
        &[(
            "rl update --restart on-failure:3 db",
            "Start it again when it fails, three times at most.",
        )],
    ),
    (
        "restart",
        &[(
            "rl restart -t 2 db",
            "Stop it, with SIGKILL after two seconds, and start it again.",
        )],
    ),
    (
        "kill",
        &[(
            "rl kill -s USR1 db",
            "Send it a signal; without `-s`, SIGKILL.",
        )],
    ),
    (
        "stop",
        &[(
            "rl stop db",
            "Its stop signal, and SIGKILL when that did not help.",
        )],
    ),
    (
        "wait",
        &[("rl wait db", "The exit status, when it has ended.")],
    ),
    (
        "volume",
        &[
            (
                "rl volume create data",
                "A place that containers share and leave behind.",
            ),
            ("rl volume ls", "Those there are."),
            ("rl volume rm data", "One less, with what is in it."),
        ],
    ),
    (
        "network",
        &[
            (
                "rl network create backend",
                "A network, on which containers find each other by name.",
            ),
            (
                "rl network inspect backend",
                "Its addresses, and who is on it.",
            ),
            ("rl network rm backend", "One less, when nobody is on it."),
        ],
    ),
    ("rename", &[("rl rename db old-db", "Another name.")]),
    ("port", &[("rl port web", "Its published ports.")]),
    (
        "images",
        &[
            ("rl images", "All images."),
            (
                "rl images --format '{{.Repository}}:{{.Tag}}'",
                "Their names alone.",
            ),
        ],
    ),
    (
        "rmi",
        &[(
            "rl rmi my/base",
            "Take a name away, and the image with its last one.",
        )],
    ),
    (
        "load",
        &[(
            "rl load -i base.tar",
            "Images of an archive that `rl save`, docker or podman wrote.",
        )],
    ),
    (
        "save",
        &[(
            "rl save -o base.tar debian",
            "An archive that docker and podman load as well.",
        )],
    ),
    (
        "import",
        &[(
            "rl import -c 'CMD [\"sh\"]' tree.tar my/tree",
            "An image of a packed tree.",
        )],
    ),
    (
        "tag",
        &[("rl tag debian my/base", "Another name for the same image.")],
    ),
    (
        "inspect",
        &[
            (
                "rl inspect --format '{{.Config.Cmd}}' debian",
                "The command that the image names.",
            ),
            (
                "rl inspect -f '{{.State.Status}} {{.State.ExitCode}}' NAME",
                "What became of a container.",
            ),
        ],
    ),
    (
        "unshare",
        &[(
            "rl unshare ls -ln",
            "The owners of files as containers see them.",
        )],
    ),
    (
        "completion",
        &[(
            "rl completion bash",
            "To be sourced, or put into bash-completion/completions/rl.",
        )],
    ),
    ("man", &[("rl man .", "rl.1, rl-run.1, …")]),
    (
        "generate",
        &[
            (
                "rl generate systemd --name web",
                "A unit that starts a container; `--new` makes it anew each time.",
            ),
            (
                "rl generate quadlet --user --dry-run",
                "The units that systemd gets of the files in ~/.config/containers/systemd.",
            ),
        ],
    ),
    (
        "stats",
        &[
            ("rl stats --no-stream", "What running containers use now."),
            (
                "rl stats --no-stream --format '{{.Name}} {{.MemUsage}}'",
                "Some of it.",
            ),
        ],
    ),
    (
        "container",
        &[
            ("rl container ls -a", "All containers, as `rl ps -a`."),
            (
                "rl container inspect -f '{{.State.Status}}' web",
                "The same verbs as without `container`, for containers alone.",
            ),
        ],
    ),
    (
        "enable",
        &[(
            "rl enable --now web",
            "Have the user's systemd start a container now and at every log-in, or boot.",
        )],
    ),
    ("disable", &[("rl disable web", "No longer.")]),
    (
        "image",
        &[
            ("rl image ls", "All images, as `rl images`."),
            (
                "rl image prune -f",
                "Remove those without a name that no container uses.",
            ),
        ],
    ),
    (
        "info",
        &[
            ("rl info", "What is there, and where."),
            ("rl info -f '{{.DataRoot}}'", "The directory of it all."),
        ],
    ),
    (
        "rm",
        &[
            (
                "rl rm -f web",
                "Remove a container, killed first if it runs.",
            ),
            ("rl rm -f -a", "All of them."),
        ],
    ),
    (
        "system",
        &[
            ("rl system df", "How much room everything takes."),
            (
                "rl system prune -f",
                "Remove the containers that do not run, and images without a name.",
            ),
            (
                "rl system reset -f",
                "End and remove everything that rl has ever made.",
            ),
        ],
    ),
];

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
