//! The `data` of `plan --json`, which docs/plan.schema.json describes.

use std::collections::BTreeMap;

use crate::lock::difference::CommitRange;
use crate::plan::model_summary::CountAndBytes;
use crate::plan::{Change, Plan};

#[derive(Debug, serde::Serialize, schemars::JsonSchema)]
pub(crate) struct PlanJson<'a> {
    /// Raised if a field changes its meaning; new fields do not raise it.
    pub format_version: u32,
    pub host: &'a str,
    /// The sandbox user, whose name is the instance's.
    pub instance: &'a str,
    pub summary: PlanSummary,
    pub models: ModelCounts,
    pub changes: &'a [Change],
    /// The commits that a part moves by, by its address; a part is missing where they are not known.
    pub commits: &'a BTreeMap<String, CommitRange>,
    pub warnings: &'a [String],
    pub not_enforced: &'a [String],
}

#[derive(Debug, serde::Serialize, schemars::JsonSchema)]
pub(crate) struct PlanSummary {
    pub add: usize,
    pub change: usize,
    pub destroy: usize,
    pub unknown: usize,
    pub blocked: usize,
}

/// Counts of models, besides those that differ.
#[derive(Debug, serde::Serialize, schemars::JsonSchema)]
pub(crate) struct ModelCounts {
    /// Models that comfy.toml declares.
    pub declared: usize,
    /// Declared models of the right size whose bytes have not been compared since they changed.
    pub unverified: usize,
    /// Models to fetch.
    pub missing: CountAndBytes,
    /// Models on the disk that comfy.toml does not declare.
    pub unmanaged: CountAndBytes,
}

pub(crate) fn plan_value(
    plan: &Plan,
    commits: &BTreeMap<String, CommitRange>,
) -> serde_json::Value {
    let (add, change, destroy) = plan.action_counts();
    let summary = PlanSummary {
        add,
        change,
        destroy,
        unknown: plan.unknown_changes().count(),
        blocked: plan.blocked_changes().count(),
    };
    let library = &plan.library;
    let json = PlanJson {
        format_version: plan.format_version,
        host: &plan.host,
        instance: &plan.instance,
        summary,
        models: ModelCounts {
            declared: library.declared,
            unverified: library.unverified,
            missing: plan.models,
            unmanaged: CountAndBytes {
                count: library.unmanaged,
                bytes: library.unmanaged_bytes,
            },
        },
        changes: &plan.changes,
        commits,
        warnings: &plan.warnings,
        not_enforced: &plan.not_enforced,
    };
    serde_json::to_value(&json).unwrap_or_default()
}

/// Returns anything as JSON for people and programs. JSON itself escapes C0; other characters that
/// could steer a terminal occur only in strings.
pub(crate) fn json_text(value: &impl serde::Serialize) -> String {
    let plain = serde_json::to_string_pretty(value).unwrap_or_default();
    let mut out = String::with_capacity(plain.len());
    for c in plain.chars() {
        if c != '\n' && crate::text::is_unsafe_char(c) {
            let mut units = [0; 2];
            c.encode_utf16(&mut units)
                .iter()
                .for_each(|u| out += &format!("\\u{u:04x}"));
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    /// `COMFY_WRITE_SCHEMA=1 cargo test --lib schema` writes the file anew.
    #[test]
    fn the_schema_in_docs_is_that_of_the_code() {
        let schema = serde_json::to_string_pretty(&schemars::schema_for!(super::PlanJson))
            .unwrap_or_default()
            + "\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/plan.schema.json");
        if crate::host::env::var("COMFY_WRITE_SCHEMA").is_some() {
            assert!(std::fs::write(path, &schema).is_ok());
        }
        assert_eq!(
            std::fs::read_to_string(path).unwrap_or_default(),
            schema,
            "write it anew with COMFY_WRITE_SCHEMA=1"
        );
    }
}
