//! What a hostile node gets done in a confined launch: nothing.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;

use super::machine::{BASE, MANIFEST, Machine, private, said};
use crate::support::{borrowed, node};

/// A running `comfy run`, ended when dropped.
pub struct Run {
    child: std::process::Child,
    /// What it said until it was ready.
    pub told: String,
}

/// The miniature ComfyUI with `hello` as one of its nodes, applied with these lines in its
/// manifest.
pub fn ready(m: &Machine, hello: &str, edit: impl Fn(&str) -> String) -> u16 {
    let files: Vec<(&str, &[u8], u32)> = comfy::demo::files::COMFYUI
        .iter()
        .map(|f| (f.path, f.text.as_bytes(), 0o100_644))
        .collect();
    m.core.commit(&files);
    let mut tree = node(1);
    tree[0].1 = format!("{hello}\nNODE_CLASS_MAPPINGS = {{}}\n").into();
    m.hello.commit(&borrowed(&tree));
    let port = std::net::TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    m.manifest(&edit(
        &MANIFEST.replace("view = ", &format!("port = {port}\nview = ")),
    ));
    m.ready();
    port
}

impl Run {
    pub fn start(m: &Machine) -> Run {
        let mut c = m.root_command(&["run"]);
        c.stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .process_group(0);
        let mut child = c.spawn().unwrap();
        let mut told = String::new();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        while !told.contains("is ready") {
            assert!(
                stderr.read_line(&mut told).unwrap() > 0,
                "it ended early:\n{told}"
            );
        }
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        Run { child, told }
    }

    fn rest_of_log(&mut self) -> String {
        let mut log = String::new();
        let stdout = self.child.stdout.take();
        stdout.unwrap().read_to_string(&mut log).unwrap();
        log
    }

    /// Waits until somebody else has stopped it; its exit code and its log.
    pub fn wait(mut self) -> (Option<i32>, String) {
        let log = self.rest_of_log();
        (self.child.wait().unwrap().code(), log)
    }

    /// Ends it as Ctrl-C does, which the terminal sends to every process of the group; its log.
    pub fn end(mut self) -> String {
        let group = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGINT).unwrap();
        let log = self.rest_of_log();
        assert_eq!(
            self.child.wait().unwrap().code(),
            Some(130),
            "{}{log}",
            self.told
        );
        assert!(!log.contains("Failed") && !log.contains("gateway"), "{log}");
        log
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = nix::sys::signal::killpg(
            nix::unistd::Pid::from_raw(self.child.id() as i32),
            nix::sys::signal::Signal::SIGKILL,
        );
        let _ = self.child.wait();
    }
}

/// Each payload: held, or through.
const PAYLOADS: &str = r#"
import ctypes, os, socket, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
def attempt(name, f):
    try:
        r = f()
        print("THROUGH" if r is None or r else "held", name, r, flush=True)
    except Exception:
        print("held", name, repr(sys.exc_info()[1]), flush=True)
def call(*a):
    if libc.syscall(*a) < 0: raise OSError(ctypes.get_errno(), "")
def talk(family, kind, address, text=b"GET / HTTP/1.0\r\n\r\n"):
    s = socket.socket(family, kind); s.settimeout(1); s.connect(address); s.send(text); return s.recv(10) or True
def child(script):
    return subprocess.run(["/bin/sh", "-c", script], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=5).returncode == 0
