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
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::host::interfaces;
use crate::manifest::Egress;

/// How long a host may take to answer at all.
const PATIENCE: Duration = Duration::from_secs(15);
/// Connections of ComfyUI's at once; more of them wait. The process has the owner's too.
const AT_ONCE: usize = 256;
/// Refused hosts that are named in the log; a node that asks for more of them says nothing new.
pub const NAMED: usize = 100;

pub struct Proxy {
    egress: Egress,
    /// Nobody, where nothing may leave.
    outside: Option<Outside>,
    refused: Mutex<BTreeSet<String>>,
    /// Where refusals are told; it waits for nobody.
    tell: Box<dyn Fn(String) + Send + Sync>,
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
            if let Err(why) = outside(address) {
                last = why;
                continue;
            }
            match TcpStream::connect(address).await {
                // Meanwhile the address may have become the machine's own.
                Ok(stream) if stream.local_addr().map_or(true, |own| own.ip() == address.ip()) => last = closed(address.ip()),
                Ok(stream) => return stream.into_std().map_err(|e| e.to_string()),
                Err(e) => last = e.to_string(),
            }
        }
        Err(last)
    };
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| Err("it does not answer".into()))
}

/// Whether a connection to `to` leaves this machine and its network, as they are at this moment.
///
/// # Errors
/// It does not, or nobody can say.
fn outside(to: SocketAddr) -> Result<(), String> {
    let own = interfaces::own().map_err(|e| format!("the addresses of this machine: {e}"))?;
    if !public(to.ip()) || at_home(to.ip(), &own) {
        return Err(closed(to.ip()));
    }
    let itself = interfaces::delivers_to_itself(to.ip().to_canonical()).map_err(|e| e.to_string())?;
    // What it carries need not be reachable by itself.
    if itself || interfaces::delivers_to_itself(carried(to.ip())).unwrap_or(false) {
        return Err(closed(to.ip()));
    }
    Ok(())
}

fn closed(ip: IpAddr) -> String {
    format!("{ip} is no address of the internet")
}

/// One of the machine's `own` addresses (with the bits of their prefixes), or for IPv6 one of the same link: at home these are the neighbours,
/// whose addresses are public too. Links of IPv4 with public addresses are a provider's.
fn at_home(ip: IpAddr, own: &[(IpAddr, u32)]) -> bool {
    let ip = carried(ip);
    own.iter().any(|(o, bits)| match (ip, o.to_canonical()) {
        (IpAddr::V6(ip), IpAddr::V6(o)) => (ip.to_bits() ^ o.to_bits()).leading_zeros() >= *bits,
        (ip, o) => ip == o,
    })
}

/// The address that is meant: an IPv4 address may be written as one of IPv6 (RFC 4291, 2.5.5; NAT64, RFC 6052).
fn carried(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => nat64(v6).map_or(IpAddr::V6(v6), IpAddr::V4),
        v4 => v4,
    }
}

fn nat64(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., a, b, c, d] = ip.octets();
    (ip.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0]).then(|| Ipv4Addr::new(a, b, c, d))
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
    // NAT64 carries an IPv4 address, 6to4 and Teredo do too and are retired.
    if let Some(v4) = nat64(ip) {
        return public_v4(v4);
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
    pub fn new(egress: Egress, outside: Option<Outside>, tell: impl Fn(String) + Send + Sync + 'static) -> Proxy {
        Proxy { egress, outside, refused: Mutex::default(), tell: Box::new(tell) }
    }

    /// Serves every connection of `listener`, for ever.
    pub async fn accept(self: Arc<Self>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let proxy = Arc::clone(&self);
            tokio::spawn(async move {
                let place = Arc::new(place);
                let service = service_fn(move |request| {
                    let (proxy, place) = (Arc::clone(&proxy), Arc::clone(&place));
                    async move { Ok::<_, Infallible>(proxy.answer(request, place).await) }
                });
                let mut server = http1::Builder::new();
                server.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
                let _ = server.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
            });
        }
    }

    /// `place` is held as long as the connection lives that this makes.
    async fn answer(&self, mut request: Request<Incoming>, place: Arc<OwnedSemaphorePermit>) -> Response<Full<Bytes>> {
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
            drop(place);
        });
        Response::default()
    }

    /// Tells it the first time.
    fn refuse(&self, host: &str, port: u16) -> String {
        let line = format!("ComfyUI asked for {host}:{port}, which network.egress does not allow; to allow it: {}", remedy(&self.egress, host, port));
        let plain = host.len() < 254 && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':'));
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if plain && refused.len() < NAMED && refused.insert(format!("{host}:{port}")) {
            (self.tell)(line.clone());
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
    fn the_machine_s_own_addresses_are_not_outside() {
        let own: Vec<(IpAddr, u32)> = [("93.184.216.34", 24), ("2606:2800:220:1::10", 64), ("::1", 128)].map(|(ip, bits)| (ip.parse().unwrap(), bits)).into();
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
        let told = cases.map(|ip| format!("{ip}: {}", if at_home(ip.parse().unwrap(), &own) { "at home" } else { "outside" }));
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

    #[test]
    fn a_refusal_names_the_line_that_allows_it() {
        let list = Egress::Only(vec!["huggingface.co:443".into(), "*.hf.co:443".into()]);
        assert_eq!(remedy(&list, "x.test", 443), "[network] egress = [\"huggingface.co:443\", \"*.hf.co:443\", \"x.test:443\"]");
    }
}
