//! Model files, decided by what they hold, never by their name.
//!
//! A format is known by its first bytes; what an archive holds is examined as if it were a file.
//! Nothing is loaded: each format is read as its loaders read it, and where loaders differ the file
//! is not safe.

mod compressed;
mod gguf;
mod hdf5;
mod keras;
mod numpy_file;
mod onnx;
mod pickle;
pub(crate) mod rules;
mod safetensors_file;
mod tar_archive;
mod template;
mod window;
mod zip_archive;
mod zip_headers;

use std::io;

use super::content::ReadAt;
use super::finding::{Finding, Severity, Verdict};
use super::rules::Rule;
use window::read_some;

/// What was found in one file.
#[derive(Debug, Default)]
pub(crate) struct ModelExamination {
    /// None: it is no model file, pickle or archive.
    pub verdict: Option<Verdict>,
    pub findings: Vec<Finding>,
}

/// Findings of one file; what more there is says nothing new.
const MOST_FINDINGS: usize = 50;
/// Archives inside of archives.
const DEEPEST: u32 = 5;
/// Bytes that one file may be unpacked to in memory, all of its archives together.
const MOST_UNPACKED: u64 = 512 << 20;
/// Bytes that are read to know a format: a tar's first header.
const HEAD: usize = 512;

/// Examines the file at `path`, of which only its name's use in findings is taken.
///
/// # Errors
/// What the system says of a read: nothing is known of the file then.
pub(crate) fn examine_model(path: &str, content: &dyn ReadAt) -> io::Result<ModelExamination> {
    let mut examiner = Examiner::default();
    let known = examiner.examine(path, content)?;
    let worst = examiner.findings.iter().map(|f| f.severity).max();
    let verdict = match worst {
        Some(Severity::Critical) => Some(Verdict::Hostile),
        Some(_) => Some(Verdict::Review),
        None => known.then_some(Verdict::Safe),
    };
    Ok(ModelExamination {
        verdict,
        findings: examiner.findings,
    })
}

/// What is known of a file so far.
#[derive(Default)]
struct Examiner {
    findings: Vec<Finding>,
    depth: u32,
    unpacked: u64,
}

impl Examiner {
    fn report(&mut self, rule: &'static Rule, place: &str, message: String) {
        let finding = Finding::about_file(rule, place, message);
        let critical = finding.severity == Severity::Critical;
        let room = self.findings.len() < MOST_FINDINGS || critical && self.nothing_critical();
        if room && !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    fn nothing_critical(&self) -> bool {
        let mut all = self.findings.iter();
        all.all(|f| f.severity != Severity::Critical)
    }

    /// Examines what an archive holds. Returns whether its format is known.
    fn examine_inside(&mut self, place: &str, content: &dyn ReadAt) -> io::Result<bool> {
        if self.depth >= DEEPEST {
            let message = format!("it holds archives inside of archives, {DEEPEST} deep");
            self.report(rules::DEEP_ARCHIVE, place, message);
            return Ok(true);
        }
        self.depth += 1;
        let known = self.examine(place, content);
        self.depth -= 1;
        known
    }

    /// Examines one file, or one member of an archive.
    fn examine(&mut self, place: &str, content: &dyn ReadAt) -> io::Result<bool> {
        let head = read_some(content, 0, HEAD)?;
        let known = match Format::of(&head, content.size()) {
            Format::Zip => return zip_archive::examine(self, place, content),
            // The first name in a tar can be a pickle.
            Format::Tar => {
                pickle::examine(self, place, content, 0)?;
                return tar_archive::examine(self, place, content);
            }
            Format::Unopened(name) => {
                let message = format!("comfy does not open {name}");
                self.report(rules::UNOPENED_ARCHIVE, place, message);
                true
            }
            Format::Packed(kind) => compressed::examine(self, place, content, kind)?,
            Format::Numpy => numpy_file::examine(self, place, content)?,
            Format::Gguf => gguf::examine(self, place, content)?,
            Format::Hdf5 => hdf5::examine(self, place, content)?,
            Format::Safetensors => safetensors_file::examine(self, place, content)?,
            Format::Json => keras::examine(self, place, content)?,
            Format::Other => {
                // Its pickles are followed to its last byte.
                if pickle::examine(self, place, content, 0)? {
                    return Ok(true);
                }
                compressed::examine_weak(self, place, content, &head)?
                    || onnx::examine(self, place, content)?
            }
        };
        // A zip is found from its end, whatever stands before it.
        let appended = zip_archive::examine_appended(self, place, content, &head)?;
        Ok(known || appended)
    }
}

/// What the first bytes say.
enum Format {
    Zip,
    Packed(compressed::Packing),
    Unopened(&'static str),
    Numpy,
    Gguf,
    Hdf5,
    Safetensors,
    Tar,
    Json,
    Other,
}

impl Format {
    fn of(head: &[u8], size: u64) -> Format {
        use compressed::Packing;
        let begins = |magic: &[u8]| head.starts_with(magic);
        let bzip2 = begins(b"BZh")
            && matches!(
                head.get(4..10),
                Some(b"\x31\x41\x59\x26\x53\x59" | b"\x17\x72\x45\x38\x50\x90")
            );
        if begins(b"PK\x03\x04") || begins(b"PK\x05\x06") || begins(b"PK\x07\x08") {
            Format::Zip
        } else if begins(b"7z\xbc\xaf\x27\x1c") {
            Format::Unopened("7z")
        } else if begins(b"Rar!\x1a\x07") {
            Format::Unopened("RAR")
        } else if begins(b"\x28\xb5\x2f\xfd") {
            Format::Unopened("Zstandard")
        } else if begins(b"\x04\x22\x4d\x18") {
            Format::Unopened("LZ4")
        } else if begins(b"LZIP") {
            Format::Unopened("lzip")
        } else if begins(b"\x1f\x8b\x08") {
            Format::Packed(Packing::Gzip)
        } else if bzip2 {
            Format::Packed(Packing::Bzip2)
        } else if begins(b"\xfd7zXZ\x00") {
            Format::Packed(Packing::Xz)
        } else if begins(b"\x93NUMPY") {
            Format::Numpy
        } else if begins(b"GGUF") {
            Format::Gguf
        } else if begins(b"\x89HDF\r\n\x1a\n") {
            Format::Hdf5
        } else if safetensors_file::begins_like_one(head, size) {
            Format::Safetensors
        } else if tar_archive::begins_like_one(head) {
            Format::Tar
        } else if keras::begins_like_one(head) {
            Format::Json
        } else {
            Format::Other
        }
    }
}

#[cfg(test)]
mod tests;
