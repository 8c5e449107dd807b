//! Chat templates: Jinja in a model file, which whoever loads the model runs.
//!
//! A template that only lays out messages needs loops, conditions, indices and a few filters. It
//! reaches Python through attributes of attributes (`cycler.__init__.__globals__`).

use super::{Examiner, rules};
use crate::text::escape_text;

/// Names by which a template gets from a value to Python.
const HOSTILE: &[&str] = &[
    "__class__",
    "__mro__",
    "__base__",
    "__bases__",
    "__subclasses__",
    "__globals__",
    "__builtins__",
    "__import__",
    "__init__",
    "__getattribute__",
    "__getattr__",
    "__dict__",
    "__call__",
    "__code__",
    "__func__",
    "__self__",
    "__getitem__",
    "__reduce__",
    "func_globals",
    "gi_frame",
    "f_globals",
    "popen",
    "subprocess",
    "os.system",
    "mro()",
    "eval(",
    "exec(",
    "open(",
    "import_module",
    "_TemplateReference__context",
];
/// Words of Jinja and of its environment that only reach for more.
const ODD: &[&str] = &[
    "|attr",
    "| attr",
    "lipsum",
    "cycler",
    "joiner",
    "getattr",
    "self._",
    "{% import",
    "{%- import",
    "{% include",
    "{%- include",
    "{% from",
    "{%- from",
    "{% extends",
    "{%- extends",
    "config.",
    "request.",
    "url_for",
    "get_flashed",
];

/// Examines a template of a model.
pub(super) fn examine(examiner: &mut Examiner, place: &str, key: &str, template: &str) {
    let key = escape_text(key);
    for code in code_of(template) {
        let plain: String = code.chars().filter(|c| !c.is_whitespace()).collect();
        if let Some(word) = HOSTILE.iter().find(|w| plain.contains(**w)) {
            let message = format!("{key} uses {word}");
            examiner.report(rules::TEMPLATE_CODE, place, message);
            return;
        }
        let odd = ODD.iter().find(|w| code.contains(**w)).copied();
        let odd = odd.or_else(|| {
            // `'\x5f'` is an underscore; `'__' ~ 'class'` is a name in parts.
            let escapes = ["\\x", "\\u", "\\U", "\\N", "\\1", "\\0"];
            let parts = ["'__", "__'", "\"__", "__\"", "'_'*", "\"_\"*", "%c"];
            let found = escapes.iter().chain(&parts).find(|w| plain.contains(**w));
            found.copied()
        });
        if let Some(word) = odd {
            let message = format!("{key} uses {}", escape_text(word.trim()));
            examiner.report(rules::ODD_TEMPLATE, place, message);
        }
    }
}

/// The parts of a template that are run: `{{ … }}` and `{% … %}`, with their begin.
fn code_of(template: &str) -> impl Iterator<Item = &str> {
    let mut rest = template;
    std::iter::from_fn(move || {
        let close = loop {
            let at = rest.find('{')?;
            rest = &rest[at..];
            match rest.as_bytes().get(1) {
                Some(b'{') => break "}}",
                Some(b'%') => break "%}",
                _ => rest = &rest[1..],
            }
        };
        // What is not closed is taken to the end.
        let end = rest.find(close).map_or(rest.len(), |e| e + close.len());
        let (code, after) = rest.split_at(end);
        rest = after;
        Some(code)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_of_a_million_parts_is_read_once() {
        let mut examiner = Examiner::default();
        examine(&mut examiner, "m.gguf", "template", &"{{}}".repeat(1 << 20));
        assert!(examiner.findings.is_empty());
    }

    #[test]
    fn a_template_that_lays_out_messages_is_safe() {
        let table = [
            // Llama 3, Mistral, ChatML and Gemma, in short.
            "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}",
            "{%- set ns = namespace(found=false) %}{%- for m in messages %}{%- if m.role not in ['user'] %}{{ raise_exception('no ' ~ m.role) }}{%- endif %}{%- endfor %}{{ tools | tojson(indent=4) }}{{ strftime_now('%d %b %Y') }}",
            "__class__ in text is text {{ messages[-1].content.split('</think>')[-1].lstrip('\\n') }}",
            "{{ ''.__class__.__mro__[1].__subclasses__() }}",
            "{% for c in [].__class__ . __base__ %}{% endfor %}",
            "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
            "{{ x['__cla' ~ 'ss__'] }}",
            "{{ x['\\x5f\\x5fclass\\x5f\\x5f'] }}",
            "{{ x | attr('a') }}",
            "{% include 'x' %}",
            "{{ self._TemplateReference__context",
        ];
        let rows: Vec<String> = table
            .iter()
            .map(|template| {
                let mut examiner = Examiner::default();
                examine(&mut examiner, "m.gguf", "tokenizer.chat_template", template);
                let found = examiner
                    .findings
                    .iter()
                    .map(|f| format!("{}, {}", f.rule.id, f.message));
                found.collect::<Vec<_>>().join("; ")
            })
            .collect();
        insta::assert_snapshot!(rows.join("\n"), @r"



        template-runs-code, tokenizer.chat_template uses __class__
        template-runs-code, tokenizer.chat_template uses __class__
        template-runs-code, tokenizer.chat_template uses __globals__
        template-unusual, tokenizer.chat_template uses '__
        template-unusual, tokenizer.chat_template uses \x
        template-unusual, tokenizer.chat_template uses | attr
        template-unusual, tokenizer.chat_template uses {% include
        template-runs-code, tokenizer.chat_template uses _TemplateReference__context
        ");
    }
}
