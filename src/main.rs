//! The program: picks the stage and maps an error to an exit status.
fn main() {}
