//! All refusals of one kind at once. uv stops at the first package that it cannot have. Here what
//! would settle that is written into a copy of the manifest, and it is asked again, until nothing
//! is lacking: then all of it is told, with lines of comfy.toml that were tried.

use std::collections::{BTreeMap, BTreeSet};

use pep508_rs::{Requirement, VersionOrUrl};

use super::given::PackageSettings;
use crate::lock::markers::marker_truth;
use crate::lock::python::{PartRequirements, RequirementLine, normalize_name, public_version};
use crate::lock::requirements;
use crate::lock::uv::response;
use crate::lock::uv::response::lacks::{LackKind, PackageLack};
use crate::manifest::{Manifest, quoted_list};
use crate::problem::Problem;
use crate::text::escape_text;

/// What is true on no platform.
const NOWHERE: &str = "sys_platform == 'win32'";
/// How often uv is asked again.
const MAX_ROUNDS: usize = 60;
/// How often given versions are held, each time those that the refusal names.
const MAX_HELD: usize = 6;

/// Why one attempt failed.
pub(super) struct Refusal {
    pub problem: Problem,
    pub lacks: Vec<PackageLack>,
    /// Where the machines with an accelerator that lack something take their packages from.
    pub routes: BTreeSet<String>,
}

/// The manifest with what settles the refusals so far.
#[derive(Clone)]
pub(super) struct ManifestDraft {
    pub manifest: Manifest,
    pub asks: BTreeMap<String, PartRequirements>,
    /// The nodes whose `ignore_requirements` differ.
    nodes: BTreeSet<String>,
    overrides: bool,
    requirements: bool,
}

impl ManifestDraft {
    pub(super) fn new(manifest: &Manifest, asks: &BTreeMap<String, PartRequirements>) -> Self {
        ManifestDraft {
            manifest: manifest.clone(),
            asks: asks.clone(),
            nodes: BTreeSet::new(),
            overrides: false,
            requirements: false,
        }
    }

    /// Leaves out the lines that are no requirements comfy can lock; returns why, one each.
    pub(super) fn ignore_unlockable_lines(&mut self) -> Vec<Problem> {
        let (mut problems, mut left_out) = (Vec::new(), Vec::new());
        for (part, asked) in &self.asks {
            for line in asked.effective_lines() {
                let Err(p) = requirements::parse_requirement(part, line) else {
                    continue;
                };
                problems.push(p);
                if let Some(node) = part.strip_prefix("node.") {
                    let address = line.text.contains(".whl") || line.text.contains(" @ ");
                    let name = requirements::package_of(&line.text).filter(|_| address);
                    left_out.push((node.to_string(), name.unwrap_or(line.text.clone())));
                }
            }
        }
        for (node, entry) in left_out {
            self.ignore(&node, entry);
        }
        problems
    }

    fn ignore(&mut self, node: &str, entry: String) {
        let asked = self.asks.entry(format!("node.{node}")).or_default();
        if !asked.ignored.contains(&entry) {
            asked.ignored.push(entry);
        }
        if let Some(n) = self.manifest.nodes.get_mut(node) {
            n.ignore_requirements.clone_from(&asked.ignored);
        }
        self.nodes.insert(node.to_string());
    }

    /// The requirement lines of a package, with their part; `None` stands for comfy.toml.
    fn lines_of(&self, package: &str) -> Vec<(Option<String>, String, Requirement)> {
        let platforms = &self.manifest.python.platforms;
        let is_used = |text: &str| {
            let marker = text.split_once(';').map_or("", |(_, m)| m.trim());
            marker_truth(marker, &self.manifest.python.version, platforms)
                .is_ok_and(|t| !t.platforms.is_empty())
        };
        let named = |text: &str| -> Option<Requirement> {
            let r: Requirement = text.parse().ok()?;
            (normalize_name(r.name.as_ref()) == package && is_used(text)).then_some(r)
        };
        let mut out = Vec::new();
        for (part, asked) in &self.asks {
            let lines = asked.effective_lines();
            out.extend(
                lines.filter_map(|l| Some((Some(part.clone()), shown(part, l), named(&l.text)?))),
            );
        }
        for (i, text) in self.manifest.python.requirements.iter().enumerate() {
            let place =
                self.manifest
                    .source
                    .place_of_key(&["python", "requirements", &i.to_string()]);
            out.extend(named(text).map(|r| (None, format!("{place}  {}", escape_text(text)), r)));
        }
        out
    }

