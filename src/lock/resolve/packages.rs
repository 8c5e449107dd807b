//! Python packages for what all parts ask.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use chrono::{DateTime, Utc};
use pep508_rs::{Requirement, VersionOrUrl};

use super::given::PackageSettings;
use super::settle::{self, ManifestDraft, Refusal};
use super::variants::{SolvedLock, VariantSolver};
use super::{UpdatePolicy, merge, newest, own_wheels, torch};
use crate::lock::python::{self, GatheredWheel, LockedPackage, PackageResolver};
use crate::lock::uv::request::{self, AgeLimit, PackageUpdates};
use crate::lock::uv::response;
use crate::lock::{Lock, LockedPython, PartRequirements};
use crate::manifest::Manifest;
use crate::manifest::wheel_sources::WHEELS_INDEX;
use crate::problem::{Problem, Result};
use crate::progress::{Progress, Reporter};

/// The packages of a lock.
pub(super) struct ResolvedPackages {
    pub python: LockedPython,
    pub remarks: Vec<String>,
    /// What had to be settled for them, where pins were given.
    pub settled: Option<PackageSettings>,
}

impl ResolvedPackages {
    fn unremarked(python: LockedPython) -> ResolvedPackages {
        ResolvedPackages {
            python,
            remarks: Vec::new(),
            settled: None,
        }
    }
}

/// The packages that are asked for: the locked ones where nothing was asked anew, else uv's answer.
pub(super) fn resolve_packages(
    manifest: &Manifest,
    asks: &BTreeMap<String, PartRequirements>,
    old: Option<&Lock>,
    mode: &UpdatePolicy,
    uv: &dyn PackageResolver,
    report: &dyn Reporter,
) -> Result<ResolvedPackages> {
    let m = &manifest.python;
    let fresh = LockedPython::from_manifest(m);
    let before = old.and_then(|l| l.python.as_ref());
    let names = names_to_move(mode, before);
    let moving = match mode {
        UpdatePolicy::Move(all) if all.is_empty() || all.iter().any(|n| n == "python") => {
            PackageUpdates::All
        }
        _ if names.is_empty() => PackageUpdates::None,
        _ => PackageUpdates::Only(&names),
    };
    let wanted = effective(asks);
    if wanted.is_empty() && m.requirements.is_empty() {
        return Ok(ResolvedPackages::unremarked(fresh));
    }
    // It stays like any pin. A lock of an older comfy gets one; where there is no uv, it stays
    // without.
    let kept = before
        .filter(|p| p.version == m.version && !matches!(moving, PackageUpdates::All))
        .and_then(|p| p.managed.clone());
    if let (Some(lock), PackageUpdates::None) = (old, moving)
        && let Some(locked) = unchanged_packages(&fresh, lock, &wanted)
    {
        let managed = kept.or_else(|| uv.newest_release(&m.version).unwrap_or(None));
        return Ok(ResolvedPackages::unremarked(LockedPython {
            managed,
            ..locked
        }));
    }
    let job = report.start_job("python");
    let (own, own_draft);
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
    let given = match mode {
        UpdatePolicy::At(given) => Some(given),
        UpdatePolicy::Keep | UpdatePolicy::Move(_) => None,
    };
    let released_before = given.and_then(|g| g.released_before);
    let newest = newest_allowed(m.minimum_age, released_before, Utc::now());
    let limit = AgeLimit {
        newest,
        ..AgeLimit::default()
    };
    let question = PackageQuestion {
        old: before,
        moving,
        given: given.map(|g| &g.packages),
        uv,
        job: job.as_ref(),
        wheels,
    };
    let mut draft = ManifestDraft::new(manifest, asks);
    let unlockable = draft.ignore_unlockable_lines();
    let solver = question.solver(&draft.manifest, &draft.asks, limit)?;
    let (solver, answers, settled) = match solver.solve_all() {
        Ok(answers) if unlockable.is_empty() => (solver, answers, None),
        other => {
            let first = other.err().map(|problem| solver.refusal(problem));
            let (settled, settings) = question.settle(&draft, unlockable, first, &solver)?;
            own_draft = settled;
            let settled = question.solver(&own_draft.manifest, &own_draft.asks, solver.limit())?;
            let answers = settled.solve_all()?;
            (settled, answers, Some(settings))
        }
    };
    let (m, asks) = (&solver.manifest.python, solver.asks);
    let packages = merge::merge_variants(&answers, m, before, uv, job.as_ref())?;
    let remarks = package_remarks(&solver, &answers, &packages, asks);
    let managed = match kept {
        Some(m) => Some(m),
        None => uv.newest_release(&m.version)?,
    };
    // What was settled is in the manifest; files of `wheels` are not.
    let fresh = match &settled {
        Some(_) => LockedPython::from_manifest(m),
        None => fresh,
    };
    Ok(ResolvedPackages {
        python: LockedPython {
            packages,
            managed,
            ..fresh
        },
        remarks,
        settled,
    })
}

