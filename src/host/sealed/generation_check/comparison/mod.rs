//! What is there against what the lock says, entry by entry.

mod explain;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::path::PathBuf;

use rayon::prelude::*;

use super::split::split_listing;
use super::{GenerationChecker, hash_at, load_listing};
use crate::desired::GenerationSpec;
use crate::desired::generation_layout::{
    GenerationLayout, MODEL_PATHS, SPEC, TRACKED, TreePlace, model_paths_text, spec_text,
};
use crate::host::build::bytecode::BytecodeList;
use crate::host::sealed::list_tree::FoundEntry;
use crate::ids::Part;
use crate::lock::RepositoryPin;
use crate::manifest::names::is_within;
use crate::plan::observed::{DifferenceKind, FileType, GenerationCheck, TreeDifference};
use crate::tree::{EntryMode, ObjectId, TreeEntry, TreeListing, blob_id};

pub(super) struct TreeComparison<'a> {
    pub(super) checker: &'a GenerationChecker<'a>,
    pub(super) spec: &'a GenerationSpec,
    pub(super) layout: GenerationLayout<'a>,
    pub(super) links: BTreeMap<String, PathBuf>,
    pub(super) found_links: BTreeSet<String>,
    pub(super) made: BTreeSet<&'static str>,
    pub(super) bytecode: BytecodeList,
    pub(super) listings: BTreeMap<Part, TreeListing>,
    /// Entries of custom_nodes/ that are there and no node of the lock.
    pub(super) tops: BTreeSet<String>,
    pub(super) check: GenerationCheck,
}

impl<'a> TreeComparison<'a> {
    pub(super) fn new(checker: &'a GenerationChecker<'a>, spec: &'a GenerationSpec) -> Self {
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

    pub(super) fn note_difference(
        &mut self,
        part: &Part,
        path: &str,
        what: DifferenceKind,
        detail: String,
    ) {
        self.check
            .findings
            .entry(part.clone())
            .or_default()
            .push(TreeDifference {
                path: crate::text::escape_text(path),
                what,
                detail,
            });
    }

    /// Notes an entry of custom_nodes/ that no node of comfy.lock is.
    fn note_undeclared(&mut self, f: &FoundEntry) {
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
    }

    pub(super) fn compare_entry(&mut self, f: &FoundEntry, id: Option<ObjectId>, dir: &impl AsFd) {
        self.note_undeclared(f);
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
            self.compare_bytecode(&part, f, id == Some(compiled));
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
                    self.note_difference(
                        &Part::Comfyui,
                        &f.path,
                        DifferenceKind::Edited,
                        String::new(),
                    );
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
            TreePlace::Tree(part, path) => {
                if self.spec.pin_of(&part).is_some_and(|p| p.excludes(&path)) {
                    let why = "left out by `exclude`".to_string();
                    self.note_difference(&part, &f.path, DifferenceKind::Added, why);
                }
                self.compare_leaf(&part, path, f, id);
            }
        }
    }

    fn compare_bytecode(&mut self, part: &Part, f: &FoundEntry, same: bool) {
        let (kind, detail) = match f.kind {
            FileType::File if !same => (DifferenceKind::Edited, "bytecode".into()),
            FileType::File if f.bits != 0o644 => (DifferenceKind::Mode, format!("{:04o}", f.bits)),
            FileType::File => return,
            _ => (DifferenceKind::Replaced, "bytecode".into()),
        };
        self.note_difference(part, &f.path, kind, detail);
    }

    pub(super) fn compare_leaf(
        &mut self,
        part: &Part,
        path: String,
        f: &FoundEntry,
        id: Option<ObjectId>,
    ) {
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
                    .entry(part.clone())
                    .or_default()
                    .0
                    .insert(path, TreeEntry { mode, oid, size: 0 }),
            ),
            None => {
                self.note_difference(part, &f.path, DifferenceKind::Edited, "unreadable".into())
            }
        }
    }

    pub(super) fn note_empty_folder(&mut self, path: &str) {
        let submodule =
            |pin: &RepositoryPin, inner: &str| pin.submodules.iter().any(|s| s.path == inner);
        match self.layout.classify(path, &self.links) {
            TreePlace::Tree(part, inner) => {
                if self
                    .spec
                    .pin_of(&part)
                    .is_some_and(|p| submodule(p, &inner))
                {
                    return;
                }
                self.note_difference(&part, path, DifferenceKind::EmptyFolder, String::new());
            }
            TreePlace::Frame if path != TRACKED => {
                let part = self.part_of(path);
                // A node's own folder without a single file: its tree then lacks everything, which
                // is told below.
                if part == Part::Comfyui && path != "ComfyUI/custom_nodes" {
                    self.note_difference(&part, path, DifferenceKind::EmptyFolder, String::new());
                }
            }
            _ => {}
        }
    }

    pub(super) fn part_of(&self, path: &str) -> Part {
        let inner = path
            .strip_prefix("ComfyUI/")
            .or_else(|| path.strip_prefix("tracked/"))
            .unwrap_or(path);
        match inner
            .strip_prefix("custom_nodes/")
            .and_then(|r| r.split('/').next())
        {
            Some(name) if self.spec.nodes.contains_key(name) => Part::Node(name.to_string()),
            _ => Part::Comfyui,
        }
    }

    pub(super) fn finish(mut self) -> GenerationCheck {
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
                self.note_difference(&Part::Comfyui, name, DifferenceKind::Missing, String::new());
            }
        }
        let mut listings = std::mem::take(&mut self.listings);
        let parts: Vec<(Part, &RepositoryPin, TreeListing)> = self
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
        let compare = |(part, pin, listing): (Part, &RepositoryPin, TreeListing)| {
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
                let core = part == Part::Comfyui && prefix.is_empty();
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
        if let Some(f) = self.check.findings.get_mut(&Part::Comfyui) {
            f.retain(|f| !foreign.iter().any(|n| is_within(&f.path, n)));
        }
        for f in self.check.findings.values_mut() {
            f.sort_by(|a, b| a.path.cmp(&b.path));
            f.dedup();
        }
        self.check
    }
}

/// An entry is in `tracked/` exactly if something stands in for it.
pub(super) fn lies_right(path: &str, aside: bool) -> bool {
    path.starts_with(if aside { "tracked/" } else { "ComfyUI/" })
}
