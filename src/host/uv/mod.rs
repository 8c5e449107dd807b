//! uv: found or fetched, and run with nothing of the caller's environment but indexes and proxies:
//! as the caller where it resolves, as the build uid where it fetches an interpreter. It installs
//! nothing.

mod audit;
mod own_wheels;
pub(crate) mod program;
pub(crate) mod sealed_copy;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::env;
use crate::host::build::venv::wheel_fetch;
use crate::lock::python::{GatheredWheel, PackageResolver, UnhashedWheel, UvSolution};
use crate::lock::uv::request::{self, UvWorkspace};
use crate::lock::uv::{UvError, UvErrorKind};
use crate::manifest::WheelSource;
use crate::problem::{Context, IoKind, Problem, Result};
use crate::progress::Progress;

/// Variables of the caller's own uv.
const OWN_VARS: &[&str] = &[
    "HOME",
    "PATH",
    "UV_CACHE_DIR",
    "UV_PYTHON_INSTALL_DIR",
    "NETRC",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
];

/// How uv reads the settings of a workspace.
const SETTINGS_ARGS: &[&str] = &[
    "--config-file",
    request::SETTINGS,
    "--preview-features",
    "index-exclude-newer",
];

/// uv, with nothing of an environment but indexes, proxies and certificates.
pub(crate) struct UvRunner {
    pub net: super::net::NetEnv,
    /// Where a fetched uv is kept, and workspaces are made.
    pub cache: PathBuf,
    pub offline: bool,
    /// As the caller, in the caller's folders; else everything stays in `cache`.
    pub own: bool,
}

impl UvRunner {
    pub(crate) fn uv_command(&self, program: &std::path::Path) -> Command {
        self.configured_command(program, &["--no-config"])
    }

    /// `config`: which settings it reads; never the caller's own.
    #[expect(clippy::disallowed_methods, reason = "the only place that starts uv")]
    fn configured_command(&self, program: &std::path::Path, config: &[&str]) -> Command {
        let mut c = Command::new(program);
        c.env_clear()
            .env("LC_ALL", "C")
            .env("UV_NO_PROGRESS", "1")
            .envs(&self.net.vars);
        if self.own {
            c.envs(OWN_VARS.iter().filter_map(|n| Some((*n, env::var(n)?))));
            if let Some(path) = env::var("PATH") {
                // uv runs every python3 that it finds.
                c.env("PATH", env::path_without_stubs(&path));
            }
        } else {
            c.env("HOME", &self.cache)
                .env("PATH", env::path_without_stubs(env::PUBLIC_PATH))
                .env("UV_CACHE_DIR", self.cache.join("uv-cache"));
        }
        let vars = &self.net.vars;
        if let Some(index) = vars.get("PIP_INDEX_URL").filter(|_| {
            !vars.contains_key("UV_DEFAULT_INDEX") && !vars.contains_key("UV_INDEX_URL")
        }) {
            c.env("UV_DEFAULT_INDEX", index);
        }
        c.args(config).args(["--color", "never"]);
        if self.offline {
            c.arg("--offline");
        }
        c.stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        c
    }

    /// Runs it until it exits, or stops it if comfy is interrupted; returns stdout. `tick` is
    /// called repeatedly meanwhile.
    ///
    /// # Errors
    /// If uv fails, with its message.
    pub(crate) fn run_command(&self, command: Command, tick: &dyn Fn()) -> Result<String, UvError> {
        let ended = self.run_until(command, tick, None)?;
        if ended.code == Some(0) {
            Ok(ended.stdout)
        } else {
            Err(read_error(&ended.stderr, ended.code))
        }
    }