    /// Has the package where `marker` is true, with the bounds of all that ask for it.
    fn override_with(&mut self, package: &str, marker: &str) {
        let python = &self.manifest.python;
        let of_package =
            |o: &String| requirements::package_of(o).is_some_and(|name| name == package);
        let given: Vec<Requirement> = python
            .overrides
            .iter()
            .filter(|o| of_package(o))
            .filter_map(|o| o.parse().ok())
            .collect();
        let asked = if given.is_empty() {
            self.lines_of(package)
                .into_iter()
                .map(|(_, _, r)| r)
                .collect()
        } else {
            given
        };
        let (mut bounds, mut extras) = (Vec::new(), BTreeSet::new());
        for r in &asked {
            extras.extend(r.extras.iter().map(ToString::to_string));
            if let Some(VersionOrUrl::VersionSpecifier(s)) = &r.version_or_url {
                bounds.extend(s.iter().map(ToString::to_string));
            }
        }
        bounds.sort();
        bounds.dedup();
        let extras = match extras.len() {
            0 => String::new(),
            _ => format!("[{}]", extras.into_iter().collect::<Vec<_>>().join(",")),
        };
        // What is left out needs no bound.
        let bounds = if marker == NOWHERE {
            String::new()
        } else {
            bounds.join(",")
        };
        let overrides = &mut self.manifest.python.overrides;
        overrides.retain(|o| !of_package(o));
        overrides.push(format!("{package}{extras}{bounds} ; {marker}"));
        self.overrides = true;
    }

    /// Leaves the package out: in the nodes that ask for it where nobody else does, else for all.
    fn leave_out(&mut self, package: &str, for_all: bool) {
        let lines = self.lines_of(package);
        let node = |part: &Option<String>| Some(part.as_ref()?.strip_prefix("node.")?.to_string());
        let is_override = |o: &String| requirements::package_of(o).is_some_and(|n| n == package);
        let overruled = self.manifest.python.overrides.iter().any(is_override);
        if for_all || overruled || lines.is_empty() || lines.iter().any(|(p, ..)| is_core(p)) {
            return self.override_with(package, NOWHERE);
        }
        for (part, ..) in &lines {
            match node(part) {
                Some(node) => self.ignore(&node, package.to_string()),
                None => {
                    let is_it =
                        |t: &String| requirements::package_of(t).is_some_and(|n| n == package);
                    self.manifest.python.requirements.retain(|t| !is_it(t));
                    self.requirements = true;
                }
            }
        }
    }

    /// The lines of comfy.toml, whole lists, that differ.
    fn settings(&self) -> Vec<String> {
        let python = &self.manifest.python;
        let mut out = Vec::new();
        for (differs, key, list) in [
            (self.requirements, "requirements", &python.requirements),
            (self.overrides, "overrides", &python.overrides),
        ] {
            if differs {
                out.push(format!("[python] {key} = {}", quoted_list(list)));
            }
        }
        out.extend(self.nodes.iter().filter_map(|name| {
            let list = &self.manifest.nodes.get(name)?.ignore_requirements;
            Some(format!(
                "[nodes.{name}] ignore_requirements = {}",
                quoted_list(list)
            ))
        }));
        out
    }
}

fn is_core(part: &Option<String>) -> bool {
    part.as_deref() == Some("comfyui")
}

fn shown(part: &str, line: &RequirementLine) -> String {
    format!("{part}  {}:{}  {}", line.file, line.line, line.text)
}

/// A draft, and what it took to come to it.
pub(super) struct SettledDraft {
    pub draft: ManifestDraft,
    /// What was lacking, a line each.
    told: Vec<String>,
    /// As [`Refusal::routes`].
    routes: BTreeSet<String>,
    /// What is still refused; `None`: nothing.
    pub refusal: Option<Refusal>,
}

