//! Looks up the uid at the other end of a TCP connection on this machine.

#[cfg(any(test, target_os = "macos"))]
mod pcb_list;
#[cfg(target_os = "linux")]
mod sock_diag;

use std::net::SocketAddr;

/// Returns the uid of the process that made the socket at `peer`, connected to `own`.
pub trait PeerLookup: Send + Sync {
    /// `Ok(None)`: the socket no longer exists, or no process has it.
    ///
    /// # Errors
    /// [`std::io::ErrorKind::Unsupported`]: this system does not tell. Any other: it does, but not of
    /// this socket.
    fn uid(&self, peer: SocketAddr, own: SocketAddr) -> std::io::Result<Option<u32>>;
}

/// The system's own way, opened in the network that the connections come from.
///
/// # Errors
/// The system refuses the socket that answers.
pub fn of_this_system() -> std::io::Result<Box<dyn PeerLookup>> {
    #[cfg(target_os = "linux")]
    return Ok(Box::new(sock_diag::SockDiag::open()?));
    #[cfg(target_os = "macos")]
    return Ok(Box::new(pcb_list::PcbList));
}
