//! The files of a commit, one after the other.

use std::path::Path;

use git2::ObjectType;

use super::objects::{self, libgit2_id, open_repository};
use crate::problem::{Context, Problem, Result};
use crate::tree::{EntryMode, ObjectId, TreeExclusions};

/// Takes path, mode and bytes of a file, and returns whether it wants another. `None`: the store
/// does not have the bytes, because they are many.
pub(crate) type BlobVisitor<'a> = dyn FnMut(&str, EntryMode, Option<&[u8]>) -> Result<bool> + 'a;

/// Calls `visit` with path, mode and bytes of each file and link of a commit, in the order of their
/// paths; it ends where `visit` returns false. Submodules are passed over.
///
/// # Errors
/// As [`objects::read_snapshot`]; an object is missing or damaged; what `visit` says.
pub(crate) fn visit_blobs(
    repository: &Path,
    commit: &ObjectId,
    exclude: &TreeExclusions,
    visit: &mut BlobVisitor<'_>,
) -> Result<()> {
    let repo = open_repository(repository)?;
    let snapshot = objects::read_snapshot(repository, commit, exclude)?;
    let odb = repo
        .odb()
        .with_context(|| format!("read {}", repository.display()))?;
    for (path, entry) in &snapshot.listing.0 {
        if matches!(entry.mode, EntryMode::Commit | EntryMode::Folder) {
            continue;
        }
        let oid = libgit2_id(&entry.oid)?;
        if !odb.exists(oid) {
            if !visit(path, entry.mode, None)? {
                break;
            }
            continue;
        }
        let blob = odb
            .read(oid)
            .with_context(|| format!("read {} from the store", crate::text::escape_text(path)))?;
        if blob.kind() != ObjectType::Blob {
            return Err(Problem::new(format!(
                "`{}` is not a file, although the tree says so",
                crate::text::escape_text(path)
            ))
            .with_hint("do not use this repository"));
        }
        if !visit(path, entry.mode, Some(blob.data()))? {
            break;
        }
    }
    Ok(())
}
