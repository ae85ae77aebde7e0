//! Who the user is to a registry: the auth files of podman, skopeo, buildah and docker.
//!
//! The files are read in the order of containers-auth.json(5): `$REGISTRY_AUTH_FILE`,
//! `$XDG_RUNTIME_DIR/containers/auth.json`, `~/.config/containers/auth.json`,
//! `~/.docker/config.json`; the first that knows the registry decides. Within one file a helper
//! named for the registry (`credHelpers`) goes before the stored entries, of which the longest that
//! is a prefix of the repository wins, and the helper for everything (`credsStore`) comes last.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::error::{Error, escape};

/// The name under which docker keeps its own registry's credentials.
const DOCKER_IO_KEY: &str = "https://index.docker.io/v1/";
/// The user name that marks a helper's secret as an identity token (docker-credential-helpers).
const TOKEN_USER: &str = "<token>";
/// Auth files are small.
const FILE_MAX: u64 = 1 << 20;

/// Proof of identity.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A name and a password.
    Password {
        /// The user's name.
        user: String,
        /// The password.
        password: String,
    },
    /// An OAuth2 refresh token.
    IdentityToken(String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({})", self.user())
    }
}

impl Credentials {
    /// The name to show; never the secret.
    pub fn user(&self) -> &str {
        match self {
            Credentials::Password { user, .. } => user,
            Credentials::IdentityToken(_) => TOKEN_USER,
        }
    }

    /// The value of an `Authorization: Basic` header (RFC 7617); `None` for an identity token.
    pub(super) fn basic(&self) -> Option<String> {
        match self {
            Credentials::Password { user, password } => Some(format!(
                "Basic {}",
                base64_encode(format!("{user}:{password}").as_bytes())
            )),
            Credentials::IdentityToken(_) => None,
        }
    }
}

/// The auth files to look into.
#[derive(Clone, Debug, Default)]
pub struct AuthFiles {
    /// Was named by the user, so it has to exist; the others are not looked at.
    explicit: Option<PathBuf>,
    /// The customary places.
    usual: Vec<PathBuf>,
}

