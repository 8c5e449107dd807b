//! The unprivileged part: fetch and unpack with uv, compile, and say what is there. Nothing of a package is ever run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::list;
use crate::host::fs::edit;
use crate::host::git::NetEnv;
use crate::host::listed::{Item, List, entries, item};
use crate::host::progress::{Progress, Reporter};
use crate::host::uv::Uv;
use crate::plan::venv::{Install, VenvSpec};
use crate::problem::{Doing, Problem, Result};

/// One virtual environment to make.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Job {
    pub spec: VenvSpec,
    /// An empty folder.
    pub target: PathBuf,
    /// What scripts name as their interpreter: the same in every generation.
    pub python: PathBuf,
    /// Packages that the sealer has already.
    pub have: BTreeSet<String>,
    /// What packages were in an earlier environment of the same Python: [`list::digest`] by key.
    pub expected: BTreeMap<String, String>,
    /// Where wheels and a fetched uv are kept.
    pub cache: PathBuf,
    pub net: NetEnv,
    pub offline: bool,
    /// Bytes that must be free.
    pub disk: u64,
}

/// Makes it.
///
/// # Errors
/// No space, no uv, no network, a wheel with another hash, a package without a wheel for this machine.
pub fn run(job: &Job, report: &dyn Reporter) -> Result<List> {
    let progress = report.job("python");
    progress.at(0, 100);
    skeleton(job)?;
    let missing: Vec<&Install> = job.spec.packages.iter().filter(|p| !job.have.contains(&p.key())).collect();
    if !missing.is_empty() {
        let free = edit::free_bytes(&job.cache).doing(|| "ask for free disk space".into())?;
        if free < job.disk && !job.offline {
            let (free, need) = (crate::text::bytes(free), crate::text::bytes(job.disk));
            return Err(Problem::new(format!("python: the disk that holds {} has {free} free, and the packages need about {need}", job.cache.display()))
                .hint("free some space, `comfy gc` for example, and run it again"));
        }
        install(job, &missing, progress.as_ref())?;
    }
    progress.at(60, 100);
    compile(job, progress.as_ref())?;
    let (mut all, bad) = listing(job)?;
    if !bad.is_empty() {
        // uv's cache shares its files with what was installed from it: somebody has changed one there. Once more, afresh.
        let again: Vec<&Install> = missing.iter().copied().filter(|p| bad.contains(&p.key())).collect();
        let uv = uv(job);
        let mut c = uv.command(&uv.program()?);
        c.args(["cache", "clean"]).args(again.iter().map(|p| p.name.as_str()));
        uv.run(c, &|| {})?;
        for path in bad.iter().filter_map(|key| all.0.get(key)).flat_map(std::collections::BTreeMap::keys) {
            edit::remove_path(&job.target.join(path)).doing(|| format!("remove {path}"))?;
            // An empty folder of metadata would pass for an installed package.
            if let Some(folder) = path.strip_suffix("/RECORD") {
                edit::remove_path(&job.target.join(folder)).doing(|| format!("remove {folder}"))?;
            }
        }
        install(job, &again, progress.as_ref())?;
        compile(job, progress.as_ref())?;
        let still;
        (all, still) = listing(job)?;
        if let Some(key) = still.first() {
            return Err(Problem::new(format!("{key}: its files are not those that its own record or an earlier installation says"))
                .hint("choose another version with [python] overrides; nothing was installed"));
        }
    }
    progress.at(100, 100);
    Ok(all)
}

fn uv(job: &Job) -> Uv {
    Uv { net: job.net.clone(), cache: job.cache.clone(), offline: job.offline, own: false }
}

