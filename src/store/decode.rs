//! Decompression of layers, chosen by the stream's first bytes: registries hold zstd layers under
//! gzip media types and the reverse, and the digests check the content anyway.

use std::io::{self, BufRead, Read};

use super::frames::{Frames, Windows};

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, one or more members (RFC 1952).
    Gzip,
    /// zstd, one or more frames, skippable ones included (RFC 8878).
    Zstd,
}

impl Compression {
    /// Tells the compression by the magic number.
    pub fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            _ => Compression::None,
        }
    }
}

/// The uncompressed content of `reader`. A zstd frame with a window of more than 32 MiB is refused.
///
/// # Errors
/// The first read's.
pub fn decoder<'a>(reader: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    decoder_within(reader, &Windows::default())
}

/// [`decoder`], with zstd's memory taken from `windows`.
pub(super) fn decoder_within<'a>(
    mut reader: impl BufRead + 'a,
    windows: &Windows,
) -> io::Result<Box<dyn Read + 'a>> {
    // One filled buffer is enough: every BufRead here holds more than four bytes unless the stream
    // itself is shorter or arrives in crumbs, which `Crumbs` mends.
    let start = reader.fill_buf()?;
    if start.len() < 4 {
        return sorted(Crumbs::new(reader)?, windows);
    }
    sorted(reader, windows)
}

fn sorted<'a>(mut reader: impl BufRead + 'a, windows: &Windows) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match Compression::of(reader.fill_buf()?) {
        Compression::None => Box::new(reader),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        Compression::Zstd => Box::new(Frames::new(reader, windows.clone())),
    })
}

/// A reader whose first four bytes are always together in the first buffer.
struct Crumbs<R> {
    start: io::Cursor<Vec<u8>>,
    rest: R,
}

impl<R: BufRead> Crumbs<R> {
    fn new(mut rest: R) -> io::Result<Self> {
        let mut start = Vec::with_capacity(4);
        (&mut rest).take(4).read_to_end(&mut start)?;
        Ok(Crumbs {
            start: io::Cursor::new(start),
            rest,
        })
    }
}

impl<R: BufRead> BufRead for Crumbs<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start.fill_buf()?.is_empty() {
            self.rest.fill_buf()
        } else {
            self.start.fill_buf()
        }
    }

    fn consume(&mut self, amount: usize) {
        let held = self.start.fill_buf().map_or(0, <[u8]>::len);
        if held > 0 {
            self.start.consume(amount)
        } else {
            self.rest.consume(amount)
        }
    }
}

impl<R: BufRead> Read for Crumbs<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(buffer)?;
        self.consume(n);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// Gives one byte a read.
    struct Slow<'a>(&'a [u8]);
    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n = self.0.len().min(1).min(buffer.len());
            buffer[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    #[test]
    fn members_and_frames_are_joined() {
        let gz = [gzip(b"one "), gzip(b"two")].concat();
        let zs = [
            zstd::encode_all(&b"one "[..], 1).unwrap(),
            // A skippable frame of three bytes between the two.
            vec![0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3],
            zstd::encode_all(&b"two"[..], 1).unwrap(),
        ]
        .concat();
        for stream in [gz, zs, b"one two".to_vec()] {
            for slow in [false, true] {
                let mut out = Vec::new();
                if slow {
                    let reader = io::BufReader::with_capacity(1, Slow(&stream));
                    decoder(reader).unwrap().read_to_end(&mut out).unwrap();
                } else {
                    decoder(&stream[..]).unwrap().read_to_end(&mut out).unwrap();
                }
                assert_eq!(out, b"one two");
            }
        }
    }

    #[test]
    fn a_cut_stream_is_an_error() {
        for whole in [
            gzip(&[7; 1000]),
            zstd::encode_all(&[7u8; 1000][..], 1).unwrap(),
        ] {
            let mut out = Vec::new();
            assert!(
                decoder(&whole[..whole.len() - 2])
                    .unwrap()
                    .read_to_end(&mut out)
                    .is_err()
            );
        }
    }
}
