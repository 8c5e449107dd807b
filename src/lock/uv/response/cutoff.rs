//! What uv says of the age of files, in comfy's words.

use std::collections::BTreeSet;

use super::explain::{NO_SOLUTION, package_words, without_braces};
use crate::lock::python::normalize_name;
use crate::lock::uv::UvError;
use crate::manifest::PackageIndex;
use crate::problem::Problem;

/// uv's warning of a file whose index does not say when it was published; `--exclude-newer` leaves
/// such a file out.
const NO_TIME: &str = "is missing an upload date";

/// uv's hint where `--exclude-newer` left out everything that would fit.
pub(super) const TOO_NEW: &str = "was filtered by `exclude-newer";

/// What uv says in place of that where the version is the one that was locked.
const LOCKED_TOO_NEW: &str = "published after the exclude newer time";

/// The package of a file without time: `torch-2.9.1-cp312-….whl` and `torch-2.9.1.tar.gz` are of
/// `torch`.
fn without_time(line: &str) -> Option<String> {
    let file = line
        .split_once(NO_TIME)?
        .0
        .split_whitespace()
        .last()?
        .trim_matches('`');
    let end = file
        .match_indices('-')
        .map(|(i, _)| i)
        .find(|i| file[i + 1..].starts_with(|c: char| c.is_ascii_digit()))?;
    Some(normalize_name(&file[..end]))
}

/// The indexes that tell no times, by name, as uv's refusal shows.
pub(crate) fn without_upload_time(e: &UvError, indexes: &[&PackageIndex]) -> BTreeSet<String> {
    let UvError::Said { text, .. } = e else {
        return BTreeSet::new();
    };
    let found: BTreeSet<String> = text.lines().filter_map(without_time).collect();
    indexes
        .iter()
        .filter(|x| found.iter().any(|package| x.has_package(package)))
        .map(|x| x.name.clone())
        .collect()
}

/// The packages of which `--exclude-newer` left out everything that would fit.
pub(crate) fn too_young(e: &UvError) -> BTreeSet<String> {
    match e {
        UvError::Said { text, .. } => text.lines().filter_map(filtered_package).collect(),
        UvError::Own(_) => BTreeSet::new(),
    }
}

/// The package that a line calls too young.
fn filtered_package(line: &str) -> Option<String> {
    if line.contains(TOO_NEW) {
        return line.split('`').nth(1).map(normalize_name);
    }
    let (before, _) = line.split_once(LOCKED_TOO_NEW)?;
    let before = without_braces(before);
    let word = before
        .split_whitespace()
        .rev()
        .find(|w| !["was", "were"].contains(w))?;
    Some(normalize_name(word.split(['=', '<', '>']).next()?))
}

/// What uv says of times in comfy's words: no lines about files, and the way out as hints.
pub(super) fn explain_cutoff(problem: Problem) -> Problem {
    if ![NO_TIME, TOO_NEW, LOCKED_TOO_NEW]
        .iter()
        .any(|words| problem.message.contains(words))
    {
        return problem;
    }
    let untimed: BTreeSet<String> = problem.message.lines().filter_map(without_time).collect();
    let all: BTreeSet<String> = problem
        .message
        .lines()
        .filter_map(filtered_package)
        .collect();
    // The first line begins with what was being done, and may itself be about a file.
    let (begin, message) = problem
        .message
        .split_once(": ")
        .unwrap_or(("", &problem.message));
    let kept: Vec<&str> = message
        .lines()
        .filter(|l| !l.contains(NO_TIME) && !l.contains(TOO_NEW))
        .collect();
    let mut out = Problem {
        message: format!("{begin}: {}", kept.join("\n")),
        ..problem
    };
    if !out.message.contains(NO_SOLUTION) {
        return out;
    }
    // Of a package that it knew at some version, uv does not say that it was filtered.
    let said = package_words(&out.message);
    let concerned = |p: &&String| all.contains(*p) || said.contains(*p);
    let (without, young): (Vec<&str>, Vec<&str>) = all
        .union(&untimed)
        .filter(concerned)
        .map(String::as_str)
        .partition(|p| untimed.contains(*p));
    if !without.is_empty() {
        let names = without.join(", ");
        out = out.with_hint(format!(
            "the index does not tell when the files of {names} were published, so that none is old \
             enough: [python] minimum_age = \"0\" takes them"
        ));
    }
    if !young.is_empty() {
        out = out.with_hint(format!(
            "what there is of {} is younger than [python] minimum_age: wait, or make that shorter",
            young.join(", ")
        ));
    }
    out
}
