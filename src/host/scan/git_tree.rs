//! The files of a commit, as a scan visits them.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use super::sources::ScanEntry;
use crate::host::git::blobs;
use crate::problem::{Context, Result};
use crate::scan::carrier::EntryFacts;
use crate::tree::{EntryMode, ObjectId, TreeExclusions};

/// Calls `visit` for each file and link of the commit, until it returns false. The bytes go through
/// one file that has no name.
///
/// # Errors
/// An object is missing, or the temporary file cannot be written.
pub(super) fn visit_commit(
    repository: &Path,
    commit: &ObjectId,
    exclude: &TreeExclusions,
    visit: &mut dyn FnMut(ScanEntry) -> bool,
) -> Result<()> {
    let what = || "write the files that are scanned to a temporary file".to_string();
    let spool = Arc::new(tempfile::tempfile().with_context(what)?);
    let mut end = 0;
    blobs::visit_blobs(repository, commit, exclude, &mut |path, mode, bytes| {
        let path = path.to_string();
        if mode == EntryMode::Link {
            let target = String::from_utf8_lossy(bytes).into_owned();
            return Ok(visit(ScanEntry::Link { path, target }));
        }
        (&*spool).write_all(bytes).with_context(what)?;
        let (start, size) = (end, bytes.len() as u64);
        end += size;
        Ok(visit(ScanEntry::File {
            facts: EntryFacts {
                path,
                executable: mode == EntryMode::Executable,
            },
            file: Arc::clone(&spool),
            start,
            size,
        }))
    })
}
