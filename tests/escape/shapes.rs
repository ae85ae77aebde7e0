//! What stands in the way of a mount in a hostile image.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Makes one at a path.
pub type Make = Box<dyn Fn(&Path)>;

/// What an image may have in the place of something that we mount on or read.
pub fn shapes(canary: &Path) -> Vec<(&'static str, Make)> {
    let link = |to: PathBuf| -> Make { Box::new(move |at| symlink(&to, at).unwrap()) };
    vec![
        ("an absolute link out, to a directory", link(canary.into())),
        ("an absolute link out, to a file", link(canary.join("file"))),
        ("a dangling link out", link(canary.join("new"))),
        (
            "a relative link out",
            link(PathBuf::from("../../../../../../../..").join(&canary.to_str().unwrap()[1..])),
        ),
        ("a relative link beside the root", link("../canary".into())),
        (
            "a magic link to a root",
            link(Path::new("/proc/self/root").join(&canary.to_str().unwrap()[1..])),
        ),
        ("a magic link to a directory", link("/proc/self/cwd".into())),
        ("a link to a descriptor", link("/proc/self/fd/7".into())),
        ("a link into the root", link("/elsewhere".into())),
        ("a link to the root", link("/".into())),
        ("a link to /proc", link("/proc".into())),
        ("a loop", link("loop".into())),
        ("a file", Box::new(|at| fs::write(at, "").unwrap())),
        ("a directory", Box::new(|at| fs::create_dir(at).unwrap())),
        (
            "a fifo",
            Box::new(|at| {
                let mode = rustix::fs::Mode::from_raw_mode(0o666);
                rustix::fs::mknodat(rustix::fs::CWD, at, rustix::fs::FileType::Fifo, mode, 0)
                    .unwrap();
            }),
        ),
        (
            "a socket",
            Box::new(|at| {
                // Through a shorter name: the path of a socket is bounded.
                let dir = fs::File::open(at.parent().unwrap()).unwrap();
                use std::os::fd::AsRawFd as _;
                let name = at.file_name().unwrap().to_str().unwrap();
                drop(
                    UnixListener::bind(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))
                        .unwrap(),
                );
            }),
        ),
    ]
}
