//! The unprivileged part: fetch wheels, verify and unpack them, and say what is there. Nothing but
//! comfy's own code runs here, but for the base interpreter, which is asked which wheels it takes.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rayon::prelude::*;

use super::file_owners::{self, PathClaim};
use super::wheel::{self, FileSource, VenvPlace, WheelFile, refused_wheel};
use super::wheel_fetch::{WheelOrigin, WheelRequest, WheelStore};
use crate::desired::venv::{PackageInstall, VenvSpec};
use crate::host::fs::edit;
use crate::host::net::NetEnv;
use crate::host::net::http::PackageAgents;
use crate::host::python::interpreter_facts;
use crate::host::sealed::file_list::{FileList, ListedFile};
use crate::lock::wheel_tags::WheelTags;
use crate::problem::{Context, Problem, Result};
use crate::progress::{ProgressUnit, Reporter};

/// Fetched at the same time.
const CONNECTIONS: usize = 8;

/// One virtual environment to make, without bytecode.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct VenvJob {
    pub spec: VenvSpec,
    /// An empty folder.
    pub target: PathBuf,
    /// What scripts name as their interpreter: the same in every generation.
    pub python: PathBuf,
    /// Packages that the sealer has already.
    pub have: BTreeSet<String>,
    /// Where wheels are kept.
    pub wheels: PathBuf,
    /// Copies of those that the owner has, by hash.
    pub local: Option<PathBuf>,
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
pub(crate) fn run_job(job: &VenvJob, report: &dyn Reporter) -> Result<FileList> {
    let site = job.spec.site_packages();
    let place = VenvPlace {
        site: &site,
        minor: job.spec.interpreter.minor_version(),
        python: &job.python,
    };
    let missing: Vec<&PackageInstall> = job
        .spec
        .packages
        .iter()
        .filter(|p| !job.have.contains(&p.key()))
        .collect();
    std::fs::create_dir_all(&job.wheels)
        .with_context(|| format!("make {}", job.wheels.display()))?;
    if !missing.is_empty() && !job.offline {
        ensure_room(job, job.disk)?;
    }
    let wheels = fetch_wheels(job, &missing, report)?;
    let laid_out: Vec<Result<BTreeMap<String, FileSource>>> =
        wheels.par_iter().map(|w| w.layout(&place)).collect();
    let (mut layouts, mut problems) = (Vec::new(), Vec::new());
    for one in laid_out {
        match one {
            Ok(layout) => layouts.push(layout),
            Err(p) => problems.push(p),
        }
    }
    if !problems.is_empty() {
        return Err(Problem::from_many(problems));
    }
    let unpacked = wheels
        .iter()
        .fold(0_u64, |n, w| n.saturating_add(w.unpacked));
    ensure_room(job, unpacked)?;
    // Before anything is written.
    let claims = wheels.iter().zip(&layouts).flat_map(|(w, l)| {
        l.iter().map(move |(path, s)| PathClaim {
            key: &w.key,
            path,
            folder: *s == FileSource::Folder,
        })
    });
    file_owners::refuse_conflicts(claims, &skeleton_paths(&job.spec), &site)?;
    let mut list = unpack_wheels(job, &place, &wheels, &layouts, report)?;
    list.0.insert(String::new(), make_skeleton(job)?);
    Ok(list)
}

fn ensure_room(job: &VenvJob, need: u64) -> Result<()> {
    let free = edit::free_bytes(&job.target).context("ask for free disk space")?;
    if free >= need {
        return Ok(());
    }
    let (free, need) = (
        crate::text::format_bytes(free),
        crate::text::format_bytes(need),
    );
    Err(Problem::new(format!(
        "python: the disk that holds {} has {free} free, but the packages need about {need}",
        job.target.display()
    ))
    .with_hint("free some space, `comfy gc` for example, and run it again"))
}

