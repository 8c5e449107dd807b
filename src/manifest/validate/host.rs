//! The rules for `[host]`.

use std::path::PathBuf;

use super::ManifestCheck;
use crate::manifest::platforms::ACCELERATORS;
use crate::manifest::{wire, *};

impl ManifestCheck {
    pub(super) fn check_host(&mut self, w: wire::TomlHost) -> HostSettings {
        let sandbox_user = w.sandbox_user.unwrap_or_else(|| "comfyui_sandbox".into());
        let group = w.group.unwrap_or_else(|| "comfyshared".into());
        let owner = w.primary_user.as_deref();
        for (key, name, checked) in [
            (
                "primary_user",
                owner.unwrap_or_default(),
                owner.map_or(Ok(()), names::check_existing_account),
            ),
            (
                "sandbox_user",
                &sandbox_user,
                names::check_account(&sandbox_user),
            ),
            ("group", &group, names::check_account(&group)),
        ] {
            if let Err(why) = checked {
                self.report_mistake(
                    &["host", key],
                    format!("{key} \"{name}\" {why}"),
                    "choose another name",
                );
            }
        }
        if names::SYSTEM_USERS.contains(&sandbox_user.as_str()) {
            self.report_mistake(
                &["host", "sandbox_user"],
                format!("sandbox_user \"{sandbox_user}\" is a system account"),
                "choose a separate account, such as comfyui_sandbox",
            );
        }
        if names::PRIVILEGED_GROUPS.contains(&group.as_str()) {
            self.report_mistake(
                &["host", "group"],
                format!("group \"{group}\" grants rights, which the sandbox would get"),
                "choose a separate group, such as comfyshared",
            );
        }
        if group == sandbox_user {
            self.report_mistake(
                &["host", "group"],
                "group and sandbox_user have the same name, which the sandbox user's own group \
                 already has",
                "choose another name for the group",
            );
        }
        if w.primary_user.as_deref() == Some(&sandbox_user) {
            self.report_mistake(
                &["host", "sandbox_user"],
                "sandbox_user and primary_user are the same account",
                "isolation needs two accounts; to do without, write `isolation = \"none\"`",
            );
        }
        let gid = w.gid.and_then(|g| match u32::try_from(g) {
            Ok(g) if (100..=2_000_000_000).contains(&g) => Some(g),
            _ => {
                self.report_mistake(
                    &["host", "gid"],
                    format!("gid {g} is not between 100 and 2000000000"),
                    "remove it and comfy chooses a free one",
                );
                None
            }
        });
        let isolation = match self
            .one_of(
                &["host", "isolation"],
                w.isolation,
                "account",
                &["account", "none"],
            )
            .as_str()
        {
            "none" => IsolationMode::None,
            _ => IsolationMode::Account,
        };
        if w.primary_user.as_deref() == Some("root") && isolation == IsolationMode::Account {
            self.report_mistake(
                &["host", "primary_user"],
                "primary_user is root, and no other account can be kept from root's files",
                "write the account of the person who uses ComfyUI; on a machine that has none, such \
                 as a container, add `isolation = \"none\"` to [host]",
            );
        }
        let prefix = w.prefix.and_then(|p| {
            self.check_path(&["host", "prefix"], &p)
                .map(|()| PathBuf::from(p))
        });
        let accelerator = self.check_accelerator(w.accelerator);
        HostSettings {
            primary_user: w.primary_user,
            sandbox_user,
            group,
            gid,
            adopt: w.adopt.unwrap_or(false),
            isolation,
            prefix,
            accelerator,
        }
    }

    fn check_accelerator(&mut self, word: Option<String>) -> Option<Accelerator> {
        let word = word?;
        let parsed = Accelerator::parse(&word);
        if parsed.is_none() {
            self.report_mistake(
                &["host", "accelerator"],
                format!("accelerator \"{word}\" is unknown"),
                ACCELERATORS,
            );
        }
        parsed
    }
}
