//! Memory stays bounded while layers are taken in, whatever their size and the window they were compressed with.

mod layerkit;

use std::fs::File;
use std::io::{self, Seek as _, Write};
use std::path::Path;
use std::process::Command;

use layerkit::map_key;
use oci_spec::image::{Descriptor, MediaType};
use rl::model::Digest;
use rl::store::Store;
use sha2::{Digest as _, Sha256};

/// What a pull may have resident at its highest.
const LIMIT_KIB: u64 = 64 << 10;

/// Passes on what is written, and hashes it.
struct Hashed<W> {
    inner: W,
    hasher: Sha256,
}

impl<W: Write> Hashed<W> {
    fn new(inner: W) -> Self {
        Hashed {
            inner,
            hasher: Sha256::new(),
        }
    }

    fn digest(self) -> Digest {
        Digest::from_bytes(self.hasher.finalize().into())
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write_all(bytes)?;
        self.hasher.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A layer in a file.
struct Layer {
    file: File,
    descriptor: Descriptor,
    diff_id: Digest,
}

/// A layer with one file of `mib` MiB, different for each `seed`, that refers back through the whole window.
fn layer(dir: &Path, seed: u8, mib: u64, window_log: Option<u32>) -> Layer {
    let path = dir.join(format!("{seed}.layer"));
    let mut blob = Hashed::new(File::create_new(&path).unwrap());
    let diff_id = match window_log {
        Some(log) => {
            let mut encoder = zstd::Encoder::new(&mut blob, 1).unwrap();
            encoder.window_log(log).unwrap();
            let diff_id = tar(&mut encoder, seed, mib);
            encoder.finish().unwrap();
            diff_id
        }
        None => {
            let mut encoder = flate2::write::GzEncoder::new(&mut blob, flate2::Compression::fast());
            let diff_id = tar(&mut encoder, seed, mib);
            encoder.finish().unwrap();
            diff_id
        }
    };
    let size = blob.inner.stream_position().unwrap();
    let digest: oci_spec::image::Digest = blob.digest().to_string().parse().unwrap();
    let media_type = MediaType::from("application/vnd.oci.image.layer.v1.tar+zstd");
    Layer {
        file: File::open(&path).unwrap(),
        descriptor: Descriptor::new(media_type, size, digest),
        diff_id,
    }
}

fn tar(out: impl Write, seed: u8, mib: u64) -> Digest {
    let mut out = Hashed::new(out);
    let mut header = tar::Header::new_ustar();
    header.set_path("big").unwrap();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(mib << 20);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    out.write_all(header.as_bytes()).unwrap();
    let mut block = vec![seed; 1 << 20];
    for i in 0..mib {
        block[..8].copy_from_slice(&(i + 1).to_le_bytes());
        out.write_all(&block).unwrap();
    }
    out.write_all(&[0; 1024]).unwrap();
    out.digest()
}

/// The process that is measured: takes four layers in at once, as a pull does, and says how much it had.
#[test]
fn worker() {
    let Some(root) = std::env::var_os("RL_TEST_STORE") else {
        return;
    };
    let root = Path::new(&root);
    let store = Store::open(&root.join("store")).unwrap();
    // The largest window that is taken, which only one layer can have at a time, and gzip.
    let layers = [
        layer(root, 1, 1024, Some(25)),
        layer(root, 2, 64, Some(25)),
        layer(root, 3, 64, Some(25)),
        layer(root, 4, 256, None),
    ];
    // What the compressors needed does not count.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    std::thread::scope(|scope| {
        for layer in &layers {
            let store = &store;
            scope.spawn(move || {
                let (descriptor, diff_id) = (&layer.descriptor, &layer.diff_id);
                store
                    .ingest_layer(&layer.file, descriptor, diff_id, &map_key(), &|_| {})
                    .unwrap();
            });
        }
    });
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    println!("peak {}", peak.split_whitespace().nth(1).unwrap());
}

#[test]
fn four_layers_at_once_stay_below_64_mib() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "worker", "--nocapture"])
        .env("RL_TEST_STORE", dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    let peak = text
        .split("peak ")
        .nth(1)
        .and_then(|t| t.split_whitespace().next());
    let peak: u64 = peak.unwrap().parse().unwrap();
    println!("{} MiB", peak >> 10);
    assert!(peak < LIMIT_KIB, "{} MiB", peak >> 10);
}
