use super::Global;
use crate::apply::lock_file;
use crate::host::env;
use crate::host::fs::edit;
use crate::host::models::{install, resolver};
use crate::problem::{Doing, Problem, Result};
use crate::project::Project;
use crate::render;
use crate::text::{bytes, count};

/// Look after what was fetched and is kept
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy cache prune           models that were fetched to be locked, \
        and halves of downloads\n  sudo comfy cache prune      those of an apply with two accounts \
        too"
)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Remove fetched models that are kept for an apply, and parts of them; what lies in shares
    /// stays
    Prune {
        /// Say what would go, remove nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
}

pub fn run(global: &Global, args: &Args) -> Result<u8> {
    let What::Prune { dry_run } = args.what;
    let own = env::cache_home()
        .ok_or_else(|| Problem::new("HOME is not set").hint("set HOME, or XDG_CACHE_HOME"))?;
    let mut folders = vec![resolver::folder(&own)];
    // Those of an apply, where there is a project whose downloads are the caller's to remove.
    let desired = Project::open(global).and_then(|p| p.desired()).ok();
    let _exclusive = match &desired {
        Some(d)
            if nix::unistd::geteuid().is_root()
                || !matches!(d.isolation, crate::manifest::Isolation::Account) =>
        {
            folders.push(d.paths.downloads());
            Some(lock_file::take(d, "cache prune")?)
        }
        _ => None,
    };
    let (mut files, mut size, mut used) = (0, 0, 0);
    for folder in &folders {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            // Somebody fetches into it.
            let taken =
                |f: std::fs::File| matches!(f.try_lock(), Err(std::fs::TryLockError::WouldBlock));
            if install::open(&entry.path(), &|_| true).is_ok_and(taken) {
                used += 1;
                continue;
            }
            files += 1;
            size += entry.path().symlink_metadata().map_or(0, |m| m.len());
            if !dry_run {
                edit::remove_path(&entry.path())
                    .doing(|| format!("remove {}", entry.path().display()))?;
            }
        }
    }
    if used > 0 {
        render::note(&format!("{} in use: left alone.", count(used, "file")));
    }
    let verb = if dry_run { "Would remove" } else { "Removed" };
    render::stdout(&if files == 0 {
        "Nothing to remove.".to_string()
    } else {
        format!("{verb} {} ({}).", count(files, "file"), bytes(size))
    });
    Ok(0)
}
