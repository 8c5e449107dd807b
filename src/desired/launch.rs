//! The launch as data: written by an apply, read by `run`, which never reads comfy.toml.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::{GenerationSpec, InstancePaths};
use crate::desired::share_spec::ShareSpec;
use crate::manifest::platforms::OperatingSystem;
use crate::manifest::{LaunchSession, NetworkSettings};
use crate::problem::{Problem, Result};
use crate::text::{did_you_mean, escape_text};

/// How ComfyUI is launched on this machine, apart from the code itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct LaunchSpec {
    pub format: u32,
    pub paths: InstancePaths,
    /// False under isolation "none": the launch does not change its user.
    pub account: bool,
    #[serde(rename = "macos")]
    pub os: OperatingSystem,
    pub owner: u32,
    pub user: String,
    pub uid: u32,
    pub gid: u32,
    /// The group of the records, if it is not the owner's primary group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records_gid: Option<u32>,
    pub listen: String,
    pub port: u16,
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub open_files: u64,
    /// Bytes of memory kept for the system.
    #[serde(rename = "reserve")]
    pub memory_reserve: u64,
    /// The uid of the gateway, which serves ComfyUI's port; no account has it.
    #[serde(rename = "front")]
    pub gateway_uid: u32,
    pub network: NetworkSettings,
    /// `allow_remote`: clients on other machines may connect.
    #[serde(rename = "remote")]
    pub allow_remote: bool,
    /// If true, the launch fails if the kernel cannot enforce the whole confinement.
    #[serde(rename = "strict")]
    pub require_confinement: bool,
    pub input: PathBuf,
    pub output: PathBuf,
    pub shares: Vec<ShareSpec>,
    /// For each share behind links of the owner: the path as written, and the real one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<(PathBuf, PathBuf)>,
    #[serde(default, skip_serializing_if = "is_own")]
    pub session: LaunchSession,
}

fn is_own(session: &LaunchSession) -> bool {
    *session == LaunchSession::Own
}

pub(crate) const FORMAT: u32 = 3;

/// Caches in which libraries keep code, or something that they load as code: below `state/cache`,
/// which is cleared when code or packages change. (huggingface_hub and PyTorch, "Environment
/// variables"; CUDA, "Just-in-time cache"; CuPy, Numba, Triton, Matplotlib alike.)
const CODE_CACHES: [(&str, &str); 12] = [
    ("XDG_CACHE_HOME", ""),
    ("HF_HOME", "huggingface"),
    ("HF_MODULES_CACHE", "huggingface/modules"),
    ("TORCH_HOME", "torch"),
    ("TORCH_EXTENSIONS_DIR", "torch_extensions"),
    ("TORCHINDUCTOR_CACHE_DIR", "inductor"),
    ("PYTORCH_KERNEL_CACHE_PATH", "torch_kernels"),
    ("TRITON_CACHE_DIR", "triton"),
    ("MPLCONFIGDIR", "matplotlib"),
    ("NUMBA_CACHE_DIR", "numba"),
    ("CUDA_CACHE_PATH", "cuda"),
    ("CUPY_CACHE_DIR", "cupy"),
];
/// Caches of downloads: below `state/downloads`, which is kept. PyTorch's checkpoints get there
/// through a link in `state/cache`.
const DATA_CACHES: [(&str, &str); 4] = [
    ("HF_HUB_CACHE", "huggingface/hub"),
    ("HF_XET_CACHE", "huggingface/xet"),
    ("HF_DATASETS_CACHE", "huggingface/datasets"),
    ("U2NET_HOME", "u2net"),
];

/// Ports inside the launch's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InnerPorts {
    pub comfyui: u16,
    /// The port of the egress proxy, if there is a gateway.
    pub proxy: Option<u16>,
}

/// A process to start.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct LaunchCommand {
    pub program: PathBuf,
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub folder: PathBuf,
    /// Flags that comfy would pass, but this ComfyUI does not know.
    pub lacking: Vec<String>,
}

/// Reads the flags of a `comfy/cli_args.py` as text: every string that looks like one.
pub(crate) fn parse_flags(text: &str) -> BTreeSet<String> {
    // Not by pairs of quotes: a help text may have an apostrophe.
    text.match_indices("--")
        .filter_map(|(at, _)| {
            let quote = text[..at]
                .chars()
                .next_back()
                .filter(|c| matches!(c, '"' | '\''))?;
            let rest = &text[at + 2..];
            let end =
                rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')))?;
            let whole = end > 0 && rest[end..].starts_with(quote);
            whole.then(|| format!("--{}", &rest[..end]))
        })
        .collect()
}

