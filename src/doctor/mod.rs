//! `comfy doctor` checks the isolation by trying to break it. [`probes`] gathers what to try on
//! this machine, and probe.py tries it as the sandbox user, unconfined and confined. This module
//! says what each probe means and how to repair it.

pub(crate) mod probes;
pub(crate) mod report;

use std::collections::BTreeMap;

use crate::doctor::probes::ProbeContext;
use crate::manifest::LaunchSession;

/// The script that runs the probes, with the interpreter of the live generation, without site and
/// environment.
pub(crate) const SCRIPT: &str = include_str!("probe.py");

/// The user as whom something is tried.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ProbeAs {
    /// The sandbox user, restricted by nothing but its account.
    Bare,
    /// The sandbox user, confined as ComfyUI is.
    Confined,
    /// Another user of this machine: the account `nobody`.
    Stranger,
}

/// The probes that the launcher is asked to run.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ProbeRequest {
    pub by: ProbeAs,
    pub question: Box<ProbeContext>,
    /// In which session; `None`: that of a launch.
    pub session: Option<LaunchSession>,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ProbeOutcome {
    Held,
    /// It could not be tried, so it does not count.
    Untried,
    Broken,
}

/// One probe: its id, what must not be possible, and how to repair it if it is.
pub(crate) struct Probe {
    pub id: &'static str,
    pub what: &'static str,
    pub mend: &'static str,
}

const fn probe(id: &'static str, what: &'static str, mend: &'static str) -> Probe {
    Probe { id, what, mend }
}

const CLOSE: &str = "close it to others: chmod o-rwx, and remove the sandbox user's group from it";
const AGAIN: &str = "run `comfy apply`; if that does not help, this is a bug in comfy";

/// Every probe, in the order in which they are printed.
pub(crate) const PROBES: &[Probe] = &[
    probe(
        "read.keys",
        "read your keys and passwords (ssh, GnuPG, cloud, git)",
        CLOSE,
    ),
    probe("read.keychains", "read your keychains", CLOSE),
    probe("read.browsers", "read your browser's profile", CLOSE),
    probe("read.mail", "read your mail", CLOSE),
    probe(
        "read.documents",
        "read your Documents, Desktop and Downloads",
        CLOSE,
    ),
    probe("read.history", "read your shell's history", CLOSE),
    probe(
        "read.homes",
        "look into other people's homes",
        "run `chmod o-rx` on that home",
    ),
    probe(
        "write.models",
        "change a model, or add one to a read-only share",
        "run `comfy apply --only shares`",
    ),
    probe("write.code", "change the code that it runs", AGAIN),
    probe(
        "write.python",
        "change its Python packages or interpreter",
        AGAIN,
    ),
    probe(
        "write.manifest",
        "change comfy.toml or comfy.lock",
        "run `chmod go-w` on the two files and their folder",
    ),
    probe("write.records", "change comfy's records", AGAIN),
    probe(
        "write.home",
        "write into your home",
        "run `chmod go-w` on your home; look for folders in it that others can write",
    ),
    probe(
        "escape.links",
        "read your files through a link in a share",
        CLOSE,
    ),
    probe(
        "processes.look",
        "look into the environment or the memory of your processes",
        AGAIN,
    ),
    probe("processes.signal", "signal your processes", AGAIN),
    probe(
        "processes.trace",
        "take over one of your processes",
        "raise kernel.yama.ptrace_scope, and find out why the accounts are not separate",
    ),
    probe(
        "root.sudo",
        "become root with sudo",
        "remove the sandbox user and its groups from sudoers",
    ),
    probe(
        "root.groups",
        "use a group that is as good as root",
        "remove the sandbox user from that group with `gpasswd -d`",
    ),
    probe(
        "root.containers",
        "control a container engine, which is as good as root",
        "remove the sandbox user from its group, or close its socket to others",
    ),
    probe("root.set-uid", "create a program that runs as root", AGAIN),
    probe(
        "persist.cron",
        "leave a job for cron",
        "add the sandbox user to /etc/cron.deny",
    ),
    probe(
        "persist.at",
        "leave a job for at",
        "add the sandbox user to /etc/at.deny",
    ),
    probe(
        "persist.folders",
        "install something that starts at a login",
        "run `chmod go-w` on that folder",
    ),
    probe(
        "persist.services",
        "leave a service with systemd",
        "run `loginctl disable-linger` for the sandbox user",
    ),
    probe("network.internet", "reach the internet", AGAIN),
    probe(
        "network.names",
        "resolve names, which also leaks data",
        AGAIN,
    ),
    probe(
        "network.loopback",
        "reach another service on this machine",
        AGAIN,
    ),
    probe(
        "network.sockets",
        "reach a service on this machine through its socket",
        AGAIN,
    ),
    probe(
        "network.abstract",
        "reach a service on this machine through an abstract socket",
        AGAIN,
    ),
    probe(
        "network.listen",
        "be reached from outside its own network",
        AGAIN,
    ),
    probe(
        "clients.stranger",
        "let another user of this machine in",
        "set network.clients = \"primary\" and run `comfy apply`, then `comfy restart`",
    ),
    probe(
        "gpu.metal",
        "compute on the GPU while confined (this one must work)",
        "run it with `comfy run -- --cpu`, and report its output",
    ),
];

