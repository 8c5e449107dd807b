//! A launch in the background: a launcher of its own, without the caller's terminal.

use std::io::BufRead;
use std::process::Stdio;

use super::{LaunchAnswer, LaunchRequest};
use crate::host::env;
use crate::host::roles::{Role, spawn, wire};
use crate::problem::{Context, Problem, Result};

/// Has a second launcher, with its own session, launch ComfyUI, and passes its answer on. It is
/// executed and not only forked: on macOS a process that goes on after fork(2) loses the services that
/// Metal needs.
pub(super) fn start_in_background(only: Option<&str>, request: LaunchRequest) -> Result<u8> {
    let mut c = spawn::role_command(Role::Launcher)?;
    c.args(only).stdout(Stdio::piped());
    // Whoever asked sudo for it is asked again whether the instance is theirs.
    c.envs(env::var("SUDO_UID").map(|uid| ("SUDO_UID", uid)));
    let mut child = c.spawn().context("start the launcher in the background")?;
    let request = LaunchRequest {
        in_background: true,
        ..request
    };
    spawn::send_config(&mut child, &request)?;
    let mut line = String::new();
    let stdout = child.stdout.take();
    let stdout = stdout.ok_or_else(|| Problem::new("no pipe from the launcher"))?;
    std::io::BufReader::new(stdout)
        .read_line(&mut line)
        .context("read the launcher's answer")?;
    let answer = serde_json::from_str(&line).unwrap_or_else(|_| {
        LaunchAnswer::Failed(Problem::new("the supervisor exited without an answer"))
    });
    wire::print_line(&answer);
    Ok(u8::from(matches!(answer, LaunchAnswer::Failed(_))))
}

/// Detaches from the terminal.
pub(super) fn detach_stdio() -> Result<()> {
    let null = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .context("open /dev/null")?;
    let to = "detach from the terminal";
    nix::unistd::dup2_stdin(&null).context(to)?;
    nix::unistd::dup2_stdout(&null).context(to)?;
    nix::unistd::dup2_stderr(&null).context(to)
}
