//! uv's refusals in comfy's words, with the line of comfy.toml that settles them.

use std::collections::{BTreeMap, BTreeSet};

use pep508_rs::{Requirement, VersionOrUrl};

use super::cutoff::explain_cutoff;
use crate::lock::markers::platform_marker;
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

/// What may be a package's name in a text, normalised.
pub(super) fn package_words(text: &str) -> BTreeSet<String> {
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

/// Packages without a wheel for some platforms, with a marker of the others; the platforms are all
/// that were asked for.
pub(super) fn missing_platforms(
    message: &str,
    platforms: &[LockPlatform],
) -> BTreeMap<String, String> {
    let mut without: BTreeMap<String, BTreeSet<LockPlatform>> = BTreeMap::new();
    for p in platforms {
        let said = format!(" `{}`-compatible wheels", platform_marker(*p));
        for (at, _) in message.match_indices(&said) {
            // `torch==2.1 has no …`, `have` on a line of its own, `spconv{sys_platform == 'linux'}`
            let before = without_braces(&message[..at]);
            let word = before
                .split_whitespace()
                .rev()
                .find(|w| !["no", "has", "have"].contains(w))
                .unwrap_or_default();
            let name = word
                .split(['<', '>', '=', '!', '~', '['])
                .next()
                .unwrap_or_default();
            if !name.is_empty() {
                without.entry(normalize_name(name)).or_default().insert(*p);
            }
        }
    }
    without
        .into_iter()
        .filter_map(|(name, missing)| Some((name, marker_without(&missing, platforms)?)))
        .collect()
}

/// A marker that is true on all of `platforms` but `missing`.
fn marker_without(missing: &BTreeSet<LockPlatform>, platforms: &[LockPlatform]) -> Option<String> {
    let rest: Vec<LockPlatform> = platforms
        .iter()
        .copied()
        .filter(|p| !missing.contains(p))
        .collect();
    let on = |macos: bool| rest.iter().all(|p| p.is_macos() == macos);
    let all_linux = platforms.iter().all(|p| p.is_macos() || rest.contains(p));
    match &rest[..] {
        [] => None,
        _ if on(false) && all_linux => Some("sys_platform == 'linux'".into()),
        _ if on(true) => Some("sys_platform == 'darwin'".into()),
        // A Mac's is `arm64`.
        _ => Some(format!(
            "platform_machine != '{}'",
            missing.iter().find(|p| !p.is_macos())?.machine()
        ))
        .filter(|_| missing.len() == 1)
        .or_else(|| Some(platform_marker(*rest.first()?)).filter(|_| rest.len() == 1)),
    }
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
    with_marker_and_override_hints(out, &asking.wishes, platforms)
}

/// Hints for what has no wheel on one platform, else for what contradicts each other.
pub(super) fn with_marker_and_override_hints(
    mut out: Problem,
    wishes: &BTreeMap<String, BTreeSet<String>>,
    asked: &[LockPlatform],
) -> Problem {
    let incompatible = wishes.iter().find(|(_, w)| w.len() > 1);
    let platforms = missing_platforms(&out.message, asked);
    let (one, others) = match asked.len() {
        2 => ("one of the two platforms", "the other only"),
        _ => ("one of the platforms", "the others only"),
    };
    for (package, marker) in &platforms {
        let own = wishes
            .get(package)
            .filter(|w| w.len() == 1)
            .and_then(|w| w.first())
            .filter(|w| !w.contains(';'))
            .unwrap_or(package);
        let line = toml::Value::String(format!("{own} ; {marker}"));
        out = out.with_hint(format!(
            "{package} has no wheel for {one}; to have it on {others}: [python] overrides = \
             [{line}]"
        ));
    }
    // Where two lines contradict each other these, else what packages say of each other.
    let said = conflicting_bounds(&out.message);
    if platforms.is_empty()
        && let Some(w) = incompatible
            .or_else(|| said.iter().find(|(_, b)| b.len() > 1))
            .map(|(_, w)| w)
    {
        let either: Vec<String> = w
            .iter()
            .map(|w| format!("overrides = [{}]", toml::Value::String(w.clone())))
            .collect();
        out = out.with_hint(format!(
            "one of them has to give way: [python] {}",
            either.join("  or  ")
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_without_a_wheel_is_named_with_the_marker_of_the_others() {
        let none = |name: &str, p: LockPlatform| {
            format!(
                "Because {name} no `{}`-compatible wheels and",
                platform_marker(p)
            )
        };
        let mac = LockPlatform::MacosArm64;
        let arm = LockPlatform::LinuxAarch64;
        let two = &LockPlatform::ALL[..2];
        let rows = [
            (none("decord==0.6.0 has", mac), two),
            (
                none("all of:\n    decord<0.6\n    decord>0.6\nhave", mac),
                two,
            ),
            (
                none("spconv-cu126{sys_platform == 'linux'}==2.3 has", arm),
                &LockPlatform::ALL[..],
            ),
            (none("gpu==1 has", mac), &LockPlatform::ALL[..]),
            (
                none("gpu==1 has", mac) + &none("gpu==1 has", arm),
                &LockPlatform::ALL[..],
            ),
            (none("gpu==1 has", arm), &LockPlatform::ALL[2..]),
        ];
        let told: Vec<String> = rows
            .iter()
            .map(|(said, asked)| format!("{:?}", missing_platforms(said, asked)))
            .collect();
        insta::assert_snapshot!(told.join("\n"), @r#"
        {"decord": "sys_platform == 'linux'"}
        {"decord": "sys_platform == 'linux'"}
        {"spconv-cu126": "platform_machine != 'aarch64'"}
        {"gpu": "sys_platform == 'linux'"}
        {"gpu": "platform_machine == 'x86_64' and sys_platform == 'linux'"}
        {}
        "#);
    }
}
