class DemoInvert:
    CATEGORY = "demo"
    RETURN_TYPES = ("STRING",)
    FUNCTION = "invert"
    DESCRIPTION = "Turns a text round."

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"default": ""})}}

    def invert(self, text):
        return (text[::-1],)
