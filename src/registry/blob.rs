//! Blobs as streams that survive a cut connection.
//!
//! A reader opens its connection at the first read. When the connection breaks it opens another at
//! the offset reached: 206 goes on from there, 200 (a server that ignores `Range`) and 416 start
//! over and the bytes already delivered are read again and dropped. It never delivers more than the
//! descriptor's size, and never ends before it.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};
use ureq::BodyReader;
use ureq::http::{HeaderMap, StatusCode};

use super::error::Error;
use super::http::failure;
use super::manifest::Descriptor;
use super::{Client, RepositoryName};
use crate::model::Digest;

/// Connections tried in a row that bring less than [`PROGRESS`].
const TRIES: u32 = 6;
/// Bytes that count as getting further.
const PROGRESS: u64 = 1 << 20;

/// A blob's bytes, exactly as many as its descriptor says. The digest is checked where they are
/// stored, or by [`VerifyingReader`].
pub struct BlobReader {
    client: Client,
    repository: RepositoryName,
    descriptor: Descriptor,
    offset: u64,
    body: Option<BodyReader<'static>>,
    /// Failures since `progress_at`.
    tries: u32,
    progress_at: u64,
}

impl std::fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "BlobReader({} at {} of {})",
            self.descriptor.digest, self.offset, self.descriptor.size
        )
    }
}

impl BlobReader {
    pub(super) fn new(client: Client, repository: RepositoryName, descriptor: Descriptor) -> Self {
        BlobReader {
            client,
            repository,
            descriptor,
            offset: 0,
            body: None,
            tries: 0,
            progress_at: 0,
        }
    }

    /// Opens a connection that stands at `self.offset`.
    fn open(&self, with_range: bool) -> Result<BodyReader<'static>, Error> {
        let path = format!("blobs/{}", self.descriptor.digest);
        let mut headers = vec![("accept-encoding", "identity".to_owned())];
        let ranged = with_range && self.offset > 0;
        if ranged {
            headers.push(("range", format!("bytes={}-", self.offset)));
        }
        let (uri, answer) = self
            .client
            .request(&self.repository, &path, headers, false)?;
        let size = self.descriptor.size;
        let skip = match answer.status() {
            StatusCode::OK => {
                if let Some(length) = answer
                    .body()
                    .content_length()
                    .filter(|&length| length != size)
                {
                    return Err(Error::SizeMismatch {
                        what: self.what(),
                        expected: size,
                        actual: length,
                    });
                }
                self.offset
            }
            StatusCode::PARTIAL_CONTENT if ranged => {
                let protocol = |what| Error::Protocol {
                    host: super::http::authority(&uri),
                    what,
                };
                let (start, total) = content_range(answer.headers())
                    .ok_or_else(|| protocol("a partial answer without a usable Content-Range"))?;
                if let Some(total) = total.filter(|&total| total != size) {
                    return Err(Error::SizeMismatch {
                        what: self.what(),
                        expected: size,
                        actual: total,
                    });
                }
                self.offset
                    .checked_sub(start)
                    .ok_or_else(|| protocol("a partial answer that leaves a gap"))?
            }
            StatusCode::RANGE_NOT_SATISFIABLE if ranged => return self.open(false),
            _ => return Err(failure(&uri, answer)),
        };
        let mut body = answer.into_body().into_reader();
        let skipped = io::copy(&mut (&mut body).take(skip), &mut io::sink());
        match skipped {
            Ok(count) if count == skip => Ok(body),
            other => {
                let error = other
                    .err()
                    .unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
                Err(Error::Broken {
                    host: super::http::authority(&uri),
                    source: Box::new(error.into()),
                })
            }
        }
    }

    fn what(&self) -> String {
        format!("blob `{}`", self.descriptor.digest)
    }

    /// Counts a failure; an error when it was one too many.
    fn failed(&mut self, error: io::Error) -> io::Result<()> {
        self.body = None;
        if self.client.is_cancelled() {
            return Err(Error::Cancelled.into_io());
        }
        if self.offset - self.progress_at >= PROGRESS {
            self.tries = 0;
            self.progress_at = self.offset;
        }
        self.tries += 1;
        if self.tries >= TRIES {
            return Err(Error::Cut {
                digest: self.descriptor.digest,
                offset: self.offset,
                size: self.descriptor.size,
                tries: self.tries,
                source: error,
            }
            .into_io());
        }
        self.client.wait(self.tries - 1).map_err(Error::into_io)
    }

    /// After the last byte: lets the connection go back to the pool, and refuses a surplus.
    fn finish(&mut self) -> io::Result<()> {
        let Some(mut body) = self.body.take() else {
            return Ok(());
        };
        match body.read(&mut [0]) {
            Ok(n) if n > 0 => {
                let size = self.descriptor.size;
                Err(Error::SizeMismatch {
                    what: self.what(),
                    expected: size,
                    actual: size + 1,
                }
                .into_io())
            }
            // A connection that breaks here has delivered all there is.
            _ => Ok(()),
        }
    }
}

