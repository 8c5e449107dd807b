"""A machine of its own for scripts that need real users: /etc, /home, /var, /opt and /run of a private mount and process
namespace, on the disk that is asked for. Linux, as root. Nothing of it is left behind."""
import os, pathlib, shutil, subprocess, sys, tempfile

HERE = pathlib.Path(__file__).resolve().parent.parent
COMFY = "/opt/bin/comfy"
BASE = "/opt/comfy/comfyui_sandbox"
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
# The nine nodes of a usual machine, and the core, by the repository that they come from.
CORE = "Comfy-Org/ComfyUI"
NODES = {
    "comfyui-impact-pack": "ltdrdata/ComfyUI-Impact-Pack", "comfyui-kjnodes": "kijai/ComfyUI-KJNodes", "rgthree-comfy": "rgthree/rgthree-comfy",
    "comfyui-gguf": "city96/ComfyUI-GGUF", "comfyui-custom-scripts": "pythongosssss/ComfyUI-Custom-Scripts", "comfyui-inspire-pack": "ltdrdata/ComfyUI-Inspire-Pack",
    "comfyui_essentials": "cubiq/ComfyUI_essentials", "comfyui-easy-use": "yolain/ComfyUI-Easy-Use", "comfyui-manager": "ltdrdata/ComfyUI-Manager",
}


def sh(script, **kw):
    return subprocess.run(["bash", "-ec", script], check=True, text=True, stdout=subprocess.PIPE, **kw).stdout.strip()


def inside(args, own=(), build=("--bin", "comfy")):
    """Starts the calling script again in its namespace. Returns there, with the folder for the machine's files; outside it
    ends with the script. `own` are files below target/release to install beside comfy."""
    if os.geteuid() != 0:
        sys.exit(f"{sys.argv[0]} makes real users in a private namespace: run it as root")
    if os.environ.get("COMFY_PRIVATE_MACHINE") != "inside":
        if "SUDO_USER" not in os.environ or not all((HERE / "target/release" / f).exists() for f in ("comfy", *own)):
            subprocess.run(["cargo", "build", "--release", "--locked", *build], cwd=HERE, check=True)
        # The disk's folder, kept reachable below the private /var.
        disk = tempfile.mkdtemp(prefix="comfy-machine-", dir=args.disk)
        # Where it shows below the private folders.
        hold = tempfile.mkdtemp(prefix="srv-comfy-", dir="/")
        before = tables()
        try:
            argv = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc", "--", sys.executable, *sys.argv]
            env = {**os.environ, "COMFY_PRIVATE_MACHINE": "inside", "COMFY_PRIVATE_DISK": disk, "COMFY_PRIVATE_HOLD": hold}
            sys.exit(subprocess.run(argv, env=env).returncode)
        finally:
            # What an apply loads into the firewall is the real machine's: its network is shared.
            for table in tables() - before:
                subprocess.run(["nft", "delete", "table", "inet", table], check=False)
            shutil.rmtree(disk, ignore_errors=True)
            os.rmdir(hold)
    disk, hold = os.environ["COMFY_PRIVATE_DISK"], os.environ["COMFY_PRIVATE_HOLD"]
    os.chmod(disk, 0o755)
    sh(f"mount --bind {disk} {hold}; mkdir {hold}/data; chmod 755 {hold} {hold}/data")
    files = " ".join(str(HERE / "target/release" / f) for f in ("comfy", *own))
    if uv := os.environ.get("COMFY_UV"):
        files += f" {uv}"
        os.environ["COMFY_UV"] = f"/opt/bin/{os.path.basename(uv)}"
    top = pathlib.Path(f"{hold}/data/m")
    sh(f"""t={top}; mkdir -p $t/etc $t/home $t/var/lib $t/var/tmp $t/opt/bin $t/run/lock
        cp -a /etc/. $t/etc/; install -m 755 {files} $t/opt/bin/; chmod 1777 $t/var/tmp
        for d in etc home var opt run; do mount --bind $t/$d /$d; done
        useradd -m -s /bin/bash alice; mkdir -p /home/alice/dot; chown -R alice: /home/alice""")
    return top


def tables():
    """Firewall tables of comfy's."""
    if not shutil.which("nft"):
        return set()
    listed = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True).stdout
    return {line.split()[-1] for line in listed.splitlines() if line.split()[-1].startswith("comfy_")}


def as_alice(*argv):
    return ["setpriv", "--reuid", "alice", "--regid", "alice", "--init-groups", *argv]


def environments(mirrors):
    """For root on alice's behalf, and for alice."""
    mirrors = f"https://github.com/=file://{mirrors}/"
    ids = {"SUDO_USER": "alice", "SUDO_UID": sh("id -u alice")}
    # Proxies, indexes and certificates are the caller's.
    net = {k: v for k, v in os.environ.items() if k.lower().endswith("_proxy") or k.startswith(("UV_", "PIP_", "SSL_CERT", "COMFY_UV"))}
    both = {"PATH": PATH, "NO_COLOR": "1", "COMFY_MIRRORS": mirrors, **net}
    return {**both, "HOME": "/root", **ids}, {**both, "HOME": "/home/alice", "USER": "alice"}
