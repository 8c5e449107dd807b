//! Resolves models for `lock`, as its caller: servers report what they know; disks and downloads
//! provide the rest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::content_hash::ContentHasher;
use super::download::{self, DownloadRequest};
use super::download_source::DownloadSource;
use super::file_reader::FileReader;
use super::hub::{self, RemoteFile};
use super::verified_hashes::{self, Hashes};
use super::web::WebClient;
use super::{ModelHubs, content_check, install, safetensors_header};
use crate::desired::below_home;
use crate::host::fs::edit;
use crate::host::net::NetEnv;
use crate::host::sealed::list_tree::{FoundEntry, list_tree};
use crate::lock::resolve::models::{ModelInfo, ModelQuery, ModelResolver};
use crate::lock::{FileDigests, ModelOrigin, ModelPin, Sha256Digest};
use crate::manifest::names;
use crate::plan::observed::FileType;
use crate::problem::{Context, Problem, Result};
use crate::progress::{ProgressUnit, Reporter};
use crate::safetensors;

/// Requests at the same time: servers may be slow.
const ASKED: usize = 8;

pub(crate) struct HostModelResolver {
    pub net: NetEnv,
    pub hubs: ModelHubs,
    /// Where what had to be fetched for its hash is kept, for the apply.
    pub cache: PathBuf,
    pub home: Option<PathBuf>,
    pub offline: bool,
}

/// A model's path, and what its server calls the file that it has now, where that is another.
pub(crate) type Newer<'a> = (&'a str, Result<Option<String>>);

/// The folder of an owner's cache that holds models by their hash.
pub(crate) fn cache_folder(cache: &Path) -> PathBuf {
    cache.join("models")
}

/// A model in an owner's cache.
pub(crate) fn cached_model(cache: &Path, sha256: Sha256Digest) -> PathBuf {
    cache_folder(cache).join(sha256.to_string())
}

/// Every regular file below a share's folder, with its size.
///
/// # Errors
/// Something in it cannot be read.
pub(crate) fn share_files(share: &Path) -> Result<Vec<(String, u64)>> {
    let all = list_share(share)?.into_iter();
    let files = all.filter(|f| f.kind == FileType::File);
    Ok(files.map(|f| (f.path, f.stamp.size())).collect())
}

/// Every file and link below a share's folder.
///
/// # Errors
/// Something in it cannot be read.
pub(crate) fn share_entries(share: &Path) -> Result<Vec<(String, FileType)>> {
    let all = list_share(share)?.into_iter();
    let entries = all.filter(|f| matches!(f.kind, FileType::File | FileType::Link));
    Ok(entries.map(|f| (f.path, f.kind)).collect())
}

fn list_share(share: &Path) -> Result<Vec<FoundEntry>> {
    let Ok(real) = share.canonicalize() else {
        return Ok(Vec::new());
    };
    let fd =
        crate::host::fs::open_dir(&real).with_context(|| format!("open {}", real.display()))?;
    let (all, _) = list_tree(&fd, &real).map_err(Problem::from)?;
    Ok(all)
}

/// Refuses a model of the share at `share` that is a link, or below one: comfy follows none there, and
/// it can lead to another file tomorrow.
///
/// # Errors
/// It names the link.
pub(crate) fn ensure_no_link(share: &Path, path: &str) -> Result<()> {
    let ends = path.match_indices('/').map(|(at, _)| at);
    let linked = ends
        .chain([path.len()])
        .map(|end| share.join(&path[..end]))
        .find(|p| p.is_symlink());
    linked.map_or(Ok(()), |p| {
        let shown = crate::text::escape_text(&p.to_string_lossy());
        Err(Problem::new(format!("{shown} is a link")).with_hint(
            "put the real file or folder there, or declare a share for the folder it leads to",
        ))
    })
}

