#!/usr/bin/env -S python3 -IS
"""Plays the programs that comfy runs on a Mac, by the name that it is called with.

One JSON file is the directory service; what is complete in it becomes a real account of this machine, in
/etc/passwd and /etc/group. Texts, exit codes and oddities are those of Apple's sources: DSTools-162 (dscl.m,
PathItem.m, dseditgroup.c), shell_cmds (id.c), file_cmds (ls/print.c, chmod_acl.c).

In /opt/mactools beside it: state.json, calls (what root called), inject.json (what goes wrong), WRONG (what no
run may do), and the answers to system calls that only a Mac has.
"""
import fcntl, json, os, signal, struct, sys, time

HERE = "/opt/mactools"
NAME, ARGS = os.path.basename(sys.argv[0]), sys.argv[1:]
ROOT = os.geteuid() == 0
STANDARD = "dsAttrTypeStandard:"


def path(name):
    return os.path.join(HERE, name)


def read(name, default):
    try:
        with open(path(name)) as f:
            return json.load(f)
    except FileNotFoundError:
        return default


def write(name, value):
    with open(path(name + ".new"), "w") as f:
        json.dump(value, f, indent=1)
    os.replace(path(name + ".new"), path(name))


def end(status, stderr="", stdout=""):
    sys.stdout.write(stdout)
    sys.stderr.write(stderr)
    sys.stdout.flush()
    sys.exit(status)


def wrong(why):
    """What no run of comfy's may do: the test looks for the file."""
    with open(path("WRONG"), "a") as f:
        f.write(f"{why}: {NAME} {' '.join(ARGS)}\n")
    end(99, f"{why}\n")


# What goes wrong.

def changes():
    """Whether this call changes the Mac."""
    if NAME == "dscl":
        return any(a in ("-create", "-change", "-delete", "-append") for a in ARGS)
    if NAME == "dseditgroup":
        return ARGS[:2] in (["-o", "create"], ["-o", "edit"], ["-o", "delete"])
    return NAME == "chmod" or (NAME == "launchctl" and ARGS[0] in ("bootout", "bootstrap", "enable"))


def take(key):
    """Counts an injection down; True once it is due."""
    inject = read("inject.json", {})
    if key not in inject:
        return False
    inject[key] -= 1
    due = inject[key] == 0
    if inject[key] <= 0:
        del inject[key]
    write("inject.json", inject)
    return due


def injected(key):
    return read("inject.json", {}).get(key, False)


# The directory.

def load():
    return read("state.json", {"Users": {}, "Groups": {}})


def find(kind, name):
    records = load()[kind]
    for key, record in records.items():
        if name.lower() in (n.lower() for n in record["RecordName"]):
            return key, record
    return None, None


def save(state):
    write("state.json", state)
    number = lambda text: str(int(text) % 2**32)
    users, groups = [], []
    for name, u in state["Users"].items():
        if all(k in u for k in ("UniqueID", "PrimaryGroupID", "NFSHomeDirectory", "UserShell")):
            fields = [number(u["UniqueID"][0]), number(u["PrimaryGroupID"][0]), u.get("RealName", [""])[0]]
            users.append(":".join([name, "x", *fields, u["NFSHomeDirectory"][0], u["UserShell"][0]]))
    for name, g in state["Groups"].items():
        if "PrimaryGroupID" in g:
            members = ",".join(g.get("GroupMembership", []))
            groups.append(f"{name}:x:{number(g['PrimaryGroupID'][0])}:{members}")
    for file, lines in (("/etc/passwd", users), ("/etc/group", groups)):
        with open(file + ".new", "w") as f:
            f.write("".join(line + "\n" for line in lines))
        os.chmod(file + ".new", 0o644)
        os.replace(file + ".new", file)


def plist(record):
    escape = lambda s: s.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    body = ""
    for key in sorted(record):
        values = "".join(f"\t\t<string>{escape(v)}</string>\n" for v in record[key])
        body += f"\t<key>{STANDARD}{key}</key>\n\t<array>\n{values}\t</array>\n"
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" '
        '"http://www.apple.com/DTDs/PropertyList-1.0.dtd">\n<plist version="1.0">\n<dict>\n'
        f"{body}</dict>\n</plist>\n"
    )