read = lambda p: open(p, "rb").read(1)
T, U = socket.SOCK_STREAM, socket.SOCK_DGRAM
attempt("a key that its modes leave open", lambda: read("/home/alice/open/id_ed25519"))
attempt("the owner's home", lambda: os.listdir("/home/alice/open"))
attempt("the manifest", lambda: read("/home/alice/dot/comfy.toml"))
attempt("the accounts of everybody", lambda: read("/etc/shadow"))
attempt("settings of the system", lambda: read("/etc/secret.conf"))
attempt("what others left in /tmp", lambda: read("/tmp/of-others"))
attempt("the environment of other processes", lambda: [p for p in os.listdir("/proc") if p.isdigit() and os.stat("/proc/" + p).st_uid not in (0, os.getuid())])
attempt("more than three processes", lambda: len([p for p in os.listdir("/proc") if p.isdigit()]) > 3)
attempt("the environment of the first process", lambda: read("/proc/1/environ"))
attempt("a model, changed", lambda: open("/home/alice/ai/models/m.safetensors", "ab"))
attempt("a node, added", lambda: os.mkdir("BASE/current/ComfyUI/custom_nodes/evil"))
attempt("its own code", lambda: open(__file__, "ab"))
attempt("a .pth", lambda: open(os.path.join([p for p in sys.path if p.endswith("site-packages")][0], "evil.pth"), "wb"))
attempt("a program in state", lambda: (child("cp /bin/true $TMPDIR/t; chmod 755 $TMPDIR/t; $TMPDIR/t"),)[0])
attempt("cron", lambda: child("echo '* * * * * id' | crontab -"))
attempt("set-uid", lambda: child("cp /bin/sh $TMPDIR/s && chmod 4755 $TMPDIR/s && $TMPDIR/s -c true"))
attempt("root by su", lambda: child("su -c true </dev/null"))
attempt("a mount", lambda: child("mount -t tmpfs x /tmp"))
attempt("another process's memory", lambda: call(101, 16, 1, 0, 0))
attempt("io_uring", lambda: call(425, 1, ctypes.create_string_buffer(120)))
attempt("the kernel's keyrings", lambda: call(250, 0, -4, 1))
attempt("a socket of another kind", lambda: socket.socket(40, T))
attempt("a raw packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
attempt("another service of this machine", lambda: talk(socket.AF_INET, T, ("127.0.0.1", OTHER)))
attempt("the internet by TCP", lambda: talk(socket.AF_INET, T, ("1.1.1.1", 443)))
attempt("the internet by UDP", lambda: talk(socket.AF_INET, U, ("1.1.1.1", 53)))
attempt("the internet by IPv6", lambda: talk(socket.AF_INET6, T, ("2606:4700::1111", 443)))
attempt("a name", lambda: socket.getaddrinfo("example.com", 443))
attempt("a socket in /run", lambda: talk(socket.AF_UNIX, T, "/run/service.sock"))
attempt("a socket elsewhere", lambda: talk(socket.AF_UNIX, T, "/srv/service.sock"))
attempt("an abstract socket", lambda: talk(socket.AF_UNIX, T, "\0service"))
attempt("shared memory of others", lambda: read("/dev/shm/of-others"))
attempt("a terminal", lambda: open("/dev/tty"))
attempt("a disk", lambda: read("/dev/vda"))
def split():
    pid = libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0)
    if pid == 0: os._exit(0)
    if pid < 0: raise OSError(ctypes.get_errno(), "")
attempt("another user namespace by clone", split)
attempt("another user namespace", lambda: call(272, 0x10000000))
attempt("a socket of MPTCP", lambda: socket.socket(socket.AF_INET, T, 262))
attempt("a socket of UDP-Lite", lambda: socket.socket(socket.AF_INET, U, 136))
attempt("two sockets of another kind", lambda: socket.socketpair(socket.AF_VSOCK, T))
attempt("the kernel's audit", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9))
attempt("the kernel's events", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15))
attempt("a connection by its first packet", lambda: socket.socket(socket.AF_INET, T).sendto(b"secret", 0x20000000, ("127.0.0.1", OTHER)))
def first():
    s = socket.socket(socket.AF_INET, T); s.setsockopt(6, 30, 1)
attempt("a connection by an option", first)
attempt("what processes share", lambda: call(312, os.getpid(), os.getpid(), 0, 0, 0))
own = os.pidfd_open(os.getpid())
attempt("a descriptor of another process", lambda: call(438, own, 0, 0))
os.close(own)
attempt("memory that nobody sees", lambda: call(447, 0))
attempt("a local descriptor table", lambda: call(154, 0, ctypes.create_string_buffer(16), 16))
attempt("data that runs", lambda: call(135, 0x0400000))
P = os.environ["TMPDIR"] + "/p"; Q = os.environ["TMPDIR"] + "/q"
for p in P, Q:
    try: os.remove(p)
    except OSError: pass
