//! One resolution for all platforms, and a small one for each accelerator, with everything pinned
//! that its indexes do not serve: so that machines differ in what computes, and in nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use rayon::prelude::*;

use super::pins::{Pins, is_older, public_versions};
use super::{own_wheels, refusals, torch};
use crate::lock::LockedPython;
use crate::lock::python::{
    GatheredWheel, PackageResolver, PartRequirements, normalize_name, public_version,
};
use crate::lock::uv::UvError;
use crate::lock::uv::request::{
    self, AgeLimit, PackageUpdates, PreferredVersion, ResolutionQuestion,
};
use crate::lock::uv::response::lacks::PackageLack;
use crate::lock::uv::response::{self, SolvedVariant};
use crate::lock::uv::variant::{LockVariant, routed_packages};
use crate::manifest::{Manifest, PythonSettings};
use crate::problem::{Problem, Result};
use crate::progress::Progress;

/// How often bounds are tightened until all variants have one version.
const ROUNDS: usize = 6;

/// Bounds that one variant sets for all others: package to `<=2.11.0`.
pub(super) type SharedBounds = BTreeMap<String, String>;

/// What is asked, and of whom.
pub(super) struct VariantSolver<'a> {
    pub manifest: &'a Manifest,
    pub asks: &'a BTreeMap<String, PartRequirements>,
    pub members: Vec<(String, Vec<String>)>,
    pub old: Option<&'a LockedPython>,
    pub moving: PackageUpdates<'a>,
    pub uv: &'a dyn PackageResolver,
    pub job: &'a dyn Progress,
    /// Versions that are preferred where nothing is locked, by package.
    pub given: Option<&'a BTreeMap<String, String>>,
    /// The files of `wheels`.
    pub wheels: &'a [GatheredWheel],
    /// It learns which indexes tell no times.
    pub limit: Mutex<AgeLimit>,
    /// What ComfyUI pins to one version.
    pub core_pins: BTreeSet<String>,
    /// What the last refusals say that packages lack.
    pub lacks: Mutex<Vec<PackageLack>>,
    /// As [`super::settle::Refusal::routes`].
    pub routes: Mutex<BTreeSet<String>>,
}

/// A variant with its answer.
pub(super) struct SolvedLock {
    pub variant: LockVariant,
    pub solved: SolvedVariant,
}

/// What became of one variant with everything pinned.
enum PinnedAttempt {
    Solved(SolvedVariant),
    /// It needs these bounds, which all have to keep.
    Needs(SharedBounds),
}

