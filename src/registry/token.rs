//! From a 401 to an `Authorization` header (distribution, docs/spec/auth: "Token Authentication
//! Specification", "Using OAuth2"; RFC 9110, section 11.6.1 for the challenge).

use serde::Deserialize;
use ureq::http::{HeaderMap, Method, Uri};

use super::auth::Credentials;
use super::error::Error;
use super::http::{Call, Http, authority, failure};

/// The longest answer of a token service that is read, in bytes.
const TOKEN_MAX: u64 = 1 << 20;

/// What a registry asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Name and password with every request.
    Basic,
    /// A token from the service at `realm`.
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

impl Challenge {
    /// The strongest challenge in `WWW-Authenticate` that is understood.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut basic = None;
        for value in headers.get_all("www-authenticate") {
            for (scheme, params) in parse(value.to_str().ok()?) {
                let param = |name: &str| {
                    params
                        .iter()
                        .find(|(n, _)| n == name)
                        .map(|(_, v)| v.clone())
                };
                match (scheme.as_str(), param("realm")) {
                    ("bearer", Some(realm)) => {
                        return Some(Challenge::Bearer {
                            realm,
                            service: param("service"),
                            scope: param("scope"),
                        });
                    }
                    ("basic", _) => basic = Some(Challenge::Basic),
                    _ => {}
                }
            }
        }
        basic
    }
}

/// A scheme and its parameters, names in lower case.
type Parsed = (String, Vec<(String, String)>);

/// Splits `Scheme k=v, k="v", Scheme k=v` into schemes with their parameters.
fn parse(text: &str) -> Vec<Parsed> {
    let mut out: Vec<Parsed> = Vec::new();
    let mut rest = text.trim_start_matches([' ', ',', '\t']);
    while !rest.is_empty() {
        let end = rest.find([' ', '=', ',', '\t']).unwrap_or(rest.len());
        let (word, after) = (rest[..end].to_ascii_lowercase(), rest[end..].trim_start());
        match (after.strip_prefix('='), out.last_mut()) {
            (Some(value), Some((_, params))) => {
                let (value, after) = value_of(value.trim_start());
                params.push((word, value));
                rest = after;
            }
            (Some(_), None) => break,
            (None, _) => {
                out.push((word, Vec::new()));
                rest = after;
            }
        }
        rest = rest.trim_start_matches([' ', ',', '\t']);
    }
    out
}

/// A token or a quoted string, and what follows it.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

/// Fetches a token and returns it as the value of an `Authorization` header.
///
/// # Errors
/// [`Error::Status`] with 401 or 403 when the service refuses; [`Error::PlainHttp`] when the realm
/// would take the credentials off this machine in the clear.
pub(super) fn fetch(
    http: &Http,
    realm: &str,
    service: Option<&str>,
    scope: &str,
    credentials: Option<&Credentials>,
) -> Result<String, Error> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let basic = credentials.and_then(Credentials::basic);
    let mut params = Vec::new();
    params.extend(service.map(|service| ("service", service)));
    params.push(("scope", scope));
    let form;
    let mut call;
    if let Some(Credentials::IdentityToken(token)) = credentials {
        params.extend([
            ("grant_type", "refresh_token"),
            ("client_id", "rl"),
            ("refresh_token", token),
        ]);
        form = encode(&params);
        call = Call::get(realm_uri(realm, "")?);
        call.method = Method::POST;
        call.form = Some(&form);
    } else {
        call = Call::get(realm_uri(realm, &encode(&params))?);
        call.authorization = basic.as_deref();
    }
    let answer = http.send(&call)?;
    let host = authority(&call.uri);
    if !answer.response.status().is_success() {
        return Err(failure(&call.uri, answer.response));
    }
    let body =
        super::manifest::read_limited(answer.response, TOKEN_MAX, "the token service's answer")?;
    let what = || format!("answer of the token service `{host}`");
    let answer: Answer = serde_json::from_slice(&body).map_err(|source| Error::Json {
        what: what(),
        source,
    })?;
    let token = answer.token.or(answer.access_token).filter(|token| {
        // RFC 6750, section 2.1; anything else could not be sent, or would be another header.
        !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic())
    });
    match token {
        Some(token) => Ok(format!("Bearer {token}")),
        None => Err(Error::Malformed {
            what: what(),
            why: "it holds no token",
        }),
    }
}

/// The realm with the parameters added to its query.
fn realm_uri(realm: &str, query: &str) -> Result<Uri, Error> {
    let joint = match (query.is_empty(), realm.contains('?')) {
        (true, _) => "",
        (false, true) => "&",
        (false, false) => "?",
    };
    let uri: Option<Uri> = format!("{realm}{joint}{query}").parse().ok();
    uri.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some())
        .ok_or_else(|| Error::Malformed {
            what: format!("token service `{}`", super::error::escape(realm, 200)),
            why: "it is no http or https address",
        })
}

/// `a=b&c=d` with everything but RFC 3986's unreserved characters as percent escapes.
fn encode(params: &[(&str, &str)]) -> String {
    use std::fmt::Write;
    let mut out = String::new();
    for (name, value) in params {
        if !out.is_empty() {
            out.push('&');
        }
        out.push_str(name);
        out.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                out.push(char::from(byte));
            } else {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("www-authenticate", value.parse().unwrap());
        }
        Challenge::from_headers(&headers)
    }

    #[test]
    fn challenges() {
        let bearer = Challenge::Bearer {
            realm: "https://a/t".into(),
            service: Some("s, \"x\"".into()),
            scope: Some("repository:a/b:pull".into()),
        };
        let text = r#"Bearer realm="https://a/t",service="s, \"x\"",scope="repository:a/b:pull""#;
        assert_eq!(challenge(&[text]).as_ref(), Some(&bearer));
        assert_eq!(
            challenge(&["Basic realm=\"x\"", text]).as_ref(),
            Some(&bearer)
        );
        assert_eq!(
            challenge(&[&format!("Basic realm=x, {text}")]).as_ref(),
            Some(&bearer)
        );
        assert_eq!(challenge(&["basic"]), Some(Challenge::Basic));
        assert_eq!(challenge(&["Negotiate"]), None);
        for broken in [
            "",
            "=",
            "Bearer realm=\"",
            "Bearer =",
            ",,",
            "Bearer realm=\"a\\",
        ] {
            let _ = challenge(&[broken]);
        }
    }

    #[test]
    fn queries() {
        assert_eq!(
            encode(&[("scope", "repository:a/b:pull"), ("x", "ä&")]),
            "scope=repository%3Aa%2Fb%3Apull&x=%C3%A4%26"
        );
        assert_eq!(
            realm_uri("https://a/t?x=1", "y=2").unwrap().to_string(),
            "https://a/t?x=1&y=2"
        );
        assert!(realm_uri("file:///etc/passwd", "").is_err());
        assert!(realm_uri("/relative", "").is_err());
    }
}
