//! `comfyui` and `node.NAME`: the sealed trees, compared by content, and the generation that is
//! live.

use std::collections::{BTreeMap, BTreeSet};

use crate::desired::venv::{PackageInstall, VenvSpec};
use crate::desired::{Desired, GenSpec, InstancePaths};
use crate::lock::RepositoryPin;
use crate::manifest::names;
use crate::plan::build::{PlanBuilder, PlannedResource, attrs};
use crate::plan::change::WheelDownloads;
use crate::plan::ids::AccountIds;
use crate::plan::look::Look;
use crate::plan::observed::{FileType, FsEntry, GenCheck, Seen, TreeDifference};
use crate::plan::select::ResourceSelection;
use crate::plan::{Attrs, Step};

/// The address of steps that serve every part of a generation.
pub const GENERATION: &str = "generation";
const PYTHON: &str = "python";

/// What was seen of the code.
pub struct CodeObservation {
    current: Option<FsEntry>,
    /// Where `current` leads, as text.
    link: Option<String>,
    live_id: Option<String>,
    live: Option<GenSpec>,
    target: Option<GenSpec>,
    check: Option<GenCheck>,
    live_check: Option<GenCheck>,
    /// Some of the code was selected, rather than its links alone.
    named: bool,
    /// What is off in the wanted virtual environment; `None`: there is none.
    venv: Option<Vec<TreeDifference>>,
    /// The interpreter that comfy has to have of its own for it, and what is off with that; `None`:
    /// it is not there.
    own: Option<(String, Option<Vec<TreeDifference>>)>,
    /// Why there is no interpreter for it.
    lacking: Option<String>,
}

/// Compares the wanted generation, and the live one if it is another, with what lies on the disk.
pub fn observe_code(
    d: &Desired,
    look: &dyn Look,
    ids: &AccountIds,
    only: &ResourceSelection,
) -> Seen<CodeObservation> {
    let paths = &d.paths;
    let current = look.read_entry(&paths.current_link())?;
    let link = current
        .as_ref()
        .and_then(|n| n.target.as_ref())
        .map(|t| t.display().to_string());
    let live_id = link
        .as_deref()
        .and_then(|t| t.strip_prefix("gen/"))
        .filter(|id| id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit()))
        .map(str::to_string);
    let live = match &live_id {
        Some(id) => look.generation_spec(paths, id)?,
        None => None,
    };
    let named = only.touches_code(live.as_ref(), &d.code);
    let (mut wish, mut lacking) = (d.code.clone(), None);
    if named {
        let found = look.find_interpreter(d, ids)?;
        match found.or_else(|why| {
            d.python
                .managed
                .as_ref()
                .map(|v| look.managed_interpreter(paths, v))
                .ok_or(why)
        }) {
            Ok(i) => match VenvSpec::select_packages(&d.python, i, &d.platform, |node| {
                d.code.nodes.contains_key(node)
            }) {
                Ok(v) => wish.venv = Some(v),
                Err(p) => lacking = Some(p.to_string()),
            },
            Err(why) => lacking = Some(why),
        }
    }
    let target = only.target_generation(live.as_ref(), &wish);
    let (check, venv) = rayon::join(
        || {
            target
                .as_ref()
                .map_or(Ok(None), |t| look.check_generation(paths, t, ids))
        },
        || {
            target
                .as_ref()
                .and_then(|t| t.venv.as_ref())
                .map_or(Ok(None), |v| look.check_venv(paths, v, ids))
        },
    );
    let (check, venv) = (check?, venv?);
    let version = target
        .as_ref()
        .and_then(|t| t.venv.as_ref())
        .filter(|v| v.interpreter.path.starts_with(paths.interpreters_dir()))
        .map(|v| &v.interpreter.version);
    let own = match version {
        Some(v) => Some((v.clone(), look.managed_check(paths, v, ids)?)),
        None => None,
    };
    let other = live
        .as_ref()
        .filter(|_| target.is_some() && live_id != target.as_ref().map(GenSpec::id));
    let live_check = other.and_then(|spec| look.check_generation(paths, spec, ids).ok().flatten());
    Ok(CodeObservation {
        current,
        link,
        live_id,
        live,
        target,
        check,
        live_check,
        named,
        venv,
        own,
        lacking,
    })
}

