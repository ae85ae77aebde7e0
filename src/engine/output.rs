//! Where an archive goes.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use super::Error;

const BUFFER: usize = 256 << 10;

/// Runs `write` on a file beside `path`, which is then renamed: what is interrupted leaves what was there. A pipe or
/// device is written as it is.
///
/// # Errors
/// The file cannot be made or renamed, and those of `write`.
pub fn to_file<E: From<Error>>(
    path: &Path,
    write: impl FnOnce(BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    let failed = |source| {
        E::from(Error::Write {
            path: path.to_owned(),
            source,
        })
    };
    if path.exists() && !path.is_file() {
        let file = File::options().write(true).open(path).map_err(failed)?;
        return write(BufWriter::with_capacity(BUFFER, file));
    }
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let file = File::create(&part).map_err(failed)?;
    let result = write(BufWriter::with_capacity(BUFFER, file))
        .and_then(|()| std::fs::rename(&part, path).map_err(failed));
    if result.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    result
}

/// Standard output, not as [`std::io::Stdout`], which would look for line ends.
///
/// # Errors
/// It is closed.
pub fn stdout() -> Result<BufWriter<File>, Error> {
    let out = rustix::io::dup(rustix::stdio::stdout()).map_err(|errno| Error::Write {
        path: "standard output".into(),
        source: errno.into(),
    })?;
    Ok(BufWriter::with_capacity(BUFFER, File::from(out)))
}
