//! The options of `rl run`, as they are typed. [`super::resolve`] gives them their meaning.

use std::path::PathBuf;

use super::limits::{GroupArgs, LimitArgs};
use super::units;
use crate::model::spec::Typed;

/// Run a command in a new container
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = "Examples:
  rl run ubuntu sh                         a shell in Ubuntu
  rl run --rm -v $PWD:/src -w /src gcc make    build what is in this directory
  rl run -p 8080:80 nginx                  a web server on port 8080
  rl run --rm host ./install.sh            this machine's own files, where nothing changes

The image `host` is built in: this machine's root, read-only, with copy-on-write views of the home
directory, /tmp and the current directory. An image of a registry with that name is
docker.io/library/host.")]
pub struct RunArgs {
    /// Print help (`-h` is the host name, as for docker)
    #[arg(long, action = clap::ArgAction::Help)]
    pub help: Option<bool>,
    /// Run in the background and print the container's id
    #[arg(short, long)]
    pub detach: bool,
    /// Keys that detach from the container
    #[arg(long, value_name = "KEYS")]
    pub detach_keys: Option<String>,
    /// Attach only to these of its streams: stdin, stdout, stderr
    #[arg(short, long, value_name = "STREAM", conflicts_with = "detach", value_parser = ["stdin", "stdout", "stderr"], ignore_case = true, hide_possible_values = true)]
    pub attach: Vec<String>,
    /// See [`Life`].
    #[command(flatten)]
    pub life: Life,
    /// Write the container's id to a file, which must not be there
    #[arg(long, value_name = "FILE")]
    pub cidfile: Option<PathBuf>,
    /// Pass signals on to the command
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub sig_proxy: Option<bool>,
    /// Remove the container when the command ends
    #[arg(long)]
    pub rm: bool,
    /// Name of the container
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Keep standard input open (always done; for Docker's sake)
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the command a terminal (the default when standard input and output are terminals)
    #[arg(short, long)]
    pub tty: bool,
    /// Give the command no terminal
    #[arg(long, conflicts_with = "tty")]
    pub no_tty: bool,
    /// Set an environment variable; without `=`, pass on the one of this name
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Leave out a variable that is there by default or by the image
    #[arg(long, value_name = "NAME")]
    pub unsetenv: Vec<String>,
    /// Leave all of these out
    #[arg(long)]
    pub unsetenv_all: bool,
    /// Pass on http_proxy, https_proxy, ftp_proxy and no_proxy, in which there may be passwords
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub http_proxy: Option<bool>,
    /// Working directory inside
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// User (and group) of the command, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Mount a host path or a named volume (ro: read-only; O: what is written stays in the container)
    #[arg(short, long, value_name = "SOURCE:TARGET[:ro|:O]")]
    pub volume: Vec<String>,
    /// Mount the volumes and host paths of another container at the same places
    #[arg(long, value_name = "CONTAINER[:ro]")]
    pub volumes_from: Vec<String>,
    /// Mount, spelled out
    #[arg(long, value_name = "type=…,source=…,target=…")]
    pub mount: Vec<String>,
    /// Mount a file system in memory
    #[arg(long, value_name = "TARGET[:OPTIONS]")]
    pub tmpfs: Vec<String>,
    /// Make the root file system read-only
    #[arg(long)]
    pub read_only: bool,
    /// With --read-only: /tmp, /run, /var/tmp, /dev and /dev/shm can be written to nevertheless (the default)
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub read_only_tmpfs: Option<bool>,
    /// Host name inside
    #[arg(short = 'h', long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Leave the image's /etc/hostname as it is
    #[arg(long)]
    pub no_hostname: bool,
    /// Replace the image's entry point (a program, or a JSON list)
    #[arg(long, value_name = "COMMAND")]
    pub entrypoint: Option<String>,
    /// How to reach the network: pasta, slirp4netns, none, host, or a network of `rl network create`
    #[arg(long, alias = "net", value_name = "MODE|NAME")]
    pub network: Option<String>,
    /// Address on the network
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Option<String>,
    /// Hardware address of the container's interface
    #[arg(long, value_name = "ADDRESS")]
    pub mac_address: Option<String>,
    /// Further name on the network
    #[arg(long, alias = "net-alias", value_name = "NAME")]
    pub network_alias: Vec<String>,
    /// Publish a port on the host
    #[arg(short, long, value_name = "[IP:][HOST:]PORT[/udp]")]
    pub publish: Vec<String>,
    /// Publish all ports that are exposed, each on a free one of the host
    #[arg(short = 'P', long)]
    pub publish_all: bool,
    /// Expose ports as well as those of the image, without publishing them
    #[arg(long, value_name = "PORT[-PORT][/PROTO]")]
    pub expose: Vec<String>,
    /// Name server
    #[arg(long, value_name = "ADDRESS")]
    pub dns: Vec<String>,
    /// Search domain for names
    #[arg(long, value_name = "DOMAIN")]
    pub dns_search: Vec<String>,
    /// Resolver option
    #[arg(long, alias = "dns-opt", value_name = "OPTION")]
    pub dns_option: Vec<String>,
    /// Add a line to /etc/hosts
    #[arg(long, value_name = "HOST:ADDRESS")]
    pub add_host: Vec<String>,
    /// Leave the image's /etc/hosts as it is
    #[arg(long, conflicts_with = "add_host")]
    pub no_hosts: bool,
    /// Add a capability
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_add: Vec<String>,
    /// Drop a capability
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_drop: Vec<String>,
    /// seccomp=FILE|unconfined, no-new-privileges[=false], mask=PATHS, unmask=PATHS
    #[arg(long, value_name = "OPTION")]
    pub security_opt: Vec<String>,
    /// User namespace: keep-id, nomap, single (default: root inside is you outside)
    #[arg(long, value_name = "MODE")]
    pub userns: Option<String>,
    /// Map user ids
    #[arg(long, value_name = "INSIDE:OUTSIDE:LENGTH")]
    pub uidmap: Vec<String>,
    /// Map group ids
    #[arg(long, value_name = "INSIDE:OUTSIDE:LENGTH")]
    pub gidmap: Vec<String>,
    /// Permissions that new files do not get, an octal number
    #[arg(long, value_name = "MODE", value_parser = units::umask)]
    pub umask: Option<u32>,
    /// Additional group of the command
    #[arg(long, value_name = "GROUP")]
    pub group_add: Vec<String>,
    /// Resource limit
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub ulimit: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES[k|m|g]")]
    pub shm_size: Option<String>,
    /// Kernel parameter of the container's own namespaces
    #[arg(long, value_name = "NAME=VALUE")]
    pub sysctl: Vec<String>,
    /// Make a host device available
    #[arg(long, value_name = "HOST[:INSIDE[:PERMISSIONS]]")]
    pub device: Vec<String>,
    /// Run a small init as PID 1 that reaps processes and passes signals on
    #[arg(long)]
    pub init: bool,
    /// With the image `host`: carry what changed over to this machine when the command has ended,
    /// after asking (yes: without)
    #[arg(
        long,
        value_name = "ask|yes",
        num_args = 0..=1,
        default_missing_value = "ask",
        require_equals = true,
        value_parser = ["ask", "yes"]
    )]
    pub apply: Option<String>,
    /// When to pull the image: missing, always, never, newer
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pub pull: String,
    /// Platform of the image
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Label
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub label: Vec<String>,
    /// Read labels from a file
    #[arg(long, value_name = "FILE")]
    pub label_file: Vec<PathBuf>,
    /// OCI annotation
    #[arg(long, value_name = "NAME=VALUE")]
    pub annotation: Vec<String>,
    /// Process ids: private or host
    #[arg(long, value_name = "MODE")]
    pub pid: Option<String>,
    /// System V IPC and message queues: private or host
    #[arg(long, value_name = "MODE")]
    pub ipc: Option<String>,
    /// Host name: private or host
    #[arg(long, value_name = "MODE")]
    pub uts: Option<String>,
    /// Whether the command is systemd, which needs some things: true (found out), false, always
    #[arg(long, value_name = "WORD")]
    pub systemd: Option<String>,
    /// Signal that asks the command to end
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Time zone: a name such as Europe/Berlin, or local
    #[arg(long, value_name = "ZONE")]
    pub tz: Option<String>,
    /// Use this directory as the root file system instead of an image
    #[arg(long, value_name = "DIR")]
    pub rootfs: Option<PathBuf>,
    /// Verify TLS certificates and refuse plain http
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub tls_verify: bool,
    /// Say on standard error what is chosen and why
    #[arg(long)]
    pub verbose: bool,
    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,
    /// See [`LimitArgs`].
    #[command(flatten)]
    pub limits: LimitArgs,
    /// See [`GroupArgs`].
    #[command(flatten)]
    pub group: GroupArgs,
    /// Image, command and arguments
    #[arg(value_name = "IMAGE [COMMAND [ARG…]]", trailing_var_arg = true)]
    pub words: Vec<String>,
    /// All of this as it was typed, to make the container anew.
    #[arg(skip)]
    pub typed: Option<Typed>,
}

