//! The loop over steps. It holds no behaviour of its own: a step says what, [`Act`] knows how.

use super::Plan;
use super::inventory::Inventory;
use super::look::Act;
use super::step::Planned;
use crate::problem::{Problem, Result};

/// What the loop tells while it runs, and asks.
pub trait Watch {
    /// # Errors
    /// The step must not begin.
    fn started(&mut self, number: usize, step: &Planned) -> Result<()>;
    fn ended(&mut self, number: usize, step: &Planned, result: &Result<()>);
    /// Asked before each step; then nothing more is begun.
    fn interrupted(&self) -> bool;
}

/// Performs all steps of `plan` in order. What is about to be made is in the inventory before it is
/// made.
///
/// # Errors
/// The first step that failed, with its address. The machine is then between two steps: planning
/// again is truthful, and applying again goes on.
pub fn run(
    plan: &Plan,
    act: &mut dyn Act,
    inventory: &mut Inventory,
    watch: &mut dyn Watch,
) -> Result<()> {
    let mut dirty = false;
    for (number, planned) in plan.steps.iter().enumerate() {
        if watch.interrupted() {
            return Err(Problem::interrupted().hint(format!(
                "{} of {} steps are done; `comfy apply` does the rest",
                number,
                plan.steps.len()
            )));
        }
        watch.started(number, planned)?;
        let before = inventory.clone();
        inventory.before(&planned.step);
        // Prepare leaves no trace, not even here.
        if !planned.step.in_prepare() && (dirty || *inventory != before) {
            act.write_inventory(inventory)?;
            dirty = false;
        }
        let result = act.perform(&planned.step).map_err(|p| name(planned, p));
        watch.ended(number, planned, &result);
        result?;
        let before = inventory.clone();
        inventory.after(&planned.step);
        dirty |= *inventory != before;
    }
    if dirty {
        act.write_inventory(inventory)
    } else {
        Ok(())
    }
}

fn name(planned: &Planned, p: Problem) -> Problem {
    if p.message.starts_with(&planned.address) || planned.address == crate::kinds::code::GENERATION
    {
        p
    } else {
        p.prefixed(&format!("{}: ", planned.address))
    }
}

/// Notes what every resource of the plan was brought to, so that a later difference is known as
/// drift.
pub fn remember(plan: &Plan, inventory: &mut Inventory) {
    inventory.uids = (plan.ids.build != plan.ids.owner).then_some((plan.ids.build, plan.ids.front));
    for c in &plan.changes {
        match &c.after {
            Some(after) => drop(inventory.applied.insert(c.address.clone(), after.clone())),
            None => drop(inventory.applied.remove(&c.address)),
        }
    }
}
