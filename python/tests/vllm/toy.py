"""A tiny Llama with its tokenizer, and an adapter for it: made by transformers and safetensors, signed by the command line."""

import json
import os
import subprocess
from pathlib import Path

TEMPLATE = "{% for message in messages %}{{ message.content }} {% endfor %}"
CODE = "# Code of the model. vLLM runs it only with --trust-remote-code.\n"


def program() -> str:
    """The command line program."""
    root = Path(__file__).resolve().parents[3]
    target = Path(os.environ.get("CARGO_TARGET_DIR", root / "target"))
    return os.environ.get("TENSORSEAL_BIN", str(target / "debug" / "tensorseal"))


def cli(*arguments: object) -> str:
    """Runs the program, which has to succeed."""
    command = [program(), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def sign(folder: Path, key: Path, *more: str) -> None:
    """Signs the folder; the signature lies in it."""
    cli("sign", "key", folder, "--private-key", key, "--signature", folder / "model.sig", *more)


def key_and_policy(folder: Path) -> tuple[Path, Path]:
    """A private key, and a policy by which its public key is believed for everything in `folder`."""
    private = folder / "key.pem"
    cli("keygen", "--out", private)
    policy = folder / "policy.toml"
    policy.write_text(
        f'version = 1\n\n[signers.team]\nkey = "{private.with_suffix(".pub").name}"\n\n'
        f'[[rule]]\npath = "{folder.resolve()}/**"\nany_of = ["team"]\n'
    )
    return private, policy


def llama(folder: Path) -> None:
    """A model of 2.9 MB in four files, with a tokenizer, a chat template and a file of code."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(6)
    config = LlamaConfig(
        hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=512, max_position_embeddings=256, dtype="bfloat16", bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder, max_shard_size="1MB")
    words = {f"w{number}": number for number in range(512)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="w0", bos_token="w1", eos_token="w2")
    fast.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    (folder / "modeling_toy.py").write_text(CODE)


def adapter(folder: Path) -> None:
    """A LoRA adapter of rank 8 for the query projections of that model."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    tensors = {}
    for layer in range(2):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        tensors[f"{name}.lora_A.weight"] = torch.randn(8, 256, dtype=torch.bfloat16)
        tensors[f"{name}.lora_B.weight"] = torch.randn(256, 8, dtype=torch.bfloat16)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], "bias": "none",
        "base_model_name_or_path": "toy",
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config))
