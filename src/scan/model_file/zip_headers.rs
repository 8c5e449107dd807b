//! The headers of a zip: the directory at its end, and the header before each entry.
//!
//! Source: PKWARE's APPNOTE.TXT 6.3.10. PyTorch (miniz) writes local headers without sizes and a
//! descriptor behind each entry, and the 64-bit end record always.

use super::super::content::ReadAt;
use super::window::{Fault, Window, read_some};

const END: &[u8] = b"PK\x05\x06";
/// An end record without its comment.
const END_SIZE: usize = 22;
const LONGEST_COMMENT: usize = u16::MAX as usize;
/// A directory of a model's archive has some thousand entries of some hundred bytes.
const LARGEST_DIRECTORY: u64 = 64 << 20;

/// Where the directory is.
#[derive(Debug)]
pub(super) struct Directory {
    pub at: u64,
    pub size: u64,
    pub entries: u64,
    /// What its offsets begin at: bytes that something else put before the zip.
    pub base: u64,
    /// Where the records at the end begin.
    pub end: u64,
    /// Bytes of comment behind them.
    pub comment: u64,
    /// The two end records differ.
    pub disagrees: bool,
}

/// What the directory says of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub name: Vec<u8>,
    pub flags: u16,
    pub method: u16,
    pub crc: u32,
    pub packed: u64,
    pub size: u64,
    /// Where its local header is.
    pub at: u64,
    /// An extra field gives another name than the header.
    pub renamed: bool,
}

/// What the header before an entry says.
#[derive(Debug)]
pub(super) struct LocalHeader {
    pub entry: Entry,
    /// Where the entry's bytes begin.
    pub data: u64,
}

/// Finds the directory from the end, as loaders do.
pub(super) fn find_directory(content: &dyn ReadAt) -> std::io::Result<Option<Directory>> {
    let size = content.size();
    let most = (END_SIZE + LONGEST_COMMENT) as u64;
    let start = size.saturating_sub(most);
    let tail = read_some(content, start, most as usize)?;
    let ends = memchr::memmem::rfind_iter(&tail, END);
    for at in ends {
        let Some(record) = tail.get(at..at + END_SIZE) else {
            continue;
        };
        let comment = u16_at(record, 20) as usize;
        if at + END_SIZE + comment > tail.len() {
            continue;
        }
        let end = start + at as u64;
        let left = (tail.len() - at - END_SIZE) as u64;
        if let Some(directory) = read_end(content, record, end, left)? {
            return Ok(Some(directory));
        }
    }
    Ok(None)
}

fn read_end(
    content: &dyn ReadAt,
    record: &[u8],
    end: u64,
    comment: u64,
) -> std::io::Result<Option<Directory>> {
    let (entries, size, offset) = (
        u64::from(u16_at(record, 10)),
        u64::from(u32_at(record, 12)),
        u64::from(u32_at(record, 16)),
    );
    let mut directory = Directory {
        at: offset,
        size,
        entries,
        base: 0,
        end,
        comment,
        disagrees: u16_at(record, 8) != u16_at(record, 10) || u32_at(record, 4) != 0,
    };
    if let Some((at, wide)) = read_wide_end(content, end)? {
        let (wide_entries, wide_size, wide_offset) =
            (u64_at(&wide, 32), u64_at(&wide, 40), u64_at(&wide, 48));
        directory.disagrees |= (entries != 0xffff && entries != wide_entries)
            || (size != 0xffff_ffff && size != wide_size)
            || (offset != 0xffff_ffff && offset != wide_offset)
            || u64_at(&wide, 24) != wide_entries;
        directory.at = wide_offset;
        directory.size = wide_size;
        directory.entries = wide_entries;
        directory.end = at;
    }
    // The directory ends where the end records begin; what its offset lacks was put before it.
    let Some(begin) = directory.end.checked_sub(directory.size) else {
        return Ok(None);
    };
    let Some(base) = begin.checked_sub(directory.at) else {
        return Ok(None);
    };
    directory.base = base;
    directory.at = begin;
    let first = read_some(content, begin, 4)?;
    Ok((directory.entries == 0 || first == b"PK\x01\x02").then_some(directory))
}

/// The 64-bit end record and its place, if the locator before the end record names one.
fn read_wide_end(content: &dyn ReadAt, end: u64) -> std::io::Result<Option<(u64, Vec<u8>)>> {
    let Some(at) = end.checked_sub(20) else {
        return Ok(None);
    };
    let locator = read_some(content, at, 20)?;
    if !locator.starts_with(b"PK\x06\x07") || locator.len() < 20 {
        return Ok(None);
    }
    // Directly before its locator, or where the locator says.
    for place in [at.checked_sub(56), Some(u64_at(&locator, 8))] {
        let Some(place) = place else { continue };
        let wide = read_some(content, place, 56)?;
        if wide.len() == 56 && wide.starts_with(b"PK\x06\x06") {
            return Ok(Some((place, wide)));
        }
    }
    Ok(None)
}

