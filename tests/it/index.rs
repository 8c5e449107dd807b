//! A package index on this machine, and the tiny packages that it serves.
//!
//! Pages have both forms: HTML (PEP 503), and JSON (PEP 691, 700), which alone tells when a file
//! was published.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Cursor, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use sha2::{Digest, Sha256};
use zip::write::SimpleFileOptions;

/// Long before any minimum age.
const LONG_AGO: &str = "2020-01-02T03:04:05Z";

/// One release of a package, to be made into files.
#[derive(Clone)]
pub struct Release {
    name: String,
    version: String,
    requires: Vec<String>,
    /// What METADATA names as its source.
    repository: Option<String>,
    files: Vec<(String, Vec<u8>)>,
    scripts: Vec<(String, String)>,
    folders: Vec<String>,
    /// RECORD has another hash for this file than it has.
    errs: Option<String>,
    tag: String,
    /// There is no wheel of it.
    source: bool,
}

/// A file of an index.
#[derive(Clone)]
pub struct File {
    /// The normalised name of its package.
    pub package: String,
    pub name: String,
    pub bytes: Vec<u8>,
    /// METADATA on its own (PEP 658); an sdist has none.
    metadata: Option<String>,
    published: String,
    /// Whether HTML pages give its sha256.
    hashed: bool,
    /// Repository and workflow (PEP 740).
    publisher: Option<(&'static str, &'static str)>,
}

pub fn release(name: &str, version: &str) -> Release {
    let (name, version) = (name.to_string(), version.to_string());
    Release {
        name,
        version,
        requires: Vec::new(),
        repository: None,
        files: Vec::new(),
        scripts: Vec::new(),
        folders: Vec::new(),
        errs: None,
        tag: "py3-none-any".into(),
        source: false,
    }
}

impl Release {
    /// A `Requires-Dist` line.
    pub fn requires(mut self, line: &str) -> Release {
        self.requires.push(line.into());
        self
    }

    /// The address that METADATA names as the package's source.
    pub fn repository(mut self, address: &str) -> Release {
        self.repository = Some(address.into());
        self
    }

    /// A file beside or in place of the module that has the package's name.
    pub fn file(mut self, path: &str, content: &[u8]) -> Release {
        self.files.push((path.into(), content.into()));
        self
    }

    /// A console script: `hello`, `hello:main`.
    pub fn script(mut self, name: &str, target: &str) -> Release {
        self.scripts.push((name.into(), target.into()));
        self
    }

    /// A folder with an entry of its own.
    pub fn folder(mut self, path: &str) -> Release {
        self.folders.push(format!("{path}/"));
        self
    }

    /// A RECORD with a wrong hash of this file, as decord 0.6.0 has it.
    pub fn errs(mut self, path: &str) -> Release {
        self.errs = Some(path.into());
        self
    }

    /// For one platform only: `py3-none-manylinux_2_17_x86_64`.
    pub fn tag(mut self, tag: &str) -> Release {
        self.tag = tag.into();
        self
    }

    /// Without a wheel.
    pub fn source(mut self) -> Release {
        self.source = true;
        self
    }

    pub fn is_source(&self) -> bool {
        self.source
    }

    /// The name as file names and modules have it.
    fn module(&self) -> String {
        normal(&self.name).replace('-', "_")
    }

    fn metadata(&self) -> String {
        let mut out = format!(
            "Metadata-Version: 2.1\nName: {}\nVersion: {}\n",
            self.name, self.version
        );
        let repository = self.repository.iter();
        out.extend(repository.map(|r| format!("Project-URL: Source, {r}\n")));
        out.extend(
            self.requires
                .iter()
                .map(|r| format!("Requires-Dist: {r}\n")),
        );
        out
    }

