//! A repository of an attacker, and a comfy.lock that somebody edited: refused at `lock`, and by
//! whoever fetches and unpacks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use git2::{ObjectType, Odb, Oid, Repository};

use crate::support::{
    CORE, Upstream, borrowed, command, git_or_skip, node, python, redacted, text,
};
use crate::trees;

/// A project under isolation "none" with one node, and the node's upstream.
pub struct World {
    pub root: PathBuf,
    pub repo: Repository,
    /// Whether comfy finds a git program; without one libgit2 fetches.
    pub program: bool,
    _temp: tempfile::TempDir,
}

impl World {
    pub fn new() -> World {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        Upstream::new(&root.join("upstream"), "up/ComfyUI").commit(CORE);
        Upstream::new(&root.join("upstream"), "up/pack").commit(&borrowed(&node(1)));
        let repo = Repository::open_bare(root.join("upstream/up/pack.git")).unwrap();
        fs::create_dir_all(root.join("project")).unwrap();
        let toml = format!(
            "version = 1\n[host]\nisolation = \"none\"\nprefix = \"{}/prefix\"\n[comfyui]\nrepo = \
             \"https://github.com/up/ComfyUI\"\nref = \"main\"\n\
             [nodes.pack]\nrepo = \"https://github.com/up/pack\"\nref = \
             \"main\"\n[python]\nversion = \"{}\"\n",
            root.display(),
            python()
        );
        fs::write(root.join("project/comfy.toml"), toml).unwrap();
        World {
            root,
            repo,
            program: true,
            _temp: temp,
        }
    }

    pub fn comfy(&self, args: &[&str]) -> Output {
        let mut c = command(&self.root);
        if !self.program {
            c.env("PATH", self.root.join("nothing"));
        }
        c.arg("-C")
            .arg(self.root.join("project"))
            .args(args)
            .output()
            .unwrap()
    }

    pub fn ok(&self, args: &[&str]) -> String {
        let out = self.comfy(args);
        assert!(out.status.success(), "{args:?}: {}", self.said(&out));
        self.said(&out)
    }

    /// What it said; the commit ids replaced.
    pub fn said(&self, out: &Output) -> String {
        redacted(&text(out, &self.root))
    }

    pub fn lock(&self) -> String {
        fs::read_to_string(self.root.join("project/comfy.lock")).unwrap()
    }

    pub fn set_lock(&self, text: &str) {
        fs::write(self.root.join("project/comfy.lock"), text).unwrap();
    }

    /// Where `name` lies anywhere, but for git's objects.
    pub fn find(&self, name: &str) -> Vec<PathBuf> {
        fn look(at: &Path, name: &str, out: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(at).into_iter().flatten().flatten() {
                let path = entry.path();
                if entry.file_name() == name {
                    out.push(path.clone());
                }
                if path.symlink_metadata().unwrap().is_dir() {
                    look(&path, name, out);
                }
            }
        }
        let mut out = Vec::new();
        look(&self.root, name, &mut out);
        out
    }

    /// The repositories of the stores whose names begin so.
    pub fn stored(&self, name: &str) -> Vec<PathBuf> {
        let stores = [
            self.root.join("home/.cache/comfy/git"),
            self.find("store").pop().unwrap().join("git"),
        ];
        let all = stores
            .iter()
            .flat_map(|s| fs::read_dir(s).unwrap())
            .map(|e| e.unwrap().path());
        all.filter(|p| {
            p.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(&format!("{name}-"))
        })
        .collect()
    }

    /// A commit of this tree on the upstream's branch `name`.
    pub fn publish(&self, name: &str, tree: Oid) -> Oid {
        let commit = trees::commit(&self.repo.odb().unwrap(), tree);
        self.repo
            .reference(&format!("refs/heads/{name}"), commit, true, "")
            .unwrap();
        commit
    }
}

