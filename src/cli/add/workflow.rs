//! `comfy add --workflow`: what a workflow names, what of it is there, and what can be added.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rayon::prelude::*;

use super::workflow_models;
use crate::cli::{GlobalArgs, approval};
use crate::host::git::GitStore;
use crate::host::git::ref_membership::RefMembership;
use crate::host::registry::{RegistryClient, RegistryNode};
use crate::lock::resolve::{CommitQuery, RepositoryResolver, SourceTexts};
use crate::manifest::edit::{SectionLines, add_sections};
use crate::manifest::node_source::{self, NodeSource};
use crate::manifest::{Manifest, names};
use crate::problem::{Context, EXIT_FINDINGS, Problem, ProblemKind, Result};
use crate::progress::NoProgress;
use crate::project::{self, ComfyProject};
use crate::render;
use crate::text::{count_of, escape_text};
use crate::tree::ObjectId;
use crate::workflow::{NamedPack, PackName, Workflow};

/// More bytes than a picture with a workflow has.
const MOST_BYTES: u64 = 256 << 20;

#[derive(clap::Args)]
pub(super) struct WorkflowArgs {
    /// Add what a workflow names, from its JSON or from a PNG that carries it
    #[arg(long = "workflow", value_name = "FILE", required = true)]
    file: Option<PathBuf>,
    /// Add what is known without asking
    #[arg(short, long)]
    yes: bool,
    /// Show what would be added; write nothing
    #[arg(short = 'n', long, conflicts_with = "yes")]
    dry_run: bool,
}

/// What becomes of one thing that a workflow names.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// comfy.toml has it; what it is there.
    Found(String),
    /// It can be added: the section's name, and its lines; what it is.
    Known(String, SectionLines, String),
    /// There are several answers.
    Ambiguous(String),
    Unknown(String),
}

pub(super) fn run(global: &GlobalArgs, args: &WorkflowArgs) -> Result<u8> {
    let file = args.file.clone().unwrap_or_default();
    let shown = escape_text(&file.to_string_lossy());
    let give = |p: Problem| p.with_hint("give a workflow's JSON, or a PNG that ComfyUI saved");
    let meta = std::fs::metadata(&file)
        .with_context(|| format!("open {shown}"))
        .map_err(give)?;
    // A FIFO would be waited for, and /dev/zero has no end.
    if !meta.is_file() {
        return Err(give(Problem::new(format!("{shown} is not a file"))));
    }
    if meta.len() > MOST_BYTES {
        return Err(give(Problem::new(format!(
            "{shown} is larger than 256 MiB"
        ))));
    }
    let bytes = std::fs::read(&file)
        .with_context(|| format!("read {shown}"))
        .map_err(|p| p.with_hint("make it readable for you, or copy it to a folder of yours"))?;
    let workflow = Workflow::parse(&bytes).map_err(|p| p.with_prefix(&format!("{shown} ")))?;
    let project = ComfyProject::open(global)?;
    let nodes = node_answers(&project, &workflow)?;
    let models = workflow_models::model_answers(&project, &workflow)?;
    print_answers("Nodes", &nodes);
    print_answers("Models", &models);
    let of = |all: &[(String, Answer)]| -> Vec<(String, SectionLines)> {
        let known = all.iter().filter_map(|(_, a)| match a {
            Answer::Known(name, lines, _) => Some((name.clone(), lines.clone())),
            _ => None,
        });
        known.collect::<BTreeMap<_, _>>().into_iter().collect()
    };
    let (new_nodes, new_models) = (of(&nodes), of(&models));
    let is_open =
        |(_, a): &&(String, Answer)| matches!(a, Answer::Ambiguous(_) | Answer::Unknown(_));
    let open = nodes.iter().chain(&models).filter(is_open).count();
    let code = if open > 0 { EXIT_FINDINGS } else { 0 };
    let what = format!(
        "{} and {}",
        count_of(new_nodes.len(), "node"),
        count_of(new_models.len(), "model")
    );
    if new_nodes.is_empty() && new_models.is_empty() {
        render::print_note("There is nothing to add.");
        return Ok(code);
    }
    if args.dry_run {
        render::print_note(&format!("Would add {what} to comfy.toml."));
        return Ok(code);
    }
    if !args.yes {
        if !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
            return Err(Problem::new("nothing was added: nobody can be asked")
                .with_hint("--yes adds what is known, --dry-run only shows it")
                .of_kind(ProblemKind::NotApproved));
        }
        if !approval::confirm(&format!(
            "Add {what} to comfy.toml? Only `yes` is accepted: "
        ))? {
            return Err(Problem::new("nothing was added").of_kind(ProblemKind::NotApproved));
        }
    }
    project::edit_manifest(global, |text| {
        let text = add_sections(text, "nodes", named(&new_nodes))?;
        add_sections(&text, "models", named(&new_models))
    })?;
    render::print_stdout(&format!("Added {what} to comfy.toml."));
    render::print_note("`comfy lock` pins what was added.");
    Ok(code)
}

