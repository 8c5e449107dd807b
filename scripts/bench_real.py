"""What the Python side of comfy costs on real ComfyUI, against the same by hand: `scripts/accept-real --bench`. Ratios come
from one run, in turn; times are medians of whole processes."""
import glob, json, os, pathlib, re, shutil, signal, statistics, subprocess, time, urllib.request

from private_machine import BASE, COMFY, as_alice, sh

UV = ["/opt/bin/uv"]


def row(what, ours, theirs, other, bound=None):
    ratio = ours / theirs
    verdict = "" if bound is None else f"  {'ok' if ratio <= bound else 'MISSED'} (bound {bound:g})"
    print(f"{what:44} {ours:8.2f} s   {other} {theirs:8.2f} s   ratio {ratio:6.2f}{verdict}", flush=True)


def timed(argv, **kw):
    start = time.perf_counter()
    r = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kw)
    if r.returncode:
        raise SystemExit(f"{argv} ended with {r.returncode}:\n{r.stdout[-3000:]}")
    return time.perf_counter() - start


def answer(argv, **kw):
    return subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True, **kw).stdout.strip()


def in_turn(runs, *commands):
    """A B A B …, after one warm-up each."""
    times = [[] for _ in commands]
    for i in range(runs + 1):
        for t, c in zip(times, commands):
            s = c()
            if i:
                t.append(s)
    return [statistics.median(t) for t in times]


def sandboxed(*argv):
    return ["setpriv", "--reuid", "comfyui_sandbox", "--regid", "comfyui_sandbox", "--init-groups", "--no-new-privs", *argv]


def by_hand(folder, port, env):
    """Seconds from the start of main.py to the first answer, as the sandbox user, without comfy."""
    child, seconds = hand(folder, port, env)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    return seconds


def blurred(url, number, token=None):
    """Seconds for a workflow that is nothing but work for the processor; `number` keeps it from being remembered."""
    prompt = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 1024, "height": 1024, "batch_size": 4, "color": number}},
        "2": {"class_type": "ImageBlur", "inputs": {"image": ["1", 0], "blur_radius": 31, "sigma": 10.0}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "bench"}},
    }

    def ask(path, body=None):
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        return json.load(urllib.request.urlopen(urllib.request.Request(url + path, data=body, headers=headers), timeout=60))
    start = time.perf_counter()
    done = ask("/prompt", json.dumps({"prompt": prompt}).encode())["prompt_id"]
    while done not in (history := ask(f"/history/{done}")):
        time.sleep(0.02)
    seconds = time.perf_counter() - start
    if history[done]["status"]["status_str"] != "success":
        raise SystemExit(f"the workflow failed: {history[done]['status']}")
    return seconds


