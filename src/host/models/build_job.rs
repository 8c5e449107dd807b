//! The unprivileged part: several files at once, each into its part, each with the hash that the
//! lock says.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::download::{self, Fetch};
use super::web::Web;
use super::{Hubs, hub};
use crate::host::fs::edit;
use crate::host::git::NetEnv;
use crate::lock::{Origin, Sha};
use crate::problem::{Doing, Problem, Result};
use crate::progress::{Reporter, Unit};

/// Files at a time.
const FILES: usize = 3;
/// Connections a file, when it is the only one, and when there are others.
const ALONE: usize = 4;
const TOGETHER: usize = 2;
/// What a file system keeps for itself.
const MARGIN: u64 = 16 << 20;

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Item {
    /// `model.PATH`
    pub address: String,
    pub source: String,
    pub revision: Option<String>,
    pub size: u64,
    pub sha256: Sha,
}

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Job {
    /// Where parts are kept, and whole files by their hash.
    pub folder: PathBuf,
    pub net: NetEnv,
    pub hubs: Hubs,
    pub items: Vec<Item>,
}

/// A whole file, by its hash.
pub fn whole(folder: &Path, sha256: Sha) -> PathBuf {
    folder.join(sha256.to_string())
}

fn part(folder: &Path, sha256: Sha) -> PathBuf {
    folder.join(format!("{sha256}.part"))
}

/// Leaves every file in the folder.
///
/// # Errors
/// No space, which is seen before the first byte; every file that could not be had.
pub fn run(job: &Job, report: &dyn Reporter) -> Result<()> {
    let length = |p: PathBuf| std::fs::symlink_metadata(p).map_or(0, |m| m.len());
    let missing: Vec<&Item> = job
        .items
        .iter()
        .filter(|i| length(whole(&job.folder, i.sha256)) != i.size)
        .collect();
    let need: u64 = missing
        .iter()
        .map(|i| i.size.saturating_sub(length(part(&job.folder, i.sha256))))
        .sum();
    room(&job.folder, need)?;
    let web = Web::new(&job.net, &job.hubs);
    let connections = if missing.len() == 1 { ALONE } else { TOGETHER };
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(FILES)
        .build()
        .doing(|| "start threads".into())?;
    let one = |i: &&Item| {
        let name = |p: Problem| p.prefixed(&format!("{}: ", i.address));
        let origin =
            Origin::parse(&i.source).ok_or_else(|| name(Problem::new("its source is none")))?;
        let part = part(&job.folder, i.sha256);
        let place =
            hub::place(&web, &job.hubs, &origin, i.revision.as_deref(), i.sha256).map_err(name)?;
        let progress = report.work(&i.address, Unit::Bytes);
        let fetch = Fetch {
            place: &place,
            part: &part,
            size: Some(i.size),
            sha256: Some(i.sha256),
            connections,
        };
        download::run(&web, &fetch, progress.as_ref()).map_err(name)?;
        let at = whole(&job.folder, i.sha256);
        edit::remove_path(&at)
            .and_then(|()| edit::move_to(&part, &at))
            .doing(|| format!("keep {}", i.address))
    };
    let results: Vec<Result<()>> =
        pool.install(|| missing.par_iter().with_max_len(1).map(one).collect());
    let problems: Vec<Problem> = results.into_iter().filter_map(Result::err).collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Problem::all(problems))
    }
}

/// Refuses to begin where the disk cannot hold it.
///
/// # Errors
/// Not enough is free.
pub fn room(folder: &Path, need: u64) -> Result<()> {
    let free = edit::free_bytes(folder).doing(|| "ask for free disk space".into())?;
    if need > 0 && free < need + MARGIN {
        let (free, need) = (crate::text::bytes(free), crate::text::bytes(need + MARGIN));
        return Err(Problem::new(format!(
            "the disk that holds {} has {free} free, and the models need {need}",
            folder.display()
        ))
        .hint("free some space and run it again; nothing was fetched"));
    }
    Ok(())
}
