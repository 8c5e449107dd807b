//! Where a server may send comfy: never to this machine's own services, unless it is one of them, and never from https to http.

use std::net::{IpAddr, SocketAddr};

use ureq::unversioned::transport::{ConnectionDetails, Connector, Transport};

/// Whether `host`, as an address names it, can only be this machine.
fn is_here(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost") || host.parse().is_ok_and(ip_is_here)
}

fn ip_is_here(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    ip.is_loopback() || ip.is_unspecified()
}

/// Scheme and host of an address, without user, port and path.
fn parts(address: &str) -> Option<(String, String)> {
    let (scheme, rest) = address.split_once("://")?;
    let authority = rest.split(['/', '?', '#', '\\']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    Some((scheme.to_ascii_lowercase(), host.to_ascii_lowercase()))
}

/// Why what was asked of `source` may not lead to `to`, which has these addresses as far as they are known.
pub fn refused(source: &str, to: &str, addresses: &[SocketAddr]) -> Option<&'static str> {
    let (Some((scheme, first)), Some((next_scheme, next))) = (parts(source), parts(to)) else { return Some("is no address") };
    let here = is_here(&first);
    if !here && (is_here(&next) || (next != first && addresses.iter().any(|a| ip_is_here(a.ip())))) {
        return Some("is this machine, and what was asked is not: its own services are nobody's to send comfy to");
    }
    if scheme == "https" && next_scheme != "https" && !(here && is_here(&next)) {
        return Some("is plain http, and what was asked is https");
    }
    None
}

/// Holds every connection of an agent to [`refused`], redirects that ureq follows among them. Behind a proxy the proxy finds the address.
#[derive(Debug)]
pub struct Held {
    pub source: String,
}

impl<In: Transport> Connector<In> for Held {
    type Out = In;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<In>, ureq::Error> {
        let to = details.uri.to_string();
        match refused(&self.source, &to, &details.addrs) {
            None => Ok(chained),
            Some(why) => Err(ureq::Error::Io(std::io::Error::other(format!("{} leads to {}, which {why}", bare(&self.source), bare(&to))))),
        }
    }
}

/// Without a password and without a query, which may be one.
fn bare(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return String::new() };
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    crate::text::escape(&format!("{scheme}://{}/{path}", authority.rsplit_once('@').map_or(authority, |(_, host)| host)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_sends_nobody_to_this_machine_and_nobody_from_https_to_http() {
        let hub = "https://hub.test/model";
        let local = "http://127.0.0.1:8080/x";
        let table = [
            (hub, "https://cdn.test/x", "93.184.216.34", ""),
            (hub, "https://nas.test/x", "192.168.1.5", ""),
            (hub, "https://hub.test:8443/x", "127.0.0.1", ""),
            (hub, "http://cdn.test/x", "", "plain http"),
            (hub, "http://hub.test/x", "", "plain http"),
            (hub, "http://127.0.0.1:8188/x", "", "this machine"),
            (hub, "HTTP://LOCALHOST:8188/x", "", "this machine"),
            (hub, "http://localhost./x", "", "this machine"),
            (hub, "https://a.localhost/x", "", "this machine"),
            (hub, "https://[::1]:443/x", "", "this machine"),
            (hub, "https://[::ffff:127.0.0.1]/x", "", "this machine"),
            (hub, "https://0.0.0.0/x", "", "this machine"),
            (hub, "https://user@127.1.2.3/x", "", "this machine"),
            // Names and numbers that only a resolver understands.
            (hub, "https://127.1/x", "127.0.0.1", "this machine"),
            (hub, "https://2130706433/x", "127.0.0.1", "this machine"),
            (hub, "https://home.evil.test/x", "::1", "this machine"),
            (hub, "https://home.evil.test/x", "::ffff:127.0.0.1", "this machine"),
            (hub, "no address", "", "no address"),
            ("http://mirror.lan/x", "http://other.lan/x", "192.168.1.6", ""),
            ("http://mirror.lan/x", "http://other.lan/x", "127.0.0.1", "this machine"),
            (local, "http://localhost:9000/x", "127.0.0.1", ""),
            (local, "https://cdn.test/x", "", ""),
            ("https://localhost/x", "http://127.0.0.1/x", "127.0.0.1", ""),
            ("https://localhost/x", "http://cdn.test/x", "", "plain http"),
        ];
        for (source, to, address, why) in table {
            let addresses: Vec<SocketAddr> = address.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 443)).into_iter().collect();
            let found = refused(source, to, &addresses);
            assert!(if why.is_empty() { found.is_none() } else { found.is_some_and(|f| f.contains(why)) }, "{source} -> {to} {address}: {found:?}");
        }
    }
}
