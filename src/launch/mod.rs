//! Launching ComfyUI: [`client`] is the owner's side, [`supervisor`] the one that launches,
//! [`processes`] its processes, [`sandbox_process`] the one that becomes the sandbox user,
//! [`log_writer`] keeps the log where there is no terminal, [`import_log`] reads what ComfyUI says,
//! [`import_check_run`] has everything loaded once, [`crate::records::running`] tells others what
//! runs, [`control`] takes their word, [`add_only_probe`] tries what a share keeps.

pub mod add_only_probe;
mod applied;
pub mod client;
pub mod control;
mod gateway_process;
pub mod import_check_run;
pub mod import_log;
pub mod log_writer;
mod mode;
mod network;
pub mod port;
mod preparation;
pub mod processes;
pub mod ready;
pub mod sandbox_process;
mod stdio;
pub mod supervisor;

use super::doctor::ProbeRequest;
use super::problem::Problem;
use crate::desired::launch::LaunchCommand;
use crate::host::terminal::TerminalSize;

/// What the launcher is asked, once.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct LaunchRequest {
    /// The sandbox user, who names the instance.
    pub instance: String,
    /// Where the records lie under isolation "none"; with two accounts the launcher knows.
    pub records: Option<std::path::PathBuf>,
    /// For this launch alone, after those of the manifest.
    pub args: Vec<String>,
    pub how: LaunchMode,
}

impl crate::host::roles::serve::RoleConfig for LaunchRequest {
    const WHAT: &'static str = "the request";
    const LONGEST: u64 = 1 << 20;
}

/// What is launched, and who attends it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum LaunchMode {
    /// Whoever asks hears what ComfyUI says, and ends it by a word or by going away.
    Attended,
    /// It goes on by itself; what ComfyUI says goes into the log.
    Detached,
    /// Say what would be started, start nothing.
    Explained,
    /// Another program in ComfyUI's place, beside it if it runs.
    Once(Vec<String>),
    /// A shell in its place, with a terminal of its own.
    Shell { size: TerminalSize, term: String },
    /// What must not be possible, tried.
    Tried(ProbeRequest),
    /// Everything is loaded once, nothing is served: of the live generation, or of another that is
    /// there.
    Loaded(Option<String>),
}

/// Its first line. After `Started` ComfyUI's own output follows, to its end.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub enum LaunchAnswer {
    Started {
        address: String,
        generation: String,
        nodes: Vec<String>,
        /// Flags that this ComfyUI does not have.
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

/// What the owner's side of a shell says, a line each.
#[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ShellInput {
    Typed(Vec<u8>),
    Sized(TerminalSize),
}

impl ShellInput {
    pub fn as_line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Ends ComfyUI as Ctrl-C does.
pub const STOP: &str = "stop";
/// Ends the whole process group at once.
pub const KILL: &str = "kill";
