//! The environment of a command, and labels: names with values, by option and from files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::resolve::{Error, ImageDefaults};
use super::run_args::RunArgs;
use super::units;

/// What tells programs how to get out, also in capitals. Not passed on unasked: there may be a password in it.
const PROXIES: [&str; 4] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy"];

/// Defaults, then the image's, then files, then options; the last one of a name counts.
pub(super) fn environment(
    args: &RunArgs,
    image: &ImageDefaults,
    tty: bool,
    hostname: &str,
) -> Result<Vec<String>, Error> {
    let mut base = vec![
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        format!("HOSTNAME={hostname}"),
        "container=rl".to_owned(),
    ];
    if tty {
        base.push(terminal_type());
    }
    base.extend(image.env.iter().cloned());
    if args.http_proxy == Some(true) {
        let lower = PROXIES.iter().map(|name| (*name).to_owned());
        let upper = PROXIES.iter().map(|name| name.to_ascii_uppercase());
        let here = |name: String| Some(format!("{name}={}", std::env::var(&name).ok()?));
        base.extend(lower.chain(upper).filter_map(here));
    }
    base.retain(|variable| {
        let name = variable.split('=').next().unwrap_or_default();
        !args.unsetenv_all && !args.unsetenv.iter().any(|unset| unset == name)
    });
    merge_env(&base, &args.env_file, &args.env, false)
}

fn terminal_type() -> String {
    let term = std::env::var("TERM").unwrap_or_default();
    format!("TERM={}", if term.is_empty() { "xterm" } else { &term })
}

/// `base`, then files, then options; the last one of a name counts. With `tty` the caller's kind of terminal
/// comes before the files.
///
/// # Errors
/// A file that cannot be read, an option without a name.
pub(super) fn merge_env(
    base: &[String],
    files: &[PathBuf],
    options: &[String],
    tty: bool,
) -> Result<Vec<String>, Error> {
    let mut env: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| match env.iter_mut().find(|(n, _)| n == name) {
        Some((_, old)) => *old = value.to_owned(),
        None => env.push((name.to_owned(), value.to_owned())),
    };
    for variable in base.iter().cloned().chain(tty.then(terminal_type)) {
        let (name, value) = variable.split_once('=').unwrap_or((&variable, ""));
        set(name, value);
    }
    for file in files {
        for line in lines("--env-file", file)? {
            given(&line, &mut set);
        }
    }
    for variable in options {
        if variable.is_empty() || variable.starts_with('=') {
            units::pair("--env", variable)?;
        }
        given(variable, &mut set);
    }
    Ok(env
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect())
}

/// The image's labels, then those of files, then those of options; the last one of a name counts.
///
/// # Errors
/// A file that cannot be read, a label without a name.
pub(super) fn labels(
    args: &RunArgs,
    image: &ImageDefaults,
) -> Result<BTreeMap<String, String>, Error> {
    let mut labels = image.labels.clone();
    for file in &args.label_file {
        for line in lines("--label-file", file)? {
            labels.extend([units::pair("--label-file", &line)?]);
        }
    }
    for label in &args.label {
        labels.extend([units::pair("--label", label)?]);
    }
    Ok(labels)
}

/// The lines of a file but for comments and those that are empty.
fn lines(option: &'static str, file: &Path) -> Result<Vec<String>, Error> {
    let failed = |source| Error::File {
        option,
        path: file.to_owned(),
        source,
    };
    let text = std::fs::read_to_string(file).map_err(failed)?;
    let lines = text.lines().map(str::trim_start);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

/// `NAME=VALUE`, or `NAME` alone for the caller's own value, if it has one.
fn given(variable: &str, set: &mut impl FnMut(&str, &str)) {
    match variable.split_once('=') {
        Some((name, value)) => set(name, value),
        None => {
            if let Ok(value) = std::env::var(variable) {
                set(variable, &value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_variable_of_a_name_counts() {
        let image = ImageDefaults {
            env: vec!["PATH=/image".into(), "X=1".into()],
            ..ImageDefaults::default()
        };
        let args = RunArgs {
            env: vec!["X=2".into(), "NOT_SET_ANYWHERE".into()],
            ..RunArgs::default()
        };
        let env = environment(&args, &image, false, "h").unwrap();
        assert!(env.contains(&"X=2".to_owned()) && env.contains(&"PATH=/image".to_owned()));
        assert!(
            !env.iter()
                .any(|v| v.starts_with("NOT_SET") || v.starts_with("TERM="))
        );
        assert_eq!(env.iter().filter(|v| v.starts_with("X=")).count(), 1);
    }
}
