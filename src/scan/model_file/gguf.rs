//! GGUF: counts and offsets that parsers trust, and chat templates that loaders run.
//!
//! Source: ggml, `docs/gguf.md`.

use std::io;

use super::super::content::ReadAt;
use super::window::{Fault, Part, Window};
use super::{Examiner, rules, template};
use crate::text::escape_text;

/// Keys of metadata and tensors: the largest models have some thousand.
const MOST_KEYS: u64 = 100_000;
const LONGEST_KEY: u64 = 65_535;
const LONGEST_TEMPLATE: u64 = 4 << 20;
const DEEPEST_ARRAY: u32 = 4;

pub(super) fn examine(
    examiner: &mut Examiner,
    place: &str,
    content: &dyn ReadAt,
) -> io::Result<bool> {
    let mut file = GgufFile {
        window: Window::new(content, 4),
        alignment: 32,
    };
    let read = file.read(examiner, place);
    match Fault::split(read)? {
        Ok(Some(end)) if end < content.size() => {
            let message = format!(
                "{} bytes behind its tensors belong to nothing",
                content.size() - end
            );
            examiner.report(rules::TRAILING_BYTES, place, message);
            examiner.examine_inside(place, &Part::after(content, end))?;
        }
        Ok(_) => {}
        Err(why) => {
            let message = format!("the GGUF file is not consistent: {why}");
            examiner.report(rules::ODD_GGUF, place, message);
        }
    }
    Ok(true)
}

struct GgufFile<'a> {
    window: Window<'a>,
    alignment: u64,
}

/// What is taken of a value.
enum Taken {
    Text(String),
    Number(u64),
    Other,
}

