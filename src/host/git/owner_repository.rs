//! The owner's own repository, which holds comfy.toml and comfy.lock. Unlike the store it is opened
//! with the owner's configuration, as the owner; libgit2 runs no hook and no filter program of it.

use std::path::{Path, PathBuf};

use git2::{Config, ConfigLevel, Repository, RepositoryOpenFlags};

use crate::host::env;
use crate::problem::{Context, Problem, Result};

/// Opens the repository that holds `folder`, or the one that GIT_DIR and GIT_WORK_TREE name, with
/// its configuration.
///
/// # Errors
/// There is none, or it has no work tree.
pub(crate) fn open(folder: &Path) -> Result<(Repository, Config)> {
    super::objects::set_up()?;
    let read = || -> Result<(Repository, Config)> {
        let repo = open_named(folder)?;
        let mut config = repo.config().context("read git's configuration")?;
        let snapshot = config.snapshot().context("read git's configuration")?;
        Ok((repo, snapshot))
    };
    search_configuration(true)?;
    let result = read();
    search_configuration(false)?;
    result
}

/// Lets libgit2 read the configuration of the user and the system, or nobody's.
fn search_configuration(of_owner: bool) -> Result<()> {
    use ConfigLevel::{Global, System, XDG};
    for level in [System, XDG, Global] {
        // SAFETY: a setting of libgit2. The commands that open the owner's repository do so on one
        // thread, while no other repository is being opened.
        let set = unsafe {
            if of_owner {
                git2::opts::reset_search_path(level)
            } else {
                git2::opts::set_search_path(level, "/nonexistent")
            }
        };
        set.context("set up libgit2")?;
    }
    Ok(())
}

fn open_named(folder: &Path) -> Result<Repository> {
    let here = std::env::current_dir().context("find the current folder")?;
    let named = |name: &str| env::var(name).map(|path| here.join(path));
    let (dir, tree) = (named("GIT_DIR"), named("GIT_WORK_TREE"));
    let (at, flags) = match &dir {
        Some(dir) => (dir.as_path(), RepositoryOpenFlags::NO_SEARCH),
        None => (folder, RepositoryOpenFlags::empty()),
    };
    let repo = Repository::open_ext(at, flags, std::iter::empty::<PathBuf>()).map_err(|e| {
        if dir.is_none() && e.code() == git2::ErrorCode::NotFound {
            return no_repository(folder);
        }
        Problem::new(format!(
            "could not open the git repository {}: {}",
            at.display(),
            e.message()
        ))
        .with_hint("`git status` there says more")
    })?;
    if let Some(tree) = &tree {
        repo.set_workdir(tree, false)
            .with_context(|| format!("use GIT_WORK_TREE={}", tree.display()))?;
    }
    if repo.workdir().is_none() {
        return Err(Problem::new(format!(
            "the git repository {} is bare: it has no work tree",
            repo.path().display()
        ))
        .with_hint("set GIT_WORK_TREE to the folder that it tracks"));
    }
    Ok(repo)
}

fn no_repository(folder: &Path) -> Problem {
    Problem::new(format!("{} is in no git repository", folder.display()))
        .with_hint(format!(
            "to create one: git -C {0} init && git -C {0} add comfy.toml comfy.lock && git -C {0} \
             commit -m \"Pin ComfyUI\"",
            shlex::try_quote(&folder.to_string_lossy()).unwrap_or_default()
        ))
        .with_hint(
            "where a dotfile manager copies the files, give its own folder with -C (chezmoi: `comfy \
             -C \"$(chezmoi source-path ~/.config/comfy)\" …`); for yadm or a bare repository, set \
             GIT_DIR and GIT_WORK_TREE",
        )
}
