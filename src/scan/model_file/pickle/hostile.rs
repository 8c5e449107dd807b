//! Names that run code, start programs, read or write files, connect, or get at names that do.
//!
//! What is not here is unknown, not harmless: the list makes the difference between a file to
//! review and a file to delete, no more.

/// Modules with everything in and below them.
const MODULES: &[&str] = &[
    // Python: code, programs, imports.
    "os posix nt _posixsubprocess subprocess sys builtins importlib imp runpy code codeop pdb bdb \
     cProfile profile timeit trace asyncio multiprocessing concurrent threading _thread signal \
     pty ctypes _ctypes cffi _cffi_backend inspect ast dis linecache pydoc doctest unittest test \
     pip setuptools distutils _distutils_hack ensurepip venv site sysconfig zipimport pkgutil \
     pkg_resources platform popen2 idlelib lib2to3 rlcompleter cgitb gc atexit sched compileall \
     py_compile modulefinder pyclbr webbrowser antigravity _pyrepl _osx_support _aix_support \
     faulthandler _testcapi _xxsubinterpreters interpreters",
    // Python: other ways to load, files, network.
    "pickle _pickle pickletools dill cloudpickle marshal shelve shutil tempfile fileinput zipfile \
     tarfile gzip bz2 lzma mmap fcntl io _io codecs pathlib glob filecmp sqlite3 dbm winreg \
     _winreg msvcrt _winapi socket _socket ssl socketserver select selectors http httplib urllib \
     urllib2 urllib3 requests httpx aiohttp websocket websockets smtplib ftplib telnetlib poplib \
     imaplib nntplib xmlrpc wsgiref logging.config logging.handlers mailcap",
    // Packages.
    "torch.hub torch.serialization torch.jit torch._jit_internal torch._dynamo torch._inductor \
     torch.fx torch.distributed torch.multiprocessing torch.package torch.ops torch._ops \
     torch.classes torch._classes torch.library torch.testing torch.onnx torch.export \
     torch._export torch.profiler torch.compiler torch.utils.collect_env torch.utils.bottleneck \
     torch.utils.cpp_extension torch.utils.model_zoo torch.utils.data.datapipes \
     torch.utils.show_pickle torch.utils.hipify torch.utils.benchmark torch.utils._config_module \
     torch.utils.file_baton numpy.testing numpy.f2py numpy.distutils numpy.ctypeslib numpy.lib \
     numpy.compat pandas.io pandas.core.computation pandas.compat joblib sklearn.externals.joblib \
     mlflow huggingface_hub git paramiko fabric invoke sh pexpect plumbum jinja2 mako yaml ruamel \
     psutil IPython hydra fire celery dask ray numexpr sympy fsspec smart_open boto3 s3fs \
     picklescan fickling modelscan modelaudit",
];

/// Names in modules that have harmless ones too.
const NAMES: &[(&str, &str)] = &[
    (
        "types",
        "FunctionType CodeType LambdaType ModuleType MethodType",
    ),
    (
        "functools",
        "reduce partialmethod singledispatch cached_property",
    ),
    ("_functools", "reduce"),
    ("operator", "attrgetter methodcaller call"),
    ("_operator", "attrgetter methodcaller call"),
    ("itertools", "starmap"),
    ("_codecs", "lookup register decode register_error"),
    ("uuid", "_get_command_stdout _popen"),
    ("logging", "FileHandler _acquireLock Handler basicConfig"),
    ("copyreg", "pickle constructor add_extension"),
    ("string", "Formatter Template"),
    ("weakref", "finalize"),
    ("contextlib", "ExitStack redirect_stdout contextmanager"),
    ("collections", "namedtuple"),
    ("torch", "load save compile hub jit ops classes from_file"),
    ("torch.storage", "_load_from_bytes from_file"),
    (
        "numpy",
        "load save savez loads fromfile loadtxt savetxt genfromtxt memmap fromregex DataSource \
         vectorize frompyfunc apply_along_axis piecewise fromfunction fromiter",
    ),
    (
        "numpy.core.multiarray",
        "fromfile fromiter _load_from_filelike",
    ),
    (
        "pandas",
        "read_pickle read_csv read_json read_table read_html read_xml read_excel read_sql \
         read_parquet read_feather read_hdf read_clipboard eval HDFStore",
    ),
    ("keras.src.legacy.saving", "legacy_h5_format"),
    ("transformers.utils.hub", "cached_file"),
];

/// Words that name the same thing wherever they are: an attribute of that name is enough.
const WORDS: &[&str] = &[
    "system popen Popen exec eval execfile compile spawn fork getattr setattr delattr os sys \
     subprocess builtins importlib open loads check_output check_call getoutput getstatusoutput \
     import_module run_module run_path run_code shutil socket ctypes pickle marshal load_module \
     exec_module exec_command _execute_child f_globals gi_frame func_globals read_pickle \
     unsafe_load _run_entry_point spawnv_passfds",
];

fn words_of(list: &'static [&'static str]) -> impl Iterator<Item = &'static str> {
    list.iter().flat_map(|line| line.split(' '))
}

/// Says whether a name is on the list.
pub(super) fn is_hostile(module: &str, name: &str) -> bool {
    let in_module = |listed: &str| {
        module
            .strip_prefix(listed)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    if words_of(MODULES).any(in_module) {
        return true;
    }
    let first = name.split('.').next().unwrap_or(name);
    let mut listed = NAMES.iter().filter(|(m, _)| *m == module);
    if listed.any(|(_, names)| names.split(' ').any(|n| n == first)) {
        return true;
    }
    let dunder = |word: &str| word.len() > 4 && word.starts_with("__") && word.ends_with("__");
    let mut words = name.split('.');
    let through = name.contains('.');
    words.any(|w| dunder(w) || words_of(WORDS).any(|word| word == w))
        || (through && words_of(MODULES).any(|m| name.starts_with(&format!("{m}."))))
}
