//! `rl rmi`: names go first, the image with its last name, the bytes with the last image that uses
//! them.

use serde::Deserialize;

use super::{ImageError, Result, containers_dir};
use crate::model::{Digest, Reference};
use crate::store::{Image, Store};

/// One thing that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// The name was taken away.
    Untagged(Reference),
    /// The image of this id is gone.
    Deleted(Digest),
}

/// The fields of a container's `spec.json` that matter here.
#[derive(Deserialize)]
struct Spec {
    image_id: Option<String>,
}

/// The short ids of the containers made from the image of this id.
pub fn containers_of(store: &Store, id: &Digest) -> Vec<String> {
    let text = id.to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(containers_dir(store))
        .into_iter()
        .flatten()
        .flatten()
    {
        let mut name = entry.file_name().to_string_lossy().into_owned();
        // One that has ended with `--rm` is nobody's user any more, though its files are still being removed.
        if !crate::state::is_id(&name) {
            continue;
        }
        let spec = std::fs::read(entry.path().join("spec.json"))
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Spec>(&bytes).ok());
        if spec
            .and_then(|s| s.image_id)
            .is_some_and(|used| used == text || used == id.hex())
        {
            name.truncate(12);
            found.push(name);
        }
    }
    found.sort();
    found
}

/// Removes the image or name that `word` says. A name is only taken away while the image has others;
/// with its last name the image goes. An id of several names, or of an image that containers use,
/// needs `force`; an image in use then loses its names and stays. Blobs and layers are collected by
/// [`Store::gc`], which the caller runs once at the end.
///
/// # Errors
/// [`ImageError::NotFound`], [`ImageError::InUse`], [`ImageError::SeveralNames`].
pub fn remove(store: &Store, word: &str, force: bool) -> Result<Vec<Removed>> {
    let found = super::find(store, word);
    let image = match found {
        Ok(image) => image,
        // A damaged image cannot be read, but its name can be taken away.
        Err(ImageError::Store(error)) if force => {
            let reference: Reference = word.parse()?;
            if store.untag(&reference, false)? {
                return Ok(vec![Removed::Untagged(reference)]);
            }
            return Err(error.into());
        }
        Err(error) => return Err(error),
    };
    let by_name = word
        .parse::<Reference>()
        .ok()
        .filter(|r| image.references.contains(r));
    let users = containers_of(store, &image.id);
    if let Some(name) = &by_name {
        if image.references.len() > 1 {
            store.untag(name, true)?;
            return Ok(vec![Removed::Untagged(name.clone())]);
        }
    } else if image.references.len() > 1 && !force {
        return Err(ImageError::SeveralNames {
            image: word.to_owned(),
            names: image.references.iter().map(Reference::familiar).collect(),
        });
    }
    if !users.is_empty() && !force {
        return Err(ImageError::InUse {
            image: word.to_owned(),
            containers: users,
        });
    }
    take_away(store, &image, users.is_empty())
}

fn take_away(store: &Store, image: &Image, whole: bool) -> Result<Vec<Removed>> {
    let mut done = Vec::new();
    for name in &image.references {
        store.untag(name, true)?;
        done.push(Removed::Untagged(name.clone()));
    }
    if whole {
        store.forget(&image.target)?;
        done.push(Removed::Deleted(image.id));
    }
    Ok(done)
}

/// Whether a path looks like a container's directory; for the tests.
#[cfg(test)]
fn make_container(root: &std::path::Path, id: &str, image: &Digest) {
    let dir = root.join("containers").join(id);
    std::fs::create_dir_all(&dir).unwrap();
    let spec = serde_json::json!({"image_id": image.to_string(), "other": 1});
    std::fs::write(dir.join("spec.json"), spec.to_string()).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_found_by_image() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let id = store.put_blob(b"{}").unwrap();
        assert!(containers_of(&store, &id).is_empty());
        let container = "0123456789abcdef".repeat(4);
        make_container(dir.path(), &format!("{container}.gone"), &id);
        assert!(containers_of(&store, &id).is_empty());
        make_container(dir.path(), &container, &id);
        std::fs::create_dir(dir.path().join("containers/broken")).unwrap();
        assert_eq!(containers_of(&store, &id), ["0123456789ab"]);
    }
}