def denied(kind, key=None):
    """Whether macOS asks its owner first, and was told no (TCC)."""
    return injected("tcc") and kind == "Users" and key in (None, "NFSHomeDirectory")


PERMISSION = "<main> {} status: eDSPermissionError\n<dscl_cmd> DS Error: -14120 (eDSPermissionError)\n"


def dscl():
    args = [a for a in ARGS if a != "-plist"]
    if args[0] != "." or len(args) < 3:
        wrong("dscl: another node")
    verb, where, rest = args[1], args[2], args[3:]
    kind, _, name = where.lstrip("/").partition("/")
    if kind not in ("Users", "Groups"):
        end(185, "<dscl_cmd> DS Error: -14009 (eDSUnknownNodeName)\n")
    if verb == "-list":
        lines = [(n, " ".join(r.get(rest[0], []))) for n, r in load()[kind].items()]
        end(0, stdout="".join(f"{n:<24} {v}\n" for n, v in lines))
    key, record = find(kind, name)
    if verb == "-read":
        if record is None:
            end(56, "<dscl_cmd> DS Error: -14136 (eDSRecordNotFound)\n")
        if "-plist" not in ARGS:
            wrong("dscl -read for people")
        end(0, stdout=plist(record))
    if not ROOT:
        end(40, PERMISSION.format("attribute"))
    state = load()
    if verb == "-create":
        if take("later"):
            end(140, "<main> attribute status: eNotYetImplemented\n<dscl_cmd> DS Error: -14988 (eNotYetImplemented)\n")
        if rest[:1] == ["IsHidden"] and injected("hidden_kills"):
            os.kill(os.getpid(), signal.SIGKILL)
        if denied(kind, rest[0] if rest else None):
            end(40, PERMISSION.format("attribute"))
        if record is None:
            key = name
            state[kind][key] = {"RecordName": [name], "GeneratedUID": [f"UID-{time.time_ns()}"]}
        if rest:
            state[kind][key][rest[0]] = rest[1:]
        save(state)
        end(0)
    if verb == "-change":
        if rest != ["NFSHomeDirectory", record["NFSHomeDirectory"][0], record["NFSHomeDirectory"][0]]:
            wrong("dscl -change of something")
        end(40, PERMISSION.format("attribute")) if denied(kind, rest[0]) else end(0)
    if verb == "-delete":
        if record is None:
            end(185, "<dscl_cmd> DS Error: -14009 (eDSUnknownNodeName)\n", "delete: Invalid Path\n")
        if denied(kind) or (kind == "Users" and injected("token")):
            end(40, PERMISSION.format("delete"))
        del state[kind][key]
        save(state)
        end(0)
    wrong("dscl: a verb that comfy has no use for")


def dseditgroup():
    args = ARGS[:]
    if args[:1] != ["-o"]:
        wrong("dseditgroup without -o")
    verb, args = args[1], args[2:]
    group, options = args[-1], dict(zip(args[:-1:2], args[1:-1:2]))
    key, record = find("Groups", group)
    if verb == "checkmember":
        if not any(u.get("UniqueID") == [str(os.getuid())] for u in load()["Users"].values()):
            end(0, stdout="***Username <-u username> must be explicitly provided in this shell***\nusage: dseditgroup\n")
        user, account = find("Users", options["-m"])
        if record is None:
            end(64, "Group not found.\n")
        if account is None:
            end(64, "Unable to find the user record\n")
        primary = account.get("PrimaryGroupID") == record.get("PrimaryGroupID")
        if primary or user in record.get("GroupMembership", []):
            end(0, stdout=f"yes {user} is a member of {group}\n")
        end(67, stdout=f"no {user} is NOT a member of {group}\n")
    if not ROOT:
        end(64, "Username and password must be provided.\n")
    state = load()
    if verb == "create":
        if record is not None:
            wrong("dseditgroup would replace a group")
        made = {"RecordName": [group], "RealName": [options["-r"]], "GeneratedUID": [f"UID-{time.time_ns()}"]}
        taken = any(g.get("PrimaryGroupID") == [options["-i"]] for g in state["Groups"].values())
        if not taken:
            made["PrimaryGroupID"] = [options["-i"]]
        state["Groups"][group] = made
        save(state)
        end(64, "GID already exists\n") if taken else end(0)
    if verb == "edit":
        if record is None:
            end(64, "Group not found.\n")
        add = "-a" in options
        user = options["-a" if add else "-d"]
        own, account = find("Users", user)
        if account is None and add:
            end(200, "Record was not found.\n")
        names = state["Groups"][key].setdefault("GroupMembership", [])
        if add and own not in names:
            names.append(own)
        if not add and user in names:
            names.remove(user)
        save(state)
        end(0)
    wrong("dseditgroup: a verb that comfy has no use for")


