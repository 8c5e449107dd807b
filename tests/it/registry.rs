//! Nodes that come from the registry, and from a folder of one's own.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::hub::{Answer, Server};
use crate::python::World;
use crate::support::Upstream;

type Archives = Arc<Mutex<BTreeMap<String, (Vec<u8>, &'static str)>>>;

/// An archive as the registry serves it.
pub fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (path, content) in files {
        let mode = if path.ends_with(".sh") { 0o755 } else { 0o644 };
        let options = zip::write::SimpleFileOptions::default().unix_permissions(mode);
        zip.start_file(*path, options).unwrap();
        zip.write_all(content.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// The registry: the answers of its API, and its archives.
pub struct Registry {
    server: Server,
    archives: Archives,
}

impl Registry {
    pub fn start() -> Registry {
        let archives = Archives::default();
        let known = Arc::clone(&archives);
        let server = Server::start(move |asked| {
            let known = known.lock().unwrap();
            let version = |v: &str| {
                let (_, status) = known.get(v)?;
                let url = format!("https://cdn.comfy.org/kj/pack/{v}/node.zip");
                Some(
                    json!({ "version": v, "status": format!("NodeVersionStatus{status}"), "downloadUrl": url }),
                )
            };
            let found = match asked.path.strip_prefix("/nodes/kj-pack") {
                Some("") => {
                    let latest = known.keys().next_back().and_then(|v| version(v));
                    Some(
                        json!({ "id": "kj-pack", "status": "NodeStatusActive", "latest_version": latest }),
                    )
                }
                Some("/versions") => Some(known.keys().filter_map(|v| version(v)).collect()),
                Some(rest) => rest.strip_prefix("/versions/").and_then(version),
                None => {
                    let path = asked.path.strip_prefix("/cdn/kj/pack/");
                    let version = path.and_then(|p| p.strip_suffix("/node.zip"));
                    if let Some((bytes, _)) = version.and_then(|v| known.get(v)) {
                        return Answer::new(200, bytes);
                    }
                    None
                }
            };
            match found {
                Some(found) => Answer::new(200, found.to_string().as_bytes()),
                None => Answer::new(404, b"{}"),
            }
        });
        Registry { server, archives }
    }

    pub fn publish(&self, version: &str, status: &'static str, bytes: Vec<u8>) {
        let mut all = self.archives.lock().unwrap();
        all.insert(version.into(), (bytes, status));
    }

    /// The registry in the place of the real one, and a home in which folders are looked up.
    pub fn set_up(&self, c: &mut Command) {
        let url = self.server.url();
        let url = url.trim_end_matches('/');
        let github = c.get_envs().find(|(k, _)| *k == "COMFY_MIRRORS");
        let github = github.and_then(|(_, v)| v?.to_str()).unwrap_or_default();
        let rules =
            format!("{github};https://api.comfy.org/={url}/;https://cdn.comfy.org/={url}/cdn/");
        c.env("COMFY_MIRRORS", rules);
    }
}

/// What is said of a node, and how it ended.
fn of_node(said: &str, node: &str) -> String {
    let section = format!("# node.{node} ");
    let mut inside = false;
    let mut line = |l: &&str| {
        if l.trim_start().starts_with("# ") {
            inside = l.contains(&section);
        }
        let is_plan = said.contains("comfy will perform");
        let ends = [
            "$ ",
            "error: ",
            "  hint: ",
            "exit ",
            "Plan: ",
            "Apply complete",
        ];
        (inside && !l.is_empty() && !l.starts_with("Note"))
            || !is_plan
            || ends.iter().any(|e| l.starts_with(e))
    };
    said.lines()
        .filter(|l| line(l))
        .map(|l| format!("{l}\n"))
        .collect()
}

#[test]
fn a_node_of_the_registry_is_pinned_by_its_archive() {
    let Some(w) = World::new("", &[]) else { return };
    let registry = Registry::start();
    let node = |n: u32| {
        archive(&[
            (
                "__init__.py",
                &format!("VERSION = {n}\nNODE_CLASS_MAPPINGS = {{}}\n"),
            ),
            ("requirements.txt", "lib\n"),
            ("tools/run.sh", "#!/bin/sh\n"),
        ])
    };
    w.index.wheels(&[("lib", "1.0")]);
    registry.publish("1.0.4", "Active", node(4));
    registry.publish("1.0.5", "Flagged", node(5));
    let run = |commands: &[&str]| {
        let one = |c: &&str| of_node(&w.with(c, |c| registry.set_up(c)), "kj-pack");
        commands.iter().map(one).collect::<Vec<_>>().join("\n")
    };
    let said = run(&[
        "add node KJ-Pack@1.0.3",
        "lock",
        "set nodes.kj-pack.version 1.0.4",
        "lock",
        "apply --yes",
    ]);
    insta::assert_snapshot!(said, @r#"
    $ comfy add node KJ-Pack@1.0.3
    Added node kj-pack to comfy.toml.
    `comfy lock` pins what was added.

    $ comfy lock
    error: comfy.toml:16:1: kj-pack: the registry has no version 1.0.3 of node "kj-pack"
      hint: it has 1.0.4, 1.0.5
    exit 1

    $ comfy set nodes.kj-pack.version 1.0.4
    Set nodes.kj-pack.version in comfy.toml.

    $ comfy lock
    Added comfyui COMMIT
    Added kj-pack 1.0.4
    Added lib 1.0
    Locked 2 repositories, 1 Python package in comfy.lock.

    $ comfy apply --yes
      # node.kj-pack will be created
        + registry = "kj-pack"
        + tree     = "COMMIT"
        + version  = "1.0.4"
    Will download 2 repositories, 1 Python package (867 B, about 3.0 KiB on the disk) unless cached. Free disk space is checked first.
    Plan: 7 to add, 0 to change, 0 to destroy.
    Apply complete! 7 added, 0 changed, 0 destroyed.
    Loading everything once…
    comfy
    warning: ComfyUI could not load everything: it exited before it had loaded everything
    To start ComfyUI, run: comfy run
    "#);
    let lock = w.lock();
    let from = lock.find("[nodes.kj-pack]").unwrap();
    insta::assert_snapshot!(lock[from..].split("\n\n").next().unwrap(), @r#"
    [nodes.kj-pack]
    repo = "registry:kj-pack"
    ref = "1.0.4"
    commit = "49da87d1b12f682e17701667ebd34fda2c5f1c24"
    tree = "387f01b3ce7c6651bec5f3c09b3eb48a0bda2098"
    registry_version = "1.0.4"
    url = "https://cdn.comfy.org/kj/pack/1.0.4/node.zip"
    sha256 = "8cea8175fe950d40512b924dd99c1bf3d625a570a8a16448bac399ee4b2d6ceb"
    status = "active"
    requirements = [
        "requirements.txt:1 lib",
    ]
    "#);
    let installed = w
        .root
        .join("prefix/comfyui_sandbox/")
        .join("current/ComfyUI/custom_nodes/kj-pack");
    assert!(
        fs::read_to_string(installed.join("__init__.py"))
            .unwrap()
            .starts_with("VERSION = 4")
    );
    let mode = fs::metadata(installed.join("tools/run.sh"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o111, 0o111);

    let moved = run(&[
        "outdated",
        "set --unset nodes.kj-pack.version",
        "plan",
        "update kj-pack",
        "plan",
    ]);
    insta::assert_snapshot!(moved, @r#"
    $ comfy outdated
    Everything is up to date.

    $ comfy set --unset nodes.kj-pack.version
    Removed nodes.kj-pack.version from comfy.toml.

    $ comfy plan
    error: comfy.toml:14:8: nodes.kj-pack.version is "latest", but comfy.lock was made for "1.0.4"
      hint: run `comfy lock`; if you reverted comfy.lock alone, revert comfy.toml with it
    exit 1

    $ comfy update kj-pack
    Updated kj-pack 1.0.4 -> 1.0.5
    warning: node.kj-pack: version 1.0.5 is flagged: a scan of the registry found something in it
    Wrote comfy.lock. Review it with `comfy plan`, then commit it.

    $ comfy plan
      # node.kj-pack will be updated
        ~ tree    = "COMMIT" -> "COMMIT"
        ~ version = "1.0.4" -> "1.0.5"
    Will download 1 repository unless cached. Free disk space is checked first.
    Plan: 0 to add, 2 to change, 0 to destroy.
    "#);

    // Another archive under the same name, on a machine that has none yet.
    registry.publish("1.0.5", "Active", node(6));
    fs::remove_dir_all(w.root.join("prefix")).unwrap();
    let other = run(&["apply --yes"]);
    insta::assert_snapshot!(other, @r#"
    $ comfy apply --yes
      # node.kj-pack will be created
        + registry = "kj-pack"
        + tree     = "COMMIT"
        + version  = "1.0.5"
    Will download 2 repositories, 1 Python package (867 B, about 3.0 KiB on the disk) unless cached. Free disk space is checked first.
    Plan: 7 to add, 0 to change, 0 to destroy.
    error: node.kj-pack: https://cdn.comfy.org/kj/pack/1.0.5/node.zip: the archive has sha256 545da2c4b38b1f8629865aec00a4b51827729c18be8a80fbe9a5991c29b9fafb, and comfy.lock says 6e3d5fc25afc0fb3985e9284745ad6df5d29738ced80b3aa77254d00dfb47b4d
      hint: the registry serves another file than was locked: find out why before you `comfy update` this node; nothing was installed
    exit 1
    "#);

    registry.publish("1.0.6", "Banned", node(6));
    registry.publish("1.0.7", "Active", archive(&[("../evil.py", "x")]));
    registry.publish("1.0.8", "Active", b"no archive".to_vec());
    registry.publish(
        "1.0.9",
        "Active",
        archive(&[("a/x.py", "x"), ("A/x.py", "y")]),
    );
    let refused: String = ["1.0.6", "1.0.7", "1.0.8", "1.0.9"]
        .iter()
        .map(|v| run(&[&format!("set nodes.kj-pack.version {v}"), "lock"]))
        .collect();
    insta::assert_snapshot!(refused, @r#"
    $ comfy set nodes.kj-pack.version 1.0.6
    Set nodes.kj-pack.version in comfy.toml.

    $ comfy lock
    error: comfy.toml:16:1: kj-pack: the registry has banned kj-pack 1.0.6
      hint: it gives no reasons; choose another version, or leave the node out
    exit 1
    $ comfy set nodes.kj-pack.version 1.0.7
    Set nodes.kj-pack.version in comfy.toml.

    $ comfy lock
    error: comfy.toml:16:1: kj-pack: the archive's entry "../evil.py" must not contain `.` or `..`
      hint: choose another version, or the node's repository: `repo = "https://…"`
    exit 1
    $ comfy set nodes.kj-pack.version 1.0.8
    Set nodes.kj-pack.version in comfy.toml.

    $ comfy lock
    error: comfy.toml:16:1: kj-pack: the registry's archive cannot be unpacked: invalid Zip archive: Could not find EOCD
      hint: choose another version, or the node's repository: `repo = "https://…"`
    exit 1
    $ comfy set nodes.kj-pack.version 1.0.9
    Set nodes.kj-pack.version in comfy.toml.

    $ comfy lock
    error: comfy.toml:16:1: kj-pack: `A` and `a` are the same name on a Mac's disk
      hint: choose another commit, or ask the author to rename one
    exit 1
    "#);
}

#[test]
fn a_folder_of_ones_own_is_pinned_by_what_it_holds() {
    let Some(w) = World::new("", &[]) else { return };
    let folder = w.root.join("src/my-node");
    fs::create_dir_all(folder.join("js")).unwrap();
    fs::create_dir_all(folder.join(".git")).unwrap();
    fs::create_dir_all(folder.join("__pycache__")).unwrap();
    for (path, text) in [
        ("__init__.py", "NODE_CLASS_MAPPINGS = {}\n"),
        ("js/a.js", "1\n"),
        (".git/config", "x"),
        ("__pycache__/a.pyc", "x"),
    ] {
        fs::write(folder.join(path), text).unwrap();
    }
    let run = |commands: &[&str]| {
        let one = |c: &&str| of_node(&w.one(c), "my-node");
        commands.iter().map(one).collect::<Vec<_>>().join("\n")
    };
    let said = run(&[
        "add node ./src/missing",
        "add node ./src/my-node",
        "lock",
        "apply --yes",
    ]);
    insta::assert_snapshot!(said, @r#"
    $ comfy add node ./src/missing
    error: could not open ./src/missing: No such file or directory (os error 2)
      hint: give the folder of a node of your own; a repository is OWNER/NAME
    exit 1

    $ comfy add node ./src/my-node
    Added node my-node to comfy.toml.
    `comfy lock` pins what was added.

    $ comfy lock
    Added comfyui COMMIT
    Added my-node COMMIT
    Locked 2 repositories in comfy.lock.

    $ comfy apply --yes
      # node.my-node will be created
        + path = "ROOT/src/my-node"
        + tree = "COMMIT"
    Will download 1 repository unless cached. Free disk space is checked first.
    Plan: 7 to add, 0 to change, 0 to destroy.
    Apply complete! 7 added, 0 changed, 0 destroyed.
    Loading everything once…
    comfy
    warning: ComfyUI could not load everything: it exited before it had loaded everything
    To start ComfyUI, run: comfy run
    "#);
    let installed = w
        .root
        .join("prefix/comfyui_sandbox/")
        .join("current/ComfyUI/custom_nodes/my-node");
    assert!(installed.join("js/a.js").is_file());
    assert!(!installed.join(".git").exists());
    fs::write(folder.join("js/a.js"), "2\n").unwrap();
    let changed = run(&["plan", "outdated", "update my-node", "apply --yes"]);
    insta::assert_snapshot!(changed, @r#"
    $ comfy plan

    Note: network.egress = "deny": under isolation "none" it is enforced for TCP and by port alone, if the kernel's Landlock knows ports; a node can still listen on a port that the system chooses
    Note: network.clients: under isolation "none" every user of this machine can reach ComfyUI
    Note: run.memory_reserve: under isolation "none" nothing is kept for the system

    No changes. This machine matches comfy.lock.

    $ comfy outdated
    my-node  COMMIT -> COMMIT  (HEAD)

    $ comfy update my-node
    Updated my-node COMMIT -> COMMIT
    Wrote comfy.lock. Review it with `comfy plan`, then commit it.

    $ comfy apply --yes
      # node.my-node will be updated
        ~ tree = "COMMIT" -> "COMMIT"
    Plan: 0 to add, 2 to change, 0 to destroy.
    Apply complete! 0 added, 2 changed, 0 destroyed.
    Loading everything once…
    comfy
    warning: ComfyUI could not load everything: it exited before it had loaded everything; the previous generation failed too
    "#);
    assert_eq!(
        fs::read_to_string(installed.join("js/a.js")).unwrap(),
        "2\n"
    );
    // Where ComfyUI may write, nothing is code.
    fs::create_dir_all(w.root.join("src")).unwrap();
    run(&["add share output ./src --access write"]);
    let shared = run(&["plan"]);
    insta::assert_snapshot!(shared, @"
    $ comfy plan
    error: comfy.toml:15:1: node my-node: ROOT/src/my-node overlaps share output (ROOT/src)
      hint: move the node: ComfyUI could change it there, and it would become code
    exit 1
    ");
    run(&["remove share output"]);
    // Locked, and changed again before the apply.
    fs::write(folder.join("js/a.js"), "3\n").unwrap();
    run(&["update my-node"]);
    fs::write(folder.join("js/a.js"), "4\n").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.join("link")).unwrap();
    let late = run(&["apply --yes", "update my-node"]);
    insta::assert_snapshot!(late, @r#"
    $ comfy apply --yes
      # node.my-node will be updated
        ~ tree = "COMMIT" -> "COMMIT"
    Plan: 0 to add, 2 to change, 0 to destroy.
    error: node.my-node: ROOT/src/my-node is not as comfy.lock pins it
      hint: `comfy update` with the node's name locks what the folder holds now
    exit 1

    $ comfy update my-node
    error: comfy.toml:15:1: my-node: link `link` points out of the tree, to `/etc/passwd`
      hint: such a link could show the node other files; choose another commit, or a fork without it
    exit 1
    "#);
}

#[test]
fn a_workflow_s_nodes_and_models_are_told_and_added() {
    let Some(w) = World::new("", &[("known", "")]) else {
        return;
    };
    let registry = Registry::start();
    registry.publish(
        "1.0.4",
        "Active",
        archive(&[("__init__.py", "MAP = {'KJ': 1}\n")]),
    );
    w.commit_files(
        "known",
        &[(
            "__init__.py",
            b"NODE_CLASS_MAPPINGS = {\"OfKnown\": 1, 'Twice': 2}\n",
            0o100_644,
        )],
    );
    // A hub serves the commits of forks at the parent's address too.
    let forked = Upstream::new(&w.root.join("upstream"), "up/forked");
    let file = |text: &'static [u8]| [("__init__.py", text, 0o100_644)];
    let own = forked.commit(&file(b"A = 1\n"));
    let of_fork = forked.commit(&file(b"A = 2\n"));
    let forked = git2::Repository::open_bare(w.root.join("upstream/up/forked.git")).unwrap();
    forked
        .reference("refs/pull/1/head", of_fork.parse().unwrap(), true, "")
        .unwrap();
    forked
        .reference("refs/heads/main", own.parse().unwrap(), true, "")
        .unwrap();
    let models = w.root.join("models");
    fs::create_dir_all(models.join("loras/style")).unwrap();
    fs::create_dir_all(models.join("vae")).unwrap();
    for path in [
        "loras/style/a.safetensors",
        "loras/two.safetensors",
        "vae/two.safetensors",
    ] {
        fs::write(models.join(path), "x").unwrap();
    }
    let workflow = json!({ "nodes": [
        { "type": "A", "properties": { "cnr_id": "kj-pack", "ver": "1.0.4" } },
        { "type": "B", "properties": { "cnr_id": "no-such" } },
        { "type": "C", "properties": { "aux_id": "up/known" } },
        { "type": "D", "properties": { "aux_id": "up/other", "ver": "0123456789012345678901234567890123456789" } },
        { "type": "E", "properties": { "aux_id": "up/forked", "ver": of_fork } },
        { "type": "OfKnown" },
        { "type": "Nowhere" },
        { "type": "Lora", "properties": { "cnr_id": "comfy-core", "models": [
            { "name": "new.safetensors", "url": "https://huggingface.co/o/r/resolve/main/new.safetensors?download=true", "directory": "checkpoints" },
            { "name": "lost.safetensors" } ] },
          "widgets_values": ["style\\a.safetensors", "two.safetensors", 3] },
    ] });
    fs::write(w.root.join("w.json"), workflow.to_string()).unwrap();
    let run = |commands: &[&str]| {
        let one = |c: &&str| w.with(c, |c| registry.set_up(c));
        commands.iter().map(one).collect::<Vec<_>>().join("\n")
    };
    run(&["add share models ./models"]);
    let before = fs::read_to_string(w.toml()).unwrap();
    let said = run(&[
        "lock",
        "add --workflow w.json -n",
        "add --workflow w.json --yes",
    ]);
    insta::assert_snapshot!(said, @"
    $ comfy lock
    Added comfyui COMMIT
    Added known COMMIT
    Locked 2 repositories in comfy.lock.

    $ comfy add --workflow w.json -n
    Nodes
      known      kj-pack    the registry's version 1.0.4 (1 class)
      unknown    no-such    the registry has no node of this id
      ambiguous  up/forked  commit COMMIT is not known to be on the default branch of https://github.com/up/forked, and may be of a fork; if you trust it: comfy add node https://github.com/up/forked --ref COMMIT
      found      up/known   node.known (1 class)
      ambiguous  up/other   commit COMMIT is not known to be on the default branch of https://github.com/up/other, and may be of a fork; if you trust it: comfy add node https://github.com/up/other --ref COMMIT
      unknown    Nowhere    no node of comfy.toml has it, and the registry knows none that has
      found      OfKnown    node.known
    Models
      unknown    lost.safetensors     it is in no share, and the workflow does not say where it comes from
      known      new.safetensors      checkpoints/new.safetensors from hf://o/r/new.safetensors
      known      style/a.safetensors  loras/style/a.safetensors of share models is adopted
      ambiguous  two.safetensors      there are loras/two.safetensors of share models and vae/two.safetensors of share models
    Would add 1 node and 2 models to comfy.toml.
    exit 2

    $ comfy add --workflow w.json --yes
    Nodes
      known      kj-pack    the registry's version 1.0.4 (1 class)
      unknown    no-such    the registry has no node of this id
      ambiguous  up/forked  commit COMMIT is not known to be on the default branch of https://github.com/up/forked, and may be of a fork; if you trust it: comfy add node https://github.com/up/forked --ref COMMIT
      found      up/known   node.known (1 class)
      ambiguous  up/other   commit COMMIT is not known to be on the default branch of https://github.com/up/other, and may be of a fork; if you trust it: comfy add node https://github.com/up/other --ref COMMIT
      unknown    Nowhere    no node of comfy.toml has it, and the registry knows none that has
      found      OfKnown    node.known
    Models
      unknown    lost.safetensors     it is in no share, and the workflow does not say where it comes from
      known      new.safetensors      checkpoints/new.safetensors from hf://o/r/new.safetensors
      known      style/a.safetensors  loras/style/a.safetensors of share models is adopted
      ambiguous  two.safetensors      there are loras/two.safetensors of share models and vae/two.safetensors of share models
    Added 1 node and 2 models to comfy.toml.
    `comfy lock` pins what was added.
    exit 2
    ");
    let after = fs::read_to_string(w.toml()).unwrap();
    let diff = similar_lines(&before, &after);
    insta::assert_snapshot!(diff, @r#"
    [nodes.kj-pack]
    registry = "kj-pack"
    version = "1.0.4"
    [models."checkpoints/new.safetensors"]
    source = "hf://o/r/new.safetensors"
    [models."loras/style/a.safetensors"]
    "#);
}

/// The lines that are new.
fn similar_lines(before: &str, after: &str) -> String {
    let old: Vec<&str> = before.lines().collect();
    let new = after.lines().filter(|l| !l.is_empty() && !old.contains(l));
    new.map(|l| format!("{l}\n")).collect()
}
