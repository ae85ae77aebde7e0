//! The documents between a reference and its layers: index, manifest, config
//! (image-spec: image-index.md, manifest.md, config.md; distribution: "Image Manifest V 2, Schema 2").
//!
//! Bytes are believed only after their digest was checked; what they say is checked for shape here,
//! so that the store gets layers and diff ids that belong together.

use std::io::Read;

use serde::{Deserialize, Serialize};
use ureq::Body;
use ureq::http::Response;

use super::error::{Error, escape};
use crate::model::{Digest, Platform};

/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image config.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker image config.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// What is asked for with `Accept`.
pub(super) const ACCEPT: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];
/// The longest manifest that is read, in bytes (distribution-spec, "Pushing Manifests": 4 MiB).
pub(super) const MANIFEST_MAX: u64 = 4 << 20;
/// The longest config that is read, in bytes.
pub(super) const CONFIG_MAX: u64 = 4 << 20;

/// The address of a blob (image-spec, descriptor.md).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What kind of content it is.
    pub media_type: String,
    /// The digest of the content.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// A document with the bytes that its digest stands for.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its address.
    pub descriptor: Descriptor,
    /// Its verified bytes.
    pub bytes: Vec<u8>,
}

/// One layer, as it is fetched and as it is known when unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The compressed blob.
    pub descriptor: Descriptor,
    /// The digest of the tar archive inside it.
    pub diff_id: Digest,
}

/// Everything about an image but its layers' content.
#[derive(Clone, Debug)]
pub struct Image {
    /// The index the image was chosen from, when the reference named one.
    pub index: Option<Document>,
    /// The manifest.
    pub manifest: Document,
    /// The config; its digest is the image id.
    pub config: Document,
    /// The layers, lowest first.
    pub layers: Vec<Layer>,
    /// The platform of the config.
    pub platform: Platform,
}

/// A parsed manifest or index.
#[derive(Debug)]
pub(super) enum Parsed {
    Index(Vec<IndexEntry>),
    Manifest {
        config: Descriptor,
        layers: Vec<Descriptor>,
    },
}

/// One image of an index.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct IndexEntry {
    #[serde(flatten)]
    pub descriptor: Descriptor,
    pub platform: Option<RawPlatform>,
}

/// The platform as an index and a config write it; either may leave parts out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawPlatform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl RawPlatform {
    /// The platform, if there is one: attestations carry `unknown/unknown`.
    fn known(&self) -> Option<Platform> {
        let known = |text: &str| !text.is_empty() && text != "unknown";
        (known(&self.os) && known(&self.architecture)).then(|| Platform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone().filter(|v| !v.is_empty()),
        })
    }
}

/// What is read of a config.
#[derive(Debug, Deserialize)]
struct Config {
    #[serde(flatten)]
    platform: RawPlatform,
    rootfs: RootFs,
}

#[derive(Debug, Deserialize)]
struct RootFs {
    diff_ids: Vec<Digest>,
}

/// Parses an index or a manifest. `content_type` is the HTTP header's, which says what the bytes are
/// unless it is a general one; then the `mediaType` inside or the document's shape does.
pub(super) fn parse(
    what: &str,
    content_type: &str,
    bytes: &[u8],
) -> Result<(String, Parsed), Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Raw {
        schema_version: Option<u32>,
        media_type: Option<String>,
        manifests: Option<Vec<IndexEntry>>,
        config: Option<Descriptor>,
        layers: Option<Vec<Descriptor>>,
    }
    let json = |source| Error::Json {
        what: format!("manifest of `{what}`"),
        source,
    };
    let malformed = |why| Error::Malformed {
        what: format!("manifest of `{what}`"),
        why,
    };
    let content_type = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if content_type.starts_with("application/vnd.docker.distribution.manifest.v1+") {
        return Err(Error::Schema1(what.to_owned()));
    }
    // Only for the version: the other fields of schema 1 have other shapes.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        schema_version: Option<u32>,
    }
    let version: Version = serde_json::from_slice(bytes).map_err(json)?;
    if version.schema_version == Some(1) {
        return Err(Error::Schema1(what.to_owned()));
    }
    let raw: Raw = serde_json::from_slice(bytes).map_err(json)?;
    if raw.schema_version != Some(2) {
        return Err(malformed("`schemaVersion` is not 2"));
    }
    let named = ACCEPT
        .contains(&content_type.as_str())
        .then_some(content_type.clone());
    // One text must not be two things to two readers (CVE-2021-41190).
    if let (Some(header), Some(inner)) = (&named, &raw.media_type)
        && header != inner
    {
        return Err(malformed(
            "its `mediaType` and the Content-Type contradict each other",
        ));
    }
    let media_type = match named.or(raw.media_type) {
        Some(media_type) => media_type,
        None if raw.manifests.is_some() => OCI_INDEX.to_owned(),
        None => OCI_MANIFEST.to_owned(),
    };
    let parsed = match (media_type.as_str(), raw.manifests, raw.config, raw.layers) {
        (OCI_INDEX | DOCKER_LIST, Some(manifests), None, None) => Parsed::Index(manifests),
        (OCI_MANIFEST | DOCKER_MANIFEST, None, Some(config), Some(layers)) => {
            Parsed::Manifest { config, layers }
        }
        (OCI_INDEX | DOCKER_LIST | OCI_MANIFEST | DOCKER_MANIFEST, ..) => {
            return Err(malformed("its fields are not those of its type"));
        }
        _ => {
            return Err(Error::MediaType {
                what: format!("`{what}`"),
                media_type: escape(&media_type, 120),
            });
        }
    };
    Ok((media_type, parsed))
}

