//! Pickles: one after the other, to the end of the file.
//!
//! A pickle has no magic number. Bytes are taken for one if they begin with PROTO and go on as a
//! pickle would, or run to STOP, or call something that they name; a text that happens to begin
//! with an opcode does none of these.

mod calls;
mod globals;
mod hostile;
mod joblib_array;
mod literals;
mod machine;
mod value;

use std::io;

use super::super::content::ReadAt;
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
    let mut at = start;
    let mut opcodes = 0;
    for number in 1.. {
        let mut machine = Machine::new(content, at, 0);
        machine.opcodes = opcodes;
        let before = machine.opcodes;
        let ending = machine.run()?;
        opcodes = machine.opcodes;
        if !is_believed(&machine, &ending, opcodes - before) {
            if number > 1 {
                tell_trailing(examiner, place, content.size() - at);
            }
            return Ok(number > 1);
        }
        if let Ending::Broken(why) = &ending {
            machine.note_broken(why);
        }
        tell(examiner, place, &machine);
        for (at, length) in std::mem::take(&mut machine.nested) {
            let inner = Part::new(content, at, length);
            if !examiner.examine_inside(place, &inner)? {
                let message = "bytes that torch loads as a model are none".to_string();
                examiner.report(ODD_PICKLE, place, message);
            }
        }
        let Ending::Stopped(end) = ending else {
            return Ok(true);
        };
        at = end;
        // Each storage is written as its number of elements, and its bytes.
        let bytes = machine.storages.values();
        storages = bytes.fold(storages, |sum, n| sum.saturating_add(*n).saturating_add(8));
        let left = content.size() - at;
        if left == 0 || (is_torch && number == TORCH_PICKLES && left == storages) {
            return Ok(true);
        }
        if number >= MOST_PICKLES {
            let message = format!("it holds more than {MOST_PICKLES} pickles");
            examiner.report(ODD_PICKLE, place, message);
            return Ok(true);
        }
    }
    Ok(true)
}

/// Says whether a name is one that runs code, for other formats that import what they name.
pub(super) fn names_code(module: &str, name: &str) -> bool {
    globals::standing(module, name) == globals::Standing::Hostile
}

fn is_believed(machine: &Machine, ending: &Ending, opcodes: u64) -> bool {
    let stopped = matches!(ending, Ending::Stopped(_));
    if machine.headed {
        stopped || machine.named || opcodes >= ENOUGH_OPCODES
    } else {
        (stopped && opcodes > 1) || machine.called
    }
}

fn tell_trailing(examiner: &mut Examiner, place: &str, bytes: u64) {
    let message = format!("{bytes} bytes behind its pickles belong to nothing");
    examiner.report(TRAILING_BYTES, place, message);
}

/// Tells what a pickle does; of a global that is called, not that it is imported.
fn tell(examiner: &mut Examiner, place: &str, machine: &Machine) {
    for (n, note) in machine.notes.iter().enumerate() {
        let called = note.about.is_some()
            && machine.notes[n + 1..]
                .iter()
                .any(|later| later.about == note.about);
        if !called {
            examiner.report(note.rule, place, note.message.clone());
        }
    }
}
