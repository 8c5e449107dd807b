//! The confinement as a Seatbelt profile (macOS), one for a launch, one for a build job and one for
//! the gateway.
//!
//! The last rule that matches an operation decides, and a rule for a more specific operation wins
//! over one for a wider operation: `(deny file-read*)` leaves what `(allow file-read-data)` allows,
//! and `(deny network*)` leaves a socket that Apple's base allows by its path. So each `deny` here
//! names the operation that the `allow` names, or a narrower one.
//!
//! Paths are passed as parameters, never spliced into the text, which is ASCII. Nobody has run it on
//! a Mac yet, and `comfy` says on macOS that it is not proven.

#[cfg(test)]
mod expressions;
#[cfg(test)]
mod tests;
mod texts;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{AllowedPorts, Confinement, GatewayPorts, PathAccess, PathOwner};
use crate::manifest::EgressPolicy;

/// Where sandbox-exec(1) is, which applies a profile and executes a program.
pub(crate) const PROGRAM: &str = "/usr/bin/sandbox-exec";

/// A profile and the values of its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeatbeltProfile {
    pub text: String,
    pub values: Vec<(String, PathBuf)>,
}

/// What the system gives a launch on this machine, beside what was applied.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LaunchPlaces<'a> {
    /// Folders for Metal's caches (confstr(3)), by real path like all others.
    pub caches: &'a [PathBuf],
    /// The terminal of `comfy shell`, as its programs see it.
    pub terminal: Option<&'a Path>,
}

impl SeatbeltProfile {
    /// The profile of ComfyUI, and of what runs in its place.
    pub(crate) fn for_launch(c: &Confinement, places: LaunchPlaces) -> SeatbeltProfile {
        let mut p = SeatbeltProfile::with_texts(&[texts::HEAD, texts::PROGRAMS, texts::PYTHON]);
        let files = p.add_files(c);
        for (folder, _) in files
            .iter()
            .zip(&c.rules)
            .filter(|(_, r)| r.whose == PathOwner::Sealed && r.may == PathAccess::Run)
        {
            p.add_extension("read", folder);
        }
        for folder in places.caches {
            let name = p.add_parameter(folder.clone());
            p.text += &format!(
                "; Metal's caches\n(allow file-read* file-write* (subpath (param \"{name}\")))\n"
            );
            p.add_extension("read", &name);
            p.add_extension("read-write", &name);
        }
        if let Some(terminal) = places.terminal {
            p.text += texts::TERMINAL;
            let name = p.add_parameter(terminal.into());
            p.text += &format!(
                "(allow file-read* file-write* file-ioctl (literal (param \"{name}\")))\n"
            );
        }
        p.text += "(deny network*)\n";
        p.add_sockets(c);
        match &c.ports {
            None => p.text += "(allow network*)\n",
            Some(ports) => p.add_ports(ports),
        }
        if c.resolves_names() {
            p.text += texts::NAMES;
        } else if !c.open_egress {
            // No socket to mDNSResponder either: a name that is asked for is a message that leaves.
            p.text += texts::NO_MESSENGERS;
        }
        p.text += texts::TAIL;
        p
    }

