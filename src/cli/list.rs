use std::collections::HashMap;

use super::GlobalArgs;
use crate::history::LockRepository;
use crate::host::machine;
use crate::lock::python::{LockedPackage, normalize_name};
use crate::lock::wheel_tags::serves_platform;
use crate::lock::{Lock, ModelPin, RepositoryPin};
use crate::manifest::LockPlatform;
use crate::problem::{Problem, Result};
use crate::project::{ComfyProject, MANIFEST};
use crate::render::{self, PaintStyle, paint};
use crate::text::{did_you_mean, escape_text, format_bytes, short_commit};

/// List nodes, packages and models: what is pinned, since when, how large, and who asks for it
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy list\n  comfy list torch            all about one of them\n  \
        comfy list --instances      what was applied on this machine"
)]
pub(crate) struct ListArgs {
    /// A node, `comfyui`, a package, or a model's path: all about it [default: a line for each]
    #[arg(value_name = "NAME", add = super::completions::pin_names())]
    name: Option<String>,
    /// List your instances on this machine
    #[arg(long, conflicts_with = "name")]
    instances: bool,
}

/// What `--json` prints, and what the lines are made of.
#[derive(serde::Serialize)]
struct PinList {
    repositories: Vec<RepositoryRow>,
    /// The minor version that comfy.toml asks for.
    python: Option<String>,
    packages: Vec<PackageRow>,
    models: Vec<ModelRow>,
}

/// The commit that moved a pin last.
#[derive(Clone, serde::Serialize)]
struct PinnedSince {
    commit: String,
    /// RFC 3339.
    date: String,
}

#[derive(serde::Serialize)]
struct RepositoryRow {
    name: String,
    enabled: bool,
    since: Option<PinnedSince>,
    /// What its requirements ask for.
    asks: Vec<String>,
    #[serde(flatten)]
    pin: RepositoryPin,
}

#[derive(serde::Serialize)]
struct PackageRow {
    name: String,
    version: String,
    /// `None`: the default index.
    index: Option<String>,
    platforms: Vec<String>,
    accelerators: Vec<String>,
    marker: Option<String>,
    /// Bytes of the wheel for this machine, where the lock knows them.
    size: Option<u64>,
    /// Who asks for it: `comfyui`, `node.NAME`, `comfy.toml`, or packages.
    by: Vec<String>,
    since: Option<PinnedSince>,
}

#[derive(serde::Serialize)]
struct ModelRow {
    path: String,
    share: Option<String>,
    since: Option<PinnedSince>,
    #[serde(flatten)]
    pin: ModelPin,
}

pub(crate) fn run(global: &GlobalArgs, args: &ListArgs) -> Result<u8> {
    if args.instances {
        return super::list_instances::list_instances(global);
    }
    let project = ComfyProject::open(global)?;
    let (lock, _) = project.locked()?;
    let mut list = PinList::new(&project, lock);
    if let Some(name) = &args.name {
        list.keep(name)?;
    }
    list.date_pins(&read_dates(&project, &list.names()));
    render::json_output::set_data(&list);
    let text = match &args.name {
        Some(_) => list.details(),
        None => list.lines(),
    };
    render::print_stdout(text.trim_end());
    Ok(0)
}

impl PinList {
    fn new(project: &ComfyProject, lock: &Lock) -> PinList {
        let manifest = &project.manifest;
        let repositories = lock.repository_pins().map(|(address, pin)| {
            let asks = lock.asks.get(&address);
            let name = address.trim_start_matches("node.").to_string();
            let node = manifest.nodes.get(&name).filter(|_| address != name);
            RepositoryRow {
                enabled: address == name || node.is_some_and(|n| n.enabled),
                asks: asks.map_or(Vec::new(), |a| {
                    a.lines.iter().map(ToString::to_string).collect()
                }),
                pin: pin.clone(),
                since: None,
                name,
            }
        });
        let host = machine::host_platform();
        let platform = LockPlatform::of_machine(host.os, &host.machine);
        let python = lock.python.as_ref();
        let packages = python.iter().flat_map(|p| &p.packages);
        let models = lock.models.iter().map(|(path, pin)| ModelRow {
            path: path.to_string(),
            share: manifest.models.get(path).map(|m| m.share.to_string()),
            since: None,
            pin: ModelPin::clone(pin),
        });
        PinList {
            repositories: repositories.collect(),
            python: python.map(|p| p.version.clone()),
            packages: packages.map(|p| PackageRow::new(p, platform)).collect(),
            models: models.collect(),
        }
    }