def hand(folder, port, env):
    argv = sandboxed(f"{folder}/venv/bin/python", "-s", "main.py", "--cpu", "--port", str(port), "--disable-auto-launch", "--user-directory", f"{BASE}/state/user",
                     "--temp-directory", f"{BASE}/state/temp", "--output-directory", "/home/alice/ai/output", "--database-url", "sqlite:///:memory:", "--disable-all-custom-nodes",
                     "--whitelist-custom-nodes", *sorted(os.listdir(f"{BASE}/current/ComfyUI/custom_nodes")))
    start = time.perf_counter()
    child = subprocess.Popen(argv, cwd=f"{folder}/ComfyUI", env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/system_stats", timeout=5).read()
            break
        except OSError:
            if child.poll() is not None or time.perf_counter() - start > 120:
                raise SystemExit("ComfyUI by hand did not start")
            time.sleep(0.02)
    return child, time.perf_counter() - start


def requirements(lock, path):
    """The locked packages as a requirements file with hashes."""
    lines = []
    for entry in lock.split("[[python.packages]]")[1:]:
        field = lambda k: (re.search(rf'^{k} = "(.*)"$', entry, re.M) or re.search(rf"^{k} = '(.*)'$", entry, re.M))
        marker = field("marker")
        hashes = " ".join(f"--hash=sha256:{h}" for h in re.findall(r'sha256 = "([0-9a-f]{64})"', entry))
        lines.append(f"{field('name')[1]}=={field('version')[1]}{' ; ' + marker[1] if marker else ''} {hashes}")
    pathlib.Path(path).write_text("\n".join(lines) + "\n")


def project(lock, folder, overrides):
    """The same question for bare uv: one project that asks for what all parts ask for."""
    asked = [json.loads(f'"{l}"').split(" ", 1)[1] for l in re.findall(r'^    "(requirements\.txt:\d+ .*)",$', lock, re.M)]
    both = ["sys_platform == 'darwin' and platform_machine == 'arm64'", "sys_platform == 'linux' and platform_machine == 'x86_64'"]
    folder.mkdir()
    (folder / "pyproject.toml").write_text(f'[project]\nname = "all"\nversion = "1"\nrequires-python = "==3.11.*"\ndependencies = {json.dumps(asked)}\n'
        f"[tool.uv]\nenvironments = {json.dumps(both)}\nrequired-environments = {json.dumps(both)}\noverride-dependencies = {json.dumps(overrides)}\n")
    sh(f"chown -R alice: {folder}; chmod 755 {folder}")


def measure(m, running, top, moved, overrides, packages):
    """`m`: the finished machine; `moved`: makes another lock of a lock; `packages`: what takes minutes too."""
    print("\n== measured", flush=True)
    comfy = lambda *a: timed([COMFY, "-C", str(m.dot), *a], env=m.root_env)
    alice = lambda *a: timed(as_alice(COMFY, "-C", str(m.dot), *a), env=m.alice_env)
    lock_file = m.dot / "comfy.lock"
    lock = lock_file.read_text()

    if packages:
        measure_packages(m, top, overrides, lock, comfy, alice)
    measure_launch(m, running, moved, lock, comfy, alice)


def measure_packages(m, top, overrides, lock, comfy, alice):
    lock_file = m.dot / "comfy.lock"
    # Both from the same warm cache, under the same uid. What was sealed there may not be linked to: both copy.
    build, store = sh(f"stat -c %u {BASE}/.staging/store"), f"{BASE}/.staging/store"
    requirements(lock, f"{top}/requirements.txt")
    uv_env = {"PATH": "/usr/bin:/bin", "HOME": store, "UV_CACHE_DIR": f"{store}/uv-cache", "UV_LINK_MODE": "copy", "UV_NO_PROGRESS": "1"}
    as_build = ["setpriv", "--reuid", build, "--regid", build, "--clear-groups"]
    plain = pathlib.Path(f"{store}/plain")

    def uv(*more):
        sh(f"rm -rf {plain}; install -d -o {build} -g {build} {plain}")
        timed([*as_build, *UV, "-q", "venv", "--python", "/usr/bin/python3.11", f"{plain}/venv"], env=uv_env, cwd="/")
        t = timed([*as_build, *UV, "-q", "--offline", "pip", "sync", "--no-build", "--require-hashes", *more, "--python", f"{plain}/venv/bin/python", f"{top}/requirements.txt"], env=uv_env, cwd="/")
        shutil.rmtree(plain)
        return t

    def rebuilt():
        # Without anything to share: a whole environment from the cache.
        sh(f"rm -rf {BASE}/venv/*")
        return comfy("apply", "--yes", "--offline", "--only", "python", "--no-check")
    ours, synced, compiled = in_turn(2, rebuilt, uv, lambda: uv("--compile-bytecode"))
    row("venv: a whole apply, compiled and sealed", ours, compiled, "uv pip sync, compiled", 1.2)
    row("venv: a whole apply, compiled and sealed", ours, synced, "uv pip sync, not compiled")

    folder = pathlib.Path(f"{top}/project")
    project(lock, folder, overrides)

    def locked():
        lock_file.unlink()
        t = alice("lock")
        return t

    def bare_lock():
        (folder / "uv.lock").unlink(missing_ok=True)
        return timed(as_alice(*UV, "-q", "lock", "--no-build", "--python", "/usr/bin/python3.11"), env={**m.alice_env, "UV_CACHE_DIR": "/home/alice/uv-bare"}, cwd=folder)
    ours, bare_t = in_turn(5, locked, bare_lock)
    row("lock, ten repositories, warm caches", ours, bare_t, "bare uv lock", 1.3)
    lock_file.write_text(lock)
    sh("chown alice: /home/alice/dot/comfy.lock")


def measure_launch(m, running, moved, lock, comfy, alice):
    lock_file = m.dot / "comfy.lock"
    # Twins by hard link, so that the same bytes are in the page cache; one of them without bytecode.
    hand_made, bare = "/opt/hand", "/opt/bare"
    for folder in (hand_made, bare):
        sh(f"mkdir {folder}; cp -al {BASE}/current/ComfyUI {folder}/; cp -al {BASE}/current/venv/ {folder}/venv")
    sh(f"find {bare} -name __pycache__ -type d -prune -exec rm -r {{}} +")
    # The links changed what stat says of every file: looked at once more, and noted.
    comfy("apply", "--yes")
    env = {"PATH": f"{hand_made}/venv/bin:/usr/bin:/bin", "HOME": f"{BASE}/state", "PYTHONDONTWRITEBYTECODE": "1", "XDG_CACHE_HOME": f"{BASE}/state/cache", "HF_HOME": f"{BASE}/state/cache"}

    def launched():
        run = running(m, "--", "--cpu", quiet=True)
        run.end(quiet=True)
        return run.ready
    ours, warm, cold = in_turn(3, launched, lambda: by_hand(hand_made, 8190, env), lambda: by_hand(bare, 8191, env))
    row("ready: comfy run", ours, warm, "by hand, warm bytecode", 1.1)
    row("ready: comfy run", ours, cold, "by hand, no bytecode")

    # Both at once, of which one works at a time.
    run = running(m, "--", "--cpu", quiet=True)
    child, _ = hand(hand_made, 8190, env)
    token = answer(as_alice(COMFY, "-C", str(m.dot), "open", "--token"), env=m.alice_env)
    number = iter(range(1, 1000))
    ours, theirs = in_turn(7, lambda: blurred("http://127.0.0.1:8188", next(number), token), lambda: blurred("http://127.0.0.1:8190", next(number)))
    row("a workflow on the processor", ours, theirs, "by hand")
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    run.end(quiet=True)

    # From the command to the program: comfy itself, a look at code and packages, the walls.
    def begun(argv, env):
        start = time.time()
        return float(subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-1]) - start
    looks = as_alice("/opt/bin/stat_walk", os.path.realpath(f"{BASE}/current"), os.path.realpath(f"{BASE}/current/venv"))
    whole, look = in_turn(9, lambda: begun([COMFY, "-C", str(m.dot), "exec", "--", "/bin/date", "+%s.%N"], m.root_env), lambda: timed(looks))
    added = (whole - look) * 1e3
    print(f"{'launch: from the command to the program':44} {whole * 1e3:8.1f} ms  a stat walk of what it starts {look * 1e3:8.1f} ms  added {added:6.1f} ms  {'ok' if added < 100 else 'MISSED'} (bound 100 ms)", flush=True)

    walk = as_alice("/opt/bin/stat_walk", os.path.realpath(f"{BASE}/current"), os.path.realpath(f"{BASE}/current/venv"), *[f"/home/alice/ai/{s}" for s in ("models", "input", "output", "workflows")])
    plan, floor = in_turn(9, lambda: alice("plan", "--exit-code", "-q"), lambda: timed(walk))
    row(f"no-op plan ({sh(' '.join(walk))} entries)", plan, floor, "stat walk", 1.5)

    back = []
    for i in range(6):
        lock_file.write_text(moved(lock) if i % 2 == 0 else lock)
        sh("chown alice: /home/alice/dot/comfy.lock")
        t = comfy("apply", "--yes", "--offline")
        back.append(t)
    t = statistics.median(back[1:])
    print(f"{'rollback to the venv before':44} {t:8.2f} s   {'ok' if t < 0.3 else 'MISSED'} (bound 0.3 s)", flush=True)
