//! What an accelerator's variant must not move, and what it would move if it could.

use std::collections::{BTreeMap, BTreeSet};

use pep508_rs::pep440_rs::Version;

use super::torch;
use super::variants::SharedBounds;
use crate::lock::python::public_version;
use crate::lock::uv::response::SolvedVariant;

/// What a variant must not move.
pub(super) struct Pins {
    /// `numpy==2.1`: what is reached without passing a package that an index serves.
    pub shared: Vec<String>,
    versions: BTreeMap<String, BTreeSet<String>>,
    /// The public version of each package that an index serves, where it is one.
    routed: BTreeMap<String, String>,
}

impl Pins {
    pub(super) fn of(base: &SolvedVariant, routed: &BTreeSet<String>) -> Pins {
        let reached = reached_packages(base, routed);
        let mut out = Pins {
            shared: Vec::new(),
            versions: BTreeMap::new(),
            routed: BTreeMap::new(),
        };
        for p in &base.packages {
            if reached.contains(p.name.as_str()) {
                let all = out.versions.entry(p.name.clone()).or_default();
                all.insert(p.version.clone());
            }
        }
        for p in &base.packages {
            let Some(all) = out.versions.get(&p.name) else {
                continue;
            };
            let line = format!("{}=={}", p.name, p.version);
            out.shared.push(if all.len() > 1 && !p.marker.is_empty() {
                format!("{line} ; {}", p.marker)
            } else {
                line
            });
        }
        for name in routed {
            let versions = public_versions(base, name);
            if versions.len() == 1 {
                out.routed
                    .extend(versions.into_iter().map(|v| (name.clone(), v)));
            }
        }
        out
    }

    pub(super) fn routed(&self, operator: &str) -> Vec<String> {
        let lines = self.routed.iter();
        lines.map(|(n, v)| format!("{n}{operator}{v}")).collect()
    }

    /// The bounds that make everybody have what `loose` has: torch's first, since the rest follows.
    pub(super) fn differences(
        &self,
        loose: &SolvedVariant,
        routed: &BTreeSet<String>,
    ) -> SharedBounds {
        let mut out = SharedBounds::new();
        let mut names: Vec<&String> = self.routed.keys().collect();
        names.sort_by_key(|n| *n != torch::TORCH);
        for name in names {
            let versions = public_versions(loose, name);
            let here = self.routed.get(name);
            if let (Some(v), Some(here)) = (versions.iter().next(), here)
                && is_older(v, here)
            {
                out.insert(name.clone(), format!("<={v}"));
                if name == torch::TORCH {
                    return out;
                }
            }
        }
        if !out.is_empty() {
            return out;
        }
        for p in loose.packages.iter().filter(|p| !routed.contains(&p.name)) {
            let Some(all) = self.versions.get(&p.name) else {
                continue;
            };
            if let Some(here) = all.iter().next().filter(|_| !all.contains(&p.version)) {
                let operator = if is_older(&p.version, here) {
                    "<="
                } else {
                    ">="
                };
                out.insert(p.name.clone(), format!("{operator}{}", p.version));
            }
        }
        out
    }
}

/// What the parts depend on, without passing a package that an index serves.
fn reached_packages<'a>(base: &'a SolvedVariant, routed: &BTreeSet<String>) -> BTreeSet<&'a str> {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut todo: Vec<&str> = base.parts.iter().map(String::as_str).collect();
    while let Some(name) = todo.pop() {
        if !routed.contains(name) && seen.insert(name) {
            let next = base.dependencies.get(name);
            todo.extend(next.into_iter().flatten().map(String::as_str));
        }
    }
    seen
}

pub(super) fn public_versions(solved: &SolvedVariant, name: &str) -> BTreeSet<String> {
    let own = solved.packages.iter().filter(|p| p.name == name);
    own.map(|p| public_version(&p.version).to_string())
        .collect()
}

/// Whether `a` is an older release than `b`; what is no version is none.
pub(super) fn is_older(a: &str, b: &str) -> bool {
    match (a.parse::<Version>(), b.parse::<Version>()) {
        (Ok(a), Ok(b)) => a < b,
        _ => false,
    }
}
