//! The files of the example, which lie in `files/` beside this.

/// One file of a tree.
#[derive(Clone, Copy)]
pub struct File {
    /// Below the tree's root.
    pub path: &'static str,
    /// All of it.
    pub text: &'static str,
}

macro_rules! tree {
    ($folder:literal: $($path:literal),+ $(,)?) => {
        &[$(File { path: $path, text: include_str!(concat!("files/", $folder, "/", $path)) }),+]
    };
}

/// A miniature ComfyUI on Python's standard library: the folders, flags and addresses of the real
/// one.
pub const COMFYUI: &[File] = tree!("ComfyUI":
    "README.md",
    "comfy/cli_args.py",
    "comfyui_version.py",
    "custom_nodes/websocket_image_save.py",
    "folder_paths.py",
    "input/example.txt",
    "main.py",
    "models/checkpoints/put_checkpoints_here",
    "models/configs/v1-inference.yaml",
    "models/loras/put_loras_here",
    "nodes.py",
    "output/_output_images_will_be_put_here",
    "requirements.txt",
    "server.py",
    "utils/extra_config.py",
    "web/index.html",
);

/// A node of one file.
pub(crate) const HELLO: &[File] = tree!("demo-hello": "README.md", "__init__.py");

/// What its author changes later.
pub(crate) const HELLO_NEXT: &[File] = tree!("demo-hello-next": "__init__.py");

/// A node of two files.
pub(crate) const INVERT: &[File] = tree!("demo-invert": "README.md", "__init__.py", "invert.py");
