//! A whole generation in staging: what can be linked from an older one, what a worker must fetch,
//! seal, assemble, check.

pub mod bytecode;
pub mod interpreter;
pub mod process;
pub mod venv;
pub mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use nix::fcntl::AtFlags;

use super::fs::{open_dir, open_parent};
use super::git::NetEnv;
use crate::desired::generation_layout::{self, GenerationLayout};
use crate::desired::{GenerationSpec, InstancePaths};
use crate::host::build::bytecode::BytecodeList;
use crate::host::build::process::JobLimits;
use crate::host::build::work::{BuildWork, TreeRequest, TreesRequest};
use crate::host::fs::edit;
use crate::host::roles::credentials::Dropped;
use crate::host::sealed::generation_check::{self, GenerationChecker};
use crate::host::sealed::seal;
use crate::host::sealed::stat_cache::StatCache;
use crate::host::sealed::verification::VerificationCache;
use crate::ids::GenerationId;
use crate::plan::ids::AccountIds;
use crate::problem::{Context, Problem, Result};
use crate::progress::Reporter;
use crate::tree::{EntryMode, ObjectId, TreeEntry, TreeListing};

/// Everything that building a generation needs.
pub struct GenerationBuilder<'a> {
    pub paths: &'a InstancePaths,
    pub ids: AccountIds,
    pub net: NetEnv,
    pub git: Option<PathBuf>,
    pub offline: bool,
    pub cache: &'a StatCache,
    pub readings: &'a VerificationCache,
    pub report: &'a dyn Reporter,
    /// `None` under isolation "none": the owner stands for every uid.
    pub jobs: Option<JobLimits>,
}

/// A file of an older generation that can be shared.
struct SharedFile {
    entry: TreeEntry,
    at: PathBuf,
}

