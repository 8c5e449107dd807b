//! A node that says more than anybody reads.

use std::process::Stdio;
use std::time::{Duration, Instant};

use super::confined::ready;
use super::machine::{ok, private, said};

/// In a thread, as fast as it can.
fn endless(line: &str) -> String {
    format!(
        "import os, threading
def flood():
    n = 0
    while True:
        n += 1
        os.write(1, ({line}).encode())
threading.Thread(target=flood, daemon=True).start()"
    )
}

#[test]
fn a_terminal_that_stalls_costs_the_owner_no_memory() {
    private(
        "queues::a_terminal_that_stalls_costs_the_owner_no_memory",
        |m| {
            ready(m, &endless("'x' * 4000 + '\\n'"), str::to_string);
            let mut c = m.root_command(&["run"]);
            let mut child = c
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            // Nobody reads what it says.
            std::thread::sleep(Duration::from_secs(5));
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
            let kib: u64 = status
                .lines()
                .find_map(|l| l.strip_prefix("VmHWM:"))
                .unwrap()
                .trim()
                .trim_end_matches(" kB")
                .parse()
                .unwrap();
            eprintln!("comfy run held at most {kib} KiB");
            let _ = child.kill();
            let _ = child.wait();
            assert!(kib < 64 << 10, "{kib} KiB");
        },
    );
}

#[test]
fn the_hints_of_a_node_without_end_are_few_and_seldom_written() {
    private(
        "queues::the_hints_of_a_node_without_end_are_few_and_seldom_written",
        |m| {
            ready(
                m,
                &endless(
                    "f\"[Errno 13] Permission denied: '/x/ComfyUI/custom_nodes/hello/m{n}'\\n\"",
                ),
                str::to_string,
            );
            let out = m.root(&["start"]);
            ok(&out);
            let path = "/var/lib/comfy/comfyui_sandbox/log/status.json";
            let (start, mut seen) = (Instant::now(), std::collections::BTreeSet::new());
            while start.elapsed() < Duration::from_secs(3) {
                let meta = std::fs::metadata(path).unwrap();
                seen.insert((
                    std::os::unix::fs::MetadataExt::ino(&meta),
                    std::os::unix::fs::MetadataExt::mtime_nsec(&meta),
                ));
                std::thread::sleep(Duration::from_millis(20));
            }
            let text = std::fs::read_to_string(path).unwrap();
            let status: serde_json::Value = serde_json::from_str(&text).unwrap();
            ok(&m.root(&["stop"]));
            assert!(seen.len() <= 5, "{} versions in 3 seconds", seen.len());
            assert_eq!(status["hints"].as_array().unwrap().len(), 20, "{text}");
            assert!(
                status["more"].as_u64().unwrap() > 1000 && text.len() < 8192,
                "{text}"
            );
            // Nothing of it is comfy's own advice.
            assert!(
                said(&out).contains(
                    "hint: ComfyUI reports that node.hello tried to write m1: if you agree"
                ),
                "{}",
                said(&out)
            );
            assert!(
                said(&out).contains(" more in the log") && !said(&out).contains("requirements = ["),
                "{}",
                said(&out)
            );
        },
    );
}
