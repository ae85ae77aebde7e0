//! Entries with hostile names and targets: the tree must be the one that the oracle works out, and
//! nothing beside it may change.
//!
//! Without cargo-fuzz, coverage is asked of the compiler directly:
//!
//! ```text
//! RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
//!   -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
//!   -Ccodegen-units=1" cargo +nightly run --release --bin unpack_entries -- -max_total_time=60
//! ```
#![no_main]

#[path = "../../layerkit/mod.rs"]
mod layerkit;
#[path = "../../layerkit/oracle.rs"]
mod oracle;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let bytes = &bytes[..bytes.len().min(96)];
    let verdict = oracle::judge(&oracle::entries(bytes));
    let yard = layerkit::Yard::new();
    let report = yard
        .unpack(&oracle::archive(&verdict.accepted))
        .expect("refused");
    assert_eq!(yard.tree(), verdict.tree);
    assert_eq!(report.opaque_root, verdict.opaque_root);
    if let Some((mut entries, refused)) = verdict.refused {
        entries.push(refused);
        assert!(
            layerkit::Yard::new()
                .unpack(&oracle::archive(&entries))
                .is_err(),
            "not refused"
        );
    }
});
