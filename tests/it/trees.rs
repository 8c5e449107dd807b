//! Trees of an attacker: each is refused when it is read, or lies on the disk byte for byte, and
//! nothing is written outside of its folder.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use comfy::host::fs::open_dir;
use comfy::host::git::objects;
use comfy::tree::{EntryMode, ObjectId};
use git2::{ObjectType, Odb, Repository};

/// A tree object as somebody wrote it.
type Rows = Vec<(String, Vec<u8>, git2::Oid)>;

/// Writes a tree object that git itself would not write.
pub fn tree(odb: &Odb, rows: &Rows) -> git2::Oid {
    let body: Vec<u8> = rows
        .iter()
        .flat_map(|(mode, name, oid)| [mode.as_bytes(), b" ", name, b"\0", oid.as_bytes()].concat())
        .collect();
    odb.write(ObjectType::Tree, &body).unwrap()
}

/// A commit of it, whatever it holds.
pub fn commit(odb: &Odb, tree: git2::Oid) -> git2::Oid {
    let who = "upstream <up@localhost> 1700000000 +0000";
    odb.write(
        ObjectType::Commit,
        format!("tree {tree}\nauthor {who}\ncommitter {who}\n\nwhatever\n").as_bytes(),
    )
    .unwrap()
}

/// SplitMix64 (Steele, Lea and Flood 2014): the same trees in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.roll(of.len())]
    }
}

const NAMES: &[&str] = &[
    "a",
    "b",
    "up",
    "l",
    "lib",
    "a-b",
    "a.py",
    "a0",
    "x",
    "data",
    "__init__.py",
    "Ünï",
    "trail.",
    "trail ",
    "back\\slash",
    "con",
    "-dash",
];
#[rustfmt::skip]
const ODD_NAMES: &[&[u8]] = &[
    b"", b".", b"..", b"/", b"../x", b"/tmp/comfy-escaped", b"a/b", b".git", b".GIT", b"git~1", b".git.", b".g\xe2\x80\x8cit", b".git::$INDEX_ALLOCATION",
    b"caf\xe9", b"new\nline", b"A",
];
const ODD_MODES: &[&str] = &[
    "040000", "100664", "100600", "0", "777", "100645", "120777", "", "-1",
];
#[rustfmt::skip]
const TARGETS: &[&str] = &[
    "a.py", "lib/x", "__init__.py", "data", "up", "b/c", "./lib",
    "a", "..", "../..", "a/up", "a/up/..", "a/up/../..", "l", "l/l", "../l", "b/../a", "./x", "../lib/x", "up/up", "up/../up", "nowhere", "nowhere/..", "x/..", "../../l/../..",
    "/etc", "", "a//b", "lib/../../x",
];

/// Where rolls of the dice go wrong: one in so many.
struct Maker<'a> {
    odb: Odb<'a>,
    dice: Dice,
    odd: usize,
}

