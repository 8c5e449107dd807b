use super::GlobalArgs;
use super::lock::with_resolvers;
use crate::lock::resolve::addresses::wheel_addresses;
use crate::lock::{Lock, LockedPython, coverage};
use crate::manifest::schema;
use crate::problem::{Problem, Result};
use crate::project::ComfyProject;
use crate::render::other_tools::{self, ExportedText};
use crate::render::{self, sbom};

/// Export the pins, or the form of comfy.toml, for other tools
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy export sbom > comfy.cdx.json\n  comfy export \
        manager-snapshot > snapshot.json\n  comfy export requirements > requirements.txt\n  comfy \
        export pylock > pylock.toml\n  comfy export schema > comfy.schema.json"
)]
pub(crate) struct ExportArgs {
    #[command(subcommand)]
    what: ExportFormat,
}

#[derive(clap::Subcommand)]
enum ExportFormat {
    /// A software bill of materials (CycloneDX 1.6, JSON): ComfyUI, nodes, Python packages and
    /// models, with their hashes
    Sbom,
    /// A snapshot of ComfyUI-Manager (JSON): ComfyUI, nodes and Python packages
    ManagerSnapshot,
    /// The Python packages as requirements with hashes, for pip and uv
    Requirements,
    /// The Python packages as pylock.toml (PEP 751); the indexes are asked where the wheels are
    Pylock,
    /// The JSON schema of comfy.toml, with which editors complete and check it
    Schema,
}

pub(crate) fn run(global: &GlobalArgs, args: &ExportArgs) -> Result<u8> {
    match args.what {
        ExportFormat::Sbom => {
            let (_, lock) = locked_project(global)?;
            render::print_stdout(&sbom::bill_of_materials(&lock));
            Ok(0)
        }
        ExportFormat::ManagerSnapshot => {
            let (project, lock) = locked_project(global)?;
            print_exported(&other_tools::manager_snapshot(&project.manifest, &lock))
        }
        ExportFormat::Requirements => {
            let (_, lock) = locked_project(global)?;
            print_exported(&other_tools::requirements(packages_of(&lock)?))
        }
        ExportFormat::Pylock => {
            let (project, lock) = locked_project(global)?;
            let python = packages_of(&lock)?;
            let found = with_resolvers(&project, false, |ask, report| {
                wheel_addresses(&project.manifest.python, python, ask, report)
            })?;
            print_exported(&other_tools::pylock(python, &found))
        }
        ExportFormat::Schema => {
            render::print_stdout(schema::schema_text().trim_end());
            Ok(0)
        }
    }
}

/// The project with a lock that covers it.
fn locked_project(global: &GlobalArgs) -> Result<(ComfyProject, Lock)> {
    let mut project = ComfyProject::open(global)?;
    let Some((lock, _)) = project.lock.take() else {
        return Err(Problem::new("comfy.lock does not exist").with_hint("run `comfy lock`"));
    };
    let cover = coverage::check(&project.manifest, &lock);
    if !cover.problems.is_empty() {
        return Err(Problem::from_many(cover.problems));
    }
    cover.warnings.iter().for_each(|w| render::print_warning(w));
    Ok((project, lock))
}

fn packages_of(lock: &Lock) -> Result<&LockedPython> {
    lock.python.as_ref().ok_or_else(|| {
        Problem::new("comfy.lock has no Python packages").with_hint("run `comfy lock`")
    })
}

