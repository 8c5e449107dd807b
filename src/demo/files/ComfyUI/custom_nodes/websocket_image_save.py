"""A node of one file, as ComfyUI ships one under this name."""


class SaveTextWebsocket:
    CATEGORY = "api/text"
    RETURN_TYPES = ()
    FUNCTION = "save"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"default": ""})}}

    def save(self, text):
        return {}


NODE_CLASS_MAPPINGS = {"SaveTextWebsocket": SaveTextWebsocket}
