//! Bad input, each with its message: what a person reads who mistyped, merged badly, or was lied
//! to.
//!
//! A row of a snapshot is the case, the exit code, and all of stderr. Below a message that names a
//! place, `>` shows what stands there from that column on, so that a wrong line is seen at once.
//! Every case that fails must exit 1 and change nothing: no comfy.lock, no prefix, no share
//! ([`World::run`]).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::support::{
    CORE, File, Upstream, borrowed, command, git_or_skip, node, python, redacted, text,
};

/// What every case starts from; `ROOT` is the case's own folder.
const GOOD: &str = r#"version = 1

[host]
isolation = "none"
prefix = "ROOT/prefix"

[comfyui]
repo = "https://github.com/up/ComfyUI"
ref = "v1"

[nodes.pack]
repo = "https://github.com/up/pack"
ref = "main"

[shares.models]
path = "ROOT/share/models"
mount = "models"
access = "read"

[python]
version = "MINOR"
"#;

/// A case may have a `[python]` of its own; else that of this machine.
fn with_python(toml: &str, version: &str) -> String {
    let ours = "\n[python]\nversion = \"MINOR\"\n";
    if toml.matches("[python]").count() > 1 {
        toml.replacen(ours, "", 1)
    } else {
        toml.replace("MINOR", version)
    }
}

const PLAN: &[&str] = &["plan"];
const LOCK: &[&str] = &["lock"];

/// Upstream repositories, a manifest that is right, and its lock.
struct World {
    root: PathBuf,
    lock: String,
    python: String,
    _temp: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        let core = World::upstream(&root, "ComfyUI", CORE);
        core.tag("v1");
        core.tag("v2");
        World::upstream(&root, "pack", &borrowed(&node(1)));
        let mut world = World {
            root,
            lock: String::new(),
            python: python(),
            _temp: temp,
        };
        let (exit, said) = world.run(GOOD, None, LOCK);
        assert_eq!(exit, 0, "{said}");
        world.lock = fs::read_to_string(world.dir().join("comfy.lock")).unwrap();
        world
    }

    fn upstream(root: &Path, name: &str, files: &[File]) -> Upstream {
        let up = Upstream::new(&root.join("upstream"), &format!("up/{name}"));
        up.commit(files);
        up
    }

    /// A manifest whose node has a submodule, and its lock.
    fn with_submodule(&self) -> (String, String) {
        let inner = World::upstream(&self.root, "inner", &[("a.py", b"", 0o100_644)])
            .commit(&[("a.py", b"1", 0o100_644)]);
        let modules = b"[submodule \"sub\"]\n\tpath = sub\n\turl = ../inner\n";
        World::upstream(
            &self.root,
            "outer",
            &[
                ("__init__.py", b"", 0o100_644),
                (".gitmodules", modules, 0o100_644),
                ("sub", inner.as_bytes(), 0o160_000),
            ],
        );
        let toml = GOOD.replace("up/pack", "up/outer");
        let (exit, said) = self.run(&toml, None, LOCK);
        assert_eq!(exit, 0, "{said}");
        (
            toml,
            fs::read_to_string(self.dir().join("comfy.lock")).unwrap(),
        )
    }

    fn dir(&self) -> PathBuf {
        self.root.join("project")
    }

    /// Everything that comfy might change: the project, the prefix, the shares.
    fn state(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut out = BTreeMap::new();
        let mut todo: Vec<PathBuf> = ["project", "prefix", "share", "view"]
            .map(|d| self.root.join(d))
            .into();
        while let Some(path) = todo.pop() {
            let Ok(meta) = path.symlink_metadata() else {
                continue;
            };
            let mut what = format!("{:o} ", meta.permissions().mode()).into_bytes();
            if meta.is_dir() {
                todo.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
            } else if meta.is_file() {
                what.extend(fs::read(&path).unwrap());
            }
            out.insert(path, what);
        }
        out
    }

    /// `comfy ARGS` on this comfy.toml and comfy.lock: exit code and stderr. A failure has changed
    /// nothing.
    fn run(&self, toml: impl AsRef<[u8]>, lock: Option<&[u8]>, args: &[&str]) -> (i32, String) {
        for d in ["project", "prefix", "share", "view"] {
            // Absent after a case that made none.
            let at = self.root.join(d);
            let _ = fs::remove_dir_all(&at).or_else(|_| fs::remove_file(&at));
        }
        let dir = self.dir();
        fs::create_dir(&dir).unwrap();
        let place = |name: &str, bytes: &[u8]| {
            let at = dir.join(name);
            let root = self.root.display().to_string();
            // Bytes that are no text must arrive as they are.
            let bytes = std::str::from_utf8(bytes).map_or(bytes.to_vec(), |t| {
                with_python(t, &self.python)
                    .replace("ROOT", &root)
                    .into_bytes()
            });
            fs::write(&at, bytes).unwrap();
            fs::set_permissions(&at, fs::Permissions::from_mode(0o644)).unwrap();
        };
        place("comfy.toml", toml.as_ref());
        if let Some(lock) = lock {
            place("comfy.lock", lock);
        }
        self.again(args)
    }

    /// As [`World::run`], on the folder as it is.
    fn again(&self, args: &[&str]) -> (i32, String) {
        let args: Vec<String> = args
            .iter()
            .map(|a| a.replace("ROOT", &self.root.display().to_string()))
            .collect();
        let before = self.state();
        let mut c = command(&self.root);
        c.current_dir(&self.root)
            .args(["-q", "-C", "project"])
            .args(&args)
            .stdin(Stdio::null());
        let mut output = c.output().unwrap();
        let exit = output.status.code().unwrap_or(-1);
        if exit != 0 {
            assert_eq!(
                self.state(),
                before,
                "{args:?} failed and changed something"
            );
        }
        output.stdout.clear();
        (exit, redacted(&text(&output, &self.root)))
    }

    /// One row of a snapshot; the case must fail.
    fn case(
        &self,
        name: &str,
        toml: impl AsRef<[u8]>,
        lock: Option<&[u8]>,
        args: &[&str],
    ) -> String {
        let (exit, said) = self.run(toml, lock, args);
        assert_eq!(exit, 1, "{name}: exit {exit}\n{said}");
        self.row(name, exit, &said)
    }

    /// GOOD with something replaced, or added at its end; `comfy plan` on it, with a lock that is
    /// right.
    fn toml(&self, edits: &[(&str, &str, &str)]) -> String {
        edits
            .iter()
            .map(|(name, from, to)| {
                self.case(name, edited(from, to), Some(self.lock.as_bytes()), PLAN)
            })
            .collect()
    }

    fn row(&self, name: &str, exit: i32, said: &str) -> String {
        let mut out = format!("{name}: exit {exit}\n");
        for line in said.lines() {
            out += format!("  {line}").trim_end();
            out += "\n";
            if let Some(there) = self.pointed(line) {
                out += &format!("      > {there}\n");
            }
        }
        out + "\n"
    }

    /// What stands at the place that the message names.
    fn pointed(&self, line: &str) -> Option<String> {
        let at = line.strip_prefix("error: comfy.")?;
        let mut parts = at.splitn(4, ':');
        let file = format!("comfy.{}", parts.next()?);
        let (row, column): (usize, usize) =
            (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let bytes = fs::read(self.dir().join(file)).ok()?;
        let whole = String::from_utf8_lossy(&bytes).into_owned();
        let line = whole
            .lines()
            .nth(row - 1)
            .unwrap_or_default()
            .replace(&self.root.display().to_string(), "ROOT");
        // The column was counted with the real path before it, which is never on the same line
        // before a mistake.
        let there: String = line
            .chars()
            .skip(column - 1)
            .take(90)
            .flat_map(|c| {
                if c.is_control() {
                    c.escape_unicode().collect()
                } else {
                    vec![c]
                }
            })
            .collect();
        Some(if there.is_empty() {
            "(the line ends here)".into()
        } else {
            redacted(&there)
        })
    }
}

fn edited(from: &str, to: &str) -> String {
    if from.is_empty() {
        return format!("{GOOD}{to}\n");
    }
    assert!(GOOD.contains(from), "{from}");
    GOOD.replacen(from, to, 1)
}

