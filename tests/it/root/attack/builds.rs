//! The third act: what a build job can reach, and what two owners' applies do to each other.

use std::process::Stdio;

use super::super::machine::{BASE, MANIFEST, Machine, ok, private, said};
use crate::support::{borrowed, node};

/// In the place of git: a program of the system's that somebody turned, in the job that fetches.
/// Each line succeeds if it gets through.
const PAYLOADS: &[(&str, &str)] = &[
    (
        "the wheels of the store",
        "echo x > BASE/.staging/store/wheels/evil",
    ),
    (
        "the interpreters of the store",
        "echo x > BASE/.staging/store/python/evil",
    ),
    ("the store itself", "mkdir BASE/.staging/store/evil"),
    (
        "another job's folder",
        "echo x > BASE/.staging/job-other/evil",
    ),
    (
        "the models that are fetched",
        "echo x > BASE/.downloads/evil",
    ),
    (
        "another instance's store",
        "echo x > /opt/comfy/bob_sandbox/.staging/store/git/evil",
    ),
    ("a file in /tmp", "echo x > /tmp/evil"),
    ("a file in /var/tmp", "echo x > /var/tmp/evil"),
    ("shared memory", "echo x > /dev/shm/evil"),
    ("a folder of everybody's", "echo x > /srv/open/evil"),
    ("the manifest", "cat /home/alice/dot/comfy.toml"),
    (
        "a key that its modes leave open",
        "cat /home/alice/open/id_ed25519",
    ),
    ("settings of the system", "cat /etc/secret.conf"),
    (
        "other processes",
        "ls /proc/1/root /proc/[0-9]*/environ; for p in /proc/[0-9]*; do cat $p/cmdline && exit 0; \
         done; exit 1",
    ),
    (
        "a socket in /run",
        "python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"/run/service.sock\")'",
    ),
    (
        "a program that it has written",
        "cp /bin/true STORE/t && chmod 755 STORE/t && STORE/t",
    ),
    ("the models", "ls /home/alice/ai/models"),
    ("the sandbox's state", "ls BASE/state"),
    (
        "the first process of the job",
        "kill -9 1 && sleep 0.2 && ! kill -0 1",
    ),
    ("a mount", "mount -t tmpfs x /tmp"),
    ("root again", "setpriv --reuid 0 true"),
    ("another user of the machine", "setpriv --reuid alice true"),
];

/// Those that the build uid alone does not hold back.
const EFFECTIVE: &[&str] = &[
    "the wheels of the store",
    "the interpreters of the store",
    "the store itself",
    "another job's folder",
    "the models that are fetched",
    "a file in /tmp",
    "a file in /var/tmp",
    "shared memory",
    "a folder of everybody's",
    "the manifest",
    "a key that its modes leave open",
    "settings of the system",
    "other processes",
    "a socket in /run",
    "a program that it has written",
    "the models",
];

fn script(name: &str, log: &str, store: &str) -> String {
    let each = PAYLOADS.iter().map(|(name, payload)| {
        format!(
            "if ({payload}) > /dev/null 2>&1; then echo \"THROUGH \
            {name}\"; else echo \"held {name}\"; fi >> {log}\n"
        )
    });
    each.collect::<String>()
        .replace("BASE", BASE)
        .replace("STORE", store)
        + name
}

fn build_uid(m: &Machine) -> u32 {
    58_200 + 2 * (m.sh("id -u comfyui_sandbox").parse::<u32>().unwrap() - 401)
}

/// Another commit of hello, locked.
fn moved(m: &Machine, version: u32) {
    m.hello.commit(&borrowed(&node(version)));
    ok(&m.alice(&["update", "hello"]));
}

/// Puts `text` in the place of every git that a build would take, as long as it runs.
fn instead_of_git(m: &Machine, text: &str) {
    std::fs::write("/opt/git", format!("#!/bin/bash\n{text}")).unwrap();
    m.sh(
        "chmod 755 /opt/git; for g in /usr/bin/git /bin/git /usr/local/bin/git; do [ -e $g ] && \
        cp -L $(readlink -f $g) /opt/real-git && mount --bind /opt/git $(readlink -f $g); done; \
        test -x /opt/real-git",
    );
}

