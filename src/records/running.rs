//! The record of a running launch, which its supervisor writes, and a lock that the supervisor
//! holds while it lives. Only the lock counts; a record without it was left by a killed launch.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use nix::fcntl::{Flock, FlockArg, OFlag, openat};

use crate::desired::launch::LaunchSpec;
use crate::desired::{GenerationSpec, InstancePaths};
use crate::host::build;
use crate::host::fs::{as_mode, edit, open_parent};
use crate::ids::GenerationId;
use crate::problem::{Context, Problem, Result};

/// A running launch, as its supervisor describes it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct RunningRecord {
    /// The supervisor's process id.
    pub pid: u32,
    /// RFC 3339.
    pub since: String,
    pub address: String,
    pub generation: String,
    pub nodes: Vec<String>,
    /// The SHA-256 of the launch's description; if it differs, a restart is needed.
    pub launch: String,
    /// Whether `comfy start` started it, so that there is a log.
    pub detached: bool,
}

/// How a launch exited.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ExitRecord {
    /// The exit code as in a shell: 128 + N for signal N.
    pub code: u8,
    pub when: String,
    /// Whether somebody asked for the stop.
    pub asked: bool,
}

/// Returns `exit code 1` or `signal 9`.
pub(crate) fn exit_text(code: u8) -> String {
    if code > 128 {
        format!("signal {}", code - 128)
    } else {
        format!("exit code {code}")
    }
}

/// Returns the current time by RFC 3339, in seconds.
pub(crate) fn rfc3339_now() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

/// Returns the digest of a launch's description.
pub(crate) fn launch_digest(spec: &LaunchSpec) -> String {
    use sha2::{Digest, Sha256};
    base16ct::lower::encode_string(&Sha256::digest(
        serde_json::to_vec(spec).unwrap_or_default(),
    ))
}

/// The lock that the supervisor holds, so that nobody else launches this instance.
pub(crate) struct InstanceLock {
    _lock: Flock<std::fs::File>,
    paths: InstancePaths,
    /// The uid and gid of the records.
    own: Option<(u32, u32)>,
}

impl InstanceLock {
    /// # Errors
    /// ComfyUI is already running; the message says since when, and how to stop it.
    pub(crate) fn acquire_lock(spec: &LaunchSpec, owner_gid: u32) -> Result<InstanceLock> {
        let own = spec.account.then_some((0, owner_gid));
        let path = lock_path(&spec.paths);
        let doing = || format!("take the lock {}", path.display());
        let (dir, name) = open_parent(&path).with_context(doing)?;
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&dir, name.as_c_str(), flags, as_mode(0o600)).with_context(doing)?;
        if let Some((uid, gid)) = own {
            nix::unistd::fchown(&fd, Some(uid.into()), Some(gid.into())).with_context(doing)?;
            // One that was made under another umask.
            nix::sys::stat::fchmod(&fd, as_mode(0o600)).with_context(doing)?;
        }
        let mut file = std::fs::File::from(fd);
        // A process that checks whether it is held holds it for an instant.
        for _ in 0..20 {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => {
                    return Ok(InstanceLock {
                        _lock: lock,
                        paths: spec.paths.clone(),
                        own,
                    });
                }
                Err((again, _)) => file = again,
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let since = read_running(&spec.paths).map_or(String::new(), |l| {
            format!(" since {} (process {})", l.since, l.pid)
        });
        Err(Problem::new(format!("ComfyUI is already running{since}"))
            .with_hint("`comfy status` shows it, `comfy stop` stops it"))
    }

    /// # Errors
    /// The disk.
    pub(crate) fn write_running(&self, live: &RunningRecord) -> Result<()> {
        edit::remove_path(&self.paths.exit_record())
            .context("remove the record of the last exit")?;
        self.write_record(&self.paths.running_record(), live)
    }

    /// # Errors
    /// The disk.
    pub(crate) fn write_exit(self, ended: &ExitRecord) -> Result<()> {
        self.write_record(&self.paths.exit_record(), ended)?;
        edit::remove_path(&self.paths.running_record()).context("remove the record of the launch")
    }