/// Has uv fetch, verify and unpack them.
fn install(job: &Job, packages: &[&Install], progress: &dyn Progress) -> Result<()> {
    let uv = uv(job);
    let program = uv.program()?;
    // A package from an index of its own comes from there alone.
    let mut by_index: BTreeMap<Option<&String>, Vec<&Install>> = BTreeMap::new();
    for p in packages {
        by_index.entry(p.index.as_ref()).or_default().push(p);
    }
    let (before, total) = (unpacked(&job.cache), packages.len());
    for (index, packages) in by_index {
        let hashes = |p: &Install| p.sha256.iter().map(|h| format!(" --hash=sha256:{h}")).collect::<String>();
        let lines: Vec<String> = packages.iter().map(|p| format!("{}{}", p.key(), hashes(p))).collect();
        let file = job.target.join("requirements.txt");
        std::fs::write(&file, lines.join("\n")).doing(|| "write the requirements".into())?;
        let with = |mode: &[&str]| {
            let mut c = uv.command(&program);
            c.args(["pip", "install", "--no-deps", "--no-build", "--require-hashes", "--python"]);
            c.arg(job.target.join("bin/python")).arg("--requirements").arg(&file).arg("--link-mode").args(mode);
            if let Some(index) = index {
                c.args(["--default-index", index]);
            }
            uv.run(c, &|| progress.at(((unpacked(&job.cache).saturating_sub(before)).min(total) * 60 / total.max(1)) as u64, 100))
        };
        // What was sealed once is root's in uv's cache as well, and Linux lets nobody else link to it (proc(5),
        // fs.protected_hardlinks).
        let linked = with(&["hardlink"]).or_else(|p| if p.message.contains("hardlink") { with(&["copy", "--reinstall"]) } else { Err(p) });
        linked.map_err(|p| {
            let p = Problem { message: p.message.replace("Python packages: ", "the virtual environment: "), ..p };
            if job.offline { p.hint("some packages are not in the store: run it without --offline") } else { p }
        })?;
        edit::remove_path(&file).doing(|| "remove the requirements".into())?;
    }
    // uv's own marks.
    for name in [".lock", "CACHEDIR.TAG", ".gitignore"] {
        edit::remove_path(&job.target.join(name)).doing(|| format!("remove {name}"))?;
    }
    scripts(job)
}

fn compile(job: &Job, progress: &dyn Progress) -> Result<()> {
    let site = job.target.join(job.spec.site_packages());
    let sources = entries(&site)?.into_iter().filter(|f| f.path.ends_with(".py")).map(|f| site.join(f.path));
    let pairs: Vec<(PathBuf, PathBuf)> = sources.map(|s| (s.clone(), crate::host::bytecode::beside(&s, &job.spec.interpreter))).collect();
    crate::host::bytecode::compile(&job.spec.interpreter, &job.target, &pairs, &|done, all| progress.at(60 + (done * 35 / all.max(1)) as u64, 100))
}

/// Wheels that uv has unpacked so far.
fn unpacked(cache: &Path) -> usize {
    std::fs::read_dir(cache.join("uv-cache/archive-v0")).map_or(0, Iterator::count)
}

/// What `python -m venv --without-pip` makes, without running a Python (PEP 405).
fn skeleton(job: &Job) -> Result<()> {
    let i = &job.spec.interpreter;
    let doing = || format!("make {}", job.target.display());
    std::fs::create_dir_all(job.target.join(job.spec.site_packages())).doing(doing)?;
    std::fs::create_dir_all(job.target.join("bin")).doing(doing)?;
    let home = i.path.parent().unwrap_or(Path::new("/")).display();
    let text = format!("home = {home}\nimplementation = CPython\ninclude-system-site-packages = false\nversion_info = {}\n", i.version);
    std::fs::write(job.target.join("pyvenv.cfg"), text).doing(doing)?;
    let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, job.target.join(name)).doing(doing);
    link(&i.path, "bin/python")?;
    for name in ["bin/python3".to_string(), format!("bin/python{}", i.minor())] {
        link(Path::new("python"), &name)?;
    }
    Ok(())
}

