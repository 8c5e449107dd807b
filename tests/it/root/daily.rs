//! Daily life: started in the background, looked at, ended, without root where none is needed.

use std::path::Path;
use std::time::{Duration, Instant};

use super::confined::ready;
use super::machine::{BASE, Machine, ok, private, said};
use crate::support::report_skipped;

fn json(m: &Machine) -> serde_json::Value {
    let out = m.alice(&["status", "--json"]);
    ok(&out);
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    json["data"].clone()
}

/// Processes of the sandbox user that live.
const ALIVE: &str = "for p in /proc/[0-9]*; do if [ \"$(stat -c %U $p 2>/dev/null)\" = \
    comfyui_sandbox ] && ! grep -q '^State:.*Z' $p/status; then echo x; fi; done | wc -l";

#[test]
fn started_in_the_background_it_is_watched_and_ended_without_root() {
    private(
        "daily::started_in_the_background_it_is_watched_and_ended_without_root",
        |m| {
            let port = ready(
                m,
                "import subprocess\nsubprocess.Popen(['sleep', '1000'])\nprint('A NODE SAYS \
                 \\x1b]0;evil\\x07')",
                |t| t.into(),
            );
            let status = said(&m.alice(&["status"]));
            assert!(
                status.starts_with("ComfyUI is not running.\nlock        in step\nhealth      "),
                "{status}"
            );
            let out = m.root(&["start"]);
            ok(&out);
            assert!(
                said(&out).contains("is ready at") && said(&out).contains("2 of 2 nodes loaded"),
                "{}",
                said(&out)
            );
            // A second one is told of the first.
            for command in ["start", "run"] {
                let second = m.root(&[command]);
                assert!(
                    second.status.code() == Some(1)
                        && said(&second).contains("ComfyUI is already running since"),
                    "{}",
                    said(&second)
                );
            }
            let status = json(m);
            assert_eq!(
                (&status["running"], &status["ready"], &status["restart_due"]),
                (&true.into(), &true.into(), &false.into()),
                "{status:#}"
            );
            assert_eq!(status["address"], format!("http://127.0.0.1:{port}"));
            assert!(status["memory"].as_u64().unwrap() > 1 << 20, "{status:#}");
            // Nobody else sees anything of it.
            assert_eq!(
                m.as_user(
                    "mallory",
                    "cat",
                    &["/var/lib/comfy/comfyui_sandbox/live.json"]
                )
                .output()
                .unwrap()
                .status
                .code(),
                Some(1)
            );
            assert_eq!(
                m.as_user(
                    "mallory",
                    "cat",
                    &["/var/lib/comfy/comfyui_sandbox/log/comfyui.log"]
                )
                .output()
                .unwrap()
                .status
                .code(),
                Some(1)
            );
            let log = said(&m.alice(&["logs"]));
            assert!(
                log.contains("A NODE SAYS \\u{1b}]0;evil\\u{7}") && !log.contains('\x1b'),
                "{log}"
            );
            assert_eq!(said(&m.alice(&["logs", "-n", "1"])).lines().count(), 1);
            // The token lets a program in; without it another user stays outside.
            let url = format!("http://127.0.0.1:{port}/system_stats");
            let token = said(&m.alice(&["open", "--token"]));
            let code = |user: &str, header: &str| {
                m.as_user(
                    user,
                    "curl",
                    &[
                        "-s",
                        "-o",
                        "/dev/null",
                        "-w",
                        "%{http_code}",
                        "-H",
                        header,
                        &url,
                    ],
                )
                .output()
                .unwrap()
            };
            assert_eq!(said(&code("alice", "X: y")), "200");
            assert_eq!(said(&code("mallory", "X: y")), "403");
            assert!(
                said(&m.alice(&["open", "--print"])).contains("/?ticket="),
                "{token}"
            );
            assert!(
                !m.as_user(
                    "mallory",
                    "/opt/bin/comfy",
                    &["-C", "/home/alice/dot", "stop"]
                )
                .output()
                .unwrap()
                .status
                .success()
            );
            assert!(json(m)["running"].as_bool().unwrap());
            // An apply that moves code: what runs goes on, and is told to be old.
            m.hello
                .commit(&crate::support::borrowed(&crate::support::node(7)));
            ok(&m.alice(&["update", "hello"]));
            m.apply();
            assert_eq!(json(m)["restart_due"], true);
            assert!(said(&m.alice(&["status"])).contains("restart needed"));
            // What runs keeps its files: gc leaves them, destroy wants it ended first.
            let running = json(m)["generation"].as_str().unwrap().to_string();
            ok(&m.root(&["gc", "--keep", "0", "--yes"]));
            m.sh(&format!("test -e {BASE}/gen/{running}/ComfyUI/main.py"));
            let out = m.root(&["destroy", "--yes"]);
            assert!(
                out.status.code() == Some(1) && said(&out).contains("stop it with `comfy stop`"),
                "{}",
                said(&out)
            );
            let again = m.root(&["restart"]);
            ok(&again);
            assert_eq!(json(m)["restart_due"], false);
            // Ended by its owner, without root, whatever comfy.toml says by now; nothing is left,
            // and the next launch is free to begin.
            let toml = std::fs::read_to_string("/home/alice/dot/comfy.toml").unwrap();
            m.manifest(&format!("{toml}\nx y\n"));
            let out = m.alice(&["stop"]);
            ok(&out);
            assert!(
                said(&out).contains("key with no value")
                    && said(&out).contains("ComfyUI has stopped."),
                "{}",
                said(&out)
            );
            removes_without_a_sound_manifest(m);
            m.manifest(&toml);
            assert_eq!(m.sh(ALIVE), "0");
            assert!(
                said(&m.alice(&["status"])).contains("it was stopped at"),
                "{}",
                said(&m.alice(&["status"]))
            );
            assert_eq!(said(&m.alice(&["stop"])), "ComfyUI is not running.\n");
            m.clean();
        },
    );
}

