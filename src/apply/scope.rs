//! What an apply works on.

use std::path::{Path, PathBuf};

use crate::desired::launch::LaunchSpec;
use crate::desired::text_digest::TextDigest;
use crate::desired::{Desired, InstancePaths};
use crate::host::machine::short_hostname;
use crate::manifest::platforms::OperatingSystem;
use crate::manifest::{ConfinementPolicy, IsolationMode};
use crate::plan::Plan;
use crate::plan::ids::AccountIds;
use crate::plan::look::Look;
use crate::problem::{Problem, Result};

/// The desired state, or what was applied. `gc` needs only the second, so that a mistake in
/// comfy.toml does not keep anybody from freeing disk space.
#[derive(Clone, Copy)]
pub(crate) enum ApplyScope<'a> {
    Desired(&'a Desired),
    Applied(&'a LaunchSpec),
}

/// The same for the root side, which reads the files itself.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) enum RequestedScope {
    /// The folder of comfy.toml and comfy.lock.
    Files { dir: PathBuf, host: String },
    /// The instance, by its sandbox user.
    Applied { instance: String },
}

/// The same with what was read.
pub(crate) enum LoadedScope {
    Desired(Box<Desired>),
    Applied(Box<LaunchSpec>),
}

impl LoadedScope {
    pub(crate) fn as_scope(&self) -> ApplyScope<'_> {
        match self {
            LoadedScope::Desired(d) => ApplyScope::Desired(d),
            LoadedScope::Applied(spec) => ApplyScope::Applied(spec),
        }
    }
}

impl<'a> From<&'a Desired> for ApplyScope<'a> {
    fn from(d: &'a Desired) -> Self {
        ApplyScope::Desired(d)
    }
}

impl<'a> ApplyScope<'a> {
    pub(crate) fn paths(self) -> &'a InstancePaths {
        match self {
            ApplyScope::Desired(d) => &d.paths,
            ApplyScope::Applied(spec) => &spec.paths,
        }
    }

    /// The sandbox user, who names the instance.
    pub(crate) fn sandbox(self) -> &'a str {
        match self {
            ApplyScope::Desired(d) => &d.sandbox,
            ApplyScope::Applied(spec) => &spec.user,
        }
    }

    pub(crate) fn is_isolated(self) -> bool {
        match self {
            ApplyScope::Desired(d) => d.isolation == IsolationMode::Account,
            ApplyScope::Applied(spec) => spec.account,
        }
    }

    pub(super) fn os(self) -> OperatingSystem {
        match self {
            ApplyScope::Desired(d) => d.platform.os,
            ApplyScope::Applied(spec) => spec.os,
        }
    }

    /// Whether jobs of the build uid fail where the kernel cannot confine them.
    pub(super) fn requires_confinement(self) -> bool {
        match self {
            ApplyScope::Desired(d) => d.policy.confinement == ConfinementPolicy::Required,
            ApplyScope::Applied(spec) => spec.require_confinement,
        }
    }

    pub(crate) fn desired(self) -> Option<&'a Desired> {
        match self {
            ApplyScope::Desired(d) => Some(d),
            ApplyScope::Applied(_) => None,
        }
    }

    /// The desired state, for everything but a removal of generations.
    ///
    /// # Errors
    /// comfy.toml was not read.
    pub(super) fn need_desired(self) -> Result<&'a Desired> {
        self.desired().ok_or_else(|| {
            Problem::new("this needs a comfy.toml without mistakes").with_hint("run `comfy check`")
        })
    }

    /// The digest of comfy.lock; empty if it was not read.
    pub(super) fn lock_digest(self) -> TextDigest {
        self.desired()
            .map(|d| d.lock_digest.clone())
            .unwrap_or_default()
    }

    pub(crate) fn manifest_folder(self) -> Option<&'a Path> {
        self.desired().and_then(Desired::manifest_folder)
    }

    /// Returns a plan for this instance that changes nothing.
    ///
    /// # Errors
    /// The ids cannot be read.
    pub(super) fn empty_plan(self, look: &dyn Look) -> Result<Plan> {
        Ok(match self {
            ApplyScope::Desired(d) => Plan::empty(d, AccountIds::choose_ids(d, look)?),
            ApplyScope::Applied(spec) => Plan {
                format_version: crate::plan::change::FORMAT_VERSION,
                host: short_hostname(),
                instance: spec.user.clone(),
                ids: applied_ids(spec)?,
                ..Plan::default()
            },
        })
    }

    /// Returns the request for the root side.
    pub(crate) fn as_request(self) -> RequestedScope {
        match self {
            ApplyScope::Desired(d) => RequestedScope::Files {
                dir: d.manifest_folder().map(PathBuf::from).unwrap_or_default(),
                host: d.host.clone(),
            },
            ApplyScope::Applied(spec) => RequestedScope::Applied {
                instance: spec.user.clone(),
            },
        }
    }
}

/// The ids of an instance as it was applied.
fn applied_ids(spec: &LaunchSpec) -> Result<AccountIds> {
    let account = nix::unistd::User::from_uid(spec.owner.into())
        .map_err(|e| format!("uid {} could not be looked up: {e}", spec.owner))
        .and_then(|user| user.ok_or_else(|| format!("uid {} has no account", spec.owner)));
    let owner_gid = account.map_err(Problem::new)?.gid.as_raw();
    let (seal, seal_gid) = if spec.account {
        (0, 0)
    } else {
        (spec.owner, owner_gid)
    };
    Ok(AccountIds {
        owner: spec.owner,
        owner_gid,
        sandbox: spec.uid,
        sandbox_gid: spec.gid,
        // Neither is the shared group of use to a removal.
        shared: spec.gid,
        records_gid: spec.records_gid.unwrap_or(owner_gid),
        // It comes before the gateway's; a removal builds nothing.
        build: spec.gateway_uid.saturating_sub(u32::from(spec.account)),
        front: spec.gateway_uid,
        seal,
        seal_gid,
    })
}
