//! A private machine: its own /etc, /home, /var, /opt, /srv and /run in a mount and network
//! namespace, with real users made by useradd.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{CORE, Upstream, borrowed, comfy, node, python, report_skipped};

/// Runs `body` in a machine of its own: this test's process again, below unshare(1).
///
/// Without root the test is skipped, and says so; with COMFY_TEST_ROOT=required that is a failure.
pub fn private(name: &str, body: impl FnOnce(&mut Machine)) {
    machine(name, true, body);
}

/// The same with the network of the real machine, where what an apply loads into its firewall is
/// taken away again.
pub fn online(name: &str, body: impl FnOnce(&mut Machine)) {
    machine(name, false, body);
}

/// The same twice: with the kernel's guards of links and open files (`fs.protected_*`) all off, as
/// macOS has none, and all on.
pub fn attacked(name: &str, mut body: impl FnMut(&mut Machine)) {
    if std::env::var("COMFY_TEST_MACHINE").as_deref() == Ok(name) {
        return machine(name, true, body);
    }
    for on in [false, true] {
        let _held = super::attack::switches::hold(on);
        machine(name, true, &mut body);
    }
}

fn machine(name: &str, offline: bool, body: impl FnOnce(&mut Machine)) {
    if std::env::var("COMFY_TEST_MACHINE").as_deref() == Ok(name) {
        #[cfg(target_os = "linux")]
        if offline {
            comfy::host::confine::netns::loopback_up().unwrap();
        }
        body(&mut Machine::new());
        return;
    }
    if !nix::unistd::geteuid().is_root()
        || std::env::var("COMFY_TEST_ROOT").as_deref() == Ok("skip")
    {
        assert_ne!(
            std::env::var("COMFY_TEST_ROOT").as_deref(),
            Ok("required"),
            "{name} must run, and needs root"
        );
        report_skipped("real users need root and some tools; `sudo -E scripts/test` says which");
        return;
    }
    // The test's own thread has its whole name: one that is called otherwise would run nothing
    // there, and pass.
    let own = std::thread::current()
        .name()
        .unwrap_or_default()
        .to_string();
    assert_eq!(
        own,
        format!("root::{name}"),
        "`private` has to be given the test's own name"
    );
    let tables = || {
        sh("command -v nft > /dev/null && nft list tables | grep -o 'comfy_.*' || true")
            .lines()
            .map(str::to_string)
            .collect::<Vec<_>>()
    };
    let before = tables();
    let status = Command::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .args(offline.then_some("--net"))
        .arg("--")
        .arg(std::env::current_exe().unwrap())
        .args([own.as_str(), "--exact", "--nocapture", "--test-threads=1"])
        .env("COMFY_TEST_MACHINE", name)
        .status()
        .expect("unshare(1) of util-linux");
    for table in tables().iter().filter(|t| !before.contains(t) && !offline) {
        sh(&format!("nft delete table inet {table}"));
    }
    assert!(status.success(), "{name} failed in its private machine");
}

pub struct Machine {
    pub dot: PathBuf,
    pub comfy: PathBuf,
    pub core: Upstream,
    pub hello: Upstream,
    pub world: Upstream,
    /// Variables of everybody's environment, beside the usual ones.
    pub env: Vec<(String, String)>,
}

