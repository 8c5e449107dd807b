//! Where advisories come from: a table in a file or on a server, what a service answered of packages
//! and when, and what the owner's store knows of parts.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use pep508_rs::pep440_rs::Version;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::git::GitStore;
use super::git::distance::KnownCommits;
use super::models::web::{WebClient, WebRefusal, WebRequest};
use super::net::NetEnv;
use super::net::http;
use super::uv::UvRunner;
use crate::advisory::matching::PartKnowledge;
use crate::advisory::osv;
use crate::advisory::packages::{AuditedPackages, PackageAnswer, answer_key, read_reply};
use crate::advisory::table::AdvisoryTable;
use crate::lock::RepositoryPin;
use crate::lock::resolve::{CommitQuery, RepositoryResolver, RepositorySnapshot, SourceTexts};
use crate::lock::tree_facts;
use crate::manifest::names;
use crate::problem::{Context, Problem, Result};
use crate::progress::NoProgress;
use crate::text::escape_text;

/// More bytes than any table has.
const MOST_TABLE: u64 = 64 << 20;
/// What precedes the hash of a table on a server.
const HASH: &str = "#sha256=";

/// Reads a table from a file, or from a server whose answer must have the hash in the address.
///
/// # Errors
/// It cannot be read or fetched, has another hash, or is not in OSV's schema.
pub(crate) fn load_table(source: &str, net: &NetEnv) -> Result<AdvisoryTable> {
    let named = |p: Problem| p.with_prefix(&format!("--advisories {}: ", escape_text(source)));
    if !source.contains("://") {
        let doing = || format!("read {}", escape_text(source));
        let text = std::fs::read_to_string(Path::new(source)).with_context(doing)?;
        return Ok(AdvisoryTable {
            advisories: osv::read_advisories(&text).map_err(named)?,
            origin: escape_text(source),
        });
    }
    let hash = source.split_once(HASH).filter(|(_, h)| names::is_sha256(h));
    let Some((address, sha256)) = hash else {
        return Err(named(
            Problem::new("an address needs the hash of what it leads to")
                .with_hint(format!("add {HASH} and the file's SHA-256 to the address")),
        ));
    };
    crate::manifest::model_address(address)
        .map_err(|why| named(Problem::new(format!("the address {why}"))))?;
    let bytes = fetch_table(address, net).map_err(named)?;
    let found = base16ct::lower::encode_string(&Sha256::digest(&bytes));
    if found != sha256 {
        return Err(named(
            Problem::new(format!("what comes has the SHA-256 {found}"))
                .with_hint("it has changed: read it, then give its hash"),
        ));
    }
    let text = String::from_utf8_lossy(&bytes);
    Ok(AdvisoryTable {
        advisories: osv::read_advisories(&text).map_err(named)?,
        origin: escape_text(address),
    })
}

fn fetch_table(address: &str, net: &NetEnv) -> Result<Vec<u8>> {
    let web = WebClient::new(net, Duration::from_secs(net.stall_timeout()));
    let request = WebRequest {
        address: &net.mirrors.rewrite_url(address),
        ..WebRequest::default()
    };
    let reply = web
        .ask_patiently(&request)
        .map_err(WebRefusal::into_problem)?;
    let body = reply.response.into_body();
    let read = body.into_with_config().limit(MOST_TABLE).read_to_vec();
    read.context("read the answer")
}

/// Answers of a service, kept by package and version in the owner's cache.
#[derive(Default, Serialize, Deserialize)]
struct KeptAnswers {
    service: String,
    packages: BTreeMap<String, PackageAnswer>,
}

/// Who is asked of packages.
pub(crate) struct PackageAuditor<'a> {
    pub uv: &'a UvRunner,
    /// `None`: nobody.
    pub service: Option<String>,
    /// The owner's cache.
    pub cache: PathBuf,
    /// How long an answer may take.
    pub limit: Duration,
}

