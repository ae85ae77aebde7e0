//! Images that go: `--rmi`, and the room of those that are gone.

use super::images::{self, ImageError, Removed};
use super::{Context, Error, image_for};
use crate::model::spec::ContainerSpec;
use crate::store::Store;
use crate::userns;

/// Removes the image of a container that has gone, unless another one uses it, which is told. As for `rl rmi`, an image
/// with further names loses the one that the container was run by.
///
/// # Errors
/// The store cannot be read.
pub(super) fn with(context: &Context<'_>, spec: &ContainerSpec) -> Result<(), Error> {
    let Some(id) = &spec.image_id else {
        return Ok(());
    };
    let store = Store::open(&context.dirs.data)?;
    // What was run by another word than a name, such as `oci:DIRECTORY`, has an id.
    let by_name = images::find(&store, &spec.image).is_ok_and(|image| image.id == *id);
    let word = match by_name {
        true => spec.image.clone(),
        false => id.to_string(),
    };
    match images::remove(&store, &word, false) {
        Ok(done) => {
            done.iter()
                .for_each(|removed| context.image_removed(removed));
            match done
                .iter()
                .any(|removed| matches!(removed, Removed::Deleted(_)))
            {
                true => collect(context),
                false => Ok(()),
            }
        }
        // Somebody else has removed it.
        Err(ImageError::NotFound(_)) => Ok(()),
        Err(error @ (ImageError::InUse { .. } | ImageError::SeveralNames { .. })) => {
            context
                .ui
                .notice(&format!("`--rmi`: the image stays: {error}"));
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Frees the room of images that are gone.
///
/// # Errors
/// The store cannot be read or written.
pub fn collect(context: &Context<'_>) -> Result<(), Error> {
    let plan = userns::plan(&userns::Mode::Default, context.caller()?)?;
    image_for::inside(context, &plan, || {
        match Store::open(&context.dirs.data)?.gc(false)? {
            Some(_) => Ok(()),
            None => {
                context
                    .ui
                    .detail("the store is in use; the space is freed by the next removal");
                Ok(())
            }
        }
    })
}
