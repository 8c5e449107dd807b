//! What a node's tree shows of packages that its requirements do not name: an installer that comfy
//! does not run, requirements files that nobody reads, calls of pip, and what its pyproject.toml
//! requires. It is told at lock; nothing is decided by it.

use std::collections::BTreeMap;
use std::str::FromStr;

use pep508_rs::pep440_rs::{Version, VersionSpecifiers};

use super::requirements;
use crate::manifest::{LockPlatform, quoted_list};
use crate::text::{count_of, escape_text};
use crate::tree::{EntryMode, TreeListing};

/// Where a node says what it requires of ComfyUI and of the system (the registry's specification,
/// "pyproject.toml").
pub(crate) const PYPROJECT: &str = "pyproject.toml";
/// What ComfyUI-Manager runs after it installed a node.
const INSTALLER: &str = "install.py";

/// A place in a source that starts pip.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PipCall {
    file: String,
    line: usize,
}

/// What a tree shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TreeFacts {
    installer: bool,
    /// Requirements files that are not read.
    unread: Vec<String>,
    /// Those that are.
    read: Vec<String>,
    pip: Vec<PipCall>,
    requires_comfyui: Option<String>,
    /// The systems that its classifiers name.
    systems: Vec<String>,
}

impl TreeFacts {
    /// `read` are the requirements files that were read, `sources` the texts that are at hand.
    pub(crate) fn of_tree(
        listing: &TreeListing,
        read: &BTreeMap<String, String>,
        sources: &BTreeMap<String, String>,
    ) -> TreeFacts {
        let is_file = |path: &&String| {
            let mode = listing.0[*path].mode;
            matches!(mode, EntryMode::File | EntryMode::Executable)
        };
        let unread = listing
            .0
            .keys()
            .filter(is_file)
            .filter(|path| is_requirements_file(path) && !read.contains_key(*path));
        let (requires_comfyui, systems) = sources
            .get(PYPROJECT)
            .and_then(|text| text.parse::<toml::Table>().ok())
            .map(|t| (required_comfyui(&t), named_systems(&t)))
            .unwrap_or_default();
        TreeFacts {
            installer: listing.0.contains_key(INSTALLER),
            unread: unread.cloned().collect(),
            read: read.keys().cloned().collect(),
            pip: sources
                .iter()
                .filter(|(file, _)| is_source(file) && *file != INSTALLER)
                .flat_map(|(file, text)| pip_calls(file, text))
                .collect(),
            requires_comfyui,
            systems,
        }
    }

    pub(crate) fn needs_comfyui_version(&self) -> bool {
        self.requires_comfyui.is_some()
    }

    /// One line for each thing that `name` may lack; `core` is the version of ComfyUI, where it is
    /// known, `platforms` are those of the lock.
    pub(crate) fn remarks(
        &self,
        name: &str,
        core: Option<&Version>,
        platforms: &[LockPlatform],
    ) -> Vec<String> {
        let mut out = Vec::new();
        if !self.unread.is_empty() {
            out.push(self.unread_remark(name));
        }
        if self.installer {
            out.push(format!(
                "node.{name}: comfy does not run its {INSTALLER}: packages that it installs belong in \
                 [python] requirements, files that it downloads in [models]"
            ));
        }
        if let Some(first) = self.pip.first() {
            let more = match self.pip.len() {
                1 => String::new(),
                n => format!(" (and {})", count_of(n - 1, "other line")),
            };
            out.push(format!(
                "node.{name}: {}:{} runs pip{more}, which cannot change the sealed environment: \
                 packages that it installs belong in [python] requirements",
                escape_text(&first.file),
                first.line
            ));
        }
        out.extend(self.unmet_comfyui(name, core));
        out.extend(self.unmet_system(name, platforms));
        out
    }

