//! Addresses of models, and what servers report about them without a download.

use serde::Deserialize;

use super::web::{WebClient, WebRefusal, WebReply, WebRequest, public_address};
use super::{ModelHubs, SecretText, object_storage};
use crate::lock::model_pin::CloudStore;
use crate::lock::resolve::models::ModelInfo;
use crate::lock::{ModelOrigin, Sha256Digest};
use crate::manifest::names;
use crate::problem::{Problem, Result};

/// The address of the content, and the key for it.
#[derive(Debug, Clone)]
pub(crate) struct DownloadSource {
    pub address: String,
    pub key: Option<SecretText>,
    /// Its query is a signature, which is another one each time.
    pub signed: bool,
}

impl DownloadSource {
    /// The same for the same file, however often it is asked for.
    pub(crate) fn cache_name(&self) -> &str {
        if self.signed {
            self.address.split('?').next().unwrap_or_default()
        } else {
            &self.address
        }
    }
}

fn key_variables(cloud: CloudStore) -> &'static str {
    match cloud {
        CloudStore::S3 => {
            "keys are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; AWS_ENDPOINT_URL selects \
                another store"
        }
        CloudStore::Google => {
            "the key is a service account's, in the file that GOOGLE_APPLICATION_CREDENTIALS names"
        }
        CloudStore::Azure => {
            "the key is AZURE_STORAGE_ACCOUNT_KEY, for AZURE_STORAGE_ACCOUNT_NAME; \
             AZURE_STORAGE_SERVICE_ENDPOINT selects another cloud"
        }
    }
}

/// What a server reports about a file.
pub(crate) enum RemoteFile {
    /// Hash and size: pinning it needs no download.
    All(ModelInfo),
    /// The hash is known only after a download.
    Some {
        place: DownloadSource,
        revision: Option<String>,
        etag: Option<String>,
        size: Option<u64>,
    },
}

/// Returns the address of a pinned model.
///
/// # Errors
/// If its hub no longer has it.
pub(crate) fn download_source(
    web: &WebClient,
    hubs: &ModelHubs,
    origin: &ModelOrigin,
    revision: Option<&str>,
    sha256: Sha256Digest,
) -> Result<DownloadSource> {
    match origin {
        ModelOrigin::Hub {
            repo,
            file,
            revision: asked,
        } => Ok(huggingface_source(
            hubs,
            repo,
            file,
            revision.unwrap_or(asked),
        )),
        ModelOrigin::Web(address) => Ok(DownloadSource {
            address: address.clone(),
            key: None,
            signed: false,
        }),
        ModelOrigin::Civitai(version) => {
            let file = civitai_files(web, hubs, version)?
                .into_iter()
                .find(|f| f.sha256() == Some(sha256));
            let gone = || {
                Problem::new(format!(
                    "civitai's version {version} no longer has a file with sha256 {sha256}"
                ))
                .with_hint("`comfy update` this model, or choose another")
            };
            Ok(DownloadSource {
                address: civitai_address(hubs, file.ok_or_else(gone)?)?,
                key: hubs.civitai_token.clone(),
                signed: false,
            })
        }
        ModelOrigin::Bucket { cloud, bucket, key } => {
            object_storage::object_source(hubs, *cloud, bucket, key)
        }
        ModelOrigin::File(_) => Err(Problem::new("is not fetched by HTTP")),
    }
}

/// Requests the data that the lock pins.
///
/// # Errors
/// If it does not exist, or the server denies access.
pub(crate) fn ask_hub(
    web: &WebClient,
    hubs: &ModelHubs,
    origin: &ModelOrigin,
    name: &str,
    before: Option<&str>,
) -> Result<RemoteFile> {
    match origin {
        ModelOrigin::Hub {
            repo,
            file,
            revision,
        } => ask_huggingface(web, hubs, repo, file, revision),
        ModelOrigin::Web(address) => {
            let place = DownloadSource {
                address: address.clone(),
                key: None,
                signed: false,
            };
            let reply = first_byte(web, &place)?;
            Ok(RemoteFile::Some {
                place,
                revision: None,
                etag: reply.strong_etag(),
                size: reply.total_bytes(),
            })
        }
        ModelOrigin::Civitai(version) => {
            let mut all = civitai_files(web, hubs, version)?;
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
            let place = DownloadSource {
                address: civitai_address(hubs, file)?,
                key: hubs.civitai_token.clone(),
                signed: false,
            };
            // The API tells kilobytes: the exact size is the download's own.
            let size = first_byte(web, &place)?.total_bytes();
            Ok(match (sha256, size) {
                (Some(sha256), Some(size)) => RemoteFile::All(ModelInfo {
                    revision: None,
                    etag: None,
                    size,
                    sha256,
                }),
                _ => RemoteFile::Some {
                    place,
                    revision: None,
                    etag: None,
                    size,
                },
            })
        }
        ModelOrigin::Bucket { cloud, bucket, key } => {
            let place = object_storage::object_source(hubs, *cloud, bucket, key)?;
            let reply = first_byte(web, &place).map_err(|p| p.with_hint(key_variables(*cloud)))?;
            Ok(RemoteFile::Some {
                place,
                revision: None,
                etag: reply.strong_etag(),
                size: reply.total_bytes(),
            })
        }
        ModelOrigin::File(_) => Err(Problem::new("is not asked by HTTP")),
    }
}