/// The outcome of a search.
#[derive(Debug, Default)]
pub struct Found {
    /// What was found.
    pub credentials: Option<Credentials>,
    /// The files that exist and were read.
    pub files: Vec<PathBuf>,
    /// A credential helper that could not be used.
    pub trouble: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct File {
    auths: HashMap<String, Entry>,
    cred_helpers: HashMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl AuthFiles {
    /// The customary places, of the variables that `lookup` gives.
    pub fn from_env(lookup: &dyn Fn(&str) -> Option<String>) -> Self {
        let dir = |name: &str| lookup(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let home = dir("HOME");
        let config = dir("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|h| h.join(".config")));
        let docker = dir("DOCKER_CONFIG").or_else(|| home.as_ref().map(|h| h.join(".docker")));
        let usual = [
            dir("XDG_RUNTIME_DIR").map(|d| d.join("containers/auth.json")),
            config.map(|d| d.join("containers/auth.json")),
            docker.map(|d| d.join("config.json")),
        ];
        AuthFiles {
            explicit: dir("REGISTRY_AUTH_FILE"),
            usual: usual.into_iter().flatten().collect(),
        }
    }

    /// This file and no other, which has to exist (`--authfile`).
    pub fn only(path: PathBuf) -> Self {
        AuthFiles {
            explicit: Some(path),
            usual: Vec::new(),
        }
    }

    /// Looks for `registry` and, below it, `repository`. Runs credential helpers.
    ///
    /// # Errors
    /// [`Error::AuthFile`] and [`Error::AuthFormat`] for a file that is there and cannot be used. A
    /// helper that fails is no error: a public image needs no credentials.
    pub fn find(&self, registry: &str, repository: &str) -> Result<Found, Error> {
        let mut found = Found::default();
        let files = match &self.explicit {
            Some(path) => std::slice::from_ref(path),
            None => self.usual.as_slice(),
        };
        for path in files {
            let Some(file) = read(path, self.explicit.is_some())? else {
                continue;
            };
            found.files.push(path.clone());
            found.credentials = file.find(path, registry, repository, &mut found.trouble)?;
            if found.credentials.is_some() {
                break;
            }
        }
        Ok(found)
    }
}

impl File {
    fn find(
        &self,
        path: &Path,
        registry: &str,
        repository: &str,
        trouble: &mut Option<String>,
    ) -> Result<Option<Credentials>, Error> {
        let mut ask = |program: &str, server: &str| match helper(program, server) {
            Ok(credentials) => credentials,
            Err(why) => {
                *trouble = Some(format!("`docker-credential-{program}`: {why}"));
                None
            }
        };
        let server = if is_docker_io(registry) {
            DOCKER_IO_KEY
        } else {
            registry
        };
        for key in [registry, server] {
            if let Some(found) = self
                .cred_helpers
                .get(key)
                .and_then(|program| ask(program, server))
            {
                return Ok(Some(found));
            }
        }
        let name = format!("{registry}/{repository}");
        let mut best: Option<(usize, &Entry)> = None;
        for (key, entry) in &self.auths {
            let Some(rank) = rank(key, registry, &name).filter(|_| !entry.is_empty()) else {
                continue;
            };
            if best.is_none_or(|(other, _)| rank > other) {
                best = Some((rank, entry));
            }
        }
        if let Some((_, entry)) = best {
            let why = |why: String| Error::AuthFormat {
                path: path.to_owned(),
                why,
            };
            return entry
                .credentials()
                .map(Some)
                .map_err(|e| why(format!("entry for `{registry}`: {e}")));
        }
        Ok(self
            .creds_store
            .as_deref()
            .filter(|p| !p.is_empty())
            .and_then(|program| ask(program, server)))
    }
}

/// How well a key fits: the length of the matching part, if it fits at all. Docker writes its keys as
/// URLs, which name a host and nothing below it.
fn rank(key: &str, registry: &str, name: &str) -> Option<usize> {
    if is_docker_io(registry) && key == DOCKER_IO_KEY {
        return Some(registry.len());
    }
    let url = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"));
    let key = match url {
        Some(rest) => rest.split('/').next().unwrap_or(rest),
        None => key.trim_end_matches('/'),
    };
    if is_docker_io(registry) && is_docker_io(key) {
        return Some(registry.len());
    }
    let rest = name.strip_prefix(key)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(key.len())
}

fn is_docker_io(host: &str) -> bool {
    matches!(
        host,
        "docker.io" | "index.docker.io" | "registry-1.docker.io"
    )
}

impl Entry {
    fn is_empty(&self) -> bool {
        [&self.auth, &self.username, &self.identitytoken]
            .into_iter()
            .all(|field| field.as_deref().unwrap_or_default().is_empty())
    }

    fn credentials(&self) -> Result<Credentials, &'static str> {
        if let Some(token) = self
            .identitytoken
            .as_ref()
            .filter(|token| !token.is_empty())
        {
            return Ok(Credentials::IdentityToken(token.clone()));
        }
        if let (Some(user), Some(password)) = (&self.username, &self.password) {
            return Ok(Credentials::Password {
                user: user.clone(),
                password: password.clone(),
            });
        }
        let auth = self.auth.as_deref().unwrap_or_default();
        let bytes = base64_decode(auth).ok_or("`auth` is not base64")?;
        let text = String::from_utf8(bytes).map_err(|_| "`auth` is not UTF-8")?;
        let (user, password) = text
            .split_once(':')
            .ok_or("`auth` holds no `user:password`")?;
        // Docker pads old entries with NULs.
        let password = password.trim_end_matches('\0');
        Ok(Credentials::Password {
            user: user.to_owned(),
            password: password.to_owned(),
        })
    }
}

fn read(path: &Path, must_exist: bool) -> Result<Option<File>, Error> {
    use std::io::Read;
    let fail = |source| Error::AuthFile {
        path: path.to_owned(),
        source,
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e)
            if !must_exist
                && matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
        {
            return Ok(None);
        }
        Err(e) => return Err(fail(e)),
    };
    let mut text = Vec::new();
    file.take(FILE_MAX).read_to_end(&mut text).map_err(fail)?;
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(Some(File::default()));
    }
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|e| Error::AuthFormat {
            path: path.to_owned(),
            why: e.to_string(),
        })
}

/// Runs `docker-credential-PROGRAM get` (docker-credential-helpers, "Development"): the server on
/// standard input, JSON or a message on standard output.
fn helper(program: &str, server: &str) -> Result<Option<Credentials>, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    if !program
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    {
        return Err("not the name of a credential helper".into());
    }
    let mut child = Command::new(format!("docker-credential-{program}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| e.to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input says why on its output.
        let _ = writeln!(stdin, "{server}");
    }
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        if text.contains("credentials not found") {
            return Ok(None);
        }
        return Err(escape(text.trim(), 200));
    }
    let answer: Answer = serde_json::from_slice(&output.stdout).map_err(|e| e.to_string())?;
    Ok(Some(if answer.username == TOKEN_USER {
        Credentials::IdentityToken(answer.secret)
    } else {
        Credentials::Password {
            user: answer.username,
            password: answer.secret,
        }
    }))
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648, section 4, with padding.
fn base64_encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .fold(0u32, |group, &b| group << 8 | u32::from(b))
            << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let index = (group >> (18 - 6 * i)) as usize & 63;
            out.push(if i <= chunk.len() {
                char::from(ALPHABET[index])
            } else {
                '='
            });
        }
    }
    out
}

