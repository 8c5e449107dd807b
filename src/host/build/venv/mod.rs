//! Virtual environments: built beside the live one by an unprivileged process, sealed, compared
//! with their list.
//!
//! [`build_job`] runs under the build uid: [`wheel_fetch`] has wheels, [`wheel`] says what is in
//! them and where it goes. What is there, and who brought it, is the list; [`file_owners`] has the
//! rules for files that several packages bring. Unchanged packages are shared with older
//! environments by hard link. Bytecode is compiled from what is sealed already, in a process of its
//! own.

pub(crate) mod build_job;
pub(crate) mod file_owners;
mod index_page;
mod local_wheels;
mod package_address;
mod path_files;
pub(crate) mod provenance;
mod scripts;
mod verify;
mod wheel;
pub(crate) mod wheel_fetch;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::work::BuildWork;
use super::{GenerationBuilder, bytecode, link_file};
use crate::desired::InstancePaths;
use crate::desired::venv::{PackageInstall, VenvSpec};
use crate::host::build::venv::file_owners::BYTECODE;
use crate::host::fs::{c_string, edit, open_dir};
use crate::host::sealed::file_list::{self, FileList, ListedFile, SealedFolder, seal_folder};
use crate::host::sealed::seal::open_plain_at;
use crate::host::sealed::verification::{SealedTree, VerificationCache};
use crate::ids::VenvId;
use crate::plan::change::WheelDownloads;
use crate::plan::ids::AccountIds;
use crate::plan::observed::{Seen, TreeDifference};
use crate::problem::{Context, Problem, Result};
use verify::verify_hash;

/// The name of a virtual environment among the footprints.
pub(crate) fn footprint_name(id: &str) -> String {
    format!("venv-{id}")
}

/// Names of the virtual environments on the disk, sorted.
pub(crate) fn installed_venvs(paths: &InstancePaths) -> Vec<VenvId> {
    crate::host::content_ids(&paths.venvs_dir())
}

/// What is off; `None` if there is no such folder.
pub(crate) fn check_venv(
    paths: &InstancePaths,
    spec: &VenvSpec,
    ids: &AccountIds,
    readings: &VerificationCache,
) -> Seen<Option<Vec<TreeDifference>>> {
    let id = spec.id();
    with_list(
        &id,
        &paths.venv_dir(&id),
        &paths.venv_list(&id),
        &spec.site_packages(),
        |l| l.check_folder(ids, readings),
    )
}

fn with_list<T>(
    id: &str,
    folder: &Path,
    list: &Path,
    site: &str,
    with: impl FnOnce(&SealedFolder) -> T,
) -> T {
    with(&SealedFolder {
        folder,
        name: footprint_name(id),
        list,
        frame: &[site],
    })
}

/// Wheels that were fetched, below the store.
pub(crate) fn wheel_store(paths: &InstancePaths) -> PathBuf {
    paths.store_dir().join("wheels")
}

/// Leaves a sealed virtual environment at `Paths::staged_venv`, and its list among the records.
///
/// # Errors
/// What could not be fetched, unpacked, verified or written.
pub(crate) fn build_venv(
    b: &mut GenerationBuilder,
    spec: &VenvSpec,
    reuse: &[VenvId],
) -> Result<()> {
    let staged = b.paths.staged_venv(&spec.id());
    b.in_job(&staged, |b, job| make_staged(b, spec, reuse, job, &staged))
}