/// What was applied says what is not in use. What was never live may be what comfy.lock pins.
fn removes_without_a_sound_manifest(m: &Machine) {
    let unused = format!("{BASE}/gen/0123456789abcdef");
    m.sh(&format!("mkdir {unused}"));
    let out = m.root(&["gc", "--keep", "0", "--yes"]);
    ok(&out);
    assert!(
        said(&out).contains("key with no value")
            && said(&out).contains("using what was applied here, comfyui_sandbox")
            && said(&out).contains("Removed 1 generation."),
        "{}",
        said(&out)
    );
    assert_eq!(m.sh(&format!("ls {BASE}/gen | wc -l")), "2");
    // Another folder's mistake removes nothing of this one's.
    m.sh("mkdir /home/alice/other; echo 'x y' > /home/alice/other/comfy.toml");
    let refused = m.sh(&format!(
        "cd /home/alice/other; SUDO_USER=alice SUDO_UID=$(id -u alice) {} gc --yes 2>&1 || echo rc $?",
        m.root_command(&[]).get_program().display()
    ));
    assert!(
        refused.contains("key with no value") && refused.ends_with("rc 1"),
        "{refused}"
    );
    m.sh("rm -r /home/alice/other");
    assert_eq!(m.sh(&format!("ls {BASE}/gen | wc -l")), "2");
    // Somebody else has nothing here.
    let mut other = m.root_command(&["gc", "--yes"]);
    let other = other
        .env("SUDO_UID", m.sh("id -u mallory"))
        .output()
        .unwrap();
    assert!(other.status.code() == Some(1), "{}", said(&other));
    m.sh(&format!("rmdir {unused}"));
}