/// The wheels of these packages that this machine takes, verified, in the order of the packages.
fn fetch_wheels<'a>(
    job: &VenvJob,
    packages: &[&'a PackageInstall],
    report: &dyn Reporter,
) -> Result<Vec<WheelFile<'a>>> {
    if packages.is_empty() {
        return Ok(Vec::new());
    }
    let tags = WheelTags::new(&interpreter_facts::ask_interpreter(&job.spec.interpreter)?);
    let wheels = WheelStore {
        agents: PackageAgents::new(&job.net),
        folder: &job.wheels,
        local: job.local.as_deref(),
        offline: job.offline,
    };
    let progress = report.start_counted("fetch packages", ProgressUnit::Bytes);
    let all: u64 = packages.iter().map(|p| p.size).sum::<u64>().max(1);
    progress.set_position(0, all);
    let (next, came, problems) = (
        AtomicUsize::new(0),
        AtomicU64::new(0),
        Mutex::new(Vec::new()),
    );
    // The largest first, so that none of them is left for the end.
    let mut order: Vec<usize> = (0..packages.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(packages[*at].size));
    let one = |p: &'a PackageInstall| -> Result<WheelFile<'a>> {
        let (key, chosen) = (
            p.key(),
            tags.choose_wheel(p.files.iter().map(String::as_str)),
        );
        let Some((file, sha256)) =
            chosen.and_then(|at| Some((p.files.get(at)?, p.sha256.get(at)?)))
        else {
            return Err(Problem::new(format!(
                "{key}: comfy.lock has no wheel for Python {} on this machine ({})",
                job.spec.interpreter.version,
                job.spec.interpreter.path.display()
            ))
            .with_hint(
                "choose another version with [python] overrides, or leave the package out with \
                ignore_requirements; nothing was installed",
            ));
        };
        let asked = WheelRequest {
            key: &key,
            package: &p.name,
            from: match &p.own {
                None => WheelOrigin::Index(p.index.as_deref()),
                Some(own) => match own.addresses.get(file) {
                    Some(address) => WheelOrigin::Address(address),
                    None => WheelOrigin::Local,
                },
            },
            file,
            sha256,
        };
        progress.set_detail(&key);
        let file = wheels.open_wheel(&asked, &|n| {
            progress.set_position((came.fetch_add(n, Ordering::Relaxed) + n).min(all), all)
        })?;
        WheelFile::read(p, sha256, file)
    };
    let mut found: BTreeMap<usize, WheelFile<'a>> = BTreeMap::new();
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
        None if !problems.is_empty() => Err(Problem::from_many(problems)),
        None if found.len() < packages.len() => Err(Problem::new("python: a download thread died")),
        None => Ok(found.into_values().collect()),
    }
}

/// Files that one thread writes before the next one gets some.
const SHARE: usize = 32;

