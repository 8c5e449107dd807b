//! How an instance goes: its backup, the folders that the sandbox user could write, and the rest.

use std::path::{Component, Path, PathBuf};

use nix::unistd::UnlinkatFlags;

use super::Executor;
use crate::host::fs::remove::{ForeignEntry, remove_of};
use crate::host::fs::{edit, open_parent};
use crate::host::machine::operating_system;
use crate::host::{process, tools};
use crate::plan::observed::FileType;
use crate::problem::{Context, Problem, Result};

/// Asked under that uid, since the answer is the caller's own (getconf(1)). `None`: there are none, or
/// it is not what macOS would answer.
fn darwin_folders(uid: u32) -> Option<PathBuf> {
    if !operating_system().is_macos() || !nix::unistd::geteuid().is_root() {
        return None;
    }
    let out = process::run_program_as(uid, &[tools::GETCONF, "DARWIN_USER_DIR"]).ok()?;
    // `/var/folders/XX/YYYY/0/`: YYYY is the account's.
    let answer = Path::new(out.stdout.trim_end()).strip_prefix("/var/folders");
    let parts: Vec<_> = answer.ok()?.components().collect();
    let [
        Component::Normal(shelf),
        Component::Normal(own),
        Component::Normal(_),
    ] = parts[..]
    else {
        return None;
    };
    let folders = Path::new("/private/var/folders").join(shelf).join(own);
    let node = crate::host::fs::read_entry(&folders).ok().flatten()?;
    (out.status == 0 && node.kind == FileType::Dir && node.uid == uid).then_some(folders)
}

impl Executor<'_> {
    /// A folder where the sandbox user can put things, others' among them.
    fn remove_sandboxs(&self, path: &Path) -> Result<()> {
        let away = |e: &std::io::Error| {
            let foreign = e.get_ref()?.downcast_ref::<ForeignEntry>()?;
            Some(format!(
                "move it out of there, with the rights that it has, then run this again: sudo mv \
                 '{}' /somewhere/else/",
                path.join(&foreign.path).display()
            ))
        };
        remove_of(path, self.ids.sandbox).map_err(|e| {
            let p = Problem::new(format!("could not remove {}: {e}", path.display())).caused_by(&e);
            away(&e).into_iter().fold(p, Problem::with_hint)
        })
    }

    /// What macOS has made for the account outside its home, and does not remove with it: caches and
    /// temporary files below `/var/folders` (confstr(3)).
    pub(super) fn remove_darwin_folders(&self, uid: u32) -> Result<()> {
        match darwin_folders(uid) {
            Some(folders) => self.remove_sandboxs(&folders),
            None => Ok(()),
        }
    }

    /// `state/` is taken back first: what is removed cannot be renamed meanwhile.
    fn remove_state(&self) -> Result<()> {
        let state = self.paths.state_dir();
        if !matches!(crate::host::fs::read_entry(&state), Ok(Some(n)) if n.kind == FileType::Dir) {
            return edit::remove_path(&state)
                .with_context(|| format!("remove {}", state.display()));
        }
        let what = || format!("take back {}", state.display());
        edit::make_dir(&state, self.ids.seal, self.ids.seal_gid, 0o700).with_context(what)?;
        let mut problems = Vec::new();
        for entry in std::fs::read_dir(&state).with_context(what)? {
            problems.extend(
                self.remove_sandboxs(&entry.with_context(what)?.path())
                    .err(),
            );
        }
        if !problems.is_empty() {
            return Err(Problem::from_many(problems));
        }
        edit::remove_path(&state).with_context(|| format!("remove {}", state.display()))
    }

    pub(super) fn remove_instance(&self, backup: Option<&Path>, home: Option<&Path>) -> Result<()> {
        if let Some(to) = backup {
            let folder = |p: &Path| edit::make_dir(p, self.ids.seal, self.ids.seal_gid, 0o700);
            for (from, name) in [
                (self.paths.state_dir().join("user"), "user"),
                (self.paths.quarantine_dir(), "quarantine"),
                (self.paths.state_dir().join("nodes"), "nodes"),
                (self.paths.state_dir().join("core"), "core"),
            ] {
                if from.symlink_metadata().is_ok() && !to.join(name).exists() {
                    folder(to)
                        .and_then(|()| edit::move_to(&from, &to.join(name)))
                        .with_context(|| format!("move {} to {}", from.display(), to.display()))?;
                }
            }
        }
        // Only what is the sandbox user's own: its home may have been made by somebody else in the
        // meantime.
        if let Some(home) = home
            && matches!(crate::host::fs::read_entry(home), Ok(Some(n)) if n.kind == FileType::Dir && n.uid == self.ids.sandbox)
        {
            self.remove_sandboxs(home)?;
        }
        self.remove_state()?;
        self.release_ids()?;
        // An instance of an older comfy may go on with what was fetched there.
        let old = self.paths.shared_downloads();
        let alone = |e: std::io::Result<std::fs::DirEntry>| {
            e.is_ok_and(|e| e.path() == self.paths.base || e.path() == old)
        };
        if std::fs::read_dir(&self.paths.prefix).is_ok_and(|mut d| d.all(alone)) {
            edit::remove_path(&old).context("clear the downloads")?;
        }
        for path in [self.paths.base.clone(), self.paths.records.clone()] {
            edit::remove_path(&path).with_context(|| format!("remove {}", path.display()))?;
            // The folder above, where nothing else is in it.
            if let Ok((dir, name)) = path
                .parent()
                .map_or(Err(std::io::Error::other("")), open_parent)
            {
                let _ = nix::unistd::unlinkat(&dir, name.as_c_str(), UnlinkatFlags::RemoveDir);
            }
        }
        Ok(())
    }
}
