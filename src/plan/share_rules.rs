//! Which entries of a share differ, and what they should be: the table in docs/how-it-works.md.

use std::path::{Component, Path};

use super::observed::{FileType, ShareSpec};
use crate::manifest::ShareAccess;

/// One entry below a share's own folder.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShareEntry {
    pub kind: FileType,
    pub uid: u32,
    pub gid: u32,
    /// The twelve permission bits.
    pub mode: u32,
    pub links: u64,
    /// chflags(2); 0 outside macOS.
    pub flags: u32,
}

/// What the owner of a file, or the Finder for him ("Locked"), sets (sys/stat.h of macOS).
pub(crate) const USER_IMMUTABLE: u32 = 0x2;
pub(crate) const USER_APPEND: u32 = 0x4;
/// What root or the system itself sets: SF_IMMUTABLE, SF_APPEND, SF_RESTRICTED.
const SYSTEM_LOCKS: u32 = 0x2_0000 | 0x4_0000 | 0x8_0000;

/// Returns whether the flags keep everybody, root too, from changing a file.
pub(crate) fn is_locked(flags: u32) -> bool {
    flags & (USER_IMMUTABLE | USER_APPEND | SYSTEM_LOCKS) != 0
}

/// Returns whether the Finder has put a file of this name there, with a mode of its own: it does so in
/// every folder that it shows, and ComfyUI reads none of them.
pub(crate) fn is_finders(name: &[u8]) -> bool {
    name == b".DS_Store" || name == b".localized" || name.starts_with(b"._")
}

/// What has to change about an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShareDrift {
    pub group: bool,
    /// The mode it should have.
    pub mode: Option<u32>,
    /// True if the owner must change too: in an `add` share folders belong to the owner.
    pub owner: bool,
}

/// Why an entry is reported and not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum UnmanagedReason {
    Special,
    HardLink,
    SetId,
    Stranger,
    Deep,
    LeadsOut,
    Locked,
}

impl UnmanagedReason {
    pub(crate) fn word(self) -> &'static str {
        match self {
            UnmanagedReason::Special => "devices, sockets or pipes",
            UnmanagedReason::HardLink => "files with another hard link elsewhere",
            UnmanagedReason::SetId => "set-uid or set-gid files",
            UnmanagedReason::Locked => {
                "locked entries (the Finder's Get Info > Locked), whose group or mode is not that of \
                 the share (unlock them: chflags nouchg)"
            }
            UnmanagedReason::Deep => "folders nested deeper than a path can be long",
            UnmanagedReason::LeadsOut => {
                "links that lead out of the share, where ComfyUI reads nothing but other shares \
                 (put the files here, or declare a share for their folder)"
            }
            UnmanagedReason::Stranger => {
                "entries that belong to neither the owner nor the sandbox user"
            }
        }
    }
}

/// Returns whether a link in the folder `folder` of the share at `share` leads out of it, as far as its
/// text says.
pub(crate) fn leads_out(share: &Path, folder: &str, target: &Path) -> bool {
    if target.is_absolute() {
        return !target.starts_with(share)
            || target.components().any(|c| c == Component::ParentDir);
    }
    let mut depth = folder.split('/').filter(|p| !p.is_empty()).count();
    target.components().any(|c| match c {
        Component::ParentDir if depth == 0 => true,
        Component::ParentDir => {
            depth -= 1;
            false
        }
        Component::Normal(_) => {
            depth += 1;
            false
        }
        _ => false,
    })
}

