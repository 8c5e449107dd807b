//! Hashes of the texts that a plan was made from.

use std::fmt;
use std::sync::{Arc, LazyLock};

use bytestring::ByteString;

use crate::lock::Sha256Digest;

/// The SHA-256 of a text, computed on first use: for twenty thousand models it takes a few
/// milliseconds, and most plans are only shown.
#[derive(Clone)]
pub(crate) struct TextDigest(Arc<LazyLock<String, Make>>);

type Make = Box<dyn FnOnce() -> String + Send>;

impl TextDigest {
    pub(crate) fn from_text(text: &ByteString) -> TextDigest {
        let text = text.clone();
        TextDigest::new(Box::new(move || {
            Sha256Digest::digest_of(text.as_bytes()).to_string()
        }))
    }

    fn new(make: Make) -> TextDigest {
        TextDigest(Arc::new(LazyLock::new(make)))
    }
}

impl Default for TextDigest {
    fn default() -> Self {
        TextDigest::new(Box::new(String::new))
    }
}

impl fmt::Display for TextDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TextDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq for TextDigest {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || **self.0 == **other.0
    }
}

impl Eq for TextDigest {}

impl serde::Serialize for TextDigest {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for TextDigest {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<TextDigest, D::Error> {
        let text = String::deserialize(d)?;
        Ok(TextDigest::new(Box::new(move || text)))
    }
}
