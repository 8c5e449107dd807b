//! The egress proxy: an HTTP proxy inside the launch's network that supports only CONNECT, and only
//! to the hosts of `network.egress`. A thread that stays outside resolves names and makes
//! connections.
//!
//! Anything that ComfyUI can read can leave through an allowed host: the stream is encrypted end to
//! end.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
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

use super::inside::InsideCheck;
use crate::host::net::nearness::{self, Nearness};
use crate::manifest::EgressPolicy;

/// How long a host may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// Simultaneous connections of ComfyUI's; more of them wait. The process serves the owner's too.
const AT_ONCE: usize = 256;
/// The number of refused hosts that are logged; more of them would tell nothing new.
pub(crate) const NAMED: usize = 100;

pub(crate) struct EgressProxy {
    egress: EgressPolicy,
    /// The dialer; `None` if no connections are allowed.
    outside: Option<OutboundDialer>,
    /// Where others could connect to it.
    inside: Option<Arc<InsideCheck>>,
    refused: Mutex<BTreeSet<String>>,
    /// Where refusals are logged; sending does not block.
    tell: Box<dyn Fn(String) + Send + Sync>,
}

type Wish = (
    String,
    u16,
    oneshot::Sender<Result<std::net::TcpStream, String>>,
);

/// Sends requests to the thread outside.
pub(crate) struct OutboundDialer(mpsc::UnboundedSender<Wish>);

impl OutboundDialer {
    /// Starts the thread, in the network and with the rights of the caller.
    ///
    /// # Errors
    /// The system's own.
    pub(crate) fn start_thread() -> std::io::Result<OutboundDialer> {
        let (ask, mut asked) = mpsc::unbounded_channel::<Wish>();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name("outside".into())
            .spawn(move || {
                runtime.block_on(async {
                    while let Some((host, port, answer)) = asked.recv().await {
                        tokio::spawn(async move {
                            drop(answer.send(connect_allowed(&host, port).await))
                        });
                    }
                });
            })?;
        Ok(OutboundDialer(ask))
    }

    async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, String> {
        let (tell, hear) = oneshot::channel();
        let lost = "the egress proxy has stopped";
        self.0
            .send((host.into(), port, tell))
            .map_err(|_| lost.to_string())?;
        let stream = hear.await.map_err(|_| lost.to_string())??;
        TcpStream::from_std(stream).map_err(|e| e.to_string())
    }
}

async fn connect_allowed(host: &str, port: u16) -> Result<std::net::TcpStream, String> {
    let work = async {
        let found: Vec<SocketAddr> = tokio::net::lookup_host((host, port))
            .await
            .map_err(|e| e.to_string())?
            .collect();
        let mut last = String::from("the name has no address");
        for address in found {
            if let Err(why) = ensure_outside(address) {
                last = why;
                continue;
            }
            match TcpStream::connect(address).await {
                // The address may have become this machine's own since the check.
                Ok(stream)
                    if stream
                        .local_addr()
                        .map_or(true, |own| own.ip() == address.ip()) =>
                {
                    last = refused_address(address.ip())
                }
                Ok(stream) => return stream.into_std().map_err(|e| e.to_string()),
                Err(e) => last = e.to_string(),
            }
        }
        Err(last)
    };
    tokio::time::timeout(PATIENCE, work)
        .await
        .unwrap_or_else(|_| Err("no answer".into()))
}

/// Ensures that a connection to `to` leaves this machine and its network, as they are at this
/// moment.
///
/// # Errors
/// It does not, or that is unknown.
fn ensure_outside(to: SocketAddr) -> Result<(), String> {
    match nearness::nearness_of(to.ip()) {
        Ok(Nearness::Outside) => Ok(()),
        Ok(_) => Err(refused_address(to.ip())),
        Err(e) => Err(format!("could not determine where {} is: {e}", to.ip())),
    }
}

fn refused_address(ip: IpAddr) -> String {
    format!("{ip} is not an internet address")
}

impl EgressProxy {
    pub(crate) fn new(
        egress: EgressPolicy,
        outside: Option<OutboundDialer>,
        inside: Option<Arc<InsideCheck>>,
        tell: impl Fn(String) + Send + Sync + 'static,
    ) -> EgressProxy {
        EgressProxy {
            egress,
            outside,
            inside,
            refused: Mutex::default(),
            tell: Box::new(tell),
        }
    }

    /// Serves every connection of `listener`, without end.
    pub(crate) async fn accept_connections(self: Arc<Self>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            if self
                .inside
                .as_ref()
                .is_some_and(|i| !i.is_of_sandbox(&stream))
            {
                continue;
            }
            let proxy = Arc::clone(&self);
            tokio::spawn(async move {
                let place = Arc::new(place);
                let service = service_fn(move |request| {
                    let (proxy, place) = (Arc::clone(&proxy), Arc::clone(&place));
                    async move { Ok::<_, Infallible>(proxy.answer_request(request, place).await) }
                });
                let mut server = http1::Builder::new();
                server
                    .timer(TokioTimer::new())
                    .header_read_timeout(PATIENCE);
                let _ = server
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades()
                    .await;
            });
        }
    }

    /// `place` is held as long as the connection lives that this makes.
    async fn answer_request(
        &self,
        mut request: Request<Incoming>,
        place: Arc<OwnedSemaphorePermit>,
    ) -> Response<Full<Bytes>> {
        let target = request
            .uri()
            .authority()
            .map(|a| (a.host().trim_matches(['[', ']']).to_string(), a.port_u16()));
        let Some((host, port)) = target else {
            return text_response(
                StatusCode::BAD_REQUEST,
                "this is a proxy, and the request does not name a host",
            );
        };
        let port = port.unwrap_or(if request.method() == Method::CONNECT {
            443
        } else {
            80
        });
        let Some(outside) = self
            .outside
            .as_ref()
            .filter(|_| self.egress.allows(&host, port))
        else {
            let line = self.log_refusal(&host, port);
            return text_response(StatusCode::FORBIDDEN, &line);
        };
        if request.method() != Method::CONNECT {
            return text_response(
                StatusCode::METHOD_NOT_ALLOWED,
                "only CONNECT is supported: use https",
            );
        }
        let mut server = match outside.connect(&host, port).await {
            Ok(stream) => stream,
            Err(why) => {
                return text_response(StatusCode::BAD_GATEWAY, &format!("{host}:{port}: {why}"));
            }
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

    /// Logs the first refusal of a host and returns its text.
    fn log_refusal(&self, host: &str, port: u16) -> String {
        let line = format!(
            "ComfyUI tried to reach {host}:{port}, which network.egress does not allow; to allow \
             it: {}",
            self.egress.line_that_allows(&format!("{host}:{port}"))
        );
        let plain = host.len() < 254
            && host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':'));
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if plain && refused.len() < NAMED && refused.insert(format!("{host}:{port}")) {
            (self.tell)(line.clone());
        }
        line
    }
}

fn text_response(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("comfy: {text}\n"))));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_line_that_allows_it() {
        let list = EgressPolicy::Only(vec!["huggingface.co:443".into(), "*.hf.co:443".into()]);
        assert_eq!(
            list.line_that_allows("x.test:443"),
            "[network] egress = [\"huggingface.co:443\", \"*.hf.co:443\", \"x.test:443\"]"
        );
    }
}
