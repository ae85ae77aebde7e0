//! `rl inspect IMAGE`: Docker's JSON for an image. The configuration is passed on as the image has it,
//! with the fields that are Docker's own and not in the OCI specification (health check, shell …).

use serde_json::{Map, Value, json};

use super::{ImageError, Result};
use crate::store::{Image, Store};

/// What `docker image inspect` prints for one image, as far as it has a meaning here.
///
/// # Errors
/// The configuration cannot be read.
pub fn inspect(store: &Store, image: &Image) -> Result<Value> {
    let bytes = store.read_blob(&image.id)?;
    let config: Value = serde_json::from_slice(&bytes)
        .map_err(ImageError::json(|| format!("configuration `{}`", image.id)))?;
    let field = |name: &str| config.get(name).cloned().unwrap_or(Value::Null);
    let text = |name: &str| field(name).as_str().unwrap_or_default().to_owned();
    let mut names: Vec<String> = Vec::new();
    let mut digests: Vec<String> = Vec::new();
    for reference in &image.references {
        if reference.tag().is_some() {
            names.push(reference.familiar());
        }
        let digest = reference.digest().unwrap_or(image.target);
        let digest = format!("{}@{digest}", reference.familiar_name());
        if !digests.contains(&digest) {
            digests.push(digest);
        }
    }
    let history = field("history");
    let comment = history
        .as_array()
        .and_then(|h| h.last())
        .and_then(|h| h.get("comment"))
        .cloned();
    let mut out = Map::new();
    let mut set = |key: &str, value: Value| {
        out.insert(key.to_owned(), value);
    };
    set("Id", json!(image.id.to_string()));
    set("RepoTags", json!(names));
    set("RepoDigests", json!(digests));
    set("Digest", json!(image.manifest.to_string()));
    // As docker has it, of those that were made here of another one which still is here.
    let parent = image.parent.map(|id| id.to_string());
    let parent = match parent {
        Some(id) => store.image_by_id(&id)?.map(|_| id),
        None => None,
    };
    set("Parent", json!(parent.unwrap_or_default()));
    set("Comment", comment.unwrap_or_else(|| json!("")));
    set("Created", field("created"));
    set("Author", json!(text("author")));
    set("Config", field("config"));
    set("Architecture", json!(text("architecture")));
    if let Some(variant) = config.get("variant") {
        set("Variant", variant.clone());
    }
    set("Os", json!(text("os")));
    set(
        "Size",
        json!(store.unpacked_size(image)?.unwrap_or(image.size)),
    );
    set(
        "RootFS",
        json!({
            "Type": "layers",
            "Layers": image.diff_ids.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }),
    );
    set("History", history);
    Ok(Value::Object(out))
}
