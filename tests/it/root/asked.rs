//! What comfy.toml may ask of root: a place, an account, a folder or a file that is somebody else's
//! is refused, however it is written.

use super::machine::{BASE, MANIFEST, Machine, ok, private, said};

/// What `plan` says where it ends with 1, or shows something that is blocked.
fn refused(m: &Machine, words: &str) {
    let text = said(&m.alice(&["plan"]));
    assert!(text.contains(words), "not `{words}` in:\n{text}");
    let out = m.root(&["apply", "--yes"]);
    assert!(
        out.status.code() == Some(1) && said(&out).contains(words),
        "not `{words}` in:\n{}",
        said(&out)
    );
}

#[test]
fn a_view_is_never_where_something_is_run_from() {
    private("asked::a_view_is_never_where_something_is_run_from", |m| {
        // The content of the view would be a unit, a script of every login, a program: third-party
        // bytes that root or alice runs.
        m.sh(
            "mkdir -p /etc/profile.d /etc/systemd/system; install -d -o alice -g alice /srv/alice \
            /home/alice/far; install -d -o root /srv/roots; chown alice:alice /home/alice
              install -d -o alice -g alice -m 775 /srv/open; groupadd team; usermod -aG team \
            mallory; chgrp team /srv/open
              cd /home/alice; ln -s /etc/profile.d etc; ln -s .config settings; ln -s /srv/alice \
            near; mkdir .config; chown -hR alice: etc settings near .config",
        );
        m.lock();
        let before = m.sh(
            "find /etc /srv /home -path /home/alice/dot -prune -o -path '*/.cache' \
            -prune -o -printf '%p %U %l\\n' | sort",
        );
        let view = |path: &str| m.manifest(&MANIFEST.replace("~/ComfyUI", path));
        for (path, words) in [
            (
                "/etc/systemd/system/cron.service.d",
                "comfy.toml:6:1: view /etc/systemd/system/cron.service.d belongs to the system",
            ),
            ("/usr/local/bin/x", "belongs to the system"),
            (
                "~/.config/fish/conf.d",
                "comfy.toml:6:1: view /home/alice/.config/fish/conf.d is in a hidden folder of \
                 your home",
            ),
            (
                "/home/alice/.local/bin",
                "is in a hidden folder of your home",
            ),
            ("~/repo/.git/hooks", "is in a hidden folder of your home"),
            ("~/bin", "is a folder where shells look for programs"),
            (
                "~/etc/x.sh",
                "/home/alice/etc/x.sh leads to /etc/profile.d/x.sh, which belongs to the system",
            ),
            (
                "~/settings/fish",
                "/home/alice/settings/fish leads to /home/alice/.config/fish, which is in a \
                 hidden folder",
            ),
            (
                "/srv/roots/view",
                "/srv/roots/view, and the folder /srv/roots is root's, not alice's",
            ),
            ("/srv/new/view", "the folder /srv is root's, not alice's"),
            (
                "/home/mallory/view",
                "the folder /home/mallory is mallory's, not alice's",
            ),
            (
                "/srv/open/view",
                "the folder /srv/open can be written by others",
            ),
        ] {
            view(path);
            refused(m, words);
        }
        assert_eq!(
            m.sh(
                "find /etc /srv /home -path /home/alice/dot -prune -o -path '*/.cache' \
            -prune -o -printf '%p %U %l\\n' | sort"
            ),
            before
        );
        // Behind a link of alice's to a folder of alice's it is what she wants.
        view("~/near/deep/ComfyUI");
        m.apply();
        m.clean();
        assert_eq!(
            m.sh("stat -c '%U %N' /srv/alice/deep/ComfyUI; stat -c %U /srv/alice/deep"),
            format!("alice '/srv/alice/deep/ComfyUI' -> '{BASE}/current/ComfyUI'\nalice")
        );
        view("~/ComfyUI");
        m.apply();
        m.clean();
        assert_eq!(
            m.sh("ls -A /srv/alice/deep; stat -c %U /home/alice/ComfyUI"),
            "alice"
        );
        ok(&m.root(&["destroy", "--yes"]));
        assert_eq!(m.sh("ls /home/alice/ComfyUI 2> /dev/null || true"), "");
    });
}

