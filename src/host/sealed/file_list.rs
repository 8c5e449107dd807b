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

use super::list_tree::{Found, gather};
use super::verification::{Readings, Sealed};
use crate::host::fs::walk::{Folder, Visit, walk};
use crate::host::fs::{bits, kind, mode, open_dir};
use crate::plan::ids::Ids;
use crate::plan::observed::{Finding, Kind, Seen, Unknown, What};
use crate::problem::{Doing, Problem, Result};

/// One entry; folders are implied where something is in them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Item {
    /// Size in bytes, SHA-256 as a RECORD writes it, executable.
    File(u64, String, bool),
    Link(String),
    /// Named on its own, since it may be empty.
    Folder,
}

/// Paths below the folder, by what brought them: a package (`numpy==1.26.4` and its wheel's hash);
/// `""` holds the rest. Several may bring one path: that of the last in order is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct List(pub BTreeMap<String, BTreeMap<String, Item>>);

impl List {
    /// The list at `path`; an absent or damaged one is empty.
    ///
    /// # Errors
    /// It may not be read.
    pub fn load(path: &Path) -> Seen<List> {
        match std::fs::read(path) {
            Ok(text) => Ok(serde_json::from_slice(&text).unwrap_or_default()),
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                Err(Unknown::new(format!("{}: {e}", path.display()), true).caused_by(&e))
            }
            Err(_) => Ok(List::default()),
        }
    }

    /// Everything below `folder`, read as it is.
    ///
    /// # Errors
    /// Something cannot be read, or is neither file nor link.
    pub fn of(folder: &Path) -> Result<List> {
        let items: Vec<Result<(String, Item)>> = entries(folder)?
            .into_par_iter()
            .map(|f| item(folder, &f).map(|i| (f.path, i)))
            .collect();
        Ok(List(BTreeMap::from([(
            String::new(),
            items.into_iter().collect::<Result<_>>()?,
        )])))
    }

    /// What is there by path, with what brought it.
    pub fn by_path(&self) -> BTreeMap<&str, (&str, &Item)> {
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
pub fn hash(mut file: impl Read, size: u64) -> std::io::Result<String> {
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
pub fn entries(folder: &Path) -> Result<Vec<Found>> {
    let fd = open_dir(folder).doing(|| format!("open {}", folder.display()))?;
    let (mut all, _) = gather(&fd, folder).map_err(Problem::from)?;
    all.retain(|f| f.kind != Kind::Dir);
    Ok(all)
}

/// What one entry of [`entries`] is.
///
/// # Errors
/// It cannot be read.
pub fn item(folder: &Path, f: &Found) -> Result<Item> {
    if let Some(to) = &f.target {
        return Ok(Item::Link(to.display().to_string()));
    }
    let (at, size) = (folder.join(&f.path), f.stamp.size());
    let doing = || format!("read {}", at.display());
    let hash = hash(std::fs::File::open(&at).doing(doing)?, size).doing(doing)?;
    Ok(Item::File(size, hash, f.bits & 0o100 != 0))
}

/// A listed folder, and what is known of it.
pub struct Listed<'a> {
    pub folder: &'a Path,
    /// Of its footprint.
    pub name: String,
    /// Where its list is kept.
    pub list: &'a Path,
    /// Folders that are there whatever the list holds.
    pub frame: &'a [&'a str],
}

