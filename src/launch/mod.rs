//! Launching ComfyUI. [`client`] is the owner's side, [`supervisor`] the launcher, [`processes`]
//! starts its processes, [`sandbox_process`] becomes the sandbox user, [`log_writer`] keeps the log
//! if there is no terminal, [`import_log`] reads ComfyUI's output, [`import_check_run`] loads
//! everything once, [`background`] starts a launcher without a terminal, [`inner_port`] guards
//! ComfyUI's own port, [`control`] takes commands, [`leftovers`] ends what a launch left running, and
//! [`add_only_probe`] tests what a share enforces.

pub(crate) mod add_only_probe;
pub(crate) mod applied;
mod background;
pub(crate) mod client;
pub(crate) mod control;
mod gateway_process;
pub(crate) mod import_check_run;
pub(crate) mod import_log;
mod inner_port;
mod leftovers;
pub(crate) mod log_writer;
mod mode;
mod network;
pub(crate) mod port;
mod preparation;
pub(crate) mod processes;
pub(crate) mod ready;
pub(crate) mod sandbox_process;
mod stdio;
pub(crate) mod supervisor;

use self::import_log::LogContext;
use super::doctor::ProbeRequest;
use super::problem::Problem;
use crate::desired::launch::LaunchCommand;
use crate::host::terminal::TerminalSize;

/// The request for the launcher, sent once.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct LaunchRequest {
    /// The sandbox user, whose name is the instance's.
    pub instance: String,
    /// The folder of the records under isolation "none"; with two accounts the launcher knows it.
    pub records: Option<std::path::PathBuf>,
    /// Flags for this launch only, after those of the manifest.
    pub args: Vec<String>,
    pub how: LaunchMode,
    /// For the hints in the status of a launch without a terminal.
    #[serde(default)]
    pub log_context: LogContext,
    /// Whether this launcher is the second one of a launch in the background, in a session of its
    /// own.
    #[serde(default)]
    pub in_background: bool,
}

impl crate::host::roles::serve::RoleConfig for LaunchRequest {
    const WHAT: &'static str = "the request";
    const LONGEST: u64 = 1 << 20;
}

/// What is launched, and who supervises it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum LaunchMode {
    /// The caller gets ComfyUI's output, and stops it by a command or by exiting.
    Attended,
    /// It runs in the background, and its output goes into the log.
    Detached,
    /// Shows what would be started, and starts nothing.
    Explained,
    /// Another program in ComfyUI's place, even while ComfyUI is running.
    Once(Vec<String>),
    /// A shell in its place, with its own terminal.
    Shell { size: TerminalSize, term: String },
    /// The probes of what must not be possible.
    Tried(ProbeRequest),
    /// Everything is loaded once and nothing is served, from the live generation or another
    /// existing one.
    Loaded(Option<String>),
}

/// The launcher's first line. After `Started`, ComfyUI's own output follows until it ends.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) enum LaunchAnswer {
    Started {
        address: String,
        generation: String,
        nodes: Vec<String>,
        /// Flags that this ComfyUI version does not know.
        unknown: Vec<String>,
        /// What this system lacks for the confinement.
        lacking: Vec<String>,
    },
    Explained {
        user: String,
        command: LaunchCommand,
        /// What is allowed, and why.
        allowed: String,
        lacking: Vec<String>,
    },
    Failed(Problem),
}

/// What the owner's side of a shell sends, one line each.
#[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum ShellInput {
    Typed(Vec<u8>),
    Sized(TerminalSize),
}

impl ShellInput {
    pub(crate) fn as_line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Stops ComfyUI as Ctrl-C does.
pub(crate) const STOP: &str = "stop";
/// Kills the whole process group.
pub(crate) const KILL: &str = "kill";
