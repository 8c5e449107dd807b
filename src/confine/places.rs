//! Places of the system that Python, PyTorch and graphics drivers need, with the reason of each.
//! What a machine lacks is left out when the rules are rendered.

use std::path::{Path, PathBuf};

use super::{May, Room};

pub type Place = (&'static str, May, &'static str);

const LIBRARIES: &str = "programs and libraries of the system";
const LOADER: &str = "where the dynamic loader finds libraries (ld.so(8))";
const NAMES: &str = "names of users, hosts and services (nsswitch.conf(5))";
const CERTIFICATES: &str = "certificates of the system";
const DRIVERS: &str = "which graphics drivers there are";
const CARDS: &str = "graphics cards";

const LINUX: &[Place] = &[
    ("/usr", May::Run, LIBRARIES),
    ("/bin", May::Run, LIBRARIES),
    ("/sbin", May::Run, LIBRARIES),
    ("/lib", May::Run, LIBRARIES),
    ("/lib32", May::Run, LIBRARIES),
    ("/lib64", May::Run, LIBRARIES),
    ("/nix/store", May::Run, LIBRARIES),
    ("/opt/rocm", May::Run, "AMD's libraries"),
    (
        "/run/opengl-driver",
        May::Run,
        "graphics libraries of NixOS",
    ),
    ("/etc/ld.so.cache", May::Read, LOADER),
    ("/etc/ld.so.conf", May::Read, LOADER),
    ("/etc/ld.so.conf.d", May::Read, LOADER),
    (
        "/etc/alternatives",
        May::Run,
        "links from one name of a program to another",
    ),
    ("/etc/passwd", May::Read, NAMES),
    ("/etc/group", May::Read, NAMES),
    ("/etc/nsswitch.conf", May::Read, NAMES),
    ("/etc/hosts", May::Read, NAMES),
    ("/etc/host.conf", May::Read, NAMES),
    ("/etc/gai.conf", May::Read, NAMES),
    ("/etc/services", May::Read, NAMES),
    ("/etc/protocols", May::Read, NAMES),
    ("/etc/localtime", May::Read, "the time zone"),
    ("/etc/timezone", May::Read, "the time zone"),
    (
        "/etc/os-release",
        May::Read,
        "what platform.freedesktop_os_release() reads",
    ),
    (
        "/etc/mime.types",
        May::Read,
        "content types of files (Python's mimetypes)",
    ),
    ("/etc/magic", May::Read, "content types of files (file(1))"),
    ("/etc/fonts", May::Read, "fonts"),
    ("/etc/ssl/certs", May::Read, CERTIFICATES),
    ("/etc/ssl/openssl.cnf", May::Read, CERTIFICATES),
    ("/etc/ca-certificates", May::Read, CERTIFICATES),
    ("/etc/pki/tls", May::Read, CERTIFICATES),
    ("/etc/pki/ca-trust", May::Read, CERTIFICATES),
    ("/etc/crypto-policies", May::Read, CERTIFICATES),
    ("/etc/OpenCL", May::Read, DRIVERS),
    ("/etc/vulkan", May::Read, DRIVERS),
    ("/etc/glvnd", May::Read, DRIVERS),
    ("/etc/egl", May::Read, DRIVERS),
    ("/etc/nvidia", May::Read, DRIVERS),
    ("/etc/drirc", May::Read, DRIVERS),
    ("/dev/null", May::Write, "what every program expects"),
    ("/dev/zero", May::Write, "what every program expects"),
    ("/dev/full", May::Write, "what every program expects"),
    ("/dev/random", May::Read, "random numbers"),
    ("/dev/urandom", May::Read, "random numbers"),
    ("/dev/dri", May::Device, CARDS),
    ("/dev/kfd", May::Device, "AMD's compute driver"),
    ("/dev/accel", May::Device, "neural processors"),
    ("/dev/dxg", May::Device, "graphics cards below WSL"),
    ("/dev/nvidiactl", May::Device, CARDS),
    ("/dev/nvidia-modeset", May::Device, CARDS),
    ("/dev/nvidia-uvm", May::Device, CARDS),
    ("/dev/nvidia-uvm-tools", May::Device, CARDS),
    ("/dev/nvidia-caps", May::Device, CARDS),
    ("/dev/nvidia0", May::Device, CARDS),
    ("/dev/nvidia1", May::Device, CARDS),
    ("/dev/nvidia2", May::Device, CARDS),
    ("/dev/nvidia3", May::Device, CARDS),
    ("/dev/nvidia4", May::Device, CARDS),
    ("/dev/nvidia5", May::Device, CARDS),
    ("/dev/nvidia6", May::Device, CARDS),
    ("/dev/nvidia7", May::Device, CARDS),
];

