//! The two files as they were at an earlier commit: comfy.lock exactly, and comfy.toml with what
//! moved together with it taken back.

use git2::{Oid, Tree};

use super::LockRepository;
use super::walk::LockCommit;
use crate::problem::{Context, Problem, Result};
use crate::text::{count_of, escape_text, short_commit};

/// What a rollback writes.
pub(crate) struct EarlierFiles {
    pub lock: Vec<u8>,
    /// `None`: it stays as it is.
    pub manifest: Option<Vec<u8>>,
    /// The commits that are taken back, newest first.
    pub undone: Vec<LockCommit>,
    /// The commit that the files are of, if the user named one.
    target: Option<(Oid, String)>,
}

impl LockRepository {
    /// Makes the files as they were at `rev`; by default, before the newest commit that moved
    /// comfy.lock.
    ///
    /// # Errors
    /// There is no such state, or what happened to comfy.toml since cannot be kept.
    pub(crate) fn earlier_files(&self, rev: Option<&str>) -> Result<EarlierFiles> {
        let target = match rev {
            Some(rev) => Some((self.find_ancestor(rev)?, rev)),
            None => None,
        };
        let mut undone = Vec::new();
        for commit in self.walk()? {
            let commit = commit?;
            if let Some((target, _)) = target
                && self.contains(target, commit.id)?
            {
                break;
            }
            undone.push(commit);
            if target.is_none() {
                break;
            }
        }
        let lock = match (&target, undone.last()) {
            (Some((target, rev)), _) => self.files_of(*target)?.lock.ok_or_else(|| {
                Problem::new(format!(
                    "commit {} has no comfy.lock at {}",
                    escape_text(rev),
                    self.lock
                        .inside
                        .as_deref()
                        .unwrap_or(&self.lock.real)
                        .display()
                ))
            })?,
            (None, Some(newest)) => match newest.before {
                Some(before) => self.read_blob(before)?,
                None => {
                    return Err(Problem::new(format!(
                        "commit {} brought comfy.lock: there is no earlier state",
                        short_commit(&newest.id.to_string())
                    ))
                    .with_hint(
                        "to have other pins, change comfy.toml and run `comfy lock`, or `comfy update`; to \
                         remove what comfy made, run `comfy destroy`",
                    ));
                }
            },
            (None, None) => {
                return Err(
                    Problem::new(format!("{} is in no commit", self.lock.real.display()))
                        .with_hint(format!(
                            "commit it: {}",
                            self.git_line("add comfy.lock && git commit -m \"Pin ComfyUI\"")
                        )),
                );
            }
        };
        Ok(EarlierFiles {
            lock,
            manifest: self.earlier_manifest(&undone)?,
            undone,
            target: target.map(|(id, _)| (id, self.subject_of(id))),
        })
    }

    fn subject_of(&self, id: Oid) -> String {
        let commit = self.repo.find_commit(id).ok();
        let summary = commit
            .as_ref()
            .and_then(|c| c.summary_bytes())
            .unwrap_or_default();
        String::from_utf8_lossy(summary).into_owned()
    }

    fn find_ancestor(&self, rev: &str) -> Result<Oid> {
        let (id, head) = (self.find_commit(rev)?, self.head()?.id());
        if self.contains(head, id)? {
            return Ok(id);
        }
        Err(Problem::new(format!(
            "commit {} is not in the history of HEAD",
            short_commit(&id.to_string())
        ))
        .with_hint("`comfy history` lists the commits of comfy.lock"))
    }

    /// Returns whether `earlier` is `commit` or before it.
    fn contains(&self, commit: Oid, earlier: Oid) -> Result<bool> {
        let is_before = || self.repo.graph_descendant_of(commit, earlier);
        Ok(commit == earlier || is_before().context("read the history of the git repository")?)
    }

    /// Takes back, newest first, what those commits did to comfy.toml, as `git revert` does.
    fn earlier_manifest(&self, undone: &[LockCommit]) -> Result<Option<Vec<u8>>> {
        let tree = self.head()?.tree().context("read HEAD")?;
        let Some(head) = self.blob_in(&tree, &self.manifest) else {
            return Ok(None);
        };
        let mut now = head;
        for commit in undone {
            let (Some(before), Some(after)) = commit.manifest else {
                continue;
            };
            if before == after {
                continue;
            }
            let merged = self.merge_back(now, before, after);
            now = merged
                .context("merge comfy.toml")?
                .ok_or_else(|| self.conflict(commit))?;
        }
        (now != head).then(|| self.read_blob(now)).transpose()
    }

    fn conflict(&self, commit: &LockCommit) -> Problem {
        let id = commit.id.to_string();
        Problem::new(format!(
            "commit {} changed comfy.toml too, and later changes to the same lines cannot be kept \
             apart from it",
            short_commit(&id)
        ))
        .with_hint(format!(
            "revert it with git, which lets you settle the conflict: {}; then `comfy apply`",
            self.git_line(&format!("revert {}", short_commit(&id)))
        ))
    }

    /// Returns `now` without what leads from `before` to `after`; `None`: a conflict.
    fn merge_back(&self, now: Oid, before: Oid, after: Oid) -> Result<Option<Oid>, git2::Error> {
        const NAME: &str = "comfy.toml";
        let alone = |blob: Oid| -> Result<Tree<'_>, git2::Error> {
            let mut tree = self.repo.treebuilder(None)?;
            tree.insert(NAME, blob, 0o100_644)?;
            self.repo.find_tree(tree.write()?)
        };
        let merged = self
            .repo
            .merge_trees(&alone(after)?, &alone(now)?, &alone(before)?, None)?;
        if merged.has_conflicts() {
            return Ok(None);
        }
        Ok(merged
            .get_path(std::path::Path::new(NAME), 0)
            .map(|entry| entry.id))
    }
}

impl EarlierFiles {
    /// Returns what the rollback does, for people: `back to 1f4c9a3 (Pin ComfyUI)`.
    pub(crate) fn title(&self) -> String {
        match (&self.target, &self.undone[..]) {
            (Some((id, subject)), _) => format!(
                "Roll comfy.lock back to {} ({subject})",
                short_commit(&id.to_string())
            ),
            // As `git revert` names them since 2.43.
            (None, [one, ..]) => match one.subject.strip_prefix("Revert \"") {
                Some(first) if first.ends_with('"') => format!("Reapply \"{first}"),
                _ => format!("Revert \"{}\"", one.subject),
            },
            (None, []) => "Roll comfy.lock back".into(),
        }
    }

    /// Returns the message of the commit; `summary` says what moves.
    pub(crate) fn message(&self, summary: &[String]) -> String {
        let mut out = format!("{}\n", self.title());
        if !summary.is_empty() {
            out += &format!("\n{}\n", summary.join("\n"));
        }
        out += &match &self.undone[..] {
            [] => String::new(),
            [one] => format!("\nThis reverts commit {}.\n", one.id),
            many => {
                let ids = many.iter().map(|c| format!("{}\n", c.id));
                format!(
                    "\nThis reverts {}:\n{}",
                    count_of(many.len(), "commit"),
                    ids.collect::<String>()
                )
            }
        };
        out
    }
}
