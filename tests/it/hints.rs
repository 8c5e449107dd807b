//! What `lock` refuses, and what becomes of it when the hints are followed word by word: each case
//! ends locked, or with a refusal that no line of comfy.toml settles.

use toml_edit::{DocumentMut, Item};

use crate::index::{Release, release};
use crate::python::World;

const LINUX: &str = "py3-none-manylinux_2_17_x86_64";

/// The settings that hints show: section, key and value. Of hints that belong together all, of others
/// the first. What is "instead of" them is another way.
fn settings(said: &str) -> Vec<(String, String, Item)> {
    let mut out = Vec::new();
    for line in said.lines().filter_map(|l| l.trim().strip_prefix("hint: ")) {
        let belongs = line.starts_with("and with this: ");
        if (!out.is_empty() && !belongs) || line.contains("instead of") {
            continue;
        }
        for (at, _) in line.match_indices('[') {
            let Some((section, rest)) = line[at + 1..].split_once("] ") else {
                continue;
            };
            let Some((key, rest)) = rest.split_once(" = ") else {
                continue;
            };
            let plain = |s: &str| s.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c));
            let value = rest
                .match_indices(']')
                .map(|(end, _)| &rest[..=end])
                .find_map(|v| format!("x = {v}").parse::<DocumentMut>().ok());
            if let Some(value) = value.filter(|_| plain(section) && plain(key)) {
                out.push((section.into(), key.into(), value["x"].clone()));
                break;
            }
        }
    }
    out
}

/// Follows the hints by `comfy set`, as a person would.
fn follow(w: &World, said: &str) -> Vec<String> {
    let mut told = Vec::new();
    for (section, key, value) in settings(said) {
        let value = value.to_string();
        told.push(format!("  [{section}] {key} = {}", value.trim()));
        let key = format!("{section}.{key}");
        let set = w.with("set", |c| {
            c.args([&key, value.trim()]);
        });
        assert!(!set.contains("\nexit "), "{set}");
    }
    told
}

/// Locks, follows, locks again; returns what was refused and followed, and how it ended.
fn story(core: &str, nodes: &[(&str, &str)], python: &str, releases: &[Release]) -> Option<String> {
    let w = World::new(core, nodes)?;
    w.python(python);
    for r in releases {
        w.index
            .add(if r.is_source() { r.sdist() } else { r.wheel() });
    }
    let mut out = Vec::new();
    for round in 1..=4 {
        let said = w.one("lock");
        if !said.contains("\nexit 1") {
            out.push(format!("locked: {}", w.pins()));
            return Some(out.join("\n"));
        }
        let refused = said
            .lines()
            .filter(|l| !l.starts_with("$ ") && !l.contains("hint: "));
        out.push(format!("round {round}"));
        out.extend(
            refused
                .filter(|l| *l != "exit 1")
                .map(|l| format!("  {}", l.trim_end())),
        );
        let followed = follow(&w, &said);
        if followed.is_empty() {
            out.push("nothing to follow".into());
            out.extend(
                said.lines()
                    .filter(|l| l.contains("hint: "))
                    .map(str::to_string),
            );
            return Some(out.join("\n"));
        }
        out.extend(followed);
    }
    Some(out.join("\n") + "\nnever locked")
}

fn told(title: &str, story: Option<String>) -> Option<String> {
    Some(format!("# {title}\n{}", story?))
}

