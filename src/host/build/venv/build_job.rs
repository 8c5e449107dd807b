//! The unprivileged part: fetch wheels, verify and unpack them, and say what is there. Nothing but
//! comfy's own code runs here, but for the base interpreter, which is asked which wheels it takes.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rayon::prelude::*;

use super::file_owners::{self, Claim};
use super::wheel::{self, Place, Source, Wheel, refuse};
use super::wheel_fetch::{Asked, Wheels};
use crate::desired::venv::{Install, VenvSpec};
use crate::host::fs::edit;
use crate::host::git::NetEnv;
use crate::host::python::interpreter_facts;
use crate::host::sealed::file_list::{Item, List};
use crate::lock::wheel_tags::Tags;
use crate::problem::{Doing, Problem, Result};
use crate::progress::{Progress, Reporter};

/// Fetched at the same time.
const CONNECTIONS: usize = 8;

/// One virtual environment to make, without bytecode.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Job {
    pub spec: VenvSpec,
    /// An empty folder.
    pub target: PathBuf,
    /// What scripts name as their interpreter: the same in every generation.
    pub python: PathBuf,
    /// Packages that the sealer has already.
    pub have: BTreeSet<String>,
    /// Where wheels are kept.
    pub wheels: PathBuf,
    pub net: NetEnv,
    pub offline: bool,
    /// Bytes that must be free.
    pub disk: u64,
}

/// Makes it; what each of the packages has, those files among it that a later one of them brings
/// too.
///
/// # Errors
/// No space, no network, a wheel with another hash or that cannot be installed, a package without a
/// wheel for this machine.
pub fn run(job: &Job, report: &dyn Reporter) -> Result<List> {
    let progress = report.job("python");
    progress.at(0, 100);
    let site = job.spec.site_packages();
    let place = Place {
        site: &site,
        minor: job.spec.interpreter.minor(),
        python: &job.python,
    };
    let missing: Vec<&Install> = job
        .spec
        .packages
        .iter()
        .filter(|p| !job.have.contains(&p.key()))
        .collect();
    std::fs::create_dir_all(&job.wheels).doing(|| format!("make {}", job.wheels.display()))?;
    if !missing.is_empty() && !job.offline {
        room(job, job.disk)?;
    }
    let wheels = fetch(job, &missing, progress.as_ref())?;
    let layouts: Vec<BTreeMap<String, Source>> = wheels
        .par_iter()
        .map(|w| w.layout(&place))
        .collect::<Result<_>>()?;
    let unpacked = wheels
        .iter()
        .fold(0_u64, |n, w| n.saturating_add(w.unpacked));
    room(job, unpacked)?;
    // Before anything is written.
    let claims = wheels.iter().zip(&layouts).flat_map(|(w, l)| {
        l.iter().map(move |(path, s)| Claim {
            key: &w.key,
            path,
            folder: *s == Source::Folder,
        })
    });
    file_owners::refuse(claims, &own(&job.spec), &site)?;
    let mut list = unpack(job, &place, &wheels, &layouts, progress.as_ref())?;
    list.0.insert(String::new(), skeleton(job)?);
    progress.at(100, 100);
    Ok(list)
}

fn room(job: &Job, need: u64) -> Result<()> {
    let free = edit::free_bytes(&job.target).doing(|| "ask for free disk space".into())?;
    if free >= need {
        return Ok(());
    }
    let (free, need) = (crate::text::bytes(free), crate::text::bytes(need));
    Err(Problem::new(format!(
        "python: the disk that holds {} has {free} free, and the packages need about {need}",
        job.target.display()
    ))
    .hint("free some space, `comfy gc` for example, and run it again"))
}

