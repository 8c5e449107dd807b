//! A wheel as data: what it holds, and where an installer puts each of its files (PyPA's "Binary
//! distribution format"). It is read by comfy's own code alone, and nothing of it is ever run.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use zip::ZipArchive;

use super::{path_files, scripts};
use crate::desired::venv::PackageInstall;
use crate::host::build::bytecode::FOLDER;
use crate::host::sealed::file_list::ListedFile;
use crate::manifest::names;
use crate::problem::{Context, Problem, Result};
use crate::text::escape_text;

/// More entries than any real wheel has, by far: torch has 20,000.
const MAX_ENTRIES: usize = 500_000;
/// Bytes of a file of metadata.
const MAX_TEXT: u64 = 8 << 20;

/// Where things go in a virtual environment.
pub(crate) struct VenvPlace<'a> {
    /// `lib/python3.12/site-packages`
    pub site: &'a str,
    /// `3.12`
    pub minor: &'a str,
    /// What scripts name as their interpreter.
    pub python: &'a Path,
}

/// What becomes a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FileSource {
    /// This entry of the archive, byte for byte; the size in bytes, and whether it can be run.
    Entry(usize, u64, bool),
    /// A script of the archive, whose first line may have to name the interpreter.
    Script(usize, u64),
    /// What comfy makes: its text, and whether it can be run.
    Made(Vec<u8>, bool),
    /// A folder that has an entry of its own.
    Folder,
}

/// An open wheel whose hash is the lock's.
pub(crate) struct WheelFile<'a> {
    pub package: &'a PackageInstall,
    /// As the list calls it.
    pub key: String,
    archive: ZipArchive<SharedReader>,
    /// `numpy-1.26.4`, as its own folders spell it.
    stem: String,
    /// Bytes of all entries.
    pub unpacked: u64,
}

/// A file that many threads read, each with its own place.
#[derive(Clone)]
struct SharedReader {
    file: Arc<File>,
    at: u64,
    len: u64,
}

