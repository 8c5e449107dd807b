//! How each [`LaunchMode`] changes a launch.

use super::sandbox_process::SandboxAccount;
use super::supervisor::Launch;
use super::{LaunchMode, stdio};
use crate::desired::launch::{LaunchCommand, LaunchSpec};
use crate::doctor::probes::ProbeContext;
use crate::doctor::{self, ProbeAs, ProbeRequest};
use crate::manifest::LaunchSession;
use crate::problem::{Context, Problem, Result};

impl LaunchMode {
    /// Returns whether ComfyUI listens on its port; at most one such launch runs at a time.
    pub(super) fn serves(&self) -> bool {
        matches!(self, LaunchMode::Attended | LaunchMode::Detached)
    }

    /// Returns whether everything is loaded once, as a check.
    pub(super) fn loads(&self) -> bool {
        matches!(self, LaunchMode::Loaded(_))
    }

    /// Returns whether probes of what must not be possible are run.
    pub(super) fn tries(&self) -> bool {
        matches!(self, LaunchMode::Tried(_))
    }

    /// Returns the session to start it in.
    pub(super) fn session(&self, spec: &LaunchSpec) -> LaunchSession {
        match self {
            LaunchMode::Tried(t) => t.session.unwrap_or(spec.session),
            _ => spec.session,
        }
    }

    /// Returns the account of an unconfined process; `None` if it is confined.
    pub(super) fn unconfined(&self, spec: &LaunchSpec) -> Result<Option<SandboxAccount>> {
        match self {
            LaunchMode::Tried(t) => unconfined_account(t.by, spec),
            _ => Ok(None),
        }
    }

    /// Puts the program to run in ComfyUI's place.
    pub(super) fn adapt(&self, launch: &mut Launch) -> Result<()> {
        match self {
            LaunchMode::Once(argv) => run_once(argv, &mut launch.command),
            LaunchMode::Shell { term, .. } => {
                open_shell(term, launch.spec.os.is_macos(), &mut launch.command);
                Ok(())
            }
            LaunchMode::Tried(t) => try_once(t, &mut launch.command),
            LaunchMode::Loaded(_) => {
                let card = crate::host::confine::has_card(&launch.confinement);
                launch
                    .spec
                    .import_check(&mut launch.command, &launch.flags, card);
                stdio::make_logs_dir(&launch.spec, launch.owner_gid)
            }
            LaunchMode::Attended | LaunchMode::Detached | LaunchMode::Explained => Ok(()),
        }
    }
}

/// Runs another program in ComfyUI's place.
fn run_once(argv: &[String], command: &mut LaunchCommand) -> Result<()> {
    let (program, args) = argv.split_first().ok_or_else(|| {
        Problem::new("there is no program to run").with_hint("comfy exec -- PROGRAM")
    })?;
    (command.program, command.args, command.lacking) = (program.into(), args.to_vec(), Vec::new());
    Ok(())
}

/// Runs a shell in ComfyUI's place.
fn open_shell(term: &str, macos: bool, command: &mut LaunchCommand) {
    let shell = ["/bin/bash", "/bin/sh"]
        .into_iter()
        .find(|p| std::path::Path::new(p).exists())
        .unwrap_or("/bin/sh");
    // The shell reads no startup files of the sandbox user's.
    let plain: &[&str] = if shell.ends_with("bash") {
        &["--noprofile", "--norc", "-i"]
    } else {
        &["-i"]
    };
    (command.program, command.args, command.lacking) = (
        shell.into(),
        plain.iter().map(|a| a.to_string()).collect(),
        Vec::new(),
    );
    let known = term
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c));
    command.env.extend(
        [
            ("TERM", if known { term } else { "dumb" }),
            ("PS1", "comfy \\w\\$ "),
            ("HISTFILE", ""),
        ]
        .map(|(k, v)| (k.to_string(), v.to_string())),
    );
    if macos {
        // Apple's bash says at every start that another shell is the default.
        let name = "BASH_SILENCE_DEPRECATION_WARNING";
        command.env.insert(name.into(), "1".into());
    }
}

/// Runs the script that probes what must not be possible.
fn try_once(t: &ProbeRequest, command: &mut LaunchCommand) -> Result<()> {
    let question = ProbeContext {
        by: Some(t.by),
        ..(*t.question).clone()
    };
    let text = serde_json::to_string(&question).context("write the list of probes")?;
    // Without site and environment, so that no package is loaded.
    (command.args, command.lacking) = (
        ["-I", "-S", "-c", doctor::SCRIPT, &text]
            .map(String::from)
            .into(),
        Vec::new(),
    );
    Ok(())
}

/// Returns the account for unconfined probes: the sandbox user, or another user of this machine.
fn unconfined_account(by: ProbeAs, spec: &LaunchSpec) -> Result<Option<SandboxAccount>> {
    Ok(match by {
        ProbeAs::Confined => None,
        ProbeAs::Bare => Some(SandboxAccount {
            name: spec.user.clone(),
            uid: spec.uid,
            gid: spec.gid,
        }),
        ProbeAs::Stranger => {
            let nobody = nix::unistd::User::from_name("nobody")
                .ok()
                .flatten()
                .filter(|u| ![0, spec.owner, spec.uid].contains(&u.uid.as_raw()));
            let u = nobody.ok_or_else(|| {
                Problem::new("the account `nobody`, which this probe needs, does not exist")
            })?;
            Some(SandboxAccount {
                name: u.name,
                uid: u.uid.as_raw(),
                gid: u.gid.as_raw(),
            })
        }
    })
}