    /// The same, whatever its exit code is, and no longer than `limit`.
    fn run_until(
        &self,
        mut command: Command,
        tick: &dyn Fn(),
        limit: Option<Duration>,
    ) -> Result<EndedUv, UvError> {
        let start = || "start uv".to_string();
        let began = Instant::now();
        let mut child = command.spawn().with_context(start)?;
        let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
        let read = |from: Option<&mut dyn std::io::Read>| {
            let mut text = Vec::new();
            // A broken pipe ends the text; the exit status says why.
            from.map(|f| f.read_to_end(&mut text));
            String::from_utf8_lossy(&text).into_owned()
        };
        std::thread::scope(|s| {
            let stdout = s.spawn(move || read(out.as_mut().map(|o| o as &mut dyn std::io::Read)));
            let stderr = s.spawn(move || read(err.as_mut().map(|e| e as &mut dyn std::io::Read)));
            let status = loop {
                if let Some(status) = child.try_wait().context("wait for uv")? {
                    break status;
                }
                let late = limit.filter(|limit| began.elapsed() > *limit);
                if crate::host::signals::is_interrupted() || late.is_some() {
                    // It may have exited already.
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(match late {
                        Some(limit) => UvError::Said {
                            kind: UvErrorKind::Unreachable,
                            text: format!("there was no answer within {} s", limit.as_secs()),
                        },
                        None => Problem::interrupted().into(),
                    });
                }
                tick();
                std::thread::sleep(Duration::from_millis(10));
            };
            Ok(EndedUv {
                code: status.code(),
                stdout: stdout.join().unwrap_or_default(),
                stderr: stderr.join().unwrap_or_default(),
            })
        })
    }
}

/// What a run of uv left.
struct EndedUv {
    /// `None`: a signal ended it.
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// What [`UvWorkspace::for_other_interpreter`] put into the markers, as uv quotes it.
fn marker_of_version(stderr: &str) -> String {
    const BEGIN: &str = "python_full_version == '3.";
    let end = " and platform_machine";
    let found = stderr.split_once(BEGIN).and_then(|(_, rest)| {
        let (number, _) = rest.split_once(".*'")?;
        Some(format!("{BEGIN}{number}.*'{}", &end[..5]))
    });
    found.unwrap_or_else(|| "\0".into())
}

/// Interprets uv's message: the only place that knows its messages for failures.
fn read_error(stderr: &str, code: Option<i32>) -> UvError {
    let noise = |l: &&str| {
        !(l.starts_with("Using ")
            || l.starts_with("Resolved ")
            || l.contains("tool.uv.environments")
            // An option that comfy does not pass.
            || l.contains("`--system-certs`")
            || l.contains("with `--no-build`"))
    };
    let kept: Vec<&str> = stderr.lines().filter(noise).map(str::trim_end).collect();
    let text = kept
        .join("\n")
        .replace(
            "your workspace's requirements are unsatisfiable",
            "no set of packages fits all",
        )
        .replace("your workspace requires", "comfy.lock has to serve")
        .replace("error: ", "")
        .replace(&marker_of_version(stderr), "")
        .replace("  cause: ", "");
    let text = if text.trim().is_empty() {
        format!(
            "uv exited with {}",
            code.map_or("a signal".into(), |c| c.to_string())
        )
    } else {
        text
    };
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    let no_answer = [
        "error sending request",
        "Failed to fetch",
        "dns error",
        "operation timed out",
        "error decoding response body",
        "was disabled",
    ];
    let kind = if stderr.contains("UnknownIssuer") {
        UvErrorKind::ForeignCertificate
    } else if no_answer.iter().any(|n| stderr.contains(n)) {
        UvErrorKind::Unreachable
    } else if stderr.contains("Hash mismatch") {
        UvErrorKind::HashMismatch
    } else if code.is_none() {
        UvErrorKind::Killed
    } else {
        IoKind::of_words(stderr).map_or(UvErrorKind::Other, UvErrorKind::Io)
    };
    UvError::Said {
        kind,
        text: lines.join("\n"),
    }
}

impl UvRunner {
    /// Returns the program to run, downloaded if necessary.
    ///
    /// # Errors
    /// If there is none, and it cannot be downloaded.
    pub(crate) fn program_path(&self) -> Result<PathBuf> {
        // Several variants are solved at the same time; the first fetches it for all.
        static FINDING: Mutex<()> = Mutex::new(());
        let _one = FINDING.lock().unwrap_or_else(|e| e.into_inner());
        program::find_uv(self)
    }
}

/// One line of `uv python list`.
#[derive(serde::Deserialize)]
struct PythonDownload {
    version: String,
    implementation: String,
    variant: String,
}

impl PackageResolver for UvRunner {
    fn solve_workspace(
        &self,
        w: &UvWorkspace,
        progress: &dyn Progress,
    ) -> Result<UvSolution, UvError> {
        let uv = self.program_path()?;
        progress.set_position(0, 1);
        // Others are solved at the same time.
        let folder = self
            .cache
            .join(format!("resolve-{}-{}", std::process::id(), w.name));
        let result = self.solve_in(&uv, w, &folder);
        super::fs::edit::remove_path(&folder)
            .with_context(|| format!("clear {}", folder.display()))?;
        progress.set_position(1, 1);
        result
    }

