//! `s3://`, `gs://` and `az://`: an object's address, signed for one GET, so that ranges, resuming
//! and redirects are those of any other file. object_store signs for two of them; it asks nobody,
//! and finds no keys by itself.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use object_store::ClientOptions;
use object_store::aws::AmazonS3Builder;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::signer::{Method, Signer};
use sha2::Sha256;

use super::download_source::{DownloadSource, ServerOwner};
use super::hub::percent_encode;
use super::{ModelHubs, SecretText};
use crate::lock::model_pin::CloudStore;
use crate::problem::{Context as _, Problem, Result};

/// The caller's accounts with stores of objects.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct StorageCredentials {
    /// Of another store than Amazon's; without a slash at the end.
    pub endpoint: Option<String>,
    pub region: String,
    pub key_id: Option<String>,
    pub key: Option<SecretText>,
    pub session: Option<SecretText>,
    /// A service account of Google's, as JSON.
    pub google: Option<SecretText>,
    /// Whose containers are meant: it is part of every address of Azure's.
    pub azure: Option<String>,
    /// Of another cloud than the public one, or of an emulator; without a slash at the end.
    pub azure_endpoint: Option<String>,
    pub azure_key: Option<SecretText>,
}

/// For which a signed address holds: longer than a download takes.
const EXPIRES: Duration = Duration::from_secs(86_400);

/// Where an object is fetched: signed where there is a key, plain for a public one.
///
/// # Errors
/// Keys that are none; no account where the address needs one.
pub(crate) fn object_source(
    hubs: &ModelHubs,
    cloud: CloudStore,
    bucket: &str,
    key: &str,
) -> Result<DownloadSource> {
    let s = &hubs.stores;
    let path = percent_encode(key, "/");
    let (plain, signed) = match cloud {
        CloudStore::S3 => (amazon_url(s, bucket, &path), s3_signed(s, bucket, key)),
        CloudStore::Google => (
            format!("https://storage.googleapis.com/{bucket}/{path}"),
            google_signed(s, bucket, key),
        ),
        CloudStore::Azure => {
            let missing = || {
                Problem::new("az:// needs the account that owns the container").with_hint(
                    "set AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY unless it \
                        is public",
                )
            };
            let account = s.azure.as_ref().ok_or_else(missing)?;
            let top = s.azure_endpoint.clone().unwrap_or_else(|| {
                format!(
                    "https://{}.blob.core.windows.net",
                    percent_encode(account, "")
                )
            });
            let plain = format!("{top}/{bucket}/{path}");
            let signed = azure_signed(s, account, bucket, key)
                .map(|query| query.map(|q| format!("{plain}?{q}")));
            (plain, signed)
        }
    };
    Ok(match signed? {
        Some(address) => DownloadSource {
            address,
            key: None,
            owner: ServerOwner::Cloud(cloud),
            signed: true,
        },
        None => DownloadSource {
            address: plain,
            key: None,
            owner: ServerOwner::Cloud(cloud),
            signed: false,
        },
    })
}

/// Other stores take the bucket in the path; a name with a dot has no certificate of Amazon's.
fn in_path(s: &StorageCredentials, bucket: &str) -> bool {
    s.endpoint.is_some() || bucket.contains('.')
}

fn amazon_url(s: &StorageCredentials, bucket: &str, path: &str) -> String {
    match &s.endpoint {
        Some(e) => format!("{e}/{bucket}/{path}"),
        None if in_path(s, bucket) => {
            format!("https://s3.{}.amazonaws.com/{bucket}/{path}", s.region)
        }
        None => format!("https://{bucket}.s3.{}.amazonaws.com/{path}", s.region),
    }
}

