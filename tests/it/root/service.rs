//! `[run] passwordless` and `boot`: a launcher of root's, one rule for it, one unit; and no more
//! than that.

use super::confined::ready;
use super::machine::{BASE, MANIFEST, ok, private, said};
use crate::support::report_skipped;

const RULE: &str = "/etc/sudoers.d/comfy-comfyui_sandbox";
const UNIT: &str = "/etc/systemd/system/comfy-comfyui_sandbox.service";
const WANTS: &str = "/etc/systemd/system/multi-user.target.wants/comfy-comfyui_sandbox.service";

#[test]
fn its_owner_starts_it_without_a_password_and_gets_nothing_else() {
    private(
        "service::its_owner_starts_it_without_a_password_and_gets_nothing_else",
        |m| {
            if m.sh("command -v sudo visudo || true").is_empty() {
                assert_ne!(
                    std::env::var("COMFY_TEST_ROOT").as_deref(),
                    Ok("required"),
                    "sudo must be here"
                );
                return report_skipped("there is no sudo");
            }
            // A comfy that its owner can write, as after `cargo install`.
            m.sh(
                "mkdir -p /home/alice/bin /etc/systemd/system; cp /opt/bin/comfy \
                /home/alice/bin/comfy; chown -R alice: /home/alice/bin",
            );
            let port = ready(m, "", |t| {
                format!("{t}\n[run]\npasswordless = true\nboot = true\n")
            });
            let alice = |args: &[&str]| {
                m.as_user(
                    "alice",
                    "/home/alice/bin/comfy",
                    &[&["-C", "/home/alice/dot"], args].concat(),
                )
                .output()
                .unwrap()
            };
            // What was copied is the comfy that made the apply: here root's. The owner's own is as
            // good, and has its own age.
            m.sh("touch -r /opt/bin/comfy /home/alice/bin/comfy");
            assert_eq!(
                m.sh(&format!(
                    "stat -c '%U %G %a' {BASE}/bin/comfy {RULE} {UNIT}"
                )),
                "root root 755\nroot root 440\nroot root 644"
            );
            assert_eq!(m.sh(&format!("readlink {WANTS}")), UNIT);
            let uid = m.sh("id -u alice");
            assert_eq!(
                m.sh(&format!("grep -v '^#M\\|^# ' {RULE}")),
                format!("#{uid} ALL=(root) NOPASSWD: {BASE}/bin/comfy __launch comfyui_sandbox")
            );

            let out = alice(&["start"]);
            ok(&out);
            assert!(said(&out).contains("is ready at"), "{}", said(&out));
            assert_eq!(
                said(
                    &m.as_user(
                        "alice",
                        "curl",
                        &[
                            "-s",
                            "-o",
                            "/dev/null",
                            "-w",
                            "%{http_code}",
                            &format!("http://127.0.0.1:{port}/system_stats")
                        ]
                    )
                    .output()
                    .unwrap()
                ),
                "200"
            );
            ok(&alice(&["stop"]));
            assert_eq!(
                said(&alice(&["exec", "--", "id", "-un"])),
                "comfyui_sandbox\n"
            );
            // Nothing else comes without a password: no other side of comfy, no other instance, no
            // other program.
            for argv in [
                &["__root"][..],
                &["__launch"],
                &["__launch", "other"],
                &["apply"],
                &["__launch", "comfyui_sandbox", "--boot"],
            ] {
                let sudo = m
                    .as_user(
                        "alice",
                        "/usr/bin/sudo",
                        &[&["-n", &format!("{BASE}/bin/comfy")], argv].concat(),
                    )
                    .output()
                    .unwrap();
                assert!(
                    !sudo.status.success() && said(&sudo).contains("password"),
                    "{argv:?}: {}",
                    said(&sudo)
                );
            }
            // Another instance's request is refused by the launcher itself.
            let asked = r#"{"instance":"mallory","records":null,"args":[],"how":"Attended"}"#;
            let script = format!(
                "echo '{asked}' | /usr/bin/sudo -n {BASE}/bin/comfy __launch comfyui_sandbox"
            );
            let out = m.as_user("alice", "sh", &["-c", &script]).output().unwrap();
            assert!(
                said(&out).contains("this launcher is for another instance"),
                "{}",
                said(&out)
            );
            // A comfy of another age does not use it, and says so.
            m.sh("touch /home/alice/bin/comfy");
            assert!(
                said(&alice(&["exec", "--", "id", "-un"]))
                    .contains("The launcher differs from this comfy")
            );

            // Edited or gone, it is found and mended.
            m.sh(&format!(
                "chmod 777 {BASE}/bin/comfy; echo '# more' >> {UNIT}; echo 'alice \
                ALL=(ALL) NOPASSWD: ALL' >> {RULE}"
            ));
            let seen = m.differing();
            assert!(
                seen.contains(&"service.launcher".to_string())
                    && seen.contains(&"service.boot".to_string()),
                "{seen:?}"
            );
            let out = m.root(&["plan"]);
            assert!(said(&out).contains("service.sudo"), "{}", said(&out));
            m.apply();
            m.clean();
            assert_eq!(m.sh(&format!("grep -c ALL= {RULE}")), "1");

            // Taken back, nothing of it stays.
            m.manifest(&MANIFEST.replace("view = ", &format!("port = {port}\nview = ")));
            m.apply();
            m.clean();
            assert_eq!(
                m.sh(&format!(
                    "ls {RULE} {UNIT} {WANTS} {BASE}/bin/comfy 2>/dev/null || true"
                )),
                ""
            );
        },
    );
}

