//! The image store: what goes in comes out whole, whatever happens in between.

mod layerkit;

use std::io::{self, Cursor, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use layerkit::{Tar, map_key, sha256, skip, snapshot, takes_xattrs};
use oci_spec::image::{Descriptor, MediaType};
use rl::engine::images::{self, Format, ImageError, Import};
use rl::model::reference::Source;
use rl::model::{Digest, Reference};
use rl::store::{Image, Store, StoreError};

/// A store in a directory of its own.
struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        Fixture { dir, store }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    fn ingest(&self, blob: &Blob) -> Result<(), StoreError> {
        let reader = Cursor::new(&blob.bytes);
        self.store
            .ingest_layer(reader, &blob.descriptor, &blob.diff_id, &map_key(), &|_| {})
    }

    fn tree(&self, diff_id: &Digest) -> Vec<(String, String)> {
        let dir = self
            .store
            .layer_path(&map_key())
            .join(self.store.layer_name(diff_id));
        snapshot(&dir, false).into_iter().collect()
    }

    /// Stores an image of these layers and names it.
    fn image(&self, name: &str, blobs: &[&Blob]) -> Image {
        for blob in blobs {
            self.ingest(blob).unwrap();
        }
        let diff_ids: Vec<String> = blobs.iter().map(|b| b.diff_id.to_string()).collect();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "config": {"Labels": {"n": name}},
            "created": "2020-01-02T03:04:05Z",
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        })
        .to_string();
        let config_digest = self.store.put_blob(config.as_bytes()).unwrap();
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", config.len(), &config_digest),
            "layers": blobs.iter().map(|b| &b.descriptor).collect::<Vec<_>>(),
        })
        .to_string();
        let digest = self.store.put_blob(manifest.as_bytes()).unwrap();
        let target = descriptor(
            "application/vnd.oci.image.manifest.v1+json",
            manifest.len(),
            &digest,
        );
        let reference: Reference = name.parse().unwrap();
        self.store.tag(&reference, &target).unwrap();
        self.store.image(&reference).unwrap().unwrap()
    }

    /// Nothing unfinished, no blob under a wrong name.
    fn check(&self) {
        check(&self.root());
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // Directories without write permission stop tempfile's own removal.
        let parent = rl::sys::fs::Root::open(self.dir.path()).unwrap();
        let _ = rl::sys::fs::remove_tree(std::os::fd::AsFd::as_fd(&parent), b"store");
    }
}

fn check(root: &Path) {
    for entry in std::fs::read_dir(root.join("images/blobs/sha256")).unwrap() {
        let entry = entry.unwrap();
        let digest = sha256(&std::fs::read(entry.path()).unwrap());
        assert_eq!(entry.file_name().to_str().unwrap(), digest.hex());
    }
    let index = std::fs::read(root.join("images/index.json")).unwrap();
    serde_json::from_slice::<serde_json::Value>(&index).unwrap();
}

fn unfinished(root: &Path) -> Vec<String> {
    let names = std::fs::read_dir(root.join("tmp")).unwrap();
    names
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| n != "locks")
        .collect()
}

fn descriptor(media_type: &str, size: usize, digest: &Digest) -> Descriptor {
    let digest: oci_spec::image::Digest = digest.to_string().parse().unwrap();
    Descriptor::new(MediaType::from(media_type), size as u64, digest)
}

/// A compressed layer.
#[derive(Clone)]
struct Blob {
    bytes: Vec<u8>,
    descriptor: Descriptor,
    diff_id: Digest,
}

impl Blob {
    fn of(tar: &[u8], kind: &str) -> Self {
        let bytes = match kind {
            "gzip" => {
                let mut encoder =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(tar).unwrap();
                encoder.finish().unwrap()
            }
            "zstd" => zstd::encode_all(tar, 1).unwrap(),
            _ => tar.to_vec(),
        };
        let descriptor = descriptor(
            "application/vnd.oci.image.layer.v1.tar+gzip",
            bytes.len(),
            &sha256(&bytes),
        );
        Blob {
            bytes,
            descriptor,
            diff_id: sha256(tar),
        }
    }

