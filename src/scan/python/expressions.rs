//! What an expression is.

use ruff_python_ast::{
    BoolOp, Comprehension, Expr, ExprBoolOp, ExprFString, FStringPart, InterpolatedStringElement,
    Number, Operator, UnaryOp,
};
use ruff_text_size::Ranged;

use super::constants;
use super::reader::Reader;
use super::scope::Frame;
use super::source::offset_of;
use super::values::{UNKNOWN_PART, Value, What};

/// A comprehension over a constant list is worked out for so many items.
const MOST_WORKED_OUT: usize = 512;

impl<'a> Reader<'a> {
    pub(super) fn value_of(&mut self, frame: &mut Frame<'a>, expr: &'a Expr) -> Value {
        if !self.spend() {
            return Value::UNKNOWN;
        }
        match expr {
            Expr::Name(name) => self.look_up(frame, name.id.as_str()),
            Expr::Attribute(attribute) => {
                let base = self.value_of(frame, &attribute.value);
                let offset = offset_of(expr.start());
                self.attribute_of(frame, offset, &base, attribute.attr.as_str())
            }
            Expr::Subscript(subscript) => self.item(frame, subscript),
            Expr::Call(call) => self.call(frame, call),
            Expr::StringLiteral(literal) => Value::literal(literal.value.to_str()),
            Expr::BytesLiteral(literal) => {
                let bytes: Vec<u8> = literal.value.bytes().collect();
                Value::bytes(&bytes, false)
            }
            Expr::FString(f_string) => self.f_string(frame, f_string),
            Expr::TString(t_string) => {
                let mut all = Value::UNKNOWN;
                for element in t_string.value.elements() {
                    if let InterpolatedStringElement::Interpolation(part) = element {
                        let value = self.value_of(frame, &part.expression);
                        all = all.with_taint(&value.taint);
                    }
                }
                all
            }
            Expr::NumberLiteral(number) => match &number.value {
                Number::Int(n) => n.as_i64().map_or(Value::of(What::Constant("number")), |n| {
                    Value::of(What::Int(n))
                }),
                _ => Value::of(What::Constant("number")),
            },
            Expr::BooleanLiteral(b) => {
                Value::of(What::Constant(if b.value { "True" } else { "False" }))
            }
            Expr::NoneLiteral(_) => Value::of(What::Constant("None")),
            Expr::EllipsisLiteral(_) => Value::of(What::Constant("...")),
            _ => self.compound(frame, expr),
        }
    }

