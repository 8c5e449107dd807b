//! Removing, where the sandbox user chooses what lies there.

use super::super::machine::{BASE, attacked, ok, said};
use super::bombs::DEEP;
use super::{OUTPUT, old_state, ready, refused, sandbox, victims};

#[test]
fn what_is_removed_is_the_sandboxs_alone() {
    attacked(
        "attack::deletion::what_is_removed_is_the_sandboxs_alone",
        |m| {
            ready(m);
            let state = format!("{BASE}/state");
            // The owner's folder, with something in it that the sandbox could not remove itself,
            // moved to where root removes.
            let own = "install -d -o alice -g comfyshared -m 2775 O/NAME; install -d -o alice -m \
                700 O/NAME/closed; echo secret > O/NAME/closed/f; chown alice O/NAME/closed/f";
            let own = |name: &str| m.sh(&own.replace('O', OUTPUT).replace("NAME", name));
            own("seeded");
            own("kept");
            let secret = |at: &str| {
                m.sh(&format!(
                    "stat -c '%U %i' {at}/closed {at}/closed/f; cat {at}/closed/f"
                ))
            };
            let (was, seeded) = (
                secret(&format!("{OUTPUT}/kept")),
                secret(&format!("{OUTPUT}/seeded")),
            );
            sandbox(
                m,
                &format!(
                    "rm -r {state}/nodes/hello/data; mv {OUTPUT}/seeded \
                     {state}/nodes/hello/.data.comfy-seed"
                ),
            );
            m.sh(&format!("rm {BASE}/current"));
            m.apply();
            assert_eq!(
                secret(&m.sh(&format!("ls -d {state}/nodes/hello/.data.comfy-seed*"))),
                seeded
            );
            m.clean();
            sandbox(m, &format!("mv {OUTPUT}/kept {state}/temp/kept"));
            // A folder of root's that the group may write is nobody's to give away either.
            m.sh(&format!("install -d -g comfyshared -m 2775 {OUTPUT}/roots"));
            old_state(m);
            sandbox(
                m,
                &format!("rm -r {state}/cache; mv {OUTPUT}/roots {state}/cache"),
            );
            m.apply();
            assert_eq!(
                m.sh(&format!(
                    "stat -c '%U %a' {state}/cache.comfy-*; stat -c %U {state}/cache"
                )),
                "root 2775\ncomfyui_sandbox"
            );
            m.clean();
            let before = victims(m);
            for purge in [&["destroy", "--yes"][..], &["destroy", "--yes", "--purge"]] {
                let out = m.root(purge);
                refused(&out, "which is not the sandbox user's");
                assert!(said(&out).contains("sudo mv"), "{}", said(&out));
                let at = m.sh("find /opt/comfy -name kept");
                assert_eq!(secret(&at), was);
            }
            m.sh(&format!(
                "mv $(find /opt/comfy -name kept) {OUTPUT}/; find /opt/comfy -name \
                '.data.comfy-seed*' -exec mv {{}} {OUTPUT}/ \\; -prune; find /opt/comfy -name \
                'cache.comfy-*' -exec mv {{}} {OUTPUT}/ \\; -prune"
            ));
            ok(&m.root(&["destroy", "--yes", "--purge"]));
            assert_eq!(secret(&format!("{OUTPUT}/kept")), was);
            assert_eq!(
                m.sh(&format!(
                    "ls -d {BASE} /home/comfyui_sandbox /var/lib/comfy 2> /dev/null || true"
                )),
                ""
            );
            assert_eq!(victims(m), before);
        },
    );
}

