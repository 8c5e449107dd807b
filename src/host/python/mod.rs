//! Finding a Python: the system's own, of the asked minor version, that the sandbox user can reach.
//!
//! A candidate is asked for its version once, by running it without site and environment, and not
//! again while its file is the same. macOS's /usr/bin/python3 is never called: it opens a window
//! where the developer tools are missing.

pub(crate) mod interpreter_facts;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use super::roles::credentials;
use super::{env, tools};
use crate::desired::Desired;
use crate::desired::venv::PythonInterpreter;
use crate::host::machine::operating_system;
use crate::plan::ids::AccountIds;

/// Where systems, Homebrew, python.org and MacPorts install it.
const FOLDERS: &[&str] = &[
    "/usr/bin",
    "/usr/local/bin",
    "/opt/homebrew/bin",
    "/opt/local/bin",
    "/Library/Frameworks/Python.framework/Versions/VERSION/bin",
];

/// What a candidate prints: its version, and the program behind shims, links and virtual
/// environments.
const ASK: &str = "import sys, platform; print(platform.python_implementation(), '%d.%d.%d' % \
    sys.version_info[:3], getattr(sys, '_base_executable', None) or sys.executable, sep='\\n')";

/// What stat says of a program that was asked, and its answer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct KnownProgram {
    stamp: (u64, u64, u64, i64, i64, i64, i64),
    answer: PythonInterpreter,
}

/// Answers by path.
pub(crate) type Answers = BTreeMap<PathBuf, KnownProgram>;

#[derive(Default)]
pub(crate) struct InterpreterCache {
    known: Answers,
    asked: Mutex<Answers>,
}

impl InterpreterCache {
    /// With the answers of earlier runs; an absent or damaged file holds none.
    pub(crate) fn load(path: &Path) -> InterpreterCache {
        let known = std::fs::read(path)
            .ok()
            .and_then(|b| serde_json::from_slice(&b).ok())
            .unwrap_or_default();
        InterpreterCache {
            known,
            asked: Mutex::default(),
        }
    }

    /// The answers that were used, where they differ from those that were known.
    pub(crate) fn changed_answers(&self) -> Option<Answers> {
        let asked = self.asked.lock().ok()?;
        (!asked.is_empty() && *asked != self.known).then(|| asked.clone())
    }

    /// Returns the first that fits, or why there is none.
    pub(crate) fn find_interpreter(
        &self,
        d: &Desired,
        ids: &AccountIds,
    ) -> Result<PythonInterpreter, String> {
        let minor = &d.python.version;
        let mut folders: Vec<PathBuf> = FOLDERS
            .iter()
            .map(|f| PathBuf::from(f.replace("VERSION", minor)))
            .collect();
        let own = ids.sandbox == ids.owner;
        if own && d.python.managed.is_none() {
            // No other account has to reach it. It is the last choice, since one shell would build
            // another environment than the next.
            folders.extend(
                env::var("PATH")
                    .unwrap_or_default()
                    .split(':')
                    .filter(|p| p.starts_with('/'))
                    .map(PathBuf::from),
            );
        }
        let mut refused = Vec::new();
        for folder in folders {
            for name in [format!("python{minor}"), "python3".into()] {
                let at = folder.join(&name);
                if at.symlink_metadata().is_err() || tools::is_apple_stub(&at) {
                    continue;
                }
                match self.check_candidate(&at, minor, if own { None } else { Some(ids) }) {
                    Ok(Some(found)) => return Ok(found),
                    Ok(None) => {}
                    Err(why) => refused.push(format!("{}: {why}", at.display())),
                }
            }
        }
        let install = if d.platform.os.is_macos() {
            format!("`brew install python@{minor}`")
        } else {
            format!("`apt install python{minor}`, for example")
        };
        let seen = if refused.is_empty() {
            String::new()
        } else {
            format!(" ({})", refused.join("; "))
        };
        Err(format!(
            "no Python {minor} found that {} can run{seen}. Install one ({install}), change \
             [python] version, or run `comfy lock` with uv available so that comfy can install one",
            d.sandbox
        ))
    }

