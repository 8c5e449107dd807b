//! What the texts among the arguments of a call name: addresses, paths, programs.

use super::expressions::join_path;
use super::reader::Reader;
use super::rules::{
    self, CallSite, Sink, addresses, credentials, files, intent, owner_files, persistence, verdicts,
};
use super::scope::Frame;
use super::source::Hit;
use super::summary::effects;
use super::taint::SourceKind;
use super::values::Value;

impl<'a> Reader<'a> {
    /// What the texts among the arguments name: addresses, paths and programs.
    pub(super) fn judge_texts(&mut self, frame: &mut Frame<'a>, offset: u32, site: &CallSite<'_>) {
        if site.facts.looks_only {
            return;
        }
        let reaches = site.facts.is_network
            || site.name.starts_with('?')
                && site
                    .all()
                    .any(|v| v.as_text().is_some_and(|t| t.starts_with("http")))
            || site.facts.leads_to(&[Sink::Url, Sink::Send]);
        if reaches && let Some(hit) = addresses::judge_addresses(site) {
            let file = site.all().any(|v| {
                v.taint.has(SourceKind::FileContent)
                    || v.taint.has(SourceKind::Credential)
                    || v.taint.has(SourceKind::HostInfo)
            });
            let hit = if file && hit.intent.is_some() && hit.rule.id == addresses::PY_WEBHOOK.id {
                verdicts::file_to_webhook()
            } else {
                hit
            };
            self.tell(frame.module, offset, hit, Vec::new());
        }
        let opens = site.name == "builtins.open";
        let paths = opens
            || site.facts.names_paths
            || site
                .facts
                .leads_to(&[Sink::ReadPath, Sink::WritePath, Sink::RemovePath]);
        let runs = site.facts.leads_to(&[Sink::Command]);
        if !(paths || runs) {
            return;
        }
        let mode = site
            .argument(1, "mode")
            .map_or_else(String::new, Value::as_part);
        let writing_method =
            site.name.ends_with(".write_text") || site.name.ends_with(".write_bytes");
        let written = opens && mode.contains(['w', 'a', 'x', '+'])
            || writing_method
            || matches!(
                site.name,
                "shutil.copy" | "shutil.copyfile" | "shutil.copy2" | "shutil.move" | "os.symlink"
            );
        let mut texts: Vec<String> = Vec::new();
        texts.extend(
            site.receiver
                .and_then(Value::as_text)
                .map(|t| t.to_string()),
        );
        if paths && matches!(site.name, "os.path.join" | "pathlib.Path") {
            texts.push(join_path(site.positional).as_part());
        } else {
            texts.extend(site.positional.iter().take(3).map(Value::as_command_line));
        }
        for text in &texts {
            let hits = [
                intent::judge_text(text, runs || opens),
                paths
                    .then(|| persistence::judge_path(text, written, !mode.contains('b')))
                    .flatten(),
                (writing_method || opens && written)
                    .then(|| owner_files::judge_written(text))
                    .flatten(),
                paths
                    .then(|| credentials::secret_file(text))
                    .flatten()
                    .map(|file| {
                        Hit::of(
                            &credentials::PY_SECRET_FILE,
                            format!("A file that holds keys is named: {file}."),
                        )
                    }),
            ];
            for hit in hits.into_iter().flatten() {
                self.tell(frame.module, offset, hit, Vec::new());
            }
        }
    }

    pub(super) fn note_effect(&self, frame: &mut Frame<'a>, hit: &Hit) {
        frame.summary.effects |= match hit.rule.id {
            "py-pip-install" | "py-git-clone" => effects::INSTALLS,
            "py-file-remove" => effects::REMOVES,
            "py-subprocess" | "py-shell" | "py-exec" | "py-eval" => effects::RUNS,
            _ => 0,
        };
    }
}

/// Functions that look at a function and do not call it.
pub(super) fn looks_only(name: &str) -> bool {
    matches!(
        name,
        "builtins.isinstance"
            | "builtins.issubclass"
            | "builtins.type"
            | "builtins.print"
            | "builtins.repr"
            | "builtins.hasattr"
            | "builtins.callable"
            | "builtins.id"
            | "builtins.help"
            | "functools.wraps"
            | "builtins.str"
            | "functools.update_wrapper"
            | "inspect.signature"
            | "inspect.getsource"
            | "inspect.isfunction"
            | "builtins.getattr"
            | "logging.info"
            | "logging.warning"
            | "logging.error"
            | "logging.debug"
            | "builtins.dir"
            | "builtins.len"
    ) || name.starts_with("unittest.mock")
        || name.starts_with("typing.")
}

pub(super) fn names_paths(name: &str) -> bool {
    name.starts_with("os.path.")
        || matches!(
            name,
            "pathlib.Path" | "pathlib.PosixPath" | "os.environ.get" | "glob.glob"
        )
        || rules::last_segment(name)
            .strip_prefix('.')
            .is_some_and(|m| files::PATH_METHODS.contains(&m))
}
