//! What a node that answers as ComfyUI, and users who are not the owner, get through the gateway:
//! nothing.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use comfy::host::peer::PeerLookup;
use comfy::manifest::ClientPolicy;

use crate::front::{OWNER, Place, head, hello, place, place_of};

/// Headers of an answer with which a node reaches past the page's policy, or past its own end.
const HOSTILE: &[(&str, &str)] = &[
    (
        "Content-Security-Policy",
        "default-src *; report-uri https://evil.test/r",
    ),
    (
        "Content-Security-Policy-Report-Only",
        "img-src 'none'; report-uri https://evil.test/r",
    ),
    ("Reporting-Endpoints", "e=\"https://evil.test/r\""),
    (
        "Report-To",
        "{\"endpoints\":[{\"url\":\"https://evil.test/r\"}]}",
    ),
    ("NEL", "{\"report_to\":\"e\",\"max_age\":31536000}"),
    ("Link", "<https://data-in-here.evil.test>; rel=preconnect"),
    ("Refresh", "0;url=https://evil.test/"),
    ("Location", "https://evil.test/"),
    ("Content-Location", "https://evil.test/"),
    ("Service-Worker-Allowed", "/"),
    ("Alt-Svc", "h2=\"evil.test:443\"; ma=31536000"),
    ("SourceMap", "https://evil.test/map"),
    ("X-SourceMap", "https://evil.test/map"),
    ("Clear-Site-Data", "\"*\""),
    ("Set-Cookie", "comfy-8188=evil; Path=/"),
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Credentials", "true"),
    ("Access-Control-Allow-Private-Network", "true"),
    ("Timing-Allow-Origin", "*"),
    ("Cache-Control", "public, max-age=31536000, immutable"),
    ("Expires", "Fri, 01 Jan 2100 00:00:00 GMT"),
    ("Age", "0"),
    ("Last-Modified", "Sat, 01 Jan 2000 00:00:00 GMT"),
    ("Cross-Origin-Resource-Policy", "cross-origin"),
    ("Cross-Origin-Opener-Policy", "unsafe-none"),
    ("Cross-Origin-Embedder-Policy", "unsafe-none"),
    ("Referrer-Policy", "unsafe-url"),
    ("X-DNS-Prefetch-Control", "on"),
    ("Permissions-Policy", "camera=*"),
    ("Feature-Policy", "camera *"),
    ("Document-Policy", "document-write"),
    ("Origin-Trial", "token"),
    ("Accept-CH", "Sec-CH-UA-Model"),
    ("Speculation-Rules", "\"/rules.json\""),
    ("Use-As-Dictionary", "match=\"/*\""),
    ("Available-Dictionary", ":x:"),
    ("WWW-Authenticate", "Basic realm=\"your password\""),
    ("Proxy-Authenticate", "Basic realm=\"your password\""),
    ("Strict-Transport-Security", "max-age=31536000"),
    ("Public-Key-Pins", "max-age=31536000"),
    ("X-Header-Of-Tomorrow", "https://evil.test/"),
];

/// Answers with all of them, to `/moved` with a redirect.
fn hostile(s: TcpStream, tell: &Sender<String>, _: &Receiver<()>) {
    let mut s = BufReader::new(s);
    loop {
        let text = head(&mut s);
        if text.is_empty() {
            return;
        }
        let _ = tell.send(text);
        let lines: String = HOSTILE
            .iter()
            .map(|(k, v)| format!("{k}: {v}\r\n"))
            .collect();
        let own = "Content-Type: text/javascript\r\nContent-Disposition: \
            filename=\"a.js\"\r\nETag: \"1-2\"\r\nVary: Accept-Encoding\r\nContent-Length: 5\r\n";
        let early = "HTTP/1.1 103 Early Hints\r\nLink: <https://evil.test>; rel=preconnect\r\n\r\n";
        let _ = s
            .get_mut()
            .write_all(format!("{early}HTTP/1.1 200 OK\r\n{own}{lines}\r\nhello").as_bytes());
    }
}

/// The headers of an answer, sorted, without what differs each time.
fn headers(p: &Place, answer: &str) -> String {
    let (top, _) = answer.split_once("\r\n\r\n").unwrap();
    let mut all: Vec<String> = top
        .lines()
        .skip(1)
        .map(|l| {
            l.split_once(": ")
                .map_or(l.to_string(), |(k, v)| format!("{}: {v}", k.to_lowercase()))
        })
        .filter(|l| !l.starts_with("date: "))
        .map(|l| l.replace(&p.port.to_string(), "PORT"))
        .collect();
    all.sort();
    format!("{}\n{}", top.lines().next().unwrap(), all.join("\n"))
}

