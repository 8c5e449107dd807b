//! Tar archives, in which NeMo and old versions of PyTorch save.
//!
//! Source: POSIX.1-2024, `pax`, "ustar Interchange Format"; GNU tar's manual, "Basic Tar Format".

use std::io;

use super::super::content::ReadAt;
use super::window::{Part, read_some};
use super::{Examiner, rules, zip_archive};
use crate::text::escape_text;

const BLOCK: usize = 512;
const MOST_MEMBERS: u32 = 100_000;
/// A long name, or the records of pax.
const LONGEST_EXTENSION: u64 = 1 << 20;

/// Says whether the first block is a header: its sum is right.
pub(super) fn begins_like_one(head: &[u8]) -> bool {
    let Some(block) = head.get(..BLOCK) else {
        return false;
    };
    block[0] != 0 && sum_is_right(block)
}

fn sum_is_right(block: &[u8]) -> bool {
    let Some(told) = octal(&block[148..156]) else {
        return false;
    };
    let sum: u64 = block
        .iter()
        .enumerate()
        .map(|(n, b)| u64::from(if (148..156).contains(&n) { b' ' } else { *b }))
        .sum();
    told == sum
}

/// A number in octal, or in base 256 where its first bit is set.
fn octal(field: &[u8]) -> Option<u64> {
    if field.first()? & 0x80 != 0 {
        let mut bytes = field.iter();
        let first = u64::from(bytes.next()? & 0x7f);
        return bytes.try_fold(first, |n, b| n.checked_mul(256)?.checked_add((*b).into()));
    }
    let text = field.split(|b| *b == 0).next()?;
    let text = std::str::from_utf8(text).ok()?.trim();
    u64::from_str_radix(text, 8).ok()
}

fn text(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or_default()
}

pub(super) fn examine(
    examiner: &mut Examiner,
    place: &str,
    content: &dyn ReadAt,
) -> io::Result<bool> {
    let mut at = 0_u64;
    // What an extension before a header says of it.
    let (mut long_name, mut long_size) = (None, None);
    for _ in 0..MOST_MEMBERS {
        let block = read_some(content, at, BLOCK)?;
        if block.len() < BLOCK || block.iter().all(|b| *b == 0) {
            check_end(examiner, place, content, at)?;
            return Ok(true);
        }
        let size = long_size.take().or_else(|| octal(&block[124..136]));
        let (Some(size), true) = (size, sum_is_right(&block)) else {
            let message = format!("the header at byte {at} of the tar is wrong");
            examiner.report(rules::UNREADABLE_ARCHIVE, place, message);
            examiner.examine_inside(place, &Part::after(content, at))?;
            return Ok(true);
        };
        let data = at + BLOCK as u64;
        if size > content.size() - data {
            let message = "the tar is cut off".to_string();
            examiner.report(rules::UNREADABLE_ARCHIVE, place, message);
        }
        let kind = block[156];
        match kind {
            b'L' | b'x' => {
                let most = size.min(LONGEST_EXTENSION) as usize;
                let extension = read_some(content, data, most)?;
                if kind == b'L' {
                    long_name = Some(text(&extension).to_vec());
                } else {
                    let (name, length) = read_pax(&extension);
                    long_name = name.or(long_name);
                    long_size = length;
                }
            }
            b'K' | b'g' => {}
            _ => {
                let name = long_name.take().unwrap_or_else(|| own_name(&block));
                let inner = format!("{place}!{}", zip_archive::shown_name(&name));
                zip_archive::check_name(examiner, &inner, &name);
                check_link(examiner, &inner, &block);
                if size > 0 {
                    let part = Part::new(content, data, size);
                    zip_archive::examine_member(examiner, &inner, &part)?;
                }
            }
        }
        let blocks = size.div_ceil(BLOCK as u64);
        match blocks
            .checked_mul(BLOCK as u64)
            .and_then(|n| data.checked_add(n))
        {
            Some(next) => at = next,
            None => break,
        }
    }
    let message = "the tar holds more members than any model".to_string();
    examiner.report(rules::UNREADABLE_ARCHIVE, place, message);
    Ok(true)
}

fn own_name(block: &[u8]) -> Vec<u8> {
    let name = text(&block[..100]);
    let prefix = text(&block[345..500]);
    if block[257..262] == *b"ustar" && !prefix.is_empty() {
        [prefix, b"/", name].concat()
    } else {
        name.to_vec()
    }
}

/// The path and the size in the records of pax: `LENGTH KEY=VALUE\n`.
fn read_pax(records: &[u8]) -> (Option<Vec<u8>>, Option<u64>) {
    let (mut name, mut size) = (None, None);
    let mut rest = records;
    while let Some(space) = rest.iter().position(|b| *b == b' ') {
        let digits = std::str::from_utf8(&rest[..space]).ok();
        let Some(record) = digits
            .and_then(|d| d.parse::<usize>().ok())
            .and_then(|length| rest.get(space + 1..length))
        else {
            break;
        };
        let value = |key: &[u8]| record.strip_prefix(key)?.strip_suffix(b"\n");
        if let Some(path) = value(b"path=") {
            name = Some(path.to_vec());
        }
        if let Some(digits) = value(b"size=") {
            size = std::str::from_utf8(digits)
                .ok()
                .and_then(|d| d.parse().ok());
        }
        rest = &rest[space + 1 + record.len()..];
    }
    (name, size)
}

/// Links that lead out, and devices.
fn check_link(examiner: &mut Examiner, inner: &str, block: &[u8]) {
    let target = text(&block[157..257]);
    match block[156] {
        b'1' | b'2' => {
            let out = target.starts_with(b"/") || target.split(|b| *b == b'/').any(|p| p == b"..");
            if out {
                let shown = escape_text(&String::from_utf8_lossy(target));
                let message = format!("it is a link to {shown}");
                examiner.report(rules::ARCHIVE_ESCAPES, inner, message);
            }
        }
        b'3' | b'4' | b'6' => {
            let message = "it is a device".to_string();
            examiner.report(rules::ARCHIVE_ESCAPES, inner, message);
        }
        _ => {}
    }
}

/// Behind the last member are zeros alone.
fn check_end(
    examiner: &mut Examiner,
    place: &str,
    content: &dyn ReadAt,
    at: u64,
) -> io::Result<()> {
    let mut next = at;
    loop {
        let bytes = read_some(content, next, 256 << 10)?;
        if bytes.is_empty() {
            return Ok(());
        }
        if let Some(odd) = bytes.iter().position(|b| *b != 0) {
            let start = next + odd as u64;
            let message = format!(
                "{} bytes behind the tar belong to nothing",
                content.size() - start
            );
            examiner.report(rules::TRAILING_BYTES, place, message);
            examiner.examine_inside(place, &Part::after(content, start))?;
            return Ok(());
        }
        next += bytes.len() as u64;
    }
}
