//! Names that are one letter from a popular one, which is how a package or a node passes for another.

/// Packages that ComfyUI, its nodes and what they need ask for.
const PACKAGES: &[&str] = &[
    "accelerate",
    "aiohttp",
    "albumentations",
    "anthropic",
    "attrs",
    "bitsandbytes",
    "boto3",
    "certifi",
    "charset-normalizer",
    "clip-interrogator",
    "color-matcher",
    "comfy-kitchen",
    "comfyui-frontend-package",
    "controlnet-aux",
    "cryptography",
    "diffusers",
    "einops",
    "facexlib",
    "ffmpeg-python",
    "filelock",
    "flash-attn",
    "fsspec",
    "gdown",
    "gitpython",
    "google-genai",
    "groundingdino-py",
    "httpx",
    "huggingface-hub",
    "imageio",
    "imageio-ffmpeg",
    "importlib-metadata",
    "insightface",
    "jinja2",
    "joblib",
    "jsonschema",
    "kornia",
    "librosa",
    "lightning",
    "litellm",
    "llama-cpp-python",
    "matplotlib",
    "mediapipe",
    "moviepy",
    "networkx",
    "numba",
    "numexpr",
    "numpy",
    "omegaconf",
    "onnxruntime",
    "onnxruntime-gpu",
    "open-clip-torch",
    "openai",
    "opencv-contrib-python",
    "opencv-python",
    "opencv-python-headless",
    "packaging",
    "pandas",
    "piexif",
    "pillow",
    "platformdirs",
    "protobuf",
    "psutil",
    "pydantic",
    "pydantic-core",
    "pydub",
    "pygments",
    "pynvml",
    "pytorch-lightning",
    "pyyaml",
    "rembg",
    "requests",
    "rich",
    "safetensors",
    "scikit-image",
    "scikit-learn",
    "scipy",
    "segment-anything",
    "sentencepiece",
    "setuptools",
    "soundfile",
    "spandrel",
    "sqlalchemy",
    "supervision",
    "sympy",
    "tensorboard",
    "tensorflow",
    "timm",
    "tokenizers",
    "torch",
    "torchaudio",
    "torchsde",
    "torchvision",
    "tqdm",
    "transformers",
    "trimesh",
    "triton",
    "typing-extensions",
    "ultralytics",
    "urllib3",
    "wheel",
    "xformers",
    "yarl",
];

/// Repositories of popular nodes, and their ids in the registry.
const NODES: &[&str] = &[
    "comfyui-manager",
    "comfyui-impact-pack",
    "comfyui-impact-subpack",
    "comfyui-inspire-pack",
    "comfyui-kjnodes",
    "comfyui-easy-use",
    "comfyui-custom-scripts",
    "comfyui-videohelpersuite",
    "comfyui-animatediff-evolved",
    "comfyui-advanced-controlnet",
    "comfyui-frame-interpolation",
    "comfyui-controlnet-aux",
    "comfyui-ipadapter-plus",
    "comfyui-essentials",
    "comfyui-gguf",
    "comfyui-florence2",
    "comfyui-segment-anything-2",
    "comfyui-wanvideowrapper",
    "comfyui-hunyuanvideowrapper",
    "comfyui-ltxvideo",
    "comfyui-image-saver",
    "comfyui-crystools",
    "comfyui-layerstyle",
    "comfyui-ultimatesdupscale",
    "comfyui-reactor",
    "comfyui-rmbg",
    "comfyui-supir",
    "comfyui-multigpu",
    "comfyui-nunchaku",
    "comfyui-mixlab-nodes",
    "comfyui-tinyterranodes",
    "comfyui-inpaint-cropandstitch",
    "comfyui-detail-daemon",
    "comfyui-logicutils",
    "comfyui-seedvr2-videoupscaler",
    "efficiency-nodes-comfyui",
    "masquerade-nodes-comfyui",
    "was-node-suite-comfyui",
    "rgthree-comfy",
    "cg-use-everywhere",
    "comfy-mtb",
    "comfymath",
];

/// Names shorter than this are one letter from too many others.
const SHORTEST: usize = 5;

/// The popular package that a package's name is one letter from.
pub(crate) fn popular_package(name: &str) -> Option<&'static str> {
    near_miss(name, PACKAGES)
}

/// Whether a package of this name is a popular one.
pub(crate) fn is_popular(name: &str) -> bool {
    PACKAGES.contains(&name)
}

/// The popular node that the id or the repository of a node is one letter from.
pub(crate) fn popular_node(name: &str) -> Option<&'static str> {
    near_miss(&name.to_lowercase().replace('_', "-"), NODES)
}

fn near_miss(name: &str, known: &'static [&'static str]) -> Option<&'static str> {
    let letters = |text: &str| text.replace(['-', '.'], "");
    // The same word with other separators is the same name to people, and often a real one.
    if name.len() < SHORTEST || known.iter().any(|k| letters(k) == letters(name)) {
        return None;
    }
    known
        .iter()
        .filter(|k| k.len() >= SHORTEST)
        .find(|k| strsim::damerau_levenshtein(name, k) == 1)
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_letter_is_told_and_other_separators_are_not() {
        let told = [
            "numpyy",
            "torhc",
            "numpy",
            "open-cv-python",
            "onnxruntime-gpu",
            "rich1",
        ]
        .map(|n| format!("{n}: {:?}", popular_package(n)));
        let nodes = [
            "ComfyUI-Manger",
            "ComfyUI_Impact_Pack",
            "ComfyUI-Upscaler-4K",
        ]
        .map(|n| format!("{n}: {:?}", popular_node(n)));
        insta::assert_snapshot!([&told[..], &nodes[..]].concat().join("\n"), @r#"
        numpyy: Some("numpy")
        torhc: Some("torch")
        numpy: None
        open-cv-python: None
        onnxruntime-gpu: None
        rich1: None
        ComfyUI-Manger: Some("comfyui-manager")
        ComfyUI_Impact_Pack: None
        ComfyUI-Upscaler-4K: None
        "#);
    }

    #[test]
    fn no_popular_name_is_one_letter_from_another() {
        for name in PACKAGES {
            assert_eq!(popular_package(name), None, "{name}");
        }
    }
}
