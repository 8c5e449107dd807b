//! The modules of a node: their functions and classes, and which file an import means.

use rustc_hash::FxHashMap as HashMap;

use ruff_python_ast::visitor::{self, Visitor};
use ruff_python_ast::{Expr, ExprLambda, Parameters, Stmt, StmtClassDef, StmtFunctionDef, Suite};

use super::source::SourceText;
use super::values::{ClassId, FunctionId, ModuleId};

/// Modules of ComfyUI and of Python that a file of a node never stands for.
const NEVER_LOCAL: &[&str] = &[
    "nodes",
    "server",
    "comfy",
    "folder_paths",
    "execution",
    "os",
    "sys",
    "json",
    "re",
    "torch",
    "numpy",
    "types",
    "typing",
    "logging",
    "random",
    "math",
    "io",
    "time",
    "copy",
    "glob",
    "shutil",
    "subprocess",
    "pickle",
    "base64",
    "requests",
    "yaml",
    "site",
    "code",
    "socket",
    "ctypes",
    "pip",
];

/// One parsed file.
#[derive(Debug)]
pub(super) struct Module {
    pub source: SourceText,
    pub body: Suite,
    /// The path as components, without `.py` and `__init__`.
    dotted: Vec<String>,
    is_package: bool,
}

impl Module {
    pub(super) fn new(source: SourceText, body: Suite) -> Module {
        let path = source.path.clone();
        let stem = path
            .strip_suffix(".py")
            .or_else(|| path.strip_suffix(".pyw"))
            .unwrap_or(&path);
        let mut dotted: Vec<String> = stem.split('/').map(str::to_string).collect();
        let is_package = dotted.last().is_some_and(|l| l == "__init__");
        if is_package {
            dotted.pop();
        }
        Module {
            source,
            body,
            dotted,
            is_package,
        }
    }
}

/// What is called: a function or a lambda.
#[derive(Debug, Clone, Copy)]
pub(super) enum Definition<'a> {
    Function(&'a StmtFunctionDef),
    Lambda(&'a ExprLambda),
}

#[derive(Debug)]
pub(super) struct FunctionInfo<'a> {
    pub module: ModuleId,
    pub definition: Definition<'a>,
    /// The function that it stands in.
    pub parent: Option<FunctionId>,
    /// The class whose method it is.
    pub class: Option<ClassId>,
    /// Names in the order in which positional arguments meet them, then those by name alone.
    pub parameters: Vec<&'a str>,
    /// How many of them positional arguments can meet.
    pub positional: usize,
    pub star: Option<usize>,
    pub double_star: Option<usize>,
    pub binding: Binding,
    /// Whether other functions stand in it.
    pub has_inner: bool,
}

/// What a method is given first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binding {
    /// It is no method, or a static one.
    Nothing,
    Object,
    Class,
}

impl<'a> FunctionInfo<'a> {
    pub(super) fn name(&self) -> &'a str {
        match self.definition {
            Definition::Function(def) => def.name.as_str(),
            Definition::Lambda(_) => "lambda",
        }
    }

    pub(super) fn signature(&self) -> Option<&'a Parameters> {
        match self.definition {
            Definition::Function(def) => Some(&def.parameters),
            Definition::Lambda(lambda) => lambda.parameters.as_deref(),
        }
    }

    pub(super) fn index_of(&self, name: &str) -> Option<usize> {
        self.parameters.iter().position(|p| *p == name)
    }
}

#[derive(Debug)]
pub(super) struct ClassInfo<'a> {
    pub methods: HashMap<&'a str, FunctionId>,
}

/// All modules of a node, indexed.
#[derive(Debug)]
pub(super) struct Program<'a> {
    pub modules: &'a [Module],
    pub functions: Vec<FunctionInfo<'a>>,
    pub classes: Vec<ClassInfo<'a>>,
    by_address: HashMap<usize, usize>,
    by_dotted: HashMap<String, ModuleId>,
    /// Modules by their last components, where only one has them.
    by_end: HashMap<String, Option<ModuleId>>,
}

/// What an import means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Imported {
    Module(ModuleId),
    Library(String),
}

fn address<T>(of: &T) -> usize {
    std::ptr::from_ref(of) as usize
}

