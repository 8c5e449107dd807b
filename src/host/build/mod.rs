//! A whole generation in staging: what can be linked from an older one, what a worker must fetch,
//! seal, assemble, check.

mod assembly;
pub(crate) mod bytecode;
pub(crate) mod interpreter;
pub(crate) mod process;
pub(crate) mod venv;
pub(crate) mod work;

use std::path::{Path, PathBuf};

use nix::fcntl::AtFlags;

use super::fs::{open_dir, open_parent};
use super::net::NetEnv;
use crate::desired::generation_layout::{self};
use crate::desired::{GenerationSpec, InstancePaths};
use crate::host::build::process::JobLimits;
use crate::host::build::work::BuildWork;
use crate::host::fs::edit;
use crate::host::roles::credentials::Dropped;
use crate::host::sealed::stat_cache::StatCache;
use crate::host::sealed::verification::VerificationCache;
use crate::ids::GenerationId;
use crate::plan::ids::AccountIds;
use crate::problem::{Context, Result};
use crate::progress::Reporter;

/// Everything that building a generation needs.
pub(crate) struct GenerationBuilder<'a> {
    pub paths: &'a InstancePaths,
    pub ids: AccountIds,
    pub net: NetEnv,
    pub git: Option<PathBuf>,
    pub offline: bool,
    pub cache: &'a StatCache,
    pub readings: &'a VerificationCache,
    pub report: &'a dyn Reporter,
    /// `None` under isolation "none": the owner stands for every uid.
    pub jobs: Option<JobLimits>,
}

impl GenerationBuilder<'_> {
    /// Leaves a sealed, checked generation at `Paths::staged`, or nothing.
    ///
    /// # Errors
    /// What could not be fetched, unpacked, verified or written; staging is then as it was.
    pub(crate) fn build_generation(
        &mut self,
        spec: &GenerationSpec,
        reuse: &[GenerationId],
    ) -> Result<()> {
        let staged = self.paths.staged_generation(&spec.id());
        self.in_job(&staged, |b, job| {
            b.assemble_generation(spec, reuse, job, &staged)
        })
    }

    /// Runs `make` with a folder for the build process, which goes afterwards; what was staged
    /// stays only when it is whole.
    pub(crate) fn in_job(
        &mut self,
        staged: &Path,
        make: impl FnOnce(&mut Self, &Path) -> Result<()>,
    ) -> Result<()> {
        let clear = |path: &Path| {
            edit::remove_path(path).with_context(|| format!("clear {}", path.display()))
        };
        let job = self
            .paths
            .staging_dir()
            .join(format!("job-{}", std::process::id()));
        let result = self
            .make_folders(&job)
            .and_then(|()| clear(staged))
            .and_then(|()| make(self, &job));
        clear(&job)?;
        if result.is_err() {
            clear(staged)?;
        }
        result
    }

    /// Writes a record of comfy's, readable by the owner.
    pub(crate) fn write_record(&self, path: &Path, value: &impl serde::Serialize) -> Result<()> {
        let text =
            serde_json::to_vec(value).with_context(|| format!("write {}", path.display()))?;
        let owner = nix::unistd::geteuid()
            .is_root()
            .then_some((self.ids.seal, self.ids.records_gid));
        edit::write_file(path, &text, 0o640, owner)
            .with_context(|| format!("write {}", path.display()))
    }

    /// Has one piece of work done under the build uid, or by the owner where nobody else is.
    pub(crate) fn perform_job<T: serde::de::DeserializeOwned>(
        &mut self,
        work: &BuildWork,
    ) -> Result<T> {
        let value = match self.jobs {
            Some(jobs) => jobs.run_job(self.ids.build, work, self.report)?,
            None => work.run_work(self.report, &Dropped::as_caller())?,
        };
        serde_json::from_value(value).context("understand the build process")
    }

    /// An empty folder of the build process's.
    pub(crate) fn job_folder(&self, path: &Path) -> Result<()> {
        edit::make_dir(path, self.ids.build, build_gid(&self.ids), 0o700)
            .with_context(|| format!("make {}", path.display()))
    }

    /// From here on nobody but the sealer has a way into the job.
    pub(crate) fn take_over(&self, job: &Path) -> Result<()> {
        if nix::unistd::geteuid().is_root() {
            let fd = open_dir(job).with_context(|| format!("open {}", job.display()))?;
            nix::unistd::fchown(
                &fd,
                Some(self.ids.seal.into()),
                Some(self.ids.seal_gid.into()),
            )
            .with_context(|| format!("take over {}", job.display()))?;
        }
        Ok(())
    }

    fn make_folders(&self, job: &Path) -> Result<()> {
        let p = self.paths;
        let i = self.ids;
        let account = self.jobs.is_some();
        let doing = |path: &Path| format!("make {}", path.display());
        edit::make_parents(
            &p.base.join("x"),
            nix::unistd::Uid::from_raw(i.seal),
            nix::unistd::Gid::from_raw(i.seal_gid),
        )
        .with_context(|| doing(&p.base))?;
        edit::make_parents(
            &p.records.join("x"),
            nix::unistd::Uid::from_raw(i.seal),
            nix::unistd::Gid::from_raw(i.seal_gid),
        )
        .with_context(|| doing(&p.records))?;
        for (path, mode) in [
            (p.generations_dir(), 0o755),
            (p.venvs_dir(), 0o755),
            (p.staging_dir(), if account { 0o711 } else { 0o700 }),
            (p.trash_dir(), 0o700),
        ] {
            edit::make_dir(&path, i.seal, i.seal_gid, mode).with_context(|| doing(&path))?;
        }
        for path in [p.records.clone(), p.tree_listings_dir()] {
            edit::make_dir(
                &path,
                i.seal,
                i.records_gid,
                if account { 0o750 } else { 0o700 },
            )
            .with_context(|| doing(&path))?;
        }
        edit::make_dir(job, i.build, build_gid(&i), 0o700).with_context(|| doing(job))?;
        // A store of another build uid is only a cache: made anew.
        if std::fs::symlink_metadata(p.store_dir())
            .is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) != i.build)
        {
            edit::remove_path(&p.store_dir()).context("clear the old store")?;
        }
        // Readable: it holds public code alone, and lets `plan -v` show what a file should be.
        edit::make_dir(&p.store_dir(), i.build, build_gid(&i), 0o755)
            .with_context(|| doing(&p.store_dir()))?;
        // Of an older comfy, which had them in the store itself.
        for old in std::fs::read_dir(p.store_dir())
            .into_iter()
            .flatten()
            .flatten()
            .filter(|e| e.file_name().to_string_lossy().ends_with(".git"))
        {
            edit::remove_path(&old.path()).context("clear the old store")?;
        }
        // Each job writes its own part and no other.
        for part in [
            p.git_store(),
            crate::host::build::venv::wheel_store(p),
            p.python_store(),
        ] {
            edit::make_dir(&part, i.build, build_gid(&i), 0o755).with_context(|| doing(&part))?;
        }
        edit::write_file(
            &p.staging_dir().join("gitconfig"),
            super::git::config_text().as_bytes(),
            0o644,
            None,
        )
        .context("write comfy's git configuration")
    }

    /// Where models arrive: the build uid's alone, kept for the next run whatever becomes of this
    /// one.
    pub(crate) fn make_downloads(&self) -> Result<()> {
        let (i, path) = (self.ids, self.paths.downloads_dir());
        let doing = || format!("make {}", path.display());
        edit::make_parents(
            &path,
            nix::unistd::Uid::from_raw(i.seal),
            nix::unistd::Gid::from_raw(i.seal_gid),
        )
        .with_context(doing)?;
        // Of another build uid: parts that nobody could go on with.
        if std::fs::symlink_metadata(&path)
            .is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) != i.build)
        {
            edit::remove_path(&path).context("clear old downloads")?;
        }
        edit::make_dir(&path, i.build, build_gid(&i), 0o700).with_context(doing)
    }
}

