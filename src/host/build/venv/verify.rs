//! Whether a shared file is still what its list says.

use std::path::Path;

use crate::host::sealed::file_list::{self, ListedFile};
use crate::problem::{Context, Problem, Result};

/// Whether a sealed file is what the list says, byte for byte.
pub(super) fn verify_hash(at: &Path, is: &ListedFile) -> Result<()> {
    let doing = || format!("read {}", at.display());
    let ListedFile::File(size, hash, _) = is else {
        return Err(Problem::new(format!(
            "{} is not a file in comfy's records",
            at.display()
        )));
    };
    let (dir, name) = crate::host::fs::open_parent(at).with_context(doing)?;
    if file_list::hash_at(&dir, name.as_c_str(), *size).with_context(doing)? == *hash {
        return Ok(());
    }
    Err(Problem::new(format!(
        "{} does not have the content that comfy's records say",
        at.display()
    ))
    .with_hint(
        "nothing was installed; this is a bug in comfy, or somebody changes files at the same time",
    ))
}
