//! A generation put together: linked from older ones, fetched, sealed, compiled, checked.

mod compiled;
mod own_folders;
mod writable;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{GenerationBuilder, link_file, read_spec};
use crate::desired::GenerationSpec;
use crate::desired::generation_layout::{self, GenerationLayout};
use crate::host::build::work::{BuildWork, TreeRequest, TreesRequest};
use crate::host::fs::edit;
use crate::host::git::folder_changed;
use crate::host::sealed::generation_check::{self, GenerationChecker};
use crate::host::sealed::seal;
use crate::ids::{GenerationId, Part};
use crate::problem::{Context, Problem, Result};
use crate::tree::{TreeEntry, TreeListing};

pub(crate) use writable::no_writable_code;

/// A file of an older generation that can be shared.
pub(super) struct SharedFile {
    pub(super) entry: TreeEntry,
    pub(super) at: PathBuf,
}

impl GenerationBuilder<'_> {
    pub(super) fn tree_checker<'b>(&'b self, trees: &'b Path) -> GenerationChecker<'b> {
        GenerationChecker {
            cache: self.cache,
            readings: self.readings,
            trees,
            uid: self.ids.seal,
            gid: self.ids.seal_gid,
        }
    }

    pub(super) fn assemble_generation(
        &mut self,
        spec: &GenerationSpec,
        reuse: &[GenerationId],
        job: &Path,
        staged: &Path,
    ) -> Result<()> {
        let trees = self.paths.tree_listings_dir();
        let good = self.shared_files(reuse);
        let mut listings: BTreeMap<Part, TreeListing> = BTreeMap::new();
        let (mut items, mut own_folders) = (Vec::new(), Vec::new());
        for (part, pin) in spec.pins() {
            let own = TreeListing(
                good.range((part.clone(), String::new())..)
                    .take_while(|((p, _), _)| *p == part)
                    .filter(|((_, path), _)| !pin.excludes(path))
                    .map(|((_, path), g)| (path.clone(), g.entry))
                    .collect(),
            );
            if generation_check::split_listing(own.clone(), pin)
                .iter()
                .all(|(_, tree, l)| l.tree_hash().is_ok_and(|h| h == *tree))
            {
                listings.insert(part, own);
            } else if pin.source().is_repository() || pin.archive.is_some() {
                let have = own.0.iter().map(|(p, e)| (p.clone(), *e)).collect();
                items.push(TreeRequest {
                    target: job.join(format!("{}", items.len())),
                    part,
                    pin: pin.clone(),
                    have,
                });
            } else {
                own_folders.push(part);
            }
        }
        let mut targets: BTreeMap<Part, PathBuf> = items
            .iter()
            .map(|i| (i.part.clone(), i.target.clone()))
            .collect();
        if !items.is_empty() {
            let request = TreesRequest {
                store: self.paths.git_store(),
                config: self.paths.staging_dir().join("gitconfig"),
                git: self.git.clone(),
                net: self.net.clone(),
                offline: self.offline,
                items,
            };
            listings
                .extend(self.perform_job::<Vec<(Part, TreeListing)>>(&BuildWork::Trees(request))?);
        }
        self.take_over(job)?;
        for (i, part) in own_folders.into_iter().enumerate() {
            let target = job.join(format!("folder-{i}"));
            listings.insert(part.clone(), self.copy_own_folder(spec, &part, &target)?);
            targets.insert(part, target);
        }
        let fetched: BTreeSet<Part> = targets.keys().cloned().collect();
        self.verify_listings(spec, &listings)?;
        no_writable_code(spec, &listings)?;
        self.lay_out(spec, staged, &listings, &fetched, &targets, &good)?;
        self.compile_generation(spec, staged, &listings, reuse)?;
        let check = self
            .tree_checker(&trees)
            .check_generation(staged, spec)
            .map_err(|u| {
                Problem::new(format!("the new generation: {}", u.reason)).of_kind(u.kind)
            })?;
        match check {
            Some(c) if c.is_intact() => {}
            other => {
                let first = other
                    .and_then(|c| {
                        c.findings
                            .values()
                            .flatten()
                            .next()
                            .map(|f| format!("{} {} {}", f.path, f.what.word(), f.detail))
                    })
                    .unwrap_or_default();
                return Err(Problem::new(format!(
                    "the new generation is not what comfy.lock pins: {first}"
                ))
                .with_hint(
                    "nothing was installed; this is a bug in comfy, or somebody changes \
                        files meanwhile",
                ));
            }
        }
        edit::sync_tree(staged).context("write the new generation to the disk")
    }

    /// A node's copy from a folder of the owner's, if that is as the lock says.
    fn copy_own_folder(
        &self,
        spec: &GenerationSpec,
        part: &Part,
        target: &Path,
    ) -> Result<TreeListing> {
        let node = match part {
            Part::Node(name) => spec.nodes.get(name),
            Part::Comfyui => None,
        };
        let Some((node, folder)) = node.and_then(|n| Some((n, n.folder.as_ref()?))) else {
            return Err(Problem::new(format!("{part}: it comes from no folder")));
        };
        let named = |p: Problem| p.with_prefix(&format!("{part}: "));
        let listing = own_folders::copy_folder(folder, self.ids.owner, target).map_err(named)?;
        if listing.tree_hash()? == node.pin.tree {
            Ok(listing)
        } else {
            Err(named(folder_changed(&folder.display().to_string())))
        }
    }

    /// The files of older generations that are what their lock says: they are linked, not fetched.
    pub(super) fn shared_files(
        &self,
        reuse: &[GenerationId],
    ) -> BTreeMap<(Part, String), SharedFile> {
        let trees = self.paths.tree_listings_dir();
        let mut good: BTreeMap<(Part, String), SharedFile> = BTreeMap::new();
        for id in reuse {
            let folder = self.paths.generation_dir(id);
            if let Ok(Some(old)) = read_spec(&folder, id) {
                for (part, path, entry, disk) in self.tree_checker(&trees).good_files(&folder, &old)
                {
                    good.entry((part, path)).or_insert(SharedFile {
                        entry,
                        at: folder.join(disk),
                    });
                }
            }
        }
        good
    }

    /// Compares what the build process made with the trees of the lock, and keeps the listings.
    ///
    /// # Errors
    /// A tree is another one.
    pub(super) fn verify_listings(
        &self,
        spec: &GenerationSpec,
        listings: &BTreeMap<Part, TreeListing>,
    ) -> Result<()> {
        for (part, pin) in spec.pins() {
            let listing = listings.get(&part).ok_or_else(|| {
                Problem::new(format!("{part}: the build process returned no listing"))
            })?;
            if let Some(path) = listing.0.keys().find(|p| pin.excludes(p)) {
                return Err(Problem::new(format!(
                    "{part}: the build process returned `{}`, which `exclude` leaves out",
                    crate::text::escape_text(path)
                ))
                .with_hint("nothing was installed; this is a bug in comfy"));
            }
            for (prefix, tree, own) in generation_check::split_listing(listing.clone(), pin) {
                let hash = own.tree_hash()?;
                if hash != tree {
                    return Err(Problem::new(format!(
                        "{part}: the tree {prefix}. is {hash}, and comfy.lock says {tree}"
                    ))
                    .with_hint(
                        "comfy.lock was edited by hand, or lacks a submodule: restore it \
                            from git, or `comfy update` this node; nothing was installed",
                    ));
                }
                self.keep_listing(&own, tree)?;
            }
        }
        Ok(())
    }

    pub(super) fn keep_listing(
        &self,
        listing: &TreeListing,
        tree: crate::tree::ObjectId,
    ) -> Result<()> {
        let path = self.paths.tree_listings_dir().join(format!("{tree}.json"));
        if path.exists() {
            Ok(())
        } else {
            self.write_record(&path, listing)
        }
    }

    pub(super) fn lay_out(
        &self,
        spec: &GenerationSpec,
        staged: &Path,
        listings: &BTreeMap<Part, TreeListing>,
        fetched: &BTreeSet<Part>,
        targets: &BTreeMap<Part, PathBuf>,
        good: &BTreeMap<(Part, String), SharedFile>,
    ) -> Result<()> {
        let i = self.ids;
        let places = GenerationLayout::new(spec);
        let io = |path: &Path| format!("lay out {}", path.display());
        edit::make_dir(staged, i.seal, i.seal_gid, 0o755).with_context(|| io(staged))?;
        // Whole folders move into place first: ComfyUI, then nodes into it.
        for (part, _) in spec.pins() {
            let to = staged.join(places.disk_path(&part, "").trim_end_matches('/'));
            match targets.get(&part) {
                Some(from) => {
                    seal::seal_tree(&part, from, &listings[&part], i, self.readings, self.report)?;
                    self.make_folder(to.parent().unwrap_or(staged), staged)?;
                    edit::move_to(from, &to).with_context(|| io(&to))?;
                }
                None => self.make_folder(&to, staged)?,
            }
        }
        self.make_folder(&staged.join("ComfyUI/custom_nodes"), staged)?;
        // Then what mounts and writable paths stand in for is moved aside.
        let links = places.comfy_links();
        for at in links.keys() {
            let from = staged.join(at);
            let to = staged
                .join(generation_layout::TRACKED)
                .join(at.strip_prefix("ComfyUI/").unwrap_or(at));
            if from.symlink_metadata().is_ok() {
                self.make_folder(to.parent().unwrap_or(staged), staged)?;
                edit::move_to(&from, &to).with_context(|| io(&to))?;
            }
        }
        // Then what older generations have is linked in.
        for (part, listing) in listings {
            let all = !fetched.contains(part);
            for (path, entry) in &listing.0 {
                let Some(g) = good
                    .get(&(part.clone(), path.clone()))
                    .filter(|g| g.entry.oid == entry.oid && g.entry.mode == entry.mode)
                else {
                    continue;
                };
                let to = staged.join(places.disk_path(part, path));
                if !all && to.symlink_metadata().is_ok() {
                    continue;
                }
                self.make_folder(to.parent().unwrap_or(staged), staged)?;
                link_file(&g.at, &to).with_context(|| io(&to))?;
            }
        }
        for (at, target) in &links {
            let path = staged.join(at);
            self.make_folder(path.parent().unwrap_or(staged), staged)?;
            edit::set_link(
                &path,
                target,
                nix::unistd::geteuid()
                    .is_root()
                    .then_some((i.seal, i.seal_gid)),
            )
            .with_context(|| io(&path))?;
        }
        let owner = nix::unistd::geteuid()
            .is_root()
            .then_some((i.seal, i.seal_gid));
        for (name, text) in [
            (generation_layout::SPEC, generation_layout::spec_text(spec)),
            (
                generation_layout::MODEL_PATHS,
                generation_layout::model_paths_text(spec),
            ),
        ] {
            edit::write_file(&staged.join(name), text.as_bytes(), 0o644, owner)
                .with_context(|| io(&staged.join(name)))?;
        }
        Ok(())
    }

    /// A sealed folder and the missing ones above it, within the staged generation.
    pub(crate) fn make_folder(&self, path: &Path, staged: &Path) -> Result<()> {
        let missing: Vec<&Path> = path
            .ancestors()
            .take_while(|p| *p != staged && p.symlink_metadata().is_err())
            .collect();
        let there = path.ancestors().nth(missing.len()).unwrap_or(path);
        match crate::host::fs::read_entry(there) {
            Ok(Some(n)) if n.uid == self.ids.seal && n.mode & 0o022 == 0 => {}
            Ok(_) => {
                return Err(Problem::new(format!(
                    "{} is not a folder of comfy's own",
                    there.display()
                ))
                .with_hint("move it away; comfy makes its own"));
            }
            Err(u) => return Err(u.into()),
        }
        for p in missing.into_iter().rev() {
            edit::make_dir(p, self.ids.seal, self.ids.seal_gid, 0o755)
                .with_context(|| format!("make {}", p.display()))?;
        }
        Ok(())
    }
}
