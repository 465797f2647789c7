"""A Qwen2-VL of half a million random parameters, made on the spot: the real classes, no weights.

python -m tests.vllm.tiny_model FOLDER
"""

import json
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2VLConfig, Qwen2VLForConditionalGeneration

from dtpf.caption.vlm.prompts import read_prompt

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
# ChatML with image parts in place, as Qwen2-VL is asked.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PATCH, MERGE = 14, 2
STEPS, LEARNING_RATE = 500, 4e-3
ANSWER = {
    "visible": {
        "degradations": [{"kind": "low_light", "severity": "severe"}],
        "scene": "A dark street with parked cars and a row of lamps.",
    },
    "infrared": {
        "degradations": [{"kind": "noise", "severity": "mild"}],
        "scene": "Two warm people walk beside cold cars.",
    },
}


def make_tiny_model(folder: Path) -> Path:
    """Write config, weights, tokenizer and image processor; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    model = Qwen2VLForConditionalGeneration(_config(tokenizer)).to(torch.float32)
    _teach(model, tokenizer)
    model.save_pretrained(folder)
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": CHAT_TEMPLATE}))
    (folder / "preprocessor_config.json").write_text(json.dumps(_image_processor()))
    return folder


def _question() -> str:
    """Return the text of a question without its images."""
    return read_prompt("infrared_visible", "1").replace("{visible}", "").replace("{infrared}", "")


def _teach(model: Qwen2VLForConditionalGeneration, tokenizer: PreTrainedTokenizerFast) -> None:
    """Train until the model gives the answer after any question."""
    question = f"<|im_start|>user\n{_question()}<|im_end|>\n<|im_start|>assistant\n"
    ids = [tokenizer.encode(text) for text in (question, f"{json.dumps(ANSWER)}<|im_end|>")]
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    for step in range(STEPS):
        asked = ids[0][step % 2 * (len(ids[0]) - 40) :]  # the whole, or its end alone
        inputs = torch.tensor([asked + ids[1]])
        labels = torch.tensor([[-100] * len(asked) + ids[1]])
        loss = model(input_ids=inputs, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if loss.item() > 0.05:
        raise RuntimeError(f"the tiny model did not learn its answer: loss {loss.item():.2f}")


def _tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of bytes with Qwen's special tokens."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=768,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    core.train_from_iterator([_question(), json.dumps(ANSWER)], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
    )


def _config(tokenizer: PreTrainedTokenizerFast) -> Qwen2VLConfig:
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    return Qwen2VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "mrope_section": [8, 12, 12],
                "rope_theta": 1e6,
            },
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
            "bos_token_id": None,
        },
        vision_config={
            "depth": 2,
            "embed_dim": 128,
            "hidden_size": 128,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
            "in_channels": 3,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )


def _image_processor() -> dict:
    side = PATCH * MERGE
    return {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2VLProcessor",
        "patch_size": PATCH,
        "merge_size": MERGE,
        "temporal_patch_size": 2,
        "min_pixels": (2 * side) ** 2,
        "max_pixels": (32 * side) ** 2,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "rescale_factor": 1 / 255,
    }


if __name__ == "__main__":
    print(make_tiny_model(Path(sys.argv[1])))