/// What is said of a probe on macOS, where it is not the same.
const MACOS_PROBES: &[Probe] = &[
    probe(
        "processes.trace",
        "take over one of your processes",
        "find out why the accounts are not separate: `id` of both of them",
    ),
    probe(
        "root.groups",
        "use a group that is as good as root",
        "remove the sandbox user from that group: sudo dseditgroup -o edit -d USER -t user GROUP",
    ),
    probe(
        "persist.cron",
        "leave a job for cron",
        "add the sandbox user to /private/var/at/cron.deny",
    ),
    probe(
        "persist.at",
        "leave a job for at",
        "add the sandbox user to /private/var/at/at.deny",
    ),
    probe(
        "persist.services",
        "leave a service with systemd",
        "macOS has no systemd: this is a bug in comfy",
    ),
    probe(
        "gpu.metal",
        "compute on the GPU while confined (this one must work)",
        "run it with `comfy run -- --cpu`, and report its output with that of: log show --last 2m --style compact \
         --predicate 'sender == \"Sandbox\" AND eventMessage CONTAINS \"deny\"'",
    ),
];

/// The verdict of one probe.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct ProbeVerdict {
    pub id: &'static str,
    pub what: &'static str,
    pub outcome: ProbeOutcome,
    /// As whom it succeeded, or why it could not be tried.
    pub detail: String,
    pub mend: Option<&'static str>,
}

/// The result of one attempt at one probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProbeResult {
    pub by: ProbeAs,
    pub id: String,
    pub outcome: ProbeOutcome,
    pub detail: String,
}

/// Returns the verdicts: a single successful attempt breaks a probe.
pub(crate) fn verdicts_of(said: &[ProbeResult], macos: bool) -> Vec<ProbeVerdict> {
    let mut by_id: BTreeMap<&str, Vec<&ProbeResult>> = BTreeMap::new();
    for s in said {
        by_id.entry(s.id.as_str()).or_default().push(s);
    }
    let one = |p: &Probe| {
        let all = by_id.get(p.id).cloned().unwrap_or_default();
        let worst = all
            .iter()
            .map(|s| s.outcome)
            .max()
            .unwrap_or(ProbeOutcome::Untried);
        // Blocked in one of the ways counts as blocked if the others could not be tried.
        let held = all.iter().any(|s| s.outcome == ProbeOutcome::Held);
        let outcome = if worst == ProbeOutcome::Untried && held {
            ProbeOutcome::Held
        } else {
            worst
        };
        let tell = |s: &&ProbeResult| match s.by {
            ProbeAs::Bare => format!("with the account alone: {}", s.detail),
            ProbeAs::Confined => format!("confined: {}", s.detail),
            ProbeAs::Stranger => s.detail.clone(),
        };
        let mut detail: Vec<String> = match outcome {
            ProbeOutcome::Held => Vec::new(),
            ProbeOutcome::Broken => all
                .iter()
                .filter(|s| s.outcome == ProbeOutcome::Broken)
                .map(tell)
                .collect(),
            ProbeOutcome::Untried if all.is_empty() => vec!["there was no answer".into()],
            ProbeOutcome::Untried => all.iter().map(|s| s.detail.clone()).collect(),
        };
        detail.dedup();
        ProbeVerdict {
            id: p.id,
            what: p.what,
            outcome,
            detail: detail.join("; "),
            mend: (outcome == ProbeOutcome::Broken).then_some(p.mend),
        }
    };
    let here = |p: &'static Probe| {
        let other = MACOS_PROBES.iter().find(|m| macos && m.id == p.id);
        one(other.unwrap_or(p))
    };
    PROBES.iter().map(here).collect()
}

