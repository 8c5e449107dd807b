//! Code that starts programs.

use super::command_lines::{self, PY_DESTROY_COMMAND, excerpt, hostile};
use super::{Argument, CallRule, CallSite, FlowRule, Sink};
use crate::scan::finding::{Category, Intent, Severity};
use crate::scan::python::source::Hit;
use crate::scan::python::values::UNKNOWN_PART;
use crate::scan::rules::{Example, Rule};

pub(in crate::scan) const RULES: &[Rule] = &[PY_SUBPROCESS, PY_SHELL, PY_PROGRAM];

pub(in crate::scan) const PY_SUBPROCESS: Rule = Rule {
    id: "py-subprocess",
    category: Category::CmdExec,
    severity: Severity::Medium,
    intent: None,
    reason: "A program is started.",
    why: "A program is not bound by what the node's own code does; what it is told decides.",
    fix: "Pass a list of constant words, and accept it where the program is known.",
    examples: &[
        Example::found("import subprocess as sp\nsp.run(['true'])\n"),
        Example::found("import subprocess\nsubprocess.run(['ffmpeg', '-i', 'a', 'b'])\n"),
        Example::found("from subprocess import Popen\nPopen(words)\n"),
        Example::found("import asyncio\nasyncio.create_subprocess_exec('true')\n"),
        Example::twin("import subprocess\nraise subprocess.CalledProcessError(1, 'x')\n"),
        Example::twin("x = 'subprocess.run(1)'\n"),
    ],
};

pub(in crate::scan) const PY_SHELL: Rule = Rule {
    id: "py-shell",
    category: Category::CmdExec,
    severity: Severity::Medium,
    intent: None,
    reason: "A line is run by a shell.",
    why: "A shell reads `;`, `|` and `$(…)`: each part of the line that is data is a program.",
    fix: "Use subprocess.run() with a list of words.",
    examples: &[
        Example::found("import os as o\nrun = o.system\nrun('true')\n"),
        Example::found("import subprocess\nsubprocess.run('true', shell=True)\n"),
        Example::found(
            "import threading, os\nthreading.Thread(target=os.system, args=('true',)).start()\n",
        ),
        Example::found("import sys\nsys.modules['os'].__dict__['system']('true')\n"),
        Example::found(
            "try:\n    import posix as p\nexcept ImportError:\n    p = None\np.system('true')\n",
        ),
        Example::twin("import platform\nplatform.system()\n"),
        Example::twin("import subprocess\nsubprocess.run(['true'])\n"),
    ],
};

pub(in crate::scan) const PY_PROGRAM: Rule = Rule {
    id: "py-program",
    category: Category::CmdExec,
    severity: Severity::Medium,
    intent: None,
    reason: "A program is started, or takes the place of this one.",
    why: "os.exec*, os.spawn*, os.posix_spawn, os.startfile and pty start programs past subprocess.",
    fix: "Use subprocess.run() with a list of constant words.",
    examples: &[
        Example::found("import os\nos.posix_spawn('/bin/true', ['true'], {})\n"),
        Example::found("import pty\npty.spawn('/bin/sh')\n"),
        Example::twin("import os\nos.getpid()\n"),
    ],
};

/// Names that start a program from a list of words, or from a line if `shell=True`.
const SUBPROCESS: &[&str] = &[
    "subprocess.run",
    "subprocess.call",
    "subprocess.check_call",
    "subprocess.check_output",
    "subprocess.Popen",
    "asyncio.create_subprocess_exec",
    "?command.run",
    "?commands.run",
    "psutil.Popen",
    "anyio.run_process",
    "anyio.open_process",
    "trio.run_process",
    "sh.Command",
    "plumbum.local",
    "pexpect.spawn",
    "pexpect.run",
    ".subprocess_exec",
    "distutils.spawn.spawn",
    "subprocess.fork_exec",
];

/// Names that hand a line to a shell.
const SHELL: &[&str] = &[
    "os.system",
    "os.popen",
    "os.popen2",
    "os.popen3",
    "os.popen4",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "asyncio.create_subprocess_shell",
    ".subprocess_shell",
    "ctypes.CDLL().system",
    "ctypes.cdll.msvcrt.system",
    "ctypes.PyDLL().system",
    "ctypes.cdll.LoadLibrary().system",
    "ctypes.pythonapi.system",
    "cffi.FFI().dlopen().system",
    "ctypes.CDLL().popen",
    "pexpect.runu",
    "popen2.popen2",
    "popen2.popen3",
    "numpy.distutils.exec_command.exec_command",
    "platform.popen",
    "invoke.run",
    "sh.bash",
    "sh.sh",
    "win32api.WinExec",
    "ctypes.windll.kernel32.WinExec",
    "IPython.get_ipython().system",
];

const PROGRAM: &[&str] = &[
    "os.execl",
    "os.execle",
    "os.execlp",
    "os.execlpe",
    "os.execv",
    "os.execve",
    "os.execvp",
    "os.execvpe",
    "os.spawnl",
    "os.spawnle",
    "os.spawnlp",
    "os.spawnlpe",
    "os.spawnv",
    "os.spawnve",
    "os.spawnvp",
    "os.spawnvpe",
    "os.posix_spawn",
    "os.posix_spawnp",
    "os.startfile",
    "pty.spawn",
    "ctypes.CDLL().execve",
    "ctypes.CDLL().execv",
    "ctypes.windll.shell32.ShellExecuteW",
    "ctypes.windll.shell32.ShellExecuteA",
    "win32api.ShellExecute",
    "ctypes.windll.kernel32.CreateRemoteThread",
    "ctypes.windll.kernel32.CreateProcessW",
    "?self.spawn",
    ".exec_command",
    "docker.from_env().containers.run",
];

