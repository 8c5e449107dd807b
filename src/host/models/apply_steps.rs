//! The two steps of an apply that handle models: downloading and verifying them, and installing
//! them in their shares.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use nix::sys::stat::FileStat;
use nix::unistd::{Gid, Uid};
use rayon::prelude::*;

use super::content_hash::{self, ContentHasher};
use super::install::{self, VerifiedFile};
use super::verified_hashes::{Hashes, Key};
use super::{ModelHubs, build_job};
use crate::desired::below_home;
use crate::host::build::GenerationBuilder;
use crate::host::build::work::BuildWork;
use crate::host::fs::{acl, as_mode, edit};
use crate::lock::{FileDigests, ModelOrigin, Sha256Digest};
use crate::plan::ids::AccountIds;
use crate::plan::model_summary::ModelFetch;
use crate::plan::observed::ShareSpec;
use crate::problem::{Context, Problem, Result};
use crate::progress::{ProgressUnit, Reporter};

/// Files that were verified in this process, and their paths.
pub(crate) struct StagedModel {
    path: PathBuf,
    key: Key,
    /// True if it is in comfy's own folder, from which it may be moved.
    staged: bool,
}

impl StagedModel {
    /// Where its bytes are.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Ensures that every model's content is on this machine; what exists already is not downloaded.
///
/// # Errors
/// Every model that is not available, with the reason; no share was changed.
pub(crate) fn fetch_models(
    b: &mut GenerationBuilder,
    hubs: &ModelHubs,
    items: &[ModelFetch],
) -> Result<BTreeMap<Sha256Digest, StagedModel>> {
    ensure_writable(items)?;
    let folder = b.paths.downloads_dir();
    let owner = model_owner(b.ids)?;
    let unique: Vec<&ModelFetch> = items
        .iter()
        .map(|f| (f.sha256, f))
        .collect::<BTreeMap<_, _>>()
        .into_values()
        .collect();
    let found: Vec<Result<Option<StagedModel>>> = unique
        .par_iter()
        .with_max_len(1)
        .map(|f| find_local(f, &owner, b.ids, b.report))
        .collect();
    let (mut ready, mut missing, mut problems) = (BTreeMap::new(), Vec::new(), Vec::new());
    for (f, r) in unique.iter().zip(found) {
        match r {
            Ok(Some(r)) => drop(ready.insert(f.sha256, r)),
            Ok(None) => missing.push(*f),
            Err(p) => problems.push(p.with_prefix(&format!("{}: ", f.address))),
        }
    }
    if !problems.is_empty() {
        return Err(Problem::from_many(problems));
    }
    if missing.is_empty() {
        return Ok(ready);
    }
    if b.offline
        && missing.iter().any(|f| {
            build_job::whole_path(&folder, f.sha256)
                .symlink_metadata()
                .is_err()
        })
    {
        let why = |f: &&ModelFetch| {
            Problem::new(format!(
                "{}: is not on this machine, and comfy is offline",
                f.address
            ))
            .with_hint("run it once without --offline")
        };
        return Err(Problem::from_many(missing.iter().map(why).collect()));
    }
    b.make_downloads()?;
    let item = |f: &&ModelFetch| {
        let source = f.source.clone().unwrap_or_default();
        build_job::ModelDownload {
            address: f.address.to_string(),
            source,
            revision: f.revision.clone(),
            size: f.size,
            sha256: f.sha256,
        }
    };
    let job = build_job::ModelsJob {
        folder: folder.clone(),
        net: b.net.clone(),
        hubs: hubs.clone(),
        items: missing.iter().map(item).collect(),
    };
    b.perform_job::<()>(&BuildWork::Models(Box::new(job)))?;
    let (ids, report) = (b.ids, b.report);
    let taken: Vec<Result<StagedModel>> = missing
        .par_iter()
        .with_max_len(1)
        .map(|f| take_fetched(f, &build_job::whole_path(&folder, f.sha256), ids, report))
        .collect();
    for (f, r) in missing.iter().zip(taken) {
        match r {
            Ok(r) => drop(ready.insert(f.sha256, r)),
            Err(p) => problems.push(p.with_prefix(&format!("{}: ", f.address))),
        }
    }
    if problems.is_empty() {
        Ok(ready)
    } else {
        Err(Problem::from_many(problems))
    }
}

/// Checks what would fail before the first byte: folders without write access, disks that are too
/// full.
fn ensure_writable(items: &[ModelFetch]) -> Result<()> {
    let mut problems = Vec::new();
    let mut need: BTreeMap<&Path, u64> = BTreeMap::new();
    for f in items {
        *need.entry(&f.share.path).or_default() += f.size;
        if let Err((folder, e)) = install::check_writable(&f.share, &f.path) {
            problems.push(
                Problem::new(format!(
                    "{}: no file can be created in {}: {}",
                    f.address,
                    folder.display(),
                    e.desc()
                ))
                .with_hint("nothing was fetched"),
            );
        }
    }
    if problems.is_empty() {
        need.into_iter()
            .try_for_each(|(folder, bytes)| build_job::ensure_room(folder, bytes))
    } else {
        Err(Problem::from_many(problems))
    }
}

/// Whose files may be copied, and that user's cache.
struct ModelOwner {
    uid: u32,
    home: PathBuf,
    cache: Option<PathBuf>,
}

fn model_owner(ids: AccountIds) -> Result<ModelOwner> {
    let user =
        nix::unistd::User::from_uid(Uid::from_raw(ids.owner)).context("look up the owner")?;
    let own = nix::unistd::geteuid().as_raw() == ids.owner;
    let home = user
        .map(|u| u.dir)
        .filter(|_| !own)
        .or_else(crate::host::env::home_dir)
        .unwrap_or_default();
    let theirs = home.join(if crate::host::machine::operating_system().is_macos() {
        "Library/Caches/comfy"
    } else {
        ".cache/comfy"
    });
    Ok(ModelOwner {
        uid: ids.owner,
        home,
        cache: if own {
            crate::host::env::cache_home()
        } else {
            Some(theirs)
        },
    })
}

impl ModelOwner {
    /// Allows the owner's own files, and those that everybody may read.
    fn may_read(&self, st: &FileStat) -> bool {
        st.st_uid == self.uid || crate::host::fs::permission_bits(st) & 0o004 != 0
    }
}

/// Finds a file of this machine with the wanted content; `None` if it has to be downloaded.
fn find_local(
    f: &ModelFetch,
    owner: &ModelOwner,
    ids: AccountIds,
    report: &dyn Reporter,
) -> Result<Option<StagedModel>> {
    let progress = report.start_counted(&f.address.to_string(), ProgressUnit::Bytes);
    let shared = |st: &FileStat| owner.may_read(st) || st.st_uid == ids.sandbox;
    let look = |path: &Path,
                allowed: &dyn Fn(&FileStat) -> bool|
     -> std::io::Result<std::result::Result<StagedModel, String>> {
        let file = install::open_regular(path, allowed)?;
        let size = file.metadata()?.len();
        if size != f.size {
            return Ok(Err(format!(
                "has {size} bytes, but comfy.lock says {}",
                f.size
            )));
        }
        let ready = |g: VerifiedFile| StagedModel {
            path: path.into(),
            key: g.key,
            staged: false,
        };
        Ok(
            install::verify_content(file, f.size, f.sha256, progress.as_ref())?
                .map(ready)
                .map_err(|sum| format!("has sha256 {sum}, but comfy.lock says {}", f.sha256)),
        )
    };
    let cached = owner
        .cache
        .iter()
        .map(|c| super::resolver::cached_model(c, f.sha256));
    for path in f.copies.iter().cloned().chain(cached) {
        match look(&path, &shared) {
            Ok(Ok(r)) => return Ok(Some(r)),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {
                return Err(Problem::interrupted());
            }
            // A candidate that cannot be read, or is another file, does not count.
            _ => {}
        }
    }
    match f.source.as_deref().and_then(ModelOrigin::parse) {
        Some(ModelOrigin::File(path)) => {
            let path = below_home(&owner.home, &path);
            let shown = crate::text::escape_text(&path.to_string_lossy());
            let real = crate::host::fs::real_path(&path, owner.uid).map_err(Problem::from)?;
            super::ensure_allowed(Some(&owner.home), &path, &real)?;
            match look(&real, &|st| owner.may_read(st)) {
                Ok(Ok(r)) => Ok(Some(r)),
                Ok(Err(why)) => Err(Problem::new(format!("{shown} {why}")).with_hint(
                    "if the new file is meant, `comfy update` this model; nothing was put in place",
                )),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {
                    Err(Problem::interrupted())
                }
                Err(e) => Err(Problem::new(format!("{shown}: {e}"))
                    .caused_by(&e)
                    .with_hint(
                        "the source no longer exists or is not public: correct it in comfy.toml",
                    )),
            }
        }
        Some(_) => Ok(None),
        None => Err(Problem::new(
            "comfy.lock has no source for it, and no file of its size in the shares has its sha256",
        )
        .with_hint("put it back, or name a `source`")),
    }
}

/// Takes over a downloaded file from the build uid, which has no process left, and reads every
/// byte.
fn take_fetched(
    f: &ModelFetch,
    path: &Path,
    ids: AccountIds,
    report: &dyn Reporter,
) -> Result<StagedModel> {
    let doing = || format!("take over {}", path.display());
    let me = nix::unistd::geteuid().as_raw();
    #[allow(clippy::useless_conversion, reason = "nlink_t has 16 bits on macOS")]
    let file = install::open_regular(path, &|st| {
        (st.st_uid == ids.build || st.st_uid == me) && u64::from(st.st_nlink) == 1
    })
    .with_context(doing)?;
    if me == 0 {
        acl::drop_all(&file);
        nix::unistd::fchown(
            &file,
            Some(Uid::from_raw(ids.seal)),
            Some(Gid::from_raw(ids.seal_gid)),
        )
        .with_context(doing)?;
        nix::sys::stat::fchmod(&file, as_mode(0o600)).with_context(doing)?;
    }
    let progress = report.start_counted(&f.address.to_string(), ProgressUnit::Bytes);
    match install::verify_content(file, f.size, f.sha256, progress.as_ref()) {
        Ok(Ok(g)) => Ok(StagedModel {
            path: path.into(),
            key: g.key,
            staged: true,
        }),
        Ok(Err(sum)) => {
            edit::remove_path(path).with_context(|| format!("remove {}", path.display()))?;
            Err(Problem::new(format!(
                "the downloaded file has sha256 {sum}, but comfy.lock says {}",
                f.sha256
            ))
            .with_hint("nothing was put in place; run it again"))
        }
        Err(e) if e.kind() == std::io::ErrorKind::Interrupted => Err(Problem::interrupted()),
        Err(e) => {
            Err(Problem::new(format!("could not read {}: {e}", path.display())).caused_by(&e))
        }
    }
}

/// Models that were installed, with their stat data.
pub(crate) type Placed = Vec<(PathBuf, Key, Sha256Digest)>;

/// Installs a model in its share.
///
/// # Errors
/// If it cannot be written; the share then has the old file, or none.
pub(crate) fn put_model(
    ready: &mut BTreeMap<Sha256Digest, StagedModel>,
    share: &ShareSpec,
    path: &str,
    sha256: Sha256Digest,
    kept: Option<&str>,
    placed: &mut Placed,
) -> Result<Option<PathBuf>> {
    let target = share.path.join(path);
    let doing = || format!("put {} in place", target.display());
    let r = ready
        .get_mut(&sha256)
        .ok_or_else(|| Problem::new(format!("could not {}: it was not fetched", doing())))?;
    crate::host::shares::mount_ready(share).map_err(Problem::from)?;
    let file = install::open_regular(&r.path, &|_| true).with_context(doing)?;
    if Key::of(&nix::sys::stat::fstat(&file).with_context(doing)?) != r.key && r.staged {
        return Err(Problem::new(format!(
            "could not {}: {} changed since it was verified",
            doing(),
            r.path.display()
        )));
    }
    let good = VerifiedFile { file, key: r.key };
    let kept = match kept {
        Some(ending) => install::keep_aside(share, path, ending)
            .with_context(|| format!("keep what is at {}", target.display()))?,
        None => None,
    };
    let st = install::put_file(
        share,
        path,
        &good,
        sha256,
        r.staged.then_some(r.path.as_path()),
    )
    .with_context(doing)?;
    if r.staged {
        edit::remove_path(&r.path).with_context(|| format!("clear {}", r.path.display()))?;
    }
    // The next one of the same content is copied from here.
    *r = StagedModel {
        path: target.clone(),
        key: Key::of(&st),
        staged: false,
    };
    placed.push((target, Key::of(&st), sha256));
    Ok(kept)
}

/// Records the hashes of installed models that have not changed since.
pub(crate) fn mark_placed(placed: &Placed, hashes: &Hashes) {
    let now = crate::host::sealed::stat_cache::now_ns();
    for (path, key, sha256) in placed {
        if let Ok(st) = nix::sys::stat::lstat(path)
            && Key::of(&st) == *key
        {
            hashes.add(&st, FileDigests::from(*sha256), now);
        }
    }
}

/// Reads the files in which the caller found other content, so that both sides make the same plan.
pub(crate) fn reread_files(
    paths: &[PathBuf],
    owner: u32,
    sandbox: u32,
    hashes: &Hashes,
    report: &dyn Reporter,
) {
    let unique: BTreeSet<&PathBuf> = paths.iter().collect();
    unique.into_par_iter().for_each(|path| {
        let began = crate::host::sealed::stat_cache::now_ns();
        let allowed = |st: &FileStat| {
            st.st_uid == owner
                || st.st_uid == sandbox
                || crate::host::fs::permission_bits(st) & 0o004 != 0
        };
        let Ok(file) = install::open_regular(path, &allowed) else {
            return;
        };
        let Ok(st) = nix::sys::stat::fstat(&file) else {
            return;
        };
        let progress = report.start_counted(&path.display().to_string(), ProgressUnit::Bytes);
        let mut done = 0;
        let size = u64::try_from(st.st_size).unwrap_or(0).max(1);
        let read = content_hash::whole(&file, ContentHasher::sha256(), &mut |n| {
            done += n;
            progress.set_position(done, size);
        });
        // What cannot be read stays unknown.
        if let Ok((_, found)) = read {
            hashes.add(&st, found, began);
        }
    });
}
