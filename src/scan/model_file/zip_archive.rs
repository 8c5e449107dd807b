//! Zip archives: what PyTorch, NumPy and Keras save in.
//!
//! Entries are examined whatever their names. Of an entry without compression the first bytes are
//! read, and more only if they begin like a format; a tensor's numbers are no format, and loaders
//! copy them without a look. So a checkpoint of many GiB costs a few reads for each tensor.

use std::collections::BTreeSet;
use std::io;

use super::super::content::ReadAt;
use super::Examiner;
use super::compressed::{self, Packing};
use super::rules;
use super::window::{Fault, Part, read_some};
use super::zip_headers::{self, Directory, Entry, LocalHeader};
use crate::text::escape_text;

/// Flags without meaning for what a loader reads: how well deflate worked, sizes behind the bytes,
/// UTF-8.
const USUAL_FLAGS: u16 = 0x080e;
/// Entries that are compressed further than weights ever are, and not small.
const BOMB_RATIO: u64 = 100;
const BOMB_SIZE: u64 = 16 << 20;

/// Examines a zip that begins at its first byte.
pub(super) fn examine(
    examiner: &mut Examiner,
    place: &str,
    content: &dyn ReadAt,
) -> io::Result<bool> {
    match zip_headers::find_directory(content)? {
        Some(directory) => walk(examiner, place, content, &directory)?,
        None => {
            let message = "the zip has no directory at its end".to_string();
            examiner.report(rules::UNREADABLE_ARCHIVE, place, message);
            walk_without_directory(examiner, place, content)?;
        }
    }
    Ok(true)
}

/// Finds a zip behind bytes of another kind, in a file: what is in an archive is opened by nobody.
pub(super) fn examine_appended(
    examiner: &mut Examiner,
    place: &str,
    content: &dyn ReadAt,
    head: &[u8],
) -> io::Result<bool> {
    // A program that unpacks itself is one; its zip is no model's.
    let is_program = head.starts_with(b"MZ") || head.starts_with(b"\x7fELF");
    if is_program || examiner.depth > 0 {
        return Ok(false);
    }
    let Some(directory) = zip_headers::find_directory(content)?.filter(|d| d.entries > 0) else {
        return Ok(false);
    };
    walk(examiner, place, content, &directory)?;
    Ok(true)
}

fn walk(
    examiner: &mut Examiner,
    place: &str,
    content: &dyn ReadAt,
    directory: &Directory,
) -> io::Result<()> {
    if directory.disagrees {
        let message = "the records at the end of the zip differ".to_string();
        examiner.report(rules::HEADERS_DISAGREE, place, message);
    }
    for (bytes, where_) in [(directory.base, "before"), (directory.comment, "behind")] {
        if bytes > 0 {
            let message = format!("{bytes} bytes {where_} the zip belong to none of its entries");
            examiner.report(rules::EXTRA_BYTES, place, message);
        }
    }
    let entries = match Fault::split(zip_headers::read_entries(content, directory))? {
        Ok(entries) => entries,
        Err(why) => {
            let message = format!("the zip cannot be read: {why}");
            examiner.report(rules::UNREADABLE_ARCHIVE, place, message);
            return walk_without_directory(examiner, place, content);
        }
    };
    let mut names = BTreeSet::new();
    let mut spans = Vec::new();
    for entry in &entries {
        let inner = format!("{place}!{}", shown_name(&entry.name));
        if !names.insert(plain_name(&entry.name)) {
            let message = format!("the zip holds {} twice", shown_name(&entry.name));
            examiner.report(rules::DUPLICATE_NAME, place, message);
        }
        let Some(at) = directory.base.checked_add(entry.at) else {
            continue;
        };
        let local = match Fault::split(zip_headers::read_local(content, at))? {
            Ok(local) => local,
            Err(why) => {
                examiner.report(rules::UNREADABLE_ARCHIVE, &inner, why);
                continue;
            }
        };
        compare(examiner, &inner, entry, &local);
        let end = zip_headers::end_of_entry(content, entry, local.data)?;
        let Some(end) = end.filter(|end| *end <= directory.at) else {
            let message = "where the entry ends is said in two ways".to_string();
            examiner.report(rules::HEADERS_DISAGREE, &inner, message);
            examine_entry(examiner, &inner, content, entry, local.data)?;
            continue;
        };
        spans.push((at, end));
        examine_entry(examiner, &inner, content, entry, local.data)?;
    }
    if spans.len() == entries.len() {
        check_spans(examiner, place, content, directory, spans)?;
    }
    Ok(())
}

