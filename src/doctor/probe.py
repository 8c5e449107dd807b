"""Really tries what the sandbox must not be able to do. Run by `comfy doctor` as the sandbox user, once bare and once confined,
with -I -S: nothing of a package or of anybody's environment is loaded. Takes its question as JSON, answers a JSON line a
probe: [id, "held" | "broken" | "untried", detail], or, for the report, [id, "fact", text]. Reads at most one byte of anything,
and says nothing of what it read."""
import json, os, socket, subprocess, sys

q = json.loads(sys.argv[1])
mac = sys.platform == "darwin"


def tell(probe, outcome, detail=""):
    print(json.dumps([probe, outcome, detail]), flush=True)


def attempt(probe, things, what):
    """`what` succeeds on one of `things`: broken. None of them is there: untried."""
    through, seen = [], 0
    for thing in things:
        try:
            result = what(thing)
        except FileNotFoundError:
            # Hidden is as good as closed, where it is known to be there.
            seen += 1
        except Exception:
            seen += 1
        else:
            seen += 1
            if result is not False:
                through.append(str(thing))
    if through:
        tell(probe, "broken", ", ".join(through[:3]))
    elif seen:
        tell(probe, "held")
    else:
        tell(probe, "untried", "there is nothing of the kind on this machine")


def read(path):
    if os.path.isdir(path):
        os.listdir(path)
        return
    with open(path, "rb") as f:
        f.read(1)


def write(path):
    """A new file in a folder, taken away again; the first byte of a file stays what it is."""
    if os.path.isdir(path):
        name = os.path.join(path, ".comfy-doctor")
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        os.unlink(name)
        return
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND))


def program(*argv):
    r = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=10)
    return r.returncode == 0


def files():
    for probe, paths in q["read"].items():
        attempt(f"read.{probe}", paths, read)
    for probe, paths in q["write"].items():
        attempt(f"write.{probe}", paths, write)

    def through_link(folder):
        """A link in a share gives no right that the sandbox does not have."""
        name = os.path.join(folder, ".comfy-doctor-link")
        target = next((p for p in q["read"]["keys"] + q["read"]["documents"]), q["manifest"])
        try:
            read(target)
        except OSError:
            pass
        else:
            # Open as it is: told by its own probe.
            return False
        os.symlink(target, name)
        try:
            read(name)
        finally:
            os.unlink(name)
    attempt("escape.links", q["shared"], through_link)


def processes():
    pid = q["owner_pid"]

    def look(what):
        if what == "environment" and not mac:
            return read(f"/proc/{pid}/environ")
        if what == "memory" and not mac:
            return read(f"/proc/{pid}/mem")
        if what == "environment":
            out = subprocess.run(["/bin/ps", "-Eww", "-p", str(pid)], capture_output=True, text=True, timeout=10).stdout
            return q["mark"] in out
        task_port(pid)
    attempt("processes.look", ["environment", "memory"], look)
    attempt("processes.signal", [pid], lambda p: os.kill(p, 0))

    def trace(p):
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        attach = 10 if mac else 16
        if libc.ptrace(attach, p, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "")
        libc.ptrace(11 if mac else 17, p, 0, 0)
    attempt("processes.trace", [pid], trace)


def task_port(pid):
    """A process's memory, as macOS gives it (task_for_pid)."""
    import ctypes
    libc = ctypes.CDLL(None)
    task = ctypes.c_uint(0)
    own = ctypes.c_uint.in_dll(libc, "mach_task_self_").value
    if libc.task_for_pid(own, pid, ctypes.byref(task)) != 0:
        raise PermissionError


def in_group(name):
    """macOS asks its directory, whatever getgroups(2) says."""
    import pwd
    argv = ["/usr/sbin/dseditgroup", "-o", "checkmember", "-m", pwd.getpwuid(os.getuid()).pw_name, name]
    try:
        out = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10).stdout
    except OSError:
        return False
    return out.startswith("yes ")


