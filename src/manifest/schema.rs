//! The JSON schema of comfy.toml, with which editors complete and check it. The reference in docs/
//! is made from it.

use super::wire::TomlManifest;

/// Returns the schema, in JSON.
pub(crate) fn schema_text() -> String {
    let schema = schemars::schema_for!(TomlManifest);
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}
