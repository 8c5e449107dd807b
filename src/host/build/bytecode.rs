//! Bytecode, compiled once and sealed: by the base interpreter without site, so that nothing of a
//! package runs.
//!
//! The files are of the unchecked kind (PEP 552): what is sealed with them is the source that they
//! came from, and no time stamp or hash is looked at on import. Names of sources in them are
//! relative; CPython sets the right ones on import.

use std::collections::BTreeMap;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::desired::venv::PythonInterpreter;
use crate::problem::{Context, Problem, Result};
use crate::progress::Reporter;
use crate::tree::ObjectId;

/// Says that it runs; then reads `source`, `target`, `name` with NUL between them, a line each, and
/// answers a line each: `.`, or what the disk said. What does not compile has no bytecode, as with
/// `compileall`: packages carry templates and tests of errors.
const COMPILE: &str = r"
import sys, os, py_compile, warnings
warnings.simplefilter('ignore')
sys.setrecursionlimit(20000)
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
def answer(text):
    sys.stdout.write(text + '\n')
    sys.stdout.flush()
answer('.')
for line in sys.stdin.buffer:
    source, target, name = os.fsdecode(line.rstrip(b'\n')).split('\0')
    try:
        py_compile.compile(source, target, name, doraise=True, optimize=0, invalidation_mode=mode)
    except OSError as e:
        answer(ascii(e.strerror or e))
        continue
    except Exception:
        pass
    answer('.')
";

/// What a generation holds beside its trees: bytecode by path, with the source that it came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct BytecodeList {
    /// `3.12.4`
    pub version: String,
    /// Path below the generation: content of the source, content of the bytecode.
    pub files: BTreeMap<String, (ObjectId, ObjectId)>,
}

impl BytecodeList {
    /// That of a generation; none where nothing is noted.
    pub(crate) fn load(path: &Path) -> BytecodeList {
        std::fs::read(path)
            .ok()
            .and_then(|b| serde_json::from_slice(&b).ok())
            .unwrap_or_default()
    }
}

/// Sources to compile, for the build process: each below `top`, to the file of its number in
/// `target`.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct CompileJob {
    pub interpreter: PythonInterpreter,
    pub top: PathBuf,
    pub sources: Vec<String>,
    pub target: PathBuf,
}

impl CompileJob {
    /// Where number `i` is put.
    pub(crate) fn output_path(&self, i: usize) -> PathBuf {
        self.target.join(format!("{i}.pyc"))
    }

    /// # Errors
    /// As [`compile_sources`].
    pub(crate) fn run(&self, report: &dyn Reporter) -> Result<()> {
        let progress = report.start_job("bytecode");
        let pairs: Vec<_> = self
            .sources
            .iter()
            .enumerate()
            .map(|(i, s)| (self.top.join(s), self.output_path(i)))
            .collect();
        compile_sources(&self.interpreter, &self.top, &pairs, &|done, all| {
            progress.set_position(done as u64 + 1, all as u64)
        })
    }
}

/// The folder of bytecode beside sources (PEP 3147).
pub(crate) const FOLDER: &str = "__pycache__";

/// Where the bytecode of `source` lies: `x/__pycache__/y.cpython-312.pyc`.
pub(crate) fn bytecode_path(source: &Path, interpreter: &PythonInterpreter) -> PathBuf {
    let stem = source.file_stem().unwrap_or_default().to_string_lossy();
    let tag = interpreter.minor_version().replace('.', "");
    source
        .parent()
        .unwrap_or(Path::new(""))
        .join(FOLDER)
        .join(format!("{stem}.cpython-{tag}.pyc"))
}

/// Whether every disk takes a file of this name: at most 255 bytes. A source with a longer one for
/// its bytecode has none.
pub(crate) fn name_fits(target: &Path) -> bool {
    target.file_name().is_some_and(|n| n.len() <= 255)
}

/// The source that the bytecode at `path` belongs to.
#[cfg(test)]
fn source_of(path: &str) -> Option<String> {
    let (folder, name) = path.rsplit_once('/')?;
    let stem = name.strip_suffix(".pyc")?.rsplit_once(".cpython-")?.0;
    let above = if folder == FOLDER {
        ""
    } else {
        folder.strip_suffix(FOLDER).filter(|f| f.ends_with('/'))?
    };
    Some(format!("{above}{stem}.py"))
}

/// Compiles each source below `top` to its target, on every core. A source that ends the
/// interpreter has no bytecode, as one that does not compile: another interpreter goes on with the
/// rest.
///
/// # Errors
/// The interpreter does not run, or the disk does not take what it writes.
pub(crate) fn compile_sources(
    interpreter: &PythonInterpreter,
    top: &Path,
    pairs: &[(PathBuf, PathBuf)],
    tick: &(dyn Fn(usize, usize) + Sync),
) -> Result<()> {
    if pairs.is_empty() {
        return Ok(());
    }
    let workers = std::thread::available_parallelism()
        .map_or(1, std::num::NonZero::get)
        .min(pairs.len());
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let one = || -> Result<()> {
        let mut running = None;
        while let Some((source, target)) = pairs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let name = source.strip_prefix(top).unwrap_or(source);
            if source.to_string_lossy().contains(['\n', '\0']) {
                continue;
            }
            let mut compiler = match running.take() {
                Some(c) => c,
                None => CompilerProcess::start(interpreter)?,
            };
            let answer = compiler.ask_source(&format!(
                "{}\0{}\0{}\n",
                source.display(),
                target.display(),
                name.display()
            ));
            if crate::host::signals::is_interrupted() {
                return Err(Problem::interrupted());
            }
            match answer.as_deref() {
                Some(".") => running = Some(compiler),
                Some(why) => {
                    return Err(Problem::new(format!(
                        "could not compile {}: {why}",
                        crate::text::escape_text(&name.display().to_string())
                    )));
                }
                // It is dropped, and waited for.
                None => {}
            }
            tick(done.fetch_add(1, Ordering::Relaxed), pairs.len());
        }
        Ok(())
    };
    std::thread::scope(|s| {
        let running: Vec<_> = (0..workers).map(|_| s.spawn(one)).collect();
        running
            .into_iter()
            .map(|r| {
                r.join()
                    .unwrap_or_else(|_| Err(Problem::new("a compiler thread died")))
            })
            .collect::<Result<Vec<()>>>()
    })?;
    Ok(())
}

