//! The folder of a demo, and its layout. Plain paths are enough here: nobody else can reach into
//! it.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::host::fs::edit;
use crate::problem::{Context, Problem, Result};
use crate::render;

/// Characters that COMFY_MIRRORS, an address or TOML would read as something else.
const ODD: &str = ";%?#\\\"'`";

/// The folder of one demo.
pub(crate) struct DemoFolder {
    /// Absolute, without links: comfy follows no link when it changes something.
    pub dir: PathBuf,
    /// Made by the demo for itself, so that it may delete it.
    pub temporary: bool,
}

impl DemoFolder {
    /// Creates a private folder, or uses `asked`, which must be empty or not exist yet.
    ///
    /// # Errors
    /// The folder cannot be made, is not empty, or has a name that no address can hold.
    pub(crate) fn create(asked: Option<&Path>) -> Result<DemoFolder> {
        let dir = match asked {
            Some(dir) => ensure_empty(dir)?,
            None => temporary_folder()?,
        };
        Ok(DemoFolder {
            dir,
            temporary: asked.is_none(),
        })
    }

    /// The repositories that stand in for github.com/comfy-demo/.
    pub(crate) fn upstream(&self) -> PathBuf {
        self.dir.join("upstream/comfy-demo")
    }

    /// The user's repository, with comfy.toml and comfy.lock.
    pub(crate) fn dotfiles(&self) -> PathBuf {
        self.dir.join("dotfiles")
    }

    /// HOME of every command, so that the user's own is neither read nor written.
    pub(crate) fn home(&self) -> PathBuf {
        self.dir.join("home")
    }

    /// comfy's prefix.
    pub(crate) fn prefix(&self) -> PathBuf {
        self.dir.join("prefix")
    }

    /// The folders that outlive every generation.
    pub(crate) fn shares(&self) -> PathBuf {
        self.dir.join("shares")
    }

    /// The owner's link to the live code.
    pub(crate) fn view(&self) -> PathBuf {
        self.dir.join("ComfyUI")
    }

    /// COMFY_MIRRORS of every command: comfy.lock names GitHub, the bytes come from here.
    pub(crate) fn mirrors(&self) -> String {
        format!(
            "https://github.com/comfy-demo/=file://{}/",
            self.upstream().display()
        )
    }

    /// Deletes everything, read-only folders too, and follows no link out.
    ///
    /// # Errors
    /// Something in it could not be removed.
    pub(crate) fn remove(&self) -> Result<()> {
        edit::remove_path(&self.dir).with_context(|| format!("delete {}", self.dir.display()))
    }

    /// Returns the commands to continue in the kept folder.
    pub(crate) fn say_how_to_go_on(&self) {
        render::print_stdout(&format!(
            "Everything is in {}. To continue there:",
            self.dir.display()
        ));
        render::print_stdout(&format!(
            "  export COMFY_MIRRORS='{}'\n  cd '{}'\n  comfy plan",
            self.mirrors(),
            self.dotfiles().display()
        ));
    }
}

fn temporary_folder() -> Result<PathBuf> {
    let base = std::env::temp_dir();
    let hint = |p: Problem| p.with_hint("name another folder: comfy demo --dir DIR");
    let base = base
        .canonicalize()
        .with_context(|| format!("open the temporary folder {}", base.display()))
        .map_err(hint)?;
    ensure_plain_name(&base).map_err(hint)?;
    // mkdtemp(3): an unpredictable name, mode 0700.
    nix::unistd::mkdtemp(&base.join("comfy-demo-XXXXXX"))
        .with_context(|| format!("make a folder in {}", base.display()))
        .map_err(hint)
}

fn ensure_empty(dir: &Path) -> Result<PathBuf> {
    ensure_plain_name(dir)?;
    let shown = crate::text::escape_text(&dir.display().to_string());
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("make {shown}"))?;
    let mut entries = std::fs::read_dir(dir).with_context(|| format!("read {shown}"))?;
    if entries.next().is_some() {
        return Err(Problem::new(format!("{shown} is not empty"))
            .with_hint("name a folder that is empty, or does not exist yet"));
    }
    let dir = dir
        .canonicalize()
        .with_context(|| format!("open {shown}"))?;
    ensure_plain_name(&dir)?;
    Ok(dir)
}

fn ensure_plain_name(dir: &Path) -> Result<()> {
    let fits = dir.to_str().is_some_and(|s| {
        !s.chars()
            .any(|c| c.is_whitespace() || c.is_control() || ODD.contains(c))
    });
    let shown = crate::text::escape_text(&dir.display().to_string());
    if fits {
        Ok(())
    } else {
        Err(Problem::new(format!(
            "{shown}: the demo cannot use a folder with white space or one of {ODD} in its name"
        )))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_temporary_folder_is_private_and_goes_with_all_in_it() {
        let place = DemoFolder::create(None).unwrap();
        assert_eq!(
            place.dir.metadata().unwrap().permissions().mode() & 0o7777,
            0o700
        );
        std::fs::create_dir_all(place.dir.join("a/b")).unwrap();
        std::os::unix::fs::symlink("/", place.dir.join("a/root")).unwrap();
        place.remove().unwrap();
        assert!(!place.dir.exists() && Path::new("/").exists());
    }

    #[test]
    fn a_folder_that_is_in_use_or_oddly_named_is_refused() {
        let top = tempfile::tempdir().unwrap();
        std::fs::write(top.path().join("mine"), "").unwrap();
        let said = |dir: &Path| {
            DemoFolder::create(Some(dir))
                .err()
                .map(|p| p.message)
                .unwrap_or_default()
                .replace(&*top.path().to_string_lossy(), "TOP")
        };
        assert_eq!(said(top.path()), "TOP is not empty");
        for name in ["my demo", "a;b", "a%20b", "a\"b"] {
            assert!(
                said(&top.path().join(name)).contains("white space"),
                "{name}"
            );
            assert!(!top.path().join(name).exists(), "{name}");
        }
        assert!(
            !DemoFolder::create(Some(&top.path().join("deep/er")))
                .unwrap()
                .temporary
        );
    }
}
