//! The whole program as on a Mac, against doubles of its tools (mac_double.py), in folders like its own:
//! the first hour, whatever can happen to the directory service, and an end at every command. What a
//! double makes is a real account, so that every right of it is real.

use std::process::{Command, Output};

use super::machine::{MANIFEST, Machine, ok, private, said};
use crate::support::python;

struct Mac {
    /// The commands that comfy gave as root.
    tools: &'static str,
}

/// Runs `body` on a Mac of its own where comfy.toml is locked.
fn mac(name: &str, body: impl FnOnce(&Mac)) {
    private(name, |m| {
        let mac = Mac::new(m);
        ok(&mac.alice(&["lock"]));
        body(&mac);
        // No stub of Apple's was started, no group replaced, nothing else done that nobody should do.
        assert_eq!(mac.sh("cat /opt/mactools/WRONG"), "");
    });
}

impl Mac {
    fn new(m: &mut Machine) -> Mac {
        let files: Vec<(&str, &[u8], u32)> = comfy::demo::files::COMFYUI
            .iter()
            .map(|f| (f.path, f.text.as_bytes(), 0o100_644))
            .collect();
        m.core.commit(&files);
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/root");
        m.sh(&format!(
            "set -- {folder}/mac_double.py; . {folder}/mac_machine.sh"
        ));
        nix::unistd::chroot("/mnt").unwrap();
        std::env::set_current_dir("/").unwrap();
        let mac = Mac {
            tools: "/opt/mactools",
        };
        mac.manifest("");
        mac
    }

    /// Writes comfy.toml as alice, with these lines at its end.
    fn manifest(&self, more: &str) {
        let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = port.local_addr().unwrap().port();
        let text = MANIFEST
            .replace("PYTHON", &python_there())
            .replace("view = ", &format!("port = {port}\nview = "));
        std::fs::create_dir_all("/Users/alice/dot").unwrap();
        std::fs::write("/Users/alice/dot/comfy.toml", text + more).unwrap();
        self.sh("chown -R 501:20 /Users/alice/dot; chmod 644 /Users/alice/dot/comfy.toml");
    }

    fn sh(&self, script: &str) -> String {
        let out = Command::new("bash")
            .args(["-ec", script])
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("T", self.tools)
            .env("MAC_TEST", "1")
            .output()
            .unwrap();
        assert!(out.status.success(), "{script}\n{}", said(&out));
        String::from_utf8_lossy(&out.stdout).trim().to_string()
    }

    /// What goes wrong from now on, and otherwise nothing.
    fn inject(&self, json: &str) {
        std::fs::write("/opt/mactools/inject.json", json).unwrap();
    }

    fn command(&self, program: &str, before: &[&str], env: &[&str], args: &[&str]) -> Output {
        let mut c = Command::new(program);
        c.args(before).args(["-i", "-C", "/"]).args(env).args([
            "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "NO_COLOR=1",
            "COMFY_PLATFORM=macos",
            "COMFY_TOOLS=/opt/mactools",
            "COMFY_MIRRORS=https://github.com/=file:///srv/upstream/",
            "/opt/bin/comfy",
        ]);
        c.args(args).output().unwrap()
    }

    fn alice(&self, args: &[&str]) -> Output {
        self.alice_in("/Users/alice/dot", args)
    }

    fn alice_in(&self, folder: &str, args: &[&str]) -> Output {
        let user = [
            "--reuid",
            "alice",
            "--regid",
            "staff",
            "--init-groups",
            "env",
        ];
        let home = ["HOME=/Users/alice", "USER=alice"];
        let args = [&["-C", folder], args].concat();
        self.command("setpriv", &user, &home, &args)
    }

    fn root(&self, args: &[&str]) -> Output {
        // sudo of macOS keeps the HOME of whoever calls it.
        let caller = ["HOME=/Users/alice", "SUDO_USER=alice", "SUDO_UID=501"];
        let args = [&["-C", "/Users/alice/dot"], args].concat();
        self.command("env", &[], &caller, &args)
    }

    fn apply(&self) {
        ok(&self.root(&["apply", "--yes"]));
    }

    /// Addresses that differ, as alice's plan sees them, and its warnings.
    fn differing(&self) -> (Vec<String>, String) {
        let out = self.alice(&["plan", "--json"]);
        assert_eq!(out.status.code(), Some(0), "{}", said(&out));
        let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        let changes = json["data"]["changes"].as_array().unwrap();
        let differ = changes.iter().filter(|c| c["action"] != "none");
        let found = differ.map(|c| c["address"].as_str().unwrap().to_string());
        (found.collect(), json["data"]["warnings"].to_string())
    }

