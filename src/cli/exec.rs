use std::io::{Read, Write};

use super::Global;
use super::run::{caveats, request};
use crate::host::roles::spawn::RoleProcess;
use crate::host::signals;
use crate::launch::client::{Asked, ask};
use crate::launch::{Answer, How, KILL, STOP};
use crate::problem::{Doing, EXIT_INTERRUPTED, Result};
use crate::project::Project;

/// Run a program as ComfyUI is run: same user, environment and limits
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy exec -- python -c 'import torch; print(torch.__version__)'\n  \
        comfy exec -- ls -l /          what a node can see\n\nIts output is passed on as it is; it \
        has no input, and a network of its own with nobody in it."
)]
pub struct Args {
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

pub fn run(global: &Global, args: &Args) -> Result<u8> {
    let project = Project::open(global)?;
    project.announce();
    let desired = project.desired()?;
    let Asked {
        answer,
        side:
            RoleProcess {
                mut child,
                mut stdin,
                mut reader,
            },
    } = ask(
        &request(&project, &desired, &[], How::Once(args.command.clone())),
        &desired.paths,
        project.isolated(),
    )?;
    if let Answer::Started {
        generation,
        unknown,
        lacking,
        ..
    } = &answer
    {
        caveats(&desired, generation, unknown, lacking);
    }
    // Ctrl-C ends it, a second one at once.
    std::thread::spawn(move || {
        let mut asked = 0;
        loop {
            let count = signals::count();
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
            // Someone who closed the pipe wants no more of it.
            Ok(n) => drop(out.write_all(&buffer[..n]).and_then(|()| out.flush())),
        }
    }
    let status = child.wait().doing(|| "wait for the launcher".into())?;
    if signals::interrupted() {
        return Ok(EXIT_INTERRUPTED);
    }
    Ok(status
        .code()
        .and_then(|c| u8::try_from(c).ok())
        .unwrap_or(1))
}