#[test]
fn syntax_and_types() {
    let w = World::new();
    let lock = Some(w.lock.as_bytes());
    let mut s = w.toml(&[
        ("a bracket is not closed", "[comfyui]", "[comfyui"),
        ("a string is not closed", "ref = \"v1\"", "ref = \"v1"),
        ("a key twice", "ref = \"v1\"", "ref = \"v1\"\nref = \"v2\""),
        ("a section twice", "", "[nodes.pack]\nref = \"main\""),
        ("no quotes", "ref = \"v1\"", "ref = v1"),
        (
            "a merge was left",
            "ref = \"v1\"",
            "<<<<<<< HEAD\nref = \"v1\"\n=======\nref = \"v2\"\n>>>>>>> theirs",
        ),
        ("a number where text belongs", "ref = \"v1\"", "ref = 1"),
        (
            "text where a number belongs",
            "ref = \"v1\"",
            "ref = \"v1\"\nport = \"8188\"",
        ),
        (
            "text where a list belongs",
            "ref = \"v1\"",
            "ref = \"v1\"\nargs = \"--lowvram\"",
        ),
        (
            "text where yes or no belongs",
            "ref = \"main\"",
            "ref = \"main\"\nenabled = \"no\"",
        ),
        (
            "a number in a list of texts",
            "ref = \"v1\"",
            "ref = \"v1\"\nargs = [\"--reserve-vram\", 2]",
        ),
        (
            "models are declared in two forms, one of them wrong",
            "",
            "[\"\\u006dodels\".\"a.bin\"]\nsha256 = \"bad\"\n[models.\"b.bin\"]\n",
        ),
        (
            "a hard space behind a section",
            "",
            "[models.\"b.bin\"]\u{a0}\n",
        ),
        (
            "a number where a model's source belongs",
            "",
            "[models.\"a.bin\"]\nsource = 12\n",
        ),
        (
            "a key where a section belongs",
            "[host]",
            "nodes = \"pack\"\n[host]",
        ),
        (
            "a list of sections where one belongs",
            "[comfyui]",
            "[[comfyui]]",
        ),
        (
            "a number that is too large",
            "ref = \"v1\"",
            "ref = \"v1\"\nport = 99999999999999999999",
        ),
        ("a value is missing", "access = \"read\"", "access ="),
        ("JSON's colon", "access = \"read\"", "access: \"read\""),
        ("no version", "version = 1\n", "\n"),
        ("a newer version", "version = 1", "version = 2"),
        ("a version in quotes", "version = 1", "version = \"1\""),
        ("version 0", "version = 1", "version = 0"),
    ]);
    let many: String = (0..150)
        .map(|i| format!("[models.\"{i:03}.bin\"]\nshare = \"nowhere\"\n"))
        .collect();
    let all = w.toml(&[("more mistakes than anybody reads", "", &many)]);
    s += &format!(
        "{}    …\n{}\n",
        all.lines()
            .take(5)
            .map(|l| format!("{l}\n"))
            .collect::<String>(),
        all.trim_end().lines().last().unwrap()
    );
    s += &w.case("an empty file", "", lock, PLAN);
    s += &w.case(
        "nested without end",
        format!("x = {}", "[".repeat(100_000)),
        lock,
        PLAN,
    );
    s += &w.case("a NUL", "version = 1\n\0", lock, PLAN);
    s += &w.case("Latin-1", b"version = 1\n# caf\xe9\n", lock, PLAN);
    s += &w.case("UTF-16", b"\xff\xfev\0e\0r\0", lock, PLAN);
    s += &w.case(
        "no [comfyui]",
        "version = 1\n[host]\nisolation = \"none\"\n",
        lock,
        PLAN,
    );
    insta::assert_snapshot!(s, @r#"
    a bracket is not closed: exit 1
      error: comfy.toml:7:9: unclosed table, expected `]`
          > (the line ends here)

    a string is not closed: exit 1
      error: comfy.toml:9:10: invalid basic string, expected `"`
          > (the line ends here)

    a key twice: exit 1
      error: comfy.toml:10:1: duplicate key
          > ref = "v2"

    a section twice: exit 1
      error: comfy.toml:22:8: duplicate key
          > pack]

    no quotes: exit 1
      error: comfy.toml:9:7: string values must be quoted, expected literal string
          > v1

    a merge was left: exit 1
      error: comfy.toml:9:1: the file contains an unresolved merge conflict
          > <<<<<<< HEAD
        hint: keep one side of each conflict and remove the lines with <<<<<<<, ======= and >>>>>>>

    a number where text belongs: exit 1
      error: comfy.toml:9:7: expected text in quotation marks, found 1
          > 1
        hint: write "1"

    text where a number belongs: exit 1
      error: comfy.toml:10:8: expected a whole number, found "8188"
          > "8188"
        hint: write 8188

    text where a list belongs: exit 1
      error: comfy.toml:10:8: expected a list, found "--lowvram"
          > "--lowvram"
        hint: write ["--lowvram"]

    text where yes or no belongs: exit 1
      error: comfy.toml:14:11: expected true or false, found "no"
          > "no"

    a number in a list of texts: exit 1
      error: comfy.toml:10:27: expected text in quotation marks, found 2
          > 2]
        hint: write "2"

    models are declared in two forms, one of them wrong: exit 1
      error: comfy.toml:23:1: sha256 is not 64 lower-case hexadecimal digits
          > sha256 = "bad"
        hint: remove it and `comfy lock` finds it

    a hard space behind a section: exit 1
      error: comfy.toml:22:17: unexpected key or value, expected newline, `#`
          >  

    a number where a model's source belongs: exit 1
      error: comfy.toml:23:10: expected text in quotation marks, found 12
          > 12
        hint: write "12"

    a key where a section belongs: exit 1
      error: comfy.toml:12:2: cannot extend value of type string with a dotted key
          > nodes.pack]

    a list of sections where one belongs: exit 1
      error: comfy.toml:7:1: expected text in quotation marks, found a table
          > [[comfyui]]

    a number that is too large: exit 1
      error: comfy.toml:10:8: 99999999999999999999 is too large
          > 99999999999999999999

    a value is missing: exit 1
      error: comfy.toml:18:9: string values must be quoted, expected literal string
          > (the line ends here)

    JSON's colon: exit 1
      error: comfy.toml:18:9: key with no value, expected `=`
          > "read"

    no version: exit 1
      error: comfy.toml:1:1: `version` is missing
          > (the line ends here)
        hint: write `version = 1` as the first line

    a newer version: exit 1
      error: comfy.toml:1:1: version 2 is newer than this comfy supports (1)
          > version = 2
        hint: install a newer comfy

    a version in quotes: exit 1
      error: comfy.toml:1:11: expected a whole number, found "1"
          > "1"
        hint: write 1

    version 0: exit 1
      error: comfy.toml:1:1: version 0 is unknown
          > version = 0
        hint: write `version = 1`

    more mistakes than anybody reads: exit 1
      error: comfy.toml:23:1: model "000.bin" is in share "nowhere", which is not declared
          > share = "nowhere"
      error: comfy.toml:25:1: model "001.bin" is in share "nowhere", which is not declared
          > share = "nowhere"
        …
      error: and 50 more
    an empty file: exit 1
      error: comfy.toml:1:1: `version` is missing
          > (the line ends here)
        hint: write `version = 1` as the first line
      error: comfy.toml:1:1: there is no [comfyui] section
          > (the line ends here)
        hint: add `[comfyui]` with `ref = "v0.3.64"`, or run `comfy init`

    nested without end: exit 1
      error: comfy.toml:1:85: cannot recurse further; max recursion depth met
          > [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[

    a NUL: exit 1
      error: comfy.toml:2:2: key with no value, expected `=`
          > (the line ends here)

    Latin-1: exit 1
      error: could not read ROOT/project/comfy.toml: stream did not contain valid UTF-8

    UTF-16: exit 1
      error: could not read ROOT/project/comfy.toml: stream did not contain valid UTF-8

    no [comfyui]: exit 1
      error: comfy.toml:1:1: there is no [comfyui] section
          > version = 1
        hint: add `[comfyui]` with `ref = "v0.3.64"`, or run `comfy init`
    "#);
}

#[test]
fn unknown_keys() {
    let w = World::new();
    let s = w.toml(&[
        ("a letter is missing", "access = ", "acess = "),
        ("a plural", "[nodes.pack]", "[node.pack]"),
        (
            "upper case",
            "repo = \"https://github.com/up/pack\"",
            "Repo = \
            \"https://github.com/up/pack\"",
        ),
        ("a word of another section", "isolation = ", "sandbox = "),
        ("another tool's word", "ref = \"v1\"", "branch = \"v1\""),
        (
            "two letters swapped",
            "ref = \"v1\"",
            "ref = \"v1\"\nprot = 8188",
        ),
        (
            "in an inline table",
            "",
            "[models]\n\"a.bin\" = { share = \"models\", sha265 = \"\" }",
        ),
        (
            "an index",
            "",
            "[python]\nindexes = \
            [{ name = \"cu\", url = \"https://x.test/\", package = [\"torch\"] }]",
        ),
        (
            "an accepted finding without its reason",
            "",
            "[policy]\naccept = \
            [{ node = \"pack\", rule = \"r\", path = \"p\" }]",
        ),
        ("far from every key", "", "[colours]\nred = 1"),
        (
            "in [hosts.NAME]",
            "",
            "[hosts.macbook]\nshares.models.pth = \"/x\"",
        ),
        (
            "a key that a machine may not change",
            "",
            "[hosts.macbook]\nnodes.pack.ref = \"v2\"",
        ),
        (
            "a key of comfyui that a machine may not change",
            "",
            "[hosts.macbook]\ncomfyui.ref = \
            \"v2\"",
        ),
    ]);
    insta::assert_snapshot!(s, @r#"
    a letter is missing: exit 1
      error: comfy.toml:18:1: unknown key `acess`
          > acess = "read"
        hint: did you mean `access`?

    a plural: exit 1
      error: comfy.toml:11:2: unknown key `node`
          > node.pack]
        hint: did you mean `nodes`?

    upper case: exit 1
      error: comfy.toml:12:1: unknown key `Repo`
          > Repo = "https://github.com/up/pack"
        hint: did you mean `repo`?

    a word of another section: exit 1
      error: comfy.toml:4:1: unknown key `sandbox`
          > sandbox = "none"
        hint: known here: primary_user, sandbox_user, group, gid, adopt, isolation, prefix, accelerator

    another tool's word: exit 1
      error: comfy.toml:9:1: unknown key `branch`
          > branch = "v1"
        hint: known here: repo, ref, view, listen, allow_remote, port, args, writable

    two letters swapped: exit 1
      error: comfy.toml:10:1: unknown key `prot`
          > prot = 8188
        hint: did you mean `port`?

    in an inline table: exit 1
      error: comfy.toml:23:31: unknown key `sha265`
          > sha265 = "" }
        hint: did you mean `sha256`?

    an index: exit 1
      error: comfy.toml:20:52: unknown key `package`
          > package = ["torch"] }]
        hint: did you mean `packages`?

    an accepted finding without its reason: exit 1
      error: comfy.toml:23:11: missing field `reason`
          > { node = "pack", rule = "r", path = "p" }]

    far from every key: exit 1
      error: comfy.toml:22:2: unknown key `colours`
          > colours]
        hint: known here: version, host, comfyui, python, nodes, models, shares, run, network, policy, hosts

    in [hosts.NAME]: exit 1
      error: comfy.toml:23:15: unknown key `pth`
          > pth = "/x"
        hint: did you mean `path`?

    a key that a machine may not change: exit 1
      error: comfy.toml:23:1: unknown key `nodes`
          > nodes.pack.ref = "v2"
        hint: known here: host, comfyui, shares, run

    a key of comfyui that a machine may not change: exit 1
      error: comfy.toml:23:9: unknown key `ref`
          > ref = "v2"
        hint: known here: view, port
    "#);
}

#[test]
fn names() {
    let w = World::new();
    let node = |name: &str| {
        format!("[nodes.{name}]\nrepo = \"https://github.com/up/other\"\nref = \"main\"")
    };
    let long = format!("\"{}\"", "n".repeat(65));
    let s = w.toml(&[
        ("a node leads out", "", &node("\"../evil\"")),
        ("a node with a slash", "", &node("\"a/b\"")),
        ("an empty node", "", &node("\"\"")),
        ("a hidden node", "", &node("\".git\"")),
        ("a node like an option", "", &node("\"-rf\"")),
        ("a node with a space", "", &node("\"my node\"")),
        (
            "a node that steers the terminal",
            "",
            &node("\"a\\u001b[2Jb\""),
        ),
        ("a node of 65 letters", "", &node(&long)),
        ("a name that ComfyUI skips", "", &node("\"pack.disabled\"")),
        ("Python's cache as a node", "", &node("__pycache__")),
        ("nodes that differ by case", "", &node("Pack")),
        (
            "shares that differ by case",
            "",
            "[shares.Models]\npath = \"/srv/m\"\nmount = \"input\"",
        ),
        (
            "a user with a capital",
            "[host]",
            "[host]\nsandbox_user = \"Comfy\"",
        ),
        (
            "a user with a colon",
            "[host]",
            "[host]\nsandbox_user = \"comfy:x\"",
        ),
        (
            "root as the sandbox",
            "[host]",
            "[host]\nsandbox_user = \"root\"",
        ),
        (
            "root as the primary user",
            "isolation = \"none\"",
            "primary_user = \"root\"",
        ),
        (
            "the sandbox in group docker",
            "[host]",
            "[host]\ngroup = \"docker\"",
        ),
        (
            "group and user of one name",
            "[host]",
            "[host]\ngroup = \"comfyui_sandbox\"",
        ),
        (
            "one account for both",
            "[host]",
            "[host]\nprimary_user = \"me\"\nsandbox_user = \"me\"",
        ),
        ("a gid of the system", "[host]", "[host]\ngid = 0"),
        (
            "an account that is not there",
            "[host]",
            "[host]\nprimary_user = \"nosuchuser_x\"",
        ),
        (
            "the same repository twice",
            "",
            "[nodes.again]\nrepo = \"https://github.com/UP/Pack.git\"\nref = \"main\"",
        ),
        (
            "ComfyUI as a node",
            "",
            "[nodes.core]\nrepo = \"https://github.com/up/ComfyUI\"\nref = \"v1\"",
        ),
        (
            "a node without repo",
            "repo = \"https://github.com/up/pack\"\n",
            "",
        ),
        ("an empty section of a node", "", "[nodes.other]"),
    ]);
    insta::assert_snapshot!(s, @r#"
    a node leads out: exit 1
      error: comfy.toml:22:8: node name "../evil" must not start with `-` or `.`
          > "../evil"]
        hint: choose another name

    a node with a slash: exit 1
      error: comfy.toml:22:8: node name "a/b" may contain only letters, digits, `.`, `_` and `-`
          > "a/b"]
        hint: choose another name

    an empty node: exit 1
      error: comfy.toml:22:8: node name "" must have 1 to 64 characters
          > ""]
        hint: choose another name

    a hidden node: exit 1
      error: comfy.toml:22:8: node name ".git" must not start with `-` or `.`
          > ".git"]
        hint: choose another name

    a node like an option: exit 1
      error: comfy.toml:22:8: node name "-rf" must not start with `-` or `.`
          > "-rf"]
        hint: choose another name

    a node with a space: exit 1
      error: comfy.toml:22:8: node name "my node" may contain only letters, digits, `.`, `_` and `-`
          > "my node"]
        hint: choose another name

    a node that steers the terminal: exit 1
      error: comfy.toml:22:8: node name "a\u{1b}[2Jb" may contain only letters, digits, `.`, `_` and `-`
          > "a\u001b[2Jb"]
        hint: choose another name

    a node of 65 letters: exit 1
      error: comfy.toml:22:8: node name "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn" must have 1 to 64 characters
          > "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"]
        hint: choose another name

    a name that ComfyUI skips: exit 1
      error: comfy.toml:22:8: node name "pack.disabled" has a special meaning in ComfyUI
          > "pack.disabled"]
        hint: choose another name

    Python's cache as a node: exit 1
      error: comfy.toml:22:8: node name "__pycache__" has a special meaning in ComfyUI
          > __pycache__]
        hint: choose another name

    nodes that differ by case: exit 1
      error: comfy.toml:11:8: `Pack` and `pack` are the same name on a Mac's disk
          > pack]
        hint: rename one of them

    shares that differ by case: exit 1
      error: comfy.toml:15:9: `Models` and `models` are the same name on a Mac's disk
          > models]
        hint: rename one of them

    a user with a capital: exit 1
      error: comfy.toml:4:1: sandbox_user "Comfy" must start with a lower-case letter or `_`
          > sandbox_user = "Comfy"
        hint: choose another name

    a user with a colon: exit 1
      error: comfy.toml:4:1: sandbox_user "comfy:x" may contain only lower-case letters, digits, `_` and `-`
          > sandbox_user = "comfy:x"
        hint: choose another name

    root as the sandbox: exit 1
      error: comfy.toml:4:1: sandbox_user "root" is a system account
          > sandbox_user = "root"
        hint: choose a separate account, such as comfyui_sandbox

    root as the primary user: exit 1
      error: comfy.toml:4:1: primary_user is root, and no other account can be kept from root's files
          > primary_user = "root"
        hint: write the account of the person who uses ComfyUI; on a machine that has none, such as a container, add `isolation = "none"` to [host]

    the sandbox in group docker: exit 1
      error: comfy.toml:4:1: group "docker" grants rights, which the sandbox would get
          > group = "docker"
        hint: choose a separate group, such as comfyshared

    group and user of one name: exit 1
      error: comfy.toml:4:1: group and sandbox_user have the same name, which the sandbox user's own group already has
          > group = "comfyui_sandbox"
        hint: choose another name for the group

    one account for both: exit 1
      error: comfy.toml:5:1: sandbox_user and primary_user are the same account
          > sandbox_user = "me"
        hint: isolation needs two accounts; to do without, write `isolation = "none"`

    a gid of the system: exit 1
      error: comfy.toml:4:1: gid 0 is not between 100 and 2000000000
          > gid = 0
        hint: remove it and comfy chooses a free one

    an account that is not there: exit 1
      error: host.primary_user: account nosuchuser_x does not exist
        hint: name the account of the person who uses ComfyUI

    the same repository twice: exit 1
      error: comfy.toml:12:1: nodes `again` and `pack` are the same repository
          > repo = "https://github.com/up/pack"
        hint: remove one of them: ComfyUI would load its classes twice

    ComfyUI as a node: exit 1
      error: comfy.toml:23:1: node `core` is ComfyUI itself
          > repo = "https://github.com/up/ComfyUI"
        hint: declare ComfyUI in [comfyui]

    a node without repo: exit 1
      error: comfy.toml:11:8: [nodes.pack] does not set `repo`
          > pack]
        hint: add `repo = "https://github.com/OWNER/NAME"`

    an empty section of a node: exit 1
      error: comfy.toml:22:8: [nodes.other] does not set `repo`
          > other]
        hint: add `repo = "https://github.com/OWNER/NAME"`
    "#);
}

