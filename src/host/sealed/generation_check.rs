//! A generation on the disk, compared by content with what the lock pins.
//!
//! One walk gives every entry; [`crate::desired::generation_layout::Place`] says to which tree it belongs; each tree's
//! hash is computed from what is there. Only where a hash differs are the entries compared one by
//! one, to say what is off.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode as FileMode;
use rayon::prelude::*;

use super::list_tree::{FoundEntry, list_tree};
use super::stat_cache::{StatCache, now_ns};
use super::verification::{SealedTree, VerificationCache};
use crate::desired::GenerationSpec;
use crate::desired::generation_layout::{
    GenerationLayout, MODEL_PATHS, SPEC, TRACKED, TreePlace, is_within, model_paths_text, spec_text,
};
use crate::host::build::bytecode::BytecodeList;
use crate::host::fs::open_dir;
use crate::lock::RepositoryPin;
use crate::plan::observed::{
    DifferenceKind, FileType, GenerationCheck, Seen, TreeDifference, UnknownState,
};
use crate::tree::{EntryMode, ObjectHasher, ObjectId, TreeEntry, TreeListing, blob_id};

/// A content id, and when its reading began if it is to be kept.
type Reading = (Option<ObjectId>, Option<i64>);

/// What content check needs beside the generation.
pub struct GenerationChecker<'a> {
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
    pub fn check_generation(
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
                "comfyui",
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
pub fn hash_at(dir: impl AsFd, path: &str) -> std::io::Result<ObjectId> {
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

pub fn hash_file(mut file: std::fs::File) -> std::io::Result<ObjectId> {
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

struct TreeComparison<'a> {
    checker: &'a GenerationChecker<'a>,
    spec: &'a GenerationSpec,
    layout: GenerationLayout<'a>,
    links: BTreeMap<String, PathBuf>,
    found_links: BTreeSet<String>,
    made: BTreeSet<&'static str>,
    bytecode: BytecodeList,
    listings: BTreeMap<String, TreeListing>,
    /// Entries of custom_nodes/ that are there and no node of the lock.
    tops: BTreeSet<String>,
    check: GenerationCheck,
}

impl<'a> TreeComparison<'a> {
    fn new(checker: &'a GenerationChecker<'a>, spec: &'a GenerationSpec) -> Self {
        let layout = GenerationLayout::new(spec);
        let links = layout.comfy_links();
        TreeComparison {
            checker,
            spec,
            layout,
            links,
            found_links: BTreeSet::new(),
            made: BTreeSet::new(),
            bytecode: checker.expected_bytecode(spec),
            listings: BTreeMap::new(),
            tops: BTreeSet::new(),
            check: GenerationCheck::default(),
        }
    }

    fn note_difference(&mut self, part: &str, path: &str, what: DifferenceKind, detail: String) {
        self.check
            .findings
            .entry(part.to_string())
            .or_default()
            .push(TreeDifference {
                path: crate::text::escape_text(path),
                what,
                detail,
            });
    }

    fn compare_entry(&mut self, f: &FoundEntry, id: Option<ObjectId>, dir: &impl AsFd) {
        if let Some(name) = f
            .path
            .strip_prefix("ComfyUI/custom_nodes/")
            .filter(|n| !n.contains('/') && !self.spec.nodes.contains_key(*n))
        {
            // The folder of ComfyUI's own bytecode there; anything else in it is an entry that no
            // tree has.
            let own = name == crate::host::build::bytecode::FOLDER
                && self.spec.venv.is_some()
                && f.kind == FileType::Dir;
            if !own {
                self.tops.insert(name.to_string());
            }
        }
        let place = self.layout.classify(&f.path, &self.links);
        let part = match &place {
            TreePlace::Tree(part, _) => part.clone(),
            _ => self.part_of(&f.path),
        };
        if f.uid != self.checker.uid || f.gid != self.checker.gid {
            self.note_difference(
                &part,
                &f.path,
                DifferenceKind::Owner,
                format!("uid {}, gid {}", f.uid, f.gid),
            );
        }
        if let Some((_, compiled)) = self.bytecode.files.remove(&f.path) {
            match f.kind {
                FileType::File if id != Some(compiled) => {
                    self.note_difference(&part, &f.path, DifferenceKind::Edited, "bytecode".into())
                }
                FileType::File if f.bits != 0o644 => self.note_difference(
                    &part,
                    &f.path,
                    DifferenceKind::Mode,
                    format!("{:04o}", f.bits),
                ),
                FileType::File => {}
                _ => self.note_difference(
                    &part,
                    &f.path,
                    DifferenceKind::Replaced,
                    "bytecode".into(),
                ),
            }
            return;
        }
        match place {
            TreePlace::Link(target) => {
                self.found_links.insert(f.path.clone());
                if f.target.as_ref() != Some(&target) {
                    let is = f.target.as_ref().map_or("not a link".to_string(), |t| {
                        format!(
                            "leads to {}",
                            crate::text::escape_text(&t.display().to_string())
                        )
                    });
                    self.note_difference(&part, &f.path, DifferenceKind::Link, is);
                }
            }
            TreePlace::Made(name) => {
                self.made.insert(name);
                let wanted = if name == SPEC {
                    spec_text(self.spec)
                } else {
                    model_paths_text(self.spec)
                };
                if f.kind != FileType::File
                    || f.bits != 0o644
                    || hash_at(dir, &f.path).ok() != blob_id(wanted.as_bytes()).ok()
                {
                    self.note_difference("comfyui", &f.path, DifferenceKind::Edited, String::new());
                }
            }
            TreePlace::Frame | TreePlace::Tree(..) if f.kind == FileType::Dir => {
                if f.bits != 0o755 {
                    self.note_difference(
                        &part,
                        &f.path,
                        DifferenceKind::Mode,
                        format!("{:04o}", f.bits),
                    );
                }
            }
            TreePlace::Frame => self.note_difference(
                &part,
                &f.path,
                DifferenceKind::Replaced,
                "not a folder".into(),
            ),
            // `tracked/x` and `ComfyUI/x` map to the same path: only one of them is the right
            // place.
            TreePlace::Tree(part, path)
                if !lies_right(&f.path, self.layout.is_shadowed(&part, &path)) =>
            {
                self.note_difference(&part, &f.path, DifferenceKind::Added, String::new())
            }
            TreePlace::Tree(part, path) => self.compare_leaf(&part, path, f, id),
        }
    }

    fn compare_leaf(&mut self, part: &str, path: String, f: &FoundEntry, id: Option<ObjectId>) {
        let (mode, wanted_bits) = match (f.kind, f.bits & 0o100) {
            (FileType::Link, _) => (EntryMode::Link, f.bits),
            (FileType::File, 0) => (EntryMode::File, 0o644),
            (FileType::File, _) => (EntryMode::Executable, 0o755),
            _ => {
                self.note_difference(
                    part,
                    &f.path,
                    DifferenceKind::Added,
                    "a device, socket or pipe".into(),
                );
                return;
            }
        };
        if f.bits != wanted_bits {
            self.note_difference(
                part,
                &f.path,
                DifferenceKind::Mode,
                format!("{:04o}", f.bits),
            );
        }
        match id {
            Some(oid) => drop(
                self.listings
                    .entry(part.to_string())
                    .or_default()
                    .0
                    .insert(path, TreeEntry { mode, oid, size: 0 }),
            ),
            None => {
                self.note_difference(part, &f.path, DifferenceKind::Edited, "unreadable".into())
            }
        }
    }

    fn note_empty_folder(&mut self, path: &str) {
        let submodule =
            |pin: &RepositoryPin, inner: &str| pin.submodules.iter().any(|s| s.path == inner);
        match self.layout.classify(path, &self.links) {
            TreePlace::Tree(part, inner) => {
                if self.spec.pin(&part).is_some_and(|p| submodule(p, &inner)) {
                    return;
                }
                self.note_difference(&part, path, DifferenceKind::EmptyFolder, String::new());
            }
            TreePlace::Frame if path != TRACKED => {
                let part = self.part_of(path);
                // A node's own folder without a single file: its tree then lacks everything, which
                // is told below.
                if part == "comfyui" && path != "ComfyUI/custom_nodes" {
                    self.note_difference(&part, path, DifferenceKind::EmptyFolder, String::new());
                }
            }
            _ => {}
        }
    }

    fn part_of(&self, path: &str) -> String {
        let inner = path
            .strip_prefix("ComfyUI/")
            .or_else(|| path.strip_prefix("tracked/"))
            .unwrap_or(path);
        match inner
            .strip_prefix("custom_nodes/")
            .and_then(|r| r.split('/').next())
        {
            Some(name) if self.spec.nodes.contains_key(name) => format!("node.{name}"),
            _ => "comfyui".into(),
        }
    }

    fn finish(mut self) -> GenerationCheck {
        let missing: Vec<String> = self
            .links
            .keys()
            .filter(|l| !self.found_links.contains(*l))
            .cloned()
            .collect();
        for link in missing {
            let part = self.part_of(&link);
            self.note_difference(
                &part,
                &link,
                DifferenceKind::Missing,
                "a link of comfy's".into(),
            );
        }
        for path in std::mem::take(&mut self.bytecode.files).into_keys() {
            let part = self.part_of(&path);
            self.note_difference(&part, &path, DifferenceKind::Missing, "bytecode".into());
        }
        for name in [SPEC, MODEL_PATHS] {
            if !self.made.contains(name) {
                self.note_difference("comfyui", name, DifferenceKind::Missing, String::new());
            }
        }
        let mut listings = std::mem::take(&mut self.listings);
        let parts: Vec<(String, &RepositoryPin, TreeListing)> = self
            .spec
            .pins()
            .map(|(part, pin)| {
                (
                    part.clone(),
                    pin,
                    listings.remove(&part).unwrap_or_default(),
                )
            })
            .collect();
        let compare = |(part, pin, listing): (String, &RepositoryPin, TreeListing)| {
            let trees = split_listing(listing, pin)
                .into_iter()
                .map(|(prefix, tree, own)| {
                    (
                        own.quick_tree_hash().is_ok_and(|h| h == tree),
                        prefix,
                        tree,
                        own,
                    )
                });
            (part, trees.collect::<Vec<_>>())
        };
        let compared: Vec<_> = parts.into_par_iter().map(compare).collect();
        for (part, trees) in compared {
            for (same, prefix, tree, own) in trees {
                let core = part == "comfyui" && prefix.is_empty();
                if same {
                    if core {
                        self.unmanaged_nodes(&own);
                    }
                    continue;
                }
                match load_listing(self.checker.trees, tree) {
                    Some(locked) => {
                        if core {
                            self.unmanaged_nodes(&locked);
                        }
                        self.explain_part(&part, &prefix, &own, &locked);
                    }
                    None => self.note_difference(
                        &part,
                        &self.layout.disk_path(&part, prefix.trim_end_matches('/')),
                        DifferenceKind::Edited,
                        "the tree's hash is not the locked one".into(),
                    ),
                }
            }
        }
        // What is wrong inside a foreign entry is that it is there.
        let foreign: Vec<String> = self
            .check
            .foreign
            .iter()
            .map(|n| format!("ComfyUI/custom_nodes/{n}"))
            .collect();
        if let Some(f) = self.check.findings.get_mut("comfyui") {
            f.retain(|f| !foreign.iter().any(|n| is_within(&f.path, n)));
        }
        for f in self.check.findings.values_mut() {
            f.sort_by(|a, b| a.path.cmp(&b.path));
            f.dedup();
        }
        self.check
    }

    fn explain_part(&mut self, part: &str, prefix: &str, own: &TreeListing, locked: &TreeListing) {
        let at = |path: &str| self.layout.disk_path(part, &format!("{prefix}{path}"));
        let mut notes = Vec::new();
        for (path, want) in &locked.0 {
            match own.0.get(path) {
                None if want.mode == EntryMode::Commit => {}
                None => notes.push((at(path), DifferenceKind::Missing, String::new())),
                Some(is)
                    if is.mode != want.mode
                        && (is.mode == EntryMode::Link || want.mode == EntryMode::Link) =>
                {
                    notes.push((
                        at(path),
                        DifferenceKind::Replaced,
                        "link for file, or file for link".into(),
                    ))
                }
                Some(is) if is.oid != want.oid => {
                    notes.push((at(path), DifferenceKind::Edited, String::new()))
                }
                Some(is) if is.mode != want.mode => {
                    notes.push((at(path), DifferenceKind::Mode, String::new()))
                }
                Some(_) => {}
            }
        }
        for path in own.0.keys().filter(|p| !locked.0.contains_key(*p)) {
            notes.push((at(path), DifferenceKind::Added, String::new()));
        }
        for (path, what, detail) in notes {
            self.note_difference(part, &path, what, detail);
        }
    }

    /// What is in custom_nodes/ and neither the lock's nor ComfyUI's own.
    fn unmanaged_nodes(&mut self, tracked: &TreeListing) {
        let own = |name: &str| {
            let path = format!("custom_nodes/{name}");
            tracked
                .0
                .range(path.clone()..)
                .next()
                .is_some_and(|(p, _)| is_within(p, &path))
        };
        self.check.foreign = self.tops.iter().filter(|n| !own(n)).cloned().collect();
    }
}

/// An entry is in `tracked/` exactly if something stands in for it.
fn lies_right(path: &str, aside: bool) -> bool {
    path.starts_with(if aside { "tracked/" } else { "ComfyUI/" })
}

/// A part's listing as the trees that it is made of: its own and each submodule's, with prefix and
/// locked hash.
pub fn split_listing(
    listing: TreeListing,
    pin: &RepositoryPin,
) -> Vec<(String, ObjectId, TreeListing)> {
    if pin.submodules.is_empty() {
        return vec![(String::new(), pin.tree, listing)];
    }
    let mut trees: Vec<(String, ObjectId, TreeListing)> =
        vec![(String::new(), pin.tree, TreeListing::default())];
    trees.extend(
        pin.submodules
            .iter()
            .map(|s| (format!("{}/", s.path), s.tree, TreeListing::default())),
    );
    let owner = |path: &str, trees: &[(String, ObjectId, TreeListing)]| {
        trees
            .iter()
            .enumerate()
            .filter(|(_, (p, ..))| path.starts_with(p.as_str()))
            .max_by_key(|(_, (p, ..))| p.len())
            .map_or(0, |(i, _)| i)
    };
    for (path, entry) in listing.0 {
        let i = owner(&path, &trees);
        let inner = path[trees[i].0.len()..].to_string();
        trees[i].2.0.insert(inner, entry);
    }
    for s in &pin.submodules {
        let i = owner(&s.path, &trees);
        let inner = s.path[trees[i].0.len()..].to_string();
        trees[i].2.0.insert(
            inner,
            TreeEntry {
                mode: EntryMode::Commit,
                oid: s.commit,
                size: 0,
            },
        );
    }
    trees
}

/// A kept listing, if it hashes to `tree`.
pub fn load_listing(trees: &Path, tree: ObjectId) -> Option<TreeListing> {
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
    pub fn good_files(
        &self,
        folder: &Path,
        spec: &GenerationSpec,
    ) -> Vec<(String, String, TreeEntry, String)> {
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
