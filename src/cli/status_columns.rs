//! The two columns of `status`: whether what is live is in step with comfy.lock, and whether it is
//! healthy.

use super::GlobalArgs;
use crate::desired::venv::VenvSpec;
use crate::desired::{Desired, GenerationSpec, InstancePaths};
use crate::ids::Part;
use crate::launch::log_writer::LogStatus;
use crate::project::ComfyProject;
use crate::records::import_results::ImportResults;
use crate::records::running::{self, RunningRecord};
use crate::text::{count_of, escape_text};

/// How the live generation differs from what comfy.toml and comfy.lock ask for.
#[derive(Debug, serde::Serialize)]
pub(super) struct LockStep {
    in_step: bool,
    /// Nodes that are added, removed or at another commit.
    nodes: Vec<String>,
    comfyui_differs: bool,
    /// Python or its packages; `None`: not known.
    python_differs: Option<bool>,
}

impl LockStep {
    /// `None`: not known, or nothing was applied.
    pub(super) fn read(global: &GlobalArgs, paths: &InstancePaths) -> Option<LockStep> {
        let project = ComfyProject::open(global).ok()?;
        let desired = super::desired_state(&project).ok()?;
        let live = running::live_spec(paths)?;
        let (mut nodes, mut comfyui_differs) = (Vec::new(), false);
        for part in desired.code.parts_unlike(&live) {
            match part {
                Part::Comfyui => comfyui_differs = true,
                Part::Node(name) => nodes.push(name),
            }
        }
        let python_differs = python_differs(&desired, &live);
        Some(LockStep {
            in_step: nodes.is_empty() && !comfyui_differs && python_differs == Some(false),
            nodes,
            comfyui_differs,
            python_differs,
        })
    }

    pub(super) fn is_in_step(&self) -> bool {
        self.in_step
    }

    fn text(&self) -> String {
        let mut what = Vec::new();
        if self.comfyui_differs {
            what.push("ComfyUI".to_string());
        }
        if !self.nodes.is_empty() {
            let names: Vec<String> = self.nodes.iter().map(|n| escape_text(n)).collect();
            let count = count_of(names.len(), "node");
            what.push(format!("{count} ({})", names.join(", ")));
        }
        if self.python_differs == Some(true) {
            what.push("Python packages".into());
        }
        match &what[..] {
            [] if self.in_step => "in step".into(),
            [] => "not known: `comfy plan` compares the Python packages".into(),
            _ => format!("behind in {}: run `comfy apply`", what.join(", ")),
        }
    }
}

/// Compares the packages with those that the live interpreter would get.
fn python_differs(desired: &Desired, live: &GenerationSpec) -> Option<bool> {
    let venv = live.venv.as_ref()?;
    let interpreter = &venv.interpreter;
    let is_own = interpreter
        .path
        .starts_with(desired.paths.interpreters_dir());
    let managed = desired.python.managed.as_ref().filter(|_| is_own);
    if interpreter.minor_version() != desired.python.version
        || managed.is_some_and(|m| *m != interpreter.version)
    {
        return Some(true);
    }
    let wanted = VenvSpec::select_packages(
        &desired.python,
        interpreter.clone(),
        &desired.python_target().ok()?,
        &desired.owner.home,
        |node| desired.code.nodes.contains_key(node),
    );
    Some(wanted.ok()?.id() != venv.id())
}

/// What loading the live generation showed.
#[derive(Debug, serde::Serialize)]
pub(super) struct CodeHealth {
    healthy: bool,
    /// `launch`: the one that runs; `import_check`: the one after an apply.
    source: &'static str,
    /// RFC 3339: when it was loaded.
    when: String,
    nodes: usize,
    failed: Vec<(String, String)>,
    /// Nodes that loaded and printed an exception all the same.
    partial: Vec<(String, String)>,
    /// Why ComfyUI itself did not finish.
    stopped: Option<String>,
}

impl CodeHealth {
    /// `None`: it was not loaded yet.
    pub(super) fn read(
        paths: &InstancePaths,
        live: Option<(&RunningRecord, Option<&LogStatus>)>,
    ) -> Option<CodeHealth> {
        let current = running::current_generation(paths)?;
        if let Some((launch, Some(status))) = live
            && status.ready.is_some()
            && launch.generation == current
        {
            return Some(CodeHealth {
                healthy: status.failed.is_empty(),
                source: "launch",
                when: launch.since.clone(),
                nodes: launch.nodes.len(),
                failed: status.failed.clone(),
                partial: status.partial.clone(),
                stopped: None,
            });
        }
        let results = ImportResults::read(paths);
        let known = results.health_of(&current)?;
        Some(CodeHealth {
            healthy: known.is_good(),
            source: "import_check",
            when: known.when.clone(),
            nodes: known.nodes.len(),
            failed: known.failed.clone(),
            partial: known.partial.clone(),
            stopped: known.stopped.clone(),
        })
    }

    fn text(&self) -> String {
        let by = match self.source {
            "launch" => "this launch",
            _ => "the import check",
        };
        let when = escape_text(&self.when);
        if let Some(why) = &self.stopped {
            return format!("bad: {} ({by}, {when})", escape_text(why));
        }
        let loaded = self.nodes.saturating_sub(self.failed.len());
        let word = if self.healthy { "good" } else { "bad" };
        let nodes = count_of(self.nodes, "node");
        let mut out = format!("{word}: {loaded} of {nodes} loaded ({by}, {when})");
        // `nodes` has the reasons of a launch.
        for (node, why) in self.failed.iter().filter(|_| self.source != "launch") {
            let (node, why) = (escape_text(node), escape_text(why));
            out += &format!("\n            node.{node} failed to import: {why}");
        }
        out
    }
}

/// Returns both as lines of `status`; nothing where nothing was applied.
pub(super) fn columns_text(
    paths: &InstancePaths,
    step: Option<&LockStep>,
    health: Option<&CodeHealth>,
) -> String {
    if running::current_generation(paths).is_none() {
        return "\nlock        nothing is applied yet: run `comfy apply`".into();
    }
    let step = step.map_or_else(
        || "not known: comfy.toml or comfy.lock cannot be read".into(),
        LockStep::text,
    );
    let health = health.map_or_else(
        || "not known: it was not loaded since the apply".into(),
        CodeHealth::text,
    );
    format!("\nlock        {step}\nhealth      {health}")
}
