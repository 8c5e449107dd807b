//! System paths that Python, PyTorch and graphics drivers need, each with its reason. A path that a
//! machine lacks is left out when the rules are rendered.

use std::path::{Path, PathBuf};

use super::{PathAccess, PrivateMount};
use crate::manifest::platforms::OperatingSystem;

pub(crate) type Place = (&'static str, PathAccess, &'static str);

const LIBRARIES: &str = "programs and libraries of the system";
const LOADER: &str = "where the dynamic loader finds libraries (ld.so(8))";
const NAMES: &str = "names of users, hosts and services (nsswitch.conf(5))";
const CERTIFICATES: &str = "certificates of the system";
const DRIVERS: &str = "the list of graphics drivers";
const CARDS: &str = "graphics cards";

const LINUX: &[Place] = &[
    ("/usr", PathAccess::Run, LIBRARIES),
    ("/bin", PathAccess::Run, LIBRARIES),
    ("/sbin", PathAccess::Run, LIBRARIES),
    ("/lib", PathAccess::Run, LIBRARIES),
    ("/lib32", PathAccess::Run, LIBRARIES),
    ("/lib64", PathAccess::Run, LIBRARIES),
    ("/nix/store", PathAccess::Run, LIBRARIES),
    ("/opt/rocm", PathAccess::Run, "AMD's libraries"),
    (
        "/run/opengl-driver",
        PathAccess::Run,
        "graphics libraries of NixOS",
    ),
    ("/etc/ld.so.cache", PathAccess::Read, LOADER),
    ("/etc/ld.so.conf", PathAccess::Read, LOADER),
    ("/etc/ld.so.conf.d", PathAccess::Read, LOADER),
    (
        "/etc/alternatives",
        PathAccess::Run,
        "links between names of a program",
    ),
    ("/etc/passwd", PathAccess::Read, NAMES),
    ("/etc/group", PathAccess::Read, NAMES),
    ("/etc/nsswitch.conf", PathAccess::Read, NAMES),
    ("/etc/hosts", PathAccess::Read, NAMES),
    ("/etc/host.conf", PathAccess::Read, NAMES),
    ("/etc/gai.conf", PathAccess::Read, NAMES),
    ("/etc/services", PathAccess::Read, NAMES),
    ("/etc/protocols", PathAccess::Read, NAMES),
    ("/etc/localtime", PathAccess::Read, "the time zone"),
    ("/etc/timezone", PathAccess::Read, "the time zone"),
    (
        "/etc/os-release",
        PathAccess::Read,
        "what platform.freedesktop_os_release() reads",
    ),
    (
        "/etc/mime.types",
        PathAccess::Read,
        "content types of files (Python's mimetypes)",
    ),
    (
        "/etc/magic",
        PathAccess::Read,
        "content types of files (file(1))",
    ),
    ("/etc/fonts", PathAccess::Read, "fonts"),
    ("/etc/ssl/certs", PathAccess::Read, CERTIFICATES),
    ("/etc/ssl/openssl.cnf", PathAccess::Read, CERTIFICATES),
    ("/etc/ca-certificates", PathAccess::Read, CERTIFICATES),
    ("/etc/pki/tls", PathAccess::Read, CERTIFICATES),
    ("/etc/pki/ca-trust", PathAccess::Read, CERTIFICATES),
    ("/etc/crypto-policies", PathAccess::Read, CERTIFICATES),
    ("/etc/OpenCL", PathAccess::Read, DRIVERS),
    ("/etc/vulkan", PathAccess::Read, DRIVERS),
    ("/etc/glvnd", PathAccess::Read, DRIVERS),
    ("/etc/egl", PathAccess::Read, DRIVERS),
    ("/etc/nvidia", PathAccess::Read, DRIVERS),
    ("/etc/drirc", PathAccess::Read, DRIVERS),
    ("/dev/null", PathAccess::Write, "expected by every program"),
    ("/dev/zero", PathAccess::Write, "expected by every program"),
    ("/dev/full", PathAccess::Write, "expected by every program"),
    ("/dev/random", PathAccess::Read, "random numbers"),
    ("/dev/urandom", PathAccess::Read, "random numbers"),
    ("/dev/dri", PathAccess::Device, CARDS),
    ("/dev/kfd", PathAccess::Device, "AMD's compute driver"),
    ("/dev/accel", PathAccess::Device, "neural processors"),
    ("/dev/dxg", PathAccess::Device, "graphics cards below WSL"),
    ("/dev/nvidiactl", PathAccess::Device, CARDS),
    ("/dev/nvidia-modeset", PathAccess::Device, CARDS),
    ("/dev/nvidia-uvm", PathAccess::Device, CARDS),
    ("/dev/nvidia-uvm-tools", PathAccess::Device, CARDS),
    ("/dev/nvidia-caps", PathAccess::Device, CARDS),
    ("/dev/nvidia0", PathAccess::Device, CARDS),
    ("/dev/nvidia1", PathAccess::Device, CARDS),
    ("/dev/nvidia2", PathAccess::Device, CARDS),
    ("/dev/nvidia3", PathAccess::Device, CARDS),
    ("/dev/nvidia4", PathAccess::Device, CARDS),
    ("/dev/nvidia5", PathAccess::Device, CARDS),
    ("/dev/nvidia6", PathAccess::Device, CARDS),
    ("/dev/nvidia7", PathAccess::Device, CARDS),
];

