//! Landlock: which files, and where there is no network namespace which ports (kernel doc
//! userspace-api/landlock).

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath,
    PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, Scope,
};

use nix::sys::stat::fstat;

use crate::confine::{Confinement, PathAccess};
use crate::host::fs::file_type;
use crate::plan::observed::FileType;
use crate::problem::{Context, Result};

/// The newest that is asked for; an older kernel does what it knows of it.
const NEWEST: ABI = ABI::V10;

/// The kernel's Landlock version; 0 where it has none or it is off.
pub(crate) fn landlock_abi() -> i64 {
    // LANDLOCK_CREATE_RULESET_VERSION (linux/landlock.h).
    // SAFETY: asks for a number; no pointer is read.
    let n = unsafe {
        nix::libc::syscall(
            nix::libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0_usize,
            1_u32,
        )
    };
    n.max(0)
}

/// Confines this thread and all that it starts. What the launcher has opened is meant by its
/// descriptor (`opened`, by the number of its rule); the other paths are looked up as this process
/// sees them now.
///
/// # Errors
/// The kernel refuses a rule; a kernel without Landlock does nothing, which
/// [`crate::host::confine::missing_features`] has told.
pub(crate) fn apply_rules(c: &Confinement, opened: &BTreeMap<usize, OwnedFd>) -> Result<()> {
    let what = || "ask Landlock".to_string();
    let all = AccessFs::from_all(NEWEST);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)
        .with_context(what)?;
    ruleset = ruleset.scope(Scope::from_all(NEWEST)).with_context(what)?;
    if let Some(ports) = &c.ports {
        let all = if ports.udp {
            AccessNet::BindTcp | AccessNet::ConnectTcp
        } else {
            AccessNet::from_all(NEWEST)
        };
        ruleset = ruleset.handle_access(all).with_context(what)?;
    }
    let mut created = ruleset.create().with_context(what)?.no_new_privs(true);
    for (number, r) in c.rules.iter().enumerate() {
        let here;
        let fd = match opened.get(&number) {
            Some(fd) => fd.as_fd(),
            None if !opened.is_empty() => continue,
            None => {
                // A path that does not exist needs no rule.
                let Ok(found) = PathFd::new(&r.path) else {
                    continue;
                };
                here = found;
                here.as_fd()
            }
        };
        let folder = file_type(&fstat(fd).with_context(what)?) == FileType::Dir;
        created = created
            .add_rule(PathBeneath::new(fd, access_rights(r.may, folder)))
            .with_context(|| format!("ask Landlock for {}", r.path.display()))?;
    }
    if let Some(ports) = &c.ports {
        for (port, access) in ports.bind.iter().map(|p| (p, AccessNet::BindTcp)).chain(
            ports
                .connect
                .iter()
                .chain(&ports.outside)
                .map(|p| (p, AccessNet::ConnectTcp)),
        ) {
            created = created
                .add_rule(NetPort::new(*port, access))
                .with_context(what)?;
        }
    }
    created.restrict_self().with_context(what)?;
    Ok(())
}

fn write_access() -> BitFlags<AccessFs> {
    AccessFs::from_all(NEWEST) & !(AccessFs::IoctlDev | AccessFs::MakeChar | AccessFs::MakeBlock)
}

fn access_rights(may: PathAccess, folder: bool) -> BitFlags<AccessFs> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let rights = match may {
        PathAccess::Read => read,
        PathAccess::Run => read | AccessFs::Execute,
        // No device may be created there, and no program started.
        PathAccess::Write => write_access() & !AccessFs::Execute,
        PathAccess::Make => write_access(),
        PathAccess::Device => read | AccessFs::WriteFile | AccessFs::IoctlDev,
    };
    if folder {
        rights
    } else {
        rights & AccessFs::from_file(NEWEST)
    }
}
