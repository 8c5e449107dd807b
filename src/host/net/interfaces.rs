//! This machine's own addresses, in the network of the thread that asks.

use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

/// The addresses of every interface, each with the bits of its prefix (getifaddrs(3)).
///
/// # Errors
/// The system's own.
pub(crate) fn own_addresses() -> std::io::Result<Vec<(IpAddr, u32)>> {
    let ip = |a: &SockaddrStorage| match (a.as_sockaddr_in(), a.as_sockaddr_in6()) {
        (Some(v4), _) => Some(IpAddr::V4(v4.ip())),
        (_, Some(v6)) => Some(IpAddr::V6(v6.ip())),
        _ => None,
    };
    let bits = |mask: IpAddr| match mask {
        IpAddr::V4(m) => m.to_bits().leading_ones(),
        IpAddr::V6(m) => m.to_bits().leading_ones(),
    };
    let all = getifaddrs()?.filter_map(|i| {
        let address = i.address.as_ref().and_then(ip)?;
        // One without a mask stands for itself.
        Some((address, i.netmask.as_ref().and_then(ip).map_or(128, bits)))
    });
    Ok(all.collect())
}

/// Whether the system would deliver a packet to itself, or to all of its neighbours, which it may
/// do for addresses that no interface has (local routes, ip-route(8)). Nothing is sent.
///
/// # Errors
/// It knows no way to the address.
pub(crate) fn delivers_to_itself(to: IpAddr) -> std::io::Result<bool> {
    #[cfg(target_os = "linux")]
    return linux::route_type(to).map(|kind| kind != linux::UNICAST);
    #[cfg(not(target_os = "linux"))]
    of_its_own(to)
}

/// As far as the source tells that the system chooses: the address itself.
#[cfg(any(test, not(target_os = "linux")))]
fn of_its_own(to: IpAddr) -> std::io::Result<bool> {
    let any: IpAddr = if to.is_ipv4() {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = std::net::UdpSocket::bind((any, 0))?;
    // The port of discard; connect(2) sends nothing.
    socket.connect((to, 9))?;
    Ok(socket.local_addr()?.ip() == to)
}

#[cfg(target_os = "linux")]
mod linux {
    use std::net::IpAddr;
    use std::os::fd::AsRawFd;

    use nix::libc;
    use nix::sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
    };

    /// RTN_UNICAST (linux/rtnetlink.h): it goes to somebody else.
    pub(crate) const UNICAST: u8 = 1;

    /// The type of the route that a packet would take (rtnetlink(7), RTM_GETROUTE).
    pub(crate) fn route_type(to: IpAddr) -> std::io::Result<u8> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        send(fd.as_raw_fd(), &route_request(to), MsgFlags::empty())?;
        let mut answer = [0_u8; 4096];
        let n = recv(fd.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        kind_of(&answer[..n])
    }

    /// nlmsghdr, rtmsg and one attribute, RTA_DST.
    fn route_request(to: IpAddr) -> Vec<u8> {
        let (family, bytes) = match to {
            IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec()),
            IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec()),
        };
        let mut m = Vec::with_capacity(48);
        m.extend((32 + bytes.len() as u32).to_ne_bytes());
        m.extend(libc::RTM_GETROUTE.to_ne_bytes());
        m.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
        m.extend([0; 8]);
        m.extend([family as u8, bytes.len() as u8 * 8]);
        m.extend([0; 10]);
        m.extend((4 + bytes.len() as u16).to_ne_bytes());
        m.extend(libc::RTA_DST.to_ne_bytes());
        m.extend(bytes);
        m
    }

    /// rtm_type, or the error of an nlmsgerr.
    fn kind_of(answer: &[u8]) -> std::io::Result<u8> {
        let kind = answer
            .get(4..6)
            .and_then(|b| b.try_into().ok())
            .map(u16::from_ne_bytes);
        let error = answer
            .get(16..20)
            .and_then(|b| b.try_into().ok())
            .map(i32::from_ne_bytes);
        match (kind, answer.get(23), error) {
            (Some(libc::RTM_NEWROUTE), Some(kind), _) => Ok(*kind),
            (Some(2), _, Some(error)) if error < 0 => {
                Err(std::io::Error::from_raw_os_error(-error))
            }
            _ => Err(std::io::Error::other(
                "the system does not report the route",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_knows_itself() {
        let all = own_addresses().unwrap();
        assert!(all.iter().any(|(ip, _)| ip.is_loopback()), "{all:?}");
        for (ip, _) in all.iter().filter(|(ip, _)| ip.is_ipv4()) {
            assert!(
                delivers_to_itself(*ip).unwrap() && of_its_own(*ip).unwrap(),
                "{ip}"
            );
        }
        // No interface has this one.
        assert!(delivers_to_itself("127.0.0.9".parse().unwrap()).unwrap());
        assert!(!delivers_to_itself("1.1.1.1".parse().unwrap()).unwrap_or(false));
    }
}
