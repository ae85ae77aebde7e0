//! The registry client and the pull against a real registry and against servers that misbehave.

#[path = "support/http.rs"]
mod http;
#[allow(dead_code)]
#[path = "support/registry.rs"]
mod registry;

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use http::{Reply, Request, Server, forward};
use registry::{Access, Layout, Registry, digest, noise_layer};
use rl::engine::image_for::{Fetch, fetch_image};
use rl::engine::pull::{ImageSink, Policy, Progress, PullError, Pulled, Silent, pull};
use rl::model::{Digest, IdMap, IdRange, Platform, Reference};
use rl::registry::{
    AuthFiles, Client, Credentials, Descriptor, Error, Image, Layer, OCI_MANIFEST, Proxies,
    Settings, VerifyingReader,
};
use rl::store::{self, MapKey, Store};

fn settings() -> Settings {
    Settings {
        tls_verify: true,
        auth_files: AuthFiles::default(),
        credentials: None,
        proxies: Proxies::default(),
        backoff: Duration::from_millis(1),
    }
}

fn client() -> Client {
    Client::new(settings())
}

fn reference(host: impl std::fmt::Display, name: &str) -> Reference {
    format!("{host}/{name}").parse().unwrap()
}

fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

/// A store in memory that checks what a real one checks.
#[derive(Default)]
struct MemorySink {
    layers: Mutex<HashMap<Digest, Vec<u8>>>,
    names: Mutex<HashMap<String, Pulled>>,
}

impl ImageSink for MemorySink {
    type Error = io::Error;

    fn local(&self, reference: &Reference, _: &Platform) -> io::Result<Option<Pulled>> {
        Ok(self
            .names
            .lock()
            .unwrap()
            .get(&reference.to_string())
            .cloned())
    }

    fn has_layer(&self, layer: &Layer) -> io::Result<bool> {
        Ok(self.layers.lock().unwrap().contains_key(&layer.diff_id))
    }

    fn put_layer(&self, layer: &Layer, blob: &mut (dyn Read + Send)) -> io::Result<()> {
        let mut bytes = Vec::new();
        blob.read_to_end(&mut bytes)?;
        if digest(&bytes) != layer.descriptor.digest.to_string() {
            return Err(io::Error::other("wrong blob"));
        }
        let mut tar = Vec::new();
        match &bytes[..4] {
            [0x1f, 0x8b, ..] => {
                flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut tar)?
            }
            [0x28, 0xb5, 0x2f, 0xfd] => zstd::Decoder::new(&bytes[..])?.read_to_end(&mut tar)?,
            _ => bytes.as_slice().read_to_end(&mut tar)?,
        };
        if digest(&tar) != layer.diff_id.to_string() {
            return Err(io::Error::other("wrong diff id"));
        }
        self.layers.lock().unwrap().insert(layer.diff_id, tar);
        Ok(())
    }

    fn finish(&self, reference: &Reference, image: &Image) -> io::Result<()> {
        let manifest = image.manifest.descriptor.digest;
        let pulled = Pulled {
            digest: image
                .index
                .as_ref()
                .map_or(manifest, |index| index.descriptor.digest),
            manifest,
            id: image.config.descriptor.digest,
            changed: false,
        };
        self.names
            .lock()
            .unwrap()
            .insert(reference.to_string(), pulled);
        Ok(())
    }
}

fn pull_into(
    sink: &MemorySink,
    client: &Client,
    reference: &Reference,
) -> Result<Pulled, PullError<io::Error>> {
    pull(client, sink, reference, &amd64(), Policy::Always, &Silent)
}

#[track_caller]
fn registry_error(result: Result<Pulled, PullError<io::Error>>) -> Error {
    match result {
        Err(PullError::Registry(error)) => error,
        Err(other) => panic!("not the registry's error: {other}"),
        Ok(_) => panic!("the pull should have failed"),
    }
}

/// Whether the sink holds exactly these layers.
fn has_all(sink: &MemorySink, layout: &Layout) -> bool {
    let layers = sink.layers.lock().unwrap();
    layers.len() == layout.layers.len()
        && layout
            .layers
            .iter()
            .all(|tar| layers.values().any(|there| there == tar))
}

