//! Python packages for what all parts ask.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use pep508_rs::{Requirement, VersionOrUrl};

use super::settle::{self, ManifestDraft, Refusal};
use super::variants::{SolvedLock, VariantSolver};
use super::{UpdatePolicy, merge, newest, own_wheels, torch};
use crate::lock::python::{self, GatheredWheel, LockedPackage, PackageResolver};
use crate::lock::uv::request::{self, AgeLimit, PackageUpdates};
use crate::lock::uv::response;
use crate::lock::{Lock, LockedPython, PartRequirements};
use crate::manifest::Manifest;
use crate::manifest::wheel_sources::WHEELS_INDEX;
use crate::problem::Result;
use crate::progress::{Progress, Reporter};

/// The packages that are asked for: the locked ones where nothing was asked anew, else uv's answer.
pub(super) fn resolve_packages(
    manifest: &Manifest,
    asks: &BTreeMap<String, PartRequirements>,
    old: Option<&Lock>,
    mode: &UpdatePolicy,
    uv: &dyn PackageResolver,
    report: &dyn Reporter,
) -> Result<(LockedPython, Vec<String>)> {
    let m = &manifest.python;
    let fresh = LockedPython::from_manifest(m);
    let before = old.and_then(|l| l.python.as_ref());
    let names: BTreeSet<String> = match mode {
        UpdatePolicy::Keep => BTreeSet::new(),
        UpdatePolicy::Move(names) => names
            .iter()
            .map(|n| python::normalize_name(n))
            .filter(|n| before.is_some_and(|p| p.packages.iter().any(|k| k.name == *n)))
            .collect(),
    };
    let names = with_family(names, before);
    let moving = match mode {
        UpdatePolicy::Move(all) if all.is_empty() || all.iter().any(|n| n == "python") => {
            PackageUpdates::All
        }
        _ if names.is_empty() => PackageUpdates::None,
        _ => PackageUpdates::Only(&names),
    };
    let wanted = effective(asks);
    if wanted.is_empty() && m.requirements.is_empty() {
        return Ok((fresh, Vec::new()));
    }
    // It stays like any pin. A lock of an older comfy gets one; where there is no uv, it stays
    // without.
    let kept = before
        .filter(|p| p.version == m.version && !matches!(moving, PackageUpdates::All))
        .and_then(|p| p.managed.clone());
    if let (Some(locked), Some(lock), PackageUpdates::None) = (before, old, moving)
        && (LockedPython {
            packages: Vec::new(),
            managed: None,
            allow_pth: m.allow_pth.clone(),
            ..locked.clone()
        }) == fresh
        && effective(&lock.asks) == wanted
    {
        let managed = kept.or_else(|| uv.newest_release(&m.version).unwrap_or(None));
        return Ok((
            LockedPython {
                managed,
                allow_pth: m.allow_pth.clone(),
                ..locked.clone()
            },
            Vec::new(),
        ));
    }
    let job = report.start_job("python");
    let own;
    let (manifest, asks, wheels) = if m.wheels.is_empty() {
        (manifest, asks, &[][..])
    } else {
        let named = own_wheels::name_addresses(asks, &m.wheels);
        let (manifest, wheels) = own_wheels::gather(manifest, before, moving, uv, job.as_ref())?;
        own = (manifest, named, wheels);
        (&own.0, &own.1, &own.2[..])
    };
    let m = &manifest.python;
    // Without an age nothing is compared, so that an index that tells no times serves too.
    let newest = (!m.minimum_age.is_zero()).then(|| {
        let t = chrono::Utc::now() - m.minimum_age;
        t.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    });
    let limit = AgeLimit {
        newest,
        ..AgeLimit::default()
    };
    let question = PackageQuestion {
        old: before,
        moving,
        uv,
        job: job.as_ref(),
        wheels,
    };
    let mut draft = ManifestDraft::new(manifest, asks);
    let unlockable = draft.ignore_unlockable_lines();
    let solver = question.solver(&draft.manifest, &draft.asks, limit)?;
    let answers = match solver.solve_all() {
        Ok(answers) if unlockable.is_empty() => answers,
        other => {
            let first = other.err().map(|problem| solver.refusal(problem));
            let again = |draft: &ManifestDraft| question.refusal(draft, solver.limit());
            return Err(settle::explain_all(
                draft.clone(),
                unlockable,
                first,
                &again,
            ));
        }
    };
    let packages = merge::merge_variants(&answers, m, before, uv, job.as_ref())?;
    let remarks = package_remarks(&solver, &answers, &packages, asks);
    let managed = match kept {
        Some(m) => Some(m),
        None => uv.newest_release(&m.version)?,
    };
    Ok((
        LockedPython {
            packages,
            managed,
            ..fresh
        },
        remarks,
    ))
}

/// The texts that each part asks for; those that ask for nothing are not in it.
fn effective(asks: &BTreeMap<String, PartRequirements>) -> BTreeMap<String, Vec<String>> {
    let texts = |a: &PartRequirements| -> Vec<String> {
        a.effective_lines().map(|l| l.text.clone()).collect()
    };
    asks.iter()
        .map(|(part, a)| (part.clone(), texts(a)))
        .filter(|(_, t)| !t.is_empty())
        .collect()
}

