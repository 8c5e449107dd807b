//! Code that comes from elsewhere: files that are run, modules by a name that is made, models'
//! repositories, and hooks into imports.

use super::{Argument, CallRule, CallSite, FlowRule, Sink};
use crate::scan::finding::{Category, Severity};
use crate::scan::python::source::Hit;
use crate::scan::rules::{Example, Rule};

pub(in crate::scan) const RULES: &[Rule] = &[
    PY_RUN_FILE,
    PY_DYNAMIC_IMPORT,
    PY_IMPORT_FROM_DATA,
    PY_IMPORT_HOOK,
    PY_TORCH_HUB,
    PY_TRUST_REMOTE_CODE,
];

pub(in crate::scan) const PY_RUN_FILE: Rule = Rule {
    id: "py-run-file",
    category: Category::CodeExec,
    severity: Severity::Medium,
    intent: None,
    reason: "A file is run as Python.",
    why: "The file need not be one of the node, and was perhaps not looked at.",
    fix: "Import the module by its name.",
    examples: &[
        Example::found("import runpy\nrunpy.run_path('payload.txt')\n"),
        Example::found("import sys\nsys.path.insert(0, folder + '/lib.zip')\n"),
        Example::found(
            "import sys\nfrom huggingface_hub import snapshot_download\nsys.path.append(snapshot_download('a/b'))\n",
        ),
        Example::twin("import importlib.util\nimportlib.util.find_spec('x')\n"),
    ],
};

pub(in crate::scan) const PY_DYNAMIC_IMPORT: Rule = Rule {
    id: "py-dynamic-import",
    category: Category::CodeExec,
    severity: Severity::Low,
    intent: None,
    reason: "A module is imported by a name that is made at run time.",
    why: "What runs cannot be read from the source alone.",
    fix: "Name the modules, or accept it where the names are files of the node.",
    examples: &[
        Example::found("import importlib\nimportlib.import_module(name)\n"),
        Example::found(
            "import importlib.util\nimportlib.util.spec_from_file_location('m', path)\n",
        ),
        Example::twin("import importlib\nimportlib.import_module('json')\n"),
    ],
};

pub(in crate::scan) const PY_IMPORT_FROM_DATA: Rule = Rule {
    id: "py-import-from-data",
    category: Category::CodeExec,
    severity: Severity::High,
    intent: None,
    reason: "Data that somebody else decides names the module that is imported.",
    why: "Importing a module runs it.",
    fix: "Compare the name with a list of those that are meant.",
    examples: &[
        Example::found(
            "import importlib\nfrom server import PromptServer\n@PromptServer.instance.routes.post('/x')\nasync def f(request):\n    data = await request.json()\n    importlib.import_module(data['m'])\n",
        ),
        Example::twin(
            "import importlib\nfrom server import PromptServer\n@PromptServer.instance.routes.post('/x')\nasync def f(request):\n    data = await request.json()\n    importlib.import_module('json')\n",
        ),
    ],
};

pub(in crate::scan) const PY_IMPORT_HOOK: Rule = Rule {
    id: "py-import-hook",
    category: Category::CodeExec,
    severity: Severity::Medium,
    intent: None,
    reason: "What Python does at imports, or what its functions are, is replaced.",
    why: "All code of ComfyUI then runs through the node's.",
    fix: "Wrap the one function that is meant, in your own module.",
    examples: &[
        Example::found("import sys\nsys.meta_path.insert(0, X())\n"),
        Example::found("import builtins\nbuiltins.__import__ = f\n"),
        Example::found("import os\nos.environ['LD_PRELOAD'] = '/tmp/x.so'\n"),
        Example::found("import torch\ntorch.load = lambda *a, **k: None\n"),
        Example::found("import sys, types\nsys.modules['requests'] = types.ModuleType('x')\n"),
        Example::twin("import comfy.samplers\ncomfy.samplers.KSampler.SAMPLERS = []\n"),
        Example::twin("import torch\nold = torch.load\ntorch.load = old\n"),
        Example::twin("import sys\nsys.modules['node.compat'] = x\n"),
        Example::twin("import sys\nsys.path.insert(0, 'x')\n"),
        Example::twin("import os\nos.environ['PYTORCH_ENABLE_MPS_FALLBACK'] = '1'\n"),
    ],
};