#[test]
fn paths_and_mounts() {
    let w = World::new();
    let path = |p: &str| format!("path = \"{p}\"");
    let mount = |m: &str| format!("mount = \"{m}\"");
    let second = |path: &str, mount: &str| {
        format!("[shares.second]\npath = \"{path}\"\nmount = \"{mount}\"")
    };
    let (p, m) = ("path = \"ROOT/share/models\"", "mount = \"models\"");
    let s = w.toml(&[
        ("the root folder", p, &path("/")),
        ("a home", p, &path("~")),
        ("an empty path", p, &path("")),
        ("no path", &format!("{p}\n"), ""),
        ("a relative path", p, &path("models")),
        ("another user's home", p, &path("~bob/models")),
        ("up and away", p, &path("ROOT/share/../../etc")),
        ("a dot", p, &path("ROOT/./share")),
        ("two slashes", p, &path("ROOT//share")),
        ("a line end in a path", p, &path("ROOT/a\\nb")),
        ("a folder of the system", p, &path("/usr/lib")),
        ("a folder that others use", p, &path("/opt")),
        ("the prefix", p, &path("ROOT/prefix")),
        (
            "inside the prefix",
            p,
            &path("ROOT/prefix/comfyui_sandbox/state"),
        ),
        ("the manifest's repository", p, &path("ROOT/project/models")),
        (
            "a share in a share",
            "",
            &second("ROOT/share/models/loras", "input"),
        ),
        ("a share twice", "", &second("ROOT/share/models", "input")),
        (
            "a slash at the end hides nothing",
            "",
            &second("ROOT/share/models/", "input"),
        ),
        (
            "a relative prefix",
            "prefix = \"ROOT/prefix\"",
            "prefix = \"prefix\"",
        ),
        (
            "the root folder as prefix",
            "prefix = \"ROOT/prefix\"",
            "prefix = \"/\"",
        ),
        (
            "a view in a share",
            "ref = \"v1\"",
            "ref = \"v1\"\nview = \"ROOT/share/models/code\"",
        ),
        (
            "a view around the prefix",
            "ref = \"v1\"",
            "ref = \"v1\"\nview = \"ROOT/prefix\"",
        ),
        ("no mount", &format!("{m}\n"), ""),
        ("a mount over the nodes", m, &mount("custom_nodes")),
        ("a mount over the code", m, &mount("comfy")),
        ("a mount over all of user", m, &mount("user")),
        ("a mount below output", m, &mount("output/today")),
        (
            "a mount over ComfyUI's configs",
            m,
            &mount("models/configs"),
        ),
        (
            "a mount that leads out",
            m,
            &mount("models/../custom_nodes"),
        ),
        ("an absolute mount", m, &mount("/models")),
        ("a mount with a slash at its end", m, &mount("models/")),
        (
            "a mount and kinds of models",
            m,
            &format!("{m}\nmodels = {{ loras = \"x\" }}"),
        ),
        ("no kind of models", m, "models = {}"),
        (
            "nodes as a kind of models",
            m,
            "models = { custom_nodes = \"nodes\" }",
        ),
        (
            "a word of the file of model paths",
            m,
            "models = { base_path = \"x\", is_default = \"y\" }",
        ),
        (
            "a kind that is no word",
            m,
            "models = { \"Loras and more\" = \"x\" }",
        ),
        (
            "a folder that leads out of the share",
            m,
            "models = { loras = [\"ok\", \"../../home\"] }",
        ),
        ("a folder elsewhere", m, "models = { vae = \"/etc\" }"),
        ("a kind without a folder", m, "models = { loras = [] }"),
        ("a folder that is a number", m, "models = { loras = 3 }"),
        (
            "a mount in a mount",
            "",
            &second("/srv/x/loras", "models/loras"),
        ),
        ("one mount twice", "", &second("/srv/x/two", "models")),
        (
            "an access that is unknown",
            "access = \"read\"",
            "access = \"raed\"",
        ),
        (
            "an access of another tool",
            "access = \"read\"",
            "access = \"rw\"",
        ),
        (
            "a volume that is no path",
            "access = \"read\"",
            "access = \"read\"\nrequires_mount = \"Volumes/ai\"",
        ),
        (
            "a writable path that leads out",
            "ref = \"main\"",
            "ref = \"main\"\nwritable = [\"data\", \"../x\"]",
        ),
        (
            "a writable program",
            "ref = \"main\"",
            "ref = \"main\"\nwritable = [\"__init__.py\"]",
        ),
        (
            "code of ComfyUI's own, writable",
            "[comfyui]",
            "[comfyui]\nwritable = [\"comfy/ldm\"]",
        ),
        (
            "writable in writable",
            "ref = \"main\"",
            "ref = \"main\"\nwritable = [\"data\", \"data/a\"]",
        ),
    ]);
    // In a folder of its own: ROOT is above the home too, which decides for a uid without an account.
    let around = GOOD
        .replace("ROOT/prefix", "ROOT/around/prefix")
        .replace("ROOT/share/models", "ROOT/around");
    let s = s + &w.case("around the prefix", around, Some(w.lock.as_bytes()), PLAN);
    insta::assert_snapshot!(s, @r#"
    the root folder: exit 1
      error: comfy.toml:16:1: path "/" is the whole disk
          > path = "/"
        hint: write a separate folder

    a home: exit 1
      error: comfy.toml:16:1: path "~" is not a path that comfy manages
          > path = "~"
        hint: write a separate folder

    an empty path: exit 1
      error: comfy.toml:15:9: [shares.models] does not set `path`
          > models]
        hint: add `path = "~/ai/models"`

    no path: exit 1
      error: comfy.toml:15:9: [shares.models] does not set `path`
          > models]
        hint: add `path = "~/ai/models"`

    a relative path: exit 1
      error: comfy.toml:16:1: path "models" is not a path that comfy manages
          > path = "models"
        hint: write an absolute path, or one that starts with ~/

    another user's home: exit 1
      error: comfy.toml:16:1: path "~bob/models" is not a path that comfy manages
          > path = "~bob/models"
        hint: write an absolute path, or one that starts with ~/

    up and away: exit 1
      error: comfy.toml:16:1: path "ROOT/share/../../etc" must not contain `.` or `..`
          > path = "ROOT/share/../../etc"
        hint: write the path in full, without `.` and `..`

    a dot: exit 1
      error: comfy.toml:16:1: path "ROOT/./share" must not contain `.` or `..`
          > path = "ROOT/./share"
        hint: write the path in full, without `.` and `..`

    two slashes: exit 1
      error: comfy.toml:16:1: path "ROOT//share" has one `/` too many
          > path = "ROOT//share"
        hint: write the path in full, without `.` and `..`

    a line end in a path: exit 1
      error: comfy.toml:16:1: path "ROOT/a\u{a}b" has a control character
          > path = "ROOT/a\nb"
        hint: write the path in full, without `.` and `..`

    a folder of the system: exit 1
      error: comfy.toml:16:1: share models: /usr/lib belongs to the system
          > path = "/usr/lib"
        hint: share a folder of its own

    a folder that others use: exit 1
      error: comfy.toml:16:1: share models: /opt belongs to the system
          > path = "/opt"
        hint: share a folder of its own

    the prefix: exit 1
      error: comfy.toml:16:1: share models: ROOT/prefix overlaps comfy's own folder (ROOT/prefix)
          > path = "ROOT/prefix"
        hint: neither may be inside the other; move one of them

    inside the prefix: exit 1
      error: comfy.toml:16:1: share models: ROOT/prefix/comfyui_sandbox/state overlaps comfy's own folder (ROOT/prefix)
          > path = "ROOT/prefix/comfyui_sandbox/state"
        hint: neither may be inside the other; move one of them

    the manifest's repository: exit 1
      error: comfy.toml:16:1: share models: ROOT/project/models overlaps the folder of comfy.toml (ROOT/project)
          > path = "ROOT/project/models"
        hint: neither may be inside the other; move one of them

    a share in a share: exit 1
      error: comfy.toml:23:1: share second: ROOT/share/models/loras overlaps share models (ROOT/share/models)
          > path = "ROOT/share/models/loras"
        hint: neither may be inside the other; move one of them

    a share twice: exit 1
      error: comfy.toml:23:1: share second: ROOT/share/models overlaps share models (ROOT/share/models)
          > path = "ROOT/share/models"
        hint: neither may be inside the other; move one of them

    a slash at the end hides nothing: exit 1
      error: comfy.toml:23:1: share second: ROOT/share/models overlaps share models (ROOT/share/models)
          > path = "ROOT/share/models/"
        hint: neither may be inside the other; move one of them

    a relative prefix: exit 1
      error: comfy.toml:5:1: prefix "prefix" is not a path that comfy manages
          > prefix = "prefix"
        hint: write an absolute path, or one that starts with ~/

    the root folder as prefix: exit 1
      error: comfy.toml:5:1: prefix "/" is the whole disk
          > prefix = "/"
        hint: write a separate folder

    a view in a share: exit 1
      error: comfy.toml:10:1: view ROOT/share/models/code overlaps share models (ROOT/share/models)
          > view = "ROOT/share/models/code"
        hint: put the link where nothing else is

    a view around the prefix: exit 1
      error: comfy.toml:10:1: view ROOT/prefix overlaps comfy's own folder (ROOT/prefix)
          > view = "ROOT/prefix"
        hint: put the link where nothing else is

    no mount: exit 1
      error: comfy.toml:15:9: [shares.models] does not set `mount`
          > models]
        hint: add `mount = "models"`, input, output, or user/…; or, for models stored elsewhere, `models = { loras = "FOLDER" }`

    a mount over the nodes: exit 1
      error: comfy.toml:17:1: mount "custom_nodes" is not a place for a share
          > mount = "custom_nodes"
        hint: only models, models/…, input, output and user/… can be mounted

    a mount over the code: exit 1
      error: comfy.toml:17:1: mount "comfy" is not a place for a share
          > mount = "comfy"
        hint: only models, models/…, input, output and user/… can be mounted

    a mount over all of user: exit 1
      error: comfy.toml:17:1: mount "user" is not a place for a share
          > mount = "user"
        hint: only models, models/…, input, output and user/… can be mounted

    a mount below output: exit 1
      error: comfy.toml:17:1: mount "output/today" is not a place for a share
          > mount = "output/today"
        hint: only models, models/…, input, output and user/… can be mounted

    a mount over ComfyUI's configs: exit 1
      error: comfy.toml:17:1: models/configs is part of ComfyUI itself
          > mount = "models/configs"
        hint: mount elsewhere below models/

    a mount that leads out: exit 1
      error: comfy.toml:17:1: mount "models/../custom_nodes" must not contain `.` or `..`
          > mount = "models/../custom_nodes"
        hint: write models, input, output, or a folder below models/ or user/

    an absolute mount: exit 1
      error: comfy.toml:17:1: mount "/models" must be relative
          > mount = "/models"
        hint: write models, input, output, or a folder below models/ or user/

    a mount with a slash at its end: exit 1
      error: comfy.toml:17:1: mount "models/" has one `/` too many
          > mount = "models/"
        hint: write models, input, output, or a folder below models/ or user/

    a mount and kinds of models: exit 1
      error: comfy.toml:18:1: share `models` has both `mount` and `models`
          > models = { loras = "x" }
        hint: keep `mount` for ComfyUI's own folders, or `models` for another program's

    no kind of models: exit 1
      error: comfy.toml:17:1: `models` lists no kind of model
          > models = {}
        hint: write `models = { checkpoints = "FOLDER", loras = "FOLDER" }`

    nodes as a kind of models: exit 1
      error: comfy.toml:17:12: kind `custom_nodes` is code, not models
          > custom_nodes = "nodes" }
        hint: nodes are locked: declare them in [nodes.NAME]

    a word of the file of model paths: exit 1
      error: comfy.toml:17:12: kind `base_path` has a special meaning in ComfyUI's extra_model_paths.yaml
          > base_path = "x", is_default = "y" }
        hint: folders are already relative to `path`
      error: comfy.toml:17:29: kind `is_default` has a special meaning in ComfyUI's extra_model_paths.yaml
          > is_default = "y" }
        hint: ComfyUI's own folders always come first

    a kind that is no word: exit 1
      error: comfy.toml:17:12: kind "Loras and more" may contain only lower-case letters, digits, `_` and `-`
          > "Loras and more" = "x" }
        hint: ComfyUI's own kinds are checkpoints, loras, vae, embeddings, controlnet, upscale_models and more; nodes add others

    a folder that leads out of the share: exit 1
      error: comfy.toml:17:27: folder "../../home" of kind `loras` must not contain `.` or `..`
          > "../../home"] }
        hint: write its path in the share, or "." for the share itself

    a folder elsewhere: exit 1
      error: comfy.toml:17:12: folder "/etc" of kind `vae` must be relative
          > vae = "/etc" }
        hint: write its path in the share, or "." for the share itself

    a kind without a folder: exit 1
      error: comfy.toml:17:12: kind `loras` has no folder
          > loras = [] }
        hint: add a folder, or remove the kind

    a folder that is a number: exit 1
      error: comfy.toml:17:20: must be a string, or a list of strings
          > 3 }

    a mount in a mount: exit 1
      error: comfy.toml:24:1: mounts of shares `models` (models) and `second` (models/loras) overlap
          > mount = "models/loras"
        hint: mount each at a different place

    one mount twice: exit 1
      error: comfy.toml:24:1: mounts of shares `models` (models) and `second` (models) overlap
          > mount = "models"
        hint: mount each at a different place

    an access that is unknown: exit 1
      error: comfy.toml:18:1: access "raed" is unknown
          > access = "raed"
        hint: did you mean "read"?

    an access of another tool: exit 1
      error: comfy.toml:18:1: access "rw" is unknown
          > access = "rw"
        hint: known: read, write, add

    a volume that is no path: exit 1
      error: comfy.toml:19:1: requires_mount "Volumes/ai" is not an absolute path
          > requires_mount = "Volumes/ai"
        hint: write the volume's mount point, such as "/Volumes/ai"

    a writable path that leads out: exit 1
      error: comfy.toml:14:21: writable "../x" must not contain `.` or `..`
          > "../x"]
        hint: write a file or folder inside the node

    a writable program: exit 1
      error: comfy.toml:14:13: writable "__init__.py" is code
          > "__init__.py"]
        hint: code stays sealed; write the data file or folder that the node writes

    code of ComfyUI's own, writable: exit 1
      error: comfy.toml:8:13: writable "comfy/ldm" is among ComfyUI's code
          > "comfy/ldm"]
        hint: nodes that put files into ComfyUI itself use web/extensions; everything else stays sealed

    writable in writable: exit 1
      error: comfy.toml:14:21: writable "data/a" is inside another writable path
          > "data/a"]
        hint: write only the outer one

    around the prefix: exit 1
      error: comfy.toml:16:1: share models: ROOT/around overlaps comfy's own folder (ROOT/around/prefix)
          > path = "ROOT/around"
        hint: neither may be inside the other; move one of them
    "#);
}

