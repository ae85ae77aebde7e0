//! What to do next, for errors whose own module knows nothing better: by what kind of thing went wrong.

use super::{Error, images::ImageError, mounts, resolve};
use crate::model::chain;
use crate::monitor;
use crate::store::StoreError;
use crate::store::pack::PackError;

/// A form that the value of an option has, by the option's name.
fn example(option: &str) -> &'static str {
    match option {
        "--volume" => "a volume is `-v /here:/there`, `-v name:/there` or with `:ro` behind",
        "--volumes-from" => "such as `--volumes-from box` or `--volumes-from box:ro`",
        "--mount" => "a mount is `--mount type=bind,source=/here,target=/there`",
        "--tmpfs" => "such as `--tmpfs /tmp` or `--tmpfs /tmp:size=64m`",
        "--device" => "such as `--device /dev/fuse`",
        "--env" | "--label" | "--annotation" => "such as `NAME=value`, with quotes around blanks",
        "--mac-address" => {
            "such as `--mac-address 02:42:ac:11:00:02`; the first byte is an even one"
        }
        "--pidfile" => "such as `--pidfile box.pid`",
        "--health-on-failure" => "it goes with `--health-cmd COMMAND`; `none` does nothing",
        "--cidfile" => "a file that `rl run --cidfile FILE` has written",
        "--env-file" | "--label-file" => "a file you may read, with lines such as `NAME=value`",
        "--ulimit" => "such as `--ulimit nofile=1024:4096`; `man 2 getrlimit` lists the names",
        "--shm-size" => "such as `--shm-size 64m`",
        "--stop-signal" => "such as `--stop-signal TERM`; `kill -l` lists the names",
        "--signal" => "such as `--signal TERM`; `kill -l` lists the names",
        "--hostname" => "such as `--hostname box`",
        "--sysctl" => {
            "such as `--sysctl net.ipv4.ip_forward=1`; the host's own are the administrator's"
        }
        "--tz" => "a name below /usr/share/zoneinfo, such as `--tz Europe/Berlin`, or `--tz local`",
        "--pid" | "--ipc" | "--uts" => "leave it out for a namespace of the container's own",
        "--entrypoint" => "such as `--entrypoint sh` or `--entrypoint '[\"sh\", \"-c\"]'`",
        "--workdir" => "such as `-w /src`",
        "--since" | "--until" | "--filter until" => {
            "such as `10m`, `2026-01-31`, `2026-01-31T10:00:00Z` or seconds since 1970"
        }
        "--log-opt" => "such as `--log-opt max-size=10m` or `--log-opt labels=tier`",
        "--interval" => "such as `--interval 250ms`",
        "--tail" => "such as `--tail 100`",
        "--publish" => "such as `-p 8080:80` or `-p 127.0.0.1:5353:53/udp`",
        _ => "`rl run --help` says what the option takes",
    }
}

const NAME: &str = "an image's name is such as `debian:bookworm` or `quay.io/user/app:1.0`";
const MACHINE: &str = "`rl doctor` looks at what this machine offers, and names what mends it";
const AGAIN: &str = "fetch it again; if that does not help, whoever made the image has to";

/// The hint for an error that comes of a limit of this process, whatever was being done: it goes before any other.
pub(super) fn of_limits(error: &Error) -> Option<String> {
    crate::host::limit_hint(&chain(error))
}

/// The hint for an error that has none of its own.
pub(super) fn fallback(error: &Error) -> Option<String> {
    match error {
        Error::Reported(_) => None,
        _ => Some(of_words(error).unwrap_or_else(|| of_machine(error))),
    }
}