os.close(os.open(P, os.O_CREAT | os.O_WRONLY))
ids = lambda p: os.stat(p).st_mode & 0o6000
attempt("a set-uid program", lambda: os.chmod(P, 0o4755) or ids(P))
attempt("a set-gid program", lambda: os.chmod(P, 0o2755) or ids(P))
attempt("a program with both", lambda: os.chmod(P, 0o6755) or ids(P))
attempt("a set-uid file that is made so", lambda: os.close(os.open(Q, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o4755)) or ids(Q))
attempt("a set-uid file by the newest call", lambda: (call(452, -100, P.encode(), 0o4755, 0), ids(P))[1])
attempt("a set-uid file by openat2", lambda: call(437, -100, (P + "2").encode(), (ctypes.c_uint64 * 3)(os.O_CREAT | os.O_WRONLY, 0o4755, 0), 24))
attempt("rights of the first process", lambda: int(open("/proc/1/status").read().split("CapEff:")[1].split()[0], 16) & ~0x20)
attempt("a folder of state, renamed", lambda: os.rename("BASE/state/temp", "BASE/state/t") or os.rename("BASE/state/t", "BASE/state/temp"))
attempt("a link in state", lambda: os.symlink("../../../../home/alice", "BASE/state/evil"))
attempt("the model folder, exchanged", lambda: os.rename("/home/alice/ai/models", "/home/alice/ai/m"))
print("DONE", len(os.listdir("/proc/self/fd")), open("/proc/self/status").read().count("NoNewPrivs:\t1"), os.getpgrp() == os.getpid(), flush=True)
"#;

/// Those that an account of its own does not hold back.
const EFFECTIVE: &[&str] = &[
    "a key that its modes leave open",
    "the owner's home",
    "the manifest",
    "settings of the system",
    "what others left in /tmp",
    "the environment of other processes",
    "a model, changed",
    "a program in state",
    "set-uid",
    "another user namespace by clone",
    "another user namespace",
    "io_uring",
    "a socket of another kind",
    "another service of this machine",
    "a socket in /run",
    "a socket elsewhere",
    "an abstract socket",
    "shared memory of others",
    "a socket of MPTCP",
    "the kernel's audit",
    "the kernel's events",
    "a connection by its first packet",
    "a connection by an option",
    "what processes share",
    "a descriptor of another process",
    "data that runs",
    "a set-uid program",
    "a set-gid program",
    "a program with both",
    "a set-uid file that is made so",
    "a set-uid file by openat2",
    "rights of the first process",
];

/// Answers on every address that a payload tries, so that only the walls are in its way.
const SERVICES: &str = r"
import os, socket, sys, threading
def serve(family, address):
    s = socket.socket(family); s.bind(address); s.listen()
    if family == socket.AF_UNIX and isinstance(address, str) and address[0] == '/': os.chmod(address, 0o777)
    def loop():
        while True:
            c, _ = s.accept(); c.recv(10); c.sendall(b'hello'); c.close()
    threading.Thread(target=loop, daemon=True).start()
    return s
kept = [serve(socket.AF_UNIX, a) for a in ('/run/service.sock', '/srv/service.sock', '\0service')]
tcp = serve(socket.AF_INET, ('127.0.0.1', 0))
print(tcp.getsockname()[1], flush=True)
sys.stdin.read()
";

#[test]
fn a_hostile_node_gets_nothing_through() {
    private("confined::a_hostile_node_gets_nothing_through", |m| {
        let mut services = m.as_user("alice", "/usr/bin/python3", &["-c", SERVICES]);
        m.sh("chmod 777 /run /srv");
        let mut services = services
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut other = String::new();
        BufReader::new(services.stdout.as_mut().unwrap())
            .read_line(&mut other)
            .unwrap();
        m.sh(
            "mkdir /home/alice/open; echo key > /home/alice/open/id_ed25519; chmod -R a+rX \
             /home/alice; echo x > /etc/secret.conf
             mount -t tmpfs tmpfs /tmp; mount -t tmpfs tmpfs /dev/shm; chmod 1777 /tmp /dev/shm; \
             echo x > /tmp/of-others; echo x > /dev/shm/of-others
             mkdir -p /home/alice/ai/models; echo x > /home/alice/ai/models/m.safetensors; chmod \
             666 /home/alice/ai/models/m.safetensors; chown -R alice: /home/alice/ai",
        );
        let text = PAYLOADS
            .replace("OTHER", other.trim())
            .replace("BASE", BASE);
        ready(m, &text, str::to_string);
        // What a model's modes leave open is kept by Landlock all the same.
        m.sh("chmod 666 /home/alice/ai/models/m.safetensors");
        // The same without walls, as the same user: the payloads are not empty threats.
        std::fs::write("/srv/payloads.py", &text).unwrap();
        m.sh("nft delete table inet comfy_$(id -u comfyui_sandbox)");
        let bare = m
            .as_user(
                "comfyui_sandbox",
                "/usr/bin/env",
                &["TMPDIR=/tmp", "/usr/bin/python3", "-u", "/srv/payloads.py"],
            )
            .output()
            .unwrap();
        let bare = String::from_utf8_lossy(&bare.stdout).into_owned();
        let empty: Vec<&str> = EFFECTIVE
            .iter()
            .filter(|name| !bare.contains(&format!("THROUGH {name} ")))
            .copied()
            .collect();
        assert_eq!(empty, [""; 0], "held without any wall: {bare}");
        let run = Run::start(m);
        let log = run.end();
        drop(services.stdin.take());
        services.wait().unwrap();
        let through: Vec<&str> = log.lines().filter(|l| l.starts_with("THROUGH")).collect();
        let held = log.lines().filter(|l| l.starts_with("held")).count();
        assert_eq!(through, [""; 0], "{log}");
        assert_eq!(held, PAYLOADS.matches("\nattempt(").count(), "{log}");
        assert!(
            log.contains("DONE 4 1 True"),
            "descriptors 0 to 2 and the folder's own, no new rights, its own session: {log}"
        );
        eprintln!(
            "{held} payloads held, none through; without walls {} of them got through",
            bare.matches("THROUGH").count()
        );
    });
}

