//! Prepares the disk before a launch: shares, and the sandbox user's own folders.

use super::add_only_probe;
use crate::confine::Confinement;
use crate::desired::launch::LaunchSpec;
use crate::host::confine::opened_paths::OpenedPaths;
use crate::host::{fs, sandbox_state, shares, user_data};
use crate::manifest::ShareAccess;
use crate::plan::observed::ShareSpec;
use crate::problem::{Context, Result};

/// Repairs a share before ComfyUI may use it, through its open descriptor.
pub(super) fn repair_share(
    spec: &LaunchSpec,
    s: &ShareSpec,
    c: &Confinement,
    everything: &OpenedPaths,
    lacking: &mut Vec<String>,
) -> Result<()> {
    // Unconfined probes test the account alone, with the modes as they are, so nothing is repaired.
    let Some(fd) = everything.at(c, &s.path) else {
        return Ok(());
    };
    // The owner's umask may have removed the group's write permission from a new folder; in a
    // folder of its own the sandbox user could remove the owner's files.
    if s.manage && s.access != ShareAccess::Read {
        shares::mend_opened(
            s,
            fs::open_dir_at(fd, c".").with_context(|| format!("open share {}", s.name))?,
        )?;
    }
    // There is no other protection: the confinement lets it write where it may add.
    if s.access == ShareAccess::Add {
        match add_only_probe::added_to(spec, s, fd) {
            Err(p) if !spec.require_confinement => lacking.push(p.message),
            other => other?,
        }
    }
    Ok(())
}

/// Brings the sandbox user's own folders to the state that this launch may see, and returns where
/// its caches go if not into `state/cache`. `notes` takes what the user should know.
pub(super) fn prepare_state(
    spec: &LaunchSpec,
    id: &str,
    serves: bool,
    loads: bool,
    owner_gid: u32,
    notes: &mut Vec<String>,
) -> Result<Option<ScratchDir>> {
    if spec.account {
        sandbox_state::ensure_sealed(&spec.paths)?;
    }
    let same = sandbox_state::cache_is_of(&spec.paths, id);
    let who = sandbox_state::StateOwner::of(spec, owner_gid);
    if serves && let Some(change) = user_data::prepare_user_data(&spec.paths, id, &who)? {
        notes.push(change.message());
    }
    if serves && !same {
        sandbox_state::renew_caches(&spec.paths, id, &who)?;
    }
    sandbox_state::strip_set_ids(
        spec.state_children().iter().chain(&spec.paths.home),
        &spec.paths,
        &who,
    );
    // An import check, and anything that runs beside other code, has its own caches.
    (!serves && (loads || !same))
        .then(|| ScratchDir::new(spec))
        .transpose()
}

/// A folder in `state/temp` for the caches of one launch; its programs create it, and it is removed
/// when dropped.
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
        // The next change of code removes what is left.
        let _ = fs::remove::remove_of(&self.path, self.uid);
    }
}
