//! Reading files for their hashes: several at once, each once.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::content_hash::{self, ContentHasher};
use super::install;
use super::verified_hashes::{Hashes, Key};
use crate::host::sealed::stat_cache::now_ns;
use crate::lock::FileDigests;
use crate::progress::{Progress, ProgressUnit, Reporter};

/// What was read is written down this often, so that an interrupt costs no more.
const FLUSH: Duration = Duration::from_secs(5);

/// Reading many files, several at once, each once.
pub(crate) struct FileReader<'a> {
    known: &'a Hashes,
    /// What reads a file of which nothing is known.
    hasher: ContentHasher,
    /// Where it is written down.
    path: Option<PathBuf>,
    owner: Option<(u32, u32)>,
    last: Mutex<Instant>,
    done: AtomicU64,
    total: u64,
    progress: Box<dyn Progress>,
    report: &'a dyn Reporter,
}

impl<'a> FileReader<'a> {
    /// For these files, which makes the bar as long as what is left to read. `hasher` says which
    /// hashes are computed of what has to be read; none is a reason to read a file again.
    pub(crate) fn new(
        known: &'a Hashes,
        hasher: ContentHasher,
        path: Option<PathBuf>,
        owner: Option<(u32, u32)>,
        files: impl Iterator<Item = PathBuf>,
        report: &'a dyn Reporter,
    ) -> FileReader<'a> {
        let size = |p: PathBuf| {
            let st = nix::sys::stat::lstat(&p).ok()?;
            known
                .get(&Key::of(&st))
                .is_none()
                .then(|| u64::try_from(st.st_size).unwrap_or(0))
        };
        let total = files.filter_map(size).sum();
        FileReader {
            known,
            hasher,
            path,
            owner,
            last: Mutex::new(Instant::now()),
            done: AtomicU64::new(0),
            total,
            progress: report.start_counted("models", ProgressUnit::Bytes),
            report,
        }
    }

    /// Size and hashes of a regular file, by what is known of it or by reading it.
    ///
    /// # Errors
    /// It is none, or cannot be read; comfy was interrupted.
    pub(crate) fn read_file(&self, path: &Path) -> std::io::Result<(u64, FileDigests)> {
        let began = now_ns();
        let file = install::open_regular(path, &|_| true)?;
        let before = nix::sys::stat::fstat(&file)?;
        let size = u64::try_from(before.st_size).unwrap_or(0);
        if let Some(digests) = self.known.digests(&Key::of(&before)) {
            return Ok((size, digests));
        }
        let (read, digests) = content_hash::whole(&file, self.hasher.clone(), &mut |n| {
            let done = self.done.fetch_add(n, Ordering::Relaxed) + n;
            self.progress
                .set_position(done.min(self.total), self.total.max(1));
        })?;
        let after = nix::sys::stat::fstat(&file)?;
        if Key::of(&after) != Key::of(&before) {
            return Err(std::io::Error::other("is being changed while it is read"));
        }
        self.known.add(&after, digests, began);
        self.flush_sometimes();
        Ok((read, digests))
    }

    fn flush_sometimes(&self) {
        if let Ok(mut last) = self.last.try_lock()
            && last.elapsed() > FLUSH
        {
            self.write_hashes();
            *last = Instant::now();
        }
    }

    /// Writes down what was read. Where that cannot be done it is read again another time.
    pub(crate) fn write_hashes(&self) {
        if let Some(path) = self.path.as_ref().filter(|_| self.known.has_news())
            && let Err(p) = self.known.save(path, self.owner)
        {
            self.progress.set_position(self.total, self.total);
            self.report.print_line(&format!("warning: {}", p.message));
        }
    }
}