/// The files that getaddrinfo(3) reads.
pub(super) const RESOLVER: &[Place] = &[
    ("/usr", PathAccess::Read, LIBRARIES),
    ("/lib", PathAccess::Read, LIBRARIES),
    ("/lib64", PathAccess::Read, LIBRARIES),
    ("/nix/store", PathAccess::Read, LIBRARIES),
    ("/etc/ld.so.cache", PathAccess::Read, LOADER),
    ("/etc/nsswitch.conf", PathAccess::Read, NAMES),
    ("/etc/hosts", PathAccess::Read, NAMES),
    ("/etc/host.conf", PathAccess::Read, NAMES),
    ("/etc/gai.conf", PathAccess::Read, NAMES),
    ("/etc/services", PathAccess::Read, NAMES),
    ("/etc/resolv.conf", PathAccess::Read, NAMES),
    ("/run/systemd/resolve", PathAccess::Read, NAMES),
    ("/run/NetworkManager", PathAccess::Read, NAMES),
    ("/run/resolvconf", PathAccess::Read, NAMES),
    ("/mnt/wsl/resolv.conf", PathAccess::Read, NAMES),
];

/// Where nothing is mounted for the launch, the system's own.
const LINUX_SHARED: &[Place] = &[
    (
        "/dev/shm",
        PathAccess::Write,
        "memory shared between processes (sem_open(3)); the system's own",
    ),
    (
        "/proc",
        PathAccess::Read,
        "processes and the kernel; those of others keep their environment and memory to themselves",
    ),
    (
        "/sys/devices",
        PathAccess::Read,
        "processors, memory and graphics cards",
    ),
    (
        "/sys/class/drm",
        PathAccess::Read,
        "processors, memory and graphics cards",
    ),
    (
        "/sys/class/kfd",
        PathAccess::Read,
        "processors, memory and graphics cards",
    ),
    (
        "/sys/bus/pci",
        PathAccess::Read,
        "processors, memory and graphics cards",
    ),
    (
        "/sys/dev/char",
        PathAccess::Read,
        "processors, memory and graphics cards",
    ),
    (
        "/sys/module",
        PathAccess::Read,
        "processors, memory and graphics cards",
    ),
];

