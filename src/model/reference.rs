//! Image references as Docker writes them: `[host[:port]/]name[:tag][@digest]`
//! (the distribution project's reference grammar; short names belong to docker.io/library).

/// A normalised image reference.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<super::Digest>,
}
