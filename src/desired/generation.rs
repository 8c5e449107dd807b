//! A generation as data: its parts, its links, and the id computed from them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::DesiredShare;
use super::venv::VenvSpec;
use crate::ids::{GenerationId, Part};
use crate::lock::RepositoryPin;
use crate::manifest::ShareRole;

/// A whole generation: everything that its folder contains.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GenerationSpec {
    pub layout: u32,
    pub comfyui: RepositoryPin,
    pub nodes: BTreeMap<String, NodeSpec>,
    /// The target of the link at each mount (`models`, `models/loras`, `input`, `output`).
    pub mounts: BTreeMap<String, PathBuf>,
    /// Folders outside the tree that ComfyUI searches too, by share and kind of models.
    #[serde(
        default,
        rename = "elsewhere",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub external_model_dirs: BTreeMap<String, BTreeMap<String, Vec<PathBuf>>>,
    pub state: PathBuf,
    /// The paths in ComfyUI's own folders that nodes may write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writable: Vec<String>,
    /// `None` before the interpreter is known, and in a generation of an older comfy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub venv: Option<VenvSpec>,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NodeSpec {
    pub pin: RepositoryPin,
    /// The folder of the owner's that it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    pub writable: Vec<String>,
}

/// Raised when the folder of a generation changes its shape.
pub(crate) const LAYOUT: u32 = 1;

impl GenerationSpec {
    /// Computes the id: 16 hexadecimal digits of a hash over the folder's content and the origin of
    /// its trees, which its description holds.
    pub fn id(&self) -> GenerationId {
        let mut h = Sha256::new();
        let mut line = |s: String| {
            h.update(s.as_bytes());
            h.update(b"\n");
        };
        line(format!("layout {}", self.layout));
        for (name, pin) in self.pins() {
            line(format!(
                "{name} {} {} {} {}",
                pin.tree, pin.commit, pin.repo, pin.git_ref
            ));
            for s in &pin.submodules {
                line(format!("  {} {} {} {}", s.path, s.commit, s.tree, s.repo));
            }
            for x in &pin.excluded {
                line(format!("  without {} {} {}", x.mode.octal(), x.oid, x.path));
            }
        }
        for (part, w) in self.writable() {
            let top = match &part {
                Part::Comfyui => "/",
                Part::Node(name) => name,
            };
            line(format!("writable {top} {w}"));
        }
        for (mount, target) in &self.mounts {
            line(format!("mount {mount} {}", target.display()));
        }
        for (share, kind, folder) in self.external_model_dirs() {
            line(format!("models {share} {kind} {}", folder.display()));
        }
        line(format!("state {}", self.state.display()));
        if let Some(v) = &self.venv {
            line(format!("venv {}", v.id()));
        }
        GenerationId::of_digest(h)
    }

    /// Iterates over share, kind of models, and folder.
    pub(crate) fn external_model_dirs(&self) -> impl Iterator<Item = (&str, &str, &Path)> {
        let kinds = self.external_model_dirs.iter().flat_map(|(share, kinds)| {
            kinds
                .iter()
                .map(move |(kind, folders)| (share, kind, folders))
        });
        kinds.flat_map(|(share, kind, folders)| {
            folders
                .iter()
                .map(move |f| (share.as_str(), kind.as_str(), f.as_path()))
        })
    }

    /// Iterates over every part with each path that it may write.
    pub(crate) fn writable(&self) -> impl Iterator<Item = (Part, &String)> {
        let nodes = self.nodes.iter().flat_map(|(name, n)| {
            n.writable
                .iter()
                .map(move |w| (Part::Node(name.clone()), w))
        });
        let core = self.writable.iter().map(|w| (Part::Comfyui, w));
        core.chain(nodes)
    }

    /// Iterates over the pins of ComfyUI and every node pack.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Part> {
        std::iter::once(Part::Comfyui).chain(self.nodes.keys().cloned().map(Part::Node))
    }

    /// Returns the parts that `other` lacks, has at another commit or with another content, or has
    /// beyond these.
    pub(crate) fn parts_unlike(&self, other: &GenerationSpec) -> Vec<Part> {
        let content = |pin: Option<&RepositoryPin>| {
            let pin = pin?;
            let (submodules, excluded) = (pin.submodules.clone(), pin.excluded.clone());
            Some((pin.commit, pin.tree, submodules, excluded))
        };
        let all: std::collections::BTreeSet<Part> = self.parts().chain(other.parts()).collect();
        all.into_iter()
            .filter(|part| content(self.pin_of(part)) != content(other.pin_of(part)))
            .collect()
    }

    /// Returns the pin of a part.
    pub(crate) fn pin_of(&self, part: &Part) -> Option<&RepositoryPin> {
        match part {
            Part::Comfyui => Some(&self.comfyui),
            Part::Node(name) => self.nodes.get(name).map(|n| &n.pin),
        }
    }

    /// Iterates over the parts with their pins.
    pub(crate) fn pins(&self) -> impl Iterator<Item = (Part, &RepositoryPin)> {
        let nodes = self
            .nodes
            .iter()
            .map(|(name, n)| (Part::Node(name.clone()), &n.pin));
        std::iter::once((Part::Comfyui, &self.comfyui)).chain(nodes)
    }
}

/// Collects the folders of shares without a mount, by share and kind of models.
pub(super) fn external_model_dirs(
    shares: &[DesiredShare],
) -> BTreeMap<String, BTreeMap<String, Vec<PathBuf>>> {
    let at = |s: &DesiredShare, folder: &String| {
        if folder == "." {
            s.path.clone()
        } else {
            s.path.join(folder)
        }
    };
    let one = |s: &DesiredShare| match &s.role {
        ShareRole::Models(kinds) => Some((
            s.name.clone(),
            kinds
                .iter()
                .map(|(k, all)| (k.clone(), all.iter().map(|f| at(s, f)).collect()))
                .collect(),
        )),
        ShareRole::Mount(_) => None,
    };
    shares.iter().filter_map(one).collect()
}