#[test]
fn values() {
    let w = World::new();
    let repo = |r: &str| format!("repo = \"{r}\"");
    let git_ref = |r: &str| format!("ref = \"{r}\"");
    let (r, v) = ("repo = \"https://github.com/up/pack\"", "ref = \"main\"");
    let comfyui = |line: &str| format!("ref = \"v1\"\n{line}");
    let model = |line: &str| format!("[models.\"a/b.safetensors\"]\n{line}");
    let s = w.toml(&[
        (
            "a prefix that sudo would read in two",
            "prefix = \"ROOT/prefix\"",
            "prefix = \"/opt/my \
            comfy\"\n[run]\npasswordless = true",
        ),
        ("ssh", r, &repo("git@github.com:up/pack.git")),
        ("plain http", r, &repo("http://github.com/up/pack")),
        ("a folder", r, &repo("file:///srv/git/pack")),
        ("a program as transport", r, &repo("ext::sh -c id")),
        ("a token", r, &repo("https://ghp_x@github.com/up/pack")),
        ("no repository", r, &repo("https://github.com/")),
        ("no owner", r, &repo("https://github.com")),
        ("a query", r, &repo("https://github.com/up/pack?x=1")),
        (
            "a page of a branch",
            r,
            &repo("https://github.com/up/pack#readme"),
        ),
        (
            "a path that leads up",
            r,
            &repo("https://github.com/../pack"),
        ),
        (
            "an option as ref",
            v,
            &git_ref("--upload-pack=touch /tmp/x"),
        ),
        ("a refspec", v, &git_ref("main:refs/heads/x")),
        ("an expression", v, &git_ref("main~1")),
        ("a shell", v, &git_ref("$(id)")),
        ("two dots", v, &git_ref("a..b")),
        ("an empty ref", v, &git_ref("")),
        (
            "open to the network",
            "ref = \"v1\"",
            &comfyui("listen = \"0.0.0.0\""),
        ),
        (
            "a name to listen on",
            "ref = \"v1\"",
            &comfyui("listen = \"comfy.local\""),
        ),
        (
            "a port of the system",
            "ref = \"v1\"",
            &comfyui("port = 80"),
        ),
        (
            "a port that is none",
            "ref = \"v1\"",
            &comfyui("port = 70000"),
        ),
        (
            "comfy's own argument",
            "ref = \"v1\"",
            &comfyui(
                "args = [\"--lowvram\", \"--listen\", \
            \"0.0.0.0\"]",
            ),
        ),
        (
            "a prefix of one, with a value",
            "ref = \"v1\"",
            &comfyui(
                "args = \
            [\"--extra-model=x.yaml\"]",
            ),
        ),
        ("PYTHONPATH", "", "[run.env]\nPYTHONPATH = \"/x\""),
        (
            "LD_PRELOAD",
            "",
            "[run]\nenv = { A = \"1\", LD_PRELOAD = \"/x.so\" }",
        ),
        ("a loader of glibc's", "", "[run.env]\nGCONV_PATH = \"/x\""),
        (
            "a folder that comfy sets",
            "",
            "[run.env]\nHF_HOME = \"/x\"",
        ),
        ("a secret", "", "[run.env]\nHF_TOKEN = \"hf_x\""),
        ("a variable with a dash", "", "[run.env]\nMY-VAR = \"1\""),
        (
            "a number as a variable",
            "",
            "[run.env]\nOMP_NUM_THREADS = 4",
        ),
        ("few open files", "", "[run]\nopen_files = 10"),
        ("a size without unit", "", "[run]\nmemory_reserve = \"4\""),
        (
            "a size of another tool",
            "",
            "[run]\nmemory_reserve = \"4G\"",
        ),
        ("a negative size", "", "[run]\nmemory_reserve = \"-4 GiB\""),
        (
            "a duration without unit",
            "",
            "[python]\nminimum_age = \"3\"",
        ),
        (
            "a duration in months",
            "",
            "[python]\nminimum_age = \"1 month\"",
        ),
        ("Python 2", "", "[python]\nversion = \"2.7\""),
        (
            "a patch version of Python",
            "",
            "[python]\nversion = \"3.12.4\"",
        ),
        ("Python as a number", "", "[python]\nversion = 3.12"),
        (
            "an option as requirement",
            "",
            "[python]\nrequirements = [\"numpy\", \"--index-url \
            https://evil.test\"]",
        ),
        (
            "an address as requirement",
            "",
            "[python]\noverrides = [\"x @ \
            git+https://evil.test/x\"]",
        ),
        (
            "an index over plain http",
            "",
            "[python]\nindexes = \
            [{ name = \"cu\", url = \"http://x.test\", packages = [\"torch\"] }]",
        ),
        (
            "an index for everything",
            "",
            "[python]\nindexes = \
            [{ name = \"cu\", url = \"https://x.test\", packages = [] }]",
        ),
        ("egress of one word", "", "[network]\negress = \"none\""),
        (
            "egress without port",
            "",
            "[network]\negress = [\"pypi.org:443\", \"huggingface.co\"]",
        ),
        (
            "egress as an address",
            "",
            "[network]\negress = [\"https://huggingface.co\"]",
        ),
        ("egress as yes or no", "", "[network]\negress = false"),
        (
            "clients without allow_remote",
            "",
            "[network]\nclients = [\"192.168.1.2\"]",
        ),
        ("an unknown policy", "", "[policy]\nscan = \"blok\""),
        (
            "a finding of an unknown node",
            "",
            "[policy]\naccept = \
            [{ node = \"pakc\", rule = \"r\", path = \"p\", reason = \"x\" }]",
        ),
        (
            "a finding accepted without reason",
            "",
            "[policy]\naccept = \
            [{ node = \"pack\", rule = \"r\", path = \"p\", reason = \" \" }]",
        ),
        ("a hash that is none", "", &model("sha256 = \"abc\"")),
        (
            "a hash in capitals",
            "",
            &model(&format!("sha256 = \"{}\"", "A".repeat(64))),
        ),
        (
            "a model over plain http",
            "",
            &model("source = \"http://x.test/b\""),
        ),
        (
            "a model with a token",
            "",
            &model("source = \"https://me:pw@x.test/b\""),
        ),
        ("half a source", "", &model("source = \"hf://org/repo\"")),
        (
            "an unknown scheme",
            "",
            &model("source = \"ftp://x.test/b\""),
        ),
        ("no scheme", "", &model("source = \"org/repo/file\"")),
        ("a relative file", "", &model("source = \"file:b.bin\"")),
        (
            "a key as a model",
            "",
            &model("source = \"file:~/.ssh/id_ed25519\""),
        ),
        (
            "a password file as a model",
            "",
            &model("source = \"file:~/Documents/passwords.kdbx\""),
        ),
        (
            "a file of the system as a model",
            "",
            &model("source = \"file:/etc/ssl/certs.json\""),
        ),
        (
            "a page of civitai",
            "",
            &model("source = \"civitai:sd-xl\""),
        ),
        (
            "a model in an unknown share",
            "",
            &model("share = \"modles\""),
        ),
        ("a model that leads out", "", "[models.\"../x.bin\"]"),
        (
            "isolation of another word",
            "isolation = \"none\"",
            "isolation = \"non\"",
        ),
    ]);
    insta::assert_snapshot!(s, @r#"
    a prefix that sudo would read in two: exit 1
      error: comfy.toml:5:1: sudo and the system would misread /opt/my comfy, which [run] passwordless and boot need
          > prefix = "/opt/my comfy"
        hint: use letters, digits, `.`, `_`, `-` and `/`

    ssh: exit 1
      error: comfy.toml:12:1: repo "git@github.com:up/pack.git" must be an https:// address (for a local copy, set COMFY_MIRRORS)
          > repo = "git@github.com:up/pack.git"
        hint: write repo = "https://github.com/up/pack.git"

    plain http: exit 1
      error: comfy.toml:12:1: repo "http://github.com/up/pack" must be an https:// address (for a local copy, set COMFY_MIRRORS)
          > repo = "http://github.com/up/pack"
        hint: write repo = "https://github.com/up/pack"

    a folder: exit 1
      error: comfy.toml:12:1: repo "file:///srv/git/pack" must be an https:// address (for a local copy, set COMFY_MIRRORS)
          > repo = "file:///srv/git/pack"
        hint: write it as https://github.com/OWNER/NAME

    a program as transport: exit 1
      error: comfy.toml:12:1: repo "ext::sh -c id" must be an https:// address (for a local copy, set COMFY_MIRRORS)
          > repo = "ext::sh -c id"
        hint: write it as https://github.com/OWNER/NAME

    a token: exit 1
      error: comfy.toml:12:1: repo "https://ghp_x@github.com/up/pack" must not contain a user name or token
          > repo = "https://ghp_x@github.com/up/pack"
        hint: write repo = "https://github.com/up/pack"

    no repository: exit 1
      error: comfy.toml:12:1: repo "https://github.com/" must name a host and a repository
          > repo = "https://github.com/"
        hint: write it as https://github.com/OWNER/NAME

    no owner: exit 1
      error: comfy.toml:12:1: repo "https://github.com" must name a host and a repository
          > repo = "https://github.com"
        hint: write it as https://github.com/OWNER/NAME

    a query: exit 1
      error: comfy.toml:12:1: repo "https://github.com/up/pack?x=1" must not have a query or a fragment
          > repo = "https://github.com/up/pack?x=1"
        hint: write repo = "https://github.com/up/pack"

    a page of a branch: exit 1
      error: comfy.toml:12:1: repo "https://github.com/up/pack#readme" must not have a query or a fragment
          > repo = "https://github.com/up/pack#readme"
        hint: write repo = "https://github.com/up/pack"

    a path that leads up: exit 1
      error: comfy.toml:12:1: repo "https://github.com/../pack" has a path component that is not allowed
          > repo = "https://github.com/../pack"
        hint: write it as https://github.com/OWNER/NAME

    an option as ref: exit 1
      error: comfy.toml:13:1: ref "--upload-pack=touch /tmp/x" is not a name that git accepts
          > ref = "--upload-pack=touch /tmp/x"
        hint: write a branch, a tag, or a commit of 40 digits

    a refspec: exit 1
      error: comfy.toml:13:1: ref "main:refs/heads/x" has a character that is not allowed in a ref
          > ref = "main:refs/heads/x"
        hint: write a branch, a tag, or a commit of 40 digits

    an expression: exit 1
      error: comfy.toml:13:1: ref "main~1" has a character that is not allowed in a ref
          > ref = "main~1"
        hint: write a branch, a tag, or a commit of 40 digits

    a shell: exit 1
      error: comfy.toml:13:1: ref "$(id)" has a character that is not allowed in a ref
          > ref = "$(id)"
        hint: write a branch, a tag, or a commit of 40 digits

    two dots: exit 1
      error: comfy.toml:13:1: ref "a..b" is not a name that git accepts
          > ref = "a..b"
        hint: write a branch, a tag, or a commit of 40 digits

    an empty ref: exit 1
      error: comfy.toml:13:1: ref "" must have 1 to 200 characters
          > ref = ""
        hint: write a branch, a tag, or a commit of 40 digits

    open to the network: exit 1
      error: comfy.toml:10:1: listen "0.0.0.0" would let other machines in
          > listen = "0.0.0.0"
        hint: write "127.0.0.1", or add `allow_remote = true` if that is what you want

    a name to listen on: exit 1
      error: comfy.toml:10:1: listen "comfy.local" is not an address
          > listen = "comfy.local"
        hint: write "127.0.0.1"

    a port of the system: exit 1
      error: comfy.toml:10:1: port 80 is not between 1024 and 65535
          > port = 80
        hint: 8188 is ComfyUI's default

    a port that is none: exit 1
      error: comfy.toml:10:1: port 70000 is not between 1024 and 65535
          > port = 70000
        hint: 8188 is ComfyUI's default

    comfy's own argument: exit 1
      error: comfy.toml:10:22: `--listen` in args sets --listen, which comfy sets itself
          > "--listen", "0.0.0.0"]
        hint: remove it; the address and port are `listen` and `port`, and folders are shares

    a prefix of one, with a value: exit 1
      error: comfy.toml:10:9: `--extra-model=x.yaml` in args sets --extra-model-paths-config, which comfy sets itself
          > "--extra-model=x.yaml"]
        hint: remove it; the address and port are `listen` and `port`, and folders are shares

    PYTHONPATH: exit 1
      error: comfy.toml:23:1: PYTHONPATH changes which code is loaded
          > PYTHONPATH = "/x"
        hint: leave it out; comfy sets what ComfyUI needs

    LD_PRELOAD: exit 1
      error: comfy.toml:23:18: LD_PRELOAD changes which code is loaded
          > LD_PRELOAD = "/x.so" }
        hint: leave it out; comfy sets what ComfyUI needs

    a loader of glibc's: exit 1
      error: comfy.toml:23:1: GCONV_PATH changes which code is loaded
          > GCONV_PATH = "/x"
        hint: leave it out; comfy sets what ComfyUI needs

    a folder that comfy sets: exit 1
      error: comfy.toml:23:1: HF_HOME is set by comfy itself
          > HF_HOME = "/x"
        hint: leave it out

    a secret: exit 1
      error: comfy.toml:23:1: HF_TOKEN looks like a secret, which every node could read
          > HF_TOKEN = "hf_x"
        hint: keep secrets out of the manifest and out of the sandbox

    a variable with a dash: exit 1
      error: comfy.toml:23:1: "MY-VAR" is not the name of an environment variable
          > MY-VAR = "1"
        hint: use letters, digits and `_`

    a number as a variable: exit 1
      error: comfy.toml:23:19: expected text in quotation marks, found 4
          > 4
        hint: write "4"

    few open files: exit 1
      error: comfy.toml:23:1: open_files 10 is not between 256 and 1048576
          > open_files = 10
        hint: 20480 is enough for most setups

    a size without unit: exit 1
      error: comfy.toml:23:1: memory_reserve "4" is not a size
          > memory_reserve = "4"
        hint: write "4 GiB"

    a size of another tool: exit 1
      error: comfy.toml:23:1: memory_reserve "4G" is not a size
          > memory_reserve = "4G"
        hint: write "4 GiB"

    a negative size: exit 1
      error: comfy.toml:23:1: memory_reserve "-4 GiB" is not a size
          > memory_reserve = "-4 GiB"
        hint: write "4 GiB"

    a duration without unit: exit 1
      error: comfy.toml:20:1: minimum_age "3" is not a duration
          > minimum_age = "3"
        hint: write "3 days", "12 hours" or "0"

    a duration in months: exit 1
      error: comfy.toml:20:1: minimum_age "1 month" is not a duration
          > minimum_age = "1 month"
        hint: write "3 days", "12 hours" or "0"

    Python 2: exit 1
      error: comfy.toml:20:1: version "2.7" is not a minor version of Python 3
          > version = "2.7"
        hint: write "3.12"

    a patch version of Python: exit 1
      error: comfy.toml:20:1: version "3.12.4" is not a minor version of Python 3
          > version = "3.12.4"
        hint: write "3.12"

    Python as a number: exit 1
      error: comfy.toml:20:11: expected text in quotation marks, found 3.12
          > 3.12
        hint: write "3.12"

    an option as requirement: exit 1
      error: comfy.toml:20:26: "--index-url https://evil.test" is not a plain requirement
          > "--index-url https://evil.test"]
        hint: write `name==1.2`; declare another index in `indexes`

    an address as requirement: exit 1
      error: comfy.toml:20:14: "x @ git+https://evil.test/x" is not a plain requirement
          > "x @ git+https://evil.test/x"]
        hint: write `name==1.2`; declare another index in `indexes`

    an index over plain http: exit 1
      error: comfy.toml:20:12: index "cu": "http://x.test" is plain http to another machine; use https://
          > { name = "cu", url = "http://x.test", packages = ["torch"] }]
        hint: use https://

    an index for everything: exit 1
      error: comfy.toml:20:12: index "cu" lists no packages
          > { name = "cu", url = "https://x.test", packages = [] }]
        hint: list the packages that come from it, so that no others can

    egress of one word: exit 1
      error: comfy.toml:23:1: egress "none" is unknown
          > egress = "none"
        hint: write "deny", "allow", or a list such as ["huggingface.co:443"]

    egress without port: exit 1
      error: comfy.toml:23:27: egress "huggingface.co" is not host:port
          > "huggingface.co"]
        hint: write "huggingface.co:443"

    egress as an address: exit 1
      error: comfy.toml:23:11: egress "https://huggingface.co" is not host:port
          > "https://huggingface.co"]
        hint: write "huggingface.co:443"

    egress as yes or no: exit 1
      error: comfy.toml:23:1: egress is neither a string nor a list of strings
          > egress = false
        hint: see [network] in `comfy init`

    clients without allow_remote: exit 1
      error: comfy.toml:23:1: a list of clients needs `allow_remote = true` in [comfyui]
          > clients = ["192.168.1.2"]
        hint: write "primary", or allow remote clients

    an unknown policy: exit 1
      error: comfy.toml:23:1: scan "blok" is unknown
          > scan = "blok"
        hint: did you mean "block"?

    a finding of an unknown node: exit 1
      error: comfy.toml:23:11: accept refers to node "pakc", which is not declared
          > { node = "pakc", rule = "r", path = "p", reason = "x" }]
        hint: remove the entry, or correct the name

    a finding accepted without reason: exit 1
      error: comfy.toml:23:11: accept has no reason
          > { node = "pack", rule = "r", path = "p", reason = " " }]
        hint: write why it is safe, for the next reader

    a hash that is none: exit 1
      error: comfy.toml:23:1: sha256 is not 64 lower-case hexadecimal digits
          > sha256 = "abc"
        hint: remove it and `comfy lock` finds it

    a hash in capitals: exit 1
      error: comfy.toml:23:1: sha256 is not 64 lower-case hexadecimal digits
          > sha256 = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        hint: remove it and `comfy lock` finds it

    a model over plain http: exit 1
      error: comfy.toml:23:1: source "http://x.test/b" is plain http to another machine; use https://
          > source = "http://x.test/b"
        hint: write hf://org/repo/file@revision, https://…, civitai:VERSION, s3://bucket/key or file:/path; an existing file needs no source

    a model with a token: exit 1
      error: comfy.toml:23:1: source "https://me:pw@x.test/b" must not contain a user name or token
          > source = "https://me:pw@x.test/b"
        hint: write hf://org/repo/file@revision, https://…, civitai:VERSION, s3://bucket/key or file:/path; an existing file needs no source

    half a source: exit 1
      error: comfy.toml:23:1: source "hf://org/repo" must look like hf://org/repo/file@revision
          > source = "hf://org/repo"
        hint: write hf://org/repo/file@revision, https://…, civitai:VERSION, s3://bucket/key or file:/path; an existing file needs no source

    an unknown scheme: exit 1
      error: comfy.toml:23:1: source "ftp://x.test/b" has an unknown scheme `ftp`; known: hf://, https://, civitai:, s3://, gs://, az://, file:
          > source = "ftp://x.test/b"
        hint: write hf://org/repo/file@revision, https://…, civitai:VERSION, s3://bucket/key or file:/path; an existing file needs no source

    no scheme: exit 1
      error: comfy.toml:23:1: source "org/repo/file" has no scheme; known: hf://, https://, civitai:, s3://, gs://, az://, file:
          > source = "org/repo/file"
        hint: write hf://org/repo/file@revision, https://…, civitai:VERSION, s3://bucket/key or file:/path; an existing file needs no source

    a relative file: exit 1
      error: comfy.toml:23:1: source "file:b.bin" must be file:/an/absolute/path or file:~/path
          > source = "file:b.bin"
        hint: write hf://org/repo/file@revision, https://…, civitai:VERSION, s3://bucket/key or file:/path; an existing file needs no source

    a key as a model: exit 1
      error: comfy.toml:23:1: source "file:~/.ssh/id_ed25519" is in a hidden folder of your home, where keys and settings are kept
          > source = "file:~/.ssh/id_ed25519"
        hint: write hf://org/repo/file@revision, https://…, civitai:VERSION, s3://bucket/key or file:/path; an existing file needs no source

    a password file as a model: exit 1
      error: comfy.toml:23:1: source "file:~/Documents/passwords.kdbx" does not have the extension of a model (.safetensors, .ckpt, .pt, .pth, .bin, .gguf, .onnx, …) or of a file that comes with one (.json, .yaml, .txt)
          > source = "file:~/Documents/passwords.kdbx"
        hint: write hf://org/repo/file@revision, https://…, civitai:VERSION, s3://bucket/key or file:/path; an existing file needs no source

    a file of the system as a model: exit 1
      error: comfy.toml:23:1: source "file:/etc/ssl/certs.json" belongs to the system
          > source = "file:/etc/ssl/certs.json"
        hint: write hf://org/repo/file@revision, https://…, civitai:VERSION, s3://bucket/key or file:/path; an existing file needs no source

    a page of civitai: exit 1
      error: comfy.toml:23:1: source "civitai:sd-xl" must look like civitai:VERSION, a number
          > source = "civitai:sd-xl"
        hint: write hf://org/repo/file@revision, https://…, civitai:VERSION, s3://bucket/key or file:/path; an existing file needs no source

    a model in an unknown share: exit 1
      error: comfy.toml:23:1: model "a/b.safetensors" is in share "modles", which is not declared
          > share = "modles"
        hint: did you mean "models"?

    a model that leads out: exit 1
      error: comfy.toml:22:9: model path "../x.bin" must not contain `.` or `..`
          > "../x.bin"]
        hint: write its path in the share, such as "checkpoints/sd15.safetensors"

    isolation of another word: exit 1
      error: comfy.toml:4:1: isolation "non" is unknown
          > isolation = "non"
        hint: did you mean "none"?
    "#);
}

