//! Packages that were locked at an older release than one would think: a pre-release that nobody
//! asked for, or one from long ago, because what is newer has no wheel.

use std::str::FromStr;

use pep508_rs::pep440_rs::Version;
use pep508_rs::{Requirement, VersionOrUrl};
use rayon::prelude::*;

use super::variants::{SolvedLock, VariantSolver};
use crate::lock::python::normalize_name;
use crate::lock::uv::response::SolvedPackage;
use crate::lock::uv::response::lacks::{LackKind, PackageLack, read_lacks};
use crate::manifest::quoted_list;

/// For how many packages uv is asked why.
const MAX_ASKED: usize = 12;

/// One line for each.
pub(super) fn newest_remarks(solver: &VariantSolver, base: &SolvedLock) -> Vec<String> {
    let packages = &base.solved.packages;
    let odd: Vec<(&SolvedPackage, Option<&String>)> = packages
        .iter()
        .filter(|p| p.index.is_none())
        .map(|p| (p, base.solved.newest.get(&p.name)))
        .filter(|(p, newest)| {
            let wishes = wishes(solver, &p.name);
            if wishes.iter().any(asks_for_pre_release) {
                return false;
            }
            let is_old = newest.is_some_and(|n| is_much_older(&p.version, n));
            is_pre_release(&p.version)
                || (is_old && !wishes.is_empty() && !wishes.iter().any(is_bounded_above))
        })
        .take(MAX_ASKED)
        .collect();
    odd.par_iter()
        .filter_map(|(p, newest)| {
            let lack = newest.and_then(|n| lack_of_newest(solver, base, &p.name, n));
            remark(p, *newest, lack.as_ref(), &solver.manifest.python.overrides)
        })
        .collect()
}

fn remark(
    p: &SolvedPackage,
    newest: Option<&String>,
    lack: Option<&PackageLack>,
    overrides: &[String],
) -> Option<String> {
    let (name, version) = (&p.name, &p.version);
    let by: Vec<&str> = p.by.iter().map(String::as_str).collect();
    let by = by.join(", ");
    Some(match (lack.map(|l| &l.kind), newest) {
        (Some(LackKind::Platforms { missing, marker }), Some(newest)) => {
            let words: Vec<&str> = missing.iter().map(|p| p.word()).collect();
            let mut list = overrides.to_vec();
            list.push(format!("{name}>={newest} ; {marker}"));
            format!(
                "{name} {version} (asked by {by}) is old, because {newest} has no wheel for {}; to have \
                 the newer one on the others only: [python] overrides = {}",
                words.join(", "),
                quoted_list(&list)
            )
        }
        (Some(_), Some(newest)) => format!(
            "{name} {version} (asked by {by}) is old, because {newest} has no wheel: if that is too \
             old, leave {name} out by `ignore_requirements` or [python] overrides"
        ),
        (_, Some(newest)) if is_pre_release(version) => format!(
            "{name} {version} (asked by {by}) is a pre-release that nobody asked for; the newest \
             release is {newest}, and to be told why it does not fit, write `{name}=={newest}` in \
             [python] requirements"
        ),
        (_, None) if is_pre_release(version) => format!(
            "{name} {version} (asked by {by}) is a pre-release that nobody asked for, because no \
             release fits; to be told why, write `{name}<{}` in [python] requirements",
            release_number(version)
        ),
        _ => return None,
    })
}

/// Why the newest release cannot be had, if that is for want of a wheel.
fn lack_of_newest(
    solver: &VariantSolver,
    base: &SolvedLock,
    name: &str,
    newest: &str,
) -> Option<PackageLack> {
    let constraint = vec![format!("{name}=={newest}")];
    let purpose = format!("newest-{name}-");
    let answer = solver.solve(&base.variant, &purpose, constraint, Vec::new(), None);
    let lacks = read_lacks(&answer.err()?, &base.variant.platforms);
    lacks.into_iter().find(|l| l.package == name)
}

/// Every requirement of a package in comfy.toml and by parts.
fn wishes(solver: &VariantSolver, package: &str) -> Vec<Requirement> {
    let parts = solver.members.iter().flat_map(|(_, lines)| lines);
    parts
        .chain(&solver.manifest.python.overrides)
        .filter_map(|l| l.parse::<Requirement>().ok())
        .filter(|r| normalize_name(r.name.as_ref()) == package)
        .collect()
}

fn is_bounded_above(r: &Requirement) -> bool {
    matches!(&r.version_or_url, Some(VersionOrUrl::VersionSpecifier(s)) if s.iter().any(|s| {
        matches!(s.operator().to_string().as_str(), "<" | "<=" | "==" | "===" | "~=")
    }))
}

fn asks_for_pre_release(r: &Requirement) -> bool {
    matches!(&r.version_or_url, Some(VersionOrUrl::VersionSpecifier(s)) if s.iter().any(|s| {
        s.version().any_prerelease()
    }))
}

fn is_pre_release(version: &str) -> bool {
    Version::from_str(version).is_ok_and(|v| v.any_prerelease())
}

/// `1.4.0` of `1.4.0rc3`.
fn release_number(version: &str) -> String {
    let numbers = Version::from_str(version).map(|v| v.only_release().to_string());
    numbers.unwrap_or_default()
}

/// Whether the first number differs that is not 0 in both.
fn is_much_older(version: &str, newest: &str) -> bool {
    let (Ok(a), Ok(b)) = (Version::from_str(version), Version::from_str(newest)) else {
        return false;
    };
    let number = |v: &Version, i: usize| v.release().get(i).copied().unwrap_or(0);
    let major = (number(&a, 0), number(&b, 0));
    if major == (0, 0) {
        return number(&a, 1) < number(&b, 1);
    }
    major.0 < major.1
}