    /// The wheel: stored, without times, so that the same release has the same bytes.
    pub fn wheel(&self) -> File {
        let module = self.module();
        let info = format!("{module}-{}.dist-info", self.version);
        let mut files = self.files.clone();
        if files.is_empty() {
            files.push((
                format!("{module}.py"),
                format!("VERSION = {:?}\n", self.version).into_bytes(),
            ));
        }
        files.push((format!("{info}/METADATA"), self.metadata().into_bytes()));
        let wheel = format!(
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: {}\nTag: {}\n",
            self.tag.ends_with("-any"),
            self.tag
        );
        files.push((format!("{info}/WHEEL"), wheel.into_bytes()));
        if !self.scripts.is_empty() {
            let lines: String = self
                .scripts
                .iter()
                .map(|(name, target)| format!("{name} = {target}\n"))
                .collect();
            files.push((
                format!("{info}/entry_points.txt"),
                format!("[console_scripts]\n{lines}").into_bytes(),
            ));
        }
        let record = format!("{info}/RECORD");
        let hashed = |path: &String, content: &Vec<u8>| {
            if self.errs.as_ref() == Some(path) {
                Sha256::digest(b"other")
            } else {
                Sha256::digest(content)
            }
        };
        let lines: String = files
            .iter()
            .map(|(path, content)| {
                format!(
                    "{path},sha256={},{}\n",
                    base64(&hashed(path, content)),
                    content.len()
                )
            })
            .collect();
        files.push((record.clone(), format!("{lines}{record},,\n").into_bytes()));
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored)
            .unix_permissions(0o644);
        for path in &self.folders {
            zip.add_directory(path.as_str(), options.unix_permissions(0o755))
                .unwrap();
        }
        for (path, content) in &files {
            zip.start_file(path.as_str(), options).unwrap();
            zip.write_all(content).unwrap();
        }
        File {
            package: normal(&self.name),
            name: format!("{module}-{}-{}.whl", self.version, self.tag),
            bytes: zip.finish().unwrap().into_inner(),
            metadata: Some(self.metadata()),
            published: LONG_AGO.into(),
            hashed: true,
            publisher: None,
        }
    }

    /// The source. Nobody may unpack it, so it is none.
    pub fn sdist(&self) -> File {
        File {
            package: normal(&self.name),
            name: format!("{}-{}.tar.gz", self.module(), self.version),
            bytes: b"never read: nothing is built from source".to_vec(),
            metadata: None,
            published: LONG_AGO.into(),
            hashed: true,
            publisher: None,
        }
    }
}

impl File {
    pub fn published(mut self, when: chrono::DateTime<chrono::Utc>) -> File {
        self.published = when.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        self
    }

    /// With an attestation of this workflow.
    pub fn published_by(mut self, repository: &'static str, workflow: &'static str) -> File {
        self.publisher = Some((repository, workflow));
        self
    }

    /// As download.pytorch.org lists some of its wheels.
    pub fn without_hash(mut self) -> File {
        self.hashed = false;
        self
    }

    pub fn sha256(&self) -> String {
        hex(&self.bytes)
    }
}

/// Whether pages tell when a file was published.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    Json,
    /// As download.pytorch.org and many mirrors have them.
    HtmlOnly,
}

/// What an index does wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Another file under the right name.
    OtherBytes,
    /// Takes the question for a file, and says nothing.
    Stalls,
    /// Ends in the middle of a file.
    Cut,
}

#[derive(Default)]
struct State {
    fault: Option<Fault>,
    files: BTreeMap<String, File>,
    asked: BTreeSet<String>,
    stop: bool,
}

/// An index that serves until it is dropped.
pub struct Index {
    port: u16,
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
    _held: Option<(TcpListener, TcpStream)>,
}

impl Index {
    pub fn start(pages: Pages) -> Index {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if lock(&shared).stop {
                    return;
                }
                let shared = shared.clone();
                // A client that goes away is no failure of a test.
                std::thread::spawn(move || serve(&stream, &shared, pages));
            }
        });
        Index {
            port,
            state,
            thread: Some(thread),
            _held: None,
        }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The address of its pages.
    pub fn url(&self) -> String {
        format!("http://{}/simple", self.host())
    }

    pub fn add(&self, file: File) {
        lock(&self.state).files.insert(file.name.clone(), file);
    }

    /// Wheels of releases that need no more than a name and a version.
    pub fn wheels(&self, releases: &[(&str, &str)]) {
        for (name, version) in releases {
            self.add(release(name, version).wheel());
        }
    }

    /// From now on, with every file.
    pub fn fault(&self, fault: Option<Fault>) {
        lock(&self.state).fault = fault;
    }

    pub fn files(&self) -> Vec<File> {
        lock(&self.state).files.values().cloned().collect()
    }

    /// The packages whose pages were asked for since the last call.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.state).asked)
            .into_iter()
            .collect()
    }

    /// One that refuses connections. Its port is the other end of a connection, so that nobody else
    /// can have it.
    pub fn down() -> Index {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let held = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let port = held.local_addr().unwrap().port();
        Index {
            port,
            state: Arc::default(),
            thread: None,
            _held: Some((listener, held)),
        }
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        lock(&self.state).stop = true;
        // Wakes the listener.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let _ = thread.join();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(|e| e.into_inner())
}

