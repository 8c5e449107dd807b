//! Whether the Python in a wheel is in the repository that its project names: code that was added to
//! a release alone, as in an upload with a stolen password, is in no repository.

use std::collections::BTreeSet;

use crate::lock::python::public_version;
use crate::tree::{ObjectId, TreeListing};

/// A Python file of a wheel.
#[derive(Debug, Clone)]
pub(crate) struct WheelSource {
    pub path: String,
    /// Its git object id, as it is and with the line endings that git keeps.
    pub blobs: Vec<ObjectId>,
}

/// How a wheel differs from a repository. All paths are those of the wheel.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct SourceDifference {
    /// The number of files that were compared.
    pub compared: usize,
    /// No file of the repository has the content, and none is at this path.
    pub absent: Vec<String>,
    /// The repository has another content at this path.
    pub changed: Vec<String>,
}

impl SourceDifference {
    /// Compares by content first: where a file lies in its repository is the build's affair.
    pub(crate) fn between(files: &[WheelSource], listing: &TreeListing) -> SourceDifference {
        let known: BTreeSet<&ObjectId> = listing.0.values().map(|entry| &entry.oid).collect();
        let mut out = SourceDifference {
            compared: files.len(),
            ..SourceDifference::default()
        };
        for file in files {
            if file.blobs.iter().any(|b| known.contains(b)) {
                continue;
            }
            let below = format!("/{}", file.path);
            let is_there = listing
                .0
                .keys()
                .any(|path| *path == file.path || path.ends_with(&below));
            match is_there {
                true => out.changed.push(file.path.clone()),
                false => out.absent.push(file.path.clone()),
            }
        }
        out
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.absent.is_empty() && self.changed.is_empty()
    }

    /// Whether only files differ that builds write: a version, and what protoc makes.
    pub(crate) fn is_generated(&self) -> bool {
        let mut all = self.absent.iter().chain(&self.changed);
        all.all(|path| {
            let name = path.rsplit('/').next().unwrap_or(path);
            // setuptools_scm, hatch-vcs and versioneer choose names such as these.
            let stem = name.strip_suffix(".py").unwrap_or(name).trim_matches('_');
            let is_version = matches!(stem, "version" | "dist_ver" | "about" | "build_info")
                || stem.ends_with("_version");
            is_version || name.ends_with("_pb2.py") || name.ends_with("_pb2_grpc.py")
        })
    }

    /// `2 of 14 Python files of x.whl are not in https://… at v1.0: a.py, b.py; 1 differs: c.py`
    pub(crate) fn text(&self, wheel: &str, repo: &str, tag: &str) -> String {
        let list = |paths: &[String]| {
            let mut shown: Vec<&str> = paths.iter().take(LISTED).map(String::as_str).collect();
            let more = format!("and {} more", paths.len().saturating_sub(LISTED));
            if paths.len() > LISTED {
                shown.push(&more);
            }
            shown.join(", ")
        };
        let of = format!("of {} Python files of {wheel}", self.compared);
        let at = format!("{repo} at {tag}");
        let are = |n: usize, one: &'static str, many: &'static str| match n {
            1 => one,
            _ => many,
        };
        let (absent, changed) = (self.absent.len(), self.changed.len());
        let mut out = String::new();
        if absent > 0 {
            let verb = are(absent, "is", "are");
            out = format!("{absent} {of} {verb} not in {at}: {}", list(&self.absent));
        }
        if changed > 0 {
            let verb = are(changed, "differs", "differ");
            out = match absent {
                0 => format!("{changed} {of} {verb} from {at}: {}", list(&self.changed)),
                _ => format!("{out}; {changed} {verb}: {}", list(&self.changed)),
            };
        }
        out
    }
}

/// So many paths are named.
const LISTED: usize = 5;

/// Servers whose addresses are `https://SERVER/OWNER/NAME/…`.
const FORGES: [&str; 3] = ["github.com", "gitlab.com", "codeberg.org"];

/// Returns the repository that a wheel's METADATA names: the address labelled as its source, else the
/// first that is one (core metadata, `Project-URL` and `Home-page`).
pub(crate) fn named_repository(metadata: &str) -> Option<String> {
    let mut found: Option<(bool, String)> = None;
    // The description follows an empty line.
    for line in metadata.lines().take_while(|l| !l.is_empty()) {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let (label, address) = match key.to_ascii_lowercase().as_str() {
            "home-page" => ("", value),
            "project-url" => value.split_once(',').unwrap_or(("", value)),
            _ => continue,
        };
        let Some(repo) = repository_at(address.trim()) else {
            continue;
        };
        let label = label.trim().to_ascii_lowercase();
        let is_source = ["source", "repository", "code", "github", "gitlab"]
            .iter()
            .any(|word| label.contains(word));
        if found.as_ref().is_none_or(|(known, _)| is_source && !known) {
            found = Some((is_source, repo));
        }
    }
    found.map(|(_, repo)| repo)
}

/// Returns the repository of a publisher as comfy.lock has it: `github.com/OWNER/NAME release.yml`.
pub(crate) fn publisher_repository(publisher: &str) -> Option<String> {
    let repository = publisher.split(' ').next()?;
    repository_at(&format!("https://{repository}"))
}