#[test]
fn the_boot_starts_what_was_applied() {
    private("service::the_boot_starts_what_was_applied", |m| {
        m.sh("mkdir -p /etc/systemd/system");
        let port = ready(m, "", |t| format!("{t}\n[run]\nboot = true\n"));
        if !m.sh("command -v systemd-analyze || true").is_empty() {
            let out = m
                .as_user("root", "systemd-analyze", &["verify", UNIT])
                .output()
                .unwrap();
            assert!(
                !said(&out).contains("comfy-comfyui_sandbox"),
                "{}",
                said(&out)
            );
        }
        assert_eq!(
            m.sh(&format!("ls {RULE} 2>/dev/null || true")),
            "",
            "a rule that nobody asked for"
        );
        // As systemd does it: the command of the unit, nothing to read, nobody who listens.
        let command = m.sh(&format!("sed -n 's/^ExecStart=//p' {UNIT} | tr -d '\"'"));
        let argv: Vec<&str> = command.split(' ').collect();
        let mut c = m.as_user("root", argv[0], &argv[1..]);
        let mut child = c
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let url = format!("http://127.0.0.1:{port}/system_stats");
        m.sh(&format!(
            "for i in $(seq 100); do setpriv --reuid alice --regid alice --init-groups curl -sf \
             {url} > /dev/null && exit 0; sleep 0.1; done; exit 1"
        ));
        assert!(
            said(&m.alice(&["status"])).contains("running"),
            "{}",
            said(&m.alice(&["status"]))
        );
        // Ended by its owner it counts as a good end, which the system does not make up for.
        ok(&m.alice(&["stop"]));
        assert_eq!(child.wait().unwrap().code(), Some(0));
        ok(&m.root(&["destroy", "--yes"]));
        assert_eq!(m.sh(&format!("ls {UNIT} {WANTS} 2>/dev/null || true")), "");
    });
}

#[test]
fn a_rule_is_refused_where_somebody_else_could_change_the_program() {
    private(
        "service::a_rule_is_refused_where_somebody_else_could_change_the_program",
        |m| {
            m.sh("mkdir /srv/theirs; chown alice /srv/theirs");
            m.manifest(&format!(
                "{}\n[run]\npasswordless = true\n[host]\nprefix = \"/srv/theirs/comfy\"\n",
                MANIFEST
            ));
            m.lock();
            let before = m.picture();
            let out = m.root(&["apply", "--yes"]);
            assert_eq!(out.status.code(), Some(1), "{}", said(&out));
            assert!(
                said(&out).contains(
                    "service.launcher: /srv/theirs can be changed by others than root, \
                     who could then start anything as root"
                ),
                "{}",
                said(&out)
            );
            assert_eq!(m.picture(), before);
            assert_eq!(m.sh(&format!("ls {RULE} 2>/dev/null || true")), "");
        },
    );
}

