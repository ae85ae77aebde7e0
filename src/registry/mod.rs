//! A client of image registries (OCI distribution-spec; Docker's "HTTP API V2").
//!
//! A pull goes: [`Client::resolve`] fetches the manifest by tag or digest, chooses the platform's
//! image out of an index, fetches the config and joins layers with diff ids, each document checked
//! against its digest; then [`Client::blob`] streams each layer, one thread for each as the caller
//! likes. The first 401 brings credentials and a token into play; a public image on a registry that
//! asks for nothing needs neither.
//!
//! Nothing a registry says is trusted: bytes are believed by their digest, lengths are bounded,
//! redirects do not carry credentials, and its messages are escaped.

mod auth;
mod blob;
mod error;
mod file;
mod http;
mod manifest;
mod proxy;
mod resolve;
mod token;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ureq::Body;
use ureq::http::{Method, Response, StatusCode, Uri};

pub use auth::{AuthFiles, Credentials, Found};
pub use blob::{BlobReader, VerifyingReader};
pub use error::{Error, Offered, Remote, Tried};
pub use file::{Address, Download};
pub use manifest::{
    DOCKER_CONFIG, DOCKER_LIST, DOCKER_MANIFEST, Descriptor, Document, Image, Layer, OCI_CONFIG,
    OCI_INDEX, OCI_MANIFEST,
};
pub use proxy::Proxies;

use crate::model::{Digest, Platform, Reference};
use http::{Call, Http};
use token::Challenge;

/// How deep an index may point to another one.
const INDEX_DEPTH: u32 = 3;

/// What a client has to know beforehand.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `false` accepts any certificate, and plain HTTP where a registry speaks no TLS.
    pub tls_verify: bool,
    /// Where to look for credentials.
    pub auth_files: AuthFiles,
    /// Credentials that were given for this call (`--creds`) and go before the files.
    pub credentials: Option<Credentials>,
    /// The proxies of the environment.
    pub proxies: Proxies,
    /// The first pause before a request is sent again; later ones double.
    pub backoff: Duration,
}

impl Settings {
    /// The settings of an environment: auth files and proxies of the variables that `lookup` gives,
    /// certificates checked. (`SSL_CERT_FILE` and `SSL_CERT_DIR` are read by the TLS library.)
    pub fn from_env(lookup: &dyn Fn(&str) -> Option<String>) -> Self {
        Settings {
            tls_verify: true,
            auth_files: AuthFiles::from_env(lookup),
            credentials: None,
            proxies: Proxies::from_env(lookup),
            backoff: Duration::from_millis(250),
        }
    }
}

/// A client; its clones share connections and tokens.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    http: Http,
    /// `http` or `https`, for each registry host, as far as that had to be found out.
    schemes: Mutex<HashMap<String, &'static str>>,
    /// The `Authorization` header for each repository, once it was asked for.
    tokens: Mutex<HashMap<RepositoryName, String>>,
    /// Held while a token is fetched, so that parallel layers fetch one.
    refresh: Mutex<()>,
}

/// Registry and repository: the scope of a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct RepositoryName {
    registry: String,
    repository: String,
}

impl From<&Reference> for RepositoryName {
    fn from(reference: &Reference) -> Self {
        RepositoryName {
            registry: reference.registry().to_owned(),
            repository: reference.repository().to_owned(),
        }
    }
}

impl RepositoryName {
    /// The host that answers for the registry.
    fn host(&self) -> &str {
        if self.registry == "docker.io" {
            "registry-1.docker.io"
        } else {
            &self.registry
        }
    }

    fn scope(&self) -> String {
        format!("repository:{}:pull", self.repository)
    }
}

impl Client {
    /// A client with these settings; nothing is sent yet.
    pub fn new(settings: Settings) -> Self {
        let http = Http::new(&settings);
        let (schemes, tokens, refresh) = Default::default();
        Client(Arc::new(Inner {
            settings,
            http,
            schemes,
            tokens,
            refresh,
        }))
    }

