//! Who published the files of a package, and the files themselves: its page in JSON (PEP 691) says
//! where each file and its provenance (PEP 740) is.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::package_address::{public_address, split_credentials};
use crate::host::net::NetEnv;
use crate::host::net::http;
use crate::lock::publishers::read_provenance;
use crate::lock::python::{LockedPackage, LockedPython};

const JSON: &str = "application/vnd.pypi.simple.v1+json";
/// Bytes of an index page: the largest of PyPI has 20 MiB.
const MAX_PAGE: u64 = 50 << 20;
/// Bytes of a provenance object.
const MAX_PROVENANCE: u64 = 4 << 20;

/// One package.
pub(crate) struct PublisherQuery<'a> {
    pub package: &'a str,
    /// An index; none: the default one.
    index: Option<&'a str>,
    /// The wheels that are locked.
    files: Vec<&'a str>,
}

impl<'a> PublisherQuery<'a> {
    pub(crate) fn of_locked(package: &'a LockedPackage, python: &'a LockedPython) -> Self {
        PublisherQuery {
            package: &package.name,
            index: python.index_of(package).map(|x| x.url.as_str()),
            files: package.wheels.iter().map(|w| w.file.as_str()).collect(),
        }
    }
}

/// What an index has at the page of a package.
struct IndexPage {
    kind: String,
    text: String,
    /// The address that it came from.
    base: String,
    /// The one that was asked for.
    address: String,
}

impl IndexPage {
    fn files(&self) -> Result<Vec<PageFile>, String> {
        let page: Page = serde_json::from_str(&self.text).map_err(|e| {
            let address = public_address(&self.address);
            format!("{address} is not an index page: {e}")
        })?;
        Ok(page.files)
    }
}

#[derive(Deserialize)]
struct Page {
    files: Vec<PageFile>,
}

#[derive(Deserialize)]
struct PageFile {
    filename: String,
    url: String,
    provenance: Option<String>,
}

/// Asks indexes; nothing is asked after `deadline`.
pub(crate) struct PublisherClient<'a> {
    agents: http::PackageAgents<'a>,
    deadline: Instant,
    /// Indexes that tell of no file: they are asked once.
    silent: Mutex<BTreeSet<String>>,
}

