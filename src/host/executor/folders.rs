//! Folders, shares and links.

use std::path::Path;

use nix::fcntl::AtFlags;

use super::Executor;
use crate::desired::InstancePaths;
use crate::host::fs::{edit, file_type, lstat_at, open_dir, open_parent};
use crate::host::shares;
use crate::ids::{GenerationId, Part};
use crate::plan::observed::{FileType, ShareSpec};
use crate::plan::step::SearchingUser;
use crate::problem::{Context, Problem, Result};

impl Executor<'_> {
    pub(super) fn make_dir(
        &self,
        path: &Path,
        (uid, gid): (u32, u32),
        mode: u32,
        passer: Option<&SearchingUser>,
    ) -> Result<()> {
        let what = || format!("make {}", path.display());
        if uid == self.ids.seal {
            let own = (
                nix::unistd::Uid::from_raw(self.ids.seal),
                nix::unistd::Gid::from_raw(self.ids.seal_gid),
            );
            edit::make_parents(path, own.0, own.1).with_context(what)?;
        }
        if path.parent() == Some(&self.paths.state_dir()) {
            self.clear_way(path, uid).with_context(what)?;
        }
        if uid == self.ids.seal && path.starts_with(&self.paths.records) {
            // Before the folder, so that a plan sees the old group until this is done.
            self.regroup_records(path, gid).with_context(what)?;
        }
        edit::make_dir(path, uid, gid, mode).with_context(what)?;
        if let Some(p) = passer {
            // Nobody but root can rename it: it lies in a folder of root's.
            self.machine.accounts.grant_search(path, &p.name, p.uid)?;
        }
        if *path == self.paths.state_dir() {
            self.name_unknown();
        }
        Ok(())
    }

    /// The files of root's in a folder of the records get the group of the folder, so that the owner
    /// reads them.
    fn regroup_records(&self, folder: &Path, gid: u32) -> std::io::Result<()> {
        let dir = match open_dir(folder) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        for entry in nix::dir::Dir::from_fd(dir.try_clone()?)?.iter() {
            let entry = entry?;
            let name = entry.file_name();
            let st = lstat_at(&dir, name)?;
            if file_type(&st) == FileType::File && st.st_uid == self.ids.seal && st.st_gid != gid {
                let (group, flags) = (Some(gid.into()), AtFlags::AT_SYMLINK_NOFOLLOW);
                nix::unistd::fchownat(&dir, name, None, group, flags)?;
            }
        }
        Ok(())
    }

    /// A folder of somebody else's, which the sandbox user moved there when `state/` was its own,
    /// goes out of the way unharmed.
    pub(super) fn clear_way(&self, path: &Path, uid: u32) -> std::io::Result<()> {
        let (dir, name) = open_parent(path)?;
        match lstat_at(&dir, &name) {
            // What a killed step has made is root's, and closed.
            Ok(st)
                if st.st_uid != uid
                    && !(st.st_uid == self.ids.seal
                        && crate::host::fs::permission_bits(&st) & 0o077 == 0) =>
            {
                edit::move_aside(&dir, &name)
            }
            _ => Ok(()),
        }
    }

    /// Says what else lies in `state/`: a launch does not see it, and comfy leaves it alone.
    pub(super) fn name_unknown(&self) {
        let all = std::fs::read_dir(self.paths.state_dir())
            .into_iter()
            .flatten()
            .flatten();
        let mut unknown: Vec<String> = all
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .filter(|n| !InstancePaths::is_state(n))
            .collect();
        unknown.sort();
        if !unknown.is_empty() {
            let names: Vec<String> = unknown
                .iter()
                .take(5)
                .map(|n| crate::text::escape_text(n))
                .collect();
            let more = if unknown.len() > names.len() {
                format!(" and {} more", unknown.len() - names.len())
            } else {
                String::new()
            };
            self.report.print_line(&format!(
                "{}: {}{more}: comfy does not know it; it is left alone, and ComfyUI does not see \
                 it",
                self.paths.state_dir().display(),
                names.join(", ")
            ));
        }
    }

    pub(super) fn make_share(&self, spec: &ShareSpec) -> Result<()> {
        let n = shares::repair_share(spec)?;
        self.report.print_line(&format!(
            "share {}: {} mended",
            spec.name,
            crate::text::count_of(n, "entry")
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
        shares::ensure_mounted(requires_mount).map_err(|u| {
            Problem::from(u)
                .with_prefix(&format!("share {name}: "))
                .with_hint("mount it, so that comfy can take its group off there")
        })?;
        shares::release_share(path, from_gid, to_gid, mode)
    }

    pub(super) fn set_link(&self, path: &Path, target: &Path, uid: u32, gid: u32) -> Result<()> {
        let what = || format!("link {} to {}", path.display(), target.display());
        if uid == self.ids.owner {
            let own = (
                nix::unistd::Uid::from_raw(uid),
                nix::unistd::Gid::from_raw(gid),
            );
            edit::make_parents(path, own.0, own.1).with_context(what)?;
            if nix::unistd::geteuid().is_root() {
                return crate::host::fs::trusted::set_link(path, target, uid, gid)
                    .map_err(|p| p.with_prefix(&format!("could not {}: ", what())));
            }
        }
        // In a folder of the sandbox user a chown by name could be raced to another file: the link
        // stays root's there.
        edit::set_link(path, target, None).with_context(what)
    }

    pub(super) fn give_first_content(
        &self,
        id: &GenerationId,
        part: &Part,
        path: &str,
        (uid, gid): (u32, u32),
    ) -> Result<()> {
        let from = self
            .paths
            .generation_dir(id)
            .join(InstancePaths::tracked(part))
            .join(path);
        let base = InstancePaths::written_by(&self.paths.state_dir(), part);
        crate::host::shares::first_content::copy_first_content(
            &from,
            &base,
            Path::new(path),
            uid,
            gid,
        )
        .with_context(|| format!("give {part}: {path} its first content"))
    }

    pub(super) fn quarantine_parts(&self, id: &str, names: &[String]) -> Result<()> {
        for name in names {
            crate::manifest::names::check_relative(name).map_err(|why| {
                Problem::new(format!(
                    "quarantine: \"{}\" {why}",
                    crate::text::escape_text(name)
                ))
            })?;
            let from = self
                .paths
                .generation_dir(id)
                .join("ComfyUI/custom_nodes")
                .join(name);
            if from.symlink_metadata().is_err() {
                continue;
            }
            let to = self.paths.quarantine_dir().join(format!(
                "{}-{}-{name}",
                chrono::Utc::now().format("%Y%m%dT%H%M%S"),
                std::process::id()
            ));
            edit::make_dir(
                &self.paths.quarantine_dir(),
                self.ids.seal,
                self.ids.seal_gid,
                0o700,
            )
            .context("make the quarantine")?;
            edit::move_to(&from, &to)
                .with_context(|| format!("move {} to quarantine", from.display()))?;
            self.report.print_line(&format!(
                "{name}: nobody declared it; moved to {}",
                to.display()
            ));
        }
        Ok(())
    }
}
