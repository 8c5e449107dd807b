//! The packages of a lock, read.

use crate::lock::python::{DEFAULT_VARIANT, LockedPackage, LockedPython, LockedWheel};
use crate::lock::wire::{AGAIN, WireIndex, WirePackage, WirePython};
use crate::manifest::wheel_sources::WHEELS_INDEX;
use crate::manifest::{Accelerator, LockPlatform, PackageIndex, TomlSource, WheelSource, names};
use crate::problem::Problem;

/// Checks the values that reach uv's command line and files, wherever the lock came from.
pub(crate) fn read_python(
    source: &TomlSource,
    w: WirePython,
    problems: &mut Vec<Problem>,
) -> LockedPython {
    let indexes = read_indexes(source, w.indexes, problems);
    let mut wheels = Vec::new();
    for (i, text) in w.wheels.iter().enumerate() {
        match WheelSource::parse(text) {
            Ok(source) => wheels.push(source),
            Err((why, _)) => {
                let place = source.place_of_key(&["python", "wheels", &i.to_string()]);
                problems.push(
                    Problem::new(format!(
                        "{place}: \"{}\" {why}",
                        crate::text::escape_text(text)
                    ))
                    .with_hint(AGAIN),
                );
            }
        }
    }
    let known: Vec<&str> = (!wheels.is_empty())
        .then_some(WHEELS_INDEX)
        .into_iter()
        .chain(indexes.iter().map(|x| x.name.as_str()))
        .collect();
    let mut packages = Vec::new();
    for (at, p) in w.packages.into_iter().enumerate() {
        packages.push(read_package(source, at, p, &known, problems));
    }
    let platforms = match &w.platforms {
        None => Some(LockPlatform::defaults()),
        Some(words) => read_words(words, LockPlatform::parse),
    };
    if platforms.is_none() {
        let place = source.place_of_key(&["python", "platforms"]);
        problems.push(
            Problem::new(format!("{place}: python.platforms has an unknown platform"))
                .with_hint(AGAIN),
        );
    }
    let fits = |m: &String| {
        m.strip_prefix(&format!("{}.", w.version))
            .is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
    };
    if w.managed.as_ref().is_some_and(|m| !fits(m)) {
        let place = source.place_of_key(&["python", "managed"]);
        problems.push(
            Problem::new(format!(
                "{place}: python.managed is not a version of Python {}",
                crate::text::escape_text(&w.version)
            ))
            .with_hint(AGAIN),
        );
    }
    LockedPython {
        version: w.version,
        managed: w.managed,
        requirements: w.requirements,
        overrides: w.overrides,
        platforms: platforms.unwrap_or_default(),
        indexes,
        wheels,
        allow_pth: w.allow_pth,
        packages,
    }
}

fn read_package(
    source: &TomlSource,
    at: usize,
    p: WirePackage,
    indexes: &[&str],
    problems: &mut Vec<Problem>,
) -> LockedPackage {
    let plain = |s: &str, more: &str| {
        !s.is_empty()
            && s.starts_with(|c: char| c.is_ascii_alphanumeric())
            && s.chars()
                .all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    let number = at.to_string();
    let mut wrong = |key: &str, what: &str| {
        let place = source.place_of_key(&["python", "packages", &number, key]);
        problems.push(
            Problem::new(format!(
                "{place}: {key} of package \"{}\" {what}",
                crate::text::escape_text(&p.name)
            ))
            .with_hint(AGAIN),
        );
    };
    if !plain(&p.name, "-") || crate::lock::python::normalize_name(&p.name) != p.name {
        wrong("name", "is not a normalised package name");
    }
    if !plain(&p.version, ".+!-_") {
        wrong("version", "is not a version");
    }
    if p.index
        .as_ref()
        .is_some_and(|name| !indexes.contains(&name.as_str()))
    {
        wrong("index", "is not one of [[python.indexes]]");
    }
    let platforms = read_words(&p.platforms, LockPlatform::parse);
    if platforms.is_none() {
        wrong("platforms", "has an unknown platform");
    }
    let known = |w: &String| w == DEFAULT_VARIANT || Accelerator::parse(w).is_some();
    if !p.accelerators.iter().all(known) {
        wrong("accelerators", "has an unknown accelerator");
    }
    if p.marker
        .as_ref()
        .is_some_and(|m| m.contains(['\n', ';', '#']))
    {
        wrong("marker", "is not a marker");
    }
    let is_publisher = |who: &String| crate::lock::publishers::is_publisher(who);
    if !p.publisher.as_ref().is_none_or(is_publisher) {
        wrong("publisher", "is not one line of plain text");
    }
    if p.wheels.is_empty()
        || p.wheels.iter().any(|w| {
            !names::is_sha256(&w.sha256)
                || !w.file.ends_with(".whl")
                || w.file.contains(['/', '\n'])
        })
    {
        wrong("wheels", "has no file with a sha256");
    }
    let wheels = p
        .wheels
        .into_iter()
        .map(|w| LockedWheel {
            file: w.file,
            sha256: w.sha256,
            size: w.size,
        })
        .collect();
    LockedPackage {
        name: p.name,
        version: p.version,
        index: p.index,
        platforms: platforms.unwrap_or_default(),
        accelerators: p.accelerators,
        marker: p.marker,
        by: p.by,
        publisher: p.publisher,
        wheels,
    }
}

/// Every word as what it stands for; `None` if one is unknown.
fn read_words<T>(words: &[String], parse: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    words.iter().map(|w| parse(w)).collect()
}

fn read_indexes(
    source: &TomlSource,
    indexes: Vec<WireIndex>,
    problems: &mut Vec<Problem>,
) -> Vec<PackageIndex> {
    let mut out = Vec::new();
    for (i, x) in indexes.into_iter().enumerate() {
        let platforms = read_words(&x.platforms, LockPlatform::parse);
        let accelerators = read_words(&x.accelerators, Accelerator::parse);
        if platforms.is_none() || accelerators.is_none() {
            let place = source.place_of_key(&["python", "indexes", &i.to_string()]);
            problems.push(
                Problem::new(format!(
                    "{place}: index \"{}\" has an unknown platform or accelerator",
                    crate::text::escape_text(&x.name)
                ))
                .with_hint(AGAIN),
            );
        }
        out.push(PackageIndex {
            name: x.name,
            url: x.url,
            packages: x.packages,
            platforms: platforms.unwrap_or_default(),
            accelerators: accelerators.unwrap_or_default(),
        });
    }
    out
}
