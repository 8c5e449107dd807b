//! What `lock` asks, as its caller: servers for what they know, disks and downloads for what has to
//! be read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::download::{self, Fetch};
use super::hub::{self, Told};
use super::verified_hashes::{self, Hashes, Key};
use super::web::Web;
use super::{Hubs, install, safetensors_header, sha256};
use crate::host::fs::edit;
use crate::host::git::NetEnv;
use crate::host::sealed::list_tree::gather;
use crate::host::sealed::stat_cache::now_ns;
use crate::lock::resolve::models::{Asked, Found, Library};
use crate::lock::{ModelPin, Origin, Sha, safetensors};
use crate::manifest::names;
use crate::plan::observed::Kind;
use crate::problem::{Doing, Problem, Result};
use crate::progress::{Progress, Reporter, Unit};

/// Servers asked at a time: they answer when they answer.
const ASKED: usize = 8;
/// What was read is written down this often, so that an interrupt costs no more.
const FLUSH: Duration = Duration::from_secs(5);

pub struct Disk {
    pub net: NetEnv,
    pub hubs: Hubs,
    /// Where what had to be fetched for its hash is kept, for the apply.
    pub cache: PathBuf,
    pub home: Option<PathBuf>,
    pub offline: bool,
}

/// A model's path, and what its server calls the file that it has now, where that is another.
pub type Newer<'a> = (&'a str, Result<Option<String>>);

/// The folder of an owner's cache that holds models by their hash.
pub fn folder(cache: &Path) -> PathBuf {
    cache.join("models")
}

/// A model in an owner's cache.
pub fn cached(cache: &Path, sha256: Sha) -> PathBuf {
    folder(cache).join(sha256.to_string())
}

/// Every regular file below a share's folder, with its size.
///
/// # Errors
/// Something in it cannot be read.
pub fn present(share: &Path) -> Result<Vec<(String, u64)>> {
    let Ok(real) = share.canonicalize() else {
        return Ok(Vec::new());
    };
    let fd = crate::host::fs::open_dir(&real).doing(|| format!("open {}", real.display()))?;
    let (all, _) = gather(&fd, &real).map_err(Problem::from)?;
    Ok(all
        .into_iter()
        .filter(|f| f.kind == Kind::File)
        .map(|f| (f.path, f.stamp.size()))
        .collect())
}

