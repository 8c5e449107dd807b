//! The lines of comfy.toml that settle a refusal: what has no wheel for a platform, what contradicts
//! each other, what an index does not have.

use std::collections::{BTreeMap, BTreeSet};

use super::explain::{LinesAsking, conflicting_bounds};
use crate::lock::python::normalize_name;
use crate::lock::uv::request::PLATFORMS;
use crate::problem::Problem;

/// uv's text without the markers that it puts behind names: `torch{sys_platform == 'linux'}==2`.
fn without_markers(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for (i, part) in message.split('{').enumerate() {
        let kept = part.split_once('}').filter(|_| i > 0);
        out.push_str(kept.map_or(part, |(_, rest)| rest));
    }
    out
}

/// Returns whether a package's name says that it is for Windows.
fn is_for_windows(package: &str) -> bool {
    package.split('-').any(|w| w == "windows" || w == "win32")
        || ["pywin", "pypiwin", "winrt", "winsdk"]
            .iter()
            .any(|w| package.starts_with(w))
}

/// Packages without a wheel for one of the platforms, and the marker of the other: of neither, if
/// that one was excluded before.
fn missing_platforms(message: &str) -> BTreeMap<String, &'static str> {
    const WINDOWS: &str = "sys_platform == 'win32'";
    let mut out = BTreeMap::new();
    let excluded = message.contains("{sys_platform == '");
    let message = &without_markers(message);
    for (platform, other) in PLATFORMS
        .iter()
        .zip(["sys_platform == 'linux'", "sys_platform == 'darwin'"])
    {
        for (at, _) in message.match_indices(&format!(" `{platform}`-compatible wheels")) {
            let before = message[..at]
                .trim_end_matches(" no")
                .trim_end_matches(" has")
                .trim_end_matches(" have");
            let word = before.split_whitespace().last().unwrap_or_default();
            let name = word
                .split(['<', '>', '=', '!', '~', '['])
                .next()
                .unwrap_or_default();
            if !name.is_empty() {
                let name = normalize_name(name);
                let neither = excluded || is_for_windows(&name);
                out.insert(name, if neither { WINDOWS } else { other });
            }
        }
    }
    out
}

/// Hints for what the index does not have: the package, or a version that fits.
pub(super) fn with_absence_hints(mut out: Problem, asking: &LinesAsking) -> Problem {
    let quoted = |text: &str| toml::Value::String(text.to_string());
    let message = out.message.clone();
    let unknown = |package: &str| message.contains(&format!("{package} was not found in the"));
    for (package, lines) in &asking.wishes {
        if unknown(package) {
            out = out.with_hint(format!(
                "the index has no package {package}: is the name right? If another index has it: \
                 [python] indexes = [{{ name = \"…\", url = \"https://…\", packages = [{}] }}]",
                quoted(package)
            ));
            continue;
        }
        let absent = message.contains(&format!("no version of {package}"))
            || message.contains(&format!("only {package}"));
        if !absent {
            continue;
        }
        // A local version (PyPA's "Version specifiers") is one that some other index builds.
        let local = lines
            .iter()
            .find_map(|l| l.split(';').next()?.split_once('+'));
        if let Some((public, build)) = local {
            let build = build.trim();
            let url = if build.starts_with("cu") || build.starts_with("rocm") || build == "cpu" {
                format!("https://download.pytorch.org/whl/{build}")
            } else {
                "https://…".into()
            };
            out = out.with_hint(format!(
                "+{build} is of another index: [python] indexes = [{{ name = \"{build}\", url = \
                 \"{url}\", packages = [{}] }}]",
                quoted(package)
            ));
            out = out.with_hint(format!(
                "or take the build of the default index: [python] overrides = [{}]",
                quoted(public.trim())
            ));
        } else {
            out = out.with_hint(format!(
                "the index has no such version; to take one that it has: [python] overrides = [{}]",
                quoted(package)
            ));
        }
    }
    for (node, line) in &asking.nodes {
        out = out.with_hint(format!(
            "to leave it out: [nodes.{node}] ignore_requirements = [{}]",
            quoted(line)
        ));
    }
    out
}

/// Hints for what has no wheel on one platform, else for what contradicts each other.
pub(super) fn with_marker_and_override_hints(
    mut out: Problem,
    wishes: &BTreeMap<String, BTreeSet<String>>,
) -> Problem {
    let incompatible = wishes.iter().find(|(_, w)| w.len() > 1);
    let platforms = missing_platforms(&out.message);
    for (package, marker) in &platforms {
        let own = wishes
            .get(package)
            .filter(|w| w.len() == 1)
            .and_then(|w| w.first())
            .filter(|w| !w.contains(';'))
            .unwrap_or(package);
        let line = toml::Value::String(format!("{own} ; {marker}"));
        out = out.with_hint(if marker.contains("win32") {
            format!(
                "{package} has no wheel for either platform; to leave it out: [python] overrides = \
                 [{line}]"
            )
        } else {
            format!(
                "{package} has no wheel for one of the two platforms; to have it on \
                 the other only: [python] overrides = [{line}]"
            )
        });
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