    fn file(name: &str, content: &str) -> Self {
        Blob::of(&Tar::new().file(name, content).end(), "gzip")
    }
}

#[test]
fn layers_of_every_compression_arrive() {
    for kind in ["none", "gzip", "zstd"] {
        let fixture = Fixture::new();
        // More than all buffers together, so that they go round.
        let big: Vec<u8> = (0..9_000_000u32).map(|i| (i % 251) as u8).collect();
        let tar = Tar::new().file("a", "1").file("big", &big).dir("d", 0o755);
        // What follows the archive's end is part of the diff id.
        let tar = [tar.end(), vec![7; 100_000]].concat();
        let blob = Blob::of(&tar, kind);
        let seen = AtomicU64::new(0);
        let progress = |n: u64| {
            seen.fetch_add(n, Ordering::Relaxed);
        };
        fixture
            .store
            .ingest_layer(
                &blob.bytes[..],
                &blob.descriptor,
                &blob.diff_id,
                &map_key(),
                &progress,
            )
            .unwrap();
        assert_eq!(seen.into_inner(), blob.bytes.len() as u64);
        assert!(fixture.store.has_layer(&map_key(), &blob.diff_id).unwrap());
        let dir = fixture
            .store
            .layer_path(&map_key())
            .join(fixture.store.layer_name(&blob.diff_id));
        assert_eq!(std::fs::read(dir.join("big")).unwrap(), big);
        let stored = std::fs::read(fixture.store.blob_path(&sha256(&blob.bytes))).unwrap();
        assert_eq!(stored, blob.bytes);
        fixture.check();
        assert!(unfinished(&fixture.root()).is_empty());
    }
}

#[test]
fn what_is_not_what_it_should_be_is_refused_and_leaves_nothing() {
    let good = Blob::file("a", "1");
    let other = Blob::file("b", "2");
    let flipped = {
        let mut bytes = good.bytes.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        Blob {
            bytes,
            ..good.clone()
        }
    };
    let plain_flipped = {
        let mut blob = Blob::of(&Tar::new().file("a", "1".repeat(2000)).end(), "none");
        blob.bytes[1000] ^= 1;
        blob
    };
    type Case<'a> = (&'a str, Blob, fn(&StoreError) -> bool);
    let cases: Vec<Case<'_>> = vec![
        ("flipped", flipped, |e| {
            matches!(e, StoreError::Digest { .. })
        }),
        ("flipped", plain_flipped, |e| {
            matches!(e, StoreError::Digest { .. })
        }),
        (
            "swapped",
            Blob {
                bytes: other.bytes,
                ..good.clone()
            },
            |e| matches!(e, StoreError::Digest { .. } | StoreError::Size { .. }),
        ),
        (
            "short",
            Blob {
                bytes: good.bytes[..20].to_vec(),
                ..good.clone()
            },
            |e| matches!(e, StoreError::Size { .. }),
        ),
        (
            "long",
            Blob {
                bytes: [&good.bytes[..], b"x"].concat(),
                ..good.clone()
            },
            |e| matches!(e, StoreError::Size { .. }),
        ),
        (
            "diff id",
            Blob {
                diff_id: other.diff_id,
                ..good.clone()
            },
            |e| matches!(e, StoreError::DiffId { .. }),
        ),
        ("no tar", Blob::of(&[1; 2000], "gzip"), |e| {
            matches!(e, StoreError::Unpack { .. })
        }),
        (
            "cut gzip",
            {
                let mut blob = good.clone();
                blob.bytes.truncate(blob.bytes.len() - 3);
                blob.descriptor =
                    descriptor("application/x", blob.bytes.len(), &sha256(&blob.bytes));
                blob
            },
            |e| matches!(e, StoreError::Stream { .. }),
        ),
    ];
    for (name, blob, expected) in cases {
        let fixture = Fixture::new();
        let error = fixture.ingest(&blob).unwrap_err();
        assert!(expected(&error), "{name}: {error}");
        assert!(!fixture.store.has_layer(&map_key(), &blob.diff_id).unwrap());
        let blobs = std::fs::read_dir(fixture.root().join("images/blobs/sha256")).unwrap();
        assert_eq!(blobs.count(), 0, "{name}");
        assert!(unfinished(&fixture.root()).is_empty(), "{name}");
        // The same store takes the right one afterwards.
        fixture.ingest(&good).unwrap();
        fixture.check();
    }
}

