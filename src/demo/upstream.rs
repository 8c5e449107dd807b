//! The repositories that stand in for GitHub: bare ones, written by libgit2 straight from the
//! embedded files.

use std::path::Path;

use git2::{Repository, Signature};

use super::files::{self, File};
use crate::host::git::objects;
use crate::problem::{Context, Result};

/// Makes the three repositories below `folder`.
///
/// # Errors
/// If the disk fails.
pub(crate) fn create_repositories(folder: &Path) -> Result<()> {
    for (name, files) in [
        ("ComfyUI", files::COMFYUI),
        ("demo-hello", files::HELLO),
        ("demo-invert", files::INVERT),
    ] {
        let at = folder.join(format!("{name}.git"));
        objects::init(&at)?;
        commit_files(&at, files, "First version")?;
    }
    Ok(())
}

/// The author of demo-hello publishes a change.
///
/// # Errors
/// If the disk fails.
pub(crate) fn publish_change(folder: &Path) -> Result<()> {
    commit_files(
        &folder.join("demo-hello.git"),
        files::HELLO_NEXT,
        "Greet in the evening",
    )
}

/// The signature of every commit of a demo: nobody has to be known to git.
///
/// # Errors
/// None that is known: name and address are fine.
pub(crate) fn demo_signature() -> Result<Signature<'static>> {
    Signature::now("comfy demo", "demo@localhost").context("sign a commit")
}

/// Commits the last tree with these files in place of theirs.
fn commit_files(folder: &Path, files: &[File], message: &str) -> Result<()> {
    let write = || -> std::result::Result<(), git2::Error> {
        let repo = Repository::open_bare(folder)?;
        let parent = repo.head().ok().and_then(|h| h.peel_to_commit().ok());
        let mut update = git2::build::TreeUpdateBuilder::new();
        for file in files {
            update.upsert(
                file.path,
                repo.blob(file.text.as_bytes())?,
                git2::FileMode::Blob,
            );
        }
        let base = match &parent {
            Some(commit) => commit.tree()?,
            None => repo.find_tree(repo.treebuilder(None)?.write()?)?,
        };
        let tree = repo.find_tree(update.create_updated(&repo, &base)?)?;
        let who = demo_signature().map_err(|p| git2::Error::from_str(&p.message))?;
        let parents: Vec<_> = parent.iter().collect();
        repo.commit(Some("HEAD"), &who, &who, message, &tree, &parents)
            .map(drop)
    };
    write().with_context(|| format!("write {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpStream;
    use std::process::{Child, Command, Stdio};

    use super::*;

    struct Running(Child);

    impl Drop for Running {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn get(host: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(host).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert!(reply.starts_with("HTTP/1.0 200"), "{path}: {reply}");
        reply.split_once("\r\n\r\n").unwrap().1.to_string()
    }

    fn put(folder: &Path, files: &[File]) {
        for file in files {
            let path = folder.join(file.path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file.text).unwrap();
        }
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a test starts the embedded program as a user would"
    )]
    fn the_miniature_comfyui_serves_with_both_nodes_loaded_and_names_the_one_that_fails() {
        let Some(python) = crate::host::env::find_in_path("python3") else {
            crate::render::print_stderr(
                "SKIPPED: there is no python3 in PATH, so the miniature ComfyUI was not started",
            );
            return;
        };
        let top = tempfile::tempdir().unwrap();
        let nodes = top.path().join("custom_nodes");
        put(top.path(), files::COMFYUI);
        put(&nodes.join("demo-hello"), files::HELLO);
        put(&nodes.join("demo-invert"), files::INVERT);
        put(
            &nodes.join("broken"),
            &[File {
                path: "__init__.py",
                text: "import no_such_module_of_anybody\n",
            }],
        );
        let mut command = Command::new(python);
        // Flags that it does not know are taken, as the next ComfyUI may have more.
        command.arg("main.py").args([
            "--listen",
            "127.0.0.1",
            "--port",
            "0",
            "--user-directory",
            "user",
            "--flag-of-tomorrow",
            "x",
        ]);
        command
            .current_dir(top.path())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut running = Running(command.spawn().unwrap());
        let mut log = String::new();
        let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
        let host = loop {
            let line = lines
                .next()
                .unwrap_or_else(|| panic!("it ended early:\n{log}"))
                .unwrap();
            log += &format!("{line}\n");
            if let Some(address) = line.strip_prefix("To see the GUI go to: http://") {
                break address.to_string();
            }
        };
        let loaded: Vec<&str> = log.lines().filter(|l| l.contains(" seconds")).collect();
        assert_eq!(loaded.len(), 4, "{log}");
        assert_eq!(
            loaded
                .iter()
                .filter(|l| l.contains("(IMPORT FAILED)"))
                .copied()
                .collect::<Vec<_>>(),
            loaded
                .iter()
                .filter(|l| l.ends_with("/broken"))
                .copied()
                .collect::<Vec<_>>()
        );
        assert!(get(&host, "/").contains("<li>DemoHello</li><li>DemoInvert</li>"));
        let stats: serde_json::Value = serde_json::from_str(&get(&host, "/system_stats")).unwrap();
        assert_eq!(stats["system"]["comfyui_version"], "0.0.1-demo");
        let info: serde_json::Value = serde_json::from_str(&get(&host, "/object_info")).unwrap();
        assert_eq!(info["DemoInvert"]["display_name"], "Invert (demo)");
        assert_eq!(
            info["DemoHello"]["python_module"],
            "custom_nodes.demo-hello"
        );
    }

    #[test]
    fn a_repository_holds_exactly_its_files_before_and_after_the_change() {
        let top = tempfile::tempdir().unwrap();
        create_repositories(top.path()).unwrap();
        let repo = Repository::open_bare(top.path().join("demo-hello.git")).unwrap();
        let text = |path: &str| {
            let tree = repo.head().unwrap().peel_to_tree().unwrap();
            let blob = tree
                .get_path(Path::new(path))
                .unwrap()
                .to_object(&repo)
                .unwrap()
                .into_blob()
                .unwrap();
            String::from_utf8(blob.content().to_vec()).unwrap()
        };
        assert!(text("__init__.py").contains("Hello, {name}!"));
        publish_change(top.path()).unwrap();
        assert!(text("__init__.py").contains("Good evening, {name}!"));
        assert_eq!(text("README.md"), files::HELLO[0].text);
        let head = repo.head().unwrap().peel_to_commit().unwrap();
        assert_eq!(
            (head.parent_count(), head.author().email().unwrap()),
            (1, "demo@localhost")
        );
    }
}
