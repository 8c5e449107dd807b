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
    /// The sandbox user's home; `None` under isolation "none".
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
    /// Returns a folder of `state/`: owned by the sandbox user, in a folder that it cannot change.
    pub fn state_of(&self, name: &str) -> PathBuf {
        self.state_dir().join(name)
    }
    /// Returns whether comfy makes an entry of that name in `state/`.
    pub fn is_state(name: &str) -> bool {
        Self::STATE.contains(&name) || ["input", "output", Self::STATE_HOME].contains(&name)
    }
    /// The folders that every `state/` has. `cache` is for code, and cleared when the code or its
    /// packages change; `downloads` is for data, and kept.
    pub const STATE: [&str; 6] = ["user", "temp", "cache", "downloads", "core", "nodes"];
    /// Under isolation "none": the home that programs see.
    pub const STATE_HOME: &str = "home";
    /// The most that is kept in `state/downloads`.
    pub fn kept_record(&self) -> PathBuf {
        self.records.join("kept.json")
    }
    /// The file that says which generation `state/cache` belongs to.
    pub fn cache_owner(&self) -> PathBuf {
        self.records.join("cache")
    }
    /// The folder of a part's `writable` paths.
    pub fn written_by(state: &Path, part: &Part) -> PathBuf {
        match part {
            Part::Node(name) => state.join("nodes").join(name),
            Part::Comfyui => state.join("core"),
        }
    }
    /// The folder in a generation for a part's shadowed tracked content.
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
    /// uv's cache of interpreters.
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
    /// An interpreter that comfy installed, by its full version.
    pub fn interpreter_dir(&self, version: &str) -> PathBuf {
        self.base.join("python").join(version)
    }
    /// The list of its files.
    pub fn python_list(&self, version: &str) -> PathBuf {
        self.records.join(format!("python-{version}.json"))
    }
    /// The list of a virtual environment's files.
    pub fn venv_list(&self, id: &str) -> PathBuf {
        self.records.join(format!("venv-{id}.json"))
    }
    /// The list of a generation's bytecode files.
    pub fn bytecode_list(&self, id: &str) -> PathBuf {
        self.records.join(format!("bytecode-{id}.json"))
    }
    /// The launch that an apply wrote.
    pub fn launch_record(&self) -> PathBuf {
        self.records.join("launch.json")
    }
    /// The record of what runs, and of how the last launch exited.
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
    /// The folder of ComfyUI's logs, owned by the owner.
    pub fn logs_dir(&self) -> PathBuf {
        self.records.join("log")
    }
    /// The results of import checks; owned by the owner.
    pub fn import_results(&self) -> PathBuf {
        self.logs_dir().join("health.json")
    }
    /// The generation whose import check is pending.
    pub fn pending_import_check(&self) -> PathBuf {
        self.logs_dir().join("owed")
    }
    /// How the gateway of a running launch is reached; readable only by the owner.
    pub fn gateway_credentials(&self) -> PathBuf {
        self.records.join("front.json")
    }
    /// The record of the boot in which the egress filter was loaded.
    pub fn egress_filter_record(&self) -> PathBuf {
        self.records.join("fence")
    }
    /// The folder of records if there are two accounts.
    pub fn records_of(sandbox: &str, macos: bool) -> PathBuf {
        Path::new(if macos {
            "/Library/Application Support/comfy"
        } else {
            "/var/lib/comfy"
        })
        .join(sandbox)
    }
    /// The cache of interpreters and their versions.
    pub fn interpreter_cache(&self) -> PathBuf {
        self.records.join("interpreters.json")
    }
    /// Downloaded models that are not in their share yet.
    pub fn downloads_dir(&self) -> PathBuf {
        self.base.join(".downloads")
    }
    /// The same folder in older versions, for all instances of a prefix.
    pub fn shared_downloads(&self) -> PathBuf {
        self.prefix.join(".downloads")
    }
    /// The recorded build uids of sandbox users, if they do not follow from the uid; for all
    /// instances of the machine.
    pub fn id_pairs(&self) -> PathBuf {
        self.records
            .parent()
            .unwrap_or(&self.records)
            .join("ids.json")
    }
    /// The hashes of models that an apply read.
    pub fn model_hashes(&self) -> PathBuf {
        self.records.join("model-hashes")
    }
    /// The program that starts it without asking, if installed.
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