/// Refs as people write them: a commit in capitals, an annotated tag in full, a part of a ref, none; a
/// shortened commit is answered with the line to write.
#[test]
fn refs_are_taken_or_answered_with_the_line() {
    let w = World::new();
    let upstream = Upstream::new(&w.root.join("upstream"), "up/tagged");
    upstream.commit(&borrowed(&node(2)));
    let commit = upstream.annotate("v2");
    upstream.commit(&borrowed(&node(3)));
    let newest = upstream.commit(&borrowed(&node(4)));
    let path = w.root.join("project/comfy.toml");
    let good = fs::read_to_string(&path).unwrap();
    let set = |line: &str| {
        let pack = "repo = \"https://github.com/up/pack\"\nref = \"main\"";
        let tagged = format!("repo = \"https://github.com/up/tagged\"\n{line}");
        fs::write(&path, good.replace(pack, &tagged)).unwrap();
    };
    for (line, wanted) in [
        (format!("ref = \"{}\"", commit.to_uppercase()), &commit),
        ("ref = \"refs/tags/v2\"".into(), &commit),
        ("ref = \"tags/v2\"".into(), &commit),
        ("ref = \"v2\"".into(), &commit),
        ("ref = \"heads/main\"".into(), &newest),
        (String::new(), &newest),
    ] {
        set(&line);
        let _ = fs::remove_file(w.root.join("project/comfy.lock"));
        w.ok(&["lock"]);
        assert!(w.lock().contains(wanted.as_str()), "{line}: {}", w.lock());
        w.ok(&["lock", "--check"]);
    }
    for (short, whole) in [(&newest[..7], &newest), (&commit[..12], &commit)] {
        set(&format!("ref = \"{short}\""));
        let out = w.comfy(&["lock"]);
        let said = text(&out, &w.root);
        assert!(said.contains(&format!("write ref = \"{whole}\"")), "{said}");
    }
}

/// The trees of attack 2, and others of their kind: each writes a file `escaped` outside of its own
/// folder, or shows one that is not its own.
fn hostile(odb: &Odb, outside: &Path) -> Vec<(&'static str, Oid)> {
    let init = odb
        .write(ObjectType::Blob, b"NODE_CLASS_MAPPINGS = {}\n")
        .unwrap();
    let to = |target: &str| odb.write(ObjectType::Blob, target.as_bytes()).unwrap();
    let row = |mode: &str, name: &str, oid: Oid| (mode.to_string(), name.as_bytes().to_vec(), oid);
    let whole = |rows: Vec<(String, Vec<u8>, Oid)>| {
        trees::tree(
            odb,
            &[vec![row("100644", "__init__.py", init)], rows].concat(),
        )
    };
    let evil = trees::tree(odb, &vec![row("100755", "escaped", init)]);
    let up = trees::tree(odb, &vec![row("120000", "up", to(".."))]);
    let absolute = format!("{}/escaped", outside.display());
    vec![
        (
            "a link and a folder of one name",
            whole(vec![
                row("40000", "a", up),
                row("120000", "l", to("a/up/../..")),
                row("40000", "l", evil),
            ]),
        ),
        (
            "the folder first",
            whole(vec![row("40000", "l", evil), row("120000", "l", to(".."))]),
        ),
        ("a folder called ..", whole(vec![row("40000", "..", evil)])),
        (
            "a file called ../escaped",
            whole(vec![row("100644", "../escaped", init)]),
        ),
        (
            "an absolute name",
            whole(vec![row("100644", &absolute, init)]),
        ),
        (
            "a chain of links",
            whole(vec![
                row("40000", "a", up),
                row("120000", "l", to("a/up/../../..")),
            ]),
        ),
        (
            "an absolute link",
            whole(vec![row("120000", "l", to("/etc"))]),
        ),
        (
            "a folder that is .git elsewhere",
            whole(vec![row("40000", "git~1", evil)]),
        ),
        (
            "a mode of old tools",
            whole(vec![row("100664", "escaped", init)]),
        ),
    ]
}