#[test]
fn removing_follows_nothing_and_ends() {
    attacked("attack::deletion::removing_follows_nothing_and_ends", |m| {
        // An account that was there before stays, with its processes: they go on while root
        // removes.
        m.sh("useradd -M -d /home/comfyui_sandbox -s /usr/sbin/nologin comfyui_sandbox");
        ready(m);
        let state = format!("{BASE}/state");
        for (top, depth) in [
            (format!("{state}/temp"), "30000"),
            (format!("{state}/user"), "3000"),
        ] {
            ok(&m
                .as_user(
                    "comfyui_sandbox",
                    "/usr/bin/python3",
                    &["-I", "-c", DEEP, &top, depth, &"n".repeat(100)],
                )
                .output()
                .unwrap());
        }
        // Mounted by root: not the sandbox's, and not entered.
        sandbox(m, &format!("mkdir {state}/cache/m"));
        m.sh(&format!("mount --bind /opt/victim {state}/cache/m"));
        let before = victims(m);
        let racer = r#"
import os, sys
os.chdir(sys.argv[1]); print("racing", flush=True)
n = 0
while True:
    n += 1
    try:
        os.makedirs(f"r{n % 50}/a/b", exist_ok=True); os.rename(f"r{n % 50}/a", f"r{n % 50}/c")
        os.symlink("/opt/victim/d", f"r{n % 50}/a"); os.symlink("/opt/victim", f"l{n % 50}")
    except OSError: pass
    try: os.rename(f"r{n % 50}", f"r{n % 50}.x")
    except OSError: pass
"#;
        let race = || {
            let mut child = m
                .as_user(
                    "comfyui_sandbox",
                    "/usr/bin/python3",
                    &["-I", "-c", racer, &format!("{state}/temp")],
                )
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            std::io::BufRead::read_line(
                &mut std::io::BufReader::new(child.stdout.take().unwrap()),
                &mut line,
            )
            .unwrap();
            child
        };
        let mut racer = race();
        let out = m.root(&["destroy", "--yes", "--purge"]);
        refused(&out, "something is mounted there");
        assert_eq!(victims(m), before);
        m.sh("umount $(grep -o '/opt[^ ]*/cache/m' /proc/self/mounts)");
        // With somebody who makes things as fast as they go, it may have to be told again once that
        // one has ended; it says so.
        let out = m.root(&["destroy", "--yes", "--purge"]);
        assert!(
            out.status.success() || said(&out).contains("/opt/comfy"),
            "{}",
            said(&out)
        );
        racer.kill().unwrap();
        racer.wait().unwrap();
        ok(&m.root(&["destroy", "--yes", "--purge"]));
        assert_eq!(
            m.sh(&format!(
                "ls -d {BASE} /var/lib/comfy 2> /dev/null || true; id -un comfyui_sandbox"
            )),
            "comfyui_sandbox"
        );
        assert_eq!(victims(m), before);
    });
}

#[cfg(feature = "faults")]
#[test]
fn a_removal_killed_before_every_step_can_be_repeated() {
    super::super::machine::private(
        "attack::deletion::a_removal_killed_before_every_step_can_be_repeated",
        |m| {
            m.sh("mkdir -p /home/alice/ai; chown alice /home/alice/ai");
            m.lock();
            for (step, purge) in (0..).zip([true, false].into_iter().cycle()) {
                m.apply();
                m.sh(
                    "echo mine > /opt/comfy/comfyui_sandbox/state/user/mine; chown \
                    comfyui_sandbox /opt/comfy/comfyui_sandbox/state/user/mine; echo mine > \
                    /home/alice/ai/output/mine",
                );
                let args = if purge {
                    &["destroy", "--yes", "--purge"][..]
                } else {
                    &["destroy", "--yes"]
                };
                let out = m
                    .root_command(args)
                    .env("COMFY_FAULT", format!("kill:{step}"))
                    .output()
                    .unwrap();
                ok(&m.root(args));
                let left = m.sh("ls -d /opt/comfy/comfyui_sandbox /var/lib/comfy \
                    /home/comfyui_sandbox 2> /dev/null || true; getent passwd comfyui_sandbox || \
                    true; getent group comfyshared comfyui_sandbox || true; stat -c '%G %a' \
                    /home/alice/ai/output; cat /home/alice/ai/output/mine");
                assert_eq!(left, "alice 755\nmine", "killed before step {step}");
                assert_eq!(
                    m.sh("cat /opt/comfy/*/user/mine 2> /dev/null || true"),
                    if purge { "" } else { "mine" },
                    "killed before step {step}"
                );
                m.sh("rm -rf /opt/comfy");
                if out.status.success() {
                    eprintln!("killed before each of {step} steps");
                    assert!(step > 8, "{step}");
                    break;
                }
            }
        },
    );
}