#[test]
fn what_is_somebody_elses_is_not_adopted() {
    private("asked::what_is_somebody_elses_is_not_adopted", |m| {
        m.sh(
            "useradd -r -d /var/lib/db -s /usr/sbin/nologin db; groupadd -g 145 devices; usermod \
            -aG devices alice; groupadd team; usermod -aG team mallory
              useradd -r -M -d /home/svc -s /usr/sbin/nologin svc; groupadd -g 146 things; getent \
            group video > /dev/null || groupadd -g 44 video; usermod -aG video alice
              useradd -M -d /home/quiet -s /usr/sbin/nologin quiet; gpasswd -M alice,quiet video; \
            groupadd -g 504 pair; gpasswd -M alice,quiet pair; groupadd fresh; getent passwd \
            backup > /dev/null || useradd -r -d /var/backups -s /usr/sbin/nologin backup",
        );
        m.lock();
        let mut service = m.as_user("svc", "/bin/sleep", &["600"]).spawn().unwrap();
        let host = |lines: &str| {
            m.manifest(&MANIFEST.replace("[comfyui]", &format!("[host]\n{lines}\n\n[comfyui]")))
        };
        let before = m.sh("cat /etc/passwd /etc/group");
        for (lines, words) in [
            (
                "group = \"alice\"",
                "comfy.toml:4:1: group.alice is the primary group of alice: the sandbox could read \
                 every file of yours",
            ),
            (
                "group = \"mallory\"",
                "group.mallory is the primary group of mallory",
            ),
            ("group = \"db\"", "group.db is the primary group of db"),
            // Exactly these two are in it, and it is the graphics cards' all the same.
            (
                "group = \"video\"\nsandbox_user = \"quiet\"",
                "which is in the range of system groups",
            ),
            (
                "group = \"devices\"",
                "group.devices has gid 145, which is in the range of system groups",
            ),
            (
                "group = \"things\"",
                "group.things has gid 146, which is in the range of system groups",
            ),
            ("group = \"team\"", "group.team has other members: mallory"),
            // Its own group is there, and its account is not.
            (
                "sandbox_user = \"things\"",
                "comfy.toml:4:1: group.things has gid 146",
            ),
            (
                "sandbox_user = \"team\"",
                "group.team has other members: mallory",
            ),
            (
                "sandbox_user = \"mallory\"",
                "comfy.toml:4:1: user.mallory has the shell /bin/bash: it is somebody else's account",
            ),
            (
                "sandbox_user = \"backup\"",
                "user.backup has its home at /var/backups",
            ),
            (
                "sandbox_user = \"db\"",
                "user.db has its home at /var/lib/db",
            ),
            ("sandbox_user = \"svc\"", "user.svc runs 1 program"),
            (
                "sandbox_user = \"mallory\"\nadopt = \"yes\"",
                "comfy.toml:5:9: expected true or false, found \"yes\"",
            ),
            // A word for the account is none for somebody's group.
            (
                "group = \"db\"\nadopt = true",
                "group.db is the primary group of db",
            ),
        ] {
            host(lines);
            refused(m, words);
        }
        service.kill().unwrap();
        service.wait().unwrap();
        assert_eq!(m.sh("cat /etc/passwd /etc/group"), before);
        for lines in [
            "group = \"fresh\"",
            "sandbox_user = \"quiet\"",
            "group = \"pair\"\nsandbox_user = \"quiet\"",
            "sandbox_user = \"svc\"",
        ] {
            host(lines);
            let text = said(&m.alice(&["plan"]));
            assert!(
                text.contains("adopted: it existed before") || text.contains("Plan: "),
                "{lines}: {text}"
            );
            assert!(!text.contains("error"), "{lines}: {text}");
        }
        host("sandbox_user = \"mallory\"\nadopt = true");
        let text = said(&m.alice(&["plan"]));
        assert!(
            text.contains("adopted because host.adopt = true")
                && text.contains("\"/bin/bash\" -> \"no login\""),
            "{text}"
        );
        host("group = \"pair\"\nsandbox_user = \"quiet\"");
        m.apply();
        m.clean();
    });
}

