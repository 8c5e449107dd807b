use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::Global;
use crate::host::fs::clone::{self, Shared};
use crate::host::models::resolver::{self, Reading};
use crate::host::models::verified_hashes::{self, Hashes};
use crate::problem::{Problem, Result};
use crate::project::Project;
use crate::render;
use crate::render::bars::Bars;
use crate::text::{bytes, count, escape};

/// Let identical models share their blocks on the disk; they stay files of their own
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy dedupe --dry-run      what is there twice\n  comfy \
        dedupe\n\nNeeds a file system that can share blocks: APFS, btrfs, xfs. Every byte is \
        compared before anything is shared; never hard links."
)]
pub struct Args {
    /// Say what could be saved, change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Smaller files are not worth a system call.
const LEAST: u64 = 64 << 10;

pub fn run(global: &Global, args: &Args) -> Result<u8> {
    let project = Project::open(global)?;
    let home = project.owner()?.home;
    let mut by_size: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
    for s in project
        .manifest
        .shares
        .values()
        .filter(|s| s.role.holds_models())
    {
        let top = s
            .path
            .strip_prefix("~/")
            .map_or_else(|| Path::new(&s.path).to_path_buf(), |rest| home.join(rest));
        let Ok(top) = top.canonicalize() else {
            continue;
        };
        for (path, size) in resolver::present(&top)?
            .into_iter()
            .filter(|(path, n)| *n >= LEAST && s.role.shows(path))
        {
            by_size.entry(size).or_default().push(top.join(path));
        }
    }
    by_size.retain(|_, paths| paths.len() > 1);
    let candidates: Vec<(u64, PathBuf)> = by_size
        .into_iter()
        .flat_map(|(n, paths)| paths.into_iter().map(move |p| (n, p)))
        .collect();
    let own = verified_hashes::own_path();
    let known = Hashes::load(&own.iter().cloned().collect::<Vec<_>>());
    let report = Bars::default();
    let reading = Reading::new(
        &known,
        own,
        None,
        candidates.iter().map(|(_, p)| p.clone()),
        &report,
    );
    let read: Vec<_> = candidates
        .par_iter()
        .with_max_len(1)
        .map(|(n, p)| (*n, p, reading.file(p)))
        .collect();
    reading.flush();
    if crate::host::signals::interrupted() {
        return Err(Problem::interrupted().hint("what was read so far is not read again"));
    }
    let mut groups: BTreeMap<_, Vec<&PathBuf>> = BTreeMap::new();
    for (n, path, r) in &read {
        match r {
            Ok((_, sha256)) => groups
                .entry((std::cmp::Reverse(*n), *sha256))
                .or_default()
                .push(path),
            Err(e) => render::warning(&format!("{}: {e}", path.display())),
        }
    }
    let (mut saved, mut files, mut cannot) = (0, 0, 0);
    for ((size, _), mut paths) in groups {
        paths.sort();
        let Some((first, others)) = paths.split_first() else {
            continue;
        };
        for other in others {
            let done = if args.dry_run {
                clone::shared(first, other)
            } else {
                clone::share(first, other)
            };
            let what = match done {
                Ok(Shared::Already) => continue,
                Ok(Shared::Now) => {
                    (saved, files) = (saved + size.0, files + 1);
                    if args.dry_run {
                        "could share"
                    } else {
                        "shares"
                    }
                }
                Ok(Shared::Cannot) => {
                    cannot += 1;
                    "is the same as, on a file system that cannot share,"
                }
                Err(e) => {
                    render::warning(&format!("{}: {e}", other.display()));
                    continue;
                }
            };
            render::stdout(&format!(
                "{} {what} {} ({})",
                escape(&other.to_string_lossy()),
                escape(&first.to_string_lossy()),
                bytes(size.0)
            ));
        }
    }
    let verb = if args.dry_run {
        "could be saved"
    } else {
        "saved"
    };
    render::note(&match (files, cannot) {
        (0, 0) => "No two models are the same, or they share their blocks already.".to_string(),
        (0, n) => format!(
            "{} there twice, and this file system cannot share blocks: btrfs, xfs and APFS can.",
            count(n, "file")
        ),
        (n, _) => format!("{} {verb} in {}.", bytes(saved), count(n, "file")),
    });
    Ok(0)
}
