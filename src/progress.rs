//! What a long job tells while it runs. Rendering is elsewhere: [`crate::render::bars`].

/// Takes the progress of one job; called from any thread.
pub trait Progress: Sync + Send {
    /// `position` of `total`, in whatever unit the job counts.
    fn at(&self, position: u64, total: u64);
}

/// Tells nobody.
pub struct Silent;

impl Progress for Silent {
    fn at(&self, _: u64, _: u64) {}
}

/// What a job counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Unit {
    Steps,
    /// Shown with how fast they come, and how long it will take.
    Bytes,
}

/// Makes a [`Progress`] for each named job, and takes remarks.
pub trait Reporter: Sync + Send {
    fn work(&self, name: &str, unit: Unit) -> Box<dyn Progress>;
    fn job(&self, name: &str) -> Box<dyn Progress> {
        self.work(name, Unit::Steps)
    }
    fn say(&self, line: &str);
    /// A step of `address` is done.
    fn step(&self, _address: &str) {}
}

/// Reports nothing.
pub struct Quiet;

impl Reporter for Quiet {
    fn work(&self, _: &str, _: Unit) -> Box<dyn Progress> {
        Box::new(Silent)
    }
    fn say(&self, _: &str) {}
}