# Groups of every account: everyone, localaccounts, _lpoperator, a folder shared with guests.
EVERYBODY = ["12", "61", "100", "701"]


def id_():
    if ARGS[0] != "-G":
        wrong("id in words")
    user, account = find("Users", ARGS[1])
    lags = ROOT and user not in (None, "nobody") and injected("lag")
    if lags:
        write("inject.json", {**read("inject.json", {}), "lag": lags - 1})
    if account is None or "UniqueID" not in account or lags:
        end(1, f"id: {ARGS[1]}: no such user\n")
    groups = [g["PrimaryGroupID"][0] for n, g in load()["Groups"].items() if user in g.get("GroupMembership", [])]
    own = str(int(account["PrimaryGroupID"][0]) % 2**32)
    rest = [g for g in EVERYBODY + groups if g != own]
    end(0, stdout=" ".join([own, *dict.fromkeys(rest)]) + "\n")


# Access lists: those of Linux in the words of macOS, so that they have their effect.

XATTR, USER_OBJ, USER, GROUP_OBJ, MASK, OTHER = "system.posix_acl_access", 1, 2, 4, 16, 32
NOBODY = 2**32 - 1


def entries(folder):
    try:
        raw = os.getxattr(folder, XATTR)
    except OSError:
        bits = os.stat(folder).st_mode
        return [(USER_OBJ, bits >> 6 & 7, NOBODY), (GROUP_OBJ, bits >> 3 & 7, NOBODY), (OTHER, bits & 7, NOBODY)]
    return [struct.unpack_from("<HHI", raw, at) for at in range(4, len(raw), 8)]


def name_of(uid):
    for name, u in load()["Users"].items():
        if u.get("UniqueID") == [str(uid)]:
            return f"user:{name}"
    return "FFFFEEEE-DDDD-CCCC-BBBB-AAAA%08X" % uid


def absent(folder):
    if not os.path.lexists(folder):
        end(1, f"{NAME}: {folder}: No such file or directory\n")


def ls():
    if ARGS[0] != "-led":
        wrong("ls")
    absent(ARGS[1])
    st = os.lstat(ARGS[1])
    kind = "d" if os.path.isdir(ARGS[1]) and not os.path.islink(ARGS[1]) else "-"
    users = [uid for tag, perm, uid in entries(ARGS[1]) if tag == USER and perm & 1]
    lines = [f"{kind}rwxr-xr-x{'+' if users else ' '} 30 alice  staff  960 Aug  4 10:00 {ARGS[1]}"]
    lines += [f" {n}: {name_of(uid)} allow search" for n, uid in enumerate(users)]
    end(0, stdout="\n".join(lines) + "\n")


def stat_():
    if ARGS[:2] != ["-f", "%u %g %Lp"]:
        wrong("stat")
    absent(ARGS[2])
    st = os.lstat(ARGS[2])
    group = next(perm for tag, perm, _ in entries(ARGS[2]) if tag == GROUP_OBJ)
    end(0, stdout=f"{st.st_uid} {st.st_gid} {st.st_mode & 0o707 | group << 3:o}\n")


def chmod():
    what, who, folder = ARGS
    if what not in ("+a", "-a") or not who.startswith("user:") or not who.endswith(" allow search"):
        wrong("chmod")
    name = who[len("user:"):-len(" allow search")]
    absent(folder)
    user, account = find("Users", name)
    if account is None:
        end(1, f"chmod: Unable to translate '{name}' to a UUID\n")
    uid = int(account["UniqueID"][0])
    acl = [e for e in entries(folder) if e[0] != MASK and (e[0], e[2]) != (USER, uid)]
    if what == "+a":
        acl.append((USER, 1, uid))
    if any(tag == USER for tag, _, _ in acl):
        acl.append((MASK, max(perm for tag, perm, _ in acl if tag in (USER, GROUP_OBJ)) | 1, NOBODY))
        acl.sort(key=lambda e: (e[0], e[2]))
        raw = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in acl)
        os.setxattr(folder, XATTR, raw)
    else:
        group = next(perm for tag, perm, _ in acl if tag == GROUP_OBJ)
        os.removexattr(folder, XATTR)
        os.chmod(folder, os.stat(folder).st_mode & 0o7707 | group << 3)
    end(0)


