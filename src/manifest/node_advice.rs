//! What popular nodes need in comfy.toml. Every entry was tried with the real node: without these
//! lines it cannot be locked, or fails to import from a sealed folder.

use super::{Manifest, names, quoted_list};

/// A node, and what it needs.
pub(crate) struct NodeAdvice {
    /// The usual name of its folder; its address and branch follow.
    folder: &'static str,
    url: &'static str,
    git_ref: &'static str,
    writable: &'static [&'static str],
    /// What it writes in ComfyUI's own folders.
    core: &'static [&'static str],
    ignore_requirements: &'static [&'static str],
    why: &'static str,
}

pub(crate) const KNOWN: &[NodeAdvice] = &[
    NodeAdvice {
        folder: "comfyui-custom-scripts",
        url: "https://github.com/pythongosssss/ComfyUI-Custom-Scripts",
        git_ref: "main",
        writable: &["pysssss.json"],
        core: &["web/extensions"],
        ignore_requirements: &[],
        why: "keeps its settings in its own folder, and creates one in ComfyUI's",
    },
    NodeAdvice {
        folder: "comfyui-easy-use",
        url: "https://github.com/yolain/ComfyUI-Easy-Use",
        git_ref: "v1.3.6",
        writable: &["wildcards", "styles"],
        core: &[],
        ignore_requirements: &[],
        why: "creates folders for wildcards and styles",
    },
    NodeAdvice {
        folder: "comfyui_controlnet_aux",
        url: "https://github.com/Fannovel16/comfyui_controlnet_aux",
        git_ref: "main",
        writable: &["ckpts"],
        core: &[],
        ignore_requirements: &["fvcore"],
        why: "keeps models in its own folder, requires fvcore, which has no wheel, and onnxruntime-gpu, \
              which has none for a Mac: overrides = [\"onnxruntime-gpu ; sys_platform == 'linux'\"] in \
              [python]",
    },
];

impl NodeAdvice {
    /// Returns the entry of a repository.
    pub(crate) fn for_repository(repo: &str) -> Option<&'static NodeAdvice> {
        let key = names::repo_key(repo);
        KNOWN.iter().find(|k| names::repo_key(k.url) == key)
    }

    /// Returns its section of comfy.toml, with the reason.
    pub(crate) fn manifest_section(&self) -> String {
        let mut out = format!(
            "[nodes.{}]\nrepo = \"{}\"\nref  = \"{}\"\n",
            self.folder, self.url, self.git_ref
        );
        for (key, list) in [
            ("writable", self.writable),
            ("ignore_requirements", self.ignore_requirements),
        ] {
            if !list.is_empty() {
                out += &format!("{key} = {}\n", quoted_list(list));
            }
        }
        out + &format!("# it {}\n", self.why)
    }

    /// Returns the lines that comfy.toml lacks for this node, called `name`; `None` if it has all.
    pub(crate) fn missing_lines(&self, name: &str, m: &Manifest) -> Option<String> {
        let node = m.nodes.get(name)?;
        let lacks =
            |have: &[String], wants: &[&str]| wants.iter().any(|w| !have.iter().any(|h| h == w));
        let mut lines = Vec::new();
        if lacks(&node.writable, self.writable) {
            lines.push(format!(
                "[nodes.{name}] writable = {}",
                union(&node.writable, self.writable)
            ));
        }
        if lacks(&m.comfyui.writable, self.core) {
            let all = union(&m.comfyui.writable, self.core);
            lines.push(format!("[comfyui] writable = {all}"));
        }
        (!lines.is_empty()).then(|| {
            format!(
                "node.{name} {}: if you agree, add to comfy.toml: {}",
                self.why,
                lines.join("  and  ")
            )
        })
    }
}

/// The whole list, with what it has already.
fn union(have: &[String], more: &[&str]) -> String {
    let mut all: Vec<&str> = have.iter().map(String::as_str).collect();
    all.extend(more.iter().filter(|m| !have.iter().any(|h| h == *m)));
    quoted_list(&all)
}

/// Returns what comfy.toml lacks for the known nodes among `new`.
pub(crate) fn advice_for<'a>(m: &Manifest, new: impl Iterator<Item = &'a str>) -> Vec<String> {
    new.filter_map(|name| {
        NodeAdvice::for_repository(&m.nodes.get(name)?.repo)?.missing_lines(name, m)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::IsolationMode;
    use crate::manifest::starter::StarterChoices;

    #[test]
    fn a_known_node_is_told_what_it_lacks_and_the_starter_has_it_all() {
        let text = |more: &str| {
            format!(
                "version = 1\n[comfyui]\nref = \"master\"\n{more}\n[nodes.scripts]\nrepo = \
                 \"https://github.com/pythongosssss/ComfyUI-Custom-Scripts.git\"\nref = \"main\"\n"
            )
        };
        let parse = |t: &str| {
            Manifest::parse(
                std::path::Path::new("comfy.toml"),
                &t.to_string().into(),
                "host",
            )
            .unwrap()
        };
        let all = |t: &str| advice_for(&parse(t), ["scripts", "gone"].into_iter()).join("\n");
        insta::assert_snapshot!(all(&text("")), @r#"node.scripts keeps its settings in its own folder, and creates one in ComfyUI's: if you agree, add to comfy.toml: [nodes.scripts] writable = ["pysssss.json"]  and  [comfyui] writable = ["web/extensions"]"#);
        assert_eq!(
            all(&(text("writable = [\"web/extensions\"]") + "writable = [\"pysssss.json\"]\n")),
            ""
        );
        // Everything that `init` offers is a manifest once its comment signs are gone.
        let offered = crate::manifest::starter::starter_text(&StarterChoices {
            primary_user: Some("alice"),
            isolation: IsolationMode::Account,
            shared_root: "/srv/comfy",
        })
        .replace("# [nodes.", "[nodes.")
        .lines()
        .fold((String::new(), false), |(out, on), l| {
            let setting = l.starts_with("# ") && !l.starts_with("# it ") && l.contains(" = ");
            let on = l.starts_with("[nodes.") || (on && setting);
            (
                out + if on {
                    l.strip_prefix("# ").unwrap_or(l)
                } else {
                    l
                } + "\n",
                on,
            )
        });
        assert!(
            advice_for(&parse(&offered.0), KNOWN.iter().map(|k| k.folder))
                .iter()
                .all(|a| a.contains("[comfyui]")),
            "{}",
            offered.0
        );
        assert_eq!(parse(&offered.0).nodes.len(), KNOWN.len() + 1);
    }
}
