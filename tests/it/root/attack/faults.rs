//! Disks that are full, closed, broken or rationed, and a death inside of a step. Before every
//! step: `root::killed_before_every_step…`.

use std::process::{Command, Output};

use super::super::machine::{BASE, Machine, ok, private, said};
use super::picture;
use crate::support::{borrowed, node, report_skipped};

const RECORDS: &str = "/var/lib/comfy";
/// What is the owner's, and must be there whatever happens.
const OWN: &str = "/home/alice/ai/output/own";

/// Applied and clean, with files of the owner's, of the sandbox's, and a new commit that an apply
/// would bring.
fn ready(m: &Machine) {
    m.ready();
    m.sh(&format!(
        "echo own > {OWN}; chown alice:comfyshared {OWN}; chmod 664 {OWN}; echo kept > \
        {BASE}/state/nodes/hello/data/settings.json"
    ));
    m.clean();
    outdate(m, 2);
}

fn outdate(m: &Machine, version: u32) {
    m.hello.commit(&borrowed(&node(version)));
    ok(&m.alice(&["update", "hello"]));
}

/// It failed, said what and what to do, and lost nothing.
fn failed(m: &Machine, what: &str, out: &Output, words: &[&str]) {
    assert_eq!(out.status.code(), Some(1), "{what}: {}", said(out));
    for w in words.iter().chain(&["hint: "]) {
        assert!(said(out).contains(w), "{what}: not `{w}`:\n{}", said(out));
    }
    kept(m, what);
}

fn kept(m: &Machine, what: &str) {
    assert_eq!(
        m.sh(&format!(
            "cat {OWN} {BASE}/state/nodes/hello/data/settings.json"
        )),
        "own\nkept",
        "{what}"
    );
    assert!(
        std::path::Path::new(&format!(
            "{BASE}/current/ComfyUI/custom_nodes/hello/__init__.py"
        ))
        .exists(),
        "{what}: nothing whole is live"
    );
}

fn mends(m: &Machine, what: &str) {
    let out = m.root(&["apply", "--yes"]);
    assert!(out.status.success(), "{what}: {}", said(&out));
    m.clean();
    kept(m, what);
    assert_eq!(
        m.sh(&format!(
            "ls -A {BASE}/.staging | grep -v -e '^store$' -e '^gitconfig$' || true; ls \
            -A {BASE}/trash; find {RECORDS} -name '.*.comfy-*'"
        )),
        "",
        "{what}: something half done is left"
    );
}

/// Puts what is at `path` onto a small disk of its own.
fn small(m: &Machine, path: &str, size: &str) {
    m.sh(&format!(
        "mkdir /srv/keep; cp -a {path}/. /srv/keep/; s=$(stat -c 'uid=%u,gid=%g,mode=%a' {path}); \
         mount -t tmpfs -o size={size},$s tmpfs {path}; cp -a /srv/keep/. {path}/; rm -r /srv/keep"
    ));
}

/// And back.
fn whole(m: &Machine, path: &str) {
    m.sh(&format!(
        "mkdir /srv/keep; cp -a {path}/. /srv/keep/; umount {path}; find {path} \
        -mindepth 1 -delete; cp -a /srv/keep/. {path}/; rm -r /srv/keep"
    ));
}

