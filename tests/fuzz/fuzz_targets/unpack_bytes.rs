//! Damaged archives: nothing beside the layer changes, nothing panics, memory stays small. The first
//! 24 bytes make entries; the rest are changes to the archive of these, three bytes each (where, what),
//! or are appended as they are.
#![no_main]

#[path = "../../layerkit/mod.rs"]
mod layerkit;
#[path = "../../layerkit/oracle.rs"]
mod oracle;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (entries, damage) = bytes.split_at(bytes.len().min(24));
    let mut tar = oracle::archive(&oracle::entries(entries));
    for change in damage.chunks_exact(3).take(64) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % tar.len();
        tar[at] = change[2];
    }
    tar.extend_from_slice(damage);
    // Mended checksums let the fuzzer reach what is behind a header.
    for block in tar
        .chunks_exact_mut(512)
        .filter(|block| block[257..262] == *b"ustar")
    {
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
    }
    let yard = layerkit::Yard::new();
    let _ = yard.unpack(&tar);
});
