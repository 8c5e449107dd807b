//! Ends the process at a chosen step, for the crash tests: compiled in by the feature `faults`
//! alone.

use crate::plan::Step;

/// `COMFY_FAULT=kill:3` ends the process by SIGKILL before step 3.
#[cfg(feature = "faults")]
pub(crate) fn fault_point(number: usize, _: &Step) {
    let wanted = super::env::test_switch("COMFY_FAULT")
        .and_then(|v| v.strip_prefix("kill:")?.parse::<usize>().ok());
    if wanted == Some(number) {
        // Not even a destructor runs.
        let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::SIGKILL);
    }
}

#[cfg(not(feature = "faults"))]
pub(crate) fn fault_point(_: usize, _: &Step) {}
