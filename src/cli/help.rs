use clap::ArgAction;
use serde_json::{Value, json};

use super::GlobalArgs;
use crate::problem::{Problem, ProblemKind, Result};
use crate::render;
use crate::text::{did_you_mean, escape_text};

/// Print the help of a command; with --json, a description of every command
#[derive(clap::Args)]
pub(crate) struct HelpArgs {
    /// The command
    #[arg(value_name = "COMMAND")]
    names: Vec<String>,
}

pub(crate) fn run(global: &GlobalArgs, args: &HelpArgs) -> Result<u8> {
    let mut command = super::clap_command();
    command.build();
    for name in &args.names {
        let known: Vec<String> = visible(&command)
            .map(|c| c.get_name().to_string())
            .collect();
        let found = command.find_subcommand(name).cloned();
        command = found.filter(|c| !c.is_hide_set()).ok_or_else(|| {
            let p = Problem::new(format!("there is no command `{}`", escape_text(name)))
                .of_kind(ProblemKind::Usage);
            match did_you_mean(name, known.iter().map(String::as_str)) {
                Some(near) => p.with_hint(format!("did you mean `{near}`?")),
                None => p.with_hint("`comfy help` lists them"),
            }
        })?;
    }
    if global.json {
        render::json_output::set_data(&describe(&command));
    } else {
        render::print_stdout(command.render_long_help().to_string().trim_end());
    }
    Ok(0)
}

fn visible(command: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    command.get_subcommands().filter(|c| !c.is_hide_set())
}

fn describe(command: &clap::Command) -> Value {
    let text = |s: Option<&clap::builder::StyledStr>| s.map(|s| s.to_string());
    let arguments = command.get_arguments().filter(|a| !a.is_hide_set());
    let arguments: Vec<Value> = arguments
        .map(|a| {
            let values: Vec<String> = a
                .get_possible_values()
                .iter()
                .map(|v| v.get_name().to_string())
                .collect();
            let takes_value = matches!(a.get_action(), ArgAction::Set | ArgAction::Append);
            json!({
                "name": a.get_id().as_str(),
                "long": a.get_long().map(|l| format!("--{l}")),
                "short": a.get_short().map(|s| format!("-{s}")),
                "value": a.get_value_names().and_then(|n| n.first()).filter(|_| takes_value).map(|n| n.as_str()),
                "values": values,
                "required": a.is_required_set(),
                "repeatable": matches!(a.get_action(), ArgAction::Append),
                "help": text(a.get_help()),
            })
        })
        .collect();
    json!({
        "name": command.get_name(),
        "about": text(command.get_about()),
        "details": text(command.get_long_about()),
        "arguments": arguments,
        "commands": visible(command).map(describe).collect::<Vec<_>>(),
    })
}
