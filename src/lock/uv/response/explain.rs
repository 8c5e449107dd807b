//! uv's refusals in comfy's words, with the line of comfy.toml that settles them.

use std::collections::{BTreeMap, BTreeSet};

use pep508_rs::{Requirement, VersionOrUrl};

use super::hints::{with_absence_hints, with_marker_and_override_hints};
use crate::lock::python::{PartRequirements, RequirementLine, normalize_name};
use crate::lock::requirements;
use crate::lock::uv::UvError;
use crate::lock::uv::request::{OWN, UvWorkspace};
use crate::manifest::{Manifest, PackageIndex};
use crate::problem::Problem;

/// Whether `said`, without white space, has this requirement rather than a bare name or the
/// beginning of a longer one.
pub(super) fn quotes_requirement(said: &str, text: &str) -> bool {
    let text: String = text.split_whitespace().collect();
    let bounded = text.contains(['<', '>', '=', '~']);
    bounded
        && said.match_indices(&text).any(|(at, _)| {
            !said[at + text.len()..].starts_with(|c: char| c.is_ascii_digit() || c == '.')
        })
}

pub(super) fn parse_plain(text: &str) -> Option<Requirement> {
    text.parse().ok()
}

/// Every plain requirement: normalised package, part, line.
pub(super) fn direct_requirements(
    asked: &BTreeMap<String, PartRequirements>,
) -> Vec<(String, String, &RequirementLine)> {
    let lines = asked
        .iter()
        .flat_map(|(part, a)| a.effective_lines().map(move |l| (part.clone(), l)));
    lines
        .filter_map(|(part, l)| {
            Some((
                normalize_name(
                    requirements::parse_requirement(&part, l)
                        .ok()?
                        .name
                        .as_ref(),
                ),
                part,
                l,
            ))
        })
        .collect()
}

/// How uv begins to tell that not all wishes fit together.
pub(super) const NO_SOLUTION: &str = "No solution";

/// uv's warning of a file whose index does not say when it was published; `--exclude-newer` leaves
/// such a file out.
pub(super) const NO_TIME: &str = "is missing an upload date";

/// uv's hint where `--exclude-newer` left out everything that would fit.
pub(super) const TOO_NEW: &str = "was filtered by `exclude-newer";

