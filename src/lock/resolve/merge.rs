//! The answers for all variants as the packages of one lock: an entry says on which platforms and
//! with which accelerators it is installed, where that is not everywhere.

use std::collections::{BTreeMap, BTreeSet};

use pep508_rs::pep440_rs::Version;

use super::variants::SolvedLock;
use crate::lock::LockedPython;
use crate::lock::markers::marker_truth;
use crate::lock::publishers::kept_publisher;
use crate::lock::python::{LockedPackage, LockedWheel, PackageResolver, UnhashedWheel};
use crate::lock::uv::response::{SolvedPackage, SolvedWheel};
use crate::manifest::{LockPlatform, PythonSettings};
use crate::problem::Result;
use crate::progress::Progress;

/// One release of one index, and where each variant has it.
struct Merged<'a> {
    package: &'a SolvedPackage,
    /// The platforms of each variant, by its word.
    on: BTreeMap<&'a str, &'a Vec<LockPlatform>>,
    by: BTreeSet<&'a String>,
    wheels: BTreeMap<&'a str, &'a SolvedWheel>,
}

/// The packages of the lock, sorted. Files without a hash are fetched and hashed, unless `old` has
/// them.
///
/// # Errors
/// A file without a hash that cannot be fetched.
pub(super) fn merge_variants(
    answers: &[SolvedLock],
    python: &PythonSettings,
    old: Option<&LockedPython>,
    uv: &dyn PackageResolver,
    job: &dyn Progress,
) -> Result<Vec<LockedPackage>> {
    let mut all: BTreeMap<(&str, &str, Option<&str>), Merged> = BTreeMap::new();
    for a in answers {
        for p in &a.solved.packages {
            let key = (p.name.as_str(), p.version.as_str(), p.index.as_deref());
            let m = all.entry(key).or_insert_with(|| Merged {
                package: p,
                on: BTreeMap::new(),
                by: BTreeSet::new(),
                wheels: BTreeMap::new(),
            });
            m.on.insert(a.variant.word(), &p.truth.platforms);
            m.by.extend(&p.by);
            m.wheels
                .extend(p.wheels.iter().map(|w| (w.file.as_str(), w)));
        }
    }
    let mut out = Vec::new();
    for m in all.into_values() {
        let wheels = hashed_wheels(&m, python, old, uv, job)?;
        for (platforms, accelerators) in places(&m, answers, python) {
            let p = m.package;
            let entry = LockedPackage {
                name: p.name.clone(),
                version: p.version.clone(),
                index: p.index.clone(),
                platforms,
                accelerators,
                marker: p.truth.varies.then(|| p.marker.clone()),
                by: m.by.iter().map(|b| (*b).clone()).collect(),
                publisher: kept_publisher((&p.name, &p.version), &wheels, old),
                wheels: wheels.clone(),
            };
            out.push(as_written_before(entry, python, old));
        }
    }
    let version = |p: &LockedPackage| p.version.parse::<Version>().ok();
    out.sort_by(|a, b| {
        (
            &a.name,
            version(a),
            &a.version,
            &a.index,
            &a.accelerators,
            &a.platforms,
        )
            .cmp(&(
                &b.name,
                version(b),
                &b.version,
                &b.index,
                &b.accelerators,
                &b.platforms,
            ))
    });
    Ok(out)
}

