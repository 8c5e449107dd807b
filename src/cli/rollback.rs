use std::cell::RefCell;
use std::path::Path;

use super::GlobalArgs;
use super::apply::{self, ApplyFinish, ApplyJob};
use super::approval::Approval;
use crate::apply::session::ApplyTask;
use crate::desired::InstancePaths;
use crate::history::undo::EarlierFiles;
use crate::history::{LockRepository, TrackedFile};
use crate::host::fs::edit;
use crate::lock::difference::LockDifference;
use crate::lock::{self, Lock, coverage};
use crate::manifest::Manifest;
use crate::plan::select::ResourceSelection;
use crate::problem::{Context, Problem, Result};
use crate::project::{self, ComfyProject, MANIFEST};
use crate::records::running;
use crate::render;
use crate::text::{escape_text, short_commit};

/// Go back to an earlier comfy.lock: commit it, show the plan, and apply it
///
/// comfy.toml goes back too where it changed in the same commits; what was changed in it later
/// stays.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy rollback              to before the newest commit of comfy.lock\n  \
        comfy rollback 1f4c9a3      to comfy.lock as of that commit (see `comfy history`)\n  comfy \
        rollback --no-commit  restores the files only, for a commit of your own"
)]
pub(crate) struct RollbackArgs {
    /// A commit as git names it [default: the one before the newest that moved comfy.lock]
    #[arg(value_name = "REV")]
    rev: Option<String>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Commit only; change nothing on this machine
    #[arg(long)]
    no_apply: bool,
    /// Restore the files without a commit, and change nothing on this machine
    #[arg(long, conflicts_with = "no_apply")]
    no_commit: bool,
    /// Fetch nothing: use only what is in the store
    #[arg(long)]
    offline: bool,
    /// Do not load everything once after the apply
    #[arg(long, conflicts_with_all = ["no_apply", "no_commit"])]
    no_check: bool,
}

pub(crate) fn run(global: &GlobalArgs, args: &RollbackArgs) -> Result<u8> {
    let dir = project::manifest_folder(&global.project)?;
    let repository = LockRepository::open(&dir.join(MANIFEST), &project::lock_path(&dir))?;
    if args.no_commit {
        repository.ensure_clean()?;
    } else {
        repository.ensure_committable(
            "`comfy rollback --no-commit` restores the files; then commit them with git, and run \
             `comfy apply`",
        )?;
    }
    let earlier = repository.earlier_files(args.rev.as_deref())?;
    let moved = check_files(global, &dir, &earlier)?;
    let Some(moved) = moved else {
        render::print_note("comfy.lock is as it was then: there is nothing to roll back.");
        return Ok(0);
    };
    let rollback = Rollback {
        repository: &repository,
        earlier: &earlier,
        moved: &moved,
        restored: RefCell::new(Vec::new()),
        commit: RefCell::new(None),
    };
    render::print_note(&escape_text(&earlier.title()));
    for line in moved.lines() {
        render::print_stdout(&line);
    }
    if earlier.manifest.is_some() {
        render::print_note("comfy.toml changed in the same commits, so it goes back too.");
    }
    rollback.restore_files()?;
    if args.no_commit {
        rollback.restored.take();
        render::print_note(&format!(
            "Restored. To commit it: {}. Then run: comfy apply",
            repository.git_line("commit -m \"Roll comfy.lock back\" comfy.lock comfy.toml")
        ));
        return Ok(0);
    }
    if args.no_apply {
        rollback.commit_files()?;
        render::print_note("To change this machine, run: comfy apply");
        return Ok(0);
    }
    rollback.apply(global, args).map(|()| 0)
}

/// Checks that the files belong together, before anything is written; returns what moves, or
/// `None` if nothing does.
fn check_files(
    global: &GlobalArgs,
    dir: &Path,
    earlier: &EarlierFiles,
) -> Result<Option<LockDifference>> {
    let text =
        |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| Problem::new("is not UTF-8"));
    let (at, lock_at) = (dir.join(MANIFEST), project::lock_path(dir));
    let manifest = match &earlier.manifest {
        Some(bytes) => text(bytes).map_err(|p| p.with_prefix("comfy.toml "))?,
        None => std::fs::read_to_string(&at).with_context(|| format!("read {}", at.display()))?,
    };
    let lock_text = text(&earlier.lock).map_err(|p| p.with_prefix("comfy.lock "))?;
    let now = std::fs::read_to_string(&lock_at);
    if now.as_ref().is_ok_and(|now| *now == lock_text) && earlier.manifest.is_none() {
        return Ok(None);
    }
    let host = global.project.host.clone();
    let host = host.unwrap_or_else(crate::host::machine::short_hostname);
    let refused = |mut p: Problem, hint: &str| {
        // Its hints are for files that are there.
        p.hints.clear();
        p.also.iter_mut().for_each(|p| p.hints.clear());
        p.with_prefix("rolled back, ").with_hint(hint)
    };
    let lock = Lock::parse(&lock_at, &lock_text.into()).map_err(|p| {
        refused(
            p,
            "nothing was changed; name another commit: `comfy history` lists those of comfy.lock",
        )
    })?;
    let covered = || -> Result<()> {
        let manifest = Manifest::parse(&at, &manifest.into(), &host)?;
        let cover = coverage::check(&manifest, &lock);
        match cover.problems.is_empty() {
            true => Ok(()),
            false => Err(Problem::from_many(cover.problems)),
        }
    };
    covered().map_err(|p| {
        refused(
            p,
            "nothing was changed; comfy.toml has changed since: name a nearer commit (`comfy \
             history`), or `git revert` both files yourself",
        )
    })?;
    let now = now.ok().and_then(|t| Lock::parse(&lock_at, &t.into()).ok());
    Ok(Some(LockDifference::between(now.as_ref(), &lock)))
}

