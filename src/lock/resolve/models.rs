//! Filling the lock with models: those that are asked for and not pinned yet, or for another
//! source.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytestring::ByteString;

use super::Mode;
use crate::lock::{Lock, ModelPin, Origin, Sha};
use crate::manifest::{Manifest, Table};
use crate::problem::{Problem, Result};
use crate::progress::Reporter;

/// Where models are asked for: the real one is [`crate::host::models::resolver::Disk`].
pub trait Library: Sync {
    /// Size and hash of each, in the order in which they are asked. Sources are asked without
    /// fetching where the server knows the hash; files are read.
    fn find(&self, asked: &[Asked], report: &dyn Reporter) -> Vec<Result<Found>>;
}

/// One model whose size and hash are wanted.
pub struct Asked {
    /// Its path in the share.
    pub path: String,
    /// None: the file that is there.
    pub origin: Option<Origin>,
    /// The share's folder, as written.
    pub share: String,
    /// What the manifest says it must be.
    pub sha256: Option<Sha>,
    /// The pin of the same source that is to be moved.
    pub before: Option<ModelPin>,
}

/// What a model is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub revision: Option<String>,
    pub etag: Option<String>,
    pub size: u64,
    pub sha256: Sha,
}

/// One model that is new, gone or another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelMoved {
    pub path: String,
    pub from: Option<Sha>,
    pub to: Option<Sha>,
}

/// Of many problems, these are told.
const SHOWN: usize = 20;

/// The models that the manifest asks for, pinned.
///
/// # Errors
/// Every model that could not be found, up to some.
pub fn run(
    manifest: &Manifest,
    old: Option<&Lock>,
    mode: &Mode,
    library: &dyn Library,
    report: &dyn Reporter,
) -> Result<(Table<Arc<ModelPin>>, Vec<ModelMoved>)> {
    let empty = Table::new_vec();
    let before = old.map_or(&empty, |l| &l.models);
    let (mut pins, mut asked) = (BTreeMap::new(), Vec::new());
    for (path, m) in &manifest.models {
        let origin = m.source.as_deref().and_then(Origin::parse);
        let sha256 = m.sha256.as_deref().and_then(Sha::parse);
        let pin = before.get(path).filter(|p| p.source == m.source);
        let satisfied = pin.filter(|p| sha256.is_none_or(|s| s == p.sha256));
        match satisfied.filter(|_| !moves(path, origin.as_ref(), mode)) {
            Some(p) => drop(pins.insert(path.clone(), Arc::clone(p))),
            None => {
                let share = manifest
                    .shares
                    .get(&*m.share)
                    .map(|s| s.path.clone())
                    .unwrap_or_default();
                asked.push(Asked {
                    path: path.to_string(),
                    origin,
                    share,
                    sha256,
                    before: satisfied.map(|p| ModelPin::clone(p)),
                });
            }
        }
    }
    let mut problems = Vec::new();
    for (a, found) in asked.iter().zip(library.find(&asked, report)) {
        let found = found.and_then(|f| match a.sha256.filter(|s| *s != f.sha256) {
            Some(s) => Err(Problem::new(format!(
                "its sha256 is {}, and comfy.toml says sha256 = \"{s}\"",
                f.sha256
            ))
            .hint("correct one of the two; nothing was locked")),
            None => Ok(f),
        });
        match found {
            Ok(f) => {
                let source = manifest
                    .models
                    .get(a.path.as_str())
                    .and_then(|m| m.source.clone());
                let pin = ModelPin {
                    source,
                    revision: f.revision,
                    etag: f.etag,
                    size: f.size,
                    sha256: f.sha256,
                };
                pins.insert(a.path.as_str().into(), Arc::new(pin));
            }
            Err(p) if p.is_interrupted() => return Err(p),
            Err(p) => {
                let place = manifest.source.at(&["models", &a.path]);
                problems.push(p.prefixed(&format!(
                    "{place}: model \"{}\": ",
                    crate::text::escape(&a.path)
                )));
            }
        }
    }
    if problems.len() > SHOWN {
        let rest = problems.split_off(SHOWN).len();
        problems.push(Problem::new(format!(
            "{} more could not be locked",
            crate::text::count(rest, "model")
        )));
    }
    if !problems.is_empty() {
        return Err(Problem::all(problems));
    }
    let pins: Table<_> = pins.into_iter().collect();
    let hash = |pins: &Table<Arc<ModelPin>>, path: &ByteString| pins.get(path).map(|p| p.sha256);
    let paths: std::collections::BTreeSet<&ByteString> = before.keys().chain(pins.keys()).collect();
    let moved = paths
        .into_iter()
        .map(|p| ModelMoved {
            path: p.to_string(),
            from: hash(before, p),
            to: hash(&pins, p),
        })
        .filter(|m| m.from != m.to || before.get(m.path.as_str()) != pins.get(m.path.as_str()))
        .collect();
    Ok((pins, moved))
}

/// Whether an update may move it. What lies on a disk moves only when it is named: a file that
/// somebody changed is no news to be taken over along the way.
fn moves(path: &str, origin: Option<&Origin>, mode: &Mode) -> bool {
    match mode {
        Mode::Keep => false,
        Mode::Move([]) => matches!(
            origin,
            Some(Origin::Hub { .. } | Origin::Web(_) | Origin::Bucket { .. })
        ),
        Mode::Move(names) => names.iter().any(|n| n == path),
    }
}
