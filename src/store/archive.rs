//! Reading tar archives that hold images (docker-archive, oci-archive): member by member, from a pipe
//! if need be. The framing is that of layers ([`super::unpack`]), with the same limits.

use std::io::{self, BufRead, Read};

use super::unpack::{Kind, Reason, TarStream, UnpackError};

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Member {
    /// A regular file; its data is read from the [`Archive`].
    File,
    /// A link, symbolic or hard, to this name (relative to the archive's root).
    Link(String),
    /// Something of no interest, such as a directory.
    Other,
}

/// An archive under way. As a reader it gives the data of the member that [`Archive::next`] told
/// about last.
pub struct Archive<R> {
    stream: TarStream<R>,
}

impl<R: BufRead> Archive<R> {
    /// Starts at the beginning of `source`.
    pub fn new(source: R) -> Self {
        Archive {
            stream: TarStream::new(source),
        }
    }

    /// The next member: its name without leading `./`, and what it is.
    ///
    /// # Errors
    /// A broken archive, or one with a link or name that leads outside.
    pub fn next_member(&mut self) -> Result<Option<(String, Member)>, UnpackError> {
        let Some(entry) = self.stream.next()? else {
            return Ok(None);
        };
        let refuse = |reason| UnpackError::entry(&entry.path, reason);
        let name = normal(&entry.path, b"").map_err(refuse)?;
        let member = match entry.kind {
            Kind::File => Member::File,
            Kind::Symlink => {
                let dir = entry
                    .path
                    .iter()
                    .rposition(|&b| b == b'/')
                    .map_or(0, |slash| slash);
                Member::Link(normal(&entry.link, &entry.path[..dir]).map_err(refuse)?)
            }
            Kind::HardLink => Member::Link(normal(&entry.link, b"").map_err(refuse)?),
            _ => Member::Other,
        };
        Ok(Some((name, member)))
    }
}

impl<R: BufRead> Read for Archive<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = self
            .stream
            .data(buffer.len() as u64)
            .map_err(|reason| match reason {
                Reason::Read(error) => error,
                reason => io::Error::other(reason.to_string()),
            })?;
        let n = piece.len();
        buffer[..n].copy_from_slice(piece);
        self.stream.consume(n);
        Ok(n)
    }
}

/// `path` seen from `base`, as a name in the archive. Nothing is looked up on disk, so `..` can be
/// taken as text.
fn normal(path: &[u8], base: &[u8]) -> Result<String, Reason> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in base.split(|&b| b == b'/').chain(path.split(|&b| b == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop().ok_or(Reason::DotDot)?;
            }
            part => parts.push(part),
        }
    }
    Ok(String::from_utf8_lossy(&parts.join(&b'/')).into_owned())
}
