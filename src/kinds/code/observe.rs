//! Compares the wanted generation, and the live one if it is another, with what lies on the disk.

use super::live::LiveState;
use crate::desired::venv::VenvSpec;
use crate::desired::{Desired, GenerationSpec};
use crate::ids::GenerationId;
use crate::plan::ids::AccountIds;
use crate::plan::look::Look;
use crate::plan::observed::{GenerationCheck, Seen, TreeDifference};
use crate::plan::select::ResourceSelection;

/// What was seen of the code.
pub struct CodeObservation {
    pub live: LiveState,
    pub target: CodeTarget,
}

/// What the code is to become.
pub enum CodeTarget {
    /// None of it is selected, and none of its links has to move.
    Unselected,
    /// No interpreter can be had for it; why.
    WithoutPython(String),
    /// This generation.
    Generation(Box<TargetGeneration>),
}

/// The wanted generation, and what there is of it.
pub struct TargetGeneration {
    pub id: GenerationId,
    pub spec: GenerationSpec,
    /// None: it is not built yet.
    pub check: Option<GenerationCheck>,
    /// Of the generation that is live now, if it is another.
    pub live_check: Option<GenerationCheck>,
    /// What is off in the wanted virtual environment; `None`: there is none.
    pub venv: Option<Vec<TreeDifference>>,
    /// The interpreter that comfy has to have of its own for it, by version, and what is off with
    /// that; `None`: it is not there.
    pub interpreter: Option<(String, Option<Vec<TreeDifference>>)>,
}

impl TargetGeneration {
    /// Whether it is there, and as it should be.
    pub fn is_intact(&self) -> bool {
        self.check.as_ref().is_some_and(GenerationCheck::is_intact)
    }
}

/// Looks at `current`, at the generation that is wanted, and at what it needs.
pub fn observe(
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

/// The virtual environment for the interpreter that is there, or that comfy would have of its own.
fn select_venv(d: &Desired, look: &dyn Look, ids: &AccountIds) -> Seen<Result<VenvSpec, String>> {
    let own = |why| match &d.python.managed {
        Some(version) => Ok(look.managed_interpreter(&d.paths, version)),
        None => Err(why),
    };
    let interpreter = match look.find_interpreter(d, ids)?.or_else(own) {
        Ok(i) => i,
        Err(why) => return Ok(Err(why)),
    };
    let enabled = |node: &str| d.code.nodes.contains_key(node);
    Ok(
        VenvSpec::select_packages(&d.python, interpreter, &d.platform, enabled)
            .map_err(|p| p.to_string()),
    )
}
