//! Pipes, sockets and devices where files are expected: nothing waits for one, nothing opens one.

use super::super::machine::{BASE, attacked, ok, said};
use super::{OUTPUT, apply, old_state, ready, refused, sandbox, victims};

#[test]
fn pipes_sockets_and_devices_hold_nothing_up() {
    attacked(
        "attack::special::pipes_sockets_and_devices_hold_nothing_up",
        |m| {
            ready(m);
            let before = victims(m);
            old_state(m);
            sandbox(
                m,
                &format!(
                    "for d in {OUTPUT} {BASE}/state/user {BASE}/state/nodes/hello ~; do mkdir -p \
                 $d/x.py; mkfifo $d/requirements.txt $d/x.py/pipe
                 python3 -c 'import socket,sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' \
                 $d/s; done
                 mkfifo {BASE}/state/nodes/hello/.data.comfy-seed /opt/ai/models/big.safetensors \
                 ~/.gitconfig
                 rm -r {BASE}/state/nodes/hello/data; mkfifo {BASE}/state/nodes/hello/data
                 rm -r {BASE}/state/cache; mkfifo {BASE}/state/cache"
                ),
            );
            // Devices are root's to make, and can be moved by whoever may write the folder.
            m.sh(&format!(
                "mknod {OUTPUT}/null c 1 3; mknod {OUTPUT}/disk b 7 200; chmod 666 \
                {OUTPUT}/null; chmod 755 {OUTPUT}; rm {BASE}/current"
            ));
            let devices = m.sh(&format!(
                "stat -c '%n %u:%g %a %t %T' {OUTPUT}/null {OUTPUT}/disk"
            ));
            let out = apply(m);
            ok(&out);
            assert_eq!(victims(m), before);
            assert_eq!(
                m.sh(&format!(
                    "stat -c '%n %u:%g %a %t %T' {OUTPUT}/null {OUTPUT}/disk"
                )),
                devices
            );
            let told = said(&m.alice(&["plan"]));
            assert!(
                told.contains("devices, sockets or pipes: left alone, for example disk"),
                "{told}"
            );
            // A pipe in place of a model: neither root nor the owner waits for somebody to write
            // into it.
            m.manifest(&format!(
                "{}[models.\"big.safetensors\"]\nsource = \
                \"file:~/big.gguf\"\n[models.\"own.bin\"]\n",
                super::manifest()
            ));
            m.sh(
                "head -c 5000 /dev/urandom > /home/alice/real.gguf; mkfifo /home/alice/big.gguf; \
                chown alice /home/alice/*.gguf",
            );
            let out = m.alice(&["lock"]);
            refused(&out, "is not a regular file");
            m.sh(
                "rm /home/alice/big.gguf; mv /home/alice/real.gguf /home/alice/big.gguf; echo x > \
                /opt/ai/models/own.bin; chown alice:comfyshared /opt/ai/models/own.bin",
            );
            m.manifest(&format!(
                "{}[models.\"big.bin\"]\nsource = \"file:~/big.gguf\"\n[models.\"own.bin\"]\n",
                super::manifest()
            ));
            m.lock();
            sandbox(m, "mkfifo /opt/ai/models/big.bin");
            refused(&apply(m), "big.bin");
            m.sh("rm /opt/ai/models/big.bin");
            m.apply();
            sandbox(
                m,
                "mkfifo /opt/ai/models/dup; for i in 1 2; do head -c 70000 /dev/zero > \
                 /opt/ai/models/z$i; done",
            );
            for command in [
                &["verify"][..],
                &["plan"],
                &["dedupe", "--dry-run"],
                &["status"],
                &["gc", "--yes"],
            ] {
                let out = std::process::Command::new("timeout")
                    .args([
                        "-s",
                        "KILL",
                        "30",
                        "/opt/bin/comfy",
                        "-C",
                        "/home/alice/dot",
                    ])
                    .args(command)
                    .env("SUDO_USER", "alice")
                    .output()
                    .unwrap();
                assert!(
                    out.status.code().is_some_and(|c| c < 3),
                    "{command:?}: {:?} {}",
                    out.status,
                    said(&out)
                );
            }
            ok(&m.root(&["destroy", "--yes"]));
            assert_eq!(victims(m), before);
        },
    );
}
