use super::GlobalArgs;
use crate::manifest::edit::{key_path, remove_path, set_value};
use crate::problem::{Problem, Result};
use crate::project;
use crate::render;
use crate::text::escape_text;

/// Set one key of comfy.toml, keeping its comments
///
/// A VALUE is written as in comfy.toml: true, 8188, ["a", "b"]. What is none of TOML's values is taken
/// as a text.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy set comfyui.ref v0.3.64\n  comfy set nodes.impact-pack.enabled \
        false\n  comfy set python.overrides '[\"numpy<2\"]'\n  comfy set --unset \
        python.overrides\n  comfy set 'models.\"loras/a.safetensors\".source' civitai:123"
)]
pub(crate) struct SetArgs {
    /// The key with its sections, separated by dots
    #[arg(value_name = "KEY")]
    key: String,
    /// Its new value
    #[arg(
        value_name = "VALUE",
        required_unless_present = "unset",
        allow_hyphen_values = true
    )]
    value: Option<String>,
    /// Remove the key, so that its default applies
    #[arg(long, conflicts_with = "value")]
    unset: bool,
}

pub(crate) fn run(global: &GlobalArgs, args: &SetArgs) -> Result<u8> {
    let path = key_path(&args.key)?;
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let shown = escape_text(&args.key);
    let write = |value: toml_edit::Value| {
        project::edit_manifest(global, |text| set_value(text, &path, &value))
    };
    let changed = match &args.value {
        Some(text) => match text.parse::<toml_edit::Value>() {
            // A shell takes quotes away: `3.12` may be meant as a text.
            Ok(value) if value.is_integer() || value.is_float() || value.is_bool() => {
                write(value).or_else(|e| write(text.as_str().into()).map_err(|_| e))?
            }
            Ok(value) => write(value)?,
            Err(_) => write(text.as_str().into())?,
        },
        None => project::edit_manifest(global, |text| {
            remove_path(text, &path)?
                .ok_or_else(|| Problem::new(format!("comfy.toml does not set `{shown}`")))
        })?,
    };
    render::json_output::set_data(&serde_json::json!({ "changed": changed }));
    render::print_stdout(&match (&args.value, changed) {
        (_, false) => format!("comfy.toml has `{shown}` like this already."),
        (Some(_), true) => format!("Set {shown} in comfy.toml."),
        (None, true) => format!("Removed {shown} from comfy.toml."),
    });
    Ok(0)
}
