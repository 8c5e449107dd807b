//! Which uv: `COMFY_UV`, else a compatible one in PATH, else the published wheel, pinned here by
//! hash, as is the program in it.

use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::UvRunner;
use crate::host::env;
use crate::host::net::NetEnv;
use crate::host::process::{ProgramRunner, SystemRunner};
use crate::lock::uv::CERTIFICATE_HINT;
use crate::problem::{Context, Problem, Result};

/// The version that is fetched; its wheels on PyPI, published 2026-11-17.
pub(super) const VERSION: &str = "0.13.9";
/// The oldest that knows `exclude-newer` of an index and writes what comfy reads.
const OLDEST: (u32, u32) = (0, 13);
/// One published wheel, and the program in it.
struct PublishedUv {
    os: &'static str,
    arch: &'static str,
    file: &'static str,
    sha256: &'static str,
    program: &'static str,
}

const WHEELS: &[PublishedUv] = &[
    PublishedUv {
        os: "macos",
        arch: "aarch64",
        file: "uv-0.13.9-py3-none-macosx_11_0_arm64.whl",
        sha256: "66c512266d633bef48384a1f53003f41f2a8e7b36fe6e7fbfd3e0fd52d96fa63",
        program: "0e17c316d23b33b4e840669f516f5cb7f5c1faa816ebd3824052ab50082ecefb",
    },
    PublishedUv {
        os: "macos",
        arch: "x86_64",
        file: "uv-0.13.9-py3-none-macosx_10_12_x86_64.whl",
        sha256: "c16ed11e013557536b3e60065f1b912f6407bd6518e041b961e23ef9e6b4fbf5",
        program: "9d275208c058354f9b300ea46a499c7a29de3249ae839503cadff2c01c159d69",
    },
    PublishedUv {
        os: "linux",
        arch: "x86_64",
        file: "uv-0.13.9-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        sha256: "d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19",
        program: "b73acdf73b96c3ac9e56d2fa933427b3ee6a901e3cce6ba1e3ecb3f91ca0d86a",
    },
    PublishedUv {
        os: "linux",
        arch: "aarch64",
        file: "uv-0.13.9-py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64.whl",
        sha256: "5435c5ce14a56431208ca0996416d310f1598e8c2c8ba707688985a16bb82dbe",
        program: "bbecb5ac518030bb5e84f1999c577228460192832ac24a92bd772735682979f4",
    },
];
/// Far above the real wheel.
const MAX_BYTES: u64 = 200 << 20;

/// Finds the uv to run as the caller.
///
/// # Errors
/// If COMFY_UV is not a working uv, there is no network, or the file has another hash.
pub(crate) fn find_uv(uv: &UvRunner) -> Result<PathBuf> {
    if let Some((path, _)) = named_program(&uv.net, true)? {
        return Ok(path);
    }
    if let Some(found) =
        env::find_in_path("uv").filter(|p| version_of(p).is_some_and(|v| v >= OLDEST))
    {
        return Ok(found);
    }
    let kept = uv.cache.join(format!("uv-{VERSION}")).join("uv");
    let published = published_uv()?;
    // It is in a folder that the caller's other programs can write.
    if hash_program(&kept).is_ok_and(|is| is == published.program) {
        return Ok(kept);
    }
    let program = fetch_published(&uv.net, uv.offline, published).map_err(with_own_hint)?;
    let folder = kept.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    crate::host::fs::edit::write_file(&kept, &program, 0o755, None)
        .with_context(|| format!("write {}", kept.display()))?;
    Ok(kept)
}

/// Has a uv for the build in a file, as whoever calls.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct UvJob {
    /// A file that is not there yet.
    pub target: PathBuf,
    /// The hash of the one that is kept; where it is the right one nothing is written.
    pub kept: Option<String>,
    pub net: NetEnv,
    pub offline: bool,
}

/// Which uv is the right one.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ChosenUv {
    /// For a person: `COMFY_UV=/opt/bin/uv`.
    pub origin: String,
    pub sha256: String,
}

impl UvJob {
    /// # Errors
    /// As [`find_uv`].
    pub(crate) fn run(&self) -> Result<ChosenUv> {
        // The build uid may have no way to the caller's own.
        let public = || {
            env::which_in(env::PUBLIC_PATH, "uv")
                .filter(|p| version_of(p).is_some_and(|v| v >= OLDEST))
        };
        let found = named_program(&self.net, false)?
            .or_else(|| public().map(|p| (p.clone(), p.display().to_string())));
        let write = |bytes: &[u8]| {
            std::fs::write(&self.target, bytes)
                .with_context(|| format!("write {}", self.target.display()))
        };
        if let Some((path, origin)) = found {
            let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            let sha256 = hex_digits(&bytes);
            if self.kept.as_ref() != Some(&sha256) {
                write(&bytes)?;
            }
            return Ok(ChosenUv { origin, sha256 });
        }
        let published = published_uv()?;
        if self.kept.as_deref() != Some(published.program) {
            write(&fetch_published(&self.net, self.offline, published).map_err(with_own_hint)?)?;
        }
        Ok(ChosenUv {
            origin: published.file.into(),
            sha256: published.program.into(),
        })
    }
}