#[test]
fn what_is_moved_into_a_share_while_comfyui_runs_is_told_with_its_repair() {
    private(
        "daily::what_is_moved_into_a_share_while_comfyui_runs_is_told_with_its_repair",
        |m| {
            ready(m, READS, |t| t.into());
            ok(&m.root(&["start"]));
            let share = "/home/alice/ai/input";
            // A picture that was moved there, one that a umask has closed, and a folder.
            m.sh(&format!(
                "cd /home/alice; echo x > moved.png; chown alice:alice moved.png; chmod 640 moved.png; \
                 setpriv --reuid alice --regid alice --init-groups sh -c 'umask 077; mv moved.png \
                 {share}/moved.png; echo x > {share}/closed.png; umask 022; mkdir {share}/new'"
            ));
            let log = wait_for(m, "PermissionError");
            assert!(log.contains("PermissionError"), "{log}");
            let hint = "ComfyUI reports that it cannot use moved.png in share input";
            let end = Instant::now() + Duration::from_secs(10);
            while !std::fs::read_to_string("/var/lib/comfy/comfyui_sandbox/log/status.json")
                .is_ok_and(|s| s.contains(hint) && s.contains("comfy apply --only share.input"))
            {
                assert!(Instant::now() < end, "{}", wait_for(m, "PermissionError"));
                std::thread::sleep(Duration::from_millis(100));
            }
            // The command that it names, while ComfyUI runs.
            ok(&m.root(&["apply", "--only", "share.input", "--yes"]));
            let log = wait_for(m, "READ ALL");
            assert!(log.contains("READ ALL"), "{log}");
            ok(&m.alice(&["stop"]));
        },
    );
}

/// A node that tries again and again to use what the owner has put into the share.
const READS: &str = r#"
import threading, time, traceback
T = "/home/alice/ai/input/"
def use():
    open(T + "moved.png").read()
    open(T + "closed.png").read()
    open(T + "new/mine", "w").close()
def work():
    while True:
        try:
            use(); print("READ ALL", flush=True); return
        except FileNotFoundError: pass
        except OSError: traceback.print_exc()
        time.sleep(0.3)
import sys
if "--quick-test-for-ci" not in sys.argv: threading.Thread(target=work, daemon=True).start()
"#;

