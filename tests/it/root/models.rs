//! Models with real users: fetched under the build uid, read again and placed by root, for the
//! owner and the group.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::machine::{MANIFEST, Machine, ok, private, said};
use crate::hub::{Answer, Server};
use crate::models::noise;
use crate::support::{report_skipped, sha256};

const SHARE: &str = "/home/alice/ai/models";

/// Applied once without any model; then these are in comfy.toml.
fn declare(m: &Machine, sections: &str) {
    m.manifest(&format!("{MANIFEST}{sections}"));
}

fn is(m: &Machine, path: &str, bytes: &[u8]) {
    assert!(
        std::fs::read(Path::new(SHARE).join(path)).unwrap() == bytes,
        "{path} has other bytes"
    );
    assert_eq!(
        m.sh(&format!("stat -c '%U %G %a' {SHARE}/{path}")),
        "alice comfyshared 644",
        "{path}"
    );
    assert_eq!(
        m.sh(&format!(
            "find {SHARE} -name '.*comfy*'; ls -A /opt/comfy/comfyui_sandbox/.downloads \
            2>/dev/null || true"
        )),
        "",
        "something half done is left"
    );
}

#[test]
fn a_model_arrives_for_both_users() {
    private("models::a_model_arrives_for_both_users", |m| {
        m.sh("chmod 700 /home/alice");
        let (file, other) = (noise(1, 9 << 20), noise(2, 100_000));
        let bytes = file.clone();
        let web = Server::start(move |a| Answer::ranged(a, &bytes).header("ETag", "\"1\""));
        // One from a server, one of the owner's that nobody else can read, one that is there.
        m.sh("install -o alice -g alice -m 600 /dev/null /home/alice/private.bin");
        std::fs::write("/home/alice/private.bin", &other).unwrap();
        let web_model = format!(
            "[models.\"checkpoints/xl/a.bin\"]\nsource = \"{}/x\"\n",
            web.url()
        );
        let sections = format!("{web_model}[models.\"b.bin\"]\nsource = \"file:~/private.bin\"\n");
        declare(m, &sections);
        ok(&m.alice(&["lock"]));
        m.sh("rm -r /home/alice/.cache/comfy/models");
        web.asked();
        m.apply();
        assert!(!web.asked().is_empty());
        is(m, "checkpoints/xl/a.bin", &file);
        is(m, "b.bin", &other);
        assert_eq!(
            m.sh(&format!(
                "stat -c '%U %G %a' {SHARE}/checkpoints {SHARE}/checkpoints/xl"
            )),
            "alice comfyshared 2755\nalice comfyshared 2755"
        );
        m.clean();
        ok(&m
            .as_user(
                "comfyui_sandbox",
                "/usr/bin/cat",
                &[&format!("{SHARE}/checkpoints/xl/a.bin")],
            )
            .output()
            .unwrap());
        // What was locked by reading it is in the owner's cache, and offered from there.
        m.sh(&format!(
            "rm {SHARE}/checkpoints/xl/a.bin; rm /home/alice/dot/comfy.lock"
        ));
        ok(&m.alice(&["lock"]));
        web.asked();
        m.apply();
        assert!(web.asked().is_empty(), "it was in the owner's cache");
        is(m, "checkpoints/xl/a.bin", &file);
        // A lying cache is not believed.
        m.sh(&format!("rm {SHARE}/checkpoints/xl/a.bin"));
        std::fs::write(
            format!("/home/alice/.cache/comfy/models/{}", sha256(&file)),
            noise(9, file.len()),
        )
        .unwrap();
        m.apply();
        is(m, "checkpoints/xl/a.bin", &file);
        // Bytes that somebody changed, with size and time put back: alice reads them, root reads
        // them again, both agree.
        m.clean();
        assert_eq!(
            m.sh("cat /var/lib/comfy/comfyui_sandbox/audit.log \
            /var/lib/comfy/comfyui_sandbox/receipts/* | grep -c secret || true"),
            "0"
        );
        // Somebody else's file is no source.
        m.sh(
            "install -o mallory -g mallory -m 600 /home/alice/private.bin \
            /home/mallory/theirs.bin; chmod 755 /home/mallory",
        );
        declare(
            m,
            &format!("{web_model}[models.\"c.bin\"]\nsource = \"file:/home/mallory/theirs.bin\"\n"),
        );
        let locked = m.alice(&["lock"]);
        assert!(
            said(&locked).contains("Permission denied"),
            "{}",
            said(&locked)
        );
        let lock = std::fs::read_to_string("/home/alice/dot/comfy.lock").unwrap();
        let pin = format!(
            "\n[models.\"c.bin\"]\nsource = \"file:/home/mallory/theirs.bin\"\nsize = {}\nsha256 = \
             \"{}\"\n",
            other.len(),
            sha256(&other)
        );
        std::fs::write(
            "/home/alice/dot/comfy.lock",
            lock.replace(
                "\n[models.\"b.bin\"]",
                &format!("{pin}\n[models.\"b.bin\"]"),
            ),
        )
        .unwrap();
        m.sh(&format!("rm {SHARE}/b.bin"));
        let out = m.root(&["apply", "--yes"]);
        assert!(
            said(&out).contains("whose files are not read here"),
            "{}",
            said(&out)
        );
        assert!(!Path::new(SHARE).join("c.bin").exists());
    });
}

