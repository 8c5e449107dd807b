//! Where prefix, shares and view cannot be: checked as written, and again after the owner's links
//! are followed.

use std::path::{Path, PathBuf};

use super::{InstancePaths, MachineContext, below_home};
use crate::manifest::platforms::OperatingSystem;
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
    /// Only a view may be in it; `false`: it is the folder of comfy.toml, and no repository.
    Repository(bool),
    Share(String),
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Holder::Comfy(what) => f.write_str(what),
            Holder::Repository(true) => f.write_str("the repository of comfy.toml"),
            Holder::Repository(false) => f.write_str("the folder of comfy.toml"),
            Holder::Share(name) => write!(f, "share {name}"),
        }
    }
}

/// Paths that nothing else may overlap, with what they are.
#[derive(Debug, Clone)]
pub(super) struct ReservedPaths {
    os: OperatingSystem,
    all: Vec<(Holder, PathBuf)>,
}

impl ReservedPaths {
    fn new(m: &Manifest, cx: &MachineContext, paths: &InstancePaths) -> Self {
        let comfy = |what: &str| Holder::Comfy(what.into());
        let mut all = vec![(comfy("comfy's own folder"), paths.prefix.clone())];
        // Under isolation "none" the records are inside the prefix.
        if m.host.isolation != IsolationMode::None {
            all.push((comfy("comfy's records"), paths.records.clone()));
        }
        all.push((Holder::Repository(cx.in_repository), cx.repository.clone()));
        if let Some(home) = &paths.home {
            let what = format!("the home of {}", m.host.sandbox_user);
            all.push((Holder::Comfy(what), home.clone()));
        }
        ReservedPaths {
            os: cx.platform.os,
            all,
        }
    }

    /// Returns what a share's real path overlaps; `home` is the owner's real one.
    pub(super) fn overlap_of_share(&self, share: &str, home: &Path, real: &Path) -> Option<String> {
        let own = Holder::Share(share.into());
        let met = self
            .all
            .iter()
            .find(|(what, path)| *what != own && overlap(self.os, real, path))
            .map(|(what, path)| format!("{what} ({})", path.display()));
        met.or_else(|| {
            (self.os.lies_in(home, real) || systems_own(self.os, real))
                .then(|| "a home or a system folder".into())
        })
        .or_else(|| {
            why_reserved(self.os, home, real)
                .map(|_| "a folder for programs, keys or settings".into())
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
        let why = why_reserved(self.os, home, real)
            .or_else(|| why_reserved(self.os, written_home, real))
            .map(str::to_string);
        why.or_else(|| {
            self.shadowed_by(real)
                .next()
                .map(|(what, path)| format!("overlaps {what} ({})", path.display()))
        })
    }

    /// A view may be in the repository of comfy.toml, but must not contain anything of comfy's.
    fn shadowed_by<'a>(&'a self, view: &'a Path) -> impl Iterator<Item = &'a (Holder, PathBuf)> {
        self.all.iter().filter(move |(what, other)| {
            self.os.lies_in(other, view)
                || (self.os.lies_in(view, other) && !matches!(what, Holder::Repository(_)))
        })
    }
}

fn overlap(os: OperatingSystem, a: &Path, b: &Path) -> bool {
    os.lies_in(a, b) || os.lies_in(b, a)
}

/// Whether it is the home of anybody.
fn in_homes(cx: &MachineContext, path: &Path) -> bool {
    path.parent()
        .is_some_and(|above| cx.platform.os.is_same(above, cx.platform.homes()))
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
        let (cx, os) = (self.cx, self.cx.platform.os);
        let shown = escape_text(&prefix.to_string_lossy());
        let is_home = os.is_same(prefix, &cx.owner.home) || in_homes(cx, prefix);
        if systems_own(os, prefix) || is_home {
            self.wrong(
                &["host", "prefix"],
                format!("prefix {shown} is a system folder or a home"),
                "remove it to use /opt/comfy, or name a folder that nothing else uses",
            );
        }
        if overlap(os, prefix, &cx.repository) {
            self.wrong(
                &["host", "prefix"],
                format!(
                    "prefix {shown} overlaps {} ({})",
                    Holder::Repository(cx.in_repository),
                    cx.repository.display()
                ),
                self.overlap_hint(),
            );
        }
    }

    /// What to do about two folders that overlap. Some keep all of their home in one repository.
    fn overlap_hint(&self) -> &'static str {
        if (self.cx.platform.os).is_same(&self.cx.repository, &self.cx.owner.home) {
            "comfy.toml is in your home, so that all of the home is its folder: move comfy.toml and \
             comfy.lock to a folder of their own, such as ~/.config/comfy, where comfy finds them"
        } else {
            "neither may be inside the other; move one of them"
        }
    }

    /// Checks a share's path, and reserves it.
    pub(super) fn share(&mut self, name: &str, s: &ShareSettings) -> PathBuf {
        let (path, shown) = (
            below_home(&self.cx.owner.home, &s.path),
            escape_text(&s.path),
        );
        let (home, os) = (&self.cx.owner.home, self.cx.platform.os);
        let key = ["shares", name, "path"];
        let is_home =
            in_homes(self.cx, &path) || path.parent().is_none() || os.lies_in(home, &path);
        if is_home {
            self.wrong(
                &key,
                format!("share {name}: {shown} is a home, or contains one"),
                "share a folder of its own, not a home",
            );
        }
        if let Some(why) = why_reserved(os, home, &path) {
            self.wrong(
                &key,
                format!("share {name}: {shown} {why}"),
                "share a folder of its own",
            );
        }
        let met = self
            .reserved
            .all
            .iter()
            .filter(|(_, p)| overlap(os, &path, p));
        let met: Vec<String> = met
            .map(|(what, p)| format!("share {name}: {shown} overlaps {what} ({})", p.display()))
            .collect();
        for message in met {
            self.wrong(&key, message, self.overlap_hint());
        }
        let own = (Holder::Share(name.into()), path.clone());
        self.reserved.all.push(own);
        path
    }

    /// Checks the folder of a node of the owner's own: what is in it becomes code.
    pub(super) fn node_folder(&mut self, node: &str, path: &str) {
        let (os, home) = (self.cx.platform.os, &self.cx.owner.home);
        let (whole, shown) = (below_home(home, path), escape_text(path));
        let key = ["nodes", node, "path"];
        if in_homes(self.cx, &whole) || os.lies_in(home, &whole) || systems_own(os, &whole) {
            self.wrong(
                &key,
                format!("node {node}: {shown} is a home or a system folder, or contains one"),
                "give the node a folder of its own",
            );
        }
        let met = self
            .reserved
            .all
            .iter()
            .find(|(what, p)| !matches!(what, Holder::Repository(_)) && overlap(os, &whole, p));
        if let Some((what, p)) = met {
            let message = format!("node {node}: {shown} overlaps {what} ({})", p.display());
            self.wrong(
                &key,
                message,
                "move the node: ComfyUI could change it there, and it would become code",
            );
        }
    }

    pub(super) fn view(&mut self, view: &Path) {
        let key = ["comfyui", "view"];
        if let Some(why) = why_reserved(self.cx.platform.os, &self.cx.owner.home, view) {
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
