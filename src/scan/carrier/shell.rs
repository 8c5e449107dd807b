//! Scripts for shells: what they fetch and run, and what they leave behind.

use super::{EntryFacts, at_line, rules};
use crate::scan::finding::{Finding, Severity};

/// Programs that download.
const DOWNLOADERS: &[&str] = &[
    "curl",
    "wget",
    "invoke-webrequest",
    "iwr",
    "irm",
    "invoke-restmethod",
    "certutil",
    "bitsadmin",
    "downloadstring",
    "downloadfile",
];
/// Programs that run what they are given.
const INTERPRETERS: &[&str] = &[
    "sh",
    "bash",
    "zsh",
    "dash",
    "ksh",
    "python",
    "python3",
    "perl",
    "ruby",
    "node",
    "php",
    "iex",
    "invoke-expression",
    "eval",
    "source",
    "osascript",
    "powershell",
    "pwsh",
];
/// Places whose content is started again.
const STARTED_AGAIN: &[&str] = &[
    "crontab",
    "/etc/cron",
    "launchctl load",
    "launchctl bootstrap",
    "launchagents",
    "launchdaemons",
    "systemctl enable",
    "systemctl --user enable",
    ".bashrc",
    ".zshrc",
    ".profile",
    ".bash_profile",
    "/etc/rc.local",
    "authorized_keys",
    "schtasks",
    "currentversion\\run",
    "startup\\",
];

/// Examines a script line by line; lines that end in `\` are one.
pub(super) fn examine_script(facts: &EntryFacts, text: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut commands = 0;
    for (number, line) in joined_lines(text) {
        let code = line.trim();
        if code.is_empty() || code.starts_with('#') || code.to_ascii_lowercase().starts_with("rem ")
        {
            continue;
        }
        commands += 1;
        let lower = code.to_ascii_lowercase();
        if runs_download(&lower) {
            let message = "what it downloads is run at once".to_string();
            found.push(at_line(
                &rules::SHELL_DOWNLOAD_RUN,
                facts,
                (number, &line),
                message,
            ));
        }
        let writes = [
            ">>",
            "> ",
            "tee ",
            "cp ",
            "install ",
            "enable",
            "load",
            "crontab",
            "schtasks",
            "reg add",
            "bootstrap",
        ];
        if let Some(place) = STARTED_AGAIN.iter().find(|p| lower.contains(**p))
            && writes.iter().any(|w| lower.contains(w))
        {
            let message = format!("it writes to `{}`", place.trim_end_matches('\\'));
            found.push(at_line(
                &rules::SHELL_PERSISTENCE,
                facts,
                (number, &line),
                message,
            ));
        }
    }
    if commands > 0 {
        let message = format!("it has {}", crate::text::count_of(commands, "command"));
        let mut finding = Finding::about_file(&rules::SHELL_SCRIPT, &facts.path, message);
        // Nodes have scripts for shells; scripts for Windows Script Host are what mail brings.
        if facts.has_extension(&["vbs", "vbe", "wsf", "hta"]) {
            finding.severity = Severity::Medium;
        }
        found.push(finding);
    }
    found
}

/// Whether a command pipes or substitutes a download into an interpreter.
pub(super) fn runs_download(line: &str) -> bool {
    let words = |part: &str| -> Vec<String> {
        part.split(|c: char| !(c.is_alphanumeric() || "-_.".contains(c)))
            .map(|w| w.trim_matches('.').to_string())
            .filter(|w| !w.is_empty())
            .collect()
    };
    let has = |part: &str, list: &[&str]| words(part).iter().any(|w| list.contains(&w.as_str()));
    let Some(at) = DOWNLOADERS.iter().filter_map(|d| line.find(d)).min() else {
        return false;
    };
    if !has(line, DOWNLOADERS) {
        return false;
    }
    // Downloads piped on, or run in a later command of the line.
    let later = line[at..].split(['|', ';', '&']).skip(1).any(|part| {
        words(part)
            .iter()
            .take(3)
            .any(|w| INTERPRETERS.contains(&w.as_str()))
    });
    // `bash -c "$(curl …)"`, `eval "$(wget …)"`, `bash <(curl …)`, `iex (iwr …)`.
    let substituted = ["$(", "`", "<(", "(", "iex"]
        .iter()
        .any(|s| line[..at].contains(s))
        && has(&line[..at], INTERPRETERS);
    later || substituted
}

fn joined_lines(text: &str) -> Vec<(usize, String)> {
    let mut out: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (number, line) in text.lines().enumerate() {
        let goes_on = line.ends_with(['\\', '^']);
        let part = line.trim_end_matches(['\\', '^']);
        match out.last_mut() {
            Some((_, whole)) if open => whole.push_str(part),
            _ => out.push((number, part.to_string())),
        }
        open = goes_on;
    }
    out
}
