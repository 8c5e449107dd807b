//! Shares that the sandbox adds to: it does, and changes nothing that is not its own.

use super::confined::{Run, ready};
use super::machine::{Machine, private, said};

const SHARE: &str = "/home/alice/ai/models";

/// What nodes do beside models, and what none may; one line each.
const ATTEMPTS: &str = r#"
import os, sys
T = "/home/alice/ai/models"
def attempt(name, f):
    try:
        f(); print("DID", name, flush=True)
    except OSError as e:
        print("HELD", name, type(e).__name__, flush=True)
def write(path, mode="w"):
    with open(path, mode) as f: f.write("x")
def swap(path):
    write(path + ".new"); os.rename(path + ".new", path)
for where in (T, T + "/loras", T + "/new"):
    attempt("adds a .sha256", lambda: write(where + "/a.sha256"))
    attempt("changes what it added", lambda: write(where + "/a.sha256", "a"))
    attempt("adds and removes", lambda: (write(where + "/b.civitai.info"), os.remove(where + "/b.civitai.info")))
    for path in (where + "/model.bin", where + "/of-mallory.bin"):
        attempt("appends", lambda: write(path, "a"))
        attempt("truncates", lambda: os.truncate(path, 0))
        attempt("renames", lambda: os.rename(path, path + ".old"))
        attempt("replaces", lambda: swap(path))
        attempt("removes", lambda: os.remove(path))
        attempt("opens its modes", lambda: os.chmod(path, 0o666))
        attempt("dates it", lambda: os.utime(path, (0, 0)))
    attempt("reads", lambda: open(where + "/model.bin").read())
attempt("moves a folder", lambda: os.rename(T + "/loras", T + "/lost"))
attempt("removes the sticky bit", lambda: os.chmod(T + "/loras", 0o777))
if "--quick-test-for-ci" not in sys.argv: attempt("makes a folder", lambda: os.makedirs(T + "/own", exist_ok=True))
"#;

/// Three folders' worth: what is let, and what is not.
fn judge(log: &str) {
    let did: Vec<&str> = log.lines().filter_map(|l| l.strip_prefix("DID ")).collect();
    let held = log.lines().filter(|l| l.starts_with("HELD ")).count();
    let let_through = [
        "adds a .sha256",
        "changes what it added",
        "adds and removes",
        "reads",
    ];
    assert_eq!(
        did.iter().filter(|d| let_through.contains(d)).count(),
        12,
        "{log}"
    );
    assert_eq!(
        did.iter()
            .filter(|d| !let_through.contains(d))
            .collect::<Vec<_>>(),
        [&"makes a folder"],
        "{log}"
    );
    assert_eq!(held, 3 * 2 * 7 + 2, "{log}");
}

/// Every file in the share that is not the sandbox's, with content.
fn kept(m: &Machine) -> String {
    m.sh(&format!(
        "cd {SHARE}; find . ! -user comfyui_sandbox -type f -printf '%p %U %s %T@ ' \
        -exec md5sum {{}} \\; | sort"
    ))
}

