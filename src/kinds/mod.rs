//! One file a resource kind, one line in [`KINDS`]. A kind looks, compares, and names steps; it
//! never acts. It covers the whole lifetime: what `plan` makes and prunes, and what `destroy`
//! removes.

use std::path::PathBuf;

use super::desired::Desired;
use super::ids::{Address, Part};
use super::problem::{Problem, Result};
use crate::plan::change::{Action, Plan, WheelDownloads, unknown_change};
use crate::plan::ids::AccountIds;
use crate::plan::inventory::Inventory;
use crate::plan::look::Look;
use crate::plan::model_summary::{CountAndBytes, ModelFetch};
use crate::plan::select::ResourceSelection;
use crate::plan::step::{PlannedStep, Step};

pub(crate) mod account;
pub(crate) mod builder;
pub(crate) mod code;
#[cfg(test)]
mod convergence;
pub(crate) mod cron;
pub(crate) mod dir;
pub(crate) mod launch;
pub(crate) mod link;
pub(crate) mod model;
pub(crate) mod network;
pub(crate) mod python;
pub(crate) mod service;
pub(crate) mod share;
pub(crate) mod traverse;

use crate::kinds::builder::{Instance, Observed, PlanBuilder};

/// What comfy knows about one kind of resource.
pub(crate) struct ResourceKind {
    /// Adds what is wanted, what exists, and what comfy made and is no longer wanted.
    pub plan: fn(&Observed, &mut PlanBuilder),
    /// Adds the removal of everything of this kind that comfy made.
    pub destroy: fn(&Instance, &Removal, &mut PlanBuilder),
}

/// How an instance is removed.
pub(crate) struct Removal {
    /// Where the sandbox user's files are moved; `None`: they are deleted.
    pub backup: Option<std::path::PathBuf>,
}

/// For kinds whose files are all in the folders that `dir` removes, or stay.
fn nothing(_: &Instance, _: &Removal, _: &mut PlanBuilder) {}

/// In the order in which people read a plan; `destroy` uses the reverse order.
#[rustfmt::skip]
pub(crate) const KINDS: &[ResourceKind] = &[
    ResourceKind { plan: account::plan_accounts, destroy: account::destroy },
    ResourceKind { plan: cron::plan_cron, destroy: cron::destroy },
    ResourceKind { plan: dir::plan_dirs, destroy: dir::destroy },
    ResourceKind { plan: share::plan_shares, destroy: share::destroy },
    ResourceKind { plan: traverse::plan_traverse, destroy: traverse::destroy },
    ResourceKind { plan: link::plan_links, destroy: link::destroy },
    // Before `run`: its step writes the old launch with the new network, and the step of `run`,
    // which writes the whole new launch, comes last.
    ResourceKind { plan: network::plan_network, destroy: network::destroy },
    ResourceKind { plan: launch::plan_launch, destroy: nothing },
    ResourceKind { plan: service::plan_service, destroy: service::destroy },
    ResourceKind { plan: python::plan, destroy: nothing },
    ResourceKind { plan: code::plan, destroy: nothing },
    // Models stay in their shares.
    ResourceKind { plan: model::plan_models, destroy: nothing },
];

/// The plan that brings the machine behind `look` to `d`.
///
/// # Errors
/// If no plan can be made at all: contradicting ids, or an address that does not exist.
pub(crate) fn plan(d: &Desired, look: &dyn Look, only: &ResourceSelection) -> Result<Plan> {
    let ids = AccountIds::choose_ids(d, look)?;
    let (mut first, records) = (Vec::new(), look.read_inventory(&d.paths));
    if let Ok(inventory) = &records {
        // Without the records nothing is applied, because nobody knows what comfy made.
        first.extend(crate::plan::account_adoption::check_adoption(
            d, look, &ids, inventory,
        )?);
    }
    let inventory = records.unwrap_or_else(|u| {
        first.push(unknown_change(Address::Dir("records".into()), &u));
        Inventory::default()
    });
    let instance = Instance {
        d,
        look,
        ids,
        inventory,
    };
    let observed = Observed::look_at(instance, only);
    let mut builder = PlanBuilder::new(&observed.inventory);
    builder.changes = first;
    for kind in KINDS {
        (kind.plan)(&observed, &mut builder);
    }
    finish(&observed, builder)
}

