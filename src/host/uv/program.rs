//! Which uv: `COMFY_UV`, else a compatible one in PATH, else the published wheel, pinned here by hash.

use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::Uv;
use crate::host::env;
use crate::host::process::{Run, System};
use crate::problem::{Doing, Problem, Result};

/// The version that is fetched; its wheels on PyPI, published 2026-11-17.
const VERSION: &str = "0.13.9";
/// The oldest that knows `required-environments` and writes what comfy reads.
const OLDEST: (u32, u32) = (0, 9);
const WHEELS: &[(&str, &str, &str, &str)] = &[
    ("macos", "aarch64", "uv-0.13.9-py3-none-macosx_11_0_arm64.whl", "66c512266d633bef48384a1f53003f41f2a8e7b36fe6e7fbfd3e0fd52d96fa63"),
    ("macos", "x86_64", "uv-0.13.9-py3-none-macosx_10_12_x86_64.whl", "c16ed11e013557536b3e60065f1b912f6407bd6518e041b961e23ef9e6b4fbf5"),
    (
        "linux",
        "x86_64",
        "uv-0.13.9-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19",
    ),
    (
        "linux",
        "aarch64",
        "uv-0.13.9-py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64.whl",
        "5435c5ce14a56431208ca0996416d310f1598e8c2c8ba707688985a16bb82dbe",
    ),
];
/// Far above the real wheel.
const MAX_BYTES: u64 = 200 << 20;

/// The uv to run.
///
/// # Errors
/// Root; a COMFY_UV that is none; no network; a file with another hash.
pub fn find(uv: &Uv) -> Result<PathBuf> {
    // Another uid may have no way to the caller's own.
    if let Some(own) = uv.net.vars.get("COMFY_UV").filter(|p| uv.own || version(Path::new(p)).is_some()) {
        let path = PathBuf::from(own);
        return match version(&path) {
            Some(v) if v >= OLDEST && path.is_absolute() => Ok(path),
            Some(v) => Err(Problem::new(format!("COMFY_UV={own}: version {}.{} is too old, or the path is not absolute", v.0, v.1))
                .hint(format!("name an uv of at least {}.{} by its whole path, or unset COMFY_UV", OLDEST.0, OLDEST.1))),
            None => Err(Problem::new(format!("COMFY_UV={own} is no uv that runs")).hint("name one that does, or unset COMFY_UV")),
        };
    }
    let found = if uv.own { env::which("uv") } else { env::which_in(env::PUBLIC_PATH, "uv") };
    if let Some(found) = found.filter(|p| version(p).is_some_and(|v| v >= OLDEST)) {
        return Ok(found);
    }
    let kept = uv.cache.join(format!("uv-{VERSION}")).join("uv");
    if version(&kept).is_some() {
        return Ok(kept);
    }
    fetch(uv, &kept).map_err(|p| p.hint("or install uv yourself and put it into PATH, or name it with COMFY_UV"))?;
    Ok(kept)
}

/// `uv 0.13.9 (…)` as (0, 13).
fn version(program: &Path) -> Option<(u32, u32)> {
    let out = System.run(&[program.to_str()?, "--version"]).ok().filter(|o| o.status == 0)?;
    let mut parts = out.stdout.strip_prefix("uv ")?.split(['.', ' ']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn fetch(uv: &Uv, to: &Path) -> Result<()> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let (_, _, file, sha256) = WHEELS
        .iter()
        .find(|(o, a, ..)| *o == os && *a == arch)
        .ok_or_else(|| Problem::new(format!("there is no published uv for {os} on {arch} that comfy knows")))?;
    if uv.offline {
        return Err(Problem::new("uv is needed, is not in PATH, and comfy is offline"));
    }
    let index =
        ["UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"].iter().find_map(|n| uv.net.vars.get(*n)).map_or("https://pypi.org/simple", String::as_str);
    let page = format!("{}/uv/", index.trim_end_matches('/'));
    let agent = crate::host::http::agent(&uv.net, "comfy");
    let doing = || format!("fetch uv {VERSION} from {page}");
    // The HTML form of PEP 503: every index has it.
    let text = agent.get(&page).header("Accept", "text/html").call().doing(doing)?.body_mut().read_to_string().doing(doing)?;
    let quoted = text.split('"').find(|h| h.split(['#', '?']).next().is_some_and(|p| p.ends_with(&format!("/{file}")) || p == *file));
    let href = quoted.ok_or_else(|| Problem::new(format!("{page} does not list {file}")))?;
    let address = crate::host::http::absolute(&page, href.split('#').next().unwrap_or(href));
    let mut bytes = Vec::new();
    agent.get(&address).call().doing(doing)?.body_mut().with_config().limit(MAX_BYTES).reader().read_to_end(&mut bytes).doing(doing)?;
    let is = base16ct::lower::encode_string(&Sha256::digest(&bytes));
    if is != *sha256 {
        return Err(Problem::new(format!("{file} has sha256 {is}, and comfy expects {sha256}: it was not used")));
    }
    let unpack = || format!("unpack {file}");
    let mut wheel = zip::ZipArchive::new(std::io::Cursor::new(bytes)).doing(unpack)?;
    let mut program = Vec::new();
    let mut inside = wheel.by_name(&format!("uv-{VERSION}.data/scripts/uv")).doing(unpack)?;
    inside.read_to_end(&mut program).doing(unpack)?;
    let folder = to.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder).doing(|| format!("make {}", folder.display()))?;
    crate::host::fs::edit::write_file(to, &program, 0o755, None).doing(|| format!("write {}", to.display()))
}
