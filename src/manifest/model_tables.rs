//! Reads sections of models without the TOML parser: a library has twenty thousand of them, in the
//! manifest and in the lock, and parsing them would take most of a plan's time.
//!
//! It takes only what cannot mean anything else: `[models."PATH"]` and plain `key = "text"` or `key
//! = 12` lines. Everything else stays in the text, for the parser and its messages.

use std::borrow::Cow;

use bytestring::ByteString;

use super::Table;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldValue<'a> {
    Text(&'a str),
    Number(u64),
}

impl<'a> FieldValue<'a> {
    pub(crate) fn as_text(self) -> Option<&'a str> {
        if let FieldValue::Text(t) = self {
            Some(t)
        } else {
            None
        }
    }

    pub(crate) fn as_number(self) -> Option<u64> {
        if let FieldValue::Number(n) = self {
            Some(n)
        } else {
            None
        }
    }
}

/// Returns a text that may be absent; `None` if the field is a number.
pub(crate) fn optional_text(field: Option<FieldValue<'_>>) -> Option<Option<String>> {
    match field {
        None => Some(None),
        Some(f) => f.as_text().map(|t| Some(t.to_string())),
    }
}

/// Returns the text without the sections taken out, and what `make` returns for each of those,
/// given its path and the values of the keys `known`. If `make` returns `None` for one, no section
/// is taken. Positions in the remaining text are right only if no section was taken: to report one,
/// have the parser read the whole text.
pub(crate) fn extract<'a, T, const N: usize>(
    text: &'a ByteString,
    known: &[&str; N],
    make: impl Fn(&'a str, [Option<FieldValue<'a>>; N]) -> Option<T>,
) -> (Cow<'a, str>, Table<T>) {
    const HEAD: &str = "[models.\"";
    let all = (Cow::Borrowed(&**text), Table::new_vec());
    // A multi-line string may contain anything; a section of another form may declare the same
    // model; a byte order mark hides the first line.
    let has = |what: &str| memchr::memmem::find(text.as_bytes(), what.as_bytes()).is_some();
    if !has(HEAD) || has("\"\"\"") || has("'''") || has("\r") || text.starts_with('\u{feff}') {
        return all;
    }
    let mut rest = String::new();
    let mut taken: Vec<(ByteString, T)> = Vec::new();
    let (mut at, mut sorted, mut in_share) = (0, true, false);
    while at < text.len() {
        let line = line_at(text, at);
        let end = at + line.len();
        let Some(path) = line
            .strip_prefix(HEAD)
            .and_then(|l| trim_line(l).strip_suffix("\"]"))
            .filter(|p| is_plain(p))
        else {
            // Another form of the same table: `models = …`, `[models]`, `models."x"…`.
            let words = line.trim_start();
            let key = words
                .trim_start_matches('[')
                .trim_start()
                .trim_start_matches(['"', '\'']);
            if key.starts_with("models") && !(in_share && key.len() == words.len()) {
                return all;
            }
            if words.starts_with('[') {
                in_share = is_share(trim_line(words));
            }
            rest.push_str(line);
            at = end;
            continue;
        };
        let mut fields = [None; N];
        let mut next = end;
        while next < text.len() && text.as_bytes()[next] != b'[' {
            let line = self::line_at(text, next);
            match parse_field(line) {
                Some(None) => {}
                // If one has another form, or a key is unknown or appears twice, the parser reads
                // all of them.
                Some(Some((key, value))) => match known
                    .iter()
                    .position(|k| *k == key)
                    .map(|i| fields[i].replace(value))
                {
                    Some(None) => {}
                    _ => return all,
                },
                None => return all,
            }
            next += line.len();
        }
        let Some(made) = make(path, fields) else {
            return all;
        };
        sorted &= taken.last().is_none_or(|(p, _)| **p < *path);
        taken.push((text.slice_ref(path), made));
        in_share = false;
        at = next;
    }
    if sorted {
        return (Cow::Owned(rest), Table::from_sorted_store_unchecked(taken));
    }
    let (many, taken) = (taken.len(), taken.into_iter().collect::<Table<T>>());
    // Declared twice: the parser reports where.
    if taken.len() < many {
        all
    } else {
        (Cow::Owned(rest), taken)
    }
}

/// Returns the line that begins at `at`, with its line ending.
fn line_at(text: &str, at: usize) -> &str {
    let rest = &text[at..];
    memchr::memchr(b'\n', rest.as_bytes()).map_or(rest, |n| &rest[..=n])
}

