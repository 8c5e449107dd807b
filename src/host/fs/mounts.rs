//! Which paths are mount points: what `requires_mount` asks.

use std::path::Path;

/// Whether something is mounted exactly at `path`. Told by the kernel's own table: st_dev differs inside an overlay too.
#[cfg(target_os = "linux")]
pub fn is_mounted(path: &Path) -> std::io::Result<bool> {
    // proc_pid_mountinfo(5): the fifth field is the mount point, with octal escapes.
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    let wanted = path.to_string_lossy();
    Ok(table.lines().filter_map(|l| l.split(' ').nth(4)).any(|m| unescape(m) == wanted))
}

#[cfg(target_os = "linux")]
fn unescape(field: &str) -> String {
    let mut out = String::new();
    let mut rest = field;
    while let Some(i) = rest.find('\\') {
        out.push_str(&rest[..i]);
        match rest.get(i + 1..i + 4).and_then(|o| u8::from_str_radix(o, 8).ok()) {
            Some(b) => {
                out.push(b as char);
                rest = &rest[i + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[i + 1..];
            }
        }
    }
    out + rest
}

/// statfs(2) names the mount point of the file system that holds the path.
#[cfg(target_os = "macos")]
pub fn is_mounted(path: &Path) -> std::io::Result<bool> {
    use std::os::unix::ffi::OsStrExt;
    let c = super::cstring(path.as_os_str())?;
    // SAFETY: an all-zero statfs is a valid value to be filled in.
    let mut st: nix::libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path is NUL-terminated and `st` outlives the call.
    if unsafe { nix::libc::statfs(c.as_ptr(), &raw mut st) } != 0 {
        let e = std::io::Error::last_os_error();
        return if e.kind() == std::io::ErrorKind::NotFound { Ok(false) } else { Err(e) };
    }
    let name: Vec<u8> = st.f_mntonname.iter().take_while(|c| **c != 0).map(|c| *c as u8).collect();
    Ok(name == path.as_os_str().as_bytes())
}
