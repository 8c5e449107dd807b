//! Text for people. Everything from outside passes [`escape_text`] before it reaches a terminal.

/// Escapes what could move a cursor, hide text or reorder it: C0, C1, bidirectional controls,
/// zero-width and line ends.
///
/// Source of the bidirectional list: Unicode Standard Annex 9, "explicit directional" characters.
pub(crate) fn escape_text(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    for c in s.chars() {
        if is_unsafe_char(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Like [`escape_text`], but keeps line ends, for texts of several lines that comfy itself laid
/// out.
pub(crate) fn escape_lines(s: &str) -> String {
    s.split('\n')
        .map(escape_text)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Escapes finished text before it reaches a terminal. Line ends and tabs stay, and so do colours
/// if `colors` says that comfy added some. Anything else that [`escape_text`] should have caught is
/// escaped here.
pub(crate) fn sanitize(text: &str, colors: bool) -> std::borrow::Cow<'_, str> {
    let fine = |c: char| !is_unsafe_char(c) || c == '\n' || c == '\t';
    if text.chars().all(fine) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let color = rest.strip_prefix("\x1b[").filter(|_| colors).and_then(|r| {
            let digits = r.bytes().take_while(u8::is_ascii_digit).count();
            r[digits..].starts_with('m').then_some(2 + digits + 1)
        });
        let taken = color.unwrap_or(c.len_utf8());
        if color.is_some() || fine(c) {
            out.push_str(&rest[..taken]);
        } else {
            out.extend(c.escape_unicode());
        }
        rest = &rest[taken..];
    }
    out.into()
}

pub(crate) fn is_unsafe_char(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{061c}')
}

/// Decodes a file of somebody else's: UTF-16 where its byte order mark says so, else UTF-8.
pub(crate) fn decode_text(bytes: &[u8]) -> String {
    let wide = |unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes[2..]
            .chunks_exact(2)
            .map(|b| unit([b[0], b[1]]))
            .collect();
        String::from_utf16_lossy(&units)
    };
    match bytes {
        [0xff, 0xfe, ..] => wide(u16::from_le_bytes),
        [0xfe, 0xff, ..] => wide(u16::from_be_bytes),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// Removes colours (ECMA-48, select graphic rendition); anything else that could steer a terminal
/// stays and must be escaped.
pub(crate) fn without_colors(line: &str) -> String {
    let mut parts = line.split("\x1b[");
    let mut out = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_digit() && c != ';');
        match end.filter(|e| part[*e..].starts_with('m')) {
            Some(e) => out.push_str(&part[e + 1..]),
            None => {
                out.push_str("\x1b[");
                out.push_str(part);
            }
        }
    }
    out
}

/// Returns `1 file` or `2 files`.
pub(crate) fn count_of(n: usize, one: &str) -> String {
    let plural = match one.strip_suffix('y') {
        Some(stem) if one != "key" => format!("{stem}ies"),
        _ if one.ends_with('s') => format!("{one}es"),
        _ => format!("{one}s"),
    };
    format!("{n} {}", if n == 1 { one } else { &plural })
}

/// Formats bytes in binary units, as `du -h` does.
pub(crate) fn format_bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut v, mut u) = (n as f64, 0);
    while v >= 1024.0 && u + 1 < UNITS.len() {
        v /= 1024.0;
        u += 1;
    }
    if u == 0 {
        format!("{n} B")
    } else {
        format!("{v:.1} {}", UNITS[u])
    }
}

/// Returns the candidate that the user most likely meant, if one is near enough.
pub(crate) fn did_you_mean<'a>(
    wrong: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    known
        .into_iter()
        .map(|k| {
            (
                strsim::damerau_levenshtein(&wrong.to_lowercase(), &k.to_lowercase()),
                k,
            )
        })
        .filter(|(d, k)| *d <= (k.len().max(3) / 3).max(1))
        .min_by_key(|(d, _)| *d)
        .map(|(_, k)| k)
}

/// Returns the first seven digits of a commit id, as git abbreviates.
pub(crate) fn short_commit(commit: &str) -> &str {
    commit.get(..7).unwrap_or(commit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_cannot_steer_the_terminal() {
        insta::assert_snapshot!(escape_text("a\x1b[2Jb\u{9b}c\u{202e}txt.py\nnext é 日"), @r"a\u{1b}[2Jb\u{9b}c\u{202e}txt.py\u{a}next é 日");
    }

    #[test]
    fn near_words_are_offered_and_far_ones_are_not() {
        assert_eq!(
            did_you_mean("acess", ["access", "path", "mount"]),
            Some("access")
        );
        assert_eq!(did_you_mean("colour", ["access", "path", "mount"]), None);
    }
}
