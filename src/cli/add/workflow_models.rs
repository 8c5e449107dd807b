//! The models that a workflow names: which are there, and from where the others come.

use std::collections::BTreeSet;

use crate::cli::add::workflow::Answer;
use crate::desired::below_home;
use crate::host::models::resolver;
use crate::lock::ModelPin;
use crate::manifest::edit::SectionLines;
use crate::manifest::{MODELS, hub_pages, names};
use crate::problem::Result;
use crate::project::ComfyProject;
use crate::text::escape_text;
use crate::workflow::{NamedModel, Workflow};

/// What is said of each model.
pub(super) fn model_answers(
    project: &ComfyProject,
    workflow: &Workflow,
) -> Result<Vec<(String, Answer)>> {
    if workflow.models.is_empty() {
        return Ok(Vec::new());
    }
    let home = project.owner()?.home;
    let mut on_disk: Vec<(String, String)> = Vec::new();
    for (share, s) in &project.manifest.shares {
        if s.role.holds_models() {
            let files = resolver::share_files(&below_home(&home, &s.path))?;
            let shown = files
                .into_iter()
                .filter(|(path, _)| s.role.shows_path(path));
            on_disk.extend(shown.map(|(path, _)| (share.clone(), path)));
        }
    }
    on_disk.sort();
    let lock = project.lock.as_ref().map(|(lock, _)| lock);
    let declared: Vec<DeclaredModel> = project
        .manifest
        .models
        .keys()
        .map(|path| DeclaredModel {
            path,
            pin: lock.and_then(|l| l.models.get(path)).map(|p| &**p),
        })
        .collect();
    let answer = |(name, model): (&String, &NamedModel)| {
        (name.clone(), model_answer(name, model, &declared, &on_disk))
    };
    Ok(workflow.models.iter().map(answer).collect())
}

/// Whether a path in a share is the file that a node names: below the folder of its kind.
fn is_named(path: &str, name: &str) -> bool {
    path == name
        || path
            .strip_suffix(name)
            .is_some_and(|rest| rest.ends_with('/'))
}

/// A model of comfy.toml, and its pin where it has one.
struct DeclaredModel<'a> {
    path: &'a str,
    pin: Option<&'a ModelPin>,
}

impl DeclaredModel<'_> {
    /// Whether its bytes are those that the workflow names by a hash; `None` where either side does
    /// not say.
    fn has_bytes_of(&self, model: &NamedModel) -> Option<bool> {
        let pin = self.pin?;
        let by = |named: &BTreeSet<String>, own: String| {
            (!named.is_empty()).then(|| named.contains(&own))
        };
        by(&model.sha256, pin.sha256.to_string())
            .or_else(|| by(&model.blake3, pin.blake3?.to_string()))
    }
}

/// What comfy.toml has: by name, and by the bytes that the workflow names.
fn declared_answer(name: &str, model: &NamedModel, declared: &[DeclaredModel]) -> Option<Answer> {
    let has_bytes = |m: &&DeclaredModel| m.has_bytes_of(model) == Some(true);
    let named: Vec<&DeclaredModel> = declared.iter().filter(|m| is_named(m.path, name)).collect();
    let same: Vec<&DeclaredModel> = named.iter().copied().filter(has_bytes).collect();
    let list = |all: &[&DeclaredModel]| {
        let all: Vec<String> = all.iter().map(|m| escape_text(m.path)).collect();
        all.join(" and ")
    };
    Some(match (&same[..], &named[..]) {
        ([one], _) => Answer::Found(format!("model {}", escape_text(one.path))),
        (_, [one]) if one.has_bytes_of(model) == Some(false) => Answer::Ambiguous(format!(
            "comfy.toml has {}, whose hash is not the one that the workflow names",
            escape_text(one.path)
        )),
        (_, [one]) => Answer::Found(format!("model {}", escape_text(one.path))),
        (_, [_, _, ..]) => Answer::Ambiguous(format!("comfy.toml has {}", list(&named))),
        (_, []) => {
            let twins: Vec<&DeclaredModel> = declared.iter().filter(has_bytes).collect();
            if twins.is_empty() {
                return None;
            }
            Answer::Ambiguous(format!(
                "comfy.toml has {} with the hash that the workflow names: choose it in the workflow",
                list(&twins)
            ))
        }
    })
}

fn model_answer(
    name: &str,
    model: &NamedModel,
    declared: &[DeclaredModel],
    on_disk: &[(String, String)],
) -> Answer {
    if let Some(answer) = declared_answer(name, model, declared) {
        return answer;
    }
    let there: Vec<&(String, String)> = on_disk.iter().filter(|(_, p)| is_named(p, name)).collect();
    match there[..] {
        [(share, path)] => {
            let share_line = (share != MODELS).then(|| ("share", share.as_str().into()));
            let lines: SectionLines = share_line.into_iter().collect();
            let detail = format!("{} of share {share} is adopted", escape_text(path));
            return Answer::Known(path.clone(), lines, detail);
        }
        [] => {}
        _ => {
            let all: Vec<String> = there
                .iter()
                .map(|(s, p)| format!("{} of share {s}", escape_text(p)))
                .collect();
            return Answer::Ambiguous(format!("there are {}", all.join(" and ")));
        }
    }
    let sources: BTreeSet<String> = model
        .urls
        .iter()
        .filter_map(|u| hub_pages::source_of_address(u))
        .collect();
    let one_of = |set: &BTreeSet<String>| match set.len() {
        1 => set.first().cloned(),
        _ => None,
    };
    if sources.len() > 1 {
        let all: Vec<String> = sources.iter().map(|s| escape_text(s)).collect();
        return Answer::Ambiguous(format!("the workflow names {}", all.join(" and ")));
    }
    let (Some(source), Some(folder)) = (one_of(&sources), one_of(&model.directories)) else {
        let why = if model.urls.is_empty() {
            "it is in no share, and the workflow does not say where it comes from"
        } else if sources.is_empty() {
            "comfy does not fetch from the address that the workflow names"
        } else {
            "the workflow does not say in which folder it belongs"
        };
        return Answer::Unknown(why.into());
    };
    let path = format!("{folder}/{name}");
    if let Err(why) = names::check_relative(&path) {
        return Answer::Unknown(format!("its path {why}"));
    }
    let mut lines: SectionLines = vec![("source", source.as_str().into())];
    lines.extend(one_of(&model.sha256).map(|h| ("sha256", h.into())));
    let detail = format!("{} from {}", escape_text(&path), escape_text(&source));
    Answer::Known(path, lines, detail)
}