impl ModelResolver for HostModelResolver {
    fn find_models(&self, asked: &[ModelQuery], report: &dyn Reporter) -> Vec<Result<ModelInfo>> {
        let own: Vec<PathBuf> = verified_hashes::own_path().into_iter().collect();
        let known = Hashes::load(&own);
        let here = |a: &ModelQuery| matches!(a.origin, None | Some(ModelOrigin::File(_)));
        let read = FileReader::new(
            &known,
            ContentHasher::with_blake3(),
            own.first().cloned(),
            None,
            asked
                .iter()
                .filter(|a| here(a))
                .filter_map(|a| self.existing_path(a)),
            report,
        );
        let mut out: Vec<Option<Result<ModelInfo>>> = asked.iter().map(|_| None).collect();
        let slots: Vec<(usize, Result<ModelInfo>)> = asked
            .par_iter()
            .enumerate()
            .filter(|(_, a)| here(a))
            .map(|(i, a)| (i, self.on_disk(a, &read)))
            .collect();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(ASKED).build();
        let web = WebClient::new(&self.net, self.hubs.silence());
        // Two models of one source: it is asked once, and fetched once.
        let mut sources: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (i, a) in asked.iter().enumerate().filter(|(_, a)| !here(a)) {
            sources
                .entry(format!(
                    "{:?} {} {:?} {:?}",
                    a.origin,
                    safetensors::is_one(&a.path),
                    a.before,
                    a.sha256
                ))
                .or_default()
                .push(i);
        }
        let sources: Vec<Vec<usize>> = sources.into_values().collect();
        let far = || -> Vec<(usize, Result<ModelInfo>)> {
            let one = |all: &Vec<usize>| -> Vec<(usize, Result<ModelInfo>)> {
                let found = self.resolve_remote(&asked[all[0]], &web, report);
                all.iter().map(|i| (*i, found.clone())).collect()
            };
            sources
                .par_iter()
                .with_max_len(1)
                .flat_map_iter(one)
                .collect()
        };
        let far = match pool {
            Ok(p) => p.install(far),
            Err(_) => far(),
        };
        read.write_hashes();
        for (i, found) in slots.into_iter().chain(far) {
            out[i] = Some(found);
        }
        out.into_iter()
            .map(|f| f.unwrap_or_else(|| Err(Problem::new("was not looked up"))))
            .collect()
    }
}

