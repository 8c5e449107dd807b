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

use super::fs::gather::{Found, gather};
use super::fs::readings::{Readings, Sealed};
use super::fs::walk::{Folder, Visit, walk};
use super::fs::{bits, edit, kind, mode, open_dir};
use super::generation::{Builder, link_file, worker::Work};
use crate::plan::change::Wheels;
use crate::plan::desired::Paths;
use crate::plan::facts::{Finding, Kind, Seen, Unknown, What};
use crate::plan::ids::Ids;
use crate::plan::venv::{Install, VenvSpec};
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
    let name = footprint_name(&id);
    let Some(sealed) = Sealed::open(&folder, name.clone(), ids.seal, ids.seal_gid)? else { return Ok(None) };
    if sealed.unchanged(readings)? {
        return Ok(Some(Vec::new()));
    }
    let list = match std::fs::read(paths.venv_list(&id)) {
        Ok(text) => serde_json::from_slice::<List>(&text).unwrap_or_default(),
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            return Err(Unknown { reason: format!("{}: {e}", paths.venv_list(&id).display()), root_can: true });
        }
        Err(_) => List::default(),
    };
    let mut findings: Vec<Finding> = compare(&sealed, &folder, &list, spec, ids, readings.is_vouched(&name))?.into_iter().map(|(_, f)| f).collect();
    findings.extend(sealed.frame().map(|detail| Finding { path: ".".into(), what: What::Owner, detail }));
    if findings.is_empty() {
        sealed.whole(readings)?;
    }
    Ok(Some(findings))
}

/// Every difference with the package it belongs to. `vouched`: this process has sealed the content.
fn compare(sealed: &Sealed, folder: &Path, list: &List, spec: &VenvSpec, ids: &Ids, vouched: bool) -> Seen<Vec<(String, Finding)>> {
    let fd = &sealed.fd;
    let (found, empty) = gather(fd, folder)?;
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
                let same = f.stamp.size() == *size && (vouched || content(fd, &f.path, *size)? == *hash);
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
    let staged = b.paths.staged_venv(&spec.id());
    b.in_job(&staged, |b, job| make(b, spec, reuse, job, &staged))
}

fn make(b: &mut Builder, spec: &VenvSpec, reuse: &[String], job: &Path, staged: &Path) -> Result<()> {
    let wanted: BTreeSet<String> = spec.packages.iter().map(Install::key).collect();
    let mut old: BTreeMap<String, (String, Packages)> = BTreeMap::new();
    let (mut expected, mut whole) = (BTreeMap::new(), BTreeSet::new());
    for id in reuse {
        let earlier = Earlier::read(b, id, spec);
        expected.extend(earlier.all.iter().map(|(key, items)| (key.clone(), list::digest(items))));
        if earlier.bad.is_empty() {
            whole.insert(id);
        }
        for (key, items) in earlier.all.into_iter().filter(|(key, _)| wanted.contains(key) && !earlier.bad.contains(key)) {
            old.entry(key).or_insert((id.clone(), items));
        }
    }
    let missing = spec.packages.iter().filter(|p| !old.contains_key(&p.key()));
    let work = Work::Venv(Box::new(work::Job {
        spec: spec.clone(),
        target: job.join("venv"),
        python: b.paths.current().join("venv/bin/python"),
        have: old.keys().cloned().collect(),
        expected,
        cache: b.paths.store(),
        net: b.net.clone(),
        offline: b.offline,
        disk: Wheels::of(missing).disk(),
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
        if whole.contains(&id) {
            b.readings.linked(footprint_name(&id), from);
        }
        list.0.insert(key, items);
    }
    b.record(&b.paths.venv_list(&spec.id()), &list)?;
    b.readings.vouch(&footprint_name(&spec.id()));
    edit::sync(staged).doing(|| "write the virtual environment to the disk".into())
}

/// The files of one package.
type Packages = BTreeMap<String, Item>;

/// An older environment of the same Python.
struct Earlier {
    /// What it should hold, by package.
    all: BTreeMap<String, Packages>,
    /// Packages that are not as they should be.
    bad: BTreeSet<String>,
}

impl Earlier {
    fn read(b: &Builder, id: &str, spec: &VenvSpec) -> Earlier {
        let list: List = std::fs::read(b.paths.venv_list(id)).ok().and_then(|t| serde_json::from_slice(&t).ok()).unwrap_or_default();
        let folder = b.paths.venv(id);
        let sealed = Sealed::open(&folder, footprint_name(id), b.ids.seal, b.ids.seal_gid).ok().flatten();
        let bad = match sealed {
            Some(s) if s.unchanged(b.readings).unwrap_or(false) => Some(BTreeSet::new()),
            Some(s) => compare(&s, &folder, &list, spec, &b.ids, false).ok().map(|found| found.into_iter().map(|(key, _)| key).collect()),
            None => None,
        };
        let site = spec.site_packages();
        let own = |(key, items): &(String, Packages)| !key.is_empty() && items.keys().any(|p| p.starts_with(&site));
        let all: BTreeMap<_, _> = list.0.into_iter().filter(own).collect();
        // What could not be looked at is not shared.
        let bad = bad.unwrap_or_else(|| all.keys().cloned().chain([String::new()]).collect());
        Earlier { all, bad }
    }
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
