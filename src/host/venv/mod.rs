//! Virtual environments: built beside the live one by an unprivileged process, sealed, compared with their list.
//!
//! [`work`] runs under the build uid; [`list`] is what it says is there. Unchanged packages are shared with older
//! environments by hard link.

pub mod list;
pub mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::path::Path;
use std::sync::Mutex;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FchmodatFlags, FileStat, fchmodat};
use nix::unistd::{Gid, Uid, fchownat};
use rayon::prelude::*;

use super::fs::cache::now_ns;
use super::fs::sealed::{Found, Readings, gather};
use super::fs::walk::{Folder, Visit, walk};
use super::fs::{bits, edit, footprint, kind, mode, open_dir};
use super::generation::{Builder, link_file, worker::Work};
use crate::plan::desired::Paths;
use crate::plan::facts::{Finding, Kind, Seen, Unknown, What};
use crate::plan::ids::Ids;
use crate::plan::venv::VenvSpec;
use crate::problem::{Doing, Problem, Result};
use list::{Item, List};

/// The name of a virtual environment among the footprints.
pub fn footprint_name(id: &str) -> String {
    format!("venv-{id}")
}

/// Names of the virtual environments on the disk, sorted.
pub fn present(paths: &Paths) -> Vec<String> {
    super::sixteen_digits(&paths.venvs())
}

/// What is off; `None` if there is no such folder.
pub fn check(paths: &Paths, spec: &VenvSpec, ids: &Ids, readings: &Readings) -> Seen<Option<Vec<Finding>>> {
    let id = spec.id();
    let folder = paths.venv(&id);
    let fd = match open_dir(&folder) {
        Ok(fd) => fd,
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => return Ok(None),
        Err(e) => return Err(Unknown { reason: format!("{}: {e}", folder.display()), root_can: e.kind() == std::io::ErrorKind::PermissionDenied }),
    };
    let root = nix::sys::stat::fstat(&fd).map_err(|e| super::fs::unreadable(&folder, e))?;
    let framed = root.st_uid == ids.seal && root.st_gid == ids.seal_gid && bits(&root) == 0o755;
    let again = || super::fs::open_dir_at(&fd, c".").map_err(|e| Unknown { reason: format!("{}: {e}", folder.display()), root_can: false });
    let (name, began) = (footprint_name(&id), now_ns());
    if let Some(known) = readings.known(&name).filter(|_| framed)
        && footprint::take(again()?, began).is_some_and(|is| is == *known)
    {
        readings.found_whole(&name, *known);
        return Ok(Some(Vec::new()));
    }
    let list = match std::fs::read(paths.venv_list(&id)) {
        Ok(text) => serde_json::from_slice::<List>(&text).unwrap_or_default(),
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            return Err(Unknown { reason: format!("{}: {e}", paths.venv_list(&id).display()), root_can: true });
        }
        Err(_) => List::default(),
    };
    let mut findings: Vec<Finding> = compare(&folder, &list, spec, ids, readings.is_vouched(&name))?.into_iter().map(|(_, f)| f).collect();
    if !framed {
        findings.push(Finding { path: ".".into(), what: What::Owner, detail: format!("uid {}, gid {}, mode {:04o}", root.st_uid, root.st_gid, bits(&root)) });
    }
    if findings.is_empty()
        && let Some(is) = footprint::take(again()?, began)
    {
        readings.found_whole(&name, is);
    }
    Ok(Some(findings))
}

