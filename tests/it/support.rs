//! What the tests share: upstream repositories made with libgit2, and comfy as a child process.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The program under test.
pub fn comfy() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_comfy"))
}

/// An upstream repository below a folder, reached through COMFY_MIRRORS as
/// https://github.com/OWNER/NAME.
pub struct Upstream {
    repo: git2::Repository,
}

/// A file of an upstream commit: path, content, mode.
pub type File<'a> = (&'a str, &'a [u8], u32);

impl Upstream {
    /// `OWNER/NAME` below `root`, on branch main.
    pub fn new(root: &Path, name: &str) -> Upstream {
        let mut options = git2::RepositoryInitOptions::new();
        options
            .bare(true)
            .mkpath(true)
            .initial_head("main")
            .external_template(false);
        let repo = git2::Repository::init_opts(root.join(format!("{name}.git")), &options).unwrap();
        repo.config()
            .unwrap()
            .set_bool("uploadpack.allowAnySHA1InWant", true)
            .unwrap();
        repo.config()
            .unwrap()
            .set_bool("uploadpack.allowFilter", true)
            .unwrap();
        Upstream { repo }
    }

    /// Commits exactly these files to main; returns the commit.
    pub fn commit(&self, files: &[File]) -> String {
        let mut index = git2::Index::new().unwrap();
        for (path, content, mode) in files {
            let id = if *mode == 0o160_000 {
                git2::Oid::from_str(std::str::from_utf8(content).unwrap()).unwrap()
            } else {
                self.repo.blob(content).unwrap()
            };
            let time = git2::IndexTime::new(0, 0);
            let entry = git2::IndexEntry {
                ctime: time,
                mtime: time,
                dev: 0,
                ino: 0,
                mode: *mode,
                uid: 0,
                gid: 0,
                file_size: 0,
                id,
                flags: 0,
                flags_extended: 0,
                path: (*path).into(),
            };
            index.add(&entry).unwrap();
        }
        let tree = self
            .repo
            .find_tree(index.write_tree_to(&self.repo).unwrap())
            .unwrap();
        let parents: Vec<git2::Commit> = self
            .repo
            .head()
            .and_then(|h| h.peel_to_commit())
            .into_iter()
            .collect();
        let parents: Vec<&git2::Commit> = parents.iter().collect();
        // Fixed times: the same commits have the same ids in every run, so that snapshots hold.
        let who = git2::Signature::new(
            "upstream",
            "up@localhost",
            &git2::Time::new(1_700_000_000 + parents.len() as i64, 0),
        )
        .unwrap();
        self.repo
            .commit(Some("HEAD"), &who, &who, "a commit", &tree, &parents)
            .unwrap()
            .to_string()
    }

    /// The commit of main.
    pub fn head(&self) -> String {
        self.repo.head().unwrap().target().unwrap().to_string()
    }

    pub fn branch(&self, name: &str) {
        let head = self.repo.head().unwrap().peel_to_commit().unwrap();
        self.repo.branch(name, &head, true).unwrap();
    }

    /// An annotated tag of main; returns main's commit.
    pub fn annotate(&self, name: &str) -> String {
        let head = self.repo.head().unwrap().peel_to_commit().unwrap();
        let who = git2::Signature::now("upstream", "up@localhost").unwrap();
        self.repo
            .tag(name, head.as_object(), &who, "a tag", true)
            .unwrap();
        head.id().to_string()
    }

    pub fn tag(&self, name: &str) {
        let head = self.repo.head().unwrap().peel_to_commit().unwrap();
        self.repo
            .tag_lightweight(name, head.as_object(), true)
            .unwrap();
    }
}

/// A miniature of what ComfyUI tracks.
pub const CORE: &[File] = &[
    ("main.py", b"print('comfy')\n", 0o100_644),
    ("comfy/cli_args.py", b"# args\n", 0o100_644),
    ("custom_nodes/websocket_image_save.py", b"# ws\n", 0o100_644),
    ("models/checkpoints/put_checkpoints_here", b"", 0o100_644),
    ("models/configs/v1.yaml", b"model: {}\n", 0o100_644),
    ("input/example.png", b"\x89PNG\r\n", 0o100_644),
    ("output/_output_images_will_be_put_here", b"", 0o100_644),
    ("run.sh", b"#!/bin/sh\nexec python3 main.py\n", 0o100_755),
];

