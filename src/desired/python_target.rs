//! For which platform and accelerator this machine takes packages from comfy.lock.

use super::Desired;
use crate::lock::python::DEFAULT_VARIANT;
use crate::manifest::LockPlatform;
use crate::manifest::platforms::{accelerators_on, list_words};
use crate::problem::{Problem, Result};

/// What decides which of the locked packages belong to a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PythonTarget {
    pub platform: LockPlatform,
    /// As comfy.lock calls it.
    pub variant: String,
}

impl Desired {
    /// # Errors
    /// If comfy.lock does not serve this platform, or not this accelerator on it; another one is
    /// never taken instead.
    pub(crate) fn python_target(&self) -> Result<PythonTarget> {
        let served = list_words(self.python.platforms.iter().map(|p| p.word()));
        let system = if self.platform.os.is_macos() {
            "macos"
        } else {
            "linux"
        };
        let machine = format!("{system}-{}", self.platform.machine);
        let Some(platform) = LockPlatform::of_machine(self.platform.os, &self.platform.machine)
        else {
            return Err(Problem::new(format!(
                "this machine is {machine}, and comfy installs packages on {} only",
                list_words(LockPlatform::ALL.map(LockPlatform::word))
            )));
        };
        if !self.python.platforms.contains(&platform) {
            let place = self.place_of_key(&["python", "platforms"]);
            return Err(Problem::new(format!(
                "{place}: this machine is {platform}; comfy.lock has {served}"
            ))
            .with_hint(format!(
                "add \"{platform}\" to [python] platforms and run `comfy lock`"
            )));
        }
        let default = PythonTarget {
            platform,
            variant: DEFAULT_VARIANT.into(),
        };
        let Some(wanted) = &self.accelerator else {
            return Ok(default);
        };
        if wanted.is_mps() && platform.is_macos() {
            return Ok(default);
        }
        let known = accelerators_on(&self.python.indexes, platform);
        if known.contains(&wanted) {
            return Ok(PythonTarget {
                variant: wanted.word().into(),
                ..default
            });
        }
        let place = self.place_of_key(&["host", "accelerator"]);
        let has = if known.is_empty() {
            "no accelerator".to_string()
        } else {
            list_words(known.iter().map(|a| a.word()))
        };
        let p = Problem::new(format!(
            "{place}: {} has accelerator \"{}\"; comfy.lock has {has} for {platform}",
            self.host,
            wanted.word()
        ));
        Err(if wanted.is_mps() {
            p.with_hint("mps is for Macs: choose one of these, or remove the line")
        } else if platform.is_macos() {
            p.with_hint("remove the line: without it, a Mac uses mps")
        } else if known.is_empty() {
            p.with_hint(format!(
                "remove the line, or add an index with accelerators = [\"{}\"] to [python] indexes \
                 and run `comfy lock`",
                wanted.word()
            ))
        } else {
            p.with_hint("choose one of these, or add an index for it and run `comfy lock`")
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use crate::manifest::platforms::OperatingSystem;
    use crate::testing::{Locked, desired};

    #[test]
    fn a_machine_takes_what_is_locked_for_it_or_nothing() {
        let toml = "[python]\nplatforms = [\"macos-arm64\", \"linux-x86_64\"]\nindexes = [\n\
            { name = \"cu\", url = \"https://x.test\", packages = [\"torch\"], accelerators = \
            [\"cuda-12.8\"] },\n{ name = \"ro\", url = \"https://x.test\", packages = [\"torch\"], \
            accelerators = [\"rocm-7.2\"] },\n]\n";
        let mut told = Vec::new();
        for (macos, machine, accelerator) in [
            (true, "arm64", None),
            (true, "arm64", Some("mps")),
            (true, "arm64", Some("cuda-12.8")),
            (true, "x86_64", None),
            (false, "x86_64", None),
            (false, "x86_64", Some("rocm-7.2")),
            (false, "x86_64", Some("rocm-7.1")),
            (false, "x86_64", Some("cpu")),
            (false, "x86_64", Some("mps")),
            (false, "aarch64", None),
        ] {
            let mut d = desired(toml, &Locked::default());
            d.platform.os = OperatingSystem::from(macos);
            d.platform.machine = machine.into();
            d.accelerator = accelerator.and_then(crate::manifest::Accelerator::parse);
            let is = d.python_target().map_or_else(
                |p| p.to_string(),
                |t| format!("{} for {}", t.variant, t.platform),
            );
            let system = if macos { "Mac" } else { "Linux" };
            told.push(format!(
                "{system} {machine}, {}: {is}",
                accelerator.unwrap_or("-")
            ));
        }
        insta::assert_snapshot!(told.join("\n"), @r#"
        Mac arm64, -: default for macos-arm64
        Mac arm64, mps: default for macos-arm64
        Mac arm64, cuda-12.8: comfy.toml:1:1: host has accelerator "cuda-12.8"; comfy.lock has no accelerator for macos-arm64 (hint: remove the line: without it, a Mac uses mps)
        Mac x86_64, -: this machine is macos-x86_64, and comfy installs packages on macos-arm64, linux-x86_64, linux-aarch64 only
        Linux x86_64, -: default for linux-x86_64
        Linux x86_64, rocm-7.2: rocm-7.2 for linux-x86_64
        Linux x86_64, rocm-7.1: comfy.toml:1:1: host has accelerator "rocm-7.1"; comfy.lock has cuda-12.8, rocm-7.2 for linux-x86_64 (hint: choose one of these, or add an index for it and run `comfy lock`)
        Linux x86_64, cpu: comfy.toml:1:1: host has accelerator "cpu"; comfy.lock has cuda-12.8, rocm-7.2 for linux-x86_64 (hint: choose one of these, or add an index for it and run `comfy lock`)
        Linux x86_64, mps: comfy.toml:1:1: host has accelerator "mps"; comfy.lock has cuda-12.8, rocm-7.2 for linux-x86_64 (hint: mps is for Macs: choose one of these, or remove the line)
        Linux aarch64, -: comfy.toml:6:1: this machine is linux-aarch64; comfy.lock has linux-x86_64, macos-arm64 (hint: add "linux-aarch64" to [python] platforms and run `comfy lock`)
        "#);
    }
}
