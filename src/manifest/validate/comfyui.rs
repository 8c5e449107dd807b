//! The rules for `[comfyui]`, and for any repository with its ref.

use super::{DEFAULT_REPO, ManifestCheck};
use crate::manifest::{wire, *};

fn repo_mistake(repo: &str) -> std::result::Result<(), &'static str> {
    names::repo_url(repo)?;
    match repo_address::page_of_repository(repo) {
        Some(_) => Err("is a page of a repository, not the repository"),
        None => Ok(()),
    }
}

impl ManifestCheck {
    /// The repository, and its default branch where no ref is named.
    pub(super) fn repo_and_ref(
        &mut self,
        at: &[&str],
        repo: Option<String>,
        git_ref: Option<String>,
    ) -> (String, String) {
        let repo = repo.unwrap_or_default();
        if repo.is_empty() {
            self.report_mistake(
                at,
                format!("[{}] does not set `repo`", at.join(".")),
                "add `repo = \"https://github.com/OWNER/NAME\"`",
            );
        } else if let Err(why) = repo_mistake(&repo) {
            self.report_mistake(
                &[at, &["repo"]].concat(),
                format!("repo \"{repo}\" {why}"),
                repo_address::remedy_for_repo(&repo)
                    .unwrap_or_else(|| "write it as https://github.com/OWNER/NAME".into()),
            );
        }
        let mut git_ref = git_ref.unwrap_or_else(|| names::DEFAULT_REF.into());
        if git_ref.len() == 40 && names::is_hex(&git_ref) {
            git_ref.make_ascii_lowercase();
        }
        if let Err(why) = names::git_ref(&git_ref) {
            self.report_mistake(
                &[at, &["ref"]].concat(),
                format!("ref \"{git_ref}\" {why}"),
                "write a branch, a tag, or a commit of 40 digits",
            );
        }
        (repo, git_ref)
    }

    fn checked_port(&mut self, port: Option<i64>) -> u16 {
        match port.unwrap_or(8188) {
            p @ 1024..=65535 => p as u16,
            p => {
                self.report_mistake(
                    &["comfyui", "port"],
                    format!("port {p} is not between 1024 and 65535"),
                    "8188 is ComfyUI's default",
                );
                8188
            }
        }
    }

    pub(super) fn check_comfyui(&mut self, w: Option<wire::TomlComfyui>) -> ComfyuiSettings {
        if w.is_none() {
            self.report_mistake(
                &[],
                "there is no [comfyui] section",
                "add `[comfyui]` with `ref = \"v0.3.64\"`, or run `comfy init`",
            );
        }
        let absent = w.is_none();
        let w = w.unwrap_or_default();
        let (repo, git_ref) = if absent {
            (DEFAULT_REPO.into(), "master".into())
        } else {
            self.repo_and_ref(
                &["comfyui"],
                w.repo.or(Some(DEFAULT_REPO.into())),
                w.git_ref,
            )
        };
        if let Some(view) = &w.view {
            self.check_path(&["comfyui", "view"], view);
        }
        let listen = w.listen.unwrap_or_else(|| "127.0.0.1".into());
        let allow_remote = w.allow_remote.unwrap_or(false);
        if listen != "localhost"
            && listen
                .trim_matches(['[', ']'])
                .parse::<core::net::IpAddr>()
                .is_err()
        {
            self.report_mistake(
                &["comfyui", "listen"],
                format!("listen \"{listen}\" is not an address"),
                "write \"127.0.0.1\"",
            );
        } else if !values::is_loopback(&listen) && !allow_remote {
            self.report_mistake(
                &["comfyui", "listen"],
                format!("listen \"{listen}\" would let other machines in"),
                "write \"127.0.0.1\", or add `allow_remote = true` if that is what you want",
            );
        }
        let port = self.checked_port(w.port);
        let args = w.args.unwrap_or_default();
        for (i, a) in args.iter().enumerate() {
            if let Some(flag) = values::reserved_flag(a) {
                self.report_mistake(
                    &["comfyui", "args", &i.to_string()],
                    format!("`{a}` in args sets {flag}, which comfy sets itself"),
                    "remove it; the address and port are `listen` and `port`, and folders are \
                     shares",
                );
            }
            if a.is_empty() || a == "--" || a == "-h" {
                self.report_mistake(
                    &["comfyui", "args", &i.to_string()],
                    format!("`{a}` is not an argument for ComfyUI"),
                    "remove it",
                );
            }
            if a.chars().any(char::is_control) {
                self.report_mistake(
                    &["comfyui", "args", &i.to_string()],
                    "an argument has a control character",
                    "remove it",
                );
            }
        }
        let writable = self.check_writable(&["comfyui"], w.writable);
        for (i, p) in writable
            .iter()
            .enumerate()
            .filter(|(_, p)| *p != "web" && !p.starts_with("web/"))
        {
            // Next to main.py, every folder is a package that Python would find first.
            let hint = "nodes that put files into ComfyUI itself use web/extensions; everything \
                else stays sealed";
            self.report_mistake(
                &["comfyui", "writable", &i.to_string()],
                format!("writable \"{p}\" is among ComfyUI's code"),
                hint,
            );
        }
        ComfyuiSettings {
            repo,
            git_ref,
            view: w.view,
            listen,
            allow_remote,
            port,
            args,
            writable,
        }
    }
}
