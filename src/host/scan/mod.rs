//! Scans files that nobody trusts: comfy reads them, and a process of its own that can do nothing
//! else parses them.
//!
//! [`sources`] says which files, [`process`] starts a parser for each unit and notices when it
//! crashes or hangs, [`parser`] is that process, and [`workers`] its threads. Nothing of the
//! network, no file and no program is within the parser's reach: it is handed each file's
//! descriptor.

mod descriptors;
mod git_tree;
mod parser;
pub(crate) mod pins;
mod process;
pub(crate) mod reviewer;
pub(crate) mod sources;
mod threads;
mod watch;
mod workers;

use std::sync::atomic::{AtomicU64, Ordering};

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

pub(crate) use self::parser::serve_parser;
pub(crate) use self::sources::NODES;
use self::sources::ScanUnit;
use crate::problem::Result;
use crate::progress::{ProgressUnit, Reporter};
use crate::scan::report::ScanReport;

/// Scans all units, several at a time.
///
/// # Errors
/// Ctrl-C; the parser cannot be started or confined. What cannot be read or parsed is a finding.
pub(crate) fn scan_units(units: &[ScanUnit], report: &dyn Reporter) -> Result<Vec<ScanReport>> {
    let progress = report.start_counted("scan", ProgressUnit::Steps);
    let done = AtomicU64::new(0);
    let scan = |unit: &ScanUnit| {
        let found = process::scan_unit(unit);
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        progress.set_position(done, units.len() as u64);
        found
    };
    // The threads of a pool would look for other units, on the processors that parse this one.
    if let [unit] = units {
        return Ok(vec![scan(unit)?]);
    }
    units.par_iter().map(scan).collect()
}
