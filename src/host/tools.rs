//! The programs of the operating system that comfy runs: the one table of their paths.
//!
//! Interpreters, git and uv are no part of it: they are searched for.

use std::path::{Path, PathBuf};

use crate::host::env;
use crate::host::machine::operating_system;

// Directory Services (DSTools) and access lists of macOS.
pub(crate) const DSCL: &str = "/usr/bin/dscl";
pub(crate) const DSEDITGROUP: &str = "/usr/sbin/dseditgroup";
pub(crate) const ID: &str = "/usr/bin/id";
pub(crate) const LS: &str = "/bin/ls";
pub(crate) const CHMOD: &str = "/bin/chmod";
pub(crate) const GETCONF: &str = "/usr/bin/getconf";
pub(crate) const STAT: &str = "/usr/bin/stat";

// Processes and sessions of macOS.
pub(crate) const PS: &str = "/bin/ps";
pub(crate) const LSOF: &str = "/usr/sbin/lsof";
pub(crate) const SANDBOX_EXEC: &str = crate::confine::seatbelt::PROGRAM;
pub(crate) const OPEN: &str = "/usr/bin/open";
pub(crate) const TOP: &str = "/usr/bin/top";
pub(crate) const LAUNCHCTL: &str = "/bin/launchctl";
pub(crate) const SLEEP: &str = "/bin/sleep";

// The report of `comfy doctor` on macOS.
pub(crate) const SW_VERS: &str = "/usr/bin/sw_vers";
pub(crate) const SYSCTL: &str = "/usr/sbin/sysctl";
pub(crate) const LOG: &str = "/usr/bin/log";

// Distributions of Linux disagree about folders.
pub(crate) const GROUPADD: &[&str] = &["/usr/sbin/groupadd", "/sbin/groupadd", "/usr/bin/groupadd"];
pub(crate) const GROUPDEL: &[&str] = &["/usr/sbin/groupdel", "/sbin/groupdel", "/usr/bin/groupdel"];
pub(crate) const USERADD: &[&str] = &["/usr/sbin/useradd", "/sbin/useradd", "/usr/bin/useradd"];
pub(crate) const USERMOD: &[&str] = &["/usr/sbin/usermod", "/sbin/usermod", "/usr/bin/usermod"];
pub(crate) const USERDEL: &[&str] = &["/usr/sbin/userdel", "/sbin/userdel", "/usr/bin/userdel"];
pub(crate) const GPASSWD: &[&str] = &["/usr/bin/gpasswd", "/usr/sbin/gpasswd"];
pub(crate) const NFT: &[&str] = &["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"];
pub(crate) const SYSTEMCTL: &[&str] = &["/usr/bin/systemctl", "/bin/systemctl"];
pub(crate) const XDG_OPEN: &[&str] = &["/usr/bin/xdg-open"];

// Of both systems.
pub(crate) const SUDO: &[&str] = &[
    "/usr/bin/sudo",
    "/usr/local/bin/sudo",
    "/opt/homebrew/bin/sudo",
];
pub(crate) const VISUDO: &[&str] = &["/usr/sbin/visudo", "/usr/local/sbin/visudo"];

/// Returns where to start a program of this table: its own path, or in a test (feature `faults`)
/// the program of that name in COMFY_TOOLS.
pub(crate) fn located(program: &str) -> PathBuf {
    let own = PathBuf::from(program);
    let double = env::test_switch("COMFY_TOOLS")
        .zip(own.file_name())
        .map(|(folder, name)| Path::new(&folder).join(name));
    double.filter(|p| p.exists()).unwrap_or(own)
}

/// Returns what a test that plays a Mac has recorded of a system call of macOS, by a file's name in
/// COMFY_TOOLS.
#[cfg(not(target_os = "macos"))]
pub(crate) fn recorded(name: &str) -> Option<String> {
    let folder = env::test_switch("COMFY_TOOLS")?;
    std::fs::read_to_string(Path::new(&folder).join(name)).ok()
}

/// Returns whether a program is, or leads to, one that opens the window "install the developer tools"
/// where those are missing: on a Mac, /usr/bin/git, python3 and their like (xcode-select(1)).
pub(crate) fn is_apple_stub(program: &Path) -> bool {
    const STUBS: [&str; 3] = ["git", "python3", "install_name_tool"];
    let is_stub = |p: &Path| {
        p.parent() == Some(Path::new("/usr/bin"))
            && STUBS.iter().any(|s| p.file_name().is_some_and(|n| n == *s))
    };
    operating_system().is_macos()
        && (is_stub(program) || program.canonicalize().is_ok_and(|real| is_stub(&real)))
}

/// Returns the first of these paths that exists.
pub(crate) fn first_existing<'a>(candidates: &[&'a str]) -> Option<&'a str> {
    candidates.iter().find(|p| located(p).exists()).copied()
}
