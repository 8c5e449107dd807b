//! The loop over steps. It has no behaviour of its own: a step says what to do, [`Act`] knows how.

use super::Plan;
use super::inventory::Inventory;
use super::look::Act;
use super::step::PlannedStep;
use crate::ids::Address;
use crate::problem::{Problem, Result};

/// Receives the progress of the loop, and decides whether it goes on.
pub(crate) trait StepObserver {
    /// # Errors
    /// If the step must not begin.
    fn step_started(&mut self, number: usize, step: &PlannedStep) -> Result<()>;
    fn step_ended(&mut self, number: usize, step: &PlannedStep, result: &Result<()>);
    /// Checked before each step; if true, no further step begins.
    fn is_interrupted(&self) -> bool;
}

/// Performs all steps of `plan` in order. Each step is noted in the inventory before it runs.
///
/// # Errors
/// The first step that failed, with its address. The machine is then between two steps: a new plan
/// is correct, and a new apply continues.
pub(crate) fn execute_steps(
    plan: &Plan,
    act: &mut dyn Act,
    inventory: &mut Inventory,
    watch: &mut dyn StepObserver,
) -> Result<()> {
    let mut dirty = false;
    for (number, planned) in plan.steps.iter().enumerate() {
        if watch.is_interrupted() {
            return Err(Problem::interrupted().with_hint(format!(
                "{} of {} steps are done; run `comfy apply` for the rest",
                number,
                plan.steps.len()
            )));
        }
        watch.step_started(number, planned)?;
        let before = inventory.clone();
        inventory.note_before(&planned.step);
        // Prepare leaves no trace, not even here.
        if !planned.step.in_prepare() && (dirty || *inventory != before) {
            act.write_inventory(inventory)?;
            dirty = false;
        }
        let result = act
            .perform_step(&planned.step)
            .map_err(|p| with_step_name(planned, p));
        watch.step_ended(number, planned, &result);
        result?;
        let before = inventory.clone();
        inventory.note_after(&planned.step);
        dirty |= *inventory != before;
    }
    if dirty {
        act.write_inventory(inventory)
    } else {
        Ok(())
    }
}

fn with_step_name(planned: &PlannedStep, p: Problem) -> Problem {
    if p.message.starts_with(&planned.address.to_string()) || planned.address == Address::Generation
    {
        p
    } else {
        p.with_prefix(&format!("{}: ", planned.address))
    }
}

/// Notes the attributes that every resource of the plan now has, so that a later difference is
/// recognised as drift.
pub(crate) fn remember_attributes(plan: &Plan, inventory: &mut Inventory) {
    inventory.uids = (plan.ids.build != plan.ids.owner).then_some((plan.ids.build, plan.ids.front));
    for c in &plan.changes {
        match &c.after {
            Some(after) => drop(
                inventory
                    .applied
                    .insert(c.address.to_string(), after.clone()),
            ),
            None => drop(inventory.applied.remove(&c.address.to_string())),
        }
    }
}
