//! Downloads a file from a server, as `NAME.part` until it is complete.
//!
//! A part is always the beginning of the file, written in order and hashed on the way, whichever
//! connection delivered which piece. The part of an earlier run is hashed again, never trusted.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

use super::SecretText;
use super::content_hash::{self, ContentHasher};
use super::download_source::DownloadSource;
use super::web::{
    TRIES, WebClient, WebRefusal, WebReply, WebRequest, pause_between, public_address,
};
use crate::lock::{FileDigests, Sha256Digest};
use crate::problem::{Context, Problem, Result};
use crate::progress::Progress;
use crate::text::format_bytes;

/// What one request asks for. Half of what is on its way is lost with a kill.
const PIECE: u64 = 4 << 20;

/// A file to download.
pub(crate) struct DownloadRequest<'a> {
    pub place: &'a DownloadSource,
    pub part: &'a Path,
    /// The values in the lock; `None`: any content is accepted.
    pub size: Option<u64>,
    pub sha256: Option<Sha256Digest>,
    /// At the same time, where the server gives parts.
    pub connections: usize,
}

struct PartialFile {
    file: File,
    hasher: ContentHasher,
    /// Some of it comes from an earlier run.
    resumed: bool,
}

impl PartialFile {
    fn open_part(f: &DownloadRequest, progress: &dyn Progress) -> Result<PartialFile> {
        let (path, most) = (f.part, f.size);
        let doing = || format!("write {}", path.display());
        let file = PartialFile::open_locked(path)?;
        let mut part = PartialFile {
            file,
            hasher: ContentHasher::for_pin(f.sha256),
            resumed: false,
        };
        let there = part.file.metadata().with_context(doing)?.len();
        if most.is_some_and(|m| there > m) {
            part.start_over().with_context(doing)?;
            return Ok(part);
        }
        let mut done = 0;
        let read = content_hash::rest(&part.file, &mut part.hasher, &mut |n| {
            done += n;
            progress.set_position(done, most.unwrap_or(there).max(1));
        });
        read.map_err(|e| interrupted_or(e, || format!("read {}", path.display())))?;
        part.resumed = part.hasher.bytes > 0;
        Ok(part)
    }

    /// Opens and locks the part: it waits for another comfy that downloads the same file.
    fn open_locked(path: &Path) -> Result<File> {
        let doing = || format!("write {}", path.display());
        let options = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(nix::libc::O_NOFOLLOW)
                .open(path)
        };
        let mut file = options().with_context(doing)?;
        loop {
            match file.try_lock() {
                Ok(()) => {
                    let (ours, there) = (
                        file.metadata().with_context(doing)?,
                        path.symlink_metadata(),
                    );
                    if there.is_ok_and(|t| (t.dev(), t.ino()) == (ours.dev(), ours.ino())) {
                        return Ok(file);
                    }
                    // Its previous holder has installed it.
                    file = options().with_context(doing)?;
                }
                Err(TryLockError::WouldBlock) if crate::host::signals::is_interrupted() => {
                    return Err(Problem::interrupted());
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(100)),
                // A file system without locks: go on without one.
                Err(TryLockError::Error(_)) => return Ok(file),
            }
        }
    }

    fn start_over(&mut self) -> std::io::Result<()> {
        self.file.set_len(0)?;
        std::io::Seek::rewind(&mut self.file)?;
        self.hasher = self.hasher.start_again();
        self.resumed = false;
        Ok(())
    }

    fn write(&mut self, data: &[u8]) -> Result<(), WebRefusal> {
        if crate::host::signals::is_interrupted() {
            return Err(WebRefusal::Final(Problem::interrupted()));
        }
        self.file.write_all(data).map_err(|e| {
            let p = Problem::new(format!("could not write what was fetched: {e}")).caused_by(&e);
            WebRefusal::Final(if e.kind() == std::io::ErrorKind::StorageFull {
                p.with_hint(
                    "free some space and run it again: the part that was downloaded is not \
                        fetched again",
                )
            } else {
                p
            })
        })?;
        self.hasher.update(data);
        Ok(())
    }
}

fn interrupted_or(e: std::io::Error, what: impl FnOnce() -> String) -> Problem {
    if e.kind() == std::io::ErrorKind::Interrupted {
        Problem::interrupted()
    } else {
        Problem::new(format!("could not {}: {e}", what())).caused_by(&e)
    }
}

