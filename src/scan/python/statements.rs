//! What a statement changes of what is known.

use ruff_python_ast::{
    ExceptHandler, Expr, Stmt, StmtClassDef, StmtFor, StmtFunctionDef, StmtIf, StmtMatch, StmtTry,
    StmtWhile,
};
use ruff_text_size::Ranged;

use super::calls::Arguments;
use super::dependencies::Fact;
use super::expressions::{binary_of, element_of};
use super::reader::Reader;
use super::scope::Frame;
use super::source::offset_of;
use super::values::{Value, What};

/// Loops within so many others are read once.
const LOOPS_READ_TWICE: u32 = 2;

impl<'a> Reader<'a> {
    /// Reads statements in order; true if the last of them leaves the block for good.
    pub(super) fn read_body(&mut self, frame: &mut Frame<'a>, body: &'a [Stmt]) -> bool {
        let mut leaves = false;
        for stmt in body {
            if self.is_exhausted() {
                return leaves;
            }
            leaves |= self.read_statement(frame, stmt);
        }
        leaves
    }

    fn read_statement(&mut self, frame: &mut Frame<'a>, stmt: &'a Stmt) -> bool {
        match stmt {
            Stmt::FunctionDef(def) => self.read_definition(frame, def),
            Stmt::ClassDef(def) => self.read_class(frame, def),
            Stmt::Return(out) => {
                if let Some(value) = &out.value {
                    let offset = offset_of(value.start());
                    let value = self.value_of(frame, value);
                    for part in std::iter::once(&value).chain(value.items().unwrap_or_default()) {
                        self.tell_reference(frame, offset, part);
                    }
                    let marked = self.with_marks(frame, value);
                    frame.add_returned(&marked);
                }
                return true;
            }
            Stmt::Assign(assign) => {
                let value = self.value_of(frame, &assign.value);
                for target in &assign.targets {
                    self.assign(frame, target, &value);
                    self.note_handle(frame, target, &assign.value);
                }
            }
            Stmt::AugAssign(assign) => {
                let value = self.value_of(frame, &assign.value);
                let before = self.value_of(frame, &assign.target);
                let after = binary_of(&before, assign.op, &value)
                    .with_taint(&value.taint)
                    .with_taint(&before.taint);
                self.assign(frame, &assign.target, &after);
            }
            Stmt::AnnAssign(assign) => {
                self.value_of(frame, &assign.annotation);
                if let Some(value) = &assign.value {
                    let value = self.value_of(frame, value);
                    self.assign(frame, &assign.target, &value);
                }
            }
            Stmt::Expr(expr) => {
                let value = &expr.value;
                if !matches!(&**value, Expr::StringLiteral(_)) {
                    self.read_expression_statement(frame, value);
                }
            }
            Stmt::If(choice) => return self.read_if(frame, choice),
            Stmt::For(each) => self.read_for(frame, each),
            Stmt::While(each) => self.read_while(frame, each),
            Stmt::With(with) => {
                for item in &with.items {
                    let value = self.value_of(frame, &item.context_expr);
                    if let Some(target) = &item.optional_vars {
                        self.assign(frame, target, &value);
                        self.note_handle(frame, target, &item.context_expr);
                    }
                }
                return self.read_body(frame, &with.body);
            }
            Stmt::Try(attempt) => return self.read_try(frame, attempt),
            Stmt::Match(choice) => self.read_match(frame, choice),
            Stmt::Raise(raise) => {
                for part in [&raise.exc, &raise.cause].into_iter().flatten() {
                    self.value_of(frame, part);
                }
                return true;
            }
            Stmt::Assert(assert) => {
                let test = self.read_test(frame, &assert.test);
                test.apply(frame, true);
                if let Some(message) = &assert.msg {
                    self.value_of(frame, message);
                }
            }
            Stmt::Delete(delete) => {
                for target in &delete.targets {
                    self.value_of(frame, target);
                }
            }
            Stmt::Import(import) => {
                for alias in &import.names {
                    self.import(frame, alias.name.as_str(), alias.asname.as_deref());
                }
            }
            Stmt::ImportFrom(import) => {
                let module = import.module.as_deref().unwrap_or("");
                let imported = self.program.resolve(frame.module, import.level, module);
                self.import_from(frame, &imported, &import.names);
            }
            Stmt::Global(global) => {
                frame
                    .globals
                    .extend(global.names.iter().map(|n| n.as_str()));
            }
            Stmt::Break(_) | Stmt::Continue(_) => return true,
            Stmt::TypeAlias(alias) => {
                self.value_of(frame, &alias.value);
            }
            Stmt::Nonlocal(_) | Stmt::Pass(_) | Stmt::IpyEscapeCommand(_) => {}
        }
        false
    }

