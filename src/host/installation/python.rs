//! The Python packages of an installation, by the names of folders: its interpreter is not asked.

use std::path::{Path, PathBuf};

use crate::adopt::{Adopted, site_packages};
use crate::host::fs::read_regular;

/// Where installers put a virtual environment, seen from ComfyUI's folder.
const PLACES: &[&str] = &[
    "venv",
    ".venv",
    "env",
    "../venv",
    "../.venv",
    "../env",
    "../standalone-env",
    "../ComfyUI/.venv",
];

pub(super) fn read_packages(out: &mut Adopted, folder: &Path, given: Option<&Path>) {
    let places: Vec<PathBuf> = match given {
        Some(path) => vec![path.to_path_buf()],
        None => PLACES.iter().map(|p| folder.join(p)).collect(),
    };
    let found = places
        .iter()
        .find_map(|venv| Some((venv, site_packages_of(venv)?)));
    let Some((venv, (site, version_folder))) = found else {
        return out.lose(
            "Python packages: no virtual environment was found, so that their versions are not known",
            "`comfy init --from … --venv DIR` names it; without it comfy.lock has the newest versions \
             that fit",
        );
    };
    let pyvenv = read_regular(&venv.join("pyvenv.cfg")).ok();
    out.python = site_packages::python_version(pyvenv.as_deref(), &version_folder);
    let entries = std::fs::read_dir(&site).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|n| n.ends_with(".dist-info"))
        .collect();
    names.sort();
    for name in names {
        let address = site.join(&name).join("direct_url.json");
        out.add_dist_info(&name, address.exists());
    }
}

/// `lib/python3.12/site-packages`, and the name of the folder in the middle.
fn site_packages_of(venv: &Path) -> Option<(PathBuf, String)> {
    let entries = std::fs::read_dir(venv.join("lib")).ok()?.flatten();
    let mut found: Vec<(PathBuf, String)> = entries
        .filter_map(|e| {
            let name = e.file_name().into_string().ok()?;
            let site = e.path().join("site-packages");
            (name.starts_with("python3") && site.is_dir()).then_some((site, name))
        })
        .collect();
    found.sort();
    found.pop()
}