#[test]
fn a_killed_launcher_takes_comfyui_along() {
    private("confined::a_killed_launcher_takes_comfyui_along", |m| {
        let port = ready(
            m,
            "import subprocess\nsubprocess.Popen(['setsid', 'sleep', '1000'])",
            str::to_string,
        );
        let alive = "for p in /proc/[0-9]*; do if tr '\\0' ' ' < $p/cmdline 2> /dev/null | grep \
            -qE 'main[.]py|sleep 100[0]|__gatewa[y]|__sandbo[x]'; then echo $p $(tr '\\0' ' ' < \
            $p/cmdline | cut -c 1-60); fi; done";
        for role in ["__launc[h]", "__sandbo[x]", "__gatewa[y]"] {
            let run = Run::start(m);
            assert!(m.sh(alive).lines().count() >= 5, "{}", m.sh(alive));
            m.sh(&format!(
                "for p in /proc/[0-9]*; do if tr '\\0' ' ' < $p/cmdline 2> /dev/null | grep -q \
                 '{role}'; then kill -KILL ${{p#/proc/}}; break; fi; done"
            ));
            let started = std::time::Instant::now();
            while !m.sh(alive).is_empty() {
                assert!(
                    started.elapsed().as_secs() < 5,
                    "{role} was killed, and there is still {}",
                    m.sh(alive)
                );
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            drop(run);
            assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
        }
    });
}

#[test]
fn graphics_cards_are_within_reach() {
    private("confined::graphics_cards_are_within_reach", |m| {
        let probe = "import os\nfor p in ('/dev/dri/renderD128', '/dev/other'):\n    try: \
            print('CARD', os.write(os.open(p, os.O_RDWR), b'x'), flush=True)\n    except OSError \
            as e: print('CARD', type(e).__name__, flush=True)";
        ready(m, probe, str::to_string);
        // A card that is the null device, in a /dev of this machine's own.
        m.sh(
            "mkdir /run/dev; mount -t tmpfs -o mode=755 tmpfs /run/dev; cd /dev; cp -a null zero \
            full random urandom fd stdin stdout stderr /run/dev/
             mkdir /run/dev/dri /run/dev/shm; getent group render > /dev/null || groupadd -r render
             mknod -m 660 /run/dev/dri/renderD128 c 1 3; mknod -m 666 /run/dev/other c 1 3; chgrp \
            render /run/dev/dri/renderD128; mount --move /run/dev /dev",
        );
        let plan = said(&m.alice(&["plan"]));
        assert!(
            plan.contains("# member.comfyui_sandbox.render will be created"),
            "{plan}"
        );
        m.apply();
        m.clean();
        assert!(
            m.sh("id -nG comfyui_sandbox")
                .split(' ')
                .any(|g| g == "render")
        );
        let log = Run::start(m).end();
        assert!(log.contains("CARD 1\nCARD FileNotFoundError"), "{log}");
        m.sh("chmod 666 /dev/dri/renderD128");
        let plan = said(&m.alice(&["plan"]));
        assert!(
            plan.contains("# member.comfyui_sandbox.render will be destroyed"),
            "{plan}"
        );
    });
}