/// Downloads the whole file to `part`, synced to disk; returns its size and hashes. What is pinned
/// already is compared by its SHA-256 alone; of what is about to be pinned BLAKE3 is computed too.
///
/// # Errors
/// If the server does not deliver it, delivers something else, or the disk is full. A part with the
/// wrong content is removed.
pub(crate) fn download_file(
    web: &WebClient,
    f: &DownloadRequest,
    progress: &dyn Progress,
) -> Result<(u64, FileDigests)> {
    let mut part = PartialFile::open_part(f, progress)?;
    loop {
        if f.size.is_none_or(|s| part.hasher.bytes < s) {
            download_with_retries(web, f, &mut part, progress)?;
        }
        let (size, found) = (part.hasher.bytes, part.hasher.digests());
        let wrong = f.sha256.is_some_and(|s| s != found.sha256);
        if wrong && part.resumed {
            // The beginning may be of another file, or was damaged: once more, all of it.
            part.start_over()
                .with_context(|| format!("write {}", f.part.display()))?;
            continue;
        }
        if wrong {
            crate::host::fs::edit::remove_path(f.part)
                .with_context(|| format!("remove {}", f.part.display()))?;
            let want = f.sha256.map(|s| s.to_string()).unwrap_or_default();
            return Err(Problem::new(format!(
                "{} gave a file with sha256 {}, but comfy.lock says {want}",
                public_address(&f.place.address),
                found.sha256
            ))
            .with_hint(
                "nothing was put in place; if the new file is meant, `comfy update` pins it",
            ));
        }
        part.file
            .sync_data()
            .with_context(|| format!("write {} to the disk", f.part.display()))?;
        return Ok((size, found));
    }
}

/// Bytes between two cuts that count as something: a server that gives a few and falls silent does
/// not hold a download for ever.
const SOMETHING: u64 = 64 << 10;

/// Continues after interruptions, as long as the download progresses.
fn download_with_retries(
    web: &WebClient,
    f: &DownloadRequest,
    part: &mut PartialFile,
    progress: &dyn Progress,
) -> Result<()> {
    let mut tries = 0;
    loop {
        let before = part.hasher.bytes;
        let refusal = match download_stretch(web, f, part, progress) {
            Ok(()) => return Ok(()),
            Err(_) if crate::host::signals::is_interrupted() => return Err(Problem::interrupted()),
            Err(WebRefusal::Busy(server)) if server.is_back_soon() => WebRefusal::Busy(server),
            Err(r @ WebRefusal::Passing(_)) => r,
            Err(r) => return Err(f.place.explain_refusal(r)),
        };
        tries = if part.hasher.bytes >= before + SOMETHING {
            1
        } else {
            tries + 1
        };
        if tries > TRIES {
            return Err(refusal.into_problem());
        }
        pause_between(tries).map_err(WebRefusal::into_problem)?;
    }
}

/// Downloads from the current position to the end, or to the next interruption.
fn download_stretch(
    web: &WebClient,
    f: &DownloadRequest,
    part: &mut PartialFile,
    progress: &dyn Progress,
) -> Result<(), WebRefusal> {
    let have = part.hasher.bytes;
    let asked = Some((have, Some(have + PIECE - 1)));
    let ask = WebRequest {
        address: &f.place.address,
        key: f.place.key.as_ref(),
        range: asked,
        ..WebRequest::default()
    };
    let reply = match web.send_request(&ask) {
        // What is there ends where the file does, and nobody said how long that is.
        Err(WebRefusal::Status(416, _)) if have > 0 && f.size.is_none() => return Ok(()),
        other => other?,
    };
    let final_ = |why: String| WebRefusal::Final(Problem::new(why));
    if reply.is_page() {
        return Err(WebRefusal::Final(f.place.page_instead(&reply.address)));
    }
    let total = reply.total_bytes();
    if let (Some(t), Some(s)) = (total, f.size)
        && t != s
    {
        let why = format!(
            "{} says that the file has {t} bytes ({}), but comfy.lock says {s} ({})",
            public_address(&reply.address),
            format_bytes(t),
            format_bytes(s)
        );
        return Err(WebRefusal::Final(
            Problem::new(why).with_hint("if the new file is meant, `comfy update` pins it"),
        ));
    }
    match reply.first_byte() {
        Some(b) if b == have => {}
        // No parts here: from the beginning.
        Some(0) => part
            .start_over()
            .map_err(|e| final_(format!("could not write what was fetched: {e}")))?,
        _ => {
            return Err(final_(format!(
                "{} returns another part of the file than requested",
                public_address(&reply.address)
            )));
        }
    }
    let in_parts = reply.response.status().as_u16() == 206;
    let end = total.or(f.size);
    let address = reply.address.clone();
    let same_server = super::web::same_server(&address, &f.place.address);
    let mut tell = ProgressTicker {
        progress,
        total: end,
    };
    let wanted = if in_parts {
        end.map_or(PIECE, |e| PIECE.min(e - have))
    } else {
        end.map_or(u64::MAX, |e| e - part.hasher.bytes)
    };
    read_body(reply, part, wanted, end.is_some(), &mut tell)?;
    if !in_parts {
        return Ok(());
    }
    let Some(end) = end else {
        return Err(final_(format!(
            "{} does not say how long the file is",
            public_address(&address)
        )));
    };
    // A redirect's end is asked directly, without the key that the first server got.
    download_ranges(
        web,
        &address,
        f.place.key.as_ref().filter(|_| same_server),
        end,
        f.connections,
        part,
        &mut tell,
    )
}

