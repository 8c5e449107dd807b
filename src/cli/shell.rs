use std::io::{IsTerminal, Read, Write};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use super::GlobalArgs;
use super::target::LaunchTarget;
use crate::host::roles::spawn::RoleProcess;
use crate::host::terminal::{RawMode, TerminalSize, caller_size};
use crate::host::{env, signals};
use crate::launch::client::LaunchHandle;
use crate::launch::{LaunchMode, ShellInput};
use crate::problem::{Context, Problem, Result};
use crate::render::shell_screen::{RESTORE, ShellScreen};

/// Open a shell where ComfyUI runs: same user, environment, confinement and limits
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy shell                 try python, pip list, or look at what \
        a node can see; `exit` leaves it\n\nThe shell has its own terminal. Titles, clipboard and \
        links that a program in it sends do not reach yours."
)]
pub(crate) struct ShellArgs {}

pub(crate) fn run(global: &GlobalArgs, _: &ShellArgs) -> Result<u8> {
    let target = LaunchTarget::open(global)?;
    let here = caller_size().filter(|_| std::io::stdin().is_terminal());
    let mut is = here.ok_or_else(|| {
        Problem::new("stdin or stdout is not a terminal")
            .with_hint("`comfy exec -- sh -c '…'` needs no terminal")
    })?;
    let term = env::var("TERM").unwrap_or_else(|| "dumb".into());
    let LaunchHandle {
        side:
            RoleProcess {
                mut child,
                mut stdin,
                mut reader,
            },
        ..
    } = target.launch(&[], LaunchMode::Shell { size: is, term })?;
    let raw = RawMode::enter_raw()?;
    let (tell, typed) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = std::io::stdin().read(&mut buffer) {
            if tell.send(buffer[..n].to_vec()).is_err() {
                return;
            }
        }
    });
    // Closing it ends the shell.
    std::thread::spawn(move || {
        loop {
            let word = match typed.recv_timeout(Duration::from_millis(100)) {
                Ok(bytes) => Some(ShellInput::Typed(bytes)),
                Err(RecvTimeoutError::Timeout) => caller_size()
                    .filter(|now: &TerminalSize| *now != is)
                    .inspect(|now| is = *now)
                    .map(ShellInput::Sized),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if signals::is_interrupted()
                || word.is_some_and(|w| writeln!(stdin, "{}", w.as_line()).is_err())
            {
                return;
            }
        }
    });
    let (mut out, mut screen, mut buffer) = (
        std::io::stdout().lock(),
        ShellScreen::default(),
        [0; 1 << 14],
    );
    while let Ok(n @ 1..) = reader.read(&mut buffer) {
        let _ = out
            .write_all(&screen.filter_bytes(&buffer[..n]))
            .and_then(|()| out.flush());
    }
    let _ = out.write_all(RESTORE).and_then(|()| out.flush());
    drop(raw);
    let status = child.wait().context("wait for the launcher")?;
    Ok(status
        .code()
        .and_then(|c| u8::try_from(c).ok())
        .unwrap_or(1))
}