impl Maker<'_> {
    fn odd(&mut self) -> bool {
        self.dice.roll(self.odd) == 0
    }

    fn folder(&mut self, depth: usize) -> git2::Oid {
        let mut rows: Rows = Vec::new();
        let count = if depth > 0 && self.odd() {
            0
        } else {
            1 + self.dice.roll(5)
        };
        for _ in 0..count {
            let name = if self.odd() {
                self.dice.one(ODD_NAMES).to_vec()
            } else {
                self.dice.one(NAMES).as_bytes().to_vec()
            };
            if rows.iter().any(|(_, n, _)| *n == name) && !self.odd() {
                continue;
            }
            let (mode, oid) = match self.dice.roll(if depth > 4 { 7 } else { 12 }) {
                0..=2 => ("100644", self.blob()),
                3 => ("100755", self.blob()),
                4..=5 => (
                    "120000",
                    self.odb
                        .write(ObjectType::Blob, self.dice.one(TARGETS).as_bytes())
                        .unwrap(),
                ),
                6 => (
                    "160000",
                    git2::Oid::from_str("1234567890123456789012345678901234567890").unwrap(),
                ),
                _ => ("40000", self.folder(depth + 1)),
            };
            let mode = if self.odd() {
                self.dice.one(ODD_MODES)
            } else {
                mode
            };
            rows.push((mode.to_string(), name, oid));
        }
        if count > 0 && self.odd() {
            // A link in front of a folder of the same name is how a tree writes elsewhere.
            let name = rows[0].1.clone();
            let inner = self.folder(depth + 3);
            rows.push((
                "120000".into(),
                name.clone(),
                self.odb.write(ObjectType::Blob, b"../..").unwrap(),
            ));
            rows.push(("40000".into(), name, inner));
        }
        let key = |(mode, name, _): &(String, Vec<u8>, git2::Oid)| {
            [
                name.as_slice(),
                if mode.ends_with("40000") { b"/" } else { b"" },
            ]
            .concat()
        };
        if !self.odd() {
            rows.sort_by_key(key);
        }
        tree(&self.odb, &rows)
    }

    fn blob(&mut self) -> git2::Oid {
        let text = format!("content {}\n", self.dice.roll(50));
        self.odb.write(ObjectType::Blob, text.as_bytes()).unwrap()
    }

    /// A chain of folders, around the bound.
    fn deep(&mut self) -> git2::Oid {
        let mut at = self.blob();
        let mut mode = "100644";
        for _ in 0..95 + self.dice.roll(12) {
            at = tree(&self.odb, &vec![(mode.into(), b"d".to_vec(), at)]);
            mode = "40000";
        }
        at
    }
}

/// The tree that a folder amounts to, by libgit2; folders without anything are the submodules that
/// `commits` has.
fn on_disk(
    repo: &Repository,
    at: &Path,
    path: &str,
    commits: &BTreeMap<String, ObjectId>,
) -> git2::Oid {
    let mut builder = repo.treebuilder(None).unwrap();
    for entry in std::fs::read_dir(at).unwrap() {
        let entry = entry.unwrap();
        let (name, kind) = (entry.file_name(), entry.file_type().unwrap());
        let inner = format!("{path}{}", name.to_str().unwrap());
        let (oid, mode) = if kind.is_symlink() {
            (
                repo.blob(
                    std::fs::read_link(entry.path())
                        .unwrap()
                        .as_os_str()
                        .as_bytes(),
                )
                .unwrap(),
                0o120_000,
            )
        } else if kind.is_file() {
            let mode = if entry.metadata().unwrap().permissions().mode() & 0o111 == 0 {
                0o100_644
            } else {
                0o100_755
            };
            (
                repo.blob(&std::fs::read(entry.path()).unwrap()).unwrap(),
                mode,
            )
        } else if let Some(commit) = commits.get(&inner) {
            assert_eq!(
                std::fs::read_dir(entry.path()).unwrap().count(),
                0,
                "{inner}"
            );
            (git2::Oid::from_bytes(&commit.0).unwrap(), 0o160_000)
        } else {
            (
                on_disk(repo, &entry.path(), &format!("{inner}/"), commits),
                0o040_000,
            )
        };
        builder.insert(name, oid, mode).unwrap();
    }
    builder.write().unwrap()
}

/// Everything below a folder, links not followed; `except` is left out.
fn everything(at: &Path, except: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        if path != except && path.symlink_metadata().unwrap().is_dir() {
            everything(&path, except, out);
        }
        out.push(path);
    }
}

/// The kernel's own word on each link: RESOLVE_BENEATH says EXDEV of what leaves (openat2(2)).
#[cfg(target_os = "linux")]
fn no_link_leaves(target: &Path) -> usize {
    use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
    let root = open_dir(target).unwrap();
    let mut all = Vec::new();
    everything(target, Path::new(""), &mut all);
    let links = all.iter().filter(|p| p.is_symlink());
    links
        .map(|link| {
            let how = OpenHow::new()
                .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
                .resolve(ResolveFlag::RESOLVE_BENEATH);
            let inner = link.strip_prefix(target).unwrap();
            assert_ne!(
                openat2(&root, inner, how).err(),
                Some(nix::errno::Errno::EXDEV),
                "{} leads out",
                inner.display()
            );
        })
        .count()
}

