//! libgit2 as the fetcher, if there is no git program: slower, and it cannot fetch shallow from a
//! local folder.

use std::path::Path;

use git2::{AutotagOption, Direction, FetchOptions, RemoteCallbacks, Repository};

use super::error::GitError;
use super::{RemoteAnswer, transport};
use crate::host::git::program::is_elsewhere;
use crate::host::net::NetEnv;
use crate::problem::{Context, Result};
use crate::progress::Progress;

pub(super) fn fetch_with_libgit2(
    net: &NetEnv,
    folder: &Path,
    url: &str,
    specs: &[&str],
    shallow: bool,
    progress: &dyn Progress,
) -> Result<(), GitError> {
    transport::register_transport(net);
    super::objects::set_up()?;
    super::bare_repository::must_be_ours(folder)?;
    let repo =
        Repository::open_bare(folder).with_context(|| format!("open {}", folder.display()))?;
    let mut remote = repo
        .remote_anonymous(url)
        .map_err(|e| GitError::of_library(url, &e))?;
    let mut options = FetchOptions::new();
    let mut callbacks = RemoteCallbacks::new();
    callbacks.transfer_progress(|p| {
        progress.set_position(p.received_objects() as u64, p.total_objects() as u64);
        !crate::host::signals::is_interrupted()
    });
    options
        .remote_callbacks(callbacks)
        .download_tags(AutotagOption::None)
        .update_fetchhead(false);
    let local = url.starts_with("file://");
    if shallow && !local {
        options.depth(1);
    }
    let wide;
    let specs = if local {
        // The local transport gives only what a ref names.
        wide = [
            "+refs/heads/*:refs/remote/heads/*",
            "+refs/tags/*:refs/remote/tags/*",
        ];
        &wide[..]
    } else {
        specs
    };
    remote
        .fetch(specs, Some(&mut options), None)
        .map_err(|e| GitError::of_library(url, &e))?;
    Ok(())
}

pub(super) fn ls_remote(net: &NetEnv, url: &str) -> Result<RemoteAnswer, GitError> {
    transport::register_transport(net);
    super::objects::set_up()?;
    let mut remote =
        git2::Remote::create_detached(url).map_err(|e| GitError::of_library(url, &e))?;
    let connection = remote
        .connect_auth(Direction::Fetch, None, None)
        .map_err(|e| GitError::of_library(url, &e))?;
    let heads = connection
        .list()
        .map_err(|e| GitError::of_library(url, &e))?;
    let refs = heads
        .iter()
        .map(|h| (h.name().to_string(), h.oid().to_string()))
        .collect();
    // libgit2 does not tell where it was led.
    let last = url
        .starts_with("http")
        .then(|| transport::final_address(net, url));
    let moved_to = last.and_then(Result::ok).filter(|to| is_elsewhere(url, to));
    Ok(RemoteAnswer { refs, moved_to })
}