impl Listed<'_> {
    /// What is off; `None` if there is no such folder.
    pub fn check(&self, ids: &Ids, readings: &Readings) -> Seen<Option<Vec<Finding>>> {
        let Some(sealed) = Sealed::open(self.folder, self.name.clone(), ids.seal, ids.seal_gid)?
        else {
            return Ok(None);
        };
        if sealed.unchanged(readings)? {
            return Ok(Some(Vec::new()));
        }
        let list = List::load(self.list)?;
        let mut findings: Vec<Finding> = self
            .compare(&sealed, &list, ids, readings.is_vouched(&self.name))?
            .into_iter()
            .map(|(_, f)| f)
            .collect();
        findings.extend(sealed.frame().map(|detail| Finding {
            path: ".".into(),
            what: What::Owner,
            detail,
        }));
        if findings.is_empty() {
            sealed.whole(readings)?;
        }
        Ok(Some(findings))
    }

    /// Every difference with what brought the entry. `vouched`: this process has sealed the
    /// content.
    pub fn compare(
        &self,
        sealed: &Sealed,
        list: &List,
        ids: &Ids,
        vouched: bool,
    ) -> Seen<Vec<(String, Finding)>> {
        let fd = &sealed.fd;
        let (found, empty) = gather(fd, self.folder)?;
        let wanted = list.by_path();
        let mut folders: BTreeSet<&str> = BTreeSet::new();
        // Without anything in them they are there all the same.
        folders.extend(self.frame);
        for path in wanted.keys().copied().chain(self.frame.iter().copied()) {
            folders.extend(path.match_indices('/').map(|(i, _)| &path[..i]));
        }
        let seen: BTreeSet<&str> = found.iter().map(|f| f.path.as_str()).collect();
        let finding = |path: &str, what: What, detail: String| Finding {
            path: crate::text::escape(path),
            what,
            detail,
        };
        let one = |f: &Found| -> Seen<Vec<(String, Finding)>> {
            let mut out = Vec::new();
            let item = wanted.get(f.path.as_str());
            let key = item.map_or("", |(k, _)| k).to_string();
            let mut note = |what, detail| out.push((key.clone(), finding(&f.path, what, detail)));
            if f.uid != ids.seal || f.gid != ids.seal_gid {
                note(What::Owner, format!("uid {}, gid {}", f.uid, f.gid));
            }
            match (f.kind, item.map(|(_, i)| *i)) {
                (Kind::Dir, None | Some(Item::Folder))
                    if item.is_some() || folders.contains(f.path.as_str()) =>
                {
                    if f.bits != 0o755 {
                        note(What::Mode, format!("{:04o}", f.bits));
                    }
                }
                (Kind::Dir, None) if empty.contains(&f.path) => {
                    note(What::EmptyFolder, String::new())
                }
                (Kind::Dir, None) => {}
                (Kind::Link, Some(Item::Link(to))) => {
                    if f.target
                        .as_ref()
                        .is_none_or(|t| t.as_os_str() != to.as_str())
                    {
                        note(What::Link, String::new());
                    }
                }
                (Kind::File, Some(Item::File(size, hash, exec))) => {
                    if f.bits != if *exec { 0o755 } else { 0o644 } {
                        note(What::Mode, format!("{:04o}", f.bits));
                    }
                    let same = f.stamp.size() == *size
                        && (vouched || content(fd, &f.path, *size)? == *hash);
                    if !same {
                        note(What::Edited, String::new());
                    }
                }
                (_, None) => note(What::Added, String::new()),
                (_, Some(_)) => note(What::Replaced, String::new()),
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
                .map(|(p, (k, _))| ((*k).to_string(), finding(p, What::Missing, String::new()))),
        );
        out.sort_by(|a, b| a.1.path.cmp(&b.1.path));
        Ok(out)
    }
}

fn content(dir: &OwnedFd, path: &str, size: u64) -> Seen<String> {
    hash_at(dir, path, size).map_err(|e| {
        Unknown::new(format!("{}: {e}", crate::text::escape(path)), true).caused_by(&e)
    })
}

