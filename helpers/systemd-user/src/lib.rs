//! Asks a user's systemd for scopes: `StartTransientUnit`, `AttachProcessesToUnit`, and waiting for the job
//! (org.freedesktop.systemd1(5)).
//!
//! The manager has a socket of its own, `systemd/private` in the runtime directory, on which a caller with the same
//! user id talks D-Bus to it without any bus in between; it works from cron and su, where nobody has set the address
//! of a bus. Where it is not there, the session bus is asked. The protocol is that of the D-Bus specification 0.43: SASL
//! EXTERNAL, then little-endian messages ([`wire`]).
//!
//! Everything is done in the calling thread, with a limit to how long is waited.

mod wire;

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use wire::{Body, Kind, Message};

const BUS: &str = "org.freedesktop.DBus";
const SYSTEMD: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// Why the manager did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error("connect(`{path}`): {source}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The connection broke, or nothing came in time.
    #[error("systemd user manager: {0}")]
    Io(#[from] io::Error),
    /// It does not let us in.
    #[error("systemd user manager: it answers `{0}` to the log-in")]
    Refused(String),
    /// Not D-Bus.
    #[error("systemd user manager: it sends what is no D-Bus message")]
    Malformed,
    /// It answered with an error.
    #[error("systemd user manager: {text} ({name})")]
    Failed {
        /// The D-Bus name of the error.
        name: String,
        /// Its text.
        text: String,
    },
    /// The job was done, and not well.
    #[error("systemd user manager: starting `{unit}` ended with `{result}`")]
    Job {
        /// The unit.
        unit: String,
        /// `canceled`, `timeout`, `failed`, `dependency` or `skipped`.
        result: String,
    },
}

/// Where a manager listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Its own socket.
    Private(PathBuf),
    /// A bus that it is on.
    Bus(PathBuf),
}

impl Address {
    /// Where the manager of user `uid` listens, if it seems to. `runtime_dir` and `bus` are what XDG_RUNTIME_DIR and
    /// DBUS_SESSION_BUS_ADDRESS say, if anything; without them `/run/user/UID` is looked at.
    /// Root's is the system's own.
    pub fn find(uid: u32, runtime_dir: Option<&OsStr>, bus: Option<&OsStr>) -> Option<Address> {
        let system = Path::new("/run/systemd/private");
        // Root of a user namespace has no access.
        if uid == 0 && rustix::fs::access(system, rustix::fs::Access::WRITE_OK).is_ok() {
            return Some(Address::Private(system.to_owned()));
        }
        let usual = PathBuf::from(format!("/run/user/{uid}"));
        let given = runtime_dir
            .map(PathBuf::from)
            .filter(|dir| dir.is_absolute());
        let dirs: Vec<PathBuf> = given.into_iter().chain([usual]).collect();
        let sockets = dirs.iter().map(|dir| dir.join("systemd/private"));
        if let Some(path) = sockets.into_iter().find(|path| path.exists()) {
            return Some(Address::Private(path));
        }
        let named = bus.and_then(unix_path).into_iter();
        let mut buses = named.chain(dirs.iter().map(|dir| dir.join("bus")));
        buses.find(|path| path.exists()).map(Address::Bus)
    }

    fn path(&self) -> &Path {
        match self {
            Address::Private(path) | Address::Bus(path) => path,
        }
    }
}

/// The path of the first `unix:path=…` of a list of addresses (D-Bus specification, "Server Addresses").
fn unix_path(addresses: &OsStr) -> Option<PathBuf> {
    addresses
        .as_bytes()
        .split(|b| *b == b';')
        .filter_map(|address| address.strip_prefix(b"unix:"))
        .flat_map(|rest| rest.split(|b| *b == b','))
        .find_map(|pair| pair.strip_prefix(b"path="))
        .map(|path| PathBuf::from(OsStr::from_bytes(path)))
}

/// A scope to be made.
#[derive(Clone, Debug)]
pub struct Scope<'a> {
    /// Its name, `….scope`.
    pub name: &'a str,
    /// What it is, for people.
    pub description: &'a str,
    /// The slice that it lies in, `….slice`.
    pub slice: &'a str,
    /// Of that slice, and those around it, the ones which are not there yet, the outermost first.
    pub new_slices: &'a [String],
    /// The processes that it starts with.
    pub pids: &'a [u32],
    /// What it has against units beside it.
    pub shares: &'a [Share],
}

