//! Arithmetic on what is known: texts that are put together out of parts, and simple decodings.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ruff_python_ast::Operator;

use super::values::{LONGEST_TEXT, UNKNOWN_PART, Value, What};

/// As lax as Python's.
const LAX: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LAX);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LAX);

/// Returns what an operator makes of two values; its taint is the caller's.
pub(super) fn binary(left: &Value, operator: Operator, right: &Value) -> Value {
    match operator {
        Operator::Add => add(left, right),
        Operator::Mod if left.as_text().is_some() => {
            let arguments = right
                .items()
                .map_or_else(|| vec![right.clone()], <[Value]>::to_vec);
            percent(&left.as_part(), &arguments)
        }
        Operator::Mult => multiply(left, right),
        _ => match (left.as_int(), right.as_int()) {
            (Some(a), Some(b)) => {
                integer(a, operator, b).map_or(Value::UNKNOWN, |n| Value::of(What::Int(n)))
            }
            _ => Value::UNKNOWN,
        },
    }
}

fn integer(a: i64, operator: Operator, b: i64) -> Option<i64> {
    match operator {
        Operator::Sub => a.checked_sub(b),
        Operator::FloorDiv => a.checked_div_euclid(b),
        Operator::Mod => a.checked_rem_euclid(b),
        Operator::BitXor => Some(a ^ b),
        Operator::BitAnd => Some(a & b),
        Operator::BitOr => Some(a | b),
        Operator::LShift if (0..40).contains(&b) => a.checked_mul(1 << b),
        Operator::RShift if (0..63).contains(&b) => Some(a >> b),
        Operator::Pow => a.checked_pow(u32::try_from(b).ok()?),
        _ => None,
    }
}

fn add(left: &Value, right: &Value) -> Value {
    match (&left.what, &right.what) {
        (What::Int(a), What::Int(b)) => a
            .checked_add(*b)
            .map_or(Value::UNKNOWN, |n| Value::of(What::Int(n))),
        (What::Bytes(a, _), What::Bytes(b, _)) => Value::bytes(&[&a[..], &b[..]].concat(), true),
        _ if left.items().is_some() => {
            let mut all = left.items().unwrap_or_default().to_vec();
            match right.items() {
                Some(items) => all.extend(items.iter().cloned()),
                None => all.push(right.clone()),
            }
            Value::list(all)
        }
        _ if left.as_text().is_some() || right.as_text().is_some() => {
            Value::text(&(left.as_part() + &right.as_part()), true)
        }
        (What::Name(a), What::Name(_)) if super::names::is_site_folder(a) => {
            Value::text(&(left.as_part() + &right.as_part()), true)
        }
        _ => Value::UNKNOWN,
    }
}

fn multiply(left: &Value, right: &Value) -> Value {
    match (&left.what, &right.what) {
        (What::Int(a), What::Int(b)) => a
            .checked_mul(*b)
            .map_or(Value::UNKNOWN, |n| Value::of(What::Int(n))),
        (What::Text(text, _), What::Int(n)) | (What::Int(n), What::Text(text, _)) => {
            let n = usize::try_from(*n).unwrap_or(0);
            if text.len().saturating_mul(n) > LONGEST_TEXT {
                return Value::UNKNOWN;
            }
            Value::text(&text.repeat(n), true)
        }
        _ => Value::UNKNOWN,
    }
}

/// `format % arguments`
fn percent(format: &str, arguments: &[Value]) -> Value {
    let mut out = String::new();
    let mut next = arguments.iter();
    let mut rest = format.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if rest.peek() == Some(&'%') {
            rest.next();
            out.push('%');
            continue;
        }
        if rest.peek() == Some(&'(') {
            for c in rest.by_ref() {
                if c == ')' {
                    break;
                }
            }
        }
        while rest
            .peek()
            .is_some_and(|c| matches!(c, '-' | '+' | ' ' | '#' | '.' | '0'..='9'))
        {
            rest.next();
        }
        let kind = rest.next();
        let value = next.next();
        match (kind, value) {
            (Some('c'), Some(v)) if v.as_int().is_some() => out.push(character(v)),
            (_, Some(value)) => out.push_str(&value.as_part()),
            _ => out.push(UNKNOWN_PART),
        }
    }
    Value::text(&out, true)
}