/// Entries stand one behind the other, from the first byte to the directory.
fn check_spans(
    examiner: &mut Examiner,
    place: &str,
    content: &dyn ReadAt,
    directory: &Directory,
    mut spans: Vec<(u64, u64)>,
) -> io::Result<()> {
    spans.sort_unstable();
    spans.push((directory.at, directory.at));
    let mut at = directory.base;
    for (begin, end) in spans {
        if begin < at {
            let message = "entries of the zip overlap".to_string();
            examiner.report(rules::HEADERS_DISAGREE, place, message);
        } else if begin > at {
            let message = format!("{} bytes in the zip belong to no entry", begin - at);
            examiner.report(rules::EXTRA_BYTES, place, message);
            examiner.examine_inside(place, &Part::new(content, at, begin - at))?;
        }
        at = at.max(end);
    }
    Ok(())
}

/// Compares the header before an entry with the directory.
fn compare(examiner: &mut Examiner, inner: &str, entry: &Entry, local: &LocalHeader) {
    let own = &local.entry;
    // With a descriptor behind the entry, the header may leave sizes and sum out.
    let left_out = entry.flags & 8 != 0 && own.crc == 0 && own.packed == 0 && own.size == 0;
    let sizes_differ =
        !left_out && (own.crc, own.packed, own.size) != (entry.crc, entry.packed, entry.size);
    let wrong = [
        (own.name != entry.name, "name"),
        (own.flags != entry.flags, "flags"),
        (own.method != entry.method, "compression"),
        (sizes_differ, "sizes or sums"),
        (entry.renamed || own.renamed, "second name"),
    ];
    for (_, what) in wrong.iter().filter(|w| w.0) {
        let more = match *what {
            "name" => format!(": its own header says {}", shown_name(&own.name)),
            _ => String::new(),
        };
        let message =
            format!("its {what} differ between the zip's directory and its own header{more}");
        let message = match *what {
            "name" | "second name" | "compression" => message.replacen("differ", "differs", 1),
            _ => message,
        };
        examiner.report(rules::HEADERS_DISAGREE, inner, message);
    }
    if entry.flags & !USUAL_FLAGS != 0 || own.flags & !USUAL_FLAGS != 0 {
        let message = format!("its flags are 0x{:x}", entry.flags | own.flags);
        examiner.report(rules::ODD_FLAGS, inner, message);
    }
}

fn examine_entry(
    examiner: &mut Examiner,
    inner: &str,
    content: &dyn ReadAt,
    entry: &Entry,
    data: u64,
) -> io::Result<()> {
    check_name(examiner, inner, &entry.name);
    let part = Part::new(content, data, entry.packed);
    match entry.method {
        0 => {
            // APPNOTE.TXT 6.1.3: twelve bytes come before what is encrypted.
            let encrypted = entry.flags & 1 == 1 && entry.packed == entry.size.saturating_add(12);
            if encrypted {
                let message = "what it holds is encrypted".to_string();
                examiner.report(rules::UNOPENED_ARCHIVE, inner, message);
            } else if entry.packed != entry.size {
                let message = "it is stored as it is, in another size".to_string();
                examiner.report(rules::HEADERS_DISAGREE, inner, message);
            }
            examine_member(examiner, inner, &part)?;
        }
        8 => {
            let grows = entry.size / BOMB_RATIO > entry.packed && entry.size >= BOMB_SIZE;
            if grows {
                let message = format!("it grows from {} to {} bytes", entry.packed, entry.size);
                examiner.report(rules::ARCHIVE_BOMB, inner, message);
            }
            let size = Some(entry.size);
            compressed::examine_sized(examiner, inner, &part, Packing::Deflate, size)?;
        }
        method => {
            let message = format!("comfy does not open compression {method} of zip");
            examiner.report(rules::UNOPENED_ARCHIVE, inner, message);
        }
    }
    Ok(())
}

