//! Lines of JSON between comfy's own processes, and the progress that travels in them.

use std::collections::BTreeMap;
use std::io::Write;
use std::marker::PhantomData;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::progress::{Progress, ProgressUnit, Reporter};

/// How long after one line of a job's progress the next one waits.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(50);

/// Writes `message` to stdout, as one line. The other side may be gone; work that has begun goes on
/// without it.
pub(crate) fn print_line(message: &impl serde::Serialize) {
    if let Ok(text) = serde_json::to_string(message) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }
}

/// What a [`Reporter`] is told, on its way to another process.
#[derive(Debug)]
pub(crate) enum Event {
    Progress(ProgressUpdate),
    Say(String),
    Step(String),
}

/// The position of one job.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct ProgressUpdate {
    job: String,
    unit: ProgressUnit,
    at: u64,
    total: u64,
    /// What it works on.
    detail: String,
}

/// A message that can hold an [`Event`].
pub(crate) trait EventMessage: serde::Serialize {
    /// `None`: the other side is not told.
    fn from_event(event: Event) -> Option<Self>
    where
        Self: Sized;
}

/// Reports to the process at the other end of stdout, in messages of its protocol.
pub(crate) struct RemoteReporter<M>(PhantomData<fn(M)>);

impl<M> Default for RemoteReporter<M> {
    fn default() -> Self {
        RemoteReporter(PhantomData)
    }
}

fn tell<M: EventMessage>(event: Event) {
    if let Some(message) = M::from_event(event) {
        print_line(&message);
    }
}

impl<M: EventMessage + 'static> Reporter for RemoteReporter<M> {
    fn start_counted(&self, name: &str, unit: ProgressUnit) -> Box<dyn Progress> {
        Box::new(RemoteProgress::<M> {
            job: name.into(),
            unit,
            last: Mutex::new(None),
            detail: Mutex::default(),
            message: PhantomData,
        })
    }
    fn print_line(&self, line: &str) {
        tell::<M>(Event::Say(line.into()));
    }
    fn step_done(&self, address: &str) {
        tell::<M>(Event::Step(address.into()));
    }
}

/// The progress of one job, told no more often than every [`PROGRESS_INTERVAL`].
struct RemoteProgress<M> {
    job: String,
    unit: ProgressUnit,
    last: Mutex<Option<Instant>>,
    detail: Mutex<String>,
    message: PhantomData<fn(M)>,
}

impl<M: EventMessage> Progress for RemoteProgress<M> {
    fn set_position(&self, at: u64, total: u64) {
        let Ok(mut last) = self.last.lock() else {
            return;
        };
        if at != total && last.is_some_and(|t| t.elapsed() < PROGRESS_INTERVAL) {
            return;
        }
        *last = Some(Instant::now());
        let detail = self.detail.lock().map(|d| d.clone());
        tell::<M>(Event::Progress(ProgressUpdate {
            job: self.job.clone(),
            unit: self.unit,
            at,
            total,
            detail: detail.unwrap_or_default(),
        }));
    }

    fn set_detail(&self, detail: &str) {
        if let Ok(mut d) = self.detail.lock() {
            *d = detail.into();
        }
    }
}

/// Passes events of another process on to the [`Reporter`] of this one.
pub(crate) struct EventRelay<'a> {
    report: &'a dyn Reporter,
    jobs: BTreeMap<String, Box<dyn Progress>>,
}

impl<'a> EventRelay<'a> {
    pub(crate) fn new(report: &'a dyn Reporter) -> Self {
        EventRelay {
            report,
            jobs: BTreeMap::new(),
        }
    }

    pub(crate) fn pass_on(&mut self, event: Event) {
        match event {
            Event::Progress(p) => {
                let start = |job: &String| self.report.start_counted(job, p.unit);
                let progress = self.jobs.entry(p.job).or_insert_with_key(start);
                progress.set_detail(&p.detail);
                progress.set_position(p.at, p.total);
            }
            Event::Say(line) => self.report.print_line(&line),
            Event::Step(address) => self.report.step_done(&address),
        }
    }
}