/// Parses a line of probe.py.
pub(crate) fn parse_result(by: ProbeAs, line: &str) -> Option<ProbeResult> {
    let (id, outcome, detail): (String, ProbeOutcome, String) = serde_json::from_str(line).ok()?;
    PROBES.iter().any(|p| p.id == id).then_some(ProbeResult {
        by,
        id,
        outcome,
        detail,
    })
}

/// Parses the line in which probe.py says on which port it listens.
pub(crate) fn parse_listening_port(line: &str) -> Option<u16> {
    let (id, _, port): (String, String, String) = serde_json::from_str(line).ok()?;
    (id == "listening").then(|| port.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_way_through_breaks_it_and_what_could_not_be_tried_does_not_count() {
        let lines = [
            (ProbeAs::Bare, r#"["read.keys", "held", ""]"#),
            (
                ProbeAs::Confined,
                r#"["read.keys", "untried", "there is nothing of the kind on this machine"]"#,
            ),
            (ProbeAs::Bare, r#"["read.homes", "broken", "/home/bob"]"#),
            (ProbeAs::Confined, r#"["read.homes", "held", ""]"#),
            (
                ProbeAs::Bare,
                r#"["read.mail", "untried", "there is nothing of the kind on this machine"]"#,
            ),
            (ProbeAs::Bare, r#"["made.up", "broken", ""]"#),
            (ProbeAs::Bare, "Traceback"),
        ];
        let said: Vec<ProbeResult> = lines
            .iter()
            .filter_map(|(by, l)| parse_result(*by, l))
            .collect();
        let all = verdicts_of(&said, false);
        let told: Vec<String> = all
            .iter()
            .filter(|v| ["read.keys", "read.homes", "read.mail", "root.sudo"].contains(&v.id))
            .map(|v| {
                format!(
                    "{:?} {} [{}] {}",
                    v.outcome,
                    v.id,
                    v.detail,
                    v.mend.unwrap_or("")
                )
            })
            .collect();
        insta::assert_snapshot!(told.join("\n"), @"
        Held read.keys [] 
        Untried read.mail [there is nothing of the kind on this machine] 
        Broken read.homes [with the account alone: /home/bob] run `chmod o-rx` on that home
        Untried root.sudo [there was no answer]
        ");
    }

    #[test]
    fn what_mends_a_probe_is_what_the_system_has() {
        let broken = |p: &Probe| ProbeResult {
            by: ProbeAs::Bare,
            id: p.id.into(),
            outcome: ProbeOutcome::Broken,
            detail: String::new(),
        };
        let said: Vec<ProbeResult> = PROBES.iter().map(broken).collect();
        let mends = |macos| -> Vec<String> {
            let all = verdicts_of(&said, macos);
            all.iter()
                .map(|v| format!("{}: {}", v.id, v.mend.unwrap_or("")))
                .collect()
        };
        let (linux, macos) = (mends(false), mends(true));
        let differ = macos.iter().filter(|m| !linux.contains(m)).cloned();
        insta::assert_snapshot!(differ.collect::<Vec<_>>().join("\n"), @r#"
        processes.trace: find out why the accounts are not separate: `id` of both of them
        root.groups: remove the sandbox user from that group: sudo dseditgroup -o edit -d USER -t user GROUP
        persist.cron: add the sandbox user to /private/var/at/cron.deny
        persist.at: add the sandbox user to /private/var/at/at.deny
        persist.services: macOS has no systemd: this is a bug in comfy
        gpu.metal: run it with `comfy run -- --cpu`, and report its output with that of: log show --last 2m --style compact --predicate 'sender == "Sandbox" AND eventMessage CONTAINS "deny"'
        "#);
        for word in ["yama", "gpasswd", "/etc/cron", "/etc/at", "loginctl"] {
            assert!(!macos.join("\n").contains(word), "{word}");
        }
    }
}
