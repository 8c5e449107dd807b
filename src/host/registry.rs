//! The registry of ComfyUI's nodes, docs.comfy.org/registry: which versions a node has, what became
//! of them, and their archives. `COMFY_MIRRORS` leads to another one.

use std::io::Read;
use std::time::Duration;

use serde::Deserialize;

use super::models::hub::percent_encode;
use super::models::web::{WebClient, WebRefusal, WebRequest};
use super::net::NetEnv;
use crate::manifest::node_source::LATEST;
use crate::problem::{Context, Problem, Result};
use crate::text::escape_text;

const API: &str = "https://api.comfy.org";
/// More bytes than any answer has.
const MOST_ANSWER: u64 = 16 << 20;
/// More bytes than any archive has.
const MOST_ARCHIVE: u64 = 512 << 20;

/// Asks the registry.
pub(crate) struct RegistryClient<'a> {
    net: &'a NetEnv,
    web: WebClient,
}

/// One version of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeVersion {
    pub version: String,
    pub url: String,
    /// `active`, `pending`, `flagged`, `banned`, `deleted`.
    pub status: String,
}

/// What the registry says of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RegistryNode {
    pub id: String,
    pub repository: Option<String>,
    pub status: String,
    pub latest: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireVersion {
    version: String,
    download_url: Option<String>,
    status: Option<String>,
}

#[derive(Deserialize)]
struct WireNode {
    id: String,
    repository: Option<String>,
    status: Option<String>,
    latest_version: Option<WireVersion>,
}

/// `NodeVersionStatusActive`, `NodeStatusBanned`: the last word of it.
fn short_status(status: Option<&str>) -> String {
    let status = status.unwrap_or("unknown");
    let word = status
        .rsplit_once("Status")
        .map_or(status, |(_, word)| word);
    word.chars()
        .filter(char::is_ascii_alphanumeric)
        .take(20)
        .collect::<String>()
        .to_lowercase()
}

