//! The gateway and the way out, with real users and addresses: who holds its places, and what the
//! way out leads to.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::confined::{Run, ready};
use super::machine::{Machine, ok, private, said};

/// Half requests without end: 1,100 of them at once, opened anew as they are closed.
const CROWD: &str = r"
import resource, select, socket, sys, time
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE); resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
held, closed, poll = {}, 0, select.poll()
while True:
    if len(held) < 1100:
        s = socket.socket()
        try: s.connect(('127.0.0.1', int(sys.argv[1]))); s.send(b'GET / HTTP/1.1\r\nHost: lo')
        except OSError: s.close(); time.sleep(0.01); continue
        held[s.fileno()] = s; poll.register(s, select.POLLIN | select.POLLRDHUP)
    for fd, _ in poll.poll(0 if len(held) < 1100 else 100):
        poll.unregister(fd); held.pop(fd).close(); closed += 1
";

/// As one user, until it is dropped.
struct Crowd(Child);

impl Crowd {
    fn of(m: &Machine, user: &str, port: u16) -> Crowd {
        Crowd(
            m.as_user(user, "/usr/bin/python3", &["-c", CROWD, &port.to_string()])
                .stdout(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What alice gets, and how long it took.
fn answered(m: &Machine, port: u16) -> Duration {
    let start = Instant::now();
    let url = format!("http://127.0.0.1:{port}/system_stats");
    let out = m
        .as_user(
            "alice",
            "curl",
            &[
                "-s",
                "-m",
                "8",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                &url,
            ],
        )
        .output()
        .unwrap();
    assert_eq!(said(&out), "200", "after {:?}", start.elapsed());
    start.elapsed()
}

#[test]
fn other_users_do_not_keep_the_owner_out() {
    private("gateway::other_users_do_not_keep_the_owner_out", |m| {
        let port = ready(m, "", str::to_string);
        let _crowds = ["mallory", "root"].map(|user| Crowd::of(m, user, port));
        // It becomes ready while others hold on to it.
        let start = Instant::now();
        ok(&m.alice_starts());
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "ready after {:?}",
            start.elapsed()
        );
        std::thread::sleep(Duration::from_secs(2));
        let slowest = (0..5).map(|_| answered(m, port)).max().unwrap();
        assert!(slowest < Duration::from_secs(2), "{slowest:?}");
        eprintln!("the slowest of 5 answers: {slowest:?}");
        ok(&m.root(&["stop"]));
        // Where all users are let in, each has a share.
        m.manifest(
            &(std::fs::read_to_string(m.dot.join("comfy.toml")).unwrap()
                + "\n[network]\nclients = \"any\"\n"),
        );
        m.apply();
        let run = Run::start(m);
        std::thread::sleep(Duration::from_secs(2));
        let slowest = (0..5).map(|_| answered(m, port)).max().unwrap();
        assert!(slowest < Duration::from_secs(2), "{slowest:?}");
        run.end();
    });
}

impl Machine {
    /// `comfy start`, as sudo starts it for alice.
    fn alice_starts(&self) -> std::process::Output {
        self.root(&["start"])
    }
}

/// Asks the way out for each address of the machine's own, and the same without it.
const HOME: &str = r#"
import os, socket
def proxied(target):
    host, port = os.environ["HTTPS_PROXY"].removeprefix("http://").split(":")
    s = socket.create_connection((host, int(port)), 5); s.settimeout(10)
    s.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n".encode())
    answer = b""
    while more := s.recv(1000): answer += more
    return answer.split(b"\r\n\r\n", 1)[1].strip()
def straight(target):
    host, port = target.rsplit(":", 1)
    return socket.create_connection((host.strip("[]"), int(port)), 3).recv(100)
for target in ("93.184.216.34:9000", "[::ffff:93.184.216.34]:9000", "93.184.217.9:9000", "home.example.net:9000", "[2606:2800:220:1::10]:9000", "[2606:2800:220:1::20]:9000", "out.example.net:9000"):
    try: print("SENT", target, (proxied if "HTTPS_PROXY" in os.environ else straight)(target), flush=True)
    except Exception as e: print("SENT", target, type(e).__name__, flush=True)
"#;

/// A service that is open to everybody whom no firewall keeps out; on every address of its network.
const SERVICE: &str = r#"
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_STREAM); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("::", 9000)); s.listen(); print("ready", flush=True)
while True:
    c, _ = s.accept(); c.sendall(b"SERVICE"); c.close()
"#;

struct Service(Child);

impl Service {
    fn start(before: &[&str]) -> Service {
        let argv = [before, &["python3", "-c", SERVICE]].concat();
        let mut child = std::process::Command::new(argv[0])
            .args(&argv[1..])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(
            &mut std::io::BufReader::new(child.stdout.take().unwrap()),
            &mut line,
        )
        .unwrap();
        assert_eq!(line, "ready\n");
        Service(child)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_way_out_does_not_lead_home() {
    private("gateway::the_way_out_does_not_lead_home", |m| {
        m.sh(
            "ip addr add 93.184.216.34/32 dev lo; ip -6 addr add 2606:2800:220:1::10/128 dev lo; \
            ip route add local 93.184.217.0/24 dev lo src 127.0.0.1
             ip netns add outside; ip link add near type veth peer name far netns outside
             ip addr add 93.184.220.1/24 dev near; ip -6 addr add 2606:2800:220:1::1/64 dev near \
            nodad; ip link set near up
             ip -n outside addr add 93.184.220.2/24 dev far; ip -n outside -6 addr add \
            2606:2800:220:1::20/64 dev far nodad; ip -n outside link set far up
             printf '%s\\n' '93.184.216.34 home.example.net' '93.184.220.2 out.example.net' >> \
            /etc/hosts",
        );
        let _services = [
            Service::start(&[]),
            Service::start(&["ip", "netns", "exec", "outside"]),
        ];
        ready(m, HOME, |text| {
            format!("{text}\n[network]\negress = \"allow\"\n")
        });
        let sent = |text: &str| {
            text.lines()
                .filter(|l| l.starts_with("SENT"))
                .map(str::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        };
        // Without the gateway all of it is within reach.
        let bare = sent(&said(
            &m.as_user("mallory", "/usr/bin/python3", &["-c", HOME])
                .output()
                .unwrap(),
        ));
        assert_eq!(bare.matches("b'SERVICE'").count(), 7, "{bare}");
        insta::assert_snapshot!(sent(&Run::start(m).end()), @"
        SENT 93.184.216.34:9000 b'comfy: 93.184.216.34:9000: 93.184.216.34 is not an internet address'
        SENT [::ffff:93.184.216.34]:9000 b'comfy: ::ffff:93.184.216.34:9000: ::ffff:93.184.216.34 \
            is not an internet address'
        SENT 93.184.217.9:9000 b'comfy: 93.184.217.9:9000: 93.184.217.9 is not an internet address'
        SENT home.example.net:9000 b'comfy: home.example.net:9000: 93.184.216.34 is not an internet address'
        SENT [2606:2800:220:1::10]:9000 b'comfy: 2606:2800:220:1::10:9000: 2606:2800:220:1::10 is not an internet address'
        SENT [2606:2800:220:1::20]:9000 b'comfy: 2606:2800:220:1::20:9000: 2606:2800:220:1::20 is not an internet address'
        SENT out.example.net:9000 b'SERVICE'
        ");
    });
}
