//! Coverage: whether comfy.lock matches comfy.toml.

use super::{Lock, RepositoryPin};
use crate::manifest::Manifest;
use crate::manifest::node_source::NodeSource;
use crate::problem::Problem;

/// How many models missing in the lock a message lists at most.
const SHOWN: usize = 5;

/// The result of the comparison.
#[derive(Debug, Default)]
pub(crate) struct Coverage {
    /// Missing or different: `plan` and `apply` refuse.
    pub problems: Vec<Problem>,
    /// In comfy.lock, but no longer in comfy.toml.
    pub warnings: Vec<String>,
}

/// Compares repo and ref of ComfyUI and of every node, disabled ones included, and what was asked
/// of Python.
pub(crate) fn check(manifest: &Manifest, lock: &Lock) -> Coverage {
    let mut cover = Coverage::default();
    let m = &manifest.comfyui;
    cover.check_pin(
        manifest,
        &["comfyui"],
        (&m.repo, &m.git_ref),
        Some(&lock.comfyui),
    );
    for (name, node) in &manifest.nodes {
        cover.check_pin(
            manifest,
            &["nodes", name],
            (&node.repo, &node.git_ref),
            lock.nodes.get(name),
        );
        cover.check_excluded(manifest, name, &node.exclude, lock.nodes.get(name));
    }
    cover.check_python(manifest, lock);
    cover.check_models(manifest, lock);
    for name in lock
        .nodes
        .keys()
        .filter(|n| !manifest.nodes.contains_key(*n))
    {
        cover.warnings.push(format!(
            "comfy.lock pins node.{name}, which comfy.toml no longer declares; `comfy lock` \
                removes it"
        ));
    }
    cover
}

impl Coverage {
    /// Source and sha256 of every model.
    fn check_models(&mut self, manifest: &Manifest, lock: &Lock) {
        let mut off = 0;
        // Both are sorted and may have twenty thousand entries, so they are merged.
        let mut pins = lock.models.iter().peekable();
        let mut extra = Vec::new();
        for (path, m) in &manifest.models {
            while let Some((p, _)) = pins.next_if(|(p, _)| *p < path) {
                extra.push(p);
            }
            let pin = pins.next_if(|(p, _)| *p == path).map(|(_, pin)| pin);
            let shown = || crate::text::escape_text(path);
            let Some(pin) = pin else {
                off += 1;
                if off <= SHOWN {
                    let place = manifest.source.place_of_key(&["models", path]);
                    self.problems.push(
                        Problem::new(format!(
                            "{place}: model \"{}\" is not in comfy.lock",
                            shown()
                        ))
                        .with_hint("run `comfy lock`"),
                    );
                }
                continue;
            };
            let hash = m
                .sha256
                .as_deref()
                .is_some_and(|h| Some(pin.sha256) != super::Sha256Digest::parse(h));
            let differs = [("source", m.source != pin.source), ("sha256", hash)];
            for (key, _) in differs.iter().filter(|(_, d)| *d) {
                let place = manifest.source.place_of_key(&["models", path, key]);
                self.problems.push(
                    Problem::new(format!(
                        "{place}: {key} of model \"{}\" does not match comfy.lock",
                        shown()
                    ))
                    .with_hint("run `comfy lock`"),
                );
            }
        }
        if off > SHOWN {
            self.problems.push(
                Problem::new(format!(
                    "{} more are not in comfy.lock",
                    crate::text::count_of(off - SHOWN, "model")
                ))
                .with_hint("run `comfy lock`"),
            );
        }
        extra.extend(pins.map(|(p, _)| p));
        if let Some(first) = extra.first() {
            let more = if extra.len() > 1 {
                format!(" and {} more", extra.len() - 1)
            } else {
                String::new()
            };
            self.warnings.push(format!(
                "comfy.lock pins model \"{first}\"{more}, which comfy.toml no longer declares; \
                    `comfy lock` removes it"
            ));
        }
    }

