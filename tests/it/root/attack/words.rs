//! Whatever a terminal would obey, in everything that comfy can print.

use std::process::Output;

use super::super::machine::{BASE, Machine, ok, private, said};
use super::OUTPUT;
use crate::hub::{Answer, Server};

/// A title change, a cleared screen, C1, the other direction, nothing visible, a line of its own.
const EVIL: &str =
    "\x1b]0;evil\x07\x1b[2J\u{9b}31m\u{202e}\u{200b}\u{2066}\u{feff}\rerror: evil\u{7f}";

/// What would steer a terminal in what was printed, with where.
fn harm(out: &Output) -> Option<String> {
    for (name, bytes) in [("stdout", &out.stdout), ("stderr", &out.stderr)] {
        let text = match std::str::from_utf8(bytes) {
            Ok(t) => t,
            Err(e) => return Some(format!("{name} is no UTF-8: {e}")),
        };
        let harmful = |c: char| {
            (c.is_control() && c != '\n' && c != '\t')
                || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
        };
        if let Some(line) = text.lines().find(|l| l.chars().any(harmful)) {
            return Some(format!(
                "{name}: {}",
                line.escape_debug()
                    .to_string()
                    .chars()
                    .take(600)
                    .collect::<String>()
            ));
        }
        // A line that pretends to be comfy's own.
        if let Some(line) = text.lines().find(|l| l.starts_with("error: evil")) {
            return Some(format!("{name}: {line}"));
        }
    }
    None
}

/// A safetensors file whose metadata say this.
fn tensors(metadata: &serde_json::Value) -> Vec<u8> {
    let header = serde_json::json!({ "__metadata__": metadata, EVIL: { "dtype": "F32", "shape": [1], "data_offsets": [0, 4] } }).to_string();
    [
        &(header.len() as u64).to_le_bytes()[..],
        header.as_bytes(),
        &[0; 4],
    ]
    .concat()
}

/// An upstream whose every word is hostile: author, subject, tag, file names, links.
fn upstream(m: &Machine) {
    let git = "git -c user.name=x -c user.email=x@x -c init.defaultBranch=main";
    std::fs::write("/opt/evil", EVIL).unwrap();
    m.sh(&format!(
        "umask 022; export HOME=/root; {git} init -q --bare /srv/upstream/up/evil.git; {git} init \
         -q /opt/work; cd /opt/work; e=$(tr -d '\\r' < /opt/evil)
         echo 'NODE_CLASS_MAPPINGS = {{}}' > __init__.py; mkdir data; echo x > data/settings.json; \
         echo x > \"file-$e.py\"; ln -s \"to-$e\" \"link-$e\" || true
         GIT_AUTHOR_NAME=\"$e\" GIT_AUTHOR_EMAIL=\"$e\" GIT_COMMITTER_NAME=\"$e\" \
         GIT_COMMITTER_EMAIL=x {git} add -A
         GIT_AUTHOR_NAME=\"$e\" GIT_COMMITTER_NAME=\"$e\" {git} commit -q -m \"subject $e\"
         {git} push -q /srv/upstream/up/evil.git HEAD:refs/heads/main; {git} push -q \
         /srv/upstream/up/evil.git HEAD:refs/heads/next; chmod -R a+rX /srv/upstream"
    ));
}

