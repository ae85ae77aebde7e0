//! The program: picks the stage and maps an error to an exit status.

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use rl::runtime::join;

fn main() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    if name == rl::runtime::init::NAME {
        rl::runtime::init::main();
    }
    for (stage, outside) in [(join::NAME, false), (join::NAME_OUTSIDE, true)] {
        if name == stage {
            rl::monitor::exec::main(outside);
        }
    }
    // systemd starts a generator by its whole path.
    if Path::new(&name).file_name() == Some(OsStr::new(rl::quadlet::generator::NAME)) {
        return ExitCode::from(rl::cli::generator());
    }
    ExitCode::from(rl::cli::main())
}
