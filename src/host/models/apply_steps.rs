//! The two steps of an apply that are about models: having their bytes, verified, and putting them
//! into their shares.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use nix::sys::stat::FileStat;
use nix::unistd::{Gid, Uid};
use rayon::prelude::*;

use super::install::{self, Good};
use super::verified_hashes::{Hashes, Key};
use super::{Hubs, build_job};
use crate::host::build::Builder;
use crate::host::build::work::Work;
use crate::host::fs::{acl, edit, mode};
use crate::lock::{Origin, Sha};
use crate::plan::ids::Ids;
use crate::plan::model_summary::Fetch;
use crate::plan::observed::ShareSpec;
use crate::problem::{Doing, Problem, Result};
use crate::progress::{Reporter, Unit};

/// Bytes that were verified in this process, and where they are.
pub struct Ready {
    path: PathBuf,
    key: Key,
    /// In comfy's own folder, from where it may be moved.
    staged: bool,
}

/// Has every model's bytes on this machine, whichever way: what is there already is not fetched.
///
/// # Errors
/// Every model that cannot be had, with the reason; no share was touched.
pub fn fetch(b: &mut Builder, hubs: &Hubs, items: &[Fetch]) -> Result<BTreeMap<Sha, Ready>> {
    admit(items)?;
    let folder = b.paths.downloads();
    let owner = owner(b.ids)?;
    let unique: Vec<&Fetch> = items
        .iter()
        .map(|f| (f.sha256, f))
        .collect::<BTreeMap<_, _>>()
        .into_values()
        .collect();
    let found: Vec<Result<Option<Ready>>> = unique
        .par_iter()
        .with_max_len(1)
        .map(|f| local(f, &owner, b.ids, b.report))
        .collect();
    let (mut ready, mut missing, mut problems) = (BTreeMap::new(), Vec::new(), Vec::new());
    for (f, r) in unique.iter().zip(found) {
        match r {
            Ok(Some(r)) => drop(ready.insert(f.sha256, r)),
            Ok(None) => missing.push(*f),
            Err(p) => problems.push(p.prefixed(&format!("{}: ", f.address))),
        }
    }
    if !problems.is_empty() {
        return Err(Problem::all(problems));
    }
    if missing.is_empty() {
        return Ok(ready);
    }
    if b.offline
        && missing.iter().any(|f| {
            build_job::whole(&folder, f.sha256)
                .symlink_metadata()
                .is_err()
        })
    {
        let why = |f: &&Fetch| {
            Problem::new(format!(
                "{}: is not on this machine, and comfy is offline",
                f.address
            ))
            .hint("run it once without --offline")
        };
        return Err(Problem::all(missing.iter().map(why).collect()));
    }
    b.make_downloads()?;
    let item = |f: &&Fetch| {
        let source = f.source.clone().unwrap_or_default();
        build_job::Item {
            address: f.address.clone(),
            source,
            revision: f.revision.clone(),
            size: f.size,
            sha256: f.sha256,
        }
    };
    let job = build_job::Job {
        folder: folder.clone(),
        net: b.net.clone(),
        hubs: hubs.clone(),
        items: missing.iter().map(item).collect(),
    };
    b.perform::<()>(&Work::Models(Box::new(job)))?;
    let (ids, report) = (b.ids, b.report);
    let taken: Vec<Result<Ready>> = missing
        .par_iter()
        .with_max_len(1)
        .map(|f| take(f, &build_job::whole(&folder, f.sha256), ids, report))
        .collect();
    for (f, r) in missing.iter().zip(taken) {
        match r {
            Ok(r) => drop(ready.insert(f.sha256, r)),
            Err(p) => problems.push(p.prefixed(&format!("{}: ", f.address))),
        }
    }
    if problems.is_empty() {
        Ok(ready)
    } else {
        Err(Problem::all(problems))
    }
}

/// What can be known to fail before the first byte: folders that take no file, disks that are too
/// full.
fn admit(items: &[Fetch]) -> Result<()> {
    let mut problems = Vec::new();
    let mut need: BTreeMap<&Path, u64> = BTreeMap::new();
    for f in items {
        *need.entry(&f.share.path).or_default() += f.size;
        if let Err((folder, e)) = install::writable(&f.share, &f.path) {
            problems.push(
                Problem::new(format!(
                    "{}: {} takes no new file: {}",
                    f.address,
                    folder.display(),
                    e.desc()
                ))
                .hint("nothing was fetched"),
            );
        }
    }
    if problems.is_empty() {
        need.into_iter()
            .try_for_each(|(folder, bytes)| build_job::room(folder, bytes))
    } else {
        Err(Problem::all(problems))
    }
}