#[test]
fn nothing_that_comfy_prints_steers_a_terminal() {
    private(
        "attack::words::nothing_that_comfy_prints_steers_a_terminal",
        |m| {
            let mut heard: Vec<(String, String)> = Vec::new();
            let (mut count, mut hostile) = (0, 0);
            let mut hear = |what: &str, out: &Output| {
                count += 1;
                hostile += usize::from(
                    ["\\u{202e}", "\\u{1b}", "\\u202e", "\\u001b"]
                        .iter()
                        .any(|w| said(out).contains(w)),
                );
                assert!(
                    out.status.code().is_some_and(|c| c < 3 || c == 130),
                    "{what}: {:?} {}",
                    out.status,
                    said(out)
                );
                if let Some(h) = harm(out) {
                    heard.push((what.to_string(), h));
                }
            };
            let evil = serde_json::json!(EVIL);
            let said_by_node = format!(
                "import sys\nprint({evil}, flush=True)\nsys.stderr.write({evil} + chr(10))\nraise \
                 RuntimeError({evil})"
            );
            m.sh("install -d -o alice -g alice /opt/ai");
            super::super::confined::ready(m, &said_by_node, super::moved);
            // Files of the sandbox user's with such names, everywhere.
            let plant = "import os, sys\nfor top in sys.argv[2:]:\n    for n in (sys.argv[1], 'x' \
                + sys.argv[1] + '.safetensors'):\n        open(os.path.join(top, n), \
                'w').write('x'); os.mkdir(os.path.join(top, n + '.d'))\n        \
                open(os.path.join(top, n + '.d', n), 'w').close(); os.symlink(n, os.path.join(top, \
                n + '.l')); os.mkfifo(os.path.join(top, n + '.f'))\n";
            let state = format!("{BASE}/state");
            super::old_state(m);
            ok(&m
                .as_user(
                    "comfyui_sandbox",
                    "/usr/bin/python3",
                    &[
                        "-I",
                        "-c",
                        plant,
                        EVIL,
                        OUTPUT,
                        "/opt/ai/models",
                        &state,
                        &format!("{state}/user/default"),
                        "/home/comfyui_sandbox",
                    ],
                )
                .output()
                .unwrap());
            m.sh(&format!(
                "chgrp -R alice {OUTPUT} /opt/ai/models; chmod -R g-r /opt/ai/models"
            ));
            let both = |m: &Machine, args: &[&str], hear: &mut dyn FnMut(&str, &Output)| {
                hear(&format!("alice {args:?}"), &m.alice(args));
                hear(&format!("root {args:?}"), &m.root(args));
            };
            let looks: &[&[&str]] = &[
                &["plan"],
                &["plan", "-v"],
                &["plan", "--json"],
                &["verify"],
                &["verify", "--full", "-v"],
                &["status"],
                &["status", "--json"],
                &["outdated"],
                &["lock", "--check"],
                &["dedupe", "-n"],
                &["cache"],
                &["export", "sbom"],
                &["run", "--explain"],
                &["add", "model"],
            ];
            for args in looks {
                both(m, args, &mut hear);
            }
            // Sealed places with hostile names: what root finds, moves and reports.
            std::fs::write(
                format!("{BASE}/current/ComfyUI/custom_nodes/{EVIL}.py"),
                "x",
            )
            .unwrap();
            std::fs::create_dir(format!("{BASE}/current/ComfyUI/custom_nodes/hello/{EVIL}"))
                .unwrap();
            std::os::unix::fs::symlink(
                EVIL,
                format!("{BASE}/current/ComfyUI/custom_nodes/hello/{EVIL}/l"),
            )
            .unwrap();
            std::fs::write(format!("{BASE}/current/ComfyUI/main-{EVIL}.py"), "x").unwrap();
            for args in looks {
                both(m, args, &mut hear);
            }
            for args in [
                &["run"][..],
                &["start"],
                &["apply", "--yes", "-v"],
                &["apply", "--yes", "--json"],
            ] {
                hear(&format!("root {args:?}"), &m.root(args));
            }
            // What ComfyUI says while it runs.
            hear("start", &m.root(&["start"]));
            for args in [
                &["logs"][..],
                &["logs", "-n", "3"],
                &["status"],
                &["status", "--json"],
                &["open", "--print"],
                &["doctor"],
                &["doctor", "--json"],
            ] {
                both(m, args, &mut hear);
            }
            hear("restart", &m.root(&["restart"]));
            hear("stop", &m.alice(&["stop"]));
            hear("status", &m.alice(&["status", "--json"]));
            // Hostile repositories: in what is locked, outdated, updated, compared.
            upstream(m);
            let base = m.sh("cat /home/alice/dot/comfy.toml");
            m.manifest(&format!(
                "{base}\n[nodes.evil]\nrepo = \"https://github.com/up/evil\"\nref = \"main\"\n"
            ));
            for args in [
                &["lock"][..],
                &["plan", "-v"],
                &["plan", "--json"],
                &["update", "--dry-run"],
                &["outdated"],
                &["export", "sbom"],
            ] {
                hear(&format!("evil node: {args:?}"), &m.alice(args));
            }
            hear("evil node: apply", &m.root(&["apply", "--yes"]));
            hear("evil node: verify", &m.alice(&["verify", "-v"]));
            m.sh(&format!(
                "for f in {BASE}/current/ComfyUI/custom_nodes/evil/*; do echo x >> \
                \"$f\" || true; done 2> /dev/null"
            ));
            for args in looks {
                both(m, args, &mut hear);
            }
            hear("evil node: apply again", &m.root(&["apply", "--yes"]));
            // A server that says what it likes: as an error, as a header, as a page.
            let web = Server::start(|a| match a.path.as_str() {
                "/page" => Answer::new(200, EVIL.as_bytes()).header("Content-Type", "text/html"),
                p if p.contains("info/refs") => Answer::new(
                    200,
                    format!(
                        "001e# service=git-upload-pack\n0000{:04x}ERR {EVIL}\n",
                        9 + EVIL.len()
                    )
                    .as_bytes(),
                )
                .header(
                    "Content-Type",
                    "application/x-git-upload-pack-advertisement",
                ),
                _ => Answer::new(500, EVIL.as_bytes())
                    .header("ETag", "\"\u{9b}2J\u{202e}\"")
                    .header("X-Error-Message", "\u{9b}evil\u{202e}"),
            });
            for source in ["page", "error"] {
                m.manifest(&format!(
                    "{base}\n[models.\"a.bin\"]\nsource = \"{}/{source}\"\n",
                    web.url()
                ));
                hear("a server of models", &m.alice(&["lock"]));
            }
            m.env = vec![(
                "COMFY_MIRRORS".into(),
                format!("https://github.com/={}/", web.url()),
            )];
            m.manifest(&format!(
                "{base}\n[nodes.evil]\nrepo = \"https://github.com/up/evil2\"\nref = \"main\"\n"
            ));
            hear("a server of repositories", &m.alice(&["lock"]));
            hear("a server of repositories", &m.alice(&["outdated"]));
            m.env.clear();
            // Models that speak.
            let speak = serde_json::json!({ "modelspec.title": EVIL, "modelspec.author": EVIL, "modelspec.architecture": EVIL, "modelspec.license": EVIL, "ss_tag_frequency": serde_json::json!({ EVIL: { EVIL: 3 } }).to_string(), EVIL: EVIL, "modelspec.trigger_phrase": EVIL });
            std::fs::write("/opt/ai/models/speaks.safetensors", tensors(&speak)).unwrap();
            m.sh(
                "chown alice:comfyshared /opt/ai/models/speaks.safetensors; chmod 644 \
                /opt/ai/models/speaks.safetensors",
            );
            m.manifest(&format!("{base}\n[models.\"speaks.safetensors\"]\n"));
            for args in [
                &["lock"][..],
                &["model", "speaks.safetensors"],
                &["plan"],
                &["verify"],
                &["export", "sbom"],
            ] {
                both(m, args, &mut hear);
            }
            // Every string of comfy.toml and comfy.lock, those that are accepted and those that are
            // not.
            let toml = |s: &str| {
                s.chars()
                    .map(|c| {
                        if c.is_control() || c > '\u{7e}' {
                            format!("\\u{:04x}", c as u32)
                        } else {
                            c.to_string()
                        }
                    })
                    .collect::<String>()
            };
            let e = toml(EVIL);
            let soft = toml("\u{202e}\u{200b}\u{feff}\u{61c}soft");
            let lock = m.sh("cat /home/alice/dot/comfy.lock");
            for e in [&e, &soft] {
                let manifests = [
                    format!("{base}\n[models.\"{e}.bin\"]\n"),
                    format!("{base}\n[models.\"a.bin\"]\nsource = \"file:~/{e}\"\n"),
                    format!("{base}\n[models.\"a.bin\"]\nsource = \"hf://org/{e}/f\"\n"),
                    format!(
                        "{base}\n[nodes.\"{e}\"]\nrepo = \"https://github.com/up/hello\"\nref = \
                    \"main\"\n"
                    ),
                    format!(
                        "{base}\n[nodes.x]\nrepo = \"https://github.com/up/{e}\"\nref = \
                    \"main\"\n"
                    ),
                    format!(
                        "{base}\n[nodes.x]\nrepo = \"https://github.com/up/hello\"\nref = \
                    \"{e}\"\nnote = \"{e}\"\n"
                    ),
                    base.replace(
                        "[nodes.hello]",
                        &format!(
                            "[nodes.hello]\nnote = \
                    \"{e}\"\nignore_requirements = [\"{e}\"]"
                        ),
                    ),
                    base.replace("[\"data\"]", &format!("[\"data\", \"{e}\", \"w/{e}\"]")),
                    base.replace("/opt/ai/output", &format!("/opt/ai/output{e}")),
                    base.replace("~/ComfyUI", &format!("~/ComfyUI{e}")),
                    base.replace("[shares.output]", &format!("[shares.\"{e}\"]")),
                    base.replace("user/default/workflows", &format!("user/{e}")),
                    base.replace(
                        "[python]",
                        &format!(
                            "[python]\nrequirements = [\"{e}\"]\nindexes = [{{ name = \"{e}\", \
                        url = \"https://{e}/\", packages = [\"{e}\"] }}]"
                        ),
                    ),
                    base.replace("view = ", &format!("args = [\"--{e}\", \"{e}\"]\nview = ")),
                    format!("{base}\n[run]\nenv = {{ X = \"{e}\", \"{e}\" = \"y\" }}\n"),
                    format!("{base}\n[network]\negress = [\"{e}:443\"]\n"),
                    format!(
                        "[\"{e}\"]\n{base}\n[host]\nprimary_user = \"{e}\"\nsandbox_user = \
                    \"{e}\"\ngroup = \"{e}\"\nprefix = \"/{e}\"\n"
                    ),
                    format!("{base}\n[host]\nprefix = \"/opt/{e}\"\n"),
                    format!("{base}\n[hosts.\"{e}\"]\nshares.x.path = \"{e}\"\n[\"{e}\"]\n"),
                    format!("{base}\n# {EVIL}\n"),
                    format!("{base}\nx = \"{EVIL}\n"),
                    format!("version = \"{e}\"\n"),
                ];
                for (i, text) in manifests.iter().enumerate() {
                    m.manifest(text);
                    for args in [
                        &["lock"][..],
                        &["plan", "-v"],
                        &["plan", "--json"],
                        &["run", "--explain"],
                        &["export", "sbom"],
                        &["model", &EVIL.replace('\0', "")],
                    ] {
                        hear(&format!("manifest {i}: {args:?}"), &m.alice(args));
                    }
                    std::fs::write("/home/alice/dot/comfy.lock", &lock).unwrap();
                }
                m.manifest(&base);
                for (i, (from, to)) in [
                    ("main", e.as_str()),
                    ("https://github.com/up/hello", e),
                    ("[nodes.hello", &format!("[nodes.\"{e}\"")),
                    ("version = ", &format!("\"{e}\" = \"{e}\"\nversion = ")),
                    ("repo = ", &format!("repo = \"{e}\" #")),
                ]
                .into_iter()
                .enumerate()
                {
                    std::fs::write("/home/alice/dot/comfy.lock", lock.replacen(from, to, 1))
                        .unwrap();
                    for args in [
                        &["plan"][..],
                        &["lock", "--check"],
                        &["export", "sbom"],
                        &["outdated"],
                        &["verify"],
                    ] {
                        hear(&format!("lock {i}: {args:?}"), &m.alice(args));
                    }
                }
                std::fs::write("/home/alice/dot/comfy.lock", &lock).unwrap();
            }
            // Arguments, the environment, and the rest of the commands.
            for args in [
                &["plan", "--only", EVIL][..],
                &["update", EVIL],
                &["apply", EVIL],
                &["-C", EVIL, "plan"],
                &["--host", EVIL, "plan"],
                &[EVIL],
                &["exec", "--", EVIL],
                &["run", "--", EVIL],
                &["gc", "--keep", EVIL],
                &["add", "node", EVIL],
                &["add", "model", EVIL, EVIL],
                &["plan", "--out", &format!("/nowhere/{EVIL}")],
                &["completions", "bash"],
                &["man"],
                &["--help"],
                &["init"],
                &["gc", "--yes"],
                &["destroy", "--yes"],
            ] {
                both(m, args, &mut hear);
            }
            for name in [
                "COMFY_MIRRORS",
                "HF_ENDPOINT",
                "HOME",
                "XDG_CACHE_HOME",
                "SUDO_USER",
                "COMFY_UV",
                "AWS_ENDPOINT_URL",
            ] {
                let mut c = m.root_command(&["plan"]);
                hear(name, &c.env(name, EVIL).output().unwrap());
                let mut c = m.as_user(
                    "alice",
                    "env",
                    &[
                        &format!("{name}={EVIL}"),
                        "/opt/bin/comfy",
                        "-C",
                        "/home/alice/dot",
                        "lock",
                    ],
                );
                hear(name, &c.output().unwrap());
            }
            eprintln!(
                "{count} outputs looked through, {hostile} of them with hostile words, escaped"
            );
            assert!(hostile > 100, "{hostile}");
            assert!(
                heard.is_empty(),
                "{} of {count}:\n{}",
                heard.len(),
                heard
                    .iter()
                    .map(|(w, h)| format!("{}\n    {h}", w.escape_debug()))
                    .collect::<Vec<_>>()
                    .join("\n")
            );
        },
    );
}
