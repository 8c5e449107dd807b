//! What others wrote down of an installation of ComfyUI, as comfy understands it: a parser for each
//! format, text in, [`Adopted`] out. What a format says and comfy cannot carry over is a [`Loss`];
//! nothing is guessed.

mod comfy_build;
mod comfy_lock;
mod comfy_pack;
mod comfygit;
mod desktop_snapshot;
mod document;
pub(crate) mod extra_model_paths;
mod format;
pub(crate) mod git_folder;
pub(crate) mod manager_snapshot;
pub(crate) mod manifest_text;
mod packages;
mod pixeloven;
mod project_one;
pub(crate) mod registry_pack;
pub(crate) mod site_packages;

use std::collections::BTreeMap;

use crate::manifest::{
    MODELS, ShareAccess, ShareRole, hub_pages, names, node_source, repo_address,
};
use crate::text::escape_text;
use crate::tree::ObjectId;

pub(crate) use format::read_file;

/// Where ComfyUI is developed, for formats that name its commit and not its repository.
pub(crate) const COMFYUI: &str = "https://github.com/Comfy-Org/ComfyUI";

/// The most nodes and models that are read of one file.
const MOST: usize = 20_000;

/// An installation, or what a file says of one.
#[derive(Debug, Default)]
pub(crate) struct Adopted {
    /// What was read, for people: `a snapshot of ComfyUI-Manager`.
    pub format: &'static str,
    pub core: Option<GitPin>,
    pub nodes: Vec<AdoptedNode>,
    pub models: Vec<AdoptedModel>,
    /// Versions of Python packages by normalised name.
    pub packages: BTreeMap<String, String>,
    /// `3.12`
    pub python: Option<String>,
    pub shares: Vec<AdoptedShare>,
    pub losses: Vec<Loss>,
}

