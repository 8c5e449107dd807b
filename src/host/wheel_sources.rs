//! Compares the wheels of packages with the repositories that they name. Nothing of a wheel is run or
//! written: it is read in memory, and of its repository no file is fetched, since the trees of a
//! commit have the ids of its files.

use std::io::{Cursor, Read};

use sha2::{Digest, Sha256};

use super::build::venv::provenance::{PublisherClient, PublisherQuery};
use super::git::GitStore;
use crate::advisory::sources::{
    SourceDifference, WheelSource, named_repository, publisher_repository, release_tag,
};
use crate::lock::python::{LockedPackage, LockedWheel, public_version};
use crate::lock::resolve::{CommitQuery, RepositoryResolver, SourceTexts};
use crate::progress::NoProgress;
use crate::tree::{TreeExclusions, blob_id};

/// Bytes of a wheel: those with compiled code are larger, and are mostly that.
pub(crate) const MOST_WHEEL: u64 = 32 << 20;
/// Bytes of one file in it; several wheels are read at the same time.
const MOST_FILE: u64 = 8 << 20;
/// Bytes of all that is read out of one.
const MOST_READ: u64 = 128 << 20;
/// Entries of one.
const MOST_ENTRIES: usize = 20_000;

/// One wheel that was compared.
pub(crate) struct ComparedWheel {
    pub repo: String,
    pub tag: String,
    pub difference: SourceDifference,
}

/// What a wheel brings.
struct WheelContent {
    metadata: String,
    sources: Vec<WheelSource>,
}

/// Compares one wheel of a package.
///
/// # Errors
/// Why it cannot be compared.
pub(crate) fn compare_wheel(
    client: &PublisherClient,
    git: &GitStore,
    query: &PublisherQuery,
    package: &LockedPackage,
    wheel: &LockedWheel,
) -> Result<ComparedWheel, String> {
    let version = &package.version;
    let size = wheel.size.unwrap_or(MOST_WHEEL);
    if size > MOST_WHEEL {
        return Err("its wheel is large, and mostly compiled code".into());
    }
    let bytes = client.fetch_file(query, &wheel.file, size)?;
    if base16ct::lower::encode_string(&Sha256::digest(&bytes)) != wheel.sha256 {
        return Err("its index has another file than comfy.lock pins".into());
    }
    let content = read_wheel(&bytes)?;
    // The index's word of who published it is better than that of whoever did.
    let publisher = package.publisher.as_deref().and_then(publisher_repository);
    let repo = publisher
        .or_else(|| named_repository(&content.metadata))
        .ok_or("it names no repository on GitHub, GitLab or Codeberg")?;
    let tags = git
        .release_tags(&repo, public_version(version))
        .map_err(|p| format!("{repo}: {}", p.message))?;
    let tag = release_tag(query.package, version, tags.keys().map(String::as_str))
        .ok_or_else(|| format!("{repo} has no tag for this version"))?;
    let snapshot = git
        .snapshot(
            &CommitQuery {
                repo: &repo,
                git_ref: tag,
                commit: &tags[tag],
                archive: None,
                exclude: &TreeExclusions::default(),
                requirements_files: &[],
                sources: SourceTexts::None,
            },
            &NoProgress,
        )
        .map_err(|p| format!("{repo} at {tag}: {}", p.message))?;
    Ok(ComparedWheel {
        difference: SourceDifference::between(&content.sources, &snapshot.listing),
        tag: tag.to_string(),
        repo,
    })
}

fn read_wheel(bytes: &[u8]) -> Result<WheelContent, String> {
    let broken = |e: &dyn std::fmt::Display| format!("its wheel cannot be read: {e}");
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(|e| broken(&e))?;
    if archive.len() > MOST_ENTRIES {
        return Err(broken(&"it has too many entries"));
    }
    let (mut metadata, mut sources, mut left) = (None, Vec::new(), MOST_READ);
    for at in 0..archive.len() {
        let mut entry = archive.by_index(at).map_err(|e| broken(&e))?;
        let path = entry.name().map_err(|e| broken(&e))?.into_owned();
        let is_metadata = path.ends_with(".dist-info/METADATA") && path.matches('/').count() == 1;
        let lower = path.to_ascii_lowercase();
        if !is_metadata && !lower.ends_with(".py") && !lower.ends_with(".pth") {
            continue;
        }
        let mut content = Vec::new();
        let mut limited = (&mut entry).take(left.min(MOST_FILE) + 1);
        limited.read_to_end(&mut content).map_err(|e| broken(&e))?;
        let size = content.len() as u64;
        left = left
            .checked_sub(size)
            .filter(|_| size <= MOST_FILE)
            .ok_or_else(|| broken(&"what it unpacks to is too large"))?;
        if is_metadata {
            metadata = Some(String::from_utf8_lossy(&content).into_owned());
            continue;
        }
        // A file of nothing is in every repository.
        if content.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let blobs = [
            Some(blob_id(&content)),
            with_unix_lines(&content).map(|c| blob_id(&c)),
        ];
        let blobs = blobs.into_iter().flatten().flatten().collect();
        // What is installed outside of the packages' folder comes from somewhere in the repository.
        let path = match path.split_once(".data/") {
            Some((_, rest)) => rest
                .split_once('/')
                .map_or(rest, |(_, rest)| rest)
                .to_string(),
            None => path,
        };
        sources.push(WheelSource { path, blobs });
    }
    Ok(WheelContent {
        metadata: metadata.ok_or("its wheel has no METADATA")?,
        sources,
    })
}

/// The same with the line endings that git keeps; `None`: it has them.
fn with_unix_lines(content: &[u8]) -> Option<Vec<u8>> {
    memchr::memmem::find(content, b"\r\n")?;
    let mut out = Vec::with_capacity(content.len());
    for (at, byte) in content.iter().enumerate() {
        if *byte != b'\r' || content.get(at + 1) != Some(&b'\n') {
            out.push(*byte);
        }
    }
    Some(out)
}
