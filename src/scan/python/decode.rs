//! From bytes to text as Python does it (PEP 263), and what is odd about the bytes.

use std::borrow::Cow;

use super::rules::carriers;
use super::source::Hit;
use crate::scan::finding::Severity;

/// The text of a file, and what was odd on the way to it.
#[derive(Debug)]
pub(super) struct Decoded {
    pub text: String,
    /// Each with the place in `text`.
    pub odd: Vec<(u32, Hit)>,
}

/// How bytes become characters.
#[derive(Debug, PartialEq, Eq)]
enum Coding {
    Utf8,
    Latin1,
    /// A coding in which ASCII is itself.
    KeepsAscii(String),
    /// A coding in which the source is something else than it looks like.
    Other(String),
}

pub(super) fn decode_source(bytes: &[u8]) -> Decoded {
    let mut odd = Vec::new();
    let whole = bytes;
    let bytes = whole.strip_prefix(b"\xef\xbb\xbf").unwrap_or(whole);
    if whole.starts_with(b"\xff\xfe") || whole.starts_with(b"\xfe\xff") {
        let message = "The file is UTF-16, which Python does not read as source.";
        odd.push((0, Hit::of(&carriers::PY_ODD_CODING, message)));
    }
    let text = match declared_coding(bytes) {
        Coding::Utf8 => decode_utf8(bytes, &mut odd),
        Coding::Latin1 => bytes.iter().map(|b| char::from(*b)).collect(),
        Coding::KeepsAscii(name) => {
            let message = format!("The file declares the coding `{name}`; only its ASCII is read.");
            let hit = Hit::of(&carriers::PY_ODD_CODING, message).at(Severity::Medium);
            odd.push((0, hit));
            String::from_utf8_lossy(bytes).into_owned()
        }
        Coding::Other(name) => {
            let message = format!(
                "The file declares the coding `{name}`: what runs is not what can be read here."
            );
            odd.push((0, Hit::of(&carriers::PY_ODD_CODING, message)));
            String::from_utf8_lossy(bytes).into_owned()
        }
    };
    if let Some(at) = memchr::memchr(0, text.as_bytes()) {
        let message = "The source holds a NUL byte: Python versions differ in what they run of it.";
        odd.push((small(at), Hit::of(&carriers::PY_NUL_BYTE, message)));
    }
    let controls = || text.char_indices().find(|(_, c)| is_bidi_control(*c));
    if let Some((at, c)) = (!text.is_ascii()).then(controls).flatten() {
        let message = format!(
            "U+{:04X} changes the direction of text: the line is not what it looks like.",
            u32::from(c)
        );
        odd.push((small(at), Hit::of(&carriers::PY_BIDI_CONTROL, message)));
    }
    Decoded { text, odd }
}

fn decode_utf8(bytes: &[u8], odd: &mut Vec<(u32, Hit)>) -> String {
    match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(text) => text.to_string(),
        Cow::Owned(text) => {
            let at = text.find('\u{fffd}').unwrap_or(0);
            let message = "The file is not UTF-8 and declares no other coding.";
            odd.push((small(at), Hit::of(&carriers::PY_NOT_UTF8, message)));
            text
        }
    }
}

/// The coding of the cookie in the first two lines, where the second counts only if the first is
/// blank or a comment.
fn declared_coding(bytes: &[u8]) -> Coding {
    let mut rest = bytes;
    for _ in 0..2 {
        let end = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let line = &rest[..end];
        if let Some(name) = cookie(line) {
            return classify(&name);
        }
        let trimmed = line.trim_ascii_start();
        if !(trimmed.is_empty() || trimmed.starts_with(b"#")) {
            break;
        }
        let skip = if rest[end..].starts_with(b"\r\n") {
            2
        } else {
            1
        };
        rest = rest.get(end + skip..).unwrap_or(&[]);
    }
    Coding::Utf8
}

/// `^[ \t\f]*#.*?coding[:=][ \t]*([-_.a-zA-Z0-9]+)`
fn cookie(line: &[u8]) -> Option<String> {
    let trimmed = line
        .iter()
        .position(|b| !matches!(b, b' ' | b'\t' | b'\x0c'))?;
    let line = &line[trimmed..];
    if line.first() != Some(&b'#') {
        return None;
    }
    for at in memchr::memmem::find_iter(line, b"coding") {
        let rest = &line[at + 6..];
        if !matches!(rest.first(), Some(b':' | b'=')) {
            continue;
        }
        let rest = rest[1..].trim_ascii_start();
        let name: String = rest
            .iter()
            .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
            .map(|b| char::from(*b))
            .collect();
        if !name.is_empty() {
            return Some(name);
        }
    }
    None
}

fn classify(name: &str) -> Coding {
    let plain = name.to_ascii_lowercase().replace('_', "-");
    match plain.as_str() {
        "utf-8" | "utf8" | "u8" | "utf" | "utf-8-sig" | "cp65001" | "ascii" | "us-ascii"
        | "646" | "ansi-x3.4-1968" => Coding::Utf8,
        "latin-1" | "latin1" | "iso-8859-1" | "iso8859-1" | "l1" | "8859" | "cp819" => {
            Coding::Latin1
        }
        other => {
            let keeps = [
                "cp125",
                "windows-125",
                "iso-8859-",
                "iso8859-",
                "koi8-",
                "gbk",
                "gb2312",
                "gb18030",
                "cp936",
                "euc-",
                "big5",
                "mac-",
                "cp949",
            ];
            if keeps.iter().any(|k| other.starts_with(k)) {
                Coding::KeepsAscii(name.to_string())
            } else {
                Coding::Other(name.to_string())
            }
        }
    }
}

fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn small(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(bytes: &[u8]) -> Vec<&'static str> {
        decode_source(bytes)
            .odd
            .iter()
            .map(|(_, h)| h.rule.id)
            .collect()
    }

    #[test]
    fn plain_sources_are_not_odd() {
        for source in [
            &b"# -*- coding: utf-8 -*-\nx = 1\n"[..],
            b"\xef\xbb\xbfx = 1",
            b"#!/usr/bin/python\n# vim: set fileencoding=latin-1 :\nx = '\xe4'\n",
            b"x = 1\r# coding: rot13\r",
            "x = 'ä'".as_bytes(),
        ] {
            assert_eq!(rules(source), [""; 0], "{source:?}");
        }
    }

    #[test]
    fn odd_codings_are_told() {
        assert_eq!(rules(b"# coding: utf-7\n+AGU-"), ["py-odd-coding"]);
        assert_eq!(rules(b"\r\n# coding=rot13\r\nrkrp('1')"), ["py-odd-coding"]);
        assert_eq!(rules(b"# coding: unicode_escape\n"), ["py-odd-coding"]);
        assert_eq!(rules(b"x = '\xff'"), ["py-not-utf8"]);
        assert_eq!(rules(b"x = 1\0"), ["py-nul-byte"]);
        assert_eq!(rules("x = 1 # \u{202e}".as_bytes()), ["py-bidi-control"]);
    }

    #[test]
    fn the_second_line_counts_after_a_comment_only() {
        assert_eq!(rules(b"x = 1\n# coding: rot13\n"), [""; 0]);
        assert_eq!(rules(b"\n# coding: rot13\n"), ["py-odd-coding"]);
    }
}
