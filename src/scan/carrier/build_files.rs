//! Files that other programs than Python obey.

use super::{EntryFacts, at_line, git_files, rules};
use crate::scan::finding::Finding;

/// Examines pyproject.toml, setup.cfg, what git obeys, .pth, and what starts programs.
pub(super) fn examine_build_file(facts: &EntryFacts, name: &str, text: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let git = match name {
            ".gitattributes" => git_files::examine_attributes(line.trim()),
            ".gitmodules" => git_files::examine_submodules(line.trim()),
            _ => None,
        };
        if let Some((rule, severity, message)) = git {
            found.push(Finding {
                severity,
                ..at_line(rule, facts, (number, line), message)
            });
        }
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
        "pyproject.toml" if names_an_address(&lower) => Some((
            &rules::REQUIREMENT_URL,
            "installing the project installs whatever the address serves".into(),
        )),
        _ => None,
    }
}

/// Whether a line of pyproject.toml takes a package from an address: `"name @ https://…"`,
/// `name = { git = "…" }`.
fn names_an_address(line: &str) -> bool {
    let direct = [" @ http", "@http", " @ git+", "@git+", " @ file:"]
        .iter()
        .any(|a| line.contains(a));
    let inline = line.contains('{')
        && ["git = \"", "git=\"", "url = \"http", "url=\"http"]
            .iter()
            .any(|a| line.contains(a));
    !line.starts_with('#') && (direct && line.contains('"') || inline)
}
