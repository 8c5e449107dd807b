//! `exclude`: files, folders and submodules of a node's tree that are not installed, while the whole
//! tree is still checked.

use std::fs;
use std::path::PathBuf;

use crate::hostile_repo::World;
use crate::support::{File, Upstream, git_or_skip};

const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";

/// A node with pictures that are pointers, a submodule that is gone, and one that is there and has a
/// picture of its own.
fn world() -> World {
    let w = World::new();
    let upstream = w.root.join("upstream");
    let library = Upstream::new(&upstream, "up/library").commit(&[
        ("u.py", b"1\n", 0o100_644),
        ("docs/a.png", POINTER, 0o100_644),
    ]);
    let modules = b"[submodule \"wiki\"]\n\tpath = wiki\n\turl = ../gone\n[submodule \"lib\"]\n\t\
        path = lib\n\turl = ../library\n";
    let gone = "1".repeat(40);
    let files: &[File] = &[
        (".gitmodules", modules, 0o100_644),
        ("__init__.py", b"NODE_CLASS_MAPPINGS = {}\n", 0o100_644),
        ("docs/one.png", POINTER, 0o100_644),
        ("docs/two.txt", b"two\n", 0o100_644),
        ("docs.py", b"1\n", 0o100_644),
        ("picture.png", POINTER, 0o100_644),
        ("lib", library.as_bytes(), 0o160_000),
        ("wiki", gone.as_bytes(), 0o160_000),
    ];
    Upstream::new(&upstream, "up/pack").commit(files);
    w
}

fn exclude(w: &World, list: &str) {
    let path = w.root.join("project/comfy.toml");
    let text = fs::read_to_string(&path).unwrap();
    let kept: Vec<&str> = text.lines().filter(|l| !l.starts_with("exclude")).collect();
    let pack = "[nodes.pack]";
    let text = kept
        .join("\n")
        .replace(pack, &format!("{pack}\nexclude = [{list}]"));
    fs::write(path, text + "\n").unwrap();
}

fn refused(w: &World, args: &[&str]) -> String {
    let out = w.comfy(args);
    assert_eq!(out.status.code(), Some(1), "{args:?}: {}", w.said(&out));
    let said = w.said(&out);
    let from = said.find("error:").unwrap();
    said[from..].to_string()
}

fn installed(w: &World) -> PathBuf {
    let folder = w.find("pack").into_iter();
    let mut live = folder.filter(|p| p.ends_with("ComfyUI/custom_nodes/pack"));
    live.next_back().unwrap()
}

const ALL: &str = "\"wiki\", \"docs/\", \"picture.png\", \"lib/docs\"";

