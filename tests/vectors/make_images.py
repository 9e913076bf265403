#!/usr/bin/env python3
"""make_images.py: writes tests/vectors/families/{resnet-basic,resnet-strided,vit-wide}, tiny seeded networks of the real
transformers classes with adapters by the real PEFT: the options that the families' own checkpoints leave out (layer_type
basic, downsample_in_first_stage, downsample_in_bottleneck, images and squares that are not square, a bias or a classifier
in an adapter, tables in bfloat16). expected.safetensors: pixel_values; logits, hidden (last_hidden_state) and, of a convnet,
pooled of the base; of vit-wide also logits.bnb-nf4, of the base as bitsandbytes quantizes it; logits of each adapter merged
by PEFT and, as peft_forward, of PEFT's own unmerged forward (resnet-basic: it fails).
Needs torch 2.15, transformers 5.23, peft 0.21, bitsandbytes 0.50; not needed to run the tests."""
import json, os, shutil
import torch
from bitsandbytes.functional import dequantize_4bit
from peft import OFTConfig, get_peft_model
from safetensors.torch import save_file
from transformers import BitsAndBytesConfig, ResNetConfig, ResNetForImageClassification, ViTConfig, ViTForImageClassification

HERE = os.path.dirname(os.path.abspath(__file__))
LABELS = {"num_labels": 5}
CASES = {
    "resnet-basic": (ResNetForImageClassification, ResNetConfig(
        embedding_size=6, hidden_sizes=[6, 10], depths=[1, 2], layer_type="basic", downsample_in_first_stage=True,
        num_channels=2, hidden_act="gelu", **LABELS), (2, 2, 37, 29), torch.float32,
        {"all": dict(target_modules=["convolution", "classifier.1"], oft_block_size=6)}),
    "resnet-strided": (ResNetForImageClassification, ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], downsample_in_bottleneck=True, **LABELS), (2, 3, 30, 41),
        torch.float32, {"all": dict(target_modules=["convolution"], oft_block_size=4, use_cayley_neumann=False)}),
    "vit-wide": (ViTForImageClassification, ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40, image_size=[18, 31],
        patch_size=[6, 6], num_channels=1, qkv_bias=False, **LABELS), (3, 1, 18, 31), torch.bfloat16,
        {"all": dict(target_modules=["projection", "fc1", "q_proj"], oft_block_size=4, bias="oft_only"),
         "head": dict(target_modules=["v_proj"], oft_block_size=8, modules_to_save=["classifier"])}),
}


def fill(model):
    """Numbers that show every mechanism: batch norms that were trained, weights and biases that are not zero."""
    for name, p in list(model.named_parameters()) + list(model.named_buffers()):
        if "running_var" in name or "normalization.weight" in name:
            p.data.uniform_(0.5, 1.5)
        elif p.dtype.is_floating_point:
            p.data.add_(torch.randn_like(p) * 0.1)


def train(peft, biases):
    for name, p in peft.named_parameters():
        if "oft_R" in name:
            p.data.normal_(0, 0.08)
        elif "modules_to_save" in name or (biases and name.endswith("base_layer.bias")):
            p.data.normal_(0, 0.3)


def last_hidden(model, x):
    body = model.resnet if hasattr(model, "resnet") else model.vit
    out = body(pixel_values=x)
    return out.last_hidden_state, out.pooler_output if hasattr(model, "resnet") else None


def tidy(adapter):
    """The same bytes each time: PEFT writes a set."""
    os.path.exists(f"{adapter}/README.md") and os.unlink(f"{adapter}/README.md")
    config = json.load(open(f"{adapter}/adapter_config.json"))
    config["target_modules"].sort()
    json.dump(config, open(f"{adapter}/adapter_config.json", "w"), indent=2, sort_keys=True)


def quantized(cls, folder, dtype):
    """The network with the weights that bitsandbytes' modules hold."""
    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    packed = cls.from_pretrained(folder, dtype=dtype, quantization_config=nf4, device_map="cpu")
    model = cls.from_pretrained(folder, dtype=torch.float32).eval()
    for name, module in packed.named_modules():
        if type(module).__name__ == "Linear4bit":
            w = dequantize_4bit(module.weight.data, module.weight.quant_state)
            model.get_submodule(name).weight.data.copy_(w.float())
    return model


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    for seed, (name, (cls, config, shape, dtype, adapters)) in enumerate(CASES.items()):
        torch.manual_seed(700 + seed)
        folder = f"{HERE}/families/{name}"
        shutil.rmtree(folder, ignore_errors=True)
        model = cls(config).eval()
        fill(model)
        model = model.to(dtype).float()  # the numbers that are stored
        x = torch.randn(shape)
        model.to(dtype).save_pretrained(folder)
        model = model.float()
        out = {"pixel_values": x, "logits.base": model(pixel_values=x).logits}
        hidden, pooled = last_hidden(model, x)
        out["hidden.base"] = hidden
        if pooled is not None:
            out["pooled.base"] = pooled.flatten(1)
        if name == "vit-wide":
            out["logits.bnb-nf4"] = quantized(cls, folder, dtype)(pixel_values=x).logits
        for who, options in adapters.items():
            fresh = cls.from_pretrained(folder, dtype=torch.float32).eval()
            peft = get_peft_model(fresh, OFTConfig(**options))
            train(peft, "bias" in options)
            peft.peft_config["default"].base_model_name_or_path = "base"
            peft.eval().save_pretrained(f"{folder}/adapters/{who}")
            tidy(f"{folder}/adapters/{who}")
            try:
                out[f"peft_forward.{who}"] = peft(pixel_values=x).logits
            except RuntimeError as e:  # resnet-basic: a map smaller than the window
                print(name, "PEFT's forward fails:", e)
            out[f"logits.{who}"] = peft.merge_and_unload()(pixel_values=x).logits
        save_file({k: v.float().contiguous() for k, v in out.items()}, f"{folder}/expected.safetensors")
        print(name, {k: tuple(v.shape) for k, v in out.items()})


if __name__ == "__main__":
    main()