impl HostModelResolver {
    /// Pinned models whose servers have something else now, each with what that is called, several
    /// asked at once. What lies on a disk, and what a commit or a version names, has no newer one.
    ///
    /// # Errors
    /// No threads.
    pub(crate) fn newer_models<'a>(
        &self,
        pins: impl Iterator<Item = (&'a str, &'a ModelPin)>,
    ) -> Result<Vec<Newer<'a>>> {
        let moving = |o: &ModelOrigin| match o {
            ModelOrigin::Hub { revision, .. } => !names::is_commit(revision),
            ModelOrigin::Web(_) | ModelOrigin::Bucket { .. } => true,
            ModelOrigin::Civitai(_) | ModelOrigin::File(_) => false,
        };
        let asked: Vec<_> = pins
            .filter_map(|(path, pin)| {
                Some((
                    path,
                    pin,
                    ModelOrigin::parse(pin.source.as_deref()?).filter(moving)?,
                ))
            })
            .collect();
        let web = WebClient::new(&self.net, self.hubs.silence());
        let one = |path: &'a str, pin: &ModelPin, origin: &ModelOrigin| -> Result<Option<String>> {
            Ok(match hub::ask_hub(&web, &self.hubs, origin, path, None)? {
                RemoteFile::All(f) => {
                    (f.digests.sha256 != pin.sha256).then(|| f.digests.sha256.to_string())
                }
                RemoteFile::Some { etag, size, .. } => {
                    let other = size.is_some_and(|s| s != pin.size)
                        || (pin.etag.is_some() && etag.is_some() && etag != pin.etag);
                    other.then(|| etag.unwrap_or_else(|| "another".into()))
                }
            })
        };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(ASKED)
            .build()
            .context("start threads")?;
        Ok(pool.install(|| {
            asked
                .par_iter()
                .with_max_len(1)
                .map(|(path, pin, origin)| (*path, one(path, pin, origin)))
                .collect()
        }))
    }

    fn expand_home(&self, path: &str) -> PathBuf {
        match &self.home {
            Some(home) => below_home(home, path),
            None => PathBuf::from(path),
        }
    }

    /// Where it is said to lie.
    fn stated_path(&self, a: &ModelQuery) -> PathBuf {
        match &a.origin {
            Some(ModelOrigin::File(p)) => self.expand_home(p),
            _ => self.expand_home(&a.share).join(&a.path),
        }
    }

    fn existing_path(&self, a: &ModelQuery) -> Option<PathBuf> {
        let path = self.stated_path(a);
        if matches!(a.origin, Some(ModelOrigin::File(_))) {
            return crate::host::fs::real_path(&path, nix::unistd::geteuid().as_raw()).ok();
        }
        // The links on the way are the caller's own; the file itself must be none.
        let folder = path.parent()?.canonicalize().ok()?;
        Some(folder.join(path.file_name()?))
    }

    fn on_disk(&self, a: &ModelQuery, read: &FileReader) -> Result<ModelInfo> {
        let adopted = a.origin.is_none();
        let hint = if adopted {
            "put the file there, or name a `source`"
        } else {
            "correct `source` in comfy.toml"
        };
        let path = self.existing_path(a).ok_or_else(|| {
            Problem::new(format!("{} does not exist", self.stated_path(a).display()))
                .with_hint(hint)
        })?;
        if adopted {
            ensure_no_link(&self.expand_home(&a.share), &a.path)?;
        }
        if matches!(a.origin, Some(ModelOrigin::File(_))) {
            super::ensure_allowed(self.home.as_deref(), &self.stated_path(a), &path)?;
        }
        let (size, digests) = read.read_file(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::Interrupted => {
                Problem::interrupted().with_hint("what was read so far is not read again")
            }
            _ => Problem::new(format!("{}: {e}", path.display()))
                .caused_by(&e)
                .with_hint(hint),
        })?;
        self.check_header(a, &path, size)?;
        Ok(ModelInfo {
            revision: None,
            etag: None,
            size,
            digests,
        })
    }

    fn check_header(&self, a: &ModelQuery, path: &Path, size: u64) -> Result<()> {
        let file = install::open_regular(path, &|_| true)
            .with_context(|| format!("open {}", path.display()))?;
        let wrong = content_check::what_is_wrong(&file, &a.path)
            .with_context(|| format!("read {}", path.display()))?;
        if let Some(problem) = wrong {
            return Err(problem);
        }
        if !safetensors::is_one(&a.path) {
            return Ok(());
        }
        safetensors_header::of_file(&file, size).map(drop)
    }

    fn resolve_remote(
        &self,
        a: &ModelQuery,
        web: &WebClient,
        report: &dyn Reporter,
    ) -> Result<ModelInfo> {
        if self.offline {
            return Err(Problem::new("its source cannot be queried offline")
                .with_hint("run it once without --offline"));
        }
        if crate::host::signals::is_interrupted() {
            return Err(Problem::interrupted());
        }
        let origin = a
            .origin
            .as_ref()
            .ok_or_else(|| Problem::new("has no source"))?;
        let known = a.before.as_ref().map(|b| b.sha256).or(a.sha256);
        match hub::ask_hub(web, &self.hubs, origin, &a.path, known)? {
            RemoteFile::All(found) if found.size == 0 => Err(Problem::new("is empty there")
                .with_hint("choose another source, or another revision")),
            RemoteFile::All(found) => {
                // The header alone is fetched; the bytes are held to the hash when all of them are.
                if safetensors::is_one(&a.path) {
                    let place = hub::download_source(
                        web,
                        &self.hubs,
                        origin,
                        found.revision.as_deref(),
                        found.digests.sha256,
                    )?;
                    safetensors_header::of_server(web, &place, found.size)?;
                }
                Ok(found)
            }
            RemoteFile::Some {
                place,
                revision,
                etag,
                size,
            } => {
                let same = |b: &&crate::lock::ModelPin| {
                    etag.is_some() && b.etag == etag && size.is_none_or(|s| s == b.size)
                };
                if let Some(b) = a.before.as_ref().filter(same) {
                    return Ok(ModelInfo {
                        revision,
                        etag,
                        size: b.size,
                        digests: b.digests(),
                    });
                }
                let (size, digests) =
                    self.fetch_to_cache(&a.path, &place, etag.as_deref(), size, web, report)?;
                self.check_header(a, &cached_model(&self.cache, digests.sha256), size)?;
                Ok(ModelInfo {
                    revision,
                    etag,
                    size,
                    digests,
                })
            }
        }
    }

    /// Into the cache: nobody else knows the hash. A part is gone on with where the server says
    /// that it is the same file.
    fn fetch_to_cache(
        &self,
        name: &str,
        place: &DownloadSource,
        etag: Option<&str>,
        size: Option<u64>,
        web: &WebClient,
        report: &dyn Reporter,
    ) -> Result<(u64, FileDigests)> {
        let folder = cache_folder(&self.cache);
        std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        super::build_job::ensure_room(&folder, size.unwrap_or(0))?;
        let version = format!(
            "{}\n{}",
            place.cache_name(),
            etag.map_or_else(|| format!("{}-{name}", std::process::id()), str::to_string)
        );
        let part = folder.join(format!(
            "{}.part",
            Sha256Digest::digest_of(version.as_bytes())
        ));
        let progress = report.start_counted(name, ProgressUnit::Bytes);
        let fetch = DownloadRequest {
            place,
            part: &part,
            size,
            sha256: None,
            connections: 4,
        };
        let result = download::download_file(web, &fetch, progress.as_ref());
        let (size, digests) = match result {
            Ok(r) => r,
            Err(p) => {
                if etag.is_none() {
                    edit::remove_path(&part)
                        .with_context(|| format!("remove {}", part.display()))?;
                }
                return Err(p);
            }
        };
        let to = cached_model(&self.cache, digests.sha256);
        edit::move_over(&part, &to).with_context(|| format!("keep {}", to.display()))?;
        Ok((size, digests))
    }
}