impl GgufFile<'_> {
    /// Returns where the tensors end, if the sizes of all are known.
    fn read(&mut self, examiner: &mut Examiner, place: &str) -> Result<Option<u64>, Fault> {
        let version = self.window.u32()?;
        if !(2..=3).contains(&version) {
            return Fault::broken(format!("its version is {version}"));
        }
        let (tensors, keys) = (self.window.u64()?, self.window.u64()?);
        // A key takes 12 bytes at least, a tensor 24.
        if keys > MOST_KEYS || tensors > MOST_KEYS || keys * 12 + tensors * 24 > self.window.left()
        {
            return Fault::broken("it announces more than it can hold");
        }
        for _ in 0..keys {
            let key = self.text(LONGEST_KEY)?;
            let kind = self.window.u32()?;
            let wanted = key.contains("template");
            match self.value(kind, wanted, 0)? {
                Taken::Text(text) if wanted => template::examine(examiner, place, &key, &text),
                Taken::Number(n) if key == "general.alignment" => {
                    if !n.is_power_of_two() || n > 1 << 20 {
                        return Fault::broken("its alignment is none");
                    }
                    self.alignment = n;
                }
                _ => {}
            }
        }
        self.tensors(tensors)
    }

    fn text(&mut self, most: u64) -> Result<String, Fault> {
        let length = self.window.u64()?;
        if length > most {
            return Fault::broken("a text in it is longer than any model's");
        }
        let bytes = self.window.take(length as usize)?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    fn value(&mut self, kind: u32, wanted: bool, depth: u32) -> Result<Taken, Fault> {
        match kind {
            8 if wanted => return self.text(LONGEST_TEMPLATE).map(Taken::Text),
            8 => {
                let length = self.window.u64()?;
                self.window.skip(length)?;
            }
            4 => return Ok(Taken::Number(self.window.u32()?.into())),
            10 => return Ok(Taken::Number(self.window.u64()?)),
            9 => {
                let (inner, count) = (self.window.u32()?, self.window.u64()?);
                if depth >= DEEPEST_ARRAY {
                    return Fault::broken("its arrays hold arrays");
                }
                return self.array(inner, count, wanted, depth);
            }
            _ => match size_of_value(kind) {
                Some(size) => self.window.skip(size)?,
                None => return Fault::broken(format!("a value has the unknown type {kind}")),
            },
        }
        Ok(Taken::Other)
    }

    fn array(&mut self, kind: u32, count: u64, wanted: bool, depth: u32) -> Result<Taken, Fault> {
        if let Some(size) = size_of_value(kind) {
            let Some(bytes) = count.checked_mul(size) else {
                return Fault::broken("it announces more than it can hold");
            };
            self.window.skip(bytes)?;
            return Ok(Taken::Other);
        }
        if count > self.window.left() / 8 {
            return Fault::broken("it announces more than it can hold");
        }
        let mut all = String::new();
        for _ in 0..count {
            if let Taken::Text(text) = self.value(kind, wanted, depth + 1)? {
                all.push_str(&text);
                all.push('\n');
            }
            if all.len() as u64 > LONGEST_TEMPLATE {
                return Fault::broken("a text in it is longer than any model's");
            }
        }
        Ok(Taken::Text(all))
    }

    fn tensors(&mut self, count: u64) -> Result<Option<u64>, Fault> {
        let mut ends = Vec::new();
        let mut all_known = true;
        for _ in 0..count {
            let name = self.text(LONGEST_KEY)?;
            let dimensions = self.window.u32()?;
            if dimensions > 8 {
                return Fault::broken(format!(
                    "tensor {} has {dimensions} dimensions",
                    escape_text(&name)
                ));
            }
            let mut elements = Some(1_u64);
            for _ in 0..dimensions {
                let side = self.window.u64()?;
                elements = elements.and_then(|e| e.checked_mul(side));
            }
            let kind = self.window.u32()?;
            let offset = self.window.u64()?;
            let Some(elements) = elements else {
                return Fault::broken(format!("tensor {} is impossibly large", escape_text(&name)));
            };
            if offset % self.alignment != 0 {
                return Fault::broken(format!("tensor {} is not aligned", escape_text(&name)));
            }
            let end = size_of_tensor(kind, elements).and_then(|size| offset.checked_add(size));
            all_known &= end.is_some();
            ends.push(end.unwrap_or(offset));
        }
        let last = ends.into_iter().max().unwrap_or(0);
        let start = self.window.offset().next_multiple_of(self.alignment);
        let size = self.window.offset() + self.window.left();
        let Some(end) = start.checked_add(last) else {
            return Fault::broken("a tensor lies outside of the file");
        };
        if count > 0 && end > size {
            return Fault::broken("a tensor lies outside of the file");
        }
        // What is written is padded, and so may be what is not.
        let end = end.next_multiple_of(self.alignment);
        Ok(all_known.then_some(end.max(self.window.offset())))
    }
}

/// Bytes of a value that has always the same (`gguf_metadata_value_type`).
fn size_of_value(kind: u32) -> Option<u64> {
    Some(match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        _ => return None,
    })
}

/// Bytes of a tensor, of those types that ggml has and will not change (`ggml.h`, `ggml_type`):
/// elements of a block, and its bytes.
fn size_of_tensor(kind: u32, elements: u64) -> Option<u64> {
    let (block, bytes) = match kind {
        0 | 26 => (1, 4),
        1 | 25 | 30 => (1, 2),
        24 => (1, 1),
        27 | 28 => (1, 8),
        2 => (32, 18),
        3 => (32, 20),
        6 => (32, 22),
        7 => (32, 24),
        8 => (32, 34),
        9 => (32, 36),
        10 => (256, 84),
        11 => (256, 110),
        12 => (256, 144),
        13 => (256, 176),
        14 => (256, 210),
        15 => (256, 292),
        16 => (256, 66),
        17 => (256, 74),
        18 => (256, 98),
        19 => (256, 50),
        20 => (32, 18),
        21 => (256, 110),
        22 => (256, 82),
        23 => (256, 136),
        29 => (256, 56),
        _ => return None,
    };
    elements.div_ceil(block).checked_mul(bytes)
}
