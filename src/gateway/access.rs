//! Decides who is admitted, from what is known of the client and what the request says. Pure.
//!
//! The client is known by its uid if the system reports it (Linux), else by a token. In any case
//! another web site must not be able to send a browser here: Host is compared with what the owner
//! types (against DNS rebinding), and Origin and Sec-Fetch-Site (Fetch Metadata,
//! w3.org/TR/fetch-metadata) with the requesting page.

use std::net::IpAddr;

use hyper::header::{HOST, HeaderMap, HeaderName, ORIGIN, REFERER};
use hyper::{Method, Uri};

use super::connection_limits::SlotOwner;
use crate::manifest::ClientPolicy;

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct AccessRules {
    pub owner: u32,
    pub clients: ClientPolicy,
    /// `comfyui.listen`, as written.
    pub listen: String,
    pub port: u16,
    /// `allow_remote`: the addresses of this machine are accepted as Host too.
    pub remote: bool,
    /// The machine's own name.
    pub hostname: String,
}

/// What is known of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerIdentity {
    /// A process of this machine, by its uid.
    Local(u32),
    /// A client that has closed its socket, so that its uid is unknown.
    Gone,
    /// A client on this machine, where the system does not report its uid.
    Untold,
    /// Another machine.
    Remote(IpAddr),
}

/// Whether the client is admitted by its identity alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PeerVerdict {
    In,
    /// Admitted only with a token, and why.
    Token(&'static str),
    Out(String),
}

const UNTOLD: &str = "this system does not report the user of a connection";
const REMOTE: &str = "another machine does not report the user of a connection";
const ROOT: &str = "root does not count as the owner, because services that run as root fetch \
    addresses for others";

impl AccessRules {
    pub(crate) fn judge_peer(&self, peer: PeerIdentity) -> PeerVerdict {
        let out = |why: String| PeerVerdict::Out(why);
        match (peer, &self.clients) {
            (PeerIdentity::Gone, _) => {
                out("the connection was closed before its user could be determined".into())
            }
            (PeerIdentity::Local(uid), _) if uid == self.owner => PeerVerdict::In,
            (PeerIdentity::Local(0), _) => PeerVerdict::Token(ROOT),
            (PeerIdentity::Local(_) | PeerIdentity::Untold, ClientPolicy::Any) => PeerVerdict::In,
            (PeerIdentity::Local(uid), _) => out(format!(
                "this ComfyUI does not belong to uid {uid} (network.clients in comfy.toml)"
            )),
            (PeerIdentity::Untold, _) => PeerVerdict::Token(UNTOLD),
            (PeerIdentity::Remote(_), _) if !self.remote => out(
                "this ComfyUI serves only its own machine (comfyui.allow_remote in comfy.toml)"
                    .into(),
            ),
            (PeerIdentity::Remote(_), ClientPolicy::Any) => PeerVerdict::In,
            (PeerIdentity::Remote(ip), ClientPolicy::Only(list)) => {
                let listed = list.iter().any(|a| {
                    a.parse::<IpAddr>()
                        .is_ok_and(|a| a.to_canonical() == ip.to_canonical())
                });
                if listed {
                    PeerVerdict::In
                } else {
                    out(format!(
                        "{ip} is not an allowed client (network.clients in comfy.toml)"
                    ))
                }
            }
            (PeerIdentity::Remote(_), ClientPolicy::Primary) => PeerVerdict::Token(REMOTE),
        }
    }

    /// Returns whose slot an admitted connection takes.
    pub(crate) fn slot_owner(&self, peer: PeerIdentity, verdict: &PeerVerdict) -> SlotOwner {
        match (verdict, peer) {
            (PeerVerdict::Token(_), _) => SlotOwner::Unproven,
            (_, PeerIdentity::Local(uid)) if uid == self.owner => SlotOwner::Owner,
            (_, PeerIdentity::Local(uid)) => SlotOwner::Uid(uid),
            (_, PeerIdentity::Remote(ip)) => SlotOwner::Address(ip.to_canonical()),
            (_, PeerIdentity::Untold | PeerIdentity::Gone) => SlotOwner::Anybody,
        }
    }