#[test]
fn a_hostile_tree_is_refused_at_lock_and_wherever_a_lock_names_it() {
    let w = World::new();
    w.ok(&["lock"]);
    let good = w.lock();
    let (toml, odb) = (w.root.join("project/comfy.toml"), w.repo.odb().unwrap());
    let main = fs::read_to_string(&toml).unwrap();
    let head = w.repo.head().unwrap().peel_to_commit().unwrap();
    let mut s = String::new();
    for (i, (what, tree)) in hostile(&odb, &w.root).into_iter().enumerate() {
        let branch = format!("evil{i}");
        let commit = w.publish(&branch, tree);
        fs::write(
            &toml,
            main.replace(
                "up/pack\"\nref = \"main\"",
                &format!("up/pack\"\nref = \"{branch}\""),
            ),
        )
        .unwrap();
        let locked = w.comfy(&["lock"]);
        assert_eq!(locked.status.code(), Some(1), "{what}: {}", w.said(&locked));
        assert_eq!(w.lock(), good, "{what}");
        fs::write(&toml, &main).unwrap();
        // Two hexadecimal words of comfy.lock are changed, and everything else is as it was.
        w.set_lock(
            &good
                .replace(&head.id().to_string(), &commit.to_string())
                .replace(&head.tree_id().to_string(), &tree.to_string()),
        );
        let applied = w.comfy(&["apply", "--yes"]);
        assert_eq!(
            applied.status.code(),
            Some(1),
            "{what}: {}",
            w.said(&applied)
        );
        assert_eq!(w.find("escaped"), Vec::<PathBuf>::new(), "{what}");
        let error = |text: String, before: &str| {
            let line = text
                .lines()
                .find(|l| l.starts_with("error:"))
                .unwrap_or_else(|| panic!("{what}: {text}"));
            line.split_once(before)
                .unwrap_or_else(|| panic!("{what}: {text}"))
                .1
                .to_string()
        };
        let words = error(w.said(&locked), ": pack: ");
        assert_eq!(error(w.said(&applied), "node.pack: "), words, "{what}");
        s += &format!("{what}: {words}\n");
        w.set_lock(&good);
    }
    insta::assert_snapshot!(s, @"
    a link and a folder of one name: `l` occurs twice
    the folder first: `l` occurs twice
    a folder called ..: `..` is not a path that is allowed in a tree
    a file called ../escaped: `../escaped` is not a path that is allowed in a tree
    an absolute name: `ROOT/escaped` is not a path that is allowed in a tree
    a chain of links: link `l` (to `a/up/../../..`) points out of the tree through link `a/up`
    an absolute link: link `l` points out of the tree, to `/etc`
    a folder that is .git elsewhere: `git~1/escaped` is not a path that is allowed in a tree
    a mode of old tools: `escaped` has mode 100664, which current versions of git do not write
    ");
    // The same instance goes on with what is good.
    w.ok(&["apply", "--yes"]);
    assert!(w.find("escaped").is_empty());
}

/// A submodule's path is a place to write to: comfy.lock alone cannot make one up.
#[test]
fn a_submodule_that_only_the_lock_knows_is_not_unpacked() {
    let w = World::new();
    w.ok(&["lock"]);
    let lock = w.lock();
    let head = w.repo.head().unwrap().peel_to_commit().unwrap();
    for path in ["link.py", "web/js", "new/folder"] {
        let more = format!(
            "[[nodes.pack.submodules]]\npath = \"{path}\"\nrepo = \
             \"https://github.com/up/pack\"\ncommit = \"{}\"\ntree = \"{}\"\n",
            head.id(),
            head.tree_id()
        );
        let sections: Vec<&str> = lock.split("\n[python]").collect();
        w.set_lock(&format!("{}\n{more}\n[python]{}", sections[0], sections[1]));
        let out = w.comfy(&["apply", "--yes"]);
        assert_eq!(out.status.code(), Some(1), "{}", w.said(&out));
        assert!(
            w.said(&out).contains(&format!(
                "node.pack: submodule `{path}` in comfy.lock is not what the tree says"
            )),
            "{}",
            w.said(&out)
        );
    }
}

/// What is planted in the store where a repository belongs, by somebody who could write there once:
/// it runs nothing and leads nowhere.
#[test]
fn a_planted_repository_runs_nothing_and_steers_no_fetch() {
    for program in [true, false] {
        planted(&World {
            program,
            ..World::new()
        });
    }
}

fn planted(w: &World) {
    use std::os::unix::fs::PermissionsExt;
    w.ok(&["lock"]);
    w.ok(&["apply", "--yes"]);
    let lock = w.lock();
    // What `lock` asks first and what it scans, in the owner's cache, and what the build process has.
    let repositories: Vec<PathBuf> = ["pack", "comfyui", "ComfyUI"]
        .iter()
        .flat_map(|n| w.stored(n))
        .collect();
    assert_eq!(repositories.len(), 6, "{repositories:?}");
    let marker = w.root.join("ran");
    let evil = Upstream::new(&w.root.join("upstream"), "evil/pack");
    evil.commit(&[("__init__.py", b"EVIL = 1\n", 0o100_644)]);
    let hooks = w.root.join("hooks");
    let plant = |at: &Path| {
        let program = |path: PathBuf| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(
                &path,
                format!("#!/bin/sh\necho $0 >> {}\n", marker.display()),
            )
            .unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        fs::create_dir_all(at.join("objects/info")).unwrap();
        fs::create_dir_all(at.join("refs")).unwrap();
        fs::write(at.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        let root = w.root.display();
        let config = format!(
            "[core]\n\tbare = true\n\thooksPath = {0}\n\tfsmonitor = \
             {0}/fsmonitor\n\talternateRefsCommand = {0}/alternate\n[url \
             \"file://{root}/upstream/evil/\"]\n\
             \tinsteadOf = file://{root}/upstream/up/\n[protocol]\n\tallow = always\n",
            hooks.display()
        );
        fs::write(at.join("config"), config).unwrap();
        fs::write(
            at.join("objects/info/alternates"),
            format!("{root}/upstream/evil/pack.git/objects\n"),
        )
        .unwrap();
        for name in [
            "reference-transaction",
            "post-checkout",
            "fsmonitor",
            "alternate",
            "pre-auto-gc",
        ] {
            program(hooks.join(name));
            program(at.join("hooks").join(name));
        }
    };
    for at in &repositories {
        fs::remove_dir_all(at).unwrap();
        plant(at);
        // And where git looks for a repository that it was not told of.
        plant(&at.parent().unwrap().join(".git"));
    }
    fs::remove_file(w.root.join("project/comfy.lock")).unwrap();
    // So that the scan reads the repository again.
    fs::remove_dir_all(w.root.join("home/.cache/comfy/scans")).unwrap();
    w.ok(&["lock"]);
    assert_eq!(w.lock(), lock, "the fetch was led elsewhere");
    // `plan -v` reads the store too: of a planted repository it shows nothing.
    let current = w.find("current").pop().unwrap();
    let init = current.join("ComfyUI/custom_nodes/pack/__init__.py");
    fs::set_permissions(&init, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&init, "EDITED = 1\n").unwrap();
    let plan = w.said(&w.comfy(&["plan", "-v"]));
    assert!(
        plan.contains("node.pack") && !plan.contains("EVIL"),
        "{plan}"
    );
    fs::remove_dir_all(current.canonicalize().unwrap()).unwrap();
    w.ok(&["apply", "--yes"]);
    assert!(fs::read_to_string(&init).unwrap().contains("VERSION = 1"));
    assert!(!marker.exists(), "{}", fs::read_to_string(&marker).unwrap());
    for at in &repositories {
        assert!(
            !at.join("hooks").exists()
                && !fs::read_to_string(at.join("config"))
                    .unwrap()
                    .contains("evil"),
            "{}",
            at.display()
        );
    }
}

/// A hub serves commits of forks at the parent's address: two hexadecimal words of comfy.lock, and
/// the node is a stranger's.
#[test]
fn a_commit_that_is_not_on_its_ref_is_named_by_check_and_plan() {
    if !git_or_skip() {
        return;
    }
    let w = World::new();
    w.ok(&["lock"]);
    let good = w.lock();
    let head = w.repo.head().unwrap().peel_to_commit().unwrap();
    let odb = w.repo.odb().unwrap();
    let init = odb.write(ObjectType::Blob, b"OF_A_FORK = 1\n").unwrap();
    let tree = trees::tree(
        &odb,
        &vec![("100644".into(), b"__init__.py".to_vec(), init)],
    );
    let fork = w.publish("fork", tree);
    w.repo
        .tag_lightweight("v1", head.as_object(), true)
        .unwrap();
    let lines = |args: &[&str], words: &str| {
        let said = text(&w.comfy(args), &w.root);
        assert!(said.contains(words), "{args:?}: {said}");
        let short = |s: &str| crate::support::without_ids(s, &[7]);
        said.lines()
            .filter(|l| l.contains("is not on") || l.contains("not known here"))
            .map(short)
            .collect::<Vec<_>>()
            .join("\n")
    };
    let (checked, planned) = ("comfy.lock matches comfy.toml", "node.pack will be");
    // Locked here, so nobody is asked and nothing is said.
    assert_eq!(lines(&["lock", "--check", "--offline", "-v"], checked), "");
    assert_eq!(lines(&["plan", "-v"], planned), "");

    w.set_lock(
        &good
            .replace(&head.id().to_string(), &fork.to_string())
            .replace(&head.tree_id().to_string(), &tree.to_string()),
    );
    assert_eq!(
        lines(&["plan"], planned),
        "",
        "what is not known is said where more is asked for"
    );
    insta::assert_snapshot!(lines(&["plan", "-v"], planned), @"node.pack: it is not known \
        here whether commit COMMIT is on `main`; `comfy lock --check` asks the server");
    assert_eq!(lines(&["lock", "--check", "--offline"], checked), "");
    let warning = lines(&["lock", "--check"], checked);
    insta::assert_snapshot!(warning, @"warning: node.pack: comfy.lock pins commit COMMIT, which is \
        not on `main`: it may come from anybody's fork; `comfy update pack` updates the pin");
    // From then on `plan` knows, and asks nobody.
    fs::rename(w.root.join("upstream"), w.root.join("away")).unwrap();
    assert_eq!(lines(&["plan"], planned), warning);
    assert_eq!(
        lines(&["lock", "--check"], checked),
        warning,
        "a server that is gone makes it no less true"
    );
    w.set_lock(&good);
    assert_eq!(lines(&["lock", "--check", "-v"], checked), "");
    fs::rename(w.root.join("away"), w.root.join("upstream")).unwrap();

    // On another machine, and the branch has moved on: an older commit of it is its own; of a tag
    // only what it names, and before.
    w.repo
        .commit(
            Some("refs/heads/main"),
            &head.author(),
            &head.author(),
            "next",
            &head.tree().unwrap(),
            &[&head],
        )
        .unwrap();
    fs::remove_dir_all(w.root.join("home/.cache")).unwrap();
    assert_eq!(lines(&["lock", "--check", "-v"], checked), "");
    let (toml, lock) = (
        fs::read_to_string(w.root.join("project/comfy.toml")).unwrap(),
        w.lock(),
    );
    let asked = |git_ref: &str| {
        let of = |text: &str| {
            text.replace(
                "up/pack\"\nref = \"main\"",
                &format!("up/pack\"\nref = \"{git_ref}\""),
            )
        };
        fs::write(w.root.join("project/comfy.toml"), of(&toml)).unwrap();
        w.set_lock(&of(&lock));
        lines(&["lock", "--check", "-v"], checked)
    };
    assert_eq!(asked("v1"), "");
    assert_eq!(asked(&head.id().to_string()), "");
    assert!(asked(&fork.to_string()).contains("is not on"));
    assert!(asked("fork").contains("is not on"));
    // Written as a commit, it must be on some branch or tag; that of a pull request is on none.
    w.repo
        .find_reference("refs/heads/fork")
        .unwrap()
        .delete()
        .unwrap();
    w.repo
        .reference("refs/pull/1/head", fork, true, "")
        .unwrap();
    // What was on a branch once stays known as that.
    fs::remove_dir_all(w.root.join("home/.cache")).unwrap();
    let locked_at = |commit: Oid| {
        let text = toml.replace(
            "up/pack\"\nref = \"main\"",
            &format!("up/pack\"\nref = \"{commit}\""),
        );
        fs::write(w.root.join("project/comfy.toml"), text).unwrap();
        let said = text_without_ids(&w.ok(&["lock"]));
        let is_told = |l: &&str| l.contains("branch or tag");
        said.lines()
            .filter(is_told)
            .map(|l| l.to_string() + "\n")
            .collect::<String>()
    };
    assert_eq!(locked_at(head.id()), "");
    let warning = locked_at(fork);
    insta::assert_snapshot!(warning, @"warning: node.pack: commit COMMIT is on no branch or tag of https://github.com/up/pack: it may come from anybody's fork; if you do not know it, write a branch or tag as `ref`");
    assert_eq!(
        locked_at(fork),
        "",
        "what is locked already is told by plan and lock --check"
    );
    let said = text(&w.comfy(&["plan"]), &w.root);
    assert!(said.contains("is on no branch or tag"), "{said}");
    assert!(text(&w.comfy(&["lock", "--check"]), &w.root).contains("is on no branch or tag"));
}

fn text_without_ids(said: &str) -> String {
    crate::support::without_ids(said, &[7])
}
