//! The log writer of a launch without a terminal: a process under the owner's uid, because root
//! should not read ComfyUI's output. It writes and rotates the log, and records when ComfyUI is
//! ready and which nodes failed.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::import_log::{ImportLog, LogContext};
use crate::desired::InstancePaths;
use crate::gateway::tokens::GatewayCredentials;
use crate::host::fs::edit;
use crate::host::roles::credentials::{self, Dropped};
use crate::host::roles::serve::{self, RoleConfig};
use crate::problem::{Context, Result};

/// The configuration that the supervisor sends on stdin.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct LogConfig {
    /// The account that it becomes; `None` under isolation "none".
    pub account: Option<(u32, u32)>,
    pub paths: InstancePaths,
    /// The pipe with ComfyUI's output.
    pub input: RawFd,
    pub address: String,
    pub nodes: Vec<String>,
    pub context: LogContext,
}

/// The status that it records.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct LogStatus {
    /// Seconds from the launch to the first answer.
    pub ready: Option<f64>,
    pub failed: Vec<(String, String)>,
    /// Nodes that loaded and printed an exception all the same.
    #[serde(default)]
    pub partial: Vec<(String, String)>,
    pub hints: Vec<String>,
    /// The number of hints beyond these.
    #[serde(default)]
    pub more: u64,
}

impl LogStatus {
    /// Reads the status that the last launch left.
    pub(crate) fn read(paths: &InstancePaths) -> LogStatus {
        std::fs::read(status_path(paths))
            .ok()
            .and_then(|b| serde_json::from_slice(&b).ok())
            .unwrap_or_default()
    }
}

/// The number of lines in the queue; a line has at most 16 KiB.
const QUEUE: usize = 256;
/// The minimum time between two changes of the status file, because a node can write as fast as it
/// likes.
const BREATH: Duration = Duration::from_secs(1);
/// The size in bytes at which the log is rotated.
const FULL: u64 = 10 << 20;
/// The number of older logs that are kept.
const KEPT: usize = 4;

/// Returns the path of the last launch's log, or with a number above 0 of an older log.
pub(crate) fn log_path(paths: &InstancePaths, older: usize) -> PathBuf {
    paths.logs_dir().join(if older == 0 {
        "comfyui.log".into()
    } else {
        format!("comfyui.log.{older}")
    })
}

fn status_path(paths: &InstancePaths) -> PathBuf {
    paths.logs_dir().join("status.json")
}

impl RoleConfig for LogConfig {
    const WHAT: &'static str = "what to write down";
}

/// Writes the log until ComfyUI's output ends. Must be called while the process has one thread.
pub(crate) fn serve_log() -> ExitCode {
    serve::serve(crate::render::print_problem, |config: LogConfig, _| {
        let input = serve::adopt_fd(config.input)?;
        // The terminal's Ctrl-C is for the supervisor.
        nix::unistd::setsid().context("begin a session")?;
        let dropped = match config.account {
            Some((uid, gid)) => {
                credentials::set_ids_permanently(uid, gid, credentials::clear_groups()?)?
            }
            None => Dropped::as_caller(),
        };
        write_log(&config, input, &dropped).map(|()| 0)
    })
}

