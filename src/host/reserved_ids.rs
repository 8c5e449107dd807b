//! Numbers that an apply under way will give to new accounts: a file that root alone writes and
//! everybody may read, so that two first applies at once take different ones. What a killed apply
//! has left there means nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::host::fs::edit;
use crate::host::machine::operating_system;
use crate::problem::{Context, Result};

/// By instance: the process that applies it, and its numbers.
type Table = BTreeMap<String, (i32, Vec<u32>)>;

fn table_path() -> PathBuf {
    Path::new(if operating_system().is_macos() {
        "/private/var/run"
    } else {
        "/run"
    })
    .join("comfy-ids.json")
}

fn read_table() -> Table {
    // One that is missing or garbled reserves nothing: accounts are made with numbers that the
    // system refuses to give twice.
    let table: Table = std::fs::read(table_path())
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default();
    let lives = |pid: i32| {
        pid > 0
            && nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None)
                != Err(nix::Error::ESRCH)
    };
    table
        .into_iter()
        .filter(|(_, (pid, _))| lives(*pid))
        .collect()
}

/// Whether another instance's apply is about to give that number to an account.
pub(crate) fn by_another(instance: &str, id: u32) -> bool {
    read_table()
        .iter()
        .any(|(name, (_, numbers))| name != instance && numbers.contains(&id))
}

/// Held while an apply is under way.
pub(crate) struct ReservedIds(String);

impl ReservedIds {
    /// The machine's lock is held by the caller.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn new(instance: &str, numbers: &[u32]) -> Result<ReservedIds> {
        let mut table = read_table();
        table.insert(
            instance.into(),
            (nix::unistd::getpid().as_raw(), numbers.to_vec()),
        );
        write_table(&table).with_context(|| format!("write {}", table_path().display()))?;
        Ok(ReservedIds(instance.into()))
    }
}

impl Drop for ReservedIds {
    fn drop(&mut self) {
        let mut table = read_table();
        table.remove(&self.0);
        // What stays names a process that is gone.
        let _ = if table.is_empty() {
            edit::remove_path(&table_path())
        } else {
            write_table(&table)
        };
    }
}

fn write_table(table: &Table) -> std::io::Result<()> {
    edit::write_file(
        &table_path(),
        &serde_json::to_vec(table)?,
        0o644,
        Some((0, 0)),
    )
}
