//! HTTP as comfy itself speaks it: ureq with rustls, the caller's proxy, and limits on how long a server may say nothing.

use std::time::Duration;

use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, DefaultConnector, NextTimeout, Transport};

use super::git::NetEnv;

type Builder = ureq::config::ConfigBuilder<ureq::typestate::AgentScope>;

fn builder(net: &NetEnv) -> Builder {
    let roots = net.vars.get("SSL_CERT_FILE").and_then(|path| certificates(path)).unwrap_or(RootCerts::WebPki);
    let variable = ["https_proxy", "HTTPS_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"].iter().find_map(|k| net.vars.get(*k));
    ureq::Agent::config_builder()
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .proxy(variable.and_then(|p| ureq::Proxy::new(p).ok()))
        .timeout_connect(Some(Duration::from_secs(20)))
}

/// An agent that takes a status of 400 and above as an error.
pub fn agent(net: &NetEnv, name: &str) -> ureq::Agent {
    builder(net)
        .http_status_as_error(true)
        .timeout_recv_response(Some(Duration::from_secs(2 * net.patience())))
        .timeout_per_read(Some(Duration::from_secs(net.patience())))
        .user_agent(name)
        .build()
        .into()
}

/// An agent for files of any size: it gives up after `silence`, and hands redirects and errors to the caller.
pub fn patient(net: &NetEnv, silence: Duration) -> ureq::Agent {
    let config = builder(net)
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
    ureq::Agent::with_parts(config, DefaultConnector::default().chain(Heedful), DefaultResolver::default())
}

/// Waits for a silent server no longer than a person who presses Ctrl-C does.
#[derive(Debug)]
struct Heedful;

impl<In: Transport> Connector<In> for Heedful {
    type Out = Heeding<In>;

    fn connect(&self, _: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, ureq::Error> {
        Ok(chained.map(Heeding))
    }
}

#[derive(Debug)]
struct Heeding<T>(T);

/// Between two looks at whether somebody asked comfy to stop.
const LOOK: Duration = Duration::from_millis(200);

impl<T: Transport> Transport for Heeding<T> {
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
            let slice = NextTimeout { after: left.min(LOOK).into(), reason: whole.reason, per_read: None, per_write: None };
            match self.0.await_input(slice) {
                Err(ureq::Error::Timeout(_)) if crate::host::signals::interrupted() => {
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
pub fn local() -> ureq::Agent {
    ureq::Agent::config_builder().proxy(None).timeout_global(Some(Duration::from_secs(2))).build().into()
}

/// The certificates of a PEM file, as OpenSSL and uv take them from SSL_CERT_FILE; none where there is none in it.
fn certificates(path: &str) -> Option<RootCerts> {
    let text = std::fs::read(path).ok()?;
    let found: Vec<_> = parse_pem(&text).filter_map(|item| if let Ok(PemItem::Certificate(c)) = item { Some(c) } else { None }).collect();
    (!found.is_empty()).then(|| RootCerts::new_with_certs(&found))
}