impl<'a> Program<'a> {
    pub(super) fn index(modules: &'a [Module]) -> Program<'a> {
        let mut program = Program {
            modules,
            functions: Vec::new(),
            classes: Vec::new(),
            by_address: HashMap::default(),
            by_dotted: HashMap::default(),
            by_end: HashMap::default(),
        };
        for (id, module) in modules.iter().enumerate() {
            let dotted = module.dotted.join(".");
            for from in 0..module.dotted.len() {
                let end = module.dotted[from..].join(".");
                let entry = program.by_end.entry(end).or_insert(Some(id));
                if *entry != Some(id) {
                    *entry = None;
                }
            }
            program.by_dotted.insert(dotted, id);
            let mut indexer = Indexer {
                program: &mut program,
                module: id,
                parent: None,
                class: None,
            };
            indexer.visit_body(&module.body);
        }
        program
    }

    pub(super) fn function_of(&self, def: &StmtFunctionDef) -> Option<FunctionId> {
        self.by_address.get(&address(def)).copied()
    }

    pub(super) fn lambda_of(&self, lambda: &ExprLambda) -> Option<FunctionId> {
        self.by_address.get(&address(lambda)).copied()
    }

    pub(super) fn class_of(&self, def: &StmtClassDef) -> Option<ClassId> {
        self.by_address.get(&address(def)).copied()
    }

    /// What `module` means in an import with `level` dots, in the file `from`.
    pub(super) fn resolve(&self, from: ModuleId, level: u32, module: &str) -> Imported {
        let here = &self.modules[from];
        let folder_length =
            here.dotted.len() - usize::from(!here.is_package && !here.dotted.is_empty());
        let folder = &here.dotted[..folder_length];
        if level > 0 {
            let up = (level as usize - 1).min(folder.len());
            let mut parts: Vec<&str> = folder[..folder.len() - up]
                .iter()
                .map(String::as_str)
                .collect();
            parts.extend(module.split('.').filter(|p| !p.is_empty()));
            let dotted = parts.join(".");
            return match self.by_dotted.get(&dotted) {
                Some(id) => Imported::Module(*id),
                None => Imported::Library(format!("?.{dotted}")),
            };
        }
        let first = module.split('.').next().unwrap_or("");
        if !NEVER_LOCAL.contains(&first) {
            let beside = if folder.is_empty() {
                module.to_string()
            } else {
                format!("{}.{module}", folder.join("."))
            };
            let found = self
                .by_dotted
                .get(&beside)
                .or_else(|| self.by_dotted.get(module))
                .copied()
                .or_else(|| self.by_end.get(module).copied().flatten());
            if let Some(id) = found.filter(|id| *id != from) {
                return Imported::Module(id);
            }
        }
        Imported::Library(module.to_string())
    }

    /// The module that is `name` in the package `package`.
    pub(super) fn submodule(&self, package: ModuleId, name: &str) -> Option<ModuleId> {
        let package = &self.modules[package];
        if !package.is_package {
            return None;
        }
        let mut parts = package.dotted.clone();
        parts.push(name.to_string());
        self.by_dotted.get(&parts.join(".")).copied()
    }
}

struct Indexer<'a, 'p> {
    program: &'p mut Program<'a>,
    module: ModuleId,
    parent: Option<FunctionId>,
    class: Option<ClassId>,
}

impl<'a> Indexer<'a, '_> {
    fn add(&mut self, definition: Definition<'a>, signature: Option<&'a Parameters>) -> FunctionId {
        let mut parameters = Vec::new();
        let mut positional = 0;
        let mut star = None;
        let mut double_star = None;
        if let Some(signature) = signature {
            for p in signature.posonlyargs.iter().chain(&signature.args) {
                parameters.push(p.parameter.name.as_str());
            }
            positional = parameters.len();
            for p in &signature.kwonlyargs {
                parameters.push(p.parameter.name.as_str());
            }
            if let Some(p) = &signature.vararg {
                star = Some(parameters.len());
                parameters.push(p.name.as_str());
            }
            if let Some(p) = &signature.kwarg {
                double_star = Some(parameters.len());
                parameters.push(p.name.as_str());
            }
        }
        let (address, binding) = match definition {
            Definition::Function(def) => (address(def), self.binding_of(def)),
            Definition::Lambda(lambda) => (address(lambda), Binding::Nothing),
        };
        let id = self.program.functions.len();
        self.program.functions.push(FunctionInfo {
            module: self.module,
            definition,
            parent: self.parent,
            class: self.class,
            parameters,
            positional,
            star,
            double_star,
            binding,
            has_inner: false,
        });
        if let Some(parent) = self.parent {
            self.program.functions[parent].has_inner = true;
        }
        self.program.by_address.insert(address, id);
        id
    }

    fn binding_of(&self, def: &StmtFunctionDef) -> Binding {
        if self.class.is_none() {
            return Binding::Nothing;
        }
        let decorated = |name: &str| {
            def.decorator_list
                .iter()
                .any(|d| matches!(&d.expression, Expr::Name(n) if n.id.as_str() == name))
        };
        if decorated("staticmethod") {
            Binding::Nothing
        } else if decorated("classmethod") || def.name.as_str() == "__init_subclass__" {
            Binding::Class
        } else {
            Binding::Object
        }
    }
}

impl<'a> Visitor<'a> for Indexer<'a, '_> {
    fn visit_stmt(&mut self, stmt: &'a Stmt) {
        match stmt {
            Stmt::FunctionDef(def) => {
                let id = self.add(Definition::Function(def), Some(&def.parameters));
                if let Some(class) = self.class {
                    self.program.classes[class]
                        .methods
                        .insert(def.name.as_str(), id);
                }
                let outside = (self.parent, self.class);
                for decorator in &def.decorator_list {
                    self.visit_decorator(decorator);
                }
                self.visit_parameters(&def.parameters);
                (self.parent, self.class) = (Some(id), None);
                self.visit_body(&def.body);
                (self.parent, self.class) = outside;
            }
            Stmt::ClassDef(def) => {
                let id = self.program.classes.len();
                self.program.classes.push(ClassInfo {
                    methods: HashMap::default(),
                });
                self.program.by_address.insert(address(def), id);
                let outside = self.class;
                for decorator in &def.decorator_list {
                    self.visit_decorator(decorator);
                }
                if let Some(arguments) = &def.arguments {
                    self.visit_arguments(arguments);
                }
                self.class = Some(id);
                self.visit_body(&def.body);
                self.class = outside;
            }
            _ => visitor::walk_stmt(self, stmt),
        }
    }

    fn visit_expr(&mut self, expr: &'a Expr) {
        if let Expr::Lambda(lambda) = expr {
            let class = self.class.take();
            let id = self.add(Definition::Lambda(lambda), lambda.parameters.as_deref());
            let outside = self.parent.replace(id);
            visitor::walk_expr(self, expr);
            (self.parent, self.class) = (outside, class);
            return;
        }
        visitor::walk_expr(self, expr);
    }
}
