//! Python packages in the lock, from outside: the real uv, a package index on this machine, and
//! tiny wheels.
//!
//! A snapshot is a transcript: the command, all that it said, and its exit code where that is not
//! 0.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::index::{Fault, Index, Pages, release};
use crate::support::{
    CORE, File, Upstream, command, git_or_skip, report_skipped, text, without_ids,
};

/// A uv that runs: COMFY_UV, the one in PATH, or the one that comfy fetches. None: why not.
fn uv() -> Result<&'static Path, &'static str> {
    static UV: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    UV.get_or_init(|| {
        let path = std::env::var("PATH").unwrap_or_default();
        let own = std::env::var_os("COMFY_UV").map(PathBuf::from).into_iter();
        let mut known = own.chain(std::env::split_paths(&path).map(|d| d.join("uv")));
        let runs = |p: &PathBuf| {
            Command::new(p)
                .arg("--version")
                .stdout(Stdio::null())
                .status()
                .is_ok_and(|s| s.success())
        };
        known.find(runs).map_or_else(fetched, Ok)
    })
    .as_deref()
    .map_err(String::as_str)
}

/// The same; where there is none the test is skipped, and says so.
pub fn uv_or_skip() -> Option<PathBuf> {
    match uv() {
        Ok(uv) => Some(uv.to_path_buf()),
        Err(why) => {
            let name = std::thread::current()
                .name()
                .unwrap_or_default()
                .to_string();
            assert_ne!(
                std::env::var("COMFY_TEST_UV").as_deref(),
                Ok("required"),
                "{name} must run, and there is no uv: {why}"
            );
            report_skipped(&format!(
                "there is no uv, and it could not be fetched: {why}"
            ));
            None
        }
    }
}

/// The list of interpreters that uv is told to know: one, for this platform.
pub fn pythons(version: &str, url: &str, sha256: &str) -> String {
    let (os, arch, libc) = if cfg!(target_os = "macos") {
        ("darwin", "aarch64", "none")
    } else {
        ("linux", "x86_64", "gnu")
    };
    let number: Vec<&str> = version.split('.').collect();
    format!(
        r#"{{"cpython-{version}-{os}-{arch}-{libc}": {{"name": "cpython", "arch": {{"family": "{arch}", "variant": null}}, "os": "{os}", "libc": "{libc}",
        "major": {}, "minor": {}, "patch": {}, "prerelease": "", "url": "{url}", "sha256": "{sha256}", "variant": null, "build": null}}}}"#,
        number[0], number[1], number[2]
    )
}

/// Has comfy fetch uv from the real index, once: it is kept among what tests leave in the target
/// folder.
fn fetched() -> Result<PathBuf, String> {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().canonicalize().unwrap();
    upstream(&root, "ComfyUI", "").tag("v1");
    fs::create_dir(root.join("project")).unwrap();
    // For no Python that there is: uv answers without asking for packages.
    let toml = manifest(
        &root,
        &[],
        &python().1,
        "requirements = [\"nothing ; python_version < '3'\"]\n",
    );
    fs::write(root.join("project/comfy.toml"), toml).unwrap();
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    let mut c = command(&root);
    for name in [
        "UV_DEFAULT_INDEX",
        "UV_INDEX_URL",
        "PIP_INDEX_URL",
        "https_proxy",
        "HTTPS_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
        "SSL_CERT_FILE",
    ] {
        c.envs(std::env::var_os(name).map(|v| (name, v)));
    }
    let output = c
        .current_dir(&root)
        .args(["-q", "-C", "project", "lock"])
        .env("XDG_CACHE_HOME", &cache)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let kept = fs::read_dir(cache.join("comfy"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path().join("uv"))
        .find(|p| p.is_file());
    kept.ok_or_else(|| text(&output, &root))
}

/// The folder and the minor version of the machine's python3: the system's, which comfy takes first.
pub fn python() -> &'static (PathBuf, String) {
    static PYTHON: OnceLock<(PathBuf, String)> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let ask = "import sys; print(sys.executable); print('%d.%d' % sys.version_info[:2])";
        let system = ["/opt/homebrew/bin/python3", "/usr/bin/python3"];
        let system = system.iter().find(|p| Path::new(p).exists());
        let output = Command::new(system.unwrap_or(&"python3"))
            .args(["-c", ask])
            .output()
            .expect("the tests need a python3");
        let said = String::from_utf8(output.stdout).unwrap();
        let (program, version) = said.trim().split_once('\n').expect("a python3 that runs");
        (Path::new(program).parent().unwrap().into(), version.into())
    })
}

fn upstream(root: &Path, name: &str, requirements: &str) -> Upstream {
    let up = Upstream::new(&root.join("upstream"), &format!("up/{name}"));
    commit(&up, name, requirements);
    up
}

/// One more commit, with these requirements.
fn commit(up: &Upstream, name: &str, requirements: &str) -> String {
    let mut files: Vec<File> = if name == "ComfyUI" {
        CORE.to_vec()
    } else {
        vec![("__init__.py", b"NODE_CLASS_MAPPINGS = {}\n", 0o100_644)]
    };
    if !requirements.is_empty() {
        files.push(("requirements.txt", requirements.as_bytes(), 0o100_644));
    }
    up.commit(&files)
}

fn manifest(root: &Path, nodes: &[&str], version: &str, python: &str) -> String {
    let root = root.display();
    let mut out = format!(
        "version = 1\n\n[host]\nisolation = \"none\"\nprefix = \
         \"{root}/prefix\"\n\n[comfyui]\nrepo = \"https://github.com/up/ComfyUI\"\nref = \"v1\"\n"
    );
    for n in nodes {
        out += &format!("\n[nodes.{n}]\nrepo = \"https://github.com/up/{n}\"\nref = \"main\"\n");
    }
    out + &format!("\n[python]\nversion = \"{version}\"\n{python}")
}

/// Upstream repositories, a project, and two indexes: the default one, and one that is asked only
/// where comfy.toml says so.
pub struct World {
    pub root: PathBuf,
    pub uv: PathBuf,
    pub index: Index,
    pub second: Index,
    upstreams: Vec<(String, Upstream)>,
    _temp: tempfile::TempDir,
}