    fn read_while(&mut self, frame: &mut Frame<'a>, each: &'a StmtWhile) {
        let test = self.read_test(frame, &each.test);
        self.spend_on_copy(frame);
        let before = frame.state.clone();
        test.apply(frame, true);
        self.read_loop_body(frame, &each.body);
        frame.state.join(before);
        self.read_body(frame, &each.orelse);
    }

    fn read_match(&mut self, frame: &mut Frame<'a>, choice: &'a StmtMatch) {
        let subject = self.value_of(frame, &choice.subject);
        self.spend_on_copy(frame);
        let before = frame.state.clone();
        for case in &choice.cases {
            let mut inner = std::mem::replace(&mut frame.state, before.clone());
            self.bind_pattern(frame, &case.pattern, &subject);
            if let Some(guard) = &case.guard {
                self.value_of(frame, guard);
            }
            self.read_body(frame, &case.body);
            std::mem::swap(&mut inner, &mut frame.state);
            frame.state.join(inner);
        }
    }

    /// A value with what was checked up to here ruled out of it.
    fn with_marks(&self, frame: &Frame<'a>, value: Value) -> Value {
        if frame.state.marks.is_empty() || value.taint.is_none() {
            return value;
        }
        let mut taint = super::taint::Taint::NONE;
        for origin in value.taint.origins() {
            let one = super::taint::Taint::from(origin.clone());
            taint = taint.join(&one.clear(frame.state.marks_of(origin.id)));
        }
        Value {
            what: value.what,
            taint,
        }
    }

    fn read_expression_statement(&mut self, frame: &mut Frame<'a>, expr: &'a Expr) {
        self.value_of(frame, expr);
        // `check(path)` that raises, and `path.relative_to(root)`.
        let called = if let Expr::Await(wait) = expr {
            &wait.value
        } else {
            expr
        };
        if let Expr::Call(call) = called {
            self.check_by_call(frame, call);
        }
    }

    fn read_definition(&mut self, frame: &mut Frame<'a>, def: &'a StmtFunctionDef) {
        let Some(id) = self.program.function_of(def) else {
            return;
        };
        // Defaults and annotations run where the function is defined.
        for parameter in def.parameters.iter() {
            for part in parameter
                .default()
                .into_iter()
                .chain(parameter.annotation())
            {
                self.value_of(frame, part);
            }
        }
        if let Some(returns) = &def.returns {
            self.value_of(frame, returns);
        }
        let mut value = Value::of(What::Function(id));
        for decorator in def.decorator_list.iter().rev() {
            let offset = offset_of(decorator.expression.start());
            let with = self.value_of(frame, &decorator.expression);
            self.note_decorator(frame, offset, decorator, id);
            let arguments = Arguments::of(vec![value.clone()]);
            let made = self.invoke(frame, offset, &with, None, &arguments, true);
            // What a decorator of the node gives back stands for the function, if it is known.
            let harmless = matches!(made.what, What::Unknown | What::Name(_));
            if !harmless && !matches!(made.what, What::Function(_) | What::Object(_)) {
                value = made;
            }
        }
        self.bind_name(frame, def.name.as_str(), value);
    }

    fn read_class(&mut self, frame: &mut Frame<'a>, def: &'a StmtClassDef) {
        let Some(id) = self.program.class_of(def) else {
            return;
        };
        let mut bases = Vec::new();
        if let Some(arguments) = &def.arguments {
            for base in &arguments.args {
                bases.push(self.value_of(frame, base));
            }
            for keyword in &arguments.keywords {
                let offset = offset_of(keyword.value.start());
                let value = self.value_of(frame, &keyword.value);
                self.tell_reference(frame, offset, &value);
            }
        }
        if self.bases[id] != bases {
            self.bases[id] = bases;
            self.noted.change(Fact::Class(id));
        }
        // The body sees what is around it; what it binds are attributes.
        self.spend_on_copy(frame);
        let outside = frame.state.clone();
        let (class, in_body) = (frame.class, frame.class_body);
        (frame.class, frame.class_body) = (Some(id), true);
        self.read_body(frame, &def.body);
        (frame.class, frame.class_body) = (class, in_body);
        let inside = std::mem::replace(&mut frame.state, outside);
        if !inside.shares_variables(&frame.state) {
            for (name, value) in inside.variables() {
                if frame.state.variables().get(name) != Some(value) {
                    self.set_attribute(id, name, value);
                }
            }
        }
        for decorator in def.decorator_list.iter().rev() {
            let offset = offset_of(decorator.expression.start());
            let with = self.value_of(frame, &decorator.expression);
            let arguments = Arguments::of(vec![Value::of(What::Class(id))]);
            self.invoke(frame, offset, &with, None, &arguments, true);
        }
        self.bind_name(frame, def.name.as_str(), Value::of(What::Class(id)));
    }

