//! The gateway's process: it takes what root opened for it, drops its privileges, then listens.

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
use super::inside::InsideCheck;
use super::relay::{ClientConnection, GatewayRelay};
use super::tokens::SessionStore;
use crate::confine::GatewayPorts;
use crate::host::fs;
use crate::host::peer::{self, PeerLookup};
use crate::host::roles::credentials::{self, Dropped};
use crate::host::roles::serve::{self, Report, RoleConfig};
use crate::manifest::EgressPolicy;
use crate::problem::{Context, Result};

/// The number of refused clients that may still read the reason.
const PARTING: usize = 32;
/// How long a refused client may read.
const FAREWELL: Duration = Duration::from_millis(500);
/// The number of bytes of theirs that are discarded.
const UNREAD: u64 = 1 << 16;
/// Two for each connection, and those of the egress proxy.
const OPEN_FILES: u64 = 8192;
/// How long a request may take to send its head.
const HEAD: Duration = Duration::from_secs(30);

impl RoleConfig for GatewayConfig {
    const WHAT: &'static str = "what to serve";

    fn report(&self) -> Option<RawFd> {
        Some(self.report)
    }
}

/// Serves until its stdin is closed. The first line of stdin is the [`GatewayConfig`]. Must be
/// called while the process has one thread.
pub(crate) fn serve_gateway() -> ExitCode {
    serve::serve(
        crate::render::print_problem,
        |config: GatewayConfig, report| {
            serve::cloexec_from_3()?;
            serve::die_with_parent(config.launcher)?;
            // The terminal's Ctrl-C is the launcher's: it stops ComfyUI first.
            nix::unistd::setsid().context("begin a session")?;
            credentials::set_rlimits(OPEN_FILES, None)?;
            nix::sys::stat::umask(fs::as_mode(0o077));
            let listener = config.listener.map(serve::adopt_fd).transpose()?;
            let listener = listener.map(std::net::TcpListener::from);
            if let Some(listener) = &listener {
                listener.set_nonblocking(true).context("listen")?;
            }
            // Both belong to the network outside, which this process leaves.
            let peers: Arc<dyn PeerLookup> = peer::of_this_system()
                .context("prepare to look up the users of connections")?
                .into();
            let (outer, dropped) = drop_privileges(&config)?;
            run_gateway(config, listener, &peers, outer, report, &dropped).map(|()| 0)
        },
    )
}

/// What connects the gateway to outside and inside: the dialer and the proxy's listener.
struct Outer {
    dialer: Option<OutboundDialer>,
    proxy: std::net::TcpListener,
}

/// Serves without privileges.
fn run_gateway(
    config: GatewayConfig,
    listener: Option<std::net::TcpListener>,
    peers: &Arc<dyn PeerLookup>,
    outer: Outer,
    report: &mut Report,
    _: &Dropped,
) -> Result<()> {
    // The log may be slow, and clients must not wait for it.
    let (tell, told) = std::sync::mpsc::sync_channel::<String>(egress::NAMED);
    std::thread::spawn(move || {
        told.iter()
            .for_each(|line| crate::render::print_stdout(&format!("comfy: {line}")))
    });
    // In a network of the launch's own there is nobody else.
    let inside = config.network.is_none().then(|| {
        let token = config.secret.inner_token();
        Arc::new(InsideCheck::new(Arc::clone(peers), config.sandbox, &token))
    });
    let proxy = Arc::new(EgressProxy::new(
        config.egress,
        outer.dialer,
        inside.clone(),
        move |line| drop(tell.try_send(line)),
    ));
    let mut front = GatewayRelay::new(config.rules, config.inner, SessionStore::new(config.secret));
    front.inside = inside;
    let front = Arc::new(front);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the gateway")?;
    std::thread::spawn(|| {
        // In case nothing else shows that the launcher has exited.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        std::process::exit(0);
    });
    report.succeed();
    runtime.block_on(async {
        let proxy = proxy.accept_connections(TcpListener::from_std(outer.proxy).context("listen")?);
        let Some(listener) = listener else {
            proxy.await;
            return Ok(());
        };
        let listener = TcpListener::from_std(listener).context("listen")?;
        tokio::spawn(proxy);
        accept_connections(&listener, &front, peers.as_ref()).await;
        Ok(())
    })
}

/// Enters the launch's network, takes on a uid that no account has, and gives up the file system.
/// The thread that stays outside has no more rights; the proxy's listener is inside.
fn drop_privileges(config: &GatewayConfig) -> Result<(Outer, Dropped)> {
    // On Linux each thread has its own confinement, so this comes before the second thread.
    credentials::set_no_new_privs()?;
    let ports = GatewayPorts {
        listen: config.listener.map(|_| config.rules.port),
        comfyui: config.inner.port(),
        proxy: config.proxy.port(),
    };
    #[cfg(target_os = "linux")]
    crate::host::confine::landlock_rules::apply_rules(
        &crate::confine::gateway_confinement(&config.egress, &ports),
        &std::collections::BTreeMap::new(),
    )?;
    let dialer = (config.egress != EgressPolicy::Deny)
        .then(OutboundDialer::start_thread)
        .transpose()
        .context("start the egress proxy")?;
    #[cfg(target_os = "linux")]
    {
        if let Some(network) = config.network {
            crate::host::confine::netns::enter_netns(&serve::adopt_fd(network)?)?;
        }
    }
    let proxy = std::net::TcpListener::bind(config.proxy)
        .and_then(|l| l.set_nonblocking(true).map(|()| l))
        .context("listen for the egress proxy")?;
    let groups = credentials::clear_groups()?;
    let dropped = credentials::set_ids_permanently(config.uid, config.uid, groups)?;
    credentials::set_not_dumpable();
    // A change of identity would undo it.
    serve::die_with_parent(config.launcher)?;
    #[cfg(not(target_os = "linux"))]
    if let Some(p) = crate::host::confine::sandbox_init::apply_if_possible(
        &crate::confine::seatbelt::SeatbeltProfile::for_gateway(&config.egress, &ports),
        config.require_confinement,
    )? {
        crate::render::print_warning(&format!("the gateway is not confined: {}", p.message));
    }
    Ok((Outer { dialer, proxy }, dropped))
}

/// Serves every connection of `listener`, without end.
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
        // Such as out of descriptors, which is temporary.
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
                "the same user has too many connections",
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

/// Sends one answer, whatever the request, and closes the connection. What the client sends
/// meanwhile is discarded, for a moment and if few clients are being refused: if the connection
/// were closed before the whole request has arrived, it would be reset and the answer lost.
fn turn_away(stream: TcpStream, status: &str, why: &str, parting: &Arc<Semaphore>) {
    let body = format!("comfy: {why}\n");
    let head = "content-type: text/plain; charset=utf-8\r\ncache-control: no-store\r\nconnection: \
        close\r\n";
    let answer = format!(
        "HTTP/1.1 {status}\r\n{head}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let Ok(place) = Arc::clone(parting).try_acquire_owned() else {
        // The socket's buffer has room for more than this.
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
    // The client disconnected, or did not speak HTTP.
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
    // A connection from this machine to one of its own addresses has the same address at both ends.
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
