//! An interpreter of comfy's own, where the system has none of that version: fetched by uv under
//! the build uid (uv knows the hash of every build of python-build-standalone), its library
//! compiled, the whole sealed below PREFIX.

use std::path::{Path, PathBuf};

use super::work::BuildWork;
use super::{GenerationBuilder, bytecode};
use crate::desired::InstancePaths;
use crate::desired::venv::PythonInterpreter;
use crate::host::fs::edit;
use crate::host::net::NetEnv;
use crate::host::sealed::file_list::{FileList, SealedFolder, list_entries, seal_folder};
use crate::host::sealed::verification::VerificationCache;
use crate::host::uv::UvRunner;
use crate::host::uv::sealed_copy::sealed_program;
use crate::lock::uv::UvError;
use crate::plan::ids::AccountIds;
use crate::plan::observed::{Seen, TreeDifference};
use crate::problem::{Context, Problem, Result};
use crate::progress::Reporter;

/// Bytes on the disk while one is made: the archive, its content, the bytecode.
const DISK: u64 = 400 << 20;

/// One interpreter to fetch.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct InterpreterJob {
    /// `3.12.4`
    pub version: String,
    /// A folder that is not there yet.
    pub target: PathBuf,
    pub cache: PathBuf,
    /// The program to run, which only the sealer can write.
    pub uv: PathBuf,
    pub net: NetEnv,
    pub offline: bool,
}

impl InterpreterJob {
    /// As the build uid: fetch, unpack, compile, list.
    ///
    /// # Errors
    /// No uv, no network, no such version, no space.
    pub(crate) fn run(&self, report: &dyn Reporter) -> Result<FileList> {
        let progress = report.start_job("interpreter");
        progress.set_position(0, 100);
        let free = edit::free_bytes(&self.cache).context("ask for free disk space")?;
        if free < DISK {
            let (free, need) = (
                crate::text::format_bytes(free),
                crate::text::format_bytes(DISK),
            );
            return Err(Problem::new(format!(
                "python: the disk that holds {} has {free} free, but an interpreter needs about \
                    {need}",
                self.cache.display()
            ))
            .with_hint("free some space, `comfy gc` for example, and run it again"));
        }
        let folder = self.target.with_extension("uv");
        let uv = UvRunner {
            net: self.net.clone(),
            cache: self.cache.clone(),
            offline: self.offline,
            own: false,
        };
        let mut c = uv.uv_command(&self.uv);
        // The cache keeps the archive: what was fetched once is there when the network is not.
        c.env("UV_PYTHON_CACHE_DIR", self.cache.join("python-archives"))
            .args([
                "python",
                "install",
                "--no-bin",
                "--managed-python",
                "--install-dir",
            ]);
        c.arg(&folder).arg(&self.version);
        uv.run_command(c, &|| {})
            .map_err(|p| self.explain_failure(p))?;
        progress.set_position(60, 100);
        let made = self.unpacked_folder(&folder)?;
        edit::move_to(&made, &self.target)
            .with_context(|| format!("lay out {}", self.target.display()))?;
        edit::remove_path(&folder).with_context(|| format!("clear {}", folder.display()))?;
        self.compile_library(&|done, all| {
            progress.set_position(60 + (done * 35 / all.max(1)) as u64, 100)
        })?;
        let list = FileList::of(&self.target)?;
        progress.set_position(100, 100);
        Ok(list)
    }

    fn explain_failure(&self, e: UvError) -> Problem {
        let what = format!("python: CPython {} could not be fetched: ", self.version);
        let p = match e {
            UvError::Own(p) => p.with_prefix(&what),
            said @ UvError::Said { .. } => said.into_problem(&what),
        };
        let p = if self.offline {
            p.with_hint("it is not in the store: run it without --offline")
        } else {
            p
        };
        p.with_hint(
            "or install a Python of that minor version for all users; `comfy update python` \
            pins the newest that uv knows",
        )
    }