/// Settles everything that is refused, as far as comfy knows how. `solve` asks for a draft; `None`:
/// it can be locked.
pub(super) fn settle_all(
    mut draft: ManifestDraft,
    first: Option<Refusal>,
    solve: &dyn Fn(&ManifestDraft) -> Option<Refusal>,
) -> SettledDraft {
    let (mut told, mut routes) = (Vec::new(), BTreeSet::new());
    // How often each package was settled; the next way is taken where one was not enough.
    let mut tried: BTreeMap<String, usize> = BTreeMap::new();
    let mut refusal = first;
    for _ in 0..MAX_ROUNDS {
        let Some(r) = refusal.as_ref().filter(|r| !r.problem.is_interrupted()) else {
            break;
        };
        let open: Vec<&PackageLack> = r
            .lacks
            .iter()
            .filter(|l| tried.get(&l.package).is_none_or(|n| *n < 3))
            .collect();
        if open.is_empty() {
            break;
        }
        routes.extend(r.routes.iter().cloned());
        for lack in open {
            let n = tried.entry(lack.package.clone()).or_default();
            if *n == 0 {
                told.push(lack_line(lack, &draft));
            }
            match (&lack.kind, *n) {
                (LackKind::Platforms { marker, .. }, 0) if marker != NOWHERE => {
                    draft.override_with(&lack.package, marker);
                }
                (LackKind::Wheels | LackKind::Package, 0) if lack.kept_where.is_some() => {
                    draft.override_with(
                        &lack.package,
                        lack.kept_where.as_deref().unwrap_or(NOWHERE),
                    );
                }
                (LackKind::Platforms { .. }, n) => draft.leave_out(&lack.package, n > 1),
                (LackKind::Wheels | LackKind::Package, n) => draft.leave_out(&lack.package, n > 0),
            }
            *n += 1;
        }
        refusal = solve(&draft);
    }
    SettledDraft {
        draft,
        told,
        routes,
        refusal,
    }
}

impl SettledDraft {
    /// Where wishes do not fit together: has the packages that the refusal names at the versions that
    /// were given, since an installation worked with them.
    pub(super) fn hold_given(
        &mut self,
        given: &BTreeMap<String, String>,
        solve: &dyn Fn(&ManifestDraft) -> Option<Refusal>,
    ) {
        let mut held: BTreeSet<String> = BTreeSet::new();
        for _ in 0..MAX_HELD {
            let Some(r) = &self.refusal else { return };
            if r.problem.is_interrupted() || !response::names_conflict(&r.problem) {
                return;
            }
            let named = response::package_words(&r.problem.message);
            let new: Vec<&String> = given
                .keys()
                .filter(|p| named.contains(*p) && !held.contains(*p))
                .collect();
            if new.is_empty() {
                return;
            }
            for package in new {
                let version = public_version(&given[package]);
                let is_it = |o: &String| requirements::package_of(o).is_some_and(|n| n == *package);
                let overrides = &mut self.draft.manifest.python.overrides;
                overrides.retain(|o| !is_it(o));
                overrides.push(format!("{package}=={version}"));
                self.draft.overrides = true;
                self.told.push(format!(
                    "not everybody's wishes about {package} fit together: it stays at {version}"
                ));
                held.insert(package.clone());
            }
            self.refusal = solve(&self.draft);
        }
    }

    /// What has to be in comfy.toml for this draft.
    pub(super) fn settings(&self, unlockable: Vec<Problem>) -> PackageSettings {
        let draft = &self.draft;
        let ignored = |name: &String| {
            let node = draft.manifest.nodes.get(name)?;
            Some((name.clone(), node.ignore_requirements.clone()))
        };
        let mut told: Vec<String> = unlockable.into_iter().map(|p| p.message).collect();
        told.extend(self.told.iter().cloned());
        PackageSettings {
            requirements: draft.manifest.python.requirements.clone(),
            overrides: draft.manifest.python.overrides.clone(),
            ignored: draft.nodes.iter().filter_map(ignored).collect(),
            told,
        }
    }

    /// Everything that is refused, with lines that settle it; what is still refused is told too.
    pub(super) fn explain(self, unlockable: Vec<Problem>) -> Problem {
        let SettledDraft {
            draft,
            told,
            routes,
            refusal,
        } = self;
        if let Some(r) = refusal.as_ref().filter(|r| r.problem.is_interrupted()) {
            return r.problem.clone();
        }
        let mut problems = unlockable;
        match &told[..] {
            [] => {}
            [one] => problems.push(Problem::new(format!("Python packages: {one}"))),
            all => problems.push(Problem::new(format!(
                "Python packages: {} cannot be had as they are asked for:\n{}",
                crate::text::count_of(all.len(), "package"),
                all.join("\n")
            ))),
        }
        if let Some(last) = problems.last_mut() {
            let is_settled = refusal.is_none();
            for (i, line) in draft.settings().into_iter().enumerate() {
                let begin = match (i, is_settled) {
                    (0, true) => "with this in comfy.toml it locks: ",
                    (0, false) => "this in comfy.toml settles it: ",
                    _ => "and with this: ",
                };
                last.hints.push(format!("{begin}{line}"));
            }
            last.hints.extend(routes);
        }
        problems.extend(refusal.map(|r| r.problem));
        Problem::from_many(problems)
    }
}

