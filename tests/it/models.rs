//! Models from outside: real servers on loopback, real files, comfy as a child process.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::hub::{Answer, Asked, Server, Then, huggingface};
use crate::support::{CORE, Upstream, command, python, sha256, text};

/// Bytes that look like no other's, and are no safetensors.
pub fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(2_654_435_761).max(1);
    let mut step = || {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        x
    };
    (0..length.div_ceil(4))
        .flat_map(|_| step().to_le_bytes())
        .take(length)
        .collect()
}

/// A project under isolation "none", with one share of models.
pub struct World {
    pub root: PathBuf,
    env: Vec<(String, String)>,
    _temp: tempfile::TempDir,
}

impl World {
    pub fn new() -> World {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        let up = Upstream::new(&root.join("upstream"), "up/ComfyUI");
        up.commit(CORE);
        fs::create_dir_all(root.join("project")).unwrap();
        fs::create_dir_all(root.join("share")).unwrap();
        let w = World {
            root,
            env: vec![("COMFY_STALL_SECONDS".into(), "1".into())],
            _temp: temp,
        };
        w.models("");
        w
    }

    pub fn env(mut self, name: &str, value: &str) -> World {
        self.env.push((name.into(), value.into()));
        self
    }

    /// comfy.toml, with these sections at its end.
    pub fn models(&self, sections: &str) {
        let root = self.root.display();
        let text = format!(
            "version = 1\n[host]\nisolation = \"none\"\nprefix = \
             \"{root}/prefix\"\n[comfyui]\nrepo = \"https://github.com/up/ComfyUI\"\nref = \
             \"main\"\n\
             [python]\nversion = \"{}\"\n[shares.models]\npath = \"{root}/share\"\nmount = \
             \"models\"\n{sections}",
            python()
        );
        fs::write(self.root.join("project/comfy.toml"), text).unwrap();
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut c = command(&self.root);
        c.current_dir(&self.root)
            .args(["-C", "project"])
            .args(args)
            .stdin(Stdio::null())
            .envs(self.env.iter().cloned());
        c
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// What it says, where it ends well.
    pub fn ok(&self, args: &[&str]) -> String {
        let out = self.run(args);
        let said = text(&out, &self.root);
        assert!(out.status.success(), "{args:?}: {said}");
        said
    }

    /// What it says, where it ends with 1.
    pub fn fails(&self, args: &[&str]) -> String {
        let out = self.run(args);
        let said = text(&out, &self.root);
        assert_eq!(out.status.code(), Some(1), "{args:?}: {said}");
        said
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join("share").join(path)
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        let at = self.at(path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, bytes).unwrap();
    }

    /// The pin of a model.
    pub fn pin(&self, path: &str) -> toml::Table {
        let lock: toml::Table = fs::read_to_string(self.root.join("project/comfy.lock"))
            .unwrap()
            .parse()
            .unwrap();
        lock["models"][path].as_table().unwrap().clone()
    }

    /// The lock says another hash, or another size.
    fn edit_lock(&self, from: &str, to: &str) {
        let path = self.root.join("project/comfy.lock");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}\n{text}");
        fs::write(path, text.replace(from, to)).unwrap();
    }

    pub fn is(&self, path: &str, bytes: &[u8]) {
        assert!(
            fs::read(self.at(path)).unwrap() == bytes,
            "{path} has other bytes"
        );
        assert_eq!(
            fs::metadata(self.at(path)).unwrap().permissions().mode() & 0o7777,
            0o644,
            "{path}"
        );
        self.tidy();
    }

    /// Nothing half done is left in the share.
    fn tidy(&self) {
        let mut todo = vec![self.root.join("share")];
        while let Some(folder) = todo.pop() {
            for e in fs::read_dir(folder).unwrap().flatten() {
                assert!(
                    !e.file_name().to_string_lossy().contains(".comfy-"),
                    "{}",
                    e.path().display()
                );
                if e.file_type().unwrap().is_dir() {
                    todo.push(e.path());
                }
            }
        }
    }

    fn clean(&self) {
        let out = self.run(&["plan", "--exit-code"]);
        assert_eq!(out.status.code(), Some(0), "{}", text(&out, &self.root));
    }
}

pub fn model(path: &str, source: &str) -> String {
    format!("[models.\"{path}\"]\nsource = \"{source}\"\n")
}

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

#[test]
fn a_hub_tells_the_hash_and_the_bytes_are_held_to_it() {
    let big = noise(1, 9 << 20);
    let bytes = big.clone();
    let storage = Server::start(move |a| Answer::ranged(a, &bytes));
    let hub = Server::start(huggingface(
        vec![
            ("dir/big.safetensors.bin", big.clone()),
            ("small.bin", b"small".to_vec()),
        ],
        storage.url(),
        COMMIT,
    ));
    let w = World::new()
        .env("HF_ENDPOINT", &hub.url())
        .env("HF_TOKEN", "hf_secret");
    w.models(
        &(model(
            "checkpoints/big.bin",
            "hf://org/repo/dir/big.safetensors.bin@main",
        ) + &model("small.bin", "hf://org/repo/small.bin")),
    );
    let said = w.ok(&["lock"]);
    assert!(said.contains("Added checkpoints/big.bin"), "{said}");
    let pin = w.pin("checkpoints/big.bin");
    assert_eq!(pin["revision"].as_str(), Some(COMMIT));
    assert_eq!(
        (
            pin["sha256"].as_str().unwrap(),
            pin["size"].as_integer().unwrap()
        ),
        (sha256(&big).as_str(), 9 << 20)
    );
    assert!(
        storage.asked().is_empty(),
        "the hash is told: nothing is fetched to lock it"
    );
    assert!(
        hub.asked()
            .iter()
            .all(|a| a.header("authorization") == Some("Bearer hf_secret"))
    );
    let plan = w.ok(&["plan"]);
    assert!(
        plan.contains("# model.checkpoints/big.bin will be created")
            && plan.contains("2 models (9.0 MiB)"),
        "{plan}"
    );
    w.ok(&["apply", "--yes"]);
    w.is("checkpoints/big.bin", &big);
    w.is("small.bin", b"small");
    w.clean();
    let there = storage.asked();
    assert!(
        !there.is_empty() && there.iter().all(|a| a.header("authorization").is_none()),
        "a key followed a redirect to another server"
    );
    assert!(
        hub.asked()
            .iter()
            .all(|a| a.method == "GET" && a.path.contains(COMMIT)),
        "fetched at the pinned commit"
    );
    for place in ["project", "prefix"] {
        let grep = Command::new("grep")
            .args(["-r", "hf_secret", place])
            .current_dir(&w.root)
            .output()
            .unwrap();
        assert_eq!(
            grep.status.code(),
            Some(1),
            "a key was written down: {}",
            String::from_utf8_lossy(&grep.stdout)
        );
    }
    // Again: nothing is asked of anybody.
    w.ok(&["apply", "--yes"]);
    w.ok(&["lock"]);
    assert!(storage.asked().is_empty() && hub.asked().is_empty());
}

