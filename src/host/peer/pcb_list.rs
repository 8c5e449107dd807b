//! macOS: the list of all TCP sockets, `net.inet.tcp.pcblist_n`, which every user may read and on
//! which netstat(1) lives (xnu: bsd/netinet/in_pcblist.c, bsd/sys/socketvar.h, bsd/netinet/in_pcb.h,
//! packed to 4 bytes). It has a head and a tail of the same form, and between them for each socket
//! several records, each with its length and kind, the first of which has the addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Whose a socket is, as the list has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SocketOwner {
    /// The uid of whoever made it.
    Uid(u32),
    /// The list does not tell: it is damaged, two sockets match, or what matches is no socket of the
    /// kernel's. A flow in user space has uid 0 there, which is not root's.
    Untold,
    /// No such connection is established.
    Gone,
}

/// `struct xinpgen`: the head and the tail.
const GENERATION: usize = 24;
/// The kinds of records (in_pcb.h, XSO_*).
const ADDRESSES: u32 = 0x10;
const SOCKET: u32 = 0x01;
const STATE: u32 = 0x20;
/// TCPS_ESTABLISHED (tcp_fsm.h). In any other state whoever made it may have closed it.
const ESTABLISHED: u32 = 4;

/// The records of one socket.
#[derive(Default)]
struct ListedSocket<'a> {
    addresses: &'a [u8],
    socket: Option<&'a [u8]>,
    state: Option<&'a [u8]>,
}

/// Whose the socket at `local` is that is connected to `foreign`, both as that end has them.
fn owner_in(list: &[u8], local: SocketAddr, foreign: SocketAddr) -> SocketOwner {
    let Some(sockets) = listed_sockets(list) else {
        return SocketOwner::Untold;
    };
    let mut found = SocketOwner::Gone;
    for s in sockets {
        if s.connects(local, foreign) != Some(true) {
            continue;
        }
        let Some(owner) = s.owner() else {
            return SocketOwner::Untold;
        };
        found = match (owner, found) {
            (SocketOwner::Gone, before) => before,
            (one, SocketOwner::Gone) => one,
            (one, before) if one == before => one,
            _ => return SocketOwner::Untold,
        };
    }
    found
}

/// Splits the list; `None`: it is damaged or cut off.
fn listed_sockets(list: &[u8]) -> Option<Vec<ListedSocket<'_>>> {
    let head = usize::try_from(u32_at(list, 0)?).ok()?;
    if head < GENERATION {
        return None;
    }
    let mut rest = list.get(head.next_multiple_of(8)..)?;
    let mut all: Vec<ListedSocket> = Vec::new();
    while rest.len() > GENERATION {
        let len = usize::try_from(u32_at(rest, 0)?).ok()?;
        let record = rest.get(..len).filter(|r| r.len() >= 8)?;
        match u32_at(record, 4)? {
            ADDRESSES => all.push(ListedSocket {
                addresses: record,
                ..ListedSocket::default()
            }),
            SOCKET => all.last_mut()?.socket = Some(record),
            STATE => all.last_mut()?.state = Some(record),
            _ => {}
        }
        rest = rest.get(len.next_multiple_of(8)..)?;
    }
    // The tail says that nothing is missing.
    let ends = rest.len() == GENERATION && u32_at(rest, 0)? as usize == GENERATION;
    ends.then_some(all)
}