fn git_again(m: &Machine) {
    m.sh(
        "while grep -q ' /usr[^ ]*/git ' /proc/self/mounts; do umount $(grep -o ' /usr[^ ]*/git ' \
        /proc/self/mounts | head -n 1); done",
    );
}

#[test]
fn a_turned_program_reaches_nothing_from_its_job() {
    private(
        "attack::builds::a_turned_program_reaches_nothing_from_its_job",
        |m| {
            m.ready();
            let uid = build_uid(m);
            m.sh(&format!(
                "mkdir /home/alice/open /srv/open; echo key > \
                /home/alice/open/id_ed25519; chmod -R a+rX /home/alice; chmod 1777 /srv/open; echo \
                x > /etc/secret.conf
            mount -t tmpfs tmpfs /tmp; mount -t tmpfs tmpfs /dev/shm; chmod 1777 /tmp /dev/shm
            install -d -o {uid} -g {uid} -m 700 {BASE}/.staging/job-other {BASE}/.downloads; chmod \
                755 {BASE}/.staging/store"
            ));
            let mut service = m.as_user(
                "alice",
                "/usr/bin/python3",
                &[
                    "-c",
                    "import os, socket, \
                sys\ns = socket.socket(socket.AF_UNIX); s.bind('/run/service.sock'); \
                os.chmod('/run/service.sock', 0o777); s.listen(); print(flush=True); \
                sys.stdin.read()",
                ],
            );
            m.sh("chmod 777 /run");
            let mut service = service
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            std::io::BufRead::read_line(
                &mut std::io::BufReader::new(service.stdout.as_mut().unwrap()),
                &mut String::new(),
            )
            .unwrap();
            moved(m, 2);
            let (log, store) = (
                format!("{BASE}/.staging/store/git/log"),
                format!("{BASE}/.staging/store/git"),
            );
            // The same as the same uid, without a job around it.
            std::fs::write("/opt/payloads", script("", "/srv/open/log", "/srv/open")).unwrap();
            m.sh(&format!(
                "setpriv --reuid {uid} --regid {uid} --clear-groups --no-new-privs \
                unshare --help > /dev/null; env -C / setpriv --reuid {uid} --regid {uid} \
                --clear-groups bash /opt/payloads || true"
            ));
            let bare = m.sh("cat /srv/open/log; rm -r /srv/open/log");
            let empty: Vec<&str> = EFFECTIVE
                .iter()
                .filter(|name| !bare.lines().any(|l| l == format!("THROUGH {name}")))
                .copied()
                .collect();
            assert_eq!(empty, [""; 0], "held without a job: {bare}");
            m.sh(&format!(
            "rm -rf /tmp/evil /var/tmp/evil /dev/shm/evil /srv/open/* {BASE}/.staging/store/evil \
             {BASE}/.staging/store/*/evil {BASE}/.downloads/evil"
        ));
            // Once, and a process that is meant to outlive the job.
            instead_of_git(
                m,
                &script(
                    "(setsid sleep 12345 > /dev/null 2>&1 &)\nexec /opt/real-git \"$@\"\n",
                    &log,
                    &store,
                ),
            );
            m.sh("chmod 755 /opt/real-git");
            let out = m.root(&["apply", "--yes"]);
            git_again(m);
            let said_there = m.sh(&format!("cat {log} 2> /dev/null || true"));
            assert!(
                !said_there.is_empty(),
                "the program did not run: {}",
                said(&out)
            );
            let through: Vec<&str> = said_there
                .lines()
                .filter(|l| l.starts_with("THROUGH"))
                .collect();
            assert_eq!(through, [""; 0], "{said_there}");
            assert_eq!(
                m.sh("grep -lsa 'slee[p].12345' /proc/[0-9]*/cmdline || true"),
                "",
                "a process of the job is left"
            );
            assert_eq!(
                m.sh(&format!(
                    "ls -d /tmp/evil /var/tmp/evil /dev/shm/evil /srv/open/* \
                {BASE}/.staging/store/evil {BASE}/.staging/store/*/evil {BASE}/.downloads/evil 2> \
                /dev/null || true"
                )),
                ""
            );
            drop(service.stdin.take());
            service.wait().unwrap();
            m.sh(&format!("rm -f {log} {store}/t"));
            m.apply();
            m.clean();
            eprintln!(
                "{} payloads held, none through; without a job {} of them got through",
                PAYLOADS.len(),
                bare.matches("THROUGH").count()
            );
        },
    );
}

