//! The network namespace of a launch: a loopback device and nothing else (network_namespaces(7)).

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, setns, unshare};

use crate::problem::{Context, Problem, Result};

/// Creates one, with its loopback device up. It exists as long as a process holds the descriptor or
/// is in it.
///
/// # Errors
/// Without root, or if the kernel or a container forbids it.
pub(crate) fn create_netns() -> Result<OwnedFd> {
    // In a thread of its own: this process stays where it is.
    let made = std::thread::spawn(|| -> Result<OwnedFd> {
        unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
        loopback_up().context("bring up its loopback device")?;
        let file = std::fs::File::open("/proc/thread-self/ns/net")
            .context("open the network namespace")?;
        Ok(file.into())
    });
    made.join().unwrap_or_else(|_| {
        Err(Problem::new(
            "the thread that makes the network namespace ended",
        ))
    })
}

/// Moves this thread into that network.
///
/// # Errors
/// Without root.
pub(crate) fn enter_netns(room: &OwnedFd) -> Result<()> {
    setns(room, CloneFlags::CLONE_NEWNET).context("enter the network namespace")
}

/// Brings up the loopback device of this thread's network (netdevice(7)).
///
/// # Errors
/// Without root.
pub fn loopback_up() -> std::io::Result<()> {
    // SAFETY: plain calls; the request is a local value that outlives them.
    unsafe {
        let fd = Errno::result(libc::socket(
            libc::AF_INET,
            libc::SOCK_DGRAM | libc::SOCK_CLOEXEC,
            0,
        ))?;
        let fd = OwnedFd::from_raw_fd(fd);
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        Errno::result(libc::ioctl(
            fd.as_raw_fd(),
            libc::SIOCGIFFLAGS as _,
            &mut request,
        ))?;
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        Errno::result(libc::ioctl(
            fd.as_raw_fd(),
            libc::SIOCSIFFLAGS as _,
            &request,
        ))?;
    }
    Ok(())
}