/// A property with a number (systemd.resource-control(5)), such as `CPUWeight`.
pub type Share = (&'static str, u64);

/// A connection to a manager.
#[derive(Debug)]
pub struct Connection {
    socket: UnixStream,
    serial: u32,
    deadline: Instant,
    /// What was read and not used yet.
    buffer: Vec<u8>,
    /// Signals that came before the reply.
    signals: Vec<Message>,
}

impl Connection {
    /// Connects to the manager, as user `uid`, whom the kernel confirms. It may take `patience` for all that is asked
    /// of it: it answers in milliseconds, unless the machine is overloaded.
    ///
    /// # Errors
    /// [`Error`].
    pub fn open(address: &Address, uid: u32, patience: Duration) -> Result<Connection, Error> {
        let path = address.path();
        let socket = UnixStream::connect(path).map_err(|source| Error::Connect {
            path: path.to_owned(),
            source,
        })?;
        let mut connection = Connection {
            socket,
            serial: 0,
            deadline: Instant::now() + patience,
            buffer: Vec::new(),
            signals: Vec::new(),
        };
        connection.log_in(uid)?;
        if matches!(address, Address::Bus(_)) {
            connection.call(BUS, "/org/freedesktop/DBus", BUS, "Hello", Body::default())?;
            let rule = format!("type='signal',interface='{MANAGER}',member='JobRemoved'");
            let mut body = Body::default();
            body.string(&rule);
            connection.call(
                BUS,
                "/org/freedesktop/DBus",
                BUS,
                "AddMatch",
                body.signed("s"),
            )?;
            connection.call(SYSTEMD, OBJECT, MANAGER, "Subscribe", Body::default())?;
        }
        Ok(connection)
    }

    /// Makes a scope that is delegated to us, with all controllers that the manager has, and waits until it stands.
    /// Slices that are not there yet are made so that they go when they are empty, unless somebody has configured them.
    ///
    /// # Errors
    /// [`Error`]; [`Error::Failed`] where a unit of that name exists.
    pub fn start_scope(&mut self, scope: &Scope<'_>) -> Result<(), Error> {
        match self.start_scope_with(scope, scope.new_slices) {
            // Somebody else has just made it, or it has a file.
            Err(Error::Failed { name, .. }) if !scope.new_slices.is_empty() && name == EXISTS => {
                self.start_scope_with(scope, &[])
            }
            other => other,
        }
    }

    fn start_scope_with(&mut self, scope: &Scope<'_>, slices: &[String]) -> Result<(), Error> {
        let mut body = Body::default();
        body.string(scope.name);
        // The slice may just be about to go, its last scope having ended: that is taken back (systemctl(1), --job-mode=).
        body.string("replace");
        body.array(8, |body| {
            body.property("Description", "s", |body| body.string(scope.description));
            body.property("Slice", "s", |body| body.string(scope.slice));
            body.property("Delegate", "b", |body| body.number(1));
            // What is limited, is by whoever asked for the container.
            body.property("TasksMax", "t", |body| body.long(u64::MAX));
            body.property("CollectMode", "s", |body| body.string("inactive-or-failed"));
            shares(body, scope.shares);
            body.property("PIDs", "au", |body| {
                body.array(4, |body| {
                    scope.pids.iter().for_each(|pid| body.number(*pid))
                });
            });
        });
        body.array(8, |body| {
            for slice in slices {
                body.unit(slice, |body| {
                    body.property("StopWhenUnneeded", "b", |body| body.number(1));
                });
            }
        });
        let body = body.signed("ssa(sv)a(sa(sv))");
        let reply = self.call(SYSTEMD, OBJECT, MANAGER, "StartTransientUnit", body)?;
        let job = reply.reader().string().ok_or(Error::Malformed)?;
        self.await_job(&job, scope.name)
    }

    /// Changes what a unit that runs has against those beside it.
    ///
    /// # Errors
    /// [`Error`].
    pub fn share(&mut self, unit: &str, new: &[Share]) -> Result<(), Error> {
        let mut body = Body::default();
        body.string(unit);
        // Until it ends.
        body.number(1);
        body.array(8, |body| shares(body, new));
        let body = body.signed("sba(sv)");
        self.call(SYSTEMD, OBJECT, MANAGER, "SetUnitProperties", body)?;
        Ok(())
    }

    /// Moves processes into a group below that of a unit that is delegated.
    ///
    /// # Errors
    /// [`Error`].
    pub fn attach(&mut self, unit: &str, group: &str, pids: &[u32]) -> Result<(), Error> {
        let mut body = Body::default();
        body.string(unit);
        body.string(group);
        body.array(4, |body| pids.iter().for_each(|pid| body.number(*pid)));
        let body = body.signed("ssau");
        self.call(SYSTEMD, OBJECT, MANAGER, "AttachProcessesToUnit", body)?;
        Ok(())
    }

    fn await_job(&mut self, job: &str, unit: &str) -> Result<(), Error> {
        loop {
            let signal = match self.signals.pop() {
                Some(signal) => signal,
                None => self.message()?,
            };
            if signal.kind != Kind::Signal || signal.member.as_deref() != Some("JobRemoved") {
                continue;
            }
            let mut reader = signal.reader();
            let parts = (
                reader.number(),
                reader.string(),
                reader.string(),
                reader.string(),
            );
            let (Some(_), Some(path), Some(_), Some(result)) = parts else {
                return Err(Error::Malformed);
            };
            if path != job {
                continue;
            }
            return match &*result {
                "done" => Ok(()),
                _ => Err(Error::Job {
                    unit: unit.to_owned(),
                    result,
                }),
            };
        }
    }

    /// SASL EXTERNAL: who we are is what the kernel says (D-Bus specification, "Authentication Protocol").
    fn log_in(&mut self, uid: u32) -> Result<(), Error> {
        let hex: String = uid
            .to_string()
            .bytes()
            .map(|b| format!("{b:02x}"))
            .collect();
        self.send(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes())?;
        let end = loop {
            if let Some(end) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                break end;
            }
            self.receive()?;
        };
        let line = self.buffer.drain(..end + 2).collect::<Vec<u8>>();
        if !line.starts_with(b"OK ") {
            let text = String::from_utf8_lossy(&line).trim().to_owned();
            return Err(Error::Refused(text));
        }
        self.send(b"BEGIN\r\n")
    }

    fn call(
        &mut self,
        destination: &str,
        path: &str,
        interface: &str,
        member: &str,
        body: Body,
    ) -> Result<Message, Error> {
        self.serial += 1;
        let serial = self.serial;
        self.send(&wire::call(
            serial,
            destination,
            path,
            interface,
            member,
            &body,
        ))?;
        loop {
            let message = self.message()?;
            match message.kind {
                Kind::Signal => self.signals.insert(0, message),
                Kind::Return if message.reply_to == Some(serial) => return Ok(message),
                Kind::Error if message.reply_to == Some(serial) => {
                    let text = message.reader().string().unwrap_or_default();
                    return Err(Error::Failed {
                        name: message.error.unwrap_or_default(),
                        text,
                    });
                }
                _ => {}
            }
        }
    }

    fn message(&mut self) -> Result<Message, Error> {
        loop {
            match wire::parse(&self.buffer).ok_or(Error::Malformed)? {
                Some((message, length)) => {
                    self.buffer.drain(..length);
                    return Ok(message);
                }
                None => self.receive()?,
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.socket.set_write_timeout(Some(self.left()?))?;
        Ok(self.socket.write_all(bytes)?)
    }

    fn receive(&mut self) -> Result<(), Error> {
        let mut piece = [0u8; 4096];
        self.socket.set_read_timeout(Some(self.left()?))?;
        match self.socket.read(&mut piece) {
            Ok(0) => Err(Error::Io(io::ErrorKind::UnexpectedEof.into())),
            Ok(n) => {
                self.buffer.extend_from_slice(&piece[..n]);
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                Err(Error::Io(io::ErrorKind::TimedOut.into()))
            }
            Err(e) => Err(e.into()),
        }
    }

    fn left(&self) -> Result<Duration, Error> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(Error::Io(io::ErrorKind::TimedOut.into())),
            false => Ok(left),
        }
    }
}

