//! What the owner's side and the root side say to each other, a line of JSON each, over the root
//! side's stdin and stdout.

use super::session::ApplyTask;
use crate::host::git::NetEnv;
use crate::host::models::ModelHubs;
use crate::host::roles::serve::RoleConfig;
use crate::host::roles::wire::{Event, EventMessage};
use crate::plan::Plan;
use crate::plan::change::ApplyOutcome;
use crate::progress::ProgressUnit;

/// The owner's side, once.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct ApplyRequest {
    /// Folder of comfy.toml and comfy.lock: the root side reads them itself.
    pub dir: std::path::PathBuf,
    pub host: String,
    pub only: Vec<String>,
    pub job: ApplyTask,
    pub offline: bool,
    pub net: NetEnv,
    /// Keys come this way alone: no argument, no environment and no file has them.
    pub hubs: ModelHubs,
    /// Files that the caller has read, and that are not what the lock says: root reads them too,
    /// before it plans.
    pub suspects: Vec<std::path::PathBuf>,
    /// The digest of the plan that was approved; `None`: show the root side's plan first.
    pub approved: Option<String>,
    /// Whether another plan than the approved one is an error or a new question.
    pub saved: bool,
}

/// The root side.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub enum RootMessage {
    /// Asks whether this plan may be carried out; [`GO`] answers.
    Approve(Box<Plan>),
    Progress {
        job: String,
        unit: ProgressUnit,
        at: u64,
        total: u64,
    },
    Say(String),
    Step(String),
    Done(ApplyOutcome),
    Launching,
    Failed(crate::problem::Problem),
}

impl RoleConfig for ApplyRequest {
    const WHAT: &'static str = "the request";
    const LONGEST: u64 = crate::host::lines::REQUEST;
}

impl EventMessage for RootMessage {
    fn from_event(event: Event) -> Option<RootMessage> {
        Some(match event {
            Event::Progress {
                job,
                unit,
                at,
                total,
            } => RootMessage::Progress {
                job,
                unit,
                at,
                total,
            },
            Event::Say(line) => RootMessage::Say(line),
            Event::Step(address) => RootMessage::Step(address),
        })
    }
}

/// The answer that lets the root side go on.
pub const GO: &str = "go";

/// After `Done`: the root side becomes the launcher, says so by `Launching`, and is asked from
/// there on.
pub const LAUNCH: &str = "launch";