def root():
    sudo = [p for p in ("/usr/bin/sudo", "/usr/local/bin/sudo") if os.path.exists(p)]
    attempt("root.sudo", sudo, lambda p: program(p, "-n", "true"))
    groups = [g for g in os.getgroups() if g in q["powerful"].values()]
    names = [n for n, g in q["powerful"].items() if g in groups or (mac and in_group(n))]
    tell("root.groups", "broken" if names else "held", ", ".join(names))
    docker = [p for p in ("/var/run/docker.sock", "/run/docker.sock", "/run/podman/podman.sock", "/run/containerd/containerd.sock") if p in q["sockets"]]

    def connect(p):
        s = socket.socket(socket.AF_UNIX)
        s.connect(p)
    attempt("root.containers", docker, connect)

    def set_uid(folder):
        """A set-uid copy of a program for root's use would have to be root's already."""
        name = os.path.join(folder, ".comfy-doctor-suid")
        with open(name, "wb") as f:
            f.write(b"#!/bin/sh\n")
        try:
            os.chmod(name, 0o4755)
            os.chown(name, 0, -1)
        finally:
            os.unlink(name)
    attempt("root.set-uid", [q["own"]], set_uid)


def persist():
    def crontab(p):
        # One that is there already is not touched.
        if program(p, "-l"):
            return True
        if not program("/bin/sh", "-c", f"echo '# comfy doctor' | {p} -"):
            return False
        program(p, "-r")
    attempt("persist.cron", [p for p in ("/usr/bin/crontab",) if os.path.exists(p)], crontab)
    attempt("persist.at", [p for p in ("/usr/bin/at",) if os.path.exists(p) and not mac], lambda p: program(p, "-l"))
    attempt("persist.folders", q["persist"], write)

    def systemd(_):
        return program("/usr/bin/systemctl", "--user", "show-environment")
    attempt("persist.services", ["systemd --user"] if os.path.exists("/usr/bin/systemctl") else [], systemd)


def network():
    def route(address):
        # Nothing is sent: a datagram socket that is connected says whether there is a way.
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        s = socket.socket(family, socket.SOCK_DGRAM)
        s.connect(address)
    if q["egress"]:
        tell("network.internet", "untried", "network.egress allows some of it")
        tell("network.names", "untried", "network.egress allows some of it")
    else:
        attempt("network.internet", [("1.1.1.1", 443), ("2606:4700:4700::1111", 443)], route)
        attempt("network.names", [(a, 53) for a in q["resolvers"]], resolver)

    def service(port):
        s = socket.create_connection(("127.0.0.1", port), timeout=2)
        s.sendall(b"?")
    attempt("network.loopback", [q["service"]], service)

    def local(path):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(2)
        s.connect(path)
    attempt("network.sockets", q["sockets"], local)
    abstract = q.get("abstract")
    attempt("network.abstract", ["\0" + abstract] if abstract else [], local)
    s = socket.socket()
    try:
        s.bind(("0.0.0.0", 0))
        s.listen(1)
        s.settimeout(1.5)
    except OSError:
        tell("network.listen", "held")
        return
    # Whoever asked tries to reach it.
    print(json.dumps(["listening", "", str(s.getsockname()[1])]), flush=True)
    try:
        s.accept()[0].sendall(q["mark"].encode())
    except OSError:
        pass


def resolver(address):
    if address[0].startswith("127."):
        # A resolver of this machine: would it take a question?
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(1)
        s.connect(address)
        s.send(bytes.fromhex("000101000001000000000000") + b"\x04test\x07invalid\x00\x00\x01\x00\x01")
        s.recv(16)
        return
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    socket.socket(family, socket.SOCK_DGRAM).connect(address)


