//! What moved from one lock to another, and its lines for people.

use std::collections::{BTreeMap, BTreeSet};

use std::path::Path;

use bytestring::ByteString;

use super::{FILE, Lock, LockedPython, RepositoryPin, Sha256Digest, sections};
use crate::problem::Result;
use crate::text::{count_of, escape_text, format_bytes, short_commit};
use crate::tree::ObjectId;

/// A commit between two pins.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub(crate) struct CommitLine {
    pub commit: String,
    pub author: String,
    pub subject: String,
}

/// The commits that a pin has and an older one has not.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub(crate) struct CommitRange {
    pub count: usize,
    /// The newest [`CommitRange::LISTED`] of them, newest first.
    pub newest: Vec<CommitLine>,
}

impl CommitRange {
    pub(crate) const LISTED: usize = 10;

    /// Returns a line for each, and one for those that are not listed.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |c: &CommitLine| {
            let (id, author) = (short_commit(&c.commit), escape_text(&c.author));
            format!("{id} {} ({author})", escape_text(&c.subject))
        };
        let mut out: Vec<String> = self.newest.iter().map(line).collect();
        let more = self.count.saturating_sub(self.newest.len());
        if more > 0 && !out.is_empty() {
            out.push(format!("and {more} more"));
        }
        out
    }
}

/// One pin of a repository that is new, gone or different.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct PinChange {
    /// `comfyui`, or the node's name.
    pub name: String,
    /// The address of the repository that it has now.
    pub repo: String,
    /// Whether it was pinned before, in the same repository: only then do commits lead there.
    #[serde(skip)]
    pub same_repo: bool,
    pub from: Option<ObjectId>,
    pub to: Option<ObjectId>,
    /// The versions of a node of the registry.
    pub versions: (Option<String>, Option<String>),
    /// Commits between, where known.
    pub commits: Option<usize>,
    /// The newest of them, where they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub newest: Vec<CommitLine>,
    /// Whether it moved to an older commit.
    pub back: bool,
}

/// One Python package that is new, gone or at another version.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct PackageMoved {
    pub name: String,
    pub from: Option<String>,
    pub to: Option<String>,
}

/// One model that is new, gone or another.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct ModelMoved {
    pub path: String,
    pub from: Option<Sha256Digest>,
    pub to: Option<Sha256Digest>,
    /// Of the file that is pinned now, else of the one that was: bytes.
    pub size: u64,
}

/// The version of Python that was asked for, or of the interpreter that comfy installs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct VersionMoved {
    pub from: Option<String>,
    pub to: Option<String>,
}

/// What moved.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct LockDifference {
    /// ComfyUI, then the nodes by name, then those that are gone.
    pub pins: Vec<PinChange>,
    pub python: Option<VersionMoved>,
    pub interpreter: Option<VersionMoved>,
    pub packages: Vec<PackageMoved>,
    pub models: Vec<ModelMoved>,
}

/// Of a kind, more than these are one number where they are all new.
const SHOWN: usize = 5;
/// A summary lists so many packages, and counts more.
const LISTED: usize = 10;

impl LockDifference {
    /// Without the commits between, which [`LockDifference::count_commits`] adds.
    pub(crate) fn between(old: Option<&Lock>, new: &Lock) -> LockDifference {
        let (before, after) = (old.and_then(|l| l.python.as_ref()), new.python.as_ref());
        let version = |of: fn(&LockedPython) -> Option<String>| {
            let (from, to) = (before.and_then(of), after.and_then(of));
            // The first lock moves nothing.
            (from != to && old.is_some()).then_some(VersionMoved { from, to })
        };
        LockDifference {
            pins: pin_changes(old, new),
            python: version(|p| Some(p.version.clone())),
            interpreter: version(|p| p.managed.clone()),
            packages: package_changes(before, after),
            models: model_changes(old, new),
        }
    }

