def closing(folder):
    import json

    return "\n".join(f"{p.parent.name} {json.loads(p.read_text())['score']}" for p in sorted(folder.glob("*/result.json")))
