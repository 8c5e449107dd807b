//! Functions and methods of texts that are known.

use std::rc::Rc;

use super::constants;
use super::expressions::{element_of, iterable_items, join_path};
use super::names::last_segment;
use super::rules::CallSite;
use super::taint::Taint;
use super::values::{LONGEST_TEXT, UNKNOWN_PART, Value, What};

/// Whether a text is joined out of single characters that were numbers.
pub(super) fn is_spelled_out(name: &str, call: &CallSite<'_>) -> bool {
    let items = call
        .positional
        .last()
        .and_then(iterable_items)
        .unwrap_or_default();
    let single = |v: &Value| v.is_built() && v.as_text().is_some_and(|t| t.chars().count() == 1);
    name.ends_with(".join") && items.len() >= 4 && items.iter().all(single)
}

/// Texts that are known.
pub(super) fn worked_out(name: &str, call: &CallSite<'_>) -> Option<Value> {
    let first = call.positional.first();
    let taint = |value: Value| {
        let all = Taint::join_all(call.all().map(|v| &v.taint));
        let own = call.receiver.map_or(Taint::NONE, |r| r.taint.clone());
        value.with_taint(&all).with_taint(&own)
    };
    let value = match name {
        "builtins.chr" => {
            first?.as_int()?;
            Value::text(&constants::character(first?).to_string(), true)
        }
        "builtins.ord" => {
            let text = first?.as_whole_text()?;
            Value::of(What::Int(i64::from(u32::from(text.chars().next()?))))
        }
        "builtins.int" => {
            let text = first?.as_whole_text();
            let base = call.positional.get(1).and_then(Value::as_int).unwrap_or(10);
            let radix = u32::try_from(base).ok().filter(|r| (2..=36).contains(r))?;
            match text {
                Some(text) => {
                    let digits = text.trim().trim_start_matches("0x").replace('_', "");
                    Value::of(What::Int(i64::from_str_radix(&digits, radix).ok()?))
                }
                None => Value::of(What::Int(first?.as_int()?)),
            }
        }
        "builtins.str" => {
            let text = first?.as_text().filter(|_| call.positional.len() == 1);
            match text {
                Some(text) => Value::text(&text, first?.is_built()),
                None => Value::of(What::Text(Rc::from(first?.as_int()?.to_string()), true)),
            }
        }
        "builtins.bytes" | "builtins.bytearray" => match constants::to_bytes(first?) {
            Value {
                what: What::Unknown,
                ..
            } => return None,
            value => value,
        },
        "builtins.reversed" => constants::slice_of(first?, None, None, Some(-1)),
        "builtins.map" => {
            let function = first?.name()?;
            let items = iterable_items(call.positional.get(1)?)?;
            if function != "builtins.chr" || !items.iter().all(|v| v.as_int().is_some()) {
                return None;
            }
            let all = items
                .iter()
                .map(|v| Value::text(&constants::character(v).to_string(), true));
            Value::list(all.collect())
        }
        "builtins.str.join" => constants::join_texts(
            &first?.as_text()?,
            &iterable_items(call.positional.get(1)?)?,
        ),
        "builtins.max" | "builtins.min" | "builtins.next" => element_of(first?),
        _ => return text_method(name, call).map(taint),
    };
    Some(taint(value))
}

/// Methods of a text that is known.
fn text_method(name: &str, call: &CallSite<'_>) -> Option<Value> {
    let receiver = call.receiver?;
    let first = call.positional.first();
    let method = last_segment(name);
    if method == ".encode" {
        return constants::recode(
            receiver,
            &call
                .text(0, "encoding")
                .unwrap_or_else(|| Rc::from("utf-8")),
        );
    }
    let text = receiver.as_text()?;
    let value = match method {
        ".join" => constants::join_texts(&text, &iterable_items(first?)?),
        ".format" => {
            let named: Vec<(&str, Value)> =
                call.named.iter().map(|(k, v)| (&**k, v.clone())).collect();
            constants::brace_format(&text, call.positional, &named)
        }
        ".replace" => {
            let from = first?.as_text()?;
            let to = call.positional.get(1)?.as_part();
            if text.len().saturating_mul(to.len().max(1)) > LONGEST_TEXT * 16 {
                return None;
            }
            Value::text(&text.replace(&*from, &to), true)
        }
        ".lower" | ".casefold" => Value::text(&text.to_lowercase(), true),
        ".upper" => Value::text(&text.to_uppercase(), true),
        ".title" | ".capitalize" | ".swapcase" => return None,
        ".strip" | ".lstrip" | ".rstrip" => {
            let set = first.and_then(Value::as_text);
            let cut = |c: char| set.as_deref().map_or(c.is_whitespace(), |s| s.contains(c));
            let cut_text = match method {
                ".lstrip" => text.trim_start_matches(cut),
                ".rstrip" => text.trim_end_matches(cut),
                _ => text.trim_matches(cut),
            };
            Value::text(cut_text, receiver.is_built())
        }
        ".split" => {
            let separator = first
                .and_then(Value::as_whole_text)
                .filter(|s| !s.is_empty());
            let parts: Vec<Value> = match separator {
                Some(separator) => text.split(&*separator).map(Value::literal).collect(),
                None => text.split_whitespace().map(Value::literal).collect(),
            };
            Value::list(parts)
        }
        ".joinpath" => {
            let mut parts = vec![receiver.clone()];
            parts.extend(call.positional.iter().cloned());
            join_path(&parts)
        }
        ".expanduser" | ".resolve" | ".absolute" | ".as_posix" => receiver.clone(),
        ".with_suffix" | ".with_name" => Value::text(&format!("{text}{UNKNOWN_PART}"), true),
        _ => return None,
    };
    Some(value)
}
