"""JSON files whose differences can be read, for the tools that make golden files."""
import json


def write_json(path, value, depth=2):
    """One line for every value `depth` levels down: short files whose differences can be read."""
    def lines(value, depth, indent):
        if depth == 0 or not isinstance(value, (dict, list)) or not value:
            return json.dumps(value)
        inner = indent + " "
        if isinstance(value, dict):
            parts = [f"{inner}{json.dumps(str(key))}: {lines(item, depth - 1, inner)}" for key, item in value.items()]
            return "{\n" + ",\n".join(parts) + "\n" + indent + "}"
        return "[\n" + ",\n".join(inner + lines(item, depth - 1, inner) for item in value) + "\n" + indent + "]"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(lines(value, depth, "") + "\n")
