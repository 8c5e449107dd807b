//! Reads ComfyUI's output: which nodes failed to import, why, and the line of comfy.toml that
//! helps.

mod hints;
mod library_messages;
mod module_packages;

use std::collections::{BTreeMap, BTreeSet};

use self::library_messages::known_message;
use crate::desired::Desired;
use crate::manifest::{EgressPolicy, Manifest, ShareAccess};

/// The number of hints that are shown; more are only counted.
pub(crate) const HINTS: usize = 20;
/// The number of characters of a reason that are kept.
const REASON: usize = 500;

/// What comfy.toml says about a launch that its output does not.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(crate) struct LogContext {
    /// The requirements that each node's `ignore_requirements` leaves out.
    left_out: BTreeMap<String, Vec<String>>,
    shares: Vec<LoggedShare>,
    /// `None` if comfy.toml has a mistake.
    egress: Option<EgressPolicy>,
}

/// A share, as far as a message about a refused write needs it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct LoggedShare {
    name: String,
    path: String,
    mount: Option<String>,
    access: ShareAccess,
}

impl LogContext {
    pub(crate) fn new(m: &Manifest, d: &Desired) -> LogContext {
        let left_out = m
            .nodes
            .iter()
            .filter(|(_, n)| !n.ignore_requirements.is_empty());
        let shares = d.shares.iter().map(|s| LoggedShare {
            name: s.name.clone(),
            path: s.path.display().to_string(),
            mount: s.role.mount_path().map(String::from),
            access: s.access,
        });
        LogContext {
            left_out: left_out
                .map(|(name, n)| (name.clone(), n.ignore_requirements.clone()))
                .collect(),
            shares: shares.collect(),
            egress: Some(m.network.egress.clone()),
        }
    }
}

/// Collects facts from ComfyUI's log, line by line. Nodes can write anything there, so what is kept
/// is bounded.
#[derive(Debug, Default)]
pub(crate) struct ImportLog {
    nodes: BTreeSet<String>,
    context: LogContext,
    /// Why each node failed.
    failed: BTreeMap<String, String>,
    loaded: BTreeSet<String>,
    /// The last exception of each node whose traceback was printed.
    raised: BTreeMap<String, String>,
    /// A traceback that is being printed, with the node whose file it named last.
    traceback: Option<Option<String>>,
    /// The exceptions of the last traceback.
    chain: ExceptionChain,
    hints: BTreeSet<String>,
    more: u64,
}

/// Exceptions of which each is the direct cause of the next: libraries that import lazily raise one
/// that says nothing (`Could not import module 'BertModel'`).
#[derive(Debug, Default)]
struct ExceptionChain {
    first: Option<String>,
    last: Option<String>,
    continues: bool,
}

impl ExceptionChain {
    /// Takes the last line of a traceback.
    fn push_exception(&mut self, line: &str) {
        let line: String = line.chars().take(REASON).collect();
        if !self.continues {
            self.first = Some(line.clone());
        }
        self.last = Some(line);
        self.continues = false;
    }

    /// Returns what caused the exception whose message is `why`.
    fn cause_of(&self, why: &str) -> Option<&str> {
        let (first, last) = (self.first.as_deref()?, self.last.as_deref()?);
        (first != last && !why.is_empty() && last.ends_with(why)).then_some(first)
    }
}

impl ImportLog {
    /// Returns the log of a launch with these nodes; lines about other nodes are ignored.
    pub(crate) fn for_nodes(nodes: &[String], context: LogContext) -> ImportLog {
        ImportLog {
            nodes: nodes.iter().cloned().collect(),
            context,
            ..ImportLog::default()
        }
    }