fn make_staged(
    b: &mut GenerationBuilder,
    spec: &VenvSpec,
    reuse: &[VenvId],
    job: &Path,
    staged: &Path,
) -> Result<()> {
    // Of an older comfy, which had uv unpack: nothing reads it any more.
    edit::remove_path(&b.paths.store_dir().join("uv-cache"))
        .context("clear what an older comfy kept")?;
    let earlier: Vec<EarlierVenv> = reuse
        .iter()
        .map(|id| EarlierVenv::read(b, id, spec))
        .collect();
    let shared = shared_packages(&earlier, spec);
    let have: BTreeSet<String> = shared
        .keys()
        .map(|key| file_owners::split_key(key).0.to_string())
        .collect();
    let missing: Vec<&PackageInstall> = spec
        .packages
        .iter()
        .filter(|p| !have.contains(&p.key()))
        .collect();
    let local = local_wheels::copy_local(b, &missing)?;
    let work = BuildWork::Venv(Box::new(build_job::VenvJob {
        spec: spec.clone(),
        target: job.join("venv"),
        python: b.paths.current_link().join("venv/bin/python"),
        have: have.clone(),
        wheels: wheel_store(b.paths),
        local: local.clone(),
        net: b.net.clone(),
        offline: b.offline,
        disk: WheelDownloads::from_packages(missing.iter().copied()).disk_space(),
    }));
    let built = b.perform_job(&work);
    if let Some(local) = local {
        edit::remove_path(&local).with_context(|| format!("clear {}", local.display()))?;
    }
    let mut list: FileList = built?;
    b.take_over(job)?;
    let asked =
        |key: &str| key.is_empty() || missing.iter().any(|p| file_owners::is_package(key, p));
    if list.0.len() != missing.len() + 1 || !list.0.keys().all(|key| asked(key)) {
        return Err(Problem::new(
            "python: the build process did not build the packages that were requested",
        )
        .with_hint(
            "nothing was installed; this is a bug in comfy, or somebody changes files at the same \
                time",
        ));
    }
    let made = job.join("venv");
    seal_folder("the virtual environment", &made, &list, b.ids)?;
    for (key, from) in &shared {
        list.0.insert(
            (*key).to_string(),
            from.list.0.get(*key).cloned().unwrap_or_default(),
        );
    }
    file_owners::refuse_conflicts(
        file_owners::path_claims(&list).filter(|c| !c.key.is_empty()),
        &build_job::skeleton_paths(spec),
        &spec.site_packages(),
    )?;
    edit::move_to(&made, staged).with_context(|| format!("lay out {}", staged.display()))?;
    let (compiled, fresh) = link_shared(b, spec, &list, &shared, staged)?;
    list.0.insert(BYTECODE.into(), compiled);
    compile_sources(b, spec, &fresh, staged, &mut list)?;
    for e in earlier
        .iter()
        .filter(|e| e.bad.is_empty() && shared.values().any(|s| std::ptr::eq(*s, *e)))
    {
        b.readings
            .mark_linked(footprint_name(&e.id), e.folder.clone());
    }
    file_owners::overlap_warnings(&list)
        .iter()
        .for_each(|line| b.report.print_line(&format!("warning: {line}")));
    b.write_record(&b.paths.venv_list(&spec.id()), &list)?;
    b.readings.mark_verified(&footprint_name(&spec.id()));
    edit::sync_tree(staged).context("write the virtual environment to the disk")
}

/// Packages that an earlier environment has, with all of their files that will be seen.
fn shared_packages<'a>(
    earlier: &'a [EarlierVenv],
    spec: &VenvSpec,
) -> BTreeMap<&'a str, &'a EarlierVenv> {
    let packages: BTreeMap<String, &PackageInstall> =
        spec.packages.iter().map(|p| (p.key(), p)).collect();
    let wanted = |key: &str| {
        packages
            .get(file_owners::split_key(key).0)
            .is_some_and(|p| file_owners::is_package(key, p))
    };
    // What may be refused now is read again from its wheel.
    let starts = |key: &str, items: &BTreeMap<String, ListedFile>| {
        let package = packages.get(file_owners::split_key(key).0);
        let name = package.map_or("", |p| p.name.as_str());
        let is_startup = |path: &String| path_files::startup_file(path, name).is_some();
        items.keys().any(is_startup)
    };
    let mut known: BTreeMap<&String, &BTreeMap<String, ListedFile>> = BTreeMap::new();
    for (key, items) in earlier
        .iter()
        .flat_map(|e| &e.list.0)
        .filter(|(key, items)| wanted(key) && !starts(key, items))
    {
        known.entry(key).or_insert(items);
    }
    let whole = |key: &str, e: &EarlierVenv| {
        !file_owners::lacks_files(key, e.lost.get(key), known.iter().map(|(k, i)| (*k, *i)))
    };
    let from = |key: &'a String| {
        Some((
            key.as_str(),
            earlier
                .iter()
                .find(|e| e.list.0.contains_key(key) && whole(key, e))?,
        ))
    };
    let mut once = BTreeSet::new();
    known
        .keys()
        .filter_map(|key| from(key))
        .filter(|(key, _)| once.insert(file_owners::split_key(key).0))
        .collect()
}

