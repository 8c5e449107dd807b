//! Where comfy.toml must not point: system folders, and those of a home that contain keys and
//! settings. Paths are text here; callers that know the disk ask again with the real path.

use std::path::{Component, Path};

use super::platforms::OperatingSystem;

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
/// Nothing below these, at any depth, may be shared.
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
    "/private/var/at",
    "/private/var/db",
    "/private/var/folders",
    "/private/var/log",
    "/private/var/root",
    "/private/var/run",
    "/private/var/spool",
    "/var/at",
    "/var/folders",
    "/var/root",
    "/var/run",
    "/Applications",
    "/var/lib",
    "/var/log",
    "/var/spool",
    "/var/cache",
    "/cores",
];

/// Returns whether a path belongs to the system.
pub(crate) fn systems_own(os: OperatingSystem, path: &Path) -> bool {
    let volume = path
        .strip_prefix(VOLUMES)
        .is_ok_and(|rest| rest.components().count() > 1);
    SYSTEM.iter().any(|s| os.is_same(path, Path::new(s)))
        || (NEVER_BELOW.iter().any(|s| os.lies_in(path, Path::new(s))) && !volume)
}

/// Returns whether a path below `home` is hidden or goes through a hidden folder. macOS hides
/// `~/Library` by a flag.
pub(crate) fn is_hidden(os: OperatingSystem, home: &Path, path: &Path) -> bool {
    let Some(rest) = os.below(path, home) else {
        return false;
    };
    let name = |c: Component| c.as_os_str().to_string_lossy().starts_with('.');
    rest.components().any(name) || os.lies_in(rest, Path::new("Library"))
}

/// Where removable disks are mounted for users (udisks(8)), as USER/VOLUME.
const VOLUMES: &str = "/run/media";

/// Returns what is wrong with a file on the disk as a model's source, as it is written or as its
/// links resolve; `home` is the owner's, or `~`. The sandbox must not get to read keys or settings.
pub(crate) fn model_file(os: OperatingSystem, home: &Path, path: &Path) -> Option<&'static str> {
    let hub = path.starts_with(home.join(".cache/huggingface"));
    if systems_own(os, path) {
        return Some("belongs to the system");
    }
    if is_hidden(os, home, path) && !hub {
        return Some("is in a hidden folder of your home, where keys and settings are kept");
    }
    let (text, blob) = (path.to_string_lossy(), of_hub_cache(path));
    (!blob && !super::names::comes_with_models(&text)).then_some(
        "does not have the extension of a model (.safetensors, .ckpt, .pt, .pth, .bin, .gguf, \
         .onnx, …) or of a file that comes with one (.json, .yaml, .txt)",
    )
}