/// A miniature node.
pub fn node(version: u32) -> Vec<(String, Vec<u8>, u32)> {
    vec![
        (
            "__init__.py".into(),
            format!("VERSION = {version}\nNODE_CLASS_MAPPINGS = {{}}\n").into_bytes(),
            0o100_644,
        ),
        (
            "web/js/a.js".into(),
            b"export default 1;\n".to_vec(),
            0o100_644,
        ),
        ("tools/run.sh".into(), b"#!/bin/sh\n".to_vec(), 0o100_755),
        ("link.py".into(), b"__init__.py".to_vec(), 0o120_000),
        ("data/settings.json".into(), b"{}\n".to_vec(), 0o100_644),
    ]
}

pub fn borrowed(files: &[(String, Vec<u8>, u32)]) -> Vec<File<'_>> {
    files
        .iter()
        .map(|(p, c, m)| (p.as_str(), c.as_slice(), *m))
        .collect()
}

/// The minor version of a Python that every user can reach, or at least the caller: what tests lock
/// for.
pub fn python() -> String {
    let ask = "import sys; print('%d.%d' % sys.version_info[:2])";
    let found = ["/usr/bin/python3", "/usr/local/bin/python3", "python3"]
        .iter()
        .find_map(|p| {
            let out = Command::new(p)
                .args(["-I", "-S", "-c", ask])
                .output()
                .ok()?;
            Some(String::from_utf8_lossy(&out.stdout).trim().to_string())
                .filter(|v| v.contains('.'))
        });
    found.expect("a python3 in PATH")
}

/// The SHA-256 of these bytes.
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// comfy with a clean environment, its home and cache below `root`, and mirrors to `root/upstream`.
pub fn command(root: &Path) -> Command {
    let mut c = Command::new(comfy());
    let path = std::env::var("PATH").unwrap_or_default();
    c.env_clear()
        .env("PATH", path)
        .env("HOME", root.join("home"))
        .env("NO_COLOR", "1")
        .env("COMFY_ADVISORY_SERVICE", "off")
        .env(
            "COMFY_MIRRORS",
            format!("https://github.com/=file://{}/upstream/", root.display()),
        );
    c
}

/// stdout and stderr in one text, with paths and what root is told in other words replaced.
pub fn text(output: &Output, root: &Path) -> String {
    let all = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    all.replace(&root.display().to_string(), "ROOT").replace(
        "isolation = \"none\" as root: ComfyUI and its nodes can do anything on this machine;",
        "isolation = \"none\": ComfyUI and its nodes have all your rights;",
    )
}

/// Which commit it was says nothing about a message.
pub fn redacted(text: &str) -> String {
    without_ids(text, &[40])
}

/// Without the hexadecimal words of these lengths: whole ids, abbreviated ones.
pub fn without_ids(text: &str, lengths: &[usize]) -> String {
    let mut out = String::new();
    for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let id = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_id = lengths.contains(&id.len())
            && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        out += &if is_id {
            word.replacen(id, "COMMIT", 1)
        } else {
            word.to_string()
        };
    }
    out
}

/// Says that the running test, or a part of it, is skipped and why: not by eprintln!, which is kept
/// back of a test that passes. scripts/test counts these in its last line.
pub fn report_skipped(why: &str) {
    use std::io::Write as _;
    let name = std::env::var("COMFY_TEST_MACHINE").map(|n| format!("root::{n}"));
    let name = name.unwrap_or_else(|_| {
        let thread = std::thread::current();
        thread.name().unwrap_or_default().to_string()
    });
    let _ = writeln!(std::io::stderr(), "\n*** SKIPPED {name}: {why} ***");
    if let Some(list) = std::env::var_os("COMFY_TEST_SKIPPED")
        && let Ok(mut list) = std::fs::OpenOptions::new().append(true).open(list)
    {
        let _ = writeln!(list, "{name}\t{why}");
    }
}

/// Returns whether the git program is here; if not, the test is reported as skipped. comfy works
/// without it, in other words than git's.
pub fn git_or_skip() -> bool {
    let there = Command::new("git").arg("--version").output().is_ok();
    if !there {
        report_skipped("there is no git program");
    }
    there
}
