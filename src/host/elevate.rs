//! The single place that may elevate: it starts the root side of comfy, through sudo or, as root, directly.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::process::first_existing;
use crate::problem::{Doing, Problem, Result};

/// The hidden subcommand of the root side.
pub const ROOT_SIDE: &str = "__root";

/// The hidden subcommand that launches ComfyUI.
pub const LAUNCH_SIDE: &str = "__launch";

/// The hidden subcommand that becomes ComfyUI.
pub const CELL_SIDE: &str = "__cell";

/// The hidden subcommand that serves ComfyUI's port.
pub const FRONT_SIDE: &str = "__front";

/// The hidden subcommand that keeps the log.
pub const SCRIBE_SIDE: &str = "__log";

/// Starts the root side; see [`side`].
///
/// # Errors
/// As [`side`].
pub fn root_side() -> Result<Child> {
    side(ROOT_SIDE, true)
}

/// Starts comfy's own program with a hidden subcommand and pipes for the protocol, as root unless nobody is isolated;
/// sudo asks for the password on the terminal itself.
///
/// # Errors
/// No sudo on this machine, or comfy's own program cannot be found.
#[expect(clippy::disallowed_methods, reason = "the one place that elevates")]
pub fn side(subcommand: &str, isolated: bool) -> Result<Child> {
    let own: PathBuf = std::env::current_exe().doing(|| "find comfy's own program".into())?;
    let mut command = if !isolated || nix::unistd::geteuid().is_root() {
        let mut c = Command::new(&own);
        c.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        for name in ["SUDO_USER", "SUDO_UID"] {
            if let Some(v) = super::env::var(name) {
                c.env(name, v);
            }
        }
        if cfg!(feature = "faults")
            && let Some(v) = super::env::var("COMFY_FAULT")
        {
            c.env("COMFY_FAULT", v);
        }
        c
    } else {
        let sudo = first_existing(&["/usr/bin/sudo", "/usr/local/bin/sudo", "/opt/homebrew/bin/sudo"])
            .ok_or_else(|| Problem::new("this needs root, and sudo is not on this machine").hint("run the same command as root"))?;
        let mut c = Command::new(sudo);
        c.arg("--").arg(&own);
        c
    };
    command.arg(subcommand).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command.spawn().doing(|| "start the root side".into())
}
