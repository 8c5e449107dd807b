//! The mount namespace of a launch: a new root that contains only what the rules name
//! (pivot_root(2)).

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::fstat;

use crate::confine::{Confinement, PrivateMount};
use crate::host::fs::file_type;
use crate::host::fs::mounts::attach_mount;
use crate::plan::observed::FileType;
use crate::problem::{Context, Problem, Result};

/// Where the new root is put together; any folder that every system has.
const STAGE: &str = "/tmp";
/// The old root, while it is needed.
const OLD: &str = ".old";

const NONE: Option<&str> = None;
const QUIET: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);

/// A mount that was made of what the launcher looked at, and its place in the new root.
pub(crate) struct PlacedMount {
    pub at: PathBuf,
    pub mount: OwnedFd,
}

/// Builds it in this process's mount namespace, which must be its own, and goes there. `temps`: one
/// mount for each [`PrivateMount::Temp`].
///
/// # Errors
/// A mount that the kernel refuses, by its path.
pub(crate) fn build_root(
    c: &Confinement,
    mounted: &[PlacedMount],
    temps: Vec<OwnedFd>,
) -> Result<()> {
    let stage = Path::new(STAGE);
    // Mounts from here on do not propagate.
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
        .context("detach from the system's mounts")?;
    mount(
        Some("tmpfs"),
        stage,
        Some("tmpfs"),
        QUIET,
        Some("size=4m,mode=755"),
    )
    .with_context(|| format!("mount on {STAGE}"))?;
    let old = stage.join(OLD);
    std::fs::create_dir(&old).context("make a folder for the old root")?;
    nix::unistd::pivot_root(stage, &old).context("change the root")?;
    std::env::set_current_dir("/").context("enter the new root")?;
    let old = Path::new("/").join(OLD);
    umount2(&old, MntFlags::MNT_DETACH).context("let go of the old root")?;
    std::fs::remove_dir(&old).context("let go of the old root")?;
    for m in mounted {
        place_mount(m)?;
    }
    // Nothing is made in what came from the system: a link there came along.
    for (at, to) in c
        .links
        .iter()
        .filter(|(at, _)| !mounted.iter().any(|m| at.starts_with(&m.at)))
    {
        make_link(at, to).with_context(|| format!("lead {} to {}", at.display(), to.display()))?;
    }
    let mut temps = temps.into_iter();
    for (path, room) in &c.rooms {
        self::make_mount(path, *room, &mut temps)?;
    }
    make_fd_links()?;
    // The root itself stays as it is now.
    mount(
        NONE,
        "/",
        NONE,
        MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | QUIET,
        NONE,
    )
    .context("seal the new root")
}

/// Mounts it under its path in the new root.
fn place_mount(m: &PlacedMount) -> Result<()> {
    let what = || format!("bring {} into the new root", m.at.display());
    if m.at.symlink_metadata().is_ok() {
        // It came with a folder above it.
        return Ok(());
    }
    if file_type(&fstat(&m.mount).with_context(what)?) == FileType::Dir {
        std::fs::create_dir_all(&m.at).with_context(what)?;
    } else {
        std::fs::create_dir_all(m.at.parent().unwrap_or(&m.at)).with_context(what)?;
        std::fs::File::create(&m.at).with_context(what)?;
    }
    attach_mount(&m.mount, &m.at).with_context(what)
}

fn make_link(at: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(at.parent().unwrap_or(at))?;
    std::os::unix::fs::symlink(to, at)
}

fn make_mount(
    path: &Path,
    room: PrivateMount,
    temps: &mut dyn Iterator<Item = OwnedFd>,
) -> Result<()> {
    let what = || format!("mount {} for the launch alone", path.display());
    std::fs::create_dir_all(path).with_context(what)?;
    let exec = QUIET | MsFlags::MS_NOEXEC;
    match room {
        PrivateMount::Temp => {
            let temp = temps
                .next()
                .ok_or_else(|| Problem::new(format!("no folder for {}", path.display())))?;
            return attach_mount(&temp, path).with_context(what);
        }
        PrivateMount::Memory => mount(
            Some("tmpfs"),
            path,
            Some("tmpfs"),
            exec,
            Some("mode=1777,size=50%,nr_inodes=1m"),
        ),
        PrivateMount::Processes => mount(Some("proc"), path, Some("proc"), exec, NONE),
        PrivateMount::Hardware => mount(
            Some("sysfs"),
            path,
            Some("sysfs"),
            exec | MsFlags::MS_RDONLY,
            NONE,
        ),
    }
    .with_context(what)
}

/// Names below /dev that lead to a process's own descriptors, as every system has them.
fn make_fd_links() -> Result<()> {
    let dev = PathBuf::from("/dev");
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        std::os::unix::fs::symlink(target, dev.join(name))
            .with_context(|| format!("make /dev/{name}"))?;
    }
    Ok(())
}