#[cfg(not(target_os = "linux"))]
fn no_link_leaves(_: &Path) -> usize {
    0
}

/// COMFY_TEST_TREES says how many; 300 by default.
#[test]
fn random_trees_are_refused_or_installed_byte_for_byte() {
    let count: u64 = std::env::var("COMFY_TEST_TREES").map_or(300, |n| n.parse().unwrap());
    let (mut installed, mut links, mut words) = (0, 0, BTreeMap::<String, usize>::new());
    for first in (0..count).step_by(500) {
        // Each batch in a repository of its own, so that folders of loose objects stay small.
        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        let (store, area) = (top.join("store.git"), top.join("area"));
        objects::init(&store).unwrap();
        let repo = Repository::open_bare(&store).unwrap();
        std::fs::create_dir_all(area.join("job")).unwrap();
        std::fs::write(area.join("canary"), "unchanged").unwrap();
        for seed in first..count.min(first + 500) {
            let mut maker = Maker {
                odb: repo.odb().unwrap(),
                dice: Dice(seed),
                odd: [1_000_000, 100, 30, 10][seed as usize % 4],
            };
            let root = if seed % 50 == 49 {
                maker.deep()
            } else {
                maker.folder(0)
            };
            let commit = ObjectId::parse(&commit(&maker.odb, root).to_string()).unwrap();
            let target = area.join("job/target");
            std::fs::create_dir(&target).unwrap();
            let opened = open_dir(&target).unwrap();
            let none = Default::default();
            let read = objects::read_snapshot(&store, &commit, &none);
            let made = objects::export_files(&store, &commit, &opened, "", &none, &|_, _| false);
            let (mut outside, mut inside) = (Vec::new(), Vec::new());
            everything(&area, &target, &mut outside);
            everything(&target, Path::new(""), &mut inside);
            outside.sort();
            assert_eq!(
                outside,
                [area.join("canary"), area.join("job"), target.clone()],
                "seed {seed}"
            );
            match (read, made) {
                (Ok(snapshot), Ok(listing)) => {
                    assert_eq!(listing, snapshot.listing, "seed {seed}");
                    let commits = listing
                        .0
                        .iter()
                        .filter(|(_, e)| e.mode == EntryMode::Commit)
                        .map(|(p, e)| (p.clone(), e.oid))
                        .collect();
                    assert_eq!(on_disk(&repo, &target, "", &commits), root, "seed {seed}");
                    links += no_link_leaves(&target);
                    installed += 1;
                }
                (Err(read), Err(made)) => {
                    assert_eq!(
                        read, made,
                        "seed {seed}: the same words at lock and at apply"
                    );
                    assert_eq!(
                        inside,
                        Vec::<PathBuf>::new(),
                        "seed {seed}: {}",
                        read.message
                    );
                    // Without the names: what kinds of refusal there were.
                    let kind: String = read
                        .message
                        .split('`')
                        .step_by(2)
                        .collect::<Vec<_>>()
                        .join("…");
                    *words.entry(kind).or_default() += 1;
                }
                (read, made) => panic!(
                    "seed {seed}: read {:?}, export {:?}",
                    read.err(),
                    made.err()
                ),
            }
            std::fs::remove_dir_all(&target).unwrap();
        }
        assert_eq!(std::fs::read(area.join("canary")).unwrap(), b"unchanged");
    }
    assert!(!Path::new("/tmp/comfy-escaped").exists());
    eprintln!(
        "{count} trees: {installed} installed byte for byte with {links} links, {} refused: \
         {words:#?}",
        count - installed
    );
    // Both happen, and often.
    assert!(
        installed * 8 > count && installed * 8 < count * 7,
        "{installed} of {count}"
    );
}