/// Digits of a launch's own, told apart from those of ComfyUI.
fn without_marks(text: &str) -> String {
    let mut out: Vec<String> = Vec::new();
    for word in text.split_inclusive(['"', '=', ';', '-', ' ', '\n']) {
        let digits = word.trim_end_matches(['"', '=', ';', '-', ' ', '\n']);
        let mark = digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        out.push(if mark {
            word.replace(digits, "MARK")
        } else {
            word.to_string()
        });
    }
    out.concat()
}

#[test]
fn a_node_s_own_headers_end_at_the_gateway() {
    let p = place(Some(OWNER), ClientPolicy::Primary, hostile);
    let answer = p.ask("GET /extensions/a/a.js HTTP/1.1\nHost: localhost:PORT");
    assert!(answer.ends_with("hello"), "{answer}");
    let passed = headers(&p, &answer);
    insta::assert_snapshot!(without_marks(&passed), @r#"
    HTTP/1.1 200 OK
    cache-control: no-cache
    connection: close
    content-disposition: filename="a.js"
    content-length: 5
    content-security-policy: default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; connect-src 'self' ws://localhost:PORT data: blob:; worker-src 'self' blob:; frame-src 'self' data: blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'; webrtc 'block'
    content-type: text/javascript
    cross-origin-opener-policy: same-origin
    cross-origin-resource-policy: same-origin
    etag: "MARK-1-2"
    referrer-policy: same-origin
    vary: Accept-Encoding
    x-dns-prefetch-control: off
    "#);
    let through: Vec<_> = HOSTILE
        .iter()
        .filter(|(k, v)| {
            passed
                .lines()
                .any(|l| l == format!("{}: {v}", k.to_lowercase()))
        })
        .collect();
    assert!(
        through.is_empty(),
        "{} of {} through: {through:?}",
        through.len(),
        HOSTILE.len()
    );
}

#[test]
fn a_browser_drops_what_it_kept_once_a_launch() {
    let p = place(Some(OWNER), ClientPolicy::Primary, hostile);
    let ask = |path: &str, more: &str| {
        p.ask(&format!(
            "GET {path} HTTP/1.1\nHost: localhost:PORT\nSec-Fetch-Site: \
            none\nSec-Fetch-Mode: navigate\nSec-Fetch-Dest: document{more}"
        ))
    };
    let told = |answer: &str| {
        headers(&p, answer)
            .lines()
            .filter(|l| l.starts_with("clear-site-data") || l.starts_with("set-cookie"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let first = told(&ask("/", ""));
    insta::assert_snapshot!(without_marks(&first), @r#"
    clear-site-data: "cache"
    set-cookie: comfy-seen-PORT=MARK; Path=/; HttpOnly; SameSite=Lax
    "#);
    let cookie = first
        .lines()
        .find_map(|l| l.strip_prefix("set-cookie: "))
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .replace("PORT", &p.port.to_string());
    assert_eq!(told(&ask("/", &format!("\nCookie: {cookie}"))), "");
    assert!(
        !p.seen.iter().nth(1).unwrap().contains("comfy-seen"),
        "ComfyUI does not see it"
    );
    // `comfy open` asks at an address that no copy can be of.
    let url = p.handle.open_url().unwrap();
    let landing = ask(url.split_once(&format!(":{}", p.port)).unwrap().1, "");
    assert!(
        landing.starts_with("HTTP/1.1 303 ")
            && told(&landing).contains("clear-site-data: \"cache\""),
        "{landing}"
    );
    // Parts of a page are none.
    assert_eq!(
        told(&p.ask(
            "GET / HTTP/1.1\nHost: localhost:PORT\nSec-Fetch-Site: \
        same-origin\nSec-Fetch-Dest: script"
        )),
        ""
    );
}

#[test]
fn a_copy_of_another_launch_is_asked_for_anew() {
    let (before, now) = (
        place(Some(OWNER), ClientPolicy::Primary, hostile),
        place(Some(OWNER), ClientPolicy::Primary, hostile),
    );
    let ask =
        |p: &Place, more: &str| p.ask(&format!("GET /a.js HTTP/1.1\nHost: localhost:PORT{more}"));
    let answer = ask(&before, "");
    let tag = answer
        .lines()
        .find_map(|l| l.to_lowercase().strip_prefix("etag: ").map(str::to_string))
        .unwrap();
    let condition =
        format!("\nIf-None-Match: {tag}\nIf-Modified-Since: Sat, 01 Jan 2100 00:00:00 GMT");
    before.seen.recv().unwrap();
    for (p, expected) in [(&before, true), (&now, false)] {
        ask(p, &condition);
        let seen = p.seen.recv().unwrap().to_lowercase();
        assert_eq!(
            seen.contains("if-none-match: \"1-2\"\r\n"),
            expected,
            "{seen}"
        );
        assert!(
            !seen.contains("if-modified-since") && (expected || !seen.contains("if-none-match")),
            "{seen}"
        );
    }
}

#[test]
fn no_script_becomes_a_service_worker() {
    let p = place(Some(OWNER), ClientPolicy::Primary, hostile);
    let ask = |more: &str| {
        p.ask(&format!(
            "GET /extensions/a/sw.js HTTP/1.1\nHost: localhost:PORT\nService-Worker: script{more}"
        ))
    };
    let page = ask("\nReferer: http://localhost:PORT/");
    assert!(
        page.starts_with("HTTP/1.1 403 ")
            && page
                .ends_with("comfy: service workers outlive their node, so they are not allowed\n"),
        "{page}"
    );
    // The browser itself, for a worker that it has from elsewhere: gone with its next look.
    let own = ask("");
    insta::assert_snapshot!(format!("{}\n\n{}", headers(&p, &own), own.split_once("\r\n\r\n").unwrap().1), @"
    HTTP/1.1 200 OK
    cache-control: no-store
    connection: close
    content-length: 113
    content-security-policy: default-src 'none'
    content-type: text/javascript
    service-worker-allowed: /

    addEventListener('install', () => skipWaiting());
    addEventListener('activate', () => registration.unregister());
    ");
    assert!(p.seen.try_recv().is_err(), "ComfyUI is asked for none");
}

#[test]
fn no_other_protocol_than_a_web_socket_passes() {
    let p = place(Some(OWNER), ClientPolicy::Primary, hello);
    let answer = p.ask(
        "GET / HTTP/1.1\nHost: localhost:PORT\nUpgrade: h2c\nHTTP2-Settings: AAMAAABkAAQAAP__",
    );
    assert!(answer.ends_with("hello"), "{answer}");
    assert!(!p.seen.recv().unwrap().to_lowercase().contains("upgrade"));
}

/// Everybody is who the test says at that moment.
struct Now(Arc<AtomicU32>);

impl PeerLookup for Now {
    fn uid(&self, _: SocketAddr, _: SocketAddr) -> std::io::Result<Option<u32>> {
        match self.0.load(Ordering::Relaxed) {
            u32::MAX => Err(std::io::ErrorKind::Unsupported.into()),
            uid => Ok(Some(uid)),
        }
    }
}

/// `n` connections that say half a request, and how many of them the gateway has closed.
fn half_open(p: &Place, n: usize) -> (Vec<TcpStream>, usize) {
    let all: Vec<TcpStream> = (0..n)
        .map(|_| {
            let mut s = p.connect();
            let _ = s.write_all(b"GET / HTTP/1.1\r\nHost: lo");
            s
        })
        .collect();
    std::thread::sleep(Duration::from_millis(200));
    let mut byte = [0; 1];
    let closed = all
        .iter()
        .filter(|s| {
            s.set_nonblocking(true).unwrap();
            !matches!((&mut &**s).read(&mut byte), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock)
        })
        .count();
    (all, closed)
}

#[test]
fn half_open_connections_of_others_keep_nobody_out() {
    comfy::host::roles::credentials::set_rlimits(4096, None).unwrap();
    let who = Arc::new(AtomicU32::new(OWNER));
    let told = |p: &Place| {
        who.store(OWNER, Ordering::Relaxed);
        let (start, answer) = (
            Instant::now(),
            p.ask("GET / HTTP/1.1\nHost: localhost:PORT"),
        );
        assert!(answer.ends_with("hello"), "{answer}");
        assert!(
            start.elapsed() < Duration::from_secs(1),
            "the owner waited {:?}",
            start.elapsed()
        );
    };
    let as_uid = |p: &Place, uid: u32, n: usize| {
        who.store(uid, Ordering::Relaxed);
        half_open(p, n)
    };
    // Refused ones hold no place at all, and root's are few.
    let p = place_of(
        Box::new(Now(Arc::clone(&who))),
        ClientPolicy::Primary,
        hello,
    );
    let refused = as_uid(&p, 1001, 1100);
    let root = as_uid(&p, 0, 300);
    told(&p);
    // Where every user is let in, each has a share.
    let any = place_of(Box::new(Now(Arc::clone(&who))), ClientPolicy::Any, hello);
    let shares: Vec<_> = [1001, 1002, 1003, 1004]
        .map(|uid| as_uid(&any, uid, 200))
        .into();
    told(&any);
    insta::assert_snapshot!(
        format!("refused: {}, root: {}, let in: {:?}", refused.1, root.1, shares.iter().map(|s| s.1).collect::<Vec<_>>()),
        @"refused: 1100, root: 172, let in: [72, 72, 72, 200]"
    );
}

#[test]
fn who_proves_to_be_the_owner_is_not_crowded_out_where_the_system_does_not_tell() {
    comfy::host::roles::credentials::set_rlimits(4096, None).unwrap();
    let p = place(None, ClientPolicy::Primary, hello);
    let bearer = format!(
        "GET / HTTP/1.1\r\nHost: localhost:{}\r\nAuthorization: Bearer {}\r\n\r\n",
        p.port,
        p.handle.authorization_header()
    );
    let mut own = BufReader::new(p.connect());
    let mut asked = |what: &str| {
        own.get_mut().write_all(bearer.as_bytes()).unwrap();
        assert!(head(&mut own).starts_with("HTTP/1.1 200"), "{what}");
        let mut five = [0; 5];
        own.read_exact(&mut five).unwrap();
    };
    asked("at first");
    let (held, closed) = half_open(&p, 600);
    asked("while strangers hold connections");
    // The test's server speaks to one at a time.
    drop(own);
    assert!(
        p.ask(&format!(
            "GET / HTTP/1.1\nHost: localhost:PORT\nAuthorization: Bearer {}",
            p.handle.authorization_header()
        ))
        .ends_with("hello"),
        "a new one too"
    );
    assert_eq!(closed, 600 - 128);
    drop(held);
}

/// Becomes a web socket, many at once, each until its other end goes.
fn sockets(s: TcpStream, _: &Sender<String>, _: &Receiver<()>) {
    std::thread::spawn(move || {
        let mut s = BufReader::new(s);
        let text = head(&mut s);
        let answer = if text.to_lowercase().contains("upgrade: websocket") {
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
        } else {
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
        };
        let _ = s.get_mut().write_all(answer.as_bytes());
        let _ = std::io::copy(&mut s, &mut std::io::sink());
    });
}

#[test]
fn a_web_socket_keeps_its_place_until_it_ends() {
    comfy::host::roles::credentials::set_rlimits(4096, None).unwrap();
    let who = Arc::new(AtomicU32::new(1001));
    let p = place_of(Box::new(Now(Arc::clone(&who))), ClientPolicy::Any, sockets);
    let open = || {
        let mut s = BufReader::new(p.connect());
        let asked = format!(
            "GET /ws HTTP/1.1\r\nHost: localhost:{}\r\nConnection: Upgrade\r\nUpgrade: \
             websocket\r\n\r\n",
            p.port
        );
        s.get_mut().write_all(asked.as_bytes()).unwrap();
        head(&mut s).starts_with("HTTP/1.1 101 ").then_some(s)
    };
    let held: Vec<_> = (0..300).filter_map(|_| open()).collect();
    assert_eq!(held.len(), 128, "a user's share");
    who.store(OWNER, Ordering::Relaxed);
    assert!(
        p.ask("GET / HTTP/1.1\nHost: localhost:PORT")
            .ends_with("hello")
    );
    who.store(1001, Ordering::Relaxed);
    drop(held);
    let end = Instant::now() + Duration::from_secs(5);
    while open().is_none() {
        assert!(
            Instant::now() < end,
            "an ended web socket gives its place back"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn cookies_of_a_page_keep_the_owner_s_browser_out_neither_by_their_size_nor_by_their_bytes() {
    let p = place(None, ClientPolicy::Primary, hello);
    let url = p.handle.open_url().unwrap();
    let landing = p.ask(&format!(
        "GET {} HTTP/1.1\nHost: localhost:PORT",
        url.split_once(&format!(":{}", p.port)).unwrap().1
    ));
    let pair = landing
        .lines()
        .find_map(|l| l.strip_prefix("set-cookie: "))
        .unwrap()
        .split(';')
        .next()
        .unwrap();
    let ask = |cookies: &str| {
        p.ask(&format!(
            "GET / HTTP/1.1\nHost: localhost:PORT\nCookie: {cookies}{pair}"
        ))
    };
    let large = |n: usize| format!("c={}; ", "x".repeat(4000)).repeat(n);
    // More than ComfyUI itself takes.
    for before in ["", "na\u{ef}ve=\u{e9}; ", "=; ;", &large(20)] {
        assert!(ask(before).ends_with("hello"), "{}", before.len());
        assert!(!p.seen.recv().unwrap().to_lowercase().contains("cookie"));
    }
    insta::assert_snapshot!(headers(&p, &ask(&large(180))), @r#"
    HTTP/1.1 431 Request Header Fields Too Large
    clear-site-data: "cookies"
    connection: close
    content-length: 0
    "#);
}