/// Whose files may be copied, and where that person's cache is.
struct Owner {
    uid: u32,
    home: PathBuf,
    cache: Option<PathBuf>,
}

fn owner(ids: Ids) -> Result<Owner> {
    let user = nix::unistd::User::from_uid(Uid::from_raw(ids.owner))
        .doing(|| "look up the owner".into())?;
    let own = nix::unistd::geteuid().as_raw() == ids.owner;
    let home = user
        .map(|u| u.dir)
        .filter(|_| !own)
        .or_else(crate::host::env::home)
        .unwrap_or_default();
    let theirs = home.join(if cfg!(target_os = "macos") {
        "Library/Caches/comfy"
    } else {
        ".cache/comfy"
    });
    Ok(Owner {
        uid: ids.owner,
        home,
        cache: if own {
            crate::host::env::cache_home()
        } else {
            Some(theirs)
        },
    })
}

impl Owner {
    /// The owner's own files, and those that everybody may read.
    fn may_read(&self, st: &FileStat) -> bool {
        st.st_uid == self.uid || crate::host::fs::bits(st) & 0o004 != 0
    }
}

/// A file of this machine that has the wanted content; `None` where it has to be fetched.
fn local(f: &Fetch, owner: &Owner, ids: Ids, report: &dyn Reporter) -> Result<Option<Ready>> {
    let progress = report.work(&f.address, Unit::Bytes);
    let shared = |st: &FileStat| owner.may_read(st) || st.st_uid == ids.sandbox;
    let look = |path: &Path,
                allowed: &dyn Fn(&FileStat) -> bool|
     -> std::io::Result<std::result::Result<Ready, String>> {
        let file = install::open(path, allowed)?;
        let size = file.metadata()?.len();
        if size != f.size {
            return Ok(Err(format!(
                "has {size} bytes, and comfy.lock says {}",
                f.size
            )));
        }
        let ready = |g: Good| Ready {
            path: path.into(),
            key: g.key,
            staged: false,
        };
        Ok(install::verify(file, f.size, f.sha256, progress.as_ref())?
            .map(ready)
            .map_err(|sum| format!("has sha256 {sum}, and comfy.lock says {}", f.sha256)))
    };
    let cached = owner
        .cache
        .iter()
        .map(|c| super::resolver::cached(c, f.sha256));
    for path in f.copies.iter().cloned().chain(cached) {
        match look(&path, &shared) {
            Ok(Ok(r)) => return Ok(Some(r)),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {
                return Err(Problem::interrupted());
            }
            // A candidate that cannot be read, or is another file, is none.
            _ => {}
        }
    }
    match f.source.as_deref().and_then(Origin::parse) {
        Some(Origin::File(path)) => {
            let path = path
                .strip_prefix("~/")
                .map_or_else(|| PathBuf::from(&path), |rest| owner.home.join(rest));
            let shown = crate::text::escape(&path.to_string_lossy());
            let real = crate::host::fs::real(&path, owner.uid).map_err(Problem::from)?;
            super::allowed(Some(&owner.home), &path, &real)?;
            match look(&real, &|st| owner.may_read(st)) {
                Ok(Ok(r)) => Ok(Some(r)),
                Ok(Err(why)) => Err(Problem::new(format!("{shown} {why}")).hint(
                    "if the new file is meant, `comfy update` this model; nothing was put in place",
                )),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {
                    Err(Problem::interrupted())
                }
                Err(e) => Err(Problem::new(format!("{shown}: {e}"))
                    .caused_by(&e)
                    .hint("the source is gone or closed: correct it in comfy.toml")),
            }
        }
        Some(_) => Ok(None),
        None => Err(Problem::new(
            "comfy.lock knows no source, and no file of its size in the shares has its sha256",
        )
        .hint("put it back, or name a `source`")),
    }
}

