//! Running a program as an identity, with a deadline, and looking at what came out.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use super::{Env, Identity, leak};

/// A program about to be run.
pub struct Program<'a> {
    env: &'a Env,
    path: OsString,
    args: Vec<OsString>,
    vars: Vec<(OsString, Option<OsString>)>,
    stdin: Input,
    cwd: PathBuf,
    deadline: Duration,
    trace: Vec<String>,
    record: Option<PathBuf>,
}

enum Input {
    Nothing,
    Bytes(Vec<u8>),
    Open,
    File(Stdio),
}

impl<'a> Program<'a> {
    pub(super) fn new(env: &'a Env, path: &OsStr) -> Self {
        Program {
            env,
            path: path.to_owned(),
            args: Vec::new(),
            vars: Vec::new(),
            stdin: Input::Nothing,
            cwd: env.path("."),
            deadline: super::deadline(),
            trace: Vec::new(),
            record: None,
        }
    }

    /// Runs it under strace(1) with these `-e` expressions, such as `inject=mount:error=EPERM:when=2`; the
    /// count is each process's own. strace is root, so that newuidmap and newgidmap keep their privilege.
    pub fn traced<S: AsRef<str>>(mut self, expressions: impl IntoIterator<Item = S>) -> Self {
        assert!(
            super::identity::is_root(),
            "only root traces setuid programs"
        );
        for expression in expressions {
            self.trace.push("-e".into());
            self.trace.push(expression.as_ref().into());
        }
        self
    }

    /// Runs it under strace(1), which notes in a file what is done to files, of every process; bytes as `\xHH`,
    /// descriptors with their paths.
    pub fn recorded(self, record: &Path) -> Self {
        let calls = "trace=openat,mkdir,mkdirat,symlink,rename,unlink,unlinkat,rmdir,chmod,write,fsync,fdatasync";
        self.recorded_calls(record, calls)
    }

    /// The same with these calls.
    pub fn recorded_calls(mut self, record: &Path, calls: &str) -> Self {
        self = self.traced([calls]);
        self.record = Some(record.to_owned());
        self
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.vars
            .push((name.into(), Some(value.as_ref().to_owned())));
        self
    }

    pub fn env_remove(mut self, name: &str) -> Self {
        self.vars.push((name.into(), None));
        self
    }

