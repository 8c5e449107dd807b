//! What `outdated` tells of a pin: what its ref names now, and what a person needs to judge that.

use crate::host::git::GitStore;
use crate::host::registry::RegistryClient;
use crate::ids::Part;
use crate::lock::difference::CommitRange;
use crate::lock::newer::{RequirementChanges, UnmetComfyui};
use crate::lock::resolve::moves::moved_remark;
use crate::lock::resolve::{CommitQuery, RepositoryResolver, ResolvedRef, SourceTexts};
use crate::lock::tree_facts::{self, TreeFacts};
use crate::lock::{Lock, RepositoryPin, requirements};
use crate::manifest::node_source::NodeSource;
use crate::problem::Result;
use crate::progress::NoProgress;
use crate::project::ComfyProject;
use crate::records::import_results::{ImportHealth, ImportResults};
use crate::records::running;
use crate::text::{count_of, escape_text};
use pep508_rs::pep440_rs::Version;

/// A pin that has something newer, or of which a person should know something else.
#[derive(serde::Serialize)]
pub(super) struct OutdatedPin {
    /// `comfyui`, or the node's name.
    pub name: String,
    pub repo: String,
    #[serde(rename = "ref")]
    pub git_ref: String,
    /// The commit, or the version in the registry.
    pub from: String,
    /// `None`: there is nothing newer.
    pub to: Option<String>,
    /// `None`: not known.
    commits: Option<CommitRange>,
    /// `None`: not known.
    requirements: Option<RequirementChanges>,
    /// Nodes that would not accept the version of ComfyUI any more.
    unmet_comfyui: Vec<UnmetComfyui>,
    /// What the registry says of the pinned and of the newest version.
    registry: Option<RegistryVerdict>,
    /// The address to which the repository's own server redirects.
    moved_to: Option<String>,
    /// What the last import check found of the pinned commit; `None`: it is not live, or was not
    /// checked.
    import: Option<ImportVerdict>,
}

#[derive(serde::Serialize)]
struct RegistryVerdict {
    /// `active`, `pending`, `flagged`, `banned`, `deleted`.
    pinned: String,
    newest: String,
}

#[derive(serde::Serialize)]
struct ImportVerdict {
    loaded: bool,
    /// Why not.
    failure: Option<String>,
}

impl OutdatedPin {
    /// Whether the registry does not give the pinned version any more.
    pub(super) fn is_withdrawn(&self) -> bool {
        let gone = |r: &RegistryVerdict| matches!(r.pinned.as_str(), "banned" | "deleted");
        self.registry.as_ref().is_some_and(gone)
    }

    /// What a newer one brings, a line each.
    pub(super) fn details(&self) -> Vec<String> {
        let mut out = Vec::new();
        match &self.commits {
            Some(range) => {
                out.push(count_of(range.count, "commit"));
                out.extend(range.lines().into_iter().map(|l| format!("  {l}")));
            }
            None if NodeSource::of(&self.repo).is_repository() => {
                out.push("the commits between are not known: the server does not tell them".into());
            }
            None => {}
        }
        match &self.requirements {
            Some(changes) => out.extend(changes.text().map(|t| format!("requirements: {t}"))),
            None => out.push("its requirements are not known before it is locked".into()),
        }
        out.extend(self.unmet_comfyui.iter().map(|u| {
            let who = match u.node == self.name {
                true => String::new(),
                false => format!("node.{} ", u.node),
            };
            let requires = escape_text(&u.requires);
            format!(
                "{who}requires ComfyUI {requires}, and this is {}",
                u.comfyui
            )
        }));
        let newest = self.registry.as_ref().map(|r| r.newest.as_str());
        if let Some(status) = newest.filter(|s| *s != "active") {
            out.push(format!(
                "the registry says that the newest version is {status}"
            ));
        }
        match &self.import {
            Some(ImportVerdict {
                failure: Some(why), ..
            }) => out.push(format!(
                "the pinned one fails to import: {}",
                escape_text(why)
            )),
            Some(_) => out.push("the pinned one loaded in the last import check".into()),
            None => {}
        }
        out
    }

    /// What concerns the pinned one.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut out = Vec::new();
        if let Some(to) = &self.moved_to {
            out.push(moved_remark(&self.name, &self.repo, to));
        }
        let pinned = self.registry.as_ref().map(|r| r.pinned.as_str());
        if let Some(status) = pinned.filter(|s| !matches!(*s, "active" | "pending")) {
            let (name, from) = (&self.name, escape_text(&self.from));
            out.push(format!(
                "node.{name}: the registry says that version {from}, which comfy.lock pins, is {status}"
            ));
        }
        out
    }
}

/// Looks up what there is to know of pins.
pub(super) struct PinInspector<'a> {
    lock: &'a Lock,
    git: &'a GitStore,
    registry: RegistryClient<'a>,
    /// The version of ComfyUI that is pinned.
    core: std::sync::OnceLock<Option<Version>>,
    live: Option<LiveCode>,
}

/// The generation that is live, and what the last import check found.
struct LiveCode {
    spec: crate::desired::GenerationSpec,
    health: ImportHealth,
}

/// What was read of a tree.
struct SeenTree {
    facts: TreeFacts,
    lines: Vec<requirements::RequirementLine>,
    project_version: Option<Version>,
}

