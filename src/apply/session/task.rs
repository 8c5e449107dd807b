//! What an apply is for.

use crate::ids::GenerationId;
use crate::records::applied_locks;

/// What an apply does.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum ApplyTask {
    Apply,
    /// One try of a bisect: an apply that lasts until the next one.
    Try,
    /// Keep this many generations besides the live one.
    Gc(usize),
    /// Remove generations that only a bisect needed.
    RemoveTried {
        generations: Vec<GenerationId>,
    },
    /// Make an earlier generation live again.
    Back {
        to: GenerationId,
    },
    Destroy {
        purge: bool,
        /// The time in the backup's name, the same for both sides that make this plan.
        at: chrono::DateTime<chrono::Utc>,
    },
}

impl ApplyTask {
    /// Whether the machine matches the two files afterwards.
    pub(super) fn reconciles(&self) -> bool {
        matches!(self, ApplyTask::Apply | ApplyTask::Try)
    }

    /// Its name in the audit log.
    pub(super) fn word(&self) -> &'static str {
        match self {
            ApplyTask::Apply => applied_locks::APPLY,
            ApplyTask::Try => "try",
            ApplyTask::Back { .. } => applied_locks::BACK,
            ApplyTask::Gc(_) | ApplyTask::RemoveTried { .. } => "gc",
            ApplyTask::Destroy { .. } => "destroy",
        }
    }
}