/// A rollback under way.
struct Rollback<'a> {
    repository: &'a LockRepository,
    earlier: &'a EarlierFiles,
    moved: &'a LockDifference,
    /// Files that were written and not committed, with what they held before.
    restored: RefCell<Vec<(&'a TrackedFile, Vec<u8>)>>,
    commit: RefCell<Option<String>>,
}

impl<'a> Rollback<'a> {
    fn files(&self) -> Vec<(&'a TrackedFile, &'a [u8])> {
        let manifest = self.earlier.manifest.as_deref();
        std::iter::once((&self.repository.lock, &self.earlier.lock[..]))
            .chain(manifest.map(|bytes| (&self.repository.manifest, bytes)))
            .collect()
    }

    fn restore_files(&self) -> Result<()> {
        for (file, bytes) in self.files() {
            let before = std::fs::read(&file.real);
            let before = before.with_context(|| format!("read {}", file.real.display()))?;
            self.restored.borrow_mut().push((file, before));
            edit::replace_file(&file.real, bytes)
                .with_context(|| format!("write {}", file.real.display()))?;
        }
        Ok(())
    }

    /// Commits what was restored, and says so.
    fn commit_files(&self) -> Result<()> {
        let message = self.earlier.message(&self.moved.lines());
        let id = self.repository.commit_files(&self.files(), &message)?;
        self.restored.take();
        let id = short_commit(&id.to_string()).to_string();
        announce_commit(self.repository, &id, &self.earlier.title());
        *self.commit.borrow_mut() = Some(id);
        Ok(())
    }

    fn apply(&self, global: &GlobalArgs, args: &RollbackArgs) -> Result<()> {
        let project = ComfyProject::open(global)?;
        super::announce_isolation(&project);
        let desired = super::desired_state(&project)?;
        let before = running::current_generation(&desired.paths);
        let commit = || self.commit_files();
        let ask = Approval {
            yes: args.yes,
            verbose: global.verbose,
            quiet: global.quiet && args.yes,
            from_file: false,
            what: "rollback",
            once_approved: Some(&commit),
        };
        let job = ApplyJob {
            scope: (&desired).into(),
            only: ResourceSelection::default(),
            job: ApplyTask::Apply,
            offline: args.offline,
            saved: None,
        };
        let done = job
            .run(&ask)
            .map_err(|p| self.explain_failure(p, &desired.paths, before.as_deref()))?;
        // Nothing differs on this machine, so nobody was asked.
        if self.commit.borrow().is_none() {
            self.commit_files()?;
        }
        let finish = ApplyFinish {
            verbose: global.verbose,
            check: !args.no_check,
            back: false,
            ask: !args.yes && super::import_check::is_interactive(),
        };
        apply::finish_apply(&project, &desired, done, &finish)
    }

    /// Says what state the repository and the machine are in.
    fn explain_failure(&self, p: Problem, paths: &InstancePaths, before: Option<&str>) -> Problem {
        let Some(commit) = self.commit.borrow().clone() else {
            return p.with_hint("comfy.toml and comfy.lock are as before; nothing was committed");
        };
        let machine = match running::current_generation(paths) {
            now if now.as_deref() == before => "the generation that was live still is".to_string(),
            Some(now) => format!("generation {now} is live now"),
            None => "no generation is live".into(),
        };
        p.with_hint(format!(
            "commit {commit} with the earlier comfy.lock is made, and {machine}: `comfy apply` \
             finishes the rollback, `comfy rollback` takes the commit back"
        ))
    }
}

impl Drop for Rollback<'_> {
    /// Puts back what was not committed.
    fn drop(&mut self) {
        for (file, bytes) in self.restored.take() {
            if let Err(e) = edit::replace_file(&file.real, &bytes) {
                let name = file.real.file_name().unwrap_or_default().to_string_lossy();
                render::print_warning(&format!(
                    "{} could not be put back ({e}): {}",
                    file.real.display(),
                    self.repository
                        .git_line(&format!("checkout HEAD -- {name}"))
                ));
            }
        }
    }
}

/// Says which commit was made, and what git would have done beyond it.
pub(crate) fn announce_commit(repository: &LockRepository, id: &str, title: &str) {
    render::print_note(&format!("Committed {id}: {}", escape_text(title)));
    let hooks = repository.skipped_hooks();
    if !hooks.is_empty() {
        render::print_warning(&format!(
            "comfy's git library runs no hooks, so these did not run: {}",
            hooks.join(", ")
        ));
    }
}

/// Opens the repository of a project for `update --commit`, and checks that it can be committed to.
///
/// # Errors
/// As [`LockRepository::open`] and [`LockRepository::ensure_committable`].
pub(crate) fn open_for_commit(project: &ComfyProject) -> Result<LockRepository> {
    let repository = LockRepository::open(&project.dir.join(MANIFEST), &project.lock_path)?;
    repository.ensure_committable(&format!(
        "run it without --commit, then commit {} with git",
        lock::FILE
    ))?;
    Ok(repository)
}