/// Every difference with the package it belongs to. `vouched`: this process has sealed the content.
fn compare(folder: &Path, list: &List, spec: &VenvSpec, ids: &Ids, vouched: bool) -> Seen<Vec<(String, Finding)>> {
    let fd = open_dir(folder).map_err(|e| Unknown { reason: format!("{}: {e}", folder.display()), root_can: true })?;
    let (found, empty) = gather(&fd, folder)?;
    let wanted = list.by_path();
    let mut folders: BTreeSet<&str> = BTreeSet::new();
    let site = spec.site_packages();
    // Without any package it is empty, and there all the same.
    folders.insert(&site);
    for path in wanted.keys().copied().chain([site.as_str()]) {
        folders.extend(path.match_indices('/').map(|(i, _)| &path[..i]));
    }
    let seen: BTreeSet<&str> = found.iter().map(|f| f.path.as_str()).collect();
    let finding = |path: &str, what: What, detail: String| Finding { path: crate::text::escape(path), what, detail };
    let one = |f: &Found| -> Seen<Vec<(String, Finding)>> {
        let mut out = Vec::new();
        let item = wanted.get(f.path.as_str());
        let key = item.map_or("", |(k, _)| k).to_string();
        let mut note = |what, detail| out.push((key.clone(), finding(&f.path, what, detail)));
        if f.uid != ids.seal || f.gid != ids.seal_gid {
            note(What::Owner, format!("uid {}, gid {}", f.uid, f.gid));
        }
        match (f.kind, item.map(|(_, i)| *i)) {
            (Kind::Dir, None) if folders.contains(f.path.as_str()) => {
                if f.bits != 0o755 {
                    note(What::Mode, format!("{:04o}", f.bits));
                }
            }
            (Kind::Dir, None) if empty.contains(&f.path) => note(What::EmptyFolder, String::new()),
            (Kind::Dir, None) => {}
            (Kind::Link, Some(Item::Link(to))) => {
                if f.target.as_ref().is_none_or(|t| t.as_os_str() != to.as_str()) {
                    note(What::Link, String::new());
                }
            }
            (Kind::File, Some(Item::File(size, hash, exec))) => {
                if f.bits != if *exec { 0o755 } else { 0o644 } {
                    note(What::Mode, format!("{:04o}", f.bits));
                }
                let same = f.size() == *size && (vouched || content(&fd, &f.path, *size)? == *hash);
                if !same {
                    note(What::Edited, String::new());
                }
            }
            (_, None) => note(What::Added, String::new()),
            (_, Some(_)) => note(What::Replaced, String::new()),
        }
        Ok(out)
    };
    let mut out = Vec::new();
    for r in found.par_iter().with_min_len(16).map(one).collect::<Vec<_>>() {
        out.extend(r?);
    }
    out.extend(wanted.iter().filter(|(p, _)| !seen.contains(*p)).map(|(p, (k, _))| ((*k).to_string(), finding(p, What::Missing, String::new()))));
    out.sort_by(|a, b| a.1.path.cmp(&b.1.path));
    Ok(out)
}

fn content(dir: &std::os::fd::OwnedFd, path: &str, size: u64) -> Seen<String> {
    let flags = nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_CLOEXEC;
    let failed = |e: String| Unknown { reason: format!("{}: {e}", crate::text::escape(path)), root_can: true };
    let fd = nix::fcntl::openat(dir, path, flags, mode(0)).map_err(|e| failed(e.desc().into()))?;
    list::hash(std::fs::File::from(fd), size).map_err(|e| failed(e.to_string()))
}

/// Leaves a sealed virtual environment at `Paths::staged_venv`, and its list among the records.
///
/// # Errors
/// What could not be fetched, unpacked, verified or written.
pub fn build(b: &mut Builder, spec: &VenvSpec, reuse: &[String]) -> Result<()> {
    let id = spec.id();
    let staged = b.paths.staged_venv(&id);
    let job = b.paths.staging().join(format!("job-{}", std::process::id()));
    b.make_folders(&job)?;
    edit::remove_path(&staged).doing(|| format!("clear {}", staged.display()))?;
    let result = make(b, spec, reuse, &job, &staged);
    edit::remove_path(&job).doing(|| format!("clear {}", job.display()))?;
    if result.is_err() {
        edit::remove_path(&staged).doing(|| format!("clear {}", staged.display()))?;
    }
    result
}

