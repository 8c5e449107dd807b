//! Where a server may redirect comfy: to no host that is nearer to this machine than the server
//! itself, and never from https to http.
//!
//! The first connection in this process decides how near a server is; a later change of its name's
//! address does not.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Mutex, PoisonError};

use ureq::unversioned::transport::{ConnectionDetails, Connector, Transport};

use super::nearness::{self, Nearness};

/// How near the hosts were at their first connection.
static FIRST: Mutex<BTreeMap<String, Nearness>> = Mutex::new(BTreeMap::new());

/// How near an address is, as far as `host` tells by itself.
fn spelled_nearness(host: &str) -> Option<Nearness> {
    let host = host
        .trim_matches(['[', ']'])
        .trim_end_matches('.')
        .to_ascii_lowercase();
    if host == "localhost" || host.ends_with(".localhost") {
        return Some(Nearness::Loopback);
    }
    host.parse().ok().map(nearness_or_nearest)
}

fn nearness_or_nearest(ip: IpAddr) -> Nearness {
    // Where there is no way to it nobody gets there; where the system does not tell its own
    // addresses it may be one.
    nearness::nearness_of(ip).unwrap_or_else(|_| {
        if super::interfaces::own_addresses().is_ok() {
            Nearness::Outside
        } else {
            Nearness::Own
        }
    })
}

/// The nearest of them: any of them may be the one that is taken.
fn nearest_of(addresses: &[SocketAddr]) -> Option<Nearness> {
    addresses.iter().map(|a| nearness_or_nearest(a.ip())).min()
}

/// Of a source: this machine only where all of its addresses are.
fn source_nearness(addresses: &[SocketAddr]) -> Option<Nearness> {
    let all: Vec<Nearness> = addresses
        .iter()
        .map(|a| nearness_or_nearest(a.ip()))
        .collect();
    all.iter()
        .filter(|n| **n > Nearness::Own)
        .min()
        .or(all.iter().min())
        .copied()
}

/// Scheme and host of an address, without user, port and path.
fn scheme_and_host(address: &str) -> Option<(String, String)> {
    let (scheme, rest) = address.split_once("://")?;
    let authority = rest.split(['/', '?', '#', '\\']).next()?;
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    Some((scheme.to_ascii_lowercase(), host.to_ascii_lowercase()))
}

/// Why what was asked of `source` may not lead to `to`, as far as its spelling tells; the
/// connection tells the rest ([`RedirectGuard`]).
pub(crate) fn why_refused(source: &str, to: &str) -> Option<&'static str> {
    let first = scheme_and_host(source)
        .and_then(|(_, host)| spelled_nearness(&host).or_else(|| noted_nearness(&host)));
    why_refused_at(source, first, to, None)
}

/// The same where it is known how near both are; `None`: as they are spelled, and otherwise of the
/// internet.
fn why_refused_at(
    source: &str,
    source_is: Option<Nearness>,
    to: &str,
    to_is: Option<Nearness>,
) -> Option<&'static str> {
    let (Some((scheme, first)), Some((next_scheme, next))) =
        (scheme_and_host(source), scheme_and_host(to))
    else {
        return Some("is not an address");
    };
    let is = source_is
        .or_else(|| spelled_nearness(&first))
        .unwrap_or(Nearness::Outside);
    let leads = to_is
        .into_iter()
        .chain(spelled_nearness(&next))
        .min()
        .unwrap_or(Nearness::Outside);
    let bad = match (is, leads) {
        (Nearness::Loopback, _)
        | (Nearness::Own | Nearness::Near, Nearness::Near)
        | (_, Nearness::Outside) => false,
        (Nearness::Own, Nearness::Own) => next != first,
        _ => true,
    };
    if bad {
        return Some(match leads {
            Nearness::Loopback | Nearness::Own => {
                "is this machine, but the first address is not: a server must not redirect comfy \
                    to local services"
            }
            _ => {
                "is in a private network, but the first address is not: a server must not \
                    redirect comfy to private services"
            }
        });
    }
    let local = |host: &str| spelled_nearness(host) == Some(Nearness::Loopback);
    if scheme == "https" && next_scheme != "https" && !(local(&first) && local(&next)) {
        return Some("is plain http, but the first address is https");
    }
    None
}

/// Whether both are on the same host, and nothing that was https is not any more.
pub(crate) fn same_host(source: &str, to: &str) -> bool {
    matches!((scheme_and_host(source), scheme_and_host(to)), (Some((s, first)), Some((t, next))) if first == next && (s == t || t == "https"))
}

fn noted_nearness(host: &str) -> Option<Nearness> {
    FIRST
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(host)
        .copied()
}

/// Notes it the first time, and says what was noted then.
fn note_nearness(host: &str, is: Nearness) -> Nearness {
    *FIRST
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .entry(host.into())
        .or_insert(is)
}

/// How near the source is that nothing connected to yet, a proxy did for example: never this
/// machine, which is to be seen at its first connection.
fn find_nearness(source: &str) -> Option<Nearness> {
    let (scheme, host) = scheme_and_host(source)?;
    let port = if scheme == "https" { 443 } else { 80 };
    let all: Vec<SocketAddr> = (host.trim_matches(['[', ']']), port)
        .to_socket_addrs()
        .ok()?
        .collect();
    source_nearness(&all).map(|n| n.max(Nearness::Near))
}

/// Holds every connection of an agent to this, redirects that ureq follows among them. Behind a
/// proxy the proxy finds the address.
#[derive(Debug)]
pub(crate) struct RedirectGuard {
    /// What was asked; `None`: each connection for itself, so that no name leads nearer than it
    /// did.
    pub source: Option<String>,
}

