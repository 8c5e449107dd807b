//! Where a node comes from. Manifest, lock and generations hold one text for it: the address of a
//! repository, `registry:ID`, or `path:FOLDER`.

const REGISTRY: &str = "registry:";
const FOLDER: &str = "path:";

/// What stands for the version that the registry calls the latest.
pub(crate) const LATEST: &str = "latest";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeSource<'a> {
    /// A git repository.
    Repository(&'a str),
    /// The id of a node in the registry of ComfyUI's nodes.
    Registry(&'a str),
    /// A folder of the owner's, as written: `~` is the owner's home.
    Folder(&'a str),
}

impl<'a> NodeSource<'a> {
    pub(crate) fn of(text: &'a str) -> NodeSource<'a> {
        match (text.strip_prefix(REGISTRY), text.strip_prefix(FOLDER)) {
            (Some(id), _) => NodeSource::Registry(id),
            (_, Some(folder)) => NodeSource::Folder(folder),
            _ => NodeSource::Repository(text),
        }
    }

    pub(crate) fn text(self) -> String {
        match self {
            NodeSource::Repository(repo) => repo.to_string(),
            NodeSource::Registry(id) => format!("{REGISTRY}{id}"),
            NodeSource::Folder(folder) => format!("{FOLDER}{folder}"),
        }
    }

    pub(crate) fn is_repository(self) -> bool {
        matches!(self, NodeSource::Repository(_))
    }

    /// The keys of comfy.toml that say it: what it is, and which state of it.
    pub(crate) fn keys(self) -> (&'static str, &'static str) {
        match self {
            NodeSource::Repository(_) => ("repo", "ref"),
            NodeSource::Registry(_) => ("registry", "version"),
            NodeSource::Folder(_) => ("path", "path"),
        }
    }
}

/// Checks the id of a node in the registry: `[project] name` of its pyproject.toml
/// (docs.comfy.org/registry/specifications).
pub(crate) fn check_registry_id(id: &str) -> Result<(), &'static str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match id.len() {
        1..=100 if id.starts_with(|c: char| c.is_ascii_alphanumeric()) && id.chars().all(fits) => {
            Ok(())
        }
        _ => Err("is not the id of a node: letters, digits, `-`, `_` and `.`"),
    }
}

/// Checks a version of a node: what semver.org allows, and `latest`.
pub(crate) fn check_version(version: &str) -> Result<(), &'static str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    if (1..=100).contains(&version.len()) && version.chars().all(fits) {
        Ok(())
    } else {
        Err("is not a version, such as 1.0.5")
    }
}
