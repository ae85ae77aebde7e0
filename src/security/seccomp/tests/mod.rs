//! The default profile and profiles of the user's own, run on a machine of our own ([`interpreter`]): every
//! number of every architecture, and the arguments that matter.

mod default;
pub(super) mod interpreter;
mod one_id;
mod profile;
mod program;

use super::filter::{Action, Cond, Decision, Op, assemble};
use super::policy;
use super::table::Arch;
use crate::security::caps::CapSet;
use crate::sys::seccomp::SockFilter;
use interpreter::{Call, run};

const EPERM: Action = Action::Errno(libc::EPERM as u16);
const ENOSYS: Action = Action::Errno(libc::ENOSYS as u16);
const NO_FAMILY: Action = Action::Errno(libc::EAFNOSUPPORT as u16);
const ARCHS: [Arch; 4] = [Arch::X86_64, Arch::X86, Arch::Aarch64, Arch::Arm];

fn default(native: Arch, caps: CapSet) -> Vec<SockFilter> {
    assemble(&policy::filter(native, caps)).unwrap()
}

fn ask(program: &[SockFilter], arch: Arch, nr: u32, args: &[u64]) -> u32 {
    let mut call = Call {
        nr,
        arch: arch.audit(),
        ..Call::default()
    };
    call.args[..args.len()].copy_from_slice(args);
    run(program, &call).0
}

fn holds(cond: &Cond, args: &[u64; 6]) -> bool {
    let arg = args[usize::from(cond.arg)];
    match cond.op {
        Op::Eq => arg == cond.value,
        Op::Ne => arg != cond.value,
        Op::Lt => arg < cond.value,
        Op::Le => arg <= cond.value,
        Op::Gt => arg > cond.value,
        Op::Ge => arg >= cond.value,
        Op::MaskedEq(mask) => arg & mask == cond.value & mask,
    }
}

/// What a decision says, without a program.
fn decide(decision: &Decision, args: &[u64; 6]) -> Action {
    let clause = decision
        .clauses
        .iter()
        .find(|clause| clause.all.iter().all(|c| holds(c, args)));
    clause.map_or(decision.otherwise, |clause| clause.then)
}
