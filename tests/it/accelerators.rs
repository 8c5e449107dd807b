//! The right torch for each machine from one lock: platforms, indexes for some machines, and
//! accelerators. Indexes on this machine stand for PyPI and for those of PyTorch.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::index::{Fault, File, Index, Pages, release};
use crate::packages::{ok, site, venv};
use crate::python::World;

const X86: &str = "py3-none-manylinux_2_17_x86_64";
const ARM: &str = "py3-none-manylinux_2_17_aarch64";
const MAC: &str = "py3-none-macosx_11_0_arm64";

/// One build of torch for these tags, with what it requires beside `numpy`.
fn torch(version: &str, build: &str, tags: &[&str], requires: &[&str]) -> Vec<File> {
    let vision = if version.starts_with("2.12") {
        "0.27.0"
    } else {
        "0.26.0"
    };
    let label = version.split_once('+').map_or("", |(_, l)| l);
    let vision = format!("{vision}{}{label}", if label.is_empty() { "" } else { "+" });
    let public = version.split('+').next().unwrap();
    let mut out = Vec::new();
    for tag in tags {
        let mut r = release("torch", version).tag(tag).requires("numpy").file(
            "torch/__init__.py",
            format!("BUILD = '{build}'\n").as_bytes(),
        );
        for line in requires {
            r = r.requires(line);
        }
        out.push(r.wheel());
        let r = release("torchvision", &vision).tag(tag);
        out.push(r.requires(&format!("torch=={public}")).wheel());
    }
    out
}

fn serve(files: impl IntoIterator<Item = File>) -> Index {
    let index = Index::start(Pages::HtmlOnly);
    files.into_iter().for_each(|f| index.add(f));
    index
}

/// A world with torch 2.12 on the default index, and indexes for three accelerators.
struct Machines {
    w: World,
    cuda: Index,
    rocm: Index,
    cpu: Index,
}

impl Machines {
    fn new() -> Option<Machines> {
        let w = World::new("numpy\ntorch\ntorchvision\n", &[("a", "tqdm\n")])?;
        w.index
            .wheels(&[("numpy", "1.26.4"), ("tqdm", "4.0"), ("nv-cu13", "13.0")]);
        w.index.wheels(&[("nv-cu12", "12.8")]);
        for version in ["2.11.0", "2.12.0"] {
            let linux = ["nv-cu13 ; sys_platform == 'linux'"];
            torch(version, "default", &[MAC, X86, ARM], &linux)
                .into_iter()
                .for_each(|f| w.index.add(f));
        }
        let needs = ["nv-cu12", "triton ; platform_machine == 'x86_64'"];
        let cuda = serve(torch("2.11.0+cu128", "cuda", &[X86, ARM], &needs));
        // As PyTorch's index lists it.
        cuda.add(release("triton", "3.6.0").tag(X86).wheel().without_hash());
        let rocm = serve(torch("2.11.0+rocm7.2", "rocm", &[X86], &["triton-rocm"]));
        rocm.add(release("triton-rocm", "3.6.0").tag(X86).wheel());
        // Without a label, in the same version as the default index's.
        let cpu = serve(torch("2.11.0", "cpu", &[X86, ARM], &[]));
        let m = Machines { w, cuda, rocm, cpu };
        m.w.python(&m.settings(&["cuda", "rocm", "cpu"]));
        Some(m)
    }

    fn settings(&self, indexes: &[&str]) -> String {
        let line = |name: &&str| {
            let (x, more) = match *name {
                "cuda" => (&self.cuda, "accelerators = [\"cuda-12.8\"]"),
                "rocm" => (
                    &self.rocm,
                    "platforms = [\"linux-x86_64\"], accelerators = [\"rocm-7.2\"]",
                ),
                _ => (&self.cpu, "accelerators = [\"cpu\"]"),
            };
            format!(
                "  {{ name = \"{name}\", url = \"{}\", packages = [\"torch\", \"torchvision\", \
                 \"triton\", \"triton-rocm\"], {more} }},\n",
                x.url()
            )
        };
        let lines: String = indexes.iter().map(line).collect();
        format!(
            "platforms = [\"macos-arm64\", \"linux-x86_64\", \"linux-aarch64\"]\nindexes = [\n{lines}]\n\
             [hosts.cuda]\nhost.accelerator = \"cuda-12.8\"\n[hosts.cpu]\nhost.accelerator = \
             \"cpu\"\n[hosts.old]\nhost.accelerator = \"rocm-6.4\"\n"
        )
    }
}