impl VariantSolver<'_> {
    /// Solves every variant; the one without accelerator is the first.
    ///
    /// # Errors
    /// No solution, with the accelerator's name.
    pub(super) fn solve_all(&self) -> Result<Vec<SolvedLock>> {
        let python = &self.manifest.python;
        let default = LockVariant::default_of(python);
        let accelerated = LockVariant::accelerated(python);
        let mut bounds = self.probe_all(&accelerated)?;
        for _ in 0..ROUNDS {
            let base = self
                .solve(
                    &default,
                    "",
                    constraint_lines(&bounds),
                    self.old_versions(&default),
                    None,
                )
                .map_err(|e| self.explained(e, &default))?;
            let more = self.bounds_of_base(&base);
            if add_bounds(&mut bounds, more) {
                continue;
            }
            let pins = Pins::of(&base, &routed_packages(&python.indexes));
            let attempts: Vec<Result<PinnedAttempt>> = accelerated
                .par_iter()
                .map(|v| self.solve_pinned(v, &base, &pins, &bounds))
                .collect();
            let mut answers = vec![SolvedLock {
                variant: default.clone(),
                solved: base,
            }];
            let mut again = false;
            for (variant, attempt) in accelerated
                .iter()
                .zip(refusals::all_or_every_refusal(&accelerated, attempts)?)
            {
                match attempt {
                    PinnedAttempt::Solved(solved) => answers.push(SolvedLock {
                        variant: variant.clone(),
                        solved,
                    }),
                    PinnedAttempt::Needs(more) => again |= add_bounds(&mut bounds, more),
                }
            }
            if !again {
                return Ok(answers);
            }
        }
        Err(Problem::new(
            "Python packages: the accelerators in `indexes` have no versions in common",
        )
        .with_hint("name one version for all of them: [python] requirements = [\"torch==…\"]"))
    }

    /// Where nothing is locked: the newest version of what indexes serve that all variants have, so
    /// that the large resolution is asked once.
    fn probe_all(&self, accelerated: &[LockVariant]) -> Result<SharedBounds> {
        let routed = routed_packages(&self.manifest.python.indexes);
        let locked = |name: &String| {
            self.moving.keeps(name)
                && self
                    .old
                    .is_some_and(|o| o.packages.iter().any(|p| p.name == *name))
        };
        if accelerated.is_empty() || routed.iter().any(locked) {
            return Ok(SharedBounds::new());
        }
        let lines = |lines: &Vec<String>| -> Vec<String> {
            let about = |l: &&String| {
                l.parse::<pep508_rs::Requirement>()
                    .is_ok_and(|r: pep508_rs::Requirement| {
                        routed.contains(&normalize_name(r.name.as_ref()))
                    })
            };
            lines.iter().filter(about).cloned().collect()
        };
        let members: Vec<(String, Vec<String>)> = self
            .members
            .iter()
            .map(|(part, l)| (part.clone(), lines(l)))
            .collect();
        let answers: Vec<Result<SolvedVariant>> = accelerated
            .par_iter()
            .map(|v| {
                self.solve(v, "probe-", Vec::new(), Vec::new(), Some(&members))
                    .map_err(|e| self.explained(e, v))
            })
            .collect();
        let answers = refusals::all_or_every_refusal(accelerated, answers)?;
        let mut lowest: BTreeMap<String, String> = BTreeMap::new();
        for p in answers.iter().flat_map(|a| &a.packages) {
            if routed.contains(&p.name) {
                let version = public_version(&p.version).to_string();
                let known = lowest.entry(p.name.clone()).or_insert(version.clone());
                if is_older(&version, known) {
                    *known = version;
                }
            }
        }
        Ok(lowest
            .into_iter()
            .map(|(n, v)| (n, format!("<={v}")))
            .collect())
    }

    /// What the resolution for all platforms shows that it lacks: one torch for all of them, and a
    /// torchaudio that belongs to it.
    fn bounds_of_base(&self, base: &SolvedVariant) -> SharedBounds {
        let mut out = SharedBounds::new();
        let versions = public_versions(base, torch::TORCH);
        let oldest = versions.iter().fold(None, |oldest: Option<&String>, v| {
            Some(oldest.filter(|o| !is_older(v, o)).unwrap_or(v))
        });
        let routed = routed_packages(&self.manifest.python.indexes);
        if let Some(oldest) = oldest.filter(|_| versions.len() > 1 && routed.contains(torch::TORCH))
        {
            out.insert(torch::TORCH.into(), format!("<={oldest}"));
        }
        out.extend(torch::audio_bound(base, &self.members));
        out
    }

    /// Solves a variant with everything pinned that `base` has; where that fails, finds out what
    /// has to give way.
    fn solve_pinned(
        &self,
        variant: &LockVariant,
        base: &SolvedVariant,
        pins: &Pins,
        bounds: &SharedBounds,
    ) -> Result<PinnedAttempt> {
        let routed = routed_packages(&self.manifest.python.indexes);
        let mut preferred = self.old_versions(variant);
        let known: BTreeSet<String> = preferred.iter().map(|p| p.name.clone()).collect();
        preferred.extend(
            base.packages
                .iter()
                .filter(|p| !routed.contains(&p.name) && !known.contains(&p.name))
                .map(|p| PreferredVersion {
                    name: p.name.clone(),
                    version: p.version.clone(),
                    url: p.url.clone(),
                }),
        );
        let lines = [pins.shared.clone(), pins.routed("==")].concat();
        let failed = match self.solve(variant, "", lines, preferred.clone(), None) {
            Ok(solved) => return Ok(PinnedAttempt::Solved(solved)),
            Err(e) => e,
        };
        if !matches!(failed, UvError::Said { .. }) {
            return Err(failed.into());
        }
        let lines = [constraint_lines(bounds), pins.routed("<=")].concat();
        let loose = self
            .solve(variant, "loose-", lines, preferred, None)
            .map_err(|e| self.explained(e, variant))?;
        let needs = pins.differences(&loose, &routed);
        let news = |(name, bound): (&String, &String)| bounds.get(name) != Some(bound);
        if needs.iter().any(news) {
            Ok(PinnedAttempt::Needs(needs))
        } else {
            Err(self.explained(failed, variant))
        }
    }

    /// The locked versions that this variant prefers, also those of another minor version of Python:
    /// most packages have wheels for several.
    fn old_versions(&self, variant: &LockVariant) -> Vec<PreferredVersion> {
        let Some(old) = self.old else {
            return self.given_versions(variant);
        };
        old.packages
            .iter()
            .filter(|p| self.moving.keeps(&p.name) && p.serves_variant(variant.word()))
            .map(|p| PreferredVersion::of_locked(p, &old.indexes))
            .collect()
    }

    /// The versions that were given, from the index that the variant has each package of.
    fn given_versions(&self, variant: &LockVariant) -> Vec<PreferredVersion> {
        let indexes: Vec<_> = variant.indexes(&self.manifest.python.indexes).collect();
        let given = self.given.into_iter().flatten().map(|(name, version)| {
            let own = indexes.iter().find(|x| x.has_package(name));
            PreferredVersion {
                name: name.clone(),
                // The default index has no `2.9.0+cu128`.
                version: own.map_or(public_version(version), |_| version).to_string(),
                url: own.map_or(request::PYPI, |x| x.url.as_str()).to_string(),
            }
        });
        given.collect()
    }

    /// Asks uv, and once more where an index turns out to tell no times, or ComfyUI pins what is
    /// younger than the age.
    pub(super) fn solve(
        &self,
        variant: &LockVariant,
        purpose: &str,
        constraints: Vec<String>,
        preferred: Vec<PreferredVersion>,
        members: Option<&[(String, Vec<String>)]>,
    ) -> Result<SolvedVariant, UvError> {
        let question = ResolutionQuestion {
            python: &self.manifest.python,
            members: members.unwrap_or(&self.members),
            variant,
            purpose,
            constraints,
            preferred,
        };
        self.ask(&question)
    }

    fn ask(&self, question: &ResolutionQuestion) -> Result<SolvedVariant, UvError> {
        let (variant, indexes) = (question.variant, &question.python.indexes);
        loop {
            let limit = self.limit();
            let mut workspace = request::build_workspace(question, &limit);
            let wheels = self.wheels.iter();
            workspace.wheels = wheels.map(|w| (w.file.clone(), w.path.clone())).collect();
            match self.uv.solve_workspace(&workspace, self.job) {
                Ok(answer) => {
                    let mut solved =
                        response::read_solution(&answer, &workspace, variant, indexes)?;
                    own_wheels::complete(&mut solved, self.wheels);
                    if self.holds_limit(&solved, &limit) {
                        return Ok(solved);
                    }
                }
                Err(e) if limit.newest.is_some() && self.widen_limit(&e, variant, &limit) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Learns from an answer which indexes tell times; whether everything from those that do is old
    /// enough.
    fn holds_limit(&self, solved: &SolvedVariant, asked: &AgeLimit) -> bool {
        let Some(newest) = asked.newest.as_ref().and_then(|t| parse_time(t)) else {
            return true;
        };
        let known = |index: &String| asked.undated.contains(index) || asked.dated.contains(index);
        let mut times: BTreeMap<&String, Vec<Option<&String>>> = BTreeMap::new();
        for p in &solved.packages {
            if let Some(index) = p.index.as_ref().filter(|index| !known(index)) {
                let published = p.wheels.iter().map(|w| w.published.as_ref());
                times.entry(index).or_default().extend(published);
            }
        }
        let mut limit = self.limit.lock().unwrap_or_else(|e| e.into_inner());
        let mut holds = true;
        for (index, times) in times {
            if times.iter().all(Option::is_none) {
                limit.undated.insert(index.clone());
            } else {
                limit.dated.insert(index.clone());
                let old = |t: &String| parse_time(t).is_some_and(|t| t <= newest);
                holds &= times.iter().all(|t| t.is_some_and(old));
            }
        }
        holds
    }

    /// Whether torch, torchvision and torchaudio were made for each other, where overrides keep uv
    /// from saying so.
    pub(super) fn family_remark(&self, base: &SolvedLock) -> Option<String> {
        let lines = torch::family_lines(&base.solved, &self.manifest.python.overrides)?;
        let python = PythonSettings {
            overrides: Vec::new(),
            ..self.manifest.python.clone()
        };
        let answer = self.ask(&ResolutionQuestion {
            python: &python,
            members: &[(request::OWN.into(), lines.clone())],
            variant: &base.variant,
            purpose: "family-",
            constraints: Vec::new(),
            preferred: Vec::new(),
        });
        // Whatever else fails here is no fault of the lock.
        answer.err().filter(response::is_no_solution).map(|_| {
            format!(
                "{} were not made for each other, and [python] overrides pair them: they may not \
                 load; override all of them with versions that belong together, or none",
                lines.join(", ")
            )
        })
    }

    /// Whether `e` is about times that do not have to hold; from now on they do not.
    fn widen_limit(&self, e: &UvError, variant: &LockVariant, asked: &AgeLimit) -> bool {
        let indexes: Vec<_> = variant.indexes(&self.manifest.python.indexes).collect();
        let mut wider = asked.clone();
        wider
            .undated
            .extend(response::without_upload_time(e, &indexes));
        let young = response::too_young(e);
        wider
            .exempt
            .extend(young.intersection(&self.core_pins).cloned());
        if wider == *asked {
            return false;
        }
        let mut limit = self.limit.lock().unwrap_or_else(|e| e.into_inner());
        limit.undated.extend(wider.undated);
        limit.exempt.extend(wider.exempt);
        true
    }

    pub(super) fn limit(&self) -> AgeLimit {
        self.limit.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }
}

fn parse_time(text: &str) -> Option<chrono::DateTime<chrono::FixedOffset>> {
    chrono::DateTime::parse_from_rfc3339(text).ok()
}

fn constraint_lines(bounds: &SharedBounds) -> Vec<String> {
    bounds.iter().map(|(n, b)| format!("{n}{b}")).collect()
}

/// Whether anything is new.
fn add_bounds(bounds: &mut SharedBounds, more: SharedBounds) -> bool {
    let mut new = false;
    for (name, bound) in more {
        new |= bounds
            .insert(name, bound.clone())
            .is_none_or(|old| old != bound);
    }
    new
}
