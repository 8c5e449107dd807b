//! `model.PATH`: one file of a share, with the size and the hash from the lock.
//!
//! A plan checks size and time, and does not read. It compares the size, and the known hash of a
//! file that has not changed since it was read; files that were never compared are counted, and
//! `verify` reads them.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use bytestring::ByteString;
use rayon::prelude::*;

use super::builder::{Instance, Observed, PlanBuilder, Resource, attrs};
use super::share::{ShareObservation, ShareUse};
use crate::desired::{Desired, DesiredModel};
use crate::ids::Address;
use crate::lock::ModelPin;
use crate::manifest::{MODELS, ScanPolicy, names};
use crate::plan::model_summary::{ModelFetch, ModelFile, is_model};
use crate::plan::observed::{FileType, ShareSpec};
use crate::plan::step::ModelScan;
use crate::plan::{Attrs, Step};
use crate::text::{count_of, escape_text, format_bytes};

/// Files of the same size that are looked at for a copy.
const COPIES: usize = 4;
/// Unmanaged ones that are kept for `-v`.
const NAMES: usize = 100_000;

/// The files of the shares that can be used, by the share's name.
type Files<'a> = BTreeMap<&'a str, (&'a ShareSpec, &'a [Vec<ModelFile>])>;

fn observed_files<'a>(o: &'a Observed) -> Files<'a> {
    let usable = |share: &'a ShareObservation| match &share.seen {
        Ok(ShareUse::Usable(spec, seen)) if o.d.has_models(&share.wish.name) => {
            let files = seen.as_ref().map(|s| &s.files[..]).unwrap_or_default();
            Some((share.wish.name.as_str(), (spec, files)))
        }
        _ => None,
    };
    o.shares.iter().filter_map(usable).collect()
}

pub(crate) fn plan_models(o: &Observed, b: &mut PlanBuilder) {
    let seen = observed_files(o);
    let d = o.d;
    b.library.declared = d.models.len();
    // A file that could not be looked at does not count as intact.
    b.library.skipped += d
        .models
        .values()
        .filter(|w| !seen.contains_key(&*w.share))
        .count();
    let mut by_size: Option<HashMap<u64, Vec<PathBuf>>> = None;
    for (share, (spec, files)) in seen.iter().map(|(s, f)| (*s, *f)) {
        let os = d.platform.os;
        let mut there: HashMap<Cow<str>, &ModelFile> =
            HashMap::with_capacity(files.iter().map(Vec::len).sum());
        there.extend(files.iter().flatten().map(|f| (os.spelled(&f.path), f)));
        let wanted: Vec<(&ByteString, &DesiredModel)> = d
            .models
            .iter()
            .filter(|(_, w)| *w.share == *share)
            .collect();
        // Thousands of them: every core looks some up.
        let looked_up: Vec<(Option<&ModelFile>, bool)> = wanted
            .par_iter()
            .map(|(path, wish)| {
                let (file, pin) = (there.get(&*os.spelled(path)).copied(), &wish.pin);
                (
                    file,
                    file.is_some_and(|f| {
                        f.kind == FileType::File
                            && f.size == pin.size
                            && f.known.is_none_or(|k| k == pin.sha256)
                    }),
                )
            })
            .collect();
        let undeclared = there.len() - looked_up.iter().filter(|(file, _)| file.is_some()).count();
        for ((path, wish), (file, fine)) in wanted.into_iter().zip(looked_up) {
            if undeclared > 0 {
                there.remove(&*os.spelled(path));
            }
            let pin = &wish.pin;
            if fine {
                b.library.unverified += usize::from(file.is_some_and(|f| f.known.is_none()));
                // An intact model is in the plan only if it was asked for by name.
                let address = Address::Model(path.to_string());
                if o.only.has_address(&address) {
                    let is = describe_model(pin);
                    b.add(Resource::new(address, Some(is.clone()), Some(is)));
                }
                continue;
            }
            let sizes = by_size.get_or_insert_with(|| paths_by_size(&seen));
            let target = spec.path.join(&**path);
            let copies: Vec<PathBuf> = sizes
                .get(&pin.size)
                .into_iter()
                .flatten()
                .filter(|p| **p != target)
                .take(COPIES)
                .cloned()
                .collect();
            plan_model(o, b, spec, path, pin, file, copies);
        }
        if undeclared > 0 {
            count_unmanaged(o, b, share, there.into_values());
        }
    }
}

