//! One search-only entry in a POSIX access ACL, read and written as the kernel stores it.
//!
//! Format: `linux/posix_acl_xattr.h`: a version (2) and entries of tag, permission, id, little
//! endian, sorted by tag and id. Rules of evaluation: acl(5), "access check algorithm". On macOS
//! [`super::super::accounts::macos`] does this through chmod(1).

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::{fchmod, fstat};

use super::{as_mode, open_dir, permission_bits, unreadable};
use crate::plan::observed::{SearchPermission, Seen, UnknownState};
use crate::problem::{Cause, Problem, Result};

const VERSION: u32 = 2;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
const SEARCH: u16 = 1;
const NO_ID: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct AclEntry {
    tag: u16,
    id: u32,
    perm: u16,
}

fn decode_entries(raw: &[u8]) -> Option<Vec<AclEntry>> {
    let (head, rest) = raw.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*head) != VERSION || rest.len() % 8 != 0 {
        return None;
    }
    let entries = rest.chunks_exact(8).map(|c| AclEntry {
        tag: u16::from_le_bytes([c[0], c[1]]),
        perm: u16::from_le_bytes([c[2], c[3]]),
        id: u32::from_le_bytes([c[4], c[5], c[6], c[7]]),
    });
    Some(entries.collect())
}

fn encode_entries(entries: &[AclEntry]) -> Vec<u8> {
    let mut out = VERSION.to_le_bytes().to_vec();
    for e in entries {
        out.extend_from_slice(&e.tag.to_le_bytes());
        out.extend_from_slice(&e.perm.to_le_bytes());
        out.extend_from_slice(&e.id.to_le_bytes());
    }
    out
}

/// What a mode alone says.
fn minimal_entries(bits: u32) -> Vec<AclEntry> {
    let p = |shift: u32| ((bits >> shift) & 7) as u16;
    vec![
        AclEntry {
            tag: USER_OBJ,
            id: NO_ID,
            perm: p(6),
        },
        AclEntry {
            tag: GROUP_OBJ,
            id: NO_ID,
            perm: p(3),
        },
        AclEntry {
            tag: OTHER,
            id: NO_ID,
            perm: p(0),
        },
    ]
}

/// Whether `uid` in `gids` may search a folder of `owner` and `group` with these entries.
fn may_search(entries: &[AclEntry], owner: u32, group: u32, uid: u32, gids: &[u32]) -> bool {
    let find = |tag| entries.iter().find(|e| e.tag == tag).map(|e| e.perm);
    let mask = find(MASK).unwrap_or(7);
    if uid == owner {
        return find(USER_OBJ).unwrap_or(0) & SEARCH != 0;
    }
    if let Some(e) = entries.iter().find(|e| e.tag == USER && e.id == uid) {
        return e.perm & mask & SEARCH != 0;
    }
    let groups: Vec<u16> = entries
        .iter()
        .filter(|e| {
            (e.tag == GROUP_OBJ && gids.contains(&group))
                || (e.tag == GROUP && gids.contains(&e.id))
        })
        .map(|e| e.perm)
        .collect();
    if !groups.is_empty() {
        return groups.iter().any(|p| p & mask & SEARCH != 0);
    }
    find(OTHER).unwrap_or(0) & SEARCH != 0
}

/// The ACL with or without a search-only entry for `uid`; the last entry gone, the group bits are
/// what they were.
fn edit_entries(mut entries: Vec<AclEntry>, uid: u32, grant: bool) -> Vec<AclEntry> {
    entries.retain(|e| !(e.tag == USER && e.id == uid));
    if grant {
        entries.push(AclEntry {
            tag: USER,
            id: uid,
            perm: SEARCH,
        });
        // A mask is required; it must let search through and nothing that it held back before.
        let group = entries
            .iter()
            .find(|e| e.tag == GROUP_OBJ)
            .map_or(0, |e| e.perm);
        match entries.iter_mut().find(|e| e.tag == MASK) {
            Some(m) => m.perm |= SEARCH,
            None => entries.push(AclEntry {
                tag: MASK,
                id: NO_ID,
                perm: group | SEARCH,
            }),
        }
    } else if !entries.iter().any(|e| matches!(e.tag, USER | GROUP)) {
        entries.retain(|e| e.tag != MASK);
    }
    entries.sort();
    entries
}