impl Read for SharedReader {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read_at(buf, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for SharedReader {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let at = match to {
            SeekFrom::Start(n) => Some(n),
            SeekFrom::End(n) => self.len.checked_add_signed(n),
            SeekFrom::Current(n) => self.at.checked_add_signed(n),
        };
        self.at = at.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

impl<'a> WheelFile<'a> {
    /// Reads the directory of a file whose hash was just seen through the same descriptor.
    ///
    /// # Errors
    /// It is no wheel of this package.
    pub(crate) fn read(
        package: &'a PackageInstall,
        sha256: &str,
        file: File,
    ) -> Result<WheelFile<'a>> {
        let len = file.metadata().context("read a wheel")?.len();
        let wrong = |why: String| refused_wheel(package, &why);
        let archive = ZipArchive::new(SharedReader {
            file: Arc::new(file),
            at: 0,
            len,
        })
        .map_err(|e| wrong(format!("is not a zip archive: {e}")))?;
        if archive.len() > MAX_ENTRIES {
            return Err(wrong(format!(
                "has {} entries, but comfy unpacks at most {MAX_ENTRIES}",
                archive.len()
            )));
        }
        let (mut stems, mut unpacked) = (Vec::new(), 0_u64);
        for at in 0..archive.len() {
            let entry = archive
                .by_index_data(at)
                .map_err(|e| wrong(e.to_string()))?;
            unpacked = unpacked.saturating_add(entry.size());
            let name = entry.name().map_err(|e| wrong(e.to_string()))?;
            if let Some(stem) = name
                .split('/')
                .next()
                .and_then(|top| top.strip_suffix(".dist-info"))
                && name.contains('/')
                && !stems.iter().any(|s| s == stem)
            {
                stems.push(stem.to_string());
            }
        }
        let own = |stem: &String| {
            crate::lock::python::normalize_name(stem.split('-').next().unwrap_or_default())
                == package.name
        };
        match stems.as_slice() {
            [stem] if own(stem) => Ok(WheelFile {
                package,
                key: super::file_owners::package_key(&package.key(), sha256),
                stem: stem.clone(),
                archive,
                unpacked,
            }),
            _ => Err(wrong(format!(
                "has the metadata of {}, but only that of this package is expected",
                joined_list(&stems)
            ))),
        }
    }

    /// `numpy-1.26.4.dist-info`
    fn info_folder(&self) -> String {
        format!("{}.dist-info", self.stem)
    }

    /// Where the RECORD goes.
    pub(crate) fn record_path(&self, place: &VenvPlace) -> String {
        format!("{}/{}/RECORD", place.site, self.info_folder())
    }

    /// Every path that it brings to a virtual environment, but its RECORD, which [`record_text`]
    /// makes.
    ///
    /// # Errors
    /// A name that leads elsewhere, a kind of data that comfy does not know, a script that names no
    /// function.
    pub(crate) fn layout(&self, place: &VenvPlace) -> Result<BTreeMap<String, FileSource>> {
        let wrong = |why: String| refused_wheel(self.package, &why);
        let mut out = BTreeMap::new();
        let mut entry_points = None;
        for at in 0..self.archive.len() {
            let entry = self
                .archive
                .by_index_data(at)
                .map_err(|e| wrong(e.to_string()))?;
            let name = entry.name().map_err(|e| wrong(e.to_string()))?;
            let (path, folder) = name
                .strip_suffix('/')
                .map_or((&*name, false), |p| (p, true));
            names::check_relative(path).map_err(|why| {
                wrong(format!(
                    "has an entry `{}`, whose path {why}",
                    escape_text(&name)
                ))
            })?;
            let Some((to, script)) = self.target_of(path, place).map_err(&wrong)? else {
                continue;
            };
            if is_bytecode(&to, folder) {
                continue;
            }
            let executable = entry.unix_mode().is_some_and(|m| m & 0o111 != 0);
            let source = match (folder, script) {
                (true, _) => FileSource::Folder,
                (false, true) => FileSource::Script(at, entry.size()),
                (false, false) => FileSource::Entry(at, entry.size(), executable),
            };
            if path == format!("{}/entry_points.txt", self.info_folder()) {
                entry_points = Some((at, entry.size()));
            }
            out.insert(to, source);
        }
        for (path, source) in &out {
            let kind = path_files::startup_file(path, &self.package.name);
            if let Some(kind) = kind
                && let FileSource::Entry(at, size, _) | FileSource::Script(at, size) = source
            {
                let text = self.read_bytes(*at, *size)?;
                path_files::refuse_code(self.package, path, kind, &text)?;
            }
        }
        if let Some((at, size)) = entry_points {
            for (name, text) in scripts::of_entry_points(&self.read_text(at, size)?, place.python)
                .map_err(&wrong)?
            {
                out.insert(format!("bin/{name}"), FileSource::Made(text, true));
            }
        }
        out.insert(
            format!("{}/{}/INSTALLER", place.site, self.info_folder()),
            FileSource::Made(b"comfy\n".to_vec(), false),
        );
        // It lists what the archive holds; ours says what is installed. Signatures of the other one
        // mean nothing any more.
        for name in ["RECORD", "RECORD.jws", "RECORD.p7s"] {
            out.remove(&format!("{}/{}/{name}", place.site, self.info_folder()));
        }
        Ok(out)
    }

    /// Where an entry goes, and whether it is a script; none: nowhere.
    fn target_of(&self, path: &str, place: &VenvPlace) -> Result<Option<(String, bool)>, String> {
        let (top, rest) = path.split_once('/').unwrap_or((path, ""));
        let own = |stem: &str| {
            crate::lock::python::normalize_name(stem.split('-').next().unwrap_or_default())
                == self.package.name
        };
        if !top.strip_suffix(".data").is_some_and(own) {
            return Ok(Some((format!("{}/{path}", place.site), false)));
        }
        let (kind, rest) = rest.split_once('/').unwrap_or((rest, ""));
        if rest.is_empty() {
            return Ok(None);
        }
        Ok(Some(match kind {
            "purelib" | "platlib" => (format!("{}/{rest}", place.site), false),
            "headers" => (
                format!(
                    "include/site/python{}/{}/{rest}",
                    place.minor, self.package.name
                ),
                false,
            ),
            "data" => (rest.to_string(), false),
            "scripts" => (format!("bin/{rest}"), true),
            _ => {
                return Err(format!(
                    "has an entry `{}`, of a kind of data that comfy does not know",
                    escape_text(path)
                ));
            }
        }))
    }

    fn read_text(&self, at: usize, size: u64) -> Result<String> {
        String::from_utf8(self.read_bytes(at, size)?)
            .map_err(|_| refused_wheel(self.package, "has metadata that is not text"))
    }

    fn read_bytes(&self, at: usize, size: u64) -> Result<Vec<u8>> {
        if size > MAX_TEXT {
            return Err(refused_wheel(
                self.package,
                "has metadata of more than 8 MiB",
            ));
        }
        let mut bytes = Vec::new();
        self.copy_entry(at, size, &mut bytes)?;
        Ok(bytes)
    }

    /// Writes an entry, of the size that the directory says; its hash as a RECORD has it.
    fn copy_entry(&self, at: usize, size: u64, mut to: impl Write) -> Result<String> {
        let name = || {
            self.archive
                .by_index_data(at)
                .ok()
                .and_then(|e| Some(escape_text(&e.name().ok()?)))
                .unwrap_or_default()
        };
        let failed =
            |e: String| refused_wheel(self.package, &format!("does not unpack: `{}`: {e}", name()));
        let mut archive = self.archive.clone();
        let mut entry = archive.by_index(at).map_err(|e| failed(e.to_string()))?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![
            0;
            usize::try_from(size)
                .unwrap_or(usize::MAX)
                .clamp(1, 1 << 18)
        ];
        let mut left = size;
        loop {
            // One read more than there is: the end is where the checksum is looked at.
            match entry.read(&mut buffer).map_err(|e| failed(e.to_string()))? {
                0 if left == 0 => return Ok(BASE64_URL_SAFE_NO_PAD.encode(hasher.finalize())),
                0 => return Err(failed("it is smaller than its directory says".into())),
                n => {
                    left = left
                        .checked_sub(n as u64)
                        .ok_or_else(|| failed("it is larger than its directory says".into()))?;
                    hasher.update(&buffer[..n]);
                    to.write_all(&buffer[..n])
                        .with_context(|| format!("unpack {}", self.package.key()))?;
                }
            }
        }
    }

    /// Makes what `source` stands for, into a file or nowhere; what it is.
    ///
    /// # Errors
    /// An entry that is not what the directory says; the disk.
    pub(crate) fn make_file(
        &self,
        source: &FileSource,
        place: &VenvPlace,
        mut to: impl Write,
    ) -> Result<ListedFile> {
        let made = |bytes: &[u8], executable: bool, to: &mut dyn Write| {
            to.write_all(bytes)
                .with_context(|| format!("unpack {}", self.package.key()))?;
            Ok(ListedFile::File(
                bytes.len() as u64,
                BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(bytes)),
                executable,
            ))
        };
        match source {
            FileSource::Entry(at, size, executable) => Ok(ListedFile::File(
                *size,
                self.copy_entry(*at, *size, to)?,
                *executable,
            )),
            FileSource::Script(at, size) => {
                let mut bytes = Vec::new();
                self.copy_entry(*at, *size, &mut bytes)?;
                made(&scripts::of_wheel(bytes, place.python), true, &mut to)
            }
            FileSource::Made(bytes, executable) => made(bytes, *executable, &mut to),
            FileSource::Folder => Ok(ListedFile::Folder),
        }
    }
}

/// Whether a path is where an interpreter keeps bytecode of the sources beside it (PEP 3147). What
/// a wheel has there is left out: no source says what it does, it may be another package's, and
/// comfy compiles each source itself.
pub(crate) fn is_bytecode(path: &str, folder: bool) -> bool {
    let folded = names::folded_name(path);
    let parts: Vec<&str> = folded.split('/').collect();
    let inside = parts
        .windows(2)
        .any(|w| matches!(w, [FOLDER, name] if name.ends_with(".pyc")));
    inside || (!folder && parts.last() == Some(&FOLDER))
}

/// The RECORD of what was installed (PyPA's "Recording installed projects"), with its lines in
/// order; `own`: its own path.
pub(crate) fn record_text(
    items: &BTreeMap<String, ListedFile>,
    own: &str,
    place: &VenvPlace,
) -> String {
    let up = "../".repeat(place.site.split('/').count());
    let field = |path: &str| {
        let path = path
            .strip_prefix(place.site)
            .and_then(|p| p.strip_prefix('/'))
            .map_or_else(|| format!("{up}{path}"), str::to_string);
        // As csv quotes.
        if path.contains([',', '"']) {
            format!("\"{}\"", path.replace('"', "\"\""))
        } else {
            path
        }
    };
    let line = |(path, item): (&String, &ListedFile)| match item {
        ListedFile::File(size, hash, _) => Some(format!("{},sha256={hash},{size}\n", field(path))),
        _ => None,
    };
    items
        .iter()
        .filter_map(line)
        .chain(std::iter::once(format!("{},,\n", field(own))))
        .collect()
}

fn joined_list(stems: &[String]) -> String {
    if stems.is_empty() {
        "nothing".into()
    } else {
        stems
            .iter()
            .map(|s| escape_text(s))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// The wheel is what the lock pins, and cannot be installed.
pub(crate) fn refused_wheel(package: &PackageInstall, why: &str) -> Problem {
    Problem::new(format!("{}: its wheel {why}", package.key())).with_hint(
        "nothing was installed; choose another version with [python] overrides, or leave the \
            package out with ignore_requirements",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytecode_is_told_from_what_lies_beside_it() {
        let told = |rows: &[(&str, bool)]| {
            rows.iter()
                .map(|(p, folder)| is_bytecode(p, *folder))
                .collect::<Vec<_>>()
        };
        let is = [
            ("s/x/__pycache__/y.cpython-311.pyc", false),
            ("__pycache__/y.opt-1.PYC", false),
            ("x/__PyCache__/y.pyc/z", true),
            ("x/__pycache__", false),
        ];
        assert_eq!(told(&is), [true; 4]);
        let none = [
            ("x/__pycache__", true),
            ("x/__pycache__/y.nbi", false),
            ("x/y.pyc", false),
            ("__pycache__/d/y.pyc", false),
            ("x/__pycache__y.pyc", false),
        ];
        assert_eq!(told(&none), [false; 5]);
    }
}