    /// The same of two texts of comfy.lock. What they have in common is neither parsed nor checked.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub(crate) fn between_texts(old: &str, new: &str) -> Result<LockDifference> {
        let parse = |text: &str| Lock::parse(Path::new(FILE), &ByteString::from(text));
        let differing = sections::without_common(old, new);
        let parsed = differing.and_then(|(old, new)| Some((parse(&old).ok()?, parse(&new).ok()?)));
        let (old, new) = match parsed {
            Some(both) => both,
            // The whole text has the places for the message.
            None => (parse(old)?, parse(new)?),
        };
        Ok(LockDifference::between(Some(&old), &new))
    }

    /// Returns whether no pin moved.
    pub(crate) fn is_empty(&self) -> bool {
        *self == LockDifference::default()
    }

    /// Asks `between` for the commits between the old and the new pin of each repository.
    pub(crate) fn count_commits(
        &mut self,
        between: impl Fn(&str, &ObjectId, &ObjectId) -> Option<CommitRange>,
    ) {
        for pin in self.pins.iter_mut().filter(|p| p.same_repo) {
            if let (Some(from), Some(to)) = (&pin.from, &pin.to) {
                let count = |from, to| Some(between(&pin.repo, from, to)?.count);
                pin.commits = count(from, to);
                if pin.commits == Some(0) {
                    pin.commits = count(to, from);
                    pin.back = true;
                }
            }
        }
    }

    /// Keeps what has this name, as `update` takes names.
    pub(crate) fn about(&self, name: &str) -> LockDifference {
        let node = name.strip_prefix("node.").unwrap_or(name);
        let package = crate::lock::python::normalize_name(name);
        let of_python = |v: &Option<VersionMoved>| v.clone().filter(|_| name == "python");
        let mut out = LockDifference {
            python: of_python(&self.python),
            interpreter: of_python(&self.interpreter),
            ..self.clone()
        };
        out.pins.retain(|p| p.name == node);
        out.packages
            .retain(|p| p.name == package || name == "python");
        out.models.retain(|m| m.path == name);
        out
    }

    /// The names that moved, as `update` takes them.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let python = self.python.iter().chain(&self.interpreter);
        let pins = self.pins.iter().map(|p| p.name.as_str());
        pins.chain(python.map(|_| "python"))
            .chain(self.packages.iter().map(|p| p.name.as_str()))
            .chain(self.models.iter().map(|m| m.path.as_str()))
    }

    /// Returns a line for each thing that moved, `Updated impact-pack 1f4c9a3 -> 9e7ae2d (14
    /// commits)`; many new ones of a kind are one number.
    pub(crate) fn lines(&self) -> Vec<String> {
        let sentence = |term: &Term| match term.verb {
            Verb::Updated => format!("Updated {} {}", term.name, term.detail),
            Verb::Added => format!("Added {} {}", term.name, term.detail),
            Verb::Removed => format!("Removed {} {}", term.name, term.detail),
            Verb::Relocked => format!("Relocked {} {}", term.name, term.detail),
        };
        let mut out: Vec<String> = self.pins.iter().map(|p| sentence(&Term::pin(p))).collect();
        out.extend(self.version_terms().iter().map(sentence));
        let (added, others): (Vec<_>, Vec<_>) = self.models.iter().partition(|m| m.from.is_none());
        if added.len() > SHOWN {
            let size: u64 = added.iter().map(|m| m.size).sum();
            out.push(format!(
                "Added {} ({})",
                count_of(added.len(), "model"),
                format_bytes(size)
            ));
        } else {
            out.extend(added.iter().map(|m| sentence(&Term::model(m))));
        }
        out.extend(others.iter().map(|m| sentence(&Term::model(m))));
        if self.has_first_packages() {
            out.push(format!(
                "Added {}",
                count_of(self.packages.len(), "Python package")
            ));
        } else {
            let packages = self.packages.iter();
            out.extend(packages.map(|p| sentence(&Term::package(p))));
        }
        for line in &mut out {
            line.truncate(line.trim_end().len());
        }
        out
    }

    /// Returns the commits between of a pin, one a line; of a line of [`LockDifference::lines`], by
    /// its number.
    pub(crate) fn commits_of_line(&self, number: usize) -> Vec<String> {
        let range = |pin: &PinChange| CommitRange {
            count: pin.commits.unwrap_or_default(),
            newest: pin.newest.clone(),
        };
        // The lines of pins come first.
        self.pins
            .get(number)
            .map_or_else(Vec::new, |p| range(p).lines())
    }

    /// Returns the same in one line: `impact-pack 1f4c9a3 -> 9e7ae2d (14 commits), +2 models, torch
    /// 2.9.0 -> 2.9.1`.
    pub(crate) fn summary(&self) -> String {
        let phrase = |term: Term| match term.verb {
            Verb::Updated => format!("{} {}", term.name, term.detail),
            Verb::Added => format!("+{} {}", term.name, term.detail),
            Verb::Removed => format!("-{}", term.name),
            Verb::Relocked => format!("{} locked anew", term.name),
        };
        let mut out: Vec<String> = self.pins.iter().map(|p| phrase(Term::pin(p))).collect();
        let number = |of: fn(&ModelMoved) -> bool| self.models.iter().filter(|m| of(m)).count();
        let models = [
            ("+", number(|m| m.from.is_none())),
            ("-", number(|m| m.to.is_none())),
            ("~", number(|m| m.from.is_some() && m.to.is_some())),
        ];
        for (sign, n) in models.into_iter().filter(|(_, n)| *n > 0) {
            out.push(format!("{sign}{}", count_of(n, "model")));
        }
        out.extend(self.version_terms().into_iter().map(phrase));
        if self.has_first_packages() {
            out.push(format!("+{}", count_of(self.packages.len(), "package")));
        } else if self.packages.len() > LISTED {
            out.push(format!(
                "{} moved",
                count_of(self.packages.len(), "package")
            ));
        } else {
            out.extend(self.packages.iter().map(|p| phrase(Term::package(p))));
        }
        let out: Vec<&str> = out.iter().map(|p| p.trim_end()).collect();
        out.join(", ")
    }

    /// Returns the message of a commit of what moved: a subject, and a line for each thing.
    pub(crate) fn commit_message(&self) -> (String, String) {
        const LONGEST: usize = 60;
        let summary = self.summary();
        let counts = [
            (self.pins.len(), "repository"),
            (self.packages.len(), "package"),
            (self.models.len(), "model"),
        ];
        let counts = counts.iter().filter(|(n, _)| *n > 0);
        let counts: Vec<String> = counts.map(|(n, what)| count_of(*n, what)).collect();
        let subject = match &counts[..] {
            _ if !summary.is_empty() && summary.chars().count() <= LONGEST => {
                format!("Update {summary}")
            }
            [] => "Update comfy.lock".into(),
            counts => format!("Update {}", counts.join(", ")),
        };
        let lines = self.lines();
        let message = match &lines[..] {
            [] | [_] => format!("{subject}\n"),
            lines => format!("{subject}\n\n{}\n", lines.join("\n")),
        };
        (subject, message)
    }

    fn has_first_packages(&self) -> bool {
        self.packages.len() > SHOWN && self.packages.iter().all(|p| p.from.is_none())
    }

    fn version_terms(&self) -> Vec<Term> {
        let kinds = [
            ("Python", &self.python),
            ("the interpreter", &self.interpreter),
        ];
        kinds
            .iter()
            .filter_map(|(name, moved)| {
                let moved = moved.as_ref()?;
                let (from, to) = (moved.from.as_deref(), moved.to.as_deref());
                Some(Term::new((*name).to_string(), from, to, ""))
            })
            .collect()
    }
}