    /// Decides whether the requesting page may send the request. `proven`: the request has the
    /// owner's token, which no page can make a browser send.
    ///
    /// # Errors
    /// The reason for the refusal, in one line.
    pub(crate) fn judge_request(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        proven: bool,
    ) -> Result<(), String> {
        if *method == Method::CONNECT || *method == Method::TRACE {
            return Err(format!("{method} is not a method that ComfyUI supports"));
        }
        let host = single_value(headers, &HOST)?
            .ok_or("the request has no Host")?
            .to_ascii_lowercase();
        if !self.is_own_host(&host) {
            return Err(format!(
                "Host {} is not a name of this ComfyUI; use localhost:{}",
                crate::text::escape_text(&host),
                self.port
            ));
        }
        if uri
            .authority()
            .is_some_and(|a| a.as_str().to_ascii_lowercase() != host)
        {
            return Err("the host in the address differs from Host".into());
        }
        let origin = single_value(headers, &ORIGIN)?;
        if let Some(origin) = origin
            && origin.to_ascii_lowercase() != format!("http://{host}")
        {
            return Err(format!(
                "a page of {} must not send requests to this ComfyUI",
                crate::text::escape_text(origin)
            ));
        }
        let site = single_value(headers, &HeaderName::from_static("sec-fetch-site"))?;
        match site {
            Some("same-origin" | "none") => Ok(()),
            // Browsers send it only to addresses that they trust, which plain http to another
            // machine is not.
            None if is_loopback_name(self.host_without_port(&host))
                || proven
                || origin.is_some()
                || !is_read_method(method)
                || front_page(uri) =>
            {
                Ok(())
            }
            None if single_value(headers, &REFERER)?.is_some_and(|r| {
                r.to_ascii_lowercase()
                    .strip_prefix("http://")
                    .is_some_and(|r| r.split(['/', '?', '#']).next() == Some(&*host))
            }) =>
            {
                Ok(())
            }
            None => Err(
                "it is unknown which page sends the request: open the front page first, or send \
                 the token of `comfy open --token`"
                    .into(),
            ),
            // Another port of this machine is the same site.
            Some(_) if is_followed_link(method, uri, headers) => Ok(()),
            Some(_) => Err("another site sent the request through a browser".into()),
        }
    }

    /// Returns the host without this ComfyUI's port.
    fn host_without_port<'a>(&self, host: &'a str) -> Option<&'a str> {
        // Port 80 is http's default.
        host.strip_suffix(&format!(":{}", self.port))
            .or((self.port == 80).then_some(host))
    }

    fn is_own_host(&self, host: &str) -> bool {
        let Some(name) = self.host_without_port(host) else {
            return false;
        };
        let ip = parse_address(name);
        let listen = self.listen.parse::<IpAddr>().ok();
        match ip {
            // An address cannot be rebound; if this machine serves others, it has several.
            Some(ip) => ip.is_loopback() || self.remote || Some(ip) == listen,
            None => {
                name == "localhost"
                    || name == self.listen.to_ascii_lowercase()
                    || (self.remote && self.is_known_name(name))
            }
        }
    }

    fn is_known_name(&self, name: &str) -> bool {
        let own = self.hostname.to_ascii_lowercase();
        !own.is_empty() && (name == own || name == format!("{own}.local"))
    }
}

fn parse_address(name: &str) -> Option<IpAddr> {
    name.trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok()
}

/// Returns whether browsers trust the name (W3C Secure Contexts, 3.1).
fn is_loopback_name(name: Option<&str>) -> bool {
    name.is_some_and(|n| n == "localhost" || parse_address(n).is_some_and(|ip| ip.is_loopback()))
}

/// Returns whether a page of another site can have a browser send this method without an Origin.
fn is_read_method(method: &Method) -> bool {
    [Method::GET, Method::HEAD].contains(method)
}

/// Returns whether the address is the front page, which does nothing but show itself, with or
/// without a ticket.
fn front_page(uri: &Uri) -> bool {
    uri.path() == "/" && uri.query().is_none_or(|q| q.starts_with("ticket="))
}

