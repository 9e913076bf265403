"""A daemon whose base `caller` calls a tool, and says `Sunny.` when it has the result."""
from scripted import Served

TEMPLATE = ("{{ bos_token }}{# <tool_call> #}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
            "{{ '<|say2|>' if messages[-1].role == 'tool' else '<|say|>' }}")
PIECES = ["I look", ".<tool", '_call>{"name": "get_wea', 'ther", "arguments": {"ci', 'ty": "Genève"', "}}</tool", "_call>"]


def caller():
    return Served({"<|say|>": PIECES, "<|say2|>": ["Sun", "ny."]}, TEMPLATE, "--served-model-name", "caller")
