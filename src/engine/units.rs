//! Small notations of the options: byte sizes, signals, limits, key=value.

use crate::model::spec::{FOREVER, RestartPolicy, Ulimit};

/// A value that is not in its notation.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{option} {value}`: {reason}")]
pub struct Error {
    /// The option.
    pub option: &'static str,
    /// Its value as given.
    pub value: String,
    /// What is expected.
    pub reason: String,
}

fn error(option: &'static str, value: &str, reason: &str) -> Error {
    Error {
        option,
        value: value.to_owned(),
        reason: reason.to_owned(),
    }
}

/// Bytes as Docker writes them (github.com/docker/go-units, `RAMInBytes`): `64m`, `1.5g`, `512 KiB`, `1024b`, powers of 1024.
///
/// # Errors
/// [`Error`] for anything else, or a number that is too large.
pub fn bytes(option: &'static str, value: &str) -> Result<u64, Error> {
    let form = || error(option, value, "expected a size such as `64m` or `1.5g`");
    let too_large = || error(option, value, "the size is too large");
    let digits = |c: char| c.is_ascii_digit() || c == '.';
    let (number, unit) = value.split_at(value.find(|c| !digits(c)).unwrap_or(value.len()));
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let letter = match unit.as_str() {
        "b" => "",
        unit => unit
            .strip_suffix("ib")
            .or(unit.strip_suffix('b'))
            .unwrap_or(unit),
    };
    let shift = match letter {
        "" if unit.len() < 2 => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return Err(form()),
    };
    if let Some((whole, part)) = number.split_once('.') {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !is_number(part) || !(whole.is_empty() || is_number(whole)) {
            return Err(form());
        }
        let number: f64 = number.parse().map_err(|_| form())?;
        let bytes = number * (1u64 << shift) as f64;
        return match bytes < u64::MAX as f64 {
            true => Ok(bytes as u64),
            false => Err(too_large()),
        };
    }
    let number: u64 = number.parse().map_err(|_| form())?;
    number.checked_mul(1 << shift).ok_or_else(too_large)
}

/// Seconds from a stop signal to SIGKILL; a negative number is [`FOREVER`] (docker-stop(1): `-1` to wait without end).
///
/// # Errors
/// What was expected instead.
pub fn patience(text: &str) -> Result<u32, String> {
    match text.parse::<i64>() {
        Ok(..0) => Ok(FOREVER),
        Ok(seconds) if seconds < i64::from(FOREVER) => Ok(seconds as u32),
        _ => Err("expected seconds, or -1 to wait without end".into()),
    }
}

/// A signal by number or name, with or without `SIG`.
///
/// # Errors
/// [`Error`] for anything that is no signal.
pub fn signal(option: &'static str, value: &str) -> Result<i32, Error> {
    if let Ok(number) = value.parse::<i32>() {
        return if (1..=64).contains(&number) {
            Ok(number)
        } else {
            Err(error(option, value, "signals are 1 to 64"))
        };
    }
    let upper = value.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        let offset = if offset.is_empty() {
            Ok(0)
        } else {
            offset.parse::<i32>()
        };
        if let Ok(offset @ 0..=30) = offset {
            return Ok(34 + offset);
        }
    }
    format!("SIG{name}")
        .parse::<nix::sys::signal::Signal>()
        .map(|s| s as i32)
        .map_err(|_| error(option, value, "no such signal"))
}

/// `NAME=SOFT[:HARD]`, -1 for unlimited.
///
/// # Errors
/// [`Error`] for an unknown name, no number, or a soft limit above the hard one.
pub fn ulimit(value: &str) -> Result<Ulimit, Error> {
    const OPTION: &str = "--ulimit";
    const NAMES: [&str; 16] = [
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let (name, limits) = value
        .split_once('=')
        .ok_or_else(|| error(OPTION, value, "expected `NAME=SOFT[:HARD]`"))?;
    if !NAMES.contains(&name) {
        return Err(error(OPTION, value, "no such limit"));
    }
    let number = |text: &str| match text {
        "-1" | "unlimited" => Ok(u64::MAX),
        text => text
            .parse()
            .map_err(|_| error(OPTION, value, "expected a number")),
    };
    let (soft, hard) = match limits.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(limits)?, number(limits)?),
    };
    if soft > hard {
        return Err(error(
            OPTION,
            value,
            "the soft limit is above the hard limit",
        ));
    }
    Ok(Ulimit {
        name: name.to_owned(),
        soft,
        hard,
    })
}

