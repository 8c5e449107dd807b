//! Objects from a real S3 server, with its signatures switched on: s3s-fs, which COMFY_S3S_FS
//! names.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::models::{World, model, noise};
use crate::support::{report_skipped, sha256};

/// The server; `None` where it is not installed, which is said, and a failure where it must run.
fn program() -> Option<PathBuf> {
    let found = std::env::var_os("COMFY_S3S_FS")
        .map(PathBuf::from)
        .filter(|p| p.exists());
    if found.is_none() {
        assert_ne!(
            std::env::var("COMFY_TEST_STORE").as_deref(),
            Ok("required"),
            "COMFY_S3S_FS must name s3s-fs"
        );
        report_skipped(
            "no S3 server; `cargo install --locked s3s-fs@0.14.1 --features binary`, and \
             COMFY_S3S_FS=its path",
        );
    }
    found
}

struct Store {
    child: Child,
    port: u16,
}

impl Store {
    fn start(program: &Path, root: &Path) -> Store {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let args = [
            "--host",
            "127.0.0.1",
            "--port",
            &port.to_string(),
            "--access-key",
            "key",
            "--secret-key",
            "hidden",
        ];
        let child = Command::new(program)
            .args(args)
            .arg(root)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let store = Store { child, port };
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        store
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A line to the store that is cut after so many bytes of an answer, again and again; how many came
/// through.
struct Line {
    port: u16,
    most: Arc<AtomicU64>,
    given: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
}

impl Line {
    fn to(port: u16) -> Line {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let line = Line {
            port: listener.local_addr().unwrap().port(),
            most: Arc::new(u64::MAX.into()),
            given: Arc::default(),
            end: Arc::default(),
        };
        let (most, given, end) = (line.most.clone(), line.given.clone(), line.end.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else {
                    return;
                };
                let (up, down) = (
                    (client.try_clone().unwrap(), server.try_clone().unwrap()),
                    (server, client),
                );
                std::thread::spawn(move || relay(up.0, up.1, u64::MAX, &AtomicU64::new(0)));
                let (most, given) = (most.load(Ordering::Relaxed), given.clone());
                std::thread::spawn(move || relay(down.0, down.1, most, &given));
            }
        });
        line
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn relay(mut from: TcpStream, mut to: TcpStream, most: u64, given: &AtomicU64) {
    let mut block = vec![0; 64 << 10];
    let mut left = most;
    while let Ok(n @ 1..) = from.read(&mut block) {
        let n = n.min(usize::try_from(left).unwrap_or(n));
        given.fetch_add(n as u64, Ordering::Relaxed);
        if to.write_all(&block[..n]).is_err() {
            break;
        }
        left -= n as u64;
        if left == 0 {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

#[test]
fn a_real_store_gives_its_objects_to_who_has_the_key() {
    let Some(program) = program() else { return };
    let file = noise(50, 20 << 20);
    let temp = tempfile::tempdir().unwrap();
    for key in ["dir/x.bin", "dir ü/x y+z%20.bin"] {
        let at = temp.path().join("bucket").join(key);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, &file).unwrap();
    }
    let store = Store::start(&program, temp.path());
    let line = Line::to(store.port);
    let w = World::new()
        .env("COMFY_STALL_SECONDS", "20")
        .env("AWS_ENDPOINT_URL", &line.url())
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "key");
    w.models(&model("a.bin", "s3://bucket/dir/x.bin"));
    for (name, value) in [("AWS_IGNORED", ""), ("AWS_SECRET_ACCESS_KEY", "guessed")] {
        let said = w.command(&["lock"]).env(name, value).output().unwrap();
        let said = crate::support::text(&said, &w.root);
        assert!(
            said.contains("/bucket/dir/x.bin answers 403")
                && said.contains("keys are AWS_ACCESS_KEY_ID")
                && !said.contains("guessed"),
            "{value}: {said}"
        );
    }
    let w = w.env("AWS_SECRET_ACCESS_KEY", "hidden");
    w.models(&model("a.bin", "s3://bucket/gone.bin"));
    assert!(w.fails(&["lock"]).contains("answers 404"));
    w.models(
        &(model("a.bin", "s3://bucket/dir/x.bin")
            + &model("b.bin", "s3://bucket/dir ü/x y+z%20.bin")),
    );
    w.ok(&["lock"]);
    for name in ["a.bin", "b.bin"] {
        assert_eq!(
            (
                w.pin(name)["sha256"].as_str(),
                w.pin(name)["size"].as_integer()
            ),
            (Some(sha256(&file).as_str()), Some(20 << 20)),
            "{name}"
        );
    }
    // Every line breaks in the middle of a piece: what came is kept, and what is asked again is the
    // rest.
    fs::remove_dir_all(w.root.join("home/.cache/comfy/models")).unwrap();
    line.most.store(3 << 20, Ordering::Relaxed);
    line.given.store(0, Ordering::Relaxed);
    w.ok(&["apply", "--yes"]);
    w.is("a.bin", &file);
    w.is("b.bin", &file);
    let given = line.given.load(Ordering::Relaxed);
    assert!(
        given < 60 << 20,
        "{given} bytes for one file of {}",
        file.len()
    );
    let grep = Command::new("grep")
        .args(["-rE", "hidden|X-Amz", "project", "prefix"])
        .current_dir(&w.root)
        .output()
        .unwrap();
    assert_eq!(
        grep.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&grep.stdout)
    );
}
