//! Starts a parser for a unit, sends it the files, and notices when it crashes or hangs: then the
//! file it was at is a finding, and a new parser takes the others. If its threads were at several
//! files, the new one has a single thread, and tells which of them it was.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use super::descriptors;
use super::parser::{ParserConfig, ParserMessage, ParserRequest};
use super::sources::{ScanEntry, ScanUnit};
use super::threads::ThreadShare;
use super::watch::{ParserWatch, Suspect};
use crate::host::roles::Role;
use crate::host::roles::spawn::{inherit_fds, role_command, send_config};
use crate::host::signals;
use crate::problem::{Context, Problem, Result};
use crate::scan::carrier::{self, rules};
use crate::scan::finding::{Finding, Severity};
use crate::scan::report::ScanReport;
use crate::scan::unit::FileFindings;

/// How long a parser may be at one file, or at all of them together.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the parsers of one unit may take together.
const WHOLE_PATIENCE: Duration = Duration::from_secs(900);
/// How many crashes of one unit are looked into.
const CRASHES: usize = 10;
/// The longest answer, in bytes.
const LONGEST: u64 = 64 << 20;
/// Messages that wait to be read.
const WAITING: usize = 64;

/// Scans one unit.
///
/// # Errors
/// Ctrl-C; the parser cannot be started; the source cannot be opened.
pub(super) fn scan_unit(unit: &ScanUnit) -> Result<ScanReport> {
    let mut scan = UnitProgress::new();
    let mut share = ThreadShare::take();
    let mut crashes = 0;
    while crashes < CRASHES {
        match scan.attempt(unit, share.count())? {
            ParserEnd::Done => return Ok(scan.into_report(&unit.prefix)),
            // With a single thread it is at one file.
            ParserEnd::Unclear if share.count() == 1 => break,
            ParserEnd::Unclear => share = ThreadShare::single(),
            ParserEnd::Died { at, how } => {
                crashes += 1;
                let message = format!("the process that parsed it {how}");
                scan.report
                    .findings
                    .push(Finding::about_file(&rules::CRASH, &at, message));
                if !scan.left_out.insert(at) {
                    break;
                }
            }
        }
    }
    let message = "the process that parsed these files ended again and again: not all of them were \
                   scanned";
    scan.report
        .findings
        .push(Finding::about_file(&rules::CRASH, "", message.into()));
    Ok(scan.into_report(&unit.prefix))
}

enum ParserEnd {
    Done,
    /// `how` follows "the process".
    Died {
        at: String,
        how: String,
    },
    /// One of the files that its threads were at has ended it.
    Unclear,
}

/// The file that a parser was at, and why it is stopped if it did not end by itself.
type Stopped = (Suspect, Option<&'static str>);

struct UnitProgress {
    report: ScanReport,
    /// Files that ended a parser.
    left_out: BTreeSet<String>,
    /// What was found in each file by itself; what is kept there is parsed again by each parser.
    files: BTreeMap<String, FileFindings>,
    /// What was found without a parser.
    entries: Vec<Finding>,
    begun: Instant,
}

impl UnitProgress {
    fn new() -> UnitProgress {
        UnitProgress {
            report: ScanReport::default(),
            left_out: BTreeSet::new(),
            files: BTreeMap::new(),
            entries: Vec::new(),
            begun: Instant::now(),
        }
    }

    /// Whether no parser needs the file any more.
    fn is_done(&self, path: &str) -> bool {
        self.left_out.contains(path) || self.files.get(path).is_some_and(|f| !f.kept)
    }

    fn attempt(&mut self, unit: &ScanUnit, threads: usize) -> Result<ParserEnd> {
        let (mut socket, theirs) = UnixStream::pair().context("make a socket")?;
        let mut child = start_parser(theirs, threads)?;
        let stdout = child
            .stdout
            .take()
            .ok_or_else(|| Problem::new("no pipe from the parser"))?;
        let (tell, messages) = sync_channel(WAITING);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            while let Some(message) = next_message(&mut reader) {
                if tell.send(message).is_err() {
                    return;
                }
            }
        });
        let paths = self.left_out.iter().chain(self.files.keys());
        let done: BTreeSet<String> = paths.filter(|p| self.is_done(p)).cloned().collect();
        let result = std::thread::scope(|scope| -> Result<(Option<Stopped>, EntryFindings)> {
            let sending = scope.spawn(|| send_files(&mut socket, unit, &done));
            let heard = self.hear(&messages);
            if !matches!(heard, Ok(None)) {
                let _ = child.kill();
            }
            let sent = sending
                .join()
                .unwrap_or_else(|_| Err(Problem::new("the files could not be sent")));
            Ok((heard?, sent?))
        });
        let _ = child.kill();
        let status = child.wait().context("wait for the parser")?;
        let (died, found) = result?;
        self.report.files = self.report.files.max(found.files);
        // A parser that ends early is not sent everything.
        if found.findings.len() > self.entries.len() {
            self.entries = found.findings;
        }
        let Some((at, why)) = died else {
            return Ok(ParserEnd::Done);
        };
        let Suspect::File(at) = at else {
            return Ok(ParserEnd::Unclear);
        };
        let how = match (why, status.signal()) {
            (Some(why), _) => why.to_string(),
            (None, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None) => format!("ended ({status})"),
        };
        Ok(ParserEnd::Died { at, how })
    }

    /// Takes what the parser says; `None`: it said everything.
    fn hear(&mut self, messages: &Receiver<ParserMessage>) -> Result<Option<Stopped>> {
        let mut watch = ParserWatch::new(Instant::now());
        let patience = patience();
        loop {
            if signals::is_interrupted() {
                return Err(Problem::interrupted());
            }
            if self.begun.elapsed() > WHOLE_PATIENCE {
                let why = "was stopped, since the scan took too long";
                return Ok(Some((watch.suspect(), Some(why))));
            }
            let message = messages.recv_timeout(Duration::from_millis(200));
            let now = Instant::now();
            match message {
                Ok(ParserMessage::Begin(path)) => watch.begin_file(path, now),
                Ok(ParserMessage::File(path, found)) => {
                    watch.end_file(&path, now);
                    self.files.insert(path, found);
                }
                Ok(ParserMessage::Follow(path)) => watch.follow(path, now),
                Ok(ParserMessage::Followed) => watch.end_following(now),
                Ok(ParserMessage::Unit(found)) => {
                    self.report.findings.extend(found);
                    return Ok(None);
                }
                Ok(ParserMessage::Failed(p)) => return Err(p),
                Err(RecvTimeoutError::Disconnected) => return Ok(Some((watch.suspect(), None))),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Some(path) = watch.overdue(patience, now) {
                let why = "was stopped after a minute";
                return Ok(Some((Suspect::File(path), Some(why))));
            }
        }
    }

    fn into_report(mut self, prefix: &str) -> ScanReport {
        self.report.findings.append(&mut self.entries);
        for found in self.files.into_values() {
            self.report.findings.extend(found.findings);
            self.report.verdicts.extend(found.verdict);
        }
        if !prefix.is_empty() {
            let add = |path: &mut String| path.insert_str(0, prefix);
            for finding in &mut self.report.findings {
                add(&mut finding.path);
                finding.steps.iter_mut().for_each(|s| add(&mut s.path));
            }
            self.report
                .verdicts
                .iter_mut()
                .for_each(|v| add(&mut v.path));
        }
        self.report
    }
}

