//! Passing on: requests to ComfyUI and its answers back, each body as it comes, web sockets as two streams.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::admit::{Rules, Verdict};
use super::token::Desk;

pub type Body = Either<Incoming, Full<Bytes>>;

pub struct Front {
    pub rules: Rules,
    pub inner: SocketAddr,
    desk: Mutex<Desk>,
    /// Cookies are the same for every port of a machine: the port is in the name.
    cookie: String,
}

/// One connection from outside, and the one to ComfyUI that goes with it.
pub struct Line {
    pub verdict: Verdict,
    upstream: tokio::sync::Mutex<Option<SendRequest<Incoming>>>,
}

impl Line {
    pub fn new(verdict: Verdict) -> Line {
        Line { verdict, upstream: tokio::sync::Mutex::new(None) }
    }
}

/// What concerns one connection and not the message (RFC 9110, 7.6.1); hyper frames bodies by itself.
const HOP: &[&str] =
    &["connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade", "expect"];

impl Front {
    pub fn new(rules: Rules, inner: SocketAddr, desk: Desk) -> Front {
        let cookie = format!("comfy-{}", rules.port);
        Front { rules, inner, desk: Mutex::new(desk), cookie }
    }

    /// Answers one request.
    pub async fn answer(&self, line: &Line, mut request: Request<Incoming>) -> Response<Body> {
        if let Verdict::Out(why) = &line.verdict {
            return refused(why);
        }
        if let Err(why) = self.rules.request(request.method(), request.uri(), request.headers()) {
            return refused(&why);
        }
        if let Some(done) = self.ticket(&request) {
            return done;
        }
        if line.verdict == Verdict::Token && !self.proven(request.headers()) {
            return refused(
                "this system does not tell whose a connection is: use the address that `comfy open` prints, or send the token of `comfy open --token`",
            );
        }
        self.strip(request.headers_mut());
        let host = request.headers().get(header::HOST).cloned();
        let mut response = match self.pass(line, request).await {
            Ok(response) => response,
            Err(()) => return waiting(),
        };
        shield(response.headers_mut(), host.as_ref());
        response
    }

    /// A ticket in the address of the front page becomes a cookie, and leaves the address.
    fn ticket(&self, request: &Request<Incoming>) -> Option<Response<Body>> {
        let ticket = request.uri().query().filter(|_| request.uri().path() == "/" && *request.method() == Method::GET)?.strip_prefix("ticket=")?;
        let mut response = plain(StatusCode::SEE_OTHER, "");
        response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/"));
        let value = self.desk().redeem(ticket)?;
        let cookie = format!("{}={value}; Path=/; HttpOnly; SameSite=Strict", self.cookie);
        response.headers_mut().insert(header::SET_COOKIE, HeaderValue::from_str(&cookie).ok()?);
        Some(response)
    }

    fn desk(&self) -> std::sync::MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn proven(&self, headers: &HeaderMap) -> bool {
        let bearer = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()?.strip_prefix("Bearer "));
        let desk = self.desk();
        bearer.is_some_and(|b| desk.bearer(b)) || cookies(headers).any(|(name, value)| name == self.cookie && desk.cookie(value))
    }

    /// Takes out what is between the owner and the front.
    fn strip(&self, headers: &mut HeaderMap) {
        let bearer = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()?.strip_prefix("Bearer "));
        if bearer.is_some_and(|b| self.desk().bearer(b)) {
            headers.remove(header::AUTHORIZATION);
        }
        if cookies(headers).any(|(name, _)| name == self.cookie) {
            let rest: Vec<String> = cookies(headers).filter(|(name, _)| *name != self.cookie).map(|(k, v)| format!("{k}={v}")).collect();
            headers.remove(header::COOKIE);
            if let Some(value) = HeaderValue::from_str(&rest.join("; ")).ok().filter(|_| !rest.is_empty()) {
                headers.insert(header::COOKIE, value);
            }
        }
    }

    /// To ComfyUI and back; `Err` where it does not answer.
    async fn pass(&self, line: &Line, mut request: Request<Incoming>) -> Result<Response<Body>, ()> {
        let upgrade = request.headers().get(header::UPGRADE).cloned();
        let client = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
        HOP.iter().for_each(|name| drop(request.headers_mut().remove(*name)));
        if let Some(to) = upgrade {
            request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            request.headers_mut().insert(header::UPGRADE, to);
        }
        let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
        *request.uri_mut() = path.parse::<Uri>().map_err(drop)?;
        *request.version_mut() = Version::HTTP_11;

        let mut response = self.send(line, request).await?;
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if let Some(client) = client.filter(|_| switched) {
            let server = hyper::upgrade::on(&mut response);
            tokio::spawn(async move {
                if let (Ok(client), Ok(server)) = (client.await, server.await) {
                    let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(server)).await;
                }
            });
        } else {
            HOP.iter().for_each(|name| drop(response.headers_mut().remove(*name)));
        }
        *response.version_mut() = Version::HTTP_11;
        Ok(response.map(Either::Left))
    }

    /// Over the connection that this line has, or a new one: the old one may have ended meanwhile.
    async fn send(&self, line: &Line, mut request: Request<Incoming>) -> Result<Response<Incoming>, ()> {
        let mut slot = line.upstream.lock().await;
        if let Some(mut sender) = slot.take()
            && sender.ready().await.is_ok()
        {
            match sender.try_send_request(request).await {
                Ok(response) => {
                    *slot = Some(sender);
                    return Ok(response);
                }
                // It was not sent.
                Err(mut e) => request = e.take_message().ok_or(())?,
            }
        }
        let stream = TcpStream::connect(self.inner).await.map_err(drop)?;
        let _ = stream.set_nodelay(true);
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(drop)?;
        tokio::spawn(connection.with_upgrades());
        let response = sender.send_request(request).await.map_err(drop)?;
        *slot = Some(sender);
        Ok(response)
    }
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split("; ")).filter_map(|pair| pair.split_once('='))
}

fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Either::Right(Full::new(Bytes::from(text.to_string()))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn refused(why: &str) -> Response<Body> {
    let mut response = plain(StatusCode::FORBIDDEN, &format!("comfy: {why}\n"));
    // What is left of a body is not read.
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn waiting() -> Response<Body> {
    let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, "comfy: ComfyUI does not answer yet\n");
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response.headers_mut().insert(header::REFRESH, HeaderValue::from_static("1"));
    response
}

/// What a node's JavaScript may do in the owner's browser: everything with this ComfyUI, nothing with anybody else.
///
/// ComfyUI's page evaluates code and works with blobs. `ws:` is named since not every browser takes it for `'self'`.
/// Leaving the page by its address bar is nothing that a policy could forbid.
fn shield(headers: &mut HeaderMap, host: Option<&HeaderValue>) {
    let host = host.and_then(|h| h.to_str().ok()).unwrap_or_default();
    let policy = format!(
        "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; \
         connect-src 'self' ws://{host} data: blob:; worker-src 'self' blob:; frame-src 'self' data: blob:; object-src 'none'; \
         base-uri 'self'; form-action 'self'; frame-ancestors 'self'; webrtc 'block'"
    );
    if let Ok(value) = HeaderValue::from_str(&policy) {
        // Beside one of ComfyUI's own, which can only narrow it.
        headers.append(header::CONTENT_SECURITY_POLICY, value);
    }
    for (name, value) in [
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("referrer-policy", "same-origin"),
        ("x-dns-prefetch-control", "off"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    // A page of this machine may not be asked for by scripts of another one, whatever a node answers.
    headers.remove(header::ACCESS_CONTROL_ALLOW_ORIGIN);
}