/// The hash of a file of about `size` bytes below an open folder, as a RECORD writes it; a link is
/// not followed.
///
/// # Errors
/// It cannot be read.
pub fn hash_at(
    dir: &OwnedFd,
    path: &(impl nix::NixPath + ?Sized),
    size: u64,
) -> std::io::Result<String> {
    let flags = nix::fcntl::OFlag::O_RDONLY
        | nix::fcntl::OFlag::O_NOFOLLOW
        | nix::fcntl::OFlag::O_NONBLOCK
        | nix::fcntl::OFlag::O_CLOEXEC;
    hash(
        std::fs::File::from(nix::fcntl::openat(dir, path, flags, mode(0))?),
        size,
    )
}

struct Sealer<'a> {
    /// For messages.
    what: &'a str,
    wanted: BTreeMap<&'a str, (&'a str, &'a Item)>,
    ids: Ids,
    problems: Mutex<Vec<Problem>>,
    seen: Mutex<usize>,
}

/// Gives everything below `folder`, which nobody else can reach any more, to the sealer, if it is
/// what `list` says: every file is read and hashed.
///
/// # Errors
/// Something there is not what the list says, or not the build uid's.
pub fn seal(what: &str, folder: &Path, list: &List, ids: Ids) -> Result<()> {
    let fd = open_dir(folder).doing(|| format!("open {}", folder.display()))?;
    nix::unistd::fchown(
        &fd,
        Some(Uid::from_raw(ids.seal)),
        Some(Gid::from_raw(ids.seal_gid)),
    )
    .doing(|| format!("seal {}", folder.display()))?;
    nix::sys::stat::fchmod(&fd, mode(0o755)).doing(|| format!("seal {}", folder.display()))?;
    let sealer = Sealer {
        what,
        wanted: list.by_path(),
        ids,
        problems: Mutex::default(),
        seen: Mutex::default(),
    };
    walk(fd, &sealer);
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
        Err(Problem::all(problems).hint("nothing was installed"))
    }
}

impl Sealer<'_> {
    fn one(&self, folder: &Folder, name: &CStr, st: &FileStat) -> std::io::Result<usize> {
        let path = folder.join(name);
        let (wanted_bits, leaf) = match (kind(st), self.wanted.get(path.as_str())) {
            (Kind::Dir, None) => (Some(0o755), 0),
            (Kind::Dir, Some((_, Item::Folder))) => (Some(0o755), 1),
            (Kind::Link, Some((_, Item::Link(to))))
                if nix::fcntl::readlinkat(&folder.fd, name)
                    .is_ok_and(|t| t.as_os_str() == to.as_str()) =>
            {
                (None, 1)
            }
            (Kind::File, Some((_, Item::File(size, hash, exec))))
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
            let sealed =
                st.st_gid == self.ids.seal_gid && wanted_bits.is_none_or(|b| b == bits(st));
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
        if let Some(b) = wanted_bits.filter(|b| *b != bits(st) || self.ids.build != self.ids.seal) {
            // No link: that was just seen, and nobody else is here.
            fchmodat(&folder.fd, name, mode(b), FchmodatFlags::FollowSymlink)?;
        }
        Ok(leaf)
    }
}

impl Visit for Sealer<'_> {
    type Local = usize;

    fn entry(&self, local: &mut usize, folder: &Folder, name: &CStr, st: &FileStat) -> bool {
        match self.one(folder, name, st) {
            Ok(n) => *local += n,
            Err(e) => {
                if let Ok(mut p) = self.problems.lock()
                    && p.len() < 10
                {
                    p.push(
                        Problem::new(format!(
                            "{}: {}: {e}",
                            self.what,
                            crate::text::escape(&folder.join(name))
                        ))
                        .caused_by(&e),
                    );
                }
            }
        }
        true
    }

    fn done(&self, local: usize, _: &Folder, _: usize) {
        if let Ok(mut s) = self.seen.lock() {
            *s += local;
        }
    }

    fn failed(&self, path: &str, e: Errno) {
        if let Ok(mut p) = self.problems.lock() {
            p.push(Problem::new(format!(
                "{}: {}: {}",
                self.what,
                crate::text::escape(path),
                e.desc()
            )));
        }
    }
}