#[test]
fn a_reader_that_fails_is_named() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("cable cut"))
        }
    }
    let fixture = Fixture::new();
    let blob = Blob::file("a", "1");
    let reader = Cursor::new(&blob.bytes[..30]).chain(Broken);
    let error = fixture
        .store
        .ingest_layer(reader, &blob.descriptor, &blob.diff_id, &map_key(), &|_| {})
        .unwrap_err();
    assert!(matches!(&error, StoreError::Stream { .. }) && error.to_string().contains("cable cut"));
}

#[test]
fn what_is_there_is_not_read_again() {
    struct Never;
    impl Read for Never {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            panic!("read although everything is there")
        }
    }
    let fixture = Fixture::new();
    let blob = Blob::file("a", "1");
    fixture.ingest(&blob).unwrap();
    let again = |reader: &mut dyn Read| {
        fixture
            .store
            .ingest_layer(reader, &blob.descriptor, &blob.diff_id, &map_key(), &|_| {})
    };
    again(&mut Never).unwrap();
    // The layer alone is not enough: `save` needs the blob.
    std::fs::remove_file(fixture.store.blob_path(&sha256(&blob.bytes))).unwrap();
    again(&mut &blob.bytes[..]).unwrap();
    fixture.check();
    assert_eq!(
        std::fs::read_dir(fixture.root().join("images/blobs/sha256"))
            .unwrap()
            .count(),
        1
    );
}

/// What is called `tmp` somebody cleans away.
#[test]
fn a_store_without_its_unfinished_work_is_a_store() {
    let mut fixture = Fixture::new();
    let blob = Blob::of(&Tar::new().file("a", vec![3; 3000]).end(), "gzip");
    std::fs::remove_dir_all(fixture.root().join("tmp")).unwrap();
    fixture.store = Store::open(&fixture.root()).unwrap();
    fixture.image("docker.io/library/a:latest", &[&blob]);
    assert!(unfinished(&fixture.root()).is_empty());
}

#[test]
fn many_at_once_share_the_work() {
    let fixture = Fixture::new();
    let blob = Blob::of(&Tar::new().file("a", vec![3; 3_000_000]).end(), "gzip");
    let read = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                // Each with a store of its own, as processes have.
                let store = Store::open(&fixture.root()).unwrap();
                let progress = |n| {
                    read.fetch_add(n, Ordering::Relaxed);
                };
                let key = map_key();
                store
                    .ingest_layer(
                        &blob.bytes[..],
                        &blob.descriptor,
                        &blob.diff_id,
                        &key,
                        &progress,
                    )
                    .unwrap();
                assert!(store.has_layer(&key, &blob.diff_id).unwrap());
            });
        }
    });
    assert_eq!(
        read.into_inner(),
        blob.bytes.len() as u64,
        "read once by one of the eight"
    );
    assert!(unfinished(&fixture.root()).is_empty());
}