fn named(all: &[(String, SectionLines)]) -> impl Iterator<Item = (&str, SectionLines)> {
    all.iter()
        .map(|(name, lines)| (name.as_str(), lines.clone()))
}

fn print_answers(title: &str, all: &[(String, Answer)]) {
    if all.is_empty() {
        return;
    }
    render::print_stdout(title);
    let width = all
        .iter()
        .map(|(n, _)| n.chars().count())
        .max()
        .unwrap_or(0)
        .min(48);
    for (name, answer) in all {
        let (word, detail) = match answer {
            Answer::Found(d) => ("found", d),
            Answer::Known(_, _, d) => ("known", d),
            Answer::Ambiguous(d) => ("ambiguous", d),
            Answer::Unknown(d) => ("unknown", d),
        };
        let name = escape_text(name);
        render::print_stdout(&format!("  {word:9}  {name:width$}  {detail}"));
    }
}

/// What is said of each pack of nodes, then of each class without one.
fn node_answers(project: &ComfyProject, workflow: &Workflow) -> Result<Vec<(String, Answer)>> {
    let git = project::git_store(project, false)?;
    let registry = RegistryClient::new(&git.net);
    let packs: Vec<(&PackName, &NamedPack)> = workflow.packs.iter().collect();
    let mut out: Vec<(String, Answer)> = packs
        .par_iter()
        .map(|(name, pack)| pack_answer(project, &git, &registry, name, pack))
        .collect();
    if workflow.classes.is_empty() {
        return Ok(out);
    }
    let (sources, unread) = declared_sources(project, &git);
    if !unread.is_empty() {
        render::print_warning(&format!(
            "the classes of {} are not known, and may be among the unknown ones: run `comfy lock` first",
            unread.join(", ")
        ));
    }
    let classes: Vec<&String> = workflow.classes.iter().collect();
    let answers: Vec<Option<(String, Answer)>> = classes
        .par_iter()
        .map(|class| {
            let quoted = [format!("\"{class}\""), format!("'{class}'")];
            let has = |text: &String| quoted.iter().any(|q| text.contains(q.as_str()));
            let holders: Vec<&str> = sources
                .iter()
                .filter(|(_, texts)| texts.iter().any(has))
                .map(|(part, _)| part.as_str())
                .collect();
            let answer = match holders[..] {
                // ComfyUI's own nodes are none that anybody adds.
                ["comfyui"] => return None,
                [one] => Answer::Found(one.to_string()),
                [_, _, ..] if holders.contains(&"comfyui") => return None,
                [] => class_answer(&project.manifest, &git, &registry, class),
                _ => Answer::Ambiguous(format!("it is in {}", holders.join(" and "))),
            };
            Some(((*class).clone(), answer))
        })
        .collect();
    out.extend(answers.into_iter().flatten());
    Ok(out)
}

/// The Python sources of everything that is locked, by part, and the parts whose sources are not
/// here.
fn declared_sources(
    project: &ComfyProject,
    git: &GitStore,
) -> (Vec<(String, Vec<String>)>, Vec<String>) {
    let nodes = project.manifest.nodes.keys();
    let mut unread: Vec<String> = std::iter::once("comfyui".to_string())
        .chain(nodes.map(|name| format!("node.{name}")))
        .collect();
    let Some((lock, _)) = &project.lock else {
        return (Vec::new(), unread);
    };
    let pins: Vec<_> = lock.repository_pins().collect();
    let read: Vec<(String, Vec<String>)> = pins
        .par_iter()
        .filter_map(|(address, pin)| {
            let exclude = pin.exclusions();
            let query = CommitQuery {
                repo: &pin.repo,
                git_ref: &pin.git_ref,
                commit: &pin.commit,
                archive: pin.archive.as_ref(),
                exclude: &exclude,
                requirements_files: &[],
                sources: SourceTexts::All,
            };
            let seen = git.snapshot(&query, &NoProgress).ok()?;
            Some((address.clone(), seen.sources.into_values().collect()))
        })
        .collect();
    unread.retain(|part| read.iter().all(|(address, _)| address != part));
    (read, unread)
}

/// The node of comfy.toml that is this pack.
fn declared_as<'m>(m: &'m Manifest, id: Option<&str>, repo: Option<&str>) -> Option<&'m String> {
    let is_it = |n: &crate::manifest::NodeSettings| match NodeSource::of(&n.repo) {
        NodeSource::Registry(own) => id == Some(own),
        NodeSource::Repository(own) => {
            repo.is_some_and(|r| names::repo_key(r) == names::repo_key(own))
        }
        NodeSource::Folder(_) => false,
    };
    m.nodes.iter().find(|(_, n)| is_it(n)).map(|(name, _)| name)
}