#[cfg(target_os = "linux")]
const NAME: &std::ffi::CStr = c"system.posix_acl_access";
#[cfg(target_os = "linux")]
const DEFAULT: &std::ffi::CStr = c"system.posix_acl_default";

#[cfg(target_os = "linux")]
fn read_raw(fd: &OwnedFd) -> std::result::Result<Option<Vec<u8>>, Errno> {
    let mut buf = vec![0u8; 8192];
    // SAFETY: name is NUL-terminated, buf is as long as is said.
    let n = unsafe {
        nix::libc::fgetxattr(
            fd.as_raw_fd(),
            NAME.as_ptr(),
            buf.as_mut_ptr().cast(),
            buf.len(),
        )
    };
    trim_value(n, buf)
}

#[cfg(target_os = "linux")]
fn read_by_path(path: &Path) -> std::result::Result<Option<Vec<u8>>, Errno> {
    let path = super::c_string(path.as_os_str()).map_err(|_| Errno::EINVAL)?;
    let mut buf = vec![0u8; 8192];
    // SAFETY: path and name are NUL-terminated, buf is as long as is said.
    let n = unsafe {
        nix::libc::lgetxattr(
            path.as_ptr(),
            NAME.as_ptr(),
            buf.as_mut_ptr().cast(),
            buf.len(),
        )
    };
    trim_value(n, buf)
}

