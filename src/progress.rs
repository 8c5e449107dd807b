//! The progress of long jobs. Rendering is in [`crate::render::bars`].

/// Receives the progress of one job, from any thread.
pub trait Progress: Sync + Send {
    /// Sets the position, of `total`, in the job's unit.
    fn set_position(&self, position: u64, total: u64);
}

/// Ignores progress.
pub struct NoProgress;

impl Progress for NoProgress {
    fn set_position(&self, _: u64, _: u64) {}
}

/// What a job counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ProgressUnit {
    Steps,
    /// Bytes, shown with rate and remaining time.
    Bytes,
}

/// Makes a [`Progress`] for each named job, and takes lines to print.
pub trait Reporter: Sync + Send {
    fn start_counted(&self, name: &str, unit: ProgressUnit) -> Box<dyn Progress>;
    fn start_job(&self, name: &str) -> Box<dyn Progress> {
        self.start_counted(name, ProgressUnit::Steps)
    }
    fn print_line(&self, line: &str);
    /// A step of `address` is done.
    fn step_done(&self, _address: &str) {}
}

/// Reports nothing.
pub struct QuietReporter;

impl Reporter for QuietReporter {
    fn start_counted(&self, _: &str, _: ProgressUnit) -> Box<dyn Progress> {
        Box::new(NoProgress)
    }
    fn print_line(&self, _: &str) {}
}
