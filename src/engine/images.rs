//! Verbs over images (to be written).
use super::{Context, Error};
use crate::model::Reference;
use crate::model::reference::Source;
use crate::userns;

/// Takes an image from another place into the store.
///
/// # Errors
/// Not there yet.
pub fn take_in(
    _context: &Context<'_>,
    _source: &Source,
    _plan: &userns::Plan,
) -> Result<Reference, Error> {
    Err(Error::NoImage)
}
