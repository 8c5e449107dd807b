//! The rules for `[nodes.NAME]`.

use std::collections::BTreeMap;

use super::{MAX_NODES, ManifestCheck};
use crate::manifest::node_source::{self, LATEST, NodeSource};
use crate::manifest::{wire, *};

/// Returns whether the path at `i` is inside another one, or was listed before.
fn is_inside_another(all: &[String], i: usize) -> bool {
    let path = &all[i];
    let mut others = all.iter().enumerate().filter(|(j, _)| *j != i);
    others.any(|(j, other)| names::is_within(path, other) && (path != other || j < i))
}

impl ManifestCheck {
    pub(super) fn check_nodes(
        &mut self,
        w: BTreeMap<String, wire::TomlNode>,
        core: &str,
    ) -> BTreeMap<String, NodeSettings> {
        let mut nodes = BTreeMap::new();
        let mut by_repo: BTreeMap<String, String> = BTreeMap::new();
        if w.len() > MAX_NODES {
            self.report_mistake(
                &["nodes"],
                format!(
                    "{} nodes are too many; comfy supports up to {MAX_NODES}",
                    w.len()
                ),
                "is this the right file?",
            );
        }
        self.folder_names("nodes", "node", w.keys());
        for (name, n) in w {
            let at = ["nodes", name.as_str()];
            let (repo, git_ref) = self.check_node_source(&at, &n);
            if !repo.is_empty() {
                if let Some(other) = by_repo.insert(names::repo_key(&repo), name.clone()) {
                    self.report_mistake(
                        &[at[0], at[1], NodeSource::of(&repo).keys().0],
                        format!("nodes `{other}` and `{name}` are the same repository"),
                        "remove one of them: ComfyUI would load its classes twice",
                    );
                }
                if names::repo_key(&repo) == names::repo_key(core) {
                    self.report_mistake(
                        &[at[0], at[1], "repo"],
                        format!("node `{name}` is ComfyUI itself"),
                        "declare ComfyUI in [comfyui]",
                    );
                }
            }
            let writable = self.check_writable(&at, n.writable);
            let exclude = self.check_exclude(&at, n.exclude);
            self.check_requirements_files(&at, n.requirements_files.as_deref().unwrap_or_default());
            nodes.insert(
                name,
                NodeSettings {
                    repo,
                    git_ref,
                    enabled: n.enabled.unwrap_or(true),
                    note: n.note,
                    writable,
                    ignore_requirements: n.ignore_requirements.unwrap_or_default(),
                    requirements_files: n.requirements_files,
                    exclude,
                },
            );
        }
        nodes
    }

    /// Returns where a node comes from, as [`NodeSource`] writes it, and which state of it is asked
    /// for.
    fn check_node_source(&mut self, at: &[&str], n: &wire::TomlNode) -> (String, String) {
        let given = [
            ("repo", n.repo.is_some()),
            ("registry", n.registry.is_some()),
            ("path", n.path.is_some()),
        ];
        let keys: Vec<&str> = given.iter().filter(|(_, g)| *g).map(|(k, _)| *k).collect();
        if let [first, second, ..] = keys[..] {
            self.report_mistake(
                &[at, &[second]].concat(),
                format!("[{}] sets `{first}` and `{second}`", at.join(".")),
                "keep one of them: a node comes from one place",
            );
        }
        let misplaced = [
            ("ref", n.git_ref.is_some(), "repo"),
            ("version", n.version.is_some(), "registry"),
        ];
        let source = keys.first().copied().unwrap_or("repo");
        for (key, _, of) in misplaced
            .iter()
            .filter(|(_, set, of)| *set && *of != source)
        {
            self.report_mistake(
                &[at, &[*key]].concat(),
                format!("`{key}` belongs to `{of}`, and this node has `{source}`"),
                match *key {
                    "ref" => "remove it; a version of the registry is `version = \"1.0.5\"`",
                    _ => "remove it; a branch, tag or commit is `ref = \"…\"`",
                },
            );
        }
        if let Some(id) = &n.registry {
            let version = n.version.clone().unwrap_or_else(|| LATEST.into());
            if let Err(why) = node_source::check_registry_id(id) {
                self.report_mistake(
                    &[at, &["registry"]].concat(),
                    format!("registry \"{}\" {why}", crate::text::escape_text(id)),
                    "it is the last part of the node's page at registry.comfy.org",
                );
            }
            if let Err(why) = node_source::check_version(&version) {
                self.report_mistake(
                    &[at, &["version"]].concat(),
                    format!("version \"{}\" {why}", crate::text::escape_text(&version)),
                    "write one that the registry has, or leave it out for the latest",
                );
            }
            return (NodeSource::Registry(&id.to_lowercase()).text(), version);
        }
        if let Some(path) = &n.path {
            self.check_path(&[at, &["path"]].concat(), path);
            if n.exclude.as_ref().is_some_and(|x| !x.is_empty()) {
                self.report_mistake(
                    &[at, &["exclude"]].concat(),
                    "`exclude` does not apply to a folder of your own",
                    "move those files out of the folder",
                );
            }
            let path = path.trim_end_matches('/');
            return (NodeSource::Folder(path).text(), names::DEFAULT_REF.into());
        }
        self.repo_and_ref(at, n.repo.clone(), n.git_ref.clone())
    }

