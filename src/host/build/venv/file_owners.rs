//! Who brings which file. Several packages may bring one: that of the last in order is there, on a
//! fresh installation as after any number of others. PURE.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::desired::venv::PackageInstall;
use crate::host::sealed::file_list::{FileList, ListedFile};
use crate::manifest::names;
use crate::problem::{Problem, Result};
use crate::text::escape_text;

/// What no package is called: bytecode that comfy compiled. It comes after all of them, so that it
/// is what is there.
pub(crate) const BYTECODE: &str = "~bytecode";

/// What the list calls a package: with the hash of its wheel, so that another one of the same
/// version is another package. In order of names.
pub(crate) fn package_key(package: &str, sha256: &str) -> String {
    format!("{package} {sha256}")
}

/// `numpy==1.26.4` and the hash; bytecode and the rest have none.
pub(crate) fn split_key(key: &str) -> (&str, &str) {
    key.split_once(' ').unwrap_or((key, ""))
}

/// Whether a wheel of this package is called so.
pub(crate) fn is_package(key: &str, p: &PackageInstall) -> bool {
    let (package, sha256) = split_key(key);
    package
        .strip_prefix(p.name.as_str())
        .and_then(|rest| rest.strip_prefix("=="))
        == Some(p.version.as_str())
        && p.sha256.iter().any(|h| h == sha256)
}

/// A path that a package brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PathClaim<'a> {
    /// As [`package_key`] makes it.
    pub key: &'a str,
    pub path: &'a str,
    pub folder: bool,
}

/// Every path of a list with who brings it.
pub(crate) fn path_claims(list: &FileList) -> impl Iterator<Item = PathClaim<'_>> + Clone {
    list.0.iter().flat_map(|(key, items)| {
        items.iter().map(move |(path, item)| PathClaim {
            key,
            path,
            folder: *item == ListedFile::Folder,
        })
    })
}

