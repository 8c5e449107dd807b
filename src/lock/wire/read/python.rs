//! The packages of a lock, read.

use crate::lock::python::{LockedPackage, LockedPython, LockedWheel};
use crate::lock::wire::{AGAIN, WirePython};
use crate::manifest::{PackageIndex, TomlSource, names};
use crate::problem::Problem;

/// Checks the values that reach uv's command line and files, wherever the lock came from.
pub(crate) fn read_python(
    source: &TomlSource,
    w: WirePython,
    problems: &mut Vec<Problem>,
) -> LockedPython {
    let plain = |s: &str, more: &str| {
        !s.is_empty()
            && s.starts_with(|c: char| c.is_ascii_alphanumeric())
            && s.chars()
                .all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    let mut packages = Vec::new();
    for (i, p) in w.packages.into_iter().enumerate() {
        let number = i.to_string();
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
            .is_some_and(|name| !w.indexes.iter().any(|x| x.name == *name))
        {
            wrong("index", "is not one of [[python.indexes]]");
        }
        if p.marker
            .as_ref()
            .is_some_and(|m| m.contains(['\n', ';', '#']))
        {
            wrong("marker", "is not a marker");
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
        packages.push(LockedPackage {
            name: p.name,
            version: p.version,
            index: p.index,
            marker: p.marker,
            by: p.by,
            wheels,
        });
    }
    let indexes = w
        .indexes
        .into_iter()
        .map(|x| PackageIndex {
            name: x.name,
            url: x.url,
            packages: x.packages,
        })
        .collect();
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
        indexes,
        packages,
    }
}
