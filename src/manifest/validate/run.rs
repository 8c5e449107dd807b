//! The rules for running: `[run]`, `[network]`, `[policy]`.

use std::collections::BTreeMap;

use super::ManifestCheck;
use crate::manifest::{
    AcceptEntry, ClientPolicy, EgressPolicy, LaunchSession, MODELS, NetworkSettings, NodeSettings,
    PolicySettings, RunSettings, env_vars, values, wire,
};

impl ManifestCheck {
    pub(super) fn check_run(&mut self, w: wire::TomlRun) -> RunSettings {
        let open_files = match w.open_files.unwrap_or(20_480) {
            n @ 256..=1_048_576 => n as u64,
            n => {
                self.report_mistake(
                    &["run", "open_files"],
                    format!("open_files {n} is not between 256 and 1048576"),
                    "20480 is enough for most setups",
                );
                20_480
            }
        };
        let reserve = w.memory_reserve.unwrap_or_else(|| "4 GiB".into());
        let memory_reserve = values::parse_size(&reserve).unwrap_or_else(|| {
            self.report_mistake(
                &["run", "memory_reserve"],
                format!("memory_reserve \"{reserve}\" is not a size"),
                "write \"4 GiB\"",
            );
            0
        });
        let env = w.env.unwrap_or_default();
        for (k, v) in &env {
            let at = ["run", "env", k.as_str()];
            let upper = k.to_uppercase();
            if k.is_empty()
                || k.starts_with(|c: char| c.is_ascii_digit())
                || !k.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            {
                self.report_mistake(
                    &at,
                    format!("\"{k}\" is not the name of an environment variable"),
                    "use letters, digits and `_`",
                );
            } else if let Some((why, hint)) = env_vars::refusal_of(k) {
                self.report_mistake(&at, format!("{k} {why}"), hint);
            } else if [
                "TOKEN",
                "SECRET",
                "PASSWORD",
                "PASSWD",
                "APIKEY",
                "CREDENTIAL",
                "_PAT",
            ]
            .iter()
            .any(|p| upper.contains(p))
                || upper.ends_with("_KEY")
                || upper.contains("_KEY_")
            {
                self.report_mistake(
                    &at,
                    format!("{k} looks like a secret, which every node could read"),
                    "keep secrets out of the manifest and out of the sandbox",
                );
            } else if v.contains('\0') {
                self.report_mistake(&at, format!("the value of {k} contains a NUL"), "remove it");
            }
        }
        let session = match w.session.as_deref() {
            None | Some("own") => LaunchSession::Own,
            Some("caller") => LaunchSession::Caller,
            Some(other) => {
                self.report_mistake(
                    &["run", "session"],
                    format!("session \"{other}\" is unknown"),
                    "known: \"own\", \"caller\"",
                );
                LaunchSession::Own
            }
        };
        RunSettings {
            open_files,
            memory_reserve,
            passwordless: w.passwordless.unwrap_or(false),
            boot: w.boot.unwrap_or(false),
            env,
            session,
        }
    }

    pub(super) fn check_network(
        &mut self,
        w: wire::TomlNetwork,
        allow_remote: bool,
    ) -> NetworkSettings {
        let egress = match self.word_or_list("egress", w.egress) {
            None => EgressPolicy::Deny,
            Some(Ok(w)) if w == "deny" => EgressPolicy::Deny,
            Some(Ok(w)) if w == "allow" => EgressPolicy::Allow,
            Some(Err(list)) => {
                for (i, h) in list.iter().enumerate() {
                    if !values::host_port(h) {
                        self.report_mistake(
                            &["network", "egress", &i.to_string()],
                            format!("egress \"{h}\" is not host:port"),
                            "write \"huggingface.co:443\"",
                        );
                    }
                }
                EgressPolicy::Only(list)
            }
            Some(Ok(w)) => {
                self.report_mistake(
                    &["network", "egress"],
                    format!("egress \"{w}\" is unknown"),
                    "write \"deny\", \"allow\", or a list such as [\"huggingface.co:443\"]",
                );
                EgressPolicy::Deny
            }
        };
        let clients = match self.word_or_list("clients", w.clients) {
            None => ClientPolicy::Primary,
            Some(Ok(w)) if w == "primary" => ClientPolicy::Primary,
            Some(Ok(w)) if w == "any" => ClientPolicy::Any,
            Some(Err(list)) => {
                if !allow_remote {
                    self.report_mistake(
                        &["network", "clients"],
                        "a list of clients needs `allow_remote = true` in [comfyui]",
                        "write \"primary\", or allow remote clients",
                    );
                }
                for (i, a) in list.iter().enumerate() {
                    if a.parse::<core::net::IpAddr>().is_err() {
                        self.report_mistake(
                            &["network", "clients", &i.to_string()],
                            format!("client \"{a}\" is not an address"),
                            "write addresses such as \"192.168.1.20\"",
                        );
                    }
                }
                ClientPolicy::Only(list)
            }
            Some(Ok(w)) => {
                self.report_mistake(
                    &["network", "clients"],
                    format!("clients \"{w}\" is unknown"),
                    "write \"primary\" or \"any\"",
                );
                ClientPolicy::Primary
            }
        };
        NetworkSettings { egress, clients }
    }

    /// Returns a single text as `Ok`, and a list of texts as `Err`.
    fn word_or_list(
        &mut self,
        key: &str,
        value: Option<toml::Value>,
    ) -> Option<Result<String, Vec<String>>> {
        match value? {
            toml::Value::String(s) => Some(Ok(s)),
            toml::Value::Array(a) if a.iter().all(toml::Value::is_str) => Some(Err(a
                .into_iter()
                .filter_map(|v| v.as_str().map(str::to_string))
                .collect())),
            _ => {
                self.report_mistake(
                    &["network", key],
                    format!("{key} is neither a string nor a list of strings"),
                    "see [network] in `comfy init`",
                );
                None
            }
        }
    }

    pub(super) fn check_policy(
        &mut self,
        w: wire::TomlPolicy,
        nodes: &BTreeMap<String, NodeSettings>,
    ) -> PolicySettings {
        let scan = self.choice(&["policy", "scan"], w.scan);
        let review = self.choice(&["policy", "review"], w.review);
        let confinement = self.choice(&["policy", "confinement"], w.confinement);
        let reviewer = w.reviewer.filter(|words| !words.is_empty());
        if reviewer.iter().flatten().any(|word| word.contains('\0')) {
            self.report_mistake(
                &["policy", "reviewer"],
                "reviewer has a character that no program takes",
                "write the program and its arguments as a list of texts",
            );
        }
        let mut accept = Vec::new();
        for (i, a) in w.accept.unwrap_or_default().into_iter().enumerate() {
            let i = i.to_string();
            if a.node != "comfyui" && a.node != MODELS && !nodes.contains_key(&a.node) {
                self.report_mistake(
                    &["policy", "accept", &i],
                    format!(
                        "accept refers to node \"{}\", which is not declared",
                        a.node
                    ),
                    "remove the entry, or correct the name",
                );
            }
            if a.reason.trim().is_empty() {
                self.report_mistake(
                    &["policy", "accept", &i],
                    "accept has no reason",
                    "write why it is safe, for the next reader",
                );
            }
            accept.push(AcceptEntry {
                node: a.node,
                rule: a.rule,
                path: a.path,
                reason: a.reason,
            });
        }
        PolicySettings {
            scan,
            review,
            confinement,
            reviewer,
            accept,
        }
    }
}
