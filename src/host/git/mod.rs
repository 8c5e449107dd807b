//! git: the program fetches if it is installed, otherwise libgit2, which also does all local object
//! work.
//!
//! Neither ever sees a configuration, hook, filter or work tree that a third party wrote.

mod bare_repository;
pub(crate) mod blobs;
pub(crate) mod checkout;
pub(crate) mod distance;
mod error;
mod library;
pub mod objects;
mod other_sources;
pub(crate) mod owner_repository;
mod program;
mod ref_lookup;
pub(crate) mod ref_membership;
mod settings;
mod transport;
mod tree_import;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::host::git::error::GitError;
pub(crate) use crate::host::git::settings::config_text;
use crate::host::net::NetEnv;
use crate::lock::difference::CommitRange;
use crate::lock::requirements;
use crate::lock::resolve::{
    CommitQuery, RepositoryResolver, RepositorySnapshot, ResolvedRef, SourceTexts,
};
use crate::lock::tree_facts;
use crate::manifest::names;
use crate::manifest::node_source::NodeSource;
use crate::problem::{Problem, Result};
use crate::progress::{NoProgress, Progress};
use crate::tree::{EntryMode, ObjectId, TreeListing, links};

/// A way to fetch, and the folder of bare repositories that it fetches into.
pub(crate) struct GitStore {
    /// The git program; `None`: libgit2 fetches.
    pub program: Option<PathBuf>,
    pub net: NetEnv,
    pub store: PathBuf,
    pub offline: bool,
    /// A file that holds comfy's own git configuration.
    pub config: PathBuf,
    /// The owner's home, where folders of nodes are looked up.
    pub home: Option<PathBuf>,
}

/// The refs of a server.
struct RemoteAnswer {
    /// Name and object id.
    refs: Vec<(String, String)>,
    /// Where its own server has the repository by now.
    moved_to: Option<String>,
}

/// How much of a commit to fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FetchDepth {
    /// The commit, its trees, and files small enough to be a link target, a `.gitmodules` or an LFS
    /// pointer.
    Outline,
    /// The same with every file of at most [`SOURCES_LIMIT`] bytes, where the server can leave the
    /// others out: what a scan reads.
    Sources,
    /// Everything that is needed to unpack the tree.
    Whole,
}

/// Bytes of a file that [`FetchDepth::Sources`] has: pictures and models are longer, code is not.
pub(crate) const SOURCES_LIMIT: u64 = 1 << 20;

/// Where a repository names its submodules (gitmodules(5)).
const GITMODULES: &str = ".gitmodules";

/// How many sources of one repository are looked at.
const MAX_SOURCES: usize = 400;

/// The time limit for the transfer of a repository.
pub(crate) const FETCH_LIMIT: Duration = Duration::from_secs(3600);

impl GitStore {
    /// The same store, which asks no server.
    pub(crate) fn offline_twin(&self) -> GitStore {
        GitStore {
            program: self.program.clone(),
            net: self.net.clone(),
            store: self.store.clone(),
            offline: true,
            config: self.config.clone(),
            home: self.home.clone(),
        }
    }