#[test]
fn what_is_on_this_machine_is_never_fetched() {
    let (one, two) = (noise(2, 300_000), noise(3, 300_000));
    let bytes = one.clone();
    let web = Server::start(move |a| Answer::ranged(a, &bytes).header("ETag", "\"v1\""));
    let w = World::new();
    // Locking has to read it, and keeps what it has read.
    w.models(&model("a.bin", &format!("{}/x", web.url())));
    w.ok(&["lock"]);
    assert_eq!(w.pin("a.bin")["etag"].as_str(), Some("v1"));
    web.asked();
    w.ok(&["apply", "--yes"]);
    assert!(
        web.asked().is_empty(),
        "what `lock` fetched was fetched again"
    );
    w.is("a.bin", &one);
    // A second place of the same content; a file beside the shares; one that is there already.
    fs::write(w.root.join("elsewhere.bin"), &two).unwrap();
    w.put("mine/c.bin", b"my own");
    let sections = model("a.bin", &format!("{}/x", web.url()))
        + &model("deep/er/b.bin", &format!("{}/x", web.url()))
        + &model("d.bin", &format!("file:{}/elsewhere.bin", w.root.display()));
    w.models(&(sections + "[models.\"mine/c.bin\"]\n"));
    w.ok(&["lock"]);
    fs::remove_dir_all(w.root.join("home/.cache/comfy/models")).unwrap();
    web.asked();
    w.ok(&["apply", "--yes"]);
    assert!(
        web.asked().is_empty(),
        "it was in the share under another name"
    );
    w.is("deep/er/b.bin", &one);
    w.is("d.bin", &two);
    w.clean();
    assert_ne!(
        fs::metadata(w.at("a.bin")).unwrap().ino(),
        fs::metadata(w.at("deep/er/b.bin")).unwrap().ino(),
        "never a hard link"
    );
    // One that comfy.toml does not name is counted.
    w.put("loras/unknown.safetensors", &noise(4, 1000));
    let plan = w.ok(&["plan"]);
    assert!(
        plan.contains("1 model (1000 B) not declared in comfy.toml"),
        "{plan}"
    );
    assert!(
        !plan.contains("loras/unknown")
            && w.ok(&["plan", "-v"])
                .contains("models: loras/unknown.safetensors")
    );
    let json: serde_json::Value =
        serde_json::from_slice(&w.run(&["plan", "--json"]).stdout).unwrap();
    let none = serde_json::json!({ "count": 0, "bytes": 0 });
    assert_eq!(
        json["data"]["models"],
        serde_json::json!({ "declared": 4, "unverified": json["data"]["models"]["unverified"], "missing": none, "unmanaged": { "count": 1, "bytes": 1000 } })
    );
}

/// A way in which a server is no help: what it answers, and what comfy says.
type Trouble = (
    &'static str,
    Box<dyn Fn(&Asked, &[u8]) -> Answer + Send + Sync>,
    &'static str,
);

#[test]
fn servers_that_do_not_give_the_file() {
    let file = noise(5, 200_000);
    let troubles: Vec<Trouble> = vec![
        (
            "a login page",
            Box::new(|_, _| {
                Answer::new(200, b"<html>log in</html>")
                    .header("Content-Type", "text/html; charset=utf-8")
            }),
            "returns a web page instead of the file",
        ),
        (
            "another length",
            Box::new(|a, f| Answer::ranged(a, &f[..199_999])),
            "says that the file has 199999 bytes",
        ),
        (
            "other bytes",
            Box::new(|a, f| Answer::ranged(a, &vec![7; f.len()])),
            "gave a file with sha256",
        ),
        (
            "gone",
            Box::new(|_, _| Answer::new(404, b"no")),
            "answers 404",
        ),
        (
            "closed",
            Box::new(|_, _| Answer::new(403, b"no")),
            "answers 403",
        ),
        (
            "broken",
            Box::new(|_, _| Answer::new(503, b"no")),
            "answers 503",
        ),
        (
            "shorter than it says",
            Box::new(|a, f| Answer::ranged(a, f).cut(0, Then::HangUp)),
            "/x: ",
        ),
        (
            "silent",
            Box::new(|a, f| Answer::ranged(a, f).cut(0, Then::Stall)),
            "timeout",
        ),
        (
            "a few bytes, then silence, again and again",
            Box::new(|a, f| Answer::ranged(a, f).cut(100, Then::Stall)),
            "timeout",
        ),
        (
            "in a circle",
            Box::new(|_, _| Answer::new(302, b"").header("Location", "/x")),
            "too many redirects",
        ),
        (
            "to plain http elsewhere",
            Box::new(|_, _| Answer::new(302, b"").header("Location", "http://192.0.2.1/x")),
            "plain http to another machine",
        ),
        (
            "to a file",
            Box::new(|_, _| Answer::new(302, b"").header("Location", "file:///etc/passwd")),
            "not an https:// address",
        ),
        (
            "another part",
            Box::new(|_, f| {
                Answer::new(206, &f[5..]).header(
                    "Content-Range",
                    &format!("bytes 5-{}/{}", f.len() - 1, f.len()),
                )
            }),
            "another part of the file",
        ),
    ];
    std::thread::scope(|s| {
        troubles
            .into_iter()
            .for_each(|t| drop(s.spawn(|| no_help(&file, t))))
    });
}

fn no_help(file: &[u8], (what, answer, why): Trouble) {
    let bytes = file.to_vec();
    let web = Server::start(move |a| answer(a, &bytes));
    let w = World::new();
    w.put("old.bin", file);
    w.models(&format!(
        "[models.\"x.bin\"]\nsource = \"file:{}/share/old.bin\"\n",
        w.root.display()
    ));
    w.ok(&["lock"]);
    // Pinned from the file, and then only the server is left.
    let source = format!("{}/x", web.url());
    w.models(&model("x.bin", &source));
    w.edit_lock(&format!("file:{}/share/old.bin", w.root.display()), &source);
    fs::remove_file(w.at("old.bin")).unwrap();
    fs::remove_file(w.root.join("home/.cache/comfy/model-hashes")).ok();
    let said = w.fails(&["apply", "--yes"]);
    assert!(
        said.contains(why) && said.contains("model.x.bin: "),
        "{what}: {said}"
    );
    assert!(!w.at("x.bin").exists(), "{what}: it appeared");
    assert!(
        !w.root.join("prefix/comfyui_sandbox/current").exists(),
        "{what}: nothing else was applied either"
    );
    if what == "other bytes" {
        assert!(
            said.contains(&sha256(file)) && said.contains(&sha256(&vec![7; file.len()])),
            "both hashes: {said}"
        );
    }
}

