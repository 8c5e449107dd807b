//! The lines of comfy.toml that settle a refusal: what has no wheel for a platform, what contradicts
//! each other, what an index does not have.

use std::collections::{BTreeMap, BTreeSet};

use super::explain::{LinesAsking, conflicting_bounds};
use crate::lock::markers::{marker_truth, platform_marker};
use crate::lock::python::normalize_name;
use crate::lock::requirements;
use crate::manifest::{LockPlatform, Manifest, quoted_list};
use crate::problem::Problem;

/// What is true on no platform of a lock.
pub(super) const NOWHERE: &str = "sys_platform == 'win32'";

/// Returns whether a package's name says that it is for Windows.
fn is_for_windows(package: &str) -> bool {
    package.split('-').any(|w| w == "windows" || w == "win32")
        || ["pywin", "pypiwin", "winrt", "winsdk"]
            .iter()
            .any(|w| package.starts_with(w))
}

/// Packages without a wheel for some platforms, with a marker of those that have one: of none, if
/// the others were excluded before. `asked` are all that the lock serves.
pub(super) fn missing_platforms(
    message: &str,
    asked: &[LockPlatform],
) -> BTreeMap<String, (BTreeSet<LockPlatform>, String)> {
    let mut without: BTreeMap<String, BTreeSet<LockPlatform>> = BTreeMap::new();
    for p in asked {
        let said = format!(" `{}`-compatible wheels", platform_marker(*p));
        for (at, _) in message.match_indices(&said) {
            let (name, marker) = last_package(&message[..at]);
            if name.is_empty() {
                continue;
            }
            let missing = without.entry(normalize_name(name)).or_default();
            missing.insert(*p);
            // Where it is not asked for, it is of no use either.
            if let Ok(truth) = marker_truth(marker, "3.12", asked) {
                missing.extend(asked.iter().filter(|p| !truth.platforms.contains(p)));
            }
        }
    }
    without
        .into_iter()
        .filter_map(|(name, missing)| {
            let marker = if is_for_windows(&name) {
                NOWHERE.into()
            } else {
                marker_without(&missing, asked)?
            };
            Some((name, (missing, marker)))
        })
        .collect()
}

/// The package that a part of uv's sentence ends with, and the marker that uv writes behind its
/// name: `torch==2.1 has no`, `spconv{sys_platform == 'linux'}==2.3 has no`; `have no` may stand on
/// a line of its own.
pub(super) fn last_package(text: &str) -> (&str, &str) {
    let mut text = text.trim_end();
    while let Some(rest) = ["no", "has", "have"]
        .iter()
        .find_map(|w| text.strip_suffix(w)?.strip_suffix(char::is_whitespace))
    {
        text = rest.trim_end();
    }
    let (text, marker) = match text.rsplit_once('}') {
        Some((before, bound)) if !bound.contains(char::is_whitespace) => {
            before.rsplit_once('{').unwrap_or((before, ""))
        }
        _ => (text, ""),
    };
    let word = text.split_whitespace().next_back().unwrap_or_default();
    let name = word.split(['<', '>', '=', '!', '~', '[']).next();
    (name.unwrap_or_default(), marker)
}

/// A marker that is true on all of `platforms` but `missing`.
pub(super) fn marker_without(
    missing: &BTreeSet<LockPlatform>,
    platforms: &[LockPlatform],
) -> Option<String> {
    let (missing, rest): (Vec<LockPlatform>, Vec<LockPlatform>) =
        platforms.iter().partition(|p| missing.contains(p));
    let linux = |all: &[LockPlatform]| all.iter().all(|p| !p.is_macos());
    match (&missing[..], &rest[..]) {
        (_, []) => Some(NOWHERE.into()),
        ([mac], rest) if mac.is_macos() && linux(rest) => Some("sys_platform == 'linux'".into()),
        (missing, [mac]) if mac.is_macos() && linux(missing) => {
            Some("sys_platform == 'darwin'".into())
        }
        // A Mac's is `arm64`.
        ([one], _) => Some(format!("platform_machine != '{}'", one.machine())),
        (_, [one]) => Some(platform_marker(*one)),
        _ => None,
    }
}

