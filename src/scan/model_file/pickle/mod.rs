//! Pickles: one after the other, to the end of the file.
//!
//! A pickle has no magic number. Bytes are taken for one if they begin with PROTO and go on as a
//! pickle would, or call something that they name, or are opcodes up to a STOP that is their last
//! byte; a text or a tensor that happens to begin with an opcode does none of these.

mod allowed;
mod arguments;
mod calls;
mod estimators;
mod globals;
mod hostile;
mod joblib_array;
mod literals;
mod machine;
mod torch_modules;
mod value;

use std::io;

use super::super::content::ReadAt;
use super::super::rules::Rule;
use super::Examiner;
use super::rules::{ODD_PICKLE, TRAILING_BYTES};
use super::window::{Part, read_some};
use machine::{Ending, Machine};

/// Pickles of one file.
const MOST_PICKLES: u32 = 1000;
/// Opcodes behind PROTO that nobody writes by accident.
const ENOUGH_OPCODES: u64 = 8;
/// What torch's files begin with that are no zip (torch, `serialization.py`, `MAGIC_NUMBER`).
const TORCH_MAGIC: &[u8] = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
/// Pickles of such a file: magic number, protocol, system, the object, keys of its storages.
const TORCH_PICKLES: u32 = 5;

/// Examines the pickles of `content`, of which something else may have been read up to `start`.
/// Returns whether there is one.
pub(super) fn examine(
    examiner: &mut Examiner,
    place: &str,
    content: &dyn ReadAt,
    start: u64,
) -> io::Result<bool> {
    let head = read_some(content, start, 2 + TORCH_MAGIC.len())?;
    let is_torch = head.get(2..) == Some(TORCH_MAGIC);
    let mut storages = 0_u64;
    let (mut at, mut opcodes, mut believed) = (start, 0, false);
    // What is told as soon as it is certain that these are pickles.
    let mut told = Vec::new();
    for number in 1.. {
        let before = opcodes;
        let mut machine = Machine::new(content, at, before, 0);
        let ending = machine.run()?;
        opcodes = machine.opcodes;
        let stopped = matches!(ending, Ending::Stopped(_));
        let is_one = is_believed(&machine, stopped, opcodes - before);
        if !is_one && !stopped {
            let message = format!(
                "{} bytes behind its pickles belong to nothing",
                content.size() - at
            );
            told.push((TRAILING_BYTES, message));
            break;
        }
        believed |= is_one;
        if let Ending::Broken(why) = &ending {
            machine.note_broken(why);
        }
        told.extend(notes_of(&mut machine));
        for (at, length) in std::mem::take(&mut machine.nested) {
            let inner = Part::new(content, at, length);
            if !examiner.examine_inside(place, &inner)? {
                let message = "bytes that torch loads as a model are none".to_string();
                told.push((ODD_PICKLE, message));
            }
        }
        let Ending::Stopped(end) = ending else { break };
        at = end;
        // Each storage is written as its number of elements, and its bytes.
        let bytes = machine.storages.values();
        storages = bytes.fold(storages, |sum, n| sum.saturating_add(*n).saturating_add(8));
        let left = content.size() - at;
        if left == 0 || (is_torch && number == TORCH_PICKLES && left == storages) {
            // Two opcodes and no byte more are no accident.
            believed |= opcodes > 1;
            break;
        }
        if number >= MOST_PICKLES {
            let message = format!("it holds more than {MOST_PICKLES} pickles");
            told.push((ODD_PICKLE, message));
            break;
        }
    }
    if believed {
        for (rule, message) in told {
            examiner.report(rule, place, message);
        }
    }
    Ok(believed)
}

/// Says whether a name is one that runs code, for other formats that import what they name.
pub(super) fn names_code(module: &str, name: &str) -> bool {
    globals::standing(module, name) == globals::Standing::Hostile
}

fn is_believed(machine: &Machine, stopped: bool, opcodes: u64) -> bool {
    let headed = machine.headed && (stopped || machine.named || opcodes >= ENOUGH_OPCODES);
    headed
        || machine.called
        || (stopped && machine.named)
        || machine.named && names_a_runner(machine)
}

/// Whether it names what runs what it is given; a list of words may begin with "cos" and "sin".
fn names_a_runner(machine: &Machine) -> bool {
    machine.heap.globals.iter().any(|global| {
        let names: &[&str] = match global.module.as_str() {
            "builtins" | "__builtin__" => &["exec", "eval", "compile", "__import__", "getattr"],
            "os" | "posix" | "nt" => &["system", "popen", "execv", "execl", "posix_spawn"],
            "subprocess" => &["Popen", "run", "call", "check_call", "check_output"],
            _ => &[],
        };
        names.contains(&global.name.as_str())
    })
}

/// What a pickle does; of a global that is called, not that it is imported.
fn notes_of(machine: &mut Machine) -> Vec<(&'static Rule, String)> {
    let notes = std::mem::take(&mut machine.notes);
    let called = |n: usize, about| notes[n + 1..].iter().any(|later| later.about == about);
    let kept = notes
        .iter()
        .enumerate()
        .filter(|(n, note)| note.about.is_none() || !called(*n, note.about));
    kept.map(|(_, note)| (note.rule, note.message.clone()))
        .collect()
}