/// Chooses the image for `wanted`: an exact variant, else the most general one that runs here.
pub(super) fn choose<'a>(
    reference: &str,
    wanted: &Platform,
    entries: &'a [IndexEntry],
) -> Result<&'a IndexEntry, Error> {
    let platforms = || {
        entries.iter().filter_map(|entry| {
            Some((entry, entry.platform.as_ref().and_then(RawPlatform::known)?))
        })
    };
    // Among variants nobody asked for: none at all, then for 32-bit Arm the newest (as containerd
    // does), elsewhere the oldest (an `amd64/v3` image needs a processor of that level).
    let rank = |platform: &Platform| {
        let level = |text: &str| text.trim_start_matches('v').parse::<i32>().unwrap_or(99);
        let level = platform.variant.as_deref().map_or(i32::MIN, level);
        let exact = platform.variant == wanted.variant;
        let level = if platform.architecture == "arm" && level > 0 {
            -level
        } else {
            level
        };
        (!exact, level)
    };
    platforms()
        .filter(|(_, platform)| wanted.accepts(platform))
        .min_by_key(|(_, platform)| rank(platform))
        .map(|(entry, _)| entry)
        .ok_or_else(|| Error::NoPlatform {
            reference: reference.to_owned(),
            wanted: wanted.clone(),
            available: platforms().map(|(_, platform)| platform).collect(),
        })
}

/// Reads platform and diff ids out of a config and joins these with the layers.
pub(super) fn join_config(
    what: &str,
    wanted: &Platform,
    config: &[u8],
    layers: Vec<Descriptor>,
) -> Result<(Platform, Vec<Layer>), Error> {
    let what_config = || format!("config of `{what}`");
    let config: Config = serde_json::from_slice(config).map_err(|source| Error::Json {
        what: what_config(),
        source,
    })?;
    let platform = config.platform.known().unwrap_or_else(|| wanted.clone());
    if !wanted.accepts(&platform) {
        let available = vec![platform];
        return Err(Error::NoPlatform {
            reference: what.to_owned(),
            wanted: wanted.clone(),
            available,
        });
    }
    if config.rootfs.diff_ids.len() != layers.len() {
        return Err(Error::Malformed {
            what: what_config(),
            why: "it does not name one diff id for each layer",
        });
    }
    if let Some(odd) = layers.iter().find(|layer| !is_layer(&layer.media_type)) {
        let what = format!("layer `{}` of `{what}`", odd.digest.short());
        return Err(Error::MediaType {
            what,
            media_type: escape(&odd.media_type, 120),
        });
    }
    let joined = layers.into_iter().zip(config.rootfs.diff_ids);
    Ok((
        platform,
        joined
            .map(|(descriptor, diff_id)| Layer {
                descriptor,
                diff_id,
            })
            .collect(),
    ))
}

/// Whether a config of this type belongs to a container image; an artifact has another.
pub(super) fn is_config(media_type: &str) -> bool {
    matches!(media_type, OCI_CONFIG | DOCKER_CONFIG)
}

/// Whether this is the type of a file system layer that can be unpacked.
fn is_layer(media_type: &str) -> bool {
    let oci = [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
    ];
    let docker = [
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
    ];
    let rest = |bases: [&str; 2]| bases.iter().find_map(|base| media_type.strip_prefix(base));
    matches!(rest(oci), Some("" | "+gzip" | "+zstd"))
        || matches!(rest(docker), Some("" | ".gzip" | ".zstd"))
}

