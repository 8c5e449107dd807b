//! Turns the form on disk into the model: defaults, rules, and every mistake with its place and its
//! remedy.

mod comfyui;
mod host;
mod models;
mod nodes;
mod python;
mod run;
mod shares;

use std::path::Path;

use bytestring::ByteString;

use super::type_errors::explain_type;
use super::{wire, *};
use crate::problem::Problem;
use crate::text::{did_you_mean, escape_text};

const KNOWN_VERSION: i64 = 1;
const DEFAULT_REPO: &str = "https://github.com/Comfy-Org/ComfyUI";
/// More nodes than anyone has, and few enough that they cannot make a later step slow.
const MAX_NODES: usize = 2_000;
const MAX_FILE: usize = 32 << 20;
/// The number of mistakes that are reported one by one.
const SHOWN: usize = 100;

pub(super) fn parse_manifest(path: &Path, text: &ByteString, hostname: &str) -> Result<Manifest> {
    let source = TomlSource::new(path, text, None);
    if text.len() > MAX_FILE {
        return Err(
            Problem::new(format!("{} is larger than 32 MiB", source.file_name()))
                .with_hint("this is not a manifest; is it the right file?"),
        );
    }
    let (rest, models) =
        model_tables::extract(text, &["share", "source", "sha256"], model_from_fields);
    if !models.is_empty()
        && let Ok(manifest) = read_source(&source, &rest, models, hostname)
    {
        return Ok(manifest);
    }
    // The parser reads the whole text, so that it reports mistakes with their places in the file.
    read_source(&source, text, Table::new_vec(), hostname)
}

/// Reads a manifest; `text` is all of `source`, or what is left of it without `models`.
fn read_source(
    source: &TomlSource,
    text: &str,
    mut models: Table<wire::TomlModel>,
    hostname: &str,
) -> Result<Manifest> {
    // First as it is, then merged for this machine.
    let plain: wire::TomlManifest =
        toml::from_str(text).map_err(|e| located_problem(source, &e))?;
    let overlay = plain
        .hosts
        .keys()
        .find(|h| h.eq_ignore_ascii_case(hostname))
        .cloned();
    let mut wire = match &overlay {
        None => plain,
        Some(name) => merge_host(source, text, name)?,
    };
    let source = TomlSource::new(&source.path, &source.text, overlay.as_deref());
    let mut check = ManifestCheck {
        source,
        problems: Vec::new(),
        more: 0,
    };
    let others = std::mem::take(&mut wire.models);
    if models.is_empty() {
        models = others
            .into_iter()
            .map(|(path, m)| (path.into(), m))
            .collect();
    } else if !others.is_empty() {
        check.report_mistake(
            &["models"],
            "models are declared in two forms",
            "write them in one form",
        );
    }
    let is_newer = wire.version.is_some_and(|v| v > KNOWN_VERSION);
    let manifest = check.check_manifest(wire, models);
    if is_newer {
        // Whatever else seems wrong may be right in that version.
        check.problems.truncate(1);
        check.more = 0;
    }
    if check.more > 0 {
        check
            .problems
            .push(Problem::new(format!("and {} more", check.more)));
    }
    if check.problems.is_empty() {
        Ok(manifest)
    } else {
        Err(Problem::from_many(check.problems))
    }
}

fn model_from_fields(
    _: &str,
    fields: [Option<model_tables::FieldValue>; 3],
) -> Option<wire::TomlModel> {
    // The parser refuses a number.
    let [share, source, sha256] = fields.map(model_tables::optional_text);
    Some(wire::TomlModel {
        share: share?,
        source: source?,
        sha256: sha256?,
    })
}

fn merge_host(source: &TomlSource, text: &str, name: &str) -> Result<wire::TomlManifest> {
    let mut whole: toml::Table = toml::from_str(text).map_err(|e| located_problem(source, &e))?;
    let over = whole
        .get("hosts")
        .and_then(|h| h.get(name))
        .and_then(|h| h.as_table())
        .cloned()
        .unwrap_or_default();
    deep_merge(&mut whole, over);
    toml::Value::Table(whole)
        .try_into()
        .map_err(|e: toml::de::Error| {
            Problem::new(format!(
                "{}: [hosts.{name}]: {}",
                source.file_name(),
                e.message()
            ))
        })
}

fn deep_merge(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(b)), toml::Value::Table(o)) => deep_merge(b, o),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Returns a parse error of the toml crate with file:line:column and, for an unknown key, the key
/// that was probably meant.
fn located_problem(source: &TomlSource, e: &toml::de::Error) -> Problem {
    let place = source.place_of_offset(e.span().map_or(0, |s| s.start));
    let message = e.message().replace('\n', "; ");
    if let Some(conflict) = source.unresolved_conflict() {
        return conflict.with_hint(
            "keep one side of each conflict and remove the lines with <<<<<<<, ======= and >>>>>>>",
        );
    }
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if message.starts_with("unknown field") && !quoted.is_empty() {
        let known = &quoted[1..];
        let p = Problem::new(format!("{place}: unknown key `{}`", quoted[0]));
        return match did_you_mean(quoted[0], known.iter().copied()) {
            Some(k) => p.with_hint(format!("did you mean `{k}`?")),
            None => p.with_hint(format!("known here: {}", known.join(", "))),
        };
    }
    let raw = e.span().and_then(|span| source.text.get(span));
    match explain_type(&message, raw.unwrap_or_default()) {
        Some(mistake) => {
            let p = Problem::new(format!("{place}: {}", escape_text(&mistake.message)));
            match mistake.write {
                Some(write) => p.with_hint(format!("write {}", escape_text(&write))),
                None => p,
            }
        }
        None => Problem::new(format!("{place}: {message}")),
    }
}