    /// `Ok(None)`: another version.
    fn check_candidate(
        &self,
        at: &Path,
        minor: &str,
        ids: Option<&AccountIds>,
    ) -> Result<Option<PythonInterpreter>, String> {
        let real = at.canonicalize().map_err(|e| e.to_string())?;
        if let Some(ids) = ids {
            ensure_reachable(&real, ids)?;
        }
        let meta = real.metadata().map_err(|e| e.to_string())?;
        let stamp = (
            meta.dev(),
            meta.ino(),
            meta.size(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec(),
        );
        let known = |answers: &Answers| {
            answers
                .get(&real)
                .filter(|k| k.stamp == stamp)
                .map(|k| k.answer.clone())
        };
        let answer =
            match known(&self.known).or_else(|| self.asked.lock().ok().and_then(|a| known(&a))) {
                Some(a) => a,
                None => ask_version(at, &real, ids)?,
            };
        if answer.minor_version() != minor {
            return Ok(None);
        }
        if let (Some(ids), true) = (ids, answer.path != real) {
            ensure_reachable(&answer.path, ids)?;
        }
        if let Ok(mut a) = self.asked.lock() {
            a.insert(
                real,
                KnownProgram {
                    stamp,
                    answer: answer.clone(),
                },
            );
        }
        Ok(Some(answer))
    }
}

/// The system's CPython of this minor version, or of any from 3.8; what PATH says does not count.
pub(crate) fn system_interpreter(minor: Option<&str>) -> Option<PathBuf> {
    let name = minor.map_or("python3".into(), |m| format!("python{m}"));
    let candidates = FOLDERS
        .iter()
        .map(|f| Path::new(&f.replace("VERSION", minor.unwrap_or("Current"))).join(&name))
        .filter(|p| p.exists() && *p != Path::new("/usr/bin/python3") && !tools::is_apple_stub(p));
    let stub = Path::new("/usr/bin/python3");
    let last = (!operating_system().is_macos() && minor.is_none()).then(|| stub.to_path_buf());
    let fits = |i: &PythonInterpreter| {
        let number = i
            .minor_version()
            .strip_prefix("3.")
            .and_then(|n| n.parse().ok());
        minor.map_or(number.is_some_and(|n: u32| n >= 8), |m| {
            i.minor_version() == m
        })
    };
    candidates
        .chain(last)
        .find(|p| ask_version(p, p, None).is_ok_and(|i| fits(&i)))
}

/// The minor version of the first Python that runs: of PATH, where a shim may find nothing of its
/// own, or of the system.
pub(crate) fn minor_of_this_machine() -> Option<String> {
    let system = FOLDERS.iter().map(|f| Path::new(f).join("python3"));
    let found = env::find_in_path("python3")
        .into_iter()
        .chain(system)
        .filter(|p| p.exists() && !tools::is_apple_stub(p))
        .find_map(|p| ask_version(&p, &p, None).ok());
    found.map(|i| i.minor_version().to_string())
}

/// The sandbox user may pass every folder above `real` and run it, and cannot write any of them.
fn ensure_reachable(real: &Path, ids: &AccountIds) -> Result<(), String> {
    for (i, p) in real.ancestors().enumerate() {
        let m = p.metadata().map_err(|e| format!("{}: {e}", p.display()))?;
        if m.mode() & 0o001 == 0 {
            return Err(format!("{} is closed to other users", p.display()));
        }
        let sticky = m.mode() & 0o1000 != 0 && i > 0;
        if m.uid() == ids.sandbox
            || m.gid() == ids.sandbox_gid
            || m.gid() == ids.shared
            || (m.mode() & 0o002 != 0 && !sticky)
        {
            return Err(format!("{} can be written by others", p.display()));
        }
    }
    Ok(())
}

/// Runs it without site packages and environment; as root under the build uid, which has no rights
/// at all.
#[expect(
    clippy::disallowed_methods,
    reason = "the only place that starts interpreters"
)]
fn ask_version(
    at: &Path,
    real: &Path,
    ids: Option<&AccountIds>,
) -> Result<PythonInterpreter, String> {
    let mut c = Command::new(if ids.is_some() { real } else { at });
    c.args(["-I", "-S", "-B", "-c", ASK])
        .env_clear()
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null());
    if ids.is_none() {
        // A shim such as pyenv's needs these variables.
        c.envs(
            ["PATH", "HOME"]
                .iter()
                .filter_map(|n| Some((*n, env::var(n)?))),
        );
    }
    if let Some(ids) = ids.filter(|_| nix::unistd::geteuid().is_root()) {
        credentials::run_as(&mut c, ids.build);
    }
    let out = c.output().map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&out.stdout);
    let mut lines = text.lines();
    let (kind, version, program) = (lines.next(), lines.next(), lines.next());
    let (Some("CPython"), Some(version), Some(program)) = (kind, version, program) else {
        return Err(if out.status.success() {
            "is not CPython".into()
        } else {
            "does not run".into()
        });
    };
    if version.split('.').count() != 3 || !version.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return Err("reports no version".into());
    }
    let path = Path::new(program)
        .canonicalize()
        .map_err(|e| format!("{program}: {e}"))?;
    Ok(PythonInterpreter {
        path,
        version: version.into(),
    })
}