fn unpack_wheels(
    job: &VenvJob,
    place: &VenvPlace,
    wheels: &[WheelFile],
    layouts: &[BTreeMap<String, FileSource>],
    report: &dyn Reporter,
) -> Result<FileList> {
    let progress = report.start_job("unpack packages");
    // Of several that bring one path, the last in order has it.
    let mut winner: BTreeMap<String, &str> = BTreeMap::new();
    for (w, layout) in wheels.iter().zip(layouts) {
        for path in layout.keys().cloned().chain([w.record_path(place)]) {
            let is = winner.entry(path).or_insert(&w.key);
            *is = w.key.as_str().max(is);
        }
    }
    let wins = |w: &WheelFile, path: &str| winner.get(path).is_some_and(|key| *key == w.key);
    let mut folders: BTreeSet<&Path> = BTreeSet::from([Path::new(place.site), Path::new("bin")]);
    for (path, source) in layouts.iter().flatten() {
        let folder = if *source == FileSource::Folder {
            Some(Path::new(path))
        } else {
            Path::new(path).parent()
        };
        folders.extend(folder);
    }
    for folder in folders {
        let at = job.target.join(folder);
        std::fs::create_dir_all(&at).with_context(|| format!("make {}", at.display()))?;
    }
    let tasks: Vec<(usize, &String, &FileSource)> = layouts
        .iter()
        .enumerate()
        .flat_map(|(n, l)| l.iter().map(move |(p, s)| (n, p, s)))
        .collect();
    let (done, total) = (AtomicUsize::new(0), tasks.len().max(1));
    let one =
        |(n, path, source): &(usize, &String, &FileSource)| -> Result<(usize, String, ListedFile)> {
            if crate::host::signals::is_interrupted() {
                return Err(Problem::interrupted());
            }
            let w = &wheels[*n];
            let item = if **source == FileSource::Folder || !wins(w, path) {
                w.make_file(source, place, std::io::sink())?
            } else {
                w.make_file(source, place, new_file(job, w, path)?)?
            };
            let so_far = done.fetch_add(1, Ordering::Relaxed) + 1;
            if so_far % SHARE == 0 || so_far == total {
                progress.set_detail(&w.key);
                progress.set_position(so_far as u64, total as u64);
            }
            Ok((*n, (*path).clone(), item))
        };
    let mut items: Vec<BTreeMap<String, ListedFile>> = vec![BTreeMap::new(); wheels.len()];
    for r in tasks
        .par_iter()
        .with_min_len(SHARE)
        .map(one)
        .collect::<Vec<_>>()
    {
        let (n, path, item) = r?;
        items[n].insert(path, item);
    }
    let mut out = FileList::default();
    for (w, mut items) in wheels.iter().zip(items) {
        let own = w.record_path(place);
        let source = FileSource::Made(wheel::record_text(&items, &own, place).into_bytes(), false);
        let item = if wins(w, &own) {
            w.make_file(&source, place, new_file(job, w, &own)?)?
        } else {
            w.make_file(&source, place, std::io::sink())?
        };
        items.insert(own, item);
        out.0.insert(w.key.clone(), items);
    }
    Ok(out)
}

/// A file where nothing is.
fn new_file(job: &VenvJob, w: &WheelFile, path: &str) -> Result<std::fs::File> {
    let at = job.target.join(path);
    let options = || {
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&at)
    };
    options().map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => refused_wheel(
            w.package,
            &format!(
                "contains {}, which is the name of another file on this disk",
                crate::text::escape_text(path)
            ),
        ),
        _ => Problem::new(format!("could not write {}: {e}", at.display())).caused_by(&e),
    })
}

/// What no wheel may bring: the files of [`make_skeleton`].
pub(crate) fn skeleton_paths(spec: &VenvSpec) -> Vec<String> {
    let names = ["pyvenv.cfg", "bin/python", "bin/python3"].map(str::to_string);
    names
        .into_iter()
        .chain([format!("bin/python{}", spec.interpreter.minor_version())])
        .collect()
}

/// What `python -m venv --without-pip` makes, without running a Python (PEP 405).
fn make_skeleton(job: &VenvJob) -> Result<BTreeMap<String, ListedFile>> {
    let i = &job.spec.interpreter;
    let doing = || format!("make {}", job.target.display());
    for folder in [job.spec.site_packages(), "bin".into()] {
        std::fs::create_dir_all(job.target.join(folder)).with_context(doing)?;
    }
    let home = i.path.parent().unwrap_or(Path::new("/")).display();
    let text = format!(
        "home = {home}\nimplementation = CPython\ninclude-system-site-packages = \
         false\nversion_info = {}\n",
        i.version
    );
    let mut out = BTreeMap::new();
    for path in skeleton_paths(&job.spec) {
        let at = job.target.join(&path);
        let item = match path.as_str() {
            "pyvenv.cfg" => {
                std::fs::write(&at, &text).with_context(doing)?;
                let hash =
                    crate::host::sealed::file_list::hash_file(text.as_bytes(), text.len() as u64)
                        .with_context(doing)?;
                ListedFile::File(text.len() as u64, hash, false)
            }
            "bin/python" => ListedFile::Link(i.path.display().to_string()),
            _ => ListedFile::Link("python".into()),
        };
        if let ListedFile::Link(to) = &item {
            std::os::unix::fs::symlink(to, &at).with_context(doing)?;
        }
        out.insert(path, item);
    }
    Ok(out)
}
