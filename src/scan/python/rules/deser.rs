//! Formats that can run code when they are read.

use super::{Argument, CallRule, CallSite, FlowRule, Sink};
use crate::scan::finding::{Category, Severity};
use crate::scan::python::source::Hit;
use crate::scan::rules::{Example, Rule};

pub(in crate::scan) const RULES: &[Rule] = &[
    PY_PICKLE_LOAD,
    PY_TORCH_LOAD,
    PY_YAML_LOAD,
    PY_NUMPY_PICKLE,
    PY_JOBLIB_LOAD,
    PY_MARSHAL_LOAD,
];

pub(in crate::scan) const PY_PICKLE_LOAD: Rule = Rule {
    id: "py-pickle-load",
    category: Category::Deser,
    severity: Severity::Medium,
    intent: None,
    reason: "A pickle is read.",
    why: "A pickle can run any code while it is read, and models are pickles that strangers made.",
    fix: "Use JSON for data and safetensors for tensors.",
    examples: &[
        Example::found("from pickle import loads as L\nL(b'')\n"),
        Example::found("import pickle\npickle.Unpickler(f).load()\n"),
        Example::twin("import pickle\npickle.dumps({})\n"),
        Example::twin("import json\njson.load(f)\n"),
    ],
};

pub(in crate::scan) const PY_TORCH_LOAD: Rule = Rule {
    id: "py-torch-load",
    category: Category::Deser,
    severity: Severity::Medium,
    intent: None,
    reason: "torch.load() reads a pickle without weights_only=True.",
    why: "Before torch 2.6, and wherever weights_only is False, a checkpoint runs any code it holds.",
    fix: "Pass weights_only=True, or use comfy.utils.load_torch_file() or safetensors.",
    examples: &[
        Example::found("import torch\ntorch.load(p)\n"),
        Example::found("import torch\ntorch.load(p, weights_only=False)\n"),
        Example::twin("import torch\ntorch.load(p, weights_only=True)\n"),
    ],
};

pub(in crate::scan) const PY_YAML_LOAD: Rule = Rule {
    id: "py-yaml-load",
    category: Category::Deser,
    severity: Severity::Medium,
    intent: None,
    reason: "YAML is read with a loader that makes any object.",
    why: "Tags such as !!python/object/apply run functions.",
    fix: "Use yaml.safe_load() or Loader=yaml.SafeLoader.",
    examples: &[
        Example::found("from yaml import load, Loader\nload(open('x'), Loader)\n"),
        Example::found("import yaml\nyaml.load(f)\n"),
        Example::found("import yaml\nyaml.unsafe_load(f)\n"),
        Example::twin("import yaml\nyaml.safe_load(f)\n"),
        Example::twin("import yaml\nyaml.load(f, Loader=yaml.SafeLoader)\n"),
        Example::twin("import yaml\nyaml.load(f, yaml.CSafeLoader)\n"),
    ],
};

pub(in crate::scan) const PY_NUMPY_PICKLE: Rule = Rule {
    id: "py-numpy-pickle",
    category: Category::Deser,
    severity: Severity::Medium,
    intent: None,
    reason: "numpy.load() reads pickles (allow_pickle=True).",
    why: "An array of objects is a pickle, which can run any code while it is read.",
    fix: "Leave allow_pickle out.",
    examples: &[
        Example::found("import numpy as np\nnp.load('x', allow_pickle=True)\n"),
        Example::twin("import numpy as np\nnp.load('x')\n"),
    ],
};

pub(in crate::scan) const PY_JOBLIB_LOAD: Rule = Rule {
    id: "py-joblib-load",
    category: Category::Deser,
    severity: Severity::Medium,
    intent: None,
    reason: "A file is read by a library that reads pickles.",
    why: "joblib, dill, shelve, pandas.read_pickle and their like are pickle inside.",
    fix: "Use a format that holds data alone.",
    examples: &[
        Example::found("import joblib\njoblib.load('m')\n"),
        Example::found("import pandas as pd\npd.read_pickle('m')\n"),
        Example::twin("import pandas as pd\npd.read_csv('m')\n"),
    ],
};

pub(in crate::scan) const PY_MARSHAL_LOAD: Rule = Rule {
    id: "py-marshal-load",
    category: Category::Deser,
    severity: Severity::High,
    intent: None,
    reason: "Bytecode is read with marshal.",
    why: "It is how compiled code is hidden in a source.",
    fix: "Ship the source of the code.",
    examples: &[
        Example::found("import marshal\nmarshal.loads(b'')\n"),
        Example::twin("import marshal\nmarshal.dumps(1)\n"),
    ],
};

