//! A network with a name, as its maker asked for it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::subnet::Subnet;

/// What is kept of it on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// [`super::spec::VERSION`] of the program that wrote this.
    pub version: u32,
    /// 64 random hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The addresses of its containers.
    pub subnet: Subnet,
    /// The address in it that stands for the way out, and answers questions for names.
    pub gateway: Ipv4Addr,
    /// Whether there is no way out.
    pub internal: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Seconds since the epoch.
    pub created: u64,
}
