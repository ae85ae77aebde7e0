//! From decisions to a classic BPF program.
//!
//! The program first finds the architecture, then walks a binary tree over the system call numbers (ranges
//! of neighbours with the same decision are one leaf), then compares arguments where a decision asks for
//! it. Up to the arguments it uses nothing but `ld nr`, `ld arch`, `jeq`, `jge`, `ja` and `ret`: the kernel
//! can then foresee calls that are always allowed and never runs the program for them
//! (`seccomp_is_const_allow`, kernel/seccomp.c, since Linux 5.11).
//!
//! It is written back to front: every jump goes forward, so its target is already there and the distance is
//! known. A conditional jump reaches 255 instructions; what lies further off is reached over an
//! unconditional jump, or over a second copy of the `ret`.

use crate::sys::seccomp::{MAX_LEN, SockFilter};

use super::table::{Arch, NUMBERS};

/// What happens with a call (seccomp(2), in the order of the kernel's precedence, reversed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is carried out.
    Allow,
    /// It is carried out and written to the audit log.
    Log,
    /// A tracer decides; the number is handed to it. Without a tracer the call fails with `ENOSYS`.
    Trace(u16),
    /// It is not carried out and fails with this errno.
    Errno(u16),
    /// It is not carried out and the thread gets SIGSYS.
    Trap,
    /// The thread ends as if killed by SIGSYS.
    KillThread,
    /// The process ends as if killed by SIGSYS.
    KillProcess,
}

impl Action {
    /// `SECCOMP_RET_*` with its data (include/uapi/linux/seccomp.h).
    pub const fn ret(self) -> u32 {
        match self {
            Action::Allow => 0x7fff_0000,
            Action::Log => 0x7ffc_0000,
            Action::Trace(data) => 0x7ff0_0000 | data as u32,
            Action::Errno(errno) => 0x0005_0000 | errno as u32,
            Action::Trap => 0x0003_0000,
            Action::KillThread => 0x0000_0000,
            Action::KillProcess => 0x8000_0000,
        }
    }
}

/// How an argument is compared, as 64-bit numbers without sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// argument == value
    Eq,
    /// argument != value
    Ne,
    /// argument < value
    Lt,
    /// argument <= value
    Le,
    /// argument > value
    Gt,
    /// argument >= value
    Ge,
    /// argument & mask == value & mask
    MaskedEq(u64),
}

/// A condition on one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cond {
    /// Which argument, 0 to 5.
    pub arg: u8,
    /// The comparison.
    pub op: Op,
    /// What it is compared with.
    pub value: u64,
}

/// When all conditions hold, the action is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    /// Empty: always.
    pub all: Vec<Cond>,
    /// What is done then.
    pub then: Action,
}

/// What is done with one system call: the first clause that holds decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Tried in order.
    pub clauses: Vec<Clause>,
    /// When none holds.
    pub otherwise: Action,
}

impl From<Action> for Decision {
    fn from(otherwise: Action) -> Decision {
        Decision {
            clauses: Vec::new(),
            otherwise,
        }
    }
}

/// The decisions for one architecture. The index of a decision stands for it.
#[derive(Clone, Debug)]
pub struct Section {
    /// Whose numbers these are.
    pub arch: Arch,
    decisions: Vec<Decision>,
    by_number: [u16; NUMBERS],
    beyond: u16,
    private: u16,
}

impl Section {
    /// Every number of the table gets `default`, every number beyond it `beyond`. The architecture's private calls
    /// are always allowed: they do nothing that a program could not do by itself on another processor.
    pub fn new(arch: Arch, default: Action, beyond: Action) -> Section {
        let mut section = Section {
            arch,
            decisions: vec![default.into(), beyond.into()],
            by_number: [0; NUMBERS],
            beyond: 1,
            private: 1,
        };
        if !arch.private().is_empty() {
            section.private = section.intern(Action::Allow.into());
        }
        section
    }

    /// Files a decision and answers its index; the same decision is kept once.
    pub fn intern(&mut self, decision: Decision) -> u16 {
        let found = self.decisions.iter().position(|d| *d == decision);
        found.unwrap_or_else(|| {
            self.decisions.push(decision);
            self.decisions.len() - 1
        }) as u16
    }

    /// Decides the call in a row of the table; without effect where the architecture does not have it.
    pub(super) fn decide(&mut self, row: u16, decision: u16) {
        if let Some(number) = self.arch.of(row) {
            self.set(number, decision);
        }
    }

    /// Decides a number below [`NUMBERS`].
    pub fn set(&mut self, number: u32, decision: u16) {
        self.by_number[number as usize] = decision;
    }

