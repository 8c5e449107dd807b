"""Folders of models elsewhere: as much of extra_model_paths.yaml as the standard library reads."""

import ast
import os

import folder_paths


def sections(path):
    """Each section's lines `key: value`; of values, plain words and double quotes."""
    found = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            if line[0] != " ":
                found.append({})
                continue
            key, value = (ast.literal_eval(v) if v.startswith('"') else v for v in text.split(": ", 1))
            found[-1][key] = value
    return found


def load_extra_path_config(path):
    for section in sections(path):
        base = os.path.join(os.path.dirname(os.path.abspath(path)), section.pop("base_path", ""))
        for kind, folders in section.items():
            for folder in filter(None, folders.split("\n")):
                folder_paths.add_model_folder_path(kind, os.path.normpath(os.path.join(base, folder)))
