//! The shape of comfy.lock on disk: TOML, sorted, one table a thing, so that merges stay readable.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;

use super::{Lock, Pin, Submodule};
use crate::manifest::{Source, names};
use crate::problem::{Problem, Result};
use crate::tree::Oid;

const VERSION: i64 = 1;
const AGAIN: &str = "restore it from git (after a merge take one side whole), then run `comfy lock`; deleting it would move every pin";
const HEADER: &str = "# Made by `comfy lock`. Commit it beside comfy.toml; comfy alone writes it.\n";

#[derive(Deserialize)]
struct VersionOnly {
    version: Option<toml::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireLock {
    #[expect(dead_code, reason = "read on its own first")]
    version: i64,
    comfyui: WirePin,
    #[serde(default)]
    nodes: BTreeMap<String, WirePin>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WirePin {
    repo: String,
    #[serde(rename = "ref")]
    git_ref: String,
    commit: String,
    tree: String,
    #[serde(default)]
    submodules: Vec<WireSubmodule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSubmodule {
    path: String,
    repo: String,
    commit: String,
    tree: String,
}

pub(super) fn parse(path: &Path, text: &str) -> Result<Lock> {
    let source = Source::new(path, text, None);
    let again = AGAIN;
    let syntax =
        |e: toml::de::Error| Problem::new(format!("{}: {}", source.place(e.span().map_or(0, |s| s.start)), e.message().replace('\n', "; "))).hint(again);
    let first: VersionOnly = toml::from_str(text).map_err(syntax)?;
    match first.version {
        Some(toml::Value::Integer(v)) if v > VERSION => {
            return Err(Problem::new(format!("{}: format {v} is newer than this comfy reads ({VERSION})", source.at(&["version"])))
                .hint("install the comfy that wrote it, or a newer one"));
        }
        Some(toml::Value::Integer(1)) => {}
        _ => return Err(Problem::new(format!("{}: no version that comfy knows", source.at(&["version"]))).hint(again)),
    }
    let wire: WireLock = toml::from_str(text).map_err(syntax)?;
    let mut problems = Vec::new();
    let comfyui = pin(&source, &["comfyui"], wire.comfyui, &mut problems);
    let mut nodes = BTreeMap::new();
    for (name, w) in wire.nodes {
        if let Err(why) = names::folder(&name) {
            problems.push(Problem::new(format!("{}: node name \"{}\" {why}", source.at(&["nodes", &name]), crate::text::escape(&name))).hint(again));
        }
        let p = pin(&source, &["nodes", &name], w, &mut problems);
        nodes.insert(name, p);
    }
    if problems.is_empty() { Ok(Lock { comfyui, nodes }) } else { Err(Problem::all(problems)) }
}

fn pin(source: &Source, at: &[&str], w: WirePin, problems: &mut Vec<Problem>) -> Pin {
    let again = AGAIN;
    let mut id = |key: &str, at: &[&str], hex: &str| {
        Oid::parse(hex).unwrap_or_else(|| {
            let place = source.at(&[at, &[key]].concat());
            problems.push(Problem::new(format!("{place}: {key} of {} is not 40 hexadecimal digits", at.join("."))).hint(again));
            Oid([0; 20])
        })
    };
    let (commit, tree) = (id("commit", at, &w.commit), id("tree", at, &w.tree));
    let mut submodules: Vec<Submodule> = Vec::new();
    for (i, s) in w.submodules.into_iter().enumerate() {
        let number = i.to_string();
        let at = [at, &["submodules", &number]].concat();
        let (commit, tree) = (id("commit", &at, &s.commit), id("tree", &at, &s.tree));
        submodules.push(Submodule { path: s.path, repo: s.repo, commit, tree });
    }
    let mut wrong = |key: &str, message: String| {
        problems.push(Problem::new(format!("{}: {message}", source.at(&[at, &key.split('.').collect::<Vec<_>>()].concat()))).hint(again))
    };
    for (i, s) in submodules.iter().enumerate() {
        if let Err(why) = names::relative(&s.path) {
            wrong(&format!("submodules.{i}.path"), format!("submodule path \"{}\" {why}", crate::text::escape(&s.path)));
        }
        if let Err(why) = names::repo_url(&s.repo) {
            wrong(&format!("submodules.{i}.repo"), format!("submodule repo \"{}\" {why}", crate::text::escape(&s.repo)));
        }
        if submodules[..i].iter().any(|o| o.path == s.path) {
            wrong(&format!("submodules.{i}.path"), format!("submodule \"{}\" is there twice", crate::text::escape(&s.path)));
        }
    }
    submodules.sort_by(|a, b| a.path.cmp(&b.path));
    if let Err(why) = names::repo_url(&w.repo) {
        wrong("repo", format!("repo \"{}\" {why}", crate::text::escape(&w.repo)));
    }
    if let Err(why) = names::git_ref(&w.git_ref) {
        wrong("ref", format!("ref \"{}\" {why}", crate::text::escape(&w.git_ref)));
    }
    Pin { repo: w.repo, git_ref: w.git_ref, commit, tree, submodules }
}

pub(super) fn render(lock: &Lock) -> String {
    let mut out = format!("{HEADER}version = {VERSION}\n");
    render_pin(&mut out, "comfyui", &lock.comfyui);
    for (name, pin) in &lock.nodes {
        let key = if name.contains('.') { format!("nodes.\"{name}\"") } else { format!("nodes.{name}") };
        render_pin(&mut out, &key, pin);
    }
    out
}

fn render_pin(out: &mut String, key: &str, pin: &Pin) {
    let q = |s: &str| toml::Value::String(s.to_string()).to_string();
    // Writing to a String cannot fail.
    let _ = write!(out, "\n[{key}]\nrepo = {}\nref = {}\ncommit = \"{}\"\ntree = \"{}\"\n", q(&pin.repo), q(&pin.git_ref), pin.commit, pin.tree);
    for s in &pin.submodules {
        let _ = write!(out, "\n[[{key}.submodules]]\npath = {}\nrepo = {}\ncommit = \"{}\"\ntree = \"{}\"\n", q(&s.path), q(&s.repo), s.commit, s.tree);
    }
}
