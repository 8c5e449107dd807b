//! Jupyter notebooks (nbformat): their code cells are Python.

use serde::Deserialize;

use super::python::PythonSource;

#[derive(Deserialize)]
struct Notebook {
    #[serde(default)]
    cells: Vec<Cell>,
    /// Format 3 and older.
    #[serde(default)]
    worksheets: Vec<Worksheet>,
}

#[derive(Deserialize)]
struct Worksheet {
    #[serde(default)]
    cells: Vec<Cell>,
}

#[derive(Deserialize)]
struct Cell {
    #[serde(default)]
    cell_type: String,
    #[serde(default, alias = "input")]
    source: Lines,
}

#[derive(Deserialize, Default)]
#[serde(untagged)]
enum Lines {
    #[default]
    None,
    One(String),
    Many(Vec<String>),
}

/// Returns the code cells of a notebook, each as a source of its own; lines that IPython runs as
/// commands (`!pip install …`, `%magic`) become calls of `os.system`, which is what they do.
///
/// # Errors
/// It is not a notebook; as text.
pub(super) fn code_cells(path: &str, bytes: &[u8]) -> Result<Vec<PythonSource>, String> {
    let notebook: Notebook =
        serde_json::from_slice(bytes).map_err(|e| format!("is not a notebook: {e}"))?;
    let older = notebook.worksheets.into_iter().flat_map(|w| w.cells);
    let code = notebook
        .cells
        .into_iter()
        .chain(older)
        .filter(|c| c.cell_type == "code");
    Ok(code
        .enumerate()
        .map(|(n, cell)| PythonSource {
            path: format!("{path}!cell{}", n + 1),
            bytes: plain_python(&match cell.source {
                Lines::None => String::new(),
                Lines::One(text) => text,
                Lines::Many(lines) => lines.concat(),
            })
            .into_bytes(),
        })
        .collect())
}

fn plain_python(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    for line in source.split_inclusive('\n') {
        let indent = line.len() - line.trim_start().len();
        let code = &line[indent..];
        match code.chars().next() {
            Some('!') => {
                let command = code[1..].trim_end();
                let quoted = command.replace('\\', "\\\\").replace('\'', "\\'");
                out += &line[..indent];
                out += &format!("__import__('os').system('{quoted}')\n");
            }
            Some('%') => {
                out += &line[..indent];
                out += "pass\n";
            }
            _ => out += line,
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_cells_are_calls() {
        let text = br#"{"cells":[{"cell_type":"markdown","source":"exec(1)"},
            {"cell_type":"code","source":["x = 1\n","!pip install 'a'\n","%time x\n"]}]}"#;
        let cells = code_cells("a.ipynb", text).unwrap();
        assert_eq!(cells.len(), 1);
        assert_eq!(cells[0].path, "a.ipynb!cell1");
        assert_eq!(
            String::from_utf8_lossy(&cells[0].bytes),
            "x = 1\n__import__('os').system('pip install \\'a\\'')\npass\n"
        );
        assert!(code_cells("a.ipynb", b"{").is_err());
    }
}