pub(in crate::scan::python) const CALLS: &[CallRule] = &[
    CallRule {
        names: &[
            "pickle.load",
            "pickle.loads",
            "pickle.Unpickler().load",
            "multiprocessing.connection.Client().recv",
            "multiprocessing.connection.Listener().accept().recv",
            "pickle.Unpickler",
            "cloudpickle.load",
            "cloudpickle.loads",
            "dill.load",
            "dill.loads",
            "pickle5.loads",
            "pickle5.load",
            "multiprocessing.reduction.ForkingPickler.loads",
            "jsonpickle.decode",
            "jsonpickle.loads",
            "torch.package.PackageImporter",
            "pickletools.loads",
            "_compat_pickle.loads",
        ],
        judge: |call| {
            // `pickle.Unpickler(f).load()` is told once, at the load.
            let made = call.name == "pickle.Unpickler";
            (!made).then(|| {
                Hit::of(
                    &PY_PICKLE_LOAD,
                    format!("{}() can run any code while it reads.", call.shown()),
                )
            })
        },
    },
    CallRule {
        names: &[
            "torch.load",
            "torch.jit.load",
            "torch.hub.load_state_dict_from_url",
            "torch.utils.model_zoo.load_url",
            "torchvision.models.utils.load_state_dict_from_url",
        ],
        judge: judge_torch,
    },
    CallRule {
        names: &[
            "yaml.load",
            "yaml.load_all",
            "yaml.unsafe_load",
            "yaml.unsafe_load_all",
            "yaml.full_load_all",
            "ruamel.yaml.load",
            "ruamel.yaml.unsafe_load",
            "ruamel.yaml.YAML",
        ],
        judge: judge_yaml,
    },
    CallRule {
        names: &["numpy.load"],
        judge: |call| {
            let allowed = call
                .argument(2, "allow_pickle")
                .is_some_and(|v| !v.is_false());
            allowed.then(|| {
                Hit::of(
                    &PY_NUMPY_PICKLE,
                    "numpy.load() reads pickles (allow_pickle=True).",
                )
            })
        },
    },
    CallRule {
        names: &[
            "joblib.load",
            "shelve.open",
            "shelve.Shelf",
            "shelve.DbfilenameShelf",
            "shelve.BsdDbShelf",
            "pandas.read_pickle",
            "pandas.io.pickle.read_pickle",
            "sklearn.externals.joblib.load",
            "skops.io.load",
            "keras.models.load_model",
            "tensorflow.keras.models.load_model",
            "lightgbm.Booster",
            "spacy.load",
            "mlflow.pyfunc.load_model",
        ],
        judge: judge_joblib,
    },
    CallRule {
        names: &["marshal.loads", "marshal.load"],
        judge: |call| {
            Some(Hit::of(
                &PY_MARSHAL_LOAD,
                format!("{}() reads bytecode.", call.shown()),
            ))
        },
    },
];

fn judge_torch(call: &CallSite<'_>) -> Option<Hit> {
    if call.name == "torch.jit.load" {
        return None;
    }
    if call.is_on("weights_only") {
        return None;
    }
    let message = match call.keyword("weights_only") {
        None => format!(
            "{}() reads a pickle, without weights_only=True.",
            call.shown()
        ),
        Some(_) => format!(
            "{}() reads a pickle that may run code (weights_only is not True).",
            call.shown()
        ),
    };
    let severity = if call.name == "torch.load" {
        Severity::Medium
    } else {
        Severity::Low
    };
    Some(Hit::of(&PY_TORCH_LOAD, message).at(severity))
}

fn judge_yaml(call: &CallSite<'_>) -> Option<Hit> {
    if call.name == "ruamel.yaml.YAML" {
        let kind = call.keyword("typ").and_then(super::Value::as_text);
        let makes_objects = kind.is_some_and(|k| &*k == "unsafe");
        return makes_objects.then(|| {
            Hit::of(
                &PY_YAML_LOAD,
                "The YAML reader makes any object that it is asked for.",
            )
        });
    }
    let loader = call.argument(1, "Loader");
    let safe = loader.and_then(|l| l.name()).is_some_and(|name| {
        let last = super::last_segment(name);
        matches!(
            last,
            ".SafeLoader" | ".CSafeLoader" | ".BaseLoader" | ".CBaseLoader" | ".RoundTripLoader"
        )
    });
    let unsafe_name = call.name.contains("unsafe");
    if safe && !unsafe_name {
        return None;
    }
    // FullLoader makes no objects of its own accord; it had holes until PyYAML 5.4.
    let full = loader
        .and_then(|l| l.name())
        .is_some_and(|n| super::last_segment(n) == ".FullLoader");
    let hit = Hit::of(
        &PY_YAML_LOAD,
        format!(
            "{}() makes any object that the YAML asks for.",
            call.shown()
        ),
    );
    Some(if full { hit.at(Severity::Low) } else { hit })
}

fn judge_joblib(call: &CallSite<'_>) -> Option<Hit> {
    if call.is_on("safe_mode") || call.name == "skops.io.load" {
        return None;
    }
    let quiet = ["keras", "lightgbm", "spacy", "mlflow"]
        .iter()
        .any(|k| call.name.contains(k));
    let hit = Hit::of(
        &PY_JOBLIB_LOAD,
        format!("{}() reads pickles, which can run any code.", call.shown()),
    );
    let lax = call
        .keyword("safe_mode")
        .is_some_and(super::Value::is_false);
    let quiet = quiet && !lax;
    Some(if quiet { hit.at(Severity::Low) } else { hit })
}

pub(in crate::scan::python) const FLOWS: &[FlowRule] = &[
    FlowRule {
        names: &[
            "pickle.load",
            "pickle.loads",
            "pickle.Unpickler",
            "cloudpickle.load",
            "cloudpickle.loads",
            "dill.load",
            "dill.loads",
            "jsonpickle.decode",
        ],
        arguments: &[Argument::At(0, "file")],
        sink: Sink::Deser,
        rule: &PY_PICKLE_LOAD,
    },
    FlowRule {
        names: &["marshal.loads", "marshal.load"],
        arguments: &[Argument::At(0, "bytes")],
        sink: Sink::Deser,
        rule: &PY_MARSHAL_LOAD,
    },
    FlowRule {
        names: &["yaml.unsafe_load"],
        arguments: &[Argument::At(0, "stream")],
        sink: Sink::Deser,
        rule: &PY_YAML_LOAD,
    },
    FlowRule {
        names: &["joblib.load", "pandas.read_pickle", "shelve.open"],
        arguments: &[Argument::At(0, "filename")],
        sink: Sink::Deser,
        rule: &PY_JOBLIB_LOAD,
    },
];
