//! What one process of comfy records for another: what is running, how it exited, what loaded.

pub(crate) mod applied_locks;
pub(crate) mod import_results;
pub(crate) mod running;

use std::path::PathBuf;

use crate::desired::InstancePaths;
use crate::host::machine::operating_system;

/// Returns the folders of the records of all instances with accounts of their own on this machine,
/// whether or not the caller may read what is in them.
pub(crate) fn record_folders() -> impl Iterator<Item = PathBuf> {
    let all = InstancePaths::records_of("", operating_system());
    let entries = std::fs::read_dir(all).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}