#[test]
fn a_build_that_is_killed_says_by_what_and_one_that_is_given_up_leaves_nothing() {
    private(
        "attack::builds::a_build_that_is_killed_says_by_what_and_one_that_is_given_up_leaves_nothing",
        |m| {
            m.ready();
            moved(m, 2);
            let uid = build_uid(m);
            instead_of_git(m, "sleep 54321");
            let find = format!(
                "for p in /proc/[0-9]*; do grep -qs '^Uid:.{uid}' $p/status && tr '\\0' ' ' < \
                 $p/cmdline | grep -q __build && echo ${{p#/proc/}}; done; true"
            );
            let running = |m: &Machine| {
                for _ in 0..200 {
                    if m.sh("grep -lsa 'slee[p].54321' /proc/[0-9]*/cmdline | wc -l") != "0" {
                        return;
                    }
                    std::thread::sleep(std::time::Duration::from_millis(50));
                }
                panic!("the job did not start");
            };
            let child = m
                .root_command(&["apply", "--yes"])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            running(m);
            m.sh(&format!("kill -KILL $({find})"));
            let out = child.wait_with_output().unwrap();
            assert!(
                out.status.code() == Some(1)
                    && said(&out).contains("the build process was ended by signal 9 (SIGKILL)"),
                "{}",
                said(&out)
            );
            assert_eq!(
                m.sh("grep -lsa 'slee[p].54321' /proc/[0-9]*/cmdline || true"),
                "",
                "something of the job is left"
            );
            // The apply itself is killed: its job ends by itself.
            let mut child = m
                .root_command(&["apply", "--yes"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            running(m);
            m.sh(
                "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2> /dev/null | grep -q \
                '__roo[t]' && kill -KILL ${p#/proc/}; done; true",
            );
            child.wait().unwrap();
            for _ in 0..100 {
                if m.sh("grep -lsa 'slee[p].54321' /proc/[0-9]*/cmdline || true")
                    .is_empty()
                {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            assert_eq!(
                m.sh("grep -lsa 'slee[p].54321' /proc/[0-9]*/cmdline || true"),
                ""
            );
            git_again(m);
            m.apply();
            m.clean();
        },
    );
}

/// bob's instance beside alice's, in the same prefix.
fn bob(m: &Machine) {
    let manifest = MANIFEST.replace(
        "[comfyui]\n",
        "[host]\nsandbox_user = \"bob_sandbox\"\ngroup = \"bobshared\"\n\n[comfyui]\nport = 8199\n",
    );
    m.sh("useradd -m -s /bin/bash bob; mkdir -p /home/bob/dot");
    std::fs::write(
        "/home/bob/dot/comfy.toml",
        manifest.replace("PYTHON", &crate::support::python()),
    )
    .unwrap();
    m.sh("chown -R bob:bob /home/bob/dot");
}

fn comfy_of(m: &Machine, user: &str, args: &[&str]) -> std::process::Command {
    let dot = format!("/home/{user}/dot");
    let mut c = std::process::Command::new(&m.comfy);
    c.env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
        .env("HOME", "/root")
        .env("SUDO_USER", user)
        .env("SUDO_UID", m.sh(&format!("id -u {user}")));
    c.env("COMFY_MIRRORS", "https://github.com/=file:///srv/upstream/")
        .args(["-C", &dot])
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    c
}

/// COMFY_TEST_PAIRS: how many pairs of applies at once; a few where it is not set.
#[test]
fn two_owners_apply_at_once_and_touch_nothing_of_each_other() {
    private(
        "attack::builds::two_owners_apply_at_once_and_touch_nothing_of_each_other",
        |m| {
            bob(m);
            let users = [("alice", "comfyui_sandbox"), ("bob", "bob_sandbox")];
            let locked = |user: &str, args: &[&str]| {
                ok(&m
                    .as_user(
                        user,
                        "/opt/bin/comfy",
                        &[&["-C", &format!("/home/{user}/dot")], args].concat(),
                    )
                    .output()
                    .unwrap())
            };
            users.iter().for_each(|(user, _)| locked(user, &["lock"]));
            let pairs = std::env::var("COMFY_TEST_PAIRS")
                .ok()
                .and_then(|n| n.parse().ok())
                .unwrap_or(4);
            let mut waited = 0;
            for n in 0..pairs {
                if n > 0 {
                    m.hello.commit(&borrowed(&node(100 + n)));
                    users
                        .iter()
                        .for_each(|(user, _)| locked(user, &["update", "hello"]));
                }
                let both: Vec<_> = users
                    .iter()
                    .map(|(user, _)| comfy_of(m, user, &["apply", "--yes"]).spawn().unwrap())
                    .collect();
                for (child, (user, _)) in both.into_iter().zip(&users) {
                    let mut out = child.wait_with_output().unwrap();
                    // The first time both may have planned the same new numbers: whoever comes
                    // second is told so, and nothing was changed.
                    if n == 0 && said(&out).contains("the plan is stale") {
                        out = comfy_of(m, user, &["apply", "--yes"]).output().unwrap();
                    }
                    assert!(out.status.success(), "pair {n}, {user}: {}", said(&out));
                    waited +=
                        usize::from(said(&out).contains("waiting for another instance's apply"));
                }
            }
            let ids = |sandbox: &str| {
                let uid = m.sh(&format!("id -u {sandbox}")).parse::<u32>().unwrap();
                let build = 58_200 + 2 * (uid - 401);
                [uid, build, build + 1]
            };
            for (mine, theirs) in [(0, 1), (1, 0)] {
                let ((user, sandbox), (_, other)) = (users[mine], users[theirs]);
                let foreign: Vec<String> = ids(other)
                    .iter()
                    .flat_map(|id| [format!("-uid {id}"), format!("-gid {id}")])
                    .collect();
                let found = m.sh(&format!(
                    "find /opt/comfy/{sandbox} /home/{sandbox} /home/{user}/ai \\( {} \\) || true",
                    foreign.join(" -o ")
                ));
                assert_eq!(found, "", "{user}: something of {other}'s");
                let out = comfy_of(m, user, &["verify", "--full"]).output().unwrap();
                ok(&out);
                let plan = m
                    .as_user(
                        user,
                        "/opt/bin/comfy",
                        &["-C", &format!("/home/{user}/dot"), "plan", "--exit-code"],
                    )
                    .output()
                    .unwrap();
                assert_eq!(plan.status.code(), Some(0), "{}", said(&plan));
            }
            let record = m.sh(
                "grep -A3 '\"uids\"' /var/lib/comfy/comfyui_sandbox/inventory.json | tr -d ' \\n'",
            );
            assert_eq!(
                record,
                format!("\"uids\":[{},{}],", build_uid(m), build_uid(m) + 1)
            );
            eprintln!(
                "{pairs} pairs of applies at once, all whole, nothing of one touched by the other; \
                 {waited} waited for a commit"
            );
        },
    );
}

/// An account whose number says nothing gets its pair from the table.
#[test]
fn an_account_with_a_number_of_its_own_gets_uids_from_the_table() {
    private(
        "attack::builds::an_account_with_a_number_of_its_own_gets_uids_from_the_table",
        |m| {
            m.sh(
                "groupadd -g 777 comfyui_sandbox; useradd -M -u 777 -g comfyui_sandbox -d \
                /home/comfyui_sandbox -s /usr/sbin/nologin comfyui_sandbox; mkdir -p \
                /var/lib/comfy; echo '{\"900\":58400}' > /var/lib/comfy/ids.json",
            );
            m.lock();
            let plan = said(&m.alice(&["plan"]));
            assert!(
                plan.contains("+ build_uids = \"58402, 58403\"")
                    || plan.contains("build_uids = (none) -> \"58402, 58403\""),
                "{plan}"
            );
            m.apply();
            m.clean();
            assert_eq!(
                m.sh("cat /var/lib/comfy/ids.json; stat -c '%U %a' /var/lib/comfy/ids.json"),
                "{\"777\":58402,\"900\":58400}root 644"
            );
            assert_eq!(m.sh(&format!("stat -c %u {BASE}/.staging/store")), "58402");
        },
    );
}
