//! `run.memory_reserve`: a launch gets all memory but what is kept for the system, by a control
//! group (cgroups(7)) of its own in whichever hierarchy has the memory controller. What it maps of
//! files is given back by the kernel before it counts. The number of its processes is limited there
//! too, where the system has the controller.

use std::path::{Path, PathBuf};

use crate::host::fs::edit;

/// The hierarchies, newer first: where they are mounted, and the file with the limit.
const V2: &str = "/sys/fs/cgroup";
const V1: &str = "/sys/fs/cgroup/memory";
/// With less than this nothing could be computed at all, so nothing is limited.
const LEAST: u64 = 1 << 30;
/// From the making of a group to its first process it takes milliseconds.
const FRESH: std::time::Duration = std::time::Duration::from_secs(60);

/// Processes and threads of a launch: many more than ComfyUI has, far fewer than a machine can
/// have.
pub(crate) const PROCESSES: u64 = 8192;
/// The older hierarchy of the controller of processes.
const V1_PIDS: &str = "/sys/fs/cgroup/pids";

/// Control groups of a launch, one in each hierarchy; gone with this, once nobody is in them.
pub(crate) struct MemoryCgroup(Vec<PathBuf>);

/// Makes the group for an instance, that may use all but `reserve` bytes.
///
/// # Errors
/// Why there is none, as text.
pub(crate) fn create_cgroup(instance: &str, reserve: u64) -> Result<MemoryCgroup, String> {
    let total = total_memory().ok_or("the system does not report how much memory it has")?;
    let limit = total
        .checked_sub(reserve)
        .filter(|l| *l >= LEAST)
        .ok_or_else(|| {
            format!(
                "{} of {} leaves no memory to work with",
                crate::text::format_bytes(reserve),
                crate::text::format_bytes(total)
            )
        })?;
    // One for each launch: what is tried beside a ComfyUI that runs does not take it along.
    let prefix = format!("comfy-{instance}-");
    let name = format!(
        "{prefix}{}",
        edit::random_suffix().map_err(|e| e.to_string())?
    );
    let controllers =
        std::fs::read_to_string(Path::new(V2).join("cgroup.controllers")).unwrap_or_default();
    let has = |controller: &str| controllers.split_whitespace().any(|c| c == controller);
    let mut group = MemoryCgroup(Vec::new());
    if has("memory") {
        // Passed on to groups below; they mostly are already.
        for controller in ["+memory", "+pids"] {
            let _ = std::fs::write(Path::new(V2).join("cgroup.subtree_control"), controller);
        }
        group
            .add_folder(Path::new(V2), &prefix, &name)?
            .write_limit("memory.max", limit)?;
        // All of them or none: half a ComfyUI is of no use.
        let _ = group.write_limit("memory.oom.group", 1);
    } else if Path::new(V1).join("memory.limit_in_bytes").exists() {
        group
            .add_folder(Path::new(V1), &prefix, &name)?
            .write_limit("memory.limit_in_bytes", limit)?;
    } else {
        return Err("this system has no control groups for memory".into());
    }
    // Where it is missing, a limit of the account's stands alone (setrlimit(2), RLIMIT_NPROC).
    if has("pids") || group.add_folder(Path::new(V1_PIDS), &prefix, &name).is_ok() {
        let _ = group.write_limit("pids.max", PROCESSES);
    }
    Ok(group)
}

impl MemoryCgroup {
    /// One more, in the hierarchy at `top`.
    fn add_folder(
        &mut self,
        top: &Path,
        prefix: &str,
        name: &str,
    ) -> Result<&mut MemoryCgroup, String> {
        // Removes the groups of killed launches: a group with a process stays, and a new one may
        // have no process yet.
        let old_enough = |e: &std::fs::DirEntry| {
            e.metadata()
                .and_then(|m| m.modified())
                .is_ok_and(|t| t.elapsed().is_ok_and(|age| age > FRESH))
        };
        for old in std::fs::read_dir(top).into_iter().flatten().flatten() {
            if old.file_name().to_string_lossy().starts_with(prefix) && old_enough(&old) {
                let _ = std::fs::remove_dir(old.path());
            }
        }
        let folder = top.join(name);
        match std::fs::create_dir(&folder) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(format!("{}: {e}", folder.display()));
            }
            _ => {}
        }
        self.0.push(folder);
        Ok(self)
    }

    /// Writes a file of the group that was made last.
    fn write_limit(&self, file: &str, value: u64) -> Result<(), String> {
        let at = self
            .0
            .last()
            .ok_or("no control group was created")?
            .join(file);
        std::fs::write(&at, value.to_string()).map_err(|e| format!("{}: {e}", at.display()))
    }

    /// Puts a process in, and with it all that it starts from now on.
    ///
    /// # Errors
    /// Why not, as text.
    pub(crate) fn add_process(&self, pid: u32) -> Result<(), String> {
        for group in &self.0 {
            let at = group.join("cgroup.procs");
            std::fs::write(&at, pid.to_string()).map_err(|e| format!("{}: {e}", at.display()))?;
        }
        Ok(())
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        // The last of its processes may take a moment to be gone; an empty group does no harm, and
        // is removed by a later launch.
        for _ in 0..5 {
            self.0.retain(|group| std::fs::remove_dir(group).is_err());
            if self.0.is_empty() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

/// Bytes of memory of this machine (proc_meminfo(5)).
fn total_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}
