//! Dotted names of what libraries have, each in one spelling.

use std::sync::LazyLock;

use rustc_hash::FxHashMap as HashMap;

/// Modules that code reaches through other modules (`shutil.os`), and that can do harm.
const CORE_MODULES: &[&str] = &[
    "os",
    "sys",
    "subprocess",
    "builtins",
    "importlib",
    "pickle",
    "ctypes",
    "socket",
    "shutil",
    "base64",
    "marshal",
    "pty",
    "runpy",
];

/// Names that a module has under another name, longest first where one starts another.
const ALIASES: &[(&str, &str)] = &[
    ("posixpath", "os.path"),
    ("ntpath", "os.path"),
    ("genericpath", "os.path"),
    ("posix", "os"),
    ("nt", "os"),
    ("__builtin__", "builtins"),
    ("__builtins__", "builtins"),
    ("six.moves.builtins", "builtins"),
    ("six.moves.urllib", "urllib"),
    ("six.moves.cPickle", "pickle"),
    ("cPickle", "pickle"),
    ("_pickle", "pickle"),
    ("pickle._loads", "pickle.loads"),
    ("pickle._load", "pickle.load"),
    ("pickle._Unpickler", "pickle.Unpickler"),
    ("torch.serialization.load", "torch.load"),
    ("torch.jit._serialization.load", "torch.jit.load"),
    ("numpy.lib.npyio.load", "numpy.load"),
    ("numpy.lib._npyio_impl.load", "numpy.load"),
    ("_io", "io"),
    ("io.open_code", "builtins.open"),
    ("io.open", "builtins.open"),
    ("codecs.open", "builtins.open"),
    ("aiofiles.open", "builtins.open"),
    ("builtins.file", "builtins.open"),
    ("builtins.execfile", "runpy.run_path"),
    ("importlib.__import__", "builtins.__import__"),
    ("urllib2.urlopen", "urllib.request.urlopen"),
    ("urllib2.Request", "urllib.request.Request"),
    ("urllib.urlopen", "urllib.request.urlopen"),
    ("urllib.urlretrieve", "urllib.request.urlretrieve"),
    ("commands.getoutput", "subprocess.getoutput"),
    ("commands.getstatusoutput", "subprocess.getstatusoutput"),
    ("_posixsubprocess", "subprocess"),
    ("_ctypes", "ctypes"),
    ("_socket", "socket"),
    ("_thread", "threading"),
    ("thread", "threading"),
    ("requests.api", "requests"),
    ("requests.sessions", "requests"),
    ("yaml.loader", "yaml"),
    ("yaml.cyaml", "yaml"),
    ("aiohttp.client", "aiohttp"),
    (
        "asyncio.subprocess.create_subprocess_exec",
        "asyncio.create_subprocess_exec",
    ),
    (
        "asyncio.subprocess.create_subprocess_shell",
        "asyncio.create_subprocess_shell",
    ),
    ("pip._internal.cli.main.main", "pip.main"),
    ("pip._internal.main", "pip.main"),
    ("pip.__main__", "pip.main"),
    ("joblib.numpy_pickle.load", "joblib.load"),
    ("sklearn.externals.joblib", "joblib"),
    ("pandas.io.pickle.read_pickle", "pandas.read_pickle"),
    ("comfy.utils.torch.load", "torch.load"),
    ("distutils.sysconfig", "sysconfig"),
];

/// [`ALIASES`] by the first part of the name.
static ALIASES_BY_FIRST: LazyLock<HashMap<&'static str, Vec<(&'static str, &'static str)>>> =
    LazyLock::new(|| {
        let mut by_first: HashMap<_, Vec<_>> = HashMap::default();
        for (from, to) in ALIASES {
            let first = from.split('.').next().unwrap_or(from);
            by_first.entry(first).or_default().push((*from, *to));
        }
        by_first
    });