/// `format.format(*positional, **named)`
pub(super) fn brace_format(format: &str, positional: &[Value], named: &[(&str, Value)]) -> Value {
    let mut out = String::new();
    let mut next = 0;
    let mut rest = format;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let doubled = rest[at..].starts_with("{{") || rest[at..].starts_with("}}");
        if doubled {
            out.push_str(&rest[at..=at]);
            rest = &rest[at + 2..];
            continue;
        }
        if rest[at..].starts_with('}') {
            rest = &rest[at + 1..];
            continue;
        }
        let end = rest[at..].find('}').map_or(rest.len(), |e| at + e);
        let field = &rest[at + 1..end];
        let key = field.split(['!', ':']).next().unwrap_or("");
        let value = if key.is_empty() {
            next += 1;
            positional.get(next - 1)
        } else if let Ok(n) = key.parse::<usize>() {
            positional.get(n)
        } else {
            named.iter().find(|(k, _)| *k == key).map(|(_, v)| v)
        };
        let as_character = field.ends_with(":c");
        match value {
            Some(v) if as_character && v.as_int().is_some() => out.push(character(v)),
            Some(value) => out.push_str(&value.as_part()),
            None => out.push(UNKNOWN_PART),
        }
        rest = rest.get(end + 1..).unwrap_or("");
    }
    out.push_str(rest);
    Value::text(&out, true)
}

/// `chr(value)`
pub(super) fn character(value: &Value) -> char {
    value
        .as_int()
        .and_then(|n| u32::try_from(n).ok())
        .and_then(char::from_u32)
        .unwrap_or(UNKNOWN_PART)
}

/// `separator.join(items)`
pub(super) fn join_texts(separator: &str, items: &[Value]) -> Value {
    let parts: Vec<String> = items.iter().map(Value::as_part).collect();
    Value::text(&parts.join(separator), true)
}

/// `value[lower:upper:step]`
pub(super) fn slice_of(
    value: &Value,
    lower: Option<i64>,
    upper: Option<i64>,
    step: Option<i64>,
) -> Value {
    match &value.what {
        What::Text(text, _) => {
            let all: Vec<char> = text.chars().collect();
            let picked: String = pick(&all, lower, upper, step).into_iter().collect();
            Value::text(&picked, true)
        }
        What::Bytes(bytes, _) => Value::bytes(&pick(bytes, lower, upper, step), true),
        What::List(items, _) => Value::list(pick(items, lower, upper, step)),
        _ => Value::UNKNOWN,
    }
}

fn pick<T: Clone>(all: &[T], lower: Option<i64>, upper: Option<i64>, step: Option<i64>) -> Vec<T> {
    let n = i64::try_from(all.len()).unwrap_or(i64::MAX);
    let step = step.filter(|s| *s != 0).unwrap_or(1);
    let place = |i: i64, least: i64, most: i64| {
        if i < 0 {
            i.saturating_add(n).clamp(least, most)
        } else {
            i.clamp(least, most)
        }
    };
    let (mut at, end) = if step > 0 {
        (
            lower.map_or(0, |i| place(i, 0, n)),
            upper.map_or(n, |i| place(i, 0, n)),
        )
    } else {
        (
            lower.map_or(n - 1, |i| place(i, -1, n - 1)),
            upper.map_or(-1, |i| place(i, -1, n - 1)),
        )
    };
    let mut out = Vec::new();
    while (step > 0 && at < end) || (step < 0 && at > end) {
        if let Some(item) = usize::try_from(at).ok().and_then(|i| all.get(i)) {
            out.push(item.clone());
        }
        at = at.saturating_add(step);
    }
    out
}

/// `value[index]`
pub(super) fn item_of(value: &Value, index: i64) -> Option<Value> {
    let place = |length: usize| {
        let length = i64::try_from(length).ok()?;
        usize::try_from(if index < 0 { index + length } else { index }).ok()
    };
    match &value.what {
        What::Text(text, _) => {
            let c = text.chars().nth(place(text.chars().count())?)?;
            Some(Value::text(&c.to_string(), true))
        }
        What::Bytes(bytes, _) => {
            let byte = bytes.get(place(bytes.len())?)?;
            Some(Value::of(What::Int(i64::from(*byte))))
        }
        What::List(items, _) => items.get(place(items.len())?).cloned(),
        _ => None,
    }
}

fn raw(value: &Value) -> Option<Vec<u8>> {
    value.alternatives().iter().find_map(|what| match what {
        What::Text(text, _) => Some(text.as_bytes().to_vec()),
        What::Bytes(bytes, _) => Some(bytes.to_vec()),
        _ => None,
    })
}

