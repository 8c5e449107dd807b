//! Code that arranges to be started again.

use super::{CallRule, CallSite};
use crate::scan::finding::{Category, Severity};
use crate::scan::python::source::Hit;
use crate::scan::python::values::SITE_PART;
use crate::scan::rules::{Example, Rule};

pub(in crate::scan) const RULES: &[Rule] = &[PY_AUTOSTART, PY_AUTOSTART_COMMAND, PY_SITE_WRITE];

pub(in crate::scan) const PY_AUTOSTART: Rule = Rule {
    id: "py-autostart",
    category: Category::Persistence,
    severity: Severity::High,
    intent: None,
    reason: "A file that starts programs at login or boot is named.",
    why: "What is written there runs again when ComfyUI has ended, as the user, outside of any sandbox.",
    fix: "Do not run this node.",
    examples: &[
        Example::found("import os\nopen(os.path.expanduser('~/.bashrc'), 'a').write('x')\n"),
        Example::found(
            "from pathlib import Path\n(Path.home() / 'Library/LaunchAgents/x.plist').write_text('x')\n",
        ),
        Example::found(
            "import winreg\nwinreg.OpenKey(winreg.HKEY_CURRENT_USER, r'Software\\Microsoft\\Windows\\CurrentVersion\\Run')\n",
        ),
        Example::twin("print('add this to ~/.bashrc')\n"),
    ],
};

pub(in crate::scan) const PY_AUTOSTART_COMMAND: Rule = Rule {
    id: "py-autostart-command",
    category: Category::Persistence,
    severity: Severity::Critical,
    intent: None,
    reason: "A command arranges a start at login, boot or a time.",
    why: "The program runs again when ComfyUI has ended.",
    fix: "Do not run this node.",
    examples: &[
        Example::found("import os\nos.system('(crontab -l; echo \"* * * * * x\") | crontab -')\n"),
        Example::found(
            "import subprocess\nsubprocess.run(['systemctl', '--user', 'enable', 'x'])\n",
        ),
        Example::twin("import subprocess\nsubprocess.run(['systemctl', 'status', 'x'])\n"),
    ],
};

pub(in crate::scan) const PY_SITE_WRITE: Rule = Rule {
    id: "py-site-write",
    category: Category::Persistence,
    severity: Severity::Critical,
    intent: None,
    reason: "A file is written that Python runs at every start.",
    why: "A .pth file or sitecustomize.py runs in every Python of this environment.",
    fix: "Do not run this node.",
    examples: &[
        Example::found(
            "import site\nopen(site.getsitepackages()[0] + '/x.pth', 'w').write('import os')\n",
        ),
        Example::found(
            "import site, os\nopen(os.path.join(site.getusersitepackages(), 'sitecustomize.py'), 'w')\n",
        ),
        Example::twin("open('model.pth', 'wb')\n"),
        Example::twin("import torch\ntorch.save(x, 'model.pth')\n"),
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
            "os.system",
            "os.popen",
            "subprocess.getoutput",
            "asyncio.create_subprocess_exec",
            "asyncio.create_subprocess_shell",
            "os.execv",
            "os.execvp",
            "os.execl",
            "os.spawnl",
            "os.spawnv",
        ],
        judge: judge_command,
    },
    CallRule {
        names: &[
            "winreg.OpenKey",
            "winreg.CreateKey",
            "winreg.OpenKeyEx",
            "winreg.CreateKeyEx",
            "_winreg.OpenKey",
            "winreg.SetValueEx",
            "_winreg.CreateKey",
            "win32api.RegCreateKey",
        ],
        judge: |call| {
            let run = call.all().any(|v| {
                v.as_text()
                    .is_some_and(|t| t.to_ascii_lowercase().contains("currentversion\\run"))
            });
            run.then(|| {
                Hit::of(
                    &PY_AUTOSTART,
                    "The registry key that starts programs at login is opened.",
                )
                .at(Severity::Critical)
            })
        },
    },
    CallRule {
        names: &[
            "crontab.CronTab",
            "winshell.startup",
            "winshell.CreateShortcut",
            "win32com.client.Dispatch().CreateShortCut",
        ],
        judge: |call| {
            Some(Hit::of(
                &PY_AUTOSTART,
                format!("{}() arranges a start.", call.shown()),
            ))
        },
    },
];

fn judge_command(call: &CallSite<'_>) -> Option<Hit> {
    let words: Vec<String> = call
        .all()
        .take(6)
        .map(super::Value::as_command_line)
        .collect();
    let line = words.join(" ").to_ascii_lowercase();
    let has = |w: &str| line.contains(w);
    let bad = has("crontab") && !line.trim_end().ends_with("crontab -l")
        || has("schtasks") && has("/create")
        || has("systemctl") && has("enable")
        || has("launchctl") && (has("load") || has("bootstrap"))
        || has("currentversion\\run")
        || has("update-rc.d")
        || has(">> ~/.bashrc")
        || has(">> ~/.profile")
        || has(">> ~/.zshrc")
        || has(">>~/.bashrc")
        || has("/etc/rc.local")
        || has("/etc/cron");
    bad.then(|| {
        Hit::of(
            &PY_AUTOSTART_COMMAND,
            "The command arranges to be started again.",
        )
    })
}

/// Parts and ends of paths that are run at login or boot.
const AUTOSTART: &[&str] = &[
    ".bashrc",
    ".bash_profile",
    ".bash_login",
    ".zshrc",
    ".zprofile",
    ".zshenv",
    ".config/fish/config.fish",
    "/etc/profile",
    "launchagents/",
    "launchdaemons/",
    "/etc/systemd/system",
    ".config/systemd/user",
    ".config/autostart",
    "/etc/cron",
    "/var/spool/cron",
    "/etc/rc.local",
    "/etc/init.d",
    "start menu/programs/startup",
    "/etc/ld.so.preload",
    "autoexec.bat",
    ".local/share/systemd/user",
    "authorized_keys",
    ".config/plasma-workspace/env",
    "/library/startupitems",
];

/// What naming a path shows; `written` if it is opened to be written.
pub(in crate::scan::python) fn judge_path(path: &str, written: bool, as_text: bool) -> Option<Hit> {
    let plain = path.replace('\\', "/").to_ascii_lowercase();
    let site = plain.contains(SITE_PART)
        || plain.contains("site-packages")
        || plain.contains("dist-packages");
    let hook = plain.ends_with("sitecustomize.py") || plain.ends_with("usercustomize.py");
    let pth = plain.ends_with(".pth");
    if written && (hook || pth && (site || as_text)) {
        return Some(Hit::of(
            &PY_SITE_WRITE,
            "A file is written that Python runs at every start.",
        ));
    }
    if site && (hook || pth) {
        return Some(
            Hit::of(
                &PY_SITE_WRITE,
                "A file is named that Python runs at every start.",
            )
            .at(Severity::High),
        );
    }
    let profile =
        plain.ends_with("/.profile") || plain == "~/.profile" || plain.ends_with("launchagents");
    let starts = profile || AUTOSTART.iter().any(|a| plain.contains(a));
    starts.then(|| {
        let hit = Hit::of(
            &PY_AUTOSTART,
            "A file that starts programs at login or boot is named.",
        );
        if written {
            hit.at(Severity::Critical)
        } else {
            hit
        }
    })
}
