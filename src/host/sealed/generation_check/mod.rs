//! A generation on the disk, compared by content with what the lock pins.
//!
//! One walk gives every entry; [`crate::desired::generation_layout::TreePlace`] says to which tree
//! it belongs; each tree's hash is computed from what is there. Only where a hash differs are the
//! entries compared one by one, to say what is off.

mod comparison;
mod split;

use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode as FileMode;
use rayon::prelude::*;

use super::list_tree::{FoundEntry, list_tree};
use super::stat_cache::{StatCache, now_ns};
use super::verification::{SealedTree, VerificationCache};
use crate::desired::GenerationSpec;
use crate::desired::generation_layout::{GenerationLayout, TreePlace};
use crate::host::build::bytecode::BytecodeList;
use crate::host::fs::open_dir;
use crate::ids::Part;
use crate::plan::observed::{DifferenceKind, FileType, GenerationCheck, Seen, UnknownState};
use crate::tree::{EntryMode, ObjectHasher, ObjectId, TreeEntry, TreeListing, blob_id};
use comparison::TreeComparison;
pub(crate) use split::split_listing;

/// A content id, and when its reading began if it is to be kept.
type Reading = (Option<ObjectId>, Option<i64>);

/// What content check needs beside the generation.
pub(crate) struct GenerationChecker<'a> {
    pub cache: &'a StatCache,
    pub readings: &'a VerificationCache,
    /// Where listings of locked trees are kept; they are believed only if they hash to the locked
    /// tree.
    pub trees: &'a Path,
    pub uid: u32,
    pub gid: u32,
}

impl GenerationChecker<'_> {
    /// The bytecode that a generation should hold.
    fn expected_bytecode(&self, spec: &GenerationSpec) -> BytecodeList {
        // Beside the folder of listings: `Paths::bytecode`.
        let records = self.trees.parent().unwrap_or(Path::new("/"));
        BytecodeList::load(&records.join(format!("bytecode-{}.json", spec.id())))
    }

    /// What is off in the generation at `folder`; `None` if there is none.
    pub(crate) fn check_generation(
        &self,
        folder: &Path,
        spec: &GenerationSpec,
    ) -> Seen<Option<GenerationCheck>> {
        let Some(sealed) = SealedTree::open(folder, spec.id().to_string(), self.uid, self.gid)?
        else {
            return Ok(None);
        };
        if sealed.is_unchanged(self.readings)? {
            return Ok(Some(GenerationCheck::default()));
        }
        let (found, empty) = list_tree(&sealed.fd, folder)?;
        let ids = self.content_ids(&sealed.fd, &found)?;
        let mut state = TreeComparison::new(self, spec);
        if let Some(off) = sealed.own_metadata() {
            state.note_difference(
                &Part::Comfyui,
                ".",
                DifferenceKind::Owner,
                format!("the generation's folder has {off}"),
            );
        }
        for (f, id) in found.iter().zip(ids) {
            state.compare_entry(f, id, &sealed.fd);
        }
        for path in empty {
            state.note_empty_folder(&path);
        }
        let check = state.finish();
        if check.is_intact() {
            sealed.record_verified(self.readings)?;
        }
        Ok(Some(check))
    }

    /// The content ids of all files and links, from the cache where it vouches, else read.
    fn content_ids(&self, dir: &impl AsFd, found: &[FoundEntry]) -> Seen<Vec<Option<ObjectId>>> {
        let fd = dir.as_fd();
        let results: Vec<Seen<Reading>> = found
            .par_iter()
            .with_min_len(64)
            .map(|f| match f.kind {
                FileType::Link => Ok((
                    f.target.as_ref().and_then(|t| {
                        blob_id(std::os::unix::ffi::OsStrExt::as_bytes(t.as_os_str())).ok()
                    }),
                    None,
                )),
                FileType::File => match self.cache.content_id(&f.stamp) {
                    Some(oid) => Ok((Some(oid), Some(i64::MAX))),
                    None => match self.readings.content_id(&f.stamp) {
                        Some(oid) => Ok((Some(oid), None)),
                        None => {
                            let began = now_ns();
                            hash_at(fd, &f.path)
                                .map(|o| (Some(o), Some(began)))
                                .map_err(|e| {
                                    UnknownState::new(
                                        format!("{}: {e}", crate::text::escape_text(&f.path)),
                                        true,
                                    )
                                    .caused_by(&e)
                                })
                        }
                    },
                },
                _ => Ok((None, None)),
            })
            .collect();
        let mut ids = Vec::with_capacity(found.len());
        let mut more = Vec::new();
        for (f, r) in found.iter().zip(results) {
            let (oid, read) = r?;
            if let (Some(oid), Some(read)) = (oid, read) {
                more.push((f.stamp, oid, read));
            }
            ids.push(oid);
        }
        self.readings.extend_contents(more);
        Ok(ids)
    }
}

