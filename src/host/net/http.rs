//! HTTP as comfy itself speaks it: ureq with rustls, the caller's proxy, and limits on how long a
//! server may say nothing.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, DefaultConnector, NextTimeout, Transport,
};

use super::NetEnv;
use super::redirect::RedirectGuard;

type Builder = ureq::config::ConfigBuilder<ureq::typestate::AgentScope>;

fn agent_builder(net: &NetEnv) -> Builder {
    let roots = net
        .vars
        .get("SSL_CERT_FILE")
        .and_then(|path| root_certificates(path))
        .unwrap_or(RootCerts::WebPki);
    let variable = [
        "https_proxy",
        "HTTPS_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
    ]
    .iter()
    .find_map(|k| net.vars.get(*k));
    ureq::Agent::config_builder()
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .proxy(variable.and_then(|p| ureq::Proxy::new(p).ok()))
        .timeout_connect(Some(Duration::from_secs(20)))
}

/// An agent for what is asked of `source`, which takes a status of 400 and above as an error.
pub fn agent_for(net: &NetEnv, name: &str, source: &str) -> ureq::Agent {
    let config = agent_builder(net)
        .http_status_as_error(true)
        .timeout_recv_response(Some(Duration::from_secs(2 * net.stall_timeout())))
        .timeout_per_read(Some(Duration::from_secs(net.stall_timeout())))
        .user_agent(name)
        .build();
    ureq::Agent::with_parts(
        config,
        Connector::<()>::chain(redirect_guard(source), DefaultConnector::default()),
        DefaultResolver::default(),
    )
}

fn redirect_guard(source: &str) -> RedirectGuard {
    RedirectGuard {
        source: Some(source.into()),
    }
}

/// An agent for files of any size: it gives up after `silence`, and hands redirects and errors to
/// the caller. With a `source` it connects where that may lead ([`crate::host::net::redirect`]).
pub(crate) fn download_agent(net: &NetEnv, silence: Duration, source: Option<&str>) -> ureq::Agent {
    let config = agent_builder(net)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_per_read(Some(silence))
        .timeout_per_write(Some(silence))
        .max_idle_connections_per_host(16)
        .max_idle_connections(32)
        .input_buffer_size(256 << 10)
        .user_agent(concat!("comfy/", env!("CARGO_PKG_VERSION")))
        .build();
    let held = RedirectGuard {
        source: source.map(str::to_string),
    };
    let guarded =
        Connector::<()>::chain(held, DefaultConnector::default()).chain(InterruptibleConnector);
    ureq::Agent::with_parts(config, guarded, DefaultResolver::default())
}

/// Agents for indexes of packages and for what they name: each keeps its connections, and looks a
/// name up only for a new one.
pub(crate) struct PackageAgents<'a> {
    pub net: &'a NetEnv,
    /// By page and server.
    kept: Mutex<BTreeMap<(String, String), ureq::Agent>>,
}

impl PackageAgents<'_> {
    pub(crate) fn new(net: &NetEnv) -> PackageAgents<'_> {
        PackageAgents {
            net,
            kept: Mutex::default(),
        }
    }

    /// An agent for the server of `address`, which `page` of an index names.
    pub(crate) fn for_address(&self, address: &str, page: &str) -> ureq::Agent {
        // A proxy is chosen by the scheme.
        let scheme = address.split_once("://").map_or("", |(scheme, _)| scheme);
        let server = format!("{scheme}://{}", host_and_port(address));
        let mut kept = self.kept.lock().unwrap_or_else(|e| e.into_inner());
        let agent = kept.entry((page.to_string(), server));
        let make = || of_packages(self.net, address, page);
        agent.or_insert_with(make).clone()
    }
}