    fn hash_wheel(&self, wheel: &UnhashedWheel, progress: &dyn Progress) -> Result<(String, u64)> {
        if self.offline {
            return Err(Problem::new("comfy is offline").with_hint("run it without --offline"));
        }
        progress.set_position(0, 1);
        wheel_fetch::hash_wheel(&self.net, wheel)
    }

    fn gather_wheels(
        &self,
        sources: &[WheelSource],
        pinned: &BTreeMap<String, String>,
        progress: &dyn Progress,
    ) -> Result<Vec<GatheredWheel>> {
        progress.set_position(0, 1);
        own_wheels::WheelGathering {
            net: &self.net,
            cache: &self.cache.join("wheels"),
            offline: self.offline,
            pinned,
        }
        .gather(sources)
    }

    fn newest_release(&self, minor: &str) -> Result<Option<String>> {
        let mut c = self.uv_command(&self.program_path()?);
        c.args([
            "python",
            "list",
            minor,
            "--only-downloads",
            "--output-format",
            "json",
        ]);
        let text = self.run_command(c, &|| {})?;
        let all: Vec<PythonDownload> =
            serde_json::from_str(&text).context("understand what uv says of interpreters")?;
        // The newest first; `variant` tells free-threaded and debug builds apart.
        let plain = all
            .into_iter()
            .filter(|d| d.implementation == "cpython" && d.variant == "default");
        Ok(plain.map(|d| d.version).find(|v| {
            v.split('.').count() == 3 && v.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        }))
    }
}

impl UvRunner {
    /// An interpreter that uv asks about itself, and whether it is of the minor version that is locked
    /// for: the system's before any other. None is fetched.
    fn any_interpreter(
        &self,
        uv: &std::path::Path,
        version: &str,
    ) -> Result<(PathBuf, bool), UvError> {
        if let Some(found) = super::python::system_interpreter(Some(version)) {
            return Ok((found, true));
        }
        let find = |asked: &str| -> Result<Option<PathBuf>, UvError> {
            let mut c = self.uv_command(uv);
            c.current_dir("/").args([
                "python",
                "find",
                "--no-python-downloads",
                "--no-project",
                asked,
            ]);
            match self.run_command(c, &|| {}) {
                Ok(path) => Ok(Some(PathBuf::from(path.trim()))),
                Err(UvError::Own(p)) => Err(p.into()),
                Err(UvError::Said { .. }) => Ok(None),
            }
        };
        if let Some(found) = find(version)? {
            return Ok((found, true));
        }
        let any = match super::python::system_interpreter(None) {
            Some(found) => Some(found),
            None => find(">=3.8")?,
        };
        let any = any.ok_or_else(|| {
            let install = if crate::host::machine::operating_system().is_macos() {
                "`brew install python`"
            } else {
                "`apt install python3`, for example"
            };
            Problem::new("Python packages: there is no Python on this machine for uv to use")
                .with_hint(format!(
                    "install one of any version from 3.8 ({install}); nothing is installed into it"
                ))
        })?;
        Ok((any, false))
    }

