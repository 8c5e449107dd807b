//! Which code is live, read from the link `current`.

use crate::desired::{GenerationSpec, InstancePaths};
use crate::ids::GenerationId;
use crate::plan::look::Look;
use crate::plan::observed::{FileType, Seen};

/// Where `current` leads.
pub(crate) enum LiveState {
    /// `current` does not exist: nothing was applied yet.
    Absent,
    /// Something else is in the place of the link.
    NotALink,
    /// It does not lead to a generation.
    Elsewhere(String),
    /// It leads to a generation; `None` if its description does not exist, or is another one's.
    Generation(GenerationId, Option<Box<GenerationSpec>>),
}

impl LiveState {
    /// Reads the link, and the description of the generation that it names.
    pub(crate) fn observe(paths: &InstancePaths, look: &dyn Look) -> Seen<LiveState> {
        let Some(entry) = look.read_entry(&paths.current_link())? else {
            return Ok(LiveState::Absent);
        };
        let Some(target) = entry.target.filter(|_| entry.kind == FileType::Link) else {
            return Ok(LiveState::NotALink);
        };
        Ok(match GenerationId::from_link(&target) {
            Some(id) => {
                let spec = look.generation_spec(paths, &id)?;
                LiveState::Generation(id, spec.map(Box::new))
            }
            None => LiveState::Elsewhere(target.display().to_string()),
        })
    }

    /// Returns the generation that the link leads to, even if it does not exist.
    pub(crate) fn id(&self) -> Option<&GenerationId> {
        match self {
            LiveState::Generation(id, _) => Some(id),
            _ => None,
        }
    }

    /// Returns the description of the live generation.
    pub(crate) fn spec(&self) -> Option<&GenerationSpec> {
        match self {
            LiveState::Generation(_, spec) => spec.as_deref(),
            _ => None,
        }
    }

    /// Formats the link as the plan shows it.
    pub(crate) fn describe(&self) -> String {
        match self {
            LiveState::Absent => "no link".into(),
            LiveState::NotALink => "not a link".into(),
            LiveState::Elsewhere(target) => target.clone(),
            LiveState::Generation(id, _) => id.relative_path(),
        }
    }
}