    /// Takes one line, and returns a hint to print at once, if there is one.
    pub(crate) fn push_line(&mut self, line: &str) -> Option<String> {
        let line = line.trim_end();
        let (of, why) = match self.read_verdict(line) {
            Some((node, why)) => {
                let why: String = why.trim().chars().take(REASON).collect();
                let why = match self.chain.cause_of(&why) {
                    Some(cause) => format!("{}; its cause: {cause}", why.trim_end_matches(':')),
                    None => why,
                };
                self.failed.insert(node.clone(), why.clone());
                (Some(node), Some(why))
            }
            None => (self.follow_traceback(line), None),
        };
        let of = of.as_deref();
        let hint = self
            .denied_write(line, of)
            .or_else(|| self.denied_pip(line, of))
            .or_else(|| self.denied_host(line))
            .or_else(|| known_message(line))
            // What a node does without is no reason to install anything.
            .or_else(|| self.missing_name(why.as_deref()?, of))
            .or_else(|| self.missing_module(why.as_deref()?, of))?;
        if self.hints.iter().any(|h| same_remedy(h, &hint)) {
            return None;
        }
        if self.hints.len() >= HINTS {
            self.more += 1;
            return None;
        }
        self.hints.insert(hint.clone());
        Some(hint)
    }

    /// Reads what ComfyUI itself says about a node (`load_custom_node` and `init_external_custom_nodes`
    /// of its nodes.py); returns the node and the reason if it failed.
    fn read_verdict(&mut self, line: &str) -> Option<(String, String)> {
        let known = |path: &str| Some(node_name(path)).filter(|n| self.nodes.contains(n));
        for (before, between) in [
            ("Cannot import ", " module for custom nodes: "),
            ("Error while calling comfy_entrypoint in ", ": "),
        ] {
            let Some((path, why)) = line
                .split_once(before)
                .and_then(|(_, rest)| rest.split_once(between))
            else {
                continue;
            };
            return Some((known(path)?, why.into()));
        }
        if let Some(node) = line
            .split_once("(IMPORT FAILED): ")
            .and_then(|(_, path)| known(path))
        {
            let raised = self.raised.get(&node).cloned();
            self.failed
                .entry(node)
                .or_insert_with(|| raised.unwrap_or_else(|| "ComfyUI does not say why".into()));
        } else if let Some(node) = line
            .split_once(" seconds: ")
            .filter(|(_, p)| p.contains("/custom_nodes/"))
            .and_then(|(_, path)| known(path))
        {
            self.loaded.insert(node);
        }
        None
    }

    /// Follows a traceback as Python prints it. Returns the node in whose files it is.
    fn follow_traceback(&mut self, line: &str) -> Option<String> {
        if line
            .trim_start()
            .starts_with("Traceback (most recent call last)")
        {
            self.traceback = Some(None);
            return None;
        }
        if self.traceback.is_none() {
            // Between two tracebacks are an empty line and this one.
            self.chain.continues = match line {
                "" => self.chain.continues,
                _ => line.contains("exception was the direct cause of the following exception"),
            };
        }
        let node = self.traceback.as_mut()?;
        if let Some((_, rest)) = line
            .trim_start()
            .starts_with("File \"")
            .then(|| line.split_once("/custom_nodes/"))
            .flatten()
        {
            let name = rest.split(['/', '"']).next().unwrap_or_default();
            if self.nodes.contains(name) {
                *node = Some(name.into());
            }
        }
        // Its last line is the exception, and the only one that is not indented.
        if line.is_empty() || line.starts_with([' ', '\t']) {
            return node.clone();
        }
        self.chain.push_exception(line);
        let node = self.traceback.take().flatten()?;
        let what = line.chars().take(REASON).collect();
        self.raised.insert(node.clone(), what);
        Some(node)
    }

    /// Returns the number of hints beyond the first [`HINTS`].
    pub(crate) fn suppressed_hints(&self) -> u64 {
        self.more
    }

    /// Returns those of `nodes` that were reported neither as loaded nor as failed, because ComfyUI
    /// exited first.
    pub(crate) fn unmentioned_nodes(&self, nodes: &[String]) -> Vec<String> {
        nodes
            .iter()
            .filter(|n| !self.loaded.contains(*n) && !self.failed.contains_key(*n))
            .cloned()
            .collect()
    }

    /// Returns those of `nodes` that failed to import, and why.
    pub(crate) fn failed_nodes(&self, nodes: &[String]) -> Vec<(String, String)> {
        nodes
            .iter()
            .filter_map(|n| Some((n.clone(), self.failed.get(n)?.clone())))
            .collect()
    }

