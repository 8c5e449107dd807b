//! Where comfy.toml may not point: folders of the system, and those of a home where keys and settings are. Paths as text alone; whoever
//! knows the disk asks again with the real path.

use std::path::{Component, Path};

const SYSTEM: &[&str] = &[
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/var",
    "/Applications",
    "/Library",
    "/System",
    "/Users",
    "/Volumes",
    "/private",
    "/private/tmp",
    "/private/var",
    "/cores",
];
/// Nothing at any depth below these is anybody's to share.
const NEVER_BELOW: &[&str] = &[
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib64",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/System",
    "/Library",
    "/private/etc",
    "/private/var/db",
    "/Applications",
    "/var/lib",
    "/var/log",
    "/var/spool",
    "/var/cache",
    "/cores",
];

/// Whether a path is the system's.
pub fn systems_own(path: &Path) -> bool {
    SYSTEM.iter().any(|s| path == Path::new(s)) || NEVER_BELOW.iter().any(|s| path.starts_with(s))
}

/// Whether a path below `home` goes through a hidden folder, or is one. macOS hides `~/Library` by a flag.
pub fn hidden(home: &Path, path: &Path) -> bool {
    let Ok(rest) = path.strip_prefix(home) else { return false };
    let name = |c: Component| c.as_os_str().to_string_lossy().starts_with('.');
    rest.components().any(name) || rest.starts_with("Library")
}

/// What is wrong with a place that the owner's shells, desktop and services may run things from, or keep keys in; `home` is the owner's.
pub fn closed(home: &Path, path: &Path) -> Option<&'static str> {
    if systems_own(path) {
        return Some("belongs to the system");
    }
    if hidden(home, path) {
        return Some("lies in a hidden folder of your home, where keys and settings are");
    }
    // Debian's ~/.profile puts ~/bin into PATH; folders of that name are for programs everywhere (hier(7)).
    let programs = matches!(path.file_name().map(|n| n.to_string_lossy()).as_deref(), Some("bin" | "sbin"));
    programs.then_some("is a folder where shells look for programs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_and_a_home_keep_for_themselves_is_closed() {
        let home = Path::new("/home/alice");
        let table = [
            ("/etc/systemd/system/cron.service.d", "system"),
            ("/etc/profile.d/x.sh", "system"),
            ("/usr/local/bin", "system"),
            ("/var/spool/cron/x", "system"),
            ("/opt", "system"),
            ("/home/alice/.config/fish/conf.d", "hidden"),
            ("/home/alice/.bash_profile", "hidden"),
            ("/home/alice/work/repo/.git/hooks", "hidden"),
            ("/home/alice/Library/LaunchAgents", "hidden"),
            ("/home/alice/bin", "programs"),
            ("/opt/tools/bin", "programs"),
            ("/home/alice/ai/ComfyUI", ""),
            ("/home/alice/Librarything", ""),
            ("/home/alicea/.x", ""),
            ("/srv/ai/.models", ""),
            ("/opt/ai", ""),
        ];
        for (path, why) in table {
            let found = closed(home, Path::new(path));
            assert!(if why.is_empty() { found.is_none() } else { found.is_some_and(|f| f.contains(why)) }, "{path}: {found:?}");
        }
    }
}