/// The build uid's group has the same number; under isolation "none" it is the owner's own.
fn build_gid(i: &AccountIds) -> u32 {
    if i.build == i.owner {
        i.owner_gid
    } else {
        i.build
    }
}

pub(crate) fn link_file(from: &Path, to: &Path) -> std::io::Result<()> {
    let ((a, from_name), (b, to_name)) = (open_parent(from)?, open_parent(to)?);
    nix::unistd::linkat(
        &a,
        from_name.as_c_str(),
        &b,
        to_name.as_c_str(),
        AtFlags::empty(),
    )?;
    Ok(())
}

/// What the generation at `folder` says it is, if that hashes to its own name; `None` where there
/// is none, or where it says something else.
///
/// # Errors
/// It cannot be read, so that nobody knows whether it is there.
pub(crate) fn read_spec(folder: &Path, id: &str) -> std::io::Result<Option<GenerationSpec>> {
    let read = std::fs::read(folder.join(generation_layout::SPEC));
    let Some(text) = super::fs::absent_as_none(read)? else {
        return Ok(None);
    };
    let spec = serde_json::from_slice::<GenerationSpec>(&text).ok();
    Ok(spec.filter(|spec| *spec.id() == *id))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;

    #[test]
    fn a_description_that_cannot_be_read_is_not_taken_for_none() {
        let folder = tempfile::tempdir().unwrap();
        let id = "0123456789abcdef";
        assert!(read_spec(folder.path(), id).unwrap().is_none());
        assert!(
            read_spec(&folder.path().join("absent"), id)
                .unwrap()
                .is_none()
        );
        let spec = folder.path().join(generation_layout::SPEC);
        std::fs::write(&spec, "{}").unwrap();
        assert!(read_spec(folder.path(), id).unwrap().is_none());
        edit::remove_path(&spec).unwrap();
        std::fs::create_dir(&spec).unwrap();
        assert!(read_spec(folder.path(), id).is_err());
    }
}