#[test]
fn memory_is_kept_for_the_system() {
    private("service::memory_is_kept_for_the_system", |m| {
        if m.sh(
            "grep -qw memory /sys/fs/cgroup/cgroup.controllers 2>/dev/null || ls \
            /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || true; mkdir \
            /sys/fs/cgroup/memory/comfy-probe 2>/dev/null && rmdir \
            /sys/fs/cgroup/memory/comfy-probe && echo yes || true",
        )
        .is_empty()
        {
            return report_skipped("control groups for memory are not ours to make here");
        }
        // All but a gibibyte and a half are kept: more than that is not to be had, and what asks
        // for it is told or ended.
        let total: u64 = m
            .sh("awk '/MemTotal/ {print $2}' /proc/meminfo")
            .parse::<u64>()
            .unwrap()
            >> 10;
        // A name of its own: the control groups are the real machine's, where other tests run.
        ready(m, "", |t| {
            format!(
                "{t}\n[host]\nsandbox_user = \"comfy_small\"\n[run]\nmemory_reserve = \"{} MiB\"\n",
                total - 1536
            )
        });
        let take = |mib: u64| {
            m.root(&[
                "exec",
                "--",
                "python",
                "-c",
                &format!(
                    "b = bytearray({mib} << 20)\nfor i in \
                range(0, len(b), 4096): b[i] = 1\nprint('GOT')"
                ),
            ])
        };
        let some = take(256);
        assert!(
            said(&some).contains("GOT") && !said(&some).contains("memory_reserve"),
            "{}",
            said(&some)
        );
        let much = take(2048);
        assert!(
            !much.status.success() && !said(&much).contains("GOT"),
            "{}",
            said(&much)
        );
        assert_eq!(
            m.sh("find /sys/fs/cgroup -maxdepth 2 -name 'comfy-comfy_small*'"),
            ""
        );
        // What leaves nothing is said, and nothing is limited.
        let text = std::fs::read_to_string(m.dot.join("comfy.toml"))
            .unwrap()
            .replace(&format!("{} MiB", total - 1536), "1000000 GiB");
        m.manifest(&text);
        m.apply();
        let out = take(256);
        assert!(
            said(&out).contains("GOT")
                && said(&out).contains("run.memory_reserve is not enforced: "),
            "{}",
            said(&out)
        );
    });
}

#[test]
fn the_sandbox_user_has_no_jobs_of_its_own() {
    private("service::the_sandbox_user_has_no_jobs_of_its_own", |m| {
        // As distributions bring them, one of them closed to the owner's eyes; another list of who
        // may is not ours.
        m.sh(
            "printf 'mallory\\n' > /etc/cron.deny; printf 'daemon\\nmallory\\n' > /etc/at.deny; \
            chgrp daemon /etc/at.deny; chmod 640 /etc/at.deny; rm -f /etc/cron.allow \
            /etc/at.allow",
        );
        m.ready();
        let lists = || m.sh("cat /etc/cron.deny /etc/at.deny; stat -c '%U %G %a' /etc/at.deny");
        assert_eq!(
            lists(),
            "mallory\ncomfyui_sandbox\ndaemon\nmallory\ncomfyui_sandbox\nroot daemon 640"
        );
        m.sh("printf 'mallory\\n' > /etc/cron.deny");
        assert_eq!(m.differing(), ["cron.comfyui_sandbox"]);
        m.apply();
        m.clean();
        ok(&m.root(&["destroy", "--yes"]));
        assert_eq!(lists(), "mallory\ndaemon\nmallory\nroot daemon 640");
    });
}
