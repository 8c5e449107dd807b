//! Guesses from a safetensors header: hints for people; no decision depends on them.

use crate::safetensors::SafetensorsHeader;

/// Parts of tensor names, and what has them; the first that fits is said. From what ComfyUI's
/// model_detection.py looks for.
const KINDS: &[(&str, &str)] = &[
    ("lora_unet_", "LoRA"),
    (".lora_down.", "LoRA"),
    (".lora_A.", "LoRA"),
    ("lora_te", "LoRA"),
    ("input_hint_block.", "ControlNet"),
    ("controlnet_", "ControlNet"),
    ("double_blocks.", "Flux"),
    ("joint_blocks.", "Stable Diffusion 3"),
    ("conditioner.embedders.1.", "Stable Diffusion XL"),
    ("cond_stage_model.model.", "Stable Diffusion 2"),
    ("cond_stage_model.transformer.", "Stable Diffusion 1"),
    ("model.diffusion_model.", "a diffusion model"),
    ("input_blocks.", "a diffusion model"),
    ("encoder.block.0.layer.0.SelfAttention.", "T5 text encoder"),
    ("text_model.encoder.", "CLIP text encoder"),
    ("vision_model.encoder.", "CLIP vision encoder"),
    ("first_stage_model.decoder.", "VAE"),
    ("decoder.conv_in.", "VAE"),
];

impl SafetensorsHeader {
    /// Returns what the model most likely is; the file's own metadata comes first.
    pub(crate) fn guess_architecture(&self) -> Option<String> {
        let said = [
            "modelspec.architecture",
            "ss_base_model_version",
            "ss_sd_model_name",
        ]
        .iter()
        .find_map(|k| self.metadata.get(*k))
        .filter(|v| !v.is_empty());
        let seen = KINDS
            .iter()
            .find(|(part, _)| self.names.iter().any(|n| n.contains(part)))
            .map(|(_, what)| (*what).to_string());
        match (seen, said) {
            (Some(seen), Some(said)) => Some(format!("{seen} ({said})")),
            (seen, said) => seen.or_else(|| said.cloned()),
        }
    }

    pub(crate) fn stated_licence(&self) -> Option<&str> {
        ["modelspec.license", "license", "licence"]
            .iter()
            .find_map(|k| self.metadata.get(*k))
            .map(String::as_str)
            .filter(|v| !v.is_empty())
    }

    /// Words that call what a LoRA was trained on: those it names, else its most frequent tags.
    pub(crate) fn trigger_words(&self) -> Vec<String> {
        const MOST: usize = 10;
        if let Some(said) = self
            .metadata
            .get("modelspec.trigger_phrase")
            .filter(|s| !s.is_empty())
        {
            return said
                .split(',')
                .map(|s| s.trim().to_string())
                .take(MOST)
                .collect();
        }
        // kohya's trainer: `{"folder": {"tag": count}}` as a text.
        let Some(folders) = self
            .metadata
            .get("ss_tag_frequency")
            .and_then(|t| serde_json::from_str::<serde_json::Value>(t).ok())
        else {
            return Vec::new();
        };
        let mut tags: Vec<(u64, String)> = Vec::new();
        for folder in folders.as_object().into_iter().flat_map(|o| o.values()) {
            tags.extend(
                folder
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(tag, n)| (n.as_u64().unwrap_or(0), tag.trim().to_string())),
            );
        }
        tags.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        tags.into_iter().map(|(_, t)| t).take(MOST).collect()
    }
}