#[test]
fn a_server_without_ranges_and_one_that_is_cut_again_and_again() {
    let file = noise(6, 30 << 20);
    let (plain, bytes) = (file.clone(), file.clone());
    let whole = Server::start(move |_| Answer::new(200, &plain));
    // A third of each answer comes.
    let shaky = Server::start(move |a| {
        let answer = Answer::ranged(a, &bytes);
        let some = answer.body.len() / 3 + 1;
        if answer.body.len() > 1000 {
            answer.cut(some, Then::HangUp)
        } else {
            answer
        }
    });
    let w = World::new();
    let pin = |w: &World, source: &str| {
        fs::write(w.root.join("f.bin"), &file).unwrap();
        w.models(&model("x.bin", &format!("file:{}/f.bin", w.root.display())));
        w.ok(&["lock"]);
        w.models(&model("x.bin", source));
        w.edit_lock(&format!("file:{}/f.bin", w.root.display()), source);
        fs::remove_file(w.root.join("f.bin")).unwrap();
    };
    pin(&w, &whole.url());
    w.ok(&["apply", "--yes"]);
    w.is("x.bin", &file);
    fs::remove_file(w.at("x.bin")).unwrap();
    pin(&w, &format!("{}/y", shaky.url()));
    // Even so: what came is kept, and what is asked again is the rest.
    let end = Instant::now() + Duration::from_secs(60);
    while !w.run(&["apply", "--yes"]).status.success() && Instant::now() < end {}
    w.is("x.bin", &file);
    w.clean();
}