impl RegistryClient<'_> {
    pub(crate) fn new(net: &NetEnv) -> RegistryClient<'_> {
        RegistryClient {
            net,
            web: WebClient::new(net, Duration::from_secs(net.stall_timeout())),
        }
    }

    /// The version of a node that is meant by `asked`, or the latest.
    ///
    /// # Errors
    /// The registry has no such node or version, or has withdrawn it.
    pub(crate) fn find_version(&self, id: &str, asked: &str) -> Result<NodeVersion> {
        let found = if asked == LATEST {
            let node = self.ask_node(id)?;
            let banned = short_status(node.status.as_deref());
            if banned == "banned" || banned == "deleted" {
                return Err(withdrawn(id, "", &banned));
            }
            node.latest_version.ok_or_else(|| {
                Problem::new(format!("the registry has no version of node \"{id}\""))
                    .with_hint("use its repository: `repo = \"https://…\"` in place of `registry`")
            })?
        } else {
            let path = format!("nodes/{}/versions/{}", encode(id), encode(asked));
            match self.ask::<WireVersion>(&path)? {
                Some(found) => found,
                None => return Err(self.unknown_version(id, asked)),
            }
        };
        let status = short_status(found.status.as_deref());
        if status == "banned" || status == "deleted" {
            return Err(withdrawn(id, &found.version, &status));
        }
        crate::manifest::node_source::check_version(&found.version).map_err(|why| {
            Problem::new(format!(
                "{id}: the registry's version \"{}\" {why}",
                escape_text(&found.version)
            ))
        })?;
        let url = match found.download_url.filter(|u| !u.is_empty()) {
            Some(url) => url,
            None => {
                let path = format!(
                    "nodes/{}/install?version={}",
                    encode(id),
                    encode(&found.version)
                );
                let install = self.ask::<WireVersion>(&path)?;
                install
                    .and_then(|v| v.download_url)
                    .filter(|u| !u.is_empty())
                    .ok_or_else(|| {
                        Problem::new(format!(
                            "the registry has no archive of {id} {}",
                            found.version
                        ))
                        .with_hint(
                            "use its repository: `repo = \"https://…\"` in place of `registry`",
                        )
                    })?
            }
        };
        // It names no server on this machine.
        let checked = match url.starts_with("https://") {
            true => crate::manifest::model_address(&url),
            false => Err("is not an https:// address".into()),
        };
        checked.map_err(|why| {
            Problem::new(format!(
                "{id}: the registry's archive {} {why}",
                escape_text(&url)
            ))
            .with_hint("use its repository: `repo = \"https://…\"` in place of `registry`")
        })?;
        Ok(NodeVersion {
            version: found.version,
            url,
            status,
        })
    }

    /// What became of a version; `None` if the registry does not have it.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) fn version_status(&self, id: &str, version: &str) -> Result<Option<String>> {
        let path = format!("nodes/{}/versions/{}", encode(id), encode(version));
        let found = self.ask::<WireVersion>(&path)?;
        Ok(found.map(|v| short_status(v.status.as_deref())))
    }

    /// What the registry says of a node; `None` if it has none of that id.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) fn find_node(&self, id: &str) -> Result<Option<RegistryNode>> {
        let node = self.ask::<WireNode>(&format!("nodes/{}", encode(id)))?;
        Ok(node.map(RegistryNode::from))
    }

    /// The node that has a class of this name; `None` if it knows none.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) fn find_class(&self, class: &str) -> Result<Option<RegistryNode>> {
        let node = self.ask::<WireNode>(&format!("comfy-nodes/{}/node", encode(class)))?;
        Ok(node.map(RegistryNode::from))
    }

    /// The bytes of an archive.
    ///
    /// # Errors
    /// It cannot be fetched, or is too large.
    pub(crate) fn download(&self, url: &str) -> Result<Vec<u8>> {
        let address = self.net.mirrors.rewrite_url(url);
        let request = WebRequest {
            address: &address,
            ..WebRequest::default()
        };
        let reply = self
            .web
            .ask_patiently(&request)
            .map_err(WebRefusal::into_problem)?;
        let mut bytes = Vec::new();
        reply
            .response
            .into_body()
            .into_with_config()
            .limit(MOST_ARCHIVE)
            .reader()
            .read_to_end(&mut bytes)
            .with_context(|| format!("fetch {}", escape_text(url)))?;
        Ok(bytes)
    }

    fn ask_node(&self, id: &str) -> Result<WireNode> {
        self.ask::<WireNode>(&format!("nodes/{}", encode(id)))?
            .ok_or_else(|| {
                Problem::new(format!("the registry has no node \"{}\"", escape_text(id))).with_hint(
                    "its id is the last part of its page at registry.comfy.org; a node that is not \
                 there has a repository: `repo = \"https://…\"`",
                )
            })
    }

    fn unknown_version(&self, id: &str, asked: &str) -> Problem {
        if let Err(p) = self.ask_node(id) {
            return p;
        }
        let p = Problem::new(format!(
            "the registry has no version {} of node \"{id}\"",
            escape_text(asked)
        ));
        let all = self.ask::<Vec<WireVersion>>(&format!("nodes/{}/versions", encode(id)));
        let known: Vec<String> = match all {
            Ok(Some(all)) => all.into_iter().take(10).map(|v| v.version).collect(),
            _ => Vec::new(),
        };
        if known.is_empty() {
            return p;
        }
        p.with_hint(format!("it has {}", escape_text(&known.join(", "))))
    }

    /// An answer; `None` for 404.
    fn ask<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<Option<T>> {
        let address = self.net.mirrors.rewrite_url(&format!("{API}/{path}"));
        let request = WebRequest {
            address: &address,
            ..WebRequest::default()
        };
        let reply = match self.web.ask_patiently(&request) {
            Ok(reply) => reply,
            Err(WebRefusal::Status(404, _)) => return Ok(None),
            Err(other) => {
                return Err(other.into_problem().with_prefix("the registry of nodes: "));
            }
        };
        let text = reply
            .response
            .into_body()
            .into_with_config()
            .limit(MOST_ANSWER)
            .read_to_vec()
            .with_context(|| format!("read the answer of {}", escape_text(&address)))?;
        serde_json::from_slice(&text)
            .map(Some)
            .with_context(|| format!("understand the answer of {}", escape_text(&address)))
    }
}

impl From<WireNode> for RegistryNode {
    fn from(w: WireNode) -> RegistryNode {
        RegistryNode {
            status: short_status(w.status.as_deref()),
            id: w.id,
            repository: w.repository.filter(|r| !r.is_empty()),
            latest: w.latest_version.map(|v| v.version),
        }
    }
}

fn withdrawn(id: &str, version: &str, status: &str) -> Problem {
    let gap = if version.is_empty() { "" } else { " " };
    Problem::new(format!(
        "the registry has {status} {}{gap}{}",
        escape_text(id),
        escape_text(version)
    ))
    .with_hint("it gives no reasons; choose another version, or leave the node out")
}

fn encode(text: &str) -> String {
    percent_encode(text, "")
}
