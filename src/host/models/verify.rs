//! Reading the models that comfy.toml names, so that a plan can compare what they are with what
//! they should be.

use rayon::prelude::*;

use super::content_hash::ContentHasher;
use super::file_reader::FileReader;
use super::verified_hashes;
use crate::desired::Desired;
use crate::host::fs;
use crate::host::machine::HostMachine;
use crate::host::sealed::stat_cache::wait_for_grain;
use crate::manifest::IsolationMode;
use crate::plan::ids::AccountIds;
use crate::problem::{Problem, Result};
use crate::progress::Reporter;

/// Reads every declared model whose bytes `machine` does not know, several at once, and notes what
/// they are: with `keep` on the disk too. Their SHA-256 alone is compared: one hash decides.
///
/// # Errors
/// comfy was interrupted: what was read by then is noted. What cannot be read stays unknown.
pub(crate) fn read_models(
    d: &Desired,
    machine: &HostMachine,
    ids: &AccountIds,
    report: &dyn Reporter,
    keep: bool,
) -> Result<()> {
    // A file written just now could change again and keep the same time.
    wait_for_grain();
    let shares = d
        .shares
        .iter()
        .filter_map(|s| Some((s.name.as_str(), fs::real_path(&s.path, d.owner.uid).ok()?)))
        .collect::<std::collections::BTreeMap<_, _>>();
    let place = |(path, wish): (&bytestring::ByteString, &crate::desired::DesiredModel)| {
        Some((shares.get(&*wish.share)?.join(&**path), wish.pin.size))
    };
    let mut files: Vec<_> = d.models.iter().filter_map(place).collect();
    // The large ones first: no core then has one left to itself at the end.
    files.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    let root = nix::unistd::geteuid().is_root();
    let path = verified_hashes::believed(&d.paths).pop().filter(|_| keep);
    let owner =
        (root && d.isolation == IsolationMode::Account).then_some((ids.seal, ids.records_gid));
    let reading = FileReader::new(
        &machine.hashes,
        ContentHasher::sha256(),
        path,
        owner,
        files.iter().map(|(p, _)| p.clone()),
        report,
    );
    files.par_iter().with_max_len(1).for_each(|(path, size)| {
        // What stat tells needs no reading.
        if !crate::host::signals::is_interrupted()
            && path
                .symlink_metadata()
                .is_ok_and(|m| m.is_file() && m.len() == *size)
        {
            // What cannot be read stays unknown, and is told as that.
            let _ = reading.read_file(path);
        }
    });
    reading.write_hashes();
    if crate::host::signals::is_interrupted() {
        Err(Problem::interrupted().with_hint("what was read so far is not read again"))
    } else {
        Ok(())
    }
}
