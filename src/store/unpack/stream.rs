//! A tar archive as a sequence of entries (POSIX.1-2017 ustar and pax; GNU tar's long names and
//! sparse files). The `tar` crate decodes the fields of a header; the framing is done here, because
//! what a layer means must not differ from what Go's archive/tar makes of it, and because nothing
//! may be held in memory but one header's worth.
//!
//! The order for one entry: the rest of the last entry's data is skipped; extension headers (`L`,
//! `K`, `x`, `g`) are read, at most 1 MiB each and 32 in a row; the header proper is read and what
//! the extensions say is laid over it; a sparse map is read. Then the data is handed out in pieces
//! of the underlying buffer, without copying.

use std::io::{self, BufRead};

use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

use super::pax::{Pax, SparseMap};
use super::{Reason, UnpackError};

/// Bytes of a tar block.
pub(super) const BLOCK: u64 = 512;
/// Bytes of an extension header, at most (what Go's archive/tar allows).
const EXTENSION_LIMIT: u64 = 1 << 20;
/// Extension headers in a row.
const EXTENSION_COUNT: usize = 32;
/// Stretches of a sparse file.
const SPARSE_LIMIT: usize = 1 << 20;

/// What an entry makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    Fifo,
    /// `c` or `b`, major, minor.
    Device(char, u32, u32),
}

/// An entry without its data.
#[derive(Clone, Debug)]
pub(in crate::store) struct Entry {
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub kind: Kind,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    /// Seconds and nanoseconds since the epoch.
    pub mtime: (i64, u32),
    /// The file's size, holes included.
    pub size: u64,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse: Option<SparseMap>,
}

/// The archive under way.
pub(in crate::store) struct TarStream<R> {
    source: R,
    /// Bytes taken from the source.
    offset: u64,
    /// Data of the current entry not yet handed out, and the padding behind it.
    left: u64,
    padding: u64,
}

impl<R: BufRead> TarStream<R> {
    pub(in crate::store) fn new(source: R) -> Self {
        TarStream {
            source,
            offset: 0,
            left: 0,
            padding: 0,
        }
    }

    /// The next entry, or `None` at the end-of-archive block or the end of the source.
    pub(in crate::store) fn next(&mut self) -> Result<Option<Entry>, UnpackError> {
        let wrap = |offset| {
            move |reason| match reason {
                Reason::Read(source) => UnpackError::Read(source),
                reason => UnpackError::Header { offset, reason },
            }
        };
        self.skip().map_err(wrap(self.offset))?;
        let offset = self.offset;
        self.read_entry().map_err(wrap(offset))
    }

    fn read_entry(&mut self) -> Result<Option<Entry>, Reason> {
        let mut long_name = None;
        let mut long_link = None;
        let mut pax = Pax::default();
        for _ in 0..EXTENSION_COUNT {
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            match header.entry_type() {
                EntryType::GNULongName => long_name = Some(self.long_text(&header)?),
                EntryType::GNULongLink => long_link = Some(self.long_text(&header)?),
                EntryType::XHeader => pax.apply(&self.extension(&header)?)?,
                EntryType::XGlobalHeader => drop(self.extension(&header)?),
                _ => return self.entry(&header, long_name, long_link, pax).map(Some),
            }
        }
        Err(Reason::ManyHeaders(EXTENSION_COUNT))
    }

    /// One header block, checksum verified; `None` for a block of zeros or a clean end.
    fn header(&mut self) -> Result<Option<Header>, Reason> {
        let mut header = Header::new_old();
        if !self.read_exact(header.as_mut_bytes())? {
            return Ok(None);
        }
        let bytes = header.as_bytes();
        if bytes.iter().all(|&b| b == 0) {
            return Ok(None);
        }
        // The sum is over unsigned bytes; old writers summed signed ones.
        let field = 148..156;
        let sums = bytes
            .iter()
            .enumerate()
            .fold((0u32, 0i32), |(u, s), (i, &b)| {
                let b = if field.contains(&i) { b' ' } else { b };
                (u + u32::from(b), s + i32::from(b as i8))
            });
        let told = header.cksum().map_err(|_| Reason::Checksum)?;
        if told != sums.0 && i64::from(told) != i64::from(sums.1) {
            return Err(Reason::Checksum);
        }
        Ok(Some(header))
    }

    fn long_text(&mut self, header: &Header) -> Result<Vec<u8>, Reason> {
        let mut text = self.extension(header)?;
        // GNU tar ends it with a NUL that counts; others leave the NUL out.
        let end = text.iter().position(|&b| b == 0).unwrap_or(text.len());
        text.truncate(end);
        Ok(text)
    }

