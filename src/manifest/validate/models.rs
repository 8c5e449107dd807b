//! The rules for `[models."PATH"]`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytestring::ByteString;

use super::ManifestCheck;
use crate::manifest::{MODELS, ModelSettings, ShareSettings, Table, hub_pages, names, wire};
use crate::text::did_you_mean;

/// The longest name in bytes: of the 255 that file systems allow, some are kept for temporary files
/// next to a model.
const LONGEST: usize = 225;

impl ManifestCheck {
    pub(super) fn check_models(
        &mut self,
        w: Table<wire::TomlModel>,
        shares: &BTreeMap<String, ShareSettings>,
    ) -> Table<ModelSettings> {
        let share = |m: &wire::TomlModel| m.share.clone().unwrap_or_else(|| MODELS.into());
        // Two different names are the same only if one of them is not in its folded form already.
        let odd: Vec<(&ByteString, String, String)> = w
            .iter()
            .filter(|(p, _)| !names::is_folded(p))
            .map(|(p, m)| (p, share(m), names::folded_name(p)))
            .collect();
        let mut seen: HashMap<(&str, &str), &str> = HashMap::new();
        for (path, share_of, folded) in &odd {
            let plain = w
                .get(folded.as_str())
                .filter(|m| share(m) == *share_of)
                .map(|_| folded.as_str());
            if let Some(other) = seen.insert((share_of, folded), path).or(plain) {
                self.report_mistake(
                    &["models", path],
                    format!("models \"{other}\" and \"{path}\" are the same file on a Mac's disk"),
                    "rename one of them",
                );
            }
        }
        drop(odd);
        let mut share: Arc<str> = MODELS.into();
        let checked = |(path, m): (ByteString, wire::TomlModel)| {
            let at = ["models", &*path];
            if path.len() > LONGEST && path.split('/').any(|p| p.len() > LONGEST) {
                self.report_mistake(
                    &at,
                    format!(
                        "model path \"{}\" has a name of more than {LONGEST} bytes",
                        crate::text::escape_text(&path)
                    ),
                    "file systems do not allow it: shorten the name",
                );
            }
            if let Err(why) = names::check_relative(&path) {
                self.report_mistake(
                    &at,
                    format!("model path \"{}\" {why}", crate::text::escape_text(&path)),
                    "write its path in the share, such as \"checkpoints/sd15.safetensors\"",
                );
            }
            let named = m.share.as_deref().unwrap_or(MODELS);
            if *share != *named {
                share = named.into();
            }
            if !shares.contains_key(&*share) {
                let hint = match did_you_mean(&share, shares.keys().map(String::as_str)) {
                    Some(s) => format!("did you mean \"{s}\"?"),
                    None => format!("add [shares.{share}], or write another share"),
                };
                self.report_mistake(
                    &[at[0], at[1], "share"],
                    format!("model \"{path}\" is in share \"{share}\", which is not declared"),
                    hint,
                );
            }
            if let Some(s) = &m.source
                && let Err(p) = hub_pages::check_source(s)
            {
                let hint = p.hints.first().cloned().unwrap_or_default();
                self.report_mistake(&[at[0], at[1], "source"], p.message, hint);
            }
            if let Some(h) = &m.sha256
                && !names::is_sha256(h)
            {
                self.report_mistake(
                    &[at[0], at[1], "sha256"],
                    "sha256 is not 64 lower-case hexadecimal digits",
                    "remove it and `comfy lock` finds it",
                );
            }
            (
                path,
                ModelSettings {
                    share: Arc::clone(&share),
                    source: m.source,
                    sha256: m.sha256,
                },
            )
        };
        // In place, in the same order.
        Table::from_sorted_store_unchecked(w.into_tuple_vec().into_iter().map(checked).collect())
    }
}
