//! The kernel's guards of links and open files: sysctl.d's `fs.protected_*`, which are one for the
//! whole machine.

use std::sync::{Condvar, Mutex, PoisonError};

use nix::fcntl::{Flock, FlockArg};

const NAMES: [&str; 4] = ["hardlinks", "symlinks", "regular", "fifos"];

fn path(name: &str) -> String {
    format!("/proc/sys/fs/protected_{name}")
}

/// What they are set to by the tests of this process that run now.
struct State {
    on: bool,
    users: usize,
    before: Vec<String>,
    /// Another test binary waits: the folder is on every machine, and nothing is written into it.
    lock: Option<Flock<std::fs::File>>,
}

static STATE: Mutex<State> = Mutex::new(State {
    on: false,
    users: 0,
    before: Vec::new(),
    lock: None,
});
static FREE: Condvar = Condvar::new();

/// As they were before, once the last of its kind is dropped; a failing test drops it too.
pub struct Held(());

/// Sets all of them, waiting for those who need them otherwise. The caller is outside of the
/// private machine, whose end, whatever it is, cannot keep them from being set back.
pub fn hold(on: bool) -> Held {
    let mut s = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    while s.users > 0 && s.on != on {
        s = FREE.wait(s).unwrap_or_else(PoisonError::into_inner);
    }
    if s.users == 0 && nix::unistd::geteuid().is_root() {
        let folder = std::fs::File::open("/usr").unwrap();
        s.lock = Some(
            Flock::lock(folder, FlockArg::LockExclusive)
                .map_err(|(_, e)| e)
                .unwrap(),
        );
        s.before = NAMES
            .iter()
            .map(|n| std::fs::read_to_string(path(n)).unwrap_or_default())
            .collect();
        let set = NAMES
            .iter()
            .try_for_each(|n| std::fs::write(path(n), if on { "1" } else { "0" }));
        if let Err(e) = set {
            eprintln!(
                "\n*** fs.protected_* cannot be set here ({e}): attacked with what there is, {:?} \
                 ***\n",
                s.before
            );
        }
    }
    s.on = on;
    s.users += 1;
    Held(())
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut s = STATE.lock().unwrap_or_else(PoisonError::into_inner);
        s.users -= 1;
        if s.users == 0 {
            for (name, value) in NAMES.iter().zip(std::mem::take(&mut s.before)) {
                let _ = std::fs::write(path(name), value.trim());
            }
            s.lock = None;
        }
        FREE.notify_all();
    }
}