/// Asks for one byte, which tells length and version where HEAD is refused, as signed addresses do.
fn first_byte(web: &WebClient, place: &DownloadSource) -> Result<WebReply> {
    let reply = web
        .send_request(&WebRequest {
            address: &place.address,
            key: place.key.as_ref(),
            range: Some((0, Some(0))),
            ..WebRequest::default()
        })
        .map_err(WebRefusal::into_problem)?;
    if reply.is_page() {
        return Err(Problem::new(format!(
            "{} returns a web page instead of the file",
            public_address(&reply.address)
        ))
        .with_hint(
            "probably a login or a notice: open it in a browser; set HF_TOKEN or \
                CIVITAI_API_TOKEN if it needs a key",
        ));
    }
    Ok(reply)
}

fn huggingface_source(hubs: &ModelHubs, repo: &str, file: &str, revision: &str) -> DownloadSource {
    let address = format!(
        "{}/{repo}/resolve/{}/{}",
        hubs.huggingface,
        percent_encode(revision, ""),
        percent_encode(file, "/")
    );
    DownloadSource {
        address,
        key: hubs.huggingface_token.clone(),
        signed: false,
    }
}

/// Percent-encoded but for letters, digits, `-._~` (RFC 3986, 2.3) and `keep`.
pub(crate) fn percent_encode(text: &str, keep: &str) -> String {
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
fn ask_huggingface(
    web: &WebClient,
    hubs: &ModelHubs,
    repo: &str,
    file: &str,
    asked: &str,
) -> Result<RemoteFile> {
    let place = huggingface_source(hubs, repo, file, asked);
    let reply = web
        .send_request(&WebRequest {
            address: &place.address,
            key: place.key.as_ref(),
            head_only: true,
            stay: true,
            ..WebRequest::default()
        })
        .map_err(|r| {
            r.into_problem()
                .with_hint(format!("its page: {}/{repo}", hubs.huggingface))
        })?;
    let commit = reply
        .header("X-Repo-Commit")
        .filter(|c| names::is_commit(c))
        .map(str::to_string);
    let Some(commit) = commit else {
        return Err(Problem::new(format!(
            "{} is not a hub: its answer names no commit",
            public_address(&reply.address)
        ))
        .with_hint("check HF_ENDPOINT"));
    };
    let linked = reply
        .header("X-Linked-Etag")
        .map(|e| e.trim_start_matches("W/").trim_matches('"'))
        .and_then(Sha256Digest::parse);
    let size = reply.header("X-Linked-Size").and_then(|s| s.parse().ok());
    Ok(match (linked, size) {
        (Some(sha256), Some(size)) => RemoteFile::All(ModelInfo {
            revision: Some(commit),
            etag: None,
            size,
            sha256,
        }),
        // A small file, kept in git itself.
        _ => RemoteFile::Some {
            place: huggingface_source(hubs, repo, file, &commit),
            revision: Some(commit),
            etag: None,
            size: None,
        },
    })
}

#[derive(Deserialize)]
struct CivitaiVersion {
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
    fn sha256(&self) -> Option<Sha256Digest> {
        Sha256Digest::parse(&self.hashes.sha256.as_deref()?.to_ascii_lowercase())
    }
}

fn civitai_files(web: &WebClient, hubs: &ModelHubs, version: &str) -> Result<Vec<CivitaiFile>> {
    let address = format!("{}/api/v1/model-versions/{version}", hubs.civitai);
    let mut reply = web
        .send_request(&WebRequest {
            address: &address,
            key: hubs.civitai_token.as_ref(),
            ..WebRequest::default()
        })
        .map_err(WebRefusal::into_problem)?;
    let text =
        reply.response.body_mut().read_to_string().map_err(|e| {
            Problem::new(format!("{}: {e}", public_address(&address))).caused_by(&e)
        })?;
    let version: CivitaiVersion = serde_json::from_str(&text).map_err(|e| {
        Problem::new(format!(
            "{} is not an answer from civitai: {e}",
            public_address(&address)
        ))
        .caused_by(&e)
        .with_hint("check CIVITAI_ENDPOINT")
    })?;
    Ok(version.files)
}

/// On the endpoint that was configured, whatever host the answer names: a mirror's answers are
/// often the original's.
fn civitai_address(hubs: &ModelHubs, file: CivitaiFile) -> Result<String> {
    let path = file
        .download_url
        .split_once("://")
        .and_then(|(_, rest)| rest.find('/').map(|i| rest[i..].to_string()));
    let path = path.ok_or_else(|| {
        Problem::new(format!(
            "civitai gives no address for {}",
            crate::text::escape_text(&file.name)
        ))
    })?;
    Ok(format!("{}{path}", hubs.civitai))
}
