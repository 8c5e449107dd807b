//! Launching ComfyUI: [`serve`] is the side that becomes the sandbox user, [`watch`] reads what ComfyUI says.

pub mod port;
pub mod serve;
pub mod watch;

use crate::plan::launch::Command;
use crate::problem::Problem;

/// What the launcher is asked, once.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Request {
    /// The sandbox user, who names the instance.
    pub instance: String,
    /// Where the records lie under isolation "none"; with two accounts the launcher knows.
    pub records: Option<std::path::PathBuf>,
    /// For this launch alone, after those of the manifest.
    pub args: Vec<String>,
    /// Say what would be started, start nothing.
    pub explain: bool,
}

/// Its first line. After `Started` ComfyUI's own output follows, to its end.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub enum Answer {
    Started { address: String, generation: String, nodes: Vec<String>, lacking: Vec<String> },
    Explained { user: String, command: Command },
    Failed(Problem),
}

/// Ends ComfyUI as Ctrl-C does.
pub const STOP: &str = "stop";
/// Ends the whole process group at once.
pub const KILL: &str = "kill";
