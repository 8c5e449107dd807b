//! Keras' configuration in JSON: `config.json` in a `.keras` archive, or a file of its own.
//!
//! Source: Keras, `saving/serialization_lib.py`: `class_name`, `module`, `config`,
//! `registered_name`; a function's code is `__lambda__`.

use std::io;

use serde_json::Value;

use super::super::content::ReadAt;
use super::window::read_some;
use super::{Examiner, pickle, rules};
use crate::text::escape_text;

const LARGEST: u64 = 32 << 20;
/// Layers whose code is in the file.
const LAMBDAS: &[&str] = &["Lambda", "__lambda__"];
/// Parts of Keras that are data and arithmetic.
const HARMLESS: &[&str] = &[
    "keras.layers",
    "keras.initializers",
    "keras.activations",
    "keras.losses",
    "keras.metrics",
    "keras.optimizers",
    "keras.regularizers",
    "keras.constraints",
    "keras.src",
    "keras.models",
    "keras.callbacks",
    "keras.engine",
    "keras",
];

/// Says whether a file begins like an object or a list in JSON.
pub(super) fn begins_like_one(head: &[u8]) -> bool {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let mut rest = text.iter().skip_while(|b| b.is_ascii_whitespace());
    match (rest.next(), rest.find(|b| !b.is_ascii_whitespace())) {
        (Some(b'{'), Some(b'"')) => true,
        // `]` is an opcode of a pickle, `[` is none.
        (Some(b'['), Some(b'{' | b'"')) => true,
        _ => false,
    }
}

/// Whether `class_name` can be a key in these bytes: as it is, or with some of its letters escaped,
/// which are those from `\u005f` on.
fn can_name_class(bytes: &[u8]) -> bool {
    let is_letter = |at: usize| matches!(bytes.get(at + 4), Some(b'5'..=b'7'));
    memchr::memmem::find(bytes, b"class_name").is_some()
        || memchr::memmem::find_iter(bytes, b"\\u00").any(is_letter)
}

pub(super) fn examine(
    examiner: &mut Examiner,
    place: &str,
    content: &dyn ReadAt,
) -> io::Result<bool> {
    if content.size() > LARGEST {
        return Ok(false);
    }
    let bytes = read_some(content, 0, content.size() as usize)?;
    if !can_name_class(&bytes) {
        return Ok(false);
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let Ok(root) = serde_json::from_slice::<Value>(bytes) else {
        // Python reads what is nested deeper than this reader goes.
        let lambda = memchr::memmem::find(bytes, b"Lambda").is_some();
        if lambda {
            let message = "a configuration of Keras that names Lambda cannot be read".to_string();
            examiner.report(rules::KERAS_CUSTOM, place, message);
        }
        return Ok(lambda);
    };
    let mut known = false;
    let mut left = vec![&root];
    while let Some(value) = left.pop() {
        match value {
            Value::Array(items) => left.extend(items),
            Value::Object(fields) => {
                if let Some(Value::String(class)) = fields.get("class_name") {
                    known |= fields.contains_key("config");
                    let module = fields.get("module").and_then(Value::as_str);
                    // A function is named by its configuration.
                    let function = fields.get("config").and_then(Value::as_str);
                    check_class(examiner, place, function.unwrap_or(class), module);
                    if LAMBDAS.contains(&&**class) {
                        let shown = escape_text(class);
                        let message = format!("the model holds {shown}, whose code is in the file");
                        examiner.report(rules::KERAS_LAMBDA, place, message);
                    }
                }
                left.extend(fields.values());
            }
            _ => {}
        }
    }
    Ok(known)
}

fn check_class(examiner: &mut Examiner, place: &str, class: &str, module: Option<&str>) {
    let Some(module) = module else { return };
    let below = |part: &str| {
        module
            .strip_prefix(part)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let loads = ["utils", "saving", "src.utils", "src.saving", "src.legacy"]
        .iter()
        .any(|part| below(&format!("keras.{part}")));
    // Functions of the model's author are filed under `builtins` as well.
    let home = if below("builtins") { "" } else { module };
    if pickle::names_code(home, class) {
        let message = format!(
            "the model names {}.{}",
            escape_text(module),
            escape_text(class)
        );
        examiner.report(rules::KERAS_CODE, place, message);
    } else if loads || !HARMLESS.iter().any(|part| below(part)) {
        let message = format!(
            "the model names {} of {}",
            escape_text(class),
            escape_text(module)
        );
        examiner.report(rules::KERAS_CUSTOM, place, message);
    }
}