fn plan_model(
    o: &Observed,
    b: &mut PlanBuilder,
    spec: &ShareSpec,
    path: &str,
    pin: &ModelPin,
    file: Option<&ModelFile>,
    copies: Vec<PathBuf>,
) {
    let target = spec.path.join(path);
    let shown = escape_text(&target.to_string_lossy());
    let want = describe_model(pin);
    let have = file.map(|f| {
        // Only what both sides of an apply see: for a file of the right size root reads what the
        // caller has read.
        let sha256 = f
            .known
            .filter(|_| f.size == pin.size)
            .map_or("another".to_string(), |k| k.to_string());
        let mut is = attrs([("size", size_text(f.size)), ("sha256", sha256)]);
        if let Some(s) = &pin.source {
            is.insert("source".into(), s.clone());
        }
        is
    });
    if let Some(f) =
        file.filter(|f| f.kind == FileType::File && f.size == pin.size && f.known.is_some())
    {
        b.library.mismatched.push(spec.path.join(&f.path));
    }
    if !spec.manage {
        let what = if file.is_some() {
            "is not the file that comfy.lock pins"
        } else {
            "does not exist"
        };
        b.library.skipped += 1;
        b.warnings.push(format!(
            "model.{path} {what}; share {}: `manage = false`, so comfy does not touch it",
            spec.name
        ));
        return;
    }
    let mut r = Resource::new(Address::Model(path.into()), Some(want), have)
        .needs([Address::Share(spec.name.clone())]);
    // It was intact before, or another file is in its place: the machine changed.
    r.drift = file.is_some().then_some(true);
    r.reason = file.map(|f| format!("the file changed {}", utc_time(f.changed)));
    // A file that comfy installed can be downloaded again; any other may be the only copy of
    // somebody's work.
    let placed = o.inventory.applied.get(&r.address.to_string());
    let ours = |f: &ModelFile| {
        let is = |key: &str, what: String| placed.is_some_and(|a| a.get(key) == Some(&what));
        is("size", size_text(f.size))
            && (f.size != pin.size || f.known.is_some_and(|k| is("sha256", k.to_string())))
    };
    let keep = file.is_some_and(|f| !ours(f));
    if keep {
        r.reason = r
            .reason
            .map(|why| format!("{why}; it is kept next to the new one as NAME.replaced-…"));
    }
    if let Some(what) = in_the_way(o, spec, path) {
        b.add(r.block(what));
        return;
    }
    if file.is_some_and(|f| f.kind != FileType::File) {
        b.add(r.block(format!("{shown} is not a file: move it away")));
        return;
    }
    if pin.source.is_none() && (copies.is_empty() || file.is_some()) {
        let why = match file {
            None => format!(
                "{shown} does not exist, and comfy.lock has no source for it: put it back, name a \
                 `source`, or remove it from comfy.toml"
            ),
            Some(f) => format!(
                "{shown} changed {} and comfy.lock has no source to repair it from: put the old \
                 file back, or pin it with `comfy update {}`",
                utc_time(f.changed),
                // The file's name is untrusted, and the line may be pasted into a shell.
                escape_text(&shlex::try_quote(path).unwrap_or_default())
            ),
        };
        b.add(r.block(why));
        return;
    }
    let fetch = ModelFetch {
        address: r.address.clone(),
        share: Box::new(spec.clone()),
        path: path.into(),
        source: pin.source.clone(),
        revision: pin.revision.clone(),
        size: pin.size,
        sha256: pin.sha256,
        copies,
    };
    b.downloads.models.push(fetch);
    let step = Step::PlaceModel {
        keep,
        share: Box::new(spec.clone()),
        path: path.into(),
        size: pin.size,
        sha256: pin.sha256,
    };
    b.add(r.steps([step]));
}

/// A link anywhere on the way, a folder where the file should be, or a file where a folder should
/// be.
fn in_the_way(o: &Instance, spec: &ShareSpec, path: &str) -> Option<String> {
    for part in path
        .match_indices('/')
        .map(|(i, _)| &path[..i])
        .chain([path])
    {
        let (at, last) = (spec.path.join(part), part == path);
        let what = match o.look.read_entry(&at).ok()??.kind {
            FileType::Dir if !last => continue,
            FileType::Link => {
                "is a link, and comfy does not follow links inside a share: put the real file or \
                 folder there, or make it a share of its own"
            }
            FileType::Dir => "is a folder: move it away",
            FileType::File if !last => "is a file where a folder must be: move it away",
            _ => return None,
        };
        return Some(format!("{} {what}", escape_text(&at.to_string_lossy())));
    }
    None
}

