//! The unprivileged downloads: several files at once, each into its part, each checked against the
//! hash of the lock.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::download::{self, DownloadRequest};
use super::web::WebClient;
use super::{ModelHubs, hub};
use crate::host::fs::edit;
use crate::host::net::NetEnv;
use crate::lock::{ModelOrigin, Sha256Digest};
use crate::problem::{Context, Problem, Result};
use crate::progress::{ProgressUnit, Reporter};

/// Files at the same time.
const FILES: usize = 3;
/// Connections per file: for a single file, and for several.
const ALONE: usize = 4;
const TOGETHER: usize = 2;
/// The space that a file system reserves for itself.
const MARGIN: u64 = 16 << 20;

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct ModelDownload {
    /// `model.PATH`
    pub address: String,
    pub source: String,
    pub revision: Option<String>,
    pub size: u64,
    pub sha256: Sha256Digest,
}

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct ModelsJob {
    /// Where parts are kept, and whole files by their hash.
    pub folder: PathBuf,
    pub net: NetEnv,
    pub hubs: ModelHubs,
    pub items: Vec<ModelDownload>,
}

/// A whole file, by its hash.
pub(crate) fn whole_path(folder: &Path, sha256: Sha256Digest) -> PathBuf {
    folder.join(sha256.to_string())
}

fn part_path(folder: &Path, sha256: Sha256Digest) -> PathBuf {
    folder.join(format!("{sha256}.part"))
}

/// Downloads every file into the folder.
///
/// # Errors
/// If there is not enough space, which is checked before the first byte, or files could not be
/// downloaded.
pub(crate) fn run_job(job: &ModelsJob, report: &dyn Reporter) -> Result<()> {
    let length = |p: PathBuf| std::fs::symlink_metadata(p).map_or(0, |m| m.len());
    let missing: Vec<&ModelDownload> = job
        .items
        .iter()
        .filter(|i| length(whole_path(&job.folder, i.sha256)) != i.size)
        .collect();
    let need: u64 = missing
        .iter()
        .map(|i| {
            i.size
                .saturating_sub(length(part_path(&job.folder, i.sha256)))
        })
        .sum();
    ensure_room(&job.folder, need)?;
    let web = WebClient::new(&job.net, job.hubs.silence());
    let connections = if missing.len() == 1 { ALONE } else { TOGETHER };
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(FILES)
        .build()
        .context("start threads")?;
    let one = |i: &&ModelDownload| {
        let name = |p: Problem| p.with_prefix(&format!("{}: ", i.address));
        let origin = ModelOrigin::parse(&i.source)
            .ok_or_else(|| name(Problem::new("its source is not valid")))?;
        let part = part_path(&job.folder, i.sha256);
        let place = hub::download_source(&web, &job.hubs, &origin, i.revision.as_deref(), i.sha256)
            .map_err(name)?;
        let progress = report.start_counted(&i.address, ProgressUnit::Bytes);
        let fetch = DownloadRequest {
            place: &place,
            part: &part,
            size: Some(i.size),
            sha256: Some(i.sha256),
            connections,
        };
        download::download_file(&web, &fetch, progress.as_ref()).map_err(name)?;
        let at = whole_path(&job.folder, i.sha256);
        edit::remove_path(&at)
            .and_then(|()| edit::move_to(&part, &at))
            .with_context(|| format!("keep {}", i.address))
    };
    let results: Vec<Result<()>> =
        pool.install(|| missing.par_iter().with_max_len(1).map(one).collect());
    let problems: Vec<Problem> = results.into_iter().filter_map(Result::err).collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Problem::from_many(problems))
    }
}

/// Refuses to begin if the disk is too small.
///
/// # Errors
/// If not enough space is free.
pub(crate) fn ensure_room(folder: &Path, need: u64) -> Result<()> {
    let free = edit::free_bytes(folder).context("ask for free disk space")?;
    if need > 0 && free < need + MARGIN {
        let (free, need) = (
            crate::text::format_bytes(free),
            crate::text::format_bytes(need + MARGIN),
        );
        return Err(Problem::new(format!(
            "the disk that holds {} has {free} free, but the models need {need}",
            folder.display()
        ))
        .with_hint("free some space and run it again; nothing was fetched"));
    }
    Ok(())
}
