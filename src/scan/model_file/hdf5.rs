//! HDF5, in which Keras 2 saves: not opened, but searched for what names a Lambda layer.

use std::io;

use super::super::content::ReadAt;
use super::window::read_some;
use super::{Examiner, rules};

/// Bytes that are searched; a larger file of Keras is not known to be harmless.
const MOST: u64 = 16 << 30;
const CHUNK: usize = 4 << 20;
/// Longer than any of the words.
const OVERLAP: usize = 64;

pub(super) fn examine(
    examiner: &mut Examiner,
    place: &str,
    content: &dyn ReadAt,
) -> io::Result<bool> {
    // A class is named in JSON, whose letters can be written as `\u004c`.
    let words: [&[u8]; 4] = [b"class_name", b"Lambda", b"__lambda__", b"\\u00"];
    let mut seen = [false; 4];
    let mut at = 0;
    while at < content.size().min(MOST) {
        let chunk = read_some(content, at, CHUNK + OVERLAP)?;
        for (word, seen) in words.iter().zip(&mut seen) {
            *seen = *seen || memchr::memmem::find(&chunk, word).is_some();
        }
        at += CHUNK as u64;
    }
    let [class, lambda, code, escape] = seen;
    if code || (class && (lambda || escape)) {
        let message = "it names what looks like a Lambda layer of Keras".to_string();
        examiner.report(rules::HDF5_LAMBDA, place, message);
    }
    if content.size() > MOST {
        let message = "it is too large to be searched".to_string();
        examiner.report(rules::UNREADABLE_ARCHIVE, place, message);
    }
    Ok(true)
}
