//! The commits of comfy.lock in the owner's repository: [`walk`] finds them, [`entry`] reads them, [`undo`] makes the
//! files of an earlier one, [`commit`] records what comfy wrote.

pub(crate) mod commit;
pub(crate) mod entry;
pub(crate) mod undo;
pub(crate) mod walk;

use std::path::{Path, PathBuf};

use git2::{Config, Oid, Repository, Tree};

use crate::host::env;
use crate::host::git::owner_repository;
use crate::problem::{Context, Problem, Result};
use crate::text::escape_text;

/// The owner's repository, and where the two files are in it.
pub(crate) struct LockRepository {
    repo: Repository,
    config: Config,
    pub lock: TrackedFile,
    pub manifest: TrackedFile,
}

/// A file of the work tree.
pub(crate) struct TrackedFile {
    /// Behind links.
    pub real: PathBuf,
    /// Its path in the repository; `None` for a file outside of it.
    inside: Option<PathBuf>,
}

/// Both files as a commit has them; `None` for one that it does not have.
pub(crate) struct CommittedFiles {
    pub manifest: Option<Vec<u8>>,
    pub lock: Option<Vec<u8>>,
}

impl LockRepository {
    /// Opens the repository that holds comfy.lock, wherever links lead.
    ///
    /// # Errors
    /// There is none, or the caller is root and somebody else owns it.
    pub(crate) fn open(manifest: &Path, lock: &Path) -> Result<LockRepository> {
        let real = |path: &Path| match path.canonicalize() {
            Ok(real) => Ok(real),
            // A file that was deleted by mistake can be restored.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(path.to_path_buf()),
            Err(e) => Err(e).with_context(|| format!("open {}", path.display())),
        };
        let (manifest, lock) = (real(manifest)?, real(lock)?);
        let folder = lock.parent().unwrap_or(Path::new("/"));
        refuse_root(folder)?;
        let (repo, config) = owner_repository::open(folder)?;
        let top = repo.workdir().map(Path::canonicalize);
        let top = top
            .and_then(std::result::Result::ok)
            .ok_or_else(|| Problem::new("the git repository has no work tree"))?;
        let tracked = |real: PathBuf| TrackedFile {
            inside: real.strip_prefix(&top).ok().map(Path::to_path_buf),
            real,
        };
        let opened = LockRepository {
            lock: tracked(lock),
            manifest: tracked(manifest),
            repo,
            config,
        };
        if opened.lock.inside.is_none() {
            let p = Problem::new(format!(
                "{} is not in the work tree {} of the git repository {}",
                opened.lock.real.display(),
                top.display(),
                opened.repo.path().display()
            ));
            return Err(match env::var("GIT_DIR") {
                Some(_) => p.with_hint("GIT_DIR names another repository: unset it"),
                None => p.with_hint("give the folder of the real comfy.lock with -C"),
            });
        }
        Ok(opened)
    }

    /// The work tree, for commands that a message shows.
    pub(crate) fn folder(&self) -> &Path {
        self.lock.real.parent().unwrap_or(Path::new("/"))
    }

    /// Returns the id of a file's content in a tree.
    fn blob_in(&self, tree: &Tree, file: &TrackedFile) -> Option<Oid> {
        Some(tree.get_path(file.inside.as_deref()?).ok()?.id())
    }

    fn read_blob(&self, id: Oid) -> Result<Vec<u8>> {
        let blob = self.repo.find_blob(id);
        let blob = blob.with_context(|| format!("read object {id} of the git repository"))?;
        Ok(blob.content().to_vec())
    }

    /// Returns the commit that HEAD names.
    ///
    /// # Errors
    /// There is no commit yet.
    fn head(&self) -> Result<git2::Commit<'_>> {
        let head = self.repo.head().and_then(|h| h.peel_to_commit());
        head.map_err(|e| {
            let p = Problem::new(format!(
                "the git repository of {} has no commit",
                self.lock.real.display()
            ));
            match e.code() {
                git2::ErrorCode::UnbornBranch | git2::ErrorCode::NotFound => p.with_hint(format!(
                    "commit the two files first: {}",
                    self.git_line("add comfy.toml comfy.lock && git commit -m \"Pin ComfyUI\"")
                )),
                _ => Problem::new(format!("could not read HEAD: {}", e.message())),
            }
        })
    }

    /// Returns the commit that a user named.
    ///
    /// # Errors
    /// There is no such commit.
    pub(crate) fn find_commit(&self, rev: &str) -> Result<Oid> {
        let found = self.repo.revparse_single(rev);
        let commit = found.and_then(|o| o.peel_to_commit());
        commit.map(|c| c.id()).map_err(|e| {
            let folder = self.folder().display();
            let message = match e.code() {
                git2::ErrorCode::NotFound => {
                    format!(
                        "the git repository of {folder} has no commit {}",
                        escape_text(rev)
                    )
                }
                _ => format!("{}: {}", escape_text(rev), e.message()),
            };
            Problem::new(message).with_hint("`comfy history` lists the commits of comfy.lock")
        })
    }

    /// Returns both files of a commit.
    ///
    /// # Errors
    /// The commit cannot be read.
    pub(crate) fn files_of(&self, commit: Oid) -> Result<CommittedFiles> {
        let doing = || format!("read commit {commit}");
        let tree = self.repo.find_commit(commit).and_then(|c| c.tree());
        let tree = tree.with_context(doing)?;
        let read = |file: &TrackedFile| {
            let id = self.blob_in(&tree, file);
            id.map(|id| self.read_blob(id)).transpose()
        };
        Ok(CommittedFiles {
            manifest: read(&self.manifest)?,
            lock: read(&self.lock)?,
        })
    }

    /// Returns a command of git's for the owner to type.
    pub(crate) fn git_line(&self, command: &str) -> String {
        self.line_to_type(&format!("git {command}"))
    }

    /// Returns a command for the owner to type, which runs in the folder of comfy.lock.
    fn line_to_type(&self, command: &str) -> String {
        let folder = self.folder().to_string_lossy();
        let folder = shlex::try_quote(&folder).unwrap_or_default();
        format!("cd {folder} && {command}")
    }
}

/// The repository is the owner's: root reads nothing that its configuration could steer.
fn refuse_root(folder: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let owner = folder.metadata().map_or(0, |m| m.uid());
    let caller = env::var("SUDO_UID").and_then(|u| u.parse().ok());
    let Some(uid) = caller.into_iter().chain([owner]).find(|uid| *uid != 0) else {
        return Ok(());
    };
    let name = nix::unistd::User::from_uid(uid.into()).ok().flatten();
    let name = name.map_or_else(|| format!("uid {uid}"), |u| u.name);
    Err(Problem::new(format!(
        "do not run this as root: the git repository of {} belongs to {name}",
        folder.display()
    ))
    .with_hint(format!(
        "run it as {name}: only the apply needs root, and asks for it"
    )))
}