/// Scripts name the interpreter that is live, whichever virtual environment they are in.
fn scripts(job: &Job) -> Result<()> {
    let own = format!("{}/bin/python", job.target.display());
    for entry in std::fs::read_dir(job.target.join("bin")).doing(|| "read the scripts".into())?.flatten() {
        let path = entry.path();
        if !entry.file_type().is_ok_and(|t| t.is_file()) {
            continue;
        }
        let Ok(text) = std::fs::read(&path) else { continue };
        let Some(first) = text.split(|b| *b == b'\n').next().filter(|f| f.starts_with(b"#!")) else { continue };
        let line = String::from_utf8_lossy(first);
        if line.contains(&own) || text.windows(own.len()).take(400).any(|w| w == own.as_bytes()) {
            let end = text.windows(own.len()).position(|w| w == own.as_bytes()).map_or(first.len(), |at| at + own.len());
            // `#!/path/python` or uv's `#!/bin/sh` with an `exec` line for long paths.
            let rest = &text[end..];
            let rest = rest.strip_prefix(b"3").unwrap_or(rest);
            let head = String::from_utf8_lossy(&text[..end]).replace(&own, &job.python.display().to_string());
            // A new file: the old one may be a link into uv's cache.
            edit::write_file(&path, &[head.as_bytes(), rest].concat(), 0o755, None).doing(|| format!("write {}", path.display()))?;
        }
    }
    Ok(())
}

/// What is there, and the packages that are not what their own records say, or an earlier installation.
fn listing(job: &Job) -> Result<(List, Vec<String>)> {
    let site = job.spec.site_packages();
    let mut known: BTreeMap<String, (String, Option<(String, u64)>)> = BTreeMap::new();
    let mut twice = BTreeSet::new();
    let keys: BTreeMap<String, String> = job.spec.packages.iter().map(|p| (p.name.clone(), p.key())).collect();
    let folders = std::fs::read_dir(job.target.join(&site)).doing(|| "read site-packages".into())?.flatten();
    for entry in folders.filter(|e| e.path().extension().is_some_and(|x| x == "dist-info")) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let package = crate::lock::python::normal(name.split('-').next().unwrap_or_default());
        let Some(key) = keys.get(&package) else {
            return Err(Problem::new(format!("the virtual environment: {} is there, and comfy.lock does not name it", crate::text::escape(&name))));
        };
        let text = std::fs::read_to_string(entry.path().join("RECORD")).doing(|| format!("read the RECORD of {key}"))?;
        for (path, hash) in list::record(&text, &site) {
            // Scripts were written again, and so was bytecode.
            let hash = hash.filter(|_| !path.starts_with("bin/") && !path.ends_with(".pyc"));
            if known.insert(path.clone(), (key.clone(), hash)).is_some_and(|(other, _)| other != *key) {
                twice.insert(path);
            }
        }
    }
    let files = entries(&job.target)?;
    let bad = std::sync::Mutex::new(BTreeSet::new());
    let items: Vec<Result<(String, String, Item)>> = files
        .into_par_iter()
        .map(|f| {
            // Bytecode belongs to the package of its source.
            let owner = |p: &str| known.get(p).filter(|_| !twice.contains(p)).map(|(k, _)| k.clone());
            let key = owner(&f.path).or_else(|| crate::host::bytecode::source(&f.path).and_then(|s| owner(&s))).unwrap_or_default();
            let item = item(&job.target, &f)?;
            let recorded = known.get(&f.path).and_then(|(_, h)| h.as_ref()).filter(|_| !twice.contains(&f.path));
            if let (Item::File(size, hash, _), Some((h, n))) = (&item, recorded)
                && (h != hash || n != size)
                && let Ok(mut b) = bad.lock()
            {
                b.insert(key.clone());
            }
            Ok((key, f.path, item))
        })
        .collect();
    let mut out = List::default();
    for i in items {
        let (key, path, item) = i?;
        out.0.entry(key).or_default().insert(path, item);
    }
    let lacking: Vec<&str> =
        job.spec.packages.iter().filter(|p| !job.have.contains(&p.key()) && !out.0.contains_key(&p.key())).map(|p| p.name.as_str()).collect();
    if !lacking.is_empty() {
        return Err(Problem::new(format!("the virtual environment: uv did not install {}", lacking.join(", "))));
    }
    let mut bad = bad.into_inner().unwrap_or_default();
    bad.extend(job.expected.iter().filter(|(key, digest)| out.0.get(*key).is_some_and(|items| list::digest(items) != **digest)).map(|(key, _)| key.clone()));
    Ok((out, bad.into_iter().collect()))
}