impl Library for Disk {
    fn find(&self, asked: &[Asked], report: &dyn Reporter) -> Vec<Result<Found>> {
        let own: Vec<PathBuf> = verified_hashes::own_path().into_iter().collect();
        let known = Hashes::load(&own);
        let here = |a: &Asked| matches!(a.origin, None | Some(Origin::File(_)));
        let read = Reading::new(
            &known,
            own.first().cloned(),
            None,
            asked
                .iter()
                .filter(|a| here(a))
                .filter_map(|a| self.path(a)),
            report,
        );
        let mut out: Vec<Option<Result<Found>>> = asked.iter().map(|_| None).collect();
        let slots: Vec<(usize, Result<Found>)> = asked
            .par_iter()
            .enumerate()
            .filter(|(_, a)| here(a))
            .map(|(i, a)| (i, self.on_disk(a, &read)))
            .collect();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(ASKED).build();
        let web = Web::new(&self.net, &self.hubs);
        // Two models of one source: it is asked once, and fetched once.
        let mut sources: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (i, a) in asked.iter().enumerate().filter(|(_, a)| !here(a)) {
            sources
                .entry(format!(
                    "{:?} {} {:?}",
                    a.origin,
                    safetensors::is_one(&a.path),
                    a.before
                ))
                .or_default()
                .push(i);
        }
        let sources: Vec<Vec<usize>> = sources.into_values().collect();
        let far = || -> Vec<(usize, Result<Found>)> {
            let one = |all: &Vec<usize>| -> Vec<(usize, Result<Found>)> {
                let found = self.far(&asked[all[0]], &web, report);
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
        read.flush();
        for (i, found) in slots.into_iter().chain(far) {
            out[i] = Some(found);
        }
        out.into_iter()
            .map(|f| f.unwrap_or_else(|| Err(Problem::new("was not looked up"))))
            .collect()
    }
}

impl Disk {
    /// Pinned models whose servers have something else now, each with what that is called, several
    /// asked at once. What lies on a disk, and what a commit or a version names, has no newer one.
    ///
    /// # Errors
    /// No threads.
    pub fn newer<'a>(
        &self,
        pins: impl Iterator<Item = (&'a str, &'a ModelPin)>,
    ) -> Result<Vec<Newer<'a>>> {
        let moving = |o: &Origin| match o {
            Origin::Hub { revision, .. } => !names::is_commit(revision),
            Origin::Web(_) | Origin::Bucket { .. } => true,
            Origin::Civitai(_) | Origin::File(_) => false,
        };
        let asked: Vec<_> = pins
            .filter_map(|(path, pin)| {
                Some((
                    path,
                    pin,
                    Origin::parse(pin.source.as_deref()?).filter(moving)?,
                ))
            })
            .collect();
        let web = Web::new(&self.net, &self.hubs);
        let one = |path: &'a str, pin: &ModelPin, origin: &Origin| -> Result<Option<String>> {
            Ok(match hub::ask(&web, &self.hubs, origin, path, None)? {
                Told::All(f) => (f.sha256 != pin.sha256).then(|| f.sha256.to_string()),
                Told::Some { etag, size, .. } => {
                    let other = size.is_some_and(|s| s != pin.size)
                        || (pin.etag.is_some() && etag.is_some() && etag != pin.etag);
                    other.then(|| etag.unwrap_or_else(|| "another".into()))
                }
            })
        };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(ASKED)
            .build()
            .doing(|| "start threads".into())?;
        Ok(pool.install(|| {
            asked
                .par_iter()
                .with_max_len(1)
                .map(|(path, pin, origin)| (*path, one(path, pin, origin)))
                .collect()
        }))
    }

    fn expand(&self, path: &str) -> PathBuf {
        match (path.strip_prefix("~/"), &self.home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => PathBuf::from(path),
        }
    }

    /// Where it is said to lie.
    fn said(&self, a: &Asked) -> PathBuf {
        match &a.origin {
            Some(Origin::File(p)) => self.expand(p),
            _ => self.expand(&a.share).join(&a.path),
        }
    }

    fn path(&self, a: &Asked) -> Option<PathBuf> {
        let path = self.said(a);
        if matches!(a.origin, Some(Origin::File(_))) {
            return crate::host::fs::real(&path, nix::unistd::geteuid().as_raw()).ok();
        }
        // The links on the way are the caller's own; the file itself must be none.
        let folder = path.parent()?.canonicalize().ok()?;
        Some(folder.join(path.file_name()?))
    }

    fn on_disk(&self, a: &Asked, read: &Reading) -> Result<Found> {
        let adopted = a.origin.is_none();
        let hint = if adopted {
            "put the file there, or name a `source`"
        } else {
            "correct `source` in comfy.toml"
        };
        let path = self.path(a).ok_or_else(|| {
            Problem::new(format!("there is no {}", self.said(a).display())).hint(hint)
        })?;
        if matches!(a.origin, Some(Origin::File(_))) {
            super::allowed(self.home.as_deref(), &self.said(a), &path)?;
        }
        let (size, sha256) = read.file(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::Interrupted => {
                Problem::interrupted().hint("what was read so far is not read again")
            }
            _ if path.is_symlink() => Problem::new(format!("{} is a link", path.display()))
                .hint("a link can lead elsewhere tomorrow: put the real file there"),
            _ => Problem::new(format!("{}: {e}", path.display()))
                .caused_by(&e)
                .hint(hint),
        })?;
        self.sound(a, &path, size)?;
        Ok(Found {
            revision: None,
            etag: None,
            size,
            sha256,
        })
    }

    fn sound(&self, a: &Asked, path: &Path, size: u64) -> Result<()> {
        let file = install::open(path, &|_| true).doing(|| format!("open {}", path.display()))?;
        if safetensors_header::is_page(&file).doing(|| format!("read {}", path.display()))? {
            return Err(Problem::new("is a web page, and no model").hint(
                "a login or a notice, most likely: open its source in a browser, and fetch it anew",
            ));
        }
        if !safetensors::is_one(&a.path) {
            return Ok(());
        }
        safetensors_header::of_file(&file, size).map(drop)
    }

    fn far(&self, a: &Asked, web: &Web, report: &dyn Reporter) -> Result<Found> {
        if self.offline {
            return Err(Problem::new("its source cannot be asked offline")
                .hint("run it once without --offline"));
        }
        if crate::host::signals::interrupted() {
            return Err(Problem::interrupted());
        }
        let origin = a
            .origin
            .as_ref()
            .ok_or_else(|| Problem::new("has no source"))?;
        let before = a.before.as_ref().map(|b| b.sha256.to_string());
        match hub::ask(web, &self.hubs, origin, &a.path, before.as_deref())? {
            Told::All(found) => {
                // The header alone is fetched; the bytes are held to the hash when all of them are.
                if safetensors::is_one(&a.path) {
                    let place = hub::place(
                        web,
                        &self.hubs,
                        origin,
                        found.revision.as_deref(),
                        found.sha256,
                    )?;
                    safetensors_header::of_server(web, &place, found.size)?;
                }
                Ok(found)
            }
            Told::Some {
                place,
                revision,
                etag,
                size,
            } => {
                let same = |b: &&crate::lock::ModelPin| {
                    etag.is_some() && b.etag == etag && size.is_none_or(|s| s == b.size)
                };
                if let Some(b) = a.before.as_ref().filter(same) {
                    return Ok(Found {
                        revision,
                        etag,
                        size: b.size,
                        sha256: b.sha256,
                    });
                }
                let (size, sha256) =
                    self.fetch(&a.path, &place, etag.as_deref(), size, web, report)?;
                self.sound(a, &cached(&self.cache, sha256), size)?;
                Ok(Found {
                    revision,
                    etag,
                    size,
                    sha256,
                })
            }
        }
    }

    /// Into the cache: nobody else knows the hash. A part is gone on with where the server says
    /// that it is the same file.
    fn fetch(
        &self,
        name: &str,
        place: &hub::Place,
        etag: Option<&str>,
        size: Option<u64>,
        web: &Web,
        report: &dyn Reporter,
    ) -> Result<(u64, Sha)> {
        let folder = folder(&self.cache);
        std::fs::create_dir_all(&folder).doing(|| format!("make {}", folder.display()))?;
        super::build_job::room(&folder, size.unwrap_or(0))?;
        let version = format!(
            "{}\n{}",
            place.name(),
            etag.map_or_else(|| format!("{}-{name}", std::process::id()), str::to_string)
        );
        let part = folder.join(format!("{}.part", Sha::of(version.as_bytes())));
        let progress = report.work(name, Unit::Bytes);
        let fetch = Fetch {
            place,
            part: &part,
            size,
            sha256: None,
            connections: 4,
        };
        let result = download::run(web, &fetch, progress.as_ref());
        let (size, sha256) = match result {
            Ok(r) => r,
            Err(p) => {
                if etag.is_none() {
                    edit::remove_path(&part).doing(|| format!("remove {}", part.display()))?;
                }
                return Err(p);
            }
        };
        let to = cached(&self.cache, sha256);
        edit::move_over(&part, &to).doing(|| format!("keep {}", to.display()))?;
        Ok((size, sha256))
    }
}

