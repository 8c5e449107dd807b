//! Checks on the way: what a test rules out, for the branch that goes on.

use ruff_python_ast::{BoolOp, CmpOp, Expr, ExprCall, ExprCompare, UnaryOp};

use super::check_words::{
    bits_of_prefix, is_call_of, lets_all_through, quiet_text, sounds_like_a_check,
};
use super::dependencies::Fact;
use super::module::Binding;
use super::reader::Reader;
use super::scope::Frame;
use super::taint::{OriginId, Taint, cleared};
use super::values::{Value, What};

/// What one outcome of a test rules out.
#[derive(Debug, Clone, Default)]
pub(super) struct Outcome<'a> {
    origins: Vec<(OriginId, u8)>,
    /// Variables that are one of a few constants then.
    variables: Vec<&'a str>,
}

/// What a test rules out if it holds, and if it does not.
#[derive(Debug, Clone, Default)]
pub(super) struct Test<'a> {
    holds: Outcome<'a>,
    fails: Outcome<'a>,
}

impl<'a> Outcome<'a> {
    fn add(&mut self, taint: &Taint, bits: u8) {
        self.origins
            .extend(taint.origins().iter().map(|o| (o.id, bits)));
    }

    fn extend(&mut self, other: Outcome<'a>) {
        self.origins.extend(other.origins);
        self.variables.extend(other.variables);
    }

    fn apply(&self, frame: &mut Frame<'a>, variables: bool) {
        for (origin, bits) in &self.origins {
            frame.state.mark(*origin, *bits);
            if let OriginId::Parameter(p) = origin {
                frame.summary.add_check(*p, cleared::complete(*bits));
            }
        }
        if !variables {
            return;
        }
        for name in &self.variables {
            if frame.state.variables().contains_key(name)
                && let Some(value) = frame.state.variables_mut().get_mut(name)
            {
                value.taint = Taint::NONE;
            }
        }
    }
}

impl<'a> Test<'a> {
    pub(super) fn apply(&self, frame: &mut Frame<'a>, holds: bool) {
        let outcome = if holds { &self.holds } else { &self.fails };
        outcome.apply(frame, true);
    }

    /// As [`Test::apply`], without what it says of variables.
    pub(super) fn apply_marks(&self, frame: &mut Frame<'a>, holds: bool) {
        let outcome = if holds { &self.holds } else { &self.fails };
        outcome.apply(frame, false);
    }

    fn turned(self) -> Test<'a> {
        Test {
            holds: self.fails,
            fails: self.holds,
        }
    }
}