#[test]
fn full_disks_lose_nothing() {
    private("attack::faults::full_disks_lose_nothing", |m| {
        ready(m);
        let fill = |at: &str| {
            m.sh(&format!(
                "dd if=/dev/zero of={at}/filler bs=4k 2> /dev/null || true; sync"
            ))
        };
        let full = ["No space left on device", "free some"];
        for (path, size) in [("/opt/comfy", "200m"), (RECORDS, "4m")] {
            small(m, path, size);
            fill(path);
            let before = picture(m);
            failed(m, path, &m.root(&["apply", "--yes"]), &full);
            assert_eq!(picture(m), before, "{path}");
            // Looking needs no room.
            ok(&m.alice(&["plan"]));
            ok(&m
                .alice(&["verify"])
                .status
                .code()
                .map(|_| m.alice(&["status"]))
                .unwrap());
            m.sh(&format!("rm {path}/filler"));
            mends(m, path);
            whole(m, path);
            outdate(m, if path == RECORDS { 4 } else { 3 });
        }
        // The state's disk: first contents have no room, and nothing of them looks finished.
        m.apply();
        let state = format!("{BASE}/state");
        let mut big = node(5);
        big.push(("more/big.bin".into(), vec![7; 3 << 20], 0o100_644));
        m.hello.commit(&borrowed(&big));
        ok(&m.alice(&["update", "hello"]));
        m.manifest(&super::super::machine::MANIFEST.replace("[\"data\"]", "[\"data\", \"more\"]"));
        small(m, &state, "2m");
        failed(
            m,
            "state",
            &m.root(&["apply", "--yes"]),
            &[&full[..], &["node.hello"]].concat(),
        );
        assert!(!std::path::Path::new(&format!("{state}/nodes/hello/more")).exists());
        m.sh(&format!("mount -o remount,size=50m {state}"));
        mends(m, "state");
        assert_eq!(
            m.sh(&format!(
                "stat -c %s {state}/nodes/hello/more/big.bin; ls -A {state}/nodes/hello"
            )),
            "3145728\ndata\nmore"
        );
        whole(m, &state);
        m.clean();
        // A share without room for a folder, let alone a model.
        m.sh("head -c 3000000 /dev/urandom > /home/alice/m.bin; chown alice /home/alice/m.bin");
        m.manifest(&format!(
            "{}[models.\"sub/m.bin\"]\nsource = \"file:~/m.bin\"\n",
            super::super::machine::MANIFEST.replace("[\"data\"]", "[\"data\", \"more\"]")
        ));
        m.lock();
        small(m, "/home/alice/ai/models", "20m");
        fill("/home/alice/ai/models");
        let out = m.root(&["apply", "--yes"]);
        failed(m, "share", &out, &["/home/alice/ai/models", "free some"]);
        assert!(!std::path::Path::new("/home/alice/ai/models/sub/m.bin").exists());
        m.sh("rm /home/alice/ai/models/filler; mount -o remount,size=60m /home/alice/ai/models");
        mends(m, "share");
        m.sh("cmp /home/alice/m.bin /home/alice/ai/models/sub/m.bin; umount /home/alice/ai/models");
    });
}

#[test]
fn closed_disks_are_named() {
    private("attack::faults::closed_disks_are_named", |m| {
        ready(m);
        for (path, drift) in [
            ("/opt/comfy", "true"),
            (RECORDS, "true"),
            ("/home/alice/ai/output", "chmod 755 /home/alice/ai/output"),
            ("/home/alice/ai/models", "chmod 750 /home/alice/ai/models"),
        ] {
            m.sh(&format!(
                "{drift}; mount --bind {path} {path}; mount -o remount,bind,ro {path}"
            ));
            let before = picture(m);
            let out = m.root(&["apply", "--yes"]);
            failed(m, path, &out, &["Read-only file system", "mount", path]);
            if path == "/opt/comfy" || path == RECORDS {
                assert_eq!(picture(m), before, "{path}");
            }
            for args in [&["gc", "--yes"][..], &["destroy", "--yes"]] {
                if path == RECORDS {
                    assert_eq!(
                        m.root(args).status.code(),
                        Some(if args[0] == "gc" { 0 } else { 1 }),
                        "{args:?}"
                    );
                }
            }
            m.sh(&format!("umount {path}"));
            mends(m, path);
            outdate(m, path.len() as u32);
        }
    });
}

/// comfy as root below strace(1), which meddles with the system calls of the root side alone.
fn meddled(m: &Machine, inject: &str, args: &[&str]) -> Output {
    let c = m.root_command(args);
    let mut traced = Command::new("strace");
    traced
        .args([
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "signal=none",
            "-e",
            &format!("trace={}", inject.split(':').next().unwrap()),
            "-e",
            &format!("inject={inject}"),
        ])
        .arg(c.get_program())
        .args(c.get_args());
    traced
        .env_clear()
        .envs(c.get_envs().filter_map(|(k, v)| Some((k, v?))))
        .output()
        .unwrap()
}

/// Without strace(1) this cannot be tried; that is said, and is a failure where it must run.
fn strace() -> bool {
    let there = Command::new("strace")
        .args([
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "inject=getpid:error=EIO",
            "true",
        ])
        .output()
        .is_ok_and(|o| o.status.success());
    if !there {
        assert_ne!(
            std::env::var("COMFY_TEST_STRACE").as_deref(),
            Ok("required"),
            "strace must be there, and able to trace"
        );
        report_skipped("a death and broken disks inside of a step need strace(1)");
    }
    there
}

