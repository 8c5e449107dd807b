//! The floor that `scripts/bench` measures `comfy plan` against: one lstat of every entry below the
//! given folders, with comfy's own parallel walk and nothing else.

use std::ffi::CStr;
use std::sync::atomic::{AtomicUsize, Ordering};

use comfy::host::fs::open_dir;
use comfy::host::fs::walk::{TreeVisitor, WalkedFolder, walk_tree};
use nix::sys::stat::FileStat;

struct Count(AtomicUsize);

impl TreeVisitor for Count {
    type Local = ();
    fn visit_entry(&self, (): &mut (), _: &WalkedFolder, _: &CStr, _: &FileStat) -> bool {
        true
    }
    fn folder_done(&self, (): (), _: &WalkedFolder, entries: usize) {
        self.0.fetch_add(entries, Ordering::Relaxed);
    }
    fn read_failed(&self, path: &str, e: nix::errno::Errno) {
        comfy::render::print_stderr(&format!("{path}: {e}"));
    }
}

fn main() -> std::io::Result<()> {
    let count = Count(AtomicUsize::new(0));
    for path in std::env::args().skip(1) {
        walk_tree(open_dir(path.as_ref())?, &count);
    }
    comfy::render::print_stdout(&count.0.into_inner().to_string());
    Ok(())
}
