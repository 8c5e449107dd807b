//! Reads comfy.lock: every field is checked, wherever the file came from.

mod python;
mod reviews;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytestring::ByteString;

use super::{
    AGAIN, OLDEST_VERSION, VERSION, VersionOnly, WireExcluded, WireLock, WireModel, WirePin,
};
use crate::lock::python::{PartRequirements, RequirementLine};
use crate::lock::{
    ArchivePin, Blake3Digest, Lock, ModelPin, RepositoryPin, Sha256Digest, SubmodulePin,
};
use crate::manifest::node_source::{self, NodeSource};
use crate::manifest::{Table, TomlSource, model_tables, names};
use crate::problem::{Problem, Result};
use crate::tree::{EntryMode, ExcludedEntry, ObjectId};

pub(crate) use python::read_python;

pub(crate) fn parse_lock(path: &Path, text: &ByteString) -> Result<Lock> {
    let source = TomlSource::new(path, text, None);
    let again = AGAIN;
    let syntax = |e: toml::de::Error| source.syntax_problem(&e, again);
    let (rest, taken) = model_tables::extract(
        text,
        &["source", "revision", "etag", "size", "sha256", "blake3"],
        read_block,
    );
    let (parsed, taken) = match toml::from_str::<WireLock>(&rest) {
        Ok(wire) if taken.is_empty() || wire.models.is_empty() => (Ok(wire), taken),
        // If it has two forms or a mistake, the parser reads all of it, because it knows the places
        // in the whole text.
        _ => (toml::from_str(text), Table::new_vec()),
    };
    let wire = match parsed {
        Ok(w) if (OLDEST_VERSION..=VERSION).contains(&w.version) => w,
        // Another format may have another shape: its number is the better message.
        other => {
            let first: VersionOnly = toml::from_str(text).map_err(syntax)?;
            match first.version {
                Some(toml::Value::Integer(v)) if v > VERSION => {
                    return Err(Problem::new(format!(
                        "{}: format {v} is newer than this comfy can read ({VERSION})",
                        source.place_of_key(&["version"])
                    ))
                    .with_hint("install the version of comfy that wrote it, or a newer one"));
                }
                Some(toml::Value::Integer(OLDEST_VERSION..=VERSION)) => other.map_err(syntax)?,
                _ => {
                    return Err(Problem::new(format!(
                        "{}: unknown version",
                        source.place_of_key(&["version"])
                    ))
                    .with_hint(again));
                }
            }
        }
    };
    let mut problems = Vec::new();
    let mut parts = BTreeMap::new();
    read_requirements(
        &source,
        &["comfyui"],
        "comfyui",
        &wire.comfyui,
        &mut parts,
        &mut problems,
    );
    let comfyui = read_pin(&source, &["comfyui"], wire.comfyui, &mut problems);
    let mut nodes = BTreeMap::new();
    for (name, w) in wire.nodes {
        if let Err(why) = names::check_folder(&name) {
            problems.push(
                Problem::new(format!(
                    "{}: node name \"{}\" {why}",
                    source.place_of_key(&["nodes", &name]),
                    crate::text::escape_text(&name)
                ))
                .with_hint(again),
            );
        }
        read_requirements(
            &source,
            &["nodes", &name],
            &format!("node.{name}"),
            &w,
            &mut parts,
            &mut problems,
        );
        let p = read_pin(&source, &["nodes", &name], w, &mut problems);
        nodes.insert(name, p);
    }
    let python = wire.python.map(|w| read_python(&source, w, &mut problems));
    let others = wire.models.into_iter().filter_map(|(path, w)| {
        read_model(&source, &path, w, &mut problems).map(|m| (path.into(), Arc::new(m)))
    });
    let models = if taken.is_empty() {
        others.collect()
    } else {
        taken
    };
    let acceptances =
        reviews::read_acceptances(&source, wire.reviews, wire.accepted, &mut problems);
    if problems.is_empty() {
        Ok(Lock {
            comfyui,
            nodes,
            asks: parts,
            python,
            models,
            acceptances,
        })
    } else {
        Err(Problem::from_many(problems))
    }
}

/// A table with a missing or wrong field is left for the parser and its messages.
pub(super) fn read_block(
    path: &str,
    [source, revision, etag, size, sha256, blake3]: [Option<model_tables::FieldValue>; 6],
) -> Option<Arc<ModelPin>> {
    let (size, sha256) = (size?.as_number()?, Sha256Digest::parse(sha256?.as_text()?)?);
    let blake3 = match blake3 {
        Some(text) => Some(Blake3Digest::parse(text.as_text()?)?),
        None => None,
    };
    let pin = ModelPin {
        source: model_tables::optional_text(source)?,
        revision: model_tables::optional_text(revision)?,
        etag: model_tables::optional_text(etag)?,
        size,
        sha256,
        blake3,
    };
    let fine = model_faults(path, &pin).next().is_none();
    fine.then(|| Arc::new(pin))
}

