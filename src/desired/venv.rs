//! A virtual environment as data: for which interpreter, and which of the locked packages belong to
//! this machine.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use pep508_rs::MarkerTree;
use sha2::{Digest, Sha256};

use super::PythonTarget;
use crate::ids::{Part, VenvId};
use crate::lock::LockedPython;
use crate::lock::markers::marker_environment;
use crate::lock::python::LockedPackage;
use crate::lock::wheel_tags::serves_platform;
use crate::manifest::wheel_sources::WHEELS_INDEX;
use crate::manifest::{LockPlatform, WheelSource};
use crate::problem::{Context, Problem, Result};

/// A Python that a virtual environment can be made for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PythonInterpreter {
    /// The program itself, not a link or a shim.
    pub path: PathBuf,
    /// `3.12.4`
    pub version: String,
}

impl PythonInterpreter {
    /// `3.12`
    pub(crate) fn minor_version(&self) -> &str {
        let end = self
            .version
            .match_indices('.')
            .nth(1)
            .map_or(self.version.len(), |(i, _)| i);
        &self.version[..end]
    }
}

/// A package to install, from any of these wheels that fits.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct PackageInstall {
    pub name: String,
    pub version: String,
    /// The index to fetch it from; `None`: the default index.
    pub index: Option<String>,
    pub sha256: Vec<String>,
    /// The files' names, in the order of their hashes; none, and not written, in a description of
    /// [`LAYOUT`] 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Where they are, if no index has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<OwnWheels>,
    /// Whether it may bring `.pth` files with code.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_pth: bool,
    /// The size in bytes of the wheel that this platform fetches, if the lock knows it.
    pub size: u64,
}

/// Where the wheels of a package are that comes from `[python] wheels`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct OwnWheels {
    pub folders: Vec<PathBuf>,
    /// File name to address.
    pub addresses: BTreeMap<String, String>,
}

fn own_wheels(p: &LockedPackage, python: &LockedPython, home: &Path) -> OwnWheels {
    let mut out = OwnWheels {
        folders: Vec::new(),
        addresses: BTreeMap::new(),
    };
    for source in &python.wheels {
        match source {
            WheelSource::Folder(path) => out.folders.push(super::below_home(home, path)),
            WheelSource::Address { url, file, .. } => {
                if p.wheels.iter().any(|w| w.file == *file) {
                    out.addresses.insert(file.clone(), url.clone());
                }
            }
        }
    }
    out
}

impl PackageInstall {
    fn of_locked(
        p: &LockedPackage,
        python: &LockedPython,
        platform: LockPlatform,
        home: &Path,
    ) -> PackageInstall {
        let index = python.index_of(p);
        let fitting = p
            .wheels
            .iter()
            .filter(|w| serves_platform(&w.file, platform));
        let own = (p.index.as_deref() == Some(WHEELS_INDEX)).then(|| own_wheels(p, python, home));
        PackageInstall {
            name: p.name.clone(),
            version: p.version.clone(),
            index: index.map(|x| x.url.clone()),
            sha256: p.wheels.iter().map(|w| w.sha256.clone()).collect(),
            files: p.wheels.iter().map(|w| w.file.clone()).collect(),
            own,
            allow_pth: python.allow_pth.contains(&p.name),
            size: fitting.filter_map(|w| w.size).max().unwrap_or(0),
        }
    }

    /// Name and version with the hashes of its files: two builds of one version are two packages.
    pub(crate) fn install_key(&self) -> InstallKey<'_> {
        (&self.name, &self.version, &self.sha256)
    }

    /// `numpy==1.26.4`
    pub(crate) fn key(&self) -> String {
        format!("{}=={}", self.name, self.version)
    }
}

/// As [`PackageInstall::install_key`] makes it.
pub(crate) type InstallKey<'a> = (&'a str, &'a str, &'a [String]);

/// The content of the folder `venv/<id>`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct VenvSpec {
    pub layout: u32,
    pub interpreter: PythonInterpreter,
    /// Sorted by name.
    pub packages: Vec<PackageInstall>,
}

/// Raised when the folder of a virtual environment or its list changes its shape. Since 2 the list
/// has the files of each wheel, those that another one brings too among them, and folders that are
/// empty.
pub(crate) const LAYOUT: u32 = 2;

impl VenvSpec {
    /// Selects the packages of `python` that this machine installs, without those that only
    /// disabled nodes need.
    ///
    /// # Errors
    /// If a marker cannot be read.
    pub(crate) fn select_packages(
        python: &LockedPython,
        interpreter: PythonInterpreter,
        target: &PythonTarget,
        home: &Path,
        enabled: impl Fn(&str) -> bool,
    ) -> Result<VenvSpec> {
        let env = marker_environment(target.platform, &interpreter.version)
            .map_err(|p| p.with_prefix(&format!("{}: ", interpreter.path.display())))?;
        let wanted = wanted_packages(&python.packages, enabled);
        let mut packages = Vec::new();
        for p in python.packages.iter().filter(|p| {
            wanted.contains(p.name.as_str()) && p.serves_machine(target.platform, &target.variant)
        }) {
            let applies = match &p.marker {
                None => true,
                Some(m) => m
                    .parse::<MarkerTree>()
                    .with_context(|| format!("read the marker of {} in comfy.lock", p.name))?
                    .evaluate(&env, &[]),
            };
            if applies {
                packages.push(PackageInstall::of_locked(p, python, target.platform, home));
            }
        }
        if let Some(two) = packages.windows(2).find(|w| w[0].name == w[1].name) {
            return Err(Problem::new(format!(
                "comfy.lock pins two versions of {} for this machine",
                crate::text::escape_text(&two[0].name)
            ))
            .with_hint("run `comfy update python`"));
        }
        Ok(VenvSpec {
            layout: LAYOUT,
            interpreter,
            packages,
        })
    }

