//! What a person should know of the packages that were locked.

use std::collections::{BTreeMap, BTreeSet};

use pep508_rs::VersionOrUrl;

use super::explain::{direct_requirements, parse_plain};
use crate::lock::python::{LockedPackage, PartRequirements, normalize_name, public_version};
use crate::lock::requirements;
use crate::manifest::quoted_list;
use crate::text::escape_text;

/// Distributions that install the same files, the one with the most in it first: the last one
/// installed wins, silently.
const SAME_FILES: &[(&str, &[&str])] = &[
    (
        "cv2",
        &[
            "opencv-contrib-python-headless",
            "opencv-contrib-python",
            "opencv-python-headless",
            "opencv-python",
        ],
    ),
    (
        "onnxruntime",
        &[
            "onnxruntime-gpu",
            "onnxruntime",
            "onnxruntime-directml",
            "onnxruntime-silicon",
            "onnxruntime-openvino",
        ],
    ),
    ("PIL", &["pillow", "pillow-simd"]),
    (
        "triton",
        &["triton", "triton-rocm", "pytorch-triton-rocm", "triton-xpu"],
    ),
    ("faiss", &["faiss-cpu", "faiss-gpu"]),
    (
        "tensorflow",
        &[
            "tensorflow",
            "tensorflow-cpu",
            "tensorflow-gpu",
            "tensorflow-macos",
        ],
    ),
];

/// What a person should know: who holds a package back for everybody, and which packages overwrite
/// each other. `newest` are newer releases than those that are locked.
pub(crate) fn resolution_warnings(
    packages: &[LockedPackage],
    asked: &BTreeMap<String, PartRequirements>,
    overrides: &[String],
    newest: &BTreeMap<String, String>,
) -> Vec<String> {
    let mut out = Vec::new();
    // Who is overruled holds nothing back.
    let overruled: BTreeSet<String> = overrides
        .iter()
        .filter_map(|o| Some(normalize_name(parse_plain(o)?.name.as_ref())))
        .collect();
    // ComfyUI's own bounds are everybody's; a node's are news.
    for (package, part, line) in direct_requirements(asked)
        .into_iter()
        .filter(|(package, part, _)| part != "comfyui" && !overruled.contains(package))
    {
        let Ok(r) = requirements::parse_requirement(&part, line) else {
            continue;
        };
        let bounded = match &r.version_or_url {
            Some(VersionOrUrl::VersionSpecifier(s)) => s.iter().any(|s| {
                matches!(
                    s.operator().to_string().as_str(),
                    "<" | "<=" | "==" | "===" | "~="
                )
            }),
            _ => false,
        };
        let mut told = BTreeSet::new();
        for p in packages
            .iter()
            .filter(|p| newest.contains_key(&p.name))
            .filter(|p| bounded && p.name == package && p.by.iter().any(|b| *b != part))
            .filter(|p| told.insert(public_version(&p.version)))
        {
            let others = p.by.iter().filter(|b| **b != part).count();
            out.push(format!(
                "{} {}: {part} asks for `{}` ({}:{}), which holds it for {}",
                p.name,
                public_version(&p.version),
                escape_text(&line.text),
                line.file,
                line.line,
                crate::text::count_of(others, "other")
            ));
        }
    }
    for (module, family) in SAME_FILES {
        let members: Vec<&LockedPackage> = packages
            .iter()
            .filter(|p| family.contains(&p.name.as_str()))
            .collect();
        let both: Vec<&&LockedPackage> = members
            .iter()
            .filter(|p| {
                members
                    .iter()
                    .any(|q| p.name != q.name && p.shares_a_machine(q))
            })
            .collect();
        if !both.is_empty() {
            let mut who: Vec<String> = both
                .iter()
                .map(|p| format!("{} (asked by {})", p.name, p.by.join(", ")))
                .collect();
            who.dedup();
            let present = |name: &&&str| both.iter().any(|p| p.name == ***name);
            let names: Vec<&str> = family.iter().filter(present).copied().collect();
            out.push(format!(
                "{} install the same files, `{module}`; to have those of {} alone: [python] {}",
                who.join(" and "),
                names[0],
                line_that_keeps(&names, overrides)
            ));
        }
    }
    out
}

/// Returns the line of comfy.toml with which the first of these packages is the only one of them
/// where it has wheels, and the others are left out.
fn line_that_keeps(names: &[&str], overrides: &[String]) -> String {
    let package = |o: &String| requirements::package_of(o).unwrap_or_default();
    let mut all: Vec<String> = overrides
        .iter()
        .filter(|o| !names[1..].contains(&package(o).as_str()))
        .cloned()
        .collect();
    // The only one of the first ones that has no wheels for a Mac.
    let elsewhere = match names[0] {
        "onnxruntime-gpu" => "sys_platform == 'darwin'",
        _ => "python_version < '0'",
    };
    all.extend(
        names[1..]
            .iter()
            .map(|name| format!("{name} ; {elsewhere}")),
    );
    format!("overrides = {}", quoted_list(&all))
}

#[cfg(test)]
mod tests {
    use super::line_that_keeps;

    #[test]
    fn the_package_with_the_most_in_it_is_kept_and_earlier_overrides_too() {
        let given = [
            "numpy<2".to_string(),
            "opencv-python ; sys_platform == 'linux'".into(),
        ];
        assert_eq!(
            line_that_keeps(&["opencv-contrib-python", "opencv-python"], &given),
            "overrides = [\"numpy<2\", \"opencv-python ; python_version < '0'\"]"
        );
        assert_eq!(
            line_that_keeps(&["onnxruntime-gpu", "onnxruntime"], &[]),
            "overrides = [\"onnxruntime ; sys_platform == 'darwin'\"]"
        );
    }
}
