//! The way of a layer from its reader to the disk, on two threads and a fixed amount of memory.
//!
//! ```text
//! caller's thread                                          second thread
//! reader ► Tee (blob file + sha256) ► inflate ► chunks ═══► sha256 (diff id) ► tar ► files
//!                                                  ▲═══════ empty buffers
//! ```
//!
//! Six buffers of 256 KiB go round. When something goes wrong with the content, the rest of the blob
//! is still read and hashed: "wrong digest" is the better answer when both are true.

use std::io::{self, BufRead, Read, Write as _};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use sha2::{Digest as _, Sha256};

use super::frames::Windows;
use super::unpack::{self, Owners, UnpackError};
use super::{BlobWriter, Result, StoreError, decode};
use crate::model::Digest;
use crate::sys::fs::Root;

/// Compressed bytes read at once.
const READ_SIZE: usize = 128 << 10;
/// Uncompressed bytes in a chunk.
const CHUNK_SIZE: usize = 256 << 10;
/// Chunks under way; two more are in the hands of the threads.
const DEPTH: usize = 4;

/// What a layer must turn out to be.
pub(super) struct Job {
    pub blob: Digest,
    /// Bytes of the blob.
    pub size: u64,
    pub diff_id: Digest,
}

/// Why the compressed side stopped.
enum Fault {
    Reader(io::Error),
    Blob(io::Error),
    TooLong,
}

/// Reads the blob in large pieces, and copies each to the blob file and the hash.
struct Tee<'a, 'p, R> {
    reader: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    left: u64,
    size: u64,
    hasher: Sha256,
    writer: Option<BlobWriter<'a>>,
    progress: &'p dyn Fn(u64),
    fault: Option<Fault>,
}

impl<'a, 'p, R: Read> Tee<'a, 'p, R> {
    fn new(
        reader: R,
        size: u64,
        writer: Option<BlobWriter<'a>>,
        progress: &'p dyn Fn(u64),
    ) -> Self {
        Tee {
            reader,
            buffer: vec![0; READ_SIZE],
            start: 0,
            end: 0,
            left: size,
            size,
            hasher: Sha256::new(),
            writer,
            progress,
            fault: None,
        }
    }

    fn refill(&mut self) -> std::result::Result<(), Fault> {
        let n = loop {
            match self.reader.read(&mut self.buffer) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other.map_err(Fault::Reader)?,
            }
        };
        let bytes = &self.buffer[..n];
        self.left = self.left.checked_sub(n as u64).ok_or(Fault::TooLong)?;
        match &mut self.writer {
            Some(writer) => writer.write_all(bytes).map_err(Fault::Blob)?,
            None => self.hasher.update(bytes),
        }
        (self.start, self.end) = (0, n);
        (self.progress)(n as u64);
        Ok(())
    }

    /// Reads to the end, then checks length and digest. The blob gets its name only if `keep`.
    fn finish(mut self, job: &Job, keep: bool) -> Result<()> {
        while self.fault.is_none() {
            match self.fill_buf() {
                Ok([]) => break,
                Ok(piece) => {
                    let n = piece.len();
                    self.consume(n);
                }
                Err(_) => {}
            }
        }
        let path = self.writer.as_ref().map(|w| w.path().display().to_string());
        match self.fault {
            Some(Fault::Reader(source)) => {
                return Err(StoreError::Stream {
                    layer: job.blob,
                    source,
                });
            }
            Some(Fault::Blob(source)) => {
                let call = format!("write(`{}`)", path.unwrap_or_default());
                return Err(StoreError::Io { call, source });
            }
            Some(Fault::TooLong) => return Err(wrong_size(job, self.size + 1)),
            None => {}
        }
        if self.left > 0 {
            return Err(wrong_size(job, self.size - self.left));
        }
        match self.writer {
            Some(writer) if keep => writer.finish(Some(job.blob)).map(drop),
            Some(writer) => writer.check(job.blob),
            None => {
                let actual = Digest::from_bytes(self.hasher.finalize().into());
                if actual == job.blob {
                    Ok(())
                } else {
                    Err(StoreError::Digest {
                        expected: job.blob,
                        actual,
                    })
                }
            }
        }
    }
}

fn wrong_size(job: &Job, actual: u64) -> StoreError {
    StoreError::Size {
        digest: job.blob,
        expected: job.size,
        actual,
    }
}

impl<R: Read> BufRead for Tee<'_, '_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end
            && self.fault.is_none()
            && let Err(fault) = self.refill()
        {
            self.fault = Some(fault);
            self.start = self.end;
        }
        if self.fault.is_some() {
            return Err(io::Error::other("the compressed stream broke off"));
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, amount: usize) {
        self.start += amount;
    }
}

impl<R: Read> Read for Tee<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(buffer)?;
        self.consume(n);
        Ok(n)
    }
}

/// One message of the decoding thread; the stream is whole only if `End` was seen.
enum Chunk {
    Data(Vec<u8>),
    End,
}

