//! Random archives of hostile names, unpacked beside a tree that must not change and compared with
//! what a second, in-memory reading of the rules makes of them; with openat2 and without.

mod layerkit;
#[path = "layerkit/oracle.rs"]
mod oracle;

use layerkit::{Yard, owners};
use proptest::prelude::*;
use rl::store::unpack::unpack;
use rl::sys::fs::Root;

fn compare(bytes: &[u8], openat2: bool) {
    let verdict = oracle::judge(&oracle::entries(bytes));
    let run = |entries: &[oracle::Wanted]| {
        let yard = Yard::new();
        let root = Root::open(&yard.layer()).unwrap();
        let root = if openat2 {
            root
        } else {
            root.without_openat2()
        };
        let result = unpack(&oracle::archive(entries)[..], root, &owners());
        yard.check();
        (yard, result)
    };
    let (yard, result) = run(&verdict.accepted);
    let report = result.unwrap_or_else(|e| panic!("refused: {e}\n{:#?}", verdict.accepted));
    assert_eq!(yard.tree(), verdict.tree, "{:#?}", verdict.accepted);
    assert_eq!(report.opaque_root, verdict.opaque_root);
    if let Some((mut entries, refused)) = verdict.refused {
        entries.push(refused);
        assert!(run(&entries).1.is_err(), "not refused\n{entries:#?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(120) })]

    #[test]
    fn the_tree_is_what_the_rules_say(bytes in proptest::collection::vec(any::<u8>(), 4..72)) {
        compare(&bytes, true);
        compare(&bytes, false);
    }

    #[test]
    fn damaged_archives_neither_escape_nor_panic(
        bytes in proptest::collection::vec(any::<u8>(), 4..40),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut tar = oracle::archive(&oracle::entries(&bytes));
        for (at, value) in damage {
            // Checksums are mended, or nothing behind the header would ever be reached.
            let at = at.index(tar.len());
            tar[at] = value;
            let block = at / 512 * 512;
            let mut header = tar::Header::new_old();
            header.as_mut_bytes().copy_from_slice(&tar[block..block + 512]);
            header.set_cksum();
            tar[block..block + 512].copy_from_slice(header.as_bytes());
        }
        let yard = Yard::new();
        let _ = yard.unpack(&tar);
    }
}

#[test]
fn the_generator_reaches_what_it_should() {
    let mut accepted = 0;
    let mut refused = 0;
    let mut seen = std::collections::BTreeSet::new();
    let mut state = 1u32;
    for _ in 0..500 {
        let bytes: Vec<u8> = (0..48)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        let verdict = oracle::judge(&oracle::entries(&bytes));
        accepted += verdict.accepted.len();
        refused += usize::from(verdict.refused.is_some());
        seen.extend(verdict.tree.into_values().map(|v| v[..2].to_owned()));
    }
    assert!(
        accepted > 2000 && refused > 200,
        "{accepted} accepted, {refused} archives refused"
    );
    assert_eq!(
        seen.into_iter().collect::<Vec<_>>(),
        ["->", "di", "fi", "op", "wh"]
    );
}

#[test]
fn the_same_for_other_identities() {
    layerkit::again_as_others();
}
