//! Files that bring code along without being plain Python: compiled, hidden, linked, or run by
//! other programs than Python.

mod build_files;
mod commands;
mod git_files;
mod requirements;
pub(crate) mod rules;
mod shell;

use std::io;

use super::content::{self, ReadAt};
use super::finding::{Finding, LONGEST_SNIPPET};
use super::javascript;
use super::rules::Rule;
use commands::CommandFile;

/// Bytes of a text that is parsed: bundles of JavaScript have some of them, and nobody's have more.
pub(crate) const LONGEST_TEXT: u64 = 32 << 20;

/// What is known of a file beside its content.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct EntryFacts {
    /// Relative to what is scanned, with `/`.
    pub path: String,
    pub executable: bool,
}

impl EntryFacts {
    /// The last part of the path, in lower case.
    fn file_name(&self) -> String {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.to_ascii_lowercase()
    }

    /// Whether the name ends in one of these extensions, whatever its case.
    pub(crate) fn has_extension(&self, extensions: &[&str]) -> bool {
        let name = self.file_name();
        name.rsplit_once('.')
            .is_some_and(|(_, e)| extensions.contains(&e))
    }
}

pub(crate) fn too_large(path: &str) -> Finding {
    Finding::about_file(&rules::TOO_LARGE, path, "it was not scanned".into())
}

/// `why` follows "it", as in "it is not a notebook".
pub(crate) fn unparseable(path: &str, why: &str) -> Finding {
    Finding::about_file(&rules::UNPARSEABLE, path, format!("it {why}"))
}

/// What its name says of a Python file.
pub(crate) fn examine_python_file(facts: &EntryFacts) -> Vec<Finding> {
    let mut found = Vec::new();
    let about = |rule, message: &str| Finding::about_file(rule, &facts.path, message.into());
    let top = facts.path.matches('/').count() <= 1;
    match &*facts.file_name() {
        "setup.py" => found.push(about(
            &rules::BUILD_SCRIPT,
            "pip runs it to build the package",
        )),
        "install.py" if top => found.push(about(
            &rules::INSTALL_SCRIPT,
            "ComfyUI-Manager and comfy-cli run it after they download the node",
        )),
        "prestartup_script.py" if top => found.push(about(
            &rules::PRESTARTUP_SCRIPT,
            "ComfyUI runs it before it loads anything else",
        )),
        name @ ("sitecustomize.py" | "usercustomize.py") => found.push(about(
            &rules::START_HOOK,
            &format!("Python imports {name} at every start if it is on its path"),
        )),
        _ => {}
    }
    let hidden = facts
        .path
        .split('/')
        .any(|part| part.starts_with('.') && !matches!(part, ".github" | ".ci" | ".circleci"));
    if hidden {
        found.push(about(&rules::HIDDEN_CODE, "it is hidden by its name"));
    }
    found.extend(examine_name(&facts.path));
    found
}

/// What a name hides.
pub(crate) fn examine_name(path: &str) -> Option<Finding> {
    let odd = path
        .chars()
        .any(|c| crate::text::is_unsafe_char(c) || c == '\\')
        || path
            .split('/')
            .any(|p| p.ends_with(' ') || p.ends_with('.') && p != "." && p != "..");
    odd.then(|| {
        let shown = crate::text::escape_text(path);
        Finding::about_file(&rules::ODD_NAME, path, format!("its name is \"{shown}\""))
    })
}

/// What a link can lead to: `target` is its text.
pub(crate) fn examine_link(path: &str, target: &str) -> Option<Finding> {
    let mut depth = path.matches('/').count();
    let mut leaves = target.starts_with('/');
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if depth == 0 => leaves = true,
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    leaves.then(|| {
        let message = format!("it leads to {}", crate::text::escape_text(target));
        Finding::about_file(&rules::LINK_LEAVES, path, message)
    })
}

