//! Addresses of models, and what servers tell of them without giving them.

use serde::Deserialize;

use super::web::{Ask, Refusal, Reply, Web, shown};
use super::{Hubs, Secret, object_storage};
use crate::lock::model_pin::Cloud;
use crate::lock::resolve::models::Found;
use crate::lock::{Origin, Sha};
use crate::manifest::names;
use crate::problem::{Problem, Result};

/// Where the bytes are, and the key for it.
#[derive(Debug, Clone)]
pub struct Place {
    pub address: String,
    pub key: Option<Secret>,
    /// Its query is a signature, which is another one each time.
    pub signed: bool,
}

impl Place {
    /// The same for the same file, however often it is asked for.
    pub fn name(&self) -> &str {
        if self.signed {
            self.address.split('?').next().unwrap_or_default()
        } else {
            &self.address
        }
    }
}

fn keys(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::S3 => {
            "keys are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; AWS_ENDPOINT_URL leads to \
             another store"
        }
        Cloud::Google => {
            "the key is a service account's, in the file that GOOGLE_APPLICATION_CREDENTIALS names"
        }
        Cloud::Azure => {
            "the key is AZURE_STORAGE_ACCOUNT_KEY, for AZURE_STORAGE_ACCOUNT_NAME; \
             AZURE_STORAGE_SERVICE_ENDPOINT leads to another cloud"
        }
    }
}

/// What a server says of a file.
pub enum Told {
    /// Hash and size: nothing has to be fetched to pin it.
    All(Found),
    /// The hash is known only to who reads the bytes.
    Some {
        place: Place,
        revision: Option<String>,
        etag: Option<String>,
        size: Option<u64>,
    },
}

/// Where a pinned model is fetched.
///
/// # Errors
/// Its hub does not know it any more.
pub fn place(
    web: &Web,
    hubs: &Hubs,
    origin: &Origin,
    revision: Option<&str>,
    sha256: Sha,
) -> Result<Place> {
    match origin {
        Origin::Hub {
            repo,
            file,
            revision: asked,
        } => Ok(huggingface(hubs, repo, file, revision.unwrap_or(asked))),
        Origin::Web(address) => Ok(Place {
            address: address.clone(),
            key: None,
            signed: false,
        }),
        Origin::Civitai(version) => {
            let file = files(web, hubs, version)?
                .into_iter()
                .find(|f| f.sha256() == Some(sha256));
            let gone = || {
                Problem::new(format!(
                    "civitai's version {version} has no file with sha256 {sha256} any more"
                ))
                .hint("`comfy update` this model, or choose another")
            };
            Ok(Place {
                address: civitai_address(hubs, file.ok_or_else(gone)?)?,
                key: hubs.civitai_token.clone(),
                signed: false,
            })
        }
        Origin::Bucket { cloud, bucket, key } => object_storage::place(hubs, *cloud, bucket, key),
        Origin::File(_) => Err(Problem::new("is not fetched by HTTP")),
    }
}

/// Asks what the file is, as the lock pins it.
///
/// # Errors
/// It is not there, or the server does not let the caller in.
pub fn ask(
    web: &Web,
    hubs: &Hubs,
    origin: &Origin,
    name: &str,
    before: Option<&str>,
) -> Result<Told> {
    match origin {
        Origin::Hub {
            repo,
            file,
            revision,
        } => ask_huggingface(web, hubs, repo, file, revision),
        Origin::Web(address) => {
            let place = Place {
                address: address.clone(),
                key: None,
                signed: false,
            };
            let reply = first_byte(web, &place)?;
            Ok(Told::Some {
                place,
                revision: None,
                etag: reply.etag(),
                size: reply.total(),
            })
        }
        Origin::Civitai(version) => {
            let mut all = files(web, hubs, version)?;
            let wanted = name.rsplit('/').next().unwrap_or(name);
            let at = all
                .iter()
                .position(|f| {
                    before.is_some_and(|b| {
                        f.hashes
                            .sha256
                            .as_deref()
                            .is_some_and(|h| h.eq_ignore_ascii_case(b))
                    })
                })
                .or_else(|| all.iter().position(|f| f.name == wanted))
                .or_else(|| all.iter().position(|f| f.primary))
                .unwrap_or(0);
            if all.is_empty() {
                return Err(Problem::new(format!(
                    "civitai's version {version} has no file"
                )));
            }
            let file = all.swap_remove(at);
            let sha256 = file.sha256();
            let place = Place {
                address: civitai_address(hubs, file)?,
                key: hubs.civitai_token.clone(),
                signed: false,
            };
            // The API tells kilobytes: the exact size is the download's own.
            let size = first_byte(web, &place)?.total();
            Ok(match (sha256, size) {
                (Some(sha256), Some(size)) => Told::All(Found {
                    revision: None,
                    etag: None,
                    size,
                    sha256,
                }),
                _ => Told::Some {
                    place,
                    revision: None,
                    etag: None,
                    size,
                },
            })
        }
        Origin::Bucket { cloud, bucket, key } => {
            let place = object_storage::place(hubs, *cloud, bucket, key)?;
            let reply = first_byte(web, &place).map_err(|p| p.hint(keys(*cloud)))?;
            Ok(Told::Some {
                place,
                revision: None,
                etag: reply.etag(),
                size: reply.total(),
            })
        }
        Origin::File(_) => Err(Problem::new("is not asked by HTTP")),
    }
}

