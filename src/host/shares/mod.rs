//! A share's tree: one rule ([`rules::evaluate_entry`]) that both the check and the mend follow.

mod check;
pub(crate) mod first_content;
mod release;
mod repair;

use nix::errno::Errno;
use nix::sys::stat::{FileStat, fchmod, fstat};
use nix::unistd::{Gid, Uid, fchown};

use super::fs::{as_mode, file_type, permission_bits};
use crate::host::fs::walk::WalkedFolder;
use crate::host::fs::{acl, mounts};
use crate::host::machine::operating_system;
use crate::manifest::ShareAccess;
use crate::plan::observed::{Seen, ShareSpec, UnknownState};
use crate::plan::share_rules as rules;
use crate::plan::share_rules::{ShareDrift, ShareEntry, UnmanagedReason};
use crate::problem::{Problem, Result};
pub(crate) use check::check_share;
pub(crate) use release::release_share;
pub(crate) use repair::{mend_opened, repair_share};

/// [`rules::evaluate_entry`] on a stat and the flags beside it.
fn evaluate_stat(
    s: &ShareSpec,
    st: &FileStat,
    flags: u32,
) -> (Option<ShareDrift>, Option<UnmanagedReason>) {
    #[allow(clippy::useless_conversion, reason = "nlink_t has 16 bits on macOS")]
    let links = u64::from(st.st_nlink);
    rules::evaluate_entry(
        s,
        &ShareEntry {
            kind: file_type(st),
            uid: st.st_uid,
            gid: st.st_gid,
            mode: permission_bits(st),
            links,
            flags,
        },
    )
}

/// Whether a share passes over an entry: macOS's Finder writes such files into every folder that it
/// shows.
fn is_passed_over(name: &std::ffi::CStr) -> bool {
    operating_system().is_macos() && rules::is_finders(name.to_bytes())
}

/// A volume that is absent makes its share unknown; nothing is made on the mount point.
pub(crate) fn mount_ready(spec: &ShareSpec) -> Seen<()> {
    ensure_mounted(spec.requires_mount.as_deref())
}

/// Whether the volume that something needs is there.
pub(crate) fn ensure_mounted(volume: Option<&std::path::Path>) -> Seen<()> {
    let Some(volume) = volume else { return Ok(()) };
    let say = |why: String| UnknownState::new(format!("volume {} {why}", volume.display()), false);
    match mounts::is_mounted(volume) {
        Ok(true) => Ok(()),
        Ok(false) => Err(say("is not mounted".into())),
        Err(e) => Err(say(format!("could not be asked for: {e}"))),
    }
}

/// Whether a folder has a list of others' rights, which whatever is made in it inherits. Where the
/// sandbox may add folders it may have made such a one, and what the owner puts there would be for
/// others to change.
fn hands_down(spec: &ShareSpec, folder: &WalkedFolder) -> bool {
    spec.modes && spec.access == ShareAccess::Add && acl::has_list(&folder.fd)
}

const HANDS_DOWN: &str = "folders have an access list";

/// The share's own folder, with what is missing above it: owned by the owner, the folder itself
/// with its exact mode.
pub(crate) fn make_root(spec: &ShareSpec) -> Result<()> {
    let fail = |e: std::io::Error| {
        Problem::new(format!("share {}: {}: {e}", spec.name, spec.path.display())).caused_by(&e)
    };
    mount_ready(spec)
        .map_err(|u| Problem::new(format!("share {}: {}", spec.name, u.reason)).of_kind(u.kind))?;
    let (owner, group) = (Uid::from_raw(spec.owner), Gid::from_raw(spec.owner_gid));
    crate::host::fs::edit::make_parents(&spec.path, owner, group).map_err(fail)?;
    let (parent, name) = super::fs::open_parent(&spec.path).map_err(fail)?;
    match nix::sys::stat::mkdirat(&parent, name.as_c_str(), as_mode(0o700)) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(e) => return Err(fail(e.into())),
    }
    let fd = super::fs::open_dir_at(&parent, &name).map_err(fail)?;
    if !spec.modes {
        let st = fstat(&fd).map_err(|e| fail(e.into()))?;
        return if permission_bits(&st) == 0o700 {
            fchmod(&fd, as_mode(0o755)).map_err(|e| fail(e.into()))
        } else {
            Ok(())
        };
    }
    let st = fstat(&fd).map_err(|e| fail(e.into()))?;
    if st.st_uid != spec.owner && st.st_uid != 0 {
        return Err(Problem::new(format!(
            "share {}: {} belongs to uid {}",
            spec.name,
            spec.path.display(),
            st.st_uid
        ))
        .with_hint(format!(
            "if it is yours: sudo chown {} {}",
            spec.owner,
            spec.path.display()
        )));
    }
    // Again on what was opened: the plan has looked at the path.
    if st.st_uid != spec.owner && !super::fs::is_empty(&fd).map_err(fail)? {
        return Err(Problem::new(format!(
            "share {}: {} belongs to root and is not empty: comfy does not take it over",
            spec.name,
            spec.path.display()
        ))
        .with_hint(format!(
            "look at it, and if it is yours: sudo chown {} '{}'",
            spec.owner,
            spec.path.display()
        )));
    }
    acl::drop_all(&fd);
    fchown(&fd, Some(owner), Some(Gid::from_raw(spec.gid))).map_err(|e| fail(e.into()))?;
    fchmod(&fd, as_mode(spec.root_mode())).map_err(|e| fail(e.into()))
}
