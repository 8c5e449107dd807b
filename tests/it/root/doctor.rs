//! `comfy doctor`, on a machine that holds and on one that does not.

use super::confined::ready;
use super::machine::{Machine, ok, private, said};

fn broken(m: &Machine) -> Vec<String> {
    let out = m.root(&["doctor", "--json"]);
    let json: serde_json::Value =
        serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(&out)));
    let probes = json["data"]["probes"].as_array().unwrap();
    let broken: Vec<String> = probes
        .iter()
        .filter(|p| p["outcome"] == "broken")
        .map(|p| {
            format!(
                "{} {}",
                p["id"].as_str().unwrap(),
                p["detail"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        out.status.code(),
        Some(if broken.is_empty() { 0 } else { 2 }),
        "{}",
        said(&out)
    );
    assert!(
        probes
            .iter()
            .all(|p| p["mend"].is_null() == (p["outcome"] != "broken")),
        "{json:#}"
    );
    broken
}

#[test]
fn what_holds_is_held_and_what_is_opened_is_found() {
    private(
        "doctor::what_holds_is_held_and_what_is_opened_is_found",
        |m| {
            m.sh(
                "chmod 700 /home/alice; chmod 700 /home/mallory; install -d -o alice -m 700 \
                /home/alice/.ssh; echo key > /home/alice/.ssh/id; echo x > \
                /home/alice/.bash_history
              mkdir -p /home/alice/Documents /home/alice/.mozilla; chown -R alice /home/alice/.ssh \
                /home/alice/.bash_history; chmod 600 /home/alice/.bash_history; chmod 700 \
                /home/alice/Documents /home/alice/.mozilla
              touch /etc/cron.deny /etc/at.deny; echo comfyui_sandbox | tee /etc/cron.deny > \
                /etc/at.deny",
            );
            ready(m, "", |t| t.into());
            m.sh(
                "echo model > /home/alice/ai/models/m.safetensors; chown alice:comfyshared \
                /home/alice/ai/models/m.safetensors; chmod 640 \
                /home/alice/ai/models/m.safetensors",
            );
            assert_eq!(broken(m), Vec::<String>::new());
            let out = m.root(&["doctor"]);
            let text = said(&out);
            for line in [
                "blocked  read your keys and passwords",
                "blocked  reach the internet",
                "blocked  reach another service on this machine",
                "blocked  be reached from outside its own network",
                "untried  let another user of this machine in (ComfyUI is not running: `comfy \
                 start`)",
            ] {
                assert!(text.contains(line), "{line}\n{text}");
            }
            // The page for an issue: what the machine does, and not whose it is.
            let out = m.root(&["doctor", "--report"]);
            let page = String::from_utf8_lossy(&out.stdout).into_owned();
            for line in [
                "own uid by connection   told",
                "confined, in a session of its own:\n  names.localhost",
                "broken                  none",
            ] {
                assert!(page.contains(line), "{line}\n{}", said(&out));
            }
            for word in ["alice", "/home", "comfyui_sandbox", "/opt/comfy"] {
                assert!(!page.contains(word), "{word}\n{page}");
            }
            // Running, its port is tried as somebody else.
            ok(&m.root(&["start"]));
            assert!(
                said(&m.root(&["doctor"])).contains("blocked  let another user of this machine in")
            );
            ok(&m.alice(&["stop"]));
            m.clean();
            // Opened one by one, each is found, and nothing else.
            let opened = [
                (
                    "chmod 755 /home/mallory",
                    "chmod 700 /home/mallory",
                    "read.homes with the account alone: /home/mallory",
                ),
                (
                    "chmod 755 /home/alice/.ssh",
                    "chmod 700 /home/alice/.ssh",
                    "read.keys with the account alone: /home/alice/.ssh",
                ),
                (
                    "chmod 660 /home/alice/ai/models/m.safetensors",
                    "chmod 640 /home/alice/ai/models/m.safetensors",
                    "write.models with the account alone: /home/alice/ai/models/m.safetensors",
                ),
                (
                    "groupadd -f docker; usermod -aG docker comfyui_sandbox",
                    "gpasswd -d comfyui_sandbox docker",
                    "root.groups",
                ),
                (
                    "chmod 777 /opt/comfy/comfyui_sandbox/gen",
                    "chmod 755 /opt/comfy/comfyui_sandbox/gen",
                    "write.code",
                ),
            ];
            for (open, close, told) in opened {
                m.sh(open);
                let found = broken(m);
                m.sh(close);
                assert!(
                    found.iter().any(|f| f.starts_with(told)),
                    "{open}: {found:?}"
                );
                assert!(
                    found
                        .iter()
                        .all(|f| f.split(' ').next() == told.split(' ').next()),
                    "{open}: {found:?}"
                );
            }
            assert_eq!(broken(m), Vec::<String>::new());
        },
    );
}
