//! Which wheel an interpreter takes: the tags in a wheel's name (PEP 425, 427) against those of the
//! interpreter and its system, in the order in which installers prefer them (`packaging.tags`, PEP
//! 600, 656).

use crate::manifest::LockPlatform;
use std::collections::HashMap;

/// What an interpreter reports about itself and the system it was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InterpreterFacts {
    /// `(3, 12)`
    pub python: (u32, u32),
    /// Without the global lock: `cp313t`.
    pub free_threaded: bool,
    /// As `platform.machine()` has it: `x86_64`, `arm64`.
    pub machine: String,
    pub os: OsAbi,
}

/// The system's C library or release, which decides what binaries run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OsAbi {
    Glibc(u32, u32),
    Musl(u32, u32),
    Macos(u32),
}

/// The tags that fit, with their place in the order of preference.
pub(crate) struct WheelTags(HashMap<String, usize>);

impl WheelTags {
    pub(crate) fn new(s: &InterpreterFacts) -> WheelTags {
        let platforms = platform_tags(s);
        let (major, minor) = s.python;
        let own = format!("cp{major}{minor}");
        let abi = if s.free_threaded {
            format!("{own}t")
        } else {
            own.clone()
        };
        let mut all: Vec<String> = Vec::new();
        let mut each = |python: &str, abi: &str| {
            all.extend(platforms.iter().map(|p| format!("{python}-{abi}-{p}")))
        };
        each(&own, &abi);
        // The stable interface is not for interpreters without the global lock (PEP 703).
        let stable = |from: u32| {
            (2..=from)
                .rev()
                .filter(|_| !s.free_threaded)
                .map(|m| format!("cp{major}{m}"))
        };
        stable(minor)
            .take(1)
            .for_each(|python| each(&python, "abi3"));
        each(&own, "none");
        stable(minor)
            .skip(1)
            .for_each(|python| each(&python, "abi3"));
        let older: Vec<String> = std::iter::once(format!("py{major}{minor}"))
            .chain(std::iter::once(format!("py{major}")))
            .chain((0..minor).rev().map(|m| format!("py{major}{m}")))
            .collect();
        older.iter().for_each(|python| each(python, "none"));
        all.push(format!("{own}-none-any"));
        all.extend(older.iter().map(|python| format!("{python}-none-any")));
        let mut ranks = HashMap::new();
        for (rank, tag) in all.into_iter().enumerate() {
            ranks.entry(tag).or_insert(rank);
        }
        WheelTags(ranks)
    }

    /// The place of the best of these names, if one fits; of equal ones that with the highest build
    /// number.
    pub(crate) fn choose_wheel<'a>(
        &self,
        files: impl IntoIterator<Item = &'a str>,
    ) -> Option<usize> {
        let fits = files.into_iter().enumerate().filter_map(|(at, file)| {
            let name = WheelName::parse_file_name(file)?;
            Some((self.rank_of(&name)?, std::cmp::Reverse(name.build), at))
        });
        fits.min().map(|(.., at)| at)
    }

    fn rank_of(&self, name: &WheelName) -> Option<usize> {
        let all = |set: &'_ str| set.split('.').map(str::to_string).collect::<Vec<_>>();
        let (pythons, abis, platforms) = (all(name.python), all(name.abi), all(name.platform));
        let tags = pythons.iter().flat_map(|p| {
            abis.iter()
                .flat_map(|a| platforms.iter().map(move |f| format!("{p}-{a}-{f}")))
                .collect::<Vec<_>>()
        });
        tags.filter_map(|t| self.0.get(&t).copied()).min()
    }
}

/// Returns whether a wheel of that file name may be for Python `version`, such as `3.12`, whatever
/// the platform: as [`WheelTags`] ranks them, and if the name says nothing.
pub(crate) fn serves_version(file: &str, version: &str) -> bool {
    let minor = |tag: &str, prefix: &str| tag.strip_prefix(prefix)?.parse::<u32>().ok();
    let Some(own) = minor(version, "3.") else {
        return true;
    };
    let Some(name) = WheelName::parse_file_name(file) else {
        return true;
    };
    let stable = name.abi.split('.').any(|abi| abi == "abi3");
    name.python.split('.').any(|python| {
        python == "py3"
            || minor(python, "py3").is_some_and(|m| m <= own)
            || minor(python, "cp3").is_some_and(|m| m == own || (stable && m < own))
    })
}

