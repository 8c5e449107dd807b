//! Folders of an instance, before and after an apply.

use std::path::PathBuf;

use crate::desired::InstancePaths;
use crate::problem::{Context, Result};

/// Removes what killed runs have left.
pub(super) fn sweep_leftovers(paths: &InstancePaths) -> Result<()> {
    for folder in [
        &paths.base,
        &paths.records,
        &paths.tree_listings_dir(),
        &paths.receipts_dir(),
        &paths.logs_dir(),
        &paths.staging_dir(),
    ] {
        crate::host::fs::edit::sweep_leftovers(folder)
            .with_context(|| format!("clear {}", folder.display()))?;
    }
    // What a killed apply was building. This one holds the lock, so nothing of it is in use.
    let staging = paths.staging_dir();
    let staged = match std::fs::read_dir(&staging) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e).with_context(|| format!("clear {}", staging.display())),
    };
    for entry in staged {
        let entry = entry.with_context(|| format!("clear {}", staging.display()))?;
        if InstancePaths::is_staged(&entry.file_name()) {
            let path = entry.path();
            crate::host::fs::edit::remove_path(&path)
                .with_context(|| format!("clear {}", path.display()))?;
        }
    }
    Ok(())
}

/// Returns the first folders that do not exist yet, so that a failed preparation can remove them.
pub(super) fn missing_folders(p: &InstancePaths) -> Vec<PathBuf> {
    [
        Some(p.prefix.as_path()),
        Some(&p.base),
        p.records.parent(),
        Some(&p.records),
    ]
    .into_iter()
    .flatten()
    .filter(|p| p.symlink_metadata().is_err())
    .map(PathBuf::from)
    .collect()
}
