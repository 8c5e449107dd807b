//! Wheels in the owner's folders, which the build process cannot read: copied to where it can, if
//! they have the hash that comfy.lock pins.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::wheel_fetch::hex_digest;
use crate::desired::venv::PackageInstall;
use crate::host::build::GenerationBuilder;
use crate::host::fs::edit;
use crate::host::signals::is_interrupted;
use crate::problem::{Context, Problem, Result};

/// Copies what these packages have in such folders; the folder of the copies, if any package comes
/// from there. A file that is missing is told by whoever needs it.
///
/// # Errors
/// A copy that cannot be written.
pub(super) fn copy_local(
    b: &GenerationBuilder,
    packages: &[&PackageInstall],
) -> Result<Option<PathBuf>> {
    let to = b
        .paths
        .staging_dir()
        .join(format!("wheels-{}", std::process::id()));
    let made = copy_into(&to, b, packages);
    if made.is_err() {
        edit::remove_path(&to).with_context(|| format!("clear {}", to.display()))?;
    }
    Ok(made?.then_some(to))
}

/// Whether anything was copied.
fn copy_into(to: &Path, b: &GenerationBuilder, packages: &[&PackageInstall]) -> Result<bool> {
    let mut made = false;
    for p in packages {
        let Some(own) = &p.own else { continue };
        for (file, sha256) in p.files.iter().zip(&p.sha256) {
            if own.addresses.contains_key(file) {
                continue;
            }
            for folder in &own.folders {
                let Some(mut from) = open_regular(&folder.join(file), b.ids.owner) else {
                    continue;
                };
                if !made {
                    edit::make_dir(to, b.ids.seal, b.ids.seal_gid, 0o755)
                        .with_context(|| format!("make {}", to.display()))?;
                    made = true;
                }
                let copy = to.join(format!("{sha256}.whl"));
                let is = copy_hashed(&mut from, &copy)
                    .with_context(|| format!("copy {}", folder.join(file).display()))?;
                if is == *sha256 {
                    // Nobody reads what it was not known to be.
                    edit::set_owner(&copy, b.ids.seal, b.ids.seal_gid, 0o644)
                        .with_context(|| format!("publish {}", copy.display()))?;
                    break;
                }
                edit::remove_path(&copy).with_context(|| format!("remove {}", copy.display()))?;
            }
        }
    }
    Ok(made)
}

/// A regular file of the owner's or of root's, no link; what cannot be read counts as not there, and
/// nothing waits.
fn open_regular(path: &Path, owner: u32) -> Option<File> {
    let fits = |m: std::fs::Metadata| m.is_file() && [0, owner].contains(&m.uid());
    if !path.symlink_metadata().is_ok_and(fits) {
        return None;
    }
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW)
        .open(path)
        .ok()?;
    file.metadata().is_ok_and(fits).then_some(file)
}

fn copy_hashed(from: &mut File, to: &Path) -> std::io::Result<String> {
    let mut out = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(to)?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 18]);
    loop {
        if is_interrupted() {
            return Err(std::io::Error::other(Problem::interrupted().to_string()));
        }
        match from.read(&mut buffer)? {
            0 => return Ok(hex_digest(hasher)),
            n => {
                hasher.update(&buffer[..n]);
                out.write_all(&buffer[..n])?;
            }
        }
    }
}