#[test]
fn names_move_and_images_stay() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let name = |text: &str| text.parse::<Reference>().unwrap();
    assert!(store.image(&name("a")).unwrap().is_none());
    let (x, y) = (Blob::file("x", "1"), Blob::file("y", "2"));
    let first = fixture.image("a", &[&x]);
    let second = fixture.image("registry.example:5000/b:v1", &[&x, &y]);
    assert_eq!(
        store
            .image(&name("docker.io/library/a:latest"))
            .unwrap()
            .unwrap()
            .id,
        first.id
    );
    assert_eq!(second.diff_ids, [x.diff_id, y.diff_id]);
    store.tag(&name("a"), &second.descriptor).unwrap();
    assert_eq!(store.image(&name("a")).unwrap().unwrap().id, second.id);
    // The first has lost its name and is still there.
    let all = store.images().unwrap();
    assert_eq!(all.len(), 2);
    let dangling: Vec<_> = all.iter().filter(|i| i.references.is_empty()).collect();
    assert_eq!(dangling[0].id, first.id);
    assert_eq!(
        store.image_by_id(&first.id.short()).unwrap().unwrap().id,
        first.id
    );
    assert_eq!(
        store
            .image_by_id(&second.manifest.to_string())
            .unwrap()
            .unwrap()
            .id,
        second.id
    );
    assert!(store.image_by_id("zz").unwrap().is_none());
    let pinned = name(&format!("registry.example:5000/b@{}", second.manifest));
    assert_eq!(store.image(&pinned).unwrap().unwrap().id, second.id);
    let foreign = name(&format!("elsewhere.example/b@{}", second.manifest));
    assert!(store.image(&foreign).unwrap().is_none());
    assert!(store.untag(&name("a"), true).unwrap());
    assert!(!store.untag(&name("a"), true).unwrap());
}

#[test]
fn garbage_goes_and_nothing_else() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let (x, y, z) = (
        Blob::file("x", "1"),
        Blob::file("y", "2"),
        Blob::file("z", "3"),
    );
    let keep = fixture.image("keep", &[&x, &y]);
    let gone = fixture.image("gone", &[&x, &z]);
    assert_eq!(
        store.gc(true).unwrap().unwrap(),
        rl::store::GcReport::default()
    );
    store.forget(&gone.target).unwrap();
    let shared = store.lock_shared().unwrap();
    assert!(
        store.gc(false).unwrap().is_none(),
        "somebody uses the store"
    );
    drop(shared);
    // A tree that lost its description counts as garbage too.
    std::fs::create_dir(
        store
            .layer_path(&map_key())
            .join("0123456789abcdef01234567"),
    )
    .unwrap();
    let report = store.gc(false).unwrap().unwrap();
    assert_eq!(report.layers, [z.diff_id]);
    assert_eq!(report.blobs.len(), 3);
    assert!(!store.has_layer(&map_key(), &z.diff_id).unwrap());
    assert_eq!(
        std::fs::read_dir(store.layer_path(&map_key()))
            .unwrap()
            .count(),
        4
    );
    assert!(store.lower_dirs(&keep, &map_key()).is_ok());
    assert!(store.lower_dirs(&gone, &map_key()).is_err());
    assert!(unfinished(&fixture.root()).is_empty());
}

#[test]
fn stacks_know_repeated_layers_and_opaque_roots() {
    let fixture = Fixture::new();
    let opaque = Blob::of(
        &Tar::new().file(".wh..wh..opq", "").file("o", "").end(),
        "gzip",
    );
    let (x, y) = (Blob::file("x", "1"), Blob::file("y", "2"));
    let name = |blob: &Blob| fixture.store.layer_name(&blob.diff_id);
    let image = fixture.image("twice", &[&x, &y, &x]);
    let stack = fixture.store.lower_dirs(&image, &map_key()).unwrap();
    assert_eq!(stack, [name(&x), name(&y)]);
    let image = fixture.image("opaque", &[&x, &opaque, &y]);
    let stack = fixture.store.lower_dirs(&image, &map_key()).unwrap();
    assert_eq!(stack, [name(&y), name(&opaque)]);
}

