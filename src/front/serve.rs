//! The process of the front: takes what root opened for it, becomes nobody, then listens.

use std::convert::Infallible;
use std::io::{BufRead, Write};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::Config;
use super::admit::Peer;
use super::egress::{Outside, Proxy};
use super::relay::{Front, Line};
use super::token::Desk;
use crate::host::peer::{self, Identify};
use crate::host::{fs, launched};
use crate::manifest::Egress;
use crate::problem::{Doing, Result};

/// Connections at once; more of them wait.
const AT_ONCE: usize = 1024;
/// How long a request may take to say what it is.
const HEAD: Duration = Duration::from_secs(30);

/// Serves until its stdin ends. The first line of it is the [`Config`]. Must be called while there is one thread.
pub fn serve() -> ExitCode {
    let mut line = String::new();
    let asked = std::io::stdin().lock().read_line(&mut line).doing(|| "read what to serve".into());
    let config = asked.and_then(|_| serde_json::from_str::<Config>(&line).doing(|| "understand what to serve".into()));
    let (config, report) = match config.and_then(|c| launched::take_over(c.report).map(|fd| (c, fd))) {
        Ok(both) => both,
        Err(p) => {
            crate::render::problem(&p);
            return ExitCode::FAILURE;
        }
    };
    let mut report = Some(report);
    match run(config, &mut report) {
        Ok(()) => ExitCode::SUCCESS,
        Err(p) => {
            match report {
                Some(fd) => drop(std::fs::File::from(fd).write_all(serde_json::to_string(&p).unwrap_or_default().as_bytes())),
                None => crate::render::problem(&p),
            }
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config, report: &mut Option<OwnedFd>) -> Result<()> {
    launched::keep_three()?;
    launched::die_with(config.launcher)?;
    nix::sys::stat::umask(fs::mode(0o077));
    let listener = std::net::TcpListener::from(launched::take_over(config.listener)?);
    listener.set_nonblocking(true).doing(|| "listen".into())?;
    // Both belong to the network outside, where this process does not stay.
    let peers = peer::of_this_system().doing(|| "ask whose connections are".into())?;
    let (outside, proxy) = retire(&config)?;
    let proxy_listener = proxy;
    let proxy = Arc::new(Proxy::new(config.egress, outside, |line| crate::render::stdout(&format!("comfy: {line}"))));
    let front = Arc::new(Front::new(config.rules, config.inner, Desk::new(config.secret)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().doing(|| "start the front".into())?;
    std::thread::spawn(|| {
        // Where nothing else tells that the launcher has ended.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        std::process::exit(0);
    });
    *report = None;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener).doing(|| "listen".into())?;
        tokio::spawn(proxy.accept(TcpListener::from_std(proxy_listener).doing(|| "listen".into())?));
        accept(&listener, &front, peers.as_ref()).await;
        Ok(())
    })
}

/// Goes into the launch's network, becomes an account that does not exist, and lets go of the file system. The thread that
/// stays outside is as poor; the proxy's listener is inside.
fn retire(config: &Config) -> Result<(Option<Outside>, std::net::TcpListener)> {
    // Every thread has its own confinement: it comes before the second one.
    launched::no_new_rights()?;
    #[cfg(target_os = "linux")]
    crate::host::confine::rules::apply(&crate::confine::front(&config.egress, config.inner.port(), config.proxy.port()), &std::collections::BTreeMap::new())?;
    let outside = (config.egress != Egress::Deny).then(Outside::start).transpose().doing(|| "start the way out".into())?;
    #[cfg(target_os = "linux")]
    {
        if let Some(network) = config.network {
            crate::host::confine::net::enter(&launched::take_over(network)?)?;
        }
    }
    let proxy = std::net::TcpListener::bind(config.proxy).and_then(|l| l.set_nonblocking(true).map(|()| l)).doing(|| "listen for the way out".into())?;
    launched::drop_groups()?;
    launched::become_id(config.uid, config.uid)?;
    launched::hide();
    // A change of identity undoes it.
    launched::die_with(config.launcher)?;
    Ok((outside, proxy))
}

/// Serves every connection of `listener`, for ever.
pub async fn accept(listener: &TcpListener, front: &Arc<Front>, peers: &dyn Identify) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let line = Arc::new(Line::new(front.rules.peer(who(&stream, peers))));
                let front = Arc::clone(front);
                tokio::spawn(async move {
                    converse(stream, front, line).await;
                    drop(place);
                });
            }
            // Out of descriptors, for example: it passes.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn converse(stream: TcpStream, front: Arc<Front>, line: Arc<Line>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let (front, line) = (Arc::clone(&front), Arc::clone(&line));
        async move { Ok::<_, Infallible>(front.answer(&line, request).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD).preserve_header_case(true);
    // The other end went away, or spoke no HTTP.
    let _ = server.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
}

fn who(stream: &TcpStream, peers: &dyn Identify) -> Peer {
    let (Ok(peer), Ok(own)) = (stream.peer_addr(), stream.local_addr()) else { return Peer::Gone };
    let ip = peer.ip().to_canonical();
    // A connection from this machine to an address of its own has the same one at both ends.
    if !ip.is_loopback() && ip != own.ip().to_canonical() {
        return match peers.uid(peer, own) {
            Ok(Some(uid)) => Peer::Local(uid),
            _ => Peer::Remote(ip),
        };
    }
    match peers.uid(peer, own) {
        Ok(Some(uid)) => Peer::Local(uid),
        Ok(None) => Peer::Gone,
        Err(_) => Peer::Untold,
    }
}
