//! The smart HTTP transport for libgit2, over ureq with rustls: libgit2 itself is built without
//! TLS.
//!
//! Protocol: gitprotocol-http(5). Only fetching is spoken.

use std::io::{self, Cursor, Read, Write};
use std::sync::{Arc, Mutex, Once, OnceLock};

use git2::transport::{Service, SmartSubtransport, SmartSubtransportStream, Transport};
use ureq::ResponseExt as _;

use crate::host::net::NetEnv;
use crate::host::net::redirect;
use crate::problem::{Problem, Result};

static REGISTER: Once = Once::new();

/// Registers this transport in libgit2 for http and https, once per process.
pub(super) fn register_transport(net: &NetEnv) {
    let net = net.clone();
    REGISTER.call_once(|| {
        for scheme in ["http", "https"] {
            let net = net.clone();
            // SAFETY: called once, before any other thread uses libgit2's transports
            // (git2::transport::register).
            let done = unsafe {
                git2::transport::register(scheme, move |remote| {
                    Transport::smart(
                        remote,
                        true,
                        HttpTransport {
                            net: net.clone(),
                            agent: OnceLock::new(),
                            base: Arc::new(Mutex::new(None)),
                        },
                    )
                })
            };
            // Without it libgit2 says "unsupported URL protocol", which names the cause.
            drop(done);
        }
    });
}

/// Returns the address of `url`'s repository after redirects of its own server.
///
/// # Errors
/// If it is on another server, or the redirect has no address.
pub(super) fn final_address(net: &NetEnv, url: &str) -> Result<String> {
    let asked = format!(
        "{}/info/refs?service=git-upload-pack",
        url.trim_end_matches('/')
    );
    let reply = crate::host::net::http::agent_for(net, "git/2.0 (comfy)", url)
        .get(&asked)
        .call()
        .map_err(|e| Problem::new(format!("{url}: {e}")).caused_by(&e))?;
    let last = reply.get_uri().to_string();
    let base = last
        .split_once("/info/refs")
        .map(|(base, _)| base.to_string())
        .ok_or_else(|| {
            Problem::new(format!(
                "{url} redirects to something that is not a repository"
            ))
        })?;
    if !redirect::same_host(url, &base) {
        return Err(Problem::new(format!(
            "{url} redirects to another server: {}",
            crate::text::escape_text(&base)
        ))
        .with_hint("name that address in comfy.toml if you trust it"));
    }
    Ok(base)
}

struct HttpTransport {
    net: NetEnv,
    /// Of the remote's own address: what that may lead to.
    agent: OnceLock<ureq::Agent>,
    /// Where the first answer came from, after redirects.
    base: Arc<Mutex<Option<String>>>,
}

impl SmartSubtransport for HttpTransport {
    fn action(
        &self,
        url: &str,
        action: Service,
    ) -> std::result::Result<Box<dyn SmartSubtransportStream>, git2::Error> {
        let base = self
            .base
            .lock()
            .ok()
            .and_then(|b| b.clone())
            .unwrap_or_else(|| url.trim_end_matches('/').to_string());
        let (address, post) = match action {
            Service::UploadPackLs => (format!("{base}/info/refs?service=git-upload-pack"), false),
            Service::UploadPack => (format!("{base}/git-upload-pack"), true),
            _ => return Err(git2::Error::from_str("comfy only fetches")),
        };
        let agent = self
            .agent
            .get_or_init(|| crate::host::net::http::agent_for(&self.net, "git/2.0 (comfy)", url))
            .clone();
        Ok(Box::new(HttpExchange {
            agent,
            address,
            post,
            request: Vec::new(),
            reply: None,
            base: self.base.clone(),
        }))
    }

    fn close(&self) -> std::result::Result<(), git2::Error> {
        Ok(())
    }
}

struct HttpExchange {
    agent: ureq::Agent,
    address: String,
    post: bool,
    request: Vec<u8>,
    reply: Option<Box<dyn Read + Send>>,
    base: Arc<Mutex<Option<String>>>,
}

impl HttpExchange {
    fn send_request(&mut self) -> io::Result<Box<dyn Read + Send>> {
        let body = std::mem::take(&mut self.request);
        let reply = if self.post {
            self.agent
                .post(&self.address)
                .header("Content-Type", "application/x-git-upload-pack-request")
                .header("Accept", "application/x-git-upload-pack-result")
                .send(Cursor::new(body).into_inner())
        } else {
            self.agent.get(&self.address).header("Accept", "*/*").call()
        }
        .map_err(|e| io::Error::other(format!("{}: {e}", self.address)))?;
        if !self.post {
            let last = reply.get_uri().to_string();
            if let (Some((base, _)), Ok(mut slot)) =
                (last.split_once("/info/refs"), self.base.lock())
            {
                *slot = Some(base.to_string());
            }
        }
        Ok(Box::new(reply.into_body().into_reader()))
    }
}

impl Read for HttpExchange {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.reply.is_none() {
            self.reply = Some(self.send_request()?);
        }
        self.reply.as_mut().map_or(Ok(0), |r| r.read(buf))
    }
}

impl Write for HttpExchange {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        // A second request on the same stream starts a new exchange.
        self.reply = None;
        self.request.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
