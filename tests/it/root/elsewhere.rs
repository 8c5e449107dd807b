//! Shares that hold models elsewhere: another program's folder, a volume, and a share behind a link
//! of the owner's.

use super::confined::{Run, ready};
use super::machine::{Machine, ok, private, said};

/// What the running ComfyUI lists of a kind.
fn listed(m: &Machine, port: u16, kind: &str) -> String {
    m.sh(&format!(
        "setpriv --reuid alice --regid alice --init-groups curl -sf \
        http://127.0.0.1:{port}/models/{kind}"
    ))
}

const SHARES: &str = r#"
[shares.webui]
path = "~/webui"
models = { checkpoints = "models/Stable-diffusion", loras = ["models/Lora", "models/LyCORIS"], ultralytics_bbox = "models/adetailer" }

[shares.nas]
path = "/srv/nas/loras"
models = { loras = "." }
requires_mount = "/srv/nas"
manage = false
"#;

/// Tries to write where it only reads.
const NODE: &str = "import os
for top in ('/home/alice/webui/models/Lora', '/srv/nas/loras', '/home/alice/ai/models'):
    try: print('WROTE', open(top + '/new', 'w'), flush=True)
    except OSError as e: print('HELD', top, type(e).__name__, flush=True)";

#[test]
fn comfyui_finds_models_that_lie_elsewhere_and_changes_none() {
    private(
        "elsewhere::comfyui_finds_models_that_lie_elsewhere_and_changes_none",
        |m| {
            // The folder of models is a link of alice's; so is that of the other program, whose
            // modes are its own so far.
            m.sh(
                "mkdir -p /home/alice/ai /srv/big/checkpoints /srv/app/venv \
             /srv/app/models/Stable-diffusion/sdxl /srv/app/models/LyCORIS /srv/nas
             echo 1 > /srv/big/checkpoints/own.safetensors; echo 2 > \
             /srv/app/models/Stable-diffusion/sdxl/base.safetensors
             echo 3 > \"/srv/app/models/LyCORIS/\\$HOME: 'ü'.safetensors\"; echo 4 > \
             /srv/app/venv/not-a-model.bin
             ln -s /srv/big /home/alice/ai/models; ln -s /srv/app /home/alice/webui
             chmod -R go-rwx /srv/big /srv/app; chown -R alice:alice /srv/big /srv/app \
             /home/alice/ai; chown -h alice /home/alice/ai/models /home/alice/webui
             mount -t tmpfs tmpfs /srv/nas; mkdir -m 755 /srv/nas/loras; echo 5 > \
             /srv/nas/loras/far.safetensors; chown -R alice:alice /srv/nas; chmod 755 /srv/nas",
            );
            let port = ready(m, NODE, |t| format!("{t}{SHARES}"));
            assert_eq!(
                m.sh("stat -c '%U %G %a' /srv/nas/loras /srv/nas/loras/far.safetensors"),
                "alice alice 755\nalice alice 644",
                "`manage = false`"
            );
            let plan = said(&m.alice(&["plan", "-v"]));
            assert!(
                plan.contains("share webui: models/Lora is not a folder there")
                    && plan.contains("share webui: models/adetailer is not a folder there"),
                "{plan}"
            );
            assert!(
                plan.contains("4 models (8 B) not declared in comfy.toml")
                    && !plan.contains("not-a-model"),
                "{plan}"
            );
            assert!(
                plan.contains("webui: models/Stable-diffusion/sdxl/base.safetensors"),
                "{plan}"
            );
            let run = Run::start(m);
            assert_eq!(
                listed(m, port, "checkpoints"),
                r#"["own.safetensors", "sdxl/base.safetensors"]"#
            );
            assert_eq!(
                listed(m, port, "loras"),
                r#"["$HOME: '\u00fc'.safetensors", "far.safetensors"]"#
            );
            assert_eq!(listed(m, port, "ultralytics_bbox"), "[]");
            assert_eq!(listed(m, port, "configs"), r#"["v1-inference.yaml"]"#);
            let log = run.end();
            assert!(
                !log.contains("WROTE") && log.matches("HELD").count() == 3,
                "{log}"
            );
            // Another folder is another generation, which the plan shows before it is.
            m.sh(
                "mkdir /srv/app/models/Lora; echo 6 > /srv/app/models/Lora/new.safetensors; chown \
                -R alice: /srv/app/models/Lora",
            );
            m.sh("sed -i 's|, \"models/LyCORIS\"||' /home/alice/dot/comfy.toml");
            let plan = said(&m.alice(&["plan"]));
            assert!(plan.contains("# comfyui will be updated"), "{plan}");
            assert!(
                plan.contains(
                    "models webui loras = \"/home/alice/webui/models/Lora, \
                /home/alice/webui/models/LyCORIS\" -> \"/home/alice/webui/models/Lora\""
                ),
                "{plan}"
            );
            m.apply();
            m.clean();
            let run = Run::start(m);
            assert_eq!(
                listed(m, port, "loras"),
                r#"["far.safetensors", "new.safetensors"]"#
            );
            run.end();
            // A model that comfy.toml names lies there as in any share.
            m.sh(
                "printf '[models.\"models/Lora/copy.bin\"]\\nshare = \"webui\"\\nsource = \
                \"file:~/webui/models/Lora/new.safetensors\"\\n' >> /home/alice/dot/comfy.toml",
            );
            m.lock();
            m.apply();
            assert_eq!(
                m.sh("stat -c '%U %G %a' /srv/app/models/Lora/copy.bin"),
                "alice comfyshared 644"
            );
            // The volume is gone: nothing starts, nothing is made on its mount point.
            m.sh("umount /srv/nas");
            let run = m.root(&["run"]);
            assert!(
                run.status.code() == Some(1)
                    && said(&run).contains("share nas: volume /srv/nas is not mounted"),
                "{}",
                said(&run)
            );
            let plan = said(&m.alice(&["plan"]));
            assert!(
                plan.contains("1 could not be read") && m.sh("ls -A /srv/nas").is_empty(),
                "{plan}"
            );
            // What leaves the manifest is no longer searched, and keeps its files.
            m.manifest(
                &std::fs::read_to_string("/home/alice/dot/comfy.toml")
                    .unwrap()
                    .split("\n[shares.webui]")
                    .next()
                    .unwrap()
                    .replace("PYTHON", ""),
            );
            m.apply();
            m.clean();
            let run = Run::start(m);
            assert_eq!(listed(m, port, "loras"), "[]");
            run.end();
            ok(&m
                .as_user("alice", "/usr/bin/cat", &["/srv/app/models/Lora/copy.bin"])
                .output()
                .unwrap());
            assert_eq!(
                m.sh("stat -c %G /srv/app/models/Lora/new.safetensors"),
                "alice"
            );
        },
    );
}
