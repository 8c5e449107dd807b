//! `comfy add node`.

use crate::cli::GlobalArgs;
use crate::manifest::edit::{SectionLines, add_sections};
use crate::manifest::{names, repo_address};
use crate::problem::{Problem, Result};
use crate::project;
use crate::render;
use crate::text::escape_text;

#[derive(clap::Args)]
pub(super) struct NodeArgs {
    /// The address of its repository, or OWNER/NAME on GitHub
    #[arg(value_name = "REPOSITORY")]
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
    let node = node_to_add(args)?;
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

fn node_to_add(args: &NodeArgs) -> Result<NewNode> {
    let given = args.source.trim();
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
    let name = args.name.clone().unwrap_or_else(|| {
        let last = repo.rsplit('/').next().unwrap_or(&repo);
        last.strip_suffix(".git").unwrap_or(last).to_string()
    });
    let mut lines: SectionLines = vec![("repo", repo.as_str().into())];
    if let Some(git_ref) = args.git_ref.clone().or(page_ref) {
        lines.push(("ref", git_ref.into()));
    }
    Ok(NewNode { name, lines })
}