    fn compound(&mut self, frame: &mut Frame<'a>, expr: &'a Expr) -> Value {
        match expr {
            Expr::BoolOp(both) => self.bool_op(frame, both),
            Expr::Named(named) => {
                let value = self.value_of(frame, &named.value);
                self.assign(frame, &named.target, &value);
                value
            }
            Expr::BinOp(binary) => {
                let left = self.value_of(frame, &binary.left);
                let right = self.value_of(frame, &binary.right);
                binary_of(&left, binary.op, &right)
            }
            Expr::UnaryOp(unary) => {
                let value = self.value_of(frame, &unary.operand);
                match (unary.op, value.as_int()) {
                    (UnaryOp::USub, Some(n)) => Value::of(What::Int(n.saturating_neg())),
                    (UnaryOp::Invert, Some(n)) => Value::of(What::Int(!n)),
                    _ => Value::UNKNOWN,
                }
            }
            Expr::Lambda(lambda) => {
                for parameter in lambda.parameters.iter().flat_map(|p| p.iter()) {
                    if let Some(default) = parameter.default() {
                        self.value_of(frame, default);
                    }
                }
                let id = self.program.lambda_of(lambda);
                id.map_or(Value::UNKNOWN, |id| Value::of(What::Function(id)))
            }
            Expr::If(choice) => {
                let test = self.read_test(frame, &choice.test);
                let marks = frame.state.marks.clone();
                test.apply(frame, true);
                let body = self.value_of(frame, &choice.body);
                frame.state.marks = marks.clone();
                test.apply(frame, false);
                let orelse = self.value_of(frame, &choice.orelse);
                frame.state.marks = marks;
                body.join(&orelse)
            }
            Expr::Dict(dict) => {
                let mut items = Vec::new();
                for item in &dict.items {
                    let key = item.key.as_ref().map(|k| self.value_of(frame, k));
                    let value = self.value_of(frame, &item.value);
                    match (key, &value.what) {
                        (Some(key), _) => items.push((key, value)),
                        (None, What::Dict(inner, _)) => items.extend(inner.iter().cloned()),
                        (None, _) => items.push((Value::UNKNOWN, value)),
                    }
                }
                Value::dict(items)
            }
            Expr::Set(set) => self.list_of(frame, &set.elts),
            Expr::List(list) => self.list_of(frame, &list.elts),
            Expr::Tuple(tuple) => self.list_of(frame, &tuple.elts),
            Expr::ListComp(comp) => self.comprehension(frame, &comp.generators, &[&comp.elt]),
            Expr::SetComp(comp) => self.comprehension(frame, &comp.generators, &[&comp.elt]),
            Expr::Generator(comp) => self.comprehension(frame, &comp.generators, &[&comp.elt]),
            Expr::DictComp(comp) => {
                let mut parts: Vec<&'a Expr> = Vec::new();
                parts.extend(comp.key.as_deref());
                parts.push(&comp.value);
                let value = self.comprehension(frame, &comp.generators, &parts);
                Value::unknown_with(value.taint)
            }
            Expr::Await(wait) => self.value_of(frame, &wait.value),
            Expr::Yield(out) => {
                if let Some(value) = &out.value {
                    let value = self.value_of(frame, value);
                    frame.add_returned(&Value::list(vec![value]));
                }
                Value::UNKNOWN
            }
            Expr::YieldFrom(out) => {
                let value = self.value_of(frame, &out.value);
                frame.add_returned(&value);
                Value::UNKNOWN
            }
            Expr::Compare(compare) => {
                self.value_of(frame, &compare.left);
                for other in &compare.comparators {
                    self.value_of(frame, other);
                }
                Value::UNKNOWN
            }
            Expr::Starred(starred) => self.value_of(frame, &starred.value),
            Expr::Slice(slice) => {
                for part in [&slice.lower, &slice.upper, &slice.step]
                    .into_iter()
                    .flatten()
                {
                    self.value_of(frame, part);
                }
                Value::UNKNOWN
            }
            _ => Value::UNKNOWN,
        }
    }

    fn list_of(&mut self, frame: &mut Frame<'a>, elements: &'a [Expr]) -> Value {
        let mut items = Vec::new();
        for element in elements {
            let value = self.value_of(frame, element);
            match (element, &value.what) {
                (Expr::Starred(_), What::List(inner, _)) => items.extend(inner.iter().cloned()),
                _ => items.push(value),
            }
        }
        Value::list(items)
    }

    fn bool_op(&mut self, frame: &mut Frame<'a>, both: &'a ExprBoolOp) -> Value {
        let marks = frame.state.marks.clone();
        let mut all: Option<Value> = None;
        for part in &both.values {
            let value = self.value_of(frame, part);
            let test = self.test_of(frame, part);
            test.apply_marks(frame, both.op == BoolOp::And);
            all = Some(match all {
                Some(known) => known.join(&value),
                None => value,
            });
        }
        frame.state.marks = marks;
        all.unwrap_or(Value::UNKNOWN)
    }

    fn f_string(&mut self, frame: &mut Frame<'a>, f_string: &'a ExprFString) -> Value {
        let mut text = String::new();
        let mut all = Value::UNKNOWN;
        let mut parts = 0;
        for part in f_string.value.iter() {
            let elements = match part {
                FStringPart::Literal(literal) => {
                    text.push_str(&literal.value);
                    continue;
                }
                FStringPart::FString(f) => &f.elements,
            };
            for element in elements {
                match element {
                    InterpolatedStringElement::Literal(literal) => text.push_str(&literal.value),
                    InterpolatedStringElement::Interpolation(part) => {
                        let value = self.value_of(frame, &part.expression);
                        parts += 1;
                        if let Some(spec) = &part.format_spec {
                            for inner in &spec.elements {
                                if let InterpolatedStringElement::Interpolation(inner) = inner {
                                    self.value_of(frame, &inner.expression);
                                }
                            }
                        }
                        let as_character = part.format_spec.as_ref().is_some_and(|spec| {
                            let spec = spec.elements.first();
                            matches!(spec, Some(InterpolatedStringElement::Literal(l)) if &*l.value == "c")
                        });
                        if as_character && value.as_int().is_some() {
                            text.push(constants::character(&value));
                        } else {
                            text.push_str(&value.as_part());
                        }
                        all = all.with_taint(&value.taint);
                    }
                }
            }
        }
        Value::text(&text, parts > 0).with_taint(&all.taint)
    }