    fn write_record(&self, path: &std::path::Path, what: &impl serde::Serialize) -> Result<()> {
        let text = serde_json::to_vec(what).with_context(|| format!("write {}", path.display()))?;
        edit::write_file(path, &text, 0o640, self.own)
            .with_context(|| format!("write {}", path.display()))
    }
}

/// Held by each launch of a sandbox user, whatever it starts: who has it alone knows that no process
/// of the sandbox user's belongs to a launch.
pub(crate) struct LaunchesLock(Flock<std::fs::File>);

impl LaunchesLock {
    /// Waits while another launch, alone, ends what is left of an earlier one. The file is root's
    /// alone: whoever can open it can hold it.
    ///
    /// # Errors
    /// The disk.
    pub(crate) fn acquire_shared(paths: &InstancePaths) -> Result<LaunchesLock> {
        let path = paths.records.join("launches.lock");
        let doing = || format!("take the lock {}", path.display());
        let (dir, name) = open_parent(&path).with_context(doing)?;
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&dir, name.as_c_str(), flags, as_mode(0o600)).with_context(doing)?;
        Flock::lock(std::fs::File::from(fd), FlockArg::LockShared)
            .map(LaunchesLock)
            .map_err(|(_, e)| e)
            .with_context(doing)
    }

    /// Does it if no other launch holds the lock; `None`: one does.
    pub(crate) fn when_alone<T>(&self, what: impl FnOnce() -> T) -> Option<T> {
        self.0.relock(FlockArg::LockExclusiveNonblock).ok()?;
        let done = what();
        // It holds the lock: nobody can have taken it meanwhile.
        let _ = self.0.relock(FlockArg::LockShared);
        Some(done)
    }
}

fn lock_path(paths: &InstancePaths) -> PathBuf {
    paths.records.join("live.lock")
}

/// Returns the running launch, if there is one.
pub(crate) fn read_running(paths: &InstancePaths) -> Option<RunningRecord> {
    // Without its supervisor, the record is old.
    if !supervisor_lives(paths) {
        return None;
    }
    serde_json::from_slice(&std::fs::read(paths.running_record()).ok()?).ok()
}

fn supervisor_lives(paths: &InstancePaths) -> bool {
    match std::fs::File::open(lock_path(paths)) {
        Ok(file) => Flock::lock(file, FlockArg::LockSharedNonblock).is_err(),
        // Root's alone, since whoever may read a file may also hold its lock: the owner asks whether
        // the supervisor listens.
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            UnixStream::connect(paths.control_socket()).is_ok()
        }
        Err(_) => false,
    }
}

/// Ensures that this process can tell whether the instance runs.
///
/// # Errors
/// The records are not for the caller.
pub(crate) fn ensure_readable(paths: &InstancePaths) -> Result<()> {
    match std::fs::File::open(&paths.records) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Problem::new(format!(
            "read {}: {e}",
            paths.records.display()
        ))
        .caused_by(&e)
        .with_hint("only the owner of the instance and root may read its records")),
        _ => Ok(()),
    }
}

/// Returns the generation that `current` points to.
pub(crate) fn current_generation(paths: &InstancePaths) -> Option<String> {
    std::fs::read_link(paths.current_link())
        .ok()
        .and_then(|t| Some(GenerationId::from_link(&t)?.to_string()))
}

/// Returns the description of the generation that is live, if it can be read.
pub(crate) fn live_spec(paths: &InstancePaths) -> Option<GenerationSpec> {
    let id = current_generation(paths)?;
    build::read_spec(&paths.generation_dir(&id), &id).ok()?
}

/// Returns how the last launch exited, if that is known.
pub(crate) fn last_exit(paths: &InstancePaths) -> Option<ExitRecord> {
    serde_json::from_slice(&std::fs::read(paths.exit_record()).ok()?).ok()
}