/// Reads the entries of a directory.
pub(super) fn read_entries(content: &dyn ReadAt, of: &Directory) -> Result<Vec<Entry>, Fault> {
    if of.size > LARGEST_DIRECTORY {
        return Fault::broken("its directory is larger than any model's");
    }
    let bytes = read_some(content, of.at, of.size as usize)?;
    let mut window = Window::new(&bytes, 0);
    let mut entries = Vec::new();
    while window.left() > 0 {
        if window.array::<4>()? != *b"PK\x01\x02" {
            return Fault::broken("its directory holds something else");
        }
        let fixed: [u8; 42] = window.array()?;
        let name = window.take(u16_at(&fixed, 24).into())?.to_vec();
        let extra = window.take(u16_at(&fixed, 26).into())?.to_vec();
        window.skip(u16_at(&fixed, 28).into())?;
        let mut entry = Entry {
            name,
            flags: u16_at(&fixed, 4),
            method: u16_at(&fixed, 6),
            crc: u32_at(&fixed, 12),
            packed: u32_at(&fixed, 16).into(),
            size: u32_at(&fixed, 20).into(),
            at: u32_at(&fixed, 38).into(),
            renamed: false,
        };
        read_extra(&mut entry, &extra, true);
        entries.push(entry);
    }
    if entries.len() as u64 != of.entries {
        return Fault::broken("its directory has another number of entries than it says");
    }
    Ok(entries)
}

/// Reads the header at `at`, which stands before an entry.
pub(super) fn read_local(content: &dyn ReadAt, at: u64) -> Result<LocalHeader, Fault> {
    let fixed = read_some(content, at, 30)?;
    if fixed.len() < 30 || !fixed.starts_with(b"PK\x03\x04") {
        return Fault::broken("an entry has no header of its own");
    }
    let (name, extra) = (u16_at(&fixed, 26) as usize, u16_at(&fixed, 28) as usize);
    let rest = read_some(content, at + 30, name + extra)?;
    if rest.len() < name + extra {
        return Fault::broken("an entry's header is cut off");
    }
    let mut entry = Entry {
        name: rest[..name].to_vec(),
        flags: u16_at(&fixed, 6),
        method: u16_at(&fixed, 8),
        crc: u32_at(&fixed, 14),
        packed: u32_at(&fixed, 18).into(),
        size: u32_at(&fixed, 22).into(),
        at,
        renamed: false,
    };
    read_extra(&mut entry, &rest[name..], false);
    Ok(LocalHeader {
        entry,
        data: at + 30 + (name + extra) as u64,
    })
}

/// The 64-bit sizes and the other name that extra fields hold.
fn read_extra(entry: &mut Entry, extra: &[u8], in_directory: bool) {
    let mut rest = extra;
    while rest.len() >= 4 {
        let (id, length) = (u16_at(rest, 0), u16_at(rest, 2) as usize);
        let Some(field) = rest.get(4..4 + length) else {
            return;
        };
        rest = &rest[4 + length..];
        match id {
            1 => {
                let mut wide = field.chunks_exact(8).map(|c| u64_at(c, 0));
                let mut fill = |value: &mut u64| {
                    if *value == 0xffff_ffff
                        && let Some(w) = wide.next()
                    {
                        *value = w;
                    }
                };
                fill(&mut entry.size);
                fill(&mut entry.packed);
                if in_directory {
                    fill(&mut entry.at);
                }
            }
            // Info-ZIP's Unicode path: a version, a sum of the name, the name.
            0x7075 => entry.renamed |= field.get(5..).is_none_or(|name| name != entry.name),
            _ => {}
        }
    }
}

/// Where an entry ends, the descriptor behind its bytes included; None if the descriptor says
/// something else than the directory.
pub(super) fn end_of_entry(
    content: &dyn ReadAt,
    entry: &Entry,
    data: u64,
) -> std::io::Result<Option<u64>> {
    let Some(end) = data.checked_add(entry.packed) else {
        return Ok(None);
    };
    if entry.flags & 8 == 0 {
        return Ok(Some(end));
    }
    let found = read_some(content, end, 24)?;
    let mut narrow = entry.crc.to_le_bytes().to_vec();
    let mut wide = narrow.clone();
    narrow.extend((entry.packed as u32).to_le_bytes());
    narrow.extend((entry.size as u32).to_le_bytes());
    wide.extend(entry.packed.to_le_bytes());
    wide.extend(entry.size.to_le_bytes());
    let signed = found.strip_prefix(b"PK\x07\x08".as_slice());
    for (bytes, before) in [(signed.unwrap_or_default(), 4), (&*found, 0)] {
        for descriptor in [&wide, &narrow] {
            if bytes.starts_with(descriptor) {
                return Ok(Some(end + before + descriptor.len() as u64));
            }
        }
    }
    Ok(None)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let mut out = [0; 2];
    out.copy_from_slice(&bytes[at..at + 2]);
    u16::from_le_bytes(out)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut out = [0; 4];
    out.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(out)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(out)
}
