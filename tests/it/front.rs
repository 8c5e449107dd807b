//! The front between a server and clients of the test: what passes, how it passes, who does not get
//! in.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use comfy::gateway::access::AccessRules;
use comfy::gateway::inside::InsideCheck;
use comfy::gateway::process::accept_connections;
use comfy::gateway::relay::GatewayRelay;
use comfy::gateway::tokens::{GatewayCredentials, LaunchSecret, SessionStore};
use comfy::host::peer::PeerLookup;
use comfy::manifest::ClientPolicy;

/// Everybody is this uid; `None`: the system does not tell.
struct Told(Option<u32>);

impl PeerLookup for Told {
    fn uid(&self, _: SocketAddr, _: SocketAddr) -> std::io::Result<Option<u32>> {
        match self.0 {
            Some(uid) => Ok(Some(uid)),
            None => Err(std::io::ErrorKind::Unsupported.into()),
        }
    }
}

pub const OWNER: u32 = 1000;

pub struct Place {
    pub port: u16,
    pub handle: GatewayCredentials,
    /// What the server saw: heads of requests, and bytes of bodies as they came.
    pub seen: Receiver<String>,
    /// Lets the server go on.
    go: Sender<()>,
}

/// A front before `server`, in threads that end with the test.
pub fn place(
    told: Option<u32>,
    clients: ClientPolicy,
    server: fn(TcpStream, &Sender<String>, &Receiver<()>),
) -> Place {
    place_of(Box::new(Told(told)), clients, server)
}

/// The same where `peers` says whose a connection is.
pub fn place_of(
    peers: Box<dyn PeerLookup>,
    clients: ClientPolicy,
    server: fn(TcpStream, &Sender<String>, &Receiver<()>),
) -> Place {
    place_inside(None, peers, clients, server)
}

/// The same where others could be at the server's port too, if `check` is given.
fn place_inside(
    check: Option<InsideCheck>,
    peers: Box<dyn PeerLookup>,
    clients: ClientPolicy,
    server: fn(TcpStream, &Sender<String>, &Receiver<()>),
) -> Place {
    let inside = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let inner = inside.local_addr().unwrap();
    let outside = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = outside.local_addr().unwrap().port();
    let (tell, seen) = channel();
    let (go, wait) = channel();
    std::thread::spawn(move || {
        inside
            .incoming()
            .flatten()
            .for_each(|s| server(s, &tell, &wait))
    });
    let rules = AccessRules {
        owner: OWNER,
        clients,
        listen: "127.0.0.1".into(),
        port,
        remote: false,
        hostname: String::new(),
    };
    let secret = LaunchSecret::new().unwrap();
    let handle = GatewayCredentials::new(format!("http://127.0.0.1:{port}"), secret.clone());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            outside.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(outside).unwrap();
            let mut relay = GatewayRelay::new(rules, inner, SessionStore::new(secret));
            relay.inside = check.map(Arc::new);
            accept_connections(&listener, &Arc::new(relay), peers.as_ref()).await;
        });
    });
    Place {
        port,
        handle,
        seen,
        go,
    }
}

impl Place {
    pub fn connect(&self) -> TcpStream {
        let s = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        s.set_read_timeout(Some(std::time::Duration::from_secs(10)))
            .unwrap();
        s
    }