/// The log once it has these words, or after some seconds.
fn wait_for(m: &Machine, words: &str) -> String {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let log = said(&m.alice(&["logs"]));
        if log.contains(words) || Instant::now() > end {
            return log;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_start_that_fails_says_why_and_leaves_nothing() {
    private(
        "daily::a_start_that_fails_says_why_and_leaves_nothing",
        |m| {
            ready(
                m,
                "import os\nprint('LAST WORDS', flush=True)\nos._exit(7)",
                |t| t.into(),
            );
            let out = m.root(&["start"]);
            assert_eq!(out.status.code(), Some(1));
            assert!(
                said(&out).contains("LAST WORDS")
                    && said(&out).contains("ComfyUI exited with exit code 7 before it was ready"),
                "{}",
                said(&out)
            );
            assert_eq!(m.sh(ALIVE), "0");
            assert!(
                said(&m.alice(&["status"])).contains("it exited with exit code 7"),
                "{}",
                said(&m.alice(&["status"]))
            );
        },
    );
}

#[test]
fn a_supervisor_that_is_killed_takes_everything_with_it() {
    private(
        "daily::a_supervisor_that_is_killed_takes_everything_with_it",
        |m| {
            ready(
                m,
                "import subprocess\nsubprocess.Popen(['setsid', 'sleep', '1000'])",
                |t| t.into(),
            );
            ok(&m.root(&["start"]));
            assert_ne!(m.sh(ALIVE), "0");
            m.sh(&format!("kill -9 {}", json(m)["pid"]));
            let end = Instant::now() + Duration::from_secs(10);
            while m.sh(ALIVE) != "0" {
                assert!(Instant::now() < end, "{}", m.sh("ps -ef"));
                std::thread::sleep(Duration::from_millis(50));
            }
            assert_eq!(json(m)["running"], false);
            ok(&m.root(&["start"]));
            ok(&m.alice(&["stop"]));
        },
    );
}

#[test]
fn exec_is_as_confined_as_comfyui() {
    private("daily::exec_is_as_confined_as_comfyui", |m| {
        ready(m, "", |t| t.into());
        m.sh("echo key > /home/alice/key; chmod 644 /home/alice/key; chmod 755 /home/alice");
        let out = m.root(&[
            "exec",
            "--",
            "sh",
            "-c",
            "id -un; pwd; echo $VIRTUAL_ENV; ls /tmp | wc -l; cat /home/alice/key; exit 3",
        ]);
        assert_eq!(out.status.code(), Some(3), "{}", said(&out));
        let text = said(&out);
        assert!(
            text.starts_with("comfyui_sandbox\n/opt/comfy/comfyui_sandbox/gen/")
                && !text.contains("key\nkey"),
            "{text}"
        );
        assert!(
            text.contains("Permission denied") || text.contains("No such file"),
            "{text}"
        );
        // Without `--` too; a program that is not there is told as a shell tells it.
        let out = m.root(&["exec", "sh", "-c", "exit 4"]);
        assert_eq!(out.status.code(), Some(4), "{}", said(&out));
        let out = m.root(&["exec", "nosuch"]);
        assert!(
            out.status.code() == Some(127) && said(&out).contains("could not start nosuch"),
            "{}",
            said(&out)
        );
    });
}

#[test]
fn a_shell_has_a_terminal_of_its_own() {
    private("daily::a_shell_has_a_terminal_of_its_own", |m| {
        ready(m, "", |t| t.into());
        let refused = m.root(&["shell"]);
        assert!(
            refused.status.code() == Some(1)
                && said(&refused).contains("`comfy exec -- sh -c '…'` needs no terminal"),
            "{}",
            said(&refused)
        );
        let size = comfy::host::terminal::TerminalSize {
            rows: 33,
            columns: 111,
        };
        let (ours, theirs) = comfy::host::terminal::open_pty(size).unwrap();
        let mut c = m.root_command(&["shell"]);
        c.env("TERM", "xterm")
            .stdin(theirs.try_clone().unwrap())
            .stdout(theirs.try_clone().unwrap())
            .stderr(theirs);
        let mut child = c.spawn().unwrap();
        drop(c);
        let (mut type_, mut read) = (
            std::fs::File::from(ours.try_clone().unwrap()),
            std::fs::File::from(ours),
        );
        let mut seen = String::new();
        let mut until = |what: &str, seen: &mut String| {
            let mut b = [0; 4096];
            while !seen.contains(what) {
                let n = std::io::Read::read(&mut read, &mut b).unwrap_or(0);
                assert!(n > 0, "no {what:?} in {seen:?}");
                seen.push_str(&String::from_utf8_lossy(&b[..n]));
            }
        };
        let mut line = |text: &str| std::io::Write::write_all(&mut type_, text.as_bytes()).unwrap();
        until("comfy ", &mut seen);
        // What it prints is not what was typed: the answer counts, not the echo.
        line(
            "echo I-AM-$(id -un) SIZE-$(stty size | tr ' ' x) $(test -t 0 && echo TER''MINAL) \
             VENV-${VIRTUAL_ENV##*/}\r",
        );
        until(
            "I-AM-comfyui_sandbox SIZE-33x111 TERMINAL VENV-venv",
            &mut seen,
        );
        // Ctrl-C is the program's inside; the shell goes on.
        line("sleep 1000\r");
        std::thread::sleep(Duration::from_millis(300));
        line("\x03");
        line(
            "printf '\\033]0;evil\\007\\033[31mRED\\n'; ls /home/alice 2>&1 | tail -1; echo \
             DO''NE\r",
        );
        until("DONE", &mut seen);
        assert!(
            seen.contains("\x1b[31mRED") && !seen.contains("\x1b]0;evil"),
            "{seen:?}"
        );
        line("exit 3\r");
        until("\x1b[0m", &mut seen);
        assert_eq!(child.wait().unwrap().code(), Some(3), "{seen:?}");
        assert_eq!(m.sh(ALIVE), "0");
    });
}

#[test]
fn another_prefix_begins_anew_and_says_what_stays_behind() {
    private(
        "daily::another_prefix_begins_anew_and_says_what_stays_behind",
        |m| {
            ready(m, "", |t| t.into());
            m.apply();
            let text = std::fs::read_to_string(m.dot.join("comfy.toml")).unwrap();
            m.manifest(&text.replacen(
                "\n[comfyui]",
                "\n[host]\nprefix = \"/opt/elsewhere\"\n\n[comfyui]",
                1,
            ));
            let plan = said(&m.alice(&["plan"]));
            assert!(
                plan.contains(&format!(
                    "/opt/elsewhere/comfyui_sandbox is created, and {BASE} stays as it is"
                )),
                "{plan}"
            );
            m.apply();
            m.clean();
            // What is there now is told once; the old folder is the owner's to remove.
            let plan = said(&m.alice(&["plan"]));
            assert!(
                !plan.contains("Warning") && Path::new(BASE).join("state").exists(),
                "{plan}"
            );
            // And back: what is there still is taken as it is.
            m.manifest(&text);
            m.apply();
            m.clean();
            m.sh("rm -r /opt/elsewhere");
        },
    );
}

#[test]
fn a_strict_umask_does_not_hide_what_runs_from_its_owner() {
    private(
        "daily::a_strict_umask_does_not_hide_what_runs_from_its_owner",
        |m| {
            let strict = |args: &str| {
                let uid = m.sh("id -u alice");
                let script = format!(
                    "umask 077; export HOME=/root SUDO_USER=alice SUDO_UID={uid} \
                     COMFY_MIRRORS=https://github.com/=file:///srv/upstream/; exec /opt/bin/comfy \
                     -C /home/alice/dot {args}"
                );
                std::process::Command::new("bash")
                    .args(["-c", &script])
                    .output()
                    .unwrap()
            };
            ready(m, "", |t| t.into());
            ok(&m.root(&["destroy", "--yes", "--purge"]));
            ok(&strict("apply --yes"));
            m.clean();
            ok(&strict("start"));
            assert_eq!(json(m)["running"], true);
            ok(&m.alice(&["stop"]));
            // A lock that an older comfy made: whoever may read it could hold it.
            let lock = "/var/lib/comfy/comfyui_sandbox/live.lock";
            m.sh(&format!("chmod 640 {lock}"));
            ok(&m.root(&["start"]));
            assert_eq!(json(m)["running"], true);
            assert_eq!(m.sh(&format!("stat -c %a {lock}")), "600");
            ok(&m.alice(&["stop"]));
            assert_eq!(m.sh(ALIVE), "0");
        },
    );
}

#[test]
fn run_is_told_that_somebody_else_stopped_it() {
    private("daily::run_is_told_that_somebody_else_stopped_it", |m| {
        ready(m, "", |t| t.into());
        let run = super::confined::Run::start(m);
        ok(&m.alice(&["stop"]));
        let (code, log) = run.wait();
        assert_eq!(code, Some(0), "{log}");
    });
}

#[test]
fn a_firewall_that_came_later_is_a_change_of_apply_and_goes_with_destroy() {
    private(
        "daily::a_firewall_that_came_later_is_a_change_of_apply_and_goes_with_destroy",
        |m| {
            if m.sh("command -v nft || true").is_empty() {
                return report_skipped("nft is not on this machine");
            }
            let port = ready(m, "", |t| t.into());
            let _ = port;
            let uid = m.sh("id -u comfyui_sandbox");
            // As if there had been no nft at the apply.
            m.sh(&format!(
                "nft delete table inet comfy_{uid}; cd /var/lib/comfy/comfyui_sandbox; rm fence; \
                 sed -i 's/\"fence\": *{uid}/\"fence\": null/' inventory.json; ! grep -q \
                 '\"fence\": *[0-9]' inventory.json"
            ));
            ok(&m.root(&["start"]));
            assert_eq!(m.sh("nft list tables"), "");
            assert_eq!(m.differing(), ["network.egress"]);
            ok(&m.alice(&["stop"]));
            // As an older comfy's launch loaded it.
            m.apply();
            m.sh(&format!(
                "sed -i 's/\"fence\": *{uid}/\"fence\": null/' \
                 /var/lib/comfy/comfyui_sandbox/inventory.json"
            ));
            ok(&m.root(&["destroy", "--yes", "--purge"]));
            assert_eq!(m.sh("nft list tables"), "");
        },
    );
}

#[test]
fn what_runs_is_stopped_and_shown_without_a_sound_comfy_toml() {
    private(
        "daily::what_runs_is_stopped_and_shown_without_a_sound_comfy_toml",
        |m| {
            ready(m, "", |t| t.into());
            let alice = |folder: &str, args: &[&str]| {
                let all = [&["-C", folder, "/opt/bin/comfy"], args].concat();
                let out = m.as_user("alice", "env", &all).output().unwrap();
                ok(&out);
                said(&out)
            };
            let dot = "/home/alice/dot";
            ok(&m.root(&["start"]));
            m.sh("echo 'broken = [' >> /home/alice/dot/comfy.toml");
            // A mistake is a warning, and elsewhere there is no comfy.toml at all.
            for (folder, warning) in [(dot, "comfy.toml:"), ("/srv", "no comfy.toml in /srv")] {
                let status = alice(folder, &["status"]);
                assert!(
                    status.contains("running     process")
                        && status.contains(&format!("warning: {warning}"))
                        && status.contains("using what was applied here, comfyui_sandbox"),
                    "{status}"
                );
                assert!(alice(folder, &["logs"]).contains("Starting server"));
            }
            // A folder that is named is the one that is meant.
            m.sh("mkdir /home/alice/else; echo 'broken = [' > /home/alice/else/comfy.toml");
            let words = [
                "-C",
                "/srv",
                "/opt/bin/comfy",
                "-C",
                "/home/alice/else",
                "stop",
            ];
            let out = m.as_user("alice", "env", &words).output().unwrap();
            assert_eq!(out.status.code(), Some(1), "{}", said(&out));
            assert!(alice("/srv", &["stop"]).ends_with("ComfyUI has stopped.\n"));
            assert!(alice(dot, &["stop"]).ends_with("ComfyUI is not running.\n"));
            // Whoever may not read the records is not told that nothing runs.
            ok(&m.root(&["start"]));
            let out = m
                .as_user("mallory", "/opt/bin/comfy", &["-C", "/srv", "status"])
                .output()
                .unwrap();
            assert_eq!(out.status.code(), Some(1), "{}", said(&out));
            alice("/srv", &["stop"]);
        },
    );
}

#[test]
fn a_wrong_folder_does_not_take_the_machine_down() {
    private(
        "daily::a_wrong_folder_does_not_take_the_machine_down",
        |m| {
            m.ready();
            let manifest = std::fs::read_to_string(m.dot.join("comfy.toml")).unwrap();
            let (start, rest) = manifest.split_once("[nodes.world]").unwrap();
            let python = &rest[rest.find("[python]").unwrap()..];
            let smaller = format!("{start}{python}");
            m.sh("cp -a /home/alice/dot /home/alice/other");
            std::fs::write("/home/alice/other/comfy.toml", &smaller).unwrap();
            let other = |args: &[&str]| {
                let uid = m.sh("id -u alice");
                let uid = format!("SUDO_UID={uid}");
                let sudo = [
                    "SUDO_USER=alice",
                    &uid,
                    "/opt/bin/comfy",
                    "-C",
                    "/home/alice/other",
                ];
                m.as_user("root", "env", &[&sudo, args].concat())
                    .output()
                    .unwrap()
            };
            let out = other(&["apply", "--yes"]);
            assert!(
                out.status.code() == Some(1)
                    && said(&out).contains("was last applied from /home/alice/dot/comfy.toml"),
                "{}",
                said(&out)
            );
            m.clean();
            let out = other(&["destroy", "--yes"]);
            assert_eq!(out.status.code(), Some(1), "{}", said(&out));
            // A plan that somebody has read, and a folder that has only moved.
            ok(&other(&["plan", "--out", "/srv/read.plan"]));
            ok(&other(&["apply", "/srv/read.plan"]));
            m.sh("mv /home/alice/other /home/alice/moved");
            m.apply();
            m.clean();
        },
    );
}

#[test]
fn the_database_comes_back_with_the_version_that_wrote_it() {
    private(
        "daily::the_database_comes_back_with_the_version_that_wrote_it",
        |m| {
            ready(m, "", |t| t.into());
            let commit = |revision: &str| {
                let revision = format!("alembic_db/versions/{revision}.py");
                let files = comfy::demo::files::COMFYUI
                    .iter()
                    .map(|f| (f.path, f.text.as_bytes(), 0o100_644));
                let more = [(revision.as_str(), &b"revision = 1\n"[..], 0o100_644)];
                m.core.commit(&files.chain(more).collect::<Vec<_>>());
                ok(&m.alice(&["update", "comfyui"]));
                m.apply();
            };
            let launch = || {
                let out = m.root(&["start"]);
                ok(&out);
                ok(&m.alice(&["stop"]));
                said(&out)
            };
            let write = |text: &str| {
                m.sh(&format!(
                    "cd {BASE}/state/user; mkdir -p default; for f in comfyui.db comfyui.db-wal \
                     default/comfy.settings.json; do echo {text} > $f; done; chown -R \
                     comfyui_sandbox: comfyui.db comfyui.db-wal default/comfy.settings.json"
                ))
            };
            let read = || {
                m.sh(&format!(
                    "cd {BASE}/state/user; cat comfyui.db* default/comfy.settings.json; stat -c %U \
                     comfyui.db"
                ))
            };
            commit("001");
            launch();
            write("old");
            let lock = std::fs::read(m.dot.join("comfy.lock")).unwrap();
            // The same migrations: nothing is copied.
            assert!(!launch().contains("a copy is in"));
            commit("002");
            let text = launch();
            assert!(text.contains("a copy is in"), "{text}");
            write("new");
            // Back, as `git revert` of the lock does it.
            std::fs::write(m.dot.join("comfy.lock"), &lock).unwrap();
            m.apply();
            let text = launch();
            assert!(text.contains("the newer ones are in"), "{text}");
            assert_eq!(read(), "old\nold\nold\ncomfyui_sandbox");
            assert_eq!(
                m.sh(&format!(
                    "cat {BASE}/kept-user-data/*/comfyui.db | sort -u | tr '\\n' ' '"
                )),
                "new old"
            );
            // A link in the place of the database is none of root's business.
            m.sh(&format!(
                "cd {BASE}/state/user; ln -sf /etc/shadow comfyui.db; chown -h comfyui_sandbox: \
                 comfyui.db"
            ));
            commit("003");
            launch();
            assert_eq!(
                m.sh(&format!(
                    "cat {BASE}/kept-user-data/*/comfyui.db | grep -c root || true"
                )),
                "0"
            );
            ok(&m.root(&["destroy", "--yes", "--purge"]));
            m.sh(&format!("! test -e {BASE}"));
        },
    );
}
