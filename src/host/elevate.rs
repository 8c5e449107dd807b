//! The single place that may elevate: it starts the root side of comfy, through sudo or, as root, directly.

use std::io::BufReader;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

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

/// Comfy's own program in another role, with a pipe to it and one back.
pub struct Side {
    pub child: Child,
    pub stdin: ChildStdin,
    pub reader: BufReader<ChildStdout>,
}

/// Starts comfy's own program with a hidden subcommand and pipes for the protocol, as root unless nobody is isolated;
/// sudo asks for the password on the terminal itself.
///
/// # Errors
/// No sudo on this machine, or comfy's own program cannot be found.
#[expect(clippy::disallowed_methods, reason = "the one place that elevates")]
pub fn side(subcommand: &str, isolated: bool) -> Result<Side> {
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
    let mut child = command.spawn().doing(|| "start the root side".into())?;
    let pipes = child.stdin.take().zip(child.stdout.take());
    let (stdin, stdout) = pipes.ok_or_else(|| Problem::new("no pipes to the root side"))?;
    Ok(Side { child, stdin, reader: BufReader::new(stdout) })
}

/// Makes this process, which is root by now, the side that launches: what the owner agreed to once is not asked twice.
#[expect(clippy::disallowed_methods, reason = "comfy itself, which goes on in another role")]
pub fn become_launcher() -> Problem {
    use std::os::unix::process::CommandExt;
    match std::env::current_exe() {
        Ok(own) => Problem::new(format!("could not start the launcher: {}", Command::new(own).arg(LAUNCH_SIDE).exec())),
        Err(e) => Problem::new(format!("could not find comfy's own program: {e}")),
    }
}
