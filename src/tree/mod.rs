//! Git trees as plain data: a listing of paths with modes and object ids, and its tree hash.
//!
//! Root and `plan` never read a pack: they hash the files on the disk and compare with the tree
//! hash in comfy.lock. Formats: gitformat-tree in git's Documentation, "tree object"; blobs are
//! hashed as `blob <size>\0<bytes>`.

mod exclusions;
pub(crate) mod links;
pub(crate) mod raw;
pub(crate) mod rules;

use std::collections::BTreeMap;
use std::fmt;

use sha1_checked::{Digest, Sha1};

use super::problem::{Problem, Result};

pub use crate::tree::exclusions::{ExcludedEntry, TreeExclusions};
pub(crate) use crate::tree::links::MAX_TARGET;

/// An object id: SHA-1, computed with collision detection, as in git itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(pub [u8; 20]);

impl ObjectId {
    pub fn parse(hex: &str) -> Option<ObjectId> {
        let mut out = [0; 20];
        let read = base16ct::lower::decode(hex, &mut out).ok()?.len();
        (read == out.len()).then_some(ObjectId(out))
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(base16ct::lower::encode_str(&self.0, &mut [0; 40]).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for ObjectId {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ObjectId {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        let s = std::borrow::Cow::<str>::deserialize(d)?;
        ObjectId::parse(&s).ok_or_else(|| serde::de::Error::custom("not 40 hexadecimal digits"))
    }
}

/// The kind of a tree entry; comfy installs no others.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum EntryMode {
    File,
    Executable,
    Link,
    /// A submodule: the id is a commit.
    Commit,
    /// A folder as a whole, which is not installed: it stands in a listing for all that is in it.
    Folder,
}

impl EntryMode {
    /// git's number for it (gitformat-tree in git's Documentation).
    pub(crate) fn octal(self) -> &'static str {
        match self {
            EntryMode::File => "100644",
            EntryMode::Executable => "100755",
            EntryMode::Link => "120000",
            EntryMode::Commit => "160000",
            EntryMode::Folder => "40000",
        }
    }

    /// Every kind.
    pub(crate) const ALL: [EntryMode; 5] = [
        EntryMode::File,
        EntryMode::Executable,
        EntryMode::Link,
        EntryMode::Commit,
        EntryMode::Folder,
    ];

    /// Returns the kind of git's number for it.
    pub(crate) fn from_octal(text: &str) -> Option<EntryMode> {
        EntryMode::ALL.into_iter().find(|m| m.octal() == text)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TreeEntry {
    pub mode: EntryMode,
    pub oid: ObjectId,
    /// The size in bytes; 0 if it is not needed.
    pub size: u64,
}

/// Every leaf of a tree by its path, with `/` between components.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TreeListing(pub BTreeMap<String, TreeEntry>);

impl TreeListing {
    /// Returns the git tree hash of these entries, computed folder by folder from the leaves up.
    ///
    /// # Errors
    /// A SHA-1 collision attack was found in a tree.
    pub(crate) fn tree_hash(&self) -> Result<ObjectId> {
        self.hash(true)
    }

    /// Returns the same without collision detection, to compare a sealed tree, which was checked
    /// when it was sealed.
    ///
    /// # Errors
    /// None in fact; the signature is that of [`TreeListing::tree_hash`].
    pub(crate) fn quick_tree_hash(&self) -> Result<ObjectId> {
        self.hash(false)
    }

    fn hash(&self, detect: bool) -> Result<ObjectId> {
        let leaves: Vec<(&str, TreeEntry)> = self.0.iter().map(|(p, e)| (p.as_str(), *e)).collect();
        hash_folder(&leaves, 0, detect)
    }
}

/// Hashes a folder. All `leaves` share the first `skip` bytes, the folder's own path with its
/// slash, and are sorted by path.
fn hash_folder(leaves: &[(&str, TreeEntry)], skip: usize, detect: bool) -> Result<ObjectId> {
    // git sorts entries as if a folder's name ended in "/": collect, then sort by that key.
    let mut rows: Vec<(Vec<u8>, &'static str, &str, ObjectId)> = Vec::new();
    let mut i = 0;
    while i < leaves.len() {
        let rest = &leaves[i].0[skip..];
        match rest.find('/') {
            None => {
                let mut key = rest.as_bytes().to_vec();
                if leaves[i].1.mode == EntryMode::Folder {
                    key.push(b'/');
                }
                rows.push((key, leaves[i].1.mode.octal(), rest, leaves[i].1.oid));
                i += 1;
            }
            Some(slash) => {
                let folder = &leaves[i].0[..skip + slash + 1];
                let end = i + leaves[i..]
                    .iter()
                    .take_while(|(p, _)| p.starts_with(folder))
                    .count();
                let oid = hash_folder(&leaves[i..end], skip + slash + 1, detect)?;
                rows.push((
                    rest.as_bytes()[..=slash].to_vec(),
                    "40000",
                    &rest[..slash],
                    oid,
                ));
                i = end;
            }
        }
    }
    rows.sort();
    let mut body = Vec::with_capacity(rows.len() * 40);
    for (_, mode, name, oid) in &rows {
        body.extend_from_slice(mode.as_bytes());
        body.push(b' ');
        body.extend_from_slice(name.as_bytes());
        body.push(0);
        body.extend_from_slice(&oid.0);
    }
    let mut h = ObjectHasher::new("tree", body.len() as u64, detect);
    h.update(&body);
    h.finish()
}

/// Computes the id of a blob that is read piece by piece.
pub(crate) struct ObjectHasher(Sha1);

impl ObjectHasher {
    pub(crate) fn blob(size: u64) -> Self {
        Self::new("blob", size, true)
    }

    fn new(kind: &str, size: u64, detect: bool) -> Self {
        let mut h = Sha1::builder().detect_collision(detect).build();
        h.update(format!("{kind} {size}\0").as_bytes());
        ObjectHasher(h)
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// # Errors
    /// The bytes contain a SHA-1 collision attack.
    pub(crate) fn finish(self) -> Result<ObjectId> {
        let result = self.0.try_finalize();
        if result.has_collision() {
            return Err(
                Problem::new("a SHA-1 collision attack was found in the content")
                    .with_hint("do not use this repository; tell its maintainers"),
            );
        }
        let mut out = [0; 20];
        out.copy_from_slice(result.hash());
        Ok(ObjectId(out))
    }
}

/// Returns the id of a blob with these bytes, such as a link's target.
pub(crate) fn blob_id(bytes: &[u8]) -> Result<ObjectId> {
    let mut h = ObjectHasher::blob(bytes.len() as u64);
    h.update(bytes);
    h.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ids are those that `git mktree` and `git hash-object` print; libgit2 is the judge here.
    #[test]
    fn hashes_are_gits_own_even_where_folders_sort_oddly() {
        let dir = tempfile::tempdir().unwrap();
        let repo = git2::Repository::init_bare(dir.path()).unwrap();
        let blob = repo.blob(b"hello\n").unwrap();
        let mut listing = TreeListing::default();
        let mut index = git2::Index::new().unwrap();
        for (path, mode) in [
            ("a/x", EntryMode::File),
            ("a.txt", EntryMode::File),
            ("a-b", EntryMode::Executable),
            ("a0", EntryMode::Link),
            ("b/c/d", EntryMode::File),
        ] {
            let oid = ObjectId::parse(&blob.to_string()).unwrap();
            listing
                .0
                .insert(path.into(), TreeEntry { mode, oid, size: 6 });
            index
                .add(&git2::IndexEntry {
                    ctime: git2::IndexTime::new(0, 0),
                    mtime: git2::IndexTime::new(0, 0),
                    dev: 0,
                    ino: 0,
                    mode: u32::from_str_radix(mode.octal(), 8).unwrap(),
                    uid: 0,
                    gid: 0,
                    file_size: 6,
                    id: blob,
                    flags: 0,
                    flags_extended: 0,
                    path: path.into(),
                })
                .unwrap();
        }
        let expected = index.write_tree_to(&repo).unwrap();
        assert_eq!(
            listing.tree_hash().unwrap().to_string(),
            expected.to_string()
        );
        // A folder by its id gives the same hash as all that is in it.
        let folder = repo.find_tree(expected).unwrap();
        let oid = folder.get_name("a").unwrap().id();
        listing.0.retain(|path, _| !path.starts_with("a/"));
        let entry = TreeEntry {
            mode: EntryMode::Folder,
            oid: ObjectId::parse(&oid.to_string()).unwrap(),
            size: 0,
        };
        listing.0.insert("a".into(), entry);
        assert_eq!(
            listing.tree_hash().unwrap().to_string(),
            expected.to_string()
        );
        assert_eq!(blob_id(b"hello\n").unwrap().to_string(), blob.to_string());
    }
}