fn shares(body: &mut Body, all: &[Share]) {
    for (name, value) in all {
        body.property(name, "t", |body| body.long(*value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let path = |text: &str| unix_path(OsStr::new(text));
        let bus = Some(PathBuf::from("/run/user/7/bus"));
        assert_eq!(path("unix:path=/run/user/7/bus"), bus);
        assert_eq!(path("tcp:host=x;unix:guid=1,path=/run/user/7/bus"), bus);
        assert_eq!(path("unix:abstract=/tmp/x"), None);
        let dir = tempfile::tempdir().unwrap();
        let runtime = Some(dir.path().as_os_str());
        assert_eq!(Address::find(u32::MAX, runtime, None), None);
        std::fs::write(dir.path().join("bus"), "").unwrap();
        let found = Address::find(u32::MAX, runtime, None);
        assert_eq!(found, Some(Address::Bus(dir.path().join("bus"))));
        std::fs::create_dir(dir.path().join("systemd")).unwrap();
        std::fs::write(dir.path().join("systemd/private"), "").unwrap();
        let found = Address::find(u32::MAX, runtime, None);
        assert_eq!(
            found,
            Some(Address::Private(dir.path().join("systemd/private")))
        );
    }

    /// A manager of our own at the other end: what is sent, and what becomes of its answers.
    fn with_manager(answers: impl FnOnce(&mut UnixStream) + Send + 'static) -> Result<(), Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("private");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let manager = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut buffer = [0u8; 64];
            let n = socket.read(&mut buffer).unwrap();
            assert_eq!(&buffer[..n], b"\0AUTH EXTERNAL 3432\r\n");
            socket.write_all(b"OK 0123456789abcdef\r\n").unwrap();
            let mut begin = [0u8; 7];
            socket.read_exact(&mut begin).unwrap();
            assert_eq!(&begin, b"BEGIN\r\n");
            let mut call = vec![0u8; 4096];
            let n = socket.read(&mut call).unwrap();
            let (message, length) = wire::parse(&call[..n]).unwrap().unwrap();
            assert_eq!(length, n);
            assert_eq!(message.member.as_deref(), Some("StartTransientUnit"));
            let mut said = message.reader();
            assert_eq!(said.string().as_deref(), Some("a.scope"));
            assert_eq!(said.string().as_deref(), Some("replace"));
            answers(&mut socket);
        });
        let mut connection =
            Connection::open(&Address::Private(path), 42, Duration::from_secs(30))?;
        let done = connection.start_scope(&Scope {
            name: "a.scope",
            description: "a test",
            slice: "rl.slice",
            new_slices: &[],
            pids: &[1, 2],
            shares: &[("CPUWeight", 300)],
        });
        manager.join().unwrap();
        done
    }

    #[test]
    fn a_scope_stands_when_its_job_is_done() {
        let signal = |job: &str, result: &str| {
            let mut body = Body::default();
            body.number(7);
            [job, "a.scope", result]
                .iter()
                .for_each(|text| body.string(text));
            wire::signal(1, OBJECT, MANAGER, "JobRemoved", &body.signed("uoss"))
        };
        let reply = || {
            let mut body = Body::default();
            body.string("/job/7");
            wire::reply(2, 1, &body.signed("o"))
        };
        let (other, done, failed) = (
            signal("/job/6", "failed"),
            signal("/job/7", "done"),
            signal("/job/7", "failed"),
        );
        // The signal can come before the reply, and both in pieces.
        let early = [other.clone(), done.clone(), reply()].concat();
        with_manager(move |socket| {
            for piece in early.chunks(5) {
                socket.write_all(piece).unwrap();
            }
        })
        .unwrap();
        let late = [reply(), other, failed].concat();
        let error = with_manager(move |socket| socket.write_all(&late).unwrap());
        assert!(matches!(error, Err(Error::Job { result, .. }) if result == "failed"));
        let refused = wire::error(2, 1, "org.freedesktop.systemd1.UnitExists", "it is there");
        let error = with_manager(move |socket| socket.write_all(&refused).unwrap());
        assert!(matches!(error, Err(Error::Failed { text, .. }) if text == "it is there"));
        let error = with_manager(move |socket| socket.write_all(&[0; 32]).unwrap());
        assert!(matches!(error, Err(Error::Malformed)));
        let error = with_manager(|_| {});
        assert!(matches!(error, Err(Error::Io(_))));
    }
}
