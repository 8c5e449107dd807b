use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::{EnvCompleter, Shells};

use crate::ids::{Address, Family};
use crate::manifest::Manifest;
use crate::problem::{Context, Problem, Result};
use crate::project::{self, ComfyProject, ProjectArgs};

/// The variable by which a shell asks for completions.
pub(super) const VARIABLE: &str = "COMFY_COMPLETE";

/// Print shell completions
///
/// They know the nodes, models, shares and packages of the comfy.toml of the current folder.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy completions zsh > ~/.zfunc/_comfy\n  comfy completions bash > \
        ~/.local/share/bash-completion/completions/comfy"
)]
pub(crate) struct CompletionsArgs {
    shell: clap_complete::Shell,
}

pub(crate) fn run(args: &CompletionsArgs) -> Result<u8> {
    let shells = Shells::builtins();
    let name = args.shell.to_string();
    let completer: &dyn EnvCompleter = shells
        .completer(&name)
        .ok_or_else(|| Problem::new(format!("there are no completions for {name}")))?;
    let mut out = Vec::new();
    completer
        .write_registration(VARIABLE, "comfy", "comfy", "comfy", &mut out)
        .context("write the completions")?;
    crate::render::print_stdout(String::from_utf8_lossy(&out).trim_end());
    Ok(0)
}

/// What `update` takes.
pub(super) fn pin_names() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let Some(project) = current_project() else {
            return Vec::new();
        };
        let mut names = vec!["comfyui".to_string(), "python".into()];
        names.extend(project.manifest.nodes.keys().cloned());
        names.extend(model_paths(&project.manifest));
        let packages = project
            .lock
            .iter()
            .filter_map(|(lock, _)| lock.python.as_ref());
        names.extend(packages.flat_map(|p| p.packages.iter().map(|p| p.name.clone())));
        candidates(names)
    })
}

/// What `--only` takes.
pub(super) fn selections() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let mut names: Vec<String> = Family::ALL.map(|(_, word)| word.to_string()).into();
        if let Some(project) = current_project() {
            let m = &project.manifest;
            let nodes = m.nodes.keys().map(|n| Address::node(n));
            let shares = m.shares.keys().cloned().map(Address::Share);
            let addresses = nodes
                .chain(shares)
                .chain(model_paths(m).map(Address::Model));
            names.extend(addresses.map(|a| a.to_string()));
        }
        candidates(names)
    })
}

/// The models of comfy.toml.
pub(super) fn models() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        current_project().map_or_else(Vec::new, |p| candidates(model_paths(&p.manifest)))
    })
}

/// The names of one kind of section.
pub(super) fn sections(table: &'static str) -> ArgValueCandidates {
    ArgValueCandidates::new(move || {
        current_project().map_or_else(Vec::new, |p| match table {
            "nodes" => candidates(p.manifest.nodes.keys().cloned()),
            "shares" => candidates(p.manifest.shares.keys().cloned()),
            _ => candidates(model_paths(&p.manifest)),
        })
    })
}

fn model_paths(m: &Manifest) -> impl Iterator<Item = String> {
    m.models.iter().map(|(path, _)| path.to_string())
}

fn candidates(names: impl IntoIterator<Item = String>) -> Vec<CompletionCandidate> {
    names.into_iter().map(CompletionCandidate::new).collect()
}

/// Returns the project of the current folder; a mistake in it is for other commands to report.
fn current_project() -> Option<ComfyProject> {
    let args = ProjectArgs {
        dir: None,
        host: None,
    };
    let dir = project::manifest_folder(&args).ok()?;
    ComfyProject::for_host(&dir, &crate::host::machine::short_hostname()).ok()
}
