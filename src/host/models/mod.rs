//! Models: where they are asked for, how they are fetched, verified and put into their share.
//!
//! [`library`] is what `lock` asks. [`work`] fetches, under the build uid: [`web`] speaks HTTP, [`hub`] and [`bucket`] know addresses,
//! [`download`] makes one file. [`place`] puts verified bytes into a share, as root. [`hashes`] is what was verified before.

pub mod bucket;
pub mod download;
pub mod hash;
pub mod hashes;
pub mod header;
pub mod hub;
pub mod library;
pub mod place;
pub mod steps;
pub mod verify;
pub mod web;
pub mod work;

use std::fmt;

/// Something that no log, no message and no child process may see.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    /// For a header, and nothing else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(a secret)")
    }
}

/// Which servers are asked for models, and the keys for them: read from the caller's environment, and handed on through
/// pipes and sockets alone.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Hubs {
    /// Without a slash at the end.
    pub huggingface: String,
    pub huggingface_token: Option<Secret>,
    pub civitai: String,
    pub civitai_token: Option<Secret>,
    pub stores: bucket::Stores,
    /// Seconds without a byte after which a connection is given up.
    pub patience: u64,
}
