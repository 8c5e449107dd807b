//! `comfyui` and `node.NAME`: the sealed trees, compared by content, and the generation that is
//! live.

mod live;
mod observe;
mod steps;

use std::collections::{BTreeMap, BTreeSet};

use super::builder::{Observed, PlanBuilder, Resource, attrs};
use crate::desired::GenerationSpec;
use crate::ids::{Address, Part};
use crate::lock::RepositoryPin;
use crate::lock::reviews::AcceptanceKind;
use crate::manifest::ReviewPolicy;
use crate::manifest::node_source::NodeSource;
use crate::plan::observed::TreeDifference;
use crate::plan::step::PlannedStep;
use crate::plan::{Action, Attrs, Step};

pub(crate) use crate::kinds::code::live::LiveState;
pub(crate) use crate::kinds::code::observe::{
    CodeObservation, CodeTarget, TargetGeneration, observe,
};

pub(crate) fn plan(o: &Observed, b: &mut PlanBuilder) {
    let Some(seen) = b.observed(&Address::COMFYUI, &o.code) else {
        return;
    };
    let CodeTarget::Generation(target) = &seen.target else {
        return;
    };
    let comparison = Comparison::of(o, &seen.live, target);
    let mut changed = comparison.python.as_ref().is_some_and(|p| p.differs);
    for part in &comparison.parts() {
        let r = comparison.resource(part);
        changed |= r.want != r.have;
        b.add(r);
    }
    if !target.is_intact() {
        b.downloads.repositories = comparison.repositories();
    }
    if matches!(seen.live, LiveState::NotALink) {
        return;
    }
    let steps = steps::steps(o, &seen.live, target);
    let builds = comparison.python.is_some_and(|p| !p.steps.is_empty());
    // A difference that no part shows, such as a moved mount, is reported for ComfyUI.
    if (builds || !steps.is_empty())
        && !changed
        && let Some(c) = b.changes.iter_mut().find(|c| c.address == Address::COMFYUI)
    {
        c.action = Action::Update;
        c.reason.get_or_insert_with(|| {
            "the generation is laid out again, or a writable path gets its first content".into()
        });
    }
    add_steps(b, steps);
}

/// Steps that serve every part of a generation.
pub(super) fn add_steps(b: &mut PlanBuilder, steps: Vec<Step>) {
    b.steps.extend(steps.into_iter().map(|step| PlannedStep {
        address: Address::Generation,
        step,
    }));
}

/// What every resource of a generation needs.
pub(super) fn needs() -> Vec<Address> {
    vec![
        Address::Dir("instance".into()),
        Address::Dir("records".into()),
        Address::Dir("state".into()),
        Address::Run,
    ]
}

/// The wanted generation and what exists.
struct Comparison<'a> {
    o: &'a Observed<'a>,
    live: &'a LiveState,
    target: &'a TargetGeneration,
    python: Option<super::python::PythonChange>,
    /// What exists now: the live generation, or the wanted one if the live one cannot be read.
    present: Option<&'a GenerationSpec>,
}

impl<'a> Comparison<'a> {
    fn of(o: &'a Observed<'a>, live: &'a LiveState, target: &'a TargetGeneration) -> Self {
        Comparison {
            o,
            live,
            target,
            python: super::python::compare(live, target),
            present: live
                .spec()
                .or_else(|| target.check.is_some().then_some(&target.spec)),
        }
    }

    /// Whether the link already leads to the wanted generation.
    fn is_live(&self) -> bool {
        self.live.id() == Some(&self.target.id)
    }

    fn parts(&self) -> BTreeSet<Part> {
        let present = self.present.into_iter().flat_map(GenerationSpec::parts);
        self.target.spec.parts().chain(present).collect()
    }

