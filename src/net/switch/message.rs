//! What a monitor and the switch say to each other, over one sequenced-packet channel for each member:
//!
//! ```text
//! monitor                       switch
//!    | -- Join + tap ------------> | opens the ports
//!    | <- Joined, or Refused ----- |
//!    | -- Names -----------------> | it is called otherwise from here on
//!    | <- Named ------------------ |
//!    | -- Leave -----------------> | closes the ports
//!    | <- Left ------------------- |
//! ```
//!
//! The end of file says the same as `Leave`, and that there is no switch any more.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::net::Reserved;

/// From a monitor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToSwitch {
    /// The descriptor that comes along carries a container's frames.
    Join(Join),
    /// It carries them no longer.
    Leave,
    /// Who has joined is called this now.
    Names(Vec<String>),
    /// As `Join`, with a hardware address of its own.
    JoinAs(Join, [u8; 6]),
}

/// Who joins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// Its address, which nobody else has.
    pub address: Ipv4Addr,
    /// What it is called.
    pub names: Vec<String>,
    /// Whom it asks for names of the world; the host's resolver if nobody.
    pub resolver: Option<Ipv4Addr>,
    /// The ports that lead to it.
    pub ports: Vec<Reserved>,
}

/// From the switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromSwitch {
    /// Frames are carried, ports are open.
    Joined,
    /// They are not.
    Refused {
        /// Why.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The ports are closed.
    Left,
    /// The names are known.
    Named,
}