/// The locked packages that are to move by name.
fn names_to_move(mode: &UpdatePolicy, before: Option<&LockedPython>) -> BTreeSet<String> {
    let names: BTreeSet<String> = match mode {
        UpdatePolicy::Keep | UpdatePolicy::At(_) => BTreeSet::new(),
        UpdatePolicy::Move(names) => names
            .iter()
            .map(|n| python::normalize_name(n))
            .filter(|n| before.is_some_and(|p| p.packages.iter().any(|k| k.name == *n)))
            .collect(),
    };
    with_family(names, before)
}

/// What is locked, where nothing else is asked for than before.
fn unchanged_packages(
    fresh: &LockedPython,
    lock: &Lock,
    wanted: &BTreeMap<String, Vec<String>>,
) -> Option<LockedPython> {
    let locked = LockedPython {
        allow_pth: fresh.allow_pth.clone(),
        ..lock.python.clone()?
    };
    let settings = LockedPython {
        packages: Vec::new(),
        managed: None,
        ..locked.clone()
    };
    (settings == *fresh && effective(&lock.asks) == *wanted).then_some(locked)
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

/// When the newest release that may be taken was published, RFC 3339; `None`: any may.
fn newest_allowed(
    minimum_age: chrono::Duration,
    released_before: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Option<String> {
    let old_enough = (!minimum_age.is_zero()).then(|| now - minimum_age);
    let newest = [old_enough, released_before].into_iter().flatten().min()?;
    Some(newest.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
}

/// What does not change while a manifest that settles everything is looked for.
struct PackageQuestion<'a> {
    old: Option<&'a LockedPython>,
    moving: PackageUpdates<'a>,
    /// Versions that are preferred where nothing is locked.
    given: Option<&'a BTreeMap<String, String>>,
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
            given: self.given,
            uv: self.uv,
            job: self.job,
            wheels: self.wheels,
            limit: Mutex::new(limit),
            core_pins: core_pins(asks, &manifest.python.overrides),
            lacks: Mutex::default(),
            routes: Mutex::default(),
        })
    }

    /// A draft that can be locked, and what it has that the manifest lacks; only where versions are
    /// given.
    fn settle(
        &self,
        draft: &ManifestDraft,
        unlockable: Vec<Problem>,
        first: Option<Refusal>,
        solver: &VariantSolver,
    ) -> Result<(ManifestDraft, PackageSettings)> {
        let again = |draft: &ManifestDraft| self.refusal(draft, solver.limit());
        let mut settled = settle::settle_all(draft.clone(), first, &again);
        match self.given {
            Some(given) => settled.hold_given(given, &again),
            None => return Err(settled.explain(unlockable)),
        }
        if settled.refusal.is_some() {
            return Err(settled.explain(unlockable));
        }
        let settings = settled.settings(unlockable);
        Ok((settled.draft, settings))
    }

    /// Why a draft cannot be locked; `None`: it can.
    fn refusal(&self, draft: &ManifestDraft, limit: AgeLimit) -> Option<Refusal> {
        let solver = match self.solver(&draft.manifest, &draft.asks, limit) {
            Ok(solver) => solver,
            Err(problem) => {
                return Some(Refusal {
                    problem,
                    lacks: Vec::new(),
                    routes: BTreeSet::new(),
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