impl RedirectGuard {
    fn judge(&self, to: &str, addresses: &[SocketAddr]) -> Option<&'static str> {
        let source = self.source.as_deref().unwrap_or(to);
        let first = scheme_and_host(source)
            .map(|(_, host)| host)
            .unwrap_or_default();
        let same = scheme_and_host(to).is_some_and(|(_, next)| next == first);
        let is = match spelled_nearness(&first) {
            Some(is) => Some(is),
            None => match source_nearness(addresses).filter(|_| same) {
                Some(now) => Some(note_nearness(&first, now)),
                None => noted_nearness(&first).or_else(|| {
                    nearest_of(addresses)
                        .filter(|n| *n < Nearness::Outside)
                        .and_then(|_| find_nearness(source))
                }),
            },
        };
        why_refused_at(source, is, to, nearest_of(addresses))
    }
}

impl<In: Transport> Connector<In> for RedirectGuard {
    type Out = In;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<In>, ureq::Error> {
        let to = details.uri.to_string();
        match self.judge(&to, &details.addrs) {
            None => Ok(chained),
            Some(why) => {
                let source = self.source.as_deref().unwrap_or(&to);
                Err(ureq::Error::Io(std::io::Error::other(format!(
                    "{} redirects to {}, which {why}",
                    public_address(source),
                    public_address(&to)
                ))))
            }
        }
    }
}

/// Without a password and without a query, which may be one.
fn public_address(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else {
        return String::new();
    };
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    crate::text::escape_text(&format!(
        "{scheme}://{}/{path}",
        authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host)
    ))
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
            (hub, "https://nas.test/x", "192.168.77.5", "private network"),
            (
                hub,
                "https://169.254.169.254/latest/meta-data",
                "",
                "private network",
            ),
            (
                hub,
                "https://metadata.test/x",
                "169.254.169.254",
                "private network",
            ),
            (
                hub,
                "https://tailnet.test/x",
                "100.64.0.7",
                "private network",
            ),
            (hub, "https://[fd00::1]/x", "", "private network"),
            (
                hub,
                "https://64.ff9b.test/x",
                "64:ff9b::c0a8:101",
                "private network",
            ),
            // The same name, by now elsewhere.
            (hub, "https://hub.test:8443/x", "127.0.0.1", "this machine"),
            (hub, "https://hub.test/x", "192.168.77.5", "private network"),
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
            (
                hub,
                "https://home.evil.test/x",
                "::ffff:127.0.0.1",
                "this machine",
            ),
            (hub, "no address", "", "not an address"),
            (
                "http://mirror.lan/x",
                "http://other.lan/x",
                "192.168.77.6",
                "",
            ),
            (
                "http://mirror.lan/x",
                "http://other.lan/x",
                "127.0.0.1",
                "this machine",
            ),
            (local, "http://localhost:9000/x", "127.0.0.1", ""),
            (local, "https://cdn.test/x", "", ""),
            ("https://localhost/x", "http://127.0.0.1/x", "127.0.0.1", ""),
            ("https://localhost/x", "http://cdn.test/x", "", "plain http"),
        ];
        for (source, to, address, why) in table {
            let held = RedirectGuard {
                source: Some(source.into()),
            };
            let at = |ip: &str| {
                ip.parse::<IpAddr>()
                    .map(|ip| SocketAddr::new(ip, 443))
                    .into_iter()
                    .collect::<Vec<_>>()
            };
            let first = if source == hub {
                "93.184.216.34"
            } else {
                "192.168.77.2"
            };
            assert_eq!(
                held.judge(
                    source,
                    &at(if source.contains("lan") || source == hub {
                        first
                    } else {
                        "127.0.0.1"
                    })
                ),
                None
            );
            let found = held.judge(to, &at(address));
            assert!(
                if why.is_empty() {
                    found.is_none()
                } else {
                    found.is_some_and(|f| f.contains(why))
                },
                "{source} -> {to} {address}: {found:?}"
            );
        }
    }

    #[test]
    fn a_name_stays_as_near_as_it_was_at_first() {
        let at = |all: &[&str]| {
            all.iter()
                .map(|ip| SocketAddr::new(ip.parse().unwrap(), 443))
                .collect::<Vec<_>>()
        };
        let alone = RedirectGuard { source: None };
        let told = |held: &RedirectGuard, to: &str, all: &[&str]| {
            held.judge(to, &at(all))
                .map_or("goes", |why| why.split(',').next().unwrap())
        };
        let steps = [
            // A mirror on this machine by a name of /etc/hosts.
            told(&alone, "https://own.test/x", &["127.0.0.1"]),
            told(&alone, "https://own.test/y", &["127.0.0.1"]),
            told(
                &RedirectGuard {
                    source: Some("https://own.test/x".into()),
                },
                "https://localhost:9/y",
                &["::1"],
            ),
            // Somebody else's name.
            told(&alone, "https://turns.test/x", &["93.184.216.34"]),
            told(&alone, "https://turns.test:9/x", &["127.0.0.1"]),
            told(
                &alone,
                "https://turns.test:9/x",
                &["93.184.216.34", "192.168.77.1"],
            ),
            told(
                &alone,
                "https://both.test/x",
                &["93.184.216.34", "127.0.0.1"],
            ),
            told(
                &alone,
                "https://split.test/x",
                &["2606:4700::1111", "192.168.77.1"],
            ),
        ];
        insta::assert_snapshot!(steps.join("\n"), @"
        goes
        goes
        goes
        goes
        is this machine
        is in a private network
        is this machine
        goes
        ");
        assert!(
            same_host("https://a.test/x", "https://A.test:443/y")
                && same_host("http://a.test", "https://a.test")
        );
        assert!(
            !same_host("https://a.test/x", "http://a.test/x")
                && !same_host("https://a.test/x", "https://b.test/x")
        );
    }
}
