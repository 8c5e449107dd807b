//! Whose process this is and what it may still do: ids, groups, capabilities, limits.
//!
//! [`set_ids_permanently`] is the only function of comfy that gives up root. What must not run
//! before it asks for the [`Dropped`] that it returns.

use std::ffi::CString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::libc;

use crate::problem::{Context, Problem, Result};

/// Proves that the supplementary groups of this process were replaced.
#[must_use = "groups alone do not change the identity: pass it to `set_ids_permanently`"]
#[derive(Debug)]
pub(crate) struct GroupsReplaced(());

/// Proves that this process is who it should be and cannot become root again.
#[must_use = "pass it to what runs without root"]
#[derive(Debug)]
pub(crate) struct Dropped(());

impl Dropped {
    /// The same proof where there is nobody else to become: under isolation "none" everything runs
    /// as whoever asked for it.
    pub(crate) fn as_caller() -> Dropped {
        Dropped(())
    }
}

/// Takes on all groups of an account. On macOS membership stays dynamic after initgroups(3), unlike
/// after setgroups(2).
///
/// # Errors
/// This process is not root's, or the database cannot be read.
pub(crate) fn init_groups(name: &str, gid: u32) -> Result<GroupsReplaced> {
    let name = CString::new(name).context("name the account")?;
    // SAFETY: the name lives through the call.
    Errno::result(unsafe { libc::initgroups(name.as_ptr(), gid as _) })
        .context("take the account's groups")?;
    Ok(GroupsReplaced(()))
}

/// Leaves every supplementary group.
///
/// # Errors
/// This process is not root's.
pub(crate) fn clear_groups() -> Result<GroupsReplaced> {
    // SAFETY: no list is read where the count is none.
    Errno::result(unsafe { libc::setgroups(0, std::ptr::null()) }).context("give up all groups")?;
    // macOS counts the effective group among them.
    #[cfg(target_os = "linux")]
    if !nix::unistd::getgroups()
        .context("give up all groups")?
        .is_empty()
    {
        return Err(Problem::new("a group remains after giving up all of them"));
    }
    Ok(GroupsReplaced(()))
}

/// Becomes `uid` and `gid` for good, in every thread: real, effective and saved ids.
///
/// # Errors
/// `uid` is root's, the system refuses, or root could be regained.
pub(crate) fn set_ids_permanently(uid: u32, gid: u32, groups: GroupsReplaced) -> Result<Dropped> {
    let GroupsReplaced(()) = groups;
    let regained = || Problem::new(format!("root could be regained by uid {uid}"));
    // Before anything is given up: what follows needs root to fail rightly.
    if uid == 0 {
        return Err(regained());
    }
    nix::unistd::setgid(gid.into()).with_context(|| format!("become gid {gid}"))?;
    nix::unistd::setuid(uid.into()).with_context(|| format!("become uid {uid}"))?;
    if !has_only_ids(uid, gid)
        || nix::unistd::setuid(0.into()).is_ok()
        || (gid != 0 && nix::unistd::setgid(0.into()).is_ok())
    {
        return Err(regained());
    }
    Ok(Dropped(()))
}

/// The account that has nothing: 65534 is Linux's. macOS's is -2, which is not needed, since no file
/// there is this number's either.
const NOBODY: u32 = 65534;

/// Has a process that was root's go on as nobody, and still end with its parent; one that was
/// somebody's stays theirs.
///
/// # Errors
/// The system's own; the parent has ended.
pub(crate) fn become_nobody() -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        let groups = clear_groups()?;
        drop(set_ids_permanently(NOBODY, NOBODY, groups)?);
        // Becoming somebody else has cleared it (prctl(2)).
        #[cfg(target_os = "linux")]
        super::serve::die_with_parent(0)?;
    }
    Ok(())
}

/// Starts `command` as the uid and gid `id`, without any group besides. `Command::uid` would leave the
/// groups last: on macOS the effective group is the first of them, and none is 0, `wheel`
/// (xnu `kern_prot.c`, setgroups1).
pub(crate) fn run_as(command: &mut Command, id: u32) {
    let become_id = move || {
        let dropped = clear_groups().and_then(|groups| set_ids_permanently(id, id, groups));
        dropped
            .map(drop::<Dropped>)
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::PermissionDenied))
    };
    // SAFETY: between fork and exec there are system calls alone; memory is taken only where one of
    // them has failed.
    unsafe { command.pre_exec(become_id) };
}

/// Whether every id of this process is `uid` or `gid`; the saved ones are known on Linux alone.
fn has_only_ids(uid: u32, gid: u32) -> bool {
    use nix::unistd::{getegid, geteuid, getgid, getuid};
    let seen = [getuid(), geteuid()].map(|u| u.as_raw()) == [uid; 2]
        && [getgid(), getegid()].map(|g| g.as_raw()) == [gid; 2];
    #[cfg(target_os = "linux")]
    let saved = nix::unistd::getresuid().is_ok_and(|r| r.saved.as_raw() == uid)
        && nix::unistd::getresgid().is_ok_and(|r| r.saved.as_raw() == gid);
    #[cfg(not(target_os = "linux"))]
    let saved = true;
    seen && saved
}

/// Kills every process of `uid`, from a child that becomes `uid` for that alone.
///
/// # Errors
/// The system's own.
pub(crate) fn kill_all_of_uid(uid: u32) -> Result<()> {
    if uid == 0 {
        return Err(Problem::new("the processes of root are not killed"));
    }
    // SAFETY: the child calls only setgid, setuid, kill and _exit, which are safe after fork
    // (signal-safety(7)).
    match unsafe { nix::unistd::fork() }
        .with_context(|| format!("end the processes of uid {uid}"))?
    {
        // SAFETY: plain calls on plain numbers; the child ends here.
        nix::unistd::ForkResult::Child => unsafe {
            if libc::setgid(uid) == 0 && libc::setuid(uid) == 0 {
                libc::kill(-1, libc::SIGKILL);
            }
            libc::_exit(0)
        },
        nix::unistd::ForkResult::Parent { child } => drop(nix::sys::wait::waitpid(child, None)),
    }
    Ok(())
}

/// Keeps everybody but root from looking into this process's memory or attaching to it, even from
/// the same uid (prctl(2)).
pub(crate) fn set_not_dumpable() {
    #[cfg(target_os = "linux")]
    // SAFETY: a plain call; it cannot fail with these arguments.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0)
    };
}

/// Closes the way to new rights for this process and all that it starts (prctl(2)); other systems
/// have no such switch.
///
/// # Errors
/// The kernel is older than Linux 3.5.
pub(crate) fn set_no_new_privs() -> Result<()> {
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
pub(crate) fn keep_capabilities(kept: &[u32]) -> Result<()> {
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

/// Sets the limits of this process: as many open files as wanted if it may raise the hard limit,
/// else what that allows; at most so many processes and threads of its user; no core dumps.
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