#[test]
fn oci_and_docker_types_gzip_and_zstd() {
    let layout = Layout::new((0..6).map(|i| noise_layer(i, 10_000 << i)).collect());
    let zstd: &[&str] = &["--dest-compress-format", "zstd"];
    for (name, options, layer_type) in [
        (
            "oci",
            &["--format", "oci"][..],
            "application/vnd.oci.image.layer.v1.tar+gzip",
        ),
        ("zstd", zstd, "application/vnd.oci.image.layer.v1.tar+zstd"),
        (
            "docker",
            &["--format", "v2s2"],
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ),
    ] {
        // One for each: skopeo would push the gzip blobs it remembers instead of making zstd ones.
        let registry = Registry::start(&Access::Open);
        let name = format!("some/{name}:t");
        registry.push(&layout.source("one"), &name, options);
        let reference = reference(registry.host(), &name);
        let (sink, client) = (MemorySink::default(), client());
        let image = client.resolve(&reference, &amd64()).unwrap();
        assert_eq!(image.layers[0].descriptor.media_type, layer_type);
        let pulled = pull_into(&sink, &client, &reference).unwrap();
        assert!(has_all(&sink, &layout), "{name}");
        assert_eq!(pulled.digest, client.digest(&reference).unwrap());

        let pinned = reference.with_digest(pulled.digest);
        assert_eq!(pull_into(&sink, &client, &pinned).unwrap().id, pulled.id);
        assert!(!pull_into(&sink, &client, &pinned).unwrap().changed);
    }
}

#[test]
fn an_index_gives_the_platform_asked_for() {
    let registry = Registry::start(&Access::Open);
    let layout = Layout::new(vec![noise_layer(1, 1000)]);
    registry.push(&layout.source("many"), "many", &["--all"]);
    let reference = reference(registry.host(), "many");
    let client = client();
    for (wanted, got) in [
        ("linux/amd64", "linux/amd64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
    ] {
        let image = client
            .resolve(&reference, &wanted.parse().unwrap())
            .unwrap();
        assert_eq!(image.platform.to_string(), got);
        assert!(image.index.is_some());
    }
    let error = client
        .resolve(&reference, &"linux/s390x".parse().unwrap())
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("only for linux/amd64, linux/arm/v6, linux/arm/v7"),
        "{error}"
    );

    // A single image for another platform is refused as well.
    registry.push(&layout.source("one"), "one", &[]);
    let one = format!("{}/one", registry.host()).parse().unwrap();
    let error = client
        .resolve(&one, &"linux/arm64".parse().unwrap())
        .unwrap_err();
    assert_eq!(
        error.hint().unwrap(),
        "take another with --platform linux/amd64"
    );
}

#[test]
fn policies() {
    let registry = Registry::start(&Access::Open);
    let layout = Layout::new(vec![noise_layer(1, 1000)]);
    registry.push(&layout.source("one"), "p", &[]);
    let reference = reference(registry.host(), "p");
    let sink = MemorySink::default();
    let with = |policy: Policy| pull(&client(), &sink, &reference, &amd64(), policy, &Silent);
    let error = with(Policy::Never).unwrap_err();
    assert!(matches!(error, PullError::NotLocal(_)), "{error}");
    let first = with(Policy::Missing).unwrap();
    assert!(first.changed);
    assert_eq!(with(Policy::Newer).unwrap().digest, first.digest);

    let other = Layout::new(vec![noise_layer(2, 1000)]);
    registry.push(&other.source("one"), "p", &[]);
    assert_eq!(with(Policy::Missing).unwrap().digest, first.digest);
    let second = with(Policy::Newer).unwrap();
    assert!(second.digest != first.digest);

    drop(registry);
    assert_eq!(with(Policy::Newer).unwrap().digest, second.digest);
    assert_eq!(with(Policy::Never).unwrap().digest, second.digest);
    assert!(matches!(
        registry_error(with(Policy::Always)),
        Error::Unreachable { .. }
    ));
}