#[test]
fn hints_lead_to_a_lock_when_they_are_followed_word_by_word() {
    let linux = |name: &str, version: &str| release(name, version).tag(LINUX);
    let source = |name: &str, version: &str| release(name, version).source();
    let any = release;
    let bounded = "decord>=0.6\n";
    let stories = [
        told(
            "a bound is kept beside the marker",
            story(
                "",
                &[("a", bounded), ("b", "decord<2\n")],
                "",
                &[linux("decord", "0.7"), linux("decord", "2.1")],
            ),
        ),
        told(
            "everything at once",
            story(
                "numpy\n",
                &[
                    (
                        "a",
                        "fvcore\nnum2words\ntqdm @ https://x.test/tqdm-1-py3-none-any.whl\n",
                    ),
                    ("b", "fvcore>=0.1\ngpu\nno-such-package\n-e .\n"),
                ],
                "overrides = [\"numpy<2\"]\n",
                &[
                    any("numpy", "1.26"),
                    any("num2words", "0.5").requires("docopt"),
                    source("docopt", "0.6"),
                    source("fvcore", "0.1"),
                    linux("gpu", "1.0"),
                ],
            ),
        ),
        told(
            "an old release for another Python",
            story(
                "",
                &[("a", "triton\n")],
                "",
                &[
                    release("triton", "1.1").tag("cp36-cp36m-manylinux2014_x86_64"),
                    linux("triton", "3.1"),
                ],
            ),
        ),
        told(
            "a wheel and a conflict",
            story(
                "",
                &[("a", "numpy<2\ngpu\n"), ("b", "numpy>=2\n")],
                "",
                &[
                    any("numpy", "1.26"),
                    any("numpy", "2.1"),
                    linux("gpu", "1.0"),
                ],
            ),
        ),
        told(
            "a version that is not there",
            story(
                "",
                &[("a", "sage>=2\n")],
                "overrides = [\"tqdm\"]\n",
                &[any("sage", "1.0"), any("tqdm", "4.0")],
            ),
        ),
        told(
            "comfy.toml's own requirement, and ComfyUI's",
            story(
                "core-source\n",
                &[("a", "tqdm\n")],
                "requirements = [\"own-source\", \"tqdm\"]\n",
                &[
                    any("tqdm", "4.0"),
                    source("own-source", "1"),
                    source("core-source", "1"),
                ],
            ),
        ),
    ];
    let Some(stories) = stories.into_iter().collect::<Option<Vec<String>>>() else {
        return;
    };
    insta::assert_snapshot!(stories.join("\n\n"), @r#"
    # a bound is kept beside the marker
    round 1
      error: Python packages: decord has no wheel for macos-arm64
            node.a  requirements.txt:1  decord>=0.6
            node.b  requirements.txt:1  decord<2
      [python] overrides = ["decord<2,>=0.6 ; sys_platform == 'linux'"]
    locked: decord 0.7

    # everything at once
    round 1
      error: node.a: requirements.txt:3: `tqdm @ https://x.test/tqdm-1-py3-none-any.whl` is the address of a wheel, which only comfy.toml may name
      error: node.b: requirements.txt:4: `-e .` requires building a package from source
      error: Python packages: 4 packages cannot be had as they are asked for:
          fvcore has no wheel, and comfy builds nothing from source
            node.a  requirements.txt:1  fvcore
            node.b  requirements.txt:1  fvcore>=0.1
          gpu has no wheel for macos-arm64
            node.b  requirements.txt:2  gpu
          the index has no package no-such-package
            node.b  requirements.txt:3  no-such-package
          docopt has no wheel, and comfy builds nothing from source
            num2words asks for it
      [python] overrides = ["numpy<2", "gpu ; sys_platform == 'linux'", "docopt ; sys_platform == 'win32'"]
      [nodes.a] ignore_requirements = ["tqdm", "fvcore"]
      [nodes.b] ignore_requirements = ["-e .", "fvcore", "no-such-package"]
    locked: gpu 1.0, num2words 0.5, numpy 1.26

    # an old release for another Python
    round 1
      error: Python packages: triton has no wheel for macos-arm64
            node.a  requirements.txt:1  triton
      [python] overrides = ["triton ; sys_platform == 'linux'"]
    locked: triton 3.1

    # a wheel and a conflict
    round 1
      error: Python packages: No solution found when resolving dependencies for split (markers: platform_machine == 'arm64' and sys_platform == 'darwin')
          Because node.a depends on numpy<2 and node.b depends on numpy>=2, we can conclude that node.a and node.b are incompatible.
          And because comfy.lock has to serve node.a and node.b, we can conclude that no set of packages fits all.
          Who asked:
            node.a  requirements.txt:1  numpy<2
            node.b  requirements.txt:1  numpy>=2
      [python] overrides = ["numpy<2"]
    round 2
      error: Python packages: gpu has no wheel for macos-arm64
            node.a  requirements.txt:2  gpu
      [python] overrides = ["numpy<2", "gpu ; sys_platform == 'linux'"]
    locked: gpu 1.0, numpy 1.26

    # a version that is not there
    round 1
      error: Python packages: No solution found when resolving dependencies for split (markers: platform_machine == 'arm64' and sys_platform == 'darwin')
          Because only sage==1.0 is available and node.a depends on sage>=2, we can conclude that what node.a asks for cannot be had.
          And because comfy.lock has to serve node.a, we can conclude that no set of packages fits all.
          Who asked:
            node.a  requirements.txt:1  sage>=2
      [python] overrides = ["tqdm", "sage"]
    locked: sage 1.0

    # comfy.toml's own requirement, and ComfyUI's
    round 1
      error: Python packages: 2 packages cannot be had as they are asked for:
          core-source has no wheel, and comfy builds nothing from source
            comfyui  requirements.txt:1  core-source
          own-source has no wheel, and comfy builds nothing from source
            comfy.toml:17:17  own-source
      [python] requirements = ["tqdm"]
      [python] overrides = ["core-source ; sys_platform == 'win32'"]
    locked: tqdm 4.0
    "#);
}

#[test]
fn what_nobody_asked_for_is_told() {
    let nodes = [
        ("a", "speed\nhydra\nhttpx<1\nnumpy<2\n"),
        ("b", "numpy\nhttpx\n"),
    ];
    let Some(w) = World::new("", &nodes) else {
        return;
    };
    w.index.add(release("speed", "0.3.1.dev3").wheel());
    w.index.add(release("speed", "0.19").sdist());
    w.index.add(release("hydra", "1.4.0rc3").wheel());
    w.index
        .add(release("hydra", "1.3").requires("antlr").wheel());
    w.index.add(release("antlr", "4.9").sdist());
    w.index
        .wheels(&[("httpx", "0.28"), ("numpy", "1.26"), ("numpy", "2.1")]);
    insta::assert_snapshot!(w.one("lock"), @"
    $ comfy lock
    Added comfyui COMMIT
    Added a COMMIT
    Added b COMMIT
    Added httpx 0.28
    Added hydra 1.4.0rc3
    Added numpy 1.26
    Added speed 0.3.1.dev3
    warning: numpy 1.26: node.a asks for `numpy<2` (requirements.txt:4), which holds it for 1 other
    warning: hydra 1.4.0rc3 (asked by node.a) is a pre-release that nobody asked for, because no release fits; to be told why, write `hydra<1.4.0` in [python] requirements
    warning: speed 0.3.1.dev3 (asked by node.a) is old, because 0.19 has no wheel: if that is too old, leave speed out by `ignore_requirements` or [python] overrides
    Locked 3 repositories, 4 Python packages in comfy.lock.
    ");
}

#[test]
fn requirements_of_another_file_and_by_name() {
    let Some(w) = World::new("", &[("a", "")]) else {
        return;
    };
    w.index
        .wheels(&[("tqdm", "4.0"), ("numpy", "1.26"), ("moviepy", "1.0.3")]);
    let files: &[crate::support::File] = &[
        (
            "__init__.py",
            b"import os\nos.system('pip install x')\n",
            0o100_644,
        ),
        ("install.py", b"print(1)\n", 0o100_644),
        (
            "requirements-no-cupy.txt",
            b"tqdm\nmoviepy==1.0.3\n",
            0o100_644,
        ),
        (
            "pyproject.toml",
            b"[tool.comfy]\nrequires-comfyui = '>=9'\n",
            0o100_644,
        ),
    ];
    w.commit_files("a", files);
    let mut said = w.one("lock");
    w.edit(
        "[nodes.a]\n",
        "[nodes.a]\nrequirements_files = [\"requirements-no-cupy.txt\"]\n",
    );
    said += &w.run(&["lock --check", "lock"]);
    said += &format!("{}\n", w.pins());
    w.edit(
        "[nodes.a]\n",
        "[nodes.a]\nignore_requirements = [\"MoviePy\"]\n",
    );
    said += &w.run(&["lock", "lock --check"]);
    w.edit("requirements-no-cupy.txt", "gone.txt");
    said += &w.run(&["lock"]);
    w.edit("gone.txt", "../x");
    said += &w.run(&["lock"]);
    insta::assert_snapshot!(said, @r#"
    $ comfy lock
    Added comfyui COMMIT
    Added a COMMIT
        scan: 1 high, 1 low
    warning: node.a: it has no requirements.txt, and its requirements-no-cupy.txt is not read; to read it: [nodes.a] requirements_files = ["requirements-no-cupy.txt"]
    warning: node.a: comfy does not run its install.py: packages that it installs belong in [python] requirements, files that it downloads in [models]
    warning: node.a: __init__.py:2 runs pip, which cannot change the sealed environment: packages that it installs belong in [python] requirements
    Locked 2 repositories in comfy.lock.
    $ comfy lock --check
    error: comfy.toml:12:1: nodes.a.requirements_files does not match comfy.lock
      hint: run `comfy lock`
    exit 2

    $ comfy lock
    Added the interpreter PYTHON.99
    Added moviepy 1.0.3
    Added tqdm 4.0
    warning: node.a: comfy does not run its install.py: packages that it installs belong in [python] requirements, files that it downloads in [models]
    warning: node.a: __init__.py:2 runs pip, which cannot change the sealed environment: packages that it installs belong in [python] requirements
    Locked 2 repositories, 2 Python packages in comfy.lock.
    moviepy 1.0.3, tqdm 4.0
    $ comfy lock
    Removed moviepy 1.0.3
    Locked 2 repositories, 1 Python package in comfy.lock.

    $ comfy lock --check
    comfy.lock matches comfy.toml (2 repositories, 1 Python package).
    $ comfy lock
    error: comfy.toml:13:1: a: requirements file "gone.txt" is not in its tree at commit COMMIT
      hint: correct the path, or remove it from `requirements_files`; capitals count
    exit 1
    $ comfy lock
    error: comfy.toml:13:23: requirements file "../x" must not contain `.` or `..`
      hint: write the path of a file inside the node
    exit 1
    "#);
}
