//! What uv's refusal says that a package lacks: a wheel, a version, or everything.

use std::collections::BTreeSet;

use super::explain::{NO_SOLUTION, without_braces};
use super::hints::{NOWHERE, last_package, marker_without, missing_platforms};
use crate::lock::markers::platform_marker;
use crate::lock::python::normalize_name;
use crate::lock::uv::UvError;
use crate::manifest::LockPlatform;

/// One package that cannot be had as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackageLack {
    /// Normalised.
    pub package: String,
    pub kind: LackKind,
    /// Packages that ask for it, as far as the refusal says so.
    pub by: BTreeSet<String>,
    /// The accelerators whose machines lack it, if those without one do not.
    pub accelerators: BTreeSet<String>,
    /// A marker of the platforms on which nobody lacks it.
    pub kept_where: Option<String>,
}

impl PackageLack {
    /// The same for machines with an accelerator, on these platforms of all that the lock serves:
    /// the others keep the package.
    pub(crate) fn for_accelerator(
        self,
        accelerator: &str,
        platforms: &[LockPlatform],
        all: &[LockPlatform],
    ) -> PackageLack {
        let served: BTreeSet<LockPlatform> = platforms.iter().copied().collect();
        PackageLack {
            kept_where: marker_without(&served, all).filter(|marker| marker != NOWHERE),
            kind: match self.kind {
                LackKind::Platforms { missing, .. } => LackKind::of_platforms(missing, all),
                kind => kind,
            },
            accelerators: BTreeSet::from([accelerator.to_string()]),
            ..self
        }
    }

    /// Adds what another variant of the lock lacks: a package that is there already lacks both.
    pub(crate) fn merge_into(self, lacks: &mut Vec<PackageLack>, all: &[LockPlatform]) {
        let Some(known) = lacks.iter_mut().find(|l| l.package == self.package) else {
            lacks.push(self);
            return;
        };
        known.by.extend(self.by);
        if known.kept_where != self.kept_where {
            known.kept_where = None;
        }
        if known.accelerators.is_empty() || self.accelerators.is_empty() {
            known.accelerators.clear();
        } else {
            known.accelerators.extend(self.accelerators);
        }
        if let (LackKind::Platforms { missing, .. }, LackKind::Platforms { missing: more, .. }) =
            (&known.kind, self.kind)
        {
            known.kind = LackKind::of_platforms(missing.union(&more).copied().collect(), all);
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LackKind {
    /// It has no wheel for some platforms; the marker is true on all others.
    Platforms {
        missing: BTreeSet<LockPlatform>,
        marker: String,
    },
    /// It has none at all.
    Wheels,
    /// The index does not have it.
    Package,
}

impl LackKind {
    fn of_platforms(missing: BTreeSet<LockPlatform>, all: &[LockPlatform]) -> LackKind {
        let marker = marker_without(&missing, all).unwrap_or_else(|| NOWHERE.into());
        LackKind::Platforms { missing, marker }
    }
}

/// Reads what is lacking; empty where the refusal is about something else too, such as the age of
/// files.
pub(crate) fn read_lacks(e: &UvError, platforms: &[LockPlatform]) -> Vec<PackageLack> {
    let UvError::Said { text, .. } = e else {
        return Vec::new();
    };
    if !text.contains(NO_SOLUTION) || text.contains(super::cutoff::TOO_NEW) {
        return Vec::new();
    }
    let mut out: Vec<PackageLack> = missing_platforms(text, platforms)
        .into_iter()
        .map(|(package, (missing, marker))| PackageLack {
            by: askers(text, &package),
            package,
            kind: LackKind::Platforms { missing, marker },
            accelerators: BTreeSet::new(),
            kept_where: None,
        })
        .collect();
    let plain = without_braces(text);
    let split: BTreeSet<LockPlatform> = platforms
        .iter()
        .filter(|p| text.contains(&format!("split (markers: {})", platform_marker(**p))))
        .copied()
        .collect();
    let for_split = || match marker_without(&split, platforms) {
        Some(marker) if !split.is_empty() && marker != NOWHERE => LackKind::Platforms {
            missing: split.clone(),
            marker,
        },
        _ => LackKind::Wheels,
    };
    let said = [
        (" usable wheels", LackKind::Wheels),
        (" wheels with a matching", for_split()),
        (" was not found in the package registry", LackKind::Package),
        (" was not found in the cache", LackKind::Package),
    ];
    for (words, kind) in said {
        for (at, _) in plain.match_indices(words) {
            let before = plain[..at].trim_end();
            let package = normalize_name(last_package(before).0);
            if !package.is_empty() && !out.iter().any(|l| l.package == package) {
                out.push(PackageLack {
                    by: askers(&plain, &package),
                    package,
                    kind: kind.clone(),
                    accelerators: BTreeSet::new(),
                    kept_where: None,
                });
            }
        }
    }
    out
}

/// The packages of which a refusal says that they depend on this one.
fn askers(text: &str, package: &str) -> BTreeSet<String> {
    let plain = without_braces(text);
    let mut out = BTreeSet::new();
    for words in [" depends on ", " depend on "] {
        for (at, _) in plain.match_indices(words) {
            let asked = plain[at + words.len()..].split_whitespace().next();
            let name = asked.and_then(|w| w.split(['<', '>', '=', '!', '~', '[', ',']).next());
            let by = normalize_name(last_package(&plain[..at]).0);
            let is_package = !by.is_empty() && !by.starts_with("comfy-");
            if name.is_some_and(|n| normalize_name(n.trim_end_matches('.')) == package)
                && is_package
            {
                out.insert(by);
            }
        }
    }
    out
}