fn make(b: &mut Builder, spec: &VenvSpec, reuse: &[String], job: &Path, staged: &Path) -> Result<()> {
    let wanted: BTreeSet<String> = spec.packages.iter().map(super::super::plan::venv::Install::key).collect();
    let mut old: BTreeMap<String, (String, BTreeMap<String, Item>)> = BTreeMap::new();
    let mut expected = BTreeMap::new();
    for id in reuse {
        for (key, items) in listed(b, id, spec) {
            expected.insert(key, list::digest(&items));
        }
        for (key, items) in good_packages(b, id, spec) {
            if wanted.contains(&key) {
                old.entry(key).or_insert((id.clone(), items));
            }
        }
    }
    let wheels = spec.packages.iter().filter(|p| !old.contains_key(&p.key()));
    let work = Work::Venv(Box::new(work::Job {
        spec: spec.clone(),
        target: job.join("venv"),
        python: b.paths.current().join("venv/bin/python"),
        have: old.keys().cloned().collect(),
        expected,
        cache: b.paths.store(),
        net: b.net.clone(),
        offline: b.offline,
        disk: (b.disk)(&wheels.cloned().collect::<Vec<_>>()),
    }));
    let mut list: List = b.perform(&work)?;
    b.take_over(job)?;
    let made = job.join("venv");
    seal(&made, &list, b.ids)?;
    edit::move_to(&made, staged).doing(|| format!("lay out {}", staged.display()))?;
    let mut folders = BTreeSet::new();
    for (key, (id, items)) in old {
        let from = b.paths.venv(&id);
        for path in items.keys() {
            let parent = path.rsplit_once('/').map_or("", |(p, _)| p).to_string();
            if folders.insert(parent.clone()) {
                b.folder(&staged.join(&parent), staged)?;
            }
            link_file(&from.join(path), &staged.join(path)).doing(|| format!("share {}", from.join(path).display()))?;
        }
        // Their links changed, not their content.
        b.readings.vouch(&footprint_name(&id));
        list.0.insert(key, items);
    }
    let gid = if b.ids.seal == 0 { b.ids.owner_gid } else { b.ids.seal_gid };
    let text = serde_json::to_vec(&list).doing(|| "write the list of a virtual environment".into())?;
    let path = b.paths.venv_list(&spec.id());
    edit::write_file(&path, &text, 0o640, nix::unistd::geteuid().is_root().then_some((b.ids.seal, gid))).doing(|| format!("write {}", path.display()))?;
    b.readings.vouch(&footprint_name(&spec.id()));
    edit::sync(staged).doing(|| "write the virtual environment to the disk".into())
}

/// Packages of an older environment of the same Python that are whole.
fn good_packages(b: &Builder, id: &str, spec: &VenvSpec) -> BTreeMap<String, BTreeMap<String, Item>> {
    let folder = b.paths.venv(id);
    let mut packages = listed(b, id, spec);
    let whole = open_dir(&folder).ok().and_then(|fd| footprint::take(fd, now_ns())).is_some_and(|is| b.readings.known(&footprint_name(id)) == Some(&is));
    if !whole {
        let Ok(all) = std::fs::read(b.paths.venv_list(id)).map(|t| serde_json::from_slice::<List>(&t).unwrap_or_default()) else { return BTreeMap::new() };
        let Ok(bad) = compare(&folder, &all, spec, &b.ids, false) else { return BTreeMap::new() };
        for (key, _) in bad {
            packages.remove(&key);
        }
    }
    packages
}

/// What an older environment of the same Python should hold, by package.
fn listed(b: &Builder, id: &str, spec: &VenvSpec) -> BTreeMap<String, BTreeMap<String, Item>> {
    let list: List = std::fs::read(b.paths.venv_list(id)).ok().and_then(|t| serde_json::from_slice(&t).ok()).unwrap_or_default();
    let site = spec.site_packages();
    list.0.into_iter().filter(|(key, items)| !key.is_empty() && items.keys().any(|p| p.starts_with(&site))).collect()
}

struct Sealer<'a> {
    wanted: BTreeMap<&'a str, (&'a str, &'a Item)>,
    ids: Ids,
    problems: Mutex<Vec<Problem>>,
    seen: Mutex<usize>,
}

