//! Addresses of models, and what servers report about them without a download.

use serde::Deserialize;

use super::download_source::DownloadSource;
use super::web::{WebClient, WebReply, WebRequest, public_address};
use super::{ModelHubs, object_storage};
use crate::lock::resolve::models::ModelInfo;
use crate::lock::{ModelOrigin, Sha256Digest};
use crate::manifest::{hub_pages, names};
use crate::problem::{Problem, Result};

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
        ModelOrigin::Web(address) => Ok(DownloadSource::on_web(hubs, address)),
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
            let address = civitai_address(hubs, file.ok_or_else(gone)?)?;
            Ok(DownloadSource::on_civitai(hubs, address))
        }
        ModelOrigin::Bucket { cloud, bucket, key } => {
            object_storage::object_source(hubs, *cloud, bucket, key)
        }
        ModelOrigin::File(_) => Err(Problem::new("is not fetched by HTTP")),
    }
}

/// Requests the data that the lock pins. Of a version's many files, the one with the hash `asked` is
/// meant.
///
/// # Errors
/// If it does not exist, or the server denies access.
pub(crate) fn ask_hub(
    web: &WebClient,
    hubs: &ModelHubs,
    origin: &ModelOrigin,
    name: &str,
    asked: Option<Sha256Digest>,
) -> Result<RemoteFile> {
    match origin {
        ModelOrigin::Hub {
            repo,
            file,
            revision,
        } => ask_huggingface(web, hubs, repo, file, revision),
        ModelOrigin::Web(address) => {
            let page = hub_pages::remedy_for_page(address, &hubs.huggingface, &hubs.civitai);
            if let Some(remedy) = page {
                return Err(
                    Problem::new("its source is a page about the file, not the file")
                        .with_hint(remedy),
                );
            }
            let place = DownloadSource::on_web(hubs, address);
            let reply = first_byte(web, &place)?;
            Ok(RemoteFile::Some {
                place,
                revision: None,
                etag: reply.strong_etag(),
                size: reply.total_bytes(),
            })
        }
        ModelOrigin::Civitai(version) => {
            let all = civitai_files(web, hubs, version)?;
            let file = choose_file(all, version, name, asked)?;
            let sha256 = file.sha256();
            let place = DownloadSource::on_civitai(hubs, civitai_address(hubs, file)?);
            // The API tells kilobytes: the exact size is the download's own.
            let size = first_byte(web, &place)?.total_bytes();
            Ok(match (sha256, size) {
                (Some(sha256), Some(size)) => RemoteFile::All(ModelInfo {
                    revision: None,
                    etag: None,
                    size,
                    digests: sha256.into(),
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
            let reply = first_byte(web, &place)?;
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
        .ask_patiently(&WebRequest {
            address: &place.address,
            key: place.key.as_ref(),
            range: Some((0, Some(0))),
            ..WebRequest::default()
        })
        .map_err(|r| place.explain_refusal(r))?;
    if reply.is_page() {
        return Err(place.page_instead(&reply.address));
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
    DownloadSource::on_hugging_face(hubs, address)
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
        .ask_patiently(&WebRequest {
            address: &place.address,
            key: place.key.as_ref(),
            head_only: true,
            stay: true,
            ..WebRequest::default()
        })
        .map_err(|r| {
            place
                .explain_refusal(r)
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
            digests: sha256.into(),
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
    let place = DownloadSource::on_civitai(hubs, address.clone());
    let mut reply = web
        .ask_patiently(&WebRequest {
            address: &address,
            key: place.key.as_ref(),
            ..WebRequest::default()
        })
        .map_err(|r| place.explain_refusal(r))?;
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

/// The file with the hash that is asked for; else the one of that name, else the main one.
fn choose_file(
    mut all: Vec<CivitaiFile>,
    version: &str,
    name: &str,
    asked: Option<Sha256Digest>,
) -> Result<CivitaiFile> {
    if all.is_empty() {
        return Err(Problem::new(format!(
            "civitai's version {version} has no file"
        )));
    }
    let wanted = name.rsplit('/').next().unwrap_or(name);
    let by_hash = asked.and_then(|h| all.iter().position(|f| f.sha256() == Some(h)));
    let at = by_hash
        .or_else(|| all.iter().position(|f| f.name == wanted))
        .or_else(|| all.iter().position(|f| f.primary))
        .unwrap_or(0);
    Ok(all.swap_remove(at))
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
