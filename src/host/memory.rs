//! `run.memory_reserve`: a launch gets all memory but what is kept for the system, by a control group (cgroups(7)) of its own
//! in whichever hierarchy has the memory controller. What it maps of files is given back by the kernel before it counts.

use std::path::{Path, PathBuf};

use super::fs::edit;

/// The hierarchies, newer first: where they are mounted, and the file with the limit.
const V2: &str = "/sys/fs/cgroup";
const V1: &str = "/sys/fs/cgroup/memory";
/// With less than this nothing could be computed at all, so nothing is limited.
const LEAST: u64 = 1 << 30;
/// From the making of a group to its first process it takes milliseconds.
const FRESH: std::time::Duration = std::time::Duration::from_secs(60);

/// A control group; gone with this, once nobody is in it.
pub struct Group(PathBuf);

/// Makes the group for an instance, that may use all but `reserve` bytes.
///
/// # Errors
/// Why there is none, in words.
pub fn group(instance: &str, reserve: u64) -> Result<Group, String> {
    let total = total().ok_or("the system does not tell how much memory there is")?;
    let limit = total
        .checked_sub(reserve)
        .filter(|l| *l >= LEAST)
        .ok_or_else(|| format!("{} of {} leaves nothing to work with", crate::text::bytes(reserve), crate::text::bytes(total)))?;
    let said = |path: &Path, e: std::io::Error| format!("{}: {e}", path.display());
    // One for each launch: what is tried beside a ComfyUI that runs does not take it along.
    let name = format!("comfy-{instance}-{}", edit::chance().map_err(|e| e.to_string())?);
    let controllers = std::fs::read_to_string(Path::new(V2).join("cgroup.controllers")).unwrap_or_default();
    let (folder, file) = if controllers.split_whitespace().any(|c| c == "memory") {
        // Passed on to groups below; it mostly is already.
        let _ = std::fs::write(Path::new(V2).join("cgroup.subtree_control"), "+memory");
        (Path::new(V2).join(name), "memory.max")
    } else if Path::new(V1).join("memory.limit_in_bytes").exists() {
        (Path::new(V1).join(name), "memory.limit_in_bytes")
    } else {
        return Err("this system has no control groups for memory".into());
    };
    // What killed launches have left: one with somebody in it stays, and a new one may have nobody in it yet.
    let old_enough = |e: &std::fs::DirEntry| e.metadata().and_then(|m| m.modified()).is_ok_and(|t| t.elapsed().is_ok_and(|age| age > FRESH));
    for old in folder.parent().and_then(|p| std::fs::read_dir(p).ok()).into_iter().flatten().flatten() {
        if old.file_name().to_string_lossy().starts_with(&format!("comfy-{instance}-")) && old_enough(&old) {
            let _ = std::fs::remove_dir(old.path());
        }
    }
    match std::fs::create_dir(&folder) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(said(&folder, e)),
        _ => {}
    }
    let group = Group(folder);
    let at = group.0.join(file);
    std::fs::write(&at, limit.to_string()).map_err(|e| said(&at, e))?;
    if file == "memory.max" {
        // All of them or none: half a ComfyUI is of no use.
        let _ = std::fs::write(group.0.join("memory.oom.group"), "1");
    }
    Ok(group)
}

impl Group {
    /// Puts a process in, and with it all that it starts from now on.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn take(&self, pid: u32) -> Result<(), String> {
        let at = self.0.join("cgroup.procs");
        std::fs::write(&at, pid.to_string()).map_err(|e| format!("{}: {e}", at.display()))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The last of its processes may take a moment to be gone; an empty group does no harm, and is taken again.
        for _ in 0..5 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

/// Bytes of memory of this machine (proc_meminfo(5)).
fn total() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}
