//! What a person should know of the packages that were locked.

use std::collections::{BTreeMap, BTreeSet};

use pep508_rs::VersionOrUrl;

use super::explain::{direct_requirements, parse_plain};
use super::public_version;
use crate::lock::python::{LockedPackage, PartRequirements, normalize_name};
use crate::lock::requirements;
use crate::text::escape_text;

/// Distributions that install the same files: the last one installed wins, silently.
const SAME_FILES: &[(&str, &[&str])] = &[
    (
        "cv2",
        &[
            "opencv-python",
            "opencv-python-headless",
            "opencv-contrib-python",
            "opencv-contrib-python-headless",
        ],
    ),
    (
        "onnxruntime",
        &[
            "onnxruntime",
            "onnxruntime-gpu",
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
            out.push(format!(
                "{} install the same files, `{module}`: keep one, and leave each other out with \
                 [python] overrides = [\"NAME ; python_version < '0'\"]",
                who.join(" and ")
            ));
        }
    }
    out
}
