//! The address of a file, whose key goes there, and what to do where a server refuses it.

use super::web::{WebRefusal, public_address, same_server};
use super::{ModelHubs, SecretText};
use crate::lock::model_pin::CloudStore;
use crate::problem::Problem;

/// The address of the content, and the key for it.
#[derive(Debug, Clone)]
pub(crate) struct DownloadSource {
    pub address: String,
    pub key: Option<SecretText>,
    /// Whose server it is, which decides the key.
    pub owner: ServerOwner,
    /// Its query is a signature, which is another one each time.
    pub signed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerOwner {
    HuggingFace,
    Civitai,
    Cloud(CloudStore),
    /// comfy has no key for it.
    Other,
}

impl DownloadSource {
    pub(crate) fn on_hugging_face(hubs: &ModelHubs, address: String) -> DownloadSource {
        DownloadSource {
            address,
            key: hubs.huggingface_token.clone(),
            owner: ServerOwner::HuggingFace,
            signed: false,
        }
    }

    pub(crate) fn on_civitai(hubs: &ModelHubs, address: String) -> DownloadSource {
        DownloadSource {
            address,
            key: hubs.civitai_token.clone(),
            owner: ServerOwner::Civitai,
            signed: false,
        }
    }

    /// An address as comfy.toml has it: where it is on a hub's own server, that hub's key goes with
    /// it.
    pub(crate) fn on_web(hubs: &ModelHubs, address: &str) -> DownloadSource {
        // With one mirror for both, the paths differ (Civitai's API reference).
        let of_civitai = address
            .strip_prefix(&hubs.civitai)
            .is_some_and(|path| path.starts_with("/api/"));
        if of_civitai {
            DownloadSource::on_civitai(hubs, address.into())
        } else if same_server(address, &hubs.huggingface) {
            DownloadSource::on_hugging_face(hubs, address.into())
        } else {
            DownloadSource {
                address: address.into(),
                key: None,
                owner: ServerOwner::Other,
                signed: false,
            }
        }
    }

    /// The same for the same file, however often it is asked for.
    pub(crate) fn cache_name(&self) -> &str {
        if self.signed {
            self.address.split('?').next().unwrap_or_default()
        } else {
            &self.address
        }
    }

    /// A refusal, with what settles it where a key is the reason.
    pub(crate) fn explain_refusal(&self, refusal: WebRefusal) -> Problem {
        let about_keys = matches!(refusal, WebRefusal::Status(401 | 403, _));
        let problem = refusal.into_problem();
        if about_keys {
            problem.with_hint(self.key_advice())
        } else {
            problem
        }
    }

    /// A page came where a file was asked for.
    pub(crate) fn page_instead(&self, address: &str) -> Problem {
        Problem::new(format!(
            "{} returns a web page instead of the file",
            public_address(address)
        ))
        .with_hint("probably a login or a notice: open it in a browser")
        .with_hint(self.key_advice())
    }

    fn key_advice(&self) -> String {
        let of_hub = |variable: &str| {
            if self.key.is_some() {
                format!(
                    "{variable} was sent, and the server does not accept it: check the key, and \
                     accept the model's licence on its page"
                )
            } else {
                format!(
                    "if the file needs a key, set {variable}, and accept the model's licence on \
                     its page"
                )
            }
        };
        match self.owner {
            ServerOwner::HuggingFace => of_hub("HF_TOKEN"),
            ServerOwner::Civitai => of_hub("CIVITAI_API_TOKEN"),
            ServerOwner::Cloud(CloudStore::S3) => {
                "keys are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; AWS_ENDPOINT_URL selects \
                 another store"
                    .into()
            }
            ServerOwner::Cloud(CloudStore::Google) => {
                "the key is a service account's, in the file that GOOGLE_APPLICATION_CREDENTIALS \
                 names"
                    .into()
            }
            ServerOwner::Cloud(CloudStore::Azure) => {
                "the key is AZURE_STORAGE_ACCOUNT_KEY, for AZURE_STORAGE_ACCOUNT_NAME; \
                 AZURE_STORAGE_SERVICE_ENDPOINT selects another cloud"
                    .into()
            }
            ServerOwner::Other => {
                "comfy has no key for this server: HF_TOKEN goes with hf:// sources, \
                 CIVITAI_API_TOKEN with civitai: sources"
                    .into()
            }
        }
    }
}