    fn comprehension(
        &mut self,
        frame: &mut Frame<'a>,
        generators: &'a [Comprehension],
        parts: &[&'a Expr],
    ) -> Value {
        let marks = frame.state.marks.clone();
        let mut constant: Option<(&'a Expr, Vec<Value>)> = None;
        for generator in generators {
            let iterated = self.value_of(frame, &generator.iter);
            let element = element_of(&iterated);
            let simple = generators.len() == 1 && generator.ifs.is_empty();
            if let (true, Some(items)) = (simple, iterable_items(&iterated)) {
                constant = Some((&generator.target, items));
            }
            self.assign(frame, &generator.target, &element);
            for condition in &generator.ifs {
                let test = self.read_test(frame, condition);
                test.apply(frame, true);
            }
        }
        let worked_out = constant.filter(|(_, items)| {
            parts.len() == 1
                && items.len() <= MOST_WORKED_OUT
                && items.iter().all(Value::is_constant)
        });
        let value = if let Some((target, items)) = worked_out {
            let mut out = Vec::new();
            for item in &items {
                self.assign(frame, target, item);
                out.push(self.value_of(frame, parts[0]));
            }
            Value::list(out)
        } else {
            let mut values = Vec::new();
            for part in parts {
                values.push(self.value_of(frame, part));
            }
            Value::list(values)
        };
        frame.state.marks = marks;
        value
    }
}

/// The items of a list, or the bytes and characters of a constant.
pub(super) fn iterable_items(value: &Value) -> Option<Vec<Value>> {
    match &value.what {
        What::List(items, _) => Some(items.to_vec()),
        What::Bytes(bytes, _) if bytes.len() <= MOST_WORKED_OUT => Some(
            bytes
                .iter()
                .map(|b| Value::of(What::Int(i64::from(*b))))
                .collect(),
        ),
        What::Text(text, _) if text.len() <= MOST_WORKED_OUT && !text.contains(UNKNOWN_PART) => {
            let one = |c: char| Value::text(&c.to_string(), true);
            Some(text.chars().map(one).collect())
        }
        _ => None,
    }
}

/// What a loop over the value meets.
pub(super) fn element_of(value: &Value) -> Value {
    let mut element: Option<Value> = None;
    for what in value.alternatives() {
        let one = match what {
            What::List(items, _) => {
                let mut all = items.iter().take(16);
                let first = all.next().cloned().unwrap_or(Value::UNKNOWN);
                all.fold(first, |known, item| known.join(item))
            }
            What::Dict(items, _) => {
                let mut keys = items.iter().take(16).map(|(k, _)| k);
                let first = keys.next().cloned().unwrap_or(Value::UNKNOWN);
                keys.fold(first, |known, key| known.join(key))
            }
            What::Name(name) => Value::named(&format!("{name}[]")),
            _ => Value::UNKNOWN,
        };
        element = Some(match element {
            Some(known) => known.join(&one),
            None => one,
        });
    }
    // An item of a list that is known has its own taint.
    let exact = matches!(&value.what, What::List(items, _) if !items.is_empty());
    let element = element.unwrap_or(Value::UNKNOWN);
    if exact {
        element
    } else {
        element.with_taint(&value.taint)
    }
}

/// What an operator makes of two values, paths included.
pub(super) fn binary_of(left: &Value, operator: Operator, right: &Value) -> Value {
    let both = left.taint.join(&right.taint);
    if operator == Operator::Div {
        let path = left.as_text().is_some() || right.as_text().is_some();
        if path || left.name().is_some_and(|n| n.contains("Path")) {
            return join_path(&[left.clone(), right.clone()]).with_taint(&both);
        }
        return Value::unknown_with(both);
    }
    let value = constants::binary(left, operator, right);
    match operator {
        Operator::Add | Operator::Mod | Operator::BitOr | Operator::Mult => value.with_taint(&both),
        _ => value,
    }
}

/// The path that `parts` make: one that is absolute begins anew.
pub(super) fn join_path(parts: &[Value]) -> Value {
    let mut path = String::new();
    for part in parts {
        let part = part.as_part();
        if part.starts_with('/') {
            path = part;
        } else {
            if !path.is_empty() && !path.ends_with('/') {
                path.push('/');
            }
            path.push_str(&part);
        }
    }
    Value::text(&path, true)
}