/// Functions that Python has without an import.
const BUILTINS: &[&str] = &[
    "__build_class__",
    "__import__",
    "abs",
    "all",
    "any",
    "ascii",
    "bin",
    "bool",
    "breakpoint",
    "bytearray",
    "bytes",
    "callable",
    "chr",
    "classmethod",
    "compile",
    "complex",
    "delattr",
    "dict",
    "dir",
    "divmod",
    "enumerate",
    "eval",
    "exec",
    "execfile",
    "file",
    "filter",
    "float",
    "format",
    "frozenset",
    "getattr",
    "globals",
    "hasattr",
    "hash",
    "help",
    "hex",
    "id",
    "input",
    "int",
    "isinstance",
    "issubclass",
    "iter",
    "len",
    "list",
    "locals",
    "map",
    "max",
    "memoryview",
    "min",
    "next",
    "object",
    "oct",
    "open",
    "ord",
    "pow",
    "print",
    "property",
    "range",
    "raw_input",
    "reduce",
    "repr",
    "reversed",
    "round",
    "set",
    "setattr",
    "slice",
    "sorted",
    "staticmethod",
    "str",
    "sum",
    "super",
    "tuple",
    "type",
    "unicode",
    "vars",
    "zip",
];

/// Modules whose names mean them even where no import is seen: after a star import, in a fragment.
const KNOWN_MODULES: &[&str] = &[
    "os",
    "sys",
    "subprocess",
    "shutil",
    "importlib",
    "pickle",
    "cPickle",
    "_pickle",
    "marshal",
    "ctypes",
    "socket",
    "base64",
    "zlib",
    "codecs",
    "binascii",
    "requests",
    "urllib",
    "urllib2",
    "http",
    "httpx",
    "aiohttp",
    "yaml",
    "torch",
    "numpy",
    "joblib",
    "dill",
    "runpy",
    "pty",
    "asyncio",
    "threading",
    "multiprocessing",
    "tempfile",
    "pathlib",
    "json",
    "site",
    "sysconfig",
    "platform",
    "getpass",
    "winreg",
    "_winreg",
    "pyperclip",
    "pynput",
    "ImageGrab",
    "code",
    "pip",
    "glob",
    "sqlite3",
    "folder_paths",
    "posix",
    "nt",
    "operator",
    "functools",
    "builtins",
    "cffi",
    "keyring",
    "webbrowser",
    "git",
    "telnetlib",
    "ftplib",
    "smtplib",
    "shelve",
];

/// Functions whose bare names are as good as their full ones where nothing defines them.
const KNOWN_FUNCTIONS: &[(&str, &str)] = &[
    ("urlopen", "urllib.request.urlopen"),
    ("urlretrieve", "urllib.request.urlretrieve"),
    ("b64decode", "base64.b64decode"),
    ("popen", "os.popen"),
    ("Popen", "subprocess.Popen"),
    ("check_output", "subprocess.check_output"),
    ("check_call", "subprocess.check_call"),
    ("import_module", "importlib.import_module"),
    ("Fernet", "cryptography.fernet.Fernet"),
    ("Path", "pathlib.Path"),
    ("PromptServer", "server.PromptServer"),
    ("np", "numpy"),
    ("windll", "ctypes.windll"),
    ("CDLL", "ctypes.CDLL"),
];

/// Returns what an unbound name means: a builtin, or a module that is known by its name.
pub(super) fn unbound(name: &str) -> Option<String> {
    if name == "__builtins__" {
        return Some("builtins".to_string());
    }
    if BUILTINS.contains(&name) {
        return Some(canonical(&format!("builtins.{name}")));
    }
    if KNOWN_MODULES.contains(&name) {
        return Some(canonical(name));
    }
    let known = KNOWN_FUNCTIONS.iter().find(|(short, _)| *short == name)?;
    Some(known.1.to_string())
}