pub fn plan_code(draft: &mut PlanBuilder) {
    let Some(looked) = draft.code.take() else {
        return;
    };
    let Some(CodeObservation {
        current,
        link,
        live_id,
        live,
        target,
        check,
        live_check,
        named,
        venv,
        own,
        lacking,
    }) = draft.unwrap_seen("comfyui", looked)
    else {
        return;
    };
    let Some(target) = target else { return };
    if let Some(why) = lacking {
        let want = attrs([("version", draft.d.python.version.clone())]);
        draft.add_resource(PlannedResource::new(PYTHON, Some(want), None).with_block(why));
        return;
    }
    if !named
        && live
            .as_ref()
            .is_none_or(|l| l.mounts == target.mounts && l.elsewhere == target.elsewhere)
    {
        // Shares alone were selected, and none of their links has to move.
        return;
    }
    let paths = &draft.d.paths;
    let id = target.id();
    let same = live_id.as_ref() == Some(&id);

    let switch = link != Some(format!("gen/{id}"));
    let good = check.as_ref().is_some_and(GenCheck::is_intact);
    let mut steps = Vec::new();
    let live_venv = live.as_ref().and_then(|l| l.venv.as_ref());
    let build_venv = venv.as_ref().is_none_or(|f| !f.is_empty());
    let build_own = own
        .as_ref()
        .filter(|(_, found)| found.as_ref().is_none_or(|f| !f.is_empty()));
    if let Some((version, _)) = build_own {
        steps.push(Step::BuildPython {
            version: version.clone(),
        });
        draft.interpreter = Some(version.clone());
    }
    if let Some(v) = target.venv.as_ref().filter(|_| build_venv) {
        let live = live_venv.filter(|l| l.layout == v.layout);
        let mut reuse: Vec<String> = venv
            .iter()
            .map(|_| v.id())
            .chain(live.map(VenvSpec::id))
            .collect();
        reuse.dedup();
        steps.push(Step::BuildVenv {
            spec: Box::new(v.clone()),
            reuse,
        });
        steps.push(Step::InstallVenv { id: v.id() });
    }
    if let (Some(c), Some(l)) = (&live_check, &live_id)
        && !c.foreign.is_empty()
    {
        steps.push(Step::Quarantine {
            id: l.clone(),
            names: c.foreign.clone(),
        });
    }
    if !good {
        let mut reuse: Vec<String> = check
            .iter()
            .map(|_| id.clone())
            .chain(live_id.clone())
            .collect();
        reuse.dedup();
        steps.push(Step::BuildGeneration {
            spec: Box::new(target.clone()),
            reuse,
        });
        if let Some(c) = check.as_ref().filter(|c| !c.foreign.is_empty()) {
            steps.push(Step::Quarantine {
                id: id.clone(),
                names: c.foreign.clone(),
            });
        }
        steps.push(Step::Install { id: id.clone() });
    }
    for (part, path) in target.writable_paths() {
        let absent = matches!(
            draft
                .look
                .read_entry(&InstancePaths::written_by(&paths.state_dir(), &part).join(path)),
            Ok(None)
        );
        let tracked = paths
            .generation_dir(&id)
            .join(InstancePaths::tracked(&part))
            .join(path);
        let folder = names::stands_for_folder(path);
        if absent && (!good || folder || matches!(draft.look.read_entry(&tracked), Ok(Some(_)))) {
            steps.push(Step::Seed {
                id: id.clone(),
                part,
                path: path.clone(),
                uid: draft.ids.sandbox,
                gid: draft.ids.sandbox_gid,
            });
        }
    }
    if switch {
        steps.push(Step::Switch { id: id.clone() });
    }
    let mut needs: Vec<String> = vec![
        "dir.instance".into(),
        "dir.records".into(),
        "dir.state".into(),
        super::launch::ADDRESS.into(),
    ];
    // With no readable live generation, what is there of the wanted one is what there is.
    let basis = live
        .clone()
        .or_else(|| check.is_some().then(|| target.clone()));
    let parts: BTreeSet<String> = target
        .all_pins()
        .map(|(n, _)| n)
        .chain(
            basis
                .iter()
                .flat_map(|b| b.all_pins().map(|(n, _)| n).collect::<Vec<_>>()),
        )
        .collect();
    let (mut changed, missing) = (false, same && check.is_none());
    if let Some(v) = &target.venv {
        changed |= plan_python(
            draft,
            v,
            live_venv,
            venv,
            own.and_then(|(_, found)| found).unwrap_or_default(),
            needs.clone(),
        );
        needs.push(PYTHON.into());
    }
    for part in &parts {
        let findings: Vec<TreeDifference> = if same {
            check
                .as_ref()
                .and_then(|c| c.findings.get(part))
                .cloned()
                .unwrap_or_default()
        } else {
            Vec::new()
        };
        let mut want = target.pin_of(part).map(|p| describe_pin(p, &target, part));
        let mut have = basis
            .as_ref()
            .and_then(|b| b.pin_of(part).map(|p| describe_pin(p, b, part)));
        if part == "comfyui" {
            if let Some(w) = want.as_mut() {
                w.insert("current".into(), format!("gen/{id}"));
            }
            if let Some(h) = have.as_mut() {
                let is = match (&current, &link) {
                    (_, Some(_)) if missing => format!("gen/{id}, which is missing"),
                    (_, Some(l)) => l.clone(),
                    (None, None) => "no link".into(),
                    (Some(_), None) => "not a link".into(),
                };
                h.insert("current".into(), is);
            }
        }
        if let (true, Some(h), Some(w)) = (!findings.is_empty(), have.as_mut(), want.as_mut()) {
            w.insert("content".into(), "as locked".into());
            h.insert("content".into(), summarize_findings(&findings));
        }
        let foreign = part == "comfyui" && check.as_ref().is_some_and(|c| !c.foreign.is_empty());
        if let (true, Some(c), Some(w), Some(h)) =
            (foreign, check.as_ref(), want.as_mut(), have.as_mut())
        {
            w.insert("custom_nodes".into(), "what the lock names".into());
            h.insert(
                "custom_nodes".into(),
                format!("also {}", c.foreign.join(", ")),
            );
        }
        changed |= want != have;
        let mut r = PlannedResource::new(part, want, have).with_needs(needs.clone());
        r.drift = (!findings.is_empty() || foreign || missing).then_some(true);
        r.findings = findings;
        if part == "comfyui" && current.as_ref().is_some_and(|n| n.kind != FileType::Link) {
            let path = paths.current_link().display().to_string();
            r = r.with_block(format!(
                "{path} is not a link: move it away with `sudo mv {path} {path}.old`"
            ));
            steps.clear();
        }
        draft.add_resource(r);
    }
    // A difference that no part shows, such as another place of a mount, is ComfyUI's own.
    if !steps.is_empty()
        && !changed
        && let Some(c) = draft.changes.iter_mut().find(|c| c.address == "comfyui")
    {
        c.action = crate::plan::Action::Update;
        c.reason.get_or_insert_with(|| {
            "the generation is laid out anew, or a writable path gets its first content".into()
        });
    }
    if !good {
        draft.fetches = target
            .all_pins()
            .filter(|(name, p)| {
                !draft.inventory.fetched.contains(&p.tree.to_string())
                    && basis
                        .as_ref()
                        .is_none_or(|b| b.pin_of(name).is_none_or(|q| q.tree != p.tree))
            })
            .map(|(_, p)| p.repo.clone())
            .collect();
    }
    draft.steps.extend(
        steps
            .into_iter()
            .map(|step| crate::plan::step::PlannedStep {
                address: GENERATION.into(),
                step,
            }),
    );
}

