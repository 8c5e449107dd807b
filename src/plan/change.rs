//! A plan as data: what text, JSON and journal all render.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::ids::AccountIds;
use super::model_summary::{CountAndBytes, ModelSummary};
use super::observed::{TreeDifference, UnknownState};
use super::step::{PlannedStep, Step};
use crate::desired::Desired;
use crate::desired::text_digest::TextDigest;
use crate::desired::venv::PackageInstall;
use crate::ids::{Address, Part};

/// Attributes of a resource, ordered by name.
pub(crate) type Attrs = BTreeMap<String, String>;

/// The format of a plan in JSON: 2 is inside the envelope of `--json`.
pub(crate) const FORMAT_VERSION: u32 = 2;

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    Create,
    Update,
    Replace,
    Delete,
    None,
    Unknown,
    Blocked,
}

#[derive(
    Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub(crate) struct Change {
    /// For example `node.impact-pack`.
    #[schemars(with = "String")]
    pub address: Address,
    pub action: Action,
    pub before: Option<Attrs>,
    pub after: Option<Attrs>,
    /// True if the machine changed since the last apply, rather than comfy.toml.
    pub drift: bool,
    /// The reason as text: what blocks, what could not be read, or what explains a difference.
    pub reason: Option<String>,
    /// True if root could read what is unknown here.
    pub root_can: bool,
    /// Files that differ, for `-v`.
    #[schemars(skip)]
    pub findings: Vec<TreeDifference>,
    /// The addresses that must exist first.
    #[schemars(skip)]
    pub needs: Vec<Address>,
}

impl Change {
    pub(crate) fn is_difference(&self) -> bool {
        !matches!(self.action, Action::None)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Plan {
    pub format_version: u32,
    pub host: String,
    pub instance: String,
    /// SHA-256 of comfy.toml and comfy.lock as they were read.
    pub manifest: TextDigest,
    pub lock: TextDigest,
    pub ids: AccountIds,
    pub only: Vec<String>,
    pub changes: Vec<Change>,
    pub steps: Vec<PlannedStep>,
    pub warnings: Vec<String>,
    /// One line for each setting of comfy.toml that this version does not enforce.
    pub not_enforced: Vec<String>,
    /// Repositories to fetch.
    pub fetches: Vec<String>,
    #[serde(default)]
    pub wheels: WheelDownloads,
    /// The interpreter to fetch: `3.12.4`.
    #[serde(default)]
    pub interpreter: Option<String>,
    #[serde(default)]
    pub models: CountAndBytes,
    #[serde(default)]
    pub library: ModelSummary,
    /// True if something was assumed: root's own plan may have more changes.
    #[serde(default, rename = "believed")]
    pub assumed: bool,
    /// The folder of another comfy.toml, which was applied last, if this plan removes something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_from: Option<PathBuf>,
}

/// Python packages to fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct WheelDownloads {
    pub count: usize,
    /// In bytes, as far as the lock knows.
    pub bytes: u64,
}

impl WheelDownloads {
    pub(crate) fn from_packages<'a>(
        packages: impl IntoIterator<Item = &'a PackageInstall>,
    ) -> WheelDownloads {
        packages
            .into_iter()
            .fold(WheelDownloads::default(), |w, p| WheelDownloads {
                count: w.count + 1,
                bytes: w.bytes + p.size,
            })
    }

    /// Returns the bytes on the disk at the peak: the wheels, which are kept, and their unpacked
    /// and compiled content. Measured: 3 to 3.2 times the wheels where they hold programs, 5 where
    /// it is Python alone.
    pub(crate) fn disk_space(&self) -> u64 {
        self.bytes / 2 * 7
    }
}

impl Plan {
    /// Returns a plan for this instance that changes nothing.
    pub(crate) fn empty(d: &Desired, ids: AccountIds) -> Plan {
        Plan {
            format_version: FORMAT_VERSION,
            host: d.host.clone(),
            instance: d.sandbox.clone(),
            manifest: d.manifest_digest.clone(),
            lock: d.lock_digest.clone(),
            ids,
            ..Plan::default()
        }
    }

    /// Returns whether there was no ComfyUI before.
    pub(crate) fn creates_comfyui(&self) -> bool {
        let created =
            |c: &Change| c.address == Address::Part(Part::Comfyui) && c.action == Action::Create;
        self.changes.iter().any(created)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.changes.iter().all(|c| !c.is_difference()) && self.steps.is_empty()
    }

    pub(crate) fn unknown_changes(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|c| c.action == Action::Unknown)
    }

    pub(crate) fn blocked_changes(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|c| c.action == Action::Blocked)
    }

    pub(crate) fn root_could_see_more(&self) -> bool {
        self.unknown_changes().any(|c| c.root_can)
    }

    /// To add, to change, to destroy; a replacement counts as both add and destroy, as in
    /// Terraform.
    pub(crate) fn action_counts(&self) -> (usize, usize, usize) {
        let n = |a: Action| self.changes.iter().filter(|c| c.action == a).count();
        (
            n(Action::Create) + n(Action::Replace),
            n(Action::Update),
            n(Action::Delete) + n(Action::Replace),
        )
    }

    /// Returns whether other code or packages are live afterwards.
    pub(crate) fn moves_code(&self) -> bool {
        self.steps.iter().any(|p| {
            matches!(
                p.step,
                Step::Switch { .. } | Step::Install { .. } | Step::InstallVenv { .. }
            )
        })
    }

    /// Returns a hash of what two derivations of the same plan share. The summary of models is left
    /// out, because it may differ between two observations.
    pub(crate) fn plan_digest(&self) -> String {
        let shared = Plan {
            library: ModelSummary::default(),
            assumed: false,
            ..self.clone()
        };
        let text = serde_json::to_string(&shared).unwrap_or_default();
        base16ct::lower::encode_string(&Sha256::digest(text.as_bytes()))
    }
}

/// Builds attributes from pairs.
pub(crate) fn attrs<const N: usize>(pairs: [(&str, String); N]) -> Attrs {
    pairs.into_iter().map(|(k, v)| (k.to_string(), v)).collect()
}

/// Builds the change that reports an unknown state.
pub(crate) fn unknown_change(address: Address, u: &UnknownState) -> Change {
    Change {
        address,
        action: Action::Unknown,
        before: None,
        after: None,
        drift: false,
        reason: Some(u.reason.clone()),
        root_can: u.root_can,
        findings: Vec::new(),
        needs: Vec::new(),
    }
}

/// What an apply did.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct ApplyOutcome {
    pub added: usize,
    pub changed: usize,
    pub destroyed: usize,
    /// What the person should know now.
    pub notes: Vec<String>,
    pub seconds: f64,
}
