//! Facts of this machine for the report of `comfy doctor`, asked as whoever runs it.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;

use crate::host::process::{ProgramRunner, SystemRunner};
use crate::host::{peer, tools};
use crate::manifest::platforms::OperatingSystem;

/// A profile that allows one program to start: whether sandbox-exec and Apple's base still fit.
const SMALLEST_PROFILE: &str = "(version 1)(deny default)(import \"system.sb\")(allow \
    process-exec* file-read* (subpath \"/usr\"))";
/// Lines of the log that are shown.
const MAX_DENIALS: usize = 40;

/// Returns names and values: the system, the machine, and what needs no sandbox user.
pub(crate) fn machine_facts(os: OperatingSystem) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let mut fact = |name: &str, value: String| out.push((name.to_string(), value));
    if os.is_macos() {
        let version =
            ["-productVersion", "-buildVersion"].map(|flag| said(&[tools::SW_VERS, flag]));
        fact("macOS", version.join(" "));
        fact("model", said(&[tools::SYSCTL, "-n", "hw.model"]));
        fact(
            "chip",
            said(&[tools::SYSCTL, "-n", "machdep.cpu.brand_string"]),
        );
        let profile = [tools::SANDBOX_EXEC, "-p", SMALLEST_PROFILE, "/usr/bin/true"];
        fact("smallest profile", ended(&profile));
        fact("session", said(&[tools::LAUNCHCTL, "managername"]));
    } else {
        fact(
            "Linux",
            nix::sys::utsname::uname().map_or("unknown".into(), |u| {
                u.release().to_string_lossy().into_owned()
            }),
        );
    }
    fact("machine", std::env::consts::ARCH.into());
    fact("own uid by connection", own_uid_by_connection());
    out
}

/// Folders whose content is the same on every Mac.
const PUBLIC_FOLDERS: [&str; 7] = [
    "/System/",
    "/usr/",
    "/bin/",
    "/dev/",
    "/private/var/db/",
    "/private/var/run/",
    "/Library/Apple/",
];

/// Returns the last lines about what a profile denied to Python in the last minutes, without process
/// ids, and of paths those alone that every Mac has, or that are below `own`.
pub(crate) fn denials(os: OperatingSystem, own: &Path) -> Vec<String> {
    if !os.is_macos() {
        return Vec::new();
    }
    let predicate = "sender == \"Sandbox\" AND eventMessage CONTAINS \"deny\"";
    let argv = [
        tools::LOG,
        "show",
        "--last",
        "5m",
        "--style",
        "compact",
        "--predicate",
        predicate,
    ];
    let Ok(out) = SystemRunner.run_program(&argv) else {
        return vec!["the log could not be read".into()];
    };
    let mut lines: Vec<String> = out
        .stdout
        .lines()
        .filter_map(|l| l.split_once("Sandbox: ").map(|(_, what)| what))
        .filter(|l| l.starts_with("python"))
        .map(|l| without_private_path(l, own))
        .collect();
    lines.dedup();
    let skipped = lines.len().saturating_sub(MAX_DENIALS);
    lines.split_off(skipped)
}

/// A line up to a path that is somebody's.
fn without_private_path(line: &str, own: &Path) -> String {
    let Some(at) = line.find('/') else {
        return line.into();
    };
    let path = &line[at..];
    let is_public =
        PUBLIC_FOLDERS.iter().any(|f| path.starts_with(f)) || Path::new(path).starts_with(own);
    if is_public {
        line.into()
    } else {
        format!("{}…", &line[..at])
    }
}

fn said(argv: &[&str]) -> String {
    match SystemRunner.run_program(argv) {
        Ok(out) if out.status == 0 => out.stdout.trim().to_string(),
        Ok(out) => format!("exit code {}", out.status),
        Err(e) => e.to_string(),
    }
}

fn ended(argv: &[&str]) -> String {
    match SystemRunner.run_program(argv) {
        Ok(out) if out.status == 0 => "starts a program".into(),
        Ok(out) => format!(
            "exit code {}: {}",
            out.status,
            out.stderr.lines().last().unwrap_or_default()
        ),
        Err(e) => e.to_string(),
    }
}

/// Whether the system tells whose a connection is, tried with one to this process itself.
fn own_uid_by_connection() -> String {
    let tried = || -> std::io::Result<Option<u32>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let near = TcpStream::connect(listener.local_addr()?)?;
        let _far = listener.accept()?;
        peer::of_this_system()?.uid(near.local_addr()?, near.peer_addr()?)
    };
    match tried() {
        Ok(Some(uid)) if uid == nix::unistd::getuid().as_raw() => "told".into(),
        Ok(Some(_)) => "another uid".into(),
        Ok(None) => "no socket".into(),
        Err(e) => e.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_somebody_s_is_cut_off() {
        let told = |line| without_private_path(line, Path::new("/opt/comfy/x"));
        for (line, expected) in [
            (
                "python3.12(7) deny(1) mach-lookup com.apple.x",
                "python3.12(7) deny(1) mach-lookup com.apple.x",
            ),
            (
                "python deny(1) file-read-data /System/Library/A B",
                "python deny(1) file-read-data /System/Library/A B",
            ),
            (
                "python deny(1) file-read-data /opt/comfy/x/state/y",
                "python deny(1) file-read-data /opt/comfy/x/state/y",
            ),
            (
                "python deny(1) file-read-data /Volumes/A B/tax.pdf",
                "python deny(1) file-read-data …",
            ),
            (
                "python deny(1) file-read-data /opt/comfy/xyz",
                "python deny(1) file-read-data …",
            ),
        ] {
            assert_eq!(told(line), expected);
        }
    }
}
