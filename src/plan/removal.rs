//! Plans that do not come from comparing: `gc`, and rollback to a generation.

use super::change::{Action, Change, Plan, attrs};
use super::ids::AccountIds;
use super::look::Look;
use super::step::{PlannedStep, Step};
use crate::desired::Desired;
use crate::ids::{Address, GenerationId, VenvId};
use crate::problem::{Problem, Result};

/// The names that exist on the disk.
pub(crate) struct OnDisk {
    pub generations: Vec<GenerationId>,
    pub venvs: Vec<VenvId>,
    pub pythons: Vec<String>,
}

/// Which generations a removal takes; never the live one, nor one that is running.
pub(crate) enum Unwanted<'a> {
    /// All but the last so many that were live.
    AllButLast(usize),
    These(&'a [GenerationId]),
}

/// Plans the removal of generations, and of environments and interpreters that no generation needs.
///
/// # Errors
/// If ids or inventory cannot be read.
pub(crate) fn plan_gc(
    d: &Desired,
    look: &dyn Look,
    unwanted: &Unwanted,
    present: &OnDisk,
    running: Option<&str>,
) -> Result<Plan> {
    let inventory = look.read_inventory(&d.paths).map_err(Problem::from)?;
    let current = look
        .read_entry(&d.paths.current_link())
        .map_err(Problem::from)?;
    let live = current
        .and_then(|n| n.target)
        .and_then(|t| GenerationId::from_link(&t));
    let mut recent: Vec<&GenerationId> = inventory
        .live
        .iter()
        .rev()
        .filter(|id| Some(*id) != live.as_ref() && present.generations.contains(id))
        .collect();
    if let Unwanted::AllButLast(keep) = unwanted {
        recent.truncate(*keep);
    }
    let stays = |id: &GenerationId| {
        let wanted = match unwanted {
            Unwanted::AllButLast(_) => recent.contains(&id),
            Unwanted::These(ids) => !ids.contains(id),
        };
        Some(id) == live.as_ref() || Some(&**id) == running || wanted
    };
    let mut plan = Plan::empty(d, AccountIds::choose_ids(d, look)?);
    for id in present.generations.iter().filter(|id| !stays(id)) {
        add_removal(
            &mut plan,
            Address::OldGeneration(id.to_string()),
            attrs([("path", d.paths.generation_dir(id).display().to_string())]),
            Step::RemoveGeneration { id: id.clone() },
        );
    }
    let mut needed = Vec::new();
    for id in present.generations.iter().filter(|id| stays(id)) {
        let spec = look.generation_spec(&d.paths, id).map_err(Problem::from)?;
        needed.extend(spec.and_then(|s| s.venv));
    }
    let venvs: Vec<VenvId> = needed.iter().map(|v| v.id()).collect();
    let pythons: Vec<&std::path::Path> = needed
        .iter()
        .map(|v| v.interpreter.path.as_path())
        .collect();
    for id in present.venvs.iter().filter(|id| !venvs.contains(id)) {
        add_removal(
            &mut plan,
            Address::OldVenv(id.to_string()),
            attrs([("path", d.paths.venv_dir(id).display().to_string())]),
            Step::RemoveVenv { id: id.clone() },
        );
    }
    for version in present.pythons.iter().filter(|v| {
        !pythons
            .iter()
            .any(|p| p.starts_with(d.paths.interpreter_dir(v)))
    }) {
        let at = attrs([(
            "path",
            d.paths.interpreter_dir(version).display().to_string(),
        )]);
        add_removal(
            &mut plan,
            Address::OldInterpreter(version.clone()),
            at,
            Step::RemovePython {
                version: version.clone(),
            },
        );
    }
    plan.steps.sort_by_key(|p| p.step.phase());
    Ok(plan)
}

/// Plans to make generation `to` live again, which exists and was live before.
///
/// # Errors
/// If it does not exist, or does not match its name.
pub(crate) fn rollback(d: &Desired, look: &dyn Look, to: &GenerationId) -> Result<Plan> {
    let unread = |u: super::observed::UnknownState| Problem::from(u);
    let target = |id: &str| attrs([("generation", id.to_string())]);
    look.generation_spec(&d.paths, to)
        .map_err(unread)?
        .ok_or_else(|| Problem::new(format!("generation {to} is not on this machine")))?;
    let live = look
        .read_entry(&d.paths.current_link())
        .map_err(unread)?
        .and_then(|n| n.target)
        .map(|t| match GenerationId::from_link(&t) {
            Some(id) => id.to_string(),
            None => t.display().to_string(),
        });
    let inventory = look.read_inventory(&d.paths).map_err(unread)?;
    let mut plan = Plan::empty(d, AccountIds::choose_ids(d, look)?);
    // All of the code, so that a difference from comfy.lock afterwards does not count as drift.
    for address in inventory
        .applied
        .keys()
        .filter_map(|a| a.parse().ok())
        .filter(Address::is_code)
    {
        plan.changes.push(Change {
            address,
            action: Action::Update,
            before: live.as_deref().map(target),
            after: Some(target(to)),
            drift: false,
            reason: Some("the live generation could not be loaded".into()),
            root_can: false,
            findings: Vec::new(),
            needs: Vec::new(),
        });
    }
    plan.steps.push(PlannedStep {
        address: Address::COMFYUI,
        step: Step::Switch { id: to.clone() },
    });
    Ok(plan)
}

fn add_removal(plan: &mut Plan, address: Address, before: super::Attrs, step: Step) {
    plan.steps.push(PlannedStep {
        address: address.clone(),
        step,
    });
    plan.changes.push(Change {
        address,
        action: Action::Delete,
        before: Some(before),
        after: None,
        drift: false,
        reason: None,
        root_can: false,
        findings: Vec::new(),
        needs: Vec::new(),
    });
}