/// A repository at a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GitPin {
    pub repo: String,
    /// None: what the ref names now.
    pub commit: Option<ObjectId>,
    /// The branches and tags that the commit may be on, the likeliest first.
    pub refs: Vec<String>,
    /// What comfy.toml says; none: the default branch.
    pub git_ref: Option<String>,
    /// For a comment in comfy.toml.
    pub note: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AdoptedNode {
    /// Its folder under custom_nodes/.
    pub name: String,
    pub source: AdoptedSource,
    pub enabled: bool,
    pub ignore_requirements: Vec<String>,
    /// Where it lies on this machine.
    pub folder: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AdoptedSource {
    Git(GitPin),
    /// A pack of the registry.
    Registry {
        id: String,
        version: Option<String>,
    },
    /// A folder of the owner's.
    Folder(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AdoptedModel {
    /// Its path in the share.
    pub path: String,
    pub share: String,
    /// None: the file that lies there.
    pub source: Option<String>,
    pub sha256: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AdoptedShare {
    pub name: String,
    pub path: String,
    pub role: ShareRole,
    pub access: ShareAccess,
    /// Whether it is there already, and used as it is.
    pub adopted: bool,
}

/// One thing that cannot be carried over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Loss {
    pub what: String,
    /// How to settle it.
    pub remedy: String,
}

impl Loss {
    pub(crate) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Loss {
        Loss {
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

impl GitPin {
    /// A repository by its address, in any form, and what it is pinned to: a commit, else a branch or a
    /// tag.
    ///
    /// # Errors
    /// The loss, if the address is none that comfy fetches from, or the pin is neither.
    pub(crate) fn parse(what: &str, address: &str, pin: Option<&str>) -> Result<GitPin, Loss> {
        let repo = https_repository(what, address)?;
        let pin = pin.map(str::trim).filter(|p| !p.is_empty());
        let commit = pin.map(str::to_ascii_lowercase);
        let commit = commit.as_deref().and_then(ObjectId::parse);
        let git_ref = pin.filter(|_| commit.is_none());
        if let Some(r) = git_ref
            && let Err(why) = names::git_ref(r)
        {
            return Err(Loss::new(
                format!("{what}: its version \"{}\" {why}", escape_text(r)),
                format!("add it by hand: repo = \"{repo}\" and a `ref`"),
            ));
        }
        if let Some(short) = git_ref.filter(|r| names::is_short_commit(r)) {
            return Err(Loss::new(
                format!("{what}: commit {short} is shortened, which may mean another one tomorrow"),
                format!("add it by hand: repo = \"{repo}\" and all 40 digits as `ref`"),
            ));
        }
        Ok(GitPin {
            repo,
            commit,
            refs: Vec::new(),
            git_ref: git_ref.map(str::to_string),
            note: None,
        })
    }

    /// Of ComfyUI, in a format that does not name the repository.
    pub(crate) fn of_core(pin: Option<&str>) -> Result<GitPin, Loss> {
        GitPin::parse("comfyui", COMFYUI, pin).map(|p| GitPin {
            note: Some("the repository is not named there; this is ComfyUI's own".into()),
            ..p
        })
    }
}

/// The https address of a repository: comfy fetches from no other, and without a user or a token.
fn https_repository(what: &str, address: &str) -> Result<String, Loss> {
    let trimmed = address.trim().trim_end_matches('/');
    let refused = || {
        Loss::new(
            // It may hold a password.
            format!("{what}: the address of its repository is none that comfy fetches from"),
            "publish the repository at an https:// address and add it by hand: `repo` and `ref`",
        )
    };
    let address = if trimmed.starts_with("https://") && names::repo_url(trimmed).is_ok() {
        trimmed.to_string()
    } else {
        repo_address::https_address(trimmed).ok_or_else(refused)?
    };
    let address = address.strip_suffix(".git").unwrap_or(&address);
    match repo_address::page_of_repository(address) {
        Some((repo, _)) => Ok(repo),
        None => Ok(address.to_string()),
    }
}

/// The folder that git and ComfyUI-Manager make of an address.
fn name_of_repository(repo: &str) -> &str {
    let last = repo.trim_end_matches('/').rsplit('/').next();
    let last = last.unwrap_or(repo);
    last.strip_suffix(".git").unwrap_or(last)
}

/// The name that comfy can use for a folder.
fn usable_name(folder: &str) -> String {
    if names::check_folder(folder).is_ok() {
        return folder.to_string();
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let text: String = folder
        .chars()
        .map(|c| if plain(c) { c } else { '-' })
        .take(64)
        .collect();
    let text = text.trim_start_matches(['-', '.']);
    if names::check_folder(text).is_ok() {
        text.to_string()
    } else {
        "node".into()
    }
}

impl Adopted {
    /// Adds a node in the folder `folder`; one that is there already, or that is ComfyUI itself, is a
    /// loss.
    pub(crate) fn add_node(&mut self, folder: &str, source: AdoptedSource, enabled: bool) {
        let shown = escape_text(folder);
        let name = usable_name(folder);
        if self.nodes.len() >= MOST {
            return;
        }
        if let AdoptedSource::Git(pin) = &source {
            let key = names::repo_key(&pin.repo);
            let same = |p: &GitPin| names::repo_key(&p.repo) == key;
            if self.core.as_ref().is_some_and(same) {
                return self.lose(
                    format!("node {shown}: its repository is that of ComfyUI itself"),
                    "remove the folder, or add the node by hand with its own repository",
                );
            }
            let twin = |n: &&AdoptedNode| matches!(&n.source, AdoptedSource::Git(p) if same(p));
            if let Some(twin) = self.nodes.iter().find(twin) {
                return self.lose(
                    format!(
                        "node {shown}: `{}` is the same repository, and ComfyUI would load its classes \
                         twice",
                        twin.name
                    ),
                    format!("keep one of them; comfy.toml has `{}`", twin.name),
                );
            }
        }
        let folded = names::folded_name(&name);
        if self
            .nodes
            .iter()
            .any(|n| names::folded_name(&n.name) == folded)
        {
            return self.lose(
                format!("node {shown}: another node has that name"),
                "keep one of them, or add it by hand with another name",
            );
        }
        if name != folder {
            self.lose(
                format!("node {shown}: its folder is called {name} from now on"),
                "nothing, unless a workflow or another node names the folder",
            );
        }
        self.nodes.push(AdoptedNode {
            name,
            source,
            enabled,
            ignore_requirements: Vec::new(),
            folder: None,
        });
    }

    /// Adds a node by the address of its repository.
    pub(crate) fn add_repository(&mut self, address: &str, pin: Option<&str>, enabled: bool) {
        let folder = name_of_repository(address.split(['?', '#']).next().unwrap_or(address));
        let what = format!("node {}", escape_text(folder));
        match GitPin::parse(&what, address, pin) {
            Ok(pin) => {
                if pin.commit.is_none() {
                    self.lose_moving(&what, pin.git_ref.as_deref());
                }
                self.add_node(folder, AdoptedSource::Git(pin), enabled);
            }
            Err(loss) => self.losses.push(loss),
        }
    }

    /// Adds a node of the registry.
    pub(crate) fn add_pack(
        &mut self,
        folder: &str,
        id: &str,
        version: Option<&str>,
        enabled: bool,
    ) {
        let checked = node_source::check_registry_id(id)
            .and_then(|()| version.map_or(Ok(()), node_source::check_version));
        if let Err(why) = checked {
            return self.lose(
                format!(
                    "node {}: {} {} {why}",
                    escape_text(folder),
                    escape_text(id),
                    escape_text(version.unwrap_or_default())
                ),
                "`comfy add node ID` adds it, with the id on its page in the registry",
            );
        }
        let (id, version) = (id.to_string(), version.map(str::to_string));
        if version.is_none() {
            self.lose(
                format!("node {}: no version is named", escape_text(folder)),
                format!("the newest is taken; write `version` in [nodes.{id}] for another one"),
            );
        }
        self.add_node(folder, AdoptedSource::Registry { id, version }, enabled);
    }

    /// Adds a model; what says no path or a bad one is a loss.
    pub(crate) fn add_model(&mut self, path: &str, source: Option<&str>, sha256: Option<&str>) {
        let path = path.replace('\\', "/");
        let path = path.trim_start_matches("./");
        let path = path.strip_prefix("models/").unwrap_or(path);
        let shown = escape_text(path);
        if self.models.len() >= MOST || self.models.iter().any(|m| m.path == path) {
            return;
        }
        if let Err(why) = names::check_relative(path) {
            return self.lose(
                format!("model \"{shown}\": its path {why}"),
                "put the file into a folder of models, then `comfy add model PATH`",
            );
        }
        let sha256 = sha256.map(str::to_ascii_lowercase);
        let sha256 = sha256.filter(|h| names::is_sha256(h));
        if sha256.is_none() {
            self.lose(
                format!("model \"{shown}\": no SHA-256 is named"),
                "comfy.lock pins what its source, or the disk, has now: compare if it matters",
            );
        }
        let source = source.map(str::trim).filter(|s| !s.is_empty());
        let found = source.map(hub_pages::source_of_address);
        if matches!(found, Some(None)) {
            self.lose(
                format!("model \"{shown}\": its address is none that comfy fetches from"),
                format!("put the file there, or write `source` in [models.\"{shown}\"]"),
            );
        }
        self.models.push(AdoptedModel {
            path: path.to_string(),
            share: MODELS.into(),
            source: found.flatten(),
            sha256,
        });
    }

    pub(crate) fn lose(&mut self, what: impl Into<String>, remedy: impl Into<String>) {
        self.losses.push(Loss::new(what, remedy));
    }

    /// A node or ComfyUI that names no commit.
    fn lose_moving(&mut self, what: &str, git_ref: Option<&str>) {
        let where_from = git_ref.map_or("the default branch".into(), |r| format!("`{r}`"));
        self.lose(
            format!(
                "{what}: no commit is named, so that it is pinned to what {where_from} has today"
            ),
            "nothing, or write the commit as `ref` and run `comfy lock`",
        );
    }
}

#[cfg(test)]
mod tests;
