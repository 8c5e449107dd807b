//! The variants of a lock: one for machines without an accelerator of their own, on all platforms,
//! and one for each accelerator that an index names, on the platforms that its indexes serve.

use std::collections::{BTreeMap, BTreeSet};

use crate::lock::python::{DEFAULT_VARIANT, normalize_name};
use crate::manifest::{Accelerator, LockPlatform, PackageIndex, PythonSettings};

/// One resolution of a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LockVariant {
    pub accelerator: Option<Accelerator>,
    /// In the order in which uv is asked for them.
    pub platforms: Vec<LockPlatform>,
}

/// The index of each routed package, by name, with the platforms for which it is asked.
pub(crate) type Routes<'a> = BTreeMap<String, Vec<(&'a str, Vec<LockPlatform>)>>;

impl LockVariant {
    /// The variant that serves machines without an accelerator.
    pub(crate) fn default_of(python: &PythonSettings) -> LockVariant {
        LockVariant {
            accelerator: None,
            platforms: in_order(|p| python.platforms.contains(&p)),
        }
    }

    /// One for each accelerator, sorted.
    pub(crate) fn accelerated(python: &PythonSettings) -> Vec<LockVariant> {
        let all: BTreeSet<&Accelerator> = python
            .indexes
            .iter()
            .flat_map(|x| &x.accelerators)
            .collect();
        let serves = |a: &Accelerator, p: LockPlatform| {
            let mut own = python.indexes.iter().filter(|x| x.accelerators.contains(a));
            python.platforms.contains(&p) && own.any(|x| x.serves_platform(p))
        };
        all.into_iter()
            .map(|a| LockVariant {
                accelerator: Some(a.clone()),
                platforms: in_order(|p| serves(a, p)),
            })
            .filter(|v| !v.platforms.is_empty())
            .collect()
    }

    /// What comfy.lock calls it.
    pub(crate) fn word(&self) -> &str {
        self.accelerator
            .as_ref()
            .map_or(DEFAULT_VARIANT, Accelerator::word)
    }

    /// Which index serves which package: one of the accelerator's own before one for machines
    /// without.
    pub(crate) fn routes<'a>(&self, indexes: &'a [PackageIndex]) -> Routes<'a> {
        let mut out = Routes::new();
        for package in routed_packages(indexes) {
            for platform in &self.platforms {
                let serving = |accelerator: Option<&Accelerator>| {
                    indexes.iter().find(|x| {
                        x.has_package(&package)
                            && x.serves_platform(*platform)
                            && x.serves_accelerator(accelerator)
                    })
                };
                let own = self.accelerator.as_ref();
                let Some(x) = own.and_then(|a| serving(Some(a))).or_else(|| serving(None)) else {
                    continue;
                };
                let from = out.entry(package.clone()).or_default();
                match from.iter_mut().find(|(name, _)| *name == x.name) {
                    Some((_, platforms)) => platforms.push(*platform),
                    None => from.push((&x.name, vec![*platform])),
                }
            }
        }
        out
    }

    /// The indexes that it asks, in their order in comfy.toml.
    pub(crate) fn indexes<'a>(
        &self,
        indexes: &'a [PackageIndex],
    ) -> impl Iterator<Item = &'a PackageIndex> {
        let routes = self.routes(indexes);
        let used: BTreeSet<&str> = routes.values().flatten().map(|(name, _)| *name).collect();
        indexes
            .iter()
            .filter(move |x| used.contains(x.name.as_str()))
    }
}

/// Every package that some index serves, normalised.
pub(crate) fn routed_packages(indexes: &[PackageIndex]) -> BTreeSet<String> {
    indexes
        .iter()
        .flat_map(|x| x.packages.iter().map(|p| normalize_name(p)))
        .collect()
}

fn in_order(wanted: impl Fn(LockPlatform) -> bool) -> Vec<LockPlatform> {
    LockPlatform::ALL
        .into_iter()
        .filter(|p| wanted(*p))
        .collect()
}
