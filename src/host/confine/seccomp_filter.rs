//! Blocks system calls that no node needs and that bypass the other restrictions (seccomp(2)).

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use nix::libc;

use crate::problem::{Context, Result};

/// Namespaces: whoever makes a user namespace is root in it, and meets parts of the kernel that
/// only root should.
const NAMESPACES: &[i32] = &[
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

/// Refused whatever their arguments: other namespaces, other processes, the kernel's keyrings
/// (which no namespace divides), and interfaces that are known for holes rather than for use by
/// nodes. io_uring's work is seen by no filter.
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
    libc::SYS_fspick,
    libc::SYS_fsconfig,
    OPEN_TREE_ATTR,
    libc::SYS_open_by_handle_at,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_memfd_secret,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// open_tree_attr(2), Linux 6.15; the same number on every processor.
const OPEN_TREE_ATTR: i64 = 467;
/// fchmodat2(2), Linux 6.6; the same number on every processor.
const FCHMODAT2: i64 = 452;

/// Families that the network namespace divides, UNIX first; AF_VSOCK and its like reach past it
/// (vsock(7)).
const FAMILIES: &[i32] = &[
    libc::AF_UNIX,
    libc::AF_INET,
    libc::AF_INET6,
    libc::AF_NETLINK,
];

/// Whether this kernel filters system calls, and comfy knows this processor's numbers for them.
pub(crate) fn is_available() -> bool {
    // EINVAL where the kernel has no seccomp (prctl(2)).
    // SAFETY: asks for a number; this process has no strict mode that would end it.
    let kernel = unsafe { libc::prctl(libc::PR_GET_SECCOMP, 0, 0, 0, 0) } >= 0;
    kernel && TargetArch::try_from(std::env::consts::ARCH).is_ok()
}

/// Applies the filters to this thread and all that it starts; needs no_new_privs.
///
/// # Errors
/// What [`is_available`] says no to.
pub(crate) fn apply_filters() -> Result<()> {
    apply_to(FAMILIES)
}

/// The same for a process that needs no service of this machine: a socket in a folder is hidden by
/// no other wall of a build job.
///
/// # Errors
/// As [`apply_filters`].
pub(crate) fn apply_without_services() -> Result<()> {
    apply_to(&FAMILIES[1..])
}

/// The filter of a process that reads what it is handed and answers: no sockets of its own, no
/// programs, no signals to others, no files by a name.
///
/// # Errors
/// As [`apply_filters`].
pub(crate) fn apply_for_parser() -> Result<()> {
    let what = || "filter system calls".to_string();
    apply_to(&FAMILIES[1..])?;
    let calls = [
        libc::SYS_socket,
        libc::SYS_socketpair,
        libc::SYS_connect,
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_kill,
        libc::SYS_openat,
        libc::SYS_unlinkat,
        libc::SYS_renameat2,
        libc::SYS_mkdirat,
        libc::SYS_prlimit64,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_fork,
    ];
    let rules = Ok(calls.map(|nr| (nr, Vec::new())).into());
    let program = build_filter(libc::EPERM, rules).with_context(what)?;
    seccompiler::apply_filter(&program).with_context(what)
}

fn apply_to(families: &[i32]) -> Result<()> {
    let what = || "filter system calls".to_string();
    // Answered as done: a copied folder has the set-gid bit by inheritance, and a filter cannot
    // tell a folder from a program.
    let idle = build_filter(0, with_mode(0o2000)).with_context(what)?;
    for program in [
        idle,
        build_filter(libc::EPERM, refused_calls(families)).with_context(what)?,
        build_filter(libc::ENOSYS, unknown_calls()).with_context(what)?,
    ] {
        seccompiler::apply_filter(&program).with_context(what)?;
    }
    Ok(())
}

type Rules = Vec<(i64, Vec<SeccompRule>)>;

fn build_filter(
    errno: i32,
    rules: Result<Rules, seccompiler::BackendError>,
) -> Result<BpfProgram, seccompiler::BackendError> {
    let arch: TargetArch = std::env::consts::ARCH.try_into()?;
    let mut rules = rules?;
    if arch == TargetArch::x86_64 {
        // The same calls by their x32 numbers (__X32_SYSCALL_BIT of asm/unistd.h).
        let again: Rules = rules
            .iter()
            .map(|(nr, r)| (nr | 0x4000_0000, r.clone()))
            .collect();
        rules.extend(again);
    }
    SeccompFilter::new(
        rules.into_iter().collect(),
        SeccompAction::Allow,
        SeccompAction::Errno(errno as u32),
        arch,
    )?
    .try_into()
}

fn refused_calls(families: &[i32]) -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = REFUSED.iter().map(|nr| (*nr, Vec::new())).collect();
    let has = |arg: u8, flag: i32| {
        let bit = flag as u32 as u64;
        SeccompRule::new(vec![SeccompCondition::new(
            arg,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::MaskedEq(bit),
            bit,
        )?])
    };
    for call in [libc::SYS_unshare, libc::SYS_clone] {
        rules.push((
            call,
            NAMESPACES
                .iter()
                .map(|f| has(0, *f))
                .collect::<Result<_, _>>()?,
        ));
    }
    let is = |arg: u8, value: i32| {
        SeccompCondition::new(arg, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value as u64)
    };
    let not = |arg: u8, value: i32| {
        SeccompCondition::new(arg, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value as u64)
    };
    let family = families
        .iter()
        .map(|f| not(0, *f))
        .collect::<Result<_, _>>()?;
    let mut sockets = vec![SeccompRule::new(family)?];
    // MPTCP, SCTP, SMC and UDP-Lite reach where Landlock's rules for TCP do not look; the other
    // netlink families configure the kernel.
    for (family, protocols) in [
        (
            libc::AF_INET,
            &[0, libc::IPPROTO_TCP, libc::IPPROTO_UDP][..],
        ),
        (libc::AF_INET6, &[0, libc::IPPROTO_TCP, libc::IPPROTO_UDP]),
        (libc::AF_NETLINK, &[libc::NETLINK_ROUTE]),
    ] {
        let others = protocols.iter().map(|p| not(2, *p));
        sockets.push(SeccompRule::new(
            std::iter::once(is(0, family))
                .chain(others)
                .collect::<Result<_, _>>()?,
        )?);
    }
    rules.push((libc::SYS_socket, sockets));
    rules.push((
        libc::SYS_socketpair,
        vec![SeccompRule::new(vec![not(0, libc::AF_UNIX)?])?],
    ));
    // Connects without connect(2), which Landlock does not see.
    for (call, flags) in [
        (libc::SYS_sendto, 3),
        (libc::SYS_sendmsg, 2),
        (libc::SYS_sendmmsg, 3),
    ] {
        rules.push((call, vec![has(flags, libc::MSG_FASTOPEN)?]));
    }
    let option = |name: i32| SeccompRule::new(vec![is(1, libc::IPPROTO_TCP)?, is(2, name)?]);
    rules.push((
        libc::SYS_setsockopt,
        vec![
            option(libc::TCP_FASTOPEN)?,
            option(libc::TCP_FASTOPEN_CONNECT)?,
        ],
    ));
    // Data that can be executed, for every mapping (personality(2)).
    rules.push((
        libc::SYS_personality,
        vec![has(0, libc::READ_IMPLIES_EXEC)?],
    ));
    rules.extend(with_mode(0o4000)?);
    Ok(rules)
}

