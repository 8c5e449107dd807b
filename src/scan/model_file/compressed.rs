//! One stream that was compressed: gzip, zlib, bzip2, xz, lzma, deflate.
//!
//! What comes out is examined as a file. The start is unpacked first; more only where it begins
//! like a format that is read to its end.

use std::io::{self, Read};

use super::super::content::ReadAt;
use super::window::{Part, Reader};
use super::{Examiner, MOST_UNPACKED, rules, zip_archive};

/// Bytes that are unpacked to know a format.
const START: usize = 64 << 10;
/// Bytes that one stream is unpacked to.
const MOST: usize = 256 << 20;
/// KiB of a decoder's memory.
const DECODER_MEMORY: u32 = 128 << 10;
/// How far a stream that is large may grow.
const BOMB_RATIO: u64 = 200;
const BOMB_SIZE: usize = 64 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    /// Of an entry of a zip.
    Deflate,
    Gzip,
    Zlib,
    Bzip2,
    Xz,
    Lzma,
}

impl Packing {
    fn decoder<'a>(self, reader: Reader<'a>) -> io::Result<Box<dyn Read + 'a>> {
        let reader = io::BufReader::with_capacity(32 << 10, reader);
        Ok(match self {
            Packing::Deflate => Box::new(flate2::bufread::DeflateDecoder::new(reader)),
            Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
            Packing::Zlib => Box::new(flate2::bufread::ZlibDecoder::new(reader)),
            Packing::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(reader)),
            Packing::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(
                reader,
                true,
                DECODER_MEMORY,
            )),
            Packing::Lzma => Box::new(lzma_rust2::LzmaReader::new_mem_limit(
                reader,
                DECODER_MEMORY,
                None,
            )?),
        })
    }
}

/// What came out of a stream.
struct Unpacked {
    bytes: Vec<u8>,
    /// There is no more.
    whole: bool,
    /// The stream is broken behind these bytes.
    broken: bool,
}

fn unpack(content: &dyn ReadAt, from: u64, kind: Packing, most: usize) -> Unpacked {
    let reader = Reader { content, at: from };
    let mut bytes = Vec::new();
    let result = kind
        .decoder(reader)
        .and_then(|d| d.take(most as u64).read_to_end(&mut bytes));
    Unpacked {
        whole: result.is_ok() && bytes.len() < most,
        broken: result.is_err(),
        bytes,
    }
}

/// Examines a stream of a kind that is certain.
pub(super) fn examine(
    examiner: &mut Examiner,
    place: &str,
    content: &dyn ReadAt,
    kind: Packing,
) -> io::Result<bool> {
    examine_sized(examiner, place, content, kind, None)
}

/// Examines a stream; `size` is what its archive says that it becomes.
pub(super) fn examine_sized(
    examiner: &mut Examiner,
    place: &str,
    content: &dyn ReadAt,
    kind: Packing,
    size: Option<u64>,
) -> io::Result<bool> {
    let start = unpack(content, 0, kind, START);
    let all = if start.whole || start.broken {
        start
    } else {
        drop(start);
        let room = MOST_UNPACKED.saturating_sub(examiner.unpacked);
        unpack(
            content,
            0,
            kind,
            MOST.min(usize::try_from(room).unwrap_or(MOST)),
        )
    };
    examiner.unpacked += all.bytes.len() as u64;
    if all.whole && size.is_some_and(|s| s != all.bytes.len() as u64) {
        let message = format!(
            "it becomes {} bytes, and its headers say otherwise",
            all.bytes.len()
        );
        examiner.report(rules::HEADERS_DISAGREE, place, message);
    }
    let size = content.size().max(1);
    if all.bytes.len() >= BOMB_SIZE && all.bytes.len() as u64 / size >= BOMB_RATIO {
        let message = format!("{size} bytes become at least {}", all.bytes.len());
        examiner.report(rules::ARCHIVE_BOMB, place, message);
    }
    if all.broken {
        let message = "it cannot be unpacked to its end".to_string();
        examiner.report(rules::UNREADABLE_ARCHIVE, place, message);
    } else if !all.whole {
        let message = format!("only its first {} bytes were unpacked", all.bytes.len());
        examiner.report(rules::UNREADABLE_ARCHIVE, place, message);
    }
    zip_archive::examine_member(examiner, place, &all.bytes)?;
    Ok(true)
}

/// Examines what may be zlib, lzma or joblib's own form of zlib: their first bytes are those of
/// much else, so only what unpacks to a format counts.
pub(super) fn examine_weak(
    examiner: &mut Examiner,
    place: &str,
    content: &dyn ReadAt,
    head: &[u8],
) -> io::Result<bool> {
    let zlib = |at: usize| {
        let two = head.get(at..at + 2);
        two.is_some_and(|h| h[0] & 0x8f == 8 && u16::from_be_bytes([h[0], h[1]]) % 31 == 0)
    };
    // joblib before 0.10: `ZF`, a length in hexadecimal, zlib (`numpy_pickle_compat.py`).
    let old = head.starts_with(b"ZF0x");
    let (at, kind) = match head {
        _ if old => match (2..32).find(|at| zlib(*at)) {
            Some(at) => (at, Packing::Zlib),
            None => return Ok(false),
        },
        _ if zlib(0) => (0, Packing::Zlib),
        _ if begins_like_lzma(head) => (0, Packing::Lzma),
        _ => return Ok(false),
    };
    let start = unpack(content, at as u64, kind, START);
    if start.bytes.len() < 2 {
        return Ok(false);
    }
    let part = Part::after(content, at as u64);
    // zlib's sum is right, or its blocks went on for long: no accident. lzma has neither.
    if kind == Packing::Zlib && !start.broken {
        return examine(examiner, place, &part, kind);
    }
    let before = examiner.findings.len();
    let known = examiner.examine_inside(place, &start.bytes)?;
    examiner.findings.truncate(before);
    if known {
        return examine(examiner, place, &part, kind);
    }
    Ok(false)
}

/// Says whether a header is one that lzma's encoders write: properties, a dictionary of 2^n or
/// 2^n + 2^(n-1) bytes, a size, and a first byte that is always zero.
fn begins_like_lzma(head: &[u8]) -> bool {
    let Some((&[properties, a, b, c, d], rest)) = head.split_first_chunk::<5>() else {
        return false;
    };
    let Some((size, rest)) = rest.split_first_chunk::<8>() else {
        return false;
    };
    let dictionary = u32::from_le_bytes([a, b, c, d]);
    let size = u64::from_le_bytes(*size);
    properties < 225
        && rest.first() == Some(&0)
        && dictionary >= 4096
        && (dictionary.is_power_of_two() || (dictionary / 3 * 2).is_power_of_two())
        && (size == u64::MAX || size < 1 << 38)
}