impl ListedSocket<'_> {
    /// Whether these are its addresses (`struct xinpcb_n`).
    fn connects(&self, local: SocketAddr, foreign: SocketAddr) -> Option<bool> {
        let b = self.addresses;
        let v4 = b.get(44)? & 1 != 0;
        let ip = |at: usize| -> Option<IpAddr> {
            let bytes: [u8; 16] = b.get(at..at + 16)?.try_into().ok()?;
            let [.., a, b, c, d] = bytes;
            Some(match v4 {
                true => Ipv4Addr::new(a, b, c, d).into(),
                false => IpAddr::from(Ipv6Addr::from(bytes)).to_canonical(),
            })
        };
        let is = |port: usize, address: usize, wanted: SocketAddr| {
            let port = u16::from_be_bytes(b.get(port..port + 2)?.try_into().ok()?);
            Some(port == wanted.port() && ip(address)? == wanted.ip().to_canonical())
        };
        Some(is(16, 48, foreign)? && is(18, 64, local)?)
    }

    /// Whose it is (`struct xsocket_n`, `struct xtcpcb_n`); `None`: a record is missing or too short.
    fn owner(&self) -> Option<SocketOwner> {
        if u32_at(self.state?, 36)? != ESTABLISHED {
            return Some(SocketOwner::Gone);
        }
        let socket = self.socket?;
        let pointer = socket.get(8..16)?;
        let (family, uid) = (u32_at(socket, 40)?, u32_at(socket, 64)?);
        Some(match family != 0 && pointer.iter().any(|b| *b != 0) {
            true => SocketOwner::Uid(uid),
            false => SocketOwner::Untold,
        })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(bytes))
}

/// Reads the whole list at each question.
#[cfg(target_os = "macos")]
pub(super) struct PcbList;

#[cfg(target_os = "macos")]
impl super::PeerLookup for PcbList {
    fn uid(&self, peer: SocketAddr, own: SocketAddr) -> std::io::Result<Option<u32>> {
        match owner_in(&read_list()?, peer, own) {
            SocketOwner::Uid(uid) => Ok(Some(uid)),
            SocketOwner::Gone => Ok(None),
            SocketOwner::Untold => Err(std::io::Error::other(
                "macOS does not tell whose this connection is",
            )),
        }
    }
}