    fn clean(&self) {
        let (found, _) = self.differing();
        assert_eq!(found, [""; 0]);
    }

    /// How often comfy was killed.
    fn killed(&self) -> usize {
        let text = std::fs::read_to_string("/opt/mactools/killed.json").unwrap();
        serde_json::from_str::<Vec<Vec<String>>>(&text)
            .unwrap()
            .len()
    }

    /// A Mac on which comfy never was.
    fn reset(&self) {
        self.sh(
            "rm -rf /opt/comfy '/Library/Application Support/comfy' /Users/comfyui_sandbox; \
             echo Guest > /private/var/at/cron.deny; $T/fresh",
        );
    }
}

/// The version of the interpreter that the doubles run with: the only one that is no stub.
fn python_there() -> String {
    std::fs::read_to_string("/opt/mactools/dscl")
        .ok()
        .and_then(|text| {
            let line = text.lines().next()?.strip_prefix("#!")?;
            let program = line.split(' ').next()?;
            let ask = "import sys; print('%d.%d' % sys.version_info[:2])";
            let out = Command::new(program).args(["-I", "-S", "-c", ask]).output();
            Some(
                String::from_utf8_lossy(&out.ok()?.stdout)
                    .trim()
                    .to_string(),
            )
        })
        .unwrap_or_else(python)
}

/// What happens to the Mac, and every address that `plan` must name.
const DRIFTS: &[(&str, &str, &[&str])] = &[
    (
        "everything that can differ without another account",
        "$T/dseditgroup -o edit -d comfyui_sandbox -t user comfyshared
         $T/dscl . -create /Users/comfyui_sandbox UserShell /bin/zsh
         $T/dscl . -create /Users/comfyui_sandbox NFSHomeDirectory /var/empty
         $T/dscl . -create /Users/comfyui_sandbox PrimaryGroupID 20
         $T/chmod -a 'user:comfyui_sandbox allow search' /Users/alice
         chgrp 20 '/Library/Application Support/comfy/comfyui_sandbox'
         echo Guest > /private/var/at/cron.deny
         # The Finder's are no drift; a file that the sandbox user locked is one.
         cd /Users/alice/ai/output
         touch .DS_Store .localized ._a.png; chmod 600 .DS_Store
         cd /Users/alice/ai/input
         echo x > evil.png; chown 402:401 evil.png; chmod 600 evil.png; chattr +i evil.png",
        &[
            "cron.comfyui_sandbox",
            "dir.records",
            "member.comfyui_sandbox",
            "share.input",
            "traverse./Users/alice",
            "user.comfyui_sandbox",
        ],
    ),
    (
        "the user deleted",
        "$T/dscl . -delete /Users/comfyui_sandbox",
        &[
            "member.comfyui_sandbox",
            "traverse./Users/alice",
            "user.comfyui_sandbox",
        ],
    ),
    (
        "the group of the records made anew by somebody else",
        "$T/dscl . -delete /Groups/comfy-alice
         $T/dseditgroup -o create -r Other -i 650 comfy-alice",
        // Alice herself is shut out until root has repaired it.
        &[
            "comfyui",
            "dir.records",
            "dir.records",
            "member.alice.comfy-alice",
            "network.egress",
            "run",
            "service.sudo",
        ],
    ),
];

/// Every command that root has run, once, without random names.
fn commands_of_root() -> String {
    let text = std::fs::read_to_string("/opt/mactools/calls").unwrap();
    let calls: std::collections::BTreeSet<String> = text
        .lines()
        .map(|l| {
            let argv: Vec<String> = serde_json::from_str(l).unwrap();
            let words = argv.join(" ");
            match words.rsplit_once('-') {
                Some((start, end))
                    if end.len() == 16 && end.bytes().all(|b| b.is_ascii_hexdigit()) =>
                {
                    format!("{start}-RANDOM")
                }
                _ => words,
            }
        })
        .collect();
    calls.into_iter().collect::<Vec<_>>().join("\n")
}