    fn names(&self) -> Vec<&str> {
        let repositories = self.repositories.iter().map(|r| r.name.as_str());
        let packages = self.packages.iter().map(|p| p.name.as_str());
        let models = self.models.iter().map(|m| m.path.as_str());
        repositories.chain(packages).chain(models).collect()
    }

    /// Keeps what has this name.
    fn keep(&mut self, name: &str) -> Result<()> {
        let node = name.strip_prefix("node.").unwrap_or(name);
        let package = normalize_name(name);
        let known: Vec<String> = self.names().into_iter().map(String::from).collect();
        self.repositories.retain(|r| r.name == node);
        self.packages.retain(|p| p.name == package);
        self.models
            .retain(|m| m.path == name || m.path.ends_with(&format!("/{name}")));
        if !self.names().is_empty() {
            return Ok(());
        }
        let p = Problem::new(format!("comfy.lock pins no {}", escape_text(name)));
        let near = did_you_mean(name, known.iter().map(String::as_str));
        Err(match near {
            Some(near) => p.with_hint(format!("did you mean `{}`?", escape_text(near))),
            None => p.with_hint("`comfy list` lists everything"),
        })
    }

    fn date_pins(&mut self, dates: &HashMap<String, PinnedSince>) {
        for r in &mut self.repositories {
            r.since = dates.get(&r.name).cloned();
        }
        for p in &mut self.packages {
            p.since = dates.get(&p.name).cloned();
        }
        for m in &mut self.models {
            m.since = dates.get(&m.path).cloned();
        }
    }

    fn lines(&self) -> String {
        let mut out = String::new();
        let repositories = self.repositories.iter().map(|r| {
            let state = if r.enabled { "" } else { "disabled" };
            [
                escape_text(&r.name),
                short_commit(&r.pin.commit.to_string()).to_string(),
                escape_text(&r.pin.git_ref),
                age(r.since.as_ref()),
                state.to_string(),
            ]
        });
        write_table(&mut out, "Repositories", repositories.collect());
        let packages = self.packages.iter().map(|p| {
            [
                p.name.clone(),
                p.version.clone() + &p.variants(),
                p.size.map_or(String::new(), format_bytes),
                age(p.since.as_ref()),
                format!("for {}", escape_text(&p.by.join(", "))),
            ]
        });
        let title = match &self.python {
            Some(version) => format!("Packages of Python {}", escape_text(version)),
            None => "Packages".into(),
        };
        write_table(&mut out, &title, packages.collect());
        let models = self.models.iter().map(|m| {
            [
                escape_text(&m.path),
                m.pin.sha256.to_string()[..12].to_string(),
                format_bytes(m.pin.size),
                age(m.since.as_ref()),
                escape_text(m.pin.source.as_deref().unwrap_or("adopted from this disk")),
            ]
        });
        write_table(&mut out, "Models", models.collect());
        out
    }

    fn details(&self) -> String {
        let mut out = String::new();
        for r in &self.repositories {
            let mut rows = vec![
                ("node", r.name.clone()),
                ("repo", r.pin.repo.clone()),
                ("ref", r.pin.git_ref.clone()),
                ("commit", r.pin.commit.to_string()),
                ("tree", r.pin.tree.to_string()),
                ("pinned", pinned(r.since.as_ref())),
            ];
            if !r.enabled {
                rows.push(("enabled", "false".into()));
            }
            let submodules = r.pin.submodules.iter();
            rows.extend(submodules.map(|s| ("submodule", format!("{} {}", s.path, s.commit))));
            let excluded = r.pin.excluded.iter();
            rows.extend(excluded.map(|x| ("excluded", x.path.clone())));
            rows.extend(r.asks.iter().map(|a| ("asks for", a.clone())));
            write_details(&mut out, &rows);
        }
        for p in &self.packages {
            let optional = |v: &Option<String>| v.clone().unwrap_or_default();
            write_details(
                &mut out,
                &[
                    ("package", p.name.clone()),
                    ("version", p.version.clone()),
                    ("index", optional(&p.index)),
                    ("platforms", p.platforms.join(", ")),
                    ("accelerators", p.accelerators.join(", ")),
                    ("marker", optional(&p.marker)),
                    ("size", p.size.map_or(String::new(), format_bytes)),
                    ("asked by", p.by.join(", ")),
                    ("pinned", pinned(p.since.as_ref())),
                ],
            );
        }
        for m in &self.models {
            let adopted = || "none: an existing file was adopted".to_string();
            write_details(
                &mut out,
                &[
                    ("model", m.path.clone()),
                    ("share", m.share.clone().unwrap_or_default()),
                    ("source", m.pin.source.clone().unwrap_or_else(adopted)),
                    ("revision", m.pin.revision.clone().unwrap_or_default()),
                    (
                        "size",
                        format!("{} ({} bytes)", format_bytes(m.pin.size), m.pin.size),
                    ),
                    ("sha256", m.pin.sha256.to_string()),
                    (
                        "blake3",
                        m.pin.blake3.map_or(String::new(), |b| b.to_string()),
                    ),
                    ("pinned", pinned(m.since.as_ref())),
                ],
            );
        }
        out
    }
}