fn s3_signed(s: &StorageCredentials, bucket: &str, key: &str) -> Result<Option<String>> {
    let (Some(id), Some(secret)) = (&s.key_id, &s.key) else {
        return Ok(None);
    };
    let mut b = AmazonS3Builder::new()
        .with_http_connector(NoHttp)
        .with_bucket_name(bucket)
        .with_region(&s.region);
    b = b
        .with_access_key_id(id)
        .with_secret_access_key(secret.reveal())
        .with_virtual_hosted_style_request(!in_path(s, bucket));
    if let Some(e) = &s.endpoint {
        b = b.with_endpoint(e);
    }
    if let Some(token) = &s.session {
        b = b.with_token(token.reveal());
    }
    sign_url(&b.build().map_err(refused_problem)?, key).map(Some)
}

fn google_signed(s: &StorageCredentials, bucket: &str, key: &str) -> Result<Option<String>> {
    let Some(account) = &s.google else {
        return Ok(None);
    };
    let b = GoogleCloudStorageBuilder::new()
        .with_http_connector(NoHttp)
        .with_bucket_name(bucket)
        .with_service_account_key(account.reveal());
    // What the crate says of it may quote it.
    let b = b.build().map_err(|_| {
        Problem::new("GOOGLE_APPLICATION_CREDENTIALS does not name the key of a service account")
            .with_hint("gs:// requests are signed with one; a public bucket needs none")
    })?;
    sign_url(&b, key).map(Some)
}

/// Azure's signature for one blob, its shared access signature: object_store (0.14) signs the path
/// as an address writes it, and Azure as it reads it, so that no name with a space would be found.
fn azure_signed(
    s: &StorageCredentials,
    account: &str,
    container: &str,
    blob: &str,
) -> Result<Option<String>> {
    let Some(secret) = &s.azure_key else {
        return Ok(None);
    };
    let expires = chrono::Utc::now() + EXPIRES;
    match azure_access_signature(
        account,
        secret.reveal(),
        container,
        blob,
        &expires.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
    ) {
        Some(query) => Ok(Some(query)),
        None => Err(Problem::new("AZURE_STORAGE_ACCOUNT_KEY is not a key")
            .with_hint("it must be base64, as Azure's portal shows it")),
    }
}

/// learn.microsoft.com, "Create a service SAS", version 2020-12-06. `None`: a key that is no
/// base64.
fn azure_access_signature(
    account: &str,
    key: &str,
    container: &str,
    blob: &str,
    expires: &str,
) -> Option<String> {
    const VERSION: &str = "2020-12-06";
    let mut mac = Hmac::<Sha256>::new_from_slice(&STANDARD.decode(key).ok()?).ok()?;
    let resource = format!("/blob/{account}/{container}/{blob}");
    // Permission, start, end, what; identifier, addresses, protocol; version, kind; snapshot,
    // encryption; five headers.
    let said = [
        "r", "", expires, &resource, "", "", "", VERSION, "b", "", "", "", "", "", "", "",
    ];
    mac.update(said.join("\n").as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    Some(format!(
        "se={}&sp=r&sv={VERSION}&sr=b&sig={}",
        percent_encode(expires, ""),
        percent_encode(&signature, "")
    ))
}

fn refused_problem(e: object_store::Error) -> Problem {
    Problem::new(format!(
        "could not sign for the store: {}",
        crate::text::escape_text(&e.to_string())
    ))
}

fn sign_url(store: &impl Signer, key: &str) -> Result<String> {
    let path = object_store::path::Path::parse(key)
        .with_context(|| format!("understand the key {}", crate::text::escape_text(key)))?;
    let signed = pin!(store.signed_url(Method::GET, &path, EXPIRES));
    // With its keys at hand it waits for nobody.
    match signed.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(address) => address.map(String::from).map_err(refused_problem),
        Poll::Pending => Err(Problem::new(
            "these keys need a request to the store first, which comfy does not make",
        )),
    }
}

/// The HTTP of a store of which nothing is asked.
#[derive(Debug)]
struct NoHttp;

impl HttpConnector for NoHttp {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(NoHttp))
    }
}

