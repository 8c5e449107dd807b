//! Nodes that come from elsewhere than a repository: what an archive of the registry or a folder
//! holds becomes a commit of comfy's own in the store, and then all is as for any other node.

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use super::tree_import::TreeImport;
use super::{FetchDepth, GitStore, objects};
use crate::host::fs::folder_files::{self, FolderFile};
use crate::host::registry::RegistryClient;
use crate::lock::resolve::ResolvedRef;
use crate::lock::{ArchivePin, Sha256Digest};
use crate::problem::{Context, Problem, Result};
use crate::text::escape_text;
use crate::tree::{EntryMode, ObjectId};

/// More entries than any archive has.
const MOST_ENTRIES: usize = 50_000;
/// More bytes than any archive unpacks to: 2 GiB.
const MOST_BYTES: u64 = 2 << 30;

impl GitStore {
    /// The version of a node that the registry has for `asked`, in the store.
    ///
    /// # Errors
    /// The registry does not have it, or has banned it; what the archive must not hold.
    pub(super) fn resolve_registry(
        &self,
        repo: &str,
        id: &str,
        asked: &str,
    ) -> Result<ResolvedRef> {
        if self.offline {
            return Err(Problem::new(format!(
                "{id}: comfy is offline, and the registry is asked for {asked}"
            ))
            .with_hint("run it once without --offline"));
        }
        let registry = RegistryClient::new(&self.net);
        let found = registry.find_version(id, asked)?;
        let bytes = registry
            .download(&found.url)
            .map_err(|p| p.with_prefix(&format!("{id}: ")))?;
        let commit = self.import_archive(repo, &bytes)?;
        let sha256 = Sha256Digest::digest_of(&bytes).to_string();
        Ok(ResolvedRef {
            commit,
            archive: Some(ArchivePin {
                version: found.version,
                url: found.url,
                sha256,
                status: found.status,
            }),
            moved_to: None,
        })
    }

    /// Ensures that the archive of a pin is in the store; returns the bare repository.
    ///
    /// # Errors
    /// It cannot be fetched, or is another one than was pinned.
    pub(crate) fn ensure_archive(
        &self,
        repo: &str,
        commit: &ObjectId,
        pin: &ArchivePin,
    ) -> Result<PathBuf> {
        let folder = self.store_folder(repo, FetchDepth::Whole);
        if objects::has_ref(&folder, commit) {
            return Ok(folder);
        }
        if self.offline {
            return Err(Problem::new(format!(
                "{repo}: version {} is not in the store, and comfy is offline",
                escape_text(&pin.version)
            ))
            .with_hint("run it once without --offline"));
        }
        let bytes = RegistryClient::new(&self.net).download(&pin.url)?;
        let is = Sha256Digest::digest_of(&bytes).to_string();
        if is != pin.sha256 {
            return Err(Problem::new(format!(
                "{}: the archive has sha256 {is}, and comfy.lock says {}",
                escape_text(&pin.url),
                pin.sha256
            ))
            .with_hint(
                "the registry serves another file than was locked: find out why before you \
                 `comfy update` this node; nothing was installed",
            ));
        }
        let made = self.import_archive(repo, &bytes)?;
        if made != *commit {
            return Err(Problem::new(format!(
                "{repo}: the archive unpacks to another tree than comfy.lock says"
            ))
            .with_hint("comfy.lock was edited by hand: restore it from git"));
        }
        Ok(folder)
    }

    /// What a folder of the owner's holds now, in the store.
    ///
    /// # Errors
    /// It cannot be read, or holds what no tree may.
    pub(super) fn import_folder(&self, repo: &str, path: &str) -> Result<ObjectId> {
        let real = self.own_folder(path)?;
        let folder = self.store_folder(repo, FetchDepth::Whole);
        objects::init(&folder)?;
        let mut import = TreeImport::begin(&folder)?;
        folder_files::visit_files(&real, &mut |path, file| match file {
            FolderFile::Link(target) => import.add(path, EntryMode::Link, &target),
            FolderFile::Regular(mut file, size, mode) => {
                let bytes = folder_files::read_whole(&mut file, size)
                    .with_context(|| format!("read {}", escape_text(path)))?;
                import.add(path, mode, &bytes)
            }
        })?;
        import.finish()
    }

    fn own_folder(&self, path: &str) -> Result<PathBuf> {
        let whole = match &self.home {
            Some(home) => crate::desired::below_home(home, path),
            None => Path::new(path).to_path_buf(),
        };
        let me = nix::unistd::geteuid().as_raw();
        crate::host::fs::real_path(&whole, me).map_err(|u| {
            Problem::from(u).with_hint("correct `path` in comfy.toml, or make the folder")
        })
    }

    /// Unpacks an archive into the store, and never to the disk.
    fn import_archive(&self, repo: &str, bytes: &[u8]) -> Result<ObjectId> {
        let folder = self.store_folder(repo, FetchDepth::Whole);
        objects::init(&folder)?;
        let mut import = TreeImport::begin(&folder)?;
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(|e| {
            Problem::new(format!("the registry's archive cannot be unpacked: {e}")).with_hint(
                "choose another version, or the node's repository: `repo = \"https://…\"`",
            )
        })?;
        let refuse = |name: &str, why: &str| {
            Problem::new(format!(
                "the archive's entry \"{}\" {why}",
                escape_text(name)
            ))
            .with_hint("choose another version, or the node's repository: `repo = \"https://…\"`")
        };
        if archive.len() > MOST_ENTRIES {
            return Err(refuse(
                "",
                &format!("is one of {}, too many", archive.len()),
            ));
        }
        let mut left = MOST_BYTES;
        for i in 0..archive.len() {
            let entry = archive
                .by_index(i)
                .with_context(|| format!("read entry {i} of the archive"))?;
            let name = entry
                .name()
                .with_context(|| format!("read the name of entry {i} of the archive"))?
                .to_string();
            if entry.is_dir() {
                continue;
            }
            if entry.is_symlink() || !entry.is_file() {
                return Err(refuse(&name, "is not a file"));
            }
            if let Err(why) = crate::manifest::names::check_relative(&name) {
                return Err(refuse(&name, why));
            }
            let mode = match entry.unix_mode() {
                Some(mode) if mode & 0o100 != 0 => EntryMode::Executable,
                _ => EntryMode::File,
            };
            let mut content = Vec::new();
            entry
                .take(left.min(folder_files::MOST_OF_FILE) + 1)
                .read_to_end(&mut content)
                .with_context(|| format!("unpack {}", escape_text(&name)))?;
            if content.len() as u64 > folder_files::MOST_OF_FILE {
                return Err(refuse(&name, "is larger than 256 MiB"));
            }
            left = left
                .checked_sub(content.len() as u64)
                .ok_or_else(|| refuse(&name, "makes it larger than 2 GiB"))?;
            import.add(&name, mode, &content)?;
        }
        import.finish()
    }
}