# Processes.

def ps():
    if ARGS[0] != "-axo":
        wrong("ps")
    lines = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/status") as f:
                status = dict(line.rstrip("\n").split(":", 1) for line in f if ":" in line)
        except OSError:
            continue
        values = {
            "uid": status["Uid"].split()[0],
            "state": status["State"].split()[0],
            "rss": status.get("VmRSS", "0 kB").split()[0],
            "pid": pid,
        }
        lines.append(" ".join(f"{values[c.rstrip('=')]:>5}" for c in ARGS[1].split(",")))
    end(0, stdout="\n".join(lines) + "\n")


def launchctl():
    verb, rest = ARGS[0], ARGS[1:]
    loaded = read("loaded.json", [])
    if verb == "managername":
        end(0, stdout=(injected("session") or "Background") + "\n")
    if verb == "asuser":
        os.execv(rest[1], rest[1:])
    if verb == "bootout":
        if rest[0] not in loaded:
            end(3, "Boot-out failed: 3: No such process\n")
        write("loaded.json", [s for s in loaded if s != rest[0]])
        end(0)
    wrong("launchctl: a verb that comfy has no use for")


def sandbox_exec():
    import re

    args, given = ARGS[:], set()
    if args[:1] != ["-p"]:
        wrong("sandbox-exec without a profile")
    text, args = args[1], args[2:]
    while args[0] == "-D":
        given.add(args[1].split("=", 1)[0])
        args = args[2:]
    args = args[1:] if args[0] == "--" else args
    code = re.sub(r";[^\n]*", "", text)
    bare = re.sub(r'#?"(\\.|[^"\\])*"', "", code)
    named = set(re.findall(r'\(param "([^"]*)"\)', code))
    if bare.count("(") != bare.count(")"):
        end(65, "sandbox-exec: unbalanced parenthesis\n")
    if named != given or not text.isascii():
        wrong(f"a profile with other parameters {sorted(named ^ given)}")
    os.execvp(args[0], args)


def getconf():
    if ARGS != ["DARWIN_USER_DIR"] or ROOT:
        wrong("getconf for root")
    own = f"/var/folders/zz/comfy-{os.getuid()}"
    os.makedirs("/private" + own + "/C/com.apple.metal", exist_ok=True)
    end(0, stdout=own + "/0/\n")


def diskutil():
    if ARGS[0] != "enableOwnership":
        wrong("diskutil")
    with open(path("volumes-without-owners")) as f:
        left = [v for v in f.read().splitlines() if v != ARGS[1]]
    with open(path("volumes-without-owners"), "w") as f:
        f.write("".join(v + "\n" for v in left))
    end(0)