/// Examines what an archive holds under this name.
pub(super) fn examine_member(
    examiner: &mut Examiner,
    inner: &str,
    content: &dyn ReadAt,
) -> io::Result<()> {
    let known = examiner.examine_inside(inner, content)?;
    let compiled = !known && is_compiled(content)?;
    let source = [".py", ".pyc", ".so", ".dll", ".dylib", ".sh", ".pyd"]
        .iter()
        .any(|e| inner.ends_with(e));
    if !known && (compiled || source) {
        let message = "the archive holds code beside its data".to_string();
        examiner.report(rules::HOLDS_CODE, inner, message);
    }
    Ok(())
}

/// Says whether it is a program or library of some system, by more than the two letters of `MZ`,
/// which numbers can be as well.
fn is_compiled(content: &dyn ReadAt) -> io::Result<bool> {
    let head = read_some(content, 0, 64)?;
    let unix: [&[u8]; 3] = [b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe"];
    if unix.iter().any(|magic| head.starts_with(magic)) {
        return Ok(true);
    }
    let Some(&[a, b, c, d]) = head.get(60..64).filter(|_| head.starts_with(b"MZ")) else {
        return Ok(false);
    };
    let at = u32::from_le_bytes([a, b, c, d]).into();
    Ok(read_some(content, at, 4)? == b"PE\0\0")
}

/// Tells names that lead out of the folder an archive is unpacked in.
pub(super) fn check_name(examiner: &mut Examiner, inner: &str, name: &[u8]) {
    let parts = name.split(|b| *b == b'/' || *b == b'\\');
    let drive = name.get(1) == Some(&b':') && name.first().is_some_and(u8::is_ascii_alphabetic);
    if name.starts_with(b"/")
        || name.starts_with(b"\\")
        || drive
        || parts.clone().any(|p| p == b"..")
    {
        let message = format!("{} leads out of the archive's folder", shown_name(name));
        examiner.report(rules::ARCHIVE_ESCAPES, inner, message);
    } else if name.contains(&0) {
        let message = "its name holds a zero byte, where some readers end it".to_string();
        examiner.report(rules::HEADERS_DISAGREE, inner, message);
    }
}

pub(super) fn shown_name(name: &[u8]) -> String {
    escape_text(&String::from_utf8_lossy(name))
}

/// The name as the more forgiving loaders compare it.
fn plain_name(name: &[u8]) -> Vec<u8> {
    let until_zero = name.split(|b| *b == 0).next().unwrap_or_default();
    until_zero
        .iter()
        .map(|b| {
            if *b == b'\\' {
                b'/'
            } else {
                b.to_ascii_lowercase()
            }
        })
        .collect()
}

/// Examines the entries that headers announce, from the first byte on.
fn walk_without_directory(
    examiner: &mut Examiner,
    place: &str,
    content: &dyn ReadAt,
) -> io::Result<()> {
    let mut at = 0;
    while let Ok(local) = Fault::split(zip_headers::read_local(content, at))? {
        let entry = &local.entry;
        let inner = format!("{place}!{}", shown_name(&entry.name));
        let mut packed = entry.clone();
        if entry.flags & 8 != 0 && entry.packed == 0 {
            // Its size stands behind it; examine what there is.
            packed.packed = content.size() - local.data;
            packed.size = packed.packed;
        }
        examine_entry(examiner, &inner, content, &packed, local.data)?;
        let Some(next) = local.data.checked_add(packed.packed) else {
            break;
        };
        at = next;
    }
    Ok(())
}