impl<'a> Reader<'a> {
    /// Reads a test's expressions, and returns what it rules out.
    pub(super) fn read_test(&mut self, frame: &mut Frame<'a>, test: &'a Expr) -> Test<'a> {
        self.value_of(frame, test);
        self.test_of(frame, test)
    }

    /// What a test rules out; its expressions were read before.
    pub(super) fn test_of(&mut self, frame: &mut Frame<'a>, test: &'a Expr) -> Test<'a> {
        match test {
            Expr::UnaryOp(unary) if unary.op == UnaryOp::Not => {
                self.test_of(frame, &unary.operand).turned()
            }
            Expr::BoolOp(both) => {
                let mut all = Test::default();
                for part in &both.values {
                    let one = self.test_of(frame, part);
                    match both.op {
                        BoolOp::And => all.holds.extend(one.holds),
                        BoolOp::Or => all.fails.extend(one.fails),
                    }
                }
                all
            }
            Expr::Compare(compare) => self.comparison(frame, compare),
            Expr::Call(call) => self.check_of_call(frame, call),
            Expr::Named(named) => self.test_of(frame, &named.value),
            Expr::Await(wait) => self.test_of(frame, &wait.value),
            _ => Test::default(),
        }
    }

    fn comparison(&mut self, frame: &mut Frame<'a>, compare: &'a ExprCompare) -> Test<'a> {
        let mut test = Test::default();
        let (Some(op), Some(right)) = (compare.ops.first(), compare.comparators.first()) else {
            return test;
        };
        // `a <= b <= c` is about numbers.
        if compare.ops.len() > 1 {
            return test;
        }
        if let Some(path) = self
            .root_of_path(frame, &compare.left)
            .or_else(|| self.root_of_path(frame, right))
        {
            let outcome = if matches!(op, CmpOp::Eq | CmpOp::In | CmpOp::Is) {
                &mut test.holds
            } else {
                &mut test.fails
            };
            outcome.add(&path, cleared::PATH);
            return test;
        }
        match op {
            CmpOp::In | CmpOp::NotIn => {
                let looked_for = quiet_text(&compare.left);
                let container = self.value_of(frame, right);
                let outcome = if *op == CmpOp::In {
                    &mut test.fails
                } else {
                    &mut test.holds
                };
                if let Some(part) = looked_for {
                    let mut bits = 0;
                    if part.contains("..") {
                        bits |= cleared::PARENT;
                    }
                    if part.contains('/') || part.contains('\\') {
                        bits |= cleared::SLASH;
                    }
                    if bits != 0 {
                        outcome.add(&container.taint, bits);
                    }
                    return test;
                }
                let outcome = if *op == CmpOp::In {
                    &mut test.holds
                } else {
                    &mut test.fails
                };
                let left = self.value_of(frame, &compare.left);
                if container.taint.without_parameters().is_none() || container.taint != left.taint {
                    note_variable(outcome, &compare.left);
                }
            }
            CmpOp::Eq | CmpOp::NotEq => {
                let outcome = if *op == CmpOp::Eq {
                    &mut test.holds
                } else {
                    &mut test.fails
                };
                let right_value = self.value_of(frame, right);
                let left_value = self.value_of(frame, &compare.left);
                if right_value.is_constant() || right_value.taint.is_none() {
                    note_variable(outcome, &compare.left);
                    // The real path of a name beside its folder: `os.path.dirname(path) == folder`.
                    if is_call_of(&compare.left, &["dirname"]) {
                        outcome.add(&left_value.taint, cleared::PATH);
                    }
                }
                if left_value.is_constant() {
                    note_variable(outcome, right);
                }
            }
            _ => {}
        }
        test
    }

    /// What `commonpath([…])`, `basename(…)` and the like look at, if `expr` is such a call.
    fn root_of_path(&mut self, frame: &mut Frame<'a>, expr: &'a Expr) -> Option<Taint> {
        let Expr::Call(call) = expr else {
            if let Expr::Attribute(attribute) = expr
                && matches!(attribute.attr.as_str(), "parents" | "parent")
            {
                return Some(self.value_of(frame, &attribute.value).taint);
            }
            return None;
        };
        if !is_call_of(expr, &["commonpath", "commonprefix"]) {
            return None;
        }
        let mut taint = Taint::NONE;
        for argument in &call.arguments.args {
            taint = taint.join(&self.value_of(frame, argument).taint);
        }
        Some(taint)
    }

    fn check_of_call(&mut self, frame: &mut Frame<'a>, call: &'a ExprCall) -> Test<'a> {
        let mut test = Test::default();
        let first = call.arguments.args.first();
        if let Expr::Attribute(attribute) = &*call.func {
            let receiver = self.value_of(frame, &attribute.value);
            match attribute.attr.as_str() {
                "startswith" => {
                    let prefix = first.map_or(Value::UNKNOWN, |f| self.value_of(frame, f));
                    let bits = bits_of_prefix(&prefix);
                    if bits == cleared::SLASH {
                        test.fails.add(&receiver.taint, bits);
                    } else if bits != 0 {
                        test.holds.add(&receiver.taint, bits);
                    }
                    return test;
                }
                "is_relative_to" => {
                    test.holds.add(&receiver.taint, cleared::PATH);
                    return test;
                }
                "is_absolute" => {
                    test.fails.add(&receiver.taint, cleared::SLASH);
                    return test;
                }
                "isdigit" | "isalnum" | "isidentifier" | "isnumeric" | "isdecimal" | "isalpha" => {
                    test.holds.add(&receiver.taint, cleared::ALL);
                    note_variable(&mut test.holds, &attribute.value);
                    return test;
                }
                "fullmatch" | "match" => {
                    let mut taint = Taint::NONE;
                    for argument in &call.arguments.args {
                        taint = taint.join(&self.value_of(frame, argument).taint);
                    }
                    let whole = attribute.attr.as_str() == "fullmatch"
                        || first
                            .and_then(quiet_text)
                            .is_none_or(|p| p.ends_with('$') || p.ends_with("\\Z"));
                    let compiled = self.slice_of(frame, &attribute.value);
                    let compiled = frame.handles.iter().rev().find(|(h, _)| h == compiled);
                    let pattern = first
                        .and_then(quiet_text)
                        .or(compiled.map(|(_, pattern)| pattern.as_str()));
                    if whole && !pattern.is_some_and(lets_all_through) {
                        test.holds.add(&taint, cleared::ALL);
                    }
                    return test;
                }
                _ => {}
            }
        }
        let callee = self.value_of(frame, &call.func);
        let mut values = Vec::new();
        for argument in &call.arguments.args {
            values.push(self.value_of(frame, argument));
        }
        let taint = Taint::join_all(values.iter().map(|v| &v.taint));
        match callee.name() {
            Some("builtins.isinstance") => {
                let number = values.get(1).and_then(Value::name).is_some_and(|n| {
                    matches!(n, "builtins.int" | "builtins.float" | "builtins.bool")
                });
                if let (true, Some(first)) = (number, first) {
                    note_variable(&mut test.holds, first);
                }
            }
            Some("os.path.isabs") => test.fails.add(&taint, cleared::SLASH),
            Some(name) if sounds_like_a_check(name) => {
                test.holds.add(&taint, cleared::PATH | cleared::URL);
                test.fails.add(&taint, cleared::PATH | cleared::URL);
            }
            _ => self.check_of_own(frame, &callee, call, &values, &mut test),
        }
        test
    }

    /// A function of the node that checks its parameters.
    fn check_of_own(
        &mut self,
        _frame: &mut Frame<'a>,
        callee: &Value,
        _call: &'a ExprCall,
        values: &[Value],
        test: &mut Test<'a>,
    ) {
        for what in callee.alternatives() {
            let (id, skip) = match what {
                What::Function(id) => (*id, 0),
                What::Method(id, _) => (
                    *id,
                    usize::from(self.program.functions[*id].binding != Binding::Nothing),
                ),
                _ => continue,
            };
            let name = self.program.functions[id].name();
            self.noted.look_at(Fact::Summary(id));
            for (parameter, bits) in &self.summaries[id].checks {
                let at = usize::from(*parameter).checked_sub(skip);
                if let Some(value) = at.and_then(|at| values.get(at)) {
                    test.holds.add(&value.taint, *bits);
                    test.fails.add(&value.taint, *bits);
                }
            }
            // What is_valid_url() of the node looks at was read; what is_safe_path() returns is a check.
            let lower = name.to_ascii_lowercase();
            let decides = [
                "safe",
                "allowed",
                "within",
                "inside",
                "trusted",
                "permitted",
            ];
            if decides.iter().any(|w| lower.contains(w)) && sounds_like_a_check(&format!(".{name}"))
            {
                let taint = Taint::join_all(values.iter().map(|v| &v.taint));
                test.holds.add(&taint, cleared::PATH | cleared::URL);
                test.fails.add(&taint, cleared::PATH | cleared::URL);
            }
        }
    }

    /// A call whose value nobody looks at, and which raises if something is wrong.
    pub(super) fn check_by_call(&mut self, frame: &mut Frame<'a>, call: &'a ExprCall) {
        if let Expr::Attribute(attribute) = &*call.func
            && attribute.attr.as_str() == "relative_to"
        {
            let receiver = self.value_of(frame, &attribute.value);
            frame.mark_checked(&receiver.taint, cleared::PATH);
            return;
        }
        let test = self.check_of_call(frame, call);
        // Only what holds either way is known after it.
        for (origin, bits) in &test.holds.origins {
            if test.fails.origins.contains(&(*origin, *bits)) {
                frame.state.mark(*origin, *bits);
            }
        }
    }
}

/// `x` of `x == "a"` is a constant then.
fn note_variable<'a>(outcome: &mut Outcome<'a>, expr: &'a Expr) {
    match expr {
        Expr::Name(name) => outcome.variables.push(name.id.as_str()),
        Expr::Named(named) => note_variable(outcome, &named.target),
        _ => {}
    }
}
