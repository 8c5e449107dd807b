//! Ensures one apply at a time for each instance, and one commit at a time on a machine, by
//! flock(2) on a file where the sandbox user cannot write. A second apply reports who holds the
//! lock; a second commit waits.

use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use std::os::unix::ffi::OsStrExt;

use nix::fcntl::{Flock, FlockArg, OFlag, openat};
use nix::sys::stat::Mode;

use super::scope::ApplyScope;
use crate::host::fs::{edit, open_parent};
use crate::host::reserved_ids::ReservedIds;
use crate::problem::{Context, Problem, Result};
use crate::progress::Reporter;

/// The lock, held until it is dropped or the process exits in any way.
pub(crate) struct ApplyLock {
    _lock: Flock<std::fs::File>,
}

/// Returns the folder of root's locks; `None` if the owner does everything.
fn root_lock_folder(scope: ApplyScope) -> Option<PathBuf> {
    let root = nix::unistd::geteuid().is_root() && scope.is_isolated();
    root.then(|| {
        PathBuf::from(if scope.os().is_macos() {
            "/private/var/run/comfy"
        } else {
            "/run/comfy"
        })
    })
}

fn lock_path(scope: ApplyScope) -> PathBuf {
    root_lock_folder(scope).map_or_else(
        || {
            // Never inside a folder that a plan reads: taking the lock must not change the plan.
            let key = base16ct::lower::encode_string(
                &Sha256::digest(scope.paths().base.as_os_str().as_bytes())[..8],
            );
            crate::host::env::cache_home()
                .unwrap_or_else(|| PathBuf::from("/var/tmp/comfy"))
                .join("locks")
                .join(key)
        },
        |folder| folder.join(format!("{}.lock", scope.sandbox())),
    )
}

/// Acquires the instance's lock, for a whole apply.
///
/// # Errors
/// Another process holds it; the message gives process, user and time.
pub(crate) fn acquire_instance<'a>(
    scope: impl Into<ApplyScope<'a>>,
    what: &str,
) -> Result<ApplyLock> {
    let path = lock_path(scope.into());
    match try_acquire(&path, what)? {
        Ok(held) => Ok(held),
        Err(holder) => Err(Problem::new(format!("another apply is running: {holder}"))
            .with_hint("wait until it has finished, then try again")),
    }
}

/// Acquires the machine's lock, for the time in which accounts and folders change; `None` if the
/// owner does everything.
///
/// # Errors
/// The user interrupted it during another instance's commit, or the disk failed.
pub(crate) fn of_machine(scope: ApplyScope, report: &dyn Reporter) -> Result<Option<ApplyLock>> {
    let Some(path) = root_lock_folder(scope).map(|folder| folder.join("apply.lock")) else {
        return Ok(None);
    };
    let mut said = false;
    loop {
        match try_acquire(&path, "apply")? {
            Ok(held) => return Ok(Some(held)),
            Err(holder) if !said => {
                report.print_line(&format!("waiting for another instance's apply: {holder}"));
                said = true;
            }
            Err(_) => {}
        }
        if crate::host::signals::is_interrupted() {
            return Err(Problem::interrupted());
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// Returns the plan that `make` derives. The ids that it gives to new accounts stay reserved until
/// the second value is dropped, so that another instance's first apply at the same time takes
/// others.
///
/// # Errors
/// As `make`, or the user interrupted it.
pub(crate) fn plan_with_reserved_ids<T>(
    scope: ApplyScope,
    report: &dyn Reporter,
    make: impl FnOnce() -> Result<T>,
    numbers: impl FnOnce(&T) -> Vec<u32>,
) -> Result<(T, Option<ReservedIds>)> {
    if root_lock_folder(scope).is_none() {
        return Ok((make()?, None));
    }
    let _machine = of_machine(scope, report)?;
    let made = make()?;
    let numbers = numbers(&made);
    let held = (!numbers.is_empty())
        .then(|| ReservedIds::new(scope.sandbox(), &numbers))
        .transpose()?;
    Ok((made, held))
}

/// Acquires a lock, or returns who holds it.
fn try_acquire(path: &Path, what: &str) -> Result<std::result::Result<ApplyLock, String>> {
    let who = (
        nix::unistd::geteuid().as_raw(),
        nix::unistd::getegid().as_raw(),
    );
    let doing = || format!("take the lock {}", path.display());
    edit::make_parents(path, who.0.into(), who.1.into()).with_context(doing)?;
    if let Some(folder) = path.parent().filter(|p| p.ends_with("run/comfy")) {
        edit::make_dir(folder, 0, 0, 0o700).with_context(doing)?;
    }
    let (dir, name) = open_parent(path).with_context(doing)?;
    let fd = openat(
        &dir,
        name.as_c_str(),
        OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        Mode::from_bits_truncate(0o644),
    )
    .with_context(doing)?;
    match Flock::lock(std::fs::File::from(fd), FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            let person = crate::host::env::var("SUDO_USER")
                .or_else(|| crate::host::env::var("USER"))
                .unwrap_or_else(|| "root".into());
            let text = format!(
                "pid {} ({person}, {what}) since {}\n",
                std::process::id(),
                chrono::Local::now().format("%H:%M:%S")
            );
            // The note is only for people to read, so an empty one is not an error.
            let _ = lock
                .set_len(0)
                .and_then(|()| lock.rewind())
                .and_then(|()| lock.write_all(text.as_bytes()));
            Ok(Ok(ApplyLock { _lock: lock }))
        }
        Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
            let mut text = String::new();
            let _ = file.read_to_string(&mut text);
            Ok(Err(if text.trim().is_empty() {
                "another comfy".to_string()
            } else {
                crate::text::escape_text(text.trim())
            }))
        }
        Err((_, e)) => Err(Problem::new(format!("could not {}: {e}", doing())).caused_by(&e)),
    }
}