#[test]
fn an_unchanged_tag_costs_one_small_request() {
    let registry = Registry::start(&Access::Open);
    let layout = Layout::new(vec![noise_layer(1, 1000), noise_layer(2, 1000)]);
    registry.push(&layout.source("many"), "many", &["--all"]);
    let upstream = registry.address;
    let server = Server::start(move |request: &Request| forward(upstream, request));
    let dir = tempfile::tempdir().unwrap();
    let images = Store::open(dir.path()).unwrap();
    let single = IdMap::new(vec![IdRange {
        container: 0,
        host: rustix::process::geteuid().as_raw(),
        length: 1,
    }])
    .unwrap();
    let map = MapKey::of(&single, &single);
    let reference = reference(server.address, "many");
    let fetch = |policy| {
        let fetch = Fetch {
            policy,
            platform: amd64(),
            tls_verify: true,
        };
        fetch_image(&images, &reference, &fetch, &map, &Silent).unwrap()
    };
    let requests = || -> Vec<String> {
        let log = server.log();
        let asked = log.iter().filter(|r| r.target != "/v2/");
        asked.map(|r| r.method.clone()).collect()
    };
    let first = fetch(Policy::Always);
    assert!(first.changed && first.digest != first.manifest, "{first:?}");
    for policy in [Policy::Newer, Policy::Always] {
        let before = requests().len();
        let again = fetch(policy);
        assert_eq!(requests()[before..], ["HEAD"], "{policy:?}");
        assert!(!again.changed);
        assert_eq!(
            (again.digest, again.manifest, again.id),
            (first.digest, first.manifest, first.id)
        );
    }

    // What is damaged is fetched again, and only that.
    let image = images.image(&reference).unwrap().unwrap();
    let blob = store::Image::layer_digest(&image.layers[0]).unwrap();
    std::fs::remove_file(images.blob_path(&blob)).unwrap();
    let before = server.log().len();
    fetch(Policy::Always);
    let layers: Vec<String> = image
        .layers
        .iter()
        .map(|l| l.digest().to_string())
        .collect();
    let log = server.log();
    let fetched: Vec<&String> = layers
        .iter()
        .filter(|layer| {
            log[before..]
                .iter()
                .any(|r| r.target.ends_with(layer.as_str()))
        })
        .collect();
    assert_eq!(fetched, [&layers[0]]);
    assert!(images.has_blob(&blob, image.layers[0].size()).unwrap());
}