pub(in crate::scan) const PY_TORCH_HUB: Rule = Rule {
    id: "py-torch-hub",
    category: Category::CodeExec,
    severity: Severity::Medium,
    intent: None,
    reason: "torch.hub.load() downloads a repository and runs its code.",
    why: "The code is whatever the branch holds on that day.",
    fix: "Pin a commit, vendor the code, or load the weights alone.",
    examples: &[
        Example::found("import torch\ntorch.hub.load('a/b', 'm')\n"),
        Example::twin("import torch\ntorch.hub.get_dir()\n"),
        Example::twin("import torch\ntorch.hub.load('.', 'm', source='local')\n"),
    ],
};

pub(in crate::scan) const PY_TRUST_REMOTE_CODE: Rule = Rule {
    id: "py-trust-remote-code",
    category: Category::CodeExec,
    severity: Severity::Medium,
    intent: None,
    reason: "trust_remote_code runs code that a model's repository brings.",
    why: "The code comes with the model, and changes whenever its repository does.",
    fix: "Leave it out, or pin `revision` to a commit that was read.",
    examples: &[
        Example::found(
            "from transformers import AutoModel\nAutoModel.from_pretrained(p, trust_remote_code=True)\n",
        ),
        Example::found(
            "from diffusers import DiffusionPipeline\nDiffusionPipeline.from_pretrained(p, custom_pipeline='a/b')\n",
        ),
        Example::twin(
            "from transformers import AutoModel\nAutoModel.from_pretrained(p, trust_remote_code=False)\n",
        ),
    ],
};

/// Variables that make other programs run code.
pub(in crate::scan::python) const RUNNING_VARIABLES: &[&str] = &[
    "LD_PRELOAD",
    "DYLD_INSERT_LIBRARIES",
    "PYTHONSTARTUP",
    "BASH_ENV",
    "PERL5OPT",
    "NODE_OPTIONS",
    "GIT_SSH_COMMAND",
    "PROMPT_COMMAND",
    "LD_AUDIT",
    "PYTHONHOME",
    "RUBYOPT",
    "JAVA_TOOL_OPTIONS",
];

pub(in crate::scan::python) const CALLS: &[CallRule] = &[
    CallRule {
        names: &["sys.path.insert", "sys.path.append", "sys.path.extend"],
        judge: |call| {
            let shared = ["/tmp", "/var/tmp", "/dev/shm"];
            let open = call.all().any(|v| {
                v.as_command_line()
                    .split_whitespace()
                    .any(|t| shared.iter().any(|s| t.starts_with(s)))
            });
            let fetched = call.all().any(|v| {
                v.name().is_some_and(|n| {
                    n.strip_suffix("()")
                        .is_some_and(super::network::is_download)
                })
            });
            if fetched {
                let message = "Modules are imported from a folder that was downloaded.";
                return Some(Hit::of(&PY_RUN_FILE, message).at(Severity::High));
            }
            let packed = call.all().any(|v| {
                let path = v.as_part().to_ascii_lowercase();
                [".zip", ".egg", ".whl"].iter().any(|e| path.ends_with(e))
            });
            let message = match (open, packed) {
                (true, _) => "Modules are imported from a folder that everybody writes to.",
                (_, true) => "Modules are imported out of an archive.",
                _ => return None,
            };
            Some(Hit::of(&PY_RUN_FILE, message))
        },
    },
    CallRule {
        names: &[
            "runpy.run_path",
            "runpy.run_module",
            "imp.load_source",
            "imp.load_module",
            "imp.load_compiled",
            "imp.load_dynamic",
            "zipimport.zipimporter().load_module",
            "importlib.machinery.SourcelessFileLoader",
            "importlib.machinery.ExtensionFileLoader",
        ],
        judge: |call| {
            Some(Hit::of(
                &PY_RUN_FILE,
                format!("{}() runs a file as Python.", call.shown()),
            ))
        },
    },
    CallRule {
        names: &[
            "importlib.import_module",
            "builtins.__import__",
            "importlib.util.spec_from_file_location",
            "importlib.machinery.SourceFileLoader",
        ],
        judge: judge_import,
    },
    CallRule {
        names: &["torch.hub.load", "torch.hub._load_local"],
        judge: |call| {
            let local = call
                .keyword("source")
                .and_then(|v| v.as_text())
                .is_some_and(|s| &*s == "local");
            let severity = if call.is_on("trust_repo") {
                Severity::High
            } else {
                Severity::Medium
            };
            (!local).then(|| {
                Hit::of(
                    &PY_TORCH_HUB,
                    "torch.hub.load() downloads a repository and runs its code.",
                )
                .at(severity)
            })
        },
    },
    CallRule {
        names: &[
            "site.addsitedir",
            "sys.meta_path.insert",
            "sys.meta_path.append",
            "sys.path_hooks.append",
            "sys.path_hooks.insert",
            "sys.setprofile",
            "sys.settrace",
            "sys.addaudithook",
        ],
        judge: |call| {
            Some(Hit::of(
                &PY_IMPORT_HOOK,
                format!("{}() changes how Python runs all code.", call.shown()),
            ))
        },
    },
    CallRule {
        names: &["os.putenv", "os.environ.setdefault"],
        judge: |call| {
            call.text(0, "key")
                .filter(|k| RUNNING_VARIABLES.contains(&&**k))
                .map(|k| running_variable(&k))
        },
    },
];

