//! Everything that a launch mounts, repairs or tries, opened once: component by component, without
//! links, and asked whose it is. What is done with it afterwards is done with the descriptor,
//! whatever the sandbox user or the owner puts in the path's place meanwhile.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::sys::stat::fstat;

use crate::confine::{Confinement, PathOwner, PathRule};
use crate::desired::launch::LaunchSpec;
use crate::host::fs::{self, mounts, trusted};
use crate::plan::observed::FileType;
use crate::problem::{Context, Problem, Result};

/// What a rule of the confinement stands for on this machine.
pub(crate) struct OpenedPath {
    /// Which rule.
    pub rule: usize,
    pub fd: OwnedFd,
}

/// All that a launch needs, and what of the system was left out, in words.
#[derive(Default)]
pub(crate) struct OpenedPaths {
    pub opened: Vec<OpenedPath>,
    pub left_out: Vec<String>,
}

impl OpenedPaths {
    /// The descriptor of the rule with that path.
    pub(crate) fn at<'a>(&'a self, c: &Confinement, path: &Path) -> Option<&'a OwnedFd> {
        self.opened
            .iter()
            .find(|o| c.rules[o.rule].path == path)
            .map(|o| &o.fd)
    }
}

/// Opens it, as root. `tried`: nothing of the code is started, what is wrong with it is to be
/// found.
///
/// # Errors
/// A part of comfy's own, of the sandbox user's or of a share is not there, is a link, belongs to
/// somebody else, or lies where others could put another folder in its place.
pub(crate) fn open_all(c: &Confinement, spec: &LaunchSpec, tried: bool) -> Result<OpenedPaths> {
    let (mut opened, mut left_out) = (Vec::new(), Vec::new());
    for (rule, r) in c.rules.iter().enumerate() {
        let fd = match r.whose {
            PathOwner::Room => continue,
            PathOwner::System | PathOwner::Interpreter => match open_system(r, spec.owner) {
                Ok(fd) => fd,
                Err(why) => {
                    left_out.push(why);
                    None
                }
            },
            PathOwner::Sealed if tried => Some(trusted::open_plain(&r.path)?),
            PathOwner::Sealed => Some(
                open_owned(&r.path, 0, &[spec.owner, 0])
                    .map_err(|p| p.with_hint("run `comfy apply`"))?,
            ),
            PathOwner::Own => Some(open_sandbox_folder(&r.path, spec)?),
            PathOwner::Share => Some(open_share(&r.path, spec)?),
        };
        opened.extend(fd.map(|fd| OpenedPath { rule, fd }));
    }
    Ok(OpenedPaths { opened, left_out })
}

/// Opens what the system has at that path, through links that root owns; `None` if it has none.
fn open_system(r: &PathRule, owner: u32) -> std::result::Result<Option<OwnedFd>, String> {
    let owners: &[u32] = if r.whose == PathOwner::Interpreter {
        &[0, owner]
    } else {
        &[0]
    };
    let missing = |p: &Path| {
        nix::sys::stat::lstat(p)
            .is_err_and(|e| matches!(e, nix::Error::ENOENT | nix::Error::ENOTDIR))
    };
    if missing(&r.path) {
        return Ok(None);
    }
    let real = fs::real_path(&r.path, 0)
        .map_err(|u| format!("{} is left out: {}", r.path.display(), u.reason))?;
    // A dangling link.
    if missing(&real) {
        return Ok(None);
    }
    trusted::open_guarded(&real, owners)
        .map(Some)
        .map_err(|p| format!("{} is left out: {}", r.path.display(), p.message))
}

/// A folder that belongs to `uid`.
fn open_owned(path: &Path, uid: u32, owners: &[u32]) -> Result<OwnedFd> {
    let fd = trusted::open_guarded(path, owners)?;
    let st = fstat(&fd).with_context(|| format!("look at {}", path.display()))?;
    if fs::file_type(&st) != FileType::Dir || st.st_uid != uid {
        let is = if fs::file_type(&st) == FileType::Dir {
            format!("belongs to uid {}, not {uid}", st.st_uid)
        } else {
            "is not a folder".into()
        };
        return Err(Problem::new(format!(
            "{} {is}, so nothing is started",
            path.display()
        )));
    }
    Ok(fd)
}

/// A folder of the sandbox user's own, on no file system of its own.
fn open_sandbox_folder(path: &Path, spec: &LaunchSpec) -> Result<OwnedFd> {
    let fd = open_owned(path, spec.uid, &[spec.owner, 0])
        .map_err(|p| p.with_hint("`comfy plan` shows it, `comfy apply` repairs it"))?;
    if mounts::is_mount_root(&fd)
        .with_context(|| format!("check whether something is mounted on {}", path.display()))?
    {
        return Err(Problem::new(format!(
            "something is mounted on {}, so nothing is started",
            path.display()
        ))
        .with_hint(format!("sudo umount {}", path.display())));
    }
    Ok(fd)
}

