//! Files that other programs than Python obey.

use super::{EntryFacts, at_line, rules};
use crate::scan::finding::Finding;

/// Examines pyproject.toml, setup.cfg, .gitattributes, .pth, and what starts programs.
pub(super) fn examine_build_file(facts: &EntryFacts, name: &str, text: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if let Some((rule, message)) = examine_line(facts, name, line.trim()) {
            found.push(at_line(rule, facts, (number, line), message));
        }
    }
    found
}

fn examine_line(
    facts: &EntryFacts,
    name: &str,
    line: &str,
) -> Option<(&'static crate::scan::rules::Rule, String)> {
    let lower = line.to_ascii_lowercase();
    if facts.has_extension(&["pth"]) {
        // site.py runs lines that begin so, with a space or a tab.
        let runs = line.starts_with("import ") || line.starts_with("import\t");
        return runs.then(|| {
            (
                &rules::START_HOOK,
                "every start of Python runs this line".into(),
            )
        });
    }
    if facts.has_extension(&["desktop", "plist", "service", "timer"]) {
        let starts = lower.starts_with("exec=")
            || lower.starts_with("execstart")
            || lower.contains("<key>programarguments</key>")
            || lower.contains("<key>runatload</key>");
        return starts.then(|| (&rules::AUTOSTART_FILE, "it names a program to start".into()));
    }
    match name {
        "pyproject.toml" if lower.starts_with("backend-path") => Some((
            &rules::BUILD_SCRIPT,
            "the package is built by code of its own tree".into(),
        )),
        "setup.cfg" if lower.starts_with("cmdclass") => Some((
            &rules::BUILD_SCRIPT,
            "the package is built by code of its own tree".into(),
        )),
        ".gitattributes" => attribute_message(&lower).map(|m| (&rules::GIT_FILTER, m)),
        _ => None,
    }
}

/// gitattributes(5): what changes a file's bytes, besides line ends and Git LFS.
fn attribute_message(line: &str) -> Option<String> {
    let attributes = line.split_whitespace().skip(1);
    for attribute in attributes {
        if let Some(filter) = attribute.strip_prefix("filter=").filter(|f| *f != "lfs") {
            return Some(format!(
                "git starts the filter `{}` for these files if it is configured",
                crate::text::escape_text(filter)
            ));
        }
        if attribute.starts_with("working-tree-encoding=") || attribute == "ident" {
            return Some("git changes the bytes of these files when it checks them out".into());
        }
        if attribute == "export-subst" {
            return Some("`git archive` changes the bytes of these files".into());
        }
    }
    None
}
