//! Starts a parser for a unit, sends it the files, and notices when it crashes or hangs: then the
//! file it was at is a finding, and a new parser takes the others.

use std::collections::BTreeSet;
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
use crate::host::roles::Role;
use crate::host::roles::spawn::{inherit_fds, role_command, send_config};
use crate::host::signals;
use crate::problem::{Context, Problem, Result};
use crate::scan::carrier::{self, rules};
use crate::scan::finding::{Finding, Severity};
use crate::scan::report::ScanReport;

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
    let mut scan = UnitProgress {
        report: ScanReport::default(),
        left_out: BTreeSet::new(),
        done: BTreeSet::new(),
        begun: Instant::now(),
    };
    for _ in 0..CRASHES {
        match scan.attempt(unit)? {
            ParserEnd::Done => return Ok(scan.into_report(&unit.prefix)),
            ParserEnd::Died { at, how } => {
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
}

/// The file that a parser was at, and why it is stopped if it did not end by itself.
type Stopped = (String, Option<&'static str>);

struct UnitProgress {
    report: ScanReport,
    /// Files that ended a parser.
    left_out: BTreeSet<String>,
    /// Files whose findings are in the report.
    done: BTreeSet<String>,
    begun: Instant,
}

impl UnitProgress {
    fn attempt(&mut self, unit: &ScanUnit) -> Result<ParserEnd> {
        let (mut socket, theirs) = UnixStream::pair().context("make a socket")?;
        let mut child = start_parser(theirs)?;
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
        let (left_out, done) = (self.left_out.clone(), self.done.clone());
        let result = std::thread::scope(|scope| -> Result<(Option<Stopped>, EntryFindings)> {
            let sending = scope.spawn(|| send_files(&mut socket, unit, &left_out, &done));
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
        let Some((at, why)) = died else {
            self.report.findings.extend(found.findings);
            return Ok(ParserEnd::Done);
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
        let mut at = String::new();
        let mut since = Instant::now();
        loop {
            if signals::is_interrupted() {
                return Err(Problem::interrupted());
            }
            if self.begun.elapsed() > WHOLE_PATIENCE {
                return Ok(Some((
                    at,
                    Some("was stopped, since the scan took too long"),
                )));
            }
            match messages.recv_timeout(Duration::from_millis(200)) {
                Ok(ParserMessage::Begin(path)) => at = path,
                Ok(ParserMessage::File(path, found)) => {
                    if !self.done.contains(&path) {
                        self.report.findings.extend(found.findings);
                        self.report.verdicts.extend(found.verdict);
                        if !found.kept {
                            self.done.insert(path);
                        }
                    }
                }
                Ok(ParserMessage::Unit(found)) => {
                    self.report.findings.extend(found);
                    return Ok(None);
                }
                Ok(ParserMessage::Failed(p)) => return Err(p),
                Err(RecvTimeoutError::Disconnected) => return Ok(Some((at, None))),
                Err(RecvTimeoutError::Timeout) if since.elapsed() > PATIENCE => {
                    return Ok(Some((at, Some("was stopped after a minute"))));
                }
                Err(RecvTimeoutError::Timeout) => continue,
            }
            since = Instant::now();
        }
    }

    fn into_report(mut self, prefix: &str) -> ScanReport {
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

fn start_parser(theirs: UnixStream) -> Result<Child> {
    let mut command = role_command(Role::Parser)?;
    let theirs = OwnedFd::from(theirs);
    inherit_fds(&mut command, &[&theirs]);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().context("start the parser")?;
    let config = ParserConfig {
        socket: theirs.as_raw_fd(),
        parent: nix::unistd::getpid().as_raw(),
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
    left_out: &BTreeSet<String>,
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
            if left_out.contains(&facts.path) || done.contains(&facts.path) {
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