impl LaunchSpec {
    pub(crate) fn listen_address(&self) -> String {
        let host = if self.listen.contains(':') {
            format!("[{}]", self.listen)
        } else {
            self.listen.clone()
        };
        format!("http://{host}:{}", self.port)
    }

    /// Returns the folders in `state/`: each is mounted, or allowed, separately.
    pub(crate) fn state_children(&self) -> Vec<PathBuf> {
        let unshared = [("input", &self.input), ("output", &self.output)]
            .into_iter()
            .filter(|(name, at)| self.paths.state_of(name) == **at);
        let home = self
            .paths
            .home
            .is_none()
            .then_some(InstancePaths::STATE_HOME);
        InstancePaths::STATE
            .into_iter()
            .chain(unshared.map(|(name, _)| name))
            .chain(home)
            .map(|name| self.paths.state_of(name))
            .collect()
    }

    /// Gives `command` empty caches in `scratch`, a private folder of the sandbox user: the caches
    /// in `state/` belong to other code.
    pub(crate) fn keep_aside(&self, command: &mut LaunchCommand, scratch: &std::path::Path) {
        let cache = self.paths.state_of("cache");
        for value in command.env.values_mut() {
            if let Ok(rest) = std::path::Path::new(value.as_str()).strip_prefix(&cache) {
                *value = scratch.join(rest).display().to_string();
            }
        }
    }

    /// Returns whether a gateway serves the port: if there are two accounts, only the gateway can
    /// reach the port on which ComfyUI listens.
    pub(crate) fn behind_gateway(&self) -> bool {
        self.account
    }

    /// Builds the command that launches generation `id`, listening on these ports. comfy's own
    /// flags come last: argparse lets the last one win.
    ///
    /// # Errors
    /// If an extra argument is reserved for comfy, or the pinned ComfyUI does not know it.
    pub(crate) fn launch_command(
        &self,
        id: &str,
        generation: &GenerationSpec,
        known: &BTreeSet<String>,
        extra: &[String],
        ports: InnerPorts,
    ) -> Result<LaunchCommand> {
        let top = self.paths.generation_dir(id);
        let state = self.paths.state_dir();
        let mut problems = Vec::new();
        for a in extra {
            let name = a.split('=').next().unwrap_or(a);
            if let Some(flag) = crate::manifest::reserved_flag(a) {
                problems.push(
                    Problem::new(format!(
                        "`{}` sets {flag}, which comfy sets itself",
                        escape_text(a)
                    ))
                    .with_hint(
                        "address and port are `listen` and `port` in comfy.toml, folders are \
                            shares",
                    ),
                );
            }
            if a.chars().any(char::is_control) {
                problems.push(
                    Problem::new(format!("`{}` has a control character", escape_text(a)))
                        .with_hint("remove it"),
                );
            }
            // Abbreviations that argparse accepts are fine.
            if name.starts_with("--") && !known.iter().any(|k| k.starts_with(name)) {
                let p = Problem::new(format!("this ComfyUI has no flag `{}`", escape_text(name)));
                problems.push(match did_you_mean(name, known.iter().map(String::as_str)) {
                    Some(k) => p.with_hint(format!("did you mean `{k}`?")),
                    None => p.with_hint(format!(
                        "its flags are in {}",
                        top.join("ComfyUI/comfy/cli_args.py").display()
                    )),
                });
            }
        }
        if !problems.is_empty() {
            return Err(Problem::from_many(problems));
        }
        let mut command = LaunchCommand {
            program: top.join("venv/bin/python"),
            folder: top.join("ComfyUI"),
            ..LaunchCommand::default()
        };
        command.args = ["-s", "main.py"].map(String::from).into();
        // The graphics card shares this memory; ComfyUI counts in gigabytes (comfy/cli_args.py). A
        // later flag of the user wins.
        if self.os.is_macos() && self.memory_reserve > 0 && known.contains("--reserve-vram") {
            command.args.extend([
                "--reserve-vram".to_string(),
                format!("{:.2}", self.memory_reserve as f64 / f64::from(1 << 30)),
            ]);
        }
        command.args.extend(self.args.iter().chain(extra).cloned());
        let path = |p: PathBuf| p.display().to_string();
        let nodes: Vec<String> = generation.nodes.keys().cloned().collect();
        let own: Vec<(&str, Vec<String>)> = vec![
            (
                "--listen",
                vec![if self.behind_gateway() {
                    "127.0.0.1".into()
                } else {
                    self.listen.clone()
                }],
            ),
            ("--port", vec![ports.comfyui.to_string()]),
            ("--user-directory", vec![path(state.join("user"))]),
            // ComfyUI creates and removes a folder `temp` in it.
            ("--temp-directory", vec![path(state.join("temp"))]),
            ("--input-directory", vec![path(self.input.clone())]),
            ("--output-directory", vec![path(self.output.clone())]),
            (
                "--database-url",
                vec![format!("sqlite:///{}", path(state.join("user/comfyui.db")))],
            ),
            (
                "--extra-model-paths-config",
                vec![path(top.join("extra_model_paths.yaml"))],
            ),
            ("--disable-auto-launch", vec![]),
            // Only locked nodes are loaded, whatever else is in the folder.
            ("--disable-all-custom-nodes", vec![]),
            ("--whitelist-custom-nodes", nodes),
        ];
        let whitelist = known.contains("--whitelist-custom-nodes");
        for (flag, values) in own {
            let nothing_to_list = flag == "--whitelist-custom-nodes" && values.is_empty();
            let alone = flag == "--disable-all-custom-nodes" && !whitelist;
            if !known.contains(flag) || alone {
                command.lacking.push(flag.into());
            } else if !nothing_to_list {
                command.args.push(flag.into());
                command.args.extend(values);
            }
        }
        // Nodes that are only a client of a company's server; newer versions renamed the flag.
        let no_clients = ["--disable-api-nodes", "--disable-partner-nodes"]
            .into_iter()
            .find(|f| known.contains(*f));
        if let Some(flag) = no_clients.filter(|_| !self.reaches_host("api.comfy.org")) {
            command.args.push(flag.into());
        }
        command.env = self.process_environment(&state, &top);
        self.set_proxy_env(ports.proxy, &mut command.env);
        Ok(command)
    }

