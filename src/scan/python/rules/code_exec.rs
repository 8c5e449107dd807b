//! Code that runs code which it makes or is given.

use super::{Argument, CallRule, CallSite, FlowRule, Sink};
use crate::scan::finding::{Category, Severity};
use crate::scan::python::source::Hit;
use crate::scan::rules::{Example, Rule};

pub(in crate::scan) const RULES: &[Rule] = &[
    PY_EXEC,
    PY_EVAL,
    PY_COMPILE,
    PY_CODE_OBJECT,
    PY_NATIVE_CODE,
    PY_INTERACTIVE,
    PY_RUN_TEXT,
    PY_TEMPLATE,
    PY_FORMULA,
];

pub(in crate::scan) const PY_EXEC: Rule = Rule {
    id: "py-exec",
    category: Category::CodeExec,
    severity: Severity::High,
    intent: None,
    reason: "exec() runs text as Python.",
    why: "Whoever decides the text decides what this process does.",
    fix: "Write the code as code, or import it as a module.",
    examples: &[
        Example::found("exec(open('x').read())\n"),
        Example::found("from builtins import exec as run\nrun('pass')\n"),
        Example::found("list(map(exec, ['pass']))\n"),
        Example::found("class A:\n    __class_getitem__ = exec\n"),
        Example::twin("cursor.exec('SELECT 1')\n"),
        Example::twin("# exec('pass')\nx = 'exec(1)'\n"),
    ],
};

pub(in crate::scan) const PY_EVAL: Rule = Rule {
    id: "py-eval",
    category: Category::CodeExec,
    severity: Severity::Medium,
    intent: None,
    reason: "eval() runs text as Python.",
    why: "A text out of a workflow or a request runs with all that ComfyUI may do.",
    fix: "Use ast.literal_eval() for data, or a parser that knows numbers and operators alone.",
    examples: &[
        Example::found("eval(x)\n"),
        Example::found("(lambda f: f)(eval)('1')\n"),
        Example::twin("import ast\nast.literal_eval('1')\n"),
        Example::twin("model.eval()\ndf.eval('a + b')\n"),
    ],
};

pub(in crate::scan) const PY_COMPILE: Rule = Rule {
    id: "py-compile",
    category: Category::CodeExec,
    severity: Severity::Medium,
    intent: None,
    reason: "compile() makes code out of text.",
    why: "The code that it makes is there to be run.",
    fix: "Write the code as code.",
    examples: &[
        Example::found("compile(text, 'x', 'exec')\n"),
        Example::twin("import re\nre.compile('x')\n"),
        Example::twin("import ast\ncompile(text, 'x', 'exec', ast.PyCF_ONLY_AST)\n"),
    ],
};

pub(in crate::scan) const PY_CODE_OBJECT: Rule = Rule {
    id: "py-code-object",
    category: Category::CodeExec,
    severity: Severity::High,
    intent: None,
    reason: "A function is made of a code object.",
    why: "Bytecode that is put together at run time cannot be read.",
    fix: "Write the function as code.",
    examples: &[
        Example::found("import types\ntypes.FunctionType(code, globals())()\n"),
        Example::found("f.__code__ = g.__code__.replace(co_code=b'')\n"),
        Example::twin("f.__code__.co_name\n"),
        Example::twin("import types\nisinstance(x, types.FunctionType)\n"),
    ],
};

pub(in crate::scan) const PY_NATIVE_CODE: Rule = Rule {
    id: "py-native-code",
    category: Category::CodeExec,
    severity: Severity::Medium,
    intent: None,
    reason: "Native code is loaded or called.",
    why: "A library's functions are not bound by what Python allows, and this scan does not read them.",
    fix: "Accept it where the library is known.",
    examples: &[
        Example::found("import ctypes\nctypes.CDLL(None).system(b'true')\n"),
        Example::found("import numpy.f2py\nnumpy.f2py.compile(text)\n"),
        Example::found("from cffi import FFI\nFFI().dlopen(None)\n"),
        Example::twin("import ctypes\nctypes.sizeof(ctypes.c_int)\n"),
    ],
};

pub(in crate::scan) const PY_INTERACTIVE: Rule = Rule {
    id: "py-interactive",
    category: Category::CodeExec,
    severity: Severity::High,
    intent: None,
    reason: "An interpreter is started that takes commands.",
    why: "Whoever reaches it runs code.",
    fix: "Remove it.",
    examples: &[
        Example::found("import code\ncode.interact()\n"),
        Example::found("import debugpy\ndebugpy.listen(('0.0.0.0', 5678))\n"),
        Example::twin("code.interact()\ncode = 1\n"),
    ],
};