impl HttpService for NoHttp {
    fn call<'a, 'f>(
        &'a self,
        _: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'f>>
    where
        'a: 'f,
        Self: 'f,
    {
        Box::pin(std::future::ready(Err(HttpError::new(
            HttpErrorKind::Connect,
            std::io::Error::other("comfy does not ask the store for keys"),
        ))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Option<SecretText> {
        Some(SecretText::new(text.into()))
    }

    #[test]
    fn addresses_are_plain_without_a_key_and_signed_with_one() {
        let mut hubs = ModelHubs {
            stores: StorageCredentials {
                region: "eu-west-1".into(),
                azure: Some("acc".into()),
                ..StorageCredentials::default()
            },
            ..ModelHubs::default()
        };
        let address = |hubs: &ModelHubs, cloud, bucket: &str| {
            object_source(hubs, cloud, bucket, "a b/ü.bin")
                .map(|p| p.address)
                .map_err(|p| p.message)
        };
        let all = |hubs: &ModelHubs| {
            [
                (CloudStore::S3, "b"),
                (CloudStore::S3, "b.c"),
                (CloudStore::Google, "b"),
                (CloudStore::Azure, "b"),
            ]
            .map(|(c, b)| address(hubs, c, b).unwrap())
        };
        let plain = all(&hubs);
        insta::assert_snapshot!(plain.join("\n"), @"
        https://b.s3.eu-west-1.amazonaws.com/a%20b/%C3%BC.bin
        https://s3.eu-west-1.amazonaws.com/b.c/a%20b/%C3%BC.bin
        https://storage.googleapis.com/b/a%20b/%C3%BC.bin
        https://acc.blob.core.windows.net/b/a%20b/%C3%BC.bin
        ");
        hubs.stores = StorageCredentials {
            key_id: Some("id".into()),
            key: secret("hidden"),
            session: secret("for+now"),
            azure_key: secret("aGlkZGVu"),
            ..hubs.stores
        };
        for (i, (signed, plain)) in all(&hubs)
            .iter()
            .zip(&plain)
            .enumerate()
            .filter(|(i, _)| *i != 2)
        {
            let (at, query) = signed.split_once('?').unwrap();
            assert_eq!(at, plain);
            assert!(
                query.contains(if i == 3 { "sig=" } else { "X-Amz-Signature=" })
                    && !query.contains("hidden"),
                "{query}"
            );
            assert_eq!(
                query.contains("X-Amz-Security-Token=for%2Bnow"),
                i < 2,
                "{query}"
            );
        }
        hubs.stores = StorageCredentials {
            google: secret("{\"private_key\": \"hidden\"}"),
            azure: None,
            ..hubs.stores
        };
        assert_eq!(
            address(&hubs, CloudStore::Google, "b").unwrap_err(),
            "GOOGLE_APPLICATION_CREDENTIALS does not name the key of a service account"
        );
        assert_eq!(
            address(&hubs, CloudStore::Azure, "b").unwrap_err(),
            "az:// needs the account that owns the container"
        );
    }

    #[test]
    fn azures_signature_is_that_of_azures_own_library() {
        // azure-storage-blob 12 for Python, generate_blob_sas(permission="r", expiry=…) as of
        // version 2020-12-06.
        for (blob, signature) in [
            (
                "dir with space/ü+x.bin",
                "ZKIyBFbRdMu3Ic7S14qyl%2B1I2WmHuWO8o6Q%2BfQ%2BbMPI%3D",
            ),
            (
                "plain.bin",
                "ifoZjVDR2r2/fIOXDhr3EBT4nevVTgTRMLAhKptyxSQ%3D",
            ),
        ] {
            let query =
                azure_access_signature("acc", "aGlkZGVu", "bucket", blob, "2026-11-26T00:56:17Z")
                    .unwrap();
            assert_eq!(
                query,
                format!(
                    "se=2026-11-26T00%3A56%3A17Z&sp=r&sv=2020-12-06&sr=b&sig={}",
                    signature.replace('/', "%2F")
                )
            );
        }
        assert!(azure_access_signature("acc", "no base64!", "bucket", "x", "").is_none());
    }
}
