"""Greets by name."""


class DemoHello:
    CATEGORY = "demo"
    RETURN_TYPES = ("STRING",)
    FUNCTION = "greet"
    DESCRIPTION = "Greets by name."

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"name": ("STRING", {"default": "world"})}}

    def greet(self, name):
        return (f"Good evening, {name}!",)


NODE_CLASS_MAPPINGS = {"DemoHello": DemoHello}
NODE_DISPLAY_NAME_MAPPINGS = {"DemoHello": "Hello (demo)"}