/// Returns whether the request is a followed link to the front page, which only opens ComfyUI. A
/// ticket comes from a page on the owner's disk ([`crate::host::browser`]).
fn is_followed_link(method: &Method, uri: &Uri, headers: &HeaderMap) -> bool {
    let is = |name: &'static str, value: &str| {
        headers
            .get(HeaderName::from_static(name))
            .is_some_and(|v| v == value)
    };
    *method == Method::GET
        && front_page(uri)
        && is("sec-fetch-mode", "navigate")
        && is("sec-fetch-dest", "document")
}

/// Returns the value of a header that may occur only once.
fn single_value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, String> {
    let mut all = headers.get_all(name).iter();
    let first = all.next();
    if all.next().is_some() {
        return Err(format!("the request has two {name} headers"));
    }
    first
        .map(|v| {
            v.to_str()
                .map_err(|_| format!("the header {name} cannot be read"))
        })
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(clients: ClientPolicy, remote: bool) -> AccessRules {
        AccessRules {
            owner: 1000,
            clients,
            listen: "127.0.0.1".into(),
            port: 8188,
            remote,
            hostname: "atelier".into(),
        }
    }

    #[test]
    fn the_owner_gets_in_and_nobody_else_on_this_machine() {
        let r = rules(ClientPolicy::Primary, false);
        assert_eq!(
            (
                r.judge_peer(PeerIdentity::Local(1000)),
                r.judge_peer(PeerIdentity::Local(0)),
                r.judge_peer(PeerIdentity::Untold)
            ),
            (
                PeerVerdict::In,
                PeerVerdict::Token(ROOT),
                PeerVerdict::Token(UNTOLD)
            )
        );
        for peer in [
            PeerIdentity::Local(1001),
            PeerIdentity::Local(u32::MAX),
            PeerIdentity::Gone,
            PeerIdentity::Remote("192.168.1.20".parse().unwrap()),
        ] {
            assert!(
                matches!(r.judge_peer(peer), PeerVerdict::Out(_)),
                "{peer:?}"
            );
        }
        let any = rules(ClientPolicy::Any, false);
        assert_eq!(
            (
                any.judge_peer(PeerIdentity::Local(1001)),
                any.judge_peer(PeerIdentity::Local(0))
            ),
            (PeerVerdict::In, PeerVerdict::Token(ROOT))
        );
        assert!(matches!(
            any.judge_peer(PeerIdentity::Gone),
            PeerVerdict::Out(_)
        ));
        assert!(matches!(
            any.judge_peer(PeerIdentity::Remote("192.168.1.20".parse().unwrap())),
            PeerVerdict::Out(_)
        ));
        let list = rules(ClientPolicy::Only(vec!["192.168.1.20".into()]), true);
        assert_eq!(
            list.judge_peer(PeerIdentity::Remote("::ffff:192.168.1.20".parse().unwrap())),
            PeerVerdict::In
        );
        assert!(matches!(
            list.judge_peer(PeerIdentity::Remote("192.168.1.21".parse().unwrap())),
            PeerVerdict::Out(_)
        ));
        assert!(matches!(
            list.judge_peer(PeerIdentity::Local(1001)),
            PeerVerdict::Out(_)
        ));
        assert_eq!(
            rules(ClientPolicy::Primary, true)
                .judge_peer(PeerIdentity::Remote("192.168.1.21".parse().unwrap())),
            PeerVerdict::Token(REMOTE)
        );
    }

    /// Method, path and headers as one line; what the rules say.
    fn ask(r: &AccessRules, line: &str) -> String {
        let mut words = line.split(' ');
        let (method, uri) = (
            words.next().unwrap().parse().unwrap(),
            words.next().unwrap().parse().unwrap(),
        );
        let mut headers = HeaderMap::new();
        for w in words {
            let (k, v) = w.split_once('=').unwrap();
            headers.append(k.parse::<HeaderName>().unwrap(), v.parse().unwrap());
        }
        r.judge_request(
            &method,
            &uri,
            &headers,
            headers.contains_key("authorization"),
        )
        .map_or_else(
            |why| format!("{line}\n    {why}"),
            |()| format!("{line}\n    in"),
        )
    }

    #[test]
    fn a_browser_is_not_led_here_by_another_site() {
        let r = rules(ClientPolicy::Primary, false);
        let all: Vec<String> = [
            "GET / host=localhost:8188",
            "GET /object_info host=127.0.0.1:8188",
            "GET / host=[::1]:8188",
            "POST /prompt host=LOCALHOST:8188 origin=http://localhost:8188 \
             sec-fetch-site=same-origin",
            "GET / host=localhost:8188 sec-fetch-site=none sec-fetch-mode=navigate",
            "GET / host=localhost:8188 sec-fetch-site=cross-site sec-fetch-mode=navigate \
             sec-fetch-dest=document",
            "GET / host=localhost:8188 sec-fetch-site=cross-site sec-fetch-mode=navigate \
             sec-fetch-dest=iframe",
            "GET /free host=localhost:8188 sec-fetch-site=cross-site sec-fetch-mode=navigate \
             sec-fetch-dest=document",
            "GET /view?filename=a.png host=localhost:8188 sec-fetch-site=cross-site \
             sec-fetch-mode=no-cors sec-fetch-dest=image",
            "GET /view?filename=a.png host=localhost:8188 sec-fetch-site=same-site \
             sec-fetch-mode=no-cors sec-fetch-dest=image",
            "POST /prompt host=evil.test:8188 origin=http://evil.test:8188",
            "POST /prompt host=localhost:8188 origin=http://evil.test",
            "POST /prompt host=localhost:8188 origin=null",
            "POST /prompt host=localhost:8188 origin=http://localhost:3000",
            "POST /prompt host=localhost:8188 origin=https://localhost:8188",
            "GET / host=localhost",
            "GET / host=localhost:81880",
            "GET / host=192.168.1.5:8188",
            "GET / host=atelier:8188",
            "GET /",
            "GET / host=localhost:8188 host=evil.test",
            "GET http://evil.test/ host=localhost:8188",
            "CONNECT evil.test:443 host=localhost:8188",
        ]
        .map(|l| ask(&r, l))
        .into();
        insta::assert_snapshot!(all.join("\n"), @"
        GET / host=localhost:8188
            in
        GET /object_info host=127.0.0.1:8188
            in
        GET / host=[::1]:8188
            in
        POST /prompt host=LOCALHOST:8188 origin=http://localhost:8188 sec-fetch-site=same-origin
            in
        GET / host=localhost:8188 sec-fetch-site=none sec-fetch-mode=navigate
            in
        GET / host=localhost:8188 sec-fetch-site=cross-site sec-fetch-mode=navigate \
            sec-fetch-dest=document
            in
        GET / host=localhost:8188 sec-fetch-site=cross-site sec-fetch-mode=navigate \
            sec-fetch-dest=iframe
            another site sent the request through a browser
        GET /free host=localhost:8188 sec-fetch-site=cross-site sec-fetch-mode=navigate \
            sec-fetch-dest=document
            another site sent the request through a browser
        GET /view?filename=a.png host=localhost:8188 sec-fetch-site=cross-site \
            sec-fetch-mode=no-cors sec-fetch-dest=image
            another site sent the request through a browser
        GET /view?filename=a.png host=localhost:8188 sec-fetch-site=same-site \
            sec-fetch-mode=no-cors sec-fetch-dest=image
            another site sent the request through a browser
        POST /prompt host=evil.test:8188 origin=http://evil.test:8188
            Host evil.test:8188 is not a name of this ComfyUI; use localhost:8188
        POST /prompt host=localhost:8188 origin=http://evil.test
            a page of http://evil.test must not send requests to this ComfyUI
        POST /prompt host=localhost:8188 origin=null
            a page of null must not send requests to this ComfyUI
        POST /prompt host=localhost:8188 origin=http://localhost:3000
            a page of http://localhost:3000 must not send requests to this ComfyUI
        POST /prompt host=localhost:8188 origin=https://localhost:8188
            a page of https://localhost:8188 must not send requests to this ComfyUI
        GET / host=localhost
            Host localhost is not a name of this ComfyUI; use localhost:8188
        GET / host=localhost:81880
            Host localhost:81880 is not a name of this ComfyUI; use localhost:8188
        GET / host=192.168.1.5:8188
            Host 192.168.1.5:8188 is not a name of this ComfyUI; use localhost:8188
        GET / host=atelier:8188
            Host atelier:8188 is not a name of this ComfyUI; use localhost:8188
        GET /
            the request has no Host
        GET / host=localhost:8188 host=evil.test
            the request has two host headers
        GET http://evil.test/ host=localhost:8188
            the host in the address differs from Host
        CONNECT evil.test:443 host=localhost:8188
            CONNECT is not a method that ComfyUI supports
        ");
        let open = rules(ClientPolicy::Any, true);
        for host in [
            "192.168.1.5:8188",
            "atelier:8188",
            "atelier.local:8188",
            "[fe80::1]:8188",
        ] {
            assert!(
                ask(&open, &format!("GET / host={host}")).ends_with("    in"),
                "{host}"
            );
        }
        assert!(!ask(&open, "GET / host=rebound.evil.test:8188").ends_with("    in"));
    }

    #[test]
    fn another_site_is_recognised_where_browsers_do_not_tell() {
        let r = rules(ClientPolicy::Any, true);
        let all: Vec<String> = [
            "GET / host=192.168.1.5:8188 referer=http://evil.test/",
            "GET /?ticket=x host=192.168.1.5:8188",
            "GET /?share=x host=192.168.1.5:8188 referer=http://evil.test/",
            "GET /manager/reboot host=192.168.1.5:8188 referer=http://evil.test/",
            "GET /manager/reboot host=192.168.1.5:8188",
            "HEAD /manager/reboot host=atelier:8188",
            "GET /manager/reboot host=atelier:8188 referer=http://atelier:8188.evil.test/",
            "GET /manager/reboot host=atelier:8188 referer=http://atelier:8188@evil.test/",
            "GET /manager/reboot host=atelier:8188 referer=https://atelier:8188/",
            "GET /view?filename=a.png host=atelier:8188 referer=http://atelier:8188/",
            "GET /object_info host=ATELIER:8188 referer=http://atelier:8188",
            "GET /ws host=atelier:8188 origin=http://atelier:8188",
            "GET /object_info host=atelier:8188 sec-fetch-site=same-origin",
            "GET /object_info host=atelier:8188 authorization=owner",
            "POST /prompt host=atelier:8188",
            "GET /object_info host=localhost:8188",
        ]
        .map(|l| ask(&r, l))
        .into();
        insta::assert_snapshot!(all.join("\n"), @"
        GET / host=192.168.1.5:8188 referer=http://evil.test/
            in
        GET /?ticket=x host=192.168.1.5:8188
            in
        GET /?share=x host=192.168.1.5:8188 referer=http://evil.test/
            it is unknown which page sends the request: open the front page first, or send the \
            token of `comfy open --token`
        GET /manager/reboot host=192.168.1.5:8188 referer=http://evil.test/
            it is unknown which page sends the request: open the front page first, or send the \
            token of `comfy open --token`
        GET /manager/reboot host=192.168.1.5:8188
            it is unknown which page sends the request: open the front page first, or send the \
            token of `comfy open --token`
        HEAD /manager/reboot host=atelier:8188
            it is unknown which page sends the request: open the front page first, or send the \
            token of `comfy open --token`
        GET /manager/reboot host=atelier:8188 referer=http://atelier:8188.evil.test/
            it is unknown which page sends the request: open the front page first, or send the \
            token of `comfy open --token`
        GET /manager/reboot host=atelier:8188 referer=http://atelier:8188@evil.test/
            it is unknown which page sends the request: open the front page first, or send the \
            token of `comfy open --token`
        GET /manager/reboot host=atelier:8188 referer=https://atelier:8188/
            it is unknown which page sends the request: open the front page first, or send the \
            token of `comfy open --token`
        GET /view?filename=a.png host=atelier:8188 referer=http://atelier:8188/
            in
        GET /object_info host=ATELIER:8188 referer=http://atelier:8188
            in
        GET /ws host=atelier:8188 origin=http://atelier:8188
            in
        GET /object_info host=atelier:8188 sec-fetch-site=same-origin
            in
        GET /object_info host=atelier:8188 authorization=owner
            in
        POST /prompt host=atelier:8188
            in
        GET /object_info host=localhost:8188
            in
        ");
    }
}
