use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::GlobalArgs;
use crate::desired::below_home;
use crate::host::fs::clone::{self, BlockSharing};
use crate::host::models::content_hash::ContentHasher;
use crate::host::models::file_reader::FileReader;
use crate::host::models::resolver;
use crate::host::models::verified_hashes::{self, Hashes};
use crate::problem::{Problem, Result};
use crate::project::ComfyProject;
use crate::render;
use crate::render::bars::TerminalProgress;
use crate::text::{count_of, escape_text, format_bytes};

/// Let identical models share their blocks on the disk; they stay separate files
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy dedupe --dry-run      shows duplicates\n  comfy \
        dedupe\n\nNeeds a file system that can share blocks: APFS, btrfs, xfs. Every byte is \
        compared before anything is shared; hard links are never used."
)]
pub(crate) struct DedupeArgs {
    /// Show what could be saved; change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Smaller files are not worth a system call.
const LEAST: u64 = 64 << 10;

pub(crate) fn run(global: &GlobalArgs, args: &DedupeArgs) -> Result<u8> {
    let project = ComfyProject::open(global)?;
    let home = project.owner()?.home;
    let candidates = same_size_files(&project, &home)?;
    let own = verified_hashes::own_path();
    let known = Hashes::load(&own.iter().cloned().collect::<Vec<_>>());
    let report = TerminalProgress::default();
    let reading = FileReader::new(
        &known,
        ContentHasher::sha256(),
        own,
        None,
        candidates.iter().map(|(_, p)| p.clone()),
        &report,
    );
    let read: Vec<_> = candidates
        .par_iter()
        .with_max_len(1)
        .map(|(n, p)| (*n, p, reading.read_file(p)))
        .collect();
    reading.write_hashes();
    if crate::host::signals::is_interrupted() {
        return Err(Problem::interrupted().with_hint("files read so far are not read again"));
    }
    let mut groups: BTreeMap<_, Vec<&PathBuf>> = BTreeMap::new();
    for (n, path, r) in &read {
        match r {
            Ok((_, digests)) => groups
                .entry((std::cmp::Reverse(*n), digests.sha256))
                .or_default()
                .push(path),
            Err(e) => render::print_warning(&format!("{}: {e}", path.display())),
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
                clone::block_sharing(first, other)
            } else {
                clone::share_blocks(first, other)
            };
            let (what, tail) = match done {
                Ok(BlockSharing::Already) => continue,
                Ok(BlockSharing::Now) => {
                    (saved, files) = (saved + size.0, files + 1);
                    let what = if args.dry_run {
                        "could share"
                    } else {
                        "shares"
                    };
                    (what, "")
                }
                Ok(BlockSharing::Cannot) => {
                    cannot += 1;
                    (
                        "is identical to",
                        ", but this file system cannot share blocks",
                    )
                }
                Err(e) => {
                    render::print_warning(&format!("{}: {e}", other.display()));
                    continue;
                }
            };
            render::print_stdout(&format!(
                "{} {what} {} ({}){tail}",
                escape_text(&other.to_string_lossy()),
                escape_text(&first.to_string_lossy()),
                format_bytes(size.0)
            ));
        }
    }
    let verb = if args.dry_run {
        "could be saved"
    } else {
        "saved"
    };
    render::print_note(&match (files, cannot) {
        (0, 0) => "No two models are identical, or they share their blocks already.".to_string(),
        (0, n) => format!(
            "{} could be shared, but this file system cannot share blocks; btrfs, xfs and APFS \
             can.",
            count_of(n, "file")
        ),
        (n, _) => format!("{} {verb} in {}.", format_bytes(saved), count_of(n, "file")),
    });
    Ok(0)
}

/// Model files of the shares that have the size of another one, with that size in bytes.
fn same_size_files(project: &ComfyProject, home: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut by_size: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
    for s in project
        .manifest
        .shares
        .values()
        .filter(|s| s.role.holds_models())
    {
        let Ok(top) = below_home(home, &s.path).canonicalize() else {
            continue;
        };
        for (path, size) in resolver::share_files(&top)?
            .into_iter()
            .filter(|(path, n)| *n >= LEAST && s.role.shows_path(path))
        {
            by_size.entry(size).or_default().push(top.join(path));
        }
    }
    by_size.retain(|_, paths| paths.len() > 1);
    Ok(by_size
        .into_iter()
        .flat_map(|(n, paths)| paths.into_iter().map(move |p| (n, p)))
        .collect())
}
