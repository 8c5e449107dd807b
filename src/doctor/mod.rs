//! `comfy doctor`: proves the isolation by trying to break it. [`probes`] says what there is to
//! try on this machine, probe.py tries it as the sandbox user, bare and confined; here is what each
//! probe means and what mends it.

pub mod probes;

use std::collections::BTreeMap;

use crate::doctor::probes::ProbeContext;

/// What is run to try: by the interpreter of the live generation, without site and environment.
pub const SCRIPT: &str = include_str!("probe.py");

/// As whom something is tried.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum ProbeAs {
    /// The sandbox user with nothing but its account in its way.
    Bare,
    /// As ComfyUI is launched.
    Confined,
    /// Somebody else on this machine: the account `nobody`.
    Stranger,
}

/// What the launcher is asked to try.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ProbeRequest {
    pub by: ProbeAs,
    pub question: Box<ProbeContext>,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum ProbeOutcome {
    Held,
    /// It could not be tried; that does not count.
    Untried,
    Broken,
}

/// One probe: its id, what must not be possible, and what to do if it is.
pub struct Probe {
    pub id: &'static str,
    pub what: &'static str,
    pub mend: &'static str,
}

const fn probe(id: &'static str, what: &'static str, mend: &'static str) -> Probe {
    Probe { id, what, mend }
}

const CLOSE: &str = "close it to others: chmod o-rwx, and take the sandbox user's group off it";
const AGAIN: &str = "run `comfy apply`; if it stays so, this is a bug in comfy";

/// Every probe, in the order in which they are told.
pub const PROBES: &[Probe] = &[
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
        "chmod o-rx on that home",
    ),
    probe(
        "write.models",
        "change a model, or add one where it only reads",
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
        "chmod go-w the two files and their folder",
    ),
    probe("write.records", "change what comfy remembers", AGAIN),
    probe(
        "write.home",
        "write into your home",
        "chmod go-w your home; look for folders in it that others may write",
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
        "take one of your processes over",
        "raise kernel.yama.ptrace_scope, and look why the accounts are not apart",
    ),
    probe(
        "root.sudo",
        "become root with sudo",
        "take the sandbox user and its groups out of sudoers",
    ),
    probe(
        "root.groups",
        "use a group that is as good as root",
        "gpasswd -d the sandbox user from that group",
    ),
    probe(
        "root.containers",
        "command a container engine, which is as good as root",
        "take the sandbox user out of its group, or close its socket to others",
    ),
    probe("root.set-uid", "make a program that runs as root", AGAIN),
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
        "put something where it is started at a login",
        "chmod go-w that folder",
    ),
    probe(
        "persist.services",
        "leave a service of its own with systemd",
        "loginctl disable-linger the sandbox user",
    ),
    probe("network.internet", "reach the internet", AGAIN),
    probe(
        "network.names",
        "ask for names, which is a way out too",
        AGAIN,
    ),
    probe(
        "network.loopback",
        "reach another service of this machine",
        AGAIN,
    ),
    probe(
        "network.sockets",
        "reach a service of this machine through its socket",
        AGAIN,
    ),
    probe(
        "network.abstract",
        "reach a service of this machine through an abstract socket",
        AGAIN,
    ),
    probe(
        "network.listen",
        "be reached from outside of its own network",
        AGAIN,
    ),
    probe(
        "clients.stranger",
        "let another user of this machine in",
        "set network.clients = \"primary\" and run `comfy apply`, then `comfy restart`",
    ),
    probe(
        "gpu.metal",
        "compute on the GPU while it is confined (this one must work)",
        "run it with `comfy run -- --cpu`, and tell us what it said",
    ),
];

/// What was found of one probe.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ProbeVerdict {
    pub id: &'static str,
    pub what: &'static str,
    pub outcome: ProbeOutcome,
    /// As whom it got through, or why it could not be tried.
    pub detail: String,
    pub mend: Option<&'static str>,
}

/// What one try said of one probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeResult {
    pub by: ProbeAs,
    pub id: String,
    pub outcome: ProbeOutcome,
    pub detail: String,
}

/// Everything that was said, judged: one of the tries getting through is enough to break it.
pub fn verdicts_of(said: &[ProbeResult]) -> Vec<ProbeVerdict> {
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
        // What was tried one way and held counts as held.
        let held = all.iter().any(|s| s.outcome == ProbeOutcome::Held);
        let outcome = if worst == ProbeOutcome::Untried && held {
            ProbeOutcome::Held
        } else {
            worst
        };
        let tell = |s: &&ProbeResult| match s.by {
            ProbeAs::Bare => format!("as the bare account: {}", s.detail),
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
            ProbeOutcome::Untried if all.is_empty() => vec!["it was not answered".into()],
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
    PROBES.iter().map(one).collect()
}

/// A line of probe.py.
pub fn parse_result(by: ProbeAs, line: &str) -> Option<ProbeResult> {
    let (id, outcome, detail): (String, ProbeOutcome, String) = serde_json::from_str(line).ok()?;
    PROBES.iter().any(|p| p.id == id).then_some(ProbeResult {
        by,
        id,
        outcome,
        detail,
    })
}

/// The port of which probe.py says that it listens there.
pub fn parse_listening_port(line: &str) -> Option<u16> {
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
        let all = verdicts_of(&said);
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
        Broken read.homes [as the bare account: /home/bob] chmod o-rx on that home
        Untried root.sudo [it was not answered]
        ");
    }
}
