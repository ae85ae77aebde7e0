//! The program: picks the stage and maps an error to an exit status.

use std::process::ExitCode;

fn main() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    if name == rl::runtime::init::NAME {
        rl::runtime::init::main();
    }
    if name == rl::runtime::join::NAME {
        rl::runtime::join::main();
    }
    ExitCode::from(rl::cli::main())
}
