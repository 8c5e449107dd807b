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

/// Makes a [`Progress`] for each named job, and takes remarks.
pub trait Reporter: Sync + Send {
    fn job(&self, name: &str) -> Box<dyn Progress>;
    fn say(&self, line: &str);
    /// A step of `address` is done.
    fn step(&self, _address: &str) {}
}

/// Reports nothing.
pub struct Quiet;

impl Reporter for Quiet {
    fn job(&self, _: &str) -> Box<dyn Progress> {
        Box::new(Silent)
    }
    fn say(&self, _: &str) {}
}
