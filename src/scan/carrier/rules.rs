//! Rules about files that bring code along without being plain source.

use crate::scan::finding::{Category, Intent, Severity};
use crate::scan::rules::Rule;

const fn carrier(
    id: &'static str,
    severity: Severity,
    reason: &'static str,
    why: &'static str,
    fix: &'static str,
) -> Rule {
    Rule {
        id,
        category: Category::Carrier,
        severity,
        intent: None,
        reason,
        why,
        fix,
        examples: &[],
    }
}

pub(crate) const COMPILED_CODE: Rule = carrier(
    "carrier-compiled",
    Severity::Medium,
    "a compiled program or library",
    "Nobody can read what it does; a node loads it with ComfyUI's rights.",
    "Ask for its source and its build, or accept it with the name of who built it.",
);
pub(crate) const BYTECODE_ALONE: Rule = carrier(
    "carrier-bytecode",
    Severity::High,
    "Python bytecode without its source",
    "Python imports it like a module, and nobody can read what it does.",
    "Do not use the node, or ask for the source.",
);
pub(crate) const BYTECODE_BESIDE: Rule = carrier(
    "carrier-bytecode-beside-source",
    Severity::Low,
    "Python bytecode beside a source of the same name",
    "Python can run it in place of the source. comfy compiles its own, and never uses this one.",
    "Ask for it to be removed from the repository.",
);
pub(crate) const TOO_LARGE: Rule = carrier(
    "carrier-too-large",
    Severity::Critical,
    "source code of more than 32 MiB",
    "It was not read: people do not write such files.",
    "Read it in parts, and accept it if it holds data alone.",
);
pub(crate) const UNPARSEABLE: Rule = carrier(
    "carrier-unparseable",
    Severity::Medium,
    "a file that cannot be parsed",
    "Nothing is known of what it does.",
    "Read it by hand; accept it if nothing loads it.",
);
pub(crate) const UNREADABLE: Rule = carrier(
    "carrier-unreadable",
    Severity::Medium,
    "a file or folder that could not be read",
    "Nothing is known of what it holds.",
    "Scan as a user who may read it.",
);
pub(crate) const NOT_FETCHED: Rule = carrier(
    "carrier-not-fetched",
    Severity::Low,
    "a file of more than 1 MiB that was not fetched for the scan",
    "`lock` scans code, and leaves pictures and models to others. Under `scan = \"block\"` it fetches \
     and scans everything, and so does `apply`.",
    "`comfy scan` reads it once it is on this machine.",
);
pub(crate) const CRASH: Rule = carrier(
    "carrier-crash",
    Severity::Critical,
    "a file that ended the process that scanned it",
    "A file that a parser cannot survive may be made for that.",
    "Do not use it before somebody has looked at it.",
);
pub(crate) const ODD_NAME: Rule = carrier(
    "carrier-odd-name",
    Severity::High,
    "a name that does not show what it is",
    "Characters without width or with another direction hide what a file is called.",
    "Do not use it before somebody has looked at it.",
);
pub(crate) const LINK_LEAVES: Rule = carrier(
    "carrier-link",
    Severity::High,
    "a link that leaves its folder",
    "What it leads to is not part of what was pinned, and differs from machine to machine.",
    "Do not use it: comfy refuses such a tree at `lock`.",
);
pub(crate) const SPECIAL_FILE: Rule = carrier(
    "carrier-special-file",
    Severity::High,
    "an entry that is no file, folder or link",
    "A pipe, socket or device is not part of a node.",
    "Remove it.",
);
pub(crate) const HIDDEN_CODE: Rule = carrier(
    "carrier-hidden",
    Severity::Medium,
    "source code in a hidden file or folder",
    "Tools that list files do not show it.",
    "Look at what imports it.",
);
pub(crate) const BIDI_TEXT: Rule = carrier(
    "carrier-bidi",
    Severity::High,
    "characters that reverse the direction of text",
    "The code that runs is another one than the code that an editor shows (CVE-2021-42574).",
    "Look at the file with `cat -v`.",
);
pub(crate) const INSTALL_SCRIPT: Rule = carrier(
    "carrier-install-script",
    Severity::Low,
    "a script that other tools run when the node is installed",
    "comfy never runs it. ComfyUI-Manager does, with all your rights.",
    "Read it before you install the node with another tool.",
);
pub(crate) const PRESTARTUP_SCRIPT: Rule = carrier(
    "carrier-prestartup",
    Severity::Low,
    "a script that runs before ComfyUI starts",
    "It can change how ComfyUI and every other node work.",
    "Read it.",
);
pub(crate) const BUILD_SCRIPT: Rule = carrier(
    "carrier-build-script",
    Severity::Low,
    "code that runs when the package is built",
    "comfy builds nothing from a node's tree; pip does, with all your rights.",
    "Read it before you install the node with another tool.",
);
pub(crate) const START_HOOK: Rule = Rule {
    category: Category::Persistence,
    ..carrier(
        "carrier-start-hook",
        Severity::High,
        "code that runs at every start of Python",
        "A .pth line that begins with `import`, sitecustomize and usercustomize run in every \
         Python, whatever it was started for (litellm 1.82.7, March 2026).",
        "Do not use it, unless you know why it is there.",
    )
};
pub(crate) const AUTOSTART_FILE: Rule = Rule {
    category: Category::Persistence,
    ..carrier(
        "carrier-autostart",
        Severity::Medium,
        "a file that starts programs when somebody logs in",
        "launchd and systemd start what such files name.",
        "Look for the code that copies it.",
    )
};
pub(crate) const GIT_FILTER: Rule = carrier(
    "carrier-git-filter",
    Severity::Low,
    "a git attribute that changes what is checked out",
    "The files that run differ from those of the commit, or a program is started for them.",
    "comfy ignores it: it unpacks the commit's own bytes.",
);
pub(crate) const GIT_SUBMODULE: Rule = carrier(
    "carrier-git-submodule",
    Severity::High,
    "a submodule whose settings run a program",
    "git takes an address or a path that begins with `-` for an option, and starts a helper for \
     `name::` (CVE-2018-17456).",
    "Do not clone it with submodules.",
);
pub(crate) const CODE_IN_DATA: Rule = carrier(
    "carrier-code-in-data",
    Severity::Medium,
    "a text of a data file is Python code that does more than compute",
    "A node that runs code, or the node's own, runs it when the workflow is queued.",
    "Read the text before you load the file.",
);
pub(crate) const REQUIREMENT_NAME: Rule = Rule {
    category: Category::PkgInstall,
    ..carrier(
        "requirement-name",
        Severity::Medium,
        "a package whose name is one letter from a well-known one",
        "Packages with such names are published to be installed by mistake.",
        "Compare the name with that of the package that is meant.",
    )
};
pub(crate) const REQUIREMENT_URL: Rule = Rule {
    category: Category::PkgInstall,
    ..carrier(
        "requirement-url",
        Severity::Medium,
        "a package by address instead of by name",
        "What the address serves can change, and no index, no age and no advisory looks at it \
         (ComfyUI_LLMVISION, June 2024).",
        "Give it as a wheel with its hash in `[python] wheels`.",
    )
};
pub(crate) const REQUIREMENT_INDEX: Rule = Rule {
    category: Category::PkgInstall,
    ..carrier(
        "requirement-index",
        Severity::Medium,
        "another package index",
        "Whoever owns it can answer for every package.",
        "comfy ignores it; declare it in `indexes` for the packages that need it.",
    )
};
pub(crate) const SHELL_DOWNLOAD_RUN: Rule = Rule {
    category: Category::CmdExec,
    intent: Some(Intent::DownloadAndRun),
    ..carrier(
        "shell-download-run",
        Severity::High,
        "a shell script that runs what it downloads",
        "Whoever owns the address decides what runs.",
        "Do not run it.",
    )
};
pub(crate) const SHELL_SCRIPT: Rule = Rule {
    category: Category::CmdExec,
    ..carrier(
        "shell-script",
        Severity::Low,
        "a script for a shell",
        "comfy never runs it; Python code of the node, or a person, can.",
        "Read it before you run it.",
    )
};
pub(crate) const SHELL_PERSISTENCE: Rule = Rule {
    category: Category::Persistence,
    ..carrier(
        "shell-persistence",
        Severity::High,
        "a shell script that arranges to be started again",
        "crontab, systemd units, launchd and shell profiles outlive the node.",
        "Do not run it.",
    )
};

pub(crate) const RULES: &[Rule] = &[
    COMPILED_CODE,
    BYTECODE_ALONE,
    BYTECODE_BESIDE,
    TOO_LARGE,
    UNPARSEABLE,
    UNREADABLE,
    NOT_FETCHED,
    CRASH,
    ODD_NAME,
    LINK_LEAVES,
    SPECIAL_FILE,
    HIDDEN_CODE,
    BIDI_TEXT,
    INSTALL_SCRIPT,
    PRESTARTUP_SCRIPT,
    BUILD_SCRIPT,
    START_HOOK,
    AUTOSTART_FILE,
    GIT_FILTER,
    GIT_SUBMODULE,
    CODE_IN_DATA,
    REQUIREMENT_NAME,
    REQUIREMENT_URL,
    REQUIREMENT_INDEX,
    SHELL_DOWNLOAD_RUN,
    SHELL_SCRIPT,
    SHELL_PERSISTENCE,
];