/// Trims only what TOML takes for white space at the end of a line.
fn trim_line(line: &str) -> &str {
    line.trim_end_matches([' ', '\t', '\n'])
}

/// Returns whether the line is `[shares.NAME]`, below which `models` is the share's own key. No
/// line of an array looks like it.
fn is_share(line: &str) -> bool {
    let name = line
        .strip_prefix("[shares.")
        .and_then(|l| l.strip_suffix(']'));
    name.is_some_and(|n| {
        !n.is_empty()
            && n.bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    })
}

fn is_plain(text: &str) -> bool {
    // No branch for each byte, so that many are compared at once.
    let odd = |so_far: bool, b: u8| so_far | (b < b' ') | (b == b'"') | (b == b'\\') | (b == 0x7f);
    !text.is_empty()
        && !text.bytes().fold(false, odd)
        && (text.is_ascii() || !text.chars().any(char::is_control))
}

/// Returns `None` for anything but a field, and `Some(None)` for an empty line or a comment.
fn parse_field(line: &str) -> Option<Option<(&str, FieldValue<'_>)>> {
    let line = trim_line(line);
    if line.is_empty()
        || (line.starts_with('#') && !line.chars().any(|c| c.is_control() && c != '\t'))
    {
        return Some(None);
    }
    let (key, value) = line.split_at(line.find(' ')?);
    let value = value.strip_prefix(" = ")?;
    let text = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    match text {
        Some(t) if t.is_empty() || is_plain(t) => Some(Some((key, FieldValue::Text(t)))),
        None if value.bytes().all(|b| b.is_ascii_digit()) && !value.starts_with('0') => {
            Some(Some((key, FieldValue::Number(value.parse().ok()?))))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_what_the_parser_would_read() {
        let text = ByteString::from_static(
            "a = 1\n[models.\"x/y.bin\"]\nsource = \"hf://o\"\nsize = 12\n# \
             c\n\n[models.\"odd\"]\nsize = \"a\\\"b\"\n[z]\nb = 2\n",
        );
        let read = |path: &str, fields: [Option<FieldValue>; 2]| {
            Some((
                path.to_string(),
                fields[0].and_then(FieldValue::as_text).map(String::from),
                fields[1].and_then(FieldValue::as_number),
            ))
        };
        let (rest, blocks) = extract(&text, &["source", "size"], read);
        // One section is of another form, and stays with the parser; so do all.
        assert!(blocks.is_empty() && *rest == *text);
        let text = ByteString::from(text.replace("[models.\"odd\"]\nsize = \"a\\\"b\"\n", ""));
        let (rest, blocks) = extract(&text, &["source", "size"], read);
        assert_eq!(
            blocks.into_tuple_vec(),
            [(
                "x/y.bin".into(),
                ("x/y.bin".into(), Some("hf://o".into()), Some(12))
            )]
        );
        assert_eq!(rest, "a = 1\n[z]\nb = 2\n");
        for other in [
            "[models]\n",
            "models = {}\n",
            "[[models]]\n",
            "[ \"models\" ]\n",
            "x = \"\"\"\n\"\"\"\n",
            "[models.\"x/y.bin\"]\n",
            "\u{feff}",
            "[models.\"b\"]\u{a0}\n",
            "[models.\"b\"]\nsize = 1\u{85}\n",
        ] {
            assert!(
                extract(&format!("{other}{text}").into(), &["source", "size"], read)
                    .1
                    .is_empty(),
                "{other}"
            );
        }
        assert!(
            extract(&text, &["source"], |_, _| Some(())).1.is_empty(),
            "a key that nobody knows"
        );
        assert!(
            extract(&text, &["source", "size"], |_, _| None::<()>)
                .1
                .is_empty(),
            "nothing can be made of it"
        );
        // A share's own key of that name is no section of models; an array's row is no share.
        for (other, taken) in [
            ("[shares.a]\npath = \"/x\"\nmodels = { loras = \".\" }\n", 1),
            ("[shares.a]\n[shares.a.models]\nloras = \".\"\n", 1),
            ("[shares.a]\n[other]\nmodels = {}\n", 0),
            ("[shares.a]\n[[models]]\n", 0),
            ("x = [\n[\"shares.a\"]\n]\nmodels = {}\n", 0),
        ] {
            assert_eq!(
                extract(&format!("{other}{text}").into(), &["source", "size"], read)
                    .1
                    .len(),
                taken,
                "{other}"
            );
        }
    }
}
