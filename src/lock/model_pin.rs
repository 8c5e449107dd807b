//! Models as data: where one comes from, and what it is pinned to.

use std::fmt;

use crate::manifest::hub_pages;

/// A SHA-256, as hexadecimal digits in every text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Sha256Digest(pub [u8; 32]);

impl Sha256Digest {
    /// 64 lower-case hexadecimal digits.
    pub(crate) fn parse(text: &str) -> Option<Sha256Digest> {
        let mut out = [0; 32];
        let read = base16ct::lower::decode(text, &mut out).ok()?.len();
        (read == out.len()).then_some(Sha256Digest(out))
    }

    /// The first digits, as an acceptance of a model's bytes has them.
    pub(crate) fn fingerprint(&self) -> String {
        base16ct::lower::encode_string(&self.0[..16])
    }

    pub(crate) fn digest_of(bytes: &[u8]) -> Sha256Digest {
        use sha2::Digest;
        Sha256Digest(sha2::Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(base16ct::lower::encode_str(&self.0, &mut [0; 64]).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Sha256Digest {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Sha256Digest {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Sha256Digest, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        Sha256Digest::parse(&text).ok_or_else(|| serde::de::Error::custom("no sha256"))
    }
}

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
    pub sha256: Sha256Digest,
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
