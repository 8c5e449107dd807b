//! Coverage: whether the lock answers what the manifest asks (section "comfy.lock" of the README).

use super::{Lock, Pin};
use crate::manifest::Manifest;
use crate::problem::Problem;

/// What the comparison found.
#[derive(Debug, Default)]
pub struct Cover {
    /// Missing or different: `plan` and `apply` refuse.
    pub problems: Vec<Problem>,
    /// In the lock, no longer in the manifest.
    pub warnings: Vec<String>,
}

/// Compares repo and ref of ComfyUI and of every node, disabled ones included, and what was asked of Python.
pub fn compare(manifest: &Manifest, lock: &Lock) -> Cover {
    let mut cover = Cover::default();
    let m = &manifest.comfyui;
    cover.pin(manifest, &["comfyui"], (&m.repo, &m.git_ref), Some(&lock.comfyui));
    for (name, node) in &manifest.nodes {
        cover.pin(manifest, &["nodes", name], (&node.repo, &node.git_ref), lock.nodes.get(name));
    }
    cover.python(manifest, lock);
    for name in lock.nodes.keys().filter(|n| !manifest.nodes.contains_key(*n)) {
        cover.warnings.push(format!("comfy.lock pins node.{name}, which comfy.toml no longer names; `comfy lock` removes it"));
    }
    cover
}

impl Cover {
    /// The Python version, requirements, overrides, indexes, and every node's `ignore_requirements`.
    fn python(&mut self, manifest: &Manifest, lock: &Lock) {
        let Some(p) = &lock.python else {
            self.problems.push(Problem::new("comfy.lock holds no Python packages: an older comfy wrote it").hint("run `comfy lock`"));
            return;
        };
        let m = &manifest.python;
        let differs = [
            ("version", m.version != p.version),
            ("requirements", m.requirements != p.requirements),
            ("overrides", m.overrides != p.overrides),
            ("indexes", m.indexes != p.indexes),
        ];
        for (key, _) in differs.iter().filter(|(_, d)| *d) {
            let place = manifest.source.at(&["python", key]);
            self.problems.push(Problem::new(format!("{place}: python.{key} is not what comfy.lock was made for")).hint("run `comfy lock`"));
        }
        for (name, node) in &manifest.nodes {
            let locked = lock.asks.get(&format!("node.{name}")).map_or(&[][..], |a| &a.ignored);
            if lock.nodes.contains_key(name) && node.ignore_requirements != locked {
                let place = manifest.source.at(&["nodes", name, "ignore_requirements"]);
                self.problems
                    .push(Problem::new(format!("{place}: nodes.{name}.ignore_requirements is not what comfy.lock was made for")).hint("run `comfy lock`"));
            }
        }
    }

    fn pin(&mut self, manifest: &Manifest, at: &[&str], (repo, git_ref): (&str, &str), pin: Option<&Pin>) {
        let key = at.join(".");
        let hint = "run `comfy lock`; if you reverted comfy.lock alone, revert comfy.toml with it";
        let Some(pin) = pin else {
            let place = manifest.source.at(at);
            self.problems.push(Problem::new(format!("{place}: {key} is not in comfy.lock")).hint("run `comfy lock`"));
            return;
        };
        for (field, asked, locked) in [("repo", repo, &pin.repo), ("ref", git_ref, &pin.git_ref)] {
            if asked != locked {
                let place = manifest.source.at(&[at, &[field]].concat());
                self.problems.push(Problem::new(format!("{place}: {key}.{field} is \"{asked}\", but comfy.lock was made for \"{locked}\"")).hint(hint));
            }
        }
    }
}