    fn solve_in(
        &self,
        uv: &std::path::Path,
        w: &UvWorkspace,
        folder: &std::path::Path,
    ) -> Result<UvSolution, UvError> {
        let (interpreter, is_asked) = self.any_interpreter(uv, &w.version)?;
        let other;
        let w = if is_asked {
            w
        } else {
            other = w.for_other_interpreter();
            &other
        };
        for (path, text) in &w.files {
            let at = folder.join(path);
            let parent = at.parent().unwrap_or(folder);
            std::fs::create_dir_all(parent)
                .with_context(|| format!("make {}", parent.display()))?;
            super::fs::edit::write_file(&at, text.as_bytes(), 0o644, None)
                .with_context(|| format!("write {}", at.display()))?;
        }
        let wheels = folder.join(request::WHEELS_URL);
        if !w.wheels.is_empty() {
            std::fs::create_dir_all(&wheels)
                .with_context(|| format!("make {}", wheels.display()))?;
        }
        for (file, path) in &w.wheels {
            std::os::unix::fs::symlink(path, wheels.join(file))
                .with_context(|| format!("link {}", path.display()))?;
        }
        let mut lock = self.configured_command(uv, SETTINGS_ARGS);
        // An interpreter is asked for its version only; nothing is built, so nothing of a package
        // runs.
        lock.current_dir(folder)
            .args(["lock", "--no-build", "--no-python-downloads", "--python"])
            .arg(&interpreter);
        self.run_command(lock, &|| {})?;
        let mut export = self.uv_command(uv);
        export
            .current_dir(folder)
            .args([
                "export",
                "--frozen",
                "--all-packages",
                "--no-emit-workspace",
                "--no-hashes",
                "--no-annotate",
                "--no-header",
                "--no-python-downloads",
                "--python",
            ])
            .arg(&interpreter);
        let export = self.run_command(export, &|| {})?;
        let file = folder.join("uv.lock");
        let mut text = std::fs::read_to_string(&file).context("read uv.lock")?;
        if !is_asked {
            // What is newer is what is newer for the Python that is locked for.
            text = text.replacen(request::ANY_PYTHON, &format!("=={}.*", w.version), 1);
            super::fs::edit::write_file(&file, text.as_bytes(), 0o644, None)
                .context("write uv.lock")?;
        }
        let mut newest = String::new();
        if w.tells_newest {
            let mut tree = self.configured_command(uv, SETTINGS_ARGS);
            tree.current_dir(folder)
                .args(["tree", "--frozen", "--outdated", "--universal"])
                .args(["--no-python-downloads", "--python"])
                .arg(&interpreter);
            // What is newer is only told; where it cannot be known, it is not.
            newest = match self.run_command(tree, &|| {}) {
                Err(UvError::Own(p)) => return Err(p.into()),
                told => told.unwrap_or_default(),
            };
        }
        Ok(UvSolution {
            lock: text,
            export,
            newest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_with_a_certificate_of_its_own_is_told_with_the_file_to_name() {
        let said = "error: Failed to fetch: `https://pypi.org/simple/kornia/`\n  cause: error \
                    sending request for url (https://pypi.org/simple/kornia/)\n  cause: invalid \
                    peer certificate: UnknownIssuer\n\nhint: Consider enabling use of system TLS \
                    certificates with the `--system-certs` command-line flag\n";
        let problem = read_error(said, Some(2)).into_problem("");
        let said = [vec![problem.message], problem.hints].concat().join("\n");
        insta::assert_snapshot!(said, @"
        Failed to fetch: `https://pypi.org/simple/kornia/`
        error sending request for url (https://pypi.org/simple/kornia/)
        invalid peer certificate: UnknownIssuer
        behind a proxy that decrypts TLS, name a file with its certificate: SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
        ");
    }
}
