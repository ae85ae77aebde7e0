//! A classic BPF machine, as far as seccomp programs use it, written from the description of the instructions
//! (Documentation/networking/filter.rst) and not from the assembler, so that one checks the other.

use crate::sys::seccomp::SockFilter;

/// What a program sees of a call (`struct seccomp_data`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Call {
    pub nr: u32,
    pub arch: u32,
    pub args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.nr,
            4 => self.arch,
            16..64 if offset.is_multiple_of(4) => {
                let arg = self.args[(offset as usize - 16) / 8];
                if offset.is_multiple_of(8) {
                    arg as u32
                } else {
                    (arg >> 32) as u32
                }
            }
            _ => panic!("load at {offset}"),
        }
    }
}

/// Runs the program: its answer, and how many instructions that took.
pub fn run(program: &[SockFilter], call: &Call) -> (u32, usize) {
    let (mut pc, mut accu, mut steps) = (0, 0, 0);
    loop {
        let SockFilter { code, jt, jf, k } = program[pc];
        pc += 1;
        steps += 1;
        let holds = match code {
            0x20 => {
                accu = call.word(k);
                continue;
            }
            0x54 => {
                accu &= k;
                continue;
            }
            0x05 => {
                pc += k as usize;
                continue;
            }
            0x06 => return (k, steps),
            0x15 => accu == k,
            0x25 => accu > k,
            0x35 => accu >= k,
            other => panic!("instruction {other:#x}"),
        };
        pc += usize::from(if holds { jt } else { jf });
    }
}
