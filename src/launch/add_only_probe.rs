//! Tests that the sandbox user can only add to an "add" share, with a file of the owner's, as the
//! sandbox user.
//!
//! Only ownership and the sticky bit protect such a share, and a volume may show modes that it does
//! not enforce: one that ignores owners (macOS, external drives), or a server that maps everybody
//! to one account.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::fstat;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

use super::sandbox_process::SandboxAccount;
use crate::desired::launch::LaunchSpec;
use crate::host::fs::{as_mode, c_string, edit, lstat_at, open_dir_at};
use crate::host::roles::credentials::{self, Dropped};
use crate::host::roles::serve::{self, RoleConfig};
use crate::host::roles::{Role, spawn};
use crate::plan::observed::ShareSpec;
use crate::problem::{Context, Problem, Result};

const CONTENT: &[u8] = b"comfy tries whether this can be changed\n";

/// The configuration of the probing process.
#[derive(serde::Serialize, serde::Deserialize)]
struct ProbeConfig {
    account: SandboxAccount,
    /// The share, as it was opened.
    folder: RawFd,
    name: String,
}

/// Tests the share and leaves it as it was.
///
/// # Errors
/// The sandbox user can change or remove the owner's file, or the test could not be made.
pub(crate) fn added_to(spec: &LaunchSpec, share: &ShareSpec, opened: &OwnedFd) -> Result<()> {
    let unproven = |p: Problem| {
        p.with_prefix(&format!(
            "share {}: could not test what the sandbox user can do there: ",
            share.name
        ))
    };
    // Predictable names could be taken beforehand.
    let name = edit::random_suffix()
        .map(|n| format!(".comfy-tries-{n}"))
        .context("find a name")
        .map_err(unproven)?;
    let path = share.path.join(&name);
    let (folder, made) = make_file(share, opened, &name)
        .with_context(|| format!("make a file in {}", share.path.display()))
        .map_err(|p| unproven(p).with_hint(HINT))?;
    let account = SandboxAccount {
        name: spec.user.clone(),
        uid: spec.uid,
        gid: spec.gid,
    };
    let tried = try_file(
        &ProbeConfig {
            account,
            folder: opened.as_raw_fd(),
            name: name.clone(),
        },
        opened,
    );
    let same = c_string(name.as_ref())
        .and_then(|n| Ok(lstat_at(&folder, &n)?))
        .is_ok_and(|is| {
            fstat(&made).is_ok_and(|was| (is.st_ino, is.st_dev) == (was.st_ino, was.st_dev))
        });
    let mut content = vec![0; CONTENT.len()];
    let whole = made
        .metadata()
        .is_ok_and(|m| m.len() == CONTENT.len() as u64)
        && made.read_exact_at(&mut content, 0).is_ok()
        && content == CONTENT;
    let gone = remove_file(&folder, &path).and_then(|()| remove_file(&folder, &moved_path(&path)));
    let done = tried.map_err(unproven)?;
    if !done.is_empty() || !same || !whole {
        let what = if done.is_empty() {
            "changed".to_string()
        } else {
            done.join(", ")
        };
        return Err(Problem::new(format!(
            "share {}: the sandbox user {what} a file of yours, despite the modes in {}",
            share.name,
            share.path.display()
        ))
        .with_hint(HINT));
    }
    gone.with_context(|| format!("remove {}", path.display()))
}

const HINT: &str = "a volume that ignores owners cannot enforce `access = \"add\"`: on macOS run \
    `sudo diskutil enableOwnership VOLUME`; otherwise write \"read\"";

fn moved_path(path: &Path) -> PathBuf {
    path.with_extension("moved")
}

/// Removes a file, and only a file: somebody may have put a folder of the owner's in its place.
fn remove_file(folder: &OwnedFd, path: &Path) -> std::io::Result<()> {
    let name = c_string(path.file_name().unwrap_or_default())?;
    match unlinkat(folder, name.as_c_str(), UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn make_file(share: &ShareSpec, opened: &OwnedFd, name: &str) -> std::io::Result<(OwnedFd, File)> {
    let folder = open_dir_at(opened, c".")?;
    let flags =
        OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = File::from(openat(
        &folder,
        c_string(name.as_ref())?.as_c_str(),
        flags,
        as_mode(0o640),
    )?);
    let whole = (&file).write_all(CONTENT).and_then(|()| {
        Ok(fchown(
            &file,
            Some(Uid::from_raw(share.owner)),
            Some(Gid::from_raw(share.gid)),
        )?)
    });
    if whole.is_err() {
        remove_file(&folder, &share.path.join(name))?;
    }
    whole.map(|()| (folder, file))
}

/// Returns what the sandbox user could do with the file, as text.
fn try_file(asked: &ProbeConfig, opened: &OwnedFd) -> Result<Vec<String>> {
    let doing = || "become the sandbox user".to_string();
    let mut c = spawn::role_command(Role::Probe)?;
    spawn::inherit_fds(&mut c, &[opened]);
    let mut child = c.stdout(Stdio::piped()).spawn().with_context(doing)?;
    spawn::send_config(&mut child, asked)?;
    drop(child.stdin.take());
    let mut said = String::new();
    if let Some(out) = child.stdout.take() {
        out.take(crate::host::lines::WORD)
            .read_to_string(&mut said)
            .with_context(doing)?;
    }
    if !child.wait().with_context(doing)?.success() {
        return Err(Problem::new("the probing process failed"));
    }
    serde_json::from_str(&said).context("read the result of the probe")
}

impl RoleConfig for ProbeConfig {
    const WHAT: &'static str = "what to try";
}

/// Becomes the sandbox user and runs the probe. Must be called while the process has one thread.
pub(crate) fn serve_probe() -> ExitCode {
    serve::serve(crate::render::print_problem, |asked: ProbeConfig, _| {
        let account = &asked.account;
        let groups = credentials::init_groups(&account.name, account.gid)?;
        let folder = serve::adopt_fd(asked.folder)?;
        let dropped = credentials::set_ids_permanently(account.uid, account.gid, groups)?;
        nix::unistd::fchdir(&folder).context("enter the share")?;
        let answer = serde_json::to_string(&possible_changes(Path::new(&asked.name), &dropped))
            .context("report the result")?;
        writeln!(std::io::stdout(), "{answer}").context("report the result")?;
        Ok(0)
    })
}

/// Tries what only the owner may do, and returns what succeeded.
fn possible_changes(file: &Path, _: &Dropped) -> Vec<&'static str> {
    let mut done = Vec::new();
    let open = |append: bool| {
        std::fs::OpenOptions::new()
            .write(true)
            .append(append)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(file)
    };
    if open(true).and_then(|mut f| f.write_all(b"x")).is_ok() {
        done.push("changed");
    }
    if open(false).and_then(|f| f.set_len(0)).is_ok() {
        done.push("emptied");
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "by path and as the sandbox user, which is what is tried"
    )]
    if std::fs::rename(file, moved_path(file))
        .and_then(|()| std::fs::rename(moved_path(file), file))
        .is_ok()
    {
        done.push("renamed");
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "by path and as the sandbox user, which is what is tried"
    )]
    if std::fs::remove_file(file).is_ok() {
        done.push("removed");
    }
    done
}