    /// Computes the id: 16 hexadecimal digits of a hash over the folder's content.
    pub fn id(&self) -> VenvId {
        let mut h = Sha256::new();
        let mut line = |s: String| {
            h.update(s.as_bytes());
            h.update(b"\n");
        };
        line(format!(
            "venv {} {} {}",
            self.layout,
            self.interpreter.version,
            self.interpreter.path.display()
        ));
        for p in &self.packages {
            let pth = if p.allow_pth { " pth" } else { "" };
            line(format!(
                "{} {} {}{pth}",
                p.name,
                p.version,
                p.sha256.join(" ")
            ));
        }
        VenvId::of_digest(h)
    }

    /// Returns the folder of the packages.
    pub(crate) fn site_packages(&self) -> String {
        format!(
            "lib/python{}/site-packages",
            self.interpreter.minor_version()
        )
    }
}

/// Returns the packages that an enabled part needs, directly or through others. A package that no
/// part needs stays: what is not understood is not left out.
fn wanted_packages(packages: &[LockedPackage], enabled: impl Fn(&str) -> bool) -> HashSet<&str> {
    let mut wanted = HashSet::new();
    loop {
        let asks = |by: &String| match by.parse::<Part>() {
            Ok(Part::Node(node)) => enabled(&node),
            _ => ["comfyui", "comfy.toml"].contains(&by.as_str()) || wanted.contains(by.as_str()),
        };
        let more: Vec<&str> = packages
            .iter()
            .filter(|p| {
                !wanted.contains(p.name.as_str()) && (p.by.is_empty() || p.by.iter().any(asks))
            })
            .map(|p| p.name.as_str())
            .collect();
        if more.is_empty() {
            return wanted;
        }
        wanted.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::python::LockedWheel;
    use crate::manifest::platforms::OperatingSystem;

    #[test]
    fn each_platform_installs_its_own_packages() {
        let package = |name: &str, marker: Option<&str>| LockedPackage {
            name: name.into(),
            version: "1".into(),
            index: None,
            platforms: Vec::new(),
            accelerators: Vec::new(),
            marker: marker.map(str::to_string),
            by: Vec::new(),
            publisher: None,
            wheels: vec![LockedWheel {
                file: format!("{name}.whl"),
                sha256: "0".repeat(64),
                size: None,
            }],
        };
        let python = LockedPython {
            version: "3.12".into(),
            managed: None,
            requirements: Vec::new(),
            overrides: Vec::new(),
            platforms: LockPlatform::defaults(),
            indexes: Vec::new(),
            wheels: Vec::new(),
            allow_pth: Vec::new(),
            packages: vec![
                package("everywhere", None),
                package(
                    "linux",
                    Some("platform_machine == 'x86_64' and sys_platform == 'linux'"),
                ),
                package(
                    "mac",
                    Some("platform_machine == 'arm64' and sys_platform == 'darwin'"),
                ),
                package("old", Some("python_full_version < '3.12.3'")),
            ],
        };
        let on = |macos: bool, machine: &str, version: &str| {
            let interpreter = PythonInterpreter {
                path: "/usr/bin/python3.12".into(),
                version: version.into(),
            };
            let spec = VenvSpec::select_packages(
                &python,
                interpreter,
                &PythonTarget {
                    platform: LockPlatform::of_machine(OperatingSystem::from(macos), machine)
                        .unwrap(),
                    variant: "default".into(),
                },
                Path::new("/home/a"),
                |node| node == "on",
            )
            .unwrap();
            spec.packages
                .iter()
                .map(|p| p.name.clone())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(on(false, "x86_64", "3.12.4"), "everywhere linux");
        assert_eq!(on(true, "arm64", "3.12.1"), "everywhere mac old");
        // A package that only a disabled node needs, directly or through another package, is not
        // installed.
        let mut python = python.clone();
        for (name, by) in [
            ("alone", &["node.off"][..]),
            ("below-alone", &["alone"]),
            ("both", &["node.off", "node.on"]),
            ("below-both", &["both", "below-alone"]),
            ("circle-a", &["circle-b", "node.off"]),
            ("circle-b", &["circle-a"]),
            ("core", &["comfyui"]),
        ] {
            python.packages.push(LockedPackage {
                by: by.iter().map(|b| (*b).to_string()).collect(),
                ..package(name, None)
            });
        }
        let interpreter = PythonInterpreter {
            path: "/usr/bin/python3.12".into(),
            version: "3.12.4".into(),
        };
        let spec = VenvSpec::select_packages(
            &python,
            interpreter,
            &PythonTarget {
                platform: LockPlatform::LinuxX86_64,
                variant: "default".into(),
            },
            Path::new("/home/a"),
            |node| node == "on",
        )
        .unwrap();
        assert_eq!(
            spec.packages
                .iter()
                .map(|p| p.name.as_str())
                .collect::<Vec<_>>(),
            ["everywhere", "linux", "both", "below-both", "core"]
        );
    }
}