/// Takes a fetched file from the build uid, of which no process is left, and reads every byte.
fn take(f: &Fetch, path: &Path, ids: Ids, report: &dyn Reporter) -> Result<Ready> {
    let doing = || format!("take over {}", path.display());
    let me = nix::unistd::geteuid().as_raw();
    #[allow(clippy::useless_conversion, reason = "nlink_t has 16 bits on macOS")]
    let file = install::open(path, &|st| {
        (st.st_uid == ids.build || st.st_uid == me) && u64::from(st.st_nlink) == 1
    })
    .doing(doing)?;
    if me == 0 {
        acl::drop_all(&file);
        nix::unistd::fchown(
            &file,
            Some(Uid::from_raw(ids.seal)),
            Some(Gid::from_raw(ids.seal_gid)),
        )
        .doing(doing)?;
        nix::sys::stat::fchmod(&file, mode(0o600)).doing(doing)?;
    }
    let progress = report.work(&f.address, Unit::Bytes);
    match install::verify(file, f.size, f.sha256, progress.as_ref()) {
        Ok(Ok(g)) => Ok(Ready {
            path: path.into(),
            key: g.key,
            staged: true,
        }),
        Ok(Err(sum)) => {
            edit::remove_path(path).doing(|| format!("remove {}", path.display()))?;
            Err(Problem::new(format!(
                "what was fetched has sha256 {sum}, and comfy.lock says {}",
                f.sha256
            ))
            .hint("nothing was put in place; run it again"))
        }
        Err(e) if e.kind() == std::io::ErrorKind::Interrupted => Err(Problem::interrupted()),
        Err(e) => {
            Err(Problem::new(format!("could not read {}: {e}", path.display())).caused_by(&e))
        }
    }
}

/// Models that were put in place, with what stat said then.
pub type Placed = Vec<(PathBuf, Key, Sha)>;

/// Puts one model into its share.
///
/// # Errors
/// What could not be written; the share has the old file then, or none.
pub fn put(
    ready: &mut BTreeMap<Sha, Ready>,
    share: &ShareSpec,
    path: &str,
    sha256: Sha,
    kept: Option<&str>,
    placed: &mut Placed,
) -> Result<Option<PathBuf>> {
    let target = share.path.join(path);
    let doing = || format!("put {} in place", target.display());
    let r = ready
        .get_mut(&sha256)
        .ok_or_else(|| Problem::new(format!("could not {}: it was not fetched", doing())))?;
    crate::host::shares::mount_ready(share).map_err(Problem::from)?;
    let file = install::open(&r.path, &|_| true).doing(doing)?;
    if Key::of(&nix::sys::stat::fstat(&file).doing(doing)?) != r.key && r.staged {
        return Err(Problem::new(format!(
            "could not {}: {} changed since it was verified",
            doing(),
            r.path.display()
        )));
    }
    let good = Good { file, key: r.key };
    let kept = match kept {
        Some(ending) => install::keep(share, path, ending)
            .doing(|| format!("keep what is at {}", target.display()))?,
        None => None,
    };
    let st = install::put(
        share,
        path,
        &good,
        sha256,
        r.staged.then_some(r.path.as_path()),
    )
    .doing(doing)?;
    if r.staged {
        edit::remove_path(&r.path).doing(|| format!("clear {}", r.path.display()))?;
    }
    // The next one of the same content is copied from here.
    *r = Ready {
        path: target.clone(),
        key: Key::of(&st),
        staged: false,
    };
    placed.push((target, Key::of(&st), sha256));
    Ok(kept)
}

/// Vouches for what was put in place, where nothing happened to it since.
pub fn settle(placed: &Placed, hashes: &Hashes) {
    let now = crate::host::sealed::stat_cache::now_ns();
    for (path, key, sha256) in placed {
        if let Ok(st) = nix::sys::stat::lstat(path)
            && Key::of(&st) == *key
        {
            hashes.add(&st, *sha256, now);
        }
    }
}

/// Reads files that the caller found to be something else, so that both sides plan the same.
pub fn reread(paths: &[PathBuf], owner: u32, sandbox: u32, hashes: &Hashes, report: &dyn Reporter) {
    let unique: BTreeSet<&PathBuf> = paths.iter().collect();
    unique.into_par_iter().for_each(|path| {
        let began = crate::host::sealed::stat_cache::now_ns();
        let allowed = |st: &FileStat| {
            st.st_uid == owner || st.st_uid == sandbox || crate::host::fs::bits(st) & 0o004 != 0
        };
        let Ok(file) = install::open(path, &allowed) else {
            return;
        };
        let Ok(st) = nix::sys::stat::fstat(&file) else {
            return;
        };
        let progress = report.work(&path.display().to_string(), Unit::Bytes);
        let mut done = 0;
        let size = u64::try_from(st.st_size).unwrap_or(0).max(1);
        let read = super::sha256::whole(&file, &mut |n| {
            done += n;
            progress.at(done, size);
        });
        // What cannot be read stays unknown.
        if let Ok((_, sum)) = read {
            hashes.add(&st, sum, began);
        }
    });
}