#[test]
fn a_download_that_is_killed_goes_on() {
    let file = noise(7, 48 << 20);
    let bytes = file.clone();
    let given = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = given.clone();
    let web = Server::start(move |a| {
        let answer = Answer::ranged(a, &bytes);
        count.fetch_add(
            answer.body.len() as u64,
            std::sync::atomic::Ordering::Relaxed,
        );
        std::thread::sleep(Duration::from_millis(60));
        answer
    });
    let w = World::new();
    fs::write(w.root.join("f.bin"), &file).unwrap();
    w.models(&model("x.bin", &format!("file:{}/f.bin", w.root.display())));
    w.ok(&["lock"]);
    w.models(&model("x.bin", &web.url()));
    w.edit_lock(&format!("file:{}/f.bin", w.root.display()), &web.url());
    fs::remove_file(w.root.join("f.bin")).unwrap();
    let part = |w: &World| {
        let parts = fs::read_dir(w.root.join("prefix/comfyui_sandbox/.downloads"))
            .into_iter()
            .flatten()
            .flatten();
        parts
            .map(|e| e.metadata().unwrap().len())
            .max()
            .unwrap_or(0)
    };
    let (mut kills, mut last) = (0, 0);
    while kills < 3 {
        let mut child = w
            .command(&["apply", "--yes"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let end = Instant::now() + Duration::from_secs(30);
        while part(&w) < last + (9 << 20)
            && Instant::now() < end
            && child.try_wait().unwrap().is_none()
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(part(&w) >= last, "a part was thrown away");
        last = part(&w);
        kills += 1;
    }
    assert!(!w.at("x.bin").exists());
    // Somebody damages what is there: it is not believed.
    let at = fs::read_dir(w.root.join("prefix/comfyui_sandbox/.downloads"))
        .unwrap()
        .flatten()
        .next()
        .unwrap()
        .path();
    let before = given.load(std::sync::atomic::Ordering::Relaxed);
    w.ok(&["apply", "--yes"]);
    w.is("x.bin", &file);
    w.clean();
    let total = given.load(std::sync::atomic::Ordering::Relaxed);
    assert!(
        total < (48 << 20) + 3 * 20 * (1 << 20),
        "{total} bytes for {}",
        file.len()
    );
    assert!(before < total && !at.exists());
}

#[test]
fn a_damaged_part_is_not_believed() {
    let file = noise(8, 1 << 20);
    let bytes = file.clone();
    let web = Server::start(move |a| Answer::ranged(a, &bytes));
    let w = World::new();
    w.models(&model("x.bin", &web.url()));
    w.ok(&["lock"]);
    fs::remove_dir_all(w.root.join("home/.cache/comfy/models")).unwrap();
    let folder = w.root.join("prefix/comfyui_sandbox/.downloads");
    fs::create_dir_all(&folder).unwrap();
    fs::write(
        folder.join(format!("{}.part", sha256(&file))),
        noise(9, 500_000),
    )
    .unwrap();
    w.ok(&["apply", "--yes"]);
    w.is("x.bin", &file);
}

#[test]
fn a_folder_that_takes_no_file_and_a_link_in_the_way() {
    if nix::unistd::geteuid().is_root() {
        // Root writes into any folder; the root tests have a file system that is read-only.
        return;
    }
    let w = World::new();
    w.put("a.bin", b"abc");
    fs::create_dir(w.at("closed")).unwrap();
    w.models(
        &(model(
            "closed/b.bin",
            &format!("file:{}/share/a.bin", w.root.display()),
        )),
    );
    w.ok(&["lock"]);
    fs::set_permissions(w.at("closed"), fs::Permissions::from_mode(0o555)).unwrap();
    let said = w.fails(&["apply", "--yes"]);
    assert!(
        said.contains("no file can be created in ROOT/share/closed: Permission denied"),
        "{said}"
    );
    fs::set_permissions(w.at("closed"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn adopted_files_are_compared_and_never_lost() {
    let w = World::new();
    w.put("checkpoints/a.bin", &noise(10, 5000));
    w.put("b.bin", b"bbb");
    w.models("[models.\"checkpoints/a.bin\"]\n[models.\"b.bin\"]\n");
    w.ok(&["lock"]);
    w.ok(&["apply", "--yes"]);
    w.clean();
    // Another size, seen by stat alone; no source to mend it, and nothing else is held up.
    w.put("b.bin", b"bbbb");
    let plan = w.ok(&["plan"]);
    assert!(
        plan.contains("# model.b.bin is blocked") && plan.contains("comfy update b.bin`"),
        "{plan}"
    );
    w.models(
        "[models.\"checkpoints/a.bin\"]\n[models.\"b.bin\"]\n[comfyui2]\n"
            .trim_end_matches("[comfyui2]\n"),
    );
    let said = w.fails(&["apply", "--yes"]);
    assert!(said.contains("model.b.bin still differs"), "{said}");
    assert_eq!(fs::read(w.at("b.bin")).unwrap(), b"bbbb");
    assert!(
        w.ok(&["update"]).contains("Everything is up to date"),
        "a changed file is not taken over along the way"
    );
    assert!(w.ok(&["update", "b.bin"]).contains("Updated b.bin"));
    w.ok(&["apply", "--yes"]);
    w.clean();
    // Gone, but its content is there under another name.
    fs::rename(w.at("checkpoints/a.bin"), w.at("renamed.bin")).unwrap();
    w.ok(&["apply", "--yes"]);
    w.is("checkpoints/a.bin", &noise(10, 5000));
    // Links are refused, when locking and in the plan.
    std::os::unix::fs::symlink(w.at("renamed.bin"), w.at("link.bin")).unwrap();
    w.models("[models.\"link.bin\"]\n");
    assert!(w.fails(&["lock"]).contains("is a link"));
    fs::remove_dir_all(w.at("checkpoints")).unwrap();
    fs::create_dir(w.root.join("other")).unwrap();
    std::os::unix::fs::symlink(w.root.join("other"), w.at("checkpoints")).unwrap();
    w.models("[models.\"checkpoints/a.bin\"]\n");
    fs::write(w.root.join("other/a.bin"), noise(10, 5000)).unwrap();
    w.ok(&["lock"]);
    let plan = w.ok(&["plan"]);
    assert!(
        plan.contains(
            "ROOT/share/checkpoints is a link, and comfy does not follow links inside a share"
        ),
        "{plan}"
    );
}

#[test]
fn what_is_replaced_and_was_not_comfys_own_is_kept_beside() {
    let w = World::new();
    for (name, seed) in [("one.bin", 51), ("two.bin", 52)] {
        fs::write(w.root.join(name), noise(seed, 3000)).unwrap();
    }
    let from = |name: &str| model("t/x.bin", &format!("file:{}/{name}", w.root.display()));
    // Somebody's own work lies where the declared file should.
    w.put("t/x.bin", b"my own training");
    w.models(&from("one.bin"));
    w.ok(&["lock"]);
    assert!(
        w.ok(&["plan"])
            .contains("it is kept next to the new one as NAME.replaced-…")
    );
    let said = w.ok(&["apply", "--yes"]);
    assert!(
        said.contains("model.t/x.bin: another file was there; it is kept as "),
        "{said}"
    );
    w.is("t/x.bin", &noise(51, 3000));
    let kept = || {
        let all = fs::read_dir(w.at("t")).unwrap().map(|e| e.unwrap().path());
        all.filter(|p| p.to_string_lossy().contains("x.bin.replaced-"))
            .map(|p| fs::read(p).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(kept(), [b"my own training"]);
    // What comfy has put there can be had again.
    w.models(&from("two.bin"));
    w.ok(&["lock"]);
    w.ok(&["apply", "--yes"]);
    w.is("t/x.bin", &noise(52, 3000));
    assert_eq!(kept().len(), 1);
    // Trained on, in place and of the same size.
    w.put("t/x.bin", &noise(53, 3000));
    assert_eq!(w.run(&["verify"]).status.code(), Some(2));
    w.ok(&["apply", "--yes"]);
    w.is("t/x.bin", &noise(52, 3000));
    assert!(
        kept().contains(&noise(53, 3000)),
        "what was trained is lost"
    );
    // Without a source, an old copy is no reason to go back.
    w.put("mine.bin", &noise(54, 2000));
    w.models("[models.\"mine.bin\"]\n");
    w.ok(&["lock"]);
    w.ok(&["apply", "--yes"]);
    w.put("old.bin", &noise(54, 2000));
    w.put("mine.bin", &noise(55, 2000));
    assert_eq!(w.run(&["verify"]).status.code(), Some(2));
    w.fails(&["apply", "--yes"]);
    w.is("mine.bin", &noise(55, 2000));
}

#[test]
fn a_busy_server_says_when_and_gets_asked_again() {
    let w = World::new();
    let bytes = noise(81, 5000);
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let web =
        Server::start(
            move |a| match asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                n if n % 2 == 0 => Answer::new(429, b"later").header("Retry-After", "1"),
                _ => Answer::ranged(a, &bytes),
            },
        );
    w.models(&model("x.bin", &web.url()));
    w.ok(&["lock"]);
    w.ok(&["apply", "--yes"]);
    w.is("x.bin", &noise(81, 5000));
}

#[test]
fn two_models_of_one_source_are_fetched_once() {
    let w = World::new();
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = asked.clone();
    let bytes = noise(61, 9 << 20);
    let web = Server::start(move |a| {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Answer::ranged(a, &bytes)
    });
    let (one, two) = (format!("{}/one", web.url()), format!("{}/two", web.url()));
    w.models(&format!("{}{}", model("a.bin", &one), model("b.bin", &one)));
    w.ok(&["lock"]);
    let once = asked.load(std::sync::atomic::Ordering::Relaxed);
    // The same content by two names, both on their way at once.
    w.ok(&["cache", "prune"]);
    w.models(&format!(
        "{}{}{}",
        model("a.bin", &one),
        model("b.bin", &one),
        model("c.bin", &two)
    ));
    fs::remove_file(w.root.join("project/comfy.lock")).unwrap();
    w.ok(&["lock"]);
    assert!(once <= 5, "{once} requests for three pieces and a head");
    w.ok(&["apply", "--yes"]);
    w.is("c.bin", &noise(61, 9 << 20));
}

#[test]
fn what_stands_in_the_way_and_what_is_no_model_is_told() {
    let w = World::new();
    let page = Server::start(|_| {
        Answer::new(200, b"\n<!DOCTYPE html><title>Sign in</title>")
            .header("Content-Type", "application/octet-stream")
    });
    w.models(&model("x.ckpt", &page.url()));
    assert!(w.fails(&["lock"]).contains("is a web page, not a model"));
    fs::write(w.root.join("source.bin"), b"bytes").unwrap();
    let source = format!("file:{}/source.bin", w.root.display());
    w.models(&format!(
        "{}{}",
        model("a/x.bin", &source),
        model("b/y.bin", &source)
    ));
    w.ok(&["lock"]);
    fs::create_dir_all(w.at("a/x.bin")).unwrap();
    w.put("b", b"a file");
    let plan = w.ok(&["plan"]);
    assert!(
        plan.contains("/share/a/x.bin is a folder: move it away")
            && plan.contains("/share/b is a file where a folder must be"),
        "{plan}"
    );
    assert!(
        w.fails(&[
            "add",
            "model",
            &format!("{}.bin", "n".repeat(230)),
            "--source",
            &source
        ])
        .contains("more than 225 bytes")
    );
    // A manifest of another system stays one.
    let path = w.root.join("project/comfy.toml");
    fs::write(
        &path,
        fs::read_to_string(&path).unwrap().replace('\n', "\r\n"),
    )
    .unwrap();
    w.ok(&["add", "model", "new.bin", "--source", &source]);
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.contains("new.bin") && text.matches('\n').count() == text.matches("\r\n").count(),
        "{text:?}"
    );
}

#[test]
fn a_share_that_is_left_alone_is_looked_at_all_the_same() {
    let w = World::new();
    w.put("a.bin", &noise(71, 1000));
    w.put("b.bin", &noise(72, 1000));
    w.models("manage = false\n[models.\"a.bin\"]\n[models.\"b.bin\"]\n");
    w.ok(&["lock"]);
    w.ok(&["apply", "--yes"]);
    assert!(w.ok(&["verify"]).contains("2 files as locked"));
    for (what, good) in [(&noise(73, 1000)[..], 1), (b"short", 1)] {
        w.put("a.bin", what);
        let out = w.run(&["verify"]);
        let said = text(&out, &w.root);
        assert!(
            out.status.code() == Some(2)
                && said.contains(&format!("{good} of 2 files as locked"))
                && said.contains("model.a.bin"),
            "{said}"
        );
    }
    fs::rename(w.root.join("share"), w.root.join("away")).unwrap();
    let out = w.run(&["verify"]);
    assert!(
        out.status.code() == Some(2) && text(&out, &w.root).contains("0 of 2 files as locked"),
        "{}",
        text(&out, &w.root)
    );
    // Its volume is not mounted: nothing is known of what is in it.
    fs::rename(w.root.join("away"), w.root.join("share")).unwrap();
    w.models(&format!(
        "requires_mount = \"{}/share\"\n[models.\"a.bin\"]\n[models.\"b.bin\"]\n",
        w.root.display()
    ));
    let out = w.run(&["verify"]);
    let said = text(&out, &w.root);
    assert!(
        out.status.code() == Some(2)
            && said.contains("0 of 2 files as locked")
            && said.contains("warning: share.models: "),
        "{said}"
    );
}

#[test]
fn a_hash_in_the_manifest_is_held_to() {
    let w = World::new();
    w.put("a.bin", b"abc");
    w.models(&format!(
        "[models.\"a.bin\"]\nsha256 = \"{}\"\n",
        sha256(b"xyz")
    ));
    let said = w.fails(&["lock"]);
    assert!(
        said.contains(&sha256(b"abc")) && said.contains(&sha256(b"xyz")),
        "{said}"
    );
    w.models(&format!(
        "[models.\"a.bin\"]\nsha256 = \"{}\"\n",
        sha256(b"abc")
    ));
    w.ok(&["lock"]);
    w.ok(&["lock", "--check"]);
    w.models(&format!(
        "[models.\"a.bin\"]\nsha256 = \"{}\"\n",
        sha256(b"xyz")
    ));
    let out = w.run(&["lock", "--check"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out, &w.root).contains("sha256 of model \"a.bin\" does not match comfy.lock"));
}

#[test]
fn civitai_is_asked_for_the_version_and_its_file() {
    let file = noise(11, 70_000);
    let bytes = file.clone();
    // As the real one, it sends to its storage who has the key.
    let storage = Server::start(move |a| Answer::ranged(a, &bytes));
    let (bytes, to) = (file.clone(), storage.url());
    let site = Server::start(move |a| match a.path.as_str() {
        "/api/v1/model-versions/77" => {
            let files = serde_json::json!([
                { "name": "training.zip", "sizeKB": 1.0, "hashes": { "SHA256": "AB".repeat(32) }, "downloadUrl": "https://civitai.com/api/download/models/77?type=Training" },
                { "name": "lora.safetensors", "primary": true, "sizeKB": 68.359375, "hashes": { "SHA256": sha256(&bytes).to_uppercase() }, "downloadUrl": "https://civitai.com/api/download/models/77" },
            ]);
            Answer::new(
                200,
                serde_json::json!({ "id": 77, "files": files })
                    .to_string()
                    .as_bytes(),
            )
            .header("Content-Type", "application/json")
        }
        "/api/download/models/77" if a.header("authorization") == Some("Bearer key") => {
            Answer::new(302, b"").header("Location", &format!("{to}/l?signature=x"))
        }
        "/api/download/models/77" => Answer::new(302, b"").header("Location", "/login"),
        "/login" => Answer::new(200, b"<html>").header("Content-Type", "text/html"),
        _ => Answer::new(404, b""),
    });
    let w = World::new().env("CIVITAI_ENDPOINT", &site.url());
    w.models(&model("loras/l.bin", "civitai:77"));
    let said = w.fails(&["lock"]);
    assert!(said.contains("CIVITAI_API_TOKEN"), "{said}");
    let w = w.env("CIVITAI_API_TOKEN", "key");
    w.ok(&["lock"]);
    assert_eq!(
        (
            w.pin("loras/l.bin")["sha256"].as_str(),
            w.pin("loras/l.bin")["size"].as_integer()
        ),
        (Some(sha256(&file).as_str()), Some(70_000))
    );
    w.ok(&["apply", "--yes"]);
    w.is("loras/l.bin", &file);
    let there = storage.asked();
    assert!(
        !there.is_empty() && there.iter().all(|a| a.header("authorization").is_none()),
        "a key followed a redirect to another server"
    );
}

/// The path is what every test of this file begins with.
#[test]
fn offline_says_what_is_missing() {
    let w = World::new();
    let web = Server::start(|a| Answer::ranged(a, b"abc"));
    w.models(&model("x.bin", &web.url()));
    let told = w.fails(&["lock", "--offline"]);
    assert!(told.contains("cannot look up the commit of"), "{told}");
    w.ok(&["lock"]);
    fs::remove_dir_all(Path::new(&w.root).join("home/.cache/comfy/models")).unwrap();
    assert!(
        w.fails(&["apply", "--yes", "--offline", "--only", "models"])
            .contains("model.x.bin: is not on this machine, and comfy is offline")
    );
}

#[test]
fn a_changed_model_is_named_with_when_it_changed() {
    let w = World::new();
    let (good, mut bad) = (noise(20, 100_000), noise(20, 100_000));
    bad[50_000] ^= 1;
    w.put("a.bin", &good);
    w.put("b.bin", b"bbb");
    fs::write(w.root.join("source.bin"), &good).unwrap();
    w.models(&format!(
        "[models.\"a.bin\"]\nsource = \"file:{}/source.bin\"\n[models.\"b.bin\"]\n",
        w.root.display()
    ));
    w.ok(&["lock"]);
    w.ok(&["apply", "--yes"]);
    let said = w.ok(&["verify"]);
    assert!(
        said.contains("models") && said.contains("2 files as locked"),
        "{said}"
    );
    // The same size, and the same time: stat alone tells that something happened, and only reading
    // tells what.
    let keep = fs::metadata(w.at("a.bin")).unwrap().modified().unwrap();
    let file = fs::OpenOptions::new()
        .write(true)
        .open(w.at("a.bin"))
        .unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &bad[50_000..50_001], 50_000).unwrap();
    file.set_modified(keep).unwrap();
    drop(file);
    std::thread::sleep(Duration::from_millis(100));
    let plan = w.ok(&["plan"]);
    assert!(
        plan.contains("1 model of the right size not verified since the last change"),
        "{plan}"
    );
    let out = w.run(&["verify"]);
    let said = text(&out, &w.root);
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(
        said.contains("differs model.a.bin")
            && said.contains(&sha256(&bad))
            && said.contains("the file changed 20")
            && said.contains("1 of 2 files as locked")
            && said.contains("2 of 3 parts"),
        "{said}"
    );
    // From now on the plan knows, and an apply mends it.
    let plan = w.run(&["plan", "--exit-code"]);
    assert_eq!(plan.status.code(), Some(2));
    assert!(text(&plan, &w.root).contains("Drift: this machine has changed since the last apply"));
    w.ok(&["apply", "--yes"]);
    w.is("a.bin", &good);
    w.ok(&["verify", "--full"]);
}

#[test]
fn a_library_is_adopted_with_one_command() {
    let w = World::new();
    for i in 0..500 {
        w.put(
            &format!("loras/d{}/m{i}.safetensors.bin", i % 7),
            format!("model {i}").as_bytes(),
        );
    }
    w.put("vae/put_vae_here", b"");
    w.put("vae/x.sha256", b"abc");
    w.models("# keep me\n");
    // Older than the clock's grain, as a library is.
    std::thread::sleep(Duration::from_millis(100));
    let said = w.ok(&["add", "model", "--all"]);
    assert!(said.contains("Added 500 models (4."), "{said}");
    assert!(
        fs::read_to_string(w.root.join("project/comfy.toml"))
            .unwrap()
            .contains("# keep me")
    );
    assert!(
        w.ok(&["add", "model", "--all"])
            .contains("is declared already")
    );
    let said = w.ok(&["lock"]);
    assert!(said.contains("Added 500 models"), "{said}");
    w.ok(&["apply", "--yes"]);
    w.clean();
    assert!(
        !w.ok(&["plan"]).contains("nobody has compared"),
        "what `lock` has read is known"
    );
    // One more, by its path on the disk.
    w.put("new one.bin", b"new");
    w.ok(&["add", "model", &w.at("new one.bin").display().to_string()]);
    w.ok(&[
        "add",
        "model",
        "flux/x.bin",
        "--source",
        "hf://org/repo/x.bin@v1",
    ]);
    let toml = fs::read_to_string(w.root.join("project/comfy.toml")).unwrap();
    assert!(
        toml.contains(
            "[models.\"new one.bin\"]\n\n[models.\"flux/x.bin\"]\nsource = \
        \"hf://org/repo/x.bin@v1\"\n"
        ),
        "{toml}"
    );
    assert!(w.fails(&["add", "model", "flux/x.bin"]).contains("already"));
    assert!(
        w.fails(&["add", "model", "new one.bim"])
            .contains("put the file there first")
    );
    assert!(
        w.fails(&["add", "model", "/elsewhere/x.bin"])
            .contains("is not in a share that holds models")
    );
    assert!(
        w.fails(&["add", "model", "../x.bin"])
            .contains("must not contain")
    );
    assert!(
        w.fails(&["add", "model", "y.bin", "--source", "ftp://x"])
            .contains("unknown scheme")
    );
}

#[test]
fn an_interrupted_lock_reads_nothing_twice() {
    let w = World::new();
    let mut sections = String::new();
    // Holes cost no disk and are read all the same.
    for i in 0..6 {
        let file = fs::File::create(w.at(&format!("m{i}.bin"))).unwrap();
        file.set_len((200 << 20) + i).unwrap();
        sections += &format!("[models.\"m{i}.bin\"]\n");
    }
    w.models(&sections);
    std::thread::sleep(Duration::from_millis(100));
    let hashes = w.root.join("home/.cache/comfy/model-hashes");
    let mut rounds = 0;
    loop {
        let mut child = w
            .command(&["lock"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Once it has kept something more, however slow the disk is.
        let len = || fs::metadata(&hashes).map_or(0, |m| m.len());
        let (before, started) = (len(), std::time::Instant::now());
        while len() <= before
            && child.try_wait().unwrap().is_none()
            && started.elapsed() < Duration::from_secs(60)
        {
            std::thread::sleep(Duration::from_millis(20));
        }
        let known = len();
        if child.try_wait().unwrap().is_none() {
            nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(child.id().try_into().unwrap()),
                nix::sys::signal::SIGINT,
            )
            .unwrap();
        }
        let out = child.wait_with_output().unwrap();
        rounds += 1;
        if out.status.success() {
            break;
        }
        assert_eq!(out.status.code(), Some(130), "{}", text(&out, &w.root));
        assert!(
            fs::metadata(&hashes).map_or(0, |m| m.len()) >= known && rounds < 40,
            "what was read was forgotten"
        );
    }
    w.ok(&["lock", "--check"]);
}

#[test]
fn a_file_that_moved_is_told_and_taken_by_update() {
    let version = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(1));
    let now = version.clone();
    let web = Server::start(move |a| {
        let n = now.load(std::sync::atomic::Ordering::Relaxed);
        Answer::ranged(a, &noise(n, 5000)).header("ETag", &format!("\"v{n}\""))
    });
    let w = World::new();
    w.put("mine.bin", b"mine");
    w.models(&(model("x.bin", &web.url()) + "[models.\"mine.bin\"]\n"));
    w.ok(&["lock"]);
    w.ok(&["apply", "--yes"]);
    assert!(w.ok(&["outdated"]).contains("Everything is up to date."));
    assert!(
        w.ok(&["update"]).contains("Everything is up to date."),
        "the server says that it is the same: it is not fetched"
    );
    version.store(2, std::sync::atomic::Ordering::Relaxed);
    let out = w.run(&["outdated", "--exit-code"]);
    assert!(
        out.status.code() == Some(2) && text(&out, &w.root).contains("x.bin  "),
        "{}",
        text(&out, &w.root)
    );
    let said = w.fails(&["apply", "--yes", "--only", "model.nothing"]);
    assert!(said.contains("no such resource"), "{said}");
    assert!(w.ok(&["update"]).contains("Updated x.bin"));
    w.ok(&["apply", "--yes"]);
    w.is("x.bin", &noise(2, 5000));
}

#[test]
fn a_bucket_is_asked_with_a_signed_address() {
    let file = noise(40, 10 << 20);
    let bytes = file.clone();
    let store = Server::start(move |a| {
        let signed = [
            "X-Amz-Credential=key%2F",
            "%2Feu-west-1%2Fs3%2Faws4_request",
            "X-Amz-Signature=",
        ]
        .iter()
        .all(|p| a.path.contains(p));
        if signed && a.path.starts_with("/bucket/dir/x.bin?") {
            Answer::ranged(a, &bytes).header("ETag", "\"s3\"")
        } else {
            Answer::new(403, b"<Error/>")
        }
    });
    let w = World::new()
        .env("AWS_ENDPOINT_URL", &store.url())
        .env("AWS_REGION", "eu-west-1");
    w.models(&model("x.bin", "s3://bucket/dir/x.bin"));
    let said = w.fails(&["lock"]);
    assert!(
        said.contains("/bucket/dir/x.bin answers 403")
            && said.contains("AWS_ENDPOINT_URL selects another store"),
        "{said}"
    );
    let w = w
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "hidden");
    w.ok(&["lock"]);
    assert_eq!(
        (
            w.pin("x.bin")["sha256"].as_str(),
            w.pin("x.bin")["etag"].as_str()
        ),
        (Some(sha256(&file).as_str()), Some("s3"))
    );
    fs::remove_dir_all(w.root.join("home/.cache/comfy/models")).unwrap();
    w.ok(&["apply", "--yes"]);
    w.is("x.bin", &file);
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

/// A safetensors file with this header and so many bytes of data.
fn safetensors(header: &str, data: usize) -> Vec<u8> {
    [
        &(header.len() as u64).to_le_bytes()[..],
        header.as_bytes(),
        &noise(30, data),
    ]
    .concat()
}

#[test]
fn safetensors_are_checked_when_they_are_locked_and_told_by_name() {
    let meta = "\"__metadata__\":{\"modelspec.license\":\"CreativeML \
        \\u001b[2J\",\"ss_base_model_version\":\"sdxl_base_v1-0\",\"ss_tag_frequency\":\"{\\\"img\\\":{\\\"cat\\\":3,\\\"xyz style\\\":9}}\"}";
    let good = safetensors(
        &format!(
            "{{{meta},\"lora_unet_x.lora_down.weight\":{{\"dtype\":\"F16\",\"shape\":[4,2000],\"data_offsets\":[0,16000]}}}}"
        ),
        16_000,
    );
    let mut bad = good.clone();
    bad.extend(b"hidden");
    let (g, b) = (good.clone(), bad.clone());
    let storage = Server::start(move |a| {
        if a.path.starts_with("/good") {
            Answer::ranged(a, &g)
        } else {
            Answer::ranged(a, &b)
        }
    });
    let (files, to) = (
        vec![
            ("good.safetensors", good.clone()),
            ("bad.safetensors", bad.clone()),
        ],
        storage.url(),
    );
    let hub = Server::start(huggingface(files, to, COMMIT));
    let w = World::new().env("HF_ENDPOINT", &hub.url());
    // On the disk, in a file that a server gives, and by the header alone where the hub tells the
    // hash.
    w.put("bad.safetensors", &bad);
    w.models("[models.\"bad.safetensors\"]\n");
    assert!(
        w.fails(&["lock"])
            .contains("6 bytes at its end belong to no tensor")
    );
    for source in [
        format!("{}/bad", storage.url()),
        "hf://org/repo/bad.safetensors".into(),
    ] {
        w.models(&model("x.safetensors", &source));
        let said = w.fails(&["lock"]);
        assert!(
            said.contains(
                "model \"x.safetensors\": is not a valid safetensors file: 6 bytes at its end"
            ),
            "{said}"
        );
    }
    w.models(&model(
        "loras/x.safetensors",
        "hf://org/repo/good.safetensors",
    ));
    w.ok(&["lock"]);
    assert!(w.ok(&["model", "x.safetensors"]).contains("does not exist"));
    w.ok(&["apply", "--yes"]);
    let said = w
        .ok(&["model", "x.safetensors"])
        .replace(&sha256(&good), "SHA256");
    insta::assert_snapshot!(said, @r"
    model          loras/x.safetensors
    share          models
    source         hf://org/repo/good.safetensors
    revision       0123456789abcdef0123456789abcdef01234567
    size           15.9 KiB (16258 bytes)
    sha256         SHA256
    file           ROOT/share/loras/x.safetensors
    format         safetensors: 1 tensor (F16), 8000 numbers
    architecture   LoRA (sdxl_base_v1-0)
    licence        CreativeML \u{1b}[2J
    trigger words  xyz style, cat
    ");
    assert!(
        w.fails(&["model", "y.safetensors"])
            .contains("did you mean `x.safetensors`?")
    );
    // Half a bill of materials is no success.
    if let Ok(full) = fs::File::options().write(true).open("/dev/full") {
        let out = w
            .command(&["export", "sbom"])
            .stdout(full)
            .output()
            .unwrap();
        assert!(
            out.status.code() == Some(1)
                && text(&out, &w.root).contains("could not write the output: No space left"),
            "{}",
            text(&out, &w.root)
        );
    }
    // The bill of materials has it, with its hash.
    let bom: serde_json::Value =
        serde_json::from_slice(&w.run(&["export", "sbom"]).stdout).unwrap();
    assert_eq!(
        (bom["bomFormat"].as_str(), bom["specVersion"].as_str()),
        (Some("CycloneDX"), Some("1.6"))
    );
    let components = bom["components"].as_array().unwrap();
    let one = components
        .iter()
        .find(|c| c["bom-ref"] == "model.loras/x.safetensors")
        .unwrap();
    assert_eq!(
        (&one["type"], &one["hashes"][0]["content"]),
        (&"machine-learning-model".into(), &sha256(&good).into())
    );
    assert!(components.iter().any(|c| {
        c["bom-ref"] == "comfyui"
            && c["purl"]
                .as_str()
                .unwrap()
                .starts_with("pkg:github/up/comfyui@")
    }));
}

#[test]
fn what_is_kept_of_downloads_can_be_pruned() {
    let w = World::new();
    let web = Server::start(|a| Answer::ranged(a, &noise(31, 2 << 20)));
    w.models(&model("x.bin", &web.url()));
    w.ok(&["lock"]);
    assert!(
        w.ok(&["cache", "prune", "--dry-run"])
            .contains("Would remove 1 file (2.0 MiB).")
    );
    assert!(
        w.ok(&["cache", "prune"])
            .contains("Removed 1 file (2.0 MiB).")
    );
    assert!(w.ok(&["cache", "prune"]).contains("Nothing to remove."));
    w.ok(&["apply", "--yes"]);
    w.is("x.bin", &noise(31, 2 << 20));
}

#[test]
fn where_blocks_cannot_be_shared_dedupe_says_so() {
    let w = World::new();
    for name in ["a.bin", "b/c.bin", "other.bin"] {
        w.put(name, &noise(u32::from(name == "other.bin"), 200_000));
    }
    let said = w.ok(&["dedupe", "--dry-run"]);
    let cannot = said.contains(
        "ROOT/share/b/c.bin is identical to ROOT/share/a.bin (195.3 KiB), but this file \
        system cannot share blocks",
    );
    assert!(
        cannot || said.contains("ROOT/share/b/c.bin could share ROOT/share/a.bin"),
        "{said}"
    );
    w.ok(&["dedupe"]);
    assert!(fs::read(w.at("b/c.bin")).unwrap() == noise(0, 200_000));
    assert_ne!(
        fs::metadata(w.at("a.bin")).unwrap().ino(),
        fs::metadata(w.at("b/c.bin")).unwrap().ino(),
        "never a hard link"
    );
    w.tidy();
}

/// Of `abc`, as its authors publish it.
const BLAKE3_OF_ABC: &str = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85";

#[test]
fn a_model_that_is_read_for_its_hash_gets_both_names() {
    let web = Server::start(|a| Answer::ranged(a, b"abc"));
    let hub = Server::start(huggingface(
        vec![("a.bin", b"abc".to_vec()), ("other.bin", noise(5, 9000))],
        web.url(),
        COMMIT,
    ));
    let w = World::new().env("HF_ENDPOINT", &hub.url());
    w.put("a.bin", b"abc");
    std::thread::sleep(Duration::from_millis(50));
    let adopted = "[models.\"a.bin\"]\n";
    let others = model("other.bin", "hf://org/repo/other.bin");
    w.models(&(adopted.to_string() + &others + &model("web.bin", &web.url())));
    w.ok(&["lock"]);
    let name = |path: &str| {
        w.pin(path)
            .get("blake3")
            .map(|v| v.as_str().unwrap().to_string())
    };
    assert_eq!(name("a.bin").as_deref(), Some(BLAKE3_OF_ABC));
    assert_eq!(name("web.bin").as_deref(), Some(BLAKE3_OF_ABC));
    assert_eq!(
        name("other.bin"),
        None,
        "its server told the SHA-256: nothing was read"
    );
    let lock = w.root.join("project/comfy.lock");
    let text_of = || fs::read_to_string(&lock).unwrap();
    assert!(text_of().contains("\nversion = 2\n"));
    // Told, where it is known.
    for (args, told) in [
        (
            &["list", "a.bin"][..],
            format!("blake3         {BLAKE3_OF_ABC}"),
        ),
        (
            &["model", "a.bin"],
            format!("blake3         {BLAKE3_OF_ABC}"),
        ),
        (
            &["list", "--json"],
            format!("\"blake3\":\"{BLAKE3_OF_ABC}\""),
        ),
    ] {
        let said = w.ok(args);
        assert!(said.replace(": ", ":").contains(&told), "{args:?}: {said}");
    }
    // Kept while the bytes are the same ones, wherever they come from now.
    w.models(&(model("a.bin", "hf://org/repo/a.bin") + &others));
    w.ok(&["lock"]);
    assert_eq!(name("a.bin").as_deref(), Some(BLAKE3_OF_ABC));
    w.models(&format!("{adopted}{others}"));
    w.put("a.bin", b"abd");
    w.ok(&["lock"]);
    w.ok(&["update", "a.bin"]);
    assert!(name("a.bin").is_some_and(|n| n != BLAKE3_OF_ABC));
    // A lock of an older comfy is read, and is no reason to read a file again.
    let newer = text_of();
    let own = format!("blake3 = \"{}\"\n", name("a.bin").unwrap());
    let older = newer
        .replace(&own, "")
        .replace("version = 2", "version = 1");
    fs::write(&lock, &older).unwrap();
    w.ok(&["lock", "--check"]);
    w.ok(&["lock"]);
    assert_eq!(text_of(), older);
    // It is known from the reading before, and says nothing of another file.
    assert!(
        w.ok(&["update", "a.bin"])
            .contains("Nothing newer for a.bin.")
    );
    assert_eq!(text_of(), newer);
    w.edit_lock(&own, "blake3 = \"6437B3\"\n");
    let said = w.fails(&["plan"]);
    assert!(
        said.contains("comfy.lock:")
            && said.contains("blake3 of model \"a.bin\" is not 64 hexadecimal digits"),
        "{said}"
    );
}

#[test]
fn a_workflow_names_a_model_by_either_hash() {
    let w = World::new();
    w.put("loras/a.bin", b"abc");
    w.put(
        "loras/mine.safetensors",
        &safetensors(
            r#"{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
            4,
        ),
    );
    w.models("[models.\"loras/a.bin\"]\n[models.\"loras/mine.safetensors\"]\n");
    w.ok(&["lock"]);
    let own = w.pin("loras/mine.safetensors");
    let hash = |key: &str| own[key].as_str().unwrap().to_string();
    let named = |name: &str, hash: &str, kind: Option<&str>| serde_json::json!({ "name": name, "hash": hash, "hash_type": kind, "directory": "loras" });
    let said = |models: serde_json::Value| {
        let workflow = serde_json::json!({ "nodes": [], "models": models });
        fs::write(w.root.join("w.json"), workflow.to_string()).unwrap();
        let out = w.run(&["add", "--workflow", "w.json", "-n"]);
        text(&out, &w.root)
    };
    insta::assert_snapshot!(said(serde_json::json!([
        named("mine.safetensors", &hash("sha256"), Some("SHA256")),
        named("renamed.safetensors", &hash("blake3"), Some("BLAKE3")),
        named("of-an-asset.safetensors", &format!("blake3:{}", hash("blake3")), None),
    ])), @"
    Models
      found      mine.safetensors         model loras/mine.safetensors
      ambiguous  of-an-asset.safetensors  comfy.toml has loras/mine.safetensors with the hash that the workflow names: choose it in the workflow
      ambiguous  renamed.safetensors      comfy.toml has loras/mine.safetensors with the hash that the workflow names: choose it in the workflow
    There is nothing to add.
    ");
    insta::assert_snapshot!(said(serde_json::json!([
        named("mine.safetensors", BLAKE3_OF_ABC, Some("Blake3")),
        named("unknown.safetensors", &"0".repeat(64), Some("BLAKE3")),
    ])), @"
    Models
      ambiguous  mine.safetensors     comfy.toml has loras/mine.safetensors, whose hash is not the one that the workflow names
      unknown    unknown.safetensors  it is in no share, and the workflow does not say where it comes from
    There is nothing to add.
    ");
}