/// What is known of packages.
#[derive(Default)]
pub(crate) struct PackageAnswers {
    /// By [`answer_key`]; packages that nobody was ever asked of are not in it.
    pub known: BTreeMap<String, PackageAnswer>,
    /// Why the service did not answer now.
    pub failure: Option<String>,
}

impl PackageAuditor<'_> {
    /// Asks the service, or, where it does not answer and offline, what was kept of its answers.
    ///
    /// # Errors
    /// Ctrl-C.
    pub(crate) fn ask(&self, packages: &AuditedPackages) -> Result<PackageAnswers> {
        let file = self.cache.join("advisories.json");
        let Some(service) = self.service.clone() else {
            return Ok(PackageAnswers::default());
        };
        let mut kept = std::fs::read(&file)
            .ok()
            .and_then(|text| serde_json::from_slice::<KeptAnswers>(&text).ok())
            .filter(|k| k.service == service)
            .unwrap_or_default();
        let mut failure = None;
        if !self.uv.offline && !packages.is_empty() {
            match self.ask_service(packages, &service) {
                Ok(answers) => {
                    kept.service = service.clone();
                    kept.packages.extend(answers);
                    // A cache that cannot be written is no reason to fail.
                    if let Ok(text) = serde_json::to_vec(&kept) {
                        let _ = super::fs::edit::replace_file(&file, &text);
                    }
                }
                Err(p) if p.is_interrupted() => return Err(p),
                Err(p) => {
                    let server = http::host_and_port(&service);
                    failure = Some(format!("{server}: {}", p.message));
                }
            }
        }
        let known = packages.keys().filter_map(|key| {
            let key = answer_key(key);
            let answer = kept.packages.get(&key)?.clone();
            Some((key, answer))
        });
        Ok(PackageAnswers {
            known: known.collect(),
            failure,
        })
    }

    fn ask_service(
        &self,
        packages: &AuditedPackages,
        service: &str,
    ) -> Result<BTreeMap<String, PackageAnswer>> {
        std::fs::create_dir_all(&self.cache)
            .with_context(|| format!("make {}", self.cache.display()))?;
        let address = self.uv.net.mirrors.rewrite_url(&format!("{service}/"));
        let address = address.trim_end_matches('/');
        let reply = self.uv.audit_packages(packages, address, self.limit)?;
        let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        read_reply(&reply, packages, &now)
    }
}

/// What a store knows of parts.
pub(crate) struct StoredParts {
    git: GitStore,
    commits: KnownCommits,
    seen: RefCell<HashMap<String, Option<Rc<RepositorySnapshot>>>>,
}

impl StoredParts {
    pub(crate) fn of_store(git: GitStore) -> StoredParts {
        StoredParts {
            commits: KnownCommits::of_store(git.offline_twin()),
            seen: RefCell::default(),
            git,
        }
    }

    fn snapshot(&self, pin: &RepositoryPin) -> Option<Rc<RepositorySnapshot>> {
        let look = || {
            let wanted = CommitQuery {
                repo: &pin.repo,
                git_ref: &pin.git_ref,
                commit: &pin.commit,
                archive: pin.archive.as_ref(),
                exclude: &pin.exclusions(),
                requirements_files: &[],
                sources: SourceTexts::Project,
            };
            self.git.snapshot(&wanted, &NoProgress).ok().map(Rc::new)
        };
        let mut seen = self.seen.borrow_mut();
        let key = format!("{} {}", pin.repo, pin.commit);
        seen.entry(key).or_insert_with(look).clone()
    }
}

impl PartKnowledge for StoredParts {
    fn project_version(&self, pin: &RepositoryPin) -> Option<Version> {
        let seen = self.snapshot(pin)?;
        tree_facts::project_version(seen.sources.get(tree_facts::PYPROJECT)?)
    }

    fn files(&self, pin: &RepositoryPin) -> Option<Vec<String>> {
        Some(self.snapshot(pin)?.listing.0.keys().cloned().collect())
    }

    fn has_commit(&self, pin: &RepositoryPin, commit: &str) -> Option<bool> {
        self.commits.has_commit(&pin.repo, &pin.commit, commit)
    }
}
