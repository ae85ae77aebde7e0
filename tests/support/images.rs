//! Images for the tests: small ones made here, the real one from the `fixtures` script, and a registry
//! that serves it.
//!
//! [`Image`] writes an OCI image layout by itself, so that a test can say exactly what is in a layer,
//! hostile entries included.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

/// Where fixtures are kept between runs, the same as the `fixtures` script's.
pub fn cache() -> PathBuf {
    if let Some(path) = std::env::var_os("RL_TEST_CACHE") {
        return path.into();
    }
    if super::identity::is_root() {
        return "/var/cache/rl-tests".into();
    }
    let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache");
    std::env::var_os("XDG_CACHE_HOME")
        .map_or_else(home, PathBuf::from)
        .join("rl-tests")
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// One layer, entry by entry.
#[derive(Default, Clone)]
pub struct Layer {
    tar: Vec<u8>,
}

impl Layer {
    pub fn new() -> Self {
        Self::default()
    }

    /// Any entry; the name goes into the archive as it is, however wrong.
    pub fn entry(
        self,
        kind: EntryType,
        name: &str,
        mode: u32,
        owner: u32,
        link: &str,
        content: &[u8],
    ) -> Self {
        self.entry_of(kind, name, mode, (owner, owner), link, content)
    }

    /// The same with a group of its own.
    pub fn entry_of(
        mut self,
        kind: EntryType,
        name: &str,
        mode: u32,
        (owner, group): (u32, u32),
        link: &str,
        content: &[u8],
    ) -> Self {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner.into());
        header.set_gid(group.into());
        header.set_size(content.len() as u64);
        header.set_mtime(1_600_000_000);
        header.set_cksum();
        self.tar.extend(header.as_bytes());
        self.tar.extend(content);
        self.tar.resize(self.tar.len().next_multiple_of(512), 0);
        self
    }

    pub fn dir(self, name: &str, mode: u32) -> Self {
        self.entry(EntryType::Directory, name, mode, 0, "", b"")
    }

    pub fn file(self, name: &str, mode: u32, content: impl AsRef<[u8]>) -> Self {
        self.entry(EntryType::Regular, name, mode, 0, "", content.as_ref())
    }

    pub fn owned(self, name: &str, mode: u32, owner: u32, content: impl AsRef<[u8]>) -> Self {
        self.entry(EntryType::Regular, name, mode, owner, "", content.as_ref())
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, name, 0o777, 0, target, b"")
    }

    pub fn hardlink(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Link, name, 0o644, 0, target, b"")
    }

    fn finished(&self) -> Vec<u8> {
        let mut tar = self.tar.clone();
        tar.resize(tar.len() + 1024, 0);
        tar
    }
}

/// An image: layers, lowest first, and a configuration.
#[derive(Clone)]
pub struct Image {
    layers: Vec<Layer>,
    config: Value,
}

impl Image {
    /// No layers, no configuration.
    pub fn empty() -> Self {
        Image {
            layers: Vec::new(),
            config: json!({}),
        }
    }