/// Reads a whole body of at most `limit` bytes.
pub(super) fn read_limited(
    response: Response<Body>,
    limit: u64,
    what: &str,
) -> Result<Vec<u8>, Error> {
    let too_large = || Error::TooLarge {
        what: what.to_owned(),
        limit,
    };
    if response
        .body()
        .content_length()
        .is_some_and(|length| length > limit)
    {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    let mut reader = response.into_body().into_reader().take(limit + 1);
    reader
        .read_to_end(&mut bytes)
        .map_err(|error| match Error::from_io(error) {
            Ok(error) => error,
            Err(error) => Error::Broken {
                host: what.to_owned(),
                source: Box::new(ureq::Error::from(error)),
            },
        })?;
    if bytes.len() as u64 > limit {
        Err(too_large())
    } else {
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn index(platforms: &[&str]) -> Vec<IndexEntry> {
        let entry = |text: &&str| {
            let mut parts = text.split('/');
            let platform = RawPlatform {
                os: parts.next().unwrap_or_default().into(),
                architecture: parts.next().unwrap_or_default().into(),
                variant: parts.next().map(str::to_owned),
            };
            let descriptor = Descriptor {
                media_type: (*text).into(),
                digest: D.parse().unwrap(),
                size: 1,
            };
            IndexEntry {
                descriptor,
                platform: Some(platform),
            }
        };
        platforms.iter().map(entry).collect()
    }

    #[track_caller]
    fn chosen(wanted: &str, platforms: &[&str]) -> String {
        let entries = index(platforms);
        choose("x", &wanted.parse().unwrap(), &entries)
            .unwrap()
            .descriptor
            .media_type
            .clone()
    }

    #[test]
    fn platform_choice() {
        assert_eq!(
            chosen("linux/amd64", &["linux/arm64", "linux/amd64"]),
            "linux/amd64"
        );
        assert_eq!(
            chosen("linux/amd64", &["linux/amd64/v3", "linux/amd64"]),
            "linux/amd64"
        );
        assert_eq!(
            chosen("linux/amd64", &["linux/amd64/v3", "linux/amd64/v2"]),
            "linux/amd64/v2"
        );
        assert_eq!(
            chosen("linux/arm64", &["linux/arm/v7", "linux/arm64/v8"]),
            "linux/arm64/v8"
        );
        assert_eq!(
            chosen(
                "linux/arm",
                &["linux/arm/v5", "linux/arm/v7", "linux/arm/v6"]
            ),
            "linux/arm/v7"
        );
        assert_eq!(
            chosen(
                "linux/arm/v6",
                &["linux/arm", "linux/arm/v7", "linux/arm/v6"]
            ),
            "linux/arm/v6"
        );
        let entries = index(&["linux/s390x", "unknown/unknown", "windows/amd64"]);
        let error = choose("x", &"linux/amd64".parse().unwrap(), &entries).unwrap_err();
        assert_eq!(
            error.to_string(),
            "image `x` is not available for linux/amd64, only for linux/s390x, windows/amd64"
        );
        assert_eq!(
            error.hint().unwrap(),
            "take another with --platform linux/s390x"
        );
    }

    #[test]
    fn types_of_documents() {
        let descriptor = format!(r#"{{"mediaType":"m","digest":"{D}","size":3}}"#);
        let manifest =
            format!(r#"{{"schemaVersion":2,"config":{descriptor},"layers":[{descriptor}]}}"#);
        let of = |content_type: &str, text: &str| parse("x", content_type, text.as_bytes());
        assert_eq!(
            of("application/json; charset=utf-8", &manifest).unwrap().0,
            OCI_MANIFEST
        );
        assert_eq!(of(DOCKER_MANIFEST, &manifest).unwrap().0, DOCKER_MANIFEST);
        assert!(matches!(
            of(OCI_INDEX, &manifest),
            Err(Error::Malformed { .. })
        ));
        let list = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{descriptor}]}}"#
        );
        assert!(matches!(of("", &list).unwrap().1, Parsed::Index(entries) if entries.len() == 1));
        assert!(matches!(
            of(OCI_MANIFEST, &list),
            Err(Error::Malformed { .. })
        ));
        let both = list.replace("]}", &format!(r#"],"layers":[{descriptor}]}}"#));
        assert!(matches!(of("", &both), Err(Error::Malformed { .. })));
        let old = r#"{"schemaVersion":1,"name":"x","fsLayers":[]}"#;
        assert!(matches!(
            of("application/json", old),
            Err(Error::Schema1(_))
        ));
        assert!(matches!(
            of(
                "application/vnd.docker.distribution.manifest.v1+prettyjws",
                "{"
            ),
            Err(Error::Schema1(_))
        ));
        assert!(matches!(of("", "not json"), Err(Error::Json { .. })));
        let other = manifest.replacen('{', r#"{"mediaType":"a\u001bb","#, 1);
        assert!(of("", &other).unwrap_err().to_string().contains("a\\x1bb"));
    }

    #[test]
    fn configs_must_fit_their_layers() {
        let layer = |media_type: &str| Descriptor {
            media_type: media_type.into(),
            digest: D.parse().unwrap(),
            size: 1,
        };
        let wanted: Platform = "linux/amd64".parse().unwrap();
        let config = format!(
            r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["{D}"]}}}}"#
        );
        let join = |config: &str, layers| join_config("x", &wanted, config.as_bytes(), layers);
        let gzip = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        assert_eq!(join(&config, vec![layer(gzip)]).unwrap().1.len(), 1);
        assert!(matches!(
            join(&config, vec![]),
            Err(Error::Malformed { .. })
        ));
        assert!(matches!(
            join(
                &config,
                vec![layer(
                    "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"
                )]
            ),
            Err(Error::MediaType { .. })
        ));
        let foreign = config.replace("amd64", "s390x");
        assert!(matches!(
            join(&foreign, vec![layer(gzip)]),
            Err(Error::NoPlatform { .. })
        ));
    }
}