/// The wheels of these packages that this machine takes, verified, in the order of the packages.
fn fetch<'a>(
    job: &Job,
    packages: &[&'a Install],
    progress: &dyn Progress,
) -> Result<Vec<Wheel<'a>>> {
    if packages.is_empty() {
        return Ok(Vec::new());
    }
    let tags = Tags::new(&interpreter_facts::ask(&job.spec.interpreter)?);
    let wheels = Wheels {
        net: &job.net,
        folder: &job.wheels,
        offline: job.offline,
    };
    let all: u64 = packages.iter().map(|p| p.size).sum::<u64>().max(1);
    let (next, came, problems) = (
        AtomicUsize::new(0),
        AtomicU64::new(0),
        Mutex::new(Vec::new()),
    );
    // The largest first, so that none of them is left for the end.
    let mut order: Vec<usize> = (0..packages.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(packages[*at].size));
    let one = |p: &'a Install| -> Result<Wheel<'a>> {
        let (key, chosen) = (p.key(), tags.choose(p.files.iter().map(String::as_str)));
        let Some((file, sha256)) =
            chosen.and_then(|at| Some((p.files.get(at)?, p.sha256.get(at)?)))
        else {
            return Err(Problem::new(format!(
                "{key}: comfy.lock has no wheel of it for Python {} on this machine ({})",
                job.spec.interpreter.version,
                job.spec.interpreter.path.display()
            ))
            .hint(
                "choose another version with [python] overrides, or leave the package out with \
                ignore_requirements; nothing was installed",
            ));
        };
        let asked = Asked {
            key: &key,
            package: &p.name,
            index: p.index.as_deref(),
            file,
            sha256,
        };
        let file = wheels.open(&asked, &|n| {
            progress.at(
                (came.fetch_add(n, Ordering::Relaxed) + n).min(all) * 60 / all,
                100,
            )
        })?;
        Wheel::read(p, sha256, file)
    };
    let mut found: BTreeMap<usize, Wheel<'a>> = BTreeMap::new();
    std::thread::scope(|scope| {
        let lane = || {
            let mut own = Vec::new();
            while let Some(at) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                match one(packages[*at]) {
                    Ok(w) => own.push((*at, w)),
                    Err(p) => {
                        // Nobody begins another one.
                        next.store(order.len(), Ordering::Relaxed);
                        if let Ok(mut all) = problems.lock() {
                            all.push(p);
                        }
                    }
                }
            }
            own
        };
        let lanes: Vec<_> = (0..CONNECTIONS.min(packages.len()))
            .map(|_| scope.spawn(lane))
            .collect();
        lanes
            .into_iter()
            .for_each(|l| found.extend(l.join().unwrap_or_default()));
    });
    let problems = problems.into_inner().unwrap_or_default();
    match problems.iter().position(|p| p.is_interrupted()) {
        Some(_) => Err(Problem::interrupted()),
        None if !problems.is_empty() => Err(Problem::all(problems)),
        None if found.len() < packages.len() => {
            Err(Problem::new("python: a thread that fetched died"))
        }
        None => Ok(found.into_values().collect()),
    }
}

/// Files that one thread writes before the next one gets some.
const SHARE: usize = 32;

