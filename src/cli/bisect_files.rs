//! The files of a bisect's tries, in the cache of whoever runs it. While they are what was applied
//! last, the machine is not where comfy.lock wants it.

use std::path::{Path, PathBuf};

use crate::desired::InstancePaths;
use crate::host::env;
use crate::host::fs::edit;
use crate::host::machine::HostMachine;
use crate::ids::GenerationId;
use crate::plan::look::Look;
use crate::problem::{Context, Problem, Result};

/// The folder of a bisect of one instance.
pub(crate) struct UnfinishedBisect {
    folder: PathBuf,
}

/// The generations that the tries made live, a line each.
const TRIED: &str = "tried";

impl UnfinishedBisect {
    fn of_instance(sandbox: &str) -> Option<UnfinishedBisect> {
        let folder = env::cache_home()?.join("bisect").join(sandbox);
        Some(UnfinishedBisect { folder })
    }

    /// Makes the folder, which nobody else can write.
    ///
    /// # Errors
    /// The disk, or there is no home.
    pub(crate) fn begin(sandbox: &str) -> Result<UnfinishedBisect> {
        let begun = UnfinishedBisect::of_instance(sandbox).ok_or_else(|| {
            Problem::new("HOME is not set").with_hint("set HOME, or XDG_CACHE_HOME")
        })?;
        let doing = || format!("make {}", begun.folder.display());
        std::fs::create_dir_all(&begun.folder).with_context(doing)?;
        // Root reads what lies there under its real path.
        let folder = begun.folder.canonicalize().with_context(doing)?;
        Ok(UnfinishedBisect { folder })
    }

    /// Returns the bisect whose try was applied last here.
    pub(crate) fn find(paths: &InstancePaths, sandbox: &str) -> Option<UnfinishedBisect> {
        let folder = UnfinishedBisect::of_instance(sandbox)?
            .folder
            .canonicalize()
            .ok()?;
        let inventory = HostMachine::new(paths, sandbox)
            .read_inventory(paths)
            .ok()?;
        let is_last = inventory.manifest_folder.as_deref() == Some(&*folder);
        is_last.then_some(UnfinishedBisect { folder })
    }

    /// Notes a generation that would not be here without the bisect.
    ///
    /// # Errors
    /// The disk.
    pub(crate) fn note_tried(&self, id: &str) -> Result<()> {
        let mut all: Vec<String> = self.tried().iter().map(ToString::to_string).collect();
        if all.iter().all(|t| t != id) {
            all.push(id.to_string());
        }
        self.write(TRIED, &(all.join("\n") + "\n"))
    }

    /// The generations that would not be here without the bisect.
    pub(crate) fn tried(&self) -> Vec<GenerationId> {
        let text = std::fs::read_to_string(self.folder.join(TRIED)).unwrap_or_default();
        text.lines().filter_map(|l| l.parse().ok()).collect()
    }

    /// # Errors
    /// The disk.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.join(name);
        edit::write_file(&path, text.as_bytes(), 0o644, None)
            .with_context(|| format!("write {}", path.display()))
    }

    /// Removes the files of the try, so that nobody takes them for a comfy.toml of the owner's.
    pub(crate) fn end(&self) {
        let _ = edit::remove_path(&self.folder);
        // As long as no other instance is in it.
        let _ = self.folder.parent().map(std::fs::remove_dir);
    }

    /// Removes its comfy.toml alone: another one of the owner's may be applied now.
    pub(crate) fn set_aside(&self) {
        let _ = edit::remove_path(&self.folder.join(crate::project::MANIFEST));
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}
