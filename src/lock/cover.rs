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

/// Compares repo and ref of ComfyUI and of every node, disabled ones included.
pub fn compare(manifest: &Manifest, lock: &Lock) -> Cover {
    let mut cover = Cover::default();
    let m = &manifest.comfyui;
    cover.pin(manifest, &["comfyui"], (&m.repo, &m.git_ref), Some(&lock.comfyui));
    for (name, node) in &manifest.nodes {
        cover.pin(manifest, &["nodes", name], (&node.repo, &node.git_ref), lock.nodes.get(name));
    }
    for name in lock.nodes.keys().filter(|n| !manifest.nodes.contains_key(*n)) {
        cover.warnings.push(format!("comfy.lock pins node.{name}, which comfy.toml no longer names; `comfy lock` removes it"));
    }
    cover
}

impl Cover {
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
