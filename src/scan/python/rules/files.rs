//! Files that are removed, or named by data that somebody else decides.

use super::{Argument, CallRule, FlowRule, Sink};
use crate::scan::finding::{Category, Severity};
use crate::scan::python::source::Hit;
use crate::scan::rules::{Example, Rule};

pub(in crate::scan) const RULES: &[Rule] = &[
    PY_FILE_REMOVE,
    PY_PATH_FROM_REQUEST,
    PY_PATH_FROM_INPUT,
    PY_ARCHIVE_EXTRACT,
    PY_EXECUTABLE_BIT,
];

pub(in crate::scan) const PY_FILE_REMOVE: Rule = Rule {
    id: "py-file-remove",
    category: Category::FileOp,
    severity: Severity::Low,
    intent: None,
    reason: "Files are removed or moved.",
    why: "A wrong path removes what nobody meant.",
    fix: "Accept it where the folder is the node's own or ComfyUI's temporary one.",
    examples: &[
        Example::found("import os\nos.remove(p)\n"),
        Example::found("from pathlib import Path\nPath('x').unlink()\n"),
        Example::twin("names.remove('x')\n"),
    ],
};

pub(in crate::scan) const PY_PATH_FROM_REQUEST: Rule = Rule {
    id: "py-path-from-request",
    category: Category::PathTraversal,
    severity: Severity::High,
    intent: None,
    reason: "A request names the file.",
    why: "With `../` or an absolute path, whoever reaches the port reads or writes any file that ComfyUI can.",
    fix: "Take os.path.basename() of the name, or compare os.path.commonpath() of the real path with the folder.",
    examples: &[
        Example::found(
            "import os\nfrom aiohttp import web\nfrom server import PromptServer\n@PromptServer.instance.routes.get('/view')\nasync def view(request):\n    name = request.query['name']\n    return web.FileResponse(os.path.join('/data', name))\n",
        ),
        Example::twin(
            "import os\nfrom aiohttp import web\nfrom server import PromptServer\n@PromptServer.instance.routes.get('/view')\nasync def view(request):\n    name = os.path.basename(request.query['name'])\n    return web.FileResponse(os.path.join('/data', name))\n",
        ),
        Example::twin(
            "import os\nfrom aiohttp import web\nfrom server import PromptServer\n@PromptServer.instance.routes.get('/view')\nasync def view(request):\n    path = os.path.abspath(os.path.join('/data', request.query['name']))\n    if os.path.commonpath(['/data', path]) != '/data':\n        return web.Response(status=403)\n    return web.FileResponse(path)\n",
        ),
    ],
};

pub(in crate::scan) const PY_PATH_FROM_INPUT: Rule = Rule {
    id: "py-path-from-input",
    category: Category::PathTraversal,
    severity: Severity::Medium,
    intent: None,
    reason: "A text of the workflow names the file.",
    why: "A workflow from elsewhere then reads or writes any file that ComfyUI can.",
    fix: "Use folder_paths to look the name up, or compare os.path.commonpath() of the real path with the folder.",
    examples: &[
        Example::found(
            "class N:\n    RETURN_TYPES = ('STRING',)\n    FUNCTION = 'go'\n    @classmethod\n    def INPUT_TYPES(s):\n        return {'required': {'path': ('STRING', {'default': ''})}}\n    def go(self, path):\n        return (open(path).read(),)\n",
        ),
        Example::twin(
            "import folder_paths\nclass N:\n    RETURN_TYPES = ('STRING',)\n    FUNCTION = 'go'\n    @classmethod\n    def INPUT_TYPES(s):\n        return {'required': {'name': (folder_paths.get_filename_list('x'),)}}\n    def go(self, name):\n        return (open(folder_paths.get_full_path('x', name)).read(),)\n",
        ),
    ],
};

pub(in crate::scan) const PY_ARCHIVE_EXTRACT: Rule = Rule {
    id: "py-archive-extract",
    category: Category::PathTraversal,
    severity: Severity::Medium,
    intent: None,
    reason: "An archive is unpacked without a check of its paths.",
    why: "A tar archive names where its files go, `../` and links included.",
    fix: "Pass filter='data' to extractall().",
    examples: &[
        Example::found("import tarfile\ntarfile.open(p).extractall(d)\n"),
        Example::twin("import tarfile\ntarfile.open(p).extractall(d, filter='data')\n"),
        Example::found("import zipfile\nzipfile.ZipFile(p).extractall(d)\n"),
        Example::twin("import zipfile\nzipfile.ZipFile(p).namelist()\n"),
    ],
};

