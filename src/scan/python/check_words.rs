//! Which words and names make a check.

use ruff_python_ast::Expr;

use super::names::last_segment;
use super::taint::cleared;
use super::values::Value;

pub(super) fn quiet_text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::StringLiteral(literal) => Some(literal.value.to_str()),
        _ => None,
    }
}

pub(super) fn is_call_of(expr: &Expr, names: &[&str]) -> bool {
    let Expr::Call(call) = expr else {
        return false;
    };
    match &*call.func {
        Expr::Attribute(attribute) => names.contains(&attribute.attr.as_str()),
        Expr::Name(name) => names.contains(&name.id.as_str()),
        _ => false,
    }
}

/// What `x.startswith(prefix)` says.
pub(super) fn bits_of_prefix(prefix: &Value) -> u8 {
    let first = prefix.items().and_then(|i| i.first()).unwrap_or(prefix);
    match first.as_text() {
        None => cleared::PATH | cleared::URL,
        Some(text) if text.starts_with("http") => {
            let host = text.split("://").nth(1).unwrap_or("");
            if host.contains('/') { cleared::URL } else { 0 }
        }
        Some(text) if matches!(&*text, "/" | "\\" | "./" | "~") => cleared::SLASH,
        Some(text) if text.len() < 3 => 0,
        Some(_) => cleared::PATH | cleared::URL,
    }
}

pub(super) fn sounds_like_a_check(name: &str) -> bool {
    let last = last_segment(name)
        .trim_start_matches('.')
        .to_ascii_lowercase();
    let subject = [
        "path", "url", "file", "dir", "name", "safe", "within", "inside", "host",
    ]
    .iter()
    .any(|w| last.contains(w));
    if !subject {
        return false;
    }
    [
        "safe",
        "valid",
        "allowed",
        "within",
        "inside",
        "is_sub",
        "check",
        "verify",
        "trusted",
        "permitted",
        "whitelist",
    ]
    .iter()
    .any(|w| last.contains(w))
}

/// Whether a pattern begins with anything, or is about any address: `^.+`, `^https?://.*$`.
pub(super) fn lets_all_through(pattern: &str) -> bool {
    let plain = pattern.replace("\\/", "/");
    let start = plain.trim_start_matches(['r', '"', '\'', '^', '(', '?', ':']);
    let rest = start.strip_prefix("http").map_or(start, |address| {
        address.trim_start_matches(['s', '?', '(', ')', ':', '/', '|'])
    });
    [".+", ".*", "\\S+", "[^\\s]+"]
        .iter()
        .any(|a| rest.starts_with(a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_of_anything_checks_nothing() {
        for pattern in [
            "^.+$",
            "r'^(.+@|ssh://).+:.+$'",
            "^https?://.*$",
            r"https?:\/\/\S+$",
        ] {
            assert!(lets_all_through(pattern), "{pattern}");
        }
        for pattern in [r"^https://github\.com/.*$", r"^[\w-]+$", r"[a-z]+\.png$"] {
            assert!(!lets_all_through(pattern), "{pattern}");
        }
    }
}