#[test]
fn what_is_excluded_is_refused_with_the_line_until_it_is() {
    if !git_or_skip() {
        return;
    }
    let w = world();
    let mut said = vec![refused(&w, &["lock"])];
    for list in [
        "\"docs/one.png\", \"picture.png\"",
        "\"docs/one.png\", \"lib/docs/a.png\", \"picture.png\"",
        "\"docs\", \"docs/one.png\"",
        "\"../docs\"",
        "\"wiki\", \"Docs\", \"docs\", \"picture.png\", \"lib\"",
    ] {
        exclude(&w, list);
        said.push(format!("exclude = [{list}]\n{}", refused(&w, &["lock"])));
    }
    insta::assert_snapshot!(said.join("\n"), @r#"
    error: comfy.toml:10:1: pack: 2 files are Git LFS pointers, not the files: `docs/one.png` and others
      hint: comfy does not fetch Git LFS files; if the node works without them, write in its section of comfy.toml: exclude = ["docs/one.png", "picture.png"]

    exclude = ["docs/one.png", "picture.png"]
    error: comfy.toml:11:1: pack: submodule `lib`: `docs/a.png` is a Git LFS pointer, not the file
      hint: comfy does not fetch Git LFS files; if the node works without them, write in its section of comfy.toml: exclude = ["docs/one.png", "lib/docs/a.png", "picture.png"]

    exclude = ["docs/one.png", "lib/docs/a.png", "picture.png"]
    error: comfy.toml:11:1: pack: submodule `wiki`: https://github.com/up/gone: commit COMMIT could not be fetched: file://ROOT/upstream/up/gone: 'ROOT/upstream/up/gone' does not appear to be a git repository
      hint: COMFY_MIRRORS points there, but it has no such repository
      hint: if the node works without it, write in its section of comfy.toml: exclude = ["docs/one.png", "lib/docs/a.png", "picture.png", "wiki"]

    exclude = ["docs", "docs/one.png"]
    error: comfy.toml:9:20: exclude "docs/one.png" is inside another excluded path
      hint: write only the outer one

    exclude = ["../docs"]
    error: comfy.toml:9:12: exclude "../docs" must not contain `.` or `..`
      hint: write a file or folder inside the node

    exclude = ["wiki", "Docs", "docs", "picture.png", "lib"]
    error: comfy.toml:9:1: pack: exclude "Docs" is not in its tree at commit 3506cfc
      hint: correct the path, or remove it from `exclude`; capitals count
    "#);
}

#[test]
fn what_is_excluded_is_neither_installed_nor_taken_where_it_lies() {
    let w = world();
    exclude(&w, ALL);
    w.ok(&["lock"]);
    let lock = w.lock();
    let from = lock.find("excluded = [").unwrap();
    let to = from + lock[from..].find("[python]").unwrap();
    insta::assert_snapshot!(&lock[from..to], @r#"
    excluded = [
        { path = "docs", mode = "40000", id = "1032d1874227f8d5c64f0a41a8cec95f32b1a81b" },
        { path = "lib/docs", mode = "40000", id = "b41e6273c18b44349066ef9c4dbabc6200ba2dc4" },
        { path = "picture.png", mode = "100644", id = "d84bc7039d29877573b75cdcaa1ffc3430ce7b4b" },
        { path = "wiki", mode = "160000", id = "1111111111111111111111111111111111111111" },
    ]

    [[nodes.pack.submodules]]
    path = "lib"
    repo = "https://github.com/up/library"
    commit = "4de8c1ed8792de9cb9a5d3195d590ace91267059"
    tree = "367d13224b5205ccb0e06f74e51cd6cf48ed9b70"
    "#);
    w.ok(&["apply", "--yes", "--no-check"]);
    let clean = |w: &World| w.ok(&["plan"]).contains("No changes. This machine matches");
    assert!(clean(&w));
    let node = installed(&w);
    let there = |path: &str| node.join(path).symlink_metadata().is_ok();
    assert!(there("__init__.py") && there("docs.py") && there("lib/u.py"));
    for path in ["docs", "picture.png", "wiki", "lib/docs"] {
        assert!(!there(path), "{path}");
    }
    w.ok(&["verify", "--full"]);
    // The very bytes of the tree, and others.
    for (path, bytes) in [("picture.png", POINTER), ("lib/docs/a.png", b"evil")] {
        let at = node.join(path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(&at, bytes).unwrap();
        assert!(!clean(&w), "{path}");
        let out = w.comfy(&["verify", "--full"]);
        assert_eq!(out.status.code(), Some(2), "{path}");
        w.ok(&["apply", "--yes", "--no-check"]);
        assert!(clean(&w) && !there(path), "{path}");
    }
}

#[test]
fn a_lock_is_held_to_what_is_excluded() {
    let w = world();
    exclude(&w, ALL);
    w.ok(&["lock"]);
    let lock = w.lock();
    // Another exclude needs a new lock, and does not move the pin.
    Upstream::new(&w.root.join("upstream"), "up/pack").commit(&[(
        "__init__.py",
        b"NODE_CLASS_MAPPINGS = {'new': 1}\n",
        0o100_644,
    )]);
    exclude(&w, &format!("{ALL}, \"docs.py\""));
    let mut said = vec![refused(&w, &["plan"])];
    w.ok(&["lock"]);
    let commit = |lock: &str| {
        let pack = &lock[lock.find("[nodes.pack]").unwrap()..];
        pack.lines()
            .find(|l| l.starts_with("commit"))
            .map(str::to_string)
    };
    assert_eq!(commit(&w.lock()), commit(&lock));
    w.ok(&["apply", "--yes", "--no-check"]);
    assert!(!installed(&w).join("docs.py").exists());
    // What somebody edits in the lock is not believed.
    exclude(&w, ALL);
    let id = lock
        .lines()
        .find(|l| l.contains("picture.png"))
        .and_then(|l| l.split("id = \"").nth(1))
        .map(|l| &l[..40])
        .unwrap();
    for edited in [
        lock.replacen(id, &"2".repeat(40), 1),
        lock.replace("\"docs\", mode = \"40000\"", "\"docs\", mode = \"100644\""),
        lock.replace("100644", "777"),
    ] {
        assert_ne!(edited, lock);
        w.set_lock(&edited);
        said.push(refused(&w, &["apply", "--yes", "--no-check"]));
    }
    w.set_lock(&lock);
    w.ok(&["apply", "--yes", "--no-check"]);
    insta::assert_snapshot!(said.join("\n"), @r#"
    error: comfy.toml:9:1: nodes.pack.exclude does not match comfy.lock
      hint: run `comfy lock`

    error: node.pack: the tree . is COMMIT, and comfy.lock says COMMIT
      hint: comfy.lock was edited by hand, or lacks a submodule: restore it from git, or `comfy update` this node; nothing was installed

    error: node.pack: the tree . is COMMIT, and comfy.lock says COMMIT
      hint: comfy.lock was edited by hand, or lacks a submodule: restore it from git, or `comfy update` this node; nothing was installed

    error: comfy.lock:18:29: mode "777" is unknown
      hint: restore it from git (after a merge conflict, take one side completely), then run `comfy lock`; deleting it would move every pin
    "#);
}
