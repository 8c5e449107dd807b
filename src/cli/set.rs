use super::GlobalArgs;
use crate::manifest::edit::{key_path, remove_path, set_value};
use crate::problem::{Problem, Result};
use crate::project;
use crate::render;
use crate::text::escape_text;

/// Set one key of comfy.toml, keeping its comments
///
/// A VALUE is written as in comfy.toml: true, 8188, ["a", "b"]. What is none of TOML's values is taken
/// as a text. Several become a list, and so does one where comfy.toml expects a list.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy set comfyui.ref v0.3.64\n  comfy set nodes.impact-pack.enabled \
        false\n  comfy set python.overrides '[\"numpy<2\"]'\n  comfy set comfyui.args -- \
        --lowvram --preview-method auto\n  comfy set --unset \
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
    /// More values of a list; what begins with `-` comes after `--`
    #[arg(value_name = "VALUE")]
    more: Vec<String>,
    /// Remove the key, so that its default applies
    #[arg(long, conflicts_with = "value")]
    unset: bool,
}

pub(crate) fn run(global: &GlobalArgs, args: &SetArgs) -> Result<u8> {
    let path = key_path(&args.key)?;
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let shown = escape_text(&args.key);
    let write = |value: &toml_edit::Value| {
        project::edit_manifest(global, |text| set_value(text, &path, value))
    };
    let values: Vec<&str> = args
        .value
        .iter()
        .chain(&args.more)
        .map(String::as_str)
        .collect();
    let changed = match readings(&values).split_first() {
        Some((first, others)) => write(first).or_else(|e| {
            let mut others = others.iter();
            others.find_map(|value| write(value).ok()).ok_or(e)
        })?,
        None => project::edit_manifest(global, |text| {
            remove_path(text, &path)?
                .ok_or_else(|| Problem::new(format!("comfy.toml does not set `{shown}`")))
        })?,
    };
    render::json_output::set_data(&serde_json::json!({ "changed": changed }));
    render::print_stdout(&match (args.unset, changed) {
        (_, false) => format!("comfy.toml has `{shown}` like this already."),
        (false, true) => format!("Set {shown} in comfy.toml."),
        (true, true) => format!("Removed {shown} from comfy.toml."),
    });
    Ok(0)
}

/// What is meant, in the order in which it is tried: a shell takes quotes away, so that `3.12` may be a
/// text, and `[a, b]` a list of texts.
fn readings(values: &[&str]) -> Vec<toml_edit::Value> {
    let list = |texts: &mut dyn Iterator<Item = &str>| {
        toml_edit::Value::Array(texts.collect::<toml_edit::Array>())
    };
    let text = match values {
        [] => return Vec::new(),
        [text] => *text,
        several => return vec![list(&mut several.iter().copied())],
    };
    let mut out: Vec<toml_edit::Value> = text.parse().into_iter().collect();
    if out.first().is_some_and(toml_edit::Value::is_array) {
        return out;
    }
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    if let Some(inner) = inner.filter(|t| !t.contains(['"', '\''])) {
        out.push(list(&mut inner.split(',').map(str::trim)));
    }
    out.push(text.into());
    // What is neither a list nor a table, and was not meant as one.
    if !text.starts_with(['[', '{', '"', '\'']) {
        out.push(list(&mut [text].into_iter()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_leaves_of_a_value_is_understood() {
        let rows: [&[&str]; 9] = [
            &["--lowvram"],
            &["--preview-method", "auto"],
            &["[--lowvram, --fast]"],
            &["[\"numpy<2\"]"],
            &["[\"numpy<2\""],
            &["3.12"],
            &["true"],
            &["v0.3.64"],
            &["https://example.com/a,b"],
        ];
        let said = rows.map(|row| {
            let read: Vec<String> = readings(row).iter().map(|v| v.to_string()).collect();
            format!("{}: {}", row.join(" "), read.join(" or "))
        });
        insta::assert_snapshot!(said.join("\n"), @r#"
        --lowvram: "--lowvram" or ["--lowvram"]
        --preview-method auto: ["--preview-method", "auto"]
        [--lowvram, --fast]: ["--lowvram", "--fast"] or "[--lowvram, --fast]"
        ["numpy<2"]: ["numpy<2"]
        ["numpy<2": '["numpy<2"'
        3.12: 3.12 or "3.12" or ["3.12"]
        true: true or "true" or ["true"]
        v0.3.64: "v0.3.64" or ["v0.3.64"]
        https://example.com/a,b: "https://example.com/a,b" or ["https://example.com/a,b"]
        "#);
    }
}