impl GenerationBuilder<'_> {
    /// Leaves a sealed, checked generation at `Paths::staged`, or nothing.
    ///
    /// # Errors
    /// What could not be fetched, unpacked, verified or written; staging is then as it was.
    pub fn build_generation(
        &mut self,
        spec: &GenerationSpec,
        reuse: &[GenerationId],
    ) -> Result<()> {
        let staged = self.paths.staged_generation(&spec.id());
        self.in_job(&staged, |b, job| {
            b.assemble_generation(spec, reuse, job, &staged)
        })
    }

    /// Runs `make` with a folder for the build process, which goes afterwards; what was staged
    /// stays only when it is whole.
    pub fn in_job(
        &mut self,
        staged: &Path,
        make: impl FnOnce(&mut Self, &Path) -> Result<()>,
    ) -> Result<()> {
        let clear = |path: &Path| {
            edit::remove_path(path).with_context(|| format!("clear {}", path.display()))
        };
        let job = self
            .paths
            .staging_dir()
            .join(format!("job-{}", std::process::id()));
        let result = self
            .make_folders(&job)
            .and_then(|()| clear(staged))
            .and_then(|()| make(self, &job));
        clear(&job)?;
        if result.is_err() {
            clear(staged)?;
        }
        result
    }

    /// Writes a record of comfy's, readable by the owner.
    pub fn write_record(&self, path: &Path, value: &impl serde::Serialize) -> Result<()> {
        let text =
            serde_json::to_vec(value).with_context(|| format!("write {}", path.display()))?;
        let owner = nix::unistd::geteuid()
            .is_root()
            .then_some((self.ids.seal, self.ids.records_gid()));
        edit::write_file(path, &text, 0o640, owner)
            .with_context(|| format!("write {}", path.display()))
    }

    /// Has one piece of work done under the build uid, or by the owner where nobody else is.
    pub fn perform_job<T: serde::de::DeserializeOwned>(&mut self, work: &BuildWork) -> Result<T> {
        let value = match self.jobs {
            Some(jobs) => jobs.run_job(self.ids.build, work, self.report)?,
            None => work.run_work(self.report, &Dropped::as_caller())?,
        };
        serde_json::from_value(value).context("understand the build process")
    }

    /// An empty folder of the build process's.
    pub fn job_folder(&self, path: &Path) -> Result<()> {
        edit::make_dir(path, self.ids.build, build_gid(&self.ids), 0o700)
            .with_context(|| format!("make {}", path.display()))
    }

    /// From here on nobody but the sealer has a way into the job.
    pub fn take_over(&self, job: &Path) -> Result<()> {
        if nix::unistd::geteuid().is_root() {
            let fd = open_dir(job).with_context(|| format!("open {}", job.display()))?;
            nix::unistd::fchown(
                &fd,
                Some(self.ids.seal.into()),
                Some(self.ids.seal_gid.into()),
            )
            .with_context(|| format!("take over {}", job.display()))?;
        }
        Ok(())
    }

    fn make_folders(&self, job: &Path) -> Result<()> {
        let p = self.paths;
        let i = self.ids;
        let account = self.jobs.is_some();
        let doing = |path: &Path| format!("make {}", path.display());
        edit::make_parents(
            &p.base.join("x"),
            nix::unistd::Uid::from_raw(i.seal),
            nix::unistd::Gid::from_raw(i.seal_gid),
        )
        .with_context(|| doing(&p.base))?;
        edit::make_parents(
            &p.records.join("x"),
            nix::unistd::Uid::from_raw(i.seal),
            nix::unistd::Gid::from_raw(i.seal_gid),
        )
        .with_context(|| doing(&p.records))?;
        for (path, mode) in [
            (p.generations_dir(), 0o755),
            (p.venvs_dir(), 0o755),
            (p.staging_dir(), if account { 0o711 } else { 0o700 }),
            (p.trash_dir(), 0o700),
        ] {
            edit::make_dir(&path, i.seal, i.seal_gid, mode).with_context(|| doing(&path))?;
        }
        for path in [p.records.clone(), p.tree_listings_dir()] {
            edit::make_dir(
                &path,
                i.seal,
                i.records_gid(),
                if account { 0o750 } else { 0o700 },
            )
            .with_context(|| doing(&path))?;
        }
        // What an earlier run left when it was killed. One apply at a time holds the lock, so none
        // of it is in use.
        let old: Vec<PathBuf> = std::fs::read_dir(p.staging_dir())
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path())
            .filter(|e| {
                e.file_name().is_some_and(|n| {
                    n.to_string_lossy().starts_with("job-")
                        || n.to_string_lossy().starts_with("gen-")
                })
            })
            .collect();
        for path in old {
            edit::remove_path(&path).with_context(|| format!("clear {}", path.display()))?;
        }
        edit::make_dir(job, i.build, build_gid(&i), 0o700).with_context(|| doing(job))?;
        // A store of another build uid is only a cache: made anew.
        if std::fs::symlink_metadata(p.store_dir())
            .is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) != i.build)
        {
            edit::remove_path(&p.store_dir()).context("clear the old store")?;
        }
        // Readable: it holds public code alone, and lets `plan -v` show what a file should be.
        edit::make_dir(&p.store_dir(), i.build, build_gid(&i), 0o755)
            .with_context(|| doing(&p.store_dir()))?;
        // Of an older comfy, which had them in the store itself.
        for old in std::fs::read_dir(p.store_dir())
            .into_iter()
            .flatten()
            .flatten()
            .filter(|e| e.file_name().to_string_lossy().ends_with(".git"))
        {
            edit::remove_path(&old.path()).context("clear the old store")?;
        }
        // Each job writes its own part and no other.
        for part in [
            p.git_store(),
            crate::host::build::venv::wheel_store(p),
            p.python_store(),
        ] {
            edit::make_dir(&part, i.build, build_gid(&i), 0o755).with_context(|| doing(&part))?;
        }
        edit::write_file(
            &p.staging_dir().join("gitconfig"),
            super::git::config_text().as_bytes(),
            0o644,
            None,
        )
        .context("write comfy's git configuration")
    }

    /// Where models arrive: the build uid's alone, kept for the next run whatever becomes of this
    /// one.
    pub fn make_downloads(&self) -> Result<()> {
        let (i, path) = (self.ids, self.paths.downloads_dir());
        let doing = || format!("make {}", path.display());
        edit::make_parents(
            &path,
            nix::unistd::Uid::from_raw(i.seal),
            nix::unistd::Gid::from_raw(i.seal_gid),
        )
        .with_context(doing)?;
        // Of another build uid: parts that nobody could go on with.
        if std::fs::symlink_metadata(&path)
            .is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) != i.build)
        {
            edit::remove_path(&path).context("clear old downloads")?;
        }
        edit::make_dir(&path, i.build, build_gid(&i), 0o700).with_context(doing)
    }

    fn tree_checker<'b>(&'b self, trees: &'b Path) -> GenerationChecker<'b> {
        GenerationChecker {
            cache: self.cache,
            readings: self.readings,
            trees,
            uid: self.ids.seal,
            gid: self.ids.seal_gid,
        }
    }

    fn assemble_generation(
        &mut self,
        spec: &GenerationSpec,
        reuse: &[GenerationId],
        job: &Path,
        staged: &Path,
    ) -> Result<()> {
        let trees = self.paths.tree_listings_dir();
        let mut good: BTreeMap<(String, String), SharedFile> = BTreeMap::new();
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
        let mut listings: BTreeMap<String, TreeListing> = BTreeMap::new();
        let mut items = Vec::new();
        for (part, pin) in spec.pins() {
            let own = TreeListing(
                good.range((part.clone(), String::new())..)
                    .take_while(|((p, _), _)| *p == part)
                    .map(|((_, path), g)| (path.clone(), g.entry))
                    .collect(),
            );
            if generation_check::split_listing(own.clone(), pin)
                .iter()
                .all(|(_, tree, l)| l.tree_hash().is_ok_and(|h| h == *tree))
            {
                listings.insert(part, own);
            } else {
                let have = own.0.iter().map(|(p, e)| (p.clone(), *e)).collect();
                items.push(TreeRequest {
                    target: job.join(format!("{}", items.len())),
                    part,
                    pin: pin.clone(),
                    have,
                });
            }
        }
        let fetched: BTreeSet<String> = items.iter().map(|i| i.part.clone()).collect();
        let targets: BTreeMap<String, PathBuf> = items
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
            listings.extend(
                self.perform_job::<Vec<(String, TreeListing)>>(&BuildWork::Trees(request))?,
            );
        }
        self.take_over(job)?;
        for (part, pin) in spec.pins() {
            let listing = listings.get(&part).ok_or_else(|| {
                Problem::new(format!("{part}: the build process returned no listing"))
            })?;
            for (prefix, tree, own) in generation_check::split_listing(listing.clone(), pin) {
                let hash = own.tree_hash()?;
                if hash != tree {
                    return Err(Problem::new(format!(
                        "{part}: the tree {prefix}. is {hash}, and \
                        comfy.lock says {tree}"
                    ))
                    .with_hint(
                        "comfy.lock was edited by hand, or lacks a submodule: restore it \
                            from git, or `comfy update` this node; nothing was installed",
                    ));
                }
                self.keep_listing(&own, tree)?;
            }
        }
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
                    "the new generation is not what comfy.lock pins: \
                    {first}"
                ))
                .with_hint(
                    "nothing was installed; this is a bug in comfy, or somebody changes \
                        files meanwhile",
                ));
            }
        }
        edit::sync_tree(staged).context("write the new generation to the disk")
    }

    /// Bytecode for every source of the generation: shared with older ones where source and Python
    /// are the same.
    fn compile_generation(
        &mut self,
        spec: &GenerationSpec,
        staged: &Path,
        listings: &BTreeMap<String, TreeListing>,
        reuse: &[GenerationId],
    ) -> Result<()> {
        let Some(interpreter) = spec.venv.as_ref().map(|v| v.interpreter.clone()) else {
            return Ok(());
        };
        let places = GenerationLayout::new(spec);
        let mut wanted: BTreeMap<String, (String, ObjectId)> = BTreeMap::new();
        for (part, listing) in listings {
            let sources = listing.0.iter().filter(|(p, e)| {
                p.ends_with(".py")
                    && matches!(e.mode, EntryMode::File | EntryMode::Executable)
                    && !places.is_shadowed(part, p)
            });
            for (path, entry) in sources {
                let at = places.disk_path(part, path);
                let target = bytecode::bytecode_path(Path::new(&at), &interpreter);
                if is_free(staged, &target)
                    .with_context(|| format!("look for {}", target.display()))?
                {
                    wanted.insert(target.display().to_string(), (at, entry.oid));
                }
            }
        }
        let mut all = BytecodeList {
            version: interpreter.version.clone(),
            files: BTreeMap::new(),
        };
        let folder_of = |p: &str| {
            p.rsplit_once('/')
                .map_or(String::new(), |(f, _)| f.to_string())
        };
        for id in reuse {
            let old = BytecodeList::load(&self.paths.bytecode_list(id));
            let folder = self.paths.generation_dir(id);
            let Ok(fd) = open_dir(&folder) else { continue };
            for (target, (source, compiled)) in old
                .files
                .iter()
                .filter(|_| old.version == interpreter.version)
            {
                if all.files.contains_key(target)
                    || wanted.get(target).is_none_or(|(_, oid)| oid != source)
                {
                    continue;
                }
                let from = folder.join(target);
                let sealed = matches!(super::fs::read_entry(&from), Ok(Some(n)) if n.uid == self.ids.seal && n.gid == self.ids.seal_gid && n.mode == 0o644);
                if sealed && generation_check::hash_at(&fd, target).is_ok_and(|h| h == *compiled) {
                    self.make_folder(&staged.join(folder_of(target)), staged)?;
                    link_file(&from, &staged.join(target))
                        .with_context(|| format!("share {}", from.display()))?;
                    all.files.insert(target.clone(), (*source, *compiled));
                }
            }
        }
        let missing: Vec<(&String, &(String, ObjectId))> = wanted
            .iter()
            .filter(|(t, _)| !all.files.contains_key(*t))
            .collect();
        if !missing.is_empty() {
            let target = self
                .paths
                .staging_dir()
                .join(format!("job-{}-bytecode", std::process::id()));
            let i = self.ids;
            self.job_folder(&target)?;
            let job = bytecode::CompileJob {
                interpreter,
                top: staged.to_path_buf(),
                sources: missing.iter().map(|(_, (s, _))| s.clone()).collect(),
                target: target.clone(),
            };
            let made = self
                .perform_job::<()>(&BuildWork::Bytecode(job.clone()))
                .and_then(|()| self.take_over(&target))
                .and_then(|()| {
                    let mut found = Vec::new();
                    for (n, (to, (_, source))) in missing.iter().enumerate() {
                        let from = job.output_path(n);
                        // What does not compile has none.
                        if from.symlink_metadata().is_ok() {
                            let oid = seal::seal_file(&from, i)
                                .with_context(|| format!("seal {}", from.display()))?;
                            self.make_folder(&staged.join(folder_of(to)), staged)?;
                            edit::move_to(&from, &staged.join(to))
                                .with_context(|| format!("lay out {to}"))?;
                            found.push(((*to).clone(), (*source, oid)));
                        }
                    }
                    Ok(found)
                });
            edit::remove_path(&target).with_context(|| format!("clear {}", target.display()))?;
            all.files.extend(made?);
        }
        self.write_record(&self.paths.bytecode_list(&spec.id()), &all)
    }

    fn keep_listing(&self, listing: &TreeListing, tree: crate::tree::ObjectId) -> Result<()> {
        let path = self.paths.tree_listings_dir().join(format!("{tree}.json"));
        if path.exists() {
            Ok(())
        } else {
            self.write_record(&path, listing)
        }
    }

    fn lay_out(
        &self,
        spec: &GenerationSpec,
        staged: &Path,
        listings: &BTreeMap<String, TreeListing>,
        fetched: &BTreeSet<String>,
        targets: &BTreeMap<String, PathBuf>,
        good: &BTreeMap<(String, String), SharedFile>,
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
    pub fn make_folder(&self, path: &Path, staged: &Path) -> Result<()> {
        let missing: Vec<&Path> = path
            .ancestors()
            .take_while(|p| *p != staged && p.symlink_metadata().is_err())
            .collect();
        let there = path.ancestors().nth(missing.len()).unwrap_or(path);
        match super::fs::read_entry(there) {
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

/// Whether bytecode can be put there: a tree may track some of its own, or have a link or a file in
/// the place of its folder.
fn is_free(staged: &Path, target: &Path) -> std::io::Result<bool> {
    let seen = |path: &Path| match path.symlink_metadata() {
        Ok(m) => Ok(Some(m.is_dir())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    };
    let at = staged.join(target);
    match at.parent().map_or(Ok(None), seen)? {
        _ if !bytecode::name_fits(target) => Ok(false),
        Some(true) => Ok(seen(&at)?.is_none()),
        Some(false) => Ok(false),
        None => Ok(true),
    }
}

/// Code stays sealed: a `writable` path that holds some is refused before anything is laid out.
fn no_writable_code(spec: &GenerationSpec, listings: &BTreeMap<String, TreeListing>) -> Result<()> {
    let mut problems = Vec::new();
    for (part, w) in spec.writable() {
        let Some(listing) = listings.get(&part.to_string()) else {
            continue;
        };
        if listing
            .0
            .get(w)
            .is_some_and(|e| e.mode == crate::tree::EntryMode::Link)
        {
            problems.push(
                Problem::new(format!("{part}: writable \"{w}\" is a link in the tree"))
                    .with_hint("name the file or folder that it leads to"),
            );
        }
        let code = listing
            .0
            .keys()
            .find(|p| generation_layout::is_within(p, w) && crate::manifest::names::is_code(p));
        if let Some(path) = code {
            let why = format!(
                "{part}: writable \"{w}\" holds code: {}",
                crate::text::escape_text(path)
            );
            problems.push(
                Problem::new(why).with_hint(
                    "name the data file or folder that the node writes; code stays sealed",
                ),
            );
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Problem::from_many(problems))
    }
}

/// The build uid's group has the same number; under isolation "none" it is the owner's own.
fn build_gid(i: &AccountIds) -> u32 {
    if i.build == i.owner {
        i.owner_gid
    } else {
        i.build
    }
}

pub fn link_file(from: &Path, to: &Path) -> std::io::Result<()> {
    let ((a, from_name), (b, to_name)) = (open_parent(from)?, open_parent(to)?);
    nix::unistd::linkat(
        &a,
        from_name.as_c_str(),
        &b,
        to_name.as_c_str(),
        AtFlags::empty(),
    )?;
    Ok(())
}

/// What the generation at `folder` says it is, if that hashes to its own name; `None` where there
/// is none, or where it says something else.
///
/// # Errors
/// It cannot be read, so that nobody knows whether it is there.
pub fn read_spec(folder: &Path, id: &str) -> std::io::Result<Option<GenerationSpec>> {
    use std::io::ErrorKind;
    let text = match std::fs::read(folder.join(generation_layout::SPEC)) {
        Ok(text) => text,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(e) => return Err(e),
    };
    let spec = serde_json::from_slice::<GenerationSpec>(&text).ok();
    Ok(spec.filter(|spec| *spec.id() == *id))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;

    #[test]
    fn a_description_that_cannot_be_read_is_not_taken_for_none() {
        let folder = tempfile::tempdir().unwrap();
        let id = "0123456789abcdef";
        assert!(read_spec(folder.path(), id).unwrap().is_none());
        assert!(
            read_spec(&folder.path().join("absent"), id)
                .unwrap()
                .is_none()
        );
        let spec = folder.path().join(generation_layout::SPEC);
        std::fs::write(&spec, "{}").unwrap();
        assert!(read_spec(folder.path(), id).unwrap().is_none());
        edit::remove_path(&spec).unwrap();
        std::fs::create_dir(&spec).unwrap();
        assert!(read_spec(folder.path(), id).is_err());
    }
}
