//! What the name of a library's function says of its calls, whatever their arguments are.

use super::beginnings::Beginning;
use super::library;
use super::named;
use super::rules::{self, CallRule, FlowRule, Sink, network};

/// Worked out once for each name ([`super::name_cache`]): a node calls the same functions again and
/// again, and most of them are ones that no rule speaks of.
#[derive(Debug)]
pub(super) struct CallFacts {
    pub calls: Vec<&'static CallRule>,
    pub flows: Vec<&'static FlowRule>,
    /// Which data comes back, if it begins there.
    pub begins: Option<Beginning>,
    /// Whether handing it on is worth a look.
    pub is_dangerous: bool,
    pub looks_only: bool,
    /// It ends or replaces the process.
    pub restarts: bool,
    pub is_network: bool,
    pub is_download: bool,
    pub is_number: bool,
    /// It looks at headers or cookies.
    pub asks_sender: bool,
    /// Its arguments are paths.
    pub names_paths: bool,
    /// It passes its arguments on.
    pub passes: bool,
    pub clears_path: bool,
    /// Its name says that what is bad is taken out.
    pub sanitizes: bool,
}

impl CallFacts {
    pub(super) fn of(name: &str) -> CallFacts {
        CallFacts {
            calls: rules::call_rules(name).collect(),
            flows: rules::flow_rules(name).collect(),
            begins: Beginning::of(name),
            is_dangerous: rules::is_dangerous(name),
            looks_only: named::looks_only(name),
            restarts: matches!(
                name,
                "sys.exit"
                    | "os._exit"
                    | "os.kill"
                    | "os.execv"
                    | "os.execl"
                    | "os.abort"
                    | "os.execvp"
            ),
            is_network: network::is_network(name),
            is_download: network::is_download(name),
            is_number: library::is_number(name),
            asks_sender: name.contains("headers") || name.contains(".cookies"),
            names_paths: named::names_paths(name),
            passes: library::passes(name),
            clears_path: library::clears_path(name),
            sanitizes: library::sanitizes(name),
        }
    }

    /// Whether data of its arguments goes into one of these.
    pub(super) fn leads_to(&self, sinks: &[Sink]) -> bool {
        self.flows.iter().any(|rule| sinks.contains(&rule.sink))
    }
}
