//! ONNX: a graph as a protocol buffer, whose tensors may lie in other files.
//!
//! Source: onnx, `onnx/onnx.proto`. Fields are walked, numbers of tensors are passed over.

use std::io;

use super::super::content::ReadAt;
use super::window::{Fault, Window};
use super::{Examiner, rules, zip_archive};
use crate::text::escape_text;

/// Graphs inside of nodes inside of graphs.
const DEEPEST: u32 = 16;
const LONGEST_TEXT: u64 = 4096;
const MOST_FIELDS: u64 = 50_000_000;

/// A message of the format, as far as it is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    Model,
    Training,
    Graph,
    Function,
    Node,
    Attribute,
    Tensor,
    SparseTensor,
    Pair,
}

/// What stands in a field.
enum Field {
    Message(Message),
    Text(Said),
    Other,
    /// The message has no such field.
    Unknown,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Key,
    Value,
    Operator,
    Domain,
}

impl Message {
    fn field(self, number: u64) -> Field {
        use Message::{
            Attribute, Function, Graph, Model, Node, Pair, SparseTensor, Tensor, Training,
        };
        match (self, number) {
            (Model, 7) | (Training, 1 | 2) => Field::Message(Graph),
            (Model, 20) => Field::Message(Training),
            (Model, 25) => Field::Message(Function),
            (Model, 1..=6 | 8 | 14 | 26) => Field::Other,
            (Graph, 1) | (Function, 7) => Field::Message(Node),
            (Graph, 5) => Field::Message(Tensor),
            (Graph, 15) => Field::Message(SparseTensor),
            (Graph, 2 | 10..=14 | 16) => Field::Other,
            (Node, 4) => Field::Text(Said::Operator),
            (Node, 7) => Field::Text(Said::Domain),
            (Node, 5) => Field::Message(Attribute),
            (Attribute, 5 | 10) => Field::Message(Tensor),
            (Attribute, 6 | 11) => Field::Message(Graph),
            (Attribute, 22 | 23) => Field::Message(SparseTensor),
            (SparseTensor, 1 | 2) => Field::Message(Tensor),
            (Tensor, 13) => Field::Message(Pair),
            (Pair, 1) => Field::Text(Said::Key),
            (Pair, 2) => Field::Text(Said::Value),
            (Model, _) => Field::Unknown,
            _ => Field::Other,
        }
    }
}

/// Examines a file that may be an ONNX model. Returns whether it is one.
pub(super) fn examine(
    examiner: &mut Examiner,
    place: &str,
    content: &dyn ReadAt,
) -> io::Result<bool> {
    let mut window = Window::new(content, 0);
    if !Fault::split(is_model(&mut window))?.unwrap_or(false) {
        return Ok(false);
    }
    let mut walk = Walk {
        examiner,
        place,
        window: Window::new(content, 0),
        fields: 0,
    };
    let read = walk.enter(Message::Model, content.size(), 0);
    if let Err(why) = Fault::split(read)? {
        let message = format!("the ONNX model cannot be read to its end: {why}");
        examiner.report(rules::ODD_ONNX, place, message);
    }
    Ok(true)
}

/// A model has a version and a graph, and no field that the format lacks; the first of them are
/// enough, since a model that breaks off later is one too.
fn is_model(window: &mut Window) -> Result<bool, Fault> {
    let mut version = false;
    for fields in 0..10_000 {
        let Ok((number, wire)) = Fault::split(read_tag(window))? else {
            return Ok(false);
        };
        match (number, wire) {
            (1, 0) if !version => {
                version = true;
                if !(1..=64).contains(&read_varint(window)?) {
                    return Ok(false);
                }
            }
            (7, 2) => {
                let length = read_varint(window)?;
                // One that is cut off is known by what stands before.
                let fits = length <= window.left() || fields > 1;
                return Ok(version && fits && starts_graph(window, length)?);
            }
            (5, 0) => {
                read_varint(window)?;
            }
            (2..=4 | 6 | 8 | 14 | 20 | 25, 2) => {
                let length = read_varint(window)?;
                window.skip(length)?;
            }
            _ => return Ok(false),
        }
    }
    Ok(false)
}