/// Asks for one byte, which tells length and version where HEAD is refused, as signed addresses do.
fn first_byte(web: &Web, place: &Place) -> Result<Reply> {
    let reply = web
        .ask(&Ask {
            address: &place.address,
            key: place.key.as_ref(),
            range: Some((0, Some(0))),
            ..Ask::default()
        })
        .map_err(Refusal::problem)?;
    if reply.is_page() {
        return Err(Problem::new(format!(
            "{} answers with a web page instead of the file",
            shown(&reply.address)
        ))
        .hint(
            "a login or a notice, most likely: open it in a browser; set HF_TOKEN or \
                CIVITAI_API_TOKEN where it wants a key",
        ));
    }
    Ok(reply)
}

fn huggingface(hubs: &Hubs, repo: &str, file: &str, revision: &str) -> Place {
    let address = format!(
        "{}/{repo}/resolve/{}/{}",
        hubs.huggingface,
        encode(revision, ""),
        encode(file, "/")
    );
    Place {
        address,
        key: hubs.huggingface_token.clone(),
        signed: false,
    }
}

/// Percent-encoded but for letters, digits, `-._~` (RFC 3986, 2.3) and `keep`.
pub fn encode(text: &str, keep: &str) -> String {
    text.bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b"-._~".contains(&b) || keep.as_bytes().contains(&b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

/// One HEAD, not followed to where the bytes are: the hub's own answer has commit, size and, for
/// what lies in its large file storage, the SHA-256 (huggingface_hub, file_download.py,
/// `get_hf_file_metadata`).
fn ask_huggingface(web: &Web, hubs: &Hubs, repo: &str, file: &str, asked: &str) -> Result<Told> {
    let place = huggingface(hubs, repo, file, asked);
    let reply = web
        .ask(&Ask {
            address: &place.address,
            key: place.key.as_ref(),
            head_only: true,
            stay: true,
            ..Ask::default()
        })
        .map_err(|r| {
            r.problem()
                .hint(format!("its page: {}/{repo}", hubs.huggingface))
        })?;
    let commit = reply
        .header("X-Repo-Commit")
        .filter(|c| names::is_commit(c))
        .map(str::to_string);
    let Some(commit) = commit else {
        return Err(Problem::new(format!(
            "{} is no hub: it names no commit",
            shown(&reply.address)
        ))
        .hint("check HF_ENDPOINT"));
    };
    let linked = reply
        .header("X-Linked-Etag")
        .map(|e| e.trim_start_matches("W/").trim_matches('"'))
        .and_then(Sha::parse);
    let size = reply.header("X-Linked-Size").and_then(|s| s.parse().ok());
    Ok(match (linked, size) {
        (Some(sha256), Some(size)) => Told::All(Found {
            revision: Some(commit),
            etag: None,
            size,
            sha256,
        }),
        // A small file, kept in git itself.
        _ => Told::Some {
            place: huggingface(hubs, repo, file, &commit),
            revision: Some(commit),
            etag: None,
            size: None,
        },
    })
}

#[derive(Deserialize)]
struct Version {
    #[serde(default)]
    files: Vec<CivitaiFile>,
}

/// A file of the API's `model-versions` answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CivitaiFile {
    #[serde(default)]
    name: String,
    #[serde(default)]
    primary: bool,
    #[serde(default)]
    hashes: CivitaiHashes,
    download_url: String,
}

#[derive(Deserialize, Default)]
struct CivitaiHashes {
    #[serde(rename = "SHA256")]
    sha256: Option<String>,
}

impl CivitaiFile {
    fn sha256(&self) -> Option<Sha> {
        Sha::parse(&self.hashes.sha256.as_deref()?.to_ascii_lowercase())
    }
}

fn files(web: &Web, hubs: &Hubs, version: &str) -> Result<Vec<CivitaiFile>> {
    let address = format!("{}/api/v1/model-versions/{version}", hubs.civitai);
    let mut reply = web
        .ask(&Ask {
            address: &address,
            key: hubs.civitai_token.as_ref(),
            ..Ask::default()
        })
        .map_err(Refusal::problem)?;
    let text = reply
        .response
        .body_mut()
        .read_to_string()
        .map_err(|e| Problem::new(format!("{}: {e}", shown(&address))).caused_by(&e))?;
    let version: Version = serde_json::from_str(&text).map_err(|e| {
        Problem::new(format!(
            "{} is no answer of civitai's: {e}",
            shown(&address)
        ))
        .caused_by(&e)
        .hint("check CIVITAI_ENDPOINT")
    })?;
    Ok(version.files)
}

/// On the endpoint that was configured, whatever host the answer names: a mirror's answers are
/// often the original's.
fn civitai_address(hubs: &Hubs, file: CivitaiFile) -> Result<String> {
    let path = file
        .download_url
        .split_once("://")
        .and_then(|(_, rest)| rest.find('/').map(|i| rest[i..].to_string()));
    let path = path.ok_or_else(|| {
        Problem::new(format!(
            "civitai names no address for {}",
            crate::text::escape(&file.name)
        ))
    })?;
    Ok(format!("{}{path}", hubs.civitai))
}