pub(super) fn read_model(
    source: &TomlSource,
    path: &str,
    w: WireModel,
    problems: &mut Vec<Problem>,
) -> Option<ModelPin> {
    let sha256 = Sha256Digest::parse(&w.sha256);
    let blake3 = w.blake3.as_deref().map(Blake3Digest::parse);
    let bad = [
        ("sha256", sha256.is_none()),
        ("blake3", blake3 == Some(None)),
    ]
    .into_iter()
    .filter(|(_, bad)| *bad)
    .map(|(key, _)| (key, "is not 64 hexadecimal digits".to_string()));
    let pin = ModelPin {
        source: w.source,
        revision: w.revision,
        etag: w.etag,
        size: w.size,
        sha256: sha256.unwrap_or_default(),
        blake3: blake3.flatten(),
    };
    for (key, what) in model_faults(path, &pin).chain(bad) {
        let place = source.place_of_key(&["models", path, key]);
        problems.push(
            Problem::new(format!(
                "{place}: {key} of model \"{}\" {what}",
                crate::text::escape_text(path)
            ))
            .with_hint(AGAIN),
        );
    }
    sha256.map(|_| pin)
}

/// Checks the values that reach servers and paths, wherever the lock came from; returns the key and
/// what is wrong with it.
pub(super) fn model_faults(
    path: &str,
    pin: &ModelPin,
) -> impl Iterator<Item = (&'static str, String)> {
    let odd = |e: &String| e.len() > 256 || e.chars().any(char::is_control);
    let all = [
        names::check_relative(path)
            .err()
            .map(|why| ("path", why.to_string())),
        pin.source
            .as_deref()
            .and_then(|s| crate::manifest::model_source(s).err())
            .map(|why| ("source", why)),
        pin.revision
            .as_ref()
            .is_some_and(|r| !names::is_commit(r))
            .then(|| ("revision", "is not a commit".into())),
        pin.etag
            .as_ref()
            .is_some_and(odd)
            .then(|| ("etag", "is none".into())),
    ];
    all.into_iter().flatten()
}

pub(super) fn read_requirements(
    source: &TomlSource,
    at: &[&str],
    part: &str,
    w: &WirePin,
    parts: &mut BTreeMap<String, PartRequirements>,
    problems: &mut Vec<Problem>,
) {
    let mut lines = Vec::new();
    for (i, text) in w.requirements.iter().enumerate() {
        match RequirementLine::parse(text) {
            Some(a) => lines.push(a),
            None => {
                let place = source.place_of_key(&[at, &["requirements", &i.to_string()]].concat());
                problems.push(
                    Problem::new(format!(
                        "{place}: \"{}\" is not a requirement with its place",
                        crate::text::escape_text(text)
                    ))
                    .with_hint(AGAIN),
                );
            }
        }
    }
    let asked = PartRequirements {
        lines,
        ignored: w.ignore_requirements.clone(),
        files: w.requirements_files.clone(),
    };
    if asked != PartRequirements::default() {
        parts.insert(part.into(), asked);
    }
}

pub(super) fn read_pin(
    source: &TomlSource,
    at: &[&str],
    w: WirePin,
    problems: &mut Vec<Problem>,
) -> RepositoryPin {
    let again = AGAIN;
    let mut id = |key: &str, at: &[&str], hex: &str| {
        ObjectId::parse(hex).unwrap_or_else(|| {
            let place = source.place_of_key(&[at, &[key]].concat());
            problems.push(
                Problem::new(format!(
                    "{place}: {key} of {} is not 40 hexadecimal digits",
                    at.join(".")
                ))
                .with_hint(again),
            );
            ObjectId([0; 20])
        })
    };
    let (commit, tree) = (id("commit", at, &w.commit), id("tree", at, &w.tree));
    let mut submodules: Vec<SubmodulePin> = Vec::new();
    let (source_of, archive) = (check_source(&w, at), read_archive(&w));
    for (i, s) in w.submodules.into_iter().enumerate() {
        let number = i.to_string();
        let at = [at, &["submodules", &number]].concat();
        let (commit, tree) = (id("commit", &at, &s.commit), id("tree", &at, &s.tree));
        submodules.push(SubmodulePin {
            path: s.path,
            repo: s.repo,
            commit,
            tree,
        });
    }
    let mut wrong = |key: &str, message: String| {
        problems.push(
            Problem::new(format!(
                "{}: {message}",
                source.place_of_key(&[at, &key.split('.').collect::<Vec<_>>()].concat())
            ))
            .with_hint(again),
        )
    };
    for (i, s) in submodules.iter().enumerate() {
        if let Err(why) = names::check_relative(&s.path) {
            wrong(
                &format!("submodules.{i}.path"),
                format!(
                    "submodule path \"{}\" {why}",
                    crate::text::escape_text(&s.path)
                ),
            );
        }
        if let Err(why) = names::repo_url(&s.repo) {
            wrong(
                &format!("submodules.{i}.repo"),
                format!(
                    "submodule repo \"{}\" {why}",
                    crate::text::escape_text(&s.repo)
                ),
            );
        }
        if submodules[..i].iter().any(|o| o.path == s.path) {
            wrong(
                &format!("submodules.{i}.path"),
                format!(
                    "submodule \"{}\" exists twice",
                    crate::text::escape_text(&s.path)
                ),
            );
        }
    }
    submodules.sort_by(|a, b| a.path.cmp(&b.path));
    if let Err(why) = source_of {
        wrong(
            "repo",
            format!("repo \"{}\" {why}", crate::text::escape_text(&w.repo)),
        );
    }
    if let Err(why) = names::git_ref(&w.git_ref) {
        wrong(
            "ref",
            format!("ref \"{}\" {why}", crate::text::escape_text(&w.git_ref)),
        );
    }
    let archive = archive.unwrap_or_else(|why| {
        wrong("repo", format!("{} {why}", at.join(".")));
        None
    });
    let excluded = read_excluded(source, at, w.excluded, problems);
    RepositoryPin {
        repo: w.repo,
        git_ref: w.git_ref,
        commit,
        tree,
        submodules,
        excluded,
        archive,
    }
}