/// Calls that give a file a mode: those whose set-uid and set-gid bits are exactly `bits`. Whoever
/// starts such a program outside would be the sandbox user, or in the group of the shares.
fn with_mode(bits: u64) -> Result<Rules, seccompiler::BackendError> {
    let set_ids = |arg: u8| {
        SeccompCondition::new(
            arg,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::MaskedEq(0o6000),
            bits,
        )
    };
    let both = |arg: u8| {
        SeccompCondition::new(
            arg,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::MaskedEq(0o6000),
            0o6000,
        )
    };
    let rule = |arg: u8,
                more: &[SeccompCondition]|
     -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
        let mut all = vec![SeccompRule::new(
            std::iter::once(set_ids(arg)?)
                .chain(more.iter().cloned())
                .collect(),
        )?];
        if bits == 0o4000 {
            all.push(SeccompRule::new(
                std::iter::once(both(arg)?)
                    .chain(more.iter().cloned())
                    .collect(),
            )?);
        }
        Ok(all)
    };
    let mut rules: Rules = vec![
        (libc::SYS_fchmod, rule(1, &[])?),
        (libc::SYS_fchmodat, rule(2, &[])?),
        (FCHMODAT2, rule(2, &[])?),
        (libc::SYS_mknodat, rule(2, &[])?),
    ];
    // Without one of these flags the mode means nothing (open(2)).
    let made = |flags: u8| -> Result<Vec<SeccompCondition>, seccompiler::BackendError> {
        let flag = |bit: i32| {
            SeccompCondition::new(
                flags,
                SeccompCmpArgLen::Dword,
                SeccompCmpOp::MaskedEq(bit as u64),
                bit as u64,
            )
        };
        Ok(vec![
            flag(libc::O_CREAT)?,
            flag(libc::O_TMPFILE & !libc::O_DIRECTORY)?,
        ])
    };
    let opened = |mode: u8| -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
        let each = made(mode - 1)?
            .into_iter()
            .map(|flag| rule(mode, &[flag]))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(each.into_iter().flatten().collect())
    };
    rules.push((libc::SYS_openat, opened(3)?));
    #[cfg(target_arch = "x86_64")]
    rules.extend([
        (libc::SYS_chmod, rule(1, &[])?),
        (libc::SYS_mknod, rule(1, &[])?),
        (libc::SYS_creat, rule(1, &[])?),
        (libc::SYS_open, opened(2)?),
    ]);
    Ok(rules)
}

/// As if the kernel were older: clone3 and openat2 hide their flags behind a pointer, and programs
/// fall back to what came before.
fn unknown_calls() -> Result<Rules, seccompiler::BackendError> {
    Ok([
        libc::SYS_clone3,
        libc::SYS_openat2,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
    ]
    .map(|nr| (nr, Vec::new()))
    .into())
}
