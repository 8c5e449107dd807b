//! The roles that comfy's own program plays, each named by a hidden subcommand.

/// A role of comfy's own program beside the one that the owner talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The root side of an apply.
    Root,
    /// Launches ComfyUI as root and supervises it. A sudoers rule and a unit on the disk name it,
    /// so its name stays.
    Launcher,
    /// Becomes the sandbox user, then ComfyUI.
    Sandbox,
    /// Holds ComfyUI's port.
    Gateway,
    /// Does one build job.
    Build,
    /// Tries as the sandbox user what a share keeps from it.
    Probe,
    /// Writes the log of a launch without a terminal.
    LogWriter,
}

impl Role {
    /// The hidden subcommand that plays this role.
    pub const fn subcommand(self) -> &'static str {
        match self {
            Role::Root => "__root",
            Role::Launcher => "__launch",
            Role::Sandbox => "__sandbox",
            Role::Gateway => "__gateway",
            Role::Build => "__build",
            Role::Probe => "__probe",
            Role::LogWriter => "__log",
        }
    }
}