/// Checks where a pin comes from; only nodes come from elsewhere than a repository.
fn check_source(w: &WirePin, at: &[&str]) -> Result<(), &'static str> {
    match NodeSource::of(&w.repo) {
        NodeSource::Registry(id) if at != ["comfyui"] => node_source::check_registry_id(id),
        NodeSource::Folder(path) if at != ["comfyui"] => {
            let is_clean = |p: &str| !p.is_empty() && !p.contains(char::is_control);
            if is_clean(path) {
                Ok(())
            } else {
                Err("is not a folder")
            }
        }
        _ => names::repo_url(&w.repo),
    }
}

/// The archive of a node of the registry, whole or not at all.
fn read_archive(w: &WirePin) -> Result<Option<ArchivePin>, String> {
    let is_registry = matches!(NodeSource::of(&w.repo), NodeSource::Registry(_));
    match (&w.registry_version, &w.url, &w.sha256, &w.status) {
        (None, None, None, None) if !is_registry => Ok(None),
        (Some(version), Some(url), Some(sha256), Some(status)) if is_registry => {
            node_source::check_version(version).map_err(|why| {
                format!("version \"{}\" {why}", crate::text::escape_text(version))
            })?;
            crate::manifest::model_address(url)
                .map_err(|why| format!("url \"{}\" {why}", crate::text::escape_text(url)))?;
            if !names::is_sha256(sha256) {
                return Err("sha256 is not 64 hexadecimal digits".into());
            }
            Ok(Some(ArchivePin {
                version: version.clone(),
                url: url.clone(),
                sha256: sha256.clone(),
                status: status.clone(),
            }))
        }
        _ if is_registry => Err("lacks registry_version, url, sha256 or status".into()),
        _ => Err("has keys of a node of the registry, and is none".into()),
    }
}

/// What `exclude` leaves out of a part, sorted by path.
fn read_excluded(
    source: &TomlSource,
    at: &[&str],
    list: Vec<WireExcluded>,
    problems: &mut Vec<Problem>,
) -> Vec<ExcludedEntry> {
    let mut excluded: Vec<ExcludedEntry> = Vec::new();
    for (i, x) in list.into_iter().enumerate() {
        let path = crate::text::escape_text(&x.path);
        let twice = excluded
            .iter()
            .any(|o| names::is_within(&x.path, &o.path) || names::is_within(&o.path, &x.path));
        let (mode, oid) = (EntryMode::from_octal(&x.mode), ObjectId::parse(&x.id));
        let wrong = if let Err(why) = names::check_relative(&x.path) {
            Some(("path", format!("excluded path \"{path}\" {why}")))
        } else if twice {
            Some(("path", format!("excluded path \"{path}\" exists twice")))
        } else if mode.is_none() {
            let mode = crate::text::escape_text(&x.mode);
            Some(("mode", format!("mode \"{mode}\" is unknown")))
        } else if oid.is_none() {
            let id = format!("id of \"{path}\" is not 40 hexadecimal digits");
            Some(("id", id))
        } else {
            None
        };
        if let Some((key, message)) = wrong {
            let number = i.to_string();
            let place = source.place_of_key(&[at, &["excluded", &number, key]].concat());
            problems.push(Problem::new(format!("{place}: {message}")).with_hint(AGAIN));
        } else if let (Some(mode), Some(oid)) = (mode, oid) {
            let path = x.path;
            excluded.push(ExcludedEntry { path, mode, oid });
        }
    }
    excluded.sort_by(|a, b| a.path.cmp(&b.path));
    excluded
}
