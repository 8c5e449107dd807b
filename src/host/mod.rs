pub mod accounts;
pub mod browser;
pub mod bytecode;
pub mod confine;
pub mod elevate;
pub mod env;
pub mod faults;
pub mod firewall;
pub mod fs;
pub mod generation;
pub mod git;
pub mod hands;
pub mod http;
pub mod interfaces;
pub mod launched;
pub mod lines;
pub mod listed;
pub mod machine;
pub mod memory;
pub mod models;
pub mod nearness;
pub mod peer;
pub mod process;
pub mod progress;
pub mod python;
pub mod redirect;
pub mod reserved;
pub mod service;
pub mod signals;
pub mod state;
pub mod terminal;
pub mod uv;
pub mod venv;

/// What lies on the disk.
pub fn present(paths: &crate::plan::desired::Paths) -> crate::plan::removal::Present {
    crate::plan::removal::Present {
        generations: generations(paths),
        venvs: venv::present(paths),
        pythons: python::managed::present(paths),
    }
}

/// Names of the generations on the disk, sorted.
pub fn generations(paths: &crate::plan::desired::Paths) -> Vec<String> {
    sixteen_digits(&paths.generations())
}

fn sixteen_digits(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut all: Vec<String> = entries
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|n| n.len() == 16 && n.bytes().all(|b| b.is_ascii_hexdigit()))
        .collect();
    all.sort();
    all
}
