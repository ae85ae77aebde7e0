//! zstd streams, frame by frame (RFC 8878), within a fixed amount of memory.
//!
//! A frame says in its header how far back it refers: its window, which the decoder has to hold. The
//! writer of a layer chooses that (8 MiB at `zstd -19`, 128 MiB with `--long=27`), and several layers
//! are decoded at once. So the header is read before the decoder sees it, and the window is taken
//! from what all decoders of one [`Windows`] share: who finds too little left waits, holding
//! nothing, until another stream has ended. What is larger than all of it is refused.

use std::io::{self, BufRead, Read};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation as _, OutBuffer};

/// Bytes of windows held at once, and so the largest one taken (`zstd --long=25`). Four layers of the
/// 8 MiB that RFC 8878 (section 3.1.1.1.2) asks decoders to support fit side by side.
pub(super) const WINDOWS: u64 = 32 << 20;
/// [`WINDOWS`] as zstd wants it.
const WINDOW_LOG_MAX: u32 = WINDOWS.ilog2();
/// The longest frame header (RFC 8878, section 3.1.1.1) with its magic number.
const HEADER_MAX: usize = 18;

/// A frame that needs more memory than is given.
#[derive(Debug, thiserror::Error)]
#[error("zstd frame with a window of {} MiB, more than the {} MiB that are decoded", .0.div_ceil(1 << 20), WINDOWS >> 20)]
pub(super) struct WindowError(u64);

/// Memory for windows, shared by its clones.
#[derive(Clone, Debug)]
pub(super) struct Windows(Arc<(Mutex<u64>, Condvar)>);

impl Default for Windows {
    fn default() -> Self {
        Windows(Arc::new((Mutex::new(WINDOWS), Condvar::new())))
    }
}

impl Windows {
    /// Waits until there is room for a window of `size` bytes.
    fn take(&self, size: u64) -> Share {
        let (free, freed) = &*self.0;
        let left = free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = freed
            .wait_while(left, |left| *left < size)
            .unwrap_or_else(PoisonError::into_inner);
        *left -= size;
        Share {
            windows: self.clone(),
            size,
        }
    }
}

/// Room for a window, given back when dropped.
struct Share {
    windows: Windows,
    size: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        let (free, freed) = &*self.windows.0;
        *free.lock().unwrap_or_else(PoisonError::into_inner) += self.size;
        freed.notify_all();
    }
}

/// The content of a sequence of frames.
pub(super) struct Frames<R> {
    reader: R,
    windows: Windows,
    /// Read ahead to see a header; the decoder gets it first.
    head: Vec<u8>,
    inside: bool,
    /// Keeps its memory from frame to frame, and so does the share it comes from.
    decoder: Option<(Decoder<'static>, Share)>,
}

impl<R: BufRead> Frames<R> {
    pub(super) fn new(reader: R, windows: Windows) -> Self {
        Frames {
            reader,
            windows,
            head: Vec::with_capacity(HEADER_MAX),
            inside: false,
            decoder: None,
        }
    }

    /// Looks at the next frame's header; `false` at the end of the stream.
    fn begin(&mut self) -> io::Result<bool> {
        let missing = (HEADER_MAX - self.head.len()) as u64;
        (&mut self.reader)
            .take(missing)
            .read_to_end(&mut self.head)?;
        if self.head.is_empty() {
            return Ok(false);
        }
        let size = window(&self.head);
        if size > WINDOWS {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                WindowError(size),
            ));
        }
        if self
            .decoder
            .as_ref()
            .is_none_or(|(_, share)| share.size < size)
        {
            self.decoder = None;
            let share = self.windows.take(size);
            let mut decoder = Decoder::new()?;
            decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
            self.decoder = Some((decoder, share));
        }
        self.inside = true;
        Ok(true)
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.inside && !self.begin()? {
                return Ok(0);
            }
            let Some((decoder, _)) = &mut self.decoder else {
                return Ok(0);
            };
            let ahead = !self.head.is_empty();
            let source = if ahead {
                &self.head[..]
            } else {
                self.reader.fill_buf()?
            };
            let ended = source.is_empty();
            let mut input = InBuffer::around(source);
            let mut output = OutBuffer::around(&mut *buffer);
            let hint = decoder.run(&mut input, &mut output)?;
            let (read, written) = (input.pos(), output.pos());
            if ahead {
                self.head.drain(..read);
            } else {
                self.reader.consume(read);
            }
            self.inside = hint != 0;
            if written > 0 {
                return Ok(written);
            }
            if ended && self.inside {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// The window that the frame with this header asks for, in bytes; 0 when it is none, or cut off,
/// which the decoder will tell.
fn window(header: &[u8]) -> u64 {
    const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    let Some(rest) = header.strip_prefix(&MAGIC) else {
        return 0;
    };
    let Some((&descriptor, rest)) = rest.split_first() else {
        return 0;
    };
    let single_segment = descriptor & 0x20 != 0;
    if !single_segment {
        let Some(&byte) = rest.first() else { return 0 };
        let base = 1u64 << (10 + (byte >> 3));
        return base + base / 8 * u64::from(byte & 7);
    }
    // The window is the content.
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let length = [1, 2, 4, 8][usize::from(descriptor >> 6)];
    let Some(field) = rest.get(dictionary..dictionary + length) else {
        return 0;
    };
    let mut size = [0u8; 8];
    size[..length].copy_from_slice(field);
    u64::from_le_bytes(size) + if length == 2 { 256 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn frame(content: &[u8], window_log: u32) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn read(stream: &[u8], windows: &Windows) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Frames::new(stream, windows.clone()).read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn windows_are_told_from_headers() {
        for log in [10, 17, 23, 25, 27] {
            assert_eq!(window(&frame(b"x", log)), 1 << log, "{log}");
        }
        for size in [0usize, 1, 200, 255, 256, 70_000] {
            let mut encoder = zstd::bulk::Compressor::new(1).unwrap();
            let single = encoder.compress(&vec![7; size]).unwrap();
            assert!(single[4] & 0x20 != 0);
            assert_eq!(window(&single), size as u64);
        }
        assert_eq!(window(&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0]), 0);
    }

    #[test]
    fn windows_grow_within_a_stream_and_are_given_back() {
        let windows = Windows::default();
        let stream = [
            frame(b"one ", 20),
            frame(b"", 12),
            frame(b"two ", 25),
            vec![0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0],
            frame(b"three", 23),
        ]
        .concat();
        assert_eq!(read(&stream, &windows).unwrap(), b"one two three");
        assert_eq!(*windows.0.0.lock().unwrap(), WINDOWS);
    }

    #[test]
    fn a_window_beyond_the_limit_is_refused() {
        let windows = Windows::default();
        let error = read(&[frame(b"a", 20), frame(b"b", 27)].concat(), &windows).unwrap_err();
        let text = "zstd frame with a window of 128 MiB, more than the 32 MiB that are decoded";
        assert_eq!(error.to_string(), text);
        assert_eq!(*windows.0.0.lock().unwrap(), WINDOWS);
    }

    #[test]
    fn streams_wait_for_each_other() {
        let windows = Windows::default();
        let stream = frame(&[7; 100_000], 25);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert_eq!(read(&stream, &windows).unwrap().len(), 100_000));
            }
        });
    }
}