#[test]
fn after_a_power_cut_only_what_reached_the_disk_counts() {
    let fixture = Fixture::new();
    if !takes_xattrs(fixture.dir.path()) {
        return skip("user.* extended attributes on the temporary directory");
    }
    let (store, key) = (&fixture.store, map_key());
    let blob = Blob::file("x", "1");
    let image = fixture.image("a", &[&blob]);
    let meta = store
        .layer_path(&key)
        .join(format!("{}.json", store.layer_name(&blob.diff_id)));
    let blob_path = store.blob_path(&sha256(&blob.bytes));
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let earlier = "00000000-0000-0000-0000-000000000000";
    let text = std::fs::read_to_string(&meta).unwrap();
    assert!(text.contains(boot.trim()));

    // The layer was unpacked in an earlier boot and may be torn: it is not used, but made again.
    std::fs::write(&meta, text.replace(boot.trim(), earlier)).unwrap();
    let tree = store.layer_path(&key).join(store.layer_name(&blob.diff_id));
    std::fs::write(tree.join("x"), "").unwrap();
    assert!(!store.has_layer(&key, &blob.diff_id).unwrap());
    store.ensure_layers(&image, &key).unwrap();
    assert_eq!(fixture.tree(&blob.diff_id)[1].1, "file 1");

    // A torn description counts as none.
    std::fs::write(&meta, &text[..20]).unwrap();
    assert!(!store.has_layer(&key, &blob.diff_id).unwrap());
    store.ensure_layers(&image, &key).unwrap();

    // A blob of an earlier boot is hashed: whole it stays, torn it goes.
    let mark = |value: &str| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(&blob_path, "user.rl.unsettled", value.as_bytes(), flags).unwrap();
    };
    let size = blob.bytes.len() as u64;
    mark(earlier);
    assert!(store.has_blob(&sha256(&blob.bytes), size).unwrap());
    assert!(layerkit::xattr(&blob_path, "user.rl.unsettled").is_none());
    mark(earlier);
    std::fs::write(&blob_path, vec![0; blob.bytes.len()]).unwrap();
    assert!(!store.has_blob(&sha256(&blob.bytes), size).unwrap());
    assert!(!blob_path.exists());

    // Flushed, nothing depends on the boot any more.
    fixture.ingest(&blob).unwrap();
    store.settle().unwrap();
    assert!(
        !std::fs::read_to_string(&meta)
            .unwrap()
            .contains("unsettled")
    );
    assert!(layerkit::xattr(&blob_path, "user.rl.unsettled").is_none());
    assert!(store.has_layer(&key, &blob.diff_id).unwrap());
}

#[test]
fn a_damaged_image_is_told_by_its_digest() {
    let fixture = Fixture::new();
    let image = fixture.image("a", &[&Blob::file("x", "1")]);
    std::fs::write(fixture.store.blob_path(&image.id), "{}").unwrap();
    let reference: Reference = "a".parse().unwrap();
    assert!(matches!(
        fixture.store.image(&reference),
        Err(StoreError::Digest { .. })
    ));
    assert!(fixture.store.images().unwrap().is_empty());
    let done = images::remove(&fixture.store, "a", true).unwrap();
    assert_eq!(done, [images::Removed::Untagged(reference)]);
}

/// Not a test of its own: what [`killed_anywhere`] starts and kills.
#[test]
fn worker() {
    let Some(root) = std::env::var_os("RL_TEST_STORE") else {
        return;
    };
    let store = Store::open(Path::new(&root)).unwrap();
    let blobs: Vec<Blob> = (0..4).map(worker_blob).collect();
    for round in 0u64.. {
        let blob = &blobs[usize::try_from(round % 4).unwrap()];
        let lock = store.lock_shared().unwrap();
        let key = map_key();
        store
            .ingest_layer(
                &blob.bytes[..],
                &blob.descriptor,
                &blob.diff_id,
                &key,
                &|_| {},
            )
            .unwrap();
        let name: Reference = format!("w{}", round % 3).parse().unwrap();
        let target = store
            .put_blob(format!("{{\"round\":{round}}}").as_bytes())
            .unwrap();
        store
            .tag(&name, &descriptor("application/x", 5, &target))
            .unwrap();
        drop(lock);
        if round == 0 {
            println!("ready");
        }
        if round % 5 == 4 {
            store.untag(&name, false).unwrap();
            store.try_lock_exclusive().unwrap();
            let _ = std::fs::remove_file(
                store
                    .layer_path(&key)
                    .join(format!("{}.json", store.layer_name(&blob.diff_id))),
            );
        }
    }
}