/// What a person should know of the answers.
fn package_remarks(
    solver: &VariantSolver,
    answers: &[SolvedLock],
    packages: &[LockedPackage],
    asks: &BTreeMap<String, PartRequirements>,
) -> Vec<String> {
    let unknown = BTreeMap::new();
    let newest = answers.first().map_or(&unknown, |base| &base.solved.newest);
    let mut remarks = response::remarks::resolution_warnings(
        packages,
        asks,
        &solver.manifest.python.overrides,
        newest,
    );
    remarks.extend(
        answers
            .iter()
            .take(1)
            .flat_map(|base| newest::newest_remarks(solver, base)),
    );
    remarks.extend(answers.first().and_then(|base| solver.family_remark(base)));
    remarks.extend(torch::audio_remarks(answers));
    remarks.extend(age_remarks(&solver.limit(), packages));
    for (part, a) in asks {
        remarks.extend(a.unmatched_ignores().map(|i| {
            format!(
                "{part}: ignore_requirements names `{}`, which its requirements do not have",
                crate::text::escape_text(i)
            )
        }));
    }
    remarks
}

/// What does not change while a manifest that settles everything is looked for.
struct PackageQuestion<'a> {
    old: Option<&'a LockedPython>,
    moving: PackageUpdates<'a>,
    uv: &'a dyn PackageResolver,
    job: &'a dyn Progress,
    wheels: &'a [GatheredWheel],
}

impl<'a> PackageQuestion<'a> {
    fn solver<'b>(
        &self,
        manifest: &'b Manifest,
        asks: &'b BTreeMap<String, PartRequirements>,
        limit: AgeLimit,
    ) -> Result<VariantSolver<'b>>
    where
        'a: 'b,
    {
        Ok(VariantSolver {
            manifest,
            asks,
            members: request::workspace_members(manifest, asks)?,
            old: self.old,
            moving: self.moving,
            uv: self.uv,
            job: self.job,
            wheels: self.wheels,
            limit: Mutex::new(limit),
            core_pins: core_pins(asks, &manifest.python.overrides),
            lacks: Mutex::default(),
        })
    }

    /// Why a draft cannot be locked; `None`: it can.
    fn refusal(&self, draft: &ManifestDraft, limit: AgeLimit) -> Option<Refusal> {
        let solver = match self.solver(&draft.manifest, &draft.asks, limit) {
            Ok(solver) => solver,
            Err(problem) => {
                return Some(Refusal {
                    problem,
                    lacks: Vec::new(),
                });
            }
        };
        let refused = solver.solve_all().err()?;
        Some(solver.refusal(refused))
    }
}

/// With torch its family moves, and what nobody else asks for.
fn with_family(mut names: BTreeSet<String>, before: Option<&LockedPython>) -> BTreeSet<String> {
    let packages = before.map_or(&[][..], |p| &p.packages);
    if !torch::FAMILY.iter().any(|n| names.contains(*n)) {
        return names;
    }
    names.extend(torch::FAMILY.map(String::from));
    loop {
        let more: Vec<String> = packages
            .iter()
            .filter(|p| !names.contains(&p.name) && !p.by.is_empty())
            .filter(|p| p.by.iter().all(|b| names.contains(b)))
            .map(|p| p.name.clone())
            .collect();
        if more.is_empty() {
            return names;
        }
        names.extend(more);
    }
}

/// What ComfyUI's own requirements pin to one version: its age is that of ComfyUI itself.
fn core_pins(asks: &BTreeMap<String, PartRequirements>, overrides: &[String]) -> BTreeSet<String> {
    let overruled = |name: &String| {
        overrides.iter().any(|o| {
            o.parse::<Requirement>()
                .is_ok_and(|r: Requirement| python::normalize_name(r.name.as_ref()) == *name)
        })
    };
    let lines = asks.get("comfyui").into_iter();
    lines
        .flat_map(PartRequirements::effective_lines)
        .filter_map(|l| l.text.parse::<Requirement>().ok())
        .filter(|r| match &r.version_or_url {
            Some(VersionOrUrl::VersionSpecifier(s)) => s
                .iter()
                .any(|s| matches!(s.operator().to_string().as_str(), "==" | "===")),
            _ => false,
        })
        .map(|r| python::normalize_name(r.name.as_ref()))
        .filter(|name| !overruled(name))
        .collect()
}

/// What was taken although minimum_age cannot be held, or need not be.
fn age_remarks(limit: &AgeLimit, packages: &[LockedPackage]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    if limit.newest.is_none() {
        return out;
    }
    let undated = limit.undated.iter().filter(|x| *x != WHEELS_INDEX);
    for index in undated {
        let mut names: Vec<&str> = packages
            .iter()
            .filter(|p| p.index.as_ref() == Some(index))
            .map(|p| p.name.as_str())
            .collect();
        names.dedup();
        out.push(format!(
            "index \"{index}\" tells no times, so that minimum_age does not hold for {}",
            names.join(", ")
        ));
    }
    for p in packages.iter().filter(|p| limit.exempt.contains(&p.name)) {
        out.push(format!(
            "{} {}: younger than minimum_age, and locked because ComfyUI's requirements.txt pins \
             it",
            p.name, p.version
        ));
    }
    out.dedup();
    out
}
