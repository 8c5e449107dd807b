//! `python`: the virtual environment of a generation, and the interpreter that comfy installs for
//! it.

use std::collections::{BTreeMap, BTreeSet};

use super::builder::{Observed, PlanBuilder, Resource, attrs};
use super::code::{self, CodeTarget, LiveState, TargetGeneration};
use crate::desired::venv::{InstallKey, PackageInstall, VenvSpec};
use crate::ids::Address;
use crate::plan::change::WheelDownloads;
use crate::plan::observed::TreeDifference;
use crate::plan::{Attrs, Step};

pub(crate) fn plan(o: &Observed, b: &mut PlanBuilder) {
    // If it could not be read, the code reports that.
    let Ok(seen) = &o.code else { return };
    let target = match &seen.target {
        CodeTarget::Unselected => return,
        CodeTarget::WithoutPython(why) => {
            let want = attrs([("version", o.d.python.version.clone())]);
            b.add(Resource::new(Address::Python, Some(want), None).block(why.clone()));
            return;
        }
        CodeTarget::Generation(target) => target,
    };
    let Some(change) = compare(&seen.live, target) else {
        return;
    };
    b.add(change.resource);
    b.downloads.wheels = change.wheels;
    // If there is no link to switch, nothing is built either.
    if !matches!(seen.live, LiveState::NotALink) {
        b.downloads.interpreter = change.interpreter;
        code::add_steps(b, change.steps);
    }
}

/// How the wanted virtual environment differs from the live one.
pub(super) struct PythonChange {
    resource: Resource,
    pub differs: bool,
    pub steps: Vec<Step>,
    wheels: WheelDownloads,
    interpreter: Option<String>,
}

/// Compares the two environments; `None` if the generation has none.
pub(super) fn compare(live: &LiveState, target: &TargetGeneration) -> Option<PythonChange> {
    let want = target.spec.venv.as_ref()?;
    let live = live.spec().and_then(|l| l.venv.as_ref());
    let findings = target.venv.as_ref();
    let build = findings.is_none_or(|f| !f.is_empty());
    let reusable = live.filter(|l| l.layout == want.layout);
    let mut steps = Vec::new();
    let interpreter = target
        .interpreter
        .as_ref()
        .filter(|(_, found)| found.as_ref().is_none_or(|f| !f.is_empty()))
        .map(|(version, _)| version.clone());
    steps.extend(
        interpreter
            .clone()
            .map(|version| Step::BuildPython { version }),
    );
    let mut wheels = WheelDownloads::default();
    if build {
        let mut reuse: Vec<_> = findings
            .iter()
            .map(|_| want.id())
            .chain(reusable.map(VenvSpec::id))
            .collect();
        reuse.dedup();
        steps.push(Step::BuildVenv {
            spec: Box::new(want.clone()),
            reuse,
        });
        steps.push(Step::InstallVenv { id: want.id() });
        let have: BTreeSet<InstallKey> = reusable
            .iter()
            .flat_map(|l| &l.packages)
            .map(PackageInstall::install_key)
            .collect();
        wheels = WheelDownloads::from_packages(
            want.packages
                .iter()
                .filter(|p| !have.contains(&p.install_key())),
        );
    }
    let resource = resource(want, live, target);
    let differs = resource.have != resource.want;
    Some(PythonChange {
        resource,
        differs,
        steps,
        wheels,
        interpreter,
    })
}

fn resource(want: &VenvSpec, live: Option<&VenvSpec>, target: &TargetGeneration) -> Resource {
    let findings = target.venv.as_ref();
    let build = findings.is_none_or(|f| !f.is_empty());
    let broken = build && live == Some(want);
    let own: &[TreeDifference] = match &target.interpreter {
        Some((_, Some(found))) => found,
        _ => &[],
    };
    let (mut after, mut before) = (describe(want), live.map(describe));
    if let (Some(l), Some(b)) = (live, before.as_mut()) {
        if broken {
            after.insert("content".into(), "as locked".into());
            b.insert(
                "content".into(),
                findings.map_or("missing".into(), |f| code::summary(f)),
            );
        }
        if !own.is_empty() {
            after.insert("the interpreter's content".into(), "as installed".into());
            b.insert("the interpreter's content".into(), code::summary(own));
        }
        // Only the packages that changed, out of some hundreds.
        let (is, should) = (installs(l), installs(want));
        for (name, p) in &is {
            if should.get(name).is_none_or(|s| s.version != p.version) {
                b.insert((*name).into(), p.version.clone());
            }
        }
        for (name, p) in &should {
            match is.get(name) {
                Some(old) if old.install_key() == p.install_key() => {}
                // The same version of another index.
                Some(old) if old.version == p.version => {
                    b.insert((*name).into(), p.version.clone());
                    after.insert((*name).into(), format!("{}, another build", p.version));
                }
                _ => drop(after.insert((*name).into(), p.version.clone())),
            }
        }
    }
    let mut r = Resource::new(Address::Python, Some(after), before).needs(code::needs());
    if build && live.is_some_and(|l| l.layout < want.layout) {
        r.reason = Some("an older comfy made it: it is rebuilt once, from verified wheels".into());
    }
    r.drift = (broken || !own.is_empty()).then_some(true);
    r.findings = findings.filter(|_| broken).cloned().unwrap_or_default();
    r.findings.extend_from_slice(own);
    r
}

fn describe(v: &VenvSpec) -> Attrs {
    let interpreter = format!(
        "{} ({})",
        v.interpreter.version,
        v.interpreter.path.display()
    );
    attrs([
        ("interpreter", interpreter),
        ("packages", v.packages.len().to_string()),
        ("venv", v.id().relative_path()),
    ])
}

fn installs(v: &VenvSpec) -> BTreeMap<&str, &PackageInstall> {
    v.packages.iter().map(|p| (p.name.as_str(), p)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;
    use crate::testing::{Locked, MemoryHost, desired};

    #[test]
    fn a_damaged_environment_is_built_anew() {
        let (host, d) = (MemoryHost::fresh(), desired("", &Locked::default()));
        assert_eq!(host.differences(&d, "python"), ["create python: "]);
        host.apply(&d);
        assert_eq!(host.differences(&d, "python"), [""; 0]);
        host.with(|s| s.venvs.clear());
        assert_eq!(host.differences(&d, "python"), ["update python: "]);
        let plan = crate::kinds::plan(&d, &host, &Default::default()).unwrap();
        let steps: Vec<&Step> = plan.steps.iter().map(|p| &p.step).collect();
        assert!(
            matches!(
                steps[..],
                [Step::BuildVenv { .. }, Step::InstallVenv { .. }]
            ),
            "{steps:?}"
        );
    }
}