/// The package of a file without time: `torch-2.9.1-cp312-….whl` and `torch-2.9.1.tar.gz` are of
/// `torch`.
pub(super) fn without_time(line: &str) -> Option<String> {
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

/// The packages of `indexes` whose files have no time, as uv's refusal tells.
pub(crate) fn without_upload_time(e: &UvError, indexes: &[PackageIndex]) -> Vec<String> {
    let UvError::Said { text, .. } = e else {
        return Vec::new();
    };
    let routed: BTreeSet<String> = indexes
        .iter()
        .flat_map(|x| x.packages.iter().map(|p| normalize_name(p)))
        .collect();
    let found: BTreeSet<String> = text.lines().filter_map(without_time).collect();
    routed.intersection(&found).cloned().collect()
}

/// What uv says of times in comfy's words: no lines about files, and the way out as hints.
pub(super) fn explain_cutoff(problem: Problem) -> Problem {
    let untimed: BTreeSet<String> = problem.message.lines().filter_map(without_time).collect();
    let filtered = |l: &str| {
        l.contains(TOO_NEW)
            .then(|| l.split('`').nth(1).map(normalize_name))
            .flatten()
    };
    let all: BTreeSet<String> = problem.message.lines().filter_map(filtered).collect();
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

/// What may be a package's name in a text, normalised.
pub(super) fn package_words(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')))
        .map(|w| normalize_name(w.trim_matches('.')))
        .collect()
}

/// Bounds that uv's sentences name for one package: those that do not fit together.
pub(super) fn conflicting_bounds(message: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut out: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for said in ["depends on ", "depend on "]
        .iter()
        .flat_map(|w| message.split(w).skip(1))
    {
        let word = said
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .trim_end_matches(['.', ',']);
        if let Some(r) = parse_plain(word)
            .filter(|r| matches!(r.version_or_url, Some(VersionOrUrl::VersionSpecifier(_))))
        {
            out.entry(normalize_name(r.name.as_ref()))
                .or_default()
                .insert(word.into());
        }
    }
    out
}

/// Who asks for the packages that uv names in a refusal.
pub(super) struct LinesAsking {
    /// One for each requirement, for people.
    pub(super) lines: Vec<String>,
    /// Nodes with the line that asks.
    pub(super) nodes: Vec<(String, String)>,
    /// The requirements of each package.
    pub(super) wishes: BTreeMap<String, BTreeSet<String>>,
}

/// Every requirement line of a package that `message` names.
pub(super) fn lines_asking(
    message: &str,
    asked: &BTreeMap<String, PartRequirements>,
    manifest: &Manifest,
) -> LinesAsking {
    let own: Vec<RequirementLine> = manifest
        .python
        .requirements
        .iter()
        .map(|text| RequirementLine {
            file: OWN.into(),
            line: 0,
            text: text.clone(),
        })
        .collect();
    let said: String = message.split_whitespace().collect();
    let words = package_words(message);
    let named = |package: &str| words.contains(package);
    let mut lines = Vec::new();
    let mut nodes = Vec::new();
    let mut wishes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (package, part, line) in direct_requirements(asked)
        .into_iter()
        .filter(|(p, ..)| named(p))
    {
        lines.push(format!(
            "  {part}  {}:{}  {}",
            line.file, line.line, line.text
        ));
        wishes.entry(package).or_default().insert(line.text.clone());
        if let Some(node) = part.strip_prefix("node.") {
            nodes.push((node.to_string(), line.text.clone()));
        }
    }
    for line in &own {
        if let Some(r) = parse_plain(&line.text)
            && named(&normalize_name(r.name.as_ref()))
        {
            lines.push(format!("  {OWN}  [python] requirements  {}", line.text));
            wishes
                .entry(normalize_name(r.name.as_ref()))
                .or_default()
                .insert(line.text.clone());
        }
    }
    // Those that uv's sentence quotes, where it quotes any.
    for w in wishes.values_mut() {
        if w.iter()
            .any(|t| t.len() > 1 && quotes_requirement(&said, t))
        {
            w.retain(|t| quotes_requirement(&said, t));
        }
    }
    LinesAsking {
        lines,
        nodes,
        wishes,
    }
}

/// uv's refusal with the parts' own names, who asked for each package that it names, and what
/// settles it.
pub(crate) fn explain_no_solution(
    e: UvError,
    workspace: &UvWorkspace,
    asked: &BTreeMap<String, PartRequirements>,
    manifest: &Manifest,
) -> Problem {
    let problem = match e {
        UvError::Own(p) => return p,
        said @ UvError::Said { .. } => Problem::from(said),
    };
    let problem = if problem.message.contains(NO_TIME) || problem.message.contains(TOO_NEW) {
        explain_cutoff(problem)
    } else {
        problem
    };
    if !problem.message.contains(NO_SOLUTION) {
        return problem;
    }
    let mut message = problem.message.clone();
    // The longest first: `comfy-part-1` begins `comfy-part-10`.
    for (name, part) in workspace
        .parts
        .iter()
        .rev()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .rev()
    {
        message = message
            .replace(
                &format!("{name}'s requirements are unsatisfiable"),
                &format!("what {part} asks for cannot be had"),
            )
            .replace(name.as_str(), part);
    }
    let asking = lines_asking(&message, asked, manifest);
    if !asking.lines.is_empty() {
        message = format!("{message}\nWho asked:\n{}", asking.lines.join("\n"));
    }
    let mut out = Problem { message, ..problem };
    if out.message.contains("no usable wheels") || out.message.contains("has no wheels") {
        out = out.with_hint(
            "comfy builds nothing from source: leave the line out, or choose a version \
            that has a wheel with [python] overrides",
        );
        for (part, line) in asking.nodes {
            out = out.with_hint(format!(
                "to leave it out: [nodes.{part}] ignore_requirements = [{}]",
                toml::Value::String(line)
            ));
        }
        return out;
    }
    let hints = out.hints.len();
    let out = with_marker_and_override_hints(out, &asking.wishes);
    if out.hints.len() == hints {
        with_absence_hints(out, &asking)
    } else {
        out
    }
}