    /// The profile of a build job. `caches` as in [`LaunchPlaces`], for a job that fetches.
    #[cfg_attr(
        all(target_os = "linux", not(test)),
        expect(dead_code, reason = "Landlock does it here")
    )]
    pub(crate) fn for_build(c: &Confinement, fetches: bool, caches: &[PathBuf]) -> SeatbeltProfile {
        let mut p = SeatbeltProfile::with_texts(&[texts::HEAD, texts::PROGRAMS]);
        p.add_files(c);
        p.text += "(deny network*)\n";
        if fetches {
            for folder in caches {
                let name = p.add_parameter(folder.clone());
                p.text += &format!("(allow file-read* file-write* (subpath (param \"{name}\")))\n");
            }
            p.text += "(allow network-outbound (remote ip \"*:*\"))\n";
            p.text += texts::NAMES;
        } else {
            p.text += texts::NO_MESSENGERS;
        }
        p.text += texts::TAIL;
        p
    }

    /// The profile of a process that parses: no files, no programs, no network.
    #[cfg_attr(
        target_os = "linux",
        expect(dead_code, reason = "Landlock and seccomp do it here")
    )]
    pub(crate) fn for_parser(c: &Confinement) -> SeatbeltProfile {
        let mut p = SeatbeltProfile::with_texts(&[texts::HEAD]);
        p.add_files(c);
        p.text += "(deny network*)\n";
        p.text += texts::NO_MESSENGERS;
        p.text += texts::TAIL;
        p
    }

    /// The profile of the gateway: no files, no programs, its ports.
    #[cfg_attr(
        all(target_os = "linux", not(test)),
        expect(dead_code, reason = "Landlock does it here")
    )]
    pub(crate) fn for_gateway(egress: &EgressPolicy, ports: &GatewayPorts) -> SeatbeltProfile {
        let mut p = SeatbeltProfile::with_texts(&[texts::HEAD]);
        p.text += "(deny network*)\n";
        // Root has bound this one; clients may be on other machines.
        if let Some(port) = ports.listen {
            p.text += &format!("(allow network-inbound (local ip \"*:{port}\"))\n");
        }
        p.add_ports(&AllowedPorts {
            bind: vec![ports.proxy],
            connect: vec![ports.comfyui],
            ..AllowedPorts::default()
        });
        match egress {
            EgressPolicy::Deny => p.text += texts::NO_MESSENGERS,
            EgressPolicy::Allow | EgressPolicy::Only(_) => {
                let ports = egress.allowed_ports();
                let all = [0].into_iter().filter(|_| *egress == EgressPolicy::Allow);
                for port in all.chain(ports) {
                    p.add_outside(port);
                }
                // Which of this machine's addresses a connection would have: nothing is sent.
                p.text += "(allow network-bind (local udp \"*:*\"))\n";
                p.text += "(allow network-outbound (remote udp \"*:9\"))\n";
                p.text += texts::NAMES;
            }
        }
        p.text += texts::TAIL;
        p
    }

    fn with_texts(texts: &[&str]) -> SeatbeltProfile {
        SeatbeltProfile {
            text: texts.concat(),
            values: Vec::new(),
        }
    }

    /// A rule for each path, with the names of the folders on the way to it, and one for each link.
    /// Returns the parameters of the rules.
    fn add_files(&mut self, c: &Confinement) -> Vec<String> {
        let mut names = Vec::new();
        for r in &c.rules {
            let folder = if r.may == PathAccess::Device {
                "literal"
            } else {
                "subpath"
            };
            let rights = match r.may {
                PathAccess::Read => "file-read*",
                PathAccess::Run => "file-read* file-map-executable process-exec*",
                PathAccess::Write => "file-read* file-write*",
                PathAccess::Make => "file-read* file-write* file-map-executable process-exec*",
                PathAccess::Device => "file-read* file-write-data file-ioctl",
            };
            self.add_comment(&r.why);
            let name = self.add_parameter(r.path.clone());
            self.text += &format!("(allow {rights} ({folder} (param \"{name}\")))\n");
            self.text +=
                &format!("(allow file-read-metadata (path-ancestors (param \"{name}\")))\n");
            names.push(name);
        }
        let mut links = Vec::new();
        for (at, _) in &c.links {
            // To follow a link is to read it, whatever it leads to (vfs_lookup.c of xnu).
            if links.is_empty() {
                self.add_comment("links on the way to what is allowed");
            }
            let name = self.add_parameter(at.clone());
            self.text += &format!("(allow file-read-metadata (literal (param \"{name}\")))\n");
            self.text +=
                &format!("(allow file-read-metadata (path-ancestors (param \"{name}\")))\n");
            links.push(name);
        }
        self.add_existence(&names, &links);
        names
    }

    /// access(2) is an operation of its own in newer systems.
    fn add_existence(&mut self, folders: &[String], links: &[String]) {
        if folders.is_empty() {
            return;
        }
        self.text += "(if (defined? 'file-test-existence)\n  (allow file-test-existence";
        for name in folders {
            self.text += &format!("\n    (subpath (param \"{name}\"))");
            self.text += &format!(" (path-ancestors (param \"{name}\"))");
        }
        for name in links {
            self.text += &format!("\n    (literal (param \"{name}\"))");
        }
        self.text += "))\n";
    }

    /// What Metal may hand to its compiler.
    fn add_extension(&mut self, access: &str, name: &str) {
        self.text += &format!(
            "(allow file-issue-extension (require-all\n  (extension-class \
             \"com.apple.app-sandbox.{access}\") (subpath (param \"{name}\"))))\n"
        );
    }

    /// UNIX sockets in the folder for temporary files, as multiprocessing makes them.
    fn add_sockets(&mut self, c: &Confinement) {
        if c.temp.as_os_str().is_empty() {
            return;
        }
        let name = self.add_parameter(c.temp.clone());
        self.text += &format!(
            "(allow system-socket (socket-domain AF_UNIX))\n(allow network-bind (local \
             unix-socket (subpath (param \"{name}\"))))\n(allow network-outbound (remote \
             unix-socket (subpath (param \"{name}\"))))\n"
        );
    }

    fn add_ports(&mut self, ports: &AllowedPorts) {
        let host = if ports.everywhere { "*" } else { "localhost" };
        for port in &ports.bind {
            self.text += &format!("(allow network-bind (local ip \"{host}:{port}\"))\n");
            self.text += &format!("(allow network-inbound (local ip \"{host}:{port}\"))\n");
        }
        for port in &ports.connect {
            self.text += &format!("(allow network-outbound (remote ip \"localhost:{port}\"))\n");
        }
        for port in &ports.outside {
            self.add_outside(*port);
        }
    }

    /// A port of every host; 0 is every port.
    fn add_outside(&mut self, port: u16) {
        let port = match port {
            0 => "*".to_string(),
            port => port.to_string(),
        };
        self.text += &format!("(allow network-outbound (remote ip \"*:{port}\"))\n");
    }

    /// A comment that ends with its line, whatever it says.
    fn add_comment(&mut self, why: &str) {
        if !why.is_empty() {
            let plain: String = crate::text::escape_text(why)
                .chars()
                .map(|c| if c.is_ascii() { c } else { '?' })
                .collect();
            self.text += &format!("; {plain}\n");
        }
    }

    fn add_parameter(&mut self, path: PathBuf) -> String {
        if let Some((name, _)) = self.values.iter().find(|(_, p)| *p == path) {
            return name.clone();
        }
        let name = format!("P{}", self.values.len());
        self.values.push((name.clone(), path));
        name
    }

    /// What goes between sandbox-exec(1) and the program with its arguments.
    pub(crate) fn sandbox_exec_args(&self) -> Vec<OsString> {
        let mut out: Vec<OsString> = vec!["-p".into(), self.text.clone().into()];
        for (name, path) in &self.values {
            let mut value = OsString::from(format!("{name}="));
            value.push(path);
            out.extend(["-D".into(), value]);
        }
        out.push("--".into());
        out
    }
}
