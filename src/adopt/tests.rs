use std::io::Write as _;
use std::path::Path;

use super::manifest_text::{LeftOut, ManifestChoices, write_manifest};
use super::*;
use crate::manifest::{IsolationMode, Manifest};

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// Everything of it, a line each.
fn told(text: &str) -> String {
    describe(&read_file(text.as_bytes()).unwrap())
}

fn pin_text(pin: &GitPin) -> String {
    let commit = pin.commit.map(|c| c.to_string()[..7].to_string());
    format!(
        "{} {} {:?} {:?}",
        pin.repo,
        commit.unwrap_or_default(),
        pin.git_ref,
        pin.refs
    )
}

fn describe(a: &Adopted) -> String {
    let mut out = vec![a.format.to_string()];
    out.extend(a.core.iter().map(|c| format!("core {}", pin_text(c))));
    out.extend(a.python.iter().map(|p| format!("python {p}")));
    for n in &a.nodes {
        let source = match &n.source {
            AdoptedSource::Git(pin) => pin_text(pin),
            other => format!("{other:?}"),
        };
        let off = if n.enabled { "" } else { " off" };
        out.push(format!("node {}{off} {source}", n.name));
    }
    out.extend(a.models.iter().map(|m| {
        let hash = m.sha256.as_deref().map(|h| &h[..6]);
        format!("model {} {:?} {hash:?}", m.path, m.source)
    }));
    out.extend(a.packages.iter().map(|(n, v)| format!("package {n} {v}")));
    out.extend(a.losses.iter().map(|l| format!("lost {}", l.what)));
    out.join("\n")
}

/// The comfy.toml of it, which comfy itself must accept.
fn manifest_of(a: &mut Adopted) -> (String, Manifest) {
    if a.shares.is_empty() {
        a.shares.push(models_share("/srv/models"));
    }
    let choices = ManifestChoices {
        origin: "here\nversion = 2",
        primary_user: Some("alice"),
        isolation: IsolationMode::Account,
        platform: "linux-x86_64",
        manage_shares: false,
        requirements: &[],
        overrides: &["numpy==1.26.4".into()],
    };
    let text = write_manifest(a, &choices, &LeftOut::default());
    let parsed = Manifest::parse(Path::new("comfy.toml"), &text.clone().into(), "box");
    (text, parsed.unwrap())
}

fn models_share(path: &str) -> AdoptedShare {
    AdoptedShare {
        name: "models".into(),
        path: path.into(),
        role: ShareRole::Mount("models".into()),
        access: ShareAccess::Read,
        adopted: true,
    }
}

