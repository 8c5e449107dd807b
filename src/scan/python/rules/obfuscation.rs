//! Code that hides what it does.

use super::CallRule;
use crate::scan::finding::{Category, Severity};
use crate::scan::python::source::Hit;
use crate::scan::rules::{Example, Rule};

pub(in crate::scan) const RULES: &[Rule] = &[
    PY_HIDDEN_NAME,
    PY_DECODED_CODE,
    PY_OBJECT_ESCAPE,
    PY_ENCODED_BLOB,
    PY_LOOKALIKE_NAME,
    PY_MANGLED_NAMES,
    PY_PROTECTED,
];

pub(in crate::scan) const PY_HIDDEN_NAME: Rule = Rule {
    id: "py-hidden-name",
    category: Category::Obfuscation,
    severity: Severity::Critical,
    intent: None,
    reason: "A dangerous function is reached by a name that is put together.",
    why: "Nobody writes 'ex' + 'ec' but to hide it.",
    fix: "Do not run this node.",
    examples: &[
        Example::found("getattr(__builtins__, 'ex' + 'ec')('pass')\n"),
        Example::found("import importlib as i\ni.import_module('o' + 's').system('true')\n"),
        Example::found("globals()['__builtins__'].__dict__['cexe'[::-1]]('pass')\n"),
        Example::found(
            "import os\ngetattr(os, ''.join(map(chr, [115, 121, 115, 116, 101, 109])))('true')\n",
        ),
        Example::found("import os\ngetattr(os, 'system')('true')\n"),
        Example::found(
            "import os, codecs\ngetattr(os, codecs.decode('flfgrz', 'rot13'))('true')\n",
        ),
        Example::twin("import torch\ngetattr(torch, 'float' + '16')\n"),
        Example::twin("import os\ngetattr(os, 'getuid', None)\n"),
    ],
};

pub(in crate::scan) const PY_DECODED_CODE: Rule = Rule {
    id: "py-decoded-code",
    category: Category::Obfuscation,
    severity: Severity::Critical,
    intent: None,
    reason: "Code is decoded and run.",
    why: "Code that is encoded in a source is there so that nobody reads it.",
    fix: "Do not run this node.",
    examples: &[
        Example::found(
            "import base64\np = base64.b64decode('cGFzcw==')\nc = compile(p, 'x', 'exec')\nf = exec\nf(c)\n",
        ),
        Example::found("import marshal, zlib\nexec(marshal.loads(zlib.decompress(b'x')))\n"),
        Example::found("exec(bytes.fromhex('70617373'))\n"),
        Example::found("exec(''.join(chr(c) for c in [112, 97, 115, 115]))\n"),
        Example::twin("import base64\nimage = base64.b64decode(data)\n"),
        Example::twin("exec(open('x').read())\n"),
    ],
};

pub(in crate::scan) const PY_OBJECT_ESCAPE: Rule = Rule {
    id: "py-object-escape",
    category: Category::Obfuscation,
    severity: Severity::High,
    intent: None,
    reason: "Functions are reached through the insides of objects.",
    why: "().__class__.__base__.__subclasses__() finds what no import shows.",
    fix: "Do not run this node.",
    examples: &[
        Example::found("().__class__.__base__.__subclasses__()[0]\n"),
        Example::found("f.__globals__['__builtins__']['exec']('pass')\n"),
        Example::found("print.__self__.exec('pass')\n"),
        Example::found("import gc\n[o for o in gc.get_objects()][0]('id')\n"),
        Example::twin("import gc\nlen(gc.get_objects())\n"),
        Example::twin("class A: pass\nA.__subclasses__()\n"),
        Example::twin("self.__class__.__name__\n"),
    ],
};

pub(in crate::scan) const PY_ENCODED_BLOB: Rule = Rule {
    id: "py-encoded-blob",
    category: Category::Obfuscation,
    severity: Severity::Low,
    intent: None,
    reason: "The source holds a long encoded text.",
    why: "It may be a picture, or a program.",
    fix: "Ship data as files.",
    examples: &[],
};

pub(in crate::scan) const PY_LOOKALIKE_NAME: Rule = Rule {
    id: "py-lookalike-name",
    category: Category::Obfuscation,
    severity: Severity::High,
    intent: None,
    reason: "A name is written with letters that only look like others.",
    why: "Python takes such letters for the usual ones (NFKC), or takes two names that look alike for two.",
    fix: "Write the name with the usual letters.",
    examples: &[
        Example::found("import os\nos.\u{ff53}ystem('true')\n"),
        Example::found("p\u{0430}th = 1\n"),
        Example::twin("größe = 1\nσ = 2\n"),
    ],
};

pub(in crate::scan) const PY_MANGLED_NAMES: Rule = Rule {
    id: "py-mangled-names",
    category: Category::Obfuscation,
    severity: Severity::High,
    intent: None,
    reason: "Names are made so that nobody can read them.",
    why: "Names of O and 0, l and 1 alone come out of an obfuscator.",
    fix: "Do not run this node.",
    examples: &[
        Example::found("OOO0O0OOOO = 1\nO0O0O0OO0O = 2\nOO0O0OOO00 = 3\n"),
        Example::found("lIlIIllIlI = 1\nIlIlIlIlIl = 2\nllIIllIIll = 3\n"),
        Example::twin("OO = 1\nlIl = 2\n"),
    ],
};

pub(in crate::scan) const PY_PROTECTED: Rule = Rule {
    id: "py-protected",
    category: Category::Carrier,
    severity: Severity::High,
    intent: None,
    reason: "The code is wrapped by a program that hides it.",
    why: "What PyArmor and its like wrap cannot be read by anybody.",
    fix: "Ask for the source, or do not run this node.",
    examples: &[
        Example::found(
            "from pyarmor_runtime_000000 import __pyarmor__\n__pyarmor__(__name__, __file__, b'x')\n",
        ),
        Example::twin("from armor import x\n"),
    ],
};

pub(in crate::scan::python) const CALLS: &[CallRule] = &[
    CallRule {
        names: &["__pyarmor__", ".__pyarmor__", "?__pyarmor__"],
        judge: |_| Some(Hit::of(&PY_PROTECTED, "The code is wrapped by PyArmor.")),
    },
    CallRule {
        names: &[
            "gc.get_objects()[]",
            "gc.get_referrers()[]",
            "gc.get_referents()[]",
        ],
        judge: |_| {
            let message = "A function is found among all objects and called.";
            Some(Hit::of(&PY_OBJECT_ESCAPE, message))
        },
    },
];
