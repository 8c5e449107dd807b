//! The table of rules: each is one thing that code or a model file can do.
//!
//! A family of rules is a file, `RULES` in it is its part of the table, and what finds them stands
//! beside it.

use super::finding::{Category, Intent, Severity};
use super::python::rules as python;

/// One thing that is looked for.
#[derive(Debug)]
pub(crate) struct Rule {
    /// Words with hyphens; `policy.accept` names it, so it never changes.
    pub id: &'static str,
    pub category: Category,
    /// What a finding has unless its place says more.
    pub severity: Severity,
    /// What it is for, if the rule is about a purpose.
    pub intent: Option<Intent>,
    /// One line: what was found.
    pub reason: &'static str,
    /// Why it matters in ComfyUI.
    pub why: &'static str,
    /// What to write instead, or when to accept it.
    pub fix: &'static str,
    /// Code that has it, and twins that do not.
    pub examples: &'static [Example],
}

impl PartialEq for Rule {
    fn eq(&self, other: &Rule) -> bool {
        self.id == other.id
    }
}

impl Eq for Rule {}

/// A piece of source, and whether the rule finds something in it.
#[derive(Debug)]
pub(crate) struct Example {
    pub code: &'static str,
    pub found: bool,
}

impl Example {
    /// Code that the rule finds something in.
    pub(crate) const fn found(code: &'static str) -> Example {
        Example { code, found: true }
    }

    /// Code that looks alike, in which it finds nothing.
    pub(crate) const fn twin(code: &'static str) -> Example {
        Example { code, found: false }
    }
}

/// Every family.
const FAMILIES: &[&[Rule]] = &[
    super::carrier::rules::RULES,
    super::javascript::rules::RULES,
    super::model_file::rules::RULES,
    python::addresses::RULES,
    python::carriers::RULES,
    python::cmd_exec::RULES,
    python::code_exec::RULES,
    python::command_lines::RULES,
    python::credentials::RULES,
    python::deser::RULES,
    python::files::RULES,
    python::imports::RULES,
    python::intent::RULES,
    python::listen::RULES,
    python::network::RULES,
    python::obfuscation::RULES,
    python::owner_files::RULES,
    python::persistence::RULES,
    python::pkg_install::RULES,
    python::web_route::RULES,
];

/// Returns every rule.
pub(crate) fn all_rules() -> impl Iterator<Item = &'static Rule> {
    FAMILIES.iter().flat_map(|family| family.iter())
}

pub(crate) fn find_rule(id: &str) -> Option<&'static Rule> {
    all_rules().find(|rule| rule.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `COMFY_WRITE_SCHEMA=1 cargo test --lib rules` writes the page anew.
    #[test]
    fn every_rule_is_in_the_documentation() {
        let mut page = String::from(
            "# Rules of `comfy scan`\n\n[What a scan is](scan.md). This page is made from the rules \
             themselves.\n",
        );
        for category in Category::ALL {
            let mut rules: Vec<_> = all_rules().filter(|r| r.category == *category).collect();
            rules.sort_by_key(|r| r.id);
            if rules.is_empty() {
                continue;
            }
            page += &format!("\n## {category}\n");
            for r in rules {
                let intent = r.intent.map_or(String::new(), |i| format!(", intent {i}"));
                page += &format!(
                    "\n**`{}`** ({}{intent}): {}. {} {}\n",
                    r.id,
                    r.severity,
                    r.reason.trim_end_matches('.'),
                    r.why,
                    r.fix
                );
            }
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/scan-rules.md");
        if crate::host::env::var("COMFY_WRITE_SCHEMA").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        let there = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(there, page, "write it anew with COMFY_WRITE_SCHEMA=1");
    }

    #[test]
    fn ids_are_unique_words_with_hyphens() {
        let mut seen = std::collections::BTreeSet::new();
        for rule in all_rules() {
            assert!(seen.insert(rule.id), "{} is there twice", rule.id);
            let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(rule.id.chars().all(good), "{}", rule.id);
        }
    }
}