/// A time as Go writes it, in milliseconds: `30s`, `1m30s`, `500ms`, `1.5h`; a bare number is seconds.
///
/// # Errors
/// [`Error`] for anything else.
pub fn duration(option: &'static str, value: &str) -> Result<u64, Error> {
    let bad = || error(option, value, "expected a time such as `30s` or `1m30s`");
    if let Ok(seconds) = value.parse::<u64>() {
        return seconds.checked_mul(1000).ok_or_else(bad);
    }
    let (mut total, mut rest) = (0.0, value);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, after) = rest.split_at(end.ok_or_else(bad)?);
        let end = after.find(|c: char| c.is_ascii_digit());
        let (unit, after) = after.split_at(end.unwrap_or(after.len()));
        let milliseconds = match unit {
            "ms" => 1.0,
            "s" => 1e3,
            "m" => 6e4,
            "h" => 3.6e6,
            _ => return Err(bad()),
        };
        total += number.parse::<f64>().map_err(|_| bad())? * milliseconds;
        rest = after;
    }
    if value.is_empty() || total > 1e15 {
        return Err(bad());
    }
    Ok(total as u64)
}

/// `no`, `on-failure[:TIMES]`, `always`, `unless-stopped` (docker run reference, "Restart policies").
///
/// # Errors
/// [`Error`] for anything else.
pub fn restart(value: &str) -> Result<RestartPolicy, Error> {
    const OPTION: &str = "--restart";
    let (name, times) = match value.split_once(':') {
        Some((name, times)) => (name, Some(times)),
        None => (value, None),
    };
    match (name, times) {
        ("no" | "", None) => Ok(RestartPolicy::No),
        ("always", None) => Ok(RestartPolicy::Always),
        ("unless-stopped", None) => Ok(RestartPolicy::UnlessStopped),
        ("on-failure", times) => match times.map_or(Ok(0), str::parse) {
            Ok(times) => Ok(RestartPolicy::OnFailure(times)),
            Err(_) => Err(error(OPTION, value, "expected a number of times")),
        },
        _ => Err(error(
            OPTION,
            value,
            "expected `no`, `on-failure[:TIMES]`, `always` or `unless-stopped`",
        )),
    }
}

/// Octal digits as for umask(1), for clap.
///
/// # Errors
/// What it takes.
pub fn umask(value: &str) -> Result<u32, String> {
    let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    let mode = u32::from_str_radix(value, 8).ok();
    let mode = mode.filter(|mode| digits && *mode <= 0o777);
    mode.ok_or_else(|| "expected an octal number up to `0777`, such as `0022`".to_owned())
}

/// `NAME=VALUE`, or `NAME` alone with an empty value.
///
/// # Errors
/// [`Error`] for an empty name.
pub fn pair(option: &'static str, value: &str) -> Result<(String, String), Error> {
    let (name, text) = value.split_once('=').unwrap_or((value, ""));
    if name.is_empty() {
        return Err(error(option, value, "expected `NAME=VALUE`"));
    }
    Ok((name.to_owned(), text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_can_be_without_end() {
        assert_eq!(patience("0"), Ok(0));
        assert_eq!(patience("90"), Ok(90));
        assert_eq!(patience("-1"), Ok(FOREVER));
        assert!(patience("4294967295").is_err() && patience("1s").is_err());
    }

    #[test]
    fn sizes() {
        assert_eq!(bytes("-x", "64m"), Ok(64 << 20));
        assert_eq!(bytes("-x", "1GiB"), Ok(1 << 30));
        assert_eq!(bytes("-x", "12"), Ok(12));
        for text in ["512k", "0.5m", ".5m", "512.0 KiB", "524288b", "524288"] {
            assert_eq!(bytes("-x", text), Ok(512 << 10), "{text}");
        }
        for text in [
            "",
            "m",
            "1x",
            "1ib",
            "1bb",
            "1.",
            "1.2.3m",
            "-1",
            "1e3",
            "1  m",
            "1m ",
            "inf",
            "99999999999t",
            "99999999999.9t",
        ] {
            assert!(bytes("-x", text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_and_policies() {
        assert_eq!(duration("-x", "1m30s"), Ok(90_000));
        assert_eq!(duration("-x", "500ms"), Ok(500));
        assert_eq!(duration("-x", "2"), Ok(2000));
        assert_eq!(duration("-x", "1.5h"), Ok(5_400_000));
        for bad in ["", "s", "1x", "1s1", "1.2.3s"] {
            assert!(duration("-x", bad).is_err(), "{bad}");
        }
        assert_eq!(restart("on-failure:3"), Ok(RestartPolicy::OnFailure(3)));
        assert_eq!(restart("always"), Ok(RestartPolicy::Always));
        assert!(restart("always:3").is_err() && restart("on-failure:x").is_err());
    }

    #[test]
    fn signals_and_limits() {
        assert_eq!(signal("-s", "TERM"), Ok(15));
        assert_eq!(signal("-s", "sigkill"), Ok(9));
        assert_eq!(signal("-s", "RTMIN+3"), Ok(37));
        assert!(signal("-s", "0").is_err() && signal("-s", "NOPE").is_err());
        let limit = ulimit("nofile=1024:-1").unwrap();
        assert_eq!((limit.soft, limit.hard), (1024, u64::MAX));
        assert!(ulimit("nofile=5:4").is_err() && ulimit("files=5").is_err());
    }
}
