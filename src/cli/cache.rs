use super::GlobalArgs;
use crate::apply::lock_file;
use crate::host::env;
use crate::host::fs::edit;
use crate::host::models::{install, resolver};
use crate::problem::{Context, Problem, Result};
use crate::project::ComfyProject;
use crate::render;
use crate::text::{count_of, format_bytes};

/// Manage the cache of downloads
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy cache prune           removes models fetched by `comfy \
        lock`, and partial downloads\n  sudo $(command -v comfy) cache prune\n                              also removes those of an \
        apply with two accounts"
)]
pub(crate) struct CacheArgs {
    #[command(subcommand)]
    what: CacheCommand,
}

#[derive(clap::Subcommand)]
enum CacheCommand {
    /// Remove fetched models kept for an apply, and partial downloads; models in shares stay
    Prune {
        /// Show what would be removed; remove nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
}

pub(crate) fn run(global: &GlobalArgs, args: &CacheArgs) -> Result<u8> {
    let CacheCommand::Prune { dry_run } = args.what;
    let own = env::cache_home()
        .ok_or_else(|| Problem::new("HOME is not set").with_hint("set HOME, or XDG_CACHE_HOME"))?;
    let mut folders = vec![resolver::cache_folder(&own)];
    // An apply's downloads, if there is a project and the caller may remove them.
    let desired = ComfyProject::open(global)
        .and_then(|p| super::desired_state(&p))
        .ok();
    let _exclusive = match &desired {
        Some(d)
            if nix::unistd::geteuid().is_root()
                || !matches!(d.isolation, crate::manifest::IsolationMode::Account) =>
        {
            folders.push(d.paths.downloads_dir());
            Some(lock_file::acquire_instance(d, "cache prune")?)
        }
        _ => None,
    };
    let (mut files, mut size, mut used) = (0, 0, 0);
    for folder in &folders {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            // A download into it is in progress.
            let taken =
                |f: std::fs::File| matches!(f.try_lock(), Err(std::fs::TryLockError::WouldBlock));
            if install::open_regular(&entry.path(), &|_| true).is_ok_and(taken) {
                used += 1;
                continue;
            }
            files += 1;
            size += entry.path().symlink_metadata().map_or(0, |m| m.len());
            if !dry_run {
                edit::remove_path(&entry.path())
                    .with_context(|| format!("remove {}", entry.path().display()))?;
            }
        }
    }
    if used > 0 {
        render::print_note(&format!("{} in use: left alone.", count_of(used, "file")));
    }
    let verb = if dry_run { "Would remove" } else { "Removed" };
    render::print_stdout(&if files == 0 {
        "Nothing to remove.".to_string()
    } else {
        format!(
            "{verb} {} ({}).",
            count_of(files, "file"),
            format_bytes(size)
        )
    });
    Ok(0)
}
