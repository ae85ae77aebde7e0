//! The assembler: comparisons, distances, lengths.

use proptest::prelude::*;

use super::super::filter::{Clause, Filter, Section};
use super::super::table::NUMBERS;
use super::*;

fn one_call(decision: Decision) -> Filter {
    let mut section = Section::new(Arch::X86_64, Action::Trap, ENOSYS);
    let index = section.intern(decision);
    section.set(7, index);
    Filter {
        sections: vec![section],
        x32: ENOSYS,
        other_arch: Action::KillProcess,
    }
}

fn cond_strategy() -> impl Strategy<Value = Cond> {
    let word = prop_oneof![0..4_u64, Just(u64::MAX), Just(1 << 32), any::<u64>()];
    (0..6_u8, 0..7_usize, word.clone(), word).prop_map(|(arg, op, value, mask)| {
        let plain = [
            Op::Eq,
            Op::Ne,
            Op::Lt,
            Op::Le,
            Op::Gt,
            Op::Ge,
            Op::MaskedEq(mask),
        ];
        Cond {
            arg,
            op: plain[op],
            value,
        }
    })
}

proptest! {
    #[test]
    fn comparisons_are_those_of_64_bit_numbers(
        cond in cond_strategy(),
        offset in prop_oneof![Just(0_u64), Just(1), Just(u64::MAX), Just(1 << 32), any::<u64>()],
    ) {
        let decision = Decision {
            clauses: vec![Clause { all: vec![cond], then: Action::Allow }],
            otherwise: EPERM,
        };
        let program = assemble(&one_call(decision.clone())).unwrap();
        let mut args = [0x5555; 6];
        args[usize::from(cond.arg)] = cond.value.wrapping_add(offset);
        prop_assert_eq!(ask(&program, Arch::X86_64, 7, &args), decide(&decision, &args).ret());
    }

    /// Programs long enough to need jumps over jumps.
    #[test]
    fn long_programs_jump_right(
        all in prop::collection::vec((prop::collection::vec(cond_strategy(), 1..4), 0..4_u16), 60..200),
        args in prop::array::uniform6(prop_oneof![0..4_u64, any::<u64>()]),
    ) {
        let clauses: Vec<Clause> = all
            .into_iter()
            .map(|(all, errno)| Clause { all, then: Action::Errno(errno) })
            .collect();
        let decision = Decision { clauses, otherwise: Action::Allow };
        let mut filter = one_call(decision.clone());
        for nr in 0..NUMBERS as u32 {
            let index = filter.sections[0].intern(Action::Errno(nr as u16).into());
            if nr != 7 {
                filter.sections[0].set(nr, index);
            }
        }
        let program = assemble(&filter).unwrap();
        prop_assert!(program.len() > 512);
        prop_assert_eq!(ask(&program, Arch::X86_64, 7, &args), decide(&decision, &args).ret());
        for nr in (0..NUMBERS as u32).filter(|nr| *nr != 7) {
            prop_assert_eq!(ask(&program, Arch::X86_64, nr, &args), Action::Errno(nr as u16).ret());
        }
    }
}

#[test]
fn a_program_that_is_too_long_is_refused() {
    let clause = |value| Clause {
        all: vec![Cond {
            arg: 0,
            op: Op::Eq,
            value,
        }],
        then: Action::Errno(value as u16),
    };
    let decision = Decision {
        clauses: (0..2000).map(clause).collect(),
        otherwise: Action::Allow,
    };
    assert!(assemble(&one_call(decision)).is_err());
}