/// Writes the lines of `input` to the log, as the owner.
fn write_log(config: &LogConfig, input: OwnedFd, _: &Dropped) -> Result<()> {
    nix::sys::stat::umask(crate::host::fs::as_mode(0o077));
    let mut log = RotatingLog::open_log(&config.paths)?;
    let status = Arc::new(Mutex::new(LogStatus::default()));
    write_status(&config.paths, &status);
    wait_for_answer(config, &status);
    let mut watch = ImportLog::for_nodes(&config.nodes, config.context.clone());
    let hear = line_queue(std::fs::File::from(input), |line| line);
    let (mut due, mut noted) = (false, None::<Instant>);
    loop {
        let rest = noted.map_or(Duration::ZERO, |n| BREATH.saturating_sub(n.elapsed()));
        let heard = if due {
            hear.recv_timeout(rest)
        } else {
            hear.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        match heard {
            Ok(line) => {
                log.write_line(&line)?;
                let hint = watch.push_line(String::from_utf8_lossy(&line).trim_end());
                let failed = watch.failed_nodes(&config.nodes);
                let partial = watch.partial_nodes(&config.nodes);
                let more = watch.suppressed_hints();
                let Ok(mut s) = status.lock() else { continue };
                due |=
                    hint.is_some() || (&failed, &partial, more) != (&s.failed, &s.partial, s.more);
                s.hints.extend(hint);
                (s.failed, s.partial, s.more) = (failed, partial, more);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if due && noted.is_none_or(|n| n.elapsed() >= BREATH) {
            write_status(&config.paths, &status);
            (due, noted) = (false, Some(Instant::now()));
        }
    }
    if due {
        write_status(&config.paths, &status);
    }
    Ok(())
}

/// Returns lines as text without their endings, from a reading thread.
pub(crate) fn text_lines(from: impl Read + Send + 'static) -> Receiver<String> {
    line_queue(from, |line| {
        String::from_utf8_lossy(&line)
            .trim_end_matches(['\n', '\r'])
            .to_string()
    })
}

/// Returns lines from a reading thread. At most [`QUEUE`] of them are queued: if nobody takes them,
/// the writer waits.
fn line_queue<T: Send + 'static>(
    from: impl Read + Send + 'static,
    make: fn(Vec<u8>) -> T,
) -> Receiver<T> {
    let (tell, hear) = sync_channel(QUEUE);
    std::thread::spawn(move || byte_lines(from).try_for_each(|line| tell.send(make(line))));
    hear
}

/// Returns lines as bytes, with their endings. A progress bar's lines end with a carriage return;
/// too long lines are split.
pub(crate) fn byte_lines(from: impl Read) -> impl Iterator<Item = Vec<u8>> {
    const LONGEST: u64 = 16_384;
    let mut reader = BufReader::new(from);
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        loop {
            let buffer = reader.fill_buf().ok()?;
            if buffer.is_empty() {
                return (!line.is_empty()).then_some(line);
            }
            let end = buffer.iter().position(|b| *b == b'\n' || *b == b'\r');
            let room = usize::try_from(LONGEST)
                .unwrap_or(usize::MAX)
                .saturating_sub(line.len());
            let n = end.map_or(buffer.len(), |e| e + 1).min(room.max(1));
            line.extend_from_slice(&buffer[..n]);
            reader.consume(n);
            if matches!(line.last(), Some(b'\n' | b'\r'))
                || line.len() >= usize::try_from(LONGEST).unwrap_or(usize::MAX)
            {
                return Some(line);
            }
        }
    })
}

fn write_status(paths: &InstancePaths, status: &Mutex<LogStatus>) {
    if let Ok(s) = status.lock() {
        // The next change tries again.
        let _ = edit::write_file(
            &status_path(paths),
            &serde_json::to_vec(&*s).unwrap_or_default(),
            0o600,
            None,
        );
    }
}

fn wait_for_answer(config: &LogConfig, status: &Arc<Mutex<LogStatus>>) {
    let (started, config, status) = (Instant::now(), config.clone(), Arc::clone(status));
    std::thread::spawn(move || {
        // If the system does not report the client's uid to the gateway, the owner's token is
        // needed.
        while !super::ready::is_answering(
            &config.address,
            GatewayCredentials::read_as_owner(
                &config.paths.gateway_credentials(),
                nix::unistd::geteuid().as_raw(),
            )
            .ok()
            .as_ref(),
        ) {
            std::thread::sleep(Duration::from_millis(50));
        }
        if let Ok(mut s) = status.lock() {
            s.ready = Some(started.elapsed().as_secs_f64());
        }
        write_status(&config.paths, &status);
    });
}

struct RotatingLog {
    file: std::fs::File,
    size: u64,
    paths: InstancePaths,
}

impl RotatingLog {
    fn open_log(paths: &InstancePaths) -> Result<RotatingLog> {
        let at = log_path(paths, 0);
        let doing = || format!("write {}", at.display());
        // Each launch has its own log.
        if at.symlink_metadata().is_ok() {
            for n in (0..KEPT).rev() {
                let from = log_path(paths, n);
                if from.symlink_metadata().is_ok() {
                    edit::move_over(&from, &log_path(paths, n + 1)).with_context(doing)?;
                }
            }
        }
        Ok(RotatingLog {
            file: create_log(&at).with_context(doing)?,
            size: 0,
            paths: paths.clone(),
        })
    }

    fn write_line(&mut self, line: &[u8]) -> Result<()> {
        if self.size > FULL {
            *self = RotatingLog::open_log(&self.paths)?;
        }
        self.size += line.len() as u64;
        self.file.write_all(line).context("write the log")
    }
}

fn create_log(path: &Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Says `line` for ever, and counts.
    struct Endless(&'static [u8], Arc<AtomicUsize>);

    impl Read for Endless {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            let n = self.0.len().min(to.len());
            to[..n].copy_from_slice(&self.0[..n]);
            self.1.fetch_add(n, Ordering::Relaxed);
            Ok(n)
        }
    }

    #[test]
    fn what_nobody_takes_is_not_read_either() {
        for line in [b"a line of a node\n".as_slice(), b"one without an end"] {
            let read = Arc::new(AtomicUsize::new(0));
            let hear = text_lines(Endless(line, Arc::clone(&read)));
            std::thread::sleep(Duration::from_millis(300));
            let held = read.load(Ordering::Relaxed);
            assert!(held <= (QUEUE + 2) * (16 << 10), "{held} bytes are held");
            assert!(hear.recv().unwrap().len() <= 16 << 10);
        }
    }
}
