//! Which ids the instances of this machine have claimed for their sandboxes and builds.

use std::collections::BTreeMap;

use super::Executor;
use crate::host::fs::edit;
use crate::problem::{Context, Problem, Result};

impl Executor<'_> {
    /// Writes down for all instances of this machine who builds for a sandbox user.
    pub(super) fn claim_ids(&self, sandbox: u32, build: u32) -> Result<()> {
        let mut all = self.id_pairs()?;
        if let Some((other, _)) = all
            .iter()
            .find(|(other, b)| **b == build && **other != sandbox)
        {
            return Err(Problem::new(format!(
                "uid {build} builds for the sandbox user with uid {other} by now"
            ))
            .with_hint("run `comfy apply` again: it takes another one"));
        }
        all.insert(sandbox, build);
        self.write_id_pairs(&all)
    }

    /// Takes it back.
    pub(super) fn release_ids(&self) -> Result<()> {
        let mut all = self.id_pairs()?;
        if all.remove(&self.ids.sandbox).is_none() {
            return Ok(());
        }
        self.write_id_pairs(&all)
    }

    pub(super) fn id_pairs(&self) -> Result<BTreeMap<u32, u32>> {
        crate::host::machine::id_pairs(&self.paths.id_pairs()).map_err(Problem::from)
    }

    /// Without a pair there is no file.
    pub(super) fn write_id_pairs(&self, all: &BTreeMap<u32, u32>) -> Result<()> {
        let path = self.paths.id_pairs();
        if all.is_empty() {
            return edit::remove_path(&path).with_context(|| format!("remove {}", path.display()));
        }
        let doing = || format!("write {}", path.display());
        let text = serde_json::to_vec(all).with_context(doing)?;
        edit::make_parents(&path, self.ids.seal.into(), self.ids.seal_gid.into())
            .with_context(doing)?;
        edit::write_file(&path, &text, 0o644, self.sealed_owner()).with_context(doing)
    }
}