/// Where files of each size are.
fn paths_by_size(seen: &Files) -> HashMap<u64, Vec<PathBuf>> {
    let mut out: HashMap<u64, Vec<PathBuf>> = HashMap::new();
    for (spec, files) in seen.values().copied() {
        for f in files.iter().flatten().filter(|f| f.kind == FileType::File) {
            out.entry(f.size).or_default().push(spec.path.join(&f.path));
        }
    }
    out.values_mut().for_each(|paths| paths.sort());
    out
}

/// Counts models that nobody declared; they may be the owner's intention, so they stay.
fn count_unmanaged<'a>(
    o: &Observed,
    b: &mut PlanBuilder,
    share: &str,
    undeclared: impl Iterator<Item = &'a ModelFile>,
) {
    let d = o.d;
    let Some(role) = d
        .shares
        .iter()
        .find(|s| s.name == share && s.role.holds_models())
        .map(|s| &s.role)
    else {
        return;
    };
    let library = &mut b.library;
    for f in undeclared
        .filter(|f| f.kind == FileType::File && is_model(&f.path) && role.shows_path(&f.path))
        // One that comfy.toml cannot name is not offered: `add model` says why.
        .filter(|f| names::check_model_file(&f.path).is_ok())
    {
        library.unmanaged += 1;
        library.unmanaged_bytes += f.size;
        if library.names.len() < NAMES {
            library.names.push(format!("{share}: {}", f.path));
        }
    }
    library.names.sort();
}

fn describe_model(pin: &ModelPin) -> Attrs {
    let mut a = attrs([
        ("size", size_text(pin.size)),
        ("sha256", pin.sha256.to_string()),
    ]);
    if let Some(s) = &pin.source {
        a.insert("source".into(), s.clone());
    }
    a
}

fn size_text(n: u64) -> String {
    if n < 1024 {
        count_of(usize::try_from(n).unwrap_or(0), "byte")
    } else {
        format!("{} ({n} bytes)", format_bytes(n))
    }
}

/// In UTC, so that both sides of an apply say the same.
fn utc_time(seconds: i64) -> String {
    chrono::DateTime::from_timestamp(seconds, 0).map_or("at an unknown time".into(), |t| {
        t.format("%Y-%m-%d %H:%M:%S UTC").to_string()
    })
}

/// What happens to a fetched model that runs code when it is loaded.
pub(super) fn scan_of_models(d: &Desired) -> ModelScan {
    match d.policy.scan {
        ScanPolicy::Off => ModelScan::Off,
        ScanPolicy::Warn => ModelScan::Warn,
        ScanPolicy::Block => {
            let entries = d.policy.accept.iter().filter(|e| e.node == MODELS);
            let accepted = entries.filter_map(|e| {
                let pin = &d.models.get(&*e.path)?.pin;
                let bound = d.acceptances.bound_to(e)?;
                bound
                    .contains(&pin.sha256.fingerprint())
                    .then_some(pin.sha256)
            });
            ModelScan::Block {
                accepted: accepted.collect(),
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use crate::testing::{Locked, MemoryHost, desired};

    const SHARE: &str = "[shares.models]\npath = \"/srv/ai/models\"\nmount = \"models\"\naccess = \
        \"read\"\n[models.\"m.safetensors\"]\nsource = \"https://x.test/m\"\n";

    #[test]
    fn a_model_is_fetched_once_and_again_when_it_is_another() {
        let (host, d) = (MemoryHost::fresh(), desired(SHARE, &Locked::default()));
        let place = "model.m.safetensors: place_model";
        assert_eq!(host.differences(&d, "model"), [format!("create {place}")]);
        host.apply(&d);
        assert_eq!(host.differences(&d, "model"), [""; 0]);
        let other = Locked {
            model: 1,
            ..Locked::default()
        };
        assert_eq!(
            host.differences(&desired(SHARE, &other), "model"),
            [format!("update {place}")]
        );
        // Models stay in their shares.
        assert_eq!(host.removals(&d, "model"), [""; 0]);
    }

    #[test]
    fn a_model_without_a_source_that_is_nowhere_is_blocked() {
        let text = SHARE.replace("source = \"https://x.test/m\"\n", "");
        let (host, d) = (MemoryHost::fresh(), desired(&text, &Locked::default()));
        assert_eq!(
            host.differences(&d, "model"),
            ["blocked model.m.safetensors: "]
        );
    }
}