#[test]
fn a_share_never_takes_over_what_root_keeps() {
    private("asked::a_share_never_takes_over_what_root_keeps", |m| {
        m.sh(
            "mkdir -p /opt/tools/lib /srv/empty; echo '#!/bin/sh' > /opt/tools/lib/tool; chmod \
            755 /opt/tools/lib/tool; mkdir -p /opt/tools/bin; cp /opt/tools/lib/tool /opt/tools/bin
              install -d -o mallory -g mallory /srv/mallorys; ln -s /opt/tools/lib \
            /home/alice/lib; chown -h alice /home/alice/lib",
        );
        m.lock();
        let before = m.sh("find /opt/tools /srv/mallorys -printf '%p %U %G %m\\n' | sort");
        let share = |path: &str| m.manifest(&MANIFEST.replace("~/ai/output", path));
        for (path, words) in [
            (
                "/opt/tools/lib",
                "/opt/tools/lib belongs to root and holds 1 entry: comfy does not take it over; \
                 check it, and if it is yours, run: sudo chown alice '/opt/tools/lib'",
            ),
            ("~/lib", "/opt/tools/lib belongs to root and holds 1 entry"),
            (
                "/srv/mallorys",
                "/srv/mallorys belongs to mallory and holds 0 entries",
            ),
            (
                "/opt/tools/bin",
                "/opt/tools/bin is a folder where shells look for programs",
            ),
        ] {
            share(path);
            refused(m, words);
        }
        assert_eq!(
            m.sh("find /opt/tools /srv/mallorys -printf '%p %U %G %m\\n' | sort"),
            before
        );
        // An empty one is what `sudo mkdir` leaves; and after the chown the folder is alice's,
        // while root's file in it stays root's.
        for (path, then) in [
            ("/srv/empty", "true"),
            ("/opt/tools/lib", "chown alice /opt/tools/lib"),
        ] {
            m.sh(then);
            share(path);
            m.apply();
            assert_eq!(
                m.sh(&format!("stat -c '%U %G %a' {path}")),
                "alice comfyshared 2775"
            );
        }
        assert_eq!(
            m.sh("stat -c '%U %G %a' /opt/tools/lib/tool"),
            "root root 755"
        );
    });
}