/// Returns whether the path is a file of Hugging Face's cache, which is named by its hash,
/// `models--ORG--NAME/blobs/HASH`, and which links point to (huggingface_hub, "Understand
/// caching").
fn of_hub_cache(path: &Path) -> bool {
    let name = |p: Option<&Path>| {
        p.and_then(Path::file_name)
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    let (hash, blobs) = (name(Some(path)), path.parent());
    [40, 64].contains(&hash.len())
        && hash.bytes().all(|b| b.is_ascii_hexdigit())
        && name(blobs) == "blobs"
        && name(blobs.and_then(Path::parent)).starts_with("models--")
}

/// Returns what is wrong with a place from which the owner's shells, desktop and services may run
/// programs, or where they keep keys; `home` is the owner's.
pub(crate) fn why_reserved(os: OperatingSystem, home: &Path, path: &Path) -> Option<&'static str> {
    if systems_own(os, path) {
        return Some("belongs to the system");
    }
    if is_hidden(os, home, path) {
        return Some("is in a hidden folder of your home, where keys and settings are kept");
    }
    // Debian's ~/.profile puts ~/bin into PATH; folders of that name hold programs everywhere
    // (hier(7)).
    let programs = matches!(
        path.file_name().map(|n| n.to_string_lossy()).as_deref(),
        Some("bin" | "sbin")
    ) || (os.is_macos()
        && path
            .file_name()
            .is_some_and(|n| ["bin", "sbin"].iter().any(|b| n.eq_ignore_ascii_case(b))));
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
            ("/run/media/alice", "system"),
            ("/run/media/alice/DISK", ""),
        ];
        for (path, why) in table {
            let found = why_reserved(OperatingSystem::Linux, home, Path::new(path));
            assert!(
                if why.is_empty() {
                    found.is_none()
                } else {
                    found.is_some_and(|f| f.contains(why))
                },
                "{path}: {found:?}"
            );
        }
    }

    #[test]
    fn on_a_mac_letters_of_another_case_or_form_name_the_same_folder() {
        let table = [
            ("/users/ALICE/.ssh", "hidden"),
            ("/Users/alice/library/Keychains", "hidden"),
            ("/LIBRARY/LaunchDaemons", "system"),
            ("/Private/ETC/sudoers.d", "system"),
            ("/private/var/root/x", "system"),
            ("/private/var/folders/zz/x", "system"),
            ("/Users/alice/BIN", "programs"),
            ("/Users/alice/ai", ""),
            ("/Users/alicea/.x", ""),
        ];
        for (path, why) in table {
            let (home, path) = (Path::new("/Users/alice"), Path::new(path));
            let found = why_reserved(OperatingSystem::MacOs, home, path).unwrap_or_default();
            let right = if why.is_empty() {
                found.is_empty()
            } else {
                found.contains(why)
            };
            assert!(right, "{}: {found:?}", path.display());
        }
        // Linux tells them apart; on a Mac é in one piece and in two is one name.
        let (linux, mac) = (OperatingSystem::Linux, OperatingSystem::MacOs);
        assert_eq!(
            why_reserved(linux, Path::new("/home/a"), Path::new("/LIB/x")),
            None
        );
        let (one, two) = (Path::new("/v/caf\u{e9}/m"), Path::new("/v/cafe\u{301}"));
        assert!(mac.lies_in(one, two) && !linux.lies_in(one, two));
        assert_eq!(mac.spelled("cafe\u{301}/x"), "caf\u{e9}/x");
    }

    #[test]
    fn a_model_is_no_key_and_no_setting() {
        let hub = "/home/alice/.cache/huggingface/hub/models--org--x";
        let hash = "0123456789abcdef0123456789abcdef01234567";
        let table = [
            ("/home/alice/.ssh/id_ed25519".to_string(), "hidden"),
            ("/home/alice/.ssh/key.bin".into(), "hidden"),
            ("/home/alice/work/.docker/config.json".into(), "hidden"),
            ("/home/alice/Library/Keychains/x.bin".into(), "hidden"),
            ("/home/alice/.cache/huggingface/token".into(), "extension"),
            ("/home/alice/.cache/huggingface-evil/x.bin".into(), "hidden"),
            ("/home/alice/Documents/passwords.kdbx".into(), "extension"),
            ("/home/alice/Documents/key.pem".into(), "extension"),
            ("/home/alice/ai/.bin".into(), "hidden"),
            ("/srv/.bin".into(), "extension"),
            ("/srv/blobs/0123".into(), "extension"),
            (format!("/srv/blobs/{hash}"), "extension"),
            ("/etc/ssl/private.json".into(), "system"),
            ("/var/lib/secret/x.bin".into(), "system"),
            ("/home/alice/ai/x.SafeTensors".into(), ""),
            ("/home/alice/ai/config.yaml".into(), ""),
            ("/home/alice/ai/spiece.model".into(), ""),
            (format!("{hub}/snapshots/{hash}/x.gguf"), ""),
            (format!("{hub}/blobs/{hash}"), ""),
            (format!("/data/hf/hub/models--org--x/blobs/{hash}"), ""),
            ("/run/media/alice/DISK/x.ckpt".into(), ""),
        ];
        for (path, why) in table {
            let found = model_file(
                OperatingSystem::Linux,
                Path::new("/home/alice"),
                Path::new(&path),
            );
            assert!(
                if why.is_empty() {
                    found.is_none()
                } else {
                    found.is_some_and(|f| f.contains(why))
                },
                "{path}: {found:?}"
            );
        }
        assert!(
            model_file(
                OperatingSystem::Linux,
                Path::new("~"),
                Path::new("~/.ssh/x.bin")
            )
            .is_some()
                && model_file(OperatingSystem::Linux, Path::new("~"), Path::new("~/x.bin"))
                    .is_none()
        );
    }
}
