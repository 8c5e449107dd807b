//! Scripts in `bin`: those that a wheel brings, and those that its entry points ask for.

use std::path::Path;

/// Bytes of a first line that every kernel reads whole: Linux before 5.1 took 127 (execve(2)),
/// macOS takes 512.
const LONGEST: usize = 127;

/// The first line, or lines: a path that is too long or has a space is given to /bin/sh, as pip
/// does it.
fn shebang_lines(python: &Path) -> String {
    let python = python.display().to_string();
    if python.len() + 3 <= LONGEST && !python.contains(' ') {
        return format!("#!{python}\n");
    }
    let quoted = python
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('$', "\\$")
        .replace('`', "\\`");
    format!("#!/bin/sh\n'''exec' \"{quoted}\" \"$0\" \"$@\"\n' '''\n")
}

/// A script of a wheel: a first line that starts with `#!python` is for the installer to write (PEP
/// 427).
pub(crate) fn of_wheel(bytes: Vec<u8>, python: &Path) -> Vec<u8> {
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    if !line.starts_with(b"#!python") {
        return bytes;
    }
    [
        shebang_lines(python).as_bytes(),
        bytes.get(line.len() + 1..).unwrap_or_default(),
    ]
    .concat()
}

/// Names and texts of the scripts that entry_points.txt asks for (PyPA's "Entry points
/// specification").
///
/// # Errors
/// A line that names no function, or a name that is no file's.
pub(crate) fn of_entry_points(text: &str, python: &Path) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut out = Vec::new();
    let mut asked = false;
    for line in text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with(['#', ';']))
    {
        if let Some(section) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            asked = ["console_scripts", "gui_scripts"].contains(&section.trim());
        } else if asked {
            let wrong = || {
                format!(
                    "declares a script `{}`, which names no function",
                    crate::text::escape_text(line)
                )
            };
            let (name, target) = line.split_once('=').ok_or_else(wrong)?;
            // Extras say what else is needed, and that is long decided.
            let target = target.split('[').next().unwrap_or_default();
            let (module, function) = target.split_once(':').ok_or_else(wrong)?;
            let (name, module, function) = (name.trim(), module.trim(), function.trim());
            if name.contains('/')
                || crate::manifest::names::check_relative(name).is_err()
                || !is_dotted(module)
                || !is_dotted(function)
            {
                return Err(wrong());
            }
            let first = function.split('.').next().unwrap_or_default();
            let body = format!(
                "# -*- coding: utf-8 -*-\nimport sys\nfrom {module} import {first}\nif __name__ == \
                 \"__main__\":\n    sys.exit({function}())\n"
            );
            out.push((
                name.to_string(),
                format!("{}{body}", shebang_lines(python)).into_bytes(),
            ));
        }
    }
    Ok(out)
}

fn is_dotted(name: &str) -> bool {
    name.split('.').all(|p| {
        !p.is_empty()
            && !p.starts_with(|c: char| c.is_ascii_digit())
            && p.chars().all(|c| c.is_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_name_the_live_interpreter() {
        let python = Path::new("/opt/x/current/venv/bin/python");
        let text = "# what it brings\n[console_scripts]\nhello = hello.cli:main\ndeep=a.b : C.run \
            [extra]\n[gui_scripts]\nwindow = w:show\n[other]\nx = y\n";
        let mut told: Vec<String> = of_entry_points(text, python)
            .unwrap()
            .into_iter()
            .map(|(n, t)| format!("== {n}\n{}", String::from_utf8(t).unwrap()))
            .collect();
        let long = format!("/{}/python", "long folder/".repeat(3));
        let wheel = |first: &str, python: &str| {
            String::from_utf8(of_wheel(
                format!("{first}\nprint(1)\n").into(),
                Path::new(python),
            ))
            .unwrap()
        };
        for first in [
            "#!python",
            "#!pythonw\r",
            "#!/bin/sh",
            "#!/usr/bin/env python",
        ] {
            told.push(format!(
                "== from {first:?}\n{}",
                wheel(first, "/opt/x/bin/python")
            ));
        }
        told.push(format!("== with a space\n{}", wheel("#!python", &long)));
        for bad in [
            "x = module",
            "../x = a:b",
            "x = a:b; import os",
            "x",
            "x = a:1b",
        ] {
            told.push(format!(
                "{:?}\n",
                of_entry_points(&format!("[console_scripts]\n{bad}\n"), python).unwrap_err()
            ));
        }
        insta::assert_snapshot!(told.concat(), @r##"
        == hello
        #!/opt/x/current/venv/bin/python
        # -*- coding: utf-8 -*-
        import sys
        from hello.cli import main
        if __name__ == "__main__":
            sys.exit(main())
        == deep
        #!/opt/x/current/venv/bin/python
        # -*- coding: utf-8 -*-
        import sys
        from a.b import C
        if __name__ == "__main__":
            sys.exit(C.run())
        == window
        #!/opt/x/current/venv/bin/python
        # -*- coding: utf-8 -*-
        import sys
        from w import show
        if __name__ == "__main__":
            sys.exit(show())
        == from "#!python"
        #!/opt/x/bin/python
        print(1)
        == from "#!pythonw\r"
        #!/opt/x/bin/python
        print(1)
        == from "#!/bin/sh"
        #!/bin/sh
        print(1)
        == from "#!/usr/bin/env python"
        #!/usr/bin/env python
        print(1)
        == with a space
        #!/bin/sh
        '''exec' "/long folder/long folder/long folder//python" "$0" "$@"
        ' '''
        print(1)
        "declares a script `x = module`, which names no function"
        "declares a script `../x = a:b`, which names no function"
        "declares a script `x = a:b; import os`, which names no function"
        "declares a script `x`, which names no function"
        "declares a script `x = a:1b`, which names no function"
        "##);
    }
}
