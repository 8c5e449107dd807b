//! Where everything of one instance lies.

use std::path::{Path, PathBuf};

use crate::ids::Part;

/// Where everything of one instance lies.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct InstancePaths {
    pub prefix: PathBuf,
    /// `PREFIX/<sandbox_user>`.
    pub base: PathBuf,
    pub records: PathBuf,
    /// The sandbox user's home; none of its own under isolation "none".
    pub home: Option<PathBuf>,
}

impl InstancePaths {
    pub fn generations_dir(&self) -> PathBuf {
        self.base.join("gen")
    }
    pub fn generation_dir(&self, id: &str) -> PathBuf {
        self.base.join("gen").join(id)
    }
    pub fn current_link(&self) -> PathBuf {
        self.base.join("current")
    }
    pub fn state_dir(&self) -> PathBuf {
        self.base.join("state")
    }
    /// A folder of `state/`: the sandbox user's own, in a folder that it cannot change.
    pub fn state_of(&self, name: &str) -> PathBuf {
        self.state_dir().join(name)
    }
    /// Whether comfy makes something of that name in `state/`.
    pub fn is_state(name: &str) -> bool {
        Self::STATE.contains(&name) || ["input", "output", Self::STATE_HOME].contains(&name)
    }
    /// What every `state/` holds. `cache` is for code, and emptied when the code or its packages
    /// change; `downloads` is for data, and kept.
    pub const STATE: [&str; 6] = ["user", "temp", "cache", "downloads", "core", "nodes"];
    /// Under isolation "none": what programs take for a home.
    pub const STATE_HOME: &str = "home";
    /// How much is kept in `state/downloads`.
    pub fn kept_record(&self) -> PathBuf {
        self.records.join("kept.json")
    }
    /// Which generation `state/cache` belongs to.
    pub fn cache_owner(&self) -> PathBuf {
        self.records.join("cache")
    }
    /// Where a part's `writable` paths lie.
    pub fn written_by(state: &Path, part: &Part) -> PathBuf {
        match part {
            Part::Node(name) => state.join("nodes").join(name),
            Part::Comfyui => state.join("core"),
        }
    }
    /// Where, in a generation, a part's tracked content lies that something else stands in for.
    pub fn tracked(part: &Part) -> PathBuf {
        match part {
            Part::Node(name) => Path::new("tracked/custom_nodes").join(name),
            Part::Comfyui => PathBuf::from("tracked"),
        }
    }
    pub fn staging_dir(&self) -> PathBuf {
        self.base.join(".staging")
    }
    pub fn staged_generation(&self, id: &str) -> PathBuf {
        self.base.join(".staging").join(format!("gen-{id}"))
    }

