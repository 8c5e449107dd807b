//! Finds out whether ComfyUI answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::gateway::tokens::GatewayCredentials;
use crate::host::net::http::local_agent;

/// Asks once, and returns whether ComfyUI answers.
pub(crate) fn is_answering(address: &str, handle: Option<&GatewayCredentials>) -> bool {
    let url = reachable_url(address, "/system_stats");
    let mut request = local_agent().get(&url);
    if let Some(h) = handle {
        request = request.header(
            "Authorization",
            format!("Bearer {}", h.authorization_header()),
        );
    }
    request.call().is_ok()
}

/// Whether the gateway admits this user without a token, whether or not ComfyUI answers yet.
pub(crate) fn is_admitted(address: &str) -> bool {
    match local_agent().get(&reachable_url(address, "/")).call() {
        Ok(_) => true,
        Err(ureq::Error::StatusCode(code)) => code != 403,
        // The gateway refuses before it asks ComfyUI.
        Err(ureq::Error::Timeout(_)) => true,
        Err(_) => false,
    }
}

fn reachable_url(address: &str, path: &str) -> String {
    let host = address
        .replace("//0.0.0.0:", "//127.0.0.1:")
        .replace("//[::]:", "//[::1]:");
    format!("{host}{path}")
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