/// Options about what happens while and after the command runs.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Life {
    /// Remove a container that has the name first
    #[arg(long)]
    pub replace: bool,
    /// When to start the command again: no, on-failure[:TIMES], always, unless-stopped
    #[arg(long, value_name = "POLICY")]
    pub restart: Option<String>,
    /// Remove the image as well when the command ends, unless another container uses it; with it goes --rm
    #[arg(long)]
    pub rmi: bool,
    /// Seconds after which the command is killed
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u32>,
    /// Write the process id of the container's first process on this machine to a file
    #[arg(long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,
    /// Seconds between the stop signal and SIGKILL; -1: it never comes
    #[arg(long, value_name = "SECONDS", value_parser = units::patience, allow_negative_numbers = true)]
    pub stop_timeout: Option<u32>,
    /// Where the output goes: json-file, journald, none, passthrough
    #[arg(long, value_name = "DRIVER")]
    pub log_driver: Option<String>,
    /// max-size=BYTES, max-file=NUMBER; beside each line: labels=NAME,…, labels-regex=REGEX, env=NAME,…,
    /// env-regex=REGEX, tag=TEMPLATE
    #[arg(long, value_name = "NAME=VALUE")]
    pub log_opt: Vec<String>,
    /// Command that tells whether the container is well
    #[arg(long, value_name = "COMMAND")]
    pub health_cmd: Option<String>,
    /// Time between two checks
    #[arg(long, value_name = "TIME")]
    pub health_interval: Option<String>,
    /// Time that a check may take
    #[arg(long, value_name = "TIME")]
    pub health_timeout: Option<String>,
    /// Time after the start in which failures do not count
    #[arg(long, value_name = "TIME")]
    pub health_start_period: Option<String>,
    /// Time between two checks in that time, until it is well
    #[arg(long, value_name = "TIME")]
    pub health_start_interval: Option<String>,
    /// Failures in a row that make it unhealthy
    #[arg(long, value_name = "NUMBER")]
    pub health_retries: Option<u32>,
    /// What happens when it becomes unhealthy: none, kill, restart, stop
    #[arg(long, value_name = "ACTION", value_parser = ["none", "kill", "restart", "stop"], hide_possible_values = true)]
    pub health_on_failure: Option<String>,
    /// Do not check
    #[arg(long)]
    pub no_healthcheck: bool,
}

