//! The way out: an HTTP proxy inside the launch's network that knows one method, CONNECT, and passes to the hosts of
//! `network.egress` alone. Names are resolved and connections made outside, by a thread that never went in.
//!
//! An allowed host is a way for anything that ComfyUI can read to leave: the stream is encrypted end to end.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use crate::manifest::Egress;

/// How long a host may take to answer at all.
const PATIENCE: Duration = Duration::from_secs(15);
/// Refused hosts that are named in the log; a node that asks for more of them says nothing new.
const NAMED: usize = 100;

pub struct Proxy {
    egress: Egress,
    /// Nobody, where nothing may leave.
    outside: Option<Outside>,
    refused: Mutex<BTreeSet<String>>,
    /// Where refusals are told.
    tell: fn(&str),
}

type Wish = (String, u16, oneshot::Sender<Result<std::net::TcpStream, String>>);

/// Asks the thread outside.
pub struct Outside(mpsc::UnboundedSender<Wish>);

impl Outside {
    /// Starts the thread, in the network and with the rights of the caller.
    ///
    /// # Errors
    /// The system's own.
    pub fn start() -> std::io::Result<Outside> {
        let (ask, mut asked) = mpsc::unbounded_channel::<Wish>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("outside".into()).spawn(move || {
            runtime.block_on(async {
                while let Some((host, port, answer)) = asked.recv().await {
                    tokio::spawn(async move { drop(answer.send(reach(&host, port).await)) });
                }
            });
        })?;
        Ok(Outside(ask))
    }

    async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, String> {
        let (tell, hear) = oneshot::channel();
        let lost = "the way out is closed";
        self.0.send((host.into(), port, tell)).map_err(|_| lost.to_string())?;
        let stream = hear.await.map_err(|_| lost.to_string())??;
        TcpStream::from_std(stream).map_err(|e| e.to_string())
    }
}

async fn reach(host: &str, port: u16) -> Result<std::net::TcpStream, String> {
    let work = async {
        let found: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await.map_err(|e| e.to_string())?.collect();
        let mut last = String::from("the name has no address");
        for address in found {
            if !public(address.ip()) {
                last = format!("{} is no address of the internet", address.ip());
                continue;
            }
            match TcpStream::connect(address).await.and_then(TcpStream::into_std) {
                Ok(stream) => return Ok(stream),
                Err(e) => last = e.to_string(),
            }
        }
        Err(last)
    };
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| Err("it does not answer".into()))
}

/// An address of the internet, not of this machine, of its neighbours or of nobody (IANA's special-purpose registries).
pub fn public(ip: IpAddr) -> bool {
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
    // NAT64 carries an IPv4 address (RFC 6052), 6to4 and Teredo do too and are retired.
    if s[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        let [.., a, b, c, d] = ip.octets();
        return public_v4(Ipv4Addr::new(a, b, c, d));
    }
    s[0] & 0xe000 == 0x2000 && s[0] != 0x2002 && !(s[0] == 0x2001 && (s[1] == 0 || s[1] == 0xdb8))
}

/// The line of comfy.toml that lets it pass.
fn remedy(egress: &Egress, host: &str, port: u16) -> String {
    let mut list = if let Egress::Only(list) = egress { list.clone() } else { Vec::new() };
    list.push(format!("{host}:{port}"));
    let quoted: Vec<String> = list.iter().map(|e| format!("\"{e}\"")).collect();
    format!("[network] egress = [{}]", quoted.join(", "))
}

impl Proxy {
    pub fn new(egress: Egress, outside: Option<Outside>, tell: fn(&str)) -> Proxy {
        Proxy { egress, outside, refused: Mutex::default(), tell }
    }

    /// Serves every connection of `listener`, for ever.
    pub async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let proxy = Arc::clone(&self);
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let proxy = Arc::clone(&proxy);
                    async move { Ok::<_, Infallible>(proxy.answer(request).await) }
                });
                let mut server = http1::Builder::new();
                server.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
                let _ = server.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
            });
        }
    }

    async fn answer(&self, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
        let target = request.uri().authority().map(|a| (a.host().trim_matches(['[', ']']).to_string(), a.port_u16()));
        let Some((host, port)) = target else { return say(StatusCode::BAD_REQUEST, "this is a proxy, and the request names no host") };
        let port = port.unwrap_or(if request.method() == Method::CONNECT { 443 } else { 80 });
        let Some(outside) = self.outside.as_ref().filter(|_| self.egress.allows(&host, port)) else {
            let line = self.refuse(&host, port);
            return say(StatusCode::FORBIDDEN, &line);
        };
        if request.method() != Method::CONNECT {
            return say(StatusCode::METHOD_NOT_ALLOWED, "only CONNECT passes: use https");
        }
        let mut server = match outside.connect(&host, port).await {
            Ok(stream) => stream,
            Err(why) => return say(StatusCode::BAD_GATEWAY, &format!("{host}:{port}: {why}")),
        };
        let client = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            if let Ok(client) = client.await {
                let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut server).await;
            }
        });
        Response::default()
    }

    /// Tells it the first time.
    fn refuse(&self, host: &str, port: u16) -> String {
        let line = format!("ComfyUI asked for {host}:{port}, which network.egress does not allow; to allow it: {}", remedy(&self.egress, host, port));
        let plain = host.len() < 254 && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':'));
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if plain && refused.len() < NAMED && refused.insert(format!("{host}:{port}")) {
            (self.tell)(&line);
        }
        line
    }
}

fn say(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("comfy: {text}\n"))));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_internet_is_outside() {
        for ip in ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "64:ff9b::101:101"] {
            assert!(public(ip.parse().unwrap()), "{ip}");
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
            assert!(!public(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn a_refusal_names_the_line_that_allows_it() {
        let list = Egress::Only(vec!["huggingface.co:443".into(), "*.hf.co:443".into()]);
        assert_eq!(remedy(&list, "x.test", 443), "[network] egress = [\"huggingface.co:443\", \"*.hf.co:443\", \"x.test:443\"]");
    }
}
