use std::io::{Read, Write};

use super::GlobalArgs;
use super::target::LaunchTarget;
use crate::host::roles::spawn::RoleProcess;
use crate::host::signals;
use crate::launch::client::LaunchHandle;
use crate::launch::{KILL, LaunchMode, STOP};
use crate::problem::{Context, EXIT_INTERRUPTED, Result};

/// Run a program the way ComfyUI runs: same user, environment and limits
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy exec -- python -c 'import torch; print(torch.__version__)'\n  \
        comfy exec -- ls -l /          what a node can see\n\nOutput and exit code are passed through (127: \
        there is no such program); stdin is empty, and the program has no network."
)]
pub(crate) struct ExecArgs {
    /// The program and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

pub(crate) fn run(global: &GlobalArgs, args: &ExecArgs) -> Result<u8> {
    let target = LaunchTarget::open(global)?;
    let LaunchHandle {
        side:
            RoleProcess {
                mut child,
                mut stdin,
                mut reader,
            },
        ..
    } = target.launch(&[], LaunchMode::Once(args.command.clone()))?;
    // The first Ctrl-C stops it, the second kills it.
    std::thread::spawn(move || {
        let mut asked = 0;
        loop {
            let count = signals::interrupt_count();
            if count > asked {
                let _ = writeln!(stdin, "{}", if count > 1 { KILL } else { STOP });
                asked = count;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    });
    let (mut out, mut buffer) = (std::io::stdout().lock(), [0; 1 << 16]);
    loop {
        match reader.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            // The reader closed the pipe and wants no more output.
            Ok(n) => drop(out.write_all(&buffer[..n]).and_then(|()| out.flush())),
        }
    }
    let status = child.wait().context("wait for the launcher")?;
    if signals::is_interrupted() {
        return Ok(EXIT_INTERRUPTED);
    }
    Ok(status
        .code()
        .and_then(|c| u8::try_from(c).ok())
        .unwrap_or(1))
}