/// What Apple's own profile `system.sb` leaves out; dyld, libSystem and the frameworks are in it.
const MACOS: &[Place] = &[
    ("/System", PathAccess::Run, LIBRARIES),
    ("/usr", PathAccess::Run, LIBRARIES),
    ("/bin", PathAccess::Run, LIBRARIES),
    ("/sbin", PathAccess::Run, LIBRARIES),
    ("/Library/Apple", PathAccess::Run, LIBRARIES),
    ("/Library/Fonts", PathAccess::Read, "fonts"),
    (
        "/opt/homebrew",
        PathAccess::Run,
        "Homebrew's programs and libraries",
    ),
    (
        "/opt/local",
        PathAccess::Run,
        "MacPorts' programs and libraries",
    ),
    ("/private/etc/hosts", PathAccess::Read, NAMES),
    ("/private/etc/passwd", PathAccess::Read, NAMES),
    ("/private/etc/ssl", PathAccess::Read, CERTIFICATES),
    (
        "/private/var/db/timezone",
        PathAccess::Read,
        "the time zone",
    ),
    ("/dev/null", PathAccess::Write, "expected by every program"),
    ("/dev/zero", PathAccess::Write, "expected by every program"),
    ("/dev/random", PathAccess::Read, "random numbers"),
    ("/dev/urandom", PathAccess::Read, "random numbers"),
];

/// What comfy and git read to resolve names and to know whom to believe.
const MACOS_RESOLVER: &[Place] = &[
    ("/private/etc/resolv.conf", PathAccess::Read, NAMES),
    ("/private/var/run/resolv.conf", PathAccess::Read, NAMES),
    ("/private/etc/services", PathAccess::Read, NAMES),
    ("/Library/Keychains", PathAccess::Read, CERTIFICATES),
    ("/private/var/db/mds", PathAccess::Read, CERTIFICATES),
];

/// Paths of the system that a build job's programs need, with only the devices that every program
/// expects.
pub(crate) fn for_builds(os: OperatingSystem) -> impl Iterator<Item = Place> {
    system_places(os)
        .iter()
        .filter(|(_, may, _)| *may != PathAccess::Device)
        .copied()
}

/// The same for a job that resolves names.
pub(crate) fn for_fetching(os: OperatingSystem) -> impl Iterator<Item = Place> {
    if os.is_macos() {
        MACOS_RESOLVER
    } else {
        RESOLVER
    }
    .iter()
    .copied()
}

pub(super) fn system_places(os: OperatingSystem) -> &'static [Place] {
    if os.is_macos() { MACOS } else { LINUX }
}

pub(super) fn without_rooms(os: OperatingSystem) -> &'static [Place] {
    if os.is_macos() { &[] } else { LINUX_SHARED }
}

/// The private mounts of a launch. `/run` is not among them: it does not exist, nor any socket in
/// it.
pub(super) fn private_mounts() -> Vec<(PathBuf, PrivateMount)> {
    let at = |p: &str, r| (PathBuf::from(p), r);
    vec![
        at("/dev/shm", PrivateMount::Memory),
        at("/proc", PrivateMount::Processes),
        at("/sys", PrivateMount::Hardware),
        at("/tmp", PrivateMount::Temp),
        at("/var/tmp", PrivateMount::Temp),
    ]
}

/// A program of the system's or of the caller's, with what it loads: the folders of
/// [`interpreter_paths`] and what git keeps beside itself.
pub(crate) fn program_paths(path: &Path) -> Vec<PathBuf> {
    let mut out = interpreter_paths(path);
    if let Some(prefix) = path
        .parent()
        .and_then(Path::parent)
        .filter(|p| p.parent().is_some())
    {
        out.extend(["libexec", "share"].map(|name| prefix.join(name)));
    }
    out
}

/// The program and the folders beside it that hold its library: `PREFIX/bin/python3.12` has
/// `PREFIX/lib` and its kin. Never PREFIX itself, which may be a home.
pub(super) fn interpreter_paths(program: &Path) -> Vec<PathBuf> {
    let mut out = vec![program.to_path_buf()];
    if let Some(prefix) = program
        .parent()
        .and_then(Path::parent)
        .filter(|p| p.parent().is_some())
    {
        out.extend(["lib", "lib64", "Python", "Resources"].map(|name| prefix.join(name)));
    }
    out
}