const SHELLS: &[&str] = &[
    "sh",
    "bash",
    "zsh",
    "fish",
    "ksh",
    "command",
    "bat",
    "cmd",
    "ps1",
    "psm1",
    "vbs",
    "vbe",
    "wsf",
    "hta",
    "applescript",
];
const SCRIPTS: &[&str] = &["js", "mjs", "cjs", "jsx", "ts", "tsx"];
const PAGES: &[&str] = &["html", "htm", "xhtml", "svg"];
const PYTHON: &[&str] = &["py", "pyw", "pyi", "ipynb", "pth"];

/// Whether something runs a file of this name as source, whatever its bytes are.
pub(crate) fn is_source_name(facts: &EntryFacts, head: &[u8]) -> bool {
    // `.pth` is a model as often: there the bytes decide.
    let is_model_too = facts.has_extension(&["pth"]);
    let named = [SHELLS, SCRIPTS, PAGES, PYTHON]
        .iter()
        .any(|e| facts.has_extension(e));
    named && !is_model_too || head.starts_with(b"#!")
}

/// The same by its name alone.
pub(crate) fn is_source_path(path: &str) -> bool {
    let facts = EntryFacts {
        path: path.to_string(),
        executable: false,
    };
    is_source_name(&facts, b"")
}

/// Programs and libraries, by their first bytes.
fn compiled_kind(head: &[u8]) -> Option<&'static str> {
    const KINDS: &[(&[u8], &str)] = &[
        (b"\x7fELF", "a program or library for Linux (ELF)"),
        (
            b"\xfe\xed\xfa\xce",
            "a program or library for macOS (Mach-O)",
        ),
        (
            b"\xfe\xed\xfa\xcf",
            "a program or library for macOS (Mach-O)",
        ),
        (
            b"\xce\xfa\xed\xfe",
            "a program or library for macOS (Mach-O)",
        ),
        (
            b"\xcf\xfa\xed\xfe",
            "a program or library for macOS (Mach-O)",
        ),
        (
            b"\xca\xfe\xba\xbe",
            "a program for macOS, or a class of Java",
        ),
        (b"\0asm", "a WebAssembly module"),
        (b"!<arch>\n", "a library of compiled objects (ar)"),
    ];
    if let Some((_, kind)) = KINDS.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Some(kind);
    }
    // The header's offset stands at 0x3c (Microsoft, "PE Format"); a text that begins with MZ has
    // no bytes of 0.
    let is_pe = head.starts_with(b"MZ") && head.len() > 0x40 && head[2..0x40].contains(&0);
    is_pe.then_some("a program or library for Windows (PE)")
}

