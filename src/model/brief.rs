//! What lists show of a container: of hundreds of specifications the few fields that are looked at, without making
//! values of the rest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Digest;
use super::spec::{ContainerSpec, NetworkMode, VolumeMount, made};

/// A part of a [`ContainerSpec`], which it is read from; each field is as the one of the same name there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Brief {
    pub version: u32,
    pub id: String,
    pub name: String,
    pub created: u64,
    #[serde(default)]
    pub created_part: u32,
    pub image: String,
    pub image_id: Option<Digest>,
    pub args: Vec<String>,
    pub remove: bool,
    pub mounts: Vec<VolumeMount>,
    pub network: Network,
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub exposed: Vec<String>,
}

/// The same of [`super::spec::Network`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Network {
    pub mode: NetworkMode,
    pub publish: Vec<String>,
    pub request: Request,
}

/// The same of [`super::spec::NetworkRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Request {
    pub mode: String,
}

impl Brief {
    /// Nanoseconds since the epoch at which it was made.
    pub fn made(&self) -> u64 {
        made(self.created, self.created_part)
    }
}

impl From<ContainerSpec> for Brief {
    fn from(spec: ContainerSpec) -> Brief {
        Brief {
            version: spec.version,
            id: spec.id,
            name: spec.name,
            created: spec.created,
            created_part: spec.created_part,
            image: spec.image,
            image_id: spec.image_id,
            args: spec.args,
            remove: spec.remove,
            mounts: spec.mounts,
            network: Network {
                mode: spec.network.mode,
                publish: spec.network.publish,
                request: Request {
                    mode: spec.network.request.mode,
                },
            },
            labels: spec.labels,
            exposed: spec.exposed,
        }
    }
}
