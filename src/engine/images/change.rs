//! Dockerfile instructions that set an image's configuration: `--change` of `rl import` and `rl commit`.

use serde_json::{Map, Value, json};

use super::super::units;
use super::{ImageError, Result};

/// Applies one Dockerfile instruction to a configuration.
///
/// # Errors
/// [`ImageError::Change`]: none of those that set the configuration, or not of its form.
pub fn apply(config: &mut Map<String, Value>, change: &str) -> Result<()> {
    let bad = || ImageError::Change(change.to_owned());
    let (word, rest) = change
        .trim()
        .split_once(char::is_whitespace)
        .ok_or_else(bad)?;
    let rest = rest.trim();
    let list = || serde_json::from_str::<Vec<String>>(rest).ok();
    let command = || list().unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into(), rest.into()]);
    match word.to_ascii_uppercase().as_str() {
        "CMD" => drop(config.insert("Cmd".into(), json!(command()))),
        "ENTRYPOINT" => drop(config.insert("Entrypoint".into(), json!(command()))),
        "USER" => drop(config.insert("User".into(), json!(rest))),
        "WORKDIR" => drop(config.insert("WorkingDir".into(), json!(rest))),
        "STOPSIGNAL" => drop(config.insert("StopSignal".into(), json!(rest))),
        "ENV" => {
            for (key, value) in pairs(rest).ok_or_else(bad)? {
                let env = config.entry("Env").or_insert_with(|| json!([]));
                if let Value::Array(env) = env {
                    let prefix = format!("{key}=");
                    env.retain(|v| !v.as_str().is_some_and(|v| v.starts_with(&prefix)));
                    env.push(json!(format!("{key}={value}")));
                }
            }
        }
        "LABEL" => {
            for (key, value) in pairs(rest).ok_or_else(bad)? {
                put(config, "Labels", key, json!(value));
            }
        }
        "EXPOSE" => {
            for port in rest.split_whitespace() {
                let port = if port.contains('/') {
                    port.to_owned()
                } else {
                    format!("{port}/tcp")
                };
                put(config, "ExposedPorts", port, json!({}));
            }
        }
        "VOLUME" => {
            let words = || rest.split_whitespace().map(str::to_owned).collect();
            for volume in list().unwrap_or_else(words) {
                put(config, "Volumes", volume, json!({}));
            }
        }
        "ONBUILD" => {
            let list = config.entry("OnBuild").or_insert_with(|| json!([]));
            if let Value::Array(list) = list {
                list.push(json!(rest));
            }
        }
        "HEALTHCHECK" => {
            let check = healthcheck(rest).ok_or_else(bad)?;
            config.insert("Healthcheck".into(), check);
        }
        _ => return Err(bad()),
    }
    Ok(())
}

/// `NONE`, or `[--interval=30s …] CMD COMMAND` (Dockerfile reference, HEALTHCHECK); times in nanoseconds, as Docker
/// keeps them.
fn healthcheck(text: &str) -> Option<Value> {
    if text.eq_ignore_ascii_case("none") {
        return Some(json!({"Test": ["NONE"]}));
    }
    let mut check = Map::new();
    let mut rest = text;
    while rest.starts_with("--") {
        let (option, behind) = rest.split_once(char::is_whitespace)?;
        rest = behind.trim_start();
        let (name, value) = option.split_once('=')?;
        let field = match name {
            "--interval" => "Interval",
            "--timeout" => "Timeout",
            "--start-period" => "StartPeriod",
            "--start-interval" => "StartInterval",
            "--retries" => {
                check.insert("Retries".into(), json!(value.parse::<u32>().ok()?));
                continue;
            }
            _ => return None,
        };
        let milliseconds = units::duration("HEALTHCHECK", value).ok()?;
        check.insert(field.into(), json!(milliseconds * 1_000_000));
    }
    let (word, command) = rest.split_once(char::is_whitespace)?;
    if !word.eq_ignore_ascii_case("cmd") {
        return None;
    }
    let mut test = vec!["CMD-SHELL".to_owned(), command.trim().to_owned()];
    if let Ok(list) = serde_json::from_str::<Vec<String>>(command.trim()) {
        test = std::iter::once("CMD".to_owned()).chain(list).collect();
    }
    check.insert("Test".into(), json!(test));
    Some(Value::Object(check))
}

fn put(config: &mut Map<String, Value>, field: &str, key: String, value: Value) {
    let object = config.entry(field).or_insert_with(|| json!({}));
    if let Value::Object(object) = object {
        object.insert(key, value);
    }
}

/// `KEY=VALUE KEY="VAL UE"`, or the old `KEY VALUE` (Dockerfile reference, ENV).
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let words = words(text)?;
    if !words.first()?.contains('=') {
        let (key, value) = text.split_once(char::is_whitespace)?;
        return Some(vec![(key.to_owned(), value.trim().to_owned())]);
    }
    words
        .iter()
        .map(|word| {
            word.split_once('=')
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
        })
        .map(|pair| pair.filter(|(key, _)| !key.is_empty()))
        .collect()
}

/// Words separated by blanks, with quotes and backslashes taken off; `None` for an open quote.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => word.get_or_insert_default().push(chars.next()?),
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(q)) if c == q => quote = None,
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes() {
        let mut config = Map::new();
        for change in [
            "CMD [\"sh\", \"-l\"]",
            "entrypoint exec top",
            "ENV A=1 B=\"two words\" C=x\\ y",
            "ENV A 3 4",
            "LABEL a.b='c d'",
            "EXPOSE 80 53/udp",
            "VOLUME /data /log",
            "USER nobody",
            "HEALTHCHECK --interval=5s --retries=2 CMD test -e /ok",
            "ONBUILD RUN make",
        ] {
            apply(&mut config, change).unwrap();
        }
        assert_eq!(
            Value::Object(config),
            json!({
                "Cmd": ["sh", "-l"],
                "Entrypoint": ["/bin/sh", "-c", "exec top"],
                "Env": ["B=two words", "C=x y", "A=3 4"],
                "Labels": {"a.b": "c d"},
                "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
                "Volumes": {"/data": {}, "/log": {}},
                "User": "nobody",
                "Healthcheck": {
                    "Test": ["CMD-SHELL", "test -e /ok"],
                    "Interval": 5_000_000_000u64,
                    "Retries": 2,
                },
                "OnBuild": ["RUN make"],
            })
        );
        for bad in [
            "RUN x",
            "CMD",
            "ENV",
            "ENV A=\"x",
            "",
            "ENV =x",
            "HEALTHCHECK CMD",
        ] {
            assert!(apply(&mut Map::new(), bad).is_err(), "{bad}");
        }
    }
}
