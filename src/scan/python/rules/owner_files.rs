//! The owner's own files, and code that is written at run time.

use super::{CallRule, CallSite};
use crate::scan::finding::{Category, Severity};
use crate::scan::python::rules::files::PY_FILE_REMOVE;
use crate::scan::python::source::Hit;
use crate::scan::python::values::{UNKNOWN_PART, Value};
use crate::scan::rules::{Example, Rule};

pub(in crate::scan) const RULES: &[Rule] = &[PY_OWNER_FILES, PY_CODE_WRITE];

pub(in crate::scan) const PY_OWNER_FILES: Rule = Rule {
    id: "py-owner-files",
    category: Category::CredRead,
    severity: Severity::High,
    intent: None,
    reason: "All files of a home or of the disk are gone through.",
    why: "Who goes through them takes, encrypts or removes what is not the node's.",
    fix: "Ask folder_paths for the folders that are meant.",
    examples: &[
        Example::found("import os\nfor r, d, f in os.walk(os.path.expanduser('~')):\n    pass\n"),
        Example::found("from pathlib import Path\nfor p in Path.home().rglob('*'):\n    pass\n"),
        Example::found("import shutil\nshutil.make_archive('x', 'zip', '/home')\n"),
        Example::found(
            "import os\nfor r, d, f in os.walk(os.environ['HOME'] + '/Documents'):\n    pass\n",
        ),
        Example::twin("import os\nfor r, d, f in os.walk(os.path.dirname(__file__)):\n    pass\n"),
        Example::twin("import os\nos.listdir(os.path.expanduser('~/.cache/node'))\n"),
    ],
};

pub(in crate::scan) const PY_CODE_WRITE: Rule = Rule {
    id: "py-code-write",
    category: Category::Persistence,
    severity: Severity::Medium,
    intent: None,
    reason: "A file of Python code is written.",
    why: "It was in no commit that anybody looked at, and it runs when something imports it.",
    fix: "Ship the code with the node, and write data as data.",
    examples: &[
        Example::found("open(folder + '/../other/__init__.py', 'a').write(text)\n"),
        Example::found("from pathlib import Path\n(Path(folder) / 'x.py').write_text(text)\n"),
        Example::twin("open(folder + '/x.py').read()\n"),
        Example::twin("open(folder + '/x.json', 'w').write(text)\n"),
    ],
};

/// Folders that hold what is the owner's, in a home.
const OWN_FOLDERS: &[&str] = &[
    "desktop",
    "documents",
    "downloads",
    "pictures",
    "movies",
    "videos",
    "music",
    "library",
    "library/application support",
    "appdata",
    "appdata/roaming",
    "appdata/local",
    ".config",
];

/// Whether a path is a home, the whole disk, or a folder where owners keep what is theirs.
fn is_owners(path: &str) -> bool {
    let plain = path.replace('\\', "/").to_ascii_lowercase();
    let plain = if plain.len() > 1 {
        plain.trim_end_matches('/')
    } else {
        &plain
    };
    if matches!(
        plain,
        "/" | "~" | "/home" | "/users" | "/root" | "c:" | "c:/users"
    ) {
        return true;
    }
    plain
        .strip_prefix("~/")
        .is_some_and(|rest| OWN_FOLDERS.contains(&rest))
}

pub(in crate::scan::python) const CALLS: &[CallRule] = &[
    CallRule {
        names: &[
            "os.walk",
            "os.fwalk",
            "shutil.make_archive",
            "shutil.copytree",
            "glob.glob",
            "glob.iglob",
            ".rglob",
            "?.rglob",
            ".walk",
        ],
        judge: |call| judge_walk(call, Severity::High),
    },
    CallRule {
        names: &["os.listdir", "os.scandir", ".iterdir", ".glob"],
        judge: |call| judge_walk(call, Severity::Medium),
    },
    CallRule {
        names: &["shutil.rmtree"],
        judge: |call| {
            let path = call.text(0, "path")?;
            is_owners(&path).then(|| {
                Hit::of(
                    &PY_FILE_REMOVE,
                    "All files of a home or of the disk are removed.",
                )
                .at(Severity::Critical)
            })
        },
    },
];

fn judge_walk(call: &CallSite<'_>, severity: Severity) -> Option<Hit> {
    let texts = call.positional.iter().chain(call.receiver).take(4);
    let owners = texts.filter_map(Value::as_text).any(|text| {
        let start = text.split(['*', '?']).next().unwrap_or("");
        // `~/**` goes through all of it, `~/*.png` does not.
        let pattern = start.len() < text.len();
        let deep = text.contains("**") || !pattern;
        deep && !start.is_empty() && !start.contains(UNKNOWN_PART) && is_owners(start)
    });
    owners.then(|| {
        Hit::of(
            &PY_OWNER_FILES,
            format!("{}() goes through files of the owner.", call.shown()),
        )
        .at(severity)
    })
}

/// What writing a file of this path shows.
pub(in crate::scan::python) fn judge_written(path: &str) -> Option<Hit> {
    let plain = path.to_ascii_lowercase();
    let code = [".py", ".pyw"].iter().any(|e| plain.ends_with(e));
    code.then(|| {
        let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
        let shown = name.replace(UNKNOWN_PART, "…");
        Hit::of(
            &PY_CODE_WRITE,
            format!("A file of Python code is written: {shown}."),
        )
    })
}
