//! Plans that do not come from comparing: `gc`, and rollback to a generation.

use std::path::Path;

use super::change::{Action, Change, Plan, attrs};
use super::ids::AccountIds;
use super::look::Look;
use super::step::{PlannedStep, Step};
use crate::desired::venv::VenvSpec;
use crate::desired::{Desired, GenerationSpec, InstancePaths};
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

/// The generations, environments and interpreters of an instance.
pub(crate) struct SealedTrees<'a> {
    pub paths: &'a InstancePaths,
    pub present: &'a OnDisk,
    /// The generation of the ComfyUI that is running.
    pub running: Option<&'a str>,
    /// comfy.lock was not read and may name what nothing has used yet, so that stays.
    pub keep_unused: bool,
}

impl SealedTrees<'_> {
    /// Adds to `plan` the removal of generations, and of environments and interpreters that no
    /// generation needs.
    ///
    /// # Errors
    /// If the inventory or a generation cannot be read.
    pub(crate) fn plan_gc(
        &self,
        mut plan: Plan,
        look: &dyn Look,
        unwanted: &Unwanted,
    ) -> Result<Plan> {
        let (stay, go) = self.divide(look, unwanted)?;
        for &id in &go {
            add_removal(
                &mut plan,
                Address::OldGeneration(id.to_string()),
                &self.paths.generation_dir(id),
                Step::RemoveGeneration { id: id.clone() },
            );
        }
        let read_specs = |ids: &[&GenerationId]| {
            let specs = ids.iter().map(|id| look.generation_spec(self.paths, id));
            let specs: Vec<_> = specs.collect::<Result<_, _>>().map_err(Problem::from)?;
            Ok::<_, Problem>(specs)
        };
        let stay = read_specs(&stay)?;
        // What a generation needs that cannot be read is not known: nothing of it is removed.
        if stay.iter().any(Option::is_none) {
            plan.steps.sort_by_key(|p| p.step.phase());
            return Ok(plan);
        }
        let venvs = |specs: Vec<Option<GenerationSpec>>| -> Vec<VenvSpec> {
            specs.into_iter().flatten().filter_map(|s| s.venv).collect()
        };
        let needed = venvs(stay);
        // Only a generation that goes takes its environment along.
        let going = match self.keep_unused {
            true => Some(venvs(read_specs(&go)?)),
            false => None,
        };
        let is_removed = |used: &dyn Fn(&VenvSpec) -> bool| {
            !needed.iter().any(used) && going.as_ref().is_none_or(|g| g.iter().any(used))
        };
        for id in &self.present.venvs {
            let uses = |v: &VenvSpec| v.id() == *id;
            if is_removed(&uses) {
                let step = Step::RemoveVenv { id: id.clone() };
                let at = self.paths.venv_dir(id);
                add_removal(&mut plan, Address::OldVenv(id.to_string()), &at, step);
            }
        }
        for version in &self.present.pythons {
            let at = self.paths.interpreter_dir(version);
            let uses = |v: &VenvSpec| v.interpreter.path.starts_with(&at);
            if is_removed(&uses) {
                let version = version.clone();
                let address = Address::OldInterpreter(version.clone());
                add_removal(&mut plan, address, &at, Step::RemovePython { version });
            }
        }
        plan.steps.sort_by_key(|p| p.step.phase());
        Ok(plan)
    }

    /// Returns the generations that stay, and those that go.
    fn divide(
        &self,
        look: &dyn Look,
        unwanted: &Unwanted,
    ) -> Result<(Vec<&GenerationId>, Vec<&GenerationId>)> {
        let inventory = look.read_inventory(self.paths).map_err(Problem::from)?;
        let current = look
            .read_entry(&self.paths.current_link())
            .map_err(Problem::from)?;
        let live = current
            .and_then(|n| n.target)
            .and_then(|t| GenerationId::from_link(&t));
        let mut recent: Vec<&GenerationId> = inventory
            .live
            .iter()
            .rev()
            .filter(|id| Some(*id) != live.as_ref() && self.present.generations.contains(id))
            .collect();
        if let Unwanted::AllButLast(keep) = unwanted {
            recent.truncate(*keep);
        }
        let stays = |id: &GenerationId| {
            let wanted = match unwanted {
                Unwanted::AllButLast(_) => recent.contains(&id),
                Unwanted::These(ids) => !ids.contains(id),
            };
            let unused = self.keep_unused && !inventory.live.contains(id);
            Some(id) == live.as_ref() || Some(&**id) == self.running || wanted || unused
        };
        Ok(self.present.generations.iter().partition(|id| stays(id)))
    }
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

fn add_removal(plan: &mut Plan, address: Address, path: &Path, step: Step) {
    plan.steps.push(PlannedStep {
        address: address.clone(),
        step,
    });
    plan.changes.push(Change {
        address,
        action: Action::Delete,
        before: Some(attrs([("path", path.display().to_string())])),
        after: None,
        drift: false,
        reason: None,
        root_can: false,
        findings: Vec::new(),
        needs: Vec::new(),
    });
}