pub(in crate::scan) const PY_EXECUTABLE_BIT: Rule = Rule {
    id: "py-executable-bit",
    category: Category::FileOp,
    severity: Severity::Low,
    intent: None,
    reason: "A file is made executable.",
    why: "It is what comes before a downloaded program runs.",
    fix: "Accept it where the program is known.",
    examples: &[
        Example::found("import os\nos.chmod(p, 0o755)\n"),
        Example::twin("import os\nos.chmod(p, 0o644)\n"),
    ],
};

pub(in crate::scan::python) const CALLS: &[CallRule] = &[
    CallRule {
        names: &[
            "os.remove",
            "os.unlink",
            "os.rmdir",
            "os.removedirs",
            "os.rename",
            "os.replace",
            "os.renames",
            "shutil.rmtree",
            "shutil.move",
            ".unlink",
            "pathlib.Path().unlink",
            "pathlib.Path().rmdir",
            "send2trash.send2trash",
            "os.truncate",
        ],
        judge: |call| {
            Some(Hit::of(
                &PY_FILE_REMOVE,
                format!("{}() removes or moves files.", call.shown()),
            ))
        },
    },
    CallRule {
        names: &[
            "zipfile.ZipFile().extractall",
            "tarfile.open().extractall",
            "tarfile.TarFile().extractall",
            "tarfile.open().extract",
            "tarfile.TarFile.open().extractall",
            "shutil.unpack_archive",
            "patoolib.extract_archive",
        ],
        judge: |call| {
            let filtered = call
                .keyword("filter")
                .is_some_and(|v| v.as_text().is_none_or(|t| &*t != "fully_trusted"));
            if call.name.starts_with("zipfile.") {
                let message =
                    "zipfile unpacks within the folder; what the archive holds is not known.";
                return Some(Hit::of(&PY_ARCHIVE_EXTRACT, message).at(Severity::Low));
            }
            (!filtered).then(|| {
                Hit::of(
                    &PY_ARCHIVE_EXTRACT,
                    format!("{}() unpacks an archive to where it says.", call.shown()),
                )
            })
        },
    },
    CallRule {
        names: &["os.chmod", "os.fchmod", "pathlib.Path().chmod", ".chmod"],
        judge: |call| {
            let at = usize::from(call.name.starts_with("os."));
            let mode = call.argument(at, "mode");
            let executable = mode.is_some_and(|m| {
                m.as_int().is_some_and(|n| n & 0o111 != 0 && n < 0o10000)
                    || m.name()
                        .is_some_and(|n| n.contains("stat.S_IX") || n.contains("stat.S_IEXEC"))
            });
            executable.then(|| Hit::of(&PY_EXECUTABLE_BIT, "A file is made executable."))
        },
    },
];

/// Methods of paths, which are texts in this scan.
pub(in crate::scan::python) const PATH_METHODS: &[&str] = &[
    "read_text",
    "read_bytes",
    "write_text",
    "write_bytes",
    "unlink",
    "rmdir",
    "mkdir",
    "touch",
    "iterdir",
    "rglob",
    "glob",
    "symlink_to",
    "hardlink_to",
    "chmod",
    "rename",
];

