//! Linux: one socket, asked for by both of its addresses (sock_diag(7)).

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Mutex;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// The socket that answers.
pub(super) struct SockDiag(Mutex<OwnedFd>);

impl SockDiag {
    pub(super) fn open() -> std::io::Result<SockDiag> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkSockDiag,
        )?;
        Ok(SockDiag(Mutex::new(fd)))
    }
}

impl super::PeerLookup for SockDiag {
    fn uid(&self, peer: SocketAddr, own: SocketAddr) -> std::io::Result<Option<u32>> {
        use std::os::fd::AsRawFd;
        let fd = self
            .0
            .lock()
            .map_err(|_| std::io::Error::other("the socket that answers is lost"))?;
        send(fd.as_raw_fd(), &diag_request(peer, own), MsgFlags::empty())?;
        let mut answer = [0_u8; 4096];
        let n = recv(fd.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        Ok(uid_of(&answer[..n]))
    }
}

/// nlmsghdr and inet_diag_req_v2 (linux/netlink.h, linux/inet_diag.h).
fn diag_request(peer: SocketAddr, own: SocketAddr) -> Vec<u8> {
    let bytes = |ip: IpAddr| {
        let mut b = [0_u8; 16];
        match ip.to_canonical() {
            IpAddr::V4(v4) => b[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => b = v6.octets(),
        }
        b
    };
    let v4 = peer.ip().to_canonical().is_ipv4();
    let family = if v4 {
        nix::libc::AF_INET
    } else {
        nix::libc::AF_INET6
    };
    let mut m = Vec::with_capacity(72);
    m.extend(72_u32.to_ne_bytes());
    // SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST.
    m.extend(20_u16.to_ne_bytes());
    m.extend(1_u16.to_ne_bytes());
    m.extend([0; 8]);
    m.extend([family as u8, nix::libc::IPPROTO_TCP as u8, 0, 0]);
    m.extend(u32::MAX.to_ne_bytes());
    m.extend(peer.port().to_be_bytes());
    m.extend(own.port().to_be_bytes());
    m.extend(bytes(peer.ip()));
    m.extend(bytes(own.ip()));
    m.extend([0; 4]);
    // INET_DIAG_NOCOOKIE, twice.
    m.extend([0xff; 8]);
    m
}

/// From inet_diag_msg. A socket that nobody holds any more has no inode, and its uid says
/// nothing: root's, in most kernels.
fn uid_of(answer: &[u8]) -> Option<u32> {
    let number = |at: usize| {
        answer
            .get(at..at + 4)
            .and_then(|b| b.try_into().ok())
            .map(u32::from_ne_bytes)
    };
    let kind = answer
        .get(4..6)
        .and_then(|b| b.try_into().ok())
        .map(u16::from_ne_bytes);
    let (uid, inode) = (number(16 + 64)?, number(16 + 68)?);
    (kind == Some(20) && inode != 0).then_some(uid)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::super::PeerLookup;
    use super::*;

    #[test]
    fn the_owner_of_a_connection_is_told_and_nobody_once_it_is_closed() {
        let diag = SockDiag::open().unwrap();
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                continue;
            };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, peer) = listener.accept().unwrap();
            let own = server.local_addr().unwrap();
            assert_eq!(
                diag.uid(peer, own).unwrap(),
                Some(nix::unistd::geteuid().as_raw())
            );
            drop(client);
            assert_eq!(
                diag.uid(peer, own).unwrap(),
                None,
                "an orphan is nobody's, least of all root's"
            );
            assert_eq!(diag.uid("127.0.0.1:1".parse().unwrap(), own).unwrap(), None);
        }
    }
}