/// `https://github.com/OWNER/NAME` of any address inside of it.
fn repository_at(address: &str) -> Option<String> {
    let rest = address
        .strip_prefix("https://")
        .or_else(|| address.strip_prefix("http://"))?;
    let mut parts = rest.split(['/', '?', '#']);
    let host = parts.next()?.to_ascii_lowercase();
    let host = host.strip_prefix("www.").unwrap_or(&host);
    let host = FORGES.iter().find(|forge| **forge == host)?;
    let (owner, name) = (parts.next()?, parts.next()?);
    let name = name.strip_suffix(".git").unwrap_or(name);
    let is_plain = |s: &str| {
        let mut letters = s.chars();
        letters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
            && s.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
    };
    (is_plain(owner) && is_plain(name)).then(|| format!("https://{host}/{owner}/{name}"))
}

/// Returns the tag of a release among those of a repository: the version alone or after a prefix
/// that says no other version, that of the package's own name first.
pub(crate) fn release_tag<'a>(
    package: &str,
    version: &str,
    tags: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let version = public_version(version);
    let rank = |tag: &str| -> Option<usize> {
        let before = tag.strip_suffix(version)?;
        let before = before.trim_end_matches(['v', 'V']);
        let before = before.trim_end_matches(['-', '_', '/', '@', '=', '.']);
        let before = before.to_ascii_lowercase().replace(['_', '.'], "-");
        match before.as_str() {
            "" => Some(1),
            "release" | "releases" | "version" | "ver" | "rel" => Some(2),
            own if own == package => Some(0),
            _ => None,
        }
    };
    tags.filter_map(|tag| Some((rank(tag)?, tag)))
        .min()
        .map(|(_, tag)| tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{EntryMode, TreeEntry, blob_id};

    #[test]
    fn the_repository_is_the_one_that_is_called_so() {
        let of = |lines: &str| named_repository(&format!("Name: x\n{lines}\n\nHome-page: no\n"));
        let said = [
            of("Home-page: https://example.com/x"),
            of("Home-page: http://www.github.com/o/n/"),
            of(
                "Project-URL: Homepage, https://github.com/o/site\nProject-URL: Source Code, \
                 https://github.com/o/n.git#readme",
            ),
            of("Project-URL: Issues, https://gitlab.com/o/n/-/issues"),
            of("Project-URL: Source, https://github.com/--upload-pack=x/n"),
            of("Project-URL: Source, https://github.com.evil.test/o/n"),
        ];
        insta::assert_debug_snapshot!(said.map(Option::unwrap_or_default), @r#"
        [
            "",
            "https://github.com/o/n",
            "https://github.com/o/n",
            "https://gitlab.com/o/n",
            "",
            "",
        ]
        "#);
    }

    #[test]
    fn a_release_has_a_tag_of_its_version_and_of_no_other() {
        let of = |tags: &[&'static str]| release_tag("my-pack", "1.2.0", tags.iter().copied());
        let said = [
            of(&["v1.2.0", "v11.2.0", "v1.2.0rc1"]),
            of(&["1.2.0"]),
            of(&["other-v1.2.0", "my_pack-v1.2.0", "v1.2.0"]),
            of(&["release/1.2.0"]),
            of(&["v11.2.0", "other@1.2.0"]),
        ];
        assert_eq!(
            said,
            [
                Some("v1.2.0"),
                Some("1.2.0"),
                Some("my_pack-v1.2.0"),
                Some("release/1.2.0"),
                None
            ]
        );
    }

    #[test]
    fn what_was_added_or_changed_after_the_repository_is_told() {
        let file = |path: &str, content: &[u8]| WheelSource {
            path: path.into(),
            blobs: vec![blob_id(content).unwrap()],
        };
        let entry = |content: &[u8]| TreeEntry {
            mode: EntryMode::File,
            oid: blob_id(content).unwrap(),
            size: content.len() as u64,
        };
        let listing = TreeListing(
            [
                ("src/x/__init__.py".to_string(), entry(b"one")),
                ("src/x/core.py".to_string(), entry(b"two")),
            ]
            .into(),
        );
        let files = [
            file("x/__init__.py", b"one"),
            file("x/core.py", b"two, and more"),
            file("x/_setup.py", b"steal()"),
        ];
        let found = SourceDifference::between(&files, &listing);
        assert!(!found.is_generated());
        insta::assert_snapshot!(found.text("x-1-py3-none-any.whl", "https://github.com/o/x", "v1"), @"1 of 3 Python files of x-1-py3-none-any.whl is not in https://github.com/o/x at v1: x/_setup.py; 1 differs: x/core.py");
        let moved = SourceDifference::between(&[file("lib/x.py", b"two")], &listing);
        assert!(moved.is_empty());
        let made = SourceDifference::between(&[file("x/_version.py", b"1.2")], &listing);
        assert!(!made.is_empty() && made.is_generated());
        let own = SourceDifference::between(&[file("x/conversion.py", b"1.2")], &listing);
        assert!(!own.is_generated());
    }
}
