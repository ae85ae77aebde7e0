//! Ids and made-up names.

/// 64 random hexadecimal digits, from the kernel's generator.
pub fn random_id() -> String {
    let mut bytes = [0u8; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => filled += n,
            Err(_) => continue,
        }
    }
    crate::model::Digest::from_bytes(bytes).hex()
}

/// A name that is easy to say, made from the bytes of an id; `turn` gives another one for the same
/// id when the first is taken.
pub fn name_for(id: &str, turn: usize) -> String {
    const FIRST: [&str; 32] = [
        "amber", "brisk", "calm", "clever", "crisp", "dapper", "eager", "fair", "fleet", "gentle",
        "glad", "hardy", "jolly", "keen", "kind", "lively", "lucid", "mellow", "merry", "neat",
        "nimble", "plain", "proud", "quick", "quiet", "sharp", "steady", "sunny", "swift", "tidy",
        "warm", "wise",
    ];
    const SECOND: [&str; 32] = [
        "alder", "aspen", "badger", "beaver", "birch", "bison", "cedar", "crane", "dove", "elm",
        "falcon", "fern", "finch", "fox", "hare", "hazel", "heron", "ibex", "jay", "lark", "lynx",
        "maple", "marten", "moss", "oak", "otter", "owl", "pine", "robin", "stoat", "swan", "wren",
    ];
    let nibbles: Vec<usize> = id
        .bytes()
        .map(|b| (b as char).to_digit(16).unwrap_or(0) as usize)
        .collect();
    let at = |i: usize| {
        nibbles
            .get((i + 4 * turn) % nibbles.len().max(1))
            .copied()
            .unwrap_or(0)
    };
    let (first, second) = (
        FIRST[(at(0) * 16 + at(1)) % 32],
        SECOND[(at(2) * 16 + at(3)) % 32],
    );
    if turn < 8 {
        format!("{first}_{second}")
    } else {
        format!("{first}_{second}_{}", &id[..6])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_names_follow_from_them() {
        let (a, b) = (random_id(), random_id());
        assert_ne!(a, b);
        assert_eq!((a.len(), name_for(&a, 0)), (64, name_for(&a, 0)));
        assert!(name_for(&a, 9).ends_with(&a[..6]));
    }
}
