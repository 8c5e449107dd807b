//! What of a part's trees is not installed: `exclude` of comfy.toml.

use super::{EntryMode, ObjectId};

/// A file, folder or submodule of a tree that is not installed: with its id the hash of the whole tree
/// can be computed without it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ExcludedEntry {
    pub path: String,
    pub mode: EntryMode,
    pub oid: ObjectId,
}

/// The excluded paths of a part, as seen from one of its repositories.
#[derive(Debug, Clone, Default)]
pub struct TreeExclusions {
    /// From the root of the outermost repository.
    paths: Vec<String>,
    /// That repository's own path, with a slash at its end; empty for the outermost.
    prefix: String,
}

impl TreeExclusions {
    pub(crate) fn new(paths: impl IntoIterator<Item = String>) -> TreeExclusions {
        TreeExclusions {
            paths: paths.into_iter().collect(),
            prefix: String::new(),
        }
    }

    /// The same as seen from the submodule at `path`, from the root of the outermost repository.
    pub(crate) fn in_submodule(&self, path: &str) -> TreeExclusions {
        let prefix = if path.is_empty() {
            String::new()
        } else {
            format!("{path}/")
        };
        TreeExclusions {
            paths: self.paths.clone(),
            prefix,
        }
    }

    /// Returns whether the entry at `path` of this repository is excluded.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.paths
            .iter()
            .any(|p| p.strip_prefix(self.prefix.as_str()) == Some(path))
    }

    /// Returns the line of comfy.toml that excludes `more` paths of this repository too.
    pub(crate) fn line_with<'a>(&self, more: impl IntoIterator<Item = &'a str>) -> String {
        let more = more.into_iter().map(|p| format!("{}{p}", self.prefix));
        let mut all: Vec<String> = self.paths.iter().cloned().chain(more).collect();
        all.sort();
        let quoted = all.into_iter().map(|p| toml::Value::String(p).to_string());
        format!("exclude = [{}]", quoted.collect::<Vec<_>>().join(", "))
    }
}
