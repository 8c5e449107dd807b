//! Code that brings more code: packages and repositories.

use super::{Argument, CallRule, CallSite, FlowRule, Sink};
use crate::scan::finding::{Category, Severity};
use crate::scan::python::source::Hit;
use crate::scan::python::values::{UNKNOWN_PART, Value, What};
use crate::scan::rules::{Example, Rule};

pub(in crate::scan) const RULES: &[Rule] = &[PY_PIP_INSTALL, PY_GIT_CLONE, PY_BUILD_COMMAND];

pub(in crate::scan) const PY_PIP_INSTALL: Rule = Rule {
    id: "py-pip-install",
    category: Category::PkgInstall,
    severity: Severity::High,
    intent: None,
    reason: "Packages are installed at run time.",
    why: "They are not in comfy.lock: no hash, no age, no scan; and they run in ComfyUI's process.",
    fix: "Declare the package in comfy.toml, and let `comfy lock` pin it.",
    examples: &[
        Example::found(
            "import subprocess, sys\nsubprocess.check_call([sys.executable, '-m', 'pip', 'install', 'x'])\n",
        ),
        Example::found("import os\nos.system(f'pip install {x}')\n"),
        Example::found("from pip._internal import main\nmain(['install', 'x'])\n"),
        Example::found(
            "import subprocess, sys\ncmd = [sys.executable, '-s', '-m', 'uv', 'pip'] + ['install']\nsubprocess.run(cmd + [x])\n",
        ),
        Example::twin(
            "import subprocess, sys\nsubprocess.check_call([sys.executable, '-m', 'pip', 'freeze'])\n",
        ),
        Example::twin("print('pip install x')\n"),
    ],
};

pub(in crate::scan) const PY_GIT_CLONE: Rule = Rule {
    id: "py-git-clone",
    category: Category::GitClone,
    severity: Severity::Medium,
    intent: None,
    reason: "A repository is cloned or updated at run time.",
    why: "The code that arrives is not in comfy.lock, and nobody looked at it.",
    fix: "Declare the repository as a node, or vendor the code.",
    examples: &[
        Example::found("import subprocess\nsubprocess.run(['git', 'clone', url])\n"),
        Example::found("import git\ngit.Repo.clone_from(url, p)\n"),
        Example::twin("import subprocess\nsubprocess.run(['git', 'describe', '--tags'])\n"),
    ],
};

pub(in crate::scan) const PY_BUILD_COMMAND: Rule = Rule {
    id: "py-build-command",
    category: Category::PkgInstall,
    severity: Severity::Medium,
    intent: None,
    reason: "Installing the package runs commands of its own.",
    why: "setup.py replaces steps of pip's by its own code, which runs before anybody has used the package. comfy never runs it: it installs wheels alone.",
    fix: "Read the command's class, or install the package from a wheel.",
    examples: &[
        Example::found(
            "from setuptools import setup\nfrom setuptools.command.install import install\nclass I(install):\n    pass\nsetup(name='x', cmdclass={'install': I})\n",
        ),
        Example::twin("from setuptools import setup\nsetup(name='x')\n"),
        Example::twin(
            "from setuptools import setup\nfrom torch.utils.cpp_extension import BuildExtension\nsetup(name='x', cmdclass={'build_ext': BuildExtension})\n",
        ),
    ],
};

pub(in crate::scan::python) const CALLS: &[CallRule] = &[
    CallRule {
        names: &[
            "subprocess.run",
            "subprocess.call",
            "subprocess.check_call",
            "subprocess.check_output",
            "subprocess.Popen",
            "asyncio.create_subprocess_exec",
            "asyncio.create_subprocess_shell",
            "os.system",
            "os.popen",
            "os.execv",
            "os.execvp",
            "os.execl",
            "os.spawnl",
            "os.spawnv",
            "subprocess.getoutput",
            "subprocess.getstatusoutput",
            ".subprocess_exec",
            ".subprocess_shell",
        ],
        judge: judge_command,
    },
    CallRule {
        names: &[
            "pip.main",
            "pip._internal.cli.main",
            "setuptools.command.easy_install.main",
            "ensurepip.bootstrap",
            "pkg_resources.working_set.require",
            "setuptools.setup().run",
            "micropip.install",
            "launch.run_pip",
            "?launch.run_pip",
        ],
        judge: judge_pip,
    },
    CallRule {
        names: &["setuptools.setup", "distutils.core.setup"],
        judge: judge_setup,
    },
    CallRule {
        names: &[
            "git.Repo.clone_from",
            "git.Git().clone",
            "git.Repo().remote().pull",
            "dulwich.porcelain.clone",
            "pygit2.clone_repository",
            "git.Git().execute",
            "git.Repo().remotes.origin.pull",
            "git.Repo().git.pull",
            "git.Repo().git.clone",
        ],
        judge: |call| {
            Some(Hit::of(
                &PY_GIT_CLONE,
                format!("{}() brings a repository at run time.", call.shown()),
            ))
        },
    },
];