/// Reading many files, several at once, each once.
pub struct Reading<'a> {
    known: &'a Hashes,
    /// Where it is written down.
    path: Option<PathBuf>,
    owner: Option<(u32, u32)>,
    last: Mutex<Instant>,
    done: AtomicU64,
    total: u64,
    progress: Box<dyn Progress>,
}

impl<'a> Reading<'a> {
    /// For these files, which makes the bar as long as what is left to read.
    pub fn new(
        known: &'a Hashes,
        path: Option<PathBuf>,
        owner: Option<(u32, u32)>,
        files: impl Iterator<Item = PathBuf>,
        report: &dyn Reporter,
    ) -> Reading<'a> {
        let size = |p: PathBuf| {
            let st = nix::sys::stat::lstat(&p).ok()?;
            known
                .get(&Key::of(&st))
                .is_none()
                .then(|| u64::try_from(st.st_size).unwrap_or(0))
        };
        let total = files.filter_map(size).sum();
        Reading {
            known,
            path,
            owner,
            last: Mutex::new(Instant::now()),
            done: AtomicU64::new(0),
            total,
            progress: report.work("models", Unit::Bytes),
        }
    }

    /// Size and hash of a regular file, by what is known of it or by reading it.
    ///
    /// # Errors
    /// It is none, or cannot be read; comfy was interrupted.
    pub fn file(&self, path: &Path) -> std::io::Result<(u64, Sha)> {
        let began = now_ns();
        let file = install::open(path, &|_| true)?;
        let before = nix::sys::stat::fstat(&file)?;
        let size = u64::try_from(before.st_size).unwrap_or(0);
        if let Some(sha256) = self.known.get(&Key::of(&before)) {
            return Ok((size, sha256));
        }
        let (read, sha256) = sha256::whole(&file, &mut |n| {
            let done = self.done.fetch_add(n, Ordering::Relaxed) + n;
            self.progress.at(done.min(self.total), self.total.max(1));
        })?;
        let after = nix::sys::stat::fstat(&file)?;
        if Key::of(&after) != Key::of(&before) {
            return Err(std::io::Error::other("changes while it is read"));
        }
        self.known.add(&after, sha256, began);
        self.flush_sometimes();
        Ok((read, sha256))
    }

    fn flush_sometimes(&self) {
        if let Ok(mut last) = self.last.try_lock()
            && last.elapsed() > FLUSH
        {
            self.flush();
            *last = Instant::now();
        }
    }

    /// Writes down what was read. Where that cannot be done it is read again another time.
    pub fn flush(&self) {
        if let Some(path) = self.path.as_ref().filter(|_| self.known.has_news())
            && let Err(p) = self.known.save(path, self.owner)
        {
            self.progress.at(self.total, self.total);
            crate::render::warning(&p.message);
        }
    }
}
