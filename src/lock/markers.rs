//! Where a marker (PEP 508) is true, among the platforms that a lock serves.

use pep508_rs::{MarkerEnvironment, MarkerEnvironmentBuilder, MarkerTree};

use crate::manifest::LockPlatform;
use crate::problem::{Context, Result};

/// Newer releases of one minor version of Python than there ever were.
const PATCHES: u32 = 40;

/// The platform as uv is asked for it. Its messages quote this text.
pub(crate) fn platform_marker(platform: LockPlatform) -> String {
    let system = if platform.is_macos() {
        "darwin"
    } else {
        "linux"
    };
    format!(
        "platform_machine == '{}' and sys_platform == '{system}'",
        platform.machine()
    )
}

/// The environment of CPython on a platform. A lock must not depend on kernel and release: a marker
/// sees them as empty.
///
/// # Errors
/// If `version` is none.
pub(crate) fn marker_environment(
    platform: LockPlatform,
    version: &str,
) -> Result<MarkerEnvironment> {
    let (system, sys) = if platform.is_macos() {
        ("Darwin", "darwin")
    } else {
        ("Linux", "linux")
    };
    let end = version
        .match_indices('.')
        .nth(1)
        .map_or(version.len(), |(i, _)| i);
    MarkerEnvironment::try_from(MarkerEnvironmentBuilder {
        implementation_name: "cpython",
        implementation_version: version,
        os_name: "posix",
        platform_machine: platform.machine(),
        platform_python_implementation: "CPython",
        platform_release: "",
        platform_system: system,
        platform_version: "",
        python_full_version: version,
        python_version: &version[..end],
        sys_platform: sys,
    })
    .with_context(|| {
        format!(
            "understand the Python version {}",
            crate::text::escape_text(version)
        )
    })
}

/// Where a marker is true.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MarkerTruth {
    /// The platforms on which it is true for some release of Python, sorted.
    pub platforms: Vec<LockPlatform>,
    /// Whether it is true there for some releases only.
    pub varies: bool,
}

/// Returns where `marker` is true among `platforms`; an empty one is true everywhere. `minor` is
/// `3.12`.
///
/// # Errors
/// If it is no marker.
pub(crate) fn marker_truth(
    marker: &str,
    minor: &str,
    platforms: &[LockPlatform],
) -> Result<MarkerTruth> {
    let mut out = MarkerTruth {
        platforms: platforms.to_vec(),
        varies: false,
    };
    out.platforms.sort();
    if marker.is_empty() {
        return Ok(out);
    }
    let tree: MarkerTree = marker
        .parse()
        .with_context(|| format!("read the marker `{}`", crate::text::escape_text(marker)))?;
    let patches = if marker.contains("_version") {
        PATCHES
    } else {
        1
    };
    let mut kept = Vec::new();
    for p in &out.platforms {
        let mut holds = 0;
        for patch in 0..patches {
            let env = marker_environment(*p, &format!("{minor}.{patch}"))?;
            holds += u32::from(tree.evaluate(&env, &[]));
        }
        if holds > 0 {
            kept.push(*p);
            out.varies |= holds < patches;
        }
    }
    out.platforms = kept;
    Ok(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;

    #[test]
    fn markers_are_compared_by_what_they_say_of_each_platform() {
        let told: Vec<String> = [
            "",
            "sys_platform == 'linux'",
            "platform_machine == 'aarch64' and platform_system == 'Linux'",
            "(platform_machine == 'arm64' and sys_platform == 'darwin') or sys_platform == 'linux'",
            "sys_platform == 'win32'",
            "implementation_name == 'pypy'",
            "python_version < '3.12'",
            "python_full_version < '3.12.4' and sys_platform == 'linux'",
        ]
        .iter()
        .map(|m| {
            let t = marker_truth(m, "3.12", &LockPlatform::ALL).unwrap();
            let words: Vec<&str> = t.platforms.iter().map(|p| p.word()).collect();
            let more = if t.varies { ", for some releases" } else { "" };
            format!("`{m}`: {}{more}", words.join(" "))
        })
        .collect();
        insta::assert_snapshot!(told.join("\n"), @"
        ``: linux-aarch64 linux-x86_64 macos-arm64
        `sys_platform == 'linux'`: linux-aarch64 linux-x86_64
        `platform_machine == 'aarch64' and platform_system == 'Linux'`: linux-aarch64
        `(platform_machine == 'arm64' and sys_platform == 'darwin') or sys_platform == 'linux'`: linux-aarch64 linux-x86_64 macos-arm64
        `sys_platform == 'win32'`: 
        `implementation_name == 'pypy'`: 
        `python_version < '3.12'`: 
        `python_full_version < '3.12.4' and sys_platform == 'linux'`: linux-aarch64 linux-x86_64, for some releases
        ");
    }
}