impl PackageRow {
    fn new(p: &LockedPackage, platform: Option<LockPlatform>) -> PackageRow {
        let fits = |file: &str| platform.is_none_or(|on| serves_platform(file, on));
        let sizes = p.wheels.iter().filter(|w| fits(&w.file));
        PackageRow {
            name: p.name.clone(),
            version: p.version.clone(),
            index: p.index.clone(),
            platforms: p.platforms.iter().map(|p| p.word().into()).collect(),
            accelerators: p.accelerators.clone(),
            marker: p.marker.clone(),
            size: sizes.filter_map(|w| w.size).max(),
            by: p.by.clone(),
            since: None,
        }
    }

    /// On which machines alone, if not on all: ` (linux-x86_64, cu128)`.
    fn variants(&self) -> String {
        let words: Vec<&str> = self
            .platforms
            .iter()
            .chain(&self.accelerators)
            .map(String::as_str)
            .collect();
        match words.is_empty() {
            true => String::new(),
            false => format!(" ({})", words.join(", ")),
        }
    }
}

/// Of commits that moved comfy.lock, the newest are read; a pin that is older has no date.
const SEARCHED: usize = 500;

/// Returns the commit that moved each of these pins last; nothing where there is no repository.
fn read_dates(project: &ComfyProject, names: &[&str]) -> HashMap<String, PinnedSince> {
    let mut out = HashMap::new();
    let opened = LockRepository::open(&project.dir.join(MANIFEST), &project.lock_path);
    let Ok(repository) = opened else { return out };
    let Ok(entries) = repository.entries() else {
        return out;
    };
    let mut missing: std::collections::HashSet<String> =
        names.iter().map(ToString::to_string).collect();
    for entry in entries.take(SEARCHED).map_while(Result::ok) {
        let Ok(Some(moved)) = &entry.moved else {
            continue;
        };
        for name in moved.names().filter(|n| missing.remove(*n)) {
            let since = PinnedSince {
                commit: entry.commit.id.to_string(),
                date: super::history::local_date(&entry.commit.time).to_rfc3339(),
            };
            out.insert(name.to_string(), since);
        }
        if missing.is_empty() {
            break;
        }
    }
    out
}

/// `12 days`, since when a pin is as it is.
fn age(since: Option<&PinnedSince>) -> String {
    let date = since.and_then(|s| chrono::DateTime::parse_from_rfc3339(&s.date).ok());
    let Some(date) = date else {
        return String::new();
    };
    match (chrono::Utc::now() - date.to_utc()).num_days() {
        ..=0 => "today".into(),
        1 => "1 day".into(),
        days @ 2..100 => format!("{days} days"),
        days => format!("{} months", days / 30),
    }
}

fn pinned(since: Option<&PinnedSince>) -> String {
    since.map_or(String::new(), |s| {
        let date = s.date.get(..10).unwrap_or_default();
        format!("{date}, by commit {}", short_commit(&s.commit))
    })
}

/// Writes rows in columns; a column that is empty everywhere is left out.
pub(super) fn write_table(out: &mut String, title: &str, rows: Vec<[String; 5]>) {
    if rows.is_empty() {
        return;
    }
    *out += &format!("{}\n", paint(title, PaintStyle::Bold));
    let width = |column: usize| rows.iter().map(|r| r[column].chars().count()).max();
    let widths: Vec<usize> = (0..5).map(|c| width(c).unwrap_or(0)).collect();
    for row in &rows {
        let mut line = String::from(" ");
        for (cell, width) in row.iter().zip(&widths).filter(|(_, w)| **w > 0) {
            line += &format!(" {cell:width$} ");
        }
        *out += &format!("{}\n", line.trim_end());
    }
    out.push('\n');
}

fn write_details(out: &mut String, rows: &[(&str, String)]) {
    for (key, value) in rows.iter().filter(|(_, v)| !v.is_empty()) {
        *out += &format!("{key:14} {}\n", escape_text(value));
    }
    out.push('\n');
}
