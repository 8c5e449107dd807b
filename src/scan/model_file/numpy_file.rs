//! Arrays of NumPy: a header as Python would write a dictionary, then numbers, or a pickle.
//!
//! Source: NumPy, `lib/format.py`.

use std::io;

use super::super::content::ReadAt;
use super::window::{Fault, Part, Window};
use super::{Examiner, pickle, rules};

/// NumPy's own limit, `_MAX_HEADER_SIZE`.
const LONGEST_HEADER: u32 = 10_000;

pub(super) fn examine(
    examiner: &mut Examiner,
    place: &str,
    content: &dyn ReadAt,
) -> io::Result<bool> {
    let (header, data) = match Fault::split(read_header(content))? {
        Ok(read) => read,
        Err(why) => {
            let message = format!("the array's header cannot be read: {why}");
            examiner.report(rules::ODD_NUMPY, place, message);
            // Its pickle, if it has one, stands where the header's length says.
            return Ok(true);
        }
    };
    let left = content.size() - data;
    let Some(header) = Header::parse(&header) else {
        let message = "the array's header is not what NumPy writes".to_string();
        examiner.report(rules::ODD_NUMPY, place, message);
        pickle::examine(examiner, place, content, data)?;
        return Ok(true);
    };
    match header.bytes {
        // Objects: a pickle of them.
        None => {
            if !pickle::examine(examiner, place, content, data)? {
                let message = "the array's objects are no pickle".to_string();
                examiner.report(rules::ODD_NUMPY, place, message);
            }
        }
        Some(bytes) if bytes == left => {}
        Some(bytes) if bytes < left => {
            let message = format!("{} bytes behind the array belong to nothing", left - bytes);
            examiner.report(rules::TRAILING_BYTES, place, message);
            examiner.examine_inside(place, &Part::after(content, data + bytes))?;
        }
        Some(_) => {
            let message = "the array is cut off".to_string();
            examiner.report(rules::ODD_NUMPY, place, message);
        }
    }
    Ok(true)
}

/// The header's text, and where the array begins.
fn read_header(content: &dyn ReadAt) -> Result<(String, u64), Fault> {
    let mut window = Window::new(content, 6);
    let version: [u8; 2] = window.array()?;
    let length = match version {
        [1, _] => window.u16()?.into(),
        [2 | 3, _] => window.u32()?,
        _ => return Fault::broken("its version is unknown"),
    };
    if length > LONGEST_HEADER {
        return Fault::broken("it is longer than NumPy allows");
    }
    let text = String::from_utf8_lossy(window.take(length as usize)?).into_owned();
    Ok((text, window.offset()))
}

/// What a header says.
struct Header {
    /// Bytes of the array; None if it is one of objects.
    bytes: Option<u64>,
}

impl Header {
    fn parse(text: &str) -> Option<Header> {
        let text = text.trim();
        let inner = text.strip_prefix('{')?.strip_suffix('}')?;
        let (mut element, mut shape, mut order) = (None, None, false);
        let mut rest = inner;
        loop {
            rest = rest.trim_start_matches([' ', ',']);
            if rest.is_empty() {
                break;
            }
            let (key, after) = quoted(rest)?;
            let after = after.trim_start().strip_prefix(':')?.trim_start();
            let end = value_end(after)?;
            let value = &after[..end];
            match key {
                "descr" if element.is_none() => element = Some(Element::parse(value)?),
                "shape" if shape.is_none() => shape = Some(elements_of(value)?),
                "fortran_order" if !order => order = matches!(value, "True" | "False"),
                _ => return None,
            }
            rest = &after[end..];
        }
        let bytes = match (element?, shape?) {
            (_, _) if !order => return None,
            (Element::Objects, _) => None,
            (Element::Bytes(size), count) => Some(size.checked_mul(count)?),
        };
        Some(Header { bytes })
    }
}

/// The number of elements of a shape such as `(2, 3)`.
fn elements_of(shape: &str) -> Option<u64> {
    let inner = shape.strip_prefix('(')?.strip_suffix(')')?;
    let mut sides = inner.split(',').map(str::trim).filter(|s| !s.is_empty());
    sides.try_fold(1_u64, |n, side| n.checked_mul(side.parse().ok()?))
}

