//! What a launch makes ready on the disk before anything is started: shares, and the sandbox user's
//! own folders.

use super::add_only_probe;
use crate::confine::Confinement;
use crate::desired::launch::LaunchSpec;
use crate::host::confine::opened_paths::OpenedPaths;
use crate::host::{fs, sandbox_state, shares};
use crate::manifest::ShareAccess;
use crate::plan::observed::ShareSpec;
use crate::problem::{Context, Result};

/// Gives a share what it needs before ComfyUI may use it, through what was opened of it.
pub(super) fn repair_share(
    spec: &LaunchSpec,
    s: &ShareSpec,
    c: &Confinement,
    everything: &OpenedPaths,
    lacking: &mut Vec<String>,
) -> Result<()> {
    // Without walls nothing is opened: what is tried there is the account alone, with the modes as
    // they are.
    let Some(fd) = everything.at(c, &s.path) else {
        return Ok(());
    };
    // The owner's umask may have taken the group's right to write off a new folder; one of the
    // sandbox's own would let it remove what the owner puts there.
    if s.manage && s.access != ShareAccess::Read {
        shares::mend_opened(
            s,
            fs::open_dir_at(fd, c".").with_context(|| format!("open share {}", s.name))?,
        )?;
    }
    // No other wall is there: the confinement lets it write where it may add.
    if s.access == ShareAccess::Add {
        match add_only_probe::added_to(spec, s, fd) {
            Err(p) if !spec.require_confinement => lacking.push(p.message),
            other => other?,
        }
    }
    Ok(())
}

/// Brings the sandbox user's own folders to what this launch may find there, and says where its
/// caches go if not into `state/cache`.
pub(super) fn prepare_state(
    spec: &LaunchSpec,
    id: &str,
    serves: bool,
    loads: bool,
    owner_gid: u32,
) -> Result<Option<ScratchDir>> {
    if spec.account {
        sandbox_state::ensure_sealed(&spec.paths)?;
    }
    let same = sandbox_state::cache_is_of(&spec.paths, id);
    let who = sandbox_state::StateOwner::of(spec, owner_gid);
    if serves && !same {
        sandbox_state::renew_caches(&spec.paths, id, &who)?;
    }
    sandbox_state::strip_set_ids(
        spec.state_children().iter().chain(&spec.paths.home),
        &spec.paths,
        &who,
    );
    // A trial run, and whatever runs beside other code, has caches of its own.
    (!serves && (loads || !same))
        .then(|| ScratchDir::new(spec))
        .transpose()
}

/// A folder in `state/temp` for one launch's caches; its programs make it, and it goes with this.
pub(super) struct ScratchDir {
    pub path: std::path::PathBuf,
    uid: u32,
}

impl ScratchDir {
    fn new(spec: &LaunchSpec) -> Result<ScratchDir> {
        let name = fs::edit::random_suffix().context("find a name")?;
        Ok(ScratchDir {
            path: spec.paths.state_of("temp").join(format!("cache-{name}")),
            uid: spec.uid,
        })
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        // What cannot be removed goes with the next change of code.
        let _ = fs::remove::remove_of(&self.path, self.uid);
    }
}
