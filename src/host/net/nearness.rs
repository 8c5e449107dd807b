//! How near an address is to this machine: on the internet, or in a private network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::interfaces;

/// The nearest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Nearness {
    Loopback,
    /// An address of this machine that its neighbours know too, or one that the system delivers to
    /// itself.
    Own,
    /// A neighbour, a private network, or nobody at all.
    Near,
    /// The internet.
    Outside,
}

/// How near `ip` is at this moment.
///
/// # Errors
/// Nobody can say: the system does not tell its own addresses, or it knows no way to an address of
/// the internet.
pub(crate) fn nearness_of(ip: IpAddr) -> std::io::Result<Nearness> {
    if is_loopback(ip) {
        return Ok(Nearness::Loopback);
    }
    let own = interfaces::own_addresses()?;
    // What it carries need not be reachable by itself.
    let carried_itself = || interfaces::delivers_to_itself(embedded_address(ip)).unwrap_or(false);
    if own
        .iter()
        .any(|(o, _)| o.to_canonical() == embedded_address(ip))
        || carried_itself()
    {
        return Ok(Nearness::Own);
    }
    if !is_public(ip) || at_home(ip, &own) {
        return Ok(Nearness::Near);
    }
    Ok(if interfaces::delivers_to_itself(ip.to_canonical())? {
        Nearness::Own
    } else {
        Nearness::Outside
    })
}

/// Whether it can only be this machine, whatever the system says.
pub(crate) fn is_loopback(ip: IpAddr) -> bool {
    [ip.to_canonical(), embedded_address(ip)]
        .iter()
        .any(|ip| ip.is_loopback() || ip.is_unspecified())
}

/// One of the machine's `own` addresses (with the bits of their prefixes), or for IPv6 one of the
/// same link: at home these are the neighbours, whose addresses are public too. Links of IPv4 with
/// public addresses are a provider's.
fn at_home(ip: IpAddr, own: &[(IpAddr, u32)]) -> bool {
    let ip = embedded_address(ip);
    own.iter().any(|(o, bits)| match (ip, o.to_canonical()) {
        (IpAddr::V6(ip), IpAddr::V6(o)) => (ip.to_bits() ^ o.to_bits()).leading_zeros() >= *bits,
        (ip, o) => ip == o,
    })
}

/// The address that is meant: an IPv4 address may be written as one of IPv6 (RFC 4291, 2.5.5;
/// NAT64, RFC 6052).
fn embedded_address(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => nat64_address(v6).map_or(IpAddr::V6(v6), IpAddr::V4),
        v4 => v4,
    }
}

fn nat64_address(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., a, b, c, d] = ip.octets();
    (ip.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0]).then(|| Ipv4Addr::new(a, b, c, d))
}

/// An address of the internet, not of this machine, of its neighbours or of nobody (IANA's
/// special-purpose registries).
fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => public_v4(ip),
        IpAddr::V6(ip) => public_v6(ip),
    }
}

fn public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19));
    !special
}

fn public_v6(ip: Ipv6Addr) -> bool {
    let s = ip.segments();
    // NAT64 carries an IPv4 address, 6to4 and Teredo do too and are retired.
    if let Some(v4) = nat64_address(ip) {
        return public_v4(v4);
    }
    s[0] & 0xe000 == 0x2000 && s[0] != 0x2002 && !(s[0] == 0x2001 && (s[1] == 0 || s[1] == 0xdb8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_internet_is_outside() {
        for ip in [
            "1.1.1.1",
            "93.184.216.34",
            "2606:4700::1111",
            "64:ff9b::101:101",
        ] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "192.0.0.1",
            "198.18.0.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn the_machine_s_own_addresses_are_not_outside() {
        let own: Vec<(IpAddr, u32)> = [
            ("93.184.216.34", 24),
            ("2606:2800:220:1::10", 64),
            ("::1", 128),
        ]
        .map(|(ip, bits)| (ip.parse().unwrap(), bits))
        .into();
        let cases = [
            "93.184.216.34",
            "::ffff:93.184.216.34",
            "64:ff9b::93.184.216.34",
            "93.184.216.35",
            "2606:2800:220:1::10",
            "2606:2800:220:1:ffff::1",
            "2606:2800:220:2::10",
            "1.1.1.1",
        ];
        let told = cases.map(|ip| {
            format!(
                "{ip}: {}",
                if at_home(ip.parse().unwrap(), &own) {
                    "at home"
                } else {
                    "outside"
                }
            )
        });
        insta::assert_snapshot!(told.join("\n"), @r"
        93.184.216.34: at home
        ::ffff:93.184.216.34: at home
        64:ff9b::93.184.216.34: at home
        93.184.216.35: outside
        2606:2800:220:1::10: at home
        2606:2800:220:1:ffff::1: at home
        2606:2800:220:2::10: outside
        1.1.1.1: outside
        ");
    }
}
