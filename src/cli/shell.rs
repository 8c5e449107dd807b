use std::io::{IsTerminal, Read, Write};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use super::Global;
use super::run::{caveats, request};
use crate::host::roles::spawn::RoleProcess;
use crate::host::terminal::{Raw, Size, size};
use crate::host::{env, signals};
use crate::launch::client::{Asked, ask};
use crate::launch::{Answer, How, Word};
use crate::problem::{Doing, Problem, Result};
use crate::project::Project;
use crate::render::shell_screen::{RESTORE, Screen};

/// A shell where ComfyUI runs: same user, environment, walls and limits
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy shell                 python, pip's list, what a node can \
        see; `exit` ends it\n\nIt has a terminal of its own. Titles, clipboard and links that a \
        program inside sends do not reach yours."
)]
pub struct Args {}

pub fn run(global: &Global, _: &Args) -> Result<u8> {
    let project = Project::open(global)?;
    project.announce();
    let desired = project.desired()?;
    let here = size().filter(|_| std::io::stdin().is_terminal());
    let mut is = here.ok_or_else(|| {
        Problem::new("stdin or stdout is no terminal").hint("`comfy exec -- sh -c '…'` needs none")
    })?;
    let term = env::var("TERM").unwrap_or_else(|| "dumb".into());
    let Asked {
        answer,
        side:
            RoleProcess {
                mut child,
                mut stdin,
                mut reader,
            },
    } = ask(
        &request(&project, &desired, &[], How::Shell { size: is, term }),
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
    let raw = Raw::set()?;
    let (tell, typed) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = std::io::stdin().read(&mut buffer) {
            if tell.send(buffer[..n].to_vec()).is_err() {
                return;
            }
        }
    });
    // Its end ends the shell.
    std::thread::spawn(move || {
        loop {
            let word = match typed.recv_timeout(Duration::from_millis(100)) {
                Ok(bytes) => Some(Word::Typed(bytes)),
                Err(RecvTimeoutError::Timeout) => size()
                    .filter(|now: &Size| *now != is)
                    .inspect(|now| is = *now)
                    .map(Word::Sized),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if signals::interrupted()
                || word.is_some_and(|w| writeln!(stdin, "{}", w.line()).is_err())
            {
                return;
            }
        }
    });
    let (mut out, mut screen, mut buffer) =
        (std::io::stdout().lock(), Screen::default(), [0; 1 << 14]);
    while let Ok(n @ 1..) = reader.read(&mut buffer) {
        let _ = out
            .write_all(&screen.pass(&buffer[..n]))
            .and_then(|()| out.flush());
    }
    let _ = out.write_all(RESTORE).and_then(|()| out.flush());
    drop(raw);
    let status = child.wait().doing(|| "wait for the launcher".into())?;
    Ok(status
        .code()
        .and_then(|c| u8::try_from(c).ok())
        .unwrap_or(1))
}
