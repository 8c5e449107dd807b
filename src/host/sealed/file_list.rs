//! A sealed folder that is known by a list of its files: made under the build uid, listed there,
//! sealed by root, compared with the list ever after. Virtual environments and interpreters are
//! such.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Mutex;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FchmodatFlags, FileStat, fchmodat};
use nix::unistd::{Gid, Uid, fchownat};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::list_tree::{FoundEntry, list_tree};
use super::verification::{SealedTree, VerificationCache};
use crate::host::fs::walk::{TreeVisitor, WalkedFolder, walk_tree};
use crate::host::fs::{as_mode, file_type, open_dir, permission_bits};
use crate::plan::ids::AccountIds;
use crate::plan::observed::{DifferenceKind, FileType, Seen, TreeDifference, UnknownState};
use crate::problem::{Context, Problem, Result};

/// One entry; folders are implied where something is in them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum ListedFile {
    /// Size in bytes, SHA-256 as a RECORD writes it, executable.
    File(u64, String, bool),
    Link(String),
    /// Named on its own, since it may be empty.
    Folder,
}

/// Paths below the folder, by what brought them: a package (`numpy==1.26.4` and its wheel's hash);
/// `""` holds the rest. Several may bring one path: that of the last in order is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct FileList(pub BTreeMap<String, BTreeMap<String, ListedFile>>);

impl FileList {
    /// The list at `path`; an absent or damaged one is empty.
    ///
    /// # Errors
    /// It may not be read.
    pub(crate) fn load(path: &Path) -> Seen<FileList> {
        match std::fs::read(path) {
            Ok(text) => Ok(serde_json::from_slice(&text).unwrap_or_default()),
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                Err(UnknownState::new(format!("{}: {e}", path.display()), true).caused_by(&e))
            }
            Err(_) => Ok(FileList::default()),
        }
    }

    /// Everything below `folder`, read as it is.
    ///
    /// # Errors
    /// Something cannot be read, or is neither file nor link.
    pub(crate) fn of(folder: &Path) -> Result<FileList> {
        let items: Vec<Result<(String, ListedFile)>> = list_entries(folder)?
            .into_par_iter()
            .map(|f| listed_file(folder, &f).map(|i| (f.path, i)))
            .collect();
        Ok(FileList(BTreeMap::from([(
            String::new(),
            items.into_iter().collect::<Result<_>>()?,
        )])))
    }

    /// What is there by path, with what brought it.
    pub(crate) fn by_path(&self) -> BTreeMap<&str, (&str, &ListedFile)> {
        self.0
            .iter()
            .flat_map(|(k, items)| {
                items
                    .iter()
                    .map(move |(p, i)| (p.as_str(), (k.as_str(), i)))
            })
            .collect()
    }
}

/// The hash of a file of about `size` bytes, as a RECORD writes it.
///
/// # Errors
/// It cannot be read.
pub(crate) fn hash_file(mut file: impl Read, size: u64) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![
        0;
        usize::try_from(size)
            .unwrap_or(usize::MAX)
            .clamp(1, 1 << 18)
    ];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(BASE64_URL_SAFE_NO_PAD.encode(hasher.finalize())),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// Every entry below `folder` that is no folder itself.
///
/// # Errors
/// Something cannot be read.
pub(crate) fn list_entries(folder: &Path) -> Result<Vec<FoundEntry>> {
    let fd = open_dir(folder).with_context(|| format!("open {}", folder.display()))?;
    let (mut all, _) = list_tree(&fd, folder).map_err(Problem::from)?;
    all.retain(|f| f.kind != FileType::Dir);
    Ok(all)
}

/// What one entry of [`list_entries`] is.
///
/// # Errors
/// It cannot be read.
pub(crate) fn listed_file(folder: &Path, f: &FoundEntry) -> Result<ListedFile> {
    if let Some(to) = &f.target {
        return Ok(ListedFile::Link(to.display().to_string()));
    }
    let (at, size) = (folder.join(&f.path), f.stamp.size());
    let doing = || format!("read {}", at.display());
    let hash =
        hash_file(std::fs::File::open(&at).with_context(doing)?, size).with_context(doing)?;
    Ok(ListedFile::File(size, hash, f.bits & 0o100 != 0))
}

/// A listed folder, and what is known of it.
pub(crate) struct SealedFolder<'a> {
    pub folder: &'a Path,
    /// Of its footprint.
    pub name: String,
    /// Where its list is kept.
    pub list: &'a Path,
    /// Folders that are there whatever the list holds.
    pub frame: &'a [&'a str],
}