    fn read_if(&mut self, frame: &mut Frame<'a>, choice: &'a StmtIf) -> bool {
        let test = self.read_test(frame, &choice.test);
        self.spend_on_copy(frame);
        let before = frame.state.clone();
        test.apply(frame, true);
        let mut leaves = self.read_body(frame, &choice.body);
        // States after the ways that go on.
        let mut after = Vec::new();
        if !leaves {
            after.push(frame.state.clone());
        }
        frame.state = before;
        test.apply(frame, false);
        let mut has_else = false;
        for clause in &choice.elif_else_clauses {
            let inner = clause.test.as_ref().map(|t| self.read_test(frame, t));
            self.spend_on_copy(frame);
            let before = frame.state.clone();
            if let Some(inner) = &inner {
                inner.apply(frame, true);
            } else {
                has_else = true;
            }
            let out = self.read_body(frame, &clause.body);
            leaves &= out;
            if !out {
                after.push(frame.state.clone());
            }
            frame.state = before;
            if let Some(inner) = &inner {
                inner.apply(frame, false);
            }
        }
        if has_else {
            // Only the ways through a clause go on.
            if let Some(last) = after.pop() {
                frame.state = last;
            }
        }
        for state in after {
            frame.state.join(state);
        }
        leaves && has_else
    }

    fn read_for(&mut self, frame: &mut Frame<'a>, each: &'a StmtFor) {
        let iterated = self.value_of(frame, &each.iter);
        let element = element_of(&iterated);
        self.assign(frame, &each.target, &element);
        self.spend_on_copy(frame);
        let before = frame.state.clone();
        self.read_loop_body(frame, &each.body);
        frame.state.join(before);
        self.read_body(frame, &each.orelse);
    }

    /// Twice, since the first time round can change what the second meets.
    fn read_loop_body(&mut self, frame: &mut Frame<'a>, body: &'a [Stmt]) {
        frame.loops += 1;
        self.read_body(frame, body);
        if frame.loops <= LOOPS_READ_TWICE {
            self.read_body(frame, body);
        }
        frame.loops -= 1;
    }

    fn read_try(&mut self, frame: &mut Frame<'a>, attempt: &'a StmtTry) -> bool {
        self.spend_on_copy(frame);
        let before = frame.state.clone();
        let mut leaves = self.read_body(frame, &attempt.body);
        leaves |= self.read_body(frame, &attempt.orelse);
        let mut after = vec![(leaves, frame.state.clone())];
        for handler in &attempt.handlers {
            let ExceptHandler::ExceptHandler(handler) = handler;
            frame.state = before.clone();
            let tried = &after[0].1;
            if !tried.shares_variables(&frame.state) {
                for (name, value) in tried.variables() {
                    let joined = match frame.state.variables().get(name) {
                        Some(known) if known == value => continue,
                        Some(known) => known.join(value),
                        None => value.clone(),
                    };
                    frame.bind(name, joined);
                }
            }
            if let Some(caught) = &handler.type_ {
                self.value_of(frame, caught);
            }
            if let Some(name) = &handler.name {
                frame.bind(name.as_str(), Value::UNKNOWN);
            }
            let out = self.read_body(frame, &handler.body);
            after.push((out, frame.state.clone()));
        }
        let all_leave = after.iter().all(|(out, _)| *out);
        let mut going_on = after.into_iter().filter(|(out, _)| all_leave || !out);
        if let Some((_, first)) = going_on.next() {
            frame.state = first;
        }
        for (_, state) in going_on {
            frame.state.join(state);
        }
        self.read_body(frame, &attempt.finalbody) || all_leave
    }
}