/// An agent for the server of `address`, an index of packages or one that it names, with what uv
/// takes from the environment: a proxy by scheme and NO_PROXY, UV_HTTP_TIMEOUT, certificates, hosts
/// whose certificate nobody can check. Redirects are followed, without what was sent of a password
/// to another server, and where what `page` of the index names may lead; a status of 400 and above
/// is an answer.
pub fn of_packages(net: &NetEnv, address: &str, page: &str) -> ureq::Agent {
    let var = |names: &[&str]| names.iter().find_map(|k| net.vars.get(*k));
    let set = |name: &str| {
        net.vars.get(name).is_some_and(|v| {
            !["", "0", "false", "no", "off"].contains(&v.to_ascii_lowercase().as_str())
        })
    };
    let scheme: &[&str] = if address.starts_with("https://") {
        &["https_proxy", "HTTPS_PROXY"]
    } else {
        &["http_proxy"]
    };
    let proxy = var(scheme)
        .or_else(|| var(&["ALL_PROXY", "all_proxy"]))
        .and_then(|p| ureq::Proxy::new(p).ok());
    let host = host_and_port(address);
    let bare = host.rsplit_once(':').map_or(host, |(h, port)| {
        if port.bytes().all(|b| b.is_ascii_digit()) {
            h
        } else {
            host
        }
    });
    let direct = var(&["NO_PROXY", "no_proxy"]).is_some_and(|list| {
        list.split(',')
            .map(str::trim)
            .filter(|e| !e.is_empty())
            .any(|e| {
                let e = e.trim_start_matches('*').trim_start_matches('.');
                e.is_empty()
                    || bare == e
                    || host == e
                    || bare.strip_suffix(e).is_some_and(|rest| rest.ends_with('.'))
            })
    });
    let unchecked = var(&["UV_INSECURE_HOST"])
        .is_some_and(|list| list.split([',', ' ']).any(|e| e == bare || e == host));
    let roots = net
        .vars
        .get("SSL_CERT_FILE")
        .and_then(|path| root_certificates(path));
    let system = || {
        (set("UV_SYSTEM_CERTS") || set("UV_NATIVE_TLS"))
            .then(|| SYSTEM.iter().find_map(|path| root_certificates(path)))
            .flatten()
    };
    let tls = TlsConfig::builder()
        .root_certs(roots.or_else(system).unwrap_or(RootCerts::WebPki))
        .disable_verification(unchecked)
        .build();
    let asked = var(&["UV_HTTP_TIMEOUT"])
        .and_then(|s| s.parse().ok())
        .filter(|s| (1..=3600).contains(s));
    let silence = Duration::from_secs(asked.unwrap_or_else(|| net.stall_timeout()));
    let config = agent_builder(net)
        .tls_config(tls)
        .proxy(proxy.filter(|_| !direct))
        .http_status_as_error(false)
        .timeout_recv_response(Some(2 * silence))
        .timeout_per_read(Some(silence))
        .redirect_auth_headers(ureq::config::RedirectAuthHeaders::SameHost)
        .max_idle_connections_per_host(16)
        .input_buffer_size(256 << 10)
        .user_agent(concat!("comfy/", env!("CARGO_PKG_VERSION")))
        .build();
    let guarded = Connector::<()>::chain(redirect_guard(page), DefaultConnector::default())
        .chain(InterruptibleConnector);
    ureq::Agent::with_parts(config, guarded, DefaultResolver::default())
}

/// Where systems keep the certificates that they trust: Debian, Fedora, SUSE, macOS.
const SYSTEM: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// `host:port` of an address, without user and password.
pub(crate) fn host_and_port(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let whole = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    whole.rsplit_once('@').map_or(whole, |(_, host)| host)
}

/// A link of a page: whole, from the host's root, or beside the page (RFC 3986, 5.2).
pub(crate) fn absolute_link(page: &str, href: &str) -> String {
    if href.contains("://") {
        return href.into();
    }
    let (scheme, rest) = page.split_once("://").unwrap_or(("https", page));
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    let host = rest.split('/').next().unwrap_or(rest);
    if let Some(other) = href.strip_prefix("//") {
        return format!("{scheme}://{other}");
    }
    if href.starts_with('/') {
        return format!("{scheme}://{host}{href}");
    }
    // The folder of the page; what comes after its last `/` is the page itself.
    let mut base: Vec<&str> = rest.split('/').collect();
    if base.len() > 1 {
        base.pop();
    }
    let mut href = href;
    loop {
        if let Some(up) = href.strip_prefix("../") {
            href = up;
            if base.len() > 1 {
                base.pop();
            }
        } else if let Some(here) = href.strip_prefix("./") {
            href = here;
        } else {
            return format!("{scheme}://{}/{href}", base.join("/"));
        }
    }
}

/// Waits for a silent server no longer than a person who presses Ctrl-C does.
#[derive(Debug)]
struct InterruptibleConnector;

impl<In: Transport> Connector<In> for InterruptibleConnector {
    type Out = InterruptibleTransport<In>;

    fn connect(
        &self,
        _: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        Ok(chained.map(InterruptibleTransport))
    }
}

#[derive(Debug)]
struct InterruptibleTransport<T>(T);

/// Between two looks at whether somebody asked comfy to stop.
const LOOK: Duration = Duration::from_millis(200);

impl<T: Transport> Transport for InterruptibleTransport<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.0.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let (whole, began) = (timeout.for_read(), std::time::Instant::now());
        loop {
            let left = whole.after.saturating_sub(began.elapsed());
            let slice = NextTimeout {
                after: left.min(LOOK).into(),
                reason: whole.reason,
                per_read: None,
                per_write: None,
            };
            match self.0.await_input(slice) {
                Err(ureq::Error::Timeout(_)) if crate::host::signals::is_interrupted() => {
                    return Err(ureq::Error::Io(std::io::Error::other("interrupted")));
                }
                Err(ureq::Error::Timeout(_)) if left > LOOK => {}
                other => return other,
            }
        }
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
}

/// An agent for a server on this machine: no proxy, and an answer soon.
pub(crate) fn local_agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .proxy(None)
        .timeout_global(Some(Duration::from_secs(2)))
        .build()
        .into()
}

/// The certificates of a PEM file, as OpenSSL and uv take them from SSL_CERT_FILE; none where there
/// is none in it.
fn root_certificates(path: &str) -> Option<RootCerts> {
    let text = std::fs::read(path).ok()?;
    let found: Vec<_> = parse_pem(&text)
        .filter_map(|item| {
            if let Ok(PemItem::Certificate(c)) = item {
                Some(c)
            } else {
                None
            }
        })
        .collect();
    (!found.is_empty()).then(|| RootCerts::new_with_certs(&found))
}
