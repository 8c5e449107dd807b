//! Relays requests to ComfyUI and its answers back: bodies as they come, web sockets as two
//! streams.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::access::{AccessRules, PeerVerdict};
use super::connection_limits::ConnectionSlot;
use super::headers::HeaderFilter;
use super::inside::InsideCheck;
use super::tokens::SessionStore;

pub(crate) type Body = Either<Incoming, Full<Bytes>>;

pub struct GatewayRelay {
    pub rules: AccessRules,
    pub inner: SocketAddr,
    /// Where others could listen at `inner`.
    pub inside: Option<Arc<InsideCheck>>,
    desk: Mutex<SessionStore>,
    filter: HeaderFilter,
    /// The cookie's name, which contains the port because cookies are shared by all ports of a
    /// host.
    cookie: String,
    /// Name and value of the cookie that says which launch this browser saw last.
    seen: (String, String),
}

/// A connection from outside, with its connection to ComfyUI.
pub(crate) struct ClientConnection {
    pub verdict: PeerVerdict,
    /// The slot; a web socket that the connection became holds it too, until it closes.
    place: Arc<ConnectionSlot>,
    upstream: tokio::sync::Mutex<Option<SendRequest<Incoming>>>,
}

impl ClientConnection {
    pub(crate) fn new(verdict: PeerVerdict, place: ConnectionSlot) -> ClientConnection {
        ClientConnection {
            verdict,
            place: Arc::new(place),
            upstream: tokio::sync::Mutex::new(None),
        }
    }
}

/// Headers of a connection and not of the message (RFC 9110, 7.6.1); hyper frames bodies itself.
const HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
];

/// The header with which a browser requests the script of a service worker (Service Workers,
/// "Service-Worker").
const SERVICE_WORKER: HeaderName = HeaderName::from_static("service-worker");
const CROWDED: &str = "the owner has too many connections";

impl GatewayRelay {
    pub fn new(rules: AccessRules, inner: SocketAddr, desk: SessionStore) -> GatewayRelay {
        let cookie = format!("comfy-{}", rules.port);
        let seen = (
            format!("comfy-seen-{}", rules.port),
            desk.launch_mark("launch"),
        );
        GatewayRelay {
            rules,
            inner,
            inside: None,
            filter: HeaderFilter::new(desk.launch_mark("copies")),
            desk: Mutex::new(desk),
            cookie,
            seen,
        }
    }

    /// Answers one request.
    pub(crate) async fn answer_request(
        &self,
        line: &ClientConnection,
        mut request: Request<Incoming>,
    ) -> Response<Body> {
        if let PeerVerdict::Out(why) = &line.verdict {
            return refused_response(why);
        }
        let proven = self.is_proven(request.headers());
        if let Err(why) =
            self.rules
                .judge_request(request.method(), request.uri(), request.headers(), proven)
        {
            return refused_response(&why);
        }
        let renewed = self.is_first_visit(&request);
        if let Some(mut done) = self.redeem_ticket(&request) {
            if !line.place.prove_owner() {
                return refused_response(CROWDED);
            }
            if renewed {
                self.clear_browser_cache(&mut done);
            }
            return done;
        }
        if let PeerVerdict::Token(why) = line.verdict {
            if !proven {
                return refused_response(&format!(
                    "{why}: use the address that `comfy open` prints, or send the token of `comfy \
                     open --token`"
                ));
            }
            if !line.place.prove_owner() {
                return refused_response(CROWDED);
            }
        }
        if request.headers().contains_key(SERVICE_WORKER) {
            return refuse_service_worker(request.headers());
        }
        self.strip_credentials(request.headers_mut());
        self.filter.filter_request(request.headers_mut());
        if let Some(inside) = &self.inside {
            inside.add_token(request.headers_mut());
        }
        let host = request.headers().get(header::HOST).cloned();
        let mut response = match self.relay_request(line, request).await {
            Ok(response) => response,
            Err(()) => return waiting_page(),
        };
        self.filter
            .filter_response(response.status(), response.headers_mut(), host.as_ref());
        if renewed {
            self.clear_browser_cache(&mut response);
        }
        response
    }

