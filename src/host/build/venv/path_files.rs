//! What every start of Python runs, before and without anything that imports the package (the `site`
//! module): `sitecustomize`, `usercustomize`, and the lines of `.pth` files that begin with
//! `import`. None of it is installed unless it is known, or comfy.toml allows it.

use sha2::{Digest, Sha256};

use super::wheel_fetch::hex_digest;
use crate::desired::venv::PackageInstall;
use crate::problem::Problem;
use crate::text::escape_text;

/// Packages with the sha256 of a line that they bring. setuptools since 50.0 has its own distutils in
/// the place of the standard library's; pynvml since 13 names nvidia-ml-py as its successor; coloredlogs
/// since 14.0, which onnxruntime needs, does nothing unless COLOREDLOGS_AUTO_INSTALL is set.
const KNOWN: [(&str, &str); 4] = [
    (
        "setuptools",
        "2f70c2fa9227e9db9348215d9c7b246d2786aac7516f86d71a5952c7c225aa16",
    ),
    (
        "setuptools",
        "792f1e64bdbc639bc9e69672208025d82d37f615b5a6bbff981b444ec1f214a5",
    ),
    (
        "pynvml",
        "d0b70c7780c037981450a7bdd1df1865d4756f5794529affe4947df6d103a9c2",
    ),
    (
        "coloredlogs",
        "534871dd2d306233b9bc058935129c7121fc40177c03ff96748246fd20ff92a5",
    ),
];
/// What setuptools writes for `namespace_packages`, without the name: it makes an empty module.
const OF_NAMESPACE: &str = "00ab3e642f1e16811e6f980d653b570c72606567316c0111721618bc3f970f71";
/// Characters of a line that are shown.
const SHOWN: usize = 120;

/// What a path in a virtual environment may be to `site`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StartupFile {
    /// A `.pth` file, whose lines tell.
    Paths,
    /// A module that is imported whatever it contains.
    Module,
}

/// What `path` is to `site`, in any folder of packages (`lib64` too, where a system has it) and in any
/// letters, which a Mac's disk takes for the same; `None`: nothing.
pub(super) fn startup_file(path: &str, package: &str) -> Option<StartupFile> {
    let path = path.to_lowercase();
    let parts: Vec<&str> = path.split('/').collect();
    let [lib, _, "site-packages", name, rest @ ..] = parts.as_slice() else {
        return None;
    };
    if !lib.starts_with("lib") {
        return None;
    }
    let module = name.split('.').next().unwrap_or(name);
    if rest.is_empty() && name.ends_with(".pth") {
        Some(StartupFile::Paths)
    } else if matches!(module, "sitecustomize" | "usercustomize")
        || (*name == "_distutils_hack" && package != "setuptools")
    {
        // The last one is what a line of setuptools imports.
        Some(StartupFile::Module)
    } else {
        None
    }
}