impl Read for BlobReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.descriptor.size - self.offset;
        if left == 0 || buf.is_empty() {
            return Ok(0);
        }
        let want = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        loop {
            let body = match &mut self.body {
                Some(body) => body,
                None => match self.open(true) {
                    Ok(body) => self.body.insert(body),
                    // What `open` retried already in vain, or what no retry mends.
                    Err(error @ (Error::Broken { .. } | Error::Unreachable { .. }))
                        if self.offset > 0 =>
                    {
                        self.failed(error.into_io())?;
                        continue;
                    }
                    Err(error) => return Err(error.into_io()),
                },
            };
            let error = match body.read(&mut buf[..want]) {
                Ok(0) => io::ErrorKind::UnexpectedEof.into(),
                Ok(count) => {
                    self.offset += count as u64;
                    if self.offset == self.descriptor.size {
                        self.finish()?;
                    }
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
                Err(error) => error,
            };
            self.failed(error)?;
        }
    }
}

/// `bytes START-END/TOTAL` (RFC 9110, section 14.4): the start, and the total when it is known.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let text = headers
        .get("content-range")?
        .to_str()
        .ok()?
        .trim()
        .strip_prefix("bytes")?
        .trim_start();
    let (range, total) = text.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    let total = if total == "*" {
        None
    } else {
        Some(total.parse().ok()?)
    };
    Some((start.trim().parse().ok()?, total))
}

/// Passes bytes through and fails at their end when their digest is not the expected one.
#[derive(Debug)]
pub struct VerifyingReader<R> {
    inner: R,
    hasher: Option<Sha256>,
    expected: Digest,
}

impl<R: Read> VerifyingReader<R> {
    /// Reads `inner`, whose bytes should have the digest `expected`.
    pub fn new(inner: R, expected: Digest) -> Self {
        VerifyingReader {
            inner,
            hasher: Some(Sha256::new()),
            expected,
        }
    }
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buf)?;
        if count > 0 {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&buf[..count]);
            }
        } else if !buf.is_empty()
            && let Some(hasher) = self.hasher.take()
        {
            let actual = Digest::from_bytes(hasher.finalize().into());
            if actual != self.expected {
                let what = "blob".to_owned();
                return Err(Error::DigestMismatch {
                    what,
                    expected: self.expected,
                    actual,
                }
                .into_io());
            }
        }
        Ok(count)
    }
}

/// The digest of these bytes.
pub(super) fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("content-range", text.parse().unwrap());
            content_range(&headers)
        };
        assert_eq!(of("bytes 10-19/20"), Some((10, Some(20))));
        assert_eq!(of("bytes 10-19/*"), Some((10, None)));
        assert_eq!(of("bytes */20"), None);
        assert_eq!(of("items 1-2/3"), None);
    }

    #[test]
    fn verifies_at_the_end() {
        let mut out = Vec::new();
        let good = digest_of(b"hello");
        VerifyingReader::new(&b"hello"[..], good)
            .read_to_end(&mut out)
            .unwrap();
        assert_eq!(out, b"hello");
        let error = VerifyingReader::new(&b"hullo"[..], good)
            .read_to_end(&mut out)
            .unwrap_err();
        assert!(matches!(
            Error::from_io(error),
            Ok(Error::DigestMismatch { .. })
        ));
    }
}