/// Where a file has to be a folder for somebody else, or is comfy's own (`own`: its files; `frame`:
/// its folders).
///
/// # Errors
/// The first such path, with who brings it.
pub(crate) fn refuse_conflicts<'a>(
    claims: impl Iterator<Item = PathClaim<'a>> + Clone,
    own: &[String],
    frame: &str,
) -> Result<()> {
    let mut files: HashMap<String, PathClaim> = HashMap::new();
    for c in claims.clone() {
        let folded = names::folded_name(c.path);
        let inside = |above: &str, below: &str| {
            below
                .strip_prefix(above)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if steers_interpreter(&folded) {
            return Err(Problem::new(format!(
                "{}: its wheel contains `{}`, which would change where the interpreter finds its \
                    modules",
                split_key(c.key).0,
                escape_text(c.path)
            ))
            .with_hint(
                "packages must not install that file: leave the package out with \
                    ignore_requirements, or \
                    choose another version with [python] overrides; nothing was installed",
            ));
        }
        let taken = own
            .iter()
            .any(|o| inside(o, &folded) || (!c.folder && inside(&folded, o)))
            || (!c.folder && inside(&folded, frame));
        if taken {
            return Err(Problem::new(format!(
                "{}: its wheel contains `{}`, which belongs to comfy's own part of a virtual \
                    environment",
                split_key(c.key).0,
                escape_text(c.path)
            ))
            .with_hint(
                "packages must not install that file: leave the package out with \
                    ignore_requirements, or \
                    choose another version with [python] overrides; nothing was installed",
            ));
        }
        if !c.folder {
            files.insert(folded_here(c.path), c);
        }
    }
    for c in claims {
        let whole = c.folder.then_some(c.path.len());
        for end in c.path.match_indices('/').map(|(at, _)| at).chain(whole) {
            if let Some(file) = files.get(&folded_here(&c.path[..end])) {
                return Err(Problem::new(format!(
                    "{} contains the file `{}`, but {} has a folder there",
                    split_key(file.key).0,
                    escape_text(file.path),
                    split_key(c.key).0
                ))
                .with_hint(
                    "these packages cannot be installed together: leave one out with \
                        ignore_requirements or [python] overrides; nothing was installed",
                ));
            }
        }
    }
    Ok(())
}

/// Whether an interpreter reads this path beside its executable to find its home and modules,
/// before comfy's `pyvenv.cfg` (CPython's Modules/getpath.py); `folded`: as [`names::folded_name`]
/// has it.
fn steers_interpreter(folded: &str) -> bool {
    let Some(beside) = folded.strip_prefix("bin/") else {
        return false;
    };
    let name = beside.split('/').next().unwrap_or_default();
    ["pyvenv.cfg", "pybuilddir.txt"].contains(&name)
        || name.ends_with("._pth")
        || beside == "modules/setup.local"
}

/// As this machine's disks compare names.
fn folded_here(path: &str) -> String {
    if crate::host::machine::operating_system().is_macos() {
        names::folded_name(path)
    } else {
        path.into()
    }
}

/// Files that several packages bring with different contents, a line for each group of packages.
pub(crate) fn overlap_warnings(list: &FileList) -> Vec<String> {
    let mut by_path: HashMap<&str, Vec<(&str, &ListedFile)>> = HashMap::new();
    for (key, items) in list
        .0
        .iter()
        .filter(|(key, _)| !key.is_empty() && *key != BYTECODE)
    {
        for (path, item) in items {
            by_path.entry(path).or_default().push((key, item));
        }
    }
    let mut groups: BTreeMap<Vec<&str>, usize> = BTreeMap::new();
    for owners in by_path
        .into_values()
        .filter(|o| o.iter().any(|(_, item)| *item != o[0].1))
    {
        *groups
            .entry(
                owners
                    .into_iter()
                    .map(|(key, _)| split_key(key).0)
                    .collect(),
            )
            .or_default() += 1;
    }
    let line = |(owners, n): (Vec<&str>, usize)| {
        let last = owners.last().copied().unwrap_or_default();
        let files = crate::text::count_of(n, "file");
        format!(
            "python: {} contain {files} with the same path and different content: the content \
                from {last} is installed",
            joined_names(&owners)
        )
    };
    groups.into_iter().map(line).collect()
}

fn joined_names(names: &[&str]) -> String {
    names.split_last().map_or(String::new(), |(last, rest)| {
        format!("{} and {last}", rest.join(", "))
    })
}

/// Whether a package has to be unpacked again: `lost` are files that are not on the disk as it has
/// them, and some of them no later one of these packages brings.
pub(crate) fn lacks_files<'a>(
    key: &str,
    lost: Option<&BTreeSet<String>>,
    later: impl Iterator<Item = (&'a String, &'a BTreeMap<String, ListedFile>)>,
) -> bool {
    let Some(lost) = lost else { return false };
    let later: Vec<_> = later.filter(|(other, _)| other.as_str() > key).collect();
    lost.iter()
        .any(|path| !later.iter().any(|(_, items)| items.contains_key(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A package's files with their sizes; 0: a folder.
    type Package<'a> = (&'a str, &'a [(&'a str, u64)]);

    fn list(packages: &[Package]) -> FileList {
        let item = |n: u64| {
            if n == 0 {
                ListedFile::Folder
            } else {
                ListedFile::File(n, String::new(), false)
            }
        };
        FileList(
            packages
                .iter()
                .map(|(k, files)| {
                    (
                        (*k).to_string(),
                        files
                            .iter()
                            .map(|(p, n)| ((*p).to_string(), item(*n)))
                            .collect(),
                    )
                })
                .collect(),
        )
    }

    #[test]
    fn what_cannot_stand_beside_something_else_is_refused_by_name() {
        let own = ["pyvenv.cfg".to_string(), "bin/python".into()];
        let rows: &[&[Package]] = &[
            &[("a==1", &[("pyvenv.cfg", 1)])],
            &[("a==1", &[("PyVenv.cfg/x", 1)])],
            &[("a==1", &[("bin/Python", 1)])],
            &[("a==1", &[("bin", 1)])],
            &[("a==1", &[("lib/python3.12", 1)])],
            &[("a==1", &[("bin/python", 0)])],
            &[("a==1", &[("x/y", 1)]), ("b==1", &[("x", 1)])],
            &[("a==1", &[("x", 1)]), ("b==1", &[("x", 0)])],
            &[
                (
                    "a==1",
                    &[("bin", 0), ("bin/python-x", 1), ("x", 0), ("x/y", 1)],
                ),
                ("b==1", &[("x/y", 2), ("bin/pythonic", 1)]),
            ],
        ];
        let told = rows.iter().map(|r| {
            match refuse_conflicts(path_claims(&list(r)), &own, "lib/python3.12/site-packages") {
                Ok(()) => "fine".to_string(),
                Err(p) => p.message,
            }
        });
        insta::assert_snapshot!(told.collect::<Vec<_>>().join("\n"), @"
        a==1: its wheel contains `pyvenv.cfg`, which belongs to comfy's own part of a virtual \
            environment
        a==1: its wheel contains `PyVenv.cfg/x`, which belongs to comfy's own part of a virtual \
            environment
        a==1: its wheel contains `bin/Python`, which belongs to comfy's own part of a virtual \
            environment
        a==1: its wheel contains `bin`, which belongs to comfy's own part of a virtual environment
        a==1: its wheel contains `lib/python3.12`, which belongs to comfy's own part of a virtual \
            environment
        a==1: its wheel contains `bin/python`, which belongs to comfy's own part of a virtual \
            environment
        b==1 contains the file `x`, but a==1 has a folder there
        a==1 contains the file `x`, but b==1 has a folder there
        fine
        ");
    }

    #[test]
    fn files_of_several_packages_are_told_in_a_line() {
        let l = list(&[
            ("a-b==1", &[("x", 1), ("y", 1), ("same", 1)]),
            ("a==1", &[("x", 2), ("y", 2), ("same", 1)]),
            ("c==1", &[("x", 2), ("z", 0)]),
            (BYTECODE, &[("y", 9)]),
        ]);
        insta::assert_snapshot!(overlap_warnings(&l).join("\n"), @"
        python: a-b==1 and a==1 contain 1 file with the same path and different content: the \
            content from a==1 is installed
        python: a-b==1, a==1 and c==1 contain 1 file with the same path and different content: the \
            content from c==1 is installed
        ");
        assert_eq!(l.by_path()["y"].0, BYTECODE);
        assert_eq!(l.by_path()["x"].0, "c==1");
    }
}
