//! Virtual environments: built beside the live one by an unprivileged process, sealed, compared with their list.
//!
//! [`work`] runs under the build uid; [`list`] is what it says is there. Unchanged packages are shared with older
//! environments by hard link.

pub mod list;
pub mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::fs::edit;
use super::fs::readings::{Readings, Sealed};
use super::generation::{Builder, link_file, worker::Work};
use super::listed::{Item, List, Listed, seal};
use crate::plan::change::Wheels;
use crate::plan::desired::Paths;
use crate::plan::facts::{Finding, Seen};
use crate::plan::ids::Ids;
use crate::plan::venv::{Install, VenvSpec};
use crate::problem::{Doing, Result};

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
    listed(&id, &paths.venv(&id), &paths.venv_list(&id), &spec.site_packages(), |l| l.check(ids, readings))
}

fn listed<T>(id: &str, folder: &Path, list: &Path, site: &str, with: impl FnOnce(&Listed) -> T) -> T {
    with(&Listed { folder, name: footprint_name(id), list, frame: &[site] })
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
    seal("the virtual environment", &made, &list, b.ids)?;
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
        let at = b.paths.venv_list(id);
        let list = List::load(&at).unwrap_or_default();
        let folder = b.paths.venv(id);
        let sealed = Sealed::open(&folder, footprint_name(id), b.ids.seal, b.ids.seal_gid).ok().flatten();
        let bad = match sealed {
            Some(s) if s.unchanged(b.readings).unwrap_or(false) => Some(BTreeSet::new()),
            Some(s) => listed(id, &folder, &at, &spec.site_packages(), |l| l.compare(&s, &list, &b.ids, false))
                .ok()
                .map(|found| found.into_iter().map(|(key, _)| key).collect()),
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
