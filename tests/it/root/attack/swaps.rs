//! Ten seconds in which several processes of the sandbox user swap folders, files and links under
//! everything that root does.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::super::machine::{BASE, Machine, attacked, ok, said};
use super::{OUTPUT, apply, ready, sandbox, victims};

/// Exchanges pairs of names as fast as it can (renameat2(2), RENAME_EXCHANGE), and makes again what
/// goes missing.
const RACER: &str = r#"
import ctypes, os, sys
libc = ctypes.CDLL(None)
pairs = [p.split("|") for p in sys.argv[1:]]
print("racing", flush=True)
n = 0
while True:
    for a, b, kind in pairs:
        libc.renameat2(-100, a.encode(), -100, b.encode(), 2)
        n += 1
        if n % 64:
            continue
        for x in (a, b):
            if os.path.lexists(x):
                continue
            try:
                if kind == "d" and x == a: os.mkdir(x, 0o700); open(x + "/f", "w").close()
                elif kind == "f" and x == a: open(x, "w").close()
                elif kind.startswith("l:"): os.link(kind[2:], x)
                else: os.symlink("/opt/victim/d", x)
            except OSError: pass
"#;

struct Race(Vec<Child>);

impl Race {
    fn start(m: &Machine, pairs: &[String]) -> Race {
        let mut all = Vec::new();
        for some in pairs.chunks(pairs.len().div_ceil(3)) {
            let args: Vec<&str> = ["-I", "-c", RACER]
                .into_iter()
                .chain(some.iter().map(String::as_str))
                .collect();
            let mut child = m
                .as_user("comfyui_sandbox", "/usr/bin/python3", &args)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            std::io::BufRead::read_line(
                &mut std::io::BufReader::new(child.stdout.take().unwrap()),
                &mut line,
            )
            .unwrap();
            assert_eq!(line, "racing\n");
            all.push(child);
        }
        Race(all)
    }
}

impl Drop for Race {
    fn drop(&mut self) {
        for c in &mut self.0 {
            let _ = c.kill();
            let _ = c.wait();
        }
    }
}