/// What getaddrinfo(3) reads.
pub(super) const RESOLVER: &[Place] = &[
    ("/usr", May::Read, LIBRARIES),
    ("/lib", May::Read, LIBRARIES),
    ("/lib64", May::Read, LIBRARIES),
    ("/nix/store", May::Read, LIBRARIES),
    ("/etc/ld.so.cache", May::Read, LOADER),
    ("/etc/nsswitch.conf", May::Read, NAMES),
    ("/etc/hosts", May::Read, NAMES),
    ("/etc/host.conf", May::Read, NAMES),
    ("/etc/gai.conf", May::Read, NAMES),
    ("/etc/services", May::Read, NAMES),
    ("/etc/resolv.conf", May::Read, NAMES),
    ("/run/systemd/resolve", May::Read, NAMES),
    ("/run/NetworkManager", May::Read, NAMES),
    ("/run/resolvconf", May::Read, NAMES),
    ("/mnt/wsl/resolv.conf", May::Read, NAMES),
];

/// Where nothing is mounted for the launch, the system's own.
const LINUX_SHARED: &[Place] = &[
    (
        "/dev/shm",
        May::Write,
        "memory shared between processes (sem_open(3)); the system's own",
    ),
    (
        "/proc",
        May::Read,
        "processes and the kernel; those of others keep their environment and memory to themselves",
    ),
    (
        "/sys/devices",
        May::Read,
        "processors, memory and graphics cards",
    ),
    (
        "/sys/class/drm",
        May::Read,
        "processors, memory and graphics cards",
    ),
    (
        "/sys/class/kfd",
        May::Read,
        "processors, memory and graphics cards",
    ),
    (
        "/sys/bus/pci",
        May::Read,
        "processors, memory and graphics cards",
    ),
    (
        "/sys/dev/char",
        May::Read,
        "processors, memory and graphics cards",
    ),
    (
        "/sys/module",
        May::Read,
        "processors, memory and graphics cards",
    ),
];

/// What Apple's own profile `system.sb` leaves out; dyld, libSystem and the frameworks are in it.
const MACOS: &[Place] = &[
    ("/System", May::Run, LIBRARIES),
    ("/usr", May::Run, LIBRARIES),
    ("/bin", May::Run, LIBRARIES),
    ("/sbin", May::Run, LIBRARIES),
    ("/Library/Apple", May::Run, LIBRARIES),
    ("/Library/Fonts", May::Read, "fonts"),
    (
        "/opt/homebrew",
        May::Run,
        "Homebrew's programs and libraries",
    ),
    ("/opt/local", May::Run, "MacPorts' programs and libraries"),
    ("/private/etc/hosts", May::Read, NAMES),
    ("/private/etc/passwd", May::Read, NAMES),
    ("/private/etc/ssl", May::Read, CERTIFICATES),
    ("/private/var/db/timezone", May::Read, "the time zone"),
    ("/dev/null", May::Write, "what every program expects"),
    ("/dev/zero", May::Write, "what every program expects"),
    ("/dev/random", May::Read, "random numbers"),
    ("/dev/urandom", May::Read, "random numbers"),
];

/// What a build job's programs need of a Linux system: no device but those that every program
/// expects.
pub fn for_builds() -> impl Iterator<Item = Place> {
    LINUX
        .iter()
        .filter(|(_, may, _)| *may != May::Device)
        .copied()
}

/// The same for one that resolves names.
pub fn for_fetching() -> impl Iterator<Item = Place> {
    RESOLVER.iter().copied()
}

pub(super) fn of(macos: bool) -> &'static [Place] {
    if macos { MACOS } else { LINUX }
}

pub(super) fn without_rooms(macos: bool) -> &'static [Place] {
    if macos { &[] } else { LINUX_SHARED }
}

/// What is mounted for the launch alone. `/run` is not among them: it is not there at all, nor any
/// socket in it.
pub(super) fn rooms() -> Vec<(PathBuf, Room)> {
    let at = |p: &str, r| (PathBuf::from(p), r);
    vec![
        at("/dev/shm", Room::Memory),
        at("/proc", Room::Processes),
        at("/sys", Room::Hardware),
        at("/tmp", Room::Temp),
        at("/var/tmp", Room::Temp),
    ]
}

/// A program of the system's or of the caller's, with what it loads: the folders of [`interpreter`]
/// and what git keeps beside itself.
pub fn program(path: &Path) -> Vec<PathBuf> {
    let mut out = interpreter(path);
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
/// `PREFIX/lib` and its kin. Never PREFIX itself, which may be somebody's home.
pub(super) fn interpreter(program: &Path) -> Vec<PathBuf> {
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
