//! A machine where one is only root, such as a rented GPU or a container.

use super::machine::{Machine, ok, private, said};

/// comfy as a root that nobody became through sudo.
fn as_root(m: &Machine, args: &[&str]) -> std::process::Output {
    let all = [
        &["HOME=/srv/root", "/opt/bin/comfy", "-C", "/srv/dot"],
        args,
    ]
    .concat();
    m.as_user("root", "env", &all).output().unwrap()
}

/// Makes the starter's ComfyUI and Python those of the test.
fn adapted(m: &Machine, manifest: &str) {
    m.sh(&format!(
        "sed -i -e 's|^repo = .*|repo = \"https://github.com/up/ComfyUI\"|' -e 's|^ref .*|ref = \
         \"main\"|' -e 's|^# \\[python\\]|[python]|' -e 's|^# version = .*|version = \"{}\"|' \
         {manifest}",
        crate::support::python()
    ));
}

#[test]
fn root_alone_runs_comfyui_and_is_told_that_nothing_is_protected() {
    private(
        "alone::root_alone_runs_comfyui_and_is_told_that_nothing_is_protected",
        |m| {
            // Accounts of the real machine's persons too.
            m.sh(
                "userdel -r alice; userdel -r mallory; sed -i -E '/:[0-9]{4,}:[0-9]+:.*sh$/d' \
                 /etc/passwd; mkdir /srv/root /srv/dot",
            );
            let out = as_root(m, &["init"]);
            ok(&out);
            assert!(
                said(&out).contains("no account of a person, so ComfyUI runs as root"),
                "{}",
                said(&out)
            );
            adapted(m, "/srv/dot/comfy.toml");
            let files: Vec<(&str, &[u8], u32)> = comfy::demo::files::COMFYUI
                .iter()
                .map(|f| (f.path, f.text.as_bytes(), 0o100_644))
                .collect();
            m.core.commit(&files);
            for command in [&["lock"][..], &["plan"], &["apply", "--yes"]] {
                let out = as_root(m, command);
                ok(&out);
                assert!(
                    said(&out).contains("can do anything on this machine; nothing is protected"),
                    "{command:?} {}",
                    said(&out)
                );
            }
            m.sh("test -e /opt/comfy/comfyui_sandbox/current/ComfyUI/main.py");
            let out = as_root(m, &["plan", "--exit-code"]);
            assert_eq!(out.status.code(), Some(0), "{}", said(&out));
            let out = as_root(m, &["start"]);
            ok(&out);
            assert!(said(&out).contains("is ready at"), "{}", said(&out));
            ok(&as_root(m, &["stop"]));
            ok(&as_root(m, &["destroy", "--yes", "--purge"]));
            m.sh("! test -e /opt/comfy/comfyui_sandbox");
        },
    );
}

#[test]
fn init_writes_for_whom_it_works() {
    private("alone::init_writes_for_whom_it_works", |m| {
        // Through sudo, the file is the caller's.
        let uid = m.sh("id -u alice");
        let sudo = [
            "SUDO_USER=alice",
            &format!("SUDO_UID={uid}"),
            "/opt/bin/comfy",
            "-C",
            "/home/alice/new",
            "init",
        ];
        m.sh("mkdir /home/alice/new");
        let out = m.as_user("root", "env", &sudo).output().unwrap();
        ok(&out);
        assert!(!said(&out).contains("warning"), "{}", said(&out));
        assert_eq!(
            m.sh(
                "cd /home/alice/new; stat -c %U comfy.toml; grep -c '^primary_user = \"alice\"' \
                  comfy.toml"
            ),
            "alice\n1"
        );
        // Root does not know which of two persons it is for: the next command says so too.
        let out = as_root(m, &["init"]);
        ok(&out);
        assert!(
            said(&out).contains("to the account that uses ComfyUI (")
                && said(&out).contains("alice, mallory)"),
            "{}",
            said(&out)
        );
        adapted(m, "/srv/dot/comfy.toml");
        let out = as_root(m, &["lock"]);
        assert!(
            out.status.code() == Some(1) && said(&out).contains("isolation = \"none\""),
            "{}",
            said(&out)
        );
    });
}

#[test]
fn isolation_none_of_a_user_works_as_init_writes_it() {
    private(
        "alone::isolation_none_of_a_user_works_as_init_writes_it",
        |m| {
            let alice = |args: &[&str]| {
                let all = [&["-C", "/home/alice/new"], args].concat();
                m.as_user("alice", "/opt/bin/comfy", &all).output().unwrap()
            };
            ok(&alice(&["init", "--isolation", "none"]));
            adapted(m, "/home/alice/new/comfy.toml");
            ok(&alice(&["lock"]));
            ok(&alice(&["apply", "--yes"]));
            m.sh("test -d /home/alice/comfy/models");
            ok(&alice(&["destroy", "--yes"]));
            // The shares of the other starter, which only root can make: blocked before anything is
            // done, with the line to write.
            m.sh("sed -i 's|~/comfy/input|/srv/comfy/input|' /home/alice/new/comfy.toml");
            let out = alice(&["apply", "--yes"]);
            assert_eq!(out.status.code(), Some(1), "{}", said(&out));
            assert!(
                said(&out).contains("write `path = \"~/comfy/input\"`"),
                "{}",
                said(&out)
            );
            m.sh("! test -e /home/alice/.local/share/comfy/comfyui_sandbox/current");
        },
    );
}

/// As docs/several-instances.md says it.
#[test]
fn two_instances_live_side_by_side() {
    private("alone::two_instances_live_side_by_side", |m| {
        super::confined::ready(m, "", |t| t.into());
        let manifest = std::fs::read_to_string(m.dot.join("comfy.toml")).unwrap();
        let port = manifest.lines().find(|l| l.starts_with("port = ")).unwrap();
        let second = manifest
            .replace(
                "version = 1\n",
                "version = 1\n\n[host]\nsandbox_user = \"comfyui_video\"\ngroup = \"comfyvideo\"\n",
            )
            .replace(port, "port = 8199")
            .replace("~/ComfyUI", "~/ComfyUI-video")
            .replace("~/ai/", "~/video/");
        m.sh("mkdir /home/alice/two; chown alice: /home/alice/two");
        std::fs::write("/home/alice/two/comfy.toml", second).unwrap();
        let uid = format!("SUDO_UID={}", m.sh("id -u alice"));
        let sudo = [
            "SUDO_USER=alice",
            &uid,
            "/opt/bin/comfy",
            "-C",
            "/home/alice/two",
        ];
        let root = |args: &[&str]| {
            let out = m
                .as_user("root", "env", &[&sudo, args].concat())
                .output()
                .unwrap();
            ok(&out);
            said(&out)
        };
        let out = m
            .as_user(
                "alice",
                "/opt/bin/comfy",
                &["-C", "/home/alice/two", "lock"],
            )
            .output()
            .unwrap();
        ok(&out);
        root(&["apply", "--yes"]);
        // Both run, and neither plan names the other.
        ok(&m.root(&["start"]));
        root(&["start"]);
        m.clean();
        assert!(root(&["plan"]).contains("No changes."));
        assert_ne!(m.sh("id -u comfyui_video"), m.sh("id -u comfyui_sandbox"));
        root(&["stop"]);
        root(&["destroy", "--yes", "--purge"]);
        assert!(said(&m.alice(&["status"])).contains("running     process"));
        ok(&m.alice(&["stop"]));
        m.clean();
    });
}