/// Returns `name` in the one spelling that rules use.
pub(super) fn canonical(name: &str) -> String {
    let mut name = name.to_string();
    while let Some(rest) = name
        .strip_suffix(".__call__")
        .or_else(|| name.strip_suffix(".__func__"))
    {
        name = rest.to_string();
    }
    if let Some(inner) = core_inside(&name) {
        name = inner;
    }
    // A second look for aliases of aliases.
    for _ in 0..2 {
        let first = name.split(['.', '(', '[']).next().unwrap_or("");
        let candidates = ALIASES_BY_FIRST.get(first).map_or(&[][..], |c| c);
        let Some((from, to)) = candidates.iter().find(|(from, _)| is_prefix(from, &name)) else {
            break;
        };
        name = format!("{to}{}", &name[from.len()..]);
    }
    name
}

/// `shutil.os.system` is `os.system`.
fn core_inside(name: &str) -> Option<String> {
    if name.starts_with('?') || name.starts_with("asyncio.subprocess") {
        return None;
    }
    let mut at = name.find('.')?;
    let mut found = None;
    loop {
        let rest = &name[at + 1..];
        let end = rest.find(['.', '(', '[']).unwrap_or(rest.len());
        let segment = rest[..end].trim_start_matches('_');
        let own = name.split('.').next() == Some(segment);
        if CORE_MODULES.contains(&segment) && !own {
            let skip = rest[..end].len() - segment.len();
            found = Some(rest[skip..].to_string());
        }
        if !rest[end..].starts_with('.') {
            return found;
        }
        at += 1 + end;
    }
}

fn is_prefix(prefix: &str, name: &str) -> bool {
    name.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '(', '[']))
}

/// Whether it is a folder that Python imports packages from.
pub(super) fn is_site_folder(name: &str) -> bool {
    name.starts_with("site.getsitepackages()")
        || name.starts_with("site.getusersitepackages()")
        || name.starts_with("sysconfig.get_path()")
        || name.starts_with("sysconfig.get_paths()")
        || name.starts_with("sysconfig.get_python_lib()")
        || name.starts_with("site.USER_SITE")
        || name.starts_with("sys.path[]")
}

/// The name of an attribute of what has `name`.
pub(super) fn attribute_name(name: &str, attribute: &str) -> String {
    if let Some(of) = name.strip_suffix(".__dict__")
        && !attribute.starts_with("__")
        && !matches!(
            attribute,
            "get" | "items" | "keys" | "values" | "pop" | "update"
        )
    {
        return canonical(&format!("{of}.{attribute}"));
    }
    canonical(&format!("{name}.{attribute}"))
}

/// The name of an item of what has `name`, if its key is a text.
pub(super) fn item_name(name: &str, key: Option<&str>) -> String {
    if let Some(key) = key {
        if name == "sys.modules" {
            return canonical(key);
        }
        if name == "builtins" {
            return canonical(&format!("builtins.{key}"));
        }
        if let Some(of) = name.strip_suffix(".__dict__") {
            return canonical(&format!("{of}.{key}"));
        }
        if matches!(name, "os.environ") {
            return format!("os.environ[{key}]");
        }
    }
    format!("{name}[]")
}

/// The last part of a dotted name, with the dot.
pub(super) fn last_segment(name: &str) -> &str {
    let end = name.bytes().rposition(|b| b == b'.');
    &name[end.unwrap_or(0)..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_ends_in_one() {
        for (spelling, name) in [
            ("posix.system", "os.system"),
            ("os.system.__call__", "os.system"),
            ("shutil.os.system", "os.system"),
            ("random._os.popen", "os.popen"),
            ("_pickle.loads", "pickle.loads"),
            ("aiofiles.os.remove", "os.remove"),
            ("io.open", "builtins.open"),
            ("__builtin__.eval", "builtins.eval"),
            ("ntpath.join", "os.path.join"),
            ("torch.load", "torch.load"),
            ("requests.sessions.Session().get", "requests.Session().get"),
            (
                "asyncio.subprocess.create_subprocess_shell",
                "asyncio.create_subprocess_shell",
            ),
        ] {
            assert_eq!(canonical(spelling), name);
        }
        assert_eq!(item_name("sys.modules", Some("os")), "os");
        assert_eq!(item_name("os.__dict__", Some("system")), "os.system");
        assert_eq!(item_name("builtins", Some("exec")), "builtins.exec");
    }
}
