//! Too much, too deep, too long: nothing of it may take for ever, or hide something else.

use super::super::machine::{BASE, attacked, ok, said};
use super::{OUTPUT, apply, ready, sandbox, victims};

/// Makes a chain of folders, each in the one before, as deep as is asked: no path reaches its end.
pub const DEEP: &str = r#"
import os, sys
os.chdir(sys.argv[1])
for n in range(int(sys.argv[2])):
    os.mkdir(sys.argv[3]); os.chdir(sys.argv[3])
open("end", "w").close()
"#;

#[test]
fn floods_and_depths_are_gone_through_or_named() {
    attacked(
        "attack::bombs::floods_and_depths_are_gone_through_or_named",
        |m| {
            ready(m);
            let before = victims(m);
            let deep = |top: &str, depth: &str, name: &str| {
                ok(&m
                    .as_user(
                        "comfyui_sandbox",
                        "/usr/bin/python3",
                        &["-I", "-c", DEEP, top, depth, name],
                    )
                    .output()
                    .unwrap())
            };
            deep(OUTPUT, "20000", "d");
            deep(OUTPUT, "3000", &"n".repeat(250));
            deep(&format!("{BASE}/state/nodes/hello/data"), "5000", "d");
            sandbox(
                m,
                &format!(
                    "cd {OUTPUT}; mkdir many; cd many; seq -f '%.0f' 100000 | xargs touch; cd ..; \
                     truncate -s 4G sparse.safetensors; truncate -s 5G \
                     /opt/ai/models/sparse.safetensors; touch $(printf 'x%.0s' $(seq 255))"
                ),
            );
            m.sh(&format!("chmod 755 {OUTPUT}; rm {BASE}/current"));
            ok(&apply(m));
            let told = said(&m.alice(&["plan"]));
            assert!(
                told.contains("nested deeper than a path can be long: left alone, for example "),
                "{told}"
            );
            assert!(
                told.lines().all(|l| l.len() < 1000),
                "a path of no end is printed"
            );
            assert_eq!(m.alice(&["verify"]).status.code(), Some(0));
            m.clean();
            // What lies beside the depths is still mended.
            m.sh(&format!("chgrp alice {OUTPUT}/many/100"));
            assert_eq!(m.differing(), ["share.output"]);
            ok(&apply(m));
            m.clean();
            ok(&m.root(&["destroy", "--yes", "--purge"]));
            assert_eq!(
                m.sh(&format!(
                    "ls -d {BASE} /home/comfyui_sandbox 2> /dev/null || true; ls \
                {OUTPUT}/many | wc -l"
                )),
                "100000"
            );
            assert_eq!(victims(m), before);
        },
    );
}

#[test]
fn every_name_that_a_disk_can_hold_is_a_name() {
    attacked(
        "attack::bombs::every_name_that_a_disk_can_hold_is_a_name",
        |m| {
            ready(m);
            let before = victims(m);
            // In each folder that the sandbox can write: line ends, escapes, invalid UTF-8,
            // options, dots, the longest name.
            let names = r#"
import os, sys
names = [b"a\nb", b"\x1b[2J", b"\xff\xfe", b"-rf", b"--", b"...", b" ", b"\x7f", b"x" * 255, "e\u0301\u202e".encode(), b"$(id)", b"`id`", b"'", b'"', b"*", b"\\", b".comfy-1", b"..comfy-1", b".comfy-probe-1"]
for top in sys.argv[1:]:
    for n in names:
        p = os.path.join(top.encode(), n)
        try:
            open(p, "w").write("x")
            os.mkdir(p[:200] + b".d"); open(os.path.join(p[:200] + b".d", n), "w").close(); os.symlink(n, p[:200] + b".l")
        except OSError as e: sys.exit(f"{p}: {e}")
"#;
            let state = format!("{BASE}/state");
            super::old_state(m);
            let tops = [
                OUTPUT,
                "/opt/ai/input",
                "/opt/ai/models",
                &state,
                &format!("{state}/user/default"),
                &format!("{state}/nodes/hello"),
                "/home/comfyui_sandbox",
            ];
            ok(&m
                .as_user(
                    "comfyui_sandbox",
                    "/usr/bin/python3",
                    &[&["-I", "-c", names], &tops[..]].concat(),
                )
                .output()
                .unwrap());
            m.sh(&format!(
                "chgrp -R alice {OUTPUT}; chmod -R g-w {OUTPUT}; rm {BASE}/current"
            ));
            ok(&apply(m));
            m.clean();
            assert_eq!(
                m.sh(&format!(
                    "find {OUTPUT} ! -type l ! -group comfyshared | wc -l; find \
                {OUTPUT} -type f ! -perm -060 | wc -l"
                )),
                "0\n0"
            );
            let names = m.sh(&format!("find {OUTPUT} -print0 | sort -z | sha256sum"));
            ok(&m.root(&["destroy", "--yes"]));
            assert_eq!(
                m.sh(&format!(
                    "find {OUTPUT} ! -type l ! -group alice | wc -l; find \
                {OUTPUT} -print0 | sort -z | sha256sum"
                )),
                format!("0\n{names}")
            );
            assert_eq!(victims(m), before);
        },
    );
}