    /// The Python version, requirements, overrides, indexes, and every node's
    /// `ignore_requirements` and `requirements_files`.
    fn check_python(&mut self, manifest: &Manifest, lock: &Lock) {
        let Some(p) = &lock.python else {
            self.problems.push(
                Problem::new("comfy.lock holds no Python packages: an older comfy wrote it")
                    .with_hint("run `comfy lock`"),
            );
            return;
        };
        let m = &manifest.python;
        let differs = [
            ("version", m.version != p.version),
            ("requirements", m.requirements != p.requirements),
            ("overrides", m.overrides != p.overrides),
            ("platforms", m.platforms != p.platforms),
            ("indexes", m.indexes != p.indexes),
            ("wheels", m.wheels != p.wheels),
            ("allow_pth", m.allow_pth != p.allow_pth),
        ];
        for (key, _) in differs.iter().filter(|(_, d)| *d) {
            let place = manifest.source.place_of_key(&["python", key]);
            self.problems.push(
                Problem::new(format!("{place}: python.{key} does not match comfy.lock"))
                    .with_hint("run `comfy lock`"),
            );
        }
        for (name, node) in &manifest.nodes {
            let locked = lock.asks.get(&format!("node.{name}"));
            let differs = [
                (
                    "ignore_requirements",
                    node.ignore_requirements != locked.map_or(&[][..], |a| &a.ignored),
                ),
                (
                    "requirements_files",
                    node.requirements_files.as_ref() != locked.and_then(|a| a.files.as_ref()),
                ),
            ];
            let is_locked = lock.nodes.contains_key(name);
            for (key, _) in differs.iter().filter(|(_, d)| *d && is_locked) {
                let place = manifest.source.place_of_key(&["nodes", name, key]);
                self.problems.push(
                    Problem::new(format!(
                        "{place}: nodes.{name}.{key} does not match comfy.lock"
                    ))
                    .with_hint("run `comfy lock`"),
                );
            }
        }
    }

    fn check_excluded(
        &mut self,
        manifest: &Manifest,
        name: &str,
        exclude: &[String],
        pin: Option<&RepositoryPin>,
    ) {
        if pin.is_some_and(|p| !p.excluded.iter().map(|x| &x.path).eq(exclude)) {
            let place = manifest.source.place_of_key(&["nodes", name, "exclude"]);
            self.problems.push(
                Problem::new(format!(
                    "{place}: nodes.{name}.exclude does not match comfy.lock"
                ))
                .with_hint("run `comfy lock`"),
            );
        }
    }

    fn check_pin(
        &mut self,
        manifest: &Manifest,
        at: &[&str],
        (repo, git_ref): (&str, &str),
        pin: Option<&RepositoryPin>,
    ) {
        let key = at.join(".");
        let hint = "run `comfy lock`; if you reverted comfy.lock alone, revert comfy.toml with it";
        let Some(pin) = pin else {
            let place = manifest.source.place_of_key(at);
            self.problems.push(
                Problem::new(format!("{place}: {key} is not in comfy.lock"))
                    .with_hint("run `comfy lock`"),
            );
            return;
        };
        let (source, was) = (NodeSource::of(repo), pin.source());
        let (what, state) = source.keys();
        for (field, asked, locked) in [(what, repo, &pin.repo), (state, git_ref, &pin.git_ref)] {
            if asked != locked {
                // Within one kind of source the key's own words.
                let same_kind = source.keys() == was.keys();
                let shown = |text: &str| match NodeSource::of(text) {
                    NodeSource::Registry(own) | NodeSource::Folder(own) if same_kind => own.into(),
                    _ => text.to_string(),
                };
                let (asked, locked) = (shown(asked), shown(locked));
                let place = manifest.source.place_of_key(&[at, &[field]].concat());
                self.problems.push(
                    Problem::new(format!(
                        "{place}: {key}.{field} is \"{asked}\", \
                    but comfy.lock was made for \"{locked}\""
                    ))
                    .with_hint(hint),
                );
            }
        }
    }
}
