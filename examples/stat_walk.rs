//! The floor that `scripts/bench` measures `comfy plan` against: one lstat of every entry below the
//! given folders, with comfy's own parallel walk and nothing else.

use std::ffi::CStr;
use std::sync::atomic::{AtomicUsize, Ordering};

use comfy::host::fs::open_dir;
use comfy::host::fs::walk::{Folder, Visit, walk};
use nix::sys::stat::FileStat;

struct Count(AtomicUsize);

impl Visit for Count {
    type Local = ();
    fn entry(&self, (): &mut (), _: &Folder, _: &CStr, _: &FileStat) -> bool {
        true
    }
    fn done(&self, (): (), _: &Folder, entries: usize) {
        self.0.fetch_add(entries, Ordering::Relaxed);
    }
    fn failed(&self, path: &str, e: nix::errno::Errno) {
        comfy::render::stderr(&format!("{path}: {e}"));
    }
}

fn main() -> std::io::Result<()> {
    let count = Count(AtomicUsize::new(0));
    for path in std::env::args().skip(1) {
        walk(open_dir(path.as_ref())?, &count);
    }
    comfy::render::stdout(&count.0.into_inner().to_string());
    Ok(())
}