/// The uncompressed stream on the other side; hashes what comes through.
struct Chunks {
    full: Receiver<Chunk>,
    empty: SyncSender<Vec<u8>>,
    current: Vec<u8>,
    pos: usize,
    ended: bool,
    hasher: Sha256,
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.pos == self.current.len() && !self.ended {
            let spent = std::mem::take(&mut self.current);
            self.pos = 0;
            if spent.capacity() > 0 {
                // Nobody needs it any more when the other side is done.
                let _ = self.empty.try_send(spent);
            }
            match self.full.recv() {
                Ok(Chunk::Data(data)) => {
                    self.hasher.update(&data);
                    self.current = data;
                }
                Ok(Chunk::End) => self.ended = true,
                Err(_) => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
        Ok(&self.current[self.pos..])
    }

    fn consume(&mut self, amount: usize) {
        self.pos += amount;
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(buffer)?;
        self.consume(n);
        Ok(n)
    }
}

/// Unpacks a layer into `root` and stores its blob if there is a `writer`.
pub(super) fn run(
    reader: impl Read,
    job: &Job,
    writer: Option<BlobWriter<'_>>,
    root: Root,
    owners: &Owners,
    windows: &Windows,
    progress: &dyn Fn(u64),
) -> Result<unpack::Report> {
    let mut tee = Tee::new(reader, job.size, writer, progress);
    let (full_in, full) = sync_channel(DEPTH);
    let (empty, empty_out) = sync_channel(DEPTH + 2);
    let (decoded, unpacked) = thread::scope(|scope| {
        let worker = thread::Builder::new().spawn_scoped(scope, move || {
            let chunks = Chunks {
                full,
                empty,
                current: Vec::new(),
                pos: 0,
                ended: false,
                hasher: Sha256::new(),
            };
            unpack_side(chunks, root, owners)
        });
        let worker = worker.map_err(StoreError::io(|| "spawn(thread)".to_owned()))?;
        let decoded = decode_side(&mut tee, windows, &full_in, &empty_out);
        drop(full_in);
        let unpacked = worker
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Result::Ok((decoded, unpacked))
    })?;
    let unpack_error = |source| StoreError::Unpack {
        layer: job.blob,
        source,
    };
    match (decoded, unpacked) {
        (Ok(()), Ok((report, actual))) if actual == job.diff_id => {
            tee.finish(job, true)?;
            Ok(report)
        }
        (Ok(()), Ok((_, actual))) => {
            tee.finish(job, false)?;
            Err(StoreError::DiffId {
                layer: job.blob,
                expected: job.diff_id,
                actual,
            })
        }
        // This machine's fault, not the content's: no need to see the rest.
        (_, Err(error)) if !error.is_content() => Err(unpack_error(error)),
        (Err(source), _) => {
            tee.finish(job, false)?;
            Err(StoreError::Stream {
                layer: job.blob,
                source,
            })
        }
        (Ok(()), Err(error)) => {
            tee.finish(job, false)?;
            Err(unpack_error(error))
        }
    }
}

/// Stores a blob without looking inside.
pub(super) fn store_only(
    reader: impl Read,
    job: &Job,
    writer: BlobWriter<'_>,
    progress: &dyn Fn(u64),
) -> Result<()> {
    Tee::new(reader, job.size, Some(writer), progress).finish(job, true)
}

/// Decompresses into chunks until the end, or until the other side has gone (which is no error here).
fn decode_side(
    tee: &mut impl BufRead,
    windows: &Windows,
    full: &SyncSender<Chunk>,
    empty: &Receiver<Vec<u8>>,
) -> io::Result<()> {
    let mut decoder = decode::decoder_within(tee, windows)?;
    let mut made = 0;
    loop {
        // No more buffers than can be under way: past that number, wait for one to come back.
        let mut chunk = if made < DEPTH + 2 {
            made += 1;
            vec![0; CHUNK_SIZE]
        } else {
            match empty.recv() {
                Ok(chunk) => chunk,
                Err(_) => return Ok(()),
            }
        };
        chunk.resize(CHUNK_SIZE, 0);
        let mut filled = 0;
        while filled < CHUNK_SIZE {
            match decoder.read(&mut chunk[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        chunk.truncate(filled);
        let last = filled < CHUNK_SIZE;
        if full.send(Chunk::Data(chunk)).is_err() {
            return Ok(());
        }
        if last {
            let _ = full.send(Chunk::End);
            return Ok(());
        }
    }
}

/// Unpacks, then reads on to the end: the diff id covers what follows the archive too.
fn unpack_side(
    mut chunks: Chunks,
    root: Root,
    owners: &Owners,
) -> std::result::Result<(unpack::Report, Digest), UnpackError> {
    let report = unpack::unpack(&mut chunks, root, owners)?;
    loop {
        let n = chunks.fill_buf().map_err(UnpackError::Read)?.len();
        if n == 0 {
            break;
        }
        chunks.consume(n);
    }
    Ok((report, Digest::from_bytes(chunks.hasher.finalize().into())))
}
