//! Files that git obeys: .gitattributes and .gitmodules.

use super::rules;
use crate::scan::finding::Severity;
use crate::scan::rules::Rule;

/// Filters that many repositories name, and that change no code.
const KNOWN_FILTERS: &[&str] = &["lfs", "nbstripout", "nbstrip", "git-crypt"];

/// gitattributes(5): what changes a file's bytes, besides line ends and Git LFS.
pub(super) fn examine_attributes(line: &str) -> Option<(&'static Rule, Severity, String)> {
    let attributes = line.split_whitespace().skip(1);
    for attribute in attributes {
        if let Some(filter) = attribute.strip_prefix("filter=").filter(|f| *f != "lfs") {
            let severity = if KNOWN_FILTERS.contains(&filter) {
                Severity::Low
            } else {
                Severity::Medium
            };
            let message = format!(
                "git starts the filter `{}` for these files if it is configured",
                crate::text::escape_text(filter)
            );
            return Some((&rules::GIT_FILTER, severity, message));
        }
        let changes = if attribute.starts_with("working-tree-encoding=") || attribute == "ident" {
            "git changes the bytes of these files when it checks them out"
        } else if attribute == "export-subst" {
            "`git archive` changes the bytes of these files"
        } else {
            continue;
        };
        return Some((&rules::GIT_FILTER, Severity::Low, changes.to_string()));
    }
    None
}

/// gitmodules(5): an address that is an option or a command, and an update that is one
/// (CVE-2018-17456, CVE-2019-19604).
pub(super) fn examine_submodules(line: &str) -> Option<(&'static Rule, Severity, String)> {
    let (key, value) = line.split_once('=')?;
    let value = value.trim().trim_matches('"');
    let message = match key.trim() {
        "url" | "path" if value.starts_with('-') => "git takes it for an option",
        "url" if is_command_address(value) => "git starts a program for this address",
        "update" if value.starts_with('!') => "git runs this command at every update",
        "path" if value.split('/').any(|p| p == ".." || p == ".git") => {
            "the submodule lies outside of the tree"
        }
        _ => return None,
    };
    Some((&rules::GIT_SUBMODULE, Severity::High, message.to_string()))
}

/// `ext::sh -c …`: the helper before the colons is started (gitremote-helpers(7)).
fn is_command_address(address: &str) -> bool {
    address.split_once("::").is_some_and(|(helper, _)| {
        !helper.is_empty()
            && helper
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-')
    })
}
