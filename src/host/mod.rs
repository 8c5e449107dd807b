use crate::host::build::{interpreter, venv};
pub(crate) mod accounts;
pub(crate) mod advisories;
pub(crate) mod browser;
pub(crate) mod build;
mod causes;
pub mod confine;
pub(crate) mod egress_filter;
pub(crate) mod elevate;
pub(crate) mod env;
pub(crate) mod executor;
pub(crate) mod faults;
pub mod fs;
pub mod git;
pub(crate) mod installation;
pub(crate) mod lines;
pub(crate) mod machine;
pub(crate) mod memory_cgroup;
pub(crate) mod models;
pub mod net;
pub mod peer;
pub(crate) mod process;
pub(crate) mod python;
pub(crate) mod registry;
pub(crate) mod reserved_ids;
pub mod roles;
pub(crate) mod sandbox_state;
pub(crate) mod scan;
pub mod sealed;
pub(crate) mod shares;
pub(crate) mod signals;
pub(crate) mod system_files;
pub mod terminal;
pub(crate) mod tools;
pub(crate) mod user_data;
pub(crate) mod uv;
pub(crate) mod wheel_sources;

/// What lies on the disk.
pub(crate) fn on_disk(paths: &super::desired::InstancePaths) -> crate::plan::removal::OnDisk {
    crate::plan::removal::OnDisk {
        generations: generations(paths),
        venvs: venv::installed_venvs(paths),
        pythons: interpreter::installed_versions(paths),
    }
}

/// Names of the generations on the disk, sorted.
pub(crate) fn generations(paths: &super::desired::InstancePaths) -> Vec<crate::ids::GenerationId> {
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
