"""Where things lie: ComfyUI's own module of this name, as far as nodes and the server ask it."""

import os

from comfy.cli_args import args

base_path = os.path.abspath(args.base_directory or os.path.dirname(os.path.realpath(__file__)))
models_dir = os.path.join(base_path, "models")
input_directory = os.path.abspath(args.input_directory or os.path.join(base_path, "input"))
output_directory = os.path.abspath(args.output_directory or os.path.join(base_path, "output"))
user_directory = os.path.abspath(args.user_directory or os.path.join(base_path, "user"))
# As in ComfyUI, the flag names the folder that holds `temp`.
temp_directory = os.path.join(os.path.abspath(args.temp_directory or base_path), "temp")

model_extensions = {".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf"}
folder_names_and_paths = {
    "checkpoints": ([os.path.join(models_dir, "checkpoints")], model_extensions),
    "loras": ([os.path.join(models_dir, "loras")], model_extensions),
    "configs": ([os.path.join(models_dir, "configs")], {".yaml"}),
    "custom_nodes": ([os.path.join(base_path, "custom_nodes")], set()),
}


def get_input_directory():
    return input_directory


def get_output_directory():
    return output_directory


def get_temp_directory():
    return temp_directory


def get_user_directory():
    return user_directory


def get_folder_paths(name):
    return folder_names_and_paths[name][0][:]


def add_model_folder_path(name, path):
    folders = folder_names_and_paths.setdefault(name, ([], set()))[0]
    if path not in folders:
        folders.append(path)


def get_filename_list(name):
    """The files of one kind of model, relative to their folder, sorted."""
    folders, extensions = folder_names_and_paths[name]
    found = set()
    for top in folders:
        for folder, _, files in os.walk(top, followlinks=True):
            for file in files:
                if not extensions or os.path.splitext(file)[1].lower() in extensions:
                    found.add(os.path.relpath(os.path.join(folder, file), top))
    return sorted(found)