/// Decodes `value` as the function of that name does; None if it is not known or not decodable.
pub(super) fn decode_with(function: &str, value: &Value) -> Option<Value> {
    let mut data = raw(value)?;
    data.retain(|b| !b.is_ascii_whitespace());
    let decoded = match function {
        "base64.b64decode" | "base64.standard_b64decode" | "base64.decodebytes" => {
            STANDARD.decode(&data).ok()?
        }
        "base64.urlsafe_b64decode" => URL_SAFE.decode(&data).ok()?,
        "base64.b16decode"
        | "binascii.unhexlify"
        | "binascii.a2b_hex"
        | "builtins.bytes.fromhex"
        | "builtins.bytearray.fromhex" => {
            let lower: Vec<u8> = data.iter().map(u8::to_ascii_lowercase).collect();
            base16ct::lower::decode_vec(lower).ok()?
        }
        "binascii.a2b_base64" => STANDARD.decode(&data).ok()?,
        _ => return None,
    };
    Some(Value::bytes(&decoded, true))
}

/// `codecs.decode(value, coding)`, `value.decode(coding)`, `value.encode(coding)`.
pub(super) fn recode(value: &Value, coding: &str) -> Option<Value> {
    let plain: String = coding.to_ascii_lowercase().replace(['-', '_'], "");
    match plain.as_str() {
        "rot13" => {
            let text = value.as_text()?;
            Some(Value::text(
                &text.chars().map(rot13).collect::<String>(),
                true,
            ))
        }
        "hex" => decode_with("binascii.unhexlify", value),
        "base64" => decode_with("base64.b64decode", value),
        "utf8" | "ascii" | "latin1" | "" | "iso88591" => match &value.what {
            What::Bytes(bytes, built) => {
                let text = String::from_utf8_lossy(bytes);
                Some(Value::text(&text, *built))
            }
            What::Text(..) => Some(value.clone()),
            _ => None,
        },
        _ => None,
    }
}

fn rot13(c: char) -> char {
    let turn = |base: u8, c: char| char::from(base + (c as u8 - base + 13) % 26);
    match c {
        'a'..='z' => turn(b'a', c),
        'A'..='Z' => turn(b'A', c),
        _ => c,
    }
}

/// `bytes(value)`, `bytearray(value)`.
pub(super) fn to_bytes(value: &Value) -> Value {
    match &value.what {
        What::List(items, _) => {
            let all: Option<Vec<u8>> = items
                .iter()
                .map(|v| v.as_int().and_then(|n| u8::try_from(n).ok()))
                .collect();
            all.map_or(Value::UNKNOWN, |all| Value::bytes(&all, true))
        }
        What::Bytes(..) => value.clone(),
        What::Text(text, _) => Value::bytes(text.as_bytes(), true),
        _ => Value::UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &Value) -> String {
        value.as_text().unwrap().to_string()
    }

    #[test]
    fn texts_are_put_together() {
        let name = add(&Value::literal("ex"), &Value::literal("ec"));
        assert_eq!(text(&name), "exec");
        assert!(name.is_built());
        assert_eq!(
            text(&slice_of(&Value::literal("metsys"), None, None, Some(-1))),
            "system"
        );
        assert_eq!(
            text(&percent(
                "%s%c",
                &[Value::literal("o"), Value::of(What::Int(115))]
            )),
            "os"
        );
        let formatted = brace_format(
            "{1}{x}{{}}",
            &[Value::UNKNOWN, Value::literal("a")],
            &[("x", Value::literal("b"))],
        );
        assert_eq!(text(&formatted), "ab{}");
    }

    #[test]
    fn simple_codings_are_undone() {
        let b64 = decode_with("base64.b64decode", &Value::literal("b3M="));
        assert_eq!(text(&b64.unwrap()), "os");
        assert_eq!(
            text(&recode(&Value::literal("flfgrz"), "rot_13").unwrap()),
            "system"
        );
        let hex = decode_with("builtins.bytes.fromhex", &Value::literal("6f 73"));
        assert_eq!(text(&hex.unwrap()), "os");
    }

    #[test]
    fn slices_stay_within_bounds() {
        let value = Value::literal("abc");
        for (lower, upper, step) in [
            (Some(i64::MIN), Some(i64::MAX), Some(i64::MAX)),
            (Some(i64::MAX), Some(i64::MIN), Some(i64::MIN)),
            (Some(-1), None, Some(-1)),
        ] {
            let _ = slice_of(&value, lower, upper, step);
        }
        assert_eq!(item_of(&value, i64::MIN), None);
    }
}
