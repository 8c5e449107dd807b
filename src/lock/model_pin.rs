//! Models as data: where one comes from, and what it is pinned to.

use std::fmt;

use crate::manifest::hub_pages;

/// A SHA-256, as hexadecimal digits in every text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Sha256Digest(pub [u8; 32]);

/// A BLAKE3 of 256 bits, as hexadecimal digits in every text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Blake3Digest(pub [u8; 32]);

/// What a whole file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileDigests {
    /// It alone decides whether a file is the one that is pinned.
    pub sha256: Sha256Digest,
    /// Where comfy has read every byte for both.
    pub blake3: Option<Blake3Digest>,
}

impl From<Sha256Digest> for FileDigests {
    fn from(sha256: Sha256Digest) -> FileDigests {
        FileDigests {
            sha256,
            blake3: None,
        }
    }
}

impl Sha256Digest {
    /// The first digits, as an acceptance of a model's bytes has them.
    pub(crate) fn fingerprint(&self) -> String {
        base16ct::lower::encode_string(&self.0[..16])
    }

    pub(crate) fn digest_of(bytes: &[u8]) -> Sha256Digest {
        use sha2::Digest;
        Sha256Digest(sha2::Sha256::digest(bytes).into())
    }
}

/// What a digest of 256 bits is as text.
macro_rules! digest_text {
    ($digest:ident, $wrong:literal) => {
        impl $digest {
            /// 64 lower-case hexadecimal digits.
            pub(crate) fn parse(text: &str) -> Option<$digest> {
                let mut out = [0; 32];
                let read = base16ct::lower::decode(text, &mut out).ok()?.len();
                (read == out.len()).then_some($digest(out))
            }
        }

        impl fmt::Display for $digest {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = [0; 64];
                let text = base16ct::lower::encode_str(&self.0, &mut text);
                f.write_str(text.map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $digest {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl serde::Serialize for $digest {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $digest {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<$digest, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                $digest::parse(&text).ok_or_else(|| serde::de::Error::custom($wrong))
            }
        }
    };
}

digest_text!(Sha256Digest, "no sha256");
digest_text!(Blake3Digest, "no blake3");

/// A model, independent of the machine.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ModelPin {
    /// The source from comfy.toml; `None`: the existing file.
    pub source: Option<String>,
    /// The commit that the revision of a hub's source named.
    pub revision: Option<String>,
    /// The server's identifier of this version of the file, if it is meaningful.
    pub etag: Option<String>,
    /// In bytes.
    pub size: u64,
    /// What `apply` and `verify` compare a file with, and nothing else.
    pub sha256: Sha256Digest,
    /// Another name of the same bytes, by which workflows may name them; where comfy has read them.
    #[serde(default)]
    pub blake3: Option<Blake3Digest>,
}

impl ModelPin {
    pub(crate) fn digests(&self) -> FileDigests {
        FileDigests {
            sha256: self.sha256,
            blake3: self.blake3,
        }
    }

    /// Whether both pin the same file of the same source: a name more is no other file.
    pub(crate) fn pins_same(&self, other: &ModelPin) -> bool {
        let ModelPin {
            source,
            revision,
            etag,
            size,
            sha256,
            blake3: _,
        } = other;
        (&self.source, &self.revision, &self.etag) == (source, revision, etag)
            && (self.size, self.sha256) == (*size, *sha256)
    }
}

/// The provider of the object storage: `s3://`, `gs://`, `az://`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloudStore {
    S3,
    Google,
    Azure,
}

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ModelOrigin {
    /// `hf://org/repo/file@revision`
    Hub {
        repo: String,
        file: String,
        revision: String,
    },
    Web(String),
    /// A version's number.
    Civitai(String),
    Bucket {
        cloud: CloudStore,
        bucket: String,
        key: String,
    },
    /// As written; `~` is the primary user's home.
    File(String),
}

impl ModelOrigin {
    /// Splits a source that satisfies the rules of comfy.toml into its parts.
    pub(crate) fn parse(source: &str) -> Option<ModelOrigin> {
        let (scheme, rest) = source.split_once(':')?;
        let inner = rest.strip_prefix("//").unwrap_or(rest);
        match scheme {
            "hf" => {
                let (path, revision) = inner.rsplit_once('@').unwrap_or((inner, "main"));
                let (repo, file) = hub_pages::split_repository(path)?;
                Some(ModelOrigin::Hub {
                    repo: repo.into(),
                    file: hub_pages::percent_decoded(file).into_owned(),
                    revision: revision.into(),
                })
            }
            "https" | "http" => Some(ModelOrigin::Web(source.into())),
            "civitai" => Some(ModelOrigin::Civitai(rest.into())),
            "s3" | "gs" | "az" => {
                let cloud = match scheme {
                    "gs" => CloudStore::Google,
                    "az" => CloudStore::Azure,
                    _ => CloudStore::S3,
                };
                inner
                    .split_once('/')
                    .map(|(bucket, key)| ModelOrigin::Bucket {
                        cloud,
                        bucket: bucket.into(),
                        key: key.into(),
                    })
            }
            "file" => Some(ModelOrigin::File(rest.into())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_taken_apart() {
        let hub = |repo: &str, file: &str, revision: &str| {
            Some(ModelOrigin::Hub {
                repo: repo.into(),
                file: file.into(),
                revision: revision.into(),
            })
        };
        assert_eq!(
            ModelOrigin::parse("hf://o/r/a/b.safetensors"),
            hub("o/r", "a/b.safetensors", "main")
        );
        assert_eq!(
            ModelOrigin::parse("hf://o/r/a%20b/100%.bin"),
            hub("o/r", "a b/100%.bin", "main")
        );
        assert_eq!(
            ModelOrigin::parse("hf://datasets/o/r/b.bin"),
            hub("datasets/o/r", "b.bin", "main")
        );
        assert_eq!(
            ModelOrigin::parse("hf://o/r/b.bin@refs/pr/1"),
            hub("o/r", "b.bin", "refs/pr/1")
        );
        assert_eq!(
            ModelOrigin::parse("civitai:12"),
            Some(ModelOrigin::Civitai("12".into()))
        );
        assert_eq!(
            ModelOrigin::parse("s3://b/k/l"),
            Some(ModelOrigin::Bucket {
                cloud: CloudStore::S3,
                bucket: "b".into(),
                key: "k/l".into()
            })
        );
        assert_eq!(
            ModelOrigin::parse("az://b/k l"),
            Some(ModelOrigin::Bucket {
                cloud: CloudStore::Azure,
                bucket: "b".into(),
                key: "k l".into()
            })
        );
        assert_eq!(
            ModelOrigin::parse("file:~/a"),
            Some(ModelOrigin::File("~/a".into()))
        );
        let text = "00ff".repeat(16);
        assert_eq!(
            Sha256Digest::parse(&text).map(|s| s.to_string()),
            Some(text)
        );
        assert_eq!(Sha256Digest::parse("00FF"), None);
    }
}