#[test]
fn a_snapshot_of_the_manager_gives_its_commits_and_names_what_it_does_not_pin() {
    let json = format!(
        r#"{{"comfyui": "{A}", "git_custom_nodes": {{
            "https://github.com/o/One.git": {{"hash": "{B}", "disabled": true}},
            "git@github.com:o/two.git": {{"hash": "{A}", "disabled": false}},
            "https://name:hunter2@host.test/o/three": {{"hash": null}},
            "https://github.com/O/one": {{"hash": "{A}"}},
            "/srv/local": {{"hash": "{A}"}}}},
          "cnr_custom_nodes": {{"kjnodes": "1.0.5", "../evil": "1"}},
          "file_custom_nodes": [{{"filename": "x\u001b[31m.py", "disabled": false}},
            {{"filename": "websocket_image_save.py", "disabled": false}}],
          "pips": {{"numpy==1.26.4": "", "PyYAML==6.0": "", "einops": "0.8.0", "foo": "git+https://u:hunter2@h.test/foo",
            "bar @ https://u:hunter2@h.test/bar.whl": "", "-e git+https://h.test/r#egg=baz": ""}}}}"#
    );
    insta::assert_snapshot!(told(&json), @r#"
    a snapshot of ComfyUI-Manager
    core https://github.com/Comfy-Org/ComfyUI aaaaaaa None []
    node two https://github.com/o/two aaaaaaa None []
    node one https://github.com/O/one aaaaaaa None []
    node three https://host.test/o/three  None []
    node kjnodes Registry { id: "kjnodes", version: Some("1.0.5") }
    package einops 0.8.0
    package numpy 1.26.4
    package pyyaml 6.0
    lost node local: the address of its repository is none that comfy fetches from
    lost node One: `one` is the same repository, and ComfyUI would load its classes twice
    lost node three: no commit is named, so that it is pinned to what the default branch has today
    lost node ../evil: ../evil 1 is not the id of a node: letters, digits, `-`, `_` and `.`
    lost node x\u{1b}[31m.py: it is a single file, and only its name is there
    lost Python package baz: it was installed from an address or a folder, which is not pinned
    lost Python package bar: it was installed from an address or a folder, which is not pinned
    lost Python package foo: it was installed from an address or a folder, which is not pinned
    "#);
    // The same as YAML, below one key.
    let yaml = format!(
        "custom_nodes:\n  comfyui: {A}\n  git_custom_nodes:\n    https://github.com/o/One:\n      hash: {B}\n      \
         disabled: false\n  file_custom_nodes: []\n"
    );
    insta::assert_snapshot!(told(&yaml), @"
    a snapshot of ComfyUI-Manager
    core https://github.com/Comfy-Org/ComfyUI aaaaaaa None []
    node One https://github.com/o/One bbbbbbb None []
    ");
}

#[test]
fn models_of_a_comfy_lock_keep_their_source_and_only_sha256_pins() {
    let hash = "c".repeat(64);
    let text = format!(
        "basics: {{python: 3.12.4}}\nmodels:\n- model: a.safetensors\n  url: \
         https://huggingface.co/o/r/resolve/{A}/sub/a%20b.safetensors?download=true\n  paths: [{{path: \
         models/loras/a.safetensors}}]\n  hashes: [{{hash: {hash}, type: sha256}}]\n- model: b\n  url: \
         https://civitai.com/api/download/models/42?type=Model\n  paths: [{{path: \
         models/checkpoints/b.ckpt}}]\n  hashes: [{{hash: abc, type: AutoV2}}]\n- model: c\n  paths: \
         [{{path: ../../etc/passwd}}]\n- model: d\n  url: https://h.test/d?token=hunter2\n  paths: \
         [models/vae/d.pt]\n- model: e\n- model: f\n  url: file:/etc/shadow\n  paths: \
         [{{path: models/vae/f.pt}}]\n- model: g\n  url: https://h.test/g.safetensors\n  paths: [{{path: \
         models/checkpoints}}]\ncustom_nodes:\n  comfyui: v0.3.64\n  git_custom_nodes: \
         {{https://github.com/o/r: {{hash: 1234567}}}}\n"
    );
    insta::assert_snapshot!(told(&text), @r#"
    a comfy-lock.yaml
    core https://github.com/Comfy-Org/ComfyUI  Some("v0.3.64") []
    python 3.12
    node r https://github.com/o/r  None []
    model loras/a.safetensors Some("hf://o/r/sub/a b.safetensors@aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa") Some("cccccc")
    model checkpoints/b.ckpt Some("civitai:42") None
    model vae/d.pt None None
    model vae/f.pt None None
    model checkpoints/g.safetensors Some("https://h.test/g.safetensors") None
    lost node r: no commit is named, so that it is pinned to what the default branch has today
    lost model "checkpoints/b.ckpt": no SHA-256 is named
    lost model "../../etc/passwd": its path must not contain `.` or `..`
    lost model "vae/d.pt": no SHA-256 is named
    lost model "vae/d.pt": its address is none that comfy fetches from
    lost model e: it has no path
    lost model "vae/f.pt": no SHA-256 is named
    lost model "vae/f.pt": its address is none that comfy fetches from
    lost model "checkpoints/g.safetensors": no SHA-256 is named
    "#);
}

/// What a failed fetch must not lose: the commit, and the wheel that a package came from.
#[test]
fn what_could_not_be_had_keeps_its_pin_in_what_is_told() {
    let json = format!(
        r#"{{"comfyui": "{A}", "git_custom_nodes": {{"https://github.com/o/one": {{"hash": "{B}"}}}},
            "pips": {{"kitchen @ https://h.test/kitchen-1.0-py3-none-any.whl#sha256=00": "",
              "secret @ https://u:hunter2@h.test/secret-1.0-py3-none-any.whl": ""}}}}"#
    );
    let mut adopted = read_file(json.as_bytes()).unwrap();
    let told: Vec<&str> = adopted.losses.iter().map(|l| l.remedy.as_str()).collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    if ComfyUI or a node needs it: [python] wheels = ["https://h.test/kitchen-1.0-py3-none-any.whl#sha256=00"]
    if ComfyUI or a node needs it: put its wheel into a folder and name that in [python] wheels
    "#);
    let choices = ManifestChoices {
        origin: "here",
        primary_user: Some("alice"),
        isolation: IsolationMode::Account,
        platform: "linux-x86_64",
        manage_shares: false,
        requirements: &[],
        overrides: &[],
    };
    adopted.shares.push(models_share("/srv/models"));
    let left_out = LeftOut {
        nodes: vec!["one"],
        models: Vec::new(),
    };
    let text = write_manifest(&adopted, &choices, &left_out);
    let (_, section) = text.split_once("# [nodes.one]").unwrap();
    assert!(section.contains(&format!("# ref  = \"{B}\"")), "{section}");
}

#[test]
fn builds_and_projects_of_comfy_cli_are_read() {
    let build = format!(
        "schema: comfy-build/1\nid: x\ndefinition:\n  schema: 1\n  baseComfyVersion: v0.3.64\n  baseImage: \
         python:3.12\n  environment: {{pythonVersion: 3.12.7}}\n  customNodes:\n  - {{name: kj, id: kjnodes, \
         registryVersion: 1.0.5}}\n  - {{name: git, repository: https://github.com/o/git, gitRef: {A}}}\n  - \
         {{name: branch, repository: https://github.com/o/branch, gitRef: main}}\n  - {{name: hand}}\n  \
         pipDependencies: |\n    numpy==1.26.4\n    # a comment\n    pkg[extra]==2\n    x @ https://h.test/x.whl\n  \
         models:\n  - {{type: loras, filename: a.safetensors, sha256: {0}, sourceUri: \
         https://h.test/a.safetensors}}\n",
        "D".repeat(64)
    );
    insta::assert_snapshot!(told(&build), @r#"
    a comfy-build file of comfy-cli
    core https://github.com/Comfy-Org/ComfyUI  Some("v0.3.64") []
    python 3.12
    node kj Registry { id: "kjnodes", version: Some("1.0.5") }
    node git https://github.com/o/git aaaaaaa None []
    node branch https://github.com/o/branch  Some("main") []
    model loras/a.safetensors Some("https://h.test/a.safetensors") Some("dddddd")
    package numpy 1.26.4
    package pkg 2
    lost node branch: no commit is named, so that it is pinned to what `main` has today
    lost node hand: it names neither a repository nor a version of the registry
    lost Python package x: it was installed from an address or a folder, which is not pinned
    lost base image python:3.12
    "#);
    let project = "schema: project/1\ndefaults: {where: cloud}\nvars: {steps: 20}\n";
    insta::assert_snapshot!(told(project), @"
    a project of comfy-cli
    core https://github.com/Comfy-Org/ComfyUI  None []
    lost comfyui: no version is named, so that it is pinned to the newest commit
    lost where it runs by default: cloud
    lost 1 variable of its blueprints
    lost its nodes and models: the format names none
    ");
}

#[test]
fn the_newest_snapshot_of_the_desktop_counts() {
    let snapshot = |time: &str, commit: &str| {
        format!(
            r#"{{"version": 1, "createdAt": "{time}", "trigger": "boot", "label": null,
            "comfyui": {{"ref": "v0.3.10", "commit": {commit}, "releaseTag": "v0.3.10", "variant": "cpu"}},
            "customNodes": [{{"id": "kjnodes", "type": "cnr", "dirName": "ComfyUI-KJNodes", "enabled": true, "version": "1.0.5"}},
              {{"id": "g", "type": "git", "dirName": "my dir", "enabled": false, "commit": "{B}", "url": "https://github.com/o/g"}},
              {{"id": "f.py", "type": "file", "dirName": "f.py", "enabled": true}}],
            "pipPackages": {{"numpy": "1.26.4", "x": "file:///tmp/x"}}, "pythonVersion": "3.12.11"}}"#
        )
    };
    let text = format!(
        r#"{{"type": "comfyui-desktop-2-snapshot", "version": 2, "snapshots": [{}, {}]}}"#,
        snapshot("2026-01-02T00:00:00Z", &format!("\"{A}\"")),
        snapshot("2026-01-01T00:00:00Z", "null")
    );
    insta::assert_snapshot!(told(&text), @r#"
    a snapshot of Comfy-Desktop
    core https://github.com/Comfy-Org/ComfyUI aaaaaaa None ["v0.3.10"]
    python 3.12
    node ComfyUI-KJNodes Registry { id: "kjnodes", version: Some("1.0.5") }
    node my-dir off https://github.com/o/g bbbbbbb None []
    package numpy 1.26.4
    lost the export holds 2 snapshots; the newest was taken
    lost node my dir: its folder is called my-dir from now on
    lost node f.py: it is a single file, and only its name is there
    lost Python package x: it was installed from an address or a folder, which is not pinned
    "#);
}

#[test]
fn a_project_of_comfygit_gives_nodes_models_and_what_it_does_not_pin() {
    let text = format!(
        "[project]\nname = \"x\"\nrequires-python = \">=3.12\"\ndependencies = [\"einops==0.8\", \
         \"pillow>=10\"]\n[tool.comfygit]\nschema_version = 1\ncomfyui_version = \
         \"v0.3.64\"\ncomfyui_commit_sha = \"{A}\"\n[tool.comfygit.nodes.kj]\nname = \
         \"ComfyUI-KJNodes\"\nregistry_id = \"kjnodes\"\nversion = \"1.0.5\"\nsource = \
         \"registry\"\n[tool.comfygit.nodes.g]\nname = \"g\"\nrepository = \
         \"https://github.com/o/g.git\"\nversion = \"{B}\"\nsource = \
         \"git\"\n[tool.comfygit.nodes.dev]\nname = \"dev\"\nversion = \"dev\"\nsource = \
         \"development\"\n[tool.comfygit.nodes.shared]\nname = \"shared\"\nversion = \"dev\"\nsource = \
         \"development\"\nrepository = \"https://github.com/o/shared\"\nbranch = \
         \"work\"\npinned_commit = \"{A}\"\n[tool.comfygit.models]\n0123456789abcdef = {{ filename = \
         \"a.pt\", size = 3, relative_path = \"vae/a.pt\", category = \"vae\", sources = \
         [\"https://h.test/a.pt\"] }}\n"
    );
    insta::assert_snapshot!(told(&text), @r#"
    a comfygit project
    core https://github.com/Comfy-Org/ComfyUI aaaaaaa None ["v0.3.64"]
    python 3.12
    node g https://github.com/o/g bbbbbbb None []
    node ComfyUI-KJNodes Registry { id: "kjnodes", version: Some("1.0.5") }
    node shared https://github.com/o/shared aaaaaaa None ["work"]
    model vae/a.pt Some("https://h.test/a.pt") None
    package einops 0.8
    lost node dev: it is a folder in development, and its repository is not named
    lost model "vae/a.pt": no SHA-256 is named
    lost 1 Python requirement without a version: uv.lock of the project, which comfy does not read, has the versions
    "#);
}

#[test]
fn a_package_of_comfy_pack_is_read_in_memory() {
    let snapshot = format!(
        r#"{{"python": "3.12", "comfyui": "{A}", "git_custom_nodes": {{"https://github.com/o/One": {{"hash": "{B}", "disabled": false}}}},
        "pips": {{"numpy==1.26.4": ""}}, "models": [{{"filename": "models/vae/a.pt", "size": 3, "sha256": "{0}", "disabled": true,
          "source": {{"source": "huggingface", "repo": "o/r", "commit": "{A}", "path": "a.pt"}}}}]}}"#,
        "e".repeat(64)
    );
    let archive = |files: &[(&str, &str)]| {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, text) in files {
            let options = zip::write::SimpleFileOptions::default();
            zip.start_file(*name, options).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
        }
        zip.finish().unwrap().into_inner()
    };
    let good = archive(&[
        ("snapshot.json", &snapshot),
        ("workflow.json", "{}"),
        ("input/a.png", "x"),
        ("../../escape", "x"),
    ]);
    insta::assert_snapshot!(describe(&read_file(&good).unwrap()), @r#"
    a package of comfy-pack
    core https://github.com/Comfy-Org/ComfyUI aaaaaaa None []
    python 3.12
    node One https://github.com/o/One bbbbbbb None []
    model vae/a.pt Some("hf://o/r/a.pt@aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa") Some("eeeeee")
    package numpy 1.26.4
    lost 1 file in the archive's input/
    lost workflow.json in the archive
    "#);
    let other = archive(&[("a.txt", "x")]);
    assert!(
        read_file(&other)
            .unwrap_err()
            .message
            .contains("no snapshot.json")
    );
    assert!(
        read_file(b"PK\x03\x04garbage")
            .unwrap_err()
            .message
            .contains("zip")
    );
}

#[test]
fn what_a_person_wrote_for_the_docker_images_of_pixeloven_is_read() {
    let text = "name: x\nauth: {huggingface.co: \"${HF_TOKEN}\"}\nmodels:\n- name: q\n  files:\n  - {source: \
        \"hf:o/r\", file: sub/a.safetensors, install: models/loras/}\n  - {source: \"hf:o/r\", revision: v2, file: \
        b.pt, as: c.pt, install: models/vae}\n  - {source: \"gh:o/r@v0.1\", file: d.pth, install: \
        models/upscale_models/}\n  - {source: \"civitai:42\", as: e.ckpt, install: models/checkpoints/}\nprofiles: \
        {image: [q]}\n";
    insta::assert_snapshot!(told(text), @r#"
    a comfy.yaml of pixeloven/ComfyUI-Docker
    core https://github.com/Comfy-Org/ComfyUI  None []
    model loras/a.safetensors Some("hf://o/r/sub/a.safetensors") None
    model vae/c.pt Some("hf://o/r/b.pt@v2") None
    model upscale_models/d.pth Some("https://github.com/o/r/releases/download/v0.1/d.pth") None
    model checkpoints/e.ckpt Some("civitai:42") None
    lost comfyui: no version is named, so that it is pinned to the newest commit
    lost model "loras/a.safetensors": no SHA-256 is named
    lost model "vae/c.pt": no SHA-256 is named
    lost model "upscale_models/d.pth": no SHA-256 is named
    lost model "checkpoints/e.ckpt": no SHA-256 is named
    lost 1 profile
    lost the variables that hold tokens
    "#);
}

#[test]
fn what_is_no_format_is_refused_with_those_that_are() {
    for (text, why) in [
        ("", "format is not known"),
        ("{}", "format is not known"),
        ("[1, 2]", "format is not known"),
        ("just words", "format is not known"),
        ("a: [", "neither JSON, YAML nor TOML"),
        ("local-desktop2-standalone\n", ".comfy_environment"),
    ] {
        let p = read_file(text.as_bytes()).unwrap_err();
        assert!(p.message.contains(why), "{text}: {}", p.message);
        assert!(!p.hints.is_empty(), "{text}");
    }
    assert!(read_file(b"\xff\xfe").is_err());
}

#[test]
fn nothing_of_a_hostile_file_stops_the_reader_or_gets_into_comfy_toml() {
    // Aliases that multiply, and one that is its own parent.
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_string();
    for i in 1..12 {
        let many = vec![format!("*a{}", i - 1); 10].join(", ");
        bomb += &format!("a{i}: &a{i} [{many}]\n");
    }
    assert!(read_file(bomb.as_bytes()).is_err());
    assert!(read_file(b"a: &a [*a]\ngit_custom_nodes: {}\n").is_err());
    assert!(read_file("[".repeat(100_000).as_bytes()).is_err());
    assert!(read_file("- ".repeat(100_000).as_bytes()).is_err());
    assert!(read_file(&vec![b' '; 17 << 20]).is_err());
    // Every value of every wrong type.
    for wrong in [
        "null",
        "1",
        "1.5",
        "true",
        "\"x\"",
        "[]",
        "{}",
        "[[1]]",
        "{\"a\": 1}",
        "[null]",
    ] {
        for text in [
            format!(
                r#"{{"comfyui": {wrong}, "git_custom_nodes": {{"https://github.com/o/r": {wrong}}}, "cnr_custom_nodes": {wrong}, "file_custom_nodes": {wrong}, "pips": {wrong}}}"#
            ),
            format!(
                r#"{{"git_custom_nodes": {{}}, "cnr_custom_nodes": {{"a": {wrong}}}, "file_custom_nodes": [{wrong}], "pips": {{"a": {wrong}}}}}"#
            ),
            format!(
                r#"{{"schema": "comfy-build/1", "definition": {{"baseComfyVersion": {wrong}, "customNodes": [{wrong}], "models": {wrong}, "pipDependencies": {wrong}, "environment": {wrong}}}}}"#
            ),
            format!(
                r#"{{"type": "comfyui-desktop-2-snapshot", "version": {wrong}, "snapshots": [{{"comfyui": {wrong}, "customNodes": [{wrong}], "pipPackages": {wrong}, "pythonVersion": {wrong}}}]}}"#
            ),
            format!(
                r#"{{"tool": {{"comfygit": {{"comfyui_version": {wrong}, "nodes": {{"a": {wrong}}}, "models": {{"a": {wrong}}}}}}}, "project": {wrong}}}"#
            ),
            format!(
                r#"{{"models": [{{"model": {wrong}, "paths": {wrong}, "hashes": {wrong}, "url": {wrong}}}], "custom_nodes": {{"git_custom_nodes": {wrong}}}}}"#
            ),
            format!(
                r#"{{"custom_nodes": [{{"url": {wrong}, "commit_hash": {wrong}}}], "comfyui": {wrong}, "models": [{wrong}]}}"#
            ),
            format!(
                r#"{{"models": [{{"name": {wrong}, "files": [{{"source": {wrong}, "file": {wrong}, "install": {wrong}}}]}}]}}"#
            ),
        ] {
            if let Ok(mut adopted) = read_file(text.as_bytes()) {
                manifest_of(&mut adopted);
            }
        }
    }
    // Names that would be more than a name.
    let evil = "x\"]\nversion = 2\n[host]\nprefix = \"/etc";
    let json = serde_json::json!({
        "comfyui": evil,
        "git_custom_nodes": {
            format!("https://github.com/o/{evil}"): { "hash": A },
            "https://github.com/o/..": { "hash": A },
            "https://github.com/o/-rf": { "hash": A },
            "https://u:hunter2@github.com/o/a b": { "hash": A },
            "https://github.com/o/\u{1b}[2J": { "hash": A },
            "https://github.com/o/r?token=hunter2": { "hash": A },
            "https://github.com/o/ref": { "hash": "--upload-pack=touch x" },
        },
        "cnr_custom_nodes": { evil: evil, "ok": evil },
        "pips": { format!("{evil}==1"): "", "a==1; b": "", "a==$(x)": "" },
        "models": [{ "filename": format!("vae/{evil}"), "sha256": evil, "source": evil }],
        "python": evil,
    });
    let mut adopted = read_file(json.to_string().as_bytes()).unwrap();
    let (text, manifest) = manifest_of(&mut adopted);
    assert!(
        !text.contains("hunter2") && !text.contains('\u{1b}'),
        "{text}"
    );
    assert_eq!(manifest.host.prefix, None);
    let said: String = adopted
        .losses
        .iter()
        .map(|l| format!("{} {}\n", l.what, l.remedy))
        .collect();
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn the_comfy_toml_of_an_installation_has_comments_and_parses() {
    let mut a = read_file(format!(r#"{{"comfyui": "{A}", "git_custom_nodes": {{"https://github.com/o/One": {{"hash": "{B}", "disabled": true}}}}, "pips": null}}"#).as_bytes()).unwrap();
    a.python = Some("3.12".into());
    if let AdoptedSource::Git(pin) = &mut a.nodes[0].source {
        pin.git_ref = Some("main".into());
    }
    a.nodes[0].ignore_requirements = vec!["decord".into()];
    a.shares.push(models_share("/srv/my \"models\""));
    a.shares.push(AdoptedShare {
        name: "a111".into(),
        path: "/srv/sd".into(),
        role: ShareRole::Models(BTreeMap::from([(
            "loras".into(),
            vec!["models/Lora".into(), "x".into()],
        )])),
        access: ShareAccess::Read,
        adopted: true,
    });
    a.add_model(
        "loras/ü \"x\".safetensors",
        Some("hf://o/r/x.safetensors"),
        None,
    );
    let (text, manifest) = manifest_of(&mut a);
    assert!(manifest.shares.values().all(|s| !s.manage));
    insta::assert_snapshot!(text, @r#"
    #:schema ./comfy.schema.json
    # Adopted from a snapshot of ComfyUI-Manager: here\u{a}version = 2.
    # comfy.lock has the pins; `comfy plan` shows what would change on this machine; `comfy apply` changes it.
    version = 1

    [host]
    primary_user = "alice"            # whose files are protected, and who owns the shares
    sandbox_user = "comfyui_sandbox"  # the account that ComfyUI runs as
    group        = "comfyshared"      # the group that both accounts share
    # isolation  = "none"            # no second account, no root; nothing is protected

    [comfyui]
    repo = "https://github.com/Comfy-Org/ComfyUI"  # the repository is not named there; this is ComfyUI's own
    # installed: aaaaaaa, of the default branch

    [python]
    version      = "3.12"
    platforms    = ["linux-x86_64"]  # this machine's alone; add "macos-arm64" for a lock that serves others
    overrides    = ["numpy==1.26.4"]  # as it was installed; not everybody's wishes fit together

    [nodes.One]
    repo = "https://github.com/o/One"
    ref  = "main"  # installed: bbbbbbb
    enabled = false  # locked, and not on the machine
    ignore_requirements = ["decord"]

    [shares.models]
    path   = '/srv/my "models"'
    mount  = "models"
    access = "read"
    manage = false  # used as it is: comfy sets no groups and modes in it

    [shares.a111]
    path   = "/srv/sd"
    models = { loras = ["models/Lora", "x"] }
    access = "read"
    manage = false  # used as it is: comfy sets no groups and modes in it

    [models.'loras/ü "x".safetensors']
    source = "hf://o/r/x.safetensors"
    "#);
}

#[test]
fn folders_of_models_elsewhere_are_read_as_comfyui_reads_them() {
    let text = "comfyui:\n  base_path: ~/sd\n  is_default: true\n  checkpoints: models/a\n  unet: |\n    x\n    y\n  clip: \
        z\n  vae:\n  custom_nodes: nodes\nempty: {}\nnot a section: 3\n";
    let sections = extra_model_paths::read_sections(text).unwrap();
    insta::assert_debug_snapshot!(sections, @r#"
    [
        ModelSection {
            name: "comfyui",
            base_path: Some(
                "~/sd",
            ),
            is_default: true,
            kinds: {
                "checkpoints": [
                    "models/a",
                ],
                "diffusion_models": [
                    "x",
                    "y",
                ],
                "text_encoders": [
                    "z",
                ],
            },
            nodes: [
                "nodes",
            ],
        },
    ]
    "#);
    assert!(extra_model_paths::read_sections("a: [").is_err());
}
