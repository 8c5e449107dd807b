//! The process of the front: takes what root opened for it, becomes nobody, then listens.

use std::convert::Infallible;
use std::io::Write;
use std::os::fd::RawFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::GatewayConfig;
use super::access::{PeerIdentity, PeerVerdict};
use super::connection_limits::ConnectionSlots;
use super::egress::{self, EgressProxy, OutboundDialer};
use super::header_limit::HeaderLimitReader;
use super::relay::{ClientConnection, GatewayRelay};
use super::tokens::SessionStore;
use crate::host::fs;
use crate::host::peer::{self, PeerLookup};
use crate::host::roles::credentials::{self, Dropped};
use crate::host::roles::serve::{self, Report, RoleConfig};
use crate::manifest::EgressPolicy;
use crate::problem::{Context, Result};

/// Those that are turned away and may still read why.
const PARTING: usize = 32;
/// For how long.
const FAREWELL: Duration = Duration::from_millis(500);
/// Bytes of them that are thrown away.
const UNREAD: u64 = 1 << 16;
/// Two for each connection, and the way out's.
const OPEN_FILES: u64 = 8192;
/// How long a request may take to say what it is.
const HEAD: Duration = Duration::from_secs(30);

impl RoleConfig for GatewayConfig {
    const WHAT: &'static str = "what to serve";

    fn report(&self) -> Option<RawFd> {
        Some(self.report)
    }
}

/// Serves until its stdin ends. The first line of it is the [`GatewayConfig`]. Must be called while
/// there is one thread.
pub fn serve_gateway() -> ExitCode {
    serve::serve(
        crate::render::print_problem,
        |config: GatewayConfig, report| {
            serve::cloexec_from_3()?;
            serve::die_with_parent(config.launcher)?;
            credentials::set_rlimits(OPEN_FILES, None)?;
            nix::sys::stat::umask(fs::as_mode(0o077));
            let listener = std::net::TcpListener::from(serve::adopt_fd(config.listener)?);
            listener.set_nonblocking(true).context("listen")?;
            // Both belong to the network outside, where this process does not stay.
            let peers = peer::of_this_system().context("ask whose connections are")?;
            let (outer, dropped) = drop_privileges(&config)?;
            run_gateway(config, listener, peers.as_ref(), outer, report, &dropped).map(|()| 0)
        },
    )
}

/// What of the gateway reaches outside and inside: who dials, and where the proxy listens.
struct Outer {
    dialer: Option<OutboundDialer>,
    proxy: std::net::TcpListener,
}

/// Serves, as nobody.
fn run_gateway(
    config: GatewayConfig,
    listener: std::net::TcpListener,
    peers: &dyn PeerLookup,
    outer: Outer,
    report: &mut Report,
    _: &Dropped,
) -> Result<()> {
    // The log may take its time, and whoever has a page open does not wait for that.
    let (tell, told) = std::sync::mpsc::sync_channel::<String>(egress::NAMED);
    std::thread::spawn(move || {
        told.iter()
            .for_each(|line| crate::render::print_stdout(&format!("comfy: {line}")))
    });
    let proxy = Arc::new(EgressProxy::new(config.egress, outer.dialer, move |line| {
        drop(tell.try_send(line))
    }));
    let front = Arc::new(GatewayRelay::new(
        config.rules,
        config.inner,
        SessionStore::new(config.secret),
    ));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the front")?;
    std::thread::spawn(|| {
        // Where nothing else tells that the launcher has ended.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        std::process::exit(0);
    });
    report.succeed();
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener).context("listen")?;
        tokio::spawn(
            proxy.accept_connections(TcpListener::from_std(outer.proxy).context("listen")?),
        );
        accept_connections(&listener, &front, peers).await;
        Ok(())
    })
}