/// Bytecode by path.
type Compiled = BTreeMap<String, ListedFile>;

/// Links what older environments have, then their bytecode of it; that bytecode, and the sources
/// that have none yet.
fn link_shared(
    b: &GenerationBuilder,
    spec: &VenvSpec,
    list: &FileList,
    shared: &BTreeMap<&str, &EarlierVenv>,
    staged: &Path,
) -> Result<(Compiled, Vec<String>)> {
    let site = format!("{}/", spec.site_packages());
    let (mut compiled, mut fresh, mut folders) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
    let by_path = list.by_path();
    let mut link = |from: &Path, path: &str, item: &ListedFile| -> Result<()> {
        let (from, to) = (from.join(path), staged.join(path));
        let parent = path.rsplit_once('/').map_or("", |(p, _)| p).to_string();
        if folders.insert(parent.clone()) {
            b.make_folder(&staged.join(&parent), staged)?;
        }
        let doing = || format!("share {}", from.display());
        match link_file(&from, &to) {
            // A wheel that was unpacked now brings it too.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                edit::remove_path(&to)
                    .and_then(|()| link_file(&from, &to))
                    .with_context(doing)?;
                if matches!(item, ListedFile::File(..)) {
                    verify_hash(&to, item)
                } else {
                    Ok(())
                }
            }
            other => other.with_context(doing),
        }
    };
    for (path, (key, item)) in &by_path {
        match (shared.get(key), item) {
            (Some(_), ListedFile::Folder) => b.make_folder(&staged.join(path), staged)?,
            (Some(e), _) => link(&e.folder, path, item)?,
            (None, _) => {}
        }
    }
    // Only now: what comfy compiled is never under a package's file.
    for (path, (key, item)) in &by_path {
        if !(path.starts_with(&site)
            && path.ends_with(".py")
            && matches!(item, ListedFile::File(..)))
        {
            continue;
        }
        let target = bytecode::bytecode_path(Path::new(path), &spec.interpreter);
        if !bytecode::name_fits(&target) {
            continue;
        }
        let target = target.display().to_string();
        match shared
            .get(key)
            .map(|e| (e, e.list.0.get(BYTECODE).and_then(|l| l.get(&target))))
        {
            Some((e, Some(is))) if !e.bad.contains(&crate::text::escape_text(&target)) => {
                link(&e.folder, &target, is)?;
                verify_hash(&staged.join(&target), is)?;
                compiled.insert(target, is.clone());
            }
            // It did not compile.
            Some((_, None)) => {}
            _ => fresh.push((*path).to_string()),
        }
    }
    Ok((compiled, fresh))
}

