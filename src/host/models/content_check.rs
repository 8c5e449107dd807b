//! What servers, and clones without Git LFS, leave in a model's place.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::problem::Problem;
use crate::tree::rules::LFS_MARK;

/// As much of a file as is looked at, in bytes.
const BEGINNING: usize = 512;

/// Extensions of files that are text by nature.
const TEXT_FILES: [&str; 8] = ["json", "jsonl", "yaml", "yml", "txt", "xml", "html", "md"];

/// Returns what the file called `path` is instead of a model, or of a file that comes with one.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn what_is_wrong(file: &File, path: &str) -> std::io::Result<Option<Problem>> {
    let mut first = [0; BEGINNING];
    let n = file.read_at(&mut first, 0)?;
    let size = file.metadata()?.len();
    Ok(judge_beginning(&first[..n], size, path))
}

fn judge_beginning(first: &[u8], size: u64, path: &str) -> Option<Problem> {
    let text = first.trim_ascii_start().to_ascii_lowercase();
    let begins = |words: &[&str]| words.iter().any(|w| text.starts_with(w.as_bytes()));
    let is_text = !first
        .iter()
        .any(|b| *b < b' ' && !matches!(b, b'\t' | b'\n' | b'\r' | b'\x0c'));
    let may_be_text = path
        .rsplit_once('.')
        .is_some_and(|(_, e)| TEXT_FILES.iter().any(|t| e.eq_ignore_ascii_case(t)));
    let notice = "probably an error or a notice of the server: open its source in a browser, and \
                  correct `source`, or download it again";
    let (what, hint) = if size == 0 {
        ("is empty", "download it again, or from another source")
    } else if first.starts_with(LFS_MARK) {
        (
            "is a Git LFS pointer, not the model",
            "run `git lfs pull` in the clone that it is from, or download the file itself",
        )
    } else if begins(&["<!doctype html", "<html"]) {
        (
            "is a web page, not a model",
            "probably a login or a notice: open its source in a browser, and download it again",
        )
    } else if may_be_text || !is_text {
        return None;
    } else if begins(&["{", "["]) {
        ("is JSON, not a model", notice)
    } else if begins(&["<?xml", "<error"]) {
        ("is XML, not a model", notice)
    } else {
        return None;
    };
    Some(Problem::new(what).with_hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_a_models_place_is_named() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
        let table: [(&str, &[u8], &str); 13] = [
            ("a.gguf", b"", "is empty"),
            ("a.json", b"", "is empty"),
            ("a.pth", pointer, "is a Git LFS pointer, not the model"),
            ("a.json", pointer, "is a Git LFS pointer, not the model"),
            ("a.bin", b"\n <!DOCTYPE html>", "is a web page, not a model"),
            ("a.pth", b"{\"error\": 1}", "is JSON, not a model"),
            ("a.mar", b"{\"error\": 1}", "is JSON, not a model"),
            ("a.json", b"{\"error\": 1}", "fine"),
            (
                "a.onnx",
                b"<?xml version='1.0'?><Error/>",
                "is XML, not a model",
            ),
            ("a.xml", b"<?xml version='1.0'?><net/>", "fine"),
            ("a.ckpt", b"a text of somebody's", "fine"),
            ("a.pth", b"PK\x03\x04", "fine"),
            ("a.safetensors", b"{\0\0\0\0\0\0\0{\"a\":", "fine"),
        ];
        for (path, bytes, what) in table {
            let said = judge_beginning(bytes, bytes.len() as u64, path);
            assert_eq!(said.map_or("fine".into(), |p| p.message), what, "{path}");
        }
    }
}
