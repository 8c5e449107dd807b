//! `comfy add node`.

use std::path::{Path, PathBuf};

use crate::cli::GlobalArgs;
use crate::desired::below_home;
use crate::manifest::edit::{SectionLines, add_sections};
use crate::manifest::{names, node_source, repo_address};
use crate::problem::{Context, Problem, Result};
use crate::project;
use crate::render;
use crate::text::escape_text;

#[derive(clap::Args)]
pub(super) struct NodeArgs {
    /// The address of its repository, or OWNER/NAME on GitHub; the id of a node of the registry, with
    /// @VERSION or without; or a folder of your own
    #[arg(value_name = "NODE")]
    source: String,
    /// The branch, tag or commit to follow [default: the repository's default branch]
    #[arg(long = "ref", value_name = "REF")]
    git_ref: Option<String>,
    /// The folder's name in custom_nodes, and the section's [default: the repository's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// A node to declare.
pub(super) struct NewNode {
    pub name: String,
    pub lines: SectionLines,
}

pub(super) fn run(global: &GlobalArgs, args: &NodeArgs) -> Result<u8> {
    let home = super::owner_home(global)?;
    let node = node_to_add(args, home.as_deref())?;
    project::edit_manifest(global, |text| {
        add_sections(text, "nodes", [(node.name.as_str(), node.lines.clone())])
    })?;
    render::print_stdout(&format!(
        "Added node {} to comfy.toml.",
        escape_text(&node.name)
    ));
    render::print_note("`comfy lock` pins what was added.");
    Ok(0)
}

fn node_to_add(args: &NodeArgs, home: Option<&Path>) -> Result<NewNode> {
    let given = args.source.trim();
    let is_folder = given.starts_with(['.', '/', '~']);
    let is_id = !given.contains(['/', ':']);
    let (mut lines, default_name): (SectionLines, String) = if is_folder {
        let path = own_folder(given, home)?;
        let name = path.rsplit('/').next().unwrap_or_default().to_string();
        (vec![("path", path.into())], name)
    } else if is_id {
        let (id, version) = match given.split_once('@') {
            Some((id, version)) => (id, Some(version)),
            None => (given, None),
        };
        let wrong = |what: &str, why: &str| {
            Problem::new(format!("{what} \"{}\" {why}", escape_text(given))).with_hint(
                "write a repository as OWNER/NAME, a node of the registry by its id, as in \
                 comfyui-kjnodes@1.0.5, and a folder as ./FOLDER",
            )
        };
        node_source::check_registry_id(id).map_err(|why| wrong("the node", why))?;
        let id = id.to_lowercase();
        let mut lines: SectionLines = vec![("registry", id.as_str().into())];
        if let Some(version) = version {
            node_source::check_version(version).map_err(|why| wrong("the version of", why))?;
            lines.push(("version", version.into()));
        }
        (lines, id)
    } else {
        repository_lines(given)?
    };
    if let Some(git_ref) = &args.git_ref {
        lines.retain(|(key, _)| *key != "ref");
        lines.push(("ref", git_ref.as_str().into()));
    }
    Ok(NewNode {
        name: args.name.clone().unwrap_or(default_name),
        lines,
    })
}

fn repository_lines(given: &str) -> Result<(SectionLines, String)> {
    let page = repo_address::page_of_repository(given.split(['?', '#']).next().unwrap_or(given));
    let (repo, page_ref) = match page {
        Some((repo, git_ref)) => (repo, Some(git_ref)),
        None if names::repo_url(given).is_ok() => (given.to_string(), None),
        None => match repo_address::https_address(given) {
            Some(address) => (address, None),
            None => {
                return Err(Problem::new(format!(
                    "\"{}\" is not the address of a repository",
                    escape_text(given)
                ))
                .with_hint("write it as https://github.com/OWNER/NAME, or OWNER/NAME"));
            }
        },
    };
    let repo = repo.trim_end_matches('/').to_string();
    let last = repo.rsplit('/').next().unwrap_or(&repo);
    let name = last.strip_suffix(".git").unwrap_or(last).to_string();
    let mut lines: SectionLines = vec![("repo", repo.as_str().into())];
    lines.extend(page_ref.map(|r| ("ref", r.into())));
    Ok((lines, name))
}

fn own_folder(given: &str, home: Option<&Path>) -> Result<String> {
    let whole = home.map_or_else(|| PathBuf::from(given), |home| below_home(home, given));
    let seen = whole
        .metadata()
        .with_context(|| format!("open {}", escape_text(given)))
        .map_err(|p| {
            p.with_hint("give the folder of a node of your own; a repository is OWNER/NAME")
        })?;
    if !seen.is_dir() {
        return Err(
            Problem::new(format!("{} is not a folder", escape_text(given)))
                .with_hint("give the folder of a node, with its __init__.py"),
        );
    }
    super::manifest_path(given.trim_end_matches('/'), home)
}
