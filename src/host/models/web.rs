//! HTTP for models: redirects are handled here, so that no key is sent to another server, and a
//! silent server is given up, however long the answer.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use ureq::http::{Response, StatusCode};
use ureq::typestate::WithoutBody;
use ureq::{Agent, Body, RequestBuilder};

use super::SecretText;
use crate::host::net::NetEnv;
use crate::host::net::redirect;
use crate::problem::{Problem, Result};
use crate::text::escape_text;

const MAX_REDIRECTS: usize = 10;

/// Asks servers for parts of files.
pub(crate) struct WebClient {
    agent: Agent,
    /// For servers that another one leads to, by that one.
    led: Mutex<BTreeMap<String, Agent>>,
    net: NetEnv,
    silence: Duration,
    /// For this machine's own servers, past any proxy.
    local: Agent,
}

/// What is asked of one address.
#[derive(Debug, Clone, Default)]
pub(crate) struct WebRequest<'a> {
    pub address: &'a str,
    /// Sent only to the address's own server.
    pub key: Option<&'a SecretText>,
    /// First byte, and the last one where only some are wanted.
    pub range: Option<(u64, Option<u64>)>,
    pub head_only: bool,
    /// Redirects to another server are an answer, rather than followed.
    pub stay: bool,
}

impl WebRequest<'_> {
    fn build(
        &self,
        agent: &Agent,
        address: &str,
        key: Option<&SecretText>,
    ) -> RequestBuilder<WithoutBody> {
        let mut request = if self.head_only {
            agent.head(address)
        } else {
            agent.get(address)
        };
        // What is hashed are the file's own bytes.
        request = request.header("Accept-Encoding", "identity");
        if let Some((from, to)) = self.range {
            let to = to.map_or(String::new(), |t| t.to_string());
            request = request.header("Range", format!("bytes={from}-{to}"));
        }
        match key {
            Some(key) => request.header("Authorization", format!("Bearer {}", key.reveal())),
            None => request,
        }
    }
}

/// An answer, and its server.
pub(crate) struct WebReply {
    /// The address after redirects.
    pub address: String,
    pub response: Response<Body>,
}

/// Why there is no answer that can be used.
#[derive(Debug)]
pub(crate) enum WebRefusal {
    /// Worth another try: the network failed.
    Passing(String),
    /// Worth another try, later.
    Busy(BusyServer),
    Status(u16, String),
    Final(Problem),
}

/// A server that has no time for us, or a fault of its own.
#[derive(Debug)]
pub(crate) struct BusyServer {
    address: String,
    code: u16,
    /// How long it asks us to wait.
    wait: Option<Duration>,
}

impl BusyServer {
    /// Whether another try is due within this run of comfy.
    pub(crate) fn is_back_soon(&self) -> bool {
        self.wait.is_none_or(|w| w <= LATER)
    }

    fn into_problem(self) -> Problem {
        let meaning = match self.code {
            429 => "too many requests",
            503 => "it is busy",
            _ => "a fault of the server",
        };
        let p = Problem::new(format!(
            "{} answers {} ({meaning})",
            public_address(&self.address),
            self.code
        ));
        p.with_hint(match self.wait {
            Some(wait) => format!(
                "the server asks comfy to wait {} seconds: run it again after that",
                wait.as_secs()
            ),
            None => "wait a few minutes, and run it again".into(),
        })
    }
}

impl WebRefusal {
    pub(crate) fn into_problem(self) -> Problem {
        match self {
            WebRefusal::Passing(why) => Problem::new(why).with_hint(
                "the server did not answer as it should: check the network, and run it again",
            ),
            WebRefusal::Busy(server) => server.into_problem(),
            WebRefusal::Status(code, address) => {
                let p = Problem::new(format!("{} answers {code}", public_address(&address)));
                match code {
                    404 | 410 => p.with_hint(
                        "it does not exist (any more): correct `source` in comfy.toml, or its \
                            revision",
                    ),
                    _ => p,
                }
            }
            WebRefusal::Final(p) => p,
        }
    }
}

/// An address without its query, which may hold a signature.
pub(crate) fn public_address(address: &str) -> String {
    escape_text(address.split('?').next().unwrap_or(address))
}

/// `https://host:port`
fn server_of(address: &str) -> Option<String> {
    let (scheme, rest) = address.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next()?;
    Some(format!(
        "{}://{}",
        scheme.to_ascii_lowercase(),
        host.to_ascii_lowercase()
    ))
}

/// Whether a key for one may be shown to the other.
pub(crate) fn same_server(a: &str, b: &str) -> bool {
    server_of(a).is_some() && server_of(a) == server_of(b)
}