/// The blob id of a regular file below `dir`; a special file put in its place is never read.
pub(crate) fn hash_at(dir: impl AsFd, path: &str) -> std::io::Result<ObjectId> {
    let fd = openat(
        dir,
        path,
        OFlag::O_RDONLY
            | OFlag::O_NOFOLLOW
            | OFlag::O_NONBLOCK
            | OFlag::O_NOCTTY
            | OFlag::O_CLOEXEC,
        FileMode::empty(),
    )?;
    hash_file(std::fs::File::from(fd))
}

pub(crate) fn hash_file(mut file: std::fs::File) -> std::io::Result<ObjectId> {
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(std::io::Error::other("is not a regular file"));
    }
    let mut hasher = ObjectHasher::blob(meta.len());
    let mut buf = vec![0u8; (meta.len() as usize).clamp(1, 128 << 10)];
    loop {
        let n = file.read(&mut buf)?;
        if n == 0 {
            break;
        }
        hasher.update(&buf[..n]);
    }
    hasher
        .finish()
        .map_err(|p| std::io::Error::other(p.message))
}

/// A kept listing, if it hashes to `tree`.
pub(crate) fn load_listing(trees: &Path, tree: ObjectId) -> Option<TreeListing> {
    let text = std::fs::read(trees.join(format!("{tree}.json"))).ok()?;
    let listing: TreeListing = serde_json::from_slice(&text).ok()?;
    listing
        .tree_hash()
        .is_ok_and(|h| h == tree)
        .then_some(listing)
}

impl GenerationChecker<'_> {
    /// Files and links of a generation that are sealed as they should be, whatever the rest is:
    /// part, path in its tree, what it is, and its path below `folder`.
    pub(crate) fn good_files(
        &self,
        folder: &Path,
        spec: &GenerationSpec,
    ) -> Vec<(Part, String, TreeEntry, String)> {
        let Ok(fd) = open_dir(folder) else {
            return Vec::new();
        };
        let Ok((found, _)) = list_tree(&fd, folder) else {
            return Vec::new();
        };
        let Ok(ids) = self.content_ids(&fd, &found) else {
            return Vec::new();
        };
        let layout = GenerationLayout::new(spec);
        let links = layout.comfy_links();
        let bytecode = self.expected_bytecode(spec);
        let mut out = Vec::new();
        for (f, id) in found
            .iter()
            .zip(ids)
            .filter(|(f, _)| !bytecode.files.contains_key(&f.path))
        {
            let mode = match (f.kind, f.bits) {
                (FileType::Link, _) => EntryMode::Link,
                (FileType::File, 0o644) => EntryMode::File,
                (FileType::File, 0o755) => EntryMode::Executable,
                _ => continue,
            };
            if let (Some(oid), TreePlace::Tree(part, path), true) = (
                id,
                layout.classify(&f.path, &links),
                f.uid == self.uid && f.gid == self.gid,
            ) {
                // Only where the file lies at its own place: tracked/ and ComfyUI/ both map to the
                // same tree path.
                if layout.disk_path(&part, &path) == f.path {
                    out.push((part, path, TreeEntry { mode, oid, size: 0 }, f.path.clone()));
                }
            }
        }
        out
    }
}
