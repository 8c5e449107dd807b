//! Folders, shares and links.

use std::path::Path;

use super::Hands;
use crate::desired::Paths;
use crate::host::fs::{edit, parent};
use crate::host::shares;
use crate::plan::observed::ShareSpec;
use crate::plan::step::Passer;
use crate::problem::{Doing, Problem, Result};

impl Hands<'_> {
    pub(super) fn make_dir(
        &self,
        path: &Path,
        (uid, gid): (u32, u32),
        mode: u32,
        passer: Option<&Passer>,
    ) -> Result<()> {
        let what = || format!("make {}", path.display());
        if uid == self.ids.seal {
            let own = (
                nix::unistd::Uid::from_raw(self.ids.seal),
                nix::unistd::Gid::from_raw(self.ids.seal_gid),
            );
            edit::make_parents(path, own.0, own.1).doing(what)?;
        }
        if path.parent() == Some(&self.paths.state()) {
            self.clear_way(path, uid).doing(what)?;
        }
        edit::make_dir(path, uid, gid, mode).doing(what)?;
        if let Some(p) = passer {
            // Nobody but root can rename it: it lies in a folder of root's.
            self.machine.accounts.grant_search(path, &p.name, p.uid)?;
        }
        if *path == self.paths.state() {
            self.name_unknown();
        }
        Ok(())
    }

    /// A folder of somebody else's, which the sandbox user moved there when `state/` was its own,
    /// goes out of the way unharmed.
    pub(super) fn clear_way(&self, path: &Path, uid: u32) -> std::io::Result<()> {
        let (dir, name) = parent(path)?;
        match crate::host::fs::lstat_at(&dir, &name) {
            // What a killed step has made is root's, and closed.
            Ok(st)
                if st.st_uid != uid
                    && !(st.st_uid == self.ids.seal && crate::host::fs::bits(&st) & 0o077 == 0) =>
            {
                edit::move_aside(&dir, &name)
            }
            _ => Ok(()),
        }
    }

    /// Says what else lies in `state/`: a launch does not see it, and comfy leaves it alone.
    pub(super) fn name_unknown(&self) {
        let all = std::fs::read_dir(self.paths.state())
            .into_iter()
            .flatten()
            .flatten();
        let mut unknown: Vec<String> = all
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .filter(|n| !Paths::is_state(n))
            .collect();
        unknown.sort();
        if !unknown.is_empty() {
            let names: Vec<String> = unknown
                .iter()
                .take(5)
                .map(|n| crate::text::escape(n))
                .collect();
            let more = if unknown.len() > names.len() {
                format!(" and {} more", unknown.len() - names.len())
            } else {
                String::new()
            };
            self.report.say(&format!(
                "{}: {}{more}: comfy does not know it; it is left alone, and ComfyUI does not see \
                 it",
                self.paths.state().display(),
                names.join(", ")
            ));
        }
    }

    pub(super) fn share(&self, spec: &ShareSpec) -> Result<()> {
        let n = shares::mend(spec)?;
        self.report.say(&format!(
            "share {}: {} mended",
            spec.name,
            crate::text::count(n, "entry")
        ));
        Ok(())
    }

    pub(super) fn release_share(
        &self,
        name: &str,
        path: &Path,
        requires_mount: Option<&Path>,
        (from_gid, to_gid): (u32, u32),
        mode: u32,
    ) -> Result<()> {
        shares::mounted(requires_mount).map_err(|u| {
            Problem::from(u)
                .prefixed(&format!("share {name}: "))
                .hint("mount it, so that comfy can take its group off there")
        })?;
        shares::release(path, from_gid, to_gid, mode)
    }

    pub(super) fn set_link(&self, path: &Path, target: &Path, uid: u32, gid: u32) -> Result<()> {
        let what = || format!("link {} to {}", path.display(), target.display());
        if uid == self.ids.owner {
            let own = (
                nix::unistd::Uid::from_raw(uid),
                nix::unistd::Gid::from_raw(gid),
            );
            edit::make_parents(path, own.0, own.1).doing(what)?;
            if nix::unistd::geteuid().is_root() {
                return crate::host::fs::trusted::set_link(path, target, uid, gid)
                    .map_err(|p| p.prefixed(&format!("could not {}: ", what())));
            }
        }
        // In a folder of the sandbox user a chown by name could be raced to another file: the link
        // stays root's there.
        edit::set_link(path, target, None).doing(what)
    }

    pub(super) fn give_first_content(
        &self,
        id: &str,
        part: &str,
        path: &str,
        (uid, gid): (u32, u32),
    ) -> Result<()> {
        let from = self
            .paths
            .generation(id)
            .join(Paths::tracked(part))
            .join(path);
        let base = Paths::written_by(&self.paths.state(), part);
        crate::host::shares::first_content::copy(&from, &base, Path::new(path), uid, gid)
            .doing(|| format!("give {part}: {path} its first content"))
    }

    pub(super) fn quarantine(&self, id: &str, names: &[String]) -> Result<()> {
        for name in names {
            crate::manifest::names::relative(name).map_err(|why| {
                Problem::new(format!(
                    "quarantine: \"{}\" {why}",
                    crate::text::escape(name)
                ))
            })?;
            let from = self
                .paths
                .generation(id)
                .join("ComfyUI/custom_nodes")
                .join(name);
            if from.symlink_metadata().is_err() {
                continue;
            }
            let to = self.paths.quarantine().join(format!(
                "{}-{}-{name}",
                chrono::Utc::now().format("%Y%m%dT%H%M%S"),
                std::process::id()
            ));
            edit::make_dir(
                &self.paths.quarantine(),
                self.ids.seal,
                self.ids.seal_gid,
                0o700,
            )
            .doing(|| "make the quarantine".into())?;
            edit::move_to(&from, &to).doing(|| format!("move {} to quarantine", from.display()))?;
            self.report.say(&format!(
                "{name}: nobody declared it; moved to {}",
                to.display()
            ));
        }
        Ok(())
    }
}
