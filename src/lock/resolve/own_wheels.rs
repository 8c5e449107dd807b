//! `[python] wheels` in a resolution: the files are an index of their own that serves the packages
//! in it, on the platforms that they are for, and no others.

use std::collections::BTreeMap;

use crate::lock::LockedPython;
use crate::lock::python::{GatheredWheel, PackageResolver, PartRequirements};
use crate::lock::requirements::wheel_address;
use crate::lock::uv::request::{PackageUpdates, WHEELS_URL};
use crate::lock::uv::response::SolvedVariant;
use crate::lock::wheel_tags::{serves_platform, serves_version};
use crate::manifest::wheel_sources::{WHEELS_INDEX, wheel_package};
use crate::manifest::{LockPlatform, Manifest, PackageIndex, WheelSource};
use crate::problem::{Problem, Result};
use crate::progress::Progress;

/// Gathers the wheels of comfy.toml; the manifest with the indexes that serve them.
///
/// # Errors
/// What cannot be had, or two places that one package would come from.
pub(super) fn gather(
    manifest: &Manifest,
    before: Option<&LockedPython>,
    moving: PackageUpdates,
    uv: &dyn PackageResolver,
    job: &dyn Progress,
) -> Result<(Manifest, Vec<GatheredWheel>)> {
    let mut manifest = manifest.clone();
    let python = &manifest.python;
    let pinned: BTreeMap<String, String> = before
        .iter()
        .flat_map(|l| &l.packages)
        .filter(|p| p.index.as_deref() == Some(WHEELS_INDEX) && moving.keeps(&p.name))
        .flat_map(|p| p.wheels.iter().map(|w| (w.file.clone(), w.sha256.clone())))
        .collect();
    let mut wheels = uv.gather_wheels(&python.wheels, &pinned, job)?;
    wheels.retain(|w| serves_version(&w.file, &python.version));
    let mut served: BTreeMap<String, Vec<LockPlatform>> = BTreeMap::new();
    for w in &wheels {
        let Some((package, _)) = wheel_package(&w.file) else {
            continue;
        };
        let on = served.entry(package).or_default();
        on.extend(
            LockPlatform::ALL
                .iter()
                .filter(|p| python.platforms.contains(p) && serves_platform(&w.file, **p)),
        );
    }
    let mut groups: BTreeMap<Vec<LockPlatform>, Vec<String>> = BTreeMap::new();
    for (package, mut on) in served {
        on.sort();
        on.dedup();
        if !on.is_empty() {
            refuse_overlap(&manifest, &package, &on)?;
            groups.entry(on).or_default().push(package);
        }
    }
    let indexes = groups
        .into_iter()
        .enumerate()
        .map(|(n, (platforms, packages))| PackageIndex {
            name: match n {
                0 => WHEELS_INDEX.into(),
                n => format!("{WHEELS_INDEX}-{}", n + 1),
            },
            url: WHEELS_URL.into(),
            packages,
            platforms,
            accelerators: Vec::new(),
        });
    let mut all: Vec<PackageIndex> = indexes.collect();
    all.append(&mut manifest.python.indexes);
    manifest.python.indexes = all;
    Ok((manifest, wheels))
}

fn refuse_overlap(manifest: &Manifest, package: &str, on: &[LockPlatform]) -> Result<()> {
    let mut indexes = manifest.python.indexes.iter();
    let Some(at) =
        indexes.position(|x| x.has_package(package) && on.iter().any(|p| x.serves_platform(*p)))
    else {
        return Ok(());
    };
    let place = manifest
        .source
        .place_of_key(&["python", "indexes", &at.to_string()]);
    let wheels = manifest.source.place_of_key(&["python", "wheels"]);
    Err(Problem::new(format!(
        "{wheels}: {package} is in `wheels` and comes from index \"{}\" ({place}) too",
        manifest.python.indexes[at].name
    ))
    .with_hint("remove it from one of them, or give the index other `platforms`"))
}

/// The hashes and sizes that uv does not tell, and the one name for all of these indexes.
pub(super) fn complete(solved: &mut SolvedVariant, wheels: &[GatheredWheel]) {
    let own = |url: &str| url.trim_start_matches("./") == WHEELS_URL.trim_start_matches("./");
    for p in solved.packages.iter_mut().filter(|p| own(&p.url)) {
        p.index = Some(WHEELS_INDEX.into());
        for w in &mut p.wheels {
            if let Some(is) = wheels.iter().find(|g| g.file == w.file) {
                (w.sha256, w.size) = (Some(is.sha256.clone()), Some(is.size));
            }
        }
    }
}

/// What parts ask, with the release for each line that is the address of one of these wheels.
pub(super) fn name_addresses(
    asks: &BTreeMap<String, PartRequirements>,
    sources: &[WheelSource],
) -> BTreeMap<String, PartRequirements> {
    let mut asks = asks.clone();
    let release = |line: &str| -> Option<String> {
        let address = wheel_address(line)?.split('#').next()?;
        let marker = line.split_once(" ;").map_or("", |(_, marker)| marker);
        let file = sources.iter().find_map(|s| match s {
            WheelSource::Address { url, file, .. } if url == address => Some(file),
            _ => None,
        })?;
        let (name, version) = wheel_package(file)?;
        let before = line.split_once('@').map_or("", |(before, _)| before);
        let extras = before
            .split_once('[')
            .map_or(String::new(), |(_, e)| format!("[{}", e.trim()));
        Some(match marker.trim() {
            "" => format!("{name}{extras}=={version}"),
            marker => format!("{name}{extras}=={version} ; {marker}"),
        })
    };
    for line in asks.values_mut().flat_map(|a| &mut a.lines) {
        if let Some(text) = release(&line.text) {
            line.text = text;
        }
    }
    asks
}