/// The virtual environment as a resource, and what has to be fetched for it; whether it differs.
///
/// `own`: what is off with an interpreter of comfy's.
fn plan_python(
    draft: &mut PlanBuilder,
    want: &VenvSpec,
    live: Option<&VenvSpec>,
    findings: Option<Vec<TreeDifference>>,
    own: Vec<TreeDifference>,
    needs: Vec<String>,
) -> bool {
    let describe = |v: &VenvSpec| {
        let interpreter = format!(
            "{} ({})",
            v.interpreter.version,
            v.interpreter.path.display()
        );
        attrs([
            ("interpreter", interpreter),
            ("packages", v.packages.len().to_string()),
            ("venv", format!("venv/{}", v.id())),
        ])
    };
    let (mut after, mut before) = (describe(want), live.map(describe));
    let build = findings.as_ref().is_none_or(|f| !f.is_empty());
    let broken = build && live == Some(want);
    if let (Some(l), Some(b)) = (live, before.as_mut()) {
        if broken {
            after.insert("content".into(), "as locked".into());
            b.insert(
                "content".into(),
                findings
                    .as_ref()
                    .map_or("missing".into(), |f| summarize_findings(f)),
            );
        }
        if !own.is_empty() {
            after.insert("the interpreter's content".into(), "as installed".into());
            b.insert("the interpreter's content".into(), summarize_findings(&own));
        }
        // What moved, and nothing else of some hundreds.
        let versions = |v: &VenvSpec| {
            v.packages
                .iter()
                .map(|p| (p.name.clone(), p.version.clone()))
                .collect::<BTreeMap<_, _>>()
        };
        let (is, should) = (versions(l), versions(want));
        b.extend(
            is.iter()
                .filter(|(n, v)| should.get(*n) != Some(v))
                .map(|(n, v)| (n.clone(), v.clone())),
        );
        after.extend(should.into_iter().filter(|(n, v)| is.get(n) != Some(v)));
    }
    let differs = before.as_ref() != Some(&after);
    if build {
        let have: BTreeSet<String> = live
            .iter()
            .filter(|l| l.layout == want.layout)
            .flat_map(|l| &l.packages)
            .map(PackageInstall::key)
            .collect();
        draft.wheels = WheelDownloads::from_packages(
            want.packages.iter().filter(|p| !have.contains(&p.key())),
        );
    }
    let mut r = PlannedResource::new(PYTHON, Some(after), before).with_needs(needs);
    if build && live.is_some_and(|l| l.layout < want.layout) {
        r.reason =
            Some("an older comfy made it: it is built anew, once, from verified wheels".into());
    }
    r.drift = (broken || !own.is_empty()).then_some(true);
    r.findings = findings.filter(|_| broken).unwrap_or_default();
    r.findings.extend(own);
    draft.add_resource(r);
    differs
}

