//! System calls of a process that is about to become another: identity, limits, descriptors, death
//! with its parent.

use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::libc;
use nix::unistd::{ForkResult, Pid};

use crate::problem::{Context, Problem, Result};

/// Lets `command` keep these descriptors, under their numbers.
pub fn hand_over(command: &mut Command, fds: &[&OwnedFd]) {
    let numbers: Vec<RawFd> = fds.iter().map(|fd| fd.as_raw_fd()).collect();
    // SAFETY: fcntl(2) alone between fork and exec.
    unsafe {
        command.pre_exec(move || {
            for n in &numbers {
                Errno::result(libc::fcntl(*n, libc::F_SETFD, 0))?;
            }
            Ok(())
        });
    }
}

/// Takes a descriptor that the process above handed over. From here on no program that is executed
/// keeps it.
///
/// # Errors
/// There is none of that number.
pub fn take_over(number: RawFd) -> Result<OwnedFd> {
    // SAFETY: fcntl(2) says whether it is open; the number came from the process above, and nobody
    // else here uses it.
    unsafe {
        Errno::result(libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC))
            .with_context(|| format!("take descriptor {number} over"))?;
        Ok(OwnedFd::from_raw_fd(number))
    }
}

/// No descriptor beyond the first three passes to the program that is executed, wherever it came
/// from.
///
/// # Errors
/// /dev/fd cannot be listed.
pub fn keep_three() -> Result<()> {
    for entry in std::fs::read_dir("/dev/fd")
        .context("list the open descriptors")?
        .flatten()
    {
        if let Some(n) = entry
            .file_name()
            .to_str()
            .and_then(|n| n.parse::<RawFd>().ok())
            .filter(|n| *n > 2)
        {
            // SAFETY: a number; one that is closed by now is an error that does not matter.
            unsafe { libc::fcntl(n, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// Ends this process when the one above ends (prctl(2)); `parent` is that one, which may have ended
/// before. Elsewhere than on Linux a process notices by its stdin.
///
/// # Errors
/// It has ended.
pub fn die_with(parent: i32) -> Result<()> {
    #[cfg(target_os = "linux")]
    // SAFETY: a plain call.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) })
        .context("end with the launcher")?;
    if parent != 0 && nix::unistd::getppid().as_raw() != parent {
        return Err(Problem::new("the launcher has ended"));
    }
    Ok(())
}

/// Nobody but root may look into this process's memory or attach to it, not even with its own uid
/// (prctl(2)).
pub fn set_not_dumpable() {
    #[cfg(target_os = "linux")]
    // SAFETY: a plain call; it cannot fail with these arguments.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0)
    };
}

/// No way to new rights, for this process and all that it starts (prctl(2)); other systems have no
/// such switch.
///
/// # Errors
/// The kernel is older than Linux 3.5.
pub fn no_new_rights() -> Result<()> {
    #[cfg(target_os = "linux")]
    // SAFETY: a plain call.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })
        .context("give up new rights")?;
    Ok(())
}

/// Gives up every capability but these (capabilities(7)), for good.
///
/// # Errors
/// The system's own.
#[cfg(target_os = "linux")]
pub fn keep_capabilities(kept: &[u32]) -> Result<()> {
    let what = || "give up capabilities".to_string();
    // _LINUX_CAPABILITY_VERSION_3 (linux/capability.h): two sets of 32 bits each.
    #[repr(C)]
    struct Header(u32, i32);
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct Sets {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    for capability in 0..64 {
        // SAFETY: plain calls; EINVAL ends the list of what the kernel knows.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
            break;
        }
    }
    let mut sets = [Sets::default(); 2];
    for c in kept {
        let set = &mut sets[*c as usize / 32];
        set.effective |= 1 << (c % 32);
        set.permitted |= 1 << (c % 32);
    }
    let header = Header(0x2008_0522, 0);
    // SAFETY: both structures are those of the version that the header names, and outlive the call.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) })
        .with_context(what)?;
    Ok(())
}

/// All groups of an account. On macOS membership stays dynamic after initgroups(3), unlike after
/// setgroups(2).
///
/// # Errors
/// Without root; an unreadable database.
pub fn take_groups(name: &str, gid: u32) -> Result<()> {
    let name = CString::new(name).context("name the account")?;
    // SAFETY: the name lives through the call.
    Errno::result(unsafe { libc::initgroups(name.as_ptr(), gid as _) })
        .context("take the account's groups")?;
    Ok(())
}

/// No supplementary group at all.
///
/// # Errors
/// Without root.
pub fn drop_groups() -> Result<()> {
    // SAFETY: no list is read where the count is none.
    Errno::result(unsafe { libc::setgroups(0, std::ptr::null()) }).context("give up all groups")?;
    Ok(())
}

/// Becomes uid and gid for good, in every thread.
///
/// # Errors
/// Without root; root that could be regained.
pub fn become_id(uid: u32, gid: u32) -> Result<()> {
    nix::unistd::setgid(gid.into()).with_context(|| format!("become gid {gid}"))?;
    nix::unistd::setuid(uid.into()).with_context(|| format!("become uid {uid}"))?;
    let is = (
        nix::unistd::getuid().as_raw(),
        nix::unistd::geteuid().as_raw(),
        nix::unistd::getegid().as_raw(),
    );
    if uid == 0 || is != (uid, uid, gid) || nix::unistd::setuid(0.into()).is_ok() {
        return Err(Problem::new(format!("root could be regained by uid {uid}")));
    }
    Ok(())
}

/// As many open files as wanted where this process may raise the hard limit, else what that allows;
/// at most so many processes and threads of its user; and no core dumps.
///
/// # Errors
/// The system's own.
pub fn set_rlimits(open_files: u64, processes: Option<u64>) -> Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let what = || "set limits".to_string();
    if setrlimit(Resource::RLIMIT_NOFILE, open_files, open_files).is_err() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).with_context(what)?;
        setrlimit(Resource::RLIMIT_NOFILE, open_files.min(hard), hard).with_context(what)?;
    }
    // macOS has a limit of its own for each user (kern.maxprocperuid).
    #[cfg(target_os = "linux")]
    if let Some(n) = processes {
        let (_, hard) = getrlimit(Resource::RLIMIT_NPROC).with_context(what)?;
        setrlimit(Resource::RLIMIT_NPROC, n.min(hard), n.min(hard)).with_context(what)?;
    }
    #[cfg(not(target_os = "linux"))]
    let _ = processes;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).with_context(what)
}

