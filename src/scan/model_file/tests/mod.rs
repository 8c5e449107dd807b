//! Files that are made here, byte by byte: none of them is ever loaded, and what they would do is
//! nothing.

mod archives;
mod corpus;
mod evasions;
mod formats;
mod libraries;
mod mutations;
mod pickles;

use super::super::finding::Verdict;
use super::examine_model;

/// The verdict on some bytes, and what was found, a line each.
fn verdict(name: &str, bytes: &[u8]) -> (Option<Verdict>, String) {
    let examined = examine_model(name, &bytes.to_vec()).unwrap();
    let found = examined.findings.iter().map(|f| {
        let place = f.path.strip_prefix(name).unwrap();
        format!("{place} {}: {}", f.rule.id, f.message)
    });
    let found = found.collect::<Vec<_>>().join("; ");
    (examined.verdict, found.trim_start().to_string())
}

/// A line for each file: its name, the verdict, what was found.
fn verdicts(files: &[(&str, Vec<u8>)]) -> String {
    let rows = files.iter().map(|(name, bytes)| {
        let (verdict, found) = verdict(name, bytes);
        let word = verdict.map_or("none", Verdict::as_word);
        format!("{name}: {word} {found}").trim_end().to_string()
    });
    rows.collect::<Vec<_>>().join("\n")
}

const COMMAND: &str = "true";

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// `GLOBAL`.
fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

/// `BINUNICODE`.
fn text(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap().to_le_bytes();
    join(&[b"X", &length, text.as_bytes()])
}

/// `BINBYTES`.
fn binary(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap().to_le_bytes();
    join(&[b"B", &length, bytes])
}

/// A global that is called with a text.
fn call(module: &str, name: &str) -> Vec<u8> {
    join(&[&global(module, name), &text(COMMAND), b"\x85R"])
}

/// A whole pickle around some opcodes.
fn pickle(body: &[u8]) -> Vec<u8> {
    join(&[b"\x80\x04", body, b"."])
}

/// A pickle that would call os.system.
fn payload() -> Vec<u8> {
    pickle(&call("posix", "system"))
}

/// A tensor as torch pickles it, of `numbers` 32-bit floats.
fn tensor(key: &str, numbers: u8) -> Vec<u8> {
    let storage = join(&[
        b"(",
        &text("storage"),
        &global("torch", "FloatStorage"),
        &text(key),
        &text("cpu"),
        &[b'K', numbers, b't', b'Q'],
    ]);
    join(&[
        &global("torch._utils", "_rebuild_tensor_v2"),
        b"(",
        &storage,
        &[b'K', 0, b'K', numbers, 0x85, b'K', 1, 0x85, 0x89],
        &global("collections", "OrderedDict"),
        b")RtR",
    ])
}

/// What `torch.save` makes of two tensors.
fn state_dict() -> Vec<u8> {
    join(&[
        b"\x80\x02",
        &global("collections", "OrderedDict"),
        b")Rq\x01(",
        &text("w"),
        &tensor("0", 4),
        &text("b"),
        &tensor("1", 2),
        b"u}",
        &text("_metadata"),
        b"}sb.",
    ])
}