/// Evaluates one entry: how it differs, and why it is not managed. Execute and "other" bits are
/// ignored.
pub(crate) fn evaluate_entry(
    s: &ShareSpec,
    e: &ShareEntry,
) -> (Option<ShareDrift>, Option<UnmanagedReason>) {
    let is = e.mode;
    let stranger = (e.uid != s.owner && e.uid != s.sandbox).then_some(UnmanagedReason::Stranger);
    let want = match e.kind {
        FileType::Link => return (None, None),
        FileType::Other => return (None, Some(UnmanagedReason::Special)),
        FileType::Dir => {
            let setgid = if s.setgid { 0o2000 } else { 0 };
            match s.access {
                ShareAccess::Read => (is | 0o050 | setgid) & !0o020,
                ShareAccess::Write => is | 0o070 | setgid,
                ShareAccess::Add => is | 0o1070 | setgid,
            }
        }
        FileType::File => {
            // Whoever starts such a program of the sandbox user becomes the sandbox user, without
            // any confinement.
            let own = e.uid == s.sandbox && e.links == 1;
            if is & 0o6000 != 0 && !own {
                return (None, Some(UnmanagedReason::SetId));
            }
            let plain = is & !0o6000;
            match s.access {
                // The sandbox user may keep its own additions as they are.
                ShareAccess::Add if e.uid == s.sandbox => plain,
                ShareAccess::Write => plain | 0o060,
                ShareAccess::Read | ShareAccess::Add => (plain | 0o040) & !0o020,
            }
        }
    };
    let additions = s.access == ShareAccess::Add && e.kind == FileType::File && e.uid == s.sandbox;
    let fault = ShareDrift {
        group: e.gid != s.gid && !additions,
        mode: (want != is).then_some(want),
        owner: e.kind == FileType::Dir && s.access == ShareAccess::Add && e.uid == s.sandbox,
    };
    if fault
        == (ShareDrift {
            group: false,
            mode: None,
            owner: false,
        })
    {
        return (None, stranger);
    }
    // A file of the sandbox user's own is unlocked and repaired; what the owner or the system has
    // locked is theirs.
    if is_locked(e.flags) && (e.uid != s.sandbox || e.flags & SYSTEM_LOCKS != 0) {
        return (None, Some(UnmanagedReason::Locked));
    }
    // The sandbox user may have hard-linked a file that it cannot read: setting group and mode
    // would open it.
    if e.kind == FileType::File && e.links > 1 {
        return (None, Some(UnmanagedReason::HardLink));
    }
    // A third party's file or folder is not comfy's to open; nobody intended that the sandbox can
    // write it through the group.
    if stranger.is_some() {
        let closes = e.gid == s.gid && s.access != ShareAccess::Write && is & 0o020 != 0;
        return (
            closes.then_some(ShareDrift {
                group: false,
                mode: Some(is & !0o020),
                owner: false,
            }),
            stranger,
        );
    }
    (Some(fault), stranger)
}

