//! comfy.toml, comfy.lock and a saved plan that somebody else could have written.

use super::super::machine::{Machine, attacked, ok, said};
use super::{OUTPUT, apply, picture, ready, refused, victims};

#[test]
fn what_others_could_have_written_decides_nothing() {
    attacked(
        "attack::owner_files::what_others_could_have_written_decides_nothing",
        |m| {
            ready(m);
            let before = victims(m);
            let dot = "/home/alice/dot";
            m.sh(&format!(
                "cp -a {dot} /srv/keep; install -d -o comfyui_sandbox /opt/theirs; cp \
                {dot}/* /opt/theirs/; chown -R comfyui_sandbox /opt/theirs; chmod 666 \
                /opt/theirs/*; groupadd team; usermod -aG team mallory; usermod -aG alice \
                mallory"
            ));
            let clean = picture(m);
            let with = |m: &Machine, file: &str, script: &str, why: &str| {
                m.sh(&format!("cd {dot}; F={file}; {script}"));
                for out in [
                    apply(m),
                    m.root(&["destroy", "--yes"]),
                    m.root(&["gc", "--yes"]),
                ] {
                    refused(&out, why);
                }
                assert_eq!(picture(m), clean, "{script}");
                m.sh(&format!(
                    "chmod 755 {dot}; rm -rf {dot}; cp -a /srv/keep {dot}"
                ));
            };
            for file in ["comfy.toml", "comfy.lock"] {
                with(m, file, "chown comfyui_sandbox $F", "belongs to uid");
                with(m, file, "chown mallory $F", "belongs to uid");
                with(
                    m,
                    file,
                    "chmod 664 $F",
                    "can be written by others (mode 0664)",
                );
                with(
                    m,
                    file,
                    "chmod 646 $F",
                    "can be written by others (mode 0646)",
                );
                with(m, file, "ln $F .second", "has 2 hard links");
                with(
                    m,
                    file,
                    "rm $F; ln -s /opt/theirs/$F $F; chown -h alice $F",
                    "belongs to uid",
                );
                with(
                    m,
                    file,
                    "mv $F .real; ln -s .real $F; chown -h comfyui_sandbox $F",
                    "is a link that belongs to uid",
                );
                with(
                    m,
                    file,
                    "rm $F; mkfifo $F; chown alice $F",
                    "is not a regular file",
                );
                with(
                    m,
                    file,
                    "rm $F; mkdir $F; chown alice $F",
                    "is not a regular file",
                );
                with(
                    m,
                    file,
                    "rm $F; ln -s /dev/zero $F; chown -h alice $F",
                    "is not a regular file",
                );
            }
            // Whoever may rename in the folder can put another file of the owner's there, such as
            // an old lock.
            for (script, why) in [
                (
                    "chown alice:team .; chmod 775 .",
                    "can be written by others",
                ),
                ("chmod 777 .", "can be written by others"),
                ("chown mallory .", "belongs to uid"),
            ] {
                with(m, "", script, why);
            }
            // The owner's own group, as long as nobody else is in it, and a sticky folder above are
            // no danger.
            m.sh(&format!("chmod 775 {dot}; chmod 664 {dot}/comfy.*"));
            refused(&apply(m), "can be written by others (mode 0775)");
            m.sh("gpasswd -d mallory alice; usermod -g alice mallory");
            refused(&apply(m), "can be written by others (mode 0775)");
            m.sh(&format!(
                "usermod -g mallory mallory; setfacl -m u:mallory:rwx {dot}"
            ));
            refused(&apply(m), "can be written by others (mode 0775)");
            m.sh(&format!("setfacl -b {dot}; chmod 775 {dot}"));
            ok(&apply(m));
            assert_eq!(victims(m), before);
            m.clean();
        },
    );
}

#[test]
fn what_changes_after_it_was_planned_is_not_done() {
    attacked(
        "attack::owner_files::what_changes_after_it_was_planned_is_not_done",
        |m| {
            ready(m);
            let lock = m.sh("cat /home/alice/dot/comfy.lock");
            let (sha, old) = (
                m.sh("git -c safe.directory='*' -C /srv/upstream/up/hello.git rev-parse main"),
                picture(m),
            );
            m.sh(&format!("chmod 755 {OUTPUT}"));
            ok(&m.alice(&["plan", "--out", "/opt/alice/p.plan"]));
            let changed = picture(m);
            // Another commit in the lock, another manifest, a moved remote, another machine: each
            // makes the plan stale.
            m.hello
                .commit(&crate::support::borrowed(&crate::support::node(5)));
            let evil =
                m.sh("git -c safe.directory='*' -C /srv/upstream/up/hello.git rev-parse main");
            let stale = |m: &Machine, what: &str| {
                let out = m.root(&["apply", "/opt/alice/p.plan"]);
                assert!(
                    out.status.code() == Some(1) && said(&out).contains("the saved plan is stale"),
                    "{what}: {}",
                    said(&out)
                );
            };
            std::fs::write(
                "/home/alice/dot/comfy.lock",
                format!("{lock}\n").replace(&sha, &evil),
            )
            .unwrap();
            stale(m, "lock");
            // A commit with another one's tree: what is fetched is not what the lock says.
            let tree = |commit: &str| {
                m.sh(&format!(
                    "git -c safe.directory='*' -C /srv/upstream/up/hello.git rev-parse \
                    {commit}^{{tree}}"
                ))
            };
            std::fs::write(
                "/home/alice/dot/comfy.lock",
                format!("{lock}\n").replace(&tree(&sha), &tree(&evil)),
            )
            .unwrap();
            stale(m, "tree");
            refused(&apply(m), "has tree");
            std::fs::write("/home/alice/dot/comfy.lock", format!("{lock}\n")).unwrap();
            m.manifest(
                &super::manifest().replace("[nodes.hello]", "[nodes.hello]\nenabled = false"),
            );
            stale(m, "manifest");
            m.manifest(&super::manifest());
            assert_eq!(picture(m), changed, "a refused plan did something");
            m.sh(&format!("chmod 777 {OUTPUT}"));
            stale(m, "machine");
            m.sh(&format!("chmod 755 {OUTPUT}"));
            // A plan that was written by hand is none.
            m.sh("sed -i 's,/opt/ai/output,/opt/victim,g' /opt/alice/p.plan");
            let out = m.root(&["apply", "/opt/alice/p.plan"]);
            assert_eq!(out.status.code(), Some(1), "{}", said(&out));
            assert_eq!(picture(m), changed);
            ok(&apply(m));
            let kept = |p: &str| {
                p.lines()
                    .filter(|l| !l.contains("/receipts/"))
                    .map(str::to_string)
                    .collect::<Vec<_>>()
            };
            assert_eq!(kept(&picture(m)), kept(&old));
        },
    );
}
