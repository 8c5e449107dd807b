//! Commands for a running launch, over a socket among the records, from its owner or root only.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;

use super::{KILL, STOP};
use crate::desired::InstancePaths;
use crate::host::fs::edit;
use crate::problem::{Context, Problem, Result};

/// The socket of a launch, removed when dropped.
pub(crate) struct ControlSocket(PathBuf);

/// Bytes of the longest path of a socket, on the system that allows least.
const LONGEST_PATH: usize = 103;

impl ControlSocket {
    /// Passes the owner's commands on to `tell`. A connection stays open until this process exits,
    /// which the other side notices.
    ///
    /// # Errors
    /// The socket cannot be created.
    pub(crate) fn open_socket(
        paths: &InstancePaths,
        owner: u32,
        owner_gid: u32,
        tell: Sender<String>,
    ) -> Result<ControlSocket> {
        let path = paths.control_socket();
        refuse_long_path(&path)?;
        let doing = || format!("listen at {}", path.display());
        edit::remove_path(&path).with_context(doing)?;
        let listener = UnixListener::bind(&path).with_context(doing)?;
        if nix::unistd::geteuid().is_root() {
            // The folder is root's and open only to the owner's group; the peer's uid is checked as
            // well.
            edit::set_owner(&path, 0, owner_gid, 0o660).with_context(doing)?;
        }
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming().flatten() {
                if !peer_uid(&stream).is_some_and(|uid| uid == owner || uid == 0) {
                    continue;
                }
                let mut line = String::new();
                let _ = stream.set_read_timeout(Some(std::time::Duration::from_secs(2)));
                // A command is at most one word.
                if BufReader::new((&stream).take(64))
                    .read_line(&mut line)
                    .is_ok()
                    && [STOP, KILL].contains(&line.trim())
                {
                    if tell.send(line.trim().to_string()).is_err() {
                        return;
                    }
                    open.push(stream);
                }
            }
        });
        Ok(ControlSocket(path))
    }
}

/// Refuses a path that no socket can have on macOS: 103 bytes and a NUL (sys/un.h; Linux has 108).
fn refuse_long_path(path: &Path) -> Result<()> {
    let length = path.as_os_str().len();
    if length <= LONGEST_PATH {
        return Ok(());
    }
    Err(Problem::new(format!(
        "{} has {length} bytes, and the path of a socket may have {LONGEST_PATH}",
        path.display()
    ))
    .with_hint("choose a shorter [host] prefix, then `comfy apply`"))
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // The next launch removes what is left.
        let _ = edit::remove_path(&self.0);
    }
}

/// The uid at the other end.
#[cfg(target_os = "linux")]
fn peer_uid(stream: &UnixStream) -> Option<u32> {
    use nix::sys::socket::getsockopt;
    use nix::sys::socket::sockopt::PeerCredentials;
    getsockopt(&stream.as_fd(), PeerCredentials)
        .ok()
        .map(|c| c.uid())
}

#[cfg(not(target_os = "linux"))]
fn peer_uid(stream: &UnixStream) -> Option<u32> {
    nix::unistd::getpeereid(stream.as_fd())
        .ok()
        .map(|(uid, _)| uid.as_raw())
}

/// Sends a command and waits until the launch has ended. Another Ctrl-C kills it.
///
/// # Errors
/// Nothing listens, or the caller may not connect.
pub(crate) fn send_stop(paths: &InstancePaths) -> Result<()> {
    let say = |word: &str| -> Result<UnixStream> {
        let mut stream = UnixStream::connect(paths.control_socket()).map_err(|e| {
            Problem::new(format!(
                "could not connect to {}: {e}",
                paths.control_socket().display()
            ))
            .caused_by(&e)
            .with_hint("are you its owner? `comfy status` shows what is running")
        })?;
        writeln!(stream, "{word}").with_context(|| format!("send {word}"))?;
        Ok(stream)
    };
    let mut stream = say(STOP)?;
    stream
        .set_read_timeout(Some(std::time::Duration::from_millis(100)))
        .context("wait until it has stopped")?;
    let mut asked = crate::host::signals::interrupt_count();
    loop {
        match stream.read(&mut [0; 8]) {
            Ok(0) => return Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return Ok(()),
            _ if crate::host::signals::interrupt_count() > asked => {
                asked = crate::host::signals::interrupt_count();
                say(KILL)?;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_too_long_for_a_socket_is_refused_with_the_remedy() {
        let path = |n: usize| PathBuf::from(format!("/{}", "p".repeat(n - 1)));
        assert!(refuse_long_path(&path(LONGEST_PATH)).is_ok());
        let refused = refuse_long_path(&path(LONGEST_PATH + 1)).unwrap_err();
        assert!(refused.to_string().contains("[host] prefix"), "{refused}");
    }
}
