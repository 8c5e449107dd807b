//! Records as an older comfy wrote them, and the instance that goes on with them.

use super::machine::{ok, private, said};
use super::*;

/// The keys of every record, as version 0.1.0 wrote them on 25 November 2026: what was added since
/// is taken out again, by a program that knows no more than this.
const KEYS: &str = include_str!("records.json");

/// Keys that came later, which an older comfy's records do not have.
const SINCE: &[&str] = &["\".manifest_folder\""];

/// Lists the keys of the records below `folder`, or cuts the records down to the keys of `known`.
/// Keys of maps (paths, names, ids) are `*`.
const SCRIPT: &str = r#"
import json, os, re, sys
folder, known = sys.argv[1], json.loads(sys.argv[2]) if len(sys.argv) > 2 else None
MAPS = {"groups", "users", "members", "links", "shares", "system", "applied", "nodes", "env",
    "files", "items", "traverse", "denied", "findings", "attributes"}
def walk(value, at, keys, cut):
    if isinstance(value, list):
        for item in value:
            walk(item, at + "[]", keys, cut)
    elif isinstance(value, dict):
        wild = at.split(".")[-1] in MAPS or any(re.search(r"[/:]|^[0-9a-f]{16}$|^\d+$", k) for k in value)
        for key in list(value):
            name = f"{at}.{'*' if wild else key}"
            keys.add(name)
            if cut is not None and name not in cut:
                del value[key]
            else:
                walk(value[key], name, keys, cut)
out = {}
for name in sorted(os.listdir(folder)):
    path = os.path.join(folder, name)
    if not name.endswith(".json") or not os.path.isfile(path):
        continue
    kind = re.sub(r"-[0-9a-f.]+\.json$", "-ID.json", name)
    with open(path) as f:
        value = json.load(f)
    keys = set()
    walk(value, "", keys, set(known.get(kind, [])) if known is not None else None)
    out[kind] = sorted(set(out.get(kind, [])) | keys)
    if known is not None:
        with open(path, "w") as f:
            json.dump(value, f)
print(json.dumps(out, indent=1, sort_keys=True))
"#;

const RECORDS: &str = "/var/lib/comfy/comfyui_sandbox";

fn keys(m: &machine::Machine, known: Option<&str>) -> String {
    std::fs::write("/tmp/records.py", SCRIPT).unwrap();
    let known = known.map_or(String::new(), |k| format!(" '{k}'"));
    m.sh(&format!("python3 /tmp/records.py {RECORDS}{known}"))
}

#[test]
fn an_instance_of_an_older_comfy_plans_nothing_runs_rolls_back_and_goes() {
    private(
        "older::an_instance_of_an_older_comfy_plans_nothing_runs_rolls_back_and_goes",
        |m| {
            m.ready();
            let lock = std::fs::read(m.dot.join("comfy.lock")).unwrap();
            m.hello.commit(&borrowed(&node(2)));
            ok(&m.alice(&["update", "hello"]));
            m.apply();
            let all = keys(m, None);
            let added = |line: &&str| !SINCE.iter().any(|key| line.contains(key));
            assert_eq!(
                all.lines().filter(added).collect::<Vec<_>>(),
                KEYS.lines().collect::<Vec<_>>(),
                "a record has other keys than it had"
            );
            keys(m, Some(KEYS));
            let out = m.alice(&["plan"]);
            assert!(said(&out).contains("No changes."), "{}", said(&out));
            ok(&m.root(&["run"]));
            std::fs::write(m.dot.join("comfy.lock"), &lock).unwrap();
            m.apply();
            m.clean();
            keys(m, Some(KEYS));
            ok(&m.root(&["destroy", "--yes", "--purge"]));
            assert_eq!(
                m.sh("ls -d /opt/comfy /var/lib/comfy 2> /dev/null || getent passwd comfyui_sandbox || true"),
                ""
            );
        },
    );
}

/// What a killed apply had built is cleared by the next one, whatever the lock asks by then.
#[test]
fn what_a_killed_apply_was_building_does_not_stay() {
    private(
        "older::what_a_killed_apply_was_building_does_not_stay",
        |m| {
            m.ready();
            m.sh(&format!(
            "cd {BASE}/.staging; mkdir -p venv-0123456789abcdef/bin gen-0123456789abcdef python-3.12.4 \
             job-1; chown -R 58200 job-1; chmod 500 venv-0123456789abcdef/bin"
        ));
            m.hello.commit(&borrowed(&node(2)));
            ok(&m.alice(&["update", "hello"]));
            m.apply();
            m.clean();
            assert_eq!(
                m.sh(&format!(
                    "ls {BASE}/.staging | grep -vE '^(store|gitconfig)$' || true"
                )),
                ""
            );
        },
    );
}

/// A launch needs what was applied and nothing of comfy.toml, so a mistake there is told and does
/// not keep ComfyUI from running.
#[test]
fn a_mistake_in_comfy_toml_does_not_stop_a_launch() {
    private(
        "older::a_mistake_in_comfy_toml_does_not_stop_a_launch",
        |m| {
            m.ready();
            m.sh("echo 'colour = 1' >> /home/alice/dot/comfy.toml");
            let out = m.root(&["run"]);
            ok(&out);
            let text = said(&out);
            assert!(text.contains("unknown key `colour`"), "{text}");
            assert!(
                text.contains("using what was applied here, comfyui_sandbox"),
                "{text}"
            );
            let out = m.root(&["apply", "--yes"]);
            assert_eq!(
                out.status.code(),
                Some(1),
                "an apply needs all of it: {}",
                said(&out)
            );
        },
    );
}
