//! Models: where they come from, and how they are downloaded, verified and installed.
//!
//! [`resolver`] is what `lock` asks. [`build_job`] fetches, under the build uid: [`web`] speaks
//! HTTP, [`hub`] and [`object_storage`] know addresses ([`download_source`]), [`download`] makes one file. [`install`]
//! puts verified bytes into a share, as root. [`verified_hashes`] is what was verified before.

pub(crate) mod apply_steps;
pub(crate) mod build_job;
pub(crate) mod content_check;
pub(crate) mod content_hash;
pub(crate) mod download;
pub(crate) mod download_source;
pub(crate) mod file_reader;
pub(crate) mod hub;
pub(crate) mod install;
pub(crate) mod object_storage;
pub(crate) mod resolver;
pub(crate) mod safetensors_header;
pub(crate) mod verified_hashes;
pub(crate) mod verify;
pub(crate) mod web;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::host::machine::operating_system;
use crate::manifest::reserved_paths;
use crate::problem::{Problem, Result};

/// A secret that no log, message or child process may see.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct SecretText(String);

impl SecretText {
    pub(crate) fn new(text: String) -> SecretText {
        SecretText(text)
    }

    /// For a header, and nothing else.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(a secret)")
    }
}

/// Which servers are asked for models, and the keys for them: read from the caller's environment,
/// and handed on through pipes and sockets alone.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct ModelHubs {
    /// Without a slash at the end.
    pub huggingface: String,
    pub huggingface_token: Option<SecretText>,
    pub civitai: String,
    pub civitai_token: Option<SecretText>,
    pub stores: object_storage::StorageCredentials,
    /// The seconds without a byte after which comfy gives up on a connection.
    pub patience: u64,
}

impl ModelHubs {
    /// How long comfy waits for a byte.
    pub(crate) fn silence(&self) -> std::time::Duration {
        std::time::Duration::from_secs(self.patience)
    }
}

/// Refuses a file of this machine that is no model's, by where it is and what it is called: as it
/// is written, and where its links lead.
///
/// # Errors
/// What it is instead, and what to do about it.
fn ensure_allowed(home: Option<&Path>, written: &Path, real: &Path) -> Result<()> {
    let me = nix::unistd::geteuid().as_raw();
    let homes = home
        .into_iter()
        .flat_map(|h| [Some(h.to_path_buf()), super::fs::real_path(h, me).ok()])
        .flatten();
    let wrong = |home: &Path| {
        [written, real]
            .iter()
            .find_map(|p| Some((*p, reserved_paths::model_file(operating_system(), home, p)?)))
    };
    let Some((path, why)) = homes
        .chain([PathBuf::from("~")])
        .find_map(|h| wrong(&h).map(|(p, why)| (p.to_path_buf(), why)))
    else {
        return Ok(());
    };
    let shown = crate::text::escape_text(&written.to_string_lossy());
    let leads = if path == written {
        String::new()
    } else {
        format!(
            " leads to {}, which",
            crate::text::escape_text(&path.to_string_lossy())
        )
    };
    Err(Problem::new(format!("{shown}{leads} {why}")).with_hint(
        "copy the model to where your models are, and name that file; ComfyUI can read everything \
            in a share",
    ))
}