#[test]
fn basic_authentication() {
    let registry = Registry::start(&Access::Basic("anna", "geheim:1"));
    let layout = Layout::new(vec![noise_layer(1, 1000)]);
    registry.push(
        &layout.source("one"),
        "private/x",
        &["--dest-creds", "anna:geheim:1"],
    );
    let reference = reference(registry.host(), "private/x");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("auth.json");
    let pull_with = |auth: &str| {
        std::fs::write(&file, auth.replace("HOST", &registry.host())).unwrap();
        let settings = Settings {
            auth_files: AuthFiles::only(file.clone()),
            ..settings()
        };
        pull_into(&MemorySink::default(), &Client::new(settings), &reference)
    };

    let error = registry_error(pull_with("{}"));
    assert!(matches!(error, Error::Denied { .. }), "{error}");
    assert!(error.to_string().contains("auth.json"), "{error}");
    assert!(error.to_string().contains("UNAUTHORIZED"), "{error}");
    // anna:geheim:1, then anna:falsch
    pull_with(r#"{"auths":{"HOST":{"auth":"YW5uYTpnZWhlaW06MQ=="}}}"#).unwrap();
    pull_with(r#"{"auths":{"HOST":{"auth":"x"},"HOST/private":{"auth":"YW5uYTpnZWhlaW06MQ=="}}}"#)
        .unwrap();
    let error = registry_error(pull_with(
        r#"{"auths":{"HOST":{"auth":"YW5uYTpmYWxzY2g="}}}"#,
    ));
    assert!(error.to_string().contains("as user `anna`"), "{error}");
    assert!(!error.to_string().contains("falsch"), "{error}");

    let given = Credentials::Password {
        user: "anna".into(),
        password: "geheim:1".into(),
    };
    let client = Client::new(Settings {
        credentials: Some(given),
        ..settings()
    });
    pull_into(&MemorySink::default(), &client, &reference).unwrap();
}

/// A token as docker-registry checks it: RFC 7519, signed with the key beside its certificate.
fn signed_token(dir: &Path, access: &str) -> String {
    use std::process::{Command, Stdio};
    let certificate = std::fs::read_to_string(dir.join("cert.pem")).unwrap();
    let der: String = certificate
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let header = format!(r#"{{"typ":"JWT","alg":"RS256","x5c":["{der}"]}}"#);
    let claims = format!(
        r#"{{"iss":"test-issuer","sub":"anna","aud":"test-service","exp":{},"nbf":{},"iat":{now},"jti":"1","access":[{access}]}}"#,
        now + 600,
        now - 60
    );
    let coded = |bytes: &[u8]| {
        let mut child = Command::new("openssl")
            .args(["base64", "-A"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        io::Write::write_all(&mut child.stdin.take().unwrap(), bytes).unwrap();
        let text = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        text.trim_end_matches('=')
            .replace('+', "-")
            .replace('/', "_")
    };
    let signed = format!("{}.{}", coded(header.as_bytes()), coded(claims.as_bytes()));
    let (data, signature) = (dir.join("data"), dir.join("signature"));
    std::fs::write(&data, &signed).unwrap();
    let output = Command::new("openssl")
        .args(["dgst", "-sha256", "-sign"])
        .arg(dir.join("key.pem"))
        .arg("-out")
        .arg(&signature)
        .arg(&data)
        .output()
        .unwrap();
    registry::check(&output);
    format!("{signed}.{}", coded(&std::fs::read(signature).unwrap()))
}

#[test]
fn token_authentication() {
    let dir = tempfile::tempdir().unwrap();
    registry::certificate(dir.path());
    let keys = dir.path().to_owned();
    let one_at_a_time = Mutex::new(());
    let issuer = Server::start(move |request: &Request| {
        let _files = one_at_a_time.lock().unwrap();
        // Private repositories are for anna, or for the bearer of her refresh token.
        let known = match request.method.as_str() {
            "POST" => String::from_utf8_lossy(&request.body).contains("refresh_token=anna-s-token"),
            _ => request.header("authorization") == Some("Basic YW5uYTpnZWhlaW06MQ=="),
        };
        let text = format!(
            "{}&{}",
            request.target,
            String::from_utf8_lossy(&request.body)
        );
        let scope = text
            .split("scope=repository%3A")
            .nth(1)
            .map(|s| s.split('&').next().unwrap());
        let name = scope
            .and_then(|s| s.split("%3A").next())
            .unwrap_or_default()
            .replace("%2F", "/");
        let access = match name.as_str() {
            "" => String::new(),
            name if name.starts_with("private/") && !known => String::new(),
            name => format!(r#"{{"type":"repository","name":"{name}","actions":["pull","push"]}}"#),
        };
        let field = if request.method == "POST" {
            "access_token"
        } else {
            "token"
        };
        Reply::new(
            200,
            format!(r#"{{"{field}":"{}"}}"#, signed_token(&keys, &access)),
        )
    });
    let access = Access::Token {
        realm: format!("http://{}/token", issuer.address),
        certificate: dir.path().join("cert.pem"),
    };
    let registry = Registry::start(&access);
    let layout = Layout::new((0..5).map(|i| noise_layer(i, 1000)).collect());
    registry.push(&layout.source("one"), "public/x", &[]);
    registry.push(
        &layout.source("one"),
        "private/x",
        &["--dest-creds", "anna:geheim:1"],
    );
    issuer.requests.lock().unwrap().clear();

    let public = reference(registry.host(), "public/x");
    pull_into(&MemorySink::default(), &client(), &public).unwrap();
    assert_eq!(
        issuer.log().len(),
        1,
        "one token serves manifest, config and all layers"
    );

    let private = reference(registry.host(), "private/x");
    let error = registry_error(pull_into(&MemorySink::default(), &client(), &private));
    assert!(matches!(error, Error::Denied { .. }), "{error}");
    for credentials in [
        Credentials::Password {
            user: "anna".into(),
            password: "geheim:1".into(),
        },
        Credentials::IdentityToken("anna-s-token".into()),
    ] {
        let client = Client::new(Settings {
            credentials: Some(credentials),
            ..settings()
        });
        pull_into(&MemorySink::default(), &client, &private).unwrap();
    }
}

/// A registry with one image `x`, behind a server that changes the answers.
struct Behind {
    registry: Registry,
    layout: Layout,
}

impl Behind {
    fn new() -> Self {
        let registry = Registry::start(&Access::Open);
        let layout = Layout::new(vec![noise_layer(1, 3 << 20), noise_layer(2, 5000)]);
        registry.push(&layout.source("one"), "x", &[]);
        Behind { registry, layout }
    }

    /// Forwards each request, and lets `change` have the answer.
    fn server(&self, change: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static) -> Server {
        let upstream = self.registry.address;
        Server::start(move |request| change(request, forward(upstream, request)))
    }

    #[track_caller]
    fn pulls(&self, server: &Server) {
        let sink = MemorySink::default();
        pull_into(&sink, &client(), &reference(server.address, "x")).unwrap();
        assert!(has_all(&sink, &self.layout));
    }
}

fn blob_requests(server: &Server) -> Vec<Request> {
    server
        .log()
        .into_iter()
        .filter(|request| request.is_blob())
        .collect()
}

#[test]
fn cut_connections_are_resumed() {
    let behind = Behind::new();
    let server = behind.server(|request, reply| Reply {
        cut_after: (request.is_blob() && reply.body.len() > 700_000).then_some(700_000),
        ..reply
    });
    behind.pulls(&server);
    let resumed = blob_requests(&server)
        .iter()
        .filter(|r| r.header("range").is_some())
        .count();
    assert!(resumed >= 4, "{resumed} requests with a range");
}

#[test]
fn a_server_that_ignores_ranges_is_read_again_from_the_start() {
    let behind = Behind::new();
    let upstream = behind.registry.address;
    let tries = Mutex::new(0);
    let server = Server::start(move |request| {
        let mut plain = request.clone();
        plain.headers.retain(|(name, _)| name != "range");
        let reply = forward(upstream, &plain);
        if !request.is_blob() || reply.body.len() < 1 << 20 {
            return reply;
        }
        let mut tries = tries.lock().unwrap();
        *tries += 1;
        Reply {
            cut_after: (*tries < 4).then_some(*tries * 600_000),
            ..reply
        }
    });
    behind.pulls(&server);
}

#[test]
fn a_server_that_refuses_ranges_is_asked_without() {
    let behind = Behind::new();
    let first = Mutex::new(true);
    let server = behind.server(move |request, reply| {
        if request.header("range").is_some() {
            return Reply::new(416, "");
        }
        let cut = reply.body.len() > 1 << 20 && std::mem::take(&mut *first.lock().unwrap());
        Reply {
            cut_after: cut.then_some(1 << 20),
            ..reply
        }
    });
    behind.pulls(&server);
}

#[test]
fn a_connection_cut_for_ever_ends() {
    let behind = Behind::new();
    let server = behind.server(|request, reply| {
        let late = request.header("range").is_some();
        Reply {
            cut_after: request.is_blob().then_some(if late { 0 } else { 2000 }),
            ..reply
        }
    });
    let result = pull_into(
        &MemorySink::default(),
        &client(),
        &reference(server.address, "x"),
    );
    let error = registry_error(result);
    assert!(
        matches!(error, Error::Cut { .. } | Error::Broken { .. }),
        "{error}"
    );
}

#[test]
fn a_gap_or_another_size_is_refused() {
    let behind = Behind::new();
    let gap = behind.server(|request, reply| match request.header("range") {
        Some(_) => reply.with("content-range", "bytes 2000000-3000000/*"),
        None => Reply {
            cut_after: (reply.body.len() > 1 << 20).then_some(1 << 20),
            ..reply
        },
    });
    let to = |server: &Server| reference(server.address, "x");
    let error = registry_error(pull_into(&MemorySink::default(), &client(), &to(&gap)));
    assert!(matches!(error, Error::Protocol { .. }), "{error}");

    let longer = behind.server(|request, mut reply| {
        if request.is_blob() && reply.body.len() > 1 << 20 {
            reply.body.push(0);
            reply.headers.retain(|(name, _)| name != "content-length");
        }
        reply
    });
    let error = registry_error(pull_into(&MemorySink::default(), &client(), &to(&longer)));
    assert!(matches!(error, Error::SizeMismatch { .. }), "{error}");
}

#[test]
fn wrong_bytes_are_refused() {
    let behind = Behind::new();
    let reference_at = |server: &Server| reference(server.address, "x");
    let flip = |mut reply: Reply| {
        let middle = reply.body.len() / 2;
        reply.body[middle] ^= 1;
        reply
    };
    // In a layer: found by whoever stores it, or by the verifying reader.
    let layers = behind.server(move |request, reply| {
        if request.is_blob() && reply.body.len() > 1 << 20 {
            flip(reply)
        } else {
            reply
        }
    });
    let client = client();
    let image = client.resolve(&reference_at(&layers), &amd64()).unwrap();
    let blob = client.blob(&reference_at(&layers), &image.layers[0].descriptor);
    let mut reader = VerifyingReader::new(blob, image.layers[0].descriptor.digest);
    let error = Error::from_io(io::copy(&mut reader, &mut io::sink()).unwrap_err()).unwrap();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    let stored = pull_into(&MemorySink::default(), &client, &reference_at(&layers)).unwrap_err();
    assert!(matches!(stored, PullError::Store(_)), "{stored}");

    // In the config, and in the manifest.
    for part in ["/blobs/", "/manifests/"] {
        let server = behind.server(move |request, reply| {
            let small = reply.body.len() < 2000 && !reply.body.is_empty();
            if request.target.contains(part) && small {
                flip(reply)
            } else {
                reply
            }
        });
        let error = self::client()
            .resolve(&reference_at(&server), &amd64())
            .unwrap_err();
        assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    }
}

#[test]
fn a_redirect_carries_no_credentials() {
    let registry = Registry::start(&Access::Basic("anna", "geheim:1"));
    let layout = Layout::new(vec![noise_layer(1, 20_000)]);
    registry.push(
        &layout.source("one"),
        "x",
        &["--dest-creds", "anna:geheim:1"],
    );
    let upstream = registry.address;
    // The content network holds its own key to the registry.
    let cdn = Server::start(move |request: &Request| {
        let mut inner = request.clone();
        inner
            .headers
            .push(("authorization".into(), "Basic YW5uYTpnZWhlaW06MQ==".into()));
        forward(upstream, &inner)
    });
    let target = cdn.address;
    let front = Server::start(move |request: &Request| {
        let reply = forward(upstream, request);
        if request.is_blob() && reply.status == 200 {
            return Reply::new(307, "")
                .with("location", &format!("http://{target}{}", request.target));
        }
        reply
    });
    let given = Credentials::Password {
        user: "anna".into(),
        password: "geheim:1".into(),
    };
    let client = Client::new(Settings {
        credentials: Some(given),
        ..settings()
    });
    let sink = MemorySink::default();
    pull_into(&sink, &client, &reference(front.address, "x")).unwrap();
    assert!(has_all(&sink, &layout));
    assert!(
        blob_requests(&front)
            .iter()
            .any(|r| r.header("authorization").is_some())
    );
    let seen = cdn.log();
    assert!(
        !seen.is_empty() && seen.iter().all(|r| r.header("authorization").is_none()),
        "{seen:?}"
    );
}

#[test]
fn plain_http_stays_on_this_machine() {
    let server = Server::start(|request: &Request| match request.target.as_str() {
        "/v2/" => Reply::new(200, "{}"),
        // An address for documentation (RFC 5737): nothing may be sent there.
        _ => Reply::new(307, "").with("location", "http://192.0.2.1/x"),
    });
    let error = client()
        .manifest(&reference(server.address, "x"))
        .unwrap_err();
    assert!(matches!(error, Error::PlainHttp(_)), "{error}");

    // Nor may a token service be asked in the clear.
    let server = Server::start(|request: &Request| match request.target.as_str() {
        "/v2/" => Reply::new(200, "{}"),
        _ => Reply::new(401, "").with(
            "www-authenticate",
            "Bearer realm=\"http://192.0.2.1/token\"",
        ),
    });
    let error = client()
        .manifest(&reference(server.address, "x"))
        .unwrap_err();
    assert!(matches!(error, Error::PlainHttp(_)), "{error}");
}

#[test]
fn failures_that_pass_are_waited_out() {
    let behind = Behind::new();
    let count = Mutex::new(0);
    let server = behind.server(move |_, reply| {
        let mut count = count.lock().unwrap();
        *count += 1;
        match *count {
            2 => Reply::new(429, "").with("retry-after", "0"),
            3 | 5 => Reply::new(503, ""),
            _ => reply,
        }
    });
    behind.pulls(&server);

    let limit = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow\u001b[31m down"}]}"#;
    let limited = Server::start(move |request: &Request| match request.target.as_str() {
        "/v2/" => Reply::new(200, "{}"),
        _ => Reply::new(429, limit).with("retry-after", "3600"),
    });
    let error = client()
        .manifest(&reference(limited.address, "x"))
        .unwrap_err();
    assert!(matches!(error, Error::RateLimited { .. }), "{error}");
    assert!(
        error
            .to_string()
            .ends_with("TOOMANYREQUESTS: slow\\x1b[31m down"),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("3600 s"));
}

#[test]
fn what_is_not_there_is_named() {
    let registry = Registry::start(&Access::Open);
    let missing = reference(registry.host(), "no/such:tag");
    let error = client().resolve(&missing, &amd64()).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert!(error.to_string().contains("/no/such:tag"), "{error}");
    assert!(error.to_string().contains("MANIFEST_UNKNOWN"), "{error}");

    let host = registry.host();
    drop(registry);
    let error = client()
        .resolve(&reference(host, "x"), &amd64())
        .unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}

#[test]
fn hostile_answers_are_bounded() {
    let server = Server::start(|request: &Request| match request.target.as_str() {
        "/v2/" => Reply::new(200, "{}"),
        "/v2/old/manifests/latest" => Reply::new(200, r#"{"schemaVersion":1,"fsLayers":[]}"#),
        "/v2/big/manifests/latest" => Reply::new(200, vec![b' '; 5 << 20]),
        "/v2/page/manifests/latest" => Reply::new(200, "<html>").with("content-type", "text/html"),
        "/v2/loop/manifests/latest" => Reply::new(302, "").with("location", &request.target),
        _ => Reply::new(404, "\u{1b}]0;title\u{7}"),
    });
    let error = |name: &str| {
        client()
            .manifest(&reference(server.address, name))
            .unwrap_err()
    };
    assert!(matches!(error("old"), Error::Schema1(_)));
    assert!(matches!(error("big"), Error::TooLarge { .. }));
    assert!(matches!(error("page"), Error::Json { .. }));
    assert!(matches!(error("loop"), Error::Protocol { .. }));
    assert!(!error("none").to_string().contains('\u{1b}'));
    let wanted = Descriptor {
        media_type: OCI_MANIFEST.into(),
        digest: digest(b"").parse().unwrap(),
        size: 1 << 40,
    };
    let error = client()
        .small_blob(&reference(server.address, "x"), &wanted, 1 << 20)
        .unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}

#[test]
fn one_failing_layer_stops_the_others() {
    // The first layer's connection hangs for as long as the test runs; the second one is missing.
    let registry = Registry::start(&Access::Open);
    let layout = Layout::new(vec![noise_layer(1, 100_000), noise_layer(2, 5000)]);
    registry.push(&layout.source("one"), "x", &[]);
    let upstream = registry.address;
    let (release, hanging) = std::sync::mpsc::channel::<()>();
    let hanging = Mutex::new(hanging);
    let server = Server::start(move |request: &Request| {
        let reply = forward(upstream, request);
        if request.is_blob() && reply.body.len() > 50_000 {
            let _ = hanging.lock().unwrap().recv();
        } else if request.is_blob() && reply.body.len() > 4000 {
            return Reply::new(404, "");
        }
        reply
    });
    let result = pull_into(
        &MemorySink::default(),
        &client(),
        &reference(server.address, "x"),
    );
    let error = registry_error(result);
    assert!(
        matches!(error, Error::Status { status: 404, .. }),
        "{error}"
    );
    drop(release);
}

#[test]
fn progress_counts_every_byte() {
    #[derive(Default)]
    struct Counts(Mutex<HashMap<Digest, (u64, u64, bool)>>);
    impl Progress for Counts {
        fn exists(&self, _: &Digest) {}
        fn started(&self, layer: &Digest, total: u64) {
            self.0.lock().unwrap().insert(*layer, (total, 0, false));
        }
        fn advanced(&self, layer: &Digest, count: u64) {
            self.0.lock().unwrap().get_mut(layer).unwrap().1 += count;
        }
        fn done(&self, layer: &Digest) {
            self.0.lock().unwrap().get_mut(layer).unwrap().2 = true;
        }
    }
    let behind = Behind::new();
    let reference = reference(behind.registry.host(), "x");
    let counts = Counts::default();
    pull(
        &client(),
        &MemorySink::default(),
        &reference,
        &amd64(),
        Policy::Always,
        &counts,
    )
    .unwrap();
    let counts = counts.0.into_inner().unwrap();
    assert_eq!(counts.len(), 2);
    assert!(
        counts
            .values()
            .all(|(total, count, done)| total == count && *done),
        "{counts:?}"
    );
}

#[test]
fn tls_is_checked_unless_told_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = registry::certificate(dir.path());
    let registry = Registry::with_tls(&Access::Open, Some((&certificate, &key)));
    let layout = Layout::new(vec![noise_layer(1, 1000)]);
    registry.push(&layout.source("one"), "x", &[]);
    let reference = reference(registry.host(), "x");
    // No authority of this machine signed the test's certificate.
    let error = registry_error(pull_into(&MemorySink::default(), &client(), &reference));
    assert!(matches!(error, Error::Tls { .. }), "{error}");
    assert!(error.hint().unwrap().contains("SSL_CERT_FILE"));
    let unchecked = Client::new(Settings {
        tls_verify: false,
        ..settings()
    });
    pull_into(&MemorySink::default(), &unchecked, &reference).unwrap();
    // The environment of this process cannot be changed from a thread: another one has it.
    let ok = again("child_pulls_with_tls", |command| {
        command
            .env("SSL_CERT_FILE", &certificate)
            .env("RL_TEST_REFERENCE", reference.to_string())
    });
    assert!(ok, "a certificate in SSL_CERT_FILE is trusted");
}

#[test]
fn child_pulls_with_tls() {
    let Ok(reference) = std::env::var("RL_TEST_REFERENCE") else {
        return;
    };
    pull_into(
        &MemorySink::default(),
        &client(),
        &reference.parse().unwrap(),
    )
    .unwrap();
}

/// Runs one test of this program again, as a process with another environment.
fn again(
    test: &str,
    prepare: impl FnOnce(&mut std::process::Command) -> &mut std::process::Command,
) -> bool {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    prepare(command.args(["--exact", test, "--nocapture"]))
        .status()
        .unwrap()
        .success()
}

#[test]
fn credential_helpers() {
    use std::os::unix::fs::PermissionsExt;
    let registry = Registry::start(&Access::Basic("anna", "geheim:1"));
    let layout = Layout::new(vec![noise_layer(1, 1000)]);
    registry.push(
        &layout.source("one"),
        "x",
        &["--dest-creds", "anna:geheim:1"],
    );
    let dir = tempfile::tempdir().unwrap();
    let host = registry.host();
    let helper = dir.path().join("docker-credential-rltest");
    let script = format!(
        "#!/bin/sh\nread server\n[ \"$1 $server\" = 'get {host}' ] || exit 1\n\
         echo '{{\"ServerURL\":\"{host}\",\"Username\":\"anna\",\"Secret\":\"geheim:1\"}}'\n"
    );
    std::fs::write(&helper, script).unwrap();
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!(
        "{}:{}",
        dir.path().display(),
        std::env::var("PATH").unwrap()
    );
    for config in [
        r#"{"credHelpers":{"HOST":"rltest"}}"#.replace("HOST", &host),
        r#"{"credsStore":"rltest"}"#.into(),
    ] {
        let file = dir.path().join("config.json");
        std::fs::write(&file, config).unwrap();
        let ok = again("child_pulls_with_a_helper", |command| {
            command
                .env("PATH", &path)
                .env("RL_TEST_AUTH", &file)
                .env("RL_TEST_HOST", &host)
        });
        assert!(ok);
    }
}

#[test]
fn child_pulls_with_a_helper() {
    let (Ok(host), Ok(file)) = (std::env::var("RL_TEST_HOST"), std::env::var("RL_TEST_AUTH"))
    else {
        return;
    };
    let settings = Settings {
        auth_files: AuthFiles::only(file.into()),
        ..settings()
    };
    pull_into(
        &MemorySink::default(),
        &Client::new(settings),
        &reference(host, "x"),
    )
    .unwrap();
}

#[test]
fn proxies_of_the_environment_are_used() {
    use std::io::Write;
    use std::net::{Shutdown, TcpStream};
    let registry = Registry::start(&Access::Open);
    let layout = Layout::new(vec![noise_layer(1, 50_000)]);
    registry.push(&layout.source("one"), "x", &[]);
    let upstream = registry.address;
    // A proxy that takes every name for the test's registry.
    let seen = std::sync::Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let proxy = Server::raw(seen, move |mut client: TcpStream| {
        let Some(request) = http::read_request(&client) else {
            return;
        };
        log.lock().unwrap().push(request);
        let mut server = TcpStream::connect(upstream).unwrap();
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let up = std::thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
        let _ = io::copy(&mut server, &mut client);
        let _ = client.shutdown(Shutdown::Both);
        up.join().unwrap();
    });
    let url = format!("http://{}", proxy.address);
    let env = |name: &str| match name {
        "http_proxy" | "HTTPS_PROXY" => Some(url.clone()),
        _ => None,
    };
    let settings = Settings {
        tls_verify: false,
        proxies: Proxies::from_env(&env),
        ..settings()
    };
    let sink = MemorySink::default();
    pull_into(
        &sink,
        &Client::new(settings.clone()),
        &reference("registry.invalid:5000", "x"),
    )
    .unwrap();
    assert!(has_all(&sink, &layout));
    let log = proxy.log();
    assert!(
        log.iter()
            .all(|r| r.method == "CONNECT" && r.target == "registry.invalid:5000"),
        "{log:?}"
    );
    assert!(!log.is_empty());

    // Loopback never goes through a proxy.
    proxy.requests.lock().unwrap().clear();
    let local = reference(registry.host(), "x");
    pull_into(&MemorySink::default(), &Client::new(settings), &local).unwrap();
    assert!(proxy.log().is_empty());
}
