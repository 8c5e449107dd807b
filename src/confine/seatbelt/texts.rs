//! The parts of a profile that are the same on every Mac. What each group of rules rests on is said
//! beside it: profiles that others run on real Macs (codex, srt, Chromium, WebKit, Firefox), and
//! Apple's own.

/// The head of every profile.
pub(super) const HEAD: &str = r#"(version 1)
(deny default)
; Apple's own base: dyld, libSystem, frameworks, logging.
(import "system.sb")
; dyld reads it; without the rule every program of macOS 26 ends with SIGABRT.
(allow file-read* (literal "/"))
(allow file-read-metadata (literal "/etc") (literal "/tmp") (literal "/var") (literal "/private"))
(allow sysctl-read)
(allow signal (target same-sandbox))
(allow process-info* (target same-sandbox))
"#;

/// What a process needs that starts others.
pub(super) const PROGRAMS: &str = r#"(allow process-fork)
; Which shell /bin/sh is (sh(1)).
(allow file-read* (literal "/private/var/select/sh"))
(allow mach-lookup
  (global-name "com.apple.system.opendirectoryd.libinfo")
  (global-name "com.apple.system.opendirectoryd.membership")
  (global-name "com.apple.bsd.dirhelper"))
"#;

/// What Python and PyTorch need beside files: found by others on real Macs, for PyTorch and MLX on
/// MPS.
pub(super) const PYTHON: &str = r#"; The locks of multiprocessing, its shared memory and PyTorch's, and libomp's mark.
(allow ipc-posix-sem)
(allow ipc-posix-shm* (ipc-posix-name-regex #"^/(psm_|torch_)"))
(allow ipc-posix-shm-read-data ipc-posix-shm-write-create ipc-posix-shm-write-unlink
  (ipc-posix-name-regex #"^/__KMP_REGISTERED_LIB_[0-9]+$"))
(allow user-preference-read)
(allow mach-lookup
  (global-name "com.apple.PowerManagement.control")
  (global-name "com.apple.cfprefsd.daemon")
  (global-name "com.apple.cfprefsd.agent"))
; Metal: the user clients of Apple's, AMD's and Intel's drivers, and the compiler under both
; spellings that were seen.
(allow iokit-open
  (iokit-connection "IOAccelerator")
  (iokit-user-client-class
    "AGXDeviceUserClient" "AGXFamilyUserClient" "AGXSharedUserClient"
    "IOGPUDeviceUserClient" "IOSurfaceRootUserClient")
  (iokit-registry-entry-class "RootDomainUserClient"))
(allow iokit-get-properties)
(allow mach-lookup
  (xpc-service-name "com.apple.MTLCompilerService")
  (global-name "com.apple.MTLCompilerService")
  (global-name "com.apple.gpumemd.source"))
; The files that Metal hands to its compiler.
(allow file-issue-extension (require-all
  (extension-class "com.apple.app-sandbox.read") (subpath "/System")))
"#;

/// A terminal of its own: isatty(3), sizes and job control are ioctls, also on a descriptor that
/// was inherited.
pub(super) const TERMINAL: &str = r#"; The shell's terminal.
(allow pseudo-tty)
(allow file-read* file-write* file-ioctl (literal "/dev/ptmx") (literal "/dev/tty"))
"#;

/// What resolves names, and what TLS asks about certificates (codex, srt).
pub(super) const NAMES: &str = r#"; Names of hosts, settings of the network, certificates.
(allow network-outbound (literal "/private/var/run/mDNSResponder"))
(allow system-socket (socket-domain AF_SYSTEM) (socket-domain AF_ROUTE))
(allow mach-lookup
  (global-name "com.apple.SecurityServer")
  (global-name "com.apple.networkd")
  (global-name "com.apple.ocspd")
  (global-name "com.apple.trustd")
  (global-name "com.apple.trustd.agent")
  (global-name "com.apple.SystemConfiguration.DNSConfiguration")
  (global-name "com.apple.SystemConfiguration.configd"))
"#;

/// Services of Apple's base that send for whoever asks: trustd fetches what a certificate names
/// (srt calls it a weaker network isolation), the others keep or send what they are told.
pub(super) const NO_MESSENGERS: &str = r#"; Services that would send for others.
(deny mach-lookup
  (global-name "com.apple.trustd")
  (global-name "com.apple.trustd.agent")
  (global-name "com.apple.analyticsd")
  (global-name "com.apple.analyticsd.messagetracer")
  (global-name "com.apple.diagnosticd")
  (global-name "com.apple.system.logger"))
"#;

/// The end of every profile. `file-write-flags` stays allowed: shutil.copystat of CPython calls
/// chflags(2) after every copy and fails with it.
pub(super) const TAIL: &str = r#"; Apple's base allows this socket by its path, which the rule for the whole network leaves open.
(deny network-outbound (literal "/private/var/run/syslog"))
(deny file-write-setugid)
(deny file-write-acl)
; No wall, since any program can ask for the same; but none does it by accident.
(deny process-exec*
  (literal "/usr/bin/open")
  (literal "/usr/bin/osascript")
  (literal "/usr/bin/security")
  (literal "/bin/launchctl"))
"#;
