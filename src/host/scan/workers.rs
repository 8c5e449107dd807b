//! The threads of a parser. Each takes file after file as they come. Sources that are followed
//! together are parsed first: while one thread follows data through them, the others are at the
//! files that stand for themselves.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::descriptors;
use super::parser::{ParserMessage, ParserRequest};
use crate::host::roles::wire;
use crate::problem::{Context, Problem, Result};
use crate::scan::carrier::EntryFacts;
use crate::scan::content::{self, ReadAt};
use crate::scan::finding::Finding;
use crate::scan::unit::{self, AdmittedFile, UnitScan};

/// Files that wait until the sources are parsed; each keeps a descriptor open, and a Mac allows 256.
const MOST_WAITING: usize = 64;

/// Bytes of a file, from `start` on.
struct FileRange {
    file: File,
    start: u64,
    size: u64,
}

/// A file that is not longer is read once, as a whole.
const LOADED: u64 = 4 << 20;

impl FileRange {
    /// The same bytes, from memory if they are few.
    fn load(&self) -> io::Result<Box<dyn ReadAt + '_>> {
        if self.size <= LOADED {
            return Ok(Box::new(content::read_start(self, LOADED)?));
        }
        Ok(Box::new(self))
    }
}

impl ReadAt for &FileRange {
    fn size(&self) -> u64 {
        (*self).size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        (*self).read_at(offset, buffer)
    }
}

impl ReadAt for FileRange {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        self.file
            .read_at(&mut buffer[..wanted], self.start + offset)
    }
}

/// One file that has come.
struct ReceivedFile {
    facts: EntryFacts,
    range: FileRange,
    admitted: AdmittedFile,
}

/// What the threads share.
struct Intake {
    /// None: no more files come.
    socket: Mutex<Option<UnixStream>>,
    unit: Mutex<UnitScan>,
    waiting: Mutex<Vec<ReceivedFile>>,
    /// Threads that may still be at a source.
    receiving: Mutex<usize>,
    /// What was found in all sources together.
    followed: Mutex<Vec<Finding>>,
}

/// Parses until the socket ends, with so many threads, each with a stack of so many bytes.
///
/// # Errors
/// A file cannot be read; the other side does not speak the protocol.
pub(super) fn parse_all(socket: UnixStream, stack: usize, threads: usize) -> Result<()> {
    let intake = Intake {
        socket: Mutex::new(Some(socket)),
        unit: Mutex::default(),
        waiting: Mutex::default(),
        receiving: Mutex::new(threads.max(1)),
        followed: Mutex::default(),
    };
    std::thread::scope(|scope| {
        let parse = || intake.parse_files(threads > 1);
        let others: Vec<_> = (1..threads)
            .filter_map(|_| {
                let thread = std::thread::Builder::new().stack_size(stack);
                let started = thread.spawn_scoped(scope, parse).ok();
                if started.is_none() {
                    // With fewer of them it takes longer.
                    *lock(&intake.receiving) -= 1;
                }
                started
            })
            .collect();
        let own = parse();
        let joined = others.into_iter().map(|thread| {
            let ended = thread.join();
            ended.unwrap_or_else(|_| Err(Problem::new("a thread of the parser panicked")))
        });
        joined.fold(own, Result::and)
    })?;
    let found = std::mem::take(&mut *lock(&intake.followed));
    wire::print_line(&ParserMessage::Unit(found));
    Ok(())
}

impl Intake {
    /// The work of one thread.
    fn parse_files(&self, may_wait: bool) -> Result<()> {
        let parsed = self.parse_received(may_wait);
        if parsed.is_err() {
            // The others need not go on.
            *lock(&self.socket) = None;
            lock(&self.waiting).clear();
        }
        let last = {
            let mut receiving = lock(&self.receiving);
            *receiving -= 1;
            *receiving == 0
        };
        parsed?;
        if last {
            let unit = std::mem::take(&mut *lock(&self.unit));
            let found = unit.finish(&mut |path| {
                wire::print_line(&ParserMessage::Follow(path.to_string()));
            });
            wire::print_line(&ParserMessage::Followed);
            *lock(&self.followed) = found;
        }
        while let Some(file) = self.next_waiting() {
            self.parse(&file)?;
        }
        Ok(())
    }

    fn parse_received(&self, may_wait: bool) -> Result<()> {
        while let Some(file) = self.receive()? {
            let mut waiting = lock(&self.waiting);
            if may_wait && !file.admitted.is_followed() && waiting.len() < MOST_WAITING {
                waiting.push(file);
                continue;
            }
            drop(waiting);
            self.parse(&file)?;
        }
        Ok(())
    }

    /// The largest first, so that no thread is left with it at the end.
    fn next_waiting(&self) -> Option<ReceivedFile> {
        let mut waiting = lock(&self.waiting);
        let sizes = waiting.iter().map(|f| f.range.size).enumerate();
        let (at, _) = sizes.max_by_key(|(_, size)| *size)?;
        Some(waiting.swap_remove(at))
    }

    /// Parses one file by itself.
    fn parse(&self, file: &ReceivedFile) -> Result<()> {
        let path = &file.facts.path;
        wire::print_line(&ParserMessage::Begin(path.clone()));
        #[cfg(feature = "faults")]
        if let Some(found) = probed(file)? {
            wire::print_line(&ParserMessage::File(path.clone(), found));
            return Ok(());
        }
        let examined = file
            .range
            .load()
            .and_then(|content| unit::examine_file(&file.facts, &*content, file.admitted))
            .with_context(|| format!("read {}", crate::text::escape_text(path)))?;
        let found = lock(&self.unit).keep(file.admitted, examined);
        wire::print_line(&ParserMessage::File(path.clone(), found));
        Ok(())
    }

    /// Waits for a file; `None`: no more come. Files are admitted in the order in which they were
    /// sent, whichever thread takes them.
    fn receive(&self) -> Result<Option<ReceivedFile>> {
        let mut open = lock(&self.socket);
        let Some(socket) = open.as_mut() else {
            return Ok(None);
        };
        let received = descriptors::receive(socket).context("receive a file")?;
        let request = received
            .map(|(message, fd)| serde_json::from_slice(&message).map(|request| (request, fd)))
            .transpose()
            .context("understand what to parse")?;
        let Some((ParserRequest::File { facts, start, size }, fd)) = request else {
            *open = None;
            return Ok(None);
        };
        let fd: OwnedFd = fd.ok_or_else(|| Problem::new("a file came without its bytes"))?;
        let range = FileRange {
            file: File::from(fd),
            start,
            size,
        };
        let admitted = lock(&self.unit)
            .admit(&facts, &range)
            .with_context(|| format!("read {}", crate::text::escape_text(&facts.path)))?;
        Ok(Some(ReceivedFile {
            facts,
            range,
            admitted,
        }))
    }
}

/// A thread that panics ends the process, so that no lock outlives it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the tests have a parser do.
#[cfg(feature = "faults")]
fn probed(file: &ReceivedFile) -> Result<Option<unit::FileFindings>> {
    let head = content::read_start(&file.range, 64).context("read a file")?;
    Ok(crate::host::faults::parser_fault(&head).map(|told| {
        let rule = &crate::scan::carrier::rules::CRASH;
        unit::FileFindings {
            findings: vec![Finding::about_file(rule, &file.facts.path, told)],
            ..unit::FileFindings::default()
        }
    }))
}
