//! What the front costs: uploads, downloads and many small requests through it, against the same
//! server directly.
//!
//!   cargo run --release --example front
//!
//! Server, front and client are threads of one process on loopback; each pair of numbers comes from
//! one run, in turn.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_macros,
    reason = "a measurement fails loudly and prints"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use comfy::gateway::access::AccessRules;
use comfy::gateway::process::accept_connections;
use comfy::gateway::relay::GatewayRelay;
use comfy::gateway::tokens::{LaunchSecret, SessionStore};
use comfy::host::peer;
use comfy::manifest::ClientPolicy;

const BIG: usize = 1 << 30;
const SMALL: usize = 5_000;
const ROUNDS: usize = 5;

fn head(s: &mut impl BufRead) -> String {
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") && s.read_line(&mut text).unwrap_or(0) > 0 {}
    text
}

fn length(head: &str) -> usize {
    head.lines()
        .find_map(|l| {
            l.to_ascii_lowercase()
                .strip_prefix("content-length: ")
                .and_then(|n| n.parse().ok())
        })
        .unwrap_or(0)
}

fn skip(s: &mut impl BufRead, mut left: usize) {
    while left > 0 {
        let n = s.fill_buf().unwrap().len().min(left);
        assert!(n > 0, "it ended early");
        s.consume(n);
        left -= n;
    }
}

/// Takes every body; answers as many bytes as the path says.
fn server() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = stream.set_nodelay(true);
                let mut s = BufReader::with_capacity(1 << 18, stream);
                let chunk = vec![7_u8; 1 << 20];
                loop {
                    let text = head(&mut s);
                    let Some(wanted) = text
                        .split(' ')
                        .nth(1)
                        .and_then(|p| p.trim_start_matches('/').parse::<usize>().ok())
                    else {
                        return;
                    };
                    skip(&mut s, length(&text));
                    let mut out =
                        format!("HTTP/1.1 200 OK\r\nContent-Length: {wanted}\r\n\r\n").into_bytes();
                    out.extend(&chunk[..wanted.min(chunk.len())]);
                    let mut left = wanted.saturating_sub(chunk.len());
                    if s.get_mut().write_all(&out).is_err() {
                        return;
                    }
                    while left > 0 {
                        let n = left.min(chunk.len());
                        if s.get_mut().write_all(&chunk[..n]).is_err() {
                            return;
                        }
                        left -= n;
                    }
                }
            });
        }
    });
    address
}

fn front(inner: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let rules = AccessRules {
        owner: nix::unistd::getuid().as_raw(),
        clients: ClientPolicy::Primary,
        listen: "127.0.0.1".into(),
        port: address.port(),
        remote: false,
        hostname: String::new(),
    };
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let peers = peer::of_this_system().unwrap();
            accept_connections(
                &listener,
                &Arc::new(GatewayRelay::new(
                    rules,
                    inner,
                    SessionStore::new(LaunchSecret::new().unwrap()),
                )),
                peers.as_ref(),
            )
            .await;
        });
    });
    address
}

struct Client(BufReader<TcpStream>, SocketAddr);

impl Client {
    fn new(to: SocketAddr) -> Client {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_nodelay(true).unwrap();
        Client(BufReader::with_capacity(1 << 18, stream), to)
    }

    fn ask(&mut self, get: usize, send: usize) {
        let (path, host) = (get, self.1);
        let text =
            format!("POST /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {send}\r\n\r\n");
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
        let chunk = vec![3_u8; 1 << 20];
        let mut left = send;
        while left > 0 {
            let n = left.min(chunk.len());
            self.0.get_mut().write_all(&chunk[..n]).unwrap();
            left -= n;
        }
        let text = head(&mut self.0);
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        skip(&mut self.0, get);
    }
}

fn timed(f: impl FnOnce()) -> Duration {
    let started = Instant::now();
    f();
    started.elapsed()
}

/// What is done with a server, by its address.
type Kind = (&'static str, fn(SocketAddr));

fn main() {
    let direct = server();
    let through = front(direct);
    let kinds: [Kind; 4] = [
        ("upload of 1 GiB", |to| Client::new(to).ask(2, BIG)),
        ("download of 1 GiB", |to| Client::new(to).ask(BIG, 0)),
        ("5,000 small requests, one connection", |to| {
            let mut c = Client::new(to);
            (0..SMALL).for_each(|_| c.ask(300, 0));
        }),
        ("1,000 small requests, a connection each", |to| {
            (0..SMALL / 5).for_each(|_| Client::new(to).ask(300, 0))
        }),
    ];
    for (name, f) in kinds {
        let (mut plain, mut fronted) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            plain.push(timed(|| f(direct)));
            fronted.push(timed(|| f(through)));
        }
        plain.sort();
        fronted.sort();
        let (a, b) = (
            plain[ROUNDS / 2].as_secs_f64(),
            fronted[ROUNDS / 2].as_secs_f64(),
        );
        println!(
            "{name:42} direct {:8.1} ms   front {:8.1} ms   ratio {:.2}",
            a * 1e3,
            b * 1e3,
            b / a
        );
    }
}
