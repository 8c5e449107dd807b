//! The roles of comfy's own program, each with a hidden subcommand.

/// A role of comfy's own program, besides the one that the owner runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The root side of an apply.
    Root,
    /// Launches ComfyUI as root and supervises it. A sudoers rule and a unit on the disk contain
    /// its name, so the name must not change.
    Launcher,
    /// Becomes the sandbox user, then ComfyUI.
    Sandbox,
    /// Holds ComfyUI's port.
    Gateway,
    /// Does one build job.
    Build,
    /// Tests as the sandbox user that a share only lets it add files.
    Probe,
    /// Writes the log of a launch without a terminal.
    LogWriter,
    /// Parses files that nobody trusts.
    Parser,
    /// Becomes the program of `policy.reviewer`.
    Reviewer,
}

impl Role {
    /// Returns the hidden subcommand for this role.
    pub(crate) const fn subcommand(self) -> &'static str {
        match self {
            Role::Root => "__root",
            Role::Launcher => "__launch",
            Role::Sandbox => "__sandbox",
            Role::Gateway => "__gateway",
            Role::Build => "__build",
            Role::Probe => "__probe",
            Role::LogWriter => "__log",
            Role::Parser => "__parse",
            Role::Reviewer => "__review",
        }
    }
}
