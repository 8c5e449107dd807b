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
pub struct InitArgs {
    /// Where the shared folders should lie [default: outside of your home, so that nothing in it is
    /// opened]
    #[arg(long, value_name = "DIR")]
    shares: Option<PathBuf>,
}

pub fn run(global: &GlobalArgs, args: &InitArgs) -> Result<u8> {
    let here = std::env::current_dir().context("find the current folder")?;
    let dir = global
        .project
        .dir
        .as_ref()
        .map_or_else(|| here.clone(), |d| here.join(d));
    let path = dir.join(MANIFEST);
    if path.exists() {
        return Err(Problem::new(format!("{} is there already", path.display()))
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
        // The owner's home, as comfy.toml writes it.
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
            "this is root, whose files no second account can be kept from: name in \
             host.primary_user who uses ComfyUI, or write isolation = \"none\"",
        );
    }
    render::print_note(&format!(
        "Wrote {}. Read it, change it, then: comfy lock",
        path.display()
    ));
    Ok(0)
}

/// Without `.` and `..`, which comfy.toml refuses.
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
