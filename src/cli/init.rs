use std::path::{Component, Path, PathBuf};

use super::GlobalArgs;
use crate::host::{env, fs, machine};
use crate::problem::{Context, Problem, Result};
use crate::project::MANIFEST;
use crate::render;

/// Write a commented starter comfy.toml
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy init                  here\n  comfy init -C ~/dotfiles/comfy"
)]
pub(crate) struct InitArgs {
    /// Where to put the shared folders [default: outside your home, so that nothing in it is
    /// opened]
    #[arg(long, value_name = "DIR")]
    shares: Option<PathBuf>,
}

pub(crate) fn run(global: &GlobalArgs, args: &InitArgs) -> Result<u8> {
    let here = std::env::current_dir().context("find the current folder")?;
    let dir = global
        .project
        .dir
        .as_ref()
        .map_or_else(|| here.clone(), |d| here.join(d));
    let path = dir.join(MANIFEST);
    if path.exists() {
        return Err(Problem::new(format!("{} already exists", path.display()))
            .with_hint("edit it, or move it away first"));
    }
    std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    let dir = dir
        .canonicalize()
        .with_context(|| format!("open {}", dir.display()))?;
    let owner = machine::primary_owner(None, false)?;
    let name = env::var("SUDO_USER").unwrap_or(owner.name);
    let default = if cfg!(target_os = "macos") {
        "/Users/Shared/comfy"
    } else {
        "/srv/comfy"
    };
    let shares = match &args.shares {
        None => default.to_string(),
        // The owner's home, written as in comfy.toml.
        Some(p) if p.starts_with("~") => p.display().to_string(),
        Some(p) => clean_path(&here.join(p)).display().to_string(),
    };
    fs::edit::write_file(
        &dir.join(MANIFEST),
        crate::manifest::starter::starter_text(&name, &shares).as_bytes(),
        0o644,
        None,
    )
    .with_context(|| format!("write {}", path.display()))?;
    if nix::unistd::geteuid().is_root() {
        render::print_warning(
            "you are root, and no other account can be kept from root's files: set \
             host.primary_user to the account that uses ComfyUI, or write isolation = \"none\"",
        );
    }
    render::print_note(&format!(
        "Wrote {}. Read it, edit it, then run: comfy lock",
        path.display()
    ));
    Ok(0)
}

/// Returns the path without `.` and `..`, which comfy.toml refuses.
fn clean_path(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(out.pop()),
            part => out.push(part),
        }
    }
    out
}