struct ProgressTicker<'a> {
    progress: &'a dyn Progress,
    total: Option<u64>,
}

impl ProgressTicker<'_> {
    fn at(&self, bytes: u64) {
        self.progress
            .set_position(bytes, self.total.unwrap_or(bytes + 1).max(1));
    }
}

/// Reads the answer's body into the part, `wanted` bytes of it.
fn read_body(
    reply: WebReply,
    part: &mut PartialFile,
    wanted: u64,
    known: bool,
    tell: &mut ProgressTicker,
) -> Result<(), WebRefusal> {
    let address = reply.address.clone();
    let mut body = reply.response.into_body().into_reader();
    let mut buffer = vec![0; content_hash::BLOCK];
    let mut left = wanted;
    while left > 0 {
        let most = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let n = body
            .read(&mut buffer[..most])
            .map_err(|e| WebRefusal::Passing(format!("{}: {e}", public_address(&address))))?;
        if n == 0 {
            return if known {
                Err(WebRefusal::Passing(format!(
                    "{} ended before the end of the file",
                    public_address(&address)
                )))
            } else {
                Ok(())
            };
        }
        part.write(&buffer[..n])?;
        left -= n as u64;
        tell.at(part.hasher.bytes);
    }
    Ok(())
}

/// The rest in pieces, by several connections in turn: the next piece is always that of the next
/// one.
fn download_ranges(
    web: &WebClient,
    address: &str,
    key: Option<&SecretText>,
    end: u64,
    connections: usize,
    part: &mut PartialFile,
    tell: &mut ProgressTicker,
) -> Result<(), WebRefusal> {
    let start = part.hasher.bytes;
    let count = (end - start).div_ceil(PIECE);
    let lanes = u64::try_from(connections)
        .unwrap_or(1)
        .clamp(1, count.max(1));
    std::thread::scope(|scope| {
        type Piece = Result<Vec<u8>, WebRefusal>;
        let mut ends: Vec<(Receiver<Piece>, Sender<Vec<u8>>)> = Vec::new();
        for lane in 0..lanes {
            let (out, full): (SyncSender<Piece>, Receiver<Piece>) = sync_channel(0);
            let (spent, empty) = channel::<Vec<u8>>();
            ends.push((full, spent));
            scope.spawn(move || {
                for n in (lane..count).step_by(usize::try_from(lanes).unwrap_or(1)) {
                    let from = start + n * PIECE;
                    let to = (from + PIECE).min(end);
                    let piece = download_range(
                        web,
                        address,
                        key,
                        from,
                        to,
                        empty.try_recv().unwrap_or_default(),
                    );
                    let failed = piece.is_err();
                    // It is not needed if another piece failed.
                    if out.send(piece).is_err() || failed {
                        return;
                    }
                }
            });
        }
        for n in 0..count {
            let (full, spent) = &ends[usize::try_from(n % lanes).unwrap_or(0)];
            let piece = full.recv().map_err(|_| {
                WebRefusal::Passing(format!("{}: a connection ended", public_address(address)))
            })??;
            part.write(&piece)?;
            tell.at(part.hasher.bytes);
            // A lane that is through needs no buffer.
            let _ = spent.send(piece);
        }
        Ok(())
    })
}

fn download_range(
    web: &WebClient,
    address: &str,
    key: Option<&SecretText>,
    from: u64,
    to: u64,
    mut buffer: Vec<u8>,
) -> Result<Vec<u8>, WebRefusal> {
    let passing = |why: String| WebRefusal::Passing(format!("{}: {why}", public_address(address)));
    let reply = match web.send_request(&WebRequest {
        address,
        key,
        range: Some((from, Some(to - 1))),
        ..WebRequest::default()
    }) {
        // A signed address has expired: request it again from the first address.
        Err(WebRefusal::Status(code @ (400 | 401 | 403 | 404 | 410), _)) => {
            return Err(passing(format!("answers {code} in the middle of the file")));
        }
        other => other?,
    };
    if reply.first_byte() != Some(from) || reply.total_bytes().is_some_and(|t| t < to) {
        return Err(passing(
            "returns another part of the file than requested".into(),
        ));
    }
    let length = usize::try_from(to - from).unwrap_or(0);
    buffer.resize(length, 0);
    reply
        .response
        .into_body()
        .into_reader()
        .read_exact(&mut buffer)
        .map_err(|e| passing(e.to_string()))?;
    Ok(buffer)
}