#[test]
fn overlays_of_a_host() {
    let w = World::new();
    let lock = Some(w.lock.as_bytes());
    let here: &[&str] = &["--host", "macbook", "plan"];
    let mut s = String::new();
    for (name, overlay) in [
        (
            "a value that is wrong here",
            "[hosts.macbook]\ncomfyui.port = 80",
        ),
        (
            "a path that overlaps here",
            "[hosts.macbook]\nshares.models.path = \"ROOT/prefix/m\"",
        ),
        (
            "a share of this machine alone, without path",
            "[hosts.macbook.shares.fast]\nmount = \"models/fast\"",
        ),
        (
            "a type that is wrong here",
            "[hosts.macbook]\nshares.models.manage = \"no\"",
        ),
        ("a text over a section", "[hosts.macbook]\nrun = \"fast\""),
        (
            "a key that needs another lock",
            "[hosts.macbook]\ncomfyui.ref = \"v2\"",
        ),
        (
            "an unknown key",
            "[hosts.macbook]\nshares.models.acess = \"write\"",
        ),
        (
            "access that is wrong here",
            "[hosts.MacBook.shares.models]\naccess = \"all\"",
        ),
        (
            "a mount that collides here",
            "[hosts.macbook.shares.second]\npath = \"/srv/x/y\"\nmount = \"models\"",
        ),
    ] {
        s += &w.case(name, edited("", overlay), lock, here);
    }
    s += &w.case(
        "another machine, with a typo",
        edited("", "[hosts.macbook]\ncomfyui.port = 8189"),
        lock,
        &["--host", "macbok", "plan"],
    );
    s += &w.case(
        "another machine, far from all",
        edited("", "[hosts.macbook]\ncomfyui.port = 8189"),
        lock,
        &["--host", "studio", "plan"],
    );
    s += &w.case(
        "a type that is wrong on another machine",
        edited("", "[hosts.other]\ncomfyui.port = \"80\""),
        lock,
        here,
    );
    s += &w.case(
        "hosts as a text",
        edited("[host]", "hosts = \"macbook\"\n[host]"),
        lock,
        here,
    );
    insta::assert_snapshot!(s, @r#"
    a value that is wrong here: exit 1
      error: comfy.toml:23:9: port 80 is not between 1024 and 65535
          > port = 80
        hint: 8188 is ComfyUI's default

    a path that overlaps here: exit 1
      error: comfy.toml:23:15: share models: ROOT/prefix/m overlaps comfy's own folder (ROOT/prefix)
          > path = "ROOT/prefix/m"
        hint: neither may be inside the other; move one of them

    a share of this machine alone, without path: exit 1
      error: comfy.toml:22:23: [shares.fast] does not set `path`
          > fast]
        hint: add `path = "~/ai/models"`
      error: comfy.toml:17:1: mounts of shares `fast` (models/fast) and `models` (models) overlap
          > mount = "models"
        hint: mount each at a different place

    a type that is wrong here: exit 1
      error: comfy.toml:23:24: expected true or false, found "no"
          > "no"

    a text over a section: exit 1
      error: comfy.toml:23:7: expected a table, found "fast"
          > "fast"

    a key that needs another lock: exit 1
      error: comfy.toml:23:9: unknown key `ref`
          > ref = "v2"
        hint: known here: view, port

    an unknown key: exit 1
      error: comfy.toml:23:15: unknown key `acess`
          > acess = "write"
        hint: did you mean `access`?

    access that is wrong here: exit 1
      error: comfy.toml:23:1: access "all" is unknown
          > access = "all"
        hint: known: read, write, add

    a mount that collides here: exit 1
      error: comfy.toml:24:1: mounts of shares `models` (models) and `second` (models) overlap
          > mount = "models"
        hint: mount each at a different place

    another machine, with a typo: exit 1
      error: --host macbok: comfy.toml has no [hosts.macbok]
        hint: did you mean `macbook`?

    another machine, far from all: exit 1
      error: --host studio: comfy.toml has no [hosts.studio]
        hint: comfy.toml has: macbook

    a type that is wrong on another machine: exit 1
      error: comfy.toml:23:16: expected a whole number, found "80"
          > "80"
        hint: write 80

    hosts as a text: exit 1
      error: comfy.toml:3:9: expected a table, found "macbook"
          > "macbook"
    "#);
}