    fn resource(&self, part: &Part) -> Resource {
        let check = self.target.check.as_ref();
        let core = *part == Part::Comfyui;
        let findings: Vec<TreeDifference> = check
            .filter(|_| self.is_live())
            .and_then(|c| c.findings.get(part))
            .cloned()
            .unwrap_or_default();
        let missing = self.is_live() && check.is_none();
        let foreign: &[String] = match check {
            Some(c) if core => &c.foreign,
            _ => &[],
        };
        let of = |spec: &GenerationSpec| spec.pin_of(part).map(|p| describe(p, spec, part));
        let (mut want, mut have) = (of(&self.target.spec), self.present.and_then(of));
        if core {
            let target = self.target.id.relative_path();
            let is = if missing {
                format!("{target}, which does not exist")
            } else {
                self.live.describe()
            };
            if let Some(w) = want.as_mut() {
                w.insert("current".into(), target);
            }
            if let Some(h) = have.as_mut() {
                h.insert("current".into(), is);
            }
        }
        if let (Some(w), Some(h)) = (want.as_mut(), have.as_mut()) {
            if !findings.is_empty() {
                w.insert("content".into(), "as locked".into());
                h.insert("content".into(), summary(&findings));
            }
            if !foreign.is_empty() {
                w.insert("custom_nodes".into(), "what comfy.lock pins".into());
                h.insert(
                    "custom_nodes".into(),
                    format!("also {}", foreign.join(", ")),
                );
            }
        }
        let mut needs = needs();
        needs.extend(self.python.as_ref().map(|_| Address::Python));
        let mut r = Resource::new(part.clone().into(), want, have).needs(needs);
        let drifted = !findings.is_empty() || !foreign.is_empty() || missing;
        r.drift = drifted.then_some(true);
        r.findings = findings;
        if let Some(why) = self.unreviewed(part) {
            r = r.block(why);
        }
        if core && matches!(self.live, LiveState::NotALink) {
            let path = self.o.d.paths.current_link().display().to_string();
            r = r.block(format!(
                "{path} is not a link: move it away with `sudo mv {path} {path}.old`"
            ));
        }
        r
    }

    /// Why a part may not become live under `review = "required"`. What is live stays.
    fn unreviewed(&self, part: &Part) -> Option<String> {
        let d = self.o.d;
        let pin = self.target.spec.pin_of(part)?;
        let is_live = self.live.spec().and_then(|s| s.pin_of(part));
        if d.policy.review != ReviewPolicy::Required
            || is_live.is_some_and(|p| p.content_id() == pin.content_id())
        {
            return None;
        }
        let name = steps::part_name(part);
        let review = d.acceptances.reviews.get(&name);
        match review.filter(|r| r.kind == AcceptanceKind::Review) {
            Some(r) if r.content == pin.content_id() => None,
            Some(_) => Some(format!(
                "its code has changed since it was reviewed: run `comfy review {name}`"
            )),
            None => Some(format!("nobody has reviewed it: run `comfy review {name}`")),
        }
    }

    /// Returns the repositories to fetch for trees that are not on this machine yet.
    fn repositories(&self) -> Vec<String> {
        let present = |part: &Part, pin: &RepositoryPin| {
            let is = self.present.and_then(|b| b.pin_of(part));
            is.is_some_and(|q| q.tree == pin.tree)
        };
        let spec = &self.target.spec;
        let pins = spec.parts().filter_map(|p| Some((spec.pin_of(&p)?, p)));
        pins.filter(|(pin, part)| {
            !self.o.inventory.fetched.contains(&pin.tree.to_string()) && !present(part, pin)
        })
        .filter(|(pin, _)| !matches!(pin.source(), NodeSource::Folder(_)))
        .map(|(pin, _)| pin.repo.clone())
        .collect()
    }
}

