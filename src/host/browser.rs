//! The owner's browser.

use std::process::{Command, Stdio};

use super::env;
use super::machine::operating_system;
use super::tools::{self, first_existing};
use crate::problem::{Context, Result};

/// Hands an address to it; false where this session has none.
///
/// # Errors
/// The program that knows the browser cannot be started.
#[expect(
    clippy::disallowed_methods,
    reason = "as the owner, in the owner's own session"
)]
pub(crate) fn open_url(url: &str) -> Result<bool> {
    let mac = operating_system().is_macos();
    let session = mac || env::var("DISPLAY").is_some() || env::var("WAYLAND_DISPLAY").is_some();
    let Some(program) =
        first_existing(if mac { &[tools::OPEN] } else { tools::XDG_OPEN }).filter(|_| session)
    else {
        return Ok(false);
    };
    let status = Command::new(tools::located(program))
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .with_context(|| format!("start {program}"))?;
    Ok(status.success())
}