/// `decord has no wheel for macos-arm64`, and who asks for it. Where no platform of the lock has a
/// wheel, the version of Python may be the reason, and is named.
fn lack_line(lack: &PackageLack, draft: &ManifestDraft) -> String {
    let cards: Vec<&str> = lack.accelerators.iter().map(String::as_str).collect();
    let cards = match &cards[..] {
        [] => String::new(),
        cards => format!(" with {}", cards.join(", ")),
    };
    let package = &lack.package;
    let what = match &lack.kind {
        LackKind::Platforms { missing, .. } => {
            let words: Vec<&str> = missing.iter().map(|p| p.word()).collect();
            let python = &draft.manifest.python;
            let version = if python.platforms.iter().all(|p| missing.contains(p)) {
                format!(" and Python {}", python.version)
            } else {
                String::new()
            };
            format!(
                "{package} has no wheel for {}{version}{cards}",
                words.join(", ")
            )
        }
        LackKind::Wheels if cards.is_empty() => {
            format!("{package} has no wheel, and comfy builds nothing from source")
        }
        LackKind::Wheels => format!("{package} has no wheel for machines{cards}"),
        LackKind::Package if cards.is_empty() => format!("the index has no package {package}"),
        LackKind::Package => {
            format!("the index has no package {package}, which machines{cards} need")
        }
    };
    let lines = draft.lines_of(&lack.package);
    if lines.is_empty() {
        let by: Vec<&str> = lack.by.iter().map(String::as_str).collect();
        return match &by[..] {
            [] => format!("{what}\n  another package asks for it"),
            by => format!("{what}\n  {} asks for it", by.join(", ")),
        };
    }
    let who: Vec<String> = lines.iter().map(|(_, s, _)| format!("\n  {s}")).collect();
    format!("{what}{}", who.concat())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Wishes that do not fit together are settled at the versions that were installed, and at no
    /// others; what is no such conflict is left to its owner.
    #[test]
    fn versions_that_were_installed_settle_a_conflict() {
        let manifest = Manifest::parse(
            Path::new("comfy.toml"),
            &"version = 1\n[comfyui]\nrepo = \"https://h.test/o/r\"\n".into(),
            "box",
        )
        .unwrap();
        let given = BTreeMap::from([
            ("numpy".to_string(), "1.26.4".to_string()),
            ("torch".into(), "2.9.0+cu128".into()),
            ("einops".into(), "0.8".into()),
        ]);
        let refused = |text: &str| {
            Some(Refusal {
                problem: Problem::new(text),
                lacks: Vec::new(),
                routes: BTreeSet::new(),
            })
        };
        let held = |first: &str, then: &dyn Fn(&ManifestDraft) -> Option<Refusal>| {
            let draft = ManifestDraft::new(&manifest, &BTreeMap::new());
            let mut settled = settle_all(draft, refused(first), then);
            settled.hold_given(&given, then);
            (settled.settings(Vec::new()), settled.refusal.is_some())
        };
        // One shows the next.
        let answer = |draft: &ManifestDraft| match draft.manifest.python.overrides.len() {
            0 => refused("No solution: node.a depends on numpy<2, node.b on numpy>=2"),
            1 => refused("No solution: torch>=2.10 is not torch==2.9"),
            _ => None,
        };
        let (settings, open) = held("No solution: numpy<2 and numpy>=2", &answer);
        assert_eq!(settings.overrides, ["numpy==1.26.4", "torch==2.9.0"]);
        assert!(!open && settings.told.len() == 2, "{settings:?}");
        // It ends where nothing that was installed is named, and where no version would help.
        let (settings, open) = held("No solution: pillow<1", &|_| {
            refused("No solution: pillow<1")
        });
        assert!(open && settings.overrides.is_empty());
        let (settings, open) = held("numpy cannot be fetched", &|_| refused("numpy"));
        assert!(open && settings.overrides.is_empty());
    }
}
