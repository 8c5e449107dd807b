//! The platforms that a lock serves, the accelerators of machines, and the indexes that packages
//! for them come from.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::path::Path;

use super::names::{composed_name, folded_name, normalize_name};

/// The system that comfy decides for; on the disk and between processes whether it is macOS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(from = "bool", into = "bool")]
pub(crate) enum OperatingSystem {
    #[default]
    Linux,
    MacOs,
}

impl OperatingSystem {
    pub(crate) fn is_macos(self) -> bool {
        self == OperatingSystem::MacOs
    }

    /// The folder that contains people's homes.
    pub(crate) fn homes(self) -> &'static str {
        if self.is_macos() { "/Users" } else { "/home" }
    }
}

impl OperatingSystem {
    /// Returns what follows `folder` in `path`, if it is that folder or lies below it, as this system
    /// compares names: a Mac's usual disk folds case and forms of Unicode.
    pub(crate) fn below<'a>(self, path: &'a Path, folder: &Path) -> Option<&'a Path> {
        let mut parts = path.components();
        let same = |name: &OsStr, wanted: &OsStr| {
            name == wanted
                || (self.is_macos()
                    && folded_name(&name.to_string_lossy())
                        == folded_name(&wanted.to_string_lossy()))
        };
        let mut above = folder.components();
        let inside = above.all(|f| {
            let part = parts.next();
            part.is_some_and(|p| same(p.as_os_str(), f.as_os_str()))
        });
        inside.then_some(parts.as_path())
    }

    pub(crate) fn lies_in(self, path: &Path, folder: &Path) -> bool {
        self.below(path, folder).is_some()
    }

    pub(crate) fn is_same(self, a: &Path, b: &Path) -> bool {
        self.lies_in(a, b) && self.lies_in(b, a)
    }

    /// Returns the form in which names from the disk are compared with comfy.toml: HFS+ hands them out
    /// decomposed.
    pub(crate) fn spelled(self, path: &str) -> Cow<'_, str> {
        if self.is_macos() && !path.is_ascii() {
            Cow::Owned(composed_name(path))
        } else {
            Cow::Borrowed(path)
        }
    }
}

impl From<bool> for OperatingSystem {
    fn from(macos: bool) -> OperatingSystem {
        if macos {
            OperatingSystem::MacOs
        } else {
            OperatingSystem::Linux
        }
    }
}

impl From<OperatingSystem> for bool {
    fn from(os: OperatingSystem) -> bool {
        os.is_macos()
    }
}

/// What a lock may serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum LockPlatform {
    LinuxAarch64,
    LinuxX86_64,
    MacosArm64,
}

impl LockPlatform {
    /// In the order in which uv is asked for them.
    pub(crate) const ALL: [LockPlatform; 3] = [
        LockPlatform::MacosArm64,
        LockPlatform::LinuxX86_64,
        LockPlatform::LinuxAarch64,
    ];

    /// What `[python] platforms` is where it is left out, sorted.
    pub(crate) fn defaults() -> Vec<LockPlatform> {
        vec![LockPlatform::LinuxX86_64, LockPlatform::MacosArm64]
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            LockPlatform::LinuxAarch64 => "linux-aarch64",
            LockPlatform::LinuxX86_64 => "linux-x86_64",
            LockPlatform::MacosArm64 => "macos-arm64",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<LockPlatform> {
        Self::ALL.into_iter().find(|p| p.word() == word)
    }

    /// The platform of a machine; `machine` as Python's `platform.machine()` says it.
    pub(crate) fn of_machine(os: OperatingSystem, machine: &str) -> Option<LockPlatform> {
        Self::ALL
            .into_iter()
            .find(|p| p.is_macos() == os.is_macos() && p.machine() == machine)
    }

    pub(crate) fn is_macos(self) -> bool {
        self == LockPlatform::MacosArm64
    }

    pub(crate) fn machine(self) -> &'static str {
        match self {
            LockPlatform::LinuxAarch64 => "aarch64",
            LockPlatform::LinuxX86_64 => "x86_64",
            LockPlatform::MacosArm64 => "arm64",
        }
    }
}

impl fmt::Display for LockPlatform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What a machine computes with beside its processor: `cpu`, `mps`, `cuda-12.8`, `rocm-7.2`, `xpu`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Accelerator(String);

/// What may be written for one.
pub(crate) const ACCELERATORS: &str =
    "write \"cpu\", \"mps\", \"cuda-12.8\", \"rocm-7.2\" or \"xpu\", with the version of your own";

impl Accelerator {
    pub(crate) fn parse(word: &str) -> Option<Accelerator> {
        let number =
            |n: &str| !n.is_empty() && n.len() <= 3 && n.bytes().all(|b| b.is_ascii_digit());
        let versioned = ["cuda-", "rocm-"]
            .iter()
            .find_map(|kind| word.strip_prefix(kind))
            .and_then(|v| v.split_once('.'))
            .is_some_and(|(major, minor)| number(major) && number(minor));
        (versioned || ["cpu", "mps", "xpu"].contains(&word)).then(|| Accelerator(word.into()))
    }

    pub(crate) fn word(&self) -> &str {
        &self.0
    }

    /// Whether it is what a Mac has without any setting.
    pub(crate) fn is_mps(&self) -> bool {
        self.0 == "mps"
    }
}

/// An index that serves some packages, and them alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackageIndex {
    pub name: String,
    pub url: String,
    pub packages: Vec<String>,
    /// As declared, sorted; none: all, or those with Linux where `accelerators` is given.
    pub platforms: Vec<LockPlatform>,
    /// Sorted; none: it serves machines without an accelerator.
    pub accelerators: Vec<Accelerator>,
}

impl PackageIndex {
    pub(crate) fn serves_platform(&self, platform: LockPlatform) -> bool {
        if self.platforms.is_empty() {
            self.accelerators.is_empty() || !platform.is_macos()
        } else {
            self.platforms.contains(&platform)
        }
    }

    /// Whether it is for machines with this accelerator, or without one.
    pub(crate) fn serves_accelerator(&self, accelerator: Option<&Accelerator>) -> bool {
        match accelerator {
            Some(a) => self.accelerators.contains(a),
            None => self.accelerators.is_empty(),
        }
    }

    /// `package` is normalised.
    pub(crate) fn has_package(&self, package: &str) -> bool {
        self.packages.iter().any(|p| normalize_name(p) == package)
    }
}

/// The accelerators that `indexes` name for this platform, sorted.
pub(crate) fn accelerators_on(
    indexes: &[PackageIndex],
    platform: LockPlatform,
) -> Vec<&Accelerator> {
    let mut all: Vec<&Accelerator> = indexes
        .iter()
        .filter(|x| x.serves_platform(platform))
        .flat_map(|x| &x.accelerators)
        .collect();
    all.sort();
    all.dedup();
    all
}

/// `cpu, cuda-12.8`
pub(crate) fn list_words<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().collect::<Vec<_>>().join(", ")
}
