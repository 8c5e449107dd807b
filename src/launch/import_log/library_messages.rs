//! Hints for what libraries say in words of their own, which name neither a path nor a module.

/// Returns what settles the message in a line, if it is a known one.
pub(super) fn known_message(line: &str) -> Option<String> {
    older_numpy(line)
        .or_else(|| missing_device(line))
        .or_else(|| doubled_route(line))
}

/// A package with compiled code for NumPy 1; the first words are NumPy's, the others what Python
/// raises after them.
fn older_numpy(line: &str) -> Option<String> {
    let words = [
        "A module that was compiled using NumPy 1.x cannot be run in",
        "numpy.core.multiarray failed to import",
        "_ARRAY_API not found",
    ];
    words.iter().any(|w| line.contains(w)).then(|| {
        "ComfyUI reports that a package was compiled for NumPy 1, and a later NumPy is installed: \
         in comfy.toml, then `comfy lock` and `comfy apply`: [python] requirements = [\"numpy<2\"]"
            .into()
    })
}

/// Two nodes want the same address of ComfyUI's server; the words are aiohttp's
/// (`web_urldispatcher.py`).
fn doubled_route(line: &str) -> Option<String> {
    let words = "Added route will never be executed, method ";
    line.contains(words).then(|| {
        "ComfyUI reports that two nodes answer at the same address, so that it cannot start: \
         `comfy bisect` finds one of them; then `enabled = false` in its section of comfy.toml"
            .into()
    })
}

/// ComfyUI asks for a card without looking whether there is one; the words are PyTorch's
/// (`torch/cuda/__init__.py`).
fn missing_device(line: &str) -> Option<String> {
    let words = [
        "Found no NVIDIA driver on your system",
        "Torch not compiled with CUDA enabled",
    ];
    words.iter().any(|w| line.contains(w)).then(|| {
        "ComfyUI reports that PyTorch finds no card in this machine: to let it use the processor, \
         in comfy.toml, then `comfy apply`: [comfyui] args = [\"--cpu\"]"
            .into()
    })
}
