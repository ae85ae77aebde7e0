//! The examples of the manual pages.

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
                "rl ps --filter 'name=^(web|db)$' --filter expose=80/tcp",
                "Those of these names with this port.",
            ),
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
        &[
            (
                "rl commit -m 'with a Makefile' db my/db",
                "An image of what it has become.",
            ),
            (
                "rl commit --no-pause db my/db",
                "While it goes on, whatever it writes meanwhile.",
            ),
        ],
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
        &[
            (
                "rl logs --tail 10 db",
                "The last ten lines that it printed; `-f` goes on.",
            ),
            (
                "rl logs --details db",
                "With the labels and variables that `--log-opt` asked for before each.",
            ),
        ],
    ),
    (
        "top",
        &[
            (
                "rl top db",
                "Its processes, with their numbers on this machine.",
            ),
            (
                "rl top db pid,user,args",
                "As the container itself sees them.",
            ),
        ],
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
        &[
            ("rl wait db", "The exit status, when it has ended."),
            (
                "rl wait --condition=running --condition=exited db",
                "As soon as it runs or has ended.",
            ),
        ],
    ),
    (
        "volume",
        &[
            (
                "rl volume create data",
                "A place that containers share and leave behind.",
            ),
            (
                "rl volume create -o type=tmpfs -o o=size=64m scratch",
                "One in memory, of each container by itself.",
            ),
            (
                "rl volume create -o type=none -o o=bind -o device=/srv src",
                "A name for a directory of this machine.",
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
        "healthcheck",
        &[(
            "rl healthcheck run db",
            "Whether it is well, found out now.",
        )],
    ),
    (
        "version",
        &[(
            "rl version -f '{{.Client.Version}}'",
            "The number of the version alone.",
        )],
    ),
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
        &[
            (
                "rl import -c 'CMD [\"sh\"]' tree.tar my/tree",
                "An image of a packed tree.",
            ),
            (
                "rl import https://example.org/tree.tar.gz my/tree",
                "Of one that a server has; nothing but its certificate vouches for it.",
            ),
        ],
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
            ("rl system df -v", "And each thing of it."),
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