/// Options of `docker run` and `podman run` that are not there yet: an error that says so.
pub const NOT_YET: &[&str] = &[
    "arch",
    "authfile",
    "blkio-weight-device",
    "cert-dir",
    "cgroupns",
    "chrootdirs",
    "conmon-pidfile",
    "cpu-count",
    "cpu-percent",
    "cpu-rt-period",
    "cpu-rt-runtime",
    "creds",
    "decryption-key",
    "device-cgroup-rule",
    "disable-content-trust",
    "domainname",
    "env-host",
    "env-merge",
    "gpus",
    "group-entry",
    "health-log-destination",
    "health-max-log-count",
    "health-max-log-size",
    "health-startup-cmd",
    "health-startup-interval",
    "health-startup-retries",
    "health-startup-success",
    "health-startup-timeout",
    "hooks-dir",
    "hosts-file",
    "hostuser",
    "image-volume",
    "init-ctr",
    "init-path",
    "io-maxbandwidth",
    "io-maxiops",
    "ip6",
    "isolation",
    "kernel-memory",
    "link",
    "link-local-ip",
    "memory-swappiness",
    "oom-kill-disable",
    "os",
    "passwd",
    "passwd-entry",
    "personality",
    "pod",
    "pod-id-file",
    "preserve-fds",
    "privileged",
    "rdt-class",
    "requires",
    "retry",
    "retry-delay",
    "runtime",
    "sdnotify",
    "seccomp-policy",
    "secret",
    "shm-size-systemd",
    "storage-opt",
    "subgidname",
    "subuidname",
    "use-api-socket",
    "variant",
    "volume-driver",
];
