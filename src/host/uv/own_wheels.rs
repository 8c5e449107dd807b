//! The wheels of `[python] wheels`, on this disk: those in folders where they lie, those with an
//! address in the cache.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::desired::below_home;
use crate::host::build::venv::wheel_fetch::{self, WheelStore};
use crate::host::net::NetEnv;
use crate::host::net::http::PackageAgents;
use crate::lock::python::GatheredWheel;
use crate::manifest::WheelSource;
use crate::manifest::wheel_sources::wheel_package;
use crate::problem::{Context, Problem, Result};
use crate::text::escape_text;

pub(super) struct WheelGathering<'a> {
    pub net: &'a NetEnv,
    /// Where those with an address are kept.
    pub cache: &'a Path,
    pub offline: bool,
    /// File name to sha256, where it must not change.
    pub pinned: &'a BTreeMap<String, String>,
}

impl WheelGathering<'_> {
    /// # Errors
    /// A folder that cannot be read, an address that gives nothing or another file, two files of
    /// one name.
    pub(super) fn gather(&self, sources: &[WheelSource]) -> Result<Vec<GatheredWheel>> {
        let mut out: Vec<GatheredWheel> = Vec::new();
        for source in sources {
            let found = match source {
                WheelSource::Folder(path) => in_folder(path)?,
                WheelSource::Address { url, sha256, file } => {
                    vec![self.fetch(url, sha256.as_deref(), file)?]
                }
            };
            for w in found {
                match out.iter().find(|o| o.file == w.file) {
                    Some(o) if o.sha256 != w.sha256 => {
                        return Err(Problem::new(format!(
                            "[python] wheels: {} and {} have one name and differ",
                            o.path.display(),
                            w.path.display()
                        ))
                        .with_hint("remove one of them"));
                    }
                    Some(_) => {}
                    None => out.push(w),
                }
            }
        }
        Ok(out)
    }

    fn fetch(&self, url: &str, sha256: Option<&str>, file: &str) -> Result<GatheredWheel> {
        std::fs::create_dir_all(self.cache)
            .with_context(|| format!("make {}", self.cache.display()))?;
        let store = WheelStore {
            agents: PackageAgents::new(self.net),
            folder: self.cache,
            local: None,
            offline: self.offline,
        };
        let expected = sha256.or(self.pinned.get(file).map(String::as_str));
        let (path, sha256) = store
            .keep_address(url, &escape_text(file), expected)
            .map_err(|p| p.with_prefix("[python] wheels: "))?;
        let size = path
            .metadata()
            .with_context(|| format!("read {}", path.display()))?
            .len();
        Ok(GatheredWheel {
            file: file.into(),
            path,
            sha256,
            size,
        })
    }
}

fn in_folder(written: &str) -> Result<Vec<GatheredWheel>> {
    let folder = match crate::host::env::home_dir() {
        Some(home) => below_home(&home, written),
        None if written.starts_with('/') => PathBuf::from(written),
        None => return Err(Problem::new("your home folder is unknown").with_hint("set HOME")),
    };
    let doing = || format!("read {}, which [python] wheels names", folder.display());
    let mut out = Vec::new();
    let entries = std::fs::read_dir(&folder)
        .with_context(doing)
        .map_err(|p| p.with_hint("make that folder, or remove it from `wheels`"))?;
    for entry in entries {
        let path = entry.with_context(doing)?.path();
        let Some(file) = path.file_name().and_then(|n| n.to_str()) else {
            continue;
        };
        if wheel_package(file).is_none() || !path.is_file() {
            continue;
        }
        let mut opened = File::open(&path).with_context(|| format!("read {}", path.display()))?;
        let mut hasher = Sha256::new();
        let size = wheel_fetch::hash_rest(&mut opened, &mut hasher)
            .with_context(|| format!("read {}", path.display()))?;
        out.push(GatheredWheel {
            file: file.into(),
            sha256: wheel_fetch::hex_digest(hasher),
            size,
            path,
        });
    }
    out.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(out)
}
