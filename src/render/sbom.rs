//! comfy.lock as a CycloneDX bill of materials (ECMA-424, 1.6). The same lock always gives the same
//! bytes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::lock::{Lock, ModelPin, RepositoryPin, python};

pub(crate) fn bill_of_materials(lock: &Lock) -> String {
    let mut components: Vec<Value> = lock
        .repository_pins()
        .map(|(address, pin)| repository_component(&address, pin))
        .collect();
    components.extend(
        lock.python
            .iter()
            .flat_map(|p| package_components(&p.packages)),
    );
    components.extend(
        lock.models
            .iter()
            .map(|(path, pin)| model_component(path, pin)),
    );
    let bom = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "tools": { "components": [{ "type": "application", "name": "comfy", "version": env!("CARGO_PKG_VERSION") }] },
            "component": { "type": "application", "bom-ref": "instance", "name": "comfy.lock" },
        },
        "components": components,
    });
    super::plan_json::json_text(&bom)
}

fn repository_component(address: &str, pin: &RepositoryPin) -> Value {
    let core = address == "comfyui";
    let name = address.trim_start_matches("node.");
    let mut c = json!({
        "type": if core { "application" } else { "library" },
        "bom-ref": address,
        "name": name,
        "version": pin.commit.to_string(),
        "externalReferences": [{ "type": "vcs", "url": pin.repo }],
        "properties": [{ "name": "comfy:ref", "value": pin.git_ref }, { "name": "comfy:tree", "value": pin.tree.to_string() }],
    });
    if let Some(a) = &pin.archive {
        c["version"] = json!(a.version);
        c["externalReferences"] = json!([{
            "type": "distribution",
            "url": a.url,
            "hashes": [{ "alg": "SHA-256", "content": a.sha256 }],
        }]);
    } else if !pin.source().is_repository() {
        // A folder of somebody's machine is no address.
        c["externalReferences"] = json!([]);
    }
    // purl-spec, types/github: names are in lower case.
    if let Some(path) = pin.repo.strip_prefix("https://github.com/") {
        c["purl"] = json!(format!(
            "pkg:github/{}@{}",
            path.trim_end_matches('/')
                .trim_end_matches(".git")
                .to_lowercase(),
            pin.commit
        ));
    }
    let submodule = |s: &crate::lock::SubmodulePin| json!({ "type": "library", "bom-ref": format!("{address}/{}", s.path), "name": s.path, "version": s.commit.to_string(), "externalReferences": [{ "type": "vcs", "url": s.repo }] });
    if !pin.submodules.is_empty() {
        c["components"] = pin.submodules.iter().map(submodule).collect();
    }
    c
}

/// One for each entry; a release that several indexes or machines have is told apart by a number.
fn package_components(packages: &[python::LockedPackage]) -> Vec<Value> {
    let mut seen = BTreeMap::new();
    let one = |p: &python::LockedPackage| {
        let key = format!("{}=={}", p.name, p.version);
        let before = seen.entry(key.clone()).or_insert(0_u32);
        *before += 1;
        match *before {
            1 => package_component(p, &key),
            n => package_component(p, &format!("{key}#{n}")),
        }
    };
    packages.iter().map(one).collect()
}

fn package_component(p: &python::LockedPackage, key: &str) -> Value {
    let mut c = json!({
        "type": "library",
        "bom-ref": key,
        "name": p.name,
        "version": p.version,
        "purl": format!("pkg:pypi/{}@{}", p.name, p.version),
    });
    // A single file is the package; if there are several, each machine installs a different one.
    match &p.wheels[..] {
        [one] => c["hashes"] = json!([{ "alg": "SHA-256", "content": one.sha256 }]),
        many => c["properties"] = many.iter().map(|w| json!({ "name": format!("comfy:wheel:{}", w.file), "value": format!("sha256:{}", w.sha256) })).collect(),
    }
    c
}

fn model_component(path: &str, pin: &ModelPin) -> Value {
    let mut c = json!({
        "type": "machine-learning-model",
        "bom-ref": format!("model.{path}"),
        "name": path,
        "version": pin.revision.clone().unwrap_or_else(|| format!("sha256:{}", pin.sha256)),
        "hashes": [{ "alg": "SHA-256", "content": pin.sha256.to_string() }],
        "properties": [{ "name": "comfy:size", "value": pin.size.to_string() }],
    });
    if let Some(source) = pin.source.as_ref().filter(|s| !s.starts_with("file:")) {
        c["externalReferences"] = json!([{ "type": "distribution", "url": source, "hashes": [{ "alg": "SHA-256", "content": pin.sha256.to_string() }] }]);
    }
    c
}