/// A node at the commit of a repository that a workflow names. A hub serves the commits of all forks
/// at the parent's address, so that anybody can name one of theirs at an address that is trusted.
fn commit_answer(
    git: &GitStore,
    section: String,
    repo: &str,
    commit: &str,
    classes: &str,
) -> Answer {
    let (shown, at) = (escape_text(repo), crate::text::short_commit(commit));
    let id = ObjectId::parse(commit);
    let standing = id.and_then(|id| git.ref_membership(repo, names::DEFAULT_REF, &id));
    // Unknown is where the server did not answer, or where no git program is.
    if standing != Some(RefMembership::On) {
        return Answer::Ambiguous(format!(
            "commit {at} is not known to be on the default branch of {shown}, and may be of a fork; \
             if you trust it: comfy add node {shown} --ref {commit}"
        ));
    }
    let lines = vec![("repo", repo.into()), ("ref", commit.into())];
    Answer::Known(section, lines, format!("{shown} at {at} ({classes})"))
}

fn pack_answer(
    project: &ComfyProject,
    git: &GitStore,
    registry: &RegistryClient,
    name: &PackName,
    pack: &NamedPack,
) -> (String, Answer) {
    let classes = count_of(pack.classes.len(), "class");
    let manifest = &project.manifest;
    match name {
        PackName::GitHub(path) => {
            let repo = format!("https://github.com/{path}");
            if let Some(node) = declared_as(manifest, None, Some(&repo)) {
                return (
                    path.clone(),
                    Answer::Found(format!("node.{node} ({classes})")),
                );
            }
            let section = path.rsplit('/').next().unwrap_or(path).to_string();
            let answer = match pack.versions.iter().collect::<Vec<_>>()[..] {
                [one] if names::is_commit(one) => commit_answer(git, section, &repo, one, &classes),
                _ => {
                    let detail = format!("{repo} at the default branch ({classes})");
                    Answer::Known(section, vec![("repo", repo.as_str().into())], detail)
                }
            };
            (path.clone(), answer)
        }
        PackName::Registry(id) => {
            if let Some(node) = declared_as(manifest, Some(id), None) {
                return (
                    id.clone(),
                    Answer::Found(format!("node.{node} ({classes})")),
                );
            }
            let answer = match registry.find_node(id) {
                Ok(Some(found)) => registry_answer(manifest, git, &found, pack, &classes),
                Ok(None) => Answer::Unknown("the registry has no node of this id".into()),
                Err(p) => Answer::Unknown(p.message),
            };
            (id.clone(), answer)
        }
    }
}

fn registry_answer(
    manifest: &Manifest,
    git: &GitStore,
    found: &RegistryNode,
    pack: &NamedPack,
    classes: &str,
) -> Answer {
    if let Some(node) = declared_as(manifest, Some(&found.id), found.repository.as_deref()) {
        return Answer::Found(format!("node.{node} ({classes})"));
    }
    if let Err(why) = node_source::check_registry_id(&found.id) {
        let id = escape_text(&found.id);
        return Answer::Unknown(format!("the registry answers with \"{id}\", which {why}"));
    }
    if found.status != "active" {
        return Answer::Unknown(format!("the registry says that it is {}", found.status));
    }
    let versions: Vec<&String> = pack.versions.iter().collect();
    let id = found.id.to_lowercase();
    match (&versions[..], &found.repository) {
        // Installed from its repository, at this commit.
        ([one], Some(repo)) if names::is_commit(one) && names::repo_url(repo).is_ok() => {
            commit_answer(git, id, repo, one, classes)
        }
        ([one], _) if one.contains('.') => {
            let lines = vec![
                ("registry", id.as_str().into()),
                ("version", one.as_str().into()),
            ];
            Answer::Known(
                id,
                lines,
                format!("the registry's version {one} ({classes})"),
            )
        }
        (several, _) => {
            let latest = found.latest.clone().unwrap_or_default();
            let why = match several {
                [] => "the workflow names none".to_string(),
                [one] => format!("the workflow names `{one}`, which is not a version"),
                _ => format!("the workflow names {}", several.len()),
            };
            let lines = vec![("registry", id.as_str().into())];
            let detail = format!(
                "the registry's latest, {} ({why}; {classes})",
                escape_text(&latest)
            );
            Answer::Known(id, lines, detail)
        }
    }
}

fn class_answer(
    manifest: &Manifest,
    git: &GitStore,
    registry: &RegistryClient,
    class: &str,
) -> Answer {
    let none = NamedPack::default();
    match registry.find_class(class) {
        Ok(Some(found)) => {
            let by = format!("{}, by its class", escape_text(&found.id));
            registry_answer(manifest, git, &found, &none, &by)
        }
        Ok(None) => Answer::Unknown(
            "no node of comfy.toml has it, and the registry knows none that has".into(),
        ),
        Err(p) => Answer::Unknown(format!("no node of comfy.toml has it; {}", p.message)),
    }
}
