//! Ends the process at a chosen step, for the crash tests: compiled in by the feature `faults`
//! alone.

use crate::plan::Step;

/// `COMFY_FAULT=kill:3` ends the process by SIGKILL before step 3; with `again:3` somebody who has
/// pressed Ctrl-C once presses it again there.
#[cfg(feature = "faults")]
pub(crate) fn fault_point(number: usize, _: &Step) {
    let switch = super::env::test_switch("COMFY_FAULT");
    let is_here = |word: &str| {
        let wanted = switch.as_ref().and_then(|v| v.strip_prefix(word));
        wanted.and_then(|n| n.parse().ok()) == Some(number)
    };
    if is_here("again:") && super::signals::interrupt_count() == 1 {
        let _ = nix::sys::signal::raise(nix::sys::signal::SIGINT);
    }
    if is_here("kill:") {
        // Not even a destructor runs.
        let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::SIGKILL);
    }
}

#[cfg(not(feature = "faults"))]
pub(crate) fn fault_point(_: usize, _: &Step) {}

/// A number that a test sets for parsers: `COMFY_FAULT=threads:3,patience:500` gives each so many
/// threads, and a file so many milliseconds.
#[cfg(feature = "faults")]
pub(crate) fn parsing_number(word: &str) -> Option<usize> {
    let switch = super::env::test_switch("COMFY_FAULT")?;
    switch
        .split(',')
        .find_map(|w| w.strip_prefix(word)?.parse().ok())
}

/// What a parser does with a file that begins so: `//comfy-fault:abort` ends it, `:hang` has it stay
/// for a while, `:wait` for a moment, `:probe` has it try what it must not be able to do, and tells
/// what it could.
#[cfg(feature = "faults")]
#[expect(clippy::disallowed_methods, reason = "it tries what is forbidden")]
pub(crate) fn parser_fault(head: &[u8]) -> Option<String> {
    let word = std::str::from_utf8(head)
        .ok()?
        .strip_prefix("//comfy-fault:")?;
    match word.lines().next()? {
        "abort" => std::process::abort(),
        "hang" => {
            std::thread::sleep(std::time::Duration::from_secs(30));
            None
        }
        "wait" => {
            std::thread::sleep(std::time::Duration::from_millis(200));
            None
        }
        "probe" => {
            let mut could = Vec::new();
            let mut note = |what: &str, done: bool| could.extend(done.then(|| what.to_string()));
            note("read", std::fs::read("/etc/passwd").is_ok());
            note("list", std::fs::read_dir("/").is_ok());
            note("write", std::fs::write("/tmp/comfy-fault", "x").is_ok());
            note("connect", std::net::UdpSocket::bind("127.0.0.1:0").is_ok());
            note("listen", std::net::TcpListener::bind("127.0.0.1:0").is_ok());
            let own = super::roles::spawn::own_program().unwrap_or_default();
            note("start", std::process::Command::new(own).status().is_ok());
            let parent = nix::unistd::getppid();
            note("signal", nix::sys::signal::kill(parent, None).is_ok());
            note("root", nix::unistd::geteuid().is_root());
            Some(format!("it could do: [{}]", could.join(", ")))
        }
        _ => None,
    }
}
