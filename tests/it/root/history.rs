//! The way back and the search for what breaks, by alice, who becomes root through sudo alone.

use super::machine::{BASE, ok, private, said};
use crate::support::{borrowed, git_or_skip, node};

#[test]
fn alice_goes_back_and_bisects_and_root_leaves_her_repository_alone() {
    private(
        "history::alice_goes_back_and_bisects_and_root_leaves_her_repository_alone",
        |m| {
            if m.sh("command -v sudo || true").is_empty() || !git_or_skip() {
                crate::support::report_skipped("alice needs sudo and git");
                return;
            }
            m.sh(
                "echo 'alice ALL=(root) NOPASSWD: ALL' > /etc/sudoers.d/alice; chmod 440 \
                 /etc/sudoers.d/alice",
            );
            m.ready();
            let git = |script: &str| {
                let script = format!("cd ~/dot; {script}");
                let out = m
                    .as_user("alice", "bash", &["-ec", &script])
                    .output()
                    .unwrap();
                ok(&out);
                said(&out).trim().to_string()
            };
            git(
                "git config --global user.name Alice; git config --global user.email a@localhost; \
                 git init -q; git add -A; git commit -qm 'Pin ComfyUI'",
            );
            let version = || {
                m.sh(&format!(
                    "cat {BASE}/current/ComfyUI/custom_nodes/hello/__init__.py"
                ))
            };
            m.hello.commit(&borrowed(&node(2)));
            ok(&m.alice(&["update", "--commit"]));
            ok(&m.alice(&["apply", "--yes", "--no-check"]));
            assert!(version().contains("VERSION = 2"));
            // What comfy made is alice's; root does not touch it.
            for args in [
                &["rollback", "--yes"][..],
                &["history"],
                &["bisect", "--yes", "--", "id"],
            ] {
                let out = m.root(args);
                let told = said(&out);
                assert!(
                    out.status.code() == Some(1) && told.contains("run it as alice"),
                    "{args:?}: {told}"
                );
            }
            let broken = format!(
                "! grep -q 'VERSION = 2' {BASE}/current/ComfyUI/custom_nodes/hello/__init__.py"
            );
            let before = m.sh(&format!("readlink {BASE}/current; ls {BASE}/gen"));
            for good in [&["--good", "HEAD~1"][..], &[]] {
                let args = [&["bisect", "--yes"], good, &["--", "bash", "-c", &broken]].concat();
                let out = m.alice(&args);
                ok(&out);
                assert!(
                    said(&out).contains("node.hello breaks it"),
                    "{}",
                    said(&out)
                );
                assert_eq!(
                    m.sh(&format!("readlink {BASE}/current; ls {BASE}/gen")),
                    before
                );
            }
            m.clean();
            let out = m.alice(&["rollback", "--yes", "--no-check", "--offline"]);
            ok(&out);
            assert!(version().contains("VERSION = 1"), "{}", said(&out));
            m.clean();
            assert_eq!(
                git("git status --short; git log --format=%an | sort | uniq -c | xargs"),
                "3 Alice"
            );
            assert_eq!(m.sh("find /home/alice/dot ! -user alice"), "");
            let history = said(&m.alice(&["history"]));
            assert_eq!(history.matches("live here since").count(), 1, "{history}");
            assert_eq!(history.matches("live here").count(), 3, "{history}");
        },
    );
}