impl<'a> PinInspector<'a> {
    pub(super) fn new(
        project: &ComfyProject,
        lock: &'a Lock,
        git: &'a GitStore,
    ) -> PinInspector<'a> {
        PinInspector {
            live: LiveCode::read(project),
            registry: RegistryClient::new(&git.net),
            core: std::sync::OnceLock::new(),
            lock,
            git,
        }
    }

    /// Returns what there is to tell of a pin; `None` where nothing is.
    ///
    /// # Errors
    /// What its ref names now could not be looked up.
    pub(super) fn look_at(
        &self,
        address: &str,
        pin: &RepositoryPin,
    ) -> Result<Option<OutdatedPin>> {
        let name = address.trim_start_matches("node.");
        let mut row = OutdatedPin {
            name: name.to_string(),
            repo: pin.repo.clone(),
            git_ref: pin.git_ref.clone(),
            from: pin.short_name(),
            to: None,
            commits: None,
            requirements: None,
            unmet_comfyui: Vec::new(),
            registry: None,
            moved_to: None,
            import: self.live.as_ref().and_then(|l| l.verdict(address, pin)),
        };
        if let (NodeSource::Registry(id), Some(archive)) = (pin.source(), &pin.archive) {
            // An archive is downloaded by `update` alone.
            let newest = self.registry.find_version(id, &pin.git_ref)?;
            let is_newer = newest.version != archive.version;
            let pinned = match is_newer {
                true => self.registry.version_status(id, &archive.version)?,
                false => Some(newest.status.clone()),
            };
            row.to = is_newer.then_some(newest.version);
            row.registry = Some(RegistryVerdict {
                pinned: pinned.unwrap_or_else(|| "deleted".into()),
                newest: newest.status,
            });
        } else {
            let newest = self.git.resolve_ref(&pin.repo, &pin.git_ref)?;
            if newest.commit != pin.commit {
                row.from = pin.commit.to_string();
                row.to = Some(newest.commit.to_string());
                self.compare(&mut row, address, pin, &newest);
            }
            row.moved_to = newest.moved_to;
        }
        let is_told = row.to.is_some() || !row.warnings().is_empty();
        Ok(is_told.then_some(row))
    }

    fn compare(
        &self,
        row: &mut OutdatedPin,
        address: &str,
        pin: &RepositoryPin,
        new: &ResolvedRef,
    ) {
        row.commits = self
            .git
            .commits_between(&pin.repo, &pin.commit, &new.commit);
        let Some(tree) = self.tree_of(address, pin, new) else {
            return;
        };
        let known = self.lock.asks.get(address).map_or(&[][..], |a| &a.lines);
        row.requirements = Some(RequirementChanges::between(known, &tree.lines));
        let pinned =
            |address: &str, pin: &RepositoryPin| self.tree_of(address, pin, &pin.commit.into());
        if address != "comfyui" {
            let old = pinned(address, pin);
            let old = old.as_ref().map(|t| (&t.facts, self.core()));
            let new = (&tree.facts, self.core());
            row.unmet_comfyui
                .extend(UnmetComfyui::newly(&row.name, old, new));
            return;
        }
        // Another ComfyUI may be one that a node does not accept.
        for (name, pin) in &self.lock.nodes {
            let Some(node) = pinned(&format!("node.{name}"), pin) else {
                continue;
            };
            let (old, new) = (self.core(), tree.project_version.as_ref());
            let unmet = UnmetComfyui::newly(name, Some((&node.facts, old)), (&node.facts, new));
            row.unmet_comfyui.extend(unmet);
        }
    }

    fn core(&self) -> Option<&Version> {
        let read = || {
            let pin = &self.lock.comfyui;
            let tree = self.tree_of("comfyui", pin, &pin.commit.into());
            tree?.project_version
        };
        self.core.get_or_init(read).as_ref()
    }

    /// Reads the tree of a commit, as far as it can be had.
    fn tree_of(&self, address: &str, pin: &RepositoryPin, of: &ResolvedRef) -> Option<SeenTree> {
        let asks = self.lock.asks.get(address);
        let default = vec![requirements::FILE.to_string()];
        let files = asks.and_then(|a| a.files.clone()).unwrap_or(default);
        let wanted = CommitQuery {
            repo: &pin.repo,
            git_ref: &pin.git_ref,
            commit: &of.commit,
            archive: pin.archive.as_ref(),
            exclude: &pin.exclusions(),
            requirements_files: &files,
            sources: SourceTexts::Project,
        };
        let seen = self.git.snapshot(&wanted, &NoProgress).ok()?;
        let project = seen.sources.get(tree_facts::PYPROJECT);
        Some(SeenTree {
            facts: TreeFacts::of_tree(&seen.listing, &seen.requirements, &seen.sources),
            lines: requirements::parse_files(&files, &seen.requirements),
            project_version: project.and_then(|text| tree_facts::project_version(text)),
        })
    }
}

impl LiveCode {
    fn read(project: &ComfyProject) -> Option<LiveCode> {
        let paths = project.instance_paths().ok()?;
        let id = running::current_generation(&paths)?;
        let health = ImportResults::read(&paths).health_of(&id)?.clone();
        let spec = running::live_spec(&paths)?;
        Some(LiveCode { spec, health })
    }

    /// What was found of this very pin.
    fn verdict(&self, address: &str, pin: &RepositoryPin) -> Option<ImportVerdict> {
        let part: Part = address.parse().ok()?;
        if self.spec.pin_of(&part)?.commit != pin.commit {
            return None;
        }
        let failure = match &part {
            Part::Comfyui => self.health.stopped.clone(),
            // Nothing is known of nodes where ComfyUI itself stopped.
            Part::Node(_) if self.health.stopped.is_some() => return None,
            Part::Node(name) => {
                let failed = self.health.failed.iter().find(|(n, _)| n == name);
                failed.map(|(_, why)| why.clone())
            }
        };
        Some(ImportVerdict {
            loaded: failure.is_none(),
            failure,
        })
    }
}