    /// Ends every transfer under way, in all threads, with [`Error::Cancelled`].
    pub fn cancel(&self) {
        self.0.http.cancel();
    }

    fn is_cancelled(&self) -> bool {
        self.0.http.is_cancelled()
    }

    fn wait(&self, tries: u32) -> Result<(), Error> {
        self.0.http.wait(tries, None)
    }

    /// Fetches manifest and config of the image for `platform`, all verified.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Denied`], [`Error::NoPlatform`] and whatever can happen on the
    /// way there.
    pub fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<Image, Error> {
        let what = reference.familiar();
        let mut document = self.manifest(reference)?;
        let mut index = None;
        for _ in 0..INDEX_DEPTH {
            let (_, parsed) =
                manifest::parse(&what, &document.descriptor.media_type, &document.bytes)?;
            match parsed {
                manifest::Parsed::Index(entries) => {
                    let chosen = manifest::choose(&what, platform, &entries)?
                        .descriptor
                        .clone();
                    let manifest = self.manifest(&reference.with_digest(chosen.digest))?;
                    if manifest.descriptor.size != chosen.size {
                        return Err(Error::SizeMismatch {
                            what: format!("manifest `{}`", chosen.digest),
                            expected: chosen.size,
                            actual: manifest.descriptor.size,
                        });
                    }
                    index.get_or_insert(std::mem::replace(&mut document, manifest));
                }
                manifest::Parsed::Manifest { config, layers } => {
                    if !manifest::is_config(&config.media_type) {
                        let media_type = error::escape(&config.media_type, 120);
                        return Err(Error::MediaType {
                            what: format!("config of `{what}`"),
                            media_type,
                        });
                    }
                    let bytes = self.small_blob(reference, &config, manifest::CONFIG_MAX)?;
                    let (platform, layers) =
                        manifest::join_config(&what, platform, &bytes, layers)?;
                    let config = Document {
                        descriptor: config,
                        bytes,
                    };
                    return Ok(Image {
                        index,
                        manifest: document,
                        config,
                        layers,
                        platform,
                    });
                }
            }
        }
        Err(Error::Malformed {
            what: format!("index of `{what}`"),
            why: "it points to index after index",
        })
    }

    /// Fetches the manifest or index that the reference names and checks its digest.
    ///
    /// # Errors
    /// As [`Client::resolve`].
    pub fn manifest(&self, reference: &Reference) -> Result<Document, Error> {
        let what = format!("manifest of `{}`", reference.familiar());
        let (_, response) = self.manifest_answer(reference, false)?;
        let header = |name: &str| {
            response
                .headers()
                .get(name)
                .and_then(|v| v.to_str().ok())
                .map(str::to_owned)
        };
        let content_type = header("content-type").unwrap_or_default();
        let announced =
            header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
        let bytes = manifest::read_limited(response, manifest::MANIFEST_MAX, &what)?;
        let actual = blob::digest_of(&bytes);
        if let Some(expected) = reference
            .digest()
            .or(announced)
            .filter(|expected| *expected != actual)
        {
            return Err(Error::DigestMismatch {
                what,
                expected,
                actual,
            });
        }
        let (media_type, _) = manifest::parse(&reference.familiar(), &content_type, &bytes)?;
        let descriptor = Descriptor {
            media_type,
            digest: actual,
            size: bytes.len() as u64,
        };
        Ok(Document { descriptor, bytes })
    }

    /// The digest that the reference's tag stands for now: one small request (`--pull newer`).
    ///
    /// # Errors
    /// As [`Client::resolve`].
    pub fn digest(&self, reference: &Reference) -> Result<Digest, Error> {
        let (_, response) = self.manifest_answer(reference, true)?;
        let digest = response
            .headers()
            .get("docker-content-digest")
            .and_then(|v| v.to_str().ok());
        match digest.and_then(|text| text.parse().ok()) {
            Some(digest) => Ok(digest),
            None => Ok(self.manifest(reference)?.descriptor.digest),
        }
    }