pub(in crate::scan::python) const FLOWS: &[FlowRule] = &[FlowRule {
    names: &[
        "git.Repo.clone_from",
        "git.Git().clone",
        "pygit2.clone_repository",
        "dulwich.porcelain.clone",
    ],
    arguments: &[Argument::At(0, "url")],
    sink: Sink::Url,
    rule: &PY_GIT_CLONE,
}];

fn judge_pip(call: &CallSite<'_>) -> Option<Hit> {
    let words: Vec<String> = call.all().map(Value::as_command_line).collect();
    let line = words.join(" ");
    let known = !line.contains(UNKNOWN_PART) && !line.is_empty();
    let installs = line.contains("install") || !known || call.name.contains("run_pip");
    installs.then(|| {
        Hit::of(
            &PY_PIP_INSTALL,
            format!("{}() installs packages at run time.", call.shown()),
        )
    })
}

fn judge_setup(call: &CallSite<'_>) -> Option<Hit> {
    let commands = call.keyword("cmdclass")?;
    let is_own = |v: &Value| v.alternatives().iter().any(|w| matches!(w, What::Class(_)));
    let has_own =
        |w: &What| matches!(w, What::Dict(items, _) if items.iter().any(|(_, v)| is_own(v)));
    commands.alternatives().iter().any(has_own).then(|| {
        Hit::of(
            &PY_BUILD_COMMAND,
            format!(
                "{}() replaces steps of the installation by its own.",
                call.shown()
            ),
        )
    })
}

fn judge_command(call: &CallSite<'_>) -> Option<Hit> {
    let words: Vec<String> = call.all().take(8).map(Value::as_command_line).collect();
    command_brings_code(&words.join(" "))
}

/// What a command line installs or clones.
pub(in crate::scan::python) fn command_brings_code(line: &str) -> Option<Hit> {
    let lower = line.to_ascii_lowercase();
    let words: Vec<&str> = lower
        .split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ';' | '&' | '|'))
        .filter(|w| !w.is_empty())
        .collect();
    let has = |word: &str| words.contains(&word);
    let program = |name: &str| {
        words.iter().any(|w| {
            *w == name || w.ends_with(&format!("/{name}")) || w.ends_with(&format!("\\{name}.exe"))
        })
    };
    let installers = [
        "pip",
        "pip3",
        "uv",
        "conda",
        "mamba",
        "pixi",
        "poetry",
        "easy_install",
        "npm",
        "apt",
        "apt-get",
        "brew",
        "choco",
        "winget",
        "ensurepip",
        "pipx",
        "yarn",
        "cargo",
    ];
    let installer = installers.iter().find(|i| program(i));
    if let Some(installer) = installer
        && (has("install") || has("add") || has("ensurepip") || has("sync"))
    {
        return Some(Hit::of(
            &PY_PIP_INSTALL,
            format!("Packages are installed at run time, with {installer}."),
        ));
    }
    let known = [
        "freeze",
        "show",
        "list",
        "check",
        "--version",
        "config",
        "cache",
        "download",
        "uninstall",
        "index",
        "inspect",
        "hash",
        "wheel",
    ];
    let pip = program("pip") || program("pip3");
    if pip && lower.trim_end().ends_with(UNKNOWN_PART) && !known.iter().any(|k| has(k)) {
        return Some(
            Hit::of(
                &PY_PIP_INSTALL,
                "pip is started with words that are made at run time.",
            )
            .at(Severity::Medium),
        );
    }
    let clones = program("git") && (has("clone") || has("pull") || has("submodule"));
    clones.then(|| {
        Hit::of(
            &PY_GIT_CLONE,
            "A repository is cloned or updated at run time.",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_are_told_by_their_words() {
        for (line, rule) in [
            ("python -m pip install x", Some("py-pip-install")),
            ("/usr/bin/pip install -r r.txt", Some("py-pip-install")),
            ("cd x && uv pip install y", Some("py-pip-install")),
            ("git clone https://x", Some("py-git-clone")),
            ("pip freeze", None),
            ("git describe", None),
            ("install -m 644 pip.txt x", None),
        ] {
            assert_eq!(command_brings_code(line).map(|h| h.rule.id), rule, "{line}");
        }
    }
}
