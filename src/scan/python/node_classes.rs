//! Classes that are nodes of ComfyUI: which method runs, and which inputs are texts of a workflow.

use ruff_python_ast::visitor::{self, Visitor};
use ruff_python_ast::{Expr, Stmt};

use super::dependencies::Reading;
use super::module::Definition;
use super::reader::{Entry, Reader};
use super::values::{ClassId, FunctionId, Value, What};

impl<'a> Reader<'a> {
    /// Finds the functions that ComfyUI calls.
    pub(super) fn note_node_classes(&mut self) {
        for class in 0..self.program.classes.len() {
            let found = self
                .node_function(class)
                .or_else(|| self.schema_function(class));
            let Some((function, names)) = found else {
                continue;
            };
            let entry = match (self.entries.get(&function), names) {
                (None, None) => Entry::Node(None),
                (None, Some(mut names)) => {
                    names.sort();
                    names.dedup();
                    Entry::Node(Some(names))
                }
                (Some(Entry::Route), _) => continue,
                // Two classes may share the method.
                (Some(Entry::Node(Some(known))), Some(mut names)) => {
                    names.extend(known.iter().cloned());
                    names.sort();
                    names.dedup();
                    Entry::Node(Some(names))
                }
                (Some(Entry::Node(_)), _) => Entry::Node(None),
            };
            if self.entries.get(&function) != Some(&entry) {
                self.entries.insert(function, entry);
                self.noted.read_again(Reading::Function(function));
            }
        }
    }

    /// The method that `FUNCTION` names, of a class with `INPUT_TYPES` (nodes.py of ComfyUI).
    fn node_function(&self, class: ClassId) -> Option<(FunctionId, Option<Vec<String>>)> {
        let function = self
            .attribute_of_class(class, "FUNCTION", false, 0)?
            .as_whole_text()?;
        let inputs = self.attribute_of_class(class, "INPUT_TYPES", false, 0);
        if inputs.is_none()
            && self
                .attribute_of_class(class, "RETURN_TYPES", false, 0)
                .is_none()
        {
            return None;
        }
        let method = self.attribute_of_class(class, &function, true, 0)?;
        let id = function_id(&method)?;
        let types = inputs
            .as_ref()
            .and_then(function_id)
            .map(|id| &self.summaries[id].returns);
        Some((id, types.and_then(text_inputs)))
    }

    /// `execute` of a class that is an `io.ComfyNode` (comfy_api of ComfyUI).
    fn schema_function(&self, class: ClassId) -> Option<(FunctionId, Option<Vec<String>>)> {
        let is_node = self.bases[class]
            .iter()
            .any(|b| b.name().is_some_and(|n| n.ends_with("ComfyNode")));
        if !is_node {
            return None;
        }
        let id = function_id(&self.attribute_of_class(class, "execute", true, 0)?)?;
        let schema = function_id(&self.attribute_of_class(class, "define_schema", true, 0)?)?;
        let mut inputs = SchemaInputs::default();
        if let Definition::Function(def) = self.program.functions[schema].definition {
            for stmt in &def.body {
                inputs.visit_stmt(stmt);
            }
        }
        Some((id, Some(inputs.texts)))
    }
}

fn function_id(value: &Value) -> Option<FunctionId> {
    value.alternatives().iter().find_map(|what| match what {
        What::Function(id) | What::Method(id, _) => Some(*id),
        _ => None,
    })
}

/// The names of inputs whose type is text; None if the types are not known.
fn text_inputs(types: &Value) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut known = false;
    for what in types.alternatives() {
        let What::Dict(groups, _) = what else {
            continue;
        };
        known = true;
        for (_, group) in groups.iter() {
            let What::Dict(inputs, _) = &group.what else {
                continue;
            };
            for (name, spec) in inputs.iter() {
                let Some(name) = name.as_whole_text() else {
                    continue;
                };
                if is_text(spec) {
                    names.push(name.to_string());
                }
            }
        }
    }
    known.then_some(names)
}

/// `("STRING", {…})`; choices are compared by ComfyUI, and numbers are no texts.
fn is_text(spec: &Value) -> bool {
    match &spec.what {
        What::List(items, _) => match items.first() {
            Some(kind) => kind.as_text().is_some_and(|t| t.contains("STRING")),
            None => false,
        },
        What::Unknown => true,
        _ => false,
    }
}

#[derive(Default)]
struct SchemaInputs {
    texts: Vec<String>,
}

impl<'a> Visitor<'a> for SchemaInputs {
    fn visit_stmt(&mut self, stmt: &'a Stmt) {
        visitor::walk_stmt(self, stmt);
    }

    fn visit_expr(&mut self, expr: &'a Expr) {
        if let Expr::Call(call) = expr
            && let Expr::Attribute(input) = &*call.func
            && input.attr.as_str() == "Input"
            && let Expr::Attribute(kind) = &*input.value
            && kind.attr.as_str() == "String"
        {
            let name = call.arguments.find_argument_value("id", 0);
            if let Some(Expr::StringLiteral(name)) = name {
                self.texts.push(name.value.to_str().to_string());
            }
        }
        visitor::walk_expr(self, expr);
    }
}
