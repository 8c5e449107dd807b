//! After an apply everything is loaded once; what fails is compared with the generation before.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::confined::ready;
use super::machine::{BASE, Machine, ok, private, said};
use crate::support::{borrowed, node};

/// Moves the node to a commit that says this when it is imported.
fn moved(m: &Machine, body: &str) {
    let mut files = node(5);
    files
        .iter_mut()
        .find(|(p, ..)| p == "__init__.py")
        .unwrap()
        .1
        .extend(format!("\n{body}\n").bytes());
    m.hello.commit(&borrowed(&files));
    ok(&m.alice(&["update", "hello"]));
}

fn live(m: &Machine) -> String {
    m.sh(&format!("readlink {BASE}/current"))
}

#[test]
fn a_node_that_fails_after_an_apply_is_told_and_taken_back() {
    private(
        "health::a_node_that_fails_after_an_apply_is_told_and_taken_back",
        |m| {
            ready(m, "", |t| t.into());
            let good = live(m);

            // It writes where it may, as the sandbox user; then it fails.
            moved(
                m,
                "import os, pathlib\npathlib.Path(os.environ['TMPDIR'], \
                 'who').write_text(str(os.getuid()))\nraise RuntimeError('BOOM \\x1b[31m')",
            );
            let out = m.root(&["apply", "--yes"]);
            ok(&out);
            let text = said(&out);
            assert!(
                text.contains(
                    "warning: node.hello failed to import: BOOM \\u{1b}[31m (the previous generation loaded it)"
                ),
                "{text}"
            );
            assert!(
                text.contains("`comfy apply --rollback-on-failure` goes back automatically"),
                "{text}"
            );
            assert_eq!(
                m.sh(&format!("cat {BASE}/state/temp/who")),
                m.sh("id -u comfyui_sandbox")
            );
            assert_ne!(live(m), good);
            m.clean();

            // Asked for afterwards.
            let out = m.root(&["apply", "--yes", "--rollback-on-failure"]);
            assert_eq!(out.status.code(), Some(1), "{}", said(&out));
            assert!(
                said(&out).contains("node.hello: loaded before and fails now, so generation"),
                "{}",
                said(&out)
            );
            assert_eq!(live(m), good);
            // The machine is not what the lock says, and `plan` says so; as drift it does not
            // count.
            let out = m.alice(&["plan", "--exit-code"]);
            assert!(
                out.status.code() == Some(2) && !said(&out).contains("Drift"),
                "{}",
                said(&out)
            );

            // Asked for at once. ComfyUI itself ends.
            moved(m, "import os\nprint('LAST WORDS', flush=True)\nos._exit(9)");
            let out = m.root(&["apply", "--yes", "--rollback-on-failure"]);
            assert_eq!(out.status.code(), Some(1), "{}", said(&out));
            assert!(
                said(&out).contains("LAST WORDS")
                    && said(&out).contains("comfyui: loaded before and fails now"),
                "{}",
                said(&out)
            );
            assert_eq!(live(m), good);

            // One that ends it with a good face.
            moved(m, "import os\nos._exit(0)");
            let out = m.root(&["apply", "--yes", "--rollback-on-failure"]);
            assert!(
                out.status.code() == Some(1)
                    && said(&out).contains("it exited before it had loaded everything"),
                "{}",
                said(&out)
            );
            assert_eq!(live(m), good);

            // What is known to be good is not loaded again: going back costs nothing.
            moved(m, "VERSION = 6");
            ok(&m.root(&["apply", "--yes"]));
            ok(&m.alice(&["lock"]));
            assert_ne!(live(m), good);
            m.clean();
            m.sh(&format!(
                "cp -a {0}/comfy.lock {0}/new.lock",
                m.dot.display()
            ));
            moved(m, "VERSION = 7");
            ok(&m.root(&["apply", "--yes", "--no-check"]));
            m.sh(&format!("mv {0}/new.lock {0}/comfy.lock", m.dot.display()));
            let out = m.root(&["apply", "--yes", "--offline"]);
            ok(&out);
            assert!(!said(&out).contains("Loading"), "{}", said(&out));
            m.clean();
        },
    );
}

#[test]
fn a_check_that_was_interrupted_is_made_up() {
    private("health::a_check_that_was_interrupted_is_made_up", |m| {
        ready(m, "", |t| t.into());
        let slow = format!("{BASE}/state/user/slow");
        moved(
            m,
            &format!(
                "import os, pathlib, time\npathlib.Path('{BASE}/state/user/began').touch()\nif \
                 os.path.exists('{slow}'): time.sleep(60)"
            ),
        );
        // As before a first apply.
        m.sh(&format!(
            "touch {slow}; chmod 644 {slow}; rm -r /var/lib/comfy/comfyui_sandbox/log"
        ));
        let child = m
            .root_command(&["apply", "--yes"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let began = Path::new(BASE).join("state/user/began");
        let deadline = Instant::now() + Duration::from_secs(60);
        while !began.exists() {
            assert!(Instant::now() < deadline, "it never loaded anything");
            std::thread::sleep(Duration::from_millis(20));
        }
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(child.id().cast_signed()),
            nix::sys::signal::SIGINT,
        )
        .unwrap();
        let out = child.wait_with_output().unwrap();
        assert_eq!(out.status.code(), Some(130), "{}", said(&out));
        m.sh(&format!("rm {slow}"));
        // That is not what this is about.
        let out = m.root(&["apply", "--yes", "--only", "shares"]);
        assert!(!said(&out).contains("Loading"), "{}", said(&out));
        // Nothing is to do, and it was never known whether it is any good.
        let out = m.root(&["apply", "--yes"]);
        assert!(
            said(&out).contains("No changes.") && said(&out).contains("2 of 2 nodes loaded"),
            "{}",
            said(&out)
        );
        let out = m.root(&["apply", "--yes"]);
        assert!(!said(&out).contains("Loading"), "{}", said(&out));
        m.clean();
    });
}

#[test]
fn one_that_runs_is_not_disturbed_by_the_check() {
    private("health::one_that_runs_is_not_disturbed_by_the_check", |m| {
        ready(m, "", |t| t.into());
        ok(&m.root(&["start"]));
        m.sh(&format!(
            "mkdir -p {BASE}/state/temp/temp; echo preview > \
            {BASE}/state/temp/temp/preview; chown -R comfyui_sandbox: {BASE}/state/temp/temp"
        ));
        moved(m, "VERSION = 6");
        let out = m.root(&["apply", "--yes"]);
        ok(&out);
        assert!(said(&out).contains("2 of 2 nodes loaded"), "{}", said(&out));
        assert_eq!(
            m.sh(&format!("cat {BASE}/state/temp/temp/preview")),
            "preview"
        );
        let status = said(&m.alice(&["status"]));
        assert!(
            status.contains("running") && status.contains("restart needed"),
            "{status}"
        );
        ok(&m.alice(&["stop"]));
    });
}