def lsof():
    """lsof(8) with -F: a line for each field, the process first."""
    if ARGS[0] != "-nP" or ARGS[2:] != ["-sTCP:LISTEN", "-Fpc"]:
        wrong("lsof")
    port = f":{int(ARGS[1].removeprefix('-iTCP:')):04X}"
    rows = [line.split() for line in open("/proc/net/tcp").read().splitlines()[1:]]
    sockets = {f"socket:[{r[9]}]" for r in rows if r[1].endswith(port) and r[3] == "0A"}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            held_by = {os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")}
            name = open(f"/proc/{pid}/comm").read().strip()
        except OSError:
            continue
        if held_by & sockets:
            end(0, stdout=f"p{pid}\nc{name}\nf3\n")
    # Nothing found is status 1, without a word.
    end(1)


def open_():
    """open(1): what it cannot find it names, on stderr."""
    if ROOT:
        wrong("open as root")
    is_address = ARGS[0].startswith(("http://", "https://"))
    if not is_address and not os.path.exists(ARGS[0]):
        end(1, f"The file {os.path.abspath(ARGS[0])} does not exist.\n")
    with open(path("opened"), "a") as f:
        f.write(ARGS[0] if is_address else open(ARGS[0]).read())
    end(0)


def visudo():
    os.execv("/usr/sbin/visudo", ["visudo", *ARGS])


def fresh():
    """A Mac after its first start, with two people."""
    account = lambda uid, gid, home, shell: {
        "UniqueID": [uid], "PrimaryGroupID": [gid], "NFSHomeDirectory": [home], "UserShell": [shell],
    }
    users = {
        "root": account("0", "0", "/root", "/bin/bash"),
        "daemon": account("1", "1", "/var/root", "/usr/bin/false"),
        "nobody": account("-2", "-2", "/var/empty", "/usr/bin/false"),
        "alice": account("501", "20", "/Users/alice", "/bin/bash"),
        "mallory": account("502", "20", "/Users/mallory", "/bin/bash"),
    }
    groups = {
        "wheel": ("0", ["root"]), "daemon": ("1", []), "nobody": ("-2", []), "staff": ("20", ["root"]),
        "everyone": ("12", []), "localaccounts": ("61", []), "_lpoperator": ("100", []),
        "com.apple.sharepoint.group.1": ("701", []), "admin": ("80", ["root", "alice"]),
    }
    state = {"Users": {n: {"RecordName": [n], **u} for n, u in users.items()}, "Groups": {}}
    for name, (gid, members) in groups.items():
        state["Groups"][name] = {"RecordName": [name], "PrimaryGroupID": [gid], "GroupMembership": members}
    save(state)
    write("inject.json", {})
    write("loaded.json", [])
    write("killed.json", [])


def scramble():
    """The directory of a Mac on which others, or a comfy that was cut short, have been before."""
    import random

    fresh()
    state, dice = load(), random.Random(int(ARGS[0]))
    number = lambda: str(dice.choice([401, 402, 403, 404, 450, 450, 499, 503, 20]))
    for name in ("comfyshared", "comfyui_sandbox", "comfy-alice"):
        if dice.random() < 0.4:
            gid = number()
            if not any(g["PrimaryGroupID"] == [gid] for g in state["Groups"].values()):
                people = [n for n in ("alice", "comfyui_sandbox", "mallory") if dice.random() < (0.05 if n == "mallory" else 0.4)]
                state["Groups"][name] = {"RecordName": [name], "PrimaryGroupID": [gid], "GroupMembership": people}
    if dice.random() < 0.7:
        user = {
            "RecordName": ["comfyui_sandbox"], "RealName": ["ComfyUI sandbox (comfy)"], "Password": ["*"],
            "IsHidden": ["1"], "UserShell": [dice.choice(["/usr/bin/false", "/bin/zsh"])],
            "NFSHomeDirectory": [dice.choice(["/Users/comfyui_sandbox", "/var/empty"])],
            "PrimaryGroupID": [number()], "UniqueID": [dice.choice(["402", "450", "499"])],
        }
        kept = list(user)[: dice.randint(1, len(user))]
        state["Users"]["comfyui_sandbox"] = {k: user[k] for k in kept}
    if dice.random() < 0.2:
        state["Groups"]["admin"]["GroupMembership"].append("comfyui_sandbox")
    save(state)


PLAYED = {
    "fresh": fresh, "scramble": scramble, "sleep": lambda: end(0),
    "dscl": dscl, "dseditgroup": dseditgroup, "id": id_, "ls": ls, "stat": stat_, "chmod": chmod, "ps": ps,
    "launchctl": launchctl, "sandbox-exec": sandbox_exec, "diskutil": diskutil, "getconf": getconf,
    "lsof": lsof, "open": open_, "visudo": visudo,
}


def main():
    if NAME not in PLAYED:
        # Apple's stubs, and whatever else is put in the way: a window has opened.
        wrong("the window `install the developer tools` opened")
    test = "MAC_TEST" in os.environ
    if ROOT and not test:
        with open(path("calls"), "a") as f:
            f.write(json.dumps([NAME, *ARGS]) + "\n")
    if ROOT and not test and changes() and injected("kill_each"):
        killed, call = read("killed.json", []), [NAME, *ARGS]
        if call not in killed:
            write("killed.json", [*killed, call])
            os.kill(os.getppid(), signal.SIGKILL)
            end(1)
    PLAYED[NAME]()


with open(os.path.join(HERE, "held"), "a") as held:
    if NAME not in ("sandbox-exec", "launchctl"):
        fcntl.flock(held, fcntl.LOCK_EX)
    main()