    /// Returns the path of the bare repository of `repo` in the store.
    pub(crate) fn store_folder(&self, repo: &str, depth: FetchDepth) -> PathBuf {
        let key = names::repo_key(repo);
        let digest = base16ct::lower::encode_string(&Sha256::digest(key.as_bytes())[..8]);
        let name: String = key
            .rsplit('/')
            .next()
            .unwrap_or("repo")
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c))
            .collect();
        let suffix = match depth {
            FetchDepth::Outline => ".outline",
            FetchDepth::Sources => ".sources",
            FetchDepth::Whole => "",
        };
        self.store.join(format!("{name}-{digest}{suffix}.git"))
    }

    /// The repository that has the files of a commit, at least those that a scan reads; they are
    /// fetched if necessary.
    ///
    /// # Errors
    /// As [`GitStore::ensure_commit`].
    pub(crate) fn ensure_sources(
        &self,
        (repo, git_ref): (&str, &str),
        commit: &ObjectId,
        depth: FetchDepth,
    ) -> Result<PathBuf> {
        let whole = self.store_folder(repo, FetchDepth::Whole);
        if objects::has_ref(&whole, commit) {
            return Ok(whole);
        }
        self.ensure_commit(repo, git_ref, commit, depth, &NoProgress)
    }

    /// Ensures that `commit` is in the store, fetching it if necessary; returns the bare
    /// repository.
    ///
    /// # Errors
    /// If the remote does not answer, does not have the commit, or comfy is offline.
    pub(crate) fn ensure_commit(
        &self,
        repo: &str,
        git_ref: &str,
        commit: &ObjectId,
        depth: FetchDepth,
        progress: &dyn Progress,
    ) -> Result<PathBuf> {
        let folder = self.store_folder(repo, depth);
        if objects::has_ref(&folder, commit) {
            return Ok(folder);
        }
        if self.offline {
            return Err(Problem::new(format!(
                "{repo}: commit {} is not in the store, and comfy is offline",
                crate::text::short_commit(&commit.to_string())
            ))
            .with_hint("run it once without --offline"));
        }
        objects::init(&folder)?;
        let url = self.net.mirrors.rewrite_url(repo);
        let marker = objects::marker_ref(commit);
        let exact = format!("+{commit}:{marker}");
        if let Err(first) = self.fetch_specs(&folder, &url, &[&exact], depth, progress) {
            let broken_off = first.broken_off;
            let first = Problem::from(first);
            if first.is_interrupted() {
                return Err(first);
            }
            // No more requests go to a server that does not answer.
            let again = if broken_off {
                Err(())
            } else {
                self.fetch_by_ref(&folder, &url, git_ref, commit, depth, progress)
                    .map_err(drop)
            };
            again.map_err(|()| {
                first.with_prefix(&format!("{repo}: commit {commit} could not be fetched: "))
            })?;
        }
        if !objects::has_commit(&folder, commit) {
            return Err(Problem::new(format!("{repo}: {url} does not have commit {commit}")).with_hint(if names::is_commit(git_ref) {
                "check `ref` in comfy.toml: the repository does not have this commit (any more)"
            } else {
                "the pinned commit no longer exists there, or the mirror is old; `comfy update` \
                    moves the pin"
            }));
        }
        objects::mark_complete(&folder, commit)?;
        Ok(folder)
    }

    /// A text that the outline left out: alone where the server gives it, else with all others.
    fn one_file(
        &self,
        repo: &str,
        git_ref: &str,
        commit: &ObjectId,
        folder: &Path,
        (file, oid): (&str, &ObjectId),
        progress: &dyn Progress,
    ) -> Result<String> {
        let named = |p: Problem| p.with_prefix(&format!("{file} "));
        if let Some(text) =
            objects::blob_text(folder, oid, requirements::MAX_BYTES).map_err(named)?
        {
            return Ok(text);
        }
        let spec = format!("+{oid}:refs/comfy/file/{oid}");
        let alone = if self.offline {
            None
        } else {
            self.fetch_specs(
                folder,
                &self.net.mirrors.rewrite_url(repo),
                &[&spec],
                FetchDepth::Whole,
                progress,
            )
            .ok()
        };
        let found = if alone.is_some() {
            objects::blob_text(folder, oid, requirements::MAX_BYTES).map_err(named)?
        } else {
            None
        };
        if let Some(text) = found {
            return Ok(text);
        }
        let whole = self.ensure_commit(repo, git_ref, commit, FetchDepth::Whole, progress)?;
        objects::blob_text(&whole, oid, requirements::MAX_BYTES)
            .map_err(named)?
            .ok_or_else(|| {
                Problem::new(format!(
                    "{repo}: {file} of commit {commit} is not available"
                ))
            })
    }

    /// Texts that the outline may have left out, as far as the server gives them alone: no more is
    /// fetched for them.
    fn source_texts(
        &self,
        repo: &str,
        folder: &Path,
        listing: &TreeListing,
        which: SourceTexts,
        progress: &dyn Progress,
    ) -> BTreeMap<String, String> {
        let is_wanted = |path: &str| match which {
            SourceTexts::None => false,
            SourceTexts::Project => path == tree_facts::PYPROJECT,
            SourceTexts::All => path == tree_facts::PYPROJECT || tree_facts::is_source(path),
        };
        let wanted: Vec<(&String, &ObjectId)> = listing
            .0
            .iter()
            .filter(|(path, e)| {
                matches!(e.mode, EntryMode::File | EntryMode::Executable) && is_wanted(path)
            })
            .map(|(path, e)| (path, &e.oid))
            .take(MAX_SOURCES)
            .collect();
        // A text that is too long is as good as none.
        let text = |oid: &ObjectId| objects::blob_text(folder, oid, requirements::MAX_BYTES);
        let lacking: Vec<String> = wanted
            .iter()
            .filter(|(_, oid)| matches!(text(oid), Ok(None)))
            .map(|(_, oid)| format!("+{oid}:refs/comfy/file/{oid}"))
            .collect();
        if !lacking.is_empty() && !self.offline {
            let specs: Vec<&str> = lacking.iter().map(String::as_str).collect();
            let url = self.net.mirrors.rewrite_url(repo);
            // What cannot be had is not told.
            let _ = self.fetch_specs(folder, &url, &specs, FetchDepth::Whole, progress);
        }
        let texts = wanted
            .iter()
            .filter_map(|(path, oid)| Some(((*path).clone(), text(oid).ok()??)));
        texts.collect()
    }

    /// Some servers give only what a ref names: then the asked ref, at last everything.
    fn fetch_by_ref(
        &self,
        folder: &Path,
        url: &str,
        git_ref: &str,
        commit: &ObjectId,
        depth: FetchDepth,
        progress: &dyn Progress,
    ) -> Result<(), GitError> {
        if !names::is_commit(git_ref) {
            let asked = format!("+{git_ref}:refs/remote/asked");
            if self
                .fetch_specs(folder, url, &[&asked], depth, progress)
                .is_ok()
                && objects::has_commit(folder, commit)
            {
                return Ok(());
            }
        }
        self.fetch_full(
            folder,
            url,
            &[
                "+refs/heads/*:refs/remote/heads/*",
                "+refs/tags/*:refs/remote/tags/*",
            ],
            progress,
        )
    }

    fn fetch_specs(
        &self,
        folder: &Path,
        url: &str,
        specs: &[&str],
        depth: FetchDepth,
        progress: &dyn Progress,
    ) -> Result<(), GitError> {
        match &self.program {
            Some(git) => {
                let limit = match depth {
                    FetchDepth::Outline => Some(crate::tree::rules::LFS_LIMIT as u64 + 1),
                    FetchDepth::Sources => Some(SOURCES_LIMIT + 1),
                    FetchDepth::Whole => None,
                };
                let filter = limit.map(|n| format!("blob:limit={n}"));
                program::fetch_with_git(
                    self,
                    git,
                    folder,
                    url,
                    specs,
                    &["--depth=1"],
                    filter.as_deref(),
                    progress,
                )
            }
            None => library::fetch_with_libgit2(&self.net, folder, url, specs, true, progress),
        }
    }

    fn fetch_full(
        &self,
        folder: &Path,
        url: &str,
        specs: &[&str],
        progress: &dyn Progress,
    ) -> Result<(), GitError> {
        match &self.program {
            Some(git) => {
                program::fetch_with_git(self, git, folder, url, specs, &[], None, progress)
            }
            None => library::fetch_with_libgit2(&self.net, folder, url, specs, false, progress),
        }
    }

    fn remote_refs(&self, url: &str, patterns: &[&str]) -> Result<RemoteAnswer, GitError> {
        match &self.program {
            Some(git) => program::ls_remote(self, git, url, patterns),
            None => library::ls_remote(&self.net, url),
        }
    }
}

