//! Who published the wheels of a package, as an index tells it (PEP 740): the repository and its
//! workflow, in place of whoever had a password. comfy takes the index's word; the signatures are not
//! verified.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::LockedPython;
use super::python::{LockedPackage, LockedWheel};
use crate::manifest::wheel_sources::WHEELS_INDEX;
use crate::problem::{Context, Problem, Result};
use crate::text::escape_text;

/// Characters of a publisher, at most.
const LONGEST: usize = 300;

#[derive(Deserialize)]
struct Provenance {
    attestation_bundles: Vec<Bundle>,
}

#[derive(Deserialize)]
struct Bundle {
    publisher: Publisher,
}

#[derive(Deserialize)]
struct Publisher {
    kind: String,
    repository: Option<String>,
    workflow: Option<String>,
    workflow_filepath: Option<String>,
    email: Option<String>,
}

/// The publisher that a provenance object names: `github.com/OWNER/REPO release.yml`.
///
/// # Errors
/// It is none, or names nobody.
pub(crate) fn read_provenance(text: &str) -> Result<String> {
    let provenance: Provenance =
        serde_json::from_str(text).context("understand the provenance of a file")?;
    let Some(Bundle { publisher: p }) = provenance.attestation_bundles.first() else {
        return Err(Problem::new("the provenance of a file names no publisher"));
    };
    let workflow = p.workflow.as_ref().or(p.workflow_filepath.as_ref());
    let on = |server: &str| {
        let repository = p.repository.as_ref()?;
        let workflow = workflow.map_or(String::new(), |w| format!(" {w}"));
        Some(format!("{server}/{repository}{workflow}"))
    };
    let named = match p.kind.as_str() {
        "GitHub" => on("github.com"),
        "GitLab" => on("gitlab.com"),
        kind => {
            let who = p.repository.as_ref().or(p.email.as_ref());
            who.map(|who| format!("{} {who}", kind.to_lowercase()))
        }
    };
    named
        .filter(|n| is_publisher(n))
        .ok_or_else(|| Problem::new("the provenance of a file names no publisher"))
}

/// Whether comfy.lock may have it: one line, without anything that a terminal obeys.
pub(crate) fn is_publisher(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len()) && text.bytes().all(|b| (b' '..=b'~').contains(&b))
}

/// The publisher of the same files in the old lock.
pub(crate) fn kept_publisher(
    package: (&str, &str),
    wheels: &[LockedWheel],
    old: Option<&LockedPython>,
) -> Option<String> {
    let (name, version) = package;
    let same =
        |k: &&LockedPackage| k.name == name && k.version == version && k.wheels[..] == *wheels;
    old?.packages.iter().find(same)?.publisher.clone()
}

/// The places of packages whose publisher is to be asked: those that the old lock does not have.
pub(crate) fn unasked_packages(new: &LockedPython, old: Option<&LockedPython>) -> Vec<usize> {
    let known = |p: &LockedPackage| {
        old.is_some_and(|o| {
            o.packages
                .iter()
                .any(|k| k.name == p.name && k.version == p.version && k.wheels == p.wheels)
        })
    };
    let is_asked = |p: &LockedPackage| p.index.as_deref() != Some(WHEELS_INDEX) && !known(p);
    let places = new.packages.iter().enumerate();
    places
        .filter(|(_, p)| is_asked(p))
        .map(|(at, _)| at)
        .collect()
}

/// Says which packages have another publisher than before, or none any more. `asked`: the places of
/// those of which the index told.
pub(crate) fn publisher_remarks(
    new: &LockedPython,
    old: Option<&LockedPython>,
    asked: &[usize],
) -> Vec<String> {
    let before: BTreeMap<&str, (&str, &str)> = old
        .iter()
        .flat_map(|o| &o.packages)
        .filter_map(|p| Some((&*p.name, (&*p.version, p.publisher.as_deref()?))))
        .collect();
    let remark = |p: &LockedPackage| {
        let (version, was) = before.get(&*p.name)?;
        let (name, was) = (&p.name, escape_text(was));
        match p.publisher.as_deref() {
            Some(now) if now == was => None,
            Some(now) => Some(format!(
                "{name}: {version} was published by {was}, and {} by {}: find out why before you \
                 apply it",
                p.version,
                escape_text(now)
            )),
            None => Some(format!(
                "{name}: {version} was published by {was}, and {} by nobody that the index can \
                 name: find out why before you apply it",
                p.version
            )),
        }
    };
    let mut out: Vec<String> = asked
        .iter()
        .filter_map(|at| remark(new.packages.get(*at)?))
        .collect();
    out.dedup();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publisher_is_a_repository_and_its_workflow() {
        let of = |publisher: &str| {
            let text = format!(
                r#"{{"version": 1, "attestation_bundles": [{{"publisher": {publisher}}}]}}"#
            );
            read_provenance(&text).unwrap_or_else(|p| p.message)
        };
        let told = [
            of(
                r#"{"kind": "GitHub", "repository": "pypa/sampleproject", "workflow": "release.yml"}"#,
            ),
            of(
                r#"{"kind": "GitLab", "repository": "a/b/c", "workflow_filepath": ".gitlab-ci.yml"}"#,
            ),
            of(r#"{"kind": "Google", "email": "a@b.test"}"#),
            of(r#"{"kind": "GitHub", "repository": "a/b\u001b[31m"}"#),
            of(r#"{"kind": "GitHub"}"#),
            read_provenance(r#"{"attestation_bundles": []}"#)
                .unwrap_err()
                .message,
        ];
        insta::assert_snapshot!(told.join("\n"), @"
        github.com/pypa/sampleproject release.yml
        gitlab.com/a/b/c .gitlab-ci.yml
        google a@b.test
        the provenance of a file names no publisher
        the provenance of a file names no publisher
        the provenance of a file names no publisher
        ");
    }
}