    /// Standard input holds these bytes and then ends.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Input::Bytes(bytes.into());
        self
    }

    /// Standard input stays open until [`Running::close_stdin`].
    pub fn stdin_open(mut self) -> Self {
        self.stdin = Input::Open;
        self
    }

    /// Standard input is a file or whatever else.
    pub fn stdin_from(mut self, file: impl Into<Stdio>) -> Self {
        self.stdin = Input::File(file.into());
        self
    }

    /// Waits longer than [`deadline`](super::deadline) for its end.
    pub fn patient(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    pub fn current_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.cwd = dir.as_ref().to_owned();
        self
    }

    /// What has strace look at the calls that it tampers with and at no others, whose arguments it would fetch and write
    /// down for nobody.
    fn traced_calls(&self) -> Vec<String> {
        let tampered = self.trace.iter().filter_map(|e| e.strip_prefix("inject="));
        let calls: Vec<_> = tampered.filter_map(|e| e.split(':').next()).collect();
        match calls.is_empty() || self.record.is_some() {
            true => Vec::new(),
            false => vec!["-e".into(), format!("trace={}", calls.join(","))],
        }
    }

    /// The program and its arguments behind what makes the identity: `prefix` comes in the middle.
    pub(super) fn command(&self, prefix: &[&str]) -> Command {
        let env = self.env;
        // Whoever started the tests in the background may have had signals ignored.
        let mut command = Command::new("env");
        command.args(["--default-signal", "prlimit"]);
        command.arg(format!("--rttime={}:", env.tag)).args(prefix);
        if !self.trace.is_empty() {
            command.args(["strace", "-f", "-qq", "-o"]);
            match &self.record {
                Some(record) => command.arg(record).args(["-y", "-xx", "-s", "1000000"]),
                None => command.arg("/dev/null"),
            };
            command.args(&self.trace).args(self.traced_calls());
            if env.who != Identity::Root {
                command.args(["-u", &super::identity::name_of(env.user.uid)]);
            }
        }
        if env.who == Identity::Unshared {
            command.args(["unshare", "--map-root-user"]);
        }
        command
            .arg(&self.path)
            .args(&self.args)
            .current_dir(&self.cwd);
        if super::identity::is_root() && self.trace.is_empty() {
            command.uid(env.user.uid).gid(env.user.gid);
        }
        let dir = env.dir();
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LC_ALL", "C");
        let places = [
            ("HOME", "home"),
            ("XDG_RUNTIME_DIR", "run"),
            ("XDG_DATA_HOME", "data"),
            ("TMPDIR", "tmp"),
        ];
        for (name, place) in places {
            command.env(name, dir.join(place));
        }
        for (name, value) in &self.vars {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// Starts it, with pipes for the three streams.
    #[track_caller]
    pub fn spawn(mut self) -> Running<'a> {
        let mut command = self.command(&[]);
        let stdin = std::mem::replace(&mut self.stdin, Input::Nothing);
        let (pipe, bytes) = match stdin {
            Input::Nothing => (Stdio::null(), None),
            Input::Bytes(bytes) => (Stdio::piped(), Some(bytes)),
            Input::Open => (Stdio::piped(), None),
            Input::File(file) => (file, None),
        };
        let mut child = command
            .stdin(pipe)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It gives itself the tag, but might not have come to that when it is looked for.
        let tag = Rlimit {
            current: Some(self.env.tag),
            maximum: None,
        };
        let _ = prlimit(Some(Pid::from_child(&child)), Resource::Rttime, tag);
        let mut stdin = child.stdin.take();
        if let Some(bytes) = bytes {
            let mut stdin = stdin.take().unwrap();
            // The program may end before it has read everything.
            std::thread::spawn(move || stdin.write_all(&bytes));
        }
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Running {
            env: self.env,
            line: format!("{:?} {:?}", self.path, self.args),
            deadline: self.deadline,
            stdout: read_in_background(stdout),
            stderr: read_in_background(stderr),
            seen: (Vec::new(), Vec::new()),
            stdin,
            child,
            done: false,
        }
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(self) -> Output {
        self.spawn().wait()
    }

    /// Runs it to its end in a terminal of its own.
    #[track_caller]
    pub fn terminal(self) -> super::Terminal<'a> {
        let command = self.command(&["setsid", "--ctty", "--wait"]);
        super::Terminal::start(self.env, command)
    }
}

fn read_in_background(mut stream: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65536];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Adds to what was seen of a stream until a text is in it; everything that was seen, when it does not come in time.
fn await_text(
    stream: &Receiver<Vec<u8>>,
    seen: &mut Vec<u8>,
    text: &str,
    end: Instant,
) -> Result<(), String> {
    while !contains(seen, text.as_bytes()) {
        let left = end.saturating_duration_since(Instant::now());
        match stream.recv_timeout(left) {
            Ok(bytes) => seen.extend(bytes),
            Err(_) => return Err(String::from_utf8_lossy(seen).into_owned()),
        }
    }
    Ok(())
}

/// A program that runs.
pub struct Running<'a> {
    env: &'a Env,
    line: String,
    deadline: Duration,
    stdout: Receiver<Vec<u8>>,
    stderr: Receiver<Vec<u8>>,
    seen: (Vec<u8>, Vec<u8>),
    stdin: Option<ChildStdin>,
    child: Child,
    done: bool,
}

