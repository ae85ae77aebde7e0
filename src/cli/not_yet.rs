//! What docker and podman have and `rl` has not yet: it is refused by name, so that nothing is left out in silence.

/// Verbs.
pub const VERBS: &[&str] = &[
    "auto-update",
    "build",
    "buildx",
    "checkpoint",
    "compose",
    "context",
    "farm",
    "generate",
    "init",
    "kube",
    "login",
    "logout",
    "machine",
    "manifest",
    "mount",
    "play",
    "plugin",
    "pod",
    "push",
    "search",
    "secret",
    "swarm",
    "trust",
    "unmount",
    "untag",
];

/// Verbs below a group of verbs.
pub const BELOW: &[(&str, &[&str])] = &[
    ("network", &["connect", "disconnect", "reload", "update"]),
    (
        "volume",
        &["export", "import", "mount", "reload", "unmount", "update"],
    ),
    (
        "system",
        &["connection", "dial-stdio", "migrate", "renumber", "service"],
    ),
];

/// Options of verbs other than `run` and `create`, which have [a list of their own](crate::engine::run_args::NOT_YET).
const OPTIONS: &[(&[&str], &[&str])] = &[
    (&["commit"], &["format", "include-volumes", "squash"]),
    (&["exec"], &["privileged", "preserve-fds"]),
    (&["logs"], &["color", "names"]),
    (&["rm"], &["link", "depend"]),
    (&["start"], &["checkpoint", "checkpoint-dir"]),
    (
        &["ps", "ls"],
        &["external", "namespace", "ns", "pod", "sync", "watch"],
    ),
    (
        &["update"],
        &["cpu-rt-period", "cpu-rt-runtime", "kernel-memory"],
    ),
    (&["images", "image ls"], &["tree"]),
    (&["history", "image history"], &["platform"]),
    (&["image inspect"], &["platform"]),
    (
        &["pull", "image pull"],
        &["all-tags", "disable-content-trust"],
    ),
    (&["rmi", "image rm"], &["no-prune", "platform"]),
    (&["save", "image save"], &["platform"]),
    (&["load", "image load"], &["platform"]),
    (
        &["network create"],
        &[
            "attachable",
            "aux-address",
            "config-from",
            "config-only",
            "ingress",
            "ip-range",
            "ipam-driver",
            "ipam-opt",
            "ipv4",
            "ipv6",
            "opt",
            "scope",
        ],
    ),
    (&["network inspect"], &["verbose"]),
    (&["volume create"], &["name"]),
];

/// Options that will not come: why, and what there is instead.
pub const REASONS: &[(&str, &str, &str)] = &[(
    "link",
    "there are no links between containers, so there is none to make or to remove",
    "containers of one network find each other by name: `rl network create net`, then `rl run --network net`",
)];

/// Their short forms.
const SHORT: &[(&str, &str, &str)] = &[
    ("rm", "l", "link"),
    ("pull", "a", "all-tags"),
    ("image pull", "a", "all-tags"),
    ("network create", "o", "opt"),
    ("network inspect", "v", "verbose"),
];

/// The option of a verb that a word is, such as `--size` for `-s`.
pub fn option(verb: &str, word: &str) -> Option<&'static str> {
    let verb = verb.strip_prefix("container ").unwrap_or(verb);
    let Some(long) = word.strip_prefix("--") else {
        let short = word.strip_prefix('-')?.get(..1)?;
        let known = SHORT.iter().find(|(v, s, _)| *v == verb && *s == short);
        return known.map(|(_, _, long)| *long);
    };
    let long = long.split('=').next().unwrap_or(long);
    let of_verb = OPTIONS.iter().filter(|(verbs, _)| verbs.contains(&verb));
    let mut all = of_verb.flat_map(|(_, options)| options.iter());
    all.find(|option| **option == long).copied()
}