/// Answers requests of one connection until it ends.
fn serve(stream: &TcpStream, state: &Mutex<State>, pages: Pages) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    loop {
        let first = lines.next()?.ok()?;
        let (mut json, mut gzip) = (false, false);
        for line in lines
            .by_ref()
            .map_while(Result::ok)
            .take_while(|l| !l.is_empty())
        {
            let line = line.to_ascii_lowercase();
            json |=
                line.starts_with("accept:") && line.contains("application/vnd.pypi.simple.v1+json");
            gzip |= line.starts_with("accept-encoding:") && line.contains("gzip");
        }
        let path = first.split(' ').nth(1)?;
        let (status, kind, mut body) = answer(path, json && pages == Pages::Json, &mut lock(state));
        let fault = lock(state)
            .fault
            .filter(|_| path.starts_with("/files/") && !path.ends_with(".metadata"));
        match fault {
            Some(Fault::OtherBytes) => {
                let mut name = path.rsplit('/').next()?.split('-');
                body = release(name.next()?, name.next()?)
                    .file("evil.py", b"import os\n")
                    .wheel()
                    .bytes;
            }
            // Until the client gives up: its end closes the connection.
            Some(Fault::Stalls) => drop(lines.next()),
            _ => {}
        }
        // As pypi.org does with its pages.
        let coding = if gzip && path.starts_with("/simple/") {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&body).ok()?;
            body = encoder.finish().ok()?;
            "Content-Encoding: gzip\r\n"
        } else {
            ""
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{coding}Content-Length: {}\r\nCache-Control: \
             no-store\r\n\r\n",
            body.len()
        );
        let mut out: &TcpStream = stream;
        out.write_all(head.as_bytes()).ok()?;
        if fault == Some(Fault::Cut) {
            return out.write_all(&body[..body.len() / 2]).ok();
        }
        if !first.starts_with("HEAD ") {
            out.write_all(&body).ok()?;
        }
    }
}

fn answer(path: &str, json: bool, state: &mut State) -> (&'static str, &'static str, Vec<u8>) {
    let missing = ("404 Not Found", "text/plain", Vec::new());
    let path = &path.replace("%2B", "+");
    if let Some(name) = path.strip_prefix("/files/") {
        let file = state
            .files
            .get(name.strip_suffix(".metadata").unwrap_or(name));
        let bytes = file.and_then(|f| {
            if name == f.name {
                Some(f.bytes.clone())
            } else {
                f.metadata.clone().map(String::into_bytes)
            }
        });
        return bytes.map_or(missing, |b| ("200 OK", "application/octet-stream", b));
    }
    if let Some(name) = path.strip_prefix("/integrity/") {
        let name = name.trim_end_matches("/provenance");
        let publisher = state.files.get(name).and_then(|f| f.publisher);
        return publisher.map_or(missing, |(repository, workflow)| {
            let publisher =
                serde_json::json!({ "kind": "GitHub", "repository": repository, "workflow": workflow });
            let bundle = serde_json::json!({ "publisher": publisher, "attestations": [] });
            let all = serde_json::json!({ "version": 1, "attestation_bundles": [bundle] });
            ("200 OK", "application/json", all.to_string().into_bytes())
        });
    }
    let Some(package) = path
        .strip_prefix("/simple/")
        .map(|p| p.trim_end_matches('/'))
    else {
        return missing;
    };
    state.asked.insert(package.into());
    let files: Vec<&File> = state
        .files
        .values()
        .filter(|f| f.package == package)
        .collect();
    if files.is_empty() {
        return missing;
    }
    if json {
        return (
            "200 OK",
            "application/vnd.pypi.simple.v1+json",
            json_page(package, &files).into_bytes(),
        );
    }
    let link = |f: &&File| {
        let metadata = f.metadata.as_ref().map_or(String::new(), |m| {
            format!(" data-core-metadata=\"sha256={}\"", hex(m.as_bytes()))
        });
        let hash = if f.hashed {
            format!("#sha256={}", f.sha256())
        } else {
            String::new()
        };
        let address = f.name.replace('+', "%2B");
        format!(
            "<a href=\"/files/{address}{hash}\"{metadata}>{}</a><br>\n",
            f.name
        )
    };
    let links: String = files.iter().map(link).collect();
    (
        "200 OK",
        "text/html",
        format!("<!DOCTYPE html>\n<html><body>\n{links}</body></html>\n").into_bytes(),
    )
}