/// The list of comfy.toml with this override, in the place of others of its package.
fn overrides_with(manifest: &Manifest, line: &str) -> String {
    let package = requirements::package_of(line);
    let mut list = manifest.python.overrides.clone();
    list.retain(|o| requirements::package_of(o) != package);
    list.push(line.to_string());
    format!("overrides = {}", quoted_list(&list))
}

/// Hints for what the index does not have: the package, or a version that fits.
pub(super) fn with_absence_hints(
    mut out: Problem,
    asking: &LinesAsking,
    manifest: &Manifest,
) -> Problem {
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
                "or take the build of the default index: [python] {}",
                overrides_with(manifest, public.trim())
            ));
        } else {
            out = out.with_hint(format!(
                "the index has no such version; to take one that it has: [python] {}",
                overrides_with(manifest, package)
            ));
        }
    }
    for (node, line) in &asking.nodes {
        let ignored = manifest.nodes.get(node).map(|n| &n.ignore_requirements);
        let mut list = ignored.cloned().unwrap_or_default();
        list.push(requirements::package_of(line).unwrap_or_else(|| line.clone()));
        out = out.with_hint(format!(
            "to leave it out: [nodes.{node}] ignore_requirements = {}",
            quoted_list(&list)
        ));
    }
    out
}

/// Hints for what has no wheel on one platform, else for what contradicts each other.
pub(super) fn with_marker_and_override_hints(
    mut out: Problem,
    wishes: &BTreeMap<String, BTreeSet<String>>,
    asked: &[LockPlatform],
    manifest: &Manifest,
) -> Problem {
    let incompatible = wishes.iter().find(|(_, w)| w.len() > 1);
    let platforms = missing_platforms(&out.message, asked);
    let (none, one, others) = match asked.len() {
        1 => ("this platform", "", ""),
        2 => (
            "either platform",
            "one of the two platforms",
            "the other only",
        ),
        _ => (
            "any of the platforms",
            "one of the platforms",
            "the others only",
        ),
    };
    for (package, (_, marker)) in &platforms {
        let own = wishes
            .get(package)
            .filter(|w| w.len() == 1)
            .and_then(|w| w.first())
            .filter(|w| !w.contains(';'))
            .unwrap_or(package);
        let line = overrides_with(manifest, &format!("{own} ; {marker}"));
        out = out.with_hint(if marker == NOWHERE {
            format!("{package} has no wheel for {none}; to leave it out: [python] {line}")
        } else {
            format!("{package} has no wheel for {one}; to have it on {others}: [python] {line}")
        });
    }
    // Where two lines contradict each other these, else what packages say of each other.
    let said = conflicting_bounds(&out.message);
    if platforms.is_empty()
        && let Some(w) = incompatible
            .or_else(|| said.iter().find(|(_, b)| b.len() > 1))
            .map(|(_, w)| w)
    {
        let either: Vec<String> = w.iter().map(|w| overrides_with(manifest, w)).collect();
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
            (none("gpu{sys_platform == 'darwin'}==1 has", mac), two),
            (none("triton-windows==3 has", mac), two),
        ];
        let told: Vec<String> = rows
            .iter()
            .map(|(said, asked)| {
                let markers: BTreeMap<String, String> = missing_platforms(said, asked)
                    .into_iter()
                    .map(|(name, (_, marker))| (name, marker))
                    .collect();
                format!("{markers:?}")
            })
            .collect();
        insta::assert_snapshot!(told.join("\n"), @r#"
        {"decord": "sys_platform == 'linux'"}
        {"decord": "sys_platform == 'linux'"}
        {"spconv-cu126": "platform_machine == 'x86_64' and sys_platform == 'linux'"}
        {"gpu": "sys_platform == 'linux'"}
        {"gpu": "platform_machine == 'x86_64' and sys_platform == 'linux'"}
        {"gpu": "sys_platform == 'win32'"}
        {"gpu": "sys_platform == 'win32'"}
        {"triton-windows": "sys_platform == 'win32'"}
        "#);
    }
}
