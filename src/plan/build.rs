//! Desired and observed become a plan: every kind adds its changes and steps, then order, selection
//! and what blocks.

use super::change::{Action, Attrs, Change, Plan, WheelDownloads, unknown_change};
use super::ids::AccountIds;
use super::inventory::Inventory;
use super::look::Look;
use super::model_summary::{CountAndBytes, ModelFetch, ModelSummary};
use super::observed::{Seen, TreeDifference, UnknownState};
use super::select::ResourceSelection;
use super::step::{PlannedStep, Step};
use crate::desired::Desired;
use crate::kinds::{code, model, share};
use crate::problem::Result;

/// What kinds see, and what they add to.
pub struct PlanBuilder<'a> {
    pub d: &'a Desired,
    pub look: &'a dyn Look,
    pub ids: AccountIds,
    pub only: &'a ResourceSelection,
    pub inventory: &'a Inventory,
    /// What took time to see, seen before the kinds begin.
    pub shares: share::Looked,
    pub code: Option<Seen<code::CodeObservation>>,
    pub changes: Vec<Change>,
    pub steps: Vec<PlannedStep>,
    pub warnings: Vec<String>,
    pub fetches: Vec<String>,
    pub wheels: WheelDownloads,
    pub interpreter: Option<String>,
    /// What the shares' walks saw of models.
    pub models: model::Seen,
    pub missing: Vec<ModelFetch>,
    pub library: ModelSummary,
    /// Something was believed that root can see for itself.
    pub believed: bool,
}

/// One resource: what is wanted, what was seen, and the steps from one to the other.
pub struct PlannedResource {
    pub address: String,
    pub want: Option<Attrs>,
    pub have: Option<Attrs>,
    pub steps: Vec<Step>,
    pub reason: Option<String>,
    pub blocked: bool,
    pub findings: Vec<TreeDifference>,
    pub needs: Vec<String>,
    /// Says drift where the attributes cannot.
    pub drift: Option<bool>,
}