    /// Tells of the systems of the lock that the node does not name.
    fn unmet_system(&self, name: &str, platforms: &[LockPlatform]) -> Option<String> {
        let named = |p: &LockPlatform| self.systems.iter().any(|s| means(s, *p));
        let (served, unserved): (Vec<LockPlatform>, Vec<LockPlatform>) =
            platforms.iter().partition(|p| named(p));
        if self.systems.is_empty() || unserved.is_empty() {
            return None;
        }
        let says = format!(
            "node.{name}: its {PYPROJECT} says that it is for {}",
            escape_text(&self.systems.join(", "))
        );
        if !LockPlatform::ALL.iter().any(named) {
            return Some(format!("{says}; comfy runs on Linux and macOS"));
        }
        let system = |p: &LockPlatform| if p.is_macos() { "macOS" } else { "Linux" };
        let mut systems: Vec<&str> = unserved.iter().map(system).collect();
        systems.dedup();
        let systems = systems.join(" and ");
        if served.is_empty() {
            return Some(format!(
                "{says}, and comfy.lock serves {systems} alone ([python] platforms): it may not load"
            ));
        }
        let words: Vec<&str> = served.iter().map(|p| p.word()).collect();
        Some(format!(
            "{says}, and comfy.lock serves {systems} too, where it may not load; if you use this \
             comfy.lock on no {systems} machine: [python] platforms = {}",
            quoted_list(&words)
        ))
    }

    fn unread_remark(&self, name: &str) -> String {
        let all: Vec<String> = self.read.iter().chain(&self.unread).cloned().collect();
        let line = |files: &[String]| format!("requirements_files = {}", quoted_list(files));
        let names = escape_text(&self.unread.join(", "));
        let section = format!("[nodes.{name}]");
        match (&self.unread[..], self.read.is_empty()) {
            ([one], true) => format!(
                "node.{name}: it has no {}, and its {names} is not read; to read it: {section} {}",
                requirements::FILE,
                line(std::slice::from_ref(one))
            ),
            (_, true) => format!(
                "node.{name}: it has no {}, and of {names} none is read; to read one: {section} {}",
                requirements::FILE,
                line(&self.unread[..1])
            ),
            _ => format!(
                "node.{name}: its {names} {} not read; if you use what needs {}: {section} {}",
                if self.unread.len() == 1 { "is" } else { "are" },
                if self.unread.len() == 1 { "it" } else { "them" },
                line(&all)
            ),
        }
    }

    fn unmet_comfyui(&self, name: &str, core: Option<&Version>) -> Option<String> {
        let is = core?;
        let asked = self.refused_comfyui(is)?;
        Some(format!(
            "node.{name}: its {PYPROJECT} requires ComfyUI {}, and this is {is}: choose another `ref` \
             in [comfyui], or an older one in [nodes.{name}]",
            escape_text(&asked)
        ))
    }

    /// Returns what it requires of ComfyUI, if this version does not fit.
    pub(crate) fn refused_comfyui(&self, core: &Version) -> Option<String> {
        let asked = self.requires_comfyui.as_deref()?;
        let specifiers = VersionSpecifiers::from_str(asked).ok()?;
        (!specifiers.contains(core)).then(|| asked.to_string())
    }
}

/// The version in ComfyUI's own pyproject.toml.
pub(crate) fn project_version(text: &str) -> Option<Version> {
    let table: toml::Table = text.parse().ok()?;
    let version = table.get("project")?.get("version")?.as_str()?;
    Version::from_str(version).ok()
}

pub(crate) fn is_source(path: &str) -> bool {
    path.ends_with(".py")
}

/// Returns whether a file lists requirements of the node, rather than of its tests and pages.
fn is_requirements_file(path: &str) -> bool {
    let mut parts: Vec<&str> = path.split('/').collect();
    let name = parts.pop().unwrap_or_default().to_ascii_lowercase();
    let words = |text: &str| -> Vec<String> {
        let text = text.to_ascii_lowercase();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric());
        words.map(str::to_string).collect()
    };
    let for_others = |text: &str| {
        words(text).iter().any(|w| {
            matches!(
                w.as_str(),
                "dev"
                    | "develop"
                    | "development"
                    | "test"
                    | "tests"
                    | "testing"
                    | "doc"
                    | "docs"
                    | "lint"
                    | "build"
                    | "ci"
                    | "optional"
                    | "example"
                    | "examples"
                    | "train"
                    | "training"
                    | "demo"
                    | "win"
                    | "windows"
                    | "github"
            )
        })
    };
    // Below the folders of a pack are the nodes' own; deeper are copies of somebody's library.
    parts.len() <= 2
        && !path.contains(char::is_whitespace)
        && name.contains("requirements")
        && name.ends_with(".txt")
        && !for_others(path)
}

