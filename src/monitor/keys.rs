//! The keys that detach a front end, among what is typed.

/// Looks for the keys that detach among what is typed.
pub(super) struct Keys {
    keys: Vec<u8>,
    /// How many of them were typed; they are held back until it is known what they mean.
    typed: usize,
}

impl Keys {
    /// None where `keys` is empty.
    pub fn new(keys: Vec<u8>) -> Keys {
        Keys { keys, typed: 0 }
    }

    /// What of `bytes` is for the command, and whether the keys are complete.
    pub fn pass(&mut self, bytes: Vec<u8>) -> (Vec<u8>, bool) {
        if self.keys.is_empty() {
            return (bytes, false);
        }
        let mut out = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if byte != self.keys[self.typed] {
                out.extend_from_slice(&self.keys[..self.typed]);
                self.typed = 0;
            }
            if byte == self.keys[self.typed] {
                self.typed += 1;
                if self.typed == self.keys.len() {
                    return (out, true);
                }
            } else {
                out.push(byte);
            }
        }
        (out, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_held_back_until_they_mean_something() {
        let mut keys = Keys::new(vec![16, 17]);
        assert_eq!(keys.pass(b"ab\x10".to_vec()), (b"ab".to_vec(), false));
        assert_eq!(keys.pass(b"c".to_vec()), (b"\x10c".to_vec(), false));
        assert_eq!(keys.pass(b"\x10".to_vec()), (Vec::new(), false));
        assert_eq!(keys.pass(b"\x10x".to_vec()), (b"\x10\x10x".to_vec(), false));
        assert_eq!(keys.pass(b"y\x10\x11z".to_vec()), (b"y".to_vec(), true));
        let mut none = Keys::new(Vec::new());
        assert_eq!(none.pass(vec![16, 17]), (vec![16, 17], false));
    }
}
