//! Wheels as files: asked of their index by name, verified by the hash in comfy.lock, kept by that
//! hash. What is kept is hashed again at each use, and is never believed.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::index_page::find_on_page;
use super::package_address::{public_address, split_credentials};
use crate::host::fs::edit;
use crate::host::net::NetEnv;
use crate::host::net::http;
use crate::host::signals::is_interrupted;
use crate::lock::python::UnhashedWheel;
use crate::problem::{Context, Problem, Result};
use crate::text::escape_text;

/// Bytes of an index page: the largest of PyPI has 20 MiB.
const MAX_PAGE: u64 = 200 << 20;
/// How often a server is asked for one thing.
const TRIES: u32 = 4;

/// Where wheels come from, and where they are kept.
pub(crate) struct WheelStore<'a> {
    pub agents: http::PackageAgents<'a>,
    pub folder: &'a Path,
    /// Read only; wheels that the owner has.
    pub local: Option<&'a Path>,
    pub offline: bool,
}

/// One wheel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WheelRequest<'a> {
    /// `numpy==1.26.4`
    pub key: &'a str,
    /// `numpy`
    pub package: &'a str,
    pub from: WheelOrigin<'a>,
    pub file: &'a str,
    pub sha256: &'a str,
}

/// Where a wheel is fetched.
#[derive(Debug, Clone, Copy)]
pub(crate) enum WheelOrigin<'a> {
    /// An index; none: the default one.
    Index(Option<&'a str>),
    Address(&'a str),
    /// The owner's folders.
    Local,
}

/// Why a server gave nothing.
enum FetchFailure {
    /// Worth another try.
    Passing(String),
    Final(Problem),
}

/// Fetches a file whose index gives no hash; its sha256 and size. Nothing is kept.
///
/// # Errors
/// No server gives it.
pub(crate) fn hash_wheel(net: &NetEnv, wheel: &UnhashedWheel) -> Result<(String, u64)> {
    let store = WheelStore {
        agents: http::PackageAgents::new(net),
        folder: Path::new(""),
        local: None,
        offline: false,
    };
    let page = wheel
        .index
        .as_deref()
        .unwrap_or_else(|| net.default_index());
    with_retries(|| {
        let answer = store.send_get(&wheel.address, page, 0, "*/*")?;
        let mut body = answer.into_body().into_reader();
        let (mut hasher, mut size) = (Sha256::new(), 0);
        let mut buffer = vec![0; 1 << 18];
        loop {
            if is_interrupted() {
                return Err(FetchFailure::Final(Problem::interrupted()));
            }
            match body.read(&mut buffer).map_err(|e| {
                FetchFailure::Passing(format!("{}: {e}", public_address(&wheel.address)))
            })? {
                0 => return Ok((hex_digest(hasher), size)),
                n => {
                    hasher.update(&buffer[..n]);
                    size += n as u64;
                }
            }
        }
    })
}

impl WheelStore<'_> {
    /// The wheel, open at its beginning; its content is what the lock pins. `tick` is told of bytes
    /// that came.
    ///
    /// # Errors
    /// It is not here and comfy is offline, no server gives it, or what comes has another hash.
    pub(crate) fn open_wheel(&self, w: &WheelRequest, tick: &dyn Fn(u64)) -> Result<File> {
        let at = self.folder.join(format!("{}.whl", w.sha256));
        match read_only(&at) {
            Ok(mut file) => {
                if has_hash(&mut file, w.sha256, &at)? {
                    return Ok(file);
                }
                // Somebody changed what was kept.
                edit::remove_path(&at).with_context(|| format!("remove {}", at.display()))?;
                if self.offline {
                    return Err(Problem::new(format!(
                        "{}: the kept wheel {} does not have the hash that comfy.lock pins, and \
                            was removed",
                        w.key,
                        at.display()
                    ))
                    .with_hint("run it without --offline to fetch it again"));
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            // A link, a folder: none of comfy's.
            Err(_) => edit::remove_path(&at).with_context(|| format!("remove {}", at.display()))?,
        }
        if let Some(file) = self.open_local(w)? {
            return Ok(file);
        }
        if self.offline && !matches!(w.from, WheelOrigin::Local) {
            return Err(Problem::new(format!(
                "{}: its wheel is not in the store, and comfy is offline",
                w.key
            ))
            .with_hint("run it without --offline"));
        }
        let part = self.folder.join(format!("{}.part", w.sha256));
        let mut file = self
            .fetch_verified(w, &part, tick)
            .map_err(|p| p.with_prefix(&format!("{}: ", w.key)))?;
        edit::move_over(&part, &at).with_context(|| format!("keep {}", at.display()))?;
        file.rewind()
            .with_context(|| format!("read {}", at.display()))?;
        Ok(file)
    }

    fn open_local(&self, w: &WheelRequest) -> Result<Option<File>> {
        let at = self.local.map(|l| l.join(format!("{}.whl", w.sha256)));
        let Some((at, mut file)) = at.and_then(|at| read_only(&at).ok().map(|file| (at, file)))
        else {
            return Ok(None);
        };
        Ok(has_hash(&mut file, w.sha256, &at)?.then_some(file))
    }

    /// Has the verified bytes in `part`; that file.
    fn fetch_verified(&self, w: &WheelRequest, part: &Path, tick: &dyn Fn(u64)) -> Result<File> {
        let index = match w.from {
            WheelOrigin::Address(address) => {
                let pinned = Some(w.sha256);
                let download = || self.download_part(address, address, pinned, part, tick);
                return Ok(with_retries(download)?.0);
            }
            WheelOrigin::Index(index) => index.unwrap_or_else(|| self.agents.net.default_index()),
            WheelOrigin::Local => {
                return Err(Problem::new(format!(
                    "the folders of [python] wheels have no {} with the hash that comfy.lock pins",
                    escape_text(w.file)
                ))
                .with_hint(
                    "copy that file there, or run `comfy update` with the package's name; nothing \
                     was changed",
                ));
            }
        };
        let page = format!("{}/{}/", index.trim_end_matches('/'), w.package);
        let address = with_retries(|| self.find_address(w, &page))?;
        let download = || self.download_part(&page, &address, Some(w.sha256), part, tick);
        Ok(with_retries(download)?.0)
    }

    /// The file of an address, kept; its path and its sha256. One of that hash is not fetched again.
    ///
    /// # Errors
    /// It cannot be fetched, or does not have the hash.
    pub(crate) fn keep_address(
        &self,
        address: &str,
        file: &str,
        sha256: Option<&str>,
    ) -> Result<(PathBuf, String)> {
        let kept = |hash: &str| self.folder.join(format!("{hash}.whl"));
        if let Some(hash) = sha256 {
            let request = WheelRequest {
                key: file,
                package: "",
                from: WheelOrigin::Address(address),
                file,
                sha256: hash,
            };
            self.open_wheel(&request, &|_| {})?;
            return Ok((kept(hash), hash.to_string()));
        }
        if self.offline {
            return Err(Problem::new("comfy is offline").with_hint("run it without --offline"));
        }
        let part = self.folder.join(format!("{}.part", std::process::id()));
        let download = || self.download_part(address, address, None, &part, &|_| {});
        let (_, hash) = with_retries(download)?;
        edit::move_over(&part, &kept(&hash)).context("keep a wheel")?;
        Ok((kept(&hash), hash))
    }

    /// Where the index says that the file is: both forms of the page, HTML (PEP 503) and JSON (PEP
    /// 691).
    fn find_address(&self, w: &WheelRequest, page: &str) -> Result<String, FetchFailure> {
        let mut answer = self.send_get(
            page,
            page,
            0,
            "application/vnd.pypi.simple.v1+json, \
            text/html;q=0.5, application/vnd.pypi.simple.v1+html;q=0.6",
        )?;
        let json = answer
            .headers()
            .get("Content-Type")
            .and_then(|t| t.to_str().ok())
            .is_some_and(|t| t.contains("json"));
        // A redirect moves what links are relative to.
        let base = ureq::ResponseExt::get_uri(&answer).to_string();
        let text = answer
            .body_mut()
            .with_config()
            .limit(MAX_PAGE)
            .read_to_string()
            .map_err(|e| FetchFailure::Passing(format!("{}: {e}", public_address(page))))?;
        find_on_page(json, &text, w.file)
            .map(|href| http::absolute_link(&base, &href))
            .ok_or_else(|| {
                FetchFailure::Final(
                    Problem::new(format!(
                        "{} does not list {}",
                        public_address(page),
                        escape_text(w.file)
                    ))
                    .with_hint(
                        "the index removed it, or is not the one that `comfy lock` used: check \
                 UV_DEFAULT_INDEX, or `comfy update` the package; nothing was changed",
                    ),
                )
            })
    }

    /// Goes on where an earlier try ended. What was there before is hashed with the rest.
    fn download_part(
        &self,
        page: &str,
        address: &str,
        sha256: Option<&str>,
        part: &Path,
        tick: &dyn Fn(u64),
    ) -> Result<(File, String), FetchFailure> {
        let own = |e: std::io::Error| {
            FetchFailure::Final(
                Problem::new(format!("could not write {}: {e}", part.display())).caused_by(&e),
            )
        };
        let options = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                // Without a hash nothing tells whether an earlier part is of the same file.
                .truncate(sha256.is_none())
                .mode(0o644)
                .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
                .open(part)
        };
        let mut file = options().map_err(own)?;
        let mut hasher = Sha256::new();
        let mut have = hash_rest(&mut file, &mut hasher).map_err(own)?;
        let answer = self.send_get(address, page, have, "*/*")?;
        if answer.status().as_u16() != 206 || !begins_at(&answer, have) {
            file.set_len(0).and_then(|()| file.rewind()).map_err(own)?;
            (hasher, have) = (Sha256::new(), 0);
        }
        let mut body = answer.into_body().into_reader();
        let mut buffer = vec![0; 1 << 18];
        loop {
            if is_interrupted() {
                return Err(FetchFailure::Final(Problem::interrupted()));
            }
            match body
                .read(&mut buffer)
                .map_err(|e| FetchFailure::Passing(format!("{}: {e}", public_address(address))))?
            {
                0 => break,
                n => {
                    hasher.update(&buffer[..n]);
                    file.write_all(&buffer[..n]).map_err(own)?;
                    tick(n as u64);
                }
            }
        }
        let is = hex_digest(hasher);
        let Some(pinned) = sha256.filter(|pinned| *pinned != is) else {
            return Ok((file, is));
        };
        edit::remove_path(part).map_err(own)?;
        if have > 0 {
            return Err(FetchFailure::Passing(format!(
                "{} continued with another file than it began with",
                public_address(address)
            )));
        }
        Err(FetchFailure::Final(
            Problem::new(format!(
                "{} gave a file with sha256 {is}, but {pinned} is pinned",
                public_address(address)
            ))
            .with_hint(
                "another file has that name now, and nothing was installed: ask whoever runs that \
                 server, or run `comfy update` with the package's name once you trust it",
            ),
        ))
    }

    /// `from`: bytes that are here. The index's password goes to its own server alone.
    fn send_get(
        &self,
        address: &str,
        page: &str,
        from: u64,
        accept: &str,
    ) -> Result<ureq::http::Response<ureq::Body>, FetchFailure> {
        let (bare, _) = split_credentials(address);
        let key = if http::host_and_port(address) == http::host_and_port(page) {
            split_credentials(page).1.or(split_credentials(address).1)
        } else {
            split_credentials(address).1
        };
        let mut request = self
            .agents
            .for_address(address, page)
            .get(&bare)
            .header("Accept", accept)
            .header("Accept-Encoding", "identity");
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        if let Some(key) = key {
            request = request.header("Authorization", key);
        }
        let answer = request
            .call()
            .map_err(|e| FetchFailure::Passing(format!("{}: {e}", public_address(address))))?;
        let said = |code: u16| format!("{} answers {code}", public_address(address));
        match answer.status().as_u16() {
            200..=299 => Ok(answer),
            // Nothing more is there: from the beginning, and the hash tells.
            416 if from > 0 => self.send_get(address, page, 0, accept),
            code @ (408 | 425 | 429 | 500..=599) => Err(FetchFailure::Passing(said(code))),
            code => Err(FetchFailure::Final(Problem::new(said(code)).with_hint(
                match code {
                    401 | 403 | 407 => {
                        "the index or a proxy asks for a password: include it in the address in \
                        UV_DEFAULT_INDEX; nothing was changed"
                    }
                    _ => {
                        "the index no longer has this package or file: check UV_DEFAULT_INDEX, or \
                    `comfy update` the package; nothing was changed"
                    }
                },
            ))),
        }
    }
}

/// Some more tries, with pauses that grow.
fn with_retries<T>(mut with: impl FnMut() -> Result<T, FetchFailure>) -> Result<T> {
    let mut tried = 0;
    loop {
        match with() {
            Ok(done) => return Ok(done),
            Err(_) if is_interrupted() => return Err(Problem::interrupted()),
            Err(FetchFailure::Final(p)) => return Err(p),
            Err(FetchFailure::Passing(why)) => {
                tried += 1;
                if tried == TRIES {
                    return Err(Problem::new(why).with_hint(
                        "the package index did not answer, and nothing was changed: check the \
                         network, HTTPS_PROXY and UV_DEFAULT_INDEX, and run it again",
                    ));
                }
                std::thread::sleep(std::time::Duration::from_millis(100 << tried));
            }
        }
    }
}

fn read_only(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(path)
}

/// Whether a file, open at its beginning, has this sha256; it is at its beginning again.
fn has_hash(file: &mut File, sha256: &str, at: &Path) -> Result<bool> {
    let doing = || format!("read {}", at.display());
    let mut hasher = Sha256::new();
    hash_rest(file, &mut hasher).with_context(doing)?;
    file.rewind().with_context(doing)?;
    Ok(hex_digest(hasher) == sha256)
}

/// From where the file is to its end; how many bytes these are.
pub(crate) fn hash_rest(file: &mut File, hasher: &mut Sha256) -> std::io::Result<u64> {
    let (mut buffer, mut all) = (vec![0; 1 << 18], 0);
    loop {
        if is_interrupted() {
            return Err(std::io::Error::other("interrupted"));
        }
        match file.read(&mut buffer)? {
            0 => return Ok(all),
            n => {
                hasher.update(&buffer[..n]);
                all += n as u64;
            }
        }
    }
}

pub(crate) fn hex_digest(hasher: Sha256) -> String {
    base16ct::lower::encode_string(&hasher.finalize())
}

fn begins_at(answer: &ureq::http::Response<ureq::Body>, at: u64) -> bool {
    let range = answer.headers().get("Content-Range").and_then(|r| {
        r.to_str()
            .ok()?
            .strip_prefix("bytes ")?
            .split_once('-')?
            .0
            .parse::<u64>()
            .ok()
    });
    range == Some(at)
}
