//! Nodes that lie in a folder of the owner's, which the build process cannot read: copied into the
//! job once it is the sealer's alone. Nobody else reads a copy before it was compared with the lock.

use std::io::Write;
use std::path::Path;

use crate::host::fs::create_beneath::{FolderTree, create_file, create_link, split_path};
use crate::host::fs::folder_files::{FolderFile, read_whole, visit_files};
use crate::host::fs::{edit, open_dir, real_path};
use crate::problem::{Context, Problem, Result};
use crate::text::escape_text;
use crate::tree::{EntryMode, TreeEntry, TreeListing, blob_id};

/// Copies what `folder` holds to `target`, which is new; returns its listing.
///
/// # Errors
/// It cannot be read, or the copy cannot be written.
pub(super) fn copy_folder(folder: &Path, owner: u32, target: &Path) -> Result<TreeListing> {
    let real = real_path(folder, owner).map_err(Problem::from)?;
    let me = (
        nix::unistd::geteuid().as_raw(),
        nix::unistd::getegid().as_raw(),
    );
    edit::make_dir(target, me.0, me.1, 0o700)
        .with_context(|| format!("make {}", target.display()))?;
    let root = open_dir(target).with_context(|| format!("open {}", target.display()))?;
    let mut folders = FolderTree::below(&root).context("open a folder")?;
    let mut listing = TreeListing::default();
    visit_files(&real, &mut |path, file| {
        let writing = || format!("write {}", escape_text(path));
        let (parent, name) = split_path(path);
        let parent = folders.at(parent).with_context(writing)?;
        let entry = match file {
            FolderFile::Link(bytes) => {
                create_link(parent, name, &bytes).with_context(writing)?;
                TreeEntry {
                    mode: EntryMode::Link,
                    oid: blob_id(&bytes)?,
                    size: bytes.len() as u64,
                }
            }
            FolderFile::Regular(mut file, size, mode) => {
                let bytes = read_whole(&mut file, size)
                    .with_context(|| format!("read {}", escape_text(path)))?;
                let bits = if mode == EntryMode::Executable {
                    0o755
                } else {
                    0o644
                };
                let mut out = create_file(parent, name, bits).with_context(writing)?;
                out.write_all(&bytes).with_context(writing)?;
                TreeEntry {
                    mode,
                    oid: blob_id(&bytes)?,
                    size,
                }
            }
        };
        listing.0.insert(path.to_string(), entry);
        Ok(())
    })?;
    Ok(listing)
}