/// What setting such a variable shows.
pub(in crate::scan::python) fn running_variable(name: &str) -> Hit {
    Hit::of(
        &PY_IMPORT_HOOK,
        format!("The variable {name} makes every program that is started run code."),
    )
}

fn judge_import(call: &CallSite<'_>) -> Option<Hit> {
    let file = call.name.contains("spec_from_file") || call.name.contains("SourceFileLoader");
    let at = usize::from(file);
    let constant = call
        .argument(at, "name")
        .is_some_and(super::Value::is_constant);
    if constant && !file {
        return None;
    }
    let fixed = file && constant;
    let what = if file {
        "a file is imported that is named"
    } else {
        "a module is imported whose name is made"
    };
    let hit = Hit::of(
        &PY_DYNAMIC_IMPORT,
        format!("{}(): {what} at run time.", call.shown()),
    );
    // Honest nodes make such paths out of __file__; one that is written out lies elsewhere.
    Some(if fixed { hit.at(Severity::Medium) } else { hit })
}

/// What any call with `trust_remote_code=True` shows.
pub(in crate::scan::python) fn trusts_remote_code(call: &CallSite<'_>) -> Option<Hit> {
    if call.is_on("trust_remote_code") {
        return Some(Hit::of(
            &PY_TRUST_REMOTE_CODE,
            "Code that the model's repository brings is run (trust_remote_code=True).",
        ));
    }
    // Diffusers fetches a pipeline of that name and imports it.
    let pipeline = call
        .keyword("custom_pipeline")
        .filter(|_| call.name.contains("from_pretrained"))
        .and_then(super::Value::as_text)?;
    Some(Hit::of(
        &PY_TRUST_REMOTE_CODE,
        format!(
            "The code of a pipeline is fetched and run (custom_pipeline={}).",
            pipeline.replace(super::super::values::UNKNOWN_PART, "…")
        ),
    ))
}

pub(in crate::scan::python) const FLOWS: &[FlowRule] = &[
    FlowRule {
        names: &[
            "hydra.utils.instantiate",
            "hydra.utils.call",
            "hydra.utils.get_class",
            "hydra.utils.get_method",
            "hydra.utils.get_object",
            "pkgutil.resolve_name",
            "pydoc.locate",
        ],
        arguments: &[Argument::At(0, "config")],
        sink: Sink::Import,
        rule: &PY_IMPORT_FROM_DATA,
    },
    FlowRule {
        names: &["importlib.import_module", "builtins.__import__"],
        arguments: &[Argument::At(0, "name")],
        sink: Sink::Import,
        rule: &PY_IMPORT_FROM_DATA,
    },
    FlowRule {
        names: &[
            "importlib.util.spec_from_file_location",
            "importlib.machinery.SourceFileLoader",
        ],
        arguments: &[Argument::At(1, "location")],
        sink: Sink::Import,
        rule: &PY_IMPORT_FROM_DATA,
    },
];
