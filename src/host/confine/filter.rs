//! System calls that no node needs and that lead around the other walls (seccomp(2)).

use seccompiler::{BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch};

use nix::libc;

use crate::problem::{Doing, Result};

/// Namespaces: whoever makes a user namespace is root in it, and meets parts of the kernel that only root should.
const NAMESPACES: &[i32] =
    &[libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET, libc::CLONE_NEWPID, libc::CLONE_NEWIPC, libc::CLONE_NEWUTS, libc::CLONE_NEWCGROUP];

/// Refused whatever their arguments: other namespaces, other processes, the kernel's keyrings (which no namespace divides),
/// and interfaces that are known for holes rather than for use by nodes. io_uring's work is seen by no filter.
const REFUSED: &[i64] = &[
    libc::SYS_setns,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
];

/// Families that the network namespace divides; AF_VSOCK and its like reach past it (vsock(7)).
const FAMILIES: &[i32] = &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Whether this kernel filters system calls, and comfy knows this processor's numbers for them.
pub fn available() -> bool {
    // EINVAL where the kernel has no seccomp (prctl(2)).
    // SAFETY: asks for a number; this process has no strict mode that would end it.
    let kernel = unsafe { libc::prctl(libc::PR_GET_SECCOMP, 0, 0, 0, 0) } >= 0;
    kernel && TargetArch::try_from(std::env::consts::ARCH).is_ok()
}

/// Applies the filters to this thread and all that it starts; needs no_new_privs.
///
/// # Errors
/// What [`available`] says no to.
pub fn apply() -> Result<()> {
    let what = || "filter system calls".to_string();
    for program in [filter(libc::EPERM, refused()).doing(what)?, filter(libc::ENOSYS, unknown()).doing(what)?] {
        seccompiler::apply_filter(&program).doing(what)?;
    }
    Ok(())
}

type Rules = Vec<(i64, Vec<SeccompRule>)>;

fn filter(errno: i32, rules: Result<Rules, seccompiler::BackendError>) -> Result<BpfProgram, seccompiler::BackendError> {
    let arch: TargetArch = std::env::consts::ARCH.try_into()?;
    let mut rules = rules?;
    if arch == TargetArch::x86_64 {
        // The same calls by their x32 numbers (__X32_SYSCALL_BIT of asm/unistd.h).
        let again: Rules = rules.iter().map(|(nr, r)| (nr | 0x4000_0000, r.clone())).collect();
        rules.extend(again);
    }
    SeccompFilter::new(rules.into_iter().collect(), SeccompAction::Allow, SeccompAction::Errno(errno as u32), arch)?.try_into()
}

fn refused() -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = REFUSED.iter().map(|nr| (*nr, Vec::new())).collect();
    let has = |arg: u8, flag: i32| {
        let bit = flag as u32 as u64;
        SeccompRule::new(vec![SeccompCondition::new(arg, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(bit), bit)?])
    };
    for call in [libc::SYS_unshare, libc::SYS_clone] {
        rules.push((call, NAMESPACES.iter().map(|f| has(0, *f)).collect::<Result<_, _>>()?));
    }
    let family = FAMILIES.iter().map(|f| SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, *f as u64)).collect::<Result<_, _>>()?;
    rules.push((libc::SYS_socket, vec![SeccompRule::new(family)?]));
    Ok(rules)
}

/// As if the kernel were older: clone3 hides its flags behind a pointer, and the C library falls back to clone.
fn unknown() -> Result<Rules, seccompiler::BackendError> {
    Ok([libc::SYS_clone3, libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register].map(|nr| (nr, Vec::new())).into())
}