/// Returns the hash of the published program if `chosen` is that one: the process that unpacked it
/// is not trusted.
pub(crate) fn pinned_hash(chosen: &ChosenUv) -> Option<&'static str> {
    WHEELS
        .iter()
        .find(|w| w.file == chosen.origin)
        .map(|w| w.program)
}

fn with_own_hint(p: Problem) -> Problem {
    // rustls's word for a proxy that decrypts TLS with certificates of its own.
    let is_foreign = p.message.contains("UnknownIssuer");
    let p = p.with_hint("install uv yourself and put it into PATH, or name it with COMFY_UV");
    if is_foreign {
        return p.with_hint(CERTIFICATE_HINT);
    }
    p
}

/// COMFY_UV, and what to call it. `must`: one that does not run is an error.
fn named_program(net: &NetEnv, must: bool) -> Result<Option<(PathBuf, String)>> {
    let Some(own) = net.vars.get("COMFY_UV") else {
        return Ok(None);
    };
    let path = PathBuf::from(own);
    match version_of(&path) {
        Some(v) if v >= OLDEST && path.is_absolute() => Ok(Some((path, format!("COMFY_UV={own}")))),
        Some(v) => Err(Problem::new(format!(
            "COMFY_UV={own}: version {}.{} is too old, or the path is not absolute",
            v.0, v.1
        ))
        .with_hint(format!(
            "name an uv of at least {}.{} by its whole path, or unset COMFY_UV",
            OLDEST.0, OLDEST.1
        ))),
        None if must => Err(Problem::new(format!("COMFY_UV={own} is not a working uv"))
            .with_hint("name one that works, or unset COMFY_UV")),
        None => Ok(None),
    }
}

/// The hash of a program as hexadecimal digits.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn hash_program(path: &Path) -> std::io::Result<String> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(path)?;
    let mut bytes = Vec::new();
    std::io::Read::by_ref(&mut file)
        .take(MAX_BYTES)
        .read_to_end(&mut bytes)?;
    Ok(hex_digits(&bytes))
}

fn hex_digits(bytes: &[u8]) -> String {
    base16ct::lower::encode_string(&Sha256::digest(bytes))
}

/// `uv 0.13.9 (…)` as (0, 13).
fn version_of(program: &Path) -> Option<(u32, u32)> {
    let out = SystemRunner
        .run_program(&[program.to_str()?, "--version"])
        .ok()
        .filter(|o| o.status == 0)?;
    let mut parts = out.stdout.strip_prefix("uv ")?.split(['.', ' ']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn published_uv() -> Result<&'static PublishedUv> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    WHEELS
        .iter()
        .find(|w| w.os == os && w.arch == arch)
        .ok_or_else(|| {
            Problem::new(format!("comfy knows no published uv for {os} on {arch}"))
                .with_hint("install uv yourself, and name it with COMFY_UV")
        })
}

/// The published program.
fn fetch_published(net: &NetEnv, offline: bool, published: &PublishedUv) -> Result<Vec<u8>> {
    if offline {
        return Err(Problem::new(
            "uv is needed, but it is not in PATH and comfy is offline",
        ));
    }
    let file = published.file;
    let index = ["UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"]
        .iter()
        .find_map(|n| net.vars.get(*n))
        .map_or("https://pypi.org/simple", String::as_str);
    let page = format!("{}/uv/", index.trim_end_matches('/'));
    let agent = crate::host::net::http::agent_for(net, "comfy", &page);
    let doing = || format!("fetch uv {VERSION} from {page}");
    // The HTML form of PEP 503: every index has it.
    let text = agent
        .get(&page)
        .header("Accept", "text/html")
        .call()
        .with_context(doing)?
        .body_mut()
        .read_to_string()
        .with_context(doing)?;
    let quoted = text.split('"').find(|h| {
        h.split(['#', '?'])
            .next()
            .is_some_and(|p| p.ends_with(&format!("/{file}")) || p == file)
    });
    let href = quoted.ok_or_else(|| Problem::new(format!("{page} does not list {file}")))?;
    let address =
        crate::host::net::http::absolute_link(&page, href.split('#').next().unwrap_or(href));
    let mut bytes = Vec::new();
    agent
        .get(&address)
        .call()
        .with_context(doing)?
        .body_mut()
        .with_config()
        .limit(MAX_BYTES)
        .reader()
        .read_to_end(&mut bytes)
        .with_context(doing)?;
    let is = hex_digits(&bytes);
    if is != published.sha256 {
        return Err(Problem::new(format!(
            "{file} has sha256 {is}, but comfy expects {}: it was not used",
            published.sha256
        )));
    }
    let unpack = || format!("unpack {file}");
    let mut wheel = zip::ZipArchive::new(std::io::Cursor::new(bytes)).with_context(unpack)?;
    let mut program = Vec::new();
    wheel
        .by_name(&format!("uv-{VERSION}.data/scripts/uv"))
        .with_context(unpack)?
        .take(MAX_BYTES)
        .read_to_end(&mut program)
        .with_context(unpack)?;
    Ok(program)
}
