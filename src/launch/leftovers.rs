//! What a launch leaves running where no namespace ends with it (macOS): a process that left
//! ComfyUI's group, or a ComfyUI whose launcher was killed.

use super::processes::refuse_bad_ids;
use crate::desired::launch::LaunchSpec;
use crate::host::process;
use crate::problem::{Problem, Result};
use crate::records::running::LaunchesLock;

/// A launch of a sandbox user's, which ends what is left when it is the last one.
pub(super) struct LeftoversGuard {
    lock: LaunchesLock,
    uid: u32,
}

impl LeftoversGuard {
    /// Ends what an earlier launch left, unless another launch runs beside this one, such as a
    /// shell. `None` where there is nothing to do: a namespace ends with its launch, or the owner is
    /// the sandbox user.
    ///
    /// # Errors
    /// A process does not end.
    pub(super) fn begin(spec: &LaunchSpec) -> Result<Option<LeftoversGuard>> {
        if !spec.account || !spec.os.is_macos() {
            return Ok(None);
        }
        refuse_bad_ids(spec)?;
        let lock = LaunchesLock::acquire_shared(&spec.paths)?;
        let ended = lock.when_alone(|| process::end_all_of(spec.uid));
        ended
            .unwrap_or(Ok(()))
            .map_err(|p: Problem| p.with_prefix("an earlier launch left something running: "))?;
        Ok(Some(LeftoversGuard {
            lock,
            uid: spec.uid,
        }))
    }
}

impl Drop for LeftoversGuard {
    fn drop(&mut self) {
        // The next launch says what did not end.
        let _ = self.lock.when_alone(|| process::end_all_of(self.uid));
    }
}
