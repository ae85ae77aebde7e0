//! PAX extended headers (POSIX.1-2017, pax, "pax Extended Header") and GNU's sparse formats in them
//! (GNU tar manual, "Storing Sparse Files").
//!
//! Records are cut by their length, not at newlines: the values of extended attributes are binary.
//! Global headers (`g`) are read and ignored, as Go's archive/tar does, with which layers are written
//! and scanned; applying them here would make two readers see two different layers.

use std::io::BufRead;

use super::Reason;
use super::stream::{BLOCK, TarStream};

/// A list of data stretches: offset in the file, length.
pub(super) type SparseMap = Vec<(u64, u64)>;

/// What PAX records change in the entry that follows.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<(i64, u32)>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// GNU.sparse.name, which stands for `path` in a sparse entry.
    sparse_name: Option<Vec<u8>>,
    sparse_size: Option<u64>,
    sparse_version: (u64, u64),
    sparse_map: SparseMap,
    sparse_offset: Option<u64>,
    is_sparse: bool,
}

impl Pax {
    /// Takes in the records of one extended header.
    pub(super) fn apply(&mut self, mut data: &[u8]) -> Result<(), Reason> {
        while !data.is_empty() {
            let (key, value, rest) = record(data).ok_or(Reason::Pax)?;
            self.set(key, value)?;
            data = rest;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), Reason> {
        let text = || (!value.is_empty()).then(|| value.to_vec());
        let number = || {
            if value.is_empty() {
                Ok(None)
            } else {
                decimal(value).map(Some)
            }
        };
        match key {
            b"path" => self.path = text(),
            b"linkpath" => self.link = text(),
            b"size" => self.size = number()?,
            b"uid" => self.uid = number()?,
            b"gid" => self.gid = number()?,
            b"mtime" => {
                self.mtime = if value.is_empty() {
                    None
                } else {
                    Some(time(value)?)
                }
            }
            b"GNU.sparse.name" => self.sparse_name = text(),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => {
                self.is_sparse = true;
                self.sparse_size = number()?;
            }
            b"GNU.sparse.major" => {
                self.is_sparse = true;
                self.sparse_version.0 = decimal(value)?;
            }
            b"GNU.sparse.minor" => self.sparse_version.1 = decimal(value)?,
            // Version 0.0 repeats the two keys; 0.1 has one list.
            b"GNU.sparse.offset" => self.sparse_offset = number()?,
            b"GNU.sparse.numbytes" => {
                let offset = self.sparse_offset.take().ok_or(Reason::Sparse)?;
                self.sparse_map.push((offset, decimal(value)?));
            }
            b"GNU.sparse.map" => {
                self.is_sparse = true;
                let numbers: Vec<u64> = value
                    .split(|&b| b == b',')
                    .map(decimal)
                    .collect::<Result<_, _>>()?;
                if !numbers.len().is_multiple_of(2) {
                    return Err(Reason::Sparse);
                }
                self.sparse_map = numbers.chunks_exact(2).map(|c| (c[0], c[1])).collect();
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.retain(|(old, _)| old != name);
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }

    /// The name the entry has by these records.
    pub(super) fn name(&mut self) -> Option<Vec<u8>> {
        self.sparse_name.take().or_else(|| self.path.take())
    }

    /// The sparse map and the file's real size, if the entry is sparse. Version 1.0 keeps the map in
    /// front of the data, from where it is read.
    pub(super) fn sparse(
        &mut self,
        stream: &mut TarStream<impl BufRead>,
    ) -> Result<Option<(SparseMap, u64)>, Reason> {
        if !self.is_sparse {
            return Ok(None);
        }
        let size = self.sparse_size.ok_or(Reason::Sparse)?;
        let map = match self.sparse_version {
            (0, _) => std::mem::take(&mut self.sparse_map),
            (1, 0) => map_in_data(stream)?,
            _ => return Err(Reason::Sparse),
        };
        Ok(Some((map, size)))
    }
}

/// The first record: key, value, and what follows.
fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(21).position(|&b| b == b' ')?;
    let length = usize::try_from(decimal(&data[..space]).ok()?).ok()?;
    let body = data.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|&b| b == b'=')?;
    if equals == 0 {
        return None;
    }
    Some((&body[..equals], &body[equals + 1..], &data[length..]))
}

/// A non-negative decimal number.
fn decimal(text: &[u8]) -> Result<u64, Reason> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err(Reason::Pax);
    }
    std::str::from_utf8(text)
        .ok()
        .and_then(|t| t.parse().ok())
        .ok_or(Reason::Pax)
}

/// `[-]SECONDS[.FRACTION]` as seconds and nanoseconds; digits past the ninth are cut off.
fn time(text: &[u8]) -> Result<(i64, u32), Reason> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |&b| b == b'.');
    let seconds =
        i64::try_from(decimal(parts.next().unwrap_or_default())?).map_err(|_| Reason::Pax)?;
    let mut nanos = 0u32;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(Reason::Pax);
    }
    for i in 0..9 {
        nanos = nanos * 10 + fraction.get(i).map_or(0, |b| u32::from(b - b'0'));
    }
    Ok(match (negative, nanos) {
        (false, _) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}

/// Version 1.0: decimal numbers, one a line, in whole blocks before the data: how many stretches,
/// then offset and length of each.
fn map_in_data(stream: &mut TarStream<impl BufRead>) -> Result<SparseMap, Reason> {
    const MOST: u64 = 1 << 20;
    let mut block = [0u8; BLOCK as usize];
    let mut pos = block.len();
    let mut number = || -> Result<u64, Reason> {
        let mut digits = Vec::new();
        loop {
            if pos == block.len() {
                stream.read_data(&mut block)?;
                pos = 0;
            }
            let byte = block[pos];
            pos += 1;
            match byte {
                b'\n' => return decimal(&digits).map_err(|_| Reason::Sparse),
                _ if digits.len() > 20 => return Err(Reason::Sparse),
                _ => digits.push(byte),
            }
        }
    };
    let count = number()?;
    if count > MOST {
        return Err(Reason::Sparse);
    }
    (0..count).map(|_| Ok((number()?, number()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_newlines() {
        let mut pax = Pax::default();
        let mut data = b"35 SCHILY.xattr.user.a=1\n2=3\x00\xff4567\n".to_vec();
        data.extend(b"11 path=ab\n");
        pax.apply(&data).unwrap();
        assert_eq!(
            pax.xattrs,
            [(b"user.a".to_vec(), b"1\n2=3\x00\xff4567".to_vec())]
        );
        assert_eq!(pax.name(), Some(b"ab".to_vec()));
    }

    #[test]
    fn times() {
        assert_eq!(time(b"12.5").unwrap(), (12, 500_000_000));
        assert_eq!(time(b"-1.25").unwrap(), (-2, 750_000_000));
        assert_eq!(time(b"-3").unwrap(), (-3, 0));
        assert_eq!(time(b"1.0000000019").unwrap(), (1, 1));
        assert!(time(b"").is_err() && time(b"1.x").is_err() && time(b"--1").is_err());
    }

    #[test]
    fn broken_records_are_refused() {
        for data in [
            &b"5 a=b"[..],
            b"99 a=b\n",
            b"6 =ab\n",
            b"x a=b\n",
            b"18446744073709551616 a=b\n",
        ] {
            assert!(Pax::default().apply(data).is_err(), "{data:?}");
        }
    }
}