    /// One request, by its first line and headers; the whole answer.
    pub fn ask(&self, head: &str) -> String {
        let mut s = self.connect();
        let head = head
            .replace("PORT", &self.port.to_string())
            .replace('\n', "\r\n");
        write!(s, "{head}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        let _ = s.read_to_string(&mut answer);
        answer
    }
}

/// The head of a message, with its empty line.
pub fn head(s: &mut impl BufRead) -> String {
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") && s.read_line(&mut text).unwrap() > 0 {}
    text
}

/// Answers `hello` to everything, with what a node could add to hurt.
pub fn hello(s: TcpStream, tell: &Sender<String>, _: &Receiver<()>) {
    let mut s = BufReader::new(s);
    loop {
        let text = head(&mut s);
        if text.is_empty() {
            return;
        }
        let _ = tell.send(text);
        let _ = s.get_mut().write_all(
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nAccess-Control-Allow-Origin: *\r\n\r\nhello",
        );
    }
}

#[test]
fn who_is_not_the_owner_is_told_so_in_one_line_and_comfyui_hears_nothing() {
    let p = place(Some(1001), ClientPolicy::Primary, hello);
    let answer = p.ask("GET / HTTP/1.1\nHost: localhost:PORT");
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(
        answer.ends_with(
            "\r\n\r\ncomfy: this ComfyUI does not belong to uid 1001 \
        (network.clients in comfy.toml)\n"
        ),
        "{answer}"
    );
    assert!(p.seen.try_recv().is_err());
    let any = place(Some(1001), ClientPolicy::Any, hello);
    assert!(
        any.ask("GET / HTTP/1.1\nHost: localhost:PORT")
            .ends_with("hello")
    );
    // Open to every user of the machine is not open to every site.
    let answer = any.ask(
        "POST /prompt HTTP/1.1\nHost: localhost:PORT\nOrigin: http://evil.test\nContent-Length: 0",
    );
    assert!(
        answer.ends_with(
            "comfy: a page of http://evil.test must not send requests to this ComfyUI\n"
        ),
        "{answer}"
    );
}

#[test]
fn the_owner_s_browser_gets_a_policy_and_comfyui_gets_the_request_as_it_was() {
    let p = place(Some(OWNER), ClientPolicy::Primary, hello);
    let answer = p.ask(
        "GET /view?filename=a%20b.png HTTP/1.1\nHost: localhost:PORT\nOrigin: \
        http://localhost:PORT\nX-Mine: 1",
    );
    assert!(answer.ends_with("hello"), "{answer}");
    let lower = answer.to_lowercase();
    assert!(
        lower.contains(&format!(
            "connect-src 'self' ws://localhost:{} data: blob:;",
            p.port
        )),
        "{answer}"
    );
    assert!(
        lower.contains("cross-origin-resource-policy: same-origin")
            && !lower.contains("access-control-allow-origin"),
        "{answer}"
    );
    let seen = p.seen.recv().unwrap().replace(&p.port.to_string(), "PORT");
    insta::assert_snapshot!(seen.replace('\r', "").trim_end(), @r"
    GET /view?filename=a%20b.png HTTP/1.1
    Host: localhost:PORT
    Origin: http://localhost:PORT
    X-Mine: 1
    ");
}

#[test]
fn nothing_is_sent_to_a_port_that_somebody_else_has() {
    const SANDBOX: u32 = 441;
    let place = |uid| {
        let inside = InsideCheck::new(Arc::new(Told(Some(uid))), SANDBOX, "inner");
        let peers = Box::new(Told(Some(OWNER)));
        place_inside(Some(inside), peers, ClientPolicy::Primary, hello)
    };
    let ask =
        "POST /prompt HTTP/1.1\nHost: localhost:PORT\nComfy-Inner-Token: mine\nContent-Length: 0";
    let theirs = place(502);
    let answer = theirs.ask(ask);
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(theirs.seen.try_recv().is_err(), "it was sent");
    let own = place(SANDBOX);
    assert!(own.ask(ask).ends_with("hello"));
    let head = own.seen.recv().unwrap().to_lowercase();
    assert!(head.contains("comfy-inner-token: inner\r\n"), "{head}");
    assert!(!head.contains("mine"), "{head}");
}

#[test]
fn without_a_told_uid_a_ticket_becomes_a_cookie_and_programs_send_a_token() {
    let p = place(None, ClientPolicy::Primary, hello);
    let ask =
        |path: &str, more: &str| p.ask(&format!("GET {path} HTTP/1.1\nHost: localhost:PORT{more}"));
    assert!(ask("/", "").contains("this system does not report the user of a connection"));
    let url = p.handle.open_url().unwrap();
    let path = url
        .strip_prefix(&format!("http://127.0.0.1:{}", p.port))
        .unwrap();
    let answer = ask(path, "");
    assert!(answer.starts_with("HTTP/1.1 303 "), "{answer}");
    let cookie = answer
        .lines()
        .find_map(|l| {
            l.strip_prefix("set-cookie: ")
                .or_else(|| l.strip_prefix("Set-Cookie: "))
        })
        .unwrap();
    assert!(
        cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict"),
        "{cookie}"
    );
    assert!(ask(path, "").contains("403"), "a ticket is good once");
    // From the page that `comfy open` leaves: a redirect would not carry the cookie.
    let url = p.handle.open_url().unwrap();
    let (_, ticket) = url.split_once("/?").unwrap();
    let led = "\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: navigate\nSec-Fetch-Dest: document";
    let answer = ask(&format!("/?{ticket}"), led);
    assert!(
        answer.starts_with("HTTP/1.1 200 ")
            && answer.contains("content=\"0; url=/\"")
            && answer.to_lowercase().contains("set-cookie: comfy-"),
        "{answer}"
    );
    let embedded = led.replace("document", "iframe");
    assert!(ask(&format!("/?{ticket}"), &embedded).contains("another site sent"));
    let pair = cookie.split(';').next().unwrap();
    assert!(ask("/", &format!("\nCookie: other=1; {pair}; more=2")).ends_with("hello"));
    let seen = p.seen.recv().unwrap();
    assert!(
        !seen.to_lowercase().contains("cookie"),
        "ComfyUI must see no cookie: {seen}"
    );
    assert!(
        ask(
            "/",
            &format!(
                "\nAuthorization: Bearer {}",
                p.handle.authorization_header()
            )
        )
        .ends_with("hello")
    );
    assert!(
        !p.seen
            .recv()
            .unwrap()
            .to_lowercase()
            .contains("authorization"),
        "nor the token"
    );
    for bad in ["\nAuthorization: Bearer x", "\nCookie: comfy-PORT=x"] {
        assert!(ask("/", bad).contains("403"), "{bad}");
    }
    // The token makes nobody's page the owner's.
    assert!(
        ask(
            "/",
            &format!(
                "\nAuthorization: Bearer {}\nOrigin: http://evil.test",
                p.handle.authorization_header()
            )
        )
        .contains("a page of http://evil.test")
    );
}

/// Says how much of a body came before it is allowed to go on; then the rest, and an answer in two
/// parts.
fn parts(s: TcpStream, tell: &Sender<String>, wait: &Receiver<()>) {
    let mut s = BufReader::new(s);
    let text = head(&mut s);
    let length: usize = text
        .lines()
        .find_map(|l| {
            l.to_lowercase()
                .strip_prefix("content-length: ")
                .map(|n| n.parse().unwrap())
        })
        .unwrap_or(0);
    let mut body = vec![0; length];
    s.read_exact(&mut body[..length / 2]).unwrap();
    tell.send(format!("{} of {length}", length / 2)).unwrap();
    wait.recv().unwrap();
    s.read_exact(&mut body[length / 2..]).unwrap();
    s.get_mut()
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        .unwrap();
    wait.recv().unwrap();
    s.get_mut().write_all(b"after").unwrap();
}

#[test]
fn bodies_pass_in_both_directions_while_they_come() {
    let p = place(Some(OWNER), ClientPolicy::Primary, parts);
    let mut s = p.connect();
    let half = vec![7_u8; 4 << 20];
    write!(
        s,
        "POST /upload/image HTTP/1.1\r\nHost: localhost:{}\r\nContent-Length: {}\r\n\r\n",
        p.port,
        half.len() * 2
    )
    .unwrap();
    s.write_all(&half).unwrap();
    // ComfyUI has the first half before the second one was sent.
    assert_eq!(p.seen.recv().unwrap(), "4194304 of 8388608");
    p.go.send(()).unwrap();
    s.write_all(&half).unwrap();
    let mut s = BufReader::new(s);
    assert!(head(&mut s).starts_with("HTTP/1.1 200 OK"));
    let mut five = [0; 5];
    s.read_exact(&mut five).unwrap();
    assert_eq!(
        &five, b"first",
        "the first part came before the second one was written"
    );
    p.go.send(()).unwrap();
    s.read_exact(&mut five).unwrap();
    assert_eq!(&five, b"after");
}

/// Switches protocols as ComfyUI does for `/ws`, then gives back what it gets.
fn socket(s: TcpStream, tell: &Sender<String>, _: &Receiver<()>) {
    let mut s = BufReader::new(s);
    tell.send(head(&mut s)).unwrap();
    s.get_mut().write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n").unwrap();
    let mut byte = [0; 1];
    while s.read_exact(&mut byte).is_ok() && s.get_mut().write_all(&[byte[0] + 1]).is_ok() {}
}

#[test]
fn a_web_socket_is_two_streams() {
    let p = place(Some(OWNER), ClientPolicy::Primary, socket);
    let mut s = p.connect();
    let port = p.port;
    write!(
        s,
        "GET /ws?clientId=1 HTTP/1.1\r\nHost: localhost:{port}\r\nOrigin: \
        http://localhost:{port}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: \
        websocket\r\nSec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .unwrap();
    let mut s = BufReader::new(s);
    let answer = head(&mut s).to_lowercase();
    assert!(
        answer.starts_with("http/1.1 101 ") && answer.contains("sec-websocket-accept: x"),
        "{answer}"
    );
    let seen = p.seen.recv().unwrap().to_lowercase();
    assert!(
        seen.contains("upgrade: websocket") && seen.contains("sec-websocket-key: k"),
        "{seen}"
    );
    for byte in [1, 2, 3] {
        s.get_mut().write_all(&[byte]).unwrap();
        let mut back = [0; 1];
        s.read_exact(&mut back).unwrap();
        assert_eq!(back[0], byte + 1);
    }
    // Another site's page gets none.
    let answer = p.ask(
        "GET /ws HTTP/1.1\nHost: localhost:PORT\nOrigin: http://evil.test\nUpgrade: websocket",
    );
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[test]
fn where_comfyui_does_not_answer_yet_a_browser_asks_again() {
    let closed = place(Some(OWNER), ClientPolicy::Primary, |s, _, _| drop(s));
    let answer = closed.ask("GET / HTTP/1.1\nHost: localhost:PORT");
    assert!(
        answer.starts_with("HTTP/1.1 503 ")
            && answer.contains("comfy: ComfyUI does not answer yet"),
        "{answer}"
    );
}