fn unpack(
    job: &Job,
    place: &Place,
    wheels: &[Wheel],
    layouts: &[BTreeMap<String, Source>],
    progress: &dyn Progress,
) -> Result<List> {
    // Of several that bring one path, the last in order has it.
    let mut winner: BTreeMap<String, &str> = BTreeMap::new();
    for (w, layout) in wheels.iter().zip(layouts) {
        for path in layout.keys().cloned().chain([w.record(place)]) {
            let is = winner.entry(path).or_insert(&w.key);
            *is = w.key.as_str().max(is);
        }
    }
    let wins = |w: &Wheel, path: &str| winner.get(path).is_some_and(|key| *key == w.key);
    let mut folders: BTreeSet<&Path> = BTreeSet::from([Path::new(place.site), Path::new("bin")]);
    for (path, source) in layouts.iter().flatten() {
        let folder = if *source == Source::Folder {
            Some(Path::new(path))
        } else {
            Path::new(path).parent()
        };
        folders.extend(folder);
    }
    for folder in folders {
        let at = job.target.join(folder);
        std::fs::create_dir_all(&at).doing(|| format!("make {}", at.display()))?;
    }
    let tasks: Vec<(usize, &String, &Source)> = layouts
        .iter()
        .enumerate()
        .flat_map(|(n, l)| l.iter().map(move |(p, s)| (n, p, s)))
        .collect();
    let (done, total) = (AtomicUsize::new(0), tasks.len().max(1));
    let one = |(n, path, source): &(usize, &String, &Source)| -> Result<(usize, String, Item)> {
        if crate::host::signals::interrupted() {
            return Err(Problem::interrupted());
        }
        let w = &wheels[*n];
        let item = if **source == Source::Folder || !wins(w, path) {
            w.make(source, place, std::io::sink())?
        } else {
            w.make(source, place, new_file(job, w, path)?)?
        };
        let so_far = done.fetch_add(1, Ordering::Relaxed) + 1;
        if so_far % SHARE == 0 {
            progress.at(60 + (so_far * 40 / total) as u64, 100);
        }
        Ok((*n, (*path).clone(), item))
    };
    let mut items: Vec<BTreeMap<String, Item>> = vec![BTreeMap::new(); wheels.len()];
    for r in tasks
        .par_iter()
        .with_min_len(SHARE)
        .map(one)
        .collect::<Vec<_>>()
    {
        let (n, path, item) = r?;
        items[n].insert(path, item);
    }
    let mut out = List::default();
    for (w, mut items) in wheels.iter().zip(items) {
        let own = w.record(place);
        let source = Source::Made(wheel::record(&items, &own, place).into_bytes(), false);
        let item = if wins(w, &own) {
            w.make(&source, place, new_file(job, w, &own)?)?
        } else {
            w.make(&source, place, std::io::sink())?
        };
        items.insert(own, item);
        out.0.insert(w.key.clone(), items);
    }
    Ok(out)
}

/// A file where nothing is.
fn new_file(job: &Job, w: &Wheel, path: &str) -> Result<std::fs::File> {
    let at = job.target.join(path);
    let options = || {
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&at)
    };
    options().map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => refuse(
            w.package,
            &format!(
                "brings {}, and on this disk that is the name of another file",
                crate::text::escape(path)
            ),
        ),
        _ => Problem::new(format!("could not write {}: {e}", at.display())).caused_by(&e),
    })
}

/// What no wheel may bring: the files of [`skeleton`].
pub fn own(spec: &VenvSpec) -> Vec<String> {
    let names = ["pyvenv.cfg", "bin/python", "bin/python3"].map(str::to_string);
    names
        .into_iter()
        .chain([format!("bin/python{}", spec.interpreter.minor())])
        .collect()
}

/// What `python -m venv --without-pip` makes, without running a Python (PEP 405).
fn skeleton(job: &Job) -> Result<BTreeMap<String, Item>> {
    let i = &job.spec.interpreter;
    let doing = || format!("make {}", job.target.display());
    for folder in [job.spec.site_packages(), "bin".into()] {
        std::fs::create_dir_all(job.target.join(folder)).doing(doing)?;
    }
    let home = i.path.parent().unwrap_or(Path::new("/")).display();
    let text = format!(
        "home = {home}\nimplementation = CPython\ninclude-system-site-packages = \
         false\nversion_info = {}\n",
        i.version
    );
    let mut out = BTreeMap::new();
    for path in own(&job.spec) {
        let at = job.target.join(&path);
        let item = match path.as_str() {
            "pyvenv.cfg" => {
                std::fs::write(&at, &text).doing(doing)?;
                let hash = crate::host::sealed::file_list::hash(text.as_bytes(), text.len() as u64)
                    .doing(doing)?;
                Item::File(text.len() as u64, hash, false)
            }
            "bin/python" => Item::Link(i.path.display().to_string()),
            _ => Item::Link("python".into()),
        };
        if let Item::Link(to) = &item {
            std::os::unix::fs::symlink(to, &at).doing(doing)?;
        }
        out.insert(path, item);
    }
    Ok(out)
}