    /// busybox with all its applets, the users root and `app` (1000), and the usual directories.
    pub fn busybox() -> Self {
        static LAYER: OnceLock<Layer> = OnceLock::new();
        let layer = LAYER.get_or_init(|| {
            let path = "/bin/busybox";
            let program = fs::read(path)
                .unwrap_or_else(|e| panic!("{path} (Debian package `busybox-static`): {e}"));
            let list = Command::new(path).arg("--list").output().unwrap().stdout;
            let mut layer = Layer::new();
            for dir in [
                "bin", "etc", "dev", "proc", "sys", "root", "home", "usr", "usr/bin", "var",
            ] {
                layer = layer.dir(dir, 0o755);
            }
            layer = layer.dir("tmp", 0o1777).file("bin/busybox", 0o755, program);
            for applet in String::from_utf8(list)
                .unwrap()
                .lines()
                .filter(|name| *name != "busybox")
            {
                layer = layer.symlink(&format!("bin/{applet}"), "busybox");
            }
            layer
                .file(
                    "etc/passwd",
                    0o644,
                    "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n",
                )
                .file(
                    "etc/group",
                    0o644,
                    "root:x:0:\napp:x:1000:\nextra:x:1001:app\n",
                )
                .entry(EntryType::Directory, "home/app", 0o755, 1000, "", b"")
        });
        let env = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];
        Image {
            layers: vec![layer.clone()],
            config: json!({"Env": env, "Cmd": ["/bin/sh"]}),
        }
    }

    /// Another layer on top.
    pub fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    /// Sets a field of the image's `config` (`Entrypoint`, `User`, …).
    pub fn config(mut self, name: &str, value: Value) -> Self {
        self.config[name] = value;
        self
    }

    /// Writes an OCI image layout into `dir` and returns how `rl run` names it.
    pub fn write(&self, dir: &Path) -> String {
        let blobs = dir.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let blob = |kind: &str, bytes: &[u8]| {
            let digest = digest(bytes);
            fs::write(blobs.join(&digest), bytes).unwrap();
            json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": format!("sha256:{digest}"), "size": bytes.len()})
        };
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
        for layer in &self.layers {
            let tar = layer.finished();
            let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
            gzip.write_all(&tar).unwrap();
            layers.push(blob("layer.v1.tar+gzip", &gzip.finish().unwrap()));
            diff_ids.push(format!("sha256:{}", digest(&tar)));
        }
        let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
        let config = json!({"architecture": architecture, "os": "linux", "config": self.config, "rootfs": rootfs});
        let config = blob("config.v1+json", config.to_string().as_bytes());
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest =
            json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers});
        let mut manifest = blob("manifest.v1+json", manifest.to_string().as_bytes());
        manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        fs::write(dir.join("index.json"), index.to_string()).unwrap();
        format!("oci:{}:latest", dir.display())
    }

    /// Writes it where an identity can read it, in a test's working directory.
    pub fn write_for(&self, env: &super::Env, name: &str) -> String {
        let dir = env.directory(name);
        let image = self.write(&dir);
        let all = [
            dir.join("blobs"),
            dir.join("blobs/sha256"),
            dir.join("oci-layout"),
            dir.join("index.json"),
        ];
        let blobs = fs::read_dir(dir.join("blobs/sha256"))
            .unwrap()
            .map(|entry| entry.unwrap().path());
        all.into_iter().chain(blobs).for_each(|path| env.own(&path));
        image
    }
}

/// The small image, kept in the cache, as `rl run` names it.
pub fn busybox() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let image = Image::busybox();
        let key = digest(
            &[
                image.layers[0].finished(),
                image.config.to_string().into_bytes(),
            ]
            .concat(),
        );
        let dir = cache().join(format!("busybox-{}", &key[..12]));
        if !dir.exists() {
            fs::create_dir_all(cache()).unwrap();
            let temporary = tempfile::tempdir_in(cache()).unwrap();
            image.write(temporary.path());
            let made = fs::set_permissions(
                temporary.path(),
                std::os::unix::fs::PermissionsExt::from_mode(0o755),
            );
            // Another test may have been faster.
            made.and_then(|()| fs::rename(temporary.keep(), &dir))
                .or_else(|e| if dir.exists() { Ok(()) } else { Err(e) })
                .unwrap();
        }
        format!("oci:{}:latest", dir.display())
    })
}

fn fixtures() -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/fixtures"))
}

/// The OCI layout of the real Debian image, with the tags `gzip` and `zstd`; built at the first use. `None`,
/// with a skip, where it cannot be built.
#[track_caller]
pub fn debian() -> Option<PathBuf> {
    fixture("debian")
}

/// What the `fixtures` script makes at the first use. `None`, with a skip, where it cannot.
#[track_caller]
pub fn fixture(name: &str) -> Option<PathBuf> {
    let output = fixtures()
        .arg(name)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    if output.status.code() == Some(3) {
        super::skip(&String::from_utf8_lossy(&output.stderr));
        return None;
    }
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(String::from_utf8(output.stdout).unwrap().trim_end().into())
}

/// A registry on loopback that serves the Debian image read-only as `debian:gzip`, `debian:zstd` and
/// `debian:latest`; one for all tests of a program. It ends when this process does, with its input.
#[track_caller]
pub fn registry() -> Option<String> {
    static SERVER: Mutex<Option<(Child, String)>> = Mutex::new(None);
    debian()?;
    if !super::have("docker-registry") {
        return None;
    }
    let mut server = SERVER.lock().unwrap();
    let (_, host) = server.get_or_insert_with(|| {
        let mut child = fixtures()
            .arg("serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let port: u16 = line.trim_end().parse().expect("the port of the registry");
        (child, format!("127.0.0.1:{port}"))
    });
    Some(host.clone())
}
