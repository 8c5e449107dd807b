//! What serde says of a value of another type, in words of TOML.

/// A message, and what to write instead, if that is certain.
pub(crate) struct TypeMistake {
    pub message: String,
    pub write: Option<String>,
}

/// Reads serde's message about the value `raw`, as it stands in the file; `None` if it is about
/// something else.
pub(crate) fn explain_type(message: &str, raw: &str) -> Option<TypeMistake> {
    let (found, expected) = message
        .strip_prefix("invalid type: ")?
        .split_once(", expected ")?;
    let wants_number = is_integer_type(expected);
    let wanted = match expected {
        _ if wants_number => "a whole number",
        "a string" => "text in quotation marks",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a table",
        other => other,
    };
    let raw = raw.trim();
    if wants_number && found.starts_with("integer ") {
        return Some(TypeMistake {
            message: format!("{raw} is too large"),
            write: None,
        });
    }
    let word = |kinds: &[&str]| kinds.iter().any(|k| found.starts_with(k));
    let is_plain = word(&["integer", "floating point", "boolean"]);
    let unquoted = raw.trim_matches(['"', '\'']);
    let write = match expected {
        "a string" if is_plain => Some(format!("\"{raw}\"")),
        "a boolean" if matches!(unquoted, "true" | "false") => Some(unquoted.to_string()),
        _ if wants_number && unquoted.parse::<i64>().is_ok() => Some(unquoted.to_string()),
        "a sequence" if (is_plain || word(&["string"])) && !raw.contains('\n') => {
            Some(format!("[{raw}]"))
        }
        _ => None,
    };
    let is = match found {
        "map" => "a table",
        "sequence" => "a list",
        _ if raw.is_empty() || raw.len() > 60 || raw.contains('\n') => found,
        _ => raw,
    };
    Some(TypeMistake {
        message: format!("expected {wanted}, found {is}"),
        write,
    })
}

fn is_integer_type(name: &str) -> bool {
    let digits = name.strip_prefix(['i', 'u']);
    digits.is_some_and(|d| d == "size" || d.parse::<u8>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_type_is_told_with_what_to_write() {
        let cases = [
            ("string \"8188\"", "i64", "\"8188\""),
            ("string \"many\"", "u16", "\"many\""),
            (
                "integer `99999999999999999999` as i128",
                "i64",
                "99999999999999999999",
            ),
            ("floating point `3.12`", "a string", "3.12"),
            ("string \"no\"", "a boolean", "\"no\""),
            ("string \"true\"", "a boolean", "\"true\""),
            ("string \"--lowvram\"", "a sequence", "\"--lowvram\""),
            ("map", "a string", "{ a = 1 }"),
            ("boolean `true`", "a table", "true"),
        ];
        let told: Vec<String> = cases
            .iter()
            .filter_map(|(found, expected, raw)| {
                let m = explain_type(&format!("invalid type: {found}, expected {expected}"), raw)?;
                let write = m.write.map(|w| format!(" (write {w})"));
                Some(m.message + &write.unwrap_or_default())
            })
            .collect();
        insta::assert_snapshot!(told.join("\n"), @r#"
        expected a whole number, found "8188" (write 8188)
        expected a whole number, found "many"
        99999999999999999999 is too large
        expected text in quotation marks, found 3.12 (write "3.12")
        expected true or false, found "no"
        expected true or false, found "true" (write true)
        expected a list, found "--lowvram" (write ["--lowvram"])
        expected text in quotation marks, found a table
        expected a table, found true
        "#);
        assert!(explain_type("unknown field `x`", "x").is_none());
    }
}