/// `requires-comfyui` of `[tool.comfy]`.
fn required_comfyui(table: &toml::Table) -> Option<String> {
    let comfy = table.get("tool")?.get("comfy")?;
    comfy.get("requires-comfyui")?.as_str().map(str::to_string)
}

/// The last words of the classifiers that name systems.
fn named_systems(table: &toml::Table) -> Vec<String> {
    let classifiers = table
        .get("project")
        .and_then(|p| p.get("classifiers"))
        .and_then(|c| c.as_array());
    let systems = classifiers.into_iter().flatten().filter_map(|c| {
        let rest = c.as_str()?.strip_prefix("Operating System :: ")?;
        rest.rsplit(" :: ").next().map(str::to_string)
    });
    systems.collect()
}

/// Returns whether a classifier's system is that of a platform.
fn means(system: &str, platform: LockPlatform) -> bool {
    match system {
        "OS Independent" | "POSIX" | "Unix" => true,
        "Linux" => !platform.is_macos(),
        "MacOS" | "MacOS X" => platform.is_macos(),
        _ => false,
    }
}

/// The places that start pip; not those that only tell a person to.
fn pip_calls(file: &str, text: &str) -> Vec<PipCall> {
    let lines: Vec<&str> = text.lines().collect();
    let calls = lines.iter().enumerate().filter(|(i, line)| {
        let code = line.trim_start();
        if code.starts_with('#') {
            return false;
        }
        // A list of arguments may be spread over lines.
        let near = lines[*i..].iter().take(6).copied().collect::<String>();
        let has = |words: &[&str]| words.iter().any(|w| code.contains(w));
        let listed = has(&["\"pip\"", "'pip'"])
            && ["\"install\"", "'install'"]
                .iter()
                .any(|w| near.contains(w));
        let command = has(&["pip install", "pip3 install"])
            && has(&["os.system(", "subprocess.", "check_call(", "Popen(", "run("]);
        listed || command || has(&["pip.main(", "pip._internal", "pipmain("])
    });
    calls
        .map(|(i, _)| PipCall {
            file: file.to_string(),
            line: i + 1,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{ObjectId, TreeEntry};

    fn facts(files: &[(&str, &str)], read: &[&str]) -> TreeFacts {
        let entry = TreeEntry {
            mode: EntryMode::File,
            oid: ObjectId([0; 20]),
            size: 0,
        };
        let text = |(path, text): &(&str, &str)| (path.to_string(), text.to_string());
        let sources: BTreeMap<String, String> = files.iter().map(text).collect();
        let listing = TreeListing(sources.keys().map(|p| (p.clone(), entry)).collect());
        let read = read
            .iter()
            .map(|p| (p.to_string(), String::new()))
            .collect();
        TreeFacts::of_tree(&listing, &read, &sources)
    }

    #[test]
    fn systems_of_the_lock_that_a_node_does_not_name_are_told() {
        let says = |classifiers: &[&str], platforms: &[LockPlatform]| {
            let all: Vec<String> = classifiers
                .iter()
                .map(|c| format!("Operating System :: {c}"))
                .collect();
            let project = format!("[project]\nclassifiers = {}\n", quoted_list(&all));
            let facts = facts(&[("pyproject.toml", &project)], &[]);
            facts.remarks("a", None, platforms).join("\n")
        };
        let all = &LockPlatform::ALL;
        let linux = &LockPlatform::ALL.map(|p| (!p.is_macos()).then_some(p));
        let linux: Vec<LockPlatform> = linux.iter().flatten().copied().collect();
        let cases = [
            says(&["POSIX :: Linux"], all),
            says(&["POSIX :: Linux", "Microsoft :: Windows"], all),
            says(&["MacOS :: MacOS X"], all),
            says(&["MacOS"], &linux),
            // Nothing to tell.
            says(&["POSIX :: Linux"], &linux),
            says(&["POSIX :: Linux", "MacOS"], all),
            says(&["OS Independent"], all),
            says(&["POSIX"], all),
            says(&[], all),
        ];
        insta::assert_snapshot!(cases.join("\n"), @r#"
        node.a: its pyproject.toml says that it is for Linux, and comfy.lock serves macOS too, where it may not load; if you use this comfy.lock on no macOS machine: [python] platforms = ["linux-x86_64", "linux-aarch64"]
        node.a: its pyproject.toml says that it is for Linux, Windows, and comfy.lock serves macOS too, where it may not load; if you use this comfy.lock on no macOS machine: [python] platforms = ["linux-x86_64", "linux-aarch64"]
        node.a: its pyproject.toml says that it is for MacOS X, and comfy.lock serves Linux too, where it may not load; if you use this comfy.lock on no Linux machine: [python] platforms = ["macos-arm64"]
        node.a: its pyproject.toml says that it is for MacOS, and comfy.lock serves Linux alone ([python] platforms): it may not load
        "#);
    }

    #[test]
    fn what_a_tree_shows_is_told_with_the_line_that_helps() {
        let says = |files: &[(&str, &str)], read: &[&str]| {
            let core = Version::from_str("0.3.64").unwrap();
            let all = facts(files, read).remarks("a", Some(&core), &LockPlatform::ALL);
            all.join("\n")
        };
        let project = "[project]\nclassifiers = [\"Operating System :: Microsoft :: Windows\"]\n\
            [tool.comfy]\nrequires-comfyui = \">=0.3.68\"\n";
        let pip = "import os\n# os.system('pip install x')\nprint('pip install y')\n\
            subprocess.check_call([sys.executable, '-m', 'pip',\n  'install', 'z'])\n\
            os.system('pip install w')\n";
        let cases = [
            says(
                &[("requirements-no-cupy.txt", ""), ("install.py", pip)],
                &[],
            ),
            says(
                &[("requirements-a.txt", ""), ("requirements-b.txt", "")],
                &[],
            ),
            says(
                &[
                    ("requirements.txt", ""),
                    ("py/requirements.txt", ""),
                    ("tests/requirements.txt", ""),
                    ("requirements-dev.txt", ""),
                ],
                &["requirements.txt"],
            ),
            says(&[("nodes/a.py", pip)], &[]),
            says(&[("pyproject.toml", project)], &[]),
            says(&[("pyproject.toml", "garbled"), ("a.py", "pass\n")], &[]),
        ];
        insta::assert_snapshot!(cases.join("\n---\n"), @r#"
        node.a: it has no requirements.txt, and its requirements-no-cupy.txt is not read; to read it: [nodes.a] requirements_files = ["requirements-no-cupy.txt"]
        node.a: comfy does not run its install.py: packages that it installs belong in [python] requirements, files that it downloads in [models]
        ---
        node.a: it has no requirements.txt, and of requirements-a.txt, requirements-b.txt none is read; to read one: [nodes.a] requirements_files = ["requirements-a.txt"]
        ---
        node.a: its py/requirements.txt is not read; if you use what needs it: [nodes.a] requirements_files = ["requirements.txt", "py/requirements.txt"]
        ---
        node.a: nodes/a.py:4 runs pip (and 1 other line), which cannot change the sealed environment: packages that it installs belong in [python] requirements
        ---
        node.a: its pyproject.toml requires ComfyUI >=0.3.68, and this is 0.3.64: choose another `ref` in [comfyui], or an older one in [nodes.a]
        node.a: its pyproject.toml says that it is for Windows; comfy runs on Linux and macOS
        ---
        "#);
    }
}