/// # Errors
/// As of `Unsupported` where this macOS has no such list, or keeps it from this process.
#[cfg(target_os = "macos")]
fn read_list() -> std::io::Result<Vec<u8>> {
    use nix::errno::Errno;
    use nix::libc;
    let ask = |to: *mut libc::c_void, size: &mut usize| {
        let name = c"net.inet.tcp.pcblist_n".as_ptr();
        // SAFETY: the place is as large as is said, or null, where only the size is asked for.
        Errno::result(unsafe { libc::sysctlbyname(name, to, size, std::ptr::null_mut(), 0) })
    };
    let untold = |_| std::io::Error::from(std::io::ErrorKind::Unsupported);
    // It grows while it is read.
    for _ in 0..3 {
        let mut size = 0;
        ask(std::ptr::null_mut(), &mut size).map_err(untold)?;
        let mut list = vec![0_u8; size + size / 4];
        let mut size = list.len();
        match ask(list.as_mut_ptr().cast(), &mut size) {
            Ok(_) => {
                list.truncate(size);
                return Ok(list);
            }
            Err(Errno::ENOMEM) => {}
            Err(e) => return Err(untold(e)),
        }
    }
    Err(std::io::Error::other(
        "the list of connections grows too fast",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "127.0.0.1:5000";
    const OWN: &str = "127.0.0.1:8188";

    struct Made<'a> {
        local: &'a str,
        foreign: &'a str,
        pointer: u64,
        family: u32,
        uid: u32,
        state: u32,
    }

    fn owners<'a>(uid: u32) -> Made<'a> {
        Made {
            local: PEER,
            foreign: OWN,
            pointer: 7,
            family: 2,
            uid,
            state: ESTABLISHED,
        }
    }

    fn record(len: usize, kind: u32, fields: &[(usize, &[u8])]) -> Vec<u8> {
        let mut b = vec![0; len.next_multiple_of(8)];
        let head = [
            (0, &(len as u32).to_ne_bytes()[..]),
            (4, &kind.to_ne_bytes()[..]),
        ];
        for (at, bytes) in head.iter().chain(fields) {
            b[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        b
    }

    /// As the kernel lays it out, with the records between that nobody reads.
    fn made(m: &Made) -> Vec<u8> {
        let address = |text: &str| -> (u16, [u8; 16], bool) {
            let a: SocketAddr = text.parse().unwrap();
            let mut bytes = [0; 16];
            match a.ip() {
                IpAddr::V4(v4) => bytes[12..].copy_from_slice(&v4.octets()),
                IpAddr::V6(v6) => bytes = v6.octets(),
            }
            (a.port(), bytes, a.is_ipv4())
        };
        let ((port, ip, v4), (far, other, _)) = (address(m.local), address(m.foreign));
        [
            record(
                104,
                ADDRESSES,
                &[
                    (16, &far.to_be_bytes()),
                    (18, &port.to_be_bytes()),
                    (44, &[if v4 { 1 } else { 2 }]),
                    (48, &other),
                    (64, &ip),
                ],
            ),
            record(
                76,
                SOCKET,
                &[
                    (8, &m.pointer.to_ne_bytes()),
                    (40, &m.family.to_ne_bytes()),
                    (64, &m.uid.to_ne_bytes()),
                ],
            ),
            record(32, 0x02, &[]),
            record(32, 0x04, &[]),
            record(204, STATE, &[(36, &m.state.to_ne_bytes())]),
        ]
        .concat()
    }

    fn list(sockets: &[Vec<u8>]) -> Vec<u8> {
        let end = record(GENERATION, 9, &[]);
        [end.clone(), sockets.concat(), end].concat()
    }

    fn told(list: &[u8]) -> SocketOwner {
        owner_in(list, PEER.parse().unwrap(), OWN.parse().unwrap())
    }

    fn told_of(sockets: &[Made]) -> SocketOwner {
        told(&list(&sockets.iter().map(made).collect::<Vec<_>>()))
    }

    #[test]
    fn a_connection_is_of_whoever_made_its_socket() {
        // The end that asks is in the list too.
        let own = || Made {
            local: OWN,
            foreign: PEER,
            ..owners(58200)
        };
        assert_eq!(told_of(&[own(), owners(501)]), SocketOwner::Uid(501));
        assert_eq!(told_of(&[owners(0), own()]), SocketOwner::Uid(0));
        assert_eq!(told_of(&[own()]), SocketOwner::Gone);
        assert_eq!(told_of(&[]), SocketOwner::Gone);
        let other = |local| Made {
            local,
            ..owners(501)
        };
        for local in ["127.0.0.1:5001", "127.0.0.2:5000", "[::1]:5000"] {
            assert_eq!(told_of(&[other(local)]), SocketOwner::Gone, "{local}");
        }
        let mapped = Made {
            local: "[::ffff:127.0.0.1]:5000",
            foreign: "[::ffff:127.0.0.1]:8188",
            family: 30,
            ..owners(501)
        };
        assert_eq!(told_of(&[mapped]), SocketOwner::Uid(501));
    }

    #[test]
    fn what_the_list_does_not_tell_is_nobodys_and_least_of_all_roots() {
        let flow = Made {
            pointer: 0,
            family: 0,
            ..owners(0)
        };
        assert_eq!(told_of(&[flow]), SocketOwner::Untold, "in user space");
        let bare = Made {
            family: 0,
            ..owners(0)
        };
        assert_eq!(told_of(&[bare]), SocketOwner::Untold, "without a socket");
        for state in [0, 5, 6, 10] {
            let closing = Made {
                state,
                ..owners(501)
            };
            assert_eq!(told_of(&[closing]), SocketOwner::Gone, "state {state}");
        }
        let two = [owners(501), owners(502)];
        assert_eq!(told_of(&two), SocketOwner::Untold, "two that differ");
        assert_eq!(told_of(&[owners(501), owners(501)]), SocketOwner::Uid(501));
    }

    #[test]
    fn a_damaged_list_tells_nothing() {
        let whole = list(&[made(&owners(501))]);
        for cut in 0..whole.len() {
            assert_eq!(told(&whole[..cut]), SocketOwner::Untold, "{cut}");
        }
        for at in 0..whole.len() / 4 {
            for word in [0, 1, 7, u32::MAX] {
                let mut bad = whole.clone();
                bad[at * 4..at * 4 + 4].copy_from_slice(&word.to_ne_bytes());
                // It ends, and believes in no other uid than those that are written there.
                let is = told(&bad);
                assert!(
                    [
                        SocketOwner::Untold,
                        SocketOwner::Gone,
                        SocketOwner::Uid(501),
                        SocketOwner::Uid(word)
                    ]
                    .contains(&is),
                    "{at} {word}: {is:?}"
                );
            }
        }
    }
}
