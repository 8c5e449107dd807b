//! Bytecode of a generation: shared with older ones, else compiled by a build process.

use std::collections::BTreeMap;
use std::path::Path;

use crate::desired::GenerationSpec;
use crate::desired::generation_layout::GenerationLayout;
use crate::host::build::bytecode::{self, BytecodeList};
use crate::host::build::work::BuildWork;
use crate::host::build::{GenerationBuilder, link_file};
use crate::host::fs::{edit, open_dir};
use crate::host::sealed::{generation_check, seal};
use crate::ids::{GenerationId, Part};
use crate::problem::{Context, Result};
use crate::tree::{EntryMode, ObjectId, TreeListing};

impl GenerationBuilder<'_> {
    /// Bytecode for every source of the generation: shared with older ones where source and Python
    /// are the same.
    pub(super) fn compile_generation(
        &mut self,
        spec: &GenerationSpec,
        staged: &Path,
        listings: &BTreeMap<Part, TreeListing>,
        reuse: &[GenerationId],
    ) -> Result<()> {
        let Some(interpreter) = spec.venv.as_ref().map(|v| v.interpreter.clone()) else {
            return Ok(());
        };
        let places = GenerationLayout::new(spec);
        let mut wanted: BTreeMap<String, (String, ObjectId)> = BTreeMap::new();
        for (part, listing) in listings {
            let sources = listing.0.iter().filter(|(p, e)| {
                p.ends_with(".py")
                    && matches!(e.mode, EntryMode::File | EntryMode::Executable)
                    && !places.is_shadowed(part, p)
            });
            for (path, entry) in sources {
                let at = places.disk_path(part, path);
                let target = bytecode::bytecode_path(Path::new(&at), &interpreter);
                if is_free(staged, &target)
                    .with_context(|| format!("look for {}", target.display()))?
                {
                    wanted.insert(target.display().to_string(), (at, entry.oid));
                }
            }
        }
        let mut all = BytecodeList {
            version: interpreter.version.clone(),
            files: BTreeMap::new(),
        };
        let folder_of = |p: &str| {
            p.rsplit_once('/')
                .map_or(String::new(), |(f, _)| f.to_string())
        };
        for id in reuse {
            let old = BytecodeList::load(&self.paths.bytecode_list(id));
            let folder = self.paths.generation_dir(id);
            let Ok(fd) = open_dir(&folder) else { continue };
            for (target, (source, compiled)) in old
                .files
                .iter()
                .filter(|_| old.version == interpreter.version)
            {
                if all.files.contains_key(target)
                    || wanted.get(target).is_none_or(|(_, oid)| oid != source)
                {
                    continue;
                }
                let from = folder.join(target);
                let sealed = matches!(crate::host::fs::read_entry(&from), Ok(Some(n)) if n.uid == self.ids.seal && n.gid == self.ids.seal_gid && n.mode == 0o644);
                if sealed && generation_check::hash_at(&fd, target).is_ok_and(|h| h == *compiled) {
                    self.make_folder(&staged.join(folder_of(target)), staged)?;
                    link_file(&from, &staged.join(target))
                        .with_context(|| format!("share {}", from.display()))?;
                    all.files.insert(target.clone(), (*source, *compiled));
                }
            }
        }
        let missing: Vec<(&String, &(String, ObjectId))> = wanted
            .iter()
            .filter(|(t, _)| !all.files.contains_key(*t))
            .collect();
        if !missing.is_empty() {
            let target = self
                .paths
                .staging_dir()
                .join(format!("job-{}-bytecode", std::process::id()));
            let i = self.ids;
            self.job_folder(&target)?;
            let job = bytecode::CompileJob {
                interpreter,
                top: staged.to_path_buf(),
                sources: missing.iter().map(|(_, (s, _))| s.clone()).collect(),
                target: target.clone(),
            };
            let made = self
                .perform_job::<()>(&BuildWork::Bytecode(job.clone()))
                .and_then(|()| self.take_over(&target))
                .and_then(|()| {
                    let mut found = Vec::new();
                    for (n, (to, (_, source))) in missing.iter().enumerate() {
                        let from = job.output_path(n);
                        // What does not compile has none.
                        if from.symlink_metadata().is_ok() {
                            let oid = seal::seal_file(&from, i)
                                .with_context(|| format!("seal {}", from.display()))?;
                            self.make_folder(&staged.join(folder_of(to)), staged)?;
                            edit::move_to(&from, &staged.join(to))
                                .with_context(|| format!("lay out {to}"))?;
                            found.push(((*to).clone(), (*source, oid)));
                        }
                    }
                    Ok(found)
                });
            edit::remove_path(&target).with_context(|| format!("clear {}", target.display()))?;
            all.files.extend(made?);
        }
        self.write_record(&self.paths.bytecode_list(&spec.id()), &all)
    }
}

/// Whether bytecode can be put there: a tree may track some of its own, or have a link or a file in
/// the place of its folder.
pub(super) fn is_free(staged: &Path, target: &Path) -> std::io::Result<bool> {
    let seen = |path: &Path| match path.symlink_metadata() {
        Ok(m) => Ok(Some(m.is_dir())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    };
    let at = staged.join(target);
    match at.parent().map_or(Ok(None), seen)? {
        _ if !bytecode::name_fits(target) => Ok(false),
        Some(true) => Ok(seen(&at)?.is_none()),
        Some(false) => Ok(false),
        None => Ok(true),
    }
}
