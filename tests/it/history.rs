//! The commits of comfy.lock in the owner's own repository, and the way back, in every kind of
//! repository that people keep their files in.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{
    CORE, Upstream, borrowed, command, git_or_skip, node, python, text, without_ids,
};

/// A home with upstream repositories, and one repository of the owner's.
struct Home {
    root: PathBuf,
    /// Where comfy is called, and what it needs to find the repository.
    project: PathBuf,
    env: Vec<(&'static str, PathBuf)>,
    packs: Vec<Upstream>,
    _temp: tempfile::TempDir,
}

impl Home {
    fn new(packs: usize) -> Home {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        let upstream = root.join("upstream");
        Upstream::new(&upstream, "up/ComfyUI").commit(CORE);
        let packs = (0..packs)
            .map(|n| {
                let pack = Upstream::new(&upstream, &format!("up/pack{n:02}"));
                pack.commit(&borrowed(&node(1)));
                pack
            })
            .collect();
        fs::create_dir_all(root.join("home")).unwrap();
        fs::write(
            root.join("home/.gitconfig"),
            "[user]\nname = Alice\nemail = alice@localhost\n[init]\ndefaultBranch = main\n",
        )
        .unwrap();
        Home {
            project: root.join("home/dotfiles"),
            env: Vec::new(),
            packs,
            root,
            _temp: temp,
        }
    }

    fn manifest(&self) -> String {
        let mut out = format!(
            "version = 1\n[host]\nisolation = \"none\"\nprefix = \"{}/prefix\"\n[comfyui]\nrepo = \
             \"https://github.com/up/ComfyUI\"\nref = \"main\"\n[python]\nversion = \"{}\"\n",
            self.root.display(),
            python()
        );
        for n in 0..self.packs.len() {
            out += &format!(
                "[nodes.pack{n:02}]\nrepo = \"https://github.com/up/pack{n:02}\"\nref = \"main\"\n"
            );
        }
        out
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut c = command(&self.root);
        c.current_dir(&self.project).args(args);
        for (name, value) in &self.env {
            c.env(name, value);
        }
        c
    }

