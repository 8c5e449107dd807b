//! Filling the lock with models: those that are asked for and not pinned yet, or for another
//! source.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::UpdatePolicy;
use crate::lock::{Blake3Digest, FileDigests, Lock, ModelOrigin, ModelPin, Sha256Digest};
use crate::manifest::{Manifest, Table};
use crate::problem::{Problem, Result};
use crate::progress::Reporter;

/// Where models are asked for: the real one is
/// [`crate::host::models::resolver::HostModelResolver`].
pub(crate) trait ModelResolver: Sync {
    /// Size and hash of each, in the order in which they are asked. Sources are asked without
    /// fetching where the server knows the hash; files are read.
    fn find_models(&self, asked: &[ModelQuery], report: &dyn Reporter) -> Vec<Result<ModelInfo>>;
}

/// One model whose size and hash are wanted.
pub(crate) struct ModelQuery {
    /// Its path in the share.
    pub path: String,
    /// None: the file that is there.
    pub origin: Option<ModelOrigin>,
    /// The share's folder, as written.
    pub share: String,
    /// What the manifest says it must be.
    pub sha256: Option<Sha256Digest>,
    /// The pin of the same source that is to be moved.
    pub before: Option<ModelPin>,
}

/// What a model is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelInfo {
    pub revision: Option<String>,
    pub etag: Option<String>,
    pub size: u64,
    pub digests: FileDigests,
}

/// Of many problems, these are told.
const SHOWN: usize = 20;

/// The models that the manifest asks for: pins, and why the others have none.
pub(super) struct EachModel {
    pub pins: Table<Arc<ModelPin>>,
    /// By path.
    pub refused: Vec<(String, Problem)>,
}

/// Asks for every model.
///
/// # Errors
/// The user interrupts it.
pub(super) fn resolve_each(
    manifest: &Manifest,
    old: Option<&Lock>,
    mode: &UpdatePolicy,
    library: &dyn ModelResolver,
    report: &dyn Reporter,
) -> Result<EachModel> {
    let empty = Table::new_vec();
    let before = old.map_or(&empty, |l| &l.models);
    let (mut pins, mut asked) = (BTreeMap::new(), Vec::new());
    for (path, m) in &manifest.models {
        let origin = m.source.as_deref().and_then(ModelOrigin::parse);
        let sha256 = m.sha256.as_deref().and_then(Sha256Digest::parse);
        let pin = before.get(path).filter(|p| p.source == m.source);
        let satisfied = pin.filter(|p| sha256.is_none_or(|s| s == p.sha256));
        match satisfied.filter(|_| !may_update(path, origin.as_ref(), mode)) {
            Some(p) => drop(pins.insert(path.clone(), Arc::clone(p))),
            None => {
                let share = manifest
                    .shares
                    .get(&*m.share)
                    .map(|s| s.path.clone())
                    .unwrap_or_default();
                asked.push(ModelQuery {
                    path: path.to_string(),
                    origin,
                    share,
                    sha256,
                    before: satisfied.map(|p| ModelPin::clone(p)),
                });
            }
        }
    }
    let mut refused = Vec::new();
    let answers = library.find_models(&asked, report);
    let named = names_by_blake3(old, &answers);
    for (a, found) in asked.iter().zip(answers) {
        let found = found.and_then(|f| match a.sha256.filter(|s| *s != f.digests.sha256) {
            Some(s) => Err(Problem::new(format!(
                "its sha256 is {}, and comfy.toml says sha256 = \"{s}\"",
                f.digests.sha256
            ))
            .with_hint("correct one of the two; nothing was locked")),
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
                    sha256: f.digests.sha256,
                    blake3: named.get(&f.digests.sha256).copied(),
                };
                pins.insert(a.path.as_str().into(), Arc::new(pin));
            }
            Err(p) if p.is_interrupted() => return Err(p),
            Err(p) => {
                let place = manifest.source.place_of_key(&["models", &a.path]);
                let named = format!("{place}: model \"{}\": ", crate::text::escape_text(&a.path));
                refused.push((a.path.clone(), p.with_prefix(&named)));
            }
        }
    }
    Ok(EachModel {
        pins: pins.into_iter().collect(),
        refused,
    })
}

/// The BLAKE3 of bytes, by their SHA-256: of what was read now, and of what any pin says. One never
/// changes while the other stays.
fn names_by_blake3(
    old: Option<&Lock>,
    answers: &[Result<ModelInfo>],
) -> HashMap<Sha256Digest, Blake3Digest> {
    if answers.is_empty() {
        return HashMap::new();
    }
    let pinned = old.into_iter().flat_map(|l| l.models.values());
    let pinned = pinned.map(|p| p.digests());
    let read = answers.iter().flatten().map(|f| f.digests);
    let both = |d: FileDigests| Some((d.sha256, d.blake3?));
    pinned.chain(read).filter_map(both).collect()
}

/// The models that the manifest asks for, pinned.
///
/// # Errors
/// Every model that could not be found, up to some.
pub(crate) fn resolve_models(
    manifest: &Manifest,
    old: Option<&Lock>,
    mode: &UpdatePolicy,
    library: &dyn ModelResolver,
    report: &dyn Reporter,
) -> Result<Table<Arc<ModelPin>>> {
    let EachModel { pins, refused } = resolve_each(manifest, old, mode, library, report)?;
    let mut problems: Vec<Problem> = refused.into_iter().map(|(_, p)| p).collect();
    if problems.len() > SHOWN {
        let rest = problems.split_off(SHOWN).len();
        problems.push(Problem::new(format!(
            "{} more could not be locked",
            crate::text::count_of(rest, "model")
        )));
    }
    if !problems.is_empty() {
        return Err(Problem::from_many(problems));
    }
    Ok(pins)
}

/// Whether an update may move it. What lies on a disk moves only when it is named: a file that
/// somebody changed is no news to be taken over along the way.
fn may_update(path: &str, origin: Option<&ModelOrigin>, mode: &UpdatePolicy) -> bool {
    match mode {
        UpdatePolicy::Keep | UpdatePolicy::At(_) => false,
        UpdatePolicy::Move([]) => matches!(
            origin,
            Some(ModelOrigin::Hub { .. } | ModelOrigin::Web(_) | ModelOrigin::Bucket { .. })
        ),
        UpdatePolicy::Move(names) => names.iter().any(|n| n == path),
    }
}