impl SealedFolder<'_> {
    /// What is off; `None` if there is no such folder.
    pub(crate) fn check_folder(
        &self,
        ids: &AccountIds,
        readings: &VerificationCache,
    ) -> Seen<Option<Vec<TreeDifference>>> {
        let Some(sealed) =
            SealedTree::open(self.folder, self.name.clone(), ids.seal, ids.seal_gid)?
        else {
            return Ok(None);
        };
        if sealed.is_unchanged(readings)? {
            return Ok(Some(Vec::new()));
        }
        let list = FileList::load(self.list)?;
        let mut findings: Vec<TreeDifference> = self
            .compare_with(&sealed, &list, ids, readings.is_vouched(&self.name))?
            .into_iter()
            .map(|(_, f)| f)
            .collect();
        findings.extend(sealed.own_metadata().map(|detail| TreeDifference {
            path: ".".into(),
            what: DifferenceKind::Owner,
            detail,
        }));
        if findings.is_empty() {
            sealed.record_verified(readings)?;
        }
        Ok(Some(findings))
    }

    /// Every difference with what brought the entry. `vouched`: this process has sealed the
    /// content.
    pub(crate) fn compare_with(
        &self,
        sealed: &SealedTree,
        list: &FileList,
        ids: &AccountIds,
        vouched: bool,
    ) -> Seen<Vec<(String, TreeDifference)>> {
        let fd = &sealed.fd;
        let (found, empty) = list_tree(fd, self.folder)?;
        let wanted = list.by_path();
        let mut folders: BTreeSet<&str> = BTreeSet::new();
        // Without anything in them they are there all the same.
        folders.extend(self.frame);
        for path in wanted.keys().copied().chain(self.frame.iter().copied()) {
            folders.extend(path.match_indices('/').map(|(i, _)| &path[..i]));
        }
        let seen: BTreeSet<&str> = found.iter().map(|f| f.path.as_str()).collect();
        let finding = |path: &str, what: DifferenceKind, detail: String| TreeDifference {
            path: crate::text::escape_text(path),
            what,
            detail,
        };
        let one = |f: &FoundEntry| -> Seen<Vec<(String, TreeDifference)>> {
            let mut out = Vec::new();
            let item = wanted.get(f.path.as_str());
            let key = item.map_or("", |(k, _)| k).to_string();
            let mut note = |what, detail| out.push((key.clone(), finding(&f.path, what, detail)));
            if f.uid != ids.seal || f.gid != ids.seal_gid {
                note(
                    DifferenceKind::Owner,
                    format!("uid {}, gid {}", f.uid, f.gid),
                );
            }
            match (f.kind, item.map(|(_, i)| *i)) {
                (FileType::Dir, None | Some(ListedFile::Folder))
                    if item.is_some() || folders.contains(f.path.as_str()) =>
                {
                    if f.bits != 0o755 {
                        note(DifferenceKind::Mode, format!("{:04o}", f.bits));
                    }
                }
                (FileType::Dir, None) if empty.contains(&f.path) => {
                    note(DifferenceKind::EmptyFolder, String::new())
                }
                (FileType::Dir, None) => {}
                (FileType::Link, Some(ListedFile::Link(to))) => {
                    if f.target
                        .as_ref()
                        .is_none_or(|t| t.as_os_str() != to.as_str())
                    {
                        note(DifferenceKind::Link, String::new());
                    }
                }
                (FileType::File, Some(ListedFile::File(size, hash, exec))) => {
                    if f.bits != if *exec { 0o755 } else { 0o644 } {
                        note(DifferenceKind::Mode, format!("{:04o}", f.bits));
                    }
                    let same = f.stamp.size() == *size
                        && (vouched || content_hash(fd, &f.path, *size)? == *hash);
                    if !same {
                        note(DifferenceKind::Edited, String::new());
                    }
                }
                (_, None) => note(DifferenceKind::Added, String::new()),
                (_, Some(_)) => note(DifferenceKind::Replaced, String::new()),
            }
            Ok(out)
        };
        let mut out = Vec::new();
        for r in found
            .par_iter()
            .with_min_len(16)
            .map(one)
            .collect::<Vec<_>>()
        {
            out.extend(r?);
        }
        out.extend(
            wanted
                .iter()
                .filter(|(p, _)| !seen.contains(*p))
                .map(|(p, (k, _))| {
                    (
                        (*k).to_string(),
                        finding(p, DifferenceKind::Missing, String::new()),
                    )
                }),
        );
        out.sort_by(|a, b| a.1.path.cmp(&b.1.path));
        Ok(out)
    }
}

fn content_hash(dir: &OwnedFd, path: &str, size: u64) -> Seen<String> {
    hash_at(dir, path, size).map_err(|e| {
        UnknownState::new(format!("{}: {e}", crate::text::escape_text(path)), true).caused_by(&e)
    })
}

/// The hash of a file of about `size` bytes below an open folder, as a RECORD writes it; a link is
/// not followed.
///
/// # Errors
/// It cannot be read.
pub(crate) fn hash_at(
    dir: &OwnedFd,
    path: &(impl nix::NixPath + ?Sized),
    size: u64,
) -> std::io::Result<String> {
    let flags = nix::fcntl::OFlag::O_RDONLY
        | nix::fcntl::OFlag::O_NOFOLLOW
        | nix::fcntl::OFlag::O_NONBLOCK
        | nix::fcntl::OFlag::O_CLOEXEC;
    hash_file(
        std::fs::File::from(nix::fcntl::openat(dir, path, flags, as_mode(0))?),
        size,
    )
}