/// For words that were not understood, or name what is not there.
fn of_words(error: &Error) -> Option<String> {
    Some(match error {
        Error::Only(_) => "such as `--filter until=24h` or `--filter label=keep`".to_owned(),
        Error::VolumeFilter(_) | Error::Pattern(_) => "such as `--filter dangling=true`".to_owned(),
        Error::Filter(_) => "such as `--filter status=exited`".to_owned(),
        Error::Template(_) => "`--format json` shows all fields".to_owned(),
        Error::Units(e) => example(e.option).to_owned(),
        Error::Resolve(resolve::Error::Unit(e)) => example(e.option).to_owned(),
        Error::Resolve(
            resolve::Error::Value { option, .. }
            | resolve::Error::File { option, .. }
            | resolve::Error::Mount(mounts::Error::Form { option, .. }),
        ) => example(option).to_owned(),
        Error::Resolve(resolve::Error::Mount(mounts::Error::Duplicate(path))) => {
            format!("leave out one of the options that mount on `{path}`")
        }
        Error::Resolve(resolve::Error::Mount(mounts::Error::Device { .. })) => {
            "`ls -l /dev` lists this machine's devices".to_owned()
        }
        Error::Resolve(_) => "`rl run --help` says what the options take".to_owned(),
        Error::Source(_) | Error::Images(ImageError::Reference(_) | ImageError::Source(_)) => {
            NAME.to_owned()
        }
        Error::Platform(_) => "such as `--platform linux/arm64`".to_owned(),
        Error::Policy(_) => "such as `--pull always`".to_owned(),
        Error::Name(_) => "such as `--name box-1`".to_owned(),
        Error::Unpack(_) => {
            "the input is to be a tar: `tar -c FILE | rl cp - CONTAINER:DIRECTORY`".to_owned()
        }
        Error::CopyDevice(_) => "copy it into a directory, or give it another name".to_owned(),
        Error::Vanished(name) => format!("rl pull {name}"),
        Error::Rootfs { .. } => {
            "`--rootfs` takes a directory you may read; without it, the first word is an image"
                .to_owned()
        }
        Error::Seccomp(_) => {
            "leave `--security-opt seccomp=` out for the default profile".to_owned()
        }
        Error::NoDiff { .. } => {
            "a container whose root is an overlay has one: `rl run --verbose` says why this is none"
                .to_owned()
        }
        _ => return None,
    })
}

/// For what was refused or failed; a umask that keeps us out of what we make is behind any of these.
fn of_machine(error: &Error) -> String {
    if let Some(hint) = crate::host::umask_hint() {
        return hint;
    }
    match error {
        Error::Images(e) => image(e),
        Error::Store(e) => store(e),
        Error::Pull(super::pull::PullError::Store(e)) => store(e),
        Error::Pull(_) => AGAIN.to_owned(),
        Error::Monitor(monitor::Error::Start(failure)) => match failure.status {
            127 => "`rl run --rm IMAGE sh` is a shell to look around in, if the image has one"
                .to_owned(),
            126 => "it has to be a program or a script that the user inside may execute".to_owned(),
            _ => format!("`rl run --verbose` tells more; {MACHINE}"),
        },
        Error::Monitor(monitor::Error::Output { .. }) | Error::Pack(PackError::Write(_)) => {
            "check the disk or the program that the output goes to".to_owned()
        }
        Error::Userns(_) => {
            "`man rl-run` describes the modes; without options, all ids you have are mapped"
                .to_owned()
        }
        Error::Net(_) => {
            "`rl run --help` lists the modes and forms; `--network none` needs nothing".to_owned()
        }
        Error::State(_) => "`rl ps -a` lists the containers".to_owned(),
        Error::Applied { .. } => {
            "the lines above say why; mend it and try again: `rl apply`, which `rl diff` shows"
                .to_owned()
        }
        Error::Call(_) => "check with `ls -ld` that the directory is there and yours".to_owned(),
        _ => MACHINE.to_owned(),
    }
}

fn image(error: &ImageError) -> String {
    match error {
        ImageError::Store(e) => store(e),
        ImageError::Io { .. } => "check the path, and that you may read or write there".to_owned(),
        ImageError::NoName { path, .. } => {
            format!("`skopeo inspect` or `cat {path}/index.json` shows the names it has")
        }
        ImageError::NoManifest => {
            "an archive of `docker save` or `rl save` is wanted; `rl import` takes a packed tree"
                .to_owned()
        }
        ImageError::Filter(_) => "such as `--filter reference=debian`".to_owned(),
        ImageError::Change(_) => "such as `--change 'CMD [\"sh\"]'`".to_owned(),
        ImageError::Format(_) => "such as `--format oci-archive`".to_owned(),
        _ => "the archive is broken: have it written again".to_owned(),
    }
}

fn store(error: &StoreError) -> String {
    match error {
        StoreError::Call(_) | StoreError::Io { .. } | StoreError::Remove(_) => {
            "check with `ls -ld` and `df -h` that the directory is yours, and has room".to_owned()
        }
        StoreError::Ambiguous { .. } => "give more of it: `rl images --no-trunc`".to_owned(),
        StoreError::NoPlatform { .. } => "ask for another with `--platform`".to_owned(),
        StoreError::MissingBlob(_) => "fetch the image again: rl pull NAME".to_owned(),
        _ => AGAIN.to_owned(),
    }
}