    /// Returns those of `nodes` that were loaded and printed an exception all the same: a part of
    /// them is missing.
    pub(crate) fn partial_nodes(&self, nodes: &[String]) -> Vec<(String, String)> {
        let partial = |n: &&String| self.loaded.contains(*n) && !self.failed.contains_key(*n);
        nodes
            .iter()
            .filter(partial)
            .filter_map(|n| Some((n.clone(), self.raised.get(n)?.clone())))
            .collect()
    }
}

/// Returns the line below the hints if there are more.
pub(crate) fn more_hints_line(n: u64) -> Option<String> {
    (n > 0).then(|| format!("and {n} more in the log"))
}

/// Returns whether two hints ask for the same line or command about a share: one is enough, however
/// many folders the nodes want there.
fn same_remedy(a: &str, b: &str) -> bool {
    fn share(h: &str) -> Option<&str> {
        let at = h
            .find(": [shares.")
            .or_else(|| h.find("`comfy apply --only share."))?;
        Some(&h[at..])
    }
    a == b || (share(a).is_some() && share(a) == share(b))
}

fn node_name(path: &str) -> String {
    path.trim()
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::import_results::nodes_summary;

    /// What these lines of ComfyUI say to a user, with the summary.
    fn told(nodes: &[&str], context: LogContext, text: &str) -> String {
        let nodes: Vec<String> = nodes.iter().map(|n| n.to_string()).collect();
        let mut log = ImportLog::for_nodes(&nodes, context);
        let mut said: Vec<String> = text.lines().filter_map(|l| log.push_line(l)).collect();
        said.extend(nodes_summary(
            &nodes,
            &log.failed_nodes(&nodes),
            &log.partial_nodes(&nodes),
        ));
        said.join("\n")
    }

    #[test]
    fn a_failed_import_is_told_with_what_helps() {
        let text = "Cannot import /opt/comfy/s/gen/1/ComfyUI/custom_nodes/a module for custom \
            nodes: [Errno 13] Permission denied: \
            '/opt/comfy/s/gen/1/ComfyUI/custom_nodes/a/pysssss.json'
Cannot import /x/ComfyUI/custom_nodes/b module for custom nodes: No module named 'cv2'
ModuleNotFoundError: No module named 'optional_for_c'
PermissionError: [Errno 13] Permission denied: '/x/ComfyUI/custom_nodes/unknown/x'
Import times for custom nodes:
   0.0 seconds: /x/ComfyUI/custom_nodes/c
   0.1 seconds (IMPORT FAILED): /x/ComfyUI/custom_nodes/a
PermissionError: [Errno 13] Permission denied: '/x/ComfyUI/web'
PermissionError: [Errno 13] Permission denied: '/x/ComfyUI/comfy/evil'";
        insta::assert_snapshot!(told(&["a", "b", "c"], LogContext::default(), text), @r#"
        ComfyUI reports that node.a tried to write pysssss.json: if you agree, add to comfy.toml, then `comfy apply`: [nodes.a] writable = ["pysssss.json"]
        ComfyUI reports that the module cv2 is missing for node.b: it is part of the package `opencv-python-headless`; to install it, add to comfy.toml, then `comfy lock` and `comfy apply`: [python] requirements = ["opencv-python-headless"]
        ComfyUI reports that a node tried to write web/extensions: if you agree, add to comfy.toml, then `comfy apply`: [comfyui] writable = ["web/extensions"]
        1 of 3 nodes loaded
        node.a failed to import: [Errno 13] Permission denied: '/opt/comfy/s/gen/1/ComfyUI/custom_nodes/a/pysssss.json'
        node.b failed to import: No module named 'cv2'
        "#);
    }

    #[test]
    fn a_package_for_another_numpy_and_a_path_with_dots_are_told_as_comfy_toml_takes_them() {
        let node = "/x/ComfyUI/custom_nodes/manager";
        let text = format!(
            "PermissionError: [Errno 13] Permission denied: '{node}/service/models/../../hash'\n\
             AttributeError: _ARRAY_API not found\n\
             Cannot import {node} module for custom nodes: numpy.core.multiarray failed to \
             import\nRuntimeError: Added route will never be executed, method HEAD is already \
             registered\n"
        );
        insta::assert_snapshot!(told(&["manager"], LogContext::default(), &text), @r#"
        ComfyUI reports that node.manager tried to write hash: if you agree, add to comfy.toml, then `comfy apply`: [nodes.manager] writable = ["hash"]
        ComfyUI reports that a package was compiled for NumPy 1, and a later NumPy is installed: in comfy.toml, then `comfy lock` and `comfy apply`: [python] requirements = ["numpy<2"]
        ComfyUI reports that two nodes answer at the same address, so that it cannot start: `comfy bisect` finds one of them; then `enabled = false` in its section of comfy.toml
        0 of 1 node loaded
        node.manager failed to import: numpy.core.multiarray failed to import
        "#);
    }

    #[test]
    fn a_machine_without_a_card_is_told_the_argument() {
        let text = "  File \"/x/torch/cuda/__init__.py\", line 616, in _lazy_init\n    \
                    torch._C._cuda_init()\nRuntimeError: Found no NVIDIA driver on your system. \
                    Please check that you have an NVIDIA GPU\n";
        insta::assert_snapshot!(told(&[], LogContext::default(), text), @r#"
        ComfyUI reports that PyTorch finds no card in this machine: to let it use the processor, in comfy.toml, then `comfy apply`: [comfyui] args = ["--cpu"]
        0 of 0 nodes loaded
        "#);
    }

    #[test]
    fn the_true_cause_of_what_sixty_nodes_said() {
        let shares = [
            ("models", "models", ShareAccess::Read),
            ("out", "output", ShareAccess::Add),
        ];
        let context = LogContext {
            left_out: [("trt".to_string(), vec!["tensorrt>=10".to_string()])].into(),
            shares: shares
                .map(|(name, mount, access)| LoggedShare {
                    name: name.into(),
                    path: format!("/srv/ai/{name}"),
                    mount: Some(mount.into()),
                    access,
                })
                .into(),
            egress: Some(EgressPolicy::Only(vec!["hf.test:443".into()])),
        };
        let text = r#"Traceback (most recent call last):
  File "/x/ComfyUI/nodes.py", line 2154, in load_custom_node
    module_spec.loader.exec_module(module)
  File "/x/ComfyUI/custom_nodes/florence/nodes.py", line 12, in <module>
    os.makedirs(model_directory)
PermissionError: [Errno 13] Permission denied: '/x/ComfyUI/models/LLM'

Cannot import /x/ComfyUI/custom_nodes/florence module for custom nodes: [Errno 13] Permission denied: '/x/ComfyUI/models/LLM'
Cannot import /x/ComfyUI/custom_nodes/trt module for custom nodes: No module named 'tensorrt'
Cannot import /x/ComfyUI/custom_nodes/quant module for custom nodes: No module named 'nunchaku'
Cannot import /x/ComfyUI/custom_nodes/qr module for custom nodes: No module named 'comfyui_secret_pkg'
Error while calling comfy_entrypoint in /x/ComfyUI/custom_nodes/v3: cannot import name 'io' from 'comfy_api.latest'
Traceback (most recent call last):
  File "/x/ComfyUI/custom_nodes/masquerade/MaskNodes.py", line 9, in <module>
    subprocess.check_call([sys.executable, "-m", "pip", "-q", "install", "qrcode"])
subprocess.CalledProcessError: Command '['/x/venv/bin/python', '-m', 'pip', '-q', 'install', 'qrcode']' returned non-zero exit status 1.
Traceback (most recent call last):
  File "/x/ComfyUI/custom_nodes/alek/translate.py", line 3, in <module>
    from filelock import FileLock
OSError: [Errno 40] Too many levels of symbolic links: '/x/ComfyUI/custom_nodes/alek/.install.lock'
Traceback (most recent call last):
  File "/x/ComfyUI/custom_nodes/alek/parts/ide.py", line 3, in <module>
ModuleNotFoundError: No module named 'js2py'
PermissionError: [Errno 13] Permission denied: '/srv/ai/out/old.png'
huggingface: HTTPSConnectionPool(host='cdn.test', port=443): Max retries exceeded (Caused by NameResolutionError("Temporary failure in name resolution"))
huggingface: HTTPSConnectionPool(host='hf.test', port=443): Connection refused
comfy: ComfyUI tried to reach pypi.test:443, which network.egress does not allow; to allow it: x
Import times for custom nodes:
   0.0 seconds: /x/ComfyUI/custom_nodes/alek
   0.0 seconds: /x/ComfyUI/custom_nodes/masquerade
   0.0 seconds (IMPORT FAILED): /x/ComfyUI/custom_nodes/quiet"#;
        let nodes = [
            "alek",
            "florence",
            "masquerade",
            "qr",
            "quant",
            "quiet",
            "trt",
            "v3",
        ];
        insta::assert_snapshot!(told(&nodes, context, text), @r#"
        ComfyUI reports that node.florence tried to write LLM in share models, which is read-only for ComfyUI: if you agree, write in comfy.toml, then `comfy apply`: [shares.models] access = "add"
        ComfyUI reports that node.trt needs the module tensorrt, which comfy.toml leaves out: [nodes.trt] ignore_requirements = ["tensorrt>=10"]. Without its package this node does not load
        ComfyUI reports that the module nunchaku is missing for node.quant: the package index has no wheel of it; it comes from github.com/nunchaku-tech/nunchaku; the index has an unrelated package of that name. comfy installs what an index serves: if you trust it and have an index with a wheel for this Python, name that in [python] indexes of comfy.toml
        ComfyUI reports that the module comfyui_secret_pkg is missing for node.qr: find out which package it comes from, and whether you trust that package, before you add it to `requirements` in [python] of comfy.toml
        ComfyUI reports that node.v3 needs comfy_api.latest.io, which this ComfyUI does not have: the node was made for another version. In comfy.toml choose a newer `ref` in [comfyui], or a `ref` in [nodes.v3] that fits, then `comfy lock` and `comfy apply`
        ComfyUI reports that node.masquerade ran pip to install qrcode. The environment is sealed, so pip cannot change it: if you trust what it wants to install, add it to `requirements` in [python] of comfy.toml, then `comfy lock` and `comfy apply`
        ComfyUI reports that node.alek does not open .install.lock through a link, and a writable file is one. If it is a lock of the package filelock, an older version opens it; in comfy.toml, then `comfy lock` and `comfy apply`: [python] requirements = ["filelock<3.20"]
        ComfyUI reports that a node tried to write old.png in share out, which is one to which ComfyUI only adds: if you agree, write in comfy.toml, then `comfy apply`: [shares.out] access = "write"
        ComfyUI reports that it could not reach cdn.test:443, which network.egress does not allow: if you agree, write in comfy.toml, then `comfy apply`: [network] egress = ["hf.test:443", "cdn.test:443"]
        ComfyUI reports that it could not reach pypi.test:443, which network.egress does not allow: if you agree, write in comfy.toml, then `comfy apply`: [network] egress = ["hf.test:443", "pypi.test:443"]
        2 of 8 nodes loaded
        node.florence failed to import: [Errno 13] Permission denied: '/x/ComfyUI/models/LLM'
        node.qr failed to import: No module named 'comfyui_secret_pkg'
        node.quant failed to import: No module named 'nunchaku'
        node.quiet failed to import: ComfyUI does not say why
        node.trt failed to import: No module named 'tensorrt'
        node.v3 failed to import: cannot import name 'io' from 'comfy_api.latest'
        node.alek loaded, but a part of it reported: ModuleNotFoundError: No module named 'js2py'
        node.masquerade loaded, but a part of it reported: subprocess.CalledProcessError: Command '['/x/venv/bin/python', '-m', 'pip', '-q', 'install', 'qrcode']' returned non-zero exit status 1.
        "#);
    }

    #[test]
    fn the_first_exception_and_the_version_that_does_not_fit_are_told() {
        let shares = vec![LoggedShare {
            name: "models".into(),
            path: "/srv/ai/models".into(),
            mount: Some("models".into()),
            access: ShareAccess::Read,
        }];
        let wheel = "https://x.test/llama_cpp_python-1-cp311-cp311-linux_x86_64.whl; python_version == \"3.11\"";
        let context = LogContext {
            left_out: [("llm".to_string(), vec![wheel.to_string()])].into(),
            shares,
            egress: None,
        };
        let text = r#"Traceback (most recent call last):
  File "/x/venv/lib/python3.11/site-packages/transformers/utils/import_utils.py", line 2317, in __getattr__
    module = self._get_module(self._class_to_module[name])
KeyError: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/x/venv/lib/python3.11/site-packages/torchaudio/_extension/utils.py", line 180, in _check_cuda_version
    raise RuntimeError(
RuntimeError: Detected that PyTorch and TorchAudio were compiled with different CUDA versions.

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/x/ComfyUI/nodes.py", line 2154, in load_custom_node
    module_spec.loader.exec_module(module)
  File "/x/ComfyUI/custom_nodes/supir/nodes.py", line 12, in <module>
    from transformers import CLIPTextModel
ModuleNotFoundError: Could not import module 'CLIPTextModel'. Are this object's requirements defined correctly?

Cannot import /x/ComfyUI/custom_nodes/supir module for custom nodes: Could not import module 'CLIPTextModel'. Are this object's requirements defined correctly?
Traceback (most recent call last):
  File "/x/ComfyUI/custom_nodes/layers/nodes.py", line 1, in <module>
    import tokens
ModuleNotFoundError: No module named 'sentencepiece'

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/x/ComfyUI/custom_nodes/layers/nodes.py", line 3, in <module>
RuntimeError: Failed to import diffusers.loaders.peft because of the following error (look up to see its traceback):

Cannot import /x/ComfyUI/custom_nodes/layers module for custom nodes: Failed to import diffusers.loaders.peft because of the following error (look up to see its traceback):
Cannot import /x/ComfyUI/custom_nodes/multi module for custom nodes: No module named 'comfy.memory_management'
Cannot import /x/ComfyUI/custom_nodes/tooling module for custom nodes: cannot import name 'Anima' from 'comfy.model_base' (/x/ComfyUI/comfy/model_base.py)
Cannot import /x/ComfyUI/custom_nodes/video module for custom nodes: cannot import name '_validate' from 'transformers.processing_utils' (/x/transformers/processing_utils.py)
Cannot import /x/ComfyUI/custom_nodes/paths module for custom nodes: module 'folder_paths' has no attribute 'get_x'
Cannot import /x/ComfyUI/custom_nodes/clips module for custom nodes: No module named 'moviepy.editor'
Cannot import /x/ComfyUI/custom_nodes/pack module for custom nodes: No module named 'impact.subpack_nodes'
Cannot import /x/ComfyUI/custom_nodes/llm module for custom nodes: No module named 'llama_cpp'
PermissionError: [Errno 13] Permission denied: '/x/ComfyUI/models/LLM'
PermissionError: [Errno 13] Permission denied: '/x/ComfyUI/models/sam3'"#;
        let nodes = [
            "clips", "layers", "llm", "multi", "pack", "paths", "supir", "tooling", "video",
        ];
        insta::assert_snapshot!(told(&nodes, context, text), @r#"
        ComfyUI reports that the module sentencepiece is missing for node.layers: it is part of the package `sentencepiece`; to install it, add to comfy.toml, then `comfy lock` and `comfy apply`: [python] requirements = ["sentencepiece"]
        ComfyUI reports that node.multi needs comfy.memory_management, which this ComfyUI does not have: the node was made for another version. In comfy.toml choose a newer `ref` in [comfyui], or a `ref` in [nodes.multi] that fits, then `comfy lock` and `comfy apply`
        ComfyUI reports that node.tooling needs comfy.model_base.Anima, which this ComfyUI does not have: the node was made for another version. In comfy.toml choose a newer `ref` in [comfyui], or a `ref` in [nodes.tooling] that fits, then `comfy lock` and `comfy apply`
        ComfyUI reports that node.video needs transformers.processing_utils._validate, which the installed version of the package `transformers` does not have. Find out which version the node was made for, and choose it in comfy.toml, then `comfy lock` and `comfy apply`: [python] overrides = ["transformers==VERSION"]
        ComfyUI reports that node.paths needs folder_paths.get_x, which this ComfyUI does not have: the node was made for another version. In comfy.toml choose a newer `ref` in [comfyui], or a `ref` in [nodes.paths] that fits, then `comfy lock` and `comfy apply`
        ComfyUI reports that node.clips needs moviepy.editor, which the installed version of the package `moviepy` does not have. Find out which version the node was made for, and choose it in comfy.toml, then `comfy lock` and `comfy apply`: [python] overrides = ["moviepy==VERSION"]
        ComfyUI reports that the module impact.subpack_nodes is missing for node.pack: if it is one of the node's own files, its install.py may fetch it, which comfy does not run: choose another `ref` in [nodes.pack]. If it is a part of a package, choose another version of that with [python] overrides
        ComfyUI reports that node.llm needs the module llama_cpp, which comfy.toml leaves out: [nodes.llm] ignore_requirements = ['https://x.test/llama_cpp_python-1-cp311-cp311-linux_x86_64.whl; python_version == "3.11"']. Without its package this node does not load
        ComfyUI reports that a node tried to write LLM in share models, which is read-only for ComfyUI: if you agree, write in comfy.toml, then `comfy apply`: [shares.models] access = "add"
        0 of 9 nodes loaded
        node.clips failed to import: No module named 'moviepy.editor'
        node.layers failed to import: Failed to import diffusers.loaders.peft because of the following error (look up to see its traceback); its cause: ModuleNotFoundError: No module named 'sentencepiece'
        node.llm failed to import: No module named 'llama_cpp'
        node.multi failed to import: No module named 'comfy.memory_management'
        node.pack failed to import: No module named 'impact.subpack_nodes'
        node.paths failed to import: module 'folder_paths' has no attribute 'get_x'
        node.supir failed to import: Could not import module 'CLIPTextModel'. Are this object's requirements defined correctly?; its cause: RuntimeError: Detected that PyTorch and TorchAudio were compiled with different CUDA versions.
        node.tooling failed to import: cannot import name 'Anima' from 'comfy.model_base' (/x/ComfyUI/comfy/model_base.py)
        node.video failed to import: cannot import name '_validate' from 'transformers.processing_utils' (/x/transformers/processing_utils.py)
        "#);
    }

    #[test]
    fn whatever_a_node_says_little_is_kept() {
        let mut log = ImportLog::for_nodes(&["a".to_string()], LogContext::default());
        let said = (0..100_000)
            .flat_map(|n| {
                [
                    format!("OSError: [Errno 13] x: '/x/ComfyUI/custom_nodes/a/f{n}'"),
                    format!(
                        "Cannot import /x/custom_nodes/n{n} module for custom nodes: {}",
                        "y".repeat(100)
                    ),
                    format!("   0.0 seconds: /x/custom_nodes/l{n}"),
                    "Traceback (most recent call last):".into(),
                    format!("  File \"/x/custom_nodes/t{n}/x.py\", line 1"),
                    "ValueError: x".into(),
                ]
            })
            .filter_map(|line| log.push_line(&line))
            .count();
        log.push_line(&format!(
            "Cannot import /x/custom_nodes/a module for custom nodes: {}",
            "z".repeat(16_000)
        ));
        assert_eq!(
            (said, more_hints_line(log.suppressed_hints())),
            (HINTS, Some("and 99980 more in the log".into()))
        );
        assert_eq!(
            (
                log.hints.len(),
                log.failed.len(),
                log.failed["a"].len(),
                log.loaded.len(),
                log.raised.len(),
            ),
            (HINTS, 1, REASON, 0, 0)
        );
    }
}