fn print_exported(made: &ExportedText) -> Result<u8> {
    render::print_stdout(made.text.trim_end());
    for lost in &made.lost {
        render::print_warning(&format!("not exported: {lost}"));
    }
    Ok(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use std::fmt::Write as _;

    use serde_json::Value;

    use crate::manifest::schema::schema_text;

    /// What is shown for a place of the manifest, outermost first.
    const SECTIONS: &[(&str, &str)] = &[
        ("host", "TomlHost"),
        ("comfyui", "TomlComfyui"),
        ("python", "TomlPython"),
        ("python.indexes", "TomlIndex"),
        ("nodes.NAME", "TomlNode"),
        ("models.\"PATH\"", "TomlModel"),
        ("shares.NAME", "TomlShare"),
        ("run", "TomlRun"),
        ("network", "TomlNetwork"),
        ("policy", "TomlPolicy"),
        ("policy.accept", "TomlAccept"),
        ("hosts.NAME", "TomlOverlay"),
    ];

    /// `COMFY_WRITE_SCHEMA=1 cargo test --lib schema` writes the files anew.
    #[test]
    fn the_schema_and_the_reference_in_docs_are_those_of_the_code() {
        let schema: Value = serde_json::from_str(&schema_text()).unwrap();
        let files = [
            ("docs/comfy.schema.json", schema_text()),
            ("docs/comfy-toml.md", reference_text(&schema)),
        ];
        for (name, text) in files {
            let path = format!("{}/{name}", env!("CARGO_MANIFEST_DIR"));
            if crate::host::env::var("COMFY_WRITE_SCHEMA").is_some() {
                std::fs::write(&path, &text).unwrap();
            }
            let there = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(there, text, "write {name} anew with COMFY_WRITE_SCHEMA=1");
        }
    }

    /// Every key has a description, so that the reference and an editor say what it is for.
    #[test]
    fn every_key_is_described() {
        let schema: Value = serde_json::from_str(&schema_text()).unwrap();
        for (section, definition) in SECTIONS {
            for (key, property) in properties(&schema, definition) {
                assert!(property["description"].is_string(), "{section}.{key}");
            }
        }
    }

    fn properties<'a>(schema: &'a Value, definition: &str) -> Vec<(&'a String, &'a Value)> {
        let properties = &schema["$defs"][definition]["properties"];
        properties.as_object().unwrap().iter().collect()
    }

    fn reference_text(schema: &Value) -> String {
        let mut out = "# Every key of comfy.toml\n\nMade from the schema, [comfy.schema.json](comfy.schema.json), \
             with which editors complete and check comfy.toml: its first line\n`#:schema ./comfy.schema.json` \
             names a copy that `comfy init` writes beside it. Unknown keys are errors. `~` is the primary\nuser's \
             home. `version = 1` comes first.\n"
            .to_string();
        for (section, definition) in SECTIONS {
            let list = section.ends_with("indexes") || section.ends_with("accept");
            let head = if list {
                let (table, key) = section.split_once('.').unwrap();
                format!("`[{table}]` `{key} = [{{ … }}]`")
            } else {
                format!("`[{section}]`")
            };
            let _ = write!(
                out,
                "\n## {head}\n\n| key | type | default | meaning | example |\n|---|---|---|---|---|\n"
            );
            for (key, property) in properties(schema, definition) {
                let cell = |v: &Value| {
                    if v.is_null() {
                        String::new()
                    } else {
                        toml_value(v)
                    }
                };
                let meaning = property["description"].as_str().unwrap_or_default();
                let meaning = meaning.replace('\n', " ");
                let _ = writeln!(
                    out,
                    "| `{key}` | {} | {} | {meaning} | {} |",
                    type_name(property),
                    cell(&property["default"]),
                    cell(&property["examples"][0])
                );
            }
        }
        out
    }

    /// Returns the value as it is written in comfy.toml.
    fn toml_value(v: &Value) -> String {
        let toml = toml::Value::try_from(v.clone()).unwrap();
        format!("`{}`", toml.to_string().trim().replace('|', "\\|"))
    }

    fn type_name(property: &Value) -> String {
        if let Some(words) = property["enum"].as_array() {
            let words: Vec<String> = words.iter().map(toml_value).collect();
            return words.join(", ");
        }
        let types = match &property["type"] {
            Value::Array(all) => all.clone(),
            Value::Null => vec![],
            one => vec![one.clone()],
        };
        let name = types
            .iter()
            .filter_map(Value::as_str)
            .find(|t| *t != "null");
        match name {
            Some("array") => "list".into(),
            Some("object") => "table".into(),
            Some("boolean") => "true or false".into(),
            Some(name) => name.into(),
            None if property.to_string().contains("OneOrMany") => "string or list".into(),
            None => "table".into(),
        }
    }
}