enum Verb {
    Added,
    Updated,
    Removed,
    Relocked,
}

/// One thing that moved, in words.
struct Term {
    verb: Verb,
    name: String,
    detail: String,
}

impl Term {
    fn new(name: String, from: Option<&str>, to: Option<&str>, tail: &str) -> Term {
        let (verb, detail) = match (from, to) {
            (Some(a), Some(b)) if a == b => (Verb::Relocked, b.to_string()),
            (Some(a), Some(b)) => (Verb::Updated, format!("{a} -> {b}{tail}")),
            (None, Some(b)) => (Verb::Added, b.to_string()),
            (a, None) => (Verb::Removed, a.unwrap_or_default().to_string()),
        };
        Term { verb, name, detail }
    }

    fn pin(p: &PinChange) -> Term {
        let id = |version: &Option<String>, commit: &Option<ObjectId>| {
            let short = |c: &ObjectId| short_commit(&c.to_string()).to_string();
            version
                .as_deref()
                .map(escape_text)
                .or_else(|| commit.as_ref().map(short))
        };
        let (from, to) = (id(&p.versions.0, &p.from), id(&p.versions.1, &p.to));
        let tail = match p.commits {
            Some(n) if p.back => format!(" ({} back)", count_of(n, "commit")),
            Some(n) => format!(" ({})", count_of(n, "commit")),
            None => String::new(),
        };
        Term::new(p.name.clone(), from.as_deref(), to.as_deref(), &tail)
    }

    fn package(p: &PackageMoved) -> Term {
        Term::new(p.name.clone(), p.from.as_deref(), p.to.as_deref(), "")
    }

    fn model(m: &ModelMoved) -> Term {
        let short = |h: &Sha256Digest| h.to_string()[..12].to_string();
        let (from, to) = (m.from.as_ref().map(short), m.to.as_ref().map(short));
        // What a removed file held is of no interest.
        let from = from.map(|f| if to.is_none() { String::new() } else { f });
        Term::new(escape_text(&m.path), from.as_deref(), to.as_deref(), "")
    }
}

