//! The confinement as a Seatbelt profile for sandbox-exec(1) (macOS). The last rule that matches
//! decides.
//!
//! Paths are passed as parameters, never spliced into the text. Nobody has run it on a Mac yet:
//! what each group of rules rests on is said beside it, and `comfy` says on macOS that it is not
//! proven.

use std::path::PathBuf;

use super::{Confinement, PathAccess};

/// Where it is.
pub(crate) const PROGRAM: &str = "/usr/bin/sandbox-exec";

/// What Python and PyTorch need beside files: found by others on real Macs, for PyTorch and MLX on
/// MPS.
const BASE: &str = r#"(version 1)
(deny default)
; Apple's own base: dyld, libSystem, frameworks, logging.
(import "system.sb")
(allow process-fork)
(allow signal (target same-sandbox))
(allow process-info* (target same-sandbox))
(allow sysctl-read)
; multiprocessing's locks, and libomp's mark in shared memory.
(allow ipc-posix-sem)
(allow ipc-posix-shm-read-data ipc-posix-shm-write-create ipc-posix-shm-write-unlink
  (ipc-posix-name-regex #"^/__KMP_REGISTERED_LIB_[0-9]+$"))
(allow user-preference-read)
(allow mach-lookup
  (global-name "com.apple.system.opendirectoryd.libinfo")
  (global-name "com.apple.system.opendirectoryd.membership")
  (global-name "com.apple.bsd.dirhelper")
  (global-name "com.apple.PowerManagement.control")
  (global-name "com.apple.cfprefsd.daemon")
  (global-name "com.apple.cfprefsd.agent"))
; Metal: the user clients of the driver, and its compiler under both spellings that were seen.
(allow iokit-open
  (iokit-user-client-class "AGXDeviceUserClient")
  (iokit-user-client-class "IOSurfaceRootUserClient"))
(allow mach-lookup
  (xpc-service-name "com.apple.MTLCompilerService")
  (global-name "com.apple.MTLCompilerService"))
(allow iokit-get-properties)
; Names of folders on the way to what is allowed.
(allow file-read-metadata (literal "/") (literal "/etc") (literal "/tmp") (literal "/var") (literal "/private"))
"#;

/// A profile and the values of its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeatbeltProfile {
    pub text: String,
    pub values: Vec<(String, PathBuf)>,
}

impl SeatbeltProfile {
    /// `caches`: folders that the system gives the account for Metal's caches (`confstr(3)`), by
    /// real path like all others.
    pub(crate) fn from_confinement(c: &Confinement, caches: &[PathBuf]) -> SeatbeltProfile {
        let mut p = SeatbeltProfile {
            text: BASE.into(),
            values: Vec::new(),
        };
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
            let name = p.add_parameter(r.path.clone());
            p.text += &format!(
                "; {}\n(allow {rights} ({folder} (param \"{name}\")))\n",
                crate::text::escape_text(&r.why)
            );
            p.text += &format!("(allow file-read-metadata (path-ancestors (param \"{name}\")))\n");
        }
        for folder in caches {
            let name = p.add_parameter(folder.clone());
            p.text += &format!(
                "; Metal's caches\n(allow file-read* file-write* (subpath (param \"{name}\")))\n"
            );
        }
        p.text += "(deny file-write-setugid)\n(deny network*)\n";
        // No socket to mDNSResponder either: a name that is asked for is a message that leaves.
        match &c.ports {
            None => p.text += "(allow network*)\n",
            Some(ports) => {
                for port in &ports.bind {
                    p.text += &format!(
                        "(allow network-bind (local ip \"localhost:{port}\"))\n(allow \
                         network-inbound (local ip \"localhost:{port}\"))\n"
                    );
                }
                for port in &ports.connect {
                    p.text +=
                        &format!("(allow network-outbound (remote ip \"localhost:{port}\"))\n");
                }
            }
        }
        p
    }

    fn add_parameter(&mut self, path: PathBuf) -> String {
        let name = format!("P{}", self.values.len());
        self.values.push((name.clone(), path));
        name
    }

    /// What goes before the program and its arguments.
    pub(crate) fn sandbox_exec_args(&self) -> Vec<std::ffi::OsString> {
        let mut out: Vec<std::ffi::OsString> = vec!["-p".into(), self.text.clone().into()];
        for (name, path) in &self.values {
            let mut value = std::ffi::OsString::from(format!("{name}="));
            value.push(path);
            out.extend(["-D".into(), value]);
        }
        out.push("--".into());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confine::{AllowedPorts, PathOwner, PathRule};

    #[test]
    fn a_profile_names_parameters_and_never_a_path() {
        let rule = |path: &str, may, why: &str| PathRule {
            path: path.into(),
            may,
            whose: PathOwner::System,
            why: why.into(),
        };
        let c = Confinement {
            rules: vec![
                rule(
                    "/opt/comfy/s/gen/1",
                    PathAccess::Run,
                    "the code that was applied, sealed",
                ),
                rule(
                    "/Users/alice/a\") (allow default) (\"",
                    PathAccess::Read,
                    "share models: ComfyUI reads",
                ),
                rule(
                    "/Users/alice/out",
                    PathAccess::Write,
                    "share output: ComfyUI reads and writes",
                ),
            ],
            ports: Some(AllowedPorts {
                bind: vec![49200],
                connect: vec![49200, 49201],
                udp: false,
            }),
            ..Confinement::default()
        };
        let p = SeatbeltProfile::from_confinement(&c, &["/private/var/folders/x/C".into()]);
        insta::assert_snapshot!(p.text.strip_prefix(BASE).unwrap(), @r#"
        ; the code that was applied, sealed
        (allow file-read* file-map-executable process-exec* (subpath (param "P0")))
        (allow file-read-metadata (path-ancestors (param "P0")))
        ; share models: ComfyUI reads
        (allow file-read* (subpath (param "P1")))
        (allow file-read-metadata (path-ancestors (param "P1")))
        ; share output: ComfyUI reads and writes
        (allow file-read* file-write* (subpath (param "P2")))
        (allow file-read-metadata (path-ancestors (param "P2")))
        ; Metal's caches
        (allow file-read* file-write* (subpath (param "P3")))
        (deny file-write-setugid)
        (deny network*)
        (allow network-bind (local ip "localhost:49200"))
        (allow network-inbound (local ip "localhost:49200"))
        (allow network-outbound (remote ip "localhost:49200"))
        (allow network-outbound (remote ip "localhost:49201"))
        "#);
        let arguments = p.sandbox_exec_args();
        assert_eq!(arguments[2..4], ["-D", "P0=/opt/comfy/s/gen/1"]);
        assert_eq!(arguments.last().unwrap(), "--");
        assert_eq!(p.text.matches('(').count(), p.text.matches(')').count());
    }
}
