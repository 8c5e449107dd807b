//! torch, torchvision and torchaudio: which of them were made for each other, where their own
//! requirements do not say.

use pep508_rs::Requirement;

use super::pins::{is_older, public_versions};
use super::variants::{SharedBounds, SolvedLock};
use crate::lock::python::{normalize_name, public_version};
use crate::lock::uv::response::{SolvedPackage, SolvedVariant};

pub(super) const TORCH: &str = "torch";
const AUDIO: &str = "torchaudio";
/// They move together.
pub(super) const FAMILY: [&str; 3] = [TORCH, "torchvision", AUDIO];
/// The first torchaudio that names no torch in its requirements, and the last one that was
/// released; it is for torch 2.11 and later.
const UNBOUND_AUDIO: &str = "2.11.0";
/// The CUDA that torchaudio 2.11.0 on PyPI was built with; it compares it with torch's at import.
const AUDIO_CUDA: &str = "13.0";

/// `torchaudio<2.11` where torch is older than that; nothing where a part asks for another one.
pub(super) fn audio_bound(base: &SolvedVariant, members: &[(String, Vec<String>)]) -> SharedBounds {
    let mut out = SharedBounds::new();
    let any = |name: &str, fits: &dyn Fn(&str) -> bool| {
        base.packages
            .iter()
            .any(|p| p.name == name && fits(public_version(&p.version)))
    };
    let old_torch = any(TORCH, &|v| is_older(v, UNBOUND_AUDIO));
    let new_audio = any(AUDIO, &|v| !is_older(v, UNBOUND_AUDIO));
    if old_torch && new_audio && !asks_for_new_audio(members) {
        out.insert(AUDIO.into(), "<2.11".into());
    }
    out
}

/// Whether a line rules out every torchaudio that belongs to an older torch.
fn asks_for_new_audio(members: &[(String, Vec<String>)]) -> bool {
    let lines = members.iter().flat_map(|(_, lines)| lines);
    lines
        .filter_map(|l| l.parse::<Requirement>().ok())
        .filter(|r: &Requirement| normalize_name(r.name.as_ref()) == AUDIO)
        .any(|r| match r.version_or_url {
            Some(pep508_rs::VersionOrUrl::VersionSpecifier(s)) => {
                "2.10.999".parse().is_ok_and(|v| !s.contains(&v))
            }
            _ => false,
        })
}

/// What a person should know of torch and torchaudio in each variant, beside what
/// [`family_lines`] finds out.
pub(super) fn audio_remarks(answers: &[SolvedLock]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for a in answers {
        let on_linux = a.variant.platforms.iter().any(|p| !p.is_macos());
        let told = audio_of_another_torch(&a.solved)
            .or_else(|| audio_of_another_cuda(&a.solved).filter(|_| on_linux));
        out.extend(told.filter(|t| !out.contains(t)));
    }
    out
}

/// The locked versions of the family as requirements, where an override may have paired what was
/// not made for each other: without the override uv tells whether they fit.
pub(super) fn family_lines(base: &SolvedVariant, overrides: &[String]) -> Option<Vec<String>> {
    let overruled = overrides.iter().any(|o| {
        o.parse::<Requirement>()
            .is_ok_and(|r: Requirement| FAMILY.contains(&normalize_name(r.name.as_ref()).as_str()))
    });
    let lines: Vec<String> = FAMILY
        .iter()
        .filter_map(|name| {
            let mut versions = public_versions(base, name).into_iter();
            let version = versions.next().filter(|_| versions.next().is_none())?;
            Some(format!("{name}=={version}"))
        })
        .collect();
    (overruled && lines.len() > 1).then_some(lines)
}

fn package<'a>(solved: &'a SolvedVariant, name: &str) -> Option<&'a SolvedPackage> {
    let mut own = solved.packages.iter().filter(|p| p.name == name);
    own.clone()
        .find(|p| p.truth.platforms.iter().any(|p| !p.is_macos()))
        .or_else(|| own.next())
}