    /// What was decided for a number.
    pub fn get(&self, number: u32) -> &Decision {
        let index = self.by_number.get(number as usize).copied();
        let above = || {
            let private = self.arch.private().contains(&number);
            if private { self.private } else { self.beyond }
        };
        &self.decisions[usize::from(index.unwrap_or_else(above))]
    }

    /// Neighbouring numbers with the same decision: the first number of each run, and the decision.
    fn runs(&self) -> Vec<(u32, u16)> {
        let mut runs: Vec<(u32, u16)> = Vec::with_capacity(128);
        let private = self.arch.private().iter();
        let above = private.flat_map(|&number| [(number, self.private), (number + 1, self.beyond)]);
        let below = (0..).zip(self.by_number);
        let beyond = (NUMBERS as u32, self.beyond);
        for (number, decision) in below.chain([beyond]).chain(above) {
            if runs.last().is_none_or(|last| last.1 != decision) {
                runs.push((number, decision));
            }
        }
        runs
    }
}

/// A whole filter.
#[derive(Clone, Debug)]
pub struct Filter {
    /// One per architecture, the most frequent first.
    pub sections: Vec<Section>,
    /// Calls in the x32 convention: those of x86-64 with bit 30 set. The number -1, which a tracer sets to
    /// skip a call, has that bit too.
    pub x32: Action,
    /// Calls of any other architecture.
    pub other_arch: Action,
}

/// The program does not fit: instructions it would need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong(pub usize);

/// Makes the program.
///
/// # Errors
/// [`TooLong`] when it needs more than [`MAX_LEN`] instructions.
pub fn assemble(filter: &Filter) -> Result<Vec<SockFilter>, TooLong> {
    let mut asm = Asm {
        reversed: Vec::with_capacity(512),
        rets: Vec::new(),
    };
    let mut next = To::Ret(filter.other_arch.ret());
    for section in filter.sections.iter().rev() {
        let enter = asm.section(section, filter.x32);
        next = To::At(asm.branch(JEQ, section.arch.audit(), enter, next));
    }
    match next {
        To::At(_) => _ = asm.push(LD, DATA_ARCH),
        To::Ret(value) => _ = asm.push(RET, value),
    }
    if asm.reversed.len() > MAX_LEN {
        return Err(TooLong(asm.reversed.len()));
    }
    asm.reversed.reverse();
    Ok(asm.reversed)
}

// include/uapi/linux/bpf_common.h
const LD: u16 = 0x20;
const AND: u16 = 0x54;
const JA: u16 = 0x05;
const JEQ: u16 = 0x15;
const JGT: u16 = 0x25;
const JGE: u16 = 0x35;
const RET: u16 = 0x06;

// Offsets in `struct seccomp_data`; all supported machines are little-endian.
const DATA_NR: u32 = 0;
const DATA_ARCH: u32 = 4;
const DATA_ARGS: u32 = 16;

const X32_BIT: u32 = 0x4000_0000;

/// How far a conditional jump is let go here: two instructions less than it can, as finding the other target
/// may put up to two more in between.
const REACH: usize = 253;

/// Where a jump goes.
#[derive(Clone, Copy)]
enum To {
    /// To an instruction, as its index in `Asm::reversed`.
    At(usize),
    /// To some `ret` of this value.
    Ret(u32),
}

struct Asm {
    reversed: Vec<SockFilter>,
    /// The latest `ret` of each value.
    rets: Vec<(u32, usize)>,
}

impl Asm {
    fn push(&mut self, code: u16, k: u32) -> usize {
        self.reversed.push(SockFilter {
            code,
            jt: 0,
            jf: 0,
            k,
        });
        self.reversed.len() - 1
    }

    /// Instructions between the next one and the one at `index`.
    fn distance(&self, index: usize) -> usize {
        self.reversed.len() - index - 1
    }

    /// An instruction within reach that leads to the target.
    fn near(&mut self, to: To) -> usize {
        match to {
            To::At(index) if self.distance(index) <= REACH => index,
            To::At(index) => {
                let distance = self.distance(index) as u32;
                self.push(JA, distance)
            }
            To::Ret(value) => match self.rets.iter().position(|ret| ret.0 == value) {
                Some(i) if self.distance(self.rets[i].1) <= REACH => self.rets[i].1,
                Some(i) => {
                    self.rets[i].1 = self.push(RET, value);
                    self.rets[i].1
                }
                None => {
                    let index = self.push(RET, value);
                    self.rets.push((value, index));
                    index
                }
            },
        }
    }

