//! What a long job tells while it runs. Rendering is elsewhere: [`crate::render::bars`].

/// Takes the progress of one job; called from any thread.
pub trait Progress: Sync + Send {
    /// `position` of `total`, in whatever unit the job counts.
    fn set_position(&self, position: u64, total: u64);
}

/// Tells nobody.
pub struct NoProgress;

impl Progress for NoProgress {
    fn set_position(&self, _: u64, _: u64) {}
}

/// What a job counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ProgressUnit {
    Steps,
    /// Shown with how fast they come, and how long it will take.
    Bytes,
}

/// Makes a [`Progress`] for each named job, and takes remarks.
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
