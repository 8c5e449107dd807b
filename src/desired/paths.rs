//! Where everything of one instance lies.

use std::path::{Path, PathBuf};

use crate::ids::Part;
use crate::manifest::platforms::OperatingSystem;

/// Where everything of one instance lies.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct InstancePaths {
    pub prefix: PathBuf,
    /// `PREFIX/<sandbox_user>`.
    pub base: PathBuf,
    pub records: PathBuf,
    /// The sandbox user's home; `None` under isolation "none".
    pub home: Option<PathBuf>,
}

impl InstancePaths {
    /// Returns where code and packages are without `host.prefix`. Root's home is no place for what
    /// others may have to read.
    pub(crate) fn default_prefix(none: bool, owner: u32, data_home: &Path) -> PathBuf {
        if none && owner != 0 {
            data_home.to_path_buf()
        } else {
            PathBuf::from("/opt/comfy")
        }
    }
    pub(crate) fn generations_dir(&self) -> PathBuf {
        self.base.join("gen")
    }
    pub(crate) fn generation_dir(&self, id: &str) -> PathBuf {
        self.base.join("gen").join(id)
    }
    pub(crate) fn current_link(&self) -> PathBuf {
        self.base.join("current")
    }
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.base.join("state")
    }
    /// Returns a folder of `state/`: owned by the sandbox user, in a folder that it cannot change.
    pub(crate) fn state_of(&self, name: &str) -> PathBuf {
        self.state_dir().join(name)
    }
    /// Returns whether comfy makes an entry of that name in `state/`.
    pub(crate) fn is_state(name: &str) -> bool {
        Self::STATE.contains(&name) || ["input", "output", Self::STATE_HOME].contains(&name)
    }
    /// The folders that every `state/` has. `cache` is for code, and cleared when the code or its
    /// packages change; `downloads` is for data, and kept.
    pub(crate) const STATE: [&str; 6] = ["user", "temp", "cache", "downloads", "core", "nodes"];
    /// Under isolation "none": the home that programs see.
    pub(crate) const STATE_HOME: &str = "home";
    /// The most that is kept in `state/downloads`.
    pub(crate) fn kept_record(&self) -> PathBuf {
        self.records.join("kept.json")
    }
    /// The file that says which generation `state/cache` belongs to.
    pub(crate) fn cache_owner(&self) -> PathBuf {
        self.records.join("cache")
    }
    /// The folder of a part's `writable` paths.
    pub(crate) fn written_by(state: &Path, part: &Part) -> PathBuf {
        match part {
            Part::Node(name) => state.join("nodes").join(name),
            Part::Comfyui => state.join("core"),
        }
    }
    /// The folder in a generation for a part's shadowed tracked content.
    pub(crate) fn tracked(part: &Part) -> PathBuf {
        match part {
            Part::Node(name) => Path::new("tracked/custom_nodes").join(name),
            Part::Comfyui => PathBuf::from("tracked"),
        }
    }
    pub(crate) fn staging_dir(&self) -> PathBuf {
        self.base.join(".staging")
    }
    pub(crate) fn staged_generation(&self, id: &str) -> PathBuf {
        self.base.join(".staging").join(format!("gen-{id}"))
    }

    /// Whether an entry of the staging folder is something that is being built: a generation, a
    /// virtual environment, an interpreter, the folder of a job, or copies of wheels.
    pub(crate) fn is_staged(name: &std::ffi::OsStr) -> bool {
        ["gen-", "venv-", "python-", "job-", "wheels-"]
            .iter()
            .any(|kind| name.to_string_lossy().starts_with(kind))
    }
    pub(crate) fn store_dir(&self) -> PathBuf {
        self.base.join(".staging/store")
    }
    /// Bare repositories.
    pub(crate) fn git_store(&self) -> PathBuf {
        self.base.join(".staging/store/git")
    }
    /// uv's cache of interpreters.
    pub(crate) fn python_store(&self) -> PathBuf {
        self.base.join(".staging/store/python")
    }
    pub(crate) fn venvs_dir(&self) -> PathBuf {
        self.base.join("venv")
    }
    pub(crate) fn venv_dir(&self, id: &str) -> PathBuf {
        self.base.join("venv").join(id)
    }
    pub(crate) fn staged_venv(&self, id: &str) -> PathBuf {
        self.base.join(".staging").join(format!("venv-{id}"))
    }
    pub(crate) fn interpreters_dir(&self) -> PathBuf {
        self.base.join("python")
    }
    /// An interpreter that comfy installed, by its full version.
    pub(crate) fn interpreter_dir(&self, version: &str) -> PathBuf {
        self.base.join("python").join(version)
    }
    /// The list of its files.
    pub(crate) fn python_list(&self, version: &str) -> PathBuf {
        self.records.join(format!("python-{version}.json"))
    }
    /// The list of a virtual environment's files.
    pub(crate) fn venv_list(&self, id: &str) -> PathBuf {
        self.records.join(format!("venv-{id}.json"))
    }
    /// The list of a generation's bytecode files.
    pub(crate) fn bytecode_list(&self, id: &str) -> PathBuf {
        self.records.join(format!("bytecode-{id}.json"))
    }
    /// The launch that an apply wrote.
    pub(crate) fn launch_record(&self) -> PathBuf {
        self.records.join("launch.json")
    }
    /// The record of what runs, and of how the last launch exited.
    pub(crate) fn running_record(&self) -> PathBuf {
        self.records.join("live.json")
    }
    pub(crate) fn exit_record(&self) -> PathBuf {
        self.records.join("ended.json")
    }
    /// The socket of a launch.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.records.join("control")
    }
    /// The folder of ComfyUI's logs, owned by the owner.
    pub(crate) fn logs_dir(&self) -> PathBuf {
        self.records.join("log")
    }
    /// The results of import checks; owned by the owner.
    pub(crate) fn import_results(&self) -> PathBuf {
        self.logs_dir().join("health.json")
    }
    /// The generation whose import check is pending.
    pub(crate) fn pending_import_check(&self) -> PathBuf {
        self.logs_dir().join("owed")
    }
    /// How the gateway of a running launch is reached; readable only by the owner.
    pub(crate) fn gateway_credentials(&self) -> PathBuf {
        self.records.join("front.json")
    }
    /// The record of the boot in which the egress filter was loaded.
    pub(crate) fn egress_filter_record(&self) -> PathBuf {
        self.records.join("fence")
    }
    /// The folder of records if there are two accounts.
    pub(crate) fn records_of(sandbox: &str, os: OperatingSystem) -> PathBuf {
        Path::new(if os.is_macos() {
            "/Library/Application Support/comfy"
        } else {
            "/var/lib/comfy"
        })
        .join(sandbox)
    }
    /// The cache of interpreters and their versions.
    pub(crate) fn interpreter_cache(&self) -> PathBuf {
        self.records.join("interpreters.json")
    }
    /// Downloaded models that are not in their share yet.
    pub(crate) fn downloads_dir(&self) -> PathBuf {
        self.base.join(".downloads")
    }
    /// The same folder in older versions, for all instances of a prefix.
    pub(crate) fn shared_downloads(&self) -> PathBuf {
        self.prefix.join(".downloads")
    }
    /// The recorded build uids of sandbox users, if they do not follow from the uid; for all
    /// instances of the machine.
    pub(crate) fn id_pairs(&self) -> PathBuf {
        self.records
            .parent()
            .unwrap_or(&self.records)
            .join("ids.json")
    }
    /// The hashes of models that an apply read.
    pub(crate) fn model_hashes(&self) -> PathBuf {
        self.records.join("model-hashes")
    }
    /// The program that starts it without asking, if installed.
    pub(crate) fn launcher_program(&self) -> PathBuf {
        self.base.join("bin/comfy")
    }
    pub(crate) fn trash_dir(&self) -> PathBuf {
        self.base.join("trash")
    }
    pub(crate) fn quarantine_dir(&self) -> PathBuf {
        self.base.join("quarantine")
    }
    pub(crate) fn inventory_file(&self) -> PathBuf {
        self.records.join("inventory.json")
    }
    pub(crate) fn stat_cache(&self) -> PathBuf {
        self.records.join("stat-cache")
    }
    pub(crate) fn fingerprints_file(&self) -> PathBuf {
        self.records.join("footprints.json")
    }
    pub(crate) fn tree_listings_dir(&self) -> PathBuf {
        self.records.join("trees")
    }
    pub(crate) fn audit_log(&self) -> PathBuf {
        self.records.join("audit.log")
    }
    pub(crate) fn receipts_dir(&self) -> PathBuf {
        self.records.join("receipts")
    }
}