    /// Makes `command` load everything and exit, with files of its own, because a ComfyUI may be
    /// running.
    pub(crate) fn import_check(
        &self,
        command: &mut LaunchCommand,
        known: &BTreeSet<String>,
        card: bool,
    ) {
        let state = self.paths.state_dir();
        // ComfyUI accepts only one flag of this group (comfy/cli_args.py).
        let chosen = [
            "--gpu-only",
            "--highvram",
            "--normalvram",
            "--lowvram",
            "--novram",
            "--cpu",
        ]
        .iter()
        .any(|f| command.args.iter().any(|a| a == f));
        let mut pass = |flag: &str, value: Option<String>| {
            if known.contains(flag) {
                command.args.push(flag.into());
                command.args.extend(value);
            }
        };
        // ComfyUI empties the folder when it starts.
        pass(
            "--temp-directory",
            Some(state.join("temp/load").display().to_string()),
        );
        pass("--database-url", Some("sqlite:///:memory:".into()));
        pass("--quick-test-for-ci", None);
        // A machine without a graphics card is not a fault of the code.
        if !self.os.is_macos() && !card && !chosen {
            pass("--cpu", None);
        }
        command.lacking.clear();
    }

    /// Returns whether `network.egress` allows https to a host.
    fn reaches_host(&self, host: &str) -> bool {
        self.network.egress.allows(host, 443)
    }