/// Goes into the launch's network, becomes an account that does not exist, and lets go of the file
/// system. The thread that stays outside is as poor; the proxy's listener is inside.
fn drop_privileges(config: &GatewayConfig) -> Result<(Outer, Dropped)> {
    // Every thread has its own confinement: it comes before the second one.
    credentials::set_no_new_privs()?;
    #[cfg(target_os = "linux")]
    crate::host::confine::landlock_rules::apply_rules(
        &crate::confine::gateway_confinement(
            &config.egress,
            config.inner.port(),
            config.proxy.port(),
        ),
        &std::collections::BTreeMap::new(),
    )?;
    let dialer = (config.egress != EgressPolicy::Deny)
        .then(OutboundDialer::start_thread)
        .transpose()
        .context("start the way out")?;
    #[cfg(target_os = "linux")]
    {
        if let Some(network) = config.network {
            crate::host::confine::netns::enter_netns(&serve::adopt_fd(network)?)?;
        }
    }
    let proxy = std::net::TcpListener::bind(config.proxy)
        .and_then(|l| l.set_nonblocking(true).map(|()| l))
        .context("listen for the way out")?;
    let groups = credentials::clear_groups()?;
    let dropped = credentials::set_ids_permanently(config.uid, config.uid, groups)?;
    credentials::set_not_dumpable();
    // A change of identity undoes it.
    serve::die_with_parent(config.launcher)?;
    Ok((Outer { dialer, proxy }, dropped))
}

/// Serves every connection of `listener`, for ever.
pub async fn accept_connections(
    listener: &TcpListener,
    front: &Arc<GatewayRelay>,
    peers: &dyn PeerLookup,
) {
    let (places, parting) = (
        Arc::new(ConnectionSlots::default()),
        Arc::new(Semaphore::new(PARTING)),
    );
    loop {
        // Out of descriptors, for example: it passes.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let peer = identify_peer(&stream, peers);
        let verdict = front.rules.judge_peer(peer);
        if let PeerVerdict::Out(why) = &verdict {
            turn_away(stream, "403 Forbidden", why, &parting);
            continue;
        }
        let Some(place) = places.acquire_slot(front.rules.slot_owner(peer, &verdict)) else {
            turn_away(
                stream,
                "503 Service Unavailable",
                "there are too many connections of the same user",
                &parting,
            );
            continue;
        };
        let id = place.id;
        let line = Arc::new(ClientConnection::new(verdict, place));
        let task = tokio::spawn(serve_connection(stream, Arc::clone(front), line));
        places.set_task(id, task.abort_handle());
    }
}

/// One answer, whatever is asked, and the end. What was sent meanwhile is thrown away unread, for a
/// moment and where few are turned away: a connection that is closed before all of it has come is
/// reset, and the answer with it.
fn turn_away(stream: TcpStream, status: &str, why: &str, parting: &Arc<Semaphore>) {
    let body = format!("comfy: {why}\n");
    let head = "content-type: text/plain; charset=utf-8\r\ncache-control: no-store\r\nconnection: \
        close\r\n";
    let answer = format!(
        "HTTP/1.1 {status}\r\n{head}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let Ok(place) = Arc::clone(parting).try_acquire_owned() else {
        // It takes what there is room for, and that is more than this.
        drop(stream.into_std().map(|mut s| s.write(answer.as_bytes())));
        return;
    };
    tokio::spawn(async move {
        let part = async move {
            let mut stream = stream;
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await?;
            tokio::io::copy(&mut stream.take(UNREAD), &mut tokio::io::sink()).await
        };
        let _ = tokio::time::timeout(FAREWELL, part).await;
        drop(place);
    });
}

async fn serve_connection(
    stream: TcpStream,
    front: Arc<GatewayRelay>,
    line: Arc<ClientConnection>,
) {
    let _ = stream.set_nodelay(true);
    let stream = HeaderLimitReader(stream, Arc::clone(&line));
    let service = service_fn(move |request| {
        let (front, line) = (Arc::clone(&front), Arc::clone(&line));
        async move { Ok::<_, Infallible>(front.answer_request(&line, request).await) }
    });
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .preserve_header_case(true);
    // The other end went away, or spoke no HTTP.
    let _ = server
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}

fn identify_peer(stream: &TcpStream, peers: &dyn PeerLookup) -> PeerIdentity {
    let (Ok(peer), Ok(own)) = (stream.peer_addr(), stream.local_addr()) else {
        return PeerIdentity::Gone;
    };
    let ip = peer.ip().to_canonical();
    // A connection from this machine to an address of its own has the same one at both ends.
    if !ip.is_loopback() && ip != own.ip().to_canonical() {
        return match peers.uid(peer, own) {
            Ok(Some(uid)) => PeerIdentity::Local(uid),
            _ => PeerIdentity::Remote(ip),
        };
    }
    match peers.uid(peer, own) {
        Ok(Some(uid)) => PeerIdentity::Local(uid),
        Ok(None) => PeerIdentity::Gone,
        Err(_) => PeerIdentity::Untold,
    }
}