fn sh(script: &str) -> String {
    let out = Command::new("bash").args(["-ec", script]).output().unwrap();
    assert!(
        out.status.success(),
        "{script}\n{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).trim().to_string()
}

/// The base of the instance.
pub const BASE: &str = "/opt/comfy/comfyui_sandbox";

pub const MANIFEST: &str = r#"version = 1

[comfyui]
repo = "https://github.com/up/ComfyUI"
ref = "main"
view = "~/ComfyUI"

[nodes.hello]
repo = "https://github.com/up/hello"
ref = "main"
writable = ["data"]

[nodes.world]
repo = "https://github.com/up/world"
ref = "main"

[python]
version = "PYTHON"

[shares.models]
path = "~/ai/models"
mount = "models"

[shares.input]
path = "~/ai/input"
mount = "input"
access = "write"

[shares.output]
path = "~/ai/output"
mount = "output"
access = "write"

[shares.workflows]
path = "~/ai/workflows"
mount = "user/default/workflows"
access = "write"
"#;

impl Machine {
    fn new() -> Machine {
        let script = format!(
            "t=$(mktemp -d); mount -t tmpfs -o size=2g tmpfs $t
             mkdir $t/etc $t/home $t/var $t/opt $t/srv $t/run $t/opt/bin $t/var/lib $t/var/tmp \
             $t/run/lock
             cp -a /etc/. $t/etc/; install -m 755 {} $t/opt/bin/comfy; chmod 1777 $t/var/tmp
             for d in etc home var opt srv run; do mount --bind $t/$d /$d; done
             umount -l $t; rmdir $t
             for u in alice mallory; do useradd -m -s /bin/bash $u; done",
            comfy().display()
        );
        sh(&script);
        let upstream = PathBuf::from("/srv/upstream");
        let repos = ["up/ComfyUI", "up/hello", "up/world"].map(|n| Upstream::new(&upstream, n));
        let [core, hello, world] = repos;
        core.commit(CORE);
        hello.commit(&borrowed(&node(1)));
        world.commit(&borrowed(&node(10)));
        let m = Machine {
            dot: "/home/alice/dot".into(),
            comfy: "/opt/bin/comfy".into(),
            core,
            hello,
            world,
            env: Vec::new(),
        };
        m.manifest(MANIFEST);
        m
    }

    /// Writes comfy.toml as alice.
    pub fn manifest(&self, text: &str) {
        sh(&format!("mkdir -p {0}", self.dot.display()));
        std::fs::write(
            self.dot.join("comfy.toml"),
            text.replace("PYTHON", &python()),
        )
        .unwrap();
        sh(&format!(
            "chown -R alice:alice {0} && chmod 644 {0}/comfy.toml",
            self.dot.display()
        ));
    }

    /// A command as some user, with that user's groups.
    pub fn as_user(&self, user: &str, program: &str, args: &[&str]) -> Command {
        let mut c = Command::new("setpriv");
        let home = if user == "root" {
            "/root".to_string()
        } else {
            format!("/home/{user}")
        };
        c.args([
            "--reuid",
            user,
            "--regid",
            user,
            "--init-groups",
            "env",
            "-i",
            "-C",
            "/",
        ])
        .arg(format!("HOME={home}"))
        .arg(format!("USER={user}"));
        c.args([
            "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "NO_COLOR=1",
            "COMFY_MIRRORS=https://github.com/=file:///srv/upstream/",
        ])
        .args(self.env.iter().map(|(k, v)| format!("{k}={v}")))
        .arg(program)
        .args(args);
        c
    }

    /// comfy as alice: `lock`, `plan`, whatever needs no root.
    pub fn alice(&self, args: &[&str]) -> Output {
        let all = [&["-C", "/home/alice/dot"], args].concat();
        self.as_user("alice", "/opt/bin/comfy", &all)
            .output()
            .unwrap()
    }

    /// comfy as root, for alice.
    pub fn root_command(&self, args: &[&str]) -> Command {
        let mut c = Command::new(&self.comfy);
        c.env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("HOME", "/root")
            .env("SUDO_USER", "alice")
            .env("SUDO_UID", sh("id -u alice"))
            .env("COMFY_MIRRORS", "https://github.com/=file:///srv/upstream/")
            .envs(self.env.iter().cloned())
            .args(["-C", "/home/alice/dot"])
            .args(args);
        c
    }

    pub fn root(&self, args: &[&str]) -> Output {
        self.root_command(args).output().unwrap()
    }

    pub fn lock(&self) {
        ok(&self.alice(&["lock"]));
    }

    pub fn apply(&self) {
        ok(&self.root(&["apply", "--yes"]));
    }

    /// Locked, applied, and clean for alice's own `plan`.
    pub fn ready(&self) {
        self.lock();
        self.apply();
        self.clean();
    }

    pub fn clean(&self) {
        let out = self.alice(&["plan", "--exit-code"]);
        assert_eq!(out.status.code(), Some(0), "{}", said(&out));
        assert!(
            said(&out).contains("No changes. This machine matches comfy.lock."),
            "{}",
            said(&out)
        );
    }

    /// Addresses that differ, as alice's plan sees them.
    pub fn differing(&self) -> Vec<String> {
        let out = self.alice(&["plan", "--json"]);
        assert_eq!(out.status.code(), Some(0), "{}", said(&out));
        let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        let changes = json["data"]["changes"].as_array().unwrap();
        changes
            .iter()
            .filter(|c| c["action"] != "none")
            .map(|c| c["address"].as_str().unwrap().to_string())
            .collect()
    }

    pub fn sh(&self, script: &str) -> String {
        sh(script)
    }

    /// Everything below the instance, with owner, mode, type, size and target: what must not
    /// change.
    pub fn picture(&self) -> String {
        sh(
            "for d in /opt/comfy /var/lib/comfy /home; do [ -e $d ] && find $d \\( -path \
             '*/.cache' -o -path '/home/*/dot' \\) -prune -o -printf '%p %U %G %m %y %l\\n'; done \
             | sort; cat /etc/passwd /etc/group",
        )
    }
}

pub fn said(out: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    )
}

pub fn ok(out: &Output) {
    assert!(out.status.success(), "{}", said(out));
}

/// Copies a folder's content into one text: path, mode and bytes, links as they are.
pub fn content(folder: &Path) -> std::collections::BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut out = std::collections::BTreeMap::new();
    let mut todo = vec![folder.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            if meta.is_dir() {
                todo.push(path.clone());
            }
            let bytes = if meta.is_file() {
                std::fs::read(&path).unwrap()
            } else if meta.is_symlink() {
                std::fs::read_link(&path)
                    .unwrap()
                    .into_os_string()
                    .into_encoded_bytes()
            } else {
                Vec::new()
            };
            out.insert(
                path.strip_prefix(folder).unwrap().to_path_buf(),
                (meta.permissions().mode(), bytes),
            );
        }
    }
    out
}