#[test]
fn the_first_hour() {
    mac("mac::the_first_hour", |m| {
        m.sh("install -d -o 501 -g 20 /Users/alice/new");
        let out = m.alice_in("/Users/alice/new", &["init"]);
        ok(&out);
        let starter = std::fs::read_to_string("/Users/alice/new/comfy.toml").unwrap();
        assert!(starter.contains("/Users/Shared/comfy/models"), "{starter}");
        m.manifest("[run]\nboot = true\npasswordless = true\n");
        m.inject(r#"{"tcc": true}"#);
        assert!(
            !m.root(&["apply", "--yes", "--only", "user"])
                .status
                .success()
        );
        m.inject(r#"{"later": 2}"#);
        m.apply();
        m.clean();
        let daemon = "/Library/LaunchDaemons/comfy.comfyui_sandbox.plist";
        let daemon = std::fs::read_to_string(daemon).unwrap();
        assert!(daemon.contains("StandardErrorPath"), "{daemon}");
        // Other people of this Mac are in the owner's primary group, and read nothing.
        let records = "/Library/Application Support/comfy/comfyui_sandbox";
        let stat = format!("stat -c '%U:%G %a' '{records}' '{records}/launch.json'");
        assert_eq!(m.sh(&stat), "root:comfy-alice 750\nroot:comfy-alice 640");
        // The owner needs no new login to see what runs, and does not hold its lock.
        ok(&m.root(&["start"]));
        let out = m.alice(&["status", "--json"]);
        assert!(said(&out).contains(r#""running": true"#), "{}", said(&out));
        assert_eq!(
            m.sh(&format!("stat -c '%U %a' '{records}/live.lock'")),
            "root 600"
        );
        ok(&m.alice(&["open"]));
        let opened = std::fs::read_to_string("/opt/mactools/opened").unwrap();
        let port = opened.trim_end_matches('/').rsplit(':').next();
        let port: u16 = port
            .and_then(|p| p.parse().ok())
            .unwrap_or_else(|| panic!("{opened}"));
        ok(&m.alice(&["stop"]));
        // Somebody else has ComfyUI's port.
        let taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
        let out = m.root(&["start"]);
        assert!(!out.status.success());
        let holder = format!("(process {})", std::process::id());
        assert!(said(&out).contains(&holder), "{}", said(&out));
        drop(taken);
        let out = m.root(&["exec", "--", "id", "-un"]);
        assert!(out.stdout.ends_with(b"comfyui_sandbox\n"), "{}", said(&out));
        let out = m.root(&["doctor"]);
        let report = said(&out);
        assert!(
            report.contains("blocked  become root with sudo"),
            "{report}"
        );
        assert!(
            report.contains("blocked  change comfy's records"),
            "{report}"
        );

        for (what, script, expected) in DRIFTS {
            m.sh(script);
            let (mut found, _) = m.differing();
            found.sort();
            assert_eq!(found, **expected, "{what}");
            m.apply();
            let (found, _) = m.differing();
            assert_eq!(found, [""; 0], "{what}");
        }
        // What the owner has locked stays as it is, and stops nothing.
        m.sh("cd /Users/alice/ai/output; touch mine; chown 501:20 mine; chmod 600 mine; chattr +i mine");
        let (found, warnings) = m.differing();
        assert_eq!(found, [""; 0]);
        assert!(warnings.contains("chflags nouchg"), "{warnings}");
        m.apply();
        ok(&m.root(&["start"]));
        ok(&m.alice(&["stop"]));
        m.sh("chattr -i /Users/alice/ai/output/mine");

        // As after a restart of the Mac.
        m.sh(r#"echo '["system/comfy.comfyui_sandbox"]' > $T/loaded.json"#);
        ok(&m.root(&["destroy", "--yes"]));
        assert_eq!(
            m.sh("cat $T/loaded.json /private/var/at/cron.deny"),
            "[]Guest"
        );
        let left = "ls -A /private/var/folders/zz; cd /Library; find . -mindepth 2";
        assert_eq!(m.sh(left), "");
        // The group that somebody else made is theirs.
        let lists = "$T/dscl . -list /Users UniqueID; $T/dscl . -list /Groups PrimaryGroupID";
        let left = m.sh(&format!("({lists}) | grep comfy"));
        assert!(
            left.starts_with("comfy-alice ") && left.ends_with(" 650"),
            "{left}"
        );
        insta::assert_snapshot!("commands_of_root", commands_of_root());
    });
}

#[test]
fn killed_before_every_change_it_converges() {
    mac("mac::killed_before_every_change_it_converges", |m| {
        // At each change that was not yet one at which it was killed; every run goes on from there.
        let until_done = |args: &[&str]| {
            m.inject(r#"{"kill_each": true}"#);
            let started = m.killed();
            loop {
                let before = m.killed();
                let out = m.root(args);
                if out.status.success() {
                    return before - started;
                }
                assert_eq!(m.killed(), before + 1, "{}", said(&out));
            }
        };
        // Three groups, the probe and the eight writes of a user, three members.
        assert_eq!(until_done(&["apply", "--yes", "--only", "user"]), 15);
        let made = m.sh("$T/dscl -plist . -read /Users/comfyui_sandbox");
        assert!(
            made.contains("IsHidden") && made.contains("Password"),
            "{made}"
        );
        let out = m.alice(&["plan", "--only", "user", "--exit-code"]);
        assert_eq!(out.status.code(), Some(0), "{}", said(&out));
        // The user and three groups.
        assert_eq!(until_done(&["destroy", "--yes"]), 4);
        let people =
            m.sh("$T/dscl . -list /Users UniqueID; $T/dscl . -list /Groups PrimaryGroupID");
        assert!(!people.contains("comfy"), "{people}");
    });
}

/// What macOS refuses, or does only at the second time.
#[test]
fn a_refusal_says_what_to_do() {
    mac("mac::a_refusal_says_what_to_do", |m| {
        let user = ["apply", "--yes", "--only", "user"];
        m.inject(r#"{"tcc": true}"#);
        let over_ssh = said(&m.root(&user));
        assert!(
            over_ssh.contains("Allow full disk access for remote"),
            "{over_ssh}"
        );
        assert!(!m.sh("$T/dscl . -list /Users UniqueID").contains("comfy"));
        m.inject(r#"{"tcc": true, "session": "Aqua"}"#);
        let at_the_screen = said(&m.root(&user));
        assert!(
            at_the_screen.contains("tccutil reset SystemPolicySysAdminFiles"),
            "{at_the_screen}"
        );
        // Some Macs always kill one call, answer another later, and know a new user later still.
        m.inject(r#"{"hidden_kills": true, "later": 3, "lag": 2}"#);
        ok(&m.root(&user));
        m.inject("{}");
        let out = m.alice(&["plan", "--only", "user", "--exit-code"]);
        assert_eq!(out.status.code(), Some(0), "{}", said(&out));

        m.manifest("[shares.big]\npath = \"/Volumes/ai/big\"\nmount = \"user/big\"\n");
        m.sh("echo /Volumes/ai > $T/volumes-without-owners");
        let out = said(&m.root(&["apply", "--yes"]));
        assert!(
            out.contains("diskutil enableOwnership '/Volumes/ai'"),
            "{out}"
        );
        m.sh("$T/diskutil enableOwnership /Volumes/ai");
        // The letters of a path are another case, the folder is the same.
        for path in [
            "/users/ALICE/.ssh",
            "~/LIBRARY/x",
            "/LIBRARY/LaunchDaemons",
            "/OPT/comfy/x",
        ] {
            m.manifest(&format!(
                "[shares.big]\npath = \"{path}\"\nmount = \"user/big\"\n"
            ));
            let out = m.alice(&["plan"]);
            let told = said(&out);
            assert!(
                out.status.code() == Some(1) && told.contains("share big:"),
                "{path}: {told}"
            );
        }
        m.manifest("");
        m.apply();
        m.inject(r#"{"token": true}"#);
        let out = said(&m.root(&["destroy", "--yes"]));
        assert!(out.contains("secure token"), "{out}");
        m.inject("{}");
        ok(&m.root(&["destroy", "--yes"]));
    });
}

/// Whatever the directory holds: one apply makes it what it should be, or says why not and changes
/// nothing.
#[test]
fn any_directory_is_brought_to_what_it_should_be_or_left_alone() {
    mac(
        "mac::any_directory_is_brought_to_what_it_should_be_or_left_alone",
        |m| {
            let (mut made, mut refused) = (0, 0);
            for seed in 1..=12 {
                m.reset();
                m.sh(&format!("$T/scramble {seed}"));
                let before = m.sh("cat $T/state.json");
                let out = m.root(&["apply", "--yes", "--only", "user"]);
                if out.status.success() {
                    let plan = m.alice(&["plan", "--only", "user", "--exit-code"]);
                    assert_eq!(
                        plan.status.code(),
                        Some(0),
                        "{seed}: {before}{}",
                        said(&plan)
                    );
                    made += 1;
                } else {
                    assert_eq!(out.status.code(), Some(1), "{}", said(&out));
                    assert!(said(&out).contains("hint:"), "{seed}: {}", said(&out));
                    assert_eq!(m.sh("cat $T/state.json"), before, "{seed}: {}", said(&out));
                    refused += 1;
                }
            }
            assert!(made >= 3 && refused >= 3, "{made} made, {refused} refused");
        },
    );
}
