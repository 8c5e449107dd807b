//! Two texts of comfy.lock without the sections that they have in common: of thousands of versions,
//! each differs from the next by a few sections.

use std::collections::HashMap;

use memchr::memmem;

/// What every lock needs, and what sections of packages refer to.
const NEEDED: [&str; 3] = ["[comfyui]", "[python]", "[[python.indexes]]"];
const PACKAGE: &str = "[[python.packages]]";

/// Returns both texts without what they have in common; `None` where a section could begin inside a
/// string.
pub(super) fn without_common(old: &str, new: &str) -> Option<(String, String)> {
    let multi_line = ["\"\"\"", "'''"];
    let has = |text: &str, what: &str| memmem::find(text.as_bytes(), what.as_bytes()).is_some();
    if multi_line.iter().any(|q| has(old, q) || has(new, q)) {
        return None;
    }
    let (old, new) = (split_sections(old), split_sections(new));
    let (before, after) = (by_name(&old), by_name(&new));
    let differs = |section: &&&str| {
        let name = name_of(section);
        is_needed(name) || before.get(name) != after.get(name)
    };
    let keep = |all: &[&str]| all.iter().filter(differs).copied().collect::<String>();
    Some((keep(&old), keep(&new)))
}

/// A submodule belongs to the section before it.
fn split_sections(text: &str) -> Vec<&str> {
    let (mut out, mut start) = (Vec::new(), 0);
    for at in memmem::find_iter(text.as_bytes(), "\n[") {
        let line = text[at + 1..].lines().next().unwrap_or_default();
        if !line.ends_with(".submodules]]") {
            out.push(&text[start..=at]);
            start = at + 1;
        }
    }
    out.push(&text[start..]);
    out
}

/// Its header; of a package, the line with its name too: one package may have several sections.
fn name_of(section: &str) -> &str {
    let end = section.find('\n').unwrap_or(section.len());
    if &section[..end] != PACKAGE {
        return &section[..end];
    }
    let rest = section.get(end + 1..).unwrap_or_default();
    &section[..section
        .len()
        .min(end + 1 + rest.find('\n').unwrap_or(rest.len()))]
}

/// What stands before the first section is needed too.
fn is_needed(name: &str) -> bool {
    !name.starts_with('[') || NEEDED.contains(&name)
}

fn by_name<'a>(sections: &[&'a str]) -> HashMap<&'a str, Vec<&'a str>> {
    let mut out = HashMap::<_, Vec<_>>::with_capacity(sections.len());
    for section in sections {
        // The last section ends without the empty line before the next.
        let text = section.trim_end();
        out.entry(name_of(section)).or_default().push(text);
    }
    out
}