/// The system calls with which an apply changes something.
const CHANGES: &[&str] = &[
    "renameat",
    "renameat2",
    "mkdirat",
    "unlinkat",
    "fchownat",
    "fchown",
    "fchmod",
    "symlinkat",
    "linkat",
    "fdatasync",
    "syncfs",
    "write",
];

#[test]
fn killed_inside_of_a_step_it_still_ends_clean() {
    private(
        "attack::faults::killed_inside_of_a_step_it_still_ends_clean",
        |m| {
            if !strace() {
                return;
            }
            ready(m);
            let (mut killed, mut version) = (0, 10);
            for call in CHANGES {
                for when in [1, 3, 8] {
                    // An update, and every other time from nothing.
                    let fresh = version % 2 == 0;
                    if fresh {
                        ok(&m.root(&["destroy", "--yes"]));
                    }
                    let out = meddled(
                        m,
                        &format!("{call}:signal=KILL:when={when}"),
                        &["apply", "--yes"],
                    );
                    let what = format!("killed in {call} {when}");
                    killed += usize::from(!out.status.success());
                    if let Ok(target) = std::fs::read_link(format!("{BASE}/current")) {
                        assert!(
                            std::path::Path::new(BASE)
                                .join(&target)
                                .join("ComfyUI/main.py")
                                .exists(),
                            "{what}: half a generation is live"
                        );
                    }
                    assert_eq!(
                        m.alice(&["plan", "--json"]).status.code(),
                        Some(0),
                        "{what}"
                    );
                    assert_eq!(m.sh(&format!("cat {OWN}")), "own", "{what}");
                    if fresh {
                        ok(&m.root(&["apply", "--yes"]));
                        m.sh(&format!(
                            "echo kept > {BASE}/state/nodes/hello/data/settings.json"
                        ));
                    }
                    mends(m, &what);
                    version += 1;
                    outdate(m, version);
                }
            }
            eprintln!("{killed} of {} deaths inside of a step", CHANGES.len() * 3);
            assert!(killed > 20, "{killed}");
        },
    );
}

#[test]
fn broken_and_rationed_disks_lose_nothing() {
    private(
        "attack::faults::broken_and_rationed_disks_lose_nothing",
        |m| {
            if !strace() {
                return;
            }
            ready(m);
            let (mut version, mut failures) = (100, 0);
            let words = [
                ("EIO", "Input/output error", "disk"),
                ("EDQUOT", "quota", "quota"),
                ("ENOSPC", "No space left on device", "free some"),
                ("EROFS", "Read-only file system", "mount"),
            ];
            for (call, error, when) in [
                ("fdatasync", 0, "1+"),
                ("syncfs", 0, "1+"),
                ("fsync", 0, "1+"),
                ("mkdirat", 1, "3+"),
                ("mkdirat", 2, "1+"),
                ("renameat", 0, "3+"),
                ("renameat", 3, "1+"),
                ("symlinkat", 1, "1+"),
                ("fchown", 0, "4+"),
                ("fchmod", 3, "2+"),
                ("linkat", 2, "1+"),
                ("unlinkat", 0, "1+"),
                ("fchownat", 0, "1+"),
                ("pwrite64", 1, "1+"),
                ("getdents64", 0, "13+"),
                ("ftruncate", 1, "1+"),
            ] {
                let (name, text, hint) = words[error];
                let what = format!("{call} {name} {when}");
                let before = m.sh(&format!("readlink {BASE}/current"));
                let out = meddled(
                    m,
                    &format!("{call}:error={name}:when={when}"),
                    &["apply", "--yes"],
                );
                if out.status.success() {
                    eprintln!("{what}: was not met");
                } else {
                    failures += 1;
                    assert!(
                        said(&out).contains(text) || said(&out).contains("the build process"),
                        "{what}: {}",
                        said(&out)
                    );
                    assert!(
                        said(&out).contains(hint) || !said(&out).contains(text),
                        "{what}: {}",
                        said(&out)
                    );
                    failed(m, &what, &out, &[]);
                    if !said(&out).contains("live") {
                        assert_eq!(m.sh(&format!("readlink {BASE}/current")), before, "{what}");
                    }
                }
                mends(m, &what);
                version += 1;
                outdate(m, version);
            }
            eprintln!("{failures} broken disks");
            assert!(failures > 8, "{failures}");
        },
    );
}