fn pin_changes(old: Option<&Lock>, new: &Lock) -> Vec<PinChange> {
    let named = |l: &Lock, name: &str| match name {
        "comfyui" => Some(l.comfyui.clone()),
        node => l.nodes.get(node).cloned(),
    };
    let version = |pin: Option<&RepositoryPin>| Some(pin?.archive.as_ref()?.version.clone());
    let change = |name: &str, before: Option<&RepositoryPin>, after: Option<&RepositoryPin>| {
        let moved = before != after;
        moved.then(|| PinChange {
            name: name.to_string(),
            repo: after.or(before).map_or(String::new(), |p| p.repo.clone()),
            same_repo: before.map(|p| &p.repo) == after.map(|p| &p.repo),
            from: before.map(|p| p.commit),
            to: after.map(|p| p.commit),
            versions: (version(before), version(after)),
            commits: None,
            newest: Vec::new(),
            back: false,
        })
    };
    let mut out: Vec<PinChange> = std::iter::once("comfyui")
        .chain(new.nodes.keys().map(String::as_str))
        .filter_map(|name| {
            let before = old.and_then(|l| named(l, name));
            change(name, before.as_ref(), named(new, name).as_ref())
        })
        .collect();
    let gone = old.into_iter().flat_map(|l| &l.nodes);
    out.extend(
        gone.filter(|(name, _)| !new.nodes.contains_key(*name))
            .filter_map(|(name, pin)| change(name, Some(pin), None)),
    );
    out
}

fn package_changes(
    before: Option<&LockedPython>,
    after: Option<&LockedPython>,
) -> Vec<PackageMoved> {
    let versions = |p: &LockedPython| -> BTreeMap<String, String> {
        let mut out: BTreeMap<String, String> = BTreeMap::new();
        for k in &p.packages {
            let all = out.entry(k.name.clone()).or_default();
            if all.is_empty() {
                all.clone_from(&k.version);
            } else if !all.split(" and ").any(|v| v == k.version) {
                *all = format!("{all} and {}", k.version);
            }
        }
        out
    };
    let before = before.map(versions).unwrap_or_default();
    let after = after.map(versions).unwrap_or_default();
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names
        .into_iter()
        .filter(|n| before.get(*n) != after.get(*n))
        .map(|n| PackageMoved {
            name: n.clone(),
            from: before.get(n).cloned(),
            to: after.get(n).cloned(),
        })
        .collect()
}