/// What an element takes.
#[derive(Clone, Copy)]
enum Element {
    Bytes(u64),
    Objects,
}

impl Element {
    /// Reads `'<f4'`, or a list of names with types.
    fn parse(descr: &str) -> Option<Element> {
        if let Some((name, "")) = quoted(descr) {
            return Element::of_type(name);
        }
        let inner = descr.strip_prefix('[')?.strip_suffix(']')?;
        let mut sum = 0_u64;
        let mut rest = inner;
        loop {
            rest = rest.trim_start_matches([' ', ',']);
            if rest.is_empty() {
                return Some(Element::Bytes(sum));
            }
            let end = value_end(rest)?;
            let field = rest[..end].strip_prefix('(')?.strip_suffix(')')?;
            let (_, after) = quoted(field)?;
            let after = after.trim_start_matches([' ', ',']);
            let end = value_end(after)?;
            let count = match after[end..].trim_start_matches([' ', ',']) {
                "" => 1,
                shape => elements_of(shape)?,
            };
            match Element::parse(&after[..end])? {
                Element::Objects => return Some(Element::Objects),
                Element::Bytes(size) => sum = sum.checked_add(size.checked_mul(count)?)?,
            }
            rest = &rest[value_end(rest)?..];
        }
    }

    fn of_type(name: &str) -> Option<Element> {
        let name = name.strip_prefix(['<', '>', '|', '=']).unwrap_or(name);
        let kind = name.chars().next()?;
        let size = name[kind.len_utf8()..].split('[').next()?;
        if kind == 'O' {
            return Some(Element::Objects);
        }
        let size: u64 = size.parse().ok()?;
        match kind {
            'b' | 'i' | 'u' | 'f' | 'c' | 'S' | 'V' | 'm' | 'M' | 'a' => Some(Element::Bytes(size)),
            'U' => size.checked_mul(4).map(Element::Bytes),
            _ => None,
        }
    }
}

/// A text in quotes without escapes, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|q| matches!(q, '\'' | '"'))?;
    let (inner, rest) = text[1..].split_once(quote)?;
    (!inner.contains('\\')).then_some((inner, rest))
}

/// Where a value ends: at a comma or the end, outside of quotes and brackets.
fn value_end(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0_u32, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), _) if q == c => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '(' | '[') => depth += 1,
            (None, ')' | ']') => depth = depth.checked_sub(1)?,
            (None, ',') if depth == 0 => return Some(at),
            _ => {}
        }
    }
    (depth == 0 && quote.is_none()).then_some(text.len())
}

#[cfg(test)]
mod tests {
    use super::Header;

    #[test]
    fn headers_are_read_as_numpy_writes_them() {
        let table = [
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }",
            "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
            "{'descr': [('a', '<i8'), ('b', '<f4', (2,))], 'fortran_order': False, 'shape': (), }",
            "{'descr': [('a', [('x', '|O')])], 'fortran_order': True, 'shape': (3,), }",
            "{'descr': '<U3', 'fortran_order': False, 'shape': (4,)}   \n",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), 'more': 1}",
            "{'descr': __import__('os'), 'fortran_order': False, 'shape': (1,)}",
            "{'descr': '<f4', 'shape': (1,)}",
            "",
        ];
        let rows: Vec<String> = table
            .iter()
            .map(|t| match Header::parse(t) {
                None => format!("{t:?}: not read"),
                Some(header) => format!("{t:?}: {:?}", header.bytes),
            })
            .collect();
        insta::assert_snapshot!(rows.join("\n"), @r#"
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }": Some(24)
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }": None
        "{'descr': [('a', '<i8'), ('b', '<f4', (2,))], 'fortran_order': False, 'shape': (), }": Some(16)
        "{'descr': [('a', [('x', '|O')])], 'fortran_order': True, 'shape': (3,), }": None
        "{'descr': '<U3', 'fortran_order': False, 'shape': (4,)}   \n": Some(48)
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), 'more': 1}": not read
        "{'descr': __import__('os'), 'fortran_order': False, 'shape': (1,)}": not read
        "{'descr': '<f4', 'shape': (1,)}": not read
        "": not read
        "#);
    }
}