/// The platforms and accelerators of each entry that a release needs: one, unless variants have it
/// on platforms that one entry cannot tell apart. Empty: all.
fn places(
    m: &Merged,
    answers: &[SolvedLock],
    python: &PythonSettings,
) -> Vec<(Vec<LockPlatform>, Vec<String>)> {
    let written = |platforms: &BTreeSet<LockPlatform>| -> Vec<LockPlatform> {
        if platforms.len() == python.platforms.len() {
            Vec::new()
        } else {
            platforms.iter().copied().collect()
        }
    };
    let has = |a: &SolvedLock, p: &LockPlatform| {
        m.on.get(a.variant.word()).is_some_and(|on| on.contains(p))
    };
    let union: BTreeSet<LockPlatform> = m.on.values().flat_map(|p| p.iter().copied()).collect();
    let exact = |among: &dyn Fn(&SolvedLock) -> bool| {
        answers.iter().filter(|a| among(a)).all(|a| {
            let mut own = a.variant.platforms.iter().filter(|p| union.contains(p));
            own.all(|p| has(a, p))
        })
    };
    if exact(&|_| true) {
        return vec![(written(&union), Vec::new())];
    }
    let words = |mut words: Vec<String>| {
        words.sort();
        words
    };
    if exact(&|a| m.on.contains_key(a.variant.word())) {
        let all = m.on.keys().map(|w| (*w).to_string()).collect();
        return vec![(written(&union), words(all))];
    }
    let mut groups: BTreeMap<BTreeSet<LockPlatform>, Vec<String>> = BTreeMap::new();
    for (word, on) in &m.on {
        let on: BTreeSet<LockPlatform> = on.iter().copied().collect();
        groups.entry(on).or_default().push((*word).to_string());
    }
    groups
        .into_iter()
        .map(|(on, variants)| (written(&on), words(variants)))
        .collect()
}

/// The wheels with their hashes, sorted.
fn hashed_wheels(
    m: &Merged,
    python: &PythonSettings,
    old: Option<&LockedPython>,
    uv: &dyn PackageResolver,
    job: &dyn Progress,
) -> Result<Vec<LockedWheel>> {
    let p = m.package;
    let locked = |file: &str| {
        let same =
            |k: &&LockedPackage| k.name == p.name && k.version == p.version && k.index == p.index;
        let mut wheels = old?.packages.iter().filter(same).flat_map(|k| &k.wheels);
        wheels.find(|w| w.file == file).cloned()
    };
    let mut out = Vec::new();
    for w in m.wheels.values() {
        out.push(match (&w.sha256, locked(&w.file)) {
            (Some(sha256), _) => LockedWheel {
                file: w.file.clone(),
                sha256: sha256.clone(),
                size: w.size,
            },
            (None, Some(known)) => known,
            (None, None) => {
                let index = p.index.as_ref();
                let index = index.and_then(|n| python.indexes.iter().find(|x| x.name == *n));
                let asked = UnhashedWheel {
                    address: w.address.clone(),
                    index: index.map(|x| x.url.clone()),
                };
                let (sha256, size) = uv.hash_wheel(&asked, job).map_err(|e| {
                    e.with_prefix(&format!(
                        "{} {}: the index gives no sha256 of {}: ",
                        p.name,
                        p.version,
                        crate::text::escape_text(&w.file)
                    ))
                })?;
                LockedWheel {
                    file: w.file.clone(),
                    sha256,
                    size: Some(size),
                }
            }
        });
    }
    out.sort();
    Ok(out)
}

/// The entry in the words of the old lock where it says the same: an older comfy wrote markers.
fn as_written_before(
    entry: LockedPackage,
    python: &PythonSettings,
    old: Option<&LockedPython>,
) -> LockedPackage {
    let says = |marker: &str, platforms: &[LockPlatform]| -> Option<Vec<LockPlatform>> {
        let truth = marker_truth(marker, &python.version, &python.platforms).ok()?;
        let on = |p: &LockPlatform| platforms.is_empty() || platforms.contains(p);
        (!truth.varies).then(|| truth.platforms.into_iter().filter(on).collect())
    };
    let same = |k: &&LockedPackage| {
        k.name == entry.name
            && k.version == entry.version
            && k.index == entry.index
            && k.accelerators == entry.accelerators
    };
    let before = old.and_then(|o| o.packages.iter().filter(same).find(|k| k.marker.is_some()));
    match before {
        Some(k)
            if entry.marker.is_none()
                && k.marker.as_ref().and_then(|m| says(m, &k.platforms))
                    == says("", &entry.platforms) =>
        {
            LockedPackage {
                platforms: k.platforms.clone(),
                marker: k.marker.clone(),
                ..entry
            }
        }
        _ => entry,
    }
}