/// Selects, orders and sums up what the kinds have added.
fn finish(o: &Observed, builder: PlanBuilder) -> Result<Plan> {
    let PlanBuilder {
        mut changes,
        mut steps,
        warnings,
        downloads,
        library,
        assumed,
        ..
    } = builder;
    let d = o.d;
    let declared = || {
        let nodes = d.code.nodes.keys().map(|n| Address::node(n));
        nodes.chain(d.models.keys().map(|m| Address::Model(m.to_string())))
    };
    let mut keep = o.only.with_dependencies(&changes, declared)?;
    let core = Address::Part(Part::Comfyui);
    // A share that moved takes its link in the generation along.
    if !o.only.is_all() && steps.iter().any(|p| p.address == Address::Generation) {
        let needs = changes.iter().filter(|c| c.address == core);
        keep.extend(needs.flat_map(|c| c.needs.clone()));
        keep.insert(core);
    }
    // The launch lists the shares too.
    if keep.iter().any(|a| matches!(a, Address::Share(_))) {
        keep.insert(Address::Run);
    }
    changes.retain(|c| keep.contains(&c.address));
    steps.retain(|p| keep.contains(&p.address) || p.address == Address::Generation);
    let prepares = steps.iter().any(|p| p.step.in_prepare());
    let mut missing = downloads.models;
    missing.retain(|f| keep.contains(&f.address));
    let models = from_afar(&missing);
    if !missing.is_empty() {
        steps.push(PlannedStep {
            address: Address::Models,
            step: Step::FetchModels {
                items: missing,
                scan: model::scan_of_models(d),
            },
        });
    }
    steps.sort_by_key(|p| p.step.phase());
    steps.dedup();
    let removes = changes.iter().any(|c| c.action == Action::Delete);
    Ok(Plan {
        applied_from: other_folder(d, &o.inventory).filter(|_| removes),
        only: o.only.words().to_vec(),
        changes,
        steps,
        warnings,
        not_enforced: d.not_enforced.clone(),
        fetches: if prepares {
            downloads.repositories
        } else {
            Vec::new()
        },
        wheels: if prepares {
            downloads.wheels
        } else {
            WheelDownloads::default()
        },
        interpreter: downloads.interpreter.filter(|_| prepares),
        models,
        library,
        assumed,
        ..Plan::empty(d, o.ids)
    })
}

/// Returns the folder of the comfy.toml that was applied last, if it is not that of `d`.
fn other_folder(d: &Desired, inventory: &Inventory) -> Option<PathBuf> {
    let last = inventory.manifest_folder.clone();
    last.filter(|folder| d.manifest_folder() != Some(folder))
}

/// Sums up how much has to be downloaded.
fn from_afar(missing: &[ModelFetch]) -> CountAndBytes {
    missing
        .iter()
        .filter(|f| f.source.as_ref().is_some_and(|s| !s.starts_with("file:")))
        .fold(CountAndBytes::default(), |sum, f| CountAndBytes {
            count: sum.count + 1,
            bytes: sum.bytes + f.size,
        })
}

/// Plans the removal of what comfy made, each kind its own. Adopted accounts stay, shares keep
/// their content.
///
/// # Errors
/// If ids or inventory cannot be read.
pub(crate) fn destroy(d: &Desired, look: &dyn Look, purge: bool, now: &str) -> Result<Plan> {
    let inventory = look
        .read_inventory(&d.paths)
        .map_err(|u| Problem::new(u.reason))?;
    let ids = AccountIds::choose_ids(d, look)?;
    let instance = Instance {
        d,
        look,
        ids,
        inventory,
    };
    let backup = (!purge).then(|| d.paths.prefix.join(format!("{}.backup-{now}", d.sandbox)));
    let mut builder = PlanBuilder::new(&instance.inventory);
    for kind in KINDS.iter().rev() {
        (kind.destroy)(
            &instance,
            &Removal {
                backup: backup.clone(),
            },
            &mut builder,
        );
    }
    let mut steps = builder.steps;
    steps.sort_by_key(|p| p.step.phase());
    Ok(Plan {
        applied_from: other_folder(d, &instance.inventory),
        changes: builder.changes,
        steps,
        ..Plan::empty(d, ids)
    })
}
