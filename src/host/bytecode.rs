//! Bytecode, compiled once and sealed: by the base interpreter without site, so that nothing of a package runs.
//!
//! The files are of the unchecked kind (PEP 552): what is sealed with them is the source that they came from, and no
//! time stamp or hash is looked at on import. Names of sources in them are relative; CPython sets the right ones on import.

use std::collections::BTreeMap;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::host::progress::Reporter;
use crate::plan::venv::Interpreter;
use crate::problem::{Doing, Problem, Result};
use crate::tree::Oid;

/// Reads `source`, `target`, `name` with NUL between them, a line each; answers a line each. What does not compile has
/// no bytecode, as with `compileall`: packages carry templates and tests of errors.
const COMPILE: &str = r"
import sys, os, py_compile, warnings
warnings.simplefilter('ignore')
sys.setrecursionlimit(20000)
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
for line in sys.stdin.buffer:
    source, target, name = os.fsdecode(line.rstrip(b'\n')).split('\0')
    try:
        py_compile.compile(source, target, name, doraise=True, optimize=0, invalidation_mode=mode)
    except (py_compile.PyCompileError, ValueError, SyntaxError, RecursionError, MemoryError, UnicodeError):
        pass
    sys.stdout.write('.\n')
    sys.stdout.flush()
";

/// What a generation holds beside its trees: bytecode by path, with the source that it came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Bytecode {
    /// `3.12.4`
    pub version: String,
    /// Path below the generation: content of the source, content of the bytecode.
    pub files: BTreeMap<String, (Oid, Oid)>,
}

impl Bytecode {
    /// That of a generation; none where nothing is noted.
    pub fn load(path: &Path) -> Bytecode {
        std::fs::read(path).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default()
    }
}

/// Sources to compile, for the build process: each below `top`, to the file of its number in `target`.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Job {
    pub interpreter: Interpreter,
    pub top: PathBuf,
    pub sources: Vec<String>,
    pub target: PathBuf,
}

impl Job {
    /// Where number `i` is put.
    pub fn output(&self, i: usize) -> PathBuf {
        self.target.join(format!("{i}.pyc"))
    }

    /// # Errors
    /// As [`compile`].
    pub fn run(&self, report: &dyn Reporter) -> Result<()> {
        let progress = report.job("bytecode");
        let pairs: Vec<_> = self.sources.iter().enumerate().map(|(i, s)| (self.top.join(s), self.output(i))).collect();
        compile(&self.interpreter, &self.top, &pairs, &|done, all| progress.at(done as u64 + 1, all as u64))
    }
}

/// The folder of bytecode beside sources (PEP 3147).
pub const FOLDER: &str = "__pycache__";

/// Where the bytecode of `source` lies: `x/__pycache__/y.cpython-312.pyc`.
pub fn beside(source: &Path, interpreter: &Interpreter) -> PathBuf {
    let stem = source.file_stem().unwrap_or_default().to_string_lossy();
    let tag = interpreter.minor().replace('.', "");
    source.parent().unwrap_or(Path::new("")).join(FOLDER).join(format!("{stem}.cpython-{tag}.pyc"))
}

/// The source that the bytecode at `path` belongs to.
pub fn source(path: &str) -> Option<String> {
    let (folder, name) = path.rsplit_once('/')?;
    let stem = name.strip_suffix(".pyc")?.rsplit_once(".cpython-")?.0;
    let above = if folder == FOLDER { "" } else { folder.strip_suffix(FOLDER).filter(|f| f.ends_with('/'))? };
    Some(format!("{above}{stem}.py"))
}

/// Compiles each source below `top` to its target, on every core.
///
/// # Errors
/// The interpreter does not run, or ends early.
pub fn compile(interpreter: &Interpreter, top: &Path, pairs: &[(PathBuf, PathBuf)], tick: &(dyn Fn(usize, usize) + Sync)) -> Result<()> {
    if pairs.is_empty() {
        return Ok(());
    }
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(pairs.len());
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let one = || -> Result<()> {
        let mut child = start(interpreter)?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (Some(mut stdin), Some(stdout)) = (stdin, stdout) else { return Err(Problem::new("no pipe to the interpreter")) };
        let mut answers = BufReader::new(stdout);
        while let Some((source, target)) = pairs.get(next.fetch_add(1, Ordering::Relaxed)) {
            if crate::host::signals::interrupted() {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Problem::interrupted());
            }
            let name = source.strip_prefix(top).unwrap_or(source);
            if source.to_string_lossy().contains(['\n', '\0']) {
                continue;
            }
            let line = format!("{}\0{}\0{}\n", source.display(), target.display(), name.display());
            stdin.write_all(line.as_bytes()).doing(|| format!("compile {}", source.display()))?;
            if !matches!(super::lines::next(&mut answers, super::lines::WORD), Ok(Some(_))) {
                return Err(Problem::new(format!("the interpreter ended while it compiled {}", crate::text::escape(&name.display().to_string())))
                    .hint("is there enough memory? the kernel's log may tell"));
            }
            tick(done.fetch_add(1, Ordering::Relaxed), pairs.len());
        }
        drop(stdin);
        child.wait().doing(|| "wait for the interpreter".into()).map(drop)
    };
    std::thread::scope(|s| {
        let running: Vec<_> = (0..workers).map(|_| s.spawn(one)).collect();
        running.into_iter().map(|r| r.join().unwrap_or_else(|_| Err(Problem::new("a thread that compiled died")))).collect::<Result<Vec<()>>>()
    })?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the base interpreter, without site and environment")]
fn start(interpreter: &Interpreter) -> Result<std::process::Child> {
    let mut c = Command::new(&interpreter.path);
    c.args(["-I", "-S", "-B", "-c", COMPILE]).env_clear().env("LC_ALL", "C.UTF-8").current_dir("/");
    c.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    c.spawn().doing(|| format!("start {}", interpreter.path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytecode_and_source_name_each_other() {
        let i = Interpreter { path: "/usr/bin/python3.12".into(), version: "3.12.4".into() };
        for s in ["a/b.py", "c.py", "x/y.z.py"] {
            let at = beside(Path::new(s), &i);
            assert_eq!(source(&at.display().to_string()).as_deref(), Some(s), "{}", at.display());
        }
        assert_eq!(source("a/b.pyc"), None);
    }
}