pub(in crate::scan) const PY_RUN_TEXT: Rule = Rule {
    id: "py-run-text",
    category: Category::CodeExec,
    severity: Severity::Medium,
    intent: None,
    reason: "A function of the library runs text as Python.",
    why: "timeit, cProfile and their like are exec() under another name.",
    fix: "Pass a function instead of text.",
    examples: &[
        Example::found("import timeit\ntimeit.timeit('import os')\n"),
        Example::found("import cProfile\ncProfile.run('main()')\n"),
        Example::twin("import timeit\ntimeit.timeit(f)\n"),
    ],
};

pub(in crate::scan) const PY_TEMPLATE: Rule = Rule {
    id: "py-template",
    category: Category::CodeExec,
    severity: Severity::Medium,
    intent: None,
    reason: "Data that somebody else decides is a template.",
    why: "A template of Jinja reaches functions through the objects it is given.",
    fix: "Use jinja2.sandbox.SandboxedEnvironment, or give the data as a variable.",
    examples: &[
        Example::found(
            "import jinja2\nclass N:\n    RETURN_TYPES = ('STRING',)\n    FUNCTION = 'go'\n    @classmethod\n    def INPUT_TYPES(s):\n        return {'required': {'text': ('STRING', {})}}\n    def go(self, text):\n        return (jinja2.Template(text).render(),)\n",
        ),
        Example::twin("import jinja2\njinja2.Template('{{ x }}').render(x=1)\n"),
    ],
};

pub(in crate::scan) const PY_FORMULA: Rule = Rule {
    id: "py-formula",
    category: Category::CodeExec,
    severity: Severity::Medium,
    intent: None,
    reason: "Data that somebody else decides is a formula.",
    why: "pandas, numexpr and sympy hand parts of a formula to eval().",
    fix: "Use a parser that knows numbers and operators alone.",
    examples: &[
        Example::found(
            "import sympy\nclass N:\n    RETURN_TYPES = ('STRING',)\n    FUNCTION = 'go'\n    @classmethod\n    def INPUT_TYPES(s):\n        return {'required': {'text': ('STRING', {})}}\n    def go(self, text):\n        return (str(sympy.sympify(text)),)\n",
        ),
        Example::twin("import sympy\nsympy.sympify('x + 1')\n"),
    ],
};

