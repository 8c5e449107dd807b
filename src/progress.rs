//! The progress of long jobs. Rendering is in [`crate::render::bars`].

/// Receives the progress of one job, from any thread.
pub(crate) trait Progress: Sync + Send {
    /// Sets the position, of `total`, in the job's unit.
    fn set_position(&self, position: u64, total: u64);
    /// Names what the job works on now, such as a package; shown with the next position.
    fn set_detail(&self, _detail: &str) {}
}

/// Ignores progress.
pub(crate) struct NoProgress;

impl Progress for NoProgress {
    fn set_position(&self, _: u64, _: u64) {}
}

/// What a job counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum ProgressUnit {
    Steps,
    /// Bytes, shown with rate and remaining time.
    Bytes,
}

/// Makes a [`Progress`] for each named job, and takes lines to print.
pub(crate) trait Reporter: Sync + Send {
    fn start_counted(&self, name: &str, unit: ProgressUnit) -> Box<dyn Progress>;
    fn start_job(&self, name: &str) -> Box<dyn Progress> {
        self.start_counted(name, ProgressUnit::Steps)
    }
    fn print_line(&self, line: &str);
    /// A step of `address` is done.
    fn step_done(&self, _address: &str) {}
}
