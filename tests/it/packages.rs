//! What is installed is what the wheels hold: files that several packages bring, empty folders,
//! records that err, wheels that reach for comfy's own files, and wheels that somebody changed
//! where they are kept.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::index::{Fault, Release, release};
use crate::python::World;

/// A world without nodes, with these packages asked for.
pub fn world(releases: &[Release], asked: &str) -> Option<World> {
    let w = World::new("", &[])?;
    releases.iter().for_each(|r| w.index.add(r.wheel()));
    w.python(&format!("requirements = [{asked}]\n"));
    Some(w)
}

pub fn ok(w: &World, args: &str) -> String {
    let said = w.one(args);
    assert!(!said.contains("\nexit "), "{said}");
    said
}

pub fn base(w: &World) -> PathBuf {
    w.root.join("prefix/comfyui_sandbox")
}

pub fn venv(w: &World) -> PathBuf {
    base(w).join("current/venv").canonicalize().unwrap()
}

pub fn site(venv: &Path) -> PathBuf {
    fs::read_dir(venv.join("lib"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path()
        .join("site-packages")
}

/// Every entry below a folder, with a file's content.
pub fn picture(folder: &Path) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut todo = vec![folder.to_path_buf()];
    while let Some(at) = todo.pop() {
        for entry in fs::read_dir(&at).unwrap().map(|e| e.unwrap().path()) {
            let name = entry.strip_prefix(folder).unwrap().display().to_string();
            if entry.is_symlink() {
                out.insert(
                    name,
                    format!("-> {}", fs::read_link(&entry).unwrap().display()),
                );
            } else if entry.is_dir() {
                out.insert(format!("{name}/"), String::new());
                todo.push(entry);
            } else {
                out.insert(name, fs::read(&entry).unwrap().escape_ascii().to_string());
            }
        }
    }
    out
}

/// The lines after the plan.
fn told(said: &str) -> String {
    said.lines()
        .skip_while(|l| !l.starts_with("Plan: "))
        .skip(1)
        .filter(|l| !l.contains("oaded"))
        .map(|l| format!("{l}\n"))
        .collect()
}

fn who(w: &World) -> String {
    let at = site(&venv(w)).join("shared");
    let mut names: Vec<String> = fs::read_dir(&at)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    format!(
        "{} {}",
        names.join(" "),
        fs::read_to_string(at.join("__init__.py")).unwrap().trim()
    )
}

fn sharing() -> [Release; 4] {
    [
        release("aa-shared", "1.0")
            .file("shared/__init__.py", b"who = 'a'\n")
            .file("shared/a.py", b"")
            .file("shared/same.py", b"S = 1\n"),
        release("bb-shared", "1.0")
            .file("shared/__init__.py", b"who = 'b'\n")
            .file("shared/b.py", b"")
            .file("shared/same.py", b"S = 1\n"),
        release("cc-moves", "1.0"),
        release("cc-moves", "2.0"),
    ]
}

#[test]
fn files_of_several_packages_survive_every_apply_and_every_way_back() {
    let Some(w) = world(
        &sharing(),
        "\"aa-shared\", \"bb-shared\", \"cc-moves==1.0\"",
    ) else {
        return;
    };
    ok(&w, "lock");
    let first = w.lock();
    let said = ok(&w, "apply --yes");
    insta::assert_snapshot!(told(&said), @"
    Apply complete! 6 added, 0 changed, 0 destroyed.
    warning: python: aa-shared==1.0 and bb-shared==1.0 contain 1 file with the same path and different content: the content from bb-shared==1.0 is installed
    Loading everything once…
    To start ComfyUI, run: comfy run
    ");
    let both = "__init__.py __pycache__ a.py b.py same.py who = 'b'";
    assert_eq!(who(&w), both);
    // Another one moves, with nobody to fetch these from: the last in order stays the last.
    w.edit("cc-moves==1.0", "cc-moves==2.0");
    ok(&w, "lock");
    let second = w.lock();
    ok(&w, "apply --yes");
    assert_eq!(who(&w), both);
    let moved = picture(&venv(&w));
    // The last one goes: the other one's file comes back, from the wheel that was kept.
    w.edit("\"bb-shared\", ", "");
    ok(&w, "lock");
    w.index.fault(Some(Fault::Stalls));
    ok(&w, "apply --yes");
    assert_eq!(who(&w), "__init__.py __pycache__ a.py same.py who = 'a'");
    // And back, step by step, with nothing of the older environments left.
    for (lock, edit) in [
        (
            &second,
            ("\"cc-moves==2.0\"", "\"bb-shared\", \"cc-moves==2.0\""),
        ),
        (&first, ("cc-moves==2.0", "cc-moves==1.0")),
    ] {
        ok(&w, "gc --keep 0 --yes");
        fs::write(w.lock_file(), lock).unwrap();
        w.edit(edit.0, edit.1);
        ok(&w, "apply --yes");
        assert_eq!(who(&w), both);
        let verified = ok(&w, "verify --full");
        assert!(
            verified.contains("2 of 2 parts match comfy.lock."),
            "{verified}"
        );
        assert!(ok(&w, "plan --exit-code").contains("No changes."));
        if lock == &second {
            assert_eq!(
                picture(&venv(&w)),
                moved,
                "it depends on what was there before"
            );
        }
    }
    // A fresh installation is the same, byte for byte.
    let after = picture(&venv(&w));
    w.index.fault(None);
    ok(&w, "destroy --purge --yes");
    ok(&w, "apply --yes");
    assert_eq!(picture(&venv(&w)), after);
    // And every file is known.
    for file in [
        "shared/__init__.py",
        "shared/same.py",
        "shared/a.py",
        "shared/__pycache__",
        "aa_shared-1.0.dist-info/RECORD",
    ] {
        let at = site(&venv(&w)).join(file);
        let away = w.root.join("away");
        fs::rename(&at, &away).unwrap();
        let said = w.one("verify --full");
        assert!(
            said.contains("missing") && said.contains("exit 2"),
            "{file}: {said}"
        );
        fs::rename(&away, &at).unwrap();
    }
}

#[test]
fn an_empty_folder_and_a_record_that_errs_are_no_faults() {
    let releases = [
        release("dd-empty", "1.0")
            .file("dd/__init__.py", b"")
            .folder("dd.libs")
            .folder("dd/data/deep"),
        release("ee-record", "1.0")
            .file("ee/__init__.py", b"X = 1\n")
            .file("ee/data.txt", b"7\n")
            .errs("ee/data.txt"),
    ];
    let Some(w) = world(&releases, "\"dd-empty\", \"ee-record\"") else {
        return;
    };
    ok(&w, "lock");
    ok(&w, "apply --yes");
    assert!(ok(&w, "plan --exit-code").contains("No changes."));
    let at = site(&venv(&w));
    assert!(at.join("dd.libs").is_dir() && at.join("dd/data/deep").is_dir());
    let record = fs::read_to_string(at.join("ee_record-1.0.dist-info/RECORD")).unwrap();
    // printf '7\n' | sha256sum, as a RECORD has it.
    assert!(
        record.contains("ee/data.txt,sha256=EBWbryYrQ6ktldtZ2uH3LGRRJzAWYeCjzk44spWpfFg,2\n"),
        "{record}"
    );
    fs::remove_dir(at.join("dd.libs")).unwrap();
    let said = w.one("verify --full");
    assert!(
        said.contains("dd.libs") && said.contains("missing"),
        "{said}"
    );
    ok(&w, "apply --yes");
    assert!(at.join("dd.libs").is_dir());
}

#[test]
fn a_wheel_that_reaches_for_what_is_not_its_own_is_refused_by_name() {
    let hostile: &[(&str, &str)] = &[
        ("pyvenv.cfg", "ff-1.0.data/data/pyvenv.cfg"),
        ("in other letters", "ff-1.0.data/data/PYVENV.cfg"),
        ("the interpreter", "ff-1.0.data/scripts/python3"),
        (
            "the interpreter as a folder",
            "ff-1.0.data/data/bin/python/x",
        ),
        ("bin as a file", "ff-1.0.data/data/bin"),
        (
            "pyvenv.cfg beside the interpreter",
            "ff-1.0.data/scripts/pyvenv.cfg",
        ),
        (
            "the same in other letters, as data",
            "ff-1.0.data/data/bin/PyVenv.CFG",
        ),
        (
            "paths beside the interpreter",
            "ff-1.0.data/scripts/python._pth",
        ),
        (
            "paths beside the interpreter, by version",
            &format!(
                "ff-1.0.data/scripts/python{}._pth",
                crate::python::python().1
            ),
        ),
        (
            "a build folder's mark",
            "ff-1.0.data/data/bin/pybuilddir.txt",
        ),
        (
            "an older build folder's mark",
            "ff-1.0.data/data/bin/Modules/Setup.local",
        ),
        ("above", "../evil.py"),
        ("above, by data", "ff-1.0.data/data/../../evil"),
        ("absolute", "/tmp/evil.py"),
        ("another one's metadata", "numpy-1.0.dist-info/METADATA"),
        ("an unknown kind", "ff-1.0.data/stdlib/os.py"),
        ("another package's folder", "gg.py/x.py"),
    ];
    let mut all = String::new();
    for (what, path) in hostile {
        let releases = [
            release("ff", "1.0")
                .file("ff.py", b"")
                .file(path, b"home = /tmp\n"),
            release("gg", "1.0"),
        ];
        let Some(w) = world(&releases, "\"ff\", \"gg\"") else {
            return;
        };
        ok(&w, "lock");
        let said = w.one("apply --yes");
        assert!(said.contains("exit 1"), "{what}: {said}");
        all += &format!(
            "{what}: {}",
            said.lines()
                .skip_while(|l| !l.starts_with("error"))
                .take(1)
                .map(|l| format!("{l}\n"))
                .collect::<String>()
        );
        assert!(
            !base(&w).join("venv").exists() && !base(&w).join("current").exists(),
            "{what}: something was installed"
        );
        assert!(
            !w.root.join("evil").exists() && !Path::new("/tmp/evil.py").exists(),
            "{what}"
        );
    }
    insta::assert_snapshot!(all, @"
    pyvenv.cfg: error: ff==1.0: its wheel contains `pyvenv.cfg`, which belongs to comfy's own part of a virtual environment
    in other letters: error: ff==1.0: its wheel contains `PYVENV.cfg`, which belongs to comfy's own part of a virtual environment
    the interpreter: error: ff==1.0: its wheel contains `bin/python3`, which belongs to comfy's own part of a virtual environment
    the interpreter as a folder: error: ff==1.0: its wheel contains `bin/python/x`, which belongs to comfy's own part of a virtual environment
    bin as a file: error: ff==1.0: its wheel contains `bin`, which belongs to comfy's own part of a virtual environment
    pyvenv.cfg beside the interpreter: error: ff==1.0: its wheel contains `bin/pyvenv.cfg`, which would change where the interpreter finds its modules
    the same in other letters, as data: error: ff==1.0: its wheel contains `bin/PyVenv.CFG`, which would change where the interpreter finds its modules
    paths beside the interpreter: error: ff==1.0: its wheel contains `bin/python._pth`, which would change where the interpreter finds its modules
    paths beside the interpreter, by version: error: ff==1.0: its wheel contains `bin/pythonPYTHON._pth`, which would change where the interpreter finds its modules
    a build folder's mark: error: ff==1.0: its wheel contains `bin/pybuilddir.txt`, which would change where the interpreter finds its modules
    an older build folder's mark: error: ff==1.0: its wheel contains `bin/Modules/Setup.local`, which would change where the interpreter finds its modules
    above: error: ff==1.0: its wheel has an entry `../evil.py`, whose path must not contain `.` or `..`
    above, by data: error: ff==1.0: its wheel has an entry `ff-1.0.data/data/../../evil`, whose path must not contain `.` or `..`
    absolute: error: ff==1.0: its wheel has an entry `/tmp/evil.py`, whose path must be relative
    another one's metadata: error: ff==1.0: its wheel has the metadata of numpy-1.0, ff-1.0, but only that of this package is expected
    an unknown kind: error: ff==1.0: its wheel has an entry `ff-1.0.data/stdlib/os.py`, of a kind of data that comfy does not know
    another package's folder: error: gg==1.0 contains the file `lib/pythonPYTHON/site-packages/gg.py`, but ff==1.0 has a folder there
    ");
}

#[test]
fn a_kept_wheel_is_hashed_at_each_use() {
    let Some(w) = world(
        &[release("numpy", "1.26.4"), release("tqdm", "4.0")],
        "\"numpy\"",
    ) else {
        return;
    };
    ok(&w, "lock");
    ok(&w, "apply --yes");
    let real = release("numpy", "1.26.4").wheel();
    let kept = base(&w)
        .join(".staging/store/wheels")
        .join(format!("{}.whl", real.sha256()));
    assert_eq!(fs::read(&kept).unwrap(), real.bytes);
    let forged = release("numpy", "1.26.4")
        .file("numpy.py", b"FORGED = 1\n")
        .wheel();
    // The environment is gone, and somebody who runs as the build uid was at what is kept.
    let spoil = |link: bool| {
        fs::remove_dir_all(venv(&w)).unwrap();
        fs::remove_file(&kept).unwrap();
        if link {
            fs::write(w.root.join("elsewhere.whl"), &real.bytes).unwrap();
            std::os::unix::fs::symlink(w.root.join("elsewhere.whl"), &kept).unwrap();
        } else {
            fs::write(&kept, &forged.bytes).unwrap();
        }
    };
    spoil(false);
    let live = fs::read_link(base(&w).join("current")).unwrap();
    let refused = w.one("apply --yes --offline");
    insta::assert_snapshot!(told(&refused).replace(&real.sha256(), "SHA256"), @"
    error: numpy==1.26.4: the kept wheel ROOT/prefix/comfyui_sandbox/.staging/store/wheels/SHA256.whl does not have the hash that comfy.lock pins, and was removed
      hint: run it without --offline to fetch it again
    exit 1
    ");
    assert_eq!(fs::read_link(base(&w).join("current")).unwrap(), live);
    ok(&w, "apply --yes");
    let module = || fs::read_to_string(site(&venv(&w)).join("numpy.py")).unwrap();
    assert_eq!(module(), "VERSION = \"1.26.4\"\n");
    for link in [false, true] {
        spoil(link);
        ok(&w, "apply --yes");
        assert_eq!(module(), "VERSION = \"1.26.4\"\n");
        assert!(!kept.is_symlink());
    }
    // What is kept is enough where nobody answers.
    fs::remove_dir_all(venv(&w)).unwrap();
    w.index.fault(Some(Fault::Stalls));
    ok(&w, "apply --yes --offline");
    assert!(ok(&w, "verify --full").contains("2 of 2"));
}

/// The environment as comfy made it before: under another name, with a list by what RECORDs said.
fn as_older_comfy_made_it(w: &World) {
    use comfy::desired::GenerationSpec;
    let link = fs::read_link(base(w).join("current")).unwrap();
    let generation = base(w).join(&link);
    let mut spec: GenerationSpec =
        serde_json::from_slice(&fs::read(generation.join("generation.json")).unwrap()).unwrap();
    let (is, records) = (spec.venv.clone().unwrap(), base(w).join("records"));
    let was = spec.venv.as_mut().unwrap();
    was.layout = 1;
    was.packages.iter_mut().for_each(|p| p.files.clear());
    let (from, to) = (is.id(), was.id());
    assert_ne!(from, to);
    fs::rename(
        base(w).join("venv").join(&*from),
        base(w).join("venv").join(&*to),
    )
    .unwrap();
    let list: BTreeMap<String, BTreeMap<String, serde_json::Value>> =
        serde_json::from_slice(&fs::read(records.join(format!("venv-{from}.json"))).unwrap())
            .unwrap();
    let mut old: BTreeMap<&str, BTreeMap<&String, &serde_json::Value>> = BTreeMap::new();
    for (key, items) in &list {
        let key = if key.starts_with('~') {
            ""
        } else {
            key.split(' ').next().unwrap()
        };
        old.entry(key).or_default().extend(items);
    }
    fs::write(
        records.join(format!("venv-{to}.json")),
        serde_json::to_vec(&old).unwrap(),
    )
    .unwrap();
    fs::remove_file(records.join(format!("venv-{from}.json"))).unwrap();
    let before = link.file_name().unwrap().to_str().unwrap().to_string();
    let id = spec.id();
    let text = serde_json::to_string_pretty(&spec).unwrap() + "\n";
    assert!(!text.contains("files"), "{text}");
    fs::write(generation.join("generation.json"), text).unwrap();
    fs::remove_file(generation.join("venv")).unwrap();
    std::os::unix::fs::symlink(format!("../../venv/{to}"), generation.join("venv")).unwrap();
    fs::rename(&generation, base(w).join("gen").join(&*id)).unwrap();
    fs::rename(
        records.join(format!("bytecode-{before}.json")),
        records.join(format!("bytecode-{id}.json")),
    )
    .unwrap();
    fs::remove_file(base(w).join("current")).unwrap();
    std::os::unix::fs::symlink(format!("gen/{id}"), base(w).join("current")).unwrap();
    fs::remove_file(records.join("footprints.json")).unwrap();
    fs::remove_dir_all(base(w).join(".staging/store/wheels")).unwrap();
    fs::create_dir_all(base(w).join(".staging/store/uv-cache/archive-v0/x")).unwrap();
}

#[test]
fn an_environment_of_an_older_comfy_is_built_anew_once() {
    let Some(w) = world(
        &[release("numpy", "1.26.4"), release("tqdm", "4.0")],
        "\"numpy\", \"tqdm\"",
    ) else {
        return;
    };
    ok(&w, "lock");
    ok(&w, "apply --yes");
    as_older_comfy_made_it(&w);
    // What was applied goes on.
    let ran = ok(&w, "exec -- python -c print('it_runs')");
    assert!(ran.contains("it_runs"), "{ran}");
    let plan = w.one("plan --exit-code");
    let shown: String = plan
        .lines()
        .skip_while(|l| !l.contains("# python"))
        .take_while(|l| !l.contains("# comfyui"))
        .map(|l| format!("{l}\n"))
        .collect();
    let fetches: String = plan
        .lines()
        .filter(|l| l.starts_with("Will download"))
        .map(|l| format!("{l}\n"))
        .collect();
    insta::assert_snapshot!(crate::support::without_ids(&(shown + &fetches), &[16]), @r#"
      # python will be updated
        ~ venv = "venv/COMMIT" -> "venv/COMMIT"
        # an older comfy made it: it is rebuilt once, from verified wheels

    Will download 2 Python packages (1.8 KiB, about 6.2 KiB on the disk) unless cached. Free disk space is checked first.
    "#);
    ok(&w, "apply --yes");
    assert!(ok(&w, "plan --exit-code").contains("No changes."));
    assert!(
        !base(&w).join(".staging/store/uv-cache").exists(),
        "gigabytes that nobody reads"
    );
}

#[test]
fn code_that_every_start_of_python_would_run_needs_permission() {
    let pth = release("a", "1.0").file("a.pth", b"import a; a.spy()\n");
    let Some(w) = world(&[pth.file("a.py", b"def spy(): pass\n")], "\"a\"") else {
        return;
    };
    ok(&w, "lock");
    insta::assert_snapshot!(told(&w.one("apply --yes")), @r#"
    error: a==1.0: its a.pth has code that every start of Python would run: `import a; a.spy()`
      hint: if you trust that package: [python] allow_pth = ["a"], and `comfy lock`; nothing was installed
    exit 1
    "#);
    w.python("requirements = [\"a\"]\nallow_pth = [\"a\"]\n");
    let before = w.lock();
    insta::assert_snapshot!(w.one("plan"), @"
    $ comfy plan
    error: comfy.toml:14:1: python.allow_pth does not match comfy.lock
      hint: run `comfy lock`
    exit 1
    ");
    w.index.fault(Some(Fault::Stalls));
    ok(&w, "lock");
    assert_eq!(
        w.lock().replace("allow_pth = [\n    \"a\",\n]\n", ""),
        before
    );
    w.index.fault(None);
    ok(&w, "apply --yes");
    assert!(site(&venv(&w)).join("a.pth").exists());
}

#[test]
fn wheels_that_no_index_has_come_from_a_folder_or_an_address() {
    let Some(w) = World::new("", &[("n", "")]) else {
        return;
    };
    w.index.add(release("tqdm", "4.0").wheel());
    w.index.add(release("numpy", "1.26.4").wheel());
    let own = w.root.join("my wheels");
    fs::create_dir(&own).unwrap();
    let put = |r: &Release| {
        let file = r.wheel();
        fs::write(own.join(&file.name), &file.bytes).unwrap();
        file
    };
    let a = put(&release("a", "1.0").requires("tqdm"));
    // Newer than what the index has, and for Linux alone: a Mac takes that of the index.
    let minor = crate::python::python().1.replace('.', "");
    put(&release("numpy", "9.0").tag(&format!("cp{minor}-cp{minor}-linux_x86_64")));
    fs::write(own.join("notes.txt"), "no wheel").unwrap();
    let elsewhere = release("b", "2.0").wheel();
    w.second.add(elsewhere.clone());
    let address = format!(
        "{}/files/{}",
        w.second.url().trim_end_matches("/simple"),
        elsewhere.name
    );
    w.commit("n", &format!("b @ {address} ; sys_platform == 'linux'\n"));
    w.python(&format!(
        "requirements = [\"a\", \"numpy\"]\nwheels = [\"{}\", \"{address}\"]\n",
        own.display()
    ));
    let log = ok(&w, "lock");
    let lock = w.lock();
    let from_wheels: Vec<&str> = lock
        .split("[[python.packages]]")
        .filter(|p| p.contains("index = \"wheels\""))
        .map(|p| p.lines().nth(1).unwrap())
        .collect();
    insta::assert_snapshot!(
        format!("{}\n{}\n{}", w.pins(), from_wheels.join("\n"), log.lines().skip(1).collect::<Vec<_>>().join("\n")), @r#"
    a 1.0, b 2.0, numpy 1.26.4, numpy 9.0, tqdm 4.0
    name = "a"
    name = "b"
    name = "numpy"
    Added comfyui COMMIT
    Added n COMMIT
        scan: 1 medium
    Added a 1.0
    Added b 2.0
    Added numpy 1.26.4 and 9.0
    Added tqdm 4.0
    Locked 2 repositories, 4 Python packages in comfy.lock.
    "#);
    assert!(
        lock.contains(&elsewhere.sha256()) && lock.contains(&a.sha256()),
        "{lock}"
    );
    ok(&w, "apply --yes");
    let module = |name: &str| {
        fs::read_to_string(site(&venv(&w)).join(format!("{name}.py"))).unwrap_or_default()
    };
    assert_eq!(
        ["a", "b", "numpy"].map(module),
        [
            "VERSION = \"1.0\"\n",
            "VERSION = \"2.0\"\n",
            "VERSION = \"9.0\"\n"
        ]
    );
    assert_eq!(
        (ok(&w, "lock"), w.lock()).1,
        lock,
        "nothing moves by itself"
    );
    // Another file of that name, in the folder and at the address, on a machine that has neither.
    fs::remove_dir_all(w.root.join("prefix")).unwrap();
    fs::write(
        own.join(&a.name),
        release("a", "1.0")
            .file("a.py", b"EVIL = 1\n")
            .wheel()
            .bytes,
    )
    .unwrap();
    insta::assert_snapshot!(told(&w.one("apply --yes")), @"
    error: a==1.0: the folders of [python] wheels have no a-1.0-py3-none-any.whl with the hash that comfy.lock pins
      hint: copy that file there, or run `comfy update` with the package's name; nothing was changed
    exit 1
    ");
    fs::write(own.join(&a.name), &a.bytes).unwrap();
    ok(&w, "apply --yes");
    assert_eq!(module("a"), "VERSION = \"1.0\"\n");
    // What cannot be.
    w.python(&format!(
        "requirements = [\"b\"]\nwheels = [\"{address}#sha256={}\", \"/nowhere\"]\n",
        "0".repeat(64)
    ));
    let wrong = w.one("lock");
    w.python("requirements = [\"b\"]\nwheels = \"/nowhere\"\n");
    insta::assert_snapshot!([wrong, w.one("lock")].concat(), @"
    $ comfy lock
    error: [python] wheels: b-2.0-py3-none-any.whl: http://SECOND/files/b-2.0-py3-none-any.whl gave a file with sha256 936cc1240b133a3510716fe48839c0a7414e0abb61b20f3217063114a2c7905f, but 0000000000000000000000000000000000000000000000000000000000000000 is pinned
      hint: another file has that name now, and nothing was installed: ask whoever runs that server, or run `comfy update` with the package's name once you trust it
    exit 1
    $ comfy lock
    error: could not read /nowhere, which [python] wheels names: No such file or directory (os error 2)
      hint: make that folder, or remove it from `wheels`
    exit 1
    ");
}

/// All packages of Python are one change at first; if it is theirs, they are searched one by one.
#[test]
fn a_bisect_finds_the_package_among_those_that_moved() {
    if !crate::support::git_or_skip() {
        return;
    }
    let Some(w) = World::new("aa\nbb\ncc\ndd", &[("pack", "")]) else {
        return;
    };
    let all = |version: &'static str| ["aa", "bb", "cc", "dd"].map(|name| (name, version));
    w.index.wheels(&all("1.0"));
    let git = |args: &[&str]| {
        let who = ["-c", "user.name=a", "-c", "user.email=a@localhost"];
        let mut c = std::process::Command::new("git");
        c.current_dir(w.root.join("project"));
        let out = c.args(who).args(args).output().unwrap();
        assert!(out.status.success(), "{args:?}");
    };
    git(&["init", "-q"]);
    w.one("lock");
    git(&["add", "comfy.toml", "comfy.lock"]);
    git(&["commit", "-qm", "Pin ComfyUI"]);
    w.index.wheels(&all("2.0"));
    w.commit("pack", "aa");
    w.run(&["update", "apply --yes --no-check"]);
    let script = w.root.join("judge");
    let site = site(&base(&w).join("current/venv"));
    let site = site.strip_prefix(w.root.join("prefix")).unwrap();
    // Two of them break it; the second is there in the end as well.
    let text = format!(
        "#!/bin/sh\ncd {}/prefix/{}\n! test -e bb-2.0.dist-info || ! test -e cc-2.0.dist-info\n",
        w.root.display(),
        site.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let before = venv(&w);
    let told = w.one(&format!("bisect --yes --good HEAD -- {}", script.display()));
    let told = told.replace(w.root.to_str().unwrap(), "ROOT");
    insta::assert_snapshot!(told, @"
    $ comfy bisect --yes --good HEAD -- ROOT/judge
    cc breaks it (cc 1.0 -> 2.0); without it, the 2 changes before it work.
    Searching 2 moved pins: at most 2 starts beside 2 to begin with. Each half is applied here; then this machine goes back to comfy.lock.
     1. what is live now: bad
     2. with the pins of --good: good
     3. the first 1 of 2, up to python: bad
    Python it is: searching its packages.
     4. the first 2 of 4, up to bb: good
     5. the first 3 of 4, up to cc: bad
    5 starts; this machine is back at comfy.lock.
    ");
    assert_eq!(venv(&w), before);
    assert!(w.one("plan").contains("No changes"));
    // What a program reads of it.
    let said = w.one(&format!(
        "bisect --yes --json --good HEAD -- {}",
        script.display()
    ));
    let object = &said[said.find("{\n").unwrap()..=said.rfind('}').unwrap()];
    let data = &serde_json::from_str::<serde_json::Value>(object).unwrap()["data"];
    assert_eq!(data["finding"]["breaks"], "cc");
    assert_eq!(
        (&data["starts"], &data["back_at_lock"]),
        (&5.into(), &true.into())
    );
    assert_eq!(data["tries"][1]["verdict"], "good");
}