#[test]
fn nothing_is_lost_when_the_disk_is_full_or_closed() {
    private(
        "models::nothing_is_lost_when_the_disk_is_full_or_closed",
        |m| {
            m.ready();
            let file = noise(3, 40 << 20);
            let (bytes, fill, given) = (
                file.clone(),
                Arc::new(AtomicU64::new(0)),
                Arc::new(AtomicU64::new(0)),
            );
            let (asked, count) = (fill.clone(), given.clone());
            // With the fifth piece somebody else fills the disk.
            let web = Server::start(move |a| {
                let answer = Answer::ranged(a, &bytes);
                count.fetch_add(answer.body.len() as u64, Ordering::Relaxed);
                if asked.fetch_add(1, Ordering::Relaxed) == 5 {
                    // Down to 4 KiB, by writing until it is full.
                    let _ = std::fs::write(
                        "/opt/comfy/comfyui_sandbox/.downloads/filler",
                        vec![1; 300 << 20],
                    );
                }
                answer
            });
            declare(
                m,
                &format!(
                    "[models.\"old.bin\"]\n[models.\"sub/a.bin\"]\nsource = \"{}/x\"\n",
                    web.url()
                ),
            );
            m.sh(&format!(
                "echo old > {SHARE}/old.bin; chown alice:comfyshared {SHARE}/old.bin; \
                mkdir {SHARE}/sub; chown alice:comfyshared {SHARE}/sub; chmod 2755 {SHARE}/sub"
            ));
            ok(&m.alice(&["lock"]));
            m.sh(
                "rm -r /home/alice/.cache/comfy/models; u=$((58200 + 2 * ($(id -u \
                comfyui_sandbox) - 401))); mkdir -p /opt/comfy/comfyui_sandbox/.downloads; mount \
                -t tmpfs -o size=100m,uid=$u,gid=$u,mode=700 tmpfs \
                /opt/comfy/comfyui_sandbox/.downloads",
            );
            let before = m.picture();
            fill.store(0, Ordering::Relaxed);
            let full = m.root(&["apply", "--yes"]);
            assert!(
                full.status.code() == Some(1) && said(&full).contains("No space left on device"),
                "{}",
                said(&full)
            );
            let without = |p: &str| {
                p.lines()
                    .filter(|l| !l.contains("/.downloads"))
                    .collect::<Vec<_>>()
                    .join("\n")
            };
            assert_eq!(without(&m.picture()), without(&before), "something changed");
            // Room again: what was there is not fetched again.
            m.sh("rm /opt/comfy/comfyui_sandbox/.downloads/filler");
            given.store(0, Ordering::Relaxed);
            m.apply();
            is(m, "sub/a.bin", &file);
            assert!(
                given.load(Ordering::Relaxed) < 40 << 20,
                "all of it was fetched again"
            );
            m.clean();
            m.sh("umount /opt/comfy/comfyui_sandbox/.downloads");
            // Too little room is seen before the first byte.
            m.sh(&format!(
                "rm {SHARE}/sub/a.bin; mount -t tmpfs -o size=20m tmpfs {SHARE}/sub; \
                chown alice:comfyshared {SHARE}/sub; chmod 2755 {SHARE}/sub"
            ));
            given.store(0, Ordering::Relaxed);
            let out = m.root(&["apply", "--yes"]);
            assert!(out.status.code() == Some(1), "{}", said(&out));
            m.sh(&format!("umount {SHARE}/sub"));
            // A folder that is read-only.
            m.sh(&format!(
                "mount --bind {SHARE}/sub {SHARE}/sub; mount -o remount,bind,ro {SHARE}/sub"
            ));
            given.store(0, Ordering::Relaxed);
            let closed = m.root(&["apply", "--yes"]);
            assert!(
                said(&closed).contains(
                    "model.sub/a.bin: no file can be created in \
                     /home/alice/ai/models/sub: Read-only file system"
                ),
                "{}",
                said(&closed)
            );
            assert_eq!(
                given.load(Ordering::Relaxed),
                0,
                "it was fetched all the same"
            );
            m.sh(&format!("umount {SHARE}/sub"));
            // Another disk: copied, whole, before it is there.
            m.sh(&format!(
                "mount -t tmpfs -o size=200m tmpfs {SHARE}/sub; chown alice:comfyshared \
                {SHARE}/sub; chmod 2755 {SHARE}/sub"
            ));
            m.apply();
            is(m, "sub/a.bin", &file);
            m.clean();
            m.sh(&format!("umount {SHARE}/sub"));
        },
    );
}