/// RFC 4648, section 4; padding may be missing.
fn base64_decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim().trim_end_matches('=');
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut group, mut bits) = (0u32, 0);
    for byte in text.bytes() {
        let value = ALPHABET.iter().position(|&b| b == byte)?;
        group = (group << 6 | value as u32) & 0xff_ffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((group >> bits) as u8);
        }
    }
    (bits < 6).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn find(json: &str, registry: &str, repository: &str) -> Option<String> {
        let file: File = serde_json::from_str(json).unwrap();
        let found = file
            .find(Path::new("f"), registry, repository, &mut None)
            .unwrap();
        found.map(|credentials| match credentials {
            Credentials::Password { user, password } => format!("{user}:{password}"),
            Credentials::IdentityToken(token) => token,
        })
    }

    #[test]
    fn the_longest_key_wins() {
        let entry = |user: &str| base64_encode(format!("{user}:p:w").as_bytes());
        let json = format!(
            r#"{{"auths":{{"h:5000":{{"auth":"{}"}},"h:5000/a/b":{{"auth":"{}"}},"h:5000/a":{{"auth":"{}"}},"e":{{}}}}}}"#,
            entry("host"),
            entry("repo"),
            entry("space")
        );
        assert_eq!(find(&json, "h:5000", "x").as_deref(), Some("host:p:w"));
        assert_eq!(find(&json, "h:5000", "a/x").as_deref(), Some("space:p:w"));
        assert_eq!(find(&json, "h:5000", "a/b").as_deref(), Some("repo:p:w"));
        assert_eq!(find(&json, "h:5000", "a/bc").as_deref(), Some("space:p:w"));
        assert_eq!(find(&json, "h:50001", "a/b"), None);
        assert_eq!(find(&json, "e", "x"), None);
    }

    #[test]
    fn docker_writes_urls_and_identity_tokens() {
        let json = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"},
            "https://h/v2/":{"identitytoken":"T"}},"HttpHeaders":{"a":"b"}}"#;
        assert_eq!(
            find(json, "docker.io", "library/ubuntu").as_deref(),
            Some("u:p")
        );
        assert_eq!(find(json, "h", "x").as_deref(), Some("T"));
        assert_eq!(find(json, "https:", "x"), None);
    }

    #[test]
    fn a_missing_helper_is_told_not_fatal() {
        let file: File = serde_json::from_str(r#"{"credsStore":"rl-test-no-such"}"#).unwrap();
        let mut trouble = None;
        assert_eq!(
            file.find(Path::new("f"), "h", "x", &mut trouble).unwrap(),
            None
        );
        assert!(
            trouble
                .unwrap()
                .starts_with("`docker-credential-rl-test-no-such`: ")
        );
    }

    #[test]
    fn broken_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth.json");
        let missing = AuthFiles::only(path.clone()).find("h", "x").unwrap_err();
        assert!(matches!(missing, Error::AuthFile { .. }), "{missing}");
        std::fs::write(&path, "{\"auths\": 1}").unwrap();
        let malformed = AuthFiles::only(path.clone()).find("h", "x").unwrap_err();
        assert!(malformed.to_string().contains("auth.json"), "{malformed}");
        std::fs::write(&path, r#"{"auths":{"h":{"auth":"!"}}}"#).unwrap();
        assert!(AuthFiles::only(path.clone()).find("h", "x").is_err());
        assert!(
            AuthFiles::only(path)
                .find("other", "x")
                .unwrap()
                .credentials
                .is_none()
        );
    }

    #[test]
    fn base64_of_the_rfc() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64_encode(plain.as_bytes()), coded);
            assert_eq!(base64_decode(coded).unwrap(), plain.as_bytes());
        }
        assert_eq!(base64_decode("Zg").unwrap(), b"f");
        assert_eq!(base64_decode("Z"), None);
        assert_eq!(base64_decode("Z\n=="), None);
    }

    proptest! {
        #[test]
        fn base64_round_trip(bytes: Vec<u8>) {
            prop_assert_eq!(base64_decode(&base64_encode(&bytes)).unwrap(), bytes);
        }
    }
}