fn json_page(package: &str, files: &[&File]) -> String {
    let file = |f: &&File| {
        serde_json::json!({
            "filename": f.name,
            "url": format!("/files/{}", f.name),
            "hashes": { "sha256": f.sha256() },
            "core-metadata": f.metadata.as_ref().map(|m| serde_json::json!({ "sha256": hex(m.as_bytes()) })),
            "size": f.bytes.len(),
            "upload-time": f.published,
            "provenance": f.publisher.map(|_| format!("/integrity/{}/provenance", f.name)),
        })
    };
    let files: Vec<serde_json::Value> = files.iter().map(file).collect();
    serde_json::json!({ "meta": { "api-version": "1.1" }, "name": package, "files": files })
        .to_string()
}

fn normal(name: &str) -> String {
    name.to_lowercase().replace(['_', '.'], "-")
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// URL-safe and without padding, as RECORD has it (PEP 427).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let n = chunk.iter().fold(0_u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        out.extend(
            (0..=chunk.len()).map(|i| char::from(DIGITS[(n >> (18 - 6 * i) & 63) as usize])),
        );
    }
    out
}

#[test]
fn a_wheel_has_what_installers_check() {
    let file = release("My.Tool", "1.2")
        .requires("numpy<2")
        .script("tool", "my_tool:main")
        .wheel();
    assert_eq!(file.name, "my_tool-1.2-py3-none-any.whl");
    let mut zip = zip::ZipArchive::new(Cursor::new(&file.bytes)).unwrap();
    let text: Vec<String> = (0..zip.len())
        .map(|i| {
            let mut f = zip.by_index(i).unwrap();
            let mut text = String::new();
            std::io::Read::read_to_string(&mut f, &mut text).unwrap();
            format!("== {}\n{text}", f.name().unwrap())
        })
        .collect();
    // The hashes are those that Python's hashlib and base64 give.
    insta::assert_snapshot!(text.concat(), @r#"
    == my_tool.py
    VERSION = "1.2"
    == my_tool-1.2.dist-info/METADATA
    Metadata-Version: 2.1
    Name: My.Tool
    Version: 1.2
    Requires-Dist: numpy<2
    == my_tool-1.2.dist-info/WHEEL
    Wheel-Version: 1.0
    Generator: test
    Root-Is-Purelib: true
    Tag: py3-none-any
    == my_tool-1.2.dist-info/entry_points.txt
    [console_scripts]
    tool = my_tool:main
    == my_tool-1.2.dist-info/RECORD
    my_tool.py,sha256=F9Kg_pw4oofoLOnvwpsfpaMB7KkTf89GTmtGywaxB9Q,16
    my_tool-1.2.dist-info/METADATA,sha256=S3ioT6OUqk1WSvmiBfwQK3odDFBNj1rUYz-ioJZ6KUo,72
    my_tool-1.2.dist-info/WHEEL,sha256=GOJWfGKy_s7ZRMtmrMyJFvIHxzo0gLZVhGWWyTqB6uo,75
    my_tool-1.2.dist-info/entry_points.txt,sha256=7qf7LAeuxwUQvTGJu2cLhXT7_DlgpKxgLUIhqzPsblA,38
    my_tool-1.2.dist-info/RECORD,,
    "#);
}