fn worker_blob(seed: u8) -> Blob {
    let tar = (0..40).fold(Tar::new(), |tar, i| {
        tar.file(format!("d{}/f{i}", i % 5), vec![seed; 5000])
    });
    Blob::of(&tar.end(), "gzip")
}

#[test]
fn killed_anywhere() {
    let fixture = Fixture::new();
    for round in 0..12u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["worker", "--exact", "--nocapture", "--test-threads=1"])
            .env("RL_TEST_STORE", fixture.root())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Killed at a moment that differs from round to round, once it works.
        let mut out = io::BufReader::new(child.stdout.take().unwrap());
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut line = String::new();
        while !line.contains("ready") {
            assert!(Instant::now() < deadline, "the worker does not get going");
            line.clear();
            assert_ne!(io::BufRead::read_line(&mut out, &mut line).unwrap(), 0);
        }
        std::thread::sleep(Duration::from_micros(700 * round * round));
        child.kill().unwrap();
        child.wait().unwrap();

        fixture.check();
        for blob in (0..4).map(worker_blob) {
            if fixture.store.has_layer(&map_key(), &blob.diff_id).unwrap() {
                assert_eq!(fixture.tree(&blob.diff_id).len(), 1 + 5 + 40);
            }
            fixture.ingest(&blob).unwrap();
            assert_eq!(fixture.tree(&blob.diff_id).len(), 1 + 5 + 40);
        }
        fixture.store.put_blob(b"whoever writes next").unwrap();
        assert!(
            unfinished(&fixture.root()).is_empty(),
            "the dead process's work is cleared away"
        );
    }
}

fn transport_image(fixture: &Fixture) -> Image {
    let lower = Blob::of(
        &Tar::new().file("etc/a", "1").file("etc/b", "1").end(),
        "gzip",
    );
    let upper = Blob::of(
        &Tar::new().file("etc/.wh.a", "").file("c", "2").end(),
        "zstd",
    );
    let plain = Blob::of(&Tar::new().file("p", "3").end(), "none");
    fixture.image("example.org/t:v1", &[&lower, &upper, &plain])
}

#[test]
fn what_is_saved_can_be_loaded() {
    let one = Fixture::new();
    let image = transport_image(&one);
    let words = ["example.org/t:v1".to_owned()];
    for format in [Format::DockerArchive, Format::OciArchive] {
        let mut archive = Vec::new();
        images::save(&one.store, &words, format, None, &mut archive).unwrap();
        let path = one.dir.path().join("archive");
        std::fs::write(&path, &archive).unwrap();
        for compressed in [false, true] {
            let two = Fixture::new();
            let loaded = if compressed {
                let gz = Blob::of(&archive, "gzip").bytes;
                images::load_stream(&two.store, &gz[..], Some(&map_key())).unwrap()
            } else {
                images::load(&two.store, &Source::Rootfs(path.clone()), Some(&map_key())).unwrap()
            };
            assert_eq!(loaded[0].id, image.id, "{format:?}");
            let there = two
                .store
                .image(&words[0].parse().unwrap())
                .unwrap()
                .unwrap();
            assert_eq!(there.diff_ids, image.diff_ids);
            assert_eq!(two.store.lower_dirs(&there, &map_key()).unwrap().len(), 3);
            two.store.gc(true).unwrap();
            assert!(
                two.store
                    .image(&words[0].parse().unwrap())
                    .unwrap()
                    .is_some()
            );
            two.check();
            assert!(unfinished(&two.root()).is_empty());
        }
    }
    let dir = one.dir.path().join("layout");
    images::save(
        &one.store,
        &words,
        Format::OciDir,
        Some(&dir),
        &mut io::sink(),
    )
    .unwrap();
    images::save(
        &one.store,
        &words,
        Format::OciDir,
        Some(&dir),
        &mut io::sink(),
    )
    .unwrap();
    let two = Fixture::new();
    let source = Source::OciDir(dir.clone(), Some(words[0].clone()));
    assert_eq!(
        images::load(&two.store, &source, None).unwrap()[0].manifest,
        image.manifest
    );
    let missing = Source::OciDir(dir, Some("nope".to_owned()));
    assert!(matches!(
        images::load(&two.store, &missing, None),
        Err(ImageError::NoName { .. })
    ));
}