    /// Whether an entry of the staging folder is something that is being built: a generation, a
    /// virtual environment, an interpreter, or the folder of a job.
    pub fn is_staged(name: &std::ffi::OsStr) -> bool {
        ["gen-", "venv-", "python-", "job-"]
            .iter()
            .any(|kind| name.to_string_lossy().starts_with(kind))
    }
    pub fn store_dir(&self) -> PathBuf {
        self.base.join(".staging/store")
    }
    /// Bare repositories.
    pub fn git_store(&self) -> PathBuf {
        self.base.join(".staging/store/git")
    }
    /// What uv keeps of interpreters.
    pub fn python_store(&self) -> PathBuf {
        self.base.join(".staging/store/python")
    }
    pub fn venvs_dir(&self) -> PathBuf {
        self.base.join("venv")
    }
    pub fn venv_dir(&self, id: &str) -> PathBuf {
        self.base.join("venv").join(id)
    }
    pub fn staged_venv(&self, id: &str) -> PathBuf {
        self.base.join(".staging").join(format!("venv-{id}"))
    }
    pub fn interpreters_dir(&self) -> PathBuf {
        self.base.join("python")
    }
    /// An interpreter of comfy's own, by its whole version.
    pub fn interpreter_dir(&self, version: &str) -> PathBuf {
        self.base.join("python").join(version)
    }
    /// What it holds, file by file.
    pub fn python_list(&self, version: &str) -> PathBuf {
        self.records.join(format!("python-{version}.json"))
    }
    /// What a virtual environment holds, file by file.
    pub fn venv_list(&self, id: &str) -> PathBuf {
        self.records.join(format!("venv-{id}.json"))
    }
    /// The bytecode of a generation, file by file.
    pub fn bytecode_list(&self, id: &str) -> PathBuf {
        self.records.join(format!("bytecode-{id}.json"))
    }
    /// How ComfyUI is launched.
    pub fn launch_record(&self) -> PathBuf {
        self.records.join("launch.json")
    }
    /// What runs, and how the last launch ended.
    pub fn running_record(&self) -> PathBuf {
        self.records.join("live.json")
    }
    pub fn exit_record(&self) -> PathBuf {
        self.records.join("ended.json")
    }
    /// The socket of a launch.
    pub fn control_socket(&self) -> PathBuf {
        self.records.join("control")
    }
    /// What ComfyUI said: the owner's folder.
    pub fn logs_dir(&self) -> PathBuf {
        self.records.join("log")
    }
    /// Which generations could be loaded; the owner's.
    pub fn import_results(&self) -> PathBuf {
        self.logs_dir().join("health.json")
    }
    /// The generation of which that is to be found out still.
    pub fn pending_import_check(&self) -> PathBuf {
        self.logs_dir().join("owed")
    }
    /// How the front of a running launch is reached; the owner's alone.
    pub fn gateway_credentials(&self) -> PathBuf {
        self.records.join("front.json")
    }
    /// In which boot the firewall's rules were loaded.
    pub fn egress_filter_record(&self) -> PathBuf {
        self.records.join("fence")
    }
    /// Where records lie when there are two accounts.
    pub fn records_of(sandbox: &str, macos: bool) -> PathBuf {
        Path::new(if macos {
            "/Library/Application Support/comfy"
        } else {
            "/var/lib/comfy"
        })
        .join(sandbox)
    }
    /// Interpreters that were asked for their version.
    pub fn interpreter_cache(&self) -> PathBuf {
        self.records.join("interpreters.json")
    }
    /// What is fetched of models, and not in its share yet.
    pub fn downloads_dir(&self) -> PathBuf {
        self.base.join(".downloads")
    }
    /// The same as older versions had it, for all instances of a prefix.
    pub fn shared_downloads(&self) -> PathBuf {
        self.prefix.join(".downloads")
    }
    /// Which uids build for which sandbox users, where that is not a matter of arithmetic; for all
    /// instances of the machine.
    pub fn id_pairs(&self) -> PathBuf {
        self.records
            .parent()
            .unwrap_or(&self.records)
            .join("ids.json")
    }
    /// Hashes of models that an apply has read.
    pub fn model_hashes(&self) -> PathBuf {
        self.records.join("model-hashes")
    }
    /// What starts it without asking, where there is such a thing.
    pub fn launcher_program(&self) -> PathBuf {
        self.base.join("bin/comfy")
    }
    pub fn trash_dir(&self) -> PathBuf {
        self.base.join("trash")
    }
    pub fn quarantine_dir(&self) -> PathBuf {
        self.base.join("quarantine")
    }
    pub fn inventory_file(&self) -> PathBuf {
        self.records.join("inventory.json")
    }
    pub fn stat_cache(&self) -> PathBuf {
        self.records.join("stat-cache")
    }
    pub fn fingerprints_file(&self) -> PathBuf {
        self.records.join("footprints.json")
    }
    pub fn tree_listings_dir(&self) -> PathBuf {
        self.records.join("trees")
    }
    pub fn audit_log(&self) -> PathBuf {
        self.records.join("audit.log")
    }
    pub fn receipts_dir(&self) -> PathBuf {
        self.records.join("receipts")
    }
}