/// Describes what is wrong with a mode, as text that follows a count.
pub(crate) fn mode_phrase(s: &ShareSpec, dir: bool, is: u32, want: u32) -> &'static str {
    let lost = is & !want;
    match (s.access, dir) {
        (_, false) if lost & 0o6000 != 0 => "files of the sandbox user are set-uid or set-gid",
        (ShareAccess::Read | ShareAccess::Add, false) if lost & 0o020 != 0 => {
            "files let the group write"
        }
        (ShareAccess::Read, true) if lost & 0o020 != 0 => "folders let the group write",
        (ShareAccess::Write, false) => "files lack group read or write",
        (_, false) => "files lack group read",
        (_, true) if (want & !is) & 0o777 == 0 && (want & !is) & 0o1000 != 0 => {
            "folders lack the sticky bit"
        }
        (_, true) if (want & !is) & 0o777 == 0 => "folders lack setgid",
        (ShareAccess::Read, true) => "folders lack group read or search",
        (_, true) => "folders lack group read, write or search",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(access: ShareAccess) -> ShareSpec {
        ShareSpec {
            name: "s".into(),
            path: "/s".into(),
            access,
            requires_mount: None,
            owner: 1000,
            owner_gid: 1000,
            sandbox: 402,
            gid: 401,
            setgid: true,
            modes: true,
            manage: true,
        }
    }

    /// One line per entry: its state, and what becomes of it.
    #[test]
    fn the_table_of_modes() {
        let mut rows = Vec::new();
        for access in [ShareAccess::Read, ShareAccess::Write, ShareAccess::Add] {
            for (kind, uid, mode) in [
                (FileType::Dir, 1000, 0o2755),
                (FileType::Dir, 1000, 0o700),
                (FileType::Dir, 402, 0o775),
                (FileType::File, 1000, 0o600),
                (FileType::File, 1000, 0o664),
                (FileType::File, 402, 0o644),
                (FileType::File, 1000, 0o755),
                (FileType::File, 402, 0o6755),
                (FileType::File, 7, 0o644),
                (FileType::File, 7, 0o664),
            ] {
                let e = ShareEntry {
                    kind,
                    uid,
                    gid: 401,
                    mode,
                    links: 1,
                    flags: 0,
                };
                let (fault, odd) = evaluate_entry(&spec(access), &e);
                let becomes = fault.map_or("fine".into(), |f| {
                    format!(
                        "{:04o}{}",
                        f.mode.unwrap_or(mode),
                        if f.owner { ", the owner's" } else { "" }
                    )
                });
                rows.push(format!(
                    "{access:?} {kind:?} of {uid} {mode:04o}: {becomes}{}",
                    odd.map_or(String::new(), |o| format!(" ({})", o.word()))
                ));
            }
        }
        insta::assert_snapshot!(rows.join("\n"), @"
        Read Dir of 1000 2755: fine
        Read Dir of 1000 0700: 2750
        Read Dir of 402 0775: 2755
        Read File of 1000 0600: 0640
        Read File of 1000 0664: 0644
        Read File of 402 0644: fine
        Read File of 1000 0755: fine
        Read File of 402 6755: 0755
        Read File of 7 0644: fine (entries that belong to neither the owner nor the sandbox user)
        Read File of 7 0664: 0644 (entries that belong to neither the owner nor the sandbox user)
        Write Dir of 1000 2755: 2775
        Write Dir of 1000 0700: 2770
        Write Dir of 402 0775: 2775
        Write File of 1000 0600: 0660
        Write File of 1000 0664: fine
        Write File of 402 0644: 0664
        Write File of 1000 0755: 0775
        Write File of 402 6755: 0775
        Write File of 7 0644: fine (entries that belong to neither the owner nor the sandbox user)
        Write File of 7 0664: fine (entries that belong to neither the owner nor the sandbox user)
        Add Dir of 1000 2755: 3775
        Add Dir of 1000 0700: 3770
        Add Dir of 402 0775: 3775, the owner's
        Add File of 1000 0600: 0640
        Add File of 1000 0664: 0644
        Add File of 402 0644: fine
        Add File of 1000 0755: fine
        Add File of 402 6755: 0755
        Add File of 7 0644: fine (entries that belong to neither the owner nor the sandbox user)
        Add File of 7 0664: 0644 (entries that belong to neither the owner nor the sandbox user)
        ");
    }

    #[test]
    fn a_lock_of_the_owner_s_stays_and_one_of_the_sandbox_user_s_does_not() {
        let verdict = |uid, mode, flags| {
            let e = ShareEntry {
                kind: FileType::File,
                uid,
                gid: 401,
                mode,
                links: 1,
                flags,
            };
            let (fault, odd) = evaluate_entry(&spec(ShareAccess::Write), &e);
            (fault.is_some(), odd)
        };
        let locked = Some(UnmanagedReason::Locked);
        assert_eq!(verdict(1000, 0o600, USER_IMMUTABLE), (false, locked));
        assert_eq!(verdict(1000, 0o660, USER_IMMUTABLE), (false, None));
        assert_eq!(verdict(402, 0o600, USER_IMMUTABLE), (true, None));
        assert_eq!(verdict(402, 0o600, USER_APPEND), (true, None));
        assert_eq!(verdict(402, 0o600, SYSTEM_LOCKS), (false, locked));
        // UF_HIDDEN and UF_COMPRESSED lock nothing.
        assert_eq!(verdict(1000, 0o600, 0x8000 | 0x20), (true, None));
    }

    #[test]
    fn what_the_finder_puts_everywhere_is_known_by_its_name() {
        let all = [
            ".DS_Store",
            "._model.safetensors",
            ".localized",
            ".x",
            "_.x",
            "DS_Store",
        ];
        let found: Vec<_> = all.iter().filter(|n| is_finders(n.as_bytes())).collect();
        assert_eq!(found, [&".DS_Store", &"._model.safetensors", &".localized"]);
    }

    #[test]
    fn a_file_that_is_linked_from_elsewhere_is_never_opened() {
        let e = ShareEntry {
            kind: FileType::File,
            uid: 1000,
            gid: 1000,
            mode: 0o600,
            links: 2,
            flags: 0,
        };
        for access in [ShareAccess::Read, ShareAccess::Write, ShareAccess::Add] {
            assert_eq!(
                evaluate_entry(&spec(access), &e),
                (None, Some(UnmanagedReason::HardLink))
            );
        }
    }
}
