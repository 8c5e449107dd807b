//! The optional system files of an instance: a launcher that sudo starts without a password, and a
//! unit that starts it at boot (`[run] passwordless` and `boot`). They are rendered here as data,
//! and written by root.

use std::path::{Path, PathBuf};

use super::{Desired, InstancePaths};
use crate::manifest::platforms::OperatingSystem;

/// A copy of comfy's own program, or its original.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ComfyProgram {
    pub uid: u32,
    pub mode: u32,
    /// In bytes.
    pub size: u64,
    /// Seconds since 1970; a copy keeps it.
    pub modified: i64,
}

impl ComfyProgram {
    /// Returns whether both have the same content as far as stat(2) shows; a file that only root
    /// writes is not compared byte by byte.
    pub(crate) fn is_copy_of(&self, own: &ComfyProgram) -> bool {
        self.uid == 0
            && self.mode & 0o7777 == 0o755
            && (self.size, self.modified) == (own.size, own.modified)
    }
}

/// The kinds of files that comfy writes into system folders; there are no others.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FileKind {
    /// sudoers(5).
    Sudoers,
    /// systemd.service(5).
    Unit,
    /// launchd.plist(5).
    Daemon,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct SystemFile {
    pub kind: FileKind,
    pub path: PathBuf,
    pub text: String,
}

impl FileKind {
    /// Returns its path for this instance.
    pub(crate) fn path_for(self, sandbox: &str, os: OperatingSystem) -> PathBuf {
        match self {
            // /etc is a link on macOS, and sudo ignores a name with a dot.
            FileKind::Sudoers => PathBuf::from(if os.is_macos() {
                "/private/etc/sudoers.d"
            } else {
                "/etc/sudoers.d"
            })
            .join(format!("comfy-{sandbox}")),
            FileKind::Unit => Path::new("/etc/systemd/system").join(unit_name(sandbox)),
            FileKind::Daemon => Path::new("/Library/LaunchDaemons")
                .join(format!("{}.plist", service_label(sandbox))),
        }
    }

    pub(crate) fn file_mode(self) -> u32 {
        if self == FileKind::Sudoers {
            0o440
        } else {
            0o644
        }
    }
}

pub(crate) fn unit_name(sandbox: &str) -> String {
    format!("comfy-{sandbox}.service")
}

fn service_label(sandbox: &str) -> String {
    format!("comfy.{sandbox}")
}

/// Returns the service that launchd has made of a file (launchctl(1)).
pub(crate) fn launchd_target(file: &Path) -> Option<String> {
    Some(format!("system/{}", file.file_stem()?.to_str()?))
}

/// Returns the command: only this program, only for this instance.
fn launcher_command(paths: &InstancePaths, sandbox: &str) -> Vec<String> {
    vec![
        paths.launcher_program().display().to_string(),
        crate::roles::Role::Launcher.subcommand().into(),
        sandbox.into(),
    ]
}

/// Renders the sudo rule: exactly this command, as root, without a password.
pub(crate) fn sudoers_file(d: &Desired) -> SystemFile {
    // By uid: a name may be given to another account.
    let rule = format!(
        "#{} ALL=(root) NOPASSWD: {}",
        d.owner.uid,
        launcher_command(&d.paths, &d.sandbox).join(" ")
    );
    let text = format!(
        "# Made by comfy ([run] passwordless): {} starts ComfyUI as {} without a \
         password.\n{rule}\n",
        d.owner.name, d.sandbox
    );
    SystemFile {
        kind: FileKind::Sudoers,
        path: FileKind::Sudoers.path_for(&d.sandbox, d.platform.os),
        text,
    }
}

/// Renders the unit that starts it at boot.
pub(crate) fn boot_file(d: &Desired) -> SystemFile {
    let kind = if d.platform.os.is_macos() {
        FileKind::Daemon
    } else {
        FileKind::Unit
    };
    let mut argv = launcher_command(&d.paths, &d.sandbox);
    argv.push("--boot".into());
    SystemFile {
        kind,
        path: kind.path_for(&d.sandbox, d.platform.os),
        text: if d.platform.os.is_macos() {
            launch_daemon(d, argv)
        } else {
            systemd_unit(d, &argv)
        },
    }
}

fn systemd_unit(d: &Desired, argv: &[String]) -> String {
    let quoted = |s: &str| {
        format!(
            "\"{}\"",
            s.replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('%', "%%")
        )
    };
    let mounts: Vec<String> = d
        .shares
        .iter()
        .map(|s| {
            quoted(
                &s.requires_mount
                    .as_ref()
                    .unwrap_or(&s.path)
                    .display()
                    .to_string(),
            )
        })
        .collect();
    let line: Vec<String> = argv.iter().map(|a| quoted(a)).collect();
    // The supervisor gets the signal of Ctrl-C; it stops ComfyUI gently, and all other processes.
    format!(
        "# Made by comfy ([run] boot).\n[Unit]\nDescription=ComfyUI as {}\nAfter=local-fs.target \
         network.target\nRequiresMountsFor={}\n\n\
         [Service]\nType=exec\nExecStart={}\nKillMode=mixed\nKillSignal=SIGINT\nTimeoutStopSec=30\nRestart=on-failure\nRestartSec=10\n\n\
         [Install]\nWantedBy=multi-user.target\n",
        d.sandbox,
        mounts.join(" "),
        line.join(" ")
    )
}

fn launch_daemon(d: &Desired, argv: Vec<String>) -> String {
    let mut keep = plist::Dictionary::new();
    keep.insert("SuccessfulExit".into(), false.into());
    let mut all = plist::Dictionary::new();
    all.insert("Label".into(), service_label(&d.sandbox).into());
    all.insert(
        "ProgramArguments".into(),
        plist::Value::Array(argv.into_iter().map(Into::into).collect()),
    );
    all.insert("RunAtLoad".into(), true.into());
    all.insert("KeepAlive".into(), keep.into());
    // Without it launchd throttles the job as a background job (launchd.plist(5)).
    all.insert("ProcessType".into(), "Interactive".into());
    // What fails before there is a log. External volumes are mounted at login: until then it fails.
    let early = d.paths.records.join("boot.log").display().to_string();
    all.insert("StandardErrorPath".into(), early.into());
    all.insert("ThrottleInterval".into(), 30.into());
    let mut text = Vec::new();
    // Writing to memory does not fail.
    let _ = plist::Value::Dictionary(all).to_writer_xml(&mut text);
    String::from_utf8_lossy(&text).into_owned() + "\n"
}
