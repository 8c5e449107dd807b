//! The rules for `[shares.NAME]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::ManifestCheck;
use crate::manifest::{ShareAccess, ShareRole, ShareSettings, names, wire};

/// Names that a kind of model must not have in ComfyUI's extra_model_paths.yaml, and why.
const NO_KINDS: &[(&str, &str, &str)] = &[
    (
        "custom_nodes",
        "is code, not models",
        "nodes are locked: declare them in [nodes.NAME]",
    ),
    (
        "base_path",
        "has a special meaning in ComfyUI's extra_model_paths.yaml",
        "folders are already relative to `path`",
    ),
    (
        "is_default",
        "has a special meaning in ComfyUI's extra_model_paths.yaml",
        "ComfyUI's own folders always come first",
    ),
];

impl ManifestCheck {
    pub(super) fn check_shares(
        &mut self,
        w: BTreeMap<String, wire::TomlShare>,
    ) -> BTreeMap<String, ShareSettings> {
        let mut shares: BTreeMap<String, ShareSettings> = BTreeMap::new();
        self.folder_names("shares", "share", w.keys());
        for (name, s) in w {
            let at = ["shares", name.as_str()];
            let path = s.path.unwrap_or_default();
            if path.is_empty() {
                self.report_mistake(
                    &at,
                    format!("[shares.{name}] does not set `path`"),
                    "add `path = \"~/ai/models\"`",
                );
            } else {
                self.check_path(&[at[0], at[1], "path"], &path);
            }
            let role = self.share_role(&at, s.mount, s.models);
            let access = match self
                .one_of(
                    &[at[0], at[1], "access"],
                    s.access,
                    "read",
                    &["read", "write", "add"],
                )
                .as_str()
            {
                "write" => ShareAccess::Write,
                "add" => ShareAccess::Add,
                _ => ShareAccess::Read,
            };
            if let Some(mount) = role.mount_path() {
                for (other, theirs) in shares
                    .iter()
                    .filter_map(|(n, o)| Some((n, o.role.mount_path()?)))
                {
                    let (a, b) = (format!("{theirs}/"), format!("{mount}/"));
                    if !mount.is_empty() && (a.starts_with(&b) || b.starts_with(&a)) {
                        self.report_mistake(
                            &[at[0], at[1], "mount"],
                            format!(
                                "mounts of shares `{other}` ({theirs}) and `{name}` ({mount}) \
                                overlap"
                            ),
                            "mount each at a different place",
                        );
                    }
                }
            }
            if let Some(m) = &s.requires_mount
                && !(m.starts_with('/') && m.len() > 1 && names::check_relative(&m[1..]).is_ok())
            {
                self.report_mistake(
                    &[at[0], at[1], "requires_mount"],
                    format!("requires_mount \"{m}\" is not an absolute path"),
                    "write the volume's mount point, such as \"/Volumes/ai\"",
                );
            }
            shares.insert(
                name,
                ShareSettings {
                    path: path.trim_end_matches('/').into(),
                    role,
                    access,
                    requires_mount: s.requires_mount.map(PathBuf::from),
                    manage: s.manage.unwrap_or(true),
                },
            );
        }
        shares
    }

    fn share_role(
        &mut self,
        at: &[&str; 2],
        mount: Option<String>,
        models: Option<BTreeMap<String, wire::OneOrMany>>,
    ) -> ShareRole {
        let mount = mount.unwrap_or_default();
        let Some(models) = models else {
            if mount.is_empty() {
                let hint = "add `mount = \"models\"`, input, output, or user/…; or, for models \
                    stored elsewhere, `models = { loras = \"FOLDER\" }`";
                self.report_mistake(at, format!("[shares.{}] does not set `mount`", at[1]), hint);
            } else {
                self.check_mount(&[at[0], at[1], "mount"], &mount);
            }
            return ShareRole::Mount(mount);
        };
        let key = [at[0], at[1], "models"];
        if !mount.is_empty() {
            let hint = "keep `mount` for ComfyUI's own folders, or `models` for another program's";
            self.report_mistake(
                &key,
                format!("share `{}` has both `mount` and `models`", at[1]),
                hint,
            );
        }
        if models.is_empty() {
            self.report_mistake(
                &key,
                "`models` lists no kind of model",
                "write `models = { checkpoints = \"FOLDER\", loras = \"FOLDER\" }`",
            );
        }
        let mut kinds = BTreeMap::new();
        for (kind, folders) in models {
            let at = [key[0], key[1], key[2], kind.as_str()];
            let (list, one) = match folders {
                wire::OneOrMany::One(f) => (vec![f], true),
                wire::OneOrMany::Some(list) => (list, false),
            };
            if let Some((_, why, hint)) = NO_KINDS.iter().find(|(n, ..)| *n == kind) {
                self.report_mistake(&at, format!("kind `{kind}` {why}"), *hint);
            } else if kind.is_empty()
                || kind.len() > 64
                || !kind.bytes().all(|b| {
                    b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-')
                })
            {
                let hint = "ComfyUI's own kinds are checkpoints, loras, vae, embeddings, \
                    controlnet, upscale_models and more; nodes add others";
                self.report_mistake(
                    &at,
                    format!(
                        "kind \"{kind}\" may contain only lower-case letters, digits, `_` and `-`"
                    ),
                    hint,
                );
            }
            if list.is_empty() {
                self.report_mistake(
                    &at,
                    format!("kind `{kind}` has no folder"),
                    "add a folder, or remove the kind",
                );
            }
            let mut clean = Vec::new();
            for (i, folder) in list.iter().enumerate() {
                let folder = if folder == "." {
                    "."
                } else {
                    folder.trim_end_matches('/')
                };
                if folder != "."
                    && let Err(why) = names::check_relative(folder)
                {
                    let number = i.to_string();
                    let at = if one {
                        at.to_vec()
                    } else {
                        [&at[..], &[&number]].concat()
                    };
                    self.report_mistake(
                        &at,
                        format!("folder \"{folder}\" of kind `{kind}` {why}"),
                        "write its path in the share, or \".\" for the share itself",
                    );
                }
                clean.push(folder.to_string());
            }
            kinds.insert(kind, clean);
        }
        ShareRole::Models(kinds)
    }

    fn check_mount(&mut self, at: &[&str], mount: &str) {
        if let Err(why) = names::check_relative(mount) {
            self.report_mistake(
                at,
                format!("mount \"{mount}\" {why}"),
                "write models, input, output, or a folder below models/ or user/",
            );
            return;
        }
        let first = mount.split('/').next().unwrap_or("");
        let deep = mount.contains('/');
        let allowed = match first {
            "models" => true,
            "input" | "output" => !deep,
            "user" => deep,
            _ => false,
        };
        if !allowed {
            self.report_mistake(
                at,
                format!("mount \"{mount}\" is not a place for a share"),
                "only models, models/…, input, output and user/… can be mounted",
            );
        } else if mount == "models/configs" || mount.starts_with("models/configs/") {
            self.report_mistake(
                at,
                "models/configs is part of ComfyUI itself",
                "mount elsewhere below models/",
            );
        }
    }
}