fn model_changes(old: Option<&Lock>, new: &Lock) -> Vec<ModelMoved> {
    let mut out = Vec::new();
    // Both are sorted and may have twenty thousand entries, so they are merged.
    let mut before = old.into_iter().flat_map(|l| l.models.iter()).peekable();
    let mut after = new.models.iter().peekable();
    loop {
        let order = match (before.peek(), after.peek()) {
            (None, None) => return out,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        let a = (order.is_le()).then(|| before.next()).flatten();
        let b = (order.is_ge()).then(|| after.next()).flatten();
        if let (Some((_, a)), Some((_, b))) = (a, b)
            && a.pins_same(b)
        {
            continue;
        }
        let Some((path, pin)) = b.or(a) else { continue };
        out.push(ModelMoved {
            path: path.to_string(),
            from: a.map(|(_, pin)| pin.sha256),
            to: b.map(|(_, pin)| pin.sha256),
            size: pin.size,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(text: &str) -> Lock {
        Lock::parse(Path::new("comfy.lock"), &ByteString::from(text)).unwrap()
    }

    fn pin(key: &str, digit: char) -> String {
        let id = digit.to_string().repeat(40);
        format!(
            "\n[{key}]\nrepo = \"https://github.com/o/{key}\"\nref = \"main\"\ncommit = \"{id}\"\ntree = \"{id}\"\n"
        )
    }

    fn python(packages: &[(&str, &str)]) -> String {
        let mut out = "\n[python]\nversion = \"3.12\"\n".to_string();
        for (name, version) in packages {
            out += &format!(
                "\n[[python.packages]]\nname = \"{name}\"\nversion = \"{version}\"\nby = \
                 [\"comfyui\"]\nwheels = [{{ file = \"{name}-{version}-py3-none-any.whl\", sha256 = \"{}\" }}]\n",
                "a".repeat(64)
            );
        }
        out
    }

    fn model(path: &str, digit: char) -> String {
        format!(
            "\n[models.\"{path}\"]\nsize = 1024\nsha256 = \"{}\"\n",
            digit.to_string().repeat(64)
        )
    }

    #[test]
    fn what_moved_is_told_in_the_terms_of_the_lock() {
        let old = lock(&format!(
            "version = 1\n{}{}{}{}{}{}",
            pin("comfyui", 'a'),
            pin("nodes.gone", '1'),
            pin("nodes.impact-pack", '2'),
            python(&[("numpy", "1.0"), ("six", "1.1"), ("torch", "2.9.0")]),
            model("checkpoints/a.safetensors", '1'),
            model("checkpoints/b.safetensors", '2'),
        ));
        let new = lock(&format!(
            "version = 1\n{}{}{}{}{}{}{}",
            pin("comfyui", 'a'),
            pin("nodes.impact-pack", '3'),
            pin("nodes.new", '4'),
            python(&[("numpy", "1.0"), ("rich", "9"), ("torch", "2.9.1")]),
            model("checkpoints/b.safetensors", '3'),
            model("loras/c.safetensors", '4'),
            model("loras/d.safetensors", '5'),
        ));
        let mut moved = LockDifference::between(Some(&old), &new);
        moved.count_commits(|_, _, _| {
            Some(CommitRange {
                count: 14,
                newest: Vec::new(),
            })
        });
        insta::assert_snapshot!(moved.lines().join("\n"), @"
        Updated impact-pack 2222222 -> 3333333 (14 commits)
        Added new 4444444
        Removed gone 1111111
        Added loras/c.safetensors 444444444444
        Added loras/d.safetensors 555555555555
        Removed checkpoints/a.safetensors
        Updated checkpoints/b.safetensors 222222222222 -> 333333333333
        Added rich 9
        Removed six 1.1
        Updated torch 2.9.0 -> 2.9.1
        ");
        insta::assert_snapshot!(moved.summary(), @"impact-pack 2222222 -> 3333333 (14 commits), +new 4444444, -gone, +2 models, -1 model, ~1 model, +rich 9, -six, torch 2.9.0 -> 2.9.1");
        assert!(LockDifference::between(Some(&new), &new).is_empty());
        let names: Vec<&str> = moved.names().collect();
        assert_eq!(names[..3], ["impact-pack", "new", "gone"]);
        insta::assert_snapshot!(LockDifference::between(None, &new).summary(), @"+comfyui aaaaaaa, +impact-pack 3333333, +new 4444444, +3 models, +numpy 1.0, +rich 9, +torch 2.9.1");
    }

    /// Sections that both have are not parsed: a submodule, a package with two versions, a mistake.
    #[test]
    fn texts_differ_by_their_sections_as_locks_do() {
        let submodule = |digit: char| {
            let id = digit.to_string().repeat(40);
            format!(
                "\n[[nodes.a.submodules]]\npath = \"lib\"\nrepo = \"https://github.com/o/lib\"\n\
                 commit = \"{id}\"\ntree = \"{id}\"\n"
            )
        };
        let versions = |torch: &str| {
            let packages = [("six", "1.1"), ("torch", "2.9.0"), ("torch", torch)];
            let (a, b, m) = (pin("nodes.a", '1'), pin("nodes.b", '2'), model("x/y", '1'));
            [
                format!("{a}{}{b}{}{m}", submodule('1'), python(&packages)),
                format!("{a}{}{b}{}{m}", submodule('2'), python(&packages)),
                format!("{a}{b}{}", python(&packages)),
                format!("{b}{}{m}", python(&packages[1..])),
                format!("{b}{}{m}", python(&packages[..2])),
                b,
            ]
        };
        let start = format!("version = 1\n{}", pin("comfyui", 'a'));
        let all = [versions("2.9.0+cu128"), versions("2.9.1")].concat();
        let all: Vec<String> = all.iter().map(|rest| format!("{start}{rest}")).collect();
        for (old, new) in all.iter().flat_map(|a| all.iter().map(move |b| (a, b))) {
            let whole = LockDifference::between(Some(&lock(old)), &lock(new));
            assert_eq!(LockDifference::between_texts(old, new), Ok(whole));
        }
        let (old, broken) = (&all[0], all[1].replace("2222222", "222222z"));
        let told = LockDifference::between_texts(old, &broken).unwrap_err();
        assert!(told.message.starts_with("comfy.lock:"), "{}", told.message);
    }
}
