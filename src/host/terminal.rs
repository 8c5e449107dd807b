//! Terminals: one of a launch's own (pty(7)), and the caller's while a shell has it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcflush, tcgetattr, tcsetattr};

use crate::problem::{Context, Result};

/// Rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TerminalSize {
    pub rows: u16,
    pub columns: u16,
}

impl TerminalSize {
    fn as_winsize(self) -> Winsize {
        Winsize {
            ws_row: self.rows,
            ws_col: self.columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        }
    }
}

/// A new one: the side that holds it, and the side that programs see.
///
/// # Errors
/// The system has none left.
pub fn open_pty(size: TerminalSize) -> Result<(OwnedFd, OwnedFd)> {
    let OpenptyResult { master, slave } =
        openpty(Some(&size.as_winsize()), None).context("open a terminal for the shell")?;
    for fd in [&master, &slave] {
        nix::fcntl::fcntl(
            fd,
            nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC),
        )
        .context("keep the terminal to itself")?;
    }
    Ok((master, slave))
}

/// Tells its programs another size.
pub(crate) fn set_size(master: &impl AsRawFd, size: TerminalSize) {
    // SAFETY: the structure lives through the call (ioctl_tty(2)). One that fails leaves the size
    // as it was.
    unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &size.as_winsize()) };
}

/// How large the caller's own is; `None` where stdout is no terminal.
pub(crate) fn caller_size() -> Option<TerminalSize> {
    let mut w = Winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the structure lives through the call (ioctl_tty(2)).
    Errno::result(unsafe {
        libc::ioctl(std::io::stdout().as_raw_fd(), libc::TIOCGWINSZ, &raw mut w)
    })
    .ok()?;
    Some(TerminalSize {
        rows: w.ws_row.max(1),
        columns: w.ws_col.max(1),
    })
}

/// Makes it the controlling terminal of this process, which leads a session that has none.
///
/// # Errors
/// The system's own.
pub(crate) fn set_controlling(slave: &OwnedFd) -> Result<()> {
    // SAFETY: a plain call (ioctl_tty(2)); 0: nobody else's is taken away.
    Errno::result(unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY as _, 0) })
        .context("take the terminal")?;
    Ok(())
}

/// The caller's terminal, that passes every key on as it is; as it was before once this is gone.
pub(crate) struct RawMode(Termios);

impl RawMode {
    /// # Errors
    /// stdin is no terminal.
    pub(crate) fn enter_raw() -> Result<RawMode> {
        let was = tcgetattr(std::io::stdin()).context("ask the terminal how it is set")?;
        let mut raw = was.clone();
        cfmakeraw(&mut raw);
        tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &raw).context("set the terminal")?;
        Ok(RawMode(was))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let stdin = std::io::stdin();
        // Answers to questions that a program inside has put to the terminal are not for the
        // owner's shell.
        let _ = tcflush(stdin.as_fd(), nix::sys::termios::FlushArg::TCIFLUSH);
        let _ = tcsetattr(stdin, SetArg::TCSAFLUSH, &self.0);
    }
}

/// Shows a text in the pager of the environment, `less` by default, if stdout is a terminal and the
/// pager starts; else returns false.
#[expect(clippy::disallowed_methods, reason = "the owner's own pager")]
pub(crate) fn page_text(text: &str) -> bool {
    use std::io::{IsTerminal, Write};
    if !std::io::stdout().is_terminal() || nix::unistd::geteuid().is_root() {
        return false;
    }
    let asked = super::env::var("PAGER").filter(|p| !p.trim().is_empty());
    let words = asked
        .and_then(|p| shlex::split(&p))
        .filter(|w| !w.is_empty())
        .unwrap_or_else(|| vec!["less".into(), "-RX".into()]);
    let mut command = std::process::Command::new(&words[0]);
    command
        .args(&words[1..])
        .stdin(std::process::Stdio::piped());
    let Ok(mut pager) = command.spawn() else {
        return false;
    };
    if let Some(mut stdin) = pager.stdin.take() {
        // Whoever leaves the pager early wants no more.
        let _ = stdin.write_all(crate::text::sanitize(text, false).as_bytes());
    }
    let _ = pager.wait();
    true
}