    pub(super) fn folder_names<'a>(
        &mut self,
        section: &str,
        what: &str,
        all: impl Iterator<Item = &'a String>,
    ) {
        let mut seen: BTreeMap<String, &str> = BTreeMap::new();
        for name in all {
            if let Err(why) = names::check_folder(name) {
                self.report_mistake(
                    &[section, name],
                    format!("{what} name \"{}\" {why}", crate::text::escape_text(name)),
                    "choose another name",
                );
            }
            if let Some(other) = seen.insert(names::folded_name(name), name) {
                self.report_mistake(
                    &[section, name],
                    format!("`{other}` and `{name}` are the same name on a Mac's disk"),
                    "rename one of them",
                );
            }
        }
    }

    /// Checks the `exclude` paths of a node, and sorts them.
    fn check_exclude(&mut self, at: &[&str], list: Option<Vec<String>>) -> Vec<String> {
        let mut all = self.check_inner_paths(at, ("exclude", "excluded"), list, |_| None);
        all.sort();
        all
    }

    /// Checks the `requirements_files` of a node. The place of a line is one word in comfy.lock, so
    /// that a path has no spaces.
    fn check_requirements_files(&mut self, at: &[&str], list: &[String]) {
        for (i, p) in list.iter().enumerate() {
            let number = i.to_string();
            let why = match names::check_relative(p) {
                Err(why) => why,
                Ok(()) if p.contains(char::is_whitespace) => "must not contain spaces",
                Ok(()) if list[..i].contains(p) => "is listed twice",
                Ok(()) => continue,
            };
            self.report_mistake(
                &[at, &["requirements_files", &number]].concat(),
                format!(
                    "requirements file \"{}\" {why}",
                    crate::text::escape_text(p)
                ),
                "write the path of a file inside the node",
            );
        }
    }

    /// Checks the `writable` paths of ComfyUI or of a node.
    pub(super) fn check_writable(&mut self, at: &[&str], list: Option<Vec<String>>) -> Vec<String> {
        self.check_inner_paths(at, ("writable", "writable"), list, |path| {
            names::is_code(path).then_some((
                "is code",
                "code stays sealed; write the data file or folder that the node writes",
            ))
        })
    }

    /// Checks paths inside a node, none of them inside another; `key` is the key and what its paths
    /// are called, `why_refused` a further rule and its remedy.
    fn check_inner_paths(
        &mut self,
        at: &[&str],
        (key, called): (&str, &str),
        list: Option<Vec<String>>,
        why_refused: fn(&str) -> Option<(&'static str, &'static str)>,
    ) -> Vec<String> {
        let all: Vec<String> = list
            .unwrap_or_default()
            .iter()
            .map(|p| p.trim_end_matches('/').to_string())
            .collect();
        for (i, path) in all.iter().enumerate() {
            let (why, remedy) = if let Err(why) = names::check_relative(path) {
                (why.to_string(), "write a file or folder inside the node")
            } else if let Some((why, remedy)) = why_refused(path) {
                (why.to_string(), remedy)
            } else if is_inside_another(&all, i) {
                let why = format!("is inside another {called} path");
                (why, "write only the outer one")
            } else {
                continue;
            };
            self.report_mistake(
                &[at, &[key, &i.to_string()]].concat(),
                format!("{key} \"{path}\" {why}"),
                remedy,
            );
        }
        all
    }
}