/// Examines a file that is neither a model nor Python.
///
/// # Errors
/// It cannot be read.
pub(crate) fn examine_file(
    facts: &EntryFacts,
    head: &[u8],
    content: &dyn ReadAt,
) -> io::Result<Vec<Finding>> {
    let mut found: Vec<Finding> = examine_name(&facts.path).into_iter().collect();
    let about = |rule, message: String| Finding::about_file(rule, &facts.path, message);
    if let Some(kind) = compiled_kind(head) {
        found.push(about(&rules::COMPILED_CODE, format!("it is {kind}")));
        return Ok(found);
    }
    let compiled_name = ["so", "dll", "dylib", "pyd", "exe", "node", "kext", "sys"];
    if facts.has_extension(&compiled_name) && content.size() > 0 && !is_text(head) {
        found.push(about(
            &rules::COMPILED_CODE,
            "its name is that of a compiled library, and its content is none that comfy knows"
                .into(),
        ));
        return Ok(found);
    }
    let name = facts.file_name();
    let is_shell = facts.has_extension(SHELLS) || head.starts_with(b"#!");
    let is_script = facts.has_extension(SCRIPTS);
    let is_page = facts.has_extension(PAGES);
    let is_requirements = facts.has_extension(&["txt", "in"])
        && (name.starts_with("req")
            || name.contains("requirement")
            || name.contains("constraint")
            || facts.path.contains("requirements/"));
    let commands = commands::kind_of(facts)
        .filter(|k| *k != CommandFile::Data || content.size() <= commands::LONGEST_JSON);
    let is_build_file = matches!(
        &*name,
        "pyproject.toml"
            | "setup.cfg"
            | ".gitattributes"
            | ".gitmodules"
            | ".pre-commit-config.yaml"
    );
    let starts_programs = facts.has_extension(&["pth", "desktop", "plist", "service", "timer"]);
    if !(is_shell
        || is_script
        || is_page
        || is_requirements
        || is_build_file
        || starts_programs
        || commands.is_some())
    {
        return Ok(found);
    }
    if content.size() > LONGEST_TEXT {
        found.push(too_large(&facts.path));
        return Ok(found);
    }
    let bytes = content::read_start(content, LONGEST_TEXT)?;
    let text = decoded(&bytes);
    if !text.is_ascii() && text.chars().any(is_bidi) {
        let line = text
            .lines()
            .position(|l| l.chars().any(is_bidi))
            .unwrap_or(0);
        found.push(at_line(
            &rules::BIDI_TEXT,
            facts,
            (line, text.lines().nth(line).unwrap_or_default()),
            "the order of characters is changed here".into(),
        ));
    }
    if is_shell {
        found.extend(shell::examine_script(facts, &text));
    } else if is_script {
        found.extend(javascript::scan_script(&facts.path, &text, 0));
    } else if is_page {
        found.extend(javascript::scan_page(&facts.path, &text));
    } else if is_requirements {
        found.extend(requirements::examine_requirements(facts, &text));
    } else if let Some(kind) = commands {
        found.extend(commands::examine_commands(facts, kind, &text));
    } else {
        found.extend(build_files::examine_build_file(facts, &name, &text));
    }
    Ok(found)
}

/// Text as UTF-8, or as UTF-16 where a mark says so; what is neither keeps its ASCII.
fn decoded(bytes: &[u8]) -> String {
    crate::text::decode_text(bytes)
}

fn is_text(head: &[u8]) -> bool {
    !head.contains(&0) && std::str::from_utf8(&head[..head.len().min(200)]).is_ok()
}

/// Characters that change the direction of text (Unicode TR9).
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A finding at a line, which is counted from 0 here.
fn at_line(
    rule: &'static Rule,
    facts: &EntryFacts,
    (line, text): (usize, &str),
    message: String,
) -> Finding {
    let indent = text.len() - text.trim_start().len();
    Finding {
        line: u32::try_from(line + 1).unwrap_or(u32::MAX),
        column: u32::try_from(text[..indent].chars().count() + 1).unwrap_or(u32::MAX),
        snippet: cut_snippet(text.trim()),
        ..Finding::about_file(rule, &facts.path, message)
    }
}

/// The start of a line, at most [`LONGEST_SNIPPET`] bytes of it.
pub(crate) fn cut_snippet(line: &str) -> String {
    let mut end = line.len().min(LONGEST_SNIPPET);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line[..end].to_string()
}

/// Bytecode: `paths` are the files of the unit.
pub(crate) fn examine_bytecode(path: &str, has_source: bool) -> Finding {
    if has_source {
        return Finding::about_file(
            &rules::BYTECODE_BESIDE,
            path,
            "its source is in the repository too".into(),
        );
    }
    Finding::about_file(
        &rules::BYTECODE_ALONE,
        path,
        "no source of its name is beside it".into(),
    )
}

/// Where the source of a bytecode file would be (PEP 3147).
pub(crate) fn source_of_bytecode(path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = name.split('.').next().unwrap_or(name);
    let folder = folder.strip_suffix("__pycache__").unwrap_or(folder);
    let folder = folder.trim_end_matches('/');
    if folder.is_empty() {
        format!("{stem}.py")
    } else {
        format!("{folder}/{stem}.py")
    }
}

#[cfg(test)]
mod tests;