    fn manifest_answer(
        &self,
        reference: &Reference,
        head: bool,
    ) -> Result<(Uri, Response<Body>), Error> {
        let path = format!("manifests/{}", reference.selector());
        let headers = vec![("accept", manifest::ACCEPT.join(", "))];
        let (uri, mut response) = self.request(&reference.into(), &path, headers, head)?;
        match response.status() {
            StatusCode::OK => Ok((uri, response)),
            StatusCode::NOT_FOUND => Err(Error::NotFound {
                host: reference.registry().to_owned(),
                reference: reference.familiar(),
                remote: http::remote_words(&mut response),
            }),
            _ => Err(http::failure(&uri, response)),
        }
    }

    /// A blob of the reference's repository as a stream; nothing is sent before the first read.
    pub fn blob(&self, reference: &Reference, descriptor: &Descriptor) -> BlobReader {
        BlobReader::new(self.clone(), reference.into(), descriptor.clone())
    }

    /// A whole blob of at most `limit` bytes, digest and size checked.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::DigestMismatch`] and what can happen on the way.
    pub fn small_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Vec<u8>, Error> {
        use std::io::Read;
        let what = format!("blob `{}`", descriptor.digest);
        if descriptor.size > limit {
            return Err(Error::TooLarge { what, limit });
        }
        let mut bytes = Vec::new();
        self.blob(reference, descriptor)
            .read_to_end(&mut bytes)
            .map_err(|error| match Error::from_io(error) {
                Ok(error) => error,
                Err(error) => Error::Broken {
                    host: what.clone(),
                    source: Box::new(error.into()),
                },
            })?;
        let actual = blob::digest_of(&bytes);
        if actual != descriptor.digest {
            return Err(Error::DigestMismatch {
                what,
                expected: descriptor.digest,
                actual,
            });
        }
        Ok(bytes)
    }