#[cfg(target_os = "linux")]
fn trim_value(n: isize, mut buf: Vec<u8>) -> std::result::Result<Option<Vec<u8>>, Errno> {
    match Errno::result(n) {
        Ok(n) => {
            buf.truncate(n as usize);
            Ok(Some(buf))
        }
        Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(target_os = "linux")]
fn write_raw(fd: &OwnedFd, value: Option<&[u8]>) -> std::result::Result<(), Errno> {
    // SAFETY: name is NUL-terminated, the value as long as is said.
    let n = unsafe {
        match value {
            Some(v) => {
                nix::libc::fsetxattr(fd.as_raw_fd(), NAME.as_ptr(), v.as_ptr().cast(), v.len(), 0)
            }
            None => nix::libc::fremovexattr(fd.as_raw_fd(), NAME.as_ptr()),
        }
    };
    match Errno::result(n) {
        Ok(_) | Err(Errno::ENODATA) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Elsewhere ACLs have another form, and another module writes them.
#[cfg(not(target_os = "linux"))]
fn read_raw(fd: &OwnedFd) -> std::result::Result<Option<Vec<u8>>, Errno> {
    let _ = fd.as_raw_fd();
    Ok(None)
}

#[cfg(not(target_os = "linux"))]
fn read_by_path(_: &Path) -> std::result::Result<Option<Vec<u8>>, Errno> {
    Ok(None)
}

#[cfg(not(target_os = "linux"))]
fn write_raw(_: &OwnedFd, _: Option<&[u8]>) -> std::result::Result<(), Errno> {
    Err(Errno::ENOTSUP)
}

/// Whether `uid` passes `folder`. Needs read permission on the folder, or root.
pub(crate) fn search_permission(
    folder: &Path,
    uid: u32,
    gids: &[u32],
) -> Seen<Option<SearchPermission>> {
    let st = match nix::sys::stat::lstat(folder) {
        Ok(st) => st,
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
        Err(e) => return Err(unreadable(folder, e)),
    };
    let plain = may_search(
        &minimal_entries(permission_bits(&st)),
        st.st_uid,
        st.st_gid,
        uid,
        gids,
    );
    let fd = match open_dir(folder) {
        Ok(fd) => Some(fd),
        // Its list can be read all the same, by whoever passes through the folder above (xattr(7)).
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => None,
        Err(e) => {
            return Err(UnknownState::io(folder, &e));
        }
    };
    let raw = match &fd {
        Some(fd) => read_raw(fd),
        None => read_by_path(folder),
    }
    .map_err(|e| unreadable(folder, e))?;
    let entries = raw.as_deref().and_then(decode_entries);
    let entry = entries
        .iter()
        .flatten()
        .any(|e| e.tag == USER && e.id == uid);
    let passes = entries.map_or(plain, |e| may_search(&e, st.st_uid, st.st_gid, uid, gids));
    Ok(Some(SearchPermission { passes, entry }))
}

/// Sets or takes away the entry of `uid`, by descriptor.
pub(crate) fn change_entry(folder: &Path, uid: u32, grant: bool) -> Result<()> {
    let what = |e: &dyn Cause| {
        Problem::new(format!("traverse.{}: {e}", folder.display()))
            .caused_by(e)
            .with_hint("the file system must support ACLs; or move the share out of this folder")
    };
    let fd = match open_dir(folder) {
        Err(e) if !grant && e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        r => r.map_err(|e| what(&e))?,
    };
    let st = fstat(&fd).map_err(|e| what(&e))?;
    let raw = read_raw(&fd).map_err(|e| what(&e))?;
    let before = raw
        .as_deref()
        .and_then(decode_entries)
        .unwrap_or_else(|| minimal_entries(permission_bits(&st)));
    let after = edit_entries(before, uid, grant);
    if after.iter().any(|e| e.tag == MASK) {
        return write_raw(&fd, Some(&encode_entries(&after))).map_err(|e| what(&e));
    }
    // No entry of its own is left: the ACL goes, and the mode says what its three entries said.
    let perm = |tag| {
        after
            .iter()
            .find(|e| e.tag == tag)
            .map_or(0, |e| u32::from(e.perm))
    };
    if raw.is_some() {
        write_raw(&fd, None).map_err(|e| what(&e))?;
        let plain = (permission_bits(&st) & 0o7000)
            | perm(USER_OBJ) << 6
            | perm(GROUP_OBJ) << 3
            | perm(OTHER);
        fchmod(&fd, as_mode(plain)).map_err(|e| what(&e))?;
    }
    Ok(())
}

/// Whether an open folder has any list beside its mode, for itself or for what is made in it.
#[cfg(target_os = "linux")]
pub(crate) fn has_list(fd: &impl AsRawFd) -> bool {
    // SAFETY: names are NUL-terminated; with no buffer the answer is a length (getxattr(2)).
    [NAME, DEFAULT].iter().any(|name| unsafe {
        nix::libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), std::ptr::null_mut(), 0) > 0
    })
}

/// Whether what lies at `path` has an access list beside its mode; one that cannot be read counts.
#[cfg(target_os = "linux")]
pub(crate) fn has_acl(path: &Path) -> bool {
    !matches!(read_by_path(path), Ok(None) | Err(Errno::ENOENT))
}

/// Elsewhere a list does not hide in the group's bits of a mode.
#[cfg(not(target_os = "linux"))]
pub(crate) fn has_acl(_: &Path) -> bool {
    false
}

/// There one list serves both. xnu keeps an empty list apart from none (`kern_authorization.c`), and
/// it grants nothing either.
#[cfg(target_os = "macos")]
pub(crate) fn has_list(fd: &impl AsRawFd) -> bool {
    // SAFETY: an open descriptor; the list is acl_get_fd_np's own and freed once. No list is null;
    // the entry is the list's and is not looked at.
    unsafe {
        let list = acl_get_fd_np(fd.as_raw_fd(), ACL_TYPE_EXTENDED);
        if list.is_null() {
            return false;
        }
        let mut entry = std::ptr::null_mut();
        let found = acl_get_entry(list, ACL_FIRST_ENTRY, &raw mut entry) == 0;
        acl_free(list);
        found
    }
}

/// Takes every ACL off an open file or folder: a mask that comes back to life would undo a mode.
pub(crate) fn drop_all(fd: &impl AsRawFd) {
    #[cfg(target_os = "linux")]
    for name in [NAME, DEFAULT] {
        // SAFETY: name is NUL-terminated. Nothing to remove is the usual answer.
        unsafe { nix::libc::fremovexattr(fd.as_raw_fd(), name.as_ptr()) };
    }
    #[cfg(target_os = "macos")]
    // SAFETY: a filesec of filesec_init's own, used on an open descriptor and freed once; the value
    // is a mark, not an address that is read. A file system without ACLs refuses, and then has none
    // to drop. chmod(1) -N does the same (file_cmds `chmod_acl.c`).
    unsafe {
        let change = filesec_init();
        if !change.is_null() {
            let mark = std::ptr::without_provenance(FILESEC_REMOVE_ACL);
            if filesec_set_property(change, FILESEC_ACL, mark) == 0 {
                fchmodx_np(fd.as_raw_fd(), change);
            }
            filesec_free(change);
        }
    }
}

/// sys/acl.h of macOS.
#[cfg(target_os = "macos")]
const ACL_TYPE_EXTENDED: nix::libc::c_int = 0x100;
#[cfg(target_os = "macos")]
const ACL_FIRST_ENTRY: nix::libc::c_int = 0;
/// sys/fcntl.h of macOS: the property, and its value that takes the list away.
#[cfg(target_os = "macos")]
const FILESEC_ACL: nix::libc::c_int = 5;
#[cfg(target_os = "macos")]
const FILESEC_REMOVE_ACL: usize = 1;

// acl_get(3), acl_get_entry(3), acl_free(3), filesec_init(3), chmodx_np(3) of macOS; libc does not
// have them.
#[cfg(target_os = "macos")]
unsafe extern "C" {
    fn acl_get_fd_np(fd: nix::libc::c_int, kind: nix::libc::c_int) -> *mut nix::libc::c_void;
    fn acl_get_entry(
        acl: *mut nix::libc::c_void,
        which: nix::libc::c_int,
        entry: *mut *mut nix::libc::c_void,
    ) -> nix::libc::c_int;
    fn filesec_init() -> *mut nix::libc::c_void;
    fn filesec_free(change: *mut nix::libc::c_void);
    fn filesec_set_property(
        change: *mut nix::libc::c_void,
        property: nix::libc::c_int,
        value: *const nix::libc::c_void,
    ) -> nix::libc::c_int;
    fn fchmodx_np(fd: nix::libc::c_int, change: *mut nix::libc::c_void) -> nix::libc::c_int;
    fn acl_free(object: *mut nix::libc::c_void) -> nix::libc::c_int;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_lets_exactly_one_user_search_and_leaves_no_trace_when_taken_back() {
        for bits in [0o700, 0o750, 0o711, 0o770] {
            let before = minimal_entries(bits);
            let granted = edit_entries(before.clone(), 441, true);
            assert!(may_search(&granted, 1000, 1000, 441, &[441]), "{bits:o}");
            // A stranger and the group get nothing that they did not have.
            for (uid, gid) in [(7, 7), (7, 1000)] {
                assert_eq!(
                    may_search(&granted, 1000, 1000, uid, &[gid]),
                    may_search(&before, 1000, 1000, uid, &[gid]),
                    "{bits:o} {gid}"
                );
            }
            assert_eq!(
                edit_entries(granted.clone(), 441, false),
                before,
                "{bits:o}"
            );
            assert_eq!(decode_entries(&encode_entries(&granted)), Some(granted));
        }
    }

    #[test]
    fn a_chmod_that_masked_the_entry_is_seen() {
        let mut entries = edit_entries(minimal_entries(0o700), 441, true);
        entries
            .iter_mut()
            .filter(|e| e.tag == MASK)
            .for_each(|e| e.perm = 0);
        assert!(!may_search(&entries, 1000, 1000, 441, &[]));
        assert!(may_search(
            &edit_entries(entries, 441, true),
            1000,
            1000,
            441,
            &[]
        ));
    }
}