fn describe(pin: &RepositoryPin, spec: &GenerationSpec, part: &Part) -> Attrs {
    let mut a = attrs([("tree", pin.tree.to_string())]);
    // A commit that comfy made says no more than its tree.
    let origin = match pin.source() {
        NodeSource::Repository(repo) => [("commit", pin.commit.to_string()), ("repo", repo.into())],
        NodeSource::Registry(id) => {
            let version = pin.archive.as_ref().map(|a| a.version.clone());
            [
                ("version", version.unwrap_or_default()),
                ("registry", id.into()),
            ]
        }
        NodeSource::Folder(path) => [("path", path.into()), ("tree", pin.tree.to_string())],
    };
    a.extend(attrs(origin));
    if !pin.excluded.is_empty() {
        let paths: Vec<&str> = pin.excluded.iter().map(|x| x.path.as_str()).collect();
        a.insert("exclude".into(), paths.join(", "));
    }
    let writable = match part {
        Part::Comfyui => Some(&spec.writable),
        Part::Node(name) => spec.nodes.get(name).map(|n| &n.writable),
    };
    if let Some(paths) = writable.filter(|w| !w.is_empty()) {
        a.insert("writable".into(), paths.join(", "));
    }
    if *part == Part::Comfyui {
        a.extend(
            spec.mounts
                .iter()
                .map(|(mount, path)| (format!("mount {mount}"), path.display().to_string())),
        );
        let mut folders: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (share, kind, folder) in spec.external_model_dirs() {
            let all = folders.entry(format!("models {share} {kind}")).or_default();
            all.push(folder.display().to_string());
        }
        a.extend(folders.into_iter().map(|(key, all)| (key, all.join(", "))));
    }
    a
}

/// Counts the differences by kind.
pub(super) fn summary(findings: &[TreeDifference]) -> String {
    let mut by: BTreeMap<&str, usize> = BTreeMap::new();
    for f in findings {
        *by.entry(f.what.word()).or_default() += 1;
    }
    by.iter()
        .map(|(w, n)| format!("{n} {w}"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;
    use crate::testing::{Locked, MemoryHost, desired};

    const NODE: &str = "[nodes.a]\nrepo = \"https://github.com/x/a\"\nref = \"main\"\n";

    /// The names of the steps that serve the whole generation.
    fn steps(host: &MemoryHost, d: &crate::desired::Desired) -> Vec<String> {
        let plan = crate::kinds::plan(d, host, &Default::default()).unwrap();
        let steps = plan.steps.iter();
        let own = steps.filter(|p| p.address == Address::Generation);
        own.map(|p| format!("{:?}", p.step.phase())).collect()
    }

    #[test]
    fn another_commit_of_a_node_is_another_generation() {
        let (host, d) = (MemoryHost::fresh(), desired(NODE, &Locked::default()));
        assert_eq!(host.differences(&d, "node"), ["create node.a: "]);
        host.apply(&d);
        assert_eq!(host.differences(&d, "node"), [""; 0]);
        let moved = Locked {
            nodes: 1,
            ..Locked::default()
        };
        let moved = desired(NODE, &moved);
        assert_eq!(host.differences(&moved, "node"), ["update node.a: "]);
        assert_eq!(host.differences(&moved, "comfyui"), ["update comfyui: "]);
        assert_eq!(
            steps(&host, &moved),
            ["BuildGeneration", "InstallGeneration", "Switch"]
        );
    }

    #[test]
    fn what_lies_in_the_place_of_the_link_blocks() {
        let (host, d) = (MemoryHost::fresh(), desired(NODE, &Locked::default()));
        host.apply(&d);
        let current = d.paths.current_link();
        host.with(|s| s.nodes.insert(current, crate::testing::dir(0, 0, 0o755)));
        assert_eq!(host.differences(&d, "comfyui"), ["blocked comfyui: "]);
        assert_eq!(steps(&host, &d), [""; 0]);
    }

    #[test]
    fn an_undeclared_node_is_moved_away_without_building_what_is_there() {
        let (host, d) = (MemoryHost::fresh(), desired("", &Locked::default()));
        host.apply(&d);
        host.with(|s| {
            let (_, check) = s.gens.values_mut().next().unwrap();
            check.foreign.push("evil".into());
        });
        assert_eq!(host.differences(&d, "comfyui"), ["update comfyui: "]);
        assert_eq!(
            steps(&host, &d),
            ["BuildGeneration", "Quarantine", "InstallGeneration"]
        );
    }
}
