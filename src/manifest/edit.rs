//! Edits comfy.toml as its owner would: every comment and every unrelated line stays.

use toml_edit::{DocumentMut, Item, Table, value};

use crate::problem::{Context, Problem, Result};

/// A model to declare.
pub(crate) struct NewModel {
    pub path: String,
    /// `None` is the default share.
    pub share: Option<String>,
    pub source: Option<String>,
}

/// Returns the text with these models declared at its end, one section each.
///
/// # Errors
/// The text is not TOML, or `models` is not a table of sections.
pub(crate) fn add_models(text: &str, models: &[NewModel]) -> Result<String> {
    let mut document: DocumentMut = text.parse().context("read comfy.toml")?;
    let section = document.entry("models").or_insert_with(|| {
        let mut t = Table::new();
        t.set_implicit(true);
        Item::Table(t)
    });
    let Some(table) = section.as_table_mut() else {
        return Err(Problem::new("`models` in comfy.toml is an inline table")
            .with_hint("write a section for each model: [models.\"PATH\"]"));
    };
    for m in models {
        let mut t = Table::new();
        for (key, text) in [("share", &m.share), ("source", &m.source)] {
            if let Some(v) = text {
                t.insert(key, value(v));
            }
        }
        table.insert(&m.path, Item::Table(t));
    }
    let out = document.to_string();
    // The library writes only one kind of line ending.
    Ok(if text.contains("\r\n") {
        out.replace("\r\n", "\n").replace('\n', "\r\n")
    } else {
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_order_stay() {
        let text = "# mine\nversion = 1 # one\n\n[models.\"b.bin\"] # keep\nsource = \
            \"civitai:1\"\n\n# shares\n[shares.models]\npath = \"/x\"\n";
        let new = |path: &str, source: Option<&str>| NewModel {
            path: path.into(),
            share: None,
            source: source.map(str::to_string),
        };
        let out = add_models(
            text,
            &[
                new("a/ü \"x\".safetensors", None),
                new("c.bin", Some("hf://o/r/c.bin")),
            ],
        )
        .unwrap();
        insta::assert_snapshot!(out, @r#"
        # mine
        version = 1 # one

        [models."b.bin"] # keep
        source = "civitai:1"

        [models.'a/ü "x".safetensors']

        [models."c.bin"]
        source = "hf://o/r/c.bin"

        # shares
        [shares.models]
        path = "/x"
        "#);
        assert!(add_models("models = {}", &[new("a", None)]).is_err());
    }
}