    /// Sets the variables that make libraries use the proxy, and not try what is blocked.
    fn set_proxy_env(&self, proxy: Option<u16>, env: &mut BTreeMap<String, String>) {
        let mut set = |name: &str, value: String| drop(env.insert(name.into(), value));
        if let Some(port) = proxy {
            for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"] {
                set(name, format!("http://127.0.0.1:{port}"));
            }
            for name in ["NO_PROXY", "no_proxy"] {
                set(name, "localhost,127.0.0.1,::1".into());
            }
        }
        if self.network.egress != crate::manifest::EgressPolicy::Allow {
            // huggingface_hub, "Environment variables"; consoledonottrack.com.
            set("HF_HUB_DISABLE_TELEMETRY", "1".into());
            set("DO_NOT_TRACK", "1".into());
        }
        if !self.reaches_host("huggingface.co") {
            for name in [
                "HF_HUB_OFFLINE",
                "TRANSFORMERS_OFFLINE",
                "HF_DATASETS_OFFLINE",
            ] {
                set(name, "1".into());
            }
        }
    }

    /// Builds the whole environment of the process.
    fn process_environment(
        &self,
        state: &std::path::Path,
        top: &std::path::Path,
    ) -> BTreeMap<String, String> {
        let mut env = self.env.clone();
        let cache = state.join("cache");
        let mut set = |name: &str, value: String| drop(env.insert(name.into(), value));
        let path = |p: PathBuf| p.display().to_string();
        let home = self
            .paths
            .home
            .clone()
            .unwrap_or_else(|| self.paths.state_of(InstancePaths::STATE_HOME));
        let downloads = self.paths.state_of("downloads");
        set("HOME", path(home));
        set("USER", self.user.clone());
        set("LOGNAME", self.user.clone());
        set("SHELL", "/bin/sh".into());
        set(
            "PATH",
            format!(
                "{}:/usr/local/bin:/opt/homebrew/bin:/usr/bin:/bin",
                top.join("venv/bin").display()
            ),
        );
        set(
            "LANG",
            if self.os.is_macos() {
                "en_US.UTF-8"
            } else {
                "C.UTF-8"
            }
            .into(),
        );
        set("TMPDIR", path(state.join("temp")));
        set("VIRTUAL_ENV", path(top.join("venv")));
        for (name, value) in [
            ("PYTHONDONTWRITEBYTECODE", "1"),
            ("PYTHONNOUSERSITE", "1"),
            ("PYTHONUNBUFFERED", "1"),
        ] {
            set(name, value.into());
        }
        for (name, folder) in CODE_CACHES {
            set(
                name,
                path(if folder.is_empty() {
                    cache.clone()
                } else {
                    cache.join(folder)
                }),
            );
        }
        for (name, folder) in DATA_CACHES {
            set(name, path(downloads.join(folder)));
        }
        if self.os.is_macos() {
            // PyTorch's own switch for operations that Metal lacks (pytorch.org, "MPS environment
            // variables").
            set("PYTORCH_ENABLE_MPS_FALLBACK", "1".into());
        }
        env
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_from_any_kind_of_quotes() {
        let text = "parser.add_argument(\"--listen\", \
            type=str)\nfp.add_argument('--fp8_e4m3fn-unet', help=\"a --fake one\")\n# --comment\n\
            group.add_argument(\"--novram\", help=\"When lowvram isn't enough.\")\n\
            group.add_argument(\"--cpu\", help=\"slow\")\n";
        assert_eq!(
            parse_flags(text).into_iter().collect::<Vec<_>>(),
            ["--cpu", "--fp8_e4m3fn-unet", "--listen", "--novram"]
        );
    }

    #[test]
    fn comfy_toml_sets_nothing_that_a_launch_sets() {
        for macos in [false, true] {
            let paths = InstancePaths {
                prefix: "/opt/comfy".into(),
                base: "/opt/comfy/x".into(),
                records: "/r".into(),
                home: Some("/home/x".into()),
            };
            let network = NetworkSettings {
                egress: crate::manifest::EgressPolicy::Allow,
                clients: crate::manifest::ClientPolicy::Primary,
            };
            let spec: LaunchSpec = serde_json::from_value(serde_json::json!({
                "format": FORMAT, "paths": paths, "account": true, "macos": macos, "owner": 1, "user": "x", "uid": 2, "gid": 2, "listen": "127.0.0.1",
                "port": 8188, "args": [], "env": {}, "open_files": 256, "reserve": 0, "front": 3, "network": network, "remote": false, "strict": true,
                "input": "/i", "output": "/o", "shares": [],
            }))
            .unwrap();
            // Metal's fallback is the only variable that comfy sets as a default.
            for name in spec
                .process_environment("/s".as_ref(), "/t".as_ref())
                .keys()
                .filter(|n| *n != "PYTORCH_ENABLE_MPS_FALLBACK")
            {
                assert!(
                    crate::manifest::env_vars::refusal_of(name).is_some(),
                    "{name}"
                );
            }
        }
    }
}
