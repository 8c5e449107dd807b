//! What it means that data of one kind reaches a place of another: the table of flows.

use super::{FlowRule, Sink};
use crate::scan::finding::{Intent, Severity};
use crate::scan::python::rules::addresses::PY_WEBHOOK;
use crate::scan::python::rules::credentials::{PY_HOST_INFO_SENT, PY_SECRET_SENT};
use crate::scan::python::rules::files::{PY_PATH_FROM_INPUT, PY_PATH_FROM_REQUEST};
use crate::scan::python::rules::intent::{PY_DOWNLOAD_AND_RUN, PY_REMOTE_SHELL};
use crate::scan::python::rules::network::PY_CONNECT;
use crate::scan::python::rules::obfuscation::PY_DECODED_CODE;
use crate::scan::python::source::Hit;
use crate::scan::python::taint::{SourceKind, cleared};

/// The bit that a check of such a place sets.
pub(in crate::scan::python) fn bit_of(sink: Sink) -> u8 {
    match sink {
        Sink::Code | Sink::Formula | Sink::Import | Sink::Deser => cleared::CODE,
        Sink::Command | Sink::Word => cleared::COMMAND,
        Sink::ReadPath | Sink::WritePath | Sink::RemovePath | Sink::ServePath => cleared::PATH,
        Sink::Url => cleared::URL,
        Sink::Send => 0,
    }
}

/// What it shows that data of `kind` reaches `sink`; None if nothing.
pub(in crate::scan::python) fn judge_flow(
    rule: &FlowRule,
    name: &str,
    kind: SourceKind,
) -> Option<Hit> {
    let end = format!(
        "{} reaches {}().",
        capital(kind.phrase()),
        super::shown_name(name)
    );
    use Severity::{Critical, High, Low, Medium};
    use SourceKind as K;
    let hit = match (rule.sink, kind) {
        (_, K::Parameter) => return None,
        (Sink::Code | Sink::Command, K::Remote) => Hit::of(&PY_DOWNLOAD_AND_RUN, end),
        (Sink::Code | Sink::Command, K::Peer) => Hit::of(&PY_REMOTE_SHELL, end),
        (Sink::Code | Sink::Command, K::Decoded) => Hit::of(&PY_DECODED_CODE, end),
        (Sink::Code, K::Request | K::NodeInput) => Hit::of(rule.rule, end).at(High),
        (Sink::Code, K::Argument | K::FileContent) => {
            Hit::of(rule.rule, end).at(High.min(rule.rule.severity.max(Medium)))
        }
        (Sink::Formula, K::Request | K::NodeInput | K::Remote | K::Peer) => Hit::of(rule.rule, end),
        (Sink::Command, K::Request | K::NodeInput) => Hit::of(rule.rule, end).at(High),
        (Sink::Word, K::Request) => {
            let message = format!(
                "A request is told to a program by {}().",
                super::shown_name(name)
            );
            Hit::of(rule.rule, message).at(High)
        }
        (Sink::Word, K::NodeInput | K::Remote | K::Peer) => Hit::of(
            rule.rule,
            format!(
                "{} is told to a program by {}().",
                capital(kind.phrase()),
                super::shown_name(name)
            ),
        ),
        (Sink::Command, K::Argument) => Hit::of(rule.rule, end).at(Medium),
        (Sink::Import, K::Request | K::NodeInput) => Hit::of(rule.rule, end),
        (Sink::Import, K::Remote | K::Peer) => Hit::of(rule.rule, end).at(Critical),
        (Sink::Deser, K::Remote | K::Peer | K::Request) => Hit::of(rule.rule, end).at(High),
        (Sink::Deser, K::NodeInput) => Hit::of(rule.rule, end).at(Medium),
        (Sink::Deser, K::Decoded) => Hit::of(rule.rule, end).at(High),
        (Sink::ReadPath | Sink::WritePath | Sink::RemovePath | Sink::ServePath, K::Request) => {
            let word = path_word(rule.sink);
            Hit::of(
                &PY_PATH_FROM_REQUEST,
                format!("A request names a file that is {word}, and nothing checks the path."),
            )
        }
        (Sink::ReadPath | Sink::WritePath | Sink::RemovePath | Sink::ServePath, K::NodeInput) => {
            let word = path_word(rule.sink);
            Hit::of(
                &PY_PATH_FROM_INPUT,
                format!(
                    "A text of the workflow names a file that is {word}, and nothing checks the path."
                ),
            )
        }
        (Sink::WritePath | Sink::RemovePath, K::Remote | K::Peer) => Hit::of(
            &PY_PATH_FROM_INPUT,
            "A reply from the network names a file that is written or removed.",
        )
        .at(Low),
        (Sink::Url, K::Request) => Hit::of(
            rule.rule,
            "A request names whom to connect to, and nothing checks it.",
        )
        .at(High),
        (Sink::Url, K::NodeInput) => Hit::of(
            rule.rule,
            "A text of the workflow names whom to connect to, and nothing checks it.",
        ),
        (Sink::Send, K::Credential) => Hit::of(
            &PY_SECRET_SENT,
            format!(
                "Credentials leave the machine through {}().",
                super::shown_name(name)
            ),
        ),
        (Sink::Send, K::Secret) => Hit::of(
            &PY_SECRET_SENT,
            format!(
                "A secret out of the environment leaves through {}().",
                super::shown_name(name)
            ),
        )
        .at(Medium),
        (Sink::Send, K::HostInfo) => Hit::of(
            &PY_HOST_INFO_SENT,
            format!(
                "Facts about the machine and its user leave it through {}().",
                super::shown_name(name)
            ),
        ),
        (Sink::Code, K::Secret | K::Credential | K::HostInfo) => {
            Hit::of(rule.rule, end).at(Low.max(rule.rule.severity))
        }
        _ => return None,
    };
    Some(hit)
}

/// What a flow shows that happens when the module is imported, before anybody uses a node.
pub(in crate::scan::python) fn judge_at_import(rule: &FlowRule, kind: SourceKind) -> Option<Hit> {
    let sends = rule.sink == Sink::Send && kind == SourceKind::FileContent;
    sends.then(|| {
        let message = "The content of a file leaves the machine as soon as the node is loaded.";
        Hit::of(&PY_CONNECT, message).at(Severity::Medium)
    })
}

/// What it shows that contents of files go to a webhook.
pub(in crate::scan::python) fn file_to_webhook() -> Hit {
    Hit::of(&PY_WEBHOOK, "The content of a file goes to a webhook.")
        .at(Severity::Critical)
        .with_intent(Intent::Webhook)
}

fn path_word(sink: Sink) -> &'static str {
    match sink {
        Sink::WritePath => "written",
        Sink::RemovePath => "removed or moved",
        Sink::ServePath => "sent to the browser",
        _ => "read",
    }
}

fn capital(text: &str) -> String {
    let mut all = text.chars();
    all.next().map_or_else(String::new, |c| {
        c.to_uppercase().collect::<String>() + all.as_str()
    })
}