impl World {
    /// What ComfyUI asks for, and each node. None where there is no uv, and says so.
    pub fn new(core: &str, nodes: &[(&str, &str)]) -> Option<World> {
        let uv = uv_or_skip()?;
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        let mut upstreams = Vec::new();
        for (name, requirements) in [("ComfyUI", core)].iter().chain(nodes) {
            upstreams.push(((*name).to_string(), upstream(&root, name, requirements)));
        }
        upstreams[0].1.tag("v1");
        fs::create_dir(root.join("project")).unwrap();
        fs::write(
            root.join("pythons.json"),
            pythons(
                &format!("{}.99", python().1),
                "https://python.invalid/x.tar.gz",
                &"0".repeat(64),
            ),
        )
        .unwrap();
        let world = World {
            root,
            uv,
            index: Index::start(Pages::Json),
            second: Index::start(Pages::Json),
            upstreams,
            _temp: temp,
        };
        world.python("");
        Some(world)
    }

    /// comfy.toml, with these lines in `[python]`.
    pub fn python(&self, lines: &str) {
        let nodes: Vec<&str> = self.upstreams[1..]
            .iter()
            .map(|(n, _)| n.as_str())
            .collect();
        fs::write(
            self.toml(),
            manifest(&self.root, &nodes, &python().1, lines),
        )
        .unwrap();
    }

    /// comfy.toml with one place changed.
    pub fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.toml()).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(self.toml(), text.replacen(from, to, 1)).unwrap();
    }

    /// A node's next commit.
    pub fn commit(&self, name: &str, requirements: &str) {
        let up = self.upstreams.iter().find(|(n, _)| n == name).unwrap();
        commit(&up.1, name, requirements);
    }

    /// A node's next commit, of these files.
    pub fn commit_files(&self, name: &str, files: &[File]) {
        self.upstreams
            .iter()
            .find(|(n, _)| n == name)
            .unwrap()
            .1
            .commit(files);
    }

    pub fn toml(&self) -> PathBuf {
        self.root.join("project/comfy.toml")
    }

    pub fn lock_file(&self) -> PathBuf {
        self.root.join("project/comfy.lock")
    }

    /// The bytes of comfy.lock, empty where there is none.
    pub fn lock(&self) -> String {
        fs::read_to_string(self.lock_file()).unwrap_or_default()
    }

    /// The packages of comfy.lock, without what differs.
    pub fn normal_lock(&self) -> String {
        let lock = self.lock();
        let from = lock.find("[[python.packages]]").unwrap();
        self.normal(&lock[from..])
    }

    /// `name version` of every locked package.
    pub fn pins(&self) -> String {
        let lock: toml::Table = self.lock().parse().unwrap();
        let packages = lock["python"]
            .get("packages")
            .and_then(|p| p.as_array())
            .cloned()
            .unwrap_or_default();
        packages
            .iter()
            .map(|p| {
                format!(
                    "{} {}",
                    p["name"].as_str().unwrap(),
                    p["version"].as_str().unwrap()
                )
            })
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// What a person sees who runs these; a failure leaves comfy.lock as it is.
    pub fn run(&self, commands: &[&str]) -> String {
        commands
            .iter()
            .map(|c| self.one(c))
            .collect::<Vec<_>>()
            .join("\n")
    }

    pub fn one(&self, args: &str) -> String {
        self.with(args, |_| ())
    }

    pub fn with(&self, args: &str, change: impl FnOnce(&mut Command)) -> String {
        let before = self.lock();
        let mut c = command(&self.root);
        let path = format!(
            "{}:{}",
            python().0.display(),
            std::env::var("PATH").unwrap_or_default()
        );
        c.current_dir(&self.root)
            .args(["-C", "project"])
            .args(args.split(' '))
            .stdin(Stdio::null());
        c.env("PATH", path)
            .env("COMFY_UV", &self.uv)
            .env("UV_DEFAULT_INDEX", self.index.url())
            .env("UV_CACHE_DIR", self.root.join("uv"));
        c.env(
            "UV_PYTHON_DOWNLOADS_JSON_URL",
            self.root.join("pythons.json"),
        );
        change(&mut c);
        let output = c.output().unwrap();
        let exit = output.status.code().unwrap_or(-1);
        if exit != 0 {
            assert_eq!(self.lock(), before, "{args} failed and changed comfy.lock");
        }
        let said = self.normal(&text(&output, &self.root));
        let note = "isolation = \"none\": ComfyUI and its nodes have all your rights; nothing is \
            protected.";
        let said: String = said
            .lines()
            .filter(|l| *l != note)
            .map(|l| format!("{l}\n"))
            .collect();
        format!(
            "$ comfy {args}\n{said}{}",
            if exit == 0 {
                String::new()
            } else {
                format!("exit {exit}\n")
            }
        )
    }

    /// Without what differs from run to run, or from machine to machine.
    fn normal(&self, text: &str) -> String {
        let mut out = text.replace(&self.root.display().to_string(), "ROOT");
        for f in self.index.files().iter().chain(&self.second.files()) {
            let right = format!(
                "\"{}\", sha256 = \"{}\", size = {}",
                f.name,
                f.sha256(),
                f.bytes.len()
            );
            out = out.replace(&right, &format!("\"{}\", its sha256 and size", f.name));
        }
        out = out
            .replace(&self.index.host(), "INDEX")
            .replace(&self.second.host(), "SECOND");
        without_ids(
            &out.replace(&next_python(), "NEXT_PYTHON")
                .replace(&python().1, "PYTHON"),
            &[40, 7],
        )
    }
}

/// The minor version of Python after the one that the tests run.
fn next_python() -> String {
    format!("3.{}", python().1[2..].parse::<u32>().unwrap() + 1)
}

/// ComfyUI and two nodes that agree.
fn three() -> Option<World> {
    let w = World::new(
        "# as ComfyUI has it\nnumpy>=1.25\nPillow\n",
        &[
            ("a", "numpy\nscipy>=1.0  # fast\n"),
            ("b", "Pillow\ntqdm\n"),
        ],
    )?;
    w.index
        .wheels(&[("numpy", "1.26.4"), ("pillow", "10.0"), ("tqdm", "4.0")]);
    w.index
        .add(release("scipy", "1.1").requires("numpy").wheel());
    Some(w)
}