/// Refuses what `site` would run and is neither known nor allowed.
///
/// # Errors
/// The file, of a `.pth` file the first such line, and what allows it.
pub(super) fn refuse_code(
    package: &PackageInstall,
    path: &str,
    kind: StartupFile,
    content: &[u8],
) -> Result<(), Problem> {
    if package.allow_pth {
        return Ok(());
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    let refuse = |why: String| {
        Err(Problem::new(format!(
            "{}: its {} {why}",
            package.key(),
            escape_text(name)
        ))
        .with_hint(format!(
            "if you trust that package: [python] allow_pth = [\"{}\"], and `comfy lock`; nothing \
             was installed",
            package.name
        )))
    };
    if kind == StartupFile::Module {
        return refuse("is code that every start of Python would run".into());
    }
    let Ok(text) = std::str::from_utf8(content) else {
        return refuse("is not UTF-8, so that what Python would run of it is unknown".into());
    };
    // Where lines end depends on the version: since 3.12.2 as `str.splitlines` has it, before only at
    // `\n` and `\r`. So no known line has any of the others in it.
    let ends = ['\n', '\r'];
    let others = |c: char| {
        matches!(
            c,
            '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let code = |line: &str| line.starts_with("import ") || line.starts_with("import\t");
    let mut lines = text
        .trim_start_matches('\u{feff}')
        .split(ends)
        .filter(|line| line.split(others).any(code));
    match lines.find(|line| !is_known(&package.name, line.trim_end_matches([' ', '\t']))) {
        None => Ok(()),
        Some(line) => {
            let shown: String = line.chars().take(SHOWN).collect();
            let more = if shown.len() < line.len() { "…" } else { "" };
            refuse(format!(
                "has code that every start of Python would run: `{}{more}`",
                escape_text(&shown)
            ))
        }
    }
}

fn is_known(package: &str, line: &str) -> bool {
    let hash = |line: &str| hex_digest(Sha256::new().chain_update(line));
    if KNOWN.contains(&(package, &hash(line))) {
        return true;
    }
    without_namespace(line).is_some_and(|line| hash(&line) == OF_NAMESPACE)
}

/// The line for a namespace package, without its name and without the last part, which a nested one
/// has more.
fn without_namespace(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("*(")?;
    let (tuple, _) = rest.split_once("));")?;
    let names: Vec<&str> = tuple
        .trim_end_matches(',')
        .split(", ")
        .map(|n| n.strip_prefix('\'')?.strip_suffix('\''))
        .collect::<Option<_>>()?;
    let plain = |n: &&str| n.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !names.iter().all(plain) {
        return None;
    }
    let own = match names.split_last()? {
        (_, []) => line.to_string(),
        (child, parents) => {
            let sets = format!(
                ";m and setattr(sys.modules['{}'], '{child}', m)",
                parents.join(".")
            );
            line.strip_suffix(&sets)?.to_string()
        }
    };
    Some(
        own.replacen(&format!("*({tuple})"), "*()", 1)
            .replace(&format!("'{}'", names.join(".")), "'_'"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_in_a_path_file_is_refused_unless_it_is_known() {
        let namespace = |tuple: &str, name: &str, more: &str| {
            format!(
                "import sys, types, os;has_mfs = sys.version_info > (3, 5);p = \
                 os.path.join(sys._getframe(1).f_locals['sitedir'], *({tuple}));importlib = has_mfs \
                 and __import__('importlib.util');has_mfs and \
                 __import__('importlib.machinery');m = has_mfs and \
                 sys.modules.setdefault('{name}', \
                 importlib.util.module_from_spec(importlib.machinery.PathFinder.find_spec('{name}', \
                 [os.path.dirname(p)])));m = m or sys.modules.setdefault('{name}', \
                 types.ModuleType('{name}'));mp = (m or []) and \
                 m.__dict__.setdefault('__path__',[]);(p not in mp) and mp.append(p){more}\n"
            )
        };
        let shim = "import os; var = 'SETUPTOOLS_USE_DISTUTILS'; enabled = os.environ.get(var, \
                    'local') == 'local'; enabled and __import__('_distutils_hack').add_shim(); \n";
        let set = ";m and setattr(sys.modules['google'], 'cloud', m)";
        let logs = "import os; exec('try: __import__(\"coloredlogs\").auto_install() if \
                    os.environ.get(\"COLOREDLOGS_AUTO_INSTALL\") else None\\nexcept ImportError: \
                    pass')\n";
        let rows: [(&str, &str, String); 13] = [
            ("setuptools", "setuptools", shim.into()),
            ("coloredlogs", "coloredlogs", logs.into()),
            ("the same of another", "other", shim.into()),
            (
                "a namespace",
                "protobuf",
                namespace("'google',", "google", ""),
            ),
            (
                "a nested one",
                "core",
                namespace("'google', 'cloud'", "google.cloud", set),
            ),
            (
                "with more",
                "core",
                namespace("'google',", "google", ";import evil"),
            ),
            (
                "with another module",
                "core",
                namespace("'google',", "google", "").replace("importlib.util'", "evil'"),
            ),
            ("paths", "a", "# import os\n../other\n important\n".into()),
            (
                "after a known line and a page",
                "protobuf",
                namespace("'google',", "google", "\u{c};evil()"),
            ),
            ("after a page", "a", "x\u{c}import evil\n".into()),
            ("with a mark", "a", "\u{feff}import evil\n".into()),
            ("by a tab", "a", "import\tevil\n".into()),
            ("allowed", "allowed", "import evil\n".into()),
        ];
        let told: Vec<String> = rows
            .iter()
            .map(|(what, name, text)| {
                let package = PackageInstall {
                    name: (*name).into(),
                    version: "1".into(),
                    allow_pth: *name == "allowed",
                    ..PackageInstall::default()
                };
                match refuse_code(&package, "site/x.pth", StartupFile::Paths, text.as_bytes()) {
                    Ok(()) => format!("{what}: fine"),
                    Err(p) => format!("{what}: {p}"),
                }
            })
            .collect();
        insta::assert_snapshot!(told.join("\n"), @r#"
        setuptools: fine
        coloredlogs: fine
        the same of another: other==1: its x.pth has code that every start of Python would run: `import os; var = 'SETUPTOOLS_USE_DISTUTILS'; enabled = os.environ.get(var, 'local') == 'local'; enabled and __import__('…` (hint: if you trust that package: [python] allow_pth = ["other"], and `comfy lock`; nothing was installed)
        a namespace: fine
        a nested one: fine
        with more: core==1: its x.pth has code that every start of Python would run: `import sys, types, os;has_mfs = sys.version_info > (3, 5);p = os.path.join(sys._getframe(1).f_locals['sitedir'], *('goog…` (hint: if you trust that package: [python] allow_pth = ["core"], and `comfy lock`; nothing was installed)
        with another module: core==1: its x.pth has code that every start of Python would run: `import sys, types, os;has_mfs = sys.version_info > (3, 5);p = os.path.join(sys._getframe(1).f_locals['sitedir'], *('goog…` (hint: if you trust that package: [python] allow_pth = ["core"], and `comfy lock`; nothing was installed)
        paths: fine
        after a known line and a page: protobuf==1: its x.pth has code that every start of Python would run: `import sys, types, os;has_mfs = sys.version_info > (3, 5);p = os.path.join(sys._getframe(1).f_locals['sitedir'], *('goog…` (hint: if you trust that package: [python] allow_pth = ["protobuf"], and `comfy lock`; nothing was installed)
        after a page: a==1: its x.pth has code that every start of Python would run: `x\u{c}import evil` (hint: if you trust that package: [python] allow_pth = ["a"], and `comfy lock`; nothing was installed)
        with a mark: a==1: its x.pth has code that every start of Python would run: `import evil` (hint: if you trust that package: [python] allow_pth = ["a"], and `comfy lock`; nothing was installed)
        by a tab: a==1: its x.pth has code that every start of Python would run: `import\u{9}evil` (hint: if you trust that package: [python] allow_pth = ["a"], and `comfy lock`; nothing was installed)
        allowed: fine
        "#);
        let kinds = |package: &str| {
            [
                "lib/python3.12/site-packages/a.pth",
                "LIB64/python3.12/Site-Packages/a.PTH",
                "lib/python3.12/site-packages/a/b.pth",
                "lib/python3.12/site-packages/sitecustomize.cpython-312-darwin.so",
                "lib/python3.12/site-packages/sitecustomize/__init__.py",
                "lib/python3.12/site-packages/my_sitecustomize.py",
                "lib/python3.12/site-packages/_distutils_hack/__init__.py",
                "share/python3.12/site-packages/a.pth",
            ]
            .map(|path| startup_file(path, package))
        };
        let (paths, module) = (Some(StartupFile::Paths), Some(StartupFile::Module));
        let mut expected = [paths, paths, None, module, module, None, module, None];
        assert_eq!(kinds("a"), expected);
        expected[6] = None;
        assert_eq!(kinds("setuptools"), expected);
    }
}
