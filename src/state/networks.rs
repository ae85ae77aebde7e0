//! Networks with a name on disk, one directory each:
//!
//! ```text
//! networks/
//!   NAME/
//!     network.json          NetworkSpec; with it there is a network
//!     leases                one byte a host number: the lock on it is the lease of the address
//!     switch.lock, switch   of the process that carries the frames, while one runs
//! ```
//!
//! The lock on the directory of all is for who makes or removes one. A lease is a lock of an open file
//! (fcntl_locking(2), F_OFD_SETLK): it passes to the monitor at fork and ends with that one, however it ends.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::Error;
use super::files::{io, make_dir, read_json, remove_tree, replace, sync_dir, whole_file};
use crate::model::network::NetworkSpec;
use crate::model::spec::VERSION;

const SPEC: &str = "network.json";

/// All networks of a user.
#[derive(Clone, Debug)]
pub struct Networks {
    root: PathBuf,
}

/// An address that is nobody else's for as long as this, or a copy that was forked, lives.
#[derive(Debug)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// Held, never read.
    _lock: File,
}

impl Networks {
    /// Those below `root`; the directory is made with the first one.
    pub fn new(root: PathBuf) -> Networks {
        Networks { root }
    }

    /// The directory of the network `name`.
    pub fn dir(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// All of them, by name. One that cannot be read is passed over.
    pub fn list(&self) -> Vec<NetworkSpec> {
        let entries = std::fs::read_dir(&self.root).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut all: Vec<NetworkSpec> = names.filter_map(|name| self.find(&name).ok()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The network of this name.
    ///
    /// # Errors
    /// [`Error::NoNetwork`], or that of a file that is there and cannot be read.
    pub fn find(&self, name: &str) -> Result<NetworkSpec, Error> {
        let plain = !name.is_empty() && !name.starts_with('.') && !name.contains('/');
        let path = self.dir(name).join(SPEC);
        if !plain || !path.exists() {
            return Err(Error::NoNetwork(name.to_owned()));
        }
        let spec: NetworkSpec = read_json(&path)?;
        match spec.version > VERSION {
            true => Err(Error::Damaged {
                path,
                reason: format!("version {} is of a newer rl", spec.version),
            }),
            false => Ok(spec),
        }
    }

    /// Makes the network that `decide` decides on, seeing those that are there; no other is made meanwhile.
    ///
    /// # Errors
    /// Those of `decide`; [`Error::Io`].
    pub fn create<E: From<Error>>(
        &self,
        decide: impl FnOnce(&[NetworkSpec]) -> Result<NetworkSpec, E>,
    ) -> Result<NetworkSpec, E> {
        make_dir(&self.root)?;
        let _lock = self.lock()?;
        let spec = decide(&self.list())?;
        let dir = self.dir(&spec.name);
        make_dir(&dir)?;
        replace(&dir, SPEC, &spec, true)?;
        sync_dir(&dir)?;
        sync_dir(&self.root)?;
        Ok(spec)
    }

    /// Removes a network that `check` has nothing against.
    ///
    /// # Errors
    /// [`Error::NoNetwork`], those of `check`, [`Error::Io`].
    pub fn remove<E: From<Error>>(
        &self,
        name: &str,
        check: impl FnOnce(&NetworkSpec) -> Result<(), E>,
    ) -> Result<(), E> {
        let spec = self.find(name)?;
        let _lock = self.lock()?;
        check(&spec)?;
        let dir = self.dir(name);
        // First what makes it a network.
        let path = dir.join(SPEC);
        std::fs::remove_file(&path).map_err(io("unlink", &path))?;
        remove_tree(&dir)?;
        Ok(())
    }

    /// Takes the address `wanted`, or the first that is free.
    ///
    /// # Errors
    /// [`Error::AddressTaken`], [`Error::NoAddress`], [`Error::Io`].
    pub fn lease(&self, network: &NetworkSpec, wanted: Option<Ipv4Addr>) -> Result<Lease, Error> {
        let path = self.dir(&network.name).join("leases");
        let file = open_leases(&path)?;
        let subnet = network.subnet;
        if let Some(address) = wanted {
            let free = try_byte(&file, subnet.number(address));
            let name = network.name.clone();
            return match free {
                true => Ok(Lease {
                    address,
                    _lock: file,
                }),
                false => Err(Error::AddressTaken { address, name }),
            };
        }
        let hosts = (1..subnet.last()).filter(|n| subnet.host(*n) != network.gateway);
        let mut free = hosts.filter(|n| try_byte(&file, *n));
        match free.next() {
            Some(number) => Ok(Lease {
                address: subnet.host(number),
                _lock: file,
            }),
            None => Err(Error::NoAddress(network.name.clone())),
        }
    }

    /// Waits for the lock on the directory of all.
    fn lock(&self) -> Result<File, Error> {
        let root = File::open(&self.root).map_err(io("open", &self.root))?;
        rustix::fs::flock(&root, FlockOperation::LockExclusive)
            .map_err(|errno| io("flock", &self.root)(errno.into()))?;
        Ok(root)
    }
}

fn open_leases(path: &Path) -> Result<File, Error> {
    let mut options = File::options();
    let options = options.create(true).truncate(false).read(true).write(true);
    options.open(path).map_err(io("open", path))
}

/// Locks one byte of an open file, unless somebody has.
fn try_byte(file: &File, number: u32) -> bool {
    let want = libc::flock {
        l_start: number.into(),
        l_len: 1,
        ..whole_file(libc::F_WRLCK)
    };
    nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_OFD_SETLK(&want)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, subnet: &str) -> NetworkSpec {
        let subnet: crate::model::subnet::Subnet = subnet.parse().unwrap();
        NetworkSpec {
            version: VERSION,
            id: "0".repeat(64),
            name: name.to_owned(),
            subnet,
            gateway: subnet.host(1),
            internal: false,
            labels: std::collections::BTreeMap::new(),
            created: 7,
        }
    }

    #[test]
    fn made_found_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let all = Networks::new(dir.path().join("networks"));
        assert!(all.list().is_empty());
        let made = all.create(|others| {
            assert!(others.is_empty());
            Ok::<_, Error>(spec("a", "10.1.0.0/24"))
        });
        assert_eq!(all.find("a").unwrap(), made.unwrap());
        for none in ["b", "", ".", "..", "a/../a"] {
            assert!(matches!(all.find(none), Err(Error::NoNetwork(_))), "{none}");
        }
        let no = all.remove("a", |_| Err(Error::NotFound("used".into())));
        assert!(no.is_err() && all.list().len() == 1);
        all.remove("a", |_| Ok::<_, Error>(())).unwrap();
        assert!(all.list().is_empty() && !all.dir("a").exists());
    }

    #[test]
    fn an_address_is_leased_to_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let all = Networks::new(dir.path().join("networks"));
        let net = all
            .create(|_| Ok::<_, Error>(spec("a", "10.1.0.0/29")))
            .unwrap();
        // Of 8 addresses two are nobody's, and one is the gateway's.
        let leases: Vec<Lease> = (0..5).map(|_| all.lease(&net, None).unwrap()).collect();
        let got: Vec<String> = leases.iter().map(|l| l.address.to_string()).collect();
        assert_eq!(
            got,
            ["10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6"]
        );
        assert!(matches!(all.lease(&net, None), Err(Error::NoAddress(_))));
        let wanted = leases[2].address;
        assert!(matches!(
            all.lease(&net, Some(wanted)),
            Err(Error::AddressTaken { .. })
        ));
        drop(leases);
        assert_eq!(all.lease(&net, Some(wanted)).unwrap().address, wanted);
    }
}
