//! Files of somebody else's, for whoever has them: `COMFY_SCAN_CORPUS=FOLDER cargo test --lib
//! scan::model_file -- --ignored --nocapture`. The folder has `hostile`, `benign`, or both.

use std::path::Path;

use super::super::super::finding::Verdict;
use super::verdict;

#[test]
#[ignore = "needs a folder in COMFY_SCAN_CORPUS"]
#[expect(clippy::disallowed_methods, reason = "a folder that is named by hand")]
fn hostile_files_are_never_safe_and_benign_ones_are() {
    let root = std::env::var("COMFY_SCAN_CORPUS").unwrap();
    let mut wrong = Vec::new();
    for kind in ["hostile", "benign"] {
        let Ok(entries) = std::fs::read_dir(Path::new(&root).join(kind)) else {
            continue;
        };
        let mut paths: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            let name = path.file_name().unwrap().to_str().unwrap();
            let (found, why) = verdict(name, &std::fs::read(&path).unwrap());
            let right = match kind {
                "hostile" => found > Some(Verdict::Safe),
                _ => found == Some(Verdict::Safe),
            };
            let row = format!("{kind} {name}: {found:?}\n  {}", why.replace('\n', "\n  "));
            std::io::Write::write_all(&mut std::io::stderr(), format!("{row}\n").as_bytes())
                .unwrap();
            if !right {
                wrong.push(row);
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