def stranger():
    port = q["port"]
    if not port:
        return tell("clients.stranger", "untried", "ComfyUI is not running: `comfy start`")

    def get(_):
        s = socket.create_connection(("127.0.0.1", port), timeout=5)
        s.sendall(f"GET /system_stats HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
        return b" 200 " in s.recv(64)
    attempt("clients.stranger", [f"port {port}"], get)


def metal():
    if not mac:
        return tell("gpu.metal", "untried", "only macOS has Metal")
    # Here, and only here, a package is loaded: confined, and as the sandbox user.
    code = "import torch; x = torch.ones(4, 4, device='mps'); print((x @ x).sum().item())"
    r = subprocess.run([sys.executable, "-s", "-c", code], capture_output=True, text=True, timeout=120)
    if r.stdout.strip() == "64.0":
        return tell("gpu.metal", "held")
    why = (r.stderr.strip().splitlines() or [f"exit code {r.returncode}"])[-1][:200]
    try:
        # _CS_DARWIN_USER_CACHE_DIR: without it PyTorch says that macOS is too old.
        os.confstr(65538)
    except OSError:
        why += "; macOS names no folder for this account's caches"
    tell("gpu.metal", "broken", why)


# Each fact comes from a process of its own, so that a crash is an answer.
METAL = """
import ctypes
load = ctypes.CDLL
load("/System/Library/Frameworks/CoreGraphics.framework/CoreGraphics")
metal, objc = load("/System/Library/Frameworks/Metal.framework/Metal"), load("/usr/lib/libobjc.A.dylib")
p = ctypes.c_void_p
objc.sel_registerName.restype, objc.sel_registerName.argtypes = p, [ctypes.c_char_p]
objc.objc_msgSend.restype, objc.objc_msgSend.argtypes = ctypes.c_ulong, [p, p]
metal.MTLCopyAllDevices.restype = metal.MTLCreateSystemDefaultDevice.restype = p
def all_devices():
    found = metal.MTLCopyAllDevices()
    return f"MTLCopyAllDevices {objc.objc_msgSend(found, objc.sel_registerName(b'count')) if found else 'null'}"
def default():
    return f"MTLCreateSystemDefaultDevice {'a device' if metal.MTLCreateSystemDefaultDevice() else 'null'}"
"""
MATMUL = "import torch; x = torch.ones(64, 64, device='mps'); print((x @ x)[0, 0].item())"
CONFSTR = """
import os
def folder(number):
    try:
        path = os.confstr(number)
        return "writable" if os.access(path, os.W_OK) else "there" if os.path.isdir(path) else "missing"
    except (OSError, ValueError) as e:
        return type(e).__name__
print(", ".join(f"{n} {folder(65536 + i)}" for i, n in enumerate(["user", "temp", "cache"])))
"""
LOCALHOST = """
import socket, time
start = time.monotonic()
try:
    found = ", ".join(sorted({a[4][0] for a in socket.getaddrinfo("localhost", 1)}))
except OSError as e:
    found = type(e).__name__
took = time.monotonic() - start
print(f"{found} {'at once' if took < 1 else f'after {took:.0f} s'}")
"""


def fact(name, *argv, timeout=60):
    """What a program printed last; else how it ended."""
    try:
        r = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        text = f"no answer after {timeout} s"
    except OSError as e:
        text = type(e).__name__
    else:
        lines = (r.stdout if r.returncode == 0 else r.stderr or r.stdout).strip().splitlines()
        text = (lines or ["no output"])[-1][:200]
        if r.returncode != 0:
            text = f"{'signal' if r.returncode < 0 else 'exit code'} {abs(r.returncode)}: {text}"
    tell(name, "fact", text)


def empty_list(folder):
    """Whether a list without entries is a list (the mode that ls shows ends in `+`)."""
    name = os.path.join(folder, ".comfy-doctor-list")
    with open(name, "wb"):
        pass
    try:
        program("/bin/chmod", "+a", "everyone allow readattr", name)
        program("/bin/chmod", "-a#", "0", name)
        shown = subprocess.run(["/bin/ls", "-led", name], capture_output=True, text=True, timeout=10).stdout.split()
        tell("acl.emptied", "fact", (shown or ["no answer"])[0])
    finally:
        os.unlink(name)


def facts():
    python = (sys.executable, "-I", "-S", "-c")
    fact("names.localhost", *python, LOCALHOST)
    if not mac:
        return
    fact("metal.all-then-default", *python, METAL + "print(all_devices() + ', ' + default())")
    fact("metal.default-then-all", *python, METAL + "print(default() + ', ' + all_devices())")
    # Here, and only here, a package is loaded: as the sandbox user.
    fact("metal.matmul", sys.executable, "-s", "-c", MATMUL, timeout=180)
    fact("folders.confstr", *python, CONFSTR)
    try:
        empty_list(q["own"])
    except OSError as e:
        tell("acl.emptied", "fact", type(e).__name__)
    fact("session.name", "/bin/launchctl", "managername")
    owner = f"gui/{q['owner']}"
    for name, argv in [("session.launchctl", ("/bin/launchctl", "print", owner)), ("session.pasteboard", ("/usr/bin/pbpaste",)),
                       ("session.events", ("/usr/bin/osascript", "-e", 'tell application "Finder" to get name'))]:
        try:
            ok = program(*argv)
        except (OSError, subprocess.TimeoutExpired) as e:
            ok = type(e).__name__
        tell(name, "fact", {True: "reached", False: "refused"}.get(ok, ok))


if q.get("facts"):
    facts()
elif q["as"] == "stranger":
    stranger()
else:
    files()
    processes()
    root()
    persist()
    if q["as"] == "confined":
        network()
        metal()