#[test]
fn repositories_and_refs() {
    if !git_or_skip() {
        return;
    }
    let w = World::new();
    let up = |name: &str, files: &[File]| World::upstream(&w.root, name, files);
    let file = |path: &'static str, content: &'static [u8]| (path, content, 0o100_644);
    let init = file("__init__.py", b"");
    up(
        "leaves",
        &[
            init,
            ("models/up", b"../../outside", 0o120_000),
            ("abs", b"/etc/passwd", 0o120_000),
        ],
    );
    up(
        "case",
        &[init, file("Web/a.js", b"a"), file("web/b.js", b"b")],
    );
    up(
        "unicode",
        &[init, file("caf\u{e9}.py", b""), file("cafe\u{301}.py", b"")],
    );
    up(
        "lfs",
        &[
            init,
            file(
                "w.bin",
                b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n",
            ),
        ],
    );
    up("control", &[init, file("a\x1b[2Jb.py", b"")]);
    up(
        "lost",
        &[
            init,
            (
                "sub",
                b"1111111111111111111111111111111111111111",
                0o160_000,
            ),
        ],
    );
    let submodule = |name: &str, url: &str, commit: &str| {
        let modules = format!("[submodule \"sub\"]\n\tpath = sub\n\turl = {url}\n");
        World::upstream(
            &w.root,
            name,
            &[
                init,
                (".gitmodules", modules.as_bytes(), 0o100_644),
                ("sub", commit.as_bytes(), 0o160_000),
            ],
        )
    };
    submodule(
        "gone-sub",
        "https://github.com/up/nowhere",
        "1111111111111111111111111111111111111111",
    );
    submodule(
        "gone-commit",
        "../pack",
        "1111111111111111111111111111111111111111",
    );
    submodule(
        "ssh-sub",
        "git@github.com:up/pack.git",
        "1111111111111111111111111111111111111111",
    );
    submodule(
        "option-sub",
        "--upload-pack=id",
        "1111111111111111111111111111111111111111",
    );
    let both = up("both", &[init]);
    both.tag("v1");
    both.commit(&[init, file("a.py", b"")]);
    both.branch("v1");
    let linked = up("linked", &[init]).commit(&[init, ("abs", b"/etc/passwd", 0o120_000)]);
    submodule("bad-sub", "../linked", &linked);
    // A submodule that holds itself: each commit holds the one before it, deeper than anyone needs.
    let selfish = up("selfish", &[init]);
    let mut below = selfish.commit(&[init]);
    for _ in 0..7 {
        let modules = b"[submodule \"me\"]\n\tpath = me\n\turl = ../selfish\n";
        below = selfish.commit(&[
            init,
            (".gitmodules", modules, 0o100_644),
            ("me", below.as_bytes(), 0o160_000),
        ]);
    }

    let node = |repo: &str, git_ref: &str| {
        edited(
            "repo = \"https://github.com/up/pack\"\nref = \"main\"",
            &format!("repo = \"https://github.com/up/{repo}\"\nref = \"{git_ref}\""),
        )
    };
    let mut s = String::new();
    for (name, repo, git_ref) in [
        ("a repository that is not there", "nowhere", "main"),
        ("a branch with a typo", "pack", "mian"),
        ("a branch that is not there", "pack", "release-2024"),
        (
            "a commit that is not there",
            "pack",
            "1111111111111111111111111111111111111111",
        ),
        ("a short commit", "pack", "1111111"),
        ("a branch of a clone", "pack", "origin/main"),
        ("a branch and a tag of one name", "both", "v1"),
        ("links that leave the tree", "leaves", "main"),
        ("names that collide by case", "case", "main"),
        ("names that collide by Unicode form", "unicode", "main"),
        ("a Git LFS pointer", "lfs", "main"),
        ("a control character in a name", "control", "main"),
        ("a submodule without address", "lost", "main"),
        ("a submodule whose repository is gone", "gone-sub", "main"),
        ("a submodule whose commit is gone", "gone-commit", "main"),
        ("a submodule over ssh", "ssh-sub", "main"),
        ("a submodule that is an option", "option-sub", "main"),
        ("a submodule that breaks a rule", "bad-sub", "main"),
        ("a submodule that holds itself", "selfish", "main"),
    ] {
        s += &w.case(name, node(repo, git_ref), None, LOCK);
    }
    s += &w.case(
        "two at once",
        edited("ref = \"v1\"", "ref = \"v9\"").replace("up/pack", "up/nowhere"),
        None,
        LOCK,
    );
    s += &w.case("offline", GOOD, None, &["lock", "--offline"]);
    s += &w.case(
        "update to a ref that is gone",
        GOOD.replace("\"main\"", "\"gone\""),
        Some(w.lock.replace("\"main\"", "\"gone\"").as_bytes()),
        &["update", "pack"],
    );
    s += &w.case(
        "outdated, a ref is gone",
        GOOD.replace("\"main\"", "\"gone\""),
        Some(w.lock.replace("\"main\"", "\"gone\"").as_bytes()),
        &["outdated"],
    );
    insta::assert_snapshot!(s, @r#"
    a repository that is not there: exit 1
      error: comfy.toml:13:1: pack: file://ROOT/upstream/up/nowhere: 'ROOT/upstream/up/nowhere' does not appear to be a git repository
          > ref = "main"
        hint: COMFY_MIRRORS points there, but it has no such repository

    a branch with a typo: exit 1
      error: comfy.toml:13:1: pack: https://github.com/up/pack has no branch or tag `mian`
          > ref = "mian"
        hint: did you mean `main`?

    a branch that is not there: exit 1
      error: comfy.toml:13:1: pack: https://github.com/up/pack has no branch or tag `release-2024`
          > ref = "release-2024"
        hint: its branches: main

    a commit that is not there: exit 1
      error: comfy.toml:13:1: pack: https://github.com/up/pack: file://ROOT/upstream/up/pack.git does not have commit COMMIT
          > ref = "COMMIT"
        hint: check `ref` in comfy.toml: the repository does not have this commit (any more)

    a short commit: exit 1
      error: comfy.toml:13:1: pack: `1111111` is neither a branch nor a tag of https://github.com/up/pack, and a commit needs all its 40 digits
          > ref = "1111111"
        hint: write all 40 digits, as the commit's own page shows them

    a branch of a clone: exit 1
      error: comfy.toml:13:1: pack: https://github.com/up/pack has no branch or tag `origin/main`
          > ref = "origin/main"
        hint: did you mean `main`?

    a branch and a tag of one name: exit 1
      error: comfy.toml:13:1: pack: https://github.com/up/both has both a branch and a tag `v1`, at different commits
          > ref = "v1"
        hint: for the branch: ref = "refs/heads/v1"
        hint: for the tag: ref = "refs/tags/v1"

    links that leave the tree: exit 1
      error: comfy.toml:13:1: pack: link `abs` points out of the tree, to `/etc/passwd`
          > ref = "main"
      error: comfy.toml:13:1: pack: link `models/up` points out of the tree, to `../../outside`
          > ref = "main"
        hint: such a link could show the node other files; choose another commit, or a fork without it

    names that collide by case: exit 1
      error: comfy.toml:13:1: pack: `Web` and `web` are the same name on a Mac's disk
          > ref = "main"
        hint: choose another commit, or ask the author to rename one

    names that collide by Unicode form: exit 1
      error: comfy.toml:13:1: pack: `cafe\u{301}.py` and `caf\u{e9}.py` are the same name on a Mac's disk
          > ref = "main"
        hint: choose another commit, or ask the author to rename one

    a Git LFS pointer: exit 1
      error: comfy.toml:13:1: pack: `w.bin` is a Git LFS pointer, not the file
          > ref = "main"
        hint: comfy does not fetch Git LFS files; if the node works without them, write in its section of comfy.toml: exclude = ["w.bin"]

    a control character in a name: exit 1
      error: comfy.toml:13:1: pack: `a\u{1b}[2Jb.py` has a control character in its name
          > ref = "main"

    a submodule without address: exit 1
      error: comfy.toml:13:1: pack: submodule `sub` has no address in .gitmodules
          > ref = "main"
        hint: if the node works without it, write in its section of comfy.toml: exclude = ["sub"]

    a submodule whose repository is gone: exit 1
      error: comfy.toml:13:1: pack: submodule `sub`: https://github.com/up/nowhere: commit COMMIT could not be fetched: file://ROOT/upstream/up/nowhere: 'ROOT/upstream/up/nowhere' does not appear to be a git repository
          > ref = "main"
        hint: COMFY_MIRRORS points there, but it has no such repository
        hint: if the node works without it, write in its section of comfy.toml: exclude = ["sub"]

    a submodule whose commit is gone: exit 1
      error: comfy.toml:13:1: pack: submodule `sub`: https://github.com/up/pack: file://ROOT/upstream/up/pack.git does not have commit COMMIT
          > ref = "main"
        hint: if the node works without it, write in its section of comfy.toml: exclude = ["sub"]

    a submodule over ssh: exit 1
      error: comfy.toml:13:1: pack: submodule `sub`: https://github.com/up/pack.git: file://ROOT/upstream/up/pack.git does not have commit COMMIT
          > ref = "main"
        hint: if the node works without it, write in its section of comfy.toml: exclude = ["sub"]

    a submodule that is an option: exit 1
      error: comfy.toml:13:1: pack: submodule `sub`: "--upload-pack=id" must be an https:// address (for a local copy, set COMFY_MIRRORS)
          > ref = "main"
        hint: if the node works without it, write in its section of comfy.toml: exclude = ["sub"]

    a submodule that breaks a rule: exit 1
      error: comfy.toml:13:1: pack: submodule `sub`: link `abs` points out of the tree, to `/etc/passwd`
          > ref = "main"
        hint: such a link could show the node other files; choose another commit, or a fork without it
        hint: if the node works without it, write in its section of comfy.toml: exclude = ["sub"]

    a submodule that holds itself: exit 1
      error: comfy.toml:13:1: pack: submodules nested more than 5 deep
          > ref = "main"

    two at once: exit 1
      error: comfy.toml:9:1: comfyui: https://github.com/up/ComfyUI has no branch or tag `v9`
          > ref = "v9"
        hint: did you mean `v1`?
      error: comfy.toml:13:1: pack: file://ROOT/upstream/up/nowhere: 'ROOT/upstream/up/nowhere' does not appear to be a git repository
          > ref = "main"
        hint: COMFY_MIRRORS points there, but it has no such repository

    offline: exit 1
      error: comfy.toml:9:1: comfyui: https://github.com/up/ComfyUI: cannot look up the commit of `v1` offline
          > ref = "v1"
      error: comfy.toml:13:1: pack: https://github.com/up/pack: cannot look up the commit of `main` offline
          > ref = "main"
        hint: run it once without --offline

    update to a ref that is gone: exit 1
      error: comfy.toml:13:1: pack: https://github.com/up/pack has no branch or tag `gone`
          > ref = "gone"
        hint: its branches: main

    outdated, a ref is gone: exit 1
      error: https://github.com/up/pack has no branch or tag `gone`
        hint: its branches: main
    "#);
}

#[test]
fn locks() {
    // Without it more is fetched, and what was fetched stays.
    if !git_or_skip() {
        return;
    }
    let w = World::new();
    let good = &w.lock;
    let cut =
        |at: &str| good[..good.find(at).unwrap_or_else(|| panic!("{at} in\n{good}"))].to_string();
    let pin = |key: &str, nth: usize| {
        let line = good
            .lines()
            .filter(|l| l.starts_with(&format!("{key} = ")))
            .nth(nth)
            .unwrap();
        line.to_string()
    };
    let swap = |key: &str, nth: usize, to: &str| {
        good.replacen(&pin(key, nth), &format!("{key} = \"{to}\""), 1)
    };
    let mut s = String::new();
    for (name, lock) in [
        ("empty", String::new()),
        ("cut after the version", cut("\n[comfyui]")),
        ("cut in a section", cut("mmit = ")),
        ("cut in a string", cut("github.com/up/pack")),
        ("cut before a tree", cut(&pin("tree", 1))),
        ("cut before a node", cut("\n[nodes.pack]")),
        (
            "a newer format",
            good.replace("version = 1", "version = 7\nfuture = true"),
        ),
        (
            "a format of no time",
            good.replace("version = 1", "version = 0"),
        ),
        (
            "a format in quotes",
            good.replace("version = 1", "version = \"1\""),
        ),
        ("no format", good.replace("version = 1", "")),
        (
            "a merge was left",
            good.replacen(
                "[nodes.pack]",
                "<<<<<<< HEAD\n=======\n>>>>>>> b\n[nodes.pack]",
                1,
            ),
        ),
        (
            "a node twice, from a merge",
            format!("{good}{}", &good[good.find("\n[nodes.pack]").unwrap()..]),
        ),
        ("a short commit", swap("commit", 1, "1234567")),
        ("a commit in capitals", swap("commit", 0, &"A".repeat(40))),
        ("a tree that is no id", swap("tree", 1, "main")),
        ("a repo that is no address", swap("repo", 1, "file:///etc")),
        (
            "a ref that is an option",
            swap("ref", 1, "--upload-pack=id"),
        ),
        ("an unknown key", good.replacen("commit = ", "comit = ", 1)),
        (
            "a node that leads out",
            good.replace("[nodes.pack]", "[nodes.\"../pack\"]"),
        ),
        (
            "a submodule that leads out",
            format!(
                "{good}\n[[nodes.pack.submodules]]\npath = \"../x\"\nrepo = \
                 \"https://github.com/up/x\"\ncommit = \"{0}\"\ntree = \"{0}\"\n",
                "1".repeat(40)
            ),
        ),
        (
            "a submodule's commit is no id",
            format!(
                "{good}\n[[nodes.pack.submodules]]\npath = \"x\"\nrepo = \
                 \"https://github.com/up/x\"\ncommit = \"main\"\ntree = \"{}\"\n",
                "1".repeat(40)
            ),
        ),
        (
            "repo changed in the lock",
            swap("repo", 1, "https://github.com/evil/pack"),
        ),
        (
            "ref changed in the lock: reverted alone",
            swap("ref", 1, "v0"),
        ),
    ] {
        s += &w.case(name, GOOD, Some(lock.as_bytes()), PLAN);
    }
    let lock = Some(good.as_bytes());
    s += &w.case(
        "ref changed in comfy.toml",
        GOOD.replace("\"v1\"", "\"v2\""),
        lock,
        PLAN,
    );
    s += &w.case(
        "ref and repo changed, apply",
        GOOD.replace("up/pack", "me/pack")
            .replace("\"main\"", "\"dev\""),
        lock,
        &["apply", "--yes"],
    );
    s += &w.case(
        "a node is missing",
        edited(
            "",
            "[nodes.other]\nrepo = \"https://github.com/up/other\"\nref = \"main\"",
        ),
        lock,
        PLAN,
    );
    s += &w.case(
        "a disabled node is missing",
        edited(
            "",
            "[nodes.other]\nrepo = \"https://github.com/up/other\"\nref = \"main\"\nenabled \
            = false",
        ),
        lock,
        &["destroy"],
    );
    s += &w.case("no lock", GOOD, None, PLAN);
    s += &w.case("no lock, apply", GOOD, None, &["apply", "--yes"]);
    s += &w.case("no lock, outdated", GOOD, None, &["outdated"]);
    s += &w.case(
        "a commit that upstream never had",
        GOOD,
        Some(swap("commit", 1, &"1".repeat(40)).as_bytes()),
        &["apply", "--yes"],
    );
    s += &w.case(
        "another commit's tree",
        GOOD,
        Some(swap("tree", 1, &"1".repeat(40)).as_bytes()),
        &["apply", "--yes"],
    );
    let (toml, whole) = w.with_submodule();
    let (before, submodule) = whole.split_at(whole.find("\n[[nodes.pack.submodules]]").unwrap());
    let python = &submodule[submodule.find("\n[python]").unwrap()..];
    s += &w.case(
        "a submodule was lost",
        &toml,
        Some((before.to_string() + python).as_bytes()),
        &["apply", "--yes"],
    );
    s += &w.case(
        "a submodule's commit that upstream never had",
        &toml,
        Some(
            format!(
                "{before}{}",
                submodule.replace(
                    &submodule[submodule.find("commit = ").unwrap()..][10..50],
                    &"1".repeat(40)
                )
            )
            .as_bytes(),
        ),
        &["apply", "--yes"],
    );
    s += &w.case("not UTF-8", GOOD, Some(b"version = 1\n\xff"), PLAN);
    insta::assert_snapshot!(s, @r#"
    empty: exit 1
      error: comfy.lock:1:1: unknown version
          > (the line ends here)
        hint: restore it from git (after a merge conflict, take one side completely), then run `comfy lock`; deleting it would move every pin

    cut after the version: exit 1
      error: comfy.lock:1:1: missing field `comfyui`
          > # Made by `comfy lock`. Commit it beside comfy.toml; comfy alone writes it.
        hint: restore it from git (after a merge conflict, take one side completely), then run `comfy lock`; deleting it would move every pin

    cut in a section: exit 1
      error: comfy.lock:7:3: key with no value, expected `=`
          > (the line ends here)
        hint: restore it from git (after a merge conflict, take one side completely), then run `comfy lock`; deleting it would move every pin

    cut in a string: exit 1
      error: comfy.lock:11:17: invalid basic string, expected `"`
          > (the line ends here)
        hint: restore it from git (after a merge conflict, take one side completely), then run `comfy lock`; deleting it would move every pin

    cut before a tree: exit 1
      error: comfy.lock:10:1: missing field `tree`
          > [nodes.pack]
        hint: restore it from git (after a merge conflict, take one side completely), then run `comfy lock`; deleting it would move every pin

    cut before a node: exit 1
      error: comfy.toml:11:8: nodes.pack is not in comfy.lock
          > pack]
      error: comfy.lock holds no Python packages: an older comfy wrote it
        hint: run `comfy lock`

    a newer format: exit 1
      error: comfy.lock:2:1: format 7 is newer than this comfy can read (2)
          > version = 7
        hint: install the version of comfy that wrote it, or a newer one

    a format of no time: exit 1
      error: comfy.lock:2:1: unknown version
          > version = 0
        hint: restore it from git (after a merge conflict, take one side completely), then run `comfy lock`; deleting it would move every pin

    a format in quotes: exit 1
      error: comfy.lock:2:1: unknown version
          > version = "1"
        hint: restore it from git (after a merge conflict, take one side completely), then run `comfy lock`; deleting it would move every pin

    no format: exit 1
      error: comfy.lock:1:1: unknown version
          > # Made by `comfy lock`. Commit it beside comfy.toml; comfy alone writes it.
        hint: restore it from git (after a merge conflict, take one side completely), then run `comfy lock`; deleting it would move every pin

    a merge was left: exit 1
      error: comfy.lock:10:1: the file contains an unresolved merge conflict
          > <<<<<<< HEAD
        hint: take one side of the file completely, then run `comfy lock`; deleting it would move every pin

    a node twice, from a merge: exit 1
      error: comfy.lock:19:8: duplicate key
          > pack]
        hint: restore it from git (after a merge conflict, take one side completely), then run `comfy lock`; deleting it would move every pin

    a short commit: exit 1
      error: comfy.lock:13:1: commit of nodes.pack is not 40 hexadecimal digits
          > commit = "1234567"
        hint: restore it from git (after a merge conflict, take one side completely), then run `comfy lock`; deleting it would move every pin

    a commit in capitals: exit 1
      error: comfy.lock:7:1: commit of comfyui is not 40 hexadecimal digits
          > commit = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        hint: restore it from git (after a merge conflict, take one side completely), then run `comfy lock`; deleting it would move every pin

    a tree that is no id: exit 1
      error: comfy.lock:14:1: tree of nodes.pack is not 40 hexadecimal digits
          > tree = "main"
        hint: restore it from git (after a merge conflict, take one side completely), then run `comfy lock`; deleting it would move every pin

    a repo that is no address: exit 1
      error: comfy.lock:11:1: repo "file:///etc" must be an https:// address (for a local copy, set COMFY_MIRRORS)
          > repo = "file:///etc"
        hint: restore it from git (after a merge conflict, take one side completely), then run `comfy lock`; deleting it would move every pin

    a ref that is an option: exit 1
      error: comfy.lock:12:1: ref "--upload-pack=id" is not a name that git accepts
          > ref = "--upload-pack=id"
        hint: restore it from git (after a merge conflict, take one side completely), then run `comfy lock`; deleting it would move every pin

    an unknown key: exit 1
      error: comfy.lock:7:1: unknown field `comit`, expected one of `repo`, `ref`, `commit`, `tree`, `registry_version`, `url`, `sha256`, `status`, `requirements`, `ignore_requirements`, `requirements_files`, `excluded`, `submodules`
          > comit = "COMMIT"
        hint: restore it from git (after a merge conflict, take one side completely), then run `comfy lock`; deleting it would move every pin

    a node that leads out: exit 1
      error: comfy.lock:10:8: node name "../pack" must not start with `-` or `.`
          > "../pack"]
        hint: restore it from git (after a merge conflict, take one side completely), then run `comfy lock`; deleting it would move every pin

    a submodule that leads out: exit 1
      error: comfy.lock:20:1: submodule path "../x" must not contain `.` or `..`
          > path = "../x"
        hint: restore it from git (after a merge conflict, take one side completely), then run `comfy lock`; deleting it would move every pin

    a submodule's commit is no id: exit 1
      error: comfy.lock:22:1: commit of nodes.pack.submodules.0 is not 40 hexadecimal digits
          > commit = "main"
        hint: restore it from git (after a merge conflict, take one side completely), then run `comfy lock`; deleting it would move every pin

    repo changed in the lock: exit 1
      error: comfy.toml:12:1: nodes.pack.repo is "https://github.com/up/pack", but comfy.lock was made for "https://github.com/evil/pack"
          > repo = "https://github.com/up/pack"
        hint: run `comfy lock`; if you reverted comfy.lock alone, revert comfy.toml with it

    ref changed in the lock: reverted alone: exit 1
      error: comfy.toml:13:1: nodes.pack.ref is "main", but comfy.lock was made for "v0"
          > ref = "main"
        hint: run `comfy lock`; if you reverted comfy.lock alone, revert comfy.toml with it

    ref changed in comfy.toml: exit 1
      error: comfy.toml:9:1: comfyui.ref is "v2", but comfy.lock was made for "v1"
          > ref = "v2"
        hint: run `comfy lock`; if you reverted comfy.lock alone, revert comfy.toml with it

    ref and repo changed, apply: exit 1
      error: comfy.toml:12:1: nodes.pack.repo is "https://github.com/me/pack", but comfy.lock was made for "https://github.com/up/pack"
          > repo = "https://github.com/me/pack"
      error: comfy.toml:13:1: nodes.pack.ref is "dev", but comfy.lock was made for "main"
          > ref = "dev"
        hint: run `comfy lock`; if you reverted comfy.lock alone, revert comfy.toml with it

    a node is missing: exit 1
      error: comfy.toml:22:8: nodes.other is not in comfy.lock
          > other]
        hint: run `comfy lock`

    a disabled node is missing: exit 1
      error: comfy.toml:22:8: nodes.other is not in comfy.lock
          > other]
        hint: run `comfy lock`

    no lock: exit 1
      error: ROOT/project does not contain a comfy.lock
        hint: run `comfy lock`

    no lock, apply: exit 1
      error: ROOT/project does not contain a comfy.lock
        hint: run `comfy lock`

    no lock, outdated: exit 1
      error: ROOT/project does not contain a comfy.lock
        hint: run `comfy lock`

    a commit that upstream never had: exit 1
      error: node.pack: https://github.com/up/pack: file://ROOT/upstream/up/pack.git does not have commit COMMIT
        hint: the pinned commit no longer exists there, or the mirror is old; `comfy update` moves the pin

    another commit's tree: exit 1
      error: node.pack: commit COMMIT has tree COMMIT, and comfy.lock says COMMIT
        hint: comfy.lock was edited by hand: restore it from git, or delete it and run `comfy lock`

    a submodule was lost: exit 1
      error: node.pack: submodule `sub` in comfy.lock is not what the tree says
        hint: comfy.lock was edited by hand, or lacks a submodule: restore it from git, or `comfy update` this node; nothing was installed

    a submodule's commit that upstream never had: exit 1
      error: node.pack: https://github.com/up/inner: file://ROOT/upstream/up/inner.git does not have commit COMMIT
        hint: the pinned commit no longer exists there, or the mirror is old; `comfy update` moves the pin

    not UTF-8: exit 1
      error: could not read ROOT/project/comfy.lock: stream did not contain valid UTF-8
    "#);
}

