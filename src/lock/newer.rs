//! What a newer version of a part asks for that the pinned one does not.

use super::requirements::RequirementLine;
use super::tree_facts::TreeFacts;
use pep508_rs::pep440_rs::Version;

/// What changes in a node's requirements.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct RequirementChanges {
    pub added: Vec<String>,
    pub removed: Vec<String>,
}

impl RequirementChanges {
    /// Compares the requirements, wherever they stand in their files.
    pub(crate) fn between(old: &[RequirementLine], new: &[RequirementLine]) -> RequirementChanges {
        let lacking = |of: &[RequirementLine], without: &[RequirementLine]| {
            let is_new = |l: &&RequirementLine| without.iter().all(|o| o.text != l.text);
            of.iter().filter(is_new).map(|l| l.text.clone()).collect()
        };
        RequirementChanges {
            added: lacking(new, old),
            removed: lacking(old, new),
        }
    }

    /// Returns `+numpy>=2, -piexif`; `None` where nothing changes.
    pub(crate) fn text(&self) -> Option<String> {
        let signed = |sign: &'static str, all: &[String]| {
            let all = all
                .iter()
                .map(|r| format!("{sign}{}", crate::text::escape_text(r)));
            all.collect::<Vec<_>>()
        };
        let all = [signed("+", &self.added), signed("-", &self.removed)].concat();
        (!all.is_empty()).then(|| all.join(", "))
    }
}

/// A node that does not accept a version of ComfyUI.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct UnmetComfyui {
    /// `comfyui`, or the node's name.
    pub node: String,
    /// What its pyproject.toml requires.
    pub requires: String,
    /// The version of ComfyUI.
    pub comfyui: String,
}

/// A node's tree, and the version of ComfyUI with it.
pub(crate) type NodeWithCore<'a> = (&'a TreeFacts, Option<&'a Version>);

impl UnmetComfyui {
    /// What a node newly refuses; `None` where that is not known.
    pub(crate) fn newly(
        node: &str,
        old: Option<NodeWithCore>,
        new: NodeWithCore,
    ) -> Option<UnmetComfyui> {
        let refused = |(facts, core): NodeWithCore| facts.refused_comfyui(core?);
        let requires = refused(new)?;
        if old.is_some_and(|old| refused(old).is_some()) {
            return None;
        }
        Some(UnmetComfyui {
            node: node.to_string(),
            requires,
            comfyui: new.1?.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_only_moved_is_no_change() {
        let line = |text: &str| RequirementLine::parse(text).unwrap();
        let old = [
            line("requirements.txt:1 numpy"),
            line("requirements.txt:2 piexif"),
        ];
        let new = [
            line("requirements.txt:9 numpy"),
            line("requirements.txt:3 rich>=2"),
        ];
        let changes = RequirementChanges::between(&old, &new);
        assert_eq!(changes.text().as_deref(), Some("+rich>=2, -piexif"));
        assert_eq!(RequirementChanges::between(&old, &old).text(), None);
    }
}
