//! The steps from the code that is live to the one that is wanted.

use std::collections::{BTreeMap, BTreeSet};

use super::live::LiveState;
use super::observe::TargetGeneration;
use crate::desired::InstancePaths;
use crate::ids::Part;
use crate::kinds::builder::Instance;
use crate::manifest::{ScanPolicy, names};
use crate::plan::Step;

/// Builds what does not exist, moves away what nobody declared, adds first content, and switches.
pub(super) fn steps(i: &Instance, live: &LiveState, target: &TargetGeneration) -> Vec<Step> {
    let mut steps = Vec::new();
    let id = || target.id.clone();
    if let (Some(check), Some(live)) = (&target.live_check, live.id())
        && !check.foreign.is_empty()
    {
        steps.push(Step::Quarantine {
            id: live.clone(),
            names: check.foreign.clone(),
        });
    }
    if !target.is_intact() {
        let mut reuse: Vec<_> = target
            .check
            .iter()
            .map(|_| id())
            .chain(live.id().cloned())
            .collect();
        reuse.dedup();
        steps.push(Step::BuildGeneration {
            spec: Box::new(target.spec.clone()),
            reuse,
        });
        if let Some(check) = target.check.as_ref().filter(|c| !c.foreign.is_empty()) {
            steps.push(Step::Quarantine {
                id: id(),
                names: check.foreign.clone(),
            });
        }
        steps.push(Step::Install { id: id() });
    }
    if live.id() != Some(&target.id) && i.d.policy.scan == ScanPolicy::Block {
        steps.push(Step::ScanGeneration {
            id: id(),
            accepted: accepted_findings(i, target),
        });
    }
    steps.extend(first_content(i, target));
    if live.id() != Some(&target.id) {
        steps.push(Step::Switch { id: id() });
    }
    steps
}

/// The fingerprints of findings that people have accepted, by part.
fn accepted_findings(i: &Instance, target: &TargetGeneration) -> BTreeMap<Part, BTreeSet<String>> {
    let (policy, acceptances) = (&i.d.policy, &i.d.acceptances);
    let of_part = |part: Part| {
        let name = part_name(&part);
        let reviewed = acceptances.reviews.get(&name).map(|r| &r.critical);
        let bound = policy.accept.iter().filter(|e| e.node == name);
        let bound = bound.filter_map(|e| acceptances.bound_to(e));
        let prints: BTreeSet<String> = reviewed
            .into_iter()
            .chain(bound)
            .flatten()
            .cloned()
            .collect();
        (part, prints)
    };
    target.spec.parts().map(of_part).collect()
}

/// `comfyui`, or the node's name, as `policy.accept` and reviews call it.
pub(super) fn part_name(part: &Part) -> String {
    match part {
        Part::Comfyui => "comfyui".into(),
        Part::Node(name) => name.to_string(),
    }
}

/// The first content of each `writable` path that nothing has written yet.
fn first_content(i: &Instance, target: &TargetGeneration) -> Vec<Step> {
    let (paths, mut steps) = (&i.d.paths, Vec::new());
    for (part, path) in target.spec.writable() {
        let written = InstancePaths::written_by(&paths.state_dir(), &part).join(path);
        if !matches!(i.look.read_entry(&written), Ok(None)) {
            continue;
        }
        let generation = paths.generation_dir(&target.id);
        let tracked = generation.join(InstancePaths::tracked(&part)).join(path);
        if !target.is_intact()
            || names::stands_for_folder(path)
            || matches!(i.look.read_entry(&tracked), Ok(Some(_)))
        {
            steps.push(Step::Seed {
                id: target.id.clone(),
                part,
                path: path.clone(),
                uid: i.ids.sandbox,
                gid: i.ids.sandbox_gid,
            });
        }
    }
    steps
}
