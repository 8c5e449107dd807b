//! A launch as on macOS, without namespaces, where sandbox-exec(1) and launchctl(1) are doubles that
//! start the rest: what ends with what, and what is told.

use super::confined::{Run, ready};
use super::machine::{Machine, private, said};

/// Refuses what sandbox-exec would refuse, and shows how it was called.
const SANDBOX_EXEC: &str = r#"#!/bin/bash
[ "$1" = -p ] || exit 64
text=$2 given=; shift 2
while [ "$1" = -D ]; do given+="${2%%=*}"$'\n'; shift 2; done
[ "$1" = -- ] || exit 64
shift
named=$(grep -o '(param "[^"]*")' <<< "$text" | grep -o 'P[0-9]*' | sort -u)
[ "$named" = "$(sort -u <<< "${given%$'\n'}")" ] || { echo "PROFILE with other parameters"; exit 65; }
echo "PROFILE applied to $(id -un): ${1##*/}" | tee -a /opt/tools/log
exec "$@"
"#;

/// Stays between, as a program may that does not tell how it starts another one.
const LAUNCHCTL: &str = r#"#!/bin/bash
[ -e /opt/tools/broken ] && { echo "Could not switch to audit session" >&2; exit 125; }
[ "$1" = asuser ] || exit 64
shift 2
"$@"
"#;

/// The launch of `m` as a Mac would have written it.
fn as_on_a_mac(m: &mut Machine) {
    for (name, text) in [("sandbox-exec", SANDBOX_EXEC), ("launchctl", LAUNCHCTL)] {
        m.sh("mkdir -p /opt/tools");
        std::fs::write(format!("/opt/tools/{name}"), text).unwrap();
        m.sh(&format!("chmod 755 /opt/tools/{name}"));
    }
    m.sh("install -m 666 /dev/null /opt/tools/log");
    m.env.push(("COMFY_TOOLS".into(), "/opt/tools".into()));
    let launch = "/var/lib/comfy/comfyui_sandbox/launch.json";
    m.sh(&format!(
        r#"grep -q '"macos": *false' {launch} && sed -i 's/"macos": *false/"macos": true/' {launch}"#
    ));
}

/// Processes of a launch: one line for each.
fn alive(m: &Machine, what: &str) -> usize {
    let find = format!(
        "for p in /proc/[0-9]*; do if tr '\\0' ' ' < $p/cmdline 2> /dev/null | grep -qE '{what}'; then echo $p; \
         fi; done"
    );
    m.sh(&find).lines().count()
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let started = std::time::Instant::now();
    while !done() {
        assert!(started.elapsed().as_secs() < 10, "{what}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

const SLEEPER: &str = "sleep 100[0]";
const COMFYUI: &str = "main[.]py";

#[test]
fn nothing_of_a_launch_outlives_it() {
    private("mac_walls::nothing_of_a_launch_outlives_it", |m| {
        let leaves = "import subprocess\nsubprocess.Popen(['setsid', 'sleep', '1000'])";
        ready(m, leaves, str::to_string);
        // By this name scripts of packages start their interpreter.
        let readlink = [
            "exec",
            "--",
            "readlink",
            "-f",
            "/opt/comfy/comfyui_sandbox/current/venv",
        ];
        let inside = || said(&m.root(&readlink)).starts_with("/opt/comfy/comfyui_sandbox/venv/");
        assert!(inside(), "{}", said(&m.root(&readlink)));
        as_on_a_mac(m);
        let run = Run::start(m);
        assert!(
            run.told
                .contains("macOS names no folder for Metal's caches"),
            "{}",
            run.told
        );
        assert!(!run.told.contains("session"), "{}", run.told);
        assert!(alive(m, SLEEPER) == 1 && alive(m, COMFYUI) >= 1);
        // The launcher is killed: ComfyUI and the gateway end, what left the group does not.
        m.sh("pkill -KILL -f __launc[h]");
        wait_until("ComfyUI runs without its launcher", || {
            alive(m, &format!("{COMFYUI}|__gatewa[y]")) == 0
        });
        drop(run);
        assert_eq!(alive(m, SLEEPER), 1);
        // The next launch ends it, and everything of its own.
        std::fs::write("/opt/tools/broken", "").unwrap();
        // Without a session of its own nothing starts, unless comfy.toml says that less is enough.
        let out = said(&m.root(&["run"]));
        let why = "`launchctl asuser` failed";
        assert!(
            out.contains(why) && out.contains("session = \"caller\""),
            "{out}"
        );
        let launch = "/var/lib/comfy/comfyui_sandbox/launch.json";
        m.sh(&format!(
            r#"grep -q '"strict": *true' {launch} && sed -i 's/"strict": *true/"strict": false/' {launch}"#
        ));
        m.sh("setfacl -b /home/alice; chmod 700 /home/alice");
        let run = Run::start(m);
        assert!(
            run.told
                .contains("no session of its own for comfyui_sandbox"),
            "{}",
            run.told
        );
        let closed = "ComfyUI does not reach /home/alice/ai/models (share models: ComfyUI reads): Permission denied";
        assert!(run.told.contains(closed), "{}", run.told);
        assert_eq!(alive(m, SLEEPER), 1);
        // What runs beside it leaves it alone.
        let out = m.root(&["exec", "--", "id", "-un"]);
        assert!(said(&out).contains("\ncomfyui_sandbox\n"), "{}", said(&out));
        assert_eq!(alive(m, SLEEPER), 1);
        let log = run.end();
        assert!(
            log.contains("PROFILE applied to comfyui_sandbox: python"),
            "{log}"
        );
        assert_eq!(alive(m, &format!("{SLEEPER}|{COMFYUI}")), 0);
        assert_eq!(
            m.sh("ps -u comfyui_sandbox -o stat=,args= | grep -v '^Z' || true"),
            ""
        );
        // What doctor tries with the account alone has no profile.
        m.sh("truncate -s 0 /opt/tools/log");
        let out = said(&m.root(&["doctor"]));
        assert!(out.contains(" could not be tried."), "{out}");
        let applied = m.sh("cat /opt/tools/log");
        assert_eq!(
            applied, "PROFILE applied to comfyui_sandbox: python",
            "{out}"
        );
    });
}