impl PlannedResource {
    pub fn new(address: impl Into<String>, want: Option<Attrs>, have: Option<Attrs>) -> Self {
        PlannedResource {
            address: address.into(),
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

    pub fn with_steps(mut self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.steps.extend(steps);
        self
    }

    pub fn with_needs(mut self, needs: impl IntoIterator<Item = String>) -> Self {
        self.needs.extend(needs);
        self
    }

    pub fn with_reason(mut self, reason: Option<String>) -> Self {
        self.reason = reason;
        self
    }

    /// Nothing is done about it until a person has moved something.
    pub fn with_block(mut self, reason: String) -> Self {
        self.blocked = true;
        self.reason = Some(reason);
        self.steps.clear();
        self
    }
}

/// Attributes from pairs.
pub fn attrs<const N: usize>(pairs: [(&str, String); N]) -> Attrs {
    pairs.into_iter().map(|(k, v)| (k.to_string(), v)).collect()
}

impl PlanBuilder<'_> {
    pub fn add_resource(&mut self, r: PlannedResource) {
        let action = match (&r.want, &r.have) {
            _ if r.blocked => Action::Blocked,
            (Some(_), None) => Action::Create,
            (None, Some(_)) => Action::Delete,
            (Some(w), Some(h)) if w != h => Action::Update,
            _ => Action::None,
        };
        let steps: Vec<PlannedStep> = if action == Action::None || action == Action::Blocked {
            Vec::new()
        } else {
            r.steps
                .into_iter()
                .map(|step| PlannedStep {
                    address: r.address.clone(),
                    step,
                })
                .collect()
        };
        let applied = self.inventory.applied.get(&r.address);
        let drift = r.drift.unwrap_or_else(|| {
            applied.is_some() && applied == r.want.as_ref() && action != Action::None
        });
        self.steps.extend(steps);
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
    pub fn unwrap_seen<T>(&mut self, address: &str, seen: Seen<T>) -> Option<T> {
        match seen {
            Ok(v) => Some(v),
            Err(u) => {
                self.changes.push(unknown_change(address, &u));
                None
            }
        }
    }
}

/// The plan that brings the machine behind `look` to `d`.
///
/// # Errors
/// Where no plan can be made at all: ids that contradict, an address that does not exist.
pub fn build_plan(d: &Desired, look: &dyn Look, only: &ResourceSelection) -> Result<Plan> {
    let ids = AccountIds::choose_ids(d, look)?;
    let (mut first, records) = (Vec::new(), look.read_inventory(&d.paths));
    if let Ok(inventory) = &records {
        // Without the records nothing is applied, and nobody can say what comfy made.
        first.extend(super::account_adoption::check_adoption(
            d, look, &ids, inventory,
        )?);
    }
    let inventory = records.unwrap_or_else(|u: UnknownState| {
        first.push(unknown_change("dir.records", &u));
        Inventory::default()
    });
    // The two walks at once; what remains is quick.
    let (shares, code) = rayon::join(
        || share::observe_shares(d, look, ids),
        || code::observe_code(d, look, &ids, only),
    );
    let mut draft = PlanBuilder {
        d,
        look,
        ids,
        only,
        inventory: &inventory,
        shares,
        code: Some(code),
        changes: first,
        steps: Vec::new(),
        warnings: Vec::new(),
        fetches: Vec::new(),
        wheels: WheelDownloads::default(),
        interpreter: None,
        models: model::Seen::new(),
        missing: Vec::new(),
        library: ModelSummary::default(),
        believed: false,
    };
    for kind in crate::kinds::KINDS {
        (kind.plan)(&mut draft);
    }
    finish_plan(draft, only)
}

fn finish_plan(draft: PlanBuilder, only: &ResourceSelection) -> Result<Plan> {
    let PlanBuilder {
        d,
        ids,
        mut changes,
        mut steps,
        warnings,
        fetches,
        wheels,
        interpreter,
        mut missing,
        library,
        believed,
        ..
    } = draft;
    let declared = || {
        d.code
            .nodes
            .keys()
            .map(|n| format!("node.{n}"))
            .chain(d.models.keys().map(|m| format!("model.{m}")))
    };
    let mut keep = only.with_dependencies(&changes, declared)?;
    // A share that moved takes its link in the generation along.
    if !only.is_all() && steps.iter().any(|p| p.address == code::GENERATION) {
        let core: Vec<String> = changes
            .iter()
            .filter(|c| c.address == "comfyui")
            .flat_map(|c| c.needs.clone())
            .collect();
        keep.extend(core);
        keep.insert("comfyui".into());
    }
    // And how it is launched, which names the shares too.
    if keep.iter().any(|a| a.starts_with("share.")) {
        keep.insert(crate::kinds::launch::ADDRESS.into());
    }
    changes.retain(|c| keep.contains(&c.address));
    steps.retain(|p| keep.contains(&p.address) || p.address == code::GENERATION);
    let prepares = steps.iter().any(|p| p.step.in_prepare());
    missing.retain(|f| keep.contains(&f.address));
    let from_afar = missing
        .iter()
        .filter(|f| f.source.as_ref().is_some_and(|s| !s.starts_with("file:")));
    let models = from_afar.fold(CountAndBytes::default(), |d, f| CountAndBytes {
        count: d.count + 1,
        bytes: d.bytes + f.size,
    });
    if !missing.is_empty() {
        steps.push(PlannedStep {
            address: model::FETCH.into(),
            step: Step::FetchModels { items: missing },
        });
    }
    steps.sort_by_key(|p| p.step.rank());
    steps.dedup();
    let fetches = if prepares { fetches } else { Vec::new() };
    Ok(Plan {
        format_version: 1,
        host: d.host.clone(),
        instance: d.sandbox.clone(),
        manifest: d.manifest_digest.clone(),
        lock: d.lock_digest.clone(),
        ids,
        only: only.words().to_vec(),
        changes,
        steps,
        warnings,
        not_enforced: d.not_enforced.clone(),
        fetches,
        wheels: if prepares {
            wheels
        } else {
            WheelDownloads::default()
        },
        interpreter: interpreter.filter(|_| prepares),
        models,
        library,
        believed,
    })
}