#[test]
fn the_sandbox_adds_and_changes_nothing_that_is_not_its_own() {
    private(
        "added::the_sandbox_adds_and_changes_nothing_that_is_not_its_own",
        |m| {
            let add =
                |t: &str| t.replace("mount = \"models\"", "mount = \"models\"\naccess = \"add\"");
            ready(m, ATTEMPTS, add);
            assert_eq!(
                m.sh(&format!("stat -c '%U %G %a' {SHARE}")),
                "alice comfyshared 3775"
            );
            // As a umask of 077, a umask of 002, a download and another user leave them; one folder
            // is the sandbox's own.
            m.sh(&format!(
            "chmod 755 /home/alice; cd {SHARE}; mkdir loras; chown alice:alice loras; chmod 700 \
             loras; setpriv --reuid comfyui_sandbox --regid comfyui_sandbox --init-groups mkdir new
             for d in . loras new; do echo model > $d/model.bin; echo theirs > $d/of-mallory.bin; \
             chown alice:comfyshared $d/model.bin; chmod 664 $d/model.bin; chown \
             mallory:comfyshared $d/of-mallory.bin; chmod 664 $d/of-mallory.bin; done
             chmod 600 loras/model.bin; chown alice:alice loras/model.bin"
        ));
            // Before the launch these are open, or closed to both; the launch mends them.
            let before = kept(m);
            let log = Run::start(m).end();
            judge(&log);
            assert_eq!(
                m.sh(&format!(
                    "cd {SHARE}; stat -c '%U %G %a' loras new loras/model.bin model.bin \
                of-mallory.bin"
                )),
                "alice comfyshared 3770\nalice comfyshared 3775\nalice comfyshared 640\nalice \
             comfyshared 644\nmallory comfyshared 644"
            );
            assert_eq!(
                kept(m).replace(" .\n", ""),
                before.replace(" .\n", ""),
                "something that is not the sandbox's changed"
            );
            // Without the launch's walls the account alone holds it.
            m.sh(&format!(
                "rm -r {SHARE}/own; chown alice:comfyshared {SHARE}/new"
            ));
            std::fs::write("/srv/attempts.py", ATTEMPTS).unwrap();
            judge(&said(
                &m.as_user(
                    "comfyui_sandbox",
                    "/usr/bin/python3",
                    &["-u", "/srv/attempts.py"],
                )
                .output()
                .unwrap(),
            ));
            // The folder that it made is its own until the next launch, which is alice's then; her
            // plan says so.
            let plan = said(&m.alice(&["plan"]));
            assert!(
                plan.contains("1 folders belong to the sandbox user")
                    && plan.contains(
                        "3 entries that belong to neither the owner nor the sandbox user"
                    ),
                "{plan}"
            );
            Run::start(m).end();
            assert_eq!(
                m.sh(&format!("stat -c '%U %G %a' {SHARE}/own")),
                "alice comfyshared 3775"
            );
            m.clean();
        },
    );
}

#[test]
fn where_modes_do_not_hold_nothing_is_started() {
    private("added::where_modes_do_not_hold_nothing_is_started", |m| {
        let add = |t: &str| {
            t.replace(
                "mount = \"models\"",
                "mount = \"models\"\naccess = \"add\"\nmanage = false",
            )
        };
        m.sh(
            "mkdir -p /home/alice/ai/models; chown -R alice: /home/alice/ai; groupadd -f \
            comfyshared; chgrp comfyshared /home/alice/ai/models",
        );
        for (mode, verdict) in [
            ("3775", None),
            ("2775", Some("renamed, removed a file of yours")),
            ("2755", None),
        ] {
            m.sh(&format!(
                "chmod {mode} {SHARE}; echo x > {SHARE}/model.bin; chown \
                alice:comfyshared {SHARE}/model.bin"
            ));
            if mode == "3775" {
                ready(m, "", add);
            }
            let run = m.root(&["exec", "--", "/bin/true"]);
            match verdict {
                None => assert!(run.status.success(), "{mode}: {}", said(&run)),
                Some(why) => {
                    assert!(
                        run.status.code() == Some(1)
                            && said(&run)
                                .contains(&format!("share models: the sandbox user {why}")),
                        "{mode}: {}",
                        said(&run)
                    )
                }
            }
            assert_eq!(m.sh(&format!("ls -A {SHARE}")), "model.bin", "{mode}");
        }
        // A volume that is the sandbox's whatever its modes say: it owns the folder, so that the
        // sticky bit is none for it.
        m.sh(&format!(
            "chmod 3775 {SHARE}; chown comfyui_sandbox {SHARE}"
        ));
        let run = m.root(&["exec", "--", "/bin/true"]);
        assert!(
            run.status.code() == Some(1) && said(&run).contains("renamed, removed a file of yours"),
            "{}",
            said(&run)
        );
        // Nothing can be made there: it cannot be known.
        m.sh(&format!(
            "chown alice {SHARE}; mount --bind {SHARE} {SHARE}; mount -o remount,bind,ro {SHARE}"
        ));
        let run = m.root(&["exec", "--", "/bin/true"]);
        assert!(
            run.status.code() == Some(1)
                && said(&run).contains("could not test what the sandbox user can do there")
                && said(&run).contains("Read-only file system"),
            "{}",
            said(&run)
        );
        m.sh(&format!("umount {SHARE}"));
    });
}
