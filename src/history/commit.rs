//! Commits of the two files, and of nothing else that is staged or changed.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use git2::{
    AttrCheckFlags, AttrValue, FileMode, IndexEntry, IndexTime, Oid, RepositoryState, Signature,
    Status,
};

use super::{LockRepository, TrackedFile};
use crate::host::env;
use crate::problem::{Context, Problem, Result};
use crate::text::escape_text;

/// What `git commit` would run; libgit2 runs none of them.
const HOOKS: [&str; 4] = [
    "pre-commit",
    "prepare-commit-msg",
    "commit-msg",
    "post-commit",
];

impl LockRepository {
    /// Checks that comfy can commit the two files: nothing of them is changed or staged, and git
    /// knows who commits. `without_comfy` is how to do it without comfy's own commit.
    ///
    /// # Errors
    /// What is missing, and what to type.
    pub(crate) fn ensure_committable(&self, without_comfy: &str) -> Result<()> {
        self.ensure_clean()?;
        self.signature("AUTHOR")?;
        if self.config.get_bool("commit.gpgsign").unwrap_or(false) {
            return Err(Problem::new(
                "commit.gpgsign is set, and comfy's git library does not sign commits",
            )
            .with_hint(without_comfy));
        }
        Ok(())
    }

    /// Checks that neither file is changed or staged, and that no merge or rebase is in progress.
    ///
    /// # Errors
    /// What is in the way, and what to type.
    pub(crate) fn ensure_clean(&self) -> Result<()> {
        self.head()?;
        if self.repo.state() != RepositoryState::Clean {
            return Err(Problem::new(format!(
                "git is in the middle of something else in {} ({})",
                self.folder().display(),
                state_word(self.repo.state())
            ))
            .with_hint("`git status` there says how to finish or abort it"));
        }
        for (name, file) in [("comfy.lock", &self.lock), ("comfy.toml", &self.manifest)] {
            let Some(inside) = &file.inside else { continue };
            if let Some(filter) = self.filter_of(inside) {
                return Err(Problem::new(format!(
                    "{} goes through a filter of git's (filter={}), which comfy's git library does not \
                     run",
                    file.real.display(),
                    escape_text(&filter)
                ))
                .with_hint(format!(
                    "take {name} out of it: {}",
                    self.line_to_type(&format!(
                        "echo '{name} -filter' >> .gitattributes && git add .gitattributes && git add \
                         --renormalize {name} && git commit -m \"Keep {name} as it is\""
                    ))
                )));
            }
            let status = match self.repo.status_file(inside) {
                Ok(status) => status,
                Err(e) if e.code() == git2::ErrorCode::NotFound => continue,
                Err(e) => return Err(e).with_context(|| format!("compare {name} with HEAD")),
            };
            if status.intersects(Status::WT_NEW | Status::INDEX_NEW | Status::IGNORED) {
                return Err(
                    Problem::new(format!("{} is in no commit", file.real.display())).with_hint(
                        format!(
                            "commit it: {}",
                            self.git_line(&format!(
                                "add {name} && git commit -m \"Pin ComfyUI\" {name}"
                            ))
                        ),
                    ),
                );
            }
            if !status.is_empty() {
                return Err(Problem::new(format!(
                    "{} has changes that are not committed",
                    file.real.display()
                ))
                .with_hint(format!(
                    "commit them ({}) or discard them ({})",
                    self.git_line(&format!("commit {name}")),
                    self.git_line(&format!("checkout HEAD -- {name}"))
                )));
            }
        }
        Ok(())
    }

    /// The filter that .gitattributes names for a file.
    fn filter_of(&self, inside: &Path) -> Option<String> {
        let flags = AttrCheckFlags::FILE_THEN_INDEX;
        let value = self.repo.get_attr(inside, "filter", flags).ok()?;
        match AttrValue::from_string(value) {
            AttrValue::String(name) => Some(name.to_string()),
            _ => None,
        }
    }

