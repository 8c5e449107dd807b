use std::collections::BTreeMap;

use super::*;
use crate::advisory::table::embedded_table;
use crate::lock::ArchivePin;
use crate::tree::ObjectId;

/// A part of which this is known.
#[derive(Default)]
struct Known {
    version: Option<&'static str>,
    files: Option<Vec<&'static str>>,
    /// By commit, whether it is in the history; `None` for those that are not here.
    commits: BTreeMap<&'static str, bool>,
    /// Of every other commit.
    others: Option<bool>,
}

impl PartKnowledge for Known {
    fn project_version(&self, _: &RepositoryPin) -> Option<Version> {
        Version::from_str(self.version?).ok()
    }

    fn files(&self, _: &RepositoryPin) -> Option<Vec<String>> {
        let files = self.files.as_ref()?;
        Some(files.iter().map(|f| (*f).to_string()).collect())
    }

    fn has_commit(&self, _: &RepositoryPin, commit: &str) -> Option<bool> {
        self.commits.get(commit).copied().or(self.others)
    }
}

fn pin(repo: &str, version: Option<&str>) -> RepositoryPin {
    let id = ObjectId([7; 20]);
    RepositoryPin {
        repo: repo.into(),
        git_ref: "main".into(),
        commit: id,
        tree: id,
        submodules: Vec::new(),
        excluded: Vec::new(),
        archive: version.map(|version| ArchivePin {
            version: version.into(),
            url: String::new(),
            sha256: String::new(),
            status: "active".into(),
        }),
    }
}

/// The ids of comfy's own table, with a question mark where it is not certain.
fn found(address: &str, pin: &RepositoryPin, known: &Known) -> String {
    let table = embedded_table();
    let ids: Vec<String> = table
        .advisories
        .iter()
        .filter_map(|a| match_part(a, address, pin, known))
        .map(|f| match &f.uncertain {
            Some(why) => format!("{}? ({why})", f.id.unwrap_or_default()),
            None => f.id.unwrap_or_default(),
        })
        .collect();
    ids.join(", ")
}

#[test]
fn a_part_is_found_by_its_commits_its_version_or_as_possible() {
    let impact = pin("https://github.com/LTDRDATA/ComfyUI-Impact-Pack.git", None);
    let introduced = "e227cfcee1a9b34d086590ab20a0798b07d6d714";
    let fixed = "a43dae373e648ae0f0cc0c9768c3cea6a72acff7";
    let with = |commits: &[(&'static str, bool)], version| Known {
        commits: commits.iter().copied().collect(),
        version,
        ..Known::default()
    };
    let told = [
        (
            "affected by history",
            with(&[(introduced, true), (fixed, false)], None),
        ),
        // The history decides where both are known.
        (
            "fixed by history",
            with(&[(introduced, true), (fixed, true)], Some("7.6.1")),
        ),
        (
            "before it was introduced",
            with(&[(introduced, false), (fixed, false)], None),
        ),
        ("affected by version", with(&[], Some("7.6.1"))),
        ("fixed by version", with(&[], Some("8.0"))),
        ("neither is known", with(&[], None)),
        ("half of the history", with(&[(introduced, true)], None)),
    ]
    .map(|(what, known)| format!("{what}: {}", found("node.impact", &impact, &known)));
    insta::assert_snapshot!(told.join("\n"), @"
    affected by history: COMFY-2024-0004
    fixed by history: 
    before it was introduced: 
    affected by version: COMFY-2024-0004
    fixed by version: 
    neither is known: COMFY-2024-0004? (the version of this commit is not known here)
    half of the history: COMFY-2024-0004? (the version of this commit is not known here)
    ");
}

#[test]
fn a_node_of_the_registry_is_found_by_its_version() {
    let at = |id: &str, version: &str| {
        let pin = pin(&format!("registry:{id}"), Some(version));
        format!(
            "{id} {version}: {}",
            found("node.x", &pin, &Known::default())
        )
    };
    let told = [
        at("comfyui-image-saver", "1.24.0"),
        at("comfyui-image-saver", "1.23.0"),
        at("comfyui-erenodes", "3.5.2"),
        at("comfyui-erenodes", "3.6.1"),
        at("comfyui-manager", "3.39.1"),
        at("comfyui-manager", "3.40"),
        at("comfyui-manager", "4.0.4"),
        at("upscaler-4k", "1.0.0"),
        at("kj-pack", "1.0.0"),
    ];
    insta::assert_snapshot!(told.join("\n"), @"
    comfyui-image-saver 1.24.0: COMFY-2026-0009
    comfyui-image-saver 1.23.0: 
    comfyui-erenodes 3.5.2: COMFY-2026-0010
    comfyui-erenodes 3.6.1: 
    comfyui-manager 3.39.1: COMFY-2026-0001, COMFY-2026-0005
    comfyui-manager 3.40: 
    comfyui-manager 4.0.4: COMFY-2026-0001, COMFY-2026-0005
    upscaler-4k 1.0.0: COMFY-2025-0002
    kj-pack 1.0.0:
    ");
}

#[test]
fn comfyui_is_only_found_where_it_has_what_is_faulty() {
    let core = pin("https://github.com/comfyanonymous/ComfyUI", None);
    let with = |version, files: &[&'static str]| Known {
        version: Some(version),
        files: Some(files.to_vec()),
        ..Known::default()
    };
    let nodes = "comfy_extras/nodes_dataset.py";
    let told = [
        ("0.3.64", with("0.3.64", &["main.py"])),
        ("0.25.0", with("0.25.0", &["main.py", nodes])),
        ("0.29.1", with("0.29.1", &["main.py", nodes])),
        ("0.30.0", with("0.30.0", &["main.py", nodes])),
    ]
    .map(|(what, known)| format!("{what}: {}", found("comfyui", &core, &known)));
    insta::assert_snapshot!(told.join("\n"), @"
    0.3.64: COMFY-2026-0006
    0.25.0: COMFY-2026-0006, COMFY-2026-0007, COMFY-2026-0008
    0.29.1: COMFY-2026-0008
    0.30.0:
    ");
}

#[test]
fn a_file_gives_malware_away_under_any_name() {
    let known = Known {
        files: Some(vec!["__init__.py", "scripts/displayupdater.EXE"]),
        ..Known::default()
    };
    let told = found(
        "node.new-name",
        &pin("https://github.com/a/b", None),
        &known,
    );
    insta::assert_snapshot!(told, @"COMFY-2025-0002? (it holds scripts/displayupdater.EXE, as that malware does)");
}

#[test]
fn a_package_is_found_by_its_version_without_its_local_label() {
    let table = embedded_table();
    let told = ["8.3.41", "8.3.41+cu128", "8.3.43", "8.3.47"].map(|version| {
        let found = table
            .advisories
            .iter()
            .find_map(|a| match_package(a, "ultralytics", version));
        format!("{version}: {}", found.map_or("-".into(), |f| f.id_text()))
    });
    insta::assert_snapshot!(told.join("\n"), @"
    8.3.41: COMFY-2024-0005
    8.3.41+cu128: COMFY-2024-0005
    8.3.43: -
    8.3.47: -
    ");
}
