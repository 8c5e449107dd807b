//! The packages that popular modules come from. A module's name is never taken for a package's:
//! anybody may register a name that is free.

/// Where a module comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ModuleOrigin {
    /// A package of the Python package index (pypi.org).
    Package(&'static str),
    /// The index has no wheel of it: where it does come from.
    Elsewhere(&'static str),
}

/// Returns where a module comes from, if comfy knows it.
pub(super) fn origin_of(module: &str) -> Option<ModuleOrigin> {
    let known = PACKAGES.iter().find(|(m, _)| *m == module);
    let package = known.map(|(_, package)| ModuleOrigin::Package(package));
    package.or_else(|| {
        let known = ELSEWHERE.iter().find(|(m, _)| *m == module);
        known.map(|(_, from)| ModuleOrigin::Elsewhere(from))
    })
}

/// Each was read in `top_level.txt` or in the files of a wheel of that package.
const PACKAGES: &[(&str, &str)] = &[
    ("accelerate", "accelerate"),
    ("addict", "addict"),
    ("argostranslate", "argostranslate"),
    ("blend_modes", "blend-modes"),
    ("bs4", "beautifulsoup4"),
    ("clip_interrogator", "clip-interrogator"),
    ("color_matcher", "color-matcher"),
    ("colour", "colour-science"),
    ("cv2", "opencv-python-headless"),
    ("deep_translator", "deep-translator"),
    ("diffusers", "diffusers"),
    ("dill", "dill"),
    ("dotenv", "python-dotenv"),
    ("einops", "einops"),
    ("facexlib", "facexlib"),
    ("fal_client", "fal-client"),
    ("ffmpeg", "ffmpeg-python"),
    ("filelock", "filelock"),
    ("ftfy", "ftfy"),
    ("gdown", "gdown"),
    ("gguf", "gguf"),
    ("git", "gitpython"),
    ("github", "pygithub"),
    ("googletrans", "googletrans"),
    ("huggingface_hub", "huggingface-hub"),
    ("hydra", "hydra-core"),
    ("imageio", "imageio"),
    ("imageio_ffmpeg", "imageio-ffmpeg"),
    ("insightface", "insightface"),
    ("iopath", "iopath"),
    ("jsonschema", "jsonschema"),
    ("kiui", "kiui"),
    ("kornia", "kornia"),
    ("lark", "lark"),
    ("librosa", "librosa"),
    ("lightning", "lightning"),
    ("loguru", "loguru"),
    ("lpips", "lpips"),
    ("matplotlib", "matplotlib"),
    ("mediapipe", "mediapipe"),
    ("moviepy", "moviepy"),
    ("mss", "mss"),
    ("natsort", "natsort"),
    ("numba", "numba"),
    ("ollama", "ollama"),
    ("omegaconf", "omegaconf"),
    ("onnx", "onnx"),
    ("onnxruntime", "onnxruntime"),
    ("open_clip", "open-clip-torch"),
    ("openai", "openai"),
    ("pandas", "pandas"),
    ("peft", "peft"),
    ("piexif", "piexif"),
    ("PIL", "pillow"),
    ("pilgram", "pilgram"),
    ("pixeloe", "pixeloe"),
    ("pkg_resources", "setuptools<81"),
    ("plyfile", "plyfile"),
    ("psutil", "psutil"),
    ("pynvml", "nvidia-ml-py"),
    ("qrcode", "qrcode"),
    ("rembg", "rembg"),
    ("requests", "requests"),
    ("safetensors", "safetensors"),
    ("sageattention", "sageattention"),
    ("scipy", "scipy"),
    ("segment_anything", "segment-anything"),
    ("sentencepiece", "sentencepiece"),
    ("simpleeval", "simpleeval"),
    ("skimage", "scikit-image"),
    ("sklearn", "scikit-learn"),
    ("soundfile", "soundfile"),
    ("spandrel", "spandrel"),
    ("supervision", "supervision"),
    ("timm", "timm"),
    ("torch", "torch"),
    ("torchaudio", "torchaudio"),
    ("torchvision", "torchvision"),
    ("transformers", "transformers"),
    ("transparent_background", "transparent-background"),
    ("trimesh", "trimesh"),
    ("ultralytics", "ultralytics"),
    ("webcolors", "webcolors"),
    ("websocket", "websocket-client"),
    ("yaml", "pyyaml"),
    ("zhipuai", "zhipuai"),
];

const ELSEWHERE: &[(&str, &str)] = &[
    (
        "diff_gaussian_rasterization",
        "github.com/graphdeco-inria/diff-gaussian-rasterization",
    ),
    (
        "flash_attn",
        "github.com/Dao-AILab/flash-attention, whose wheels are for one CUDA and one torch each",
    ),
    (
        "groundingdino",
        "github.com/IDEA-Research/GroundingDINO; the index has its sources alone, as \
         groundingdino-py",
    ),
    (
        "llama_cpp",
        "github.com/abetlen/llama-cpp-python; the index has its sources alone",
    ),
    (
        "nunchaku",
        "github.com/nunchaku-tech/nunchaku; the index has an unrelated package of that name",
    ),
    ("tensorrt", "NVIDIA's index, pypi.nvidia.com"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_has_one_origin_and_tables_are_sorted() {
        for (modules, what) in [
            (
                PACKAGES.iter().map(|(m, _)| m.to_lowercase()).collect(),
                "packages",
            ),
            (
                ELSEWHERE
                    .iter()
                    .map(|(m, _)| m.to_lowercase())
                    .collect::<Vec<_>>(),
                "others",
            ),
        ] {
            assert!(modules.is_sorted(), "{what}");
        }
        assert!(
            ELSEWHERE
                .iter()
                .all(|(m, _)| !PACKAGES.iter().any(|(p, _)| p == m))
        );
        assert_eq!(
            origin_of("cv2"),
            Some(ModuleOrigin::Package("opencv-python-headless"))
        );
        assert_eq!(origin_of("nobody_knows"), None);
    }
}