pub(super) struct ManifestCheck {
    source: TomlSource,
    problems: Vec<Problem>,
    /// The number of mistakes beyond [`SHOWN`].
    more: usize,
}

impl ManifestCheck {
    pub(super) fn report_mistake(
        &mut self,
        at: &[&str],
        message: impl AsRef<str>,
        hint: impl Into<String>,
    ) {
        if self.problems.len() == SHOWN {
            self.more += 1;
            return;
        }
        let place = self.source.place_of_key(at);
        self.problems.push(
            Problem::new(format!(
                "{place}: {}",
                crate::text::escape_text(message.as_ref())
            ))
            .with_hint(hint),
        );
    }

    /// One of a few words; the default where there is none, or an unknown one.
    pub(super) fn choice<T: Choice>(&mut self, at: &[&str], value: Option<String>) -> T {
        let words: Vec<&str> = T::WORDS.iter().map(|(_, word)| *word).collect();
        let (default, first) = T::WORDS[0];
        let word = self.one_of(at, value, first, &words);
        let known = T::WORDS.iter().find(|(_, w)| *w == word);
        known.map_or(default, |(choice, _)| *choice)
    }

    pub(super) fn one_of<'a>(
        &mut self,
        at: &[&str],
        value: Option<String>,
        default: &'a str,
        known: &'a [&'a str],
    ) -> String {
        let value = value.unwrap_or_else(|| default.to_string());
        if !known.contains(&value.as_str()) {
            let hint = match did_you_mean(&value, known.iter().copied()) {
                Some(k) => format!("did you mean \"{k}\"?"),
                None => format!("known: {}", known.join(", ")),
            };
            self.report_mistake(
                at,
                format!("{} \"{value}\" is unknown", at.last().unwrap_or(&"value")),
                hint,
            );
        }
        value
    }

    fn check_manifest(
        &mut self,
        w: wire::TomlManifest,
        models: Table<wire::TomlModel>,
    ) -> Manifest {
        match w.version {
            Some(KNOWN_VERSION) => {}
            Some(v) if v > KNOWN_VERSION => {
                self.report_mistake(
                    &["version"],
                    format!("version {v} is newer than this comfy supports ({KNOWN_VERSION})"),
                    "install a newer comfy",
                );
            }
            Some(v) => self.report_mistake(
                &["version"],
                format!("version {v} is unknown"),
                "write `version = 1`",
            ),
            None => self.report_mistake(
                &[],
                "`version` is missing",
                "write `version = 1` as the first line",
            ),
        }
        let hosts = w.hosts.into_keys().collect();
        let host = self.check_host(w.host);
        let comfyui = self.check_comfyui(w.comfyui);
        let python = self.check_python(w.python);
        let nodes = self.check_nodes(w.nodes, &comfyui.repo);
        let shares = self.check_shares(w.shares);
        let models = self.check_models(models, &shares);
        let run = self.check_run(w.run);
        let plain = |p: &Path| {
            p.to_str().is_some_and(|p| {
                p.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b))
            })
        };
        if let Some(prefix) = host
            .prefix
            .as_ref()
            .filter(|p| (run.passwordless || run.boot) && !plain(p))
        {
            let message = format!(
                "sudo and the system would misread {}, which [run] passwordless and boot need",
                prefix.display()
            );
            self.report_mistake(
                &["host", "prefix"],
                message,
                "use letters, digits, `.`, `_`, `-` and `/`",
            );
        }
        let network = self.check_network(w.network, comfyui.allow_remote);
        let policy = self.check_policy(w.policy, &nodes);
        Manifest {
            source: self.source.clone(),
            hosts,
            host,
            comfyui,
            python,
            nodes,
            models,
            shares,
            run,
            network,
            policy,
        }
    }
}

impl ManifestCheck {
    /// Checks a path: absolute or below `~`, clean, without characters that could hide something.
    pub(super) fn check_path(&mut self, at: &[&str], path: &str) -> Option<()> {
        let key = at.last().copied().unwrap_or("path");
        if path.trim_matches('/').is_empty() {
            self.report_mistake(
                at,
                format!("{key} \"{path}\" is the whole disk"),
                "write a separate folder",
            );
            return None;
        }
        let inner = path.strip_prefix("~/").or(path.strip_prefix('/'));
        let Some(inner) = inner else {
            let hint = if path == "~" {
                "write a separate folder"
            } else {
                "write an absolute path, or one that starts with ~/"
            };
            self.report_mistake(
                at,
                format!("{key} \"{path}\" is not a path that comfy manages"),
                hint,
            );
            return None;
        };
        match names::check_relative(inner.trim_end_matches('/')) {
            Ok(()) => Some(()),
            Err(why) => {
                self.report_mistake(
                    at,
                    format!("{key} \"{path}\" {why}"),
                    "write the path in full, without `.` and `..`",
                );
                None
            }
        }
    }
}