    fn branch(&mut self, code: u16, k: u32, yes: To, no: To) -> usize {
        let yes = self.near(yes);
        let no = self.near(no);
        let (jt, jf) = (self.distance(yes) as u8, self.distance(no) as u8);
        self.reversed.push(SockFilter { code, jt, jf, k });
        self.reversed.len() - 1
    }

    /// The part of one architecture; answers its first instruction, which loads the number.
    fn section(&mut self, section: &Section, x32: Action) -> To {
        let leaves: Vec<To> = section
            .decisions
            .iter()
            .map(|decision| self.decision(decision))
            .collect();
        let mut enter = self.tree(&section.runs(), &leaves);
        if section.arch == Arch::X86_64 {
            enter = To::At(self.branch(JGE, X32_BIT, To::Ret(x32.ret()), enter));
        }
        match enter {
            To::At(_) => To::At(self.push(LD, DATA_NR)),
            ret @ To::Ret(_) => ret,
        }
    }

    fn tree(&mut self, runs: &[(u32, u16)], leaves: &[To]) -> To {
        if let [(_, decision)] = runs {
            return leaves[usize::from(*decision)];
        }
        let (low, high) = runs.split_at(runs.len() / 2);
        let yes = self.tree(high, leaves);
        let no = self.tree(low, leaves);
        To::At(self.branch(JGE, high[0].0, yes, no))
    }

    fn decision(&mut self, decision: &Decision) -> To {
        let mut next = To::Ret(decision.otherwise.ret());
        for clause in decision.clauses.iter().rev() {
            let mut held = To::Ret(clause.then.ret());
            for cond in clause.all.iter().rev() {
                held = self.cond(cond, held, next);
            }
            next = held;
        }
        next
    }

    /// Compares one argument, the upper word first.
    fn cond(&mut self, cond: &Cond, yes: To, no: To) -> To {
        let (high, low) = ((cond.value >> 32) as u32, cond.value as u32);
        let all = u32::MAX;
        let lower = |code, yes, no| Word {
            arg: cond.arg,
            upper: false,
            mask: all,
            code,
            k: low,
            yes,
            no,
        };
        let upper = |code, yes, no| Word {
            arg: cond.arg,
            upper: true,
            mask: all,
            code,
            k: high,
            yes,
            no,
        };
        match cond.op {
            Op::Eq => {
                let rest = self.word(lower(JEQ, yes, no));
                self.word(upper(JEQ, rest, no))
            }
            Op::Ne => {
                let rest = self.word(lower(JEQ, no, yes));
                self.word(upper(JEQ, rest, yes))
            }
            Op::Gt => self.ordered(lower(JGT, yes, no), upper(JGT, yes, no)),
            Op::Ge => self.ordered(lower(JGE, yes, no), upper(JGT, yes, no)),
            Op::Lt => self.ordered(lower(JGE, no, yes), upper(JGT, no, yes)),
            Op::Le => self.ordered(lower(JGT, no, yes), upper(JGT, no, yes)),
            Op::MaskedEq(mask) => {
                let (mask_high, mask_low) = ((mask >> 32) as u32, mask as u32);
                let masked = |word: Word, mask| Word {
                    mask,
                    k: word.k & mask,
                    ..word
                };
                let rest = self.word(masked(lower(JEQ, yes, no), mask_low));
                self.word(masked(upper(JEQ, rest, no), mask_high))
            }
        }
    }

    /// The upper words differ, or they are equal and the lower ones decide.
    fn ordered(&mut self, low: Word, high: Word) -> To {
        let rest = self.word(low);
        let equal = self.word(Word {
            code: JEQ,
            yes: rest,
            ..high
        });
        // `equal` loads the upper word first, and that is there already.
        let To::At(load) = equal else { return equal };
        debug_assert_eq!(load + 1, self.reversed.len());
        self.reversed.pop();
        self.word(Word {
            no: To::At(load - 1),
            ..high
        })
    }

    /// Loads one half of an argument and compares it. A mask of zero leaves nothing to compare.
    fn word(&mut self, word: Word) -> To {
        if word.mask == 0 {
            return if word.k == 0 { word.yes } else { word.no };
        }
        self.branch(word.code, word.k, word.yes, word.no);
        if word.mask != u32::MAX {
            self.push(AND, word.mask);
        }
        let offset = DATA_ARGS + u32::from(word.arg) * 8 + if word.upper { 4 } else { 0 };
        To::At(self.push(LD, offset))
    }
}

/// A comparison of one half of an argument.
struct Word {
    arg: u8,
    upper: bool,
    mask: u32,
    code: u16,
    k: u32,
    yes: To,
    no: To,
}