/// Findings have an exit code of their own, and what the lock has too much is no reason to stop.
#[test]
fn locks_that_are_asked_about() {
    let w = World::new();
    let good = &w.lock;
    let (node, python) = (
        good.find("\n[nodes.pack]").unwrap(),
        good.find("\n[python]").unwrap(),
    );
    let extra = good[..python].replace("[nodes.pack]", "[nodes.old]") + &good[node..];
    let mut s = String::new();
    for (name, lock, args, expected) in [
        ("a node too many, plan", Some(&extra), PLAN, 0),
        (
            "a node too many, check",
            Some(&extra),
            &["lock", "--check"][..],
            0,
        ),
        ("no lock, check", None, &["lock", "--check"], 2),
        (
            "not as comfy writes it, check",
            Some(&good.replace("version = 1", "version   = 1")),
            &["lock", "--check"],
            2,
        ),
        (
            "uncovered, check",
            Some(&good.replace("\"main\"", "\"dev\"")),
            &["lock", "--check"],
            2,
        ),
    ] {
        let (exit, said) = w.run(GOOD, lock.map(String::as_bytes), args);
        assert_eq!(exit, expected, "{name}: {said}");
        s += &w.row(name, exit, &said);
    }
    insta::assert_snapshot!(s, @r#"
    a node too many, plan: exit 0
      warning: comfy.lock pins node.old, which comfy.toml no longer declares; `comfy lock` removes it

    a node too many, check: exit 0
      warning: comfy.lock pins node.old, which comfy.toml no longer declares; `comfy lock` removes it

    no lock, check: exit 2
      error: comfy.lock does not exist
        hint: run `comfy lock`

    not as comfy writes it, check: exit 2
      error: comfy.lock is not in the form that comfy writes
        hint: run `comfy lock`

    uncovered, check: exit 2
      error: comfy.toml:13:1: nodes.pack.ref is "main", but comfy.lock was made for "dev"
          > ref = "main"
        hint: run `comfy lock`; if you reverted comfy.lock alone, revert comfy.toml with it
    "#);
}

#[test]
fn command_line() {
    let w = World::new();
    let lock = Some(w.lock.as_bytes());
    let mut s = String::new();
    for (name, args) in [
        ("an unknown flag", &["plan", "--onyl", "nodes"][..]),
        ("a flag of another command", &["lock", "--yes"]),
        ("an unknown command", &["aply"]),
        ("no command", &[]),
        ("a flag without its value", &["plan", "--only"]),
        ("a number that is none", &["gc", "--keep", "many"]),
        ("a negative number", &["gc", "--keep=-1"]),
        ("an unknown colour", &["--color", "sometimes", "plan"]),
        ("an unknown shell", &["completions", "tcsh"]),
        ("a family with a typo", &["plan", "--only", "node"]),
        ("a kind with a typo", &["plan", "--only", "nod.pack"]),
        (
            "a node of that name is not there",
            &["plan", "--only", "node.pakc"],
        ),
        (
            "a share of that name is not there",
            &["apply", "--yes", "--only", "share.outputs"],
        ),
        (
            "a selection that steers the terminal",
            &["plan", "--only", "\u{1b}[2J"],
        ),
        ("an empty selection", &["plan", "--only", ""]),
        ("two selections in one", &["plan", "--only", "nodes,python"]),
        (
            "a host without a part of its own",
            &["--host", "macbok", "plan"],
        ),
        (
            "a model that lies in no share",
            &["add", "model", "ROOT/x.safetensors"],
        ),
        ("an unknown node to update", &["update", "pakc"]),
        (
            "a node to update, far from all",
            &["update", "something-else"],
        ),
        ("nobody to say yes", &["apply"]),
        (
            "a selection with a saved plan",
            &["apply", "--only", "nodes", "ROOT/garbage.plan"],
        ),
        ("a plan that is none", &["apply", "ROOT/garbage.plan"]),
        ("a plan of another version", &["apply", "ROOT/future.plan"]),
        ("a plan that is empty", &["apply", "ROOT/empty.plan"]),
        ("a plan that is not there", &["apply", "ROOT/none.plan"]),
        ("a folder as plan", &["apply", "ROOT"]),
        (
            "a plan into a folder that is not there",
            &["plan", "--out", "ROOT/none/x.plan"],
        ),
        ("a second manifest", &["init"]),
    ] {
        fs::write(w.root.join("garbage.plan"), "once upon a time\n").unwrap();
        fs::write(w.root.join("future.plan"), "{\"comfy_plan\": 9}\n").unwrap();
        fs::write(w.root.join("empty.plan"), "").unwrap();
        s += &w.case(name, GOOD, lock, args);
    }
    s += &w.case(
        "a bill of what comfy.toml does not say",
        edited("ref = \"v1\"", "ref = \"v2\""),
        lock,
        &["export", "sbom"],
    );
    insta::assert_snapshot!(s, @r#"
    an unknown flag: exit 1
      error: unexpected argument '--onyl' found

        tip: a similar argument exists: '--only'

      Usage: comfy plan --only <SEL>

      For more information, try '--help'.

    a flag of another command: exit 1
      error: unexpected argument '--yes' found

      Usage: comfy lock [OPTIONS]

      For more information, try '--help'.

    an unknown command: exit 1
      error: unrecognized subcommand 'aply'

        tip: a similar subcommand exists: 'apply'

      Usage: comfy [OPTIONS] <COMMAND>

      For more information, try '--help'.

    no command: exit 1
      error: 'comfy' requires a subcommand but one was not provided
        [subcommands: init, add, remove, set, check, list, lock, update, outdated, history, rollback, bisect, model, plan, apply, run, start, stop, restart, status, logs, open, shell, exec, doctor, verify, scan, audit, review, accept, gc, dedupe, cache, export, destroy, demo, completions, man, help, __root, __launch, __sandbox, __gateway, __build, __probe, __log, __parse, __review]

      Usage: comfy [OPTIONS] <COMMAND>

      For more information, try '--help'.

    a flag without its value: exit 1
      error: a value is required for '--only <SEL>' but none was supplied

      For more information, try '--help'.

    a number that is none: exit 1
      error: invalid value 'many' for '--keep <N>': invalid digit found in string

      For more information, try '--help'.

    a negative number: exit 1
      error: invalid value '-1' for '--keep <N>': invalid digit found in string

      For more information, try '--help'.

    an unknown colour: exit 1
      error: invalid value 'sometimes' for '--color <COLOR>'
        [possible values: auto, always, never]

      For more information, try '--help'.

    an unknown shell: exit 1
      error: invalid value 'tcsh' for '<SHELL>'
        [possible values: bash, elvish, fish, powershell, zsh]

        tip: a similar value exists: 'zsh'

      For more information, try '--help'.

    a family with a typo: exit 1
      error: --only node: neither a family nor an address
        hint: did you mean `nodes`?

    a kind with a typo: exit 1
      error: --only nod.pack: neither a family nor an address
        hint: families: user, comfyui, nodes, python, models, shares, network; addresses: such as node.impact-pack or share.models

    a node of that name is not there: exit 1
      error: --only node.pakc: no such resource
        hint: did you mean `node.pack`?

    a share of that name is not there: exit 1
      error: --only share.outputs: no such resource
        hint: there is: share.models

    a selection that steers the terminal: exit 1
      error: --only \u{1b}[2J: neither a family nor an address
        hint: families: user, comfyui, nodes, python, models, shares, network; addresses: such as node.impact-pack or share.models

    an empty selection: exit 1
      error: --only : neither a family nor an address
        hint: families: user, comfyui, nodes, python, models, shares, network; addresses: such as node.impact-pack or share.models

    two selections in one: exit 1
      error: --only nodes,python: neither a family nor an address
        hint: one each: --only A --only B

    a host without a part of its own: exit 1
      error: --host macbok: comfy.toml has no [hosts.macbok]
        hint: comfy.toml has no [hosts.NAME] section at all: omit --host

    a model that lies in no share: exit 1
      error: "ROOT/x.safetensors" is not in a share that holds models
        hint: move it into one, or declare a share for its folder; model shares: models (ROOT/share/models)

    an unknown node to update: exit 1
      error: comfy.toml has no node `pakc`, and comfy.lock no package of that name
        hint: did you mean `pack`?

    a node to update, far from all: exit 1
      error: comfy.toml has no node `something-else`, and comfy.lock no package of that name
        hint: names are those of the [nodes.…] sections, `comfyui`, `python` for all packages, or one package

    nobody to say yes: exit 1
      error: cannot ask for approval of the apply: stdin is not a terminal
        hint: add --yes if you have read the plan

    a selection with a saved plan: exit 1
      error: the argument '--only <SEL>' cannot be used with '[PLANFILE]'

      Usage: comfy apply --only <SEL> [PLANFILE]

      For more information, try '--help'.

    a plan that is none: exit 1
      error: ROOT/garbage.plan: not a plan saved by comfy: expected value at line 1 column 1
        hint: save one with `comfy plan --out FILE`

    a plan of another version: exit 1
      error: ROOT/future.plan: not a plan saved by comfy: missing field `dir` at line 1 column 17
        hint: save one with `comfy plan --out FILE`

    a plan that is empty: exit 1
      error: ROOT/empty.plan: not a plan saved by comfy: EOF while parsing a value at line 1 column 0
        hint: save one with `comfy plan --out FILE`

    a plan that is not there: exit 1
      error: could not read ROOT/none.plan: No such file or directory (os error 2)

    a folder as plan: exit 1
      error: could not read ROOT: Is a directory (os error 21)

    a plan into a folder that is not there: exit 1
      error: could not write ROOT/none/x.plan: No such file or directory (os error 2)

    a second manifest: exit 1
      error: ROOT/project/comfy.toml already exists
        hint: edit it, or move it away first

    a bill of what comfy.toml does not say: exit 1
      error: comfy.toml:9:1: comfyui.ref is "v2", but comfy.lock was made for "v1"
          > ref = "v2"
        hint: run `comfy lock`; if you reverted comfy.lock alone, revert comfy.toml with it
    "#);
}

/// The folder itself, its files, and the environment.
#[test]
fn folders_and_surroundings() {
    let w = World::new();
    let lock = Some(w.lock.as_bytes());
    let mut s = String::new();
    let mut with = |name: &str, args: &[&str], change: &dyn Fn(&Path)| {
        let (exit, said) = w.run(GOOD, lock, &["lock", "--check"]);
        assert_eq!(exit, 0, "{said}");
        change(&w.dir());
        let (exit, said) = w.again(args);
        assert_eq!(exit, 1, "{name}: {said}");
        s += &w.row(name, exit, &said);
    };
    with("no comfy.toml", PLAN, &|d| {
        fs::remove_file(d.join("comfy.toml")).unwrap()
    });
    with("no folder", PLAN, &|d| fs::remove_dir_all(d).unwrap());
    with("a file as the folder", PLAN, &|d| {
        fs::remove_dir_all(d).unwrap();
        fs::write(d, "").unwrap();
    });
    with("comfy.toml is a folder", PLAN, &|d| {
        fs::remove_file(d.join("comfy.toml")).unwrap();
        fs::create_dir(d.join("comfy.toml")).unwrap();
    });
    with("comfy.toml is a link to nothing", PLAN, &|d| {
        fs::remove_file(d.join("comfy.toml")).unwrap();
        std::os::unix::fs::symlink("gone.toml", d.join("comfy.toml")).unwrap();
    });
    with("anyone may write comfy.toml", PLAN, &|d| {
        fs::set_permissions(d.join("comfy.toml"), fs::Permissions::from_mode(0o666)).unwrap()
    });
    with("anyone may write comfy.lock", PLAN, &|d| {
        fs::set_permissions(d.join("comfy.lock"), fs::Permissions::from_mode(0o646)).unwrap()
    });
    with("comfy.toml has a second name", PLAN, &|d| {
        fs::hard_link(d.join("comfy.toml"), d.join("other.toml")).unwrap()
    });
    with("comfy.lock is a folder", PLAN, &|d| {
        fs::remove_file(d.join("comfy.lock")).unwrap();
        fs::create_dir(d.join("comfy.lock")).unwrap();
    });
    with("comfy.lock is a link to nothing", PLAN, &|d| {
        fs::remove_file(d.join("comfy.lock")).unwrap();
        std::os::unix::fs::symlink("gone.lock", d.join("comfy.lock")).unwrap();
    });
    for (name, mirrors) in [
        ("a mirror without =", "https://github.com/"),
        (
            "a mirror that is a program",
            "https://github.com/=ext::sh -c id",
        ),
        (
            "a mirror over plain http",
            "https://github.com/=http://mirror.test/",
        ),
        ("a mirror of a folder", "/srv/=https://github.com/"),
    ] {
        w.run(GOOD, None, &["lock", "--check"]);
        let mut c = command(&w.root);
        let output = c
            .env("COMFY_MIRRORS", mirrors)
            .args(["-q", "-C"])
            .arg(w.dir())
            .arg("lock")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(!w.dir().join("comfy.lock").exists());
        s += &w.row(name, 1, &text(&output, &w.root));
    }
    insta::assert_snapshot!(s, @"
    no comfy.toml: exit 1
      error: ROOT/project does not contain a comfy.toml
        hint: give its folder with -C, or create one with `comfy init`

    no folder: exit 1
      error: could not open ROOT/project: No such file or directory (os error 2)

    a file as the folder: exit 1
      error: ROOT/project does not contain a comfy.toml
        hint: give its folder with -C, or create one with `comfy init`

    comfy.toml is a folder: exit 1
      error: ROOT/project/comfy.toml is not a regular file
        hint: put the real file there

    comfy.toml is a link to nothing: exit 1
      error: ROOT/project does not contain a comfy.toml
        hint: give its folder with -C, or create one with `comfy init`

    anyone may write comfy.toml: exit 1
      error: ROOT/project/comfy.toml can be written by others (mode 0666)
        hint: chmod go-w ROOT/project/comfy.toml

    anyone may write comfy.lock: exit 1
      error: ROOT/project/comfy.lock can be written by others (mode 0646)
        hint: chmod go-w ROOT/project/comfy.lock

    comfy.toml has a second name: exit 1
      error: ROOT/project/comfy.toml has 2 hard links
        hint: copy it: cp ROOT/project/comfy.toml ROOT/project/comfy.toml.new && mv ROOT/project/comfy.toml.new ROOT/project/comfy.toml

    comfy.lock is a folder: exit 1
      error: ROOT/project/comfy.lock is not a regular file
        hint: put the real file there

    comfy.lock is a link to nothing: exit 1
      error: could not read ROOT/project/comfy.lock: No such file or directory (os error 2)

    a mirror without =: exit 1
      error: COMFY_MIRRORS: `https://github.com/` has no `=`
        hint: write https://github.com/=file:///srv/git/

    a mirror that is a program: exit 1
      error: COMFY_MIRRORS: `https://github.com/=ext::sh -c id` must lead to file:///…, https://… or a loopback address
        hint: write https://github.com/=file:///srv/git/

    a mirror over plain http: exit 1
      error: COMFY_MIRRORS: `https://github.com/=http://mirror.test/` must lead to file:///…, https://… or a loopback address
        hint: write https://github.com/=file:///srv/git/

    a mirror of a folder: exit 1
      error: COMFY_MIRRORS: `/srv/=https://github.com/` must replace an https:// address
        hint: write https://github.com/=file:///srv/git/
    ");
}