/// Gives everything below `folder`, which nobody else can reach any more, to the sealer, if it is what `list` says.
fn seal(folder: &Path, list: &List, ids: Ids) -> Result<()> {
    let fd = open_dir(folder).doing(|| format!("open {}", folder.display()))?;
    nix::unistd::fchown(&fd, Some(Uid::from_raw(ids.seal)), Some(Gid::from_raw(ids.seal_gid))).doing(|| format!("seal {}", folder.display()))?;
    nix::sys::stat::fchmod(&fd, mode(0o755)).doing(|| format!("seal {}", folder.display()))?;
    let sealer = Sealer { wanted: list.by_path(), ids, problems: Mutex::default(), seen: Mutex::default() };
    walk(fd, &sealer);
    let mut problems = sealer.problems.into_inner().unwrap_or_default();
    let seen = sealer.seen.into_inner().unwrap_or_default();
    if problems.is_empty() && seen != sealer.wanted.len() {
        problems.push(Problem::new(format!("the virtual environment has {seen} files, and {} were made", sealer.wanted.len())));
    }
    if problems.is_empty() { Ok(()) } else { Err(Problem::all(problems).hint("nothing was installed")) }
}

impl Sealer<'_> {
    fn one(&self, folder: &Folder, name: &CStr, st: &FileStat) -> std::io::Result<usize> {
        let path = folder.join(name);
        let (wanted_bits, leaf) = match (kind(st), self.wanted.get(path.as_str())) {
            (Kind::Dir, None) => (Some(0o755), 0),
            (Kind::Link, Some((_, Item::Link(to)))) if nix::fcntl::readlinkat(&folder.fd, name).is_ok_and(|t| t.as_os_str() == to.as_str()) => (None, 1),
            (Kind::File, Some((_, Item::File(size, _, exec)))) if u64::try_from(st.st_size).is_ok_and(|s| s == *size) => {
                (Some(if *exec { 0o755 } else { 0o644 }), 1)
            }
            _ => return Err(std::io::Error::other("is not what the build process said")),
        };
        // A file that is the sealer's already comes from an earlier environment, through uv's cache; it is not touched.
        if st.st_uid == self.ids.seal && self.ids.build != self.ids.seal {
            let sealed = st.st_gid == self.ids.seal_gid && wanted_bits.is_none_or(|b| b == bits(st));
            return if sealed { Ok(leaf) } else { Err(std::io::Error::other("belongs to somebody else")) };
        }
        if st.st_uid != self.ids.build {
            return Err(std::io::Error::other("belongs to somebody else"));
        }
        fchownat(&folder.fd, name, Some(Uid::from_raw(self.ids.seal)), Some(Gid::from_raw(self.ids.seal_gid)), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if let Some(b) = wanted_bits.filter(|b| *b != bits(st) || self.ids.build != self.ids.seal) {
            // No link: that was just seen, and nobody else is here.
            fchmodat(&folder.fd, name, mode(b), FchmodatFlags::FollowSymlink)?;
        }
        Ok(leaf)
    }
}

impl Visit for Sealer<'_> {
    type Local = usize;

    fn entry(&self, local: &mut usize, folder: &Folder, name: &CStr, st: &FileStat) -> bool {
        match self.one(folder, name, st) {
            Ok(n) => *local += n,
            Err(e) => {
                if let Ok(mut p) = self.problems.lock()
                    && p.len() < 10
                {
                    p.push(Problem::new(format!("the virtual environment: {}: {e}", crate::text::escape(&folder.join(name)))));
                }
            }
        }
        true
    }

    fn done(&self, local: usize, _: &Folder, _: usize) {
        if let Ok(mut s) = self.seen.lock() {
            *s += local;
        }
    }

    fn failed(&self, path: &str, e: Errno) {
        if let Ok(mut p) = self.problems.lock() {
            p.push(Problem::new(format!("the virtual environment: {}: {}", crate::text::escape(path), e.desc())));
        }
    }
}