/// The address that a Location header means (RFC 3986, 5.2).
fn resolve_location(from: &str, location: &str) -> Option<String> {
    if location.contains("://") {
        return Some(location.into());
    }
    let server = server_of(from)?;
    if let Some(rest) = location.strip_prefix("//") {
        return Some(format!("{}://{rest}", server.split("://").next()?));
    }
    if location.starts_with('/') {
        return Some(format!("{server}{location}"));
    }
    let path = from[server.len()..].split(['?', '#']).next()?;
    let folder = path.rsplit_once('/').map_or("", |(f, _)| f);
    Some(format!("{server}{folder}/{location}"))
}

/// As long as a busy server may ask comfy to wait within one run.
const LATER: Duration = Duration::from_secs(30);
/// How often it may.
const WAITS: u32 = 3;

/// Unless somebody asks comfy to stop.
pub(crate) fn pause_for(time: Duration) -> Result<(), WebRefusal> {
    let end = std::time::Instant::now() + time;
    while std::time::Instant::now() < end {
        if crate::host::signals::is_interrupted() {
            return Err(WebRefusal::Final(Problem::interrupted()));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Attempts without progress before comfy gives up on a server.
pub(crate) const TRIES: u32 = 5;

/// Pauses before another attempt, longer each time.
pub(crate) fn pause_between(tries: u32) -> Result<(), WebRefusal> {
    pause_for(Duration::from_millis(100 << tries))
}

/// How long a server asks us to wait: in seconds or until a date (RFC 9110, 10.2.3), or until its
/// count of requests begins anew (Hugging Face's "Rate limits": `RateLimit: "api";r=0;t=55`).
fn asked_wait(
    headers: &ureq::http::HeaderMap,
    now: chrono::DateTime<chrono::Utc>,
) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    if let Some(said) = text("Retry-After") {
        let seconds = said.parse().ok().map(Duration::from_secs);
        return seconds.or_else(|| {
            let until = chrono::DateTime::parse_from_rfc2822(said).ok()?;
            // A date that has passed: now.
            Some((until.to_utc() - now).to_std().unwrap_or_default())
        });
    }
    let limits = text("RateLimit").filter(|l| l.contains("r=0"))?;
    let parts = limits.split([';', ',']).map(str::trim);
    let mut seconds = parts.filter_map(|p| p.strip_prefix("t=")?.parse().ok());
    seconds.next().map(Duration::from_secs)
}

impl WebClient {
    /// One that gives up on a connection after `silence`.
    pub(crate) fn new(net: &NetEnv, silence: Duration) -> WebClient {
        let local = crate::host::net::http::download_agent(&NetEnv::default(), silence, None);
        WebClient {
            agent: crate::host::net::http::download_agent(net, silence, None),
            led: Mutex::default(),
            net: net.clone(),
            silence,
            local,
        }
    }

    /// Its connections stay open as long as those of the first server.
    fn led_by(&self, source: &str) -> Agent {
        let made = || crate::host::net::http::download_agent(&self.net, self.silence, Some(source));
        let Ok(mut all) = self.led.lock() else {
            return made();
        };
        all.entry(server_of(source).unwrap_or_default())
            .or_insert_with(made)
            .clone()
    }

    /// The same, asked again where the server is busy: as patiently as a download is.
    pub(crate) fn ask_patiently(&self, ask: &WebRequest) -> Result<WebReply, WebRefusal> {
        let mut tries = 0;
        loop {
            match self.send_request(ask) {
                Err(WebRefusal::Busy(server)) if server.is_back_soon() && tries < TRIES => {}
                other => return other,
            }
            tries += 1;
            pause_between(tries)?;
        }
    }

    /// One request, through its redirects.
    pub(crate) fn send_request(&self, ask: &WebRequest) -> Result<WebReply, WebRefusal> {
        let mut address = ask.address.to_string();
        let first = server_of(&address);
        let mut waits = 0;
        for _ in 0..=MAX_REDIRECTS {
            if let Err(why) = crate::manifest::model_address(&address) {
                return Err(WebRefusal::Final(Problem::new(format!(
                    "{} redirects to {}, which {why}",
                    public_address(ask.address),
                    public_address(&address)
                ))));
            }
            // Plain http goes to this machine alone, which was just seen.
            let led;
            let agent = if address.starts_with("http://") {
                &self.local
            } else if server_of(&address) == first {
                &self.agent
            } else {
                // Wherever the name leads, it is no nearer than the first.
                led = self.led_by(ask.address);
                &led
            };
            let key = ask.key.filter(|_| server_of(&address) == first);
            let response = ask
                .build(agent, &address, key)
                .call()
                .map_err(|e| WebRefusal::Passing(format!("{}: {e}", public_address(&address))))?;
            let status = response.status();
            let wait = asked_wait(response.headers(), chrono::Utc::now());
            if let (429 | 503, Some(wait)) = (status.as_u16(), wait)
                && wait <= LATER
                && waits < WAITS
            {
                waits += 1;
                drop(response);
                pause_for(wait.max(Duration::from_secs(1)))?;
                continue;
            }
            if !status.is_redirection() || status == StatusCode::NOT_MODIFIED {
                return match status.as_u16() {
                    200..=299 => Ok(WebReply { address, response }),
                    code @ (408 | 425 | 429 | 500..=599) => Err(WebRefusal::Busy(BusyServer {
                        address,
                        code,
                        wait,
                    })),
                    code => Err(WebRefusal::Status(code, address)),
                };
            }
            let location = response
                .headers()
                .get("Location")
                .and_then(|l| l.to_str().ok())
                .and_then(|l| resolve_location(&address, l));
            let Some(next) = location else {
                return Err(WebRefusal::Final(Problem::new(format!(
                    "{} redirects without an address",
                    public_address(&address)
                ))));
            };
            if let Some(why) = redirect::why_refused(ask.address, &next) {
                return Err(WebRefusal::Final(Problem::new(format!(
                    "{} redirects to {}, which {why}",
                    public_address(ask.address),
                    public_address(&next)
                ))));
            }
            if ask.stay && server_of(&next) != first {
                return Ok(WebReply { address, response });
            }
            address = next;
        }
        Err(WebRefusal::Final(Problem::new(format!(
            "{}: too many redirects",
            public_address(ask.address)
        ))))
    }
}

impl WebReply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The whole file's length, from whichever header tells it.
    pub(crate) fn total_bytes(&self) -> Option<u64> {
        if self.response.status() == StatusCode::PARTIAL_CONTENT {
            return self
                .header("Content-Range")?
                .rsplit_once('/')?
                .1
                .parse()
                .ok();
        }
        self.header("Content-Length")?.parse().ok()
    }

    /// Where the bytes of a partial answer begin; 0 where the server sends all.
    pub(crate) fn first_byte(&self) -> Option<u64> {
        if self.response.status() != StatusCode::PARTIAL_CONTENT {
            return Some(0);
        }
        self.header("Content-Range")?
            .strip_prefix("bytes ")?
            .split_once('-')?
            .0
            .parse()
            .ok()
    }

    /// A strong name of this version, without its quotes.
    pub(crate) fn strong_etag(&self) -> Option<String> {
        let tag = self.header("ETag")?.strip_prefix('"')?.strip_suffix('"')?;
        (tag.len() <= 256).then(|| tag.to_string())
    }

    /// A page where a file was asked for: a login, a notice, a captive network.
    pub(crate) fn is_page(&self) -> bool {
        self.header("Content-Type")
            .is_some_and(|t| t.trim_start().to_ascii_lowercase().starts_with("text/html"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_server_says_how_long_to_wait() {
        let now = "2026-11-25T20:00:00Z".parse().unwrap();
        let wait = |name: &'static str, value: &str| {
            let mut headers = ureq::http::HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            asked_wait(&headers, now).map(|w| w.as_secs())
        };
        let table = [
            ("retry-after", "7", Some(7)),
            ("retry-after", "Wed, 25 Nov 2026 20:05:00 GMT", Some(300)),
            ("retry-after", "Wed, 25 Nov 2026 19:00:00 GMT", Some(0)),
            ("retry-after", "soon", None),
            ("ratelimit", "\"resolvers\";r=0;t=55", Some(55)),
            ("x-other", "7", None),
        ];
        for (name, value, seconds) in table {
            assert_eq!(wait(name, value), seconds, "{name}: {value}");
        }
    }

    #[test]
    fn locations_are_relative_to_where_they_were_said() {
        let from = "https://a.test:8/x/y?z=/1";
        let table = [
            ("https://b.test/q", "https://b.test/q"),
            ("//b.test/q", "https://b.test/q"),
            ("/q?r", "https://a.test:8/q?r"),
            ("q", "https://a.test:8/x/q"),
        ];
        for (location, meant) in table {
            assert_eq!(resolve_location(from, location).as_deref(), Some(meant));
        }
        assert_eq!(
            server_of("HTTPS://A.test:8/x"),
            server_of("https://a.test:8?y")
        );
    }
}
