//! Text of unknown origin as one value: JSON, YAML or TOML, with limits.

use serde_json::{Map, Value};

use crate::problem::{Problem, Result};

/// The largest file that is read, in bytes.
pub(crate) const MAX_BYTES: usize = 16 << 20;

/// How deep lists and tables may be nested.
const MAX_DEPTH: usize = 64;

/// Parses a text as JSON, as TOML if it cannot be YAML, else as YAML.
///
/// # Errors
/// It is none of these, too large, or nested too deeply.
pub(crate) fn parse_document(text: &str) -> Result<Value> {
    if text.len() > MAX_BYTES {
        return Err(Problem::new(format!(
            "it is larger than {}",
            crate::text::format_bytes(MAX_BYTES as u64)
        )));
    }
    let text = text.trim_start_matches('\u{feff}');
    // serde_json has a limit of its own.
    if text.trim_start().starts_with(['{', '['])
        && let Ok(value) = serde_json::from_str(text)
    {
        return Ok(value);
    }
    if let Ok(table) = text.parse::<toml::Table>()
        && let Ok(value) = serde_json::to_value(table)
    {
        return shallow(value);
    }
    // A snippet of the text would show what is in it.
    let options = serde_saphyr::options! {
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Value>(text, options) {
        Ok(value) => shallow(value),
        Err(e) => {
            let why = e.to_string();
            let why = crate::text::escape_text(why.lines().next().unwrap_or_default());
            Err(Problem::new(format!(
                "it is neither JSON, YAML nor TOML: {why}"
            )))
        }
    }
}

fn shallow(value: Value) -> Result<Value> {
    fn depth(v: &Value) -> usize {
        let inner = match v {
            Value::Array(all) => all.iter().map(depth).max(),
            Value::Object(all) => all.values().map(depth).max(),
            _ => return 0,
        };
        1 + inner.unwrap_or(0)
    }
    if depth(&value) > MAX_DEPTH {
        return Err(Problem::new("it is nested too deeply"));
    }
    Ok(value)
}

/// The text of a key; numbers that have one form only count as text.
pub(crate) fn text_of<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value
        .get(key)?
        .as_str()
        .map(str::trim)
        .filter(|t| !t.is_empty())
}

/// The entries of a list, nothing if it is none.
pub(crate) fn list_of<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The entries of a table; `None` if it is none.
pub(crate) fn table_of<'a>(value: &'a Value, key: &str) -> Option<&'a Map<String, Value>> {
    value.get(key)?.as_object()
}

pub(crate) fn is_true(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or(false)
}