/// The packages that comfy.lock has for a machine, by what its entries say.
fn chosen(lock: &str, platform: &str, accelerator: &str) -> BTreeMap<String, String> {
    let lock: toml::Table = lock.parse().unwrap();
    let says = |p: &toml::Value, key: &str, word: &str| {
        p.get(key).is_none_or(|list| {
            let mut list = list.as_array().unwrap().iter();
            list.any(|w| w.as_str() == Some(word))
        })
    };
    let mut out = BTreeMap::new();
    for p in lock["python"]["packages"].as_array().unwrap() {
        if says(p, "platforms", platform) && says(p, "accelerators", accelerator) {
            let text = |key: &str| p.get(key).and_then(|v| v.as_str()).unwrap_or("-");
            let is = format!("{} of {}", text("version"), text("index"));
            assert_eq!(out.insert(text("name").to_string(), is), None, "{p}");
        }
    }
    out
}

fn build(venv: &Path) -> String {
    fs::read_to_string(site(venv).join("torch/__init__.py")).unwrap()
}

#[test]
fn one_lock_has_one_torch_for_each_of_five_machines() {
    let Some(m) = Machines::new() else { return };
    let mut told = ok(&m.w, "lock");
    let lock = m.w.lock();
    let machines = [
        ("macos-arm64", "default"),
        ("linux-x86_64", "default"),
        ("linux-x86_64", "cuda-12.8"),
        ("linux-aarch64", "cuda-12.8"),
        ("linux-x86_64", "rocm-7.2"),
        ("linux-x86_64", "cpu"),
    ];
    let all: Vec<_> = machines.iter().map(|(p, a)| chosen(&lock, p, a)).collect();
    let names: BTreeSet<&String> = all.iter().flat_map(|c| c.keys()).collect();
    for name in names {
        let each: Vec<&str> = all
            .iter()
            .map(|c| c.get(name).map_or("-", |v| v.as_str()))
            .collect();
        told += &if each.iter().all(|v| *v == each[0]) {
            format!("{name}: {} everywhere\n", each[0])
        } else {
            format!("{name}: {}\n", each.join(", "))
        };
    }
    insta::assert_snapshot!(told, @r#"
    $ comfy lock
    Added comfyui COMMIT
    Added a COMMIT
    Added 8 Python packages
    warning: index "cpu" tells no times, so that minimum_age does not hold for torch, torchvision
    warning: index "cuda" tells no times, so that minimum_age does not hold for torch, torchvision, triton
    warning: index "rocm" tells no times, so that minimum_age does not hold for torch, torchvision, triton-rocm
    Locked 2 repositories, 8 Python packages in comfy.lock.
    numpy: 1.26.4 of - everywhere
    nv-cu12: -, -, 12.8 of -, 12.8 of -, -, -
    nv-cu13: -, 13.0 of -, -, -, -, -
    torch: 2.11.0 of -, 2.11.0 of -, 2.11.0+cu128 of cuda, 2.11.0+cu128 of cuda, 2.11.0+rocm7.2 of rocm, 2.11.0 of cpu
    torchvision: 0.26.0 of -, 0.26.0 of -, 0.26.0+cu128 of cuda, 0.26.0+cu128 of cuda, 0.26.0+rocm7.2 of rocm, 0.26.0 of cpu
    tqdm: 4.0 of - everywhere
    triton: -, -, 3.6.0 of cuda, -, -, -
    triton-rocm: -, -, -, -, 3.6.0 of rocm, -
    "#);
    // The wheel whose index gives no hash has the right one.
    let triton = release("triton", "3.6.0").tag(X86).wheel().sha256();
    assert!(lock.contains(&triton), "{lock}");
    assert!(ok(&m.w, "lock").contains("is up to date"));
    assert_eq!(m.w.lock(), lock);
    // Something else moves: nothing that is locked does, and no file is fetched again.
    m.cuda.fault(Some(Fault::Stalls));
    m.w.index.wheels(&[("einops", "0.8")]);
    m.w.edit("platforms =", "requirements = [\"einops\"]\nplatforms =");
    ok(&m.w, "lock");
    let more = m.w.lock();
    let kept: Vec<&str> = lock.lines().filter(|l| !more.contains(l)).collect();
    assert!(kept.is_empty(), "{kept:?}");
}

#[test]
fn a_machine_s_card_is_one_line_and_moves_nothing_else() {
    let Some(m) = Machines::new() else { return };
    let w = &m.w;
    ok(w, "lock");
    let lock = w.lock();
    ok(w, "apply --yes");
    assert_eq!(build(&venv(w)), "BUILD = 'default'\n");
    let numpy = |venv: &Path| {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(site(venv).join("numpy.py")).unwrap().ino()
    };
    let before = numpy(&venv(w));
    for (host, is) in [("cpu", "cpu"), ("cuda", "cuda"), ("cpu", "cpu")] {
        let said = ok(w, &format!("--host {host} apply --yes"));
        assert_eq!(build(&venv(w)), format!("BUILD = '{is}'\n"), "{said}");
        assert_eq!(numpy(&venv(w)), before, "numpy was not shared");
        assert!(ok(w, &format!("--host {host} plan --exit-code")).contains("No changes."));
    }
    assert_eq!(w.lock(), lock);
    // What the lock does not have is never another one instead; the rest is planned.
    let said = w.one("--host old plan");
    let about: Vec<&str> = said.lines().filter(|l| l.contains("rocm")).collect();
    insta::assert_snapshot!(about.join("\n"), @r#"    comfy.toml:28:6: old has accelerator "rocm-6.4"; comfy.lock has cpu, cuda-12.8, rocm-7.2 for linux-x86_64 (hint: choose one of these, or add an index for it and run `comfy lock`)"#);
}

#[test]
fn another_accelerator_adds_lines_and_moves_no_version() {
    let Some(m) = Machines::new() else { return };
    m.w.python(&m.settings(&["cuda"]));
    ok(&m.w, "lock");
    let before = m.w.lock();
    m.w.python(&m.settings(&["cuda", "rocm"]));
    let said = m.w.one("lock --check");
    assert!(
        said.contains("python.indexes does not match comfy.lock"),
        "{said}"
    );
    let said = ok(&m.w, "lock");
    assert!(!said.contains("nv-cu"), "{said}");
    for (platform, a) in [("macos-arm64", "default"), ("linux-x86_64", "cuda-12.8")] {
        assert_eq!(
            chosen(&before, platform, a),
            chosen(&m.w.lock(), platform, a)
        );
    }
    // And the card's own packages move together.
    torch("2.12.0+cu128", "cuda", &[X86, ARM], &["nv-cu12"])
        .into_iter()
        .for_each(|f| m.cuda.add(f));
    torch("2.12.0+rocm7.2", "rocm", &[X86], &["triton-rocm"])
        .into_iter()
        .for_each(|f| m.rocm.add(f));
    ok(&m.w, "update torch");
    let lock = m.w.lock();
    assert!(
        chosen(&lock, "macos-arm64", "default")["torch"].starts_with("2.12.0 ")
            && chosen(&lock, "linux-x86_64", "rocm-7.2")["torchvision"].starts_with("0.27.0+rocm"),
        "{lock}"
    );
}

#[test]
fn what_an_accelerator_cannot_have_is_told_with_its_name() {
    let Some(m) = Machines::new() else { return };
    m.w.edit(
        "platforms =",
        "requirements = [\"torch==2.12.0\"]\nplatforms =",
    );
    let said = m.w.one("lock");
    insta::assert_snapshot!(said, @r#"
    $ comfy lock
    error: Python packages for cpu, cuda-12.8, rocm-7.2: No solution found when resolving dependencies for split (markers: platform_machine == 'x86_64' and sys_platform == 'linux')
        Because there is no version of torch==2.12.0 and comfy.toml depends on torch==2.12.0, we can conclude that what comfy.toml asks for cannot be had.
        And because comfy.lock has to serve comfy.toml, we can conclude that no set of packages fits all.
        Who asked:
          comfyui  requirements.txt:2  torch
          comfy.toml  [python] requirements  torch==2.12.0
      hint: the index has no such version; to take one that it has: [python] overrides = ["torch"]
      hint: machines with cpu take torch, torchvision, triton, triton-rocm from index "cpu" only: choose versions that are there, or remove the accelerator from [python] indexes
      hint: machines with cuda-12.8 take torch, torchvision, triton, triton-rocm from index "cuda" only: choose versions that are there, or remove the accelerator from [python] indexes
      hint: machines with rocm-7.2 take torch, torchvision, triton, triton-rocm from index "rocm" only: choose versions that are there, or remove the accelerator from [python] indexes
    exit 1
    "#);
    m.w.edit("torch==2.12.0", "torch>=2.11.0+cu128");
    insta::assert_snapshot!(m.w.one("lock"), @r#"
    $ comfy lock
    error: comfy.toml:17:17: "torch>=2.11.0+cu128" is no requirement: Operator >= is incompatible with versions containing non-empty local segments (`+cu128`)
      hint: write `name==1.2`
    exit 1
    "#);
}

#[test]
fn all_that_an_accelerator_lacks_is_told_in_one_round() {
    let Some(m) = Machines::new() else { return };
    // Its torch alone asks for two without a wheel for aarch64, and for one that no index has.
    let needs = [
        "nv-x",
        "nv-y",
        "nv-z",
        "nv-cu12",
        "triton ; platform_machine == 'x86_64'",
    ];
    torch("2.12.0+cu128", "cuda", &[X86, ARM], &needs)
        .into_iter()
        .for_each(|f| m.cuda.add(f));
    for name in ["nv-x", "nv-y"] {
        m.w.index.add(release(name, "1.0").tag(X86).wheel());
    }
    m.w.python(&m.settings(&["cuda"]).replace(
        "platforms =",
        "requirements = [\"torch==2.12.0\"]\nplatforms =",
    ));
    let said = m.w.one("lock");
    insta::assert_snapshot!(said, @r#"
    $ comfy lock
    error: Python packages: 3 packages cannot be had as they are asked for:
        the index has no package nv-z, which machines with cuda-12.8 need
          torch asks for it
        nv-x has no wheel for linux-aarch64 with cuda-12.8
          torch asks for it
        nv-y has no wheel for linux-aarch64 with cuda-12.8
          torch asks for it
      hint: with this in comfy.toml it locks: [python] overrides = ["nv-z ; sys_platform == 'darwin'", "nv-x ; platform_machine != 'aarch64'", "nv-y ; platform_machine != 'aarch64'"]
      hint: machines with cuda-12.8 take torch, torchvision, triton, triton-rocm from index "cuda" only: choose versions that are there, or remove the accelerator from [python] indexes
    exit 1
    "#);
    // What it says to write locks, and other machines have what they had.
    let line = said
        .lines()
        .find_map(|l| l.split_once("it locks: [python] "));
    let (_, line) = line.expect("a line to write");
    m.w.edit("platforms =", &format!("{line}\nplatforms ="));
    ok(&m.w, "lock");
    let lock = m.w.lock();
    let on = |platform: &str, card: &str| {
        let all = chosen(&lock, platform, card);
        let names = all.keys().filter(|n| n.starts_with("nv-"));
        names.cloned().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(on("linux-x86_64", "cuda-12.8"), "nv-cu12 nv-x nv-y");
    assert_eq!(on("linux-aarch64", "cuda-12.8"), "nv-cu12");
    assert_eq!(on("linux-aarch64", "default"), "nv-cu13");
}

#[test]
fn an_index_serves_what_only_other_packages_ask_for() {
    let Some(w) = World::new("needs\n", &[]) else {
        return;
    };
    w.index
        .add(release("needs", "1.0").requires("inner").wheel());
    w.index.wheels(&[("inner", "9.0")]);
    let own = serve([release("inner", "1.0").wheel()]);
    let index = |more: &str| {
        format!(
            "indexes = [{{ name = \"own\", url = \"{}\", packages = [\"Inner\"]{more} }}]\n",
            own.url()
        )
    };
    w.python(&index(""));
    ok(&w, "lock");
    let on = |platform: &str| chosen(&w.lock(), platform, "default")["inner"].clone();
    assert_eq!(on("linux-x86_64"), "1.0 of own");
    // And on some machines only.
    w.python(&index(", platforms = [\"linux-x86_64\"]"));
    ok(&w, "lock");
    assert_eq!(
        [on("linux-x86_64"), on("macos-arm64")],
        ["1.0 of own", "9.0 of -"]
    );
}

#[test]
fn mistakes_in_platforms_and_indexes_are_told_with_their_lines() {
    let Some(w) = World::new("", &[]) else { return };
    let x = |name: &str, more: &str| {
        format!("  {{ name = \"{name}\", url = \"https://x.test/simple\", {more} }},\n")
    };
    let lines = [
        x("a", "packages = [\"torch\", \"triton\"]"),
        x(
            "b",
            "packages = [\"Torch\"], platforms = [\"linux-x86_64\"]",
        ),
        x(
            "c",
            "packages = [\"torch\"], accelerators = [\"cuda-12.8\", \"cpu\"]",
        ),
        x("c", "packages = [\"torch\"], accelerators = [\"cpu\"]"),
        x(
            "d d",
            "packages = [\"x>=1\"], accelerators = [\"mps\", \"cuda\"]",
        ),
        x(
            "e",
            "packages = [\"y\"], platforms = [\"linux-aarch64\", \"windows\"]",
        ),
        x("f", "packages = [\"torch\"], accelerators = [\"xpu\"]"),
    ]
    .concat();
    w.python(&format!("indexes = [\n{lines}]\n[hosts.x]\n"));
    w.edit("[host]\n", "[host]\naccelerator = \"gpu\"\n");
    insta::assert_snapshot!(w.one("lock"), @r#"
    $ comfy lock
    error: comfy.toml:4:1: accelerator "gpu" is unknown
    error: comfy.toml:18:3: another index is also called "c" (comfy.toml:17:3)
      hint: give each index its own name
    error: comfy.toml:19:3: "d d" is not a name for an index
      hint: use letters, digits, `-`, `_` and `.`, with a letter or digit at both ends
    error: comfy.toml:19:62: index "d d": "x>=1" is not a package's name
      hint: write the name alone; a version belongs in [python] requirements
    error: comfy.toml:19:87: index "d d": a Mac's packages are those without an accelerator
      hint: leave out `accelerators` and write platforms = ["macos-arm64"]
    error: comfy.toml:19:94: index "d d": accelerator "cuda" is unknown
      hint: write "cpu", "mps", "cuda-12.8", "rocm-7.2" or "xpu", with the version of your own
    error: comfy.toml:20:96: platform "windows" is unknown
      hint: known: macos-arm64, linux-x86_64, linux-aarch64
    error: comfy.toml:20:66: index "e" is for linux-aarch64, but [python] platforms does not contain it
      hint: add "linux-aarch64" to [python] platforms, or remove it here
    error: comfy.toml:16:3: Torch comes from index "b" and from index "a" (comfy.toml:15:3) on linux-x86_64
    error: comfy.toml:18:3: torch comes from index "c" and from index "c" (comfy.toml:17:3) on linux-x86_64 with "cpu"
      hint: remove it from one of them, or give them different `platforms` or `accelerators`
    exit 1
    "#);
}

#[test]
fn what_comfyui_pins_may_be_younger_than_the_age_and_that_is_said() {
    let Some(w) = World::new("front==2.0\ntqdm\n", &[("a", "einops\n")]) else {
        return;
    };
    let now = chrono::Utc::now();
    for version in ["1.0", "2.0", "3.0"] {
        w.index
            .add(release("front", version).wheel().published(now));
    }
    w.index.wheels(&[("tqdm", "4.0"), ("einops", "0.8")]);
    for name in ["tqdm", "einops"] {
        w.index.add(release(name, "9.0").wheel().published(now));
    }
    let mut said = w.one("lock");
    w.index.wheels(&[("scipy", "1.0")]);
    w.edit("[python]\n", "[python]\nrequirements = [\"scipy\"]\n");
    said += &w.one("lock");
    // A node's pin is not ComfyUI's.
    w.python("");
    w.commit("a", "einops==9.0\n");
    said += &w.one("update a");
    insta::assert_snapshot!(said, @r#"
    $ comfy lock
    Added comfyui COMMIT
    Added a COMMIT
    Added einops 0.8
    Added front 2.0
    Added tqdm 4.0
    warning: front 2.0: younger than minimum_age, and locked because ComfyUI's requirements.txt pins it
    Locked 2 repositories, 3 Python packages in comfy.lock.
    $ comfy lock
    Added scipy 1.0
    warning: front 2.0: younger than minimum_age, and locked because ComfyUI's requirements.txt pins it
    Locked 2 repositories, 4 Python packages in comfy.lock.
    $ comfy update a
    error: Python packages: No solution found when resolving dependencies for split (markers: platform_machine == 'arm64' and sys_platform == 'darwin')
        Because there is no version of einops==9.0 and node.a depends on einops==9.0, we can conclude that what node.a asks for cannot be had.
        And because comfy.lock has to serve node.a, we can conclude that no set of packages fits all.
        Who asked:
          node.a  requirements.txt:1  einops==9.0
      hint: what there is of einops is younger than [python] minimum_age: wait, or make that shorter
    exit 1
    "#);
}

#[test]
fn torch_and_its_family_belong_together_or_it_is_said() {
    let Some(w) = World::new("torch\ntorchvision\ntorchaudio\n", &[]) else {
        return;
    };
    for (torch, vision, audio) in [("2.9.1", "0.24.1", "2.9.1"), ("2.11.0", "0.26.0", "2.11.0")] {
        let same = format!("torch=={torch}");
        w.index.wheels(&[("torch", torch)]);
        w.index
            .add(release("torchvision", vision).requires(&same).wheel());
        // The last torchaudio names no torch.
        let r = release("torchaudio", audio);
        let r = if audio == "2.9.1" {
            r.requires(&same)
        } else {
            r
        };
        w.index.add(r.wheel());
    }
    let mut said = String::new();
    for lines in [
        "requirements = [\"torch<2.11\"]\n",
        "overrides = [\"torch==2.9.1\", \"torchvision==0.26.0\"]\n",
        "requirements = [\"torchaudio>=2.11\", \"torch<2.11\"]\n",
    ] {
        w.python(lines);
        said += &format!("{}{}\n\n", w.one("lock"), w.pins());
    }
    insta::assert_snapshot!(said, @r#"
    $ comfy lock
    Added comfyui COMMIT
    Added torch 2.9.1
    Added torchaudio 2.9.1
    Added torchvision 0.24.1
    Locked 1 repository, 3 Python packages in comfy.lock.
    torch 2.9.1, torchaudio 2.9.1, torchvision 0.24.1

    $ comfy lock
    Updated torchvision 0.24.1 -> 0.26.0
    warning: torch==2.9.1, torchvision==0.26.0, torchaudio==2.9.1 were not made for each other, and [python] overrides pair them: they may not load; override all of them with versions that belong together, or none
    Locked 1 repository, 3 Python packages in comfy.lock.
    torch 2.9.1, torchaudio 2.9.1, torchvision 0.26.0

    $ comfy lock
    Updated torchaudio 2.9.1 -> 2.11.0
    Updated torchvision 0.26.0 -> 0.24.1
    warning: torchaudio 2.11.0 was made for torch 2.11 and later, and torch 2.9.1 is locked: it may not load; [python] overrides = ["torchaudio==2.9.*"] takes the one that fits
    Locked 1 repository, 3 Python packages in comfy.lock.
    torch 2.9.1, torchaudio 2.11.0, torchvision 0.24.1
    "#);
}

#[test]
fn a_lock_with_markers_stays_as_it_is() {
    let Some(w) = World::new("fast\ntqdm\n", &[]) else {
        return;
    };
    w.index.add(release("fast", "1.0").tag(X86).wheel());
    w.index.wheels(&[("tqdm", "4.0"), ("einops", "0.8")]);
    w.python("overrides = [\"fast ; sys_platform == 'linux'\"]\n");
    ok(&w, "lock");
    // As an older comfy wrote it.
    let old = w.lock().replace(
        "platforms = [\"linux-x86_64\"]",
        "marker = \"platform_machine == 'x86_64' and sys_platform == 'linux'\"",
    );
    assert!(old.contains("marker = "), "{old}");
    fs::write(w.lock_file(), &old).unwrap();
    for command in ["lock --check", "lock", "update"] {
        ok(&w, command);
        assert_eq!(w.lock(), old, "{command}");
    }
    w.edit("[python]\n", "[python]\nrequirements = [\"einops\"]\n");
    ok(&w, "lock");
    let new = w.lock();
    assert!(old.lines().all(|l| new.contains(l)), "{new}");
    assert!(!new.contains("platforms"), "{new}");
}

#[test]
fn an_index_that_tells_times_keeps_the_age() {
    let Some(w) = World::new("tool\n", &[]) else {
        return;
    };
    let own = Index::start(Pages::Json);
    own.wheels(&[("tool", "1.0")]);
    let young = release("tool", "2.0").wheel();
    own.add(young.published(chrono::Utc::now()));
    w.python(&format!(
        "indexes = [{{ name = \"own\", url = \"{}\", packages = [\"tool\"] }}]\n",
        own.url()
    ));
    let said = ok(&w, "lock");
    assert!(!said.contains("warning"), "{said}");
    assert_eq!(w.pins(), "tool 1.0");
    w.edit("[python]\n", "[python]\nminimum_age = \"0\"\n");
    ok(&w, "update");
    assert_eq!(w.pins(), "tool 2.0");
}
