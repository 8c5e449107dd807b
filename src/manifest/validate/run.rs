//! The sections about running: `[run]`, `[network]`, `[policy]`.

use std::collections::BTreeMap;

use super::Check;
use crate::manifest::{
    Accept, Clients, Egress, Network, Node, Policy, Run, env_vars, values, wire,
};

impl Check {
    pub(super) fn run(&mut self, w: wire::Run) -> Run {
        let open_files = match w.open_files.unwrap_or(20_480) {
            n @ 256..=1_048_576 => n as u64,
            n => {
                self.wrong(
                    &["run", "open_files"],
                    format!("open_files {n} is not between 256 and 1048576"),
                    "20480 serves most",
                );
                20_480
            }
        };
        let reserve = w.memory_reserve.unwrap_or_else(|| "4 GiB".into());
        let memory_reserve = values::size(&reserve).unwrap_or_else(|| {
            self.wrong(
                &["run", "memory_reserve"],
                format!("memory_reserve \"{reserve}\" is no size"),
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
                self.wrong(
                    &at,
                    format!("\"{k}\" is no name of an environment variable"),
                    "use letters, digits and `_`",
                );
            } else if let Some((why, hint)) = env_vars::refused(k) {
                self.wrong(&at, format!("{k} {why}"), hint);
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
                self.wrong(
                    &at,
                    format!("{k} looks like a secret: every node could read it"),
                    "keep secrets out of the manifest and out of the sandbox",
                );
            } else if v.contains('\0') {
                self.wrong(&at, format!("the value of {k} has a NUL"), "leave it out");
            }
        }
        Run {
            open_files,
            memory_reserve,
            passwordless: w.passwordless.unwrap_or(false),
            boot: w.boot.unwrap_or(false),
            env,
        }
    }

    pub(super) fn network(&mut self, w: wire::Network, allow_remote: bool) -> Network {
        let egress = match self.word_or_list("egress", w.egress) {
            None => Egress::Deny,
            Some(Ok(w)) if w == "deny" => Egress::Deny,
            Some(Ok(w)) if w == "allow" => Egress::Allow,
            Some(Err(list)) => {
                for (i, h) in list.iter().enumerate() {
                    if !values::host_port(h) {
                        self.wrong(
                            &["network", "egress", &i.to_string()],
                            format!("egress \"{h}\" is no host:port"),
                            "write \"huggingface.co:443\"",
                        );
                    }
                }
                Egress::Only(list)
            }
            Some(Ok(w)) => {
                self.wrong(
                    &["network", "egress"],
                    format!("egress \"{w}\" is unknown"),
                    "write \"deny\", \"allow\", or a list such as [\"huggingface.co:443\"]",
                );
                Egress::Deny
            }
        };
        let clients = match self.word_or_list("clients", w.clients) {
            None => Clients::Primary,
            Some(Ok(w)) if w == "primary" => Clients::Primary,
            Some(Ok(w)) if w == "any" => Clients::Any,
            Some(Err(list)) => {
                if !allow_remote {
                    self.wrong(
                        &["network", "clients"],
                        "a list of clients needs `allow_remote = true` in [comfyui]",
                        "write \"primary\", or allow remote clients",
                    );
                }
                for (i, a) in list.iter().enumerate() {
                    if a.parse::<std::net::IpAddr>().is_err() {
                        self.wrong(
                            &["network", "clients", &i.to_string()],
                            format!("client \"{a}\" is no address"),
                            "write addresses such as \"192.168.1.20\"",
                        );
                    }
                }
                Clients::Only(list)
            }
            Some(Ok(w)) => {
                self.wrong(
                    &["network", "clients"],
                    format!("clients \"{w}\" is unknown"),
                    "write \"primary\" or \"any\"",
                );
                Clients::Primary
            }
        };
        Network { egress, clients }
    }

    /// `Ok` a word, `Err` a list of words.
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
                self.wrong(
                    &["network", key],
                    format!("{key} is neither a word nor a list of words"),
                    "see [network] in `comfy init`",
                );
                None
            }
        }
    }

    pub(super) fn policy(&mut self, w: wire::Policy, nodes: &BTreeMap<String, Node>) -> Policy {
        let scan = self.one_of(
            &["policy", "scan"],
            w.scan,
            "block",
            &["block", "warn", "off"],
        );
        let review = self.one_of(&["policy", "review"], w.review, "off", &["off", "required"]);
        let confinement = self.one_of(
            &["policy", "confinement"],
            w.confinement,
            "required",
            &["required", "warn"],
        );
        let mut accept = Vec::new();
        for (i, a) in w.accept.unwrap_or_default().into_iter().enumerate() {
            let i = i.to_string();
            if a.node != "comfyui" && !nodes.contains_key(&a.node) {
                self.wrong(
                    &["policy", "accept", &i],
                    format!("accept names node \"{}\", which is not declared", a.node),
                    "remove the entry, or mend the name",
                );
            }
            if a.reason.trim().is_empty() {
                self.wrong(
                    &["policy", "accept", &i],
                    "accept without a reason",
                    "say why it is safe: the next reader needs it",
                );
            }
            accept.push(Accept {
                node: a.node,
                rule: a.rule,
                path: a.path,
                reason: a.reason,
            });
        }
        Policy {
            scan,
            review,
            confinement,
            accept,
        }
    }
}
