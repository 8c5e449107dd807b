//! Commits of comfy.lock in the lock's own terms.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use bytestring::ByteString;
use git2::Oid;
use rayon::prelude::*;

use super::LockRepository;
use super::walk::{LockCommit, LockWalk};
use crate::lock::difference::LockDifference;
use crate::lock::{self, Lock, Sha256Digest};
use crate::problem::{Problem, Result};

/// A commit that moved comfy.lock, and what moved.
pub(crate) struct HistoryEntry {
    pub commit: LockCommit,
    /// `None` where the commit removed comfy.lock; an error where one of the two cannot be read.
    pub moved: Result<Option<LockDifference>>,
    /// The SHA-256 of comfy.lock after it.
    pub digest: Option<String>,
}

/// The walk in the lock's terms. Versions are read in groups, each once, on all processors.
pub(crate) struct HistoryEntries<'r> {
    of: &'r LockRepository,
    walk: LockWalk<'r>,
    ready: VecDeque<HistoryEntry>,
    group: usize,
    /// The versions of the last group: the next one starts with one of them.
    known: BTreeMap<Oid, Version>,
}

struct Version {
    text: Result<String>,
    digest: String,
}

/// The first group is small, since the first commits are what most want.
const FIRST: usize = 8;
const LARGEST: usize = 64;

impl LockRepository {
    /// Iterates over the commits that moved comfy.lock, newest first.
    ///
    /// # Errors
    /// There is no commit yet.
    pub(crate) fn entries(&self) -> Result<HistoryEntries<'_>> {
        Ok(HistoryEntries {
            of: self,
            walk: self.walk()?,
            ready: VecDeque::new(),
            group: FIRST,
            known: BTreeMap::new(),
        })
    }
}

impl HistoryEntries<'_> {
    /// Whether the repository ends before the first commit.
    pub(crate) fn is_shallow(&self) -> bool {
        self.walk.shallow
    }

    fn read_group(&mut self) -> Result<()> {
        let commits: Vec<LockCommit> = (&mut self.walk).take(self.group).collect::<Result<_>>()?;
        self.group = LARGEST.min(self.group * 2);
        let blobs = commits.iter().flat_map(|c| [c.before, c.after]).flatten();
        let mut texts = BTreeMap::new();
        for blob in blobs.filter(|b| !self.known.contains_key(b)) {
            texts.entry(blob).or_insert_with(|| self.of.text_of(blob));
        }
        let read: Vec<(Oid, Version)> = texts
            .into_par_iter()
            .map(|(blob, text)| (blob, Version::read(text)))
            .collect();
        self.known.extend(read);
        let version = |blob: Option<Oid>| blob.and_then(|b| self.known.get(&b));
        let entries: Vec<HistoryEntry> = commits
            .into_par_iter()
            .map(|commit| {
                let (before, after) = (version(commit.before), version(commit.after));
                HistoryEntry {
                    moved: difference(before, after),
                    digest: after.map(|v| v.digest.clone()),
                    commit,
                }
            })
            .collect();
        self.ready.extend(entries);
        let next = self.ready.back().and_then(|e| e.commit.before);
        self.known.retain(|blob, _| Some(*blob) == next);
        Ok(())
    }
}

fn difference(before: Option<&Version>, after: Option<&Version>) -> Result<Option<LockDifference>> {
    let Some(after) = after else { return Ok(None) };
    let text = |version: &Version| version.text.clone();
    let first = |text: String| {
        let new = Lock::parse(Path::new(lock::FILE), &ByteString::from(text))?;
        Ok(LockDifference::between(None, &new))
    };
    let moved = match before {
        Some(before) => LockDifference::between_texts(&text(before)?, &text(after)?),
        None => first(text(after)?),
    };
    // Its first mistake is enough.
    moved.map(Some).map_err(|p| Problem::new(p.message))
}

impl Version {
    fn read(text: Result<String>) -> Version {
        let digest = match &text {
            Ok(text) => Sha256Digest::digest_of(text.as_bytes()).to_string(),
            Err(_) => String::new(),
        };
        Version { text, digest }
    }
}

impl Iterator for HistoryEntries<'_> {
    type Item = Result<HistoryEntry>;

    fn next(&mut self) -> Option<Result<HistoryEntry>> {
        if self.ready.is_empty()
            && let Err(p) = self.read_group()
        {
            return Some(Err(p));
        }
        self.ready.pop_front().map(Ok)
    }
}