/// How long a parser may be at one file.
fn patience() -> Duration {
    #[cfg(feature = "faults")]
    if let Some(milliseconds) = crate::host::faults::parsing_number("patience:") {
        return Duration::from_millis(milliseconds as u64);
    }
    PATIENCE
}

fn start_parser(theirs: UnixStream, threads: usize) -> Result<Child> {
    let mut command = role_command(Role::Parser)?;
    let theirs = OwnedFd::from(theirs);
    inherit_fds(&mut command, &[&theirs]);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().context("start the parser")?;
    let config = ParserConfig {
        socket: theirs.as_raw_fd(),
        parent: nix::unistd::getpid().as_raw(),
        threads,
    };
    send_config(&mut child, &config)?;
    Ok(child)
}

fn next_message(reader: &mut BufReader<ChildStdout>) -> Option<ParserMessage> {
    let mut line = Vec::new();
    let n = std::io::Read::take(&mut *reader, LONGEST)
        .read_until(b'\n', &mut line)
        .ok()?;
    if n == 0 {
        return None;
    }
    serde_json::from_slice(&line).ok()
}

/// What is found without the parser.
#[derive(Default)]
struct EntryFindings {
    findings: Vec<Finding>,
    files: usize,
}

/// Sends every file that is not done; a parser that is gone ends it, and the other side notices.
fn send_files(
    socket: &mut UnixStream,
    unit: &ScanUnit,
    done: &BTreeSet<String>,
) -> Result<EntryFindings> {
    let mut found = EntryFindings::default();
    unit.source.visit(&mut |entry| match entry {
        ScanEntry::File {
            facts,
            file,
            start,
            size,
        } => {
            found.files += 1;
            if done.contains(&facts.path) {
                return true;
            }
            let request = ParserRequest::File { facts, start, size };
            let text = serde_json::to_vec(&request).unwrap_or_default();
            descriptors::send(socket, &text, Some(file.as_raw_fd())).is_ok()
        }
        ScanEntry::Link { path, target } => {
            found.findings.extend(carrier::examine_link(&path, &target));
            found.findings.extend(carrier::examine_name(&path));
            true
        }
        ScanEntry::Special { path } => {
            let message = "it is a pipe, a socket or a device".to_string();
            found
                .findings
                .push(Finding::about_file(&rules::SPECIAL_FILE, &path, message));
            true
        }
        ScanEntry::LeftOut { path } => {
            let message = "it was not fetched for the scan, and so not looked at".to_string();
            // Code of that length is not what people write by hand.
            let severity = match carrier::is_source_path(&path) {
                true => Severity::High,
                false => rules::NOT_FETCHED.severity,
            };
            found.findings.push(Finding {
                severity,
                ..Finding::about_file(&rules::NOT_FETCHED, &path, message)
            });
            true
        }
        ScanEntry::Unreadable { path, why } => {
            let shown = format!("it could not be read: {why}");
            found
                .findings
                .push(Finding::about_file(&rules::UNREADABLE, &path, shown));
            true
        }
    })?;
    let end = serde_json::to_vec(&ParserRequest::End).unwrap_or_default();
    let _ = descriptors::send(socket, &end, None);
    Ok(found)
}