struct ListSealer<'a> {
    /// For messages.
    what: &'a str,
    wanted: BTreeMap<&'a str, (&'a str, &'a ListedFile)>,
    ids: AccountIds,
    problems: Mutex<Vec<Problem>>,
    seen: Mutex<usize>,
}

/// Gives everything below `folder`, which nobody else can reach any more, to the sealer, if it is
/// what `list` says: every file is read and hashed.
///
/// # Errors
/// Something there is not what the list says, or not the build uid's.
pub(crate) fn seal_folder(
    what: &str,
    folder: &Path,
    list: &FileList,
    ids: AccountIds,
) -> Result<()> {
    let fd = open_dir(folder).with_context(|| format!("open {}", folder.display()))?;
    nix::unistd::fchown(
        &fd,
        Some(Uid::from_raw(ids.seal)),
        Some(Gid::from_raw(ids.seal_gid)),
    )
    .with_context(|| format!("seal {}", folder.display()))?;
    nix::sys::stat::fchmod(&fd, as_mode(0o755))
        .with_context(|| format!("seal {}", folder.display()))?;
    let sealer = ListSealer {
        what,
        wanted: list.by_path(),
        ids,
        problems: Mutex::default(),
        seen: Mutex::default(),
    };
    walk_tree(fd, &sealer);
    let mut problems = sealer.problems.into_inner().unwrap_or_default();
    let seen = sealer.seen.into_inner().unwrap_or_default();
    if problems.is_empty() && seen != sealer.wanted.len() {
        problems.push(Problem::new(format!(
            "{what} has {seen} files, and {} were made",
            sealer.wanted.len()
        )));
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Problem::from_many(problems).with_hint("nothing was installed"))
    }
}

impl ListSealer<'_> {
    fn seal_entry(
        &self,
        folder: &WalkedFolder,
        name: &CStr,
        st: &FileStat,
    ) -> std::io::Result<usize> {
        let path = folder.join(name);
        let (wanted_bits, leaf) = match (file_type(st), self.wanted.get(path.as_str())) {
            (FileType::Dir, None) => (Some(0o755), 0),
            (FileType::Dir, Some((_, ListedFile::Folder))) => (Some(0o755), 1),
            (FileType::Link, Some((_, ListedFile::Link(to))))
                if nix::fcntl::readlinkat(&folder.fd, name)
                    .is_ok_and(|t| t.as_os_str() == to.as_str()) =>
            {
                (None, 1)
            }
            (FileType::File, Some((_, ListedFile::File(size, hash, exec))))
                if u64::try_from(st.st_size).is_ok_and(|s| s == *size)
                    && hash_at(&folder.fd, name, *size)? == *hash =>
            {
                (Some(if *exec { 0o755 } else { 0o644 }), 1)
            }
            _ => return Err(std::io::Error::other("is not what the build process said")),
        };
        // A file that is the sealer's already comes from an earlier folder, through uv's cache; it
        // is not touched.
        if st.st_uid == self.ids.seal && self.ids.build != self.ids.seal {
            let sealed = st.st_gid == self.ids.seal_gid
                && wanted_bits.is_none_or(|b| b == permission_bits(st));
            return if sealed {
                Ok(leaf)
            } else {
                Err(std::io::Error::other("belongs to somebody else"))
            };
        }
        if st.st_uid != self.ids.build {
            return Err(std::io::Error::other("belongs to somebody else"));
        }
        fchownat(
            &folder.fd,
            name,
            Some(Uid::from_raw(self.ids.seal)),
            Some(Gid::from_raw(self.ids.seal_gid)),
            AtFlags::AT_SYMLINK_NOFOLLOW,
        )?;
        if let Some(b) =
            wanted_bits.filter(|b| *b != permission_bits(st) || self.ids.build != self.ids.seal)
        {
            // No link: that was just seen, and nobody else is here.
            fchmodat(&folder.fd, name, as_mode(b), FchmodatFlags::FollowSymlink)?;
        }
        Ok(leaf)
    }
}

impl TreeVisitor for ListSealer<'_> {
    type Local = usize;

    fn visit_entry(
        &self,
        local: &mut usize,
        folder: &WalkedFolder,
        name: &CStr,
        st: &FileStat,
    ) -> bool {
        match self.seal_entry(folder, name, st) {
            Ok(n) => *local += n,
            Err(e) => {
                if let Ok(mut p) = self.problems.lock()
                    && p.len() < 10
                {
                    p.push(
                        Problem::new(format!(
                            "{}: {}: {e}",
                            self.what,
                            crate::text::escape_text(&folder.join(name))
                        ))
                        .caused_by(&e),
                    );
                }
            }
        }
        true
    }

    fn folder_done(&self, local: usize, _: &WalkedFolder, _: usize) {
        if let Ok(mut s) = self.seen.lock() {
            *s += local;
        }
    }

    fn read_failed(&self, path: &str, e: Errno) {
        if let Ok(mut p) = self.problems.lock() {
            p.push(Problem::new(format!(
                "{}: {}: {}",
                self.what,
                crate::text::escape_text(path),
                e.desc()
            )));
        }
    }
}
