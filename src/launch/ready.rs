//! Whether ComfyUI answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::gateway::tokens::Handle;

/// Asks once.
pub fn answers(address: &str, handle: Option<&Handle>) -> bool {
    let url = format!(
        "{}/system_stats",
        address
            .replace("//0.0.0.0:", "//127.0.0.1:")
            .replace("//[::]:", "//[::1]:")
    );
    let mut request = crate::host::net::http::local().get(&url);
    if let Some(h) = handle {
        request = request.header("Authorization", format!("Bearer {}", h.bearer()));
    }
    request.call().is_ok()
}

/// Asks again and again, until it answers or is over.
pub fn poll(
    address: &str,
    ready: &Arc<AtomicBool>,
    over: &Arc<AtomicBool>,
    handle: impl Fn() -> Option<Handle> + Send + 'static,
) {
    let (address, ready, over) = (address.to_string(), Arc::clone(ready), Arc::clone(over));
    std::thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            if answers(&address, handle().as_ref()) {
                ready.store(true, Ordering::Relaxed);
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    });
}
