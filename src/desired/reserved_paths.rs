//! Where prefix, shares and view cannot be: checked as written, and again after the owner's links
//! are followed.

use std::path::{Path, PathBuf};

use super::{InstancePaths, MachineContext, below_home};
use crate::manifest::reserved_paths::{systems_own, why_reserved};
use crate::manifest::{IsolationMode, Manifest, ShareSettings};
use crate::problem::Problem;
use crate::text::escape_text;

/// The hint for a view in a reserved place.
pub(crate) const VIEW_HINT: &str =
    "put the link below your home, such as ~/ComfyUI, where no programs are run from";

/// Why a path is reserved.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Holder {
    Comfy(String),
    /// Only a view may be in it.
    Repository,
    Share(String),
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Holder::Comfy(what) => f.write_str(what),
            Holder::Repository => f.write_str("the repository of comfy.toml"),
            Holder::Share(name) => write!(f, "share {name}"),
        }
    }
}

/// Paths that nothing else may overlap, with what they are.
#[derive(Debug, Clone)]
pub(super) struct ReservedPaths(Vec<(Holder, PathBuf)>);

impl ReservedPaths {
    fn new(m: &Manifest, cx: &MachineContext, paths: &InstancePaths) -> Self {
        let comfy = |what: &str| Holder::Comfy(what.into());
        let mut all = vec![(comfy("comfy's own folder"), paths.prefix.clone())];
        // Under isolation "none" the records are inside the prefix.
        if m.host.isolation != IsolationMode::None {
            all.push((comfy("comfy's records"), paths.records.clone()));
        }
        all.push((Holder::Repository, cx.repository.clone()));
        if let Some(home) = &paths.home {
            let what = format!("the home of {}", m.host.sandbox_user);
            all.push((Holder::Comfy(what), home.clone()));
        }
        ReservedPaths(all)
    }

    /// Returns what a share's real path overlaps; `home` is the owner's real one.
    pub(super) fn overlap_of_share(&self, share: &str, home: &Path, real: &Path) -> Option<String> {
        let own = Holder::Share(share.into());
        let met = self
            .0
            .iter()
            .find(|(what, path)| *what != own && overlap(real, path))
            .map(|(what, path)| format!("{what} ({})", path.display()));
        met.or_else(|| {
            (home.starts_with(real) || systems_own(real))
                .then(|| "a home or a system folder".into())
        })
        .or_else(|| {
            why_reserved(home, real).map(|_| "a folder for programs, keys or settings".into())
        })
    }

    /// Returns why the view cannot be at `real`; `homes` are the owner's home as written and its
    /// real path.
    pub(super) fn overlap_of_view(
        &self,
        written_home: &Path,
        home: &Path,
        real: &Path,
    ) -> Option<String> {
        let why = why_reserved(home, real)
            .or_else(|| why_reserved(written_home, real))
            .map(str::to_string);
        why.or_else(|| {
            self.shadowed_by(real)
                .next()
                .map(|(what, path)| format!("overlaps {what} ({})", path.display()))
        })
    }

    /// A view may be in the repository of comfy.toml, but must not contain anything of comfy's.
    fn shadowed_by<'a>(&'a self, view: &'a Path) -> impl Iterator<Item = &'a (Holder, PathBuf)> {
        self.0.iter().filter(move |(what, other)| {
            other.starts_with(view) || (view.starts_with(other) && *what != Holder::Repository)
        })
    }
}

fn overlap(a: &Path, b: &Path) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

/// The checks of one comfy.toml; all mistakes are collected.
pub(super) struct PathChecks<'a> {
    m: &'a Manifest,
    cx: &'a MachineContext,
    reserved: ReservedPaths,
    problems: Vec<Problem>,
}

impl<'a> PathChecks<'a> {
    pub(super) fn new(m: &'a Manifest, cx: &'a MachineContext, paths: &InstancePaths) -> Self {
        PathChecks {
            m,
            cx,
            reserved: ReservedPaths::new(m, cx, paths),
            problems: Vec::new(),
        }
    }

    /// Returns the mistakes found and the reserved paths.
    pub(super) fn finish(self, problems: &mut Vec<Problem>) -> ReservedPaths {
        problems.extend(self.problems);
        self.reserved
    }

    fn wrong(&mut self, key: &[&str], message: String, hint: &str) {
        let at = self.m.source.place_of_key(key);
        self.problems
            .push(Problem::new(format!("{at}: {message}")).with_hint(hint));
    }

    pub(super) fn prefix(&mut self, prefix: &Path) {
        let cx = self.cx;
        let shown = escape_text(&prefix.to_string_lossy());
        let home = prefix == cx.owner.home || prefix.parent() == Some(cx.platform.homes());
        if systems_own(prefix) || home {
            self.wrong(
                &["host", "prefix"],
                format!("prefix {shown} is a system folder or a home"),
                "remove it to use /opt/comfy, or name a folder that nothing else uses",
            );
        }
        if overlap(prefix, &cx.repository) {
            self.wrong(
                &["host", "prefix"],
                format!(
                    "prefix {shown} overlaps the repository of comfy.toml ({})",
                    cx.repository.display()
                ),
                "neither may be inside the other; move one of them",
            );
        }
    }

    /// Checks a share's path, and reserves it.
    pub(super) fn share(&mut self, name: &str, s: &ShareSettings) -> PathBuf {
        let (path, shown) = (below_home(self.cx, &s.path), escape_text(&s.path));
        let (home, homes) = (&self.cx.owner.home, self.cx.platform.homes());
        let key = ["shares", name, "path"];
        let is_home = path == *home
            || path.parent() == Some(homes)
            || path.parent().is_none()
            || home.starts_with(&path);
        if is_home {
            self.wrong(
                &key,
                format!("share {name}: {shown} is a home, or contains one"),
                "share a folder of its own, not a home",
            );
        }
        if let Some(why) = why_reserved(home, &path) {
            self.wrong(
                &key,
                format!("share {name}: {shown} {why}"),
                "share a folder of its own",
            );
        }
        let met = self.reserved.0.iter().filter(|(_, p)| overlap(&path, p));
        let met: Vec<String> = met
            .map(|(what, p)| format!("share {name}: {shown} overlaps {what} ({})", p.display()))
            .collect();
        for message in met {
            self.wrong(
                &key,
                message,
                "neither may be inside the other; move one of them",
            );
        }
        let own = (Holder::Share(name.into()), path.clone());
        self.reserved.0.push(own);
        path
    }

    pub(super) fn view(&mut self, view: &Path) {
        let key = ["comfyui", "view"];
        if let Some(why) = why_reserved(&self.cx.owner.home, view) {
            let shown = escape_text(&view.to_string_lossy());
            self.wrong(&key, format!("view {shown} {why}"), VIEW_HINT);
        }
        let met: Vec<String> = self
            .reserved
            .shadowed_by(view)
            .map(|(what, p)| format!("view {} overlaps {what} ({})", view.display(), p.display()))
            .collect();
        for message in met {
            self.wrong(&key, message, "put the link where nothing else is");
        }
    }
}
