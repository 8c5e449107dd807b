//! What the sandbox user can do to a program that runs as root, tried: docs/threat-model.md has the
//! table.
//!
//! Shares, state and victims lie on one mount here, so that links and renames between them are
//! possible at all.

mod bombs;
mod builds;
mod code;
mod deletion;
mod environment;
mod faults;
mod launches;
mod links;
mod owner_files;
mod remotes;
mod rights;
mod special;
mod swaps;
pub mod switches;
mod words;

use std::process::Output;

use super::machine::{BASE, MANIFEST, Machine, ok, said};

const OUTPUT: &str = "/opt/ai/output";

/// The usual manifest with its shares where the state is, and one that the sandbox may add to.
fn manifest() -> String {
    moved(MANIFEST)
}

fn moved(manifest: &str) -> String {
    manifest
        .replace("~/ai/", "/opt/ai/")
        .replace("mount = \"models\"", "mount = \"models\"\naccess = \"add\"")
}

/// An applied machine with victims: files of root's, of the owner's and of another user's that
/// nothing may touch.
fn ready(m: &Machine) {
    m.sh("install -d -o alice -g alice /opt/ai
          install -d /opt/victim /opt/victim/d; for f in f d/g; do echo root > /opt/victim/$f; \
        done; chmod 600 /opt/victim/f
          install -d -o alice -g alice /opt/alice; echo alice > /opt/alice/key; chown alice:alice \
        /opt/alice/key; chmod 600 /opt/alice/key
          install -d -o mallory -g mallory /opt/mallory; echo mallory > /opt/mallory/key; chown \
        mallory:mallory /opt/mallory/key; chmod 600 /opt/mallory/key");
    m.manifest(&manifest());
    m.ready();
}

/// Owner, mode, inode and content of everything that belongs to others.
fn victims(m: &Machine) -> String {
    m.sh(
        "find /opt/victim /opt/alice /opt/mallory -printf '%p %u:%g %m %i %y %l\\n' -type f -exec \
        sha256sum {} + | sort; stat -c '%n %U %a' /etc/passwd /etc/shadow; grep -e ^root -e ^alice \
        -e ^mallory /etc/shadow /etc/passwd",
    )
}

/// Everything but what is only a cache of what was fetched.
fn picture(m: &Machine) -> String {
    m.picture()
        .lines()
        .filter(|l| !l.contains("/.staging/store"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// `state/` as older versions of comfy had it: the sandbox user's own, who renames what is in it.
/// The next apply brings it over.
fn old_state(m: &Machine) {
    m.sh(&format!(
        "chown comfyui_sandbox:comfyui_sandbox {BASE}/state; chmod 751 {BASE}/state"
    ));
}

/// A script of the sandbox user's, which must work: an attack that cannot be made proves nothing.
fn sandbox(m: &Machine, script: &str) -> String {
    let out = m
        .as_user("comfyui_sandbox", "/bin/bash", &["-ec", script])
        .output()
        .unwrap();
    ok(&out);
    said(&out)
}

/// The same where the kernel's guards may refuse it.
fn sandbox_may(m: &Machine, script: &str) -> bool {
    m.as_user("comfyui_sandbox", "/bin/bash", &["-ec", script])
        .output()
        .unwrap()
        .status
        .success()
}

/// An apply that must end by itself.
fn apply(m: &Machine) -> Output {
    let c = m.root_command(&["apply", "--yes"]);
    let mut timed = std::process::Command::new("timeout");
    timed
        .args(["-s", "KILL", "60"])
        .arg(c.get_program())
        .args(c.get_args())
        .env_clear()
        .envs(c.get_envs().filter_map(|(k, v)| Some((k, v?))));
    let out = timed.output().unwrap();
    assert!(
        out.status.code().is_some_and(|c| c == 0 || c == 1),
        "{:?}: {}",
        out.status,
        said(&out)
    );
    out
}

/// It did nothing, and says why.
fn refused(out: &Output, why: &str) {
    assert_eq!(out.status.code(), Some(1), "{why}: {}", said(out));
    assert!(said(out).contains(why), "not `{why}`:\n{}", said(out));
}