pub(in crate::scan::python) const CALLS: &[CallRule] = &[
    CallRule {
        names: &[
            "timeit.timeit",
            "timeit.repeat",
            "timeit.Timer",
            "cProfile.run",
            "cProfile.runctx",
            "profile.run",
            "profile.runctx",
            "pdb.run",
            "pdb.runeval",
            "bdb.Bdb().run",
            "trace.Trace().run",
            "code.InteractiveInterpreter().runcode",
            "code.InteractiveInterpreter().runsource",
            "code.InteractiveConsole().push",
            "doctest.debug_src",
            "test.support.run_code",
            "pytest.main",
            "cProfile.Profile().run",
            "IPython.get_ipython().run_cell",
            "IPython.get_ipython().run_line_magic",
            "py_compile.compile",
        ],
        judge: |call| {
            let text = call
                .argument(0, "stmt")
                .is_some_and(|v| v.as_text().is_some())
                || call.name.contains("Interpreter")
                || call.name.contains("Console");
            let quiet = matches!(call.name, "py_compile.compile" | "pytest.main");
            (text && !quiet).then(|| {
                Hit::of(
                    &PY_RUN_TEXT,
                    format!("{}() runs text as Python.", call.shown()),
                )
            })
        },
    },
    CallRule {
        names: &["builtins.exec"],
        judge: |call| {
            Some(Hit::of(
                &PY_EXEC,
                passed(call, "exec() runs text as Python."),
            ))
        },
    },
    CallRule {
        names: &["builtins.eval", "numexpr.evaluate", "pandas.eval"],
        judge: |call| {
            let hit = Hit::of(&PY_EVAL, passed(call, "eval() runs text as Python."));
            let library = !call.name.starts_with("builtins.");
            Some(if library { hit.at(Severity::Low) } else { hit })
        },
    },
    CallRule {
        names: &[
            "builtins.compile",
            "code.compile_command",
            "codeop.compile_command",
        ],
        judge: |call| {
            if call.argument(3, "flags").is_some() {
                return None;
            }
            let enough =
                call.positional.len() + call.named.len() >= 3 || call.passed || call.spread;
            enough.then(|| Hit::of(&PY_COMPILE, "compile() makes code out of text."))
        },
    },
    CallRule {
        names: &[
            "types.FunctionType",
            "types.LambdaType",
            "types.CodeType",
            "new.function",
            "new.code",
            ".__code__.replace",
        ],
        judge: |call| {
            (!call.passed).then(|| {
                Hit::of(
                    &PY_CODE_OBJECT,
                    format!("{}() makes a function of a code object.", call.shown()),
                )
            })
        },
    },
    CallRule {
        names: &[
            "ctypes.CDLL",
            "ctypes.PyDLL",
            "ctypes.WinDLL",
            "ctypes.OleDLL",
            "ctypes.cdll.LoadLibrary",
            "ctypes.windll.LoadLibrary",
            "ctypes.pydll.LoadLibrary",
            "ctypes.CFUNCTYPE()",
            "cffi.FFI().dlopen",
            "cffi.FFI().verify",
            "onnxruntime.SessionOptions().register_custom_ops_library",
            "tensorflow.load_op_library",
            "torch.utils.cpp_extension.load",
            "torch.utils.cpp_extension.load_inline",
            "pyximport.install",
            "cppyy.cppdef",
            ".enable_load_extension",
            ".load_extension",
            "ctypes.pythonapi.PyRun_SimpleString",
            "torch.ops.load_library",
            "torch.classes.load_library",
            "llvmlite.binding.load_library_permanently",
            "numpy.ctypeslib.load_library",
            "numpy.f2py.compile",
            "numpy.f2py.run_main",
            "cython.inline",
            "Cython.inline",
            "Cython.Build.Inline.cython_inline",
            "_ctypes.dlopen",
            "_ctypes.LoadLibrary",
            "_imp.create_dynamic",
        ],
        judge: |call| {
            Some(Hit::of(
                &PY_NATIVE_CODE,
                format!("{}() loads native code.", call.shown()),
            ))
        },
    },
    CallRule {
        names: &[
            "ctypes.windll.kernel32.WriteProcessMemory",
            "ctypes.windll.kernel32.CreateRemoteThread",
            "ctypes.windll.kernel32.VirtualAllocEx",
            "ctypes.windll.kernel32.RtlMoveMemory",
            "ctypes.windll.kernel32.VirtualAlloc",
            "ctypes.windll.kernel32.QueueUserAPC",
            "ctypes.windll.ntdll.NtCreateThreadEx",
            "ctypes.windll.kernel32.CreateThread",
            "ctypes.CDLL().mprotect",
        ],
        judge: |call| {
            let hit = Hit::of(
                &PY_NATIVE_CODE,
                format!("{}() puts machine code into a process.", call.shown()),
            );
            Some(hit.at(Severity::Critical))
        },
    },
    CallRule {
        names: &[
            "code.interact",
            "code.InteractiveConsole",
            "code.InteractiveInterpreter",
            "IPython.embed",
            "IPython.start_ipython",
            "IPython.embed_kernel",
            "ipykernel.embed.embed_kernel",
            "debugpy.listen",
            "debugpy.connect",
            "ptvsd.enable_attach",
            "pydevd.settrace",
            "pydevd_pycharm.settrace",
            "remote_pdb.set_trace",
            "remote_pdb.RemotePdb",
            "rpdb.set_trace",
            "manhole.install",
        ],
        judge: |call| {
            Some(Hit::of(
                &PY_INTERACTIVE,
                format!("{}() takes commands and runs them.", call.shown()),
            ))
        },
    },
];

fn passed(call: &CallSite<'_>, message: &str) -> String {
    if call.passed {
        format!("{} It is handed on to be called.", message)
    } else {
        message.to_string()
    }
}

pub(in crate::scan::python) const FLOWS: &[FlowRule] = &[
    FlowRule {
        names: &[
            "numexpr.evaluate",
            "pandas.eval",
            "pandas.DataFrame().query",
            "pandas.DataFrame().eval",
            "pandas.read_csv().query",
            "pandas.read_csv().eval",
            "sympy.sympify",
            "sympy.S",
            "sympy.parse_expr",
            "sympy.parsing.sympy_parser.parse_expr",
        ],
        arguments: &[Argument::At(0, "expr")],
        sink: Sink::Formula,
        rule: &PY_FORMULA,
    },
    FlowRule {
        names: &[
            "jinja2.Template",
            "jinja2.Environment().from_string",
            "mako.template.Template",
            "flask.render_template_string",
        ],
        arguments: &[Argument::At(0, "source")],
        sink: Sink::Code,
        rule: &PY_TEMPLATE,
    },
    FlowRule {
        names: &["builtins.exec", "runpy.run_path", "imp.load_source"],
        arguments: &[Argument::At(0, "source")],
        sink: Sink::Code,
        rule: &PY_EXEC,
    },
    FlowRule {
        names: &["builtins.eval"],
        arguments: &[Argument::At(0, "source")],
        sink: Sink::Code,
        rule: &PY_EVAL,
    },
    FlowRule {
        names: &["builtins.compile"],
        arguments: &[Argument::At(0, "source")],
        sink: Sink::Code,
        rule: &PY_COMPILE,
    },
    FlowRule {
        names: &["types.FunctionType", "types.CodeType"],
        arguments: &[Argument::Any],
        sink: Sink::Code,
        rule: &PY_CODE_OBJECT,
    },
];