    fn extension(&mut self, header: &Header) -> Result<Vec<u8>, Reason> {
        let size = header.entry_size().map_err(|_| Reason::Field("size"))?;
        if size > EXTENSION_LIMIT {
            return Err(Reason::LongHeader(size));
        }
        self.begin_data(size)?;
        let mut data = vec![0; usize::try_from(size).unwrap_or(0)];
        self.read_data(&mut data)?;
        self.skip()?;
        Ok(data)
    }

    fn entry(
        &mut self,
        header: &Header,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
        mut pax: Pax,
    ) -> Result<Entry, Reason> {
        let old_style = header.as_bytes()[156] == 0;
        let path = match pax.name().or(long_name) {
            Some(path) => path,
            None => header.path_bytes().into_owned(),
        };
        let kind = kind(header, old_style && path.ends_with(b"/"))?;
        let mut size = match pax.size {
            Some(size) => size,
            None => numeric_field(&header.as_old().size, "size")?,
        };
        // Go's rule: only regular files have data, whatever the size field of the others says.
        if kind != Kind::File {
            size = 0;
        }
        let gnu_sparse = header.entry_type() == EntryType::GNUSparse;
        let mut sparse = if gnu_sparse {
            Some(self.gnu_sparse(header)?)
        } else {
            None
        };
        self.begin_data(size)?;
        if !gnu_sparse && kind == Kind::File {
            sparse = pax.sparse(self)?;
        }
        let sparse = sparse
            .map(|(map, real)| check_sparse(map, real, self.left))
            .transpose()?;
        let (sparse, size) = match sparse {
            Some((map, real)) => (Some(map), real),
            None => (None, size),
        };
        let old = header.as_old();
        let link = pax.link.take().or(long_link);
        Ok(Entry {
            path,
            link: link.unwrap_or_else(|| {
                header
                    .link_name_bytes()
                    .map_or(Vec::new(), |l| l.into_owned())
            }),
            kind,
            mode: u32::try_from(numeric_field(&old.mode, "mode")? & 0o7777).unwrap_or(0),
            uid: pax.uid.map_or_else(|| numeric_field(&old.uid, "uid"), Ok)?,
            gid: pax.gid.map_or_else(|| numeric_field(&old.gid, "gid"), Ok)?,
            mtime: pax.mtime.map_or_else(|| header_time(&old.mtime), Ok)?,
            size,
            xattrs: std::mem::take(&mut pax.xattrs),
            sparse,
        })
    }

    /// The map of an old GNU sparse entry: four stretches in the header, 21 in each extension block.
    fn gnu_sparse(&mut self, header: &Header) -> Result<(SparseMap, u64), Reason> {
        let gnu = header.as_gnu().ok_or(Reason::Sparse)?;
        let mut map = SparseMap::new();
        let mut take = |blocks: &[GnuSparseHeader]| -> Result<(), Reason> {
            for block in blocks.iter().filter(|b| !b.is_empty()) {
                let offset = block.offset().map_err(|_| Reason::Sparse)?;
                let length = block.length().map_err(|_| Reason::Sparse)?;
                map.push((offset, length));
            }
            if map.len() > SPARSE_LIMIT {
                Err(Reason::Sparse)
            } else {
                Ok(())
            }
        };
        take(&gnu.sparse)?;
        let mut more = gnu.is_extended();
        while more {
            let mut block = GnuExtSparseHeader::new();
            if !self.read_exact(block.as_mut_bytes())? {
                return Err(Reason::Truncated);
            }
            take(block.sparse())?;
            more = block.is_extended();
        }
        Ok((map, gnu.real_size().map_err(|_| Reason::Sparse)?))
    }

