//! A real registry (Debian's docker-registry) on loopback, images made for it, and skopeo to push them.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

/// Who may use a registry.
pub enum Access {
    Open,
    /// User and password, kept in an htpasswd file.
    Basic(&'static str, &'static str),
    /// Tokens of the service at this URL, signed with the key of this certificate.
    Token {
        realm: String,
        certificate: PathBuf,
    },
}

/// A running registry; its storage goes when it is dropped.
pub struct Registry {
    pub address: SocketAddr,
    child: Child,
    dir: tempfile::TempDir,
}

impl Registry {
    pub fn start(access: &Access) -> Self {
        Self::with_tls(access, None)
    }

    /// With a certificate and its key the registry speaks TLS.
    pub fn with_tls(access: &Access, tls: Option<(&Path, &Path)>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The port is free now; should another process take it meanwhile, the next try has another.
        for _ in 0..5 {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            drop(listener);
            let config = dir.path().join("config.yml");
            fs::write(&config, config_text(dir.path(), address, access, tls)).unwrap();
            let log = fs::File::create(dir.path().join("log")).unwrap();
            let mut child = Command::new("docker-registry")
                .arg("serve")
                .arg(&config)
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .spawn()
                .expect("docker-registry is installed");
            let deadline = Instant::now() + Duration::from_secs(20);
            while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
                if TcpStream::connect(address).is_ok() {
                    return Registry {
                        address,
                        child,
                        dir,
                    };
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        let log = fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        panic!("docker-registry does not start: {log}");
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Pushes what `source` (a transport of skopeo) names as `name`, with further options.
    pub fn push(&self, source: &str, name: &str, options: &[&str]) {
        let mut command = Command::new("skopeo");
        command.args([
            "--insecure-policy",
            "copy",
            "--quiet",
            "--dest-tls-verify=false",
        ]);
        let output = command
            .args(options)
            .arg(source)
            .arg(format!("docker://{}/{name}", self.host()))
            .output()
            .expect("skopeo is installed");
        check(&output);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config_text(
    dir: &Path,
    address: SocketAddr,
    access: &Access,
    tls: Option<(&Path, &Path)>,
) -> String {
    let mut text = format!(
        "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
         http:\n  addr: {address}\n",
        dir.join("data").display()
    );
    if let Some((certificate, key)) = tls {
        let (certificate, key) = (certificate.display(), key.display());
        text.push_str(&format!(
            "  tls:\n    certificate: {certificate}\n    key: {key}\n"
        ));
    }
    match access {
        Access::Open => {}
        Access::Basic(user, password) => {
            let output = Command::new("htpasswd").args(["-Bbn", user, password]).output().unwrap();
            check(&output);
            let path = dir.join("htpasswd");
            fs::write(&path, output.stdout).unwrap();
            text.push_str(&format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", path.display()));
        }
        Access::Token { realm, certificate } => text.push_str(&format!(
            "auth:\n  token:\n    realm: {realm}\n    service: test-service\n    issuer: test-issuer\n    \
             rootcertbundle: {}\n",
            certificate.display()
        )),
    }
    text
}

#[track_caller]
pub fn check(output: &Output) {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A self-signed certificate for 127.0.0.1 and its key, as `cert.pem` and `key.pem` in `dir`.
pub fn certificate(dir: &Path) -> (PathBuf, PathBuf) {
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    let config = dir.join("openssl.cnf");
    // The default configuration makes an authority, which no client takes for a server.
    let text = "[req]\ndistinguished_name=dn\nx509_extensions=ext\nprompt=no\n[dn]\nCN=test\n\
                [ext]\nsubjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\n";
    fs::write(&config, text).unwrap();
    let output = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-config",
        ])
        .arg(&config)
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()
        .expect("openssl is installed");
    check(&output);
    (cert, key)
}

/// An image made by a test.
pub struct Layout {
    dir: tempfile::TempDir,
    /// The uncompressed tar archives, lowest first.
    pub layers: Vec<Vec<u8>>,
}

impl Layout {
    /// An OCI layout with one image (tag `one`) of these layers for linux/amd64, and an index (tag
    /// `many`) of that image and its twins for arm/v6, arm/v7.
    pub fn new(layers: Vec<Vec<u8>>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
        fs::write(
            dir.path().join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .unwrap();
        let layout = Layout { dir, layers };
        let blobs: Vec<String> = layout
            .layers
            .iter()
            .map(|tar| layout.blob("application/vnd.oci.image.layer.v1.tar", tar, ""))
            .collect();
        let diff_ids: Vec<String> = layout
            .layers
            .iter()
            .map(|tar| format!("\"{}\"", digest(tar)))
            .collect();
        let image = |architecture: &str, variant: &str| {
            let variant_field = match variant {
                "" => String::new(),
                v => format!(",\"variant\":\"{v}\""),
            };
            let platform =
                format!(r#""os":"linux","architecture":"{architecture}"{variant_field}"#);
            let config = format!(
                r#"{{{platform},"config":{{"Cmd":["/x"]}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
                diff_ids.join(",")
            );
            let config = layout.blob(
                "application/vnd.oci.image.config.v1+json",
                config.as_bytes(),
                "",
            );
            let manifest = format!(
                r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{config},"layers":[{}]}}"#,
                blobs.join(",")
            );
            let extra = format!(r#","platform":{{{platform}}}"#);
            layout.blob(
                "application/vnd.oci.image.manifest.v1+json",
                manifest.as_bytes(),
                &extra,
            )
        };
        let amd64 = image("amd64", "");
        let all = [amd64.clone(), image("arm", "v6"), image("arm", "v7")];
        let media_type = "application/vnd.oci.image.index.v1+json";
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[{}]}}"#,
            all.join(",")
        );
        let many = layout.blob(media_type, index.as_bytes(), "");
        let named = |descriptor: &str, name: &str| {
            let body = descriptor.strip_suffix('}').unwrap();
            format!(r#"{body},"annotations":{{"org.opencontainers.image.ref.name":"{name}"}}}}"#)
        };
        let top = format!(
            r#"{{"schemaVersion":2,"manifests":[{},{}]}}"#,
            named(&amd64, "one"),
            named(&many, "many")
        );
        fs::write(layout.dir.path().join("index.json"), top).unwrap();
        layout
    }

    /// Writes a blob and returns its descriptor with `extra` fields.
    fn blob(&self, media_type: &str, bytes: &[u8], extra: &str) -> String {
        let digest = digest(bytes);
        fs::write(
            self.dir.path().join("blobs/sha256").join(&digest[7..]),
            bytes,
        )
        .unwrap();
        format!(
            r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{}{extra}}}"#,
            bytes.len()
        )
    }

    /// skopeo's name for the image or the index.
    pub fn source(&self, tag: &str) -> String {
        format!("oci:{}:{tag}", self.dir.path().display())
    }
}

/// `sha256:HEX` of these bytes.
pub fn digest(bytes: &[u8]) -> String {
    let hex: Vec<String> = Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    format!("sha256:{}", hex.concat())
}

/// A tar archive of one file of `size` bytes that do not compress, different for each `seed`.
pub fn noise_layer(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut content = Vec::with_capacity(size + 8);
    while content.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        content.write_all(&state.to_le_bytes()).unwrap();
    }
    content.truncate(size);
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(size as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, format!("file-{seed}"), content.as_slice())
        .unwrap();
    tar.into_inner().unwrap()
}