pub(in crate::scan::python) const CALLS: &[CallRule] = &[
    CallRule {
        names: SUBPROCESS,
        judge: judge_subprocess,
    },
    CallRule {
        names: SHELL,
        judge: |call| Some(judge_line(call, true)),
    },
    CallRule {
        names: PROGRAM,
        judge: judge_program,
    },
    CallRule {
        names: &["webbrowser.get", "webbrowser.register"],
        judge: |call| {
            let line = call.all().any(|v| {
                v.as_text()
                    .is_some_and(|t| t.contains("%s") && t.contains(' '))
            });
            line.then(|| Hit::of(&PY_PROGRAM, "A command line is made the browser."))
        },
    },
];

fn judge_subprocess(call: &CallSite<'_>) -> Option<Hit> {
    let shell = call.is_on("shell");
    if call.name == "?self.spawn" {
        call.positional.first()?.items()?;
    }
    if matches!(call.name, "pexpect.run") {
        return Some(judge_line(call, true));
    }
    Some(judge_line(call, shell))
}

fn judge_program(call: &CallSite<'_>) -> Option<Hit> {
    if call.name == "?self.spawn" {
        call.positional.first()?.items()?;
    }
    let line = whole_line(call);
    if let Some(hit) = hostile(&line) {
        return Some(hit);
    }
    // `os.execv(sys.executable, …)` starts ComfyUI again.
    let again = line.starts_with("python") || call.name.starts_with("os.exec");
    let what = if again {
        "takes the place of this process"
    } else {
        "starts a program"
    };
    Some(Hit::of(&PY_PROGRAM, format!("{}() {what}.", call.shown())))
}

/// The words of all positional arguments: `os.execl(path, word, word)`.
fn whole_line(call: &CallSite<'_>) -> String {
    let mut words: Vec<String> = call
        .positional
        .iter()
        .take(16)
        .map(super::Value::as_command_line)
        .collect();
    for name in ["args", "cmd", "command", "executable"] {
        words.extend(call.keyword(name).map(super::Value::as_command_line));
    }
    words.join(" ")
}

fn judge_line(call: &CallSite<'_>, shell: bool) -> Hit {
    let line = whole_line(call);
    if let Some(hit) = hostile(&line) {
        return hit;
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    let first = words.first().copied().unwrap_or("");
    if first == "rm" && words.iter().any(|w| w.starts_with("-") && w.contains('r'))
        || line.contains("rm -rf ")
        || line.contains("rmdir /s")
        || line.contains("mkfs")
    {
        return Hit::of(
            &PY_DESTROY_COMMAND,
            format!("{}() removes files: `{}`.", call.shown(), excerpt(&line)),
        );
    }
    let argument = call.argument(0, "args");
    let constant = argument.is_some_and(super::Value::is_constant);
    let (rule, how) = if shell {
        (&PY_SHELL, "hands a line to a shell")
    } else {
        (&PY_SUBPROCESS, "starts a program")
    };
    let told = if line.contains(UNKNOWN_PART) || line.is_empty() {
        String::new()
    } else {
        format!(": `{}`", excerpt(&line))
    };
    let hit = Hit::of(rule, format!("{}() {how}{told}.", call.shown()));
    if !shell && argument.is_some_and(command_lines::only_asks) {
        return hit.at(Severity::Low);
    }
    let silent = is_silent(call);
    let hit = if silent {
        hit.with_intent(Intent::SilentSpawn)
    } else {
        hit
    };
    if shell && !constant {
        hit.at(Severity::High)
    } else {
        hit
    }
}

/// Whether nobody is to see the program: all three streams thrown away, or no window.
fn is_silent(call: &CallSite<'_>) -> bool {
    let is = |k: &str, name: &str| {
        call.keyword(k)
            .and_then(|v| v.name())
            .is_some_and(|n| n.ends_with(name))
    };
    let nowhere = ["stdin", "stdout", "stderr"]
        .iter()
        .filter(|k| is(k, "DEVNULL"))
        .count();
    let line = whole_line(call).to_ascii_lowercase();
    nowhere == 3
        || is("creationflags", "CREATE_NO_WINDOW")
        || is("creationflags", "DETACHED_PROCESS")
        || line.contains("pythonw")
        || line.contains("-windowstyle hidden")
        || line.contains("-w hidden")
        || line.trim_end().ends_with("/dev/null 2>&1 &")
        || line.contains("nohup ")
}

pub(in crate::scan::python) const FLOWS: &[FlowRule] = &[
    FlowRule {
        names: SUBPROCESS,
        arguments: &[Argument::At(0, "args"), Argument::Named("executable")],
        sink: Sink::Command,
        rule: &PY_SUBPROCESS,
    },
    FlowRule {
        names: SHELL,
        arguments: &[Argument::At(0, "cmd")],
        sink: Sink::Command,
        rule: &PY_SHELL,
    },
    FlowRule {
        names: PROGRAM,
        arguments: &[Argument::Any],
        sink: Sink::Command,
        rule: &PY_PROGRAM,
    },
];

/// Words that are told to a constant program.
pub(in crate::scan::python) static WORDS: FlowRule = FlowRule {
    names: SUBPROCESS,
    arguments: &[Argument::At(0, "args")],
    sink: Sink::Word,
    rule: &PY_SUBPROCESS,
};
