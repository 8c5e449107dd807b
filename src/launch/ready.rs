//! Finds out whether ComfyUI answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::gateway::tokens::GatewayCredentials;

/// Asks once, and returns whether ComfyUI answers.
pub(crate) fn is_answering(address: &str, handle: Option<&GatewayCredentials>) -> bool {
    let url = format!(
        "{}/system_stats",
        address
            .replace("//0.0.0.0:", "//127.0.0.1:")
            .replace("//[::]:", "//[::1]:")
    );
    let mut request = crate::host::net::http::local_agent().get(&url);
    if let Some(h) = handle {
        request = request.header(
            "Authorization",
            format!("Bearer {}", h.authorization_header()),
        );
    }
    request.call().is_ok()
}

/// Asks repeatedly until ComfyUI answers or has exited.
pub(crate) fn poll_until_ready(
    address: &str,
    ready: &Arc<AtomicBool>,
    over: &Arc<AtomicBool>,
    handle: impl Fn() -> Option<GatewayCredentials> + Send + 'static,
) {
    let (address, ready, over) = (address.to_string(), Arc::clone(ready), Arc::clone(over));
    std::thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            if is_answering(&address, handle().as_ref()) {
                ready.store(true, Ordering::Relaxed);
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    });
}
