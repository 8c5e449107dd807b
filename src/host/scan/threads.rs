//! How many threads parse: as many as there are processors, over all parsers that run.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Threads of one parser. Each has a large stack, and their memory counts together
/// ([`super::parser`]).
const MOST: usize = 4;

static PARSING: AtomicUsize = AtomicUsize::new(0);

/// The threads of one parser, for as long as it runs.
pub(super) struct ThreadShare(usize);

impl ThreadShare {
    /// Takes what is left, and one in any case.
    pub(super) fn take() -> ThreadShare {
        let all = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        ThreadShare::of(asked_for().unwrap_or_else(|| {
            let left = all.saturating_sub(PARSING.load(Ordering::Relaxed));
            left.clamp(1, MOST)
        }))
    }

    /// One thread, which leaves no doubt about the file that it is at.
    pub(super) fn single() -> ThreadShare {
        ThreadShare::of(1)
    }

    fn of(count: usize) -> ThreadShare {
        PARSING.fetch_add(count, Ordering::Relaxed);
        ThreadShare(count)
    }

    pub(super) fn count(&self) -> usize {
        self.0
    }
}

impl Drop for ThreadShare {
    fn drop(&mut self) {
        PARSING.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// What a test asks for.
#[cfg(feature = "faults")]
fn asked_for() -> Option<usize> {
    crate::host::faults::parsing_number("threads:")
}

#[cfg(not(feature = "faults"))]
fn asked_for() -> Option<usize> {
    None
}