/// An interpreter that compiles; it ends with this.
struct CompilerProcess {
    child: Child,
    stdin: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl CompilerProcess {
    /// # Errors
    /// It does not run.
    fn start(interpreter: &PythonInterpreter) -> Result<CompilerProcess> {
        let mut child = spawn_compiler(interpreter)?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Problem::new("no pipe to the interpreter"));
        };
        let mut compiler = CompilerProcess {
            child,
            stdin,
            answers: BufReader::new(stdout),
        };
        if compiler.read_answer().is_some() {
            return Ok(compiler);
        }
        if crate::host::signals::is_interrupted() {
            return Err(Problem::interrupted());
        }
        Err(Problem::new(format!(
            "the interpreter {} exits before it compiles anything",
            interpreter.path.display()
        ))
        .with_hint(
            "check that it runs and that there is enough memory; the kernel's log may say why",
        ))
    }

    fn read_answer(&mut self) -> Option<String> {
        crate::host::lines::next_line(&mut self.answers, crate::host::lines::WORD)
            .ok()
            .flatten()
    }

    /// None: it has ended.
    fn ask_source(&mut self, line: &str) -> Option<String> {
        // What cannot be written is not answered.
        self.stdin
            .write_all(line.as_bytes())
            .ok()
            .and_then(|()| self.read_answer())
    }
}

impl Drop for CompilerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the base interpreter, without site and environment"
)]
fn spawn_compiler(interpreter: &PythonInterpreter) -> Result<Child> {
    let mut c = Command::new(&interpreter.path);
    c.args(["-I", "-S", "-B", "-c", COMPILE])
        .env_clear()
        .env("LC_ALL", "C.UTF-8")
        .current_dir("/");
    c.stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    c.spawn()
        .with_context(|| format!("start {}", interpreter.path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytecode_and_source_name_each_other() {
        let i = PythonInterpreter {
            path: "/usr/bin/python3.12".into(),
            version: "3.12.4".into(),
        };
        for s in ["a/b.py", "c.py", "x/y.z.py"] {
            let at = bytecode_path(Path::new(s), &i);
            assert_eq!(
                source_of(&at.display().to_string()).as_deref(),
                Some(s),
                "{}",
                at.display()
            );
        }
        assert_eq!(source_of("a/b.pyc"), None);
    }

    #[test]
    fn a_source_that_ends_the_compiler_has_no_bytecode_and_the_rest_has() {
        let Some(python) = crate::host::env::find_in_path("python3") else {
            return;
        };
        let top = tempfile::tempdir().unwrap();
        let interpreter = PythonInterpreter {
            path: python,
            version: "3.0.0".into(),
        };
        // CPython 3.11's own compiler runs out of stack.
        let deep = format!("x = 1{}\n", "+1".repeat(200_000));
        let sources = [
            ("a", "A = 1\n"),
            ("deep", &deep),
            ("wrong", "def\n"),
            ("deeper", &deep),
            ("z", "Z = 1\n"),
        ];
        let pairs: Vec<_> = sources
            .iter()
            .map(|(name, _)| {
                (
                    top.path().join(format!("{name}.py")),
                    top.path().join(format!("{name}.pyc")),
                )
            })
            .collect();
        sources
            .iter()
            .zip(&pairs)
            .for_each(|((_, text), (at, _))| std::fs::write(at, text).unwrap());
        let ticks = AtomicUsize::new(0);
        let tick = |_: usize, _: usize| {
            ticks.fetch_add(1, Ordering::Relaxed);
        };
        compile_sources(&interpreter, top.path(), &pairs, &tick).unwrap();
        let made: Vec<&str> = sources
            .iter()
            .map(|(name, _)| *name)
            .filter(|n| top.path().join(format!("{n}.pyc")).exists())
            .collect();
        assert_eq!((made, ticks.load(Ordering::Relaxed)), (vec!["a", "z"], 5));
        // One that never runs is another thing.
        let broken = PythonInterpreter {
            path: "/bin/false".into(),
            version: "3.0.0".into(),
        };
        let told = compile_sources(&broken, top.path(), &pairs, &tick)
            .unwrap_err()
            .to_string();
        assert!(
            told.contains("the interpreter /bin/false exits before it compiles anything"),
            "{told}"
        );
        // And a disk that takes nothing.
        let nowhere = [(pairs[0].0.clone(), pairs[0].0.join("x/a.pyc"))];
        let told = compile_sources(&interpreter, top.path(), &nowhere, &tick)
            .unwrap_err()
            .to_string();
        assert!(
            told.contains("could not compile a.py: 'Not a directory'"),
            "{told}"
        );
    }
}
