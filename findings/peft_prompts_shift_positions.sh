#!/usr/bin/env bash
# PEFT's prompts for a text encoder take up positions. In front of BERT, 8 virtual tokens of prompt
# tuning, and of prefix tuning as well, move every word of the text 8 positions on, so words get the
# position embeddings of later words, and a text of the encoder's full length raises. (One could
# expect that prefixes, which are keys and values of each layer and no tokens, leave positions
# alone.) With prompt tuning last_hidden_state has 8 states more than the attention mask of the
# text, so the first state is no longer [CLS], and mean pooling by the mask raises.
#
# Seen with peft 0.21.2, transformers 5.24.0, torch 2.14.1.
# Output: PromptTuningConfig: 20 states for 12 words, moved by 8; 24 of 24 words: RuntimeError
#         PrefixTuningConfig: 12 states for 12 words, moved by 8; 24 of 24 words: RuntimeError
# What we do: the prompts of method=prompt have no positions, and their states are taken out
# (tl_runner/backbones/_prompts.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "peft==0.21.2" "transformers==5.24.0" "torch==2.14.1"
"$folder/venv/bin/python" -W ignore - <<'PY'
import torch
from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model
from transformers import BertConfig, BertModel

NEW, LONGEST, WORDS = 8, 24, 12


def encoder():
    torch.manual_seed(0)
    config = BertConfig(vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                        intermediate_size=64, max_position_embeddings=LONGEST)
    return BertModel(config, add_pooling_layer=False).eval()


def moved(plain, ids, seen):
    """By how many positions the embeddings that were seen are those of words further on."""
    for by in range(LONGEST - WORDS + 1):
        positions = torch.arange(by, by + WORDS)[None]
        if torch.allclose(plain.embeddings(ids, position_ids=positions), seen, atol=1e-6):
            return by


def run(kind, ids):
    network, seen = encoder(), []
    network.embeddings.register_forward_hook(lambda module, given, out: seen.append(out))
    config = kind(task_type="FEATURE_EXTRACTION", num_virtual_tokens=NEW)
    model = get_peft_model(network, config).eval()
    out = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    return out, seen[-1][:, -ids.shape[1]:]


with torch.no_grad():
    for kind in (PromptTuningConfig, PrefixTuningConfig):
        ids = torch.randint(1, 100, (2, WORDS))
        out, seen = run(kind, ids)
        by = moved(encoder(), ids, seen)
        try:
            run(kind, torch.randint(1, 100, (2, LONGEST)))
            full = "no error"
        except RuntimeError:
            full = "RuntimeError"
        print(f"{kind.__name__}: {out.shape[1]} states for {WORDS} words, moved by {by}; "
              f"{LONGEST} of {LONGEST} words: {full}")
        states = WORDS + NEW * (kind is PromptTuningConfig)
        assert (out.shape[1], by, full) == (states, NEW, "RuntimeError")
PY
