//! Compares the wanted generation, and the live one if it is another, with what lies on the disk.

use super::live::LiveState;
use crate::desired::venv::VenvSpec;
use crate::desired::{Desired, GenerationSpec};
use crate::ids::GenerationId;
use crate::manifest::IsolationMode;
use crate::plan::ids::AccountIds;
use crate::plan::look::Look;
use crate::plan::observed::{GenerationCheck, Seen, TreeDifference};
use crate::plan::select::ResourceSelection;

/// What was observed of the code.
pub(crate) struct CodeObservation {
    pub live: LiveState,
    pub target: CodeTarget,
}

/// What the code is to become.
pub(crate) enum CodeTarget {
    /// No part of it is selected, and no link has to move.
    Unselected,
    /// Its packages cannot be chosen: no interpreter, or a lock that does not serve this machine;
    /// why.
    WithoutPython(String),
    /// This generation.
    Generation(Box<TargetGeneration>),
}

/// The wanted generation, and how much of it exists.
pub(crate) struct TargetGeneration {
    pub id: GenerationId,
    pub spec: GenerationSpec,
    /// `None`: it is not built yet.
    pub check: Option<GenerationCheck>,
    /// Of the generation that is live now, if it is another.
    pub live_check: Option<GenerationCheck>,
    /// The differences in the wanted virtual environment; `None`: it does not exist.
    pub venv: Option<Vec<TreeDifference>>,
    /// The interpreter that comfy has to install for it, by version, and its differences; `None`:
    /// it does not exist.
    pub interpreter: Option<(String, Option<Vec<TreeDifference>>)>,
}

impl TargetGeneration {
    /// Returns whether it exists and is intact.
    pub(crate) fn is_intact(&self) -> bool {
        self.check.as_ref().is_some_and(GenerationCheck::is_intact)
    }
}

/// Looks at `current`, at the generation that is wanted, and at what it needs.
pub(crate) fn observe(
    d: &Desired,
    look: &dyn Look,
    ids: &AccountIds,
    only: &ResourceSelection,
) -> Seen<CodeObservation> {
    let live = LiveState::observe(&d.paths, look)?;
    let target = observe_target(d, look, ids, only, &live)?;
    Ok(CodeObservation { live, target })
}

fn observe_target(
    d: &Desired,
    look: &dyn Look,
    ids: &AccountIds,
    only: &ResourceSelection,
    live: &LiveState,
) -> Seen<CodeTarget> {
    let paths = &d.paths;
    let selected = only.touches_code(live.spec(), &d.code);
    let mut wish = d.code.clone();
    if selected {
        match select_venv(d, look, ids)? {
            Ok(venv) => wish.venv = Some(venv),
            Err(why) => return Ok(CodeTarget::WithoutPython(why)),
        }
    }
    let Some(spec) = only.target_generation(live.spec(), &wish) else {
        return Ok(CodeTarget::Unselected);
    };
    let same_links = |l: &GenerationSpec| {
        l.mounts == spec.mounts && l.external_model_dirs == spec.external_model_dirs
    };
    if !selected && live.spec().is_none_or(same_links) {
        return Ok(CodeTarget::Unselected);
    }
    let (check, venv) = rayon::join(
        || look.check_generation(paths, &spec, ids),
        || match &spec.venv {
            Some(v) => look.check_venv(paths, v, ids),
            None => Ok(None),
        },
    );
    let (check, venv) = (check?, venv?);
    let own = spec
        .venv
        .as_ref()
        .filter(|v| v.interpreter.path.starts_with(paths.interpreters_dir()))
        .map(|v| v.interpreter.version.clone());
    let interpreter = match own {
        Some(v) => {
            let found = look.managed_check(paths, &v, ids)?;
            Some((v, found))
        }
        None => None,
    };
    let id = spec.id();
    let live_check = match live {
        LiveState::Generation(other, Some(l)) if *other != id => {
            look.check_generation(paths, l, ids)?
        }
        _ => None,
    };
    Ok(CodeTarget::Generation(Box::new(TargetGeneration {
        id,
        spec,
        check,
        live_check,
        venv,
        interpreter,
    })))
}

/// Selects the virtual environment for the interpreter that exists, or that comfy would install.
fn select_venv(d: &Desired, look: &dyn Look, ids: &AccountIds) -> Seen<Result<VenvSpec, String>> {
    let own = |why| match &d.python.managed {
        Some(version) => Ok(look.managed_interpreter(&d.paths, version)),
        None => Err(why),
    };
    let target = match d.python_target() {
        Ok(target) => target,
        Err(p) => return Ok(Err(p.to_string())),
    };
    // Of the Pythons that a Mac's owner installs, Homebrew's can be replaced by every administrator,
    // and disappears with an upgrade.
    let found = match &d.python.managed {
        Some(version) if d.isolation == IsolationMode::Account && d.platform.os.is_macos() => {
            Ok(look.managed_interpreter(&d.paths, version))
        }
        _ => look.find_interpreter(d, ids)?.or_else(own),
    };
    let interpreter = match found {
        Ok(i) => i,
        Err(why) => return Ok(Err(why)),
    };
    let enabled = |node: &str| d.code.nodes.contains_key(node);
    Ok(
        VenvSpec::select_packages(&d.python, interpreter, &target, &d.owner.home, enabled)
            .map_err(|p| p.to_string()),
    )
}
