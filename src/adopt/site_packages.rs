//! The packages of a virtual environment, by the names of its `*.dist-info` folders alone (PyPA's
//! "Recording installed projects").

use super::{Adopted, packages};
use crate::manifest::names::normalize_name;

impl Adopted {
    /// Adds the package of a folder `NAME-VERSION.dist-info`; `has_address`: it has a
    /// direct_url.json, so that it came from no index.
    pub(crate) fn add_dist_info(&mut self, folder: &str, has_address: bool) {
        let Some((name, version)) = folder
            .strip_suffix(".dist-info")
            .and_then(|f| f.rsplit_once('-'))
        else {
            return;
        };
        if has_address {
            return self.lose_address(&normalize_name(name), None);
        }
        self.add_package(name, version);
    }
}

/// The minor version of Python that a `pyvenv.cfg` names, or of a folder `python3.12`.
pub(crate) fn python_version(pyvenv: Option<&str>, folder: &str) -> Option<String> {
    let line = |text: &str| {
        let value = |l: &str| {
            let (key, value) = l.split_once('=')?;
            ["version", "version_info"]
                .contains(&key.trim())
                .then(|| value.trim().to_string())
        };
        text.lines().find_map(value)
    };
    pyvenv
        .and_then(line)
        .and_then(|v| packages::minor_version(&v))
        .or_else(|| packages::minor_version(folder.strip_prefix("python")?))
}
