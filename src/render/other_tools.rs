//! comfy.lock in the forms of other tools. The same lock always gives the same bytes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, json};

use crate::lock::markers::platform_marker;
use crate::lock::python::{DEFAULT_VARIANT, LockedPackage};
use crate::lock::resolve::addresses::{is_own, place_marker};
use crate::lock::{Lock, LockedPython};
use crate::manifest::Manifest;
use crate::manifest::node_source::NodeSource;

/// A form of another tool's, and what it cannot say.
pub(crate) struct ExportedText {
    pub text: String,
    /// One line each.
    pub lost: Vec<String>,
}

/// A snapshot of ComfyUI-Manager, as `restore-snapshot` takes it.
pub(crate) fn manager_snapshot(manifest: &Manifest, lock: &Lock) -> ExportedText {
    let (mut git, mut registry, mut lost) = (Map::new(), Map::new(), Vec::new());
    for (name, pin) in &lock.nodes {
        let Some(node) = manifest.nodes.get(name) else {
            continue;
        };
        match pin.source() {
            NodeSource::Repository(repo) => {
                let entry = json!({ "hash": pin.commit.to_string(), "disabled": !node.enabled });
                git.insert(repo.to_string(), entry);
            }
            NodeSource::Registry(id) => {
                if !node.enabled {
                    lost.push(format!(
                        "node {name}: a snapshot has no registry nodes that are switched off"
                    ));
                    continue;
                }
                registry.insert(id.to_string(), json!(pin.short_name()));
            }
            NodeSource::Folder(_) => {
                lost.push(format!("node {name}: a snapshot has no folders of yours"));
            }
        }
    }
    let packages = lock.python.as_ref().map_or(&[][..], |p| &p.packages);
    let mut pips = Map::new();
    for p in packages
        .iter()
        .filter(|p| p.serves_variant(DEFAULT_VARIANT))
    {
        pips.insert(format!("{}=={}", p.name, p.version), json!(""));
    }
    if !lock.models.is_empty() {
        lost.push("models: a snapshot has none".into());
    }
    let snapshot = json!({
        "comfyui": lock.comfyui.commit.to_string(),
        "git_custom_nodes": git,
        "cnr_custom_nodes": registry,
        "file_custom_nodes": [],
        "pips": pips,
    });
    ExportedText {
        text: super::plan_json::json_text(&snapshot),
        lost,
    }
}

/// The packages as requirements with hashes, which pip and uv install with `--require-hashes`.
pub(crate) fn requirements(python: &LockedPython) -> ExportedText {
    let mut out = format!(
        "# Made by `comfy export requirements` from comfy.lock, for Python {}.\n",
        python.version
    );
    let (packages, lost) = without_accelerators(python);
    for x in python
        .indexes
        .iter()
        .filter(|x| x.url.starts_with("https://"))
    {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "--extra-index-url {}", x.url);
    }
    for p in packages {
        let marker = place_marker(python, p);
        let marker = marker.map(|m| format!(" ; {m}")).unwrap_or_default();
        let _ = write!(out, "{}=={}{marker}", p.name, p.version);
        for w in &p.wheels {
            let _ = write!(out, " \\\n    --hash=sha256:{}", w.sha256);
        }
        out.push('\n');
    }
    ExportedText { text: out, lost }
}

/// The packages as pylock.toml (PEP 751); `addresses` are those of the wheels, by file name and hash.
pub(crate) fn pylock(
    python: &LockedPython,
    addresses: &BTreeMap<(String, String), String>,
) -> ExportedText {
    let string = |s: &str| toml::Value::String(s.into()).to_string();
    let mut out = format!(
        "# Made by `comfy export pylock` from comfy.lock.\nlock-version = \"1.0\"\nrequires-python = \
         {}\nenvironments = [{}]\ncreated-by = \"comfy\"\n",
        string(&format!("=={}.*", python.version)),
        python
            .platforms
            .iter()
            .map(|p| string(&platform_marker(*p)))
            .collect::<Vec<_>>()
            .join(", ")
    );
    let (packages, mut lost) = without_accelerators(python);
    for p in packages {
        let _ = write!(
            out,
            "\n[[packages]]\nname = {}\nversion = {}\n",
            string(&p.name),
            string(&p.version)
        );
        if let Some(marker) = place_marker(python, p) {
            let _ = writeln!(out, "marker = {}", string(&marker));
        }
        let index = index_of(python, p);
        let _ = writeln!(out, "index = {}", string(&index));
        for w in &p.wheels {
            let key = (w.file.clone(), w.sha256.clone());
            let Some(address) = addresses.get(&key) else {
                lost.push(format!("{}: its index does not have it any more", w.file));
                continue;
            };
            let _ = write!(
                out,
                "\n[[packages.wheels]]\nname = {}\nurl = {}\n",
                string(&w.file),
                string(address)
            );
            if let Some(size) = w.size {
                let _ = writeln!(out, "size = {size}");
            }
            let _ = writeln!(out, "hashes = {{ sha256 = {} }}", string(&w.sha256));
        }
    }
    ExportedText { text: out, lost }
}

fn index_of(python: &LockedPython, p: &LockedPackage) -> String {
    python
        .index_of(p)
        .map_or(crate::lock::uv::request::PYPI, |x| x.url.as_str())
        .to_string()
}

/// The packages of machines without an accelerator: other tools know no machines.
fn without_accelerators(python: &LockedPython) -> (Vec<&LockedPackage>, Vec<String>) {
    let (here, others): (Vec<_>, Vec<_>) = python
        .packages
        .iter()
        .partition(|p| p.serves_variant(DEFAULT_VARIANT));
    let (own, here): (Vec<_>, Vec<_>) = here.into_iter().partition(|p| is_own(p));
    let mut lost: Vec<String> = own
        .iter()
        .map(|p| {
            format!(
                "{} {}: it is a wheel of yours, which no index has",
                p.name, p.version
            )
        })
        .collect();
    let mut by_variant: BTreeMap<&str, usize> = BTreeMap::new();
    for variant in others.iter().flat_map(|p| &p.accelerators) {
        *by_variant.entry(variant).or_default() += 1;
    }
    for (variant, n) in by_variant {
        lost.push(format!(
            "{} for {variant}: the format knows no accelerators",
            crate::text::count_of(n, "package")
        ));
    }
    (here, lost)
}
