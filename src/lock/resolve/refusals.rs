//! What uv's refusals of the variants of a lock say, put together.

use std::collections::BTreeMap;

use super::settle::Refusal;
use super::variants::VariantSolver;
use crate::lock::uv::UvError;
use crate::lock::uv::response;
use crate::lock::uv::response::lacks::{PackageLack, read_lacks};
use crate::lock::uv::variant::LockVariant;
use crate::problem::{Problem, Result};

/// How a refusal begins.
const BEGIN: &str = "Python packages: ";

impl VariantSolver<'_> {
    pub(super) fn refusal(&self, problem: Problem) -> Refusal {
        Refusal {
            problem,
            lacks: self.lacks.lock().unwrap_or_else(|e| e.into_inner()).clone(),
            routes: self
                .routes
                .lock()
                .unwrap_or_else(|e| e.into_inner())
                .clone(),
        }
    }

    /// Explains why a variant cannot be solved, and notes what it lacks.
    pub(super) fn explained(&self, e: UvError, variant: &LockVariant) -> Problem {
        let parts = self.members.iter().enumerate();
        let parts = parts.map(|(i, (part, _))| (format!("comfy-part-{i}"), part.clone()));
        let no_solution = response::is_no_solution(&e);
        self.note_lacks(read_lacks(&e, &variant.platforms), variant);
        let p = response::explain_no_solution(
            e,
            &parts.collect(),
            &variant.platforms,
            self.asks,
            self.manifest,
        );
        let Some(a) = variant.accelerator.as_ref().filter(|_| no_solution) else {
            return p;
        };
        let routes = variant.routes(&self.manifest.python.indexes);
        let mut by_index: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (package, from) in &routes {
            for (index, _) in from {
                by_index.entry(index).or_default().push(package);
            }
        }
        let own: Vec<String> = by_index
            .iter()
            .map(|(index, packages)| format!("{} from index \"{index}\"", packages.join(", ")))
            .collect();
        let route = format!(
            "machines with {} take {} only: choose versions that are there, or remove \
             the accelerator from [python] indexes",
            a.word(),
            own.join(" and ")
        );
        let mut routes = self.routes.lock().unwrap_or_else(|e| e.into_inner());
        routes.insert(route.clone());
        p.with_hint(route)
    }

    /// Notes what a refusal of one variant says that packages lack.
    fn note_lacks(&self, lacks: Vec<PackageLack>, variant: &LockVariant) {
        let all = &self.manifest.python.platforms;
        let mut known = self.lacks.lock().unwrap_or_else(|e| e.into_inner());
        for lack in lacks {
            let lack = match &variant.accelerator {
                Some(a) => lack.for_accelerator(a.word(), &variant.platforms, all),
                None => lack,
            };
            lack.merge_into(&mut known, all);
        }
        // The variants are asked at the same time.
        known.sort_by(|a, b| a.package.cmp(&b.package));
    }
}

/// Returns the answers of all variants, or all refusals with the accelerators' names: what is refused
/// to several alike is told once.
pub(super) fn all_or_every_refusal<T>(
    variants: &[LockVariant],
    answers: Vec<Result<T>>,
) -> Result<Vec<T>> {
    let mut all = Vec::new();
    let mut refusals: Vec<(Vec<&str>, Problem)> = Vec::new();
    for (variant, answer) in variants.iter().zip(answers) {
        let p = match answer {
            Ok(answer) => {
                all.push(answer);
                continue;
            }
            Err(p) if p.is_interrupted() => return Err(p),
            Err(p) => p,
        };
        match refusals.iter_mut().find(|(_, r)| r.message == p.message) {
            Some((words, known)) => {
                words.push(variant.word());
                for hint in p.hints {
                    if !known.hints.contains(&hint) {
                        known.hints.push(hint);
                    }
                }
            }
            None => refusals.push((vec![variant.word()], p)),
        }
    }
    if refusals.is_empty() {
        return Ok(all);
    }
    let named = refusals.into_iter().map(|(words, p)| Problem {
        message: match p.message.strip_prefix(BEGIN) {
            Some(rest) => format!("Python packages for {}: {rest}", words.join(", ")),
            None => p.message,
        },
        ..p
    });
    Err(Problem::from_many(named.collect()))
}
