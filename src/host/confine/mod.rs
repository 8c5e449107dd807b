//! What the kernel does for a launch. Linux: rooms of its own (`mount_namespace`, `netns`), which
//! files and ports (`landlock_rules`), and which system calls not (`seccomp_filter`). macOS: a
//! Seatbelt profile, which sandbox-exec(1) applies to a launch, and `sandbox_init` to comfy's own
//! processes.

#[cfg(target_os = "linux")]
pub(crate) mod landlock_rules;
#[cfg(target_os = "linux")]
pub(crate) mod mount_namespace;
#[cfg(target_os = "linux")]
pub mod netns;
pub(crate) mod opened_paths;
#[cfg(not(target_os = "linux"))]
pub(crate) mod sandbox_init;
#[cfg(target_os = "linux")]
pub(crate) mod seccomp_filter;

use crate::confine::Confinement;

/// Returns whether there is a graphics card for CUDA or ROCm, which ComfyUI looks for itself.
pub(crate) fn has_card(c: &Confinement) -> bool {
    const DRIVERS: [&str; 3] = ["/dev/nvidiactl", "/dev/kfd", "/dev/dxg"];
    c.rules
        .iter()
        .any(|r| DRIVERS.iter().any(|d| r.path.as_os_str() == *d) && r.path.exists())
}

/// Returns what this kernel cannot enforce, as text.
#[cfg(target_os = "linux")]
pub(crate) fn missing_features(rooms: bool) -> Vec<String> {
    let mut out = Vec::new();
    let abi = landlock_rules::landlock_abi();
    if abi < 1 {
        out.push(
            "this kernel has no Landlock (kernel 5.13 and newer, with `landlock` in its \
            `lsm=`): files are protected only by accounts and modes"
                .into(),
        );
    } else if abi < 3 {
        out.push(
            "this kernel's Landlock is older than Linux 6.2 and does not control truncation".into(),
        );
    }
    if !seccomp_filter::is_available() {
        out.push("this kernel does not filter system calls (seccomp)".into());
    }
    if !rooms && (1..4).contains(&abi) {
        out.push(
            "this kernel's Landlock is older than Linux 6.7 and does not control TCP ports".into(),
        );
    }
    if !rooms && (1..6).contains(&abi) {
        out.push(
            "this kernel's Landlock is older than Linux 6.12 and does not block signals and \
                abstract sockets"
                .into(),
        );
    }
    out
}

/// The folders that macOS gives the account that asks for caches and temporary files (confstr(3)),
/// by real path; Metal's compiler writes there.
pub(crate) fn darwin_user_dirs() -> Vec<std::path::PathBuf> {
    #[cfg(target_os = "macos")]
    return [
        nix::libc::_CS_DARWIN_USER_DIR,
        nix::libc::_CS_DARWIN_USER_CACHE_DIR,
        nix::libc::_CS_DARWIN_USER_TEMP_DIR,
    ]
    .into_iter()
    .filter_map(darwin_user_dir)
    .collect();
    #[cfg(not(target_os = "macos"))]
    Vec::new()
}

#[cfg(target_os = "macos")]
fn darwin_user_dir(name: nix::libc::c_int) -> Option<std::path::PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let mut buffer = vec![0_u8; 1024];
    // SAFETY: the buffer is as long as is said.
    let n = unsafe { nix::libc::confstr(name, buffer.as_mut_ptr().cast(), buffer.len()) };
    (1..=buffer.len())
        .contains(&n)
        .then(|| buffer.truncate(n - 1))?;
    std::path::PathBuf::from(std::ffi::OsString::from_vec(buffer))
        .canonicalize()
        .ok()
}