fn starts_graph(window: &mut Window, length: u64) -> Result<bool, Fault> {
    if length == 0 {
        return Ok(true);
    }
    let (number, wire) = read_tag(window)?;
    Ok(wire == 2 && matches!(number, 1 | 2 | 5 | 10..=15))
}

fn read_varint(window: &mut Window) -> Result<u64, Fault> {
    let mut out = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = window.byte()?;
        out |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(out);
        }
    }
    Fault::broken("a number in it has no end")
}

/// The number of a field, and how it is written.
fn read_tag(window: &mut Window) -> Result<(u64, u8), Fault> {
    let tag = read_varint(window)?;
    match tag >> 3 {
        0 => Fault::broken("a field has no number"),
        number => Ok((number, (tag & 7) as u8)),
    }
}

struct Walk<'e, 'a> {
    examiner: &'e mut Examiner,
    place: &'e str,
    window: Window<'a>,
    fields: u64,
}

impl Walk<'_, '_> {
    /// Walks a message to `end`.
    fn enter(&mut self, message: Message, end: u64, depth: u32) -> Result<(), Fault> {
        if depth > DEEPEST {
            return Fault::broken("its graphs hold graphs");
        }
        let mut said: [Option<String>; 4] = Default::default();
        while self.window.offset() < end {
            self.fields += 1;
            if self.fields > MOST_FIELDS {
                return Fault::broken("it has more fields than any model");
            }
            let (number, wire) = read_tag(&mut self.window)?;
            let length = match wire {
                0 => {
                    read_varint(&mut self.window)?;
                    continue;
                }
                1 => 8,
                5 => 4,
                2 => read_varint(&mut self.window)?,
                _ => return Fault::broken("a field has an unknown form"),
            };
            if length > end.saturating_sub(self.window.offset()) {
                return Fault::broken("a field is longer than what holds it");
            }
            let field_end = self.window.offset() + length;
            match message.field(number) {
                Field::Message(inner) if wire == 2 => self.enter(inner, field_end, depth + 1)?,
                Field::Text(what) if wire == 2 && length <= LONGEST_TEXT => {
                    let bytes = self.window.take(length as usize)?;
                    let text = String::from_utf8_lossy(bytes).into_owned();
                    said[what as usize] = Some(text);
                }
                Field::Unknown => return Fault::broken("it has a field that ONNX lacks"),
                _ => self.window.skip(length)?,
            }
        }
        let [key, value, operator, domain] = said;
        match message {
            Message::Pair => self.check_pair(key.as_deref(), value.as_deref().unwrap_or_default()),
            Message::Node => self.check_node(
                operator.as_deref().unwrap_or_default(),
                domain.as_deref().unwrap_or_default(),
            ),
            _ => {}
        }
        Ok(())
    }

    /// Where a tensor's numbers are, if not in the model.
    fn check_pair(&mut self, key: Option<&str>, value: &str) {
        if key != Some("location") {
            return;
        }
        let leaves = value.starts_with(['/', '\\'])
            || value.split(['/', '\\']).any(|part| part == "..")
            || value.as_bytes().get(1) == Some(&b':');
        if leaves {
            let shown = zip_archive::shown_name(value.as_bytes());
            let message = format!("the model reads its weights from {shown}");
            self.examiner
                .report(rules::ONNX_ESCAPES, self.place, message);
        }
    }

    fn check_node(&mut self, operator: &str, domain: &str) {
        let python = matches!(operator, "PyOp" | "PythonOp" | "PythonOpGrad" | "ATen")
            || domain.contains("pyop")
            || domain.contains("python");
        if python {
            let (operator, domain) = (escape_text(operator), escape_text(domain));
            let message = format!("the model calls {operator} of \"{domain}\"");
            self.examiner.report(rules::ONNX_CODE, self.place, message);
        }
    }
}
