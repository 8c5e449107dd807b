//! The scan of what a pin holds, kept by its tree: the same bytes are scanned once.

use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::sources::{CommitSource, ScanSource, ScanUnit};
use crate::host::git::{FetchDepth, GitStore};
use crate::lock::RepositoryPin;
use crate::problem::Result;
use crate::scan::report::ScanReport;

/// Where reports are kept, and where trees come from.
pub(crate) struct PinScanner<'a> {
    pub git: &'a GitStore,
    /// The owner's cache.
    pub cache: PathBuf,
    /// How much of a commit is fetched: sources, or everything.
    pub depth: FetchDepth,
}

/// Raised where the rules find something else in the same bytes; a build of comfy from another
/// commit scans again anyway.
const RULES_VERSION: u32 = 1;

impl PinScanner<'_> {
    /// Scans what a pin holds, with its submodules and without what `exclude` leaves out; what is
    /// not in the store yet is fetched.
    ///
    /// # Errors
    /// It cannot be fetched; Ctrl-C.
    pub(crate) fn report_of(&self, pin: &RepositoryPin) -> Result<ScanReport> {
        if let Some(kept) = kept_report(&self.cache, pin, self.depth) {
            return Ok(kept);
        }
        let fetch = |repo: &str, git_ref: &str, commit| {
            self.git.ensure_sources((repo, git_ref), commit, self.depth)
        };
        let mut commits = vec![CommitSource {
            prefix: String::new(),
            repository: match &pin.archive {
                Some(a) => self.git.ensure_archive(&pin.repo, &pin.commit, a)?,
                None => fetch(&pin.repo, &pin.git_ref, &pin.commit)?,
            },
            commit: pin.commit,
            exclude: pin.exclusions(),
        }];
        for s in &pin.submodules {
            commits.push(CommitSource {
                prefix: format!("{}/", s.path),
                repository: fetch(&s.repo, "HEAD", &s.commit)?,
                commit: s.commit,
                exclude: pin.exclusions().in_submodule(&s.path),
            });
        }
        let unit = ScanUnit {
            prefix: String::new(),
            source: ScanSource::Commits(commits),
        };
        let mut whole = super::process::scan_unit(&unit)?;
        whole.sort_worst_first();
        // What went wrong once is tried again.
        if whole.is_complete() {
            self.keep_report(pin, &whole);
        }
        Ok(whole)
    }

    /// The same without a server: what neither was scanned nor is in the store is unknown.
    pub(crate) fn report_at_hand(&self, pin: &RepositoryPin) -> Option<ScanReport> {
        let offline = self.git.offline_twin();
        let scanner = PinScanner {
            git: &offline,
            cache: self.cache.clone(),
            depth: self.depth,
        };
        scanner.report_of(pin).ok()
    }

    /// A cache that cannot be written is no reason to fail.
    fn keep_report(&self, pin: &RepositoryPin, report: &ScanReport) {
        let file = report_file(&self.cache, pin, self.depth);
        let Some(folder) = file.parent() else { return };
        if let Ok(text) = serde_json::to_vec(report)
            && std::fs::create_dir_all(folder).is_ok()
        {
            let _ = crate::host::fs::edit::write_file(&file, &text, 0o600, None);
        }
    }
}

/// Returns the kept report of a pin, if there is one; nothing is fetched or scanned.
pub(crate) fn kept_report(
    cache: &std::path::Path,
    pin: &RepositoryPin,
    depth: FetchDepth,
) -> Option<ScanReport> {
    // A report of everything is one of the sources too.
    let depths = [FetchDepth::Whole, depth];
    let text = depths
        .iter()
        .find_map(|d| std::fs::read(report_file(cache, pin, *d)).ok())?;
    serde_json::from_slice(&text).ok()
}

fn report_file(cache: &std::path::Path, pin: &RepositoryPin, depth: FetchDepth) -> PathBuf {
    let mut hash = Sha256::new();
    hash.update([u8::from(depth == FetchDepth::Whole)]);
    hash.update(RULES_VERSION.to_be_bytes());
    hash.update(env!("COMFY_BUILD"));
    hash.update(pin.content_id());
    let name = base16ct::lower::encode_string(&hash.finalize()[..16]);
    cache.join("scans").join(format!("{name}.json"))
}