#[test]
fn broken_archives_are_errors() {
    let load =
        |tar: Tar| images::load_stream(&Fixture::new().store, &tar.end()[..], None).unwrap_err();
    let manifest = r#"[{"Config":"c.json","RepoTags":["a:b"],"Layers":["l.tar"]}]"#;
    assert!(matches!(
        load(Tar::new().file("x", "1")),
        ImageError::NoManifest
    ));
    assert!(matches!(
        load(Tar::new().file("manifest.json", "[1")),
        ImageError::Json { .. }
    ));
    assert!(matches!(
        load(Tar::new().file("manifest.json", manifest)),
        ImageError::NoMember(_)
    ));
    let lying = format!("blobs/sha256/{}", "0".repeat(64));
    assert!(matches!(
        load(Tar::new().file(lying, "x")),
        ImageError::Store(StoreError::Digest { .. })
    ));
    let outside = Tar::new()
        .symlink("l.tar", "../../etc/passwd")
        .file("manifest.json", manifest);
    assert!(matches!(load(outside), ImageError::Archive(_)));
    let circle = Tar::new()
        .symlink("c.json", "l.tar")
        .symlink("l.tar", "c.json")
        .file("manifest.json", manifest);
    assert!(matches!(load(circle), ImageError::NoMember(_)));
}

#[test]
fn images_are_listed_removed_and_inspected() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let image = transport_image(&fixture);
    fixture.image("debian:12", &[&Blob::file("x", "1")]);
    images::tag(store, "debian:12", "mine:v2").unwrap();
    let rows = images::rows(store, None, &[]).unwrap();
    let names: Vec<String> = rows
        .iter()
        .map(|r| format!("{}:{}", r.repository, r.tag))
        .collect();
    assert_eq!(names, ["debian:12", "example.org/t:v1", "mine:v2"]);
    let only = |filter: &str| {
        images::rows(store, None, &[filter.parse().unwrap()])
            .unwrap()
            .len()
    };
    assert_eq!(
        (
            only("reference=deb*"),
            only("dangling=true"),
            only("label=n=debian:12")
        ),
        (1, 0, 2)
    );
    let shown = images::inspect(store, &image).unwrap();
    assert_eq!(shown["RepoTags"][0], "example.org/t:v1");
    assert_eq!(shown["RootFS"]["Layers"].as_array().unwrap().len(), 3);

    let debian = images::find(store, "debian:12").unwrap();
    let short = debian.id.short();
    assert!(matches!(
        images::remove(store, &short, false),
        Err(ImageError::SeveralNames { .. })
    ));
    assert_eq!(images::remove(store, "mine:v2", false).unwrap().len(), 1);
    let container = fixture.root().join(format!("containers/{:0<64}", "c0ffee"));
    std::fs::create_dir_all(&container).unwrap();
    let spec = serde_json::json!({"image_id": debian.id.to_string()}).to_string();
    std::fs::write(container.join("spec.json"), spec).unwrap();
    let refused = images::remove(store, &short, false).unwrap_err();
    assert!(matches!(&refused, ImageError::InUse { .. }) && refused.to_string().contains("c0ffee"));
    // With force the name goes; the image stays while the container does.
    images::remove(store, "debian:12", true).unwrap();
    store.gc(true).unwrap();
    assert!(
        store
            .image_by_id(&short)
            .unwrap()
            .unwrap()
            .references
            .is_empty()
    );
    std::fs::remove_dir_all(container).unwrap();
    assert_eq!(
        images::remove(store, &short, false).unwrap(),
        [images::Removed::Deleted(debian.id)]
    );
    assert!(matches!(
        images::remove(store, &short, false),
        Err(ImageError::NotFound(_))
    ));
}