    /// Returns whether a browser opens the front page for the first time in this launch.
    fn is_first_visit(&self, request: &Request<Incoming>) -> bool {
        let page = request
            .headers()
            .get("sec-fetch-dest")
            .is_none_or(|d| d == "document");
        let known = cookie_pairs(request.headers())
            .any(|pair| pair == (self.seen.0.as_bytes(), self.seen.1.as_bytes()));
        *request.method() == Method::GET && request.uri().path() == "/" && page && !known
    }

    /// Makes the browser drop what it kept from this address: files of another launch, or of
    /// another program that had the port while ComfyUI was not running, which may claim to be valid
    /// for a year. It clears only the cache: `"storage"` would also remove the workflows that
    /// ComfyUI's page keeps there until they are saved, and service workers, its purpose, are
    /// removed by [`refuse_service_worker`]. Browsers that know service workers honour it.
    fn clear_browser_cache(&self, response: &mut Response<Body>) {
        let (name, value) = &self.seen;
        response
            .headers_mut()
            .insert("clear-site-data", HeaderValue::from_static("\"cache\""));
        // It proves nothing, so browsers may send it when a link is followed.
        if let Ok(cookie) =
            HeaderValue::from_str(&format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax"))
        {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
    }

    /// Exchanges a ticket in the address of the front page for a cookie, and redirects to remove it
    /// from the address.
    fn redeem_ticket(&self, request: &Request<Incoming>) -> Option<Response<Body>> {
        let ticket = request
            .uri()
            .query()
            .filter(|_| request.uri().path() == "/" && *request.method() == Method::GET)?
            .strip_prefix("ticket=")?;
        let mut response = go_home(request.headers());
        let value = self.lock_sessions().redeem_ticket(ticket)?;
        let cookie = format!("{}={value}; Path=/; HttpOnly; SameSite=Strict", self.cookie);
        response
            .headers_mut()
            .insert(header::SET_COOKIE, HeaderValue::from_str(&cookie).ok()?);
        Some(response)
    }

    fn lock_sessions(&self) -> std::sync::MutexGuard<'_, SessionStore> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_proven(&self, headers: &HeaderMap) -> bool {
        let bearer = headers
            .get(header::AUTHORIZATION)
            .and_then(|v| v.to_str().ok()?.strip_prefix("Bearer "));
        let desk = self.lock_sessions();
        bearer.is_some_and(|b| desk.is_bearer(b))
            || cookie_pairs(headers).any(|(name, value)| {
                name == self.cookie.as_bytes()
                    && std::str::from_utf8(value).is_ok_and(|v| desk.is_cookie(v))
            })
    }

    /// Removes the credentials that are only for the gateway.
    fn strip_credentials(&self, headers: &mut HeaderMap) {
        let bearer = headers
            .get(header::AUTHORIZATION)
            .and_then(|v| v.to_str().ok()?.strip_prefix("Bearer "));
        if bearer.is_some_and(|b| self.lock_sessions().is_bearer(b)) {
            headers.remove(header::AUTHORIZATION);
        }
        // Cookies ignore ports, so these belong to the owner's other servers on this machine.
        // ComfyUI neither sets nor needs cookies.
        headers.remove(header::COOKIE);
    }

    /// Sends the request to ComfyUI and returns its answer; `Err` if it does not answer.
    async fn relay_request(
        &self,
        line: &ClientConnection,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, ()> {
        // ComfyUI's only other protocol is web sockets.
        let upgrade = request
            .headers()
            .get(header::UPGRADE)
            .filter(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
            .cloned();
        let client = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
        HOP.iter()
            .for_each(|name| drop(request.headers_mut().remove(*name)));
        if let Some(to) = upgrade {
            request
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            request.headers_mut().insert(header::UPGRADE, to);
        }
        let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
        *request.uri_mut() = path.parse::<Uri>().map_err(drop)?;
        *request.version_mut() = Version::HTTP_11;

        let mut response = self.send_upstream(line, request).await?;
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if switched && client.is_none() {
            return Err(());
        }
        if let Some(client) = client.filter(|_| switched) {
            let server = hyper::upgrade::on(&mut response);
            let place = Arc::clone(&line.place);
            tokio::spawn(async move {
                if let (Ok(client), Ok(server)) = (client.await, server.await) {
                    let _ = tokio::io::copy_bidirectional(
                        &mut TokioIo::new(client),
                        &mut TokioIo::new(server),
                    )
                    .await;
                }
                drop(place);
            });
        } else {
            HOP.iter()
                .for_each(|name| drop(response.headers_mut().remove(*name)));
        }
        *response.version_mut() = Version::HTTP_11;
        // The gateway itself uses this header to make the browser drop its cookies
        // ([`crate::gateway::header_limit`]).
        if response.status() == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE {
            *response.status_mut() = StatusCode::BAD_REQUEST;
        }
        Ok(response.map(Either::Left))
    }

    /// Sends over the existing connection to ComfyUI, or a new one: the old one may have closed
    /// meanwhile.
    async fn send_upstream(
        &self,
        line: &ClientConnection,
        mut request: Request<Incoming>,
    ) -> Result<Response<Incoming>, ()> {
        let mut slot = line.upstream.lock().await;
        if let Some(mut sender) = slot.take()
            && sender.ready().await.is_ok()
        {
            match sender.try_send_request(request).await {
                Ok(response) => {
                    *slot = Some(sender);
                    return Ok(response);
                }
                // The request was not sent.
                Err(mut e) => request = e.take_message().ok_or(())?,
            }
        }
        let stream = TcpStream::connect(self.inner).await.map_err(drop)?;
        // Before anything of the request is sent.
        if let Some(inside) = &self.inside
            && !inside.reaches_sandbox(&stream).await
        {
            return Err(());
        }
        let _ = stream.set_nodelay(true);
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(drop)?;
        tokio::spawn(connection.with_upgrades());
        let response = sender.send_request(request).await.map_err(drop)?;
        *slot = Some(sender);
        Ok(response)
    }
}

/// Returns the cookies as bytes: a page may set one that is not ASCII, which must not hide the
/// others.
fn cookie_pairs(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    let pairs = headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|v| v.as_bytes().split(|b| *b == b';'))
        .map(<[u8]>::trim_ascii);
    pairs.filter_map(|pair| {
        pair.iter()
            .position(|b| *b == b'=')
            .map(|at| (&pair[..at], &pair[at + 1..]))
    })
}

fn text_response(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Either::Right(Full::new(Bytes::from(text.to_string()))));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn refused_response(why: &str) -> Response<Body> {
    let mut response = text_response(StatusCode::FORBIDDEN, &format!("comfy: {why}\n"));
    // The rest of a body is not read.
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Prevents service workers, which would answer in ComfyUI's name after their node is gone. A page
/// that registers one is refused. If no page sends the request, the browser is updating a worker
/// that it already has, from an earlier launch or another program on the port. It gets a script
/// that removes itself; a refusal would leave the old worker in place.
fn refuse_service_worker(headers: &HeaderMap) -> Response<Body> {
    if headers.contains_key(header::REFERER) || headers.contains_key(header::ORIGIN) {
        return refused_response("service workers outlive their node, so they are not allowed");
    }
    let mut response = text_response(
        StatusCode::OK,
        "addEventListener('install', () => skipWaiting());\naddEventListener('activate', () => \
         registration.unregister());\n",
    );
    for (name, value) in [
        ("content-type", "text/javascript"),
        ("service-worker-allowed", "/"),
        ("content-security-policy", "default-src 'none'"),
    ] {
        response.headers_mut().insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    response
}

/// Leads to the front page without the ticket. A browser that came by a link of another page would
/// follow a redirect without the cookie, since it counts as that page's (SameSite=Strict), so it gets
/// a page of this site.
fn go_home(headers: &HeaderMap) -> Response<Body> {
    let led = headers
        .get("sec-fetch-site")
        .is_some_and(|v| v == "cross-site" || v == "same-site");
    if !led {
        let mut response = text_response(StatusCode::SEE_OTHER, "");
        response
            .headers_mut()
            .insert(header::LOCATION, HeaderValue::from_static("/"));
        return response;
    }
    let mut response = text_response(
        StatusCode::OK,
        "<!doctype html>\n<meta http-equiv=\"refresh\" content=\"0; url=/\">\n<title>ComfyUI</title>\n",
    );
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

fn waiting_page() -> Response<Body> {
    let mut response = text_response(
        StatusCode::SERVICE_UNAVAILABLE,
        "comfy: ComfyUI does not answer yet\n",
    );
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
        .headers_mut()
        .insert(header::REFRESH, HeaderValue::from_static("1"));
    response
}
