//! Ctrl-C: asked for by a flag that long jobs look at between steps, so that nothing ends half
//! done.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on SIGINT, SIGTERM and SIGHUP set a flag instead of ending the process. With
/// `second_ends` a second one does end it; the root side goes without, since that would leave steps
/// undone for no gain.
pub(crate) fn install_handlers(second_ends: bool) {
    let flag = FLAG.get_or_init(|| Arc::new(AtomicBool::new(false)));
    for signal in [
        signal_hook::consts::SIGINT,
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGHUP,
    ] {
        // In this order: the second signal finds the flag set. A signal that cannot be watched
        // keeps its default.
        if second_ends {
            let _ = signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(flag));
        }
        let _ = signal_hook::flag::register(signal, Arc::clone(flag));
        // SAFETY: an atomic addition is all that the handler does.
        let _ = unsafe {
            signal_hook::low_level::register(signal, || {
                COUNT.fetch_add(1, Ordering::Relaxed);
            })
        };
    }
}

static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

/// How often somebody asked comfy to stop.
pub(crate) fn interrupt_count() -> usize {
    COUNT.load(Ordering::Relaxed)
}

/// Whether somebody asked comfy to stop.
pub(crate) fn is_interrupted() -> bool {
    FLAG.get().is_some_and(|f| f.load(Ordering::Relaxed))
}

/// Takes it back: what follows undoes what was interrupted.
pub(crate) fn forget_interrupt() {
    if let Some(flag) = FLAG.get() {
        flag.store(false, Ordering::Relaxed);
    }
}
