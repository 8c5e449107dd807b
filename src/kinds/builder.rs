//! What a kind is given and what it adds to: [`Instance`] and [`Observed`] are read only,
//! [`PlanBuilder`] collects.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{code, launch, share};
use crate::desired::Desired;
use crate::ids::Address;
pub(crate) use crate::plan::change::attrs;
use crate::plan::change::{Action, Attrs, Change, WheelDownloads, unknown_change};
use crate::plan::ids::AccountIds;
use crate::plan::inventory::Inventory;
use crate::plan::look::Look;
use crate::plan::model_summary::{ModelFetch, ModelSummary};
use crate::plan::observed::{Seen, TreeDifference};
use crate::plan::select::ResourceSelection;
use crate::plan::step::{PlannedStep, Step};

/// One instance on one machine: enough to say what comfy made there.
pub(crate) struct Instance<'a> {
    pub d: &'a Desired,
    pub look: &'a dyn Look,
    pub ids: AccountIds,
    pub inventory: Inventory,
}

/// Where the owner's links lead, asked once for all kinds.
pub(crate) struct RealPaths {
    pub home: Seen<PathBuf>,
    /// In the order of [`Desired::shares`].
    pub shares: Vec<Seen<PathBuf>>,
}

/// What was observed before any kind begins; no kind changes it.
pub(crate) struct Observed<'a> {
    instance: Instance<'a>,
    pub only: &'a ResourceSelection,
    pub real: RealPaths,
    pub shares: Vec<share::ShareObservation<'a>>,
    pub code: Seen<code::CodeObservation>,
    pub launch: launch::LaunchObservation,
}

impl<'a> Observed<'a> {
    /// Makes the slow observations, the code's and the shares' in parallel.
    pub(crate) fn look_at(instance: Instance<'a>, only: &'a ResourceSelection) -> Self {
        let (d, look, ids) = (instance.d, instance.look, instance.ids);
        let real = RealPaths {
            home: look.real_path(&d.owner.home, ids.owner),
            shares: d
                .shares
                .iter()
                .map(|s| look.real_path(&s.path, ids.owner))
                .collect(),
        };
        let (shares, code) = rayon::join(
            || share::observe(&instance, &real),
            || code::observe(d, look, &ids, only),
        );
        let launch = launch::observe(&instance, &real);
        Observed {
            instance,
            only,
            real,
            shares,
            code,
            launch,
        }
    }
}

impl<'a> std::ops::Deref for Observed<'a> {
    type Target = Instance<'a>;
    fn deref(&self) -> &Instance<'a> {
        &self.instance
    }
}

/// What the plan has to download.
#[derive(Default)]
pub(crate) struct Downloads {
    pub repositories: Vec<String>,
    pub wheels: WheelDownloads,
    /// An interpreter of comfy's own, by its version.
    pub interpreter: Option<String>,
    pub models: Vec<ModelFetch>,
}

/// The plan being built: each kind adds to it in turn, and none reads what another one added.
pub(crate) struct PlanBuilder<'a> {
    /// What each resource was last brought to.
    applied: &'a BTreeMap<String, Attrs>,
    pub changes: Vec<Change>,
    pub steps: Vec<PlannedStep>,
    pub warnings: Vec<String>,
    pub downloads: Downloads,
    pub library: ModelSummary,
    /// True if something was assumed that root can check itself.
    pub assumed: bool,
}

/// One resource: what is wanted, what was seen, and the steps from one to the other.
pub(crate) struct Resource {
    pub address: Address,
    pub want: Option<Attrs>,
    pub have: Option<Attrs>,
    pub steps: Vec<Step>,
    pub reason: Option<String>,
    pub blocked: bool,
    pub findings: Vec<TreeDifference>,
    pub needs: Vec<Address>,
    /// Reports drift that no attribute shows.
    pub drift: Option<bool>,
}

impl Resource {
    pub(crate) fn new(address: Address, want: Option<Attrs>, have: Option<Attrs>) -> Self {
        Resource {
            address,
            want,
            have,
            steps: Vec::new(),
            reason: None,
            blocked: false,
            findings: Vec::new(),
            needs: Vec::new(),
            drift: None,
        }
    }

    /// A resource that comfy made and that is removed, with the step that removes it.
    pub(crate) fn removed(address: Address, have: Attrs, step: Step) -> Self {
        Resource::new(address, None, Some(have)).steps([step])
    }

    pub(crate) fn steps(mut self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.steps.extend(steps);
        self
    }

    pub(crate) fn needs(mut self, needs: impl IntoIterator<Item = Address>) -> Self {
        self.needs.extend(needs);
        self
    }

    pub(crate) fn reason(mut self, reason: Option<String>) -> Self {
        self.reason = reason;
        self
    }

    /// Blocks the resource until a person has moved something.
    pub(crate) fn block(mut self, reason: String) -> Self {
        self.blocked = true;
        self.reason = Some(reason);
        self.steps.clear();
        self
    }
}

impl<'a> PlanBuilder<'a> {
    pub(crate) fn new(inventory: &'a Inventory) -> Self {
        PlanBuilder {
            applied: &inventory.applied,
            changes: Vec::new(),
            steps: Vec::new(),
            warnings: Vec::new(),
            downloads: Downloads::default(),
            library: ModelSummary::default(),
            assumed: false,
        }
    }

    pub(crate) fn add(&mut self, r: Resource) {
        let action = match (&r.want, &r.have) {
            _ if r.blocked => Action::Blocked,
            (Some(_), None) => Action::Create,
            (None, Some(_)) => Action::Delete,
            (Some(w), Some(h)) if w != h => Action::Update,
            _ => Action::None,
        };
        let applied = self.applied.get(&r.address.to_string());
        let drift = r.drift.unwrap_or_else(|| {
            applied.is_some() && applied == r.want.as_ref() && action != Action::None
        });
        if action != Action::None && action != Action::Blocked {
            let address = &r.address;
            self.steps
                .extend(r.steps.into_iter().map(|step| PlannedStep {
                    address: address.clone(),
                    step,
                }));
        }
        self.changes.push(Change {
            address: r.address,
            action,
            before: r.have,
            after: r.want,
            drift,
            reason: r.reason,
            root_can: false,
            findings: r.findings,
            needs: r.needs,
        });
    }

    /// Unwraps what was seen; what could not be read becomes an unknown of `address`.
    pub(crate) fn seen<T>(&mut self, address: &Address, seen: Seen<T>) -> Option<T> {
        match seen {
            Ok(v) => Some(v),
            Err(u) => {
                self.changes.push(unknown_change(address.clone(), &u));
                None
            }
        }
    }

    /// The same for what was observed before the kinds began.
    pub(crate) fn observed<'o, T>(
        &mut self,
        address: &Address,
        seen: &'o Seen<T>,
    ) -> Option<&'o T> {
        self.seen(address, seen.as_ref().map_err(Clone::clone))
    }
}
