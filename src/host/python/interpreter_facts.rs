//! What only an interpreter itself can report about itself and its system: which wheels it accepts
//! depends on it.

use std::process::{Command, Stdio};

use crate::desired::venv::PythonInterpreter;
use crate::lock::wheel_tags::{InterpreterFacts, OsAbi};
use crate::problem::{Context, Problem, Result};

/// Python's version, its ABI flags, machine, the release of macOS, the C library; a line each.
const ASK: &str = "import os, platform, sys
try: libc = os.confstr('CS_GNU_LIBC_VERSION') or ''
except (AttributeError, OSError, ValueError): libc = ''
print('%d.%d' % sys.version_info[:2], sys.abiflags, platform.machine(), platform.mac_ver()[0], \
    libc, sep='\\n')";

/// Asks it, as whoever calls: without site and environment, so that nothing of a package runs.
///
/// # Errors
/// If it does not run, or comfy does not understand its output.
#[expect(
    clippy::disallowed_methods,
    reason = "the base interpreter, without site and environment"
)]
pub(crate) fn ask_interpreter(i: &PythonInterpreter) -> Result<InterpreterFacts> {
    let mut c = Command::new(&i.path);
    // Else macOS tells programs that were made for 10.15 that it is 10.16 (packaging.tags).
    c.args(["-I", "-S", "-B", "-c", ASK])
        .env_clear()
        .env("LC_ALL", "C")
        .env("SYSTEM_VERSION_COMPAT", "0")
        .current_dir("/")
        .stdin(Stdio::null());
    let out = c
        .output()
        .with_context(|| format!("start {}", i.path.display()))?;
    let text = String::from_utf8_lossy(&out.stdout);
    parse_answer(&text).ok_or_else(|| {
        Problem::new(format!(
            "python: {} does not report which system it was made for: {}",
            i.path.display(),
            crate::text::escape_text(text.trim())
        ))
        .with_hint(
            "check that the installation is complete; `comfy doctor` shows which \
            interpreter is used",
        )
    })
}

fn parse_answer(text: &str) -> Option<InterpreterFacts> {
    let mut lines = text.lines();
    let (python, flags, machine, mac, libc) = (
        lines.next()?,
        lines.next()?,
        lines.next()?,
        lines.next()?,
        lines.next()?,
    );
    let two = |version: &str| {
        let mut parts = version.split('.').map(str::parse::<u32>);
        Some((parts.next()?.ok()?, parts.next()?.ok()?))
    };
    let os = match (mac, libc.strip_prefix("glibc ")) {
        ("", Some(glibc)) => two(glibc).map(|(major, minor)| OsAbi::Glibc(major, minor))?,
        // musl does not report its version; 1.2 is from 2020.
        ("", None) => OsAbi::Musl(1, 2),
        (mac, _) => OsAbi::Macos(mac.split('.').next()?.parse().ok()?),
    };
    Some(InterpreterFacts {
        python: two(python)?,
        free_threaded: flags.contains('t'),
        machine: machine.into(),
        os,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_both_systems_are_understood() {
        let rows = [
            "3.12\n\nx86_64\n\nglibc 2.36\n",
            "3.13\nt\narm64\n15.6.1\n\n",
            "3.12\n\naarch64\n\n\n",
            "3.12\n",
            "three\n\nx\n\nglibc 2\n",
        ];
        insta::assert_snapshot!(rows.map(|t| format!("{:?}", parse_answer(t))).join("\n"), @r#"
        Some(InterpreterFacts { python: (3, 12), free_threaded: false, machine: "x86_64", os: Glibc(2, 36) })
        Some(InterpreterFacts { python: (3, 13), free_threaded: true, machine: "arm64", os: Macos(15) })
        Some(InterpreterFacts { python: (3, 12), free_threaded: false, machine: "aarch64", os: Musl(1, 2) })
        None
        None
        "#);
    }
}