/// Returns whether a wheel of that file name may be for this platform: as [`WheelTags`] ranks them,
/// and if the name says nothing.
pub(crate) fn serves_platform(file: &str, platform: LockPlatform) -> bool {
    let own = if platform.is_macos() {
        ["macosx", "arm64"]
    } else {
        ["linux", platform.machine()]
    };
    WheelName::parse_file_name(file).is_none_or(|name| {
        name.platform.split('.').any(|tag| {
            tag == "any"
                || (tag.contains(own[0]) && (tag.contains(own[1]) || tag.contains("universal2")))
        })
    })
}

/// The last parts of `name-version[-build]-python-abi-platform.whl`.
struct WheelName<'a> {
    /// Its number, then the rest of it.
    build: (u64, &'a str),
    python: &'a str,
    abi: &'a str,
    platform: &'a str,
}

impl<'a> WheelName<'a> {
    fn parse_file_name(file: &'a str) -> Option<WheelName<'a>> {
        let parts: Vec<&str> = file.strip_suffix(".whl")?.split('-').collect();
        let (build, [python, abi, platform]) = match parts.as_slice() {
            [_, _, tags @ ..] if tags.len() == 3 => ("", <[&str; 3]>::try_from(tags).ok()?),
            [_, _, build, tags @ ..] if tags.len() == 3 => {
                (*build, <[&str; 3]>::try_from(tags).ok()?)
            }
            _ => return None,
        };
        let digits = build.len() - build.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let build = (build[..digits].parse().unwrap_or(0), &build[digits..]);
        Some(WheelName {
            build,
            python,
            abi,
            platform,
        })
    }
}

fn platform_tags(s: &InterpreterFacts) -> Vec<String> {
    let arch = s.machine.as_str();
    match s.os {
        OsAbi::Glibc(major, newest) => {
            // Nothing older was ever built for these (PEP 513, 599).
            let oldest = if ["x86_64", "i686"].contains(&arch) {
                5
            } else {
                17
            };
            let mut out = Vec::new();
            for minor in (oldest..=newest).rev().filter(|_| major == 2) {
                out.push(format!("manylinux_2_{minor}_{arch}"));
                let old = [
                    (17, "manylinux2014"),
                    (12, "manylinux2010"),
                    (5, "manylinux1"),
                ]
                .into_iter()
                .find(|(m, _)| *m == minor);
                out.extend(old.map(|(_, name)| format!("{name}_{arch}")));
            }
            out.push(format!("linux_{arch}"));
            out
        }
        OsAbi::Musl(major, newest) => (0..=newest)
            .rev()
            .map(|m| format!("musllinux_{major}_{m}_{arch}"))
            .chain(std::iter::once(format!("linux_{arch}")))
            .collect(),
        OsAbi::Macos(newest) => {
            let formats: &[&str] = if arch == "arm64" {
                &["arm64", "universal2"]
            } else {
                &["x86_64", "intel", "universal2", "universal"]
            };
            let mut out: Vec<String> = (11..=newest)
                .rev()
                .flat_map(|v| formats.iter().map(move |f| format!("macosx_{v}_0_{f}")))
                .collect();
            // Releases before Apple Silicon: for it, only what holds both.
            let before: &[&str] = if arch == "arm64" {
                &["universal2"]
            } else {
                formats
            };
            out.extend(
                (4..=16)
                    .rev()
                    .flat_map(|v| before.iter().map(move |f| format!("macosx_10_{v}_{f}"))),
            );
            out
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(minor: u32, machine: &str, os: OsAbi) -> InterpreterFacts {
        InterpreterFacts {
            python: (3, minor),
            free_threaded: false,
            machine: machine.into(),
            os,
        }
    }

    #[test]
    fn a_lock_keeps_wheels_of_its_own_version() {
        let serves = |tags: &str| serves_version(&format!("a-1.0-{tags}.whl"), "3.12");
        for tags in [
            "cp312-cp312-macosx_11_0_arm64",
            "cp38-abi3-manylinux_2_28_x86_64",
            "py3-none-any",
            "py2.py3-none-any",
            "py310-none-any",
            "cp312-none-manylinux_2_28_x86_64",
        ] {
            assert!(serves(tags), "{tags}");
        }
        for tags in [
            "cp311-cp311-macosx_11_0_arm64",
            "cp313-cp313t-manylinux_2_28_x86_64",
            "cp313-abi3-manylinux_2_28_x86_64",
            "pp310-pypy310_pp73-macosx_11_0_arm64",
            "py313-none-any",
            "py2-none-any",
        ] {
            assert!(!serves(tags), "{tags}");
        }
        assert!(serves_version("odd.whl", "3.12"));
    }

    #[test]
    fn the_best_wheel_of_a_release_is_taken() {
        let linux = system(12, "x86_64", OsAbi::Glibc(2, 36));
        let mac = system(12, "arm64", OsAbi::Macos(15));
        let musl = system(12, "x86_64", OsAbi::Musl(1, 2));
        let free = InterpreterFacts {
            free_threaded: true,
            ..system(13, "x86_64", OsAbi::Glibc(2, 36))
        };
        let files = [
            "numpy-2.0-cp312-cp312-macosx_14_0_arm64.whl",
            "numpy-2.0-cp312-cp312-macosx_11_0_arm64.whl",
            "numpy-2.0-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
            "numpy-2.0-cp312-cp312-manylinux_2_28_x86_64.whl",
            "numpy-2.0-cp312-cp312-manylinux_2_39_x86_64.whl",
            "numpy-2.0-cp312-cp312-musllinux_1_2_x86_64.whl",
            "numpy-2.0-cp313-cp313t-manylinux_2_28_x86_64.whl",
            "numpy-2.0-cp313-cp313-manylinux_2_28_x86_64.whl",
            "numpy-2.0-cp312-cp312-manylinux_2_28_aarch64.whl",
        ];
        let rows: &[(&str, &InterpreterFacts, &[&str])] = &[
            ("newest glibc that is here", &linux, &files),
            ("newest macOS that is here", &mac, &files),
            ("musl", &musl, &files),
            ("free-threaded", &free, &files),
            (
                "own before stable before any",
                &linux,
                &[
                    "a-1-py3-none-any.whl",
                    "a-1-cp38-abi3-manylinux1_x86_64.whl",
                    "a-1-cp312-cp312-linux_x86_64.whl",
                ],
            ),
            (
                "stable before any",
                &linux,
                &[
                    "a-1-py2.py3-none-any.whl",
                    "a-1-cp38-abi3-manylinux1_x86_64.whl",
                ],
            ),
            (
                "no stable interface without the lock",
                &free,
                &["a-1-cp38-abi3-manylinux1_x86_64.whl"],
            ),
            (
                "universal",
                &mac,
                &[
                    "a-1-cp312-cp312-macosx_10_13_universal2.whl",
                    "a-1-cp312-cp312-macosx_10_13_x86_64.whl",
                ],
            ),
            (
                "build numbers count",
                &linux,
                &[
                    "a-1-2-py3-none-any.whl",
                    "a-1-10b-py3-none-any.whl",
                    "a-1-py3-none-any.whl",
                ],
            ),
            (
                "of a newer Python",
                &linux,
                &[
                    "a-1-cp313-abi3-manylinux1_x86_64.whl",
                    "a-1-py313-none-any.whl",
                ],
            ),
            (
                "no name of a wheel",
                &linux,
                &["a-1.tar.gz", "a.whl", "a-1-py3-none-any.whl.asc"],
            ),
        ];
        let told: Vec<String> = rows
            .iter()
            .map(|(what, s, files)| {
                format!(
                    "{what}: {}",
                    WheelTags::new(s)
                        .choose_wheel(files.iter().copied())
                        .map_or("none", |at| files[at])
                )
            })
            .collect();
        insta::assert_snapshot!(told.join("\n"), @"
        newest glibc that is here: numpy-2.0-cp312-cp312-manylinux_2_28_x86_64.whl
        newest macOS that is here: numpy-2.0-cp312-cp312-macosx_14_0_arm64.whl
        musl: numpy-2.0-cp312-cp312-musllinux_1_2_x86_64.whl
        free-threaded: numpy-2.0-cp313-cp313t-manylinux_2_28_x86_64.whl
        own before stable before any: a-1-cp312-cp312-linux_x86_64.whl
        stable before any: a-1-cp38-abi3-manylinux1_x86_64.whl
        no stable interface without the lock: none
        universal: a-1-cp312-cp312-macosx_10_13_universal2.whl
        build numbers count: a-1-10b-py3-none-any.whl
        of a newer Python: none
        no name of a wheel: none
        ");
    }
}
