use crate::host::build::{interpreter, venv};
pub mod accounts;
pub mod browser;
pub mod build;
mod causes;
pub mod confine;
pub mod egress_filter;
pub mod elevate;
pub mod env;
pub mod executor;
pub mod faults;
pub mod fs;
pub mod git;
pub mod lines;
pub mod machine;
pub mod memory_cgroup;
pub mod models;
pub mod net;
pub mod peer;
pub mod process;
pub mod python;
pub mod reserved_ids;
pub mod roles;
pub mod sandbox_state;
pub mod sealed;
pub mod shares;
pub mod signals;
pub mod system_files;
pub mod terminal;
pub mod uv;

/// What lies on the disk.
pub fn on_disk(paths: &super::desired::InstancePaths) -> crate::plan::removal::OnDisk {
    crate::plan::removal::OnDisk {
        generations: generations(paths),
        venvs: venv::installed_venvs(paths),
        pythons: interpreter::installed_versions(paths),
    }
}

/// Names of the generations on the disk, sorted.
pub fn generations(paths: &super::desired::InstancePaths) -> Vec<crate::ids::GenerationId> {
    content_ids(&paths.generations_dir())
}

/// The entries of `folder` whose names are ids, sorted.
fn content_ids<T: std::str::FromStr + Ord>(folder: &std::path::Path) -> Vec<T> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut all: Vec<T> = entries
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect();
    all.sort();
    all
}