/// `(2, 11)` of `2.11.0+cu128`.
fn minor_of(version: &str) -> Option<(u32, u32)> {
    let mut numbers = public_version(version).split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn audio_of_another_torch(solved: &SolvedVariant) -> Option<String> {
    let (torch, audio) = (package(solved, TORCH)?, package(solved, AUDIO)?);
    let is = minor_of(&torch.version)?;
    let unbound = !is_older(public_version(&audio.version), UNBOUND_AUDIO);
    (unbound && is < (2, 11)).then(|| {
        format!(
            "torchaudio {} was made for torch 2.11 and later, and torch {} is locked: it may not \
             load; [python] overrides = [\"torchaudio=={}.{}.*\"] takes the one that fits",
            audio.version, torch.version, is.0, is.1
        )
    })
}

/// torchaudio compares the CUDA that it was built with to torch's when it is imported, on machines
/// without a card too.
fn audio_of_another_cuda(solved: &SolvedVariant) -> Option<String> {
    let (torch, audio) = (package(solved, TORCH)?, package(solved, AUDIO)?);
    let toolkit = package(solved, "cuda-toolkit")?;
    let (major, minor) = minor_of(&toolkit.version)?;
    let toolkit = format!("{major}.{minor}");
    let own = match audio.version.split_once("+cu") {
        // `cu128` is 12.8.
        Some((_, digits)) => {
            let (major, minor) = digits.split_at_checked(digits.len().checked_sub(1)?)?;
            format!("{major}.{minor}")
        }
        None if audio.version == UNBOUND_AUDIO => AUDIO_CUDA.into(),
        None => return None,
    };
    (own != toolkit).then(|| {
        format!(
            "torchaudio {} was built with CUDA {own}, and torch {} with {toolkit}: on Linux it \
             refuses to load; [python] requirements = [\"torch<{}\"] takes a torch that fits",
            audio.version,
            torch.version,
            minor_of(&torch.version).map_or("2.15".into(), |(a, b)| format!("{a}.{b}"))
        )
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;
    use crate::lock::uv::variant::LockVariant;
    use crate::manifest::LockPlatform;

    fn locked(packages: &[&str], platforms: &[LockPlatform]) -> SolvedLock {
        let package = |line: &&str| {
            let (name, version) = line.split_once(' ').unwrap();
            SolvedPackage {
                name: name.into(),
                version: version.into(),
                index: None,
                url: String::new(),
                marker: String::new(),
                truth: crate::lock::markers::MarkerTruth {
                    platforms: platforms.to_vec(),
                    varies: false,
                },
                by: std::collections::BTreeSet::new(),
                wheels: Vec::new(),
            }
        };
        SolvedLock {
            variant: LockVariant {
                accelerator: None,
                platforms: platforms.to_vec(),
            },
            solved: SolvedVariant {
                packages: packages.iter().map(package).collect(),
                ..SolvedVariant::default()
            },
        }
    }

    #[test]
    fn a_torchaudio_that_will_not_load_is_told() {
        let linux = &[LockPlatform::LinuxX86_64][..];
        let mac = &[LockPlatform::MacosArm64][..];
        let rows: [(&[&str], _); 8] = [
            (
                &["torch 2.15.0", "torchaudio 2.11.0", "cuda-toolkit 13.2.1"],
                linux,
            ),
            (&["torch 2.15.0", "torchaudio 2.11.0"], mac),
            (
                &["torch 2.11.0", "torchaudio 2.11.0", "cuda-toolkit 13.0.2"],
                linux,
            ),
            (
                &[
                    "torch 2.11.0+cu128",
                    "torchaudio 2.11.0+cu128",
                    "cuda-toolkit 12.8.1",
                ],
                linux,
            ),
            (
                &[
                    "torch 2.15.0+cu130",
                    "torchaudio 2.11.0+cu126",
                    "cuda-toolkit 13.0.2",
                ],
                linux,
            ),
            (
                &["torch 2.11.0+rocm7.2", "torchaudio 2.11.0+rocm7.2"],
                linux,
            ),
            (&["torch 2.9.1", "torchaudio 2.11.0"], mac),
            (&["torch 2.9.1", "torchaudio 2.9.1"], mac),
        ];
        let told: Vec<String> = rows
            .iter()
            .map(|(packages, platforms)| {
                let said = audio_remarks(&[locked(packages, platforms)]).join("; ");
                format!("{}: {said}", packages.join(", "))
            })
            .collect();
        insta::assert_snapshot!(told.join("\n"), @r#"
        torch 2.15.0, torchaudio 2.11.0, cuda-toolkit 13.2.1: torchaudio 2.11.0 was built with CUDA 13.0, and torch 2.15.0 with 13.2: on Linux it refuses to load; [python] requirements = ["torch<2.15"] takes a torch that fits
        torch 2.15.0, torchaudio 2.11.0: 
        torch 2.11.0, torchaudio 2.11.0, cuda-toolkit 13.0.2: 
        torch 2.11.0+cu128, torchaudio 2.11.0+cu128, cuda-toolkit 12.8.1: 
        torch 2.15.0+cu130, torchaudio 2.11.0+cu126, cuda-toolkit 13.0.2: torchaudio 2.11.0+cu126 was built with CUDA 12.6, and torch 2.15.0+cu130 with 13.0: on Linux it refuses to load; [python] requirements = ["torch<2.15"] takes a torch that fits
        torch 2.11.0+rocm7.2, torchaudio 2.11.0+rocm7.2: 
        torch 2.9.1, torchaudio 2.11.0: torchaudio 2.11.0 was made for torch 2.11 and later, and torch 2.9.1 is locked: it may not load; [python] overrides = ["torchaudio==2.9.*"] takes the one that fits
        torch 2.9.1, torchaudio 2.9.1:
        "#);
    }
}
