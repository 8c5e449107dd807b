//! Claims a port, and finds out who uses it.

use std::net::TcpListener;

use crate::host::process::{ProgramRunner, SystemRunner};
use crate::problem::{Context, Problem, Result};

/// Ensures that ComfyUI will be able to listen there.
///
/// # Errors
/// As [`claim_port`].
pub(crate) fn ensure_free(listen: &str, port: u16) -> Result<()> {
    claim_port(listen, port).map(drop)
}

/// Returns a free loopback port.
///
/// # Errors
/// There is no free port.
pub(crate) fn free_port() -> Result<u16> {
    let found = TcpListener::bind(("127.0.0.1", 0)).and_then(|l| l.local_addr());
    found.map(|a| a.port()).context("find a free port")
}

/// Listens on the port.
///
/// # Errors
/// The port is in use (the message says by whom, if that is known), or the address is not this
/// machine's.
pub(crate) fn claim_port(listen: &str, port: u16) -> Result<TcpListener> {
    match TcpListener::bind((listen, port)) {
        Ok(listener) => Ok(listener),
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => {
            let by = port_holder(port).map_or(String::new(), |w| format!(" by {w}"));
            Err(
                Problem::new(format!("port {port} is in use{by}")).with_hint(
                    "stop that process, or set another `port` in comfy.toml and run `comfy apply`",
                ),
            )
        }
        Err(e) => Err(Problem::new(format!("{listen} port {port}: {e}"))
            .caused_by(&e)
            .with_hint("`listen` must be an address of this machine")),
    }
}

/// Returns who uses the port, as `python3 (process 4711)`.
fn port_holder(port: u16) -> Option<String> {
    if let Some(inode) = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .find_map(|f| listening_inode(&std::fs::read_to_string(f).ok()?, port))
    {
        let socket = format!("socket:[{inode}]");
        for entry in std::fs::read_dir("/proc").ok()?.flatten() {
            let fds = std::fs::read_dir(entry.path().join("fd"))
                .into_iter()
                .flatten()
                .flatten();
            if fds.into_iter().any(|f| {
                std::fs::read_link(f.path()).is_ok_and(|t| t.as_os_str() == socket.as_str())
            }) {
                let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                return Some(format!(
                    "{} (process {})",
                    crate::text::escape_text(name.trim()),
                    entry.file_name().to_string_lossy()
                ));
            }
        }
        return Some("a process of another user".into());
    }
    let asked = format!("-iTCP:{port}");
    let out = SystemRunner
        .run_program(&[
            crate::host::tools::LSOF,
            "-nP",
            &asked,
            "-sTCP:LISTEN",
            "-Fpc",
        ])
        .ok()?;
    let field = |c: char| {
        out.stdout
            .lines()
            .find_map(|l| l.strip_prefix(c))
            .map(crate::text::escape_text)
    };
    Some(format!("{} (process {})", field('c')?, field('p')?))
}

/// Returns the inode of the socket that listens on `port` (proc_net_tcp: state 0A).
fn listening_inode(table: &str, port: u16) -> Option<String> {
    let wanted = format!(":{port:04X}");
    table.lines().skip(1).find_map(|l| {
        let f: Vec<&str> = l.split_whitespace().collect();
        (f.get(1)?.ends_with(&wanted) && *f.get(3)? == "0A")
            .then(|| f.get(9).map(|i| (*i).to_string()))?
    })
}