pub(in crate::scan::python) const FLOWS: &[FlowRule] = &[
    FlowRule {
        names: &[
            "os.open",
            "os.listdir",
            "os.scandir",
            "os.walk",
            "glob.glob",
            "glob.iglob",
            "PIL.Image.open",
            "cv2.imread",
            "cv2.VideoCapture",
            "torchaudio.load",
            "librosa.load",
            "soundfile.read",
            "numpy.load",
            "numpy.fromfile",
            "numpy.loadtxt",
            "torch.load",
            "torch.jit.load",
            "safetensors.torch.load_file",
            "comfy.utils.load_torch_file",
            "shutil.copyfileobj",
            "imageio.imread",
            "imageio.get_reader",
            "pandas.read_csv",
            "zipfile.ZipFile",
            "tarfile.open",
            "sqlite3.connect",
            "linecache.getline",
            "os.readlink",
            "pathlib.Path().read_text",
            "pathlib.Path().read_bytes",
            "pathlib.Path().iterdir",
            "pathlib.Path().rglob",
            "av.open",
            "OpenImageIO.ImageInput.open",
        ],
        arguments: &[
            Argument::At(0, "file"),
            Argument::Named("path"),
            Argument::Named("fp"),
        ],
        sink: Sink::ReadPath,
        rule: &PY_PATH_FROM_INPUT,
    },
    FlowRule {
        names: &[".read_text", ".read_bytes", ".iterdir", ".rglob"],
        arguments: &[Argument::Receiver],
        sink: Sink::ReadPath,
        rule: &PY_PATH_FROM_INPUT,
    },
    FlowRule {
        names: &[
            ".write_text",
            ".write_bytes",
            ".mkdir",
            ".touch",
            ".symlink_to",
        ],
        arguments: &[Argument::Receiver],
        sink: Sink::WritePath,
        rule: &PY_PATH_FROM_INPUT,
    },
    FlowRule {
        names: &[
            "zipfile.ZipFile().extractall",
            "zipfile.ZipFile().extract",
            "tarfile.open().extractall",
        ],
        arguments: &[Argument::At(0, "path")],
        sink: Sink::WritePath,
        rule: &PY_PATH_FROM_INPUT,
    },
    FlowRule {
        names: &[".unlink", ".rmdir"],
        arguments: &[Argument::Receiver],
        sink: Sink::RemovePath,
        rule: &PY_PATH_FROM_INPUT,
    },
    FlowRule {
        names: &[
            "os.makedirs",
            "os.mkdir",
            "cv2.imwrite",
            "soundfile.write",
            "os.mknod",
            "torch.hub.download_url_to_file",
            "pathlib.Path().write_text",
            "pathlib.Path().write_bytes",
            "pathlib.Path().mkdir",
            "cv2.VideoWriter",
            "imageio.get_writer",
        ],
        arguments: &[Argument::At(0, "path")],
        sink: Sink::WritePath,
        rule: &PY_PATH_FROM_INPUT,
    },
    FlowRule {
        names: &[
            "torch.save",
            "safetensors.torch.save_file",
            "comfy.utils.save_torch_file",
            "shutil.copy",
            "shutil.copy2",
            "shutil.copyfile",
            "shutil.copytree",
            "numpy.save",
            "urllib.request.urlretrieve",
            "torchvision.datasets.utils.download_url",
            "os.symlink",
            "os.link",
            "torchaudio.save",
        ],
        arguments: &[
            Argument::At(1, "dst"),
            Argument::Named("filename"),
            Argument::Named("f"),
        ],
        sink: Sink::WritePath,
        rule: &PY_PATH_FROM_INPUT,
    },
    FlowRule {
        names: &[
            "numpy.save",
            "numpy.savez",
            "numpy.savetxt",
            "torchaudio.save",
            "PIL.Image.Image().save",
            "PIL.Image.open().save",
            "PIL.Image.fromarray().save",
            "PIL.Image.new().save",
            ".save",
            ".to_csv",
            ".to_json",
            ".savefig",
            ".write_videofile",
            ".save_pretrained",
            ".export",
        ],
        arguments: &[Argument::At(0, "fp")],
        sink: Sink::WritePath,
        rule: &PY_PATH_FROM_INPUT,
    },
    FlowRule {
        names: &[
            "shutil.copy",
            "shutil.copy2",
            "shutil.copyfile",
            "shutil.copytree",
        ],
        arguments: &[Argument::At(0, "src")],
        sink: Sink::ReadPath,
        rule: &PY_PATH_FROM_INPUT,
    },
    FlowRule {
        names: &[
            "os.remove",
            "os.unlink",
            "os.rmdir",
            "os.removedirs",
            "os.rename",
            "os.replace",
            "shutil.rmtree",
            "shutil.move",
            "send2trash.send2trash",
        ],
        arguments: &[Argument::At(0, "path"), Argument::At(1, "dst")],
        sink: Sink::RemovePath,
        rule: &PY_PATH_FROM_INPUT,
    },
    FlowRule {
        names: &[
            "aiohttp.web.FileResponse",
            "flask.send_file",
            "fastapi.responses.FileResponse",
            "starlette.responses.FileResponse",
            ".add_static",
        ],
        arguments: &[Argument::At(0, "path")],
        sink: Sink::ServePath,
        rule: &PY_PATH_FROM_INPUT,
    },
];

/// The file that open() reads.
pub(in crate::scan::python) static OPEN_READ: FlowRule = FlowRule {
    names: &["builtins.open"],
    arguments: &[Argument::At(0, "file")],
    sink: Sink::ReadPath,
    rule: &PY_PATH_FROM_INPUT,
};

/// The file that open() writes.
pub(in crate::scan::python) static OPEN_WRITE: FlowRule = FlowRule {
    names: &["builtins.open"],
    arguments: &[Argument::At(0, "file")],
    sink: Sink::WritePath,
    rule: &PY_PATH_FROM_INPUT,
};