fn describe_pin(pin: &RepositoryPin, spec: &GenSpec, part: &str) -> Attrs {
    let mut a = attrs([
        ("commit", pin.commit.to_string()),
        ("tree", pin.tree.to_string()),
        ("repo", pin.repo.clone()),
    ]);
    let writable: Vec<&str> = spec
        .writable_paths()
        .filter(|(p, _)| p == part)
        .map(|(_, w)| w.as_str())
        .collect();
    if !writable.is_empty() {
        a.insert("writable".into(), writable.join(", "));
    }
    if part == "comfyui" {
        a.extend(
            spec.mounts
                .iter()
                .map(|(mount, path)| (format!("mount {mount}"), path.display().to_string())),
        );
        for (share, kind, folder) in spec.external_model_dirs() {
            let folders = a.entry(format!("models {share} {kind}")).or_default();
            *folders = [folders.as_str(), &folder.display().to_string()]
                .into_iter()
                .filter(|f| !f.is_empty())
                .collect::<Vec<_>>()
                .join(", ");
        }
    }
    a
}

fn summarize_findings(findings: &[TreeDifference]) -> String {
    let mut by: BTreeMap<&str, usize> = BTreeMap::new();
    for f in findings {
        *by.entry(f.what.word()).or_default() += 1;
    }
    by.iter()
        .map(|(w, n)| format!("{n} {w}"))
        .collect::<Vec<_>>()
        .join(", ")
}