impl PublisherClient<'_> {
    pub(crate) fn new(net: &NetEnv, deadline: Instant) -> PublisherClient<'_> {
        PublisherClient {
            agents: http::PackageAgents::new(net),
            deadline,
            silent: Mutex::default(),
        }
    }

    /// Asks the index who published the files of a package. `None`: it does not tell, or one of the
    /// files has no provenance.
    ///
    /// # Errors
    /// Why the index could not be asked.
    pub(crate) fn find_publisher(&self, query: &PublisherQuery) -> Result<Option<String>, String> {
        let index = self.index_of(query);
        let silent = || self.silent.lock().unwrap_or_else(|e| e.into_inner());
        if silent().contains(index) {
            return Ok(None);
        }
        let page = self.page_of(query)?;
        // One that knows of it has the key with every file.
        if !page.kind.contains("json") || !page.text.contains("\"provenance\"") {
            silent().insert(index.to_string());
            return Ok(None);
        }
        let files = page.files()?;
        let named: BTreeMap<&str, Option<&str>> = files
            .iter()
            .map(|f| (&*f.filename, f.provenance.as_deref()))
            .collect();
        let provenance = |file: &&str| named.get(file).copied().flatten();
        let all: Option<Vec<&str>> = query.files.iter().map(provenance).collect();
        let Some(first) = all.and_then(|all| all.first().copied()) else {
            return Ok(None);
        };
        let address = http::absolute_link(&page.base, first);
        let (_, text, _) = self.get(&address, index, MAX_PROVENANCE)?;
        read_provenance(&text).map(Some).map_err(|p| p.message)
    }

    /// Fetches one of the files of a package from its index, of at most `most` bytes. Its hash is the
    /// caller's to compare.
    ///
    /// # Errors
    /// Why the index did not give it.
    pub(crate) fn fetch_file(
        &self,
        query: &PublisherQuery,
        file: &str,
        most: u64,
    ) -> Result<Vec<u8>, String> {
        let page = self.page_of(query)?;
        let shown = public_address(&page.address);
        if !page.kind.contains("json") {
            return Err(format!("{shown} has no page in JSON"));
        }
        let files = page.files()?;
        let found = files.iter().find(|f| f.filename == file);
        let found = found.ok_or_else(|| format!("{shown} has no {file}"))?;
        let address = http::absolute_link(&page.base, &found.url);
        self.get_bytes(&address, self.index_of(query), most)
            .map(|(_, bytes, _)| bytes)
    }

    fn index_of<'q>(&'q self, query: &PublisherQuery<'q>) -> &'q str {
        query
            .index
            .unwrap_or_else(|| self.agents.net.default_index())
    }

    fn page_of(&self, query: &PublisherQuery) -> Result<IndexPage, String> {
        let index = self.index_of(query);
        let address = format!("{}/{}/", index.trim_end_matches('/'), query.package);
        let (kind, text, base) = self.get(&address, index, MAX_PAGE)?;
        Ok(IndexPage {
            kind,
            text,
            base,
            address,
        })
    }

    /// The content type, the text, and the address that it came from.
    fn get(
        &self,
        address: &str,
        index: &str,
        most: u64,
    ) -> Result<(String, String, String), String> {
        let (kind, bytes, base) = self.get_bytes(address, index, most)?;
        let text =
            String::from_utf8(bytes).map_err(|e| format!("{}: {e}", public_address(address)))?;
        Ok((kind, text, base))
    }

    /// The content type, the bytes, and the address that they came from.
    fn get_bytes(
        &self,
        address: &str,
        index: &str,
        most: u64,
    ) -> Result<(String, Vec<u8>, String), String> {
        let failed = |why: String| format!("{}: {why}", public_address(address));
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left < Duration::from_millis(1) || crate::host::signals::is_interrupted() {
            return Err(failed("there was no time left to ask".into()));
        }
        let (bare, own) = split_credentials(address);
        // The index's password goes to its own server alone.
        let same = http::host_and_port(address) == http::host_and_port(index);
        let key = own.or_else(|| split_credentials(index).1.filter(|_| same));
        let mut request = self
            .agents
            .for_address(address, index)
            .get(&bare)
            .header("Accept", JSON)
            .header("Accept-Encoding", "gzip");
        if let Some(key) = key {
            request = request.header("Authorization", key);
        }
        let request = request.config().timeout_global(Some(left)).build();
        let mut answer = request.call().map_err(|e| failed(e.to_string()))?;
        match answer.status().as_u16() {
            200..=299 => {}
            // An index that has pages in HTML alone, and says so.
            406 => return Ok((String::new(), Vec::new(), bare)),
            code => return Err(failed(format!("answers {code}"))),
        }
        let kind = answer.headers().get("Content-Type");
        let kind = kind.and_then(|t| t.to_str().ok()).unwrap_or_default();
        let kind = kind.to_string();
        let base = ureq::ResponseExt::get_uri(&answer).to_string();
        let coding = answer.headers().get("Content-Encoding");
        let is_gzip = coding.is_some_and(|c| c.as_bytes().eq_ignore_ascii_case(b"gzip"));
        let body = answer.body_mut().as_reader();
        let bytes = if is_gzip {
            read_bounded(flate2::read::MultiGzDecoder::new(body), most)
        } else {
            read_bounded(body, most)
        };
        Ok((kind, bytes.map_err(|e| failed(e.to_string()))?, base))
    }
}

/// # Errors
/// Longer than `most` bytes.
fn read_bounded(from: impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!(
            "the answer is longer than {most} bytes"
        )));
    }
    Ok(bytes)
}