#[test]
fn a_model_of_the_disk_is_no_key_wherever_a_link_leads() {
    private(
        "asked::a_model_of_the_disk_is_no_key_wherever_a_link_leads",
        |m| {
            m.sh("cd /home/alice; mkdir -p .ssh ai/models far \
                .cache/huggingface/hub/models--org--x/blobs \
                .cache/huggingface/hub/models--org--x/snapshots/main
              echo secret > .ssh/id_ed25519; echo secret > far/passwords.kdbx; ln -s \
                /home/alice/.ssh/id_ed25519 far/x.bin; ln -s .ssh keys; cp .ssh/id_ed25519 \
                .ssh/y.bin; ln -s passwords.kdbx far/z.bin
              echo weights > far/own.bin; h=$(sha256sum far/own.bin | cut -d' ' -f1); cp \
                far/own.bin .cache/huggingface/hub/models--org--x/blobs/$h
              ln -s ../../blobs/$h \
                .cache/huggingface/hub/models--org--x/snapshots/main/model.safetensors.index.json; \
                chown -hR alice: .ssh ai far .cache keys");
            m.lock();
            let model = |source: &str| {
                m.manifest(&format!(
                    "{MANIFEST}\n[models.\"a.bin\"]\nsource = \"file:{source}\"\n"
                ))
            };
            for (source, words) in [
                (
                    "~/.ssh/id_ed25519",
                    "source \"file:~/.ssh/id_ed25519\" is in a hidden folder of your home",
                ),
                (
                    "/home/alice/.ssh/y.bin",
                    "model \"a.bin\": /home/alice/.ssh/y.bin is in a hidden folder of your home",
                ),
                (
                    "~/keys/y.bin",
                    "/home/alice/keys/y.bin leads to /home/alice/.ssh/y.bin, which is in a \
                     hidden folder of your home",
                ),
                (
                    "~/far/x.bin",
                    "/home/alice/far/x.bin leads to /home/alice/.ssh/id_ed25519, which is in a \
                     hidden folder of your home",
                ),
                (
                    "~/far/z.bin",
                    "/home/alice/far/z.bin leads to /home/alice/far/passwords.kdbx, which does not have the extension of a model",
                ),
            ] {
                model(source);
                let out = m.alice(&["lock"]);
                assert!(
                    out.status.code() == Some(1) && said(&out).contains(words),
                    "not `{words}` in:\n{}",
                    said(&out)
                );
            }
            // A link that was none when it was locked, to the same bytes.
            model("~/far/own.bin");
            m.lock();
            m.sh(
                "cd /home/alice; mv far/own.bin .ssh/own.bin; ln -s /home/alice/.ssh/own.bin \
                far/own.bin; chown -h alice far/own.bin",
            );
            let out = m.root(&["apply", "--yes"]);
            assert!(
                out.status.code() == Some(1)
                    && said(&out).contains(
                        "/home/alice/far/own.bin leads to \
                /home/alice/.ssh/own.bin, which is in a hidden"
                    ),
                "{}",
                said(&out)
            );
            assert_eq!(m.sh("find /home/alice/ai -type f"), "");
            // Hugging Face's cache is of links to files that are called by their hash.
            model(
                "~/.cache/huggingface/hub/models--org--x/snapshots/main/model.safetensors.index.json",
            );
            m.lock();
            m.apply();
            m.clean();
            assert_eq!(m.sh("cat /home/alice/ai/models/a.bin"), "weights");
        },
    );
}

/// Answers every request with a redirect to the same path of `to`, or with nothing, and counts
/// them.
fn sender(at: &str, to: Option<&'static str>) -> std::sync::Arc<std::sync::atomic::AtomicUsize> {
    use std::io::{BufRead, Write};
    let (listener, count) = (
        std::net::TcpListener::bind(at).unwrap(),
        std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0)),
    );
    let asked = count.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let mut lines = std::io::BufReader::new(stream.try_clone().unwrap())
                .lines()
                .map_while(Result::ok)
                .take_while(|l| !l.is_empty());
            let path = lines
                .next()
                .and_then(|l| Some(l.split(' ').nth(1)?.to_string()))
                .unwrap_or_default();
            lines.for_each(drop);
            let answer = to.map_or("404 Not Found".into(), |to| {
                format!("302 Found\r\nLocation: {to}{path}")
            });
            let _ = write!(
                stream,
                "HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
    });
    count
}

#[test]
fn a_server_cannot_send_comfy_to_this_machines_own_services() {
    private(
        "asked::a_server_cannot_send_comfy_to_this_machines_own_services",
        |m| {
            // Addresses that are the machine's and not loopback stand for the internet.
            m.sh(
                "ip addr add 10.9.9.9/32 dev lo; ip addr add 10.9.9.8/32 dev lo; echo '127.0.0.1 \
                home.evil.test' >> /etc/hosts",
            );
            let service = sender("0.0.0.0:9000", None);
            let asked = || service.swap(0, std::sync::atomic::Ordering::SeqCst);
            for (at, to, follows) in [
                ("10.9.9.9:8001", "http://127.0.0.1:9000", false),
                ("10.9.9.9:8002", "http://localhost:9000", false),
                // A name of somebody else's that leads here, and a number that only a resolver
                // understands.
                ("10.9.9.9:8003", "http://home.evil.test:9000", false),
                ("10.9.9.9:8004", "http://127.1:9000", false),
                ("10.9.9.9:8006", "http://10.9.9.8:9000", false),
                ("127.0.0.1:8005", "http://127.0.0.1:9000", true),
            ] {
                let (first, net, page) = (
                    sender(at, Some(to)),
                    comfy::host::net::NetEnv::default(),
                    format!("http://{at}/x"),
                );
                for agent in [
                    comfy::host::net::http::agent_for(&net, "test", &page),
                    comfy::host::net::http::of_packages(&net, &page, &page),
                ] {
                    let told = format!("{:?}", agent.get(&page).call());
                    assert_eq!(
                        first.swap(0, std::sync::atomic::Ordering::SeqCst),
                        1,
                        "{at}: {told}"
                    );
                    assert_eq!(asked() > 0, follows, "{at}: {told}");
                    assert_eq!(
                        told.contains("is this machine, but the first address is not"),
                        !follows,
                        "{at}: {told}"
                    );
                }
            }
        },
    );
}