    /// Sends a GET (or HEAD) below the repository, with authorization as far as it is asked for.
    /// The answer's status is the caller's to judge, save 401 and 403.
    fn request(
        &self,
        name: &RepositoryName,
        path: &str,
        headers: Vec<(&'static str, String)>,
        head: bool,
    ) -> Result<(Uri, Response<Body>), Error> {
        let host = name.host();
        let text = format!(
            "{}://{host}/v2/{}/{path}",
            self.scheme(host)?,
            name.repository
        );
        let uri: Uri = text.parse().map_err(|_| Error::Protocol {
            host: host.to_owned(),
            what: "no address",
        })?;
        let mut call = Call::get(uri);
        call.headers = headers;
        if head {
            call.method = Method::HEAD;
        }
        let mut authorization = lock(&self.0.tokens).get(name).cloned();
        let mut answer = self.0.http.send(&Call {
            authorization: authorization.as_deref(),
            ..call.clone()
        })?;
        let mut tried = Tried::default();
        // A challenge of a redirect's target is no concern of this registry's credentials.
        if answer.response.status() == StatusCode::UNAUTHORIZED
            && answer.same_origin
            && let Some(challenge) = Challenge::from_headers(answer.response.headers())
        {
            let remote = http::remote_words(&mut answer.response);
            authorization =
                self.authorize(name, &challenge, authorization.as_deref(), &mut tried)?;
            if authorization.is_none() {
                return Err(denied(name, remote, tried));
            }
            let again = Call {
                authorization: authorization.as_deref(),
                ..call.clone()
            };
            answer = self.0.http.send(&again)?;
        }
        if matches!(answer.response.status().as_u16(), 401 | 403) {
            let remote = http::remote_words(&mut answer.response);
            return Err(denied(name, remote, tried));
        }
        Ok((call.uri, answer.response))
    }

    /// Answers a challenge: the `Authorization` header to send, which is not `stale`.
    fn authorize(
        &self,
        name: &RepositoryName,
        challenge: &Challenge,
        stale: Option<&str>,
        tried: &mut Tried,
    ) -> Result<Option<String>, Error> {
        let _one_at_a_time = lock(&self.0.refresh);
        let known = lock(&self.0.tokens).get(name).cloned();
        if known.as_deref() != stale {
            return Ok(known);
        }
        let found = match &self.0.settings.credentials {
            Some(given) => Found {
                credentials: Some(given.clone()),
                ..Found::default()
            },
            None => self
                .0
                .settings
                .auth_files
                .find(&name.registry, &name.repository)?,
        };
        let credentials = found.credentials;
        let with = match &credentials {
            Some(credentials) => Offered::Credentials {
                user: credentials.user().to_owned(),
            },
            None => Offered::Nothing,
        };
        *tried = Tried {
            with,
            files: found.files,
            trouble: found.trouble,
        };
        let header = match challenge {
            Challenge::Basic => credentials.as_ref().and_then(Credentials::basic),
            Challenge::Bearer {
                realm,
                service,
                scope,
            } => {
                let own = name.scope();
                let scope = scope.as_deref().unwrap_or(&own);
                let fetched = token::fetch(
                    &self.0.http,
                    realm,
                    service.as_deref(),
                    scope,
                    credentials.as_ref(),
                );
                match fetched {
                    Ok(header) => Some(header),
                    Err(Error::Status {
                        status: 400 | 401 | 403,
                        remote,
                        ..
                    }) => {
                        return Err(denied(name, remote, std::mem::take(tried)));
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        if let Some(header) = &header {
            lock(&self.0.tokens).insert(name.clone(), header.clone());
        }
        Ok(header)
    }

    /// `https`, unless plain HTTP is allowed for this host and the host speaks it. On loopback HTTP is
    /// tried first, since that is what test registries speak; elsewhere TLS is.
    fn scheme(&self, host: &str) -> Result<&'static str, Error> {
        let uri = |scheme: &str| format!("{scheme}://{host}/v2/").parse::<Uri>();
        let malformed = |_| Error::Protocol {
            host: host.to_owned(),
            what: "no address",
        };
        let parsed = uri("https").map_err(malformed)?;
        let bare = parsed.host().unwrap_or_default();
        if !self.0.http.plain_allowed(bare) || parsed.port_u16() == Some(443) {
            return Ok("https");
        }
        if let Some(scheme) = lock(&self.0.schemes).get(host) {
            return Ok(scheme);
        }
        let loopback = proxy::is_loopback(bare);
        let order = if loopback {
            ["http", "https"]
        } else {
            ["https", "http"]
        };
        let mut first_error = None;
        for scheme in order {
            match self
                .0
                .http
                .send_once(&Call::get(uri(scheme).map_err(malformed)?))
            {
                // What a TLS server says to plain HTTP.
                Ok(answer)
                    if scheme == "http" && answer.response.status() == StatusCode::BAD_REQUEST => {}
                Ok(mut answer) => {
                    let _ = http::remote_words(&mut answer.response);
                    lock(&self.0.schemes).insert(host.to_owned(), scheme);
                    return Ok(scheme);
                }
                Err(Error::Cancelled) => return Err(Error::Cancelled),
                Err(error @ Error::Unreachable { .. }) if loopback => return Err(error),
                Err(error @ Error::Tls { .. }) if loopback => return Err(error),
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        Err(first_error.unwrap_or(Error::Protocol {
            host: host.to_owned(),
            what: "neither HTTP nor HTTPS",
        }))
    }
}

fn denied(name: &RepositoryName, remote: Remote, tried: Tried) -> Error {
    Error::Denied {
        host: name.registry.clone(),
        what: name.repository.clone(),
        remote,
        tried: Box::new(tried),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
