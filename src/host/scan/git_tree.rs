//! The files of a commit, as a scan visits them.

use std::io::Write;
use std::sync::Arc;

use super::sources::{CommitSource, ScanEntry};
use crate::host::git::blobs;
use crate::problem::{Context, Result};
use crate::scan::carrier::EntryFacts;
use crate::tree::EntryMode;

/// Calls `visit` for each file and link of the commits, until it returns false. The bytes go
/// through one file that has no name.
///
/// # Errors
/// An object is missing, or the temporary file cannot be written.
pub(super) fn visit_commits(
    commits: &[CommitSource],
    visit: &mut dyn FnMut(ScanEntry) -> bool,
) -> Result<()> {
    let what = || "write the files that are scanned to a temporary file".to_string();
    let spool = Arc::new(tempfile::tempfile().with_context(what)?);
    let (mut end, mut goes_on) = (0, true);
    for source in commits {
        let (repository, commit) = (&source.repository, &source.commit);
        let mut take = |path: &str, mode: EntryMode, bytes: Option<&[u8]>| -> Result<bool> {
            let path = format!("{}{path}", source.prefix);
            let Some(bytes) = bytes else {
                goes_on = visit(ScanEntry::LeftOut { path });
                return Ok(goes_on);
            };
            let entry = if mode == EntryMode::Link {
                let target = String::from_utf8_lossy(bytes).into_owned();
                ScanEntry::Link { path, target }
            } else {
                (&*spool).write_all(bytes).with_context(what)?;
                let start = end;
                end += bytes.len() as u64;
                ScanEntry::File {
                    facts: EntryFacts {
                        path,
                        executable: mode == EntryMode::Executable,
                    },
                    file: Arc::clone(&spool),
                    start,
                    size: bytes.len() as u64,
                }
            };
            goes_on = visit(entry);
            Ok(goes_on)
        };
        blobs::visit_blobs(repository, commit, &source.exclude, &mut take)?;
        if !goes_on {
            break;
        }
    }
    Ok(())
}