#[test]
fn lock_pins_packages_with_hashes_and_no_address() {
    let Some(w) = three() else { return };
    let mut said = w.run(&["lock"]);
    let lock = w.lock();
    let place = w.lock_file().metadata().unwrap().modified().unwrap();
    said += "\n";
    said += &w.run(&["lock", "lock --check"]);
    assert_eq!(w.lock(), lock);
    assert_eq!(
        w.lock_file().metadata().unwrap().modified().unwrap(),
        place,
        "written again"
    );
    assert!(
        !lock.contains("127.0.0.1") && !lock.contains(&w.index.host()),
        "{lock}"
    );
    insta::assert_snapshot!(said, @"
    $ comfy lock
    Added comfyui COMMIT
    Added a COMMIT
    Added b COMMIT
    Added numpy 1.26.4
    Added pillow 10.0
    Added scipy 1.1
    Added tqdm 4.0
    Locked 3 repositories, 4 Python packages in comfy.lock.

    $ comfy lock
    comfy.lock is up to date (3 repositories, 4 Python packages).

    $ comfy lock --check
    comfy.lock matches comfy.toml (3 repositories, 4 Python packages).
    ");
    insta::assert_snapshot!(w.normal(&lock), @r#"
    # Made by `comfy lock`. Commit it beside comfy.toml; comfy alone writes it.
    version = 1

    [comfyui]
    repo = "https://github.com/up/ComfyUI"
    ref = "v1"
    commit = "COMMIT"
    tree = "COMMIT"
    requirements = [
        "requirements.txt:2 numpy>=1.25",
        "requirements.txt:3 Pillow",
    ]

    [nodes.a]
    repo = "https://github.com/up/a"
    ref = "main"
    commit = "COMMIT"
    tree = "COMMIT"
    requirements = [
        "requirements.txt:1 numpy",
        "requirements.txt:2 scipy>=1.0",
    ]

    [nodes.b]
    repo = "https://github.com/up/b"
    ref = "main"
    commit = "COMMIT"
    tree = "COMMIT"
    requirements = [
        "requirements.txt:1 Pillow",
        "requirements.txt:2 tqdm",
    ]

    [python]
    version = "PYTHON"
    managed = "PYTHON.99"

    [[python.packages]]
    name = "numpy"
    version = "1.26.4"
    by = ["comfyui", "node.a", "scipy"]
    wheels = [
        { file = "numpy-1.26.4-py3-none-any.whl", its sha256 and size },
    ]

    [[python.packages]]
    name = "pillow"
    version = "10.0"
    by = ["comfyui", "node.b"]
    wheels = [
        { file = "pillow-10.0-py3-none-any.whl", its sha256 and size },
    ]

    [[python.packages]]
    name = "scipy"
    version = "1.1"
    by = ["node.a"]
    wheels = [
        { file = "scipy-1.1-py3-none-any.whl", its sha256 and size },
    ]

    [[python.packages]]
    name = "tqdm"
    version = "4.0"
    by = ["node.b"]
    wheels = [
        { file = "tqdm-4.0-py3-none-any.whl", its sha256 and size },
    ]
    "#);
}

#[test]
fn a_new_release_is_taken_by_update_only() {
    let Some(w) = three() else { return };
    w.run(&["lock"]);
    w.index
        .wheels(&[("numpy", "2.0"), ("pillow", "11.0"), ("tqdm", "5.0")]);
    let mut said = w.run(&["lock"]);
    // A change of the question keeps the pins that still fit.
    w.python("requirements = [\"einops\"]\n");
    w.index.wheels(&[("einops", "0.8")]);
    said += "\n";
    said += &w.run(&["lock"]);
    said += &format!("{}\n\n", w.pins());
    // The name as requirements.txt has it.
    said += &w.run(&["update -n python", "update Pillow"]);
    said += &format!("{}\n\n", w.pins());
    said += &w.run(&["update python"]);
    said += &format!("{}\n\n", w.pins());
    said += &w.run(&["update python", "update nump"]);
    insta::assert_snapshot!(said, @"
    $ comfy lock
    comfy.lock is up to date (3 repositories, 4 Python packages).

    $ comfy lock
    Added einops 0.8
    Locked 3 repositories, 5 Python packages in comfy.lock.
    einops 0.8, numpy 1.26.4, pillow 10.0, scipy 1.1, tqdm 4.0

    $ comfy update -n python
    Would update numpy 1.26.4 -> 2.0
    Would update pillow 10.0 -> 11.0
    Would update tqdm 4.0 -> 5.0

    $ comfy update Pillow
    Updated pillow 10.0 -> 11.0
    Wrote comfy.lock. Review it with `comfy plan`, then commit it.
    einops 0.8, numpy 1.26.4, pillow 11.0, scipy 1.1, tqdm 4.0

    $ comfy update python
    Updated numpy 1.26.4 -> 2.0
    Updated tqdm 4.0 -> 5.0
    Wrote comfy.lock. Review it with `comfy plan`, then commit it.
    einops 0.8, numpy 2.0, pillow 11.0, scipy 1.1, tqdm 5.0

    $ comfy update python
    Nothing newer for python.

    $ comfy update nump
    error: comfy.toml has no node `nump`, and comfy.lock no package of that name
      hint: did you mean `numpy`?
    exit 1
    ");
}

#[test]
fn another_minor_version_of_python_keeps_the_pins_that_still_fit() {
    let Some(w) = three() else { return };
    w.run(&["lock"]);
    w.index.wheels(&[("numpy", "2.0"), ("pillow", "11.0")]);
    let version = format!("version = \"{}\"\n", python().1);
    w.edit(&version, &format!("version = \"{}\"\n", next_python()));
    w.run(&["lock"]);
    insta::assert_snapshot!(w.pins(), @"numpy 1.26.4, pillow 10.0, scipy 1.1, tqdm 4.0");
}

#[test]
fn a_conflict_says_who_asked_and_what_settles_it() {
    let Some(w) = World::new(
        "numpy\n",
        &[
            ("new", "\n# comment\nnumpy>=2\n"),
            ("old", "scipy\nnumpy<2\n"),
        ],
    ) else {
        return;
    };
    w.index
        .wheels(&[("numpy", "1.26.4"), ("numpy", "2.1"), ("scipy", "1.1")]);
    let mut said = w.run(&["lock"]);
    w.python("overrides = [\"numpy>=2\"]\n");
    said += "\n";
    said += &w.run(&["lock", "lock --check"]);
    said += &format!("{}\n", w.pins());
    insta::assert_snapshot!(said, @r#"
    $ comfy lock
    error: Python packages: No solution found when resolving dependencies for split (markers: platform_machine == 'arm64' and sys_platform == 'darwin')
        Because node.new depends on numpy>=2 and node.old depends on numpy<2, we can conclude that node.new and node.old are incompatible.
        And because comfy.lock has to serve node.new and node.old, we can conclude that no set of packages fits all.
        Who asked:
          comfyui  requirements.txt:1  numpy
          node.new  requirements.txt:3  numpy>=2
          node.old  requirements.txt:2  numpy<2
      hint: one of them has to give way: [python] overrides = ["numpy<2"]  or  overrides = ["numpy>=2"]
    exit 1

    $ comfy lock
    Added comfyui COMMIT
    Added new COMMIT
    Added old COMMIT
    Added numpy 2.1
    Added scipy 1.1
    Locked 3 repositories, 2 Python packages in comfy.lock.

    $ comfy lock --check
    comfy.lock matches comfy.toml (3 repositories, 2 Python packages).
    numpy 2.1, scipy 1.1
    "#);
}

#[test]
fn a_conflict_through_another_package_says_who_asked() {
    let Some(w) = World::new("numpy>=2\n", &[("old", "tool==1.0\n")]) else {
        return;
    };
    w.index.wheels(&[("numpy", "1.26.4"), ("numpy", "2.1")]);
    w.index
        .add(release("tool", "1.0").requires("numpy<2").wheel());
    let mut said = w.run(&["lock"]);
    w.python("overrides = [\"numpy>=2\"]\n");
    said += "\n";
    said += &w.run(&["lock"]);
    insta::assert_snapshot!(said, @r#"
    $ comfy lock
    error: Python packages: No solution found when resolving dependencies for split (markers: platform_machine == 'arm64' and sys_platform == 'darwin')
        Because all versions of tool depend on numpy<2 and node.old depends on tool==1.0, we can conclude that node.old depends on numpy<2.
        And because comfyui depends on numpy>=2, we can conclude that comfyui and node.old are incompatible.
        And because comfy.lock has to serve comfyui and node.old, we can conclude that no set of packages fits all.
        Who asked:
          comfyui  requirements.txt:1  numpy>=2
          node.old  requirements.txt:1  tool==1.0
      hint: one of them has to give way: [python] overrides = ["numpy<2"]  or  overrides = ["numpy>=2"]
    exit 1

    $ comfy lock
    Added comfyui COMMIT
    Added old COMMIT
    Added numpy 2.1
    Added tool 1.0
    Locked 2 repositories, 2 Python packages in comfy.lock.
    "#);
}

#[test]
fn lines_that_decide_for_everybody_are_refused_and_can_be_left_out() {
    let bad = "tqdm\ngit+https://github.com/x/y\n-e .\n--extra-index-url \
        https://evil.test/simple\n-r more.txt\n";
    let Some(w) = World::new("", &[("bad", bad)]) else {
        return;
    };
    w.index.wheels(&[("tqdm", "4.0")]);
    let mut said = w.run(&["lock"]);
    let ignore = "ignore_requirements = [\"git+https://github.com/x/y\", \"-e .\", \
        \"--extra-index-url https://evil.test/simple\", \"-r more.txt\", \"never-there\"]";
    w.edit("[nodes.bad]\n", &format!("[nodes.bad]\n{ignore}\n"));
    said += "\n";
    said += &w.run(&["lock", "lock --check"]);
    said += &format!("{}\n", w.pins());
    insta::assert_snapshot!(said, @r#"
    $ comfy lock
    error: node.bad: requirements.txt:2: `git+https://github.com/x/y` is an address, but comfy pins only released wheels
    error: node.bad: requirements.txt:3: `-e .` requires building a package from source
      hint: if it is released as a package, name that in [python] requirements
    error: node.bad: requirements.txt:4: `--extra-index-url https://evil.test/simple` is an option, which would change for all parts where packages come from
      hint: if packages must come from there: [python] indexes = [{ name = "…", url = "https://…", packages = ["…"] }]
    error: node.bad: requirements.txt:5: `-r more.txt` names a file that its repository does not have
      hint: what you need from it belongs in [python] requirements
      hint: with this in comfy.toml it locks: [nodes.bad] ignore_requirements = ["git+https://github.com/x/y", "-e .", "--extra-index-url https://evil.test/simple", "-r more.txt"]
    exit 1

    $ comfy lock
    Added comfyui COMMIT
    Added bad COMMIT
        scan: 2 medium
    Added tqdm 4.0
    warning: node.bad: ignore_requirements names `never-there`, which its requirements do not have
    Locked 2 repositories, 1 Python package in comfy.lock.

    $ comfy lock --check
    comfy.lock matches comfy.toml (2 repositories, 1 Python package).
    tqdm 4.0
    "#);
}

#[test]
fn what_has_no_wheel_is_refused() {
    let Some(w) = World::new("numpy\n", &[("a", "tqdm\nsource-only>=1\n")]) else {
        return;
    };
    w.index.wheels(&[("numpy", "1.26.4"), ("tqdm", "4.0")]);
    w.index.add(release("source-only", "1.5").sdist());
    let mut said = w.run(&["lock"]);
    w.edit(
        "[nodes.a]\n",
        "[nodes.a]\nignore_requirements = [\"source-only>=1\"]\n",
    );
    said += "\n";
    said += &w.run(&["lock"]);
    said += &format!("{}\n\n", w.pins());
    // An older release that has one is taken.
    w.edit("ignore_requirements = [\"source-only>=1\"]\n", "");
    w.index.add(release("source-only", "1.4").wheel());
    said += &w.run(&["lock"]);
    said += &format!("{}\n", w.pins());
    insta::assert_snapshot!(said, @r#"
    $ comfy lock
    error: Python packages: source-only has no wheel, and comfy builds nothing from source
          node.a  requirements.txt:2  source-only>=1
      hint: with this in comfy.toml it locks: [nodes.a] ignore_requirements = ["source-only"]
    exit 1

    $ comfy lock
    Added comfyui COMMIT
    Added a COMMIT
    Added numpy 1.26.4
    Added tqdm 4.0
    Locked 2 repositories, 2 Python packages in comfy.lock.
    numpy 1.26.4, tqdm 4.0

    $ comfy lock
    Added source-only 1.4
    Locked 2 repositories, 3 Python packages in comfy.lock.
    numpy 1.26.4, source-only 1.4, tqdm 4.0
    "#);
}

#[test]
fn a_package_for_one_platform_needs_a_marker_or_is_refused() {
    if !git_or_skip() {
        return;
    }
    let linux = "py3-none-manylinux_2_17_x86_64";
    let Some(w) = World::new("numpy\n", &[("gpu", "fast-gpu\n")]) else {
        return;
    };
    w.index.wheels(&[("numpy", "1.26.4")]);
    w.index.add(release("fast-gpu", "1.0").tag(linux).wheel());
    let mut said = w.run(&["lock"]);
    w.python("overrides = [\"fast-gpu ; sys_platform == 'linux'\"]\n");
    said += "\n";
    said += &w.run(&["lock"]);
    let overridden = w.pins();
    w.python("");
    w.commit("gpu", "fast-gpu ; sys_platform == 'linux'\n");
    said += "\n";
    said += &w.run(&["update gpu"]);
    assert_eq!(w.pins(), overridden);
    let lock = w.lock();
    said += &w.normal(&lock[lock.find("\n[[python.packages]]").unwrap()..]);
    insta::assert_snapshot!(said, @r#"
    $ comfy lock
    error: Python packages: fast-gpu has no wheel for macos-arm64
          node.gpu  requirements.txt:1  fast-gpu
      hint: with this in comfy.toml it locks: [python] overrides = ["fast-gpu ; sys_platform == 'linux'"]
    exit 1

    $ comfy lock
    Added comfyui COMMIT
    Added gpu COMMIT
    Added fast-gpu 1.0
    Added numpy 1.26.4
    Locked 2 repositories, 2 Python packages in comfy.lock.

    $ comfy update gpu
    Updated gpu COMMIT -> COMMIT (1 commit)
        COMMIT a commit (upstream)
    Wrote comfy.lock. Review it with `comfy plan`, then commit it.

    [[python.packages]]
    name = "fast-gpu"
    version = "1.0"
    platforms = ["linux-x86_64"]
    by = ["node.gpu"]
    wheels = [
        { file = "fast_gpu-1.0-py3-none-manylinux_2_17_x86_64.whl", its sha256 and size },
    ]

    [[python.packages]]
    name = "numpy"
    version = "1.26.4"
    by = ["comfyui"]
    wheels = [
        { file = "numpy-1.26.4-py3-none-any.whl", its sha256 and size },
    ]
    "#);
}

#[test]
fn a_release_has_to_be_some_days_old() {
    let Some(w) = World::new("tqdm\n", &[]) else {
        return;
    };
    let hours = |n| chrono::Utc::now() - chrono::Duration::hours(n);
    w.index
        .add(release("tqdm", "5.0").wheel().published(hours(1)));
    let mut said = w.run(&["lock"]);
    w.index
        .add(release("tqdm", "4.0").wheel().published(hours(24 * 10)));
    said += "\n";
    said += &w.run(&["lock", "update"]);
    said += &format!("{}\n\n", w.pins());
    w.python("minimum_age = \"0\"\n");
    said += &w.run(&["lock --check", "lock", "update"]);
    said += &format!("{}\n", w.pins());
    insta::assert_snapshot!(said, @"
    $ comfy lock
    error: Python packages: No solution found when resolving dependencies for split (markers: \
        platform_machine == 'arm64' and sys_platform == 'darwin')
        Because there are no versions of tqdm and comfyui depends on tqdm, we can conclude that \
        what comfyui asks for cannot be had.
        And because comfy.lock has to serve comfyui, we can conclude that no set of packages fits \
        all.
        Who asked:
          comfyui  requirements.txt:1  tqdm
      hint: what there is of tqdm is younger than [python] minimum_age: wait, or make that shorter
    exit 1

    $ comfy lock
    Added comfyui COMMIT
    Added tqdm 4.0
    Locked 1 repository, 1 Python package in comfy.lock.

    $ comfy update
    Everything is up to date.
    tqdm 4.0

    $ comfy lock --check
    comfy.lock matches comfy.toml (1 repository, 1 Python package).

    $ comfy lock
    comfy.lock is up to date (1 repository, 1 Python package).

    $ comfy update
    Updated tqdm 4.0 -> 5.0
    Wrote comfy.lock. Review it with `comfy plan`, then commit it.
    tqdm 5.0
    ");
}

#[test]
fn a_lock_for_another_question_is_refused() {
    let Some(w) = three() else { return };
    w.run(&["lock"]);
    let good = fs::read_to_string(w.toml()).unwrap();
    let lock = w.lock();
    let mut said = String::new();
    let version = format!("version = \"{}\"\n", python().1);
    let next = format!("version = \"{}\"\n", next_python());
    for (from, to) in [
        ("[python]\n", "[python]\noverrides = [\"numpy<2\"]\n"),
        ("[python]\n", "[python]\nrequirements = [\"einops\"]\n"),
        (version.as_str(), next.as_str()),
        (
            "[python]\n",
            "[python]\nindexes = \
             [{ name = \"cu\", url = \"https://x.test/simple\", packages = [\"torch\"] }]\n",
        ),
        (
            "[nodes.a]\n",
            "[nodes.a]\nignore_requirements = [\"scipy>=1.0\"]\n",
        ),
        // What does not change the answer.
        ("[python]\n", "[python]\nminimum_age = \"9 days\"\n"),
    ] {
        w.edit(from, to);
        said += &format!("# {}", w.normal(to.trim_start_matches(from)));
        let plan = w.run(&["plan"]);
        let refused = plan.ends_with("exit 1\n");
        said += &if refused { plan } else { "(a plan)\n".into() };
        assert_eq!(
            refused,
            w.run(&["lock --check"]).ends_with("exit 2\n"),
            "{to}"
        );
        assert_eq!(w.lock(), lock);
        fs::write(w.toml(), &good).unwrap();
    }
    said += "# overrides taken away\n";
    w.edit("[python]\n", "[python]\noverrides = [\"numpy<2\"]\n");
    w.run(&["lock"]);
    fs::write(w.toml(), &good).unwrap();
    said += &w.run(&["plan"]);
    insta::assert_snapshot!(said, @r#"
    # overrides = ["numpy<2"]
    $ comfy plan
    error: comfy.toml:20:1: python.overrides does not match comfy.lock
      hint: run `comfy lock`
    exit 1
    # requirements = ["einops"]
    $ comfy plan
    error: comfy.toml:20:1: python.requirements does not match comfy.lock
      hint: run `comfy lock`
    exit 1
    # version = "NEXT_PYTHON"
    $ comfy plan
    error: comfy.toml:20:1: python.version does not match comfy.lock
      hint: run `comfy lock`
    exit 1
    # indexes = [{ name = "cu", url = "https://x.test/simple", packages = ["torch"] }]
    $ comfy plan
    error: comfy.toml:20:1: python.indexes does not match comfy.lock
      hint: run `comfy lock`
    exit 1
    # ignore_requirements = ["scipy>=1.0"]
    $ comfy plan
    error: comfy.toml:12:1: nodes.a.ignore_requirements does not match comfy.lock
      hint: run `comfy lock`
    exit 1
    # minimum_age = "9 days"
    (a plan)
    # overrides taken away
    $ comfy plan
    error: comfy.toml:19:2: python.overrides does not match comfy.lock
      hint: run `comfy lock`
    exit 1
    "#);
}

#[test]
fn a_lock_of_an_older_comfy_gets_its_packages_and_keeps_its_pins() {
    let Some(w) = three() else { return };
    w.run(&["lock"]);
    let whole = w.lock();
    // As it was written before comfy looked at Python.
    let mut inside = false;
    let old: String = whole[..whole.find("\n[python]").unwrap()]
        .lines()
        .filter(|l| {
            inside |= *l == "requirements = [";
            let keep = !inside;
            inside &= *l != "]";
            keep
        })
        .map(|l| format!("{l}\n"))
        .collect();
    assert!(!old.contains("numpy"), "{old}");
    fs::write(w.lock_file(), old).unwrap();
    w.commit("a", "torch\n");
    w.commit("b", "torch\n");
    let said = w.run(&["plan", "lock --check", "lock"]);
    assert_eq!(w.lock(), whole);
    insta::assert_snapshot!(said, @"
    $ comfy plan
    error: comfy.lock holds no Python packages: an older comfy wrote it
      hint: run `comfy lock`
    exit 1

    $ comfy lock --check
    error: comfy.lock holds no Python packages: an older comfy wrote it
      hint: run `comfy lock`
    exit 2

    $ comfy lock
    Added Python PYTHON
    Added the interpreter PYTHON.99
    Added numpy 1.26.4
    Added pillow 10.0
    Added scipy 1.1
    Added tqdm 4.0
    Locked 3 repositories, 4 Python packages in comfy.lock.
    ");
}

#[test]
fn what_a_person_should_know_of_the_packages() {
    let nodes = [
        ("a", "opencv-python\n"),
        ("b", "opencv-python-headless>=4\nnumpy<2\n"),
        ("c", "scipy\n"),
    ];
    let Some(w) = World::new("numpy>=1.25\n", &nodes) else {
        return;
    };
    w.index.wheels(&[("numpy", "1.26.4"), ("numpy", "2.1")]);
    w.index
        .add(release("scipy", "1.1").requires("numpy>=1").wheel());
    for name in ["opencv-python", "opencv-python-headless"] {
        w.index.add(
            release(name, "4.9")
                .file("cv2/__init__.py", b"")
                .requires("numpy")
                .wheel(),
        );
    }
    let mut said = w.run(&["lock", "lock"]);
    w.python("overrides = [\"opencv-python-headless ; python_version < '0'\"]\n");
    said += "\n";
    said += &w.run(&["lock"]);
    insta::assert_snapshot!(said, @r#"
    $ comfy lock
    Added comfyui COMMIT
    Added a COMMIT
    Added b COMMIT
    Added c COMMIT
    Added numpy 1.26.4
    Added opencv-python 4.9
    Added opencv-python-headless 4.9
    Added scipy 1.1
    warning: numpy 1.26.4: node.b asks for `numpy<2` (requirements.txt:2), which holds it for 4 others
    warning: opencv-python (asked by node.a) and opencv-python-headless (asked by node.b) install the same files, `cv2`; to have those of opencv-python-headless alone: [python] overrides = ["opencv-python ; python_version < '0'"]
    Locked 4 repositories, 4 Python packages in comfy.lock.

    $ comfy lock
    comfy.lock is up to date (4 repositories, 4 Python packages).

    $ comfy lock
    Removed opencv-python-headless 4.9
    warning: numpy 1.26.4: node.b asks for `numpy<2` (requirements.txt:2), which holds it for 3 others
    Locked 4 repositories, 3 Python packages in comfy.lock.
    "#);
}

#[test]
fn an_index_that_is_down() {
    let Some(mut w) = World::new("numpy\n", &[]) else {
        return;
    };
    w.index.wheels(&[("numpy", "1.26.4")]);
    w.run(&["lock"]);
    w.index = Index::down();
    // What is locked needs no index.
    let mut said = w.run(&["lock", "lock --check"]);
    w.python("requirements = [\"numpy>=1\"]\n");
    said += "\n";
    // How long uv tried, and the system's number for the reason, are not comfy's.
    for line in w.run(&["lock"]).lines() {
        let line = line
            .split(" after ")
            .next()
            .unwrap()
            .split(" (os error")
            .next()
            .unwrap();
        said += &format!("{line}\n");
    }
    insta::assert_snapshot!(said, @"
    $ comfy lock
    comfy.lock is up to date (1 repository, 1 Python package).

    $ comfy lock --check
    comfy.lock matches comfy.toml (1 repository, 1 Python package).

    $ comfy lock
    error: Python packages: Request failed
        Failed to fetch: http://INDEX/simple/numpy/
        error sending request for url (http://INDEX/simple/numpy/)
        client error (Connect)
        tcp connect error
        Connection refused
      hint: the package index did not answer, and nothing was changed: check the network, \
        HTTPS_PROXY and UV_DEFAULT_INDEX, and run it again
    exit 1
    ");
}

#[test]
fn a_named_index_serves_its_packages_and_no_others() {
    let Some(w) = World::new("numpy\nTorch_X\n", &[("a", "audio-x\n")]) else {
        return;
    };
    w.index.wheels(&[
        ("numpy", "1.26.4"),
        ("torch-x", "9.0"),
        ("audio-x", "1.0"),
        ("other", "1.0"),
    ]);
    w.second
        .wheels(&[("numpy", "9.9"), ("other", "9.9"), ("audio-x", "9.9")]);
    w.second
        .add(release("torch-x", "2.0+cu128").requires("other").wheel());
    w.python(&format!(
        "indexes = [{{ name = \"cu\", url = \"{}\", packages = [\"torch.X\"] }}]\n",
        w.second.url()
    ));
    let mut said = w.run(&["lock"]);
    said += &format!(
        "{}\nasked of the second: {:?}\n",
        w.pins(),
        w.second.asked()
    );
    assert!(
        !w.index.asked().contains(&"torch-x".into()),
        "asked of the default index too"
    );
    let lock = w.lock();
    said += &w.normal(&lock[lock.find("\n[python]").unwrap()..]);
    // The pin is kept though a later release is there.
    w.second
        .add(release("torch-x", "2.1+cu128").requires("other").wheel());
    w.index.wheels(&[("einops", "0.8")]);
    w.edit("[python]\n", "[python]\nrequirements = [\"einops\"]\n");
    said += "\n";
    said += &w.run(&["lock", "update torch-x"]);
    insta::assert_snapshot!(said, @r#"
    $ comfy lock
    Added comfyui COMMIT
    Added a COMMIT
    Added audio-x 1.0
    Added numpy 1.26.4
    Added other 1.0
    Added torch-x 2.0+cu128
    Locked 2 repositories, 4 Python packages in comfy.lock.
    audio-x 1.0, numpy 1.26.4, other 1.0, torch-x 2.0+cu128
    asked of the second: ["torch-x"]

    [python]
    version = "PYTHON"
    managed = "PYTHON.99"

    [[python.indexes]]
    name = "cu"
    url = "http://SECOND/simple"
    packages = ["torch.X"]

    [[python.packages]]
    name = "audio-x"
    version = "1.0"
    by = ["node.a"]
    wheels = [
        { file = "audio_x-1.0-py3-none-any.whl", its sha256 and size },
    ]

    [[python.packages]]
    name = "numpy"
    version = "1.26.4"
    by = ["comfyui"]
    wheels = [
        { file = "numpy-1.26.4-py3-none-any.whl", its sha256 and size },
    ]

    [[python.packages]]
    name = "other"
    version = "1.0"
    by = ["torch-x"]
    wheels = [
        { file = "other-1.0-py3-none-any.whl", its sha256 and size },
    ]

    [[python.packages]]
    name = "torch-x"
    version = "2.0+cu128"
    index = "cu"
    by = ["comfyui"]
    wheels = [
        { file = "torch_x-2.0+cu128-py3-none-any.whl", its sha256 and size },
    ]

    $ comfy lock
    Added einops 0.8
    Locked 2 repositories, 5 Python packages in comfy.lock.

    $ comfy update torch-x
    Updated torch-x 2.0+cu128 -> 2.1+cu128
    Wrote comfy.lock. Review it with `comfy plan`, then commit it.
    "#);
}

#[test]
fn an_index_that_tells_no_times() {
    let Some(mut w) = World::new("numpy\ntorch-x\n", &[]) else {
        return;
    };
    w.second = Index::start(Pages::HtmlOnly);
    w.index.wheels(&[("numpy", "1.26.4")]);
    w.second.wheels(&[("torch-x", "2.0")]);
    let routed = format!(
        "indexes = [{{ name = \"cu\", url = \"{}\", packages = [\"torch-x\"] }}]\n",
        w.second.url()
    );
    w.python(&routed);
    let mut said = w.run(&["lock"]);
    // The age still holds for the others, and the pin is kept.
    w.second.wheels(&[("torch-x", "2.1")]);
    w.index.add(
        release("numpy", "2.0")
            .wheel()
            .published(chrono::Utc::now()),
    );
    w.index.wheels(&[("einops", "0.8")]);
    w.edit("[python]\n", "[python]\nrequirements = [\"einops\"]\n");
    said += "\n";
    said += &w.run(&["lock", "update"]);
    // The default index too.
    w.index = Index::start(Pages::HtmlOnly);
    w.index.wheels(&[("numpy", "1.26.4")]);
    w.python(&routed);
    said += "\n";
    said += &w.run(&["lock"]);
    w.edit("[python]\n", "[python]\nminimum_age = \"0\"\n");
    said += "\n";
    said += &w.run(&["lock"]);
    said += &format!("{}\n", w.pins());
    insta::assert_snapshot!(said, @r#"
    $ comfy lock
    Added comfyui COMMIT
    Added numpy 1.26.4
    Added torch-x 2.0
    warning: index "cu" tells no times, so that minimum_age does not hold for torch-x
    Locked 1 repository, 2 Python packages in comfy.lock.

    $ comfy lock
    Added einops 0.8
    warning: index "cu" tells no times, so that minimum_age does not hold for torch-x
    Locked 1 repository, 3 Python packages in comfy.lock.

    $ comfy update
    Updated torch-x 2.0 -> 2.1
    warning: index "cu" tells no times, so that minimum_age does not hold for torch-x
    Wrote comfy.lock. Review it with `comfy plan`, then commit it.

    $ comfy lock
    error: Python packages: No solution found when resolving dependencies for split (markers: platform_machine == 'arm64' and sys_platform == 'darwin')
        Because numpy==1.26.4 has no publish time and there are no versions of numpy, we can conclude that all versions of numpy cannot be used.
        And because comfyui depends on numpy and comfy.lock has to serve comfyui, we can conclude that no set of packages fits all.
        Who asked:
          comfyui  requirements.txt:1  numpy
      hint: the index does not tell when the files of numpy were published, so that none is old enough: [python] minimum_age = "0" takes them
    exit 1

    $ comfy lock
    Removed einops 0.8
    Locked 1 repository, 2 Python packages in comfy.lock.
    numpy 1.26.4, torch-x 2.1
    "#);
}

/// The environment itself: packages are shared between environments, and one that was damaged is
/// never believed again.
#[test]
fn a_damaged_environment_is_healed_even_after_another_was_built_from_it() {
    let Some(w) = three() else { return };
    w.index.add(
        release("numpy", "1.26.4")
            .file("numpy/extra.py", b"A = 1\n")
            .script("tool", "numpy.extra:main")
            .wheel(),
    );
    w.run(&["lock"]);
    let ok = |args: &str| {
        let said = w.one(args);
        assert!(!said.contains("\nexit "), "{said}");
        said
    };
    let live = || {
        w.root
            .join("prefix/comfyui_sandbox/current/venv")
            .canonicalize()
            .unwrap()
    };
    let site = |venv: &Path| {
        fs::read_dir(venv.join("lib"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path()
            .join("site-packages")
    };
    ok("apply --yes");
    assert!(ok("plan --exit-code").contains("No changes."));
    let first = live();
    let extra = site(&first).join("numpy/extra.py");
    assert!(
        site(&first)
            .join("numpy/__pycache__")
            .read_dir()
            .unwrap()
            .count()
            > 0,
        "no bytecode"
    );
    let script = fs::read_to_string(first.join("bin/tool")).unwrap();
    assert!(
        script.starts_with(&format!(
            "#!{}/prefix/comfyui_sandbox/current/venv/bin/python\n",
            w.root.display()
        )),
        "{script}"
    );
    // Damaged, and at the same time another package moves: the new environment takes what is whole.
    fs::write(&extra, "A = 2\n").unwrap();
    let old = w.lock();
    w.index.wheels(&[("tqdm", "5.0")]);
    ok("update tqdm");
    ok("apply --yes");
    let second = live();
    assert_ne!(first, second);
    assert_eq!(
        fs::read_to_string(site(&second).join("numpy/extra.py")).unwrap(),
        "A = 1\n"
    );
    use std::os::unix::fs::MetadataExt;
    let inode = |venv: &Path| {
        fs::read_dir(site(venv))
            .unwrap()
            .map(|e| e.unwrap().path())
            .find(|p| p.ends_with("scipy-1.1.dist-info"))
            .map(|p| p.join("METADATA").metadata().unwrap().ino())
    };
    assert!(
        inode(&first).is_some() && inode(&first) == inode(&second),
        "scipy was not shared"
    );
    // Back: what was damaged is found, whatever was built meanwhile.
    fs::write(w.lock_file(), &old).unwrap();
    ok("apply --yes");
    assert_eq!(live(), first);
    assert_eq!(fs::read_to_string(&extra).unwrap(), "A = 1\n");
    assert!(ok("plan --exit-code").contains("No changes."));
    // And gc keeps what a kept generation needs.
    ok("gc --keep 0 --yes");
    assert!(first.exists() && !second.exists());
}

/// Whatever goes wrong while packages are fetched: what is live stays, nothing half made is left,
/// and the next apply does it.
#[test]
fn a_failed_fetch_of_packages_changes_nothing() {
    let Some(w) = World::new("numpy\n", &[]) else {
        return;
    };
    w.index.wheels(&[("numpy", "1.26.4")]);
    w.run(&["lock", "apply --yes"]);
    let live = || fs::read_link(w.root.join("prefix/comfyui_sandbox/current")).unwrap();
    // Everything but the caches in .staging/store.
    let picture = || {
        let find = "cd \"$0\" && find . -path ./comfyui_sandbox/.staging/store -prune -o -printf \
            '%p %y %m %l\\n' | sort";
        String::from_utf8(
            Command::new("bash")
                .args(["-c", find])
                .arg(w.root.join("prefix"))
                .output()
                .unwrap()
                .stdout,
        )
        .unwrap()
    };
    let (before, was) = (picture(), live());
    w.index.wheels(&[("tqdm", "4.0")]);
    w.python("requirements = [\"tqdm\"]\n");
    w.run(&["lock"]);
    let down = Index::down();
    let mut said = String::new();
    let mut fails = |what: &str, fault: Option<Fault>, change: &dyn Fn(&mut Command)| {
        w.index.fault(fault);
        let out = w.with("apply --yes", |c| {
            c.env("UV_HTTP_TIMEOUT", "1");
            change(c);
        });
        assert_eq!(
            (picture(), live()),
            (before.clone(), was.clone()),
            "{what}: {out}"
        );
        // The plan was shown; how long uv tried is not comfy's.
        let error: Vec<&str> = out
            .lines()
            .skip_while(|l| !l.starts_with("error"))
            .map(|l| {
                l.split(" after ")
                    .next()
                    .unwrap()
                    .split(" (os error")
                    .next()
                    .unwrap()
            })
            .collect();
        said += &format!(
            "== {what}\n{}\n",
            error.join("\n").replace(&down.host(), "INDEX")
        );
    };
    fails(
        "another file under its name",
        Some(Fault::OtherBytes),
        &|_| (),
    );
    fails("an index that stalls", Some(Fault::Stalls), &|_| ());
    fails("cut in the middle", Some(Fault::Cut), &|_| ());
    fails("no network", None, &|c| {
        c.env("UV_DEFAULT_INDEX", down.url());
    });
    fails("offline", None, &|c| {
        c.arg("--offline");
    });
    insta::assert_snapshot!(said, @"
    == another file under its name
    error: tqdm==4.0: http://INDEX/files/tqdm-4.0-py3-none-any.whl gave a file with sha256 8a4768456fbe0852b3d8c1fecf4cc2960400d1b82feb65538b709b3fc1c54e86, but a05cca6248c2eec2389bbf5dc9bf13eb3d19e6ba85d2d0330b6977439e4c8063 is pinned
      hint: another file has that name now, and nothing was installed: ask whoever runs that server, or run `comfy update` with the package's name once you trust it
    exit 1
    == an index that stalls
    error: tqdm==4.0: http://INDEX/files/tqdm-4.0-py3-none-any.whl: timeout: per read
      hint: the package index did not answer, and nothing was changed: check the network, HTTPS_PROXY and UV_DEFAULT_INDEX, and run it again
    exit 1
    == cut in the middle
    error: tqdm==4.0: http://INDEX/files/tqdm-4.0-py3-none-any.whl: Peer disconnected
      hint: the package index did not answer, and nothing was changed: check the network, HTTPS_PROXY and UV_DEFAULT_INDEX, and run it again
    exit 1
    == no network
    error: tqdm==4.0: http://INDEX/simple/tqdm/: io: Connection refused
      hint: the package index did not answer, and nothing was changed: check the network, HTTPS_PROXY and UV_DEFAULT_INDEX, and run it again
    exit 1
    == offline
    error: tqdm==4.0: its wheel is not in the store, and comfy is offline
      hint: run it without --offline
    exit 1
    ");
    w.index.fault(None);
    let done = w.run(&["apply --yes", "plan --exit-code"]);
    assert!(
        done.contains("Apply complete!") && done.contains("No changes."),
        "{done}"
    );
}

/// Gigabytes are not fetched twice because of what went wrong after them.
#[test]
fn a_failed_first_apply_keeps_what_it_fetched_and_nothing_else() {
    let Some(w) = World::new("numpy\n", &[]) else {
        return;
    };
    w.index.wheels(&[("numpy", "1.26.4")]);
    w.index.add(
        release("broken", "1.0")
            .file("broken-1.0.data/else/x", b"")
            .wheel(),
    );
    w.python("requirements = [\"broken\"]\n");
    w.run(&["lock"]);
    let out = w.one("apply --yes");
    assert!(
        out.contains(
            "error: broken==1.0: its wheel has an entry `broken-1.0.data/else/x`, of \
        a kind of data that comfy does not know"
        ),
        "{out}"
    );
    let find = "cd \"$0\" && find . -path ./comfyui_sandbox/.staging/store -prune -o -print | sort";
    let left = String::from_utf8(
        Command::new("bash")
            .args(["-c", find])
            .arg(w.root.join("prefix"))
            .output()
            .unwrap()
            .stdout,
    )
    .unwrap();
    assert_eq!(left, ".\n./comfyui_sandbox\n./comfyui_sandbox/.staging\n");
    // Nobody gives the file again.
    w.python("");
    w.run(&["lock"]);
    w.index.fault(Some(Fault::Stalls));
    let done = w.run(&["apply --yes", "plan --exit-code", "destroy --purge --yes"]);
    assert!(
        done.contains("Apply complete!") && done.contains("No changes."),
        "{done}"
    );
    assert!(!w.root.join("prefix").exists(), "{done}");
}
