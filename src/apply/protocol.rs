//! The protocol of the owner's side and the root side: lines of JSON over the root side's stdin and
//! stdout.

use super::scope::RequestedScope;
use super::session::ApplyTask;
use crate::host::models::ModelHubs;
use crate::host::net::NetEnv;
use crate::host::roles::serve::RoleConfig;
use crate::host::roles::wire::{Event, EventMessage, ProgressUpdate};
use crate::plan::Plan;
use crate::plan::change::ApplyOutcome;

/// The request of the owner's side, sent once.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct ApplyRequest {
    pub scope: RequestedScope,
    pub only: Vec<String>,
    pub job: ApplyTask,
    pub offline: bool,
    pub net: NetEnv,
    /// Keys, which are sent only this way, and never in an argument, the environment or a file.
    pub hubs: ModelHubs,
    /// Files that the caller has read and that differ from the lock: root reads them too before it
    /// plans.
    pub suspects: Vec<std::path::PathBuf>,
    /// The digest of the approved plan; `None` if the root side must show its plan first.
    pub approved: Option<String>,
    /// Whether a plan that differs from the approved one is an error or must be approved again.
    pub saved: bool,
}

/// A message of the root side.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) enum RootMessage {
    /// Asks whether to carry out this plan; [`GO`] is the answer.
    Approve(Box<Plan>),
    Progress(ProgressUpdate),
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
            Event::Progress(p) => RootMessage::Progress(p),
            Event::Say(line) => RootMessage::Say(line),
            Event::Step(address) => RootMessage::Step(address),
        })
    }
}

/// The answer that lets the root side continue.
pub(crate) const GO: &str = "go";

/// Sent after `Done`: the root side becomes the launcher, answers `Launching`, and then reads a
/// launch request.
pub(crate) const LAUNCH: &str = "launch";