/// Compiles sealed sources, each to a file of its own that is sealed in turn.
fn compile_sources(
    b: &mut GenerationBuilder,
    spec: &VenvSpec,
    sources: &[String],
    staged: &Path,
    list: &mut FileList,
) -> Result<()> {
    if sources.is_empty() {
        return Ok(());
    }
    let job = bytecode::CompileJob {
        interpreter: spec.interpreter.clone(),
        top: staged.to_path_buf(),
        sources: sources.to_vec(),
        target: b
            .paths
            .staging_dir()
            .join(format!("job-{}-bytecode", std::process::id())),
    };
    b.job_folder(&job.target)?;
    let made = b
        .perform_job::<()>(&BuildWork::Bytecode(job.clone()))
        .and_then(|()| b.take_over(&job.target))
        .and_then(|()| {
            let made =
                open_dir(&job.target).with_context(|| format!("open {}", job.target.display()))?;
            // Sources come by folder: each is opened once, or a few times.
            let mut folder: Option<(PathBuf, OwnedFd)> = None;
            for (n, source) in sources.iter().enumerate() {
                let to = bytecode::bytecode_path(Path::new(source), &spec.interpreter);
                let (name, doing) = (
                    |p: &Path| c_string(p.file_name().unwrap_or_default()),
                    || format!("seal the bytecode of {source}"),
                );
                let (from, name) = (
                    name(&job.output_path(n)).with_context(doing)?,
                    name(&to).with_context(doing)?,
                );
                let (file, size) = match open_plain_at(&made, &from, b.ids) {
                    Ok(opened) => opened,
                    // What does not compile has none.
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                    Err(e) => {
                        return Err(
                            Problem::new(format!("could not {}: {e}", doing())).caused_by(&e)
                        );
                    }
                };
                let item = ListedFile::File(
                    size,
                    file_list::hash_file(file, size).with_context(doing)?,
                    false,
                );
                let parent = staged.join(to.parent().unwrap_or(Path::new("")));
                if folder.as_ref().is_none_or(|(at, _)| *at != parent) {
                    b.make_folder(&parent, staged)?;
                    let fd = open_dir(&parent).with_context(doing)?;
                    folder = Some((parent, fd));
                }
                let Some((_, fd)) = &folder else { continue };
                nix::fcntl::renameat(&made, from.as_c_str(), fd, name.as_c_str())
                    .with_context(doing)?;
                list.0
                    .entry(BYTECODE.into())
                    .or_default()
                    .insert(to.display().to_string(), item);
            }
            Ok(())
        });
    edit::remove_path(&job.target).with_context(|| format!("clear {}", job.target.display()))?;
    made
}

/// An older environment of the same Python.
struct EarlierVenv {
    id: String,
    folder: PathBuf,
    list: FileList,
    /// Paths that are not as they should be, as they are shown.
    bad: BTreeSet<String>,
    /// Files of packages that are not there as these have them: another one has its own there, or
    /// somebody changed them.
    lost: BTreeMap<String, BTreeSet<String>>,
}

impl EarlierVenv {
    /// With nothing in it where it cannot be looked at.
    fn read(b: &GenerationBuilder, id: &str, spec: &VenvSpec) -> EarlierVenv {
        let at = b.paths.venv_list(id);
        let mut list = FileList::load(&at).unwrap_or_default();
        let folder = b.paths.venv_dir(id);
        let site = spec.site_packages();
        let sealed = SealedTree::open(&folder, footprint_name(id), b.ids.seal, b.ids.seal_gid)
            .ok()
            .flatten();
        let bad = match sealed {
            Some(s) if s.is_unchanged(b.readings).unwrap_or(false) => Some(BTreeSet::new()),
            Some(s) => with_list(id, &folder, &at, &site, |l| {
                l.compare_with(&s, &list, &b.ids, false)
            })
            .ok()
            .map(|found| found.into_iter().map(|(_, f)| f.path).collect()),
            None => None,
        };
        // Of another minor version nothing fits.
        if bad.is_none()
            || !list
                .0
                .values()
                .any(|items| items.keys().any(|p| p.starts_with(&site)))
        {
            list = FileList::default();
        }
        list.0.remove("");
        // An older comfy installed bytecode of wheels: such a package is unpacked anew, without it.
        list.0.retain(|key, items| {
            key == BYTECODE
                || !items
                    .iter()
                    .any(|(path, item)| wheel::is_bytecode(path, *item == ListedFile::Folder))
        });
        let bad = bad.unwrap_or_default();
        let mut lost: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let there = list.by_path();
        for (key, path, item) in list
            .0
            .iter()
            .flat_map(|(key, items)| items.iter().map(move |(p, i)| (key, p, i)))
        {
            if there.get(path.as_str()).is_none_or(|(_, is)| *is != item)
                || bad.contains(&crate::text::escape_text(path))
            {
                lost.entry(key.clone()).or_default().insert(path.clone());
            }
        }
        EarlierVenv {
            id: id.into(),
            folder,
            list,
            bad,
            lost,
        }
    }
}