#[test]
fn two_hundred_applies_among_swaps_move_nothing_of_others() {
    attacked(
        "attack::swaps::two_hundred_applies_among_swaps_move_nothing_of_others",
        |m| {
            ready(m);
            m.sh("head -c 400000 /dev/urandom > /home/alice/m.bin; chown alice /home/alice/m.bin");
            m.manifest(&format!(
                "{}[models.\"loras/m.bin\"]\nsource = \"file:~/m.bin\"\n",
                super::manifest()
            ));
            m.lock();
            ok(&apply(m));
            // The owner's own things in the share that both write: a folder that the sandbox may
            // rename, with a closed one in it.
            m.sh(&format!(
                "cd {OUTPUT}; mkdir -p own/closed; echo secret > own/closed/f; chown -R \
                alice:alice own; chmod 700 own/closed; chmod 600 own/closed/f; ln own/closed/f \
                /opt/alice/second"
            ));
            let state = format!("{BASE}/state");
            let (home, models) = ("/home/comfyui_sandbox", "/opt/ai/models");
            super::old_state(m);
            sandbox(
                m,
                &format!(
                    "for d in {OUTPUT}/d {OUTPUT}/d/e {models}/mine {models}/mine/in {state}/x \
                 {state}/nodes/hello/y; do mkdir $d; echo x > $d/f; ln -s /opt/victim/d $d.l; done
                 ln -s /opt/victim/d {state}/temp.l; ln -s /opt/victim/d {state}/user.l; ln -s \
                 /opt/alice {state}/nodes.l; ln -s /opt/victim/d {state}/nodes/hello.l
                 ln -s /opt/victim/d {state}/nodes/hello/data.l; ln -s /opt/victim/f {home}/c.l; \
                 echo x > {OUTPUT}/file; ln -s /opt/victim/f {OUTPUT}/file.l; mkfifo \
                 {OUTPUT}/pipe; echo x > {OUTPUT}/p"
                ),
            );
            super::sandbox_may(m, &format!("ln /opt/mallory/key {OUTPUT}/hard"));
            let pair = |a: &str, b: &str, kind: &str| format!("{a}|{b}|{kind}");
            let pairs = [
                pair(&format!("{OUTPUT}/d"), &format!("{OUTPUT}/d.l"), "d"),
                pair(&format!("{OUTPUT}/d/e"), &format!("{OUTPUT}/d/e.l"), "d"),
                pair(&format!("{OUTPUT}/file"), &format!("{OUTPUT}/file.l"), "f"),
                pair(&format!("{OUTPUT}/p"), &format!("{OUTPUT}/pipe"), "f"),
                pair(
                    &format!("{OUTPUT}/file"),
                    &format!("{OUTPUT}/hard"),
                    "l:/opt/mallory/key",
                ),
                pair(&format!("{models}/mine"), &format!("{models}/mine.l"), "d"),
                pair(
                    &format!("{models}/mine/in"),
                    &format!("{models}/mine/in.l"),
                    "d",
                ),
                pair(&format!("{state}/temp"), &format!("{state}/temp.l"), "d"),
                pair(&format!("{state}/temp"), &format!("{OUTPUT}/own"), "d"),
                pair(&format!("{state}/user"), &format!("{state}/user.l"), "d"),
                pair(&format!("{state}/nodes"), &format!("{state}/nodes.l"), "d"),
                pair(
                    &format!("{state}/nodes/hello"),
                    &format!("{state}/nodes/hello.l"),
                    "d",
                ),
                pair(
                    &format!("{state}/nodes/hello/data"),
                    &format!("{state}/nodes/hello/data.l"),
                    "d",
                ),
                pair(&format!("{home}/ComfyUI"), &format!("{home}/c.l"), "s"),
            ];
            let before = victims(m);
            let tree = m.sh(&format!(
                "cd {BASE}/current/ComfyUI && find . -printf '%p %U %m %y\\n' | sort | sha256sum"
            ));
            let race = Race::start(m, &pairs);
            let (end, mut applies, mut refusals, mut others, mut whole) = (
                Instant::now() + Duration::from_secs(10),
                0,
                std::collections::BTreeMap::<String, usize>::new(),
                0,
                0,
            );
            let with = std::fs::read_to_string("/home/alice/dot/comfy.toml").unwrap();
            let without = with.split("[models.").next().unwrap();
            while Instant::now() < end || applies < 200 {
                // With a model both sides have to see the same before root begins, which they
                // seldom do now.
                std::fs::write(
                    "/home/alice/dot/comfy.toml",
                    if applies % 3 == 2 { &with } else { without },
                )
                .unwrap();
                // Something to mend each time, all through the trees.
                m.sh(&format!(
                "chgrp -h alice {OUTPUT}/p {OUTPUT}/d {models}/mine 2> /dev/null || true; chmod \
                 755 {OUTPUT}; rm -f {models}/loras/m.bin; ln -sfn gen {BASE}/current"
            ));
                // Every apply meets it as an older comfy left it, and brings it over among the
                // swaps.
                super::old_state(m);
                let out = apply(m);
                applies += 1;
                if !out.status.success() {
                    let text = said(&out);
                    let first = text
                        .lines()
                        .find(|l| l.starts_with("error: "))
                        .unwrap_or("nothing said")
                        .to_string();
                    // It names what it refused.
                    assert!(
                        [
                            "stale", "comfyui", "share", "state", "node", "link", "model", "dir.",
                            "user"
                        ]
                        .iter()
                        .any(|w| first.contains(w)),
                        "{text}"
                    );
                    *refusals.entry(first).or_default() += 1;
                } else {
                    whole += 1;
                }
                // Root mends the shares before a launch too; the owner looks at everything
                // meanwhile.
                if applies % 4 == 0 {
                    m.root(&["exec", "--", "true"]);
                    m.alice(&["plan"]);
                    m.alice(&["verify"]);
                    m.alice(&["status"]);
                    others += 1;
                }
            }
            drop(race);
            eprintln!(
                "{applies} applies, {whole} of them whole, and {others} rounds of run, plan, \
                 verify and status; refused:"
            );
            for (why, n) in &refusals {
                eprintln!("  {n:3} {why}");
            }
            assert_eq!(victims(m), before);
            assert_eq!(
                m.sh("stat -c '%u %a' /opt/alice/second; cat /opt/alice/second")
                    .lines()
                    .last(),
                Some("secret")
            );
            std::fs::write("/home/alice/dot/comfy.toml", &with).unwrap();
            // Once nobody swaps any more, one apply ends clean, after what it asks to move away.
            m.sh(&format!(
                "rm -rf {home}/ComfyUI {state}/nodes {state}/nodes.l {state}/user/default"
            ));
            ok(&apply(m));
            m.clean();
            assert_eq!(
                m.sh(&format!(
                    "cd {BASE}/current/ComfyUI && find . -printf '%p %U %m %y\\n' \
                | sort | sha256sum"
                )),
                tree
            );
        },
    );
}