    /// The one real folder that uv made, beside its links and locks.
    fn unpacked_folder(&self, folder: &Path) -> Result<PathBuf> {
        let none = || {
            Problem::new(format!(
                "python: uv did not install CPython {}",
                self.version
            ))
            .with_hint("run `comfy update python`, or set COMFY_UV to a newer uv")
        };
        let all = std::fs::read_dir(folder)
            .with_context(|| format!("read {}", folder.display()))?
            .flatten();
        let program = |p: &Path| p.join(program_path(&self.version));
        all.map(|e| e.path())
            .find(|p| p.symlink_metadata().is_ok_and(|m| m.is_dir()) && program(p).is_file())
            .ok_or_else(none)
    }

    fn compile_library(&self, tick: &(dyn Fn(usize, usize) + Sync)) -> Result<()> {
        let interpreter = PythonInterpreter {
            path: self.target.join(program_path(&self.version)),
            version: self.version.clone(),
        };
        let sources = list_entries(&self.target)?
            .into_iter()
            .filter(|f| f.path.ends_with(".py") && f.target.is_none())
            .map(|f| self.target.join(f.path));
        let pairs: Vec<(PathBuf, PathBuf)> = sources
            .map(|s| (s.clone(), bytecode::bytecode_path(&s, &interpreter)))
            .collect();
        let folders: std::collections::BTreeSet<&Path> =
            pairs.iter().filter_map(|(_, to)| to.parent()).collect();
        for f in folders {
            std::fs::create_dir_all(f).with_context(|| format!("make {}", f.display()))?;
        }
        bytecode::compile_sources(&interpreter, &self.target, &pairs, tick)
    }
}

/// Where the program lies in its folder.
fn program_path(version: &str) -> PathBuf {
    let minor = version.rsplit_once('.').map_or(version, |(m, _)| m);
    Path::new("bin").join(format!("python{minor}"))
}

/// The interpreter that `PREFIX/…/python/<version>` holds, or will hold.
pub(crate) fn managed_interpreter(paths: &InstancePaths, version: &str) -> PythonInterpreter {
    PythonInterpreter {
        path: paths.interpreter_dir(version).join(program_path(version)),
        version: version.into(),
    }
}

/// What is off with it; `None` if it is not there.
pub(crate) fn check_interpreter(
    paths: &InstancePaths,
    version: &str,
    ids: &AccountIds,
    readings: &VerificationCache,
) -> Seen<Option<Vec<TreeDifference>>> {
    SealedFolder {
        folder: &paths.interpreter_dir(version),
        name: folder_name(version),
        list: &paths.python_list(version),
        frame: &[],
    }
    .check_folder(ids, readings)
}

fn folder_name(version: &str) -> String {
    format!("python-{version}")
}

/// Names of those on the disk, sorted.
pub(crate) fn installed_versions(paths: &InstancePaths) -> Vec<String> {
    let names = std::fs::read_dir(paths.interpreters_dir())
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned());
    let mut all: Vec<String> = names
        .filter(|n| n.starts_with(|c: char| c.is_ascii_digit()))
        .collect();
    all.sort();
    all
}

/// Puts a whole one at its place, where nothing refers to it yet: what is built after it is built
/// with it. A damaged one goes.
///
/// # Errors
/// As [`InterpreterJob::run`]; something cannot be sealed or moved.
pub(crate) fn build_interpreter(b: &mut GenerationBuilder, version: &str) -> Result<()> {
    let staged = b.paths.staging_dir().join(format!("python-{version}"));
    b.in_job(&staged, |b, job| {
        let target = job.join("python");
        let uv = sealed_program(b, job)?;
        let work = BuildWork::Python(InterpreterJob {
            version: version.into(),
            target: target.clone(),
            cache: b.paths.python_store(),
            uv,
            net: b.net.clone(),
            offline: b.offline,
        });
        let list: FileList = b.perform_job(&work)?;
        b.take_over(job)?;
        seal_folder("the interpreter", &target, &list, b.ids)?;
        b.write_record(&b.paths.python_list(version), &list)?;
        b.readings.mark_verified(&folder_name(version));
        edit::sync_tree(&target).context("write the interpreter to the disk")?;
        let at = b.paths.interpreter_dir(version);
        b.make_folder(&b.paths.interpreters_dir(), &b.paths.base)?;
        if at.symlink_metadata().is_ok() {
            edit::exchange_entries(&target, &at)
                .with_context(|| format!("put {} in place", at.display()))
        } else {
            edit::move_to(&target, &at).with_context(|| format!("put {} in place", at.display()))
        }
    })
}