/// Of a folder of the owner's that is not as comfy.lock says.
pub(crate) fn folder_changed(path: &str) -> Problem {
    Problem::new(format!(
        "{} is not as comfy.lock pins it",
        crate::text::escape_text(path)
    ))
    .with_hint("`comfy update` with the node's name locks what the folder holds now")
}

impl RepositoryResolver for GitStore {
    fn resolve_ref(&self, repo: &str, git_ref: &str) -> Result<ResolvedRef> {
        match NodeSource::of(repo) {
            NodeSource::Repository(_) => self.look_up_ref(repo, git_ref),
            NodeSource::Registry(id) => self.resolve_registry(repo, id, git_ref),
            NodeSource::Folder(path) => self.import_folder(repo, path).map(ResolvedRef::from),
        }
    }

    fn snapshot(
        &self,
        wanted: &CommitQuery,
        progress: &dyn Progress,
    ) -> Result<RepositorySnapshot> {
        let CommitQuery {
            repo,
            git_ref,
            commit,
            archive,
            exclude,
            requirements_files,
            sources,
        } = *wanted;
        let whole = self.store_folder(repo, FetchDepth::Whole);
        let folder = if objects::has_ref(&whole, commit) {
            whole
        } else if let Some(archive) = archive {
            self.ensure_archive(repo, commit, archive)?
        } else if let NodeSource::Folder(path) = NodeSource::of(repo) {
            if self.import_folder(repo, path)? != *commit {
                return Err(folder_changed(path));
            }
            whole
        } else {
            self.ensure_commit(repo, git_ref, commit, FetchDepth::Outline, progress)?
        };
        let mut snapshot = objects::read_snapshot(&folder, commit, exclude)?;
        let text = |file: &str| -> Result<Option<String>> {
            let Some(file) = links::followed(&snapshot.listing, &snapshot.links, file) else {
                return Ok(None);
            };
            let oid = &snapshot.listing.0[&file].oid;
            self.one_file(repo, git_ref, commit, &folder, (&file, oid), progress)
                .map(Some)
        };
        let gitmodules = text(GITMODULES)?;
        let requirements = requirements::collect_texts(requirements_files, &text)?;
        snapshot.gitmodules = gitmodules;
        snapshot.requirements = requirements;
        snapshot.sources = self.source_texts(repo, &folder, &snapshot.listing, sources, progress);
        Ok(snapshot)
    }

    fn commits_between(&self, repo: &str, old: &ObjectId, new: &ObjectId) -> Option<CommitRange> {
        let git = self.program.as_ref().filter(|_| !self.offline)?;
        if !NodeSource::of(repo).is_repository() {
            return None;
        }
        program::commits_between(
            self,
            git,
            &self.store_folder(repo, FetchDepth::Outline),
            &self.net.mirrors.rewrite_url(repo),
            old,
            new,
        )
    }
}