#[test]
fn a_killed_apply_goes_on_with_what_was_fetched() {
    private(
        "models::a_killed_apply_goes_on_with_what_was_fetched",
        |m| {
            let file = noise(4, 40 << 20);
            let (bytes, given) = (file.clone(), Arc::new(AtomicU64::new(0)));
            let count = given.clone();
            let web = Server::start(move |a| {
                let answer = Answer::ranged(a, &bytes);
                count.fetch_add(answer.body.len() as u64, Ordering::Relaxed);
                std::thread::sleep(std::time::Duration::from_millis(60));
                answer
            });
            declare(
                m,
                &format!("[models.\"a.bin\"]\nsource = \"{}/x\"\n", web.url()),
            );
            ok(&m.alice(&["lock"]));
            m.sh("rm -r /home/alice/.cache/comfy/models");
            given.store(0, Ordering::Relaxed);
            // The whole tree of processes, in the middle; then before each step of the commit.
            let mut child = m.root_command(&["apply", "--yes"]);
            let mut child = std::os::unix::process::CommandExt::process_group(&mut child, 0)
                .spawn()
                .unwrap();
            let part = || {
                m.sh(
                    "stat -c %s /opt/comfy/comfyui_sandbox/.downloads/*.part 2>/dev/null || echo 0",
                )
                .parse::<u64>()
                .unwrap_or(0)
            };
            while part() < 15 << 20 {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            m.sh(&format!("kill -9 -{}", child.id()));
            child.wait().unwrap();
            for step in 0.. {
                let out = m
                    .root_command(&["apply", "--yes"])
                    .env("COMFY_FAULT", format!("kill:{step}"))
                    .output()
                    .unwrap();
                if out.status.success() {
                    break;
                }
            }
            is(m, "a.bin", &file);
            m.clean();
            let total = given.load(Ordering::Relaxed);
            assert!(total < 62 << 20, "{total} bytes of {}", file.len());
        },
    );
}

#[test]
fn identical_models_share_their_blocks_where_the_disk_can() {
    private(
        "models::identical_models_share_their_blocks_where_the_disk_can",
        |m| {
            m.ready();
            for (fs, make) in [("btrfs", "mkfs.btrfs -q -f"), ("xfs", "mkfs.xfs -q -f")] {
                if m.sh(&format!(
                    "command -v {} || true; grep -w {fs} /proc/filesystems || true",
                    make.split(' ').next().unwrap()
                ))
                .lines()
                .count()
                    < 2
                {
                    report_skipped(&format!("no mkfs.{fs}, or no kernel that mounts it"));
                    continue;
                }
                let used = || {
                    m.sh(&format!(
                        "sync; sync -f {SHARE}; df --output=used -B1 {SHARE} | tail -1"
                    ))
                    .trim()
                    .parse::<u64>()
                    .unwrap()
                };
                m.sh(&format!(
                "truncate -s 600M /var/tmp/disk; {make} /var/tmp/disk; mount -o loop /var/tmp/disk \
                 {SHARE}
                 head -c 40M /dev/urandom | tr x y > {SHARE}/a.bin; cp --reflink=never \
                 {SHARE}/a.bin {SHARE}/b.bin; cp --reflink=never {SHARE}/a.bin {SHARE}/c.bin
                 printf x | dd of={SHARE}/c.bin bs=1 seek=30000000 conv=notrunc status=none
                 chown -R alice:comfyshared {SHARE}; chmod 2755 {SHARE}; chmod 644 {SHARE}/*"
            ));
                let before = used();
                let dry = m.alice(&["dedupe", "--dry-run"]);
                assert!(
                    said(&dry).contains("b.bin could share /home/alice/ai/models/a.bin (40.0 MiB)")
                        && said(&dry).contains("40.0 MiB could be saved in 1 file"),
                    "{}",
                    said(&dry)
                );
                assert_eq!(used(), before);
                let done = m.alice(&["dedupe"]);
                assert!(
                    said(&done).contains("40.0 MiB saved in 1 file"),
                    "{fs}: {}",
                    said(&done)
                );
                assert!(
                    used() < before - (35 << 20),
                    "{fs}: {} of {before} are still used",
                    used()
                );
                m.sh(&format!(
                "cmp {SHARE}/a.bin {SHARE}/b.bin; [ $(stat -c %i {SHARE}/a.bin) != $(stat -c %i \
                 {SHARE}/b.bin) ]; ! cmp -s {SHARE}/a.bin {SHARE}/c.bin"
            ));
                assert!(said(&m.alice(&["dedupe"])).contains("they share their blocks already"));
                // A model that is there under another name is cloned, not copied.
                declare(
                    m,
                    "[models.\"d.bin\"]\nsource = \"file:~/ai/models/a.bin\"\n",
                );
                m.sh("rm /home/alice/dot/comfy.lock");
                ok(&m.alice(&["lock"]));
                let before = used();
                m.apply();
                is(
                    m,
                    "d.bin",
                    &std::fs::read(format!("{SHARE}/a.bin")).unwrap(),
                );
                assert!(
                    used() < before + (5 << 20),
                    "{fs}: a copy took {} bytes",
                    used() - before
                );
                m.clean();
                m.sh(&format!("umount {SHARE}; rm /var/tmp/disk"));
            }
        },
    );
}