fn open_share(path: &Path, spec: &LaunchSpec) -> Result<OwnedFd> {
    let share = spec.shares.iter().find(|s| s.path == path);
    let name = |p: Problem| {
        p.with_prefix(&share.map_or(String::new(), |s| format!("share {}: ", s.name)))
            .with_hint("`comfy plan` shows it, `comfy apply` repairs it")
    };
    let owners = [spec.owner, 0];
    match share.filter(|s| s.modes && s.manage) {
        Some(s) => open_owned(path, s.owner, &owners).map_err(name),
        // Servers and volumes that ignore owners show whom they like; in a sticky folder anybody
        // could have made it.
        None => {
            let fd = trusted::open_guarded(path, &owners).map_err(name)?;
            let look = || format!("look at {}", path.display());
            let st = fstat(&fd).with_context(look)?;
            if fs::file_type(&st) != FileType::Dir {
                return Err(name(Problem::new(format!(
                    "{} is not a folder",
                    path.display()
                ))));
            }
            let above = path
                .parent()
                .map(nix::sys::stat::lstat)
                .transpose()
                .with_context(look)?;
            let sticky = above.is_some_and(|a| fs::permission_bits(&a) & 0o1000 != 0);
            if sticky
                && !owners.contains(&st.st_uid)
                && !mounts::is_mount_root(&fd).with_context(look)?
            {
                return Err(name(Problem::new(format!(
                    "{} belongs to uid {}, in a folder where anybody can create files",
                    path.display(),
                    st.st_uid
                ))));
            }
            Ok(fd)
        }
    }
}

/// Returns the rules with the real paths of what was opened, for a kernel that takes paths, and the
/// links that lead there.
///
/// # Errors
/// If the system does not report a descriptor's path.
pub(crate) fn by_real_path(
    c: &Confinement,
    everything: &OpenedPaths,
    owner: u32,
) -> Result<Confinement> {
    let real = |o: &OpenedPath| -> Result<PathRule> {
        let rule = c.rules[o.rule].clone();
        let path =
            real_path(&o.fd).with_context(|| format!("find where {} is", rule.path.display()))?;
        Ok(PathRule { path, ..rule })
    };
    let temp = everything.at(c, &c.temp).map(real_path).transpose();
    Ok(Confinement {
        rules: everything.opened.iter().map(real).collect::<Result<_>>()?,
        links: links_to(c, owner),
        temp: temp
            .context("find where the temporary folder is")?
            .unwrap_or_default(),
        ..c.clone()
    })
}

/// The same as the owner sees it, who launches without another account, and in words what of its
/// own the launch does not have.
pub(crate) fn by_canonical_path(c: &Confinement, owner: u32) -> (Confinement, Vec<String>) {
    let (mut rules, mut missing) = (Vec::new(), Vec::new());
    for r in &c.rules {
        match r.path.canonicalize() {
            Ok(path) => rules.push(PathRule { path, ..r.clone() }),
            Err(_) if matches!(r.whose, PathOwner::System | PathOwner::Interpreter) => {}
            Err(e) => missing.push(format!(
                "ComfyUI does not reach {} ({}): {e}",
                r.path.display(),
                r.why
            )),
        }
    }
    let c = Confinement {
        rules,
        links: links_to(c, owner),
        temp: c.temp.canonicalize().unwrap_or_default(),
        ..c.clone()
    };
    (c, missing)
}

/// Every link on the way to what is allowed, with what it leads to in the end. One that cannot be
/// followed leads nowhere.
fn links_to(c: &Confinement, owner: u32) -> Vec<(PathBuf, PathBuf)> {
    let written = c.links.iter().map(|(written, real)| (written, real));
    let rules = c.rules.iter().map(|r| (&r.path, &r.path));
    let mut out = std::collections::BTreeMap::new();
    for (path, real) in written.chain(rules) {
        for link in fs::links_on_way(path, owner).unwrap_or_default() {
            out.entry(link).or_insert_with(|| real.clone());
        }
    }
    out.into_iter().collect()
}

/// fcntl(2), F_GETPATH.
#[cfg(target_os = "macos")]
fn real_path(fd: &OwnedFd) -> nix::Result<PathBuf> {
    let mut path = PathBuf::new();
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETPATH(&mut path))?;
    Ok(path)
}

#[cfg(not(target_os = "macos"))]
fn real_path(fd: &OwnedFd) -> nix::Result<PathBuf> {
    use std::os::fd::AsRawFd;
    nix::fcntl::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()).as_str()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::confine::PathAccess;

    #[test]
    fn every_link_on_the_way_is_found_and_what_is_missing_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(top.join("disk/real/models")).unwrap();
        symlink("disk", top.join("volume")).unwrap();
        symlink(top.join("volume/real"), top.join("ai")).unwrap();
        let rule = |path: PathBuf, whose, why: &str| PathRule {
            path,
            may: PathAccess::Read,
            whose,
            why: why.into(),
        };
        let c = Confinement {
            rules: vec![
                rule(top.join("ai/models"), PathOwner::Share, "share models"),
                rule(top.join("ai/gone"), PathOwner::Share, "share gone"),
                rule(top.join("no/lib64"), PathOwner::Interpreter, "its library"),
            ],
            links: vec![(top.join("ai/models"), top.join("disk/real/models"))],
            temp: top.join("ai"),
            ..Confinement::default()
        };
        let me = nix::unistd::geteuid().as_raw();
        let (real, missing) = by_canonical_path(&c, me);
        let rules: Vec<_> = real.rules.iter().map(|r| r.path.clone()).collect();
        assert_eq!(rules, [top.join("disk/real/models")]);
        assert_eq!(real.temp, top.join("disk/real"));
        let links: Vec<_> = real.links.iter().map(|(at, _)| at.clone()).collect();
        assert_eq!(links, [top.join("ai"), top.join("volume")]);
        let told = missing.join("\n").replace(&top.display().to_string(), "");
        insta::assert_snapshot!(told, @"ComfyUI does not reach /ai/gone (share gone): No such file or directory (os error 2)");
    }
}
