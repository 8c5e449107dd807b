//! Lines of requirements files (pip, "Requirements File Format").

use super::{EntryFacts, at_line, rules};
use crate::scan::finding::Finding;

/// Finds lines that leave the index, by address or by another index.
pub(super) fn examine_requirements(facts: &EntryFacts, text: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = without_comment(line);
        let lower = code.to_ascii_lowercase();
        if code.is_empty() {
            continue;
        }
        let is_index = [
            "--index-url",
            "--extra-index-url",
            "--find-links",
            "--trusted-host",
        ]
        .iter()
        .any(|o| lower.contains(o))
            || ["-i ", "-i=", "-f "].iter().any(|o| lower.starts_with(o));
        let is_local =
            (lower.starts_with("./") || lower.starts_with("../") || lower.starts_with('/'))
                && [".whl", ".tar.gz", ".zip"]
                    .iter()
                    .any(|e| lower.contains(e));
        let is_address =
            is_local || lower.contains("://") || lower.starts_with("git+") || lower.contains("@ ");
        if is_index {
            let message = "packages can come from there".to_string();
            found.push(at_line(
                &rules::REQUIREMENT_INDEX,
                facts,
                (number, line),
                message,
            ));
        } else if is_address {
            let message = if is_local {
                "pip installs a file that no index knows"
            } else if lower.contains("git+") {
                "pip builds what the repository holds that day"
            } else {
                "pip installs whatever the address serves"
            };
            found.push(at_line(
                &rules::REQUIREMENT_URL,
                facts,
                (number, line),
                message.into(),
            ));
        } else if let Some(known) = resembled(&lower) {
            let message = format!("it is one letter from `{known}`");
            found.push(at_line(
                &rules::REQUIREMENT_NAME,
                facts,
                (number, line),
                message,
            ));
        }
    }
    found
}

/// A `#` begins a comment at the start of a line or after white space.
fn without_comment(line: &str) -> &str {
    let line = line.trim();
    if line.starts_with('#') {
        return "";
    }
    line.split_once(" #").map_or(line, |(code, _)| code.trim())
}

/// Names that nodes ask for most, and others that are one letter from one of them.
const KNOWN: &[&str] = &[
    "accelerate",
    "aiofiles",
    "aiohttp",
    "anthropic",
    "bitsandbytes",
    "colorama",
    "controlnet-aux",
    "cryptography",
    "diffusers",
    "einops",
    "fairscale",
    "fastapi",
    "filelock",
    "gitpython",
    "google-generativeai",
    "gradio",
    "huggingface-hub",
    "imageio",
    "imageio-ffmpeg",
    "insightface",
    "jinja2",
    "kornia",
    "librosa",
    "lightning",
    "litellm",
    "matplotlib",
    "mediapipe",
    "moviepy",
    "numba",
    "numexpr",
    "numpy",
    "omegaconf",
    "onnxruntime",
    "onnxruntime-gpu",
    "openai",
    "opencv-contrib-python",
    "opencv-python",
    "opencv-python-headless",
    "pandas",
    "pillow",
    "protobuf",
    "psutil",
    "pydantic",
    "pyyaml",
    "requests",
    "safetensors",
    "scikit-image",
    "scikit-learn",
    "scipy",
    "segment-anything",
    "sentencepiece",
    "setuptools",
    "soundfile",
    "sympy",
    "timm",
    "tokenizers",
    "torch",
    "torchaudio",
    "torchsde",
    "torchvision",
    "transformers",
    "transparent-background",
    "trimesh",
    "triton",
    "ultralytics",
    "urllib3",
    "websocket-client",
    "websockets",
    "xformers",
];
/// Packages of their own that are one letter from one of those.
const APART: &[&str] = &[
    "torchx",
    "httpx2",
    "websocket",
    "tokenizer",
    "panda3d",
    "imageio3",
    "jinja",
    "pyaml",
];

/// The well-known package whose name a line's is one letter from.
fn resembled(line: &str) -> Option<&'static str> {
    let end = line
        .find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c)))
        .unwrap_or(line.len());
    let name = line[..end].replace(['_', '.'], "-");
    if name.len() < 5 || KNOWN.contains(&&*name) || APART.contains(&&*name) {
        return None;
    }
    KNOWN
        .iter()
        .copied()
        .find(|known| known.len() >= 5 && is_one_slip(&name, known))
}

/// Whether one letter more, less or other, or two that changed places, make one of the other.
fn is_one_slip(name: &str, known: &str) -> bool {
    let (a, b) = (name.as_bytes(), known.as_bytes());
    let front = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[front..], &b[front..]);
    let back = a
        .iter()
        .rev()
        .zip(b.iter().rev())
        .take_while(|(x, y)| x == y)
        .count();
    let (a, b) = (&a[..a.len() - back], &b[..b.len() - back]);
    match (a, b) {
        ([x], []) | ([], [x]) => x.is_ascii_alphabetic(),
        ([_], [_]) => true,
        ([x, y], [v, w]) => x == w && y == v,
        _ => false,
    }
}
