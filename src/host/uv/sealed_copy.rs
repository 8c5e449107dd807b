//! The uv that a build runs: a copy owned by root, which no build process can write, hashed at each
//! use.

use std::path::{Path, PathBuf};

use super::program::{self, ChosenUv};
use crate::host::build::GenerationBuilder;
use crate::host::build::work::BuildWork;
use crate::host::fs::edit;
use crate::host::sealed::seal::open_plain;
use crate::problem::{Context, Problem, Result};

/// The program, with the hash that was noted when it was copied. `job`: the build process's folder,
/// still its own.
///
/// # Errors
/// If there is none, it cannot be downloaded, or the download is not the published one.
pub(crate) fn sealed_program(b: &mut GenerationBuilder, job: &Path) -> Result<PathBuf> {
    let at = b.paths.base.join("tools/uv");
    let record = b.paths.records.join("uv.json");
    let noted: Option<ChosenUv> = std::fs::read(&record)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok());
    let sound = noted.as_ref().filter(|n| {
        is_sealers(&at, b) && program::hash_program(&at).is_ok_and(|is| is == n.sha256)
    });
    let target = job.join("uv");
    let work = program::UvJob {
        target: target.clone(),
        kept: sound.map(|n| n.sha256.clone()),
        net: b.net.clone(),
        offline: b.offline,
    };
    let chosen: ChosenUv = b.perform_job(&BuildWork::Uv(work))?;
    if sound.is_some_and(|n| n.sha256 == chosen.sha256) {
        return Ok(at);
    }
    // Where an older comfy kept it, for every build process to write.
    edit::remove_path(&b.paths.store_dir().join(format!("uv-{}", program::VERSION)))
        .context("clear what an older comfy kept")?;
    let doing = || format!("keep {}", at.display());
    // Nobody has it open any more.
    drop(open_plain(&target, b.ids).with_context(doing)?);
    let is = program::hash_program(&target).with_context(doing)?;
    let should = program::pinned_hash(&chosen).unwrap_or(&chosen.sha256);
    if is != should {
        return Err(Problem::new(format!(
            "uv: the copy of {} has sha256 {is}, but {should} is expected: it was not used",
            crate::text::escape_text(&chosen.origin)
        ))
        .with_hint("run it again; if it persists, somebody changes files of the build"));
    }
    b.make_folder(at.parent().unwrap_or(&b.paths.base), &b.paths.base)?;
    edit::move_over(&target, &at).with_context(doing)?;
    edit::set_owner(&at, b.ids.seal, b.ids.seal_gid, 0o755).with_context(doing)?;
    b.write_record(&record, &chosen)?;
    if let Some(old) = noted.filter(|n| n.sha256 != chosen.sha256) {
        b.report.print_line(&format!(
            "warning: uv has changed: {} with sha256 {}; before, it was {} with {}",
            chosen.origin, chosen.sha256, old.origin, old.sha256
        ));
    }
    Ok(at)
}

/// Nobody but the sealer can have changed it.
fn is_sealers(path: &Path, b: &GenerationBuilder) -> bool {
    matches!(crate::host::fs::read_entry(path), Ok(Some(n)) if n.kind == crate::plan::observed::FileType::File && n.uid == b.ids.seal && n.mode == 0o755)
}