#[test]
fn a_root_file_system_becomes_an_image() {
    let fixture = Fixture::new();
    let tar = Tar::new().file("bin/sh", "x").end();
    for (i, kind) in ["none", "gzip", "zstd"].into_iter().enumerate() {
        let options = Import {
            reference: Some(format!("imported:v{i}").parse().unwrap()),
            changes: vec!["CMD [\"sh\"]".to_owned()],
            ..Import::default()
        };
        let blob = Blob::of(&tar, kind);
        images::import(&fixture.store, &blob.bytes[..], &options, Some(&map_key())).unwrap();
        let image = images::find(&fixture.store, &format!("imported:v{i}")).unwrap();
        assert_eq!(image.diff_ids, [sha256(&tar)]);
        assert_eq!(
            image
                .config
                .config()
                .as_ref()
                .unwrap()
                .cmd()
                .as_ref()
                .unwrap(),
            &["sh"]
        );
        assert!(
            fixture
                .store
                .has_layer(&map_key(), &image.diff_ids[0])
                .unwrap()
        );
    }
}

/// skopeo reads our store and writes archives that we read.
#[test]
fn skopeo_agrees() {
    let fixture = Fixture::new();
    let run = |args: &[&str]| {
        let output = Command::new("skopeo").args(args).output().unwrap();
        assert!(
            output.status.success(),
            "skopeo {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    if Command::new("skopeo").arg("--version").output().is_err() {
        return skip("skopeo");
    }
    let image = transport_image(&fixture);
    let store = fixture.store.images_dir();
    let ours = format!("oci:{}:example.org/t:v1", store.display());
    assert!(run(&["inspect", &ours]).contains(&image.manifest.to_string()));
    // A policy of our own: the machine may have none.
    let policy = fixture.dir.path().join("policy.json");
    std::fs::write(
        &policy,
        r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
    )
    .unwrap();
    let copy = |from: &str, to: &str| {
        run(&["--policy", policy.to_str().unwrap(), "copy", "-q", from, to]);
    };
    let at = |kind: &str, name: &str| format!("{kind}:{}", fixture.dir.path().join(name).display());
    for (kind, name) in [
        ("docker-archive", "d.tar"),
        ("oci-archive", "o.tar"),
        ("oci", "o.dir"),
    ] {
        let to = format!("{}:example.org/t:v1", at(kind, name));
        copy(&ours, &to);
        let two = Fixture::new();
        let source = Source::parse(&to).unwrap();
        let loaded = images::load(&two.store, &source, Some(&map_key())).unwrap();
        let there = two
            .store
            .image_by_id(&loaded[0].manifest.to_string())
            .unwrap()
            .unwrap();
        assert_eq!(there.diff_ids, image.diff_ids, "{kind}");
        assert_eq!(two.store.lower_dirs(&there, &map_key()).unwrap().len(), 3);
    }
    for (format, kind, name) in [
        (Format::DockerArchive, "docker-archive", "our-d.tar"),
        (Format::OciArchive, "oci-archive", "our-o.tar"),
    ] {
        let mut archive = Vec::new();
        images::save(
            &fixture.store,
            &["example.org/t:v1".into()],
            format,
            None,
            &mut archive,
        )
        .unwrap();
        std::fs::write(fixture.dir.path().join(name), archive).unwrap();
        let seen = run(&["inspect", "--config", &at(kind, name)]);
        for diff_id in &image.diff_ids {
            assert!(seen.contains(&diff_id.to_string()), "{kind}");
        }
    }
    // What skopeo puts into our store, we find.
    copy(
        &at("oci-archive", "o.tar"),
        &format!("oci:{}:docker.io/library/put:in", store.display()),
    );
    let found = images::find(&fixture.store, "put:in").unwrap();
    fixture.store.ensure_layers(&found, &map_key()).unwrap();
}

#[test]
fn the_same_for_other_identities() {
    layerkit::again_as_others();
}