    fn begin_data(&mut self, size: u64) -> Result<(), Reason> {
        // Beyond this the offsets below would overflow, and no file is that large.
        if size > i64::MAX as u64 - BLOCK {
            return Err(Reason::Field("size"));
        }
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK) - size;
        Ok(())
    }

    /// The next piece of the current entry's data, at most `most` bytes and as much as the source
    /// has at hand; empty at the end. [`TarStream::consume`] takes it.
    pub(in crate::store) fn data(&mut self, most: u64) -> Result<&[u8], Reason> {
        let most = most.min(self.left);
        if most == 0 {
            return Ok(&[]);
        }
        let buffer = self.source.fill_buf().map_err(Reason::Read)?;
        if buffer.is_empty() {
            return Err(Reason::Truncated);
        }
        let n = buffer
            .len()
            .min(usize::try_from(most).unwrap_or(usize::MAX));
        Ok(&buffer[..n])
    }

    /// Marks `n` bytes of the last piece as used.
    pub(in crate::store) fn consume(&mut self, n: usize) {
        self.source.consume(n);
        self.left -= n as u64;
        self.offset += n as u64;
    }

    /// Fills `buffer` from the current entry's data.
    pub(super) fn read_data(&mut self, buffer: &mut [u8]) -> Result<(), Reason> {
        let mut filled = 0;
        while filled < buffer.len() {
            let piece = self.data((buffer.len() - filled) as u64)?;
            if piece.is_empty() {
                return Err(Reason::Truncated);
            }
            let n = piece.len();
            buffer[filled..filled + n].copy_from_slice(piece);
            self.consume(n);
            filled += n;
        }
        Ok(())
    }

    /// Passes over what is left of the current entry, padding included.
    fn skip(&mut self) -> Result<(), Reason> {
        self.left += std::mem::take(&mut self.padding);
        while self.left > 0 {
            let n = self.data(u64::MAX)?.len();
            self.consume(n);
        }
        Ok(())
    }

    /// Fills `block`; `false` when the source ends before its first byte.
    fn read_exact(&mut self, block: &mut [u8]) -> Result<bool, Reason> {
        let mut filled = 0;
        while filled < block.len() {
            let buffer = match self.source.fill_buf() {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                other => other.map_err(Reason::Read)?,
            };
            if buffer.is_empty() {
                return if filled == 0 {
                    Ok(false)
                } else {
                    Err(Reason::Truncated)
                };
            }
            let n = buffer.len().min(block.len() - filled);
            block[filled..filled + n].copy_from_slice(&buffer[..n]);
            self.source.consume(n);
            self.offset += n as u64;
            filled += n;
        }
        Ok(true)
    }
}

fn kind(header: &Header, is_dir: bool) -> Result<Kind, Reason> {
    let device = |letter| -> Result<Kind, Reason> {
        let number = |field: io::Result<Option<u32>>, name| match field {
            Ok(value) => Ok(value.unwrap_or(0)),
            Err(_) => Err(Reason::Field(name)),
        };
        let major = number(header.device_major(), "device major number")?;
        let minor = number(header.device_minor(), "device minor number")?;
        Ok(Kind::Device(letter, major, minor))
    };
    Ok(match header.entry_type() {
        EntryType::Regular if is_dir => Kind::Directory,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink,
        EntryType::Link => Kind::HardLink,
        EntryType::Fifo => Kind::Fifo,
        EntryType::Char => device('c')?,
        EntryType::Block => device('b')?,
        other => {
            return Err(Reason::Type(
                char::from(other.as_byte()).escape_default().to_string(),
            ));
        }
    })
}

/// A number of the header: octal text, or base 256 when the first bit is set. An empty field is 0.
fn numeric_field(field: &[u8], name: &'static str) -> Result<u64, Reason> {
    let bad = || Reason::Field(name);
    if let Some(value) = base256(field) {
        return u64::try_from(value.ok_or_else(bad)?).map_err(|_| bad());
    }
    let text: &[u8] = field
        .split(|&b| b == 0)
        .next()
        .unwrap_or_default()
        .trim_ascii();
    if text.is_empty() {
        return Ok(0);
    }
    std::str::from_utf8(text)
        .ok()
        .and_then(|t| u64::from_str_radix(t, 8).ok())
        .ok_or_else(bad)
}

fn header_time(field: &[u8]) -> Result<(i64, u32), Reason> {
    let seconds = match base256(field) {
        Some(value) => value.ok_or(Reason::Field("mtime"))?,
        None => i64::try_from(numeric_field(field, "mtime")?).unwrap_or(i64::MAX),
    };
    Ok((seconds, 0))
}

/// A two's complement number behind a set first bit (GNU tar manual, "Extended"): `None` when the
/// field is text, `Some(None)` when it does not fit.
fn base256(field: &[u8]) -> Option<Option<i64>> {
    let first = *field.first()?;
    if first & 0x80 == 0 {
        return None;
    }
    let negative = first & 0x40 != 0;
    let mut value: i128 = if negative { -1 } else { 0 };
    for (i, &byte) in field.iter().enumerate() {
        let byte = if i == 0 && !negative {
            byte & 0x7f
        } else {
            byte
        };
        value = (value << 8) | i128::from(byte);
        if !(i128::from(i64::MIN)..=i128::from(i64::MAX)).contains(&value) {
            return Some(None);
        }
    }
    Some(i64::try_from(value).ok())
}

/// Stretches in order, without overlap, inside the file, and as much data as they need.
fn check_sparse(map: SparseMap, real: u64, data: u64) -> Result<(SparseMap, u64), Reason> {
    let mut end = 0u64;
    let mut total = 0u64;
    if map.len() > SPARSE_LIMIT || real > i64::MAX as u64 {
        return Err(Reason::Sparse);
    }
    for &(offset, length) in &map {
        if offset < end {
            return Err(Reason::Sparse);
        }
        end = offset.checked_add(length).ok_or(Reason::Sparse)?;
        total += length;
    }
    if end > real || total > data {
        return Err(Reason::Sparse);
    }
    Ok((map, real))
}