impl Running<'_> {
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Sends a signal to the program itself.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid()).unwrap(), signal).unwrap();
    }

    pub fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("stdin_open() was asked for");
        stdin.write_all(bytes).and_then(|()| stdin.flush()).unwrap();
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits until standard output has shown a text; returns everything up to there.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let (seen, end) = (&mut self.seen.0, Instant::now() + self.deadline);
        if let Err(shown) = await_text(&self.stdout, seen, text, end) {
            let stderr: Vec<u8> = self.stderr.try_iter().flatten().collect();
            panic!(
                "{}: no `{text}` on standard output: {shown}{}",
                self.line,
                String::from_utf8_lossy(&stderr)
            );
        }
        String::from_utf8_lossy(&self.seen.0).into_owned()
    }

    /// Waits until standard error has shown a text.
    #[track_caller]
    pub fn expect_told(&mut self, text: &str) {
        let (seen, end) = (&mut self.seen.1, Instant::now() + self.deadline);
        if let Err(shown) = await_text(&self.stderr, seen, text, end) {
            panic!("{}: no `{text}` on standard error: {shown}", self.line);
        }
    }

    /// Waits for the end of the program and of both streams. A stream that stays open after the program
    /// has ended is held by something left behind, which is a failure.
    #[track_caller]
    pub fn wait(mut self) -> Output {
        self.stdin = None;
        let end = Instant::now() + self.deadline;
        let status = loop {
            // Keep the pipes' buffers small while waiting.
            self.seen.0.extend(self.stdout.try_iter().flatten());
            self.seen.1.extend(self.stderr.try_iter().flatten());
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > end {
                let left = self.env.processes();
                leak::kill(self.env.tag);
                let text = [&*self.seen.0, &*self.seen.1]
                    .map(String::from_utf8_lossy)
                    .concat();
                panic!(
                    "{} does not end in {} s: {left:#?}\n{text}",
                    self.line,
                    self.deadline.as_secs()
                );
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        self.done = true;
        for (stream, seen) in [
            (&self.stdout, &mut self.seen.0),
            (&self.stderr, &mut self.seen.1),
        ] {
            loop {
                match stream.recv_timeout(super::seconds(15)) {
                    Ok(bytes) => seen.extend(bytes),
                    Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                    Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                        panic!(
                            "{} has ended, its output is still open: {:#?}",
                            self.line,
                            self.env.processes()
                        )
                    }
                }
            }
        }
        let (stdout, stderr) = std::mem::take(&mut self.seen);
        Output {
            line: self.line.clone(),
            status,
            stdout,
            stderr,
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.done {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

/// What came out of a program.
#[derive(Debug)]
pub struct Output {
    line: String,
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text, without the line break at its end.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    /// Standard error as text.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// The exit status; fails when a signal ended the program itself.
    #[track_caller]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| {
            panic!(
                "{} was ended by signal {:?}\n{}",
                self.line,
                self.status.signal(),
                self.err()
            )
        })
    }

    /// Fails unless the exit status is this one.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code(),
            code,
            "{}\nstdout: {}\nstderr: {}",
            self.line,
            self.out(),
            self.err()
        );
        self
    }

    /// Fails unless the exit status is 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// Fails unless standard error has this text.
    #[track_caller]
    pub fn complains(self, text: &str) -> Self {
        assert!(
            self.err().contains(text),
            "{}: no `{text}` on standard error:\n{}",
            self.line,
            self.err()
        );
        self
    }

    /// Fails unless rl itself failed with one `error:` line holding this text, in the style of the house:
    /// no Rust debug output, no panic.
    #[track_caller]
    pub fn refuses(self, status: i32, text: &str) -> Self {
        let output = self.exits(status).complains(text);
        let err = output.err();
        assert_eq!(
            err.lines()
                .filter(|line| line.starts_with("error:"))
                .count(),
            1,
            "{}:\n{err}",
            output.line
        );
        for bad in ["panicked", "RUST_BACKTRACE", "Some(", "Os {"] {
            assert!(!err.contains(bad), "{}:\n{err}", output.line);
        }
        output
    }
}
