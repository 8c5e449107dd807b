//! Safetensors: a header that every reader reads alike, and nothing behind the tensors.

use std::io;

use super::super::content::ReadAt;
use super::window::{Part, read_some};
use super::{Examiner, rules};
use crate::safetensors::{SafetensorsHeader, parse_header};
use crate::text::escape_text;

/// The format allows 100 MB; the largest models have 2 MB.
const LARGEST_HEADER: u64 = 32 << 20;

/// Says whether a file begins with a length and an object; one that cannot be that long is one
/// too if the object speaks of tensors.
pub(super) fn begins_like_one(head: &[u8], size: u64) -> bool {
    let Some((length, rest)) = head.split_first_chunk::<8>() else {
        return false;
    };
    let length = u64::from_le_bytes(*length);
    let fits = (2..=crate::safetensors::MOST).contains(&length) && length <= size - 8;
    let words: [&[u8]; 2] = [b"\"data_offsets\"", b"\"__metadata__\""];
    let names_tensors = || {
        words
            .iter()
            .any(|w| memchr::memmem::find(rest, w).is_some())
    };
    rest.first() == Some(&b'{') && (fits || names_tensors())
}

pub(super) fn examine(
    examiner: &mut Examiner,
    place: &str,
    content: &dyn ReadAt,
) -> io::Result<bool> {
    let first = read_some(content, 0, 8)?;
    let length = first.try_into().map_or(0, u64::from_le_bytes);
    if length > LARGEST_HEADER || length > content.size() - 8 {
        let message = format!("its header would have {length} bytes");
        examiner.report(rules::ODD_SAFETENSORS, place, message);
        return Ok(true);
    }
    let json = read_some(content, 8, length as usize)?;
    match parse_header(&json, content.size()) {
        Ok(header) => check_texts(examiner, place, &header),
        Err(why) => {
            examiner.report(rules::ODD_SAFETENSORS, place, why);
            examine_rest(examiner, place, content, &json)?;
        }
    }
    Ok(true)
}

/// Texts that would do something to whoever prints them.
fn check_texts(examiner: &mut Examiner, place: &str, header: &SafetensorsHeader) {
    let is_odd = |text: &str| {
        text.chars().any(|c| {
            (c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
                || matches!(c, '\u{202d}' | '\u{202e}')
        })
    };
    let pairs = header.metadata.iter();
    let odd = pairs
        .filter(|(key, value)| is_odd(key) || is_odd(value))
        .map(|(key, _)| {
            format!(
                "its metadata \"{}\" holds control characters",
                escape_text(key)
            )
        })
        .next()
        .or_else(|| {
            let name = header.names.iter().find(|n| is_odd(n))?;
            Some(format!(
                "its tensor \"{}\" has control characters",
                escape_text(name)
            ))
        });
    if let Some(message) = odd {
        examiner.report(rules::METADATA_ESCAPES, place, message);
    }
}

/// Examines what stands behind the last tensor.
fn examine_rest(
    examiner: &mut Examiner,
    place: &str,
    content: &dyn ReadAt,
    json: &[u8],
) -> io::Result<()> {
    let Ok(serde_json::Value::Object(header)) = serde_json::from_slice(json) else {
        return Ok(());
    };
    let last = header
        .values()
        .filter_map(|tensor| tensor.get("data_offsets")?.get(1)?.as_u64())
        .max();
    if let Some(start) = last.and_then(|l| l.checked_add(8 + json.len() as u64))
        && start < content.size()
    {
        examiner.examine_inside(place, &Part::after(content, start))?;
    }
    Ok(())
}