    /// Commits these contents of files on HEAD; nothing else of the index goes along. The files in
    /// the work tree are as given already.
    ///
    /// # Errors
    /// The disk, or another git process that holds the index.
    pub(crate) fn commit_files(
        &self,
        files: &[(&TrackedFile, &[u8])],
        message: &str,
    ) -> Result<Oid> {
        let (author, committer) = (self.signature("AUTHOR")?, self.signature("COMMITTER")?);
        let record = || -> Result<Oid, git2::Error> {
            let head = self.repo.head()?.peel_to_commit()?;
            let mut index = self.repo.index()?;
            index.read(false)?;
            let (mut tree, mut staged) = (git2::build::TreeUpdateBuilder::new(), Vec::new());
            for (file, bytes) in files {
                let Some(inside) = &file.inside else { continue };
                let blob = self.repo.blob(bytes)?;
                tree.upsert(inside.as_path(), blob, FileMode::Blob);
                staged.extend(index.get_path(inside, 0));
                index.add(&index_entry(file, inside, blob))?;
            }
            index.write()?;
            let tree = self
                .repo
                .find_tree(tree.create_updated(&self.repo, &head.tree()?)?)?;
            let made =
                self.repo
                    .commit(Some("HEAD"), &author, &committer, message, &tree, &[&head]);
            if made.is_err() {
                staged.iter().try_for_each(|entry| index.add(entry))?;
                index.write()?;
            }
            made
        };
        record().with_context(|| format!("commit in {}", self.folder().display()))
    }

    /// Who commits: the environment, else the configuration.
    fn signature(&self, role: &str) -> Result<Signature<'static>> {
        let value = |word: &str, key: &str| {
            let said = env::var(&format!("GIT_{role}_{word}"));
            said.or_else(|| self.config.get_string(key).ok())
                .filter(|v| !v.trim().is_empty())
        };
        let (name, email) = (value("NAME", "user.name"), value("EMAIL", "user.email"));
        if let (Some(name), Some(email)) = (&name, &email) {
            return Signature::now(name, email).context("use the name and address that git has");
        }
        Err(
            Problem::new("git does not know who commits: user.name or user.email is not set")
                .with_hint(
                    "git config --global user.name \"Your Name\" && git config --global user.email \
                     you@example.org",
                ),
        )
    }

    /// Returns the hooks that `git commit` would have run.
    pub(crate) fn skipped_hooks(&self) -> Vec<String> {
        let folder = match self.config.get_path("core.hooksPath") {
            Ok(path) if path.is_absolute() => path,
            Ok(path) => self.repo.workdir().map_or(path.clone(), |w| w.join(&path)),
            Err(_) => self.repo.commondir().join("hooks"),
        };
        let runs = |name: &&&str| {
            let meta = folder.join(name).metadata();
            meta.is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        };
        HOOKS.iter().filter(runs).map(|h| h.to_string()).collect()
    }
}

/// An entry of the index, with what stat(2) says, so that git need not read the file again.
fn index_entry(file: &TrackedFile, inside: &Path, id: Oid) -> IndexEntry {
    use std::os::unix::ffi::OsStrExt;
    let meta = file.real.metadata().ok();
    let number = |of: fn(&std::fs::Metadata) -> u64| {
        // git keeps the low 32 bits.
        meta.as_ref().map_or(0, |m| of(m) as u32)
    };
    let time = |seconds: fn(&std::fs::Metadata) -> i64, nanos: fn(&std::fs::Metadata) -> i64| {
        let part = |of: fn(&std::fs::Metadata) -> i64| meta.as_ref().map_or(0, of);
        IndexTime::new(part(seconds) as i32, part(nanos) as u32)
    };
    IndexEntry {
        ctime: time(|m| m.ctime(), |m| m.ctime_nsec()),
        mtime: time(|m| m.mtime(), |m| m.mtime_nsec()),
        dev: number(|m| m.dev()),
        ino: number(|m| m.ino()),
        mode: 0o100_644,
        uid: number(|m| m.uid().into()),
        gid: number(|m| m.gid().into()),
        file_size: number(|m| m.size()),
        id,
        flags: 0,
        flags_extended: 0,
        path: PathBuf::from(inside).as_os_str().as_bytes().to_vec(),
    }
}

fn state_word(state: RepositoryState) -> &'static str {
    match state {
        RepositoryState::Merge => "a merge",
        RepositoryState::Revert | RepositoryState::RevertSequence => "a revert",
        RepositoryState::CherryPick | RepositoryState::CherryPickSequence => "a cherry-pick",
        RepositoryState::Bisect => "a bisect",
        RepositoryState::Rebase
        | RepositoryState::RebaseInteractive
        | RepositoryState::RebaseMerge => "a rebase",
        RepositoryState::ApplyMailbox | RepositoryState::ApplyMailboxOrRebase => "git am",
        RepositoryState::Clean => "nothing",
    }
}
