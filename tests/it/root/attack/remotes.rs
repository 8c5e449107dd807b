//! Remotes that stall, break off, or send something else than was asked for.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use super::super::machine::{BASE, ok, private, said};
use super::picture;
use crate::hub::{Answer, Asked, Server, Then};
use crate::support::{borrowed, node};

/// What the server does to what git itself would answer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lie {
    None,
    /// Nothing more after these bytes of a pack.
    Stall(usize),
    /// The connection ends there; or the answer does, as if that were all.
    HangUp(usize),
    Short(usize),
    /// The pack of another commit; another byte in it.
    Other,
    Flipped(usize),
    /// No pack at all.
    Empty,
    /// No answer to the first question.
    Silent,
}

/// The server's own, where comfy finds none.
const GIT: &str = "/opt/bin/server-git";

/// git's own answer to one request (gitprotocol-http(5)).
fn honest(a: &Asked, body: &[u8]) -> Vec<u8> {
    let path = a.path.split('?').next().unwrap();
    let folder = path
        .trim_end_matches("/info/refs")
        .trim_end_matches("/git-upload-pack");
    let folder = format!("/srv/upstream{}.git", folder.trim_end_matches(".git"));
    let mut c = Command::new(GIT);
    // The files are root's here, as the server is.
    c.args([
        "-c",
        "safe.directory=*",
        "-c",
        "uploadpack.allowAnySHA1InWant=true",
        "-c",
        "uploadpack.allowFilter=true",
        "upload-pack",
        "--stateless-rpc",
    ]);
    if a.method == "GET" {
        c.arg("--http-backend-info-refs");
    }
    if let Some(v) = a.header("git-protocol") {
        c.env("GIT_PROTOCOL", v);
    }
    let mut child = c
        .arg(folder)
        .env("HOME", "/root")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(body);
    let out = child.wait_with_output().unwrap().stdout;
    if a.method == "GET" {
        [&b"001e# service=git-upload-pack\n0000"[..], &out].concat()
    } else {
        out
    }
}

/// The commit that is asked for, and the one that is sent instead.
type Commits = Arc<Mutex<(String, String)>>;

fn lying(lie: Arc<Mutex<Lie>>, commits: Commits) -> Server {
    Server::start(move |a| {
        let lie = *lie.lock().unwrap();
        let (commit, other) = commits.lock().unwrap().clone();
        let fetches = a.method == "POST" && a.body.windows(5).any(|w| w == b"want ");
        let kind = if a.method == "GET" {
            "advertisement"
        } else {
            "result"
        };
        let answer = |body: &[u8]| {
            Answer::new(200, body).header(
                "Content-Type",
                &format!("application/x-git-upload-pack-{kind}"),
            )
        };
        if lie == Lie::Silent {
            return answer(b"x").cut(0, Then::Stall);
        }
        if !fetches || lie == Lie::None {
            return answer(&honest(a, &a.body));
        }
        let body = if lie == Lie::Other {
            String::from_utf8(a.body.clone())
                .unwrap()
                .replace(&commit, &other)
                .into_bytes()
        } else {
            a.body.clone()
        };
        let mut reply = honest(a, &body);
        // Where the pack begins; libgit2 asks before what is shallow, and is answered without one.
        let Some(pack) = reply.windows(4).position(|w| w == b"PACK") else {
            return answer(if lie == Lie::Empty { b"0000" } else { &reply });
        };
        match lie {
            Lie::Stall(n) => answer(&reply).cut(pack + n, Then::Stall),
            Lie::HangUp(n) => answer(&reply).cut(pack + n, Then::HangUp),
            Lie::Short(n) => {
                reply.truncate(pack + n);
                answer(&reply)
            }
            Lie::Flipped(n) => {
                reply[pack + n] ^= 0x55;
                answer(&reply)
            }
            Lie::Empty => answer(b"0000"),
            _ => answer(&reply),
        }
    })
}