    fn comfy(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn ok(&self, args: &[&str]) -> String {
        let out = self.comfy(args);
        assert!(out.status.success(), "{args:?}: {}", text(&out, &self.root));
        without_ids(&text(&out, &self.root), &[7, 16, 40])
    }

    fn refused(&self, args: &[&str]) -> String {
        let out = self.comfy(args);
        assert_eq!(
            out.status.code(),
            Some(1),
            "{args:?}: {}",
            text(&out, &self.root)
        );
        without_ids(&text(&out, &self.root), &[7, 16, 40])
    }

    fn git(&self, at: &Path, args: &[&str]) -> String {
        let mut c = Command::new("git");
        c.env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .env("HOME", self.root.join("home"))
            .current_dir(at)
            .args(args);
        for (name, value) in &self.env {
            c.env(name, value);
        }
        let out = c.output().unwrap();
        assert!(
            out.status.success(),
            "git {args:?}: {}",
            text(&out, &self.root)
        );
        String::from_utf8_lossy(&out.stdout).trim().to_string()
    }

    /// Moves upstream.
    fn publish(&self, pack: usize, version: u32) {
        self.packs[pack].commit(&borrowed(&node(version)));
    }

    /// A first commit of both files, and a second that moved a pin.
    fn two_commits(&self, at: &Path) {
        fs::write(at.join("comfy.toml"), self.manifest()).unwrap();
        self.ok(&["lock"]);
        let lock = fs::read_dir(at)
            .unwrap()
            .flatten()
            .any(|e| e.file_name() == "comfy.lock");
        assert!(lock, "comfy.lock lies beside the real comfy.toml");
        self.git(at, &["add", "comfy.toml", "comfy.lock"]);
        self.git(at, &["commit", "-qm", "Pin ComfyUI"]);
        self.publish(0, 2);
        self.ok(&["update", "--commit"]);
    }

    /// Goes back, with another file staged and a third one changed.
    fn check_way_back(&self, kind: &str, at: &Path) {
        let before = self.git(at, &["rev-parse", "HEAD"]);
        let old = self.git(at, &["show", "HEAD~1:./comfy.lock"]);
        fs::write(at.join("staged"), "x").unwrap();
        self.git(at, &["add", "staged"]);
        fs::write(at.join("other"), "x").unwrap();
        let told = self.ok(&["history"]);
        assert!(
            told.contains("Update pack00 COMMIT -> COMMIT"),
            "{kind}: {told}"
        );
        self.ok(&["rollback", "--no-apply"]);
        let lock = fs::read_to_string(at.join("comfy.lock")).unwrap();
        assert_eq!(lock.trim(), old, "{kind}");
        assert_eq!(self.git(at, &["rev-parse", "HEAD~1"]), before, "{kind}");
        let changed = self.git(at, &["show", "--name-only", "--format=", "HEAD"]);
        assert!(
            changed.ends_with("comfy.lock") && changed.lines().count() == 1,
            "{kind}: {changed}"
        );
        let status = self.git(at, &["status", "--short", "."]);
        let status: Vec<&str> = status.lines().filter(|l| !l.ends_with("home/")).collect();
        assert_eq!(status.len(), 2, "{kind}: {status:?}");
        assert!(
            status[0].starts_with("A  ") && status[1].starts_with("?? "),
            "{kind}: {status:?}"
        );
        self.git(at, &["fsck", "--no-dangling", "--no-progress"]);
    }
}

#[test]
fn every_kind_of_repository_is_read_and_committed_to() {
    if !git_or_skip() {
        return;
    }
    // A folder of a larger repository.
    let mut home = Home::new(1);
    let top = home.project.clone();
    home.project = top.join("ai/comfy");
    fs::create_dir_all(&home.project).unwrap();
    home.git(&top, &["init", "-q"]);
    home.two_commits(&home.project);
    home.check_way_back("a subfolder", &home.project);

    // A second work tree of it.
    let tree = home.root.join("home/tree");
    home.git(
        &top,
        &[
            "worktree",
            "add",
            "-q",
            "-b",
            "second",
            &tree.to_string_lossy(),
        ],
    );
    home.project = tree.join("ai/comfy");
    home.publish(0, 3);
    home.ok(&["update", "--commit"]);
    home.check_way_back("a work tree", &home.project);
    assert_eq!(
        home.git(&top, &["log", "--oneline", "main"])
            .lines()
            .count(),
        3
    );

    // chezmoi's source: a name with a prefix for the folder, the file as it is.
    let mut home = Home::new(1);
    let source = home.root.join("home/.local/share/chezmoi");
    home.project = source.join("dot_config/comfy");
    fs::create_dir_all(&home.project).unwrap();
    home.git(&source, &["init", "-q"]);
    home.two_commits(&home.project);
    home.check_way_back("chezmoi's source", &home.project);

    // Links of stow, which knows only the files that there were.
    let mut home = Home::new(1);
    let real = home.root.join("home/dotfiles/comfy/.config/comfy");
    let config = home.root.join("home/.config/comfy");
    for folder in [&real, &config] {
        fs::create_dir_all(folder).unwrap();
    }
    home.git(&home.root.join("home/dotfiles"), &["init", "-q"]);
    symlink(real.join("comfy.toml"), config.join("comfy.toml")).unwrap();
    home.project = config.clone();
    home.two_commits(&real);
    assert!(!config.join("comfy.lock").exists());
    home.check_way_back("links of stow", &real);
    symlink(real.join("comfy.lock"), config.join("comfy.lock")).unwrap();
    home.git(&real, &["commit", "-qm", "The other file"]);
    home.publish(0, 4);
    home.ok(&["update", "--commit"]);
    assert!(config.join("comfy.lock").is_symlink());

    // yadm, and a bare repository with the home as its work tree.
    let mut home = Home::new(1);
    home.project = home.root.join("home/.config/comfy");
    fs::create_dir_all(&home.project).unwrap();
    let bare = home.root.join("home/.local/share/yadm/repo.git");
    home.git(
        &home.root,
        &["init", "-q", "--bare", &bare.to_string_lossy()],
    );
    fs::write(home.project.join("comfy.toml"), home.manifest()).unwrap();
    home.ok(&["lock"]);
    let told = home.refused(&["history"]);
    assert!(
        told.contains("is in no git repository") && told.contains("GIT_WORK_TREE"),
        "{told}"
    );
    home.env = vec![("GIT_DIR", bare), ("GIT_WORK_TREE", home.root.join("home"))];
    home.two_commits(&home.project);
    home.check_way_back("GIT_DIR and GIT_WORK_TREE", &home.project);
}

#[test]
fn what_is_in_the_way_of_a_commit_is_said() {
    if !git_or_skip() {
        return;
    }
    let home = Home::new(1);
    fs::create_dir_all(&home.project).unwrap();
    home.git(&home.project, &["init", "-q"]);
    let mut told = Vec::new();
    fs::write(home.project.join("comfy.toml"), home.manifest()).unwrap();
    home.ok(&["lock"]);
    told.push(home.refused(&["update", "--commit"]));
    home.two_commits(&home.project);
    let head = || home.git(&home.project, &["rev-parse", "HEAD"]);
    let at = head();
    let mut refused = |set: &dyn Fn(), unset: &[&str]| {
        set();
        let before = fs::read(home.project.join("comfy.lock")).unwrap();
        told.push(home.refused(&["rollback", "--yes"]));
        assert_eq!(fs::read(home.project.join("comfy.lock")).unwrap(), before);
        home.git(&home.project, unset);
        assert_eq!(head(), at);
    };
    refused(
        &|| {
            let toml = format!("{}\n# mine\n", home.manifest());
            fs::write(home.project.join("comfy.toml"), toml).unwrap();
        },
        &["checkout", "-q", "comfy.toml"],
    );
    refused(
        &|| drop(home.git(&home.project, &["config", "commit.gpgsign", "true"])),
        &["config", "--unset", "commit.gpgsign"],
    );
    refused(
        &|| drop(home.git(&home.project, &["config", "user.name", ""])),
        &["config", "--unset", "user.name"],
    );
    told.push(home.refused(&["rollback", "nonsense"]));
    // A hook that comfy does not run.
    let hook = home.project.join(".git/hooks/pre-commit");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, "#!/bin/sh\nexit 1\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    told.push(home.ok(&["rollback", "--no-apply"]));
    told.push(home.refused(&["rollback", "HEAD~3"]));
    insta::assert_snapshot!(told.join("\n"), @r#"
    error: the git repository of ROOT/home/dotfiles/comfy.lock has no commit
      hint: commit the two files first: cd ROOT/home/dotfiles && git add comfy.toml comfy.lock && git commit -m "Pin ComfyUI"

    error: ROOT/home/dotfiles/comfy.toml has changes that are not committed
      hint: commit them (cd ROOT/home/dotfiles && git commit comfy.toml) or discard them (cd ROOT/home/dotfiles && git checkout HEAD -- comfy.toml)

    error: commit.gpgsign is set, and comfy's git library does not sign commits
      hint: `comfy rollback --no-commit` restores the files; then commit them with git, and run `comfy apply`

    error: git does not know who commits: user.name or user.email is not set
      hint: git config --global user.name "Your Name" && git config --global user.email you@example.org

    error: the git repository of ROOT/home/dotfiles has no commit nonsense
      hint: `comfy history` lists the commits of comfy.lock

    Updated pack00 COMMIT -> COMMIT
    Revert "Update pack00 COMMIT -> COMMIT (1 commit)"
    Committed COMMIT: Revert "Update pack00 COMMIT -> COMMIT (1 commit)"
    warning: comfy's git library runs no hooks, so these did not run: pre-commit
    To change this machine, run: comfy apply

    error: the git repository of ROOT/home/dotfiles has no commit HEAD~3
      hint: `comfy history` lists the commits of comfy.lock
    "#);
}

#[test]
fn the_way_back_is_committed_and_applied_and_keeps_later_changes() {
    if !git_or_skip() {
        return;
    }
    let home = Home::new(2);
    fs::create_dir_all(&home.project).unwrap();
    home.git(&home.project, &["init", "-q"]);
    home.two_commits(&home.project);
    home.ok(&["apply", "--yes", "--no-check"]);
    let version = |pack: &str| {
        let live = fs::read_dir(home.root.join("prefix"))
            .unwrap()
            .flatten()
            .next()
            .unwrap();
        let file = format!("current/ComfyUI/custom_nodes/{pack}/__init__.py");
        fs::read_to_string(live.path().join(file)).unwrap_or_default()
    };
    assert!(version("pack00").contains("VERSION = 2"));
    // A commit that moved both files, and one that changed comfy.toml alone.
    let toml = home.project.join("comfy.toml");
    let text = fs::read_to_string(&toml).unwrap();
    let (rest, _) = text.split_once("[nodes.pack01]").unwrap();
    fs::write(&toml, rest).unwrap();
    home.ok(&["lock"]);
    home.git(&home.project, &["commit", "-qam", "Drop pack01"]);
    fs::write(&toml, format!("# later\n{rest}")).unwrap();
    home.git(&home.project, &["commit", "-qam", "A remark"]);
    home.ok(&["apply", "--yes", "--no-check"]);
    assert_eq!(version("pack01"), "");
    // Nobody is there to ask: neither the repository nor the machine changes.
    let head = home.git(&home.project, &["rev-parse", "HEAD"]);
    let mut asked = home.command(&["rollback"]);
    let out = asked.stdin(std::process::Stdio::null()).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(
        text_of(&out).contains("nothing was committed"),
        "{}",
        text_of(&out)
    );
    assert_eq!(home.git(&home.project, &["rev-parse", "HEAD"]), head);
    assert_eq!(home.git(&home.project, &["status", "--short"]), "");
    // Without a server: the old trees are in the store.
    fs::rename(home.root.join("upstream"), home.root.join("away")).unwrap();
    let told = home.ok(&["rollback", "--yes", "--no-check", "--offline"]);
    assert!(
        told.contains("Committed COMMIT: Revert \"Drop pack01\""),
        "{told}"
    );
    assert!(version("pack01").contains("VERSION = 1"));
    assert_eq!(
        fs::read_to_string(&toml).unwrap(),
        format!("# later\n{text}")
    );
    assert_eq!(home.git(&home.project, &["status", "--short"]), "");
    // One that was never applied here has to be fetched: what was done so far is said.
    let told = home.refused(&["rollback", "--yes", "--no-check", "HEAD~4"]);
    assert!(
        told.contains("commit COMMIT with the earlier comfy.lock is made, and the generation that was live still is"),
        "{told}"
    );
    fs::rename(home.root.join("away"), home.root.join("upstream")).unwrap();
    home.ok(&["apply", "--yes", "--no-check"]);
    assert!(version("pack00").contains("VERSION = 1"));
    let dated = home.ok(&["history"]);
    // A commit and an apply of the same second tell no order: only what is live now is certain.
    let dates = |l: &str| match l.split_once("live here ") {
        Some((start, rest)) if rest.starts_with("since") => {
            Some(format!("{start}live here since TIME"))
        }
        Some(_) => None,
        None => {
            let words = l.split("  ").filter(|w| !w.starts_with("20"));
            Some(words.collect::<Vec<_>>().join("  "))
        }
    };
    let lines: Vec<String> = dated.lines().filter_map(dates).collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    COMMIT  Alice  Roll comfy.lock back to COMMIT (Pin ComfyUI)
             pack00 COMMIT -> COMMIT (1 commit back)
             live here since TIME
    COMMIT  Alice  Revert "Drop pack01"
             +pack01 COMMIT
    COMMIT  Alice  Drop pack01
             -pack01
    COMMIT  Alice  Update pack00 COMMIT -> COMMIT (1 commit)
             pack00 COMMIT -> COMMIT (1 commit)
    COMMIT  Alice  Pin ComfyUI
             +comfyui COMMIT, +pack00 COMMIT, +pack01 COMMIT
    "#);
    let json: serde_json::Value =
        serde_json::from_slice(&home.comfy(&["history", "pack01", "--json"]).stdout).unwrap();
    assert_eq!(json["data"]["commits"].as_array().unwrap().len(), 3);
    let listed = home.ok(&["list", "pack00"]);
    assert!(listed.contains("by commit COMMIT"), "{listed}");
    let checked = home.ok(&["check"]);
    assert!(
        checked.contains("are correct (3 repositories)"),
        "{checked}"
    );
}

fn text_of(out: &Output) -> String {
    String::from_utf8_lossy(&[&out.stdout[..], &out.stderr[..]].concat()).into_owned()
}

/// Forty nodes with one that breaks, one that breaks with another, a pin that does, and a bisect
/// that is interrupted or killed: each ends where it began.
#[test]
fn a_bisect_finds_what_breaks_and_goes_back() {
    if !git_or_skip() {
        return;
    }
    let home = Home::new(40);
    fs::create_dir_all(&home.project).unwrap();
    home.git(&home.project, &["init", "-q"]);
    home.two_commits(&home.project);
    home.ok(&["apply", "--yes", "--no-check"]);
    let nodes = format!(
        "cd {}/prefix/*/current/ComfyUI/custom_nodes; ",
        home.root.display()
    );
    let generations = || {
        let base = fs::read_dir(home.root.join("prefix"))
            .unwrap()
            .flatten()
            .next()
            .unwrap()
            .path();
        let mut all: Vec<_> = fs::read_dir(base.join("gen"))
            .unwrap()
            .flatten()
            .map(|e| e.file_name())
            .collect();
        all.sort();
        (all, fs::read_link(base.join("current")).unwrap())
    };
    let before = generations();
    let search = |args: &[&str], script: &str| {
        let script = format!("{nodes}{script}");
        let mut all = vec!["bisect", "--yes"];
        all.extend(args);
        all.extend(["--", "sh", "-c", &script]);
        let out = home.comfy(&all);
        (
            out.status.code(),
            without_ids(&text(&out, &home.root), &[7, 16, 40]),
        )
    };
    let (code, told) = search(&[], "test ! -e pack17");
    assert_eq!(code, Some(0), "{told}");
    insta::assert_snapshot!(told, @r#"
    node.pack17 breaks it.
    isolation = "none": ComfyUI and its nodes have all your rights; nothing is protected.
    Searching 40 enabled nodes: at most 7 starts beside 2 to begin with. Each half is applied here; then this machine goes back to comfy.lock.
     1. what is live now: bad
     2. with no node enabled: good
     3. the first 20 of 40, up to node.pack19: bad
     4. the first 10 of 40, up to node.pack09: good
     5. the first 15 of 40, up to node.pack14: good
     6. the first 17 of 40, up to node.pack16: good
     7. the first 18 of 40, up to node.pack17: bad
     8. node.pack17 alone: bad
    8 starts; this machine is back at comfy.lock.
    "#);
    let (_, told) = search(&[], "! { test -e pack01 && test -e pack03; }");
    assert!(
        told.contains("node.pack03 breaks it together with node.pack01."),
        "{told}"
    );
    let (code, told) = search(&[], "true");
    assert!(
        code == Some(1) && told.contains("nothing is broken"),
        "{told}"
    );
    let (_, told) = search(
        &["--good", "HEAD~1"],
        "! grep -q 'VERSION = 2' pack00/__init__.py",
    );
    assert!(
        told.contains("node.pack00 breaks it (pack00 COMMIT -> COMMIT)."),
        "{told}"
    );
    // Interrupted in the third try: it goes back.
    let third = "test -e pack39 && exit 1; test -e pack00 || exit 0; ";
    let (code, told) = search(&[], &format!("{third} kill -INT $PPID; exit 1"));
    assert_eq!(code, Some(130), "{told}");
    assert_eq!(generations(), before, "{told}");
    assert!(home.ok(&["plan"]).contains("No changes"));
    // Killed: `status` says so, and `--reset` goes back.
    search(&[], &format!("{third} kill -KILL $PPID"));
    assert_ne!(generations(), before);
    assert!(home.ok(&["status"]).contains("a bisect was interrupted"));
    home.ok(&["bisect", "--reset"]);
    assert_eq!(generations(), before);
    assert!(!home.ok(&["status"]).contains("bisect"));
    // And so does an ordinary apply.
    search(&[], &format!("{third} kill -KILL $PPID"));
    home.ok(&["apply", "--yes", "--no-check"]);
    assert_eq!(generations(), before);
    assert!(!home.ok(&["status"]).contains("bisect"));
    assert_eq!(home.git(&home.project, &["status", "--short"]), "");
}

/// Each message of a rollback or bisect that stops names what to do, and that works.
#[test]
fn what_stands_in_the_way_back_names_the_next_step() {
    if !git_or_skip() {
        return;
    }
    let home = Home::new(1);
    fs::create_dir_all(&home.project).unwrap();
    home.git(&home.project, &["init", "-q"]);
    fs::write(home.project.join("comfy.toml"), home.manifest()).unwrap();
    home.ok(&["lock"]);
    home.git(&home.project, &["add", "comfy.toml", "comfy.lock"]);
    home.git(&home.project, &["commit", "-qm", "Pin ComfyUI"]);
    insta::assert_snapshot!(home.refused(&["rollback"]), @"
    error: commit COMMIT brought comfy.lock: there is no earlier state
      hint: to have other pins, change comfy.toml and run `comfy lock`, or `comfy update`; to remove what comfy made, run `comfy destroy`
    ");
    home.publish(0, 2);
    home.ok(&["update", "--commit"]);
    // A filter, as git-crypt and others set it: comfy's git library runs none.
    home.git(
        &home.project,
        &["config", "filter.upper.clean", "tr a-z A-Z"],
    );
    home.git(
        &home.project,
        &["config", "filter.upper.smudge", "tr A-Z a-z"],
    );
    fs::write(home.project.join(".gitattributes"), "*.lock filter=upper\n").unwrap();
    home.git(&home.project, &["add", "."]);
    home.git(&home.project, &["commit", "-qm", "Filter"]);
    let said = home.refused(&["rollback", "--no-apply"]);
    insta::assert_snapshot!(said, @r#"
    error: ROOT/home/dotfiles/comfy.lock goes through a filter of git's (filter=upper), which comfy's git library does not run
      hint: take comfy.lock out of it: cd ROOT/home/dotfiles && echo 'comfy.lock -filter' >> .gitattributes && git add .gitattributes && git add --renormalize comfy.lock && git commit -m "Keep comfy.lock as it is"
    "#);
    let (_, line) = said.split_once("out of it: ").unwrap();
    let line = line
        .lines()
        .next()
        .unwrap()
        .replace("ROOT", home.root.to_str().unwrap());
    let mut sh = Command::new("sh");
    sh.env("HOME", home.root.join("home")).args(["-c", &line]);
    let out = sh.output().unwrap();
    assert!(out.status.success(), "{}", text(&out, &home.root));
    // What was committed through the filter is no comfy.lock; that of before it is.
    insta::assert_snapshot!(home.refused(&["rollback", "--no-apply"]), @"
    error: rolled back, comfy.lock:1:1: unknown version
      hint: nothing was changed; name another commit: `comfy history` lists those of comfy.lock
    ");
    home.ok(&["rollback", "HEAD~3", "--no-apply"]);
    home.ok(&["apply", "--yes", "--no-check"]);
    // Ctrl-C ends the search, and once more the way back.
    let mut interrupted = home.command(&["bisect", "--yes", "--", "sh", "-c"]);
    let nodes = format!(
        "cd {}/prefix/*/current/ComfyUI/custom_nodes; ",
        home.root.display()
    );
    interrupted
        .arg(format!(
            "{nodes} test -e pack00 && exit 1; kill -INT $PPID; exit 1"
        ))
        .env("COMFY_FAULT", "again:0");
    let out = interrupted.output().unwrap();
    assert_eq!(out.status.code(), Some(130));
    let said = without_ids(&text(&out, &home.root), &[7, 16, 40]);
    insta::assert_snapshot!(said, @r#"
    isolation = "none": ComfyUI and its nodes have all your rights; nothing is protected.
    Searching 1 enabled node: at most 1 start beside 2 to begin with. Each half is applied here; then this machine goes back to comfy.lock.
     1. what is live now: bad
    error: interrupted
    error: could not go back to comfy.lock: interrupted
      hint: this machine has what the bisect tried last (generation COMMIT): `comfy bisect --reset` or `comfy apply` goes back
    "#);
    home.ok(&["bisect", "--reset"]);
    assert!(home.ok(&["plan"]).contains("No changes"));
}

/// The answer of a person at a terminal.
fn answered(mut c: Command, answer: &str) -> (Option<i32>, String) {
    let size = comfy::host::terminal::TerminalSize {
        rows: 40,
        columns: 200,
    };
    let (ours, theirs) = comfy::host::terminal::open_pty(size).unwrap();
    c.stdin(theirs.try_clone().unwrap())
        .stdout(theirs.try_clone().unwrap())
        .stderr(theirs);
    let mut child = c.spawn().unwrap();
    drop(c);
    let (mut read, mut type_) = (
        fs::File::from(ours.try_clone().unwrap()),
        fs::File::from(ours),
    );
    let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
    let mut asked = false;
    // A terminal whose other end is closed gives an error.
    while let Ok(n @ 1..) = read.read(&mut buffer) {
        said.extend(&buffer[..n]);
        if !asked && said.ends_with(b"accepted: ") {
            asked = true;
            type_.write_all(answer.as_bytes()).unwrap();
        }
    }
    let code = child.wait().unwrap().code();
    (code, String::from_utf8_lossy(&said).into_owned())
}

/// Whoever declines has what he had; and a command may say that it cannot judge.
#[test]
fn who_declines_changes_nothing_and_who_cannot_judge_says_so() {
    if !git_or_skip() {
        return;
    }
    let home = Home::new(3);
    fs::create_dir_all(&home.project).unwrap();
    home.git(&home.project, &["init", "-q"]);
    home.two_commits(&home.project);
    home.ok(&["apply", "--yes", "--no-check"]);
    let state = || {
        let head = home.git(&home.project, &["rev-parse", "HEAD"]);
        let changed = home.git(&home.project, &["status", "--short"]);
        let base = fs::read_dir(home.root.join("prefix")).unwrap().flatten();
        let live: Vec<_> = base
            .map(|e| fs::read_link(e.path().join("current")))
            .collect();
        (head, changed, format!("{live:?}"))
    };
    let before = state();
    for args in [&["rollback"][..], &["bisect", "--", "false"]] {
        let (code, said) = answered(home.command(args), "no\n");
        assert_eq!(code, Some(1), "{args:?}: {said}");
        assert!(said.contains("declined"), "{args:?}: {said}");
        assert_eq!(state(), before, "{args:?}: {said}");
    }
    let nodes = format!(
        "cd {}/prefix/*/current/ComfyUI/custom_nodes; ",
        home.root.display()
    );
    let script = format!("{nodes}test -e pack02 && exit 1; test -e pack00 || exit 0; exit 125");
    let out = home.comfy(&["bisect", "--yes", "--", "sh", "-c", &script]);
    let told = without_ids(&text(&out, &home.root), &[7, 16, 40]);
    insta::assert_snapshot!(told, @r#"
    One of these breaks it; what lies between could not be judged: node.pack00, node.pack01, node.pack02.
    isolation = "none": ComfyUI and its nodes have all your rights; nothing is protected.
    Searching 3 enabled nodes: at most 3 starts beside 2 to begin with. Each half is applied here; then this machine goes back to comfy.lock.
     1. what is live now: bad
     2. with no node enabled: good
     3. the first 1 of 3, up to node.pack00: not judged
     4. the first 2 of 3, up to node.pack01: not judged
    4 starts; this machine is back at comfy.lock.
    "#);
    assert_eq!(state(), before);
}

/// What a person needs to judge an update is told before it is locked, when it is, and when it is
/// applied; afterwards `status` says where this machine stands.
#[test]
fn what_an_update_brings_is_told() {
    if !git_or_skip() {
        return;
    }
    let home = Home::new(2);
    let project = |text: &'static str| ("pyproject.toml", text.as_bytes(), 0o100_644);
    let core = Upstream::new(&home.root.join("upstream"), "up/ComfyUI");
    let with_version = project("[project]\nname = \"comfyui\"\nversion = \"0.3.64\"\n");
    core.commit(&[CORE, &[with_version]].concat());
    fs::create_dir_all(&home.project).unwrap();
    fs::write(home.project.join("comfy.toml"), home.manifest()).unwrap();
    home.ok(&["lock"]);
    let without_times = |told: &str| -> String {
        let word = |w: &str| match w.starts_with("20") && w.ends_with("Z)") {
            true => "TIME)".to_string(),
            false => w.to_string(),
        };
        let line = |l: &str| l.split(' ').map(word).collect::<Vec<_>>().join(" ");
        told.lines().map(|l| line(l) + "\n").collect()
    };
    let mut told = without_times(&home.ok(&["status"]));
    home.ok(&["apply", "--yes", "--no-check"]);
    let mut say = |args: &[&str]| {
        let said = without_times(&home.ok(args));
        let said = said.lines().filter(|l| !l.starts_with("isolation = "));
        told += &format!("\n$ comfy {}\n", args.join(" "));
        told.extend(said.flat_map(|l| [l, "\n"]));
    };
    home.publish(0, 2);
    let newer = node(3);
    let mut newer = borrowed(&newer);
    newer.push(("requirements.txt", b"rich>=2\n", 0o100_644));
    newer.push(project("[tool.comfy]\nrequires-comfyui = \">=0.4\"\n"));
    home.packs[0].commit(&newer);
    say(&["outdated"]);
    let json = home.comfy(&["outdated", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let row = &json["data"]["pins"][0];
    assert_eq!(row["commits"]["count"], 2, "{json}");
    assert_eq!(row["requirements"]["added"][0], "rich>=2", "{json}");
    assert_eq!(row["unmet_comfyui"][0]["comfyui"], "0.3.64", "{json}");
    // Twelve commits, and what the node asks for is as before.
    (4..14).for_each(|version| home.publish(0, version));
    say(&["update"]);
    say(&["status"]);
    let plan = home.comfy(&["plan", "--json"]);
    let plan: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
    let commits = &plan["data"]["commits"]["node.pack00"];
    assert_eq!(commits["count"], 12, "{plan}");
    assert_eq!(commits["newest"].as_array().unwrap().len(), 10, "{plan}");
    let verbose = home.ok(&["plan", "-v"]);
    assert!(
        verbose.contains("    # 12 commits:\n    #   COMMIT "),
        "{verbose}"
    );
    home.ok(&["apply", "--yes"]);
    say(&["status"]);
    insta::assert_snapshot!(told, @r#"
    ComfyUI is not running.
    lock        nothing is applied yet: run `comfy apply`
    isolation = "none": ComfyUI and its nodes have all your rights; nothing is protected.

    $ comfy outdated
    pack00  COMMIT -> COMMIT  (main)
        2 commits
          COMMIT a commit (upstream)
          COMMIT a commit (upstream)
        requirements: +rich>=2
        requires ComfyUI >=0.4, and this is 0.3.64

    $ comfy update
    Updated pack00 COMMIT -> COMMIT (12 commits)
        COMMIT a commit (upstream)
        COMMIT a commit (upstream)
        COMMIT a commit (upstream)
        COMMIT a commit (upstream)
        COMMIT a commit (upstream)
        COMMIT a commit (upstream)
        COMMIT a commit (upstream)
        COMMIT a commit (upstream)
        COMMIT a commit (upstream)
        COMMIT a commit (upstream)
        and 2 more
    Wrote comfy.lock. Review it with `comfy plan`, then commit it.

    $ comfy status
    ComfyUI is not running.
    lock        behind in 1 node (pack00): run `comfy apply`
    health      not known: it was not loaded since the apply

    $ comfy status
    ComfyUI is not running.
    lock        in step
    health      bad: it exited before it had loaded everything (the import check, TIME)
    "#);
}

/// Only a node that is off moves: nothing changes here, and the commit is live all the same.
#[test]
fn an_apply_that_changes_nothing_makes_its_lock_live() {
    if !git_or_skip() {
        return;
    }
    let home = Home::new(1);
    fs::create_dir_all(&home.project).unwrap();
    home.git(&home.project, &["init", "-q"]);
    fs::write(
        home.project.join("comfy.toml"),
        home.manifest() + "enabled = false\n",
    )
    .unwrap();
    home.ok(&["lock"]);
    home.git(&home.project, &["add", "comfy.toml", "comfy.lock"]);
    home.git(&home.project, &["commit", "-qm", "Pin ComfyUI"]);
    home.ok(&["apply", "--yes", "--no-check"]);
    home.publish(0, 2);
    home.ok(&["update", "--commit"]);
    let live = || -> Vec<bool> {
        let out = home.comfy(&["history", "--json"]).stdout;
        let told: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let is_live = |c: &serde_json::Value| {
            let periods = c["live"].as_array().unwrap();
            periods.iter().any(|p| p["until"].is_null())
        };
        let commits = told["data"]["commits"].as_array().unwrap();
        commits.iter().map(is_live).collect()
    };
    let said = home.ok(&["apply", "--yes", "--no-check"]);
    assert!(said.contains("No changes"), "{said}");
    assert_eq!(live(), [true, false]);
}

/// The import check judges where no command is given.
#[test]
fn a_bisect_without_a_command_takes_what_fails_to_import() {
    if !git_or_skip() {
        return;
    }
    let home = Home::new(4);
    let core = Upstream::new(&home.root.join("upstream"), "up/ComfyUI");
    let files: Vec<(&str, &[u8], u32)> = comfy::demo::files::COMFYUI
        .iter()
        .map(|f| (f.path, f.text.as_bytes(), 0o100_644))
        .collect();
    core.commit(&files);
    home.packs[2].commit(&[(
        "__init__.py",
        b"raise ImportError('no such thing')\n",
        0o100_644,
    )]);
    fs::create_dir_all(&home.project).unwrap();
    fs::write(home.project.join("comfy.toml"), home.manifest()).unwrap();
    home.ok(&["lock"]);
    home.ok(&["apply", "--yes", "--no-check"]);
    insta::assert_snapshot!(home.ok(&["bisect", "--yes"]), @r#"
    node.pack02 breaks it.
    isolation = "none": ComfyUI and its nodes have all your rights; nothing is protected.
    Searching 4 enabled nodes: at most 3 starts beside 2 to begin with. Each half is applied here; then this machine goes back to comfy.lock.
    Loading everything once…
        node.pack02 failed to import: no such thing
     1. what is live now: bad
    Loading everything once…
     2. with no node enabled: good
    Loading everything once…
     3. the first 2 of 4, up to node.pack01: good
    Loading everything once…
        node.pack02 failed to import: no such thing
     4. the first 3 of 4, up to node.pack02: bad
    Loading everything once…
        node.pack02 failed to import: no such thing
     5. node.pack02 alone: bad
    5 starts; this machine is back at comfy.lock.
    "#);
    assert!(home.ok(&["plan"]).contains("No changes"));
}
