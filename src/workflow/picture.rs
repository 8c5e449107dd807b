//! The workflow in a PNG: ComfyUI writes it as text chunks `workflow` and `prompt`.

use std::io::Cursor;

use crate::problem::{Problem, Result};

/// More bytes than a decoder may take for one picture's texts.
const MOST_BYTES: usize = 256 << 20;

pub(super) fn is_png(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x89PNG\r\n\x1a\n")
}

/// The editor's workflow, else the API's.
///
/// # Errors
/// The picture is damaged, or carries none.
pub(super) fn workflow_text(bytes: &[u8]) -> Result<String> {
    let limits = png::Limits { bytes: MOST_BYTES };
    let decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    let reader = decoder.read_info().map_err(|e| {
        Problem::new(format!("is a picture that cannot be read: {e}"))
            .with_hint("save the workflow in ComfyUI by Workflow > Export, and give that file")
    })?;
    let info = reader.info();
    let latin = info
        .uncompressed_latin1_text
        .iter()
        .map(|c| (c.keyword.as_str(), Some(c.text.clone())));
    let packed = info
        .compressed_latin1_text
        .iter()
        .map(|c| (c.keyword.as_str(), c.get_text().ok()));
    let utf8 = info
        .utf8_text
        .iter()
        .map(|c| (c.keyword.as_str(), c.get_text().ok()));
    let all: Vec<(&str, Option<String>)> = latin.chain(packed).chain(utf8).collect();
    ["workflow", "prompt"]
        .iter()
        .find_map(|key| all.iter().find(|(k, _)| k == key)?.1.clone())
        .ok_or_else(|| {
            Problem::new("is a picture without a workflow").with_hint(
                "ComfyUI writes one into its own PNGs; other programs remove it when they save",
            )
        })
}