#[test]
fn a_lying_remote_changes_nothing() {
    private("attack::remotes::a_lying_remote_changes_nothing", |m| {
        m.ready();
        // The whole pack is one large file, which cannot be compressed.
        m.sh(&format!(
            "cp -L /usr/bin/git {GIT} || cp -L $(command -v git) {GIT}"
        ));
        let (lie, commits) = (Arc::new(Mutex::new(Lie::None)), Commits::default());
        let server = lying(lie.clone(), commits.clone());
        let lies = [
            Lie::Silent,
            Lie::Stall(0),
            Lie::Stall(300),
            Lie::HangUp(0),
            Lie::HangUp(300),
            Lie::HangUp(40_000),
            Lie::Short(0),
            Lie::Short(30),
            Lie::Short(40_000),
            Lie::Other,
            Lie::Flipped(11),
            Lie::Flipped(14),
            Lie::Flipped(200),
            Lie::Flipped(30_000),
            Lie::Empty,
        ];
        // With the git program, and where there is none with libgit2.
        for program in [true, false] {
            let mut tree = node(2);
            tree.push((
                "more.bin".into(),
                crate::models::noise(5 + u32::from(program), 60_000),
                0o100_644,
            ));
            // A commit that the lock does not mean, in the same repository.
            tree[0].1 = b"import evil\n".to_vec();
            let evil = m.world.commit(&borrowed(&tree));
            let version = format!("VERSION = {}\n", 30 + u32::from(program));
            tree[0].1 = version.clone().into_bytes();
            *commits.lock().unwrap() = (m.world.commit(&borrowed(&tree)), evil);
            m.env.clear();
            ok(&m.alice(&["update", "world"]));
            m.env = vec![
                (
                    "COMFY_MIRRORS".into(),
                    format!("https://github.com/={}/", server.url()),
                ),
                ("COMFY_STALL_SECONDS".into(), "1".into()),
            ];
            if !program {
                m.sh(
                    "install -m 644 /dev/null /opt/none; for d in /usr/bin /bin /usr/local/bin; \
                    do if [ -e $d/git ]; then mount --bind /opt/none $d/git; fi; done; ! git \
                    --version > /dev/null 2>&1",
                );
            }
            let before = picture(m);
            for wrong in lies
                .iter()
                .copied()
                .filter(|l| program || !matches!(l, Lie::Silent | Lie::Stall(0)))
            {
                *lie.lock().unwrap() = wrong;
                // Objects that came whole are kept, and are what their ids say.
                m.sh(&format!("rm -rf {BASE}/.staging/store"));
                let out = super::apply(m);
                let what = format!("{wrong:?} program {program}");
                assert_eq!(out.status.code(), Some(1), "{what}: {}", said(&out));
                assert!(
                    said(&out).contains("node.world: ")
                        && said(&out).contains("https://github.com/up/world"),
                    "{what}: {}",
                    said(&out)
                );
                assert!(said(&out).contains("hint: "), "{what}: {}", said(&out));
                eprintln!(
                    "{what}: {}",
                    said(&out)
                        .lines()
                        .find(|l| l.starts_with("error"))
                        .unwrap_or_default()
                );
                assert_eq!(picture(m), before, "{what}");
                m.sh(&format!(
                    "! grep -rq 'import evil' {BASE}/gen {BASE}/.staging --include=*.py"
                ));
            }
            // The same server, honest.
            *lie.lock().unwrap() = Lie::None;
            m.sh(&format!("rm -rf {BASE}/.staging/store"));
            m.apply();
            m.clean();
            assert_eq!(
                m.sh(&format!(
                    "cat {BASE}/current/ComfyUI/custom_nodes/world/__init__.py"
                )),
                version.trim()
            );
        }
        m.sh("for d in /usr/bin /bin /usr/local/bin; do umount $d/git 2> /dev/null || true; done");
    });
}
