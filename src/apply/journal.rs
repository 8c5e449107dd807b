//! Records what was done: a line in the audit log for each step, and a receipt for each apply.

use std::io::Write;
use std::path::Path;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::desired::InstancePaths;
use crate::host::env;
use crate::host::fs::{edit, open_parent};
use crate::plan::Plan;
use crate::problem::{Context, Result};

/// Who asked for an apply.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct ApplyCaller {
    pub name: String,
    pub uid: u32,
}

impl ApplyCaller {
    /// Returns the user who runs comfy; under sudo, the one that sudo reports, so that the root
    /// side need not trust its request.
    pub(crate) fn current_caller() -> ApplyCaller {
        use nix::unistd::{User, getuid};
        let name = env::var("SUDO_USER")
            .or_else(|| User::from_uid(getuid()).ok().flatten().map(|u| u.name))
            .unwrap_or_else(|| "unknown".into());
        let uid = env::var("SUDO_UID")
            .and_then(|u| u.parse().ok())
            .unwrap_or_else(|| getuid().as_raw());
        ApplyCaller { name, uid }
    }
}

pub(crate) struct ApplyJournal<'a> {
    pub paths: &'a InstancePaths,
    pub caller: ApplyCaller,
    /// The first 16 digits of the plan's digest, which identify the lines of one apply.
    pub plan: String,
    pub owner: Option<(u32, u32)>,
}

impl ApplyJournal<'_> {
    /// Appends a line of JSON. A failure is reported on stderr, and the apply goes on.
    pub(crate) fn append_event(&self, event: &str, detail: &serde_json::Value) {
        let line = serde_json::json!({
            "time": chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            "who": self.caller.name, "uid": self.caller.uid, "plan": self.plan, "event": event, "detail": detail,
        });
        if let Err(e) = self.append_text(&self.paths.audit_log(), &format!("{line}\n")) {
            crate::render::print_stderr(&format!("warning: could not write the audit log: {e}"));
        }
    }

    fn append_text(&self, path: &Path, text: &str) -> std::io::Result<()> {
        let (dir, name) = open_parent(path)?;
        let fd = openat(
            &dir,
            name.as_c_str(),
            OFlag::O_WRONLY
                | OFlag::O_APPEND
                | OFlag::O_CREAT
                | OFlag::O_NOFOLLOW
                | OFlag::O_CLOEXEC,
            Mode::from_bits_truncate(0o640),
        )?;
        if let Some((uid, gid)) = self.owner {
            nix::unistd::fchown(&fd, Some(uid.into()), Some(gid.into()))?;
        }
        std::fs::File::from(fd).write_all(text.as_bytes())
    }

    /// Writes the whole plan with its outcome.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn write_receipt(&self, plan: &Plan, outcome: &str) -> Result<()> {
        let now = chrono::Utc::now();
        let path = self.paths.receipts_dir().join(format!(
            "{}-{}.json",
            now.format("%Y%m%dT%H%M%S%.3f"),
            &self.plan
        ));
        let text = serde_json::json!({ "time": now.to_rfc3339(), "who": self.caller.name, "outcome": outcome, "plan": plan });
        let (uid, gid) = self.owner.map_or(
            (nix::unistd::geteuid(), nix::unistd::getegid()),
            |(uid, gid)| (uid.into(), gid.into()),
        );
        // An apply of accounts alone makes no folder for it.
        edit::make_parents(&path, uid, gid)
            .and_then(|()| {
                let bytes = format!("{text:#}\n");
                edit::write_file(&path, bytes.as_bytes(), 0o640, self.owner)
            })
            .with_context(|| format!("write {}", path.display()))
    }
}