/// Splits this process in two; `None` in the new one.
///
/// # Errors
/// The system's own.
pub fn fork() -> Result<Option<Pid>> {
    // SAFETY: the callers have one thread.
    match unsafe { nix::unistd::fork() }.context("fork")? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// The folders that macOS gives the account that asks for caches and temporary files (confstr(3)),
/// by real path; Metal's compiler writes there.
pub fn darwin_user_dirs() -> Vec<std::path::PathBuf> {
    #[cfg(target_os = "macos")]
    return [
        libc::_CS_DARWIN_USER_CACHE_DIR,
        libc::_CS_DARWIN_USER_TEMP_DIR,
    ]
    .into_iter()
    .filter_map(system_folder)
    .collect();
    #[cfg(not(target_os = "macos"))]
    Vec::new()
}

#[cfg(target_os = "macos")]
fn system_folder(name: libc::c_int) -> Option<std::path::PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let mut buffer = vec![0_u8; 1024];
    // SAFETY: the buffer is as long as is said.
    let n = unsafe { libc::confstr(name, buffer.as_mut_ptr().cast(), buffer.len()) };
    (1..=buffer.len())
        .contains(&n)
        .then(|| buffer.truncate(n - 1))?;
    std::path::PathBuf::from(std::ffi::OsString::from_vec(buffer))
        .canonicalize()
        .ok()
}
