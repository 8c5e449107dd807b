//! uv's refusals in comfy's words, with the line of comfy.toml that settles them.

use std::collections::{BTreeMap, BTreeSet};

use pep508_rs::{Requirement, VersionOrUrl};

use super::cutoff::explain_cutoff;
use super::hints::{with_absence_hints, with_marker_and_override_hints};
use crate::lock::python::{PartRequirements, RequirementLine, normalize_name};
use crate::lock::requirements;
use crate::lock::uv::UvError;
use crate::lock::uv::request::OWN;
use crate::manifest::{LockPlatform, Manifest};
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

/// Whether uv found that not all wishes fit together.
pub(crate) fn is_no_solution(e: &UvError) -> bool {
    matches!(e, UvError::Said { text, .. } if text.contains(NO_SOLUTION))
}

/// The same, of a refusal in comfy's words.
pub(crate) fn names_conflict(p: &Problem) -> bool {
    p.message.contains(NO_SOLUTION)
}

/// What may be a package's name in a text, normalised.
pub(crate) fn package_words(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')))
        .map(|w| normalize_name(w.trim_matches('.')))
        .collect()
}

/// Bounds that uv's sentences name for one package: those that do not fit together.
pub(super) fn conflicting_bounds(message: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut out: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let message = without_braces(message);
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

/// A text of uv's without the markers that it writes behind names.
pub(super) fn without_braces(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        match after.split_once('}') {
            Some((_, behind)) => rest = behind,
            None => return out,
        }
    }
    out.push_str(rest);
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
    let message = without_braces(message);
    let said: String = message.split_whitespace().collect();
    let words = package_words(&message);
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
    parts: &BTreeMap<String, String>,
    platforms: &[LockPlatform],
    asked: &BTreeMap<String, PartRequirements>,
    manifest: &Manifest,
) -> Problem {
    let problem = match e {
        UvError::Own(p) => return p,
        said @ UvError::Said { .. } => explain_cutoff(Problem::from(said)),
    };
    if !problem.message.contains(NO_SOLUTION) {
        return problem;
    }
    let mut message = problem.message.clone();
    // The longest first: `comfy-part-1` begins `comfy-part-10`.
    for (name, part) in parts
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
    let out = Problem { message, ..problem };
    let out = with_marker_and_override_hints(out, &asking.wishes, platforms, manifest);
    // What is too young, for one, is there.
    if out.hints.is_empty() {
        with_absence_hints(out, &asking, manifest)
    } else {
        out
    }
}
